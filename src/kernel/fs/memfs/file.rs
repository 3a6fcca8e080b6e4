//! Open regular files.

use super::handles::Handle;
use super::{Data, MemInode};
use crate::abi::{Errno, Result, SysResult, linux};
use crate::host::{files, window};
use crate::mm::{HostRun, IoDst, IoSrc, Mappable};
use crate::time;
use crate::vfs::{FileOps, Inode, OpCtx, OpenFile, Whence};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

/// Largest file, bytes (`MAX_LFS_FILESIZE`).
const MAX_SIZE: u64 = i64::MAX as u64;

/// An open file; `host` is the lower file while there is no copy above it.
pub struct MemFile {
    inode: Arc<MemInode>,
    host: Option<Arc<Handle>>,
}

/// What a vma of such a file holds.
struct Mapping {
    inode: Arc<MemInode>,
    host: Option<Arc<Handle>>,
}

/// Opens `inode`. What is about to be truncated needs nothing of the host.
pub fn open(inode: Arc<MemInode>, flags: u32) -> Result<Box<dyn FileOps>> {
    let host = if flags & linux::O_TRUNC != 0 { None } else { inode.handle()? };
    Ok(Box::new(MemFile { inode, host }))
}

impl MemFile {
    fn read_host(host: &Handle, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        let mut done = 0;
        while let Some((addr, len)) = dst.piece()? {
            match files::pread(host.raw(), addr, len, pos + done as u64) {
                Ok(0) => break,
                Ok(n) => {
                    dst.advance(n);
                    done += n;
                    if n < len {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }
}

impl FileOps for MemFile {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        if let Some(host) = &self.host
            && self.inode.below.load(Acquire)
        {
            return MemFile::read_host(host, dst, pos);
        }
        let data = self.inode.file()?.read();
        let Data::Memory(buf) = &*data else { return Err(Errno::EIO.into()) };
        let size = self.inode.meta.lock().size;
        let mut at = pos;
        let mut done = 0;
        while at < size && dst.left() > 0 {
            let want = (size - at).min(dst.left() as u64) as usize;
            let n = match buf.piece(at) {
                // SAFETY: `want.min(room)` bytes lie in the extent, which the read lock keeps.
                Some((ptr, room)) => dst.put(unsafe { core::slice::from_raw_parts(ptr, want.min(room)) }),
                None => dst.put_zeros(want),
            };
            match n {
                Ok(n) => {
                    at += n as u64;
                    done += n;
                    if n == 0 {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    fn write(&self, ctx: &OpCtx<'_>, file: &OpenFile, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
        let mut data = self.inode.file()?.write();
        self.inode.copy_up(&mut data, u64::MAX)?;
        let Data::Memory(buf) = &mut *data else { return Err(Errno::EIO.into()) };
        let size = self.inode.meta.lock().size;
        let pos = if file.flags() & linux::O_APPEND != 0 { size } else { pos };
        let limit = ctx.fsize_limit.min(MAX_SIZE);
        let len = src.left() as u64;
        if len == 0 {
            return Ok(0);
        }
        if pos >= limit {
            return Err(Errno::EFBIG.into());
        }
        src.limit(len.min(limit - pos) as usize);
        if self.inode.sealed(linux::F_SEAL_WRITE | linux::F_SEAL_FUTURE_WRITE)
            || pos + src.left() as u64 > size && self.inode.sealed(linux::F_SEAL_GROW)
        {
            return Err(Errno::EPERM.into());
        }
        let end = pos + src.left() as u64;
        buf.reserve_range(pos, end)?;
        let mut at = pos;
        let mut failed = None;
        while at < end {
            let Some((ptr, room)) = buf.piece(at) else { break };
            let n = room.min((end - at) as usize);
            // SAFETY: `n` bytes lie in the extent, which the write lock keeps.
            match src.take(unsafe { core::slice::from_raw_parts_mut(ptr, n) }) {
                Ok(0) => break,
                Ok(n) => at += n as u64,
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        if at == pos
            && let Some(e) = failed
        {
            return Err(e.into());
        }
        let now = time::now_coarse();
        let mut meta = self.inode.meta.lock();
        meta.size = meta.size.max(at);
        meta.mtime = now;
        meta.ctime = now;
        if ctx.cred.fsuid != 0 && meta.mode & 0o111 != 0 {
            meta.mode &= !0o6000;
        }
        drop(meta);
        if file.flags() & linux::O_APPEND != 0 {
            // The caller's offset follows the end.
            file.set_append_end(at);
        }
        Ok((at - pos) as usize)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek_to(&self, _file: &OpenFile, whence: Whence, offset: i64) -> Result<u64> {
        let size = self.inode.meta.lock().size;
        match whence {
            Whence::End => Ok(size),
            _ if offset < 0 || offset as u64 >= size => Err(Errno::ENXIO),
            Whence::Data | Whence::Hole => {
                let data = self.inode.file()?.read();
                let at = offset as u64;
                match (&*data, whence) {
                    (Data::Memory(buf), Whence::Data) => buf.next_data(at, size).ok_or(Errno::ENXIO),
                    (Data::Memory(buf), _) => Ok(buf.next_hole(at, size)),
                    // The lower file is one run of data.
                    (_, Whence::Data) => Ok(at),
                    _ => Ok(size),
                }
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        Ok(Arc::new(Mapping { inode: self.inode.clone(), host: self.host.clone() }))
    }

    fn sync(&self, _data_only: bool) -> SysResult<()> {
        Ok(())
    }

    fn fallocate(&self, ctx: &OpCtx<'_>, mode: u32, offset: u64, len: u64) -> Result {
        let keep = mode & linux::FALLOC_FL_KEEP_SIZE != 0;
        let end = offset.checked_add(len).filter(|&e| e <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let mut data = self.inode.file()?.write();
        self.inode.copy_up(&mut data, u64::MAX)?;
        let Data::Memory(buf) = &mut *data else { return Err(Errno::EIO) };
        let size = self.inode.meta.lock().size;
        if mode & !linux::FALLOC_FL_KEEP_SIZE != 0 && self.inode.sealed(linux::F_SEAL_WRITE)
            || !keep && end > size && self.inode.sealed(linux::F_SEAL_GROW)
        {
            return Err(Errno::EPERM);
        }
        match mode & !linux::FALLOC_FL_KEEP_SIZE {
            0 => {
                if end > ctx.fsize_limit {
                    return Err(Errno::EFBIG);
                }
                buf.reserve(end)?;
            }
            linux::FALLOC_FL_PUNCH_HOLE if keep => buf.zero(offset, len),
            linux::FALLOC_FL_ZERO_RANGE => {
                buf.reserve(end)?;
                buf.zero(offset, len);
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        let mut meta = self.inode.meta.lock();
        if !keep {
            meta.size = meta.size.max(end);
        }
        meta.mtime = time::now_coarse();
        meta.ctime = meta.mtime;
        Ok(())
    }

    fn fcntl(&self, _ctx: &OpCtx<'_>, file: &OpenFile, command: u32, arg: u64) -> SysResult<u64> {
        let seals = &self.inode.seals;
        match command {
            linux::F_GET_SEALS => Ok(u64::from(seals.load(Relaxed))),
            linux::F_ADD_SEALS if arg & !0x3f != 0 => Err(Errno::EINVAL.into()),
            linux::F_ADD_SEALS if !file.writable() || self.inode.sealed(linux::F_SEAL_SEAL) => Err(Errno::EPERM.into()),
            linux::F_ADD_SEALS => {
                seals.fetch_or(arg as u32, Relaxed);
                Ok(0)
            }
            _ => Err(Errno::EINVAL.into()),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Mappable for Mapping {
    fn runs(&self, offset: u64, len: u64, shared_write: bool) -> Result<Vec<HostRun>> {
        let mut data = self.inode.file()?.write();
        if shared_write {
            if self.inode.sealed(linux::F_SEAL_WRITE | linux::F_SEAL_FUTURE_WRITE) {
                return Err(Errno::EPERM);
            }
            self.inode.copy_up(&mut data, u64::MAX)?;
        }
        let mut runs = Vec::new();
        let buf = match (&mut *data, &self.host) {
            (Data::Host(_), Some(host)) => {
                runs.push(HostRun { file_offset: offset, len, fd: host.raw(), fd_offset: offset });
                return Ok(runs);
            }
            (Data::Host(_), None) => return Err(Errno::EIO),
            (Data::Memory(buf), _) => buf,
        };
        let end = offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
        buf.reserve_range(offset, end).map_err(|_| Errno::ENOMEM)?;
        self.inode.mapped.store(true, Relaxed);
        let mut at = offset;
        while at < end {
            let (fd_offset, room) = buf.host_run(at).ok_or(Errno::ENOMEM)?;
            let n = room.min(end - at);
            runs.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            runs.push(HostRun { file_offset: at, len: n, fd: window::fd(), fd_offset });
            at += n;
        }
        Ok(runs)
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        let (dev, ino) = self.inode.identity().unwrap_or((0, 0));
        (dev, ino, Vec::new())
    }
}
