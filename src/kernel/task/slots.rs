//! The task slots: who has one, and when it may be used again.
//!
//! A slot is free when its thread has ended in the kernel *and* on the host: the host clears
//! `host_tid` when a thread leaves a host process that others still share; for the last one the
//! supervisor's reap decides. Reuse is last in, first out, so that warm stacks stay warm.

use crate::abi::layout::SLOT_COUNT;
use crate::abi::slot::SlotHeader;
use crate::abi::{Errno, Result};
use crate::arch;
use crate::sync::{Level, Mutex};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

struct Slots {
    free: Vec<u32>,
    /// Ended in the kernel, perhaps not yet on the host.
    ending: Vec<u32>,
    /// Where the search among `ending` goes on.
    cursor: usize,
    next: u32,
}

static SLOTS: Mutex<Slots> =
    Mutex::new(Level::Slots, Slots { free: Vec::new(), ending: Vec::new(), cursor: 0, next: 0 });
/// How many ended slots one search looks at. A young process faults in the page of each, and all who
/// fork or end wait for the lock meanwhile.
const LOOKS: usize = 4;

impl Slots {
    /// Takes one of `looks` ended slots whose thread has left the host meanwhile, the warmest first.
    fn ended(&mut self, looks: usize) -> Option<u32> {
        for look in 0..looks.min(self.ending.len()) {
            let at = if look == 0 { self.ending.len() - 1 } else { self.cursor % self.ending.len() };
            if arch::slot_at(self.ending[at]).host_tid.load(SeqCst) == 0 {
                return Some(self.ending.swap_remove(at));
            }
            self.cursor = at + 1;
        }
        None
    }

    /// A slot that was never used. There is room for it in both lists from then on: giving it back
    /// must not need memory.
    fn fresh(&mut self) -> Result<u32> {
        if u64::from(self.next) >= SLOT_COUNT {
            return self.ended(usize::MAX).ok_or(Errno::EAGAIN);
        }
        let all = self.next as usize + 1;
        for list in [&mut self.free, &mut self.ending] {
            list.try_reserve(all - list.len()).map_err(|_| Errno::ENOMEM)?;
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

/// A slot that nobody runs on.
///
/// # Errors
/// `EAGAIN` when all are taken, `ENOMEM`.
pub fn alloc() -> Result<&'static SlotHeader> {
    let mut slots = SLOTS.lock();
    let index = match slots.ended(LOOKS).or_else(|| slots.free.pop()) {
        Some(index) => index,
        None => slots.fresh()?,
    };
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
    SLOTS.lock().free.push(slot.index.load(SeqCst));
}

/// The running thread is about to end: its slot may be reused once the host has seen that.
pub fn retire(slot: &'static SlotHeader) {
    let mut slots = SLOTS.lock();
    slots.ending.push(slot.index.load(SeqCst));
}

/// The supervisor reaped this host process: none of its threads exists any more.
/// Returns the slots that still belonged to it and had not retired (it died under us).
pub fn reaped(host_pid: u32) -> Vec<&'static SlotHeader> {
    let mut slots = SLOTS.lock();
    let next = slots.next;
    let mut orphans = Vec::new();
    for index in 0..next {
        let slot = arch::slot_at(index);
        if slot.host_tgid.load(SeqCst) != host_pid {
            continue;
        }
        slot.host_tgid.store(0, SeqCst);
        slot.host_tid.store(0, SeqCst);
        if let Some(at) = slots.ending.iter().position(|&i| i == index) {
            slots.ending.swap_remove(at);
            slots.free.push(index);
        } else if !slots.free.contains(&index) {
            orphans.push(slot);
        }
    }
    orphans
}

/// Lets every task that sleeps look again.
pub fn wake_all() {
    let next = SLOTS.lock().next;
    (0..next).for_each(|i| arch::slot_at(i).waker.wake());
}

/// Calls from rewritten sites, by all threads that ever were.
pub fn fast_calls() -> u64 {
    let next = SLOTS.lock().next;
    (0..next).map(|i| arch::slot_at(i).fast_calls.load(SeqCst)).sum()
}

/// Number of slots in use.
pub fn in_use() -> u64 {
    let slots = SLOTS.lock();
    u64::from(slots.next) - (slots.free.len() + slots.ending.len()) as u64
}
