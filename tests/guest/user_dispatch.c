/* Calls that a program takes itself (PR_SET_SYSCALL_USER_DISPATCH), by prctl and by a tracer. */
#include "check.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

#define SET 59
static volatile char selector;
static volatile int calls, code, number;
static volatile long back;

static void handler(int sig, siginfo_t *info, void *context)
{
	selector = 0;
	calls++;
	code = info->si_code;
	number = info->si_syscall;
}

static long call(long nr)
{
	long r;
	asm volatile("syscall" : "=a"(r) : "a"(nr) : "rcx", "r11", "memory");
	return r;
}

static void try_selector(char value)
{
	AS(0, {
		selector = 0;
		prctl(SET, 1, 0, 0, &selector);
		selector = value;
		call(SYS_getppid);
		selector = 0;
	});
}

int main(void)
{
	begin();
	S(prctl(SET, 0, 1, 0, 0));
	S(prctl(SET, 0, 0, 1, 0));
	S(prctl(SET, 0, 0, 0, &selector));
	S(prctl(SET, 3, 0, 0, 0));
	S(prctl(SET, 1, 1, -1l, 0));
	S(prctl(SET, 1, 8, 0, 0));
	S(prctl(SET, 1, 0, 0, 1ul << 63));
	S(prctl(SET, 0, 0, 0, 0));

	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	sigaction(SIGSYS, &sa, NULL);
	S(prctl(SET, 1, 0, 0, &selector));
	selector = 1;
	back = call(SYS_getppid);
	printf("taken %d: code %d, call %d, result %ld\n", calls, code, number, back);
	selector = 1;
	back = call(4711);
	printf("taken %d: code %d, call %d, result %ld\n", calls, code, number, back);
	/* A child begins without. */
	selector = 0;
	pid_t child = fork();
	if (child == 0) {
		selector = 1;
		_exit(call(SYS_getppid) > 0 ? 7 : 8);
	}
	int status;
	waitpid(child, &status, 0);
	printf("child %x, taken %d\n", status, calls);
	/* The region lets all calls pass; outside of it they do not. */
	S(prctl(SET, 1, 1, ~0ul - 1, 0));
	printf("%d\n", call(SYS_getppid) > 0);
	S(prctl(SET, 0, 0, 0, 0));
	signal(SIGSYS, SIG_DFL);
	try_selector(1);
	try_selector(2);

	child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		raise(SIGSTOP);
		sigaction(SIGSYS, &sa, NULL);
		selector = 1;
		call(SYS_getppid);
		_exit(calls);
	}
	waitpid(child, &status, 0);
	uint64_t config[4] = { 9, 9, 9, 9 };
	S(ptrace(0x4211, child, 31, config));
	S(ptrace(0x4211, child, 32, config));
	printf("%ld %ld %ld %ld\n", (long)config[0], (long)config[1], (long)config[2], (long)config[3]);
	config[0] = 7;
	S(ptrace(0x4210, child, 32, config));
	config[0] = 1, config[1] = (uint64_t)&selector;
	S(ptrace(0x4210, child, 32, config));
	S(ptrace(0x4211, child, 32, BAD));
	ptrace(PTRACE_CONT, child, 0, 0);
	waitpid(child, &status, 0);
	S(ptrace(0x4211, child, 32, config));
	printf("%ld %d %ld %ld\n", (long)config[0], config[1] == (uint64_t)&selector, (long)config[2], (long)config[3]);
	ptrace(PTRACE_CONT, child, 0, 0);
	waitpid(child, &status, 0);
	printf("stopped %x\n", status);
	ptrace(PTRACE_CONT, child, 0, SIGSYS);
	waitpid(child, &status, 0);
	printf("ended %x\n", status);
	return 0;
}
