/* Pid namespaces: numbers, an init and its end, /proc, what others are told. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <pthread.h>
#include <unistd.h>

#define E(x) ((x) < 0 ? errno : 0)
#define fork() (fflush(stdout), fork())

static char dir[64];

static pid_t cloned(unsigned long flags)
{
    fflush(stdout);
    return syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

static int status_of(pid_t p)
{
    int status = -1;
    if (waitpid(p, &status, 0) != p)
        printf("waitpid %d\n", errno);
    return status;
}

static void end(int status)
{
    fflush(stdout);
    _exit(status);
}

static void in_child(const char *what, void (*f)(void))
{
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        f();
        end(0);
    }
    printf("%s ended %x\n", what, status_of(p));
}

/* A child in a new namespace, its init. */
static void in_space(const char *what, void (*f)(void))
{
    pid_t p = cloned(CLONE_NEWPID);
    if (!p) {
        f();
        end(0);
    }
    printf("%s ended %x\n", what, status_of(p));
}

static const char *line_of(const char *file, const char *key)
{
    static char line[256];
    FILE *f = fopen(file, "r");
    if (!f)
        return "none";
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) {
            fclose(f);
            line[strcspn(line, "\n")] = 0;
            return line;
        }
    fclose(f);
    return "nothing";
}

static int fields(const char *line)
{
    int n = 0;
    for (const char *p = line; *p; p++)
        n += *p == '\t';
    return n;
}

static void numbers(void)
{
    printf("init: pid %d tid %d parent %d group %d session %d\n", getpid(), (int)syscall(SYS_gettid), getppid(), getpgrp(), getsid(0));
    printf("setsid %d group %d session %d\n", setsid(), getpgrp(), getsid(0));
    pid_t p = fork();
    if (!p) {
        printf("child: pid %d parent %d group %d\n", getpid(), getppid(), getpgrp());
        printf("setpgid %d", E(setpgid(0, 0)));
        printf(" %d getpgid %d unknown %d\n", getpgrp(), getpgid(1), E(getpgid(700)));
        end(5);
    }
    printf("forked %d status %x\n", p, status_of(p));
    siginfo_t i = {0};
    p = fork();
    if (!p)
        end(3);
    printf("waitid %d", E(waitid(P_PID, p, &i, WEXITED)));
    printf(" pid %d status %d again %d\n", i.si_pid, i.si_status, E(waitpid(p, NULL, 0)));
    pid_t q = cloned(CLONE_NEWPID);
    if (!q) {
        printf("nested: pid %d parent %d kill above %d\n", getpid(), getppid(), E(kill(2, 0)));
        end(0);
    }
    printf("nested is %d here: %x\n", q, status_of(q));
}

static void *thread(void *a)
{
    *(int *)a = syscall(SYS_gettid);
    return a;
}
static void threads(void)
{
    int tid;
    pthread_t t;
    pthread_create(&t, NULL, thread, &tid);
    pthread_join(t, NULL);
    printf("thread %d\n", tid);
    pthread_mutex_t m;
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&m, &a);
    printf("pi %d", pthread_mutex_lock(&m));
    printf(" owner %d %d\n", m.__data.__owner, pthread_mutex_unlock(&m));
}

static void proc(void)
{
    char path[200], link[64] = "";
    DIR *d;
    struct dirent *e;
    int n = 0, ones = 0;
    printf("old mount: self %d", E(readlink("/proc/self", link, sizeof link)));
    printf(" pid %d", atoi(link) > 1);
    printf(" NSpid of two %d\n", fields(line_of("/proc/self/status", "NSpid:")));
    printf("mount %d\n", E(mount("p", dir, "proc", 0, NULL)));
    snprintf(path, sizeof path, "%s/self", dir);
    memset(link, 0, sizeof link);
    printf("self %zd %s\n", readlink(path, link, sizeof link - 1), link);
    if (!fork()) {
        pause();
        end(0);
    }
    d = opendir(dir);
    while (d && (e = readdir(d)))
        if (e->d_name[0] >= '0' && e->d_name[0] <= '9') {
            n++;
            ones += !strcmp(e->d_name, "1");
        }
    closedir(d);
    printf("processes %d init %d\n", n, ones);
    const char *keys[] = {"Tgid:", "Pid:", "PPid:", "NStgid:", "NSpid:", "NSpgid:", "NSsid:"};
    snprintf(path, sizeof path, "%s/2/status", dir);
    for (int i = 0; i < 7; i++)
        printf("%s; ", line_of(path, keys[i]));
    snprintf(path, sizeof path, "%s/thread-self", dir);
    memset(link, 0, sizeof link);
    printf("\nthread %zd %s", readlink(path, link, sizeof link - 1), link);
    int fd = syscall(SYS_pidfd_open, 2, 0);
    snprintf(path, sizeof path, "%s/self/fdinfo/%d", dir, fd);
    printf(" fdinfo %s", line_of(path, "Pid:"));
    printf(" %s\n", line_of(path, "NSpid:"));
    snprintf(path, sizeof path, "%s/sys/kernel/ns_last_pid", dir);
    printf("last %s\n", line_of(path, ""));
    umount(dir);
}

static int got;
static void handler(int s, siginfo_t *i, void *c)
{
    got = s * 100 + i->si_pid;
    (void)c;
}

static void from_inside(void)
{
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    pid_t p = fork();
    if (!p) {
        for (int s = 1; s < 32; s++)
            if (s != SIGUSR1 && kill(1, s))
                printf("kill %d: %d\n", s, errno);
        kill(1, SIGUSR1);
        end(0);
    }
    int st;
    while (waitpid(p, &st, 0) != p)
        ;
    printf("alive, child %x, handled %d\n", st, got);
    kill(getpid(), SIGKILL);
    kill(getpid(), SIGTERM);
    raise(SIGABRT);
    printf("alive\n");
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(1, SIGTERM);
    sigpending(&set);
    printf("pending when blocked %d\n", sigismember(&set, SIGTERM));
    sigemptyset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    printf("and dropped\n");
}

static void fault(void)
{
    *(volatile int *)8 = 1;
}

static int to[2], back[2];
static void step(int in, int out)
{
    char c = 0;
    fflush(stdout);
    if (out >= 0 && write(out, &c, 1) != 1)
        _exit(9);
    if (in >= 0 && read(in, &c, 1) != 1)
        _exit(8);
}

static void from_above(void)
{
    if (pipe(to) || pipe(back))
        return;
    pid_t p = cloned(CLONE_NEWPID);
    if (!p) {
        struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
        sigaction(SIGUSR1, &a, NULL);
        step(to[0], back[1]);
        printf("sender is %d\n", got);
        step(to[0], back[1]);
        pause();
        end(0);
    }
    step(back[0], -1);
    printf("TERM %d", E(kill(p, SIGTERM)));
    printf(" USR1 %d\n", E(kill(p, SIGUSR1)));
    usleep(20000);
    step(back[0], to[1]);
    kill(p, SIGSTOP);
    int st;
    printf("stopped %d", waitpid(p, &st, WUNTRACED) == p && WIFSTOPPED(st));
    kill(p, SIGCONT);
    printf(" killed %d\n", E(kill(p, SIGKILL)));
    printf("status %x\n", status_of(p));
}

static void the_end(void)
{
    int fds[2];
    char c;
    if (pipe(fds))
        return;
    pid_t p = cloned(CLONE_NEWPID);
    if (!p) {
        for (int i = 0; i < 5; i++)
            if (!fork()) {
                if (i == 3)
                    setsid();
                if (!fork())
                    pause();
                pause();
            }
        usleep(20000);
        close(fds[1]);
        _exit(7);
    }
    close(fds[1]);
    printf("status %x", status_of(p));
    printf(" all gone %zd\n", read(fds[0], &c, 1));
}

static void dead(void)
{
    printf("unshare %d", E(unshare(CLONE_NEWPID)));
    char link[64];
    printf(" again %d own %d for children %d\n", E(unshare(CLONE_NEWPID)), getpid() > 1, E(readlink("/proc/self/ns/pid_for_children", link, sizeof link)));
    printf("thread %d\n", E(syscall(SYS_clone, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, 0, 0, 0, 0)));
    pid_t p = fork();
    if (!p)
        end(printf("first %d\n", getpid()) != 8);
    status_of(p);
    printf("after its end %d\n", E(fork()));
}

static void orphans(void)
{
    int fds[2];
    char c;
    if (pipe(fds))
        return;
    pid_t p = fork();
    if (!p) {
        if (!fork()) {
            close(fds[0]);
            while (getppid() == 2)
                usleep(1000);
            printf("orphan %d of %d\n", getpid(), getppid());
            end(4);
        }
        end(0);
    }
    close(fds[1]);
    int first = status_of(p), st;
    c = read(fds[0], &c, 1);
    printf("child %x ", first);
    pid_t q = wait(&st);
    printf("inherited %d %x\n", q, st);
}

static void setns_pid(void)
{
    if (pipe(to) || pipe(back))
        return;
    int mine = open("/proc/self/ns/pid", O_RDONLY);
    pid_t p = cloned(CLONE_NEWPID);
    if (!p) {
        step(to[0], back[1]);
        int st;
        printf("init sees %d", waitpid(-1, &st, WNOHANG));
        printf(" 2 is there %d\n", E(kill(2, 0)));
        step(to[0], back[1]);
        end(0);
    }
    step(back[0], -1);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/pid", p);
    int ns = open(path, O_RDONLY);
    printf("enter %d", E(setns(ns, CLONE_NEWPID)));
    printf(" own pid stays %d\n", getpid() > 2);
    pid_t q = fork();
    if (!q) {
        printf("inside %d parent %d\n", getpid(), getppid());
        printf("up %d\n", E(setns(mine, 0)));
        step(-1, back[1]);
        pause();
    }
    step(back[0], -1);
    step(back[0], to[1]);
    printf("back %d", E(setns(mine, 0)));
    pid_t r = fork();
    if (!r)
        end(getpid() > 2 ? 0 : 1);
    printf(" %x\n", status_of(r));
    printf("parent type %x\n", ioctl(ioctl(ns, 0xb702), 0xb703));
    int pidfd = syscall(SYS_pidfd_open, p, 0);
    printf("by pidfd:");
    for (int i = 1; i <= 11; i++)
        printf(" %x", i == 11 ? E(ioctl(pidfd, 0xff05, 1)) : ioctl(ioctl(pidfd, 0xff00 + i, 0), 0xb703));
    printf("\n");
    step(-1, to[1]);
    /* Its end waits for the one that only we can reap. */
    printf("killed %x\n", status_of(q));
    printf("init %x\n", status_of(p));
}

static void told(void)
{
    int s[2], on = 1;
    struct ucred c;
    socklen_t len = sizeof c;
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, s) || pipe(to) || pipe(back))
        return;
    setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    int file = open(dir, O_RDONLY), sem = semget(IPC_PRIVATE, 1, 0600), lock = open("/tmp/pid-spaces-lock", O_CREAT | O_RDWR, 0600);
    pid_t p = cloned(CLONE_NEWPID);
    if (!p) {
        char x = 0;
        union { char b[CMSG_SPACE(sizeof c)]; struct cmsghdr h; } u = {{0}};
        struct iovec v = {&x, 1};
        struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
        getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &c, &len);
        printf("peer from above %d\n", c.pid);
        u.h = (struct cmsghdr){CMSG_LEN(sizeof c), SOL_SOCKET, SCM_CREDENTIALS};
        c = (struct ucred){getpid(), 0, 0};
        memcpy(CMSG_DATA(&u.h), &c, sizeof c);
        printf("send %d", E(sendmsg(s[0], &m, 0)));
        c.pid = 700;
        memcpy(CMSG_DATA(&u.h), &c, sizeof c);
        printf(" unknown %d\n", E(sendmsg(s[0], &m, 0)));
        step(to[0], back[1]);
        m.msg_controllen = sizeof u.b;
        recvmsg(s[0], &m, 0);
        memcpy(&c, CMSG_DATA(&u.h), sizeof c);
        printf("from above %d\n", c.pid);
        printf("owner from above %d", fcntl(file, F_GETOWN));
        printf(" set %d", E(fcntl(file, F_SETOWN, 1)));
        printf(" %d unknown %d\n", fcntl(file, F_GETOWN), E(fcntl(file, F_SETOWN, 700)));
        printf("sempid from above %d", semctl(sem, 0, GETPID));
        semctl(sem, 0, SETVAL, 3);
        printf(" own %d\n", semctl(sem, 0, GETPID));
        struct flock l = {.l_type = F_WRLCK};
        fcntl(lock, F_GETLK, &l);
        printf("lock from above %d", l.l_pid);
        l = (struct flock){.l_type = F_WRLCK, .l_start = 100, .l_len = 1};
        printf(" %d\n", E(fcntl(lock, F_SETLK, &l)));
        step(to[0], back[1]);
        end(0);
    }
    step(back[0], -1);
    char x;
    union { char b[CMSG_SPACE(sizeof c)]; struct cmsghdr h; } u = {{0}};
    struct iovec v = {&x, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
    recvmsg(s[1], &m, 0);
    memcpy(&c, CMSG_DATA(&u.h), sizeof c);
    printf("from below %d\n", c.pid == p);
    if (send(s[1], "x", 1, 0) != 1)
        return;
    fcntl(file, F_SETOWN, getpid());
    semctl(sem, 0, SETVAL, 1);
    struct flock l = {.l_type = F_WRLCK, .l_len = 1};
    fcntl(lock, F_SETLK, &l);
    step(back[0], to[1]);
    printf("owner is %d sempid %d", fcntl(file, F_GETOWN) == p, semctl(sem, 0, GETPID) == p);
    l = (struct flock){.l_type = F_WRLCK, .l_start = 100};
    fcntl(lock, F_GETLK, &l);
    printf(" lock %d\n", l.l_pid == p);
    step(-1, to[1]);
    status_of(p);
    semctl(sem, 0, IPC_RMID);
    unlink("/tmp/pid-spaces-lock");
}

static void chosen(void)
{
    struct clone_args a = {.exit_signal = SIGCHLD};
    pid_t tids[] = {1, 31000};
    a.set_tid = (uintptr_t)tids;
    a.set_tid_size = 2;
    printf("too deep %d", E(syscall(SYS_clone3, &a, sizeof a)));
    a.flags = CLONE_NEWPID;
    fflush(stdout);
    pid_t p = syscall(SYS_clone3, &a, sizeof a);
    if (!p) {
        printf(" chosen %d", getpid());
        tids[0] = 42;
        a.flags = 0;
        a.set_tid_size = 1;
        fflush(stdout);
        pid_t q = syscall(SYS_clone3, &a, sizeof a);
        if (!q)
            end(getpid() != 42);
        printf(" %d status %x", q, status_of(q));
        tids[0] = 1;
        printf(" taken %d", E(syscall(SYS_clone3, &a, sizeof a)));
        tids[0] = 0;
        printf(" none %d\n", E(syscall(SYS_clone3, &a, sizeof a)));
        end(0);
    }
    printf("outside %d status %x\n", p, p > 0 ? status_of(p) : -1);
    tids[0] = 2;
    a.flags = CLONE_NEWPID;
    a.set_tid_size = 1;
    printf("no init %d\n", E(syscall(SYS_clone3, &a, sizeof a)));
    printf("siblings %d\n", E(syscall(SYS_clone, CLONE_NEWPID | CLONE_THREAD | CLONE_VM | CLONE_SIGHAND, 0, 0, 0, 0)));
}

static void sibling(void)
{
    printf("sibling of init %d\n", E(syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)));
}

static void deep(void)
{
    for (int i = 0; i < 40; i++) {
        pid_t p = cloned(CLONE_NEWPID);
        if (p < 0) {
            printf("deep %d error %d\n", i, errno);
            end(0);
        }
        if (p)
            end(status_of(p) != 0);
        if (getpid() != 1)
            printf("not 1\n");
    }
}

static void unprivileged(void)
{
    if (setresuid(65534, 65534, 65534))
        return;
    printf("alone %d", E(unshare(CLONE_NEWPID)));
    printf(" with user %d", E(unshare(CLONE_NEWUSER | CLONE_NEWPID)));
    pid_t p = fork();
    if (!p)
        end(getpid());
    printf(" status %x\n", status_of(p));
}

static void all(void)
{
    pid_t a = fork();
    if (!a)
        pause();
    printf("all %d", E(kill(-1, SIGKILL)));
    printf(" status %x\n", status_of(a));
    printf("nobody %d\n", E(kill(-1, SIGKILL)));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 65536);
    strcpy(dir, "/tmp/pid-spacesXXXXXX");
    if (getuid() || !mkdtemp(dir))
        return 1;
    in_space("numbers", numbers);
    in_space("threads", threads);
    in_space("proc", proc);
    in_space("from inside", from_inside);
    in_space("fault", fault);
    in_child("from above", from_above);
    in_child("the end", the_end);
    in_child("dead", dead);
    in_space("orphans", orphans);
    in_child("setns", setns_pid);
    in_child("told", told);
    in_child("chosen", chosen);
    in_space("sibling", sibling);
    in_child("deep", deep);
    in_child("unprivileged", unprivileged);
    in_space("all", all);
    rmdir(dir);
    return 0;
}
