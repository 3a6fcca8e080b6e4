//! The allocator's own lock: it lies below `sync`, is entered in the slot like every lock, and is never held for long.

use crate::abi::linux;
use crate::abi::slot::{SlotHeader, held};
use crate::arch;
use crate::arch::words::{ALL, Sleep, owned};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering::*, compiler_fence};

/// The owner's number where the code runs on no slot's stack (the host half, before there are guests).
const NOBODY: u32 = 1 << 30;

/// What [`Locked`] consists of besides its value.
#[repr(C)]
pub struct Word {
    word: AtomicU32,
    changed: AtomicU8,
}

/// Told by one who has waited long.
static STUCK: AtomicUsize = AtomicUsize::new(0);

/// Registers who looks whether owners of locks have died (at boot).
pub fn set_stuck(f: fn()) {
    STUCK.store(f as *const () as usize, SeqCst);
}

impl Word {
    /// Who holds it: a slot's index and 1.
    pub fn owner(&self) -> u32 {
        owned::owner(&self.word)
    }

    /// Whether what it guards may be half changed.
    pub fn is_changed(&self) -> bool {
        self.changed.load(SeqCst) != 0
    }

    /// Its holder has died: gives it back for it.
    pub fn give_back(&self) {
        self.changed.store(0, SeqCst);
        owned::give_back(&self.word, &Asleep);
    }

    /// Lets those who sleep for it look again.
    pub fn wake_all(&self) {
        Asleep.wake(&self.word, ALL);
    }
}

/// Sleeps for one of these locks.
struct Asleep;

impl Sleep for Asleep {
    const LOOKS: u32 = 200;

    fn wait(&self, word: &AtomicU32, seen: u32) -> bool {
        let op = u64::from(linux::FUTEX_WAIT);
        // Not for ever: the host may have ended the owner.
        let limit = linux::__kernel_timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let at = word.as_ptr() as u64;
        // SAFETY: waits on a live word of the image's data; the limit lies on this stack.
        let woken = unsafe {
            let limit = core::ptr::from_ref(&limit) as u64;
            arch::syscall(linux::__NR_futex, [at, op, u64::from(seen), limit, 0, 0])
        };
        let stuck = STUCK.load(SeqCst);
        if woken != 0 && stuck != 0 {
            // SAFETY: `set_stuck` stored such a function.
            let stuck = unsafe { core::mem::transmute::<usize, fn()>(stuck) };
            stuck();
        }
        woken == 0
    }

    fn wake(&self, word: &AtomicU32, n: u32) {
        let op = u64::from(linux::FUTEX_WAKE);
        // SAFETY: FUTEX_WAKE only looks the address up.
        unsafe { arch::syscall(linux::__NR_futex, [word.as_ptr() as u64, op, u64::from(n), 0, 0, 0]) };
    }
}

/// A process-shared lock around a value.
#[repr(C)]
pub struct Locked<T> {
    head: Word,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached under the lock.
unsafe impl<T> Sync for Locked<T> {}
// SAFETY: as above; the values are raw pointers into memory that every thread shares.
unsafe impl<T> Send for Locked<T> {}

fn enter(slot: &SlotHeader, lock: &Word) -> u32 {
    let at = slot.locks_held.load(Relaxed);
    if let Some(entry) = slot.held.get(at as usize) {
        entry.store(core::ptr::from_ref(lock) as u64 | held::ALLOCATOR, Relaxed);
    }
    slot.locks_held.store(at + 1, Relaxed);
    slot.index.load(Relaxed) + 1
}

impl<T> Locked<T> {
    pub const fn new(value: T) -> Locked<T> {
        Locked { head: Word { word: AtomicU32::new(0), changed: AtomicU8::new(0) }, value: UnsafeCell::new(value) }
    }

    /// Runs `f` under the lock. `f` must not come back here. Should the host end the thread meanwhile, the value may be
    /// half changed.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.steps(|value| {
            self.head.changed.store(1, Relaxed);
            compiler_fence(SeqCst);
            f(value)
        })
    }

    /// As [`Locked::with`], for changes of which each single store leaves the value whole: should the host end the
    /// thread between two of them, nothing worse has happened than that something is not used any more.
    #[inline]
    pub fn steps<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let slot = arch::try_slot();
        let me = slot.map_or(NOBODY, |slot| enter(slot, &self.head));
        owned::lock(&self.head.word, me, &Asleep);
        // SAFETY: the lock is held.
        let result = f(unsafe { &mut *self.value.get() });
        self.head.changed.store(0, Release);
        owned::unlock(&self.head.word, &Asleep);
        if let Some(slot) = slot {
            let at = slot.locks_held.load(Relaxed).wrapping_sub(1);
            if let Some(entry) = slot.held.get(at as usize) {
                entry.store(0, Relaxed);
            }
            slot.locks_held.store(at, Relaxed);
        }
        result
    }
}
