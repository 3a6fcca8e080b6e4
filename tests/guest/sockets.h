/* Sockets and their options, and what calls on them return, for programs that make many such calls. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The value, or the error's name. */
static inline void say(const char *w, long r)
{
	if (r < 0)
		printf("%s: %s\n", w, strerrorname_np(errno));
	else
		printf("%s: %ld\n", w, r);
}

static inline int set(int s, int level, int option, int v)
{
	return setsockopt(s, level, option, &v, sizeof v);
}

static inline int get(int s, int level, int option)
{
	int v = -9;
	socklen_t n = sizeof v;
	return getsockopt(s, level, option, &v, &n) ? -errno : v;
}

/* What it becomes ready for within so many ms. */
static inline int waitfor(int s, int events, int ms)
{
	struct pollfd p = {s, events, 0};
	poll(&p, 1, ms);
	return p.revents;
}

static inline int ev(int s, int ms)
{
	return waitfor(s, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, ms);
}

static inline long ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Its own address. */
static inline struct sockaddr_in at(int s)
{
	struct sockaddr_in x;
	socklen_t n = sizeof x;
	getsockname(s, (void *)&x, &n);
	return x;
}

/* A listener on the loopback address; below 0 it does not listen yet. */
static inline int lis(int backlog)
{
	struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int l = socket(AF_INET, SOCK_STREAM, 0);
	bind(l, (void *)&x, sizeof x);
	if (backlog >= 0)
		listen(l, backlog);
	return l;
}

/* A connection, and its listener. */
static inline void pair(int *c, int *a, int *l)
{
	*l = lis(5);
	struct sockaddr_in x = at(*l);
	*c = socket(AF_INET, SOCK_STREAM, 0);
	connect(*c, (void *)&x, sizeof x);
	*a = accept(*l, 0, 0);
}

/* The state of a connection. */
static inline int st(int s)
{
	struct tcp_info i;
	socklen_t n = sizeof i;
	return getsockopt(s, IPPROTO_TCP, TCP_INFO, &i, &n) ? -errno : i.tcpi_state;
}

static inline int udp(const char *ip)
{
	struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(ip)};
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	bind(s, (void *)&x, sizeof x);
	return s;
}

/* Receives, and prints what comes beside the data: not the contents of what holds times, ids or credentials. */
static inline void cm(const char *w, int s, int flags)
{
	char b[64], c[512];
	struct sockaddr_storage ss;
	struct iovec v = {b, sizeof b};
	struct msghdr m = {.msg_name = &ss, .msg_namelen = sizeof ss, .msg_iov = &v, .msg_iovlen = 1,
			   .msg_control = c, .msg_controllen = sizeof c};
	ssize_t r = recvmsg(s, &m, flags | MSG_DONTWAIT);
	say(w, r);
	if (r < 0)
		return;
	printf(" flags %x name %d", m.msg_flags, m.msg_namelen);
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
		int level = h->cmsg_level, type = h->cmsg_type;
		printf(" [%d/%d/%zu", level, type, h->cmsg_len);
		if (level != SOL_SOCKET && !(level == IPPROTO_IP && type == 20) && !(level == IPPROTO_IPV6 && type == 74)) {
			printf(" ");
			for (unsigned i = 0; i < h->cmsg_len - 16 && i < 20; i++)
				printf("%02x", CMSG_DATA(h)[i]);
		}
		printf("]");
	}
	printf("\n");
}

/* Sends a byte with a control message. */
static inline int sendc(int s, struct sockaddr *to, socklen_t n, int level, int type, const void *d, int len)
{
	char c[256] = {0};
	struct iovec v = {"x", 1};
	struct msghdr m = {to, n, &v, 1, c, CMSG_SPACE(len), 0};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = level;
	h->cmsg_type = type;
	h->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(h), d, len);
	return sendmsg(s, &m, 0);
}

/* A network of its own, whose loopback interface is up. */
static inline void own_network(void)
{
	struct ifreq q = {0};
	if (unshare(CLONE_NEWNET)) {
		say("unshare", -1);
		exit(0);
	}
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	strcpy(q.ifr_name, "lo");
	q.ifr_flags = IFF_UP;
	say("up", ioctl(s, SIOCSIFFLAGS, &q));
	close(s);
}
