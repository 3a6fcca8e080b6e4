//! The memory file: the sparse tail of the window that holds the data of in-memory files and of
//! shared mappings. The kernel reads and writes it by plain copies; guests map it with MAP_SHARED.
//!
//! Extents are powers of two of pages, so that freed ones fit again. Address room is plentiful
//! (256 GiB), so extents are generous; memory is not: freed pages go back to the host, but for a few
//! small extents that stay populated and zeroed, because a hole costs more than a small memset.
//!
//! Limits: an extent that stands for memory as a whole (shared anonymous memory) is charged in full, a
//! file's data by the bytes up to which its extents were written. Since a file may be written behind
//! that mark uncharged (backwards), the host is asked now and then what the window really holds.

use crate::abi::layout::{MEMFILE, MEMFILE_MAX};
use crate::abi::{Errno, Result};
use crate::arch::slot::window;
use crate::host;
use crate::sync::{Level, Mutex};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Page size, bytes.
pub const PAGE: u64 = 4096;
/// Extent sizes: up to 256 GiB.
const ORDERS: usize = 27;
/// An extent written to at most so far stays populated when it is freed.
const WARM_MAX: u64 = 16 << 10;
/// How many such extents are kept.
const WARM_COUNT: usize = 32;
/// The first extent of a file, in bytes: few mappings matter more than address room.
const FIRST: u64 = 64 << 10;
/// The host is asked for the real usage whenever so many bytes were written.
const ASK_EVERY: u64 = 16 << 20;

struct File {
    free: [Vec<u64>; ORDERS],
    /// Extents ever made.
    made: [usize; ORDERS],
    /// Free extents of the first size whose pages are zero but populated.
    warm: ArrayVec<u64, WARM_COUNT>,
    next: u64,
}

static FILE: Mutex<File> = Mutex::new(
    Level::MemFile,
    File { free: [const { Vec::new() }; ORDERS], made: [0; ORDERS], warm: ArrayVec::new_const(), next: 0 },
);
static CHARGED: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(MEMFILE_MAX);
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static FULL: AtomicBool = AtomicBool::new(false);

/// Sets the limit, in bytes (0: all of the address room).
pub fn set_limit(bytes: u64) {
    LIMIT.store(if bytes == 0 { MEMFILE_MAX } else { bytes.min(MEMFILE_MAX) }, Relaxed);
}

/// The limit, in bytes.
pub fn limit() -> u64 {
    LIMIT.load(Relaxed)
}

/// Bytes charged.
pub fn in_use() -> u64 {
    CHARGED.load(Relaxed)
}

fn charge(bytes: u64) -> Result {
    let fits = |n: u64| n.checked_add(bytes).filter(|&sum| sum <= limit());
    CHARGED.fetch_update(Relaxed, Relaxed, fits).map(drop).map_err(|_| Errno::ENOMEM)
}

/// Counts bytes that are about to be written, and says no while the host holds more than the limit.
fn count_written(bytes: u64) -> Result {
    let before = WRITTEN.fetch_add(bytes, Relaxed);
    if before / ASK_EVERY != (before + bytes) / ASK_EVERY || FULL.load(Relaxed) {
        FULL.store(host::mem::window_usage() > limit(), Relaxed);
    }
    if FULL.load(Relaxed) { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// A run of the memory file; freed when dropped.
#[derive(Debug)]
pub struct Extent {
    /// Offset in the window and in its descriptor, bytes.
    offset: u64,
    order: u8,
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
        let pages = len.div_ceil(PAGE).max(1).checked_next_power_of_two().ok_or(Errno::ENOMEM)?;
        let order = pages.trailing_zeros() as usize;
        let mut file = FILE.lock();
        if len == FIRST
            && let Some(offset) = file.warm.pop()
        {
            return Ok(Extent { offset, order: order as u8, charged: 0, touched: 0 });
        }
        if order >= ORDERS {
            return Err(Errno::ENOMEM);
        }
        let offset = match file.free[order].pop() {
            Some(offset) => offset,
            None => {
                // Every extent that was ever made has its place in the free list, so that giving one
                // back cannot fail.
                let made = file.made[order] + 1;
                file.free[order].try_reserve(made).map_err(|_| Errno::ENOMEM)?;
                let bytes = PAGE << order;
                let start = file.next;
                file.next = start.checked_add(bytes).filter(|&end| end <= MEMFILE_MAX).ok_or(Errno::ENOMEM)?;
                file.made[order] = made;
                MEMFILE + start
            }
        };
        Ok(Extent { offset, order: order as u8, charged: 0, touched: 0 })
    }

    /// Charges for the bytes from `from` to `to`, which are about to be written. A hole of some size
    /// in front of them is not charged.
    fn touch(&mut self, from: u64, to: u64) -> Result {
        let to = to.next_multiple_of(PAGE).min(self.len());
        if to <= self.touched {
            return Ok(());
        }
        let hole = from.saturating_sub(self.touched);
        let bytes = to - if hole > WARM_MAX { from & !(PAGE - 1) } else { self.touched };
        charge(bytes)?;
        self.charged += bytes;
        self.touched = to;
        Ok(())
    }

    /// Offset in the window's descriptor, bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Length, bytes.
    pub fn len(&self) -> u64 {
        PAGE << self.order
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

impl Drop for Extent {
    fn drop(&mut self) {
        CHARGED.fetch_sub(self.charged, Relaxed);
        // The next owner expects zeros, and the host its pages.
        if self.touched <= WARM_MAX && self.len() == FIRST {
            self.zero(0, self.touched);
            let mut file = FILE.lock();
            if self.touched == 0 {
                file.free[self.order as usize].push(self.offset);
                return;
            }
            if file.warm.try_push(self.offset).is_ok() {
                return;
            }
        }
        host::mem::punch(self.offset, self.touched);
        FILE.lock().free[self.order as usize].push(self.offset);
    }
}

/// Growing data of an in-memory file: extents of geometrically growing size, so that data never
/// moves and a mapping stays right. Byte `i` lives in the extent that covers it.
#[derive(Debug, Default)]
pub struct PagedBuf {
    extents: Vec<Extent>,
    capacity: u64,
}

impl PagedBuf {
    /// Nothing.
    pub const fn new() -> PagedBuf {
        PagedBuf { extents: Vec::new(), capacity: 0 }
    }

    /// Bytes that extents cover.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes of memory charged for it: what `st_blocks` is made of.
    pub fn charged(&self) -> u64 {
        self.extents.iter().map(|e| e.charged).sum()
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
        if to > MEMFILE_MAX {
            return Err(Errno::ENOSPC);
        }
        while self.capacity < to {
            let want = (to - self.capacity).max(self.capacity).clamp(FIRST, 1 << 36);
            self.extents.try_reserve(1).map_err(|_| Errno::ENOSPC)?;
            let extent = Extent::place(want).map_err(|_| Errno::ENOSPC)?;
            self.capacity += extent.len();
            self.extents.push(extent);
        }
        count_written(to.saturating_sub(from)).map_err(|_| Errno::ENOSPC)?;
        let mut start = 0;
        for e in &mut self.extents {
            let end = start + e.len();
            if start < to && end > from {
                e.touch(from.saturating_sub(start), to - start).map_err(|_| Errno::ENOSPC)?;
            }
            start = end;
        }
        Ok(())
    }

    /// The extent at `at`, and how far into it that is.
    fn find(&self, at: u64) -> Option<(&Extent, u64)> {
        let mut start = 0;
        for e in &self.extents {
            if at < start + e.len() {
                return Some((e, at - start));
            }
            start += e.len();
        }
        None
    }

    /// The contiguous piece at `at`: address and length, `None` past the capacity.
    pub fn piece(&self, at: u64) -> Option<(*mut u8, usize)> {
        let (e, within) = self.find(at)?;
        // SAFETY: within the extent.
        Some((unsafe { e.ptr().add(within as usize) }, (e.len() - within) as usize))
    }

    /// Offset in the window's descriptor of the page at `at`, and how many bytes follow in one run.
    pub fn host_run(&self, at: u64) -> Option<(u64, u64)> {
        let (e, within) = self.find(at)?;
        Some((e.offset() + within, e.len() - within))
    }

    /// Zeroes `len` bytes from `at`; whole pages go back to the host.
    pub fn zero(&self, at: u64, len: u64) {
        let end = at.saturating_add(len);
        let mut start = 0;
        for e in &self.extents {
            let stop = start + e.len();
            if start < end && stop > at {
                let from = at.saturating_sub(start);
                e.zero(from, end.min(stop) - start - from);
            }
            start = stop;
        }
    }

    /// Cuts to `len` bytes: what lies behind reads as zero afterwards. Only for data that is not
    /// mapped: extents behind the end go away.
    pub fn truncate(&mut self, len: u64) {
        while let Some(last) = self.extents.last() {
            let start = self.capacity - last.len();
            if start < len {
                break;
            }
            self.extents.pop();
            self.capacity = start;
        }
        self.zero(len, self.capacity.saturating_sub(len));
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
            let Some((e, within)) = self.find(at) else { return (!data).then_some(at) };
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
