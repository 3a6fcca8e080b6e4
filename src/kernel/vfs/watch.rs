//! Who watches an open file description: epoll instances.
//!
//! Their registrations with the file's queue end with the description, not with the queue, which may live
//! on (the other end of a pipe shares it).

use super::FileOps;
use crate::abi::Result;
use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::Weak;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Is told that a description which it watches is gone.
pub trait Watcher: Send + Sync {
    /// The one that was registered under `key`. Its registration with the file's queue has been taken back.
    fn gone(&self, key: u64);
}

struct Watch {
    watcher: Weak<dyn Watcher>,
    registration: u64,
}

/// The watchers of one description.
pub struct Watches {
    any: AtomicBool,
    list: Mutex<BTreeMap<(u64, u64), Watch>>,
}

impl Watches {
    /// None.
    pub(super) const fn new() -> Watches {
        Watches { any: AtomicBool::new(false), list: Mutex::new(Level::Leaf, BTreeMap::new()) }
    }

    /// Records that the watcher with this number watches under `key`, by this registration with the file's
    /// queue.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add(&self, watcher: Weak<dyn Watcher>, id: u64, key: u64, registration: u64) -> Result {
        crate::arena::charge(crate::arena::Object::Watch)?;
        self.list.lock().insert((id, key), Watch { watcher, registration });
        self.any.store(true, Relaxed);
        Ok(())
    }

    /// Forgets a watch; its registration with the file's queue, which is the caller's to take back.
    pub fn remove(&self, id: u64, key: u64) -> Option<u64> {
        let watch = self.list.lock().remove(&(id, key))?;
        Some(watch.registration)
    }

    /// The description of `ops` ends.
    pub(super) fn end(&self, ops: &dyn FileOps) {
        if !self.any.load(Relaxed) {
            return;
        }
        let list = core::mem::take(&mut *self.list.lock());
        let queue = ops.wait_queue();
        for ((_, key), watch) in list {
            if let Some(queue) = queue {
                queue.remove(watch.registration);
            }
            if let Some(watcher) = watch.watcher.upgrade() {
                watcher.gone(key);
            }
        }
    }
}
