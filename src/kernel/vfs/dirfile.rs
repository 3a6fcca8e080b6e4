//! A directory as an open file: it is read with `getdents` only.

use super::attr;
use super::file::{FileOps, OpCtx, OpenFile, Whence};
use super::inode::FileType;
use super::{marks, notify};
use crate::abi::linux::IN_ACCESS;
use crate::abi::{Errno, Result, SysError, SysResult};
use crate::mm::IoDst;
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// Bytes in front of the name in a `struct linux_dirent64`.
const HEADER: usize = 19;

/// The entries as they were when reading began, as `struct linux_dirent64` records: what is removed or
/// added meanwhile disturbs no reader. A record's `d_off` is where the next one starts.
#[derive(Default)]
struct Snapshot {
    records: Arc<Vec<u8>>,
    /// Where the last call ended: a record starts there.
    next: usize,
}

/// See the module.
pub struct DirFile {
    snapshot: Mutex<Snapshot>,
}

impl DirFile {
    /// A directory that nobody has read yet.
    pub fn new() -> Box<DirFile> {
        let none = Snapshot::default();
        Box::new(DirFile { snapshot: Mutex::new(Level::FileData, none) })
    }

    /// Gives `emit` as many whole records from the file's offset on as fit into `size` bytes.
    ///
    /// # Errors
    /// `EINVAL` if not one fits, `ENOENT` for a removed directory, what `emit` or the file system says.
    pub fn read_entries(
        &self,
        ctx: &OpCtx<'_>,
        file: &OpenFile,
        size: usize,
        emit: impl FnOnce(&[u8]) -> Result,
    ) -> SysResult<usize> {
        marks::ask_read(file)?;
        let taken = self.take_entries(ctx, file, size);
        // Also where the first record does not fit, or cannot be told (`iterate_dir` in Linux).
        if !matches!(taken, Err(SysError::Errno(Errno::ENOENT))) {
            notify::open_file(file, IN_ACCESS);
        }
        let (records, start, len) = taken?;
        if file.inode.access_due() {
            attr::accessed(file.path(), file.flags());
        }
        if len > 0
            && let Err(e) = emit(&records[start..start + len])
        {
            // They were not read: unless somebody went on or elsewhere meanwhile, they are the next again.
            let mut offset = file.offset.lock();
            if *offset == (start + len) as u64 {
                *offset = start as u64;
            }
            return Err(e.into());
        }
        Ok(len)
    }

    /// Moves the offset past as many whole records as fit into `size` bytes: all records, and where and how
    /// many bytes these are.
    fn take_entries(&self, ctx: &OpCtx<'_>, file: &OpenFile, size: usize) -> SysResult<(Arc<Vec<u8>>, usize, usize)> {
        let mut offset = file.offset.lock();
        if file.path().dentry.unlinked() {
            return Err(Errno::ENOENT.into());
        }
        // Collected before the snapshot's lock is taken, which is an inner one.
        let fresh = if *offset == 0 { Some(collect(ctx, file)?) } else { None };
        let mut snapshot = self.snapshot.lock();
        if let Some(records) = fresh {
            *snapshot = Snapshot { records: Arc::new(records), next: 0 };
        }
        let start = snapshot.start(*offset);
        let rest = &snapshot.records[start..];
        let mut len = 0;
        while let Some(n) = record_len(&rest[len..]) {
            if len + n > size {
                break;
            }
            len += n;
        }
        if len == 0 {
            return if rest.is_empty() { Ok((snapshot.records.clone(), start, 0)) } else { Err(Errno::EINVAL.into()) };
        }
        snapshot.next = start + len;
        *offset = snapshot.next as u64;
        Ok((snapshot.records.clone(), start, len))
    }
}

impl Snapshot {
    /// The first record at or behind `offset`.
    fn start(&self, offset: u64) -> usize {
        if offset == self.next as u64 {
            return self.next;
        }
        let mut at = 0;
        while (at as u64) < offset
            && let Some(n) = record_len(&self.records[at..])
        {
            at += n;
        }
        at
    }
}

fn record_len(records: &[u8]) -> Option<usize> {
    let len = records.get(16..18)?;
    Some(usize::from(u16::from_ne_bytes([len[0], len[1]])))
}

fn push(records: &mut Vec<u8>, name: &[u8], ino: u64, kind: FileType) -> Result {
    let len = (HEADER + name.len() + 1).next_multiple_of(8);
    records.try_reserve(len).map_err(|_| Errno::ENOMEM)?;
    let next = records.len() + len;
    records.extend_from_slice(&ino.to_ne_bytes());
    records.extend_from_slice(&(next as u64).to_ne_bytes());
    records.extend_from_slice(&(len as u16).to_ne_bytes());
    records.push(kind.dtype());
    records.extend_from_slice(name);
    records.resize(next, 0);
    Ok(())
}

fn collect(ctx: &OpCtx<'_>, file: &OpenFile) -> Result<Vec<u8>> {
    let dentry = &file.path().dentry;
    let own = file.inode.identity().map_or(1, |(_, ino)| ino);
    let above = dentry.parent().and_then(|p| p.inode.identity().ok()).map_or(own, |(_, ino)| ino);
    let mut records = Vec::new();
    push(&mut records, b".", own, FileType::Dir)?;
    push(&mut records, b"..", above, FileType::Dir)?;
    let mut outcome = Ok(());
    dentry.entries(ctx, &mut |name, ino, kind| {
        outcome = push(&mut records, name, ino, kind);
        outcome.is_ok()
    })?;
    outcome.map(|()| records)
}

impl FileOps for DirFile {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, _dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        Err(Errno::EISDIR.into())
    }
    fn seekable(&self) -> bool {
        true
    }
    fn seek_to(&self, _file: &OpenFile, whence: Whence, _offset: i64) -> Result<u64> {
        if whence == Whence::End { Ok(i64::MAX as u64) } else { Err(Errno::EINVAL) }
    }
    fn sync(&self, _data_only: bool) -> SysResult<()> {
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
