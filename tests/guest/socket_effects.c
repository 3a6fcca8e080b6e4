/* What options of internet sockets do: urgent data and its signal, low water, notices of sends without a copy, looks at an
   offset, what comes beside the data. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static void say(const char *what, long r) { if (r < 0) printf("%s: %s\n", what, strerrorname_np(errno)); else printf("%s: %ld\n", what, r); }
static int set(int s, int l, int o, int v) { return setsockopt(s, l, o, &v, sizeof v); }
static int get(int s, int l, int o) { int v = -9; socklen_t n = sizeof v; if (getsockopt(s, l, o, &v, &n)) return -errno; return v; }
static void ev(const char *w, int s) { struct pollfd p = {s, POLLIN|POLLOUT|POLLPRI|POLLRDHUP, 0}; poll(&p, 1, 20); printf("%s: %x\n", w, p.revents); }
static volatile int urg, io;
static void h(int n) { if (n == SIGURG) urg++; else io++; }
static void pair(int *a, int *b, int *l) {
  struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; socklen_t n = sizeof x;
  *l = socket(AF_INET, SOCK_STREAM, 0); bind(*l, (void *)&x, n); listen(*l, 5); getsockname(*l, (void *)&x, &n);
  *a = socket(AF_INET, SOCK_STREAM, 0); connect(*a, (void *)&x, n); *b = accept(*l, 0, 0);
}
static void errq(const char *w, int s) {
  char b[64], c[256]; struct iovec v = {b, sizeof b}; struct sockaddr_in6 n; struct msghdr m = {.msg_name=&n,.msg_namelen=sizeof n,.msg_iov=&v,.msg_iovlen=1,.msg_control=c,.msg_controllen=sizeof c};
  ssize_t r = recvmsg(s, &m, MSG_ERRQUEUE); say(w, r); if (r < 0) return;
  printf(" name %d flags %x", m.msg_namelen, m.msg_flags);
  for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) { printf(" [%d/%d/%zu", h->cmsg_level, h->cmsg_type, h->cmsg_len);
    if (h->cmsg_type == IP_RECVERR || h->cmsg_type == 25) { struct sock_extended_err *e = (void *)CMSG_DATA(h); printf(" e%d o%d t%d c%d i%u d%u", e->ee_errno, e->ee_origin, e->ee_type, e->ee_code, e->ee_info, e->ee_data); }
    printf("]"); }
  printf("\n");
}
static void cm(const char *w, int s, int flags) {
  char b[64], c[512]; struct iovec v = {b, sizeof b}; struct msghdr m = {.msg_iov=&v,.msg_iovlen=1,.msg_control=c,.msg_controllen=sizeof c};
  ssize_t r = recvmsg(s, &m, flags); say(w, r); if (r < 0) return;
  printf(" flags %x", m.msg_flags);
  for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) { printf(" [%d/%d/%zu", h->cmsg_level, h->cmsg_type, h->cmsg_len);
    if (h->cmsg_len <= 20) printf(" %d", *(int *)CMSG_DATA(h)); printf("]"); }
  printf("\n");
}
int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  int a, b, l; char buf[4096];
  signal(SIGURG, h); signal(SIGIO, h);
  pair(&a, &b, &l);
  fcntl(b, F_SETOWN, getpid());
  send(a, "ab", 2, 0); send(a, "c", 1, MSG_OOB); usleep(1000);
  printf("urg %d\n", urg); ev("poll", b);
  int at; ioctl(b, SIOCATMARK, &at); printf("mark %d\n", at);
  say("read", recv(b, buf, 10, MSG_DONTWAIT)); ioctl(b, SIOCATMARK, &at); printf("mark %d\n", at);
  say("oob", recv(b, buf, 1, MSG_OOB)); say("oob again", recv(b, buf, 1, MSG_OOB)); ev("poll", b);
  set(b, SOL_SOCKET, SO_OOBINLINE, 1); send(a, "xyZ", 3, MSG_OOB); send(a, "w", 1, 0); usleep(1000);
  say("inline", recv(b, buf, 10, MSG_DONTWAIT)); ioctl(b, SIOCATMARK, &at); printf("mark %d\n", at); say("inline", recv(b, buf, 10, MSG_DONTWAIT)); say("oob", recv(b, buf, 1, MSG_OOB));
  printf("urg %d\n", urg);
  int fl = fcntl(b, F_GETFL); fcntl(b, F_SETFL, fl | O_ASYNC); send(a, "q", 1, 0); usleep(1000); printf("io %d\n", io > 0); recv(b, buf, 10, 0);
  set(b, SOL_SOCKET, SO_RCVLOWAT, 5); send(a, "123", 3, 0); ev("lowat", b); say("read", recv(b, buf, 10, MSG_DONTWAIT)); send(a, "12345", 5, 0); ev("lowat", b); say("read", recv(b, buf, 10, 0));
  say("zc off", send(a, "zz", 2, MSG_ZEROCOPY)); usleep(1000); errq("queue", a); ev("poll", a);
  say("zc", set(a, SOL_SOCKET, SO_ZEROCOPY, 1)); say("zc", send(a, "zz", 2, MSG_ZEROCOPY)); say("zc", send(a, "zz", 2, MSG_ZEROCOPY)); recv(b, buf, 100, 0); usleep(10000); ev("poll", a); errq("queue", a); errq("queue", a); ev("poll", a);
  set(b, SOL_SOCKET, SO_RCVLOWAT, 1);
  set(b, IPPROTO_TCP, TCP_INQ, 1); send(a, "time!", 5, 0); usleep(1000); { char t[2]; struct iovec v = {t, 2}; char c[512]; struct msghdr m = {.msg_iov=&v,.msg_iovlen=1,.msg_control=c,.msg_controllen=sizeof c}; recvmsg(b, &m, 0); for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) { printf(" [%d/%d/%zu", h->cmsg_level, h->cmsg_type, h->cmsg_len); if (h->cmsg_len == 20) printf(" %d", *(int *)CMSG_DATA(h)); printf("]"); } printf("\n"); }
  recv(b, buf, 100, 0);
  say("peek", recv(b, buf, 10, MSG_PEEK | MSG_DONTWAIT)); send(a, "peekoff", 7, 0); usleep(1000); set(b, SOL_SOCKET, SO_PEEK_OFF, 2); say("peek", recv(b, buf, 3, MSG_PEEK)); printf("%.3s off %d\n", buf, get(b, SOL_SOCKET, SO_PEEK_OFF)); say("peek", recv(b, buf, 3, MSG_PEEK)); printf("%.2s off %d\n", buf, get(b, SOL_SOCKET, SO_PEEK_OFF)); say("read", recv(b, buf, 2, 0)); printf("off %d\n", get(b, SOL_SOCKET, SO_PEEK_OFF));
  close(a); close(b); close(l);
  struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof x;
  /* udp */
  int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0); x.sin_port = 0; bind(s, (void *)&x, n); getsockname(s, (void *)&x, &n);
  set(s, SOL_SOCKET, SO_TIMESTAMP, 1); set(s, SOL_SOCKET, 75, 1); set(s, SOL_SOCKET, 82, 1); set(c, SOL_SOCKET, SO_PRIORITY, 3); set(c, SOL_SOCKET, SO_MARK, 7); sendto(c, "t", 1, 0, (void *)&x, n); cm("mark", s, 0);
  set(s, IPPROTO_IP, IP_RECVOPTS, 1); set(s, IPPROTO_IP, IP_RETOPTS, 1); set(s, IPPROTO_IP, 23, 1); set(s, IPPROTO_IP, IP_RECVFRAGSIZE, 1); set(s, SOL_SOCKET, SO_TIMESTAMP, 0); sendto(c, "t", 1, 0, (void *)&x, n); cm("ip", s, 0);
  set(s, SOL_SOCKET, SO_PEEK_OFF, 1); sendto(c, "peek", 4, 0, (void *)&x, n); memset(buf, 0, 9); say("peek", recv(s, buf, 2, MSG_PEEK)); printf("%s %d\n", buf, get(s, SOL_SOCKET, SO_PEEK_OFF)); memset(buf, 0, 9); say("peek", recv(s, buf, 9, MSG_PEEK)); printf("%s %d\n", buf, get(s, SOL_SOCKET, SO_PEEK_OFF)); say("read", recv(s, buf, 9, 0)); printf("%d\n", get(s, SOL_SOCKET, SO_PEEK_OFF));
  say("zc", set(c, SOL_SOCKET, SO_ZEROCOPY, 1)); say("zc", sendto(c, "zz", 2, MSG_ZEROCOPY, (void *)&x, n)); recv(s, buf, 9, 0); usleep(1000); errq("queue", c);
  set(s, IPPROTO_UDP, 104, 1); set(c, IPPROTO_UDP, 103, 2); sendto(c, "aabbc", 5, 0, (void *)&x, n); cm("gro", s, 0); cm("gro", s, MSG_DONTWAIT); cm("gro", s, MSG_DONTWAIT);
  set(c, IPPROTO_UDP, 103, 0); set(c, IPPROTO_IP, IP_TTL, 9); set(s, IPPROTO_IP, IP_MINTTL, 10); sendto(c, "t", 1, 0, (void *)&x, n); usleep(1000); cm("minttl", s, MSG_DONTWAIT);
  return 0;
}
