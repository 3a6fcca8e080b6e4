/* Pipes by their buffers: how much fits, packets, sizes, splice and its relatives, for every kind of file.
 * Prints the same wherever it runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define E(x) ((x) < 0 ? -errno : 0)
static char big[1 << 20], back[1 << 20];

static long try(long r) { return r < 0 ? -errno : r; }

static int left(int fd)
{
    int n = -1;
    ioctl(fd, FIONREAD, &n);
    return n;
}

static void fits(void)
{
    int sizes[] = {1, 100, 511, 512, 513, 1000, 2049, 3000, 4095, 4096, 4097, 5000, 8192, 65535, 65536, 65537};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int p[2];
        pipe2(p, O_NONBLOCK);
        long n, all = 0, times = 0;
        while ((n = write(p[1], big, sizes[i])) > 0)
            all += n, times++;
        printf("writes of %d: %ld, in all %ld, %d there", sizes[i], times, all, left(p[0]));
        long got = read(p[0], back, 1);
        printf(", after %ld byte %ld", got, try(write(p[1], big, 1)));
        got = read(p[0], back, 4096);
        printf(", after %ld %ld %ld\n", got, try(write(p[1], big, sizes[i])), try(write(p[1], big, sizes[i])));
        close(p[0]);
        close(p[1]);
    }
}

static void contents(void)
{
    int p[2];
    pipe2(p, O_NONBLOCK);
    for (unsigned i = 0; i < sizeof big; i++)
        big[i] = i * 7 + i / 4096;
    unsigned out = 0, in = 0, wrong = 0, seed = 1;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned n = (seed >> 8) % (seed & 16 ? 9000 : 700);
        if (seed & 32) {
            if (out + n > sizeof big)
                break;
            long k = write(p[1], big + out, n);
            out += k > 0 ? k : 0;
        } else {
            long k = read(p[0], back, n);
            if (k > 0)
                wrong += memcmp(back, big + in, k) != 0, in += k;
        }
    }
    long k;
    while ((k = read(p[0], back, 3333)) > 0)
        wrong += memcmp(back, big + in, k) != 0, in += k;
    printf("contents: all came %d, wrong %u\n", in == out, wrong);
    close(p[0]);
    close(p[1]);
}

static void packets(void)
{
    int p[2];
    pipe2(p, O_DIRECT | O_NONBLOCK);
    printf("packet flags %d %d\n", !!(fcntl(p[0], F_GETFL) & O_DIRECT), !!(fcntl(p[1], F_GETFL) & O_DIRECT));
    write(p[1], "one", 3);
    write(p[1], "second", 6);
    write(p[1], "third", 5);
    write(p[1], big, 5000);
    printf("packets %ld", (long)read(p[0], back, 100));
    printf(" %ld", (long)read(p[0], back, 2));
    printf(" %ld", (long)read(p[0], back, 100));
    printf(" %ld", (long)read(p[0], back, 10000));
    printf(" %ld", (long)read(p[0], back, 10000));
    printf(" %ld\n", try(read(p[0], back, 10000)));
    int n = 0;
    while (write(p[1], "x", 1) == 1)
        n++;
    printf("small ones %d\n", n);
    fcntl(p[1], F_SETFL, O_NONBLOCK);
    while (read(p[0], back, 100) > 0)
        ;
    write(p[1], "a", 1);
    write(p[1], "b", 1);
    printf("no longer %ld\n", (long)read(p[0], back, 100));
    close(p[0]);
    close(p[1]);
}

static void sizes(void)
{
    int p[2];
    pipe2(p, O_NONBLOCK);
    printf("size %d", fcntl(p[0], F_GETPIPE_SZ));
    int want[] = {0, 1, 4096, 4097, 65536, 70000, 1 << 20};
    for (unsigned i = 0; i < sizeof want / sizeof *want; i++)
        printf(" %ld", try(fcntl(p[1], F_SETPIPE_SZ, want[i])));
    printf(" %ld\n", try(fcntl(p[1], F_SETPIPE_SZ, 0x80000001u)));
    long all = 0, n;
    while ((n = write(p[1], big, 65536)) > 0)
        all += n;
    printf("holds %ld, smaller %ld", all, try(fcntl(p[1], F_SETPIPE_SZ, 65536)));
    read(p[0], back, sizeof back - 65536);
    printf(", then %ld, writable %d\n", try(fcntl(p[1], F_SETPIPE_SZ, 65536)), poll(&(struct pollfd){p[1], POLLOUT, 0}, 1, 0));
    printf("larger wakes %ld %d\n", try(fcntl(p[1], F_SETPIPE_SZ, 131072)), poll(&(struct pollfd){p[1], POLLOUT, 0}, 1, 0));
    close(p[0]);
    close(p[1]);
    int e = eventfd(0, 0);
    printf("no pipe %ld %ld\n", try(fcntl(e, F_GETPIPE_SZ)), try(fcntl(e, F_SETPIPE_SZ, 4096)));
    close(e);
    pipe(p);
    printf("edges %ld %ld", try(write(p[1], NULL, 0)), try(write(p[1], NULL, 10)));
    printf(" %ld %ld", try(pread(p[0], back, 1, 0)), try(lseek(p[0], 0, SEEK_CUR)));
    char *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(edge + 4096, 4096);
    memcpy(edge, "0123456789", 10);
    printf(" half there %ld", try(write(p[1], edge + 4090, 10)));
    printf(" %ld", try(write(p[1], edge, 10)));
    printf(" into nothing %ld %d", try(read(p[0], edge + 4096, 10)), left(p[0]));
    memset(back, 0, 11);
    printf(" still %ld %s\n", (long)read(p[0], back, 100), back);
    struct pollfd q = {p[1], POLLOUT, 0};
    signal(SIGPIPE, SIG_IGN);
    close(p[0]);
    poll(&q, 1, 0);
    printf("no reader %x %ld %ld\n", q.revents, try(write(p[1], "x", 1)), try(write(p[1], "", 0)));
    close(p[1]);
}

static void *later(void *arg)
{
    usleep(50000);
    write(*(int *)arg, "late", 4);
    return NULL;
}

static void splices(void)
{
    char name[] = "/tmp/buffersXXXXXX";
    int a[2], b[2], s[2], t[2], f = mkstemp(name), g = open(name, O_RDWR), app = open(name, O_WRONLY | O_APPEND), ro = open(name, O_RDONLY);
    unlink(name);
    write(f, "0123456789", 10);
    lseek(f, 0, SEEK_SET);
    pipe(a);
    pipe(b);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    socketpair(AF_UNIX, SOCK_STREAM, 0, t);
    int e = eventfd(3, 0), tfd = timerfd_create(CLOCK_MONOTONIC, 0), ep = epoll_create1(0), null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR), dir = open("/", O_RDONLY);
    loff_t o = 3, minus = -1;
    printf("file to pipe %ld", try(splice(f, NULL, a[1], NULL, 4, 0)));
    printf(", its offset %ld", (long)lseek(f, 0, SEEK_CUR));
    printf(", at an offset %ld %ld", try(splice(f, &o, a[1], NULL, 100, 0)), (long)o);
    printf(", at the end %ld", try(splice(f, &o, a[1], NULL, 100, 0)));
    memset(back, 0, 20);
    printf(": %ld %s\n", (long)read(a[0], back, 20), back);
    write(a[1], "abcdef", 6);
    printf("pipe to pipe %ld, tee %ld", try(splice(a[0], NULL, b[1], NULL, 2, 0)), try(tee(a[0], b[1], 2, 0)));
    memset(back, 0, 20);
    printf(": %ld %s", (long)read(b[0], back, 20), back);
    printf(", left %d\n", left(a[0]));
    o = 12;
    printf("pipe to file %ld %ld", try(splice(a[0], NULL, f, &o, 3, 0)), (long)o);
    printf(", to a socket %ld", try(splice(a[0], NULL, s[0], NULL, 100, 0)));
    printf(", from it %ld", try(splice(s[1], NULL, b[1], NULL, 100, 0)));
    printf(", to a device %ld", try(splice(b[0], NULL, null, NULL, 100, 0)));
    printf(", from one %ld", try(splice(zero, NULL, b[1], NULL, 5000, 0)));
    printf(", there %d\n", left(b[0]));
    printf("refused: no pipe %ld, same %ld", try(splice(f, NULL, g, NULL, 1, 0)), try(splice(a[0], NULL, a[1], NULL, 1, 0)));
    write(a[1], "x", 1);
    printf(", append %ld, read-only %ld, for reading %ld", try(splice(a[0], NULL, app, NULL, 1, 0)), try(splice(a[0], NULL, ro, NULL, 1, 0)),
           try(splice(app, NULL, a[1], NULL, 1, 0)));
    printf(", wrong ends %ld %ld", try(splice(a[1], NULL, f, NULL, 1, 0)), try(splice(f, NULL, a[0], NULL, 1, 0)));
    printf(", offsets %ld %ld %ld %ld", try(splice(a[0], &o, f, NULL, 1, 0)), try(splice(f, NULL, a[1], &o, 1, 0)), try(splice(f, &minus, a[1], NULL, 1, 0)),
           try(splice(s[0], &o, a[1], NULL, 1, 0)));
    printf(", flags %ld, nothing %ld, bad %ld\n", try(splice(f, NULL, a[1], NULL, 1, 16)), try(splice(-1, NULL, -1, NULL, 0, 16)), try(splice(-1, NULL, a[1], NULL, 1, 0)));
    printf("kinds out: event %ld timer %ld epoll %ld directory %ld", try(splice(e, NULL, a[1], NULL, 8, 0)), try(splice(tfd, NULL, a[1], NULL, 8, 0)),
           try(splice(ep, NULL, a[1], NULL, 8, 0)), try(splice(dir, NULL, a[1], NULL, 8, 0)));
    printf(", in: event %ld epoll %ld\n", try(splice(a[0], NULL, e, NULL, 8, 0)), try(splice(a[0], NULL, ep, NULL, 8, 0)));
    printf("tee: same %ld, a file %ld, ends %ld %ld, flags %ld, nothing %ld\n", try(tee(a[0], a[1], 1, 0)), try(tee(f, a[1], 1, 0)), try(tee(a[1], b[1], 1, 0)),
           try(tee(a[0], b[0], 1, 0)), try(tee(a[0], b[1], 0, 32)), try(tee(-1, -1, 0, 0)));
    read(a[0], back, 100);
    read(b[0], back, sizeof back);
    printf("empty %ld", try(splice(a[0], NULL, b[1], NULL, 1, SPLICE_F_NONBLOCK)));
    printf(" %ld", try(tee(a[0], b[1], 1, SPLICE_F_NONBLOCK)));
    pthread_t th;
    pthread_create(&th, NULL, later, &a[1]);
    printf(", waits %ld\n", try(splice(a[0], NULL, b[1], NULL, 100, 0)));
    pthread_join(th, NULL);
    read(b[0], back, 100);
    struct iovec v[3] = {{"vm", 2}, {"splice", 6}, {big, 10000}};
    printf("vmsplice %ld", try(vmsplice(a[1], v, 2, 0)));
    memset(back, 0, 20);
    v[0] = (struct iovec){back, 3};
    v[1] = (struct iovec){back + 3, 100};
    printf(", back %ld %s", try(vmsplice(a[0], v, 2, 0)), back);
    printf(", no pipe %ld %ld", try(vmsplice(f, v, 1, 0)), try(vmsplice(-1, v, 1, 0)));
    printf(", flags %ld, bad %ld", try(vmsplice(a[1], v, 1, 64)), try(vmsplice(a[1], (void *)8, 1, 0)));
    v[0] = (struct iovec){(void *)8, 10};
    printf(", bad memory %ld, nothing %ld\n", try(vmsplice(a[1], v, 1, 0)), try(vmsplice(a[1], v, 0, 0)));
    fcntl(a[1], F_SETFL, O_NONBLOCK);
    while (write(a[1], big, 4096) > 0)
        ;
    printf("full %ld %ld", try(splice(f, &(loff_t){0}, a[1], NULL, 1, 0)), try(splice(f, &(loff_t){0}, a[1], NULL, 1, SPLICE_F_NONBLOCK)));
    v[0] = (struct iovec){big, 10};
    printf(" %ld\n", try(vmsplice(a[1], v, 1, SPLICE_F_NONBLOCK)));
    close(a[0]);
    printf("broken %ld %ld\n", try(splice(f, &(loff_t){0}, a[1], NULL, 1, 0)), try(vmsplice(a[1], v, 1, 0)));
    close(b[1]);
    printf("ended %ld", try(splice(b[0], NULL, f, NULL, 100, 0)));
    printf(" %ld\n", try(splice(b[0], NULL, f, NULL, 100, SPLICE_F_NONBLOCK)));
    off_t at = 2;
    pipe(a);
    printf("sendfile %ld %ld", try(sendfile(a[1], f, &at, 5)), (long)at);
    printf(", to a socket %ld", try(sendfile(t[0], f, &at, 3)));
    printf(", from a pipe %ld, a socket %ld, an event %ld", try(sendfile(t[0], a[0], NULL, 1)), try(sendfile(a[1], t[1], NULL, 1)), try(sendfile(a[1], e, NULL, 8)));
    printf(", append %ld, offset %ld %ld\n", try(sendfile(app, f, NULL, 1)), try(sendfile(t[0], a[0], &at, 1)), try(sendfile(t[0], f, (off_t[]){-1}, 1)));
    for (int i = 3; i < 64; i++)
        close(i);
}

static void many(void)
{
    /* More pipes than there is memory for if each took all that it may hold. */
    int n = 0;
    static int p[400][2];
    while (n < 400 && pipe2(p[n], O_NONBLOCK) == 0)
        n++;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < 16; k++)
            write(p[i][1], big, 4096);
    long all = 0, k;
    for (int i = 0; i < n; i++)
        while ((k = read(p[i][0], back, sizeof back)) > 0)
            all += k;
    printf("%d pipes carry %ld\n", n, all);
}

/* Numbers that a writer goes on writing are copied by tee and taken by splice: none is missing and none comes twice. */
static void beside_a_writer(void)
{
    enum { COUNT = 200000 };
    int a[2], b[2], null = open("/dev/null", O_WRONLY);
    E(pipe(a)), E(pipe(b));
    pid_t writer = fork();
    if (writer == 0) {
        for (uint64_t i = 0; i < COUNT; i++)
            if (write(a[1], &i, 8) != 8)
                _exit(1);
        _exit(0);
    }
    pid_t reader = fork();
    if (reader == 0) {
        close(a[0]), close(a[1]), close(b[1]);
        uint64_t n, at = 0;
        while (read(b[0], &n, 8) == 8)
            if (n != at++)
                _exit(1);
        _exit(at == COUNT ? 0 : 2);
    }
    close(a[1]), close(b[0]);
    long n;
    while ((n = tee(a[0], b[1], 1 << 20, 0)) > 0)
        while (n > 0) {
            long k = splice(a[0], NULL, null, NULL, n, 0);
            if (k <= 0)
                break;
            n -= k;
        }
    close(a[0]), close(b[1]), close(null);
    int s = 0, t = 0;
    waitpid(writer, &s, 0), waitpid(reader, &t, 0);
    printf("beside a writer: %d %d\n", WEXITSTATUS(s), WEXITSTATUS(t));
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    fits();
    contents();
    packets();
    sizes();
    splices();
    many();
    beside_a_writer();
    return 0;
}
