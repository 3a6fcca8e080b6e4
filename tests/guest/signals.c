/* Signals: handlers and their records, queued real-time signals, waiting for them, stops and
 * continuations, faults with siglongjmp, the alternate stack, and what a parent hears. Prints the
 * same wherever it runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;

static void tell(int sig, siginfo_t *info, void *context)
{
    (void)context;
    printf("signal %d code %d own %d\n", sig, info->si_code, info->si_pid == getpid());
}

static void fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    printf("fault %d at %p err %d\n", sig, info->si_addr, (int)uc->uc_mcontext.gregs[REG_ERR]);
    siglongjmp(back, 1);
}

static void on_stack(int sig, siginfo_t *info, void *context)
{
    stack_t st;
    (void)sig, (void)info, (void)context;
    sigaltstack(NULL, &st);
    printf("alternate stack %d\n", st.ss_flags == SS_ONSTACK);
}

static void *waiter(void *arg)
{
    sigset_t set;
    int sig;
    (void)arg;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigwait(&set, &sig);
    printf("sigwait %d\n", sig == SIGUSR2);
    return NULL;
}

static void queued(void)
{
    sigset_t set;
    siginfo_t info;
    struct timespec ms = {0, 1000000};
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < 3; i++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
    for (int i = 0; i < 4; i++) {
        int r = sigtimedwait(&set, &info, &ms);
        printf("queued %d %d\n", r > 0, r > 0 ? info.si_value.sival_int : errno == EAGAIN);
    }
}

static void children(void)
{
    int status;
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    printf("stopped %d\n", WIFSTOPPED(status));
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    printf("continued %d\n", WIFCONTINUED(status));
    kill(child, SIGTERM);
    waitpid(child, &status, 0);
    printf("killed by %d\n", WTERMSIG(status));
    siginfo_t info;
    if ((child = fork()) == 0)
        abort();
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    printf("waitid %d\n", info.si_status);
    waitpid(child, &status, 0);
    printf("aborted by %d\n", WTERMSIG(status));
    printf("nobody left %d\n", wait(NULL) < 0 && errno == ECHILD);
    signal(SIGCHLD, SIG_IGN);
    if ((child = fork()) == 0)
        _exit(0);
    printf("vanished %d\n", waitpid(child, &status, 0) < 0 && errno == ECHILD);
    signal(SIGCHLD, SIG_DFL);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    queued();
    children();

    action.sa_sigaction = fault;
    sigaction(SIGSEGV, &action, NULL);
    for (volatile int i = 0; i < 2; i++)
        if (!sigsetjmp(back, 1))
            *(volatile int *)8 = 1;

    stack_t st = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&st, NULL);
    action.sa_sigaction = on_stack;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, waiter, NULL);
    usleep(10000);
    kill(getpid(), SIGUSR2);
    pthread_join(thread, NULL);
    return 0;
}
