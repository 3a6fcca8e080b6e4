//! Sessions' controlling terminals and job control (`credentials(7)`, `ioctl_tty(2)`, `setpgid(2)`).
//!
//! A terminal is named by its device number; the host's job control is out of the game, because the
//! guest side has a host session of its own.

use super::pid::Set;
use super::{CurrentTask, ThreadGroup, kernel, lookup, lookup_group, tree};
use crate::abi::linux::{SIGCONT, SIGHUP, SIGTTIN, SIGTTOU};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::cred::cap;
use crate::signal::{SIG_IGN, bit, info};
use crate::sync::{Level, Mutex};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

/// A terminal that controls a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terminal {
    /// Its device number.
    pub device: u64,
    /// The session.
    pub sid: u32,
    /// The session's foreground process group.
    pub foreground: u32,
}

static TERMINALS: Mutex<Vec<Terminal>> = Mutex::new(Level::Leaf, Vec::new());

fn find(f: impl Fn(&Terminal) -> bool) -> Option<Terminal> {
    TERMINALS.lock().iter().find(|t| f(t)).copied()
}

/// The controlling terminal of a session.
pub fn of_session(sid: u32) -> Option<Terminal> {
    find(|t| t.sid == sid)
}

/// The foreground process group of the terminal that was attached first: whom the person at the
/// launcher's terminal means.
pub fn first_foreground() -> Option<u32> {
    TERMINALS.lock().first().map(|t| t.foreground)
}

/// Makes a terminal the session's (TIOCSCTTY, open of a terminal without O_NOCTTY, the launcher's).
///
/// # Errors
/// `EPERM` unless `group` leads a session without terminal and the terminal is free (or `steal`).
pub fn attach(group: &ThreadGroup, device: u64, steal: bool) -> Result {
    let mut terminals = TERMINALS.lock();
    if terminals.iter().any(|t| t.sid == group.sid() && t.device == device) && group.sid() == group.pid {
        return Ok(());
    }
    if group.sid() != group.pid || terminals.iter().any(|t| t.sid == group.sid()) {
        return Err(Errno::EPERM);
    }
    if terminals.iter().any(|t| t.device == device) {
        if !steal {
            return Err(Errno::EPERM);
        }
        terminals.retain(|t| t.device != device);
    }
    terminals.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    terminals.push(Terminal { device, sid: group.sid(), foreground: group.pgid() });
    Ok(())
}

/// TIOCSCTTY.
///
/// # Errors
/// `EPERM`.
pub fn set_controlling(tgid: u32, device: u64, force: bool) -> Result {
    let group = lookup_group(tgid).ok_or(Errno::ESRCH)?;
    let privileged = group.any_task().and_then(|t| t.shared()).is_some_and(|o| o.cred.capable(cap::SYS_ADMIN));
    attach(&group, device, force && privileged)
}

/// TIOCNOTTY: a session leader takes the terminal from the whole session.
///
/// # Errors
/// `ENOTTY` if it is not the controlling terminal.
pub fn give_up(tgid: u32, device: u64) -> Result {
    let group = lookup_group(tgid).ok_or(Errno::ESRCH)?;
    if find(|t| t.sid == group.sid() && t.device == device).is_none() {
        return Err(Errno::ENOTTY);
    }
    if group.sid() == group.pid {
        leader_ended(group.pid);
    }
    Ok(())
}

/// The leader of a session is gone: the foreground is hung up, the terminal is free.
pub(super) fn leader_ended(sid: u32) {
    let freed = {
        let mut terminals = TERMINALS.lock();
        let at = terminals.iter().position(|t| t.sid == sid);
        at.map(|at| terminals.remove(at))
    };
    let Some(terminal) = freed else { return };
    for g in tree::members(terminal.foreground).iter().filter(|g| g.pid != sid) {
        let _ = g.send(&info::plain(SIGHUP, info::SI_KERNEL));
        let _ = g.send(&info::plain(SIGCONT, info::SI_KERNEL));
    }
}

/// The terminal as the controlling one of the process `tgid`.
fn controlling(tgid: u32, device: u64) -> Result<(Arc<ThreadGroup>, Terminal)> {
    let group = lookup_group(tgid).ok_or(Errno::ESRCH)?;
    let terminal = find(|t| t.sid == group.sid() && t.device == device).ok_or(Errno::ENOTTY)?;
    Ok((group, terminal))
}

/// TIOCGPGRP.
///
/// # Errors
/// `ENOTTY` if it is not the controlling terminal.
pub fn foreground(tgid: u32, device: u64) -> Result<u32> {
    Ok(controlling(tgid, device)?.1.foreground)
}

/// TIOCGSID.
///
/// # Errors
/// `ENOTTY` if it is not the controlling terminal.
pub fn session_id(tgid: u32, device: u64) -> Result<u32> {
    Ok(controlling(tgid, device)?.1.sid)
}

/// TIOCSPGRP. From the background it raises SIGTTOU.
///
/// # Errors
/// `ENOTTY`, `EINVAL`, `EPERM` for a group of another session, `ESRCH`.
pub fn set_foreground(tgid: u32, tid: u32, device: u64, pgid: i32) -> SysResult<()> {
    check_background(tgid, tid, device, SIGTTOU)?;
    let (group, _) = controlling(tgid, device)?;
    if pgid < 0 {
        return Err(Errno::EINVAL.into());
    }
    let members = tree::members(pgid as u32);
    let first = members.first().ok_or(Errno::ESRCH)?;
    if first.sid() != group.sid() {
        return Err(Errno::EPERM.into());
    }
    for t in TERMINALS.lock().iter_mut().filter(|t| t.sid == group.sid()) {
        t.foreground = pgid as u32;
    }
    Ok(())
}

/// Stops a background process that reads from its terminal (SIGTTIN), or changes it or, with TOSTOP,
/// writes to it (SIGTTOU). Nothing happens on a terminal that is not the controlling one.
///
/// # Errors
/// `EIO` when nobody could continue it; a restart after the signal.
pub fn check_background(tgid: u32, tid: u32, device: u64, signal: u32) -> SysResult<()> {
    let Ok((group, terminal)) = controlling(tgid, device) else { return Ok(()) };
    if terminal.foreground == group.pgid() {
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
    for g in group.pgrp().members(Set::Group) {
        let _ = g.send(&info::plain(signal, info::SI_KERNEL));
    }
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
    Ok(group.pid)
}

/// `setpgid(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EACCES` for a child that has called exec, `EPERM`.
pub fn set_pgid(cur: &CurrentTask, pid: i32, pgid: i32) -> Result {
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    let pid = if pid == 0 { cur.group.pid } else { pid as u32 };
    let pgid = if pgid == 0 { pid } else { pgid as u32 };
    let tree = tree::lock();
    let target = lookup_group(pid).ok_or(Errno::ESRCH)?;
    if pid != cur.group.pid {
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
    let pgrp = if pgid == pid { Some(target.id.clone()) } else { kernel().roots().pid.find(pgid) };
    let in_session = |g: &Arc<ThreadGroup>| g.sid() == cur.group.sid();
    let pgrp = pgrp.filter(|p| pgid == pid || p.any_member(Set::Group, in_session)).ok_or(Errno::EPERM)?;
    tree.move_to_group(&target, &pgrp);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::test_support::group;

    #[test]
    fn one_terminal_one_session() {
        let (a, b) = (group(9001, 9001, 9001), group(9002, 9002, 9002));
        let member = group(9003, 9003, 9001);
        assert_eq!(attach(&member, 77, false), Err(Errno::EPERM), "only a leader");
        attach(&a, 77, false).unwrap();
        attach(&a, 77, false).unwrap();
        assert_eq!(attach(&b, 77, false), Err(Errno::EPERM));
        assert_eq!(attach(&a, 78, false), Err(Errno::EPERM), "one terminal a session");
        assert_eq!(of_session(9001).map(|t| t.foreground), Some(9001));
        attach(&b, 77, true).unwrap();
        assert_eq!(of_session(9001), None);
        leader_ended(9002);
        assert_eq!(of_session(9002), None);
    }
}
