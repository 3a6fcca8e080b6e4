/* Local sockets: control messages that are wrong, urgent data, binds and connects that fail. */
#include "sockets.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/un.h>
static char buf[1 << 18];
int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  signal(SIGPIPE, SIG_IGN);
  int s, c, v;
  socklen_t k;
  puts("# local");
  int p[2]; socketpair(1, SOCK_STREAM, 0, p); set(p[1], 1, SO_PASSCRED, 1);
  v = 1; struct iovec iv = {"x", 1}; char cb[64] = {0}; struct msghdr m = {0, 0, &iv, 1, cb, CMSG_SPACE(12), 0};
  struct cmsghdr *h = CMSG_FIRSTHDR(&m); h->cmsg_level = 1; h->cmsg_type = SCM_CREDENTIALS;
  h->cmsg_len = CMSG_LEN(12); struct ucred uc = {getpid(), getuid(), getgid()};
  memcpy(CMSG_DATA(h), &uc, 12); say("cred", sendmsg(p[0], &m, 0));
  uc.pid = 999999; memcpy(CMSG_DATA(h), &uc, 12); say("no pid", sendmsg(p[0], &m, 0));
  h->cmsg_len = CMSG_LEN(4); say("short cred", sendmsg(p[0], &m, 0));
  h->cmsg_type = 99; say("unknown", sendmsg(p[0], &m, 0)); h->cmsg_level = 77;
  say("level", sendmsg(p[0], &m, 0)); say("oob", send(p[0], "o", 1, MSG_OOB));
  printf("poll %x\n", ev(p[1], 0)); int mk = -1; ioctl(p[1], SIOCATMARK, &mk);
  printf("mark %d\n", mk); say("recv", recv(p[1], buf, 9, 0));
  say("recv oob", recv(p[1], buf, 9, MSG_OOB)); say("shut", shutdown(p[0], SHUT_WR));
  printf("poll %x %x\n", ev(p[0], 0), ev(p[1], 0)); close(p[0]);
  printf("poll %x\n", ev(p[1], 0)); say("send", send(p[1], "x", 1, 0));
  close(p[1]);
  for (int t = 1; t < 6; t++) { if (t == 3 || t == 4) continue;
  s = socket(1, t, 0); printf("type %d: ", t); struct sockaddr_un u = {.sun_family = 1};
  say("auto", bind(s, (void *)&u, 2)); k = sizeof u; getsockname(s, (void *)&u, &k);
  printf("%d ", k); say("listen", listen(s, 1)); c = socket(1, t, 0);
  say("connect", connect(c, (void *)&u, k)); say("again", connect(c, (void *)&u, k));
  u.sun_family = 2; say("family", connect(c, (void *)&u, k)); say("short", connect(c, (void *)&u, 2));
  u.sun_family = 1; strcpy(u.sun_path, "/nonexistent/x"); int c2 = socket(1, t, 0);
  say("none", connect(c2, (void *)&u, sizeof u)); strcpy(u.sun_path, "/etc/passwd");
  say("no socket", connect(c2, (void *)&u, sizeof u)); printf("polls %x %x %x\n", ev(s, 0), ev(c, 0), ev(c2, 0));
  say("send", send(c, "x", 1, 0)); close(s); printf("poll %x err %d\n", ev(c, 0), get(c, 1, SO_ERROR));
  say("send", send(c, "x", 1, 0)); close(c); close(c2); }
  return 0;
}
