//! What the mother does before it is fit to fork guests: handlers, an empty address space, the filter.
//! Everything is inherited by its children.

use super::{give_up, symbols};
use crate::abi::{Errno, linux};
use crate::arch;
use crate::host::mem;
use crate::host::process::{self, KICK};

/// The kernel's `struct sigaction`.
#[repr(C)]
struct HostAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// What the mother needs to know, copied into the arena at boot.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Address and number of instructions of the seccomp program (in the arena).
    pub filter: (u64, u16),
}

fn call(what: &str, nr: u32, a: [u64; 6]) -> u64 {
    // SAFETY: the mother rearranges its own, still guest-less process.
    match Errno::check(unsafe { arch::syscall(nr, a) }) {
        Ok(v) => v,
        Err(e) => give_up(what, e),
    }
}

/// Turns the running host process into a clean mother.
pub fn install(setup: &Setup) {
    handlers();
    // Before the C library's memory goes: its thread pointer is of no more use.
    process::clear_bases();
    if let Err(e) = mem::unmap_guest() {
        give_up("munmap", e);
    }
    call("no_new_privs", linux::__NR_prctl, [u64::from(linux_raw_sys::prctl::PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0, 0]);
    #[repr(C)]
    struct Program {
        len: u16,
        filter: u64,
    }
    let program = Program { len: setup.filter.1, filter: setup.filter.0 };
    // SECCOMP_SET_MODE_FILTER; SPEC_ALLOW (4): without it hosts before 5.16 turn on SSBD for the task,
    // which costs more than it protects here (guest and kernel share one address space anyway).
    call("seccomp", linux::__NR_seccomp, [1, 4, core::ptr::from_ref(&program) as u64, 0, 0, 0]);
}

fn handlers() {
    let set = |sig: u32, handler: u64| {
        let flags = u64::from(linux::SA_SIGINFO | linux::SA_ONSTACK | linux::SA_NODEFER) | 0x0400_0000;
        let restorer = symbols::drupe_restorer as *const () as u64;
        let action = HostAction { handler, flags, restorer, mask: 0 };
        call("sigaction", linux::__NR_rt_sigaction, [u64::from(sig), core::ptr::from_ref(&action) as u64, 0, 8, 0, 0]);
    };
    let trap = symbols::drupe_trap as *const () as u64;
    for sig in 1..=64 {
        match sig {
            linux::SIGKILL | linux::SIGSTOP => {}
            linux::SIGSYS | linux::SIGSEGV | linux::SIGBUS | linux::SIGFPE | linux::SIGILL | linux::SIGTRAP | KICK => {
                set(sig, trap)
            }
            // What the host sends for its own reasons (a terminal, a pipe, a limit) is emulated for the guest.
            _ => set(sig, 1),
        }
    }
    let none = 0u64;
    call(
        "sigprocmask",
        linux::__NR_rt_sigprocmask,
        [u64::from(linux::SIG_SETMASK), core::ptr::from_ref(&none) as u64, 0, 8, 0, 0],
    );
}
