/* Interfaces, addresses, routes, neighbours and rules are changed by netlink and by ioctls in a network of its own: what is
 * answered, what others are told, and what becomes of bind and connect. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int s, listener;
static struct { struct nlmsghdr h; char rest[512]; } q;
static char buf[65536];

static void begin(int type, int flags, const void *body, int len) {
    memset(&q, 0, sizeof q);
    q.h = (struct nlmsghdr){NLMSG_LENGTH(len), type, NLM_F_REQUEST | NLM_F_ACK | flags, 7, 0};
    memcpy(NLMSG_DATA(&q.h), body, len);
}

static void add(int type, const void *data, int len) {
    struct rtattr *a = (void *)((char *)&q + NLMSG_ALIGN(q.h.nlmsg_len));
    a->rta_type = type;
    a->rta_len = RTA_LENGTH(len);
    memcpy(RTA_DATA(a), data, len);
    q.h.nlmsg_len = NLMSG_ALIGN(q.h.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

static void add4(int type, const char *ip) { struct in_addr a; inet_pton(AF_INET, ip, &a); add(type, &a, 4); }
static void add6(int type, const char *ip) { struct in6_addr a; inet_pton(AF_INET6, ip, &a); add(type, &a, 16); }
static void addn(int type, unsigned n) { add(type, &n, 4); }

static const char *name_of(int type) {
    switch (type) {
    case RTM_NEWLINK: return "new link";
    case RTM_NEWADDR: return "new address";
    case RTM_DELADDR: return "no address";
    case RTM_NEWROUTE: return "new route";
    case RTM_DELROUTE: return "no route";
    case RTM_NEWNEIGH: return "new neighbour";
    case RTM_DELNEIGH: return "no neighbour";
    case RTM_NEWRULE: return "new rule";
    case RTM_DELRULE: return "no rule";
    }
    return "?";
}

/* Prints what the listener was told: kinds and numbers, without those of version 6, which come when they like. */
static void told(void) {
    struct sockaddr_nl from;
    for (;;) {
        socklen_t l = sizeof from;
        long n = recvfrom(listener, buf, sizeof buf, MSG_DONTWAIT, (void *)&from, &l);
        if (n < 0) break;
        for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            unsigned char *b = NLMSG_DATA(h);
            if (b[0] == AF_INET6) continue;
            printf("  told: %s family %d group %x", name_of(h->nlmsg_type), b[0], from.nl_groups);
            if (h->nlmsg_type == RTM_NEWROUTE || h->nlmsg_type == RTM_DELROUTE)
                printf(" bits %d table %d scope %d kind %d", b[1], b[4], b[6], b[7]);
            if (h->nlmsg_type == RTM_NEWLINK) printf(" up %d", ((struct ifinfomsg *)b)->ifi_flags & IFF_UP);
            puts("");
        }
    }
}

static void ask(const char *what) {
    printf("%s: ", what);
    send(s, &q, q.h.nlmsg_len, 0);
    for (int more = 1; more;) {
        long n = recv(s, buf, sizeof buf, 0);
        for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            if (h->nlmsg_type == NLMSG_ERROR) {
                struct nlmsgerr *e = NLMSG_DATA(h);
                printf("%s", e->error ? strerrorname_np(-e->error) : "done");
                if (h->nlmsg_flags & NLM_F_ACK_TLVS) {
                    int skip = sizeof *e + (h->nlmsg_flags & NLM_F_CAPPED ? 0 : NLMSG_ALIGN(e->msg.nlmsg_len) - NLMSG_HDRLEN);
                    struct rtattr *a = (void *)((char *)e + skip);
                    int left = h->nlmsg_len - NLMSG_HDRLEN - skip;
                    for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
                        if (a->rta_type == NLMSGERR_ATTR_MSG) printf(" (%s)", (char *)RTA_DATA(a));
                }
                puts("");
                more = 0;
            } else if (h->nlmsg_type == RTM_NEWROUTE) {
                struct rtmsg *r = NLMSG_DATA(h);
                printf("[route bits %d table %d kind %d] ", r->rtm_dst_len, r->rtm_table, r->rtm_type);
            } else if (h->nlmsg_type == RTM_NEWLINK)
                printf("[link %d] ", ((struct ifinfomsg *)NLMSG_DATA(h))->ifi_index);
        }
    }
    told();
}

static void address(const char *what, int type, int flags, const char *ip, int bits) {
    struct ifaddrmsg a = {AF_INET, bits, 0, 0, 1};
    begin(type, flags, &a, sizeof a);
    add4(IFA_LOCAL, ip);
    add4(IFA_ADDRESS, ip);
    ask(what);
}

static void route(const char *what, int type, int flags, const char *to, int bits, int kind, const char *gateway, int device, int metric) {
    struct rtmsg r = {AF_INET, bits, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, type == RTM_DELROUTE ? RT_SCOPE_NOWHERE : gateway || !device ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK, kind};
    begin(type, flags, &r, sizeof r);
    if (to) add4(RTA_DST, to);
    if (gateway) add4(RTA_GATEWAY, gateway);
    if (device) addn(RTA_OIF, device);
    if (metric) addn(RTA_PRIORITY, metric);
    ask(what);
}

static void set_up(const char *what, int up) {
    struct ifinfomsg i = {.ifi_index = 1, .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP};
    begin(RTM_NEWLINK, 0, &i, sizeof i);
    ask(what);
}

static void reach(const char *ip) {
    struct sockaddr_in a = {AF_INET, htons(9)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    int u = socket(AF_INET, SOCK_DGRAM, 0), t = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    printf("%s: bind %s", ip, bind(u, (void *)&a, sizeof a) ? strerrorname_np(errno) : "done");
    close(u);
    u = socket(AF_INET, SOCK_DGRAM, 0);
    printf(", udp %s", connect(u, (void *)&a, sizeof a) ? strerrorname_np(errno) : "done");
    struct sockaddr_in own = {0};
    socklen_t l = sizeof own;
    getsockname(u, (void *)&own, &l);
    printf(" from %s, send %s", inet_ntoa(own.sin_addr), send(u, "x", 1, 0) < 0 ? strerrorname_np(errno) : "done");
    printf(", tcp %s\n", connect(t, (void *)&a, sizeof a) ? strerrorname_np(errno) : "done");
    close(u);
    close(t);
}

static void show(const char *file, const char *only) {
    FILE *f = fopen(file, "r");
    char line[512];
    while (f && fgets(line, sizeof line, f))
        if (!only || strstr(line, only)) {
            line[strcspn(line, "\n")] = 0;
            for (int n = strlen(line); n && line[n - 1] == ' ';) line[--n] = 0;
            printf("%s\n", line);
        }
    if (f) fclose(f);
}

static void rule(const char *what, int type, int flags, int action, const char *from, int bits, int table, int priority) {
    struct fib_rule_hdr r = {AF_INET, 0, bits, 0, table, 0, 0, action, 0};
    begin(type, flags, &r, sizeof r);
    if (from) add4(FRA_SRC, from);
    if (priority) addn(FRA_PRIORITY, priority);
    ask(what);
}

static void control(const char *what, int request, struct ifreq *r) {
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    printf("%s: %s\n", what, ioctl(u, request, r) ? strerrorname_np(errno) : "done");
    close(u);
    told();
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET)) { perror("unshare"); return 1; }
    s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    listener = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    int one = 1;
    setsockopt(s, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
    struct sockaddr_nl groups = {AF_NETLINK, 0, 0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | 1 << 7};
    bind(listener, (void *)&groups, sizeof groups);
    reach("127.0.0.1");
    set_up("up", 1);
    reach("127.0.0.1");
    address("an address", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "10.1.1.1", 24);
    address("again", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "10.1.1.1", 24);
    address("its second", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "10.1.1.7", 24);
    address("alone", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "10.7.7.7", 32);
    address("too many bits", RTM_NEWADDR, NLM_F_CREATE, "10.7.7.7", 33);
    reach("10.1.1.1");
    reach("10.7.7.7");
    reach("10.8.8.8");
    address("none such", RTM_DELADDR, 0, "10.9.9.9", 24);
    address("away", RTM_DELADDR, 0, "10.7.7.7", 32);
    reach("10.7.7.7");
    route("a route", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "10.8.0.0", 16, RTN_UNICAST, 0, 1, 0);
    route("again", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "10.8.0.0", 16, RTN_UNICAST, 0, 1, 0);
    route("another metric", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "10.8.0.0", 16, RTN_UNICAST, 0, 1, 9);
    route("not there", RTM_NEWROUTE, 0, "10.88.0.0", 16, RTN_UNICAST, 0, 1, 0);
    route("bits beyond", RTM_NEWROUTE, NLM_F_CREATE, "10.8.0.1", 16, RTN_UNICAST, 0, 1, 0);
    route("no device", RTM_NEWROUTE, NLM_F_CREATE, "10.88.0.0", 16, RTN_UNICAST, 0, 99, 0);
    route("a gateway nowhere", RTM_NEWROUTE, NLM_F_CREATE, "10.88.0.0", 16, RTN_UNICAST, "172.16.0.1", 0, 0);
    route("unreachable", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "10.9.1.0", 24, RTN_UNREACHABLE, 0, 0, 0);
    route("prohibited", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "10.9.2.0", 24, RTN_PROHIBIT, 0, 0, 0);
    route("a black hole", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "10.9.3.0", 24, RTN_BLACKHOLE, 0, 0, 0);
    reach("10.8.8.8");
    reach("10.9.1.1");
    reach("10.9.2.1");
    reach("10.9.3.1");
    show("/proc/net/route", 0);
    route("away", RTM_DELROUTE, 0, "10.8.0.0", 16, 0, 0, 0, 0);
    route("away with its metric", RTM_DELROUTE, 0, "10.8.0.0", 16, 0, 0, 0, 9);
    route("not there", RTM_DELROUTE, 0, "10.8.0.0", 16, 0, 0, 0, 0);
    rule("a rule", RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, FR_ACT_TO_TBL, "10.1.1.1", 32, 100, 77);
    rule("again", RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, FR_ACT_TO_TBL, "10.1.1.1", 32, 100, 77);
    rule("prohibiting all", RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, FR_ACT_PROHIBIT, 0, 0, 0, 50);
    reach("10.99.0.1");
    rule("away", RTM_DELRULE, 0, FR_ACT_PROHIBIT, 0, 0, 0, 50);
    rule("away", RTM_DELRULE, 0, FR_ACT_TO_TBL, "10.1.1.1", 32, 100, 0);
    rule("not there", RTM_DELRULE, 0, FR_ACT_TO_TBL, "10.1.1.1", 32, 100, 0);
    struct ndmsg n = {.ndm_family = AF_INET, .ndm_ifindex = 1, .ndm_state = NUD_PERMANENT};
    begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, &n, sizeof n);
    ask("a neighbour without an address");
    n.ndm_ifindex = 77;
    begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, &n, sizeof n);
    add4(NDA_DST, "10.1.1.9");
    ask("on no device");
    struct ifinfomsg i = {.ifi_index = 77};
    begin(RTM_GETLINK, 0, &i, sizeof i);
    ask("no such link");
    begin(RTM_DELLINK, 0, &i, sizeof i);
    ask("nor away");
    i.ifi_index = 1;
    begin(RTM_DELLINK, 0, &i, sizeof i);
    ask("the loopback interface away");
    begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &i, sizeof i);
    ask("it is there");
    i.ifi_index = 0;
    begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &i, sizeof i);
    add(IFLA_IFNAME, "x0", 3);
    char info[] = {8, 0, 1, 0, 'n', 'o', '!', 0};
    add(IFLA_LINKINFO, info, sizeof info);
    ask("of no kind");
    struct rtmsg r = {AF_INET, 32};
    begin(RTM_GETROUTE, 0, &r, sizeof r);
    add4(RTA_DST, "10.1.1.1");
    ask("the way to oneself");
    begin(RTM_GETROUTE, 0, &r, sizeof r);
    add4(RTA_DST, "172.16.0.1");
    ask("the way nowhere");
    struct ifreq f = {.ifr_name = "lo"};
    f.ifr_mtu = 9000;
    control("mtu", SIOCSIFMTU, &f);
    control("mtu is", SIOCGIFMTU, &f);
    printf("%d\n", f.ifr_mtu);
    struct sockaddr_in a = {AF_INET};
    inet_pton(AF_INET, "10.3.3.3", &a.sin_addr);
    strcpy(f.ifr_name, "lo:1");
    memcpy(&f.ifr_addr, &a, sizeof a);
    control("an address", SIOCSIFADDR, &f);
    inet_pton(AF_INET, "255.255.0.0", &a.sin_addr);
    memcpy(&f.ifr_addr, &a, sizeof a);
    control("its mask", SIOCSIFNETMASK, &f);
    control("the mask is", SIOCGIFNETMASK, &f);
    printf("%s\n", inet_ntoa(((struct sockaddr_in *)&f.ifr_addr)->sin_addr));
    reach("10.3.3.3");
    strcpy(f.ifr_name, "eth9");
    control("no interface", SIOCSIFMTU, &f);
    address("the last of its network", RTM_DELADDR, 0, "10.1.1.1", 24);
    address("the loopback address away", RTM_DELADDR, 0, "127.0.0.1", 8);
    reach("127.0.0.1");
    address("and back", RTM_NEWADDR, NLM_F_CREATE, "127.0.0.1", 8);
    reach("127.5.5.5");
    set_up("down", 0);
    reach("127.0.0.1");
    show("/proc/net/route", 0);
    show("/proc/net/if_inet6", 0);
    return 0;
}
