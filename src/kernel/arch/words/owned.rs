//! A word that says who holds a lock, after the host's own robust futexes.

use super::Sleep;
use super::atomic::AtomicU32;
use super::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

/// Others sleep for it, or may. The other bits are the owner's number, 0 while the lock is free.
pub const WAITERS: u32 = 1 << 31;

/// Who holds it: 0 for nobody.
pub fn owner(word: &AtomicU32) -> u32 {
    word.load(SeqCst) & !WAITERS
}

/// Takes the lock for `me` if it is free.
#[inline]
pub fn try_lock(word: &AtomicU32, me: u32) -> bool {
    word.compare_exchange(0, me, Acquire, Relaxed).is_ok()
}

/// Waits for the lock.
#[inline]
pub fn lock(word: &AtomicU32, me: u32, sleep: &impl Sleep) {
    if !try_lock(word, me) {
        lock_slow(word, me, sleep);
    }
}

#[cold]
fn lock_slow<S: Sleep>(word: &AtomicU32, me: u32, sleep: &S) {
    for _ in 0..S::LOOKS {
        if word.load(Relaxed) == 0 && try_lock(word, me) {
            return;
        }
        core::hint::spin_loop();
    }
    loop {
        let seen = word.load(Relaxed);
        if seen & !WAITERS == 0 {
            // Others may sleep still.
            if word.compare_exchange(seen, me | WAITERS, Acquire, Relaxed).is_ok() {
                return;
            }
            continue;
        }
        let asleep = seen | WAITERS;
        if seen != asleep && word.compare_exchange(seen, asleep, Relaxed, Relaxed).is_err() {
            continue;
        }
        sleep.wait(word, asleep);
    }
}

/// Gives the lock back.
#[inline]
pub fn unlock(word: &AtomicU32, sleep: &impl Sleep) {
    if word.swap(0, Release) & WAITERS != 0 {
        sleep.wake(word, 1);
    }
}

/// The holder has died: gives the lock back for it.
pub fn give_back(word: &AtomicU32, sleep: &impl Sleep) {
    word.swap(0, SeqCst);
    sleep.wake(word, super::ALL);
}
