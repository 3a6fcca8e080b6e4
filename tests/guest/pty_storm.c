// Processes and threads that use, change, hang up, close and replace the same ptys all at once, and are killed meanwhile:
// nothing of it may be seen by a pty that is made afterwards.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define PTYS 16
static volatile int fds[PTYS * 2];

static unsigned next(unsigned *s) {
    *s = *s * 1103515245 + 12345;
    return *s >> 8;
}

static void replace(int i) {
    int n = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (n < 0) return;
    unlockpt(n);
    int p = ioctl(n, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK);
    int m = fds[i], s = fds[i + 1];
    fds[i] = n;
    fds[i + 1] = p;
    close(m);
    close(s);
}

static void change(int m, int s, unsigned *r) {
    struct termios t;
    if (tcgetattr(s, &t)) return;
    t.c_lflag ^= 1u << next(r) % 17;
    t.c_iflag ^= 1u << next(r) % 15;
    t.c_oflag ^= 1u << next(r) % 8;
    t.c_cc[VMIN] = next(r) % 4;
    t.c_cc[VTIME] = 0;
    tcsetattr(next(r) & 1 ? s : m, next(r) % 3, &t);
}

static void steal(int s, unsigned *r) {
    pid_t p = fork();
    if (!p) {
        setsid();
        ioctl(s, TIOCSCTTY, 1);
        tcsetpgrp(s, getpid());
        if (next(r) & 1) usleep(next(r) % 2000);
        _exit(0);
    }
    while (waitpid(-1, 0, WNOHANG) > 0) {}
}

static void *work(void *seed) {
    unsigned r = (unsigned)(long)seed * 7919 + 1;
    char b[9000];
    memset(b, 'x', sizeof b);
    for (int i = 0; i < 200; i++) b[i * 40] = "\n\003\032\034\023\021\026\177\025\004\t\r"[i % 12];
    for (;;) {
        int i = next(&r) % PTYS * 2, m = fds[i], s = fds[i + 1], v = next(&r) & 1;
        switch (next(&r) % 12) {
        case 0: replace(i); break;
        case 1: case 2: write(m, b, next(&r) % 9000); break;
        case 3: case 4: write(s, b, next(&r) % 9000); break;
        case 5: read(m, b + 8000, next(&r) % 1000); break;
        case 6: read(s, b + 8000, next(&r) % 1000); break;
        case 7: ioctl(m, TIOCPKT, &v); break;
        case 8: change(m, s, &r); break;
        case 9: ioctl(v ? m : s, TCFLSH, next(&r) % 4); ioctl(v ? m : s, TCXONC, next(&r) % 5); break;
        case 10: if (next(&r) % 8 == 0) ioctl(s, TIOCVHANGUP); break;
        case 11: if (next(&r) % 16 == 0) steal(s, &r); break;
        }
    }
}

int main(void) {
    static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU};
    for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
    for (int i = 0; i < PTYS * 2; i++) fds[i] = -1;
    pid_t kids[3];
    for (int k = 0; k < 3; k++) {
        kids[k] = fork();
        if (!kids[k]) {
            pthread_t t;
            for (long i = 0; i < 3; i++) pthread_create(&t, 0, work, (void *)(k * 3 + i));
            pause();
        }
    }
    usleep(1500000);
    for (int k = 0; k < 3; k++) {
        kill(kids[k], SIGKILL);
        int st;
        waitpid(kids[k], &st, 0);
        printf("killed %d\n", WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
    }
    int m = posix_openpt(O_RDWR | O_NOCTTY);
    unlockpt(m);
    int s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    char b[100];
    write(m, "as ever\n", 8);
    int n = read(s, b, sizeof b);
    printf("read %d %.*s", n, n, b);
    struct pollfd p = {m, POLLIN, 0};
    poll(&p, 1, 1000);
    n = read(m, b, sizeof b);
    printf("echo %d\n", n);
    return 0;
}
