// Advisory locks: what conflicts, splits and merges, who is told of, and what ends them.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(e) do { long r_ = (e); printf("%s: %s\n", #e, r_ < 0 ? strerror(errno) : "ok"); fflush(stdout); } while (0)

static int lock(int fd, int command, int type, long start, long len) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, command, &l);
}

static void show(int fd, int command, int type, long start, long len) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    int r = fcntl(fd, command, &l);
    const char *who = l.l_pid == -1 ? "a description" : l.l_pid == getppid() ? "the parent" : l.l_pid ? "another" : "nobody";
    if (r < 0) printf("get: %s\n", strerror(errno));
    else printf("get %ld+%ld: type %d at %ld+%ld of %s\n", start, len, l.l_type, (long)l.l_start, (long)l.l_len, who);
    fflush(stdout);
}

static int run(void (*f)(int), int fd) {
    fflush(stdout);
    pid_t p = fork();
    if (!p) { f(fd); fflush(stdout); _exit(0); }
    int s; waitpid(p, &s, 0);
    return s;
}

static void look(int fd) {
    for (long at = 0; at < 100; at += 10) show(fd, F_GETLK, F_WRLCK, at, 10);
    show(fd, F_GETLK, F_RDLCK, 0, 0);
    show(fd, F_GETLK, F_WRLCK, 0, 0);
}

static void arguments(int fd) {
    struct flock l = {.l_type = F_WRLCK, .l_whence = 7};
    SAY(fcntl(fd, F_SETLK, &l));
    SAY(fcntl(fd, F_GETLK, &l));
    SAY(lock(fd, F_SETLK, 9, 0, 1));
    SAY(lock(fd, F_GETLK, F_UNLCK, 0, 1));
    SAY(lock(fd, F_SETLK, F_WRLCK, -1, 1));
    SAY(lock(fd, F_SETLK, F_WRLCK, 5, -6));
    SAY(lock(fd, F_SETLK, F_WRLCK, 5, -5));
    SAY(lock(fd, F_SETLK, F_WRLCK, 0x7fffffffffffffffL, 2));
    SAY(lock(fd, F_SETLK, F_WRLCK, 0x7fffffffffffffffL, 1));
    l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = 0x7fffffffffffffffL};
    SAY(ftruncate(fd, 10));
    SAY(fcntl(fd, F_SETLK, &l));
    l = (struct flock){.l_type = F_WRLCK, .l_pid = 1};
    SAY(fcntl(fd, F_OFD_SETLK, &l));
    SAY(fcntl(fd, F_OFD_GETLK, &l));
    SAY(fcntl(fd, F_SETLK, (void *)8));
    SAY(fcntl(-1, F_SETLK, (void *)8));
    int r = open("f", O_RDONLY), w = open("f", O_WRONLY), p = open("f", O_PATH);
    SAY(lock(r, F_SETLK, F_WRLCK, 0, 1));
    SAY(lock(w, F_SETLK, F_RDLCK, 0, 1));
    SAY(lock(w, F_GETLK, F_RDLCK, 0, 1));
    SAY(lock(p, F_SETLK, F_UNLCK, 0, 1));
    SAY(flock(p, LOCK_SH));
    SAY(flock(r, LOCK_EX));
    SAY(flock(r, 77));
    SAY(flock(-1, 77));
    SAY(flock(-1, LOCK_SH));
    SAY(flock(-1, LOCK_SH | LOCK_UN));
    int both = open("f", 3);
    SAY(flock(both, LOCK_SH | LOCK_NB));
    SAY(flock(both, LOCK_UN));
    int null[2]; SAY(pipe(null));
    SAY(lock(null[0], F_SETLK, F_RDLCK, 0, 1));
    SAY(flock(null[0], LOCK_EX));
    close(r); close(w); close(p); close(both);
}

static void pieces(int fd) {
    SAY(lock(fd, F_SETLK, F_WRLCK, 0, 100));
    SAY(lock(fd, F_SETLK, F_UNLCK, 40, 20));
    run(look, fd);
    SAY(lock(fd, F_SETLK, F_RDLCK, 10, 20));
    run(look, fd);
    SAY(lock(fd, F_SETLK, F_WRLCK, 30, 40));
    SAY(lock(fd, F_SETLK, F_WRLCK, 10, 20));
    run(look, fd);
    close(dup(fd));
    puts("after closing another descriptor:");
    run(look, fd);
}

static void other_description(int fd) {
    int g = open("f", O_RDWR);
    show(g, F_OFD_GETLK, F_WRLCK, 0, 0);
    SAY(lock(g, F_OFD_SETLK, F_WRLCK, 15, 10));
    SAY(lock(g, F_OFD_SETLK, F_RDLCK, 30, 10));
    show(g, F_OFD_GETLK, F_UNLCK, 0, 0);
    show(g, F_OFD_GETLK, F_UNLCK, 35, 1);
    SAY(lock(g, F_SETLK, F_WRLCK, 35, 1));
    show(g, F_GETLK, F_WRLCK, 35, 1);
    int h = dup(g);
    close(g);
    SAY(lock(fd, F_OFD_SETLK, F_WRLCK, 35, 1));
    close(h);
    SAY(lock(fd, F_OFD_SETLK, F_WRLCK, 35, 1));
    SAY(lock(fd, F_OFD_SETLK, F_UNLCK, 0, 0));
}

static void descriptions(int fd) {
    SAY(lock(fd, F_OFD_SETLK, F_WRLCK, 10, 10));
    SAY(lock(fd, F_SETLK, F_WRLCK, 10, 10));
    run(other_description, fd);
}

static void flocks(int fd) {
    int g = open("f", O_RDWR);
    SAY(flock(fd, LOCK_SH));
    SAY(flock(g, LOCK_SH | LOCK_NB));
    SAY(flock(g, LOCK_EX | LOCK_NB));
    // The refused change lost what it had.
    SAY(flock(fd, LOCK_EX | LOCK_NB));
    SAY(flock(g, LOCK_SH | LOCK_NB));
    SAY(lock(g, F_SETLK, F_WRLCK, 0, 0));
    SAY(flock(fd, LOCK_UN));
    SAY(flock(g, LOCK_EX | LOCK_NB));
    int h = dup(g);
    close(g);
    SAY(flock(fd, LOCK_SH | LOCK_NB));
    close(h);
    SAY(flock(fd, LOCK_SH | LOCK_NB));
    SAY(flock(fd, LOCK_UN));
}

static void on_alarm(int s) { (void)s; }

static void interrupted(int fd) {
    struct sigaction a = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &a, 0);
    ualarm(30000, 0);
    SAY(lock(fd, F_SETLKW, F_WRLCK, 0, 1));
    ualarm(30000, 0);
    SAY(lock(fd, F_OFD_SETLKW, F_WRLCK, 0, 1));
    int g = open("f", O_RDWR);
    ualarm(30000, 0);
    SAY(flock(g, LOCK_EX));
}

static void hold_and_die(int fd) {
    SAY(lock(fd, F_SETLK, F_WRLCK, 500, 1));
    kill(getpid(), SIGKILL);
}

static int pipes[2][2];

static void circle(int fd) {
    pipe(pipes[0]); pipe(pipes[1]);
    fflush(stdout);
    char b;
    pid_t p = fork();
    if (!p) {
        lock(fd, F_SETLK, F_WRLCK, 1, 1);
        write(pipes[0][1], "x", 1);
        read(pipes[1][0], &b, 1);
        _exit(lock(fd, F_SETLKW, F_WRLCK, 0, 1) ? errno : 0);
    }
    lock(fd, F_SETLK, F_WRLCK, 0, 1);
    read(pipes[0][0], &b, 1);
    write(pipes[1][1], "y", 1);
    // The child waits by now, or fails itself if it comes second: either way exactly one does.
    usleep(100000);
    int mine = lock(fd, F_SETLKW, F_WRLCK, 1, 1) ? errno : 0;
    lock(fd, F_SETLK, F_UNLCK, 0, 0);
    int s; waitpid(p, &s, 0);
    printf("circle: %s, %s\n", strerror(mine), strerror(WEXITSTATUS(s)));
}

static volatile int *turns;

// Waiters for one lock get it in the order in which they came.
static void queue(int fd) {
    int done[2]; pipe(done);
    SAY(lock(fd, F_SETLK, F_WRLCK, 900, 1));
    fflush(stdout);
    for (char i = 'a'; i < 'f'; i++) {
        if (!fork()) {
            lock(fd, F_SETLKW, F_WRLCK, 900, 1);
            write(done[1], &i, 1);
            usleep(1000);
            _exit(0);
        }
        usleep(60000);
    }
    SAY(lock(fd, F_SETLK, F_UNLCK, 900, 1));
    while (wait(0) > 0);
    char order[6] = {0};
    read(done[0], order, 5);
    printf("order %s\n", order);
}

static void *waits(void *fd) {
    int r = lock(*(int *)fd, F_SETLKW, F_WRLCK, 0, 1);
    printf("the thread: %s\n", r ? strerror(errno) : "ok");
    return 0;
}

// A descriptor is closed while another thread waits for a lock by it.
static void closed_meanwhile(int fd) {
    int p[2]; pipe(p);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        lock(fd, F_SETLK, F_WRLCK, 0, 1);
        write(p[1], "x", 1);
        usleep(200000);
        _exit(0);
    }
    char b; read(p[0], &b, 1);
    int g = dup(fd);
    pthread_t t; pthread_create(&t, 0, waits, &g);
    usleep(80000);
    close(g);
    pthread_join(t, 0);
    waitpid(child, 0, 0);
    run(look, fd);
}

static void keep(int fd) {
    char n[16]; sprintf(n, "%d", fd);
    SAY(lock(fd, F_SETLK, F_WRLCK, 7, 1));
    execl("/proc/self/exe", "locks", n, (char *)0);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        // After an exec: the lock is still the process's own.
        SAY(lock(atoi(argv[1]), F_SETLK, F_WRLCK, 7, 1));
        run(look, atoi(argv[1]));
        return 0;
    }
    char dir[] = "/tmp/locksXXXXXX";
    if (!mkdtemp(dir) || chdir(dir)) return 1;
    int fd = open("f", O_RDWR | O_CREAT, 0600);
    arguments(fd);
    run(pieces, fd);
    run(descriptions, fd);
    run(flocks, fd);
    SAY(lock(fd, F_SETLK, F_WRLCK, 0, 1));
    int g = open("f", O_RDWR);
    SAY(flock(g, LOCK_EX));
    run(interrupted, fd);
    SAY(flock(g, LOCK_UN));
    SAY(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    run(hold_and_die, fd);
    SAY(lock(fd, F_SETLK, F_WRLCK, 500, 1));
    SAY(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    run(circle, fd);
    run(queue, fd);
    run(closed_meanwhile, fd);
    run(keep, fd);
    unlink("f"); chdir("/"); rmdir(dir);
    return 0;
}
