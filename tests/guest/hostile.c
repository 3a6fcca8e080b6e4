/* A hostile guest: every system call number with junk arguments, from four threads of several processes at once.
 *
 * hostile CALLS SECONDS SEED [PATH...]: runs until so many calls have returned and every number was reached, then
 * prints what it reached and exits with 0; 3 when a process does not end after SIGKILL, 4 when time runs out.
 * Only for the inside of a sandbox: natively it would do what it says. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LAST = 600, ABOVE = 24, NUMBERS = LAST + 1 + ABOVE, WORKERS = 2, THREADS = 4, ROUND_MS = 120 };

static const long above[ABOVE] = {
    601, 700, 999, 1000, 1023, 1024, 4095, 4096, 65535, 65536, 0x3fffffff, 0x40000000, 0x40000001, 0x40000200, 0x40000208,
    0x7fffffff, 0x80000000, 0xffffffff, -1, -2, LONG_MIN, LONG_MAX, 0x100000000, 0xdeadbeef00000027,
};

static struct shared {
    atomic_ulong started, returned, sweep;
    atomic_uint reached[NUMBERS];
} *shared;

static const char *paths[64];
static int n_paths;
static int quiet_end;
static uint64_t window;          /* an address in kernel memory, if there is a way to learn one */
static char *guarded, *readonly, *none;
static uint64_t buffers[THREADS + 1][4096];

static uint64_t next(uint64_t *r) {
    *r ^= *r << 13;
    *r ^= *r >> 7;
    *r ^= *r << 17;
    return *r * 0x2545f4914f6cdd1dull;
}

static uint64_t junk(uint64_t *r, char *buf) {
    uint64_t x = next(r), y = next(r);
    switch (x % 24) {
    case 0: return 0;
    case 1: case 2: case 3: return y % 17;
    case 4: case 5: return 3 + y % 40;
    case 6: return -(int64_t)(y % 5);
    case 7: return (uint64_t)AT_FDCWD;
    case 8: return 1ull << (y % 64);
    case 9: return (1ull << (y % 64)) - 1;
    case 10: return y;
    case 11: return (uint32_t)y;
    case 12: return 4096 * (y % 64);
    case 13: case 14: case 15: case 16: return (uint64_t)buf + (y & 1 ? y >> 8 & 0x3ff8 : y >> 8 & 0x3fff);
    case 17: case 18: return (uint64_t)paths[y % n_paths];
    case 19: return (uint64_t)guarded + 4096 - y % 64;
    case 20: return y & 1 ? (uint64_t)readonly : (uint64_t)none;
    case 21: return window + (y & 1 ? (int64_t)(y >> 8 & 0xffff) : (int64_t)(y >> 8 & 0xffffff) - 0x800000);
    case 22: return 0x680000000000ull + (y & 0x3ffffffffffull);
    default:
        switch (y % 8) {
        case 0: return (uint64_t)&junk;
        case 1: return (uint64_t)&x;
        case 2: return 0xffff800000000000ull + (y >> 20);
        case 3: return 0x800000000000ull + (y >> 30);
        case 4: return 0x7ffffffff000ull;
        case 5: return 0xffffffffff600000ull + (y >> 8 & 0xc00);
        case 6: return 8;
        default: return (uint64_t)guarded;
        }
    }
}

static long call(long nr, const uint64_t a[6]) {
    long ret;
    register uint64_t r10 asm("r10") = a[3], r8 asm("r8") = a[4], r9 asm("r9") = a[5];
    asm volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return ret;
}

static long quiet(long nr, long a, long b, long c) { return call(nr, (uint64_t[6]){a, b, c}); }

/* Calls that are likely to end the caller, or to take the memory away below it. */
static int deadly(long nr) {
    switch (nr) {
    case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_execve: case SYS_execveat: case SYS_kill:
    case SYS_tkill: case SYS_tgkill: case SYS_pause: case SYS_rt_sigsuspend: case SYS_rt_sigqueueinfo:
    case SYS_rt_tgsigqueueinfo: case SYS_munmap: case SYS_fork: case SYS_vfork: case SYS_clone: case SYS_clone3:
    case SYS_setrlimit: case SYS_prlimit64: case SYS_close_range: case SYS_arch_prctl: case SYS_shmdt:
    case SYS_ptrace: case SYS_process_vm_writev: return 1;
    }
    return 0;
}

static void hammer(uint64_t seed, int t, long limit) {
    uint64_t r = seed | 1;
    char *buf = (char *)buffers[t];
    long me = quiet(SYS_getpid, 0, 0, 0), tid = quiet(SYS_gettid, 0, 0, 0);
    for (long i = 0; limit < 0 || i < limit; i++) {
        unsigned index = next(&r) & 1 ? atomic_fetch_add(&shared->sweep, 1) % NUMBERS : next(&r) % NUMBERS;
        long nr = index <= LAST ? index : above[index - LAST - 1];
        if (deadly(nr) && (limit >= 0 || next(&r) % 8))
            continue;
        if (i % 4 == 0)
            for (int k = 0; k < 64; k++)
                buffers[t][next(&r) % 4096] = junk(&r, buf);
        uint64_t a[6];
        for (int k = 0; k < 6; k++)
            a[k] = junk(&r, buf);
        /* The overseer must live: it is what tells a dead guest from a dead kernel. */
        int kills = nr == SYS_kill || nr == SYS_tkill || nr == SYS_tgkill || nr == SYS_rt_sigqueueinfo ||
                    nr == SYS_rt_tgsigqueueinfo || nr == SYS_prlimit64 || nr == SYS_setpgid || nr == SYS_pidfd_open;
        if (kills && ((int)a[0] == 1 || (int)a[1] == 1))
            a[0] = a[1] = me;
        if (nr == SYS_vfork)
            nr = SYS_fork; /* a child that shares this stack would only shred it: clone has its share of those */
        atomic_fetch_add(&shared->reached[index], 1);
        atomic_fetch_add(&shared->started, 1);
        call(nr, a);
        atomic_fetch_add(&shared->returned, 1);
        if (quiet(SYS_getpid, 0, 0, 0) != me || quiet(SYS_gettid, 0, 0, 0) != tid) {
            /* A child of junk. It plays for a while, but has no children. */
            if (limit < 0)
                hammer(next(&r), THREADS, 40);
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

static void nothing(int sig) {}

static void open_all(void) {
    int p[2];
    pipe(p);
    pipe2(p, O_NONBLOCK);
    eventfd(1, 0);
    int ep = epoll_create1(0), ev = eventfd(0, EFD_NONBLOCK);
    epoll_ctl(ep, EPOLL_CTL_ADD, ev, &(struct epoll_event){EPOLLIN, {0}});
    timerfd_settime(timerfd_create(CLOCK_MONOTONIC, 0), 0, &(struct itimerspec){{0, 1000000}, {0, 1000000}}, 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    signalfd(-1, &set, 0);
    inotify_add_watch(inotify_init1(IN_NONBLOCK), "/tmp", IN_ALL_EVENTS);
    socketpair(AF_UNIX, SOCK_STREAM, 0, p);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, p);
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p);
    socket(AF_INET, SOCK_STREAM, 0);
    memfd_create("junk", MFD_ALLOW_SEALING);
    open("/tmp/junk/f", O_RDWR | O_CREAT, 0600);
    open("/tmp/junk", O_RDONLY | O_DIRECTORY);
    open("/tmp", O_PATH);
    open("/dev/zero", O_RDWR);
    open("/dev/null", O_RDWR);
    open("/dev/tty", O_RDWR);
    open("/dev/ptmx", O_RDWR);
    open("/proc/self/maps", O_RDONLY);
    open("/proc", O_RDONLY);
    open("/proc/self/fd", O_RDONLY);
    open("/etc/passwd", O_RDONLY);
    open(paths[0], O_RDWR);
    quiet(SYS_pidfd_open, getpid(), 0, 0);
}

static void worker(uint64_t seed) {
    setsid();
    for (int fd = 0; fd < 3; fd++)
        dup2(quiet_end, fd);
    signal(SIGALRM, nothing);
    siginterrupt(SIGALRM, 1);
    signal(SIGPIPE, SIG_IGN);
    mkdir("/tmp/junk", 0777);
    open_all();
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

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* Ends everybody else; whoever does not go is a hang. */
static void clear(void) {
    double since = now();
    for (;;) {
        kill(-1, SIGKILL);
        while (waitpid(-1, 0, __WALL | WNOHANG) > 0) {}
        if (waitpid(-1, 0, __WALL | WNOHANG) < 0 && errno == ECHILD)
            return;
        if (now() - since > 10) {
            printf("a process is still there 10 s after SIGKILL\n");
            if (getenv("HOLD")) { fflush(stdout); pause(); }
            exit(3);
        }
        usleep(1000);
    }
}

int main(int argc, char **argv) {
    struct utsname u;
    uname(&u);
    if (argc < 4 || !strstr(u.release, "drupe"))
        return 2;
    unsigned long calls = strtoul(argv[1], 0, 0), seed = strtoul(argv[3], 0, 0);
    double limit = now() + atof(argv[2]);
    static const char *fixed[] = {
        "", ".", "..", "/", "/tmp", "/tmp/junk", "/tmp/junk/f", "/tmp/junk/a", "/tmp/junk/b", "a", "b/c", "/tmp/junk/a/b",
        "/bin/true", "/etc/passwd", "/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/shm/j", "/proc/self/mem",
        "/proc/self/maps", "/proc/self/fd/5", "/proc/self/exe", "/proc/1/status", "/proc/self/ns/mnt", "/sys/kernel",
        "tmpfs", "proc", "user.junk", "/tmp/junk/../junk/./f/", "/usr/bin/sh",
    };
    for (int i = 4; i < argc && n_paths < 16; i++)
        paths[n_paths++] = argv[i];
    for (unsigned i = 0; i < sizeof fixed / sizeof *fixed; i++)
        paths[n_paths++] = fixed[i];
    static char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    paths[n_paths++] = longest;

    shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    guarded = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(guarded + 4096, 4096, PROT_NONE);
    none = guarded + 4096;
    readonly = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    window = 0x680000000000;
    if (getauxval(AT_HWCAP2) & 2)
        asm volatile("rdgsbase %0" : "=r"(window));
    signal(SIGPIPE, SIG_IGN);
    quiet_end = open("/dev/null", O_RDWR); /* later it may have no name any more */

    unsigned long rounds = 0, missing, unborn = 0;
    int why = 0;
    do {
        for (unsigned long w = 0; w < WORKERS; w++) {
            int pid = fork();
            if (pid == 0) {
                worker(next(&(uint64_t){(seed << 32 ^ rounds << 4 ^ w) * 2 + 1}));
                _exit(0);
            }
            if (pid < 0) {
                unborn++;
                why = errno;
            }
        }
        double end = now() + ROUND_MS * 1e-3;
        for (unsigned long w = 0; now() < end; w++) {
            /* Those that ended have successors. */
            while (waitpid(-1, 0, __WALL | WNOHANG) > 0)
                if (fork() == 0) {
                    worker(next(&(uint64_t){(seed << 32 ^ rounds << 4 ^ w << 20) * 2 + 1}));
                    _exit(0);
                }
            usleep(2000);
        }
        clear();
        rounds++;
        missing = 0;
        for (int i = 0; i < NUMBERS; i++)
            missing += !atomic_load(&shared->reached[i]);
        if (now() > limit) {
            printf("%lu calls returned in %lu rounds, %lu numbers not reached: out of time; %lu forks failed (%s)\n",
                   atomic_load(&shared->returned), rounds, missing, unborn, strerror(why));
            return 4;
        }
    } while (missing || atomic_load(&shared->returned) < calls);
    printf("%lu of %lu calls returned in %lu rounds\n", atomic_load(&shared->returned), atomic_load(&shared->started),
           rounds);
    return 0;
}
