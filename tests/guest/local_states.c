#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <linux/sockios.h>

/* Local sockets: states, errors, readiness. */

static const char *e(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }
#define R(x) do { errno = 0; long r_ = (x); if (r_ < 0) printf("%s: %s\n", #x, e(r_)); else printf("%s: %ld\n", #x, r_); } while (0)

static int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
static const char *names[] = { "stream", "dgram", "seqpacket" };
static struct sockaddr_un ua(const char *p) { struct sockaddr_un a = { .sun_family = AF_UNIX }; strcpy(a.sun_path, p); return a; }
static struct sockaddr_un ab(const char *p, socklen_t *l) { struct sockaddr_un a = { .sun_family = AF_UNIX }; sprintf(a.sun_path + 1, "drupe-%d-%s", getpid(), p); *l = 3 + strlen(a.sun_path + 1); return a; }
static int pl(int s, int ev) { struct pollfd p = { s, ev, 0 }; poll(&p, 1, 0); return p.revents; }
#define ALL (POLLIN|POLLPRI|POLLOUT|POLLRDNORM|POLLRDBAND|POLLWRNORM|POLLWRBAND|POLLRDHUP)
#define P(s) printf("poll %s: %x\n", #s, pl(s, ALL))
static int err(int s) { int v = -1; socklen_t l = 4; getsockopt(s, SOL_SOCKET, SO_ERROR, &v, &l); return v; }

static void fresh(void)
{
    for (int k = 0; k < 3; k++) {
        printf("== fresh %s\n", names[k]);
        int s = socket(AF_UNIX, types[k] | SOCK_NONBLOCK, 0); char b[8];
        P(s);
        R(recv(s, b, 1, 0)); R(send(s, "x", 1, MSG_NOSIGNAL)); R(listen(s, 1)); R(accept(s, 0, 0));
        R(shutdown(s, SHUT_RDWR)); R(shutdown(s, 7));
        P(s); R(recv(s, b, 1, 0)); R(send(s, "x", 1, MSG_NOSIGNAL)); 
        struct sockaddr_un a; socklen_t l = sizeof a; R(getsockname(s, (void *)&a, &l)); printf("len %d family %d\n", l, a.sun_family);
        l = sizeof a; R(getpeername(s, (void *)&a, &l));
        int n; R(ioctl(s, FIONREAD, &n)); R(ioctl(s, SIOCOUTQ, &n));
        R(ioctl(s, SIOCATMARK, &n));
        close(s);
    }
}

static void binds(void)
{
    printf("== bind\n");
    for (int k = 0; k < 3; k++) {
        int s = socket(AF_UNIX, types[k], 0); struct sockaddr_un a = ua("u1.sock"), b = ua("u1.other"); struct stat st;
        unlink("u1.sock"); unlink("u1.other");
        umask(027);
        R(bind(s, (void *)&a, sizeof a)); R(stat("u1.sock", &st)); printf("mode %o\n", st.st_mode);
        umask(022);
        R(bind(s, (void *)&a, sizeof a)); R(bind(s, (void *)&b, sizeof b)); R(access("u1.other", F_OK));
        int t = socket(AF_UNIX, types[k], 0);
        R(bind(t, (void *)&a, sizeof a));
        struct sockaddr_un c = ua("no/such/dir"); R(bind(t, (void *)&c, sizeof c));
        R(bind(t, (void *)&b, 2)); socklen_t l = sizeof c; memset(&c, 1, sizeof c); R(getsockname(t, (void *)&c, &l)); printf("auto len %d first %d\n", l, c.sun_path[0]);
        R(bind(t, (void *)&b, 2)); R(bind(t, (void *)&b, sizeof b)); R(access("u1.other", F_OK));
        R(bind(t, (void *)&b, 1)); R(bind(t, (void *)&b, 111)); R(bind(t, (void *)&b, 129)); b.sun_family = 5; R(bind(t, (void *)&b, sizeof b));
        R(bind(t, (void *)8, sizeof b));
        /* a name of 108 bytes without NUL */
        int u = socket(AF_UNIX, types[k], 0); struct sockaddr_un m = ua(""); memset(m.sun_path, 'm', 108); unlink("x"); 
        R(bind(u, (void *)&m, sizeof m)); char big[200]; l = sizeof big; R(getsockname(u, (void *)big, &l)); printf("long len %d\n", l);
        char nm[109]; memset(nm, 'm', 108); nm[108] = 0; unlink(nm);
        close(s); close(t); close(u);
        int v = socket(AF_UNIX, types[k], 0); R(connect(v, (void *)&a, sizeof a)); unlink("u1.sock"); R(connect(v, (void *)&a, sizeof a));
        R(connect(v, (void *)&a, 2)); R(connect(v, (void *)&a, 0)); R(connect(v, (void *)&a, 1)); R(connect(v, (void *)&a, 111));
        close(creat("u1.sock", 0600)); R(connect(v, (void *)&a, sizeof a)); unlink("u1.sock");
        struct sockaddr_un un = { .sun_family = AF_UNSPEC }; R(connect(v, (void *)&un, sizeof un));
        close(v);
    }
    for (int k = 0; k < 3; k++) {
        socklen_t l, m; struct sockaddr_un a = ab("x", &l), g; int s[3];
        for (int i = 0; i < 3; i++) { s[i] = socket(AF_UNIX, types[i], 0); printf("%s ", names[i]); R(bind(s[i], (void *)&a, l)); }
        int d = socket(AF_UNIX, types[k], 0); R(bind(d, (void *)&a, l)); R(connect(d, (void *)&a, l));
        m = sizeof g; R(getsockname(s[k], (void *)&g, &m)); printf("same len %d\n", m == l);
        for (int i = 0; i < 3; i++) close(s[i]);
        R(bind(d, (void *)&a, l)); close(d);
    }
    int s = socket(AF_UNIX, SOCK_STREAM, 0); socklen_t l; struct sockaddr_un a = ab("only", &l); bind(s, (void *)&a, l); listen(s, 1);
    int d = socket(AF_UNIX, SOCK_DGRAM, 0); R(connect(d, (void *)&a, l)); R(sendto(d, "x", 1, 0, (void *)&a, l));
    unlink("u1.sock"); int p = socket(AF_UNIX, SOCK_STREAM, 0); struct sockaddr_un b = ua("u1.sock"); bind(p, (void *)&b, sizeof b);
    R(connect(d, (void *)&b, sizeof b)); R(sendto(d, "x", 1, 0, (void *)&b, sizeof b)); unlink("u1.sock");
    close(s); close(d); close(p);
}

static void backlog(void)
{
    printf("== backlog\n");
    for (int k = 0; k < 3; k += 2) {
        int s = socket(AF_UNIX, types[k], 0); socklen_t l; struct sockaddr_un a = ab("bl", &l); bind(s, (void *)&a, l); R(listen(s, 0)); 
        int c[4];
        for (int i = 0; i < 4; i++) c[i] = socket(AF_UNIX, types[k] | SOCK_NONBLOCK, 0);
        P(s); R(connect(c[0], (void *)&a, l)); R(connect(c[1], (void *)&a, l)); P(s); P(c[0]); P(c[1]);
        int n; R(ioctl(s, FIONREAD, &n));
        fcntl(c[1], F_SETFL, 0); struct timeval tv = { 0, 30000 }; setsockopt(c[1], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv); R(connect(c[1], (void *)&a, l));
        R(listen(s, 1)); R(connect(c[1], (void *)&a, l)); R(connect(c[2], (void *)&a, l)); R(connect(c[0], (void *)&a, l)); fcntl(s, F_SETFL, O_NONBLOCK); R(connect(s, (void *)&a, l)); fcntl(s, F_SETFL, 0);
        R(send(c[0], "hello", 5, 0));
        struct sockaddr_un g; socklen_t m = sizeof g; int t = accept(s, (void *)&g, &m); printf("accepted %d len %d\n", t >= 0, m);
        char b[8]; R(recv(t, b, 8, 0)); m = sizeof g; R(getsockname(t, (void *)&g, &m)); printf("%d\n", m == l); m = sizeof g; R(getpeername(c[0], (void *)&g, &m)); printf("%d\n", m == l);
        R(listen(c[0], 1)); R(listen(t, 1)); R(bind(t, (void *)&a, l));
        R(send(c[1], "unseen", 6, 0));
        close(s); P(c[1]); printf("error %d\n", err(c[1])); printf("error %d\n", err(c[1])); R(recv(c[1], b, 8, 0)); R(send(c[1], "x", 1, MSG_NOSIGNAL)); P(c[1]);
        R(connect(c[3], (void *)&a, l)); P(c[3]);
        /* the accepted one goes on */
        R(send(t, "yes", 3, 0)); R(recv(c[0], b, 8, 0));
        for (int i = 0; i < 4; i++) close(c[i]);
        P(t); R(recv(t, b, 8, 0)); close(t);
        s = socket(AF_UNIX, types[k] | SOCK_NONBLOCK, 0); a = ab("bl2", &l); bind(s, (void *)&a, l); listen(s, 5); R(accept(s, 0, 0)); R(shutdown(s, SHUT_RD)); P(s); R(accept(s, 0, 0));
        t = socket(AF_UNIX, types[k], 0); R(connect(t, (void *)&a, l)); R(recv(s, b, 1, 0)); R(send(s, "x", 1, MSG_NOSIGNAL)); close(s); close(t);
    }
}

static void shutdowns(void)
{
    for (int k = 0; k < 3; k++)
        for (int how = 0; how < 3; how++) {
            printf("== shutdown %s %d\n", names[k], how);
            int s[2]; char b[8]; socketpair(AF_UNIX, types[k] | SOCK_NONBLOCK, 0, s);
            P(s[0]); R(send(s[0], "ab", 2, MSG_NOSIGNAL)); R(send(s[1], "cd", 2, MSG_NOSIGNAL)); R(shutdown(s[0], how)); P(s[0]); P(s[1]);
            R(recv(s[0], b, 1, 0)); R(recv(s[0], b, 8, 0)); R(recv(s[1], b, 8, 0)); R(recv(s[1], b, 8, 0)); R(recv(s[0], b, 8, 0));
            R(send(s[0], "e", 1, MSG_NOSIGNAL)); R(send(s[1], "f", 1, MSG_NOSIGNAL)); R(send(s[0], "", 0, MSG_NOSIGNAL)); R(send(s[1], "", 0, MSG_NOSIGNAL));
            P(s[0]); P(s[1]); close(s[0]); P(s[1]); R(recv(s[1], b, 8, 0)); R(send(s[1], "g", 1, MSG_NOSIGNAL)); R(send(s[1], "", 0, MSG_NOSIGNAL)); R(send(s[1], "", 0, MSG_NOSIGNAL)); R(recv(s[1], b, 8, 0)); close(s[1]);
            /* with unread data */
            socketpair(AF_UNIX, types[k] | SOCK_NONBLOCK, 0, s); send(s[0], "left", 4, 0); send(s[1], "mine", 4, 0); close(s[1]); P(s[0]);
            if (how == 0) { R(recv(s[0], b, 2, 0)); R(recv(s[0], b, 8, 0)); R(recv(s[0], b, 8, 0)); R(recv(s[0], b, 8, 0)); }
            if (how == 1) { R(send(s[0], "x", 1, MSG_NOSIGNAL)); R(send(s[0], "x", 1, MSG_NOSIGNAL)); R(recv(s[0], b, 8, 0)); R(recv(s[0], b, 8, 0)); }
            if (how == 2) { printf("error %d\n", err(s[0])); R(recv(s[0], b, 8, 0)); R(recv(s[0], b, 8, 0)); R(write(s[0], "", 0)); }
            P(s[0]); close(s[0]);
        }
    for (int k = 0; k < 3; k++) {
        int s[2]; char b[8]; socketpair(AF_UNIX, types[k], 0, s); shutdown(s[0], SHUT_RD); R(recv(s[0], b, 1, 0)); R(read(s[0], b, 0)); close(s[0]); close(s[1]);
    }
}

static int sigs; static void on(int n) { sigs++; }
static void pipes(void)
{
    printf("== SIGPIPE\n"); signal(SIGPIPE, on);
    for (int k = 0; k < 3; k++) {
        int s[2]; socketpair(AF_UNIX, types[k], 0, s); close(s[1]); sigs = 0;
        R(write(s[0], "x", 1)); printf("%d\n", sigs); R(send(s[0], "x", 1, 0)); printf("%d\n", sigs); R(send(s[0], "x", 1, MSG_NOSIGNAL)); printf("%d\n", sigs); R(write(s[0], "", 0)); printf("%d\n", sigs);
        shutdown(s[0], SHUT_WR); R(write(s[0], "x", 1)); printf("%d\n", sigs); close(s[0]);
    }
    signal(SIGPIPE, SIG_IGN);
}

static void dgrams(void)
{
    printf("== datagrams\n"); char b[16];
    socklen_t la, lb, lc, m; struct sockaddr_un A = ab("a", &la), B = ab("b", &lb), C = ab("c", &lc), g, un = { .sun_family = AF_UNSPEC };
    int a = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), bb = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), c = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    bind(a, (void *)&A, la); bind(bb, (void *)&B, lb);
    R(sendto(a, "1", 1, 0, (void *)&B, lb)); m = sizeof g; R(recvfrom(bb, b, 16, 0, (void *)&g, &m)); printf("from %d\n", m == la);
    R(sendto(c, "2", 1, 0, (void *)&B, lb)); m = 77; R(recvfrom(bb, b, 16, 0, (void *)&g, &m)); printf("from %d\n", m);
    R(connect(bb, (void *)&A, la)); R(sendto(c, "3", 1, 0, (void *)&B, lb)); R(connect(c, (void *)&B, lb)); R(sendto(a, "4", 1, 0, (void *)&B, lb)); R(recv(bb, b, 16, 0));
    m = sizeof g; R(getpeername(bb, (void *)&g, &m)); R(send(bb, "5", 1, 0)); R(recv(a, b, 16, 0));
    R(send(a, "6", 1, 0)); R(connect(a, (void *)&B, lb)); R(send(a, "7", 1, 0)); P(bb);
    R(connect(bb, (void *)&un, sizeof un)); P(bb); P(a); printf("error %d\n", err(a)); R(send(a, "8", 1, 0)); R(recv(bb, b, 16, 0)); R(send(bb, "9", 1, 0)); m = sizeof g; R(getpeername(bb, (void *)&g, &m));
    R(connect(bb, (void *)&un, 2)); R(connect(bb, (void *)&un, 1));
    close(bb); P(a); R(send(a, "x", 1, 0)); R(send(a, "x", 1, 0)); R(sendto(a, "x", 1, 0, (void *)&B, lb)); R(sendto(a, "x", 1, 0, (void *)&B, 2)); R(sendto(a, "x", 1, 0, (void *)&B, 0));
    /* the queue's bound for strangers */
    int r = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0); bind(r, (void *)&B, lb); int n = 0; while (sendto(c, "q", 1, 0, (void *)&B, lb) == 1) n++; printf("strangers %d %s\n", n, strerrorname_np(errno)); P(c);
    R(connect(c, (void *)&B, lb)); P(c); R(send(c, "x", 1, 0)); R(recv(r, b, 16, 0)); P(c); R(send(c, "x", 1, 0)); P(c);
    int big[60000]; R(send(c, big, 212992 - 32, 0)); R(send(c, big, 212992 - 31, 0));
    while (recv(r, b, 16, 0) > 0); R(send(c, big, 212992 - 31, 0)); R(send(c, big, 212992 - 32, 0)); R(recv(r, big, sizeof big, 0));
    R(send(c, "zero next", 9, 0)); R(send(c, "", 0, 0)); R(recv(r, b, 2, MSG_TRUNC)); P(r); R(recv(r, b, 2, 0)); R(recv(r, b, 2, 0));
    R(sendto(c, "8", 1, MSG_OOB, 0, 0)); R(recv(r, b, 1, MSG_OOB)); R(recv(r, b, 1, MSG_ERRQUEUE));
    close(a); close(c); close(r);
    int s[2]; socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s); n = 0; while (send(s[0], "y", 1, 0) == 1) n++; printf("peers %d %s\n", n, strerrorname_np(errno)); P(s[0]); int o; ioctl(s[0], SIOCOUTQ, &o); printf("outq %d\n", o); n = 0; while (recv(s[1], b, 1, 0) == 1) { n++; if (pl(s[0], POLLOUT)) break; } printf("writable after %d\n", n); 
    close(s[1]); close(s[0]);
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, s); R(sendto(s[0], "s", 1, 0, (void *)&B, lb)); R(recv(s[1], b, 1, 0)); R(sendto(s[0], "s", 1, 0, (void *)8, 4)); R(sendto(s[0], "s", 1, 0, (void *)&B, 1)); close(s[0]); close(s[1]);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s); R(sendto(s[0], "s", 1, 0, (void *)&B, lb)); close(s[0]); close(s[1]);
    int f = socket(AF_UNIX, SOCK_STREAM, 0); R(sendto(f, "s", 1, 0, (void *)&B, lb)); close(f);
}

int main(void)
{
    setvbuf(stdout, 0, _IONBF, 0); signal(SIGPIPE, SIG_IGN); char d[] = "/tmp/u1XXXXXX"; if (!mkdtemp(d) || chdir(d)) return 1;
    fresh(); binds(); backlog(); shutdowns(); pipes(); dgrams(); chdir("/"); rmdir(d);
    return 0;
}
