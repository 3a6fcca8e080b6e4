// Pseudoterminals as objects: names, numbers, locks, hang-ups, packet mode, readiness, instances of devpts.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <asm/termbits.h>
#include <unistd.h>

static void pair(int *m, int *s) {
    *m = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(*m);
    unlockpt(*m);
    *s = open(ptsname(*m), O_RDWR | O_NOCTTY);
}

static const char *why(long r) {
    return r < 0 ? strerrorname_np(errno) : "ok";
}

static void events(const char *what, int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    poll(&p, 1, 0);
    printf("  %s:%s%s%s%s%s\n", what, p.revents & POLLIN ? " in" : "", p.revents & POLLOUT ? " out" : "",
           p.revents & POLLPRI ? " pri" : "", p.revents & POLLHUP ? " hup" : "", p.revents & POLLERR ? " err" : "");
}

static void get(const char *what, int fd) {
    char b[100];
    errno = 0;
    int n = read(fd, b, sizeof b);
    printf("  %s: %d", what, n);
    if (n < 0) printf(" %s", strerrorname_np(errno));
    for (int i = 0; i < n; i++) {
        if (b[i] > 32 && b[i] < 127) printf(" %c", b[i]);
        else printf(" %02x", (unsigned char)b[i]);
    }
    puts("");
}

static int number(int m) {
    int n = -1;
    ioctl(m, TIOCGPTN, &n);
    return n;
}

static void wait_in(int fd) {
    struct pollfd p = {fd, POLLIN, 0};
    poll(&p, 1, 2000);
}

static int hups, conts;
static void count(int sig) {
    if (sig == SIGHUP) hups++;
    else conts++;
}

static void names(void) {
    puts("names");
    int m = posix_openpt(O_RDWR | O_NOCTTY), v = -1;
    char path[64], link[64], real[64] = {0};
    int s = open(ptsname(m), O_RDWR | O_NOCTTY);
    printf("locked %s %s %s\n", why(s), (ioctl(m, TIOCGPTLCK, &v), v) ? "locked" : "open", why(unlockpt(m)));
    printf("open %s\n", (ioctl(m, TIOCGPTLCK, &v), v) ? "locked" : "open");
    sprintf(path, "/dev/pts/%d", number(m));
    printf("ptsname %d\n", strcmp(path, ptsname(m)) == 0);
    s = open(path, O_RDWR | O_NOCTTY);
    struct stat a, b;
    fstat(s, &a);
    fstat(m, &b);
    printf("slave %o %d is number %d ino %d uid %d\n", a.st_mode & S_IFMT, major(a.st_rdev),
           minor(a.st_rdev) == number(m), (int)a.st_ino == number(m) + 3, a.st_uid == geteuid());
    printf("master %o %d:%d\n", b.st_mode & S_IFMT, major(b.st_rdev), minor(b.st_rdev));
    sprintf(link, "/proc/self/fd/%d", s);
    readlink(link, real, 63);
    printf("link %d ttyname %d isatty %d %d\n", !strcmp(real, path), !strcmp(ttyname(s), path), isatty(s), isatty(m));
    unsigned dev = 0;
    ioctl(s, TIOCGDEV, &dev);
    printf("TIOCGDEV %d:%d\n", (int)major(dev), minor(dev) == number(m));
    printf("slave's TIOCGPTN %s", why(ioctl(s, TIOCGPTN, &v)));
    printf(" TIOCSPTLCK %s", why(ioctl(s, TIOCSPTLCK, &v)));
    printf(" TIOCPKT %s", why(ioctl(s, TIOCPKT, &v)));
    printf(" TIOCGPTPEER %s\n", why(ioctl(s, TIOCGPTPEER, 2)));
    int peer = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct stat c;
    fstat(peer, &c);
    printf("peer %s same %d cloexec %d flags %o\n", why(peer), c.st_ino == a.st_ino && c.st_dev == a.st_dev,
           fcntl(peer, F_GETFD), fcntl(peer, F_GETFL) & 3);
    close(peer);
    printf("chmod %s", why(chmod(path, 0640)));
    int given = fchown(s, 1, 2);
    printf(" chown %s", why(given));
    stat(path, &a);
    // Which group terminals have is the mount's business.
    printf(" %o %d %d\n", a.st_mode & 07777, a.st_uid, given ? -1 : (int)a.st_gid);
    struct statfs f;
    statfs("/dev/pts", &f);
    printf("magic %lx\n", (long)f.f_type);
    printf("mkdir %s", why(mkdir("/dev/pts/x", 0755)));
    printf(" unlink %s", why(unlink(path)));
    printf(" rename %s", why(rename(path, "/dev/pts/y")));
    printf(" create %s\n", why(open("/dev/pts/z", O_CREAT | O_RDWR, 0600)));
    int found = 0;
    DIR *d = opendir("/dev/pts");
    for (struct dirent *e; (e = readdir(d));) {
        char n[16];
        sprintf(n, "%d", number(m));
        if (!strcmp(e->d_name, n)) found++;
        if (!strcmp(e->d_name, "ptmx")) found += 10;
    }
    closedir(d);
    printf("listed %d\n", found);
    printf("exclusive %s", why(ioctl(s, TIOCEXCL)));
    printf(" %s", why(open(path, O_RDWR | O_NOCTTY)));
    pid_t p = fork();
    if (!p) {
        setresgid(1, 1, 1);
        setresuid(1, 1, 1);
        _exit(open(path, O_RDWR | O_NOCTTY) < 0 ? errno : 0);
    }
    int st;
    waitpid(p, &st, 0);
    printf(" other %s", strerrorname_np(WEXITSTATUS(st)));
    printf(" is %d", (ioctl(s, TIOCGEXCL, &v), v));
    printf(" off %s\n", why(ioctl(s, TIOCNXCL)));
    sprintf(link, "/proc/self/fd/%d", m);
    int other = open(link, O_RDWR | O_NOCTTY);
    printf("master again: another %d\n", other >= 0 && number(other) != number(m));
    close(other);
    struct winsize w = {24, 80, 1, 2}, x = {0};
    printf("size %s", why(ioctl(m, TIOCSWINSZ, &w)));
    ioctl(s, TIOCGWINSZ, &x);
    printf(" %d %d %d %d bad %s\n", x.ws_row, x.ws_col, x.ws_xpixel, x.ws_ypixel, why(ioctl(s, TIOCGWINSZ, (void *)8)));
    int n = number(m);
    close(m);
    printf("name after close %s\n", why(open(path, O_RDWR | O_NOCTTY)));
    m = posix_openpt(O_RDWR | O_NOCTTY);
    printf("number in use: not given again %d\n", number(m) != n);
    close(m);
    close(s);
    usleep(100000);
    m = posix_openpt(O_RDWR | O_NOCTTY);
    printf("number free: given again %d\n", number(m) == n);
    close(m);
}

static void ioctls(void) {
    puts("requests");
    int m, s, v = 0;
    pair(&m, &s);
    static const struct { const char *name; unsigned long r; } all[] = {
        {"TIOCGETD", TIOCGETD}, {"TIOCMGET", TIOCMGET}, {"TIOCGICOUNT", TIOCGICOUNT}, {"TIOCGSERIAL", TIOCGSERIAL},
        {"TIOCGSOFTCAR", TIOCGSOFTCAR}, {"TIOCGSID", TIOCGSID}, {"TIOCGPGRP", TIOCGPGRP}, {"TIOCGPKT", TIOCGPKT},
        {"TIOCNOTTY", TIOCNOTTY}, {"TIOCSBRK", TIOCSBRK}, {"TIOCCBRK", TIOCCBRK}, {"TCSBRK", TCSBRK},
        {"TCSBRKP", TCSBRKP}, {"FIONREAD", FIONREAD}, {"TIOCOUTQ", TIOCOUTQ}, {"TCGETX", TCGETX}, {"0x5499", 0x5499},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        char b[256] = {0};
        printf("  %s %s", all[i].name, why(ioctl(s, all[i].r, b)));
        printf(" %s\n", why(ioctl(m, all[i].r, b)));
    }
    v = 3;
    printf("TIOCSETD 3 %s", why(ioctl(s, TIOCSETD, &v)));
    v = 0;
    printf(" 0 %s\n", why(ioctl(s, TIOCSETD, &v)));
    printf("TIOCSIG %s", why(ioctl(m, TIOCSIG, SIGTERM)));
    printf(" %s %s\n", why(ioctl(m, TIOCSIG, SIGINT)), why(ioctl(s, TIOCSIG, SIGINT)));
    struct termios2 t, u;
    ioctl(s, TCGETS2, &t);
    printf("termios2 %u %u\n", t.c_ispeed, t.c_ospeed);
    t.c_cflag = (t.c_cflag & ~CBAUD) | BOTHER;
    t.c_ospeed = 12345;
    t.c_cflag |= PARENB | CS7;
    printf("set %s", why(ioctl(s, TCSETS2, &t)));
    ioctl(m, TCGETS2, &u);
    printf(" %u %u %o through the master\n", u.c_ispeed, u.c_ospeed, u.c_cflag);
    t.c_cflag = (t.c_cflag & ~CBAUD) | B115200 | (B9600 << IBSHIFT);
    ioctl(m, TCSETSF2, &t);
    ioctl(s, TCGETS2, &u);
    printf("set by the master %u %u\n", u.c_ispeed, u.c_ospeed);
    struct { unsigned short i, o, c, l; unsigned char line, cc[8]; } old;
    printf("termio %s", why(ioctl(s, TCGETA, &old)));
    old.i = 0;
    old.cc[0] = 7;
    printf(" %s", why(ioctl(s, TCSETAW, &old)));
    ioctl(s, TCGETS2, &u);
    printf(" %x %d %u\n", u.c_iflag, u.c_cc[0], u.c_ospeed);
    struct termios lock;
    memset(&lock, 0, sizeof lock);
    lock.c_lflag = ECHO;
    printf("lock %s", why(ioctl(s, TIOCSLCKTRMIOS, &lock)));
    ioctl(s, TCGETS2, &u);
    u.c_lflag = 0;
    ioctl(s, TCSETS2, &u);
    ioctl(s, TCGETS2, &u);
    memset(&lock, 0, sizeof lock);
    ioctl(s, TIOCGLCKTRMIOS, &lock);
    printf(" %x kept %x\n", lock.c_lflag, u.c_lflag);
    pid_t p = fork();
    if (!p) {
        setresgid(1, 1, 1);
        setresuid(1, 1, 1);
        printf("unprivileged: TIOCSLCKTRMIOS %s", why(ioctl(s, TIOCSLCKTRMIOS, &lock)));
        printf(" TIOCVHANGUP %s", why(ioctl(s, TIOCVHANGUP)));
        printf(" vhangup %s\n", why(vhangup()));
        exit(0);
    }
    waitpid(p, 0, 0);
    printf("bad addresses %s", why(ioctl(s, TCGETS2, (void *)8)));
    printf(" %s", why(ioctl(s, TCSETS2, (void *)8)));
    printf(" %s", why(ioctl(m, TIOCSPTLCK, (void *)8)));
    printf(" %s\n", why(ioctl(s, FIONREAD, (void *)8)));
    close(m);
    close(s);
}

static void closing(void) {
    puts("closing");
    int m, s;
    pair(&m, &s);
    char name[64];
    strcpy(name, ptsname(m));
    fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK);
    get("master before anything", m);
    events("master", m);
    events("slave", s);
    write(s, "out", 3);
    wait_in(m);
    events("master with output", m);
    close(s);
    usleep(20000);
    events("master, slave closed, output left", m);
    get("the output", m);
    get("then", m);
    events("master, slave closed", m);
    printf("  write %s\n", why(write(m, "typed\n", 6)));
    usleep(20000);
    get("echoed", m);
    s = open(name, O_RDWR | O_NOCTTY);
    events("opened again", m);
    get("slave kept", s);
    get("master", m);
    pid_t p = fork();
    if (!p) {
        close(m);
        char b;
        int r = read(s, &b, 1);
        printf("  blocked reader: %d %s\n", r, why(r));
        exit(0);
    }
    usleep(100000);
    close(m);
    waitpid(p, 0, 0);
    get("after the master", s);
    events("slave hung up", s);
    printf("  write %s", why(write(s, "x", 1)));
    struct termios2 t;
    printf(" ioctl %s", why(ioctl(s, TCGETS2, &t)));
    int v = 0;
    printf(" TIOCSPGRP %s", why(ioctl(s, TIOCSPGRP, &v)));
    printf(" FIONREAD %s isatty %d\n", why(ioctl(s, FIONREAD, &v)), isatty(s));
    char link[64];
    sprintf(link, "/proc/self/fd/%d", s);
    printf("  reopen %s\n", why(open(link, O_RDWR | O_NOCTTY)));
    close(s);

    pair(&m, &s);
    int ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.fd = m}, out[4];
    epoll_ctl(ep, EPOLL_CTL_ADD, m, &e);
    e.data.fd = s;
    epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
    printf("epoll %d", epoll_wait(ep, out, 4, 0));
    write(m, "ab\n", 3);
    usleep(50000);
    int n = epoll_wait(ep, out, 4, 1000), seen = 0;
    for (int i = 0; i < n; i++) seen |= out[i].data.fd == m ? 1 : 2;
    printf(" %d again %d\n", seen, epoll_wait(ep, out, 4, 0));
    close(m);
    n = epoll_wait(ep, out, 4, 1000);
    printf("hung up %d %x\n", n, n > 0 ? out[0].events : 0);
    close(s);
    close(ep);

    // A writer that waits for room, and a hang-up.
    pair(&m, &s);
    p = fork();
    if (!p) {
        close(m);
        char big[65536];
        memset(big, 'x', sizeof big);
        int r = write(s, big, sizeof big);
        printf("blocked writer: some %d", r > 0 && r < (int)sizeof big);
        r = write(s, big, 1);
        printf(" then %s\n", why(r));
        exit(0);
    }
    usleep(100000);
    close(m);
    waitpid(p, 0, 0);
    close(s);
}

static void packets(void) {
    puts("packet mode");
    int m, s, v = 1;
    pair(&m, &s);
    fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK);
    printf("on %s", why(ioctl(m, TIOCPKT, &v)));
    printf(" is %d\n", (ioctl(m, TIOCGPKT, &v), v));
    get("nothing", m);
    write(s, "data", 4);
    wait_in(m);
    get("data", m);
    write(s, "more", 4);
    wait_in(m);
    char b[3];
    printf("  one byte %zd %d\n", read(m, b, 1), b[0]);
    printf("  three %zd %d %c%c\n", read(m, b, 3), b[0], b[1], b[2]);
    get("rest", m);
    tcflow(s, 0);
    events("stopped", m);
    get("stop", m);
    tcflow(s, 1);
    get("start", m);
    tcflow(s, 0);
    tcflow(s, 1);
    get("both", m);
    ioctl(s, TCFLSH, 0);
    get("flush input", m);
    ioctl(s, TCFLSH, 1);
    get("flush output", m);
    ioctl(s, TCFLSH, 2);
    get("flush both", m);
    write(m, "\x13", 1);
    usleep(20000);
    get("^S", m);
    write(m, "\x11", 1);
    usleep(20000);
    get("^Q", m);
    struct termios2 t;
    ioctl(s, TCGETS2, &t);
    t.c_iflag &= ~IXON;
    ioctl(s, TCSETS2, &t);
    get("no flow", m);
    t.c_iflag |= IXON;
    ioctl(s, TCSETS2, &t);
    get("flow", m);
    t.c_cc[VSTOP] = 1;
    ioctl(s, TCSETS2, &t);
    get("other characters", m);
    t.c_lflag |= EXTPROC;
    ioctl(s, TCSETS2, &t);
    get("EXTPROC", m);
    ioctl(s, TCSETS2, &t);
    get("EXTPROC again", m);
    write(s, "x", 1);
    wait_in(m);
    ioctl(s, TCFLSH, 0);
    get("status first", m);
    get("then data", m);
    v = 0;
    ioctl(m, TIOCPKT, &v);
    write(s, "y", 1);
    wait_in(m);
    get("off", m);
    close(m);
    close(s);
}

static void hanging_up(void) {
    puts("hanging up");
    int m, s;
    pair(&m, &s);
    char name[64];
    strcpy(name, ptsname(m));
    struct termios2 t;
    ioctl(s, TCGETS2, &t);
    t.c_lflag = 0;
    ioctl(s, TCSETS2, &t);
    write(m, "lost\n", 5);
    usleep(50000);
    fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK);
    printf("TIOCVHANGUP %s\n", why(ioctl(s, TIOCVHANGUP)));
    get("slave", s);
    printf("write %s\n", why(write(s, "x", 1)));
    get("master", m);
    int s2 = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
    ioctl(s2, TCGETS2, &t);
    printf("open %s settings %x\n", why(s2), t.c_lflag);
    get("new slave", s2);
    close(s);
    get("master, old slave closed", m);
    close(s2);
    get("master, both closed", m);
    close(m);
}

static void driven(void) {
    puts("signal-driven");
    int m, s;
    pair(&m, &s);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigprocmask(SIG_BLOCK, &set, 0);
    printf("O_ASYNC %s", why(fcntl(s, F_SETFL, O_RDWR | O_ASYNC)));
    printf(" owner is the caller %d\n", fcntl(s, F_GETOWN) == getpid());
    struct timespec none = {0, 50000000};
    printf("quiet %s", why(sigtimedwait(&set, 0, &none)));
    write(m, "ab", 2);
    usleep(20000);
    printf(" part %s", why(sigtimedwait(&set, 0, &none)));
    write(m, "\n", 1);
    struct timespec some = {2, 0};
    printf(" line %s\n", why(sigtimedwait(&set, 0, &some)));
    close(m);
    close(s);
}

static void through_the_master(void) {
    puts("through the master");
    int m, s, n = 0;
    pair(&m, &s);
    fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK);
    fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
    write(s, "output", 6);
    wait_in(m);
    ioctl(m, FIONREAD, &n);
    printf("FIONREAD %d", n);
    printf(" flush %s\n", why(ioctl(m, TCFLSH, 0)));
    get("flushed", m);
    printf("stop %s", why(ioctl(m, TCXONC, 0)));
    printf(" write %s", why(write(m, "x", 1)));
    events("stopped", m);
    printf("start %s", why(ioctl(m, TCXONC, 1)));
    printf(" write %s\n", why(write(m, "x", 1)));
    usleep(20000);
    get("echo", m);
    printf("send ^S %s", why(ioctl(m, TCXONC, 2)));
    usleep(20000);
    printf(" write %s", why(write(s, "y", 1)));
    printf(" send ^Q %s", why(ioctl(m, TCXONC, 3)));
    usleep(20000);
    printf(" write %s\n", why(write(s, "y", 1)));
    wait_in(m);
    get("output", m);
    char b[8];
    struct iovec v = {b, 8};
    printf("without waiting %s", why(preadv2(s, &v, 1, -1, RWF_NOWAIT)));
    printf(" %s\n", why(pwritev2(m, &v, 1, -1, RWF_NOWAIT)));
    int p[2];
    pipe(p);
    write(m, "z\n", 2);
    wait_in(s);
    printf("splice %d\n", (int)splice(s, 0, p[1], 0, 100000, 0));
    usleep(20000);
    get("echo", m);
    struct winsize w = {3, 4};
    ioctl(s, TIOCSWINSZ, &w);
    w.ws_row = 0;
    ioctl(m, TIOCGWINSZ, &w);
    printf("size %d\n", w.ws_row);
    // Input that has to wait, and a key that stops output among it.
    char big[3000];
    memset(big, 'i', sizeof big);
    struct termios2 t;
    ioctl(s, TCGETS2, &t);
    t.c_lflag &= ~ECHO;
    ioctl(s, TCSETS2, &t);
    write(m, "line\n", 5);
    for (int i = 0; i < 3; i++) write(m, big, sizeof big);
    write(m, "\x13", 1);
    usleep(50000);
    printf("stopped from afar %s\n", why(write(s, "y", 1)));
    write(m, "\x11", 1);
    usleep(50000);
    printf("started %s\n", why(write(s, "y", 1)));
    close(m);
    close(s);
}

static void instances(void) {
    puts("instances");
    char dir[] = "/tmp/pts.XXXXXX", path[64], link[64], real[64] = {0};
    mkdtemp(dir);
    printf("bad option %s\n", why(mount("devpts", dir, "devpts", 0, "what=1")));
    int r = mount("devpts", dir, "devpts", 0, "newinstance,ptmxmode=0666,mode=0620,gid=5,max=2");
    printf("mount %s\n", why(r));
    if (r) return;
    sprintf(path, "%s/ptmx", dir);
    struct stat a;
    stat(path, &a);
    printf("ptmx %o %d:%d ino %d\n", a.st_mode, major(a.st_rdev), minor(a.st_rdev), (int)a.st_ino);
    int m = open(path, O_RDWR | O_NOCTTY), m2 = open(path, O_RDWR | O_NOCTTY);
    printf("numbers %d %d", number(m), number(m2));
    printf(" too many %s\n", why(open(path, O_RDWR | O_NOCTTY)));
    unlockpt(m);
    int s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    fstat(s, &a);
    printf("slave %o %d:%d gid %d\n", a.st_mode, major(a.st_rdev), minor(a.st_rdev), a.st_gid);
    sprintf(link, "/proc/self/fd/%d", s);
    readlink(link, real, 63);
    printf("its name is in the instance %d\n", !strncmp(real, dir, strlen(dir)));
    write(s, "hi", 2);
    wait_in(m);
    get("through it", m);
    printf("remount %s", why(mount(0, dir, 0, MS_REMOUNT, "mode=0600,max=3")));
    int m3 = open(path, O_RDWR | O_NOCTTY);
    sprintf(path, "%s/%d", dir, number(m3));
    stat(path, &a);
    printf(" %d %o\n", number(m3), a.st_mode);
    printf("busy %s\n", why(umount(dir)));
    // What is called `pts` beside it is no devpts.
    char other[] = "/tmp/ptmx.XXXXXX", bound[64], beside[64], from[64];
    mkdtemp(other);
    sprintf(beside, "%s/pts", other);
    mkdir(beside, 0755);
    sprintf(bound, "%s/ptmx", other);
    close(open(bound, O_CREAT | O_RDWR, 0600));
    sprintf(from, "%s/ptmx", dir);
    printf("bind %s", why(mount(from, bound, 0, MS_BIND, 0)));
    close(m3);
    usleep(50000);
    m3 = open(bound, O_RDWR | O_NOCTTY);
    unlockpt(m3);
    printf(" open %s %d peer", why(m3), number(m3));
    printf(" %s\n", why(ioctl(m3, TIOCGPTPEER, O_RDWR | O_NOCTTY)));
    umount2(bound, MNT_DETACH);
    unlink(bound);
    rmdir(beside);
    rmdir(other);
    close(m);
    close(m2);
    close(m3);
    close(s);
    printf("umount %s\n", why(umount(dir)));
    // A node of a slave anywhere else leads nowhere; one of ptmx looks beside itself.
    sprintf(path, "%s/node", dir);
    mknod(path, S_IFCHR | 0666, makedev(136, 0));
    printf("node of a slave %s\n", why(open(path, O_RDWR | O_NOCTTY)));
    unlink(path);
    mknod(path, S_IFCHR | 0666, makedev(5, 2));
    printf("node of ptmx %s\n", why(open(path, O_RDWR | O_NOCTTY)));
    unlink(path);
    rmdir(dir);
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    names();
    ioctls();
    closing();
    packets();
    hanging_up();
    driven();
    through_the_master();
    instances();
    return 0;
}
