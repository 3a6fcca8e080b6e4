//! Pipes, and descriptors of events, timers, signals, processes and anonymous memory.

use super::{Fd, at, files};
use crate::abi::linux::{
    __kernel_timespec, CLONE_THREAD, F_SEAL_EXEC, F_SEAL_SEAL, MFD_ALLOW_SEALING, MFD_CLOEXEC, MFD_EXEC,
    MFD_NOEXEC_SEAL, O_CLOEXEC, O_DIRECT, O_NONBLOCK, TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET,
};
use crate::abi::sigctx::SigInfo;
use crate::abi::{Errno, Result, SysResult};
use crate::fs::timerfd::When;
use crate::fs::{eventfd, memfs, pidfd, pipe, proc, signalfd, timerfd};
use crate::mm::user::bring_in;
use crate::mm::{UserPtr, UserStr};
use crate::signal::{NSIG, info};
use crate::task::clone::{self, Args};
use crate::task::pid::Set;
use crate::task::{CurrentTask, ThreadGroup, access, kernel};
use alloc::sync::Arc;

/// `O_NOTIFICATION_PIPE`.
const NOTIFICATIONS: u32 = crate::abi::linux::O_EXCL;

/// `pipe2(2)`.
pub fn sys_pipe2(cur: &CurrentTask, fds: UserPtr<[i32; 2]>, flags: u32) -> SysResult<()> {
    at::only(flags, O_CLOEXEC | O_NONBLOCK | O_DIRECT | NOTIFICATIONS)?;
    // Nothing is notified of by pipes.
    if flags & NOTIFICATIONS != 0 {
        return Err(Errno::ENOPKG.into());
    }
    let (read, write) = pipe::pipe(&cur.op_ctx(), flags & (O_NONBLOCK | O_DIRECT))?;
    let a = files::install(cur, read, flags)?;
    let b = match files::install(cur, write, flags) {
        Ok(b) => b,
        Err(e) => {
            let _ = cur.files().close(&cur.op_ctx(), a.0);
            return Err(e);
        }
    };
    if let Err(e) = fds.write([a.0, b.0]) {
        let _ = cur.files().close(&cur.op_ctx(), a.0);
        let _ = cur.files().close(&cur.op_ctx(), b.0);
        return Err(e.into());
    }
    Ok(())
}

/// `pipe(2)`.
pub fn sys_pipe(cur: &CurrentTask, fds: UserPtr<[i32; 2]>) -> SysResult<()> {
    sys_pipe2(cur, fds, 0)
}

/// `eventfd2(2)`.
pub fn sys_eventfd2(cur: &CurrentTask, initial: u32, flags: u32) -> SysResult<Fd> {
    let file = eventfd::eventfd(&cur.op_ctx(), initial, flags)?;
    files::install(cur, file, flags)
}

/// `eventfd(2)`.
pub fn sys_eventfd(cur: &CurrentTask, initial: u32) -> SysResult<Fd> {
    sys_eventfd2(cur, initial, 0)
}

/// `timerfd_create(2)`.
///
/// # Errors
/// `EINVAL`, `EMFILE`.
pub fn sys_timerfd_create(cur: &CurrentTask, clock: i32, flags: u32) -> SysResult<Fd> {
    files::install(cur, timerfd::timerfd(&cur.op_ctx(), clock, flags)?, flags)
}

/// `struct itimerspec`: interval and value, seconds and ns each.
type Itimerspec = [i64; 4];

fn itimerspec((left, interval): (u64, u64)) -> Itimerspec {
    let (i, v) = (super::time::from_ns(interval as i64), super::time::from_ns(left as i64));
    [i.tv_sec, i.tv_nsec, v.tv_sec, v.tv_nsec]
}

fn ns(sec: i64, nsec: i64) -> Result<i64> {
    super::time::to_ns(__kernel_timespec { tv_sec: sec, tv_nsec: nsec })
}

/// `timerfd_settime(2)`.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `EBADF`, `ECANCELED`.
pub fn sys_timerfd_settime(
    cur: &CurrentTask,
    fd: Fd,
    flags: u32,
    new: UserPtr<Itimerspec>,
    old: UserPtr<Itimerspec>,
) -> SysResult<()> {
    let [i_sec, i_nsec, v_sec, v_nsec] = new.read()?;
    at::only(flags, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)?;
    let (interval, value) = (ns(i_sec, i_nsec)? as u64, ns(v_sec, v_nsec)?);
    let timer = timerfd::of_file(&*cur.files().get(fd.0)?)?;
    let when = match value {
        0 => When::Never,
        at if flags & TFD_TIMER_ABSTIME != 0 => When::At(at.saturating_sub(cur.clock_ahead(timer.clock()))),
        ns => When::In(ns as u64),
    };
    let was = timer.set(when, interval, flags & TFD_TIMER_CANCEL_ON_SET != 0)?;
    if let Some(old) = old.option() {
        old.write(itimerspec(was))?;
    }
    Ok(())
}

/// `timerfd_gettime(2)`.
///
/// # Errors
/// `EBADF`, `EINVAL`, `EFAULT`.
pub fn sys_timerfd_gettime(cur: &CurrentTask, fd: Fd, out: UserPtr<Itimerspec>) -> SysResult<()> {
    let timer = timerfd::of_file(&*cur.files().get(fd.0)?)?;
    Ok(out.write(itimerspec(timer.left()))?)
}

/// `signalfd4(2)`.
///
/// # Errors
/// `EINVAL`, `EBADF`, `EFAULT`, `EMFILE`.
pub fn sys_signalfd4(cur: &CurrentTask, fd: Fd, mask: UserPtr<u64>, size: usize, flags: u32) -> SysResult<Fd> {
    if size != 8 {
        return Err(Errno::EINVAL.into());
    }
    let mask = mask.read()?;
    at::only(flags, O_CLOEXEC | O_NONBLOCK)?;
    if fd.0 != -1 {
        signalfd::set_mask(&*cur.files().get(fd.0)?, mask)?;
        return Ok(fd);
    }
    files::install(cur, signalfd::signalfd(&cur.op_ctx(), mask, flags)?, flags)
}

/// `signalfd(2)`.
///
/// # Errors
/// As [`sys_signalfd4`].
pub fn sys_signalfd(cur: &CurrentTask, fd: Fd, mask: UserPtr<u64>, size: usize) -> SysResult<Fd> {
    sys_signalfd4(cur, fd, mask, size, 0)
}

/// `memfd_create(2)`. Files of huge pages are not to be had: EINVAL, as where the kernel has none.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `EMFILE`, `ENOMEM`.
pub fn sys_memfd_create(cur: &CurrentTask, name: UserStr, flags: u32) -> SysResult<Fd> {
    at::only(flags, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC)?;
    if flags & MFD_NOEXEC_SEAL != 0 && flags & MFD_EXEC != 0 {
        return Err(Errno::EINVAL.into());
    }
    let name = name.read(250, Errno::EINVAL)?;
    let (mode, seals) = match flags & (MFD_NOEXEC_SEAL | MFD_ALLOW_SEALING) {
        0 => (0o777, F_SEAL_SEAL),
        MFD_ALLOW_SEALING => (0o777, 0),
        _ => (0o666, F_SEAL_EXEC),
    };
    let file = memfs::memfd(&cur.op_ctx(), &name, mode, seals)?;
    files::install(cur, file, if flags & MFD_CLOEXEC != 0 { O_CLOEXEC } else { 0 })
}

/// `memfd_secret(2)`.
///
/// # Errors
/// `EINVAL`, `EMFILE`.
pub fn sys_memfd_secret(cur: &CurrentTask, flags: u32) -> SysResult<Fd> {
    at::only(flags, O_CLOEXEC)?;
    files::install(cur, memfs::secret(&cur.op_ctx())?, flags)
}

/// `pidfd_open(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EMFILE`.
pub fn sys_pidfd_open(cur: &CurrentTask, pid: i32, flags: u32) -> SysResult<Fd> {
    at::only(flags, O_NONBLOCK | pidfd::THREAD)?;
    if pid <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let pid = cur.pid_namespace().find(pid as u32).filter(|p| p.task().is_some()).ok_or(Errno::ESRCH)?;
    if flags & pidfd::THREAD == 0 && pid.process().is_none() {
        // A thread that is not the leader.
        return Err(Errno::ENOENT.into());
    }
    files::install(cur, pidfd::pidfd(&cur.op_ctx(), &pid, flags), O_CLOEXEC)
}

/// `PIDFD_SIGNAL_THREAD`, `PIDFD_SIGNAL_THREAD_GROUP`, `PIDFD_SIGNAL_PROCESS_GROUP`.
const SIGNAL_THREAD: u32 = 1;
const SIGNAL_THREAD_GROUP: u32 = 2;
const SIGNAL_PROCESS_GROUP: u32 = 4;

/// `pidfd_send_signal(2)`.
///
/// # Errors
/// `EBADF`, `EINVAL`, `EPERM`, `ESRCH`, `EFAULT`.
pub fn sys_pidfd_send_signal(
    cur: &CurrentTask,
    fd: Fd,
    sig: i32,
    record: UserPtr<SigInfo>,
    flags: u32,
) -> SysResult<()> {
    at::only(flags, SIGNAL_THREAD | SIGNAL_THREAD_GROUP | SIGNAL_PROCESS_GROUP)?;
    if !flags.is_power_of_two() && flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = cur.files().get(fd.0)?;
    // A directory of /proc will do as well (`pidfd_to_pid` in `kernel/signal.c`).
    let pid = match pidfd::pid_of(&file) {
        Ok(pid) => pid,
        Err(e) => proc::process_of(&file).ok_or(e)?.id.clone(),
    };
    let scope = match flags {
        0 if pidfd::is_thread(&file).unwrap_or(false) => SIGNAL_THREAD,
        0 => SIGNAL_THREAD_GROUP,
        scope => scope,
    };
    let sig = u32::try_from(sig).ok().filter(|&s| s <= NSIG).ok_or(Errno::EINVAL)?;
    let record = match record.option() {
        None => info::from_user(sig, info::SI_USER, cur.group.pid, cur.cred().uid),
        Some(p) => {
            let r = p.read()?;
            if r.signo as u32 != sig {
                return Err(Errno::EINVAL.into());
            }
            let own = pid.number() == cur.tid() && scope != SIGNAL_PROCESS_GROUP;
            if (r.code >= 0 || r.code == info::SI_TKILL) && !own {
                return Err(Errno::EPERM.into());
            }
            super::signal::stated(cur, r)
        }
    };
    if scope == SIGNAL_PROCESS_GROUP {
        return Ok(super::signal::kill_all(cur, pid.members(Set::Group), &record)?);
    }
    let task = pid.task().ok_or(Errno::ESRCH)?;
    access::may_signal(cur.subject(), &task.group, sig)?;
    // A zombie is there, and takes nothing.
    if sig == 0 || task.group.is_zombie() {
        return Ok(());
    }
    let sent = if scope == SIGNAL_THREAD { task.send(&record) } else { task.group.send(&record) };
    Ok(sent?)
}

/// `clone` with CLONE_PIDFD: the descriptor's number goes to `out`.
///
/// # Errors
/// Those of `clone`, `EMFILE`, `EFAULT`.
pub fn clone_with_pidfd(cur: &CurrentTask, a: &Args, out: u64) -> SysResult<u32> {
    let kind = if a.flags & u64::from(CLONE_THREAD) != 0 { pidfd::THREAD } else { 0 };
    let number = UserPtr::<i32>::new(out);
    // What is wrong with it is said once there is something to be written.
    let _ = bring_in(out, 4, true);
    let mut installed = None;
    let outcome = clone::clone_with(cur, a, |child| {
        let pid = kernel().roots().pid.find(child.tid()).ok_or(Errno::ESRCH)?;
        let file = pidfd::pidfd(&cur.op_ctx(), &pid, kind);
        let fd = files::install(cur, file, O_CLOEXEC).map_err(|e| e.errno())?;
        installed = Some(fd);
        number.write_nofault(fd.0).map_err(|_| Errno::EFAULT)
    });
    if let (Err(_), Some(fd)) = (&outcome, installed) {
        let _ = cur.files().close(&cur.op_ctx(), fd.0);
    }
    outcome
}

/// The process behind a pidfd.
///
/// # Errors
/// `EBADF`.
pub fn group_of_pidfd(cur: &CurrentTask, fd: Fd) -> Result<Arc<ThreadGroup>> {
    pidfd::of_file(&*cur.files().get(fd.0)?)
}
