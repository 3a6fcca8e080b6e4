//! The allocator's own lock: it lies below `sync`, counts in the slot like every lock, and never
//! waits for long.

use crate::abi::linux;
use crate::arch;
use core::sync::atomic::{AtomicU32, Ordering::*};

/// A futex lock without a value.
pub struct RawLock(AtomicU32);

/// Releases when dropped.
pub struct Held<'a>(&'a RawLock);

impl RawLock {
    pub const fn new() -> RawLock {
        RawLock(AtomicU32::new(0))
    }

    #[inline]
    pub fn lock(&self) -> Held<'_> {
        if self.0.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            self.slow();
        }
        Held(self)
    }

    #[cold]
    fn slow(&self) {
        for _ in 0..200 {
            if self.0.load(Relaxed) == 0 && self.0.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
                return;
            }
            core::hint::spin_loop();
        }
        while self.0.swap(2, Acquire) != 0 {
            let op = u64::from(linux::FUTEX_WAIT);
            // SAFETY: waits on a live word of the image's data.
            unsafe { arch::syscall(linux::__NR_futex, [self.0.as_ptr() as u64, op, 2, 0, 0, 0]) };
        }
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.0.0.swap(0, Release) == 2 {
            let op = u64::from(linux::FUTEX_WAKE);
            // SAFETY: FUTEX_WAKE only looks the address up.
            unsafe { arch::syscall(linux::__NR_futex, [self.0.0.as_ptr() as u64, op, 1, 0, 0, 0]) };
        }
    }
}
