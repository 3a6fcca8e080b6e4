//! The locks that are held on one file: each owner's are disjoint and merged (`fcntl(2)`), those of
//! different owners do not conflict. Nothing here waits.

use super::tree::IntervalTree;
use super::{Owner, Range};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use hashbrown::HashMap;

#[derive(Clone, Copy)]
struct Held {
    end: u64,
    write: bool,
    pid: u32,
}

/// One owner's locks by first byte. Owners are looked at in the order of `order`, in which they came.
struct Own {
    order: u64,
    held: BTreeMap<u64, Held>,
}

/// See the module.
#[derive(Default)]
pub struct Ranges {
    owners: HashMap<Owner, Own>,
    reads: IntervalTree,
    writes: IntervalTree,
    next: u64,
}

impl Ranges {
    /// Owners that hold something.
    pub fn owners(&self) -> usize {
        self.owners.len()
    }

    /// The owner of some lock that stands in the way of `want`.
    pub fn blocker(&self, want: &Range) -> Option<Owner> {
        let mut found = None;
        let mut look = |_, _, owner| {
            found = (owner != want.owner).then_some(owner);
            found.is_none()
        };
        self.writes.overlapping(want.start, want.end, &mut look);
        if found.is_none() && want.write {
            let mut look = |_, _, owner| {
                found = (owner != want.owner).then_some(owner);
                found.is_none()
            };
            self.reads.overlapping(want.start, want.end, &mut look);
        }
        found
    }

    /// The lock that stands in the way of `want` of the owner who came first, its first one.
    pub fn conflict(&self, want: &Range) -> Option<Range> {
        let mut first: Option<(u64, u64, Owner)> = None;
        let mut look = |start, _, owner| {
            if owner != want.owner {
                let at = (self.owners.get(&owner).map_or(0, |o| o.order), start, owner);
                first = Some(first.map_or(at, |f| f.min(at)));
            }
            true
        };
        self.writes.overlapping(want.start, want.end, &mut look);
        if want.write {
            self.reads.overlapping(want.start, want.end, &mut look);
        }
        let (_, start, owner) = first?;
        self.lock(owner, start)
    }

    /// The first lock of `owner` itself in these bytes.
    pub fn own(&self, owner: Owner, start: u64, end: u64) -> Option<Range> {
        let at = *self.owners.get(&owner)?.overlapping(start, end).last()?.0;
        self.lock(owner, at)
    }

    fn lock(&self, owner: Owner, start: u64) -> Option<Range> {
        let held = self.owners.get(&owner)?.held.get(&start)?;
        Some(Range { owner, pid: held.pid, write: held.write, start, end: held.end })
    }

    /// Gives `want` to its owner, in place of what it has there. Nobody else's lock is in the way.
    ///
    /// # Errors
    /// `ENOLCK`; nothing has changed then.
    pub fn set(&mut self, want: &Range) -> Result {
        self.reserve()?;
        self.carve(want.owner, want.start, want.end);
        let Range { owner, mut start, mut end, write, pid } = *want;
        let next = self.next;
        let own = self.owners.entry(owner).or_insert_with(|| Own { order: next, held: BTreeMap::new() });
        self.next += 1;
        // Neighbours of the same kind become one lock with it.
        let before = own.held.range(..start).next_back().map(|(&s, h)| (s, *h));
        let after = own.held.get(&end).copied();
        let tree = if write { &mut self.writes } else { &mut self.reads };
        if let Some((s, h)) = before.filter(|(_, h)| h.end == start && h.write == write) {
            own.held.remove(&s);
            tree.remove(s, owner);
            start = s;
            debug_assert!(h.end <= end);
        }
        if let Some(h) = after.filter(|h| h.write == write) {
            own.held.remove(&end);
            tree.remove(end, owner);
            end = h.end;
        }
        own.held.insert(start, Held { end, write, pid });
        tree.insert(start, end, owner);
        Ok(())
    }

    /// Takes bytes back from an owner; whether it had any of them.
    ///
    /// # Errors
    /// `ENOLCK` where a lock would become two; nothing has changed then.
    pub fn unset(&mut self, owner: Owner, start: u64, end: u64) -> Result<bool> {
        let Some(own) = self.owners.get(&owner) else { return Ok(false) };
        let splits = own.overlapping(start, end).any(|(&s, h)| s < start && h.end > end);
        if splits {
            self.reserve()?;
        }
        let had = self.carve(owner, start, end);
        if self.owners.get(&owner).is_some_and(|o| o.held.is_empty()) {
            self.owners.remove(&owner);
        }
        Ok(had)
    }

    /// Takes back everything that an owner has; whether that was anything.
    pub fn release(&mut self, owner: Owner) -> bool {
        let Some(own) = self.owners.remove(&owner) else { return false };
        for (&start, held) in &own.held {
            let tree = if held.write { &mut self.writes } else { &mut self.reads };
            tree.remove(start, owner);
        }
        true
    }

    /// Room for what one change adds at most: an owner, and three locks where one was.
    fn reserve(&mut self) -> Result {
        arena::charge(Object::Lock)?;
        self.owners.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        self.reads.reserve(3)?;
        self.writes.reserve(3)
    }

    /// Cuts `start..end` out of an owner's locks; whether it had any of it.
    fn carve(&mut self, owner: Owner, start: u64, end: u64) -> bool {
        let Some(own) = self.owners.get_mut(&owner) else { return false };
        let mut had = false;
        // From the back, one at a time: what stays of the last one lies behind `end`.
        while let Some((&s, &h)) = own.held.range(..end).next_back() {
            if h.end <= start {
                break;
            }
            had = true;
            let tree = if h.write { &mut self.writes } else { &mut self.reads };
            own.held.remove(&s);
            tree.remove(s, owner);
            if h.end > end {
                own.held.insert(end, h);
                tree.insert(end, h.end, owner);
            }
            if s < start {
                own.held.insert(s, Held { end: start, ..h });
                tree.insert(s, start, owner);
                break;
            }
        }
        had
    }

    /// Everything that is held.
    pub fn all(&self) -> Vec<Range> {
        let of = |(&owner, own): (&Owner, &Own)| {
            let each = own.held.iter();
            each.map(|(&start, h)| Range { owner, pid: h.pid, write: h.write, start, end: h.end }).collect::<Vec<_>>()
        };
        self.owners.iter().flat_map(of).collect()
    }
}

impl Own {
    /// Locks that overlap these bytes, the last one first.
    fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = (&u64, &Held)> {
        self.held.range(..end).rev().take_while(move |(_, h)| h.end > start)
    }
}
