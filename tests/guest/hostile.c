/* A hostile guest: every system call number, with arguments that the call may take seriously (`hostile_calls.h`)
 * mixed with edge values, from four threads of several processes at once.
 *
 * hostile SECONDS SEED FIRST [PATH...]: rounds from FIRST on until the time is up; then a new program is run, and what
 * was reached is printed: a line `NUMBER RETURNED STARTED` for each number. A seed and a round give the same draws
 * again; FROM and TO in the environment leave out calls below and above. At `calm` nobody else is there, and it waits for a line on standard input: whoever watches may count then.
 * Status 3: a process does not end after SIGKILL. 4: no process, or no new program, can be started any more.
 * Only for the inside of a sandbox: natively it would do what it says. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <mntent.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { LAST = 600, ABOVE = 24, NUMBERS = LAST + 1 + ABOVE, WORKERS = 2, THREADS = 4, ROUND_MS = 120 };

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_futex_wake
#define SYS_futex_wake 454
#define SYS_futex_wait 455
#define SYS_futex_requeue 456
#endif

#include "hostile_calls.h"

static const long above[ABOVE] = {
    601, 700, 999, 1000, 1023, 1024, 4095, 4096, 65535, 65536, 0x3fffffff, 0x40000000, 0x40000001, 0x40000200, 0x40000208,
    0x7fffffff, 0x80000000, 0xffffffff, -1, -2, LONG_MIN, LONG_MAX, 0x100000000, 0xdeadbeef00000027,
};

/* Anybody may write here by chance: nothing is decided by it. */
static struct shared {
    atomic_uint started[NUMBERS], returned[NUMBERS];
    atomic_int pids[8];
} *shared;

enum { PLAY_PAGES = 1024, PAGE = 4096, AREA = 32768, KINDS = WATCH + 1, KEPT = 16 };

static char *paths[700], *mounts[8];
static unsigned n_paths;
static unsigned from, to = NUMBERS;               /* which calls */
static int program, quiet_end;                    /* this program and /dev/null, which may have no names later */
static int kept[KINDS][KEPT];                     /* descriptors by kind */
static uint64_t window;                           /* an address in kernel memory, if there is a way to learn one */
static char *play;                                /* mappings to play with */
static char *guarded, *readonly, *none, *shares, *cut, *half;
static uint64_t areas[THREADS + 1][AREA / 8];     /* what a thread fills before it calls */

struct draw {
    uint64_t r;
    char *area;
    unsigned at;                                  /* filled so far */
};

static uint64_t next(uint64_t *r) {
    *r ^= *r << 13;
    *r ^= *r >> 7;
    *r ^= *r << 17;
    return *r * 0x2545f4914f6cdd1dull;
}

static unsigned below(struct draw *d, unsigned n) { return (next(&d->r) >> 20) % n; }

static long call(long nr, const uint64_t a[6]) {
    long ret;
    register uint64_t r10 asm("r10") = a[3], r8 asm("r8") = a[4], r9 asm("r9") = a[5];
    asm volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return ret;
}

/* As call, but a child ends at once, without a look at its stack, which may be ours or nowhere. */
static long call_and_end_child(long nr, const uint64_t a[6]) {
    long ret;
    register uint64_t r10 asm("r10") = a[3], r8 asm("r8") = a[4], r9 asm("r9") = a[5];
    asm volatile("syscall\n test %%rax, %%rax\n jnz 1f\n mov $60, %%eax\n xor %%edi, %%edi\n syscall\n hlt\n 1:"
                 : "=a"(ret) : "0"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return ret;
}

static long quiet(long nr, long a, long b, long c) { return call(nr, (uint64_t[6]){a, b, c}); }

static uint64_t number(struct draw *d) {
    uint64_t x = next(&d->r), y = next(&d->r);
    switch (x % 12) {
    case 0: return 0;
    case 1: return y % 17;
    case 2: return -(int64_t)(y % 5);
    case 3: return 1ull << (y % 64);
    case 4: return (1ull << (y % 64)) - 1;
    case 5: return y;
    case 6: return (uint32_t)y;
    case 7: return 4096 * (y % 64);
    case 8: return INT_MAX - y % 3;
    case 9: return INT64_MAX - y % 4096;
    case 10: return (uint64_t)AT_FDCWD;
    default: return y % 5000;
    }
}

/* An address that is wrong in some way. */
static uint64_t nowhere(struct draw *d) {
    uint64_t y = next(&d->r);
    switch (y >> 8 & 15) {
    case 0: return 0;
    case 1: return (uint64_t)readonly + (y >> 16 & 0xfff);
    case 2: return (uint64_t)none;
    case 3: return window + (y & 1 ? (int64_t)(y >> 16 & 0xffff) : (int64_t)(y >> 16 & 0xffffff) - 0x800000);
    case 4: return 0xffff800000000000ull + (y >> 20);
    case 5: return 0x800000000000ull + (y >> 30);
    case 6: return 0x7ffffffff000ull - (y >> 40 & 0x1fff);
    case 7: return 0xffffffffff600000ull + (y >> 16 & 0xc00);
    case 8: return 8;
    case 9: return (uint64_t)&nowhere;
    case 10: return -(y >> 56);
    case 11: return (uint64_t)cut + PAGE - (y >> 16 & 63); /* runs over the end of the file below */
    case 12: return (uint64_t)half + PAGE - (y >> 16 & 63);
    case 13: return (uint64_t)play + (y >> 16) % (PLAY_PAGES * PAGE);
    case 14: return (uint64_t)d + (y >> 16 & 0xfff);
    default: return (uint64_t)guarded + PAGE - (y >> 16 & 63);
    }
}

/* Room for `n` bytes that are filled with this. */
static void *put(struct draw *d, const void *from, unsigned n) {
    if (d->at + n + 64 > AREA)
        d->at = 0;
    char *to = d->area + d->at;
    memcpy(to, from, n);
    d->at += (n + 7) & ~7u;
    return to;
}

static uint64_t anything(struct draw *d) { return below(d, 3) ? number(d) : nowhere(d); }

static uint64_t pid(struct draw *d) {
    switch (below(d, 10)) {
    case 0: return 0;
    case 1: return -1;
    case 2: return -atomic_load(&shared->pids[below(d, 8)]);
    case 3: return number(d);
    case 4: case 5: return quiet(below(d, 2) ? SYS_getpid : SYS_gettid, 0, 0, 0);
    default: return atomic_load(&shared->pids[below(d, 8)]) + (below(d, 2) ? 0 : below(d, 2 * THREADS));
    }
}

static uint64_t descriptor(struct draw *d, unsigned kind) {
    unsigned x = below(d, 16);
    if (x == 0)
        return number(d);
    if (x < 4 || kind == FD)
        return 3 + below(d, 100);
    if (kind == DIRFD && x < 8)
        return AT_FDCWD;
    return kept[kind][below(d, KEPT)];
}

static uint64_t signo(struct draw *d) {
    static const int some[] = {0, SIGUSR1, SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTOU, SIGKILL,
                               SIGSEGV, SIGURG, SIGIO, 34, 35, 64, 65, -1, SIGTRAP, SIGSYS, SIGTERM};
    return some[below(d, sizeof some / sizeof *some)];
}

static int64_t seconds(struct draw *d) { return below(d, 4) ? 0 : (int64_t)number(d); }
static int64_t part(struct draw *d) { return below(d, 4) ? below(d, 2000000) : (int64_t)number(d); }

static uint64_t length(struct draw *d) {
    switch (below(d, 8)) {
    case 0: return number(d);
    case 1: return 1;
    case 2: return 4096;
    case 3: return 65536 + below(d, 65536);
    case 4: return below(d, 64);
    default: return below(d, 3000);
    }
}

static uint64_t buffer(struct draw *d) {
    if (!below(d, 8))
        return nowhere(d);
    if (!below(d, 8))
        return (uint64_t)shares + below(d, 2 * PAGE);
    /* Words that mean something to somebody. */
    unsigned from = below(d, AREA - 256) & ~7u;
    switch (below(d, 6)) {
    case 0: { /* a request over netlink with an attribute */
        struct { struct nlmsghdr h; uint32_t body[8]; uint16_t len, type; uint32_t value[4]; } m = {
            {below(d, 6) ? sizeof m : number(d), below(d, 60), NLM_F_REQUEST | (below(d, 2) ? NLM_F_DUMP : number(d)), 1, 0}};
        m.body[0] = below(d, 3) ? AF_INET : number(d);
        m.len = below(d, 4) ? 4 + 4 * below(d, 5) : number(d);
        m.type = below(d, 40);
        memcpy(d->area + from, &m, sizeof m);
        break;
    }
    case 1: {
        static const char *words[] = {"0", "-1", "1\n", "2147483648", "0x7fffffffffffffff", "99999999999999999999", "x y", "lo"};
        strcpy(d->area + from, words[below(d, 8)]);
        break;
    }
    default:
        for (int i = 0; i < 4; i++)
            ((uint64_t *)(d->area + from))[i] = number(d);
    }
    return (uint64_t)d->area + from + (below(d, 8) ? 0 : below(d, 8));
}

static void *vectors(struct draw *d) {
    struct iovec v[8];
    for (int i = 0; i < 8; i++)
        v[i] = (struct iovec){(void *)buffer(d), length(d)};
    return put(d, v, sizeof v);
}

static void *address(struct draw *d, unsigned *len) {
    union { struct sockaddr_un un; struct sockaddr_in in; struct sockaddr_in6 in6; struct sockaddr_nl nl; uint64_t w[16]; } a;
    memset(&a, 0, sizeof a);
    *len = sizeof a.in;
    switch (below(d, 8)) {
    case 0: case 1:
        a.un.sun_family = AF_UNIX;
        a.un.sun_path[below(d, 2)] = 'a' + below(d, 8); /* a path or an abstract name */
        *len = 2 + below(d, 12);
        break;
    case 2: case 3: case 4:
        a.in.sin_family = AF_INET;
        a.in.sin_port = htons(7000 + below(d, 6));
        a.in.sin_addr.s_addr = htonl(below(d, 4) ? INADDR_LOOPBACK : below(d, 2) ? INADDR_ANY : 0xe0000001);
        break;
    case 5:
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons(7000 + below(d, 6));
        a.in6.sin6_addr = in6addr_loopback;
        *len = sizeof a.in6;
        break;
    case 6: a.nl.nl_family = AF_NETLINK; *len = sizeof a.nl; break;
    default: a.w[0] = number(d); *len = below(d, 130);
    }
    return put(d, &a, sizeof a);
}

static struct msghdr message(struct draw *d) {
    union { struct cmsghdr h; char room[160]; } c;
    memset(&c, 0, sizeof c);
    unsigned fds = below(d, 6), len;
    c.h.cmsg_level = SOL_SOCKET;
    c.h.cmsg_type = below(d, 4) ? SCM_RIGHTS : below(d, 2) ? SCM_CREDENTIALS : below(d, 50);
    c.h.cmsg_len = below(d, 6) ? CMSG_LEN(4 * fds) : number(d);
    for (unsigned i = 0; i < fds; i++)
        ((int *)CMSG_DATA(&c.h))[i] = descriptor(d, below(d, KINDS));
    struct msghdr m = {.msg_iov = vectors(d), .msg_iovlen = below(d, 8) ? below(d, 5) : number(d)};
    if (below(d, 2)) {
        m.msg_name = address(d, &len);
        m.msg_namelen = len;
    }
    if (below(d, 2)) {
        m.msg_control = put(d, &c, sizeof c);
        m.msg_controllen = below(d, 6) ? CMSG_SPACE(4 * fds) : number(d);
    }
    return m;
}

static void nothing(int sig) {}

static void *structure(struct draw *d, unsigned kind) {
    uint64_t w[24] = {0};
    switch (kind) {
    case TS: w[0] = seconds(d), w[1] = part(d); break;
    case TV: case ITS: case ITV:
        for (int i = 0; i < 4; i++)
            w[i] = i & 1 ? part(d) : seconds(d);
        break;
    case MSG: { struct msghdr m = message(d); return put(d, &m, sizeof m); }
    case MMSG: {
        struct mmsghdr m[4];
        for (int i = 0; i < 4; i++)
            m[i].msg_hdr = message(d);
        return put(d, m, sizeof m);
    }
    case EVENT: case POLLS: {
        if (kind == EVENT) {
            struct epoll_event e = {below(d, 2) ? EPOLLIN | EPOLLOUT : (uint32_t)number(d) | (below(d, 2) ? EPOLLET : 0), {0}};
            return put(d, &e, sizeof e);
        }
        struct pollfd p[16];
        for (int i = 0; i < 16; i++)
            p[i] = (struct pollfd){descriptor(d, FD), below(d, 4) ? POLLIN | POLLOUT : number(d), 0};
        return put(d, p, sizeof p);
    }
    case SET: w[0] = below(d, 3) ? 0 : below(d, 8) ? 1ull << below(d, 64) : next(&d->r); break;
    case INFO: {
        siginfo_t s = {.si_signo = signo(d), .si_code = below(d, 2) ? -1 - (int)below(d, 8) : (int)number(d)};
        return put(d, &s, sizeof s);
    }
    case ACTION:
        w[0] = below(d, 3) ? (uint64_t)nothing : below(d, 3);
        w[1] = 0x04000000 | (below(d, 2) ? 0 : next(&d->r) & 0xd8000003 & (below(d, 2) ? ~0ull : ~8ull));
        w[2] = (uint64_t)&call;
        w[3] = below(d, 2) ? 0 : 1ull << below(d, 64);
        break;
    case STACK: w[0] = (uint64_t)play + PAGE * below(d, 64), w[1] = below(d, 4) | (below(d, 2) ? 1ull << 31 : 0), w[2] = length(d) * 16; break;
    case SIGEV: w[0] = number(d), w[1] = signo(d) << 0 | (uint64_t)(below(d, 5)) << 32, w[2] = pid(d); break;
    case FDS: for (int i = 0; i < 16; i++) w[i] = below(d, 3) ? 0 : next(&d->r) & next(&d->r); break;
    case ARGV:
        w[0] = (uint64_t)paths[below(d, n_paths)], w[1] = below(d, 8) ? 0 : anything(d), w[2] = 0;
        break;
    case CLONEARGS: {
        static const uint64_t some[] = {CLONE_VM, CLONE_VM | CLONE_VFORK, CLONE_FS, CLONE_FILES, CLONE_PIDFD, CLONE_PARENT,
                                        CLONE_PARENT_SETTID, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, 0x100000000, 0x200000000,
                                        CLONE_VM | CLONE_SIGHAND | CLONE_THREAD};
        for (int i = 0; i < 3; i++)
            w[0] |= below(d, 2) ? 0 : some[below(d, 12)];
        w[1] = w[2] = w[3] = (uint64_t)d->area;
        w[4] = below(d, 4) ? SIGCHLD : number(d);
        w[5] = below(d, 2) ? 0 : (uint64_t)play, w[6] = w[5] ? PAGE * below(d, 32) : 0;
        if (!below(d, 4))
            w[8] = (uint64_t)put(d, &(int){pid(d)}, 4), w[9] = below(d, 3);
        if (!below(d, 4))
            w[below(d, 11)] = number(d);
        break;
    }
    case LOCK:
        w[0] = below(d, 4) | (uint64_t)below(d, 3) << 16;
        w[1] = below(d, 3) ? below(d, 100) : number(d), w[2] = below(d, 3) ? below(d, 100) : number(d);
        break;
    case RLIM: w[0] = below(d, 2) ? 1 << below(d, 30) : number(d), w[1] = below(d, 2) ? -1 : number(d); break;
    case ATTR: w[0] = 48 + (below(d, 4) ? 0 : number(d)) | (uint64_t)below(d, 7) << 32; break;
    case CAPH: w[0] = (below(d, 4) ? 0x20080522 : number(d) & 0xffffffff) | (uint64_t)(below(d, 2) ? 0 : pid(d)) << 32; break;
    case HOW: w[0] = next(&d->r) & 0x7fffff & next(&d->r), w[1] = 0, w[2] = below(d, 64); break;
    case BPF: {
        /* The number is loaded and compared; one call of eight fails, traps, is logged or ends the thread. */
        struct sock_filter f[6] = {
            {BPF_LD | BPF_W | BPF_ABS, 0, 0, below(d, 8) ? 0 : below(d, 80)},
            {BPF_JMP | BPF_JSET | BPF_K, below(d, 2), below(d, 3), 1 << below(d, 10)},
            {BPF_ALU | (below(d, 12) << 4), 0, 0, number(d)},
            {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, below(d, 450)},
            {BPF_RET | BPF_K, 0, 0, (uint32_t[]){0x50001, 0x30000, 0x7ffc0000, 0, 0x80000000, 0x7fc00000}[below(d, 6)]},
            {BPF_RET | BPF_K, 0, 0, 0x7fff0000},
        };
        if (!below(d, 4))
            f[below(d, 6)] = (struct sock_filter){number(d), number(d), number(d), number(d)};
        struct sock_fprog p = {below(d, 8) ? 6 : number(d), put(d, f, sizeof f)};
        return put(d, &p, sizeof p);
    }
    case WAITV: {
        struct { uint64_t value, at; uint32_t flags, zero; } v[8];
        for (int i = 0; i < 8; i++) {
            v[i].value = below(d, 2) ? 0 : number(d), v[i].at = buffer(d) & (below(d, 8) ? ~3ull : ~0ull);
            v[i].flags = below(d, 4) ? 2 | below(d, 2) << 7 : number(d), v[i].zero = 0;
        }
        return put(d, v, sizeof v);
    }
    case ROBUST: w[0] = (uint64_t)d->area + 8 * below(d, 100), w[1] = below(d, 64) - 32ull, w[2] = below(d, 2) ? 0 : w[0]; break;
    default:
        for (int i = 0; i < 24; i++)
            w[i] = below(d, 3) ? number(d) : 0;
    }
    return put(d, w, sizeof w);
}

static uint64_t argument(struct draw *d, const struct arg *a, uint64_t last) {
    unsigned len;
    if (!below(d, 24))
        return anything(d);
    switch (a->kind) {
    case FD: case DIRFD: case SOCK: case EPOLL: case TIMERFD: case PIDFD: case PIPE: case WATCH: return descriptor(d, a->kind);
    case PATH: return (uint64_t)paths[below(d, below(d, 2) ? 24 : n_paths)];
    case MOUNT: return (uint64_t)(below(d, 12) ? mounts[below(d, 8)] : paths[below(d, n_paths)]);
    case TEXT: {
        static const char *some[] = {"tmpfs", "proc", "sysfs", "", "size=1m", "mode=700", "name", "overlay", "devpts", "x/y"};
        return (uint64_t)some[below(d, 10)];
    }
    case NAME: {
        static const char *some[] = {"user.a", "user.b", "trusted.a", "security.capability", "system.posix_acl_access", "", "user.", "x"};
        return (uint64_t)some[below(d, 8)];
    }
    case BUF: case OUT: return buffer(d);
    case LEN: return length(d);
    case SMALL: return below(d, 12) ? below(d, 9) : number(d);
    case OFF: return below(d, 3) ? below(d, 20000) : number(d);
    case OFFP: return below(d, 2) ? 0 : (uint64_t)put(d, &(uint64_t){below(d, 2) ? below(d, 9000) : number(d)}, 8);
    case ADDR: return below(d, 10) ? (uint64_t)play + PAGE * below(d, PLAY_PAGES) + (below(d, 8) ? 0 : below(d, PAGE)) : anything(d);
    case ALEN: return below(d, 12) ? PAGE * (1ull + below(d, 32)) : number(d);
    case PID: case TID: return pid(d);
    case ID: return below(d, 3) ? (below(d, 2) ? 0 : 65534) : number(d);
    case SIG: return signo(d);
    case TIMER: return below(d, 8);
    case CLOCK: return below(d, 4) ? below(d, 13) : below(d, 2) ? (uint64_t)(int)(~(unsigned)pid(d) << 3 | below(d, 8)) : number(d);
    case IOV: return (uint64_t)vectors(d);
    case SA: return (uint64_t)address(d, &len);
    case SALEN: return below(d, 6) ? below(d, 3) * 4 + 12 : number(d);
    case SALENP: return (uint64_t)put(d, &(uint32_t){below(d, 6) ? below(d, 130) : number(d)}, 4);
    case SETLEN: return below(d, 16) ? 8 : number(d);
    case ONE: return a->set[below(d, a->n)];
    case FLAGS: {
        uint64_t f = 0;
        for (int n = below(d, 4); n >= 0; n--)
            f |= a->set[below(d, a->n)];
        return f;
    }
    case ANY: return anything(d);
    }
    if (!below(d, 12))
        return nowhere(d);
    return (uint64_t)structure(d, a->kind);
}

/* Calls that are likely to end the caller, or to leave it with less than it needs to go on. */
static int deadly(long nr) {
    switch (nr) {
    case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_execve: case SYS_execveat: case SYS_kill:
    case SYS_tkill: case SYS_tgkill: case SYS_pause: case SYS_rt_sigsuspend: case SYS_rt_sigqueueinfo:
    case SYS_rt_tgsigqueueinfo: case SYS_fork: case SYS_vfork: case SYS_clone: case SYS_clone3: case SYS_pidfd_send_signal:
    case SYS_setrlimit: case SYS_prlimit64: case SYS_close_range: case SYS_arch_prctl: case SYS_chroot: case SYS_seccomp: return 1;
    }
    return 0;
}

static int is_clone(long nr) { return nr == SYS_fork || nr == SYS_vfork || nr == SYS_clone || nr == SYS_clone3; }

/* The overseer must live: it is what tells a dead guest from a dead kernel. Nobody signals it, traces it, writes its
 * memory or sets its limits, and no descriptor sends it what it cannot ignore. */
static void spare(long nr, uint64_t a[6], long me) {
    int by_pid = nr == SYS_kill || nr == SYS_tkill || nr == SYS_tgkill || nr == SYS_rt_sigqueueinfo || nr == SYS_ptrace ||
                 nr == SYS_rt_tgsigqueueinfo || nr == SYS_prlimit64 || nr == SYS_pidfd_open || nr == SYS_process_vm_writev;
    if (by_pid && ((int)a[0] == 1 || (int)a[1] == 1))
        a[0] = a[1] = me;
    if (nr == SYS_fcntl && (int)a[1] == F_SETSIG)
        a[2] = below(&(struct draw){a[2] | 1}, 2) ? SIGIO : 40;
    /* What one call may take of the host's memory. */
    if ((nr == SYS_mmap || nr == SYS_mremap || nr == SYS_mlock || nr == SYS_mlock2 || nr == SYS_brk) && a[nr == SYS_brk ? 0 : 1] >> 26 && a[1] % 8)
        a[1] &= 0x3ffffff;
}

/* What a call has made is used from now on. */
static void keep(struct draw *d, long nr, const uint64_t a[6], long ret) {
    unsigned kind;
    switch (nr) {
    case SYS_socket: case SYS_accept: case SYS_accept4: kind = SOCK; break;
    case SYS_epoll_create: case SYS_epoll_create1: kind = EPOLL; break;
    case SYS_timerfd_create: kind = TIMERFD; break;
    case SYS_pidfd_open: kind = PIDFD; break;
    case SYS_inotify_init: case SYS_inotify_init1: kind = WATCH; break;
    case SYS_pipe: case SYS_pipe2: case SYS_socketpair: {
        uint64_t at = a[nr == SYS_socketpair ? 3 : 0] - (uint64_t)d->area;
        if (ret == 0 && at < AREA - 8)
            for (int i = 0; i < 2; i++)
                kept[nr == SYS_socketpair ? SOCK : PIPE][below(d, KEPT)] = *(int *)(d->area + at + 4 * i);
        return;
    }
    case SYS_fork: case SYS_vfork: case SYS_clone: case SYS_clone3: atomic_store(&shared->pids[below(d, 8)], ret); return;
    default: return;
    }
    if (ret >= 0)
        kept[kind][below(d, KEPT)] = ret;
    if (ret > 120)
        quiet(SYS_close_range, 60, 200, 0);
}

static void hammer(uint64_t seed, int t, long limit) {
    struct draw d = {seed | 1, (char *)areas[t]};
    long me = quiet(SYS_getpid, 0, 0, 0), tid = quiet(SYS_gettid, 0, 0, 0);
    for (long i = 0; limit < 0 || i < limit; i++) {
        unsigned index = below(&d, NUMBERS);
        if ((index > SYS_futex_requeue || index > SYS_io_pgetevents && index < SYS_pidfd_send_signal) && below(&d, 8))
            continue;
        long nr = index <= LAST ? index : above[index - LAST - 1];
        if (index < from || index > to)
            continue;
        if (deadly(nr) && (limit >= 0 || below(&d, 16)))
            continue;
        uint64_t a[6];
        for (int k = 0; k < 6; k++)
            a[k] = argument(&d, &calls[index][k], k ? a[k - 1] : 0);
        spare(nr, a, me);
        atomic_fetch_add(&shared->started[index], 1);
        int shares_memory = nr == SYS_vfork || nr == SYS_clone && a[0] & CLONE_VM || nr == SYS_clone3;
        long ret = shares_memory ? call_and_end_child(nr, a) : call(nr, a);
        atomic_fetch_add(&shared->returned[index], 1);
        keep(&d, nr, a, ret);
        if (quiet(SYS_getpid, 0, 0, 0) != me || quiet(SYS_gettid, 0, 0, 0) != tid) {
            /* A child. It plays for a while, but has no children. */
            if (limit < 0)
                hammer(next(&d.r), THREADS, 200);
            quiet(SYS_exit_group, 0, 0, 0);
        }
    }
}

struct start { uint64_t seed; int t; };

static void *thread(void *arg) {
    struct start *s = arg;
    hammer(s->seed, s->t, -1);
    return 0;
}

static void have(unsigned kind, int fd) {
    for (int i = 0; fd >= 0 && i < KEPT; i++)
        if (kept[kind][i] < 0) {
            kept[kind][i] = fd;
            return;
        }
}

static void open_sockets(void) {
    static const int some[][3] = {
        {AF_INET, SOCK_STREAM, 0}, {AF_INET, SOCK_DGRAM, 0}, {AF_INET6, SOCK_STREAM, 0}, {AF_UNIX, SOCK_STREAM, 0},
        {AF_UNIX, SOCK_DGRAM, 0}, {AF_NETLINK, SOCK_RAW, 0}, {AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG}, {AF_INET, SOCK_DGRAM, 0},
    };
    for (unsigned i = 0; i < sizeof some / sizeof *some; i++)
        have(SOCK, socket(some[i][0], some[i][1], some[i][2]));
    int p[2];
    for (int type = 0; type < 3; type++) {
        socketpair(AF_UNIX, (int[]){SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}[type], 0, p);
        have(SOCK, p[0]);
        have(SOCK, p[1]);
    }
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    bind(l, (void *)&a, sizeof a);
    listen(l, 3);
    getsockname(l, (void *)&a, &n);
    connect(c, (void *)&a, sizeof a);
    have(SOCK, accept(l, 0, 0));
    have(SOCK, c);
}

static void open_all(void) {
    int p[2];
    memset(kept, -1, sizeof kept);
    for (int i = 0; i < 4; i++) {
        pipe2(p, i & 1 ? O_NONBLOCK : 0);
        have(PIPE, p[0]);
        have(PIPE, p[1]);
    }
    mkfifo("fifo", 0666);
    have(PIPE, open("fifo", O_RDWR));
    eventfd(1, 0);
    int ep = epoll_create1(0), inner = epoll_create1(0), ev = eventfd(0, EFD_NONBLOCK);
    have(EPOLL, ep);
    have(EPOLL, inner);
    epoll_ctl(ep, EPOLL_CTL_ADD, ev, &(struct epoll_event){EPOLLIN, {0}});
    epoll_ctl(ep, EPOLL_CTL_ADD, inner, &(struct epoll_event){EPOLLIN, {0}});
    for (int i = 0; i < 2; i++) {
        int t = timerfd_create(i ? CLOCK_REALTIME : CLOCK_MONOTONIC, i ? TFD_NONBLOCK : 0);
        timerfd_settime(t, 0, &(struct itimerspec){{0, 1000000}, {0, 1000000}}, 0);
        have(TIMERFD, t);
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    signalfd(-1, &set, 0);
    int in = inotify_init1(IN_NONBLOCK);
    inotify_add_watch(in, ".", IN_ALL_EVENTS);
    have(WATCH, in);
    open_sockets();
    int m = memfd_create("junk", MFD_ALLOW_SEALING);
    ftruncate(m, 20000);
    open("f", O_RDWR | O_CREAT, 0666);
    have(DIRFD, open(".", O_RDONLY | O_DIRECTORY));
    have(DIRFD, open("/tmp", O_PATH));
    have(DIRFD, open("/proc/self", O_RDONLY));
    have(DIRFD, open("/proc/self/fd", O_RDONLY));
    have(DIRFD, open("/proc", O_RDONLY));
    have(DIRFD, open("/sys", O_RDONLY));
    have(DIRFD, open("/etc", O_RDONLY));
    static const char *files[] = {"/dev/zero", "/dev/null", "/dev/full", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/proc/self/mem",
                                  "/proc/self/oom_score_adj", "/proc/sys/kernel/hostname"};
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++)
        open(files[i], O_RDWR);
    open("/proc/self/maps", O_RDONLY);
    static const char *spaces[] = {"mnt", "uts", "ipc", "net", "cgroup", "user", "pid", "time"};
    for (unsigned i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        char path[40];
        snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[i]);
        open(path, O_RDONLY);
    }
    open("/etc/passwd", O_RDONLY);
    for (int i = 0; i < 3; i++)
        open(paths[n_paths - 1 - i % n_paths], O_RDWR);
    have(PIDFD, quiet(SYS_pidfd_open, getpid(), 0, 0));
    have(PIDFD, quiet(SYS_pidfd_open, getppid() == 1 ? getpid() : getppid(), 0, 0));
    shares = mmap(0, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);
    cut = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, open("f", O_RDWR), 0);
    half = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(half + PAGE, PAGE);
}

static void worker(uint64_t seed, int slot) {
    setsid();
    atomic_store(&shared->pids[slot % 8], getpid());
    for (int fd = 0; fd < 3; fd++)
        dup2(quiet_end, fd);
    close_range(3, ~0u, 0);
    for (int s = 1; s < 65; s++)
        if (s != SIGSEGV && s != SIGBUS && s != SIGILL && s != SIGCHLD && s != 32 && s != 33) {
            signal(s, nothing);
            siginterrupt(s, 1);
        }
    umask(0);
    mkdir("/tmp/junk", 0777);
    mkdir("/tmp/junk/m", 0777);
    chdir("/tmp/junk");
    symlink("loop", "loop");
    symlink("f", "to-f");
    open_all();
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){256, 256});
    setrlimit(RLIMIT_AS, &(struct rlimit){1ul << 30, 1ul << 30});
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 7000}, {0, 7000}}, 0);
    if (seed >> 8 & 1) {
        setgid(65534);
        setuid(65534);
    }
    pthread_t t;
    static struct start s[THREADS];
    for (int i = 0; i < THREADS; i++) {
        s[i] = (struct start){seed * 0x9e3779b97f4a7c15ull + i * 77777, i};
        if (i)
            pthread_create(&t, 0, thread, &s[i]);
    }
    thread(&s[0]);
}

/* Takes kernel memory until there is none, in every way that gives an error some time, and keeps it. */
static void hoard(uint64_t seed) {
    struct draw d = {seed | 1, (char *)areas[0]};
    char name[200], *many = mmap(0, 1ul << 28, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int ep, in, s[2], p[2];
    setsid();
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){100000, 100000});
    mkdir("/tmp/junk/hoard", 0777);
    if (chdir("/tmp/junk/hoard"))
        return;
    ep = epoll_create1(0);
    in = inotify_init();
    for (unsigned i = 0, left = 9; left; i++) {
        int bad = 0;
        switch (below(&d, 9)) {
        case 0:
            memset(name, 'n', 180);
            snprintf(name + 180, 20, "%u", i);
            bad = mkdir(name, 0777) < 0;
            break;
        case 1: bad = mprotect(many + PAGE * 2ul * (i % 32768), PAGE, PROT_READ | PROT_WRITE) < 0; break;
        case 2:
            if (socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0)
                bad = send(s[0], many, 9000, MSG_DONTWAIT) < 0;
            break;
        case 3: {
            int e = eventfd(0, 0);
            bad = epoll_ctl(ep, EPOLL_CTL_ADD, e, &(struct epoll_event){EPOLLIN, {0}}) < 0;
            break;
        }
        case 4: inotify_add_watch(in, name, IN_ALL_EVENTS); break;
        case 5:
            if (pipe2(p, O_NONBLOCK) == 0)
                bad = write(p[1], many, 60000) < 0;
            break;
        case 6: bad = fcntl(kept[DIRFD][0] > 0 ? kept[DIRFD][0] : in, F_OFD_SETLK, &(struct flock){F_RDLCK, 0, 2l * i, 1}) < 0; break;
        case 7: {
            sigset_t all;
            sigfillset(&all);
            sigprocmask(SIG_BLOCK, &all, 0);
            bad = sigqueue(getpid(), 40, (union sigval){0}) < 0;
            break;
        }
        case 8: {
            snprintf(name, sizeof name, "f%u", i);
            int f = open(name, O_RDWR | O_CREAT, 0666);
            bad = f < 0 || setxattr(name, "user.x", many, 4000, 0) < 0;
            break;
        }
        }
        if (bad && below(&d, 64) == 0)
            left--;
    }
    /* What looks at everything now needs memory, too. */
    static const char *big[] = {"/proc/self/maps", "/proc/self/smaps", "/proc/self/fdinfo/4", "/proc/net/unix", "/proc/mounts", "/proc/locks"};
    for (;;) {
        int f = open(big[below(&d, 6)], O_RDONLY);
        while (read(f, areas[1], AREA) > 0) {}
        close(f);
        DIR *l = opendir(below(&d, 2) ? "." : "/proc/self/fd");
        while (l && readdir(l)) {}
        if (l)
            closedir(l);
        if (fork() == 0) {
            execve("/proc/self/exe", (char *[]){"hostile", "hello", 0}, (char *[]){0});
            _exit(1);
        }
        rename("f1", "f2");
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* How many have ended. Who made the overseer its tracer goes on at once. */
static int reap(void) {
    int status, ended = 0;
    for (pid_t p; (p = waitpid(-1, &status, __WALL | WNOHANG)) > 0;)
        if (!WIFSTOPPED(status))
            ended++;
        else if (ptrace(PTRACE_CONT, p, 0, 0))
            kill(p, SIGKILL);
    return ended;
}

/* Ends everybody else; whoever does not go is a hang. */
static void clear(void) {
    for (double since = now();;) {
        kill(-1, SIGKILL);
        reap();
        if (waitpid(-1, 0, __WALL | WNOHANG) < 0 && errno == ECHILD)
            return;
        if (now() - since > 20) {
            printf("a process is still there 20 s after SIGKILL\n");
            if (getenv("HOLD")) { fflush(stdout); pause(); }
            exit(3);
        }
        usleep(1000);
    }
}

/* Unmounts what lies behind the first `kept_mounts` lines of the list, where it can. */
static int kept_mounts = -1;

static void unmount(void) {
    for (int tries = 0; tries < 1000; tries++) {
        char last[5000] = "";
        int lines = 0;
        FILE *list = setmntent("/proc/self/mounts", "r");
        for (struct mntent *m; list && (m = getmntent(list)); lines++)
            snprintf(last, sizeof last, "%s", m->mnt_dir);
        if (list)
            endmntent(list);
        if (kept_mounts < 0)
            kept_mounts = lines;
        if (lines <= kept_mounts || umount2(last, MNT_DETACH))
            return;
    }
}

static int removed(const char *path, const struct stat *s, int flag, struct FTW *f) {
    remove(path);
    return 0;
}

static int named(const char *path, const struct stat *s, int flag, struct FTW *f) {
    if (n_paths < 640 && f->level < 5)
        paths[n_paths++] = strdup(path);
    return n_paths >= 640;
}

/* System V objects outlive whoever made them. */
static void remove_ipc(void) {
    char room[256];
    for (int i = syscall(SYS_shmctl, 0, IPC_INFO, room); i >= 0; i--)
        syscall(SYS_shmctl, syscall(SYS_shmctl, i, 13, room), IPC_RMID, 0);
    for (int i = syscall(SYS_semctl, 0, 0, IPC_INFO, room); i >= 0; i--)
        syscall(SYS_semctl, syscall(SYS_semctl, i, 0, 18, room), 0, IPC_RMID, 0);
    for (int i = syscall(SYS_msgctl, 0, IPC_INFO, room); i >= 0; i--)
        syscall(SYS_msgctl, syscall(SYS_msgctl, i, 11, room), IPC_RMID, 0);
}

/* Nobody is there. A program runs, and nothing of the last rounds is left. */
static void calm(unsigned long rounds) {
    unmount();
    nftw("/tmp/junk", removed, 20, FTW_DEPTH | FTW_PHYS);
    remove_ipc();
    fchmod(program, 0755);
    fremovexattr(program, "security.capability");
    pid_t p = fork();
    if (p == 0) {
        syscall(SYS_execveat, program, "", (char *[]){"hostile", "hello", 0}, (char *[]){0}, AT_EMPTY_PATH);
        _exit(errno);
    }
    int status = -1;
    if (p < 0 || waitpid(p, &status, 0) != p || status != 0) {
        printf("after %lu rounds: fork %d, status %#x\n", rounds, p, status);
        exit(4);
    }
    struct sysinfo s;
    sysinfo(&s);
    printf("calm, round %lu: %d processes, %lu KiB free\n", rounds, s.procs, s.freeram * s.mem_unit >> 10);
    fflush(stdout);
    char c;
    while (read(0, &c, 1) == 1 && c != '\n') {}
}

static void prepare(int argc, char **argv) {
    static char *fixed[] = {
        "", ".", "..", "/tmp/junk", "/tmp/junk/f", "/tmp/junk/a", "/tmp/junk/b", "a", "b", "c", "a/b", "b/c", "d", "to-f", "loop",
        "fifo", "m", "f", "m/a", "g", "/tmp/junk/a/b", "f/", "a/../b/./c", "/dev/null", /* the first 24 are drawn most */
        "/", "/tmp", "/bin/true", "/etc/passwd", "/dev/zero", "/dev/full", "/dev/tty", "/dev/shm/j", "/proc/self/mem",
        "/proc/self/maps", "/proc/self/fd/5", "/proc/self/exe", "/proc/1/status", "/proc/self/ns/mnt", "/proc/self/root/tmp",
        "/proc/self/cwd/f", "/proc/self/task", "/proc/thread-self/comm", "/usr/bin/sh", "/sys/kernel",
    };
    for (unsigned i = 0; i < sizeof fixed / sizeof *fixed; i++)
        paths[n_paths++] = fixed[i];
    static char longest[5000], deep[3000];
    memset(longest, 'x', sizeof longest - 1);
    for (unsigned i = 0; i < sizeof deep - 1; i++)
        deep[i] = i % 2 ? '/' : 'd';
    paths[n_paths++] = longest;
    paths[n_paths++] = deep;
    nftw("/proc/self", named, 20, FTW_PHYS);
    nftw("/proc/sys", named, 20, FTW_PHYS);
    nftw("/proc/net", named, 20, FTW_PHYS);
    nftw("/sys", named, 20, FTW_PHYS);
    for (int i = 4; i < argc && n_paths < 690; i++)
        paths[n_paths++] = argv[i];
    for (int i = 0; i < 8; i++)
        mounts[i] = (char *[]){"/tmp/junk/m", "/tmp/junk/a", "m", "b", "/tmp/junk", "m/a", "c", "f"}[i];

    /* Far from everything else, so that a range that is too long does not reach it, and no power of two,
     * since `number` makes those. */
    shared = mmap((void *)0x12345678000, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    play = mmap(0, PLAY_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    guarded = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    none = guarded + PAGE;
    mprotect(none, PAGE, PROT_NONE);
    readonly = mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    window = 0x680000000000;
    if (getauxval(AT_HWCAP2) & 2)
        asm volatile("rdgsbase %0" : "=r"(window));
    unmount();
    program = open("/proc/self/exe", O_RDONLY);
    quiet_end = open("/dev/null", O_RDWR);
}

int main(int argc, char **argv) {
    struct utsname u;
    uname(&u);
    if (argc < 4 || !strstr(u.release, "drupe"))
        return argc == 2 && !strcmp(argv[1], "hello") ? 0 : 2;
    double limit = now() + atof(argv[1]);
    unsigned long seed = strtoul(argv[2], 0, 0), rounds = strtoul(argv[3], 0, 0);
    prepare(argc, argv);
    if (getenv("FROM") && getenv("TO"))
        from = atoi(getenv("FROM")), to = atoi(getenv("TO"));
    for (int s = 1; s < 65; s++)
        if (s != SIGTERM && s != SIGCHLD)
            signal(s, SIG_IGN);
    for (unsigned unborn = 0; now() < limit; rounds++) {
        unsigned long born = 0, wanted = WORKERS;
        /* One round of eight is about memory, and longer. */
        for (double end = now() + ROUND_MS * (rounds % 8 == 7 ? 8e-3 : 1e-3); now() < end; usleep(2000)) {
            /* Those that ended have successors. */
            for (wanted += reap(); wanted; wanted--) {
                pid_t p = fork();
                if (p == 0) {
                    if (rounds % 8 == 7 && born == 0)
                        hoard(seed ^ rounds);
                    worker(next(&(uint64_t){(seed << 32 ^ rounds << 12 ^ born) * 2 + 1}), born);
                    _exit(0);
                }
                if (p < 0)
                    break;
                born++;
            }
        }
        clear();
        unborn = born ? 0 : unborn + 1;
        if (unborn > 3) {
            printf("round %lu: nobody can be started: %s\n", rounds, strerror(errno));
            return 4;
        }
        if (rounds % 32 == 31)
            calm(rounds);
    }
    calm(rounds);
    for (int i = 0; i < NUMBERS; i++)
        printf("%ld %u %u\n", i <= LAST ? (long)i : above[i - LAST - 1], shared->returned[i], shared->started[i]);
    return 0;
}
