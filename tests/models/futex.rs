//! A futex as the host has it: comparison and beginning of a sleep are one step for whoever wakes.

use crate::arch::words::Sleep;
use loom::sync::atomic::AtomicU32;
use loom::sync::atomic::Ordering::SeqCst;
use loom::sync::{Condvar, Mutex};

/// The bucket of all words of a model. Nobody is woken without a reason, and nobody gives up, so that a wake that is
/// lost is a thread that sleeps for ever, which `loom` reports.
pub struct Futex {
    bucket: Mutex<()>,
    sleepers: Condvar,
}

impl Default for Futex {
    fn default() -> Self {
        Futex { bucket: Mutex::new(()), sleepers: Condvar::new() }
    }
}

impl Sleep for Futex {
    const LOOKS: u32 = 0;

    fn wait(&self, word: &AtomicU32, seen: u32) -> bool {
        let held = self.bucket.lock().expect("no panic");
        // The host orders the comparison after all that the thread did before it (futex(2) is a full barrier), for which
        // an operation that changes nothing stands here: a plain load may see an old value.
        if word.fetch_add(0, SeqCst) == seen {
            drop(self.sleepers.wait(held).expect("no panic"));
        }
        true
    }

    fn wake(&self, _: &AtomicU32, n: u32) {
        let _held = self.bucket.lock().expect("no panic");
        if n == 1 { self.sleepers.notify_one() } else { self.sleepers.notify_all() }
    }
}
