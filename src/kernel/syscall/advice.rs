//! Calls about memory that are younger than `madvise(2)`: `process_madvise`, `process_mrelease`, `mseal`, `cachestat`, and
//! protection keys, of which there are none.

use super::Fd;
use super::event;
use super::mem;
use super::process_vm::vectors;
use super::{at, files};
use crate::abi::linux::{MADV_COLD, MADV_COLLAPSE, MADV_PAGEOUT, MADV_WILLNEED};
use crate::abi::{Errno, SysResult};
use crate::cred::cap;
use crate::mm::{IoVec, UserPtr, VmaFlags};
use crate::task::CurrentTask;
use crate::task::access::{self, By, Look};
use crate::task::work::run_on;
use crate::vfs::{FileType, OpenFile, Whence};
use alloc::sync::Arc;

const PAGE: u64 = 4096;

/// `process_madvise(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `EBADF`, `ESRCH`, `EACCES`, `EPERM`, those of `madvise(2)`.
pub fn sys_process_madvise(
    cur: &CurrentTask,
    pidfd: Fd,
    vecs: UserPtr<IoVec>,
    count: u64,
    advice: i32,
    flags: u32,
) -> SysResult<usize> {
    at::only(flags, 0)?;
    let vecs = vectors(vecs, count)?;
    let group = event::group_of_pidfd(cur, pidfd)?;
    let task = group.any_task().ok_or(Errno::ESRCH)?;
    let mm = task.shared().ok_or(Errno::ESRCH)?.mm;
    let own = Arc::ptr_eq(&mm, cur.mm());
    if !own {
        access::may_look(cur.subject(), &task, Look::Read, By::FsCreds).map_err(|_| Errno::EACCES)?;
        if !matches!(advice.unsigned_abs(), MADV_COLD | MADV_COLLAPSE | MADV_PAGEOUT | MADV_WILLNEED) {
            return Err(Errno::EINVAL.into());
        }
        if !cur.cred().capable(cap::SYS_NICE) {
            return Err(Errno::EPERM.into());
        }
    }
    let mut done = 0;
    for v in vecs {
        let advised = if own {
            mem::sys_madvise(cur, v.base, v.len, advice)
        } else {
            let mm = mm.clone();
            let act = move |t: &Arc<crate::task::Task>| {
                mem::advise(&mm, v.base, v.len, advice, || t.must_end()).map_err(Into::into)
            };
            run_on(&task, act).and_then(|outcome| outcome)
        };
        match advised {
            Ok(()) => done += v.len as usize,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// `process_mrelease(2)`: a process that is being ended gives its memory back by itself.
///
/// # Errors
/// `EINVAL` for flags and for a process that nobody has killed, `EBADF`, `ESRCH`.
pub fn sys_process_mrelease(cur: &CurrentTask, pidfd: Fd, flags: u32) -> SysResult<()> {
    at::only(flags, 0)?;
    let group = event::group_of_pidfd(cur, pidfd)?;
    let task = group.any_task().ok_or(Errno::ESRCH)?;
    task.shared().ok_or(Errno::ESRCH)?;
    if group.state.lock().exiting.is_some() { Ok(()) } else { Err(Errno::EINVAL.into()) }
}

/// `mseal(2)`.
///
/// # Errors
/// `EINVAL`, `ENOMEM` for holes.
pub fn sys_mseal(cur: &CurrentTask, start: u64, len: u64, flags: u64) -> SysResult<()> {
    if flags != 0 || !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    let len = len.checked_next_multiple_of(PAGE).ok_or(Errno::EINVAL)?;
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    if end == start {
        return Ok(());
    }
    if !cur.mm().is_mapped(start, end) {
        return Err(Errno::ENOMEM.into());
    }
    Ok(cur.mm().change_flags(start, end, u64::MAX, |flags| flags | VmaFlags::SEALED, |_, _, _| Ok(()))?)
}

/// Pages of `start..end` of a file that are there.
fn pages_there(file: &OpenFile, start: u64, end: u64) -> SysResult<u64> {
    let (mut at, mut pages) = (start, 0);
    while at < end {
        let seek = |whence, at| file.ops.seek_to(file, whence, at as i64);
        let Ok(from) = seek(Whence::Data, at) else { break };
        let to = seek(Whence::Hole, from)?.min(end);
        if to <= from {
            break;
        }
        pages += to.div_ceil(PAGE) - from / PAGE;
        at = to.next_multiple_of(PAGE);
    }
    Ok(pages)
}

/// `cachestat(2)`: what a file in memory has counts as cached, and nothing is written back.
///
/// # Errors
/// `EBADF`, `EFAULT`, `EPERM`, `EINVAL`.
pub fn sys_cachestat(
    cur: &CurrentTask,
    fd: Fd,
    range: UserPtr<[u64; 2]>,
    out: UserPtr<[u64; 5]>,
    flags: u32,
) -> SysResult<()> {
    let file = files::in_use(cur, fd)?;
    let [start, len] = range.read()?;
    let mine = || crate::vfs::access::check_owner(cur.cred(), &*file.inode).is_ok();
    if !file.writable() && !mine() {
        crate::vfs::access::check(cur.cred(), &*file.inode, crate::vfs::access::WRITE).map_err(|_| Errno::EPERM)?;
    }
    at::only(flags, 0)?;
    let end = if len == 0 { u64::MAX } else { start.saturating_add(len) };
    let regular = file.inode.file_type() == FileType::Regular && file.ops.seekable();
    let size = if regular { file.inode.stat()?.size } else { 0 };
    let cached = if start < size { pages_there(&file, start & !(PAGE - 1), end.min(size))? } else { 0 };
    Ok(out.write([cached, 0, 0, 0, 0])?)
}

/// `pkey_alloc(2)`, as on a processor without protection keys.
///
/// # Errors
/// `EINVAL`.
pub fn sys_pkey_alloc(_cur: &CurrentTask, _flags: u64, _rights: u64) -> SysResult<i32> {
    Err(Errno::EINVAL.into())
}

/// `pkey_free(2)`: there is no key that could be given back.
///
/// # Errors
/// `EINVAL`.
pub fn sys_pkey_free(_cur: &CurrentTask, _key: i32) -> SysResult<()> {
    Err(Errno::EINVAL.into())
}
