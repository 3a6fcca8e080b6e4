//! The memory file: the sparse tail of the window that holds the data of in-memory files and of
//! shared mappings. The kernel reads and writes it by plain copies; guests map it with MAP_SHARED.
//!
//! Extents are runs of pages. Which addresses are taken is a tree by address that knows its gaps, so what is free
//! again is one gap with what is free beside it, and giving back needs no memory. Address room is plentiful
//! (256 GiB), so files grow by generous extents; memory is not: freed pages go back to the host, but for a few
//! small extents that stay populated and zeroed, because a hole costs more than a small memset.
//!
//! A file that guests map does not lie here: it has a host file of its own (`fs/memfs/own.rs`).
//!
//! Limits: an extent that stands for memory as a whole (shared anonymous memory) is charged in full, a
//! file's data by the bytes up to which its extents were written. Since a file may be written behind
//! that mark uncharged (backwards), the host is asked now and then what the window really holds.

use super::mappable::HostRun;
use super::tree::{Span, Tree};
use crate::abi::layout::{MEMFILE, MEMFILE_MAX};
use crate::abi::{Errno, Result};
use crate::arch::slot::window;
use crate::host;
use crate::sync::{Level, Mutex};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Page size, bytes.
pub const PAGE: u64 = 4096;
/// An extent written to at most so far stays populated when it is freed.
const WARM_MAX: u64 = 16 << 10;
/// How many such extents are kept.
const WARM_COUNT: usize = 32;
/// The first extent of a file, and of each part of it that lies apart, in bytes.
const FIRST: u64 = 64 << 10;
/// The largest extent that a file grows by, in bytes, where less would do.
const GROW_MAX: u64 = 1 << 30;
/// The host is asked for the real usage whenever so many bytes were written.
const ASK_EVERY: u64 = 16 << 20;

/// Addresses of an extent, as distances from the end of the room: the search finds the highest, the lowest ones are
/// to be used first.
struct Taken {
    start: u64,
    end: u64,
}

impl Span for Taken {
    fn start(&self) -> u64 {
        self.start
    }
    fn end(&self) -> u64 {
        self.end
    }
}

struct File {
    taken: Tree<Taken>,
    /// Extents of the first size whose pages are zero but populated.
    warm: ArrayVec<u64, WARM_COUNT>,
}

static FILE: Mutex<File> = Mutex::new(Level::MemFile, File { taken: Tree::new(), warm: ArrayVec::new_const() });
static CHARGED: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(MEMFILE_MAX);
/// Bytes that files outside of the memory file hold.
static APART: AtomicU64 = AtomicU64::new(0);
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static FULL: AtomicBool = AtomicBool::new(false);

/// Sets the limit for what files and the kernel itself hold, in bytes (0: none but the address room).
pub fn set_limit(bytes: u64) {
    LIMIT.store(if bytes == 0 { MEMFILE_MAX } else { bytes }, Relaxed);
}

/// The limit, in bytes.
pub fn limit() -> u64 {
    LIMIT.load(Relaxed)
}

/// What is left of it to files and shared memory, where a whole sandbox is bounded, bytes.
fn left() -> u64 {
    limit().saturating_sub(super::budget::taken())
}

/// Bytes charged.
pub fn in_use() -> u64 {
    CHARGED.load(Relaxed)
}

/// Bytes that the host really holds for files and the kernel itself.
pub fn held() -> u64 {
    host::mem::window_usage() + APART.load(Relaxed)
}

/// Counts what a file outside of the memory file holds now, in place of what it held before, in bytes.
pub fn recount(before: u64, now: u64) {
    CHARGED.fetch_add(now.wrapping_sub(before), Relaxed);
    APART.fetch_add(now.wrapping_sub(before), Relaxed);
}

/// Says whether `bytes` more may be written to a file outside of the memory file.
///
/// # Errors
/// `ENOSPC`.
pub fn admit(bytes: u64) -> Result {
    let fits = in_use().checked_add(bytes).is_some_and(|sum| sum <= left());
    if fits { count_written(bytes).map_err(|_| Errno::ENOSPC) } else { Err(Errno::ENOSPC) }
}

fn charge(bytes: u64) -> Result {
    let left = left();
    let fits = |n: u64| n.checked_add(bytes).filter(|&sum| sum <= left);
    CHARGED.fetch_update(Relaxed, Relaxed, fits).map(drop).map_err(|_| Errno::ENOMEM)
}

/// Counts bytes that are about to be written, and says no while the host holds more than the limit.
fn count_written(bytes: u64) -> Result {
    let before = WRITTEN.fetch_add(bytes, Relaxed);
    if before / ASK_EVERY != (before + bytes) / ASK_EVERY || FULL.load(Relaxed) {
        FULL.store(held() > left(), Relaxed);
    }
    if FULL.load(Relaxed) { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// A run of the memory file; freed when dropped.
#[derive(Debug)]
pub struct Extent {
    /// Offset in the window and in its descriptor, bytes.
    offset: u64,
    len: u64,
    /// Bytes charged for it.
    charged: u64,
    /// All memory that was ever touched lies below.
    touched: u64,
}

impl Extent {
    /// A zero-filled extent of at least `len` bytes, charged in full; whoever has it may map it.
    ///
    /// # Errors
    /// `ENOMEM` past the limit.
    pub fn alloc(len: u64) -> Result<Extent> {
        let bytes = len.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?.max(PAGE);
        charge(bytes)?;
        match Extent::place(bytes) {
            Ok(mut extent) => {
                extent.charged = bytes;
                extent.touched = extent.len();
                Ok(extent)
            }
            Err(e) => {
                CHARGED.fetch_sub(bytes, Relaxed);
                Err(e)
            }
        }
    }

    /// As [`Extent::alloc`], for something that touches only little of its room: not charged.
    ///
    /// # Errors
    /// `ENOMEM` without room.
    pub fn sparse(len: u64) -> Result<Extent> {
        let mut extent = Extent::place(len)?;
        extent.touched = extent.len();
        Ok(extent)
    }

    /// Address room for `len` bytes, not charged.
    fn place(len: u64) -> Result<Extent> {
        let len = len.max(1).checked_next_multiple_of(PAGE).filter(|&n| n <= MEMFILE_MAX).ok_or(Errno::ENOMEM)?;
        let mut file = FILE.lock();
        if len == FIRST
            && let Some(offset) = file.warm.pop()
        {
            return Ok(Extent { offset, len, charged: 0, touched: 0 });
        }
        file.taken.reserve(1)?;
        let start = file.taken.gap_below(MEMFILE_MAX, 0, len).ok_or(Errno::ENOMEM)?;
        file.taken.insert(Taken { start, end: start + len });
        Ok(Extent { offset: MEMFILE + (MEMFILE_MAX - start - len), len, charged: 0, touched: 0 })
    }

    /// Charges for the bytes below `to`, which are about to be written.
    fn touch(&mut self, to: u64) -> Result {
        let to = to.next_multiple_of(PAGE).min(self.len());
        if to > self.touched {
            charge(to - self.touched)?;
            self.charged += to - self.touched;
            self.touched = to;
        }
        Ok(())
    }

    /// Gives back the room between what was touched and the page that byte `from` lies in, which was not;
    /// the extent ends before it. Returns a new extent for the room from that page on.
    ///
    /// # Errors
    /// `ENOMEM` without memory for the record.
    fn split(&mut self, from: u64) -> Result<Extent> {
        let (kept, from) = (self.touched, from & !(PAGE - 1));
        debug_assert!(kept > 0 && kept < from && from < self.len);
        let rest = Extent { offset: self.offset + from, len: self.len - from, charged: 0, touched: 0 };
        let mut file = FILE.lock();
        file.taken.reserve(2)?;
        file.taken.remove(taken_at(self));
        self.len = kept;
        for e in [&*self, &rest] {
            file.taken.insert(Taken { start: taken_at(e), end: taken_at(e) + e.len });
        }
        Ok(rest)
    }

    /// Offset in the window's descriptor, bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Length, bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: an extent has at least a page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Where the kernel sees it.
    pub fn ptr(&self) -> *mut u8 {
        (window() + self.offset) as *mut u8
    }

    /// Zeroes a part; larger ones go back to the host.
    fn zero(&self, from: u64, len: u64) {
        let end = (from + len).min(self.touched);
        if from >= end {
            return;
        }
        if end - from > WARM_MAX {
            host::mem::punch(self.offset + from, end - from);
        } else {
            // SAFETY: within the extent.
            unsafe { core::ptr::write_bytes(self.ptr().add(from as usize), 0, (end - from) as usize) };
        }
    }
}

impl Extent {
    /// What the host maps of `len` bytes from `offset` on; `None` where they reach behind its end, where somebody else's lies.
    pub fn run(&self, offset: u64, len: u64) -> Option<HostRun> {
        offset.checked_add(len).filter(|end| *end <= self.len)?;
        Some(HostRun { fd: host::window::fd(), offset: self.offset + offset, lasting: false })
    }

    /// Zeroes what lies behind `from` bytes; it is not charged any more.
    fn cut(&mut self, from: u64) {
        self.zero(from, self.len);
        let kept = from.next_multiple_of(PAGE).min(self.touched);
        let before = self.charged;
        self.charged = before.min(kept);
        self.touched = kept;
        CHARGED.fetch_sub(before - self.charged, Relaxed);
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        CHARGED.fetch_sub(self.charged, Relaxed);
        // The next owner expects zeros, and the host its pages.
        let warm = self.touched > 0 && self.touched <= WARM_MAX && self.len == FIRST;
        if warm {
            self.zero(0, self.touched);
        } else if self.touched > 0 {
            host::mem::punch(self.offset, self.touched);
        }
        if warm {
            if FILE.lock().warm.try_push(self.offset).is_ok() {
                return;
            }
            host::mem::punch(self.offset, self.touched);
        }
        FILE.lock().taken.remove(taken_at(self));
    }
}

/// Where the record of an extent's room starts: rooms are counted from the memory file's end.
fn taken_at(e: &Extent) -> u64 {
    MEMFILE_MAX - (e.offset - MEMFILE) - e.len
}

/// A part of a file's data.
#[derive(Debug)]
struct Piece {
    /// Where in the file it begins, bytes.
    start: u64,
    extent: Extent,
}

impl Span for Piece {
    fn start(&self) -> u64 {
        self.start
    }
    fn end(&self) -> u64 {
        self.start + self.extent.len
    }
}

/// Growing data of an in-memory file: extents that cover the parts that were written, so that data never moves.
/// Byte `i` lies in the extent that covers it. What none covers is a hole, and so is what lies behind the
/// touched part of an extent: reading there would make the host give memory that nobody pays for.
#[derive(Default)]
pub struct PagedBuf {
    pieces: Tree<Piece>,
    /// Bytes charged.
    charged: u64,
}

impl PagedBuf {
    /// Nothing.
    pub const fn new() -> PagedBuf {
        PagedBuf { pieces: Tree::new(), charged: 0 }
    }

    /// Bytes of memory charged for it: what `st_blocks` is made of.
    pub fn charged(&self) -> u64 {
        self.charged
    }

    /// Makes the bytes from 0 to `len` writable; new ones are zero.
    ///
    /// # Errors
    /// `ENOSPC` past the limit.
    pub fn reserve(&mut self, len: u64) -> Result {
        self.reserve_range(0, len)
    }

    /// Makes the bytes from `from` to `to` writable; whatever lies between the old end and `from` is a
    /// hole that costs no memory.
    ///
    /// # Errors
    /// `ENOSPC` past the limit.
    pub fn reserve_range(&mut self, from: u64, to: u64) -> Result {
        if to.saturating_sub(from) > MEMFILE_MAX {
            return Err(Errno::ENOSPC);
        }
        // Most writes meet what is there and paid for.
        if self.piece(from).is_some_and(|(_, room)| room as u64 >= to.saturating_sub(from)) {
            return Ok(());
        }
        count_written(to.saturating_sub(from)).map_err(|_| Errno::ENOSPC)?;
        let mut at = from;
        while at < to {
            let start = match self.pieces.at_or_after(at) {
                Some(p) if p.start <= at => p.start,
                next => {
                    let room = next.map_or(!(PAGE - 1), |p| p.start);
                    self.cover(at, to.min(room), room).map_err(|_| Errno::ENOSPC)?
                }
            };
            let (mut charged, mut rest, mut result) = (0, None, Ok(()));
            self.pieces.reserve(1).map_err(|_| Errno::ENOSPC)?;
            self.pieces.change(start, |p| {
                let e = &mut p.extent;
                if e.touched > 0 && at - start > e.touched + WARM_MAX {
                    match e.split(at - start) {
                        Ok(new) => rest = Some(new),
                        Err(e) => result = Err(e),
                    }
                    return;
                }
                charged = e.charged;
                result = e.touch(to - start);
                charged = e.charged - charged;
                at = start + e.len;
            });
            self.charged += charged;
            result.map_err(|_| Errno::ENOSPC)?;
            if let Some(extent) = rest {
                self.pieces.insert(Piece { start: at & !(PAGE - 1), extent });
            }
        }
        Ok(())
    }

    /// Covers `from..to`, which is a hole up to `room`, or at least its beginning; returns where the new piece starts.
    fn cover(&mut self, from: u64, to: u64, room: u64) -> Result<u64> {
        self.pieces.reserve(1)?;
        let (before, size) = self.pieces.before(from).map_or((0, 0), |p| (p.end(), p.extent.len));
        // What goes on where the data ended grows, so that there are few pieces; what lies apart does not.
        let near = from - before <= WARM_MAX;
        let aligned = from & !(FIRST - 1);
        let start = match near {
            true => before,
            false if from - aligned <= WARM_MAX => aligned.max(before),
            false => from & !(PAGE - 1),
        };
        let least = (to - start).next_multiple_of(FIRST);
        let want = if near { least.max((2 * size).min(GROW_MAX)) } else { least };
        let fits = |n: u64| n.min(room - start);
        let extent = Extent::place(fits(want)).or_else(|_| Extent::place(fits(least)))?;
        self.pieces.insert(Piece { start, extent });
        Ok(start)
    }

    /// Up to where bytes from `from` to `to` can be written with at most `pages` more pages. Pages between what an extent
    /// holds and what is written behind that count, as [`PagedBuf::reserve_range`] charges for them.
    pub fn end_with(&self, from: u64, to: u64, pages: u64) -> u64 {
        let (mut at, mut left) = (from, pages);
        for p in self.pieces.from(from).take_while(|p| p.start < to) {
            let hole = p.start.saturating_sub(at).div_ceil(PAGE);
            if hole > left {
                break;
            }
            left -= hole;
            // What was touched of it is paid for.
            at = at.max((p.start + p.extent.touched).min(to));
            let rest = p.end().min(to).saturating_sub(at).div_ceil(PAGE);
            if rest > left {
                break;
            }
            left -= rest;
            at = at.max(p.end().min(to));
        }
        to.min((at & !(PAGE - 1)).saturating_add(left.saturating_mul(PAGE)).max(at)).max(from)
    }

    /// The contiguous piece at `at`: address and length, `None` in a hole.
    pub fn piece(&self, at: u64) -> Option<(*mut u8, usize)> {
        let p = self.pieces.at_or_after(at).filter(|p| p.start <= at)?;
        let within = at - p.start;
        let room = p.extent.touched.checked_sub(within).filter(|&n| n > 0)?;
        // SAFETY: within the extent.
        Some((unsafe { p.extent.ptr().add(within as usize) }, room as usize))
    }

    /// Bytes from `at`, where nothing is, to the next piece.
    pub fn hole(&self, at: u64) -> u64 {
        let next = match self.pieces.at_or_after(at) {
            Some(p) if p.start <= at => self.pieces.at_or_after(p.end()),
            next => next,
        };
        next.map_or(u64::MAX - at, |p| p.start - at)
    }

    /// The parts that may hold something else than zeros, below `size`: where in the file, address, length.
    pub fn data(&self, size: u64) -> impl Iterator<Item = (u64, *const u8, usize)> {
        let below = self.pieces.from(0).take_while(move |p| p.start < size);
        below.map(move |p| (p.start, p.extent.ptr().cast_const(), p.extent.touched.min(size - p.start) as usize))
    }

    /// Zeroes `len` bytes from `at`; whole pages go back to the host.
    pub fn zero(&self, at: u64, len: u64) {
        let end = at.saturating_add(len);
        for p in self.pieces.from(at).take_while(|p| p.start < end) {
            let from = at.saturating_sub(p.start);
            p.extent.zero(from, (end - p.start).min(p.extent.len) - from);
        }
    }

    /// Cuts to `len` bytes: what lies behind reads as zero afterwards.
    pub fn truncate(&mut self, len: u64) {
        while let Some(last) = self.pieces.before(u64::MAX)
            && last.start >= len
        {
            let start = last.start;
            if let Some(gone) = self.pieces.remove(start) {
                self.charged -= gone.extent.charged;
            }
        }
        if let Some(start) = self.pieces.at_or_after(len).map(|p| p.start) {
            let charged = &mut self.charged;
            self.pieces.change(start, |p| {
                *charged -= p.extent.charged;
                p.extent.cut(len - start);
                *charged += p.extent.charged;
            });
        }
    }

    /// First byte from `at` that may not be zero (`SEEK_DATA`), below `size`.
    pub fn next_data(&self, at: u64, size: u64) -> Option<u64> {
        self.next(at, size, true)
    }

    /// First byte from `at` of a hole (`SEEK_HOLE`); the end of the file is one.
    pub fn next_hole(&self, at: u64, size: u64) -> u64 {
        self.next(at, size, false).unwrap_or(size)
    }

    fn next(&self, at: u64, size: u64, data: bool) -> Option<u64> {
        let mut at = at;
        while at < size {
            let p = self.pieces.at_or_after(at).filter(|p| p.start < size);
            let Some(p) = p else { return (!data).then_some(at) };
            if p.start > at {
                if !data {
                    return Some(at);
                }
                at = p.start;
            }
            let (e, within) = (&p.extent, at - p.start);
            let here = e.offset() + within;
            let found = host::mem::window_seek(here, data).unwrap_or(u64::MAX);
            if found < e.offset() + e.len() {
                return Some(at + (found - here)).filter(|&f| f < size);
            }
            at += e.len() - within;
        }
        None
    }
}

#[cfg(test)]
#[path = "memfile_tests.rs"]
pub(crate) mod tests;
