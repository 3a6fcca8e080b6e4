/* The way into the kernel from a rewritten call site, and back, without the host.
 *
 * A stub has loaded the address behind the site into rcx and jumped here; gs is the slot, everything
 * else is the guest's. Nothing of the guest's stack is touched. The vector state stays in the
 * registers: the kernel is compiled for legacy SSE, so xmm0-15 are all that it can change.
 *
 * A host signal may come at every instruction. Until `place` says KERNEL and after the last look at
 * `kick` the trap handler knows these ranges (trap/rewrite.rs):
 *   drupe_fast_entry .. drupe_fast_saved     a fault means that gs is not ours
 *   drupe_fast_checked .. drupe_fast_end     already the guest's state but for rip, rcx and rsp
 *   drupe_fast_xrstor                        a fault means that the guest's extended state is no good
 */
#include "offsets.h"
        .intel_syntax noprefix
#include "frame.inc"
        .text

        .set    FRAME, CTX_SIZE + 256
        .set    BAD_FLAGS, 0x44500              /* AC, NT, DF, TF */

        .globl drupe_fast_entry, drupe_fast_saved, drupe_fast_checked, drupe_fast_end
        .globl drupe_work_ip, drupe_fast_last, drupe_fast_xrstor, drupe_fast_xrstor_bad
        .type drupe_fast_entry, @function
drupe_fast_entry:
        mov     gs:[SLOT_USER_SP], rsp
drupe_fast_saved:
        mov     gs:[SLOT_USER_IP], rcx
        mov     rsp, gs:[SLOT_STACK_TOP]
        lea     rsp, [rsp - FRAME]
        mov     [rsp + CTX_RAX], rax
        pushfq
        pop     r11
        test    r11d, BAD_FLAGS
        jnz     .Lclean_flags
.Lflags_clean:
        mov     dword ptr gs:[SLOT_PLACE], PLACE_KERNEL
        mov     [rsp + CTX_R8], r8
        mov     [rsp + CTX_R9], r9
        mov     [rsp + CTX_R10], r10
        mov     [rsp + CTX_R11], r11
        mov     [rsp + CTX_EFLAGS], r11
        mov     [rsp + CTX_R12], r12
        mov     [rsp + CTX_R13], r13
        mov     [rsp + CTX_R14], r14
        mov     [rsp + CTX_R15], r15
        mov     [rsp + CTX_RDI], rdi
        mov     [rsp + CTX_RSI], rsi
        mov     [rsp + CTX_RBP], rbp
        mov     [rsp + CTX_RBX], rbx
        mov     [rsp + CTX_RDX], rdx
        mov     [rsp + CTX_RCX], rcx
        mov     [rsp + CTX_RIP], rcx
        mov     rcx, gs:[SLOT_USER_SP]
        mov     [rsp + CTX_RSP], rcx
        movabs  rcx, 0x002b000000000033         /* cs, gs, fs, ss */
        mov     [rsp + CTX_CS], rcx
        xor     ecx, ecx
        mov     [rsp + CTX_FPSTATE], rcx
        save_xmm rsp + CTX_SIZE
        mov     rdi, rsp
        call    drupe_fast_call
        cmp     eax, FAST_WHOLE
        je      .Lwhole
        /* rax: 0 to return to the guest, else the work wants a frame that the host writes */
        mov     rsi, rax
        mov     r11, [rsp + CTX_EFLAGS]
        test    r11d, BAD_FLAGS
        jnz     .Lall_flags
        /* The arithmetic flags, without the cost of a popfq: overflow by an addition, the rest by sahf. */
        mov     ecx, r11d
        mov     eax, r11d
        shr     eax, 11
        and     eax, 1
        mov     ah, cl
        add     al, 0x7f
        sahf
.Lflags_set:                                    /* no instruction from here on changes flags */
        mov     rcx, rsi
        load_xmm rsp + CTX_SIZE
        load_arguments
        jrcxz   .Lno_work
        jmp     .Lwork
.Lno_work:
        xchg    dword ptr gs:[SLOT_PLACE], ecx  /* rcx is 0: GUEST; orders the store before the load */
        mov     ecx, gs:[SLOT_KICK]
drupe_fast_checked:
        jrcxz   .Lgo
        mov     gs:[SLOT_USER_AX], rax
.Lwork:
        mov     dword ptr gs:[SLOT_PLACE], PLACE_KERNEL
        mov     rsp, gs:[SLOT_USER_SP]
        /* From here the filter makes the host write a whole frame; the handler knows the address, and takes
         * rax from the slot. A result in rax would be a number to the host, and some numbers (uretprobe)
         * escape every filter. */
        mov     eax, 39                 /* getpid */
        syscall
drupe_work_ip:
        ud2
.Lgo:
        mov     rsp, gs:[SLOT_USER_SP]
        mov     rcx, gs:[SLOT_USER_IP]
        jmp     rcx
drupe_fast_end:
        /* Every register from the frame: a signal's handler starts, or it has returned. The kernel has
         * seen that rcx is rip and that the flags are harmless. */
.Lwhole:
        mov     rcx, [rsp + CTX_FPSTATE]
        mov     eax, [rcx + FPU_FEATURES]
        mov     edx, [rcx + FPU_FEATURES + 4]
drupe_fast_xrstor:
        xrstor64 [rcx]
        mov     r12, [rsp + CTX_R12]
        mov     r13, [rsp + CTX_R13]
        mov     r14, [rsp + CTX_R14]
        mov     r15, [rsp + CTX_R15]
        mov     rbp, [rsp + CTX_RBP]
        mov     rbx, [rsp + CTX_RBX]
        mov     r11, [rsp + CTX_EFLAGS]
        push    r11
        popfq
        load_arguments
        mov     ecx, 0
        jmp     .Lno_work
drupe_fast_xrstor_bad:
        mov     qword ptr [rcx + FPU_HEADER], 0
        jmp     drupe_fast_xrstor
.Lall_flags:
        push    r11
        popfq
        jmp     .Lflags_set
.Lclean_flags:
        push    0x202
        popfq
drupe_fast_last:
        jmp     .Lflags_clean
        .size drupe_fast_entry, . - drupe_fast_entry

        .section .note.GNU-stack, "", @progbits
