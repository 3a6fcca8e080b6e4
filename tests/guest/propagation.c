/* How mounts spread, move, expire and are locked (mount_namespaces(7), pivot_root(2)). */
#include "check.h"
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>

#define REC MS_REC
#define kind(p, f) mount(0, p, 0, f, 0)
#define tmp(p) mount("t", p, "tmpfs", 0, 0)
#define bind(a, b) mount(a, b, 0, MS_BIND, 0)
#define rbind(a, b) mount(a, b, 0, MS_BIND | MS_REC, 0)
#define pivot(a, b) syscall(SYS_pivot_root, a, b)

static char top[PATH_MAX];
static int groups[4096], known;
static char lines[256][600];

static int number(int id)
{
	for (int i = 0; i < known; i++)
		if (groups[i] == id)
			return i + 1;
	groups[known] = id;
	return ++known;
}

static int order(const void *a, const void *b) { return strcmp(a, b); }

/* The mounts below the working directory at the start: root, place, flags, and groups by the order of their names. */
static void show(const char *what)
{
	FILE *f = fopen("/proc/self/mountinfo", "r");
	char line[4096];
	int n = 0;
	while (fgets(line, sizeof line, f)) {
		char root[1024], at[1024], flags[256];
		int used = 0;
		sscanf(line, "%*d %*d %*s %1023s %1023s %255s%n", root, at, flags, &used);
		if (strncmp(at, top, strlen(top)) || n == 256)
			continue;
		char *rest = line + used;
		*strstr(rest, " - ") = 0;
		char *q = strstr(root, "/w");
		if (q)
			memmove(root, q + 1, strlen(q));
		snprintf(lines[n++], sizeof lines[0], "%.120s %.120s %s|%s", at + strlen(top), root, flags, rest);
	}
	fclose(f);
	qsort(lines, n, sizeof lines[0], order);
	printf("-- %s\n", what);
	known = 0;
	for (int i = 0; i < n; i++) {
		char *tags = strchr(lines[i], '|');
		*tags++ = 0;
		printf("%s", lines[i]);
		for (char *t = strtok(tags, " "); t; t = strtok(NULL, " ")) {
			char *c = strchr(t, ':');
			if (c)
				printf(" %.*s:%d", (int)(c - t), t, number(atoi(c + 1)));
			else
				printf(" %s", t);
		}
		puts("");
	}
}

static void clean(void)
{
	for (int again = 0; again < 2; again++) {
		FILE *f = fopen("/proc/self/mountinfo", "r");
		char line[4096], at[64][1024];
		int n = 0;
		while (fgets(line, sizeof line, f) && n < 64) {
			sscanf(line, "%*d %*d %*s %*s %1023s", at[n]);
			if (!strncmp(at[n], top, strlen(top)) && strlen(at[n]) > strlen(top))
				n++;
		}
		fclose(f);
		while (n-- > 0)
			umount2(at[n], MNT_DETACH);
	}
	known = 0;
}

static void dirs(const char *base, ...)
{
	char p[256];
	for (const char *c = "abcdefgh"; *c; c++) {
		snprintf(p, sizeof p, "%s/%c", base, *c);
		mkdir(p, 0755);
	}
}

static void groups_of_peers(void)
{
	puts("== peers");
	S(tmp("a")); dirs("a"); S(kind("a", MS_SHARED)); S(bind("a", "b")); show("bind of a shared one");
	S(tmp("a/a")); S(access("b/a", F_OK)); show("mount below a peer");
	S(kind("b", MS_SLAVE)); S(tmp("a/b")); S(tmp("b/c")); show("slave");
	S(umount("a/a")); show("umount spreads to slaves");
	S(kind("b", MS_SHARED)); S(bind("b", "c")); show("shared slave and its peer");
	S(tmp("a/d")); show("to a slave's peers");
	S(umount("b/d")); show("from a slave's peer");
	S(kind("c", MS_PRIVATE)); S(kind("b", MS_UNBINDABLE)); show("private, unbindable");
	S(bind("b", "d")); S(rbind("b", "d")); S(rbind(".", "d")); show("recursive bind leaves the unbindable out");
	clean();
	S(tmp("a")); dirs("a"); S(kind("a", MS_SHARED)); S(bind("a", "b")); S(kind("b", MS_SLAVE));
	S(bind("b", "c")); S(kind("b", MS_SHARED)); S(bind("b", "d")); S(kind("d", MS_SLAVE)); show("chain");
	S(kind("b", MS_PRIVATE)); show("the middle of a chain leaves");
	S(tmp("a/a")); show("still arrives");
	S(kind("a", MS_PRIVATE)); show("the master leaves");
	clean();
	S(tmp("a")); dirs("a"); S(tmp("a/a")); S(tmp("a/b")); S(kind("a", MS_SHARED | REC)); show("recursively");
	S(kind("a", MS_SLAVE | REC)); show("slaves of nobody"); S(kind("a", MS_UNBINDABLE | REC)); show("unbindable");
	S(kind("a", MS_PRIVATE | REC)); S(kind("a/c", MS_SHARED)); S(kind("nosuch", MS_SHARED));
	S(kind("a", MS_SHARED | MS_SLAVE)); S(kind("a", MS_SHARED | MS_RDONLY)); S(kind("a", MS_SHARED | MS_SILENT));
	clean();
}

static void moves(void)
{
	puts("== moves");
	S(tmp("a")); dirs("a"); S(tmp("b")); dirs("b"); S(tmp("a/a")); close(open("file", O_CREAT, 0600));
	S(mount("a/a", "b/a", 0, MS_MOVE, 0)); show("moved");
	S(mount("a/b", "b/a", 0, MS_MOVE, 0)); S(mount("b", "b/a", 0, MS_MOVE, 0)); S(mount("b", "file", 0, MS_MOVE, 0));
	S(mount("nosuch", "b", 0, MS_MOVE, 0)); S(mount("b", "nosuch", 0, MS_MOVE, 0)); S(mount(0, "b", 0, MS_MOVE, 0));
	S(mount("", "b", 0, MS_MOVE, 0)); S(mount("b", "b", 0, MS_MOVE, 0));
	S(kind("a", MS_SHARED)); S(tmp("a/c")); S(mount("a/c", "b/c", 0, MS_MOVE, 0)); show("from a shared one");
	S(mount("b/a", "a/d", 0, MS_MOVE, 0)); show("to a shared one"); S(bind("a", "c")); show("bound");
	S(mount("b", "a/e", 0, MS_MOVE, 0)); show("spreads"); S(kind("c", MS_PRIVATE));
	clean();
	S(tmp("a")); dirs("a"); S(tmp("a/a")); S(kind("a/a", MS_UNBINDABLE)); S(tmp("b")); S(kind("b", MS_SHARED)); mkdir("b/x", 0755);
	S(mount("a", "b/x", 0, MS_MOVE, 0)); S(mount("a/a", "b/x", 0, MS_MOVE, 0)); show("unbindable to shared");
	clean();
	S(tmp("a")); dirs("a"); S(tmp("b")); S(mount("b", "a", 0, MS_MOVE, 0)); show("onto another"); S(umount("a")); S(umount("a"));
	S(umount("a")); S(bind("file", "file")); S(mount("file", "a", 0, MS_MOVE, 0)); S(umount("file"));
	int d = open("a", O_PATH); S(syscall(429, d, "", AT_FDCWD, "b", 4)); S(syscall(429, AT_FDCWD, "a", AT_FDCWD, "b", 0x1000));
	S(tmp("a")); close(d); d = open("a", O_PATH); S(syscall(429, d, "", AT_FDCWD, "b", 4)); show("move_mount by descriptor"); close(d);
	S(syscall(429, AT_FDCWD, "b", AT_FDCWD, "c", 0x100 | 0x200));
	clean();
}

static void goes(void)
{
	puts("== umount");
	S(tmp("a")); dirs("a"); S(tmp("a/a")); S(umount("a")); S(umount2("a", MNT_EXPIRE)); S(umount("a/a"));
	S(umount2("a", MNT_EXPIRE)); S(umount2("a", MNT_EXPIRE)); S(umount2("a", MNT_EXPIRE)); show("expired");
	S(tmp("a")); dirs("a"); S(umount2("a", MNT_EXPIRE)); S(access("a/a", F_OK)); S(umount2("a", MNT_EXPIRE));
	S(umount2("a", MNT_EXPIRE | MNT_DETACH)); S(umount2("a", MNT_EXPIRE | MNT_FORCE)); S(umount2("a", 0x10)); S(umount2("/", MNT_EXPIRE));
	int d = open("a", O_DIRECTORY); S(umount("a")); S(umount2("a", MNT_EXPIRE)); S(umount2("a", MNT_FORCE)); S(umount2("a", MNT_DETACH));
	S(faccessat(d, "a", F_OK, 0)); S(openat(d, "..", O_PATH)); S(openat(d, "new", O_CREAT | O_RDWR, 0600)); show("detached");
	char link[64], to[256]; sprintf(link, "/proc/self/fd/%d", d); ssize_t n = readlink(link, to, 255); printf("%.*s\n", (int)n, to);
	close(d); symlink("a", "l"); S(tmp("a")); S(umount2("l", UMOUNT_NOFOLLOW)); S(umount2("l", 0)); S(umount2("l", 0));
	S(umount2("nosuch", 0)); S(umount2(BAD, 0)); S(umount2("", 0)); S(umount2("a/a", 0)); S(umount2("file", 0));
	S(tmp("a")); dirs("a"); S(kind("a", MS_SHARED)); S(bind("a", "b")); S(tmp("a/a")); dirs("a/a"); S(kind("b", MS_PRIVATE));
	S(kind("a/a", MS_PRIVATE)); S(tmp("a/a/b")); S(umount("a/a")); S(umount2("a/a", MNT_DETACH)); show("private below");
	clean();
	S(tmp("a")); dirs("a"); S(kind("a", MS_SHARED)); S(bind("a", "b")); S(tmp("a/a")); dirs("a/a"); S(kind("b/a", MS_PRIVATE));
	S(tmp("b/a/c")); S(umount("a/a")); show("one with something on it stays"); S(umount("b/a")); S(umount("b/a/c")); S(umount("b/a"));
	S(tmp("a/a")); d = open("b/a", O_DIRECTORY); S(umount("a/a")); close(d); S(umount("a/a")); show("a busy copy");
	S(tmp("a/b")); S(tmp("a/b")); show("stacked"); S(umount("b/b")); show("one layer"); S(umount2("b", MNT_DETACH)); show("b is gone");
	clean();
}

static void pivots(void)
{
	puts("== pivot_root");
	S(tmp("a")); dirs("a"); close(open("a/file", O_CREAT, 0600)); S(pivot("b", "b")); S(pivot("a", "b")); S(pivot("a", "nosuch"));
	S(pivot("nosuch", "a")); S(pivot("a/file", "a/a")); S(pivot("a", "a/file")); S(pivot(BAD, "a")); S(pivot("a", BAD)); S(pivot("/", "/"));
	S(pivot("a/a", "a/a")); S(kind("a", MS_SHARED)); S(pivot("a", "a/a")); S(kind("a", MS_PRIVATE)); S(tmp("a/a")); S(pivot("a/a", "a"));
	AS(65534, S(pivot("a", "a/a")); S(umount("a")); S(mount("x", "a", "tmpfs", 0, 0)); S(umount2("a", 0x10)));
	AS(0, unshare(CLONE_NEWNS); S(pivot("a", "a/b")); S(access("/b/tmp", F_OK)); S(chdir("/")); S(access("file", F_OK));
	   S(umount("/b")); S(umount2("/b", MNT_DETACH)); S(access("/b/tmp", F_OK)));
	AS(0, unshare(CLONE_NEWNS); S(chdir("a")); S(pivot(".", ".")); S(access("file", F_OK)); S(access("/file", F_OK));
	   S(umount2(".", MNT_DETACH)); S(access("file", F_OK)); S(access("/file", F_OK)); S(chdir("/")); S(access("file", F_OK)));
	AS(0, unshare(CLONE_NEWNS); int d = open("/", O_PATH); S(chroot("a")); S(pivot("/", "/a")); S(mkdir("/x", 0700)); S(mount("q", "/x", "tmpfs", 0, 0));
	   S(mkdir("/x/o", 0700)); S(pivot("/x", "/x/o")); S(access("/o/file", F_OK)); S(access("/file", F_OK)); S(faccessat(d, "tmp", F_OK, 0)); S(fchdir(d)));
	AS(0, S(unshare(CLONE_NEWNS)); S(kind("/", MS_SHARED)); S(pivot("a", "a/b")));
	AS(0, S(unshare(CLONE_NEWNS)); int p[2]; pipe(p); pid_t c = fork(); char x;
	   if (!c) { close(p[1]); read(p[0], &x, 1); S(access("/file", F_OK)); S(access("/b/tmp", F_OK)); S(access("tmp", F_OK)); _exit(0); }
	   close(p[0]); S(pivot("a", "a/b")); close(p[1]); waitpid(c, 0, 0));
	clean();
}

static void flags(void)
{
	puts("== flags");
	S(tmp("a")); dirs("a"); S(mount("a", "b", 0, MS_BIND | MS_RDONLY, 0)); show("a bind's flags are not taken");
	S(mount(0, "b", 0, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID, 0)); show("remounted"); S(mkdir("b/new", 0700)); S(mkdir("a/new", 0700));
	S(mount(0, "b", 0, MS_BIND | MS_REMOUNT, 0)); show("back"); S(mount(0, "b", 0, MS_REMOUNT | MS_RDONLY, 0)); show("the file system");
	S(mkdir("a/new2", 0700)); S(mount(0, "a", 0, MS_REMOUNT, 0)); show("again"); S(mount(0, "b/a", 0, MS_REMOUNT | MS_BIND, 0));
	S(mount(0, "c", 0, MS_REMOUNT | MS_BIND, 0)); int f = open("b/f", O_CREAT | O_RDWR, 0600); S(mount(0, "b", 0, MS_BIND | MS_REMOUNT | MS_RDONLY, 0));
	S(mount(0, "a", 0, MS_BIND | MS_REMOUNT | MS_RDONLY, 0)); S(mount(0, "a", 0, MS_REMOUNT | MS_RDONLY, 0)); close(f); show("writers");
	S(mount(0, "b", 0, MS_REMOUNT | MS_BIND | MS_NODEV | MS_NOEXEC | MS_NOATIME, 0)); show("times"); S(mount(0, "b", 0, MS_REMOUNT | MS_BIND | MS_STRICTATIME, 0)); show("strict");
	S(mount(0, "b", 0, MS_REMOUNT | MS_BIND | MS_NODIRATIME, 0)); show("nodiratime"); S(mount(0, "b", 0, MS_REMOUNT | MS_BIND | 256, 0)); show("nosymfollow");
	S(mount("a", "c", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)); show("all"); S(mount("a", "c", "nosuch", 0, 0)); S(mount("a", "c", 0, 0, 0));
	S(mount("a", "c", "", 0, 0)); S(mount("a", BAD, "tmpfs", 0, 0)); S(mount("a", "c", BAD, 0, 0)); S(mount(BAD, "c", "tmpfs", 0, 0)); S(mount("a", "c", "tmpfs", 0, BAD));
	S(mount("a", "c", "tmpfs", 0x80000000, 0)); S(mount("a", "", "tmpfs", 0, 0)); S(mount("a", "nosuch", "tmpfs", 0, 0)); S(mount("a", "file", "tmpfs", 0, 0));
	S(mount("nosuch", "c", 0, MS_BIND, 0)); S(mount("file", "c", 0, MS_BIND, 0)); S(mount("a", "file", 0, MS_BIND, 0)); S(mount(0, "c", 0, MS_BIND, 0));
	clean();
}

static void spaces(void)
{
	puts("== namespaces");
	int go[2], back[2]; char x = 0; pipe(go); pipe(back);
	S(tmp("a")); dirs("a"); S(kind("a", MS_SHARED)); S(tmp("b")); dirs("b"); S(kind("b", MS_PRIVATE));
	pid_t c = fork();
	if (!c) {
		S(unshare(CLONE_NEWNS)); known = 0; show("copied"); write(back[1], &x, 1); read(go[0], &x, 1); show("mounted outside");
		S(tmp("a/b")); S(tmp("b/b")); write(back[1], &x, 1); read(go[0], &x, 1); show("unmounted outside"); _exit(0);
	}
	read(back[0], &x, 1); S(tmp("a/a")); S(tmp("b/a")); write(go[1], &x, 1); read(back[0], &x, 1); show("mounted inside");
	S(umount("a/b")); S(umount("b/b")); S(umount("a/a")); write(go[1], &x, 1); waitpid(c, 0, 0);
	c = fork();
	if (!c) {
		S(unshare(CLONE_NEWNS | CLONE_NEWUSER)); known = 0; show("of another user"); write(back[1], &x, 1); read(go[0], &x, 1); show("mounted outside");
		S(umount("a/a")); S(umount("a")); S(umount2("a", MNT_DETACH)); S(umount("b/a")); S(tmp("a/c")); S(umount("a/c"));
		S(mount("a", "c", 0, MS_BIND, 0)); S(mount("a", "c", 0, MS_BIND | MS_REC, 0)); S(mount("a/a", "d", 0, MS_MOVE, 0)); S(umount2("c", MNT_DETACH));
		S(mount(0, "b", 0, MS_REMOUNT | MS_BIND, 0)); S(mount(0, "b", 0, MS_REMOUNT | MS_RDONLY, 0)); S(mount(0, "a", 0, MS_SHARED, 0));
		S(mount("p", "c", "proc", 0, 0)); S(mount("p", "c", "tmpfs", 0, 0)); S(mount("p", "c", "ramfs", 0, 0)); S(mount("p", "c", "devpts", 0, 0)); show("made");
		S(pivot("c", "c")); S(chroot("a")); _exit(0);
	}
	read(back[0], &x, 1); S(mount("t", "a/a", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)); write(go[1], &x, 1); waitpid(c, 0, 0);
	S(umount("a/a")); c = fork();
	if (!c) {
		S(mount(0, "b", 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_NOATIME, 0)); S(unshare(CLONE_NEWNS | CLONE_NEWUSER));
		S(mount(0, "b", 0, MS_REMOUNT | MS_BIND, 0)); S(mount(0, "b", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
		S(mount(0, "b", 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC, 0));
		S(mount(0, "b", 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_STRICTATIME, 0));
		S(mount(0, "b", 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_NOATIME, 0)); _exit(0);
	}
	waitpid(c, 0, 0); clean();
}

static void watched(void)
{
	puts("== polling mountinfo");
	int f = open("/proc/self/mountinfo", O_RDONLY); struct pollfd p = { f, POLLPRI | POLLIN, 0 }; char b[4096];
	while (read(f, b, sizeof b) > 0);
	T(poll(&p, 1, 0)); printf("%x\n", p.revents); S(tmp("a")); T(poll(&p, 1, 0)); printf("%x\n", p.revents); T(poll(&p, 1, 0)); printf("%x\n", p.revents);
	S(umount("a")); T(poll(&p, 1, 0)); printf("%x\n", p.revents); close(f);
}

int main(void)
{
	begin();
	unshare(CLONE_NEWNS);
	mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
	if (!getcwd(top, sizeof top))
		return 1;
	strcat(top, "/");
	char here[] = ".";
	mount(here, here, 0, MS_BIND, 0); chdir(top);
	dirs(".");
	groups_of_peers(); moves(); goes(); pivots(); flags(); spaces(); watched();
	return 0;
}
