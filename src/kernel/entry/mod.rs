//! The run loop: from a trapped call or a fault to the kernel's objects, and back to the guest with
//! the exit work done: signals, stops, death, restarts.

// A frame is passed as a raw pointer: it lies on this thread's stack, outlives every borrow, and who is
// given it never returns.
#![allow(clippy::not_unsafe_ptr_arg_deref)]

pub mod fast;
mod fatal;
mod traced;

use crate::abi::sigctx::{SigContext, SigInfo, UContext};
use crate::abi::slot::{CANARY, SlotHeader, kick, place};
use crate::abi::{Errno, Restart, SysError, linux};
use crate::arch::{self, frame};
use crate::host::{panic, process, time as host_time};
use crate::mm::UserPtr;
use crate::syscall;
use crate::task::{self, CurrentTask, ExitWork};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

#[cfg(feature = "image")]
unsafe extern "C" {
    fn drupe_enter_guest(uc: *mut UContext, slot: *const SlotHeader) -> !;
}
#[cfg(not(feature = "image"))]
unsafe fn drupe_enter_guest(_uc: *mut UContext, _slot: *const SlotHeader) -> ! {
    unreachable!("only the image enters guests")
}

/// System calls that came by a trap.
pub static TRAPS: AtomicU64 = AtomicU64::new(0);

/// The interrupted call that the exit work has to settle.
#[derive(Clone, Copy)]
struct Interrupted {
    restart: Restart,
    nr: u64,
}

/// `si_code` of a seccomp trap.
const SYS_SECCOMP: i32 = 1;
/// `AUDIT_ARCH_X86_64`.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// The thread is in the kernel now, with the guest's registers in this frame.
fn enter_kernel(uc: *mut UContext) -> &'static SlotHeader {
    let slot = arch::slot();
    slot.place.store(place::KERNEL, SeqCst);
    slot.frame.store(uc as u64 + core::mem::offset_of!(UContext, mcontext) as u64, SeqCst);
    slot
}

/// A system call of the guest that the filter turned into SIGSYS.
pub fn system_call(uc: *mut UContext, info: &SigInfo) -> ! {
    enter_kernel(uc);
    TRAPS.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    // SAFETY: the frame lies above us on this thread's stack until the guest is entered.
    let regs = unsafe { &mut (*uc).mcontext };
    // siginfo of SIGSYS: call address, then number and architecture.
    let (nr, arch) = (info.fields[1] as u32, (info.fields[1] >> 32) as u32);
    if info.code != SYS_SECCOMP || arch != AUDIT_ARCH_X86_64 {
        regs.rax = -i64::from(Errno::ENOSYS.raw()) as u64;
        leave(uc, None)
    }
    if nr == linux::__NR_clock_gettime && host_time::in_vdso(regs.rip) {
        // The host's vDSO fell back; ours will add what the sandbox's clock is ahead.
        regs.rax = syscall::time::host_clock(regs.rdi as i32, UserPtr::new(regs.rsi));
        leave(uc, None)
    }
    let interrupted = if CurrentTask::here(regs).is_traced() {
        traced::call(regs, u64::from(nr))
    } else {
        serve(regs, u64::from(nr))
    };
    leave(uc, interrupted)
}

/// Runs one call on these registers; the result goes into rax.
// The host's way back empties the return predictor, so every frame above a host call costs a
// misprediction: the hot path has few.
#[inline(always)]
fn serve(regs: &mut SigContext, nr: u64) -> Option<Interrupted> {
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let cur = CurrentTask::here(regs);
    arch::slot().last_call.store(nr as u32, core::sync::atomic::Ordering::Relaxed);
    let outcome = syscall::dispatch(&cur, nr, &args);
    match outcome {
        Ok(value) => regs.rax = value,
        Err(SysError::Errno(e)) => regs.rax = -i64::from(e.raw()) as u64,
        Err(SysError::Restart(restart)) => return Some(Interrupted { restart, nr }),
    }
    None
}

/// Nothing is mapped at the address (`si_code` of SIGSEGV, `sigaction(2)`).
const SEGV_MAPERR: i32 = 1;

/// A synchronous fault of guest code becomes a signal of the guest, unless a mapping grows down to where it happened.
pub fn fault(uc: *mut UContext, sig: u32, info: &SigInfo) -> ! {
    enter_kernel(uc);
    // SAFETY: as in `system_call`.
    let regs = unsafe { &mut (*uc).mcontext };
    let cur = CurrentTask::here(regs);
    let mut info = *info;
    info.signo = sig as i32;
    arch::slot().last_call.store(u32::MAX, core::sync::atomic::Ordering::Relaxed);
    if cur.is_traced() {
        cur.note_call(u64::MAX);
        if sig == linux::SIGTRAP {
            match traced::step(&cur, info.code) {
                Some(code) => info.code = code,
                None => leave(uc, None),
            }
        }
    }
    if sig == linux::SIGSEGV && info.code == SEGV_MAPERR && task::memory::grow(info.fields[0]) {
        leave(uc, None);
    }
    fatal::report(&cur, sig, &info, cur.frame());
    cur.force_signal(&info);
    leave(uc, None)
}

/// A kick interrupted guest code: the exit work is done here and now.
pub fn kicked(uc: *mut UContext) -> ! {
    enter_kernel(uc);
    // SAFETY: as in `system_call`.
    let cur = CurrentTask::here(unsafe { &mut (*uc).mcontext });
    arch::slot().last_call.store(u32::MAX, core::sync::atomic::Ordering::Relaxed);
    if cur.is_traced() {
        cur.note_call(u64::MAX);
    }
    leave(uc, None)
}

/// Exit work once more, after a kick in the last instructions before the guest (`asm/sigreturn.S`).
///
/// # Safety
/// `uc` is the frame that was about to be entered.
#[cfg_attr(feature = "image", unsafe(no_mangle))]
pub unsafe extern "C" fn drupe_exit_work(uc: *mut UContext) -> ! {
    leave(uc, None)
}

/// First code of a new guest thread on its slot: `arg` is the frame to enter.
extern "C" fn child_main(arg: u64) -> ! {
    let uc = arg as *mut UContext;
    enter_kernel(uc);
    // SAFETY: the maker placed the frame on our stack.
    let regs = unsafe { &mut (*uc).mcontext };
    let cur = CurrentTask::here(regs);
    process::settle(cur.is_new_process());
    if !cur.mm().guest_has_gs() {
        fast::claim_gs();
    }
    cur.child_started();
    leave(uc, None)
}

/// How `task` starts a clone; registered at boot.
pub const CHILD_MAIN: process::Start = child_main;

/// Enters the guest afresh with these registers and initial extended state (after exec). Zygotes
/// start below the place of this first frame, so nothing live is overwritten.
pub fn start(regs: &SigContext) -> ! {
    fast::claim_gs();
    let uc = frame::place_first(regs);
    enter_kernel(uc);
    // SAFETY: the frame lies on this thread's stack until the guest is entered.
    let regs = unsafe { &mut (*uc).mcontext };
    let cur = CurrentTask::here(regs);
    if cur.is_traced() {
        cur.exec_stop();
        traced::finish(regs, None);
    }
    leave(uc, None)
}

/// Does the exit work until nothing is left, settles an interrupted call, and enters the guest.
fn leave(uc: *mut UContext, mut interrupted: Option<Interrupted>) -> ! {
    let slot = arch::slot();
    if slot.canary.load(SeqCst) != CANARY {
        panic::panic(format_args!("kernel stack overflow in slot {}", slot.index.load(SeqCst)));
    }
    // SAFETY: as in `system_call`.
    let regs = unsafe { &mut (*uc).mcontext };
    if slot.kicked() || slot.exit_work.swap(0, SeqCst) != 0 || interrupted.is_some() {
        exit_work(slot, regs, &mut interrupted);
    }
    if let Some(Interrupted { restart, nr }) = interrupted {
        // Nothing was handled: the call is made again.
        regs.rip -= 2;
        regs.rax = if restart == Restart::Block { u64::from(linux::__NR_restart_syscall) } else { nr };
    }
    enter(uc, slot)
}

/// Enters the guest as a frame on this stack says.
fn enter(uc: *mut UContext, slot: &'static SlotHeader) -> ! {
    // SAFETY: a frame of this stack, complete.
    unsafe { drupe_enter_guest(uc, slot) }
}

/// A frame whose guest has exit work to do.
trait Frame {
    /// The general registers.
    fn regs(&mut self) -> &mut SigContext;
    /// Makes the extended state part of the frame: a signal frame is to hold it.
    fn whole(&mut self) -> &mut SigContext;
    /// The registers lead to a handler now.
    fn redirected(&mut self) {}
}

impl Frame for SigContext {
    fn regs(&mut self) -> &mut SigContext {
        self
    }
    fn whole(&mut self) -> &mut SigContext {
        self
    }
}

fn exit_work(slot: &'static SlotHeader, frame: &mut impl Frame, interrupted: &mut Option<Interrupted>) {
    loop {
        if slot.kick.load(SeqCst) & kick::ATTEND != 0 {
            task::work::attend(slot);
        }
        slot.kick.fetch_and(!kick::LOOK, SeqCst);
        let mut cur = CurrentTask::here(frame.regs());
        let is_traced = cur.is_traced();
        if is_traced {
            cur = CurrentTask::here(frame.whole());
            traced::before_exit_work(&cur, *interrupted);
        }
        let work = cur.exit_work();
        if is_traced {
            *interrupted = traced::after_exit_work(&cur, *interrupted);
        }
        match work {
            ExitWork::Done => break,
            ExitWork::Deliver { info, delivery, action } => {
                if syscall::strace::on() {
                    syscall::strace::signal(&cur, &info);
                }
                let regs = frame.whole();
                if let Some(i) = interrupted.take() {
                    settle_for_handler(regs, i, delivery.flags);
                }
                let delivered = crate::signal::frame::deliver(regs, &info, &delivery);
                if delivered.is_ok() {
                    frame.redirected();
                }
                let cur = CurrentTask::here(frame.regs());
                match delivered {
                    Ok(()) => {
                        cur.signal_delivered(&info, &action, &delivery);
                        if cur.is_traced() {
                            cur.handler_stop();
                        }
                    }
                    Err(_) => cur.signal_undeliverable(&info),
                }
            }
        }
    }
}

/// An interrupted call meets its first handler (`handle_signal` in Linux).
fn settle_for_handler(regs: &mut SigContext, i: Interrupted, sa_flags: u64) {
    let again = match i.restart {
        Restart::NoIntr => true,
        Restart::Sys => sa_flags & u64::from(linux::SA_RESTART) != 0,
        Restart::NoHand | Restart::Block => false,
    };
    if again {
        regs.rip -= 2;
        regs.rax = i.nr;
    } else {
        regs.rax = -i64::from(Errno::EINTR.raw()) as u64;
    }
}
