//! Making values whole again whose lock's holder the host has ended in the middle of a change.
//!
//! A type that can do that implements [`Mend`], and its locks are made by [`super::Mutex::mended`] or
//! [`super::RwLock::mended`]. What it takes for granted must be such that every prefix of a change leaves it whole:
//! numbers and pointers that are stored once ([`super::steps::StepQueue`], the list of a [`MendMap`]). All that follows
//! from it is computed anew.

use super::orphaned::Repair;
use crate::abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::borrow::Borrow;
use core::hash::Hash;
use core::ops::RangeBounds;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst, compiler_fence};
use hashbrown::HashMap;

/// A value that can be made whole again.
pub trait Mend {
    /// The holder of the lock is dead, and what it changed last may be half changed. Nobody else has access. Parts that
    /// cannot be trusted are forgotten ([`forget_part`]), not dropped.
    fn mend(&mut self);
}

impl<T: Mend, const N: usize> Mend for [T; N] {
    fn mend(&mut self) {
        self.iter_mut().for_each(Mend::mend);
    }
}

/// Puts `new` in the place of a part that may be half changed; what was there is lost, and so is its memory.
pub fn forget_part<T>(part: &mut T, new: T) {
    // SAFETY: a valid place; the old value is not looked at.
    unsafe { core::ptr::write(part, new) };
}

/// What comes before this in the program is stored before what follows, as the memory of a thread shows that the host
/// has ended.
#[inline]
pub fn step() {
    compiler_fence(SeqCst);
}

/// The functions that mend locks, by the number that a lock keeps of its own, from 1 on.
static MENDERS: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];

/// The number of a function, which is entered with its first lock. 0 if there is no room: then nothing is mended.
pub(super) fn number(mender: Repair) -> u8 {
    let mender = mender as *const () as usize;
    for (i, entry) in MENDERS.iter().enumerate() {
        let there = entry.load(SeqCst);
        if there == mender {
            return i as u8 + 1;
        }
        if there == 0 {
            match entry.compare_exchange(0, mender, SeqCst, SeqCst) {
                Ok(_) => return i as u8 + 1,
                Err(other) if other == mender => return i as u8 + 1,
                Err(_) => {}
            }
        }
    }
    debug_assert!(false, "no room for another kind of lock that is mended");
    0
}

/// The function with this number.
pub(super) fn mender(number: u8) -> Option<Repair> {
    let entry = MENDERS.get(usize::from(number).checked_sub(1)?)?.load(SeqCst);
    // SAFETY: `number` stored such a function.
    (entry != 0).then(|| unsafe { core::mem::transmute::<usize, Repair>(entry) })
}

struct Node<K, V> {
    next: *mut Node<K, V>,
    prev: *mut Node<K, V>,
    key: K,
    value: V,
}

/// All entries of a map, of which an index is made anew: an entry is there from the store on that links it in, until the
/// store that takes it out.
struct Chain<K, V> {
    /// The first entry; the `next`s are what counts.
    first: *mut Node<K, V>,
}

// SAFETY: the chain owns its entries; the pointers mean the same in every thread and process.
unsafe impl<K: Send, V: Send> Send for Chain<K, V> {}
// SAFETY: as above; shared access changes nothing.
unsafe impl<K: Sync, V: Sync> Sync for Chain<K, V> {}

impl<K, V> Chain<K, V> {
    const fn new() -> Chain<K, V> {
        Chain { first: null_mut() }
    }

    fn link(&mut self, key: K, value: V) -> NonNull<Node<K, V>> {
        let node = NonNull::from(Box::leak(Box::new(Node { next: self.first, prev: null_mut(), key, value })));
        step();
        let next = core::mem::replace(&mut self.first, node.as_ptr());
        step();
        // SAFETY: entries of the chain are live, and `self` is borrowed mutably.
        if let Some(next) = unsafe { next.as_mut() } {
            next.prev = node.as_ptr();
        }
        node
    }

    fn unlink(&mut self, node: NonNull<Node<K, V>>) {
        // SAFETY: entries of the chain are live, and `self` is borrowed mutably.
        unsafe {
            let (next, prev) = (node.as_ref().next, node.as_ref().prev);
            match prev.as_mut() {
                Some(prev) => prev.next = next,
                None => self.first = next,
            }
            step();
            if let Some(next) = next.as_mut() {
                next.prev = prev;
            }
        }
    }

    /// Makes the ways back anew, and tells each entry.
    fn mend(&mut self, mut enter: impl FnMut(&K, NonNull<Node<K, V>>)) {
        let (mut prev, mut at) = (null_mut(), self.first);
        while let Some(mut node) = NonNull::new(at) {
            // SAFETY: an entry of the chain is live, and nobody else has access.
            let entry = unsafe { node.as_mut() };
            entry.prev = prev;
            enter(&entry.key, node);
            (prev, at) = (at, entry.next);
        }
    }
}

/// The value of an entry that was unlinked, and that no index has any more.
///
/// # Safety
/// As said.
unsafe fn taken<K, V>(node: NonNull<Node<K, V>>) -> V {
    // SAFETY: `link` made it from a box.
    unsafe { Box::from_raw(node.as_ptr()) }.value
}

/// A map in order of its keys whose order can be made anew.
pub struct MendMap<K: Ord + Clone, V> {
    chain: Chain<K, V>,
    index: BTreeMap<K, NonNull<Node<K, V>>>,
}

// SAFETY: as for the chain, into which the index leads.
unsafe impl<K: Ord + Clone + Send, V: Send> Send for MendMap<K, V> {}
// SAFETY: as above.
unsafe impl<K: Ord + Clone + Sync, V: Sync> Sync for MendMap<K, V> {}

impl<K: Ord + Clone, V> Default for MendMap<K, V> {
    fn default() -> Self {
        MendMap::new()
    }
}

impl<K: Ord + Clone, V> MendMap<K, V> {
    /// An empty map, which takes no memory.
    pub const fn new() -> MendMap<K, V> {
        MendMap { chain: Chain::new(), index: BTreeMap::new() }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Enters a value in the place of what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.remove(&key);
        self.index.insert(key.clone(), self.chain.link(key, value));
        old
    }

    /// Takes an entry out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let node = *self.index.get(key)?;
        self.chain.unlink(node);
        self.index.remove(key);
        // SAFETY: nothing leads to it any more.
        Some(unsafe { taken(node) })
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        // SAFETY: entries live as long as they are in the map.
        self.index.get(key).map(|node| unsafe { &(*node.as_ptr()).value })
    }

    /// As [`MendMap::get`], to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // SAFETY: as above, mutably.
        self.index.get(key).map(|node| unsafe { &mut (*node.as_ptr()).value })
    }

    /// Whether there is an entry for a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.index.contains_key(key)
    }

    /// The entry with the lowest key.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// The entry with the highest key.
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    /// Takes the entry with the lowest key.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let key = self.index.first_key_value()?.0.clone();
        self.remove(&key).map(|value| (key, value))
    }

    /// All entries in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        // SAFETY: entries live as long as they are in the map.
        self.index.iter().map(|(key, node)| (key, unsafe { &(*node.as_ptr()).value }))
    }

    /// All values in order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// All values in order, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        // SAFETY: as above; each is handed out once.
        self.index.values().map(|node| unsafe { &mut (*node.as_ptr()).value })
    }

    /// The entries whose keys lie in a range, in order.
    pub fn range<R: RangeBounds<K>>(&self, range: R) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        // SAFETY: as above.
        self.index.range(range).map(|(key, node)| (key, unsafe { &(*node.as_ptr()).value }))
    }

    /// Takes out what `keep` does not want, one after the other.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let mut at = self.index.first_key_value().map(|(key, _)| key.clone());
        while let Some(key) = at {
            let after = (core::ops::Bound::Excluded(&key), core::ops::Bound::Unbounded);
            at = self.index.range(after).next().map(|(key, _)| key.clone());
            if self.get_mut(&key).is_some_and(|value| !keep(&key, value)) {
                self.remove(&key);
            }
        }
    }

    /// Drops all entries, one after the other.
    pub fn clear(&mut self) {
        while self.pop_first().is_some() {}
    }
}

impl<K: Ord + Clone, V> Mend for MendMap<K, V> {
    /// The entries are those of the chain.
    fn mend(&mut self) {
        forget_part(&mut self.index, BTreeMap::new());
        let index = &mut self.index;
        self.chain.mend(|key, node| {
            index.insert(key.clone(), node);
        });
    }
}

impl<K: Ord + Clone, V> Drop for MendMap<K, V> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// As [`MendMap`] without an order: what a look-up costs does not grow with the map. Its index lies in one piece, which can
/// become large: who enters something makes room first ([`MendHashMap::try_reserve`]).
pub struct MendHashMap<K: Hash + Eq + Clone, V> {
    chain: Chain<K, V>,
    index: HashMap<K, NonNull<Node<K, V>>>,
}

// SAFETY: as for the chain, into which the index leads.
unsafe impl<K: Hash + Eq + Clone + Send, V: Send> Send for MendHashMap<K, V> {}
// SAFETY: as above.
unsafe impl<K: Hash + Eq + Clone + Sync, V: Sync> Sync for MendHashMap<K, V> {}

impl<K: Hash + Eq + Clone, V> Default for MendHashMap<K, V> {
    fn default() -> Self {
        MendHashMap { chain: Chain::new(), index: HashMap::new() }
    }
}

impl<K: Hash + Eq + Clone, V> MendHashMap<K, V> {
    /// Makes room for one more entry.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn try_reserve(&mut self) -> Result {
        self.index.try_reserve(1).map_err(|_| Errno::ENOMEM)
    }

    /// Enters a value in the place of what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.remove(&key);
        self.index.insert(key.clone(), self.chain.link(key, value));
        old
    }

    /// Takes an entry out.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let node = *self.index.get(key)?;
        self.chain.unlink(node);
        self.index.remove(key);
        // SAFETY: nothing leads to it any more.
        Some(unsafe { taken(node) })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        // SAFETY: entries live as long as they are in the map.
        self.index.values().map(|node| unsafe { &(*node.as_ptr()).value })
    }

    /// The value of a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        // SAFETY: entries live as long as they are in the map.
        self.index.get(key).map(|node| unsafe { &(*node.as_ptr()).value })
    }

    /// As [`MendHashMap::get`], to be changed.
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // SAFETY: as above, mutably.
        self.index.get(key).map(|node| unsafe { &mut (*node.as_ptr()).value })
    }
}

impl<K: Hash + Eq + Clone, V> Mend for MendHashMap<K, V> {
    /// The entries are those of the chain.
    fn mend(&mut self) {
        forget_part(&mut self.index, HashMap::new());
        let index = &mut self.index;
        self.chain.mend(|key, node| {
            index.insert(key.clone(), node);
        });
    }
}

impl<K: Hash + Eq + Clone, V> Drop for MendHashMap<K, V> {
    fn drop(&mut self) {
        while let Some(node) = NonNull::new(self.chain.first) {
            self.chain.unlink(node);
            // SAFETY: nothing uses the index any more.
            drop(unsafe { taken(node) });
        }
    }
}
