//! The host's signals: system calls that trapped, faults, kicks.
//!
//! Every handler runs on its thread's slot stack and never returns: it leaves by the exit work and
//! [`crate::entry`] to the guest, or by `drupe_resume_kernel` to the kernel code that it interrupted.

pub mod rewrite;
mod setup;

pub use setup::{Setup, install};

use crate::abi::linux;
use crate::abi::sigctx::{SigContext, SigInfo, UContext};
use crate::abi::slot::place;
use crate::arch::{self, frame};
use crate::entry;
use crate::host::{panic, process};
use core::sync::atomic::Ordering::SeqCst;

#[cfg(feature = "image")]
mod symbols {
    use super::UContext;
    unsafe extern "C" {
        pub static drupe_fixups: [i32; 2];
        pub static drupe_fixups_end: [i32; 2];
        pub fn drupe_gate_first();
        pub fn drupe_gate_syscall();
        pub fn drupe_gate_interrupted();
        pub fn drupe_enter_first();
        pub fn drupe_enter_kicked();
        pub fn drupe_sigreturn_syscall();
        pub fn drupe_resume_kernel(uc: *mut UContext) -> !;
        pub fn drupe_trap();
        pub fn drupe_restorer();
    }
}
#[cfg(not(feature = "image"))]
#[allow(non_upper_case_globals)]
mod symbols {
    //! Outside the image nothing traps; these only let the crate link.
    use super::UContext;
    pub static drupe_fixups: [i32; 2] = [0; 2];
    pub static drupe_fixups_end: [i32; 2] = [0; 2];
    pub fn drupe_gate_first() {}
    pub fn drupe_gate_syscall() {}
    pub fn drupe_gate_interrupted() {}
    pub fn drupe_enter_first() {}
    pub fn drupe_enter_kicked() {}
    pub fn drupe_sigreturn_syscall() {}
    pub unsafe fn drupe_resume_kernel(_uc: *mut UContext) -> ! {
        unreachable!("only the image traps")
    }
    pub fn drupe_trap() {}
    pub fn drupe_restorer() {}
}

fn in_range(rip: u64, first: usize, last: usize) -> bool {
    (first as u64..=last as u64).contains(&rip)
}

/// The bit of a page fault's error code for instruction fetches.
const FETCH: u64 = 0x10;

/// Whether the interrupted code was the kernel's: it ran on a slot's stack, or its pc is in the image.
fn in_kernel(regs: &SigContext) -> bool {
    use crate::abi::layout::{IMAGE, IMAGE_MAX};
    let image = arch::slot::window() + IMAGE;
    frame::on_slot_stack(regs.rsp) || (image..image + IMAGE_MAX).contains(&regs.rip)
}

/// Back into interrupted kernel code.
fn resume(uc: *mut UContext) -> ! {
    // SAFETY: the host wrote this frame on our stack, and we changed at most rip and rax.
    unsafe { symbols::drupe_resume_kernel(uc) }
}

/// The host's signal handler, called by `asm/entry.S`.
///
/// # Safety
/// Only the host calls it, with the frame that it wrote.
#[cfg_attr(feature = "image", unsafe(no_mangle))]
pub unsafe extern "C" fn drupe_on_signal(sig: u32, info: *mut SigInfo, uc: *mut UContext) -> ! {
    // SAFETY: the host wrote both; nobody else knows of them.
    let (regs, info) = unsafe { (&mut (*uc).mcontext, &*info) };
    let kernel = in_kernel(regs);
    if kernel && sig != linux::SIGSYS && rewrite::in_image(uc, sig) {
        resume(uc);
    }
    match sig {
        linux::SIGSYS if !kernel => {
            entry::fast::trapped(regs);
            entry::system_call(uc, info)
        }
        linux::SIGSYS if rewrite::is_work(regs) => entry::fast::work(uc),
        linux::SIGSYS => {
            kernel_vdso_call(regs);
            resume(uc)
        }
        linux::SIGSEGV | linux::SIGBUS | linux::SIGFPE | linux::SIGILL | linux::SIGTRAP if info.code > 0 => {
            if !kernel {
                match sig {
                    linux::SIGTRAP => rewrite::trap_in_guest(uc),
                    linux::SIGILL => rewrite::no_instruction(uc),
                    linux::SIGSEGV if regs.err & FETCH != 0 => rewrite::fetch_failed(uc, info.fields[0]),
                    _ => {}
                }
                entry::fault(uc, sig, info);
            }
            if matches!(sig, linux::SIGSEGV | linux::SIGBUS)
                && let Some(next) = fixup(regs.rip)
            {
                regs.rip = next;
                resume(uc);
            }
            kernel_fault(sig, info, regs)
        }
        _ if !kernel => {
            rewrite::leave_stub(regs);
            entry::kicked(uc)
        }
        _ => {
            kicked_in_kernel(regs);
            resume(uc)
        }
    }
}

/// A kick found the thread in kernel code. Its mark (`kick`) stands already; only the two places
/// that have looked at it for the last time need help.
fn kicked_in_kernel(regs: &mut SigContext) {
    let slot = arch::slot();
    match slot.place.load(SeqCst) {
        place::HOST_CALL
            if in_range(
                regs.rip,
                symbols::drupe_gate_first as *const () as usize,
                symbols::drupe_gate_syscall as *const () as usize,
            ) && slot.kicked() =>
        {
            regs.rip = symbols::drupe_gate_interrupted as *const () as u64;
        }
        place::GUEST
            if in_range(
                regs.rip,
                symbols::drupe_enter_first as *const () as usize,
                symbols::drupe_sigreturn_syscall as *const () as usize,
            ) && regs.rsi == core::ptr::from_ref(slot) as u64 =>
        {
            slot.place.store(place::KERNEL, SeqCst);
            regs.rip = symbols::drupe_enter_kicked as *const () as u64;
        }
        _ => {}
    }
}

/// The kernel itself called the host's vDSO, which fell back to a system call: made at the gate.
fn kernel_vdso_call(regs: &mut SigContext) {
    let nr = regs.rax as u32;
    if !matches!(nr, linux::__NR_clock_gettime | linux::__NR_gettimeofday | linux::__NR_time | linux::__NR_getcpu) {
        panic::panic(format_args!("system call {nr} from kernel code at {:#x}", regs.rip));
    }
    // SAFETY: the vDSO's own arguments, which are the kernel's.
    regs.rax = unsafe { arch::syscall(nr, [regs.rdi, regs.rsi, regs.rdx, 0, 0, 0]) } as u64;
}

/// Where to go on after a fault at `rip` in `asm/usercopy.S`.
fn fixup(rip: u64) -> Option<u64> {
    let start = &raw const symbols::drupe_fixups as u64;
    let end = &raw const symbols::drupe_fixups_end as u64;
    let mut at = start;
    while at < end {
        // SAFETY: pairs of offsets from the table's start, laid down by the assembler.
        let [insn, next] = unsafe { *(at as *const [i32; 2]) };
        if start.wrapping_add_signed(i64::from(insn)) == rip {
            return Some(start.wrapping_add_signed(i64::from(next)));
        }
        at += 8;
    }
    None
}

/// A fault in kernel code that no fixup expects: the end of the sandbox, with what is known.
fn kernel_fault(sig: u32, info: &SigInfo, regs: &SigContext) -> ! {
    let image = arch::slot::window() + crate::abi::layout::IMAGE;
    let mut trace = [0u64; 12];
    let mut rbp = regs.rbp;
    for entry in &mut trace {
        if !rbp.is_multiple_of(8) || !frame::on_slot_stack(rbp) {
            break;
        }
        // SAFETY: within the mapped slots.
        let (next, ret) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
        *entry = ret.wrapping_sub(image);
        rbp = next;
    }
    panic::panic(format_args!(
        "kernel fault: signal {sig} code {} at address {:#x}, pc image+{:#x} ({:#x}), rsp {:#x}, slot {}, host thread {}\n\
         {regs}\nbacktrace (image offsets): {:x?}",
        info.code,
        info.fields[0],
        regs.rip.wrapping_sub(image),
        regs.rip,
        regs.rsp,
        arch::slot().index.load(SeqCst),
        arch::slot().host_tid.load(SeqCst),
        trace
    ))
}

/// Ends the running host thread's process after a failure to set it up.
pub(crate) fn give_up(what: &str, errno: crate::abi::Errno) -> ! {
    panic::panic(format_args!("{what}: {errno} (host thread {})", {
        let _ = process::KICK;
        arch::slot().host_tid.load(SeqCst)
    }))
}
