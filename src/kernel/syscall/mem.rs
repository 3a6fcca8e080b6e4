//! `mmap(2)` and its family.

use super::Fd;
use crate::abi::linux::{
    self, MADV_COLD, MADV_COLLAPSE, MADV_DOFORK, MADV_DONTFORK, MADV_DONTNEED, MADV_FREE, MADV_KEEPONFORK,
    MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_REMOVE, MADV_WIPEONFORK, MAP_ANONYMOUS, MAP_FIXED,
    MAP_GROWSDOWN, MAP_HUGETLB, MAP_LOCKED, MAP_NONBLOCK, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE,
    MAP_TYPE, MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT, MS_ASYNC, MS_INVALIDATE, MS_SYNC, PROT_EXEC,
    PROT_READ, PROT_WRITE,
};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::host::mem;
use crate::mm::space::{MAY_ALL, Request};
use crate::mm::{AddressSpace, Backing, MapWish, UserPtr, UserSlice, Vma, VmaFlags};
use crate::task::attr::persona;
use crate::task::{CurrentTask, limits};
use crate::vfs::mount::NOEXEC;
use alloc::sync::Arc;
use core::cell::Cell;

const PAGE: u64 = 4096;
/// What a huge page is without a size.
const HUGE_PAGE: u64 = 2 << 20;
/// Bytes of files that can be mapped at all (`MAX_LFS_FILESIZE`).
const FILE_MAX: u64 = i64::MAX as u64;
/// The flags of `mmap` that MAP_SHARED_VALIDATE knows for a file (`LEGACY_MAP_MASK` in Linux).
const KNOWN_FLAGS: u32 = MAP_SHARED
    | MAP_PRIVATE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | linux::MAP_DENYWRITE
    | linux::MAP_EXECUTABLE
    | linux::MAP_UNINITIALIZED
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | linux::MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | linux::MAP_STACK
    | MAP_HUGETLB
    | linux::MAP_32BIT
    | linux::MAP_HUGE_MASK << linux::MAP_HUGE_SHIFT;

/// `mmap(2)`. Huge pages are not to be had: ENOMEM, as where none are set aside.
pub fn sys_mmap(cur: &CurrentTask, addr: u64, len: u64, prot: u32, flags: u32, fd: Fd, offset: u64) -> SysResult<u64> {
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    // A bad descriptor comes before all else.
    let file = if flags & MAP_ANONYMOUS != 0 { None } else { Some(cur.files().get(fd.0)?) };
    if flags & MAP_HUGETLB != 0 {
        let fixed = flags & (MAP_FIXED | linux::MAP_FIXED_NOREPLACE) != 0;
        // The size in the flags, as a power of two: huge pages are of 2 MiB or 1 GiB (`hstate_sizelog`).
        let size = flags >> linux::MAP_HUGE_SHIFT & linux::MAP_HUGE_MASK;
        if !matches!(size, 0 | 21 | 30) {
            return Err(Errno::EINVAL.into());
        }
        let misplaced = fixed && !addr.is_multiple_of(HUGE_PAGE);
        return Err(if file.is_some() || len == 0 || misplaced { Errno::EINVAL } else { Errno::ENOMEM }.into());
    }
    AddressSpace::check_addresses(addr, len, flags)?;
    if flags & linux::MAP_FIXED_NOREPLACE != 0 {
        cur.mm().check_free(addr, len)?;
    }
    if flags & MAP_LOCKED != 0 {
        may_lock(cur)?;
    }
    let kind = flags & MAP_TYPE;
    let shared = matches!(kind, MAP_SHARED | MAP_SHARED_VALIDATE);
    let span = (offset, len.next_multiple_of(PAGE));
    let prot = match &file {
        Some(file) if file.path().mount.has(NOEXEC) => prot,
        _ => prot | implied(cur, prot),
    };
    let mut wish = MapWish { shared, prot, may: MAY_ALL, span };
    let mut shared_zeros = false;
    let backing = match &file {
        None if kind == MAP_PRIVATE => Backing::Anon,
        None if kind == MAP_SHARED && flags & MAP_GROWSDOWN == 0 => Backing::Anon,
        None => return Err(Errno::EINVAL.into()),
        Some(file) => {
            if offset.checked_add(len).is_none_or(|end| end > FILE_MAX) {
                return Err(Errno::EOVERFLOW.into());
            }
            check_file(file, kind, flags, &mut wish)?;
            if file.inode.access_due() {
                crate::vfs::attr::accessed(file.path(), file.flags());
            }
            match file.ops.mappable(&mut wish)? {
                Some(_) if flags & MAP_GROWSDOWN != 0 => return Err(Errno::EINVAL.into()),
                Some(map) => Backing::File {
                    map,
                    offset,
                    name: Arc::from(file.path().display(&cur.fs().root()).unwrap_or_default()),
                },
                None => {
                    shared_zeros = shared;
                    Backing::Anon
                }
            }
        }
    };
    if cur.mm().denies(prot, prot) {
        return Err(Errno::EACCES.into());
    }
    let flags = if shared { flags & !MAP_TYPE | MAP_SHARED } else { flags };
    let flags = if shared_zeros { flags & !linux::MAP_NORESERVE } else { flags };
    let memlock = lock_limit(cur);
    let locked = flags & MAP_LOCKED != 0 || cur.mm().locks_future();
    // Secret memory is locked always, and comes in as it is touched.
    let secret = matches!(&backing, Backing::File { map, .. } if map.is_secret());
    let flags = if secret { flags | MAP_LOCKED } else { flags };
    let at = cur
        .mm()
        .mmap_from(&Request { addr, len, prot, flags, backing, label: "", may: wish.may, memlock }, cur.frame().rip)?;
    if locked || flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE {
        // A mapping that cannot be filled is one all the same.
        let _ = populate(cur, at, at.saturating_add(len));
    }
    Ok(at)
}

/// What this protection brings with it (`READ_IMPLIES_EXEC`).
fn implied(cur: &CurrentTask, prot: u32) -> u32 {
    if prot & PROT_READ != 0 && cur.attr.has_persona(persona::READ_IMPLIES_EXEC) { PROT_EXEC } else { 0 }
}

/// Whether a file may be mapped that way, and what may become of the mapping (`do_mmap` in Linux).
fn check_file(file: &crate::vfs::OpenFile, kind: u32, flags: u32, wish: &mut MapWish) -> Result {
    match kind {
        MAP_SHARED_VALIDATE if flags & !(KNOWN_FLAGS | MAP_TYPE) != 0 => return Err(Errno::EOPNOTSUPP),
        MAP_SHARED | MAP_SHARED_VALIDATE => {
            if !file.writable() {
                if wish.prot & PROT_WRITE != 0 {
                    return Err(Errno::EACCES);
                }
                wish.may &= !PROT_WRITE;
            }
        }
        MAP_PRIVATE => {}
        _ => return Err(Errno::EINVAL),
    }
    if !file.readable() {
        return Err(Errno::EACCES);
    }
    if file.path().mount.has(NOEXEC) {
        if wish.prot & PROT_EXEC != 0 {
            return Err(Errno::EPERM);
        }
        wish.may &= !PROT_EXEC;
    }
    Ok(())
}

/// Bytes that the host may fill in one call.
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

/// Brings a range in, as Linux does for what is locked: for writing where nobody else would see it.
pub(super) fn populate(cur: &CurrentTask, start: u64, end: u64) -> Result {
    let mut at = start;
    while let Some(v) = cur.mm().at_or_after(at).filter(|v| at < end && v.start < end) {
        let (from, to) = (v.start.max(at), v.end.min(end));
        let private_write = v.prot & PROT_WRITE != 0 && !v.shared;
        if v.prot != 0 && v.prot & PROT_READ == 0 && !private_write {
            // That it may not be read does not matter (`FOLL_FORCE`): the host's own mlock has brought it in.
            at = to;
            continue;
        }
        let advice = if private_write { MADV_POPULATE_WRITE } else { MADV_POPULATE_READ };
        piecewise(cur, from, to, |at, len| mem::madvise(at, len, advice as i32))?;
        at = to;
    }
    Ok(())
}

/// `munmap(2)`.
pub fn sys_munmap(cur: &CurrentTask, addr: u64, len: u64) -> SysResult<()> {
    Ok(cur.mm().munmap(addr, len)?)
}

/// `mprotect(2)`.
pub fn sys_mprotect(cur: &CurrentTask, addr: u64, len: u64, prot: u32) -> SysResult<()> {
    const PROT_SEM: u32 = 8;
    let grows = prot & (linux::PROT_GROWSDOWN | linux::PROT_GROWSUP);
    let known = PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM | linux::PROT_GROWSDOWN | linux::PROT_GROWSUP;
    if grows == linux::PROT_GROWSDOWN | linux::PROT_GROWSUP || !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    if len == 0 {
        return Ok(());
    }
    // Only then are unknown bits; nothing grows up on this machine.
    let end = len.checked_next_multiple_of(PAGE).and_then(|len| addr.checked_add(len)).ok_or(Errno::ENOMEM)?;
    if prot & !known != 0 || grows == linux::PROT_GROWSUP && end > addr && cur.mm().is_mapped(addr, addr + PAGE) {
        return Err(Errno::EINVAL.into());
    }
    Ok(cur.mm().mprotect(addr, len, prot, implied(cur, prot), grows == linux::PROT_GROWSDOWN)?)
}

/// `pkey_mprotect(2)` without a key.
pub fn sys_pkey_mprotect(cur: &CurrentTask, addr: u64, len: u64, prot: u32, pkey: i32) -> SysResult<()> {
    if pkey != -1 && addr & (PAGE - 1) == 0 {
        // No key is ever given out.
        return match len.wrapping_add(PAGE - 1) & !(PAGE - 1) {
            0 if len == 0 => Ok(()),
            len if addr.wrapping_add(len) <= addr => Err(Errno::ENOMEM.into()),
            _ => Err(Errno::EINVAL.into()),
        };
    }
    sys_mprotect(cur, addr, len, prot)
}

/// `brk(2)`.
pub fn sys_brk(cur: &CurrentTask, want: u64) -> SysResult<u64> {
    let before = cur.mm().heap().1;
    let now = cur.mm().brk(want, cur.group.limits.get(limits::DATA).0, lock_limit(cur));
    if now > before && cur.mm().locks_future() {
        let _ = populate(cur, before, now);
    }
    Ok(now)
}

/// `mremap(2)`.
pub fn sys_mremap(cur: &CurrentTask, old: u64, old_len: u64, new_len: u64, flags: u32, new: u64) -> SysResult<u64> {
    let at = cur.mm().mremap(old, old_len, new_len, flags, new, lock_limit(cur))?;
    if new_len > old_len && cur.mm().at_or_after(at).is_some_and(|v| v.flags.contains(VmaFlags::LOCKED)) {
        let _ = populate(cur, at, at.saturating_add(new_len));
    }
    Ok(at)
}

/// Whether up to `end` there is nothing but `first` and mappings of the same file that are like it, without a hole.
fn is_alike(mm: &AddressSpace, first: &Vma, end: u64) -> bool {
    let mut at = first.end;
    while at < end {
        let next = mm.at_or_after(at).filter(|v| v.start == at && v.is_like(first));
        let Some(next) = next else { return false };
        at = next.end;
    }
    true
}

/// `remap_file_pages(2)`, as Linux has emulated it since 4.0: by a mapping of its own.
pub fn sys_remap_file_pages(
    cur: &CurrentTask,
    start: u64,
    size: u64,
    prot: u32,
    page: u64,
    flags: u32,
) -> SysResult<()> {
    let (start, size) = (start & !(PAGE - 1), size & !(PAGE - 1));
    let end = start.checked_add(size).filter(|&end| end > start).ok_or(Errno::EINVAL)?;
    let last = page.checked_add(size / PAGE).filter(|&last| last <= FILE_MAX / PAGE);
    let vma = cur.mm().at_or_after(start).filter(|v| v.start <= start && v.shared);
    let vma = vma.filter(|v| prot == 0 && is_alike(cur.mm(), v, end));
    let (Some(_), Some(vma)) = (last, vma) else { return Err(Errno::EINVAL.into()) };
    let Backing::File { map, name, .. } = vma.backing else { return Err(Errno::EINVAL.into()) };
    let backing = Backing::File { map, offset: page * PAGE, name };
    let flags = MAP_SHARED | MAP_FIXED | flags & MAP_NONBLOCK;
    let (prot, may, label) = (vma.prot, vma.may, vma.label);
    cur.mm().mmap(&Request { addr: start, len: size, prot, flags, backing, label, may, memlock: lock_limit(cur) })?;
    let _ = populate(cur, start, end);
    Ok(())
}

/// A page-aligned range; `too_far` where its end does not fit.
fn range(addr: u64, len: u64, too_far: Errno) -> Result<(u64, u64)> {
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let len = len.checked_next_multiple_of(PAGE).ok_or(too_far)?;
    Ok((addr, addr.checked_add(len).ok_or(too_far)?))
}

/// What a piece of advice does to the record of a mapping.
fn advised(advice: u32, flags: VmaFlags) -> VmaFlags {
    match advice {
        linux::MADV_NORMAL => flags - VmaFlags::RANDOM - VmaFlags::SEQUENTIAL,
        linux::MADV_RANDOM => (flags - VmaFlags::SEQUENTIAL) | VmaFlags::RANDOM,
        linux::MADV_SEQUENTIAL => (flags - VmaFlags::RANDOM) | VmaFlags::SEQUENTIAL,
        MADV_DONTFORK => flags | VmaFlags::DONT_FORK,
        MADV_DOFORK => flags - VmaFlags::DONT_FORK,
        linux::MADV_DONTDUMP => flags | VmaFlags::DONT_DUMP,
        linux::MADV_DODUMP => flags - VmaFlags::DONT_DUMP,
        linux::MADV_HUGEPAGE => (flags - VmaFlags::NO_HUGE) | VmaFlags::HUGE,
        linux::MADV_NOHUGEPAGE => (flags - VmaFlags::HUGE) | VmaFlags::NO_HUGE,
        linux::MADV_UNMERGEABLE => flags - VmaFlags::MERGEABLE,
        MADV_WIPEONFORK => flags | VmaFlags::WIPE_ON_FORK,
        MADV_KEEPONFORK => flags - VmaFlags::WIPE_ON_FORK,
        _ => flags,
    }
}

/// Whether advice takes away contents that a program may not write (`can_modify_vma_madv` in Linux).
fn discards(v: &Vma, advice: u32) -> bool {
    const MADV_DONTNEED_LOCKED: u32 = 24;
    const MADV_GUARD_INSTALL: u32 = 102;
    matches!(
        advice,
        MADV_FREE
            | MADV_DONTNEED
            | MADV_DONTNEED_LOCKED
            | MADV_REMOVE
            | MADV_DONTFORK
            | MADV_WIPEONFORK
            | MADV_GUARD_INSTALL
    ) && !v.shared
        && v.prot & PROT_WRITE == 0
}

/// What the record says against it; the host says the rest.
fn refuses(v: &Vma, advice: u32) -> Option<Errno> {
    let locked = v.flags.contains(VmaFlags::LOCKED);
    let anon = matches!(v.backing, Backing::Anon);
    match advice {
        MADV_DONTNEED | MADV_COLD | MADV_PAGEOUT if locked => Some(Errno::EINVAL),
        MADV_REMOVE if locked || anon => Some(Errno::EINVAL),
        MADV_REMOVE if !v.shared || v.may & PROT_WRITE == 0 => Some(Errno::EACCES),
        MADV_FREE if !anon => Some(Errno::EINVAL),
        MADV_WIPEONFORK if !anon || v.shared => Some(Errno::EINVAL),
        _ => None,
    }
}

/// `madvise(2)`: advice goes to the host for what is mapped.
pub fn sys_madvise(cur: &CurrentTask, addr: u64, len: u64, advice: i32) -> SysResult<()> {
    Ok(advise(cur.mm(), addr, len, advice, || cur.is_dying())?)
}

/// `MADV_POPULATE_*`, which ends at the first hole.
fn bring_in(mm: &AddressSpace, start: u64, end: u64, advice: u32, is_dying: impl Fn() -> bool) -> Result {
    let mut at = start;
    while at < end {
        let v = mm.at_or_after(at).filter(|v| v.start <= at).ok_or(Errno::ENOMEM)?;
        let to = v.end.min(end).min(at.saturating_add(PIECE));
        if is_dying() {
            return Err(Errno::EINTR);
        }
        mm.advise_host(at, to, advice)?;
        at = to;
    }
    Ok(())
}

/// As [`sys_madvise`], by a thread that lives in `mm`.
pub(super) fn advise(mm: &AddressSpace, addr: u64, len: u64, advice: i32, is_dying: impl Fn() -> bool) -> Result {
    // NORMAL to DONTNEED, FREE, REMOVE, DONTFORK, DOFORK, MERGEABLE to COLLAPSE, GUARD_INSTALL and GUARD_REMOVE. Not
    // poisoning pages of the machine.
    if !matches!(advice, 0..=4 | 8..=25 | 102 | 103) {
        return Err(Errno::EINVAL);
    }
    let (start, end) = range(addr, len, Errno::EINVAL)?;
    if start == end {
        return Ok(());
    }
    let kind = advice.unsigned_abs();
    if matches!(kind, MADV_POPULATE_READ | MADV_POPULATE_WRITE) {
        return bring_in(mm, start, end, kind, is_dying);
    }
    let slow = matches!(kind, MADV_COLLAPSE | MADV_PAGEOUT);
    let mergeable = Cell::new(false);
    let act = |v: &Vma, at: u64, to: u64| {
        if is_dying() {
            return Err(Errno::EINTR);
        }
        mergeable.set(kind == linux::MADV_MERGEABLE && !v.shared);
        match refuses(v, kind) {
            Some(e) => Err(e),
            None => mm.advise_host(at, to, kind),
        }
    };
    let piece = if slow { PIECE } else { u64::MAX };
    mm.check_sealed(start, end, |v| discards(v, kind))?;
    let change = |flags| if mergeable.get() { flags | VmaFlags::MERGEABLE } else { advised(kind, flags) };
    mm.change_flags(start, end, piece, change, act)
}

/// `msync(2)`.
pub fn sys_msync(cur: &CurrentTask, addr: u64, len: u64, flags: u32) -> SysResult<()> {
    if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0 || flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC {
        return Err(Errno::EINVAL.into());
    }
    // The length is rounded up without care.
    let (start, end) = range(addr, len.wrapping_add(PAGE - 1) & !(PAGE - 1), Errno::ENOMEM)?;
    let act = |v: &Vma, at: u64, to: u64| {
        if flags & MS_INVALIDATE != 0 && v.flags.contains(VmaFlags::LOCKED) {
            return Err(Errno::EBUSY);
        }
        if flags & MS_SYNC != 0 && v.shared { mem::msync(at, to - at, MS_SYNC) } else { Ok(()) }
    };
    Ok(cur.mm().change_flags(start, end, u64::MAX, |flags| flags, act)?)
}

/// `mincore(2)`.
pub fn sys_mincore(cur: &CurrentTask, addr: u64, len: u64, out: UserPtr<u8>) -> SysResult<()> {
    let (start, end) = range(addr, len, Errno::ENOMEM)?;
    if end > crate::abi::layout::TASK_SIZE {
        return Err(Errno::ENOMEM.into());
    }
    crate::mm::accessible(out.addr(), (end - start) / PAGE)?;
    let mut at = start;
    let mut buf = [0u8; 512];
    while at < end {
        // What lies in front of a hole is told.
        let there = cur.mm().at_or_after(at).filter(|v| v.start <= at).ok_or(Errno::ENOMEM)?;
        let n = ((there.end.min(end) - at) / PAGE).min(buf.len() as u64);
        mem::mincore(at, n * PAGE, &mut buf)?;
        let out: UserSlice<u8> = out.add(((at - start) / PAGE) as usize).slice(n as usize);
        out.write_from(&buf[..n as usize])?;
        at += n * PAGE;
    }
    Ok(())
}

/// Bytes that the process may lock.
pub(super) fn lock_limit(cur: &CurrentTask) -> u64 {
    let limit = cur.group.limits.get(limits::MEMLOCK).0;
    if limit == u64::MAX || cur.cred().capable(cap::IPC_LOCK) { u64::MAX } else { limit }
}

/// Whether the process may lock anything (`can_do_mlock` in Linux).
fn may_lock(cur: &CurrentTask) -> Result {
    if lock_limit(cur) == 0 { Err(Errno::EPERM) } else { Ok(()) }
}

fn lock(cur: &CurrentTask, addr: u64, len: u64, on_fault: bool) -> SysResult<()> {
    may_lock(cur)?;
    // Linux looks at the limit before it looks whether the range makes sense, and rounds up without care.
    let start = addr & !(PAGE - 1);
    let len = len.wrapping_add(addr - start).wrapping_add(PAGE - 1) & !(PAGE - 1);
    let end = start.wrapping_add(len);
    let mm = cur.mm();
    let more = len - if end > start { mm.locked_in(start, end) } else { 0 };
    if mm.sizes().locked.saturating_add(more) > lock_limit(cur) {
        return Err(Errno::ENOMEM.into());
    }
    if end < start {
        return Err(Errno::EINVAL.into());
    }
    let as_asked = if on_fault { VmaFlags::LOCKED | VmaFlags::ON_FAULT } else { VmaFlags::LOCKED };
    lock_mapped(cur, start, end, as_asked, false)?;
    if !on_fault {
        populate(cur, start, end).map_err(|e| match e {
            Errno::EFAULT | Errno::EINVAL => Errno::ENOMEM,
            Errno::ENOMEM => Errno::EAGAIN,
            e => e,
        })?;
    }
    Ok(())
}

/// Locks what is mapped in a range, or unlocks it; `over_holes`: it is done to all, whatever lies in between.
fn lock_mapped(cur: &CurrentTask, start: u64, end: u64, locked: VmaFlags, over_holes: bool) -> Result {
    let both = VmaFlags::LOCKED | VmaFlags::ON_FAULT;
    let mm = cur.mm();
    let mut at = start;
    while at < end {
        let Some(v) = mm.at_or_after(at).filter(|v| v.start < end) else {
            return if over_holes { Ok(()) } else { Err(Errno::ENOMEM) };
        };
        if v.start > at && !over_holes {
            return Err(Errno::ENOMEM);
        }
        let (from, to) = (v.start.max(at), v.end.min(end));
        mm.change_flags(
            from,
            to,
            u64::MAX,
            |flags| (flags - both) | locked,
            |_, at, to| {
                let done = if locked.is_empty() { mem::munlock(at, to - at) } else { mem::mlock(at, to - at) };
                // What the host cannot lock is passed over where all is meant (`apply_mlockall_flags`).
                if over_holes { Ok(()) } else { done }
            },
        )?;
        at = to;
    }
    Ok(())
}

/// `mlock(2)`.
pub fn sys_mlock(cur: &CurrentTask, addr: u64, len: u64) -> SysResult<()> {
    lock(cur, addr, len, false)
}

/// `mlock2(2)`.
pub fn sys_mlock2(cur: &CurrentTask, addr: u64, len: u64, flags: u32) -> SysResult<()> {
    if flags & !MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL.into());
    }
    lock(cur, addr, len, flags & MLOCK_ONFAULT != 0)
}

/// `munlock(2)`.
pub fn sys_munlock(cur: &CurrentTask, addr: u64, len: u64) -> SysResult<()> {
    let start = addr & !(PAGE - 1);
    let len = len.wrapping_add(addr - start).wrapping_add(PAGE - 1) & !(PAGE - 1);
    let (start, end) = range(start, len, Errno::EINVAL)?;
    Ok(lock_mapped(cur, start, end, VmaFlags::empty(), false)?)
}

/// `mlockall(2)`.
pub fn sys_mlockall(cur: &CurrentTask, flags: u32) -> SysResult<()> {
    if flags == 0 || flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || flags == MCL_ONFAULT {
        return Err(Errno::EINVAL.into());
    }
    may_lock(cur)?;
    let mm = cur.mm();
    if flags & MCL_CURRENT != 0 && mm.sizes().total > lock_limit(cur) {
        return Err(Errno::ENOMEM.into());
    }
    let on_fault = if flags & MCL_ONFAULT != 0 { VmaFlags::ON_FAULT } else { VmaFlags::empty() };
    let locked = VmaFlags::LOCKED | on_fault;
    mm.lock_future(if flags & MCL_FUTURE != 0 { locked } else { VmaFlags::empty() });
    if flags & MCL_CURRENT != 0 {
        lock_mapped(cur, 0, u64::MAX, locked, true)?;
        if on_fault.is_empty() {
            // What cannot be brought in, such as guard pages, does not matter here.
            let mut at = 0;
            while let Some(v) = mm.at_or_after(at) {
                let _ = populate(cur, v.start, v.end);
                at = v.end;
            }
        }
    }
    Ok(())
}

/// `munlockall(2)`.
pub fn sys_munlockall(cur: &CurrentTask) -> SysResult<()> {
    cur.mm().lock_future(VmaFlags::empty());
    Ok(lock_mapped(cur, 0, u64::MAX, VmaFlags::empty(), true)?)
}
