//! Where mappings go, and the host mappings that make them real.

use super::super::budget;
use super::super::memfile::Extent;
use super::super::text::{self, Text};
use super::super::vma::{Backing, Vma, VmaFlags};
use super::super::{HostRun, Mappable};
use super::{
    AddressSpace, Inner, LOW_END, MAY_ALL, MIN_ADDR, PAGE, Request, around_window, in_window, outside_guest, page_up,
    rewrite,
};
use crate::abi::layout::{END, GUARD};
use crate::abi::linux::{
    MAP_32BIT, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED,
    MAP_STACK, PROT_EXEC, PROT_WRITE,
};
use crate::abi::{Errno, Result};
use crate::arch::slot::window;
use crate::host::mem;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What stays free below a mapping that grows down (`stack_guard_gap` in Linux).
const STACK_GAP: u64 = 256 * PAGE;

impl Request {
    fn shared(&self) -> bool {
        self.flags & MAP_SHARED != 0
    }

    /// Whether it counts against `RLIMIT_DATA`.
    pub(super) fn is_data(&self) -> bool {
        !self.shared() && self.prot & PROT_WRITE != 0 && self.flags & MAP_GROWSDOWN == 0
    }

    /// Says no to what a program may write to and that can never all be there.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn admit(&self, len: u64) -> Result {
        if self.is_data() && self.flags & MAP_NORESERVE == 0 { budget::admit(len) } else { Ok(()) }
    }
}

impl Inner {
    /// Picks an address for a new mapping.
    pub(super) fn choose(&mut self, hint: u64, len: u64, flags: u32) -> Result<u64> {
        if flags & MAP_32BIT != 0 {
            return self.gap(LOW_END, MIN_ADDR, len).ok_or(Errno::ENOMEM);
        }
        let want = match hint & !(PAGE - 1) {
            0 => 0,
            want => want.max(MIN_ADDR),
        };
        if want != 0
            && let Some(end) = want.checked_add(len)
            && !outside_guest(want, end)
            && self.vmas.at_or_after(want).is_none_or(|v| end <= v.start - gap_below(v).min(v.start))
        {
            return Ok(want);
        }
        let (low, high) = (window(), window() + END + GUARD);
        let top = self.top;
        if let Some(found) = self.gap(top, high.min(top), len) {
            return Ok(found);
        }
        self.gap(low.min(top), MIN_ADDR, len).ok_or(Errno::ENOMEM)
    }

    /// The highest free range that leaves room for what grows down.
    fn gap(&mut self, mut top: u64, floor: u64, len: u64) -> Option<u64> {
        loop {
            let found = self.vmas.gap_below(top, floor, len)?;
            match self.vmas.at_or_after(found) {
                Some(v)
                    if v.start < found + len + gap_below(v) && found + len > v.start.saturating_sub(gap_below(v)) =>
                {
                    top = v.start.saturating_sub(gap_below(v)).min(found + len - PAGE);
                }
                _ => return Some(found),
            }
        }
    }

    /// Makes the host mapping for addresses that are free, or that it replaces, and records it. Room was admitted.
    pub(super) fn place(&mut self, addr: u64, len: u64, r: &Request) -> Result {
        let (shared, end) = (r.shared(), addr + len);
        let backing = match (&r.backing, shared) {
            (Backing::Anon, true) => Backing::File {
                map: SharedAnon::mappable(len, r.flags)?,
                offset: 0,
                name: Arc::from(&b"/dev/zero (deleted)"[..]),
            },
            (b, _) => b.clone(),
        };
        let keep = r.flags & (MAP_NORESERVE | MAP_FIXED_NOREPLACE);
        let prot = r.prot & MAY_ALL;
        let code = rewrite::enabled()
            && !shared
            && prot & (PROT_EXEC | PROT_WRITE) == PROT_EXEC
            && self.patches.copies_wanted();
        let text = if code { text_of(len, &backing) } else { None };
        let replaces = !self.vmas.is_free(addr, end);
        if replaces {
            self.patches.before_change(&self.vmas, addr, end, true);
        }
        if !text.as_ref().is_some_and(|(text, _)| self.patches.map_copy(text, addr, len, prot, keep))
            && let Err(e) = map_backing(addr, len, prot, shared, &backing, keep)
        {
            if replaces && e == Errno::ENOMEM {
                self.forget_unmapped(addr, end);
            }
            return Err(e);
        }
        if replaces {
            self.vmas.remove(addr, end);
        }
        let mut flags = self.lock_flags(r.flags);
        flags.set(VmaFlags::GROWS_DOWN, r.flags & MAP_GROWSDOWN != 0);
        flags.set(VmaFlags::NO_HUGE, r.flags & MAP_STACK != 0);
        flags.set(VmaFlags::NO_RESERVE, keep & MAP_NORESERVE != 0);
        let (label, may) = (r.label, r.may);
        self.vmas.insert(Vma { start: addr, end, prot, shared, backing, label, text, may, flags });
        self.lock_new(addr, end, flags)
    }

    /// The host failed to replace what was mapped in `start..end`: older ones have unmapped it by then.
    fn forget_unmapped(&mut self, start: u64, end: u64) {
        let Some(first) = self.vmas.at_or_after(start).map(|v| v.start.max(start)) else { return };
        let mut byte = [0];
        if first < end && mem::mincore(first, PAGE, &mut byte).is_err() && mem::munmap(start, end - start).is_ok() {
            self.vmas.remove(start, end);
        }
    }

    /// Whether nothing of `start..end` is sealed.
    pub(super) fn check_sealed(&self, start: u64, end: u64) -> Result {
        let sealed = self.vmas.overlapping(start, end).any(|v| v.flags.contains(VmaFlags::SEALED));
        if sealed { Err(Errno::EPERM) } else { Ok(()) }
    }

    pub(super) fn unmap(&mut self, start: u64, end: u64) -> Result {
        let Some(first) = self.vmas.at_or_after(start).filter(|v| v.start < end) else { return Ok(()) };
        let hole = usize::from(first.start < start && first.end > end);
        self.vmas.admit_removal(hole)?;
        self.patches.before_change(&self.vmas, start, end, true);
        for (from, to) in around_window(start, end) {
            if (from, to) == (start, end) || !self.vmas.is_free(from, to) {
                mem::munmap(from, to - from)?;
                self.vmas.remove(from, to);
            }
        }
        Ok(())
    }

    /// Changes the protection of `start..end`, which lies within one mapping.
    pub(super) fn protect(&mut self, start: u64, end: u64, prot: u32) -> Result {
        let v = self.vmas.find(start).ok_or(Errno::ENOMEM)?;
        self.vmas.admit(usize::from(v.start < start) + usize::from(end < v.end))?;
        if prot & PROT_WRITE != 0 {
            self.patches.before_change(&self.vmas, start, end, false);
        }
        let v = self.vmas.find(start).ok_or(Errno::ENOMEM)?;
        if v.shared && prot & PROT_WRITE != 0 && v.prot & PROT_WRITE == 0 {
            // The file may have to be copied up first, and then it is another one to the host.
            map_backing(start, end - start, prot, true, &v.backing.advanced(start - v.start), 0)?;
        } else {
            mem::mprotect(start, end - start, prot)?;
        }
        let flags = v.flags;
        self.vmas.change(start, end, |v| {
            v.prot = prot;
            if prot & PROT_WRITE != 0 {
                // No copy may take the place of what is written there.
                v.text = None;
            }
        });
        // It was locked before, and the host counts it once.
        let _ = self.lock_pages(start, end, flags);
        Ok(())
    }

    /// Lets the mapping above `addr` that grows down reach down to it; `limit`: `RLIMIT_STACK`.
    fn grow_down(&mut self, addr: u64, limit: u64) -> Result {
        let v = self.vmas.at_or_after(addr).ok_or(Errno::EFAULT)?;
        let to = addr & !(PAGE - 1);
        let grows = v.flags.contains(VmaFlags::GROWS_DOWN) && v.start > addr && v.end - to <= limit;
        let below = self.vmas.before(v.start).map_or(0, |b| b.end + if b.prot == 0 { 0 } else { STACK_GAP });
        if !grows || to < below.max(MIN_ADDR) || in_window(to, v.start) {
            return Err(Errno::EFAULT);
        }
        let (start, prot, flags) = (v.start, v.prot, v.flags);
        self.vmas.admit(0)?;
        map_backing(to, start - to, prot, false, &Backing::Anon, 0)?;
        self.vmas.grow_down(start, to);
        // The program cannot be told.
        let _ = self.lock_pages(to, start, flags);
        Ok(())
    }
}

impl AddressSpace {
    /// Mappings that are put anywhere lie below `top`, the nearer the better.
    pub fn set_top(&self, top: u64) {
        self.inner.write().top = top;
    }

    /// Whether nothing is mapped in a range that [`Self::check_addresses`] has let pass.
    ///
    /// # Errors
    /// `EEXIST`.
    pub fn check_free(&self, addr: u64, len: u64) -> Result {
        let free = self.inner.read().vmas.is_free(addr, addr.saturating_add(page_up(len)?));
        if free { Ok(()) } else { Err(Errno::EEXIST) }
    }

    /// A guest touched `addr`, where nothing is mapped: whether a mapping above it has grown down to it. `limit`:
    /// `RLIMIT_STACK`, bytes.
    pub fn grow_down(&self, addr: u64, limit: u64) -> bool {
        let near = self
            .inner
            .read()
            .vmas
            .at_or_after(addr)
            .is_some_and(|v| v.start > addr && v.flags.contains(VmaFlags::GROWS_DOWN));
        if !near {
            return false;
        }
        let mut inner = self.inner.write();
        let room = inner.vmas.at_or_after(addr).map_or(0, |v| v.start.saturating_sub(addr & !(PAGE - 1)));
        let fits = self.expand(&inner, room, false, 0).is_ok();
        fits && inner.grow_down(addr, limit).is_ok()
    }
}

/// How much stays free below a mapping.
fn gap_below(v: &Vma) -> u64 {
    if v.flags.contains(VmaFlags::GROWS_DOWN) { STACK_GAP } else { 0 }
}

/// What is remembered of the code in `len` bytes of `backing`, where that is a host file's.
fn text_of(len: u64, backing: &Backing) -> Option<(Arc<Text>, i32)> {
    let Backing::File { map, offset, .. } = backing else { return None };
    let run = map.run(*offset, len, false).ok()?;
    if run.lasting { text::of(run.fd, *offset, len).map(|text| (text, run.fd)) } else { None }
}

/// Makes the host mapping.
pub(super) fn map_backing(addr: u64, len: u64, prot: u32, shared: bool, backing: &Backing, keep: u32) -> Result {
    let Backing::File { map, offset, .. } = backing else {
        return mem::mmap(addr, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | keep, -1, 0).map(drop);
    };
    let HostRun { fd, offset, .. } = map.run(*offset, len, shared && prot & PROT_WRITE != 0)?;
    let kind = if shared { MAP_SHARED } else { MAP_PRIVATE };
    mem::mmap(addr, len, prot, kind | MAP_FIXED | keep, fd, offset).map(drop)
}

/// Shared anonymous memory: an extent of the memory file that lives as long as a mapping of it.
struct SharedAnon(Extent);

impl SharedAnon {
    fn mappable(len: u64, flags: u32) -> Result<Arc<dyn Mappable>> {
        let extent = if flags & MAP_NORESERVE != 0 { Extent::sparse(len)? } else { Extent::alloc(len)? };
        Ok(Arc::new(SharedAnon(extent)))
    }
}

impl Mappable for SharedAnon {
    fn run(&self, offset: u64, len: u64, _shared_write: bool) -> Result<HostRun> {
        self.0.run(offset, len).ok_or(Errno::ENOMEM)
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        (1, self.0.offset() >> 12, Vec::new())
    }

    fn identity(&self) -> (u64, u64) {
        (u64::MAX, self.0.offset())
    }

    fn memory(&self) -> u64 {
        self.0.len()
    }
}
