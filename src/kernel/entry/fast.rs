//! Calls from rewritten sites: served on the slot's stack without the host.
//!
//! `asm/rewrite.S` lays the general registers out as a frame; the vector state stays where it is. So
//! a call that needs a whole frame (a clone copies it, a signal frame holds it) is not finished
//! here: the guest's registers are put back and an ordinary trap is made, whose handler finds in
//! the slot what is left to do ([`work`]).

use super::{Interrupted, leave, serve};
use crate::abi::sigctx::{SigContext, UContext};
use crate::abi::slot::{CANARY, SlotHeader};
use crate::abi::{Restart, linux};
use crate::arch;
use crate::host::{panic, process};
use crate::mm::rewrite;
use crate::task::CurrentTask;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// What is left to do on a whole frame; values of [`SlotHeader::fast_work`].
mod left {
    /// Exit work alone; the result stands in `user_ax`.
    pub const EXIT: u64 = 0;
    /// The call, whose number stands in `user_ax`.
    pub const CALL: u64 = 1;
    /// Settling an interrupted call, by its restart code.
    pub const RESTART: u64 = 2;
}

/// Calls that read or replace the whole frame, or never return.
fn needs_frame(nr: u32) -> bool {
    matches!(
        nr,
        linux::__NR_rt_sigreturn
            | linux::__NR_clone
            | linux::__NR_clone3
            | linux::__NR_fork
            | linux::__NR_vfork
            | linux::__NR_execve
            | linux::__NR_execveat
            | linux::__NR_exit
            | linux::__NR_exit_group
            | linux::__NR_arch_prctl
    )
}

/// Serves a call on a frame without extended state. Returns 0 to go straight back to the guest.
///
/// # Safety
/// Only `asm/rewrite.S` calls it, with the frame that it laid on this slot's stack.
#[cfg_attr(feature = "image", unsafe(no_mangle))]
pub unsafe extern "C" fn drupe_fast_call(regs: *mut SigContext) -> u64 {
    let slot = arch::slot();
    // SAFETY: by the caller's promise.
    let regs = unsafe { &mut *regs };
    let nr = regs.rax as u32;
    if needs_frame(nr) {
        return defer(slot, left::CALL, u64::from(nr));
    }
    slot.fast_calls.store(slot.fast_calls.load(Relaxed) + 1, Relaxed);
    let interrupted = serve(regs, u64::from(nr));
    if slot.canary.load(Relaxed) != CANARY {
        panic::panic(format_args!("kernel stack overflow in slot {}", slot.index.load(SeqCst)));
    }
    match interrupted {
        Some(i) => defer(slot, left::RESTART + i.restart as u64, i.nr),
        None if slot.kicked() => defer(slot, left::EXIT, regs.rax),
        None => {
            // A kick that comes later makes the asm defer by itself.
            slot.fast_work.store(left::EXIT, Relaxed);
            0
        }
    }
}

fn defer(slot: &SlotHeader, work: u64, ax: u64) -> u64 {
    slot.fast_work.store(work, Relaxed);
    slot.user_ax.store(ax, Relaxed);
    1
}

/// The trap that follows a deferral: the host has written a whole frame.
pub fn work(uc: *mut UContext) -> ! {
    let slot = super::enter_kernel();
    // SAFETY: the frame lies above us on this thread's stack until the guest is entered.
    let regs = unsafe { &mut (*uc).mcontext };
    let ip = slot.user_ip.load(Relaxed);
    (regs.rip, regs.rcx, regs.r11) = (ip, ip, regs.eflags);
    let ax = slot.user_ax.load(Relaxed);
    regs.rax = ax;
    let restart = match slot.fast_work.load(Relaxed) {
        left::EXIT => leave(uc, None),
        left::CALL => {
            let interrupted = serve(regs, ax);
            leave(uc, interrupted)
        }
        code if code == left::RESTART + Restart::Sys as u64 => Restart::Sys,
        code if code == left::RESTART + Restart::NoIntr as u64 => Restart::NoIntr,
        code if code == left::RESTART + Restart::NoHand as u64 => Restart::NoHand,
        _ => Restart::Block,
    };
    leave(uc, Some(Interrupted { restart, nr: ax }))
}

/// A call of the guest that came by another signal than SIGSYS: the frame says where it was made, as
/// if the host had just left the call.
pub fn call(uc: *mut UContext) -> ! {
    super::enter_kernel();
    // SAFETY: as in `work`.
    let regs = unsafe { &mut (*uc).mcontext };
    regs.rcx = regs.rip;
    regs.r11 = regs.eflags;
    let nr = u64::from(regs.rax as u32);
    let interrupted = serve(regs, nr);
    leave(uc, interrupted)
}

/// Points gs of the running thread at its slot, for the stubs' sake.
pub fn claim_gs() {
    if rewrite::enabled() {
        let slot = core::ptr::from_ref(arch::slot()) as u64;
        if process::arch_prctl(process::ARCH_SET_GS, slot).is_err() {
            panic::panic(format_args!("gs of a new thread cannot be set"));
        }
    }
}

/// A call of the guest trapped: hot sites are rewritten.
pub fn trapped(regs: &mut SigContext) {
    if rewrite::enabled() && !needs_frame(regs.rax as u32) {
        let site = regs.rip.wrapping_sub(2);
        let cur = CurrentTask::here(regs);
        let mm = cur.mm();
        mm.call_trapped(site, alloc::sync::Arc::strong_count(mm) == 1);
    }
}
