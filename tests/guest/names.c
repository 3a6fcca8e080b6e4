/* Files and directories. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#undef RENAME_NOREPLACE
#undef RENAME_EXCHANGE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#define renameat2(...) syscall(SYS_renameat2, __VA_ARGS__) /* musl has none */

#define TRY(e) do { errno = 0; long r_ = (e); printf("%s = %ld %s\n", #e, r_, r_ < 0 ? strerror(errno) : ""); } while (0)

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int main(void)
{
	char dir[] = "/tmp/drupe-files-XXXXXX", buf[256];
	struct stat st;
	setvbuf(stdout, NULL, _IONBF, 0);
	umask(022);
	mkdtemp(dir);
	chdir(dir);
	TRY(open("missing", O_RDONLY));
	int fd = open("a", O_CREAT | O_EXCL | O_RDWR, 0666);
	TRY(open("a", O_CREAT | O_EXCL | O_RDWR, 0666));
	fstat(fd, &st);
	printf("mode %o size %ld nlink %ld\n", st.st_mode, (long)st.st_size, (long)st.st_nlink);
	TRY(write(fd, "hello world", 11));
	TRY(lseek(fd, -5, SEEK_END));
	TRY(read(fd, buf, 100));
	printf("%.5s\n", buf);
	TRY(lseek(fd, 100000, SEEK_SET));
	TRY(write(fd, "end", 3));
	fstat(fd, &st);
	printf("sparse size %ld\n", (long)st.st_size);
	TRY(pread(fd, buf, 3, 50000));
	printf("%d%d%d\n", buf[0], buf[1], buf[2]);
	TRY(ftruncate(fd, 5));
	TRY(pread(fd, buf, 100, 0));
	struct iovec v[2] = { { "12", 2 }, { "345", 3 } };
	TRY(pwritev(fd, v, 2, 5));
	int ap = open("a", O_WRONLY | O_APPEND);
	TRY(write(ap, "!", 1));
	TRY(lseek(ap, 0, SEEK_CUR));
	TRY(link("a", "b"));
	TRY(symlink("b", "c"));
	TRY(readlink("c", buf, sizeof buf));
	stat("c", &st);
	printf("through the link: nlink %ld size %ld\n", (long)st.st_nlink, (long)st.st_size);
	lstat("c", &st);
	printf("the link itself: %o %ld\n", st.st_mode, (long)st.st_size);
	TRY(mkdir("d", 0777));
	TRY(mkdir("d", 0777));
	TRY(rename("a", "d/a"));
	TRY(rename("d", "d/e"));
	TRY(rmdir("d"));
	TRY(unlink("d"));
	TRY(open("b/x", O_RDONLY));
	TRY(open("b/", O_RDONLY));
	TRY(open("c", O_RDONLY | O_NOFOLLOW));
	TRY(symlink("loop", "loop"));
	TRY(open("loop", O_RDONLY));
	TRY(unlink("b"));
	TRY(access("c", F_OK));
	TRY(chmod("d/a", 0400));
	stat("d/a", &st);
	printf("mode %o\n", st.st_mode & 07777);
	TRY(unlink("d/a"));
	TRY(pread(fd, buf, 5, 0));
	printf("unlinked but open: %.5s\n", buf);
	fstat(fd, &st);
	printf("nlink %ld\n", (long)st.st_nlink);
	for (int i = 0; i < 50; i++) {
		snprintf(buf, sizeof buf, "d/n%02d", i);
		close(open(buf, O_CREAT | O_WRONLY, 0644));
	}
	struct dirent **list;
	int n = scandir("d", &list, NULL, by_name);
	printf("%d entries, first %s %s, last %s type %d\n", n, list[0]->d_name, list[2]->d_name, list[n - 1]->d_name,
	       list[n - 1]->d_type);
	struct timespec ts[2] = { { 1000, 5 }, { 2000, 7 } };
	TRY(utimensat(AT_FDCWD, "d/n00", ts, 0));
	stat("d/n00", &st);
	printf("times %ld.%ld %ld.%ld\n", (long)st.st_atim.tv_sec, st.st_atim.tv_nsec, (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	TRY(renameat2(AT_FDCWD, "d/n00", AT_FDCWD, "d/n01", RENAME_NOREPLACE));
	TRY(renameat2(AT_FDCWD, "d/n00", AT_FDCWD, "d/n01", RENAME_EXCHANGE));
	stat("d/n01", &st);
	printf("exchanged: %ld\n", (long)st.st_mtim.tv_sec);
	int dfd = open("d", O_RDONLY | O_DIRECTORY);
	TRY(openat(dfd, "n05", O_RDONLY) >= 0);
	TRY(read(dfd, buf, 1));
	TRY(unlinkat(dfd, "n05", 0));
	TRY(faccessat(dfd, "n05", F_OK, 0));
	int tmp = open(".", O_TMPFILE | O_RDWR, 0600);
	TRY(write(tmp, "x", 1));
	printf("cwd ends right: %d\n", strcmp(getcwd(buf, sizeof buf), dir));
	TRY(open("", O_RDONLY));
	memset(buf, 'n', 256);
	buf[255] = 0;
	char longname[300];
	memset(longname, 'n', 299);
	longname[299] = 0;
	TRY(open(longname, O_RDONLY));
	chdir("/");
	snprintf(buf, sizeof buf, "rm -rf %s", dir);
	return system(buf);
}
