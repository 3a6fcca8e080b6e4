// POSIX message queues: order, limits, waiting, notification, the file system.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAY(e) do { errno = 0; long r_ = (long)(e); if (r_ < 0) printf("%s: %s\n", #e, strerror(errno)); else printf("%s: ok\n", #e); fflush(stdout); } while (0)
#define IN_CHILD(...) do { fflush(stdout); pid_t p_ = fork(); if (!p_) { __VA_ARGS__; fflush(stdout); _exit(0); } int s_; waitpid(p_, &s_, 0); if (s_) printf("status %x\n", s_); } while (0)

static char name[64], raw[64];

static struct timespec soon(long ms) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += ms * 1000000; t.tv_sec += t.tv_nsec / 1000000000; t.tv_nsec %= 1000000000;
    return t;
}

static void look(const char *when, mqd_t q) {
    struct mq_attr a;
    if (mq_getattr(q, &a) < 0) { printf("%s: %s\n", when, strerror(errno)); return; }
    printf("%s: flags %lo most %ld size %ld now %ld\n", when, a.mq_flags, a.mq_maxmsg, a.mq_msgsize, a.mq_curmsgs);
}

static void get(mqd_t q, size_t len, struct timespec *t) {
    char text[9000];
    unsigned prio = 77;
    ssize_t n = t ? mq_timedreceive(q, text, len, &prio, t) : mq_receive(q, text, len, &prio);
    if (n < 0) printf("receive: %s\n", strerror(errno));
    else printf("receive: %u \"%.*s\"\n", prio, (int)n, text);
    fflush(stdout);
}

static void ready(const char *when, mqd_t q) {
    struct pollfd p = {q, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM};
    int n = poll(&p, 1, 0);
    printf("%s: %d %x\n", when, n, p.revents);
}

static void show(const char *when, mqd_t q) {
    char text[128] = "";
    lseek(q, 0, SEEK_SET);
    ssize_t n = pread(q, text, sizeof text - 1, 0);
    char *pid = strstr(text, "NOTIFY_PID:");
    if (n > 0 && pid) { int p = atoi(pid + 11); strcpy(pid + 11, p == getpid() ? "me" : p ? "other" : "none"); }
    printf("%s: %s\n", when, n < 0 ? strerror(errno) : text);
}

static volatile int told;
static int code, value;
static void handler(int sig, siginfo_t *i, void *c) { (void)sig; (void)c; code = i->si_code; value = i->si_value.sival_int; told++; }
static void by_thread(union sigval v) { value = v.sival_int; told++; }
static void none(int sig) { (void)sig; }

static void sleeps(pid_t p) {
    for (;;) {
        char file[64], c = 0;
        sprintf(file, "/proc/%d/stat", p);
        FILE *f = fopen(file, "r");
        if (!f) return;
        if (fscanf(f, "%*d (%*[^)]) %c", &c) != 1) c = 0;
        fclose(f);
        if (c == 'S') { usleep(10000); return; }
        usleep(1000);
    }
}

// What a child that waits prints is shown when it is joined.
static struct { pid_t pid; int from; } waiting[8];
static pid_t apart(void (*what)(mqd_t, void *), mqd_t q, void *arg) {
    int p[2], i = 0;
    fflush(stdout);
    if (pipe(p)) abort();
    while (waiting[i].pid) i++;
    pid_t pid = fork();
    if (!pid) { dup2(p[1], 1); close(p[0]); close(p[1]); what(q, arg); fflush(stdout); _exit(0); }
    close(p[1]);
    waiting[i].pid = pid; waiting[i].from = p[0];
    sleeps(pid);
    return pid;
}
static void join(const char *what, pid_t pid) {
    printf("%s: ", what);
    for (int i = 0; i < 8; i++) if (waiting[i].pid == pid) {
        char text[512];
        int n, s;
        while ((n = read(waiting[i].from, text, sizeof text)) > 0) fwrite(text, 1, n, stdout);
        close(waiting[i].from);
        waitpid(pid, &s, 0);
        if (WIFSIGNALED(s)) printf("%s\n", strsignal(WTERMSIG(s)));
        waiting[i].pid = 0;
        fflush(stdout);
    }
}
static void receives(mqd_t q, void *arg) { get(q, 20, arg); }
static void sends(mqd_t q, void *arg) { int r = mq_send(q, arg, strlen(arg), 3); printf("%s\n", r < 0 ? strerror(errno) : "sent"); }

static void names(void) {
    struct mq_attr a = {0, 3, 20, 0};
    SAY(syscall(SYS_mq_open, "", O_CREAT | O_RDWR, 0600, 0));
    SAY(syscall(SYS_mq_open, "/x", O_CREAT | O_RDWR, 0600, 0));
    SAY(syscall(SYS_mq_open, "a/b", O_CREAT | O_RDWR, 0600, 0));
    SAY(syscall(SYS_mq_open, ".", O_CREAT | O_RDWR, 0600, 0));
    SAY(syscall(SYS_mq_open, 1, O_CREAT | O_RDWR, 0600, 0));
    SAY(syscall(SYS_mq_open, raw, O_CREAT | O_RDWR, 0600, 1));
    char longer[300];
    memset(longer, 'x', 299); longer[0] = '/'; longer[299] = 0;
    SAY(mq_open(longer, O_CREAT | O_RDWR, 0600, 0));
    SAY(mq_open(name, O_RDWR));
    SAY(mq_unlink(name));
    for (int i = 0; i < 6; i++) {
        struct mq_attr bad[] = {{0, 0, 1}, {0, 1, 0}, {0, -1, 1}, {0, 65537, 1}, {0, 1, (16 << 20) + 1}, {0, 1, 1L << 40}};
        mqd_t q = mq_open(name, O_CREAT | O_RDWR, 0600, &bad[i]);
        printf("bad %d: %s\n", i, q < 0 ? strerror(errno) : "ok");
    }
    mqd_t q;
    SAY(q = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0640, &a));
    SAY(mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0640, &a));
    SAY(mq_open(name, O_RDWR | O_WRONLY));
    look("new", q);
    char from[64], to[128];
    sprintf(from, "/proc/self/fd/%d", q);
    ssize_t n = readlink(from, to, sizeof to - 1);
    to[n > 0 ? n : 0] = 0;
    printf("shown as its name %d, closed by exec %d\n", !strcmp(to, name), fcntl(q, F_GETFD) & 1);
    struct stat s;
    fstat(q, &s);
    printf("mode %o size %ld links %ld\n", s.st_mode, (long)s.st_size, (long)s.st_nlink);
    struct statfs f;
    fstatfs(q, &f);
    printf("magic %lx\n", (long)f.f_type);
    mq_close(q);
    umask(027);
    mq_unlink(name);
    q = mq_open(name, O_CREAT | O_RDONLY, 0777, 0);
    fstat(q, &s);
    printf("mode %o\n", s.st_mode);
    look("default", q);
    umask(022);
    mq_close(q);
    mq_unlink(name);
}

static void order(void) {
    struct mq_attr a = {O_NONBLOCK, 5, 20, 9}, b = {O_NONBLOCK, 1, 1, 0}, bad = {O_APPEND}, old;
    struct timespec t = soon(20), wrong = {0, -1};
    mqd_t q = mq_open(name, O_CREAT | O_RDWR, 0600, &a), r = mq_open(name, O_RDONLY | O_NONBLOCK), w = mq_open(name, O_WRONLY | O_NONBLOCK);
    look("blocking", q); look("not blocking", r);
    SAY(mq_setattr(q, &bad, 0));
    SAY(mq_setattr(q, &b, &old));
    look("set", q);
    get(q, 20, 0);
    b.mq_flags = 0;
    SAY(mq_setattr(q, &b, 0));
    SAY(mq_send(q, "x", 1, 32768));
    SAY(mq_send(q, "x", 21, 0));
    SAY(mq_send(r, "x", 1, 0));
    SAY(mq_send(0, "x", 1, 0));
    SAY(mq_send(-1, "x", 1, 0));
    SAY(mq_send(q, (void *)1, 1, 0));
    SAY(mq_timedsend(q, "y", 1, 0, &wrong));
    get(w, 20, 0);
    get(q, 19, 0);
    SAY(mq_send(q, "y", 1, 0));
    ready("one", q);
    get(q, 20, 0);
    ready("empty", q);
    unsigned prios[] = {1, 5, 1, 32767, 5};
    for (int i = 0; i < 5; i++) { char c = 'a' + i; mq_send(q, &c, 1, prios[i]); }
    ready("full", q);
    look("full", q);
    show("full", q);
    SAY(mq_send(w, "x", 1, 0));
    SAY(mq_timedsend(q, "x", 1, 0, &t));
    SAY(mq_timedsend(q, "x", 1, 0, (void *)1));
    for (int i = 0; i < 5; i++) get(q, 20, 0);
    get(r, 20, 0);
    t = soon(20);
    get(q, 20, &t);
    get(q, 20, &wrong);
    SAY(write(q, "x", 1));

    pid_t x = apart(receives, q, 0), y = apart(receives, q, 0);
    SAY(mq_send(q, "first", 5, 1));
    join("the first", x);
    SAY(mq_send(q, "second", 6, 1));
    join("the second", y);
    for (int i = 0; i < 5; i++) mq_send(q, "fill", 4, i);
    x = apart(sends, q, "waited");
    get(q, 20, 0);
    join("a sender", x);
    look("full again", q);
    for (int i = 0; i < 5; i++) get(q, 20, 0);
    struct sigaction act = {.sa_handler = none};
    sigaction(SIGUSR1, &act, 0);
    x = apart(receives, q, 0);
    kill(x, SIGUSR1);
    join("interrupted", x);
    act.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &act, 0);
    x = apart(receives, q, 0);
    kill(x, SIGUSR1);
    usleep(20000);
    mq_send(q, "restarted", 9, 0);
    join("restarted", x);
    x = apart(receives, q, 0);
    kill(x, SIGKILL);
    join("killed", x);
    mq_send(q, "kept", 4, 0);
    get(q, 20, 0);
    mq_unlink(name);
    mq_send(q, "still there", 11, 0);
    get(q, 20, 0);
    struct stat s;
    fstat(q, &s);
    printf("links %ld\n", (long)s.st_nlink);
    mq_close(r); mq_close(w); mq_close(q);
}

static void notice(void) {
    struct mq_attr a = {0, 5, 20, 0};
    mqd_t q = mq_open(name, O_CREAT | O_RDWR, 0600, &a);
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR2, &act, 0);
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 42}, bad = e;
    SAY(mq_notify(q, 0));
    bad.sigev_notify = 9;
    SAY(mq_notify(q, &bad));
    bad.sigev_notify = SIGEV_SIGNAL; bad.sigev_signo = 65;
    SAY(mq_notify(q, &bad));
    SAY(mq_notify(0, &e));
    SAY(syscall(SYS_mq_notify, q, 1));
    SAY(mq_notify(q, &e));
    SAY(mq_notify(q, &e));
    show("registered", q);
    IN_CHILD(SAY(mq_notify(q, &e)); SAY(mq_notify(q, 0)); show("in a child", q); mq_send(q, "from a child", 12, 0));
    printf("told %d code %d value %d\n", told, code, value);
    show("told", q);
    SAY(mq_notify(q, &e));
    mq_send(q, "not the first", 13, 0);
    printf("told %d\n", told);
    get(q, 20, 0); get(q, 20, 0);
    pid_t x = apart(receives, q, 0);
    mq_send(q, "for a receiver", 14, 0);
    join("a receiver", x);
    printf("told %d\n", told);
    mq_send(q, "now", 3, 0);
    printf("told %d\n", told);
    get(q, 20, 0);
    SAY(mq_notify(q, &e));
    mqd_t other = mq_open(name, O_RDWR);
    mq_close(other);
    show("after a close", q);
    e.sigev_notify = SIGEV_NONE;
    SAY(mq_notify(q, &e));
    show("nothing", q);
    mq_send(q, "x", 1, 0);
    show("nothing happened", q);
    get(q, 20, 0);
    told = 0;
    struct sigevent th = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = by_thread, .sigev_value.sival_int = 7};
    SAY(mq_notify(q, &th));
    show("a thread", q);
    mq_send(q, "x", 1, 0);
    for (int i = 0; i < 2000 && !told; i++) usleep(1000);
    printf("thread told %d value %d\n", told, value);
    get(q, 20, 0);
    SAY(mq_notify(q, &th));
    SAY(mq_notify(q, 0));
    show("taken back", q);
    mq_close(q);
    mq_unlink(name);
}

static void user(void) { if (setgroups(0, 0) || setresgid(4000, 4000, 4000) || setresuid(4000, 4000, 4000)) abort(); }

static void rights(void) {
    struct mq_attr a = {0, 5, 20, 0}, more = {0, 11, 20, 0}, big = {0, 10, 8192, 0};
    mqd_t q = mq_open(name, O_CREAT | O_RDWR, 0644, &a);
    fchmod(q, 0644);
    IN_CHILD(
        user();
        SAY(mq_open(name, O_RDONLY));
        SAY(mq_open(name, O_RDWR));
        SAY(mq_open(name, O_CREAT | O_WRONLY, 0600, 0));
        SAY(mq_unlink(name));
        strcat(name, "u");
        SAY(mq_open(name, O_CREAT | O_RDWR, 0600, &more));
        struct rlimit l = {0, 0};
        l.rlim_cur = l.rlim_max = 10 * 8192 + 20 * 48 - 1;
        setrlimit(RLIMIT_MSGQUEUE, &l);
        SAY(mq_open(name, O_CREAT | O_RDWR, 0600, &big));
        big.mq_msgsize--;
        SAY(mq_open(name, O_CREAT | O_RDWR, 0600, &big));
        strcat(name, "v");
        SAY(mq_open(name, O_CREAT | O_RDWR, 0600, &a));
        name[strlen(name) - 1] = 0;
        SAY(mq_unlink(name));
    );
    mq_close(q);
    mq_unlink(name);
}

static void mounted(void) {
    struct mq_attr a = {0, 5, 20, 0};
    char dir[] = "/tmp/mqueueXXXXXX", path[128], text[64];
    if (!mkdtemp(dir)) abort();
    if (mount("none", dir, "mqueue", 0, 0) < 0) { printf("mount: %s\n", strerror(errno)); rmdir(dir); return; }
    mqd_t q = mq_open(name, O_CREAT | O_RDWR, 0600, &a);
    mq_send(q, "12345", 5, 0);
    sprintf(path, "%s%s", dir, name);
    int fd = open(path, O_RDWR);
    ssize_t n = read(fd, text, 63);
    printf("read: %.*s", (int)(n > 0 ? n : 0), text);
    n = read(fd, text, 63);
    printf("then %ld\n", (long)n);
    SAY(mq_send(fd, "by the file", 11, 9));
    get(q, 20, 0);
    struct stat s;
    SAY(stat(path, &s));
    printf("mode %o\n", s.st_mode);
    SAY(chmod(path, 0622));
    stat(path, &s);
    printf("mode %o\n", s.st_mode);
    stat(dir, &s);
    printf("directory %o\n", s.st_mode);
    char other[140];
    sprintf(other, "%s-made", path);
    int made = open(other, O_CREAT | O_RDWR, 0600);
    look("made by open", made);
    SAY(mkdir(strcat(strcpy(text, path), "d"), 0700));
    SAY(rename(path, other));
    SAY(link(path, strcat(strcpy(text, path), "l")));
    SAY(unlink(other));
    SAY(unlink(other));
    SAY(mq_unlink(name));
    SAY(access(path, F_OK));
    close(fd); close(made); mq_close(q);
    umount(dir);
    rmdir(dir);
}

int main(void) {
    sprintf(name, "/guest-%d", getpid());
    strcpy(raw, name + 1);
    names();
    order();
    notice();
    rights();
    mounted();
    return 0;
}
