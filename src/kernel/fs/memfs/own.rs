//! Files that guests map: their data is a memory file of the host's, made at the first mapping.
//!
//! So all that Linux does between a file and its mappings is what the host does: pages behind the end are SIGBUS in
//! whoever maps them, also when the file is cut under a mapping; what is cut off is gone from private mappings, too;
//! a large sparse file is mapped by one mapping and costs what it holds. Reads and writes are host calls then, 0.2 us
//! more than a copy from the memory file.

use super::handles;
use crate::abi::{Errno, Result, linux};
use crate::host::{HostFd, files};
use crate::mm::memfile::{self, PAGE, PagedBuf};
use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::ops::Bound::{Excluded, Unbounded};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the module.
pub struct Own {
    held: Arc<Held>,
    /// Its key in [`ALL`].
    key: u64,
    /// Bytes written since it was counted.
    written: AtomicU64,
}

/// The host's file and what is counted for it.
struct Held {
    fd: HostFd,
    /// Bytes that it counts with (`memfile::recount`).
    counted: AtomicU64,
}

/// Every such file, in the order in which they were made: what programs touch of their mappings the host alone sees.
static ALL: Mutex<BTreeMap<u64, Weak<Held>>> = Mutex::new(Level::Leaf, BTreeMap::new());
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// How many bytes are written before it is counted again.
pub const COUNT_EVERY: u64 = 1 << 20;

impl Own {
    /// A host file of `size` bytes with what `buf` holds.
    ///
    /// # Errors
    /// `ENFILE`, `ENOMEM`, `ENOSPC`.
    pub fn new(buf: &PagedBuf, size: u64) -> Result<Own> {
        let held = Arc::new(Held { fd: handles::with_room(files::memfd)?, counted: AtomicU64::new(0) });
        let key = NEXT_KEY.fetch_add(1, Relaxed);
        ALL.lock().insert(key, Arc::downgrade(&held));
        let own = Own { held, key, written: AtomicU64::new(0) };
        files::ftruncate(own.raw(), size)?;
        for (start, ptr, len) in buf.data(size) {
            let mut done = 0;
            while done < len {
                // The file grows by as much as is given back right after.
                let n = files::pwrite(own.raw(), ptr as u64 + done as u64, len - done, start + done as u64)?;
                if n == 0 {
                    return Err(Errno::ENOSPC);
                }
                done += n;
            }
        }
        own.recount();
        Ok(own)
    }

    /// Its descriptor's number, for a gate call.
    pub fn raw(&self) -> i32 {
        self.held.fd.raw()
    }

    /// Bytes of memory that it holds.
    pub fn held(&self) -> u64 {
        self.held.bytes()
    }

    /// Bytes that it held when it was counted last.
    pub fn counted(&self) -> u64 {
        self.held.counted.load(Relaxed)
    }

    /// Up to where bytes from `pos` to `end` can be written with at most `pages` more pages.
    ///
    /// # Errors
    /// The host's.
    pub fn end_with(&self, pos: u64, end: u64, pages: u64) -> Result<u64> {
        let (mut at, mut left) = (pos, pages);
        while at < end {
            // Behind the last data, and behind the end, all is a hole.
            let data = self.seek(at, true).unwrap_or(u64::MAX);
            if data > at {
                let hole = data.min(end).next_multiple_of(PAGE) - (at & !(PAGE - 1));
                if hole / PAGE > left {
                    return Ok(end.min((at & !(PAGE - 1)) + left * PAGE).max(pos));
                }
                left -= hole / PAGE;
                at = data.min(end);
            } else {
                at = self.seek(at, false)?;
            }
        }
        Ok(end)
    }

    /// Counts what it holds now.
    pub fn recount(&self) {
        self.held.recount();
    }

    /// `n` more bytes were written: now and then what it holds is counted.
    pub fn wrote(&self, n: u64) {
        if self.written.fetch_add(n, Relaxed) + n >= COUNT_EVERY {
            self.written.store(0, Relaxed);
            self.recount();
        }
    }

    /// Sets its length, bytes.
    ///
    /// # Errors
    /// The host's.
    pub fn resize(&self, size: u64) -> Result {
        files::ftruncate(self.raw(), size)?;
        self.recount();
        Ok(())
    }

    /// As `fallocate(2)` for the modes of tmpfs, and zeroing, which is a hole here.
    ///
    /// # Errors
    /// The host's, `ENOSPC`.
    pub fn fallocate(&self, mode: u32, offset: u64, len: u64) -> Result {
        let hole = linux::FALLOC_FL_PUNCH_HOLE | linux::FALLOC_FL_KEEP_SIZE;
        if mode & linux::FALLOC_FL_ZERO_RANGE != 0 {
            files::fallocate(self.raw(), hole, offset, len)?;
        }
        let mode = mode & !linux::FALLOC_FL_ZERO_RANGE;
        if mode & linux::FALLOC_FL_PUNCH_HOLE == 0 {
            memfile::admit(len)?;
        }
        files::fallocate(self.raw(), mode, offset, len)?;
        self.recount();
        Ok(())
    }

    /// `SEEK_DATA` or `SEEK_HOLE` from `at`.
    ///
    /// # Errors
    /// `ENXIO`.
    pub fn seek(&self, at: u64, data: bool) -> Result<u64> {
        let whence = if data { linux::SEEK_DATA } else { linux::SEEK_HOLE };
        files::lseek(self.raw(), i64::try_from(at).map_err(|_| Errno::ENXIO)?, whence)
    }
}

impl Held {
    fn bytes(&self) -> u64 {
        super::host_stat(self.fd.raw()).map_or(0, |s| s.blocks * 512)
    }

    fn recount(&self) {
        let now = self.bytes();
        memfile::recount(self.counted.swap(now, Relaxed), now);
    }
}

/// Counts what every file that was ever mapped holds now.
pub fn recount_mapped() {
    let mut last = 0;
    loop {
        let next = ALL.lock().range((Excluded(last), Unbounded)).next().map(|(key, held)| (*key, held.upgrade()));
        let Some((key, held)) = next else { return };
        last = key;
        if let Some(held) = held {
            held.recount();
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        ALL.lock().remove(&self.key);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        memfile::recount(self.counted.load(Relaxed), 0);
    }
}
