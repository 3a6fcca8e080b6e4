/* Copies that may fault. The trap handler recognises the pc by a table (pairs of an instruction that
 * may fault and the place to go on); the registers are as the fault left them. */
        .intel_syntax noprefix
        .text

        .macro  on_fault insn, fixup
        .pushsection .rodata.drupe_fixups, "a"
        .balign 4
        .long   \insn - drupe_fixups
        .long   \fixup - drupe_fixups
        .popsection
        .endm

        .pushsection .rodata.drupe_fixups, "a"
        .balign 4
        .globl  drupe_fixups
        .hidden drupe_fixups
drupe_fixups:
        .popsection

/* size_t drupe_copy_user(dst, src, len) -> bytes left */
        .globl drupe_copy_user
        .type drupe_copy_user, @function
drupe_copy_user:
        mov     rcx, rdx
        cmp     rdx, 64
        jae     .Lcopy_long
        shr     rcx, 3
        and     edx, 7
        test    ecx, ecx
        jz      .Lcopy_bytes
.Lcopy_load8:
        mov     rax, qword ptr [rsi]
.Lcopy_store8:
        mov     qword ptr [rdi], rax
        add     rsi, 8
        add     rdi, 8
        dec     ecx
        jnz     .Lcopy_load8
.Lcopy_bytes:
        test    edx, edx
        jz      .Lcopy_done
.Lcopy_load1:
        mov     al, byte ptr [rsi]
.Lcopy_store1:
        mov     byte ptr [rdi], al
        inc     rsi
        inc     rdi
        dec     edx
        jnz     .Lcopy_load1
.Lcopy_done:
        xor     eax, eax
        ret
.Lcopy_fault8:                          /* fault in the words: the bytes are tried one by one */
        shl     rcx, 3
        add     rdx, rcx
        jmp     .Lcopy_load1
.Lcopy_fault1:
        mov     rax, rdx
        ret
.Lcopy_long:
        rep movsb
        xor     eax, eax
        ret
.Lcopy_fault_long:
        mov     rax, rcx
        ret
        on_fault .Lcopy_load8, .Lcopy_fault8
        on_fault .Lcopy_store8, .Lcopy_fault8
        on_fault .Lcopy_load1, .Lcopy_fault1
        on_fault .Lcopy_store1, .Lcopy_fault1
        on_fault .Lcopy_long, .Lcopy_fault_long
        .size drupe_copy_user, . - drupe_copy_user

/* size_t drupe_zero_user(dst, len) -> bytes left */
        .globl drupe_zero_user
        .type drupe_zero_user, @function
drupe_zero_user:
        mov     rcx, rsi
        xor     eax, eax
        cmp     rsi, 16
        jae     .Lzero_long             /* the string instruction takes some 10 ns to begin */
        test    ecx, ecx
        jz      .Lzero_done
.Lzero1:
        mov     byte ptr [rdi], al
        inc     rdi
        dec     ecx
        jnz     .Lzero1
.Lzero_done:
        ret
.Lzero_long:
        rep stosb
        ret
.Lzero_fault:
        mov     rax, rcx
        ret
        on_fault .Lzero1, .Lzero_fault
        on_fault .Lzero_long, .Lzero_fault
        .size drupe_zero_user, . - drupe_zero_user

/* size_t drupe_probe_read(const void *addr, size_t len) -> bytes left: reads a byte of each page */
        .globl drupe_probe_read
        .type drupe_probe_read, @function
drupe_probe_read:
        lea     rcx, [rdi + rsi]
        test    rsi, rsi
        jz      .Lprobe_done
.Lprobe_load:
        mov     al, byte ptr [rdi]
        or      rdi, 0xfff
        inc     rdi
        cmp     rdi, rcx
        jb      .Lprobe_load
.Lprobe_done:
        xor     eax, eax
        ret
.Lprobe_fault:
        mov     rax, rcx
        sub     rax, rdi
        ret
        on_fault .Lprobe_load, .Lprobe_fault
        .size drupe_probe_read, . - drupe_probe_read

/* size_t drupe_probe_write(void *addr, size_t len) -> bytes left: writes a byte of each page as it is.
 * Other threads may be writing there, so it is one atomic step. */
        .globl drupe_probe_write
        .type drupe_probe_write, @function
drupe_probe_write:
        lea     rcx, [rdi + rsi]
        test    rsi, rsi
        jz      .Lprobe_done
.Lprobe_store:
        lock or byte ptr [rdi], 0
        or      rdi, 0xfff
        inc     rdi
        cmp     rdi, rcx
        jb      .Lprobe_store
        xor     eax, eax
        ret
        on_fault .Lprobe_store, .Lprobe_fault
        .size drupe_probe_write, . - drupe_probe_write

/* size_t drupe_strnlen_user(src, max) -> length, max, or SIZE_MAX on a fault */
        .globl drupe_strnlen_user
        .type drupe_strnlen_user, @function
drupe_strnlen_user:
        xor     eax, eax
.Lstr_next:
        cmp     rax, rsi
        jae     .Lstr_done
.Lstr_load:
        cmp     byte ptr [rdi + rax], 0
        je      .Lstr_done
        inc     rax
        jmp     .Lstr_next
.Lstr_done:
        ret
.Lstr_fault:
        mov     rax, -1
        ret
        on_fault .Lstr_load, .Lstr_fault
        .size drupe_strnlen_user, . - drupe_strnlen_user

/* size_t drupe_strncpy_user(dst, src, max) -> length, max, or SIZE_MAX on a fault: copies a string, at most max bytes.
 * Words at multiples of 8 reach into no other page. */
        .globl drupe_strncpy_user
        .type drupe_strncpy_user, @function
drupe_strncpy_user:
        xor     eax, eax
        movabs  r8, 0x0101010101010101
        movabs  r9, 0x8080808080808080
.Lstrcpy_next:
        lea     rcx, [rsi + rax]
        test    cl, 7
        jnz     .Lstrcpy_byte
        lea     rcx, [rax + 8]
        cmp     rcx, rdx
        ja      .Lstrcpy_byte
.Lstrcpy_load8:
        mov     rcx, qword ptr [rsi + rax]
        mov     r10, rcx
        mov     r11, rcx
        sub     r10, r8
        not     r11
        and     r10, r11
        test    r10, r9
        jnz     .Lstrcpy_byte           /* one of them is zero */
        mov     qword ptr [rdi + rax], rcx
        add     rax, 8
        jmp     .Lstrcpy_next
.Lstrcpy_byte:
        cmp     rax, rdx
        jae     .Lstrcpy_done
.Lstrcpy_load1:
        movzx   ecx, byte ptr [rsi + rax]
        mov     byte ptr [rdi + rax], cl
        test    ecx, ecx
        jz      .Lstrcpy_done
        inc     rax
        jmp     .Lstrcpy_next
.Lstrcpy_done:
        ret
        on_fault .Lstrcpy_load8, .Lstr_fault
        on_fault .Lstrcpy_load1, .Lstr_fault
        .size drupe_strncpy_user, . - drupe_strncpy_user

/* size_t drupe_cmpxchg_user(u32 *addr, u32 *old, u32 new) -> 0 and *old as seen, or 1 on a fault */
        .globl drupe_cmpxchg_user
        .type drupe_cmpxchg_user, @function
drupe_cmpxchg_user:
        mov     eax, dword ptr [rsi]
.Lcas:
        lock cmpxchg dword ptr [rdi], edx
        mov     dword ptr [rsi], eax
        xor     eax, eax
        ret
        .size drupe_cmpxchg_user, . - drupe_cmpxchg_user

/* size_t drupe_load_user(const u32 *addr, u32 *out) -> 0, or 1 on a fault */
        .globl drupe_load_user
        .type drupe_load_user, @function
drupe_load_user:
.Lload:
        mov     eax, dword ptr [rdi]
        mov     dword ptr [rsi], eax
        xor     eax, eax
        ret
.Lword_fault:
        mov     eax, 1
        ret
        on_fault .Lcas, .Lword_fault
        on_fault .Lload, .Lword_fault
        .size drupe_load_user, . - drupe_load_user

        .pushsection .rodata.drupe_fixups, "a"
        .globl  drupe_fixups_end
        .hidden drupe_fixups_end
drupe_fixups_end:
        .popsection

        .section .note.GNU-stack, "", @progbits
