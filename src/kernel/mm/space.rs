//! The address space of a process: which mappings there are, and the host mappings that make them real.
//!
//! The kernel picks every guest address, never the host, so that nothing of a guest ever lies in the
//! kernel window. Host calls act on the running process; an address space is therefore only changed
//! by a thread that lives in it.

use super::memfile::Extent;
use super::rewrite::{self, Heat, Patches, StubHit, Trapped};
use super::text::{self, Text};
use super::vma::{Backing, Vma, VmaTree};
use super::{HostRun, Mappable};
use crate::abi::layout::{END, GUARD, TASK_SIZE};
use crate::abi::linux::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, MREMAP_DONTUNMAP,
    MREMAP_FIXED, MREMAP_MAYMOVE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
};
use crate::abi::{Errno, Result};
use crate::arch::slot::window;
use crate::host::{mem, random, window as host_window};
use crate::sync::{Level, Mutex, MutexGuard, RwLock};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PAGE: u64 = 4096;
/// Lowest address that a guest may map (`vm.mmap_min_addr`).
pub(super) const MIN_ADDR: u64 = 0x10000;
/// Most mappings of one address space (`vm.max_map_count`).
const MAX_MAPS: usize = 65000;
/// End of what MAP_32BIT may use.
const LOW_END: u64 = 0x8000_0000;

/// What to map.
#[derive(Clone)]
pub struct Request {
    /// Wanted address; a hint unless the flags fix it.
    pub addr: u64,
    /// Length, bytes.
    pub len: u64,
    /// `PROT_*`.
    pub prot: u32,
    /// `MAP_*`.
    pub flags: u32,
    /// What lies behind.
    pub backing: Backing,
    /// For `/proc/self/maps`.
    pub label: &'static str,
    /// Whether PROT_WRITE may ever be set.
    pub may_write: bool,
}

struct Inner {
    vmas: VmaTree,
    /// Where the search for free addresses starts, top down.
    top: u64,
    /// Everything between here and `top` is taken.
    hint: u64,
    brk_start: u64,
    brk: u64,
    patches: Patches,
}

/// See the module.
pub struct AddressSpace {
    inner: RwLock<Inner>,
    /// Traps by call site.
    heat: Heat,
    /// Held while a site is rewritten, and by fork until the host has copied the memory.
    quiet: Mutex<()>,
    /// Identity for private futexes; never reused.
    pub id: u64,
    /// `RLIMIT_AS` and `RLIMIT_DATA`, bytes.
    pub limits: [AtomicU64; 2],
    /// Argument and environment areas on the stack: start and end of each.
    pub strings: [AtomicU64; 4],
    /// What the program was told at its start: keys and values (`getauxval(3)`).
    pub auxv: Mutex<Arc<[u64]>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Default for AddressSpace {
    fn default() -> Self {
        AddressSpace::new()
    }
}

fn page_up(n: u64) -> Result<u64> {
    n.checked_add(PAGE - 1).map(|n| n & !(PAGE - 1)).ok_or(Errno::ENOMEM)
}

/// Whether a range reaches into the kernel's part of the address space.
pub(super) fn outside_guest(start: u64, end: u64) -> bool {
    in_window(start, end) || end > TASK_SIZE
}

fn in_window(start: u64, end: u64) -> bool {
    let base = window();
    start < base + END + GUARD && end > base
}

impl AddressSpace {
    /// An empty address space with a random layout.
    pub fn new() -> AddressSpace {
        // 28 bits of pages below the stack area, as mmap_base() in Linux.
        let random = (random::next_u64() & 0xfff_ffff) * PAGE;
        let top = 0x7fff_0000_0000 - random;
        AddressSpace::with(Inner {
            vmas: VmaTree::default(),
            top,
            hint: top,
            brk_start: 0,
            brk: 0,
            patches: Patches::default(),
        })
    }

    fn with(inner: Inner) -> AddressSpace {
        AddressSpace {
            inner: RwLock::new(Level::Mm, inner),
            heat: Heat::default(),
            quiet: Mutex::new(Level::Rewrite, ()),
            id: NEXT_ID.fetch_add(1, Relaxed),
            limits: [const { AtomicU64::new(u64::MAX) }; 2],
            strings: [const { AtomicU64::new(0) }; 4],
            auxv: Mutex::new(Level::Leaf, Arc::new([])),
        }
    }

    /// The bookkeeping of a copy, for fork; the host copies the memory itself.
    pub fn fork_copy(&self) -> AddressSpace {
        let i = self.inner.read();
        let copy = AddressSpace::with(Inner {
            vmas: i.vmas.clone(),
            top: i.top,
            hint: i.hint,
            brk_start: i.brk_start,
            brk: i.brk,
            patches: i.patches.fork_copy(),
        });
        for (to, from) in copy.limits.iter().zip(&self.limits).chain(copy.strings.iter().zip(&self.strings)) {
            to.store(from.load(Relaxed), Relaxed);
        }
        let auxv = self.auxv.lock().clone();
        *copy.auxv.lock() = auxv;
        copy
    }

    /// Maps.
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub fn mmap(&self, r: &Request) -> Result<u64> {
        if r.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_up(r.len)?;
        if len > TASK_SIZE {
            return Err(Errno::ENOMEM);
        }
        let mut inner = self.inner.write();
        if inner.vmas.count() >= MAX_MAPS || inner.vmas.total.saturating_add(len) > self.limits[0].load(Relaxed) {
            return Err(Errno::ENOMEM);
        }
        if r.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
            return self.map_fixed(&mut inner, r, len);
        }
        let addr = inner.choose(r.addr, len, r.flags)?;
        inner.place(addr, len, r)?;
        Ok(addr)
    }

    /// A free range of whole pages, at `want` if that is possible, for mappings of a program that does
    /// not run yet.
    ///
    /// # Errors
    /// `ENOMEM` when there is none.
    pub fn find_free(&self, want: u64, len: u64) -> Result<u64> {
        self.inner.write().choose(want, page_up(len)?, 0)
    }

    fn map_fixed(&self, inner: &mut Inner, r: &Request, len: u64) -> Result<u64> {
        let end = r.addr.checked_add(len).ok_or(Errno::ENOMEM)?;
        if r.addr & (PAGE - 1) != 0 {
            return Err(Errno::EINVAL);
        }
        if end > TASK_SIZE {
            return Err(Errno::ENOMEM);
        }
        if r.addr < MIN_ADDR {
            return Err(Errno::EPERM);
        }
        if r.flags & MAP_FIXED_NOREPLACE != 0 && !inner.vmas.is_free(r.addr, end) {
            return Err(Errno::EEXIST);
        }
        if !in_window(r.addr, end) {
            inner.unmap(r.addr, end, false)?;
            inner.place(r.addr, len, r)?;
            return Ok(r.addr);
        }
        // Sanitizers reserve ranges that span the kernel: that much is granted around it.
        if r.prot != PROT_NONE || r.flags & MAP_ANONYMOUS == 0 {
            return Err(if r.flags & MAP_FIXED_NOREPLACE != 0 { Errno::EEXIST } else { Errno::ENOMEM });
        }
        let base = window();
        for (from, to) in [(r.addr, base), (base + END + GUARD, end)] {
            if from < to {
                inner.unmap(from, to, false)?;
                inner.place(from, to - from, r)?;
            }
        }
        Ok(r.addr)
    }

    /// Unmaps.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn munmap(&self, addr: u64, len: u64) -> Result {
        if addr & (PAGE - 1) != 0 || len == 0 {
            return Err(Errno::EINVAL);
        }
        let end = addr.checked_add(page_up(len).map_err(|_| Errno::EINVAL)?).ok_or(Errno::EINVAL)?;
        if end > TASK_SIZE {
            return Err(Errno::EINVAL);
        }
        self.inner.write().unmap(addr, end, true)
    }

    /// Changes protection.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM` for holes, `EACCES`.
    pub fn mprotect(&self, addr: u64, len: u64, prot: u32) -> Result {
        if addr & (PAGE - 1) != 0 {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let end = addr.checked_add(page_up(len)?).ok_or(Errno::ENOMEM)?;
        let prot = prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
        let mut inner = self.inner.write();
        let (full, may_write, copies_up) = inner.vmas.protectable(addr, end);
        if !full {
            return Err(Errno::ENOMEM);
        }
        if prot & PROT_WRITE != 0 && !may_write {
            return Err(Errno::EACCES);
        }
        let copies_up = prot & PROT_WRITE != 0 && copies_up;
        if prot & PROT_WRITE != 0 {
            inner.patches.before_change(addr, end, false);
        }
        inner.vmas.protect(addr, end, prot);
        if copies_up {
            return inner.remap_shared(addr, end);
        }
        mem::mprotect(addr, end - addr, prot)
    }

    /// Moves the end of the heap; returns where it is now.
    pub fn brk(&self, want: u64) -> u64 {
        let mut inner = self.inner.write();
        let (start, old) = (inner.brk_start, inner.brk);
        if want < start || want > TASK_SIZE {
            return old;
        }
        let (Ok(old_end), Ok(new_end)) = (page_up(old), page_up(want)) else { return old };
        if new_end > old_end {
            let grow = new_end - old_end;
            let data = inner.vmas.data.saturating_add(grow) > self.limits[1].load(Relaxed);
            let total = inner.vmas.total.saturating_add(grow) > self.limits[0].load(Relaxed);
            if data || total || in_window(old_end, new_end) || !inner.vmas.is_free(old_end, new_end + PAGE) {
                return old;
            }
            let r = Request {
                addr: old_end,
                len: grow,
                prot: PROT_READ | PROT_WRITE,
                flags: MAP_PRIVATE | MAP_ANONYMOUS,
                backing: Backing::Anon,
                label: "[heap]",
                may_write: true,
            };
            if inner.place(old_end, grow, &r).is_err() {
                return old;
            }
        } else if new_end < old_end && inner.unmap(new_end, old_end, true).is_err() {
            return old;
        }
        inner.brk = want;
        want
    }

    /// Sets where the heap starts (empty), once the image is mapped.
    pub fn set_brk_start(&self, at: u64) {
        let mut inner = self.inner.write();
        inner.brk_start = at;
        inner.brk = at;
    }

    /// `mremap(2)`.
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT`, `ENOMEM`.
    pub fn mremap(&self, old: u64, old_len: u64, new_len: u64, flags: u32, new: u64) -> Result<u64> {
        let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
        if flags & !known != 0
            || old & (PAGE - 1) != 0
            || flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) != 0 && flags & MREMAP_MAYMOVE == 0
            || flags & MREMAP_DONTUNMAP != 0 && old_len != new_len
        {
            return Err(Errno::EINVAL);
        }
        let (old_len, new_len) = (page_up(old_len)?, page_up(new_len)?);
        if new_len == 0 || new_len > TASK_SIZE {
            return Err(Errno::EINVAL);
        }
        let mut inner = self.inner.write();
        let vma = inner.vmas.find(old).cloned().ok_or(Errno::EFAULT)?;
        let old_end = old.checked_add(old_len).ok_or(Errno::EINVAL)?;
        if old_len == 0 {
            return inner.duplicate(&vma, old, new_len, flags, new);
        }
        if old_end > vma.end {
            return Err(Errno::EFAULT);
        }
        if flags & MREMAP_FIXED != 0 {
            if new & (PAGE - 1) != 0 || new.checked_add(new_len).is_none_or(|e| e > TASK_SIZE) {
                return Err(Errno::EINVAL);
            }
            if new < old_end && old < new + new_len || in_window(new, new + new_len) {
                return Err(Errno::EINVAL);
            }
            inner.unmap(new, new + new_len, false)?;
            return inner.relocate(&vma, old, old_len, new_len, new, flags);
        }
        if flags & MREMAP_DONTUNMAP != 0 {
            let to = inner.choose(0, new_len, 0)?;
            return inner.relocate(&vma, old, old_len, new_len, to, flags);
        }
        if new_len <= old_len {
            if new_len < old_len {
                inner.unmap(old + new_len, old_end, true)?;
            }
            return Ok(old);
        }
        let grow = new_len - old_len;
        if inner.vmas.total.saturating_add(grow) > self.limits[0].load(Relaxed) {
            return Err(Errno::ENOMEM);
        }
        let room = old + new_len <= TASK_SIZE && !in_window(old_end, old + new_len);
        if old_end == vma.end && room && inner.vmas.is_free(old_end, old + new_len) {
            inner.extend(&vma, old_end, grow)?;
            return Ok(old);
        }
        if flags & MREMAP_MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        let to = inner.choose(0, new_len, 0)?;
        inner.relocate(&vma, old, old_len, new_len, to, flags)
    }

    /// The mapping that holds `addr`.
    pub fn find(&self, addr: u64) -> Option<Vma> {
        self.inner.read().vmas.find(addr).cloned()
    }

    /// Whether every byte of the range is mapped.
    pub fn is_mapped(&self, start: u64, end: u64) -> bool {
        self.inner.read().vmas.is_full(start, end)
    }

    /// The guest's mappings that have a part in `start..end`, in order.
    ///
    /// # Errors
    /// `ENOMEM`: a guest may have very many.
    pub fn mapped(&self, start: u64, end: u64) -> Result<Vec<Vma>> {
        let inner = self.inner.read();
        let mut all = Vec::new();
        for v in inner.vmas.overlapping(start, end).filter(|v| v.label != rewrite::LABEL) {
            all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            all.push(v.clone());
        }
        Ok(all)
    }

    /// A call at `site` trapped: hot sites are rewritten. `alone`: no other thread lives here.
    #[inline]
    pub fn call_trapped(&self, site: u64, alone: bool) {
        if !rewrite::enabled() {
            return;
        }
        match self.heat.trapped(site) {
            Trapped::First => self.learn(site),
            Trapped::Hot => {
                let _quiet = self.quiet();
                let inner = &mut *self.inner.write();
                inner.patches.rewrite(&mut inner.vmas, site, alone);
            }
            Trapped::Again => {}
        }
    }

    /// Remembers a site for those who will map the same code.
    fn learn(&self, site: u64) {
        let inner = self.inner.read();
        if let Some(vma) = inner.vmas.find(site)
            && let (Some((text, fd)), Backing::File { map, offset, .. }) = (&vma.text, &vma.backing)
        {
            text.learn(*offset, vma.len(), offset + (site - vma.start), map, *fd);
        }
    }

    /// No site is rewritten while the guard lives.
    pub fn quiet(&self) -> MutexGuard<'_, ()> {
        self.quiet.lock()
    }

    /// The call site on whose way to the kernel `pc` is.
    pub fn site_of_stub(&self, pc: u64) -> Option<StubHit> {
        if !rewrite::enabled() { None } else { self.inner.read().patches.site_of_stub(pc) }
    }

    /// Whether a breakpoint at `pc` is, or was, one of a rewriting under way: the instruction there is
    /// to be tried again. Waits for the rewriting's end.
    pub fn is_rewriting_breakpoint(&self, pc: u64) -> bool {
        let inner = self.inner.read();
        let mut byte = [0u8];
        inner.patches.has(pc) || super::UserSlice::<u8>::new(pc, 1).read_into(&mut byte).is_ok() && byte != [0xcc]
    }

    /// The guest wants gs for itself: no site is rewritten any more.
    pub fn give_up_rewriting(&self) {
        self.inner.write().patches.give_up();
    }

    /// Whether gs is the guest's.
    pub fn guest_has_gs(&self) -> bool {
        self.inner.read().patches.off()
    }

    /// Bytes mapped, and private writable bytes.
    pub fn sizes(&self) -> (u64, u64) {
        let i = self.inner.read();
        (i.vmas.total, i.vmas.data)
    }

    /// Start and end of the heap.
    pub fn heap(&self) -> (u64, u64) {
        let i = self.inner.read();
        (i.brk_start, i.brk)
    }
}

impl Inner {
    /// Picks an address for a new mapping.
    fn choose(&mut self, hint: u64, len: u64, flags: u32) -> Result<u64> {
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
    fn place(&mut self, addr: u64, len: u64, r: &Request) -> Result {
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

    fn unmap(&mut self, start: u64, end: u64, host: bool) -> Result {
        self.patches.before_change(start, end, true);
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
    fn remap_shared(&mut self, start: u64, end: u64) -> Result {
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

    fn extend(&mut self, vma: &Vma, at: u64, grow: u64) -> Result {
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
    fn relocate(&mut self, vma: &Vma, old: u64, old_len: u64, new_len: u64, new: u64, flags: u32) -> Result<u64> {
        self.patches.before_change(old, old + old_len, false);
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
    fn duplicate(&mut self, vma: &Vma, old: u64, len: u64, flags: u32, new: u64) -> Result<u64> {
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
fn map_backing(addr: u64, len: u64, prot: u32, shared: bool, backing: &Backing, keep: u32) -> Result {
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
