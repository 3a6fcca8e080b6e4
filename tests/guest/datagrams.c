/* Datagrams: what goes and comes beside the data, errors, odd addresses, overflow, in a network of its own. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
static void say(const char *w, long r) { if (r < 0) printf("%s: %s\n", w, strerrorname_np(errno)); else printf("%s: %ld\n", w, r); }
static int set(int s, int l, int o, int v) { return setsockopt(s, l, o, &v, sizeof v); }
static int get(int s, int l, int o) { int v = -9; socklen_t n = sizeof v; if (getsockopt(s, l, o, &v, &n)) return -errno; return v; }
static int ev(int s, int ms) { struct pollfd p = {s, POLLIN|POLLOUT|POLLPRI|POLLRDHUP, 0}; poll(&p, 1, ms); return p.revents; }
static char buf[1 << 18];
static struct sockaddr_in at(int s) { struct sockaddr_in x; socklen_t n = sizeof x; getsockname(s, (void *)&x, &n); return x; }
static int udp(const char *ip) { struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(ip)}; int s = socket(2, 2, 0); bind(s, (void *)&x, sizeof x); return s; }
static void cm(const char *w, int s, int flags) {
  char b[64], c[512]; struct sockaddr_storage ss; struct iovec v = {b, sizeof b}; struct msghdr m = {.msg_name = &ss, .msg_namelen = sizeof ss, .msg_iov=&v,.msg_iovlen=1,.msg_control=c,.msg_controllen=sizeof c};
  ssize_t r = recvmsg(s, &m, flags | MSG_DONTWAIT); say(w, r); if (r < 0) return;
  printf(" flags %x name %d", m.msg_flags, m.msg_namelen);
  for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) { printf(" [%d/%d/%zu", h->cmsg_level, h->cmsg_type, h->cmsg_len);
    if (h->cmsg_level != 1 && !(h->cmsg_level == 0 && h->cmsg_type == 20) && !(h->cmsg_level == 41 && h->cmsg_type == 74)) { printf(" "); for (unsigned i = 0; i < h->cmsg_len - 16 && i < 20; i++) printf("%02x", CMSG_DATA(h)[i]); } printf("]"); }
  printf("\n");
}
static int sendc(int s, struct sockaddr *to, socklen_t n, int level, int type, const void *d, int len) {
  char c[256] = {0}; struct iovec v = {"x", 1}; struct msghdr m = {to, n, &v, 1, c, CMSG_SPACE(len), 0}; struct cmsghdr *h = CMSG_FIRSTHDR(&m); h->cmsg_level = level; h->cmsg_type = type; h->cmsg_len = CMSG_LEN(len); memcpy(CMSG_DATA(h), d, len); return sendmsg(s, &m, 0);
}
static void own_network(void) {
  struct ifreq q = {0};
  if (unshare(CLONE_NEWNET)) { say("unshare", -1); exit(0); }
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  strcpy(q.ifr_name, "lo");
  q.ifr_flags = IFF_UP;
  say("up", ioctl(s, SIOCSIFFLAGS, &q));
  close(s);
}
int main(void) {
  setvbuf(stdout, 0, _IONBF, 0); signal(SIGPIPE, SIG_IGN);
  own_network();
  int s = udp("127.0.0.1"), c = udp("127.0.0.1"); struct sockaddr_in x = at(s), cx = at(c); socklen_t n = sizeof x;
  puts("# ancillary 4");
  set(s, 0, IP_PKTINFO, 1); set(s, 0, IP_RECVTTL, 1); set(s, 0, IP_RECVTOS, 1);
  set(s, 0, IP_RECVORIGDSTADDR, 1); set(s, 0, IP_RECVOPTS, 1);
  set(s, 0, IP_CHECKSUM, 1);
  sendto(c, "a", 1, 0, (void *)&x, n); cm("all", s, 0);
  int v = 5; say("ttl cmsg", sendc(c, (void *)&x, n, 0, IP_TTL, &v, 4));
  cm("ttl", s, 0); v = 0; say("ttl 0", sendc(c, (void *)&x, n, 0, IP_TTL, &v, 4));
  v = 256; say("ttl 256", sendc(c, (void *)&x, n, 0, IP_TTL, &v, 4));
  say("ttl byte", sendc(c, (void *)&x, n, 0, IP_TTL, &v, 1)); v = 0x10;
  say("tos", sendc(c, (void *)&x, n, 0, IP_TOS, &v, 4)); cm("tos", s, 0);
  say("tos byte", sendc(c, (void *)&x, n, 0, IP_TOS, &v, 1)); cm("tos", s, 0);
  v = 256; say("tos big", sendc(c, (void *)&x, n, 0, IP_TOS, &v, 4));
  struct in_pktinfo pi = {.ipi_ifindex = 1, .ipi_spec_dst.s_addr = inet_addr("127.0.0.9")};
  say("pktinfo", sendc(c, (void *)&x, n, 0, IP_PKTINFO, &pi, sizeof pi));
  cm("pktinfo", s, 0); pi.ipi_spec_dst.s_addr = inet_addr("10.9.8.7");
  say("pktinfo foreign", sendc(c, (void *)&x, n, 0, IP_PKTINFO, &pi, sizeof pi));
  pi.ipi_spec_dst.s_addr = 0; pi.ipi_ifindex = 99; say("pktinfo index", sendc(c, (void *)&x, n, 0, IP_PKTINFO, &pi, sizeof pi));
  say("pktinfo short", sendc(c, (void *)&x, n, 0, IP_PKTINFO, &pi, 4));
  say("unknown", sendc(c, (void *)&x, n, 0, 99, &pi, 4)); say("other level", sendc(c, (void *)&x, n, 77, 99, &pi, 4));
  cm("other", s, 0); v = 7; say("mark", sendc(c, (void *)&x, n, 1, SO_MARK, &v, 4));
  say("priority", sendc(c, (void *)&x, n, 1, SO_PRIORITY, &v, 4));
  say("socket unknown", sendc(c, (void *)&x, n, 1, 99, &v, 4));
  uint64_t tx = 1; say("txtime off", sendc(c, (void *)&x, n, 1, SO_TXTIME, &tx, 8));
  struct { int clock; unsigned flags; } tt = {CLOCK_MONOTONIC, 0};
  say("txtime", setsockopt(c, 1, SO_TXTIME, &tt, sizeof tt)); say("txtime on", sendc(c, (void *)&x, n, 1, SO_TXTIME, &tx, 8));
  say("tsing", (v = 0, sendc(c, (void *)&x, n, 1, SO_TIMESTAMPING, &v, 4)));
  v = 2; say("segment", sendc(c, (void *)&x, n, 17, 103, &v, 2));
  while (recv(s, buf, 100, MSG_DONTWAIT) >= 0);
  puts("# truncation");
  sendto(c, "0123456789", 10, 0, (void *)&x, n); say("trunc", recv(s, buf, 4, MSG_TRUNC | MSG_PEEK));
  say("short", recv(s, buf, 4, 0)); say("gone", recv(s, buf, 4, MSG_DONTWAIT));
  sendto(c, "", 0, 0, (void *)&x, n); int q = -1; ioctl(s, FIONREAD, &q);
  printf("inq %d poll %x\n", q, ev(s, 0)); say("empty", recv(s, buf, 4, 0));
  sendto(c, "abc", 3, 0, (void *)&x, n); say("zero room", recv(s, buf, 0, 0));
  say("null", recv(s, 0, 0, MSG_DONTWAIT)); sendto(c, "abc", 3, 0, (void *)&x, n);
  say("fault", recv(s, (void *)8, 3, 0)); say("after fault", recv(s, buf, 9, MSG_DONTWAIT));
  sendto(c, "abc", 3, 0, (void *)&x, n); say("waitall", recv(s, buf, 100, MSG_WAITALL));
  puts("# connected");
  say("connect", connect(c, (void *)&x, n)); say("send", send(c, "a", 1, 0));
  int o = udp("127.0.0.1"); struct sockaddr_in ox = at(o); say("to other", sendto(c, "b", 1, 0, (void *)&ox, n));
  say("other got", recv(o, buf, 9, MSG_DONTWAIT)); say("reconnect", connect(c, (void *)&ox, n));
  printf("poll %x\n", ev(c, 0)); close(o); say("send closed", send(c, "a", 1, 0));
  usleep(1000); printf("poll %x", ev(c, 0)); printf(" err %d", get(c, 1, SO_ERROR));
  printf(" poll %x\n", ev(c, 0)); say("send", send(c, "a", 1, 0));
  say("send", send(c, "a", 1, 0)); say("recv", recv(c, buf, 1, MSG_DONTWAIT));
  say("shut wr", shutdown(c, SHUT_WR)); say("send", send(c, "a", 1, 0));
  printf("poll %x\n", ev(c, 0)); say("shut rd", shutdown(c, SHUT_RD));
  get(c, 1, SO_ERROR); say("recv", recv(c, buf, 1, 0)); say("recv nb", recv(c, buf, 1, MSG_DONTWAIT));
  printf("poll %x\n", ev(c, 0)); struct sockaddr un = {AF_UNSPEC};
  say("unspec", connect(c, &un, sizeof un)); printf("poll %x\n", ev(c, 0));
  close(c);
  puts("# broadcast and odd addresses");
  c = udp("0.0.0.0"); struct sockaddr_in y = x; y.sin_addr.s_addr = inet_addr("127.255.255.255");
  say("bcast", sendto(c, "a", 1, 0, (void *)&y, n)); set(c, 1, SO_BROADCAST, 1);
  say("bcast", sendto(c, "a", 1, 0, (void *)&y, n)); y.sin_addr.s_addr = 0;
  say("any", sendto(c, "a", 1, 0, (void *)&y, n)); y.sin_family = AF_UNSPEC;
  say("unspec", sendto(c, "a", 1, 0, (void *)&y, n)); y.sin_family = 77;
  say("family", sendto(c, "a", 1, 0, (void *)&y, n)); say("len", sendto(c, "a", 1, 0, (void *)&x, 8));
  say("len big", sendto(c, "a", 1, 0, (void *)&x, 200)); say("len neg", sendto(c, "a", 1, 0, (void *)&x, -1));
  y = x; y.sin_port = 0; say("port 0", sendto(c, "a", 1, 0, (void *)&y, n));
  say("connect port 0", connect(c, (void *)&y, n)); say("send", send(c, "a", 1, 0));
  close(c); while (recv(s, buf, 100, MSG_DONTWAIT) >= 0);
  puts("# device");
  c = socket(2, 2, 0); say("bind lo", setsockopt(c, 1, SO_BINDTODEVICE, "lo", 3));
  char dn[16] = ""; socklen_t k = 16; say("get", getsockopt(c, 1, SO_BINDTODEVICE, dn, &k));
  printf("%s %d\n", dn, k); say("none", setsockopt(c, 1, SO_BINDTODEVICE, "nosuch", 6));
  say("unbind", setsockopt(c, 1, SO_BINDTODEVICE, "", 0)); say("ifindex", set(c, 1, 62, 1));
  printf("%d\n", get(c, 1, 62)); say("send", sendto(c, "a", 1, 0, (void *)&x, n));
  close(c);
  puts("# free bind");
  c = socket(2, 2, 0); y = (struct sockaddr_in){.sin_family = 2, .sin_addr.s_addr = inet_addr("10.11.12.13")};
  say("foreign", bind(c, (void *)&y, n)); set(c, 0, IP_FREEBIND, 1);
  say("free", bind(c, (void *)&y, n)); close(c);
  puts("# mtu");
  c = udp("127.0.0.1"); set(c, 0, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
  say("64k", sendto(c, buf, 65507, 0, (void *)&x, n)); say("64k+1", sendto(c, buf, 65508, 0, (void *)&x, n));
  close(c); while (recv(s, buf, 100, MSG_DONTWAIT) >= 0);
  puts("# overflow");
  c = udp("127.0.0.1"); set(s, 1, SO_RCVBUF, 4096); set(s, 1, SO_RXQ_OVFL, 1);
  for (int i = 0; i < 100; i++) sendto(c, buf, 500, 0, (void *)&x, n);
  int got = 0; while (recv(s, buf, 1000, MSG_DONTWAIT) >= 0) got++;
  printf("some lost %d\n", got > 0 && got < 100); sendto(c, buf, 5, 0, (void *)&x, n);
  close(c); close(s);
  puts("# six");
  s = socket(10, 2, 0); struct sockaddr_in6 z = {.sin6_family = 10, .sin6_addr = in6addr_loopback};
  socklen_t zn = sizeof z; bind(s, (void *)&z, zn); getsockname(s, (void *)&z, &zn);
  c = socket(10, 2, 0); set(s, 41, IPV6_RECVPKTINFO, 1); set(s, 41, IPV6_RECVHOPLIMIT, 1);
  set(s, 41, IPV6_RECVTCLASS, 1); set(s, 41, 74, 1); sendto(c, "a", 1, 0, (void *)&z, zn);
  cm("all", s, 0); v = 9; say("hop", sendc(c, (void *)&z, zn, 41, IPV6_HOPLIMIT, &v, 4));
  cm("hop", s, 0); v = 300; say("hop big", sendc(c, (void *)&z, zn, 41, IPV6_HOPLIMIT, &v, 4));
  v = 33; say("tclass", sendc(c, (void *)&z, zn, 41, IPV6_TCLASS, &v, 4));
  cm("tclass", s, 0); struct in6_pktinfo p6 = {.ipi6_ifindex = 1, .ipi6_addr = in6addr_loopback};
  say("pktinfo", sendc(c, (void *)&z, zn, 41, IPV6_PKTINFO, &p6, sizeof p6));
  cm("pktinfo", s, 0); p6.ipi6_ifindex = 77; say("pktinfo index", sendc(c, (void *)&z, zn, 41, IPV6_PKTINFO, &p6, sizeof p6));
  inet_pton(10, "2001:db8::1", &p6.ipi6_addr); p6.ipi6_ifindex = 0;
  say("pktinfo foreign", sendc(c, (void *)&z, zn, 41, IPV6_PKTINFO, &p6, sizeof p6));
  say("unknown", sendc(c, (void *)&z, zn, 41, 99, &p6, 4)); v = 1;
  say("dontfrag", sendc(c, (void *)&z, zn, 41, IPV6_DONTFRAG, &v, 4));
  v = 8; say("ttl4 on six", sendc(c, (void *)&z, zn, 0, IP_TTL, &v, 4));
  struct sockaddr_in6 z0 = z; z0.sin6_addr = in6addr_any; say("any", sendto(c, "a", 1, 0, (void *)&z0, zn));
  z0.sin6_scope_id = 5; inet_pton(10, "fe80::1", &z0.sin6_addr);
  say("link local", sendto(c, "a", 1, 0, (void *)&z0, zn)); inet_pton(10, "2001:db8::1", &z0.sin6_addr);
  close(s); close(c);
  puts("# queue of errors");
  s = socket(2, 2, 0); set(s, 0, IP_RECVERR, 1); y = x; sendto(s, "gone", 4, 0, (void *)&y, n);
  usleep(1000); printf("poll %x\n", ev(s, 0)); cm("queue", s, MSG_ERRQUEUE);
  cm("queue", s, MSG_ERRQUEUE); sendto(s, "gone", 4, 0, (void *)&y, n);
  usleep(1000); say("send tells", sendto(s, "x", 1, 0, (void *)&y, n));
  printf("poll %x\n", ev(s, 0)); close(s);
  return 0;
}
