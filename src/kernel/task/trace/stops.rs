//! The stops of a traced task: how it stops, what its tracer may change meanwhile, and how it goes on.

use super::super::group::Run;
use super::super::{CurrentTask, Task};
use super::{CLD_TRAPPED, CallStop, Stop, TF, event, flag, link, notify, option};
use crate::abi::linux;
use crate::abi::sigctx::SigInfo;
use crate::arch;
use crate::arch::fpu::FpArea;
use crate::host::process;
use crate::signal::{bit, info};
use crate::sync::{Kind, On, wait};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;

impl CurrentTask {
    /// What a stop that is no signal's tells as siginfo.
    fn own_info(&self, sig: u32, code: u32) -> SigInfo {
        info::from_user(sig, code as i32, self.shown_tid(), self.cred().uid)
    }

    /// Stops for the tracer until it says how to go on; returns the signal that it passes on. At once if
    /// nobody traces the task, or it has to die.
    fn trace_stop(&self, code: u32, info: Option<SigInfo>, message: u64, at_exit: bool) -> u32 {
        self.whole_frame();
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
            (t.info, t.bases, t.message) = (info, bases, message);
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

    /// A frame without extended state, which stands for the initial one, gets that, for its tracer to see and change.
    fn whole_frame(&self) {
        if self.frame().fpstate == 0
            && let Some(mut area) = FpArea::own()
        {
            area.reset();
            self.frame().fpstate = area.addr();
        }
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
                t.message = 0;
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
        let code = linux::SIGTRAP | event << 8;
        let record = Some(self.own_info(linux::SIGTRAP, code));
        let signal = self.trace_stop(code, record, message, event == event::EXIT);
        self.send_passed(signal);
    }

    /// A signal that a tracer passes on where none was to be delivered.
    fn send_passed(&self, signal: u32) {
        if signal != 0 && signal != linux::SIGTRAP {
            let _ = self.send(&info::plain(signal, info::SI_KERNEL));
        }
    }

    /// A filter of the task's own leaves a call to its tracer. Whether there is one that wants it.
    pub(in crate::task) fn seccomp_stop(&self, data: u32) -> bool {
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
    pub(in crate::task) fn signal_stop(&self, signal: SigInfo) -> Option<SigInfo> {
        let sig = signal.signo as u32;
        let passed = self.trace_stop(sig, Some(signal), 0, false);
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
        let code = linux::SIGTRAP | if good { 0x80 } else { 0 };
        let signal = self.trace_stop(code, Some(self.own_info(linux::SIGTRAP, code)), at as u64, false);
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
            let signal = self.trace_stop(code, Some(self.own_info(code, code)), 0, false);
            self.send_passed(signal);
        } else {
            self.traced.fetch_and(!flag::TRAP_FLAG, SeqCst);
            self.arm_steps();
        }
    }

    /// Stops for the tracer that are no signals: what it asked for, and a stop of the whole process. Whether
    /// there was one.
    pub(in crate::task) fn other_stops(&self, stopped: Option<u32>) -> bool {
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
        let _ = self.trace_stop(code, record, 0, false);
        true
    }

    /// An exec gives the task its leader's id: the message of its stop is the former one.
    pub(in crate::task) fn note_former_tid(&self) {
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
    pub(in crate::task) fn exit_stop(&self, status: i32) {
        if self.has_option(option::EXIT) {
            self.event_stop(event::EXIT, status as u32 as u64);
        }
    }

    /// The event of a clone with these flags, if the tracer wants to see it.
    pub(in crate::task) fn clone_event(&self, flags: u64, exit_signal: u32) -> Option<u32> {
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
    pub(in crate::task) fn share_tracer(&self, child: &Arc<Task>) {
        let shared = self.trace.lock().as_ref().map(|t| (t.tracer.upgrade(), t.seized, t.options));
        if let Some((Some(tracer), seized, options)) = shared
            && link(child, &tracer, seized, options, seized).is_ok()
            && !seized
        {
            let _ = child.pending.lock().add(&info::plain(linux::SIGSTOP, info::SI_USER), &self.cred().user, u64::MAX);
        }
    }

    /// The maker's own stop for a child.
    pub(in crate::task) fn clone_stop(&self, event: u32, tid: u32) {
        self.event_stop(event, u64::from(tid));
    }

    /// The vfork child has its own memory.
    pub(in crate::task) fn vfork_stop(&self, tid: u32) {
        if self.has_option(option::VFORKDONE) {
            self.event_stop(event::VFORK_DONE, u64::from(tid));
        }
    }
}
