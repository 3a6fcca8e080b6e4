//! Advisory locks: POSIX (owned by a descriptor table), open file description, and `flock`.
//!
//! They belong to the file ([`FileState`](super::state::FileState)) and die with their owner: a table that
//! closes any descriptor of the file, a description that goes. The host sees one owner for all processes
//! of a sandbox, so it is not asked.
//!
//! Who cannot have a lock waits in the order of arrival. Whoever gives bytes back gives the lock to each
//! waiter whom nothing stands in the way of any more, and wakes only those: no one else wakes to look.

mod graph;
mod ranges;
mod tree;

use super::file::OpenFile;
use crate::abi::slot::SlotHeader;
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arch;
use crate::arena::{self, Object};
use crate::sync::wait::{WakeList, sleep};
use crate::sync::{Kind, Level, Mutex, On};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use ranges::Ranges;

/// Who holds a lock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Owner {
    /// A process's descriptor table, by identity.
    Posix(u64),
    /// An open file description, by id.
    Description(u64),
    /// `flock`'s, by description; does not conflict with the others.
    Flock(u64),
}

/// A lock on bytes `start..end` (`u64::MAX`: to the end of the file, wherever that will be).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Holder.
    pub owner: Owner,
    /// For F_GETLK.
    pub pid: u32,
    /// Exclusive.
    pub write: bool,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Range {
    /// Whether both cannot be held at once.
    fn conflicts(&self, other: &Range) -> bool {
        let flock = |r: &Range| matches!(r.owner, Owner::Flock(_));
        flock(self) == flock(other)
            && self.owner != other.owner
            && (self.write || other.write)
            && self.start < other.end
            && other.start < self.end
    }
}

/// A task that waits for a lock.
struct Waiter {
    want: Range,
    slot: &'static SlotHeader,
    /// Which use of the slot: another one by now means that the host killed the waiter.
    generation: u32,
    /// The host thread there: so does none. (In a restored sandbox it is another one.)
    host_tid: u32,
    /// Whom it waits for, where deadlocks are looked for.
    edge: Option<(u64, u64)>,
    /// Set once there is nothing to wait for any more.
    outcome: Option<Result>,
}

impl Waiter {
    /// Whether the host has killed it.
    fn is_gone(&self) -> bool {
        let host_tid = self.slot.host_tid.load(SeqCst);
        self.slot.generation.load(SeqCst) != self.generation || host_tid == 0 && self.host_tid != 0
    }
}

#[derive(Default)]
struct State {
    /// POSIX locks and those of descriptions.
    ranges: Ranges,
    /// `flock`'s.
    whole: Ranges,
    /// By arrival.
    waiters: BTreeMap<u64, Waiter>,
    arrivals: u64,
}

/// The locks of one file.
pub struct FileLocks {
    state: Mutex<Option<Box<State>>>,
    /// Owners and waiters: closing a file costs nothing while there are none.
    used: AtomicU32,
}

impl Default for FileLocks {
    fn default() -> Self {
        FileLocks { state: Mutex::new(Level::FileLocks, None), used: AtomicU32::new(0) }
    }
}

impl State {
    fn kind(&mut self, owner: Owner) -> &mut Ranges {
        if matches!(owner, Owner::Flock(_)) { &mut self.whole } else { &mut self.ranges }
    }

    /// Gives locks to the waiters that nothing stands in the way of any more.
    fn settle(&mut self, woken: &mut WakeList) {
        // Those behind a waiter that want the same as it and may not have it need not be looked at: the
        // owner in its way is in theirs, too, unless they are that owner.
        let mut refused: Option<(Range, Owner)> = None;
        let State { ranges, whole, waiters, .. } = self;
        waiters.retain(|_, w| {
            if w.outcome.is_some() {
                return true;
            }
            if w.is_gone() {
                graph::remove(w.edge);
                return false;
            }
            if let Some((r, by)) = &refused
                && by != &w.want.owner
                && (r.start, r.end, r.write) == (w.want.start, w.want.end, w.want.write)
                && matches!(r.owner, Owner::Flock(_)) == matches!(w.want.owner, Owner::Flock(_))
                && w.edge.is_none()
            {
                return true;
            }
            let held = if matches!(w.want.owner, Owner::Flock(_)) { &mut *whole } else { &mut *ranges };
            let outcome = match held.blocker(&w.want) {
                None => Some(held.set(&w.want)),
                Some(by) => {
                    refused = Some((w.want, by));
                    match edge(w.want.owner, by) {
                        new if new == w.edge => None,
                        new => {
                            graph::remove(w.edge.take());
                            let added = graph::add(new);
                            w.edge = new.filter(|_| added.is_ok());
                            added.err().map(Err)
                        }
                    }
                }
            };
            if outcome.is_some() {
                graph::remove(w.edge.take());
                w.outcome = outcome;
                woken.add(&w.slot.waker);
            }
            true
        });
    }

    fn used(&self) -> u32 {
        (self.ranges.owners() + self.whole.owners() + self.waiters.len()) as u32
    }
}

/// The wait for `by` where it can be part of a deadlock: only processes' own locks are looked at, as
/// `posix_locks_deadlock` in Linux does.
fn edge(from: Owner, by: Owner) -> Option<(u64, u64)> {
    match (from, by) {
        (Owner::Posix(a), Owner::Posix(b)) => Some((a, b)),
        _ => None,
    }
}

impl FileLocks {
    /// Does something to the locks, then lets waiters have what they can have.
    fn change<T>(&self, f: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut woken = WakeList::default();
        let mut guard = self.state.lock();
        if guard.is_none() {
            arena::charge(Object::Lock)?;
        }
        let state = guard.get_or_insert_with(Box::default);
        let out = f(state);
        if !state.waiters.is_empty() {
            state.settle(&mut woken);
        }
        let used = state.used();
        self.used.store(used, SeqCst);
        let gone = if used == 0 { guard.take() } else { None };
        drop(guard);
        drop(gone);
        out
    }

    /// Everything that is held.
    pub fn all(&self) -> Vec<Range> {
        if self.used.load(SeqCst) == 0 {
            return Vec::new();
        }
        let state = self.state.lock();
        state.as_ref().map_or_else(Vec::new, |s| [s.ranges.all(), s.whole.all()].concat())
    }

    /// Everything that is held, each lock followed by those that wait for it: how many each of these waits behind.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn shown(&self) -> Result<Vec<(Range, usize)>> {
        if self.used.load(SeqCst) == 0 {
            return Ok(Vec::new());
        }
        let mut guard = self.state.lock();
        guard.as_mut().map_or_else(|| Ok(Vec::new()), |state| state.shown())
    }

    /// The first lock that stands in the way of `want`.
    pub fn test(&self, want: &Range) -> Option<Range> {
        self.state.lock().as_mut().and_then(|s| s.kind(want.owner).conflict(want))
    }

    /// The first lock that the owner of `range` itself has in it.
    pub fn test_own(&self, range: &Range) -> Option<Range> {
        self.state.lock().as_mut().and_then(|s| s.kind(range.owner).own(range.owner, range.start, range.end))
    }

    /// Takes a lock, waiting for it if `wait`.
    ///
    /// # Errors
    /// `EAGAIN` without `wait`, `EDEADLK` where waiting would never end, `ENOLCK`, a restart code when
    /// interrupted.
    pub fn set(&self, want: &Range, wait: bool) -> SysResult<()> {
        let arrival = self.change(|state| {
            // What a description has with `flock` is given back before it gets another kind, and is lost if it cannot
            // have that (`flock(2)`); no waiter gets it in between.
            if matches!(want.owner, Owner::Flock(_)) {
                match state.whole.own(want.owner, 0, u64::MAX) {
                    Some(own) if own.write == want.write => return Ok(None),
                    Some(_) => {
                        state.whole.release(want.owner);
                    }
                    None => {}
                }
            }
            let held = state.kind(want.owner);
            match held.blocker(want) {
                None => held.set(want).map(|()| None),
                Some(_) if !wait => Err(Errno::EAGAIN),
                Some(by) => state.wait_for(want, edge(want.owner, by)).map(Some),
            }
        })?;
        match arrival {
            None => Ok(()),
            Some(arrival) => self.wait(arrival),
        }
    }

    fn wait(&self, arrival: u64) -> SysResult<()> {
        let slot = arch::slot();
        loop {
            let ticket = slot.waker.ticket();
            if let Some(outcome) = self.outcome(arrival, false) {
                return Ok(outcome?);
            }
            if sleep(slot, On { kind: Kind::Lock, id: arrival }, ticket, None).is_err() {
                // What was given meanwhile is kept.
                return match self.outcome(arrival, true) {
                    Some(outcome) => Ok(outcome?),
                    None => Err(SysError::Restart(Restart::Sys)),
                };
            }
        }
    }

    /// How a wait ended; `give_up` ends it.
    fn outcome(&self, arrival: u64, give_up: bool) -> Option<Result> {
        let mut guard = self.state.lock();
        let state = guard.as_mut()?;
        let waiter = state.waiters.get(&arrival)?;
        let outcome = waiter.outcome;
        if outcome.is_some() || give_up {
            graph::remove(waiter.edge);
            state.waiters.remove(&arrival);
            self.used.store(state.used(), SeqCst);
        }
        outcome
    }

    /// Gives bytes back.
    ///
    /// # Errors
    /// `ENOLCK` where a lock would become two.
    pub fn unset(&self, range: &Range) -> Result {
        if self.used.load(SeqCst) == 0 {
            return Ok(());
        }
        self.change(|state| state.kind(range.owner).unset(range.owner, range.start, range.end).map(drop))
    }

    /// Gives back everything that an owner has.
    pub fn release(&self, owner: Owner) {
        if self.used.load(SeqCst) != 0 {
            let _ = self.change(|state| {
                state.kind(owner).release(owner);
                Ok(())
            });
        }
    }
}

impl State {
    /// See [`FileLocks::shown`]. A waiter waits behind another where the two conflict (`__locks_insert_block`).
    fn shown(&mut self) -> Result<Vec<(Range, usize)>> {
        let mut all: Vec<(Range, Vec<usize>)> = Vec::new();
        let held = [self.ranges.all(), self.whole.all()].concat();
        all.try_reserve_exact(held.len() + self.waiters.len()).map_err(|_| Errno::ENOMEM)?;
        let roots = held.len();
        all.extend(held.into_iter().map(|lock| (lock, Vec::new())));
        let wants: Vec<Range> = self.waiters.values().filter(|w| w.outcome.is_none()).map(|w| w.want).collect();
        for want in wants {
            let by = self.kind(want.owner).conflict(&want);
            let Some(mut at) = by.and_then(|by| all[..roots].iter().position(|(lock, _)| *lock == by)) else {
                continue;
            };
            while let Some(&next) = all[at].1.iter().find(|&&waiter| all[waiter].0.conflicts(&want)) {
                at = next;
            }
            let new = all.len();
            all[at].1.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            all[at].1.push(new);
            all.push((want, Vec::new()));
        }
        let mut out = Vec::new();
        out.try_reserve_exact(all.len()).map_err(|_| Errno::ENOMEM)?;
        let mut todo: Vec<(usize, usize)> = Vec::new();
        todo.try_reserve_exact(all.len()).map_err(|_| Errno::ENOMEM)?;
        todo.extend((0..roots).rev().map(|root| (root, 0)));
        while let Some((at, depth)) = todo.pop() {
            out.push((all[at].0, depth));
            todo.extend(all[at].1.iter().rev().map(|&waiter| (waiter, depth + 1)));
        }
        Ok(out)
    }

    /// Queues the running task for a lock.
    fn wait_for(&mut self, want: &Range, edge: Option<(u64, u64)>) -> Result<u64> {
        arena::charge(Object::Lock)?;
        graph::add(edge)?;
        let slot = arch::slot();
        let arrival = self.arrivals;
        self.arrivals += 1;
        let (generation, host_tid) = (slot.generation.load(SeqCst), slot.host_tid.load(SeqCst));
        self.waiters.insert(arrival, Waiter { want: *want, slot, generation, host_tid, edge, outcome: None });
        Ok(arrival)
    }
}

/// A process closed a descriptor of `file`: all its POSIX locks on it go (`fcntl(2)`).
pub fn release_posix(owner: u64, file: &Arc<OpenFile>) {
    if let Some(state) = file.inode.state().known(&*file.inode) {
        state.locks.release(Owner::Posix(owner));
    }
}

/// The last reference to a description went: its own locks go.
pub fn release_description(file: &OpenFile) {
    if let Some(state) = file.inode.state().known(&*file.inode) {
        state.locks.release(Owner::Description(file.id));
        state.locks.release(Owner::Flock(file.id));
        if let Some(leases) = state.leases.get() {
            leases.release(file.id);
        }
    }
}

#[cfg(test)]
mod tests;
