/* Which error comes first: bad descriptors, pointers and flags. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRY(e) do { errno = 0; long r_ = (e); printf("%s = %ld %s\n", #e, r_, r_ < 0 ? strerror(errno) : ""); } while (0)

int main(void)
{
	char buf[16];
	int in = open("/dev/null", O_RDONLY), out = open("/dev/null", O_WRONLY), fds[2];
	setvbuf(stdout, NULL, _IONBF, 0);
	TRY(read(99, NULL, 10));
	TRY(read(out, buf, 1));
	TRY(write(in, buf, 1));
	TRY(write(99, NULL, 0));
	TRY(close(99));
	TRY(dup2(99, 3));
	TRY(dup2(in, -1));
	TRY(dup3(in, in, 0));
	TRY(fcntl(in, 9999, 0));
	TRY(fcntl(99, F_GETFD));
	TRY(fcntl(in, F_GETFL) & O_ACCMODE);
	TRY(lseek(in, 0, 99));
	pipe(fds);
	TRY(lseek(fds[0], 0, SEEK_SET));
	TRY(pread(fds[0], buf, 1, 0));
	TRY(pread(in, buf, 1, -1));
	TRY(pipe((int *)8));
	TRY(open((char *)8, O_RDONLY));
	TRY(open("/etc/passwd/x", O_RDONLY));
	TRY(open("/etc", O_WRONLY));
	TRY(mkdir("/", 0777));
	TRY(rmdir("/"));
	TRY(rmdir("."));
	TRY(chdir("/etc/passwd"));
	TRY(readlink("/etc/passwd", buf, 16));
	TRY(readlink("/etc", buf, 0));
	TRY(kill(999999, 0));
	TRY(kill(getpid(), 99));
	TRY(kill(getpid(), 0));
	TRY(sigaction(SIGKILL, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL));
	TRY(wait(NULL));
	TRY(waitpid(getpid(), NULL, 0));
	TRY(waitpid(-1, NULL, 0x12345));
	TRY(clock_gettime(99, (struct timespec *)buf));
	TRY(syscall(SYS_clock_gettime, 0, 8));
	TRY(syscall(SYS_nanosleep, &(struct timespec){ 0, 2000000000 }, 0));
	TRY(setpgid(999999, 0));
	TRY(getpgid(999999));
	TRY(syscall(SYS_getrlimit, 99, buf));
	TRY(syscall(SYS_futex, 1, 0, 0, 0, 0, 0));
	TRY(syscall(SYS_futex, buf, 1, 1, 0, 0, 0));
	TRY(syscall(SYS_futex, buf, 99, 1, 0, 0, 0));
	TRY(syscall(9999));
	TRY(mmap(NULL, 4096, PROT_READ, 0, -1, 0) == MAP_FAILED ? -1 : 0);
	TRY(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 99, 0) == MAP_FAILED ? -1 : 0);
	TRY(mprotect((void *)1, 1, PROT_READ));
	TRY(fchmod(99, 0));
	TRY(ftruncate(in, 0));
	TRY(truncate("/etc/passwd", -1));
	TRY(truncate("/etc", 0));
	TRY(link("/etc", "/tmp/x"));
	TRY(rename("/etc/missing", "/tmp/x"));
	TRY(getcwd(buf, 1) ? 0 : -1);
	return 0;
}
