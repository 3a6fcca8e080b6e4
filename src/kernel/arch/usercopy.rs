//! Copies to and from guest memory. A fault inside ends the copy early instead of the kernel:
//! the trap path recognises the pc range of `asm/usercopy.S`.

#[cfg(feature = "image")]
mod imp {
    unsafe extern "C" {
        /// Copies `len` bytes; returns how many were left when a fault ended it.
        pub fn drupe_copy_user(dst: *mut u8, src: *const u8, len: usize) -> usize;
        /// Zeroes `len` bytes; returns how many were left.
        pub fn drupe_zero_user(dst: *mut u8, len: usize) -> usize;
        /// Reads a byte of each page of `addr..addr+len`; returns how many bytes lie behind the first bad one,
        /// itself included.
        pub fn drupe_probe_read(addr: *const u8, len: usize) -> usize;
        /// As `drupe_probe_read`, and writes the byte as it is.
        pub fn drupe_probe_write(addr: *mut u8, len: usize) -> usize;
        /// Length of the string at `src` without its NUL, at most `max`; `usize::MAX` on a fault.
        pub fn drupe_strnlen_user(src: *const u8, max: usize) -> usize;
        /// Copies the string at `src`, at most `max` bytes; returns as `drupe_strnlen_user`.
        pub fn drupe_strncpy_user(dst: *mut u8, src: *const u8, max: usize) -> usize;
        /// Atomic 32-bit compare and exchange at a guest address: 0 and `*old` updated, or 1 on a fault.
        pub fn drupe_cmpxchg_user(addr: *mut u32, old: *mut u32, new: u32) -> usize;
        /// Loads a 32-bit word: 0, or 1 on a fault.
        pub fn drupe_load_user(addr: *const u32, out: *mut u32) -> usize;
    }
}

#[cfg(not(feature = "image"))]
mod imp {
    /// Nothing is ever mapped below, so at least such a fault can be told.
    const MIN: usize = 0x10000;

    pub unsafe fn drupe_copy_user(dst: *mut u8, src: *const u8, len: usize) -> usize {
        if (dst as usize) < MIN || (src as usize) < MIN {
            return len;
        }
        // SAFETY: outside the image callers pass valid memory.
        unsafe { core::ptr::copy(src, dst, len) };
        0
    }
    pub unsafe fn drupe_zero_user(dst: *mut u8, len: usize) -> usize {
        if (dst as usize) < MIN {
            return len;
        }
        // SAFETY: as above.
        unsafe { core::ptr::write_bytes(dst, 0, len) };
        0
    }
    pub unsafe fn drupe_probe_read(addr: *const u8, len: usize) -> usize {
        if (addr as usize) < MIN { len } else { 0 }
    }
    pub unsafe fn drupe_probe_write(addr: *mut u8, len: usize) -> usize {
        if (addr as usize) < MIN { len } else { 0 }
    }
    pub unsafe fn drupe_strnlen_user(src: *const u8, max: usize) -> usize {
        if (src as usize) < MIN {
            return usize::MAX;
        }
        // SAFETY: as above.
        (0..max).find(|&i| unsafe { *src.add(i) } == 0).unwrap_or(max)
    }
    pub unsafe fn drupe_strncpy_user(dst: *mut u8, src: *const u8, max: usize) -> usize {
        // SAFETY: as above.
        unsafe {
            let n = drupe_strnlen_user(src, max);
            if n != usize::MAX {
                core::ptr::copy(src, dst, n);
            }
            n
        }
    }
    pub unsafe fn drupe_cmpxchg_user(addr: *mut u32, old: *mut u32, new: u32) -> usize {
        use core::sync::atomic::{AtomicU32, Ordering};
        if (addr as usize) < MIN {
            return 1;
        }
        // SAFETY: as above.
        unsafe {
            if let Err(seen) = AtomicU32::from_ptr(addr).compare_exchange(*old, new, Ordering::SeqCst, Ordering::SeqCst)
            {
                *old = seen;
            }
        }
        0
    }
    pub unsafe fn drupe_load_user(addr: *const u32, out: *mut u32) -> usize {
        if (addr as usize) < MIN {
            return 1;
        }
        // SAFETY: as above.
        unsafe { *out = *addr };
        0
    }
}

/// Copies between kernel and guest memory (either way); returns the number of bytes *not* copied.
///
/// # Safety
/// The kernel side must be valid for `len` bytes; the guest side must lie below the window or
/// above it (checked by `mm`), and may be anything there.
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
    // SAFETY: by the caller's promise.
    unsafe { imp::drupe_copy_user(dst, src, len) }
}

/// Zeroes guest memory; returns the number of bytes left.
///
/// # Safety
/// As for [`copy`].
pub unsafe fn zero(dst: *mut u8, len: usize) -> usize {
    // SAFETY: by the caller's promise.
    unsafe { imp::drupe_zero_user(dst, len) }
}

/// Touches each page of guest memory, so that the host brings it in; `write`: as a store does. The content stays as
/// it is. Returns the number of bytes from the first page on that cannot be touched.
///
/// # Safety
/// As for [`copy`].
#[inline]
pub unsafe fn probe(addr: u64, len: usize, write: bool) -> usize {
    // SAFETY: by the caller's promise.
    unsafe {
        if write { imp::drupe_probe_write(addr as *mut u8, len) } else { imp::drupe_probe_read(addr as *const u8, len) }
    }
}

/// Length of a guest string without its NUL, `max` if there is none in `max` bytes; `None` on a fault.
///
/// # Safety
/// As for [`copy`].
pub unsafe fn strnlen(src: *const u8, max: usize) -> Option<usize> {
    // SAFETY: by the caller's promise.
    let n = unsafe { imp::drupe_strnlen_user(src, max) };
    (n != usize::MAX).then_some(n)
}

/// Copies a guest string, at most `max` bytes; returns its length without its NUL, `max` if there is none in so many
/// bytes, `None` on a fault. What lies behind the string in `dst` may be written, too.
///
/// # Safety
/// As for [`copy`], of `max` bytes.
pub unsafe fn strncpy(dst: *mut u8, src: *const u8, max: usize) -> Option<usize> {
    // SAFETY: by the caller's promise.
    let n = unsafe { imp::drupe_strncpy_user(dst, src, max) };
    (n != usize::MAX).then_some(n)
}

/// Atomic compare and exchange of a guest word: `Some(value seen)` or `None` on a fault.
///
/// # Safety
/// As for [`copy`]; `addr` must be 4-aligned.
pub unsafe fn cmpxchg(addr: u64, old: u32, new: u32) -> Option<u32> {
    let mut seen = old;
    // SAFETY: by the caller's promise.
    let fault = unsafe { imp::drupe_cmpxchg_user(addr as *mut u32, &mut seen, new) };
    (fault == 0).then_some(seen)
}

/// Loads a guest word; `None` on a fault.
///
/// # Safety
/// As for [`cmpxchg`].
pub unsafe fn load(addr: u64) -> Option<u32> {
    let mut out = 0;
    // SAFETY: by the caller's promise.
    let fault = unsafe { imp::drupe_load_user(addr as *const u32, &mut out) };
    (fault == 0).then_some(out)
}
