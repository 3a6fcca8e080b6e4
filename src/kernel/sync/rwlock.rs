//! The readers-writer lock around a value; [`shared`] says how its words are used.

use super::lockdep::{self, Level};
use super::mend::{self, Mend};
use super::orphaned;
use crate::abi::slot::held;
use crate::arch::words::{Sleep, shared};
use crate::host::futex;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::*, compiler_fence};

/// What a lock consists of besides its value.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Words {
    words: shared::Words,
    /// The writer has begun to change the value, and it may be half changed.
    changed: AtomicU8,
    level: Level,
    /// Who makes the value whole again (`mend::mender`).
    mender: u8,
}

impl Words {
    /// The writer's number, 0 if there is none.
    pub(super) fn writer(&self) -> u32 {
        self.words.writer()
    }

    /// Whether the value may be half changed.
    pub(super) fn is_changed(&self) -> bool {
        self.changed.load(SeqCst) != 0
    }

    /// Who makes the value whole again; 0 for nobody.
    pub(super) fn mender(&self) -> u8 {
        self.mender
    }

    /// The writer has died: gives the lock back for it.
    pub(super) fn give_back(&self) {
        self.changed.store(0, SeqCst);
        self.words.give_back(&Asleep);
    }

    /// A reader has died.
    pub(super) fn leave(&self) {
        self.words.leave(&Asleep);
    }

    /// As [`shared::Words::close`].
    pub(super) fn close(&self) -> Option<u32> {
        self.words.close(&Asleep)
    }

    /// As [`shared::Words::open`].
    pub(super) fn open(&self, dead: u32) {
        self.words.open(dead, &Asleep);
    }

    /// Lets all who sleep for it look again.
    pub(super) fn wake_all(&self) {
        self.words.wake_all(&Asleep);
    }

    #[inline]
    fn mark(&self) {
        self.changed.store(1, Relaxed);
        // What follows is not moved in front of it.
        compiler_fence(SeqCst);
    }
}

/// Sleeps for a readers-writer lock, of which the slot says meanwhile that the thread does not have it.
struct Asleep;

impl Sleep for Asleep {
    const LOOKS: u32 = 100;

    fn wait(&self, word: &AtomicU32, seen: u32) -> bool {
        lockdep::mark_last(held::ASLEEP);
        let woken = futex::wait(word, seen, lockdep::look_again()).is_ok();
        lockdep::mark_last(0);
        if !woken {
            orphaned::look();
        }
        woken
    }

    fn wake(&self, word: &AtomicU32, n: u32) {
        futex::wake(word, n);
    }
}

/// A process-shared readers-writer lock; waiting writers keep new readers out.
#[derive(Debug)]
#[repr(C)]
pub struct RwLock<T: ?Sized> {
    words: Words,
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

/// Exclusive access. What [`super::MutexGuard`] says of changes holds here, too.
pub struct WriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

impl<T> RwLock<T> {
    /// A free lock of the given level.
    pub const fn new(level: Level, value: T) -> RwLock<T> {
        let (change, state) = (AtomicU32::new(0), AtomicU32::new(0));
        let words = shared::Words::of(change, state);
        let words = Words { words, changed: AtomicU8::new(0), level, mender: 0 };
        RwLock { words, value: UnsafeCell::new(value) }
    }

    /// A free lock whose value is made whole again where a writer dies in the middle of a change.
    pub fn mended(level: Level, value: T) -> RwLock<T>
    where
        T: Mend,
    {
        let mut lock = RwLock::new(level, value);
        lock.words.mender = mend::number(|lock| {
            // SAFETY: the lock is one of this type, its holder is dead, and it is still locked.
            unsafe { (*(*(lock as *const RwLock<T>)).value.get()).mend() };
            true
        });
        lock
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits for shared access.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> ReadGuard<'_, T> {
        lockdep::acquire(self.words.level, self.address(), held::READER);
        if !self.words.words.try_read() {
            self.words.words.read_slow(&Asleep);
        }
        lockdep::got_reader();
        ReadGuard { lock: self }
    }

    /// Waits for exclusive access.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> WriteGuard<'_, T> {
        let me = lockdep::acquire(self.words.level, self.address(), held::WRITER);
        if !self.words.words.try_write(me) {
            self.words.words.write_slow(me, &Asleep);
        }
        WriteGuard { lock: self }
    }

    /// What tells this lock from others.
    #[inline]
    fn address(&self) -> usize {
        self.words.words.watched().as_ptr() as usize
    }

    /// The value's place, for whoever knows by other means that nobody else uses it.
    pub fn as_ptr(&self) -> *mut T {
        self.value.get()
    }

    /// Access without locking, where the borrow proves that nobody else has any.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> WriteGuard<'_, T> {
    /// As [`super::MutexGuard::settle`].
    #[inline]
    pub fn settle(guard: &Self) {
        compiler_fence(SeqCst);
        guard.lock.words.changed.store(0, Relaxed);
    }

    /// As [`super::MutexGuard::scratch`].
    #[inline]
    pub fn scratch(guard: &mut Self) -> &mut T {
        // SAFETY: the guard holds exclusive access.
        unsafe { &mut *guard.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        lockdep::leaves_reader(self.lock.address());
        self.lock.words.words.unread(&Asleep);
        lockdep::release(self.lock.words.level, self.lock.address());
    }
}

impl<T: ?Sized> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let words = &self.lock.words;
        words.changed.store(0, Release);
        words.words.unwrite(&Asleep);
        lockdep::release(words.level, self.lock.address());
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds shared access.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds exclusive access.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        self.lock.words.mark();
        lockdep::changes(self.lock.address());
        // SAFETY: the guard holds exclusive access.
        unsafe { &mut *self.lock.value.get() }
    }
}
