/* Core dumps: when there is one, and what is in it. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char marker[] = "a marker in the data of the program";
static char *heap;

static void *rest(void *p)
{
	for (;;)
		pause();
	return p;
}

static void *spin(void *p) { for (;;) ; return p; }

static int has(const char *file, size_t n, unsigned long addr, const char *text)
{
	const Elf64_Ehdr *e = (void *)file;
	const Elf64_Phdr *p = (void *)(file + e->e_phoff);
	for (int i = 0; i < e->e_phnum; i++)
		if (p[i].p_type == PT_LOAD && addr >= p[i].p_vaddr && addr - p[i].p_vaddr < p[i].p_filesz)
			return !strcmp(file + p[i].p_offset + (addr - p[i].p_vaddr), text);
	return -1;
}

static void look(void)
{
	int fd = open("core", O_RDONLY);
	if (fd < 0) {
		printf("no file\n");
		return;
	}
	size_t n = lseek(fd, 0, SEEK_END);
	char *file = mmap(0, n, PROT_READ, MAP_PRIVATE, fd, 0);
	const Elf64_Ehdr *e = (void *)file;
	printf("core: type %d machine %d, phentsize %d\n", e->e_type, e->e_machine, e->e_phentsize);
	const Elf64_Phdr *p = (void *)(file + e->e_phoff);
	printf("first is a note: %d\n", p->p_type == PT_NOTE);
	int threads = 0, kinds[8] = { 0 }, sig = 0;
	for (size_t at = p->p_offset; at < p->p_offset + p->p_filesz;) {
		const Elf64_Nhdr *h = (void *)(file + at);
		const char *desc = file + at + sizeof *h + ((h->n_namesz + 3) & ~3u);
		if (h->n_type == NT_PRSTATUS && !threads++)
			sig = *(int *)desc;
		kinds[0] += h->n_type == NT_PRPSINFO;
		kinds[1] += h->n_type == NT_SIGINFO;
		kinds[2] += h->n_type == NT_AUXV;
		kinds[3] += h->n_type == NT_FILE;
		kinds[4] += h->n_type == NT_FPREGSET;
		at = (size_t)(desc - file) + ((h->n_descsz + 3) & ~3u);
	}
	printf("threads %d, signal %d, psinfo %d siginfo %d auxv %d file %d, some fpregs %d\n", threads, sig, kinds[0], kinds[1],
	       kinds[2], kinds[3], kinds[4] > 0);
	printf("data %d, heap %d\n", has(file, n, (long)marker, marker), has(file, n, (long)heap, "in the heap"));
	munmap(file, n);
	close(fd);
	unlink("core");
}

static void die(const char *what, unsigned long limit, int threads, void (*how)(void))
{
	pid_t pid = fork();
	if (!pid) {
		struct rlimit r = { limit, RLIM_INFINITY };
		setrlimit(RLIMIT_CORE, &r);
		pthread_t t;
		for (int i = 0; i < threads; i++)
			pthread_create(&t, 0, i ? spin : rest, 0);
		how();
		_exit(1);
	}
	int s;
	siginfo_t si;
	waitid(P_PID, pid, &si, WEXITED | WNOWAIT);
	waitpid(pid, &s, 0);
	printf("%s: signal %d, core %d, code %d status %d\n", what, WTERMSIG(s), !!WCOREDUMP(s), si.si_code, si.si_status);
}

static void by_abort(void) { signal(SIGABRT, SIG_DFL); abort(); }
static void by_fault(void) { *(volatile int *)8 = 1; }
static void by_term(void) { raise(SIGTERM); }
static void undumpable(void) { prctl(PR_SET_DUMPABLE, 0); abort(); }
static void by_int(void) { __asm__ volatile(".byte 0xcd, 0x03"); }
static void by_icebp(void) { __asm__ volatile(".byte 0xf1"); }

static volatile int code;
static void trapped(int sig, siginfo_t *si, void *uc) { code = si->si_code; }

int main(void)
{
	char dir[] = "/tmp/drupe-cores-XXXXXX";
	setvbuf(stdout, 0, _IOLBF, 0);
	if (!mkdtemp(dir) || chdir(dir))
		return 1;
	heap = malloc(100000);
	strcpy(heap, "in the heap");
	die("abort", RLIM_INFINITY, 0, by_abort);
	look();
	die("fault with threads", RLIM_INFINITY, 3, by_fault);
	look();
	die("no limit left", 0, 0, by_abort);
	look();
	die("not that signal", RLIM_INFINITY, 0, by_term);
	look();
	die("not dumpable", RLIM_INFINITY, 0, undumpable);
	look();
	die("int 3", RLIM_INFINITY, 0, by_int);
	look();
	die("icebp", RLIM_INFINITY, 0, by_icebp);
	look();
	struct sigaction a = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO };
	sigaction(SIGTRAP, &a, 0);
	for (int i = 0; i < 100; i++)
		getppid();
	by_int();
	printf("int 3 handled, code %x\n", code);
	by_icebp();
	printf("icebp handled, code %x\n", code);
	rmdir(dir);
	return 0;
}
