/* Multicast on the loopback interface: members and others, sources that are wanted and blocked, filters as a whole. */
#include "sockets.h"
static int one(int s, int option, const char *group, const char *source) {
  struct ip_mreq_source m = {.imr_multiaddr.s_addr = inet_addr(group), .imr_interface.s_addr = htonl(INADDR_LOOPBACK), .imr_sourceaddr.s_addr = inet_addr(source)};
  return setsockopt(s, IPPROTO_IP, option, &m, sizeof m);
}
static int member(int s, int option, const char *group) {
  struct ip_mreqn m = {.imr_multiaddr.s_addr = inet_addr(group), .imr_ifindex = 1};
  return setsockopt(s, IPPROTO_IP, option, &m, sizeof m);
}
static int any(int s, int level, int option, int family, const char *group, const char *source) {
  struct group_source_req r = {.gsr_interface = 1};
  r.gsr_group.ss_family = r.gsr_source.ss_family = family;
  void *g = family == AF_INET ? (void *)&((struct sockaddr_in *)&r.gsr_group)->sin_addr : (void *)&((struct sockaddr_in6 *)&r.gsr_group)->sin6_addr;
  void *a = family == AF_INET ? (void *)&((struct sockaddr_in *)&r.gsr_source)->sin_addr : (void *)&((struct sockaddr_in6 *)&r.gsr_source)->sin6_addr;
  inet_pton(family, group, g);
  if (source) inet_pton(family, source, a);
  return setsockopt(s, level, option, &r, source ? sizeof r : sizeof(struct group_req));
}
static int port;
static int receiver(void) {
  struct sockaddr_in x = {.sin_family = AF_INET, .sin_port = port};
  socklen_t n = sizeof x;
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &(int){1}, 4);
  say("bind", bind(s, (void *)&x, n));
  getsockname(s, (void *)&x, &n);
  port = x.sin_port;
  return s;
}
static int sender(const char *from) {
  struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(from)};
  struct ip_mreqn m = {.imr_ifindex = 1};
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  bind(s, (void *)&x, sizeof x);
  setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &m, sizeof m);
  return s;
}
static void to(int s, const char *group) {
  struct sockaddr_in x = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = inet_addr(group)};
  if (sendto(s, "x", 1, 0, (void *)&x, sizeof x) != 1) say("send", -1);
}
static int came(int s) {
  struct pollfd p = {s, POLLIN, 0};
  char c;
  int n = 0;
  while (poll(&p, 1, 30) == 1 && recv(s, &c, 1, 0) == 1) n++;
  return n;
}
static void filter(const char *what, int s, const char *group) {
  char b[64] = {0};
  struct ip_msfilter *f = (void *)b;
  f->imsf_multiaddr.s_addr = inet_addr(group);
  f->imsf_interface.s_addr = htonl(INADDR_LOOPBACK);
  f->imsf_numsrc = 2;
  socklen_t n = sizeof b;
  if (getsockopt(s, IPPROTO_IP, IP_MSFILTER, b, &n)) { say(what, -1); return; }
  printf("%s: mode %d sources %d length %d", what, f->imsf_fmode, f->imsf_numsrc, (int)n);
  if (f->imsf_numsrc) printf(" %s", inet_ntoa(f->imsf_slist[0]));
  puts("");
}
int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  const char *g = "239.1.2.3", *h = "239.1.2.4", *a1 = "127.0.0.1", *a2 = "127.0.0.2";
  int a = receiver(), b = receiver(), one1 = sender(a1), two = sender(a2);
  to(one1, g);
  printf("nobody a member: %d %d\n", came(a), came(b));
  say("join", member(a, IP_ADD_MEMBERSHIP, g));
  to(one1, g);
  printf("one is: %d %d\n", came(a), came(b));
  setsockopt(b, IPPROTO_IP, IP_MULTICAST_ALL, &(int){0}, 4);
  to(one1, g);
  to(one1, h);
  printf("the other wants its own only: %d %d\n", came(a), came(b));
  filter("as joined", a, g);
  filter("no member", b, g);
  say("block", one(a, IP_BLOCK_SOURCE, g, a2));
  say("block twice", one(a, IP_BLOCK_SOURCE, g, a2));
  say("want among blocked", one(a, IP_ADD_SOURCE_MEMBERSHIP, g, a1));
  to(one1, g);
  to(two, g);
  to(two, g);
  printf("blocked: %d\n", came(a));
  filter("blocked", a, g);
  say("unblock other", one(a, IP_UNBLOCK_SOURCE, g, a1));
  say("unblock", one(a, IP_UNBLOCK_SOURCE, g, a2));
  to(two, g);
  printf("unblocked: %d\n", came(a));
  say("block no member", one(b, IP_BLOCK_SOURCE, g, a2));
  say("drop no member", one(b, IP_DROP_SOURCE_MEMBERSHIP, g, a2));
  say("want", one(b, IP_ADD_SOURCE_MEMBERSHIP, g, a2));
  say("want twice", one(b, IP_ADD_SOURCE_MEMBERSHIP, g, a2));
  to(one1, g);
  to(one1, g);
  to(two, g);
  printf("wanted: %d %d\n", came(a), came(b));
  filter("wanted", b, g);
  say("drop other", one(b, IP_DROP_SOURCE_MEMBERSHIP, g, a1));
  say("drop", one(b, IP_DROP_SOURCE_MEMBERSHIP, g, a2));
  filter("dropped", b, g);
  say("leave", member(b, IP_DROP_MEMBERSHIP, g));
  say("no group", one(b, IP_ADD_SOURCE_MEMBERSHIP, a1, a2));
  say("short", setsockopt(b, IPPROTO_IP, IP_BLOCK_SOURCE, "12345678", 8));
  for (int i = 1; i < 13; i++) {
    char source[20];
    snprintf(source, sizeof source, "10.0.0.%d", i);
    if (one(b, IP_ADD_SOURCE_MEMBERSHIP, h, source)) { printf("source %d: %s\n", i, strerrorname_np(errno)); break; }
  }
  char fb[64] = {0};
  struct ip_msfilter *f = (void *)fb;
  f->imsf_multiaddr.s_addr = inet_addr(h);
  f->imsf_interface.s_addr = htonl(INADDR_LOOPBACK);
  f->imsf_fmode = MCAST_EXCLUDE;
  f->imsf_numsrc = 1;
  f->imsf_slist[0].s_addr = inet_addr(a1);
  say("set filter", setsockopt(b, IPPROTO_IP, IP_MSFILTER, f, IP_MSFILTER_SIZE(1)));
  filter("set", b, h);
  to(one1, h);
  to(two, h);
  printf("by filter: %d\n", came(b));
  say("too short", setsockopt(b, IPPROTO_IP, IP_MSFILTER, f, IP_MSFILTER_SIZE(0)));
  f->imsf_fmode = 7;
  say("no mode", setsockopt(b, IPPROTO_IP, IP_MSFILTER, f, IP_MSFILTER_SIZE(1)));
  f->imsf_fmode = MCAST_INCLUDE;
  f->imsf_numsrc = 0;
  say("nothing", setsockopt(b, IPPROTO_IP, IP_MSFILTER, f, IP_MSFILTER_SIZE(0)));
  filter("left by it", b, h);
  say("any join", any(b, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, AF_INET, g, a2));
  say("any block", any(b, IPPROTO_IP, MCAST_BLOCK_SOURCE, AF_INET, g, a1));
  say("any leave source", any(b, IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, AF_INET, g, a2));
  say("any plain", any(b, IPPROTO_IP, MCAST_JOIN_GROUP, AF_INET, g, 0));
  say("any block", any(b, IPPROTO_IP, MCAST_BLOCK_SOURCE, AF_INET, g, a1));
  to(one1, g);
  to(two, g);
  printf("by any: %d\n", came(b));
  say("any leave", any(b, IPPROTO_IP, MCAST_LEAVE_GROUP, AF_INET, g, 0));
  say("wrong family", any(b, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, AF_INET6, "ff02::5", "::1"));
  close(a);
  close(b);
  /* Version 6. */
  struct sockaddr_in6 x = {.sin6_family = AF_INET6};
  socklen_t n = sizeof x;
  a = socket(AF_INET6, SOCK_DGRAM, 0);
  b = socket(AF_INET6, SOCK_DGRAM, 0);
  x.sin6_addr = in6addr_loopback;
  bind(b, (void *)&x, n);
  x.sin6_addr = in6addr_any;
  bind(a, (void *)&x, n);
  getsockname(a, (void *)&x, &n);
  say("interface", setsockopt(b, IPPROTO_IPV6, IPV6_MULTICAST_IF, &(int){1}, 4));
  inet_pton(AF_INET6, "ff05::1234", &x.sin6_addr);
  say("six source", any(a, IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP, AF_INET6, "ff05::1234", "::2"));
  sendto(b, "x", 1, 0, (void *)&x, n);
  printf("not wanted: %d\n", came(a));
  say("six source", any(a, IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP, AF_INET6, "ff05::1234", "::1"));
  sendto(b, "x", 1, 0, (void *)&x, n);
  printf("wanted: %d\n", came(a));
  say("six leave", any(a, IPPROTO_IPV6, MCAST_LEAVE_SOURCE_GROUP, AF_INET6, "ff05::1234", "::7"));
  say("six no group", any(a, IPPROTO_IPV6, MCAST_JOIN_GROUP, AF_INET6, "::1", 0));
  say("six family", any(a, IPPROTO_IPV6, MCAST_JOIN_GROUP, AF_INET, g, 0));
  return 0;
}
