/* What is told of files that are read by vectors, opened to be run, or given one time; pipes and their directory; names of
 * extended attributes; who may give a file away. */
#include "check.h"
#include <sched.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/xattr.h>

static int queue;

static void told(const char *what)
{
	char b[4096];
	long n = read(queue, b, sizeof b);
	printf("%s:", what);
	for (char *p = b; p < b + n;) {
		struct inotify_event *e = (void *)p;
		printf(" %d %x %s;", e->wd, e->mask, e->len ? e->name : "");
		p += sizeof *e + e->len;
	}
	puts("");
}

static void list(const char *path)
{
	char b[1000];
	long n = llistxattr(path, b, sizeof b);
	for (char *p = b; p < b + n; p += strlen(p) + 1)
		printf(" %s", p);
	puts("");
}

int main(void)
{
	begin();
	unshare(CLONE_NEWNS), mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
	if (mount("none", ".", "tmpfs", 0, "mode=755") || chdir("../w"))
		return 1;
	queue = inotify_init1(IN_NONBLOCK);
	mkfifo("p", 0600), close(creat("f", 0644)), close(creat("run", 0755)), mkdir("d", 0755);
	inotify_add_watch(queue, ".", IN_ALL_EVENTS), inotify_add_watch(queue, "p", IN_ALL_EVENTS), inotify_add_watch(queue, "f", IN_ALL_EVENTS);
	char b[8];
	struct iovec v = {b, 1};
	int p = open("p", O_RDWR | O_NONBLOCK), f = open("f", O_RDWR);
	told("open"), write(p, "xy", 2), told("write"), read(p, b, 1), told("read"), readv(p, &v, 1), told("readv"), fchmod(p, 0644), told("fchmod");
	readv(f, &v, 1), told("at the end"), read(f, b, 1), told("read at the end"), v.iov_len = 0, readv(f, &v, 1), told("no bytes"), writev(f, &v, 1), told("written");
	preadv(f, &v, 0, 0), told("no vectors");
	struct timespec t[2] = {{5, UTIME_NOW}, {5, UTIME_OMIT}};
	utimensat(AT_FDCWD, "p", t, 0), told("access time"), utimensat(AT_FDCWD, "d", t, 0), told("of a directory");
	t[0].tv_nsec = UTIME_OMIT, t[1].tv_nsec = 0, utimensat(AT_FDCWD, "f", t, 0), told("modification time");
	t[0].tv_nsec = 5, utimensat(AT_FDCWD, "f", t, 0), told("both");
	execve("run", 0, 0), told("run");
	int d = open("d", O_DIRECTORY);
	told("open"), S(syscall(SYS_getdents64, d, b, 8)), told("no room"), S(syscall(SYS_getdents64, d, BAD, 800)), told("bad");
	/* What is mounted on a name comes last. */
	mkdir("m", 0755), mount("none", "m", "tmpfs", 0, 0);
	S(rename("m", "f")), S(rename("m", "d")), S(rename("m", "new")), S(rename("d", "m")), S(rename("f", "m")), S(rmdir("m")), S(unlink("m"));
	/* Attributes. */
	const char *names[] = {"user.c", "user.a", "user.Z", "trusted.b", "security.x", "security.aa"};
	for (int i = 0; i < 6; i++)
		S(setxattr("run", names[i], "v", 1, 0));
	list("run"), S(removexattr("run", "user.a")), S(setxattr("run", "user.a", "", 0, 0)), list("run");
	chmod("run", 0700);
	AS(1000, S(setxattr("run", "other.x", "v", 1, 0)); S(setxattr("run", "", "v", 1, 0)); S(getxattr("run", "other.x", b, 1)); S(removexattr("run", "nothing")); S(getxattr("run", "system.x", b, 1)));
	S(setxattr("run", "other.x", "v", 1, 0)), S(getxattr("run", "other.x", b, 1));
	S(setxattr("run", "security.capability", "", 0, 0)), S(getxattr("run", "security.capability", b, 8)), chown("run", 5, 5), list("run");
	AS(1000, S(setxattr("f", "security.capability", "", 0, XATTR_REPLACE)); S(setxattr("f", "security.capability", "", 0, 0)));
	list("f");
	chmod("run", 06755);
	AS(1000, S(chown("run", -1, -1)); S(chown("f", -1, -1)));
	AS(5, S(chown("run", -1, -1)));
	/* Anybody may leave a whiteout; modes of symbolic links are refused to all alike. */
	mkdir("open", 0777), chmod("open", 0777), symlink("f", "link");
	AS(1000, close(creat("open/a", 0644)); S(syscall(SYS_renameat2, AT_FDCWD, "open/a", AT_FDCWD, "open/b", 4)); S(syscall(SYS_renameat2, AT_FDCWD, "open/none", AT_FDCWD, "open/c", 4)); S(syscall(452, AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW)));
	struct stat s;
	stat("open/a", &s), printf("%o %lx\n", s.st_mode, (long)s.st_rdev);
	stat("run", &s), printf("%o\n", s.st_mode);
	return 0;
}
