/* What the programs of System V IPC print with: the error of a call, what a child says. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(e) do { long r_ = (long)(e); printf("%s: %s\n", #e, r_ == -1 ? strerror(errno) : "ok"); fflush(stdout); } while (0)
#define IN_CHILD(...) do { fflush(stdout); pid_t p_ = fork(); if (!p_) { __VA_ARGS__; fflush(stdout); _exit(0); } int s_; waitpid(p_, &s_, 0); if (s_) printf("status %x\n", s_); } while (0)

// What a child that waits prints is shown when it is joined.
static struct { pid_t pid; int from; } waiting[8];

static inline pid_t apart(void) {
    int p[2], i = 0;
    fflush(stdout);
    if (pipe(p)) abort();
    while (waiting[i].pid) i++;
    pid_t pid = fork();
    if (!pid) { dup2(p[1], 1); close(p[0]); close(p[1]); return 0; }
    close(p[1]);
    waiting[i].pid = pid; waiting[i].from = p[0];
    return pid;
}

static inline void join(pid_t pid) {
    for (int i = 0; i < 8; i++) if (waiting[i].pid == pid) {
        char text[512];
        int n, s;
        while ((n = read(waiting[i].from, text, sizeof text)) > 0) fwrite(text, 1, n, stdout);
        close(waiting[i].from);
        waitpid(pid, &s, 0);
        if (WIFSIGNALED(s)) printf("%s\n", strsignal(WTERMSIG(s)));
        waiting[i].pid = 0;
        fflush(stdout);
    }
}
