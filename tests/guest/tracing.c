/* ptrace: every stop, every way on, registers and memory, as a tracer sees them. */
#define _GNU_SOURCE
#include <errno.h>
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile long word = 0x1122334455667788;
static volatile int *shared;

static const char *err(long r) { return r < 0 ? strerrorname_np(errno) : "ok"; }

/* A status without pids. */
static int told(pid_t pid, const char *what)
{
	int s = 0;
	pid_t got = waitpid(pid, &s, __WALL);
	if (got != pid)
		printf("%s: waited %s\n", what, err(got));
	else if (WIFEXITED(s))
		printf("%s: exited %d\n", what, WEXITSTATUS(s));
	else if (WIFSIGNALED(s))
		printf("%s: killed by %d\n", what, WTERMSIG(s));
	else if (WIFSTOPPED(s))
		printf("%s: stopped by %d event %d\n", what, WSTOPSIG(s), s >> 16);
	else
		printf("%s: %x\n", what, s);
	return s;
}

static void handler(int sig) { shared[1] = sig; }

/* TRACEME, a stop, peeks and pokes, a signal dropped, changed, passed. */
static void basics(void)
{
	pid_t pid = fork();
	if (!pid) {
		printf("traceme %ld\n", ptrace(PTRACE_TRACEME, 0, 0, 0));
		printf("again %s\n", err(ptrace(PTRACE_TRACEME, 0, 0, 0)));
		fflush(stdout);
		signal(SIGUSR2, handler);
		raise(SIGSTOP);
		raise(SIGUSR1);
		raise(SIGUSR1);
		printf("word %lx, handled %d\n", word, shared[1]);
		fflush(stdout);
		raise(SIGTERM);
		_exit(3);
	}
	told(pid, "first");
	siginfo_t si;
	ptrace(PTRACE_GETSIGINFO, pid, 0, &si);
	printf("signo %d code %d from it %d\n", si.si_signo, si.si_code, si.si_pid == pid);
	errno = 0;
	printf("peek %lx\n", ptrace(PTRACE_PEEKDATA, pid, &word, 0));
	printf("poke %ld\n", ptrace(PTRACE_POKEDATA, pid, &word, 0x42));
	printf("peek wild %s\n", err(ptrace(PTRACE_PEEKDATA, pid, 8, 0)));
	printf("poke wild %s\n", err(ptrace(PTRACE_POKEDATA, pid, 8, 0)));
	printf("unknown %s\n", err(ptrace(0x777, pid, 0, 0)));
	printf("wrong signal %s\n", err(ptrace(PTRACE_CONT, pid, 0, 1000)));
	printf("options %s\n", err(ptrace(PTRACE_SETOPTIONS, pid, 0, 1 << 15)));
	printf("user %s %s\n", err(ptrace(PTRACE_PEEKUSER, pid, 3, 0)), err(ptrace(PTRACE_PEEKUSER, pid, 4096, 0)));
	struct user_regs_struct regs;
	ptrace(PTRACE_GETREGS, pid, 0, &regs);
	printf("in call %lld, rip agrees %d, cs %llx ss %llx\n", regs.orig_rax,
	       ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), 0) == (long)regs.rip, regs.cs, regs.ss);
	ptrace(PTRACE_CONT, pid, 0, 0);
	told(pid, "dropped");
	ptrace(PTRACE_CONT, pid, 0, 0);
	told(pid, "changed");
	ptrace(PTRACE_CONT, pid, 0, SIGUSR2);
	told(pid, "passed");
	ptrace(PTRACE_CONT, pid, 0, SIGTERM);
	told(pid, "end");
	printf("gone %s\n", err(ptrace(PTRACE_CONT, pid, 0, 0)));
}

/* Calls, in and out; one that is replaced and one that is left out. */
static void calls(void)
{
	pid_t pid = fork();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		long a = syscall(SYS_getppid);
		long b = syscall(SYS_umask, 022);
		long c = syscall(SYS_getpgid, 77777777);
		_exit(a == 1234 && b == 5 && c == -1);
	}
	told(pid, "start");
	ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	for (int i = 0; i < 12; i++) {
		struct user_regs_struct regs;
		struct __ptrace_syscall_info info;
		ptrace(PTRACE_SYSCALL, pid, 0, 0);
		int s;
		waitpid(pid, &s, 0);
		if (!WIFSTOPPED(s)) {
			printf("ended with %d\n", WEXITSTATUS(s));
			return;
		}
		ptrace(PTRACE_GETREGS, pid, 0, &regs);
		long n = ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info);
		printf("stop %x: call %lld rax %lld, info %ld op %d", WSTOPSIG(s), regs.orig_rax,
		       info.op == 2 && regs.orig_rax == SYS_getppid ? 0 : (long long)regs.rax, n, info.op);
		if (info.op == 1)
			printf(" nr %lld arg %lld\n", (long long)info.entry.nr,
			       info.entry.nr == SYS_getppid ? 0 : (long long)(int)info.entry.args[0]);
		else
			printf(" error %d\n", info.exit.is_error);
		if (regs.orig_rax == SYS_getppid && info.op == 2) {
			regs.rax = 1234;
			ptrace(PTRACE_SETREGS, pid, 0, &regs);
		}
		if (regs.orig_rax == SYS_umask && info.op == 1) {
			regs.orig_rax = -1;
			regs.rax = 5;
			ptrace(PTRACE_SETREGS, pid, 0, &regs);
		}
	}
}

/* A call that is interrupted shows so, and goes on. */
static void interrupted(void)
{
	int p[2];
	pipe(p);
	pid_t pid = fork();
	if (!pid) {
		char c = 0;
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		read(p[0], &c, 1);
		_exit(c);
	}
	told(pid, "start");
	ptrace(PTRACE_CONT, pid, 0, 0);
	usleep(50000);
	kill(pid, SIGUSR1);
	told(pid, "in read");
	struct user_regs_struct regs;
	ptrace(PTRACE_GETREGS, pid, 0, &regs);
	printf("call %lld rax %lld\n", regs.orig_rax, regs.rax);
	ptrace(PTRACE_CONT, pid, 0, 0);
	usleep(20000);
	write(p[1], "x", 1);
	told(pid, "end");
}

void steps(void);
__asm__(".text\n.globl steps, steps_end\nsteps: mov $1, %eax\n add $2, %eax\n nop\n mov $39, %eax\n syscall\n nop\n"
	" pushf\n pop %rdx\nsteps_end: ret\n");
extern char steps_end[];

/* Single steps, over a call too, with nothing of it left in the flags. */
static void stepping(void)
{
	pid_t pid = fork();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		steps();
		__asm__ volatile("int3");
		_exit(0);
	}
	told(pid, "start");
	struct user_regs_struct regs;
	ptrace(PTRACE_GETREGS, pid, 0, &regs);
	unsigned long back = regs.rip, rsp = regs.rsp;
	regs.rip = (unsigned long)steps;
	regs.orig_rax = -1;
	ptrace(PTRACE_SETREGS, pid, 0, &regs);
	for (int i = 0; i < 8; i++) {
		ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
		int s;
		waitpid(pid, &s, 0);
		siginfo_t si;
		ptrace(PTRACE_GETSIGINFO, pid, 0, &si);
		ptrace(PTRACE_GETREGS, pid, 0, &regs);
		printf("step %d: %x at +%lld code %d tf %d\n", i, s, regs.rip - (unsigned long)steps, si.si_code,
		       (int)(regs.eflags >> 8 & 1));
	}
	printf("flags seen by it: tf %d\n", (int)(regs.rdx >> 8 & 1));
	regs.rip = back;
	regs.rsp = rsp;
	ptrace(PTRACE_SETREGS, pid, 0, &regs);
	ptrace(PTRACE_CONT, pid, 0, 0);
	told(pid, "int3");
	ptrace(PTRACE_CONT, pid, 0, 0);
	told(pid, "end");
}

/* A breakpoint in code that makes calls, and code that reads as it is. */
static void breakpoint(void)
{
	for (int i = 0; i < 300; i++)
		syscall(SYS_getppid);
	pid_t pid = fork();
	if (!pid) {
		for (int i = 0; i < 300; i++)
			syscall(SYS_getppid);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		syscall(SYS_getppid);
		_exit(0);
	}
	told(pid, "start");
	long there = ptrace(PTRACE_PEEKTEXT, pid, syscall, 0), here;
	int fd = open("/proc/self/mem", O_RDONLY);
	pread(fd, &here, 8, (long)syscall);
	printf("code agrees %d\n", there == here);
	ptrace(PTRACE_POKETEXT, pid, syscall, (there & ~0xffl) | 0xcc);
	ptrace(PTRACE_CONT, pid, 0, 0);
	told(pid, "breakpoint");
	struct user_regs_struct regs;
	ptrace(PTRACE_GETREGS, pid, 0, &regs);
	printf("at +%lld\n", regs.rip - (long)syscall);
	ptrace(PTRACE_POKETEXT, pid, syscall, there);
	regs.rip--;
	ptrace(PTRACE_SETREGS, pid, 0, &regs);
	ptrace(PTRACE_CONT, pid, 0, 0);
	told(pid, "end");
}

static void *thread(void *p) { shared[2] = 1; return p; }

/* Children, threads, exec and the end, as events. */
static void events(char *self)
{
	pid_t pid = fork();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		if (fork() == 0)
			_exit(5);
		wait(0);
		if (vfork() == 0)
			_exit(6);
		wait(0);
		pthread_t t;
		pthread_create(&t, 0, thread, 0);
		pthread_join(t, 0);
		execl(self, self, "exit", NULL);
	}
	told(pid, "start");
	printf("options %ld\n", ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
	       PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_TRACEVFORKDONE));
	ptrace(PTRACE_CONT, pid, 0, 0);
	static const char *what[16];
	pid_t seen[16];
	int count = 0, alive = 1;
	/* Each task's story by itself: between tasks the order is the scheduler's. */
	static char story[16][512];
	while (alive) {
		int s;
		pid_t got = waitpid(-1, &s, __WALL);
		if (got < 0)
			break;
		int i = 0;
		for (; i < count && seen[i] != got; i++)
			;
		if (i == count)
			seen[count++] = got;
		char *at = story[i] + strlen(story[i]);
		if (WIFEXITED(s)) {
			sprintf(at, " exit %d", WEXITSTATUS(s));
			if (got == pid)
				alive = 0;
			continue;
		}
		unsigned long msg = 0;
		int sig = WSTOPSIG(s);
		if (s >> 16)
			ptrace(PTRACE_GETEVENTMSG, got, 0, &msg);
		if (sig != SIGCHLD)
			sprintf(at, " %d/%d", sig, s >> 16);
		if (s >> 16 == PTRACE_EVENT_EXIT)
			sprintf(at + strlen(at), "(%lx)", msg);
		if (s >> 16 == PTRACE_EVENT_EXEC)
			sprintf(at + strlen(at), "(%s)", (pid_t)msg == got ? "itself" : "another");
		ptrace(PTRACE_CONT, got, 0, s >> 16 || sig == SIGSTOP || sig == SIGTRAP ? 0 : sig);
	}
	(void)what;
	printf("%d tasks\n", count);
	/* A child may be heard of before its maker. */
	for (int i = 0; i < count; i++)
		if (seen[i] == pid)
			printf("story:%s\n", story[i]);
	int n[3] = { 0 };
	for (int i = 0; i < count; i++)
		if (seen[i] != pid) {
			n[0] += strstr(story[i], "exit 5") != 0;
			n[1] += strstr(story[i], "exit 6") != 0;
			n[2] += strstr(story[i], "exit 0") != 0;
		}
	printf("children that exited with 5: %d, 6: %d, 0: %d\n", n[0], n[1], n[2]);
}

/* ATTACH, DETACH, SEIZE, INTERRUPT, LISTEN. */
static void attaching(void)
{
	pid_t pid = fork();
	if (!pid)
		for (;;)
			shared[3]++;
	usleep(10000);
	struct user_regs_struct none;
	printf("not yet traced %s\n", err(ptrace(PTRACE_GETREGS, pid, 0, &none)));
	printf("attach %ld\n", ptrace(PTRACE_ATTACH, pid, 0, 0));
	told(pid, "attached");
	printf("again %s\n", err(ptrace(PTRACE_ATTACH, pid, 0, 0)));
	char path[64], line[256];
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	FILE *f = fopen(path, "r");
	while (fgets(line, sizeof line, f)) {
		if (!strncmp(line, "State", 5))
			printf("%s", line);
		if (!strncmp(line, "TracerPid", 9))
			printf("tracer is us: %d\n", atoi(line + 10) == getpid());
	}
	fclose(f);
	struct user_regs_struct regs;
	struct iovec v = { &regs, sizeof regs };
	printf("regset %ld %zu\n", ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &v), v.iov_len);
	v.iov_len = 16;
	printf("regset %ld %zu\n", ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &v), v.iov_len);
	v.iov_len = 15;
	printf("odd regset %s\n", err(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &v)));
	v.iov_len = 16;
	printf("no regset %s\n", err(ptrace(PTRACE_GETREGSET, pid, 12345, &v)));
	struct user_fpregs_struct fp;
	long r = ptrace(PTRACE_GETFPREGS, pid, 0, &fp);
	printf("fpregs %ld mxcsr %x\n", r, fp.mxcsr);
	printf("interrupt %s\n", err(ptrace(PTRACE_INTERRUPT, pid, 0, 0)));
	printf("detach %ld\n", ptrace(PTRACE_DETACH, pid, 0, 0));
	int before = shared[3];
	usleep(20000);
	printf("goes on %d\n", shared[3] != before);
	printf("seize %s\n", err(ptrace(PTRACE_SEIZE, pid, 1, 0)));
	printf("seize %ld\n", ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT));
	printf("interrupt %ld\n", ptrace(PTRACE_INTERRUPT, pid, 0, 0));
	told(pid, "interrupted");
	ptrace(PTRACE_CONT, pid, 0, 0);
	kill(pid, SIGSTOP);
	told(pid, "signal");
	ptrace(PTRACE_CONT, pid, 0, SIGSTOP);
	told(pid, "group stop");
	siginfo_t si;
	printf("siginfo %ld\n", ptrace(PTRACE_GETSIGINFO, pid, 0, &si));
	printf("listen %ld\n", ptrace(PTRACE_LISTEN, pid, 0, 0));
	printf("listening %s\n", err(ptrace(PTRACE_GETREGS, pid, 0, &regs)));
	kill(pid, SIGCONT);
	told(pid, "continued");
	ptrace(PTRACE_CONT, pid, 0, 0);
	told(pid, "the signal itself");
	ptrace(PTRACE_CONT, pid, 0, 0);
	kill(pid, SIGKILL);
	while (WIFSTOPPED(told(pid, "killed")))
		ptrace(PTRACE_CONT, pid, 0, 0);
	printf("attach to oneself %s, nobody %s\n", err(ptrace(PTRACE_ATTACH, getpid(), 0, 0)),
	       err(ptrace(PTRACE_ATTACH, 99999999, 0, 0)));
}

/* Tracing starts while the tracee sleeps: the call goes on. */
static void sleepers(void)
{
	for (int kind = 0; kind < 4; kind++) {
		int returned = 0, stopped = 0;
		for (int i = 0; i < 60; i++) {
			int p[2];
			if (pipe(p))
				return;
			pid_t pid = fork();
			if (!pid) {
				char c;
				if (kind == 0)
					pause();
				else if (kind == 1)
					nanosleep(&(struct timespec){100, 0}, NULL);
				else if (kind == 2)
					c = read(p[0], &c, 1);
				else
					poll(&(struct pollfd){p[0], POLLIN, 0}, 1, -1);
				_exit(0);
			}
			usleep(i % 7 * 100);
			ptrace(PTRACE_SEIZE, pid, 0, 0);
			int status;
			if (i & 1) {
				ptrace(PTRACE_INTERRUPT, pid, 0, 0);
				stopped += waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status);
				ptrace(PTRACE_CONT, pid, 0, 0);
				usleep(i % 5 * 100);
			}
			kill(pid, SIGKILL);
			waitpid(pid, &status, __WALL);
			returned += !WIFSIGNALED(status);
			close(p[0]);
			close(p[1]);
		}
		printf("sleeper %d: stopped %d, returned %d\n", kind, stopped, returned);
	}
}

/* A tracer that is not the parent: the parent hears of the end after it. */
static void stranger(void)
{
	int p[2];
	pipe(p);
	pid_t pid = fork();
	if (!pid)
		for (;;)
			pause();
	pid_t tracer = fork();
	if (!tracer) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_SEIZE, pid, 0, 0);
		write(p[1], "x", 1);
		int s;
		waitpid(pid, &s, 0);
		shared[4] = WSTOPSIG(s);
		_exit(0);
	}
	char c;
	read(p[0], &c, 1);
	kill(pid, SIGTERM);
	usleep(1000);
	int s;
	waitpid(tracer, &s, 0);
	/* It saw the signal's stop, and has left the tracee with its end. */
	printf("tracer saw %d, ended %d\n", shared[4], s);
	kill(pid, SIGKILL);
	told(pid, "end");
}

/* A tracer's thread group that shares its memory: as LeakSanitizer does it. */
static volatile pid_t main_tid;
static int inspector(void *p)
{
	int s;
	if (ptrace(PTRACE_ATTACH, main_tid, 0, 0))
		_exit(1);
	waitpid(main_tid, &s, __WALL);
	struct user_regs_struct regs;
	long r = ptrace(PTRACE_GETREGS, main_tid, 0, &regs);
	shared[5] = WSTOPSIG(s) * 100 + (r == 0);
	ptrace(PTRACE_DETACH, main_tid, 0, 0);
	_exit(0);
}

static void inside(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	int s;
	main_tid = getpid();
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	pid_t pid = clone(inspector, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_UNTRACED, 0);
	while (waitpid(pid, &s, __WALL) < 0 && errno == EINTR)
		;
	printf("inspected %d, ended %d\n", shared[5], s);
}

/* A watched word, by a debug register. */
static void watching(void)
{
	pid_t pid = fork();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		for (volatile int i = 0; i < 100; i++)
			if (i == 50)
				word = 99;
		_exit(7);
	}
	told(pid, "start");
	printf("address %ld\n", ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), &word));
	if (ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 1 | 1 << 16 | 2 << 18))
		printf("control %s\n", strerrorname_np(errno));
	ptrace(PTRACE_CONT, pid, 0, 0);
	told(pid, "watch");
	siginfo_t si;
	ptrace(PTRACE_GETSIGINFO, pid, 0, &si);
	printf("code %d, dr6 %lx, word %ld\n", si.si_code, ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg[6]), 0) & 0xf,
	       ptrace(PTRACE_PEEKDATA, pid, &word, 0));
	ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 0);
	ptrace(PTRACE_CONT, pid, 0, 0);
	told(pid, "end");
}

int main(int argc, char **argv)
{
	setvbuf(stdout, 0, _IOLBF, 0);
	if (argc > 1)
		return 9;
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	basics();
	calls();
	interrupted();
	stepping();
	breakpoint();
	events(argv[0]);
	attaching();
	sleepers();
	stranger();
	inside();
	watching();
	return 0;
}
