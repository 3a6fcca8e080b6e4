//! The task slots: who has one, and when it may be used again.
//!
//! A slot is free when its thread has ended in the kernel *and* on the host: the host clears
//! `host_tid` when a thread leaves a host process that others still share; for the last one the
//! supervisor's reap decides. Reuse is last in, first out, so that warm stacks stay warm.
//!
//! Nothing here depends on how many slots there are: each knows its place among the ended ones, and the slots of a host
//! process are found by its pid. The first one is entered under it ([`register`]), and the others are in a *ring* with
//! it; so it is not used again before the process is reaped if there ever was another. A process may end before its
//! maker has entered it: until then its slot is in the ring of slot 0, the supervisor's.

use crate::abi::layout::SLOT_COUNT;
use crate::abi::slot::SlotHeader;
use crate::abi::{Errno, Result};
use crate::arch;
use crate::arena;
use crate::host::process;
use crate::sync::{Level, Mutex, MutexGuard};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

struct Slots {
    free: Vec<u32>,
    /// Ended in the kernel, perhaps not yet on the host.
    ending: Vec<u32>,
    /// Of each slot its place in `ending`, or [`FREE`], [`IN_USE`] or [`LEADS`].
    places: Vec<u32>,
    /// Where the search among `ending` goes on.
    cursor: AtomicUsize,
    /// Of each slot its neighbours in the ring: the one before it, and the one behind it.
    rings: Vec<[u32; 2]>,
    /// Of each slot the host process that it is entered under, 0 for none, and the next one in its chain.
    entries: Vec<(u32, u32)>,
    /// First slots of the chains, by the low bits of the pid; a power of two of them, at least as many as slots.
    chains: Vec<u32>,
}

const IN_USE: u32 = u32::MAX;
const FREE: u32 = u32::MAX - 1;
/// Ended in the kernel, but the other slots of its host process are found by it: free once that is reaped.
const LEADS: u32 = u32::MAX - 2;
/// The end of a chain.
const NONE: u32 = u32::MAX;
/// The supervisor's slot, in whose ring those are that are not entered yet.
const SUPERVISOR: u32 = 0;

static SLOTS: Mutex<Slots> = Mutex::new(
    Level::Slots,
    Slots {
        free: Vec::new(),
        ending: Vec::new(),
        places: Vec::new(),
        cursor: AtomicUsize::new(0),
        rings: Vec::new(),
        entries: Vec::new(),
        chains: Vec::new(),
    },
);
/// How many ended slots one search looks at. A young process faults in the page of each, and all who
/// fork or end wait for the lock meanwhile.
const LOOKS: usize = 4;
/// So many free slots keep the free blocks of the heap that their last threads had (some 100 KiB each).
const WARM: usize = 32;

impl Slots {
    fn place(&mut self, index: u32, place: u32) {
        if let Some(at) = self.places.get_mut(index as usize) {
            *at = place;
        }
    }

    /// Takes the slot at a place out of `ending`.
    fn remove_ending(&mut self, at: usize) -> u32 {
        let index = self.ending.swap_remove(at);
        if let Some(&moved) = self.ending.get(at) {
            self.place(moved, at as u32);
        }
        self.place(index, IN_USE);
        index
    }

    /// The place of one of `looks` ended slots whose thread has left the host meanwhile, the warmest first.
    fn ended(&self, looks: usize) -> Option<usize> {
        for look in 0..looks.min(self.ending.len()) {
            let at = match look {
                0 => self.ending.len() - 1,
                _ => self.cursor.fetch_add(1, Relaxed) % self.ending.len(),
            };
            if arch::slot_at(self.ending[at]).host_tid.load(SeqCst) == 0 {
                return Some(at);
            }
        }
        None
    }

    /// A slot that was never used. There is room for it in both lists from then on: giving it back
    /// must not need memory.
    fn fresh(&mut self) -> Result<u32> {
        let next = self.places.len();
        if next as u64 >= SLOT_COUNT {
            return self.ended(usize::MAX).map(|at| self.remove_ending(at)).ok_or(Errno::EAGAIN);
        }
        for list in [&mut self.free, &mut self.ending, &mut self.places] {
            list.try_reserve(next + 1 - list.len()).map_err(|_| Errno::ENOMEM)?;
        }
        self.rings.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.entries.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        if self.chains.len() <= next {
            self.more_chains()?;
        }
        self.places.push(IN_USE);
        self.rings.push([next as u32; 2]);
        self.entries.push((0, NONE));
        arch::slot::use_slot(next as u32);
        Ok(next as u32)
    }

    /// Doubles the number of chains.
    fn more_chains(&mut self) -> Result {
        let mut chains = Vec::new();
        let count = (2 * self.chains.len()).max(64);
        chains.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        chains.resize(count, NONE);
        for (index, entry) in self.entries.iter_mut().enumerate().filter(|(_, entry)| entry.0 != 0) {
            let first = &mut chains[entry.0 as usize % count];
            entry.1 = *first;
            *first = index as u32;
        }
        self.chains = chains;
        Ok(())
    }

    /// Takes a slot out of its ring.
    fn leave_ring(&mut self, index: u32) {
        let [before, behind] = self.rings[index as usize];
        self.rings[before as usize][1] = behind;
        self.rings[behind as usize][0] = before;
        self.rings[index as usize] = [index; 2];
    }

    /// Moves a slot to the ring of another one.
    fn join_ring(&mut self, index: u32, of: u32) {
        self.leave_ring(index);
        let behind = self.rings[of as usize][1];
        self.rings[index as usize] = [of, behind];
        self.rings[of as usize][1] = index;
        self.rings[behind as usize][0] = index;
    }

    /// Whether this is the first slot of a host process with other threads, or such as have ended.
    fn leads_others(&self, index: u32) -> bool {
        self.entries[index as usize].0 != 0 && self.rings[index as usize][0] != index
    }

    /// Enters the first slot of a host process, unless it is.
    fn enter(&mut self, index: u32, host_pid: u32) {
        if self.entries[index as usize].0 == host_pid {
            return;
        }
        self.forget(index);
        self.leave_ring(index);
        let at = host_pid as usize % self.chains.len();
        self.entries[index as usize] = (host_pid, self.chains[at]);
        self.chains[at] = index;
    }

    /// Takes a slot out of the chain that it is in.
    fn forget(&mut self, index: u32) {
        let (host_pid, next) = core::mem::replace(&mut self.entries[index as usize], (0, NONE));
        if host_pid == 0 {
            return;
        }
        let chain = host_pid as usize % self.chains.len();
        if self.chains[chain] == index {
            self.chains[chain] = next;
            return;
        }
        let mut at = self.chains[chain];
        while at != NONE {
            let behind = self.entries[at as usize].1;
            if behind == index {
                self.entries[at as usize].1 = next;
                return;
            }
            at = behind;
        }
    }

    /// The slot that is entered under this host process.
    fn find(&self, host_pid: u32) -> Option<u32> {
        let mut at = *self.chains.get(host_pid as usize % self.chains.len().max(1))?;
        while at != NONE {
            let (pid, next) = self.entries[at as usize];
            if pid == host_pid {
                return Some(at);
            }
            at = next;
        }
        None
    }

    /// The slots in the ring of this one that belong to the host process.
    fn ring_of(&self, first: u32, host_pid: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = first;
        loop {
            if arch::slot_at(at).host_tgid.load(SeqCst) == host_pid && found.try_reserve(1).is_ok() {
                found.push(at);
            }
            at = self.rings[at as usize][1];
            if at == first {
                return found;
            }
        }
    }

    fn make_free(&mut self, index: u32) {
        debug_assert_eq!(self.places.get(index as usize), Some(&IN_USE), "a slot is given back once");
        self.leave_ring(index);
        self.forget(index);
        self.place(index, FREE);
        self.free.push(index);
        // What a burst of tasks left in their magazines would be missed elsewhere.
        if let Some(&cold) = self.free.len().checked_sub(WARM + 1).and_then(|at| self.free.get(at)) {
            // SAFETY: a free slot, which nobody gets while the lock is held.
            unsafe { arena::drain(arch::slot_at(cold)) };
        }
    }
}

/// A slot that nobody runs on.
///
/// # Errors
/// `EAGAIN` when all are taken, `ENOMEM`.
pub fn alloc() -> Result<&'static SlotHeader> {
    let mut slots = SLOTS.lock();
    // Looking at the slots faults their pages in, and changes nothing.
    let ended = slots.ended(LOOKS);
    let index = match ended.map(|at| slots.remove_ending(at)).or_else(|| slots.free.pop()) {
        Some(index) => index,
        None => slots.fresh()?,
    };
    slots.place(index, IN_USE);
    slots.forget(index);
    slots.join_ring(index, SUPERVISOR);
    MutexGuard::settle(&slots);
    let slot = arch::slot_at(index);
    slot.index.store(index, SeqCst);
    slot.task.store(0, SeqCst);
    // A thread that the host killed may have been dropping something.
    slot.deferred.store(0, SeqCst);
    slot.fast_entry.store(crate::mm::rewrite::entry(), SeqCst);
    // The reap of the slot's last host process may still be to come; it must not meet the next one.
    slot.host_tgid.store(0, SeqCst);
    Ok(slot)
}

/// Gives back a slot that never got a host thread.
pub fn free_unused(slot: &'static SlotHeader) {
    SLOTS.lock().make_free(slot.index.load(SeqCst));
}

/// The running thread is about to end: its slot may be reused once the host has seen that.
pub fn retire(slot: &'static SlotHeader) {
    let mut slots = SLOTS.lock();
    let (index, place) = (slot.index.load(SeqCst), slots.ending.len() as u32);
    debug_assert_eq!(slots.places.get(index as usize), Some(&IN_USE), "a slot is given back once");
    if slots.leads_others(index) {
        slots.place(index, LEADS);
        return;
    }
    slots.ending.push(index);
    slots.place(index, place);
}

/// Host processes that were made and not reaped.
static UNREAPED: AtomicU32 = AtomicU32::new(0);
/// Changes with each reap; processes that wait for one have said so in the other word.
static REAPS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
/// How many of them may have ended before no more are made: the host has 32,768 pids for everybody.
const ENDED_MOST: u32 = 512;
/// How long a maker waits for the supervisor then, ns.
const PATIENCE: u64 = 100_000_000;

/// Before a process is made: where processes are made faster than the supervisor comes to reap them, the maker waits
/// for it a little. No lock may be held.
pub fn await_reaps() {
    let many = || UNREAPED.load(SeqCst) > super::kernel().task_count() + ENDED_MOST;
    if !many() {
        return;
    }
    let deadline = crate::time::deadline_in(PATIENCE);
    loop {
        let seen = REAPS[0].load(SeqCst);
        REAPS[1].store(1, SeqCst);
        if !many() || crate::host::futex::wait(&REAPS[0], seen, Some(deadline)) == Err(Errno::ETIMEDOUT) {
            return;
        }
    }
}

fn count_reap() {
    let _ = UNREAPED.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
    REAPS[0].fetch_add(1, SeqCst);
    if REAPS[1].swap(0, SeqCst) != 0 {
        crate::host::futex::wake(&REAPS[0], u32::MAX >> 1);
    }
}

/// A host process was made whose first thread runs on `slot`; if it has been reaped meanwhile nothing happens.
pub fn register(slot: &SlotHeader, host_pid: u32) {
    UNREAPED.fetch_add(1, SeqCst);
    let mut slots = SLOTS.lock();
    if slot.host_tgid.load(SeqCst) == host_pid {
        slots.enter(slot.index.load(SeqCst), host_pid);
    }
}

/// The running host process gets a further thread, on `slot`.
pub fn register_thread(slot: &SlotHeader) {
    let own = arch::slot();
    let mut slots = SLOTS.lock();
    if process::is_leader(own) {
        // Its maker may not have come to it yet.
        slots.enter(own.index.load(SeqCst), own.host_tgid.load(SeqCst));
    }
    slots.join_ring(slot.index.load(SeqCst), own.index.load(SeqCst));
}

/// The supervisor reaped this host process: none of its threads exists any more.
/// Returns the slots that still belonged to it and had not retired (it died under us).
pub fn reaped(host_pid: u32) -> Vec<&'static SlotHeader> {
    count_reap();
    let all = {
        let slots = SLOTS.lock();
        slots.ring_of(slots.find(host_pid).unwrap_or(SUPERVISOR), host_pid)
    };
    all.into_iter().filter_map(|index| release(index, host_pid)).collect()
}

/// Frees a slot that belongs to a host process that is gone; gives it to the caller if it had not retired.
fn release(index: u32, host_pid: u32) -> Option<&'static SlotHeader> {
    let slot = arch::slot_at(index);
    if slot.host_tgid.load(SeqCst) != host_pid {
        return None;
    }
    let mut slots = SLOTS.lock();
    // Another may have got it meanwhile.
    if slot.host_tgid.compare_exchange(host_pid, 0, SeqCst, SeqCst).is_err() {
        return None;
    }
    slot.host_tid.store(0, SeqCst);
    slots.forget(index);
    slots.leave_ring(index);
    match slots.places.get(index as usize).copied().unwrap_or(FREE) {
        FREE => None,
        IN_USE => Some(slot),
        LEADS => {
            slots.place(index, IN_USE);
            slots.make_free(index);
            None
        }
        at => {
            slots.remove_ending(at as usize);
            slots.make_free(index);
            None
        }
    }
}

/// No host process of the saved sandbox is there any more: what was entered under its pid is not. Of the supervisor of a
/// restored one, before it makes others.
pub fn forget_host() {
    let mut slots = SLOTS.lock();
    UNREAPED.store(0, SeqCst);
    for index in 1..slots.places.len() as u32 {
        slots.forget(index);
        let slot = arch::slot_at(index);
        slot.host_tid.store(0, SeqCst);
        slot.host_tgid.store(0, SeqCst);
    }
}

/// Whether every thread is parked or idle, or gone, or about to go without looking back. The supervisor, which asks, does
/// not count.
pub fn all_still() -> bool {
    let slots = SLOTS.lock();
    slots.places.iter().enumerate().skip(1).all(|(index, &place)| {
        let slot = arch::slot_at(index as u32);
        place != IN_USE || slot.still.load(SeqCst) != 0 || slot.host_tid.load(SeqCst) == 0
    })
}

/// Lets every task that sleeps look again.
pub fn wake_all() {
    let all = SLOTS.lock().places.len() as u32;
    (0..all).for_each(|i| arch::slot_at(i).waker.wake());
}

/// Calls from rewritten sites, by all threads that ever were.
pub fn fast_calls() -> u64 {
    let all = SLOTS.lock().places.len() as u32;
    (0..all).map(|i| arch::slot_at(i).fast_calls.load(SeqCst)).sum()
}

/// Every slot that was ever in use.
pub fn all() -> impl Iterator<Item = &'static SlotHeader> {
    let all = SLOTS.lock().places.len() as u32;
    (0..all).map(arch::slot_at)
}

/// Number of slots in use.
pub fn in_use() -> u64 {
    let slots = SLOTS.lock();
    (slots.places.len() - slots.free.len() - slots.ending.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(count: u32) -> Slots {
        let mut slots = Slots {
            free: Vec::new(),
            ending: Vec::new(),
            places: Vec::new(),
            cursor: AtomicUsize::new(0),
            rings: (0..count).map(|i| [i; 2]).collect(),
            entries: (0..count).map(|_| (0, NONE)).collect(),
            chains: Vec::new(),
        };
        slots.more_chains().expect("memory");
        slots
    }

    fn ring(slots: &Slots, first: u32) -> Vec<u32> {
        let behind = |&at: &u32| Some(slots.rings[at as usize][1]).filter(|&next| next != first);
        let mut all: Vec<u32> = core::iter::successors(Some(first), behind).collect();
        all.sort_unstable();
        all
    }

    proptest! {
        /// Against a model: of each slot the first slot of its host process, and of each host process its first slot.
        #[test]
        fn the_slots_of_a_process_are_found_by_its_pid(
            steps in proptest::collection::vec((0..4u8, 1..40u32, 1..40u32), 1..300),
        ) {
            let mut slots = table(40);
            let mut first: Vec<u32> = (0..40).collect();
            let mut pids = std::collections::BTreeMap::new();
            for (what, index, other) in steps {
                let alone = |first: &[u32], i: u32| first.iter().filter(|&&f| f == first[i as usize]).count() == 1;
                match what {
                    // A new process, in pids that share chains.
                    0 if alone(&first, index) && !pids.contains_key(&(other * 64)) => {
                        slots.forget(index);
                        pids.retain(|_, i| *i != index);
                        slots.enter(index, other * 64);
                        pids.insert(other * 64, index);
                    }
                    // A further thread of it.
                    1 if alone(&first, index) && index != other => {
                        slots.forget(index);
                        pids.retain(|_, i| *i != index);
                        slots.join_ring(index, other);
                        first[index as usize] = first[other as usize];
                    }
                    // A thread's slot is used again.
                    2 if first[index as usize] != index => {
                        slots.leave_ring(index);
                        first[index as usize] = index;
                    }
                    3 => slots.more_chains().expect("memory"),
                    _ => {}
                }
                for (&pid, &index) in &pids {
                    prop_assert_eq!(slots.find(pid), Some(index));
                }
                prop_assert_eq!(slots.find(41 * 64), None);
                for i in 0..40u32 {
                    let all: Vec<u32> = (0..40).filter(|&j| first[j as usize] == first[i as usize]).collect();
                    prop_assert_eq!(ring(&slots, i), all);
                }
                if slots.chains.len() > 1 << 12 {
                    break;
                }
            }
        }
    }
}
