/* Signal-driven input and output, and the commands of fcntl and ioctl for it, for every kind of file.
 * Prints the same wherever it runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef FIOSETOWN
#define FIOSETOWN 0x8901
#define SIOCSPGRP 0x8902
#define FIOGETOWN 0x8903
#define SIOCGPGRP 0x8904
#endif

static long try(long r) { return r < 0 ? -errno : r; }

static volatile int count, code, band, number;
static void handler(int sig, siginfo_t *i, void *c)
{
    count++;
    code = i->si_code;
    band = i->si_band;
    number = i->si_fd;
}

static void expect(const char *what, int fd)
{
    printf(" %s: %d", what, count);
    if (count && code != 0x80)
        printf(" code %d band %x fd %d", code, band, number == fd);
    count = 0;
}

static void owner(void)
{
    int p[2];
    pipe(p);
    struct f_owner_ex o = {9, 9};
    int me = getpid();
    printf("none %d %d", fcntl(p[0], F_GETOWN), fcntl(p[0], F_GETSIG));
    printf(" ex %ld %d %d", try(fcntl(p[0], F_GETOWN_EX, &o)), o.type, o.pid);
    printf(", set %ld", try(fcntl(p[0], F_SETOWN, me)));
    printf(" %d", fcntl(p[0], F_GETOWN) == me);
    int parent = getpgrp();
    setpgid(0, 0);
    printf(", group %ld", try(fcntl(p[0], F_SETOWN, -getpgrp())));
    printf(" %d", fcntl(p[0], F_GETOWN) == -getpgrp());
    fcntl(p[0], F_GETOWN_EX, &o);
    printf(" ex %d %d", o.type, o.pid == getpgrp());
    o.type = F_OWNER_TID;
    o.pid = me;
    printf(", thread %ld", try(fcntl(p[0], F_SETOWN_EX, &o)));
    fcntl(p[0], F_GETOWN_EX, &o);
    printf(" %d %d", o.type, o.pid == me);
    o.type = 3;
    printf(", bad %ld", try(fcntl(p[0], F_SETOWN_EX, &o)));
    o.type = F_OWNER_PID;
    o.pid = 1 << 30;
    printf(" %ld %ld %ld", try(fcntl(p[0], F_SETOWN_EX, &o)), try(fcntl(p[0], F_SETOWN, 1 << 30)), try(syscall(SYS_fcntl, p[0], F_SETOWN, 0x80000000L)));
    printf(" %ld", try(fcntl(p[0], F_SETOWN_EX, (void *)8)));
    unsigned ids[2] = {7, 7};
    printf(", users %ld", try(syscall(SYS_fcntl, p[0], 17, ids)));
    printf(" %d %d", ids[0] == getuid(), ids[1] == geteuid());
    printf(", cleared %ld", try(fcntl(p[0], F_SETOWN, 0)));
    printf(" %d\n", fcntl(p[0], F_GETOWN));
    printf("signal %ld", try(fcntl(p[0], F_SETSIG, SIGUSR1)));
    printf(" %d", fcntl(p[0], F_GETSIG) == SIGUSR1);
    printf(" %ld %ld %ld", try(fcntl(p[0], F_SETSIG, 64)), try(fcntl(p[0], F_SETSIG, 65)), try(fcntl(p[0], F_SETSIG, -1)));
    printf(", the other end %d", fcntl(p[1], F_GETSIG));
    int path = open("/", O_PATH);
    printf(", a path %ld %ld\n", try(fcntl(path, F_SETOWN, me)), try(fcntl(path, F_GETSIG)));
    pid_t child = fork();
    if (!child)
        _exit(0);
    fcntl(p[0], F_SETOWN, child);
    waitpid(child, NULL, 0);
    printf("gone %d\n", fcntl(p[0], F_GETOWN));
    close(p[0]);
    close(p[1]);
    close(path);
    (void)parent;
}

static void kinds(void)
{
    int s[2], p[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    pipe(p);
    struct {
        const char *name;
        int fd;
    } k[] = {{"pipe", p[0]}, {"its end", p[1]}, {"socket", s[0]}, {"inotify", inotify_init()}, {"eventfd", eventfd(0, 0)}, {"timerfd", timerfd_create(1, 0)}, {"epoll", epoll_create1(0)}, {"file", open("/proc/self/exe", O_RDONLY)}, {"directory", open("/", O_RDONLY)}, {"null", open("/dev/null", O_RDWR)}};
    for (unsigned i = 0; i < sizeof k / sizeof *k; i++) {
        int fd = k[i].fd, on = 1, off = 0, me = getpid(), got = -1;
        printf("%s:", k[i].name);
        printf(" FIOASYNC %ld %d", try(ioctl(fd, FIOASYNC, &on)), !!(fcntl(fd, F_GETFL) & O_ASYNC));
        printf(" off %ld %d", try(ioctl(fd, FIOASYNC, &off)), !!(fcntl(fd, F_GETFL) & O_ASYNC));
        printf(" F_SETFL %ld %d", try(fcntl(fd, F_SETFL, O_ASYNC)), !!(fcntl(fd, F_GETFL) & O_ASYNC));
        printf(" again %ld", try(fcntl(fd, F_SETFL, 0)));
        printf(" bad %ld", try(ioctl(fd, FIOASYNC, (void *)8)));
        printf(" owner %ld %ld", try(ioctl(fd, FIOSETOWN, &me)), try(ioctl(fd, SIOCSPGRP, &me)));
        printf(" %ld", try(ioctl(fd, SIOCGPGRP, &got)));
        printf(" %d", got == me);
        printf(" FIONBIO %ld %d", try(ioctl(fd, FIONBIO, &on)), !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
        ioctl(fd, FIONBIO, &off);
        printf(" FIOCLEX %ld %d", try(ioctl(fd, FIOCLEX)), fcntl(fd, F_GETFD));
        printf(" %ld %d\n", try(ioctl(fd, FIONCLEX)), fcntl(fd, F_GETFD));
        close(fd);
    }
    close(s[1]);
}

static void signals(void)
{
    struct sigaction a = {0};
    a.sa_sigaction = handler;
    a.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGIO, &a, NULL);
    sigaction(SIGRTMIN, &a, NULL);
    int p[2], s[2];
    char buf[100];
    pipe(p);
    fcntl(p[0], F_SETOWN, getpid());
    fcntl(p[0], F_SETFL, O_ASYNC);
    printf("pipe");
    write(p[1], "x", 1);
    expect("written", p[0]);
    write(p[1], "y", 1);
    expect("again", p[0]);
    read(p[0], buf, 100);
    expect("read", p[0]);
    fcntl(p[0], F_SETSIG, SIGRTMIN);
    write(p[1], "z", 1);
    expect("by another signal", p[0]);
    fcntl(p[0], F_SETFL, 0);
    write(p[1], "z", 1);
    expect("off", p[0]);
    fcntl(p[0], F_SETFL, O_ASYNC);
    pid_t child = fork();
    if (!child) {
        close(p[0]);
        write(p[1], "c", 1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    expect("from a child", p[0]);
    fcntl(p[0], F_SETOWN, 0);
    write(p[1], "z", 1);
    expect("no owner", p[0]);
    printf("\n");
    close(p[0]);
    close(p[1]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    int on = 1, me = getpid();
    ioctl(s[0], FIOASYNC, &on);
    ioctl(s[0], FIOSETOWN, &me);
    fcntl(s[0], F_SETSIG, SIGRTMIN);
    printf("socket");
    count = 0;
    write(s[1], "abc", 3);
    expect("written", s[0]);
    int twin = dup(s[0]);
    close(s[0]);
    write(s[1], "abc", 3);
    expect("through a copy", s[0]);
    close(twin);
    printf("\n");
    close(s[1]);
    char dir[] = "/tmp/ownersXXXXXX";
    mkdtemp(dir);
    int in = inotify_init();
    inotify_add_watch(in, dir, IN_CREATE);
    fcntl(in, F_SETOWN, getpid());
    fcntl(in, F_SETSIG, SIGRTMIN);
    fcntl(in, F_SETFL, O_ASYNC);
    chdir(dir);
    close(open("f", O_CREAT | O_WRONLY, 0600));
    printf("inotify");
    expect("made", in);
    int n = -1;
    ioctl(in, FIONREAD, &n);
    printf(" to read %d\n", n);
    unlink("f");
    chdir("/");
    rmdir(dir);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    owner();
    kinds();
    signals();
    return 0;
}
