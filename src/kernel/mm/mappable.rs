//! What lies behind a mapping.

use crate::abi::Result;
use crate::abi::linux::PROT_WRITE;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What the host maps for a mapping: one of its descriptors, from an offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRun {
    /// Host descriptor.
    pub fd: i32,
    /// Offset in it, page aligned, bytes.
    pub offset: u64,
    /// Whether it is a file of the host's own tree, whose code is worth remembering.
    pub lasting: bool,
}

/// What somebody wants to map, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapWish {
    /// `MAP_SHARED`.
    pub shared: bool,
    /// `PROT_*` at first.
    pub prot: u32,
    /// `PROT_*` that may be set later; a file may take some away.
    pub may: u32,
    /// Where in the file it begins, and its length, whole pages, bytes; 0 and 0 where that is not known yet.
    pub span: (u64, u64),
}

impl MapWish {
    /// A private mapping that only reads at first.
    pub const PRIVATE: MapWish = MapWish { shared: false, prot: 1, may: 7, span: (0, 0) };

    /// Whether writes to the mapping can ever reach the file.
    pub fn may_write_file(&self) -> bool {
        self.shared && self.may & PROT_WRITE != 0
    }

    /// Whether they can at once.
    pub fn writes_file(&self) -> bool {
        self.shared && self.prot & PROT_WRITE != 0
    }
}

/// What a file gives to be mapped; `None`: zero-filled memory.
pub type Mapped = Option<Arc<dyn Mappable>>;

/// A file that can be mapped (implemented by file systems; held by vmas).
pub trait Mappable: Send + Sync {
    /// What the host maps for `len` bytes at `offset` (both page aligned). With `shared_write` the
    /// file's own pages must be what is mapped: a copy-up happens first.
    ///
    /// # Errors
    /// `ENODEV`, `EACCES`, `ENOMEM`.
    fn run(&self, offset: u64, len: u64, shared_write: bool) -> Result<HostRun>;

    /// For `/proc/self/maps`: device, inode number, path.
    fn describe(&self) -> (u64, u64, Vec<u8>);

    /// Two numbers that tell apart what is mapped, for futexes.
    fn identity(&self) -> (u64, u64) {
        let (dev, ino, _) = self.describe();
        (dev, ino)
    }

    /// Whether its mappings are counted: then none is joined with another, and the next two are told of each that
    /// comes and goes, under the lock of an address space.
    fn is_counted(&self) -> bool {
        false
    }

    /// A mapping of it was made.
    fn mapped(&self) {}

    /// A mapping of it is gone.
    fn unmapped(&self) {}

    /// Whether nobody but the programs that map it may read it (`memfd_secret(2)`).
    fn is_secret(&self) -> bool {
        false
    }

    /// Bytes of memory that it holds by itself, whoever maps it; 0 for files that are elsewhere.
    fn memory(&self) -> u64 {
        0
    }

    /// Its length in bytes, where `shmdt(2)` unmaps it.
    fn attachment(&self) -> Option<u64> {
        None
    }
}
