//! Asynchronous input and output (`io_submit(2)`).

use super::read_write::{MAX_COUNT, Place, RWF_KNOWN, has_positions, read_file, with_vecs, write_file};
use super::{poll, sched};
use crate::abi::linux::{__kernel_timespec, PROT_READ, PROT_WRITE, RWF_NOWAIT};
use crate::abi::{Errno, Result, SysError, SysResult};
use crate::fs::aio::{self, Context, Contexts, Done};
use crate::fs::eventfd;
use crate::host::sched::cpus;
use crate::mm::space::Request;
use crate::mm::user::range_ok;
use crate::mm::{IoDst, IoSrc, IoVec, UserPtr};
use crate::sync::Events;
use crate::task::CurrentTask;
use crate::vfs::{FileType, OpenFile};
use alloc::sync::Arc;
use core::mem::offset_of;

/// `struct iocb`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buf: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    signal: u32,
}
// SAFETY: integers without padding.
unsafe impl crate::mm::user::Plain for Iocb {}

/// `struct io_event`.
type Event = [u64; 4];
/// `struct __aio_sigset`: a mask and its size.
type SigSet = [u64; 2];

/// What is asked for (`IOCB_CMD_*`).
const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const POLL: u16 = 5;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;
/// `aio_resfd` is an eventfd that is told of the event.
const FLAG_RESFD: u32 = 1;
/// `aio_reqprio` is a priority.
const FLAG_IOPRIO: u32 = 2;
/// What the kernel leaves in `aio_key`.
const KEY: u32 = 0;

fn contexts(cur: &CurrentTask) -> Result<&Contexts> {
    Contexts::of(&cur.mm().contexts).ok_or(Errno::EINVAL)
}

/// `io_setup(2)`.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `EAGAIN`, `ENOMEM`.
pub fn sys_io_setup(cur: &CurrentTask, events: u32, id: UserPtr<u64>) -> SysResult<()> {
    if id.read()? != 0 || events == 0 {
        return Err(Errno::EINVAL.into());
    }
    let context = Context::new(events, cpus())?;
    let kept = Contexts::made(&cur.mm().contexts).ok_or(Errno::ENOMEM)?;
    let ring = Request { label: "/[aio] (deleted)", ..Request::anon(0, context.ring, PROT_READ | PROT_WRITE, 0) };
    let at = cur.mm().mmap(&ring)?;
    if let Err(e) = id.write(at) {
        let _ = cur.mm().munmap(at, context.ring);
        return Err(e.into());
    }
    kept.add(at, context);
    Ok(())
}

/// `io_destroy(2)`.
///
/// # Errors
/// `EINVAL`.
pub fn sys_io_destroy(cur: &CurrentTask, id: u64) -> SysResult<()> {
    let context = contexts(cur)?.remove(id)?;
    // The program may have unmapped it.
    let _ = cur.mm().munmap(id, context.ring);
    Ok(())
}

/// `io_submit(2)`: how many were.
///
/// # Errors
/// What was wrong with the first one: `EINVAL`, `EFAULT`, `EBADF`, `EAGAIN`, `EOPNOTSUPP`.
pub fn sys_io_submit(cur: &CurrentTask, id: u64, count: i64, requests: UserPtr<u64>) -> SysResult<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let context = contexts(cur)?.find(id)?;
    let count = count.min(context.batch as usize);
    for i in 0..count {
        let one = || submit(cur, &context, UserPtr::new(requests.add(i).read()?));
        match one() {
            Ok(()) => {}
            Err(_) if i > 0 => return Ok(i),
            Err(e) => return Err(e.into()),
        }
        if cur.is_dying() {
            return Ok(i + 1);
        }
    }
    Ok(count)
}

fn submit(cur: &CurrentTask, context: &Arc<Context>, at: UserPtr<Iocb>) -> Result {
    let r = at.read()?;
    if r.reserved != 0 || r.bytes > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let place = context.reserve()?;
    let file = cur.files().get(r.fd as i32)?;
    let signal = match r.flags & FLAG_RESFD {
        0 => None,
        _ => Some(cur.files().get(r.signal as i32)?),
    };
    if let Some(signal) = &signal {
        eventfd::of_file(signal)?;
    }
    UserPtr::<u32>::new(at.addr() + offset_of!(Iocb, key) as u64).write(KEY)?;
    let done = Done { data: r.data, request: at.addr(), result: 0 };
    let result = match r.opcode {
        PREAD | PREADV => transfer(cur, &file, &r, false)?,
        PWRITE | PWRITEV => transfer(cur, &file, &r, true)?,
        FSYNC | FDSYNC => sync(&file, &r)?,
        POLL => {
            let wanted = u16::try_from(r.buf).map_err(|_| Errno::EINVAL)?;
            if r.offset != 0 || r.bytes != 0 || r.rw_flags != 0 {
                return Err(Errno::EINVAL);
            }
            return place.poll(done, &file, Events::from_bits_truncate(u32::from(wanted)), signal);
        }
        _ => return Err(Errno::EINVAL),
    };
    let result = match result {
        Ok(n) => n as i64,
        Err(SysError::Errno(e)) => -i64::from(e.raw()),
        // Nothing starts it once more.
        Err(_) => -i64::from(Errno::EINTR.raw()),
    };
    place.fill(Done { result, ..done });
    aio::tell(signal.as_ref());
    Ok(())
}

/// Reads or writes, and what came of it.
///
/// # Errors
/// What keeps it from being begun.
fn transfer(cur: &CurrentTask, file: &OpenFile, r: &Iocb, write: bool) -> Result<SysResult<usize>> {
    if r.flags & FLAG_IOPRIO != 0 {
        sched::check_ioprio(cur, i32::from(r.priority as u16))?;
    }
    if r.rw_flags & !RWF_KNOWN != 0 || r.rw_flags & RWF_NOWAIT != 0 && file.ops.is_tty() {
        return Err(Errno::EOPNOTSUPP);
    }
    if if write { !file.writable() } else { !file.readable() } {
        return Err(Errno::EBADF);
    }
    if file.inode.file_type() == FileType::Dir {
        return Err(Errno::EINVAL);
    }
    let pos = u64::try_from(r.offset).ok();
    let place = Place { pos: if has_positions(file) { pos } else { None }, flags: r.rw_flags };
    let go = |v: &[IoVec]| -> Result<SysResult<usize>> {
        if v.iter().any(|v| !range_ok(v.base, v.len)) {
            return Err(Errno::EFAULT);
        }
        if pos.is_none() {
            return Err(Errno::EINVAL);
        }
        let ctx = cur.op_ctx();
        Ok(if write {
            write_file(cur, &ctx, file, &mut IoSrc::user(v), place)
        } else {
            read_file(&ctx, file, &mut IoDst::user(v), place)
        })
    };
    if !matches!(r.opcode, PREADV | PWRITEV) {
        return go(&[IoVec { base: r.buf, len: r.bytes.min(MAX_COUNT as u64) }]);
    }
    let count = usize::try_from(r.bytes).map_err(|_| Errno::EINVAL)?;
    match with_vecs(UserPtr::new(r.buf), count, |v| Ok(go(v))) {
        Ok(outcome) => outcome,
        Err(SysError::Errno(e)) => Err(e),
        Err(_) => Err(Errno::EINTR),
    }
}

fn sync(file: &OpenFile, r: &Iocb) -> Result<SysResult<usize>> {
    if r.buf != 0 || r.offset != 0 || r.bytes != 0 || r.rw_flags != 0 {
        return Err(Errno::EINVAL);
    }
    match file.ops.sync(r.opcode == FDSYNC) {
        // There is nothing to be synced.
        Err(SysError::Errno(Errno::EINVAL)) => Err(Errno::EINVAL),
        other => Ok(other.map(|()| 0)),
    }
}

/// `io_cancel(2)`: only waits for readiness can be cancelled, and their event comes all the same.
///
/// # Errors
/// `EFAULT`, `EINVAL`; `EINPROGRESS` if it is.
pub fn sys_io_cancel(cur: &CurrentTask, id: u64, request: UserPtr<Iocb>, _result: UserPtr<Event>) -> SysResult<()> {
    let key: UserPtr<u32> = UserPtr::new(request.addr().wrapping_add(offset_of!(Iocb, key) as u64));
    if key.read()? != KEY {
        return Err(Errno::EINVAL.into());
    }
    contexts(cur)?.find(id)?.cancel(request.addr())?;
    Err(Errno::EINPROGRESS.into())
}

fn fetch(
    cur: &CurrentTask,
    id: u64,
    (least, most): (i64, i64),
    events: UserPtr<Event>,
    timeout: Option<__kernel_timespec>,
) -> SysResult<usize> {
    let context = contexts(cur)?.find(id)?;
    let (Ok(least), Ok(most)) = (usize::try_from(least), usize::try_from(most)) else {
        return Err(Errno::EINVAL.into());
    };
    if least > most {
        return Err(Errno::EINVAL.into());
    }
    let ns = timeout.map(|t| t.tv_sec.saturating_mul(crate::time::SECOND).saturating_add(t.tv_nsec));
    let deadline = match ns {
        Some(0) => Some(0),
        Some(ns) if ns > 0 => Some(crate::time::deadline_in(ns as u64)),
        // A time below zero is one that never comes (`ktime_add_safe`).
        _ => None,
    };
    let got = context.fetch(least, most, deadline)?;
    for (i, e) in got.iter().enumerate() {
        if let Err(e) = events.add(i).write([e.data, e.request, e.result as u64, 0]) {
            context.put_back(&got);
            return Err(e.into());
        }
    }
    Ok(got.len())
}

/// `io_getevents(2)`.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `EINTR`.
pub fn sys_io_getevents(
    cur: &CurrentTask,
    id: u64,
    least: i64,
    most: i64,
    events: UserPtr<Event>,
    timeout: UserPtr<__kernel_timespec>,
) -> SysResult<usize> {
    let timeout = timeout.option().map(UserPtr::read).transpose()?;
    fetch(cur, id, (least, most), events, timeout)
}

/// `io_pgetevents(2)`.
///
/// # Errors
/// As [`sys_io_getevents`].
pub fn sys_io_pgetevents(
    cur: &CurrentTask,
    id: u64,
    least: i64,
    most: i64,
    events: UserPtr<Event>,
    timeout: UserPtr<__kernel_timespec>,
    mask: UserPtr<SigSet>,
) -> SysResult<usize> {
    let timeout = timeout.option().map(UserPtr::read).transpose()?;
    let mask = match mask.option() {
        None => None,
        Some(p) => {
            let [mask, size] = p.read()?;
            super::signal::optional_mask(UserPtr::new(mask), size as usize)?
        }
    };
    poll::with_mask(cur, mask, || match fetch(cur, id, (least, most), events, timeout) {
        Err(SysError::Errno(Errno::EINTR)) => Err(SysError::Restart(crate::abi::Restart::NoHand)),
        other => other,
    })
}
