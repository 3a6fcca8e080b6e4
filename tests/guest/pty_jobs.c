// Sessions, controlling terminals and job control: who gets which terminal, which signals, which errors.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static const char *why(long r) {
    return r < 0 ? strerrorname_np(errno) : "ok";
}

static void pair(int *m, int *s) {
    *m = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(*m);
    unlockpt(*m);
    *s = open(ptsname(*m), O_RDWR | O_NOCTTY);
}

// tty_nr's major and tpgid of a process.
static void shown(const char *what, pid_t of) {
    char path[64], b[1024];
    sprintf(path, "/proc/%d/stat", of);
    FILE *f = fopen(path, "r");
    if (!f) {
        printf("%s: gone\n", what);
        return;
    }
    fgets(b, sizeof b, f);
    fclose(f);
    int pgrp, sid, tty, tpgid;
    sscanf(strrchr(b, ')') + 2, "%*c %*d %d %d %d %d", &pgrp, &sid, &tty, &tpgid);
    printf("%s: tty %d foreground %s\n", what, tty >> 8, tpgid == -1 ? "none" : tpgid == 0 ? "zero" : tpgid == pgrp ? "own" : tpgid == sid ? "session's" : "other");
}

static volatile int got[65];
static void note(int sig) {
    got[sig]++;
}

static void catch(int sig, int flags) {
    struct sigaction a = {.sa_handler = note, .sa_flags = flags};
    sigaction(sig, &a, 0);
}

static void reap(const char *what, pid_t p, int options) {
    int st;
    pid_t r = waitpid(p, &st, options);
    printf("%s: ", what);
    if (r != p) printf("%s\n", why(r));
    else if (WIFEXITED(st)) printf("exit %d\n", WEXITSTATUS(st));
    else if (WIFSIGNALED(st)) printf("killed %s\n", sigabbrev_np(WTERMSIG(st)));
    else if (WIFSTOPPED(st)) printf("stopped %s\n", sigabbrev_np(WSTOPSIG(st)));
    else printf("continued\n");
}

// Runs f as a session leader with the slave as its controlling terminal.
static int m, s;
static void session(const char *what, int (*f)(void), int parent_waits) {
    printf("%s\n", what);
    fflush(stdout);
    pair(&m, &s);
    pid_t p = fork();
    if (!p) {
        setsid();
        printf("TIOCSCTTY %s\n", why(ioctl(s, TIOCSCTTY, 0)));
        exit(f());
    }
    if (parent_waits) reap(what, p, 0);
    close(m);
    close(s);
    if (!parent_waits) reap(what, p, 0);
}

static int attaching(void) {
    shown("leader", getpid());
    printf("again %s", why(ioctl(s, TIOCSCTTY, 0)));
    int m2, s2, tty;
    pair(&m2, &s2);
    printf(" another %s", why(ioctl(s2, TIOCSCTTY, 1)));
    printf(" pgrp %d sid %d\n", tcgetpgrp(s) == getpid(), tcgetsid(s) == getpid());
    printf("master's %d %d\n", tcgetpgrp(m) == getpid(), tcgetsid(m) == getpid());
    printf("other's pgrp %s", why(tcgetpgrp(s2)));
    printf(" sid %s", why(tcgetsid(s2)));
    printf(" set %s", why(tcsetpgrp(s2, getpid())));
    printf(" master's %d", tcgetpgrp(m2));
    printf(" %s\n", why(tcgetsid(m2)));
    struct stat st;
    tty = open("/dev/tty", O_RDWR);
    fstat(tty, &st);
    printf("/dev/tty %s %llx pgrp %d write %zd\n", why(tty), (long long)st.st_rdev, tcgetpgrp(tty) == getpid(), write(tty, "x", 1));
    pid_t p = fork();
    if (!p) {
        shown("child", getpid());
        printf("child TIOCSCTTY %s\n", why(ioctl(s, TIOCSCTTY, 1)));
        printf("child TIOCNOTTY %s", why(ioctl(s, TIOCNOTTY)));
        printf(" twice %s /dev/tty %s\n", why(ioctl(s, TIOCNOTTY)), why(open("/dev/tty", O_RDWR)));
        shown("child", getpid());
        setpgid(0, 0);
        setpgid(0, getppid());
        setsid();
        printf("new session: tcgetsid %s\n", why(tcgetsid(s)));
        printf("not stolen %s", why(ioctl(s, TIOCSCTTY, 0)));
        int o = open(ptsname(m), O_RDWR);
        printf(" nor by opening %s\n", why(open("/dev/tty", O_RDWR)));
        int w = open(ptsname(m2), O_WRONLY);
        printf("write-only claims none %s\n", why(open("/dev/tty", O_RDWR)));
        int r = open(ptsname(m2), O_RDWR);
        printf("opening claims %s %d\n", why(open("/dev/tty", O_RDWR)), tcgetpgrp(r) == getpid());
        printf("setsid of a leader %s\n", why(setsid()));
        exit(0);
    }
    reap("child", p, 0);
    p = fork();
    if (!p) {
        setsid();
        printf("stolen %s", why(ioctl(s, TIOCSCTTY, 1)));
        printf(" %d\n", tcgetsid(s) == getpid());
        signal(SIGHUP, SIG_IGN);
        exit(0);
    }
    reap("thief", p, 0);
    shown("robbed", getpid());
    printf("terminal now %s\n", why(tcgetsid(m)));
    return 0;
}

static int giving_up(void) {
    catch(SIGHUP, 0);
    catch(SIGCONT, 0);
    pid_t p = fork();
    if (!p) {
        for (int i = 0; i < 300 && !(got[SIGHUP] && got[SIGCONT]); i++) usleep(10000);
        printf("child hup %d cont %d", got[SIGHUP], got[SIGCONT]);
        printf(" /dev/tty %s\n", why(open("/dev/tty", O_RDWR)));
        exit(0);
    }
    usleep(50000);
    int given_up = ioctl(s, TIOCNOTTY);
    reap("child", p, 0);
    printf("TIOCNOTTY %s\n", why(given_up));
    printf("leader hup %d cont %d\n", got[SIGHUP], got[SIGCONT]);
    shown("leader", getpid());
    printf("back %s\n", why(ioctl(s, TIOCSCTTY, 0)));
    return 0;
}

static pid_t background(void (*f)(void)) {
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        setpgid(0, 0);
        f();
        fflush(stdout);
        _exit(0);
    }
    setpgid(p, p);
    return p;
}

static void reads(void) {
    char b[10];
    int r = read(s, b, 1);
    printf("background read %d %s\n", r, why(r));
}
static void reads_ignoring(void) {
    signal(SIGTTIN, SIG_IGN);
    reads();
}
static void reads_catching(void) {
    catch(SIGTTIN, 0);
    reads();
    printf("caught %d\n", got[SIGTTIN]);
}
static void writes(void) {
    printf("background write %s\n", why(write(s, "w", 1)));
}
static void sets(void) {
    struct termios t;
    tcgetattr(s, &t);
    printf("background tcsetattr %s\n", why(tcsetattr(s, TCSANOW, &t)));
}
static void sets_ignoring(void) {
    signal(SIGTTOU, SIG_IGN);
    sets();
    printf("tcflush %s\n", why(tcflush(s, TCIFLUSH)));
    struct winsize w = {1, 2};
    printf("size %s\n", why(ioctl(s, TIOCSWINSZ, &w)));
}
static void takes(void) {
    printf("background tcsetpgrp %s\n", why(tcsetpgrp(s, getpgrp())));
}
static void takes_blocking(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTTOU);
    sigprocmask(SIG_BLOCK, &set, 0);
    takes();
}

static int stopping(void) {
    signal(SIGTTOU, SIG_IGN);
    pid_t p = background(reads);
    reap("reader", p, WUNTRACED);
    tcsetpgrp(s, p);
    write(m, "q\n", 2);
    kill(p, SIGCONT);
    reap("reader in the foreground", p, 0);
    tcsetpgrp(s, getpid());
    reap("ignoring reader", background(reads_ignoring), WUNTRACED);
    reap("catching reader", background(reads_catching), WUNTRACED);
    signal(SIGTTOU, SIG_DFL);
    reap("writer", background(writes), WUNTRACED);
    p = background(sets);
    reap("setter", p, WUNTRACED);
    kill(p, SIGKILL);
    reap("setter", p, 0);
    reap("ignoring setter", background(sets_ignoring), WUNTRACED);
    p = background(takes);
    reap("taker", p, WUNTRACED);
    kill(p, SIGKILL);
    reap("taker", p, 0);
    reap("blocking taker", background(takes_blocking), WUNTRACED);
    signal(SIGTTOU, SIG_IGN);
    printf("back %s\n", why(tcsetpgrp(s, getpid())));
    struct termios t;
    tcgetattr(s, &t);
    t.c_lflag |= TOSTOP;
    tcsetattr(s, TCSANOW, &t);
    signal(SIGTTOU, SIG_DFL);
    p = background(writes);
    reap("writer with TOSTOP", p, WUNTRACED);
    kill(p, SIGKILL);
    reap("writer", p, 0);
    t.c_lflag &= ~TOSTOP;
    tcsetattr(s, TCSANOW, &t);
    printf("no such group %s", why(tcsetpgrp(s, 99999)));
    printf(" negative %s", why(tcsetpgrp(s, -5)));
    printf(" other session's %s\n", why(tcsetpgrp(s, getppid())));
    // A group whose members have nobody in the session to continue them.
    fflush(stdout);
    p = fork();
    if (!p) {
        pid_t c = fork();
        if (!c) {
            setpgid(0, 0);
            usleep(100000);
            reads();
            sets();
            takes();
            fflush(stdout);
            _exit(0);
        }
        _exit(0);
    }
    waitpid(p, 0, 0);
    usleep(400000);
    return 0;
}

static int keys(void) {
    catch(SIGINT, 0);
    catch(SIGQUIT, 0);
    catch(SIGTSTP, 0);
    catch(SIGWINCH, 0);
    static const struct { char c; int sig; } all[] = {{3, SIGINT}, {28, SIGQUIT}, {26, SIGTSTP}};
    for (int i = 0; i < 3; i++) {
        write(m, &all[i].c, 1);
        usleep(50000);
        printf("key %d: %d\n", all[i].c, got[all[i].sig]);
    }
    struct winsize w = {10, 20};
    ioctl(m, TIOCSWINSZ, &w);
    usleep(20000);
    printf("winch %d", got[SIGWINCH]);
    ioctl(s, TIOCSWINSZ, &w);
    usleep(20000);
    printf(" same size %d", got[SIGWINCH]);
    w.ws_row++;
    ioctl(s, TIOCSWINSZ, &w);
    usleep(20000);
    printf(" another %d\n", got[SIGWINCH]);
    ioctl(m, TIOCSIG, SIGINT);
    usleep(20000);
    printf("TIOCSIG %d\n", got[SIGINT]);
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, 0);
    write(m, "\3", 1);
    sigwaitinfo(&set, &info);
    printf("code %d pid %d\n", info.si_code, info.si_pid);
    // A reader that a signal interrupts.
    sigprocmask(SIG_UNBLOCK, &set, 0);
    pid_t p = fork();
    if (!p) {
        usleep(100000);
        write(m, "\3", 1);
        _exit(0);
    }
    char b[10];
    int r = read(s, b, 1);
    printf("interrupted %s\n", why(r));
    while (waitpid(p, 0, 0) < 0) {}
    catch(SIGINT, SA_RESTART);
    p = fork();
    if (!p) {
        signal(SIGINT, SIG_IGN);
        usleep(100000);
        write(m, "\3", 1);
        usleep(50000);
        write(m, "k\n", 2);
        _exit(0);
    }
    r = read(s, b, 9);
    printf("restarted %d\n", r);
    waitpid(p, 0, 0);
    // The terminal's foreground group may be gone.
    signal(SIGTTOU, SIG_IGN);
    p = fork();
    if (!p) {
        setpgid(0, 0);
        tcsetpgrp(s, getpid());
        _exit(0);
    }
    waitpid(p, 0, 0);
    printf("group gone: pgrp is it %d key %zd\n", tcgetpgrp(s) == p, write(m, "\3", 1));
    printf("read %s\n", (signal(SIGTTIN, SIG_IGN), why(read(s, b, 1))));
    return 0;
}

// The master is closed: the leader is hung up, and the foreground group when it ends.
static volatile int *shared;
static int master_closes(void) {
    close(m);
    catch(SIGHUP, 0);
    catch(SIGCONT, 0);
    pid_t p = fork();
    if (!p) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_IGN);
        tcsetpgrp(s, getpid());
        shared[0] = 1;
        for (int i = 0; i < 300 && !got[SIGHUP]; i++) usleep(10000);
        shared[1] = got[SIGHUP];
        shared[2] = got[SIGCONT];
        shared[3] = open("/dev/tty", O_RDWR) < 0 ? errno : 0;
        _exit(0);
    }
    while (!shared[0]) usleep(1000);
    shared[4] = 1;
    for (int i = 0; i < 300 && !got[SIGHUP]; i++) usleep(10000);
    usleep(20000);
    printf("leader hup %d cont %d", got[SIGHUP], got[SIGCONT]);
    printf(" foreground not yet %d /dev/tty %s\n", shared[1], why(open("/dev/tty", O_RDWR)));
    shown("leader", getpid());
    char b;
    printf("read %zd", read(s, &b, 1));
    printf(" write %s", why(write(s, "x", 1)));
    printf(" tcgetattr %s\n", why(tcgetattr(s, &(struct termios){0})));
    return 5;
}

static void hang_up(void) {
    puts("the master is closed");
    fflush(stdout);
    shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pair(&m, &s);
    pid_t p = fork();
    if (!p) {
        setsid();
        ioctl(s, TIOCSCTTY, 0);
        exit(master_closes());
    }
    close(s);
    while (!shared[4]) usleep(1000);
    usleep(50000);
    close(m);
    reap("leader", p, 0);
    for (int i = 0; i < 300 && !shared[1]; i++) usleep(10000);
    usleep(20000);
    printf("foreground hup %d cont %d tty %s\n", shared[1], shared[2], strerrorname_np(shared[3]));
}

// The leader ends: the foreground group is hung up, the terminal is free.
static int leader_ends(void) {
    catch(SIGHUP, 0);
    catch(SIGCONT, 0);
    pid_t p = fork();
    if (!p) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_IGN);
        tcsetpgrp(s, getpid());
        shared[0] = 1;
        for (int i = 0; i < 300 && !got[SIGHUP]; i++) usleep(10000);
        usleep(50000);
        shared[1] = got[SIGHUP];
        shared[2] = got[SIGCONT];
        shared[3] = open("/dev/tty", O_RDWR) < 0 ? errno : 0;
        shared[5] = write(s, "x", 1) < 0 ? errno : 0;
        _exit(0);
    }
    while (!shared[0]) usleep(1000);
    return 6;
}

static int vhangs_up(void) {
    catch(SIGHUP, 0);
    catch(SIGCONT, 0);
    printf("vhangup %s", why(vhangup()));
    usleep(20000);
    printf(" hup %d cont %d /dev/tty %s\n", got[SIGHUP], got[SIGCONT], why(open("/dev/tty", O_RDWR)));
    char b;
    printf("read %zd write %s\n", read(s, &b, 1), why(write(s, "x", 1)));
    int n = open(ptsname(m), O_RDWR);
    printf("opened again %s, controls %d\n", why(n), tcgetsid(n) == getpid());
    return 0;
}

static int pushes(void) {
    setresgid(1, 1, 1);
    setresuid(1, 1, 1);
    // Whether it is allowed is a setting of the host.
    int r = ioctl(s, TIOCSTI, "a");
    printf("TIOCSTI as expected %d\n", r == 0 || errno == EIO);
    return 0;
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    session("attaching", attaching, 1);
    session("giving up", giving_up, 1);
    session("stopping", stopping, 1);
    session("keys", keys, 1);
    hang_up();
    memset((void *)shared, 0, 4096);
    session("the leader ends", leader_ends, 1);
    for (int i = 0; i < 300 && !shared[1]; i++) usleep(10000);
    usleep(20000);
    printf("foreground hup %d cont %d tty %s write %s\n", shared[1], shared[2], strerrorname_np(shared[3]), shared[5] ? strerrorname_np(shared[5]) : "ok");
    session("vhangup", vhangs_up, 1);
    session("TIOCSTI", pushes, 1);
    return 0;
}
