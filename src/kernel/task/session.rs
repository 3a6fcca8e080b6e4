//! Sessions' controlling terminals and job control (`credentials(7)`, `ioctl_tty(2)`, `setpgid(2)`).
//!
//! As on Linux each process has its own reference to the controlling terminal, which fork passes on; the
//! terminal knows the session that it controls and that session's foreground group ([`Job`]). Both change
//! under the tree's lock. What a terminal is otherwise, the room `tty` knows.

use super::group::ThreadGroup;
use super::pid::{Pid, Set};
use super::{CurrentTask, Task, lookup, lookup_group, tree};
use crate::abi::linux::{SIGCONT, SIGHUP, SIGTTIN};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arch;
use crate::signal::{SIG_IGN, bit, info};
use crate::sync::{Level, Mutex};
use crate::vfs::OpenFile;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use once_cell::race::OnceBox;

/// A terminal, as far as job control knows it.
pub trait Terminal: Any + Send + Sync {
    /// Its device number, as `/proc/PID/stat` shows it.
    fn device(&self) -> u64;
    /// Whom it controls.
    fn job(&self) -> &Job;
    /// As `Any`, for its owner to recognise it.
    fn as_any(&self) -> &dyn Any;
}

#[derive(Default)]
struct JobState {
    session: Option<Arc<Pid>>,
    foreground: Option<Arc<Pid>>,
}

/// The session that a terminal controls.
pub struct Job {
    state: Mutex<JobState>,
    /// Its entry in the list of hang-ups, while it is not there.
    entry: Mutex<Option<Box<HangUp>>>,
}

impl Default for Job {
    fn default() -> Self {
        let entry = Box::new(HangUp { terminal: None, next: None });
        Job { state: Mutex::new(Level::Leaf, JobState::default()), entry: Mutex::new(Level::Leaf, Some(entry)) }
    }
}

impl Job {
    /// The session that the terminal controls.
    pub fn session(&self) -> Option<Arc<Pid>> {
        self.state.lock().session.clone()
    }

    /// The session's foreground process group.
    pub fn foreground(&self) -> Option<Arc<Pid>> {
        self.state.lock().foreground.clone()
    }

    /// Sends a signal of the kernel's to the foreground process group.
    pub fn signal(&self, signal: u32) {
        if let Some(pgrp) = self.foreground() {
            signal_group(&pgrp, signal);
        }
    }

    /// The terminal controls nobody any more. The old state is to be dropped without locks.
    #[must_use]
    fn clear(&self) -> JobState {
        core::mem::take(&mut self.state.lock())
    }
}

/// What a process knows of its controlling terminal.
#[derive(Default)]
pub struct Controlling {
    terminal: Option<Arc<dyn Terminal>>,
    /// Of the leader of a session whose terminal was hung up: the foreground group at that time. It is told
    /// when the leader ends.
    last_foreground: Option<Arc<Pid>>,
}

impl Controlling {
    /// What a child gets.
    fn fork_copy(&self) -> Controlling {
        Controlling { terminal: self.terminal.clone(), last_foreground: None }
    }
}

fn signal_group(pgrp: &Pid, signal: u32) {
    for g in pgrp.members(Set::Group) {
        let _ = g.send(&info::plain(signal, info::SI_KERNEL));
    }
}

fn same(a: &Arc<dyn Terminal>, b: &dyn Terminal) -> bool {
    core::ptr::addr_eq(Arc::as_ptr(a), b)
}

impl ThreadGroup {
    /// Its controlling terminal.
    pub fn terminal(&self) -> Option<Arc<dyn Terminal>> {
        self.controlling.lock().terminal.clone()
    }

    fn is_controlled_by(&self, terminal: &dyn Terminal) -> bool {
        self.controlling.lock().terminal.as_ref().is_some_and(|t| same(t, terminal))
    }

    fn leads_session(&self) -> bool {
        self.sid() == self.pid
    }

    /// Takes over the parent's controlling terminal. The tree is locked, so that a hang-up meets either
    /// only the parent or both.
    pub(super) fn inherit_terminal(&self, parent: &ThreadGroup) {
        let copy = parent.controlling.lock().fork_copy();
        // A new process has none to be dropped.
        *self.controlling.lock() = copy;
    }

    /// Controlling terminal and foreground group as `/proc/PID/stat` shows them.
    pub fn shown_terminal(&self) -> (u64, i32) {
        let Some(terminal) = self.terminal() else { return (0, -1) };
        let foreground = terminal.job().foreground().map_or(0, |p| p.number_in(self.id.namespace()));
        (terminal.device(), foreground as i32)
    }
}

/// Tells which terminal an open file is.
pub type OfFile = fn(&OpenFile) -> Option<Arc<dyn Terminal>>;
static OF_FILE: OnceBox<OfFile> = OnceBox::new();

/// Registers who tells which terminal an open file is.
pub fn set_of_file(f: OfFile) {
    let _ = OF_FILE.set(Box::new(f));
}

/// A terminal on descriptor 0 becomes the new session's, if no other session has it.
pub(super) fn claim_input(task: &Task) {
    let Some(own) = task.shared() else { return };
    if let Ok(file) = own.files.get(0)
        && let Some(of_file) = OF_FILE.get()
        && let Some(terminal) = of_file(&file)
    {
        let _ = attach(&task.group, &terminal, false);
    }
}

/// Makes a terminal the controlling one of a session leader that has none (`__proc_set_tty`). `steal`: also
/// where another session has it.
///
/// # Errors
/// `EPERM`.
pub fn attach(group: &Arc<ThreadGroup>, terminal: &Arc<dyn Terminal>, steal: bool) -> Result {
    let tree = tree::lock();
    let job = terminal.job();
    let had = job.session();
    let mine = had.as_ref().is_some_and(|s| Arc::ptr_eq(s, &group.session()));
    if group.leads_session() && mine {
        return Ok(());
    }
    if !group.leads_session() || group.terminal().is_some() || had.is_some() && !steal {
        return Err(Errno::EPERM);
    }
    if let Some(session) = &had {
        leave_all(session, &**terminal);
    }
    let new = JobState { session: Some(group.session()), foreground: Some(group.pgrp()) };
    let old = core::mem::replace(&mut *job.state.lock(), new);
    group.controlling.lock().terminal = Some(terminal.clone());
    drop(tree);
    drop(old);
    Ok(())
}

/// Takes a terminal, which the caller keeps alive, from all processes of a session. The tree is locked.
fn leave_all(session: &Pid, terminal: &dyn Terminal) {
    for g in session.members(Set::Session) {
        let mut controlling = g.controlling.lock();
        if controlling.terminal.as_ref().is_some_and(|t| same(t, terminal)) {
            controlling.terminal = None;
        }
    }
}

/// TIOCSCTTY. `may_steal`: by force, which was asked for and is allowed. `readable`: the caller could read from the
/// terminal, or is privileged.
///
/// # Errors
/// `ESRCH`, `EPERM`.
pub fn set_controlling(tgid: u32, terminal: &Arc<dyn Terminal>, may_steal: bool, readable: bool) -> Result {
    let group = lookup_group(tgid).ok_or(Errno::ESRCH)?;
    let leads = || group.leads_session() && terminal.job().session().is_some_and(|s| s.number() == group.sid());
    if !readable && !leads() {
        return Err(Errno::EPERM);
    }
    attach(&group, terminal, may_steal)
}

/// The opening of a terminal without O_NOCTTY by a session leader that has none.
pub fn claim_opened(tgid: u32, terminal: &Arc<dyn Terminal>) {
    if let Some(group) = lookup_group(tgid)
        && group.leads_session()
        && terminal.job().session().is_none()
    {
        let _ = attach(&group, terminal, false);
    }
}

/// TIOCNOTTY: a session leader takes the terminal from the whole session, another process gives up its own.
///
/// # Errors
/// `ENOTTY` if it is not the controlling terminal.
pub fn give_up(tgid: u32, terminal: &dyn Terminal) -> Result {
    let group = lookup_group(tgid).ok_or(Errno::ESRCH)?;
    if !group.is_controlled_by(terminal) {
        return Err(Errno::ENOTTY);
    }
    if group.leads_session() {
        disassociate(&group, true);
    }
    let gone = group.controlling.lock().terminal.take();
    drop(gone);
    Ok(())
}

/// A session leader ends: its foreground group is hung up, the terminal is free.
pub(super) fn leader_ends(group: &ThreadGroup) {
    disassociate(group, false);
}

/// `disassociate_ctty` of a session leader. `lives`: the leader does not end.
fn disassociate(group: &ThreadGroup, lives: bool) {
    let (terminal, last) = {
        let mut own = group.controlling.lock();
        (own.terminal.clone(), own.last_foreground.take())
    };
    let Some(terminal) = terminal else {
        if let Some(pgrp) = last.filter(|_| !lives) {
            signal_group(&pgrp, SIGHUP);
            signal_group(&pgrp, SIGCONT);
        }
        return;
    };
    terminal.job().signal(SIGHUP);
    if lives {
        terminal.job().signal(SIGCONT);
    }
    let tree = tree::lock();
    let session = group.session();
    let mine = terminal.job().session().is_some_and(|s| Arc::ptr_eq(&s, &session));
    let old = mine.then(|| terminal.job().clear());
    leave_all(&session, &*terminal);
    drop(tree);
    drop((old, terminal));
}

/// The terminal hangs up: its session loses it, and the leader is told by SIGHUP and SIGCONT
/// (`tty_signal_session_leader`).
pub fn hang_up(terminal: &dyn Terminal) {
    let tree = tree::lock();
    let old = terminal.job().clear();
    let mut leader = None;
    if let Some(session) = &old.session {
        leave_all(session, terminal);
        leader = session.process().filter(|g| g.leads_session());
        if let Some(leader) = &leader {
            let before = core::mem::replace(&mut leader.controlling.lock().last_foreground, old.foreground.clone());
            drop(before);
        }
    }
    drop(tree);
    if let Some(leader) = leader {
        let _ = leader.send(&info::plain(SIGHUP, info::SI_KERNEL));
        let _ = leader.send(&info::plain(SIGCONT, info::SI_KERNEL));
    }
    drop(old);
}

/// An entry of the list of terminals whose hang-up is still to be told. Each terminal has its own, so that
/// nothing has to be made when its last descriptor is closed.
struct HangUp {
    terminal: Option<Arc<dyn Terminal>>,
    next: Option<Box<HangUp>>,
}

static HUNG_UP: Mutex<Option<Box<HangUp>>> = Mutex::new(Level::Leaf, None);
/// Whether the list has entries.
static ANY_HUNG_UP: AtomicBool = AtomicBool::new(false);

/// As [`hang_up`], by the running thread's exit work: a terminal's last descriptor may be closed under locks.
pub fn hang_up_later(terminal: Arc<dyn Terminal>) {
    let entry = terminal.job().entry.lock().take();
    let Some(mut entry) = entry else { return };
    entry.terminal = Some(terminal);
    {
        let mut list = HUNG_UP.lock();
        entry.next = list.take();
        *list = Some(entry);
        ANY_HUNG_UP.store(true, SeqCst);
    }
    arch::slot().kick_on_exit();
}

/// Tells of the hang-ups that are due.
pub fn run_hang_ups() {
    while ANY_HUNG_UP.load(SeqCst) {
        let mut entry = {
            let mut list = HUNG_UP.lock();
            let first = list.take();
            let Some(mut first) = first else { return };
            *list = first.next.take();
            ANY_HUNG_UP.store(list.is_some(), SeqCst);
            first
        };
        let Some(terminal) = entry.terminal.take() else { continue };
        *terminal.job().entry.lock() = Some(entry);
        hang_up(&*terminal);
    }
}

/// The process `tgid`, if the terminal is its controlling one.
fn controlled(tgid: u32, terminal: &dyn Terminal) -> Result<Arc<ThreadGroup>> {
    let group = lookup_group(tgid).ok_or(Errno::ESRCH)?;
    if group.is_controlled_by(terminal) { Ok(group) } else { Err(Errno::ENOTTY) }
}

/// TIOCGPGRP, 0 for none. `any`: whichever terminal the caller has, as through the master of a pty.
///
/// # Errors
/// `ENOTTY` if it is not the controlling terminal.
pub fn foreground(tgid: u32, terminal: &dyn Terminal, any: bool) -> Result<u32> {
    let group = if any { lookup_group(tgid).ok_or(Errno::ESRCH)? } else { controlled(tgid, terminal)? };
    Ok(terminal.job().foreground().map_or(0, |p| p.number_in(group.id.namespace())))
}

/// TIOCGSID; `any` as in [`foreground`].
///
/// # Errors
/// `ENOTTY` if it is not the controlling terminal, or controls nobody.
pub fn session_id(tgid: u32, terminal: &dyn Terminal, any: bool) -> Result<u32> {
    let group = if any { lookup_group(tgid).ok_or(Errno::ESRCH)? } else { controlled(tgid, terminal)? };
    let session = terminal.job().session().ok_or(Errno::ENOTTY)?;
    Ok(session.number_in(group.id.namespace()))
}

/// TIOCSPGRP, by a process that [`check_background`] let through.
///
/// # Errors
/// `ENOTTY`, `EINVAL`, `EPERM` for a group of another session, `ESRCH`.
pub fn set_foreground(tgid: u32, terminal: &dyn Terminal, pgid: i32) -> Result {
    let pgid = u32::try_from(pgid).map_err(|_| Errno::EINVAL)?;
    let group = controlled(tgid, terminal)?;
    let session = group.session();
    if !terminal.job().session().is_some_and(|s| Arc::ptr_eq(&s, &session)) {
        return Err(Errno::ENOTTY);
    }
    let tree = tree::lock();
    let pgrp = group.id.namespace().find(pgid).ok_or(Errno::ESRCH)?;
    // A process that leads no group stands for its own session (`session_of_pgrp`).
    let member = pgrp.members(Set::Group).first().cloned().or_else(|| pgrp.task().map(|t| t.group.clone()));
    if !member.is_some_and(|g| Arc::ptr_eq(&g.session(), &session)) {
        return Err(Errno::EPERM);
    }
    let old = {
        let mut state = terminal.job().state.lock();
        // It may have been hung up meanwhile.
        if !state.session.as_ref().is_some_and(|s| Arc::ptr_eq(s, &session)) {
            return Err(Errno::ENOTTY);
        }
        state.foreground.replace(pgrp)
    };
    drop(tree);
    drop(old);
    Ok(())
}

/// Stops a background process that reads from its terminal (SIGTTIN), or changes it or, with TOSTOP,
/// writes to it (SIGTTOU). Nothing happens on a terminal that is not the controlling one.
///
/// # Errors
/// `EIO` when nobody could continue it; a restart after the signal.
pub fn check_background(tgid: u32, tid: u32, terminal: &dyn Terminal, signal: u32) -> SysResult<()> {
    let Ok(group) = controlled(tgid, terminal) else { return Ok(()) };
    let pgrp = group.pgrp();
    if terminal.job().foreground().is_none_or(|f| Arc::ptr_eq(&f, &pgrp)) {
        return Ok(());
    }
    let blocked = lookup(tid).is_some_and(|t| t.blocked.load(SeqCst) & bit(signal) != 0);
    let ignored = blocked || group.actions().get(signal).handler == SIG_IGN;
    if ignored {
        return if signal == SIGTTIN { Err(Errno::EIO.into()) } else { Ok(()) };
    }
    if ThreadGroup::pgrp_orphaned(group.pgid(), None) {
        return Err(Errno::EIO.into());
    }
    signal_group(&pgrp, signal);
    Err(SysError::Restart(Restart::Sys))
}

/// `setsid(2)`.
///
/// # Errors
/// `EPERM` for the leader of a process group.
pub fn set_sid(cur: &CurrentTask) -> Result<u32> {
    let group = &cur.group;
    let tree = tree::lock();
    if group.id.has_members(Set::Group) {
        return Err(Errno::EPERM);
    }
    tree.move_to_session(group, &group.id);
    tree.move_to_group(group, &group.id);
    let terminal = group.controlling.lock().terminal.take();
    drop(tree);
    drop(terminal);
    Ok(group.shown)
}

/// `setpgid(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EACCES` for a child that has called exec, `EPERM`.
pub fn set_pgid(cur: &CurrentTask, pid: i32, pgid: i32) -> Result {
    if pgid < 0 || pgid == 0 && pid < 0 {
        return Err(Errno::EINVAL);
    }
    let ns = cur.pid_namespace();
    let pid = if pid == 0 { cur.group.shown } else { pid as u32 };
    let pgid = if pgid == 0 { pid } else { pgid as u32 };
    let tree = tree::lock();
    let target = ns.process(pid).ok_or(Errno::ESRCH)?;
    if pid != cur.group.shown {
        if target.ppid() != cur.group.pid {
            return Err(Errno::ESRCH);
        }
        if target.sid() != cur.group.sid() {
            return Err(Errno::EPERM);
        }
        if target.did_exec.load(SeqCst) {
            return Err(Errno::EACCES);
        }
    }
    if target.sid() == target.pid {
        return Err(Errno::EPERM);
    }
    let pgrp = if pgid == pid { Some(target.id.clone()) } else { ns.find(pgid) };
    let in_session = |g: &Arc<ThreadGroup>| g.sid() == cur.group.sid();
    let pgrp = pgrp.filter(|p| pgid == pid || p.any_member(Set::Group, in_session)).ok_or(Errno::EPERM)?;
    tree.move_to_group(&target, &pgrp);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::test_support::group;

    #[derive(Default)]
    struct Fake(Job);

    impl Terminal for Fake {
        fn device(&self) -> u64 {
            77
        }
        fn job(&self) -> &Job {
            &self.0
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    #[test]
    fn one_terminal_one_session() {
        let (a, b) = (group(9001, 9001, 9001), group(9002, 9002, 9002));
        let member = group(9003, 9003, 9001);
        let (one, two): (Arc<dyn Terminal>, Arc<dyn Terminal>) = (Arc::new(Fake::default()), Arc::new(Fake::default()));
        assert_eq!(attach(&member, &one, false), Err(Errno::EPERM), "only a leader");
        attach(&a, &one, false).unwrap();
        attach(&a, &one, false).unwrap();
        member.inherit_terminal(&a);
        assert_eq!(attach(&b, &one, false), Err(Errno::EPERM));
        assert_eq!(attach(&a, &two, false), Err(Errno::EPERM), "one terminal a session");
        assert_eq!(a.shown_terminal(), (77, 9001));
        assert_eq!(foreground(9003, &*one, false), Ok(9001));
        assert_eq!(foreground(9002, &*one, false), Err(Errno::ENOTTY));
        assert_eq!(set_foreground(9003, &*one, 9003), Ok(()));
        assert_eq!(set_foreground(9003, &*one, 9002), Err(Errno::EPERM), "another session");
        attach(&b, &one, true).unwrap();
        assert!(a.terminal().is_none() && member.terminal().is_none());
        leader_ends(&b);
        assert!(b.terminal().is_none() && one.job().session().is_none());
        attach(&a, &one, false).unwrap();
        hang_up_later(one.clone());
        hang_up_later(one.clone());
        run_hang_ups();
        assert_eq!(a.shown_terminal(), (0, -1));
        assert!(!ANY_HUNG_UP.load(SeqCst) && one.job().entry.lock().is_some());
    }
}
