//! `mmap(2)` and its family.

use super::Fd;
use crate::abi::linux::{
    self, MADV_COLLAPSE, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MAP_ANONYMOUS, MAP_NONBLOCK,
    MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_TYPE, MS_ASYNC, MS_INVALIDATE, MS_SYNC, PROT_EXEC,
    PROT_READ, PROT_WRITE,
};
use crate::abi::{Errno, Result, SysResult};
use crate::host::mem;
use crate::mm::space::Request;
use crate::mm::{Backing, UserPtr};
use crate::task::CurrentTask;
use crate::vfs::mount::NOEXEC;
use alloc::sync::Arc;
use alloc::vec;

const PAGE: u64 = 4096;

/// `mmap(2)`.
pub fn sys_mmap(cur: &CurrentTask, addr: u64, len: u64, prot: u32, flags: u32, fd: Fd, offset: u64) -> SysResult<u64> {
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    let kind = flags & MAP_TYPE;
    if flags & MAP_ANONYMOUS == 0 {
        // A bad descriptor comes before bad flags.
        cur.files().get(fd.0)?;
    }
    if !matches!(kind, MAP_SHARED | MAP_PRIVATE | MAP_SHARED_VALIDATE) {
        return Err(Errno::EINVAL.into());
    }
    let shared = kind != MAP_PRIVATE;
    let mut may_write = true;
    let backing = if flags & MAP_ANONYMOUS != 0 {
        Backing::Anon
    } else {
        let file = cur.files().get(fd.0)?;
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        if !file.readable() || shared && prot & PROT_WRITE != 0 && !file.writable() {
            return Err(Errno::EACCES.into());
        }
        if prot & PROT_EXEC != 0 && file.path.mount.has(NOEXEC) {
            return Err(Errno::EPERM.into());
        }
        offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
        may_write = !shared || file.writable();
        let name = file.path.display(&cur.fs().root()).unwrap_or_default();
        Backing::File { map: file.ops.mappable()?, offset, name: Arc::from(name) }
    };
    let flags = if shared { flags & !MAP_TYPE | MAP_SHARED } else { flags };
    let label = "";
    let at = cur.mm().mmap(&Request { addr, len, prot, flags, backing, label, may_write })?;
    if flags & MAP_POPULATE != 0 && flags & MAP_NONBLOCK == 0 {
        let advice = if prot & PROT_WRITE != 0 && !shared { MADV_POPULATE_WRITE } else { MADV_POPULATE_READ };
        // A mapping that cannot be filled is one all the same.
        let _ = piecewise(cur, at, at + len, |at, len| mem::madvise(at, len, advice as i32));
    }
    Ok(at)
}

/// Bytes that the host may fill or lock in one call.
const PIECE: u64 = 16 << 20;

/// Does something to a range that takes the host time for every page. It is done in pieces, because a kick does not
/// interrupt the host there, and no lock is held: a process that must die does not finish it.
fn piecewise(cur: &CurrentTask, start: u64, end: u64, act: impl Fn(u64, u64) -> Result) -> Result {
    let mut at = start;
    while at < end {
        if cur.is_dying() {
            return Err(Errno::EINTR);
        }
        let len = (end - at).min(PIECE);
        act(at, len)?;
        at += len;
    }
    Ok(())
}

/// `munmap(2)`.
pub fn sys_munmap(cur: &CurrentTask, addr: u64, len: u64) -> SysResult<()> {
    Ok(cur.mm().munmap(addr, len)?)
}

/// `mprotect(2)`.
pub fn sys_mprotect(cur: &CurrentTask, addr: u64, len: u64, prot: u32) -> SysResult<()> {
    if prot & !(PROT_READ | PROT_WRITE | PROT_EXEC | linux::PROT_GROWSDOWN | linux::PROT_GROWSUP) != 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(cur.mm().mprotect(addr, len, prot)?)
}

/// `pkey_mprotect(2)` without a key.
pub fn sys_pkey_mprotect(cur: &CurrentTask, addr: u64, len: u64, prot: u32, pkey: i32) -> SysResult<()> {
    if pkey != -1 {
        return Err(Errno::EINVAL.into());
    }
    sys_mprotect(cur, addr, len, prot)
}

/// `brk(2)`.
pub fn sys_brk(cur: &CurrentTask, want: u64) -> SysResult<u64> {
    Ok(cur.mm().brk(want))
}

/// `mremap(2)`.
pub fn sys_mremap(cur: &CurrentTask, old: u64, old_len: u64, new_len: u64, flags: u32, new: u64) -> SysResult<u64> {
    Ok(cur.mm().mremap(old, old_len, new_len, flags, new)?)
}

/// A page-aligned range.
fn range(addr: u64, len: u64) -> Result<(u64, u64)> {
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let len = len.checked_add(PAGE - 1).ok_or(Errno::EINVAL)? & !(PAGE - 1);
    let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
    Ok((addr, end))
}

/// `madvise(2)`: advice goes to the host for what is mapped.
pub fn sys_madvise(cur: &CurrentTask, addr: u64, len: u64, advice: i32) -> SysResult<()> {
    // NORMAL, RANDOM, SEQUENTIAL, WILLNEED, DONTNEED, FREE, DONTFORK, DOFORK, MERGEABLE, UNMERGEABLE,
    // HUGEPAGE, NOHUGEPAGE, DONTDUMP, DODUMP, WIPEONFORK, KEEPONFORK, COLD, PAGEOUT, POPULATE_*
    if !matches!(advice, 0..=4 | 8 | 10..=23 | 25) {
        return Err(Errno::EINVAL.into());
    }
    let (start, end) = range(addr, len)?;
    if start == end {
        return Ok(());
    }
    let whole = cur.mm().is_mapped(start, end);
    for v in cur.mm().mapped(start, end)? {
        let (from, to) = (v.start.max(start), v.end.min(end));
        if from < to {
            match advice.unsigned_abs() {
                MADV_POPULATE_READ | MADV_POPULATE_WRITE | MADV_COLLAPSE | MADV_PAGEOUT => {
                    piecewise(cur, from, to, |at, len| mem::madvise(at, len, advice))?;
                }
                _ => mem::madvise(from, to - from, advice)?,
            }
        }
    }
    if whole { Ok(()) } else { Err(Errno::ENOMEM.into()) }
}

/// `msync(2)`.
pub fn sys_msync(cur: &CurrentTask, addr: u64, len: u64, flags: u32) -> SysResult<()> {
    if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0 || flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC {
        return Err(Errno::EINVAL.into());
    }
    let (start, end) = range(addr, len).map_err(|e| if !addr.is_multiple_of(PAGE) { e } else { Errno::ENOMEM })?;
    if !cur.mm().is_mapped(start, end) {
        return Err(Errno::ENOMEM.into());
    }
    if start < end {
        mem::msync(start, end - start, flags)?;
    }
    Ok(())
}

/// `mincore(2)`.
pub fn sys_mincore(cur: &CurrentTask, addr: u64, len: u64, out: UserPtr<u8>) -> SysResult<()> {
    let (start, end) = range(addr, len).map_err(|e| if !addr.is_multiple_of(PAGE) { e } else { Errno::ENOMEM })?;
    if !cur.mm().is_mapped(start, end) {
        return Err(Errno::ENOMEM.into());
    }
    let mut at = start;
    let mut buf = vec![0u8; 4096];
    while at < end {
        let n = ((end - at) / PAGE).min(4096);
        mem::mincore(at, n * PAGE, &mut buf)?;
        out.add(((at - start) / PAGE) as usize).slice(n as usize).write_from(&buf[..n as usize])?;
        at += n * PAGE;
    }
    Ok(())
}

fn lock(cur: &CurrentTask, addr: u64, len: u64, lock: bool) -> SysResult<()> {
    let (start, end) = range(addr & !(PAGE - 1), len.checked_add(addr % PAGE).ok_or(Errno::EINVAL)?)?;
    if !cur.mm().is_mapped(start, end) {
        return Err(Errno::ENOMEM.into());
    }
    Ok(piecewise(cur, start, end, |at, len| mem::mlock(at, len, lock))?)
}

/// `mlock(2)`.
pub fn sys_mlock(cur: &CurrentTask, addr: u64, len: u64) -> SysResult<()> {
    lock(cur, addr, len, true)
}

/// `mlock2(2)`.
pub fn sys_mlock2(cur: &CurrentTask, addr: u64, len: u64, flags: u32) -> SysResult<()> {
    if flags & !1 != 0 {
        return Err(Errno::EINVAL.into());
    }
    lock(cur, addr, len, true)
}

/// `munlock(2)`.
pub fn sys_munlock(cur: &CurrentTask, addr: u64, len: u64) -> SysResult<()> {
    lock(cur, addr, len, false)
}

/// `munlockall(2)`.
pub fn sys_munlockall(cur: &CurrentTask) -> SysResult<()> {
    for v in cur.mm().mapped(0, u64::MAX)? {
        mem::mlock(v.start, v.len(), false)?;
    }
    Ok(())
}
