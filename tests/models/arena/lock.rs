//! The allocator's lock, of the word that the kernel's `arch/words/owned.rs` says.

use crate::arch::words::owned;
use crate::futex::Futex;
use loom::cell::UnsafeCell as WatchedUnsafeCell;
use loom::sync::atomic::AtomicU32;
use std::cell::UnsafeCell;
use std::sync::OnceLock;

/// See the kernel's `arena::lock::Locked`.
pub struct Locked<T> {
    value: UnsafeCell<T>,
    /// Made at the first use, since the kernel makes such locks before it runs. `loom` watches the last part in the
    /// value's place.
    parts: OnceLock<(AtomicU32, Futex, WatchedUnsafeCell<()>)>,
}

// SAFETY: the value is only reached under the lock.
unsafe impl<T> Sync for Locked<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Locked<T> {}

impl<T> Locked<T> {
    /// A free one.
    pub const fn new(value: T) -> Locked<T> {
        Locked { value: UnsafeCell::new(value), parts: OnceLock::new() }
    }

    /// Runs `f` under the lock.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.steps(f)
    }

    /// As [`Locked::with`].
    pub fn steps<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let make = || (AtomicU32::new(0), Futex::default(), WatchedUnsafeCell::new(()));
        let (word, futex, watched) = self.parts.get_or_init(make);
        owned::lock(word, 1, futex);
        // SAFETY: the lock is held, and `loom` would report another access.
        let result = watched.with_mut(|_| f(unsafe { &mut *self.value.get() }));
        owned::unlock(word, futex);
        result
    }
}
