/* Mounts that are made in steps. */
#include "check.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#define ATTR_NOSUID 2
#define ATTR_NODEV 4

static char b[4096];
	static long setattr(int d, const char *p, unsigned fl, uint64_t s, uint64_t c, uint64_t pr, size_t sz) { uint64_t a[4] = { s,
		 c, pr, 0 }; return syscall(442, d, p, fl, a, sz); }
	static void flags(const char *p) { struct statvfs s; int r = statvfs(p, &s);
	 printf("%s flags %lx\n", p, r ? -1 : (s.f_flag & ~0x20)); }
int main(void) {
 begin();
	unshare(CLONE_NEWNS); mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
	char *cwd = getcwd(0, 0); mkdir("m", 0755); mkdir("m2", 0755);
	close(open("file", O_CREAT | O_RDWR, 0644)); symlink("m", "ml");
 int reg = open("file", O_RDONLY);
	S(syscall(430, "tmpfs", 2)); S(syscall(430, "nosuch", 0)); S(syscall(430, NULL, 0));
	S(syscall(430, BAD, 0)); S(syscall(430, "", 0)); int fs = S(syscall(430, "tmpfs", 1));
	printf("cloexec %d\n", fcntl(fs, F_GETFD)); S(read(fs, b, 100));
	S(write(fs, b, 1)); S(fcntl(fs, F_GETFL) & 3);
	S(syscall(431, -1, 0, "ro", NULL, 0)); S(syscall(431, 999, 0, "ro", NULL, 0));
	S(syscall(431, reg, 0, "ro", NULL, 0)); S(syscall(431, fs, 99, "ro", NULL, 0));
	S(syscall(431, fs, 0, NULL, NULL, 0)); S(syscall(431, fs, 0, "ro", "x", 0));
	S(syscall(431, fs, 0, "ro", NULL, 1)); S(syscall(431, fs, 0, "nosuch", NULL, 0));
	S(syscall(431, fs, 1, "nosuch", "a", 0)); S(syscall(431, fs, 1, "size", NULL, 0));
	S(syscall(431, fs, 1, "size", "1M", 1)); S(syscall(431, fs, 1, "size", "1M", 0));
	S(syscall(431, fs, 1, "mode", "0711", 0)); S(syscall(431, fs, 1, "source", "mysrc", 0));
	S(syscall(431, fs, 1, "source", "again", 0)); S(syscall(431, fs, 1, "mode", BAD, 0));
	S(syscall(431, fs, 1, BAD, "x", 0)); S(syscall(431, fs, 2, "bin", "abc", 0));
	S(syscall(431, fs, 2, "bin", "abc", 3)); S(syscall(431, fs, 2, "bin", "abc", -1));
	S(syscall(431, fs, 3, "p", "/", AT_FDCWD)); S(syscall(431, fs, 3, "p", "/", -1));
	S(syscall(431, fs, 4, "p", "", AT_FDCWD)); S(syscall(431, fs, 5, "fd", NULL, 0));
	S(syscall(431, fs, 5, "fd", NULL, -1)); S(syscall(431, fs, 5, "fd", "x", 0));
	S(syscall(431, fs, 6, "x", NULL, 0)); S(syscall(431, fs, 6, NULL, "x", 0));
	S(syscall(431, fs, 6, NULL, NULL, 1)); S(syscall(431, fs, 7, NULL, NULL, 0));
	S(syscall(432, fs, 0, 0)); S(syscall(431, fs, 6, NULL, NULL, 0));
	S(syscall(431, fs, 6, NULL, NULL, 0)); S(syscall(431, fs, 0, "ro", NULL, 0));
	S(syscall(432, -1, 0, 0)); S(syscall(432, reg, 0, 0)); S(syscall(432, fs, 2, 0));
	S(syscall(432, fs, 0, 0x40)); S(syscall(432, fs, 0, 0x30)); S(syscall(432, fs, 0, 0x100));
	S(syscall(432, fs, 0, 0x100000)); int mf = S(syscall(432, fs, 1, ATTR_NODEV | ATTR_NOSUID));
	printf("cloexec %d\n", fcntl(mf, F_GETFD)); S(syscall(432, fs, 0, 0));
	printf("%o\n", fcntl(mf, F_GETFL)); struct stat st; fstat(mf, &st);
	printf("mode %o\n", st.st_mode); S(mkdirat(mf, "inside", 0755));
	int of = S(openat(mf, "f", O_CREAT | O_RDWR, 0644)); S(write(of, "x", 1));
	 close(of);
	S(syscall(429, mf, "", AT_FDCWD, "m", 0)); S(syscall(429, mf, "", AT_FDCWD, "m", 0x1000));
	S(syscall(429, mf, "", AT_FDCWD, "m", 4 | 0x100 | 0x200)); S(syscall(429, mf, "", AT_FDCWD, "nosuch", 4));
	S(syscall(429, mf, "", AT_FDCWD, "file", 4)); S(syscall(429, -1, "", AT_FDCWD, "m", 4));
	S(syscall(429, reg, "", AT_FDCWD, "m", 4)); S(syscall(429, mf, "inside", AT_FDCWD, "m", 4));
	S(syscall(429, mf, BAD, AT_FDCWD, "m", 4)); S(syscall(429, mf, "", AT_FDCWD, BAD, 4));
	S(syscall(429, mf, "", AT_FDCWD, "ml", 4)); S(syscall(429, mf, "", AT_FDCWD, "m", 4));
	S(access("m/f", F_OK)); flags("m"); S(syscall(429, mf, "", AT_FDCWD, "m2", 4));
	S(access("m2/f", F_OK)); S(access("m/f", F_OK)); S(umount("m2"));
	close(mf); FILE *f = fopen("/proc/self/mounts", "r"); while (fgets(b, 4096, f)) if (strstr(b, "/m2")) { char *q = strstr(b,
	"size"); if (q) *q = 0; printf("%.*s\n", 5, b); } fclose(f);
 /* reconfigure */
	S(syscall(431, fs, 0, "ro", NULL, 0)); S(syscall(431, fs, 7, NULL, NULL, 0));
	S(open("m2/new", O_CREAT | O_RDWR, 0600)); flags("m2"); S(syscall(431, fs, 6, NULL, NULL, 0));
	S(syscall(431, fs, 0, "rw", NULL, 0)); S(syscall(431, fs, 7, NULL, NULL, 0));
	 S(close(open("m2/new", O_CREAT | O_RDWR, 0600)));
 /* fspick */
	S(syscall(433, AT_FDCWD, "m2", 0x10)); S(syscall(433, AT_FDCWD, "nosuch", 0));
	S(syscall(433, AT_FDCWD, "m2/inside", 0)); S(syscall(433, -1, "m2", 0));
	S(syscall(433, AT_FDCWD, BAD, 0)); int pk = S(syscall(433, AT_FDCWD, "m2", 1));
	S(syscall(432, pk, 0, 0)); S(syscall(431, pk, 6, NULL, NULL, 0));
	S(syscall(431, pk, 0, "ro", NULL, 0)); S(syscall(431, pk, 7, NULL, NULL, 0));
	flags("m2"); S(syscall(431, pk, 0, "rw", NULL, 0)); S(syscall(431, pk, 7, NULL, NULL, 0));
	 close(pk); close(fs);
 /* setattr */
	S(setattr(AT_FDCWD, "m2", 0, 0, 0, 0, 32)); S(setattr(AT_FDCWD, "nosuch", 0, 0, 0, 0, 32));
	S(setattr(AT_FDCWD, "m2", 0, 1, 0, 0, 31)); S(setattr(AT_FDCWD, "m2", 0, 1, 0, 0, 5000));
	S(setattr(AT_FDCWD, "m2", 1, 1, 0, 0, 32)); S(setattr(AT_FDCWD, "m2", 0, 0x10, 0, 0, 32));
	S(setattr(AT_FDCWD, "m2", 0, 0x10, 0x10, 0, 32)); S(setattr(AT_FDCWD, "m2", 0, 0x10, 0x70, 0, 32));
	flags("m2"); S(setattr(AT_FDCWD, "m2", 0, 0x40, 0x70, 0, 32));
	S(setattr(AT_FDCWD, "m2", 0, 0x1000000, 0, 0, 32)); S(setattr(AT_FDCWD, "m2", 0, 1 | 8, 4, 0, 32));
	flags("m2"); S(open("m2/z", O_CREAT | O_RDWR, 0600)); S(setattr(AT_FDCWD, "m2", 0, 0, 1, 0, 32));
	flags("m2"); S(setattr(AT_FDCWD, "m2", 0, 0, 0, MS_SHARED, 32));
	S(setattr(AT_FDCWD, "m2", 0, 0, 0, MS_PRIVATE, 32)); S(setattr(AT_FDCWD, "m2", 0, 0, 0, MS_SHARED | MS_PRIVATE,
	32)); S(setattr(AT_FDCWD, "m2", 0, 0, 0, MS_REC, 32)); S(setattr(AT_FDCWD, "m2/inside", 0, 1, 0, 0, 32));
	S(setattr(-1, "m2", 0, 1, 0, 0, 32)); int w = open("m2/w", O_CREAT | O_RDWR, 0600);
	S(setattr(AT_FDCWD, "m2", 0, 1, 0, 0, 32)); close(w); S(syscall(442, AT_FDCWD, "m2", 0, BAD, 32));
	 S(syscall(442, AT_FDCWD, "m2", 0, NULL, 32));
 /* open_tree */
	S(syscall(428, AT_FDCWD, "m2", 2)); S(syscall(428, AT_FDCWD, "m2", 0x8000));
	S(syscall(428, AT_FDCWD, "nosuch", 1)); S(syscall(428, -1, "m2", 1));
	S(syscall(428, AT_FDCWD, BAD, 1)); S(syscall(428, AT_FDCWD, "", 1));
	int ot = S(syscall(428, AT_FDCWD, "m2", 0)); printf("%o %d\n", fcntl(ot, F_GETFL), fcntl(ot, F_GETFD));
	close(ot); ot = S(syscall(428, AT_FDCWD, "m2", 1 | O_CLOEXEC));
	printf("%o %d\n", fcntl(ot, F_GETFL), fcntl(ot, F_GETFD)); S(setattr(ot, "", AT_EMPTY_PATH, 1, 0, 0, 32));
	S(openat(ot, "q", O_CREAT | O_RDWR, 0600)); S(syscall(429, ot, "", AT_FDCWD, "m", 4));
	S(access("m/f", F_OK)); flags("m"); flags("m2"); close(ot); S(umount("m"));
	S(umount("m")); ot = S(syscall(428, AT_FDCWD, ".", 1 | 0x8000));
	S(faccessat(ot, "m2/f", F_OK, 0)); S(syscall(429, ot, "", AT_FDCWD, "m", 4));
	S(access("m/m2/f", F_OK)); close(ot); S(umount("m")); S(umount2("m", MNT_DETACH));
	ot = S(syscall(428, AT_FDCWD, "file", 1)); S(syscall(429, ot, "", AT_FDCWD, "m", 4));
	S(syscall(429, ot, "", AT_FDCWD, "m2/f", 4)); close(ot); S(umount("m2/f"));
	S(syscall(429, AT_FDCWD, "m2", AT_FDCWD, "m", 0)); S(access("m/f", F_OK));
	S(syscall(429, AT_FDCWD, "m/inside", AT_FDCWD, "m2", 0)); S(syscall(429, AT_FDCWD, "m", AT_FDCWD, "m/inside",
	0)); ot = syscall(428, AT_FDCWD, "m", 1); close(ot); S(umount("m"));
	AS(65534, S(syscall(430, "tmpfs", 0)); S(syscall(430, "nosuch", 9)); S(syscall(432, -1, 0, 0)); S(syscall(433,
	AT_FDCWD, ".", 0)); S(syscall(429, AT_FDCWD, ".", AT_FDCWD, ".", 0x1000)); S(syscall(428, AT_FDCWD, ".",
	1)); S(syscall(428, AT_FDCWD, ".", 0)); S(setattr(AT_FDCWD, ".", 0, 1, 0, 0, 32)); S(setattr(AT_FDCWD, ".",
		 0, 0, 0, 0, 31)));
	fs = syscall(430, "proc", 0); S(syscall(431, fs, 6, NULL, NULL, 0));
	mf = S(syscall(432, fs, 0, 0)); S(faccessat(mf, "self/status", F_OK, 0));
	fs = syscall(430, "tmpfs", 0); S(syscall(431, fs, 1, "mode", "9", 0));
	S(syscall(431, fs, 6, NULL, NULL, 0)); S(syscall(431, fs, 0, "ro", NULL, 0));
 return 0; }
