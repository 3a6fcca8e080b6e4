/* Which signal a parent gets when a child ends: by clone's flags, for siblings, after exec, for an orphan. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OTHER 40

static volatile sig_atomic_t chld, other;
static void count(int sig) { sig == OTHER ? other++ : chld++; }

static long raw_clone(unsigned long flags) { return syscall(SYS_clone, flags, 0, 0, 0, 0); }

/* Reaps everything and says what came. */
static void report(const char *what) {
    int n = 0, st;
    for (;;) {
        int pid = waitpid(-1, &st, __WALL);
        if (pid > 0)
            n++;
        else if (errno != EINTR)
            break;
    }
    printf("%s: reaped %d, SIGCHLD %s, other %s\n", what, n, chld ? "yes" : "no", other ? "yes" : "no");
    fflush(stdout);
    chld = other = 0;
}

int main(void) {
    struct sigaction a = {.sa_handler = count};
    sigaction(SIGCHLD, &a, 0);
    sigaction(OTHER, &a, 0);

    if (raw_clone(SIGCHLD) == 0)
        _exit(0);
    report("SIGCHLD");
    if (raw_clone(OTHER) == 0)
        _exit(0);
    report("another signal");
    if (raw_clone(0) == 0)
        _exit(0);
    report("none");
    /* Not a signal at all: the old call does not mind. */
    if (raw_clone(200) == 0)
        _exit(0);
    report("number 200");
    if (raw_clone(OTHER) == 0) {
        execl("/bin/true", "true", (char *)0);
        _exit(1);
    }
    report("after exec");

    /* A sibling announces itself as its maker does. */
    if (raw_clone(SIGCHLD) == 0)
        _exit(raw_clone(CLONE_PARENT | OTHER) == -1);
    report("sibling");
    if (raw_clone(OTHER) == 0)
        _exit(raw_clone(CLONE_PARENT | SIGCHLD) == -1);
    report("sibling of another signal");

    /* An orphan becomes an ordinary child. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (raw_clone(SIGCHLD) == 0) {
        if (raw_clone(OTHER) == 0) {
            usleep(50000);
            _exit(0);
        }
        _exit(0);
    }
    report("orphan");

    uint64_t args[8] = {CLONE_PARENT, 0, 0, 0, SIGCHLD};
    long r = syscall(SYS_clone3, args, sizeof args);
    printf("clone3 of a sibling with a signal: %s\n", r == -1 ? strerror(errno) : "made");
    args[0] = 0;
    args[4] = 65;
    r = syscall(SYS_clone3, args, sizeof args);
    printf("clone3 with signal 65: %s\n", r == -1 ? strerror(errno) : "made");
    return 0;
}
