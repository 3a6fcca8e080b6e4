//! The mutex around a value; [`owned`] says how its word is used.

use super::lockdep::{self, Level};
use super::mend::{self, Mend};
use super::orphaned;
use crate::abi::slot::held;
use crate::arch::words::{ALL, Sleep, owned};
use crate::host::futex;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::*, compiler_fence};

/// What a mutex consists of besides its value; the allocator's lock begins likewise.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Head {
    /// The owner's number ([`lockdep::owner`]), 0 while it is free, and [`owned::WAITERS`].
    word: AtomicU32,
    /// Its holder has begun to change the value, and it may be half changed.
    changed: AtomicU8,
    level: Level,
    /// Who makes the value whole again (`mend::mender`).
    mender: u8,
}

impl Head {
    /// Who holds it: 0 for nobody.
    pub(super) fn owner(&self) -> u32 {
        owned::owner(&self.word)
    }

    /// Whether the value may be half changed.
    pub(super) fn is_changed(&self) -> bool {
        self.changed.load(SeqCst) != 0
    }

    /// Who makes the value whole again; 0 for nobody.
    pub(super) fn mender(&self) -> u8 {
        self.mender
    }

    /// Its holder has died: gives it back for it.
    pub(super) fn give_back(&self) {
        self.changed.store(0, SeqCst);
        owned::give_back(&self.word, &Asleep);
    }

    /// One who slept for it has died: the wake that it got may have been another's.
    pub(super) fn wake_all(&self) {
        Asleep.wake(&self.word, ALL);
    }

    #[inline]
    fn mark(&self) {
        self.changed.store(1, Relaxed);
        // What follows is not moved in front of it.
        compiler_fence(SeqCst);
    }
}

/// Sleeps for a mutex.
struct Asleep;

impl Sleep for Asleep {
    const LOOKS: u32 = 100;

    fn wait(&self, word: &AtomicU32, seen: u32) -> bool {
        let woken = futex::wait(word, seen, lockdep::look_again()).is_ok();
        if !woken {
            orphaned::look();
        }
        woken
    }

    fn wake(&self, word: &AtomicU32, n: u32) {
        futex::wake(word, n);
    }
}

/// A process-shared mutex with a place in the lock order.
#[derive(Debug)]
#[repr(C)]
pub struct Mutex<T: ?Sized> {
    head: Head,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out one reference at a time.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// Access to a locked value; unlocks when dropped.
///
/// The host may end the thread at any time (`SIGKILL` from outside of the sandbox). While the holder has only read, the
/// lock is then given back for it. Once it has begun to change the value, which is what [`DerefMut`] means here, the value
/// may be half changed. A lock that guards something else (`Mutex<()>`) counts as changed from the start.
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    /// A free mutex of the given level.
    pub const fn new(level: Level, value: T) -> Mutex<T> {
        Mutex {
            head: Head { word: AtomicU32::new(0), changed: AtomicU8::new(0), level, mender: 0 },
            value: UnsafeCell::new(value),
        }
    }

    /// A free mutex whose value is made whole again where its holder dies in the middle of a change.
    pub fn mended(level: Level, value: T) -> Mutex<T>
    where
        T: Mend,
    {
        let mut mutex = Mutex::new(level, value);
        mutex.head.mender = mend::number(|lock| {
            // SAFETY: the lock is one of this type, its holder is dead, and it is still locked.
            unsafe { (*(*(lock as *const Mutex<T>)).value.get()).mend() };
            true
        });
        mutex
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
        let me = lockdep::acquire(self.head.level, self.address(), held::MUTEX);
        owned::lock(&self.head.word, me, &Asleep);
        self.got()
    }

    /// The lock, if it is free.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let me = lockdep::acquire_by_try(self.head.level, self.address(), held::MUTEX);
        if !owned::try_lock(&self.head.word, me) {
            lockdep::release(self.head.level, self.address());
            return None;
        }
        Some(self.got())
    }

    #[inline]
    #[track_caller]
    fn got(&self) -> MutexGuard<'_, T> {
        // SAFETY: the size of a value is no part of what others change.
        if size_of_val(unsafe { &*self.value.get() }) == 0 {
            self.head.mark();
            lockdep::changes(self.address());
        }
        MutexGuard { lock: self }
    }

    /// What tells this lock from others.
    #[inline]
    fn address(&self) -> usize {
        self.head.word.as_ptr() as usize
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

impl<T: ?Sized> MutexGuard<'_, T> {
    /// What the lock guards is whole: who is ended by the host from here on, until the next change, leaves nothing
    /// half done, as if it had given the lock back.
    #[inline]
    pub fn settle(guard: &Self) {
        compiler_fence(SeqCst);
        guard.lock.head.changed.store(0, Relaxed);
    }

    /// What the lock guards begins to be changed: for locks of what lies elsewhere.
    #[inline]
    #[track_caller]
    pub fn unsettle(guard: &Self) {
        guard.lock.head.mark();
        lockdep::changes(guard.lock.address());
    }

    /// The value, for changes that mean nothing until another one, by [`DerefMut`], makes them count: whoever is ended
    /// by the host meanwhile leaves the value whole.
    #[inline]
    pub fn scratch(guard: &mut Self) -> &mut T {
        // SAFETY: the guard holds the lock.
        unsafe { &mut *guard.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let head = &self.lock.head;
        head.changed.store(0, Release);
        owned::unlock(&head.word, &Asleep);
        lockdep::release(head.level, self.lock.address());
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        self.lock.head.mark();
        lockdep::changes(self.lock.address());
        // SAFETY: the guard holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}
