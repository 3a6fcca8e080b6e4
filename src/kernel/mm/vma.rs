//! The tree of mappings: pure bookkeeping, without host calls.

use super::Mappable;
use super::text::Text;
use crate::abi::linux::{PROT_NONE, PROT_WRITE};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

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
    /// What may be allowed later (`VM_MAYWRITE`): a shared mapping of a file opened read-only may not.
    pub may_write: bool,
}

impl Vma {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Never: mappings have at least a page.
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// The part of it in `start..end`, which must overlap.
    fn part(&self, start: u64, end: u64) -> Vma {
        let mut v = self.clone();
        v.start = self.start.max(start);
        v.end = self.end.min(end);
        if let Backing::File { offset, .. } = &mut v.backing {
            *offset += v.start - self.start;
        }
        v
    }

    fn continues(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.shared == next.shared
            && self.label == next.label
            && self.may_write == next.may_write
            && match (&self.text, &next.text) {
                (None, None) => true,
                (Some((a, _)), Some((b, _))) => Arc::ptr_eq(a, b),
                _ => false,
            }
            && match (&self.backing, &next.backing) {
                (Backing::Anon, Backing::Anon) => true,
                (Backing::File { map: a, offset: x, .. }, Backing::File { map: b, offset: y, .. }) => {
                    Arc::ptr_eq(a, b) && x + self.len() == *y
                }
                _ => false,
            }
    }
}

/// The mappings of an address space, by start.
#[derive(Clone, Default)]
pub struct VmaTree {
    map: BTreeMap<u64, Vma>,
    /// Bytes mapped, and of those private writable ones (`RLIMIT_AS`, `RLIMIT_DATA`).
    pub total: u64,
    /// See `total`.
    pub data: u64,
}

fn is_data(v: &Vma) -> bool {
    !v.shared && v.prot & PROT_WRITE != 0
}

impl VmaTree {
    /// The mapping that holds `addr`.
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..=addr).next_back().map(|(_, v)| v).filter(|v| v.end > addr)
    }

    /// The mappings that overlap `start..end`, in order.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let first = self.find(start).map_or(start, |v| v.start);
        self.map.range(first..end).map(|(_, v)| v)
    }

    /// Whether nothing is mapped in `start..end`.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
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

    /// What `mprotect` asks of a range: whether every byte is mapped, all may become writable, and whether
    /// shared mappings are in it that are not writable yet.
    pub fn protectable(&self, start: u64, end: u64) -> (bool, bool, bool) {
        let copied_up = |v: &Vma| v.shared && v.prot & PROT_WRITE == 0;
        if let Some(v) = self.find(start)
            && v.end >= end
        {
            return (true, v.may_write, copied_up(v));
        }
        let (mut at, mut may_write, mut copies_up) = (start, true, false);
        for v in self.overlapping(start, end) {
            if v.start > at {
                return (false, may_write, copies_up);
            }
            at = v.end;
            may_write &= v.may_write;
            copies_up |= copied_up(v);
        }
        (at >= end, may_write, copies_up)
    }

    /// Every mapping, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.map.values()
    }

    /// Number of mappings.
    pub fn count(&self) -> usize {
        self.map.len()
    }

    fn count_in(&mut self, v: &Vma) {
        self.total += v.len();
        if is_data(v) {
            self.data += v.len();
        }
    }

    fn add(&mut self, v: Vma) {
        self.count_in(&v);
        self.map.insert(v.start, v);
    }

    fn take(&mut self, start: u64) -> Option<Vma> {
        let v = self.map.remove(&start)?;
        self.total -= v.len();
        if is_data(&v) {
            self.data -= v.len();
        }
        Some(v)
    }

    /// Inserts a mapping over free addresses, joined with its neighbours where they are alike.
    pub fn insert(&mut self, v: Vma) {
        let mut at = v.start;
        self.count_in(&v);
        match self.map.range_mut(..at).next_back() {
            Some((&start, before)) if before.continues(&v) => {
                before.end = v.end;
                at = start;
            }
            _ => {
                self.map.insert(at, v);
            }
        }
        self.join_next(at);
    }

    /// Joins the mapping that starts at `at` with the next one if they are alike.
    fn join_next(&mut self, at: u64) {
        if let Some(v) = self.map.get(&at)
            && let Some(next) = self.map.get(&v.end)
            && v.continues(next)
        {
            let (at_next, end) = (next.start, next.end);
            self.map.remove(&at_next);
            if let Some(v) = self.map.get_mut(&at) {
                v.end = end;
            }
        }
    }

    /// Makes `at`, which lies within a mapping, the boundary of two.
    fn split(&mut self, at: u64) {
        if let Some((_, v)) = self.map.range_mut(..at).next_back()
            && v.end > at
        {
            let back = v.part(at, v.end);
            v.end = at;
            self.map.insert(at, back);
        }
    }

    /// Removes `start..end`, splitting what reaches beyond; returns the removed parts.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<Vma> {
        let keys: Vec<u64> = self.overlapping(start, end).map(|v| v.start).collect();
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(v) = self.take(key) else { continue };
            if v.start < start {
                self.add(v.part(v.start, start));
            }
            if v.end > end {
                self.add(v.part(end, v.end));
            }
            removed.push(v.part(start, end));
        }
        removed
    }

    /// Changes the protection of `start..end`.
    pub fn protect(&mut self, start: u64, end: u64, prot: u32) {
        // Nearly always it is one mapping or a part of one.
        if let Some(v) = self.find(start)
            && v.end >= end
        {
            if v.prot == prot {
                return;
            }
            let (first, last) = (v.start, v.end);
            if first < start {
                self.split(start);
            }
            if last > end {
                self.split(end);
            }
            if let Some(v) = self.map.get_mut(&start) {
                let was_data = is_data(v);
                v.prot = prot;
                match (was_data, is_data(v)) {
                    (false, true) => self.data += end - start,
                    (true, false) => self.data -= end - start,
                    _ => {}
                }
            }
            // What was split off just now differs.
            if last == end {
                self.join_next(start);
            }
            if first == start
                && let Some((&before, _)) = self.map.range(..start).next_back()
            {
                self.join_next(before);
            }
            return;
        }
        for mut v in self.remove(start, end) {
            v.prot = prot;
            self.insert(v);
        }
    }

    /// The highest free range of `len` bytes that ends at or below `top` and starts at or above `floor`.
    pub fn gap_below(&self, top: u64, floor: u64, len: u64) -> Option<u64> {
        let mut end = top;
        for v in self.map.range(..top).rev().map(|(_, v)| v) {
            if v.end <= end && end - v.end >= len {
                return Some(end - len);
            }
            end = end.min(v.start);
            if end < floor + len {
                return None;
            }
        }
        (end >= floor + len).then(|| end - len)
    }
}

/// The protection letters of `/proc/self/maps`.
pub fn prot_letters(v: &Vma) -> [u8; 4] {
    let on = |bit: u32, c: u8| if v.prot & bit != PROT_NONE { c } else { b'-' };
    [on(1, b'r'), on(2, b'w'), on(4, b'x'), if v.shared { b's' } else { b'p' }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anon(start: u64, end: u64, prot: u32) -> Vma {
        Vma { start, end, prot, shared: false, backing: Backing::Anon, label: "", text: None, may_write: true }
    }

    #[test]
    fn neighbours_that_are_alike_join() {
        let mut t = VmaTree::default();
        t.insert(anon(0x1000, 0x2000, 3));
        t.insert(anon(0x3000, 0x4000, 3));
        t.insert(anon(0x2000, 0x3000, 3));
        assert_eq!(t.count(), 1);
        assert_eq!(t.total, 0x3000);
        assert_eq!(t.data, 0x3000);
    }

    #[test]
    fn protecting_the_middle_splits_in_three_and_back() {
        let mut t = VmaTree::default();
        t.insert(anon(0x1000, 0x5000, 3));
        t.protect(0x2000, 0x3000, 1);
        assert_eq!(
            t.iter().map(|v| (v.start, v.end, v.prot)).collect::<Vec<_>>(),
            [(0x1000, 0x2000, 3), (0x2000, 0x3000, 1), (0x3000, 0x5000, 3)]
        );
        assert_eq!(t.data, 0x3000);
        t.protect(0x2000, 0x3000, 3);
        assert_eq!(t.count(), 1);
    }

    #[test]
    fn removing_returns_the_parts() {
        let mut t = VmaTree::default();
        t.insert(anon(0x1000, 0x3000, 3));
        t.insert(anon(0x4000, 0x6000, 1));
        let gone = t.remove(0x2000, 0x5000);
        assert_eq!(gone.iter().map(|v| (v.start, v.end)).collect::<Vec<_>>(), [(0x2000, 0x3000), (0x4000, 0x5000)]);
        assert!(t.is_free(0x2000, 0x5000));
        assert!(t.is_full(0x1000, 0x2000) && t.is_full(0x5000, 0x6000));
        assert!(!t.is_full(0x1000, 0x2001));
    }

    #[test]
    fn gaps_are_found_from_the_top() {
        let mut t = VmaTree::default();
        assert_eq!(t.gap_below(0x10000, 0x1000, 0x2000), Some(0xe000));
        t.insert(anon(0xe000, 0x10000, 3));
        assert_eq!(t.gap_below(0x10000, 0x1000, 0x2000), Some(0xc000));
        t.insert(anon(0x9000, 0xd000, 3));
        assert_eq!(t.gap_below(0x10000, 0x1000, 0x1000), Some(0xd000));
        assert_eq!(t.gap_below(0x10000, 0x1000, 0x2000), Some(0x7000));
        assert_eq!(t.gap_below(0x10000, 0x8000, 0x2000), None);
    }
}
