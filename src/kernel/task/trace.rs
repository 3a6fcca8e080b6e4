//! Tracing: who traces whom, and the stops of a traced task (`ptrace(2)`).
//!
//! The host's own tracing has no part in it. A traced task stops in the kernel, where its registers are a
//! frame on its stack; its tracer reads and writes that frame in the window, and has it do the rest by work
//! items (`task::work`). The tracer is a process: any of its threads may act. A traced process is not
//! rewritten, so every call of it comes by a trap, which looks at [`Task::traced`].

mod stops;
mod watch;

pub use watch::set_debug_register;

use super::signals::cld;
use super::{CurrentTask, Task, ThreadGroup, exit, work};
use crate::abi::sigctx::SigInfo;
use crate::abi::{Errno, Result, SysResult, linux};
use crate::arch::fpu;
use crate::cred::landlock;
use crate::signal::info;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

/// Bits of [`Task::traced`].
pub mod flag {
    /// Somebody traces the task.
    pub const TRACED: u32 = 1;
    /// It stops at calls (`PTRACE_SYSCALL`).
    pub const CALLS: u32 = 2;
    /// Its calls are left out (`PTRACE_SYSEMU`).
    pub const EMULATE: u32 = 4;
    /// It stops after an instruction (`PTRACE_SINGLESTEP`).
    pub const STEP: u32 = 8;
    /// It looks at its watched addresses after each instruction.
    pub const WATCH: u32 = 16;
    /// The kernel has set its trap flag.
    pub const TRAP_FLAG: u32 = 32;
}

/// `PTRACE_O_*`: stops at events, numbered as the events are.
pub mod option {
    #![allow(missing_docs)]
    pub const SYSGOOD: u32 = 1;
    pub const EXEC: u32 = 1 << 4;
    pub const VFORKDONE: u32 = 1 << 5;
    pub const EXIT: u32 = 1 << 6;
    pub const SECCOMP: u32 = 1 << 7;
    pub const EXITKILL: u32 = 1 << 20;
    /// All that there are.
    pub const ALL: u32 = 0x30_00ff;
}

/// `PTRACE_EVENT_*`.
pub mod event {
    #![allow(missing_docs)]
    pub const FORK: u32 = 1;
    pub const VFORK: u32 = 2;
    pub const CLONE: u32 = 3;
    pub const EXEC: u32 = 4;
    pub const VFORK_DONE: u32 = 5;
    pub const EXIT: u32 = 6;
    pub const SECCOMP: u32 = 7;
    pub const STOP: u32 = 128;
}

/// The trap flag.
pub const TF: u64 = 0x100;
/// `CLD_TRAPPED`.
pub const CLD_TRAPPED: i32 = 4;

/// Where a stop for a call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallStop {
    /// Before the call (`PTRACE_EVENTMSG_SYSCALL_ENTRY`).
    Entry = 1,
    /// After it.
    Exit = 2,
}

/// A task in a stop.
#[derive(Clone, Copy)]
struct Stop {
    /// What `wait` tells: signal, and event from bit 8 on.
    code: u32,
    /// `PTRACE_LISTEN`: stays stopped, but hears of SIGCONT.
    listening: bool,
}

/// What a traced task has of its tracing.
pub struct Trace {
    tracer: Weak<ThreadGroup>,
    seized: bool,
    /// `PTRACE_O_*`.
    pub options: u32,
    stop: Option<Stop>,
    /// The stop has not been waited for.
    unreported: bool,
    /// Of the stop; `None`: it has none (a group stop).
    pub info: Option<SigInfo>,
    /// `PTRACE_GETEVENTMSG`.
    pub message: u64,
    /// A trap is due that is no signal: `PTRACE_INTERRUPT`, or a new child of a seized task.
    interrupt: bool,
    /// The group stop that the task has stopped for.
    seen_stop: u32,
    /// Number of the call that the task is in, all ones for none (`orig_rax`).
    pub call: u64,
    /// fs and gs base.
    pub bases: [u64; 2],
    /// Debug registers, emulated by single steps.
    pub debug: [u64; 8],
    /// What the watched addresses held.
    watched: [u64; 4],
}

/// A traced task, as its tracer's process keeps it.
pub struct Tracee {
    /// The task.
    pub task: Arc<Task>,
    /// Its wait status once it has ended.
    end: Option<i32>,
}

/// How a stopped task goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// Of [`flag`]: `CALLS`, `EMULATE`, `STEP`.
    pub mode: u32,
    /// Signal that it gets, 0 for none.
    pub signal: u32,
}

impl Task {
    /// Whether somebody traces it.
    #[inline]
    pub fn is_traced(&self) -> bool {
        self.traced.load(SeqCst) != 0
    }

    /// Its tracer's process id, 0 for none.
    pub fn tracer_pid(&self) -> u32 {
        self.tracer().map_or(0, |g| g.pid)
    }

    /// SIGCONT was sent: a seized task traps, so that its tracer hears of it (`ptrace_trap_notify`).
    pub(super) fn note_continue(&self) {
        if self.is_traced()
            && let Some(t) = self.trace.lock().as_mut().filter(|t| t.seized)
        {
            t.interrupt = true;
        }
    }

    /// Its tracer.
    pub fn tracer(&self) -> Option<Arc<ThreadGroup>> {
        self.trace.lock().as_ref()?.tracer.upgrade()
    }

    /// Whether it is in a stop of its tracer's.
    pub fn in_trace_stop(&self) -> bool {
        self.trace.lock().as_ref().is_some_and(|t| t.stop.is_some())
    }

    /// Runs `f` with the task's tracing, if `tracer` traces it and it is stopped (`stopped`) or not looked at.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn with_trace<R>(&self, tracer: &ThreadGroup, stopped: bool, f: impl FnOnce(&mut Trace) -> R) -> Result<R> {
        let mut trace = self.trace.lock();
        let t = trace.as_mut().ok_or(Errno::ESRCH)?;
        if !core::ptr::eq(t.tracer.as_ptr(), tracer) || stopped && t.stop.is_none_or(|s| s.listening) {
            return Err(Errno::ESRCH);
        }
        Ok(f(t))
    }
}

/// Makes `tracer` the tracer of `task`.
fn link(task: &Arc<Task>, tracer: &Arc<ThreadGroup>, seized: bool, options: u32, interrupt: bool) -> Result {
    let mut tracees = tracer.tracees.lock();
    let mut trace = task.trace.lock();
    if trace.is_some() {
        return Err(Errno::EPERM);
    }
    tracees.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    *trace = Some(Box::new(Trace {
        tracer: Arc::downgrade(tracer),
        seized,
        options,
        stop: None,
        unreported: false,
        info: None,
        message: 0,
        interrupt,
        seen_stop: 0,
        call: task.slot().map_or(u64::MAX, |slot| slot.last_call.load(SeqCst) as i32 as u64),
        bases: [0; 2],
        debug: [0; 8],
        watched: [0; 4],
    }));
    task.traced.store(flag::TRACED, SeqCst);
    tracees.push(Tracee { task: task.clone(), end: None });
    Ok(())
}

/// The task takes its rewritten sites back for good.
fn unwrite(task: &Arc<Task>) -> SysResult<()> {
    work::run_on(task, |t| {
        if let Some(own) = t.shared() {
            own.mm.undo_rewriting();
        }
    })
}

/// `PTRACE_TRACEME`.
///
/// # Errors
/// `EPERM` if it is traced or has no parent.
pub fn trace_me(cur: &CurrentTask) -> Result {
    fpu::learn(cur.frame());
    let parent = cur.group.parent().ok_or(Errno::EPERM)?;
    let tracer = parent.cred().and_then(|c| c.landlock.clone());
    if !landlock::may_trace(tracer.as_ref(), cur.cred().landlock.as_ref()) {
        return Err(Errno::EPERM);
    }
    // A vfork child's memory is its parent's, which waits, and traces nothing until the child has its own.
    if cur.vfork.lock().is_none() {
        cur.mm().undo_rewriting();
    }
    link(cur, &parent, false, 0, false)
}

/// `PTRACE_ATTACH` and `PTRACE_SEIZE`, once access was checked.
///
/// # Errors
/// `EPERM`, `ESRCH`, `ENOMEM`.
pub fn attach(cur: &CurrentTask, task: &Arc<Task>, seize: Option<u32>) -> SysResult<()> {
    fpu::learn(cur.frame());
    if Arc::ptr_eq(&task.group, &cur.group) || task.is_traced() {
        return Err(Errno::EPERM.into());
    }
    unwrite(task).map_err(|e| if e == Errno::ESRCH.into() { Errno::EPERM.into() } else { e })?;
    link(task, &cur.group, seize.is_some(), seize.unwrap_or(0), false)?;
    if seize.is_none() {
        task.send(&info::plain(linux::SIGSTOP, info::SI_KERNEL))?;
    }
    // A stopped task changes over into a stop of its tracer's.
    task.kick();
    Ok(())
}

/// Ends the tracing; a stopped task goes on with this signal.
pub fn detach(tracer: &ThreadGroup, task: &Arc<Task>, signal: u32) {
    tracer.tracees.lock().retain(|t| !Arc::ptr_eq(&t.task, task));
    unlink(task, signal);
}

fn unlink(task: &Arc<Task>, signal: u32) {
    let trace = task.trace.lock().take();
    if trace.is_some_and(|t| t.stop.is_some()) {
        task.resume_signal.store(signal, SeqCst);
    }
    // The trap flag goes with the frame, by the task itself.
    task.traced.fetch_and(flag::TRAP_FLAG, SeqCst);
    task.kick();
}

/// Lets a stopped task go on.
///
/// # Errors
/// `ESRCH`.
pub fn resume(tracer: &ThreadGroup, task: &Arc<Task>, how: Resume) -> Result {
    task.with_trace(tracer, true, |t| {
        t.stop = None;
        t.unreported = false;
        task.resume_signal.store(how.signal, SeqCst);
        let keep = task.traced.load(SeqCst) & (flag::TRAP_FLAG | flag::WATCH);
        task.traced.store(flag::TRACED | keep | how.mode, SeqCst);
    })?;
    if let Some(slot) = task.slot() {
        slot.waker.wake();
    }
    Ok(())
}

/// `PTRACE_LISTEN`.
///
/// # Errors
/// `ESRCH`, `EIO` unless it is in a group stop.
pub fn listen(tracer: &ThreadGroup, task: &Arc<Task>) -> Result {
    let done = task.with_trace(tracer, true, |t| match &mut t.stop {
        Some(s) if t.seized && t.info.is_some_and(|i| i.code >> 8 == event::STOP as i32) => {
            s.listening = true;
            Ok(())
        }
        _ => Err(Errno::EIO),
    })?;
    if let Some(slot) = task.slot() {
        slot.waker.wake();
    }
    done
}

/// `PTRACE_INTERRUPT`.
///
/// # Errors
/// `ESRCH`, `EIO` for a task that was not seized.
pub fn interrupt(tracer: &ThreadGroup, task: &Arc<Task>) -> Result {
    task.with_trace(tracer, false, |t| {
        if !t.seized {
            return Err(Errno::EIO);
        }
        t.interrupt = true;
        Ok(())
    })??;
    task.kick();
    Ok(())
}

/// Tells the tracer that something is to be waited for.
fn notify(tracer: &Arc<ThreadGroup>, task: &Task, code: i32, status: i32) {
    let action = tracer.actions().get(linux::SIGCHLD);
    if action.flags & u64::from(linux::SA_NOCLDSTOP) == 0 || code <= cld::DUMPED {
        let uid = task.cred().uid;
        let _ = tracer.send(&tracer.told_of_child(code, task.tid(), uid, status, [0; 2]));
    }
    tracer.children_wait.wake_all();
}

/// What a look at a tracer's tracees found.
pub struct Seen {
    /// The task.
    pub task: Arc<Task>,
    /// As `wait4` encodes it.
    pub status: i32,
    /// Whether it has ended.
    pub ended: bool,
}

/// The first tracee of `tracer` that `wanted` says yes to and that has something to tell; whether any is wanted.
/// What is told is told once, unless `keep`.
pub(super) fn scan(
    tracer: &ThreadGroup,
    keep: bool,
    exits: bool,
    wanted: impl Fn(&Task) -> bool,
) -> (bool, Option<Seen>) {
    let mut tracees = tracer.tracees.lock();
    let mut any = false;
    for i in 0..tracees.len() {
        let Tracee { task, end } = &tracees[i];
        if !wanted(task) {
            continue;
        }
        any = true;
        if let Some(status) = *end {
            if exits {
                let task = task.clone();
                if !keep {
                    tracees.remove(i);
                }
                return (true, Some(Seen { task, status, ended: true }));
            }
            continue;
        }
        let mut trace = task.trace.lock();
        let Some(t) = trace.as_mut() else { continue };
        if let (Some(stop), true) = (t.stop, t.unreported) {
            t.unreported = keep;
            return (true, Some(Seen { task: task.clone(), status: (stop.code << 8 | 0x7f) as i32, ended: false }));
        }
    }
    (any, None)
}

/// A traced thread has ended: its tracer hears of it. A leader's end is its process's (`ended_process`).
pub(super) fn ended_thread(task: &Arc<Task>, status: i32) {
    if task.is_traced() && task.tid() != task.group.pid {
        ended(task, status);
    }
}

fn ended(task: &Arc<Task>, status: i32) {
    let trace = task.trace.lock().take();
    let Some(tracer) = trace.and_then(|t| t.tracer.upgrade()) else { return };
    for t in tracer.tracees.lock().iter_mut().filter(|t| Arc::ptr_eq(&t.task, task)) {
        t.end = Some(status);
    }
    let (code, value) = exit::code_and_value(status);
    notify(&tracer, task, code, value);
}

/// A process has ended. Whether its parent has to wait until another tracer has seen that.
pub(super) fn ended_process(group: &ThreadGroup, leader: Option<Arc<Task>>, status: i32) -> bool {
    let Some(leader) = leader.filter(|l| l.is_traced()) else { return false };
    let Some(tracer) = leader.tracer() else { return false };
    if group.parent().is_some_and(|p| Arc::ptr_eq(&p, &tracer)) {
        detach(&tracer, &leader, 0);
        return false;
    }
    // Before the tracer can see the end: it gives the process to its parent then.
    group.held.store(true, SeqCst);
    ended(&leader, status);
    true
}

/// A tracer ends: its tracees go on, or die with it.
pub(super) fn tracer_ended(tracer: &ThreadGroup) {
    let tracees: Vec<Tracee> = core::mem::take(&mut *tracer.tracees.lock());
    for Tracee { task, end } in tracees {
        if end.is_some() {
            exit::release(&task);
            continue;
        }
        let kill = task.trace.lock().as_ref().is_some_and(|t| t.options & option::EXITKILL != 0);
        unlink(&task, 0);
        if kill {
            exit::begin_group_exit(&task.group, linux::SIGKILL as i32);
        }
    }
}
