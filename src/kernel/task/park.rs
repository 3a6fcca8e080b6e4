//! Standing still: a pause brings every task to a point where its registers lie in the window and its kernel
//! stack stays as it is.
//!
//! A task parks on its way to the guest, or within a sleep, which looks at its condition again afterwards.
//! Then the guest's registers are a frame on the task's stack, what functions preserve lies where
//! `slot.parked` says (`asm/park.S`), and a thread that loads that stack pointer and returns goes on.

use super::{Task, kernel, work};
use crate::abi::slot::{SlotHeader, kick};
use crate::abi::{Errno, Result};
use crate::arch::{self, frame};
use crate::host::futex;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;
use once_cell::race::OnceBox;

/// Makes a call's frame hold the extended state; registered by `entry`.
static MAKE_WHOLE: OnceBox<fn(&SlotHeader)> = OnceBox::new();

/// Registers what makes a frame whole.
pub fn set_make_whole(f: fn(&SlotHeader)) {
    let _ = MAKE_WHOLE.set(alloc::boxed::Box::new(f));
}

#[cfg(feature = "image")]
unsafe extern "C" {
    fn drupe_park(parked: *mut u64, wait: extern "C" fn());
}
#[cfg(not(feature = "image"))]
unsafe fn drupe_park(_parked: *mut u64, wait: extern "C" fn()) {
    wait();
}

/// Pauses every task (nests).
pub fn pause() {
    kernel().paused.fetch_add(1, SeqCst);
    for task in tasks() {
        if let Some(slot) = task.slot() {
            super::kick_slot(slot, kick::PARK);
        }
    }
}

/// Undoes one [`pause`].
///
/// # Errors
/// `EINVAL` if it is not paused.
pub fn unpause() -> Result {
    let old = kernel().paused.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).map_err(|_| Errno::EINVAL)?;
    if old == 1 {
        for task in tasks() {
            if let Some(slot) = task.slot() {
                slot.waker.wake();
            }
        }
    }
    Ok(())
}

/// Whether the sandbox is paused.
pub fn is_paused() -> bool {
    kernel().paused.load(SeqCst) != 0
}

/// How many tasks have not parked yet: 0 in a paused sandbox that stands still.
pub fn moving() -> usize {
    tasks().iter().filter_map(|t| t.slot()).filter(|s| s.parked.load(SeqCst) == 0).count()
}

fn tasks() -> Vec<Arc<Task>> {
    kernel().roots().pid.tasks()
}

/// Parks the running thread for as long as the sandbox is paused. Death ends it.
pub(super) fn park_while_paused() {
    if !is_paused() {
        return;
    }
    let slot = arch::slot();
    make_whole();
    // SAFETY: the word lies in the slot, and the function returns.
    unsafe { drupe_park(slot.parked.as_ptr(), wait) };
}

/// Makes the frame of the running thread hold the extended state.
pub(super) fn make_whole() {
    if let Some(f) = MAKE_WHOLE.get() {
        f(arch::slot());
    }
}

extern "C" fn wait() {
    let slot = arch::slot();
    let Some(task) = work::running() else { return };
    let was = slot.waker.sleeping.swap(1, SeqCst);
    loop {
        let ticket = slot.waker.ticket();
        if !is_paused() || task.group.state.lock().exiting.is_some() {
            break;
        }
        let _ = futex::wait(&slot.waker.word, ticket, None);
    }
    slot.waker.sleeping.store(was, SeqCst);
}

/// Whether what `frame` refers to lies in the window: a test of what parking promises.
pub fn lies_in_window(slot: &SlotHeader) -> bool {
    let parked = slot.parked.load(SeqCst);
    parked != 0 && frame::on_slot_stack(parked) && frame::on_slot_stack(slot.frame.load(SeqCst))
}
