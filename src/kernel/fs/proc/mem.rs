//! `/proc/<pid>/mem`: a process's memory as a file whose offsets are addresses.

use crate::abi::{Errno, Result, SysResult, linux};
use crate::mm::space::remote::Force;
use crate::mm::{AddressSpace, IoDst, IoSrc};
use crate::task::access::{self, By, Look, Subject};
use crate::task::{Task, memory};
use crate::vfs::{FileOps, HERE, OpCtx, OpenFile};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The memory that the process had when the file was opened: exec leaves nothing to be read.
struct Memory {
    task: Arc<Task>,
    mm: Weak<AddressSpace>,
    /// The position. It is no lock's: the file's own would be held while another task does the work.
    at: AtomicU64,
}

/// Opens the memory of a task.
///
/// # Errors
/// `EACCES`.
pub fn open(ctx: &OpCtx<'_>, task: &Arc<Task>) -> Result<Box<dyn FileOps>> {
    access::may_look(Subject::of(ctx), task, Look::Attach, By::FsCreds).map_err(|_| Errno::EACCES)?;
    let mm = task.shared().map_or_else(Weak::new, |own| Arc::downgrade(&own.mm));
    Ok(Box::new(Memory { task: task.clone(), mm, at: AtomicU64::new(0) }))
}

impl Memory {
    /// Moves up to `len` bytes from the position on by `step(task, memory, address, bytes at most)`.
    fn each(
        &self,
        pos: u64,
        len: usize,
        mut step: impl FnMut(&Arc<Task>, &Arc<AddressSpace>, u64, usize) -> SysResult<usize>,
    ) -> SysResult<usize> {
        let start = if pos == HERE { self.at.load(SeqCst) } else { pos };
        let mut done = 0;
        while done < len {
            let gone = || if done > 0 { Ok(done) } else { Ok(0) };
            let Some(mm) = self.mm.upgrade() else { return gone() };
            let Some(task) = memory::who_lives_in(&self.task, &mm) else { return gone() };
            let addr = start.wrapping_add(done as u64);
            let n = memory::piece(addr, len - done);
            let moved = match step(&task, &mm, addr, n) {
                Ok(moved) => moved,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            done += moved;
            if moved < n {
                break;
            }
        }
        if pos == HERE {
            self.at.store(start.wrapping_add(done as u64), SeqCst);
        }
        if done == 0 && len > 0 { Err(Errno::EIO.into()) } else { Ok(done) }
    }
}

impl FileOps for Memory {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        if self.mm.strong_count() == 0 {
            return Ok(0);
        }
        self.each(pos, dst.left(), |task, mm, addr, n| {
            let bytes = memory::read(task, mm, addr, n, Force::Yes)?;
            if bytes.is_empty() { Ok(0) } else { Ok(dst.put(&bytes)?) }
        })
    }

    fn write(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
        if self.mm.strong_count() == 0 {
            return Ok(0);
        }
        self.each(pos, src.left(), |task, mm, addr, n| {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(n).map_err(|_| Errno::ENOMEM)?;
            bytes.resize(n, 0);
            let got = src.take(&mut bytes)?;
            bytes.truncate(got);
            memory::write(task, mm, addr, bytes, Force::Yes)
        })
    }

    fn host_seek(&self, whence: u32, offset: i64) -> Option<Result<u64>> {
        let new = match whence {
            linux::SEEK_SET => offset as u64,
            linux::SEEK_CUR => self.at.load(SeqCst).wrapping_add(offset as u64),
            _ => return Some(Err(Errno::EINVAL)),
        };
        self.at.store(new, SeqCst);
        Some(Ok(new))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
