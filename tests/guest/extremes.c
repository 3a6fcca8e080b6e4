/* Values at the ends of what a call takes: each is an error of its own or a success, never more. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/xattr.h>
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

/* Capabilities of a file that are none. */
static void capabilities(void) {
    unsigned two[6] = {0x02000001}, three[6] = {0x03000001}, other[6] = {0x05000000}, one[3] = {0x01000000};
    char b[64] = "";
    close(open("/dev/shm/extremes", O_RDWR | O_CREAT, 0755));
    SAY(setxattr("/dev/shm/extremes", "security.capability", "junk", 4, 0));
    SAY(setxattr("/dev/shm/extremes", "security.capability", two, 19, 0));
    SAY(setxattr("/dev/shm/extremes", "security.capability", three, 20, 0));
    SAY(setxattr("/dev/shm/extremes", "security.capability", other, 20, 0));
    SAY(setxattr("/dev/shm/extremes", "security.capability", one, 12, 0));
    SAY(setxattr("/dev/shm/extremes", "security.capability", two, 20, 0));
    SAY(getxattr("/dev/shm/extremes", "security.capability", b, sizeof b));
    SAY(setxattr("/dev/shm/extremes", "security.capability", three, 24, 0));
    SAY(getxattr("/dev/shm/extremes", "security.capability", b, sizeof b));
    printf("%x\n", *(unsigned *)b);
    SAY(removexattr("/dev/shm/extremes", "security.capability"));
    unlink("/dev/shm/extremes");
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    times();
    capabilities();
    return 0;
}
