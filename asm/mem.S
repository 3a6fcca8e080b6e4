/* The memory functions that compilers call. `rep movsb` is fast on every CPU with ERMS; short ones
 * go through loops. */
        .intel_syntax noprefix
        .text

        .globl memcpy
        .type memcpy, @function
memcpy:
        mov     rax, rdi
        cmp     rdx, 16
        jb      2f
        cmp     rdx, 256
        ja      1f
        /* 16..256 bytes: 16 at a time, the last 16 overlap */
        movups  xmm1, xmmword ptr [rsi + rdx - 16]
        lea     rcx, [rdi + rdx - 16]
3:      movups  xmm0, xmmword ptr [rsi]
        movups  xmmword ptr [rdi], xmm0
        add     rsi, 16
        add     rdi, 16
        cmp     rdi, rcx
        jb      3b
        movups  xmmword ptr [rcx], xmm1
        ret
1:      mov     rcx, rdx
        rep movsb
        ret
2:      cmp     edx, 8
        jb      4f
        mov     rcx, qword ptr [rsi]
        mov     r8, qword ptr [rsi + rdx - 8]
        mov     qword ptr [rdi], rcx
        mov     qword ptr [rdi + rdx - 8], r8
        ret
4:      test    edx, edx
        jz      6f
5:      mov     cl, byte ptr [rsi + rdx - 1]
        mov     byte ptr [rdi + rdx - 1], cl
        dec     edx
        jnz     5b
6:      ret
        .size memcpy, . - memcpy

        .globl memmove
        .type memmove, @function
memmove:
        mov     rax, rdi
        mov     rcx, rdi
        sub     rcx, rsi
        cmp     rcx, rdx
        jae     7f                      /* dst < src, or no overlap: forwards is right */
8:      cmp     rdx, 8                  /* backwards, eight at a time, then bytes */
        jb      9f
        mov     rcx, qword ptr [rsi + rdx - 8]
        mov     qword ptr [rdi + rdx - 8], rcx
        sub     rdx, 8
        jmp     8b
9:      test    edx, edx
        jz      10f
11:     mov     cl, byte ptr [rsi + rdx - 1]
        mov     byte ptr [rdi + rdx - 1], cl
        dec     edx
        jnz     11b
10:     ret
7:      mov     rcx, rdx
        shr     rcx, 3
        and     edx, 7
        rep movsq
        mov     ecx, edx
        rep movsb
        ret
        .size memmove, . - memmove

        .globl memset
        .type memset, @function
memset:
        mov     r8, rdi
        movzx   eax, sil
        mov     rcx, 0x0101010101010101
        imul    rax, rcx
        cmp     rdx, 32
        ja      2f
        cmp     edx, 8
        jb      3f
        mov     qword ptr [rdi + rdx - 8], rax
1:      mov     qword ptr [rdi], rax
        add     rdi, 8
        sub     edx, 8
        cmp     edx, 8
        jae     1b
        mov     rax, r8
        ret
2:      mov     rcx, rdx
        rep stosb
        mov     rax, r8
        ret
3:      test    edx, edx
        jz      5f
4:      mov     byte ptr [rdi + rdx - 1], al
        dec     edx
        jnz     4b
5:      mov     rax, r8
        ret
        .size memset, . - memset

        .globl memcmp, bcmp
        .type memcmp, @function
        .type bcmp, @function
memcmp:
bcmp:
        xor     ecx, ecx
1:      lea     r9, [rcx + 8]
        cmp     r9, rdx
        ja      3f
        mov     rax, qword ptr [rdi + rcx]
        mov     r8, qword ptr [rsi + rcx]
        cmp     rax, r8
        jne     2f
        mov     rcx, r9
        jmp     1b
2:      bswap   rax
        bswap   r8
        cmp     rax, r8
        sbb     eax, eax
        or      eax, 1
        ret
3:      cmp     rcx, rdx
        jae     5f
        movzx   eax, byte ptr [rdi + rcx]
        movzx   r8d, byte ptr [rsi + rcx]
        inc     rcx
        sub     eax, r8d
        je      3b
        ret
5:      xor     eax, eax
        ret
        .size memcmp, . - memcmp

        .globl strlen
        .type strlen, @function
strlen:
        xor     eax, eax
1:      cmp     byte ptr [rdi + rax], 0
        je      2f
        inc     rax
        jmp     1b
2:      ret
        .size strlen, . - strlen

        .section .note.GNU-stack, "", @progbits
