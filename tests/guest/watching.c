/* epoll's rules: how deep instances nest, what EPOLLEXCLUSIVE goes with, in which order errors come, when an
 * item ends, in which order events come and whom they wake. Prints the same wherever it runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int ctl(int ep, int op, int fd, uint32_t events)
{
    struct epoll_event event = {events, {.fd = fd}};
    return epoll_ctl(ep, op, fd, &event) < 0 ? errno : 0;
}

static int add(int ep, int fd) { return ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN); }

static void nesting(void)
{
    int e[10];
    for (int i = 0; i < 10; i++)
        e[i] = epoll_create1(0);
    printf("downwards");
    for (int i = 0; i < 7; i++)
        printf(" %d", add(e[i], e[i + 1]));
    printf("\n");
    for (int i = 0; i < 10; i++)
        close(e[i]), e[i] = epoll_create1(0);
    printf("upwards");
    for (int i = 7; i > 0; i--)
        printf(" %d", add(e[i - 1], e[i]));
    printf("\n");
    for (int i = 0; i < 10; i++)
        close(e[i]), e[i] = epoll_create1(0);
    printf("in the middle %d %d %d %d", add(e[0], e[1]), add(e[1], e[2]), add(e[3], e[4]), add(e[4], e[5]));
    printf(" %d", add(e[2], e[3]));
    printf(" %d\n", ctl(e[4], EPOLL_CTL_DEL, e[5], 0) | add(e[2], e[3]));
    printf("loops %d %d %d", add(e[2], e[0]), add(e[1], e[0]), add(e[0], e[0]));
    int twin = dup(e[0]);
    printf(" by a copy %d\n", add(e[0], twin));
    int ev = eventfd(0, EFD_NONBLOCK);
    uint64_t one = 1;
    struct epoll_event got;
    printf("below %d", add(e[3], ev));
    printf(" %d", epoll_wait(e[0], &got, 1, 0));
    write(ev, &one, 8);
    printf(" %d", epoll_wait(e[0], &got, 1, 0));
    printf(" %d", epoll_wait(e[3], &got, 1, 0));
    read(ev, &one, 8);
    printf(" %d %d\n", epoll_wait(e[0], &got, 1, 0), epoll_wait(e[3], &got, 1, 0));
    close(twin);
    for (int i = 0; i < 10; i++)
        close(e[i]);
    /* Many instances that watch one: no chain, but many ways. */
    int root = epoll_create1(0), failed = -1, err = 0;
    static int outer[600];
    for (int i = 0; i < 600; i++)
        outer[i] = epoll_create1(0), add(outer[i], root);
    err = add(root, ev);
    printf("600 ways %d", err);
    for (int i = 0; i < 100; i++)
        close(outer[i]);
    printf(", 500 %d", add(root, ev));
    for (int i = 0; i < 3 && failed < 0; i++) {
        outer[i] = epoll_create1(0);
        if ((err = add(outer[i], root)))
            failed = i;
    }
    printf(", one more %d %d\n", failed, err);
    for (int i = 3; i < 1024; i++)
        close(i);
}

static void rules(void)
{
    int ep = epoll_create1(0), other = epoll_create1(0), p[2];
    if (pipe(p) < 0)
        return;
    uint32_t with[] = {EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLET, EPOLLIN | EPOLLWAKEUP, EPOLLERR | EPOLLHUP, EPOLLRDHUP, EPOLLPRI, EPOLLIN | EPOLLONESHOT, EPOLLRDNORM};
    printf("exclusive");
    for (unsigned i = 0; i < sizeof with / sizeof *with; i++) {
        printf(" %d", ctl(ep, EPOLL_CTL_ADD, p[0], with[i] | EPOLLEXCLUSIVE));
        ctl(ep, EPOLL_CTL_DEL, p[0], 0);
    }
    printf(", an instance %d", ctl(ep, EPOLL_CTL_ADD, other, EPOLLIN | EPOLLEXCLUSIVE));
    printf(", changed to %d", ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN) | ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLEXCLUSIVE));
    ctl(ep, EPOLL_CTL_DEL, p[0], 0);
    ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLEXCLUSIVE);
    printf(" from %d\n", ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN));

    int file = open("/proc/self/exe", O_RDONLY), dir = open("/", O_RDONLY), null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR);
    printf("kinds %d %d %d %d\n", add(ep, file), add(ep, dir), add(ep, null), add(ep, zero));
    errno = 0;
    struct epoll_event e = {EPOLLIN, {0}};
    printf("bad pointer %d", epoll_ctl(-1, EPOLL_CTL_ADD, -1, NULL) < 0 ? errno : 0);
    printf(" not for DEL %d", epoll_ctl(-1, EPOLL_CTL_DEL, -1, NULL) < 0 ? errno : 0);
    printf(" %d %d %d", epoll_ctl(-1, EPOLL_CTL_ADD, p[0], &e) < 0 ? errno : 0, epoll_ctl(ep, EPOLL_CTL_ADD, -1, &e) < 0 ? errno : 0,
           epoll_ctl(p[0], EPOLL_CTL_ADD, file, &e) < 0 ? errno : 0);
    printf(" %d %d %d", epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &e) < 0 ? errno : 0, epoll_ctl(ep, 9, p[1], &e) < 0 ? errno : 0,
           epoll_ctl(ep, 9, p[1], NULL) < 0 ? errno : 0);
    printf(" %d %d %d\n", ctl(ep, EPOLL_CTL_MOD, p[1], 0), ctl(ep, EPOLL_CTL_DEL, p[1], 0), add(ep, p[0]));
    printf("wait %d %d %d", epoll_wait(ep, &e, 0, 0) < 0 ? errno : 0, epoll_wait(ep, &e, -1, 0) < 0 ? errno : 0,
           epoll_wait(ep, &e, INT32_MAX, 0) < 0 ? errno : 0);
    printf(" %d %d %d", epoll_wait(-1, &e, 0, 0) < 0 ? errno : 0, epoll_wait(-1, &e, 1, 0) < 0 ? errno : 0, epoll_wait(p[0], &e, 1, 0) < 0 ? errno : 0);
    struct timespec bad = {0, 1000000000}, past = {-1, 0}, now = {0, 0};
    printf(" %ld", syscall(SYS_epoll_pwait2, ep, &e, 1, &bad, NULL, 8) < 0 ? (long)errno : 0);
    printf(" %ld", syscall(SYS_epoll_pwait2, ep, &e, 1, &past, NULL, 8) < 0 ? (long)errno : 0);
    printf(" %ld\n", syscall(SYS_epoll_pwait2, ep, &e, 1, &now, NULL, 8));
    write(p[1], "x", 1);
    ctl(ep, EPOLL_CTL_DEL, p[0], 0);
    ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLONESHOT);
    int n = syscall(SYS_epoll_wait, ep, (void *)8, 1, 0);
    printf("unwritable %d %d", n, n < 0 ? errno : 0);
    printf(", it stays %d", epoll_wait(ep, &e, 1, 0));
    printf(", once %d\n", epoll_wait(ep, &e, 1, 0));
    for (int i = 3; i < 64; i++)
        close(i);
}

static void ends(void)
{
    int ep = epoll_create1(0), p[2];
    struct epoll_event e;
    pipe(p);
    write(p[1], "x", 1);
    int twin = dup(p[0]);
    printf("copies %d %d", add(ep, p[0]), add(ep, twin));
    printf(" %d", epoll_wait(ep, (struct epoll_event[4]){{0}}, 4, 0));
    int number = p[0];
    close(p[0]);
    printf(", one closed %d", epoll_wait(ep, (struct epoll_event[4]){{0}}, 4, 0));
    int again = fcntl(p[1], F_DUPFD, number);
    printf(", its number again %d %d", again == number, ctl(ep, EPOLL_CTL_ADD, number, EPOLLOUT));
    close(twin);
    printf(", both closed %d\n", epoll_wait(ep, (struct epoll_event[4]){{0}}, 4, 0));
    close(again);
    close(p[1]);
    /* Closed while watched, over and over. */
    int failed = 0;
    for (int i = 0; i < 20000; i++) {
        int v = eventfd(1, 0);
        failed += add(ep, v) != 0;
        close(v);
    }
    printf("20000 closed: failed %d, left %d\n", failed, epoll_wait(ep, &e, 1, 0));
    close(ep);
}

static int shared;
static int woken;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;

static void *waiter(void *arg)
{
    struct epoll_event e;
    int n = epoll_wait(shared, &e, 1, 2000);
    pthread_mutex_lock(&m);
    woken += n;
    pthread_mutex_unlock(&m);
    return NULL;
}

static void order(void)
{
    int ep = epoll_create1(0), v[5];
    uint64_t one = 1;
    struct epoll_event e[8];
    for (int i = 0; i < 5; i++) {
        v[i] = eventfd(0, EFD_NONBLOCK);
        struct epoll_event w = {EPOLLIN, {.u64 = i}};
        epoll_ctl(ep, EPOLL_CTL_ADD, v[i], &w);
    }
    int in[] = {3, 0, 4, 1, 2};
    for (int i = 0; i < 5; i++)
        write(v[in[i]], &one, 8);
    for (int k = 0; k < 3; k++) {
        int n = epoll_wait(ep, e, k == 1 ? 2 : 8, 0);
        printf("order");
        for (int i = 0; i < n; i++)
            printf(" %d", (int)e[i].data.u64);
        printf("\n");
    }
    read(v[0], &one, 8);
    printf("without one %d, polled %d\n", epoll_wait(ep, e, 8, 0), poll(&(struct pollfd){ep, POLLIN, 0}, 1, 0));
    shared = epoll_create1(0);
    int edge = eventfd(0, EFD_NONBLOCK);
    ctl(shared, EPOLL_CTL_ADD, edge, EPOLLIN | EPOLLET);
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, waiter, NULL);
    usleep(100000);
    for (int i = 0; i < 3; i++) {
        one = 1;
        write(edge, &one, 8);
        usleep(50000);
        pthread_mutex_lock(&m);
        printf("edge %d wakes %d\n", i, woken);
        pthread_mutex_unlock(&m);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    nesting();
    rules();
    ends();
    order();
    return 0;
}
