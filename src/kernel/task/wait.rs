//! `wait4(2)`, `waitid(2)`.

use super::group::{Run, ThreadGroup};
use super::signals::cld;
use super::{CurrentTask, tree};
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

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The child.
    pub pid: u32,
    /// `CLD_*`.
    pub code: i32,
    /// Exit status or signal, as `siginfo_t` has it.
    pub value: i32,
    /// As `wait4` encodes it.
    pub status: i32,
    /// User and system time of the child, ns.
    pub times: (u64, u64),
    /// Real user id.
    pub uid: u32,
}

/// Waits for a change of a child. `None` with WNOHANG when nothing has changed.
///
/// # Errors
/// `ECHILD`; a restart when interrupted.
pub fn wait(cur: &CurrentTask, who: Who, options: u32) -> SysResult<Option<Outcome>> {
    let group = &cur.group;
    let look = || match scan(group, who, options) {
        Ok(None) if options & WNOHANG == 0 => None,
        other => Some(other),
    };
    match group.children_wait.wait_until(Events::all(), None, look) {
        Ok(result) => Ok(result?),
        Err(WaitEnd::Interrupted) => Err(crate::sync::Interrupted.into()),
        Err(WaitEnd::TimedOut) => Err(Errno::EAGAIN.into()),
    }
}

fn scan(group: &Arc<ThreadGroup>, who: Who, options: u32) -> Result<Option<Outcome>, Errno> {
    let mut tree = tree::lock();
    let children = group.state.lock().children.clone();
    let mut any = false;
    for child in children {
        let matches = match who {
            Who::Any => true,
            Who::Pid(pid) => child.pid == pid,
            Who::Group(pgid) => child.pgid() == pgid,
        };
        let is_clone = child.state.lock().exit_signal != linux::SIGCHLD;
        if !matches || options & WALL == 0 && is_clone != (options & WCLONE != 0) {
            continue;
        }
        any = true;
        if let Some(out) = look_at(&child, options) {
            if out.code <= cld::DUMPED && options & WNOWAIT == 0 {
                reap(group, &child, &mut tree);
            }
            return Ok(Some(out));
        }
    }
    if any { Ok(None) } else { Err(Errno::ECHILD) }
}

fn look_at(child: &Arc<ThreadGroup>, options: u32) -> Option<Outcome> {
    let times = (child.cpu_time(0, 0), child.cpu_time(1, 0));
    let mut state = child.state.lock();
    let uid = state.uid;
    let out = |code, value, status| Some(Outcome { pid: child.pid, code, value, status, times, uid });
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

fn reap(parent: &Arc<ThreadGroup>, child: &Arc<ThreadGroup>, tree: &mut tree::Guard) {
    tree.groups.remove(&child.pid);
    parent.state.lock().children.retain(|c| !Arc::ptr_eq(c, child));
    for i in 0..2 {
        let spent = child.cpu_time(i, 0) + child.times[i + 2].load(SeqCst);
        parent.times[i + 2].fetch_add(spent, SeqCst);
    }
}
