//! The guest's vDSO as it was built (`asm/vdso.S`).

/// The ELF image; empty outside the kernel image.
#[cfg(feature = "image")]
pub fn image() -> &'static [u8] {
    unsafe extern "C" {
        static drupe_vdso: u8;
        static drupe_vdso_end: u8;
    }
    let (start, end) = (&raw const drupe_vdso, &raw const drupe_vdso_end);
    // SAFETY: the linker lays both around the constant bytes.
    unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// The ELF image; empty outside the kernel image.
#[cfg(not(feature = "image"))]
pub fn image() -> &'static [u8] {
    &[]
}
