//! `mremap(2)`.

use super::super::budget;
use super::super::vma::{Vma, VmaFlags};
use super::place::map_backing;
use super::{AddressSpace, Inner, PAGE, imaged, in_window, outside_guest, page_up};
use crate::abi::layout::TASK_SIZE;
use crate::abi::linux::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE};
use crate::abi::{Errno, Result};
use crate::host::mem;

/// What `mremap` was asked for, checked.
struct Move {
    old: u64,
    old_len: u64,
    new_len: u64,
    flags: u32,
    new: u64,
}

impl Move {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The checks that need no mapping, in Linux's order.
    fn check(old: u64, old_len: u64, new_len: u64, flags: u32, new: u64) -> Result<Move> {
        let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
        if flags & !known != 0 || old & (PAGE - 1) != 0 {
            return Err(Errno::EINVAL);
        }
        // Like Linux, whose lengths wrap to 0 here.
        let old_len = page_up(old_len).unwrap_or(0);
        let new_len = page_up(new_len).unwrap_or(0);
        if new_len == 0 || new_len > TASK_SIZE {
            return Err(Errno::EINVAL);
        }
        let m = Move { old, old_len, new_len, flags, new };
        if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) == 0 {
            return Ok(m);
        }
        let ends = (old.checked_add(old_len), new.checked_add(new_len));
        let (Some(old_end), Some(new_end)) = ends else { return Err(Errno::EINVAL) };
        let overlap = flags & MREMAP_FIXED != 0 && new < old_end && old < new_end;
        if new & (PAGE - 1) != 0
            || new_end > TASK_SIZE
            || flags & MREMAP_MAYMOVE == 0
            || flags & MREMAP_DONTUNMAP != 0 && old_len != new_len
            || overlap
        {
            return Err(Errno::EINVAL);
        }
        if flags & MREMAP_FIXED != 0 && in_window(new, new_end) { Err(Errno::EINVAL) } else { Ok(m) }
    }
}

impl AddressSpace {
    /// `mremap(2)`; `memlock` as in [`super::Request`].
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT`, `ENOMEM`, `EAGAIN`.
    pub fn mremap(&self, old: u64, old_len: u64, new_len: u64, flags: u32, new: u64, memlock: u64) -> Result<u64> {
        let m = Move::check(old, old_len, new_len, flags, new)?;
        let mut inner = self.inner.write();
        if m.has(MREMAP_FIXED) && m.old_len == m.new_len {
            self.move_all(&mut inner, m)
        } else {
            self.remap(&mut inner, &m, memlock)
        }
    }

    /// Moves all mappings of a range to a fixed address, each as far behind the first as it was; the holes between
    /// them replace nothing.
    fn move_all(&self, inner: &mut Inner, m: Move) -> Result<u64> {
        let end = m.old + m.old_len;
        let (mut at, mut last) = (m.old, None);
        // What has been passed may have become one with what lies behind.
        while let Some(v) = inner.vmas.at_or_after(at).filter(|v| at < end && v.start < end) {
            let (from, to) = (v.start.max(at), v.end.min(end));
            at = v.end;
            if v.label == super::rewrite::LABEL {
                continue;
            }
            if last.is_none() && from > m.old {
                break;
            }
            let part =
                Move { old: from, old_len: to - from, new_len: to - from, flags: m.flags, new: m.new + (from - m.old) };
            self.remap(inner, &part, u64::MAX)?;
            last = Some(to);
        }
        if last.is_some() { Ok(m.new) } else { Err(Errno::EFAULT) }
    }

    /// Moves, lengthens, shortens or duplicates one mapping or a part of it.
    fn remap(&self, inner: &mut Inner, m: &Move, memlock: u64) -> Result<u64> {
        let (old, flags) = (m.old, m.flags);
        let vma = inner.vmas.find(old).filter(|v| v.label != super::rewrite::LABEL).cloned().ok_or(Errno::EFAULT)?;
        if vma.flags.contains(VmaFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        if m.new_len == m.old_len && flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) == 0 {
            // Nothing is to be done, whatever lies behind.
            return Ok(old);
        }
        if m.old_len == 0 && !vma.shared {
            return Err(Errno::EINVAL);
        }
        if m.new_len < m.old_len && flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) == 0 {
            // As by munmap: what is behind may be any mappings.
            let end = old.checked_add(m.old_len).filter(|&end| end <= TASK_SIZE).ok_or(Errno::EINVAL)?;
            inner.check_sealed(old + m.new_len, end)?;
            return inner.unmap(old + m.new_len, end).map(|()| old);
        }
        // What lies behind the new length goes first, whatever it is.
        if m.old_len.min(m.new_len) > vma.end - old {
            return Err(Errno::EFAULT);
        }
        let keeps = m.old_len == 0 || m.has(MREMAP_DONTUNMAP);
        let grow = if keeps { m.new_len } else { m.new_len.saturating_sub(m.old_len) };
        if grow > 0 {
            inner.check_locked(grow, vma.flags, memlock)?;
            self.expand(inner, grow, vma.is_data(), 0)?;
            if vma.is_data() && !vma.flags.contains(VmaFlags::NO_RESERVE) {
                budget::admit(grow)?;
            }
        }
        if m.has(MREMAP_FIXED) {
            inner.check_sealed(m.new, m.new.saturating_add(m.new_len))?;
            if m.new_len < m.old_len {
                let end = old.checked_add(m.old_len).filter(|&end| end <= TASK_SIZE).ok_or(Errno::EINVAL)?;
                inner.check_sealed(old + m.new_len, end)?;
            }
            return inner.move_to(&vma, m, m.new);
        }
        if !keeps && inner.grow_in_place(&vma, m)? {
            return Ok(old);
        }
        if !m.has(MREMAP_MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        let to = inner.choose(if m.has(MREMAP_DONTUNMAP) { m.new } else { 0 }, m.new_len, 0)?;
        inner.move_to(&vma, m, to)
    }
}

impl Inner {
    /// Lengthens `vma` where it ends, if it ends with what was asked for and the addresses behind are free.
    fn grow_in_place(&mut self, vma: &Vma, m: &Move) -> Result<bool> {
        let (end, new_end) = (vma.end, m.old.saturating_add(m.new_len));
        if m.old + m.old_len != end || outside_guest(end, new_end) || !self.vmas.is_free(end, new_end) {
            return Ok(false);
        }
        self.vmas.admit(1)?;
        let backing = vma.backing.advanced(end - vma.start);
        map_backing(end, new_end - end, vma.prot, vma.shared, &backing, 0)?;
        self.vmas.insert(Vma { start: end, end: new_end, backing, ..vma.clone() });
        self.lock_new(end, new_end, vma.flags)?;
        Ok(true)
    }

    /// Moves (or, for nothing, duplicates) what was asked for to `to`, where whatever is mapped goes.
    fn move_to(&mut self, vma: &Vma, m: &Move, to: u64) -> Result<u64> {
        let (old, old_len, new_len) = (m.old, m.old_len, m.new_len);
        // What is put there, what is left beside the old place, and what is left beside the new one.
        self.vmas.admit(1 + self.vmas.holes(old, old + old_len) + self.vmas.holes(to, to + new_len))?;
        let backing = vma.backing.advanced(old - vma.start);
        self.unmap(to, to + new_len)?;
        if old_len > new_len {
            self.unmap(old + new_len, old + old_len)?;
        }
        let moved = old_len.min(new_len);
        self.patches.before_change(&self.vmas, old, old + moved, false);
        if new_len > moved {
            // Not by the host's own growing, which would go on with what lies behind in its file.
            map_backing(to + moved, new_len - moved, vma.prot, vma.shared, &backing.advanced(moved), 0)?;
        }
        if moved > 0 {
            let host = MREMAP_MAYMOVE | MREMAP_FIXED | m.flags & MREMAP_DONTUNMAP;
            if let Err(e) = imaged::move_pages(old, moved, host, to, mem::mremap) {
                if new_len > moved {
                    mem::munmap(to + moved, new_len - moved)?;
                }
                return Err(e);
            }
        }
        if moved > 0 && m.has(MREMAP_DONTUNMAP) {
            // All of the mapping is unlocked, whatever part has moved (`dontunmap_complete`).
            self.vmas.change(vma.start, vma.end, |v| v.flags -= VmaFlags::LOCKED | VmaFlags::ON_FAULT);
        } else if moved > 0 {
            self.vmas.remove(old, old + moved);
        }
        self.patches.forget(old, old + moved);
        self.vmas.insert(Vma { start: to, end: to + new_len, backing, text: None, ..vma.clone() });
        // As in Linux what has moved stays where it is now.
        let _ = self.lock_pages(to, to + new_len, vma.flags);
        Ok(to)
    }
}
