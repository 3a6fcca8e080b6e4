//! Open regular files of the host: data moves between the host and the guest's memory directly.

use super::memfs;
use crate::abi::linux::{self, O_APPEND, O_DIRECT, O_DSYNC, O_NOATIME, O_SYNC};
use crate::abi::{Errno, Result, SysResult};
use crate::host::{HostFd, files};
use crate::mm::{HostRun, IoDst, IoSrc, MapWish, Mappable, Mapped};
use crate::vfs::{FileOps, OpCtx, OpenFile, Whence};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// An open file.
struct HostFile {
    fd: Arc<HostFd>,
}

/// What a vma of such a file holds.
struct Mapping {
    fd: Arc<HostFd>,
    dev: u64,
    ino: u64,
}

/// Opens what the O_PATH descriptor `place` stands for.
///
/// # Errors
/// The host's.
pub fn open(place: &HostFd, flags: u32) -> Result<Box<dyn FileOps>> {
    // O_DIRECT would put the host's alignment rules on guests; O_APPEND is seen to at each write,
    // because F_SETFL changes it.
    let kept = flags & (linux::O_ACCMODE | O_SYNC | O_DSYNC | O_NOATIME) & !(O_APPEND | O_DIRECT);
    // An access mode of 3 is for ioctls alone.
    let kept = if kept & 3 == 3 { kept & !3 } else { kept };
    let fd = match memfs::reopen(place.raw(), kept) {
        // The host's owner rule for O_NOATIME is not the guest's.
        Err(Errno::EPERM) if kept & O_NOATIME != 0 => memfs::reopen(place.raw(), kept & !O_NOATIME)?,
        other => other?,
    };
    Ok(opened(fd))
}

/// A file that is open already.
pub fn opened(fd: HostFd) -> Box<dyn FileOps> {
    Box::new(HostFile { fd: Arc::new(fd) })
}

impl HostFile {
    fn size(&self) -> Result<u64> {
        memfs::host_stat(self.fd.raw()).map(|s| s.size)
    }
}

impl FileOps for HostFile {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        memfs::read_host(self.fd.raw(), dst, pos)
    }

    fn write(&self, ctx: &OpCtx<'_>, file: &OpenFile, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
        let append = file.flags() & O_APPEND != 0;
        if ctx.fsize_limit < i64::MAX as u64 && src.left() > 0 {
            let start = if append { self.size()? } else { pos };
            let room = ctx.fsize_limit.checked_sub(start).filter(|&n| n > 0).ok_or(Errno::EFBIG)?;
            src.limit(usize::try_from(room).unwrap_or(usize::MAX));
        }
        let mut done = 0;
        while let Some((addr, len)) = src.next_piece(done)? {
            let put = if append {
                files::append(self.fd.raw(), addr, len)
            } else {
                files::pwrite(self.fd.raw(), addr, len, pos.saturating_add(done as u64))
            };
            match put {
                Ok(n) => {
                    src.advance(n);
                    done += n;
                    if n < len {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e.into()),
            }
        }
        if append {
            file.set_append_end(self.size()?);
        }
        Ok(done)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek_to(&self, _file: &OpenFile, whence: Whence, offset: i64) -> Result<u64> {
        match whence {
            Whence::End => self.size(),
            Whence::Data => files::lseek(self.fd.raw(), offset, linux::SEEK_DATA),
            Whence::Hole => files::lseek(self.fd.raw(), offset, linux::SEEK_HOLE),
            _ => Err(Errno::EINVAL),
        }
    }

    fn mappable(&self, _wish: &mut MapWish) -> Result<Mapped> {
        let s = memfs::host_stat(self.fd.raw())?;
        Ok(Some(Arc::new(Mapping { fd: self.fd.clone(), dev: s.dev, ino: s.ino })))
    }

    fn sync(&self, data_only: bool) -> SysResult<()> {
        Ok(files::sync(self.fd.raw(), data_only)?)
    }

    fn fallocate(&self, ctx: &OpCtx<'_>, mode: u32, offset: u64, len: u64) -> Result {
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        if mode & linux::FALLOC_FL_KEEP_SIZE == 0 && end > ctx.fsize_limit {
            return Err(Errno::EFBIG);
        }
        files::fallocate(self.fd.raw(), mode, offset, len)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Mappable for Mapping {
    fn run(&self, offset: u64, _len: u64, _shared_write: bool) -> Result<HostRun> {
        Ok(HostRun { fd: self.fd.raw(), offset, lasting: true })
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        (self.dev, self.ino, Vec::new())
    }
}
