/* Programs in classic BPF on sockets: what they keep of packets, how they are read, locked and taken off; programs that
   choose among sockets of one port. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif

static void say(const char *what, long r) {
    if (r < 0) printf("%s: %s\n", what, strerrorname_np(errno));
    else printf("%s: %ld\n", what, r);
}
static int set(int s, int level, int option, int v) { return setsockopt(s, level, option, &v, sizeof v); }
static int attach(int s, int option, struct sock_filter *f, int n) {
    struct sock_fprog p = {n, f};
    return setsockopt(s, SOL_SOCKET, option, &p, sizeof p);
}
static void receive(const char *what, int s) {
    char b[64] = "";
    struct pollfd p = {s, POLLIN, 0};
    poll(&p, 1, 50);
    ssize_t n = recv(s, b, sizeof b, MSG_DONTWAIT);
    if (n < 0) say(what, n);
    else printf("%s: %zd %.*s\n", what, n, (int)n, b);
}
static struct sock_filter keep_all[] = {BPF_STMT(BPF_RET | BPF_K, 0xffffffff)}, drop_all[] = {BPF_STMT(BPF_RET | BPF_K, 0)};

static void checks(void) {
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct { const char *what; struct sock_filter f[3]; int n; } all[] = {
        {"nothing", {{0}}, 0},
        {"no return", {BPF_STMT(BPF_LD | BPF_IMM, 1)}, 1},
        {"a jump too far", {BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0), BPF_STMT(BPF_RET | BPF_K, 1)}, 2},
        {"by zero", {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
        {"modulo zero", {BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 0), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
        {"modulo", {BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
        {"a shift", {BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
        {"an address", {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 77777), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
        {"what is not known", {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_MAX), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
        {"what is known", {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_IFINDEX), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
        {"memory not written", {BPF_STMT(BPF_LD | BPF_MEM, 3), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
        {"memory too far", {BPF_STMT(BPF_ST, 16), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
        {"an index", {BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0), BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2), BPF_STMT(BPF_RET | BPF_A, 0)}, 3},
        {"no instruction", {BPF_STMT(0xffff, 0), BPF_STMT(BPF_RET | BPF_A, 0)}, 2},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) say(all[i].what, attach(s, SO_ATTACH_FILTER, all[i].f, all[i].n));
    say("too many", attach(s, SO_ATTACH_FILTER, keep_all, 4097));
    struct sock_fprog bad = {1, (void *)8};
    say("no memory", setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &bad, sizeof bad));
    say("short", setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &bad, 8));
    struct sock_filter got[4];
    memset(got, 0x55, sizeof got);
    socklen_t l = 0;
    say("length", getsockopt(s, SOL_SOCKET, SO_GET_FILTER, got, &l));
    printf(" %d\n", l);
    l = 1;
    say("little room", getsockopt(s, SOL_SOCKET, SO_GET_FILTER, got, &l));
    l = 4;
    say("room", getsockopt(s, SOL_SOCKET, SO_GET_FILTER, got, &l));
    printf(" %d: %x %x %x\n", l, got[0].code, got[1].k, got[2].code);
    say("detach", set(s, SOL_SOCKET, SO_DETACH_FILTER, 0));
    say("again", set(s, SOL_SOCKET, SO_DETACH_FILTER, 0));
    say("attach", attach(s, SO_ATTACH_FILTER, keep_all, 1));
    say("lock", set(s, SOL_SOCKET, SO_LOCK_FILTER, 1));
    say("unlock", set(s, SOL_SOCKET, SO_LOCK_FILTER, 0));
    say("detach", set(s, SOL_SOCKET, SO_DETACH_FILTER, 0));
    say("attach", attach(s, SO_ATTACH_FILTER, keep_all, 1));
    int fd = s;
    say("a descriptor", setsockopt(s, SOL_SOCKET, SO_ATTACH_BPF, &fd, sizeof fd));
    close(s);
}
static void local(void) {
    int p[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, p);
    struct sock_filter first[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'a', 0, 1),
                                  BPF_STMT(BPF_RET | BPF_K, 3), BPF_STMT(BPF_RET | BPF_K, 0)};
    say("unix", attach(p[1], SO_ATTACH_FILTER, first, 4));
    say("kept", send(p[0], "abcdef", 6, 0));
    receive(" got", p[1]);
    say("dropped", send(p[0], "bcd", 3, 0));
    receive(" got", p[1]);
    say("empty", send(p[0], "", 0, 0));
    receive(" got", p[1]);
    say("long", send(p[0], "a23456789012345678901234567890123456789012345678901234567890", 60, 0));
    receive(" got", p[1]);
    close(p[0]);
    close(p[1]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, p);
    say("a stream", attach(p[1], SO_ATTACH_FILTER, drop_all, 1));
    say("sent", send(p[0], "abc", 3, 0));
    receive(" got", p[1]);
    close(p[0]);
    close(p[1]);
}
static struct sockaddr_in bound(int s) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t l = sizeof a;
    bind(s, (void *)&a, sizeof a);
    getsockname(s, (void *)&a, &l);
    return a;
}
static void datagrams(void) {
    int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in a = bound(s);
    /* The program sees the header: its length is 8 more than the data's. */
    struct sock_filter longer[] = {BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 4), BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 12, 0, 1),
                                   BPF_STMT(BPF_RET | BPF_K, 10), BPF_STMT(BPF_RET | BPF_K, 0)};
    say("udp", attach(s, SO_ATTACH_FILTER, longer, 4));
    say("short", sendto(c, "abcd", 4, 0, (void *)&a, sizeof a));
    receive(" got", s);
    say("long", sendto(c, "abcde", 5, 0, (void *)&a, sizeof a));
    receive(" got", s);
    struct sock_filter head[] = {BPF_STMT(BPF_RET | BPF_K, 1)};
    say("only a head", attach(s, SO_ATTACH_FILTER, head, 1));
    say("sent", sendto(c, "abcde", 5, 0, (void *)&a, sizeof a));
    receive(" got", s);
    struct sock_filter known[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_IFINDEX), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 3),
                                  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x800, 0, 1),
                                  BPF_STMT(BPF_RET | BPF_K, 100), BPF_STMT(BPF_RET | BPF_K, 0)};
    say("what is known", attach(s, SO_ATTACH_FILTER, known, 6));
    say("sent", sendto(c, "abcde", 5, 0, (void *)&a, sizeof a));
    receive(" got", s);
    say("detach", set(s, SOL_SOCKET, SO_DETACH_FILTER, 0));
    say("sent", sendto(c, "abcde", 5, 0, (void *)&a, sizeof a));
    receive(" got", s);
    close(s);
    close(c);
}
static void netlink(void) {
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    say("netlink", attach(s, SO_ATTACH_FILTER, drop_all, 1));
    struct { struct nlmsghdr h; struct rtgenmsg g; } r = {{.nlmsg_len = NLMSG_LENGTH(sizeof r.g), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK}, {AF_UNSPEC}};
    say("sent", send(s, &r, r.h.nlmsg_len, 0));
    receive(" got", s);
    set(s, SOL_SOCKET, SO_DETACH_FILTER, 0);
    say("sent", send(s, &r, r.h.nlmsg_len, 0));
    char b[8192];
    printf(" got: %s\n", recv(s, b, sizeof b, MSG_DONTWAIT) > 0 ? "an answer" : "nothing");
    close(s);
}
static void sharing(int type) {
    int s[3], n = 3;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t l = sizeof a;
    struct sock_filter second[] = {BPF_STMT(BPF_RET | BPF_K, 1)}, none[] = {BPF_STMT(BPF_RET | BPF_K, 99)};
    for (int i = 0; i < n; i++) {
        s[i] = socket(AF_INET, type, 0);
        if (!i) say("without SO_REUSEPORT", attach(s[i], SO_ATTACH_REUSEPORT_CBPF, second, 1));
        set(s[i], SOL_SOCKET, SO_REUSEPORT, 1);
        if (!i) say("nothing to take off", set(s[i], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0));
        bind(s[i], (void *)&a, sizeof a);
        getsockname(s[i], (void *)&a, &l);
        if (type == SOCK_STREAM) listen(s[i], 8);
    }
    for (int round = 0; round < 2; round++) {
        say(round ? "none of them" : "the second", attach(s[2], SO_ATTACH_REUSEPORT_CBPF, round ? none : second, 1));
        int counts[3] = {0}, all = 0;
        for (int i = 0; i < 8; i++) {
            int c = socket(AF_INET, type, 0);
            connect(c, (void *)&a, sizeof a);
            if (type == SOCK_DGRAM) send(c, "x", 1, 0);
            for (int k = 0; k < n; k++) {
                struct pollfd p = {s[k], POLLIN, 0};
                if (poll(&p, 1, 5) != 1) continue;
                char b;
                if (type == SOCK_DGRAM) recv(s[k], &b, 1, 0);
                else close(accept(s[k], NULL, NULL));
                counts[k]++;
                all++;
            }
            close(c);
        }
        if (round) printf(" all: %d\n", all);
        else printf(" %d %d %d\n", counts[0], counts[1], counts[2]);
    }
    say("take off", set(s[0], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0) < 0 ? 0 : 0);
    for (int i = 0; i < n; i++) close(s[i]);
}
int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    checks();
    local();
    datagrams();
    netlink();
    sharing(SOCK_DGRAM);
    sharing(SOCK_STREAM);
    return 0;
}
