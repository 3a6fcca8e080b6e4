//! The readers-writer lock: a count of readers, a writer bit and a word that sleepers watch.

use super::lockdep::{self, Level};
use crate::host::futex;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering::*};

const WRITER: u32 = 1 << 31;

/// A process-shared readers-writer lock; waiting writers keep new readers out.
#[derive(Debug)]
pub struct RwLock<T: ?Sized> {
    state: AtomicU32,
    writers_waiting: AtomicU32,
    change: AtomicU32,
    sleepers: AtomicU32,
    level: Level,
    value: UnsafeCell<T>,
}

// SAFETY: readers share, a writer is alone.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

/// Shared access.
pub struct ReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

/// Exclusive access.
pub struct WriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

impl<T> RwLock<T> {
    /// A free lock of the given level.
    pub const fn new(level: Level, value: T) -> RwLock<T> {
        RwLock {
            state: AtomicU32::new(0),
            writers_waiting: AtomicU32::new(0),
            change: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            level,
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits for shared access.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> ReadGuard<'_, T> {
        lockdep::acquire(self.level, self.address());
        self.wait_until(|| {
            let s = self.state.load(SeqCst);
            s & WRITER == 0
                && self.writers_waiting.load(SeqCst) == 0
                && self.state.compare_exchange(s, s + 1, Acquire, Relaxed).is_ok()
        });
        ReadGuard { lock: self }
    }

    /// Waits for exclusive access.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> WriteGuard<'_, T> {
        lockdep::acquire(self.level, self.address());
        if self.state.compare_exchange(0, WRITER, Acquire, Relaxed).is_err() {
            self.writers_waiting.fetch_add(1, SeqCst);
            self.wait_until(|| self.state.compare_exchange(0, WRITER, Acquire, Relaxed).is_ok());
            self.writers_waiting.fetch_sub(1, SeqCst);
        }
        WriteGuard { lock: self }
    }

    /// What tells this lock from others.
    fn address(&self) -> usize {
        self.state.as_ptr() as usize
    }

    #[inline]
    fn wait_until(&self, mut attempt: impl FnMut() -> bool) {
        for _ in 0..100 {
            if attempt() {
                return;
            }
            core::hint::spin_loop();
        }
        self.sleepers.fetch_add(1, SeqCst);
        loop {
            let seen = self.change.load(SeqCst);
            if attempt() {
                break;
            }
            // A compare-and-swap that lost to another reader is tried again without sleeping.
            if self.state.load(SeqCst) & WRITER == 0 && self.writers_waiting.load(SeqCst) == 0 {
                continue;
            }
            let _ = futex::wait(&self.change, seen, None);
        }
        self.sleepers.fetch_sub(1, SeqCst);
    }

    fn released(&self) {
        if self.sleepers.load(SeqCst) > 0 {
            self.change.fetch_add(1, SeqCst);
            futex::wake(&self.change, u32::MAX >> 1);
        }
    }

    /// Access without locking, where the borrow proves that nobody else has any.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        if self.lock.state.fetch_sub(1, SeqCst) == 1 {
            self.lock.released();
        }
        lockdep::release(self.lock.level, self.lock.address());
    }
}

impl<T: ?Sized> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.state.store(0, SeqCst);
        self.lock.released();
        lockdep::release(self.lock.level, self.lock.address());
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds shared access.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds exclusive access.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds exclusive access.
        unsafe { &mut *self.lock.value.get() }
    }
}
