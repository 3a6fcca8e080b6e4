//! The words of a readers-writer lock: one with the count of readers or the writer, and one that sleepers watch.
//! Waiting writers keep new readers out.

use super::atomic::AtomicU32;
use super::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use super::{ALL, Sleep};

/// A writer has it; the low bits are its number.
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

/// See the module.
#[derive(Debug)]
#[repr(C)]
pub struct Words {
    change: AtomicU32,
    state: AtomicU32,
}

impl Words {
    /// Those of a free lock, of two words of zero.
    pub const fn of(change: AtomicU32, state: AtomicU32) -> Words {
        Words { change, state }
    }

    /// The word that sleepers watch.
    #[inline]
    pub fn watched(&self) -> &AtomicU32 {
        &self.change
    }

    /// The writer's number, 0 if there is none.
    pub fn writer(&self) -> u32 {
        let state = self.state.load(SeqCst);
        if state & WRITER == 0 { 0 } else { state & COUNT }
    }

    /// Takes it for reading, if nobody has it or wants it for writing.
    #[inline]
    pub fn try_read(&self) -> bool {
        let s = self.state.load(SeqCst);
        s & (WRITER | WAITS | CLOSED) == 0 && self.state.compare_exchange(s, s + 1, Acquire, Relaxed).is_ok()
    }

    /// Takes it for writing, if it is free.
    #[inline]
    pub fn try_write(&self, me: u32) -> bool {
        let s = self.state.load(SeqCst);
        s & (WRITER | COUNT | CLOSED) == 0 && self.state.compare_exchange(s, s | WRITER | me, Acquire, Relaxed).is_ok()
    }

    /// Waits until it has it for reading.
    #[cold]
    pub fn read_slow<S: Sleep>(&self, sleep: &S) {
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
            if spins < S::LOOKS {
                spins += 1;
                core::hint::spin_loop();
                continue;
            }
            patient = self.wait(seen, s, s | SLEEPERS, sleep);
        }
    }

    /// Waits until it has it for writing.
    #[cold]
    pub fn write_slow<S: Sleep>(&self, me: u32, sleep: &S) {
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
            if spins < S::LOOKS {
                // Readers that come meanwhile stay out.
                if s & WAITS == 0 {
                    let _ = self.state.compare_exchange(s, s | WAITS, Relaxed, Relaxed);
                }
                spins += 1;
                core::hint::spin_loop();
                continue;
            }
            self.wait(seen, s, s | WAITS | SLEEPERS, sleep);
        }
    }

    /// Sleeps until the watched word differs from `seen`, if the state is still `s`, which becomes `asleep`. False if
    /// it was for long.
    fn wait(&self, seen: u32, s: u32, asleep: u32, sleep: &impl Sleep) -> bool {
        if s != asleep && self.state.compare_exchange(s, asleep, SeqCst, Relaxed).is_err() {
            return true;
        }
        sleep.wait(&self.change, seen)
    }

    /// Gives it back after reading.
    #[inline]
    pub fn unread(&self, sleep: &impl Sleep) {
        let left = self.state.fetch_sub(1, SeqCst) - 1;
        if left & COUNT == 0 && left & (WAITS | SLEEPERS) != 0 {
            self.tidy(sleep);
        }
    }

    /// Gives it back after writing.
    #[inline]
    pub fn unwrite(&self, sleep: &impl Sleep) {
        if self.state.swap(0, SeqCst) & SLEEPERS != 0 {
            self.wake_all(sleep);
        }
    }

    /// Clears the marks of a lock that nobody has, and wakes those who made them.
    #[cold]
    fn tidy(&self, sleep: &impl Sleep) {
        loop {
            let s = self.state.load(SeqCst);
            // Whoever has got it meanwhile does it in the end.
            if s & (WRITER | COUNT | CLOSED) != 0 || s == 0 {
                return;
            }
            if self.state.compare_exchange(s, 0, SeqCst, Relaxed).is_ok() {
                return self.wake_all(sleep);
            }
        }
    }

    /// Lets all who sleep for it look again.
    pub fn wake_all(&self, sleep: &impl Sleep) {
        self.change.fetch_add(1, SeqCst);
        sleep.wake(&self.change, ALL);
    }

    /// The writer has died: gives the lock back for it.
    pub fn give_back(&self, sleep: &impl Sleep) {
        self.state.fetch_and(!(WRITER | COUNT), SeqCst);
        self.tidy(sleep);
        self.wake_all(sleep);
    }

    /// A reader has died.
    pub fn leave(&self, sleep: &impl Sleep) {
        if self.state.load(SeqCst) & (WRITER | COUNT) != 0 {
            self.unread(sleep);
        }
        self.wake_all(sleep);
    }

    /// Keeps new readers out, so that they can be counted: how many the lock knows of. `None` if it has none, but a
    /// writer.
    pub fn close(&self, sleep: &impl Sleep) -> Option<u32> {
        let s = self.state.fetch_or(CLOSED, SeqCst);
        if s & WRITER != 0 {
            self.open(0, sleep);
            return None;
        }
        Some(s & COUNT)
    }

    /// Ends that. So many of the readers that the lock knew of are dead.
    pub fn open(&self, dead: u32, sleep: &impl Sleep) {
        self.state.fetch_sub(dead, SeqCst);
        self.state.fetch_and(!CLOSED, SeqCst);
        self.tidy(sleep);
        self.wake_all(sleep);
    }
}
