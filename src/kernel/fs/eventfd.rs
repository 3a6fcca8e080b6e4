//! `eventfd(2)`.

use crate::abi::{Errno, Result, SysResult, linux};
use crate::mm::{IoDst, IoSrc};
use crate::sync::{Events, Kind, WaitQueue};
use crate::vfs::{FileOps, OpCtx, OpenFile, anon_file};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A counter that can be waited for.
pub struct EventFd {
    count: AtomicU64,
    semaphore: bool,
    queue: WaitQueue,
}

/// Makes one.
///
/// # Errors
/// `EINVAL` for unknown flags.
pub fn eventfd(ctx: &OpCtx<'_>, initial: u32, flags: u32) -> Result<Arc<OpenFile>> {
    if flags & !(linux::EFD_CLOEXEC | linux::EFD_NONBLOCK | linux::EFD_SEMAPHORE) != 0 {
        return Err(Errno::EINVAL);
    }
    let ops = EventFd {
        count: AtomicU64::new(u64::from(initial)),
        semaphore: flags & linux::EFD_SEMAPHORE != 0,
        queue: WaitQueue::of(Kind::Event),
    };
    Ok(anon_file("eventfd", Box::new(ops), linux::O_RDWR | flags & linux::EFD_NONBLOCK, ctx))
}

/// The one behind an open file.
///
/// # Errors
/// `EINVAL` if it is none.
pub fn of_file(file: &OpenFile) -> Result<&EventFd> {
    file.ops.as_any().downcast_ref::<EventFd>().ok_or(Errno::EINVAL)
}

impl EventFd {
    /// Counts one more, without waiting: at the end of its range it stays (`eventfd_signal`).
    pub fn signal(&self) {
        self.count.fetch_update(SeqCst, SeqCst, |n| n.checked_add(1)).ok();
        self.queue.wake(Events::IN);
    }
}

impl FileOps for EventFd {
    fn describe(&self, out: &mut String) {
        let (count, semaphore) = (self.count.load(SeqCst), u8::from(self.semaphore));
        let _ = writeln!(out, "eventfd-count: {count:16x}\neventfd-semaphore: {semaphore}");
    }

    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        if dst.left() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let old = self
            .count
            .fetch_update(SeqCst, SeqCst, |n| match (n, self.semaphore) {
                (0, _) => None,
                (n, true) => Some(n - 1),
                (_, false) => Some(0),
            })
            .map_err(|_| Errno::EAGAIN)?;
        self.queue.wake(Events::OUT);
        let value: u64 = if self.semaphore { 1 } else { old };
        dst.put(&value.to_ne_bytes())?;
        Ok(8)
    }

    fn write(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, src: &mut IoSrc<'_>, _pos: u64) -> SysResult<usize> {
        // Not more either (since Linux 6.10).
        if src.left() != 8 {
            return Err(Errno::EINVAL.into());
        }
        let mut bytes = [0; 8];
        src.take(&mut bytes)?;
        let add = u64::from_ne_bytes(bytes);
        if add == u64::MAX {
            return Err(Errno::EINVAL.into());
        }
        self.count
            .fetch_update(SeqCst, SeqCst, |n| n.checked_add(add).filter(|&n| n < u64::MAX))
            .map_err(|_| Errno::EAGAIN)?;
        self.queue.wake(Events::IN);
        Ok(8)
    }

    fn takes_write_flags(&self) -> bool {
        false
    }

    fn poll(&self) -> Events {
        let n = self.count.load(SeqCst);
        let mut events = Events::empty();
        if n > 0 {
            events |= Events::IN;
        }
        if n == u64::MAX {
            events |= Events::ERR;
        }
        if n < u64::MAX - 1 {
            events |= Events::OUT;
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
