/* What the calls that take a descriptor say to each kind of descriptor. */
#include "check.h"
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/xattr.h>



static char buf[70000];
static int fd, fa, p[2], ev, ep, sk[2], d, op, mf, ro, wo, pf;
int main(void)
{
	begin(); signal(SIGPIPE, SIG_IGN); signal(SIGXFSZ, SIG_IGN);
	fd = open("f", O_CREAT | O_RDWR, 0644); fa = open("fa", O_CREAT | O_RDWR | O_APPEND, 0644);
	pipe2(p, O_NONBLOCK); ev = eventfd(0, EFD_NONBLOCK); ep = epoll_create1(0);
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sk); mkdir("d", 0755);
	d = open("d", O_RDONLY); op = open("f", O_PATH); mf = memfd_create("m", MFD_ALLOW_SEALING);
	ro = open("f", O_RDONLY); wo = open("f", O_WRONLY); pf = open("/proc/version", O_RDONLY);
	int in = inotify_init1(IN_NONBLOCK), tm = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), nul = open("/dev/null",
	O_RDWR), zero = open("/dev/zero", O_RDWR), full = open("/dev/full", O_RDWR), rnd = open("/dev/urandom", O_RDWR);
	struct { const char *n; int fd; } all[] = { { "file", fd }, { "append", fa }, { "pr", p[0] }, { "pw", p[1] },
	{ "ev", ev }, { "ep", ep }, { "sk", sk[0] }, { "dir", d }, { "path", op }, { "memfd", mf }, { "ro", ro },
	{ "wo", wo }, { "proc", pf }, { "inot", in }, { "tfd", tm }, { "null", nul }, { "zero", zero }, { "full",
		 full }, { "rnd", rnd }, { "-1", -1 }, { "999", 999 } };
	struct iovec iv[2] = { { buf, 4 }, { buf + 4, 4 } }, big = { buf, -1 }, badv = { BAD, 4 };
	for (int i = 0; i < sizeof all / sizeof *all; i++) {
		int x = all[i].fd; printf("--- %s\n", all[i].n);
		S(read(x, buf, 0)); S(read(x, NULL, 0)); S(read(x, BAD, 0)); S(read(x, BAD, 8));
		S(write(x, buf, 0)); S(write(x, BAD, 0)); S(write(x, BAD, 8));
		S(readv(x, iv, -1)); S(readv(x, iv, 1025)); S(readv(x, &badv, 1));
		S(readv(x, &big, 1)); S(writev(x, iv, -1)); S(writev(x, iv, 1025));
		 S(writev(x, &big, 1));
		S(pread(x, buf, 1, 0)); S(pread(x, buf, 1, -1)); S(pread(x, buf, 0, 0));
		S(pread(x, buf, 1, LLONG_MAX)); S(pwrite(x, buf, 1, -1)); S(preadv(x, iv, 1, 0));
		S(preadv(x, iv, 1, -2)); S(preadv2(x, iv, 1, -1, 0)); S(preadv2(x, iv, 1, 0, RWF_HIPRI));
		S(preadv2(x, iv, 1, 0, 0x1000)); S(preadv2(x, iv, 1, 0, 0x40));
		 S(pwritev2(x, iv, 1, -2, 0));
		T(lseek(x, 0, SEEK_SET)); S(lseek(x, -1, SEEK_SET)); S(lseek(x, 0, SEEK_END));
		S(lseek(x, 0, 5)); S(lseek(x, 0, -1)); lseek(x, 0, SEEK_SET);
		S(ftruncate(x, -1)); S(ftruncate(x, 0)); S(fallocate(x, 0, 0, 0));
		S(fallocate(x, 0, -1, 1)); S(fallocate(x, 0, 0, -1)); S(fallocate(x, 0, LLONG_MAX, 1));
		S(fallocate(x, 0x1000, 0, 1)); S(fallocate(x, FALLOC_FL_PUNCH_HOLE, 0, 1));
		 S(fallocate(x, FALLOC_FL_KEEP_SIZE, 0, 4096));
		S(posix_fadvise(x, 0, 0, POSIX_FADV_WILLNEED)); printf("fadvise %s\n", strerror(posix_fadvise(x, 0, 0, 99)));
		printf("fadvise %s\n", strerror(posix_fadvise(x, 0, -1, 0)));
		printf("fadvise %s\n", strerror(posix_fadvise(x, -1, 0, 0)));
		S(readahead(x, 0, 4096)); S(readahead(x, -1, 4096)); S(sync_file_range(x, 0, 0, 7));
		S(sync_file_range(x, 0, 0, 8)); S(sync_file_range(x, -1, 0, 0));
		S(sync_file_range(x, 0, -1, 0)); S(fsync(x)); S(fdatasync(x));
		 S(syncfs(x));
		int n = 0; S(ioctl(x, FIONREAD, &n)); S(ioctl(x, FIONBIO, BAD));
		S(ioctl(x, FIGETBSZ, &n)); S(ioctl(x, FS_IOC_GETFLAGS, &n));
		S(ioctl(x, 0x5401, buf)); S(ioctl(x, 0x12345678, buf)); S(ioctl(x, FS_IOC_FSGETXATTR, buf));
		S(ioctl(x, FIONREAD, BAD)); S(ioctl(x, FS_IOC_GETFLAGS, BAD));
		 S(ioctl(x, BLKGETSIZE64, buf));
		S(ioctl(x, FIOCLEX)); printf("%d\n", fcntl(x, F_GETFD)); S(ioctl(x, FIONCLEX));
		S(flock(x, LOCK_SH | LOCK_NB)); S(flock(x, LOCK_UN)); S(flock(x, 0));
		S(flock(x, LOCK_SH | LOCK_EX)); S(flock(x, LOCK_MAND)); S(flock(x, 99));
		S(fcntl(x, F_GETLEASE)); S(fcntl(x, F_GETPIPE_SZ)); S(fcntl(x, F_GETOWN));
		S(fcntl(x, F_GETSIG)); S(fcntl(x, F_SETSIG, 65)); S(fcntl(x, F_SETSIG, -1));
		S(fcntl(x, F_SETOWN, 999999)); S(fcntl(x, F_NOTIFY, 0)); S(fcntl(x, 1027, 0));
		uint64_t h = 3; S(fcntl(x, F_SET_RW_HINT, &h)); S(fcntl(x, F_GET_RW_HINT, &h));
		printf("hint %ld\n", (long)h); h = 99; S(fcntl(x, F_SET_RW_HINT, &h));
		h = 0; fcntl(x, F_SET_RW_HINT, &h); S(fcntl(x, F_GET_FILE_RW_HINT, &h));
		S(fcntl(x, 1027, x)); S(fcntl(x, 9999)); S(fcntl(x, F_SETLEASE, 77));
		struct flock l = { F_RDLCK, SEEK_SET, 0, 0 }; S(fcntl(x, F_SETLK, &l));
		l.l_type = F_WRLCK; S(fcntl(x, F_SETLK, &l)); l.l_type = F_UNLCK;
		S(fcntl(x, F_SETLK, &l)); l.l_type = 9; S(fcntl(x, F_SETLK, &l));
		S(fcntl(x, F_GETLK, &l)); l.l_type = F_RDLCK; l.l_whence = 9;
		S(fcntl(x, F_SETLK, &l)); l.l_whence = 0; l.l_start = -1; S(fcntl(x, F_SETLK, &l));
		l.l_start = 0; l.l_pid = 1; S(fcntl(x, F_OFD_SETLK, &l)); l.l_pid = 0;
		S(fcntl(x, F_OFD_GETLK, &l)); S(fcntl(x, F_SETLK, BAD)); S(fcntl(x, F_GETLK, BAD));
		l.l_start = LLONG_MAX; l.l_len = 10; l.l_type = F_RDLCK; S(fcntl(x, F_SETLK, &l));
		 l.l_start = 5; l.l_len = -10; S(fcntl(x, F_SETLK, &l));
		loff_t o = 0, neg = -1; S(splice(x, &neg, p[1], NULL, 1, 0));
		S(splice(x, NULL, p[1], &o, 1, 0)); S(splice(x, NULL, x, NULL, 1, 0));
		S(splice(x, NULL, p[1], NULL, 0, 0)); S(splice(x, NULL, p[1], NULL, 1, 0x100));
		S(tee(x, p[1], 1, 0)); S(tee(p[0], x, 1, SPLICE_F_NONBLOCK));
		S(vmsplice(x, iv, 1, SPLICE_F_NONBLOCK)); S(sendfile(sk[1], x, &neg, 1));
		S(sendfile(sk[1], x, BAD, 1)); S(copy_file_range(x, NULL, mf, NULL, 1, 0));
		S(copy_file_range(fd, NULL, x, NULL, 1, 0)); S(copy_file_range(x, NULL, fd, NULL, 1, 1));
		S(copy_file_range(x, &neg, fd, NULL, 1, 0)); S(copy_file_range(x, NULL, x, NULL, 1, 0));
		while (read(p[0], buf, 60000) > 0); while (read(sk[0], buf, 60000) > 0); while (read(sk[1], buf, 60000) > 0);
		S(fchdir(x)); if (x == d) fchdir(AT_FDCWD), chdir(".."); S(fstatfs(x, (void *)buf));
		S(fstat(x, (void *)buf)); S(fsetxattr(x, "user.a", "b", 1, 0));
		S(fgetxattr(x, "user.a", buf, 10)); S(flistxattr(x, buf, 1000) > 0 ? 1 : errno ? -1 : 0);
		S(fremovexattr(x, "user.a")); S(fremovexattr(x, "user.b")); S(fgetxattr(x, "trusted.b", buf, 4));
		S(fgetxattr(x, "security.x", buf, 4)); S(fgetxattr(x, "bogus.x", buf, 4));
		S(fsetxattr(x, "system.bogus", buf, 4, 0)); S(fsetxattr(x, "user.", buf, 4, 0));
		S(fsetxattr(x, "", buf, 4, 0)); S(fsetxattr(x, "user.a", buf, 70000, 0));
		S(fsetxattr(x, "user.a", buf, 4, 4)); S(fsetxattr(x, "user.a", BAD, 4, 0));
		 S(fsetxattr(x, "user.q", buf, 4, XATTR_REPLACE));
		S(syscall(SYS_getdents64, x, buf, 1000)); S(syscall(SYS_getdents, x, buf, 1000));
		S(syscall(SYS_getdents64, x, buf, 1)); S(syscall(SYS_getdents64, x, BAD, 1000));
		S(openat(x, "q", O_RDONLY)); S(openat(x, "", O_RDONLY)); S(mkdirat(x, "q", 0));
		S(unlinkat(x, "q", 0)); S(unlinkat(x, "q", AT_REMOVEDIR)); S(linkat(x, "", AT_FDCWD, "newl", AT_EMPTY_PATH));
		unlink("newl"); S(readlinkat(x, "", buf, 10)); S(faccessat(x, "", R_OK, AT_EMPTY_PATH));
		S(syscall(SYS_execveat, x, "", (char *[]){ NULL }, NULL, AT_EMPTY_PATH));
		S(mmap(0, 4096, PROT_WRITE, MAP_SHARED, x, 0) == MAP_FAILED ? -1 : 0);
		S(mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_HUGETLB, x, 0) == MAP_FAILED ? -1 : 0);
		struct epoll_event ee = { EPOLLIN }; S(epoll_ctl(x, EPOLL_CTL_ADD, ev, &ee));
		S(epoll_wait(x, &ee, 1, 0)); struct pollfd pl = { x, -1 & 0x7fff };
		int r = poll(&pl, 1, 0); printf("poll %d %x\n", r, pl.revents);
		S(getsockname(x, (void *)buf, (void *)&n)); S(timerfd_gettime(x, (void *)buf));
		S(timerfd_settime(x, 0, (void *)memset(buf, 0, 64), NULL)); S(inotify_rm_watch(x, 1));
		S(inotify_add_watch(x, ".", IN_CREATE)); S(signalfd(x, (void *)buf, 0));
		 uint64_t one = 1;

		ftruncate(fd, 0); pwrite(fd, "0123456789", 10, 0); lseek(fd, 0, SEEK_SET); lseek(ro, 0, 0); ftruncate(mf, 0);
		{ char t[64]; while (read(ev, t, 8) > 0); while (read(in, buf, 4096) > 0); }
	}
	return 0;
}
