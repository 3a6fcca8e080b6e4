/* Options of internet sockets: what each takes, and that its value reads back. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const int values[] = {-2, -1, 0, 1, 2, 5, 6, 17, 100, 255, 256, 40000};

static void row(int s, const char *name, int level, int option) {
    int v = -99;
    socklen_t l = sizeof v;
    int r = getsockopt(s, level, option, &v, &l);
    printf("%s:", name);
    if (r) printf(" [%s]", strerrorname_np(errno));
    else printf(" [%d/%d]", v, (int)l);
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
        v = values[i];
        if (setsockopt(s, level, option, &v, sizeof v)) { printf(" %s", strerrorname_np(errno)); continue; }
        v = -99;
        l = sizeof v;
        if (getsockopt(s, level, option, &v, &l)) printf(" =%s", strerrorname_np(errno));
        else printf(" =%d", v);
    }
    v = 1;
    if (setsockopt(s, level, option, &v, 1)) printf(" byte:%s", strerrorname_np(errno));
    else printf(" byte:ok");
    if (setsockopt(s, level, option, (void *)8, 4)) printf(" bad:%s\n", strerrorname_np(errno));
    else puts(" bad:ok");
}
#define R(level, option) row(s, #option, level, option)

static void common(int s) {
    R(SOL_SOCKET, SO_REUSEADDR); R(SOL_SOCKET, SO_TYPE); R(SOL_SOCKET, SO_ERROR); R(SOL_SOCKET, SO_DONTROUTE);
    R(SOL_SOCKET, SO_BROADCAST); R(SOL_SOCKET, SO_KEEPALIVE); R(SOL_SOCKET, SO_OOBINLINE); R(SOL_SOCKET, SO_NO_CHECK);
    R(SOL_SOCKET, SO_PRIORITY); R(SOL_SOCKET, SO_REUSEPORT); R(SOL_SOCKET, SO_SNDLOWAT);
    R(SOL_SOCKET, SO_ACCEPTCONN); R(SOL_SOCKET, SO_PROTOCOL);
    R(SOL_SOCKET, SO_DOMAIN); R(SOL_SOCKET, SO_TIMESTAMP); R(SOL_SOCKET, SO_TIMESTAMPNS); R(SOL_SOCKET, SO_RXQ_OVFL);
    R(SOL_SOCKET, SO_PEEK_OFF); R(SOL_SOCKET, SO_BUSY_POLL); R(SOL_SOCKET, SO_ZEROCOPY); R(SOL_SOCKET, 999);
    R(SOL_SOCKET, SO_BSDCOMPAT); R(SOL_SOCKET, SO_INCOMING_CPU); R(SOL_SOCKET, SO_MARK);
    int sizes[] = {0, 100, 5000, 40000, 100000};
    for (int i = 0; i < 5; i++) {
        int v = sizes[i], a = -1, b = -1;
        socklen_t n = sizeof v;
        setsockopt(s, SOL_SOCKET, SO_RCVBUF, &v, sizeof v);
        setsockopt(s, SOL_SOCKET, SO_SNDBUF, &v, sizeof v);
        getsockopt(s, SOL_SOCKET, SO_RCVBUF, &a, &n);
        getsockopt(s, SOL_SOCKET, SO_SNDBUF, &b, &n);
        v = 1 << i;
        setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &v, sizeof v);
        getsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &v, &n);
        printf("buffers %d %d low water %d\n", a, b, v);
    }
    struct linger lg = {1, 7};
    socklen_t l = sizeof lg;
    setsockopt(s, SOL_SOCKET, SO_LINGER, &lg, sizeof lg);
    memset(&lg, 0, sizeof lg);
    getsockopt(s, SOL_SOCKET, SO_LINGER, &lg, &l);
    printf("linger %d %d %d\n", lg.l_onoff, lg.l_linger, l);
    struct timeval t[] = {{3, 240000}, {0, 0}, {0, 1000000}, {0, -1}};
    for (int i = 0; i < 4; i++) {
        int r = setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t[i], sizeof *t);
        struct timeval g = {9, 9};
        l = sizeof g;
        getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &g, &l);
        printf("timeout %d %ld.%06ld\n", r, (long)g.tv_sec, (long)g.tv_usec);
    }
}
static void four(int s) {
    R(IPPROTO_IP, IP_TOS); R(IPPROTO_IP, IP_TTL); R(IPPROTO_IP, IP_HDRINCL); R(IPPROTO_IP, IP_PKTINFO);
    R(IPPROTO_IP, IP_MTU_DISCOVER); R(IPPROTO_IP, IP_RECVERR); R(IPPROTO_IP, IP_RECVTTL); R(IPPROTO_IP, IP_RECVTOS);
    R(IPPROTO_IP, IP_MTU); R(IPPROTO_IP, IP_FREEBIND); R(IPPROTO_IP, IP_RECVOPTS); R(IPPROTO_IP, IP_RETOPTS);
    R(IPPROTO_IP, IP_MINTTL); R(IPPROTO_IP, IP_NODEFRAG); R(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
    R(IPPROTO_IP, IP_MULTICAST_TTL); R(IPPROTO_IP, IP_MULTICAST_LOOP); R(IPPROTO_IP, IP_MULTICAST_ALL); R(IPPROTO_IP, 200);
}
static void six(int s) {
    R(IPPROTO_IPV6, IPV6_V6ONLY); R(IPPROTO_IPV6, IPV6_UNICAST_HOPS); R(IPPROTO_IPV6, IPV6_MULTICAST_HOPS);
    R(IPPROTO_IPV6, IPV6_MULTICAST_LOOP); R(IPPROTO_IPV6, IPV6_MTU_DISCOVER); R(IPPROTO_IPV6, IPV6_RECVERR);
    R(IPPROTO_IPV6, IPV6_RECVPKTINFO); R(IPPROTO_IPV6, IPV6_RECVHOPLIMIT); R(IPPROTO_IPV6, IPV6_RECVTCLASS);
    R(IPPROTO_IPV6, IPV6_TCLASS); R(IPPROTO_IPV6, IPV6_DONTFRAG); R(IPPROTO_IPV6, 200);
}
int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    int families[] = {AF_INET, AF_INET6}, types[] = {SOCK_STREAM, SOCK_DGRAM};
    for (int f = 0; f < 2; f++)
        for (int t = 0; t < 2; t++) {
            printf("[%s %s]\n", f ? "six" : "four", t ? "udp" : "tcp");
            int s = socket(families[f], types[t], 0);
            common(s);
            four(s);
            six(s);
            if (!t) {
                R(IPPROTO_TCP, TCP_NODELAY); R(IPPROTO_TCP, TCP_MAXSEG); R(IPPROTO_TCP, TCP_CORK); R(IPPROTO_TCP, TCP_KEEPIDLE);
                R(IPPROTO_TCP, TCP_KEEPINTVL); R(IPPROTO_TCP, TCP_KEEPCNT); R(IPPROTO_TCP, TCP_SYNCNT); R(IPPROTO_TCP, TCP_LINGER2);
                R(IPPROTO_TCP, TCP_DEFER_ACCEPT); R(IPPROTO_TCP, TCP_WINDOW_CLAMP); R(IPPROTO_TCP, TCP_QUICKACK);
                R(IPPROTO_TCP, TCP_USER_TIMEOUT); R(IPPROTO_TCP, TCP_FASTOPEN); R(IPPROTO_TCP, TCP_NOTSENT_LOWAT); R(IPPROTO_TCP, 200);
                char n[16] = "";
                socklen_t l = sizeof n;
                int r = setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
                getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, n, &l);
                printf("congestion %d %s %d\n", r, n, l);
                printf("unknown %d\n", setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "nosuch", 6));
            } else {
                R(IPPROTO_UDP, 1); R(IPPROTO_UDP, 103); R(IPPROTO_UDP, 104); R(IPPROTO_UDP, 200);
            }
            R(123, 1);
            close(s);
        }
    return 0;
}
