//! The memory file: the sparse tail of the window that holds the data of in-memory files and of
//! shared mappings. The kernel reads and writes it by plain copies; guests map it with MAP_SHARED.
//!
//! Extents are powers of two of pages, so that freed ones fit again; freed pages go back to the host.

use crate::abi::layout::{MEMFILE, MEMFILE_MAX};
use crate::abi::{Errno, Result};
use crate::arch::slot::window;
use crate::host;
use crate::sync::{Level, Mutex};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Page size, bytes.
pub const PAGE: u64 = 4096;
const ORDERS: usize = 27;

struct File {
    free: [Vec<u64>; ORDERS],
    next: u64,
}

static FILE: Mutex<File> = Mutex::new(Level::MemFile, File { free: [const { Vec::new() }; ORDERS], next: 0 });
static IN_USE: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(MEMFILE_MAX);

/// Sets the limit on live extents, in bytes.
pub fn set_limit(bytes: u64) {
    LIMIT.store(if bytes == 0 { MEMFILE_MAX } else { bytes.min(MEMFILE_MAX) }, Relaxed);
}

/// Bytes of live extents (their pages may be sparse).
pub fn in_use() -> u64 {
    IN_USE.load(Relaxed)
}

/// A run of the memory file; freed when dropped.
#[derive(Debug)]
pub struct Extent {
    /// Offset in the window and in its descriptor, bytes.
    offset: u64,
    order: u8,
}

impl Extent {
    /// A zero-filled extent of at least `len` bytes.
    ///
    /// # Errors
    /// `ENOMEM` past the limit.
    pub fn alloc(len: u64) -> Result<Extent> {
        let pages = len.div_ceil(PAGE).max(1).checked_next_power_of_two().ok_or(Errno::ENOMEM)?;
        let order = pages.trailing_zeros() as usize;
        if order >= ORDERS {
            return Err(Errno::ENOMEM);
        }
        let bytes = PAGE << order;
        IN_USE
            .fetch_update(Relaxed, Relaxed, |n| (n + bytes <= LIMIT.load(Relaxed)).then_some(n + bytes))
            .map_err(|_| Errno::ENOMEM)?;
        let mut file = FILE.lock();
        let offset = match file.free[order].pop() {
            Some(offset) => offset,
            None if file.next + bytes <= MEMFILE_MAX => {
                file.next += bytes;
                MEMFILE + file.next - bytes
            }
            None => {
                IN_USE.fetch_sub(bytes, Relaxed);
                return Err(Errno::ENOMEM);
            }
        };
        Ok(Extent { offset, order: order as u8 })
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
}

impl Drop for Extent {
    fn drop(&mut self) {
        // The next owner expects zeros, and the host its pages.
        host::mem::punch(self.offset, self.len());
        IN_USE.fetch_sub(self.len(), Relaxed);
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

    /// Grows to at least `len` bytes, new ones zero.
    ///
    /// # Errors
    /// `ENOSPC` past the limit.
    pub fn reserve(&mut self, len: u64) -> Result {
        while self.capacity < len {
            let want = (len - self.capacity).max(self.capacity).clamp(PAGE, 1 << 32);
            // Never more than asked for by a factor of two: large sparse files cost only addresses.
            let extent = Extent::alloc(want).map_err(|_| Errno::ENOSPC)?;
            self.extents.try_reserve(1).map_err(|_| Errno::ENOSPC)?;
            self.capacity += extent.len();
            self.extents.push(extent);
        }
        Ok(())
    }

    /// The contiguous piece at `at`: address and length, `None` past the capacity.
    pub fn piece(&self, at: u64) -> Option<(*mut u8, usize)> {
        let mut start = 0;
        for e in &self.extents {
            if at < start + e.len() {
                let within = at - start;
                // SAFETY: within the extent.
                return Some((unsafe { e.ptr().add(within as usize) }, (e.len() - within) as usize));
            }
            start += e.len();
        }
        None
    }

    /// Offset in the window's descriptor of the page at `at`, and how many bytes follow in one run.
    pub fn host_run(&self, at: u64) -> Option<(u64, u64)> {
        let mut start = 0;
        for e in &self.extents {
            if at < start + e.len() {
                return Some((e.offset() + at - start, e.len() - (at - start)));
            }
            start += e.len();
        }
        None
    }

    /// Zeroes `len` bytes from `at`; whole pages go back to the host.
    pub fn zero(&self, at: u64, len: u64) {
        let end = (at + len).min(self.capacity);
        let mut at = at;
        while at < end {
            let Some((ptr, room)) = self.piece(at) else { break };
            let n = (room as u64).min(end - at);
            if let Some((offset, _)) = self.host_run(at)
                && n >= PAGE
            {
                host::mem::punch(offset, n);
            } else {
                // SAFETY: within the extent.
                unsafe { core::ptr::write_bytes(ptr, 0, n as usize) };
            }
            at += n;
        }
    }

    /// Cuts to `len` bytes: what lies behind reads as zero afterwards.
    pub fn truncate(&mut self, len: u64) {
        if len == 0 {
            self.extents.clear();
            self.capacity = 0;
            return;
        }
        self.zero(len, self.capacity.saturating_sub(len));
    }
}
