//! What lies behind a mapping.

use crate::abi::Result;
use alloc::vec::Vec;

/// A run of a mapping that one host mapping can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRun {
    /// Offset in the file, page aligned, bytes.
    pub file_offset: u64,
    /// Length, page aligned, bytes.
    pub len: u64,
    /// Host descriptor to map, or -1 for zero-filled anonymous memory.
    pub fd: i32,
    /// Offset in that descriptor.
    pub fd_offset: u64,
}

/// A file that can be mapped (implemented by file systems; held by vmas).
pub trait Mappable: Send + Sync {
    /// The host mappings for `len` bytes at `offset` (both page aligned). With `shared_write` the
    /// file's own pages must be what is mapped: a copy-up happens first.
    ///
    /// # Errors
    /// `ENODEV`, `EACCES`, `ENOMEM`.
    fn runs(&self, offset: u64, len: u64, shared_write: bool) -> Result<Vec<HostRun>>;

    /// For `/proc/self/maps`: device, inode number, path.
    fn describe(&self) -> (u64, u64, Vec<u8>);
}
