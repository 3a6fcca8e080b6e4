/* Which error comes first where a call has several: buffers that can be no program's, numbers that nobody has, flags, names.
 * Prints the same wherever it runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define E(...) ({ errno = 0; long r_ = syscall(__VA_ARGS__); r_ < 0 ? errno : 0; })
#define BAD ((void *)0xffffffffffffff00)
#define NOBODY 0x3fffffff

static void buffers(void)
{
    int p[2], ev = eventfd(0, EFD_NONBLOCK), t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), ep = epoll_create1(0);
    int d = open("d", O_RDONLY), f = open("f", O_RDWR), s = socket(AF_UNIX, SOCK_STREAM, 0);
    pipe2(p, O_NONBLOCK);
    printf("read: pipe %d timer %d directory %d huge %d, none %d, not open for it %d\n", E(SYS_read, p[0], BAD, 1), E(SYS_read, t, BAD, 8),
           E(SYS_read, d, 0, 0x7fffffffffffffff), E(SYS_read, f, &p, -1L), E(SYS_read, f, 0, 0), E(SYS_read, p[1], BAD, 1));
    printf("write: socket %d event %d\n", E(SYS_write, s, BAD, 8), E(SYS_write, ev, BAD, 7));
    struct iovec v[2] = {{&p, 4}, {BAD, 8}}, w = {BAD, 0};
    printf("vectors: %d %d, empty %d\n", E(SYS_readv, p[0], v, 2), E(SYS_writev, f, v, 2), E(SYS_writev, f, &w, 1));
    printf("epoll: %d, no epoll %d, count %d\n", E(SYS_epoll_wait, ep, BAD, 4, 0), E(SYS_epoll_wait, f, BAD, 4, 0), E(SYS_epoll_wait, f, BAD, 0, 0));
    printf("pairs: family %d, type %d, good %d, flags %d\n", E(SYS_socketpair, 99, 1, 0, 8), E(SYS_socketpair, AF_UNIX, 77, 0, 8),
           E(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 8), E(SYS_socketpair, AF_UNIX, SOCK_STREAM | 0x100, 0, 8));
    printf("accept: %d %d %d\n", E(SYS_accept4, 99, 0, 0, 1), E(SYS_accept4, f, 0, 0, 1), E(SYS_accept4, s, 0, 0, 1));
    printf("none to copy: attributes %d, CPUs %d\n", E(SYS_listxattr, "f", BAD, 10), E(SYS_sched_setaffinity, 0, 0, BAD));
    printf("mincore %d\n", E(SYS_mincore, 0, 4096, BAD));
    close(p[0]), close(p[1]), close(ev), close(t), close(ep), close(d), close(f), close(s);
}

static void signals(void)
{
    siginfo_t none, full;
    memset(&none, 0, sizeof none), memset(&full, 1, sizeof full);
    none.si_code = full.si_code = SI_QUEUE;
    printf("kill %d, tgkill %d %d, tkill %d %d\n", E(SYS_kill, NOBODY, 1000), E(SYS_tgkill, NOBODY, NOBODY, 1000),
           E(SYS_tgkill, getpid(), gettid(), 1000), E(SYS_tkill, NOBODY, 1000), E(SYS_tkill, gettid(), 1000));
    printf("queue: known form %d", E(SYS_rt_sigqueueinfo, NOBODY, SIGTERM, &full));
    full.si_code = -99, none.si_code = -99;
    printf(", unknown %d, empty %d", E(SYS_rt_sigqueueinfo, NOBODY, SIGTERM, &full), E(SYS_rt_sigqueueinfo, NOBODY, SIGTERM, &none));
    full.si_code = 99, none.si_code = 3;
    printf(", kernel's %d %d, bad %d", E(SYS_rt_sigqueueinfo, NOBODY, SIGTERM, &full), E(SYS_rt_sigqueueinfo, NOBODY, 1000, &none),
           E(SYS_rt_sigqueueinfo, 0, SIGTERM, 8));
    full.si_code = -99;
    printf(", thread %d %d %d\n", E(SYS_rt_tgsigqueueinfo, 0, 0, SIGTERM, 8), E(SYS_rt_tgsigqueueinfo, 0, 0, SIGTERM, &full),
           E(SYS_rt_tgsigqueueinfo, 0, 0, SIGTERM, &none));
    stack_t zero;
    memset(&zero, 0, sizeof zero);
    printf("stack as it is %d\n", E(SYS_sigaltstack, &zero, 0));
}

static void numbers(void)
{
    printf("setparam %d %d, setscheduler %d\n", E(SYS_sched_setparam, -1, 8), E(SYS_sched_setparam, 0, 8), E(SYS_sched_setscheduler, -1, 0, 8));
    printf("affinity %d %d\n", E(SYS_sched_getaffinity, NOBODY, 0x80000000, 0), E(SYS_sched_getaffinity, NOBODY, 128, 0));
    printf("prlimit %d %d %d\n", E(SYS_prlimit64, NOBODY, 99, 0, 0), E(SYS_prlimit64, 0, 99, 8, 0), E(SYS_prlimit64, 0, 99, 0, 0));
    int f = open("f", O_RDWR);
    printf("readahead %d\n", E(SYS_readahead, f, 0, -1L));
    printf("timer %d %d\n", E(SYS_timer_create, 8, 8, 0), E(SYS_timer_create, 8, 0, 8));
    printf("keys %d %d: none %d, empty %d, long %d, unaligned %d\n", 0, 0, E(SYS_pkey_mprotect, 0x10000000, 4096, 1, 9),
           E(SYS_pkey_mprotect, 0x10000000, 0, 1, 9), E(SYS_pkey_mprotect, 0x10000000, -1L, 1, 9), E(SYS_pkey_mprotect, 0x10000001, 0, 1, 9));
    void *none = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("lock nothing %d\n", E(SYS_mlock, none, 16));
    int p[2];
    printf("notifications %d\n", E(SYS_pipe2, p, O_EXCL));
    printf("keyctl: instantiate %d negate %d reject %d %d assume %d %d %d\n", E(SYS_keyctl, 12, 1, 0, 0, 0), E(SYS_keyctl, 13, 1, 0, 0),
           E(SYS_keyctl, 19, 1, 0, 0, 0), E(SYS_keyctl, 19, 1, 0, 5, 0), E(SYS_keyctl, 16, 0), E(SYS_keyctl, 16, 1), E(SYS_keyctl, 16, -1));
    close(f);
}

static void names(void)
{
    char *no[] = {0};
    int f = open("f", O_RDWR), d = open("d", O_RDONLY);
    char buf[512];
    printf("exec: missing %d, no directory %d, not executable %d, good %d\n", E(SYS_execve, "none", 8, no), E(SYS_execve, "f/x", 8, no),
           E(SYS_execve, "f", no, 8), E(SYS_execve, "/bin/true", 8, no));
    printf("execveat: flags %d, no name %d, bad name %d\n", E(SYS_execveat, f, "f", no, no, 1), E(SYS_execveat, f, "", no, no, 1),
           E(SYS_execveat, f, 8, no, no, 1));
    printf("create with a slash: file %d, directory %d, missing %d, below a file %d\n", E(SYS_open, "f/", O_CREAT | O_WRONLY, 0600),
           E(SYS_open, "d/", O_CREAT | O_RDONLY, 0600), E(SYS_open, "none/", O_CREAT | O_WRONLY, 0600), E(SYS_open, "f/x/", O_CREAT | O_WRONLY, 0600));
    printf("open it %d, direct %d %d\n", E(SYS_open, "f/", O_RDONLY), E(SYS_open, "d", O_DIRECT | O_RDONLY), E(SYS_fcntl, eventfd(0, 0), F_SETFL, O_DIRECT));
    printf("no name: chown %d link %d handle %d tree %d access %d chmod %d stat %d statx %d\n", E(SYS_fchownat, f, 0, -1, -1, AT_EMPTY_PATH),
           E(SYS_linkat, f, 0, AT_FDCWD, "g", AT_EMPTY_PATH), E(SYS_name_to_handle_at, f, 0, buf, buf + 400, AT_EMPTY_PATH),
           E(SYS_open_tree, d, 0, AT_EMPTY_PATH), E(SYS_faccessat2, f, 0, 0, AT_EMPTY_PATH), E(452, f, 0, 0600, AT_EMPTY_PATH),
           E(SYS_newfstatat, f, 0, buf, AT_EMPTY_PATH), E(SYS_statx, f, 0, AT_EMPTY_PATH, 1, buf));
    printf("stat that need not be fresh %d %d\n", E(SYS_newfstatat, AT_FDCWD, "f", buf, 0x2000), E(SYS_newfstatat, AT_FDCWD, "f", buf, 0x8000));
    printf("attributes of here %d %d\n", E(SYS_fgetxattr, AT_FDCWD, "user.none", 0, 0) == ENODATA, E(SYS_flistxattr, AT_FDCWD, 0, 0));
    close(f), close(d);
}

int main(void)
{
    char base[64];
    snprintf(base, sizeof base, "/tmp/precedence-%d", getpid());
    mkdir(base, 0755);
    if (chdir(base))
        return 1;
    mkdir("d", 0755);
    close(open("f", O_CREAT | O_WRONLY, 0644));
    mmap((void *)0x10000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    buffers();
    signals();
    numbers();
    names();
    unlink("f"), rmdir("d");
    chdir("/");
    return rmdir(base);
}
