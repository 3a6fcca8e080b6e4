/* epoll in its modes (level, edge, one shot), nested and refused; over pipes, eventfds, timers,
 * signals, processes and sockets. Prints the same wherever it runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static int ep;
static struct epoll_event got[8];

static int ctl(int op, int fd, uint32_t events)
{
    struct epoll_event event = {events, {.fd = fd}};
    return epoll_ctl(ep, op, fd, &event) < 0 ? errno : 0;
}

static int ready(int ms)
{
    return epoll_wait(ep, got, 8, ms);
}

static void modes(void)
{
    int p[2];
    char buf[8];
    if (pipe(p) < 0)
        return;
    printf("add %d, again %d\n", ctl(EPOLL_CTL_ADD, p[0], EPOLLIN), ctl(EPOLL_CTL_ADD, p[0], EPOLLIN) == EEXIST);
    printf("empty %d\n", ready(0));
    write(p[1], "ab", 2);
    printf("level %d", ready(100));
    printf(" %d\n", ready(100));
    ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET);
    printf("edge %d", ready(100));
    printf(" %d", ready(5));
    write(p[1], "c", 1);
    printf(" %d\n", ready(100));
    ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT);
    printf("once %d", ready(100));
    printf(" %d\n", ready(5));
    read(p[0], buf, sizeof buf);
    close(p[1]);
    ctl(EPOLL_CTL_MOD, p[0], 0);
    printf("hang-up %d %x\n", ready(100), got[0].events);
    close(p[0]);
    printf("closed %d\n", ready(5));
}

static void refusals(void)
{
    int other = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {EPOLLIN, {0}};
    int file = open("/etc/passwd", O_RDONLY);
    epoll_ctl(other, EPOLL_CTL_ADD, ep, &event);
    printf("loop %d\n", ctl(EPOLL_CTL_ADD, other, EPOLLIN) == ELOOP);
    printf("itself %d\n", ctl(EPOLL_CTL_ADD, ep, EPOLLIN) == EINVAL);
    printf("plain file %d\n", ctl(EPOLL_CTL_ADD, file, EPOLLIN) == EPERM);
    printf("no file %d\n", ctl(EPOLL_CTL_ADD, 999, EPOLLIN) == EBADF);
    printf("not there %d\n", ctl(EPOLL_CTL_DEL, other, 0) == ENOENT);
    close(file);
    close(other);
}

static void sources(void)
{
    uint64_t one = 1, count;
    int event = eventfd(0, EFD_CLOEXEC);
    ctl(EPOLL_CTL_ADD, event, EPOLLIN);
    if (fork() == 0) {
        write(event, &one, sizeof one);
        _exit(0);
    }
    printf("event %d %d\n", ready(1000), got[0].data.fd == event);
    wait(NULL);
    close(event);

    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec in_5ms = {{0, 0}, {0, 5000000}};
    ctl(EPOLL_CTL_ADD, timer, EPOLLIN);
    timerfd_settime(timer, 0, &in_5ms, NULL);
    printf("timer %d", ready(1000));
    ssize_t got_bytes = read(timer, &count, sizeof count);
    printf(" %zd %d", got_bytes, (int)count);
    printf(" %d\n", read(timer, &count, sizeof count) < 0 && errno == EAGAIN);
    close(timer);

    sigset_t set;
    struct signalfd_siginfo info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    ctl(EPOLL_CTL_ADD, signals, EPOLLIN);
    kill(getpid(), SIGUSR1);
    printf("signal %d", ready(1000));
    read(signals, &info, sizeof info);
    printf(" %d %d\n", info.ssi_signo == SIGUSR1, info.ssi_pid == (uint32_t)getpid());
    close(signals);

    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    int process = syscall(SYS_pidfd_open, child, 0);
    ctl(EPOLL_CTL_ADD, process, EPOLLIN);
    printf("process %d", ready(5));
    syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
    printf(" %d\n", ready(1000));
    waitpid(child, NULL, 0);
    close(process);

    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    ctl(EPOLL_CTL_ADD, pair[0], EPOLLIN | EPOLLOUT);
    printf("socket %d %x", ready(5), got[0].events);
    write(pair[1], "x", 1);
    printf(" %d %x\n", ready(5), got[0].events);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    ep = epoll_create1(EPOLL_CLOEXEC);
    modes();
    refusals();
    sources();
    return 0;
}
