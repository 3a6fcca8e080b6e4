/* What flags of preadv2(2) and pwritev2(2) each kind of file takes. */
#include "check.h"
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>

static char b[100];

static void all(const char *name, int f)
{
	struct iovec v = { b, 8 };
	memset(b, 0, 8);
	b[0] = 1;
	for (long pos = -1; pos < 1; pos++)
		/* The flag behind these is younger than some hosts. */
		for (int i = 0; i < 8; i++) {
			errno = 0;
			long w = syscall(SYS_pwritev2, f, &v, 1, pos, pos, 1 << i);
			int we = errno;
			errno = 0;
			long r = syscall(SYS_preadv2, f, &v, 1, pos, pos, 1 << i);
			printf("%s at %ld, %x: write %ld %s read %ld %s\n", name, pos, 1 << i, w, w < 0 ? strerror(we) : "", r, r < 0 ? strerror(errno) : "");
		}
	close(f);
}

int main(void)
{
	begin();
	unshare(CLONE_NEWNS); mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
	mkdir("m", 0755); mount("t", "m", "tmpfs", 0, 0);
	all("tmpfs", open("m/f", O_CREAT | O_RDWR, 0600));
	all("appending", open("m/f", O_APPEND | O_RDWR));
	int f = open("m/g", O_CREAT | O_RDWR, 0600), p[2], s[2];
	ftruncate(f, 100000);
	all("hole", f);
	pipe2(p, O_NONBLOCK); all("pipe's end", p[1]); all("pipe's start", p[0]);
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s); all("socket", s[0]);
	all("directory", open("m", O_RDONLY)); all("null", open("/dev/null", O_RDWR)); all("zero", open("/dev/zero", O_RDWR));
	all("memfd", syscall(SYS_memfd_create, "x", 0)); all("eventfd", eventfd(0, EFD_NONBLOCK));
	return 0;
}
