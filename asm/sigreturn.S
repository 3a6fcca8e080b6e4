/* The way back to where a signal frame says: to the guest, or to interrupted kernel code. */
#include "offsets.h"
        .intel_syntax noprefix
        .text

/* void drupe_enter_guest(struct ucontext *uc, struct slot *slot)  does not return.
 *
 * The slot is marked as running guest code, then `kick` is looked at once more. A kick that comes
 * later either finds the pc between here and drupe_sigreturn_syscall, and the trap handler moves it
 * to drupe_enter_kicked, or it interrupts guest code. rsp may already be at the frame then, so what
 * lay below is lost: drupe_enter_kicked starts the exit work afresh.
 */
        .globl drupe_enter_guest, drupe_enter_first, drupe_enter_kicked, drupe_sigreturn_syscall, drupe_sigreturn_ip
        .type drupe_enter_guest, @function
drupe_enter_guest:
drupe_enter_first:                      /* the same place, as a mark for the trap handler */
        xor     eax, eax
        xchg    dword ptr [rsi + SLOT_PLACE], eax
        cmp     dword ptr [rsi + SLOT_KICK], 0
        jne     drupe_enter_kicked
drupe_sigreturn_go:
        mov     rsp, rdi
        mov     eax, 15                 /* rt_sigreturn */
drupe_sigreturn_syscall:
        syscall
drupe_sigreturn_ip:
        ud2
drupe_enter_kicked:
        mov     dword ptr [rsi + SLOT_PLACE], PLACE_KERNEL
        lea     rsp, [rdi - 256]
        and     rsp, -16
        call    drupe_exit_work
        ud2
        .size drupe_enter_guest, . - drupe_enter_guest

/* void drupe_resume_kernel(struct ucontext *uc)  does not return: back into kernel code. rsi is no slot
 * then, by which the trap handler tells this from the way to the guest: the interrupted code may have
 * marked the slot as running guest code already. */
        .globl drupe_resume_kernel
        .type drupe_resume_kernel, @function
drupe_resume_kernel:
        xor     esi, esi
        jmp     drupe_sigreturn_go
        .size drupe_resume_kernel, . - drupe_resume_kernel

        .section .note.GNU-stack, "", @progbits
