//! The calls of `epoll(7)`.

use super::poll::with_mask;
use super::{Fd, at, files};
use crate::abi::linux::{__kernel_timespec as Timespec, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, O_CLOEXEC};
use crate::abi::{Errno, Restart, SysError, SysResult};
use crate::fs::epoll::{self, Collected};
use crate::mm::UserPtr;
use crate::sync::{Events, WaitEnd};
use crate::task::CurrentTask;
use crate::time;

/// `struct epoll_event`, which is packed: events, then eight bytes of data.
type Event = [u8; 12];

/// Most events of one call (`EP_MAX_EVENTS`).
const MAX_EVENTS: i32 = i32::MAX / 12;

/// `epoll_create1(2)`.
///
/// # Errors
/// `EINVAL`, `EMFILE`.
pub fn sys_epoll_create1(cur: &CurrentTask, flags: u32) -> SysResult<Fd> {
    at::only(flags, O_CLOEXEC)?;
    files::install(cur, epoll::epoll(&cur.op_ctx()), flags)
}

/// `epoll_create(2)`.
///
/// # Errors
/// `EINVAL`, `EMFILE`.
pub fn sys_epoll_create(cur: &CurrentTask, size: i32) -> SysResult<Fd> {
    if size <= 0 {
        return Err(Errno::EINVAL.into());
    }
    sys_epoll_create1(cur, 0)
}

/// `epoll_ctl(2)`.
///
/// # Errors
/// `EBADF`, `EINVAL`, `EEXIST`, `ENOENT`, `EPERM`, `ELOOP`, `EFAULT`.
pub fn sys_epoll_ctl(cur: &CurrentTask, epfd: Fd, op: u32, fd: Fd, event: UserPtr<Event>) -> SysResult<()> {
    let (mut mask, mut data) = (0, 0);
    if op != EPOLL_CTL_DEL {
        let [a, b, c, d, rest @ ..] = event.read()?;
        mask = u32::from_ne_bytes([a, b, c, d]);
        data = u64::from_ne_bytes(rest);
    }
    let instance = cur.file(epfd.0)?;
    let file = cur.file(fd.0)?;
    if file.ops.wait_queue().is_none() {
        return Err(Errno::EPERM.into());
    }
    let ep = epoll::of_file(&instance)?;
    if core::ptr::eq(&*instance, &*file) {
        return Err(Errno::EINVAL.into());
    }
    let outcome = match op {
        EPOLL_CTL_ADD => ep.add(fd.0, &cur.files().get(fd.0)?, mask, data),
        EPOLL_CTL_MOD => ep.modify(fd.0, &file, mask, data),
        EPOLL_CTL_DEL => ep.delete(fd.0, &file),
        _ => Err(Errno::EINVAL),
    };
    Ok(outcome?)
}

/// Waits until `deadline` (host monotonic ns; `None`: for ever, 0: not at all).
fn wait(cur: &CurrentTask, epfd: Fd, out: UserPtr<Event>, max: i32, deadline: Option<u64>) -> SysResult<usize> {
    let file = cur.file(epfd.0)?;
    if !(1..=MAX_EVENTS).contains(&max) {
        return Err(Errno::EINVAL.into());
    }
    crate::mm::accessible(out.addr(), max as u64 * size_of::<Event>() as u64)?;
    let ep = epoll::of_file(&file)?;
    let most = max as usize;
    let mut events = Collected::default();
    ep.collect(most, &mut events);
    if events.is_empty() {
        if deadline == Some(0) {
            return Ok(0);
        }
        let mut collect = || {
            ep.collect(most, &mut events);
            (!events.is_empty()).then_some(())
        };
        match ep.queue().wait_exclusive(Events::IN, deadline, &mut collect) {
            Ok(()) => {}
            Err(WaitEnd::TimedOut) => return Ok(0),
            Err(WaitEnd::Interrupted) => return Err(SysError::Restart(Restart::NoHand)),
        }
    }
    for (i, e) in events.iter().enumerate() {
        let mut event = [0; 12];
        event[..4].copy_from_slice(&e.bits.to_ne_bytes());
        event[4..].copy_from_slice(&e.data.to_ne_bytes());
        if let Err(e) = out.add(i).write(event) {
            // What cannot be told stays ready; what was told counts.
            ep.give_back(events.iter().skip(i));
            return if i > 0 { Ok(i) } else { Err(e.into()) };
        }
    }
    Ok(events.len())
}

fn millis(timeout: i32) -> Option<u64> {
    match timeout {
        0 => Some(0),
        ms if ms < 0 => None,
        ms => Some(time::deadline_in(ms as u64 * 1_000_000)),
    }
}

/// `epoll_wait(2)`.
///
/// # Errors
/// `EBADF`, `EINVAL`, `EFAULT`; interrupted.
pub fn sys_epoll_wait(cur: &CurrentTask, epfd: Fd, out: UserPtr<Event>, max: i32, timeout: i32) -> SysResult<usize> {
    wait(cur, epfd, out, max, millis(timeout))
}

/// `epoll_pwait(2)`.
///
/// # Errors
/// As [`sys_epoll_wait`].
pub fn sys_epoll_pwait(
    cur: &CurrentTask,
    epfd: Fd,
    out: UserPtr<Event>,
    max: i32,
    timeout: i32,
    mask: UserPtr<u64>,
    size: usize,
) -> SysResult<usize> {
    let mask = super::signal::optional_mask(mask, size)?;
    with_mask(cur, mask, || wait(cur, epfd, out, max, millis(timeout)))
}

/// `epoll_pwait2(2)`.
///
/// # Errors
/// As [`sys_epoll_wait`].
pub fn sys_epoll_pwait2(
    cur: &CurrentTask,
    epfd: Fd,
    out: UserPtr<Event>,
    max: i32,
    timeout: UserPtr<Timespec>,
    mask: UserPtr<u64>,
    size: usize,
) -> SysResult<usize> {
    let deadline = match timeout.option() {
        None => None,
        Some(t) => match super::time::to_ns(t.read()?)? {
            0 => Some(0),
            ns => Some(time::deadline_in(ns as u64)),
        },
    };
    let mask = super::signal::optional_mask(mask, size)?;
    with_mask(cur, mask, || wait(cur, epfd, out, max, deadline))
}
