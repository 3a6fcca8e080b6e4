//! The address space of a process: which mappings there are, and the host mappings that make them real.
//!
//! The kernel picks every guest address, never the host, so that nothing of a guest ever lies in the
//! kernel window. Host calls act on the running process; an address space is therefore only changed
//! by a thread that lives in it.
//!
//! Every change goes in this order: what may be refused here (limits, room for the record), then the host, then the
//! record of what the host did. So the record is true whatever fails.

mod imaged;
mod layout;
mod locked;
mod patched;
mod place;
mod remap;
pub mod remote;

pub use layout::Layout;

use super::rewrite::{self, Heat, Patches};
use super::vma::{Backing, Sizes, Vma, VmaFlags, VmaTree};
use super::{Mappable, budget};
use crate::abi::layout::{END, GUARD, MMAP_LOW, TASK_SIZE};
use crate::abi::linux::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
};
use crate::abi::{Errno, Result};
use crate::arch::slot::window;
use crate::host::random;
use crate::sync::{Level, Mutex, ReadGuard, RwLock, WriteGuard};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use once_cell::race::OnceBox;

const PAGE: u64 = 4096;
/// Lowest address that a guest may map (`vm.mmap_min_addr`).
pub const MIN_ADDR: u64 = 0x10000;
/// Start of what is left to the first stacks of programs.
pub const STACKS: u64 = 0x7ff8_0000_0000;
/// End of what MAP_32BIT may use.
const LOW_END: u64 = 0x8000_0000;
/// `PR_MDWE_REFUSE_EXEC_GAIN` and `PR_MDWE_NO_INHERIT`.
const MDWE_REFUSE: u32 = 1;
const MDWE_NO_INHERIT: u32 = 2;
/// Every protection.
pub const MAY_ALL: u32 = PROT_READ | PROT_WRITE | PROT_EXEC;

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
    /// `PROT_*` that may ever be set.
    pub may: u32,
    /// Bytes that may be locked in all (`RLIMIT_MEMLOCK`).
    pub memlock: u64,
}

impl Request {
    /// Private zero-filled memory.
    pub const fn anon(addr: u64, len: u64, prot: u32, flags: u32) -> Request {
        let flags = flags | MAP_PRIVATE | MAP_ANONYMOUS;
        Request { addr, len, prot, flags, backing: Backing::Anon, label: "", may: MAY_ALL, memlock: u64::MAX }
    }
}

struct Inner {
    vmas: VmaTree,
    /// Where the search for free addresses starts, top down.
    top: u64,
    /// What new mappings are locked as (`mlockall(MCL_FUTURE)`).
    lock_future: VmaFlags,
    brk_start: u64,
    brk: u64,
    patches: Patches,
    /// What was mapped is not known any more: the host ended a process in the middle of a change.
    lost: bool,
}

impl Inner {
    /// Nothing is mapped; the search for free addresses starts at `top`.
    fn empty(top: u64) -> Inner {
        let (vmas, patches) = (VmaTree::default(), Patches::default());
        Inner { vmas, top, lock_future: VmaFlags::empty(), brk_start: 0, brk: 0, patches, lost: false }
    }
}

/// Registers what becomes of an address space when the host ends a process of it in the middle of a change (at boot).
pub fn init() {
    crate::sync::set_repair(Level::Mm, |lock| {
        // SAFETY: locks of this level are these, and the holder of this one is dead; it is still locked.
        let lost = unsafe { &*(lock as *const RwLock<Inner>) };
        // SAFETY: as above: nobody else has access. What was there is not looked at again, not even to free it.
        unsafe { core::ptr::write(lost.as_ptr(), Inner { lost: true, ..Inner::empty(0) }) };
        true
    });
}

/// See the module.
pub struct AddressSpace {
    inner: RwLock<Inner>,
    /// Traps by call site.
    heat: Heat,
    /// Where the program's interpreter lies, whose mappings of code may be of copies (`text`): start and end.
    linker: [AtomicU64; 2],
    /// Identity for private futexes; never reused.
    pub id: u64,
    /// `RLIMIT_AS` and `RLIMIT_DATA`, bytes.
    pub limits: [AtomicU64; 2],
    /// `PR_MDWE_*` of `prctl(2)`.
    mdwe: AtomicU32,
    /// Private memory of no file may be the host's private mapping of an image (`imaged.rs`).
    imaged: AtomicBool,
    /// Argument and environment areas on the stack: start and end of each.
    pub strings: [AtomicU64; 4],
    /// Code, data and the first stack pointer of the program, see [`Layout`].
    bounds: [AtomicU64; 5],
    /// What the program was told at its start: keys and values (`getauxval(3)`).
    pub auxv: Mutex<Arc<[u64]>>,
    /// The contexts of asynchronous input and output (`io_setup(2)`), which room `fs` makes at the first use. A copy of
    /// the address space has none.
    pub contexts: OnceBox<Box<dyn Any + Send + Sync>>,
}

/// An address space whose mappings and text stay as they are: held from the copy of the bookkeeping until the
/// host has copied the memory, so that both say the same.
pub struct Frozen<'a> {
    space: &'a AddressSpace,
    inner: ReadGuard<'a, Inner>,
}

impl Frozen<'_> {
    /// The bookkeeping of a copy.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn copy(&self) -> Result<AddressSpace> {
        let (of, i) = (self.space, &*self.inner);
        let copy = AddressSpace::with(Inner {
            vmas: i.vmas.try_copy()?,
            top: i.top,
            lock_future: VmaFlags::empty(),
            brk_start: i.brk_start,
            brk: i.brk,
            patches: i.patches.fork_copy(),
            lost: i.lost,
        });
        let plain = copy.limits.iter().zip(&of.limits).chain(copy.strings.iter().zip(&of.strings));
        let plain = plain.chain(copy.bounds.iter().zip(&of.bounds));
        for (to, from) in plain.chain(copy.linker.iter().zip(&of.linker)) {
            to.store(from.load(Relaxed), Relaxed);
        }
        copy.inherit_mdwe(of);
        copy.imaged.store(of.imaged.load(Relaxed), Relaxed);
        let auxv = of.auxv.lock().clone();
        *copy.auxv.lock() = auxv;
        Ok(copy)
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
pub fn outside_guest(start: u64, end: u64) -> bool {
    in_window(start, end) || end > TASK_SIZE
}

fn in_window(start: u64, end: u64) -> bool {
    let base = window();
    start < base + END + GUARD && end > base
}

/// The parts of `start..end` below and above the kernel window.
fn around_window(start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let base = window();
    [(start, end.min(base)), (start.max(base + END + GUARD), end)].into_iter().filter(|(from, to)| from < to)
}

impl AddressSpace {
    /// An empty address space with a random layout.
    pub fn new() -> AddressSpace {
        // Nearly 28 bits of pages below everything that a stack may take, as mmap_base() in Linux.
        let random = (random::next_u64() % ((STACKS - MMAP_LOW) / PAGE)) * PAGE;
        let top = STACKS - random;
        AddressSpace::with(Inner::empty(top))
    }

    /// Whether what is mapped is not known any more: no process can go on in it.
    pub fn is_lost(&self) -> bool {
        self.inner.read().lost
    }

    fn with(inner: Inner) -> AddressSpace {
        AddressSpace {
            inner: RwLock::new(Level::Mm, inner),
            heat: Heat::default(),
            linker: [const { AtomicU64::new(0) }; 2],
            id: NEXT_ID.fetch_add(1, Relaxed),
            limits: [const { AtomicU64::new(u64::MAX) }; 2],
            mdwe: AtomicU32::new(0),
            imaged: AtomicBool::new(false),
            strings: [const { AtomicU64::new(0) }; 4],
            bounds: [const { AtomicU64::new(0) }; 5],
            auxv: Mutex::new(Level::Leaf, Arc::new([])),
            contexts: OnceBox::new(),
        }
    }

    /// Whether `mmap(2)` can give these addresses at all; what is mapped there does not matter.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`, `EPERM`.
    pub fn check_addresses(addr: u64, len: u64, flags: u32) -> Result {
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len)?;
        if len > TASK_SIZE {
            return Err(Errno::ENOMEM);
        }
        if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) == 0 {
            return Ok(());
        }
        if addr > TASK_SIZE - len {
            return Err(Errno::ENOMEM);
        }
        if addr & (PAGE - 1) != 0 {
            return Err(Errno::EINVAL);
        }
        if addr < MIN_ADDR { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Maps, for the kernel.
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub fn mmap(&self, r: &Request) -> Result<u64> {
        self.map(r, true)
    }

    /// Maps, for the program, whose call is at `pc`.
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub fn mmap_from(&self, r: &Request, pc: u64) -> Result<u64> {
        let [start, end] = &self.linker;
        self.map(r, (start.load(Relaxed)..end.load(Relaxed)).contains(&pc))
    }

    /// Tells where the program's interpreter lies.
    pub fn set_linker(&self, start: u64, end: u64) {
        self.linker[0].store(start, Relaxed);
        self.linker[1].store(end, Relaxed);
    }

    /// `copies`: code may be mapped from remembered copies.
    fn map(&self, r: &Request, copies: bool) -> Result<u64> {
        AddressSpace::check_addresses(r.addr, r.len, r.flags)?;
        let len = page_up(r.len)?;
        let mut inner = self.inner.write();
        if inner.patches.copies_were_wanted() != copies {
            inner.patches.want_copies(copies);
            WriteGuard::settle(&inner);
        }
        if r.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
            return self.map_fixed(&mut inner, r, len);
        }
        inner.vmas.admit(1)?;
        self.expand(&inner, len, r.is_data(), 0)?;
        r.admit(len)?;
        inner.check_locked(len, inner.lock_flags(r.flags), r.memlock)?;
        let addr = inner.choose(r.addr, len, r.flags)?;
        inner.place(addr, len, r)?;
        Ok(addr)
    }

    /// Whether the limits allow `len` more bytes of mappings, in place of `gone` bytes (`may_expand_vm` in Linux).
    fn expand(&self, inner: &Inner, len: u64, data: bool, gone: u64) -> Result {
        let sizes = inner.vmas.sizes();
        let total = sizes.total.saturating_sub(gone).saturating_add(len);
        if total > self.limits[0].load(Relaxed) {
            return Err(Errno::ENOMEM);
        }
        if data && sizes.data.saturating_add(len) > self.limits[1].load(Relaxed) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
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
        let end = r.addr + len;
        if r.flags & MAP_FIXED_NOREPLACE != 0 && !inner.vmas.is_free(r.addr, end) {
            return Err(Errno::EEXIST);
        }
        inner.check_sealed(r.addr, end)?;
        inner.vmas.admit(2 + inner.vmas.holes(r.addr, end))?;
        let gone: u64 = inner.vmas.overlapping(r.addr, end).map(|v| v.end.min(end) - v.start.max(r.addr)).sum();
        self.expand(inner, len, r.is_data(), gone)?;
        r.admit(len)?;
        inner.check_locked(len, inner.lock_flags(r.flags), r.memlock)?;
        if !in_window(r.addr, end) {
            inner.place(r.addr, len, r)?;
            return Ok(r.addr);
        }
        // Sanitizers reserve ranges that span the kernel: that much is granted around it. Who looks for a free range with
        // MAP_FIXED_NOREPLACE is told where a part of it is not.
        let looks = r.flags & MAP_FIXED_NOREPLACE != 0;
        let spans = around_window(r.addr, end).count() == 2;
        if r.prot != PROT_NONE || r.flags & MAP_ANONYMOUS == 0 || looks && !spans {
            return Err(if looks { Errno::EEXIST } else { Errno::ENOMEM });
        }
        for (from, to) in around_window(r.addr, end) {
            inner.place(from, to - from, r)?;
        }
        Ok(r.addr)
    }

    /// Unmaps.
    ///
    /// # Errors
    /// `EINVAL`; `ENOMEM` where a mapping would become two too many.
    pub fn munmap(&self, addr: u64, len: u64) -> Result {
        if addr & (PAGE - 1) != 0 || addr > TASK_SIZE || len == 0 || len > TASK_SIZE - addr {
            return Err(Errno::EINVAL);
        }
        let end = addr + page_up(len)?;
        let mut inner = self.inner.write();
        inner.check_sealed(addr, end)?;
        inner.unmap(addr, end)
    }

    /// `shmdt(2)`: unmaps what is left of the attachment that starts, or would start, at `addr`. `size` tells the bytes
    /// of what can be attached.
    ///
    /// # Errors
    /// `EINVAL` if there is nothing.
    pub fn unmap_attachment(&self, addr: u64, size: impl Fn(&dyn Mappable) -> Option<u64>) -> Result {
        let mut inner = self.inner.write();
        let mut found: Option<(Arc<dyn Mappable>, u64)> = None;
        let mut at = addr;
        while let Some(v) = inner.vmas.at_or_after(at) {
            let (start, end) = (v.start, v.end);
            if found.as_ref().is_some_and(|(_, len)| end - addr > *len) {
                break;
            }
            if let Backing::File { map, offset, .. } = &v.backing
                && start.wrapping_sub(addr) == *offset
                && found.as_ref().is_none_or(|(first, _)| Arc::ptr_eq(first, map))
                && let Some(len) = size(&**map)
            {
                let len = page_up(len)?;
                found.get_or_insert_with(|| (map.clone(), len));
                inner.unmap(start, end)?;
            }
            at = end;
        }
        found.map(drop).ok_or(Errno::EINVAL)
    }

    /// Changes protection. As in Linux what lies before the first obstacle is changed. `down`: from the start of the
    /// mapping on that grows down (`PROT_GROWSDOWN`). `implied`: what is added where a mapping may have it.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM` for holes, `EACCES`.
    pub fn mprotect(&self, addr: u64, len: u64, prot: u32, implied: u32, down: bool) -> Result {
        if addr & (PAGE - 1) != 0 {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let end = addr.checked_add(page_up(len)?).ok_or(Errno::ENOMEM)?;
        let prot = prot & MAY_ALL;
        let mut inner = self.inner.write();
        let mut at = addr;
        if down {
            let v = inner.vmas.at_or_after(addr).filter(|v| v.start < end).ok_or(Errno::ENOMEM)?;
            if !v.flags.contains(VmaFlags::GROWS_DOWN) {
                return Err(Errno::EINVAL);
            }
            at = v.start;
        }
        while at < end {
            let v = inner.vmas.find(at).filter(|v| v.label != rewrite::LABEL).ok_or(Errno::ENOMEM)?;
            let to = v.end.min(end);
            let prot = prot | implied & v.may;
            if v.flags.contains(VmaFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            if prot & !v.may != 0 || self.denies(prot, v.prot) {
                return Err(Errno::EACCES);
            }
            if prot != v.prot {
                let data = prot & PROT_WRITE != 0 && !v.is_data() && v.is_data_if_writable();
                if data && !v.flags.contains(VmaFlags::NO_RESERVE) {
                    budget::admit(to - at)?;
                }
                if data && inner.vmas.sizes().data.saturating_add(to - at) > self.limits[1].load(Relaxed) {
                    return Err(Errno::ENOMEM);
                }
                inner.protect(at, to, prot)?;
            }
            at = to;
        }
        Ok(())
    }

    /// Moves the end of the heap; returns where it is now. `data`: `RLIMIT_DATA`; `memlock` as in [`Request`].
    pub fn brk(&self, want: u64, data: u64, memlock: u64) -> u64 {
        let mut inner = self.inner.write();
        let (start, old) = (inner.brk_start, inner.brk);
        if want < start || want > TASK_SIZE {
            return old;
        }
        let (Ok(old_end), Ok(new_end)) = (page_up(old), page_up(want)) else { return old };
        let done = if outside_guest(old_end.min(new_end), old_end.max(new_end)) {
            // `PR_SET_MM` put the heap's two ends on different sides of the kernel.
            Err(Errno::ENOMEM)
        } else if new_end > old_end {
            if want - start > data { Err(Errno::ENOMEM) } else { self.grow_heap(&mut inner, old_end, new_end, memlock) }
        } else if new_end < old_end {
            inner.check_sealed(new_end, old_end).and_then(|()| inner.unmap(new_end, old_end))
        } else {
            Ok(())
        };
        if done.is_ok() {
            inner.brk = want;
        }
        inner.brk
    }

    fn grow_heap(&self, inner: &mut Inner, end: u64, new_end: u64, memlock: u64) -> Result {
        let grow = new_end - end;
        self.expand(inner, grow, true, 0)?;
        budget::admit(grow)?;
        if outside_guest(end, new_end) || !inner.vmas.is_free(end, new_end + PAGE) {
            return Err(Errno::ENOMEM);
        }
        inner.vmas.admit(1)?;
        inner.check_locked(grow, inner.lock_future, memlock)?;
        let r = Request { label: "[heap]", ..Request::anon(end, grow, PROT_READ | PROT_WRITE, MAP_FIXED) };
        inner.place(end, grow, &r)
    }

    /// What `PR_SET_MDWE` of `prctl(2)` set.
    pub fn mdwe(&self) -> u32 {
        self.mdwe.load(Relaxed)
    }

    /// Memory that was written does not become code any more, for good.
    ///
    /// # Errors
    /// `EINVAL` for unknown bits, `EPERM` once other ones were set.
    pub fn set_mdwe(&self, bits: u64) -> Result {
        let bits = u32::try_from(bits).map_err(|_| Errno::EINVAL)?;
        if bits & !(MDWE_REFUSE | MDWE_NO_INHERIT) != 0 || bits == MDWE_NO_INHERIT {
            return Err(Errno::EINVAL);
        }
        let old = self.mdwe();
        if old != 0 && old != bits {
            return Err(Errno::EPERM);
        }
        self.mdwe.store(bits, Relaxed);
        Ok(())
    }

    /// As `parent` has it, unless that keeps it to itself.
    pub fn inherit_mdwe(&self, parent: &AddressSpace) {
        let bits = parent.mdwe();
        self.mdwe.store(if bits & MDWE_NO_INHERIT != 0 { 0 } else { bits }, Relaxed);
    }

    /// Whether memory with the protection `old` may not become `new` (`map_deny_write_exec` in Linux).
    pub fn denies(&self, new: u32, old: u32) -> bool {
        self.mdwe() != 0 && new & PROT_EXEC != 0 && (new & PROT_WRITE != 0 || old & PROT_EXEC == 0)
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
        all.try_reserve_exact(if (start, end) == (0, u64::MAX) { inner.vmas.count() } else { 1 })
            .map_err(|_| Errno::ENOMEM)?;
        for v in inner.vmas.overlapping(start, end).filter(|v| v.label != rewrite::LABEL) {
            all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            all.push(v.clone());
        }
        Ok(all)
    }

    /// For fork: nothing changes while what this returns lives.
    pub fn freeze(&self) -> Frozen<'_> {
        Frozen { space: self, inner: self.inner.read() }
    }

    /// Runs `f` on the record, alone. Text is written, and read past its protection, in it.
    fn exclusively<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.inner.write())
    }

    /// Bytes mapped, by what they count against.
    pub fn sizes(&self) -> Sizes {
        self.inner.read().vmas.sizes()
    }

    /// Bytes of memory that it has in common with whoever else maps it: each file once, as far as there is memory to
    /// tell them apart. Ranges that reserve nothing are left out: how much of them is there the host alone knows.
    pub fn shared_memory(&self) -> u64 {
        let inner = self.inner.read();
        let (mut seen, mut sum) = (BTreeSet::new(), 0u64);
        for vma in inner.vmas.iter().filter(|v| v.shared && !v.flags.contains(VmaFlags::NO_RESERVE)) {
            if let Backing::File { map, .. } = &vma.backing
                && let bytes @ 1.. = map.memory()
                && seen.insert(map.identity())
            {
                sum = sum.saturating_add(bytes);
            }
        }
        sum
    }

    /// Bytes of the stack, of the code of the program `exe`, and of other code.
    pub fn parts(&self, exe: &[u8]) -> [u64; 3] {
        let mut sums = [0; 3];
        for v in self.inner.read().vmas.iter() {
            let at = match &v.backing {
                _ if v.label == "[stack]" => 0,
                Backing::File { name, .. } if v.prot & PROT_EXEC != 0 => 1 + usize::from(**name != *exe),
                _ => continue,
            };
            sums[at] += v.len();
        }
        sums
    }

    /// Start and end of the heap.
    pub fn heap(&self) -> (u64, u64) {
        let i = self.inner.read();
        (i.brk_start, i.brk)
    }
}
