//! Which epoll instance watches which.
//!
//! Chains are at most [`MAX_NESTS`] links long and have no loops; the number of ways from a file up to
//! instances that nobody watches is bounded, too. So waking and polling through instances nests no deeper,
//! and takes no more, than that. What is watched besides instances is not looked at.

use super::Epoll;
use crate::abi::{Errno, Result};
use crate::sync::{Level, Mutex, MutexGuard};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Most links between instances (`EP_MAX_NESTS`).
const MAX_NESTS: usize = 4;
/// Most ways of each length from a file up (`path_limits`); those of length one are not counted.
const PATHS: [u32; MAX_NESTS + 1] = [u32::MAX, 500, 100, 50, 10];

/// Held while the links change.
static LINKS: Mutex<u64> = Mutex::new(Level::EpollNesting, 0);

/// The links of one instance.
#[derive(Default)]
pub struct Nest {
    inner: Links,
    outer: Links,
    outers: AtomicUsize,
    /// The walk that saw this instance last, and what it found.
    seen: AtomicU64,
    depth: AtomicUsize,
}

/// By number of the other instance, with how many items there are for it.
struct Links(Mutex<BTreeMap<u64, (Weak<Epoll>, u32)>>);

impl Default for Links {
    fn default() -> Self {
        Links(Mutex::new(Level::Leaf, BTreeMap::new()))
    }
}

impl Links {
    fn all(&self) -> Vec<Arc<Epoll>> {
        self.0.lock().values().filter_map(|(e, _)| e.upgrade()).collect()
    }

    fn add(&self, other: &Epoll) {
        self.0.lock().entry(other.id).or_insert_with(|| (other.me.clone(), 0)).1 += 1;
    }

    fn remove(&self, id: u64) {
        let mut links = self.0.lock();
        if let Some(link) = links.get_mut(&id) {
            link.1 -= 1;
            if link.1 == 0 {
                links.remove(&id);
            }
        }
    }
}

/// A walk over the links in one direction: each instance is looked at once.
struct Walk {
    number: u64,
    down: bool,
    forbidden: u64,
}

impl Walk {
    /// How many links lie beyond `ep`, [`MAX_NESTS`] and one where that is too many or the forbidden one
    /// is there. `depth`: how many lie before it.
    fn depth(&self, ep: &Epoll, depth: usize) -> usize {
        if ep.id == self.forbidden || depth > MAX_NESTS {
            return MAX_NESTS + 1;
        }
        if ep.nest.seen.load(Relaxed) == self.number {
            return ep.nest.depth.load(Relaxed);
        }
        let next = if self.down { &ep.nest.inner } else { &ep.nest.outer };
        let beyond = next.all().iter().map(|e| self.depth(e, depth + 1) + 1).max().unwrap_or(0);
        ep.nest.seen.store(self.number, Relaxed);
        ep.nest.depth.store(beyond, Relaxed);
        beyond
    }
}

/// Counts the ways up from `ep` by length.
///
/// # Errors
/// `EINVAL` for too many.
fn count_paths(ep: &Epoll, depth: usize, counts: &mut [u32; MAX_NESTS + 1]) -> Result {
    let outer = ep.nest.outer.all();
    if outer.is_empty() {
        counts[depth] += 1;
        return if counts[depth] > PATHS[depth] { Err(Errno::EINVAL) } else { Ok(()) };
    }
    if depth >= MAX_NESTS {
        return Err(Errno::EINVAL);
    }
    outer.iter().try_for_each(|e| count_paths(e, depth + 1, counts))
}

/// Checks the ways up from every instance at or below `ep` that watches files.
fn check_below(ep: &Epoll, depth: usize) -> Result {
    let inner = ep.nest.inner.all();
    if ep.interest.lock().by_file.len() > inner.len() {
        count_paths(ep, 0, &mut [0; MAX_NESTS + 1])?;
    }
    if depth >= MAX_NESTS {
        return Ok(());
    }
    inner.iter().try_for_each(|e| check_below(e, depth + 1))
}

impl Epoll {
    /// This instance is about to watch `inner`: links them. The links stand still while the result lives.
    ///
    /// # Errors
    /// `ELOOP` for a loop or too long a chain, `EINVAL` for too many ways.
    pub(super) fn enter(&self, inner: &Epoll) -> Result<MutexGuard<'static, u64>> {
        let mut links = LINKS.lock();
        *links += 1;
        let down = Walk { number: *links, down: true, forbidden: self.id }.depth(inner, 0);
        *links += 1;
        let up = Walk { number: *links, down: false, forbidden: u64::MAX }.depth(self, 0);
        if down + 1 + up > MAX_NESTS {
            return Err(Errno::ELOOP);
        }
        self.nest.inner.add(inner);
        inner.nest.outer.add(self);
        inner.nest.outers.fetch_add(1, Relaxed);
        if let Err(e) = check_below(inner, 0) {
            self.leave(inner);
            return Err(e);
        }
        Ok(links)
    }

    /// This instance is about to watch a file that is none. The links stand still while the result lives;
    /// `None`: nobody watches this instance, so they do not matter.
    ///
    /// # Errors
    /// `EINVAL` for too many ways.
    pub(super) fn check_paths(&self) -> Result<Option<MutexGuard<'static, u64>>> {
        if self.nest.outers.load(Relaxed) == 0 {
            return Ok(None);
        }
        let links = LINKS.lock();
        count_paths(self, 0, &mut [0; MAX_NESTS + 1])?;
        Ok(Some(links))
    }

    /// An item for the instance `inner` is gone.
    pub(super) fn no_longer_watches(&self, inner: u64) {
        self.nest.inner.remove(inner);
    }

    /// The other side of it.
    pub(super) fn no_longer_watched_by(&self, outer: &Epoll) {
        self.nest.outer.remove(outer.id);
        self.nest.outers.fetch_sub(1, Relaxed);
    }

    /// Undoes [`Epoll::enter`].
    pub(super) fn leave(&self, inner: &Epoll) {
        self.no_longer_watches(inner.id);
        inner.no_longer_watched_by(self);
    }
}
