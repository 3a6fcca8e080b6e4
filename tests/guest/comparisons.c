/* Corners of calls on kinds of files, memory and credentials that lie apart from what programs usually ask for: which
 * error comes first, and what is let pass. */
#include "check.h"
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

static void lock_at_end(const char *what, int fd)
{
	struct flock l = { .l_type = F_UNLCK, .l_whence = SEEK_END, .l_start = 100, .l_len = 10 };
	printf("%s: ", what);
	S(fcntl(fd, F_SETLK, &l));
	l.l_start = -10;
	S(fcntl(fd, F_SETLK, &l));
}

static void files(void)
{
	int pair[2], fd = open("f", O_RDWR | O_CREAT, 0644), append = open("f", O_RDWR | O_APPEND);
	int event = eventfd(0, EFD_NONBLOCK), pidfd = syscall(434, getpid(), 0);
	char b[16];
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	ftruncate(fd, 100);
	lock_at_end("socket", pair[0]);
	lock_at_end("eventfd", event);
	lock_at_end("pidfd", pidfd);
	lock_at_end("file", fd);
	struct stat st;
	fstat(pidfd, &st);
	printf("pidfd %o\n", st.st_mode);
	S(pread(pidfd, b, 8, 0));
	S(pwrite(pidfd, b, 8, 0));
	S(lseek(pidfd, 0, SEEK_CUR));
	S(ftruncate(pidfd, 0));
	S(fallocate(pidfd, 0, 0, 10));
	S(fallocate(fd, 0x80 | 1, 0, 10));
	S(fallocate(event, 0x80, 0, 10));
	S(sendfile(append, fd, NULL, 0));
	S(sendfile(fd, pair[0], NULL, 0));
	S(sendfile(fd, append, NULL, 0));
	S(ioctl(fd, FICLONE, event));
	S(ioctl(event, FICLONE, fd));
	S(ioctl(fd, FICLONE, -1));
	printf("%d ", mmap(0, PG, PROT_EXEC | PROT_READ, MAP_PRIVATE, pair[0], 0) == MAP_FAILED ? errno : 0);
	printf("%d ", mmap(0, PG, PROT_EXEC | PROT_READ, MAP_PRIVATE, event, 0) == MAP_FAILED ? errno : 0);
	printf("%d\n", mmap(0, PG, PROT_READ, MAP_PRIVATE, pair[0], 0) == MAP_FAILED ? errno : 0);
	S(rename("none/x", BAD));
	S(rename("f", BAD));
	S(rename("none/x", ""));
	S(syscall(SYS_renameat2, -1, "x", AT_FDCWD, BAD, 0));
	S(syscall(SYS_renameat2, AT_FDCWD, "none/x", -1, "y", 0));
}

static void memory(void)
{
	uint32_t *own = mmap(0, PG, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t *shared = mmap(0, PG, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t *none = mmap(0, PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t *word = mmap(0, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t *at[] = { own, shared, none, word };
	struct timespec now = { 0, 0 };
	for (int i = 0; i < 4; i++) {
		printf("%d\n", i);
		S(syscall(SYS_futex, at[i], FUTEX_WAIT, 1, &now, NULL, 0));
		S(syscall(SYS_futex, at[i], FUTEX_WAKE, 1, NULL, NULL, 0));
		S(syscall(SYS_futex, at[i], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
		S(syscall(SYS_futex, at[i], FUTEX_REQUEUE, 1, 1, word + 1, 0));
		S(syscall(SYS_futex, word + 1, FUTEX_REQUEUE, 1, 1, at[i], 0));
		S(syscall(SYS_futex, word + 1, FUTEX_CMP_REQUEUE_PRIVATE, 1, 1, at[i], 0));
	}
	S(syscall(SYS_futex, word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 1, NULL, none, 0));
	S(syscall(SYS_futex, word, FUTEX_WAIT_REQUEUE_PI, 1, NULL, own, 0));
	AS(0, { S(mlockall(MCL_CURRENT)); S(munlockall()); });
	printf("%d\n", mmap((void *)0x10001000, PG, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED, -1, 0) == MAP_FAILED ? errno : 0);
}

struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static void rights(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 1 << 30 };
	S(syscall(SYS_capget, &h, NULL));
	h.pid = -1;
	S(syscall(SYS_capget, &h, NULL));
	AS(0, {
		setfsgid(1001);
		S(syscall(SYS_setresgid, -1, -1, -1));
		printf("%d\n", setfsgid(-1));
		S(syscall(SYS_setresgid, -1, 0, -1));
		printf("%d\n", setfsgid(-1));
		setfsuid(1001);
		S(syscall(SYS_setresuid, 0, -1, -1));
		printf("%d\n", setfsuid(-1));
	});
	AS(65534, {
		S(prctl(PR_SET_SECUREBITS, 0));
		S(prctl(PR_SET_SECUREBITS, 0x100));
		S(prctl(PR_SET_SECUREBITS, 0xd00));
		S(prctl(PR_SET_SECUREBITS, 0x100));
		S(prctl(PR_SET_SECUREBITS, 0xd01));
		printf("%x\n", prctl(PR_GET_SECUREBITS));
	});
	S(prctl(PR_GET_SPECULATION_CTRL, 99, 1, 0, 0));
	S(prctl(PR_GET_SPECULATION_CTRL, 99, 0, 0, 0));
	S(prctl(PR_SET_SPECULATION_CTRL, 99, 1, 1, 0));
	int priorities[] = { 0x4008, 0x5ff8, 0x0001, 0x0008, 0x6007, 0x8000, 0x2018 };
	AS(0, {
		for (int i = 0; i < 7; i++) {
			S(syscall(SYS_ioprio_set, 1, 0, priorities[i]));
			printf("%lx\n", syscall(SYS_ioprio_get, 1, 0));
		}
	});
	struct attributes a = { 48, SCHED_BATCH, 0x10, 5 };
	AS(0, {
		S(syscall(SYS_sched_setattr, 0, &a, 0));
		T(sched_getscheduler(0));
		a.priority = 1;
		S(syscall(SYS_sched_setattr, 0, &a, 0));
		a.flags = 1ul << 40;
		S(syscall(SYS_sched_setattr, 1 << 29, &a, 0));
	});
	static struct { struct attributes a; char more[64]; } large = { { 4096 }, { [20] = 1 } };
	AS(0, {
		char *end = mmap(0, 2 * PG, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		munmap(end + PG, PG);
		memcpy(end + PG - sizeof large, &large, sizeof large);
		S(syscall(SYS_sched_setattr, 0, end + PG - sizeof large, 0));
		printf("%u\n", *(uint32_t *)(end + PG - sizeof large));
	});
}

int main(void)
{
	begin();
	files();
	memory();
	rights();
	return 0;
}
