/* Paths as calls that take them see them, who may do what, which times move, and what watchers are told. */
#include "check.h"
#include <linux/fs.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

static char L[300], LP[5000], b[70000];
	static void st(const char *p) { struct stat s; if (lstat(p, &s)) { printf("%s %s\n", p, strerror(errno));
	return; } printf("%s mode %o nlink %ld uid %d gid %d size %ld\n", p, s.st_mode, (long)s.st_nlink, s.st_uid,
		 s.st_gid, S_ISDIR(s.st_mode) ? 0L : (long)s.st_size); }
	static long rn2(const char *a, const char *c, unsigned f) { return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD,
		 c, f); }
static void snap(struct stat *s, const char *p) { lstat(p, s); }
	static void moved(const char *what, struct stat *o, const char *p) { struct stat n;
	lstat(p, &n); printf("%s: %s atime %d mtime %d ctime %d\n", what, p, memcmp(&o->st_atim, &n.st_atim, 16) != 0,
	memcmp(&o->st_mtim, &n.st_mtim, 16) != 0, memcmp(&o->st_ctim, &n.st_ctim, 16) != 0);
	 }
#define MV(what, p, ...) do { struct stat o_; snap(&o_, p); usleep(12000); __VA_ARGS__; moved(what, &o_, p); } while (0)
	static void ev(int fd) { char e[4096] __attribute__((aligned(8)));
	ssize_t n = read(fd, e, sizeof e); for (char *p = e; p < e + n;) { struct inotify_event *i = (void *)p;
	printf(" [%d %x %s%s]", i->wd, i->mask, i->len ? i->name : "", i->cookie ? " c" : "");
	 p += sizeof *i + i->len; } printf("\n"); }
int main(void)
{
	begin();
	char home[PATH_MAX];
	getcwd(home, sizeof home);
 umask(022); memset(L, 'a', 299); memset(LP, 'a', 4999); for (int i = 100; i < 4990; i += 100) LP[i] = '/';
	mkdir("d", 0755); mkdir("e", 0755); close(creat("f", 0644)); close(creat("g", 0644));
	close(creat("d/x", 0644)); symlink("f", "l"); symlink("loop", "loop");
	symlink("nowhere", "dang"); mkfifo("p", 0644); symlink("d", "ld");
	mkdir("ro", 0755); mkdir("st", 01777); close(creat("st/r", 0666));
	const char *ps[] = { "f", "nosuch", "", NULL, BAD, L, LP, "f/x", "loop", "dang", "l", "d", "ld/", "f/", "d/x",
		 "l/", "p", ".", "..", "/", "d/.", "d/.." };
	for (int i = 0; i < sizeof ps / 8; i++) { const char *p = ps[i];
	printf("--- %d %.10s\n", i, p == BAD ? "bad" : p ? p : "null");
	S(mkdir(p, 0755)); S(rmdir(p)); if (i != 0 && i != 10 && i != 14 && i != 16 && i != 9 && i != 8) S(unlink(p));
	S(link(p, "new")); unlink("new"); S(link("g", p)); if (i == 1) unlink(p);
	S(symlink("t", p)); if (i == 1) unlink(p); S(symlink(p, "sl"));
	unlink("sl"); if (p && i != 0 && i != 10 && i != 11 && i != 14 && i != 16 && i != 8 && i != 9) S(rename(p,
	"new2")); S(rename("g", p) || (p && rename(p, "g")) ? -1 : 0);
	if (i == 0) { close(creat("f", 0644)); } S(mknod(p, S_IFREG | 0644, 0));
	if (i == 1) unlink(p); S(mknod(p, S_IFIFO, 0)); if (i == 1) unlink(p);
	S(mknod(p, S_IFDIR, 0)); S(mknod(p, 0170000, 0)); if (strcmp(p, "/")) S(chmod(p, 0755));
	S(chown(p, -1, -1)); S(lchown(p, -1, -1)); S(truncate(p, 0));
	S(truncate(p, -1)); S(access(p, F_OK)); S(access(p, 7)); S(access(p, 8));
	S(readlink(p, b, 100)); S(readlink(p, b, 0)); S(readlink(p, BAD, 10));
	S(readlink(p, b, -1)); S(syscall(SYS_stat, p, BAD)); S(syscall(SYS_lstat, p, b));
	S(syscall(SYS_statx, AT_FDCWD, p, 0, 0xfff, b)); S(syscall(SYS_statx, AT_FDCWD, p, 0x6000, 0xfff, b));
	S(syscall(SYS_statx, AT_FDCWD, p, AT_EMPTY_PATH, 0x80000000, b));
	S(syscall(SYS_statx, AT_FDCWD, p, 0, 0, BAD)); S(statfs(p, (void *)b));
	S(syscall(SYS_statfs, p, BAD)); S(chdir(p)); chdir(home); S(syscall(SYS_utime, p, BAD));
	S(utimensat(AT_FDCWD, p, (struct timespec[2]){ { 0, 1000000000 }, { 0, 0 } }, 0));
	S(utimensat(AT_FDCWD, p, NULL, 1)); S(utimensat(AT_FDCWD, p, (struct timespec[2]){ { 0, UTIME_OMIT }, { 0,
	UTIME_OMIT } }, 0)); S(utimes(p, (struct timeval[2]){ { 0, 1000000 }, { 0, 0 } }));
	S(getxattr(p, "user.a", b, 10)); S(setxattr(p, "user.a", "b", 1, 0));
	S(lsetxattr(p, "user.a", "b", 1, 0)); S(removexattr(p, "user.a"));
	S(listxattr(p, b, 0) < 0 ? -1 : 0); S(inotify_add_watch(inotify_init1(IN_NONBLOCK), p, IN_CREATE));
	S(inotify_add_watch(inotify_init1(IN_NONBLOCK), p, IN_CREATE | IN_ONLYDIR));
	S(syscall(SYS_faccessat2, AT_FDCWD, p, R_OK, AT_EACCESS)); S(syscall(SYS_faccessat2, AT_FDCWD, p, R_OK, 0x1000 | 1));
	S(syscall(SYS_faccessat2, AT_FDCWD, p, R_OK, AT_SYMLINK_NOFOLLOW));
	S(syscall(452, AT_FDCWD, p, 0755, AT_SYMLINK_NOFOLLOW)); S(syscall(452, AT_FDCWD, p, 0755, 1));
	S(fchownat(AT_FDCWD, p, -1, -1, AT_SYMLINK_NOFOLLOW)); S(fchownat(AT_FDCWD, p, -1, -1, 1));
	S(unlinkat(AT_FDCWD, p, 1)); S(linkat(AT_FDCWD, p, AT_FDCWD, "new", AT_SYMLINK_FOLLOW));
	unlink("new"); S(linkat(AT_FDCWD, p, AT_FDCWD, "new", 1)); S(rn2(p, "d", RENAME_NOREPLACE));
	S(rn2(p, "nosuch2", RENAME_EXCHANGE)); S(rn2(p, "x", 8)); S(rn2(p, "x", RENAME_NOREPLACE | RENAME_EXCHANGE));
	mkdir("d", 0755); if (access("f", F_OK)) close(creat("f", 0644));
	if (access("g", F_OK)) close(creat("g", 0644)); if (access("d/x", F_OK)) close(creat("d/x", 0644));
	 }
	S(rename("d", "d/sub")); S(rename("d", "e")); rename("e", "d");
	mkdir("e", 0755); mkdir("e/q", 0755); S(rename("d", "e")); S(rename("f", "e"));
	S(rename("d", "f")); S(rename("f", "f")); S(rn2("f", "d", RENAME_EXCHANGE));
	S(rn2("f", "d", RENAME_EXCHANGE)); S(rn2("d", "d/x", RENAME_EXCHANGE));
	S(rn2("f", "wo", RENAME_WHITEOUT)); st("f"); st("wo"); unlink("f");
	rename("wo", "f"); S(rmdir("e")); S(rmdir("e/q/.")); S(rmdir("e/q/.."));
	 link("f", "h"); S(rename("f", "h")); st("h"); unlink("h");
	AS(65534, S(mkdir("ro/x", 0755)); S(unlink("d/x")); S(rmdir("ro")); S(rename("d/x", "x")); S(link("f", "hl")); S(unlink("st/r")); S(rename("st/r",
	"st/q")); S(chmod("f", 0)); S(chown("f", -1, -1)); S(chown("f", 65534, -1)); S(utime("f", NULL)); S(truncate("f",
	0)); S(symlink("x", "ro/s")); S(mknod("ro/p", S_IFIFO, 0)); S(setxattr("f", "user.a", "b", 1, 0)); S(setxattr("f",
	"trusted.a", "b", 1, 0)); S(setxattr("f", "security.a", "b", 1, 0)); S(getxattr("f", "trusted.a", b, 10)); S(access("f",
	W_OK)); S(access("/root", X_OK)); S(chdir("/root")); S(open("/root/x", O_RDONLY)); S(stat("/root/x", (void *)b)); close(creat("mine",
	0644)); S(chown("mine", 0, -1)); S(chown("mine", -1, 0)); S(chmod("mine", 06755)); st("mine"); S(chown("mine",
	65534, 65534)); st("mine"); chmod("mine", 06755); int fd = open("mine", O_RDWR); write(fd, "x", 1); st("mine"); chmod("mine",
	06755); ftruncate(fd, 0); st("mine"); chmod("mine", 06755); fallocate(fd, 0, 0, 10); st("mine"); chmod("mine",
	02644); write(fd, "x", 1); st("mine"); chmod("mine", 0); S(open("mine", O_RDONLY)); S(chmod("mine", 0644)); unlink("mine"));
	/* setgid directories */ mkdir("sg", 0777); chown("sg", 0, 7);
	chmod("sg", 02777); mkdir("sg/d", 0755); close(creat("sg/f", 0644));
	symlink("x", "sg/l"); mkfifo("sg/p", 0644); st("sg/d"); st("sg/f");
	st("sg/l"); st("sg/p"); AS(65534, umask(0); close(creat("sg/n", 02755)); st("sg/n"); mkdir("sg/nd", 02755); st("sg/nd"); close(creat("sg/n2",
	06711)); st("sg/n2"); mknod("sg/n3", S_IFREG | 02755, 0); st("sg/n3"); close(open("sg", O_TMPFILE | O_RDWR,
		 02755)));
	chmod("f", 06755); chown("f", 1, 1); st("f"); chmod("f", 06744);
	chown("f", 0, 0); st("f"); chmod("f", 0100); AS(65534, S(access("f", X_OK)));
	S(access("f", X_OK)); chmod("f", 0); S(access("f", R_OK)); S(access("f", X_OK));
	 chmod("f", 0644); S(chmod("f", 0177777)); st("f");
	/* times */ sleep(0); MV("create", ".", close(creat("tm", 0644)));
	MV("write", "tm", { int fd = open("tm", O_WRONLY); write(fd, "abc", 3); close(fd); });
	MV("write0", "tm", { int fd = open("tm", O_WRONLY); write(fd, "", 0); close(fd); });
	MV("trunc same", "tm", truncate("tm", 3)); MV("ftrunc same", "tm", { int fd = open("tm", O_WRONLY); ftruncate(fd,
	3); close(fd); }); MV("trunc", "tm", truncate("tm", 9)); MV("otrunc", "tm", close(open("tm", O_WRONLY | O_TRUNC)));
	MV("otrunc0", "tm", close(open("tm", O_WRONLY | O_TRUNC))); MV("chmod", "tm", chmod("tm", 0600));
	MV("chown", "tm", chown("tm", -1, -1)); MV("link", "tm", link("tm", "tm2"));
	MV("link dir", ".", link("tm", "tm3")); MV("unlink", "tm", unlink("tm2"));
	MV("unlink dir", ".", unlink("tm3")); MV("rename", "tm", rename("tm", "tmx"); rename("tmx", "tm"));
	MV("rename dir", ".", rename("tm", "tmx"); rename("tmx", "tm"));
	MV("mkdir", ".", mkdir("td", 0755)); MV("rmdir", ".", rmdir("td"));
	MV("setxattr", "tm", setxattr("tm", "user.z", "1", 1, 0)); MV("removexattr", "tm", removexattr("tm", "user.z"));
	MV("getxattr", "tm", getxattr("tm", "user.z", b, 1)); MV("utime", "tm", utimensat(AT_FDCWD, "tm", (struct timespec[2]){ { 5,
	0 }, { 0, UTIME_OMIT } }, 0)); MV("fallocate", "tm", { int fd = open("tm", O_WRONLY); fallocate(fd, 0, 0,
	10); close(fd); }); MV("fallocate keep", "tm", { int fd = open("tm", O_WRONLY); fallocate(fd, 1, 0, 100); close(fd); });
	MV("punch", "tm", { int fd = open("tm", O_WRONLY); fallocate(fd, 3, 0, 4); close(fd); });
	MV("exch", "tm", rn2("tm", "f", RENAME_EXCHANGE); rn2("tm", "f", RENAME_EXCHANGE));
	MV("symlink", ".", symlink("q", "sy")); MV("sendfile", "tm", { int a = open("f", O_RDWR), q = open("tm", O_RDWR); write(a,
	"hello", 5); lseek(a, 0, 0); sendfile(q, a, NULL, 5); close(a); close(q); });
	MV("cfr", "tm", { int a = open("f", O_RDWR), q = open("tm", O_RDWR); copy_file_range(a, NULL, q, NULL, 5,
		 0); close(a); close(q); });
	/* inotify */ int in = inotify_init1(IN_NONBLOCK); mkdir("w", 0755);
	close(creat("w/a", 0644)); T(inotify_add_watch(in, "w", IN_ALL_EVENTS));
	 T(inotify_add_watch(in, "w/a", IN_ALL_EVENTS));
 #define EV(...) do { __VA_ARGS__; printf("%.60s:", #__VA_ARGS__); ev(in); } while (0)
	EV(close(open("w/a", O_RDONLY))); EV({ int fd = open("w/a", O_RDWR); write(fd, "abc", 3); lseek(fd, 0, 0); read(fd,
	b, 3); read(fd, b, 3); close(fd); }); EV(chmod("w/a", 0600));
	EV(truncate("w/a", 1)); EV({ int fd = open("w/a", O_RDWR); ftruncate(fd, 0); fallocate(fd, 0, 0, 10); pwrite(fd,
	"a", 1, 0); close(fd); }); EV(close(open("w/a", O_RDWR | O_TRUNC)));
	EV(link("w/a", "w/b")); EV(link("w/a", "c1")); EV(rename("w/b", "w/c"));
	EV(rename("w/c", "out")); EV(rename("out", "w/c")); EV(rename("w/c", "w/a"));
	EV(unlink("w/c")); EV(mkdir("w/dd", 0755)); EV(close(open("w/dd", O_RDONLY)));
	EV(rename("w/dd", "w/de")); EV(rmdir("w/de")); EV(symlink("a", "w/s"));
	EV(readlink("w/s", b, 9)); EV(mkfifo("w/p", 0644)); EV(utimensat(AT_FDCWD, "w/a", NULL, 0));
	EV(chown("w/a", -1, -1)); EV(setxattr("w/a", "user.x", "y", 1, 0));
	EV(removexattr("w/a", "user.x")); EV(rn2("w/a", "w/s", RENAME_EXCHANGE));
	EV(rn2("w/a", "w/s", RENAME_EXCHANGE)); EV({ int a = open("w/a", O_RDWR), q = open("f", O_RDWR); sendfile(a,
	q, NULL, 2); close(a); close(q); }); EV(execl("w/a", "x", NULL));
	EV(T(statfs("w", (void *)b))); EV(unlink("w/a")); EV(unlink("c1"));
	EV({ unlink("w/s"); unlink("w/p"); rmdir("w"); }); S(inotify_rm_watch(in, 1));
	S(inotify_rm_watch(in, 99)); S(inotify_init1(0x7)); S(inotify_add_watch(in, ".", 0));
	S(inotify_add_watch(in, ".", IN_MASK_ADD | IN_MASK_CREATE | IN_OPEN));
	T(inotify_add_watch(in, ".", IN_MASK_CREATE | IN_OPEN)); S(inotify_add_watch(in, ".", IN_MASK_CREATE | IN_OPEN));
	int q; ioctl(in, FIONREAD, &q); printf("%d\n", q); S(read(in, b, 1));
	/* statx masks, access */ unsigned mk[] = { 0, 1, 0x7ff, 0xfff, 0x1000, 0x2000, 0x4000, 0x8000, 0x20000 };
	for (int i = 0; i < 9; i++) { unsigned *x = (void *)b; memset(b, 0, 256);
	int r = syscall(SYS_statx, AT_FDCWD, "f", 0, mk[i], b); printf("statx %x: %d mask %x attr mask %lx attr %lx\n",
	mk[i], r, x[0] & ~0x3000, *(long *)(b + 0x38) & 0, *(long *)(b + 8));
	 }
	S(syscall(SYS_getcwd, b, 1)); S(syscall(SYS_getcwd, BAD, 100));
	S(syscall(SYS_getcwd, b, 0)); mkdir("gone", 0755); AS(0, chdir("gone"); rmdir("../gone"); S(syscall(SYS_getcwd,
	b, 100)); S(open("x", O_CREAT | O_RDWR, 0600)); S(open(".", O_RDONLY)); S(mkdir("x", 0755)); S(chdir("..")); );
	S(chroot("f")); S(chroot("nosuch")); S(chroot(NULL)); AS(0, S(chroot("d")); S(open("/x", O_RDONLY)); S(chdir("/")); S(open("../../f",
	O_RDONLY))); S(umask(0777)); S(umask(022)); for (int i = 0; i < 260; i++) L[i] = 'b';
	L[255] = 0; S(mkdir(L, 0755)); S(rmdir(L)); L[255] = 'b'; L[256] = 0;
	S(mkdir(L, 0755)); S(symlink(LP, "longl")); LP[4095] = 0; S(symlink(LP, "longl"));
	T(readlink("longl", b, 5000)); S(open("longl", O_RDONLY)); LP[4094] = 0;

	return 0;
}
