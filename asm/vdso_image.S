/* The guest's vDSO as it was linked, for the kernel to lay into the window at boot. */
        .section .rodata.drupe_vdso, "a"
        .balign 8
        .globl  drupe_vdso, drupe_vdso_end
        .hidden drupe_vdso, drupe_vdso_end
drupe_vdso:
        .incbin "vdso.so"
drupe_vdso_end:

        .section .note.GNU-stack, "", @progbits
