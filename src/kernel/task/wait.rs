//! `wait4(2)`, `waitid(2)`.

use super::group::{Run, ThreadGroup};
use super::signals::cld;
use super::{CurrentTask, Task, exit, trace, tree};
use crate::abi::linux::{WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED};
use crate::abi::{Errno, SysResult, linux};
use crate::sync::{Events, WaitEnd};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;

/// Whom to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Any child.
    Any,
    /// This one.
    Pid(u32),
    /// Any of this process group.
    Group(u32),
}

/// `__WCLONE`: children with another exit signal than SIGCHLD; `__WALL`: all.
const WCLONE: u32 = 0x8000_0000;
const WALL: u32 = 0x4000_0000;
/// `__WNOTHREAD`: only the calling thread's own children.
const WNOTHREAD: u32 = 0x2000_0000;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The child, as the parent's pid namespace knows it.
    pub pid: u32,
    /// `CLD_*`.
    pub code: i32,
    /// Exit status or signal, as `siginfo_t` has it.
    pub value: i32,
    /// As `wait4` encodes it.
    pub status: i32,
    /// User and system time of the child, ns.
    pub times: (u64, u64),
    /// What it used besides time, with its reaped children: see [`super::group::Usage::get`].
    pub usage: (u64, [u64; 6]),
    /// Real user id.
    pub uid: u32,
}

/// Waits for a change of a child. `None` with WNOHANG when nothing has changed.
///
/// # Errors
/// `ECHILD`; a restart when interrupted.
pub fn wait(cur: &CurrentTask, who: Who, options: u32) -> SysResult<Option<Outcome>> {
    let group = &cur.group;
    let look = || match scan(cur, who, options) {
        Ok(None) if options & WNOHANG == 0 => None,
        other => Some(other),
    };
    match group.children_wait.wait_until(Events::all(), None, look) {
        Ok(result) => Ok(result?),
        Err(WaitEnd::Interrupted) => Err(crate::sync::Interrupted.into()),
        Err(WaitEnd::TimedOut) => Err(Errno::EAGAIN.into()),
    }
}

/// Whether the caller's thread made the child, or has it from a thread that has ended.
fn of_this_thread(cur: &CurrentTask, child: &ThreadGroup) -> bool {
    let maker = child.parent_tid.load(SeqCst);
    let lives = |tid: u32| cur.group.tasks().iter().any(|t| t.tid() == tid && !t.leaving.load(SeqCst));
    maker == cur.tid() || !lives(maker) && cur.group.any_task().is_some_and(|t| t.tid() == cur.tid())
}

fn scan(cur: &CurrentTask, who: Who, options: u32) -> Result<Option<Outcome>, Errno> {
    let group = &cur.group;
    let (mut any, seen) = scan_tracees(group, who, options);
    if let Some(out) = seen {
        return Ok(Some(out));
    }
    let tree = tree::lock();
    // Those that have something to tell are few, however many children there are.
    let mut from = 0;
    while let Some(child) = next_to_tell(group, who, from) {
        from = child.pid + 1;
        if !wanted(cur, &child, who, options) {
            continue;
        }
        // A zombie that nobody asks for will have nothing else to tell.
        any |= options & WEXITED != 0 || !child.is_zombie();
        // Of a tracee that is a child the tracer hears of each thread's stops, and as a parent that it went on.
        let traced = child.held.load(SeqCst) || child.any_task().is_some_and(|t| is_tracee(&t, group));
        let told = if traced { options & !(WEXITED | WSTOPPED) } else { options };
        if let Some(out) = look_at(group, &child, told) {
            if out.code <= cld::DUMPED && options & WNOWAIT == 0 {
                reap(group, &child, &tree);
            }
            return Ok(Some(out));
        }
        forget_if_quiet(group, &child);
    }
    let mut from = if matches!(who, Who::Pid(_)) { u32::MAX } else { 0 };
    while !any && let Some(child) = next_child(group, from) {
        from = child.pid + 1;
        any = wanted(cur, &child, who, options) && (options & WEXITED != 0 || !child.is_zombie());
    }
    if any { Ok(None) } else { Err(Errno::ECHILD) }
}

/// Whether a child is one of those that are waited for.
fn wanted(cur: &CurrentTask, child: &ThreadGroup, who: Who, options: u32) -> bool {
    let matches = match who {
        Who::Any => true,
        Who::Pid(pid) => child.pid == pid,
        Who::Group(pgid) => child.pgid() == pgid,
    };
    if !matches {
        return false;
    }
    let is_clone = child.state.lock().exit_signal != linux::SIGCHLD;
    (options & WALL != 0 || is_clone == (options & WCLONE != 0))
        && (options & WNOTHREAD == 0 || of_this_thread(cur, child))
}

fn next_child(group: &ThreadGroup, from: u32) -> Option<Arc<ThreadGroup>> {
    group.state.lock().children.range(from..).next().map(|(_, child)| child.clone())
}

/// The next child, by pid, that may have something to tell; one that is asked for by its pid may always.
fn next_to_tell(group: &ThreadGroup, who: Who, from: u32) -> Option<Arc<ThreadGroup>> {
    let mut state = group.state.lock();
    if let Who::Pid(pid) = who {
        return state.children.get(&pid).filter(|_| from <= pid).cloned();
    }
    loop {
        let pid = *state.telling.range(from..).next()?;
        if let Some(child) = state.children.get(&pid) {
            return Some(child.clone());
        }
        state.telling.remove(&pid);
    }
}

/// Takes a child off those that may have something to tell. What changes about it meanwhile puts it there again: it is
/// looked at once more after it was taken off, and whoever changes it enters it afterwards.
fn forget_if_quiet(group: &ThreadGroup, child: &ThreadGroup) {
    let quiet = || {
        let state = child.state.lock();
        match state.run {
            Run::Zombie => false,
            Run::Stopped(_) => !state.stop_unreported,
            Run::Running => !state.cont_unreported,
        }
    };
    if quiet() {
        group.state.lock().telling.remove(&child.pid);
        if !quiet() {
            group.state.lock().telling.insert(child.pid);
        }
    }
}

fn is_tracee(task: &Task, tracer: &Arc<ThreadGroup>) -> bool {
    task.is_traced() && task.tracer().is_some_and(|t| Arc::ptr_eq(&t, tracer))
}

/// What tracees have to tell: each thread by itself, whatever its exit signal.
fn scan_tracees(group: &Arc<ThreadGroup>, who: Who, options: u32) -> (bool, Option<Outcome>) {
    let keep = options & WNOWAIT != 0;
    let wanted = |t: &Task| match who {
        Who::Any => true,
        Who::Pid(pid) => t.tid() == pid,
        Who::Group(pgid) => t.group.pgid() == pgid,
    };
    let (any, seen) = trace::scan(group, keep, options & WEXITED != 0, wanted);
    let Some(seen) = seen else { return (any, None) };
    let pid = group.id.namespace().seen(seen.task.tid());
    if seen.ended && !keep {
        exit::release(&seen.task);
    }
    let (code, value) = match seen.ended {
        true => exit::code_and_value(seen.status),
        false => (trace::CLD_TRAPPED, seen.status >> 8),
    };
    let uid = seen.task.cred().uid;
    (any, Some(Outcome { pid, code, value, status: seen.status, times: (0, 0), usage: (0, [0; 6]), uid }))
}

fn look_at(parent: &ThreadGroup, child: &Arc<ThreadGroup>, options: u32) -> Option<Outcome> {
    let with_children = |i: usize| child.cpu_time(i, 0) + child.times[i + 2].load(SeqCst);
    let times = (with_children(0), with_children(1));
    let (own, below) = (child.usage[0].get(), child.usage[1].get());
    let usage = (own.0.max(below.0), core::array::from_fn(|i| own.1[i] + below.1[i]));
    let pid = child.id.number_in(parent.id.namespace());
    let mut state = child.state.lock();
    let uid = state.uid;
    let out = |code, value, status| Some(Outcome { pid, code, value, status, times, usage, uid });
    let keep = options & WNOWAIT != 0;
    match state.run {
        Run::Zombie if options & WEXITED != 0 => {
            let status = state.exiting.unwrap_or(0);
            match status & 0x7f {
                0 => out(cld::EXITED, status >> 8 & 0xff, status),
                sig if status & 0x80 != 0 => out(cld::DUMPED, sig, status),
                sig => out(cld::KILLED, sig, status),
            }
        }
        Run::Stopped(sig) if options & WSTOPPED != 0 && state.stop_unreported => {
            state.stop_unreported = keep;
            out(cld::STOPPED, sig as i32, (sig as i32) << 8 | 0x7f)
        }
        Run::Running if options & WCONTINUED != 0 && state.cont_unreported => {
            state.cont_unreported = keep;
            out(cld::CONTINUED, linux::SIGCONT as i32, 0xffff)
        }
        _ => None,
    }
}

fn reap(parent: &Arc<ThreadGroup>, child: &Arc<ThreadGroup>, tree: &tree::Guard) {
    // In this order: one that is ended in between still has the child, and leaves it to its heir.
    tree.remove_process(child);
    parent.state.lock().remove_child(child.pid);
    for i in 0..2 {
        let spent = child.cpu_time(i, 0) + child.times[i + 2].load(SeqCst);
        parent.times[i + 2].fetch_add(spent, SeqCst);
    }
    for usage in &child.usage {
        let (max_rss, counts) = usage.get();
        parent.usage[1].add(max_rss, counts);
    }
}
