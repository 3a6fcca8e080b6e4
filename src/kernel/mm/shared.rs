//! Memory that the kernel and guests use at the same time: rings of packets.

use super::mappable::{HostRun, Mappable};
use super::memfile::Extent;
use crate::abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

/// A zero-filled extent of the memory file that guests map. What guests write to it meanwhile is theirs to order: the
/// kernel believes nothing that it reads here, and every access stays within the extent.
pub struct SharedMemory {
    extent: Extent,
    mapped: AtomicU32,
}

impl SharedMemory {
    /// So many bytes, charged at once.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(len: u64) -> Result<Arc<SharedMemory>> {
        Ok(Arc::new(SharedMemory { extent: Extent::alloc(len)?, mapped: AtomicU32::new(0) }))
    }

    /// Whether a mapping of it exists.
    pub fn is_mapped(&self) -> bool {
        self.mapped.load(Ordering::Acquire) != 0
    }

    fn holds(&self, at: u64, len: usize) -> bool {
        at.checked_add(len as u64).is_some_and(|end| end <= self.extent.len())
    }

    /// Copies bytes in; what does not lie within it is not written.
    pub fn put(&self, at: u64, bytes: &[u8]) {
        if self.holds(at, bytes.len()) {
            // SAFETY: within the extent, which lives as long as this; guests that write there only spoil the bytes.
            unsafe {
                core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.extent.ptr().add(at as usize), bytes.len());
            }
        }
    }

    /// Copies bytes out; zeros where they do not lie within it.
    pub fn get(&self, at: u64, into: &mut [u8]) {
        if !self.holds(at, into.len()) {
            return into.fill(0);
        }
        // SAFETY: as in `put`.
        unsafe { core::ptr::copy_nonoverlapping(self.extent.ptr().add(at as usize), into.as_mut_ptr(), into.len()) };
    }

    fn at(&self, at: u64) -> Option<&AtomicU32> {
        // SAFETY: an aligned word within the extent.
        (at.is_multiple_of(4) && self.holds(at, 4))
            .then(|| unsafe { AtomicU32::from_ptr(self.extent.ptr().add(at as usize).cast()) })
    }

    /// A word by which the kernel and a guest hand something to each other; 0 where there is none.
    pub fn word(&self, at: u64) -> u32 {
        self.at(at).map_or(0, |w| w.load(Ordering::Acquire))
    }

    /// Sets such a word: what was put before is seen by who reads it.
    pub fn set_word(&self, at: u64, value: u32) {
        if let Some(word) = self.at(at) {
            word.store(value, Ordering::Release);
        }
    }
}

impl Mappable for SharedMemory {
    fn run(&self, offset: u64, len: u64, _shared_write: bool) -> Result<HostRun> {
        self.extent.run(offset, len).ok_or(Errno::EINVAL)
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        (1, self.extent.offset() >> 12, Vec::new())
    }

    fn identity(&self) -> (u64, u64) {
        (u64::MAX, self.extent.offset())
    }

    fn is_counted(&self) -> bool {
        true
    }

    fn mapped(&self) {
        self.mapped.fetch_add(1, Ordering::AcqRel);
    }

    fn unmapped(&self) {
        self.mapped.fetch_sub(1, Ordering::AcqRel);
    }

    fn memory(&self) -> u64 {
        self.extent.len()
    }
}
