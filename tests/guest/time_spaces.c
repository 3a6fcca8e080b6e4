/* Time namespaces: offsets, who may set them, and what goes by the clocks that have them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "in_child.h"

#define E(x) ((x) < 0 ? errno : 0)
#define DAY 86400L
#define fork() (fflush(stdout), fork())

static long base[12];

static long vdso(int clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec;
}
static long call(int clock)
{
    struct timespec t;
    syscall(SYS_clock_gettime, clock, &t);
    return t.tv_sec;
}

/* Days ahead of the first look, to the nearest. */
static long days(long now, int clock)
{
    return (now - base[clock] + DAY / 2) / DAY;
}

static long uptime(void)
{
    double up = 0;
    FILE *f = fopen("/proc/uptime", "r");
    if (f && fscanf(f, "%lf", &up) != 1)
        up = -1;
    fclose(f);
    return up;
}

static void clocks(const char *what)
{
    static const int all[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};
    struct sysinfo i;
    printf("%s:", what);
    for (int k = 0; k < 6; k++)
        printf(" %ld/%ld", days(vdso(all[k]), all[k]), days(call(all[k]), all[k]));
    sysinfo(&i);
    printf(" uptime %ld sysinfo %ld time %d\n", days(uptime(), CLOCK_BOOTTIME), days(i.uptime, CLOCK_BOOTTIME), labs(time(NULL) - vdso(CLOCK_REALTIME)) < 2);
}

static int put(const char *text)
{
    int fd = open("/proc/self/timens_offsets", O_WRONLY);
    int e = E(write(fd, text, strlen(text)));
    close(fd);
    return e;
}

static void show(void)
{
    char text[200];
    int fd = open("/proc/self/timens_offsets", O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    printf("%s", text);
    close(fd);
}

static int same(void)
{
    char a[64] = "", b[64] = "";
    if (readlink("/proc/self/ns/time", a, 63) < 0 || readlink("/proc/self/ns/time_for_children", b, 63) < 0)
        return -1;
    return !strcmp(a, b);
}

/* How long something takes until a time that is 50 ms away: 1 for about that. */
static int about(struct timespec *from)
{
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    long ms = (now.tv_sec - from->tv_sec) * 1000 + (now.tv_nsec - from->tv_nsec) / 1000000;
    return ms >= 49 && ms < 5000;
}

static struct timespec soon(int clock, struct timespec *from)
{
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, from);
    syscall(SYS_clock_gettime, clock, &t);
    t.tv_nsec += 50000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

static void sleeps(void)
{
    struct timespec from, t;
    static const int all[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};
    for (int k = 0; k < 3; k++) {
        t = soon(all[k], &from);
        printf("nanosleep %d", clock_nanosleep(all[k], TIMER_ABSTIME, &t, NULL));
        printf(" %d", about(&from));
        int fd = timerfd_create(all[k], 0);
        t = soon(all[k], &from);
        struct itimerspec i = {.it_value = t}, left;
        timerfd_settime(fd, TFD_TIMER_ABSTIME, &i, NULL);
        timerfd_gettime(fd, &left);
        long n = 0;
        printf(" timerfd left %d %zd", left.it_value.tv_sec == 0, read(fd, &n, 8));
        printf(" %d", about(&from));
        timer_t timer;
        struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, NULL);
        timer_create(all[k], &ev, &timer);
        i.it_value = soon(all[k], &from);
        timer_settime(timer, TIMER_ABSTIME, &i, NULL);
        sigwaitinfo(&set, NULL);
        printf(" timer %d", about(&from));
        i.it_value.tv_sec = 1;
        timer_settime(timer, TIMER_ABSTIME, &i, NULL);
        printf(" past %d\n", sigwaitinfo(&set, NULL) == SIGUSR1);
        timer_delete(timer);
        close(fd);
    }
    int word = 0;
    t = soon(CLOCK_MONOTONIC, &from);
    printf("futex %d", E(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &t, NULL, FUTEX_BITSET_MATCH_ANY)));
    printf(" %d", about(&from));
    pthread_cond_t c;
    pthread_condattr_t a;
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&c, &a);
    pthread_mutex_lock(&m);
    t = soon(CLOCK_MONOTONIC, &from);
    printf(" condition %d", pthread_cond_timedwait(&c, &m, &t));
    printf(" %d\n", about(&from));
}

static void offsets(void)
{
    show();
    printf("initial %d\n", put("monotonic 1 0"));
    printf("unshare %d", E(unshare(CLONE_NEWTIME)));
    printf(" same %d\n", same());
    const char *bad[] = {"", "x 1 1", "monotonic", "monotonic 1", "monotonic 1 1000000000", "monotonic 1 -1", "monotonic x 0", "realtime 1 0"};
    for (int i = 0; i < 8; i++)
        printf("%d ", put(bad[i]));
    printf("range %d %d\n", put("monotonic -900000000 0"), put("boottime 9000000000 0"));
    printf("set %d\n", put("monotonic 86400 0\nboottime 864000 5\n"));
    show();
    printf("by number %d\n", put("1 864000 0\n7 1728000 0"));
    show();
    clocks("maker");
    pid_t p = fork();
    if (!p) {
        printf("child same %d set %d\n", same(), put("monotonic 1 0"));
        clocks("child");
        sleeps();
        pid_t q = fork();
        if (!q) {
            clocks("grandchild");
            fflush(stdout);
            execl("/proc/self/exe", "time_spaces", "clocks", NULL);
            _exit(9);
        }
        waitpid(q, NULL, 0);
        printf("further %d\n", E(unshare(CLONE_NEWTIME)));
        show();
        printf("change %d\n", put("monotonic -86400 0"));
        in_child("below", sleeps);
        fflush(stdout);
        _exit(0);
    }
    waitpid(p, NULL, 0);
    printf("frozen %d\n", put("monotonic 1 0"));
    fflush(stdout);
    if (!vfork()) {
        execl("/proc/self/exe", "time_spaces", "clocks", NULL);
        _exit(9);
    }
    wait(NULL);
    clocks("maker still");
}

static void *sleeper(void *a)
{
    pause();
    return a;
}

static void enters(void)
{
    int mine = open("/proc/self/ns/time", O_RDONLY);
    unshare(CLONE_NEWTIME);
    put("boottime 1728000 0\nmonotonic 1728000 0");
    int there = open("/proc/self/ns/time_for_children", O_RDONLY);
    printf("enter %d", E(setns(there, CLONE_NEWTIME)));
    printf(" same %d", same());
    printf(" set %d\n", put("monotonic 1 0"));
    clocks("inside");
    sleeps();
    printf("back %d\n", E(setns(mine, 0)));
    clocks("outside");
    pthread_t t;
    pthread_create(&t, NULL, sleeper, NULL);
    printf("threads %d %d\n", E(setns(there, 0)), E(unshare(CLONE_NEWTIME)));
}

static void cloned(void)
{
    struct clone_args a = {.flags = CLONE_NEWTIME, .exit_signal = SIGCHLD};
    fflush(stdout);
    pid_t p = syscall(SYS_clone3, &a, sizeof a);
    if (!p) {
        printf("clone3 same %d set %d\n", same(), put("monotonic 1 0"));
        fflush(stdout);
        _exit(0);
    }
    printf("ok %d\n", p > 0);
    waitpid(p, NULL, 0);
    if (setresuid(65534, 65534, 65534))
        return;
    printf("nobody %d user %d\n", E(unshare(CLONE_NEWTIME)), E(unshare(CLONE_NEWUSER | CLONE_NEWTIME)));
    printf("set %d\n", put("monotonic 86400 0"));
}

int main(int argc, char **argv)
{
    (void)argv;
    setvbuf(stdout, NULL, _IOFBF, 65536);
    static const int all[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};
    if (argc > 1) {
        const char *from = getenv("SPACES_BASE");
        for (int k = 0; from && k < 12; k++)
            base[k] = strtol(from, (char **)&from, 10);
        clocks("program");
        return 0;
    }
    char text[400] = "";
    for (int k = 0; k < 6; k++)
        base[all[k]] = vdso(all[k]);
    for (int k = 0; k < 12; k++)
        sprintf(text + strlen(text), "%ld ", base[k]);
    setenv("SPACES_BASE", text, 1);
    in_child("offsets", offsets);
    in_child("enters", enters);
    in_child("cloned", cloned);
    return 0;
}
