//! Thread groups: what Linux calls a process.

use super::limits::Limits;
use super::timers::Timers;
use super::{Task, tree};
use crate::signal::{NSIG, Pending, SIG_DFL, SIG_IGN, SigAction};
use crate::sync::{Level, Mutex, WaitQueue};
use crate::vfs::Path;
use crate::vfs::state::DenyWrite;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

/// Signal actions (`CLONE_SIGHAND` shares them).
pub struct Actions(Mutex<[SigAction; NSIG as usize]>);

impl Default for Actions {
    fn default() -> Self {
        Actions(Mutex::new(Level::Leaf, [SigAction::default(); NSIG as usize]))
    }
}

impl Actions {
    /// The action of a signal.
    pub fn get(&self, sig: u32) -> SigAction {
        self.0.lock()[sig as usize - 1]
    }
    /// Replaces the action of a signal; returns the old.
    pub fn set(&self, sig: u32, action: SigAction) -> SigAction {
        core::mem::replace(&mut self.0.lock()[sig as usize - 1], action)
    }
    /// A copy, for fork.
    pub fn fork_copy(&self) -> Actions {
        Actions(Mutex::new(Level::Leaf, *self.0.lock()))
    }
    /// As exec leaves them: handlers become default, ignored stay ignored.
    pub fn for_exec(&self) -> Actions {
        let copy = self.fork_copy();
        for a in copy.0.lock().iter_mut() {
            let handler = if a.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *a = SigAction { handler, ..SigAction::default() };
        }
        copy
    }
}

/// Whether a process runs, is stopped, or is gone but not waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    /// It runs.
    Running,
    /// Stopped by this signal.
    Stopped(u32),
    /// Every thread has ended.
    Zombie,
}

/// State that changes together, under one lock.
pub struct State {
    /// Live threads.
    pub tasks: Vec<Arc<Task>>,
    /// Children, zombies included.
    pub children: Vec<Arc<ThreadGroup>>,
    /// Parent.
    pub parent: Weak<ThreadGroup>,
    /// See [`Run`].
    pub run: Run,
    /// The process is ending with this wait status.
    pub exiting: Option<i32>,
    /// A thread is in exec: all others must go.
    pub exec: Option<u32>,
    /// A stop that has not been waited for.
    pub stop_unreported: bool,
    /// A continuation that has not been waited for.
    pub cont_unreported: bool,
    /// Signal to the parent at the end (0: none).
    pub exit_signal: u32,
    /// Wait status of the leader's own exit.
    pub leader_status: i32,
    /// Real user id at the end.
    pub uid: u32,
}

/// What exec records for `/proc`.
#[derive(Clone, Default)]
pub struct ExecInfo {
    /// The program.
    pub exe: Option<Path>,
    /// Keeps the program from being written.
    pub running: Option<Arc<DenyWrite>>,
    /// The auxiliary vector's `AT_EXECFN`.
    pub execfn: Vec<u8>,
    /// The arguments, each with a zero byte behind it.
    pub cmdline: Vec<u8>,
}

/// A process.
pub struct ThreadGroup {
    /// Process id.
    pub pid: u32,
    /// See [`State`].
    pub state: Mutex<State>,
    /// Wakes those who wait for children, and threads that wait for siblings.
    pub children_wait: WaitQueue,
    /// Woken when the process ends (pidfd).
    pub exit_wait: WaitQueue,
    /// Woken when a signal comes (signalfd).
    pub signal_wait: WaitQueue,
    /// Signals for any thread.
    pub pending: Mutex<Pending>,
    /// Actions; replaced by exec.
    actions: Mutex<Arc<Actions>>,
    /// Process group and session.
    pgid: AtomicU32,
    /// See `pgid`.
    sid: AtomicU32,
    /// Limits.
    pub limits: Limits,
    /// Exec has happened since fork (`setpgid` refuses then).
    pub did_exec: AtomicBool,
    /// `PR_SET_CHILD_SUBREAPER`.
    pub subreaper: AtomicBool,
    /// See [`ExecInfo`].
    pub exec_info: Mutex<ExecInfo>,
    /// Start, on the host's monotonic clock, ns.
    pub started: u64,
    /// User and system time that the present host process's count lacks, and that of reaped children, ns.
    /// The former is below zero (it wraps) in a host process that ran other programs before.
    pub times: [AtomicU64; 4],
    /// Started from outside: its end is an event of the control channel.
    pub external: AtomicBool,
    /// Interval and POSIX timers.
    pub timers: Timers,
    /// `RLIMIT`-like oom_score_adj, kept for `/proc`.
    pub oom_score_adj: core::sync::atomic::AtomicI32,
}

impl ThreadGroup {
    /// User (0) or system (1) time, ns, where the host counts `now` for the host process that it is in.
    pub fn cpu_time(&self, kind: usize, now: u64) -> u64 {
        (self.times[kind].load(SeqCst).wrapping_add(now) as i64).max(0) as u64
    }

    /// A process without threads.
    pub fn new(pid: u32, pgid: u32, sid: u32, limits: Limits, actions: Arc<Actions>, exit_signal: u32) -> ThreadGroup {
        ThreadGroup {
            pid,
            state: Mutex::new(
                Level::Signal,
                State {
                    tasks: Vec::new(),
                    children: Vec::new(),
                    parent: Weak::new(),
                    run: Run::Running,
                    exiting: None,
                    exec: None,
                    stop_unreported: false,
                    cont_unreported: false,
                    exit_signal,
                    leader_status: 0,
                    uid: 0,
                },
            ),
            children_wait: WaitQueue::new(),
            exit_wait: WaitQueue::new(),
            signal_wait: WaitQueue::new(),
            pending: Mutex::new(Level::Signal, Pending::new()),
            actions: Mutex::new(Level::Leaf, actions),
            pgid: AtomicU32::new(pgid),
            sid: AtomicU32::new(sid),
            limits,
            did_exec: AtomicBool::new(false),
            subreaper: AtomicBool::new(false),
            exec_info: Mutex::new(Level::Leaf, ExecInfo::default()),
            started: crate::time::host_monotonic(),
            times: [const { AtomicU64::new(0) }; 4],
            external: AtomicBool::new(false),
            timers: Timers::default(),
            oom_score_adj: core::sync::atomic::AtomicI32::new(0),
        }
    }

    /// Process group id.
    pub fn pgid(&self) -> u32 {
        self.pgid.load(SeqCst)
    }
    /// Session id.
    pub fn sid(&self) -> u32 {
        self.sid.load(SeqCst)
    }
    /// Moves it to a process group.
    pub fn set_pgid(&self, pgid: u32) {
        self.pgid.store(pgid, SeqCst);
    }
    /// Makes it leader of a new session.
    pub fn set_sid(&self, sid: u32) {
        self.sid.store(sid, SeqCst);
    }
    /// Whether every thread has ended.
    pub fn is_zombie(&self) -> bool {
        self.state.lock().run == Run::Zombie
    }
    /// Its signal actions.
    pub fn actions(&self) -> Arc<Actions> {
        self.actions.lock().clone()
    }
    /// Replaces its signal actions (exec).
    pub fn set_actions(&self, actions: Arc<Actions>) {
        *self.actions.lock() = actions;
    }
    /// Its parent's pid, 0 for none.
    pub fn ppid(&self) -> u32 {
        self.parent().map_or(0, |p| p.pid)
    }
    /// Its parent.
    pub fn parent(&self) -> Option<Arc<ThreadGroup>> {
        self.state.lock().parent.upgrade()
    }
    /// Any live thread, the leader first.
    pub fn any_task(&self) -> Option<Arc<Task>> {
        let state = self.state.lock();
        state.tasks.iter().find(|t| t.tid() == self.pid).or(state.tasks.first()).cloned()
    }
    /// Live threads.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.state.lock().tasks.clone()
    }
    /// Kicks every thread.
    pub fn kick_all(&self) {
        for task in self.tasks() {
            task.kick();
        }
    }

    /// Whether the process group of this process has nobody outside it, in its session, who cares:
    /// no member's parent is in another group of the session (`setpgid(2)`, "orphaned").
    pub fn pgrp_orphaned(pgid: u32, but: Option<u32>) -> bool {
        let tree = tree::lock();
        !tree.members(pgid).iter().filter(|g| Some(g.pid) != but).any(|g| match g.parent() {
            Some(p) => p.pgid() != pgid && p.sid() == g.sid(),
            // Whoever started it from outside looks after it, as a shell does.
            None => g.external.load(SeqCst),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(pid: u32, pgid: u32, sid: u32) -> Arc<ThreadGroup> {
        let actions = Arc::new(Actions::default());
        Arc::new(ThreadGroup::new(pid, pgid, sid, Limits::default(), actions, 17))
    }

    #[test]
    fn exec_keeps_only_what_is_ignored() {
        let a = Actions::default();
        a.set(2, SigAction { handler: SIG_IGN, flags: 4, restorer: 5, mask: 6 });
        a.set(15, SigAction { handler: 0x1000, flags: 4, restorer: 5, mask: 6 });
        let after = a.for_exec();
        assert_eq!((after.get(2).handler, after.get(2).flags), (SIG_IGN, 0));
        assert_eq!((after.get(15).handler, after.get(15).mask), (SIG_DFL, 0));
    }

    #[test]
    fn a_process_group_is_orphaned_without_a_parent_in_another_group_of_its_session() {
        let (shell, job, child) = (group(5001, 5001, 5001), group(5002, 5002, 5001), group(5003, 5002, 5001));
        job.state.lock().parent = Arc::downgrade(&shell);
        child.state.lock().parent = Arc::downgrade(&job);
        for g in [&shell, &job, &child] {
            tree::lock().groups.insert(g.pid, g.clone());
        }
        assert!(!ThreadGroup::pgrp_orphaned(5002, None));
        assert!(ThreadGroup::pgrp_orphaned(5002, Some(5002)), "the child's parent is in the group");
        assert!(ThreadGroup::pgrp_orphaned(5001, None));
        shell.external.store(true, SeqCst);
        assert!(!ThreadGroup::pgrp_orphaned(5001, None), "somebody outside looks after it");
        job.state.lock().run = Run::Zombie;
        child.state.lock().run = Run::Zombie;
        assert!(tree::lock().members(5002).is_empty());
        for g in [shell, job, child] {
            tree::lock().groups.remove(&g.pid);
        }
    }
}
