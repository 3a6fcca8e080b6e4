/* POSIX access control lists (acl(5)). */
#include "check.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/xattr.h>

#define A "system.posix_acl_access"
#define D "system.posix_acl_default"
#define UO 1
#define U 2
#define GO 4
#define G 8
#define M 0x10
#define O 0x20
#define NO 0xffffffffu

struct acl { uint32_t version; struct { uint16_t tag, perm; uint32_t id; } e[20]; };

static struct acl made;
static int make(uint32_t version, int n, const unsigned (*e)[3])
{
	made.version = version;
	for (int i = 0; i < n; i++)
		made.e[i].tag = e[i][0], made.e[i].perm = e[i][1], made.e[i].id = e[i][2];
	return 4 + 8 * n;
}
#define SET(p, name, ...) do { const unsigned e_[][3] = { __VA_ARGS__ }; printf(#__VA_ARGS__ " "); \
	S(setxattr(p, name, &made, make(2, sizeof e_ / sizeof *e_, e_), 0)); } while (0)

static void show(const char *p)
{
	struct stat st;
	if (lstat(p, &st)) {
		printf("%s: %s\n", p, strerror(errno));
		return;
	}
	printf("%s %o", p, st.st_mode);
	const char *names[] = { A, D };
	for (int k = 0; k < 2; k++) {
		struct acl a;
		ssize_t n = getxattr(p, names[k], &a, sizeof a);
		if (n < 0) {
			printf(" [%s]", strerror(errno));
			continue;
		}
		printf(" [%u:", a.version);
		for (int i = 0; i < (n - 4) / 8; i++)
			printf(" %x/%o/%d", a.e[i].tag, a.e[i].perm, (int)a.e[i].id);
		printf("]");
	}
	char list[1024];
	ssize_t n = listxattr(p, list, sizeof list);
	for (char *q = list; q < list + n; q += strlen(q) + 1)
		printf(" %s", q);
	puts("");
}

static void reach(const char *p)
{
	printf("%s:", p);
	for (int m = 1; m < 8; m++) {
		errno = 0;
		syscall(439, AT_FDCWD, p, m, AT_EACCESS);
		printf(" %d", errno);
	}
	puts("");
}
/* Who may what: a user with some groups. */
#define WHO(u, g, ...) do { fflush(stdout); pid_t c_ = fork(); if (!c_) { gid_t gs_[] = { g, ##__VA_ARGS__ }; \
	syscall(SYS_setgroups, sizeof gs_ / sizeof *gs_, gs_); syscall(SYS_setresgid, g, g, g); syscall(SYS_setresuid, u, u, u); \
	printf("user %d group %d ", u, g); reach("f"); _exit(0); } waitpid(c_, 0, 0); } while (0)
static void everybody(void)
{
	WHO(0, 0); WHO(1000, 1000); WHO(1001, 1001); WHO(1002, 2000); WHO(1003, 2000, 2001); WHO(1004, 3000); WHO(1005, 2001);
}

int main(void)
{
	begin();
	unshare(CLONE_NEWNS); mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
	mkdir("m", 0755); mount("t", "m", "tmpfs", 0, "mode=777"); chdir("m");
	close(open("f", O_CREAT | O_RDWR, 0640)); mkdir("d", 0750); symlink("f", "l"); mkfifo("p", 0600); chown("f", 1000, 2000);
	show("f"); show("d"); show("l"); show("p");
	SET("f", A, { UO, 6, NO }, { GO, 4, NO }, { O, 0, NO }); show("f");
	SET("f", A, { UO, 7, NO }, { U, 5, 1001 }, { GO, 6, NO }, { G, 1, 2001 }, { M, 7, NO }, { O, 0, NO }); show("f"); everybody();
	SET("f", A, { UO, 7, NO }, { U, 6, 1001 }, { U, 0, 1002 }, { GO, 6, NO }, { G, 1, 2001 }, { M, 3, NO }, { O, 4, NO }); show("f"); everybody();
	S(chmod("f", 0604)); show("f"); everybody(); S(chmod("f", 0674)); show("f"); everybody(); S(chmod("f", 06755)); show("f");
	SET("f", A, { UO, 7, NO }, { GO, 6, NO }, { M, 1, NO }, { O, 4, NO }); show("f"); everybody(); S(chmod("f", 0641)); show("f"); S(removexattr("f", A)); show("f");
	S(removexattr("f", A)); S(removexattr("f", D)); S(removexattr("d", D)); SET("f", D, { UO, 7, NO }, { GO, 6, NO }, { O, 4, NO }); S(setxattr("f", D, "", 0, 0));
	/* what is refused */
	SET("f", A, { GO, 6, NO }, { O, 4, NO }); SET("f", A, { UO, 7, NO }, { O, 4, NO }); SET("f", A, { UO, 7, NO }, { GO, 4, NO }); SET("f", A, { UO, 7, NO }, { U, 4, 5 }, { GO, 4, NO }, { O, 4, NO });
	SET("f", A, { UO, 8, NO }, { GO, 4, NO }, { O, 4, NO }); SET("f", A, { UO, 7, NO }, { GO, 4, NO }, { U, 4, 5 }, { M, 4, NO }, { O, 4, NO }); SET("f", A, { UO, 7, NO }, { UO, 7, NO }, { GO, 4, NO }, { O, 4, NO });
	SET("f", A, { UO, 7, 5 }, { GO, 4, 5 }, { O, 4, 5 }); show("f"); SET("f", A, { UO, 7, NO }, { U, 4, NO }, { GO, 4, NO }, { M, 4, NO }, { O, 4, NO }); SET("f", A, { 0x40, 7, NO }); SET("f", A, { 0, 7, NO });
	SET("f", A, { UO, 7, NO }, { U, 4, 5 }, { U, 4, 5 }, { U, 4, 3 }, { GO, 4, NO }, { M, 4, NO }, { O, 4, NO }); show("f"); SET("f", A, { UO, 7, NO }, { GO, 4, NO }, { O, 4, NO }, { O, 4, NO });
	S(setxattr("f", A, "", 0, 0)); S(setxattr("f", A, "\2\0\0", 3, 0)); S(setxattr("f", A, "\1\0\0\0", 4, 0)); S(setxattr("f", A, "\2\0\0\0", 4, 0)); S(setxattr("f", A, "\2\0\0\0abc", 7, 0));
	S(setxattr("f", "system.posix_acl", "a", 1, 0)); S(setxattr("f", "system.", "a", 1, 0)); S(getxattr("f", "system.posix_acl", &made, 100)); S(getxattr("f", A, &made, 3)); T(getxattr("f", A, 0, 0));
	const unsigned three[][3] = { { UO, 7, NO }, { U, 5, 1001 }, { GO, 6, NO }, { M, 7, NO }, { O, 0, NO } }; int n = make(2, 5, three);
	S(setxattr("f", A, &made, n, XATTR_REPLACE)); S(setxattr("f", A, &made, n, XATTR_CREATE)); S(setxattr("f", A, &made, n, 4)); T(getxattr("f", A, 0, 0)); T(getxattr("f", A, &made, 3));
	S(lsetxattr("l", A, &made, make(2, 5, three), 0)); S(setxattr("p", A, &made, make(2, 5, three), 0)); show("p"); char b[100]; S(lgetxattr("l", A, b, 100)); S(setxattr("/proc/self/status", A, &made, make(2, 5, three), 0));
	S(getxattr("/proc/self/status", A, b, 100)); S(getxattr("/proc/self/status", "user.x", b, 100)); AS(65534, S(setxattr("f", A, &made, make(2, 5, three), 0)); S(removexattr("f", A)); S(removexattr("d", D)); S(getxattr("f", A, b, 100)));
	/* inheritance */
	SET("d", D, { UO, 7, NO }, { U, 7, 1001 }, { GO, 5, NO }, { G, 3, 2001 }, { M, 6, NO }, { O, 1, NO }); show("d"); umask(077);
	close(open("d/a", O_CREAT | O_RDWR, 0666)); show("d/a"); close(open("d/b", O_CREAT | O_RDWR, 0777)); show("d/b"); close(open("d/c", O_CREAT | O_RDWR, 0)); show("d/c"); mkdir("d/d", 0777); show("d/d"); mkdir("d/d/e", 0700); show("d/d/e");
	mknod("d/p", S_IFIFO | 0666, 0); show("d/p"); symlink("x", "d/l"); show("d/l"); int t = open("d", O_TMPFILE | O_RDWR, 0666); sprintf(b, "/proc/self/fd/%d", t); S(linkat(AT_FDCWD, b, AT_FDCWD, "d/t", AT_SYMLINK_FOLLOW)); show("d/t");
	SET("d", D, { UO, 6, NO }, { GO, 4, NO }, { O, 2, NO }); show("d"); close(open("d/a2", O_CREAT | O_RDWR, 0666)); show("d/a2"); mkdir("d/d2", 0777); show("d/d2"); S(chmod("d", 02770)); show("d"); mkdir("d/d3", 0777); show("d/d3");
	S(removexattr("d", D)); show("d"); close(open("d/a3", O_CREAT | O_RDWR, 0666)); show("d/a3"); S(rename("d/a", "g")); show("g"); S(link("g", "h")); S(chmod("h", 0777)); show("g");
	/* search */
	mkdir("s", 0700); SET("s", A, { UO, 7, NO }, { U, 1, 65534 }, { GO, 0, NO }, { M, 1, NO }, { O, 0, NO }); show("s"); close(open("s/x", O_CREAT, 0644)); chmod("s/x", 0644);
	AS(65534, S(access("s/x", R_OK)); S(open("s", O_RDONLY)); S(open("s/y", O_CREAT, 0600)); S(chdir("s"))); AS(1234, S(access("s/x", R_OK)));
	fflush(stdout); system("setfacl -m u:1001:rw,g:2001:r,d:u:5:rwx s 2>&1; getfacl -n s; setfacl -b s; getfacl -n s; cp -a g g2; getfacl -n g2; ls -ld g2 s | cut -c1-11");
	S(mount(0, ".", 0, MS_REMOUNT | MS_RDONLY, 0)); AS(0, chdir("/"));
	return 0;
}
