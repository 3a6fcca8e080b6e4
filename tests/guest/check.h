/* Prints what calls return, for programs that make very many. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define BAD ((void *)1)
#define PG 4096

/* The value, and the error. */
#define T(e) ({ errno = 0; long r_ = (long)(e); int n_ = errno; printf("%s = %ld %s\n", #e, r_, r_ < 0 ? strerror(n_) : ""); r_; })
/* Success or the error. */
#define S(e) ({ errno = 0; long r_ = (long)(e); int n_ = errno; printf("%s: %s\n", #e, r_ < 0 ? strerror(n_) : "ok"); r_; })
/* Runs the statements in a child that is this user, or the caller where it is 0. */
#define AS(uid, ...) do { \
	pid_t child_ = fork(); \
	if (child_ == 0) { \
		if (uid) { \
			syscall(SYS_setgroups, 0, NULL); \
			syscall(SYS_setresgid, uid, uid, uid); \
			syscall(SYS_setresuid, uid, uid, uid); \
		} \
		__VA_ARGS__; \
		_exit(0); \
	} \
	int status_; \
	waitpid(child_, &status_, 0); \
	if (status_) printf("a child ended with %x\n", status_); \
} while (0)

/* An empty directory in one of its own, which ".." is, becomes the working directory of a child that goes on; both are
 * removed once that has ended. */
static inline void begin(void)
{
	char dir[] = "/tmp/drupe-check-XXXXXX";
	setvbuf(stdout, NULL, _IONBF, 0);
	umask(022);
	char work[sizeof dir + 2];
	if (!mkdtemp(dir) || chmod(dir, 01777))
		exit(99);
	sprintf(work, "%s/w", dir);
	if (mkdir(work, 0777) || chmod(work, 01777))
		exit(99);
	pid_t child = fork();
	if (child > 0) {
		int status;
		waitpid(child, &status, 0);
		if (status)
			printf("ended with %x\n", status);
		execlp("rm", "rm", "-rf", dir, NULL);
		_exit(98);
	}
	alarm(25);
	if (child < 0 || chdir(work))
		_exit(97);
}
