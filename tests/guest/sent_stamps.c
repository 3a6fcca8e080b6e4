/* When data that was sent has left (SO_TIMESTAMPING), told by the error queue. */
#include "sockets.h"
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>

static void told(const char *w, int s)
{
	for (int i = 0; i < 6; i++) {
		unsigned char data[3000];
		char control[512];
		struct sockaddr_storage name;
		struct iovec v = {data, sizeof data};
		struct msghdr m = {&name, sizeof name, &v, 1, control, sizeof control, 0};
		int events = ev(s, 0) & (POLLERR | POLLPRI);
		long n = recvmsg(s, &m, MSG_ERRQUEUE | MSG_DONTWAIT);
		if (n < 0) {
			printf("%s: events %x ", w, events);
			say("end", n);
			return;
		}
		printf("%s: events %x len %ld flags %x name %d", w, events, n, m.msg_flags, m.msg_namelen);
		for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
			printf(" [%d/%d/%zu", h->cmsg_level, h->cmsg_type, h->cmsg_len);
			if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SO_TIMESTAMPING) {
				struct scm_timestamping *t = (void *)CMSG_DATA(h);
				printf(" now %d others %ld", labs(time(0) - t->ts[0].tv_sec) < 100, (long)(t->ts[1].tv_sec + t->ts[2].tv_sec));
			} else {
				struct sock_extended_err *e = (void *)CMSG_DATA(h);
				printf(" errno %u origin %u type %u code %u info %u data %u", e->ee_errno, e->ee_origin, e->ee_type,
				       e->ee_code, e->ee_info, e->ee_data);
				printf(" offender %d", SO_EE_OFFENDER(e)->sa_family);
			}
			printf("]");
		}
		if (n >= 5)
			printf(" ends with %.5s", data + n - 5);
		puts("");
	}
}

static void datagrams(int family, int type, int protocol, unsigned flags)
{
	struct sockaddr_storage to = {.ss_family = family};
	socklen_t n = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	if (family == AF_INET)
		((struct sockaddr_in *)&to)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)&to)->sin6_addr = in6addr_loopback;
	int r = socket(family, type, protocol), s = socket(family, type, protocol);
	bind(r, (void *)&to, n);
	if (type == SOCK_DGRAM)
		getsockname(r, (void *)&to, &n);
	printf("family %d type %d flags %x\n", family, type, flags);
	say("set", set(s, SOL_SOCKET, SO_TIMESTAMPING, flags));
	printf("reads %x\n", get(s, SOL_SOCKET, SO_TIMESTAMPING));
	say("send", sendto(s, "first", 5, 0, (void *)&to, n));
	say("send", sendto(s, "after", 5, 0, (void *)&to, n));
	told("told", s);
	say("error", get(s, SOL_SOCKET, SO_ERROR));
	set(s, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1);
	say("send", sendto(s, "third", 5, 0, (void *)&to, n));
	told("third", s);
	char control[CMSG_SPACE(4)] = {0};
	struct cmsghdr *h = (void *)control;
	*h = (struct cmsghdr){CMSG_LEN(4), SOL_SOCKET, SO_TIMESTAMPING};
	*(int *)CMSG_DATA(h) = SOF_TIMESTAMPING_TX_SCHED;
	struct iovec v = {"cmsgs", 5};
	struct msghdr m = {&to, n, &v, 1, control, sizeof control, 0};
	say("send", sendmsg(s, &m, 0));
	told("by message", s);
	*(int *)CMSG_DATA(h) = 0;
	say("send", sendmsg(s, &m, 0));
	told("none by message", s);
	*(int *)CMSG_DATA(h) = SOF_TIMESTAMPING_SOFTWARE;
	say("send", sendmsg(s, &m, 0));
	close(s);
	close(r);
}

static void streams(unsigned flags)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof to;
	int l = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0);
	bind(l, (void *)&to, n);
	listen(l, 5);
	getsockname(l, (void *)&to, &n);
	printf("stream flags %x\n", flags);
	say("set too early", set(s, SOL_SOCKET, SO_TIMESTAMPING, flags));
	connect(s, (void *)&to, n);
	int a = accept(l, 0, 0);
	char b[64];
	say("send", send(s, "unseen", 6, 0));
	recv(a, b, sizeof b, 0);
	usleep(50000);
	told("before", s);
	say("set", set(s, SOL_SOCKET, SO_TIMESTAMPING, flags));
	say("send", send(s, "first", 5, 0));
	recv(a, b, sizeof b, 0);
	usleep(50000);
	told("told", s);
	say("send", send(s, "afterwards", 10, 0));
	recv(a, b, sizeof b, 0);
	usleep(50000);
	told("after", s);
	close(s);
	close(a);
	close(l);
}

int main(void)
{
	own_network();
	setvbuf(stdout, 0, _IONBF, 0);
	unsigned soft = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE, id = SOF_TIMESTAMPING_OPT_ID,
		 only = SOF_TIMESTAMPING_OPT_TSONLY;
	for (int family = AF_INET; family; family = family == AF_INET ? AF_INET6 : 0) {
		datagrams(family, SOCK_DGRAM, 0, soft);
		datagrams(family, SOCK_DGRAM, 0, soft | id);
		datagrams(family, SOCK_DGRAM, 0, soft | id | only | SOF_TIMESTAMPING_TX_SCHED);
		datagrams(family, SOCK_DGRAM, 0, soft | SOF_TIMESTAMPING_TX_ACK);
		datagrams(family, SOCK_DGRAM, 0, SOF_TIMESTAMPING_TX_SOFTWARE | id);
		datagrams(family, SOCK_RAW, 253, soft | id);
	}
	streams(soft | only);
	streams(soft | id | only);
	streams(soft | id | only | SOF_TIMESTAMPING_TX_SCHED);
	streams(soft | id | only | 1 << 16);
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	for (int bit = 0; bit < 20; bit++) {
		printf("bit %d: ", bit);
		say("set", set(s, SOL_SOCKET, SO_TIMESTAMPING, 1 << bit));
	}
	return 0;
}
