//! Host threads and processes: cloning onto a slot, ending, kicking.

use crate::abi::slot::{CANARY, HELD_LOCKS, SlotHeader, place};
use crate::abi::{Errno, Result, linux};
use crate::arch::{self, frame};
use core::sync::atomic::{AtomicI32, Ordering::SeqCst};

#[cfg(feature = "image")]
unsafe extern "C" {
    fn drupe_call_on(stack_top: u64, f: *const (), a: u64, b: u64, c: u64, d: u64) -> i64;
}
#[cfg(not(feature = "image"))]
unsafe fn drupe_call_on(_stack_top: u64, _f: *const (), _a: u64, _b: u64, _c: u64, _d: u64) -> i64 {
    unreachable!("only the image switches stacks")
}

/// The host signal that kicks a thread: a standard one, because real-time signals queue.
pub const KICK: u32 = linux::SIGSTKFLT;

/// Host pid of the supervisor, the host parent of every process.
static SUPERVISOR: AtomicI32 = AtomicI32::new(0);

/// Records the supervisor's host pid (at boot); the one before.
pub fn set_supervisor(pid: i32) -> i32 {
    SUPERVISOR.swap(pid, SeqCst)
}

/// Whether this is the supervisor.
pub fn is_supervisor() -> bool {
    own_pid() == SUPERVISOR.load(SeqCst)
}

/// Host pid of the running process.
pub fn own_pid() -> i32 {
    // SAFETY: plain numbers.
    (unsafe { arch::syscall(linux::__NR_getpid, [0; 6]) }) as i32
}

/// Whether a slot's thread is the first of its host process.
pub fn is_leader(slot: &SlotHeader) -> bool {
    slot.host_tid.load(SeqCst) == slot.host_tgid.load(SeqCst)
}

/// What a new host thread runs first, on its own stack.
pub type Start = extern "C" fn(arg: u64) -> !;

/// How a new host thread relates to its maker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloneKind {
    /// A thread of the same host process.
    Thread,
    /// A process with a copy of the address space; its host parent is the supervisor.
    Copy,
    /// A process that shares the address space (vfork, CLONE_VM without CLONE_THREAD).
    SharedMm,
    /// The mother: a child of the caller itself (the supervisor).
    Mother,
}

/// Clones a host thread that runs `start(arg)` on `slot`'s stack below `stack` (the address of a
/// frame placed there, or the stack's top). `tls` becomes its fs base.
///
/// # Errors
/// `EAGAIN`, `ENOMEM`.
pub fn clone(
    kind: CloneKind,
    slot: &'static SlotHeader,
    stack: u64,
    start: Start,
    arg: u64,
    tls: Option<u64>,
) -> Result<i32> {
    ready(slot);
    start_on(kind, slot, stack, start, arg, tls)
}

/// As [`clone`], for a slot whose thread was parked: what lies on its stack and in its header stays. The new thread has
/// the stack below `slot.parked`.
///
/// # Errors
/// As [`clone`].
pub fn clone_parked(kind: CloneKind, slot: &'static SlotHeader, start: Start, arg: u64) -> Result<i32> {
    start_on(kind, slot, slot.parked.load(SeqCst) - 256, start, arg, None)
}

/// Makes the header of a slot that nobody runs on fit for a new thread.
fn ready(slot: &SlotHeader) {
    slot.canary.store(CANARY, SeqCst);
    slot.place.store(place::KERNEL, SeqCst);
    slot.kick.store(0, SeqCst);
    slot.frame.store(0, SeqCst);
    slot.parked.store(0, SeqCst);
    slot.still.store(0, SeqCst);
    slot.copying.store(0, SeqCst);
    slot.locks_held.store(0, SeqCst);
    slot.lock_levels.store(0, SeqCst);
    slot.waking.store(0, SeqCst);
    slot.making.store(0, SeqCst);
    slot.ticket.store(0, SeqCst);
    slot.left_len.store(0, SeqCst);
    if cfg!(debug_assertions) {
        // What one that was killed here may have left of its record of locks (`sync::lockdep`).
        let record = (core::ptr::from_ref(slot) as usize + HELD_LOCKS) as *mut usize;
        // SAFETY: the record's length, in the header page of a slot that nobody runs on.
        unsafe { record.write(0) };
    }
    slot.waker.sleeping.store(0, SeqCst);
    slot.stack_top.store(frame::stack_top(slot), SeqCst);
    slot.generation.fetch_add(1, SeqCst);
}

fn start_on(
    kind: CloneKind,
    slot: &'static SlotHeader,
    stack: u64,
    start: Start,
    arg: u64,
    tls: Option<u64>,
) -> Result<i32> {
    let mut flags = linux::CLONE_FILES | linux::CLONE_PARENT_SETTID | linux::CLONE_CHILD_CLEARTID;
    flags |= match kind {
        CloneKind::Thread => {
            linux::CLONE_VM | linux::CLONE_FS | linux::CLONE_SIGHAND | linux::CLONE_THREAD | linux::CLONE_SYSVSEM
        }
        CloneKind::Copy => linux::CLONE_PARENT,
        CloneKind::SharedMm => linux::CLONE_VM | linux::CLONE_PARENT,
        CloneKind::Mother => linux::SIGCHLD,
    };
    if tls.is_some() {
        flags |= linux::CLONE_SETTLS;
    }
    // A process is known before it runs: whoever reaps it finds its slot even if it never did.
    let known = if kind == CloneKind::Thread {
        &slot.host_tid
    } else {
        flags |= linux::CLONE_CHILD_SETTID;
        &slot.host_tgid
    };
    let own_tgid = arch::slot().host_tgid.load(SeqCst);
    slot.host_tgid.store(if kind == CloneKind::Thread { own_tgid } else { 0 }, SeqCst);
    let sp = ((stack & !15) - 32) as *mut u64;
    unsafe extern "C" {
        fn drupe_child_start();
    }
    // SAFETY: free stack of a slot that nobody runs on; the child pops these three words.
    unsafe {
        sp.write(drupe_child_start as *const () as u64);
        sp.add(1).write(start as usize as u64);
        sp.add(2).write(arg);
    }
    let (known, tid) = (known.as_ptr() as u64, slot.host_tid.as_ptr() as u64);
    let args = [u64::from(flags), sp as u64, known, tid, tls.unwrap_or(0), 0];
    // SAFETY: the child runs on its own stack in the window; the tid words are live for ever.
    let ret = unsafe { arch::syscall(linux::__NR_clone, args) };
    // By now it may be gone and the slot another's.
    let child = Errno::check(ret)? as i32;
    Ok(child)
}

/// First thing in a new host thread: its signal stack, and for a process the promise to die with
/// the supervisor.
pub fn settle(new_process: bool) {
    let slot = arch::slot();
    let stack = frame::signal_stack(slot);
    // SAFETY: a stack of this slot; we are on it, which the host allows before it knows of it.
    unsafe { arch::syscall(linux::__NR_sigaltstack, [core::ptr::from_ref(&stack) as u64, 0, 0, 0, 0, 0]) };
    if new_process {
        // SAFETY: plain numbers.
        let parent = unsafe {
            arch::syscall(linux::__NR_prctl, [1, u64::from(linux::SIGKILL), 0, 0, 0, 0]);
            arch::syscall(linux::__NR_getppid, [0; 6])
        };
        if parent != i64::from(SUPERVISOR.load(SeqCst)) {
            exit_process(0);
        }
    }
}

/// Leaves the session of the process that started this one: what a terminal does to its programs is emulated
/// for guests, and not the host's to do.
pub fn leave_session() {
    // SAFETY: no arguments. A process that has just been made leads no group, which is all that is in its way.
    unsafe { arch::syscall(linux::__NR_setsid, [0; 6]) };
}

/// Goes on with `start(arg)` at the top of the running slot's stack, as in a new host process; nothing
/// that lies on the stack now is ever returned to.
pub fn start_over(start: Start, arg: u64) -> ! {
    let slot = arch::slot();
    slot.left_len.store(0, SeqCst);
    let top = frame::zygote_stack(slot);
    // SAFETY: `start` does not return, so what it overwrites of this stack is not missed.
    unsafe { drupe_call_on(top, start as *const (), arg, 0, 0, 0) };
    unreachable!("what a host thread starts with does not return")
}

/// Ends the host thread; its slot may be reused once the host has cleared `host_tid`.
pub fn exit_thread() -> ! {
    loop {
        // SAFETY: nothing of this thread is used after it.
        unsafe { arch::syscall(linux::__NR_exit, [0; 6]) };
    }
}

/// Whether the host process of a slot's thread has ended and is still to be reaped. Only the supervisor can ask.
pub fn has_died(slot: &SlotHeader) -> bool {
    pid_has_died(slot.host_tgid.load(SeqCst))
}

/// Whether a host process has ended and is still to be reaped. Only the supervisor can ask.
pub fn pid_has_died(tgid: u32) -> bool {
    const P_PID: u64 = 1;
    // A `siginfo_t`, of which the host fills in a pid (its fifth word) where there is something to reap.
    let mut info = [0u32; 32];
    let options = linux::WEXITED | linux::WNOHANG | linux::WNOWAIT | linux::__WALL;
    // SAFETY: the record lies on this stack; nothing is reaped.
    let ret = unsafe {
        let info = info.as_mut_ptr() as u64;
        arch::syscall(linux::__NR_waitid, [P_PID, u64::from(tgid), info, u64::from(options), 0, 0])
    };
    tgid != 0 && ret == 0 && info[4] == tgid
}

/// Ends the whole host process.
pub fn exit_process(status: i32) -> ! {
    loop {
        // SAFETY: nothing of this process is used after it.
        unsafe { arch::syscall(linux::__NR_exit_group, [status as u64, 0, 0, 0, 0, 0]) };
    }
}

/// Sends the kick signal to the host thread of a slot.
pub fn kick(slot: &SlotHeader) {
    let tgid = slot.host_tgid.load(SeqCst);
    let tid = slot.host_tid.load(SeqCst);
    if tgid != 0 && tid != 0 {
        // SAFETY: plain numbers; the filter lets only this signal through.
        unsafe { arch::syscall(linux::__NR_tgkill, [u64::from(tgid), u64::from(tid), u64::from(KICK), 0, 0, 0]) };
    }
}

/// Sets fs and gs base of the running thread to 0, as a new program finds them.
pub fn clear_bases() {
    for code in [ARCH_SET_FS, ARCH_SET_GS] {
        // SAFETY: kernel code uses neither.
        unsafe { arch::syscall(linux::__NR_arch_prctl, [u64::from(code), 0, 0, 0, 0, 0]) };
    }
}

/// `arch_prctl` of the running thread.
///
/// # Errors
/// The host's.
pub fn arch_prctl(code: u32, addr: u64) -> Result<u64> {
    // SAFETY: kernel code uses neither base; GET writes to an address that the caller vouches for.
    Errno::check(unsafe { arch::syscall(linux::__NR_arch_prctl, [u64::from(code), addr, 0, 0, 0, 0]) })
}

/// A base of the running thread: `code` is [`ARCH_GET_FS`] or [`ARCH_GET_GS`].
pub fn base(code: u32) -> u64 {
    let mut value = 0u64;
    let _ = arch_prctl(code, &raw mut value as u64);
    value
}

/// `arch_prctl` codes (`asm/prctl.h`).
pub const ARCH_SET_GS: u32 = 0x1001;
/// See [`ARCH_SET_GS`].
pub const ARCH_SET_FS: u32 = 0x1002;
/// See [`ARCH_SET_GS`].
pub const ARCH_GET_FS: u32 = 0x1003;
/// See [`ARCH_SET_GS`].
pub const ARCH_GET_GS: u32 = 0x1004;
