/* What options and limits of tmpfs and ramfs do (tmpfs(5)). */
#include "check.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#define M(o) S(mount("t", "m", "tmpfs", 0, o))
#define R(o) S(mount("t", "m", "tmpfs", MS_REMOUNT, o))
#define U() S(umount("m"))

static char page[1 << 20];

static void show(void)
{
	FILE *f = fopen("/proc/self/mounts", "r");
	char line[4096];
	while (fgets(line, sizeof line, f))
		if (strstr(line, "/w/m "))
			printf("%s", strstr(line, "/w/m ") + 5);
	fclose(f);
	struct statfs s;
	struct stat st;
	statfs("m", &s);
	stat("m", &st);
	printf("type %lx bsize %ld mode %o %d:%d", (long)s.f_type, (long)s.f_bsize, st.st_mode, st.st_uid, st.st_gid);
	if (s.f_blocks < 1000000)
		printf(" blocks %ld free %ld %ld", (long)s.f_blocks, (long)s.f_bfree, (long)s.f_bavail);
	if (s.f_files < 1000000)
		printf(" files %ld free %ld", (long)s.f_files, (long)s.f_ffree);
	puts("");
}

static void options(void)
{
	const char *all[] = { "size=64k", "size=65537", "size=0", "size=1M,mode=711", "size=1g", "nr_blocks=7", "nr_inodes=5",
		"nr_inodes=0", "nr_inodes=1k", "mode=0", "mode=07777", "mode=17777", "mode=8", "mode=", "mode", "uid=7,gid=8",
		"uid=-1", "gid=x", "uid=4294967295", "size=", "size", "size=x", "size=1q", "size=10%x", "size=0x10000",
		"size=010000", "nr_blocks=1x", "nr_inodes=1x", "huge=never", "huge=bogus", "mpol=default", "mpol=bogus", "nosuch", "inode64",
		"nosuch=1", ",,size=4k,,", "=1", "size=4k,size=8k", "noswap", "mode=700,size=12k,nr_inodes=9,uid=1,gid=2", "source=x" };
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
		printf("[%s] ", all[i]);
		if (S(mount("t", "m", "tmpfs", 0, all[i])))
			continue;
		if (strcmp(all[i], "inode64"))
			show();
		umount("m");
	}
	const char *ram[] = { "", "mode=711", "size=1k,foo", "mode=9", "mode=755", "uid=3" };
	for (unsigned i = 0; i < sizeof ram / sizeof *ram; i++) {
		printf("ramfs [%s] ", ram[i]);
		if (S(mount("t", "m", "ramfs", 0, ram[i])))
			continue;
		show();
		umount("m");
	}
}

static void blocks(void)
{
	M("size=64k"); int f = open("m/a", O_CREAT | O_RDWR, 0600);
	T(write(f, page, 100)); show(); T(write(f, page, 1 << 20)); show(); T(write(f, page, 1)); T(pwrite(f, page, 10, 5));
	int g = open("m/b", O_CREAT | O_RDWR, 0600); T(write(g, page, 1)); T(ftruncate(f, 5000)); show(); T(write(g, page, 4096 * 20)); show();
	S(unlink("m/b")); show(); close(g); show(); T(pwrite(f, page, 4096, 1 << 20)); show(); S(ftruncate(f, 0)); show();
	S(fallocate(f, 0, 0, 65536)); show(); S(fallocate(f, 0, 0, 65537)); S(fallocate(f, FALLOC_FL_KEEP_SIZE, 65536, 4096));
	S(fallocate(f, 3, 4096, 8192)); show(); T(pwrite(f, page, 4096, 4096)); show(); S(fallocate(f, FALLOC_FL_ZERO_RANGE, 0, 4096));
	S(fallocate(f, FALLOC_FL_COLLAPSE_RANGE, 0, 4096)); S(fallocate(f, FALLOC_FL_INSERT_RANGE, 0, 4096));
	S(fallocate(f, FALLOC_FL_UNSHARE_RANGE, 0, 4096)); S(fallocate(f, 0x100, 0, 4096)); S(ftruncate(f, 0)); show();
	T(pwrite(f, page, 1, 65536 * 4)); show(); S(ftruncate(f, 1 << 30)); show(); S(ftruncate(f, 8192)); show();
	char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0); p[0] = 1; p[4096] = 2; T(pwrite(f, page, 10, 0)); show();
	T(pwrite(f, page, 1 << 20, 8192)); show(); munmap(p, 8192); S(ftruncate(f, 4096)); show(); close(f); S(unlink("m/a")); show(); U();
}

static void inodes(void)
{
	M("nr_inodes=5"); S(mkdir("m/d", 0700)); close(S(open("m/f", O_CREAT, 0600))); S(symlink("x", "m/l")); show(); S(mknod("m/p", S_IFIFO | 0600, 0));
	S(mknod("m/q", S_IFIFO | 0600, 0)); S(link("m/f", "m/g")); S(open("m", O_TMPFILE | O_RDWR, 0600)); show(); S(unlink("m/p")); S(link("m/f", "m/g")); show();
	S(mkdir("m/e", 0700)); S(unlink("m/f")); show(); S(rmdir("m/d")); show(); S(rename("m/g", "m/l")); show();
	int f = S(open("m", O_TMPFILE | O_RDWR, 0600)); show(); char n[64]; sprintf(n, "/proc/self/fd/%d", f); S(linkat(AT_FDCWD, n, AT_FDCWD, "m/t", AT_SYMLINK_FOLLOW));
	show(); close(f); show(); f = open("m/o", O_CREAT, 0600); S(unlink("m/o")); show(); close(f); show(); U();
}

static void remounts(void)
{
	M("size=64k,nr_inodes=10,mode=711,uid=3"); int f = open("m/a", O_CREAT | O_RDWR, 0600); T(write(f, page, 32768)); R("size=16k"); R("size=32k"); show();
	T(write(f, page, 1)); R("size=36k"); T(write(f, page, 1)); show(); R("mode=700,uid=5"); show(); R("nr_inodes=1"); R("nr_inodes=2"); show(); R("nosuch"); R("size=x");
	R("size=0"); show(); R("size=64k"); show(); R("nr_inodes=0"); show(); R("nr_inodes=10"); show(); R("noswap"); R(NULL); show(); close(f); U();
	M(NULL); R("size=4k"); show(); U(); M("nr_inodes=0"); R("nr_inodes=4"); show(); U();
	int fs = syscall(430, "tmpfs", 0); S(syscall(431, fs, 1, "size", "8k", 0)); S(syscall(431, fs, 1, "size", "", 0)); S(syscall(431, fs, 0, "size", 0, 0));
	S(syscall(431, fs, 1, "nr_inodes", "3", 0)); S(syscall(431, fs, 1, "huge", "bogus", 0)); S(syscall(431, fs, 1, "mode", "700", 0)); S(syscall(431, fs, 6, 0, 0, 0));
	int m = syscall(432, fs, 0, 0); S(syscall(429, m, "", AT_FDCWD, "m", 4)); close(m); show(); S(syscall(431, fs, 1, "size", "4k", 0)); S(syscall(431, fs, 7, 0, 0, 0));
	show(); close(fs); U();
}

int main(void)
{
	begin();
	unshare(CLONE_NEWNS);
	mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
	mkdir("m", 0755);
	options(); blocks(); inodes(); remounts();
	return 0;
}
