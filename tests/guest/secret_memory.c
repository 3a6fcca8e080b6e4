/* Memory that only its program reads (memfd_secret(2)). */
#include "check.h"
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define SECRET 447

int main(void)
{
	begin();
	char b[100], link[100];
	struct stat st;
	S(syscall(SECRET, 1));
	int fd = syscall(SECRET, 0), other = syscall(SECRET, O_CLOEXEC);
	printf("%d %d\n", fcntl(fd, F_GETFD), fcntl(other, F_GETFD));
	fstat(fd, &st);
	printf("%o %ld %x\n", st.st_mode, (long)st.st_size, fcntl(fd, F_GETFL));
	sprintf(link, "/proc/self/fd/%d", fd);
	b[readlink(link, b, sizeof b)] = 0;
	puts(b);
	S(read(fd, b, 1));
	S(pread(fd, b, 1, 0));
	S(write(fd, "x", 1));
	S(pwrite(fd, "x", 1, 0));
	S(lseek(fd, 0, SEEK_END));
	S(fallocate(fd, 0, 0, PG));
	S(fcntl(fd, F_GET_SEALS));
	S(fcntl(fd, F_ADD_SEALS, 1));
	S(ftruncate(fd, 2 * PG));
	S(ftruncate(fd, 2 * PG));
	S(ftruncate(fd, 0));
	printf("private %d\n", mmap(0, PG, 3, MAP_PRIVATE, fd, 0) == MAP_FAILED ? errno : 0);
	char *p = mmap(0, 2 * PG, 3, MAP_SHARED, fd, 0), *again = mmap(0, PG, 1, MAP_SHARED, fd, 0);
	strcpy(p, "secret");
	printf("%s\n", again);
	struct iovec mine = { b, 6 }, its = { p, 6 };
	S(process_vm_readv(getpid(), &mine, 1, &its, 1, 0));
	S(process_vm_writev(getpid(), &mine, 1, &its, 1, 0));
	int mem = open("/proc/self/mem", O_RDWR);
	S(pread(mem, b, 6, (off_t)p));
	S(pwrite(mem, b, 6, (off_t)p));
	/* The program itself may write it where it likes. */
	int pipe_[2];
	pipe(pipe_);
	T(write(pipe_[1], p, 6));
	S(mprotect(p, PG, PROT_READ | PROT_EXEC));
	S(mprotect(p, PG, PROT_READ));
	S(madvise(p, PG, MADV_DONTNEED));
	pid_t child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		printf("child %s\n", p);
		_exit(0);
	}
	int status;
	waitpid(child, &status, 0);
	S(ptrace(PTRACE_PEEKDATA, child, p, 0));
	S(ptrace(PTRACE_POKEDATA, child, p, 0));
	ptrace(PTRACE_CONT, child, 0, 0);
	waitpid(child, &status, 0);
	/* It counts as locked. */
	struct rlimit limit = { PG, PG };
	AS(65534, {
		setrlimit(RLIMIT_MEMLOCK, &limit);
		printf("beyond the limit %d\n", mmap(0, PG, 3, MAP_SHARED, fd, 0) == MAP_FAILED ? errno : 0);
	});
	return 0;
}
