/* The program's own seccomp filters: every answer, what is refused, threads, children, exec, supervisors. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define E(x) ((x) < 0 ? errno : 0)
#define NR BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define RET(x) BPF_STMT(BPF_RET | BPF_K, (x))
#define ON(call, what) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), RET(what)

static long filter(unsigned flags, struct sock_filter *f, int n)
{
    struct sock_fprog p = {n, f};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}

/* Filters one call. */
static long answer(unsigned flags, long call, unsigned what)
{
    struct sock_filter f[] = {NR, ON(call, what), RET(SECCOMP_RET_ALLOW)};
    return filter(flags, f, 4);
}

static void ended(const char *what, int status)
{
    if (WIFEXITED(status))
        printf("%s: exit %d\n", what, WEXITSTATUS(status));
    else
        printf("%s: signal %d\n", what, WTERMSIG(status));
}

static void in_child(const char *what, void (*f)(void))
{
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        f();
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(p, &status, 0);
    ended(what, status);
}

static void refused(void)
{
    struct sock_filter ok[] = {RET(SECCOMP_RET_ALLOW)};
    static struct sock_filter many[4097];
    for (int i = 0; i < 4097; i++)
        many[i] = ok[0];
    printf("operations %d %d %d\n", E(syscall(SYS_seccomp, 9, 0, 0)), E(syscall(SYS_seccomp, 0, 1, 0)), E(syscall(SYS_seccomp, 0, 0, 1)));
    printf("flags %d %d %d\n", E(filter(64, ok, 1)), E(filter(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER, ok, 1)), E(filter(32, ok, 1)));
    printf("pointers %d %d\n", E(syscall(SYS_seccomp, 1, 0, 8)), E(filter(0, (void *)8, 1)));
    printf("lengths %d %d\n", E(filter(0, ok, 0)), E(filter(0, many, 4097)));
    struct sock_filter bad[][2] = {
        {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), RET(0)}, {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 1), RET(0)},
        {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RET(0)}, {BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0), RET(0)},
        {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RET(0)}, {BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), RET(0)},
        {BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), RET(0)}, {BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0), RET(0)},
        {BPF_STMT(BPF_LD | BPF_MEM, 3), RET(0)}, {BPF_STMT(BPF_ST, 16), RET(0)}, {NR, NR},
        {BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), RET(0)}, {BPF_STMT(BPF_LDX | BPF_W | BPF_MSH, 0), RET(0)},
        {BPF_STMT(BPF_RET | BPF_X, 0), RET(0)},
    };
    printf("programs");
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        printf(" %d", E(filter(0, bad[i], 2)));
    unsigned actions[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO, SECCOMP_RET_USER_NOTIF, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW, 0x1234, 0x60000};
    printf("\nactions");
    for (int i = 0; i < 10; i++)
        printf(" %d", E(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &actions[i])));
    struct seccomp_notif_sizes sizes;
    printf(" pointer %d\nsizes %d", E(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, 0)), E(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes)));
    printf(" %d %d %d\n", sizes.seccomp_notif, sizes.seccomp_notif_resp, sizes.seccomp_data);
    printf("prctl %d %d %d\n", E(prctl(PR_SET_SECCOMP, 0)), E(prctl(PR_SET_SECCOMP, 3)), prctl(PR_GET_SECCOMP));
    int n = 0;
    while (!filter(0, many, 4096))
        n++;
    printf("filters %d then %d\n", n, errno);
}

static void without_right(void)
{
    struct sock_filter ok[] = {RET(SECCOMP_RET_ALLOW)};
    if (setresuid(65534, 65534, 65534) && getuid() == 0)
        return;
    printf("without no_new_privs %d %d\n", E(filter(0, ok, 1)), E(prctl(PR_SET_SECCOMP, 2, &(struct sock_fprog){1, ok})));
    fflush(stdout);
}

static siginfo_t got;
static long rax;
static void handler(int sig, siginfo_t *i, void *c)
{
    got = *i;
    rax = ((ucontext_t *)c)->uc_mcontext.gregs[REG_RAX];
    (void)sig;
}

static void show_status(void)
{
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, "NoNewPrivs", 10) || !strncmp(line, "Seccomp", 7))
            printf("%s", line);
    fclose(f);
}

static void answers(void)
{
    printf("errno %ld", answer(0, SYS_getppid, SECCOMP_RET_ERRNO | 77));
    printf(" %d\n", E(syscall(SYS_getppid)));
    printf("errno too large %ld", answer(0, SYS_getpgrp, SECCOMP_RET_ERRNO | 9999));
    printf(" %d\n", E(syscall(SYS_getpgrp)));
    printf("errno none %ld", answer(0, SYS_getuid, SECCOMP_RET_ERRNO));
    printf(" %ld\n", syscall(SYS_getuid));
    printf("log %ld %d\n", answer(SECCOMP_FILTER_FLAG_LOG, SYS_getpid, SECCOMP_RET_LOG), syscall(SYS_getpid) == getpid());
    printf("trace without a tracer %ld %d\n", answer(0, SYS_getgid, SECCOMP_RET_TRACE | 1), E(syscall(SYS_getgid)));
    printf("no supervisor %ld %d\n", answer(0, SYS_getegid, SECCOMP_RET_USER_NOTIF), E(syscall(SYS_getegid)));
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &sa, NULL);
    printf("trap %ld", answer(SECCOMP_FILTER_FLAG_SPEC_ALLOW, SYS_geteuid, SECCOMP_RET_TRAP | 0x1234));
    long r = syscall(SYS_geteuid);
    printf(" %ld %ld: %d %d %d %d %d %x %d\n", r, rax, got.si_signo, got.si_code, got.si_errno, got.si_syscall, got.si_call_addr != 0, got.si_arch, r == SYS_geteuid);
    /* The strictest answers; among equals the newest. */
    answer(0, SYS_getppid, SECCOMP_RET_ERRNO | 78);
    answer(0, SYS_getppid, SECCOMP_RET_ALLOW);
    printf("newest %d\n", E(syscall(SYS_getppid)));
    struct sock_filter args[] = {NR, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 0, 5), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 32), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 1),
                                 RET(SECCOMP_RET_ERRNO | 99), RET(SECCOMP_RET_ALLOW), BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), RET(SECCOMP_RET_ALLOW)};
    printf("arguments %ld", filter(0, args, 8));
    printf(" %d %d\n", E(syscall(SYS_lseek, -1, 0L, 0L)), E(syscall(SYS_lseek, -1, 0L, 2L)));
    printf("mode %d, strict %d\n", prctl(PR_GET_SECCOMP), E(prctl(PR_SET_SECCOMP, 1)));
    show_status();
    pid_t p = fork();
    if (!p)
        _exit(E(syscall(SYS_getppid)));
    int status;
    waitpid(p, &status, 0);
    ended("child", status);
    fflush(stdout);
    p = fork();
    if (!p) {
        execl("/proc/self/exe", "filters", "exec", NULL);
        _exit(1);
    }
    waitpid(p, &status, 0);
    ended("program", status);
}

static void kill_process(void) { answer(0, SYS_getppid, SECCOMP_RET_KILL_PROCESS); signal(SIGSYS, SIG_IGN); syscall(SYS_getppid); }
static void kill_unknown(void) { answer(0, SYS_getppid, 0x12340000); syscall(SYS_getppid); }
static void kill_alone(void) { answer(0, SYS_getppid, SECCOMP_RET_KILL_THREAD); syscall(SYS_getppid); }
static void trap_default(void) { answer(0, SYS_getppid, SECCOMP_RET_TRAP); syscall(SYS_getppid); }
static void trap_blocked(void)
{
    sigset_t s;
    sigfillset(&s);
    sigprocmask(SIG_BLOCK, &s, NULL);
    trap_default();
}
static void strict(void)
{
    printf("strict %d\n", prctl(PR_SET_SECCOMP, 1));
    fflush(stdout);
    if (write(1, "still writes\n", 13) == 13)
        syscall(SYS_exit, 5);
}
static void strict_kill(void) { prctl(PR_SET_SECCOMP, 1); syscall(SYS_getpid); }
static void divides(void)
{
    struct sock_filter f[] = {NR, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1), BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0), RET(SECCOMP_RET_ALLOW)};
    filter(0, f, 4);
    syscall(SYS_getppid);
}

static void *one_dies(void *a)
{
    syscall(SYS_getppid);
    return a;
}
static void kill_thread(void)
{
    answer(0, SYS_getppid, SECCOMP_RET_KILL_THREAD);
    pthread_t t;
    pthread_create(&t, NULL, one_dies, NULL);
    usleep(50000);
    printf("the others live\n");
}

static int stage;
static void *waits(void *a)
{
    if (a)
        printf("own filter %ld\n", answer(0, SYS_getgid, SECCOMP_RET_ERRNO | 1));
    __atomic_store_n(&stage, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&stage, __ATOMIC_SEQ_CST) < 2)
        usleep(1000);
    return (void *)(long)E(syscall(SYS_getppid));
}
static void threads(void)
{
    for (long own = 0; own < 2; own++) {
        pthread_t t;
        void *r;
        stage = 0;
        pthread_create(&t, NULL, waits, (void *)own);
        while (__atomic_load_n(&stage, __ATOMIC_SEQ_CST) < 1)
            usleep(1000);
        long to_all = answer(SECCOMP_FILTER_FLAG_TSYNC, SYS_getppid, SECCOMP_RET_ERRNO | 55);
        printf("synchronised %d", to_all > 0);
        printf(" %d\n", own ? E(answer(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH, SYS_getppid, SECCOMP_RET_ERRNO | 55)) : 0);
        __atomic_store_n(&stage, 2, __ATOMIC_SEQ_CST);
        pthread_join(t, &r);
        printf("thread %ld, here %d\n", (long)r, E(syscall(SYS_getppid)));
    }
}

static void tracer(void)
{
    for (int kind = 0; kind < 3; kind++) {
        pid_t p = fork();
        if (!p) {
            answer(0, SYS_getppid, SECCOMP_RET_TRACE | 0x77);
            ptrace(PTRACE_TRACEME, 0, 0, 0);
            raise(SIGSTOP);
            long r = syscall(SYS_getppid);
            _exit(r == 4242 ? 42 : r == getpid() ? 43 : r > 0 ? 44 : errno);
        }
        int status;
        waitpid(p, &status, 0);
        ptrace(PTRACE_SETOPTIONS, p, 0, PTRACE_O_TRACESECCOMP);
        ptrace(PTRACE_CONT, p, 0, 0);
        waitpid(p, &status, 0);
        unsigned long message = 0;
        ptrace(PTRACE_GETEVENTMSG, p, 0, &message);
        struct user_regs_struct r;
        ptrace(PTRACE_GETREGS, p, 0, &r);
        printf("stop %x message %lx call %lld rax %lld\n", status >> 8, message, r.orig_rax, r.rax);
        if (kind == 1) {
            r.orig_rax = -1;
            r.rax = 4242;
        } else if (kind == 2)
            r.orig_rax = SYS_getpid;
        ptrace(PTRACE_SETREGS, p, 0, &r);
        ptrace(PTRACE_CONT, p, 0, 0);
        waitpid(p, &status, 0);
        ended("traced", status);
    }
}

static void handler_of_alarm(int s) { (void)s; }

/* A child with a supervisor: the descriptor comes over a socket. */
static pid_t supervised(int *listener, unsigned flags, void (*f)(void))
{
    int s[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    fflush(stdout);
    pid_t p = fork();
    char c = 0, control[CMSG_SPACE(4)] = {0};
    struct iovec v = {&c, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (!p) {
        int fd = answer(SECCOMP_FILTER_FLAG_NEW_LISTENER | flags, SYS_getppid, SECCOMP_RET_USER_NOTIF);
        printf("listener %d, cloexec %d, second %d\n", fd > 2, fcntl(fd, F_GETFD), E(answer(SECCOMP_FILTER_FLAG_NEW_LISTENER, SYS_getppid, SECCOMP_RET_USER_NOTIF)));
        fflush(stdout);
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        *h = (struct cmsghdr){CMSG_LEN(4), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(h), &fd, 4);
        sendmsg(s[0], &m, 0);
        close(fd);
        close(s[0]);
        close(s[1]);
        f();
        fflush(stdout);
        _exit(0);
    }
    close(s[0]);
    recvmsg(s[1], &m, 0);
    memcpy(listener, CMSG_DATA(CMSG_FIRSTHDR(&m)), 4);
    close(s[1]);
    return p;
}

/* Whose turn it is to print. */
static int turn[2];

static void asks(void)
{
    for (int i = 0; i < 4; i++) {
        long r = syscall(SYS_getppid);
        printf("call %d: %ld %d\n", i, r == getpid() ? -2 : i == 2 ? r > 0 : r, r < 0 ? errno : 0);
    }
    char c;
    if (read(turn[0], &c, 1) == 1)
        fflush(stdout);
}

static void supervisor(void)
{
    int l;
    if (pipe(turn))
        return;
    pid_t p = supervised(&l, 0, asks);
    struct seccomp_notif n;
    struct seccomp_notif_resp r;
    struct pollfd q = {l, POLLIN | POLLOUT, 0};
    for (int i = 0; i < 4; i++) {
        poll(&q, 1, 5000);
        printf("poll %x", q.revents);
        memset(&n, 1, sizeof n);
        printf(" not zero %d", E(ioctl(l, SECCOMP_IOCTL_NOTIF_RECV, &n)));
        memset(&n, 0, sizeof n);
        printf(" received %d", E(ioctl(l, SECCOMP_IOCTL_NOTIF_RECV, &n)));
        printf(" %d %d %x %d", n.pid == (unsigned)p, n.data.nr, n.data.arch, n.flags);
        poll(&q, 1, 0);
        printf(" poll %x valid %d", q.revents, E(ioctl(l, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id)));
        r = (struct seccomp_notif_resp){n.id + 100, 0, 0, 0};
        printf(" nobody's %d", E(ioctl(l, SECCOMP_IOCTL_NOTIF_SEND, &r)));
        r = (struct seccomp_notif_resp){n.id, 1, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        printf(" both %d flags", E(ioctl(l, SECCOMP_IOCTL_NOTIF_SEND, &r)));
        r.flags = 2;
        printf(" %d\n", E(ioctl(l, SECCOMP_IOCTL_NOTIF_SEND, &r)));
        r = (struct seccomp_notif_resp){n.id, i == 0 ? 1234 : 0, i == 1 ? -71 : 0, i == 2 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0};
        if (i == 3) {
            struct seccomp_notif_addfd a = {n.id, 0, 1, 100, 0};
            printf("give: number %d", E(ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &a)));
            a = (struct seccomp_notif_addfd){n.id, 0, 999, 0, 0};
            printf(" file %d", E(ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &a)));
            a = (struct seccomp_notif_addfd){n.id, SECCOMP_ADDFD_FLAG_SETFD, 1, 100, O_CLOEXEC};
            printf(" fixed %d", ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &a));
            a = (struct seccomp_notif_addfd){n.id, SECCOMP_ADDFD_FLAG_SEND, 1, 0, 0};
            printf(" sent %d\n", ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &a) >= 3);
            printf("answered %d\n", E(ioctl(l, SECCOMP_IOCTL_NOTIF_SEND, &r)) != 0);
        } else
            printf("answer %d\n", E(ioctl(l, SECCOMP_IOCTL_NOTIF_SEND, &r)));
        fflush(stdout);
    }
    int status = write(turn[1], "", 1);
    waitpid(p, &status, 0);
    ended("asker", status);
    poll(&q, 1, 1000);
    memset(&n, 0, sizeof n);
    printf("forsaken %x %d unknown %d\n", q.revents, E(ioctl(l, SECCOMP_IOCTL_NOTIF_RECV, &n)), E(ioctl(l, TIOCGWINSZ, &n)));
    close(l);
}

static void asks_once(void)
{
    struct sigaction sa = {.sa_handler = handler_of_alarm};
    sigaction(SIGALRM, &sa, NULL);
    long r = syscall(SYS_getppid);
    printf("came to %ld %d\n", r, r < 0 ? errno : 0);
}

static void left(void)
{
    int l, status;
    struct seccomp_notif n = {0};
    /* Who has closed a listener may ask for another. */
    fflush(stdout);
    if (!fork()) {
        for (int i = 0; i < 2; i++) {
            int fd = answer(SECCOMP_FILTER_FLAG_NEW_LISTENER, SYS_getppid, SECCOMP_RET_USER_NOTIF);
            printf("listener %d, second %d\n", fd > 2, E(answer(SECCOMP_FILTER_FLAG_NEW_LISTENER, SYS_getppid, SECCOMP_RET_USER_NOTIF)));
            close(fd);
        }
        fflush(stdout);
        _exit(0);
    }
    wait(&status);
    /* The supervisor goes. */
    pid_t p = supervised(&l, 0, asks_once);
    ioctl(l, SECCOMP_IOCTL_NOTIF_RECV, &n);
    close(l);
    waitpid(p, &status, 0);
    ended("without supervisor", status);
    /* A signal comes first: without and with the flag. */
    for (unsigned flags = 0; flags <= 32; flags += 32) {
        p = supervised(&l, flags, asks_once);
        memset(&n, 0, sizeof n);
        ioctl(l, SECCOMP_IOCTL_NOTIF_RECV, &n);
        kill(p, SIGALRM);
        usleep(30000);
        printf("interrupted %d\n", E(ioctl(l, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id)));
        struct seccomp_notif_resp r = {n.id, 77, 0, 0};
        printf("late answer %d\n", E(ioctl(l, SECCOMP_IOCTL_NOTIF_SEND, &r)));
        waitpid(p, &status, 0);
        ended("asker", status);
        close(l);
    }
    /* The asker is killed. */
    p = supervised(&l, 32, asks_once);
    memset(&n, 0, sizeof n);
    ioctl(l, SECCOMP_IOCTL_NOTIF_RECV, &n);
    kill(p, SIGKILL);
    waitpid(p, &status, 0);
    ended("killed", status);
    printf("its call %d\n", E(ioctl(l, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id)));
    close(l);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        printf("after exec %d mode %d\n", E(syscall(SYS_getppid)), prctl(PR_GET_SECCOMP));
        return 0;
    }
    setvbuf(stdout, NULL, _IOFBF, 65536);
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        without_right();
        _exit(0);
    }
    waitpid(p, NULL, 0);
    in_child("refused", refused);
    in_child("answers", answers);
    in_child("kill process", kill_process);
    in_child("unknown answer", kill_unknown);
    in_child("kill the only thread", kill_alone);
    in_child("trap by default", trap_default);
    in_child("trap blocked", trap_blocked);
    in_child("kill thread", kill_thread);
    in_child("division by zero", divides);
    in_child("strict", strict);
    in_child("strict, another call", strict_kill);
    in_child("threads", threads);
    in_child("tracer", tracer);
    in_child("supervisor", supervisor);
    in_child("left", left);
    return 0;
}
