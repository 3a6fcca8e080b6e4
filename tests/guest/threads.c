/* Threads and processes: many short ones, exit and death with threads that sleep and spin, exec from
 * a thread that is not the leader, a leader that ends first, vfork and its errors, orphans. Prints the
 * same wherever it runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void *one_more(void *arg)
{
    return (void *)((long)arg + 1);
}

static void *sleeps(void *arg)
{
    for (;;)
        pause();
    return arg;
}

static void *spins(void *arg)
{
    for (volatile long i = 0;; i++)
        ;
    return arg;
}

static void *execs(void *arg)
{
    usleep(10000);
    execl("/bin/echo", "echo", "exec from a thread", (char *)NULL);
    return arg;
}

static void crowd(void)
{
    pthread_t thread;
    for (int i = 0; i < 4; i++)
        pthread_create(&thread, NULL, i & 1 ? sleeps : spins, NULL);
    usleep(5000);
}

static int ended(void)
{
    int status;
    fflush(stdout);
    while (wait(&status) < 0 && errno == EINTR)
        ;
    return status;
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    long sum = 0;
    for (int round = 0; round < 50; round++) {
        pthread_t threads[8];
        void *value;
        for (long i = 0; i < 8; i++)
            pthread_create(&threads[i], NULL, one_more, (void *)i);
        for (int i = 0; i < 8; i++) {
            pthread_join(threads[i], &value);
            sum += (long)value;
        }
    }
    printf("sum %ld\n", sum);

    pthread_t thread;
    if (fork() == 0) {
        crowd();
        exit(7);
    }
    printf("exit %x\n", ended());
    if (fork() == 0) {
        crowd();
        kill(getpid(), SIGTERM);
        sleeps(NULL);
    }
    printf("killed %x\n", ended());
    if (fork() == 0) {
        crowd();
        pthread_create(&thread, NULL, execs, NULL);
        sleeps(NULL);
    }
    printf("exec %x\n", ended());
    if (fork() == 0) {
        pthread_create(&thread, NULL, execs, NULL);
        pthread_exit(NULL);
    }
    printf("leader first %x\n", ended());

    if (vfork() == 0) {
        execl("/bin/echo", "echo", "vforked", (char *)NULL);
        _exit(1);
    }
    printf("vfork %x\n", ended());
    static volatile int reason;
    if (vfork() == 0) {
        execl("/nonexistent", "x", (char *)NULL);
        reason = errno;
        _exit(1);
    }
    printf("failed exec %x, %d\n", ended(), reason == ENOENT);

    for (int i = 0; i < 100; i++) {
        if (fork() == 0)
            _exit(i);
        int status = ended();
        if (WEXITSTATUS(status) != i)
            printf("child %d said %x\n", i, status);
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (fork() == 0) {
        if (fork() == 0) {
            usleep(20000);
            _exit(9);
        }
        _exit(0);
    }
    printf("parent %x\n", ended());
    printf("orphan %x\n", ended());
    return 0;
}
