//! Memory that its program alone reads (`memfd_secret(2)`): nobody else, no debugger and no call that takes pages gets at
//! what is in it. A file of it is only mapped, and gets its length once.

use super::{Body, Data, MemFs, SECRET, file};
use crate::abi::linux::{self, PROT_EXEC};
use crate::abi::{Errno, Result};
use crate::mm::memfile::PagedBuf;
use crate::mm::{HostRun, MapWish, Mappable, Mapped};
use crate::sync::{Level, RwLock};
use crate::vfs::{FileOps, FileType, OpCtx, OpenFile, mount};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::Relaxed;

struct Secret {
    memory: Box<dyn FileOps>,
}

impl FileOps for Secret {
    fn has_still_offset(&self) -> bool {
        false
    }

    fn mappable(&self, wish: &mut MapWish) -> Result<Mapped> {
        if !wish.shared {
            return Err(Errno::EINVAL);
        }
        wish.may &= !PROT_EXEC;
        let map = self.memory.mappable(wish)?;
        Ok(map.map(|map| Arc::new(Hidden(map)) as Arc<dyn Mappable>))
    }

    fn fallocate(&self, _ctx: &OpCtx<'_>, _mode: u32, _offset: u64, _len: u64) -> Result {
        Err(Errno::EOPNOTSUPP)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What is mapped of it.
struct Hidden(Arc<dyn Mappable>);

impl Mappable for Hidden {
    fn run(&self, offset: u64, len: u64, shared_write: bool) -> Result<HostRun> {
        self.0.run(offset, len, shared_write)
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        self.0.describe()
    }

    fn memory(&self) -> u64 {
        self.0.memory()
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// An empty file of secret memory.
///
/// # Errors
/// Those of opening it.
pub fn secret(ctx: &OpCtx<'_>) -> Result<Arc<OpenFile>> {
    let body = Body::File(RwLock::new(Level::FileData, Data::Memory(PagedBuf::new())));
    let inode = MemFs::new(None, None).node(FileType::Regular, 0o600, ctx.cred.fsuid, ctx.cred.fsgid, 0, body);
    inode.seals.store(linux::F_SEAL_SEAL | SECRET, Relaxed);
    let ops = Box::new(Secret { memory: file::open(inode.clone(), linux::O_RDWR)? });
    let path = mount::detached_named(inode.clone(), "secretmem", "/secretmem (deleted)");
    Ok(OpenFile::new(ops, inode, path, linux::O_RDWR | linux::O_LARGEFILE))
}
