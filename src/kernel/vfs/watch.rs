//! Who watches an open file description: epoll instances.
//!
//! Their registrations with the file's queue end with the description, not with the queue, which may live
//! on (the other end of a pipe shares it).

use super::FileOps;
use crate::abi::Result;
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
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

/// Number of a watcher, and the key that it watches under.
type Name = (u64, u64);

/// Most files are watched by one.
enum List {
    One(Name, Watch),
    Many(BTreeMap<Name, Watch>),
}

/// The watchers of one description.
pub struct Watches {
    any: AtomicBool,
    list: Mutex<Option<Box<List>>>,
}

impl List {
    /// One more watcher.
    fn with(list: Option<Box<List>>, name: Name, watch: Watch) -> Box<List> {
        match list.map(|l| *l) {
            None => Box::new(List::One(name, watch)),
            Some(List::One(other, its)) => Box::new(List::Many([(other, its), (name, watch)].into())),
            Some(List::Many(mut all)) => {
                all.insert(name, watch);
                Box::new(List::Many(all))
            }
        }
    }
}

impl Watches {
    /// None.
    pub(super) const fn new() -> Watches {
        Watches { any: AtomicBool::new(false), list: Mutex::new(Level::Leaf, None) }
    }

    /// Records that the watcher with this number watches under `key`, by this registration with the file's
    /// queue.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add(&self, watcher: Weak<dyn Watcher>, id: u64, key: u64, registration: u64) -> Result {
        crate::arena::charge(crate::arena::Object::Watch)?;
        let watch = Watch { watcher, registration };
        let mut list = self.list.lock();
        if let Some(List::Many(all)) = list.as_deref_mut() {
            all.insert((id, key), watch);
            return Ok(());
        }
        let before = list.take();
        *list = Some(List::with(before, (id, key), watch));
        drop(list);
        self.any.store(true, Relaxed);
        Ok(())
    }

    /// Forgets a watch; its registration with the file's queue, which is the caller's to take back.
    pub fn remove(&self, id: u64, key: u64) -> Option<u64> {
        let mut list = self.list.lock();
        let gone = match list.as_deref_mut()? {
            List::One(name, _) if *name != (id, key) => return None,
            List::One(..) => match list.take().map(|l| *l) {
                Some(List::One(_, watch)) => watch,
                _ => return None,
            },
            List::Many(all) => all.remove(&(id, key))?,
        };
        drop(list);
        Some(gone.registration)
    }

    /// The description of `ops` ends.
    pub(super) fn end(&self, ops: &dyn FileOps) {
        if !self.any.load(Relaxed) {
            return;
        }
        let Some(list) = self.list.lock().take() else { return };
        let queue = ops.wait_queue();
        let end = |key: u64, watch: Watch| {
            if let Some(queue) = queue {
                queue.remove(watch.registration);
            }
            if let Some(watcher) = watch.watcher.upgrade() {
                watcher.gone(key);
            }
        };
        match *list {
            List::One((_, key), watch) => end(key, watch),
            List::Many(all) => all.into_iter().for_each(|((_, key), watch)| end(key, watch)),
        }
    }
}
