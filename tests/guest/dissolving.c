/* What is left of connections that were dissolved or never made: errors, addresses, events; and what datagram sockets
 * keep of an earlier connection. */
#include "sockets.h"
#include <sys/epoll.h>

static struct sockaddr_in home;
static const struct sockaddr none = {0};

static void local(const char *w, int s)
{
	struct sockaddr_in6 a;
	socklen_t n = sizeof a;
	char text[64];
	getsockname(s, (void *)&a, &n);
	inet_ntop(a.sin6_family, a.sin6_family == AF_INET ? (void *)&((struct sockaddr_in *)&a)->sin_addr : &a.sin6_addr, text,
		  sizeof text);
	printf("%s: %s port %d\n", w, text, a.sin6_port != 0);
}

static void streams(int listener)
{
	for (int k = 0; k < 6; k++) {
		int c = socket(AF_INET, SOCK_STREAM, 0);
		connect(c, (void *)&home, sizeof home);
		int s = accept(listener, 0, 0);
		if (k == 1 || k == 3)
			shutdown(c, SHUT_WR);
		if (k >= 2 && k <= 4)
			shutdown(s, SHUT_WR);
		if (k == 4)
			shutdown(c, SHUT_WR);
		if (k == 5)
			close(s);
		usleep(1000);
		printf("dissolved %d\n", k);
		say("none", connect(c, &none, sizeof none));
		printf("events %x error %d\n", ev(c, 0), get(c, SOL_SOCKET, SO_ERROR));
		if (k < 5)
			printf("peer %x\n", ev(s, 0));
		say("again", connect(c, (void *)&home, sizeof home));
		close(c);
		if (k < 5)
			close(s);
		close(accept(listener, 0, 0));
	}
}

static void attempts(void)
{
	struct sockaddr_in closed = home, away = home;
	closed.sin_port = htons(1);
	away.sin_addr.s_addr = htonl(0x0a010203);
	int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0);
	struct epoll_event e = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {0}};
	epoll_ctl(ep, EPOLL_CTL_ADD, c, &e);
	char b[4];
	printf("edge %d", epoll_wait(ep, &e, 1, 0));
	printf(" %x\n", e.events);
	say("refused", connect(c, (void *)&closed, sizeof closed));
	printf("edge %d", epoll_wait(ep, &e, 1, 100));
	printf(" %x\n", e.events);
	local("refused", c);
	say("none", connect(c, &none, sizeof none));
	printf("events %x error %d\n", ev(c, 0), get(c, SOL_SOCKET, SO_ERROR));
	say("refused", connect(c, (void *)&closed, sizeof closed));
	usleep(1000);
	epoll_wait(ep, &e, 1, 0);
	say("told", connect(c, (void *)&closed, sizeof closed));
	printf("edge %d", epoll_wait(ep, &e, 1, 0));
	printf(" %x\n", e.events);
	local("told", c);
	say("refused", connect(c, (void *)&closed, sizeof closed));
	usleep(1000);
	say("shutdown", shutdown(c, SHUT_RDWR));
	say("connect", connect(c, (void *)&home, sizeof home));
	printf("error %d\n", get(c, SOL_SOCKET, SO_ERROR));
	say("connect", connect(c, (void *)&home, sizeof home));
	say("none", connect(c, &none, sizeof none));
	say("connect", connect(c, (void *)&home, sizeof home));
	close(c);
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	say("nothing of none", recv(c, b, 0, 0));
	say("refused", connect(c, (void *)&closed, sizeof closed));
	usleep(1000);
	closed.sin_port = 0;
	say("bind", bind(c, (void *)&closed, sizeof closed));
	local("bound", c);
	say("told", connect(c, (void *)&home, sizeof home));
	say("nothing", recv(c, b, 0, 0));
	say("connect", connect(c, (void *)&home, sizeof home));
	say("nothing", recv(c, b, 0, 0));
	close(c);
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	say("away", connect(c, (void *)&away, sizeof away));
	local("away", c);
	close(c);
	close(ep);
}

static void to4(int s, const char *w, unsigned ip, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(ip), .sin_port = htons(port)};
	say(w, connect(s, (void *)&a, sizeof a));
}

static void to6(int s, const char *w, const char *ip, int port, int binds)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	inet_pton(AF_INET6, ip, &a.sin6_addr);
	say(w, binds ? bind(s, (void *)&a, sizeof a) : connect(s, (void *)&a, sizeof a));
}

static void datagrams(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	say("nowhere", send(s, "x", 1, 0));
	local("has a port", s);
	say("bind", bind(s, (void *)&a, sizeof a));
	close(s);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	say("bind", bind(s, (void *)&a, sizeof a));
	to4(s, "any", 0, 9);
	struct sockaddr_in p;
	socklen_t n = sizeof p;
	getpeername(s, (void *)&p, &n);
	printf("peer %s\n", inet_ntoa(p.sin_addr));
	say("none", connect(s, &none, sizeof none));
	local("dissolved", s);
	to4(s, "port 0", INADDR_LOOPBACK, 0);
	say("peer", getpeername(s, (void *)&p, &n));
	close(s);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	to4(s, "second", INADDR_LOOPBACK + 1, 9);
	local("second", s);
	to4(s, "first", INADDR_LOOPBACK, 9);
	local("first", s);
	a.sin_port = htons(10);
	say("elsewhere", sendto(s, "x", 1, 0, (void *)&a, sizeof a));
	printf("error %d\n", get(s, SOL_SOCKET, SO_ERROR));
	say("there", send(s, "x", 1, 0));
	say("shutdown", shutdown(s, SHUT_WR));
	say("refused first", send(s, "x", 1, 0));
	say("then ended", send(s, "x", 1, 0));
	close(s);
	s = socket(AF_INET6, SOCK_DGRAM, 0);
	to6(s, "mapped", "::ffff:127.0.0.1", 9, 0);
	to6(s, "six", "::1", 9, 0);
	to6(s, "any", "::", 9, 0);
	local("mapped", s);
	close(s);
	s = socket(AF_INET6, SOCK_DGRAM, 0);
	to6(s, "near", "fe80::1", 9, 0);
	to6(s, "near group", "ff02::1", 9, 0);
	to6(s, "bind near", "fe80::1", 0, 1);
	to6(s, "bind near group", "ff02::1", 0, 1);
	to6(s, "bind far", "2001:db8::1", 0, 1);
	to6(s, "bind", "::1", 0, 1);
	to6(s, "bind far", "2001:db8::1", 0, 1);
	close(s);
	s = socket(AF_INET6, SOCK_STREAM, 0);
	to6(s, "near", "fe80::1", 9, 0);
	to6(s, "group", "ff02::1", 9, 0);
	to6(s, "bind group", "ff0e::1", 0, 1);
	to6(s, "bind", "::ffff:127.0.0.1", 0, 1);
	to6(s, "six", "::1", 9, 0);
	close(s);
	int ep = epoll_create1(0);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	struct epoll_event e = {EPOLLOUT | EPOLLET, {0}};
	epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
	printf("edges %d", epoll_wait(ep, &e, 1, 0));
	printf(" %d", epoll_wait(ep, &e, 1, 0));
	sendto(s, "x", 1, 0, (void *)&a, sizeof a);
	printf(" %d\n", epoll_wait(ep, &e, 1, 0));
	close(s);
	close(ep);
	s = socket(AF_INET, SOCK_RAW, 253);
	if (s >= 0) {
		to4(s, "raw", INADDR_LOOPBACK, 0);
		say("shutdown", shutdown(s, SHUT_WR));
		say("raw sends on", send(s, "x", 1, 0));
		close(s);
	}
}

int main(void)
{
	own_network();
	setvbuf(stdout, 0, _IONBF, 0);
	home = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof home;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	bind(l, (void *)&home, n);
	listen(l, 5);
	getsockname(l, (void *)&home, &n);
	streams(l);
	attempts();
	datagrams();
	return 0;
}
