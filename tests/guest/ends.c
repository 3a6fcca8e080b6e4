/* Processes that end in every way there is: `ends ROUNDS` goes through all of them so often, writes `calm`, waits for a
 * line on standard input, and does it again, until the input ends. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAYS = 10, THREADS = 3 };

static char *self;

static void *sleeps(void *arg) {
    pause();
    return arg;
}

static void *exits(void *arg) { _exit(0); }

static void *execs(void *arg) {
    execl(self, self, (char *)0);
    _exit(127);
}

static void end(int way) {
    pthread_t t;
    if (way >= 4)
        for (int i = 0; i < THREADS; i++)
            pthread_create(&t, 0, sleeps, 0);
    switch (way) {
    case 0: case 4: _exit(0);
    case 1: case 5: raise(SIGTERM); break;
    case 2: case 6: raise(SIGKILL); break;
    case 3: execl(self, self, (char *)0); break;
    case 7: pthread_create(&t, 0, exits, 0); break;
    /* The first thread ends before the others. */
    case 8:
        pthread_create(&t, 0, exits, 0);
        syscall(SYS_exit, 0);
        break;
    case 9: pthread_create(&t, 0, execs, 0); break;
    }
    pause();
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc < 2)
        return 0;
    prctl(PR_SET_DUMPABLE, 0);
    for (char line[8]; fgets(line, sizeof line, stdin);) {
        for (int i = 0; i < WAYS * atoi(argv[1]); i++) {
            pid_t p = fork();
            if (p == 0)
                end(i % WAYS);
            int status;
            if (p < 0 || waitpid(p, &status, 0) != p)
                return 1;
        }
        printf("calm\n");
        fflush(stdout);
    }
    return 0;
}
