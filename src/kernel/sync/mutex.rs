//! The mutex: three states (free, held, held with sleepers), after Drepper's "Futexes are tricky".

use super::lockdep::{self, Level, Sleep};
use crate::host::futex;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering::*};

/// A process-shared mutex with a place in the lock order.
#[derive(Debug)]
pub struct Mutex<T: ?Sized> {
    word: AtomicU32,
    level: Level,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one reference at a time.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// Access to a locked value; unlocks when dropped.
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    /// A free mutex of the given level.
    pub const fn new(level: Level, value: T) -> Mutex<T> {
        Mutex { word: AtomicU32::new(0), level, value: UnsafeCell::new(value) }
    }

    /// The value, when nobody else can hold the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock. Not interruptible: no lock is held across anything that blocks for long.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        lockdep::acquire(self.level, self.address());
        if self.word.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            self.lock_slow();
        }
        MutexGuard { lock: self }
    }

    /// The lock, if it is free.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.word.compare_exchange(0, 1, Acquire, Relaxed).ok()?;
        lockdep::acquired_by_try(self.level, self.address());
        Some(MutexGuard { lock: self })
    }

    /// What tells this lock from others.
    fn address(&self) -> usize {
        self.word.as_ptr() as usize
    }

    #[cold]
    fn lock_slow(&self) {
        for _ in 0..100 {
            if self.word.load(Relaxed) == 0 && self.word.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
                return;
            }
            core::hint::spin_loop();
        }
        while self.word.swap(2, Acquire) != 0 {
            let _ = lockdep::sleeping(&self.word, Sleep::Mutex, || futex::wait(&self.word, 2, lockdep::look_again()));
        }
    }

    /// The value's place, for a reader that knows by other means that nobody changes it meanwhile.
    pub fn as_ptr(&self) -> *const T {
        self.value.get()
    }

    /// Access without locking, where the borrow proves that nobody else has any.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.lock.word.swap(0, Release) == 2 {
            futex::wake(&self.lock.word, 1);
        }
        lockdep::release(self.lock.level, self.lock.address());
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}
