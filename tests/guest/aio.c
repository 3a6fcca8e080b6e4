/* Asynchronous input and output by its own calls (`io_submit`): contexts, what each request does, errors, readiness
 * in the background, eventfds. Prints the same wherever it runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long setup(unsigned n, aio_context_t *c) { return syscall(SYS_io_setup, n, c) < 0 ? errno : 0; }
static long destroy(aio_context_t c) { return syscall(SYS_io_destroy, c) < 0 ? errno : 0; }

static long submit(aio_context_t c, long n, struct iocb **list)
{
    long r = syscall(SYS_io_submit, c, n, list);
    return r < 0 ? -errno : r;
}

static long get(aio_context_t c, long least, long most, struct io_event *e, struct timespec *t)
{
    long r = syscall(SYS_io_getevents, c, least, most, e, t);
    return r < 0 ? -errno : r;
}

static struct iocb request(int op, int fd, void *buf, size_t n, long long at)
{
    struct iocb r;
    memset(&r, 0, sizeof r);
    r.aio_lio_opcode = op, r.aio_fildes = fd, r.aio_buf = (uintptr_t)buf, r.aio_nbytes = n, r.aio_offset = at;
    r.aio_data = 7;
    return r;
}

/* Submits one and prints what came of it. */
static void one(aio_context_t c, const char *what, struct iocb r)
{
    struct iocb *list[] = {&r};
    struct io_event e = {0};
    struct timespec some = {5, 0};
    long s = submit(c, 1, list), g = get(c, s == 1, 1, &e, &some);
    printf("%s: %ld, %ld", what, s, g);
    if (g == 1)
        printf(" (%d %d %lld %lld)", e.data == 7, e.obj == (uintptr_t)&r, (long long)e.res, (long long)e.res2);
    printf("\n");
}

static void contexts(void)
{
    aio_context_t a = 0, b = 1;
    printf("setup %ld %ld %ld %ld %ld", setup(0, &a), setup(1, &b), setup(1, (void *)8), setup(1000000, &a),
           setup(0xffffffff, &a));
    printf(" %ld", setup(8, &a));
    printf(" again %ld, known %d\n", setup(8, &a), a != 0);
    struct timespec t = {0, 1000000}, none = {0, 0};
    struct io_event e[4];
    printf("get %ld %ld %ld %ld %ld %ld %ld\n", get(a, 0, 4, e, &none), get(a, 1, 4, e, &t), get(a, 2, 1, e, &none),
           get(a, -1, 4, e, &none), get(12345, 0, 4, e, &none), get(a, 1, 1, e, (void *)8), get(a, 0, 0, e, NULL));
    printf("submit %ld %ld %ld %ld\n", submit(a, 0, NULL), submit(a, -1, NULL), submit(a, 1, NULL), submit(54321, 1, NULL));
    pid_t child = fork();
    if (child == 0)
        _exit(get(a, 0, 1, e, &none) == 0 ? 0 : 1);
    int status;
    waitpid(child, &status, 0);
    printf("in a child %d\n", WEXITSTATUS(status));
    long x = destroy(a);
    printf("destroy %ld %ld %ld, get %ld\n", x, destroy(a), destroy(0), get(a, 0, 1, e, &none));
}

static void requests(void)
{
    aio_context_t c = 0;
    setup(16, &c);
    char name[] = "/tmp/aioXXXXXX", buf[64] = "hello, file", in[64] = "";
    int f = mkstemp(name), r = open(name, O_RDONLY), w = open(name, O_WRONLY), d = open("/tmp", O_RDONLY), p[2];
    pipe(p);
    one(c, "pwrite", request(IOCB_CMD_PWRITE, f, buf, 11, 3));
    one(c, "pread", request(IOCB_CMD_PREAD, f, in, 64, 0));
    printf("%s at %ld\n", in + 3, (long)lseek(f, 0, SEEK_CUR));
    struct iovec v[2] = {{in, 4}, {in + 10, 3}};
    one(c, "preadv", request(IOCB_CMD_PREADV, f, v, 2, 3));
    one(c, "pwritev", request(IOCB_CMD_PWRITEV, f, v, 2, 20));
    one(c, "too many pieces", request(IOCB_CMD_PREADV, f, v, 1025, 0));
    one(c, "bad pieces", request(IOCB_CMD_PREADV, f, (void *)8, 2, 0));
    one(c, "fsync", request(IOCB_CMD_FSYNC, f, NULL, 0, 0));
    one(c, "fdsync", request(IOCB_CMD_FDSYNC, f, NULL, 0, 0));
    one(c, "fsync with a buffer", request(IOCB_CMD_FSYNC, f, buf, 0, 0));
    one(c, "fsync of a pipe", request(IOCB_CMD_FSYNC, p[0], NULL, 0, 0));
    one(c, "noop", request(6, f, NULL, 0, 0));
    one(c, "unknown", request(77, f, NULL, 0, 0));
    one(c, "closed", request(IOCB_CMD_PREAD, 99, in, 4, 0));
    one(c, "read what is for writing", request(IOCB_CMD_PREAD, w, in, 4, 0));
    one(c, "write what is for reading", request(IOCB_CMD_PWRITE, r, in, 4, 0));
    one(c, "a directory", request(IOCB_CMD_PREAD, d, in, 4, 0));
    one(c, "negative place", request(IOCB_CMD_PREAD, f, in, 4, -1));
    one(c, "negative length", request(IOCB_CMD_PREAD, f, in, -1, 0));
    one(c, "unmapped buffer", request(IOCB_CMD_PREAD, f, (void *)8, 4, 0));
    one(c, "kernel's buffer", request(IOCB_CMD_PREAD, f, (void *)0xffff800000000000, 4, 0));
    one(c, "behind the end", request(IOCB_CMD_PREAD, f, in, 4, 1000));
    one(c, "pipe write", request(IOCB_CMD_PWRITE, p[1], "abc", 3, 0));
    one(c, "pipe read", request(IOCB_CMD_PREAD, p[0], in, 10, 5));
    struct iocb q = request(IOCB_CMD_PREAD, f, in, 4, 0);
    q.aio_reserved2 = 1;
    one(c, "reserved", q);
    q = request(IOCB_CMD_PREAD, f, in, 4, 0), q.aio_rw_flags = 0x4000000;
    one(c, "unknown flag", q);
    q = request(IOCB_CMD_PWRITE, f, "end", 3, 0), q.aio_rw_flags = RWF_APPEND;
    one(c, "append", q);
    printf("size %ld\n", (long)lseek(f, 0, SEEK_END));
    q = request(IOCB_CMD_PREAD, f, in, 4, 0), q.aio_flags = 2, q.aio_reqprio = 7 << 13;
    one(c, "bad priority", q);
    q = request(IOCB_CMD_PREAD, f, in, 4, 0), q.aio_flags = IOCB_FLAG_RESFD, q.aio_resfd = f;
    one(c, "no eventfd", q);
    q.aio_resfd = 99;
    one(c, "closed eventfd", q);
    int e = eventfd(0, EFD_NONBLOCK);
    q.aio_resfd = e;
    one(c, "with an eventfd", q), one(c, "and again", q);
    uint64_t count = 0;
    read(e, &count, 8);
    printf("told %d\n", (int)count);
    signal(SIGPIPE, SIG_IGN);
    close(p[0]);
    one(c, "broken pipe", request(IOCB_CMD_PWRITE, p[1], "abc", 3, 0));
    destroy(c);
    close(f), close(r), close(w), close(d), close(e), close(p[1]);
    unlink(name);
}

static void many(void)
{
    aio_context_t c = 0;
    setup(1, &c);
    struct iocb r[200], *list[200];
    struct io_event e[200];
    struct timespec none = {0, 0};
    char b;
    int f = open("/dev/zero", O_RDWR);
    for (int i = 0; i < 200; i++)
        r[i] = request(IOCB_CMD_PREAD, f, &b, 1, 0), r[i].aio_data = i, list[i] = &r[i];
    list[3] = NULL;
    printf("up to the bad one %ld", submit(c, 5, list));
    list[3] = &r[3], r[2].aio_fildes = 99;
    printf(" %ld", submit(c, 5, list));
    printf(", got %ld", get(c, 1, 3, e, &none));
    printf(" %ld %ld\n", get(c, 1, 200, e, &none), get(c, 0, 200, e, &none));
    r[2].aio_fildes = f;
    printf("bad place for events %ld", submit(c, 4, list));
    printf(" %ld", get(c, 1, 4, (void *)8, &none));
    printf(", still there %ld:", get(c, 1, 4, e, &none));
    for (int i = 0; i < 4; i++)
        printf(" %d", (int)e[i].data);
    printf("\n");
    long n = 0, k;
    while ((k = submit(c, 1, list)) == 1)
        n++;
    printf("full: %d, %ld\n", n > 8 && n < 2000, k);
    destroy(c), close(f);
}

static void *late(void *p)
{
    usleep(50000);
    write(*(int *)p, "x", 1);
    return NULL;
}

static void readiness(void)
{
    aio_context_t c = 0;
    setup(8, &c);
    int p[2], s[2], e = eventfd(0, EFD_NONBLOCK);
    pipe(p), socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    one(c, "ready to write", request(IOCB_CMD_POLL, p[1], (void *)POLLOUT, 0, 0));
    one(c, "poll with a length", request(IOCB_CMD_POLL, p[1], (void *)POLLOUT, 1, 0));
    one(c, "poll beyond", request(IOCB_CMD_POLL, p[1], (void *)0x10000, 0, 0));
    struct iocb r = request(IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 0), *list[] = {&r};
    r.aio_flags = IOCB_FLAG_RESFD, r.aio_resfd = e;
    struct io_event ev;
    struct timespec none = {0, 0}, t = {0, 1000000};
    printf("not ready: %ld", submit(c, 1, list));
    printf(" %ld %ld", get(c, 0, 1, &ev, &none), get(c, 1, 1, &ev, &t));
    pthread_t thread;
    pthread_create(&thread, NULL, late, &p[1]);
    long n = get(c, 1, 1, &ev, NULL);
    printf(", later %ld (%d %d)", n, ev.obj == (uintptr_t)&r, (int)ev.res & POLLIN);
    pthread_join(thread, NULL);
    uint64_t count = 0;
    read(e, &count, 8);
    printf(", told %d\n", (int)count);
    char b;
    read(p[0], &b, 1);
    r = request(IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 0);
    submit(c, 1, list);
    long x = syscall(SYS_io_cancel, c, &r, &ev) < 0 ? errno : 0;
    printf("cancel %ld", x);
    x = syscall(SYS_io_cancel, c, &r, &ev) < 0 ? errno : 0;
    printf(" %ld", x);
    printf(", event %ld", get(c, 1, 1, &ev, NULL));
    printf(" %lld\n", (long long)ev.res);
    submit(c, 1, list);
    close(p[1]);
    printf("hang-up %ld", get(c, 1, 1, &ev, NULL));
    printf(" %lld\n", (long long)ev.res);
    r = request(IOCB_CMD_POLL, s[0], (void *)POLLIN, 0, 0);
    submit(c, 1, list);
    destroy(c);
    shutdown(s[0], SHUT_RDWR);
    printf("peer after destroy %ld\n", (long)read(s[1], &b, 1));
}

static void nothing(int s) { (void)s; }

static void interrupted(void)
{
    aio_context_t c = 0;
    setup(8, &c);
    struct io_event e;
    struct sigaction a = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &a, NULL);
    ualarm(50000, 0);
    printf("interrupted %ld", get(c, 1, 1, &e, NULL));
    sigset_t all, old;
    sigfillset(&all), sigprocmask(SIG_SETMASK, &all, &old);
    raise(SIGALRM);
    sigset_t open_mask;
    sigemptyset(&open_mask);
    struct {
        sigset_t *set;
        size_t size;
    } set = {&open_mask, 8};
    long n = syscall(SYS_io_pgetevents, c, 1L, 1L, &e, NULL, &set);
    printf(" %ld", n < 0 ? -(long)errno : n);
    set.size = 7;
    n = syscall(SYS_io_pgetevents, c, 1L, 1L, &e, NULL, &set);
    printf(" %ld\n", n < 0 ? -(long)errno : n);
    sigprocmask(SIG_SETMASK, &old, NULL);
    destroy(c);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    contexts();
    requests();
    many();
    readiness();
    interrupted();
    return 0;
}
