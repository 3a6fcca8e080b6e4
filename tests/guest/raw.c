/* Raw and ping sockets on a loopback network of one's own: what the kernel answers, and who sees it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(const char *what, long r) {
    if (r < 0) printf("%s: %s\n", what, strerrorname_np(errno));
    else printf("%s: %ld\n", what, r);
}
static struct sockaddr_in at4(const char *ip, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}
static struct sockaddr_in6 at6(const char *ip, int port) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, ip, &a.sin6_addr);
    return a;
}
static void name(const char *what, int s, int peer) {
    struct sockaddr_in6 a;
    char b[64];
    socklen_t l = sizeof a;
    if ((peer ? getpeername : getsockname)(s, (void *)&a, &l) < 0) { say(what, -1); return; }
    void *ip = a.sin6_family == AF_INET ? (void *)&((struct sockaddr_in *)&a)->sin_addr : (void *)&a.sin6_addr;
    printf("%s: %s %d (%d)\n", what, inet_ntop(a.sin6_family, ip, b, sizeof b), ntohs(a.sin6_port), l);
}
static unsigned short sum(const void *p, int n) {
    const unsigned char *b = p;
    unsigned s = 0;
    for (int i = 0; i < n; i++) s += i % 2 ? b[i] : b[i] << 8;
    while (s >> 16) s = (s & 0xffff) + (s >> 16);
    return htons(~s);
}
/* What there is to receive, without identification, checksums of headers and ports that are chosen. */
static void receive(const char *what, int s, int six) {
    unsigned char b[2048], c[256];
    struct sockaddr_in6 from;
    memset(b, 0, sizeof b);
    for (int i = 0;; i++) {
        struct iovec v = {b, sizeof b};
        struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
        struct pollfd p = {s, POLLIN, 0};
        poll(&p, 1, i ? 20 : 200);
        ssize_t n = recvmsg(s, &m, MSG_DONTWAIT);
        if (n < 0) { if (!i || errno != EAGAIN) say(what, n); return; }
        char ip[64];
        void *where = from.sin6_family == AF_INET ? (void *)&((struct sockaddr_in *)&from)->sin_addr : (void *)&from.sin6_addr;
        printf("%s: %zd from %s port %d flags %x:", what, n, inet_ntop(from.sin6_family, where, ip, sizeof ip), ntohs(from.sin6_port), m.msg_flags);
        int head = 0;
        if (!six) {
            head = (b[0] & 15) * 4;
            printf(" [len %d frag %02x%02x ttl %d tos %d proto %d]", b[2] << 8 | b[3], b[6], b[7], b[8], b[1], b[9]);
            printf(" %s", sum(b, head) ? "wrong" : "right");
        }
        /* Of UDP the checksum may be left to the interface. A quoted header has an identification. */
        if (!six && b[9] == 17) b[head + 6] = b[head + 7] = 0;
        if (!six && b[9] == 1 && b[head] == 3) memset(b + head + 12, 0, 2), memset(b + head + 18, 0, 2), memset(b + head + 2, 0, 2);
        for (int k = head; k < n && k < head + 24; k++) printf(" %02x", b[k]);
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) printf(" cmsg %d/%d/%zu", h->cmsg_level, h->cmsg_type, h->cmsg_len);
        printf("\n");
    }
}
static int set(int s, int level, int option, int v) { return setsockopt(s, level, option, &v, sizeof v); }
static void option(const char *what, int s, int level, int number, int v) {
    say(what, set(s, level, number, v));
    int got = -7;
    socklen_t l = sizeof got;
    int r = getsockopt(s, level, number, &got, &l);
    if (r < 0) say(" and", r);
    else printf(" and: %d (%d)\n", got, l);
}
static void kinds(void) {
    static const int all[][3] = {
        {AF_INET, SOCK_RAW, 0}, {AF_INET, SOCK_RAW, 1}, {AF_INET, SOCK_RAW, 255}, {AF_INET, SOCK_RAW, 262}, {AF_INET, SOCK_RAW, 263},
        {AF_INET6, SOCK_RAW, 0}, {AF_INET6, SOCK_RAW, 58}, {AF_INET6, SOCK_RAW, 255}, {AF_INET, SOCK_DGRAM, 58}, {AF_INET6, SOCK_DGRAM, 1},
        {AF_INET, SOCK_DGRAM, 1}, {AF_INET6, SOCK_DGRAM, 58}, {AF_INET, SOCK_STREAM, 1}};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        int s = socket(all[i][0], all[i][1], all[i][2]);
        printf("%d %d %d: %s\n", all[i][0], all[i][1], all[i][2], s < 0 ? strerrorname_np(errno) : "there");
        if (s >= 0) { name(" name", s, 0); name(" peer", s, 1); close(s); }
    }
}
static void echo4(void) {
    int s = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), other = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    struct icmphdr h = {.type = ICMP_ECHO, .un.echo = {htons(77), htons(1)}};
    char m[16];
    memcpy(m, &h, 8);
    memcpy(m + 8, "abcdefgh", 8);
    struct sockaddr_in to = at4("127.0.0.1", 9);
    say("without a checksum", sendto(s, m, 16, 0, (void *)&to, sizeof to));
    receive(" unanswered", other, 0);
    h.checksum = sum(m, 16);
    memcpy(m, &h, 8);
    set(s, IPPROTO_IP, IP_TTL, 33);
    set(s, IPPROTO_IP, IP_TOS, 8);
    option("filter", s, 255, ICMP_FILTER, ~(1 << ICMP_ECHOREPLY));
    option("filter, wrong", s, 255, 2, 1);
    set(other, IPPROTO_IP, IP_PKTINFO, 1);
    set(other, IPPROTO_IP, IP_RECVTTL, 1);
    receive("before", s, 0);
    say("echo", sendto(s, m, 16, 0, (void *)&to, sizeof to));
    receive(" filtered", s, 0);
    receive(" all", other, 0);
    to = at4("127.0.0.9", 0);
    say("bind", bind(other, (void *)&to, sizeof to));
    say("again", bind(other, (void *)&to, sizeof to));
    name(" name", other, 0);
    say("echo elsewhere", sendto(s, m, 16, 0, (void *)&to, sizeof to));
    receive(" source", s, 0);
    receive(" bound", other, 0);
    say("connect", connect(s, (void *)&to, sizeof to));
    name(" peer", s, 1);
    name(" name", s, 0);
    say("send", send(s, m, 16, 0));
    receive(" connected", s, 0);
    to.sin_family = AF_UNSPEC;
    say("disconnect", connect(s, (void *)&to, sizeof to));
    say("send to nobody", send(s, m, 16, 0));
    to = at4("10.1.2.3", 0);
    say("no way", sendto(s, m, 16, 0, (void *)&to, sizeof to));
    say("no address", bind(s, (void *)&to, sizeof to));
    to.sin_family = AF_INET6;
    say("family", sendto(s, m, 16, 0, (void *)&to, sizeof to));
    say("short", sendto(s, m, 16, 0, (void *)&to, 8));
    say("oob", sendto(s, m, 16, MSG_OOB, (void *)&to, sizeof to));
    static char big[70000];
    to = at4("127.0.0.1", 0);
    say("huge", sendto(s, big, 65516, 0, (void *)&to, sizeof to));
    say("too huge", sendto(s, big, 65536, 0, (void *)&to, sizeof to));
    say("shutdown", shutdown(s, SHUT_RD));
    close(s);
    close(other);
}
static void echo6(void) {
    int s = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), ping = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
    struct icmp6_filter f;
    ICMP6_FILTER_SETBLOCKALL(&f);
    ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &f);
    say("filter", setsockopt(ping, IPPROTO_ICMPV6, ICMP6_FILTER, &f, sizeof f));
    socklen_t l = sizeof f;
    memset(&f, 0, sizeof f);
    say("its value", getsockopt(ping, IPPROTO_ICMPV6, ICMP6_FILTER, &f, &l));
    printf(" %d passes %d %d\n", l, ICMP6_FILTER_WILLPASS(129, &f), ICMP6_FILTER_WILLPASS(128, &f));
    option("checksum", ping, IPPROTO_IPV6, 7, 4);
    option("checksum, raw", ping, 255, 7, 2);
    struct icmp6_hdr h = {.icmp6_type = ICMP6_ECHO_REQUEST};
    h.icmp6_id = htons(5);
    char m[13];
    memcpy(m, &h, 8);
    memcpy(m + 8, "hello", 5);
    struct sockaddr_in6 to = at6("::1", 0);
    set(s, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    set(s, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    say("echo", sendto(ping, m, 13, 0, (void *)&to, sizeof to));
    receive(" filtered", ping, 1);
    receive(" all", s, 1);
    to.sin6_port = htons(17);
    say("another protocol", sendto(ping, m, 13, 0, (void *)&to, sizeof to));
    to = at6("::ffff:127.0.0.1", 0);
    say("mapped", bind(s, (void *)&to, sizeof to));
    struct sockaddr_in four = at4("127.0.0.1", 0);
    say("the other version", bind(s, (void *)&four, sizeof four));
    close(s);
    close(ping);
}
static void headers(void) {
    int s = socket(AF_INET, SOCK_RAW, IPPROTO_RAW), on = socket(AF_INET, SOCK_RAW, 99), see = socket(AF_INET, SOCK_RAW, 99);
    option("reuse", s, SOL_SOCKET, SO_REUSEADDR, 0);
    option("hdrincl", s, IPPROTO_IP, IP_HDRINCL, 1);
    option("hdrincl", on, IPPROTO_IP, IP_HDRINCL, 5);
    int d = socket(AF_INET, SOCK_DGRAM, 0);
    option("hdrincl of udp", d, IPPROTO_IP, IP_HDRINCL, 1);
    unsigned char p[28] = {0x45, 4, 0, 0, 0, 0, 0, 0, 7, 99, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1, 'p', 'a', 'y'};
    struct sockaddr_in to = at4("127.0.0.1", 0);
    say("whole", sendto(s, p, 28, 0, (void *)&to, sizeof to));
    receive(" seen", see, 0);
    p[15] = 44; p[12] = 127;
    say("whole", sendto(on, p, 28, 0, (void *)&to, sizeof to));
    receive(" seen", see, 0);
    say("short", sendto(s, p, 19, 0, (void *)&to, sizeof to));
    p[0] = 0x4f;
    say("long header", sendto(s, p, 28, 0, (void *)&to, sizeof to));
    receive(" seen", see, 0);
    int other = socket(AF_INET, SOCK_RAW, 98), icmp = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    set(other, IPPROTO_IP, IP_RECVERR, 1);
    say("filter of another", set(other, 255, ICMP_FILTER, 1));
    close(see);
    say("more", sendto(on, p, 20, MSG_MORE, (void *)&to, sizeof to));
    unsigned char q[20] = {0x45, 0, 0, 0, 0, 0, 0, 0, 7, 97, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1};
    say("unknown", sendto(s, q, 20, 0, (void *)&to, sizeof to));
    receive(" told", icmp, 0);
    close(icmp);
    close(other);
    close(s);
    close(on);
    close(d);
}
static void datagrams(void) {
    int see = socket(AF_INET, SOCK_RAW, IPPROTO_UDP), icmp = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), to_udp = socket(AF_INET, SOCK_DGRAM, 0);
    int send_udp = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in a = at4("127.0.0.1", 4444), b = at4("127.0.0.1", 4445);
    bind(to_udp, (void *)&a, sizeof a);
    bind(send_udp, (void *)&b, sizeof b);
    say("udp", sendto(send_udp, "data", 4, 0, (void *)&a, sizeof a));
    receive(" seen", see, 0);
    say("by hand", sendto(see, "\x11\x5d\x11\x5c\0\x0b\0\0raw", 11, 0, (void *)&a, sizeof a));
    receive(" seen", see, 0);
    char c[32];
    struct sockaddr_in from;
    socklen_t l = sizeof from;
    for (int i = 0; i < 2; i++) {
        ssize_t n = recvfrom(to_udp, c, sizeof c, MSG_DONTWAIT, (void *)&from, &l);
        printf("received: %zd %.*s from %d\n", n, (int)(n < 0 ? 0 : n), c, n < 0 ? 0 : ntohs(from.sin_port));
    }
    close(to_udp);
    set(see, IPPROTO_IP, IP_RECVERR, 1);
    say("to nobody", sendto(send_udp, "data", 4, 0, (void *)&a, sizeof a));
    receive(" told", icmp, 0);
    say("error", recv(see, c, sizeof c, MSG_DONTWAIT));
    char control[128], addr[64];
    struct iovec v = {c, sizeof c};
    struct msghdr m = {.msg_name = addr, .msg_namelen = sizeof addr, .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(see, &m, MSG_ERRQUEUE);
    say("its queue", n);
    if (n >= 0 && CMSG_FIRSTHDR(&m)) {
        struct sock_extended_err *e = (void *)CMSG_DATA(CMSG_FIRSTHDR(&m));
        printf(" %d %d %d %d name %d flags %x\n", e->ee_errno, e->ee_origin, e->ee_type, e->ee_code, m.msg_namelen, m.msg_flags);
    }
    close(see);
    close(send_udp);
    /* Segments by hand: a closed port resets. */
    int tcp = socket(AF_INET, SOCK_RAW, IPPROTO_TCP);
    unsigned char pseudo[32] = {127, 0, 0, 1, 127, 0, 0, 1, 0, 6, 0, 20, 0x11, 1, 0x11, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0x50, 2, 4, 0};
    unsigned short k = sum(pseudo, 32);
    memcpy(pseudo + 28, &k, 2);
    a = at4("127.0.0.1", 0);
    say("syn", sendto(tcp, pseudo + 12, 20, 0, (void *)&a, sizeof a));
    receive(" answer", tcp, 0);
    close(tcp);
    close(icmp);
}
static void pings(void) {
    int s = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    say("not allowed", s);
    int f = open("/proc/sys/net/ipv4/ping_group_range", O_RDWR);
    say("range", write(f, "0 65534", 7));
    s = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    int other = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), six = socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
    struct sockaddr_in a = at4("127.0.0.1", 1234), to = at4("127.0.0.1", 0);
    struct sockaddr_in6 to6 = at6("::1", 0), b = at6("::", 77);
    say("bind", bind(s, (void *)&a, sizeof a));
    say("again", bind(s, (void *)&a, sizeof a));
    option("reuse", other, SOL_SOCKET, SO_REUSEADDR, 0);
    say("another", bind(other, (void *)&a, sizeof a));
    say("of six", bind(six, (void *)&b, sizeof b));
    name("name", s, 0);
    unsigned char m[12] = {8, 0, 0, 0, 9, 9, 0, 3, 'p', 'i', 'n', 'g'};
    say("ping", sendto(s, m, 12, 0, (void *)&to, sizeof to));
    receive(" answer", s, 1);
    m[0] = 0;
    say("a reply", sendto(s, m, 12, 0, (void *)&to, sizeof to));
    m[0] = 8; m[1] = 1;
    say("a code", sendto(s, m, 12, 0, (void *)&to, sizeof to));
    m[1] = 0;
    say("short", sendto(s, m, 7, 0, (void *)&to, sizeof to));
    say("no address", send(s, m, 12, 0));
    say("connect", connect(s, (void *)&to, sizeof to));
    say("send", send(s, m, 12, 0));
    receive(" answer", s, 1);
    m[0] = 128;
    say("six", sendto(six, m, 12, 0, (void *)&to6, sizeof to6));
    receive(" answer", six, 1);
    say("six, short address", sendto(six, m, 12, 0, (void *)&to6, 24));
    say("six, the other", sendto(six, m, 12, 0, (void *)&to, sizeof to));
    say("filter", set(s, 255, ICMP_FILTER, 1));
    int raw = socket(AF_INET, SOCK_RAW, 7), raw6 = socket(AF_INET6, SOCK_RAW, 7);
    fflush(stdout);
    system("sed -E -e 's/ [0-9]+ 2 [0-9a-f]{16} 0 */ INODE/' -e 's/^ *[0-9]*:/N:/' /proc/net/icmp /proc/net/icmp6 /proc/net/raw /proc/net/raw6");
    close(raw);
    close(raw6);
    close(s);
    close(other);
    close(six);
}
int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (unshare(CLONE_NEWNET) < 0) return 1;
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    say("up", ioctl(s, SIOCSIFFLAGS, &r));
    close(s);
    kinds();
    echo4();
    echo6();
    headers();
    datagrams();
    pings();
    if (setgid(65534) || setuid(65534)) return 1;
    say("without privilege", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    say("without privilege", socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
    say("a ping socket", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) < 0);
    return 0;
}
