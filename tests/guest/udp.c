/* UDP on the loopback network: connected or not, errors, truncation, what comes beside the data. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
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
static const char *local(int s) {
    static char b[64];
    struct sockaddr_in6 a;
    socklen_t l = sizeof a;
    getsockname(s, (void *)&a, &l);
    return a.sin6_family == AF_INET ? inet_ntoa(((struct sockaddr_in *)&a)->sin_addr) : inet_ntop(AF_INET6, &a.sin6_addr, b, sizeof b);
}
static void events(const char *what, int s) {
    struct pollfd p = {s, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    poll(&p, 1, 0);
    printf("%s:%s%s%s%s%s%s\n", what, p.revents & POLLIN ? " in" : "", p.revents & POLLOUT ? " out" : "",
           p.revents & POLLPRI ? " pri" : "", p.revents & POLLERR ? " err" : "", p.revents & POLLHUP ? " hup" : "",
           p.revents & POLLRDHUP ? " rdhup" : "");
}
static int set(int s, int level, int option, int v) { return setsockopt(s, level, option, &v, sizeof v); }
static int bound(int family, const char *ip) {
    int s = socket(family, SOCK_DGRAM, 0);
    struct sockaddr_in a = at(ip, 0);
    struct sockaddr_in6 b = {.sin6_family = AF_INET6};
    inet_pton(AF_INET6, ip, &b.sin6_addr);
    if (family == AF_INET) bind(s, (void *)&a, sizeof a);
    else bind(s, (void *)&b, sizeof b);
    return s;
}
static void controls(int s, int flags) {
    char b[64], c[512];
    struct iovec v = {b, 4};
    struct sockaddr_in6 from;
    struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1,
                       .msg_control = c, .msg_controllen = sizeof c};
    say("recvmsg", recvmsg(s, &m, flags));
    printf("name %d flags %x\n", m.msg_namelen, m.msg_flags);
    for (struct cmsghdr *k = CMSG_FIRSTHDR(&m); k; k = CMSG_NXTHDR(&m, k)) {
        printf(" level %d type %d len %d:", k->cmsg_level, k->cmsg_type, (int)k->cmsg_len);
        if (k->cmsg_level != SOL_SOCKET && k->cmsg_len <= CMSG_LEN(48))
            for (unsigned i = 0; i < k->cmsg_len - CMSG_LEN(0); i++) printf(" %02x", CMSG_DATA(k)[i]);
        puts("");
    }
}

static void plain(void) {
    puts("[plain]");
    char b[70000];
    int r = bound(AF_INET, "127.0.0.1"), s = socket(AF_INET, SOCK_DGRAM, 0), n = -1;
    struct sockaddr_in a = at("127.0.0.1", port_of(r)), q;
    socklen_t l = sizeof q;
    events("fresh", s);
    say("send nowhere", send(s, "x", 1, 0));
    say("to port 0", sendto(s, "x", 1, 0, (void *)&(struct sockaddr_in){.sin_family = AF_INET}, 16));
    say("short", sendto(s, "x", 1, 0, (void *)&a, 10));
    say("send", sendto(s, "hello", 5, 0, (void *)&a, sizeof a));
    printf("%s %d\n", local(s), port_of(s) > 0);
    say("empty", sendto(s, "", 0, 0, (void *)&a, sizeof a));
    ioctl(r, FIONREAD, &n);
    printf("waiting %d\n", n);
    say("recvfrom", recvfrom(r, b, 2, MSG_TRUNC, (void *)&q, &l));
    printf("%.2s from %s, own port %d\n", b, inet_ntoa(q.sin_addr), ntohs(q.sin_port) == port_of(s));
    say("recv empty", recv(r, b, 10, 0));
    say("none", recv(r, b, 10, MSG_DONTWAIT));
    say("largest", sendto(s, b, 65507, 0, (void *)&a, sizeof a));
    say("larger", sendto(s, b, 65508, 0, (void *)&a, sizeof a));
    say("much", sendto(s, b, 70000, 0, (void *)&a, sizeof a));
    say("came", recv(r, b, sizeof b, 0));
    struct timeval t = {0, 30000};
    setsockopt(r, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    say("timeout", read(r, b, 1));
    say("out of band", sendto(s, b, 1, MSG_OOB, (void *)&a, sizeof a));
    say("more", sendto(s, "ab", 2, MSG_MORE, (void *)&a, sizeof a));
    say("nothing yet", recv(r, b, 10, MSG_DONTWAIT));
    say("rest", sendto(s, "cd", 2, 0, (void *)&a, sizeof a));
    say("one packet", recv(r, b, 10, MSG_DONTWAIT));
    struct mmsghdr m[3] = {0};
    struct iovec v[3] = {{"1", 1}, {"22", 2}, {"333", 3}}, w[3] = {{b, 9}, {b + 9, 9}, {b + 18, 9}};
    for (int i = 0; i < 3; i++) {
        m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1, .msg_name = &a, .msg_namelen = sizeof a};
    }
    say("sendmmsg", sendmmsg(s, m, 3, 0));
    for (int i = 0; i < 3; i++) m[i].msg_hdr = (struct msghdr){.msg_iov = &w[i], .msg_iovlen = 1};
    say("recvmmsg", recvmmsg(r, m, 3, MSG_WAITFORONE, 0));
    printf("%u %u %u\n", m[0].msg_len, m[1].msg_len, m[2].msg_len);
    say("listen", listen(r, 1));
    say("accept", accept(r, 0, 0));
    say("shutdown", shutdown(s, SHUT_RDWR));
    events("shut", s);
    say("send shut", sendto(s, "x", 1, 0, (void *)&a, sizeof a));
    say("recv shut", recv(s, b, 1, 0));
    say("bind bound", bind(r, (void *)&a, sizeof a));
    close(r);
    close(s);
}

static void connected(void) {
    puts("[connected]");
    char b[64];
    int r = bound(AF_INET, "127.0.0.1"), s = socket(AF_INET, SOCK_DGRAM, 0), o = bound(AF_INET, "127.0.0.1");
    struct sockaddr_in a = at("127.0.0.1", port_of(r)), q = at("127.0.0.1", port_of(o));
    say("connect", connect(s, (void *)&a, sizeof a));
    printf("%s\n", local(s));
    struct sockaddr_in me = at("127.0.0.1", port_of(s));
    sendto(o, "stranger", 8, 0, (void *)&me, sizeof me);
    say("stranger", recv(s, b, 64, MSG_DONTWAIT));
    sendto(r, "peer", 4, 0, (void *)&me, sizeof me);
    say("peer", recv(s, b, 64, MSG_DONTWAIT));
    say("to another", sendto(s, "x", 1, 0, (void *)&q, sizeof q));
    say("came", recv(o, b, 64, MSG_DONTWAIT));
    close(r);
    say("to nobody", send(s, "x", 1, 0));
    usleep(10000);
    events("told", s);
    say("recv", recv(s, b, 1, MSG_DONTWAIT));
    say("recv again", recv(s, b, 1, MSG_DONTWAIT));
    send(s, "x", 1, 0);
    usleep(10000);
    say("send told", send(s, "x", 1, 0));
    int e = -1;
    socklen_t l = sizeof e;
    usleep(10000);
    getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &l);
    printf("error %d\n", e);
    set(s, IPPROTO_IP, IP_RECVERR, 1);
    send(s, "lost", 4, 0);
    usleep(10000);
    events("queued", s);
    struct { struct sock_extended_err e; struct sockaddr_in o; } x;
    char c[256];
    struct iovec v = {b, 64};
    struct msghdr m = {.msg_name = &q, .msg_namelen = sizeof q, .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
    say("error queue", recvmsg(s, &m, MSG_ERRQUEUE));
    memcpy(&x, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof x);
    printf("flags %x errno %d origin %d type %d code %d offender %s to %d\n", m.msg_flags, x.e.ee_errno, x.e.ee_origin,
           x.e.ee_type, x.e.ee_code, inet_ntoa(x.o.sin_addr), q.sin_port == a.sin_port);
    say("no more", recvmsg(s, &m, MSG_ERRQUEUE));
    say("error gone", recv(s, b, 1, MSG_DONTWAIT));
    struct sockaddr un = {.sa_family = AF_UNSPEC};
    say("dissolve", connect(s, &un, sizeof un));
    printf("%s %d\n", local(s), port_of(s));
    l = sizeof q;
    say("peer", getpeername(s, (void *)&q, &l));
    q = at("127.255.255.255", 9);
    say("broadcast", sendto(s, "x", 1, 0, (void *)&q, sizeof q));
    set(s, SOL_SOCKET, SO_BROADCAST, 1);
    say("allowed", sendto(s, "x", 1, 0, (void *)&q, sizeof q));
    close(s);
    close(o);
}

static void beside(void) {
    puts("[beside]");
    int r = bound(AF_INET, "0.0.0.0"), s = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in a = at("127.0.0.9", port_of(r));
    set(r, IPPROTO_IP, IP_PKTINFO, 1);
    set(r, IPPROTO_IP, IP_RECVTTL, 1);
    set(r, IPPROTO_IP, IP_RECVTOS, 1);
    set(r, IPPROTO_IP, IP_ORIGDSTADDR, 0);
    set(r, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    set(s, IPPROTO_IP, IP_TTL, 7);
    set(s, IPPROTO_IP, IP_TOS, 0x28);
    sendto(s, "packet", 6, 0, (void *)&a, sizeof a);
    controls(r, 0);
    char c[256] = {0};
    struct iovec v = {"x", 1};
    struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = CMSG_SPACE(4) * 2};
    struct cmsghdr *k = CMSG_FIRSTHDR(&m);
    *k = (struct cmsghdr){.cmsg_len = CMSG_LEN(4), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_TTL};
    *(int *)CMSG_DATA(k) = 99;
    k = CMSG_NXTHDR(&m, k);
    *k = (struct cmsghdr){.cmsg_len = CMSG_LEN(4), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_TOS};
    *(int *)CMSG_DATA(k) = 4;
    say("sendmsg", sendmsg(s, &m, 0));
    controls(r, MSG_PEEK);
    controls(r, 0);
    *(int *)CMSG_DATA(CMSG_FIRSTHDR(&m)) = 300;
    say("bad ttl", sendmsg(s, &m, 0));
    close(r);
    close(s);
    r = bound(AF_INET6, "::");
    s = socket(AF_INET6, SOCK_DGRAM, 0);
    set(r, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    set(r, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    set(r, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    set(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 5);
    set(s, IPPROTO_IPV6, IPV6_TCLASS, 8);
    struct sockaddr_in6 d = {.sin6_family = AF_INET6, .sin6_port = htons(port_of(r)), .sin6_addr = in6addr_loopback};
    say("six", sendto(s, "six", 3, 0, (void *)&d, sizeof d));
    controls(r, 0);
    a = at("127.0.0.1", port_of(r));
    close(s);
    s = socket(AF_INET, SOCK_DGRAM, 0);
    say("four", sendto(s, "four", 4, 0, (void *)&a, sizeof a));
    controls(r, 0);
    close(r);
    close(s);
}

static void sharing(void) {
    puts("[sharing]");
    char b[64];
    int x = bound(AF_INET, "127.0.0.1"), port = port_of(x);
    for (int i = 0; i < 4; i++) {
        close(x);
        x = socket(AF_INET, SOCK_DGRAM, 0);
        set(x, SOL_SOCKET, SO_REUSEADDR, i & 1);
        set(x, SOL_SOCKET, SO_REUSEPORT, i >> 1);
        struct sockaddr_in a = at("127.0.0.1", port);
        bind(x, (void *)&a, sizeof a);
        for (int j = 0; j < 4; j++) {
            int y = socket(AF_INET, SOCK_DGRAM, 0);
            set(y, SOL_SOCKET, SO_REUSEADDR, j & 1);
            set(y, SOL_SOCKET, SO_REUSEPORT, j >> 1);
            printf("%d/%d ", i, j);
            say("bind", bind(y, (void *)&a, sizeof a));
            close(y);
        }
    }
    close(x);
    int m[2];
    for (int i = 0; i < 2; i++) {
        m[i] = socket(AF_INET, SOCK_DGRAM, 0);
        set(m[i], SOL_SOCKET, SO_REUSEADDR, 1);
        struct sockaddr_in a = at("0.0.0.0", i ? port_of(m[0]) : 0);
        bind(m[i], (void *)&a, sizeof a);
        struct ip_mreq r = {.imr_multiaddr.s_addr = inet_addr("239.1.2.3"), .imr_interface.s_addr = htonl(INADDR_LOOPBACK)};
        say("join", setsockopt(m[i], IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r));
        say("twice", setsockopt(m[i], IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r));
    }
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct in_addr lo = {htonl(INADDR_LOOPBACK)};
    say("interface", setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof lo));
    struct sockaddr_in g = at("239.1.2.3", port_of(m[0]));
    say("send", sendto(s, "group", 5, 0, (void *)&g, sizeof g));
    say("one", recv(m[0], b, 64, MSG_DONTWAIT));
    say("other", recv(m[1], b, 64, MSG_DONTWAIT));
    struct ip_mreq r = {.imr_multiaddr.s_addr = inet_addr("239.1.2.3"), .imr_interface.s_addr = htonl(INADDR_LOOPBACK)};
    say("leave", setsockopt(m[0], IPPROTO_IP, IP_DROP_MEMBERSHIP, &r, sizeof r));
    say("left", setsockopt(m[0], IPPROTO_IP, IP_DROP_MEMBERSHIP, &r, sizeof r));
    r.imr_multiaddr.s_addr = htonl(INADDR_LOOPBACK);
    say("no group", setsockopt(m[0], IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r));
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    plain();
    connected();
    beside();
    sharing();
    return 0;
}
