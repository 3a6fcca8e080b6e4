//! Another task's memory: read and written by a work item in pieces, its own without a detour.

use super::{Task, limits, work};
use crate::abi::{Errno, SysResult};
use crate::mm::AddressSpace;
use crate::mm::space::remote::Force;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most bytes that one work item moves.
const PIECE: usize = 256 << 10;

fn buffer(len: usize) -> Result<Vec<u8>, Errno> {
    let mut buf = Vec::new();
    buf.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    buf.resize(len, 0);
    Ok(buf)
}

/// Lets a mapping of the running task grow down to `addr`, where there is none: whether one has (`MAP_GROWSDOWN` of
/// `mmap(2)`).
pub fn grow(addr: u64) -> bool {
    let Some(task) = work::running() else { return false };
    let limit = task.group.limits.get(limits::STACK).0;
    task.shared().is_some_and(|own| own.mm.grow_down(addr, limit))
}

/// Whether the running thread lives in this address space.
fn is_own(mm: &AddressSpace) -> bool {
    work::running().and_then(|t| t.shared()).is_some_and(|own| core::ptr::eq(&*own.mm, mm))
}

/// Reads up to `len` bytes at `addr` of `mm`, in which `task` lives. Short where something cannot be read,
/// or the task lives elsewhere by now.
///
/// # Errors
/// `ESRCH` when the task is gone, `ENOMEM`; a restart when the caller is to die.
pub fn read(task: &Arc<Task>, mm: &Arc<AddressSpace>, addr: u64, len: usize, force: Force) -> SysResult<Vec<u8>> {
    let mut buf = buffer(len.min(PIECE))?;
    if is_own(mm) {
        let n = mm.peek(addr, &mut buf, force);
        buf.truncate(n);
        return Ok(buf);
    }
    let id = mm.id;
    work::run_on(task, move |task| {
        let n = match task.shared() {
            Some(own) if own.mm.id == id => own.mm.peek(addr, &mut buf, force),
            _ => 0,
        };
        buf.truncate(n);
        buf
    })
}

/// Writes `bytes` at `addr` of `mm`, in which `task` lives; returns how many were written.
///
/// # Errors
/// As [`read`].
pub fn write(task: &Arc<Task>, mm: &Arc<AddressSpace>, addr: u64, bytes: Vec<u8>, force: Force) -> SysResult<usize> {
    if is_own(mm) {
        return Ok(mm.poke(addr, &bytes, force));
    }
    let id = mm.id;
    work::run_on(task, move |task| match task.shared() {
        Some(own) if own.mm.id == id => own.mm.poke(addr, &bytes, force),
        _ => 0,
    })
}

/// How much of `len` bytes one piece takes, ending at a page of the other side.
pub fn piece(addr: u64, len: usize) -> usize {
    let whole = PIECE - (addr as usize & 0xfff);
    len.min(whole)
}

/// A task of `task`'s process that lives in `mm`.
pub fn who_lives_in(task: &Arc<Task>, mm: &Arc<AddressSpace>) -> Option<Arc<Task>> {
    let lives = |t: &Arc<Task>| t.shared().is_some_and(|own| Arc::ptr_eq(&own.mm, mm));
    if lives(task) {
        return Some(task.clone());
    }
    task.group.tasks().into_iter().find(lives)
}
