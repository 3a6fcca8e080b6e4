/* Routes, neighbours and time stamps by ioctls, the order in which getsockopt says what is wrong, and how sockets of both
 * versions show addresses. */
#include "sockets.h"
#include <net/if_arp.h>
#include <net/route.h>
#include <sys/wait.h>

static struct sockaddr v4(const char *ip)
{
	struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(ip)};
	struct sockaddr out;
	memcpy(&out, &x, sizeof out);
	return out;
}

static void file(const char *path, int most)
{
	char buf[4096];
	FILE *f = fopen(path, "r");
	while (f && fgets(buf, sizeof buf, f))
		printf(" %.*s\n", most, buf);
	if (f)
		fclose(f);
}

static void routes(int s)
{
	struct rtentry r = {.rt_dst = v4("10.9.0.0"), .rt_genmask = v4("255.255.0.0"), .rt_flags = RTF_UP, .rt_dev = "lo"};
	puts("[routes]");
	say("added", ioctl(s, SIOCADDRT, &r));
	say("again", ioctl(s, SIOCADDRT, &r));
	r.rt_metric = 6;
	say("with a metric", ioctl(s, SIOCADDRT, &r));
	file("/proc/net/route", 70);
	r.rt_metric = 0;
	r.rt_genmask = v4("255.0.255.0");
	say("a mask that is none", ioctl(s, SIOCADDRT, &r));
	r.rt_genmask = v4("255.0.0.0");
	say("too short a mask", ioctl(s, SIOCADDRT, &r));
	r.rt_genmask = v4("255.255.0.0");
	r.rt_dst.sa_family = 0;
	say("no family", ioctl(s, SIOCADDRT, &r));
	r.rt_dst.sa_family = AF_INET;
	r.rt_dev = "none9";
	say("no such interface", ioctl(s, SIOCADDRT, &r));
	r.rt_dev = (char *)1;
	say("a bad name", ioctl(s, SIOCADDRT, &r));
	r.rt_dev = "lo";
	r.rt_flags = RTF_UP | RTF_GATEWAY;
	say("a gateway that is none", ioctl(s, SIOCADDRT, &r));
	r = (struct rtentry){.rt_dst = v4("10.8.0.1"), .rt_flags = RTF_UP | RTF_HOST | RTF_REJECT};
	say("rejected", ioctl(s, SIOCADDRT, &r));
	struct sockaddr to = r.rt_dst;
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	((struct sockaddr_in *)&to)->sin_port = htons(9);
	say("connected", connect(u, &to, sizeof to));
	close(u);
	say("deleted", ioctl(s, SIOCDELRT, &r));
	say("again", ioctl(s, SIOCDELRT, &r));
	say("a bad address", ioctl(s, SIOCADDRT, 1));
	int x = socket(AF_UNIX, SOCK_STREAM, 0);
	say("by a local socket", ioctl(x, SIOCADDRT, &r));
	close(x);

	struct { struct in6_addr to, from, gateway; unsigned type; unsigned short bits, from_bits; unsigned metric;
		 unsigned long info; unsigned flags; int device; } six = {.to = {{{0xfd, [15] = 9}}}, .bits = 128, .flags = RTF_UP, .device = 1};
	int t = socket(AF_INET6, SOCK_DGRAM, 0);
	say("of version 6", ioctl(t, SIOCADDRT, &six));
	say("again", ioctl(t, SIOCADDRT, &six));
	say("deleted", ioctl(t, SIOCDELRT, &six));
	say("again", ioctl(t, SIOCDELRT, &six));
	six.bits = 129;
	say("too many bits", ioctl(t, SIOCADDRT, &six));
	close(t);
}

static void neighbours(int s)
{
	struct arpreq a = {.arp_pa = v4("10.9.0.7"), .arp_flags = ATF_PERM, .arp_dev = "lo"};
	puts("[neighbours]");
	a.arp_ha.sa_family = ARPHRD_LOOPBACK;
	a.arp_ha.sa_data[0] = 2;
	say("not there", ioctl(s, SIOCGARP, &a));
	say("set", ioctl(s, SIOCSARP, &a));
	memset(&a.arp_ha, 0, sizeof a.arp_ha);
	a.arp_flags = 0;
	say("told", ioctl(s, SIOCGARP, &a));
	printf(" family %d, %02x, flags %x, by %s\n", a.arp_ha.sa_family, a.arp_ha.sa_data[0], a.arp_flags, a.arp_dev);
	a.arp_ha.sa_family = ARPHRD_ETHER;
	say("of another kind", ioctl(s, SIOCSARP, &a));
	a.arp_ha.sa_family = 0;
	a.arp_flags = ATF_NETMASK;
	say("with a mask", ioctl(s, SIOCSARP, &a));
	a.arp_flags = 0;
	a.arp_dev[0] = 0;
	say("by no interface", ioctl(s, SIOCGARP, &a));
	strcpy(a.arp_dev, "none9");
	say("by none that there is", ioctl(s, SIOCGARP, &a));
	strcpy(a.arp_dev, "lo");
	a.arp_pa.sa_family = 0;
	say("no family", ioctl(s, SIOCGARP, &a));
	a.arp_pa.sa_family = AF_INET;
	say("taken away", ioctl(s, SIOCDARP, &a));
	say("gone", ioctl(s, SIOCGARP, &a));
}

static void stamps(void)
{
	struct timeval t = {0};
	struct timespec n = {0};
	int u = udp("127.0.0.1"), x = socket(AF_UNIX, SOCK_DGRAM, 0);
	struct sockaddr_in me = at(u);
	puts("[stamps]");
	say("none", ioctl(u, 0x8906, &t));
	sendto(u, "x", 1, 0, (void *)&me, sizeof me);
	char c;
	recv(u, &c, 1, MSG_DONTWAIT);
	say("of a packet", ioctl(u, 0x8906, &t));
	say("in nanoseconds", ioctl(u, 0x8907, &n));
	printf(" %d %d\n", t.tv_sec > 1000000000 && t.tv_usec < 1000000, n.tv_sec == t.tv_sec && n.tv_nsec / 1000 == t.tv_usec);
	say("to a bad address", ioctl(u, 0x8906, 1));
	say("of a local socket", ioctl(x, 0x8906, &t));
	close(u), close(x);
}

static void options(void)
{
	int made[] = {socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET6, SOCK_STREAM, 0), socket(AF_UNIX, SOCK_STREAM, 0),
		      socket(AF_NETLINK, SOCK_RAW, 0), socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE), socket(AF_INET, SOCK_RAW, 1)};
	static const int levels[] = {IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP, IPPROTO_UDPLITE, 270, 99};
	puts("[what is wrong first]");
	for (int i = 0; i < 6; i++)
		for (int l = 0; l < 6; l++) {
			char value[16];
			socklen_t n = 8;
			printf("%d %d:", made[i] - made[0], levels[l]);
			printf(" %d", getsockopt(made[i], levels[l], 1, value, (void *)1) ? errno : 0);
			printf(" %d %u", getsockopt(made[i], levels[l], 3, (void *)1, &n) ? errno : 0, n);
			printf(" %d\n", setsockopt(made[i], levels[l], 1, value, 0) ? errno : 0);
		}
	int bytes;
	struct ifreq q = {.ifr_name = "lo"};
	say("bytes that wait in a netlink socket", ioctl(made[3], FIONREAD, &bytes));
	say("media", ioctl(made[0], 0x8947, &q));
	say("a map", ioctl(made[0], 0x8971, &q));
	puts("[what routers are to see]");
	int r = made[5], w = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);
	say("off", set(r, 0, 5, 0));
	say("on", set(r, 0, 5, 1));
	say("again", set(r, 0, 5, 1));
	printf("%d\n", get(r, 0, 5));
	say("off", set(r, 0, 5, 0));
	say("of a datagram socket", set(made[0], 0, 5, 1));
	say("of version 6", set(w, IPPROTO_IPV6, 22, 3));
	printf("%d\n", get(w, IPPROTO_IPV6, 22));
	say("off", set(w, IPPROTO_IPV6, 22, -1));
	say("of another protocol", set(made[1], IPPROTO_IPV6, 22, 3));
	char key[32] = "0123456789abcdef", back[40];
	socklen_t n = sizeof back;
	int t = made[1];
	say("a key", setsockopt(t, IPPROTO_TCP, 33, key, 16));
	say("told", getsockopt(t, IPPROTO_TCP, 33, back, &n));
	printf(" %u %.16s\n", n, back);
	say("of five bytes", setsockopt(t, IPPROTO_TCP, 33, key, 5));
	for (int i = 0; i < 6; i++)
		close(made[i]);
	close(w);
}

static void show(const char *what, int s)
{
	struct sockaddr_in6 x;
	socklen_t n = sizeof x;
	char text[64];
	getsockname(s, (void *)&x, &n);
	if (x.sin6_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&x)->sin_addr, text, sizeof text);
	else
		inet_ntop(AF_INET6, &x.sin6_addr, text, sizeof text);
	printf("%s: %s%s\n", what, text, x.sin6_port ? " with a port" : "");
}

static void names(void)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("127.0.0.2")};
	struct sockaddr none = {0};
	inet_pton(AF_INET6, "::ffff:0.0.0.0", &six.sin6_addr);
	puts("[addresses]");
	for (int kind = SOCK_STREAM; kind <= SOCK_DGRAM; kind++) {
		int s = socket(AF_INET6, kind, 0);
		say("bound", bind(s, (void *)&six, sizeof six));
		show("mapped", s);
		close(s);
	}
	int s = socket(AF_INET, SOCK_STREAM, 0);
	say("bound", bind(s, (void *)&four, sizeof four));
	say("disconnected", connect(s, &none, sizeof none));
	show("its address", s);
	say("listens", listen(s, 1));
	show("its address", s);
	close(s);
	struct sockaddr_in all = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("224.0.0.5")};
	int l = lis(1);
	struct sockaddr_in to = at(l);
	s = socket(AF_INET, SOCK_STREAM, 0);
	say("bound to a group", bind(s, (void *)&all, sizeof all));
	say("connected", connect(s, (void *)&to, sizeof to));
	show("its address", s);
	close(s), close(l);
}

/* Sends so many bytes, and prints what the error queue says of it. */
static void sized(const char *what, int s, void *to, socklen_t n, int bytes)
{
	static char data[70000];
	say(what, sendto(s, data, bytes, 0, to, n));
	cm(" told", s, MSG_ERRQUEUE);
	while (recv(s, data, sizeof data, MSG_DONTWAIT) >= 0)
		;
}

static void sizes(void)
{
	struct ifreq q = {.ifr_name = "lo"};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int u = udp("127.0.0.1"), w = socket(AF_INET6, SOCK_DGRAM, 0);
	struct sockaddr_in four = at(u);
	socklen_t n = sizeof six;
	bind(w, (void *)&six, sizeof six);
	getsockname(w, (void *)&six, &n);
	puts("[sizes]");
	connect(u, (void *)&four, sizeof four);
	connect(w, (void *)&six, sizeof six);
	set(u, 0, IP_RECVERR, 1);
	set(w, IPPROTO_IPV6, IPV6_RECVERR, 1);
	printf("%d %d\n", get(u, 0, IP_MTU), get(w, IPPROTO_IPV6, IPV6_MTU));
	set(w, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
	sized("as large as fits", w, &six, sizeof six, 65536 - 48);
	sized("larger", w, &six, sizeof six, 65536 - 47);
	set(w, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT);
	sized("in fragments", w, &six, sizeof six, 65536 - 47);
	q.ifr_mtu = 1500;
	say("changed", ioctl(u, SIOCSIFMTU, &q));
	printf("%d %d\n", get(u, 0, IP_MTU), get(w, IPPROTO_IPV6, IPV6_MTU));
	sized("in fragments", u, &four, sizeof four, 2000);
	set(u, 0, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	sized("whole", u, &four, sizeof four, 2000);
	sized("as large as fits", u, &four, sizeof four, 1472);
	sized("one byte more", u, &four, sizeof four, 1473);
	set(u, 0, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT);
	sized("in fragments", u, &four, sizeof four, 2000);
	set(w, IPPROTO_IPV6, 62, 1);
	sized("as large as fits", w, &six, sizeof six, 1452);
	set(w, IPPROTO_IPV6, 62, 0);
	int raw = socket(AF_INET, SOCK_RAW, 199);
	four.sin_port = 0;
	set(raw, 0, IP_RECVERR, 1);
	set(raw, 0, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	sized("as large as fits", raw, &four, sizeof four, 1480);
	sized("larger", raw, &four, sizeof four, 1481);
	q.ifr_mtu = 65536;
	say("changed back", ioctl(u, SIOCSIFMTU, &q));
	printf("%d\n", get(u, 0, IP_MTU));
	close(u), close(w), close(raw);
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	own_network();
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	routes(s);
	if (fork() == 0) {
		struct rtentry r = {0};
		struct arpreq a = {0};
		say("seteuid", seteuid(1));
		say("a route", ioctl(s, SIOCADDRT, &r));
		say("a neighbour", ioctl(s, SIOCSARP, &a));
		say("to be told", ioctl(s, SIOCGARP, &a));
		struct ifreq q = {.ifr_name = "lo"};
		say("media", ioctl(s, 0x8947, &q));
		say("a map", ioctl(s, 0x8971, &q));
		_exit(0);
	}
	wait(NULL);
	stamps();
	options();
	names();
	sizes();
	/* Last: on the loopback interface, what is for a neighbour that is gone is lost natively. */
	neighbours(s);
	return 0;
}
