/* Files that cannot be changed, or only be appended to (chattr(1)). */
#include "check.h"
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

static void mark(const char *path, int flags)
{
	int fd = open(path, O_RDONLY);
	S(ioctl(fd, FS_IOC_SETFLAGS, &flags));
	close(fd);
}

static void tell(const char *path)
{
	int fd = open(path, O_RDONLY), flags = 0;
	unsigned all[64] = { 0 };
	syscall(SYS_statx, AT_FDCWD, path, 0, 0x7ff, all);
	S(ioctl(fd, FS_IOC_GETFLAGS, &flags));
	printf("%s: flags %x attributes %x\n", path, flags & 0xf0, all[2] & 0x70);
	struct fsxattr x;
	S(ioctl(fd, FS_IOC_FSGETXATTR, &x));
	printf("xflags %x\n", x.fsx_xflags & 0xd8);
	close(fd);
}

static void try_all(const char *dir, const char *file)
{
	char in[100];
	sprintf(in, "%s/new", dir);
	printf("-- %s %s\n", dir, file);
	S(open(file, O_RDONLY)), S(open(file, O_WRONLY)), S(open(file, O_RDWR));
	S(open(file, O_WRONLY | O_APPEND)), S(open(file, O_WRONLY | O_APPEND | O_TRUNC)), S(open(file, O_RDONLY | O_TRUNC));
	int fd = open(file, O_WRONLY | O_APPEND);
	S(write(fd, "x", 1));
	S(fcntl(fd, F_SETFL, 0));
	S(ftruncate(fd, 0));
	S(fallocate(fd, 3, 0, 1));
	close(fd);
	S(truncate(file, 0)), S(chmod(file, 0600)), S(chown(file, 1, 1));
	S(utimensat(AT_FDCWD, file, NULL, 0));
	S(utimensat(AT_FDCWD, file, (struct timespec[2]){ { 1, 0 }, { 1, 0 } }, 0));
	S(link(file, "other")), S(rename(file, "moved")), S(unlink(file));
	S(setxattr(file, "user.a", "b", 1, 0)), S(removexattr(file, "user.a"));
	S(access(file, W_OK)), S(access(file, R_OK));
	S(open(in, O_CREAT | O_RDWR, 0644)), S(mkdir(in, 0755)), S(symlink("x", in)), S(mkfifo(in, 0644));
	S(rename("spare", in)), S(rename(in, "spare")), S(link("spare", in));
	unlink(in), rmdir(in), unlink("other");
	if (access("moved", F_OK) == 0)
		rename("moved", file);
	if (access(file, F_OK))
		close(creat(file, 0644));
	if (access("spare", F_OK))
		close(creat("spare", 0644));
}

int main(void)
{
	begin();
	mkdir("d", 0755);
	close(creat("f", 0644)), close(creat("spare", 0644)), close(creat("d/x", 0644));
	tell("f"), tell("d");
	mark("f", FS_IMMUTABLE_FL);
	tell("f");
	try_all("d", "f");
	mark("f", FS_APPEND_FL);
	tell("f");
	try_all("d", "f");
	mark("f", FS_NODUMP_FL | FS_NOATIME_FL);
	tell("f");
	mark("f", 0);
	mark("d", FS_IMMUTABLE_FL);
	tell("d");
	try_all("d", "d/x");
	mark("d", FS_APPEND_FL);
	try_all("d", "d/x");
	S(rmdir("d"));
	mark("d", 0);
	int fd = open("f", O_RDONLY), path = open("f", O_PATH), flags = FS_IMMUTABLE_FL;
	S(ioctl(fd, FS_IOC_SETFLAGS, BAD)), S(ioctl(fd, FS_IOC_GETFLAGS, BAD)), S(ioctl(path, FS_IOC_GETFLAGS, &flags));
	AS(65534, S(ioctl(fd, FS_IOC_SETFLAGS, &flags)));
	chown("f", 65534, -1);
	AS(65534, S(ioctl(fd, FS_IOC_SETFLAGS, &flags)); flags = FS_NODUMP_FL; S(ioctl(fd, FS_IOC_SETFLAGS, &flags)));
	tell("f");
	struct fsxattr x = { .fsx_xflags = FS_XFLAG_APPEND };
	S(ioctl(fd, FS_IOC_FSSETXATTR, &x));
	tell("f");
	uint64_t a[4] = { 9, 9, 9, 0 };
	S(syscall(468, AT_FDCWD, "f", a, 24, 0));
	printf("%x\n", (unsigned)a[0] & 0xd8);
	S(syscall(468, AT_FDCWD, "f", a, 23, 0)), S(syscall(468, AT_FDCWD, "f", a, 32, 0));
	S(syscall(468, AT_FDCWD, "f", a, 5000, 0)), S(syscall(468, AT_FDCWD, "f", a, 24, 1));
	S(syscall(468, AT_FDCWD, "no", a, 24, 0)), S(syscall(468, AT_FDCWD, "f", BAD, 24, 0));
	S(syscall(468, fd, "", a, 24, AT_EMPTY_PATH)), S(syscall(468, -1, "f", a, 24, 0));
	a[0] = a[1] = a[2] = a[3] = 0;
	S(syscall(469, AT_FDCWD, "f", a, 23, 0)), S(syscall(469, AT_FDCWD, "f", a, 24, 1));
	S(syscall(469, AT_FDCWD, "f", BAD, 24, 0)), S(syscall(469, AT_FDCWD, "f", a, 24, 0));
	a[3] = 1;
	S(syscall(469, AT_FDCWD, "f", a, 32, 0));
	tell("f");
	return 0;
}
