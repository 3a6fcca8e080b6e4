/* Values at the ends of what a call takes: each is an error of its own or a success, never more. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SAY(what) do { errno = 0; long r = (what); printf("%s = %ld %s\n", #what, r, r < 0 ? strerror(errno) : ""); } while (0)

/* Times that end after all time. */
static void times(void) {
    int s[2];
    char c;
    struct iovec v = {&c, 1};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
    struct timespec t = {INT64_MAX, 999999999};
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    SAY(write(s[1], "x", 1));
    SAY(recvmmsg(s[0], &m, 1, 0, &t));
    t.tv_nsec = 1000000000;
    SAY(recvmmsg(s[0], &m, 1, MSG_DONTWAIT, &t));
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    times();
    return 0;
}
