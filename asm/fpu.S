/* The extended state of a call that came from a rewritten site: it is still in the registers, but for
 * the lower halves of the vector registers, which lie in the call's frame. */
        .intel_syntax noprefix
#include "frame.inc"
        .text

/* void drupe_fpu_save(void *xsave_area, const void *xmm, u32 features_low, u32 features_high) */
        .globl drupe_fpu_save
        .type drupe_fpu_save, @function
drupe_fpu_save:
        load_xmm rsi
        mov     eax, edx
        mov     edx, ecx
        xsave64 [rdi]
        ret
        .size drupe_fpu_save, . - drupe_fpu_save

        .section .note.GNU-stack, "", @progbits
