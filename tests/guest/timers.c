/* Timers: intervals that nobody can follow, overruns, clocks of CPU time, errors and their order, adjtimex.
 * Prints the same wherever it runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif
#define E(x) ((x) < 0 ? errno : 0)

/* The value that a descriptor gives, -1 for an error. */
static long long value_of(int fd)
{
    uint64_t n = 0;
    return read(fd, &n, 8) == 8 ? (long long)n : -1;
}

static long long now(int clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void descriptors(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec s = {{0, 1}, {0, 1}}, old;
    uint64_t n = 0;
    timerfd_settime(fd, 0, &s, NULL);
    for (int i = 0; i < 50; i++) {
        pid_t p = fork();
        if (!p)
            _exit(0);
        waitpid(p, NULL, 0);
    }
    printf("every ns: many %d", value_of(fd) > 1000000);
    usleep(2000);
    printf(", again %d\n", value_of(fd) > 1000000);
    s = (struct itimerspec){{0, 20000000}, {0, 1000000}};
    timerfd_settime(fd, 0, &s, NULL);
    usleep(70000);
    timerfd_gettime(fd, &old);
    printf("looked at: left %d of %ld", old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 20000000, old.it_interval.tv_nsec);
    n = value_of(fd);
    printf(", read %d", n >= 3 && n < 50);
    s = (struct itimerspec){{0, 0}, {0, 0}};
    timerfd_settime(fd, 0, &s, &old);
    printf(", old interval %ld, empty %d\n", old.it_interval.tv_nsec, E(read(fd, &n, 8)));
    printf("events %x", poll(&(struct pollfd){fd, POLLIN, 0}, 1, 0));
    n = 7;
    printf(" ticks %d", E(ioctl(fd, TFD_IOC_SET_TICKS, &n)));
    struct pollfd p = {fd, POLLIN | POLLRDNORM | POLLOUT, 0};
    printf(" %d", poll(&p, 1, 0));
    printf(" %x read %lld", p.revents, value_of(fd));
    n = 0;
    printf(" none %d", E(ioctl(fd, TFD_IOC_SET_TICKS, &n)));
    printf(" short %d write %d", E(read(fd, &n, 7)), E(write(fd, &n, 8)));
    s = (struct itimerspec){{0, 0}, {0, 1}};
    timerfd_settime(fd, TFD_TIMER_ABSTIME, &s, NULL);
    usleep(2000);
    printf(" long ago %lld\n", value_of(fd));
    // Looked at in the moment in which it runs out: no expiry is lost.
    int lost = 0;
    for (int i = 0; i < 3000 && !lost; i++) {
        s = (struct itimerspec){{0, 0}, {0, 1000 + i % 40 * 1000}};
        timerfd_settime(fd, 0, &s, NULL);
        time_t start = time(NULL);
        while (read(fd, &n, 8) < 0 && !lost)
            lost = time(NULL) - start > 2;
    }
    printf("lost %d\n", lost);
    struct itimerspec bad[] = {{{0, 0}, {0, 1000000000}}, {{0, -1}, {0, 0}}, {{-1, 0}, {0, 1}}, {{0, 0}, {-1, 0}}};
    printf("bad times");
    for (int i = 0; i < 4; i++)
        printf(" %d", E(timerfd_settime(-1, 0, &bad[i], NULL)));
    printf(", flags %d %d, pointers %d %d", E(timerfd_settime(-1, 8, &s, NULL)), E(timerfd_settime(fd, 8, NULL, NULL)), E(timerfd_settime(-1, 0, NULL, NULL)),
           E(timerfd_gettime(fd, NULL)));
    printf(", files %d %d %d %d", E(timerfd_settime(-1, 0, &s, NULL)), E(timerfd_settime(0, 0, &s, NULL)), E(timerfd_gettime(-1, &s)), E(timerfd_gettime(0, &s)));
    printf(", clocks");
    for (int c = -1; c < 13; c++)
        printf(" %d", c == 8 || c == 9 ? 0 : E(timerfd_create(c, 0)));
    printf(", flags %d\n", E(timerfd_create(1, 1)));
    close(fd);
}

static volatile int count, overruns, code, value;
static void handler(int sig, siginfo_t *i, void *c)
{
    count++;
    overruns = i->si_overrun;
    code = i->si_code;
    value = i->si_value.sival_int;
}

static void signals(void)
{
    struct sigaction a = {0};
    a.sa_sigaction = handler;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGRTMIN, &a, NULL);
    struct sigevent e = {0};
    e.sigev_signo = SIGUSR1;
    e.sigev_value.sival_int = 42;
    timer_t t, u;
    sigset_t set, none;
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    printf("create %d %d", timer_create(CLOCK_MONOTONIC, &e, &t), timer_create(CLOCK_REALTIME, &e, &u));
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct itimerspec s = {{0, 1000000}, {0, 1000000}}, old;
    timer_settime(t, 0, &s, NULL);
    usleep(50000);
    printf(", before %d", timer_getoverrun(t));
    timer_gettime(t, &old);
    printf(", left %d", old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 1000000);
    sigsuspend(&none);
    printf(", then %d: code %d value %d, overruns %d same %d\n", count >= 1, code, value, overruns >= 20, overruns == timer_getoverrun(t));
    s = (struct itimerspec){{0, 1}, {0, 1}};
    timer_settime(t, 0, &s, NULL);
    struct timespec wait = {1, 0};
    siginfo_t i;
    int got = 0, many = 0;
    for (int k = 0; k < 20; k++) {
        got += sigtimedwait(&set, &i, &wait) == SIGUSR1;
        many += i.si_overrun > 100;
    }
    printf("every ns: %d, overruns %d", got, many > 10);
    s = (struct itimerspec){{0, 0}, {0, 0}};
    timer_settime(t, 0, &s, &old);
    wait = (struct timespec){0, 0};
    printf(", stopped %d\n", sigtimedwait(&set, &i, &wait) < 0);
    /* A signal that waits when its timer is set or deleted is gone. */
    s = (struct itimerspec){{0, 0}, {0, 1000}};
    timer_settime(t, 0, &s, NULL);
    timer_settime(u, 0, &s, NULL);
    usleep(5000);
    printf("two timers");
    for (int k = 0; k < 3; k++)
        printf(" %d", sigtimedwait(&set, &i, &wait) == SIGUSR1);
    timer_settime(t, 0, &s, NULL);
    usleep(5000);
    printf(", deleted %d", timer_delete(t));
    printf(" %d, again %d", sigtimedwait(&set, &i, &wait) == SIGUSR1, E(timer_delete(t)));
    printf(" %d %d\n", E(timer_gettime(t, &old)), E(timer_getoverrun(t)));
    /* Ignored for a while. */
    signal(SIGUSR1, SIG_IGN);
    sigprocmask(SIG_SETMASK, &none, NULL);
    s = (struct itimerspec){{0, 2000000}, {0, 2000000}};
    timer_settime(u, 0, &s, NULL);
    usleep(30000);
    count = 0;
    sigaction(SIGUSR1, &a, NULL);
    for (int k = 0; k < 100 && count < 3; k++)
        usleep(10000);
    printf("after it was ignored %d\n", count >= 3);
    timer_delete(u);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    e.sigev_signo = SIGRTMIN;
    timer_create(CLOCK_BOOTTIME, &e, &t);
    s = (struct itimerspec){{0, 100000}, {0, 100000}};
    timer_settime(t, 0, &s, NULL);
    usleep(20000);
    struct signalfd_siginfo r;
    printf("by signalfd %zd", read(fd, &r, sizeof r));
    printf(": %d %d", (int)r.ssi_signo == SIGRTMIN, (int)r.ssi_int);
    printf(" overruns %d\n", r.ssi_overrun > 20);
    timer_delete(t);
    close(fd);
    e.sigev_notify = SIGEV_NONE;
    timer_create(CLOCK_MONOTONIC, &e, &t);
    s = (struct itimerspec){{0, 0}, {0, 1000}};
    timer_settime(t, 0, &s, NULL);
    usleep(3000);
    timer_gettime(t, &old);
    printf("told nobody: left %ld", old.it_value.tv_nsec);
    s.it_interval.tv_nsec = 50000000;
    timer_settime(t, 0, &s, NULL);
    usleep(3000);
    timer_gettime(t, &old);
    printf(", with an interval %d\n", old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 50000000);
    timer_delete(t);
}

static void alarms(void)
{
    struct sigaction a = {0};
    a.sa_sigaction = handler;
    a.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGALRM, &a, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct itimerval t = {{0, 1000}, {0, 1000}}, old;
    setitimer(ITIMER_REAL, &t, NULL);
    usleep(20000);
    getitimer(ITIMER_REAL, &old);
    printf("alarm waits: %ld %ld", old.it_interval.tv_usec, old.it_value.tv_usec);
    count = 0;
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    for (int k = 0; k < 100 && count < 3; k++)
        usleep(1000);
    printf(", goes on %d code %x", count >= 3, code);
    t = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &t, &old);
    t.it_value.tv_usec = 1000000;
    printf(", bad %d %d %d\n", E(setitimer(0, &t, NULL)), E(setitimer(3, &old, NULL)), E(getitimer(3, &old)));
}

static volatile int stop;
static pid_t spinner;
static void *spin(void *arg)
{
    spinner = syscall(SYS_gettid);
    while (!stop)
        ;
    return NULL;
}

static void cpu(void)
{
    pthread_t t;
    pthread_create(&t, NULL, spin, NULL);
    while (!spinner)
        usleep(1000);
    clockid_t of_thread, of_process, of_parent;
    printf("clocks of a thread %d, a process %d, another %d", pthread_getcpuclockid(t, &of_thread), clock_getcpuclockid(0, &of_process),
           clock_getcpuclockid(getppid(), &of_parent));
    long long a = now(of_thread), b = now(of_process), c = now(CLOCK_THREAD_CPUTIME_ID);
    struct timespec d = {0, 50000000};
    printf(", sleep on the process %d", clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &d, NULL));
    a = now(of_thread) - a, b = now(of_process) - b, c = now(CLOCK_THREAD_CPUTIME_ID) - c;
    printf(", it spent %d, mostly the thread %d, hardly I %d\n", b >= 50000000, a > 40000000 && a <= b, c < 10000000);
    printf("sleep on a thread %d, on myself %d %d", clock_nanosleep(of_thread, 0, &d, NULL), clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &d, NULL),
           clock_nanosleep((~0u << 3) | 6, 0, &d, NULL));
    printf(", on none %d %d\n", clock_nanosleep((~99999999u << 3) | 2, 0, &d, NULL), clock_nanosleep(77, 0, &d, NULL));
    struct sigevent e = {0};
    e.sigev_signo = SIGRTMIN;
    e.sigev_value.sival_int = 3;
    timer_t timers[3];
    clockid_t clocks[3] = {CLOCK_PROCESS_CPUTIME_ID, of_thread, of_process};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    for (int i = 0; i < 3; i++) {
        struct itimerspec s = {{0, 5000000}, {0, 20000000}}, old;
        siginfo_t info;
        struct timespec wait = {5, 0};
        printf("timer %d", timer_create(clocks[i], &e, &timers[i]));
        printf(" %d", timer_settime(timers[i], 0, &s, NULL));
        timer_gettime(timers[i], &old);
        printf(" %d", old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 20000000);
        a = now(clocks[i]);
        printf(" %d", sigtimedwait(&set, &info, &wait) == SIGRTMIN);
        printf(" after %d", now(clocks[i]) - a > 10000000);
        printf(" again %d", sigtimedwait(&set, &info, &wait) == SIGRTMIN);
        printf(" %d\n", info.si_code);
        timer_delete(timers[i]);
    }
    stop = 1;
    pthread_join(t, NULL);
    struct timespec r;
    for (int k = 0; k < 1000 && clock_gettime(of_thread, &r) == 0; k++)
        usleep(1000);
    printf("gone %d, its own way %d %d %d\n", E(clock_gettime(of_thread, &r)), E(clock_gettime((~0u << 3) | 0, &r)), E(clock_gettime((~0u << 3) | 5, &r)),
           E(clock_gettime((~0u << 3) | 3, &r)));
}

static void errors(void)
{
    timer_t t;
    struct sigevent e = {0};
    struct itimerspec s = {{0, 0}, {0, 0}};
    printf("create");
    for (int c = 0; c < 13; c++)
        printf(" %d", c == 8 || c == 9 ? 0 : E(timer_create(c, NULL, &t)));
    e.sigev_signo = 65;
    printf(", events %d", E(timer_create(1, &e, &t)));
    e.sigev_signo = SIGUSR1;
    e.sigev_notify = 3;
    printf(" %d", E(timer_create(1, &e, &t)));
    e.sigev_notify = SIGEV_THREAD_ID;
    e._sigev_un._tid = 1 << 30;
    printf(" %d", E(timer_create(1, &e, &t)));
    e._sigev_un._tid = syscall(SYS_gettid);
    printf(" %d", E(timer_create(1, &e, &t)));
    printf(", pointers %ld %ld", E(syscall(SYS_timer_create, 1, 8L, &t)), E(syscall(SYS_timer_create, 1, 0L, 8L)));
    printf(" %ld %ld\n", E(syscall(SYS_timer_settime, 77, 0, 0L, 0L)), E(syscall(SYS_timer_settime, 77, 0, &s, 0L)));
    struct timespec r = {0, 0}, bad = {0, 1000000000};
    printf("resolutions");
    for (int c = 0; c < 13; c++)
        if (c != 8 && c != 9)
            printf(" %d:%d", c, E(clock_getres(c, &r)));
    clock_getres(CLOCK_MONOTONIC, &r);
    printf(" %ld", r.tv_nsec);
    clock_getres(CLOCK_PROCESS_CPUTIME_ID, &r);
    printf(" %ld\n", r.tv_nsec);
    printf("set %d %d %d %d", E(syscall(SYS_clock_settime, 1, &r)), E(syscall(SYS_clock_settime, 0, &bad)), E(syscall(SYS_clock_settime, 0, 8L)),
           E(syscall(SYS_clock_settime, 99, 8L)));
    printf(" %d\n", E(syscall(SYS_settimeofday, &(struct timeval){0, 1000001}, 0L)));
    printf("sleep %d %d %d", E(syscall(SYS_clock_nanosleep, 99, 0, &r, 0L)), E(syscall(SYS_clock_nanosleep, 4, 0, 8L, 0L)), E(syscall(SYS_clock_nanosleep, 1, 0, 8L, 0L)));
    printf(" %d\n", E(syscall(SYS_clock_nanosleep, 1, 0, &bad, 0L)));
    struct timex x = {0};
    int state = adjtimex(&x);
    printf("adjtimex %d, tick %ld, tolerance %ld, time %d", state >= 0 && state <= 5, x.tick, x.tolerance, labs(x.time.tv_sec - time(NULL)) < 2);
    x.modes = ADJ_OFFSET_SS_READ;
    printf(", read %d", adjtimex(&x) >= 0);
    x.modes = 0x8000;
    printf(", bad %d", E(adjtimex(&x)));
    x.modes = 0;
    printf(", clocks %d %d %d %d\n", clock_adjtime(CLOCK_REALTIME, &x) >= 0, E(clock_adjtime(CLOCK_MONOTONIC, &x)), E(clock_adjtime(77, &x)),
           E(syscall(SYS_clock_adjtime, 77, 0L)));
}

static pthread_t spender;
static volatile int by_spender, by_others;

static void profile(int sig)
{
    if (pthread_equal(pthread_self(), spender))
        by_spender++;
    else
        by_others++;
}

static void *spend(void *p)
{
    spender = pthread_self();
    while (by_spender + by_others < 20)
        ;
    return p;
}

/* What CPU time brings about comes to the thread that spends it, though the first one would take it, too. */
static void profiled(void)
{
    struct sigaction sa = {.sa_handler = profile, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, 10000}, {0, 10000}}, none = {0};
    pthread_t t;
    sigaction(SIGPROF, &sa, NULL);
    setitimer(ITIMER_PROF, &every, NULL);
    pthread_create(&t, NULL, spend, NULL);
    pthread_join(t, NULL);
    setitimer(ITIMER_PROF, &none, NULL);
    printf("profiled: %s\n", by_spender > 4 * by_others ? "who spends" : "others");
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    descriptors();
    signals();
    alarms();
    cpu();
    profiled();
    errors();
    return 0;
}
