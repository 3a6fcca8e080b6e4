/* TCP on the loopback network: connections, errors, halves, resets, urgent data, who may bind beside whom. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

static void say(const char *what, long r) {
    if (r < 0) printf("%s: %s\n", what, strerrorname_np(errno));
    else printf("%s: %ld\n", what, r);
}
static struct sockaddr_in at(const char *ip, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}
static int port_of(int s) {
    struct sockaddr_in6 a;
    socklen_t l = sizeof a;
    getsockname(s, (void *)&a, &l);
    return ntohs(a.sin6_port);
}
static void events(const char *what, int s) {
    struct pollfd p = {s, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    poll(&p, 1, 0);
    printf("%s:%s%s%s%s%s%s\n", what, p.revents & POLLIN ? " in" : "", p.revents & POLLOUT ? " out" : "",
           p.revents & POLLPRI ? " pri" : "", p.revents & POLLERR ? " err" : "", p.revents & POLLHUP ? " hup" : "",
           p.revents & POLLRDHUP ? " rdhup" : "");
}
static int error_of(int s) {
    int e = -1;
    socklen_t l = sizeof e;
    getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &l);
    return e;
}
static int set(int s, int level, int option, int v) { return setsockopt(s, level, option, &v, sizeof v); }
static int listener(const char *ip, int port, int backlog) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = at(ip, port);
    if (bind(s, (void *)&a, sizeof a) || listen(s, backlog)) { close(s); return -1; }
    return s;
}
static void pair(int *c, int *s) {
    int l = listener("127.0.0.1", 0, 5);
    struct sockaddr_in a = at("127.0.0.1", port_of(l));
    *c = socket(AF_INET, SOCK_STREAM, 0);
    connect(*c, (void *)&a, sizeof a);
    *s = accept(l, 0, 0);
    close(l);
}

static void connecting(void) {
    puts("[connecting]");
    int s = socket(AF_INET, SOCK_STREAM, 0);
    events("fresh", s);
    char b[64];
    say("send fresh", send(s, "x", 1, MSG_NOSIGNAL));
    say("recv fresh", recv(s, b, 1, 0));
    say("shutdown fresh", shutdown(s, SHUT_WR));
    close(s);
    int l = listener("127.0.0.1", 0, 5), port = port_of(l);
    struct sockaddr_in a = at("127.0.0.1", port), q;
    say("connect a listener", connect(l, (void *)&a, sizeof a));
    say("recv of a listener", recv(l, b, 1, 0));
    say("send to a listener", send(l, "x", 1, MSG_NOSIGNAL));
    events("listener", l);
    s = socket(AF_INET, SOCK_STREAM, 0);
    say("connect", connect(s, (void *)&a, sizeof a));
    say("again", connect(s, (void *)&a, sizeof a));
    events("listener with one", l);
    events("connected", s);
    socklen_t len = sizeof q;
    int d = accept4(l, (void *)&q, &len, SOCK_NONBLOCK);
    printf("accepted from %s, %d bytes, own port %d, nonblock %d\n", inet_ntoa(q.sin_addr), len,
           ntohs(q.sin_port) == port_of(s), !!(fcntl(d, F_GETFL) & O_NONBLOCK));
    say("recv nothing", recv(d, b, 1, 0));
    say("accept on connected", accept(d, 0, 0));
    say("listen on connected", listen(d, 1));
    close(s);
    events("closed by peer", d);
    say("recv end", recv(d, b, 1, 0));
    say("first send", send(d, "x", 1, MSG_NOSIGNAL));
    usleep(20000);
    events("after reset", d);
    say("second send", send(d, "x", 1, MSG_NOSIGNAL));
    printf("error %d\n", error_of(d));
    close(d);
    set(l, SOL_SOCKET, SO_REUSEADDR, 1);
    fcntl(l, F_SETFL, O_NONBLOCK);
    say("accept nothing", accept(l, 0, 0));
    close(l);
    s = socket(AF_INET, SOCK_STREAM, 0);
    say("refused", connect(s, (void *)&a, sizeof a));
    printf("port %d error %d\n", port_of(s) > 0, error_of(s));
    fcntl(s, F_SETFL, O_NONBLOCK);
    say("refused later", connect(s, (void *)&a, sizeof a));
    usleep(20000);
    events("refused", s);
    printf("error %d\n", error_of(s));
    say("then", connect(s, (void *)&a, sizeof a));
    close(s);
    l = listener("127.0.0.1", 0, 5);
    a = at("127.0.0.1", port_of(l));
    s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    say("nonblocking", connect(s, (void *)&a, sizeof a));
    usleep(20000);
    events("established", s);
    printf("error %d\n", error_of(s));
    say("once more", connect(s, (void *)&a, sizeof a));
    say("and more", connect(s, (void *)&a, sizeof a));
    close(s);
    close(l);
    a = at("127.0.0.1", 0);
    s = socket(AF_INET, SOCK_STREAM, 0);
    say("port 0", connect(s, (void *)&a, sizeof a));
    bind(s, (void *)&a, sizeof a);
    a = at("127.0.0.1", port_of(s));
    say("itself", connect(s, (void *)&a, sizeof a));
    say("to itself", send(s, "self", 4, 0));
    say("from itself", recv(s, b, 64, 0));
    close(s);
}

static void halves(void) {
    puts("[halves]");
    int c, s;
    char b[64];
    pair(&c, &s);
    say("shutdown bad", shutdown(c, 7));
    say("shut write", shutdown(c, SHUT_WR));
    events("writer", c);
    events("reader", s);
    say("send after", send(c, "x", 1, MSG_NOSIGNAL));
    say("other way", send(s, "back", 4, 0));
    say("recv", recv(c, b, 64, 0));
    say("shut rest", shutdown(s, SHUT_WR));
    usleep(10000);
    events("both ended", s);
    close(c);
    close(s);
    pair(&c, &s);
    send(s, "abc", 3, 0);
    say("shut read", shutdown(c, SHUT_RD));
    events("read shut", c);
    say("left", recv(c, b, 64, 0));
    say("end", recv(c, b, 64, 0));
    say("peer may send", send(s, "d", 1, MSG_NOSIGNAL));
    say("late", recv(c, b, 64, 0));
    close(c);
    close(s);
    pair(&c, &s);
    send(s, "unread", 6, 0);
    usleep(1000);
    close(c);
    usleep(10000);
    events("reset", s);
    say("recv reset", recv(s, b, 64, 0));
    say("recv after", recv(s, b, 64, 0));
    say("send after", send(s, "x", 1, MSG_NOSIGNAL));
    close(s);
    pair(&c, &s);
    struct linger lg = {1, 0};
    setsockopt(c, SOL_SOCKET, SO_LINGER, &lg, sizeof lg);
    send(c, "data", 4, 0);
    close(c);
    usleep(10000);
    say("data before reset", recv(s, b, 64, 0));
    say("then", recv(s, b, 64, 0));
    close(s);
    pair(&c, &s);
    signal(SIGPIPE, SIG_IGN);
    close(s);
    say("write 1", write(c, "x", 1));
    usleep(10000);
    say("write 2", write(c, "x", 1));
    struct sockaddr un = {.sa_family = AF_UNSPEC};
    say("dissolve", connect(c, &un, sizeof un));
    struct sockaddr_in q;
    socklen_t l = sizeof q;
    say("peer", getpeername(c, (void *)&q, &l));
    close(c);
    int lf = listener("127.0.0.1", 0, 5);
    say("stop listening", shutdown(lf, SHUT_RD));
    say("accept", accept(lf, 0, 0));
    close(lf);
}

static void data(void) {
    puts("[data]");
    int c, s, n = -1;
    char b[64], big[1000];
    pair(&c, &s);
    struct iovec v[3] = {{"ab", 2}, {"", 0}, {"cde", 3}};
    say("writev", writev(c, v, 3));
    ioctl(s, FIONREAD, &n);
    printf("waiting %d\n", n);
    say("peek", recv(s, b, 3, MSG_PEEK));
    printf("%.3s\n", b);
    say("discard", recv(s, 0, 2, MSG_TRUNC));
    say("rest", recv(s, b, 64, 0));
    printf("%.3s\n", b);
    set(s, SOL_SOCKET, SO_RCVLOWAT, 5);
    send(c, "abc", 3, 0);
    events("below low water", s);
    say("nonblocking below", recv(s, b, 64, MSG_DONTWAIT));
    send(c, "12345", 5, 0);
    events("at low water", s);
    set(s, SOL_SOCKET, SO_RCVLOWAT, 1);
    recv(s, b, 64, 0);
    if (fork() == 0) {
        usleep(20000);
        send(c, "one", 3, 0);
        usleep(20000);
        send(c, "two", 3, 0);
        _exit(0);
    }
    say("waitall", recv(s, b, 6, MSG_WAITALL));
    printf("%.6s\n", b);
    struct timeval t = {0, 30000};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    say("timeout read", read(s, b, 1));
    say("timeout readv", readv(s, v, 1));
    say("timeout recvmsg", recvmsg(s, &(struct msghdr){.msg_iov = v, .msg_iovlen = 1}, 0));
    say("recv of nothing", recv(s, b, 0, 0));
    say("urgent", send(c, "abX", 3, MSG_OOB));
    usleep(10000);
    events("urgent", s);
    say("at mark", ioctl(s, SIOCATMARK, &n));
    printf("%d\n", n);
    say("before mark", recv(s, b, 64, 0));
    ioctl(s, SIOCATMARK, &n);
    printf("%d\n", n);
    say("out of band", recv(s, b, 1, MSG_OOB));
    printf("%c\n", b[0]);
    say("once", recv(s, b, 1, MSG_OOB));
    set(s, SOL_SOCKET, SO_OOBINLINE, 1);
    send(c, "cdY", 3, MSG_OOB);
    send(c, "ef", 2, 0);
    usleep(10000);
    say("not in band", recv(s, b, 1, MSG_OOB));
    say("to mark", recv(s, b, 64, 0));
    say("in line", recv(s, b, 64, 0));
    printf("%.3s\n", b);
    fcntl(c, F_SETFL, O_NONBLOCK);
    long sent = 0, got = 0, r;
    while ((r = send(c, big, sizeof big, 0)) > 0) sent += r;
    printf("full: %s, much %d\n", strerrorname_np(errno), sent > 100000);
    events("full", c);
    while (got < sent && (r = recv(s, big, sizeof big, 0)) > 0) got += r;
    printf("all came %d\n", got == sent);
    events("drained", c);
    close(c);
    close(s);
}

static void binding(void) {
    puts("[binding]");
    int a = socket(AF_INET, SOCK_STREAM, 0), b, c;
    struct sockaddr_in x = at("127.0.0.1", 0);
    bind(a, (void *)&x, sizeof x);
    int port = port_of(a);
    struct { const char *ip; int reuse, port, listens; } row[] = {
        {"127.0.0.1", 0, 0, 0}, {"127.0.0.2", 0, 0, 0}, {"0.0.0.0", 0, 0, 0}, {"127.0.0.1", 1, 0, 0},
        {"127.0.0.1", 0, 1, 0}, {"127.0.0.1", 1, 0, 1}, {"0.0.0.0", 1, 0, 1}, {"127.0.0.1", 1, 1, 1},
    };
    for (unsigned mode = 0; mode < 4; mode++) {
        close(a);
        a = socket(AF_INET, SOCK_STREAM, 0);
        set(a, SOL_SOCKET, SO_REUSEADDR, mode & 1);
        set(a, SOL_SOCKET, SO_REUSEPORT, mode >> 1);
        x = at("127.0.0.1", port);
        say("first", bind(a, (void *)&x, sizeof x));
        for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
            if (row[i].listens) listen(a, 1);
            b = socket(AF_INET, SOCK_STREAM, 0);
            set(b, SOL_SOCKET, SO_REUSEADDR, row[i].reuse);
            set(b, SOL_SOCKET, SO_REUSEPORT, row[i].port);
            x = at(row[i].ip, port);
            printf("%d/%u ", mode, i);
            say(row[i].ip, bind(b, (void *)&x, sizeof x));
            close(b);
        }
    }
    close(a);
    struct sockaddr_in6 y = {.sin6_family = AF_INET6};
    do {
        // A port that no socket of version 6 has: others use the host's as well.
        y.sin6_port = 0;
        c = socket(AF_INET6, SOCK_STREAM, 0);
        set(c, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        bind(c, (void *)&y, sizeof y);
        port = port_of(c);
        a = listener("0.0.0.0", port, 1);
        close(c);
    } while (a < 0);
    y.sin6_port = htons(port);
    b = socket(AF_INET6, SOCK_STREAM, 0);
    say("dual beside any", bind(b, (void *)&y, sizeof y));
    set(b, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    say("only beside any", bind(b, (void *)&y, sizeof y));
    listen(b, 1);
    y.sin6_addr = in6addr_loopback;
    c = socket(AF_INET6, SOCK_STREAM, 0);
    say("connect ::1", connect(c, (void *)&y, sizeof y));
    close(a); close(b); close(c);
    a = socket(AF_INET6, SOCK_STREAM, 0);
    y = (struct sockaddr_in6){.sin6_family = AF_INET6};
    bind(a, (void *)&y, sizeof y);
    listen(a, 4);
    port = port_of(a);
    c = socket(AF_INET, SOCK_STREAM, 0);
    x = at("127.0.0.1", port);
    say("v4 to dual", connect(c, (void *)&x, sizeof x));
    socklen_t l = sizeof y;
    b = accept(a, (void *)&y, &l);
    char name[64];
    printf("seen as %s, %d bytes\n", inet_ntop(AF_INET6, &y.sin6_addr, name, sizeof name), l);
    close(a); close(b); close(c);
    a = listener("127.0.0.1", 0, 1);
    port = port_of(a);
    c = socket(AF_INET, SOCK_STREAM, 0);
    x = at("127.0.0.1", port);
    connect(c, (void *)&x, sizeof x);
    b = accept(a, 0, 0);
    close(a);
    a = listener("127.0.0.1", port, 1);
    say("beside accepted", a);
    close(b);
    usleep(10000);
    close(c);
    a = listener("127.0.0.1", port, 1);
    say("TIME_WAIT", a);
    a = socket(AF_INET, SOCK_STREAM, 0);
    set(a, SOL_SOCKET, SO_REUSEADDR, 1);
    say("TIME_WAIT with reuse", bind(a, (void *)&x, sizeof x));
    close(a);
    a = socket(AF_INET, SOCK_STREAM, 0);
    x = at("192.0.2.7", 0);
    say("foreign", bind(a, (void *)&x, sizeof x));
    set(a, IPPROTO_IP, IP_FREEBIND, 1);
    say("free", bind(a, (void *)&x, sizeof x));
    close(a);
    a = socket(AF_INET, SOCK_STREAM, 0);
    x = at("224.0.0.1", 80);
    say("multicast", connect(a, (void *)&x, sizeof x));
    x = at("0.0.0.0", 0);
    bind(a, (void *)&x, sizeof x);
    listen(a, 1);
    x = at("0.0.0.0", port_of(a));
    c = socket(AF_INET, SOCK_STREAM, 0);
    say("to any", connect(c, (void *)&x, sizeof x));
    l = sizeof x;
    getpeername(c, (void *)&x, &l);
    printf("is %s\n", inet_ntoa(x.sin_addr));
}

static void backlog(void) {
    puts("[backlog]");
    int l = listener("127.0.0.1", 0, 1), c[4];
    struct sockaddr_in a = at("127.0.0.1", port_of(l));
    for (int i = 0; i < 2; i++) {
        c[i] = socket(AF_INET, SOCK_STREAM, 0);
        say("connect", connect(c[i], (void *)&a, sizeof a));
    }
    c[2] = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval t = {0, 50000};
    setsockopt(c[2], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    say("full", connect(c[2], (void *)&a, sizeof a));
    events("pending", c[2]);
    fcntl(c[2], F_SETFL, O_NONBLOCK);
    say("still", connect(c[2], (void *)&a, sizeof a));
    say("accept", accept(l, 0, 0) > 0);
    struct pollfd p = {c[2], POLLOUT, 0};
    say("admitted", poll(&p, 1, 5000));
    printf("error %d\n", error_of(c[2]));
    close(l);
    usleep(10000);
    char b[4];
    say("unaccepted is reset", recv(c[1], b, 4, 0));
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    connecting();
    halves();
    data();
    binding();
    backlog();
    return 0;
}
