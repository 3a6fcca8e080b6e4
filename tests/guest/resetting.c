/* Sets the wall clock, which only a sandbox may let a program do: everyone who waits for a time of it, or to
 * hear of its being set, is told. Natively it does nothing: it must be told that it is inside. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static void *sleeper(void *arg)
{
    struct timespec t = {2000000100, 0};
    printf("sleep %d\n", clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL));
    return NULL;
}

static int error_of(long r) { return r < 0 ? errno : 0; }

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "inside"))
        return 1;
    setvbuf(stdout, NULL, _IONBF, 0);
    struct timespec t = {1900000000, 0};
    printf("set %d", clock_settime(CLOCK_REALTIME, &t));
    struct timeval v;
    gettimeofday(&v, NULL);
    printf(" %d %d\n", time(NULL) - 1900000000 < 9, v.tv_sec - 1900000000 < 9);
    int f = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK), g = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
    struct itimerspec s = {{0, 0}, {2000000050, 0}};
    printf("timers %d", timerfd_settime(f, TFD_TIMER_ABSTIME, &s, NULL));
    printf(" %d", timerfd_settime(g, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &s, NULL));
    pthread_t p;
    pthread_create(&p, NULL, sleeper, NULL);
    usleep(100000);
    uint64_t n;
    printf(", before %d", error_of(read(f, &n, 8)));
    printf(" %d\n", error_of(read(g, &n, 8)));
    t.tv_sec = 2000000200;
    clock_settime(CLOCK_REALTIME, &t);
    pthread_join(p, NULL);
    struct pollfd q = {f, POLLIN, 0};
    printf("runs out %d", poll(&q, 1, 1000));
    printf(" %d", error_of(read(f, &n, 8)));
    q.fd = g;
    printf(", canceled %d", poll(&q, 1, 1000));
    printf(" %d", error_of(read(g, &n, 8)));
    printf(" %d\n", error_of(read(g, &n, 8)));
    struct timex x = {.modes = ADJ_SETOFFSET, .time = {-1000, 0}};
    printf("moved %d", adjtimex(&x) >= 0);
    printf(" %d\n", time(NULL) - 1999999200 < 9);
    x = (struct timex){.modes = ADJ_FREQUENCY, .freq = 100};
    printf("speed %d\n", error_of(adjtimex(&x)));
    x = (struct timex){.modes = ADJ_STATUS, .status = 0};
    printf("synchronised %d\n", adjtimex(&x));
    t.tv_sec = 1;
    printf("too early %d\n", error_of(clock_settime(CLOCK_REALTIME, &t)));
    struct timezone z = {60, 0};
    printf("zone %d", settimeofday(NULL, &z));
    z.tz_minuteswest = 0;
    gettimeofday(&v, &z);
    printf(" %d", z.tz_minuteswest);
    z.tz_minuteswest = INT_MIN;
    printf(" %d\n", error_of(settimeofday(NULL, &z)));
    v = (struct timeval){INT64_MAX / 1000000000, 0};
    printf("too late %d", error_of(settimeofday(&v, NULL)));
    t.tv_sec = INT64_MAX;
    printf(" %d", error_of(clock_settime(CLOCK_REALTIME, &t)));
    x = (struct timex){.modes = ADJ_SETOFFSET, .time = {INT64_MAX / 1000000000 - time(NULL) - 10, 0}};
    printf(" %d", error_of(adjtimex(&x)));
    x.time.tv_sec = INT64_MIN;
    printf(" %d\n", error_of(adjtimex(&x)));
    return 0;
}
