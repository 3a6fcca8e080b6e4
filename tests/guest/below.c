/* Files that were there before the program came: argv[1] is a directory of them, made anew for every
 * run. In a sandbox they lie below an overlay. Every line is a call, its result and its error. Runs as
 * root. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define T(e) do { errno = 0; long r_ = (long)(e); \
	printf("%d: %s = %ld %s\n", __LINE__, #e, r_ < 0 ? -1 : r_, r_ < 0 ? strerrorname_np(errno) : ""); } while (0)
#define OPENS(...) (close_if(open(__VA_ARGS__)))

static char buf[8192];

static int close_if(int fd)
{
	if (fd < 0)
		return -1;
	int saved = errno;
	close(fd);
	errno = saved;
	return 0;
}

/* What a descriptor reads at a place. */
static void show(const char *what, int fd, off_t at)
{
	memset(buf, 0, sizeof buf);
	ssize_t n = pread(fd, buf, 40, at);
	printf("%s: %zd [%s]\n", what, n, n > 0 ? buf : "");
}

static long size_of(const char *name)
{
	struct stat st = {0};
	return stat(name, &st) < 0 ? -1 : st.st_size;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *what, DIR *d)
{
	char *names[64];
	int n = 0;
	struct dirent *e;
	while ((e = readdir(d)) && n < 64)
		names[n++] = strdup(e->d_name);
	qsort(names, n, sizeof *names, by_name);
	printf("%s:", what);
	for (int i = 0; i < n; i++) {
		printf(" %s", names[i]);
		free(names[i]);
	}
	printf("\n");
}

static void errors(void)
{
	T(OPENS("plain", O_RDONLY | O_CREAT | O_EXCL, 0600));
	T(OPENS("plain", O_RDONLY | O_DIRECTORY));
	T(OPENS("plain/", O_RDONLY));
	T(OPENS("plain/x", O_RDONLY | O_CREAT, 0600));
	T(OPENS("sub", O_WRONLY));
	T(OPENS("sub", O_RDONLY | O_TRUNC));
	T(OPENS("sub", O_RDONLY | O_CREAT, 0600));
	T(OPENS("sub", O_RDONLY | O_CREAT | O_EXCL, 0600));
	T(OPENS("new/", O_RDONLY | O_CREAT, 0600));
	T(OPENS("link", O_RDONLY | O_NOFOLLOW));
	T(OPENS("link", O_RDONLY | O_CREAT | O_EXCL, 0600));
	T(OPENS("link", O_PATH | O_NOFOLLOW));
	T(OPENS("link", O_RDONLY));
	T(OPENS("loop", O_RDONLY));
	T(OPENS("dangling", O_RDONLY));
	T(OPENS("dangling", O_RDONLY | O_CREAT | O_EXCL, 0600));
	T(OPENS("missing", O_RDONLY));
	T(OPENS("missing", O_RDONLY | O_DIRECTORY));
	T(OPENS("missing/x", O_RDONLY | O_CREAT, 0600));
	fflush(stdout);
	if (fork() == 0) {
		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(1);
		T(OPENS("plain", O_RDONLY));
		T(OPENS("plain", O_WRONLY));
		T(OPENS("plain", O_RDWR));
		T(OPENS("plain", O_RDONLY | O_TRUNC));
		T(OPENS("plain", O_WRONLY | O_TRUNC));
		T(OPENS("plain", O_RDONLY | O_NOATIME));
		T(OPENS("plain", O_RDWR | O_CREAT | O_EXCL, 0600));
		T(OPENS("private", O_RDONLY));
		T(OPENS("private", O_RDONLY | O_DIRECTORY));
		T(OPENS("private", O_PATH));
		T(OPENS("closed/inner", O_RDONLY));
		T(OPENS("closed/missing", O_RDONLY));
		T(OPENS("closed", O_RDONLY | O_DIRECTORY));
		T(OPENS("new", O_RDWR | O_CREAT, 0600));
		T(unlink("plain"));
		T(truncate("plain", 1));
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	T(size_of("plain"));
}

static void reading(void)
{
	int fd = open("plain", O_RDONLY), two = dup(fd), other = open("plain", O_RDONLY);
	memset(buf, 0, sizeof buf);
	T(read(fd, buf, 4));
	T(lseek(two, 0, SEEK_CUR));
	T(lseek(other, 0, SEEK_CUR));
	fflush(stdout);
	if (fork() == 0) {
		T(read(fd, buf, 3));
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	T(lseek(two, 0, SEEK_CUR));
	T(lseek(fd, 0, SEEK_END));
	T(read(fd, buf, 10));
	T(lseek(fd, -4, SEEK_END));
	T(read(fd, buf, 100));
	T(lseek(fd, 1, SEEK_DATA));
	T(lseek(fd, 1, SEEK_HOLE));
	T(lseek(fd, 1000, SEEK_DATA));
	T(pread(fd, buf, 10, 1000));
	T(pread(fd, buf, 10, -1));
	T(write(fd, "x", 1));
	T(pread(fd, (void *)16, 10, 0));
	T(pread(fd, (void *)16, 0, 0));
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(page + 4096, 4096);
	T(pread(fd, page + 4090, 20, 0));
	T(pread(fd, page + 4096, 20, 0));
	int out = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
	off_t at = 2;
	T(sendfile(out, fd, &at, 5));
	show("copy", out, 0);
	close(out);
	T(unlink("copy"));
	close(fd);
	T(lseek(two, 0, SEEK_CUR) >= 0);
	close(two);
	close(other);
	T(read(fd, buf, 1));
}

static void copying_up(void)
{
	int ro = open("grow", O_RDONLY), ro2 = open("grow", O_RDONLY), rw = open("grow", O_RDWR);
	show("ro", ro, 0);
	T(pwrite(rw, "WRITTEN", 7, 2));
	show("ro", ro, 0);
	show("ro2", ro2, 0);
	int app = open("grow", O_WRONLY | O_APPEND);
	T(write(app, "end", 3));
	T(lseek(app, 0, SEEK_CUR));
	T(pwrite(app, "more", 4, 0));
	T(size_of("grow"));
	show("ro", ro, 20);
	T(ftruncate(rw, 5));
	T(size_of("grow"));
	show("ro", ro, 0);
	T(ftruncate(rw, 12));
	T(pread(ro, buf, 40, 0));
	T(memcmp(buf + 5, "\0\0\0\0\0\0\0", 7));
	T(OPENS("grow", O_WRONLY | O_TRUNC));
	T(size_of("grow"));
	T(pread(ro, buf, 40, 0));
	T(write(rw, "again", 5));
	show("ro2", ro2, 0);
	close(ro), close(ro2), close(rw), close(app);

	/* A reader that opened before the file is cut, and one while it is. */
	int before = open("cut", O_RDONLY);
	T(OPENS("cut", O_RDONLY | O_TRUNC));
	T(pread(before, buf, 10, 0));
	T(size_of("cut"));
	close(before);
	T(truncate("cut2", 3));
	T(size_of("cut2"));
	int cut = open("cut2", O_RDONLY);
	show("cut2", cut, 0);
	close(cut);
}

static void names(void)
{
	struct stat a = {0}, b = {0};
	int fd = open("doomed", O_RDWR);
	T(fstat(fd, &a));
	T(unlink("doomed"));
	T(OPENS("doomed", O_RDONLY));
	show("unlinked", fd, 0);
	T(pwrite(fd, "ALIVE", 5, 0));
	show("unlinked", fd, 0);
	T(fstat(fd, &b));
	T(b.st_nlink);
	int again = open("doomed", O_RDWR | O_CREAT | O_EXCL, 0600);
	T(pread(again, buf, 10, 0));
	T(pwrite(again, "new", 3, 0));
	show("unlinked", fd, 0);
	close(fd), close(again);

	int target = open("target", O_RDONLY), source = open("source", O_RDONLY);
	T(rename("source", "target"));
	show("target", target, 0);
	show("source", source, 0);
	T(OPENS("source", O_RDONLY));
	int now = open("target", O_RDONLY);
	show("now", now, 0);
	T(fstat(target, &a));
	T(a.st_nlink);
	close(target), close(source), close(now);

	for (int i = 0; i < 3; i++) {
		T(OPENS("flicker", O_RDONLY));
		T(OPENS("flicker", O_WRONLY | O_CREAT | O_EXCL, 0600));
		T(OPENS("flicker", O_RDONLY));
		T(unlink("flicker"));
	}
	T(OPENS("sub/none", O_RDONLY));
	T(rename("target", "sub/none"));
	T(size_of("sub/none"));
	T(rmdir("sub"));

	/* A directory that was moved still has what lay in it. */
	T(rename("sub", "moved"));
	T(size_of("moved/inner"));
	T(size_of("sub/inner"));
	T(mkdir("sub", 0700));
	T(size_of("sub/inner"));
}

static void listing(void)
{
	DIR *d = opendir("many");
	int n = 0;
	struct dirent *e;
	while (n < 5 && (e = readdir(d)))
		n++;
	T(unlink("many/f07"));
	T(OPENS("many/added", O_WRONLY | O_CREAT, 0600));
	T(rename("many/f01", "many/renamed"));
	rewinddir(d);
	list("many", d);
	closedir(d);
	T(rmdir("many"));
	/* Types and numbers agree with stat. */
	d = opendir("many");
	long wrong = 0;
	while ((e = readdir(d))) {
		struct stat st = {0};
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			wrong++;
		else if (strcmp(e->d_name, "..") && st.st_ino != e->d_ino)
			wrong++;
		else if (IFTODT(st.st_mode) != e->d_type)
			wrong++;
	}
	closedir(d);
	T(wrong);
}

/* More files than a kernel might care to keep open, all at once and one after the other. */
static void crowd(void)
{
	enum { N = 400 };
	static int fds[N];
	char name[32];
	long sum = 0;
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof name, "crowd/%d", i);
		fds[i] = open(name, O_RDONLY);
	}
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < N; i++) {
			memset(buf, 0, 16);
			if (pread(fds[i], buf, 15, 0) > 0 && atoi(buf) == i)
				sum++;
		}
	T(sum);
	for (int i = 0; i < N; i++)
		close(fds[i]);
	sum = 0;
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < N; i++) {
			snprintf(name, sizeof name, "crowd/%d", i);
			int fd = open(name, O_RDONLY);
			memset(buf, 0, 16);
			if (read(fd, buf, 15) > 0 && atoi(buf) == i)
				sum++;
			close(fd);
		}
	T(sum);
}

/* Readers of many files while others write, replace and open the same ones. Returns what went wrong. */
static void *racer(void *arg)
{
	long me = (long)arg, wrong = 0;
	char name[32], block[4096], got[4096];
	memset(block, 'B', sizeof block);
	for (int i = 0; i < 300; i++) {
		int n = (i * 37 + me * 101) % 400;
		snprintf(name, sizeof name, "crowd/%d", n);
		int fd = open(name, O_RDONLY);
		ssize_t len = read(fd, got, 15);
		got[len > 0 ? len : 0] = 0;
		wrong += atoi(got) != n;
		wrong += close(fd) != 0;

		snprintf(name, sizeof name, "race%d", i % 8);
		fd = open(name, me % 4 == 1 ? O_RDWR : O_RDONLY);
		if (fd < 0) {
			wrong++;
			continue;
		}
		if (me % 4 == 1)
			wrong += pwrite(fd, block, sizeof block, 0) != sizeof block;
		wrong += pread(fd, got, sizeof got, 0) != sizeof got;
		for (int k = 0; k < 4096; k++)
			wrong += got[k] != 'A' && got[k] != 'B';
		close(fd);
		if (me % 4 == 2 && i % 5 == 0) {
			char fresh[32];
			snprintf(fresh, sizeof fresh, "fresh%d.%ld", getpid(), me);
			fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600);
			wrong += write(fd, block, sizeof block) != sizeof block;
			close(fd);
			wrong += rename(fresh, name) != 0;
		}
	}
	return (void *)wrong;
}

static void races(void)
{
	fflush(stdout);
	long wrong = 0;
	for (int p = 0; p < 3; p++)
		if (fork() == 0) {
			/* One process with threads, the others without. */
			pthread_t t[3];
			for (long i = 1; p == 0 && i < 4; i++)
				pthread_create(&t[i - 1], NULL, racer, (void *)i);
			long sum = (long)racer((void *)(long)(p + 1));
			for (int i = 0; p == 0 && i < 3; i++) {
				void *more;
				pthread_join(t[i], &more);
				sum += (long)more;
			}
			_exit(sum > 100 ? 100 : sum);
		}
	int status;
	while (wait(&status) > 0)
		wrong += WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
	T(wrong);
}

int main(int argc, char **argv)
{
	if (argc < 2 || chdir(argv[1]) < 0)
		return 2;
	errors();
	reading();
	copying_up();
	names();
	listing();
	crowd();
	races();
	return 0;
}
