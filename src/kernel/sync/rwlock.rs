//! The readers-writer lock: a count of readers, a writer bit and a word that sleepers watch.

use super::lockdep::{self, Level, Sleep};
use crate::host::futex;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering::*};

const WRITER: u32 = 1 << 31;

/// What a lock consists of besides its value.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Words {
    change: AtomicU32,
    state: AtomicU32,
    writers_waiting: AtomicU32,
    sleepers: AtomicU32,
}

impl Words {
    /// Those of which this is [`Words::change`].
    pub(super) fn of(change: &AtomicU32) -> &Words {
        // SAFETY: the first field of one: nothing else is ever slept on as a reader or a writer.
        unsafe { &*core::ptr::from_ref(change).cast() }
    }

    /// A sleeper has died.
    pub(super) fn leave(&self, writer: bool) {
        self.sleepers.fetch_sub(1, SeqCst);
        if writer {
            self.writers_waiting.fetch_sub(1, SeqCst);
        }
        self.change.fetch_add(1, SeqCst);
    }
}

/// A process-shared readers-writer lock; waiting writers keep new readers out.
#[derive(Debug)]
pub struct RwLock<T: ?Sized> {
    words: Words,
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
            words: Words {
                change: AtomicU32::new(0),
                state: AtomicU32::new(0),
                writers_waiting: AtomicU32::new(0),
                sleepers: AtomicU32::new(0),
            },
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
        self.wait_until(Sleep::Reader, || {
            let s = self.words.state.load(SeqCst);
            s & WRITER == 0
                && self.words.writers_waiting.load(SeqCst) == 0
                && self.words.state.compare_exchange(s, s + 1, Acquire, Relaxed).is_ok()
        });
        ReadGuard { lock: self }
    }

    /// Waits for exclusive access.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> WriteGuard<'_, T> {
        lockdep::acquire(self.level, self.address());
        if self.words.state.compare_exchange(0, WRITER, Acquire, Relaxed).is_err() {
            self.words.writers_waiting.fetch_add(1, SeqCst);
            self.wait_until(Sleep::Writer, || self.words.state.compare_exchange(0, WRITER, Acquire, Relaxed).is_ok());
            self.words.writers_waiting.fetch_sub(1, SeqCst);
        }
        WriteGuard { lock: self }
    }

    /// What tells this lock from others.
    fn address(&self) -> usize {
        self.words.state.as_ptr() as usize
    }

    #[inline]
    fn wait_until(&self, kind: Sleep, mut attempt: impl FnMut() -> bool) {
        for _ in 0..100 {
            if attempt() {
                return;
            }
            core::hint::spin_loop();
        }
        self.words.sleepers.fetch_add(1, SeqCst);
        loop {
            let seen = self.words.change.load(SeqCst);
            if attempt() {
                break;
            }
            // A compare-and-swap that lost to another reader is tried again without sleeping.
            if self.words.state.load(SeqCst) & WRITER == 0 && self.words.writers_waiting.load(SeqCst) == 0 {
                continue;
            }
            let change = &self.words.change;
            let _ = lockdep::sleeping(change, kind, || futex::wait(change, seen, lockdep::look_again()));
        }
        self.words.sleepers.fetch_sub(1, SeqCst);
    }

    fn released(&self) {
        if self.words.sleepers.load(SeqCst) > 0 {
            self.words.change.fetch_add(1, SeqCst);
            futex::wake(&self.words.change, u32::MAX >> 1);
        }
    }

    /// Access without locking, where the borrow proves that nobody else has any.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

#[cfg(test)]
impl<T: ?Sized> RwLock<T> {
    /// Undoes [`Words::leave`] of a writer that lives on.
    pub(super) fn pretend_writer(&self) {
        self.words.sleepers.fetch_add(1, SeqCst);
        self.words.writers_waiting.fetch_add(1, SeqCst);
    }
}

impl<T: ?Sized> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        if self.lock.words.state.fetch_sub(1, SeqCst) == 1 {
            self.lock.released();
        }
        lockdep::release(self.lock.level, self.lock.address());
    }
}

impl<T: ?Sized> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.words.state.store(0, SeqCst);
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
