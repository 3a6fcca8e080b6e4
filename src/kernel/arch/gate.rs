//! The gate: the one place from which the kernel calls its host.

/// A host system call with up to six arguments. Returns the raw result (`-errno` on failure).
///
/// # Safety
/// As for the call itself; nothing about its arguments is checked.
#[cfg(feature = "image")]
pub unsafe fn syscall(nr: u32, a: [u64; 6]) -> i64 {
    unsafe extern "C" {
        fn drupe_gate(a0: u64, a1: u64, a2: u64, a3: u64, a4: u64, a5: u64, nr: u64) -> i64;
    }
    // SAFETY: by the caller's promise.
    unsafe { drupe_gate(a[0], a[1], a[2], a[3], a[4], a[5], u64::from(nr)) }
}

/// A host call that can block. A kick that comes before the call or during it makes it return
/// `-EINTR`; one that comes after it leaves the result alone.
///
/// # Safety
/// As for [`syscall`].
#[cfg(feature = "image")]
pub unsafe fn syscall_blocking(nr: u32, a: [u64; 6]) -> i64 {
    use crate::abi::slot::place;
    use core::sync::atomic::Ordering;
    let slot = super::slot();
    let was = slot.place.swap(place::HOST_CALL, Ordering::SeqCst);
    // A kick after this check finds HOST_CALL and the pc in front of the gate's `syscall`, or the
    // host in the call: either way the call ends with EINTR (see trap/).
    let ret = if slot.kicked() {
        -i64::from(crate::abi::Errno::EINTR.raw())
    } else {
        // SAFETY: by the caller's promise.
        unsafe { syscall(nr, a) }
    };
    slot.place.store(was, Ordering::SeqCst);
    ret
}

/// Outside the image: the call itself.
///
/// # Safety
/// As for the call itself.
#[cfg(not(feature = "image"))]
pub unsafe fn syscall(nr: u32, a: [u64; 6]) -> i64 {
    let ret: i64;
    // SAFETY: by the caller's promise; the clobbers are those of the x86-64 system call ABI.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") i64::from(nr) => ret, in("rdi") a[0], in("rsi") a[1],
            in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    ret
}

/// Outside the image: the call itself.
///
/// # Safety
/// As for the call itself.
#[cfg(not(feature = "image"))]
pub unsafe fn syscall_blocking(nr: u32, a: [u64; 6]) -> i64 {
    // SAFETY: by the caller's promise.
    unsafe { syscall(nr, a) }
}
