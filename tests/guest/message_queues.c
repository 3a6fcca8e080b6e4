// System V message queues: types, limits, waiting, rights.
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sysv.h"

struct m { long type; char text[9000]; };

static int put(int id, long type, const char *text, int flags) {
    struct m m = {type, ""};
    strcpy(m.text, text);
    return msgsnd(id, &m, strlen(text), flags);
}

static void get(int id, size_t len, long type, int flags) {
    struct m m = {0, ""};
    ssize_t n = msgrcv(id, &m, len, type, flags);
    if (n < 0) printf("type %ld: %s\n", type, strerror(errno));
    else printf("type %ld: %ld \"%.*s\"\n", type, m.type, (int)n, m.text);
    fflush(stdout);
}

static void look(const char *when, int id) {
    struct msqid_ds d;
    if (msgctl(id, IPC_STAT, &d) < 0) { printf("%s: %s\n", when, strerror(errno)); return; }
    printf("%s: %lu messages %lu bytes of %lu, mode %o, sent %d by %s, received %d by %s\n", when,
        (unsigned long)d.msg_qnum, (unsigned long)d.__msg_cbytes, (unsigned long)d.msg_qbytes, d.msg_perm.mode,
        d.msg_stime != 0, d.msg_lspid == getpid() ? "me" : d.msg_lspid ? "other" : "nobody",
        d.msg_rtime != 0, d.msg_lrpid == getpid() ? "me" : d.msg_lrpid ? "other" : "nobody");
    fflush(stdout);
}

static void state(const char *what, pid_t p) {
    (void)what;
    // Until it sleeps.
    for (;;) {
        char name[64], c = 0;
        sprintf(name, "/proc/%d/stat", p);
        FILE *f = fopen(name, "r");
        if (f) { if (fscanf(f, "%*d (%*[^)]) %c", &c) != 1) c = 0; fclose(f); }
        if (c == 'S') { usleep(20000); return; }
        usleep(1000);
    }
}

static pid_t receiver(int id, size_t len, long type, int flags) {
    pid_t p = apart();
    if (!p) { get(id, len, type, flags); _exit(0); }
    state("receiver", p);
    return p;
}

static pid_t sender(int id, long type, const char *text, const char *what) {
    pid_t p = apart();
    if (!p) { int r = put(id, type, text, 0); printf("%s: %s\n", what, r < 0 ? strerror(errno) : "ok"); fflush(stdout); _exit(0); }
    state("sender", p);
    return p;
}

static void none(int sig) { (void)sig; }

int main(void) {
    key_t key = 0x6e000000 | (getpid() & 0xffff);
    int id;
    SAY(msgget(key, 0600));
    SAY(id = msgget(key, IPC_CREAT | 0600));
    SAY(msgget(key, IPC_CREAT | IPC_EXCL | 0600));
    SAY(msgget(key, 0) == id ? 0 : -1);
    look("new", id);
    SAY(put(id, 0, "x", 0));
    SAY(put(id, -1, "x", 0));
    SAY(put(-1, 1, "x", 0));
    SAY(put(id + (1 << 15), 1, "x", 0));
    SAY(msgsnd(id, (void *)1, 1, 0));
    SAY(msgsnd(id, &(struct m){1, ""}, 8193, 0));
    SAY(msgsnd(id, &(struct m){1, ""}, -1, 0));
    SAY(msgrcv(id, &(struct m){1, ""}, -1, 0, IPC_NOWAIT));
    SAY(msgrcv(-1, &(struct m){1, ""}, 1, 0, IPC_NOWAIT));
    get(id, 10, 0, IPC_NOWAIT);
    SAY(msgctl(id, 77, 0));
    SAY(msgctl(id, IPC_STAT, (void *)1));

    const char *words[] = {"three", "one", "five", "one again", "two", ""};
    long types[] = {3, 1, 5, 1, 2, 9};
    for (int i = 0; i < 6; i++) put(id, types[i], words[i], 0);
    look("six", id);
    for (int i = 0; i < 7; i++) get(id, 100, i, MSG_COPY | IPC_NOWAIT);
    get(id, 2, 0, MSG_COPY | IPC_NOWAIT);
    get(id, 2, 0, MSG_COPY | IPC_NOWAIT | MSG_NOERROR);
    get(id, 100, 0, MSG_COPY);
    get(id, 100, 0, MSG_COPY | MSG_EXCEPT | IPC_NOWAIT);
    get(id, 100, 4, IPC_NOWAIT);
    get(id, 2, 3, IPC_NOWAIT);
    get(id, 100, -2, IPC_NOWAIT);
    get(id, 100, 3, MSG_EXCEPT | IPC_NOWAIT);
    get(id, 2, 0, MSG_NOERROR | IPC_NOWAIT);
    get(id, 100, LONG_MIN, IPC_NOWAIT);
    get(id, 0, 9, IPC_NOWAIT);
    get(id, 100, 0, IPC_NOWAIT);
    get(id, 100, 0, IPC_NOWAIT);
    look("empty", id);

    // Receivers in order, by what they take.
    pid_t a = receiver(id, 100, 5, 0), b = receiver(id, 1, 0, 0), c = receiver(id, 100, -4, 0);
    SAY(put(id, 4, "four", 0));
    join(b); join(c);
    SAY(put(id, 5, "five", 0));
    join(a);
    look("handed over", id);

    struct msqid_ds d;
    msgctl(id, IPC_STAT, &d);
    d.msg_qbytes = 10;
    SAY(msgctl(id, IPC_SET, &d));
    SAY(put(id, 1, "123456", IPC_NOWAIT));
    SAY(put(id, 1, "12345", IPC_NOWAIT));
    a = sender(id, 2, "12345", "a sender that waits");
    look("full", id);
    get(id, 100, 1, 0);
    join(a);
    get(id, 100, 0, 0);
    for (int i = 0; i < 10; i++) put(id, 1, "", IPC_NOWAIT);
    SAY(put(id, 1, "", IPC_NOWAIT));
    look("as many as bytes", id);
    a = sender(id, 7, "late", "more room");
    d.msg_qbytes = 20;
    SAY(msgctl(id, IPC_SET, &d));
    join(a);
    for (int i = 0; i < 10; i++) msgrcv(id, &(struct m){0, ""}, 10, 1, 0);
    get(id, 100, 0, 0);

    struct sigaction act = {.sa_handler = none, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &act, 0);
    a = receiver(id, 100, 0, 0);
    kill(a, SIGUSR1);
    join(a);
    a = receiver(id, 100, 0, 0);
    kill(a, SIGSTOP); usleep(20000); kill(a, SIGCONT); usleep(20000);
    SAY(put(id, 1, "after a stop", 0));
    join(a);
    a = receiver(id, 100, 0, 0);
    kill(a, SIGKILL);
    join(a);
    SAY(put(id, 1, "for nobody", 0));
    look("kept", id);
    get(id, 100, 0, 0);

    d.msg_perm.mode = 0604; d.msg_perm.uid = 4001; d.msg_qbytes = 100;
    SAY(msgctl(id, IPC_SET, &d));
    IN_CHILD(
        setgroups(0, 0); setresgid(4000, 4000, 4000); setresuid(4000, 4000, 4000);
        SAY(put(id, 1, "x", IPC_NOWAIT));
        get(id, 100, 0, IPC_NOWAIT);
        SAY(msgctl(id, IPC_SET, &d));
        SAY(msgctl(id, IPC_RMID, 0));
        SAY(msgget(key, 0200));
        struct msqid_ds e;
        SAY(msgctl(id & 0x7fff, MSG_STAT, &e) == id ? 0 : -1);
        SAY(msgctl(id & 0x7fff, 13, &e) == id ? 0 : -1);
    );
    d.msg_perm.uid = 4000;
    SAY(msgctl(id, IPC_SET, &d));
    IN_CHILD(
        setgroups(0, 0); setresgid(4000, 4000, 4000); setresuid(4000, 4000, 4000);
        d.msg_qbytes = 16384;
        SAY(msgctl(id, IPC_SET, &d));
        d.msg_qbytes = 16385;
        SAY(msgctl(id, IPC_SET, &d));
    );
    struct msginfo info;
    SAY(msgctl(0, IPC_INFO, (void *)&info) < 0 ? -1 : 0);
    printf("%d %d %d %d %d\n", info.msgpool, info.msgmap, info.msgssz, info.msgtql, info.msgseg);

    a = receiver(id, 100, 0, 0);
    d.msg_qbytes = 1;
    SAY(msgctl(id, IPC_SET, &d));
    b = sender(id, 1, "too much", "a sender");
    SAY(msgctl(id, IPC_RMID, 0));
    join(a); join(b);
    look("gone", id);
    SAY(put(id, 1, "x", 0));
    return 0;
}
