//! Locked memory (`mlock(2)`), and what `madvise(2)` makes of mappings.

use super::super::vma::{Vma, VmaFlags};
use super::{AddressSpace, Inner, PAGE};
use crate::abi::linux::MAP_LOCKED;
use crate::abi::{Errno, Result};
use crate::host::mem;

impl Inner {
    /// What a new mapping with these `MAP_*` is locked as.
    pub(super) fn lock_flags(&self, flags: u32) -> VmaFlags {
        self.lock_future | if flags & MAP_LOCKED != 0 { VmaFlags::LOCKED } else { VmaFlags::empty() }
    }

    /// Whether `len` more bytes may be locked where `limit` bytes may be (`mlock_future_ok` in Linux).
    ///
    /// # Errors
    /// `EAGAIN`.
    pub(super) fn check_locked(&self, len: u64, flags: VmaFlags, limit: u64) -> Result {
        let sum = self.vmas.sizes().locked.saturating_add(len);
        if flags.contains(VmaFlags::LOCKED) && sum > limit { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// Has the host lock what is recorded as locked; bringing it in is the caller's.
    ///
    /// # Errors
    /// `EAGAIN` where the host allows less than the process's own limit.
    pub(super) fn lock_pages(&self, start: u64, end: u64, flags: VmaFlags) -> Result {
        let locked = !flags.contains(VmaFlags::LOCKED) || mem::mlock(start, end - start).is_ok();
        if locked { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    /// As [`Inner::lock_pages`] for what was mapped just now, and is not where it cannot be locked.
    ///
    /// # Errors
    /// `EAGAIN`.
    pub(super) fn lock_new(&mut self, start: u64, end: u64, flags: VmaFlags) -> Result {
        self.lock_pages(start, end, flags).inspect_err(|_| {
            if mem::munmap(start, end - start).is_ok() {
                self.vmas.remove(start, end);
            }
        })
    }
}

impl AddressSpace {
    /// Changes the flags of what is mapped in `start..end`, mapping by mapping and piece by piece of at most `piece`
    /// bytes, after `act` has done something to the host's mapping. As in Linux what lies before the first failure is
    /// changed, and holes are skipped.
    ///
    /// # Errors
    /// `ENOMEM` where there are holes; those of `act`, which sees each mapping before anything is done to it.
    pub fn change_flags(
        &self,
        start: u64,
        end: u64,
        piece: u64,
        change: impl Fn(VmaFlags) -> VmaFlags,
        mut act: impl FnMut(&Vma, u64, u64) -> Result,
    ) -> Result {
        let (mut at, mut holes) = (start, false);
        while at < end {
            let Some(v) = self.at_or_after(at).filter(|v| v.start < end) else { return Err(Errno::ENOMEM) };
            holes |= v.start > at;
            at = v.start.max(at);
            let to = v.end.min(end).min(at.saturating_add(piece));
            act(&v, at, to)?;
            let mut inner = self.inner.write();
            // It may be another one by now; then the host was told about that one, too.
            if let Some(v) = inner.vmas.find(at) {
                let (to, flags) = (v.end.min(to), v.flags);
                if change(flags) != flags {
                    let new = inner.vmas.splits(at, to);
                    inner.vmas.admit(new)?;
                    inner.vmas.change(at, to, |v| v.flags = change(flags));
                }
            }
            at = to;
        }
        if holes { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// The guest's mapping that holds `addr`, else the next one.
    pub fn at_or_after(&self, addr: u64) -> Option<Vma> {
        let inner = self.inner.read();
        let mut at = addr;
        loop {
            let v = inner.vmas.at_or_after(at)?;
            if v.label != super::rewrite::LABEL {
                return Some(v.clone());
            }
            at = v.end;
        }
    }

    /// Whether nothing of `start..end` that `counts` is sealed.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn check_sealed(&self, start: u64, end: u64, counts: impl Fn(&Vma) -> bool) -> Result {
        let inner = self.inner.read();
        let mut sealed = inner.vmas.overlapping(start, end).filter(|v| v.flags.contains(VmaFlags::SEALED));
        if sealed.any(counts) { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Bytes of `start..end` that are locked already.
    pub fn locked_in(&self, start: u64, end: u64) -> u64 {
        let inner = self.inner.read();
        let locked = inner.vmas.overlapping(start, end).filter(|v| v.flags.contains(VmaFlags::LOCKED));
        locked.map(|v| v.end.min(end) - v.start.max(start)).sum()
    }

    /// Whether any mapping has one of these flags.
    pub fn has_any(&self, flags: VmaFlags) -> bool {
        self.inner.read().vmas.overlapping(0, u64::MAX).any(|v| v.flags.intersects(flags))
    }

    /// What mappings made from now on are locked as (`MCL_FUTURE`).
    pub fn lock_future(&self, flags: VmaFlags) {
        self.inner.write().lock_future = flags;
    }

    /// Whether new mappings are locked.
    pub fn locks_future(&self) -> bool {
        self.inner.read().lock_future.contains(VmaFlags::LOCKED)
    }

    /// Whether all of `start..end` is mapped by what `allows` says yes to.
    ///
    /// # Errors
    /// `ENOMEM` for a hole, `no` where it says no.
    pub fn check_all(&self, start: u64, end: u64, no: Errno, allows: impl Fn(&Vma) -> bool) -> Result {
        let inner = self.inner.read();
        let mut at = start;
        for v in inner.vmas.overlapping(start, end.max(start + PAGE)) {
            if v.start > at {
                return Err(Errno::ENOMEM);
            }
            if !allows(v) {
                return Err(no);
            }
            at = v.end;
        }
        if at >= end { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}
