/* Ways into the kernel. */
#include "offsets.h"
        .intel_syntax noprefix
        .text

/* The host's handler for every signal that it sends us: (sig in edi, siginfo in rsi, ucontext in rdx),
 * on the slot's stack. A guest's alignment-check, trap, direction and nested-task flags must not
 * reach the kernel. */
        .globl drupe_trap
        .type drupe_trap, @function
drupe_trap:
        push    0x202
        popfq
        cld
        sub     rsp, 8                  /* the host enters as a call does: aligned before it */
        call    drupe_on_signal
        ud2
        .size drupe_trap, . - drupe_trap

/* Never returned to: the trap handlers leave by drupe_enter_guest or drupe_resume_kernel. The host
 * wants a restorer all the same. */
        .globl drupe_restorer
        .type drupe_restorer, @function
drupe_restorer:
        ud2
        .size drupe_restorer, . - drupe_restorer

/* First instruction of a cloned child: its stack holds a function and its argument. */
        .globl drupe_child_start
        .type drupe_child_start, @function
drupe_child_start:
        pop     rax
        pop     rdi
        xor     ebp, ebp
        and     rsp, -16
        call    rax
        ud2
        .size drupe_child_start, . - drupe_child_start

/* long drupe_call_on(void *stack_top, fn, a, b, c, d): calls fn(a, b, c, d) on another stack. */
        .globl drupe_call_on
        .type drupe_call_on, @function
drupe_call_on:
        push    rbp
        mov     rbp, rsp
        mov     rsp, rdi
        mov     rax, rsi
        mov     rdi, rdx
        mov     rsi, rcx
        mov     rdx, r8
        mov     rcx, r9
        call    rax
        mov     rsp, rbp
        pop     rbp
        ret
        .size drupe_call_on, . - drupe_call_on

        .section .note.GNU-stack, "", @progbits
