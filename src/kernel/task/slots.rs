//! The task slots: who has one, and when it may be used again.
//!
//! A slot is free when its thread has ended in the kernel *and* on the host: the host clears
//! `host_tid` when a thread leaves a host process that others still share; for the last one the
//! supervisor's reap decides. Reuse is last in, first out, so that warm stacks stay warm.
//!
//! Nothing here depends on how many slots there are: each knows its place among the ended ones, and the slot of a
//! host process is found by the host pid ([`register`]).

use crate::abi::layout::SLOT_COUNT;
use crate::abi::slot::SlotHeader;
use crate::abi::{Errno, Result};
use crate::arch;
use crate::arena;
use crate::sync::{Level, Mutex, MutexGuard};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

struct Slots {
    free: Vec<u32>,
    /// Ended in the kernel, perhaps not yet on the host.
    ending: Vec<u32>,
    /// Of each slot its place in `ending`, or [`FREE`] or [`IN_USE`].
    places: Vec<u32>,
    /// Where the search among `ending` goes on.
    cursor: AtomicUsize,
}

const IN_USE: u32 = u32::MAX;
const FREE: u32 = u32::MAX - 1;

static SLOTS: Mutex<Slots> = Mutex::new(
    Level::Slots,
    Slots { free: Vec::new(), ending: Vec::new(), places: Vec::new(), cursor: AtomicUsize::new(0) },
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
        self.places.push(IN_USE);
        arch::slot::use_slot(next as u32);
        Ok(next as u32)
    }

    fn make_free(&mut self, index: u32) {
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
    slots.ending.push(index);
    slots.place(index, place);
}

/// By the low bits of a host pid: the slot of the first thread of that host process, whether there were more
/// threads, and the other bits of the pid. Whoever makes a process enters it; an entry that another process has
/// overwritten only costs its reap a search.
static PROCESSES: [AtomicU32; KNOWN] = [const { AtomicU32::new(0) }; KNOWN];
/// A page of them.
const KNOWN: usize = 1024;
const THREADS: u32 = 1 << 15;
const _: () = assert!(SLOT_COUNT <= 1 << 15 && KNOWN.is_power_of_two());

fn entry(host_pid: u32) -> (&'static AtomicU32, u32) {
    let (at, rest) = (host_pid as usize % KNOWN, host_pid / KNOWN as u32);
    (&PROCESSES[at], rest << 16)
}

/// A host process was made whose first thread runs on `slot`.
pub fn register(slot: &SlotHeader, host_pid: u32) {
    let (entry, tag) = entry(host_pid);
    entry.store(tag | slot.index.load(SeqCst), SeqCst);
}

/// The running host process gets a further thread.
pub fn register_thread() {
    let (entry, tag) = entry(arch::slot().host_tgid.load(SeqCst));
    let _ = entry.fetch_update(SeqCst, SeqCst, |e| (e >> 16 == tag >> 16 && e & THREADS == 0).then_some(e | THREADS));
}

/// The slot of a host process that never had another thread, if that is known.
fn only_slot(host_pid: u32) -> Option<u32> {
    let (entry, tag) = entry(host_pid);
    let known = entry.load(SeqCst);
    if known >> 16 != tag >> 16 || known & 0xffff == 0 {
        return None;
    }
    // The number may be another process's soon.
    let _ = entry.compare_exchange(known, 0, SeqCst, SeqCst);
    (known & THREADS == 0).then_some(known & 0xffff)
}

/// The supervisor reaped this host process: none of its threads exists any more.
/// Returns the slots that still belonged to it and had not retired (it died under us).
pub fn reaped(host_pid: u32) -> Vec<&'static SlotHeader> {
    let mut orphans = Vec::new();
    match only_slot(host_pid) {
        Some(index) => orphans.extend(release(index, host_pid)),
        None => {
            let all = SLOTS.lock().places.len() as u32;
            orphans.extend((0..all).filter_map(|index| release(index, host_pid)));
        }
    }
    orphans
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
    match slots.places.get(index as usize).copied().unwrap_or(FREE) {
        FREE => None,
        IN_USE => Some(slot),
        at => {
            slots.remove_ending(at as usize);
            slots.make_free(index);
            None
        }
    }
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

/// Number of slots in use.
pub fn in_use() -> u64 {
    let slots = SLOTS.lock();
    (slots.places.len() - slots.free.len() - slots.ending.len()) as u64
}
