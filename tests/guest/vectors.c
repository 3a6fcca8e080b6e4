/* Vector registers, MXCSR, x87 control word, callee-saved registers, flags and the red zone survive
 * system calls and signals. The argument says how often (2000). */
#define _GNU_SOURCE
#include <immintrin.h>
#include <signal.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int handled;

static void handler(int sig)
{
	/* Use everything, to disturb what was not saved. */
	__asm__ volatile("pxor %%xmm0, %%xmm0; pxor %%xmm7, %%xmm7; pxor %%xmm15, %%xmm15; fninit" ::: "xmm0", "xmm7", "xmm15");
	handled++;
}

static long call_with_pattern(long nr, long a, long b, unsigned char out[16][16])
{
	unsigned char in[16][16];
	long r;
	for (int i = 0; i < 16; i++)
		memset(in[i], 0x10 + i, 16);
	__asm__ volatile(
		"movdqu 0x00(%[in]), %%xmm0\n movdqu 0x10(%[in]), %%xmm1\n movdqu 0x20(%[in]), %%xmm2\n"
		"movdqu 0x30(%[in]), %%xmm3\n movdqu 0x40(%[in]), %%xmm4\n movdqu 0x50(%[in]), %%xmm5\n"
		"movdqu 0x60(%[in]), %%xmm6\n movdqu 0x70(%[in]), %%xmm7\n movdqu 0x80(%[in]), %%xmm8\n"
		"movdqu 0x90(%[in]), %%xmm9\n movdqu 0xa0(%[in]), %%xmm10\n movdqu 0xb0(%[in]), %%xmm11\n"
		"movdqu 0xc0(%[in]), %%xmm12\n movdqu 0xd0(%[in]), %%xmm13\n movdqu 0xe0(%[in]), %%xmm14\n"
		"movdqu 0xf0(%[in]), %%xmm15\n"
		"syscall\n"
		"movdqu %%xmm0, 0x00(%[out])\n movdqu %%xmm1, 0x10(%[out])\n movdqu %%xmm2, 0x20(%[out])\n"
		"movdqu %%xmm3, 0x30(%[out])\n movdqu %%xmm4, 0x40(%[out])\n movdqu %%xmm5, 0x50(%[out])\n"
		"movdqu %%xmm6, 0x60(%[out])\n movdqu %%xmm7, 0x70(%[out])\n movdqu %%xmm8, 0x80(%[out])\n"
		"movdqu %%xmm9, 0x90(%[out])\n movdqu %%xmm10, 0xa0(%[out])\n movdqu %%xmm11, 0xb0(%[out])\n"
		"movdqu %%xmm12, 0xc0(%[out])\n movdqu %%xmm13, 0xd0(%[out])\n movdqu %%xmm14, 0xe0(%[out])\n"
		"movdqu %%xmm15, 0xf0(%[out])\n"
		: "=a"(r)
		: "a"(nr), "D"(a), "S"(b), [in] "r"(in), [out] "r"(out)
		: "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
		  "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	long bad = memcmp(in, out, sizeof in) != 0;
	return r < 0 ? r : bad;
}

static __attribute__((target("avx"))) long upper_halves(long nr, long a, long b)
{
	unsigned char in[32], out[32];
	long r;
	memset(in, 0x5a, 32);
	__asm__ volatile("vmovdqu %[in], %%ymm9\n syscall\n vmovdqu %%ymm9, %[out]\n"
			 : "=a"(r), [out] "=m"(out)
			 : "a"(nr), "D"(a), "S"(b), [in] "m"(in)
			 : "rcx", "r11", "memory", "xmm9");
	return memcmp(in, out, 32) != 0;
}

static __attribute__((target("avx512f"))) long whole_zmm(long nr, long a, long b)
{
	unsigned char in[64], out[64];
	long r;
	memset(in, 0x3c, 64);
	__asm__ volatile("vmovdqu64 %[in], %%zmm21\n syscall\n vmovdqu64 %%zmm21, %[out]\n"
			 : "=a"(r), [out] "=m"(out)
			 : "a"(nr), "D"(a), "S"(b), [in] "m"(in)
			 : "rcx", "r11", "memory", "xmm21");
	return memcmp(in, out, 64) != 0;
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 2000;
	unsigned char out[16][16];
	long bad = 0, pid = getpid();
	setvbuf(stdout, NULL, _IONBF, 0);
	signal(SIGUSR1, handler);
	for (long i = 0; i < n; i++)
		bad += call_with_pattern(SYS_getppid, 0, 0, out) != 0;
	printf("xmm over a call: %ld\n", bad);
	for (long i = 0; i < n; i++)
		bad += call_with_pattern(SYS_kill, pid, SIGUSR1, out) != 0;
	printf("xmm over a signal: %ld, handled %d\n", bad, handled);
	if (__builtin_cpu_supports("avx")) {
		for (long i = 0; i < n; i++)
			bad += upper_halves(SYS_getppid, 0, 0) + upper_halves(SYS_kill, pid, SIGUSR1);
	}
	if (__builtin_cpu_supports("avx512f")) {
		for (long i = 0; i < n; i++)
			bad += whole_zmm(SYS_getppid, 0, 0) + whole_zmm(SYS_kill, pid, SIGUSR1);
	}
	printf("ymm, zmm: %ld\n", bad);
	unsigned mx = 0x1f80 | 0x6000, after = 0;
	unsigned short cw = 0x027f, cw2 = 0;
	__asm__ volatile("ldmxcsr %0; fldcw %1" ::"m"(mx), "m"(cw));
	for (long i = 0; i < n / 2; i++) {
		syscall(SYS_getppid);
		syscall(SYS_kill, pid, SIGUSR1);
	}
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(after), "=m"(cw2));
	printf("mxcsr %x x87 %x\n", after & ~0x3f, cw2);
	unsigned long flags;
	__asm__ volatile("std; mov %1, %%eax; syscall; pushf; pop %0; cld"
			 : "=r"(flags) : "i"(SYS_getppid) : "rax", "rcx", "r11", "memory");
	printf("direction flag kept: %lu\n", flags >> 10 & 1);
	unsigned long zone;
	__asm__ volatile("movq $0x77, -16(%%rsp); mov %1, %%eax; syscall; movq -16(%%rsp), %0"
			 : "=r"(zone) : "i"(SYS_getppid) : "rax", "rcx", "r11", "memory");
	printf("red zone %lx\n", zone);
	return 0;
}
