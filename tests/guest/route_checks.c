/* What is said of requests to rtnetlink that are not quite right, with NETLINK_GET_STRICT_CHK and without; dumps that are
 * filtered; addresses that are valid for a while; and the files of /proc/net that tell of protocols. */
#include "sockets.h"
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif

static int nl;
static unsigned char q[512];
static int len;

static void attribute(int type, const void *data, int n)
{
	struct rtattr a = {RTA_LENGTH(n), type};
	memcpy(q + len, &a, sizeof a);
	memcpy(q + len + sizeof a, data, n);
	len += RTA_SPACE(n);
}

static void number(int type, unsigned n)
{
	attribute(type, &n, sizeof n);
}

/* Begins a request with a body of n bytes. */
static void request(int n, int family)
{
	memset(q, 0, sizeof q);
	len = NLMSG_HDRLEN + n;
	q[NLMSG_HDRLEN] = family;
}

/* The attributes of an answer that say something of a kind that is the same everywhere. */
static int shown(int type, int a)
{
	switch (type) {
	case RTM_NEWADDR: return a != IFA_CACHEINFO;
	case RTM_NEWROUTE: return a != RTA_CACHEINFO;
	case RTM_NEWNEIGH: return a == NDA_DST || a == NDA_LLADDR;
	case RTM_NEWRULE: return 1;
	case RTM_NEWLINK: return a == 3 || a == 4;
	}
	return 0;
}

static void words(const unsigned char *b, int from, int to)
{
	while (from + 4 <= to) {
		struct rtattr a;
		memcpy(&a, b + from, sizeof a);
		if (a.rta_len < 4 || from + a.rta_len > to)
			return;
		if (a.rta_type == 1)
			printf(" '%s'", b + from + 4);
		from += RTA_ALIGN(a.rta_len);
	}
}

static void answer(const struct nlmsghdr *h)
{
	static const int bodies[] = {16, 8, 12, 12, 12, 20};
	const unsigned char *b = (const void *)h;
	int type = h->nlmsg_type, body = 4;
	/* What else is said of an error is of no interest. */
	printf(" %d flags %x", type, h->nlmsg_flags & (type == NLMSG_ERROR ? ~0x200 : ~0));
	if (type == NLMSG_ERROR) {
		struct nlmsgerr e;
		memcpy(&e, b + 16, sizeof e);
		printf(" error %d", e.error);
		if (h->nlmsg_flags & 0x200)
			words(b, NLMSG_HDRLEN + NLMSG_ALIGN(4 + (h->nlmsg_flags & 0x100 ? 16 : (int)e.msg.nlmsg_len)), h->nlmsg_len);
	} else if (type == NLMSG_DONE) {
		int error;
		memcpy(&error, b + 16, 4);
		printf(" done %d", error);
		words(b, 20, h->nlmsg_len);
	} else {
		if (type >= 16 && type < 40)
			body = bodies[(type - 16) / 4];
		for (int at = NLMSG_HDRLEN + NLMSG_ALIGN(body); at + 4 <= (int)h->nlmsg_len;) {
			struct rtattr a;
			memcpy(&a, b + at, sizeof a);
			if (shown(type, a.rta_type)) {
				printf(" %d:", a.rta_type);
				/* Whether an address is still looked for elsewhere is a matter of time (IFA_F_TENTATIVE). */
				int tentative = type == RTM_NEWADDR && a.rta_type == IFA_FLAGS ? 0x40 : 0;
				for (int i = 4; i < a.rta_len; i++)
					printf("%02x", b[at + i] & ~(i == 4 ? tentative : 0));
			}
			at += RTA_ALIGN(a.rta_len);
		}
	}
	puts("");
}

static void ask(const char *what, int type, int flags)
{
	static unsigned char buf[65536];
	struct nlmsghdr h = {len, type, NLM_F_REQUEST | flags, 7, 0};
	memcpy(q, &h, sizeof h);
	printf("%s\n", what);
	if (send(nl, q, len, 0) < 0)
		say(" send", -1);
	for (int n, packets = 0; (n = recv(nl, buf, sizeof buf, MSG_DONTWAIT)) > 0; packets++) {
		if (packets)
			puts(" --");
		for (struct nlmsghdr *m = (void *)buf; NLMSG_OK(m, (unsigned)n); m = NLMSG_NEXT(m, n))
			answer(m);
	}
}

static const int kinds[] = {RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE};
static const int bodies[] = {8, 12, 12, 12};

/* Linux says something of a request for neighbours that it answers all the same. */
static void dumps(int strict)
{
	for (int k = 0; k < 4; k++)
		for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
			printf("kind %d family %d\n", kinds[k], family);
			request(bodies[k], family);
			ask("plain", kinds[k], NLM_F_DUMP);
			if (kinds[k] == RTM_GETNEIGH && !strict)
				continue;
			request(1, family);
			ask("a short header", kinds[k], NLM_F_DUMP);
			request(bodies[k], family);
			q[17] = 24;
			ask("a value in it", kinds[k], NLM_F_DUMP);
			request(bodies[k], family);
			number(k == 2 ? 4 : 7, 1);
			ask("an attribute that is no filter", kinds[k], NLM_F_DUMP);
			request(bodies[k], family);
			len += 2;
			ask("two bytes more", kinds[k], NLM_F_DUMP);
		}
	request(8, AF_INET);
	q[20] = 1;
	ask("addresses of an interface", RTM_GETADDR, NLM_F_DUMP);
	q[20] = 9;
	ask("of one that is not there", RTM_GETADDR, NLM_F_DUMP);
	request(12, AF_INET);
	number(RTA_TABLE, 255);
	ask("routes of a table", RTM_GETROUTE, NLM_F_DUMP);
	request(12, AF_INET);
	number(RTA_TABLE, 99);
	ask("of one that is not there", RTM_GETROUTE, NLM_F_DUMP);
	request(12, AF_INET);
	number(RTA_OIF, 1);
	ask("by an interface", RTM_GETROUTE, NLM_F_DUMP);
	request(12, AF_INET);
	q[16 + 7] = 3;
	ask("of a kind", RTM_GETROUTE, NLM_F_DUMP);
	request(12, AF_INET);
	number(NDA_IFINDEX, 1);
	ask("neighbours by an interface", RTM_GETNEIGH, NLM_F_DUMP);
	request(16, AF_UNSPEC);
	q[20] = 1;
	ask("interfaces by number", RTM_GETLINK, NLM_F_DUMP);
	request(16, AF_UNSPEC);
	ask("interfaces", RTM_GETLINK, NLM_F_DUMP);
}

static void single(void)
{
	struct in6_addr six = IN6ADDR_LOOPBACK_INIT;
	struct in_addr four = {htonl(INADDR_LOOPBACK)};
	request(8, AF_INET6);
	attribute(IFA_ADDRESS, &six, 16);
	ask("an address", RTM_GETADDR, 0);
	six.s6_addr[15] = 9;
	request(8, AF_INET6);
	attribute(IFA_ADDRESS, &six, 16);
	ask("one that is not there", RTM_GETADDR, 0);
	request(8, AF_INET6);
	ask("none", RTM_GETADDR, 0);
	request(8, AF_INET);
	ask("of version 4", RTM_GETADDR, 0);
	request(12, AF_INET);
	ask("a neighbour without an interface", RTM_GETNEIGH, 0);
	q[20] = 1;
	ask("without an address", RTM_GETNEIGH, 0);
	attribute(NDA_DST, &four, 4);
	ask("that is not there", RTM_GETNEIGH, 0);
	number(NDA_IFINDEX, 1);
	ask("with an attribute more", RTM_GETNEIGH, 0);
	request(12, 99);
	q[20] = 1;
	ask("of no version", RTM_GETNEIGH, 0);
	request(12, AF_INET);
	ask("a route to nowhere in particular", RTM_GETROUTE, 0);
	request(12, AF_UNSPEC);
	ask("of no version", RTM_GETROUTE, 0);
	request(3, AF_INET);
	ask("with a short header", RTM_GETROUTE, 0);
	request(16, AF_UNSPEC);
	attribute(3, "an interface of a long name", 28);
	ask("an interface of a long name", RTM_GETLINK, 0);
	request(16, AF_UNSPEC);
	q[20] = q[21] = q[22] = q[23] = 0xff;
	ask("of a negative number", RTM_GETLINK, 0);
	ask("made so", RTM_NEWLINK, NLM_F_CREATE | NLM_F_ACK);
	request(20, AF_UNSPEC);
	q[20] = 9;
	ask("the queue of one that is not there", RTM_GETQDISC, 0);
	request(5, AF_UNSPEC);
	ask("with a short header", RTM_GETQDISC, 0);
}

static void addresses(void)
{
	struct in_addr four = {htonl(0x0a000001)};
	struct in6_addr six = {{{0xfd, [15] = 1}}};
	unsigned life[4] = {1, 1};
	struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr = four};
	for (int round = 0; round < 3; round++) {
		request(8, AF_INET);
		q[17] = 24, q[20] = 1;
		attribute(IFA_LOCAL, &four, 4);
		attribute(IFA_CACHEINFO, life, 16);
		ask(round == 1 ? "preferred for longer than valid" : round ? "valid for no time" : "for a second", RTM_NEWADDR,
		    NLM_F_CREATE | NLM_F_ACK);
		life[0] = 2;
		if (round == 1)
			life[0] = life[1] = 0;
	}
	life[0] = life[1] = 1;
	request(8, AF_INET6);
	q[17] = 64, q[20] = 1;
	attribute(IFA_LOCAL, &six, 16);
	attribute(IFA_CACHEINFO, life, 16);
	number(9, 77);
	ask("of version 6, with a metric", RTM_NEWADDR, NLM_F_CREATE | NLM_F_ACK);
	ask("again", RTM_NEWADDR, NLM_F_CREATE | NLM_F_ACK);
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	say("bound", bind(s, (void *)&x, sizeof x));
	close(s);
	request(8, AF_INET);
	ask("there", RTM_GETADDR, NLM_F_DUMP);
	request(8, AF_INET6);
	ask("there", RTM_GETADDR, NLM_F_DUMP);
	sleep(3);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	say("bound", bind(s, (void *)&x, sizeof x));
	close(s);
	request(8, AF_INET);
	ask("gone", RTM_GETADDR, NLM_F_DUMP);
	request(8, AF_INET6);
	ask("gone", RTM_GETADDR, NLM_F_DUMP);
	request(8, AF_INET);
	q[20] = 1;
	ask("taken away, whichever comes first", RTM_DELADDR, NLM_F_ACK);
	ask("once more", RTM_DELADDR, NLM_F_ACK);
}

/* Prints the lines of a file that begin with one of these words, up to so many bytes each. */
static void lines(const char *path, const char *begin, int most)
{
	char buf[16384], *line, *rest = buf;
	int fd = open(path, O_RDONLY), n = read(fd, buf, sizeof buf - 1);
	close(fd);
	printf("%s %d\n", path, fd >= 0);
	buf[n < 0 ? 0 : n] = 0;
	while ((line = strsep(&rest, "\n")))
		if (!strncmp(line, begin, strlen(begin)) && *line)
			printf(" %.*s\n", most, line);
}

static void files(void)
{
	int made[] = {socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE), socket(AF_INET, SOCK_RAW, IPPROTO_ICMP),
		      socket(AF_INET6, SOCK_DGRAM, 0), socket(AF_INET, SOCK_STREAM, 0)};
	static const char *protocols[] = {"PING", "RAW", "UDP", "TCP", "UNIX", "NETLINK", "PACKET", "UDPLITEv6"};
	lines("/proc/net/protocols", "protocol", 200);
	for (unsigned i = 0; i < sizeof protocols / sizeof *protocols; i++)
		lines("/proc/net/protocols", protocols[i], 25);
	lines("/proc/net/netstat", "TcpExt: S", 200);
	lines("/proc/net/netstat", "IpExt: I", 200);
	lines("/proc/net/snmp", "Icmp: I", 400);
	lines("/proc/net/snmp", "UdpLite: ", 400);
	lines("/proc/net/igmp", "", 100);
	lines("/proc/net/igmp6", "", 100);
	lines("/proc/net/psched", "", 100);
	lines("/proc/net/ptype", "0800", 100);
	lines("/proc/net/mcfilter", "", 100);
	lines("/proc/net/mcfilter6", "", 100);
	lines("/proc/net/udplite", "", 100);
	lines("/proc/net/snmp6", "Icmp6InEchos", 100);
	for (int i = 0; i < 4; i++)
		close(made[i]);
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	own_network();
	nl = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	set(nl, 270, NETLINK_EXT_ACK, 1);
	for (int strict = 0; strict < 2; strict++) {
		printf("[strict %d]\n", strict);
		set(nl, 270, NETLINK_GET_STRICT_CHK, strict);
		dumps(strict);
		single();
	}
	addresses();
	files();
	return 0;
}
