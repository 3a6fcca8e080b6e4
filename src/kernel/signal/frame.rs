//! Signal frames on the guest's stack, in Linux's exact layout: unwinders, Go, the JVM and
//! sanitizers read and change them (`arch/x86/kernel/signal_64.c`).

use crate::abi::sigctx::{
    RtSigFrame, SigContext, SigInfo, SigStack, UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS, UContext,
};
use crate::abi::{Result, linux};
use crate::arch::fpu::{FpArea, LEGACY, SW_RESERVED};
use crate::arch::frame::{USER_CS, USER_SS};
use crate::mm::{UserPtr, UserSlice};
use core::mem::size_of;

/// What delivery needs to know of the action and the task.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Address of the handler.
    pub handler: u64,
    /// `SA_*` flags.
    pub flags: u64,
    /// `sa_restorer`.
    pub restorer: u64,
    /// The mask to go back to when the handler returns.
    pub saved_mask: u64,
    /// The task's alternate stack.
    pub altstack: SigStack,
}

/// Whether `sp` is on this alternate stack.
pub fn on_altstack(stack: &SigStack, sp: u64) -> bool {
    stack.size != 0 && sp > stack.sp && sp - stack.sp <= stack.size
}

/// Lays down the frame and points the registers at the handler.
///
/// # Errors
/// `EFAULT` when the stack cannot take it: the caller forces SIGSEGV.
pub fn deliver(regs: &mut SigContext, info: &SigInfo, d: &Delivery) -> Result {
    let on_stack = on_altstack(&d.altstack, regs.rsp);
    let disabled = d.altstack.size == 0 || d.altstack.flags & linux::SS_DISABLE as i32 != 0;
    let mut sp = regs.rsp.wrapping_sub(128);
    if d.flags & u64::from(linux::SA_ONSTACK) != 0 && !disabled && !on_stack {
        sp = d.altstack.sp.wrapping_add(d.altstack.size);
    }
    let area = FpArea::of(regs);
    let mut fpstate = 0;
    let mut uc_flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    if let Some(area) = area {
        sp = sp.wrapping_sub(area.size() as u64) & !63;
        fpstate = sp;
        if area.extended() {
            uc_flags |= UC_FP_XSTATE;
        }
        UserSlice::<u8>::new(fpstate, area.size()).write_from(area.bytes())?;
    }
    sp = (sp.wrapping_sub(size_of::<RtSigFrame>() as u64) & !15).wrapping_sub(8);
    if on_stack && !on_altstack(&d.altstack, sp) {
        return Err(crate::abi::Errno::EFAULT);
    }
    let mut mcontext = *regs;
    mcontext.fpstate = fpstate;
    mcontext.oldmask = d.saved_mask;
    mcontext.cs = USER_CS;
    mcontext.ss = USER_SS;
    mcontext.reserved = [0; 8];
    let mut stack = d.altstack;
    stack.flags = (stack.flags & i32::MIN) | if disabled { linux::SS_DISABLE as i32 } else { 0 };
    if on_stack {
        stack.flags |= linux::SS_ONSTACK as i32;
    }
    let uc = UContext { flags: uc_flags, link: 0, stack, mcontext, sigmask: d.saved_mask };
    UserPtr::<RtSigFrame>::new(sp).write(RtSigFrame { pretcode: d.restorer, uc, info: *info })?;
    regs.rdi = info.signo as u64;
    regs.rsi = sp + core::mem::offset_of!(RtSigFrame, info) as u64;
    regs.rdx = sp + core::mem::offset_of!(RtSigFrame, uc) as u64;
    regs.rax = 0;
    regs.rip = d.handler;
    regs.rsp = sp;
    // DF, TF and RF clear, as the ABI and ptrace want it.
    regs.eflags &= !(1 << 10 | 1 << 8 | 1 << 16);
    if let Some(mut area) = FpArea::of(regs) {
        area.reset();
    }
    Ok(())
}

/// What `rt_sigreturn` found besides the registers.
#[derive(Clone, Copy, Debug)]
pub struct Returned {
    /// The mask to restore.
    pub mask: u64,
    /// The alternate stack to restore.
    pub stack: SigStack,
}

/// Takes the frame at the guest's stack pointer back into `regs`.
///
/// # Errors
/// `EFAULT`: the caller forces SIGSEGV.
pub fn restore(regs: &mut SigContext) -> Result<Returned> {
    let uc = UserPtr::<RtSigFrame>::new(regs.rsp.wrapping_sub(8)).read()?.uc;
    let own = regs.fpstate;
    let mut area = FpArea::of(regs);
    let from = uc.mcontext;
    restore_fpu(area.as_mut(), from.fpstate)?;
    *regs = from;
    regs.fpstate = own;
    regs.cs = USER_CS;
    regs.ss = USER_SS;
    regs.gs = 0;
    regs.fs = 0;
    Ok(Returned { mask: uc.sigmask, stack: uc.stack })
}

fn restore_fpu(area: Option<&mut FpArea>, from: u64) -> Result {
    let Some(area) = area else { return Ok(()) };
    if from == 0 {
        area.reset();
        return Ok(());
    }
    let sw = area.software_bytes();
    let mut theirs = [0u8; 48];
    UserSlice::<u8>::new(from.wrapping_add(SW_RESERVED as u64), 48).read_into(&mut theirs)?;
    let same = theirs[..20] == sw[..20];
    let n = if same { area.size() } else { LEGACY };
    let outcome = UserSlice::<u8>::new(from, n).read_into(&mut area.bytes_mut()[..n]);
    if !same && area.extended() {
        // Only the legacy part came: x87 and SSE from it, the rest initial.
        area.sanitize(&sw);
        area.bytes_mut()[512..520].copy_from_slice(&3u64.to_le_bytes());
    }
    area.sanitize(&sw);
    outcome
}
