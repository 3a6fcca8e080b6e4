//! The mappings of an address space: pure bookkeeping, without host calls.
//!
//! Whoever changes them asks for room first ([`VmaTree::admit`]), then asks the host to act, and records what the host
//! did: recording cannot fail.

use super::Mappable;
use super::text::Text;
use super::tree::{Span, Tree};
use crate::abi::linux::{PROT_NONE, PROT_WRITE};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::sync::Knob;
use alloc::sync::Arc;

/// Most mappings of one address space (`vm.max_map_count`).
pub static MAX_MAPS: Knob = Knob::new(65530, 0, i32::MAX as u64);

/// What lies behind a mapping.
#[derive(Clone)]
pub enum Backing {
    /// Private zero-filled memory.
    Anon,
    /// A file, or shared anonymous memory.
    File {
        /// The file.
        map: Arc<dyn Mappable>,
        /// Offset of the mapping's first byte in it.
        offset: u64,
        /// For `/proc/self/maps`.
        name: Arc<[u8]>,
    },
}

impl Backing {
    /// The same file `by` bytes further on.
    pub fn advanced(&self, by: u64) -> Backing {
        match self {
            Backing::Anon => Backing::Anon,
            Backing::File { map, offset, name } => {
                Backing::File { map: map.clone(), offset: offset + by, name: name.clone() }
            }
        }
    }
}

bitflags::bitflags! {
    /// What `mmap`, `mlock` and `madvise` made of a mapping beyond its protection.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct VmaFlags: u32 {
        /// Counts as locked in memory (`VM_LOCKED`).
        const LOCKED = 1;
        /// Pages are locked as they come in (`VM_LOCKONFAULT`); with `LOCKED`.
        const ON_FAULT = 2;
        /// Grows towards lower addresses when it is touched right below (`VM_GROWSDOWN`).
        const GROWS_DOWN = 4;
        /// A forked child does not get it (`VM_DONTCOPY`).
        const DONT_FORK = 8;
        /// A forked child gets zeros (`VM_WIPEONFORK`).
        const WIPE_ON_FORK = 16;
        /// Is not counted as memory that the program may need (`VM_NORESERVE`).
        const NO_RESERVE = 32;
        /// May not be unmapped, moved or protected otherwise (`mseal(2)`).
        const SEALED = 64;
        /// The memory policy of `mbind(2)`, whose form `syscall/numa.rs` knows.
        const POLICY = 0x3f00;
        /// Will be read in order (`VM_SEQ_READ`).
        const SEQUENTIAL = 1 << 16;
        /// Will be read here and there (`VM_RAND_READ`).
        const RANDOM = 1 << 17;
        /// Is left out of core dumps (`VM_DONTDUMP`).
        const DONT_DUMP = 1 << 18;
        /// Equal pages may become one (`VM_MERGEABLE`).
        const MERGEABLE = 1 << 19;
        /// Huge pages are wanted (`VM_HUGEPAGE`).
        const HUGE = 1 << 20;
        /// Huge pages are not wanted (`VM_NOHUGEPAGE`).
        const NO_HUGE = 1 << 21;
    }
}

/// A mapping.
#[derive(Clone)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// `PROT_*`.
    pub prot: u32,
    /// Shared with other processes, not copied on write.
    pub shared: bool,
    /// See [`Backing`].
    pub backing: Backing,
    /// `[heap]`, `[stack]` and the like.
    pub label: &'static str,
    /// Code of a host file: what is remembered of it, and the file's host descriptor.
    pub text: Option<(Arc<Text>, i32)>,
    /// `PROT_*` that may be allowed later (`VM_MAYWRITE` and the like): a shared mapping of a file that was opened
    /// read-only never becomes writable.
    pub may: u32,
    /// See [`VmaFlags`].
    pub flags: VmaFlags,
}

impl Vma {
    /// Whether nobody else may read it.
    pub fn is_secret(&self) -> bool {
        matches!(&self.backing, Backing::File { map, .. } if map.is_secret())
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Never: mappings have at least a page.
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// The part of it in `start..end`, which must overlap.
    pub fn part(&self, start: u64, end: u64) -> Vma {
        let mut v = self.clone();
        v.cut(start, end);
        v
    }

    /// Leaves of it what lies in `start..end`, which must overlap.
    fn cut(&mut self, start: u64, end: u64) {
        let start = self.start.max(start);
        if let Backing::File { offset, .. } = &mut self.backing {
            *offset += start - self.start;
        }
        self.start = start;
        self.end = self.end.min(end);
    }

    /// Whether another mapping is of the same file and has the same protection and flags.
    pub fn is_like(&self, other: &Vma) -> bool {
        let same_file = match (&self.backing, &other.backing) {
            (Backing::Anon, Backing::Anon) => true,
            (Backing::File { map: a, .. }, Backing::File { map: b, .. }) => {
                let [(dev, ino, _), (other_dev, other_ino, _)] = [a.describe(), b.describe()];
                Arc::ptr_eq(a, b) || ino != 0 && (dev, ino) == (other_dev, other_ino)
            }
            _ => false,
        };
        let settings = |v: &Vma| (v.prot, v.shared, v.may, v.flags);
        same_file && settings(self) == settings(other)
    }

    fn continues(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.shared == next.shared
            && self.label == next.label
            && self.may == next.may
            && self.flags == next.flags
            && match (&self.text, &next.text) {
                (None, None) => true,
                (Some((a, _)), Some((b, _))) => Arc::ptr_eq(a, b),
                _ => false,
            }
            && match (&self.backing, &next.backing) {
                (Backing::Anon, Backing::Anon) => true,
                (Backing::File { map: a, offset: x, .. }, Backing::File { map: b, offset: y, .. }) => {
                    Arc::ptr_eq(a, b) && x + self.len() == *y && !a.is_counted()
                }
                _ => false,
            }
    }

    /// Tells what lies behind that it is a mapping now.
    fn tell_mapped(&self) {
        if let Backing::File { map, .. } = &self.backing {
            map.mapped();
        }
    }

    /// Tells what lies behind that it is a mapping no longer.
    fn tell_unmapped(&self) {
        if let Backing::File { map, .. } = &self.backing {
            map.unmapped();
        }
    }

    /// Whether it counts against `RLIMIT_DATA`, which stacks do not.
    pub fn is_data(&self) -> bool {
        self.prot & PROT_WRITE != 0 && self.is_data_if_writable()
    }

    /// Whether it would if it was writable.
    pub fn is_data_if_writable(&self) -> bool {
        !self.shared && !self.flags.contains(VmaFlags::GROWS_DOWN) && self.label != "[stack]"
    }
}

/// Bytes of mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// All (`RLIMIT_AS`).
    pub total: u64,
    /// Private and writable (`RLIMIT_DATA`).
    pub data: u64,
    /// Locked (`RLIMIT_MEMLOCK`).
    pub locked: u64,
}

impl Sizes {
    fn add(&mut self, v: &Vma) {
        self.total += v.len();
        self.data += if v.is_data() { v.len() } else { 0 };
        self.locked += if v.flags.contains(VmaFlags::LOCKED) { v.len() } else { 0 };
    }

    fn sub(&mut self, v: &Vma) {
        self.total -= v.len();
        self.data -= if v.is_data() { v.len() } else { 0 };
        self.locked -= if v.flags.contains(VmaFlags::LOCKED) { v.len() } else { 0 };
    }
}

/// The mappings of an address space, by start.
#[derive(Default)]
pub struct VmaTree {
    tree: Tree<Vma>,
    sizes: Sizes,
}

impl Span for Vma {
    fn start(&self) -> u64 {
        self.start
    }
    fn end(&self) -> u64 {
        self.end
    }
}

impl VmaTree {
    /// Makes sure that `new` more mappings can be recorded, and that they may be made.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn admit(&mut self, new: usize) -> Result {
        if new > 0 && (self.tree.len() + new) as u64 > MAX_MAPS.get() {
            return Err(Errno::ENOMEM);
        }
        arena::charge(Object::Mapping)?;
        // A change of a part splits two more off for a moment.
        self.tree.reserve(new + 2)
    }

    /// As [`Self::admit`] for the removal of a range, after which there are `new` more mappings: only that may be refused.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn admit_removal(&mut self, new: usize) -> Result {
        if new > 0 { self.admit(new) } else { Ok(()) }
    }

    /// For fork: a copy without what the child does not get.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn try_copy(&self) -> Result<VmaTree> {
        arena::charge(Object::Mapping)?;
        let mut sizes = Sizes::default();
        let tree = self.tree.try_copy(|v| {
            let mut v = v.clone();
            v.flags -= VmaFlags::LOCKED | VmaFlags::ON_FAULT;
            let kept = !v.flags.contains(VmaFlags::DONT_FORK);
            kept.then(|| {
                sizes.add(&v);
                v.tell_mapped();
                v
            })
        })?;
        Ok(VmaTree { tree, sizes })
    }

    /// Bytes mapped, by what they count against.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The mapping that holds `addr`.
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.tree.at_or_after(addr).filter(|v| v.start <= addr)
    }

    /// The mapping that holds `addr`, else the next one.
    pub fn at_or_after(&self, addr: u64) -> Option<&Vma> {
        self.tree.at_or_after(addr)
    }

    /// The last mapping that starts before `addr`.
    pub fn before(&self, addr: u64) -> Option<&Vma> {
        self.tree.before(addr)
    }

    /// The mappings that overlap `start..end`, in order.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        self.tree.from(start).take_while(move |v| v.start < end)
    }

    /// Whether nothing is mapped in `start..end`.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.tree.at_or_after(start).is_none_or(|v| v.start >= end)
    }

    /// Whether every byte of `start..end` is mapped.
    pub fn is_full(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for v in self.overlapping(start, end) {
            if v.start > at {
                return false;
            }
            at = v.end;
        }
        at >= end
    }

    /// Every mapping, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.tree.from(0)
    }

    /// Number of mappings.
    pub fn count(&self) -> usize {
        self.tree.len()
    }

    /// How many more mappings there are after `start..end` was changed: one for each of its ends that lies within
    /// a mapping.
    pub fn splits(&self, start: u64, end: u64) -> usize {
        let within = |at: u64| usize::from(self.find(at).is_some_and(|v| v.start < at));
        within(start) + within(end)
    }

    /// How many more mappings there are without `start..end`.
    pub fn holes(&self, start: u64, end: u64) -> usize {
        usize::from(self.find(start).is_some_and(|v| v.start < start && v.end > end))
    }

    /// Inserts a mapping over free addresses, joined with its neighbours where they are alike. Room was admitted.
    pub fn insert(&mut self, v: Vma) {
        self.sizes.add(&v);
        let (start, end) = (v.start, v.end);
        let spot = self.tree.spot(start);
        let (before, next) = self.tree.beside(&spot);
        let joins = next.is_some_and(|next| v.continues(next));
        match before {
            Some(before) if before.continues(&v) => {
                let first = before.start;
                self.tree.change(first, |before| before.end = end);
            }
            _ => {
                v.tell_mapped();
                self.tree.insert_at(spot, v);
            }
        }
        if joins {
            self.join(end);
        }
    }

    /// Joins the mappings that meet at `at` if they are alike.
    fn join(&mut self, at: u64) {
        let (Some(before), Some(next)) = self.tree.around(at) else { return };
        if before.end == at && next.start == at && before.continues(next) {
            let (first, end) = (before.start, next.end);
            self.tree.remove(at);
            self.tree.change(first, |v| v.end = end);
        }
    }

    /// Makes `at`, if it lies within a mapping, the boundary of two. Room was admitted.
    fn split(&mut self, at: u64) {
        let Some(v) = self.find(at).filter(|v| v.start < at) else { return };
        let (first, back) = (v.start, v.part(at, v.end));
        self.tree.change(first, |v| v.end = at);
        back.tell_mapped();
        self.tree.insert(back);
    }

    /// Removes `start..end`, splitting what reaches beyond. Room was admitted for [`Self::holes`].
    pub fn remove(&mut self, start: u64, end: u64) {
        while let Some(v) = self.tree.at_or_after(start)
            && v.start < end
        {
            let (first, last) = (v.start, v.end);
            self.sizes.sub(v);
            // What stays keeps its node: only the second of two parts needs one.
            let back = (first < start && last > end).then(|| v.part(end, last));
            if first < start || last > end {
                // A part is made a mapping of its own, and that is removed.
                v.tell_mapped();
                v.tell_unmapped();
            }
            if first < start || last > end {
                let sizes = &mut self.sizes;
                self.tree.change(first, |v| {
                    if first < start {
                        v.cut(first, start)
                    } else {
                        v.cut(end, last)
                    }
                    sizes.add(v);
                });
                if let Some(back) = back {
                    sizes.add(&back);
                    back.tell_mapped();
                    self.tree.insert(back);
                }
            } else if let Some(gone) = self.tree.remove(first) {
                gone.tell_unmapped();
            }
            if last >= end {
                return;
            }
        }
    }

    /// Changes what `start..end`, which lies within one mapping, is like (not where it is). Room was admitted for
    /// [`Self::splits`].
    pub fn change(&mut self, start: u64, end: u64, f: impl FnOnce(&mut Vma)) {
        let Some((first, last)) = self.find(start).map(|v| (v.start, v.end)) else { return };
        if first < start {
            self.split(start);
        }
        if end < last {
            self.split(end);
        }
        let sizes = &mut self.sizes;
        self.tree.change(start, |v| {
            sizes.sub(v);
            f(v);
            sizes.add(v);
        });
        self.join(end);
        self.join(start);
    }

    /// Lets the mapping that starts at `start` start at `new`, which is lower and free down to there.
    pub fn grow_down(&mut self, start: u64, new: u64) {
        let sizes = &mut self.sizes;
        self.tree.change(start, |v| {
            sizes.sub(v);
            v.start = new;
            sizes.add(v);
        });
    }

    /// The highest free range of `len` bytes that ends at or below `top` and starts at or above `floor`.
    pub fn gap_below(&mut self, top: u64, floor: u64, len: u64) -> Option<u64> {
        self.tree.gap_below(top, floor, len)
    }
}

impl Drop for VmaTree {
    fn drop(&mut self) {
        for v in self.tree.from(0) {
            v.tell_unmapped();
        }
    }
}

/// The protection letters of `/proc/self/maps`.
pub fn prot_letters(v: &Vma) -> [u8; 4] {
    let on = |bit: u32, c: u8| if v.prot & bit != PROT_NONE { c } else { b'-' };
    [on(1, b'r'), on(2, b'w'), on(4, b'x'), if v.shared { b's' } else { b'p' }]
}

#[cfg(test)]
#[path = "vma_tests.rs"]
mod tests;
