/* What keeps data of a connection back: deferred accepts, corks, low water, filters, windows; looks at data that stays, time stamps. */
#include "sockets.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <signal.h>
#include <sys/epoll.h>
static char buf[1 << 20];
int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  signal(SIGPIPE, SIG_IGN);
  int c, a, l;
  struct sockaddr_in x;
  socklen_t nl;
  long t0;
  puts("# defer accept");
  l = lis(5); set(l, 6, TCP_DEFER_ACCEPT, 3); x = at(l); c = socket(2, 1, 0);
  say("connect", connect(c, (void *)&x, sizeof x));
  printf("listener %x client %x\n", ev(l, 100), ev(c, 0)); fcntl(l, F_SETFL, O_NONBLOCK);
  say("accept", accept(l, 0, 0)); say("send", send(c, "hi", 2, 0));
  printf("listener %x\n", waitfor(l, POLLIN, 1000)); a = accept(l, 0, 0);
  say("accepted", a >= 0); say("recv", recv(a, buf, 10, 0)); printf("defer on accepted %d\n", get(a, 6, TCP_DEFER_ACCEPT));
  close(a); close(c);
  { c = socket(2, 1, 0); connect(c, (void *)&x, sizeof x); shutdown(c, SHUT_WR);
  printf("fin: %x\n", waitfor(l, POLLIN, 200)); a = accept(l, 0, 0);
  say("accepted", a >= 0); if (a>=0) { say("recv", recv(a, buf, 10, 0));
  close(a);} close(c); }
  { long t = ms(); c = socket(2, 1, 0); connect(c, (void *)&x, sizeof x);
  int e = waitfor(l, POLLIN, 8000); t = ms() - t; printf("timed: %x %s\n", e, t > 2000 && t < 7500 ? "ok" : "other");
  a = accept(l, 0, 0); say("acc", a >= 0); close(a); close(c);
  }
  { set(l, 6, TCP_DEFER_ACCEPT, 100); c = socket(2, 1, 0); connect(c, (void *)&x, sizeof x);
  close(l); printf("close with deferred: %x %s\n", ev(c, 100), strerrorname_np(get(c, 1, SO_ERROR)));
  close(c); }
  puts("# cork");
  pair(&c, &a, &l); set(c, 6, TCP_CORK, 1); send(c, "abc", 3, 0);
  printf("corked %x\n", waitfor(a, POLLIN, 60)); int q; ioctl(c, TIOCOUTQ, &q);
  printf("outq %d\n", q); send(c, "def", 3, 0); set(c, 6, TCP_CORK, 0);
  printf("uncork %x\n", waitfor(a, POLLIN, 500)); say("recv", recv(a, buf, 10, 0));
  set(c, 6, TCP_CORK, 1); send(c, "abc", 3, 0); t0 = ms(); printf("timer %x", waitfor(a, POLLIN, 1000));
  t0 = ms() - t0; printf(" %s\n", t0 >= 150 && t0 < 400 ? "200ms" : "other");
  recv(a, buf, 10, 0);
  send(c, "x", 1, 0); set(c, 6, TCP_NODELAY, 1); printf("nodelay %x\n", waitfor(a, POLLIN, 60));
  recv(a, buf, 10, MSG_DONTWAIT); set(c, 6, TCP_NODELAY, 0); set(c, 6, TCP_CORK, 0);
  send(c, "more", 4, MSG_MORE); printf("more %x\n", waitfor(a, POLLIN, 60));
  send(c, "!", 1, 0); printf("rest %x\n", waitfor(a, POLLIN, 500));
  say("recv", recv(a, buf, 10, 0));
  send(c, "more", 4, MSG_MORE); shutdown(c, SHUT_WR); printf("fin %x\n", waitfor(a, POLLIN, 100));
  say("recv", recv(a, buf, 10, 0)); say("recv", recv(a, buf, 10, 0));
  close(c); close(a); close(l);
  pair(&c, &a, &l); set(c, 6, TCP_CORK, 1); memset(buf, 1, 100000);
  say("big", send(c, buf, 100000, 0)); usleep(20000); ioctl(a, FIONREAD, &q);
  printf("big corked in full segments %d\n", q > 0 && q < 100000);
  usleep(300000); ioctl(a, FIONREAD, &q); printf("then %d\n", q);
  close(c); close(a); close(l);
  puts("# peek and waitall");
  pair(&c, &a, &l); send(c, "0123456789", 10, 0); say("trunc", recv(a, buf, 4, MSG_TRUNC));
  say("peek trunc", recv(a, buf, 3, MSG_PEEK | MSG_TRUNC)); say("null trunc", recv(a, 0, 2, MSG_TRUNC));
  say("peek all nb", recv(a, buf, 100, MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT));
  struct timeval tv = {0, 200000}; setsockopt(a, 1, SO_RCVTIMEO, &tv, sizeof tv);
  say("peek waitall", recv(a, buf, 100, MSG_PEEK | MSG_WAITALL));
  say("waitall", recv(a, buf, 100, MSG_WAITALL));
  if (!fork()) { usleep(50000); send(c, "ab", 2, 0); usleep(50000);
  send(c, "cd", 2, 0); _exit(0); } tv.tv_sec = 3; setsockopt(a, 1, SO_RCVTIMEO, &tv, sizeof tv);
  say("peek waitall grows", recv(a, buf, 4, MSG_PEEK | MSG_WAITALL));
  say("recv", recv(a, buf, 4, 0));
  close(c); close(a); close(l);
  puts("# low water");
  pair(&c, &a, &l); set(a, 1, SO_RCVLOWAT, 10); send(c, "abc", 3, 0);
  printf("poll %x\n", waitfor(a, POLLIN, 50)); say("nb", recv(a, buf, 5, MSG_DONTWAIT));
  send(c, "abc", 3, 0); if (!fork()) { usleep(100000); send(c, "defghijklm", 10, 0);
  _exit(0); } t0 = ms(); say("blocks", recv(a, buf, 100, 0)); printf("%d\n", ms() - t0 >= 80);
  send(c, "abc", 3, 0); shutdown(c, SHUT_WR); printf("fin poll %x\n", waitfor(a, POLLIN, 50));
  say("recv", recv(a, buf, 100, 0)); close(c); close(a); close(l);
  puts("# windows");
  pair(&c, &a, &l); fcntl(c, F_SETFL, O_NONBLOCK); set(a, 1, SO_RCVBUF, 4096);
  set(c, 1, SO_SNDBUF, 4096); long tot = 0, r; while ((r = send(c, buf, 100000, 0)) > 0) tot += r;
  printf("filled %d errno %s poll %x\n", tot > 4096, strerrorname_np(errno), ev(c, 0));
  ioctl(c, TIOCOUTQ, &q); printf("outq %d\n", q > 0); while (tot > 0 && (r = recv(a, buf, sizeof buf, 0)) > 0) tot -= r;
  printf("drained %ld poll %x\n", tot, waitfor(c, POLLOUT, 1000));
  close(c); close(a); close(l);
  if (geteuid() == 0) { /* Some hosts ask for a privilege. */
  puts("# filter");
  pair(&c, &a, &l); struct sock_filter drop[] = {{BPF_RET | BPF_K, 0, 0, 0}}, pass[] = {{BPF_RET | BPF_K, 0, 0, 0xffffffff}};
  struct sock_fprog fd = {1, drop}, fp = {1, pass}; say("attach", setsockopt(a, 1, SO_ATTACH_FILTER, &fp, sizeof fp));
  send(c, "one", 3, 0); printf("pass %x\n", waitfor(a, POLLIN, 100));
  recv(a, buf, 10, MSG_DONTWAIT); say("attach", setsockopt(a, 1, SO_ATTACH_FILTER, &fd, sizeof fd));
  send(c, "two", 3, 0); printf("drop %x\n", waitfor(a, POLLIN, 100));
  say("detach", set(a, 1, SO_DETACH_FILTER, 0)); printf("again %x\n", waitfor(a, POLLIN, 3000));
  say("recv", recv(a, buf, 10, MSG_DONTWAIT)); close(c); close(a);
  close(l);
  }
  puts("# timestamps");
  pair(&c, &a, &l); set(a, 1, SO_TIMESTAMP, 1); usleep(100000);
  send(c, "t", 1, 0); usleep(1000); { char t[8], cb[256]; struct iovec iv = {t, 8};
  struct msghdr m = {.msg_iov = &iv, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = sizeof cb};
  recvmsg(a, &m, 0); for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) printf("[%d/%d/%zu]", h->cmsg_level, h->cmsg_type, h->cmsg_len);
  puts(""); set(a, 1, SO_TIMESTAMP, 0); set(a, 1, SO_TIMESTAMPING, 1 << 3 | 1 << 4);
  send(c, "t", 1, 0); usleep(1000); m.msg_controllen = sizeof cb;
  recvmsg(a, &m, 0); for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) printf("[%d/%d/%zu]", h->cmsg_level, h->cmsg_type, h->cmsg_len);
  puts(""); } close(c); close(a); close(l);
  puts("# fast open");
  l = lis(5); x = at(l); c = socket(2, 1, 0); say("fastopen", sendto(c, "data", 4, MSG_FASTOPEN, (void *)&x, sizeof x));
  a = accept(l, 0, 0); say("recv", recv(a, buf, 10, 0)); close(c);
  close(a);
  c = socket(2, 1, 0); set(c, 6, TCP_FASTOPEN_CONNECT, 1); say("connect", connect(c, (void *)&x, sizeof x));
  say("write", write(c, "dat", 3)); a = accept(l, 0, 0); say("recv", recv(a, buf, 10, 0));
  close(c); close(a); close(l);
  puts("# congestion");
  c = socket(2, 1, 0); char nm2[16] = ""; nl = 16; setsockopt(c, 6, TCP_CONGESTION, "reno", 4);
  getsockopt(c, 6, TCP_CONGESTION, nm2, &nl); printf("%s %d\n", nm2, nl);
  close(c);
  return 0;
}
