/* A program finds nothing of those that its host process ran before, and keeps its own across exec. */
#define _GNU_SOURCE
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static char *self;

static double cpu(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double used(int who)
{
	struct rusage r;
	getrusage(who, &r);
	return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void burn(double seconds)
{
	double end = cpu() + seconds;
	while (cpu() < end)
		;
}

static int spawn(char *what)
{
	char *argv[] = { self, what, 0 };
	pid_t pid;
	int status;
	if (posix_spawn(&pid, self, 0, 0, argv, environ) || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

/* Leaves as many traces as it can, and where others would find them. */
static int soil(void)
{
	burn(0.06);
	prctl(PR_SET_NAME, "soiled");
	char *at = mmap((void *)0x10000000000, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	memset(at, 7, 1 << 20);
	cpu_set_t one;
	sched_getaffinity(0, sizeof one, &one);
	for (int i = 0, n = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &one) && n++)
			CPU_CLR(i, &one);
	if (getpid() % 2)
		sched_setaffinity(0, sizeof one, &one);
	return 3;
}

static int look(int cpus)
{
	char name[16];
	cpu_set_t set;
	int bad = 0;
	bad |= (cpu() > 0.05) << 0;
	bad |= (used(RUSAGE_SELF) > 0.05 || used(RUSAGE_SELF) < 0) << 1;
	prctl(PR_GET_NAME, name);
	bad |= (strcmp(name, "soiled") == 0) << 2;
	bad |= (mmap((void *)0x10000000000, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)
		== MAP_FAILED) << 3;
	sched_getaffinity(0, sizeof set, &set);
	bad |= (CPU_COUNT(&set) != cpus) << 4;
	return bad;
}

int main(int argc, char **argv)
{
	self = argv[0];
	cpu_set_t set;
	sched_getaffinity(0, sizeof set, &set);
	if (argc > 1 && !strcmp(argv[1], "soil"))
		return soil();
	if (argc > 1 && !strcmp(argv[1], "look"))
		return look(atoi(getenv("CPUS")));
	if (argc > 1 && !strcmp(argv[1], "keep"))
		return cpu() >= 0.03 && used(RUSAGE_SELF) >= 0.03 ? 0 : 1;
	char cpus[16];
	sprintf(cpus, "%d", CPU_COUNT(&set));
	setenv("CPUS", cpus, 1);
	for (int i = 0; i < 6; i++) {
		int soiled = spawn("soil");
		printf("soiled %d, looked %d\n", soiled, spawn("look"));
	}
	double before = used(RUSAGE_CHILDREN);
	spawn("look");
	double after = used(RUSAGE_CHILDREN);
	printf("six burnt %d, one more is small %d\n", before >= 0.3, after >= before && after - before < 0.05);
	/* In place: forked, nobody shares its memory. */
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();
		if (!pid) {
			burn(0.04);
			execv(self, (char *[]) { self, "keep", 0 });
			_exit(9);
		}
		int status;
		waitpid(pid, &status, 0);
		printf("kept %d\n", status);
	}
	/* Many at once, so that more end than are kept. */
	for (int round = 0; round < 20; round++) {
		pid_t pids[8];
		int sum = 0, status;
		for (int i = 0; i < 8; i++)
			posix_spawn(&pids[i], self, 0, 0, (char *[]) { self, "look", 0 }, environ);
		for (int i = 0; i < 8; i++)
			waitpid(pids[i], &status, 0), sum |= status;
		if (sum)
			printf("round %d: %d\n", round, sum);
	}
	return 0;
}
