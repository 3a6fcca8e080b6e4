/* Limits that are counted or have an effect in time, who may change whose, and what scheduling asks of them. Needs root. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOBODY 54321 /* nobody else's */

static void e(const char *what, long r)
{
	printf("%s: %s\n", what, r < 0 ? strerror(errno) : "ok");
}

static void user(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY))
		e("become a user", -1);
}

static void limit(int what, rlim_t soft, rlim_t hard)
{
	struct rlimit r = { soft, hard };
	if (setrlimit(what, &r))
		e("setrlimit", -1);
}

static void in_child(const char *what, void (*f)(void))
{
	int st;
	printf("%s\n", what);
	pid_t pid = fork();
	if (pid == 0) {
		f();
		_exit(0);
	}
	waitpid(pid, &st, 0);
	printf("status %d\n", st);
}

static void processes(void)
{
	int n = 0;
	pid_t pid, all[8];
	limit(RLIMIT_NPROC, 4, 5);
	user();
	while (n < 8 && (pid = fork()) >= 0) {
		if (pid == 0) {
			pause();
			_exit(0);
		}
		all[n++] = pid;
	}
	e("fork", pid);
	printf("children %d\n", n);
	kill(all[0], SIGKILL);
	siginfo_t i;
	waitid(P_PID, all[0], &i, WEXITED | WNOWAIT);
	e("a zombie counts", fork());
	waitpid(all[0], NULL, 0);
	pid = fork();
	if (pid == 0)
		_exit(0);
	e("after reaping", pid);
	waitpid(pid, NULL, 0);
	while (n-- > 1) {
		kill(all[n], SIGKILL);
		waitpid(all[n], NULL, 0);
	}
}

static void processes_of_root(void)
{
	limit(RLIMIT_NPROC, 1, 1);
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	e("fork by root", pid);
	waitpid(pid, NULL, 0);
}

static void too_many_to_exec(void)
{
	int i, ready[2];
	char c;
	pid_t pid[2];
	if (pipe(ready))
		return;
	limit(RLIMIT_NPROC, 1, 10);
	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			user();
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (write(ready[1], "x", 1) == 1)
				pause();
			_exit(0);
		}
		if (read(ready[0], &c, 1) != 1)
			return;
	}
	user();
	execl("/bin/true", "true", (char *)NULL);
	e("exec", -1);
	for (i = 0; i < 2; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	execl("/bin/true", "true", (char *)NULL);
	e("exec", -1);
}

static void signals(void)
{
	union sigval v = { 0 };
	sigset_t s;
	int n = 0, r;
	limit(RLIMIT_SIGPENDING, 5, 5);
	user();
	sigfillset(&s);
	sigprocmask(SIG_BLOCK, &s, NULL);
	while (n < 20 && (r = sigqueue(getpid(), SIGRTMIN, v)) == 0)
		n++;
	e("sigqueue", r);
	printf("queued %d\n", n);
	e("a standard one", sigqueue(getpid(), SIGUSR1, v));
	e("kill with a real-time one", kill(getpid(), SIGRTMIN + 1));
	pid_t pid = fork();
	if (pid == 0) {
		e("a child counts for the same user", sigqueue(getpid(), SIGRTMIN, v));
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	sigemptyset(&s);
	sigaddset(&s, SIGRTMIN);
	siginfo_t i;
	for (n = 0; n < 2; n++)
		sigwaitinfo(&s, &i);
	e("room again", sigqueue(getpid(), SIGRTMIN, v));
	sigpending(&s);
	printf("pending %d %d %d\n", sigismember(&s, SIGRTMIN), sigismember(&s, SIGRTMIN + 1), sigismember(&s, SIGUSR1));
}

static volatile int warned;
static void warn(int sig)
{
	struct rlimit r;
	(void)sig;
	warned++;
	getrlimit(RLIMIT_CPU, &r);
	char line[64];
	int n = snprintf(line, sizeof line, "SIGXCPU, soft %d hard %d\n", (int)r.rlim_cur, (int)r.rlim_max);
	if (write(1, line, n) != n)
		_exit(3);
}
static void spin(void)
{
	for (;;)
		;
}
static void cpu(void)
{
	signal(SIGXCPU, warn);
	limit(RLIMIT_CPU, 1, 3);
	spin();
}
static void cpu_inherited(void)
{
	int st;
	limit(RLIMIT_CPU, 1, 10);
	pid_t pid = fork();
	if (pid == 0)
		spin();
	waitpid(pid, &st, 0);
	printf("child killed by %d\n", WTERMSIG(st));
}

static void priorities(void)
{
	struct sched_param p = { 5 };
	user();
	e("nice 5", setpriority(PRIO_PROCESS, 0, 5));
	e("nice 0", setpriority(PRIO_PROCESS, 0, 0));
	e("nice -1", setpriority(PRIO_PROCESS, 0, -1));
	printf("is %d\n", getpriority(PRIO_PROCESS, 0));
	e("other's", setpriority(PRIO_PROCESS, getppid(), 3));
	e("nobody's", setpriority(PRIO_USER, NOBODY + 1, 3));
	e("fifo", sched_setscheduler(0, SCHED_FIFO, &p));
	p.sched_priority = 4;
	e("fifo with reset", sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &p));
	printf("policy %#x\n", sched_getscheduler(0));
	p.sched_priority = 0;
	e("without reset", sched_setscheduler(0, SCHED_OTHER, &p));
	e("priority without", sched_setscheduler(0, SCHED_FIFO, &p));
	p.sched_priority = 100;
	e("too much", sched_setscheduler(0, SCHED_FIFO, &p));
	p.sched_priority = 0;
	e("unknown", sched_setscheduler(0, 17, &p));
	e("batch", sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &p));
	e("negative pid", sched_setscheduler(-1, SCHED_BATCH, &p));
}

struct attr { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t prio; uint64_t t[3]; uint32_t util[2]; char more[16]; };

static void deadlines(void)
{
	struct attr a = { .size = 48, .policy = 6, .t = { 10000000, 30000000, 30000000 } }, b;
	memset(&b, 0, sizeof b);
	a.t[0] = 100;
	e("runtime too short", syscall(SYS_sched_setattr, 0, &a, 0));
	a.t[0] = 40000000;
	e("runtime beyond deadline", syscall(SYS_sched_setattr, 0, &a, 0));
	a.t[0] = 10000000;
	a.prio = 3;
	e("with a priority", syscall(SYS_sched_setattr, 0, &a, 0));
	a.prio = 0;
	a.size = 40;
	e("too small", syscall(SYS_sched_setattr, 0, &a, 0));
	printf("size %d\n", a.size);
	a.size = sizeof a;
	a.more[3] = 1;
	e("more behind", syscall(SYS_sched_setattr, 0, &a, 0));
	a.more[3] = 0;
	a.size = 48;
	a.flags = 1 << 20;
	e("unknown flag", syscall(SYS_sched_setattr, 0, &a, 0));
	a.flags = 0;
	e("getattr too small", syscall(SYS_sched_getattr, 0, &b, 40, 0));
	e("getattr", syscall(SYS_sched_getattr, 0, &b, 48, 0));
	printf("policy %d nice %d\n", b.policy, b.nice);
	a.policy = 0;
	a.nice = 7;
	e("nice by attr", syscall(SYS_sched_setattr, 0, &a, 0));
	printf("is %d\n", getpriority(PRIO_PROCESS, 0));
	user();
	a.policy = 6;
	e("deadline by a user", syscall(SYS_sched_setattr, 0, &a, 0));
}

static void others(void)
{
	struct rlimit r = { 100, 200 }, old;
	pid_t root = getppid();
	user();
	e("of root", prlimit(root, RLIMIT_NOFILE, NULL, &old));
	e("of none", prlimit(0x3fffff, RLIMIT_NOFILE, NULL, &old));
	e("unknown", prlimit(0, (enum __rlimit_resource)17, NULL, &old));
	pid_t pid = fork();
	if (pid == 0)
		pause();
	e("of an equal", prlimit(pid, RLIMIT_NOFILE, &r, NULL));
	r.rlim_max = 300;
	e("up again", prlimit(pid, RLIMIT_NOFILE, &r, NULL));
	r.rlim_cur = 400;
	e("soft above hard", prlimit(pid, RLIMIT_NOFILE, &r, NULL));
	e("look", prlimit(pid, RLIMIT_NOFILE, NULL, &old));
	printf("%d %d\n", (int)old.rlim_cur, (int)old.rlim_max);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	if (geteuid() != 0) {
		printf("not root\n");
		return 0;
	}
	in_child("processes", processes);
	in_child("processes of root", processes_of_root);
	in_child("too many to exec", too_many_to_exec);
	in_child("signals", signals);
	in_child("cpu", cpu);
	in_child("cpu, inherited", cpu_inherited);
	in_child("priorities", priorities);
	in_child("deadlines", deadlines);
	in_child("others", others);
	return 0;
}
