/* What is left of connections that were dissolved or never made: errors, addresses, events. */
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
	return 0;
}
