/* Many connections: made and closed in a loop nothing of them is left, and many that idle do not keep others from
   working. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
static int descriptors(void) {
  DIR *d = opendir("/proc/self/fd");
  int n = 0;
  while (readdir(d)) n++;
  closedir(d);
  return n;
}
static int listed(int port) {
  char line[256], needle[8];
  FILE *f = fopen("/proc/net/tcp", "r");
  int n = 0;
  snprintf(needle, sizeof needle, ":%04X ", port);
  while (fgets(line, sizeof line, f))
    /* Established, or waiting to be closed; not those in TIME_WAIT (06). */
    if (strstr(line, needle) && !strstr(line, " 06 ")) n++;
  fclose(f);
  return n;
}
int main(int argc, char **argv) {
  int loops = argc > 1 ? atoi(argv[1]) : 20000, idle = argc > 2 ? atoi(argv[2]) : 400;
  setvbuf(stdout, 0, _IOLBF, 0);
  struct sockaddr_in x = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000101)};
  socklen_t n = sizeof x;
  int l = socket(AF_INET, SOCK_STREAM, 0), before = descriptors();
  bind(l, (void *)&x, n);
  listen(l, 128);
  getsockname(l, (void *)&x, &n);
  struct linger now = {1, 0};
  for (int i = 0; i < loops; i++) {
    int c = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c, (void *)&x, n)) { printf("connect %d: %s\n", i, strerrorname_np(errno)); return 1; }
    int a = accept(l, 0, 0);
    if (a < 0) { printf("accept %d: %s\n", i, strerrorname_np(errno)); return 1; }
    /* Every tenth is left to TIME_WAIT, the others are reset. */
    if (i % 10) setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(c);
    close(a);
  }
  printf("descriptors %d, connections %d\n", descriptors() - before, listed(ntohs(x.sin_port)) - 1);
  struct rlimit r = {2 * idle + 400, 2 * idle + 400};
  setrlimit(RLIMIT_NOFILE, &r);
  int *all = calloc(2 * idle, sizeof *all);
  for (int i = 0; i < idle; i++) {
    all[2 * i] = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(all[2 * i], (void *)&x, n) || (all[2 * i + 1] = accept(l, 0, 0)) < 0) { printf("idle %d: %s\n", i, strerrorname_np(errno)); return 1; }
  }
  printf("idle: %d\n", listed(ntohs(x.sin_port)) - 1 == 2 * idle);
  for (int round = 0; round < 100; round++)
    for (int i = 0; i < 100; i++) {
      char b[8];
      int c = all[2 * i], a = all[2 * i + 1];
      if (write(c, "ping", 4) != 4 || read(a, b, 8) != 4 || write(a, "pong!", 5) != 5 || read(c, b, 8) != 5) { puts("lost"); return 1; }
    }
  for (int i = 0; i < 2 * idle; i++) close(all[i]);
  printf("descriptors %d, connections %d\n", descriptors() - before, listed(ntohs(x.sin_port)) - 1);
  return 0;
}
