/* Directories that tell of changes by signals (F_NOTIFY): which change is told, how often, to whom, and what ends
 * it. Prints the same wherever it runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/notifyXXXXXX";
static int known_fd;

static long notify(int fd, unsigned long mask) { return fcntl(fd, F_NOTIFY, mask) < 0 ? errno : 0; }

/* What is pending of `SIGRTMIN` and SIGIO, without waiting. */
static void told(const char *what)
{
    printf("%s:", what);
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGRTMIN), sigaddset(&set, SIGIO);
    siginfo_t info;
    struct timespec now = {0, 0};
    while (sigtimedwait(&set, &info, &now) > 0)
        if (info.si_signo == SIGIO)
            printf(" io(%d)", info.si_code == SI_KERNEL);
        else
            printf(" rt(%d %lx %s)", info.si_code, info.si_band, info.si_fd == known_fd ? "fd" : "another fd");
    printf("\n");
}

static int watched(unsigned long mask)
{
    int fd = open(dir, O_RDONLY);
    known_fd = fd;
    fcntl(fd, F_SETSIG, SIGRTMIN);
    printf("%lx -> %ld", mask, notify(fd, mask));
    printf(", owner %d\n", fcntl(fd, F_GETOWN) == getpid());
    return fd;
}

/* Everything that can happen to a directory, each told by itself. */
static void changes(unsigned long mask)
{
    int fd = watched(mask | DN_MULTISHOT);
    char c = 0;
    int f = open("file", O_CREAT | O_RDWR, 0600);
    told("create");
    write(f, &c, 1);
    told("write");
    pread(f, &c, 1, 0);
    told("read");
    ftruncate(f, 0);
    told("truncate");
    fchmod(f, 0644);
    told("chmod");
    rename("file", "other");
    told("rename");
    rename("other", "../outside");
    told("move out");
    write(f, &c, 1);
    told("write outside");
    rename("../outside", "file");
    told("move in");
    link("file", "second");
    told("link");
    unlink("second");
    told("unlink one");
    unlink("file");
    told("unlink");
    close(f);
    mkdir("sub", 0700);
    told("mkdir");
    chmod("sub", 0755);
    told("chmod of a directory");
    chmod(".", 0755);
    told("chmod of itself");
    f = open("sub/file", O_CREAT | O_RDWR, 0600);
    told("below");
    close(f), unlink("sub/file"), rmdir("sub");
    told("rmdir");
    close(fd);
    mkdir("sub", 0700), rmdir("sub");
    told("closed");
}

static void ends(void)
{
    int fd = watched(DN_CREATE);
    mkdir("a", 0700), mkdir("b", 0700);
    told("once");
    printf("again %ld", notify(fd, DN_CREATE));
    printf(", more %ld\n", notify(fd, DN_DELETE | DN_MULTISHOT));
    rmdir("a"), mkdir("a", 0700), rmdir("b");
    told("both, many times");
    printf("none %ld\n", notify(fd, 0));
    rmdir("a");
    told("after it");
    notify(fd, DN_CREATE | DN_MULTISHOT);
    int copy = dup(fd);
    mkdir("a", 0700);
    told("before a close");
    close(copy);
    rmdir("a"), mkdir("a", 0700);
    told("a copy closed");
    notify(fd, DN_DELETE | DN_MULTISHOT);
    pid_t child = fork();
    if (child == 0) {
        close(fd);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    rmdir("a");
    told("a child closed");
    fcntl(fd, F_SETSIG, 0);
    mkdir("a", 0700), rmdir("a");
    told("without a signal");
    close(fd);
    rmdir("a");
}

static void errors(void)
{
    int file = open("file", O_CREAT | O_RDWR, 0600), p[2], path = open(dir, O_PATH);
    pipe(p);
    printf("file %ld %ld, pipe %ld, path %ld, closed %ld\n", notify(file, DN_CREATE), notify(file, 0),
           notify(p[0], DN_CREATE), notify(path, DN_CREATE), notify(99, DN_CREATE));
    printf("owner of the file %d\n", fcntl(file, F_GETOWN));
    close(file), close(path), unlink("file");
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGRTMIN), sigaddset(&set, SIGIO);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (!mkdtemp(dir) || chdir(dir))
        return 1;
    unsigned long all[] = {DN_ACCESS, DN_MODIFY, DN_CREATE, DN_DELETE, DN_RENAME, DN_ATTRIB, 0x3f};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        changes(all[i]);
    ends();
    errors();
    return chdir("/") || rmdir(dir);
}
