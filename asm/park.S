/* Parking: the thread's kernel stack holds all that it needs to go on. */
        .intel_syntax noprefix
        .text

/* void drupe_park(u64 *parked, void (*wait)(void))
 *
 * Calls wait(). Meanwhile *parked is a stack pointer at which lie the registers that functions preserve
 * (r15, r14, r13, r12, rbx, rbp) and the return address: whoever loads it, pops them and returns goes on
 * in this function's caller.
 */
        .globl drupe_park
        .type drupe_park, @function
drupe_park:
        push    rbp
        push    rbx
        push    r12
        push    r13
        push    r14
        push    r15
        mov     rbx, rdi
        mov     [rbx], rsp
        sub     rsp, 8                  /* aligned at the call */
        call    rsi
        add     rsp, 8
.Lgo_on:
        mov     qword ptr [rbx], 0
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbx
        pop     rbp
        ret
        .size drupe_park, . - drupe_park

/* void drupe_unpark(u64 *parked, u64 stack)  does not return: goes on in drupe_park's caller, whose
 * registers lie at `stack`, which is what *parked said.
 */
        .globl drupe_unpark
        .type drupe_unpark, @function
drupe_unpark:
        mov     rsp, rsi
        mov     rbx, rdi
        jmp     .Lgo_on
        .size drupe_unpark, . - drupe_unpark

        .section .note.GNU-stack, "", @progbits
