//! The allocator's own lock: it lies below `sync`, counts in the slot like every lock (a host process
//! that dies with one held ends the sandbox), and is never held for long.

use crate::abi::linux;
use crate::arch;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering::*};

/// A process-shared lock around a value.
pub struct Locked<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached under the lock.
unsafe impl<T> Sync for Locked<T> {}
// SAFETY: as above; the values are raw pointers into memory that every thread shares.
unsafe impl<T> Send for Locked<T> {}

impl<T> Locked<T> {
    pub const fn new(value: T) -> Locked<T> {
        Locked { word: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Runs `f` under the lock. `f` must not come back here.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let slot = arch::try_slot();
        if let Some(slot) = slot {
            slot.locks_held.store(slot.locks_held.load(Relaxed) + 1, Relaxed);
        }
        if self.word.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            self.slow();
        }
        // SAFETY: the lock is held.
        let result = f(unsafe { &mut *self.value.get() });
        if self.word.swap(0, Release) == 2 {
            let op = u64::from(linux::FUTEX_WAKE);
            // SAFETY: FUTEX_WAKE only looks the address up.
            unsafe { arch::syscall(linux::__NR_futex, [self.word.as_ptr() as u64, op, 1, 0, 0, 0]) };
        }
        if let Some(slot) = slot {
            slot.locks_held.store(slot.locks_held.load(Relaxed).wrapping_sub(1), Relaxed);
        }
        result
    }

    #[cold]
    fn slow(&self) {
        for _ in 0..200 {
            if self.word.load(Relaxed) == 0 && self.word.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
                return;
            }
            core::hint::spin_loop();
        }
        while self.word.swap(2, Acquire) != 0 {
            let op = u64::from(linux::FUTEX_WAIT);
            let word = self.word.as_ptr() as u64;
            // As `sync::lockdep::sleeping`: who only waits may die. The kind is 0, a mutex.
            let slot = arch::try_slot();
            if let Some(slot) = slot {
                slot.lock_kind.store(0, SeqCst);
                slot.lock_wait.store(word, SeqCst);
                slot.locks_held.store(slot.locks_held.load(Relaxed).wrapping_sub(1), SeqCst);
            }
            // Not for ever, as there.
            let limit = linux::__kernel_timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            // SAFETY: waits on a live word of the image's data; the limit lies on this stack.
            unsafe { arch::syscall(linux::__NR_futex, [word, op, 2, core::ptr::from_ref(&limit) as u64, 0, 0]) };
            if let Some(slot) = slot {
                slot.locks_held.store(slot.locks_held.load(Relaxed) + 1, SeqCst);
                slot.lock_wait.store(0, SeqCst);
            }
        }
    }
}
