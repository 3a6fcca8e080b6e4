// System V shared memory: arguments, rights, what attaching maps, and when a segment ends.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sysv.h"

static void look(const char *when, int id) {
    struct shmid_ds d;
    if (shmctl(id, IPC_STAT, &d) < 0) { printf("%s: %s\n", when, strerror(errno)); return; }
    printf("%s: size %zu attached %lu mode %o key %s maker %s last %s times %d %d %d seq %d\n", when, d.shm_segsz,
        (unsigned long)d.shm_nattch, d.shm_perm.mode, d.shm_perm.__key ? "some" : "none",
        d.shm_cpid == getpid() ? "me" : "other", d.shm_lpid == getpid() ? "me" : d.shm_lpid ? "other" : "nobody",
        d.shm_atime != 0, d.shm_dtime != 0, d.shm_ctime != 0, (id >> 15) == d.shm_perm.__seq);
    fflush(stdout);
}

static char wanted[64];
static void maps(const char *what, void *at) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    while (fgets(line, sizeof line, f)) {
        unsigned long from, to, off, ino;
        char prot[8], dev[16], name[256] = "";
        sscanf(line, "%lx-%lx %7s %lx %15s %lu %255[^\n]", &from, &to, prot, &off, dev, &ino, name);
        if ((unsigned long)at >= from && (unsigned long)at < to)
            printf("%s: %lu pages %s offset %lx %s %s\n", what, (to - from) / 4096, prot, off, dev,
                strcmp(name + strspn(name, " "), wanted) ? name : "as the key says");
    }
    fclose(f);
    fflush(stdout);
}

static sigjmp_buf back;
static void fault(int sig) { siglongjmp(back, sig); }
static void touch(const char *what, volatile char *p, int write) {
    signal(SIGSEGV, fault); signal(SIGBUS, fault);
    int sig = sigsetjmp(back, 1);
    if (!sig) { if (write) *p = 1; else (void)*p; }
    printf("%s: %s\n", what, sig ? strsignal(sig) : "ok");
}

static void user(void) { setgroups(0, 0); setresgid(4000, 4000, 4000); setresuid(4000, 4000, 4000); }

int main(void) {
    key_t key = 0x6d000000 | (getpid() & 0xffff);
    sprintf(wanted, "/SYSV%08x (deleted)", key);
    SAY(shmget(key, 0, IPC_CREAT | 0600));
    SAY(shmget(key, 4096, 0600));
    int id;
    SAY(id = shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0640));
    look("new", id);
    SAY(shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0640));
    SAY(shmget(key, 5001, 0));
    SAY(shmget(key, 0, 0) == id ? 0 : -1);
    SAY(shmget(key, 10, IPC_CREAT) == id ? 0 : -1);
    SAY(shmget(IPC_PRIVATE, -1UL, 0600));
    SAY(shmat(-1, 0, 0));
    SAY(shmat(id + (1 << 15), 0, 0));
    SAY(shmat(id, (void *)12345, 0));
    SAY(shmat(id, 0, SHM_REMAP));
    SAY(shmat(id, (void *)4095, SHM_RND | SHM_REMAP));
    SAY(shmctl(id, 77, 0));
    SAY(shmctl(-1, IPC_STAT, 0));
    SAY(shmctl(id, IPC_STAT, (void *)1));

    char *p = shmat(id, 0, 0), *q = shmat(id, 0, SHM_RDONLY);
    strcpy(p, "seen");
    printf("%s\n", q);
    look("twice", id);
    maps("writable", p); maps("read-only", q);
    SAY(mprotect(q, 4096, PROT_READ | PROT_WRITE));
    touch("write to read-only", q, 1);
    touch("second page", p + 8191, 0);
    char *x = shmat(id, 0, SHM_EXEC);
    maps("executable", x);
    SAY(shmdt(x));

    char *room = mmap(0, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SAY(shmat(id, room, 0));
    SAY(shmat(id, room + 100, SHM_RND));
    SAY(shmat(id, room + 4096 + 100, SHM_RND | SHM_REMAP) == room + 4096 ? 0 : -1);
    printf("%s\n", room + 4096);
    look("three times", id);
    SAY(munmap(room + 8192, 4096));
    maps("cut", room + 4096);
    look("cut", id);
    SAY(shmdt(room + 8192));
    SAY(shmdt(room + 4097));
    SAY(shmdt(room + 4096));
    SAY(shmdt(room + 4096));
    look("back", id);

    int big = shmget(IPC_PRIVATE, 10 * 4096, 0600);
    char *b = shmat(big, 0, 0);
    SAY(munmap(b + 4 * 4096, 2 * 4096));
    look("a hole", big);
    SAY(mprotect(b, 4096, PROT_READ));
    look("three parts", big);
    SAY(mprotect(b, 4096, PROT_READ | PROT_WRITE));
    look("not joined", big);
    SAY(shmdt(b));
    look("all parts gone", big);
    SAY(shmctl(big, IPC_RMID, 0));
    SAY(shmctl(big, IPC_RMID, 0));

    IN_CHILD(
        look("in a child", id);
        strcpy(p, "by the child");
        look("child's", id);
    );
    printf("%s\n", q);
    look("child gone", id);
    IN_CHILD(execl("/bin/true", "true", (char *)0));
    look("child exec'ed", id);

    struct shmid_ds d;
    shmctl(id, IPC_STAT, &d);
    d.shm_perm.mode = 0604; d.shm_perm.uid = 4001; d.shm_perm.gid = 4000;
    SAY(shmctl(id, IPC_SET, &d));
    look("set", id);
    IN_CHILD(
        user();
        SAY(shmat(id, 0, SHM_RDONLY));
        SAY(shmat(id, 0, 0));
        SAY(shmget(key, 0, 0));
        SAY(shmget(key, 0, 0400));
        SAY(shmctl(id, IPC_STAT, &d));
        SAY(shmctl(id, IPC_SET, &d));
        SAY(shmctl(id, IPC_RMID, 0));
        SAY(shmctl(id, SHM_LOCK, 0));
        struct shmid_ds e;
        int index = id & 0x7fff;
        SAY(shmctl(index, SHM_STAT, &e));
        SAY(shmctl(index, 15, &e) == id ? 0 : -1);
    );
    d.shm_perm.uid = 4000;
    SAY(shmctl(id, IPC_SET, &d));
    IN_CHILD(
        user();
        SAY(shmat(id, 0, 0));
        struct rlimit none = {0, 0};
        SAY(shmctl(id, SHM_LOCK, 0)); look("locked", id);
        SAY(shmctl(id, SHM_UNLOCK, 0));
        setrlimit(RLIMIT_MEMLOCK, &none);
        SAY(shmctl(id, SHM_LOCK, 0));
        SAY(shmctl(id, SHM_UNLOCK, 0));
    );

    struct shminfo limits;
    SAY(shmctl(0, IPC_INFO, (void *)&limits));
    printf("min %lu most %lu per process %lu\n", limits.shmmin, limits.shmmni, limits.shmseg);
    struct shm_info sums;
    SAY(shmctl(0, SHM_INFO, (void *)&sums));
    printf("some %d pages %d resident %d\n", sums.used_ids > 0, sums.shm_tot >= 2, sums.shm_rss >= 1);

    SAY(shmctl(id, IPC_RMID, 0));
    look("removed", id);
    SAY(shmget(key, 0, 0));
    maps("removed", p);
    char *again;
    SAY(again = shmat(id, 0, 0));
    printf("%s\n", again);
    SAY(shmdt(again)); SAY(shmdt(p));
    printf("%s\n", q);
    look("one left", id);
    SAY(shmdt(q));
    look("gone", id);
    touch("after the end", q, 0);

    // A futex in a segment is one word wherever it is attached.
    id = shmget(IPC_PRIVATE, 4096, 0600);
    unsigned *one = shmat(id, 0, 0), *two = shmat(id, 0, 0);
    SAY(shmctl(id, IPC_RMID, 0));
    fflush(stdout);
    pid_t child = fork();
    if (!child) { syscall(SYS_futex, two, FUTEX_WAIT, 0, 0, 0, 0); _exit(*two); }
    while (usleep(1000), *one = 7, syscall(SYS_futex, one, FUTEX_WAKE, 1, 0, 0, 0) == 0 && waitpid(child, 0, WNOHANG) == 0) *one = 0;
    printf("woken\n");
    waitpid(child, 0, 0);
    return 0;
}
