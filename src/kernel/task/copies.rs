//! Copies of address spaces, from which an image is written while the sandbox goes on.
//!
//! The supervisor asks one parked thread of each address space to fork. The child, a host process without a task, keeps the
//! memory as it was until the supervisor ends it; what both have in common the host copies when somebody writes to it.

use super::{Task, slots};
use crate::abi::slot::{IDLE, SlotHeader};
use crate::arch::{self, frame};
use crate::host::futex;
use crate::host::process::{self, CloneKind};
use crate::mm::VmaFlags;
use crate::sync::{Level, Mutex};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// In [`SlotHeader::copying`]: the answer, with the child's host pid, which is 0 if there is none.
const ANSWER: u64 = 1 << 63;
/// There: the thread is about it.
const BEGUN: u64 = 1;
/// In a copy's own slot: it is of no more use.
const ENOUGH: u64 = 2;
/// How long the parked threads may take, ns. The host copies some GiB of page tables in that time.
const PATIENCE: u64 = 5_000_000_000;

/// The copies' slots.
static COPIES: Mutex<Vec<u32>> = Mutex::new(Level::Leaf, Vec::new());
/// Changes with each answer.
static ANSWERS: AtomicU32 = AtomicU32::new(0);

/// Has each of these address spaces, given by the host pids that share it, copied. The copies' host pids, 0 where there is none: what a
/// forked child does not get (`MADV_DONTFORK`, `MADV_WIPEONFORK`) would be missing, or the host refused. Of the
/// supervisor, of a sandbox that stands still.
pub fn make(spaces: &[Vec<u32>]) -> Vec<u32> {
    let asked: Vec<_> = spaces.iter().map(|pids| pids.first().and_then(|&pid| ask(pid))).collect();
    let limit = crate::time::deadline_in(PATIENCE);
    asked.into_iter().map(|pair| pair.map_or(0, |(slot, into)| answer(slot, into, limit))).collect()
}

/// Ends the copies.
pub fn end() {
    for index in core::mem::take(&mut *COPIES.lock()) {
        let slot = arch::slot_at(index);
        slot.copying.store(ENOUGH, SeqCst);
        slot.waker.wake();
    }
}

/// Whether there are copies: the host counts pages twice that both have.
pub fn are_there() -> bool {
    !COPIES.lock().is_empty()
}

/// Those of the saved sandbox are not there. Of a restored one.
pub fn forget() {
    COPIES.lock().clear();
}

/// Asks a parked thread of the host process for a copy, which is to run on the second slot.
fn ask(pid: u32) -> Option<(&'static SlotHeader, &'static SlotHeader)> {
    let parked = |s: &&SlotHeader| s.host_tgid.load(SeqCst) == pid && s.parked.load(SeqCst) != 0;
    let slot = arch::slot::used_slots().find(parked)?;
    // SAFETY: the slot has a reference until its thread lets go of it, and that is parked.
    let task = unsafe { (slot.task.load(SeqCst) as *const Task).as_ref() }?;
    let withheld = VmaFlags::DONT_FORK | VmaFlags::WIPE_ON_FORK;
    if task.shared()?.mm.has_any(withheld) {
        return None;
    }
    let into = slots::alloc().ok()?;
    slot.copying.store(core::ptr::from_ref(into) as u64, SeqCst);
    slot.waker.wake();
    Some((slot, into))
}

/// Waits for the thread's answer: the child's pid, or 0.
fn answer(slot: &SlotHeader, into: &'static SlotHeader, limit: u64) -> u32 {
    let asked = core::ptr::from_ref(into) as u64;
    loop {
        let seen = ANSWERS.load(SeqCst);
        let word = slot.copying.load(SeqCst);
        if word & ANSWER != 0 {
            slot.copying.store(0, SeqCst);
            let pid = word as u32;
            if pid == 0 {
                slots::free_unused(into);
            } else {
                slots::register(into, pid);
                COPIES.lock().push(into.index.load(SeqCst));
            }
            return pid;
        }
        let is_late = futex::wait(&ANSWERS, seen, Some(limit)).is_err() && crate::time::host_monotonic() >= limit;
        // One that has begun goes on to the end.
        if is_late && slot.copying.compare_exchange(asked, 0, SeqCst, SeqCst).is_ok() {
            slots::free_unused(into);
            return 0;
        }
        if process::has_died(slot) {
            // Its slot and the child's, if there is one, go when they are reaped.
            return 0;
        }
    }
}

/// Makes the copy that the running thread was asked for, if it was. It is parked.
pub(super) fn asked() {
    let slot = arch::slot();
    let word = slot.copying.load(SeqCst);
    let is_asked = word > BEGUN && word & ANSWER == 0;
    if !is_asked || slot.copying.compare_exchange(word, BEGUN, SeqCst, SeqCst).is_err() {
        return;
    }
    // SAFETY: the supervisor has stored the address of a slot that it keeps for this.
    let into = unsafe { &*(word as *const SlotHeader) };
    let made = process::clone(CloneKind::Copy, into, frame::zygote_stack(into), main, 0, None);
    slot.copying.store(ANSWER | made.map_or(0, |pid| pid as u64), SeqCst);
    ANSWERS.fetch_add(1, SeqCst);
    futex::wake(&ANSWERS, u32::MAX >> 1);
}

extern "C" fn main(_: u64) -> ! {
    process::settle(true);
    let slot = arch::slot();
    slot.still.store(IDLE, SeqCst);
    loop {
        let ticket = slot.waker.ticket();
        if slot.copying.load(SeqCst) == ENOUGH {
            process::exit_process(0);
        }
        let _ = futex::wait(&slot.waker.word, ticket, None);
    }
}
