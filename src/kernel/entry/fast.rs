//! Calls from rewritten sites: served on the slot's stack without the host.
//!
//! `asm/rewrite.S` lays the general registers and the lower halves of the vector registers out as a
//! frame; the rest of the extended state stays where it is. A call that wants a whole frame (a clone
//! copies it, a signal frame holds it) saves the rest into the slot's own area first. The way back is a
//! jump where the registers allow it, else the host's `rt_sigreturn` from a frame made here. Only what
//! touches gs, or comes before the host's layout of the extended state is known, asks for a frame of the
//! host's by an ordinary trap, whose handler finds in the slot what is left to do ([`work`]).

use super::{Interrupted, exit_work, leave, serve};
use crate::abi::sigctx::{SigContext, UContext};
use crate::abi::slot::fast::{DEFER, RETURN, WHOLE};
use crate::abi::slot::{CANARY, SlotHeader};
use crate::abi::{Restart, linux};
use crate::arch::{self, fpu, frame};
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

/// What `asm/rewrite.S` lays on the stack.
#[repr(C)]
pub struct Frame {
    regs: SigContext,
    xmm: [u128; 16],
}

// The asm counts on it.
const _: () = assert!(core::mem::offset_of!(Frame, xmm) == size_of::<SigContext>() && size_of::<SigContext>() == 256);

/// Flags with which the kernel must not run: AC, NT, DF, TF.
const BAD_FLAGS: u64 = 0x4_4500;

/// How much of the guest's state a call touches.
#[derive(PartialEq, Eq)]
enum Needs {
    /// General registers.
    Registers,
    /// It copies the extended state.
    State,
    /// It replaces the extended state.
    Area,
    /// It sets gs.
    Segments,
}

#[inline]
fn needs(nr: u32) -> Needs {
    match nr {
        linux::__NR_clone | linux::__NR_clone3 | linux::__NR_fork | linux::__NR_vfork => Needs::State,
        linux::__NR_rt_sigreturn => Needs::Area,
        linux::__NR_arch_prctl => Needs::Segments,
        _ => Needs::Registers,
    }
}

impl Frame {
    /// Sees to what a call needs besides general registers; `false`: it needs a frame of the host's.
    #[inline(never)]
    fn prepare(&mut self, needs: Needs) -> bool {
        match needs {
            Needs::Registers => {}
            Needs::Segments => return false,
            _ if !fpu::is_known() => return false,
            Needs::State => self.save_state(),
            Needs::Area => self.regs.fpstate = fpu::FpArea::own().map_or(0, |a| a.addr()),
        }
        true
    }

    /// Makes the frame whole: saves the extended state, unless that is done already.
    pub(super) fn save_state(&mut self) {
        if self.regs.fpstate == 0
            && let Some(mut area) = fpu::FpArea::own()
        {
            area.save(&self.xmm);
            self.regs.fpstate = area.addr();
        }
    }
}

impl super::Frame for Frame {
    fn regs(&mut self) -> &mut SigContext {
        &mut self.regs
    }
    fn whole(&mut self) -> &mut SigContext {
        self.save_state();
        &mut self.regs
    }
    fn redirected(&mut self) {
        // No handler looks at either: the way there may be a jump.
        (self.regs.rcx, self.regs.r11) = (self.regs.rip, self.regs.eflags);
    }
}

/// Serves a call on a frame without extended state; says how to go on (`abi::slot::fast`).
///
/// # Safety
/// Only `asm/rewrite.S` calls it, with the frame that it laid on this slot's stack.
#[cfg_attr(feature = "image", unsafe(no_mangle))]
pub unsafe extern "C" fn drupe_fast_call(frame: *mut Frame) -> u64 {
    let slot = arch::slot();
    // SAFETY: by the caller's promise.
    let frame = unsafe { &mut *frame };
    slot.frame.store(core::ptr::from_ref(&frame.regs) as u64, Relaxed);
    let nr = u64::from(frame.regs.rax as u32);
    let needs = needs(nr as u32);
    if needs != Needs::Registers && !frame.prepare(needs) {
        return defer(slot, left::CALL, nr);
    }
    slot.fast_calls.store(slot.fast_calls.load(Relaxed) + 1, Relaxed);
    let interrupted = serve(&mut frame.regs, nr);
    if slot.canary.load(Relaxed) != CANARY {
        panic::panic(format_args!("kernel stack overflow in slot {}", slot.index.load(SeqCst)));
    }
    if interrupted.is_none() && frame.regs.fpstate == 0 && !slot.kicked() && slot.exit_work.load(Relaxed) == 0 {
        // A kick that comes later makes the asm defer by itself.
        slot.fast_work.store(left::EXIT, Relaxed);
        return RETURN;
    }
    if !fpu::is_known() {
        return match interrupted {
            Some(i) => defer(slot, left::RESTART + i.restart as u64, i.nr),
            None => defer(slot, left::EXIT, frame.regs.rax),
        };
    }
    settle(slot, frame, interrupted)
}

/// Makes the frame of a call whole for as long as its thread is parked: what else of the guest's state there
/// is would be in registers only.
pub fn make_whole(slot: &SlotHeader) {
    let frame = slot.frame.load(Relaxed);
    if frame == slot.stack_top.load(Relaxed) - size_of::<Frame>() as u64 && fpu::is_known() {
        // SAFETY: only `drupe_fast_call` records this address, where such a frame lies until the call is over;
        // the running thread is in that call.
        unsafe { (*(frame as *mut Frame)).save_state() };
    }
}

/// Does the exit work of a call, makes it again where it was interrupted and nothing was handled, and
/// finds the way back.
#[inline(never)]
fn settle(slot: &'static SlotHeader, frame: &mut Frame, mut interrupted: Option<Interrupted>) -> u64 {
    loop {
        if slot.kicked() || slot.exit_work.swap(0, SeqCst) != 0 || interrupted.is_some() {
            exit_work(slot, frame, &mut interrupted);
        }
        let Some(Interrupted { restart, nr }) = interrupted.take() else { break };
        let nr = if restart == Restart::Block { u64::from(linux::__NR_restart_syscall) } else { nr };
        interrupted = serve(&mut frame.regs, nr);
    }
    slot.fast_work.store(left::EXIT, Relaxed);
    let regs = &frame.regs;
    if regs.rip == regs.rcx && regs.eflags & BAD_FLAGS == 0 && regs.r11 == regs.eflags {
        slot.user_ip.store(regs.rip, Relaxed);
        slot.user_sp.store(regs.rsp, Relaxed);
        return if regs.fpstate == 0 { RETURN } else { WHOLE };
    }
    frame.save_state();
    let mut uc = frame::of_running(&frame.regs);
    super::enter(&mut uc, slot)
}

fn defer(slot: &SlotHeader, work: u64, ax: u64) -> u64 {
    slot.fast_work.store(work, Relaxed);
    slot.user_ax.store(ax, Relaxed);
    DEFER
}

/// The trap that follows a deferral: the host has written a whole frame.
pub fn work(uc: *mut UContext) -> ! {
    let slot = super::enter_kernel(uc);
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
    super::enter_kernel(uc);
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
    if rewrite::enabled() && needs(regs.rax as u32) != Needs::Segments {
        fpu::learn(regs);
        let site = regs.rip.wrapping_sub(2);
        let cur = CurrentTask::here(regs);
        let mm = cur.mm();
        mm.call_trapped(site);
    }
}
