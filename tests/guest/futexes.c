// Futexes: what wakes whom, locks with an owner, robust lists, waiting for several words.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif
#define SAY(e) do { errno = 0; long r_ = (long)(e); if (r_ < 0) printf("%s: %s\n", #e, strerror(errno)); else printf("%s: %ld\n", #e, r_); fflush(stdout); } while (0)

static long fx(void *at, int op, unsigned val, void *t, void *at2, unsigned val3) {
    return syscall(SYS_futex, at, op, val, t, at2, val3);
}
static struct timespec soon(int clock, long ms) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += ms * 1000000; t.tv_sec += t.tv_nsec / 1000000000; t.tv_nsec %= 1000000000;
    return t;
}

// A thread that makes one call, of which the result is shown when it is joined.
struct call { pthread_t t; volatile int tid; void *at; int op; unsigned val; void *time, *at2; unsigned val3; long r; int e; int unlocks; };
static void *make(void *arg) {
    struct call *c = arg;
    c->tid = gettid();
    c->r = fx(c->at, c->op, c->val, c->time, c->at2, c->val3);
    c->e = errno;
    if (c->unlocks && c->r == 0) { usleep(1000); fx(c->unlocks == 2 ? c->at2 : c->at, FUTEX_UNLOCK_PI, 0, 0, 0, 0); }
    return 0;
}
// Waits until a thread sleeps in a call: what it does before it gets there may make it sleep, too.
static void asleep(int tid) {
    char name[2][64];
    sprintf(name[0], "/proc/self/task/%d/stat", tid);
    sprintf(name[1], "/proc/self/task/%d/syscall", tid);
    for (;;) {
        char c = 0;
        int call = -1;
        FILE *f = fopen(name[0], "r");
        if (!f) return;
        if (fscanf(f, "%*d (%*[^)]) %c", &c) != 1) c = 0;
        fclose(f);
        if (c == 'S' && (f = fopen(name[1], "r"))) {
            if (fscanf(f, "%d", &call) != 1) call = -1;
            fclose(f);
            if (call > 0) return;
        }
        usleep(500);
    }
}
static struct call *start(struct call c) {
    struct call *h = malloc(sizeof c);
    *h = c;
    pthread_create(&h->t, 0, make, h);
    while (!h->tid) usleep(100);
    asleep(h->tid);
    return h;
}
static void join(const char *what, struct call *c) {
    pthread_join(c->t, 0);
    printf("%s: %s\n", what, c->r < 0 ? strerror(c->e) : "ok");
    fflush(stdout);
    free(c);
}

static unsigned w, v;

static void plain(void) {
    struct timespec t = {0, 1000000}, bad = {0, -1};
    SAY(fx(&w, FUTEX_WAIT, 1, 0, 0, 0));
    SAY(fx((char *)&w + 1, FUTEX_WAIT, 0, 0, 0, 0));
    SAY(fx((char *)&w + 1, FUTEX_WAKE, 1, 0, 0, 0));
    SAY(fx(0, FUTEX_WAIT, 0, &t, 0, 0));
    SAY(fx(0, FUTEX_WAKE, 1, 0, 0, 0));
    SAY(fx(0, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0, 0, 0));
    SAY(fx(&w, FUTEX_WAIT, 0, &t, 0, 0));
    SAY(fx(&w, FUTEX_WAIT, 0, &bad, 0, 0));
    SAY(fx(&w, FUTEX_WAIT, 0, (void *)1, 0, 0));
    SAY(fx(&w, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, &t, 0, 0));
    SAY(fx(&w, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_WAIT_BITSET, 0, &t, 0, 0));
    SAY(fx(&w, FUTEX_WAKE_BITSET, 1, 0, 0, 0));
    SAY(fx(&w, 77, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_FD, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_WAKE_OP, 1, (void *)1, &v, 5u << 28));
    SAY(fx(&w, FUTEX_WAKE_OP, 1, (void *)1, &v, 6u << 24));

    struct call *a = start((struct call){.at = &w, .op = FUTEX_WAIT}), *b = start((struct call){.at = &w, .op = FUTEX_WAIT | FUTEX_PRIVATE_FLAG});
    SAY(fx(&w, FUTEX_WAKE, 9, 0, 0, 0));
    join("shared", a);
    SAY(fx(&w, FUTEX_WAKE, 9, 0, 0, 0));
    SAY(fx(&w, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 0, 0, 0, 0));
    join("private", b);
    struct call *all[4];
    for (int i = 0; i < 4; i++) all[i] = start((struct call){.at = &w, .op = FUTEX_WAIT_BITSET, .val3 = 1u << i});
    SAY(fx(&w, FUTEX_WAKE_BITSET, 9, 0, 0, 4));
    join("third", all[2]);
    SAY(fx(&w, FUTEX_CMP_REQUEUE, 1, (void *)9, &v, 5));
    SAY(fx(&w, FUTEX_CMP_REQUEUE, -1, (void *)9, &v, 0));
    SAY(fx(&w, FUTEX_CMP_REQUEUE, 1, (void *)9, &v, 0));
    join("first", all[0]);
    SAY(fx(&w, FUTEX_WAKE, -1, 0, 0, 0));
    SAY(fx(&v, FUTEX_WAKE, -1, 0, 0, 0));
    join("second", all[1]);
    SAY(fx(&v, FUTEX_REQUEUE, 0, (void *)9, &w, 0));
    SAY(fx(&w, FUTEX_WAKE_OP, 1, (void *)1, &v, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 0)));
    join("fourth", all[3]);
    printf("added %u\n", v);
    v = 0;
}

static void owned(void) {
    w = 0;
    struct timespec t = soon(CLOCK_REALTIME, 10), mono = soon(CLOCK_MONOTONIC, 10);
    SAY(fx(&w, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_LOCK_PI, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_LOCK_PI, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_TRYLOCK_PI, 0, 0, 0, 0));
    struct call *a = start((struct call){.at = &w, .op = FUTEX_LOCK_PI, .unlocks = 1});
    printf("waiters %d mine %d\n", !!(w & FUTEX_WAITERS), (w & FUTEX_TID_MASK) == (unsigned)gettid());
    SAY(fx(&w, FUTEX_WAKE, 1, 0, 0, 0));
    SAY(fx(&w, FUTEX_WAIT, w, &(struct timespec){0, 1000000}, 0, 0));
    SAY(fx(&w, FUTEX_REQUEUE, 1, (void *)1, &v, 0));
    SAY(fx(&w, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_TRYLOCK_PI, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_LOCK_PI, 0, 0, 0, 0));
    join("another", a);
    SAY(fx(&w, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    printf("free %u\n", w);
    SAY(fx(&w, FUTEX_LOCK_PI2, 0, &mono, 0, 0));
    fflush(stdout);
    struct call *b = start((struct call){.at = &v, .op = FUTEX_WAIT});
    SAY(fx(&v, FUTEX_LOCK_PI, 0, 0, 0, 0));
    v = gettid();
    SAY(fx(&v, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    v = 0;
    fx(&v, FUTEX_WAKE, 1, 0, 0, 0);
    join("not an owner", b);
    w = 0x3fffffff;
    SAY(fx(&w, FUTEX_LOCK_PI, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_TRYLOCK_PI, 0, 0, 0, 0));
    w = FUTEX_OWNER_DIED;
    SAY(fx(&w, FUTEX_LOCK_PI, 0, 0, 0, 0));
    printf("died %d mine %d\n", !!(w & FUTEX_OWNER_DIED), (w & FUTEX_TID_MASK) == (unsigned)gettid());
    SAY(fx(&w, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    printf("free %u\n", w);
    SAY(fx((char *)&w + 2, FUTEX_LOCK_PI, 0, 0, 0, 0));
    SAY(fx((char *)&w + 2, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    SAY(fx(0, FUTEX_LOCK_PI, 0, 0, 0, 0));
    SAY(fx(0, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    const unsigned *ro = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SAY(fx((void *)ro, FUTEX_LOCK_PI, 0, 0, 0, 0));
    w = v = 0;
    // Two who wait for each other.
    SAY(fx(&w, FUTEX_LOCK_PI, 0, 0, 0, 0));
    a = start((struct call){.at = &w, .op = FUTEX_LOCK_PI, .time = &t, .unlocks = 1});
    join("too late", a);
    a = start((struct call){.at = &w, .op = FUTEX_LOCK_PI, .unlocks = 1});
    v = a->tid;
    SAY(fx(&v, FUTEX_LOCK_PI, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    join("its end", a);
    w = v = 0;
}

static void *ends(void *arg) {
    fx(arg, FUTEX_LOCK_PI, 0, 0, 0, 0);
    usleep(30000);
    return 0;
}
static void *locks(void *arg) { pthread_mutex_lock(arg); usleep(20000); return 0; }

static void left_behind(void) {
    pthread_t t;
    pthread_create(&t, 0, ends, &w);
    while (!w) usleep(100);
    SAY(fx(&w, FUTEX_LOCK_PI, 0, 0, 0, 0));
    printf("died %d mine %d\n", !!(w & FUTEX_OWNER_DIED), (w & FUTEX_TID_MASK) == (unsigned)gettid());
    pthread_join(t, 0);
    SAY(fx(&w, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    printf("free %u\n", w);
    for (int shared = 0; shared < 2; shared++) for (int pi = 0; pi < 2; pi++) {
        pthread_mutex_t *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pthread_mutexattr_t a;
        pthread_mutexattr_init(&a);
        pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
        pthread_mutexattr_setpshared(&a, shared);
        pthread_mutexattr_setprotocol(&a, pi ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
        pthread_mutex_init(m, &a);
        fflush(stdout);
        if (shared) {
            pid_t p = fork();
            if (!p) { locks(m); _exit(0); }
            while (!*(volatile int *)m) usleep(100);
            int r = pthread_mutex_lock(m);
            printf("pi %d process: %s\n", pi, strerror(r));
            waitpid(p, 0, 0);
        } else {
            pthread_create(&t, 0, locks, m);
            while (!*(volatile int *)m) usleep(100);
            int r = pthread_mutex_lock(m);
            printf("pi %d thread: %s\n", pi, strerror(r));
            pthread_join(t, 0);
        }
        printf("%s", strerror(pthread_mutex_consistent(m)));
        printf(" %s", strerror(pthread_mutex_unlock(m)));
        printf(" %s\n", strerror(pthread_mutex_trylock(m)));
        pthread_mutex_unlock(m);
    }
}

static void condition(void) {
    struct timespec t = soon(CLOCK_MONOTONIC, 20);
    w = v = 0;
    SAY(fx(&w, FUTEX_WAIT_REQUEUE_PI, 0, 0, &w, 0));
    SAY(fx(&w, FUTEX_WAIT_REQUEUE_PI, 1, 0, &v, 0));
    SAY(fx(&w, FUTEX_WAIT_REQUEUE_PI, 0, &t, &v, 0));
    SAY(fx(&w, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &w, 0));
    SAY(fx(&w, FUTEX_CMP_REQUEUE_PI, 2, (void *)1, &v, 0));
    SAY(fx(&w, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &v, 7));
    SAY(fx(&w, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &v, 0));
    struct call *all[3];
    for (int i = 0; i < 3; i++) all[i] = start((struct call){.at = &w, .op = FUTEX_WAIT_REQUEUE_PI, .at2 = &v, .unlocks = 2});
    SAY(fx(&w, FUTEX_WAKE, 1, 0, 0, 0));
    unsigned other = 0;
    SAY(fx(&w, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &other, 0));
    SAY(fx(&v, FUTEX_LOCK_PI, 0, 0, 0, 0));
    SAY(fx(&w, FUTEX_CMP_REQUEUE_PI, 1, (void *)0, &v, 0));
    SAY(fx(&w, FUTEX_CMP_REQUEUE_PI, 1, (void *)5, &v, 0));
    SAY(fx(&v, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    for (int i = 0; i < 3; i++) join("moved", all[i]);
    struct call *b = start((struct call){.at = &w, .op = FUTEX_WAIT_REQUEUE_PI, .at2 = &v, .unlocks = 2});
    SAY(fx(&w, FUTEX_CMP_REQUEUE_PI, 1, (void *)0, &v, 0));
    join("free at once", b);
    SAY(fx(&v, FUTEX_LOCK_PI, 0, 0, 0, 0));
    t = soon(CLOCK_MONOTONIC, 30);
    b = start((struct call){.at = &w, .op = FUTEX_WAIT_REQUEUE_PI, .at2 = &v, .time = &t});
    SAY(fx(&w, FUTEX_CMP_REQUEUE_PI, 1, (void *)0, &v, 0));
    join("late at the lock", b);
    SAY(fx(&v, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
    v = 0;
}

struct want { uint64_t val, at; uint32_t flags, reserved; };
static volatile int woke = -100, started;
static void *several(void *arg) {
    started = gettid();
    long r = syscall(449, arg, 3, 0, 0, 0);
    woke = r < 0 ? -errno : r;
    return 0;
}

static void newer(void) {
    unsigned a = 0, b = 0, c = 0;
    struct want all[3] = {{0, (uintptr_t)&a, 2 | 128}, {0, (uintptr_t)&b, 2 | 128}, {0, (uintptr_t)&c, 2}};
    struct timespec t = soon(CLOCK_MONOTONIC, 10), past = {0, 0};
    SAY(syscall(454, &a, 1, 1, 2 | 128));
    SAY(syscall(454, &a, 0, 1, 2));
    SAY(syscall(454, &a, 1, 1, 0));
    SAY(syscall(454, &a, 1, 1, 3));
    SAY(syscall(454, &a, 1, 1, 2 | 16));
    SAY(syscall(454, &a, 1UL << 32, 1, 2));
    SAY(syscall(455, &a, 1, 1, 2, 0, 0));
    SAY(syscall(455, &a, 0, 0, 2, 0, 0));
    SAY(syscall(455, &a, 0, 1, 2, &past, CLOCK_MONOTONIC));
    SAY(syscall(455, &a, 0, 1, 2, &past, CLOCK_BOOTTIME));
    SAY(syscall(455, &a, 1UL << 32, 1, 2, 0, 0));
    SAY(syscall(449, all, 0, 0, 0, 0));
    SAY(syscall(449, all, 129, 0, 0, 0));
    SAY(syscall(449, all, 3, 1, 0, 0));
    SAY(syscall(449, 0, 3, 0, 0, 0));
    SAY(syscall(449, (void *)1, 3, 0, 0, 0));
    SAY(syscall(449, all, 3, 0, &t, CLOCK_MONOTONIC));
    b = 1;
    SAY(syscall(449, all, 3, 0, 0, 0));
    b = 0;
    all[1].flags = 1;
    SAY(syscall(449, all, 3, 0, 0, 0));
    all[1].flags = 2 | 128;
    all[2].reserved = 1;
    SAY(syscall(449, all, 3, 0, 0, 0));
    all[2].reserved = 0;
    for (int i = 0; i < 3; i++) {
        pthread_t th;
        started = 0;
        pthread_create(&th, 0, several, all);
        while (!started) usleep(100);
        asleep(started);
        SAY(syscall(454, &c, 1, 0, 2));
        SAY(syscall(454, i == 0 ? &a : i == 1 ? &b : &c, 1, 1, i == 2 ? 2 : 2 | 128));
        pthread_join(th, 0);
        printf("woken by %d\n", woke);
    }
    SAY(syscall(456, all, 1, 1, 1));
    SAY(syscall(456, all, 0, -1, 1));
    SAY(syscall(456, 0, 0, 1, 1));
    a = 5;
    SAY(syscall(456, all, 0, 1, 1));
    a = 0;
    struct call *x = start((struct call){.at = &a, .op = FUTEX_WAIT | FUTEX_PRIVATE_FLAG});
    SAY(syscall(456, (struct want[]){all[0], all[2]}, 0, 0, 1));
    SAY(fx(&a, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0, 0, 0));
    SAY(fx(&c, FUTEX_WAKE, 1, 0, 0, 0));
    join("to a shared one", x);
}

static pthread_mutex_t m;
static long sum;
static void *adds(void *arg) { (void)arg; for (int i = 0; i < 2000; i++) { pthread_mutex_lock(&m); long s = sum; if (i % 100 == 0) sched_yield(); sum = s + 1; pthread_mutex_unlock(&m); } return 0; }

int main(void) {
    plain();
    owned();
    left_behind();
    condition();
    newer();
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&m, &a);
    pthread_t t[6];
    for (int i = 0; i < 6; i++) pthread_create(t + i, 0, adds, 0);
    for (int i = 0; i < 6; i++) pthread_join(t[i], 0);
    printf("sum %ld\n", sum);
    void *head; size_t len;
    SAY(syscall(SYS_get_robust_list, 0, &head, &len));
    SAY(syscall(SYS_get_robust_list, 0x3ffffff, &head, &len));
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        if (setresuid(4000, 4000, 4000)) abort();
        SAY(syscall(SYS_get_robust_list, getppid(), &head, &len));
        _exit(0);
    }
    waitpid(p, 0, 0);
    return 0;
}
