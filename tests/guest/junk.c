/* Every system call number from 0 to 600 and some above with junk, from four threads, until each has
 * made as many calls as asked. Calls that would end or stop the program itself run in a child. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char reached[1200];
static long per_thread;
static char *scratch;

static int deadly(long nr)
{
	switch (nr) {
	case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_pause: case SYS_rt_sigsuspend:
	case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo:
	case SYS_clone: case SYS_fork: case SYS_vfork: case SYS_clone3: case SYS_execve: case SYS_execveat:
	case SYS_munmap: case SYS_mprotect: case SYS_mremap: case SYS_mmap: case SYS_brk: case SYS_arch_prctl:
	case SYS_close: case SYS_close_range: case SYS_dup2: case SYS_dup3: case SYS_nanosleep: case SYS_clock_nanosleep:
	case SYS_select: case SYS_pselect6: case SYS_poll: case SYS_ppoll: case SYS_epoll_wait: case SYS_epoll_pwait:
	case SYS_wait4: case SYS_waitid: case SYS_futex: case SYS_rt_sigtimedwait: case SYS_alarm: case SYS_setitimer:
	case SYS_read: case SYS_readv: case SYS_pread64: case SYS_rt_sigaction: case SYS_rt_sigprocmask:
	case SYS_madvise: case SYS_setrlimit: case SYS_prlimit64: case SYS_shmdt: case SYS_pkey_mprotect:
	case SYS_sigaltstack: case SYS_chroot: case SYS_restart_syscall: case SYS_seccomp: case SYS_prctl:
	case SYS_timer_settime: case SYS_flock: case SYS_mlockall: case SYS_set_robust_list: case SYS_write: case SYS_writev:
	case SYS_umount2: case SYS_mount: case SYS_sched_setaffinity: case SYS_ioctl: case SYS_fcntl: case SYS_unshare:
	case SYS_setpriority: case SYS_sched_setscheduler: case SYS_sched_setattr: case SYS_sched_setparam:
	case SYS_getrandom: case SYS_splice: case SYS_tee: case SYS_vmsplice: case SYS_sendfile: case SYS_epoll_pwait2:
	case SYS_set_tid_address:
	case 335: case 336: /* uretprobe, uprobe: no filter sees them (seccomp exempts them), the host answers SIGILL */
		return 1;
	}
	return 0;
}

static unsigned long junk(unsigned *seed)
{
	static const unsigned long special[] = { 0, 1, -1UL, -100UL, 4096, 0x7fffffff, 0xffffffff, 1UL << 63, 0x6a0000000000UL, 3, 8, 0x1000 };
	unsigned r = rand_r(seed);
	switch (r % 4) {
	case 0: return special[rand_r(seed) % (sizeof special / sizeof *special)];
	case 1: return (unsigned long)scratch + rand_r(seed) % 60000;
	case 2: return rand_r(seed) % 64;
	default: return (unsigned long)rand_r(seed) << 32 | rand_r(seed);
	}
}

static void one(long nr, unsigned *seed)
{
	unsigned long a[6];
	for (int i = 0; i < 6; i++)
		a[i] = junk(seed);
	syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	reached[nr] = 1;
}

/* Set in children: a clone of theirs with junk flags may come out anywhere in this program. */
static volatile int astray;

static void in_child(long nr, unsigned *seed)
{
	if (astray)
		_exit(0);
	pid_t pid = fork();
	if (pid == 0) {
		astray = 1;
		setsid();
		signal(SIGALRM, SIG_DFL);
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		struct rlimit few = { 30, 30 };
		alarm(1);
		for (int i = 0; i < 3; i++)
			one(nr, seed);
		_exit(0);
	}
	reached[nr] = 1;
	if (pid > 0) {
		usleep(2000);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

static void *worker(void *arg)
{
	unsigned seed = (long)arg * 7919 + 1;
	for (long n = 0; n < per_thread; n++) {
		long nr = n % 640;
		if (nr > 600)
			nr = 600 + rand_r(&seed) % 500;
		if (!deadly(nr))
			one(nr, &seed);
		else
			reached[nr] = 1;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	per_thread = argc > 1 ? atol(argv[1]) : 1000;
	scratch = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int out = fcntl(1, F_DUPFD, 700), null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	chdir("/tmp");
	unsigned seed = 1;
	for (long nr = 0; nr <= 600; nr++)
		if (deadly(nr) && nr != SYS_kill && nr != SYS_tkill && nr != SYS_tgkill && nr != SYS_rt_sigqueueinfo && nr != SYS_rt_tgsigqueueinfo)
			in_child(nr, &seed);
	if (astray)
		_exit(0);
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t t[4];
		setsid();
		for (int sig = 1; sig < 65; sig++)
			signal(sig, SIG_IGN);
		for (long i = 0; i < 4; i++)
			pthread_create(&t[i], NULL, worker, (void *)i);
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		long missing = 0;
		for (int i = 0; i <= 600; i++)
			missing += !reached[i];
		_exit(missing ? 1 : 0);
	}
	pid_t got;
	while ((got = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
		;
	if (got == pid && status == 0)
		dprintf(out, "every number reached\n");
	else
		dprintf(out, "waitpid %d of %d, status %x, %m\n", got, pid, status);
	return 0;
}
