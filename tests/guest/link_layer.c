/* Sockets of the link layer on the loopback interface: what they see and send, their addresses and options. */
#include "sockets.h"
#include <linux/if_packet.h>
#include <linux/if_ether.h>
#include <linux/filter.h>
static void name(const char *w, int s) { struct sockaddr_ll l; memset(&l, 0xee, sizeof l); socklen_t n = sizeof l; int r = getsockname(s, (void *)&l, &n); printf("%s: %d len %d proto %04x index %d hatype %d type %d halen %d\n", w, r, n, ntohs(l.sll_protocol), l.sll_ifindex, l.sll_hatype, l.sll_pkttype, l.sll_halen); }
static unsigned short port;
static void show(const char *w, int s, int flags, int room) {
  unsigned char b[2048]; struct sockaddr_ll l; memset(&l, 0xee, sizeof l); char c[256]; struct iovec v = {b, room}; struct msghdr m = {&l, sizeof l, &v, 1, c, sizeof c, 0};
  struct pollfd p = {s, POLLIN, 0};
  for (int i = 0; i < 8; i++) {
    if (!poll(&p, 1, 50)) break;
    m.msg_namelen = sizeof l; m.msg_controllen = sizeof c;
    ssize_t n = recvmsg(s, &m, flags | MSG_DONTWAIT);
    if (n < 0) { say(w, n); break; }
    int raw; socklen_t k = 4; getsockopt(s, SOL_SOCKET, SO_TYPE, &raw, &k); int off = raw == SOCK_RAW ? 14 : 0;
    unsigned char *ip = b + off;
    if (room > 60 && ntohs(l.sll_protocol) == ETH_P_IP && ip[9] == 17 && ntohs(*(unsigned short *)(ip + 22)) != port && ntohs(*(unsigned short *)(ip+20)) != port) { i--; continue; }
    printf("%s: %zd flags %x name %d proto %04x index %d hatype %d type %d halen %d", w, n, m.msg_flags, m.msg_namelen, ntohs(l.sll_protocol), l.sll_ifindex, l.sll_hatype, l.sll_pkttype, l.sll_halen);
    if (room > 60) { if (off) { printf(" eth"); for (int j = 0; j < 14; j++) printf("%02x", b[j]); } printf(" v%d proto %d ttl %d data %.5s", ip[0] >> 4, ip[9], ip[8], ip + 28); }
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) { printf(" [%d/%d/%zu", h->cmsg_level, h->cmsg_type, h->cmsg_len); if (h->cmsg_level == SOL_PACKET && h->cmsg_type == PACKET_AUXDATA) { struct tpacket_auxdata *x = (void *)CMSG_DATA(h); printf(" len %d snap %d mac %d net %d", x->tp_len, x->tp_snaplen, x->tp_mac, x->tp_net); } printf("]"); }
    puts("");
    if (flags & MSG_PEEK) break;
  }
}
int main(void) {
  own_network();
  setvbuf(stdout, 0, _IONBF, 0);
  struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; socklen_t n = sizeof x;
  int u = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
  bind(u, (void *)&x, n); getsockname(u, (void *)&x, &n); port = ntohs(x.sin_port);
  for (int t = 0; t < 8; t++) { int s = socket(AF_PACKET, t, 0);
  printf("type %d ", t); say("", s < 0 ? -1 : 0); if (s >= 0) close(s);
  }
  int s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), ip = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)), none = socket(AF_PACKET, SOCK_RAW, 0);
  if (s < 0) { say("packet", -1); return 0; }
  int v; socklen_t k = 4; getsockopt(s, SOL_SOCKET, SO_PROTOCOL, &v, &k);
  printf("protocol %x\n", v); getsockopt(s, SOL_SOCKET, SO_DOMAIN, &v, &k);
  printf("domain %d\n", v);
  name("fresh", s); name("none", none);
  struct sockaddr_ll l = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = 1};
  say("bind short", bind(s, (void *)&l, 10)); l.sll_family = AF_INET;
  say("bind family", bind(s, (void *)&l, sizeof l)); l.sll_family = AF_PACKET;
  l.sll_ifindex = 9999; say("bind none", bind(s, (void *)&l, sizeof l));
  l.sll_ifindex = 1; say("bind", bind(s, (void *)&l, sizeof l));
  name("bound", s);
  { struct sockaddr_ll q = l; q.sll_protocol = htons(ETH_P_IP);
  say("bind ip", bind(ip, (void *)&q, sizeof q)); name("ip", ip);
  }
  say("peer", getpeername(s, (void *)&l, &(socklen_t){sizeof l}));
  say("connect", connect(s, (void *)&l, sizeof l)); say("listen", listen(s, 1));
  say("accept", accept(s, 0, 0)); say("shutdown", shutdown(s, 2));
  show("quiet", none, 0, 100);
  sendto(c, "hello", 5, 0, (void *)&x, n); show("all", s, 0, 2000);
  show("ip", ip, 0, 2000); show("none", none, 0, 2000); char b[64];
  say("udp", recv(u, b, 64, MSG_DONTWAIT));
  say("aux", set(s, SOL_PACKET, PACKET_AUXDATA, 1)); printf("aux %d\n", get(s, SOL_PACKET, PACKET_AUXDATA));
  sendto(c, "hello", 5, 0, (void *)&x, n); show("all", s, 0, 2000);
  show("ip trunc", ip, MSG_TRUNC, 10); recv(u, b, 64, 0); set(s, SOL_PACKET, PACKET_AUXDATA, 0);
  say("ignore", set(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)); say("ignore 2", set(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, 2));
  printf("%d\n", get(s, SOL_PACKET, PACKET_IGNORE_OUTGOING)); sendto(c, "hello", 5, 0, (void *)&x, n);
  show("incoming only", s, 0, 2000); show("ip", ip, 0, 2000); recv(u, b, 64, 0);
  set(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, 0);
  say("origdev", set(s, SOL_PACKET, PACKET_ORIGDEV, 1)); printf("%d\n", get(s, SOL_PACKET, PACKET_ORIGDEV)); set(s, SOL_PACKET, PACKET_ORIGDEV, 0);
  /* sends */
  unsigned char f[14 + 28 + 5] = {0}; f[12] = 8; unsigned char *h = f + 14;
  h[0] = 0x45; h[3] = 33; h[8] = 77; h[9] = 17; h[12] = 127; h[15] = 1;
  h[16] = 127; h[19] = 1; unsigned sum = 0; for (int i = 0; i < 20; i += 2) sum += h[i] << 8 | h[i + 1];
  sum = (sum & 0xffff) + (sum >> 16); sum = ~((sum & 0xffff) + (sum >> 16));
  h[10] = sum >> 8; h[11] = sum; *(unsigned short *)(h + 20) = htons(7);
  *(unsigned short *)(h + 22) = htons(port); h[25] = 13; memcpy(h + 28, "frame", 5);
  say("send none", send(none, f, sizeof f, 0)); say("sendto", sendto(none, f, sizeof f, 0, (void *)&l, sizeof l));
  show("all", s, 0, 2000); show("ip", ip, 0, 2000); struct sockaddr_in y;
  k = sizeof y; memset(b, 0, 9); say("udp", recvfrom(u, b, 64, MSG_DONTWAIT, (void *)&y, &k));
  printf("%s from %d\n", b, ntohs(y.sin_port));
  say("send own", send(s, f, sizeof f, 0)); show("own", s, 0, 2000);
  show("ip", ip, 0, 2000); say("udp", recv(u, b, 64, MSG_DONTWAIT));
  f[0] = 2; say("other host", send(s, f, sizeof f, 0)); show("other", s, 0, 2000);
  show("ip", ip, 0, 2000); say("udp", recv(u, b, 64, MSG_DONTWAIT));
  f[0] = 0xff; memset(f, 0xff, 6); send(s, f, sizeof f, 0); show("broadcast", s, 0, 2000);
  show("ip", ip, 0, 2000); say("udp", recv(u, b, 64, MSG_DONTWAIT));
  memset(f, 0, 6);
  say("short", send(s, f, 10, 0)); say("empty", send(s, f, 0, 0));
  say("header", send(s, f, 14, 0)); static char large[70000]; say("large", send(s, large, 66000, 0));
  l.sll_ifindex = 0; say("index 0", sendto(s, f, sizeof f, 0, (void *)&l, sizeof l));
  l.sll_ifindex = 1; say("short name", sendto(s, f, sizeof f, 0, (void *)&l, 8));
  l.sll_family = AF_INET; say("family", sendto(s, f, sizeof f, 0, (void *)&l, sizeof l));
  l.sll_family = AF_PACKET;
  while (recv(s, large, sizeof large, MSG_DONTWAIT) > 0); while (recv(ip, large, sizeof large, MSG_DONTWAIT) > 0);
  while (recv(u, large, sizeof large, MSG_DONTWAIT) > 0);
  { struct sockaddr_ll q = l; q.sll_protocol = htons(ETH_P_IP);
  q.sll_halen = 6; memset(q.sll_addr, 0, 8); say("cooked", sendto(ip, h, 33, 0, (void *)&q, sizeof q));
  show("all", s, 0, 2000); show("ip", ip, 0, 2000); say("udp", recv(u, b, 64, MSG_DONTWAIT));
  }
  struct tpacket_stats st; k = sizeof st; say("stats", getsockopt(ip, SOL_PACKET, PACKET_STATISTICS, &st, &k));
  printf("%d %d\n", st.tp_packets > 3, st.tp_drops); k = sizeof st;
  getsockopt(ip, SOL_PACKET, PACKET_STATISTICS, &st, &k); printf("%d %d len %d\n", st.tp_packets, st.tp_drops, k);
  struct packet_mreq mr = {.mr_ifindex = 1, .mr_type = PACKET_MR_PROMISC};
  say("drop none", setsockopt(s, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &mr, sizeof mr));
  say("add", setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mr, sizeof mr));
  say("add", setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mr, sizeof mr));
  say("drop", setsockopt(s, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &mr, sizeof mr));
  say("drop", setsockopt(s, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &mr, sizeof mr));
  say("drop", setsockopt(s, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &mr, sizeof mr));
  mr.mr_ifindex = 9999; say("no device", setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mr, sizeof mr));
  mr.mr_ifindex = 1; mr.mr_alen = 7; say("long", setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mr, sizeof mr));
  say("short", setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mr, 8));
  struct sock_filter drop[] = {{BPF_RET | BPF_K, 0, 0, 0}}, cut[] = {{BPF_RET | BPF_K, 0, 0, 20}};
  struct sock_fprog fd = {1, drop}, fc = {1, cut}; setsockopt(s, 1, SO_ATTACH_FILTER, &fd, sizeof fd);
  sendto(c, "hello", 5, 0, (void *)&x, n); show("dropped", s, 0, 50);
  setsockopt(s, 1, SO_ATTACH_FILTER, &fc, sizeof fc); sendto(c, "hello", 5, 0, (void *)&x, n);
  show("cut", s, 0, 50); set(s, SOL_PACKET, 1, 0); setsockopt(s, 1, SO_DETACH_FILTER, &v, 4);
  while (recv(ip, large, sizeof large, MSG_DONTWAIT) > 0);
  { struct pollfd p = {s, POLLIN | POLLOUT, 0}; poll(&p, 1, 0);
  printf("poll %x\n", p.revents); sendto(c, "hello", 5, 0, (void *)&x, n);
  poll(&p, 1, 100); printf("poll %x\n", p.revents); int q = -1;
  say("inq", ioctl(s, FIONREAD, &q)); printf("%d\n", q); }
  return 0;
}
