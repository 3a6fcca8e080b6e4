/* Calls in a loop with a known value in every register, and looks at each of them afterwards. Somebody
 * outside interrupts the way of the call into the kernel and back at every instruction. Says where the count
 * of handled signals is. Ends when told by a signal; prints what was wrong. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int done;
static volatile long handled, wrong, calls;

static void finish(int sig) { done = 1; }

static void handler(int sig)
{
	__asm__ volatile("pxor %%xmm0, %%xmm0; pxor %%xmm15, %%xmm15; fninit; std; cld" ::: "xmm0", "xmm15");
	handled++;
}

static struct {
	unsigned long gpr[16];
	unsigned char xmm[16][16];
	unsigned long flags, zone;
} in, out;

/* rax: in the number, out the result; rcx and r11 are the call's; rsp is what it is. */
void once(void);
__asm__(
	".text\n.globl once, site\n"
	"once:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	lea in(%rip), %rax\n"
	"	movdqu 128(%rax), %xmm0; movdqu 144(%rax), %xmm1; movdqu 160(%rax), %xmm2; movdqu 176(%rax), %xmm3\n"
	"	movdqu 192(%rax), %xmm4; movdqu 208(%rax), %xmm5; movdqu 224(%rax), %xmm6; movdqu 240(%rax), %xmm7\n"
	"	movdqu 256(%rax), %xmm8; movdqu 272(%rax), %xmm9; movdqu 288(%rax), %xmm10; movdqu 304(%rax), %xmm11\n"
	"	movdqu 320(%rax), %xmm12; movdqu 336(%rax), %xmm13; movdqu 352(%rax), %xmm14; movdqu 368(%rax), %xmm15\n"
	"	mov 8(%rax), %rbx; mov 16(%rax), %rdx; mov 24(%rax), %rsi; mov 32(%rax), %rdi; mov 40(%rax), %rbp\n"
	"	mov 48(%rax), %r8; mov 56(%rax), %r9; mov 64(%rax), %r10; mov 72(%rax), %r12; mov 80(%rax), %r13\n"
	"	mov 88(%rax), %r14; mov 96(%rax), %r15\n"
	"	movq $0x1234567, -64(%rsp)\n"
	"	cmp $1, %rax; stc\n"
	"	mov $110, %eax\n"
	"site:	syscall\n"
	"	cmp $-4095, %rax\n"
	"	lea out(%rip), %rax\n"
	"	mov %rbx, 8(%rax); mov %rdx, 16(%rax); mov %rsi, 24(%rax); mov %rdi, 32(%rax); mov %rbp, 40(%rax)\n"
	"	mov %r8, 48(%rax); mov %r9, 56(%rax); mov %r10, 64(%rax); mov %r12, 72(%rax); mov %r13, 80(%rax)\n"
	"	mov %r14, 88(%rax); mov %r15, 96(%rax)\n"
	"	movdqu %xmm0, 128(%rax); movdqu %xmm1, 144(%rax); movdqu %xmm2, 160(%rax); movdqu %xmm3, 176(%rax)\n"
	"	movdqu %xmm4, 192(%rax); movdqu %xmm5, 208(%rax); movdqu %xmm6, 224(%rax); movdqu %xmm7, 240(%rax)\n"
	"	movdqu %xmm8, 256(%rax); movdqu %xmm9, 272(%rax); movdqu %xmm10, 288(%rax); movdqu %xmm11, 304(%rax)\n"
	"	movdqu %xmm12, 320(%rax); movdqu %xmm13, 336(%rax); movdqu %xmm14, 352(%rax); movdqu %xmm15, 368(%rax)\n"
	"	mov -64(%rsp), %rcx; mov %rcx, 392(%rax)\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n");

int main(void)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	sigaction(SIGUSR1, &action, 0);
	signal(SIGTERM, finish);
	setvbuf(stdout, NULL, _IONBF, 0);
	for (int i = 0; i < 16; i++) {
		in.gpr[i] = 0x1111111111111111ul * (i + 1);
		memset(in.xmm[i], 0x30 + i, 16);
	}
	/* Hot from here on. */
	for (int i = 0; i < 200; i++)
		once();
	printf("%lu\n", (unsigned long)&handled);
	while (!done) {
		memset(&out, 0, sizeof out);
		once();
		calls++;
		if (memcmp(in.gpr + 1, out.gpr + 1, 12 * 8) || memcmp(in.xmm, out.xmm, sizeof in.xmm) || out.zone != 0x1234567)
			wrong++;
	}
	printf("wrong %ld, called %d, handled %ld\n", wrong, calls > 0, handled);
	return 0;
}
