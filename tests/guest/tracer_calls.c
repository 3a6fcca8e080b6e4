/* What ptrace(2) says of its stops: requests in states that refuse them, calls that a tracer looks at and changes,
 * job control of tracees, and what PR_SET_MM changes of a program's layout. */
#include "check.h"
#include <elf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

static int status;
static uint64_t data[64];

static int next(pid_t p)
{
	int r = waitpid(p, &status, __WALL);
	printf("  wait %x\n", r == p ? status : -1);
	return r;
}

static pid_t tracee(void (*f)(void))
{
	pid_t p = fork();
	if (p == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		f();
		_exit(3);
	}
	next(p);
	return p;
}

static void finish(pid_t p)
{
	kill(p, SIGKILL);
	while (waitpid(p, &status, __WALL) == p && !WIFSIGNALED(status) && !WIFEXITED(status))
		;
}

static void signals(void)
{
	raise(SIGUSR1);
	raise(SIGUSR1);
}

static void states(void)
{
	pid_t p = tracee(signals);
	siginfo_t info;
	unsigned long message = 7;
	T(ptrace(PTRACE_GETEVENTMSG, p, 0, &message));
	printf("message %lu\n", message);
	S(ptrace(PTRACE_LISTEN, p, 0, 0));
	S(ptrace(PTRACE_INTERRUPT, p, 0, 0));
	S(ptrace(PTRACE_GETSIGINFO, p, 0, &info));
	/* The stop signal stops the process; that stop has no record. */
	S(ptrace(PTRACE_CONT, p, 0, SIGSTOP));
	next(p);
	S(ptrace(PTRACE_GETSIGINFO, p, 0, &info));
	S(ptrace(PTRACE_SETSIGINFO, p, 0, &info));
	S(ptrace(PTRACE_CONT, p, 0, 0));
	next(p);
	/* It is stopped still, as a process: another stop signal stops the thread again. */
	S(ptrace(PTRACE_CONT, p, 0, SIGSTOP));
	next(p);
	S(ptrace(PTRACE_GETSIGINFO, p, 0, &info));
	kill(p, SIGCONT);
	int r = waitpid(p, &status, WCONTINUED | WNOHANG);
	printf("continued %d %x\n", r == p, status);
	finish(p);

	p = tracee(signals);
	for (int i = 16; i < 27; i++) {
		errno = 0;
		ptrace(PTRACE_PEEKUSER, p, 8 * i, 0);
		printf("%d ", errno);
	}
	S(ptrace(PTRACE_POKEUSER, p, 17 * 8, 0));
	S(ptrace(PTRACE_POKEUSER, p, 17 * 8, 0x31));
	S(ptrace(PTRACE_POKEUSER, p, 20 * 8, 0));
	S(ptrace(PTRACE_POKEUSER, p, 20 * 8, 4));
	S(ptrace(PTRACE_POKEUSER, p, 23 * 8, 5));
	S(ptrace(PTRACE_POKEUSER, p, 904, 0));
	for (int at = 904; at < 944; at += 8) {
		errno = 0;
		ptrace(PTRACE_PEEKUSER, p, at, 0);
		printf("user %d %d\n", at, errno);
	}
	S(ptrace(25, p, 1, data));
	S(ptrace(25, p, -1l, data));
	finish(p);
}

static void calls(void)
{
	syscall(SYS_getppid, 1, 2, 3, 4, 5, 6);
	_exit(syscall(SYS_getppid) & 0x7f);
}

static void show_call(pid_t p)
{
	memset(data, 0, sizeof data);
	long n = ptrace(PTRACE_GET_SYSCALL_INFO, p, sizeof data, data);
	printf("call %ld: op %d flags %d", n, (int)(data[0] & 0xff), (int)(data[0] >> 16 & 0xffff));
	if (n >= 80)
		printf(" nr %ld %ld %ld %ld data %ld", (long)data[3], (long)data[4], (long)data[5], (long)data[9], n >= 84 ? (long)(uint32_t)data[10] : -1);
	printf("\n");
}

static void looked_at(void)
{
	pid_t p = tracee(calls);
	S(ptrace(PTRACE_SETOPTIONS, p, 0, PTRACE_O_TRACESYSGOOD));
	show_call(p);
	S(ptrace(0x4212, p, 88, data));
	S(ptrace(PTRACE_SYSCALL, p, 0, 0));
	next(p);
	show_call(p);
	S(ptrace(0x4212, p, 87, data));
	S(ptrace(0x4212, p, 88, BAD));
	data[0] ^= 3;
	S(ptrace(0x4212, p, 88, data));
	data[0] ^= 3;
	data[3] = 1ul << 40;
	S(ptrace(0x4212, p, 88, data));
	data[0] |= 1 << 16, data[3] = SYS_getpid;
	S(ptrace(0x4212, p, 88, data));
	data[0] &= ~(1ul << 16);
	data[4] = 99;
	S(ptrace(0x4212, p, 88, data));
	show_call(p);
	S(ptrace(PTRACE_SYSCALL, p, 0, 0));
	next(p);
	show_call(p);
	S(ptrace(PTRACE_SYSCALL, p, 0, 0));
	next(p);
	S(ptrace(PTRACE_SYSCALL, p, 0, 0));
	next(p);
	ptrace(PTRACE_GET_SYSCALL_INFO, p, sizeof data, data);
	data[3] = 42;
	S(ptrace(0x4212, p, 88, data));
	S(ptrace(PTRACE_CONT, p, 0, 0));
	next(p);
}

static void filtered(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 77),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, f };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
	calls();
}

static void filters(void)
{
	pid_t p = tracee(filtered);
	S(ptrace(PTRACE_SETOPTIONS, p, 0, PTRACE_O_TRACESECCOMP));
	T(ptrace(0x420c, p, 0, NULL));
	S(ptrace(PTRACE_CONT, p, 0, 0));
	next(p);
	show_call(p);
	T(ptrace(0x420c, p, 1, NULL));
	T(ptrace(0x420c, p, 0, NULL));
	T(ptrace(0x420c, p, 0, data));
	for (int i = 0; i < 4; i++)
		printf("%016lx\n", (long)data[i]);
	data[0] = 0;
	T(ptrace(0x420d, p, 7, data));
	T(ptrace(0x420d, p, 100, data));
	printf("flags %ld\n", (long)data[1]);
	data[0] = 1;
	T(ptrace(0x420d, p, 16, data));
	finish(p);
}

/* A seized process hears of SIGCONT by a stop. */
static void seized(void)
{
	pid_t p = fork();
	if (p == 0) {
		for (;;)
			pause();
	}
	S(ptrace(PTRACE_SEIZE, p, 0, 0));
	kill(p, SIGSTOP);
	next(p);
	S(ptrace(PTRACE_CONT, p, 0, SIGSTOP));
	next(p);
	siginfo_t info;
	S(ptrace(PTRACE_GETSIGINFO, p, 0, &info));
	printf("%x\n", info.si_code);
	S(ptrace(PTRACE_LISTEN, p, 0, 0));
	kill(p, SIGCONT);
	next(p);
	S(ptrace(PTRACE_CONT, p, 0, 0));
	next(p);
	finish(p);
}

/* The first stop of a new program has its initial vector state. */
static void programs(void)
{
	pid_t p = fork();
	if (p == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execlp("true", "true", NULL);
		_exit(9);
	}
	next(p);
	char area[4096];
	struct iovec io = { area, sizeof area };
	S(ptrace(PTRACE_GETREGSET, p, NT_X86_XSTATE, &io));
	printf("control %x %x\n", *(uint16_t *)area, *(uint32_t *)(area + 24));
	S(ptrace(PTRACE_CONT, p, 0, 0));
	next(p);
}

static void field(int n, char *out)
{
	char line[2000];
	int fd = open("/proc/self/stat", O_RDONLY);
	line[read(fd, line, sizeof line - 1)] = 0;
	close(fd);
	char *at = strrchr(line, ')') + 1;
	for (int i = 3; i < n; i++)
		at = strchr(at + 1, ' ');
	sscanf(at, " %s", out);
}

static void layout(void)
{
	char text[40];
	unsigned size = 0;
	S(prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0));
	printf("size %u\n", size);
	S(prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, BAD, 0, 0));
	struct prctl_mm_map map;
	memset(&map, 0, sizeof map);
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map - 1, 0));
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, BAD, sizeof map, 0));
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 1));
	S(prctl(PR_SET_MM, PR_SET_MM_BRK, 0, 1, 0));
	int of[] = { 26, 27, 45, 46, 47, 0, 28, 48, 49, 50, 51 };
	uint64_t *words = (uint64_t *)&map;
	for (int i = 0; i < 11; i++) {
		if (of[i]) {
			field(of[i], text);
			words[i] = strtoull(text, NULL, 10);
		}
		printf("%d: %d\n", of[i], words[i] != 0);
	}
	words[5] = syscall(SYS_brk, 0);
	map.exe_fd = -1;
	printf("ordered %d %d %d\n", words[0] < words[1], words[2] <= words[3], words[4] <= words[5]);
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
	map.start_code = map.end_code;
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
	map.start_code--;
	/* What a file backs is not shown. */
	char *line = mmap(0, PG, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(line, "another\0line", 13);
	*(volatile char *)line = 'a';
	map.arg_start = (uint64_t)line, map.arg_end = map.arg_start + 13;
	map.auxv = (void *)data, map.auxv_size = 1 << 20;
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
	map.auxv_size = 0;
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
	char got[100];
	int fd = open("/proc/self/cmdline", O_RDONLY), n = read(fd, got, sizeof got);
	printf("%d %s %s\n", n, got, got + 8);
	map.exe_fd = 99;
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
	map.exe_fd = open(".", O_RDONLY);
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
	map.exe_fd = open("/proc/self/exe", O_RDONLY);
	S(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
}

int main(void)
{
	begin();
	states();
	looked_at();
	filters();
	seized();
	programs();
	layout();
	return 0;
}
