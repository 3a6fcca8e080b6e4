/* Call sites of every shape in one long loop each: what is behind the call, and in front of it, decides where a
 * rewritten site could lead. Some of them have room for that only in a copy of the code. Prints that every call gave
 * what it should, also after the code's pages were thrown away. */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef long (*caller)(void);

/* A displacement that leads nowhere from a low address (89 c2 c3: negative). */
__attribute__((noinline)) long behind_ret(void)
{
	long r;
	__asm__ volatile("mov $110, %%eax\n\tsyscall\n\tmov %%rax, %%rdx\n\tmov %%rdx, %0" : "=r"(r) : : "rax", "rcx", "rdx", "r11", "memory");
	return r;
}

/* The 64-bit form of the number. */
__attribute__((noinline)) long wide(void)
{
	long r;
	__asm__ volatile("mov $110, %%rax\n\tsyscall\n\ttest %%eax, %%eax\n\tcmovs %%rcx, %%rax\n\tmov %%rax, %0" : "=r"(r) : : "rax", "rcx", "r11", "memory");
	return r;
}

/* The number comes from the stack, as in Go. */
__attribute__((noinline)) long from_stack(void)
{
	long r;
	__asm__ volatile("sub $256, %%rsp\n\tmovq $110, 16(%%rsp)\n\tmov 16(%%rsp), %%rax\n\tsyscall\n\t"
			 "add $256, %%rsp\n\tmov %%rax, %0" : "=r"(r) : : "rax", "rcx", "r11", "memory");
	return r;
}

/* The number was set long before. */
__attribute__((noinline)) long early(void)
{
	long r;
	__asm__ volatile("mov $110, %%edx\n\tmov %%edx, %%eax\n\tsyscall\n\tmov %%rax, %%rdx\n\tmov %%rdx, %0" : "=r"(r) : : "rax", "rcx", "rdx", "r11", "memory");
	return r;
}

/* As the C library has it. */
__attribute__((noinline)) long common(void)
{
	long r;
	__asm__ volatile("mov $110, %%eax\n\tsyscall\n\tcmp $-4095, %%rax\n\tmov %%rax, %0" : "=r"(r) : : "rax", "rcx", "r11", "memory");
	return r;
}

static int all_agree(caller call, long expected)
{
	for (int i = 0; i < 20000; i++)
		if (call() != expected)
			return 0;
	return 1;
}

int main(void)
{
	caller calls[] = {behind_ret, wide, from_stack, early, common};
	long parent = getppid();
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 5; i++)
			printf("round %d, form %d: %s\n", round, i, all_agree(calls[i], parent) ? "agrees" : "differs");
		/* The next round finds the code as the file has it. */
		unsigned long page = (unsigned long)behind_ret & ~4095ul;
		printf("thrown away: %d\n", madvise((void *)page, 8192, MADV_DONTNEED));
	}
	return 0;
}
