// The line discipline of a terminal: what is typed at the master, what the slave reads, what the screen shows.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int m, s;
static struct termios base;

static void show(const char *what, const char *p, int n) {
    printf("%s %d:", what, n);
    if (n < 0) {
        printf(" %s", strerrorname_np(errno));
    } else if (n > 300) {
        printf(" %.3s...%02x%02x", p, (unsigned char)p[n - 2], (unsigned char)p[n - 1]);
    } else {
        for (int i = 0; i < n; i++) {
            unsigned char c = p[i];
            if (c > 32 && c < 127 && c != '\\') putchar(c);
            else printf("\\%02x", c);
        }
    }
    puts("");
}

static void setup(int iflag_off, int iflag_on, int lflag_off, int lflag_on) {
    struct termios t = base;
    t.c_iflag = (t.c_iflag & ~iflag_off) | iflag_on;
    t.c_lflag = (t.c_lflag & ~lflag_off) | lflag_on;
    tcsetattr(s, TCSAFLUSH, &t);
}

static void type(const char *text, int n) {
    if (n < 0) n = strlen(text);
    int w = write(m, text, n);
    if (w != n) printf("typed %d of %d\n", w, n);
}

static int ready(int fd, int ms) {
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, ms) > 0 && (p.revents & POLLIN);
}

static void screen(void) {
    char b[16384];
    int n = 0;
    while (ready(m, 60)) {
        int k = read(m, b + n, sizeof b - n);
        if (k <= 0) break;
        n += k;
    }
    show("  screen", b, n);
}

static void input(int most) {
    char b[8192];
    if (!ready(s, 60)) {
        puts("  nothing to read");
        return;
    }
    int n = read(s, b, most);
    show("  read", b, n);
}

static void line(const char *what, const char *text) {
    printf("%s\n", what);
    type(text, -1);
    screen();
    input(200);
}

static int queued(int fd) {
    int n = -1;
    ioctl(fd, FIONREAD, &n);
    return n;
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    m = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(m);
    unlockpt(m);
    s = open(ptsname(m), O_RDWR | O_NOCTTY);
    tcgetattr(s, &base);
    printf("initial %x %x %x %x line %d speeds %d %d\n", base.c_iflag, base.c_oflag, base.c_cflag, base.c_lflag, base.c_line,
           cfgetispeed(&base) == B38400, cfgetospeed(&base) == B38400);
    show("characters", (char *)base.c_cc, 17);

    line("a line", "hello\n");
    line("a return", "hello\r");
    line("erase", "helxo\x7f\x7flo\n");
    line("erase all", "ab\x7f\x7f\x7f\x7f\n");
    line("erase control and tab", "a\x01\tb\tc\x7f\x7f\x7f\x7f\x7f\x7fz\n");
    line("words", "one two_3 ..\x17\x17one\n");
    line("words in other letters", "a \xe4\xf6\x17.\n");
    line("kill", "abc\tdef\x15now\n");
    line("quoted", "a\x16\x03\x16\x16\x16\n\n");
    line("reprint", "ab\x01" "c\x12" "d\n");
    line("end of file", "abc\x04");
    line("end of file alone", "\x04");
    line("two lines", "one\ntwo\n");
    input(200);
    line("a null", "a\n");
    type("x\0y\n", 4);
    screen();
    input(200);

    puts("partial reads");
    type("abcdef\nghi\n", -1);
    input(3);
    input(3);
    input(1);
    input(10);
    puts("end of file behind a read that ends before it");
    type("abc\x04", -1);
    input(3);
    input(3);
    screen();

    setup(0, 0, ECHOE, 0);
    line("no ECHOE", "abc\x7f\x7fx\n");
    setup(0, 0, ECHOKE, 0);
    line("no ECHOKE", "abc\x15x\n");
    setup(0, 0, ECHOK | ECHOKE, 0);
    line("no ECHOK", "abc\x15x\n");
    setup(0, 0, 0, ECHOPRT);
    line("ECHOPRT", "abcd\x7f\x7fxy\x7f\n");
    line("ECHOPRT words", "abcd ef\x17\x17ok\n");
    setup(0, 0, ECHOCTL, 0);
    line("no ECHOCTL", "a\x01\x02\x7f\x16\x04z\n");
    setup(0, 0, ECHO, 0);
    line("no ECHO", "abc\x7f\x15\x16zd\n");
    setup(0, 0, ECHO, ECHONL);
    line("ECHONL", "abc\n");
    setup(0, 0, IEXTEN, 0);
    line("no IEXTEN", "a\x16\x17\x12z\n");
    setup(ICRNL, 0, 0, 0);
    line("no ICRNL", "a\rb\n");
    setup(ICRNL, INLCR, 0, 0);
    line("INLCR", "a\nb\x04");
    setup(ICRNL, IGNCR, 0, 0);
    line("IGNCR", "a\rb\n");
    setup(0, ISTRIP, 0, 0);
    line("ISTRIP", "\xe1\xe2\n");
    setup(0, IUCLC, 0, 0);
    line("IUCLC", "ABc\n");
    setup(0, PARMRK, 0, 0);
    line("PARMRK", "a\xff" "b\n");
    setup(0, IUTF8, 0, 0);
    line("IUTF8 erase", "\xc3\xa4\xe2\x82\xac\x7f" "b\tc\x7f\x7f\n");
    setup(0, IUTF8, 0, ECHOPRT);
    line("IUTF8 ECHOPRT", "a\xe2\x82\xac\x7f\n");
    struct termios t = base;
    t.c_cc[VEOL] = '!';
    t.c_cc[VEOL2] = '?';
    t.c_cc[VERASE] = 0;
    tcsetattr(s, TCSAFLUSH, &t);
    line("VEOL", "ab!cd?e\x7f\n");
    input(200);
    input(200);

    puts("output");
    static const struct { const char *name; int off, on; const char *text; } outs[] = {
        {"ONLCR", 0, 0, "a\nb\tc\r\n"},       {"no OPOST", OPOST, 0, "a\nb\tc\r\n"},
        {"no ONLCR", ONLCR, 0, "a\nb\n"},      {"OCRNL", 0, OCRNL, "a\rb\r\n"},
        {"ONOCR", 0, ONOCR, "\ra\r\r\n\r"},    {"ONLRET", ONLCR, ONLRET | ONOCR, "ab\n\rc\r"},
        {"XTABS", 0, XTABS, "a\tbc\b\t\xe4\t.\n"}, {"OLCUC", 0, OLCUC, "abC\xe4\n"},
    };
    for (unsigned i = 0; i < sizeof outs / sizeof *outs; i++) {
        t = base;
        t.c_oflag = (t.c_oflag & ~outs[i].off) | outs[i].on;
        tcsetattr(s, TCSADRAIN, &t);
        printf("%s %zd\n", outs[i].name, write(s, outs[i].text, strlen(outs[i].text)));
        screen();
    }
    t = base;
    t.c_oflag |= XTABS;
    tcsetattr(s, TCSANOW, &t);
    line("echoed tabs as spaces", "a\tb\x7f\x7f\n");

    puts("a line that is too long");
    tcsetattr(s, TCSAFLUSH, &base);
    setup(0, IMAXBEL, ECHO, 0);
    char big[6000];
    memset(big, 'x', sizeof big);
    big[4094] = 'y';
    type(big, 4100);
    type("\n", 1);
    usleep(50000);
    printf("  queued %d\n", queued(s));
    input(8000);
    screen();

    puts("raw");
    setup(0, 0, ICANON | ECHO, 0);
    type("a\x7f\x15\x04\n", -1);
    usleep(20000);
    printf("  queued %d\n", queued(s));
    input(200);
    puts("from lines to raw and back");
    tcsetattr(s, TCSANOW, &base);
    type("part", -1);
    input(200);
    t = base;
    t.c_lflag &= ~ICANON;
    tcsetattr(s, TCSANOW, &t);
    input(2);
    tcsetattr(s, TCSANOW, &base);
    printf("  queued %d\n", queued(s));
    input(200);
    screen();

    puts("VMIN and VTIME");
    fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
    static const int mt[][2] = {{0, 0}, {0, 3}, {5, 0}, {5, 3}};
    for (int i = 0; i < 4; i++) {
        for (int nb = 0; nb < 2; nb++) {
            t = base;
            t.c_lflag &= ~(ICANON | ECHO);
            t.c_cc[VMIN] = mt[i][0];
            t.c_cc[VTIME] = mt[i][1];
            tcsetattr(s, TCSAFLUSH, &t);
            fcntl(s, F_SETFL, O_RDWR | (nb ? O_NONBLOCK : 0));
            char b[100];
            printf(" min %d time %d%s\n", mt[i][0], mt[i][1], nb ? " nonblocking" : "");
            struct timespec a, z;
            if (mt[i][0] == 0 || nb) {
                clock_gettime(CLOCK_MONOTONIC, &a);
                show("  empty", b, read(s, b, 100));
                clock_gettime(CLOCK_MONOTONIC, &z);
                double d = z.tv_sec - a.tv_sec + (z.tv_nsec - a.tv_nsec) / 1e9;
                printf("  waited %s\n", d < 0.2 ? "no" : "yes");
            }
            type("abc", -1);
            usleep(20000);
            printf("  poll %d\n", ready(s, 0));
            if (mt[i][0] == 0 || mt[i][1] || nb) show("  three", b, read(s, b, 100));
            type("defghijk", -1);
            usleep(20000);
            printf("  poll %d\n", ready(s, 0));
            show("  all", b, read(s, b, 100));
            type("abcdefgh", -1);
            usleep(20000);
            show("  two", b, read(s, b, 2));
            show("  rest", b, read(s, b, 100));
        }
    }
    fcntl(s, F_SETFL, O_RDWR);

    puts("stopped and started");
    tcsetattr(s, TCSAFLUSH, &base);
    type("\x13xy", -1);
    usleep(20000);
    screen();
    fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
    int n = write(s, "out", 3);
    printf("  write %d %s\n", n, n < 0 ? strerrorname_np(errno) : "");
    struct pollfd p = {s, POLLOUT, 0};
    printf("  poll %d\n", poll(&p, 1, 0));
    type("\x11", -1);
    usleep(20000);
    screen();
    printf("  poll %d\n", poll(&p, 1, 0));
    setup(0, IXANY, 0, 0);
    type("\x13q", -1);
    screen();
    puts("flow by call");
    printf("  off %d", tcflow(s, TCOOFF));
    n = write(s, "z", 1);
    printf(" write %d", n);
    type("\x11", -1);
    n = write(s, "z", 1);
    printf(" write %d on %d", n, tcflow(s, TCOON));
    n = write(s, "z", 1);
    printf(" write %d\n", n);
    screen();
    printf("  ioff %d ion %d bad %d %s\n", tcflow(s, TCIOFF), tcflow(s, TCION), tcflow(s, 9), strerrorname_np(errno));
    screen();
    fcntl(s, F_SETFL, O_RDWR);
    tcflush(s, TCIOFLUSH);
    puts("stopped, then IXON is cleared");
    tcsetattr(s, TCSANOW, &base);
    type("\x13g", -1);
    usleep(20000);
    setup(IXON, 0, 0, 0);
    screen();

    puts("flush");
    tcsetattr(s, TCSAFLUSH, &base);
    type("abc\ndef", -1);
    usleep(20000);
    printf("  %d %d %d\n", queued(s), tcflush(s, TCIFLUSH), queued(s));
    type("\n", -1);
    input(100);
    printf("  bad %d %s\n", tcflush(s, 7), strerrorname_np(errno));
    tcsendbreak(s, 0);
    printf("  drain %d outq %d\n", tcdrain(s), (ioctl(s, TIOCOUTQ, &n), n));
    screen();

    puts("EXTPROC");
    setup(0, 0, 0, EXTPROC);
    type("a\x7f\x03\n", -1);
    usleep(20000);
    printf("  queued %d\n", queued(s));
    input(100);
    screen();
    tcsetattr(s, TCSAFLUSH, &base);

    puts("bounds");
    setup(0, 0, ICANON | ECHO | ISIG, 0);
    fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK);
    int total = 0;
    while ((n = write(m, big, 1000)) > 0) total += n;
    printf("  to the slave: bounded %d %s\n", total > 8000 && total < 40000, strerrorname_np(errno));
    int got = 0;
    while (ready(s, 100) && (n = read(s, big, 6000)) > 0) got += n;
    printf("  all came %d\n", got == total);
    fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
    total = got = 0;
    while ((n = write(s, big, 1000)) > 0) total += n;
    printf("  to the master: bounded %d %s\n", total > 8000 && total < 40000, strerrorname_np(errno));
    while (ready(m, 100) && (n = read(m, big, 6000)) > 0) got += n;
    printf("  all came %d\n", got == total);
    printf("  bad address %zd %s", read(s, (void *)8, 1), strerrorname_np(errno));
    printf(" %zd %s", write(s, (void *)8, 1), strerrorname_np(errno));
    printf(" %zd %s\n", write(m, (void *)8, 1), strerrorname_np(errno));
    printf("  nothing %zd %zd %zd\n", read(s, big, 0), write(s, big, 0), write(m, big, 0));
    printf("  seek %d %s\n", (int)lseek(s, 0, SEEK_CUR), strerrorname_np(errno));
    return 0;
}
