//! The readers-writer lock: a word with the count of readers or the writer, and one that sleepers watch.

use super::lockdep::{self, Level};
use super::mend::{self, Mend};
use super::orphaned;
use crate::abi::slot::held;
use crate::host::futex;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::*, compiler_fence};

/// A writer has it; the low bits are its number ([`lockdep::owner`]).
const WRITER: u32 = 1 << 31;
/// A writer waits: new readers stay out. Set only while somebody has the lock, and cleared when it becomes free, so one
/// that dies waiting leaves nothing.
const WAITS: u32 = 1 << 30;
/// Somebody sleeps. Likewise.
const SLEEPERS: u32 = 1 << 29;
/// The supervisor counts the readers: nobody gets the lock meanwhile.
const CLOSED: u32 = 1 << 28;
/// The number of readers, or the writer.
const COUNT: u32 = CLOSED - 1;

/// What a lock consists of besides its value.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Words {
    change: AtomicU32,
    state: AtomicU32,
    /// The writer has begun to change the value, and it may be half changed.
    changed: AtomicU8,
    level: Level,
    /// Who makes the value whole again (`mend::mender`).
    mender: u8,
}

impl Words {
    /// The writer's number, 0 if there is none.
    pub(super) fn writer(&self) -> u32 {
        let state = self.state.load(SeqCst);
        if state & WRITER == 0 { 0 } else { state & COUNT }
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
        self.state.fetch_and(!(WRITER | COUNT), SeqCst);
        self.tidy();
        self.wake_all();
    }

    /// A reader has died.
    pub(super) fn leave(&self) {
        if self.state.load(SeqCst) & (WRITER | COUNT) != 0 {
            self.unread();
        }
        self.wake_all();
    }

    /// Keeps new readers out, so that they can be counted: how many the lock knows of. `None` if it has none, but a
    /// writer.
    pub(super) fn close(&self) -> Option<u32> {
        let s = self.state.fetch_or(CLOSED, SeqCst);
        if s & WRITER != 0 {
            self.open(0);
            return None;
        }
        Some(s & COUNT)
    }

    /// Ends that. So many of the readers that the lock knew of are dead.
    pub(super) fn open(&self, dead: u32) {
        self.state.fetch_sub(dead, SeqCst);
        self.state.fetch_and(!CLOSED, SeqCst);
        self.tidy();
        self.wake_all();
    }

    /// Lets all who sleep for it look again.
    pub(super) fn wake_all(&self) {
        self.change.fetch_add(1, SeqCst);
        futex::wake(&self.change, u32::MAX >> 1);
    }

    #[inline]
    fn mark(&self) {
        self.changed.store(1, Relaxed);
        // What follows is not moved in front of it.
        compiler_fence(SeqCst);
    }

    #[inline]
    fn try_read(&self) -> bool {
        let s = self.state.load(SeqCst);
        s & (WRITER | WAITS | CLOSED) == 0 && self.state.compare_exchange(s, s + 1, Acquire, Relaxed).is_ok()
    }

    #[inline]
    fn try_write(&self, me: u32) -> bool {
        let s = self.state.load(SeqCst);
        s & (WRITER | COUNT | CLOSED) == 0 && self.state.compare_exchange(s, s | WRITER | me, Acquire, Relaxed).is_ok()
    }

    #[cold]
    fn read_slow(&self) {
        let mut patient = true;
        let mut spins = 0;
        loop {
            let seen = self.change.load(SeqCst);
            let s = self.state.load(SeqCst);
            if s & (WRITER | CLOSED) == 0 && (s & WAITS == 0 || s & COUNT == 0 || !patient) {
                if self.state.compare_exchange(s, s + 1, Acquire, Relaxed).is_ok() {
                    return;
                }
                continue;
            }
            if spins < 100 {
                spins += 1;
                core::hint::spin_loop();
                continue;
            }
            patient = self.sleep(seen, s, s | SLEEPERS);
        }
    }

    #[cold]
    fn write_slow(&self, me: u32) {
        let mut spins = 0;
        loop {
            let seen = self.change.load(SeqCst);
            let s = self.state.load(SeqCst);
            if s & (WRITER | COUNT | CLOSED) == 0 {
                if self.state.compare_exchange(s, s | WRITER | me, Acquire, Relaxed).is_ok() {
                    return;
                }
                continue;
            }
            if spins < 100 {
                // Readers that come meanwhile stay out.
                if s & WAITS == 0 {
                    let _ = self.state.compare_exchange(s, s | WAITS, Relaxed, Relaxed);
                }
                spins += 1;
                core::hint::spin_loop();
                continue;
            }
            self.sleep(seen, s, s | WAITS | SLEEPERS);
        }
    }

    /// Sleeps until [`Words::change`] differs from `seen`, if the state is still `s`, which becomes `asleep`. False if
    /// it was for long.
    fn sleep(&self, seen: u32, s: u32, asleep: u32) -> bool {
        if s != asleep && self.state.compare_exchange(s, asleep, SeqCst, Relaxed).is_err() {
            return true;
        }
        lockdep::mark_last(held::ASLEEP);
        let woken = futex::wait(&self.change, seen, lockdep::look_again()).is_ok();
        lockdep::mark_last(0);
        if !woken {
            orphaned::look();
        }
        woken
    }

    #[inline]
    fn unread(&self) {
        let left = self.state.fetch_sub(1, SeqCst) - 1;
        if left & COUNT == 0 && left & (WAITS | SLEEPERS) != 0 {
            self.tidy();
        }
    }

    /// Clears the marks of a lock that nobody has, and wakes those who made them.
    #[cold]
    fn tidy(&self) {
        loop {
            let s = self.state.load(SeqCst);
            // Whoever has got it meanwhile does it in the end.
            if s & (WRITER | COUNT | CLOSED) != 0 || s == 0 {
                return;
            }
            if self.state.compare_exchange(s, 0, SeqCst, Relaxed).is_ok() {
                return self.wake_all();
            }
        }
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
        let words = Words { change, state, changed: AtomicU8::new(0), level, mender: 0 };
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
        if !self.words.try_read() {
            self.words.read_slow();
        }
        lockdep::got_reader();
        ReadGuard { lock: self }
    }

    /// Waits for exclusive access.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> WriteGuard<'_, T> {
        let me = lockdep::acquire(self.words.level, self.address(), held::WRITER);
        if !self.words.try_write(me) {
            self.words.write_slow(me);
        }
        WriteGuard { lock: self }
    }

    /// What tells this lock from others.
    #[inline]
    fn address(&self) -> usize {
        self.words.change.as_ptr() as usize
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
        self.lock.words.unread();
        lockdep::release(self.lock.words.level, self.lock.address());
    }
}

impl<T: ?Sized> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let words = &self.lock.words;
        words.changed.store(0, Release);
        if words.state.swap(0, SeqCst) & SLEEPERS != 0 {
            words.wake_all();
        }
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
