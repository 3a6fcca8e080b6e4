/* What exec, set*id, securebits, ambient and file capabilities make of credentials. Needs root. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *self;
static char copy[64];

static void e(const char *what, long r)
{
	printf("  %s: %s\n", what, r < 0 ? strerror(errno) : "ok");
}

/* Which of the sets holds CAP_CHOWN, CAP_SETUID, CAP_NET_RAW and anything else. */
static void sets(void)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f)) {
		unsigned long long v;
		if (strncmp(line, "Cap", 3) || sscanf(line + 7, "%llx", &v) != 1)
			continue;
		printf(" %.3s=%c%c%c%c", line + 3, v >> 0 & 1 ? 'c' : '-', v >> 7 & 1 ? 's' : '-', v >> 13 & 1 ? 'n' : '-',
		       v & ~0x2081ULL ? '+' : '-');
	}
	if (f)
		fclose(f);
}

static int show(void)
{
	uid_t r, eu, s;
	gid_t gr, ge, gs;
	int sig = -1;
	getresuid(&r, &eu, &s);
	getresgid(&gr, &ge, &gs);
	prctl(PR_GET_PDEATHSIG, &sig);
	printf("  uid %d %d %d gid %d %d %d secure %ld dumpable %d keep %d bits %#x nnp %d death %d", r, eu, s, gr, ge, gs,
	       getauxval(AT_SECURE), prctl(PR_GET_DUMPABLE), prctl(PR_GET_KEEPCAPS), prctl(PR_GET_SECUREBITS),
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), sig);
	sets();
	printf("\n");
	return 0;
}

static void cap(unsigned permitted, unsigned effective, unsigned inheritable)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { { effective, permitted, inheritable }, { 0, 0, 0 } };
	e("capset", syscall(SYS_capset, &h, d));
}

static void all_inheritable(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];
	syscall(SYS_capget, &h, d);
	d[0].inheritable = d[0].permitted;
	e("inheritable", syscall(SYS_capset, &h, d));
}

static void run(const char *what, void (*before)(void), const char *program)
{
	int status;
	printf("%s\n", what);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		if (before)
			before();
		fflush(stdout);
		execl(program, "credentials", "show", (char *)NULL);
		printf("  exec: %s\n", strerror(errno));
		fflush(stdout);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	printf("  status %d\n", status);
}

static void user(void)
{
	e("setgroups", setgroups(0, NULL));
	e("setresgid", setresgid(65534, 65534, 65534));
	e("setresuid", setresuid(65534, 65534, 65534));
	printf("  now dumpable %d", prctl(PR_GET_DUMPABLE));
	sets();
	printf("\n");
}
static void keep(void)
{
	e("keepcaps", prctl(PR_SET_KEEPCAPS, 1));
	user();
}
static void ambient(void)
{
	keep();
	cap(0x2080, 0x2080, 0x2080);
	e("raise", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
	e("raise what is not permitted", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
	printf("  is set %d %d\n", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0),
	       prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0));
	e("no raise", prctl(PR_SET_SECUREBITS, 1 << SECURE_NO_CAP_AMBIENT_RAISE));
}
static void no_raise(void)
{
	e("no raise", prctl(PR_SET_SECUREBITS, 1 << SECURE_NO_CAP_AMBIENT_RAISE));
	all_inheritable();
	e("raise", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
}
static void noroot(void)
{
	e("noroot", prctl(PR_SET_SECUREBITS, 1 << SECURE_NOROOT | 1 << SECURE_NOROOT_LOCKED));
	e("unlock", prctl(PR_SET_SECUREBITS, 1 << SECURE_NOROOT));
	e("unset what is locked", prctl(PR_SET_SECUREBITS, 1 << SECURE_NOROOT_LOCKED));
	e("unknown bit", prctl(PR_SET_SECUREBITS, 0x10003));
}
static void no_fixup(void)
{
	e("no fixup", prctl(PR_SET_SECUREBITS, 1 << SECURE_NO_SETUID_FIXUP));
	e("setresuid", setresuid(65534, 65534, 65534));
	printf("  now");
	sets();
	printf("\n");
}
static void bounded(void)
{
	int i;
	for (i = 0; i < 41; i++)
		if (i != CAP_CHOWN && prctl(PR_CAPBSET_DROP, i) && i < 8)
			printf("  drop %d: %s\n", i, strerror(errno));
	printf("  bset %d %d", prctl(PR_CAPBSET_READ, CAP_CHOWN), prctl(PR_CAPBSET_READ, CAP_SETUID));
	printf(" %d\n", prctl(PR_CAPBSET_READ, 63));
}
static void nnp(void)
{
	e("nnp", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	user();
}
static void death(void)
{
	user();
	e("death", prctl(PR_SET_PDEATHSIG, SIGTERM));
}
static void real_root(void)
{
	e("setresuid", setresuid(0, 65534, 65534));
}
static void effective_root(void)
{
	e("setresuid", setresuid(65534, 0, 0));
}

static void ids(void)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		int r;
		e("setreuid", setreuid(1000, 2000));
		show();
		e("back", setreuid(-1, 1000));
		e("to saved", setresuid(-1, 2000, -1));
		e("to nobody's", setresuid(-1, 3000, -1));
		e("setuid saved", setuid(2000));
		e("setuid other", setuid(0));
		show();
		r = setfsuid(1000);
		printf("  setfsuid %d -> %d\n", r, setfsuid(-1));
		r = setfsuid(0);
		printf("  setfsuid %d -> %d\n", r, setfsuid(-1));
		e("setgroups", setgroups(0, NULL));
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	pid = fork();
	if (pid == 0) {
		printf("  file capabilities follow the fsuid");
		sets();
		setfsuid(1000);
		sets();
		setfsuid(0);
		sets();
		printf("\n");
		cap(0x81, 0x81, 0);
		cap(0x2081, 0x81, 0);
		cap(0x80, 0x81, 0);
		cap(0x80, 0x80, 0x2000);
		cap(0x80, 0, 0);
		cap(0x80, 0x80, 0);
		show();
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, &status, 0);
}

static void file_caps(const char *what, const unsigned char *value, size_t len, void (*before)(void))
{
	e("setxattr", setxattr(copy, "security.capability", value, len, 0));
	run(what, before, copy);
}

int main(int argc, char **argv)
{
	static const unsigned char ep[20] = { 1, 0, 0, 2, 0x80, 0x20 }, p[20] = { 0, 0, 0, 2, 0x80, 0x20 };
	static const unsigned char none[20] = { 0, 0, 0, 2 }, v3[24] = { 1, 0, 0, 3, 0x80, 0x20 };
	static const unsigned char other[24] = { 1, 0, 0, 3, 0x80, 0x20, [20] = 0xe8, 3 };
	char cmd[256];
	if (argc > 1)
		return show();
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	self = argv[0];
	if (geteuid() != 0) {
		printf("not root\n");
		return 0;
	}
	run("as it is", NULL, self);
	run("a user", user, self);
	run("a user who kept capabilities", keep, self);
	run("ambient", ambient, self);
	run("no raise", no_raise, self);
	run("noroot", noroot, self);
	run("no fixup", no_fixup, self);
	run("bounded", bounded, self);
	run("real root only", real_root, self);
	run("effective root only", effective_root, self);
	printf("ids\n");
	fflush(stdout);
	ids();

	snprintf(copy, sizeof copy, "/tmp/credentials-%d", getpid());
	snprintf(cmd, sizeof cmd, "cp '%s' %s && chmod 4755 %s", self, copy, copy);
	fflush(stdout);
	e("copy", system(cmd) ? -1 : 0);
	run("set-user-id root", user, copy);
	run("set-user-id root, no new privileges", nnp, copy);
	run("set-user-id root, ambient", ambient, copy);
	run("set-user-id root by root", NULL, copy);
	run("death signal", death, copy);
	e("chown", chown(copy, 1000, 1001));
	e("chmod", chmod(copy, 06755));
	run("set-user-id and set-group-id others", user, copy);
	run("by root", NULL, copy);
	e("chmod", chmod(copy, 02745));
	run("no execution for the group", NULL, copy);
	e("chmod", chmod(copy, 0755));
	e("chown", chown(copy, 0, 0));
	file_caps("file capabilities", ep, 20, user);
	file_caps("permitted only", p, 20, user);
	file_caps("third revision", v3, 24, user);
	file_caps("of another namespace", other, 24, user);
	file_caps("bounded", ep, 20, bounded);
	file_caps("no new privileges", ep, 20, nnp);
	file_caps("ambient", none, 20, ambient);
	e("chmod", chmod(copy, 04755));
	file_caps("with set-user-id root", ep, 20, user);
	unlink(copy);

	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		keep();
		/* Effective again for this program, but not for the next one. */
		cap(6, 6, 0);
		printf("  open %d\n", open("/etc/shadow", O_RDONLY) >= 0);
		fflush(stdout);
		execlp("head", "head", "-c1", "/etc/shadow", (char *)NULL);
		_exit(9);
	}
	int status;
	waitpid(pid, &status, 0);
	printf("head %d\n", status);
	return 0;
}
