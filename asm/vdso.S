/* The guest's vDSO: clocks without leaving guest code. It lies in the window, one page behind its data
 * (`VdsoData`), and calls the host's own vDSO, which was moved there too: how the host keeps time is
 * never looked at. Linked as an object of its own by vdso.lds, which names what it exports.
 */
#include "offsets.h"
        .intel_syntax noprefix
        .text

        .set    DATA, __ehdr_start - 4096
        .hidden __ehdr_start

        .set    NR_GETTIMEOFDAY, 96
        .set    NR_CLOCK_GETTIME, 228
        .set    NR_CLOCK_GETRES, 229
        .set    NR_GETCPU, 309
        .set    REALTIME, 0
        .set    REALTIME_COARSE, 5
        .set    TAI, 11
        /* What the host's vDSO answers: REALTIME, MONOTONIC, RAW, both COARSE, BOOTTIME, TAI. */
        .set    CLOCKS, 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 11
        .set    SECOND, 1000000000

        .macro  function name
        .globl  __vdso_\name, \name
        .weak   \name
        .type   __vdso_\name, @function
        .type   \name, @function
        .balign 16
__vdso_\name:
\name:
        .cfi_startproc
        .endm

        .macro  end_function name
        .cfi_endproc
        .size   __vdso_\name, . - __vdso_\name
        .size   \name, . - \name
        .endm

/* int clock_gettime(clockid_t, struct timespec *) */
        function clock_gettime
        mov     eax, CLOCKS
        cmp     edi, 31
        ja      1f
        bt      eax, edi
        jnc     1f
        cmp     dword ptr [rip + DATA + VDSO_MOVED], 1
        je      2f
        ja      1f
        jmp     qword ptr [rip + DATA + VDSO_CLOCK_GETTIME]
1:      mov     eax, NR_CLOCK_GETTIME
        syscall
        ret
        /* The sandbox's clocks are apart from the host's: add what they are ahead. */
2:      push    rsi
        .cfi_adjust_cfa_offset 8
        push    rdi
        .cfi_adjust_cfa_offset 8
        sub     rsp, 8
        .cfi_adjust_cfa_offset 8
        call    qword ptr [rip + DATA + VDSO_CLOCK_GETTIME]
        add     rsp, 8
        .cfi_adjust_cfa_offset -8
        pop     rdi
        .cfi_adjust_cfa_offset -8
        pop     rsi
        .cfi_adjust_cfa_offset -8
        test    eax, eax
        jnz     5f
        mov     rax, [rip + DATA + VDSO_REALTIME_AHEAD]
        cmp     edi, REALTIME
        je      3f
        cmp     edi, REALTIME_COARSE
        je      3f
        cmp     edi, TAI
        je      3f
        mov     rax, [rip + DATA + VDSO_MONOTONIC_AHEAD]
3:      add     rax, [rsi + 8]
        cqo
        mov     ecx, SECOND
        idiv    rcx
        test    rdx, rdx
        jns     4f
        add     rdx, rcx
        dec     rax
4:      add     [rsi], rax
        mov     [rsi + 8], rdx
        xor     eax, eax
5:      ret
        end_function clock_gettime

/* int clock_getres(clockid_t, struct timespec *) */
        function clock_getres
        mov     eax, NR_CLOCK_GETRES
        syscall
        ret
        end_function clock_getres

/* int gettimeofday(struct timeval *, struct timezone *) */
        function gettimeofday
        test    rsi, rsi
        jz      1f
        /* The time zone is the kernel's to tell. */
        mov     eax, NR_GETTIMEOFDAY
        syscall
        ret
1:      test    rdi, rdi
        jz      2f
        push    rdi
        .cfi_adjust_cfa_offset 8
        sub     rsp, 16
        .cfi_adjust_cfa_offset 16
        mov     edi, REALTIME
        mov     rsi, rsp
        call    __vdso_clock_gettime
        mov     rdi, [rsp + 16]
        mov     rax, [rsp]
        mov     [rdi], rax
        mov     rax, [rsp + 8]
        xor     edx, edx
        mov     ecx, 1000
        div     rcx
        mov     [rdi + 8], rax
        add     rsp, 24
        .cfi_adjust_cfa_offset -24
2:      xor     eax, eax
        ret
        end_function gettimeofday

/* time_t time(time_t *) */
        function time
        push    rdi
        .cfi_adjust_cfa_offset 8
        sub     rsp, 16
        .cfi_adjust_cfa_offset 16
        mov     edi, REALTIME_COARSE
        mov     rsi, rsp
        call    __vdso_clock_gettime
        mov     rax, [rsp]
        mov     rdi, [rsp + 16]
        add     rsp, 24
        .cfi_adjust_cfa_offset -24
        test    rdi, rdi
        jz      1f
        mov     [rdi], rax
1:      ret
        end_function time

/* int getcpu(unsigned *cpu, unsigned *node, void *unused) */
        function getcpu
        mov     rax, [rip + DATA + VDSO_GETCPU]
        test    rax, rax
        jz      1f
        jmp     rax
1:      mov     eax, NR_GETCPU
        syscall
        ret
        end_function getcpu

        .section .note.GNU-stack, "", @progbits
