/* Every option of the levels of sockets, by kind and state of the socket: read with room of several sizes, set to values of
   several sizes. Left out is what depends on the host's modules and settings, and what is listed as missing. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
static int fds[8], nf;
static int keep(int s) { fds[nf++] = s; return s; }
static void drop(void) { while (nf) close(fds[--nf]); }
static socklen_t addr(int fam, struct sockaddr_storage *st) {
  memset(st, 0, sizeof *st);
  st->ss_family = fam;
  if (fam == AF_INET) { ((struct sockaddr_in *)st)->sin_addr.s_addr = htonl(INADDR_LOOPBACK); return sizeof(struct sockaddr_in); }
  ((struct sockaddr_in6 *)st)->sin6_addr = in6addr_loopback;
  return sizeof(struct sockaddr_in6);
}
enum { NEW, LISTENS, CONNECTED, ACCEPTED, BOUND, TO_PORT, PAIR, LOCAL_LISTENS };
static struct kind { const char *name; int fam, type, proto, state; } kinds[] = {
  {"tcp4", AF_INET, SOCK_STREAM, 0, NEW}, {"tcp6", AF_INET6, SOCK_STREAM, 0, NEW},
  {"tcp4 listens", AF_INET, SOCK_STREAM, 0, LISTENS}, {"tcp6 listens", AF_INET6, SOCK_STREAM, 0, LISTENS},
  {"tcp4 connected", AF_INET, SOCK_STREAM, 0, CONNECTED}, {"tcp6 connected", AF_INET6, SOCK_STREAM, 0, CONNECTED},
  {"tcp4 accepted", AF_INET, SOCK_STREAM, 0, ACCEPTED}, {"tcp6 accepted", AF_INET6, SOCK_STREAM, 0, ACCEPTED},
  {"udp4", AF_INET, SOCK_DGRAM, 0, NEW}, {"udp6", AF_INET6, SOCK_DGRAM, 0, NEW},
  {"udp6 bound", AF_INET6, SOCK_DGRAM, 0, BOUND},
  {"udp4 connected", AF_INET, SOCK_DGRAM, 0, TO_PORT}, {"udp6 connected", AF_INET6, SOCK_DGRAM, 0, TO_PORT},
  {"stream", AF_UNIX, SOCK_STREAM, 0, NEW}, {"datagrams", AF_UNIX, SOCK_DGRAM, 0, NEW},
  {"packets", AF_UNIX, SOCK_SEQPACKET, 0, PAIR}, {"stream listens", AF_UNIX, SOCK_STREAM, 0, LOCAL_LISTENS},
  {"netlink", AF_NETLINK, SOCK_RAW, 0, NEW}, {"raw4", AF_INET, SOCK_RAW, 1, NEW}, {"raw6", AF_INET6, SOCK_RAW, 58, NEW},
};
static int make(struct kind *k) {
  struct sockaddr_storage st;
  if (k->state == PAIR) { int p[2]; if (socketpair(k->fam, k->type, 0, p)) return -1; keep(p[1]); return keep(p[0]); }
  int s = socket(k->fam, k->type, k->proto);
  if (s < 0) return s;
  keep(s);
  if (k->state == LOCAL_LISTENS) { struct sockaddr_un u = {.sun_family = AF_UNIX}; bind(s, (void *)&u, 2); listen(s, 5); return s; }
  if (k->state == NEW) return s;
  socklen_t n = addr(k->fam, &st);
  if (k->state == TO_PORT) { ((struct sockaddr_in *)&st)->sin_port = htons(9); connect(s, (void *)&st, n); return s; }
  bind(s, (void *)&st, n);
  if (k->state == BOUND) return s;
  listen(s, 5);
  if (k->state == LISTENS) return s;
  getsockname(s, (void *)&st, &n);
  int c = keep(socket(k->fam, k->type, 0));
  connect(c, (void *)&st, n);
  int a = keep(accept(s, 0, 0));
  return k->state == CONNECTED ? c : a;
}
static int has(const int *list, int o) { while (*list >= 0) if (*list++ == o) return 1; return 0; }
static int left_out(struct kind *k, int level, int o) {
  /* Filters (some hosts ask for a privilege), cookies, processes and groups, the CPU, time stamps of what leaves, pairs of SO_LINGER that wait in close. */
  static const int sock[] = {13, 17, 26, 28, 37, 49, 51, 55, 56, 57, 59, 65, 71, 77, -1};
  /* Headers' options, routers' alerts, IPsec, other interfaces and routes, netfilter, multicast routing, ports. */
  static const int ip[] = {4, 5, 16, 17, 32, 35, 36, 41, 42, 45, 48, 50, 52, -1};
  static const int ip6[] = {1, 6, 17, 20, 21, 22, 27, 28, 32, 34, 35, 41, 42, 45, 48, 54, 55, 57, 59, 64, 65, 68, 69, 76, 80, -1};
  /* The algorithm by default, keys and signatures, repair, zero copies. */
  static const int tcp[] = {11, 13, 14, 19, 20, 21, 22, 24, 26, 28, 29, 32, 33, 35, 38, 39, 40, 41, 42, -1};
  if (level == IPPROTO_IP && o >= 60) return 1;
  if (level == IPPROTO_IPV6 && o >= 79) return 1;
  if (level == SOL_SOCKET && (o == 7 || o == 8) && k->state > LISTENS) return 1;
  return has(level == SOL_SOCKET ? sock : level == IPPROTO_IP ? ip : level == IPPROTO_IPV6 ? ip6 : level == IPPROTO_TCP ? tcp : level == IPPROTO_UDP ? (const int[]){100, -1} : (const int[]){-1}, o);
}
static void get(int s, int level, int o, unsigned room) {
  unsigned char b[64];
  memset(b, 0xee, sizeof b);
  socklen_t l = room;
  if (getsockopt(s, level, o, b, &l)) { printf(" %s", strerrorname_np(errno)); return; }
  printf(" %d=", (int)l);
  for (unsigned i = 0; i < l && i < 16; i++) printf("%02x", b[i]);
}
static void set(int s, int level, int o, const void *v, unsigned len) {
  if (setsockopt(s, level, o, v, len)) { printf(" %s", strerrorname_np(errno)); return; }
  int back = -99;
  socklen_t l = sizeof back;
  if (getsockopt(s, level, o, &back, &l)) printf(" ok"); else printf(" =%d", back);
}
int main(void) {
  static char out[1 << 16];
  setvbuf(stdout, out, _IOFBF, sizeof out);
  int levels[] = {SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, 270, 255, 999};
  int values[] = {-2147483647 - 1, -2, -1, 0, 1, 2, 3, 4, 8, 64, 88, 100, 255, 256, 1279, 1280, 4096, 32768, 65535, 65536, 1 << 24, 2147483647};
  unsigned rooms[] = {0, 1, 2, 3, 4, 5, 8, 12, 16, 20, 32, -1};
  unsigned lengths[] = {0, 1, 2, 3, 5, 8, 12, 16, 20, 136, 144, 264, -1};
  char big[264] = {1};
  for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++)
    for (unsigned i = 0; i < sizeof levels / sizeof *levels; i++)
      for (int o = 0; o < 110; o++) {
        int level = levels[i];
        if (level > 17 && level != IPPROTO_IPV6 && o > 12) break;
        if (left_out(&kinds[k], level, o)) continue;
        int s = make(&kinds[k]);
        if (s < 0) { printf("%s: %s\n", kinds[k].name, strerrorname_np(errno)); goto next; }
        printf("%s %d/%d:", kinds[k].name, level, o);
        for (unsigned j = 0; j < sizeof rooms / sizeof *rooms; j++) get(s, level, o, rooms[j]);
        if (getsockopt(s, level, o, (void *)8, &(socklen_t){4})) printf(" bad %s", strerrorname_np(errno));
        printf(" set");
        for (unsigned j = 0; j < sizeof values / sizeof *values; j++) set(s, level, o, &values[j], 4);
        drop();
        s = make(&kinds[k]);
        printf(" by length");
        for (unsigned j = 0; j < sizeof lengths / sizeof *lengths; j++) set(s, level, o, big, lengths[j]);
        printf(" bad");
        set(s, level, o, (void *)8, 4);
        set(s, level, o, (void *)8, 1);
        set(s, level, o, 0, 0);
        set(s, level, o, 0, 4);
        puts("");
        drop();
      }
next:
  return 0;
}
