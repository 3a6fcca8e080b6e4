//! `memfd_create(2)`: a file of the memory file system without a name, with seals (`fcntl(2)`).

use super::memfs;
use crate::abi::linux::{self, F_ADD_SEALS, F_GET_SEALS, F_SEAL_FUTURE_WRITE, F_SEAL_SEAL, F_SEAL_WRITE};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::{IoDst, IoSrc, Mappable};
use crate::sync::{Events, WaitQueue};
use crate::vfs::inode::NewNode;
use crate::vfs::{FileOps, Inode, OpCtx, OpenFile, Whence, mount};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use once_cell::race::OnceBox;

/// The seals that there are.
const ALL_SEALS: u32 = 0x3f;

static HOME: OnceBox<Arc<dyn Inode>> = OnceBox::new();

struct MemFd {
    inner: Box<dyn FileOps>,
    seals: AtomicU32,
}

/// Makes one; without `sealable` it can never be sealed.
///
/// # Errors
/// `ENOMEM`.
pub fn memfd(ctx: &OpCtx<'_>, name: &[u8], sealable: bool) -> Result<Arc<OpenFile>> {
    let home = HOME.get_or_init(|| Box::new(memfs::tmpfs(0o700, 0, 0)));
    let dir = home.as_dir().ok_or(Errno::ENOMEM)?;
    let inode = dir.create(ctx, b"memfd", NewNode::Regular, 0o777)?;
    let inner = inode.clone().open(ctx, linux::O_RDWR)?;
    let seals = AtomicU32::new(if sealable { 0 } else { F_SEAL_SEAL });
    let shown = format!("/memfd:{} (deleted)", String::from_utf8_lossy(name));
    let path = mount::detached_named(inode.clone(), "tmpfs", &shown);
    Ok(OpenFile::new(Box::new(MemFd { inner, seals }), inode, path, linux::O_RDWR))
}

impl FileOps for MemFd {
    fn read(&self, ctx: &OpCtx<'_>, file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        self.inner.read(ctx, file, dst, pos)
    }

    fn write(&self, ctx: &OpCtx<'_>, file: &OpenFile, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
        if self.seals.load(SeqCst) & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM.into());
        }
        self.inner.write(ctx, file, src, pos)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek_to(&self, file: &OpenFile, whence: Whence, offset: i64) -> Result<u64> {
        self.inner.seek_to(file, whence, offset)
    }

    fn poll(&self) -> Events {
        self.inner.poll()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        None
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        self.inner.mappable()
    }

    fn sync(&self, data_only: bool) -> SysResult<()> {
        self.inner.sync(data_only)
    }

    fn fallocate(&self, ctx: &OpCtx<'_>, mode: u32, offset: u64, len: u64) -> Result {
        self.inner.fallocate(ctx, mode, offset, len)
    }

    fn fcntl(&self, ctx: &OpCtx<'_>, file: &OpenFile, command: u32, arg: u64) -> SysResult<u64> {
        match command {
            F_GET_SEALS => Ok(u64::from(self.seals.load(SeqCst))),
            F_ADD_SEALS => {
                let new = arg as u32;
                if new & !ALL_SEALS != 0 {
                    return Err(Errno::EINVAL.into());
                }
                if self.seals.load(SeqCst) & F_SEAL_SEAL != 0 {
                    return Err(Errno::EPERM.into());
                }
                self.seals.fetch_or(new, SeqCst);
                Ok(0)
            }
            _ => self.inner.fcntl(ctx, file, command, arg),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
