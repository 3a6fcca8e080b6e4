/* The gate: the only `syscall` instruction that the seccomp filter lets through, besides the one
 * for rt_sigreturn in sigreturn.S.
 *
 * long drupe_gate(a0, a1, a2, a3, a4, a5, long nr)   System V arguments, nr on the stack.
 *
 * Nothing is pushed, so that at every instruction from drupe_gate to drupe_gate_syscall the stack
 * pointer is at the return address: a kick that finds the pc there, in a call that can block,
 * continues at drupe_gate_interrupted. A cloned child returns from here onto its own stack.
 */
        .intel_syntax noprefix
        .text

        .globl drupe_gate, drupe_gate_first, drupe_gate_syscall, drupe_gate_ip, drupe_gate_interrupted
        .type drupe_gate, @function
drupe_gate:
drupe_gate_first:                       /* the same place, as a mark for the trap handler */
        mov     r10, rcx
        mov     eax, dword ptr [rsp + 8]
drupe_gate_syscall:
        syscall
drupe_gate_ip:
        ret
        .size drupe_gate, . - drupe_gate

        .type drupe_gate_interrupted, @function
drupe_gate_interrupted:
        mov     rax, -4                 /* -EINTR */
        ret
        .size drupe_gate_interrupted, . - drupe_gate_interrupted

        .section .note.GNU-stack, "", @progbits
