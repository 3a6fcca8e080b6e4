//! Another process's memory: `process_vm_readv(2)`, `process_vm_writev(2)`; its descriptors: `pidfd_getfd(2)`.

use super::files;
use super::{Fd, event};
use crate::abi::linux::O_CLOEXEC;
use crate::abi::{Errno, SysError, SysResult};
use crate::mm::space::remote::Force;
use crate::mm::{AddressSpace, IoDst, IoSrc, IoVec, UserPtr};
use crate::task::access::{self, By, Look};
use crate::task::{CurrentTask, Task, memory};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most pieces of a vector (`UIO_MAXIOV`).
const MAX_VECS: u64 = 1024;
/// Most bytes that one call moves (`MAX_RW_COUNT`).
const MAX_COUNT: usize = 0x7fff_f000;

/// The pieces of memory that a vector names.
pub(super) fn vectors(at: UserPtr<IoVec>, count: u64) -> SysResult<Vec<IoVec>> {
    if count > MAX_VECS {
        return Err(Errno::EINVAL.into());
    }
    let vecs = at.slice(count as usize).read_vec()?;
    if vecs.iter().any(|v| v.len > i64::MAX as u64) {
        return Err(Errno::EINVAL.into());
    }
    Ok(vecs)
}

/// The other process, and its memory.
struct Other {
    task: Arc<Task>,
    mm: Arc<AddressSpace>,
}

fn other(cur: &CurrentTask, pid: i32) -> SysResult<Other> {
    let task = u32::try_from(pid).ok().and_then(|pid| cur.task_of(pid)).ok_or(Errno::ESRCH)?;
    access::may_look(cur.subject(), &task, Look::Attach, By::RealCreds)?;
    let mm = task.shared().ok_or(Errno::ESRCH)?.mm;
    Ok(Other { task, mm })
}

/// Moves bytes between the caller's `local` pieces and the other's, in order, until one side ends or cannot be
/// reached. `step(address there, bytes at most)` moves some and says how many.
fn transfer(remote: &[IoVec], total: usize, mut step: impl FnMut(u64, usize) -> SysResult<usize>) -> SysResult<usize> {
    let mut done = 0;
    for v in remote {
        let mut at = v.base;
        let mut left = (v.len as usize).min(total - done);
        while left > 0 {
            let n = memory::piece(at, left);
            let moved = match step(at, n) {
                Ok(moved) => moved,
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            };
            done += moved;
            at = at.wrapping_add(moved as u64);
            left -= moved;
            if moved < n {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT.into()) };
            }
        }
        if done == total {
            break;
        }
    }
    Ok(done)
}

/// What a call is to move: pieces here, pieces there, bytes at most.
struct Plan {
    local: Vec<IoVec>,
    remote: Vec<IoVec>,
    total: usize,
}

/// The vectors of a call, checked in Linux's order; `None`: there is nothing to do.
fn arguments(local: (UserPtr<IoVec>, u64), remote: (UserPtr<IoVec>, u64), flags: u64) -> SysResult<Option<Plan>> {
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let local = vectors(local.0, local.1)?;
    let total = local.iter().fold(0usize, |n, v| n.saturating_add(v.len as usize)).min(MAX_COUNT);
    if total == 0 {
        return Ok(None);
    }
    let remote = vectors(remote.0, remote.1)?;
    Ok(remote.iter().any(|v| v.len > 0).then_some(Plan { local, remote, total }))
}

/// `process_vm_readv(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ESRCH`, `EPERM`, `ENOMEM`.
pub fn sys_process_vm_readv(
    cur: &CurrentTask,
    pid: i32,
    local: UserPtr<IoVec>,
    local_count: u64,
    remote: UserPtr<IoVec>,
    remote_count: u64,
    flags: u64,
) -> SysResult<usize> {
    let Some(Plan { local, remote, total }) = arguments((local, local_count), (remote, remote_count), flags)? else {
        return Ok(0);
    };
    let from = other(cur, pid)?;
    let mut dst = IoDst::user(&local);
    transfer(&remote, total, |addr, n| {
        let bytes = memory::read(&from.task, &from.mm, addr, n, Force::No)?;
        match dst.put(&bytes) {
            Ok(n) => Ok(n),
            Err(Errno::EFAULT) => Ok(0),
            Err(e) => Err(e.into()),
        }
    })
}

/// `process_vm_writev(2)`.
///
/// # Errors
/// As [`sys_process_vm_readv`].
pub fn sys_process_vm_writev(
    cur: &CurrentTask,
    pid: i32,
    local: UserPtr<IoVec>,
    local_count: u64,
    remote: UserPtr<IoVec>,
    remote_count: u64,
    flags: u64,
) -> SysResult<usize> {
    let Some(Plan { local, remote, total }) = arguments((local, local_count), (remote, remote_count), flags)? else {
        return Ok(0);
    };
    let to = other(cur, pid)?;
    let mut src = IoSrc::user(&local);
    transfer(&remote, total, |addr, n| {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(n).map_err(|_| SysError::Errno(Errno::ENOMEM))?;
        bytes.resize(n, 0);
        let got = src.take(&mut bytes).unwrap_or(0);
        bytes.truncate(got);
        memory::write(&to.task, &to.mm, addr, bytes, Force::No)
    })
}

/// `pidfd_getfd(2)`.
///
/// # Errors
/// `EINVAL` for flags, `EBADF` for either descriptor, `EPERM`, `ESRCH`, `EMFILE`.
pub fn sys_pidfd_getfd(cur: &CurrentTask, pidfd: Fd, number: i32, flags: u32) -> SysResult<Fd> {
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let group = event::group_of_pidfd(cur, pidfd)?;
    let task = group.any_task().ok_or(Errno::ESRCH)?;
    access::may_look(cur.subject(), &task, Look::Attach, By::RealCreds)?;
    let own = task.shared().ok_or(Errno::ESRCH)?;
    let file = own.files.get_any(number)?;
    files::install(cur, file, O_CLOEXEC)
}
