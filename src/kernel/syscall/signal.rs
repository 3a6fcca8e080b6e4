//! Signals: `rt_sigaction(2)`, `rt_sigprocmask(2)`, `kill(2)`, `sigaltstack(2)` …

use super::time::to_ns;
use crate::abi::linux::{
    __kernel_timespec, MINSIGSTKSZ, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGSEGV, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK,
};
use crate::abi::sigctx::{SigInfo, SigStack};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::cred;
use crate::mm::UserPtr;
use crate::signal::{NSIG, SIG_DFL, SIG_IGN, SigAction, UNBLOCKABLE, bit, default_action, frame, info};
use crate::sync::{Events, Kind, On, WaitEnd, WaitQueue, wait};
use crate::task::{CurrentTask, ThreadGroup, access, tree};
use crate::time;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

fn check_size(size: usize) -> Result {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `rt_sigaction(2)`.
pub fn sys_rt_sigaction(
    cur: &CurrentTask,
    sig: u32,
    new: UserPtr<SigAction>,
    old: UserPtr<SigAction>,
    size: usize,
) -> SysResult<()> {
    check_size(size)?;
    let new = new.option().map(|p| p.read()).transpose()?;
    if !(1..=NSIG).contains(&sig) || new.is_some() && UNBLOCKABLE & bit(sig) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let actions = cur.group.actions();
    let was = match new {
        Some(mut a) => {
            a.mask &= !UNBLOCKABLE;
            let was = actions.set(sig, a);
            let ignored =
                a.handler == SIG_IGN || a.handler == SIG_DFL && default_action(sig) == crate::signal::Default::Ignore;
            if ignored {
                // What is pending and now ignored is gone (POSIX).
                cur.group.pending.lock().discard(bit(sig));
                for t in cur.group.tasks() {
                    t.pending.lock().discard(bit(sig));
                }
            }
            was
        }
        None => actions.get(sig),
    };
    if let Some(p) = old.option() {
        p.write(was)?;
    }
    Ok(())
}

/// `rt_sigprocmask(2)`.
pub fn sys_rt_sigprocmask(
    cur: &CurrentTask,
    how: u32,
    set: UserPtr<u64>,
    old: UserPtr<u64>,
    size: usize,
) -> SysResult<()> {
    check_size(size)?;
    let was = cur.blocked.load(SeqCst);
    if let Some(p) = set.option() {
        let set = p.read()?;
        let new = match how {
            SIG_BLOCK => was | set,
            SIG_UNBLOCK => was & !set,
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL.into()),
        };
        cur.set_blocked(new);
    }
    if let Some(p) = old.option() {
        p.write(was)?;
    }
    Ok(())
}

/// `rt_sigpending(2)`.
pub fn sys_rt_sigpending(cur: &CurrentTask, out: UserPtr<u64>, size: usize) -> SysResult<()> {
    if size > 8 {
        return Err(Errno::EINVAL.into());
    }
    let set = (cur.pending.lock().set() | cur.group.pending.lock().set()) & cur.blocked.load(SeqCst);
    Ok(out.cast::<u8>().slice(size).write_from(&set.to_le_bytes()[..size])?)
}

/// Sleeps until a kick.
fn sleep_until_signal() -> SysError {
    let queue = WaitQueue::of(Kind::Suspend);
    let _ = queue.wait_until(Events::all(), None, || None::<()>);
    SysError::Restart(Restart::NoHand)
}

/// `rt_sigsuspend(2)`.
pub fn sys_rt_sigsuspend(cur: &CurrentTask, mask: UserPtr<u64>, size: usize) -> SysResult<()> {
    check_size(size)?;
    let mask = mask.read()?;
    let old = cur.blocked.load(SeqCst);
    cur.set_blocked(mask);
    cur.save_mask(old);
    Err(sleep_until_signal())
}

/// `pause(2)`.
pub fn sys_pause(_cur: &CurrentTask) -> SysResult<()> {
    Err(sleep_until_signal())
}

/// `rt_sigtimedwait(2)`.
pub fn sys_rt_sigtimedwait(
    cur: &CurrentTask,
    set: UserPtr<u64>,
    out: UserPtr<SigInfo>,
    timeout: UserPtr<__kernel_timespec>,
    size: usize,
) -> SysResult<u32> {
    check_size(size)?;
    let set = set.read()? & !UNBLOCKABLE;
    let deadline = match timeout.option() {
        None => None,
        Some(p) => Some(time::deadline_in(to_ns(p.read()?)? as u64)),
    };
    // Counted before it looks: whoever sends meanwhile wakes it.
    cur.group.sig_waits.fetch_add(1, SeqCst);
    let info = await_signal(cur, set, deadline);
    cur.group.sig_waits.fetch_sub(1, SeqCst);
    let info = info?;
    if let Some(p) = out.option() {
        p.write(info)?;
    }
    Ok(info.signo as u32)
}

/// Sleeps until a signal of `set` can be taken.
fn await_signal(cur: &CurrentTask, set: u64, deadline: Option<u64>) -> Result<SigInfo> {
    let slot = crate::arch::slot();
    loop {
        let ticket = slot.waker.ticket();
        if let Some(info) = cur.take_signal(set) {
            return Ok(info);
        }
        let Err(end) = wait::sleep(slot, On::the(Kind::Signal), ticket, deadline) else { continue };
        let none = match end {
            WaitEnd::TimedOut => Errno::EAGAIN,
            WaitEnd::Interrupted => Errno::EINTR,
        };
        return cur.take_signal(set).ok_or(none);
    }
}

/// `rt_sigreturn(2)`.
pub fn sys_rt_sigreturn(cur: &CurrentTask) -> SysResult<u64> {
    match frame::restore(cur.frame()) {
        Ok(r) => {
            cur.set_blocked(r.mask);
            let on = frame::on_altstack(&cur.altstack.lock(), cur.frame().rsp);
            if !on {
                // As restore_altstack(): a bad one is ignored.
                let _ = set_altstack(cur, r.stack);
            }
            Ok(cur.frame().rax)
        }
        Err(_) => {
            cur.force_signal(&info::plain(SIGSEGV, info::SI_KERNEL));
            Ok(cur.frame().rax)
        }
    }
}

fn set_altstack(cur: &CurrentTask, new: SigStack) -> Result {
    let flags = new.flags as u32;
    // What changes nothing is not looked at; who never had one has one of no size, and not a disabled one.
    let was = *cur.altstack.lock();
    let was_flags = if was.size == 0 && was.sp == 0 { 0 } else { was.flags };
    if (new.sp, new.size, new.flags) == (was.sp, was.size, was_flags) {
        return Ok(());
    }
    if !matches!(flags & !SS_AUTODISARM, 0 | SS_DISABLE | SS_ONSTACK) {
        return Err(Errno::EINVAL);
    }
    let stack = if flags & SS_DISABLE != 0 {
        SigStack { sp: 0, flags: SS_DISABLE as i32, pad: 0, size: 0 }
    } else {
        if new.size < u64::from(MINSIGSTKSZ) {
            return Err(Errno::ENOMEM);
        }
        SigStack { flags: (flags & SS_AUTODISARM) as i32, ..new }
    };
    *cur.altstack.lock() = stack;
    Ok(())
}

/// `sigaltstack(2)`.
pub fn sys_sigaltstack(cur: &CurrentTask, new: UserPtr<SigStack>, old: UserPtr<SigStack>) -> SysResult<()> {
    let was = *cur.altstack.lock();
    let on = frame::on_altstack(&was, cur.frame().rsp) && was.flags as u32 & SS_AUTODISARM == 0;
    let new = new.option().map(|p| p.read()).transpose()?;
    if let Some(new) = new {
        if on {
            return Err(Errno::EPERM.into());
        }
        set_altstack(cur, new)?;
    }
    if let Some(p) = old.option() {
        let state = if was.size == 0 {
            SS_DISABLE as i32
        } else if on {
            SS_ONSTACK as i32
        } else {
            0
        };
        p.write(SigStack { flags: was.flags & i32::MIN | state, ..was })?;
    }
    Ok(())
}

fn valid(sig: i32) -> Result<u32> {
    u32::try_from(sig).ok().filter(|&s| s <= NSIG).ok_or(Errno::EINVAL)
}

/// Sends to one process; signal 0 only checks.
fn kill_one(cur: &CurrentTask, pid: u32, record: &SigInfo) -> Result {
    let group = group_of(cur, pid).ok_or(Errno::ESRCH)?;
    send_to(cur, &group, record)
}

/// The process with this number, or that of the thread with it.
fn group_of(cur: &CurrentTask, pid: u32) -> Option<Arc<ThreadGroup>> {
    cur.process_of(pid).or_else(|| cur.task_of(pid).map(|t| t.group.clone()))
}

fn send_to(cur: &CurrentTask, group: &Arc<ThreadGroup>, record: &SigInfo) -> Result {
    let sig = record.signo as u32;
    access::may_signal(cur.subject(), group, sig)?;
    if sig == 0 || group.is_zombie() {
        return Ok(());
    }
    group.send(record)
}

/// `kill(2)`.
pub fn sys_kill(cur: &CurrentTask, pid: i32, sig: i32) -> SysResult<()> {
    if valid(sig).is_err() && (pid == i32::MIN || pid > 0 && group_of(cur, pid as u32).is_none()) {
        // Whether there is anybody comes first.
        return Err(Errno::ESRCH.into());
    }
    let sig = valid(sig)?;
    let record = info::from_user(sig, info::SI_USER, cur.group.pid, cur.cred().uid);
    if pid > 0 {
        return Ok(kill_one(cur, pid as u32, &record)?);
    }
    // No child that a target makes meanwhile escapes.
    let _tree = tree::lock();
    let targets = match pid {
        -1 => {
            let ns = cur.pid_namespace();
            let mut all = ns.processes();
            all.retain(|g| g.id.number_in(ns) != 1 && g.pid != cur.group.pid);
            all
        }
        0 => tree::members(cur.group.pgid()),
        i32::MIN => return Err(Errno::ESRCH.into()),
        p => cur.members_of(p.unsigned_abs()),
    };
    let some = !targets.is_empty();
    match kill_all(cur, targets, &record) {
        // Those whom it may not reach do not count.
        Err(Errno::EPERM) if pid == -1 && some => Ok(()),
        other => Ok(other?),
    }
}

/// Sends to several processes; it succeeds if it does for one of them.
pub(super) fn kill_all(cur: &CurrentTask, targets: Vec<Arc<ThreadGroup>>, record: &SigInfo) -> Result {
    let mut outcome = Err(Errno::ESRCH);
    for g in targets {
        match send_to(cur, &g, record) {
            Ok(()) => outcome = Ok(()),
            Err(e) if outcome.is_err() => outcome = Err(e),
            Err(_) => {}
        }
    }
    outcome
}

fn kill_thread(cur: &CurrentTask, tgid: Option<i32>, tid: i32, record: &SigInfo) -> SysResult<()> {
    if tid <= 0 || tgid.is_some_and(|g| g <= 0) {
        return Err(Errno::EINVAL.into());
    }
    let sig = record.signo as u32;
    // To oneself (`raise`, `abort`): one may, and nothing is to be looked up.
    if tid as u32 == cur.shown_tid() && tgid.is_none_or(|g| g as u32 == cur.group.shown) {
        return if sig == 0 { Ok(()) } else { Ok(cur.send_under(record, cur.cred())?) };
    }
    let task = cur.task_of(tid as u32).ok_or(Errno::ESRCH)?;
    if tgid.is_some_and(|g| g as u32 != cur.seen_pid(task.group.pid)) {
        return Err(Errno::ESRCH.into());
    }
    access::may_signal(cur.subject(), &task.group, sig)?;
    if sig != 0 {
        task.send(record)?;
    }
    Ok(())
}

/// `tgkill(2)`.
pub fn sys_tgkill(cur: &CurrentTask, tgid: i32, tid: i32, sig: i32) -> SysResult<()> {
    if valid(sig).is_err() && tgid > 0 && tid > 0 {
        // Whether there is anybody comes first.
        let task = cur.task_of(tid as u32).filter(|t| cur.seen_pid(t.group.pid) == tgid as u32);
        return Err(if task.is_some() { Errno::EINVAL } else { Errno::ESRCH }.into());
    }
    let record = info::from_user(valid(sig)?, info::SI_TKILL, cur.group.pid, cur.cred().uid);
    kill_thread(cur, Some(tgid), tid, &record)
}

/// `tkill(2)`.
pub fn sys_tkill(cur: &CurrentTask, tid: i32, sig: i32) -> SysResult<()> {
    if valid(sig).is_err() && tid > 0 && cur.task_of(tid as u32).is_none() {
        return Err(Errno::ESRCH.into());
    }
    let record = info::from_user(valid(sig)?, info::SI_TKILL, cur.group.pid, cur.cred().uid);
    kill_thread(cur, None, tid, &record)
}

fn queued(cur: &CurrentTask, to: i32, sig: i32, ptr: UserPtr<SigInfo>) -> Result<SigInfo> {
    let mut record = stated_by_user(sig, ptr)?;
    // Only a process itself may claim to be the kernel.
    if (record.code >= 0 || record.code == info::SI_TKILL) && to as u32 != cur.shown_tid() {
        return Err(Errno::EPERM);
    }
    if valid(sig).is_err() && to > 0 && cur.task_of(to as u32).is_none() {
        return Err(Errno::ESRCH);
    }
    record.signo = valid(sig)? as i32;
    Ok(stated(cur, record))
}

/// A record as it stands in a program's memory. One of a form that the kernel does not know must be empty where its own
/// records end (`post_copy_siginfo_from_user`).
fn stated_by_user(sig: i32, ptr: UserPtr<SigInfo>) -> Result<SigInfo> {
    /// Words of a record that the kernel has.
    const WORDS: usize = 4;
    let record = ptr.read()?;
    let most = match sig as u32 {
        crate::abi::linux::SIGILL => 11,
        crate::abi::linux::SIGFPE => 15,
        crate::abi::linux::SIGSEGV => 10,
        crate::abi::linux::SIGBUS => 5,
        crate::abi::linux::SIGSYS => 2,
        _ => 6,
    };
    let known = match record.code {
        0x80 => true,
        code if code > 0 => code <= most,
        code => code >= -7 || code == -60,
    };
    if !known && record.fields[WORDS..].iter().any(|&w| w != 0) {
        return Err(Errno::E2BIG);
    }
    Ok(record)
}

/// A record as a program states it, with its ids as the kernel knows them.
pub(super) fn stated(cur: &CurrentTask, mut record: SigInfo) -> SigInfo {
    let (pid, uid) = (record.fields[0] as u32, (record.fields[0] >> 32) as u32);
    let (pids, users) = (cur.pid_namespace(), &cur.cred().user_ns);
    if pids.level != 0 || users.level != 0 {
        let pid = pids.meant(pid).unwrap_or(0);
        let uid = users.meant(cred::Kind::User, uid).unwrap_or(u32::MAX);
        record.fields[0] = u64::from(pid) | u64::from(uid) << 32;
    }
    record
}

/// `rt_sigqueueinfo(2)`.
pub fn sys_rt_sigqueueinfo(cur: &CurrentTask, pid: i32, sig: i32, ptr: UserPtr<SigInfo>) -> SysResult<()> {
    let record = queued(cur, pid, sig, ptr)?;
    if pid <= 0 {
        return Err(Errno::ESRCH.into());
    }
    Ok(kill_one(cur, pid as u32, &record)?)
}

/// `rt_tgsigqueueinfo(2)`.
pub fn sys_rt_tgsigqueueinfo(cur: &CurrentTask, tgid: i32, tid: i32, sig: i32, ptr: UserPtr<SigInfo>) -> SysResult<()> {
    stated_by_user(sig, ptr)?;
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let record = queued(cur, tid, sig, ptr)?;
    kill_thread(cur, Some(tgid), tid, &record)
}

/// Refuses masks of another size than a signal set's, for `ppoll` and the like.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn optional_mask(mask: UserPtr<u64>, size: usize) -> Result<Option<u64>> {
    let Some(p) = mask.option() else { return Ok(None) };
    check_size(size)?;
    p.read().map(Some)
}
