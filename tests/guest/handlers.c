/* Signals: handlers, siginfo, masks, altstack, restart, faults, real-time queues, longjmp. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int count, last_code, last_value, on_alt;
static volatile long last_addr, last_trap;
static sigjmp_buf env;
static char alt[65536];

static void handler(int sig, siginfo_t *info, void *ctx)
{
	char here;
	count++;
	last_code = info->si_code;
	last_value = info->si_value.sival_int;
	on_alt = &here >= alt && &here < alt + sizeof alt;
}

static void fault(int sig, siginfo_t *info, void *ctx)
{
	ucontext_t *uc = ctx;
	last_code = info->si_code;
	last_addr = (long)info->si_addr;
	last_trap = uc->uc_mcontext.gregs[REG_TRAPNO];
	siglongjmp(env, sig);
}

static void install(int sig, void *f, int flags)
{
	struct sigaction sa = { .sa_sigaction = f, .sa_flags = SA_SIGINFO | flags };
	sigaction(sig, &sa, NULL);
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	install(SIGUSR1, handler, 0);
	raise(SIGUSR1);
	printf("raise: %d code %d\n", count, last_code);
	kill(getpid(), SIGUSR1);
	printf("kill: %d code %d\n", count, last_code);

	sigset_t set, old, pending;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	raise(SIGUSR1);
	raise(SIGUSR1);
	sigpending(&pending);
	printf("blocked: %d pending %d\n", count, sigismember(&pending, SIGUSR1));
	sigprocmask(SIG_SETMASK, &old, NULL);
	printf("unblocked: %d\n", count);

	install(SIGRTMIN, handler, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, &old);
	for (int i = 0; i < 5; i++)
		sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = i });
	siginfo_t info;
	struct timespec zero = { 0, 0 };
	for (int i = 0; i < 5; i++)
		if (sigtimedwait(&set, &info, &zero) == SIGRTMIN)
			printf("queued %d\n", info.si_value.sival_int);
	printf("then: %d %s\n", sigtimedwait(&set, &info, &zero), strerror(errno));
	sigprocmask(SIG_SETMASK, &old, NULL);

	stack_t ss = { .ss_sp = alt, .ss_size = sizeof alt };
	sigaltstack(&ss, NULL);
	install(SIGUSR2, handler, SA_ONSTACK);
	raise(SIGUSR2);
	printf("altstack used: %d\n", on_alt);

	install(SIGSEGV, fault, SA_ONSTACK);
	install(SIGFPE, fault, 0);
	install(SIGILL, fault, 0);
	install(SIGBUS, fault, 0);
	install(SIGTRAP, fault, 0);
	if (!sigsetjmp(env, 1))
		*(volatile int *)0x1234 = 1;
	printf("SIGSEGV code %d addr %lx trap %ld\n", last_code, last_addr, last_trap);
	char *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!sigsetjmp(env, 1))
		*(volatile char *)(ro + 5) = 1;
	printf("SIGSEGV code %d right address %d\n", last_code, last_addr == (long)ro + 5);
	volatile int z = 0;
	if (!sigsetjmp(env, 1))
		z = 1 / z;
	printf("SIGFPE code %d\n", last_code);
	if (!sigsetjmp(env, 1))
		__asm__ volatile("ud2");
	printf("SIGILL code %d trap %ld\n", last_code, last_trap);
	if (!sigsetjmp(env, 1))
		__asm__ volatile("int3");
	printf("SIGTRAP code %d\n", last_code);

	/* restart and EINTR */
	int fds[2];
	char c;
	pipe(fds);
	struct itimerval it = { .it_value = { 0, 30000 } };
	install(SIGALRM, handler, 0);
	setitimer(ITIMER_REAL, &it, NULL);
	int r = read(fds[0], &c, 1);
	printf("without SA_RESTART: %d %s\n", r, strerror(errno));
	install(SIGALRM, handler, SA_RESTART);
	if (fork() == 0) {
		usleep(100000);
		write(fds[1], "z", 1);
		_exit(0);
	}
	setitimer(ITIMER_REAL, &it, NULL);
	r = read(fds[0], &c, 1);
	printf("with SA_RESTART: %d %c\n", r, c);
	wait(NULL);

	/* an ignored signal does not interrupt */
	signal(SIGWINCH, SIG_DFL);
	pid_t me = getpid();
	if (fork() == 0) {
		usleep(20000);
		kill(me, SIGWINCH);
		usleep(20000);
		write(fds[1], "y", 1);
		_exit(0);
	}
	r = read(fds[0], &c, 1);
	printf("ignored: %d %c\n", r, c);
	wait(NULL);

	/* sigsuspend */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	count = 0;
	raise(SIGUSR1);
	r = sigsuspend(&old);
	printf("sigsuspend: %d %s, handled %d\n", r, strerror(errno), count);
	sigset_t now;
	sigprocmask(SIG_SETMASK, NULL, &now);
	printf("mask is back: %d\n", sigismember(&now, SIGUSR1));

	/* death by signal is seen by the parent */
	pid_t pid = fork();
	int status;
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		*(volatile int *)8 = 1;
		_exit(0);
	}
	waitpid(pid, &status, 0);
	printf("child died of %d\n", WTERMSIG(status));
	return 0;
}
