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
#include <pthread.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/epoll.h>
#include <linux/sockios.h>

/* Local sockets: messages, files, credentials, options, waiting. */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#define SO_PEERPIDFD 77
#endif
#define SCM_PIDFD_ 4

static const char *e(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }
#define R(x) do { errno = 0; long r_ = (x); if (r_ < 0) printf("%s: %s\n", #x, e(r_)); else printf("%s: %ld\n", #x, r_); } while (0)
static int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
static const char *names[] = { "stream", "dgram", "seqpacket" };
static int pl(int s, int ev) { struct pollfd p = { s, ev, 0 }; poll(&p, 1, 0); return p.revents; }
static struct sockaddr_un ab(const char *p, socklen_t *l) { struct sockaddr_un a = { .sun_family = AF_UNIX }; sprintf(a.sun_path + 1, "drupe-%d-%s", getpid(), p); *l = 3 + strlen(a.sun_path + 1); return a; }

static char ctl[8192];
static int smsg(int s, const void *d, size_t n, const int *fds, int nf, const struct ucred *u, int flags)
{
    struct iovec io = { (void *)d, n }; struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 }; memset(ctl, 0, sizeof ctl); m.msg_control = ctl; size_t at = 0; struct cmsghdr *h;
    if (nf) { h = (void *)(ctl + at); h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS; h->cmsg_len = CMSG_LEN(4 * nf); memcpy(CMSG_DATA(h), fds, 4 * nf); at += CMSG_SPACE(4 * nf); }
    if (u) { h = (void *)(ctl + at); h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_CREDENTIALS; h->cmsg_len = CMSG_LEN(sizeof *u); memcpy(CMSG_DATA(h), u, sizeof *u); at += CMSG_SPACE(sizeof *u); }
    m.msg_controllen = at; if (!at) m.msg_control = 0;
    return sendmsg(s, &m, flags);
}
static pid_t top;
static void rmsg(const char *w, int s, size_t n, size_t cl, int flags)
{
    char b[300000], c[4096]; struct sockaddr_un a; struct iovec io = { b, n }; struct msghdr m = { &a, sizeof a, &io, 1, cl == (size_t)-1 ? 0 : c, cl == (size_t)-1 ? 64 : cl, 0 }; memset(b, 0, 64); memset(c, 0xee, sizeof c);
    errno = 0; int r = recvmsg(s, &m, flags);
    printf("%s: %d %s", w, r, r < 0 ? e(r) : ""); if (r >= 0) { printf(" \"%.*s\" flags %x name %d clen %zu", r > 20 ? 20 : r, b, m.msg_flags, m.msg_namelen, m.msg_controllen);
        if (cl != (size_t)-1) for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
            printf(" [%d/%d len %zu", h->cmsg_level, h->cmsg_type, h->cmsg_len);
            if (h->cmsg_type == SCM_RIGHTS) for (int i = 0; i < (int)(h->cmsg_len - CMSG_LEN(0)) / 4; i++) { int f; memcpy(&f, CMSG_DATA(h) + 4 * i, 4); printf(" fd%s", fcntl(f, F_GETFD) & FD_CLOEXEC ? "c" : ""); close(f); }
            if (h->cmsg_type == SCM_CREDENTIALS && h->cmsg_len >= CMSG_LEN(12)) { struct ucred u; memcpy(&u, CMSG_DATA(h), 12); printf(" pid %s uid %d gid %d", u.pid == getpid() ? "self" : u.pid == top ? "top" : u.pid == 0 ? "0"  : "other", u.uid, u.gid); }
            if (h->cmsg_type == SCM_PIDFD_) { int f; memcpy(&f, CMSG_DATA(h), 4); printf(" pidfd %d", fcntl(f, F_GETFD)); close(f); }
            printf("]"); } }
    printf("\n");
}
static void on(int s, int o) { int v = 1; setsockopt(s, SOL_SOCKET, o, &v, sizeof v); }

static void rights(void)
{
    for (int k = 0; k < 3; k++) {
        printf("== rights %s\n", names[k]); int s[2]; socketpair(AF_UNIX, types[k] | SOCK_NONBLOCK, 0, s); int f[3] = { 0, 1, 2 };
        R(smsg(s[0], "abc", 3, 0, 0, 0, 0)); R(smsg(s[0], "def", 3, f, 2, 0, 0)); R(smsg(s[0], "ghi", 3, 0, 0, 0, 0)); R(smsg(s[0], "jkl", 3, f, 3, 0, 0));
        rmsg("all", s[1], 100, 200, 0); rmsg("next", s[1], 100, 200, MSG_CMSG_CLOEXEC); rmsg("more", s[1], 100, 200, 0); rmsg("end", s[1], 100, 200, 0);  rmsg("end", s[1], 100, 200, 0);
        smsg(s[0], "part", 4, f, 3, 0, 0); rmsg("2 of 4", s[1], 2, 200, 0); rmsg("rest", s[1], 20, 200, 0);
        smsg(s[0], "none", 4, f, 3, 0, 0); rmsg("none", s[1], 0, 200, 0); rmsg("rest", s[1], 20, 200, 0);
        smsg(s[0], "peek", 4, f, 1, 0, 0); rmsg("peek", s[1], 20, 200, MSG_PEEK); rmsg("peek 2", s[1], 2, 200, MSG_PEEK); rmsg("take", s[1], 20, 200, 0);
        for (int c = 0; c <= 40; c += 4) { smsg(s[0], "cut", 3, f, 3, 0, 0); char w[20]; sprintf(w, "room %d", c); rmsg(w, s[1], 20, c, 0); }
        smsg(s[0], "null", 4, f, 3, 0, 0); rmsg("null control", s[1], 20, -1, 0);
        smsg(s[0], "plain", 5, 0, 0, 0, 0); rmsg("null control", s[1], 20, -1, 0);
        smsg(s[0], "read", 4, f, 3, 0, 0); char b[9]; R(read(s[1], b, 9));
        smsg(s[0], "empty", 0, f, 1, 0, 0); rmsg("no bytes", s[1], 20, 200, 0);
        int many[300]; for (int i = 0; i < 300; i++) many[i] = 1; R(smsg(s[0], "m", 1, many, 253, 0, 0)); R(smsg(s[0], "m", 1, many, 254, 0, 0)); rmsg("many", s[1], 20, 4096, 0);
        int bad[2] = { 1, 999 }; R(smsg(s[0], "m", 1, bad, 2, 0, 0)); bad[1] = -1; R(smsg(s[0], "m", 1, bad, 2, 0, 0));
        int op = open("/", O_PATH); R(smsg(s[0], "p", 1, &op, 1, 0, 0)); rmsg("O_PATH", s[1], 20, 200, 0); close(op);
        struct rlimit o, l; getrlimit(RLIMIT_NOFILE, &o); l = o; int top = dup(1); close(top); l.rlim_cur = top + 1; smsg(s[0], "lim", 3, f, 3, 0, 0); setrlimit(RLIMIT_NOFILE, &l); rmsg("limit", s[1], 20, 200, 0); setrlimit(RLIMIT_NOFILE, &o);
        smsg(s[0], "bye", 3, s, 2, 0, 0); rmsg("self", s[1], 20, 200, 0);
        struct iovec io = { "x", 1 }; struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = 16 }; struct cmsghdr *h = (void *)ctl; memset(ctl, 0, 64);
        h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS; h->cmsg_len = 15; R(sendmsg(s[0], &m, 0)); h->cmsg_len = 17; R(sendmsg(s[0], &m, 0)); h->cmsg_len = 16; R(sendmsg(s[0], &m, 0)); h->cmsg_type = 77; R(sendmsg(s[0], &m, 0)); h->cmsg_level = 0; R(sendmsg(s[0], &m, 0)); m.msg_controllen = 15; R(sendmsg(s[0], &m, 0)); h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_CREDENTIALS; m.msg_controllen = 24; h->cmsg_len = 24; R(sendmsg(s[0], &m, 0)); m.msg_controllen = 1 << 20; R(sendmsg(s[0], &m, 0)); m.msg_control = (void *)8; m.msg_controllen = 32; R(sendmsg(s[0], &m, 0)); m.msg_control = 0; R(sendmsg(s[0], &m, 0));
        while (recv(s[1], b, 9, 0) > 0);
        close(s[0]); close(s[1]);
    }
}

static void creds(void)
{
    top = getpid();
    for (int k = 0; k < 3; k++) {
        printf("== credentials %s\n", names[k]); int s[2]; socketpair(AF_UNIX, types[k] | SOCK_NONBLOCK, 0, s);
        smsg(s[0], "before", 6, 0, 0, 0, 0); on(s[1], SO_PASSCRED); smsg(s[0], "after", 5, 0, 0, 0, 0); rmsg("1", s[1], 20, 200, 0); rmsg("2", s[1], 20, 200, 0); rmsg("3", s[1], 20, 200, 0);
        struct ucred u = { getpid(), getuid(), getgid() }; R(smsg(s[0], "own", 3, 0, 0, &u, 0)); 
        if (!fork()) { smsg(s[0], "child", 5, 0, 0, 0, 0); _exit(0); } wait(0);
        smsg(s[0], "own2", 4, 0, 0, 0, 0);
        rmsg("own", s[1], 20, 200, 0); rmsg("child", s[1], 20, 200, 0); rmsg("own2", s[1], 20, 200, 0);
        pid_t kid = fork(); if (!kid) { pause(); _exit(0); } u.pid = kid; R(smsg(s[0], "kid", 3, 0, 0, &u, 0)); kill(kid, SIGKILL); waitpid(kid, 0, 0); u.pid = 4000000; R(smsg(s[0], "dead", 4, 0, 0, &u, 0)); u.pid = getpid(); u.uid = 12345; R(smsg(s[0], "uid", 3, 0, 0, &u, 0)); u.uid = getuid(); u.gid = 54321; R(smsg(s[0], "gid", 3, 0, 0, &u, 0));
        for (int i = 0; i < 4; i++) rmsg("stated", s[1], 20, 200, 0);
        for (int c = 0; c < 48; c += 4) { smsg(s[0], "cut", 3, &s[0], 1, 0, 0); char w[20]; sprintf(w, "room %d", c); rmsg(w, s[1], 20, c, 0); }
        smsg(s[0], "null", 4, 0, 0, 0, 0); rmsg("null", s[1], 20, -1, 0);
        smsg(s[0], "peek", 4, 0, 0, 0, 0); rmsg("peek", s[1], 20, 200, MSG_PEEK); rmsg("peeked", s[1], 20, 200, 0);
        on(s[1], SO_PASSPIDFD); smsg(s[0], "pidfd", 5, s, 1, 0, 0); rmsg("pidfd", s[1], 20, 200, 0); smsg(s[0], "pidfd", 5, s, 1, 0, 0); rmsg("pidfd cut", s[1], 20, 32 + 24 + 16, 0);
        shutdown(s[0], SHUT_WR); rmsg("eof", s[1], 20, 200, 0);
        int v = 9; socklen_t l = 4; R(getsockopt(s[1], SOL_SOCKET, SO_PEERPIDFD, &v, &l)); printf("len %d cloexec %d\n", l, fcntl(v, F_GETFD)); close(v);
        gid_t g[200]; l = sizeof g; R(getsockopt(s[1], SOL_SOCKET, SO_PEERGROUPS, g, &l)); gid_t h[200]; int n = getgroups(200, h); printf("groups %d\n", l == n * 4);
        if (n) { l = 1; R(getsockopt(s[1], SOL_SOCKET, SO_PEERGROUPS, g, &l)); printf("%d\n", l == n * 4); }
        close(s[0]); close(s[1]);
        int f = socket(AF_UNIX, types[k], 0); struct ucred p = { 7, 7, 7 }; l = sizeof p; R(getsockopt(f, SOL_SOCKET, SO_PEERCRED, &p, &l)); printf("%d %d %d %d\n", l, p.pid, p.uid, p.gid); l = 4; R(getsockopt(f, SOL_SOCKET, SO_PEERPIDFD, &v, &l)); l = sizeof g; R(getsockopt(f, SOL_SOCKET, SO_PEERGROUPS, g, &l));
        on(f, SO_PASSCRED); struct sockaddr_un a; l = sizeof a; R(getsockname(f, (void *)&a, &l)); printf("%d\n", l); socklen_t al; struct sockaddr_un A = ab("none", &al); R(connect(f, (void *)&A, al)); l = sizeof a; R(getsockname(f, (void *)&a, &l)); printf("%d\n", l); close(f);
    }
    socklen_t l; struct sockaddr_un A = ab("pc", &l); int s = socket(AF_UNIX, SOCK_STREAM, 0); bind(s, (void *)&A, l); on(s, SO_PASSCRED); listen(s, 2); int c = socket(AF_UNIX, SOCK_STREAM, 0); connect(c, (void *)&A, l); send(c, "hi", 2, 0); int t = accept(s, 0, 0); int v; l = 4; getsockopt(t, SOL_SOCKET, SO_PASSCRED, &v, &l); printf("inherited %d\n", v); rmsg("accepted", t, 20, 200, 0); close(s); close(c); close(t);
}

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
#define T(x) do { double t_ = now(); errno = 0; long r_ = (x); const char *s_ = e(r_); t_ = now() - t_; printf("%s: %ld %s %s\n", #x, r_, s_, t_ < 0.02 ? "at once" : "waited"); } while (0)
static void onalrm(int n) { }
static void waits(void)
{
    char b[16]; static char big[300000];
    for (int k = 0; k < 3; k++) {
        printf("== timeouts %s\n", names[k]); int s[2]; socketpair(AF_UNIX, types[k], 0, s); struct timeval tv = { 0, 40000 }; 
        setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv); setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
        struct iovec io = { b, 16 }; struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
        T(read(s[0], b, 16)); T(readv(s[0], &io, 1)); T(recv(s[0], b, 16, 0)); T(recvmsg(s[0], &m, 0)); T(recv(s[0], b, 16, MSG_DONTWAIT));
        int n = 0; while (send(s[0], big, 1000, MSG_DONTWAIT) == 1000) n++; printf("%d\n", n); 
        T(write(s[0], big, 1000)); T(writev(s[0], &io, 1)); T(send(s[0], big, 10, 0)); T(sendmsg(s[0], &m, 0)); T(send(s[0], big, 10, MSG_DONTWAIT));
        signal(SIGALRM, onalrm); struct sigaction sa = { .sa_handler = onalrm, .sa_flags = SA_RESTART }; sigaction(SIGALRM, &sa, 0); ualarm(10000, 0); tv.tv_usec = 400000; setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv); errno = 0; int r = write(s[0], big, 10); printf("interrupted %d %s\n", r, e(r));
        tv.tv_sec = -1; tv.tv_usec = 0; R(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv)); T(write(s[0], big, 10)); socklen_t l = sizeof tv; getsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, &l); printf("%ld %ld %d\n", tv.tv_sec, tv.tv_usec, l);
        tv.tv_usec = 1000000; R(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv)); R(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, 8));
        close(s[0]); close(s[1]);
    }
    printf("== low water\n"); int s[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, s); int v = 5; struct timeval tv = { 0, 40000 }; setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv); R(setsockopt(s[0], SOL_SOCKET, SO_RCVLOWAT, &v, 4)); write(s[1], "abc", 3); printf("%x\n", pl(s[0], POLLIN)); T(recv(s[0], b, 2, 0)); T(recv(s[0], b, 16, 0)); write(s[1], "defghi", 6); T(read(s[0], b, 16)); write(s[1], "xy", 2); T(read(s[0], b, 16)); T(recv(s[0], b, 16, MSG_DONTWAIT)); write(s[1], "xy", 2); T(recv(s[0], b, 16, MSG_DONTWAIT));
    v = 1; setsockopt(s[0], SOL_SOCKET, SO_RCVLOWAT, &v, 4); write(s[1], "ab", 2); T(recv(s[0], b, 4, MSG_WAITALL)); write(s[1], "ab", 2); T(recv(s[0], b, 4, MSG_WAITALL | MSG_DONTWAIT)); write(s[1], "ab", 2); T(recv(s[0], b, 4, MSG_WAITALL | MSG_PEEK)); write(s[1], "cdef", 4); T(recv(s[0], b, 4, MSG_WAITALL)); T(recv(s[0], b, 4, MSG_WAITALL));
    v = -3; R(setsockopt(s[0], SOL_SOCKET, SO_RCVLOWAT, &v, 4)); socklen_t l = 4; getsockopt(s[0], SOL_SOCKET, SO_RCVLOWAT, &v, &l); printf("%d\n", v); close(s[0]); close(s[1]);
    printf("== buffers\n");
    for (int k = 0; k < 3; k++) {
        socketpair(AF_UNIX, types[k], 0, s); int set[] = { 0, 1, 2304, 5000, 100000 }; 
        for (int i = 0; i < 5; i++) { v = set[i]; setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, 4); setsockopt(s[0], SOL_SOCKET, SO_RCVBUF, &v, 4); int a, c; l = 4; getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &a, &l); getsockopt(s[0], SOL_SOCKET, SO_RCVBUF, &c, &l); int n = 0, t = 0, r; while ((r = send(s[0], big, 700, MSG_DONTWAIT)) > 0) n++, t += r; printf("%d: %d %d, %d packets %d bytes\n", set[i], a, c, n, t); while (recv(s[1], big, sizeof big, MSG_DONTWAIT) > 0); }
        v = 2304; setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, 4); int t = 0, r; while ((r = send(s[0], big, types[k] == SOCK_STREAM ? 100000 : 4000, MSG_DONTWAIT)) > 0) t += r; printf("%d bytes, %x", t, pl(s[0], POLLOUT)); pid_t p = fork(); if (!p) { r = send(s[0], big, 100, 0); _exit(r == 100); } usleep(20000); v = 100000; setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, 4); int st; waitpid(p, &st, 0); printf(" %x raised %d\n", pl(s[0], POLLOUT), WEXITSTATUS(st)); close(s[0]); close(s[1]);
    }
    /* a large write meets a reader, and a peer that goes */
    socketpair(AF_UNIX, SOCK_STREAM, 0, s); pid_t p = fork(); if (!p) { close(s[0]); long t = 0; int r; while ((r = read(s[1], big, 7000)) > 0) t += r; _exit(t == 300000); } close(s[1]); R(write(s[0], big, 300000)); close(s[0]); int st; waitpid(p, &st, 0); printf("%d\n", WEXITSTATUS(st));
    signal(SIGPIPE, SIG_IGN);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s); p = fork(); if (!p) { close(s[0]); usleep(20000); _exit(0); } close(s[1]); R(write(s[0], big, 300000) > 200000); R(write(s[0], big, 10)); wait(0); close(s[0]);
}

static void oob(void)
{
    printf("== out of band\n"); char b[32]; int n, s[2]; socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s);
    R(recv(s[1], b, 1, MSG_OOB)); R(send(s[0], "abc", 3, MSG_OOB)); printf("%x\n", pl(s[1], POLLIN | POLLPRI)); ioctl(s[1], SIOCATMARK, &n); printf("mark %d\n", n); R(recv(s[1], b, 32, 0)); ioctl(s[1], SIOCATMARK, &n); printf("mark %d\n", n); R(recv(s[1], b, 1, MSG_OOB | MSG_PEEK)); R(recv(s[1], b, 1, MSG_OOB)); printf("%c\n", b[0]); R(recv(s[1], b, 1, MSG_OOB)); printf("%x\n", pl(s[1], POLLIN | POLLPRI)); R(recv(s[1], b, 8, 0)); printf("%x\n", pl(s[1], POLLIN | POLLPRI));
    send(s[0], "12", 2, 0); send(s[0], "3", 1, MSG_OOB); send(s[0], "45", 2, 0); ioctl(s[1], SIOCINQ, &n); printf("inq %d\n", n); R(recv(s[1], b, 32, MSG_PEEK)); R(recv(s[1], b, 32, 0)); ioctl(s[1], SIOCATMARK, &n); printf("mark %d\n", n); R(recv(s[1], b, 32, 0)); R(recv(s[1], b, 32, 0)); R(recv(s[1], b, 1, MSG_OOB));
    send(s[0], "x", 1, MSG_OOB); send(s[0], "y", 1, MSG_OOB); R(recv(s[1], b, 32, 0)); R(recv(s[1], b, 1, MSG_OOB)); printf("%c\n", b[0]);
    int v = 1; setsockopt(s[1], SOL_SOCKET, SO_OOBINLINE, &v, 4); send(s[0], "pq", 2, MSG_OOB); send(s[0], "r", 1, 0); R(recv(s[1], b, 32, MSG_OOB)); R(recv(s[1], b, 32, 0)); R(recv(s[1], b, 32, 0)); R(send(s[0], "", 0, MSG_OOB)); close(s[0]); close(s[1]);
}

static void peeks(void)
{
    printf("== peek offset\n"); char b[32];
    for (int k = 0; k < 3; k++) {
        int s[2], v; socklen_t l = 4; socketpair(AF_UNIX, types[k] | SOCK_NONBLOCK, 0, s); getsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &v, &l); printf("%s %d\n", names[k], v); v = 0; R(setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &v, 4));
        send(s[0], "aaaabbbb", 8, 0); send(s[0], "ccc", 3, 0);
        for (int i = 0; i < 6; i++) { memset(b, 0, 32); errno = 0; int r = recv(s[1], b, i == 4 ? 32 : 3, MSG_PEEK); getsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &v, &l); printf("%d %s \"%s\" %d\n", r, e(r), b, v); }
        R(recv(s[1], b, 5, 0)); getsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &v, &l); printf("%d\n", v); R(recv(s[1], b, 2, MSG_PEEK)); v = 1; setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &v, 4); R(recv(s[1], b, 20, MSG_PEEK | MSG_TRUNC)); R(recv(s[1], b, 20, 0)); v = -1; setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &v, 4); R(recv(s[1], b, 20, MSG_PEEK)); close(s[0]); close(s[1]);
    }
}

static void many(void)
{
    printf("== mmsg\n"); int s[2]; socketpair(AF_UNIX, SOCK_DGRAM, 0, s); struct mmsghdr m[5]; struct iovec io[5]; char b[5][8]; memset(m, 0, sizeof m);
    for (int i = 0; i < 5; i++) { io[i].iov_base = b[i]; io[i].iov_len = i + 1; memset(b[i], 'a' + i, 8); m[i].msg_hdr.msg_iov = &io[i]; m[i].msg_hdr.msg_iovlen = 1; }
    R(sendmmsg(s[0], m, 5, 0)); for (int i = 0; i < 5; i++) printf("%d ", m[i].msg_len), io[i].iov_len = 8; puts("");
    R(recvmmsg(s[1], m, 3, 0, 0)); for (int i = 0; i < 3; i++) printf("%d ", m[i].msg_len); puts(""); R(recvmmsg(s[1], m, 5, MSG_WAITFORONE, 0)); R(recvmmsg(s[1], m, 5, MSG_DONTWAIT, 0)); struct timespec t = { 0, 20000000 }; send(s[0], "x", 1, 0); struct timeval tv = { 0, 30000 }; setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv); T(recvmmsg(s[1], m, 5, 0, &t)); t.tv_nsec = -1; R(recvmmsg(s[1], m, 5, 0, &t)); R(sendmmsg(s[0], m, 0, 0)); close(s[1]); R(sendmmsg(s[0], m, 3, MSG_NOSIGNAL)); close(s[0]);
}

static void edges(void)
{
    printf("== edge triggers\n"); char b[4096];
    for (int k = 0; k < 3; k++) { int s[2]; socketpair(AF_UNIX, types[k] | SOCK_NONBLOCK, 0, s); int ep = epoll_create1(0); struct epoll_event ev = { EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP }, o[2]; epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &ev);
#define W(w) do { int n_ = epoll_wait(ep, o, 2, 0); printf("%s: %d %x\n", w, n_, n_ > 0 ? o[0].events : 0); } while (0)
        W("add"); W("again"); send(s[1], "abcd", 4, 0); W("data"); recv(s[0], b, 2, 0); W("part"); send(s[1], "e", 1, 0); W("more"); send(s[0], "x", 1, 0); W("sent"); recv(s[1], b, 1, 0); W("taken"); while (send(s[0], b, 1000, 0) > 0); W("full"); recv(s[1], b, 1000, 0); W("one"); while (recv(s[1], b, 1000, 0) > 0); W("drained"); shutdown(s[1], SHUT_WR); W("shut"); close(s[1]); W("closed"); close(s[0]); close(ep); }
}

int main(void)
{
    setvbuf(stdout, 0, _IONBF, 0); rights(); creds(); waits(); oob(); peeks(); many(); edges();
    return 0;
}
