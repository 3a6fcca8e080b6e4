//! The address space of a process: which mappings there are, and the host mappings that make them real.
//!
//! The kernel picks every guest address, never the host, so that nothing of a guest ever lies in the
//! kernel window. Host calls act on the running process; an address space is therefore only changed
//! by a thread that lives in it.

mod place;

use super::rewrite::{self, Heat, Patches, StubHit, Trapped};
use super::vma::{Backing, Vma, VmaTree};
use crate::abi::layout::{END, GUARD, TASK_SIZE};
use crate::abi::linux::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_PRIVATE, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE,
    PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
};
use crate::abi::{Errno, Result};
use crate::arch::slot::window;
use crate::host::{mem, random};
use crate::sync::{Level, Mutex, ReadGuard, RwLock};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PAGE: u64 = 4096;
/// Lowest address that a guest may map (`vm.mmap_min_addr`).
pub(super) const MIN_ADDR: u64 = 0x10000;
/// Most mappings of one address space (`vm.max_map_count`).
const MAX_MAPS: usize = 65000;
/// Start of what is left to the first stacks of programs.
pub const STACKS: u64 = 0x7ff8_0000_0000;
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
    /// Identity for private futexes; never reused.
    pub id: u64,
    /// `RLIMIT_AS` and `RLIMIT_DATA`, bytes.
    pub limits: [AtomicU64; 2],
    /// Argument and environment areas on the stack: start and end of each.
    pub strings: [AtomicU64; 4],
    /// What the program was told at its start: keys and values (`getauxval(3)`).
    pub auxv: Mutex<Arc<[u64]>>,
}

/// An address space whose mappings and text stay as they are: held from the copy of the bookkeeping until the
/// host has copied the memory, so that both say the same.
pub struct Frozen<'a> {
    space: &'a AddressSpace,
    inner: ReadGuard<'a, Inner>,
}

impl Frozen<'_> {
    /// The bookkeeping of a copy.
    pub fn copy(&self) -> AddressSpace {
        let (of, i) = (self.space, &*self.inner);
        let copy = AddressSpace::with(Inner {
            vmas: i.vmas.clone(),
            top: i.top,
            hint: i.hint,
            brk_start: i.brk_start,
            brk: i.brk,
            patches: i.patches.fork_copy(),
        });
        for (to, from) in copy.limits.iter().zip(&of.limits).chain(copy.strings.iter().zip(&of.strings)) {
            to.store(from.load(Relaxed), Relaxed);
        }
        let auxv = of.auxv.lock().clone();
        *copy.auxv.lock() = auxv;
        copy
    }
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
        // 28 bits of pages below everything that a stack may take, as mmap_base() in Linux.
        let random = (random::next_u64() & 0xfff_ffff) * PAGE;
        let top = STACKS - random;
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
            id: NEXT_ID.fetch_add(1, Relaxed),
            limits: [const { AtomicU64::new(u64::MAX) }; 2],
            strings: [const { AtomicU64::new(0) }; 4],
            auxv: Mutex::new(Level::Leaf, Arc::new([])),
        }
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
            let inner = &mut *inner;
            inner.patches.before_change(&inner.vmas, addr, end, false);
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

    /// A call at `site` trapped: hot sites are rewritten.
    #[inline]
    pub fn call_trapped(&self, site: u64) {
        if !rewrite::enabled() {
            return;
        }
        match self.heat.trapped(site) {
            Trapped::First => self.learn(site),
            Trapped::Hot => {
                let inner = &mut *self.inner.write();
                inner.patches.rewrite(&mut inner.vmas, site);
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

    /// For fork: nothing changes while what this returns lives.
    pub fn freeze(&self) -> Frozen<'_> {
        Frozen { space: self, inner: self.inner.read() }
    }

    /// The call site on whose way to the kernel `pc` is.
    pub fn site_of_stub(&self, pc: u64) -> Option<StubHit> {
        if !rewrite::enabled() { None } else { self.inner.read().patches.site_of_stub(pc) }
    }

    /// After a failure to fetch an instruction at `addr`: whether that may be because text was being written there,
    /// and how often text has been written so far. Waits for the end of a write under way.
    pub fn awaits_text(&self, addr: u64) -> Option<u64> {
        let inner = self.inner.read();
        inner.vmas.find(addr).filter(|v| v.prot & PROT_EXEC != 0).map(|_| inner.patches.writes())
    }

    /// The guest wants gs for itself: no site is rewritten any more.
    pub fn give_up_rewriting(&self) {
        let inner = &mut *self.inner.write();
        inner.patches.give_up(&inner.vmas);
    }

    /// Whether gs is the guest's.
    pub fn guest_has_gs(&self) -> bool {
        self.inner.read().patches.guest_gs()
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
