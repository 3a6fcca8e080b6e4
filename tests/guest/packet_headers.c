/* Options of version 4 headers, extension headers of version 6 and flow labels: set, told, sent and received. */
#include "sockets.h"
#include <sys/wait.h>

/* Structures of linux/in6.h, which does not go together with netinet/in.h everywhere. */
struct label {
	struct in6_addr to;
	unsigned number;
	unsigned char action, share;
	unsigned short flags, expires, linger;
	unsigned pad;
};

static void hex(const void *data, int n)
{
	for (int i = 0; i < n; i++)
		printf("%02x", ((const unsigned char *)data)[i]);
}

/* Sets an option to bytes, and prints what it reads as in this room. */
static void keep(const char *what, int s, int level, int option, const void *data, int n, int room)
{
	unsigned char back[300];
	socklen_t len = room;
	say(what, setsockopt(s, level, option, data, n));
	int r = getsockopt(s, level, option, back, &len);
	printf(" reads %d, %u bytes ", r ? -errno : 0, len);
	if (!r)
		hex(back, len);
	puts("");
}

/* Receives, and prints the control messages: of FLOWINFO only whether there is a label. */
static void got(const char *what, int s)
{
	unsigned char data[128], control[1024];
	struct iovec v = {data, sizeof data};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(s, &m, MSG_DONTWAIT);
	say(what, n);
	for (struct cmsghdr *h = n < 0 ? NULL : CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
		printf(" %d/%d ", h->cmsg_level, h->cmsg_type);
		if (h->cmsg_type == 11)
			printf("label %d", CMSG_DATA(h)[1] || CMSG_DATA(h)[2] || CMSG_DATA(h)[3]);
		else
			hex(CMSG_DATA(h), h->cmsg_len - CMSG_LEN(0));
		puts("");
	}
}

static struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
static struct sockaddr_in four = {.sin_family = AF_INET};

static void version4(void)
{
	int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0), r = socket(AF_INET, SOCK_RAW, 199);
	four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bind(b, (void *)&four, sizeof four);
	four = at(b);
	set(b, 0, IP_RECVOPTS, 1);
	set(b, 0, IP_RETOPTS, 1);
	set(r, 0, IP_RECVOPTS, 1);

	puts("[options]");
	keep("no operations", a, 0, IP_OPTIONS, "\1\1\1", 3, 40);
	sendto(a, "x", 1, 0, (void *)&four, sizeof four);
	got("received", b);
	keep("record route", a, 0, IP_OPTIONS, "\7\13\4\0\0\0\0\0\0\0\0", 11, 40);
	sendto(a, "x", 1, 0, (void *)&four, sizeof four);
	got("received", b);
	keep("in little room", a, 0, IP_OPTIONS, "\7\7\4\0\0\0\0", 7, 3);
	keep("router alert", a, 0, IP_OPTIONS, "\224\4\0\0", 4, 40);
	sendto(a, "x", 1, 0, (void *)&four, sizeof four);
	got("received", b);
	keep("source route", a, 0, IP_OPTIONS, "\203\7\4\177\0\0\1", 7, 40);
	say("lost", sendto(a, "x", 1, 0, (void *)&four, sizeof four));
	got("nothing", b);
	keep("too long", a, 0, IP_OPTIONS, six.sin6_addr.s6_addr, 44, 40);
	keep("cut short", a, 0, IP_OPTIONS, "\7\11\4", 3, 40);
	keep("bad address", a, 0, IP_OPTIONS, (void *)1, 8, 40);
	keep("none", a, 0, IP_OPTIONS, NULL, 0, 40);
	sendto(a, "x", 1, 0, (void *)&four, sizeof four);
	got("received", b);

	puts("[of one send]");
	say("RETOPTS", sendc(a, (void *)&four, sizeof four, 0, IP_RETOPTS, "\1\1\1\1", 4));
	got("received", b);
	say("RECVOPTS", sendc(a, (void *)&four, sizeof four, 0, IP_RECVOPTS, "\1\1\1\1", 4));
	say("TOS of two bytes", sendc(a, (void *)&four, sizeof four, 0, IP_TOS, "\1\1", 2));
	say("TTL of eight bytes", sendc(a, (void *)&four, sizeof four, 0, IP_TTL, "\1\0\0\0\0\0\0\0", 8));

	puts("[with a raw socket]");
	keep("no operations", r, 0, IP_OPTIONS, "\1\1", 2, 40);
	four.sin_port = 0;
	sendto(r, "data", 4, 0, (void *)&four, sizeof four);
	unsigned char packet[64];
	int n = recv(r, packet, sizeof packet, MSG_DONTWAIT);
	printf("%d bytes, header %02x ", n, packet[0]);
	hex(packet + 20, n - 20);
	puts("");
	close(a), close(b), close(r);
}

static void version6(void)
{
	int a = socket(AF_INET6, SOCK_DGRAM, 0), b = socket(AF_INET6, SOCK_DGRAM, 0), t = socket(AF_INET6, SOCK_STREAM, 0);
	int r = socket(AF_INET6, SOCK_RAW, 199);
	static const int told[] = {53, 58, 56, 3, 4, 5};
	bind(b, (void *)&six, sizeof six);
	socklen_t n = sizeof six;
	getsockname(b, (void *)&six, &n);
	for (unsigned i = 0; i < sizeof told / sizeof *told; i++)
		set(b, IPPROTO_IPV6, told[i], 1);

	puts("[headers that stick]");
	keep("for hops", a, IPPROTO_IPV6, IPV6_HOPOPTS, "\0\0\5\2\0\0\1\0", 8, 300);
	keep("for the destination", a, IPPROTO_IPV6, IPV6_DSTOPTS, "\0\1\36\10abcdefgh\1\2\0\0", 16, 300);
	keep("on a route", a, IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, "\0\0\1\4\0\0\0\0", 8, 300);
	sendto(a, "x", 1, 0, (void *)&six, sizeof six);
	got("received", b);
	keep("in little room", a, IPPROTO_IPV6, IPV6_HOPOPTS, "\0\0\1\4\0\0\0\0", 8, 5);
	keep("longer than it says", a, IPPROTO_IPV6, IPV6_HOPOPTS, "\0\0\1\4\0\0\0\0\1\1\1\1\1\1\1\1", 16, 300);
	keep("shorter than it says", a, IPPROTO_IPV6, IPV6_HOPOPTS, "\0\1\1\4\0\0\0\0", 8, 300);
	keep("not whole", a, IPPROTO_IPV6, IPV6_HOPOPTS, "\0\0\1\4\0\0\0\0", 7, 300);
	keep("a route", a, IPPROTO_IPV6, IPV6_RTHDR, "\0\2\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 24, 300);
	keep("bad address", a, IPPROTO_IPV6, IPV6_HOPOPTS, (void *)1, 8, 300);
	keep("null", a, IPPROTO_IPV6, IPV6_HOPOPTS, NULL, 8, 300);
	keep("gone", a, IPPROTO_IPV6, IPV6_HOPOPTS, NULL, 0, 300);
	sendto(a, "x", 1, 0, (void *)&six, sizeof six);
	got("received", b);
	keep("one that is discarded", a, IPPROTO_IPV6, IPV6_DSTOPTS, "\0\0\102\0\1\2\0\0", 8, 300);
	say("lost", sendto(a, "x", 1, 0, (void *)&six, sizeof six));
	got("nothing", b);
	keep("padding that is none", a, IPPROTO_IPV6, IPV6_DSTOPTS, "\0\0\1\4\0\1\0\0", 8, 300);
	say("lost", sendto(a, "x", 1, 0, (void *)&six, sizeof six));
	got("nothing", b);
	keep("gone", a, IPPROTO_IPV6, IPV6_DSTOPTS, NULL, 0, 300);
	keep("of a stream", t, IPPROTO_IPV6, IPV6_DSTOPTS, "\0\0\1\4\0\0\0\0", 8, 300);
	keep("in the old way", a, IPPROTO_IPV6, 6, "", 0, 300);
	keep("bytes that are no message", a, IPPROTO_IPV6, 6, "\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, 300);

	puts("[of one send]");
	say("for hops", sendc(a, (void *)&six, sizeof six, IPPROTO_IPV6, IPV6_HOPOPTS, "\0\0\36\0\1\2\0\0", 8));
	got("received", b);
	say("for the destination", sendc(a, (void *)&six, sizeof six, IPPROTO_IPV6, IPV6_DSTOPTS, "\0\0\1\4\0\0\0\0", 8));
	got("received", b);
	say("in the old way", sendc(a, (void *)&six, sizeof six, IPPROTO_IPV6, 4, "\0\0\1\4\0\0\0\0", 8));
	got("received", b);
	say("shorter than it says", sendc(a, (void *)&six, sizeof six, IPPROTO_IPV6, IPV6_DSTOPTS, "\0\1\1\4\0\0\0\0", 8));
	say("a route", sendc(a, (void *)&six, sizeof six, IPPROTO_IPV6, IPV6_RTHDR, "\0\0\0\0\0\0\0\0", 8));

	puts("[with a raw socket]");
	set(r, IPPROTO_IPV6, IPV6_RECVDSTOPTS, 1);
	keep("for the destination", r, IPPROTO_IPV6, IPV6_DSTOPTS, "\0\0\1\4\0\0\0\0", 8, 300);
	struct sockaddr_in6 to = six;
	to.sin6_port = 0;
	sendto(r, "data", 4, 0, (void *)&to, sizeof to);
	got("received", r);

	puts("[without privilege]");
	if (fork() == 0) {
		say("seteuid", seteuid(1));
		keep("for hops", a, IPPROTO_IPV6, IPV6_HOPOPTS, "\0\0\1\4\0\0\0\0", 8, 300);
		keep("a route", a, IPPROTO_IPV6, IPV6_RTHDR, NULL, 0, 300);
		say("sent", sendc(a, (void *)&six, sizeof six, IPPROTO_IPV6, IPV6_HOPOPTS, "\0\0\1\4\0\0\0\0", 8));
		_exit(0);
	}
	wait(NULL);
	close(a), close(b), close(r), close(t);
}

static int ask(int s, const char *what, unsigned number, int action, int share, int flags, int linger)
{
	struct label q = {.to = IN6ADDR_LOOPBACK_INIT, .number = htonl(number), .action = action, .share = share,
			  .flags = flags, .linger = linger};
	say(what, setsockopt(s, IPPROTO_IPV6, 32, &q, sizeof q));
	return ntohl(q.number);
}

static void labels(void)
{
	enum { GET, PUT, RENEW };
	int a = socket(AF_INET6, SOCK_DGRAM, 0), b = socket(AF_INET6, SOCK_DGRAM, 0), c = socket(AF_INET6, SOCK_DGRAM, 0);
	six.sin6_port = 0;
	bind(b, (void *)&six, sizeof six);
	socklen_t n = sizeof six;
	getsockname(b, (void *)&six, &n);
	puts("[labels]");
	ask(a, "none is there", 0x12345, GET, 255, 0, 0);
	ask(a, "made", 0x12345, GET, 255, 1, 0);
	ask(a, "once more", 0x12345, GET, 255, 1, 0);
	ask(a, "alone", 0x12345, GET, 255, 3, 0);
	ask(c, "shared", 0x12345, GET, 255, 0, 0);
	ask(c, "in another way", 0x12345, GET, 3, 0, 0);
	printf("any %d\n", ask(a, "any", 0, GET, 255, 1, 0) != 0);
	ask(a, "too large", 0x112345, GET, 255, 1, 0);
	ask(a, "no such manner", 0x2, GET, 9, 1, 0);
	ask(a, "no such action", 0x2, 7, 255, 1, 0);
	ask(a, "reflected", 0x2, GET, 255, 5, 0);
	ask(c, "renewed", 0x12345, RENEW, 255, 0, 20);
	ask(c, "not there", 0x777, RENEW, 255, 0, 20);
	ask(c, "given back", 0x12345, PUT, 0, 0, 0);
	ask(c, "given back again", 0x12345, PUT, 0, 0, 0);

	puts("[sent]");
	set(b, IPPROTO_IPV6, 11, 1);
	set(a, IPPROTO_IPV6, 33, 1);
	six.sin6_flowinfo = htonl(0x12345);
	say("its own", sendto(a, "x", 1, 0, (void *)&six, sizeof six));
	got("received", b);
	set(c, IPPROTO_IPV6, 70, 0);
	say("without", sendto(c, "x", 1, 0, (void *)&six, sizeof six));
	got("received", b);
	set(c, IPPROTO_IPV6, 33, 1);
	say("another's", sendto(c, "x", 1, 0, (void *)&six, sizeof six));
	got("received", b);
	ask(a, "for itself", 0x222, GET, 1, 1, 0);
	say("another's now", sendto(c, "x", 1, 0, (void *)&six, sizeof six));
	unsigned flow = htonl(0x54321);
	say("by a message", sendc(c, (void *)&six, sizeof six, IPPROTO_IPV6, 11, &flow, 4));

	struct label q = {.action = GET};
	n = sizeof q;
	say("connected", connect(a, (void *)&six, sizeof six));
	say("its label", getsockopt(a, IPPROTO_IPV6, 32, &q, &n));
	printf("%u bytes, %x, share %d, linger %d\n", n, ntohl(q.number), q.share, q.linger);
	n = 8;
	say("in little room", getsockopt(a, IPPROTO_IPV6, 32, &q, &n));
	n = sizeof q;
	memset(&q, 0, sizeof q);
	say("none", getsockopt(b, IPPROTO_IPV6, 32, &q, &n));
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	own_network();
	version4();
	version6();
	labels();
	return 0;
}
