/* Beginnings and ends of connections: refusals, halves, resets, backlogs, TIME_WAIT, connections to oneself. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
static void say(const char *w, long r) { if (r < 0) printf("%s: %s\n", w, strerrorname_np(errno)); else printf("%s: %ld\n", w, r); }
static int set(int s, int l, int o, int v) { return setsockopt(s, l, o, &v, sizeof v); }
static int get(int s, int l, int o) { int v = -9; socklen_t n = sizeof v; if (getsockopt(s, l, o, &v, &n)) return -errno; return v; }
static int ev(int s, int ms) { struct pollfd p = {s, POLLIN|POLLOUT|POLLPRI|POLLRDHUP, 0}; poll(&p, 1, ms); return p.revents; }
static int waitfor(int s, int e, int ms) { struct pollfd p = {s, e, 0}; poll(&p, 1, ms); return p.revents; }
static int st(int s) { struct tcp_info i; socklen_t n = sizeof i; if (getsockopt(s, 6, TCP_INFO, &i, &n)) return -errno; return i.tcpi_state; }
static struct sockaddr_in at(int s) { struct sockaddr_in x; socklen_t n = sizeof x; getsockname(s, (void *)&x, &n); return x; }
static int lis(int back) { struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; int l = socket(2, 1, 0); bind(l, (void *)&x, sizeof x); if (back >= 0) listen(l, back); return l; }
static void pair(int *c, int *a, int *l) { *l = lis(5); struct sockaddr_in x = at(*l); *c = socket(2, 1, 0); connect(*c, (void *)&x, sizeof x); *a = accept(*l, 0, 0); }
static long ms(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000 + t.tv_nsec / 1000000; }
static char buf[1 << 20];
int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  signal(SIGPIPE, SIG_IGN);
  int c, a, l;
  struct sockaddr_in x;
  socklen_t nl;
  long t0;
  puts("# non-blocking connect");
  c = socket(2, SOCK_STREAM | SOCK_NONBLOCK, 0); l = lis(5); x = at(l);
  say("connect", connect(c, (void *)&x, sizeof x)); printf("poll %x err %d\n", ev(c, 1000), get(c, 1, SO_ERROR));
  say("again", connect(c, (void *)&x, sizeof x)); say("third", connect(c, (void *)&x, sizeof x));
  close(c);
  int unb = lis(-1); struct sockaddr_in y = at(unb); c = socket(2, SOCK_STREAM | SOCK_NONBLOCK, 0);
  say("refused nb", connect(c, (void *)&y, sizeof y)); printf("poll %x", ev(c, 1000));
  printf(" err %d", get(c, 1, SO_ERROR)); printf(" err %d poll %x\n", get(c, 1, SO_ERROR), ev(c, 0));
  say("again", connect(c, (void *)&x, sizeof x)); printf("poll %x\n", ev(c, 500));
  say("send", send(c, "a", 1, 0)); close(c);
  c = socket(2, SOCK_STREAM, 0); say("refused", connect(c, (void *)&y, sizeof y));
  printf("err %d poll %x\n", get(c, 1, SO_ERROR), ev(c, 0)); say("send", send(c, "a", 1, 0));
  say("recv", recv(c, buf, 1, 0)); say("then", connect(c, (void *)&x, sizeof x));
  say("send", send(c, "a", 1, 0)); close(c); close(unb); close(l);
  puts("# unconnected");
  c = socket(2, 1, 0); printf("poll %x\n", ev(c, 0)); say("send", send(c, "a", 1, 0));
  say("recv", recv(c, buf, 1, 0)); say("shut", shutdown(c, SHUT_RD));
  say("peer", getpeername(c, (void *)&x, &(socklen_t){sizeof x}));
  say("accept", accept(c, 0, 0)); say("listen", listen(c, 1));
  printf("poll %x state %d\n", ev(c, 0), st(c)); say("connect listening", connect(c, (void *)&x, sizeof x));
  say("send", send(c, "a", 1, 0)); say("recv", recv(c, buf, 1, 0));
  say("shut wr", shutdown(c, SHUT_WR)); printf("state %d\n", st(c));
  say("shut rd", shutdown(c, SHUT_RD)); printf("state %d poll %x\n", st(c), ev(c, 0));
  say("listen", listen(c, 1)); close(c);
  puts("# halves");
  pair(&c, &a, &l); say("rd", shutdown(a, SHUT_RD)); printf("poll a %x c %x\n", ev(a, 0), ev(c, 0));
  say("recv", recv(a, buf, 1, 0)); say("send to it", send(c, "hello", 5, 0));
  usleep(1000); printf("poll a %x\n", ev(a, 0)); say("recv", recv(a, buf, 10, MSG_DONTWAIT));
  say("recv", recv(a, buf, 10, MSG_DONTWAIT)); say("wr", shutdown(a, SHUT_WR));
  usleep(1000); printf("poll %x %x\n", ev(a, 0), ev(c, 0)); say("send after", send(a, "a", 1, 0));
  say("recv c", recv(c, buf, 1, 0)); say("send c", send(c, "x", 1, 0));
  say("wr", shutdown(c, SHUT_WR)); usleep(1000); printf("states %d %d poll %x %x\n", st(a), st(c), ev(a, 0), ev(c, 0));
  say("again", shutdown(c, SHUT_WR)); say("rdwr", shutdown(a, SHUT_RDWR));
  say("bad", shutdown(a, 3)); say("peer", getpeername(a, (void *)&x, &(socklen_t){sizeof x}));
  close(a); close(c); close(l);
  puts("# close states");
  pair(&c, &a, &l); close(a); usleep(1000); printf("client %d poll %x\n", st(c), ev(c, 0));
  say("send", send(c, "a", 1, 0)); usleep(1000); printf("client %d poll %x\n", st(c), ev(c, 0));
  say("send", send(c, "a", 1, 0)); say("recv", recv(c, buf, 1, 0));
  printf("err %d\n", get(c, 1, SO_ERROR)); close(c); close(l);
  pair(&c, &a, &l); send(c, "unread", 6, 0); usleep(1000); close(a);
  usleep(1000); printf("reset: client %d poll %x err %d\n", st(c), ev(c, 0), get(c, 1, SO_ERROR));
  say("recv", recv(c, buf, 1, 0)); say("send", send(c, "a", 1, 0));
  close(c); close(l);
  pair(&c, &a, &l); send(a, "data", 4, 0); struct linger lg = {1, 0};
  setsockopt(a, 1, SO_LINGER, &lg, sizeof lg); close(a); usleep(1000);
  printf("linger0: poll %x\n", ev(c, 0)); say("recv", recv(c, buf, 10, 0));
  say("recv", recv(c, buf, 10, 0)); say("send", send(c, "a", 1, 0));
  close(c); close(l);
  pair(&c, &a, &l); say("disconnect", connect(c, &(struct sockaddr){AF_UNSPEC}, sizeof(struct sockaddr)));
  usleep(1000); printf("c %d a %d poll a %x err %d\n", st(c), st(a), ev(a, 0), get(a, 1, SO_ERROR));
  x = at(l); say("reconnect", connect(c, (void *)&x, sizeof x));
  close(c); close(a); close(l);
  puts("# backlog");
  l = lis(1); x = at(l); int cs[6]; for (int i = 0; i < 4; i++) { cs[i] = socket(2, SOCK_STREAM | SOCK_NONBLOCK, 0);
  connect(cs[i], (void *)&x, sizeof x); } usleep(50000); for (int i = 0; i < 4; i++) printf("%d:%x ", i, ev(cs[i], 0));
  puts(""); for (int i = 0; i < 2; i++) { a = accept(l, 0, 0);
  close(a); } waitfor(cs[2], POLLOUT, 4000); usleep(100000); for (int i = 0; i < 4; i++) printf("%d:%x ", i, ev(cs[i], 0));
  puts(""); for (int i = 0; i < 4; i++) close(cs[i]); close(l);
  l = lis(3); x = at(l); c = socket(2, 1, 0); connect(c, (void *)&x, sizeof x);
  struct tcp_info ti; socklen_t tn = sizeof ti; getsockopt(l, 6, TCP_INFO, &ti, &tn);
  printf("unacked %d sacked %d\n", ti.tcpi_unacked, ti.tcpi_sacked);
  close(l); usleep(1000); printf("listener gone: %x %d\n", ev(c, 0), get(c, 1, SO_ERROR));
  close(c);
  puts("# rebind and time wait");
  pair(&c, &a, &l); x = at(l); close(a); close(c); close(l); l = socket(2, 1, 0);
  say("rebind", bind(l, (void *)&x, sizeof x)); set(l, 1, SO_REUSEADDR, 1);
  say("reuse", bind(l, (void *)&x, sizeof x)); say("listen", listen(l, 1));
  close(l);
  { int l1 = lis(1); struct sockaddr_in z = at(l1); int c1 = socket(2, 1, 0);
  set(c1, 1, SO_REUSEADDR, 1); connect(c1, (void *)&z, sizeof z);
  int a1 = accept(l1, 0, 0); struct sockaddr_in me = at(c1); close(c1);
  close(a1); c1 = socket(2, 1, 0); say("bind to time wait", bind(c1, (void *)&me, sizeof me));
  close(c1); c1 = socket(2, 1, 0); set(c1, 1, SO_REUSEADDR, 1);
  say("with reuse", bind(c1, (void *)&me, sizeof me)); say("same quad", connect(c1, (void *)&z, sizeof z));
  close(c1); close(l1); }
  puts("# self connect");
  c = lis(-1); x = at(c); say("self", connect(c, (void *)&x, sizeof x));
  printf("state %d poll %x\n", st(c), ev(c, 0)); say("send", send(c, "echo", 4, 0));
  usleep(1000); say("recv", recv(c, buf, 10, MSG_DONTWAIT)); shutdown(c, SHUT_WR);
  usleep(1000); printf("state %d poll %x\n", st(c), ev(c, 0));
  say("recv", recv(c, buf, 10, MSG_DONTWAIT)); close(c);
  puts("# simultaneous");
  { int p = lis(-1), r = lis(-1); struct sockaddr_in px = at(p), rx = at(r);
  fcntl(p, F_SETFL, O_NONBLOCK); fcntl(r, F_SETFL, O_NONBLOCK);
  say("p", connect(p, (void *)&rx, sizeof rx)); printf("p %x %d\n", ev(p, 100), get(p, 1, SO_ERROR));
  say("r", connect(r, (void *)&px, sizeof px)); printf("r %x %d\n", ev(r, 100), get(r, 1, SO_ERROR));
  close(p); close(r); }
  puts("# errors of sends");
  pair(&c, &a, &l); say("zero", send(c, "", 0, 0)); say("to", sendto(c, "a", 1, 0, (void *)&x, sizeof x));
  say("to bad", sendto(c, "a", 1, 0, (void *)&x, 3)); usleep(1000);
  say("recv", recv(a, buf, 100, MSG_DONTWAIT)); say("fault", send(c, (void *)8, 10, 0));
  struct iovec v[2] = {{"ab", 2}, {(void *)8, 10}}; say("half fault", writev(c, v, 2));
  say("errqueue", recv(c, buf, 1, MSG_ERRQUEUE)); say("oob none", recv(c, buf, 1, MSG_OOB));
  say("recv fault", recv(a, (void *)8, 2, MSG_DONTWAIT));
  struct sockaddr_in nm; nl = sizeof nm; nm.sin_port = 7;
  say("recvfrom", recvfrom(a, buf, 1, MSG_DONTWAIT, (void *)&nm, &nl));
  printf("name len %d\n", nl); close(c); close(a); close(l);
  return 0;
}
