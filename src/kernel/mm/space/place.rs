//! Where mappings go, and the host mappings that make them real.

use super::super::memfile::Extent;
use super::super::text::{self, Text};
use super::super::vma::{Backing, Vma};
use super::super::{HostRun, Mappable};
use super::{Inner, LOW_END, MIN_ADDR, PAGE, Request, in_window, rewrite};
use crate::abi::layout::{END, GUARD, TASK_SIZE};
use crate::abi::linux::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE,
    PROT_EXEC, PROT_READ, PROT_WRITE,
};
use crate::abi::{Errno, Result};
use crate::arch::slot::window;
use crate::host::{mem, window as host_window};
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Inner {
    /// Picks an address for a new mapping.
    pub(super) fn choose(&mut self, hint: u64, len: u64, flags: u32) -> Result<u64> {
        if flags & crate::abi::linux::MAP_32BIT != 0 {
            return self.vmas.gap_below(LOW_END, MIN_ADDR, len).ok_or(Errno::ENOMEM);
        }
        let want = hint & !(PAGE - 1);
        if want >= MIN_ADDR
            && let Some(end) = want.checked_add(len)
            && end <= TASK_SIZE
            && !in_window(want, end)
            && self.vmas.is_free(want, end)
        {
            return Ok(want);
        }
        let floor = window() + END + GUARD;
        let found = self.vmas.gap_below(self.hint, floor, len).or_else(|| {
            self.vmas.gap_below(self.top, floor, len).or_else(|| self.vmas.gap_below(window(), MIN_ADDR, len))
        });
        let addr = found.ok_or(Errno::ENOMEM)?;
        if addr + len == self.hint {
            self.hint = addr;
        }
        Ok(addr)
    }

    /// Makes the host mappings for free addresses and records them.
    pub(super) fn place(&mut self, addr: u64, len: u64, r: &Request) -> Result {
        let shared = r.flags & MAP_SHARED != 0;
        let backing = match (&r.backing, shared) {
            (Backing::Anon, true) => Backing::File {
                map: Arc::new(SharedAnon(Extent::alloc(len)?)),
                offset: 0,
                name: Arc::from(&b"/dev/zero (deleted)"[..]),
            },
            (b, _) => b.clone(),
        };
        let keep = r.flags & MAP_NORESERVE;
        let prot = r.prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
        let code = rewrite::enabled() && !shared && prot & (PROT_EXEC | PROT_WRITE) == PROT_EXEC && !self.patches.off();
        let text = if code { text_of(len, &backing) } else { None };
        if !text.as_ref().is_some_and(|(text, _)| self.patches.map_copy(text, addr, len, prot, keep)) {
            map_backing(addr, len, r.prot, shared, &backing, keep)?;
        }
        self.vmas.insert(Vma {
            start: addr,
            end: addr + len,
            prot,
            shared,
            backing,
            label: r.label,
            text,
            may_write: r.may_write,
        });
        Ok(())
    }

    pub(super) fn unmap(&mut self, start: u64, end: u64, host: bool) -> Result {
        self.patches.before_change(&self.vmas, start, end, true);
        let gone = self.vmas.remove(start, end);
        if gone.is_empty() {
            return Ok(());
        }
        if end >= self.hint && end <= self.top {
            // The next search sees the hole.
            self.hint = self.hint.max(end);
        }
        if host {
            for v in &gone {
                mem::munmap(v.start, v.len())?;
            }
        }
        Ok(())
    }

    /// Maps shared file pages again that are about to become writable: the file copies up first.
    pub(super) fn remap_shared(&mut self, start: u64, end: u64) -> Result {
        let vmas: Vec<Vma> = self.vmas.overlapping(start, end).cloned().collect();
        for v in vmas {
            if v.shared {
                map_backing(v.start, v.len(), v.prot, true, &v.backing, 0)?;
            } else {
                mem::mprotect(v.start, v.len(), v.prot)?;
            }
        }
        Ok(())
    }

    pub(super) fn extend(&mut self, vma: &Vma, at: u64, grow: u64) -> Result {
        let backing = match &vma.backing {
            Backing::Anon => Backing::Anon,
            Backing::File { map, offset, name } => {
                Backing::File { map: map.clone(), offset: offset + (at - vma.start), name: name.clone() }
            }
        };
        map_backing(at, grow, vma.prot, vma.shared, &backing, 0)?;
        self.vmas.insert(Vma { start: at, end: at + grow, backing, ..vma.clone() });
        Ok(())
    }

    /// Moves `old..old+old_len` to free addresses at `new`, where it has `new_len` bytes.
    pub(super) fn relocate(
        &mut self,
        vma: &Vma,
        old: u64,
        old_len: u64,
        new_len: u64,
        new: u64,
        flags: u32,
    ) -> Result<u64> {
        self.patches.before_change(&self.vmas, old, old + old_len, false);
        let host = MREMAP_MAYMOVE | MREMAP_FIXED | flags & MREMAP_DONTUNMAP;
        let moved = old_len.min(new_len);
        let backing = match &vma.backing {
            Backing::Anon => Backing::Anon,
            Backing::File { map, offset, name } => {
                Backing::File { map: map.clone(), offset: offset + (old - vma.start), name: name.clone() }
            }
        };
        if mem::mremap(old, moved, moved, host, new).is_err() {
            // Several host mappings behind one of ours: only shared pages can simply be mapped anew.
            if !vma.shared {
                return Err(Errno::EFAULT);
            }
            map_backing(new, moved, vma.prot, true, &backing, 0)?;
            mem::munmap(old, moved)?;
        }
        if flags & MREMAP_DONTUNMAP == 0 {
            self.vmas.remove(old, old + moved);
            if old_len > moved {
                self.unmap(old + moved, old + old_len, true)?;
            }
            if old + old_len >= self.hint {
                self.hint = self.hint.max(old + old_len).min(self.top);
            }
        }
        let v = Vma { start: new, end: new + moved, backing, ..vma.clone() };
        self.vmas.insert(v.clone());
        if new_len > moved {
            self.extend(&v, new + moved, new_len - moved)?;
        }
        Ok(new)
    }

    /// `mremap` of nothing: a second view of a shared mapping.
    pub(super) fn duplicate(&mut self, vma: &Vma, old: u64, len: u64, flags: u32, new: u64) -> Result<u64> {
        if !vma.shared || flags & MREMAP_MAYMOVE == 0 {
            return Err(Errno::EINVAL);
        }
        let Backing::File { map, offset, name } = &vma.backing else { return Err(Errno::EINVAL) };
        let to = if flags & MREMAP_FIXED != 0 { new } else { self.choose(0, len, 0)? };
        if in_window(to, to + len) {
            return Err(Errno::EINVAL);
        }
        self.unmap(to, to + len, false)?;
        let backing = Backing::File { map: map.clone(), offset: offset + (old - vma.start), name: name.clone() };
        map_backing(to, len, vma.prot, true, &backing, 0)?;
        self.vmas.insert(Vma { start: to, end: to + len, backing, ..vma.clone() });
        Ok(to)
    }
}

/// What is remembered of the code in `len` bytes of `backing`, where that is a host file's.
fn text_of(len: u64, backing: &Backing) -> Option<(Arc<Text>, i32)> {
    let Backing::File { map, offset, .. } = backing else { return None };
    match map.runs(*offset, len, false).ok()?[..] {
        [run] if run.fd >= 0 && run.fd != host_window::fd() && run.fd_offset == *offset && run.len == len => {
            text::of(run.fd, *offset, len).map(|text| (text, run.fd))
        }
        _ => None,
    }
}

/// Makes the host mappings.
pub(super) fn map_backing(addr: u64, len: u64, prot: u32, shared: bool, backing: &Backing, keep: u32) -> Result {
    let kind = if shared { MAP_SHARED } else { MAP_PRIVATE };
    let anon = || mem::mmap(addr, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | keep, -1, 0).map(drop);
    let Backing::File { map, offset, .. } = backing else { return anon() };
    let runs = map.runs(*offset, len, shared && prot & PROT_WRITE != 0)?;
    for HostRun { file_offset, len, fd, fd_offset } in runs {
        let at = addr + (file_offset - offset);
        let flags = if fd < 0 { MAP_PRIVATE | MAP_ANONYMOUS } else { kind };
        mem::mmap(at, len, prot, flags | MAP_FIXED | keep, fd, fd_offset)?;
    }
    Ok(())
}

/// Shared anonymous memory: an extent of the memory file that lives as long as a mapping of it.
struct SharedAnon(Extent);

impl Mappable for SharedAnon {
    fn runs(&self, offset: u64, len: u64, _shared_write: bool) -> Result<Vec<HostRun>> {
        let mut runs = Vec::new();
        let inside = self.0.len().saturating_sub(offset).min(len);
        if inside > 0 {
            runs.push(HostRun {
                file_offset: offset,
                len: inside,
                fd: host_window::fd(),
                fd_offset: self.0.offset() + offset,
            });
        }
        if inside < len {
            return Err(Errno::ENOMEM);
        }
        Ok(runs)
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        (1, self.0.offset() >> 12, Vec::new())
    }
}
