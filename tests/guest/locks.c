/* Advisory locks: POSIX locks between processes, their loss at close, flock. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static int lock(int fd, int cmd, int type, long start, long len)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };
	return fcntl(fd, cmd, &l);
}

static void in_child(const char *what, int fd, int type, long start, long len)
{
	fflush(stdout);
	if (fork() == 0) {
		int r = lock(fd, F_SETLK, type, start, len);
		printf("%s: %s\n", what, r == 0 ? "granted" : strerror(errno));
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
}

int main(void)
{
	char name[] = "/tmp/drupe-locks-XXXXXX";
	int fd = mkstemp(name);
	setvbuf(stdout, NULL, _IONBF, 0);
	printf("write lock: %d\n", lock(fd, F_SETLK, F_WRLCK, 0, 100));
	in_child("overlapping", fd, F_WRLCK, 50, 10);
	in_child("beside", fd, F_WRLCK, 100, 10);
	in_child("read under write", fd, F_RDLCK, 99, 1);
	lock(fd, F_SETLK, F_UNLCK, 40, 20);
	in_child("in the hole", fd, F_WRLCK, 40, 20);
	in_child("around the hole", fd, F_WRLCK, 39, 22);
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	if (fork() == 0) {
		fcntl(fd, F_GETLK, &l);
		printf("getlk: type %d start %ld len %ld mine %d\n", l.l_type, (long)l.l_start, (long)l.l_len, l.l_pid == getppid());
		_exit(0);
	}
	wait(NULL);
	int other = open(name, O_RDWR);
	close(other);
	in_child("after close of another descriptor", fd, F_WRLCK, 0, 100);

	lock(fd, F_SETLK, F_WRLCK, 0, 0);
	int fds[2];
	char c;
	pipe(fds);
	if (fork() == 0) {
		write(fds[1], "r", 1);
		int r = lock(fd, F_SETLKW, F_WRLCK, 0, 0);
		printf("waited: %d\n", r);
		_exit(0);
	}
	read(fds[0], &c, 1);
	usleep(20000);
	lock(fd, F_SETLK, F_UNLCK, 0, 0);
	wait(NULL);

	int a = open(name, O_RDWR), b = open(name, O_RDWR);
	printf("flock a %d\n", flock(a, LOCK_EX));
	int r = flock(b, LOCK_EX | LOCK_NB);
	printf("b %d %s\n", r, strerror(errno));
	printf("shared a %d\n", flock(a, LOCK_SH));
	printf("shared b %d\n", flock(b, LOCK_SH));
	close(a);
	printf("b alone %d\n", flock(b, LOCK_EX | LOCK_NB));
	unlink(name);
	return 0;
}
