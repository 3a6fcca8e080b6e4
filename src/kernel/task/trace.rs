//! Tracing: who traces whom, and the stops of a traced task (`ptrace(2)`).
//!
//! The host's own tracing has no part in it. A traced task stops in the kernel, where its registers are a
//! frame on its stack; its tracer reads and writes that frame in the window, and has it do the rest by work
//! items (`task::work`). The tracer is a process: any of its threads may act. A traced process is not
//! rewritten, so every call of it comes by a trap, which looks at [`Task::traced`].

mod watch;

pub use watch::set_debug_register;

use super::group::Run;
use super::signals::cld;
use super::{CurrentTask, Task, ThreadGroup, exit, work};
use crate::abi::sigctx::SigInfo;
use crate::abi::{Errno, Result, SysResult, linux};
use crate::arch;
use crate::host::process;
use crate::signal::{bit, info};
use crate::sync::wait;
use crate::sync::{Kind, On};
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
        call: u64::MAX,
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
    let parent = cur.group.parent().ok_or(Errno::EPERM)?;
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
        Some(s) if t.seized && s.code >> 8 == event::STOP => {
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

impl CurrentTask {
    /// What a stop that is no signal's tells as siginfo.
    fn own_info(&self, sig: u32, code: u32) -> SigInfo {
        info::from_user(sig, code as i32, self.shown_tid(), self.cred().uid)
    }

    /// Stops for the tracer until it says how to go on; returns the signal that it passes on. At once if
    /// nobody traces the task, or it has to die.
    fn trace_stop(&self, code: u32, info: Option<SigInfo>, at_exit: bool) -> u32 {
        let bases = [process::ARCH_GET_FS, process::ARCH_GET_GS].map(process::base);
        let slot = arch::slot();
        if self.must_leave_stop(at_exit) {
            return 0;
        }
        let tracer = {
            let mut trace = self.trace.lock();
            let Some(t) = trace.as_mut() else { return code & 0x7f };
            let Some(tracer) = t.tracer.upgrade() else { return code & 0x7f };
            (t.stop, t.unreported) = (Some(Stop { code, listening: false }), true);
            (t.info, t.bases) = (info, bases);
            self.resume_signal.store(0, SeqCst);
            tracer
        };
        notify(&tracer, self, CLD_TRAPPED, (code & 0x7fff_ffff) as i32);
        loop {
            let ticket = slot.waker.ticket();
            if self.may_go_on(at_exit) {
                break;
            }
            wait::sleep_deaf(slot, On::the(Kind::Tracer), ticket);
        }
        self.take_over(bases);
        self.resume_signal.swap(0, SeqCst)
    }

    /// Whether the task must not stop, since it has to die. The stop at its end is part of that.
    fn must_leave_stop(&self, at_exit: bool) -> bool {
        !at_exit && self.must_end()
    }

    /// Whether a stopped task may go on; a listening one starts another stop when its group has gone on.
    fn may_go_on(&self, at_exit: bool) -> bool {
        let runs = matches!(self.group.state.lock().run, Run::Running);
        let again = {
            let mut trace = self.trace.lock();
            let Some(t) = trace.as_mut() else { return true };
            let Some(stop) = &mut t.stop else { return true };
            let again = stop.listening && (runs || t.interrupt);
            if again {
                t.interrupt = false;
                *stop = Stop { code: linux::SIGTRAP | event::STOP << 8, listening: false };
                t.unreported = true;
                t.info = Some(info::from_user(linux::SIGTRAP, (linux::SIGTRAP | event::STOP << 8) as i32, 0, 0));
            }
            again.then(|| t.tracer.upgrade()).flatten()
        };
        if let Some(tracer) = again {
            notify(&tracer, self, CLD_TRAPPED, (linux::SIGTRAP | event::STOP << 8) as i32);
        }
        if self.must_leave_stop(at_exit) {
            if let Some(t) = self.trace.lock().as_mut() {
                t.stop = None;
            }
            return true;
        }
        false
    }

    /// What the tracer changed besides the frame, and how the task goes on.
    fn take_over(&self, was: [u64; 2]) {
        let now = self.trace.lock().as_ref().map_or(was, |t| t.bases);
        if now[0] != was[0] {
            let _ = process::arch_prctl(process::ARCH_SET_FS, now[0]);
        }
        if now[1] != was[1] {
            self.mm().give_up_rewriting();
            let _ = process::arch_prctl(process::ARCH_SET_GS, now[1]);
        }
        self.arm_steps();
    }

    /// Sets or takes back the trap flag, as the tracer wants it.
    pub fn arm_steps(&self) {
        let flags = self.traced.load(SeqCst);
        if flags & (flag::STEP | flag::WATCH) != 0 {
            if flags & flag::TRAP_FLAG == 0 && self.frame().eflags & TF == 0 {
                self.traced.fetch_or(flag::TRAP_FLAG, SeqCst);
            }
            self.frame().eflags |= TF;
            if flags & flag::WATCH != 0 {
                self.remember_watched();
            }
        } else if flags & flag::TRAP_FLAG != 0 {
            self.frame().eflags &= !TF;
            self.traced.fetch_and(!flag::TRAP_FLAG, SeqCst);
        }
    }

    /// The trap flag has done its work: the guest does not see it.
    pub fn disarm_steps(&self) {
        if self.traced.load(SeqCst) & flag::TRAP_FLAG != 0 {
            self.frame().eflags &= !TF;
            self.traced.fetch_and(!flag::TRAP_FLAG, SeqCst);
        }
    }

    /// A stop at an event with a message.
    fn event_stop(&self, event: u32, message: u64) {
        if let Some(t) = self.trace.lock().as_mut() {
            t.message = message;
        }
        let code = linux::SIGTRAP | event << 8;
        let signal = self.trace_stop(code, Some(self.own_info(linux::SIGTRAP, code)), event == event::EXIT);
        self.send_passed(signal);
    }

    /// A signal that a tracer passes on where none was to be delivered.
    fn send_passed(&self, signal: u32) {
        if signal != 0 && signal != linux::SIGTRAP {
            let _ = self.send(&info::plain(signal, info::SI_KERNEL));
        }
    }

    /// A filter of the task's own leaves a call to its tracer. Whether there is one that wants it.
    pub(super) fn seccomp_stop(&self, data: u32) -> bool {
        let wants = self.has_option(option::SECCOMP);
        if wants {
            self.event_stop(event::SECCOMP, u64::from(data));
        }
        wants
    }

    fn has_option(&self, option: u32) -> bool {
        self.is_traced() && self.trace.lock().as_ref().is_some_and(|t| t.options & option != 0)
    }

    /// A signal is about to be delivered: the tracer decides. `None`: nothing is.
    pub(super) fn signal_stop(&self, signal: SigInfo) -> Option<SigInfo> {
        let sig = signal.signo as u32;
        let passed = self.trace_stop(sig, Some(signal), false);
        if passed == 0 {
            return None;
        }
        let changed = self.trace.lock().as_ref().and_then(|t| t.info);
        let record = if passed == sig {
            changed.unwrap_or(signal)
        } else {
            info::from_user(passed, info::SI_USER, self.tracer_pid(), 0)
        };
        if self.blocked.load(SeqCst) & bit(passed) != 0 {
            let _ = self.send(&record);
            return None;
        }
        Some(record)
    }

    /// A stop in front of a call or behind it.
    pub fn call_stop(&self, at: CallStop) {
        let good = self.has_option(option::SYSGOOD);
        if let Some(t) = self.trace.lock().as_mut() {
            t.message = at as u64;
        }
        let code = linux::SIGTRAP | if good { 0x80 } else { 0 };
        let signal = self.trace_stop(code, Some(self.own_info(linux::SIGTRAP, code)), false);
        self.send_passed(signal & 0x7f);
    }

    /// The task is in this call; all ones: in none.
    pub fn note_call(&self, nr: u64) {
        if let Some(t) = self.trace.lock().as_mut() {
            t.call = nr;
        }
    }

    /// The call that the task is in, as its tracer may have changed it.
    pub fn noted_call(&self) -> u64 {
        self.trace.lock().as_ref().map_or(u64::MAX, |t| t.call)
    }

    /// A handler is set up while the task is stepped: it stops at the handler's first instruction.
    pub fn handler_stop(&self) {
        if self.traced.load(SeqCst) & flag::STEP != 0 {
            self.traced.fetch_and(!flag::TRAP_FLAG, SeqCst);
            let code = linux::SIGTRAP;
            let signal = self.trace_stop(code, Some(self.own_info(code, code)), false);
            self.send_passed(signal);
        } else {
            self.traced.fetch_and(!flag::TRAP_FLAG, SeqCst);
            self.arm_steps();
        }
    }

    /// Stops for the tracer that are no signals: what it asked for, and a stop of the whole process. Whether
    /// there was one.
    pub(super) fn other_stops(&self, stopped: Option<u32>) -> bool {
        let stops = self.group.stops.load(SeqCst);
        let (code, told) = {
            let mut trace = self.trace.lock();
            let Some(t) = trace.as_mut() else { return false };
            let due = core::mem::take(&mut t.interrupt);
            match stopped {
                Some(sig) if t.seen_stop != stops || due => {
                    t.seen_stop = stops;
                    if t.seized { (sig | event::STOP << 8, true) } else { (sig, false) }
                }
                _ if due => (linux::SIGTRAP | event::STOP << 8, true),
                _ => return false,
            }
        };
        let record = told.then(|| self.own_info(code & 0x7f, code));
        let _ = self.trace_stop(code, record, false);
        true
    }

    /// An exec gives the task its leader's id: the message of its stop is the former one.
    pub(super) fn note_former_tid(&self) {
        if let Some(t) = self.trace.lock().as_mut() {
            t.message = u64::from(self.tid());
        }
    }

    /// The end of an exec.
    pub fn exec_stop(&self) {
        if self.has_option(option::EXEC) {
            let former = self.trace.lock().as_ref().map_or(0, |t| t.message);
            self.event_stop(event::EXEC, former);
        } else if self.trace.lock().as_ref().is_some_and(|t| !t.seized) {
            let _ = self.send(&info::from_user(linux::SIGTRAP, info::SI_USER, self.group.pid, self.cred().uid));
        }
    }

    /// The beginning of the task's end.
    pub(super) fn exit_stop(&self, status: i32) {
        if self.has_option(option::EXIT) {
            self.event_stop(event::EXIT, status as u32 as u64);
        }
    }

    /// The event of a clone with these flags, if the tracer wants to see it.
    pub(super) fn clone_event(&self, flags: u64, exit_signal: u32) -> Option<u32> {
        if !self.is_traced() || flags & u64::from(linux::CLONE_UNTRACED) != 0 {
            return None;
        }
        let event = if flags & u64::from(linux::CLONE_VFORK) != 0 {
            event::VFORK
        } else if exit_signal != linux::SIGCHLD {
            event::CLONE
        } else {
            event::FORK
        };
        self.has_option(1 << event).then_some(event)
    }

    /// A child that does not run yet is traced as its maker is.
    pub(super) fn share_tracer(&self, child: &Arc<Task>) {
        let shared = self.trace.lock().as_ref().map(|t| (t.tracer.upgrade(), t.seized, t.options));
        if let Some((Some(tracer), seized, options)) = shared
            && link(child, &tracer, seized, options, seized).is_ok()
            && !seized
        {
            let _ = child.pending.lock().add(&info::plain(linux::SIGSTOP, info::SI_USER), &self.cred().user, u64::MAX);
        }
    }

    /// The maker's own stop for a child.
    pub(super) fn clone_stop(&self, event: u32, tid: u32) {
        self.event_stop(event, u64::from(tid));
    }

    /// The vfork child has its own memory.
    pub(super) fn vfork_stop(&self, tid: u32) {
        if self.has_option(option::VFORKDONE) {
            self.event_stop(event::VFORK_DONE, u64::from(tid));
        }
    }
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
