//! Sending signals, and what a thread does about them on its way out of the kernel.

use super::exit;
use super::group::{Run, ThreadGroup};
use super::{CurrentTask, Task, async_io, limits};
use crate::abi::sigctx::{SigInfo, SigStack};
use crate::abi::slot::kick;
use crate::abi::{Result, linux};
use crate::arch;
use crate::cred::{Cred, ns};
use crate::signal::frame::Delivery;
use crate::signal::{Default, SIG_DFL, SIG_IGN, STOPS, SigAction, UNBLOCKABLE, bit, default_action, info};
use crate::sync::{Events, Kind, On};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// `CLD_*` codes of SIGCHLD.
pub mod cld {
    #![allow(missing_docs)]
    pub const EXITED: i32 = 1;
    pub const KILLED: i32 = 2;
    pub const DUMPED: i32 = 3;
    pub const STOPPED: i32 = 5;
    pub const CONTINUED: i32 = 6;
}

/// Whether any process was ever stopped: until then an exit need not look for orphaned stopped groups.
pub(super) static STOPS_EVER: AtomicBool = AtomicBool::new(false);

/// Told when a process that was started from outside stops: pid, signal. Registered at boot.
static STOPPED: once_cell::race::OnceBox<fn(u32, i32)> = once_cell::race::OnceBox::new();

/// Registers who is told of stops.
pub fn set_stopped(f: fn(u32, i32)) {
    let _ = STOPPED.set(alloc::boxed::Box::new(f));
}

/// What the exit work found. One lives on the stack for a moment, so its size does not matter.
#[allow(clippy::large_enum_variant)]
pub enum ExitWork {
    /// Nothing is left: the guest may be entered.
    Done,
    /// A handler must be set up.
    Deliver {
        /// What the handler gets.
        info: SigInfo,
        /// How.
        delivery: Delivery,
        /// The action as it was taken.
        action: SigAction,
    },
}

impl ThreadGroup {
    /// Sends a signal to the process: any thread that does not block it may take it.
    ///
    /// # Errors
    /// `EAGAIN` when a real-time signal cannot be queued.
    pub fn send(&self, info: &SigInfo) -> Result {
        self.send_by(info, None)
    }

    /// As [`ThreadGroup::send`], for what CPU time has brought about: of the threads that are spending some and do not
    /// block the signal one takes it, in turn by `turn` (Linux: whichever the clock's tick finds).
    ///
    /// # Errors
    /// As there.
    pub fn send_to_spender(&self, info: &SigInfo, turn: u64) -> Result {
        self.send_by(info, Some(turn))
    }

    fn send_by(&self, info: &SigInfo, turn: Option<u64>) -> Result {
        let info = &self.told(info);
        let sig = info.signo as u32;
        let blocked = |t: &Arc<Task>| t.blocked.load(SeqCst) & bit(sig) != 0;
        if self.is_immune_to(info) && !self.tasks().first().is_some_and(blocked) {
            return Ok(());
        }
        self.prepare(sig);
        if sig == linux::SIGKILL {
            exit::begin_group_exit(self, linux::SIGKILL as i32);
            return Ok(());
        }
        let state = self.state.lock();
        let takes = |t: &&Arc<Task>| t.blocked.load(SeqCst) & bit(sig) == 0;
        if self.ignores(sig) && state.tasks.iter().all(|t| takes(&t) && !t.is_traced()) {
            return Ok(());
        }
        let Some(user) = state.tasks.front().map(|t| t.cred().user.clone()) else { return Ok(()) };
        self.pending.lock().add(info, &user, self.limits.get(limits::SIGPENDING).0)?;
        self.signal_wait.wake(Events::IN);
        // The leader is the usual one to take it; it comes first while it lives.
        let spender = turn.and_then(|turn| {
            let spending = || state.tasks.iter().filter(|t| takes(t) && !t.sleeps());
            spending().nth((turn % spending().count().max(1) as u64) as usize)
        });
        if let Some(task) = spender.or_else(|| state.tasks.iter().find(takes)) {
            task.kick();
        }
        // Threads that wait for the signal explicitly look for themselves.
        if self.sig_waits.load(SeqCst) != 0 {
            for slot in state.tasks.iter().filter(|t| !takes(t)).filter_map(|t| t.slot()) {
                slot.waker.wake();
            }
        }
        Ok(())
    }

    /// What the process is told by the record of a signal: whoever sent it, in the process's own namespaces. Records of
    /// a child's state say that already ([`ThreadGroup::told_of_child`]).
    fn told(&self, record: &SigInfo) -> SigInfo {
        let mut record = *record;
        let apart = self.id.namespace().level != 0;
        if !apart && !ns::any() {
            return record;
        }
        let by_program = record.code < 0 && !matches!(record.code, info::SI_TIMER | async_io::SI_SIGIO);
        if record.code == info::SI_USER || by_program {
            let (pid, uid) = (record.fields[0] as u32, (record.fields[0] >> 32) as u32);
            let pid = self.id.namespace().seen(pid);
            let uid = self.cred().map_or(uid, |cred| cred.seen_uid(uid));
            record.fields[0] = u64::from(pid) | u64::from(uid) << 32;
        }
        record
    }

    /// Whether the init of a pid namespace does not get this signal, whose record says already who sent it
    /// (`sig_task_ignored`): what it does not handle, but SIGKILL and SIGSTOP from the kernel and from above.
    fn is_immune_to(&self, record: &SigInfo) -> bool {
        if !self.is_space_init() {
            return false;
        }
        let sig = record.signo as u32;
        let from_above = record.code == info::SI_KERNEL || record.code <= 0 && record.fields[0] as u32 == 0;
        let forced = from_above && matches!(sig, linux::SIGKILL | linux::SIGSTOP);
        self.actions().get(sig).handler == SIG_DFL && !forced
    }

    /// Whether a pending signal that the program does not handle does nothing to it (`SIGNAL_UNKILLABLE` in
    /// `get_signal`): its own faults, SIGKILL and SIGSTOP do something.
    fn shrugs_off(&self, record: &SigInfo) -> bool {
        let sig = record.signo as u32;
        let fault = record.code > 0 && bit(sig) & crate::signal::SYNCHRONOUS != 0;
        self.is_space_init() && !fault && !matches!(sig, linux::SIGKILL | linux::SIGSTOP)
    }

    /// The record that tells the process of a child, or of a task that it traces: ids are its own namespaces'.
    pub(super) fn told_of_child(&self, code: i32, child: u32, uid: u32, status: i32, times: [u64; 2]) -> SigInfo {
        let seen = if ns::any() { self.cred().map_or(uid, |cred| cred.seen_uid(uid)) } else { uid };
        info::child(code, self.id.namespace().seen(child), seen, status, times[0], times[1])
    }

    /// Whether the signal would do nothing.
    fn ignores(&self, sig: u32) -> bool {
        let a = self.actions().get(sig);
        a.handler == SIG_IGN || a.handler == SIG_DFL && default_action(sig) == Default::Ignore
    }

    /// SIGCONT wakes a stopped process whatever becomes of it; it and the stop signals cancel.
    fn prepare(&self, sig: u32) {
        let discard = if sig == linux::SIGCONT {
            STOPS
        } else if STOPS & bit(sig) != 0 {
            bit(linux::SIGCONT)
        } else {
            0
        };
        if discard != 0 {
            self.pending.lock().discard(discard);
            for t in self.tasks() {
                t.pending.lock().discard(discard);
            }
        }
        if sig == linux::SIGCONT {
            for t in self.tasks() {
                t.note_continue();
            }
        }
        if sig == linux::SIGCONT || sig == linux::SIGKILL {
            self.resume(sig == linux::SIGCONT);
        }
    }

    fn resume(&self, report: bool) {
        let was = {
            let mut state = self.state.lock();
            // A stop signal that a thread has taken and not yet acted on is called off, too.
            self.continues.fetch_add(1, SeqCst);
            let was = state.run;
            if let Run::Stopped(_) = was {
                state.run = Run::Running;
                state.stop_unreported = false;
                state.cont_unreported = report;
            }
            was
        };
        if let Run::Stopped(_) = was {
            self.kick_all();
            if report {
                self.notify_parent(cld::CONTINUED, linux::SIGCONT as i32);
            }
        }
    }

    /// Tells the parent about a stop or continuation.
    fn notify_parent(&self, code: i32, status: i32) {
        let Some(parent) = self.parent() else {
            if code == cld::STOPPED
                && self.external.load(SeqCst)
                && let Some(f) = STOPPED.get()
            {
                f(self.pid, status);
            }
            return;
        };
        parent.state.lock().telling.insert(self.pid);
        // A tracer that is the parent hears of each thread's stop.
        let by_tracer = || self.any_task().is_some_and(|t| t.tracer().is_some_and(|t| Arc::ptr_eq(&t, &parent)));
        let action = parent.actions().get(linux::SIGCHLD);
        if code == cld::STOPPED && by_tracer() {
            return;
        }
        if action.flags & u64::from(linux::SA_NOCLDSTOP) == 0 {
            let uid = self.any_task().and_then(|t| t.shared()).map_or(0, |own| own.cred.uid);
            let times = [0, 1].map(|kind| self.cpu_time(kind, 0) / 10_000_000);
            let _ = parent.send(&parent.told_of_child(code, self.pid, uid, status, times));
        }
        parent.children_wait.wake_all();
    }

    /// Signals of `set` that wait for the process may have been meant for a thread that no longer takes
    /// them: the others look.
    pub(super) fn retarget(&self, set: u64) {
        let waiting = self.pending.lock().set() & set;
        if waiting == 0 {
            return;
        }
        for t in self.tasks() {
            if waiting & !t.blocked.load(SeqCst) != 0 {
                t.kick();
            }
        }
    }

    /// Stops the process: every thread waits at its exit work. Not if it was continued since `continues` was read.
    fn stop(&self, sig: u32, continues: u32) {
        {
            let mut state = self.state.lock();
            let called_off = self.continues.load(SeqCst) != continues;
            // A tracer may let a stopped process's threads run on: they stop once more.
            let again = matches!(state.run, Run::Stopped(_)) && state.tasks.iter().any(|t| t.is_traced());
            if called_off || state.run != Run::Running && !again || state.exiting.is_some() {
                return;
            }
            if again {
                state.run = Run::Stopped(sig);
                self.stops.fetch_add(1, SeqCst);
                drop(state);
                self.kick_all();
                return;
            }
            state.run = Run::Stopped(sig);
            self.stops.fetch_add(1, SeqCst);
            STOPS_EVER.store(true, SeqCst);
            state.stop_unreported = true;
            state.cont_unreported = false;
        }
        self.kick_all();
        self.notify_parent(cld::STOPPED, sig as i32);
    }
}

impl Task {
    /// Sends a signal to this thread.
    ///
    /// # Errors
    /// `EAGAIN` when a real-time signal cannot be queued.
    pub fn send(&self, info: &SigInfo) -> Result {
        self.send_under(info, &self.cred())
    }

    /// As [`Task::send`] where its credentials are known.
    ///
    /// # Errors
    /// As there.
    pub fn send_under(&self, info: &SigInfo, cred: &Cred) -> Result {
        let info = &self.group.told(info);
        let sig = info.signo as u32;
        if self.group.is_immune_to(info) && self.blocked.load(SeqCst) & bit(sig) == 0 {
            return Ok(());
        }
        self.group.prepare(sig);
        if sig == linux::SIGKILL {
            exit::begin_group_exit(&self.group, linux::SIGKILL as i32);
            return Ok(());
        }
        if !self.is_traced() && self.group.ignores(sig) && self.blocked.load(SeqCst) & bit(sig) == 0 {
            return Ok(());
        }
        self.pending.lock().add(info, &cred.user, self.group.limits.get(limits::SIGPENDING).0)?;
        self.group.signal_wait.wake(Events::IN);
        if self.blocked.load(SeqCst) & bit(sig) == 0 {
            self.kick();
        } else if let Some(slot) = self.slot() {
            slot.waker.wake();
        }
        Ok(())
    }

    /// Signals that could be taken now.
    pub fn deliverable(&self) -> u64 {
        let set = self.pending.lock().set() | self.group.pending.lock().set();
        set & !self.blocked.load(SeqCst)
    }

    /// Takes a pending signal of `mask`: the thread's own first.
    pub fn take_signal(&self, mask: u64) -> Option<SigInfo> {
        loop {
            let own = self.pending.lock().take(mask);
            let mut info = own.or_else(|| self.group.pending.lock().take(mask))?;
            if self.group.timers.taken(&self.group, &mut info) {
                return Some(info);
            }
        }
    }
}

impl CurrentTask {
    /// Changes the blocked set; what becomes deliverable is looked at on the way out.
    pub fn set_blocked(&self, mask: u64) {
        let mask = mask & !UNBLOCKABLE;
        let newly = mask & !self.blocked.swap(mask, SeqCst);
        if newly != 0 {
            self.group.retarget(newly);
        }
        if self.deliverable() != 0 {
            arch::slot().mark(kick::LOOK);
        }
    }

    /// Records the mask that comes back after a call which blocks other signals only while it waits:
    /// a handler's frame takes it, or the exit work restores it.
    pub fn save_mask(&self, old: u64) {
        *self.saved_mask.lock() = Some(old);
        // The exit work restores it even if no signal comes.
        arch::slot().kick_on_exit();
    }

    /// Restores the mask at once, when the wait ended without a signal.
    pub fn restore_mask(&self) {
        let saved = self.saved_mask.lock().take();
        if let Some(old) = saved {
            self.set_blocked(old);
        }
    }

    /// A fault of this thread: the signal cannot be blocked or ignored.
    pub fn force_signal(&self, info: &SigInfo) {
        let sig = info.signo as u32;
        let actions = self.group.actions();
        let action = actions.get(sig);
        let blocked = self.blocked.load(SeqCst) & bit(sig) != 0;
        if blocked || action.handler == SIG_IGN {
            actions.set(sig, SigAction::default());
            self.blocked.fetch_and(!bit(sig), SeqCst);
        }
        let _ = self.pending.lock().add(info, &self.cred().user, u64::MAX);
        arch::slot().mark(kick::LOOK);
    }

    /// Whether the thread has to end as soon as it can: its process is ending, or another thread execs.
    pub fn is_dying(&self) -> bool {
        if !arch::slot().kicked() {
            return false;
        }
        self.must_end()
    }

    /// Looks for work that must be done before the guest goes on. Does not return when the thread
    /// must end.
    pub fn exit_work(&self) -> ExitWork {
        super::async_io::run();
        super::session::run_hang_ups();
        loop {
            super::park::park_while_paused();
            let (exiting, must_go, stopped, dumps) = {
                let state = self.group.state.lock();
                let exec_by_other = state.exec.is_some_and(|tid| tid != self.tid());
                let stopped = if let Run::Stopped(sig) = state.run { Some(sig) } else { None };
                (state.exiting, exec_by_other, stopped, state.dumps.is_some())
            };
            if let Some(status) = exiting {
                exit::exit_thread(self, status);
            }
            if must_go {
                exit::exit_thread(self, 0);
            }
            if dumps {
                self.wait_for_core();
                continue;
            }
            if self.is_traced() {
                self.arm_steps();
                if self.other_stops(stopped) {
                    continue;
                }
            } else if stopped.is_some() {
                self.wait_while_stopped();
                continue;
            }
            let blocked = self.blocked.load(SeqCst);
            let mut continues = self.group.continues.load(SeqCst);
            let Some(info) = self.take_signal(!blocked) else {
                let saved = self.saved_mask.lock().take();
                if let Some(old) = saved {
                    self.set_blocked(old);
                    if self.deliverable() != 0 {
                        continue;
                    }
                }
                return ExitWork::Done;
            };
            let mut info = Some(info);
            if self.is_traced() {
                info = info.and_then(|i| self.signal_stop(i));
                continues = self.group.continues.load(SeqCst);
            }
            if let Some(work) = info.and_then(|info| self.act_on(info, continues)) {
                return work;
            }
        }
    }

    fn act_on(&self, info: SigInfo, continues: u32) -> Option<ExitWork> {
        let sig = info.signo as u32;
        // Held no longer than this: some ways out of here do not return, and drop nothing.
        let action = self.group.actions().get(sig);
        match action.handler {
            SIG_IGN => None,
            SIG_DFL if self.group.shrugs_off(&info) => None,
            SIG_DFL => {
                match default_action(sig) {
                    Default::Ignore | Default::Continue => {}
                    Default::Stop => {
                        let orphaned = || ThreadGroup::pgrp_orphaned(self.group.pgid(), None);
                        if sig == linux::SIGSTOP || !orphaned() {
                            self.group.stop(sig, continues);
                        }
                    }
                    Default::Terminate => exit::exit_group(self, sig as i32),
                    Default::Core => {
                        let dumped = if super::coredump::dump(self, &info) { 0x80 } else { 0 };
                        exit::exit_group(self, sig as i32 | dumped)
                    }
                }
                None
            }
            _ => {
                if action.flags & u64::from(linux::SA_RESETHAND) != 0 {
                    self.group.actions().set(sig, SigAction { handler: SIG_DFL, ..action });
                }
                let saved = self.saved_mask.lock().take();
                let delivery = Delivery {
                    handler: action.handler,
                    flags: action.flags,
                    restorer: action.restorer,
                    saved_mask: saved.unwrap_or(self.blocked.load(SeqCst)),
                    altstack: *self.altstack.lock(),
                };
                Some(ExitWork::Deliver { info, delivery, action })
            }
        }
    }

    /// The frame stands: the handler's mask is in force.
    pub fn signal_delivered(&self, info: &SigInfo, action: &SigAction, delivery: &Delivery) {
        let mut mask = self.blocked.load(SeqCst) | action.mask;
        if action.flags & u64::from(linux::SA_NODEFER) == 0 {
            mask |= bit(info.signo as u32);
        }
        self.set_blocked(mask);
        if delivery.altstack.flags as u32 & linux::SS_AUTODISARM != 0 {
            *self.altstack.lock() = SigStack { sp: 0, flags: linux::SS_DISABLE as i32, pad: 0, size: 0 };
        }
    }

    /// The stack could not take the frame: SIGSEGV, deadly if that is what failed.
    pub fn signal_undeliverable(&self, info: &SigInfo) {
        if info.signo as u32 == linux::SIGSEGV {
            self.group.actions().set(linux::SIGSEGV, SigAction::default());
        }
        self.force_signal(&info::plain(linux::SIGSEGV, info::SI_KERNEL));
    }

    fn wait_while_stopped(&self) {
        let slot = arch::slot();
        loop {
            let ticket = slot.waker.ticket();
            let go = {
                let state = self.group.state.lock();
                let exec_by_other = state.exec.is_some_and(|tid| tid != self.tid());
                let go = !matches!(state.run, Run::Stopped(_)) || state.exiting.is_some() || exec_by_other;
                go || self.is_traced()
            };
            if go {
                return;
            }
            crate::sync::wait::sleep_deaf(slot, On::the(Kind::Stop), ticket);
        }
    }
}
