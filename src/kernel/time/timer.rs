//! The timer heap. Deadlines are on the host's monotonic clock; the supervisor, which sleeps until the
//! earliest one, runs what is due. There is no ticker.

use super::host_monotonic;
use crate::host::panic;
use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a timer does when it runs out. Called in the supervisor, without locks held; it must not block.
pub trait Target: Send + Sync {
    /// The timer ran out. It is no longer armed.
    fn expired(&self);
}

/// A timer that was armed: its deadline and number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Armed {
    /// Host monotonic ns.
    pub deadline: u64,
    id: u64,
}

static HEAP: Mutex<BTreeMap<Armed, Arc<dyn Target>>> = Mutex::new(Level::Timers, BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

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

/// Runs what is due; returns the next deadline, `u64::MAX` for none. Of the supervisor.
pub fn run() -> u64 {
    loop {
        let now = host_monotonic();
        let mut due: Vec<Arc<dyn Target>> = Vec::new();
        {
            let mut heap = HEAP.lock();
            while let Some(entry) = heap.first_entry() {
                if entry.key().deadline > now {
                    break;
                }
                due.push(entry.remove());
            }
            if due.is_empty() {
                return heap.first_key_value().map_or(u64::MAX, |(k, _)| k.deadline);
            }
        }
        for target in due {
            target.expired();
        }
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

    #[test]
    fn due_timers_run_once_and_cancelled_ones_never() {
        let target = Arc::new(Count(AtomicU32::new(0)));
        arm(1, target.clone());
        let cancelled = arm(2, target.clone());
        let later = arm(u64::MAX - 1, target.clone());
        assert!(cancel(&cancelled));
        assert!(!cancel(&cancelled));
        assert_eq!(run(), u64::MAX - 1);
        assert_eq!(target.0.load(Relaxed), 1);
        assert!(cancel(&later));
    }
}
