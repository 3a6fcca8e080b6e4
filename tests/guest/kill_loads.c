// Loads for tests/host_kill.rs, each of which goes on until it is killed:
//   kill_loads tcp | pty | sem | mq | threads
// A process ends when its peer does: the other end of its connection, terminal or pipe.
#define _GNU_SOURCE
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void die_unless(int ok) {
    if (!ok) _exit(1);
}

static void tcp(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    die_unless(bind(listener, (void *)&at, sizeof at) == 0 && listen(listener, 8) == 0);
    die_unless(getsockname(listener, (void *)&at, &len) == 0);
    if (fork() == 0) {
        close(listener);
        for (;;) {
            char block[3000] = {0};
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            die_unless(connect(fd, (void *)&at, sizeof at) == 0);
            for (int i = 0; i < 20; i++) {
                if (write(fd, block, sizeof block) < 0 || read(fd, block, sizeof block) <= 0) break;
            }
            close(fd);
        }
    }
    for (;;) {
        char block[3000];
        struct pollfd p = {.fd = listener, .events = POLLIN};
        // The other end may be gone: then nobody connects any more.
        die_unless(poll(&p, 1, 2000) == 1);
        int fd = accept(listener, 0, 0);
        die_unless(fd >= 0);
        ssize_t n;
        while ((n = read(fd, block, sizeof block)) > 0) {
            if (write(fd, block, n) != n) break;
        }
        close(fd);
    }
}

static void pty(void) {
    for (;;) {
        int master, slave;
        char line[64];
        die_unless(openpty(&master, &slave, 0, 0, 0) == 0);
        pid_t child = fork();
        if (child == 0) {
            close(master);
            for (int i = 0; i < 50; i++) {
                if (read(slave, line, sizeof line) <= 0 || write(slave, "answer\n", 7) != 7) break;
            }
            _exit(0);
        }
        close(slave);
        for (int i = 0; i < 50; i++) {
            if (write(master, "question\n", 9) != 9 || read(master, line, sizeof line) <= 0) break;
        }
        close(master);
        die_unless(waitpid(child, 0, 0) == child);
    }
}

static void sem(void) {
    int id = semget(IPC_PRIVATE, 2, 0600), queue = msgget(IPC_PRIVATE, 0600);
    die_unless(id >= 0 && queue >= 0);
    fork();
    for (;;) {
        struct sembuf up = {0, 1, SEM_UNDO}, down = {0, -1, SEM_UNDO}, nowait = {1, -1, IPC_NOWAIT};
        struct { long type; char text[200]; } message = {1, "message"};
        die_unless(semop(id, &up, 1) == 0 && semop(id, &down, 1) == 0);
        semop(id, &nowait, 1);
        if (msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT) == 0) {
            msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT);
        }
    }
}

static void mq(void) {
    char name[32];
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 100};
    snprintf(name, sizeof name, "/load-%d", getpid());
    mqd_t q = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &attr);
    die_unless(q != (mqd_t)-1);
    fork();
    for (;;) {
        char text[100] = "message";
        mq_send(q, text, 10, rand() % 4);
        mq_receive(q, text, sizeof text, 0);
        mqd_t again = mq_open(name, O_RDWR);
        if (again != (mqd_t)-1) mq_close(again);
    }
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int ends[2];

static void *thread(void *arg) {
    for (int i = 0; i < 100; i++) {
        char c;
        pthread_mutex_lock(&lock);
        if (write(ends[1], "x", 1) != 1 || read(ends[0], &c, 1) != 1) _exit(1);
        pthread_mutex_unlock(&lock);
    }
    return arg;
}

static void threads(void) {
    die_unless(pipe(ends) == 0);
    for (;;) {
        pthread_t t[4];
        for (int i = 0; i < 4; i++) die_unless(pthread_create(&t[i], 0, thread, 0) == 0);
        for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
    }
}

// kill_loads left poll | read | fifo | accept: what a child that the host ends has held or waited for. It says "ready"
// when that can begin, and "seen" when the rest of the world has noticed.
static void *reader(void *fd) {
    char c;
    read(*(int *)fd, &c, 1);
    return 0;
}

static void hold(const char *how, int fd) {
    if (!strcmp(how, "poll")) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        poll(&p, 1, -1);
    } else if (!strcmp(how, "read")) {
        // With a second thread the table is shared, so calls count their references.
        pthread_t other;
        pthread_create(&other, 0, reader, &fd);
        pthread_join(other, 0);
    } else if (!strcmp(how, "fifo")) {
        open("/tmp/left-fifo", O_WRONLY);
    }
    for (;;) pause();
}

static void ready(void) {
    // So that those who are to wait do.
    usleep(100000);
    puts("ready");
    fflush(stdout);
}

static void left_accept(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), told[2];
    die_unless(bind(listener, (void *)&at, sizeof at) == 0 && listen(listener, 8) == 0);
    die_unless(getsockname(listener, (void *)&at, &len) == 0 && pipe(told) == 0);
    for (int i = 0; i < 2; i++) {
        if (fork() == 0) {
            die_unless(accept(listener, 0, 0) >= 0);
            write(told[1], "x", 1);
            for (;;) pause();
        }
        // In this order.
        usleep(100000);
    }
    ready();
    char c;
    // The test's word that the first one is gone.
    die_unless(read(0, &c, 1) == 1);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    die_unless(connect(fd, (void *)&at, sizeof at) == 0 && read(told[0], &c, 1) == 1);
}

static void left(const char *how) {
    char c;
    int ends[2];
    if (!strcmp(how, "accept")) {
        left_accept();
    } else {
        mkfifo("/tmp/left-fifo", 0600);
        die_unless(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        if (fork() == 0) {
            close(ends[1]);
            hold(how, ends[0]);
        }
        close(ends[0]);
        ready();
        die_unless(read(0, &c, 1) == 1);
        if (!strcmp(how, "fifo")) {
            int fd = open("/tmp/left-fifo", O_RDONLY | O_NONBLOCK);
            die_unless(fd >= 0 && read(fd, &c, 1) == 0);
        }
        die_unless(read(ends[1], &c, 1) == 0);
    }
    puts("seen");
    exit(0);
}

int main(int argc, char **argv) {
    if (argc > 2) left(argv[2]);
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "tcp")) tcp();
    if (!strcmp(what, "pty")) pty();
    if (!strcmp(what, "sem")) sem();
    if (!strcmp(what, "mq")) mq();
    if (!strcmp(what, "threads")) threads();
    return 2;
}
