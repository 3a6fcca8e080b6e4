//! Host signals in and around rewritten call sites: stubs, the entry and the exit of
//! `asm/rewrite.S`.

use super::in_range;
use crate::abi::linux;
use crate::abi::sigctx::{SigContext, UContext};
use crate::abi::slot::place;
use crate::arch;
use crate::entry::{self, fast};
use crate::mm::rewrite;
use crate::task::CurrentTask;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

#[cfg(feature = "image")]
unsafe extern "C" {
    fn drupe_fast_entry();
    fn drupe_fast_saved();
    fn drupe_fast_checked();
    fn drupe_fast_end();
    fn drupe_fast_last();
    fn drupe_fast_xrstor();
    fn drupe_fast_xrstor_bad();
    fn drupe_work_ip();
}
#[cfg(not(feature = "image"))]
mod outside {
    //! Outside the image nothing traps; these only let the crate link.
    pub fn drupe_fast_entry() {}
    pub fn drupe_fast_saved() {}
    pub fn drupe_fast_checked() {}
    pub fn drupe_fast_end() {}
    pub fn drupe_fast_last() {}
    pub fn drupe_fast_xrstor() {}
    pub fn drupe_fast_xrstor_bad() {}
    pub fn drupe_work_ip() {}
}
#[cfg(not(feature = "image"))]
use outside::*;

/// The eflags bit that single-steps.
const TF: u64 = 0x100;

/// Turns rewriting on (at boot).
pub fn enable() {
    rewrite::enable(drupe_fast_entry as *const () as u64);
}

/// Whether a SIGSYS is the trap with which a call from a rewritten site asks for a whole frame.
pub(super) fn is_work(regs: &SigContext) -> bool {
    regs.rip == drupe_work_ip as *const () as u64
}

/// A signal found the pc in the kernel's image: takes over where that is the way from or to a
/// rewritten site and needs more than to go on. Returns whether to resume at once.
pub(super) fn in_image(uc: *mut UContext, sig: u32) -> bool {
    // SAFETY: the host's frame on this thread's stack.
    let regs = unsafe { &mut (*uc).mcontext };
    if !in_range(regs.rip, drupe_fast_entry as *const () as usize, drupe_fast_last as *const () as usize) {
        return false;
    }
    let slot = arch::slot();
    match sig {
        linux::SIGTRAP => {
            // A guest that single-steps does not get to see the kernel's steps.
            regs.eflags &= !TF;
            true
        }
        linux::SIGSEGV | linux::SIGBUS
            if in_range(regs.rip, drupe_fast_entry as *const () as usize, drupe_fast_saved as *const () as usize) =>
        {
            // gs is not ours: the guest has taken it without asking (`wrgsbase`).
            CurrentTask::here(regs).mm().give_up_rewriting();
            regs.rip = regs.rcx;
            fast::call(uc)
        }
        linux::SIGSEGV if regs.rip == drupe_fast_xrstor as *const () as u64 => {
            // As the host does with a state that it cannot restore: the initial one.
            regs.rip = drupe_fast_xrstor_bad as *const () as u64;
            true
        }
        _ if slot.place.load(SeqCst) == place::GUEST
            && in_range(regs.rip, drupe_fast_checked as *const () as usize, drupe_fast_end as *const () as usize) =>
        {
            regs.rip = slot.user_ip.load(Relaxed);
            regs.rcx = regs.rip;
            regs.rsp = slot.user_sp.load(Relaxed);
            entry::kicked(uc)
        }
        _ => false,
    }
}

/// A kick found guest code: where that is a stub, the guest had better be seen in front of the call.
pub(super) fn leave_stub(regs: &mut SigContext) {
    if !rewrite::enabled() {
        return;
    }
    let pc = regs.rip;
    let hit = CurrentTask::here(regs).mm().site_of_stub(pc);
    if let Some(hit) = hit {
        regs.rip = hit.resume;
    }
}

/// A SIGTRAP of guest code that has to do with rewriting does not return from here.
pub(super) fn trap_in_guest(uc: *mut UContext) {
    if !rewrite::enabled() {
        return;
    }
    // SAFETY: as above.
    let regs = unsafe { &mut (*uc).mcontext };
    let pc = regs.rip;
    let cur = CurrentTask::here(regs);
    if let Some(hit) = cur.mm().site_of_stub(pc) {
        // A single step into the stub: the call, and the next step behind it.
        if hit.early {
            // After one more step, of which the guest learns nothing.
            entry::kicked(uc)
        }
        regs.rip = hit.site + 2;
        fast::call(uc)
    }
}

/// The guest was at something that is no instruction. Does not return where the kernel wrote that, or may have taken it
/// back meanwhile.
pub(super) fn no_instruction(uc: *mut UContext) {
    if !rewrite::enabled() {
        return;
    }
    // SAFETY: as above.
    let regs = unsafe { &mut (*uc).mcontext };
    let pc = regs.rip;
    if let Some(next) = CurrentTask::here(regs).mm().moved(pc) {
        regs.rip = next;
        entry::kicked(uc)
    }
    fetch_failed(uc, pc);
}

/// The guest could not fetch an instruction at `addr`. Does not return where text was being written there, unless
/// that failed for the same reason before and no text was written since.
pub(super) fn fetch_failed(uc: *mut UContext, addr: u64) {
    if !rewrite::enabled() {
        return;
    }
    // SAFETY: as above.
    let regs = unsafe { &mut (*uc).mcontext };
    let pc = regs.rip;
    if let Some(state) = CurrentTask::here(regs).mm().awaits_text(addr) {
        let this = pc.rotate_left(32) ^ addr ^ state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if arch::slot().text_retry.swap(this, Relaxed) != this {
            entry::kicked(uc)
        }
    }
}
