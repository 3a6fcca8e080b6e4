/* Options of mounts: what is taken, what is told of it, and how they are refused. */
#include "check.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>

/* The flags and options that mountinfo and mounts tell of "m". */
static void told(void)
{
	char line[900], source[200], options[300];
	FILE *f = fopen("/proc/self/mountinfo", "r");
	while (fgets(line, sizeof line, f)) {
		char point[300], rest[300];
		if (sscanf(line, "%*d %*d %*s %*s %299s %299[^\n]", point, rest) == 2 && strlen(point) > 4 && !strcmp(point + strlen(point) - 4, "/w/m"))
			printf("  %s\n", rest);
	}
	fclose(f);
	f = fopen("/proc/self/mounts", "r");
	while (fgets(line, sizeof line, f))
		if (strstr(line, "/w/m "))
			printf("  %s", strstr(line, "/w/m ") + 5);
	fclose(f);
	struct statfs s;
	if (!statfs("m", &s))
		printf("  %lx\n", (long)s.f_flags);
}

static void try(const char *source, const char *type, unsigned long flags, const char *options)
{
	errno = 0;
	int r = mount(source, "m", type, flags, options);
	printf("%s %s %lx %s: %s\n", source ? source : "-", type, flags, options ? options : "-", r ? strerror(errno) : "ok");
	if (!r)
		told(), umount("m");
}

static void again(unsigned long flags, const char *options)
{
	int r = mount("x", "m", "y", MS_REMOUNT | flags, options);
	printf("again %lx %s: %s\n", flags, options, r ? strerror(errno) : "ok"), told();
}

int main(void)
{
	begin();
	unshare(CLONE_NEWNS), mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
	mkdir("m", 0755);
	const char *options[] = {"mpol=bind:0", "mpol=bind", "mpol=prefer", "mpol=prefer:0", "mpol=prefer=static:0", "mpol=interleave", "mpol=interleave=relative", "mpol=local", "mpol=local:0", "mpol=local=static", "mpol=default", "mpol=default:0", "mpol=bind:1", "mpol=bind=:0", "mpol=", "mpol=prefer (many):0", "inode32", "inode64", "inode64=1", "huge=never", "huge=always", "huge=deny", "sync", "sync=1,async", "dirsync,mand", "ro", "ro,rw", "rw,ro", "lazytime=x", "noswap=1", "source=a", "size=1m,,mode=700", "=x,size=1m", "silent", "inode64,huge=advise,mpol=bind:0,noswap,size=1m,mode=700,nr_inodes=50,uid=3"};
	for (unsigned i = 0; i < sizeof options / sizeof *options; i++)
		try("some source", "tmpfs", 0, options[i]);
	try(NULL, "tmpfs", 0, "source=b"), try("", "tmpfs", 0, ""), try(NULL, "tmpfs", 0, NULL), try("s", "ramfs", 0, "foo=1,sync"), try("s", "sysfs", 0, "size=1m"), try("s", "mqueue", 0, "mode=700"), try("s", "proc", 0, "foo=1"), try("s", "nosuch", 0, "source=a");
	unsigned long flags[] = {MS_SYNCHRONOUS, MS_DIRSYNC, 64, 1 << 25, MS_RDONLY | MS_DIRSYNC, MS_NOATIME | MS_STRICTATIME, MS_STRICTATIME, MS_NOATIME, MS_SILENT};
	for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++)
		try("s", "tmpfs", flags[i], "");
	mount("s", "m", "tmpfs", MS_DIRSYNC | MS_SYNCHRONOUS, "");
	again(0, ""), again(MS_SYNCHRONOUS, "lazytime"), again(MS_RDONLY, "rw"), again(0, "ro"), again(0, "rw,huge=always,mpol=local,inode64"), again(0, "mpol=default,huge=never,inode32"), again(0, "bogus"), again(MS_BIND, "bogus"), again(MS_BIND | MS_NOATIME | MS_STRICTATIME, 0);
	umount("m");
	/* Step by step. */
	char b[200];
	int fs = syscall(430, "tmpfs", 0);
	struct { unsigned command; const char *key, *value; int aux; } steps[] = {{0, "silent"}, {1, "size", "x"}, {1, "inode32", "x"}, {0, "size"}, {0, "nosuch"}, {1, "source", "a"}, {1, "source", "b"}, {0, "source"}, {5, "fd"}, {5, "sync"}, {2, "size", "abc", 3}, {2, "source", "abc", 3}, {3, "lazytime", "/", AT_FDCWD}, {1, "huge", "never"}, {0, ""}};
	for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
		int r = syscall(431, fs, steps[i].command, steps[i].key, steps[i].value, steps[i].aux);
		printf("%d %s: %s\n", steps[i].command, steps[i].key, r ? strerror(errno) : "ok");
		S(read(fs, b, 3));
		long n = read(fs, b, sizeof b);
		printf("%.*s", n > 0 ? (int)n : 0, b);
	}
	S(syscall(431, fs, 6, 0, 0, 0));
	int m = syscall(432, fs, 0, 2);
	S(syscall(429, m, "", AT_FDCWD, "m", 4)), told();
	S(syscall(431, fs, 0, "async", 0, 0)), S(syscall(431, fs, 7, 0, 0, 0)), told();
	/* Only mounts that map ids look at the namespace. */
	uint64_t attributes[4] = {2, 0, 0, 77}, mapped[4] = {0x100000, 0, 0, 1UL << 31};
	S(syscall(442, AT_FDCWD, "m", 0, attributes, 32)), S(syscall(442, AT_FDCWD, "m", 0, mapped, 32));
	/* What cannot be bound stays so where it is asked to follow. */
	mount(0, "m", 0, MS_UNBINDABLE, 0), mount(0, "m", 0, MS_SLAVE, 0), told(), mount(0, "m", 0, MS_PRIVATE, 0), told();
	return 0;
}
