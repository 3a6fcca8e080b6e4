/* The extended state of a call that came from a rewritten site: it is still in the registers, but for
 * the lower halves of the vector registers, which lie in the call's frame. */
        .intel_syntax noprefix
        .text

/* void drupe_fpu_save(void *xsave_area, const void *xmm, u32 features_low, u32 features_high) */
        .globl drupe_fpu_save
        .type drupe_fpu_save, @function
drupe_fpu_save:
        movaps  xmm0, [rsi]
        movaps  xmm1, [rsi + 16]
        movaps  xmm2, [rsi + 32]
        movaps  xmm3, [rsi + 48]
        movaps  xmm4, [rsi + 64]
        movaps  xmm5, [rsi + 80]
        movaps  xmm6, [rsi + 96]
        movaps  xmm7, [rsi + 112]
        movaps  xmm8, [rsi + 128]
        movaps  xmm9, [rsi + 144]
        movaps  xmm10, [rsi + 160]
        movaps  xmm11, [rsi + 176]
        movaps  xmm12, [rsi + 192]
        movaps  xmm13, [rsi + 208]
        movaps  xmm14, [rsi + 224]
        movaps  xmm15, [rsi + 240]
        mov     eax, edx
        mov     edx, ecx
        xsave64 [rdi]
        ret
        .size drupe_fpu_save, . - drupe_fpu_save

        .section .note.GNU-stack, "", @progbits
