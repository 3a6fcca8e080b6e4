/* The loopback interface by netlink and by ioctls, and what netlink answers to bad requests. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(const char *what, long r) {
    if (r < 0) printf("%s: %s\n", what, strerrorname_np(errno));
    else printf("%s: %ld\n", what, r);
}

static char buf[65536];

/* Sends a request and prints what concerns the loopback interface. */
static void ask(int s, const char *what, int type, int flags, int family) {
    struct { struct nlmsghdr h; struct rtgenmsg g; char pad[12]; } q = {
        {sizeof q, type, NLM_F_REQUEST | flags, 5, 0}, {family}};
    printf("[%s]\n", what);
    if (send(s, &q, sizeof q, 0) < 0) { say("send", -1); return; }
    for (int done = 0; !done;) {
        long n = recv(s, buf, sizeof buf, 0);
        if (n <= 0) { say("recv", n); return; }
        for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            if (!(h->nlmsg_flags & NLM_F_MULTI)) done = 1;
            if (h->nlmsg_type == NLMSG_DONE) { puts("done"); done = 1; }
            else if (h->nlmsg_type == NLMSG_ERROR) {
                struct nlmsgerr *e = NLMSG_DATA(h);
                printf("error %d of type %d seq %u\n", e->error, e->msg.nlmsg_type, e->msg.nlmsg_seq);
                done = 1;
            } else if (h->nlmsg_type == RTM_NEWLINK) {
                struct ifinfomsg *i = NLMSG_DATA(h);
                if (i->ifi_index != 1) continue;
                printf("link type %d up %d loopback %d running %d\n", i->ifi_type, !!(i->ifi_flags & IFF_UP),
                       !!(i->ifi_flags & IFF_LOOPBACK), !!(i->ifi_flags & IFF_RUNNING));
            } else if (h->nlmsg_type == RTM_NEWADDR) {
                struct ifaddrmsg *a = NLMSG_DATA(h);
                if (a->ifa_index == 1) printf("address family %d prefix %d scope %d\n", a->ifa_family, a->ifa_prefixlen, a->ifa_scope);
            } else if (h->nlmsg_type == RTM_NEWRULE) {
                struct rtmsg *r = NLMSG_DATA(h);
                printf("rule family %d table %d\n", r->rtm_family, r->rtm_table);
            }
        }
    }
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    say("stream", socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE));
    say("protocol", socket(AF_NETLINK, SOCK_RAW, 31));
    say("beyond", socket(AF_NETLINK, SOCK_RAW, 32));
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), t = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE);
    struct sockaddr_nl a = {.nl_family = AF_NETLINK}, b;
    socklen_t l = sizeof b;
    say("short", bind(s, (void *)&a, 8));
    say("bind", bind(s, (void *)&a, sizeof a));
    getsockname(s, (void *)&b, &l);
    printf("port is the pid %d, %d bytes\n", b.nl_pid == (unsigned)getpid(), l);
    say("taken", bind(t, (void *)&b, sizeof b));
    say("any", bind(t, (void *)&a, sizeof a));
    getsockname(t, (void *)&a, &l);
    printf("another %d\n", a.nl_pid != b.nl_pid && a.nl_pid != 0);
    ask(s, "links", RTM_GETLINK, NLM_F_DUMP, AF_UNSPEC);
    ask(s, "addresses", RTM_GETADDR, NLM_F_DUMP, AF_INET);
    ask(s, "rules", RTM_GETRULE, NLM_F_DUMP, AF_INET);
    ask(s, "unknown", 999, NLM_F_ACK, AF_UNSPEC);
    say("nothing", recv(s, buf, 1, MSG_DONTWAIT));
    struct ifaddrs *list, *i;
    say("getifaddrs", getifaddrs(&list));
    for (i = list; i; i = i->ifa_next)
        if (!strcmp(i->ifa_name, "lo") && i->ifa_addr) printf("lo has family %d\n", i->ifa_addr->sa_family);
    freeifaddrs(list);
    char name[IF_NAMESIZE];
    printf("%u %s\n", if_nametoindex("lo"), if_indextoname(1, name));
    struct ifreq r = {.ifr_name = "lo"};
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    say("flags", ioctl(u, SIOCGIFFLAGS, &r));
    printf("%d\n", r.ifr_flags & (IFF_UP | IFF_LOOPBACK | IFF_RUNNING));
    say("address", ioctl(u, SIOCGIFADDR, &r));
    printf("%s\n", inet_ntoa(((struct sockaddr_in *)&r.ifr_addr)->sin_addr));
    say("mask", ioctl(u, SIOCGIFNETMASK, &r));
    printf("%s\n", inet_ntoa(((struct sockaddr_in *)&r.ifr_addr)->sin_addr));
    say("hardware", ioctl(u, SIOCGIFHWADDR, &r));
    printf("%d\n", r.ifr_hwaddr.sa_family);
    say("mtu", ioctl(u, SIOCGIFMTU, &r));
    printf("%d\n", r.ifr_mtu);
    strcpy(r.ifr_name, "nosuch");
    say("absent", ioctl(u, SIOCGIFINDEX, &r));
    say("unknown", ioctl(u, 0x8999, &r));
    return 0;
}
