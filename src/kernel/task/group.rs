//! Thread groups: what Linux calls a process.

use super::limits::Limits;
use super::pid::{Pid, Set};
use super::session::Controlling;
use super::timers::Timers;
use super::trace::Tracee;
use super::{Task, kernel};
use crate::cred::Cred;
use crate::signal::{NSIG, Pending, SIG_DFL, SIG_IGN, SigAction};
use crate::sync::mend::{forget_part, step};
use crate::sync::{Kind, Level, Mend, MendMap, Mutex, StepQueue, WaitQueue};
use crate::vfs::Path;
use crate::vfs::state::DenyWrite;
use alloc::collections::BTreeSet;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

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
    /// Live threads, each at its [`Task::place`].
    pub tasks: StepQueue<Arc<Task>>,
    /// How many of them are past the beginning of their exit.
    pub leaving: usize,
    /// Children by pid, zombies included.
    pub children: MendMap<u32, Arc<ThreadGroup>>,
    /// Those of them, by pid, that may have something to tell: all that have ended, were stopped or went on since they
    /// were last looked at.
    pub telling: BTreeSet<u32>,
    /// Parent.
    pub parent: Weak<ThreadGroup>,
    /// See [`Run`].
    pub run: Run,
    /// The process is ending with this wait status.
    pub exiting: Option<i32>,
    /// This thread writes the process's core: the others stand still.
    pub dumps: Option<u32>,
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

impl State {
    /// A child has something to tell.
    pub(super) fn told_by(&mut self, pid: u32) {
        if self.children.contains_key(&pid) {
            self.telling.insert(pid);
        }
    }

    /// Enters a thread.
    pub(super) fn add_task(&mut self, task: Arc<Task>) {
        task.place.store(self.tasks.len() as u32, SeqCst);
        self.tasks.push_back(task);
    }

    /// Takes a thread out, if it is there: the last one takes its place.
    pub(super) fn remove_task(&mut self, task: &Arc<Task>) {
        let at = task.place.load(SeqCst) as usize;
        if !self.tasks.get(at).is_some_and(|t| Arc::ptr_eq(t, task)) {
            return;
        }
        let last = self.tasks.len() - 1;
        if at != last {
            // It is there twice for a moment.
            let moved = self.tasks[last].clone();
            moved.place.store(at as u32, SeqCst);
            let gone = core::mem::replace(&mut self.tasks[at], moved);
            step();
            drop(gone);
        }
        drop(self.tasks.pop_back());
        self.leaving = self.leaving.saturating_sub(task.leaving.load(SeqCst).into());
    }

    /// Forgets a child.
    pub(super) fn remove_child(&mut self, pid: u32) {
        self.children.remove(&pid);
        self.telling.remove(&pid);
    }
}

impl Mend for State {
    /// Threads and children are those of their lists. Of an end or a stop that the host's victim was about to enter, the
    /// status may be another one.
    fn mend(&mut self) {
        let last = self.tasks.len().wrapping_sub(1);
        if let Some(task) = self.tasks.back()
            && self.tasks.iter().take(last).any(|t| Arc::ptr_eq(t, task))
        {
            // The second one, which the thread that took another out has not taken away any more.
            drop(self.tasks.pop_back());
        }
        for (at, task) in self.tasks.iter().enumerate() {
            task.place.store(at as u32, SeqCst);
        }
        self.leaving = self.tasks.iter().filter(|t| t.leaving.load(SeqCst)).count();
        self.children.mend();
        forget_part(&mut self.telling, self.children.iter().map(|(&pid, _)| pid).collect());
    }
}

/// What `getrusage(2)` counts besides time.
#[derive(Default)]
pub struct Usage {
    /// Most resident memory, KiB.
    max_rss: AtomicU64,
    /// Minor and major faults, blocks in and out, voluntary and involuntary switches.
    counts: [AtomicU64; 6],
}

impl Usage {
    /// Adds what a process used: KiB, and the counts in the order above.
    pub fn add(&self, max_rss: u64, counts: [u64; 6]) {
        self.max_rss.fetch_max(max_rss, SeqCst);
        for (to, n) in self.counts.iter().zip(counts) {
            to.fetch_add(n, SeqCst);
        }
    }
    /// What there is, as [`Usage::add`] takes it.
    pub fn get(&self) -> (u64, [u64; 6]) {
        (self.max_rss.load(SeqCst), core::array::from_fn(|i| self.counts[i].load(SeqCst)))
    }
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
    /// Process id in the initial namespace, the number of [`ThreadGroup::id`].
    pub pid: u32,
    /// Process id in its own namespace.
    pub shown: u32,
    /// What it is known by.
    pub id: Arc<Pid>,
    /// See [`State`].
    pub state: Mutex<State>,
    /// Its end is known to all who are to know it (`exit::finish`).
    pub finished: AtomicBool,
    /// Wakes those who wait for children, and threads that wait for siblings.
    pub children_wait: WaitQueue,
    /// Woken when a signal comes (signalfd).
    pub signal_wait: WaitQueue,
    /// Signals for any thread.
    pub pending: Mutex<Pending>,
    /// How many of its threads wait for signals by name (`sigtimedwait(2)`).
    pub sig_waits: AtomicU32,
    /// Actions; replaced by exec.
    actions: Mutex<Arc<Actions>>,
    /// Process group and session; changed under the tree's lock.
    belongs: Mutex<[Arc<Pid>; 2]>,
    /// Their numbers.
    pgid: AtomicU32,
    /// See `pgid`.
    sid: AtomicU32,
    /// Its controlling terminal.
    pub(super) controlling: Mutex<Controlling>,
    /// The container that it was started for; its descendants are in it, too.
    pub container: Option<Arc<str>>,
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
    /// What earlier host processes of it used besides time, and what its reaped children did.
    pub usage: [Usage; 2],
    /// What threads that have ended read and wrote.
    pub io: super::io_count::IoCount,
    /// The thread that made it.
    pub(super) parent_tid: AtomicU32,
    /// The parent's pid, as the state has the parent, for those who ask for nothing else.
    ppid: AtomicU32,
    /// See [`ThreadGroup::shown_ppid`].
    shown_ppid: AtomicU32,
    /// Started from outside: its end is an event of the control channel.
    pub external: AtomicBool,
    /// Interval and POSIX timers.
    pub timers: Timers,
    /// The leader's task, where it has ended while it was traced.
    pub leader: Mutex<Option<Arc<Task>>>,
    /// Tasks that this process traces.
    pub tracees: Mutex<Vec<Tracee>>,
    /// `/proc/PID/coredump_filter`.
    pub dump_filter: AtomicU32,
    /// How often it was continued, or killed, whether it was stopped or not.
    pub continues: AtomicU32,
    /// How often it has been stopped.
    pub stops: AtomicU32,
    /// It has ended, but a tracer that is not its parent has not waited for it.
    pub held: AtomicBool,
    /// How much sooner, or later, it is ended for want of memory, in thousandths of all memory (`/proc/PID/oom_score_adj`).
    pub oom_score_adj: core::sync::atomic::AtomicI32,
    /// The lowest of it that the unprivileged may set.
    pub oom_score_adj_min: core::sync::atomic::AtomicI32,
}

impl ThreadGroup {
    /// User (0) or system (1) time, ns, where the host counts `now` for the host process that it is in.
    pub fn cpu_time(&self, kind: usize, now: u64) -> u64 {
        (self.times[kind].load(SeqCst).wrapping_add(now) as i64).max(0) as u64
    }

    /// A process without threads that is not in the tree yet.
    pub fn new(
        id: Arc<Pid>,
        pgrp: Arc<Pid>,
        session: Arc<Pid>,
        limits: Limits,
        actions: Arc<Actions>,
        exit_signal: u32,
    ) -> ThreadGroup {
        ThreadGroup {
            pid: id.number(),
            shown: id.number_in(id.namespace()),
            id,
            state: Mutex::mended(
                Level::Signal,
                State {
                    tasks: StepQueue::new(),
                    leaving: 0,
                    children: MendMap::new(),
                    telling: BTreeSet::new(),
                    parent: Weak::new(),
                    run: Run::Running,
                    exiting: None,
                    dumps: None,
                    exec: None,
                    stop_unreported: false,
                    cont_unreported: false,
                    exit_signal,
                    leader_status: 0,
                    uid: 0,
                },
            ),
            finished: AtomicBool::new(false),
            children_wait: WaitQueue::of(Kind::Child),
            signal_wait: WaitQueue::of(Kind::Signal),
            pending: Mutex::mended(Level::Signal, Pending::new()),
            sig_waits: AtomicU32::new(0),
            actions: Mutex::new(Level::Leaf, actions),
            pgid: AtomicU32::new(pgrp.number()),
            sid: AtomicU32::new(session.number()),
            belongs: Mutex::new(Level::Leaf, [pgrp, session]),
            controlling: Mutex::new(Level::Leaf, Controlling::default()),
            container: None,
            limits,
            did_exec: AtomicBool::new(false),
            subreaper: AtomicBool::new(false),
            exec_info: Mutex::new(Level::Leaf, ExecInfo::default()),
            started: crate::time::host_monotonic(),
            times: [const { AtomicU64::new(0) }; 4],
            usage: [Usage::default(), Usage::default()],
            io: super::io_count::IoCount::default(),
            ppid: AtomicU32::new(0),
            shown_ppid: AtomicU32::new(0),
            parent_tid: AtomicU32::new(0),
            external: AtomicBool::new(false),
            timers: Timers::default(),
            leader: Mutex::new(Level::Leaf, None),
            tracees: Mutex::new(Level::Signal, Vec::new()),
            dump_filter: AtomicU32::new(super::coredump::DEFAULT_FILTER),
            continues: AtomicU32::new(0),
            stops: AtomicU32::new(0),
            held: AtomicBool::new(false),
            oom_score_adj: core::sync::atomic::AtomicI32::new(0),
            oom_score_adj_min: core::sync::atomic::AtomicI32::new(0),
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
    /// Process group.
    pub fn pgrp(&self) -> Arc<Pid> {
        self.belongs.lock()[0].clone()
    }
    /// Session.
    pub fn session(&self) -> Arc<Pid> {
        self.belongs.lock()[1].clone()
    }
    pub(super) fn set_pgrp(&self, pgrp: Arc<Pid>) -> Arc<Pid> {
        self.pgid.store(pgrp.number(), SeqCst);
        core::mem::replace(&mut self.belongs.lock()[0], pgrp)
    }
    pub(super) fn set_session(&self, session: Arc<Pid>) -> Arc<Pid> {
        self.sid.store(session.number(), SeqCst);
        core::mem::replace(&mut self.belongs.lock()[1], session)
    }
    /// Its credentials: a live thread's, or those that it ended with. `None` only before its first thread.
    pub fn cred(&self) -> Option<Arc<Cred>> {
        self.leader().map(|t| t.cred())
    }
    /// Whether it is the first process of a pid namespace other than the initial one: what it does not handle does not
    /// end it, its end is that of all others there.
    pub fn is_space_init(&self) -> bool {
        self.shown == 1 && self.id.namespace().level != 0
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
    #[inline]
    pub fn ppid(&self) -> u32 {
        self.ppid.load(Relaxed)
    }
    /// The same as the process itself sees it.
    #[inline]
    pub fn shown_ppid(&self) -> u32 {
        self.shown_ppid.load(Relaxed)
    }
    /// Gives it a parent, or none.
    pub(super) fn set_parent(&self, parent: Option<&Arc<ThreadGroup>>) {
        let mut state = self.state.lock();
        let new = parent.map_or_else(Weak::new, Arc::downgrade);
        let old = core::mem::replace(&mut state.parent, new);
        step();
        self.ppid.store(parent.map_or(0, |p| p.pid), Relaxed);
        self.shown_ppid.store(parent.map_or(0, |p| p.id.number_in(self.id.namespace())), Relaxed);
        drop(state);
        drop(old);
    }
    /// Its parent.
    pub fn parent(&self) -> Option<Arc<ThreadGroup>> {
        self.state.lock().parent.upgrade()
    }
    /// Any live thread, the leader first.
    pub fn any_task(&self) -> Option<Arc<Task>> {
        let state = self.state.lock();
        state.tasks.iter().find(|t| t.tid() == self.pid).or(state.tasks.front()).cloned()
    }
    /// A live thread, the leader first, else the leader as it ended.
    pub fn leader(&self) -> Option<Arc<Task>> {
        self.any_task().or_else(|| self.id.task())
    }
    /// Live threads.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.state.lock().tasks.iter().cloned().collect()
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
        let Some(pgrp) = kernel().roots().pid.find(pgid) else { return true };
        !pgrp.any_member(Set::Group, |g| {
            let (parent, zombie) = {
                let state = g.state.lock();
                (state.parent.upgrade(), state.run == Run::Zombie)
            };
            !zombie
                && Some(g.pid) != but
                && match parent {
                    Some(p) => p.pgid() != pgid && p.sid() == g.sid(),
                    // Whoever started it from outside looks after it, as a shell does.
                    None => g.external.load(SeqCst),
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::test_support::group;
    use crate::task::tree;

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
    fn what_a_killed_thread_left_of_a_group_is_made_whole() {
        let (parent, child) = (group(5101, 5101, 5101), group(5102, 5101, 5101));
        let tasks: Vec<_> = (0..3).map(|i| crate::task::test_support::thread(&parent, 5110 + i)).collect();
        let mut state = parent.state.lock();
        let had = state.tasks.len();
        tasks.iter().for_each(|t| state.add_task(t.clone()));
        state.children.insert(child.pid, child.clone());
        // In the middle of taking the first one out: the last is there twice, and is not counted as leaving.
        tasks[2].leaving.store(true, SeqCst);
        state.tasks[had] = tasks[2].clone();
        state.mend();
        assert_eq!(state.tasks.len(), had + 2);
        assert!(state.tasks.iter().enumerate().all(|(at, t)| t.place.load(SeqCst) as usize == at));
        assert_eq!((state.leaving, state.telling.contains(&child.pid)), (1, true));
        state.remove_task(&tasks[2]);
        state.remove_task(&tasks[0]);
        assert!(state.tasks.iter().skip(had).all(|t| Arc::ptr_eq(t, &tasks[1])));
        assert_eq!((state.tasks.len(), state.leaving), (had + 1, 0));
        state.remove_task(&tasks[1]);
        state.remove_child(child.pid);
        drop(state);
        for g in [parent, child] {
            tree::lock().remove_process(&g);
        }
    }

    #[test]
    fn a_process_group_is_orphaned_without_a_parent_in_another_group_of_its_session() {
        let (shell, job, child) = (group(5001, 5001, 5001), group(5002, 5002, 5001), group(5003, 5002, 5001));
        job.set_parent(Some(&shell));
        child.set_parent(Some(&job));
        assert!(!ThreadGroup::pgrp_orphaned(5002, None));
        assert!(ThreadGroup::pgrp_orphaned(5002, Some(5002)), "the child's parent is in the group");
        assert!(ThreadGroup::pgrp_orphaned(5001, None));
        shell.external.store(true, SeqCst);
        assert!(!ThreadGroup::pgrp_orphaned(5001, None), "somebody outside looks after it");
        job.state.lock().run = Run::Zombie;
        child.state.lock().run = Run::Zombie;
        assert_eq!(tree::members(5002).len(), 2, "zombies are members until they are reaped");
        for g in [shell, job, child] {
            tree::lock().remove_process(&g);
        }
        assert!(kernel().roots().pid.find(5002).is_none());
    }
}
