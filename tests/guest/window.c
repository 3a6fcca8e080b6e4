// Asks the kernel, by ordinary calls, for its own memory, whose address gs tells: to read, write, map, move, unmap and
// protect it. Prints what each call says.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void say(const char *what, long r)
{
	printf("%s: %s\n", what, r == -1 ? strerror(errno) : "done");
}

int main(void)
{
	char *slot;
	for (int i = 0; i < 100; i++)
		getppid();
	__asm__ volatile("rdgsbase %0" : "=r"(slot));
	if (!slot) {
		puts("no slot");
		return 1;
	}
	char *page = (char *)((unsigned long)slot & ~4095ul);
	static char own[4096];
	int self = open("/proc/self/mem", O_RDWR), zero = open("/dev/zero", O_RDWR), null = open("/dev/null", O_WRONLY);
	struct iovec here = {own, 64}, there = {page, 64};
	int p[2];
	pipe(p);
	say("read into it", read(zero, page, 64));
	say("write from it", write(p[1], page, 64));
	say("/proc/self/mem, read", pread(self, own, 64, (off_t)page));
	say("/proc/self/mem, write", pwrite(self, own, 64, (off_t)page));
	say("process_vm_readv", process_vm_readv(getpid(), &here, 1, &there, 1, 0));
	say("process_vm_writev", process_vm_writev(getpid(), &here, 1, &there, 1, 0));
	say("process_vm_readv into it", process_vm_readv(getpid(), &there, 1, &here, 1, 0));
	say("vmsplice", vmsplice(p[1], &there, 1, 0));
	say("munmap", munmap(page, 4096));
	say("munmap around it", munmap(page - (1l << 30), 2l << 30));
	say("mprotect", mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
	say("madvise", madvise(page, 4096, MADV_DONTNEED));
	say("mremap from it", (long)mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, own));
	say("mremap over it", (long)mremap(own, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page));
	say("mmap over it", (long)mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	say("a file over it", (long)mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, zero, 0));
	int segment = shmget(IPC_PRIVATE, 4096, 0600);
	say("shmat over it", (long)shmat(segment, page, SHM_REMAP));
	shmctl(segment, IPC_RMID, 0);
	say("remap_file_pages", syscall(SYS_remap_file_pages, page, 4096, 0, 0, 0));
	say("mlock", mlock(page, 4096));
	say("mincore", mincore(page, 4096, (unsigned char *)own));
	say("brk below it", syscall(SYS_brk, page) == (long)page ? 0 : (errno = ENOMEM, -1));
	say("a robust list in it", syscall(SYS_set_robust_list, page, 24));
	say("a stack for signals in it", sigaltstack(&(stack_t){page, 0, 1 << 16}, 0));
	say("rseq in it", syscall(SYS_rseq, page, 32, 0, 0));
	say("PR_SET_MM", prctl(PR_SET_MM, PR_SET_MM_START_CODE, page, 0, 0));
	printf("alive %d\n", getpid() > 0);
	return 0;
}
