//! Standing still: a pause brings every task to a point where its registers lie in the window and its kernel
//! stack stays as it is.
//!
//! A task parks on its way to the guest, or within a sleep, which looks at its condition again afterwards.
//! Then the guest's registers are a frame on the task's stack, what functions preserve lies where
//! `slot.parked` says (`asm/park.S`), and a thread that loads that stack pointer and returns goes on.

use super::{Task, kernel, work};
use crate::abi::linux::CLOCK_THREAD_CPUTIME_ID;
use crate::abi::slot::{IDLE, SlotHeader, kick};
use crate::abi::{Errno, Result};
use crate::arch::{self, frame};
use crate::host::{futex, process, sched, time};
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

/// What the host has of a thread beyond its registers, noted when it parks.
#[derive(Clone, Copy, Debug)]
pub struct Still {
    /// Bases of fs and gs.
    pub bases: [u64; 2],
    /// The CPUs that it may run on, and how many bytes of them the host has told.
    pub affinity: ([u8; 128], usize),
    /// What its process has registered for `membarrier(2)`, as its commands.
    pub barriers: u64,
    /// User and system time of its host process, ns.
    pub process_times: [u64; 2],
    /// CPU time of the thread itself, ns.
    pub thread_time: u64,
}

impl Still {
    fn of_running() -> Still {
        const GET_REGISTRATIONS: u32 = 1 << 9;
        let mut mask = [0; 128];
        let told = sched::getaffinity(&mut mask).unwrap_or(0);
        let (user, system) = time::process_times();
        Still {
            bases: [process::ARCH_GET_FS, process::ARCH_GET_GS].map(process::base),
            affinity: (mask, told.min(128)),
            barriers: sched::membarrier(GET_REGISTRATIONS, 0, 0).unwrap_or(0),
            process_times: [user, system],
            thread_time: time::clock(CLOCK_THREAD_CPUTIME_ID as i32).map_or(0, |ns| ns as u64),
        }
    }

    /// What was noted of the thread of a slot, which is parked.
    pub fn of(slot: &SlotHeader) -> Option<Still> {
        let at = slot.still.load(SeqCst);
        let inside = slot.parked.load(SeqCst) != 0 && at > IDLE && frame::on_slot_stack(at);
        // SAFETY: a parked thread keeps it on its stack, which lies in the window.
        inside.then(|| unsafe { *(at as *const Still) })
    }
}

/// Whether nothing in the kernel changes: every task is parked, and no thread without a task does anything. Asked by the
/// supervisor, it stays so until the supervisor does something, or the host ends a process.
pub fn all_still() -> bool {
    is_paused() && moving() == 0 && super::slots::all_still()
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
        // The mother makes nothing meanwhile.
        super::zygote::look_again();
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
    let still = Still::of_running();
    slot.still.store(&raw const still as u64, SeqCst);
    // SAFETY: the word lies in the slot, and the function returns.
    unsafe { drupe_park(slot.parked.as_ptr(), wait) };
    slot.still.store(0, SeqCst);
}

/// Makes the frame of the running thread hold the extended state.
pub(super) fn make_whole() {
    if let Some(f) = MAKE_WHOLE.get() {
        f(arch::slot());
    }
}

/// Waits as a parked thread does, and goes on where the thread of this slot has parked, on its stack.
pub(super) fn go_on() -> ! {
    unsafe extern "C" {
        #[cfg(feature = "image")]
        fn drupe_unpark(parked: *mut u64, stack: u64) -> !;
    }
    wait();
    let slot = arch::slot();
    #[cfg(feature = "image")]
    // SAFETY: what the stack pointer leads to was laid there by `drupe_park`, and lies above everything that this
    // function uses.
    unsafe {
        drupe_unpark(slot.parked.as_ptr(), slot.parked.load(SeqCst))
    }
    #[cfg(not(feature = "image"))]
    unreachable!("only the image parks: {:?}", slot.parked)
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
        super::copies::asked();
        let _ = futex::wait(&slot.waker.word, ticket, None);
    }
    slot.waker.sleeping.store(was, SeqCst);
}

/// Whether what `frame` refers to lies in the window: a test of what parking promises.
pub fn lies_in_window(slot: &SlotHeader) -> bool {
    let parked = slot.parked.load(SeqCst);
    parked != 0 && frame::on_slot_stack(parked) && frame::on_slot_stack(slot.frame.load(SeqCst))
}
