// System V semaphores: all or nothing, order, undo, who waits, and what ends a wait.
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sysv.h"
#define VAL(e) do { errno = 0; long r_ = (long)(e); if (r_ == -1 && errno) printf("%s: %s\n", #e, strerror(errno)); else printf("%s = %ld\n", #e, r_); fflush(stdout); } while (0)
#define OPS(...) ((struct sembuf[]){__VA_ARGS__})

static int op(int id, int num, int by, int flags) { return semop(id, OPS({num, by, flags}), 1); }

static pid_t later(int id, struct sembuf *ops, int n, const char *what) {
    pid_t p = apart();
    if (!p) {
        int r = semop(id, ops, n);
        printf("%s: %s\n", what, r < 0 ? strerror(errno) : "ok");
        fflush(stdout);
        _exit(0);
    }
    return p;
}

static void until(int id, int num, int command, int count) {
    while (semctl(id, num, command) != count) usleep(1000);
}

static void none(int sig) { (void)sig; }
static void *exits(void *arg) { op(*(int *)arg, 0, -1, SEM_UNDO); return 0; }
static int shares(void *arg) { op(*(int *)arg, 0, -1, SEM_UNDO); return 0; }

static void values(const char *when, int id, int n) {
    unsigned short v[8];
    if (semctl(id, 0, GETALL, v) < 0) { printf("%s: %s\n", when, strerror(errno)); return; }
    printf("%s:", when);
    for (int i = 0; i < n; i++) printf(" %d", v[i]);
    printf("\n");
    fflush(stdout);
}

static void arguments(int id) {
    struct sembuf many[501] = {{0}};
    SAY(semget(IPC_PRIVATE, 0, 0600));
    SAY(semget(IPC_PRIVATE, -1, 0600));
    SAY(semget(IPC_PRIVATE, 32001, 0600));
    SAY(semop(id, many, 0));
    SAY(semop(id, many, 500));
    SAY(semop(id, many, 501));
    SAY(semop(-1, many, 1));
    SAY(semop(id, (void *)1, 1));
    SAY(op(id, 4, 1, 0));
    SAY(op(id + (1 << 15), 0, 1, 0));
    SAY(semctl(id, 4, GETVAL));
    SAY(semctl(id, -1, GETVAL));
    SAY(semctl(id, 0, SETVAL, 32768));
    SAY(semctl(id, 0, SETVAL, -1));
    SAY(semctl(id, 4, SETVAL, 1));
    SAY(semctl(id, 0, 99));
    SAY(semctl(-1, 0, GETVAL));
    SAY(semctl(id, 0, GETALL, (void *)1));
    SAY(semctl(id, 0, SETALL, (void *)1));
    SAY(semctl(id, 0, SETALL, ((unsigned short[]){1, 2, 40000, 3})));
    SAY(semctl(id, 0, IPC_STAT, (void *)1));
    values("untouched", id, 4);
    SAY(semctl(id, 0, SETALL, ((unsigned short[]){1, 2, 0, 32767})));
    SAY(op(id, 3, 1, 0));
    SAY(semop(id, OPS({0, -1, 0}, {3, 1, 0}), 2));
    SAY(semop(id, OPS({0, -1, 0}, {2, -1, IPC_NOWAIT}), 2));
    SAY(semop(id, OPS({1, 0, IPC_NOWAIT}, {0, -1, 0}), 2));
    SAY(semop(id, OPS({0, 3, 0}, {0, -4, 0}, {0, 0, 0}, {0, 1, 0}), 4));
    values("all or nothing", id, 4);
    struct timespec t = {0, 10000000}, bad = {0, 1000000000};
    SAY(semtimedop(id, OPS({2, -1, 0}), 1, &t));
    SAY(semtimedop(id, OPS({2, -1, 0}), 1, &bad));
    SAY(semtimedop(id, OPS({2, 0, 0}), 1, &bad));
    SAY(semtimedop(id, OPS({2, -1, 0}), 1, (void *)1));
    VAL(semctl(id, 0, GETPID) == getpid());
    VAL(semctl(id, 3, GETPID) == getpid());
    struct seminfo info;
    semctl(0, 0, IPC_INFO, &info);
    printf("info %d %d %d %d %d %d\n", info.semvmx, info.semaem, info.semusz, info.semume, info.semmap, info.semmnu);
    semctl(0, 0, SEM_INFO, &info);
    printf("sets %d semaphores %d\n", info.semusz > 0, info.semaem >= 4);
}

static void order(int id) {
    SAY(semctl(id, 0, SETALL, ((unsigned short[4]){0})));
    pid_t a = later(id, OPS({0, -2, 0}), 1, "two of the first");
    until(id, 0, GETNCNT, 1);
    pid_t b = later(id, OPS({0, -1, 0}), 1, "one of the first");
    until(id, 0, GETNCNT, 2);
    op(id, 0, 1, 0);
    join(b);
    op(id, 0, 2, 0);
    join(a);
    pid_t z = later(id, OPS({1, 0, 0}, {0, 1, 0}), 2, "zero, then up");
    join(z);
    op(id, 1, 2, 0);
    z = later(id, OPS({1, 0, 0}), 1, "zero");
    until(id, 1, GETZCNT, 1);
    pid_t both = later(id, OPS({1, -2, 0}, {2, -1, 0}), 2, "both");
    until(id, 2, GETNCNT, 1);
    printf("waiting %d %d %d\n", semctl(id, 1, GETNCNT), semctl(id, 1, GETZCNT), semctl(id, 2, GETZCNT));
    op(id, 2, 1, 0);
    join(both);
    join(z);
    values("in the end", id, 4);
    // What was set wakes as well.
    a = later(id, OPS({3, -1, 0}), 1, "by SETVAL");
    until(id, 3, GETNCNT, 1);
    SAY(semctl(id, 3, SETVAL, 5));
    join(a);
    a = later(id, OPS({3, 0, 0}), 1, "by SETALL");
    until(id, 3, GETZCNT, 1);
    SAY(semctl(id, 0, SETALL, ((unsigned short[4]){0})));
    join(a);
    // A signal ends it, whatever the handler's flags.
    struct sigaction act = {.sa_handler = none, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &act, 0);
    a = later(id, OPS({3, -1, 0}), 1, "a signal");
    until(id, 3, GETNCNT, 1);
    kill(a, SIGUSR1);
    join(a);
    a = later(id, OPS({3, -1, 0}), 1, "killed");
    until(id, 3, GETNCNT, 1);
    kill(a, SIGKILL);
    join(a);
    VAL(semctl(id, 3, GETNCNT));
}

static void undo(int id) {
    SAY(semctl(id, 0, SETALL, ((unsigned short[4]){5, 0, 0, 0})));
    IN_CHILD(op(id, 0, -3, SEM_UNDO); op(id, 1, 4, SEM_UNDO); op(id, 1, 1, 0); values("in the child", id, 4));
    values("put back", id, 4);
    VAL(semctl(id, 0, GETPID) == getpid());
    IN_CHILD(op(id, 0, -3, SEM_UNDO); semctl(id, 0, SETVAL, 9));
    values("forgotten by SETVAL", id, 4);
    IN_CHILD(op(id, 0, -3, SEM_UNDO); semctl(id, 0, SETALL, ((unsigned short[]){7, 1, 1, 1})));
    values("forgotten by SETALL", id, 4);
    IN_CHILD(op(id, 0, 5, SEM_UNDO); op(id, 0, -11, 0));
    values("not below zero", id, 4);
    IN_CHILD(for (int i = 0; i < 2; i++) { SAY(op(id, 0, 32767, SEM_UNDO)); SAY(op(id, 0, -32767, IPC_NOWAIT)); });
    values("too much to undo", id, 4);
    SAY(semctl(id, 0, SETVAL, 3));
    IN_CHILD(
        pthread_t t; pthread_create(&t, 0, exits, &id); pthread_join(t, 0);
        values("a thread ended", id, 4);
    );
    values("its process ended", id, 4);
    static char stack[65536];
    fflush(stdout);
    int child = clone(shares, stack + sizeof stack, CLONE_SYSVSEM | SIGCHLD, &id);
    waitpid(child, 0, 0);
    values("a sharer ended", id, 4);
    IN_CHILD(op(id, 0, -1, SEM_UNDO); execl("/bin/true", "true", (char *)0));
    values("after exec", id, 4);
    pid_t w = later(id, OPS({2, -3, 0}), 1, "woken by undo");
    until(id, 2, GETNCNT, 1);
    IN_CHILD(semctl(id, 2, SETVAL, 3); op(id, 3, 1, 0); op(id, 2, -3, SEM_UNDO | IPC_NOWAIT));
    semctl(id, 2, SETVAL, 3);
    join(w);
}

static void rights(int id) {
    struct semid_ds d;
    semctl(id, 0, IPC_STAT, &d);
    printf("mode %o count %lu otime %d ctime %d\n", d.sem_perm.mode, (unsigned long)d.sem_nsems, d.sem_otime != 0, d.sem_ctime != 0);
    d.sem_perm.mode = 01604; d.sem_perm.uid = 4001;
    SAY(semctl(id, 0, IPC_SET, &d));
    semctl(id, 0, IPC_STAT, &d);
    printf("mode %o uid %d cuid is mine %d\n", d.sem_perm.mode, d.sem_perm.uid, d.sem_perm.cuid == geteuid());
    IN_CHILD(
        setgroups(0, 0); setresgid(4000, 4000, 4000); setresuid(4000, 4000, 4000);
        SAY(op(id, 0, 1, IPC_NOWAIT));
        SAY(op(id, 2, 0, IPC_NOWAIT));
        SAY(semctl(id, 0, GETVAL));
        SAY(semctl(id, 0, SETVAL, 1));
        SAY(semctl(id, 0, SETALL, (void *)1));
        SAY(semctl(id, 9, SETVAL, 1));
        SAY(semctl(id, 0, IPC_SET, &d));
        SAY(semctl(id, 0, IPC_RMID));
        SAY(semctl(id & 0x7fff, 0, 20, &d) == id ? 0 : -1);
    );
}

int main(void) {
    int id;
    SAY(id = semget(IPC_PRIVATE, 4, 0600));
    arguments(id);
    order(id);
    undo(id);
    rights(id);
    pid_t a = later(id, OPS({3, -100, 0}), 1, "removed");
    until(id, 3, GETNCNT, 1);
    SAY(semctl(id, 0, IPC_RMID));
    join(a);
    SAY(op(id, 0, 1, 0));
    SAY(semctl(id, 0, IPC_RMID));
    return 0;
}
