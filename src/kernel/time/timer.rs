//! The timer heap. Deadlines are on the sandbox's monotonic clock; the supervisor, which sleeps until the
//! earliest one, runs what is due. There is no ticker.
//!
//! A timer with an interval is not armed again when it runs out but when somebody takes note of it (reads
//! the descriptor, takes the signal): so an interval of 1 ns costs the supervisor nothing.

use super::host_monotonic;
use crate::host::panic;
use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a timer does when it runs out. Called in the supervisor, without locks held; it must not block.
pub trait Target: Send + Sync {
    /// The timer ran out. It is no longer armed.
    fn expired(&self);
    /// The wall clock was set ([`watch_clock`]).
    fn clock_was_set(&self) {}
}

/// A timer that was armed: its deadline and number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Armed {
    /// The sandbox's monotonic clock, ns.
    pub deadline: u64,
    id: u64,
}

static HEAP: Mutex<BTreeMap<Armed, Arc<dyn Target>>> = Mutex::new(Level::Timers, BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(1);
/// Those that want to know when the wall clock is set.
static WATCHERS: Mutex<BTreeMap<u64, Weak<dyn Target>>> = Mutex::new(Level::Leaf, BTreeMap::new());

/// Most timers that run at once, before the next deadline is looked at anew.
const BATCH: usize = 32;

/// Arms a timer.
pub fn arm(deadline: u64, target: Arc<dyn Target>) -> Armed {
    let key = Armed { deadline, id: NEXT.fetch_add(1, Relaxed) };
    let first = {
        let mut heap = HEAP.lock();
        heap.insert(key, target);
        heap.first_key_value().is_some_and(|(k, _)| *k == key)
    };
    if first {
        panic::ring();
    }
    key
}

/// Disarms a timer; `false` if it has run out already (its target may still be running).
pub fn cancel(key: &Armed) -> bool {
    let target = HEAP.lock().remove(key);
    target.is_some()
}

/// Runs what is due now; returns the next deadline, `u64::MAX` for none. Of the supervisor, whose other
/// work must get its turn however quickly guests arm timers: what falls due meanwhile is left for the next
/// call.
pub fn run() -> u64 {
    let now = host_monotonic();
    loop {
        let mut due = ArrayVec::<Arc<dyn Target>, BATCH>::new();
        let next = {
            let mut heap = HEAP.lock();
            while let Some(entry) = heap.first_entry() {
                if entry.key().deadline > now || due.is_full() {
                    break;
                }
                due.push(entry.remove());
            }
            heap.first_key_value().map_or(u64::MAX, |(k, _)| k.deadline)
        };
        let full = due.is_full();
        let none = due.is_empty();
        for target in due {
            target.expired();
        }
        if none {
            return next;
        }
        if !full {
            return HEAP.lock().first_key_value().map_or(u64::MAX, |(k, _)| k.deadline);
        }
    }
}

/// Tells `target` when the wall clock is set; returns the number for [`unwatch_clock`].
pub fn watch_clock(target: Weak<dyn Target>) -> u64 {
    let id = NEXT.fetch_add(1, Relaxed);
    WATCHERS.lock().insert(id, target);
    id
}

/// Takes [`watch_clock`] back.
pub fn unwatch_clock(id: u64) {
    let target = WATCHERS.lock().remove(&id);
    drop(target);
}

/// The wall clock was set: everyone who watches it is told.
pub(super) fn clock_was_set() {
    let targets: Vec<_> = WATCHERS.lock().values().filter_map(Weak::upgrade).collect();
    for target in targets {
        target.clock_was_set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    struct Count(AtomicU32);
    impl Target for Count {
        fn expired(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// Arms itself again for a time that has passed.
    struct Hurried(AtomicU32);
    impl Target for Hurried {
        fn expired(&self) {
            if self.0.fetch_add(1, Relaxed) < 1000 {
                arm(host_monotonic(), Arc::new(Hurried(AtomicU32::new(self.0.load(Relaxed)))));
            }
        }
    }

    // One test, since there is one heap.
    #[test]
    fn due_timers_run_once_and_cancelled_ones_never() {
        let target = Arc::new(Count(AtomicU32::new(0)));
        arm(1, target.clone());
        let cancelled = arm(2, target.clone());
        let later = arm(u64::MAX - 1, target.clone());
        for _ in 0..100 {
            arm(3, target.clone());
        }
        assert!(cancel(&cancelled));
        assert!(!cancel(&cancelled));
        assert_eq!(run(), u64::MAX - 1);
        assert_eq!(target.0.load(Relaxed), 101);
        arm(1, Arc::new(Hurried(AtomicU32::new(0))));
        assert!(run() < u64::MAX - 1, "the supervisor gets its turn");
        while run() < u64::MAX - 1 {}
        assert!(cancel(&later));
    }
}
