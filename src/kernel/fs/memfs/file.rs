//! Open regular files.

use super::handles::Handle;
use super::limits::Limits;
use super::own::COUNT_EVERY;
use super::{Data, MemInode};
use crate::abi::{Errno, Result, SysResult, linux};
use crate::host::files;
use crate::mm::memfile::{self, PAGE, PagedBuf};
use crate::mm::{HostRun, IoDst, IoSrc, MapWish, Mappable, Mapped};
use crate::sync::WriteGuard;
use crate::time;
use crate::vfs::{FileOps, Inode, OpCtx, OpenFile, Whence, attr, xattr};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

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
    /// Counted among the inode's writable ones.
    counted: bool,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.counted {
            self.inode.writable_maps.fetch_sub(1, SeqCst);
        }
        if let Some(own) = self.inode.own.get() {
            own.recount();
        }
    }
}

/// Opens `inode`. What is about to be truncated needs nothing of the host.
pub fn open(inode: Arc<MemInode>, flags: u32) -> Result<Box<dyn FileOps>> {
    let host = if flags & linux::O_TRUNC != 0 { None } else { inode.handle()? };
    Ok(Box::new(MemFile { inode, host }))
}

impl MemFile {
    /// Reads from the memory file.
    fn read_memory(&self, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        let data = self.inode.file()?.read();
        let buf = match (&*data, self.inode.own.get()) {
            (Data::Memory(buf), _) => buf,
            // Mapped in this moment.
            (Data::Own, Some(own)) => return read_host(own.raw(), dst, pos),
            _ => return Err(Errno::EIO.into()),
        };
        let size = self.inode.size();
        let mut at = pos;
        while at < size && dst.left() > 0 {
            let want = (size - at).min(dst.left() as u64);
            let n = match buf.piece(at) {
                // SAFETY: `want.min(room)` bytes lie in the extent, which the read lock keeps.
                Some((ptr, room)) => unsafe { dst.put_from(ptr, room.min(want as usize)) },
                None => dst.put_zeros(want.min(buf.hole(at)) as usize),
            };
            match n {
                Ok(0) => break,
                Ok(n) => at += n as u64,
                Err(_) if at > pos => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(at.saturating_sub(pos) as usize)
    }

    /// Writes under the file's lock.
    fn write_locked(&self, ctx: &OpCtx<'_>, file: &OpenFile, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
        let mut data = self.inode.file()?.write();
        self.inode.copy_up(&mut data, u64::MAX)?;
        let size = self.inode.size();
        let append = file.flags() & linux::O_APPEND != 0;
        let pos = if append { size } else { pos };
        let limit = ctx.fsize_limit.min(MAX_SIZE);
        if pos >= limit {
            return Err(Errno::EFBIG.into());
        }
        src.limit((src.left() as u64).min(limit - pos) as usize);
        if self.inode.sealed(linux::F_SEAL_WRITE | linux::F_SEAL_FUTURE_WRITE) {
            return Err(Errno::EPERM.into());
        }
        if pos + src.left() as u64 > size && self.inode.sealed(linux::F_SEAL_GROW) {
            // Linux writes page by page, and the first that would make the file longer fails.
            let whole = size & !0xfff;
            if pos >= whole {
                return Err(Errno::EPERM.into());
            }
            src.limit((whole - pos) as usize);
        }
        // Copying changes nothing that the lock keeps whole: only finding room for the data does.
        let ready = match &*data {
            Data::Memory(buf) => buf.piece(pos).is_some_and(|(_, room)| room >= src.left()),
            Data::Own => true,
            _ => false,
        };
        if !ready || self.inode.own.get().is_some() {
            let end = pos + src.left() as u64;
            src.limit((self.inode.end_within_limits(&data, pos, end)? - pos) as usize);
        }
        let content: &mut Data = if ready { WriteGuard::scratch(&mut data) } else { &mut data };
        let done = match (content, self.inode.own.get()) {
            (Data::Memory(buf), _) => fill(buf, src, pos)?,
            (Data::Own, Some(own)) => {
                memfile::admit(src.left() as u64)?;
                write_host(own.raw(), src, pos)?
            }
            _ => return Err(Errno::EIO.into()),
        };
        let now = time::now_coarse();
        let mut meta = self.inode.meta.lock();
        let end = pos + done as u64;
        if end > size {
            self.inode.size.store(end, Relaxed);
        }
        meta.mtime = now;
        meta.ctime = now;
        self.inode.access_due.store(true, Relaxed);
        if let Some(mode) = attr::mode_after_write(ctx.cred, meta.mode) {
            meta.mode = mode;
        }
        drop(meta);
        xattr::lose_capabilities(&*self.inode);
        if let (Data::Own, Some(own)) = (&*data, self.inode.own.get()) {
            own.wrote(if self.inode.fs.limits.is_some() { COUNT_EVERY } else { done as u64 });
        }
        self.inode.count_pages(&data);
        if append {
            // The caller's offset follows the end.
            file.set_append_end(end);
        }
        Ok(done)
    }
}

/// Bytes that are moved under the file's lock at a time.
const AT_ONCE: u64 = 4 << 20;

/// Takes what is left of `src` into the memory file, at most [`AT_ONCE`] bytes.
fn fill(buf: &mut PagedBuf, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
    let end = pos + src.left() as u64;
    buf.reserve_range(pos, end)?;
    let mut at = pos;
    while at < end {
        let Some((ptr, room)) = buf.piece(at) else { break };
        let n = room.min((end - at) as usize);
        // SAFETY: `n` bytes lie in the extent, which the write lock keeps.
        match unsafe { src.take_to(ptr, n) } {
            Ok(0) => break,
            Ok(n) => at += n as u64,
            Err(_) if at > pos => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok((at - pos) as usize)
}

/// Reads from a file of the host.
///
/// # Errors
/// The host's, and `EFAULT`, where nothing was read.
pub fn read_host(fd: i32, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
    let mut done = 0;
    while let Some((addr, len)) = dst.next_piece(done)? {
        match files::pread(fd, addr, len, pos.saturating_add(done as u64)) {
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

/// Writes to a file of the host.
fn write_host(fd: i32, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
    let mut done = 0;
    while let Some((addr, len)) = src.next_piece(done)? {
        match files::pwrite(fd, addr, len, pos.saturating_add(done as u64)) {
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
    Ok(done)
}

impl FileOps for MemFile {
    fn read(&self, _ctx: &OpCtx<'_>, file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        if self.inode.access_due.load(Relaxed) && dst.left() > 0 {
            attr::accessed(file.path(), file.flags());
        }
        if let Some(host) = &self.host
            && self.inode.below.load(Acquire)
        {
            return read_host(host.raw(), dst, pos);
        }
        if let Some(own) = self.inode.own.get() {
            return read_host(own.raw(), dst, pos);
        }
        let from = dst.done();
        let there = self.inode.size().saturating_sub(pos).min(AT_ONCE) as usize;
        dst.under_lock(there.min(dst.left()), |dst| self.read_memory(dst, pos + (dst.done() - from) as u64))
    }

    fn write(&self, ctx: &OpCtx<'_>, file: &OpenFile, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
        if src.left() == 0 {
            return Ok(0);
        }
        let from = src.done();
        let first = (src.left() as u64).min(AT_ONCE) as usize;
        src.under_lock(first, |src| self.write_locked(ctx, file, src, pos.wrapping_add((src.done() - from) as u64)))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek_to(&self, _file: &OpenFile, whence: Whence, offset: i64) -> Result<u64> {
        let size = self.inode.size();
        match whence {
            Whence::End => Ok(size),
            _ if offset < 0 || offset as u64 >= size => Err(Errno::ENXIO),
            Whence::Data | Whence::Hole => {
                let data = self.inode.file()?.read();
                let at = offset as u64;
                match (&*data, whence) {
                    (Data::Own, _) => self.inode.own.get().ok_or(Errno::EIO)?.seek(at, whence == Whence::Data),
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

    fn mappable(&self, wish: &mut MapWish) -> Result<Mapped> {
        // Seals are set under this lock, too: either the mapping counts before, or it sees the seal.
        let _data = self.inode.file()?.write();
        if wish.shared && self.inode.sealed(linux::F_SEAL_WRITE | linux::F_SEAL_FUTURE_WRITE) {
            if wish.writes_file() {
                return Err(Errno::EPERM);
            }
            wish.may &= !linux::PROT_WRITE;
        }
        let counted = wish.may_write_file();
        if counted {
            self.inode.writable_maps.fetch_add(1, SeqCst);
        }
        Ok(Some(Arc::new(Mapping { inode: self.inode.clone(), host: self.host.clone(), counted })))
    }

    fn sync(&self, _data_only: bool) -> SysResult<()> {
        Ok(())
    }

    fn knows_waits(&self) -> bool {
        // The file system that an overlay stands for does, tmpfs does not.
        self.inode.fs.lower.is_some()
    }

    fn fallocate(&self, ctx: &OpCtx<'_>, mode: u32, offset: u64, len: u64) -> Result {
        let keep = mode & linux::FALLOC_FL_KEEP_SIZE != 0;
        let what = mode & !linux::FALLOC_FL_KEEP_SIZE;
        let punch = what == linux::FALLOC_FL_PUNCH_HOLE && keep;
        // tmpfs zeroes no ranges, the file system that an overlay stands for does.
        let zeroes = what == linux::FALLOC_FL_ZERO_RANGE && self.inode.fs.lower.is_some();
        if !punch && !zeroes && what != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let end = offset.checked_add(len).filter(|&e| e <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let mut data = self.inode.file()?.write();
        self.inode.copy_up(&mut data, u64::MAX)?;
        let size = self.inode.size();
        let writes = linux::F_SEAL_WRITE | linux::F_SEAL_FUTURE_WRITE;
        if mode & !linux::FALLOC_FL_KEEP_SIZE != 0 && self.inode.sealed(writes)
            || !keep && end > size && self.inode.sealed(linux::F_SEAL_GROW)
        {
            return Err(Errno::EPERM);
        }
        if !keep && end > ctx.fsize_limit {
            return Err(Errno::EFBIG);
        }
        self.admit_in_limits(&mut data, punch, offset, end)?;
        match (&mut *data, self.inode.own.get()) {
            (Data::Memory(buf), _) => {
                if what != linux::FALLOC_FL_PUNCH_HOLE {
                    buf.reserve_range(offset, end)?;
                }
                if what != 0 {
                    buf.zero(offset, len);
                }
            }
            (Data::Own, Some(own)) => own.fallocate(mode, offset, len)?,
            _ => return Err(Errno::EIO),
        }
        self.inode.count_pages(&data);
        let mut meta = self.inode.meta.lock();
        if !keep {
            self.inode.size.store(size.max(end), Relaxed);
        }
        if let Some(mode) = attr::mode_after_write(ctx.cred, meta.mode) {
            meta.mode = mode;
        }
        meta.mtime = time::now_coarse();
        meta.ctime = meta.mtime;
        self.inode.access_due.store(true, Relaxed);
        drop(meta);
        xattr::lose_capabilities(&*self.inode);
        Ok(())
    }

    fn fcntl(&self, _ctx: &OpCtx<'_>, file: &OpenFile, command: u32, arg: u64) -> SysResult<u64> {
        match command {
            linux::F_GET_SEALS => Ok(u64::from(self.inode.seals.load(Relaxed))),
            linux::F_ADD_SEALS if !file.writable() => Err(Errno::EPERM.into()),
            linux::F_ADD_SEALS if arg & !ALL_SEALS != 0 => Err(Errno::EINVAL.into()),
            linux::F_ADD_SEALS => Ok(self.add_seals(arg as u32).map(|()| 0)?),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Every `F_SEAL_*`.
const ALL_SEALS: u64 = 0x3f;

impl MemFile {
    /// Looks whether all of a range that is to be allocated fits into the file system's limits.
    fn admit_in_limits(&self, data: &mut Data, punch: bool, offset: u64, end: u64) -> Result {
        let Some(most) = self.inode.fs.limits.as_ref().and_then(Limits::most) else { return Ok(()) };
        if punch {
            // Only a file of the host's says how much a hole gives back.
            return self.inode.own_file(data).map(drop);
        }
        let pages = end.div_ceil(PAGE) - offset / PAGE;
        let fits = pages <= most && self.inode.end_within_limits(data, offset, end)? == end;
        if fits { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    fn add_seals(&self, mut seals: u32) -> Result {
        let _data = self.inode.file()?.write();
        if self.inode.sealed(linux::F_SEAL_SEAL) {
            return Err(Errno::EPERM);
        }
        if seals & linux::F_SEAL_WRITE != 0
            && !self.inode.sealed(linux::F_SEAL_WRITE)
            && self.inode.writable_maps.load(SeqCst) > 0
        {
            return Err(Errno::EBUSY);
        }
        if seals & linux::F_SEAL_EXEC != 0 && self.inode.meta.lock().mode & 0o111 != 0 {
            // A program that is to stay one must not change, either.
            seals |= linux::F_SEAL_SHRINK | linux::F_SEAL_GROW | linux::F_SEAL_WRITE | linux::F_SEAL_FUTURE_WRITE;
        }
        self.inode.seals.fetch_or(seals, SeqCst);
        Ok(())
    }
}

impl Mappable for Mapping {
    fn run(&self, offset: u64, _len: u64, shared_write: bool) -> Result<HostRun> {
        if let Some(own) = self.inode.own.get() {
            return Ok(HostRun { fd: own.raw(), offset, lasting: false });
        }
        let mut data = self.inode.file()?.write();
        match (&*data, &self.host) {
            (Data::Host(_), Some(host)) if !shared_write => Ok(HostRun { fd: host.raw(), offset, lasting: true }),
            (Data::Host(_), None) => Err(Errno::EIO),
            _ => {
                let own =
                    self.inode.own_file(&mut data).map_err(|e| if e == Errno::ENOSPC { Errno::ENOMEM } else { e })?;
                Ok(HostRun { fd: own.raw(), offset, lasting: false })
            }
        }
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        let (dev, ino) = self.inode.identity().unwrap_or((0, 0));
        (dev, ino, Vec::new())
    }

    fn memory(&self) -> u64 {
        self.inode.own.get().map_or(0, |own| own.held())
    }
}
