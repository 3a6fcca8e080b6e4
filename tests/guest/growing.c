/* Mappings that grow down (MAP_GROWSDOWN): by the program's own accesses and by the kernel's, up to what lies below and
 * to the limit of stacks. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define P 4096UL
#define HOLE (16UL << 20)

static sigjmp_buf back;
static void on_fault(int sig, siginfo_t *i, void *c) {
    (void)c;
    siglongjmp(back, sig << 8 | i->si_code);
}

static void touch(const char *what, volatile char *p, int write) {
    int sig = sigsetjmp(back, 1);
    if (!sig) {
        if (write)
            *p = 7;
        printf("%s: %d\n", what, *p);
    } else
        printf("%s: signal %d code %d\n", what, sig >> 8, sig & 255);
}

static void say(const char *what, int r) { printf("%s: %d %s\n", what, r, r < 0 ? strerror(errno) : "ok"); }

/* The end of a hole in the address space, with a page that grows down in front of it. */
static char *top(int prot) {
    char *hole = mmap(0, HOLE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    munmap(hole, HOLE);
    char *page = mmap(hole + HOLE - P, P, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    if (page != hole + HOLE - P)
        printf("mmap: %s\n", strerror(errno));
    return hole + HOLE;
}

static void own(void) {
    char *end = top(PROT_READ | PROT_WRITE);
    touch("mapped", end - 1, 1);
    touch("next page", end - P - 1, 1);
    touch("far below", end - 300 * P, 1);
    touch("in between", end - 100 * P, 0);
    touch("above", end - 2, 0);
    end = top(PROT_READ);
    touch("read", end - 9 * P, 0);
    touch("written", end - 9 * P, 1);
    touch("written below", end - 20 * P, 1);
    touch("then read", end - 20 * P, 0);
}

static void kernels(void) {
    char *end = top(PROT_READ | PROT_WRITE), buf[64];
    int p[2];
    if (pipe(p))
        return;
    printf("from below: %zd\n", write(p[1], end - 5 * P, 32));
    printf("to below: %zd\n", read(p[0], end - 12 * P, 32));
    say("a name below", access(end - 30 * P, F_OK));
    struct rlimit *r = (void *)(end - 50 * P);
    printf("a record below: %d %lx\n", getrlimit(RLIMIT_CORE, r), r->rlim_cur == r->rlim_max ? 1UL : 0);
    printf("across: %zd\n", write(p[1], end - 52 * P, 10 * P));
    printf("read: %zd\n", read(p[0], buf, sizeof buf));
    /* Nothing grows up, or where nothing is above. */
    printf("above: %zd\n", write(p[1], end - 60 * P - HOLE, 1) < 0 ? -1L : 1L);
}

static void bounds(void) {
    char *end = top(PROT_READ | PROT_WRITE);
    char *below = end - 600 * P;
    mmap(below, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    touch("apart", end - 300 * P, 1);
    touch("in the gap", below + 200 * P, 1);
    touch("at its end", below + 257 * P, 1);
    munmap(below, P);
    mmap(below, P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    touch("beside what nobody can touch", below + P, 1);
    touch("that itself", below, 1);
    struct rlimit l = {64 * P, RLIM_INFINITY};
    setrlimit(RLIMIT_STACK, &l);
    end = top(PROT_READ | PROT_WRITE);
    touch("within the limit", end - 60 * P, 1);
    touch("beyond it", end - 70 * P, 1);
    say("the kernel beyond it", access(end - 80 * P, F_OK));
}

static void copies(void) {
    char *end = top(PROT_READ | PROT_WRITE);
    touch("before", end - 3 * P, 1);
    fflush(stdout);
    if (fork() == 0) {
        touch("child", end - 40 * P, 1);
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    touch("parent", end - 40 * P, 0);
    printf("unmapped: %d\n", munmap(end - 10 * P, 10 * P));
    touch("rest", end - 20 * P, 0);
    touch("hole", end - 5 * P, 0);
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &a, 0);
    void (*parts[])(void) = {own, kernels, bounds, copies};
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        fflush(stdout);
        if (fork() == 0) {
            parts[i]();
            fflush(stdout);
            _exit(0);
        }
        int status;
        wait(&status);
        printf("part %u: %x\n", i, status);
    }
    return 0;
}
