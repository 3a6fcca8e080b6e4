//! The ends of pipes and FIFOs.

use super::ring::{Buf, PAGE, Page};
use super::{Pipe, SIZE_MAX, USER_PAGES_HARD, USER_PAGES_SOFT, over, privileged};
use crate::abi::{Errno, Result, SysResult, linux};
use crate::cred::cap;
use crate::cred::user::uncharge;
use crate::mm::{IoDst, IoSrc, UserPtr};
use crate::sync::left::Kept;
use crate::sync::{Events, MutexGuard, WaitQueue};
use crate::vfs::{FileOps, Inode, OpCtx, OpenFile, anon};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// One end, or both for a FIFO that was opened O_RDWR.
pub struct PipeEnd {
    pub(super) pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
}

impl PipeEnd {
    fn new(pipe: &Arc<Pipe>, reads: bool, writes: bool) -> Box<PipeEnd> {
        if reads {
            pipe.readers.fetch_add(1, SeqCst);
            pipe.opened[0].fetch_add(1, SeqCst);
        }
        if writes {
            pipe.writers.fetch_add(1, SeqCst);
            pipe.opened[1].fetch_add(1, SeqCst);
        }
        Box::new(PipeEnd { pipe: pipe.clone(), reads, writes })
    }

    /// The capacity, bytes.
    fn capacity(&self) -> usize {
        self.pipe.ring.lock().slots() * PAGE
    }

    /// Changes the capacity to at least `want` bytes (`pipe_set_size`).
    fn set_capacity(&self, ctx: &OpCtx<'_>, want: u32) -> Result<usize> {
        if want > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let size = (want as usize).max(PAGE).next_power_of_two();
        let slots = size / PAGE;
        let had = self.pipe.ring.lock().slots();
        if slots > had && size as u64 > SIZE_MAX.get() && !ctx.cred.capable(cap::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        let pages = &self.pipe.user.pipe_pages;
        let more = slots.saturating_sub(had) as u64;
        let all = pages.fetch_add(more, Relaxed) + more;
        if more > 0 && (over(all, &USER_PAGES_SOFT) || over(all, &USER_PAGES_HARD)) && !privileged(ctx) {
            uncharge(pages, more);
            return Err(Errno::EPERM);
        }
        let resized = {
            let mut ring = self.pipe.ring.lock();
            // Somebody else may have changed it meanwhile.
            let now = ring.slots();
            ring.resize(slots).inspect(|()| {
                pages.fetch_add(now.saturating_sub(had) as u64, Relaxed);
            })
        };
        match resized {
            Ok(()) => uncharge(pages, had.saturating_sub(slots) as u64),
            Err(_) => uncharge(pages, more),
        }
        resized?;
        self.pipe.queue.wake(Events::OUT);
        Ok(size)
    }

    /// Moves what is there to a reader, under the lock: how much, and whether the pipe was full.
    fn give(&self, dst: &mut IoDst<'_>) -> SysResult<(usize, bool)> {
        let mut ring = self.pipe.ring.lock();
        let was_full = ring.is_full();
        let mut done = 0;
        while dst.left() > 0
            && let Some(first) = ring.peek(0)
        {
            let (len, packet) = (first.data().len(), first.packet);
            let want = len.min(dst.left());
            let n = match dst.put(&first.data()[..want]) {
                Ok(n) => n,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e.into()),
            };
            done += n;
            // What of a packet is not read is gone; more than one is not read.
            ring.skip(if packet && n == want { len } else { n });
            MutexGuard::settle(&ring);
            if n < want || packet {
                break;
            }
        }
        if done == 0 && dst.left() > 0 && self.pipe.writers.load(SeqCst) > 0 {
            return Err(Errno::EAGAIN.into());
        }
        Ok((done, was_full))
    }

    /// Takes at most a page in, as a whole.
    fn put_small(&self, src: &mut IoSrc<'_>, packet: bool) -> SysResult<usize> {
        let len = src.left();
        src.under_lock(len, |src| {
            let start = src.mark();
            let mut ring = self.pipe.ring.lock();
            if !ring.is_ready_for(len) {
                if ring.wants_page(len) {
                    drop(ring);
                    let page = Page::new()?;
                    ring = self.pipe.ring.lock();
                    ring.keep(page);
                }
                ring.ready_for(len)?;
                MutexGuard::settle(&ring);
            }
            match src.take(MutexGuard::scratch(&mut ring).room(len)) {
                Ok(n) if n == len => {
                    ring.commit(len, packet);
                    Ok(len)
                }
                // Nothing of it is written before all of it can be.
                _ => {
                    src.reset(start);
                    Err(Errno::EFAULT.into())
                }
            }
        })
    }

    /// Adds `data` to the last buffer, if it takes all of it (`pipe_write`).
    fn merge(&self, data: &[u8]) -> bool {
        let mut ring = self.pipe.ring.lock();
        let takes = ring.takes(data.len());
        if takes {
            MutexGuard::scratch(&mut ring).room(data.len()).copy_from_slice(data);
            ring.commit(data.len(), false);
        }
        takes
    }

    /// Writes the next page, or what is left of one, as a buffer of its own.
    fn put_page(&self, src: &mut IoSrc<'_>, packet: bool) -> Result<usize> {
        let spare = {
            let mut ring = self.pipe.ring.lock();
            if ring.is_full() {
                return Err(Errno::EAGAIN);
            }
            ring.spare()
        };
        let mut page = match spare {
            Some(page) => page,
            None => Page::new()?,
        };
        let n = src.left().min(PAGE);
        let start = src.mark();
        match src.take(&mut page.bytes()[..n]) {
            Ok(taken) if taken == n => {}
            other => {
                src.reset(start);
                self.pipe.ring.lock().keep(page);
                return other.and(Err(Errno::EFAULT));
            }
        }
        let mut ring = self.pipe.ring.lock();
        ring.push(Buf::new(page, n, !packet, packet)).map(|()| n).map_err(|buf| {
            ring.keep(buf.into_page());
            src.reset(start);
            Errno::EAGAIN
        })
    }

    /// Writes as much as there is room for (`pipe_write` in `fs/pipe.c`).
    fn put_all(&self, src: &mut IoSrc<'_>, packet: bool) -> SysResult<usize> {
        let len = src.left();
        if len <= PAGE {
            return self.put_small(src, packet);
        }
        let mut done = 0;
        // What does not fill pages comes first, if the last buffer takes it.
        let odd = len % PAGE;
        if odd > 0 && self.pipe.ring.lock().takes(odd) {
            let mut page = Page::new()?;
            let start = src.mark();
            let filled = src.take(&mut page.bytes()[..odd]).is_ok_and(|n| n == odd);
            if filled && self.merge(&page.bytes()[..odd]) {
                done = odd;
            } else {
                src.reset(start);
            }
        }
        while src.left() > 0 {
            if self.pipe.readers.load(SeqCst) == 0 && done == 0 {
                return Err(Errno::EPIPE.into());
            }
            match self.put_page(src, packet) {
                Ok(n) => done += n,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        if self.reads && self.pipe.readers.fetch_sub(1, SeqCst) == 1 {
            self.pipe.queue.wake_all();
        }
        if self.writes && self.pipe.writers.fetch_sub(1, SeqCst) == 1 {
            self.pipe.queue.wake_all();
        }
        // A FIFO that nobody has open keeps nothing.
        if self.pipe.readers.load(SeqCst) == 0 && self.pipe.writers.load(SeqCst) == 0 {
            self.pipe.ring.lock().clear();
        }
    }
}

impl FileOps for PipeEnd {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        let room = dst.left();
        if room == 0 {
            return Ok(0);
        }
        // The pages of a large buffer are touched as far as there is data for it.
        let first = if room <= PAGE { room } else { room.min(self.pipe.ring.lock().bytes()).max(PAGE) };
        let mut was_full = false;
        let n = dst.under_lock(first, |dst| {
            let (n, full) = self.give(dst)?;
            was_full |= full;
            Ok(n)
        })?;
        if was_full && n > 0 {
            self.pipe.queue.wake(Events::OUT);
        }
        Ok(n)
    }

    fn write(&self, _ctx: &OpCtx<'_>, file: &OpenFile, src: &mut IoSrc<'_>, _pos: u64) -> SysResult<usize> {
        // Writing nothing succeeds even when nobody reads.
        if src.left() == 0 {
            return Ok(0);
        }
        if self.pipe.readers.load(SeqCst) == 0 {
            return Err(Errno::EPIPE.into());
        }
        let n = self.put_all(src, file.flags() & linux::O_DIRECT != 0)?;
        self.pipe.queue.wake(Events::IN);
        Ok(n)
    }

    fn writes_all(&self) -> bool {
        true
    }

    fn poll(&self) -> Events {
        let mut events = Events::empty();
        let ring = self.pipe.ring.lock();
        if self.reads {
            if !ring.is_empty() {
                events |= Events::IN | Events::RDNORM;
            }
            if self.pipe.writers.load(SeqCst) == 0 && self.pipe.opened[1].load(SeqCst) > 0 {
                events |= Events::HUP;
            }
        }
        if self.writes {
            if !ring.is_full() {
                events |= Events::OUT | Events::WRNORM;
            }
            if self.pipe.readers.load(SeqCst) == 0 {
                events |= Events::ERR;
            }
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pipe.queue)
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        if request == linux_raw_sys::ioctl::FIONREAD {
            let n = self.pipe.ring.lock().bytes() as i32;
            UserPtr::<i32>::new(arg).write(n)?;
            return Ok(0);
        }
        Err(Errno::ENOTTY.into())
    }

    fn fcntl(&self, ctx: &OpCtx<'_>, _file: &OpenFile, command: u32, arg: u64) -> SysResult<u64> {
        match command {
            linux::F_GETPIPE_SZ => Ok(self.capacity() as u64),
            linux::F_SETPIPE_SZ => Ok(self.set_capacity(ctx, arg as u32)? as u64),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A pipe's two ends: the one to read from, the one to write to. `flags`: O_NONBLOCK and O_DIRECT count.
///
/// # Errors
/// `ENFILE` past the user's bound.
pub fn pipe(ctx: &OpCtx<'_>, flags: u32) -> Result<(Arc<OpenFile>, Arc<OpenFile>)> {
    let pipe = Pipe::new(ctx)?;
    let ino = anon::new_ino();
    let read = PipeEnd::new(&pipe, true, false);
    let write = PipeEnd::new(&pipe, false, true);
    let reading = flags & linux::O_NONBLOCK;
    Ok((
        anon::anon_file_with_ino("pipe", read, reading | linux::O_RDONLY, ctx, ino, Some(reopen(&pipe))),
        anon::anon_file_with_ino("pipe", write, flags | linux::O_WRONLY, ctx, ino, Some(reopen(&pipe))),
    ))
}

/// Opens a FIFO (`fifo(7)`): waits for the other side unless O_NONBLOCK or O_RDWR.
///
/// # Errors
/// `ENXIO` for a writer that will not wait, `EINTR`.
pub fn open_fifo(ctx: &OpCtx<'_>, inode: Arc<dyn Inode>, flags: u32) -> Result<Box<dyn FileOps>> {
    let attached = inode.attached().ok_or(Errno::ENXIO)?;
    let fresh = Pipe::new(ctx).map_err(|_| Errno::ENOMEM)?;
    let pipe: Arc<Pipe> = {
        let mut slot = attached.lock();
        let any = slot.get_or_insert_with(|| fresh.clone()).clone();
        any.downcast().map_err(|_| Errno::ENXIO)?
    };
    drop(fresh);
    open_end(&pipe, flags, true)
}

/// How `/proc/self/fd` opens a pipe once more: without waiting for the other side.
fn reopen(pipe: &Arc<Pipe>) -> anon::Reopen {
    let pipe = pipe.clone();
    Box::new(move |_, flags| open_end(&pipe, flags, false))
}

fn open_end(pipe: &Arc<Pipe>, flags: u32, fifo: bool) -> Result<Box<dyn FileOps>> {
    let (reads, writes) = match flags & 3 {
        0 => (true, false),
        1 => (false, true),
        _ => (true, true),
    };
    let nonblock = flags & linux::O_NONBLOCK != 0;
    if fifo && writes && !reads && nonblock && pipe.readers.load(SeqCst) == 0 {
        return Err(Errno::ENXIO);
    }
    let (there, other) = if reads { (&pipe.writers, 1) } else { (&pipe.readers, 0) };
    // Before the other side can see this one: it may do all it wants and be gone before we look again.
    let seen = pipe.opened[other].load(SeqCst);
    let waits_for_us = there.load(SeqCst) > 0;
    let end = Kept::new(PipeEnd::new(pipe, reads, writes));
    pipe.queue.wake(Events::IN | Events::OUT);
    if reads && writes || nonblock || !fifo || waits_for_us {
        return Ok(end.into_inner());
    }
    let met = pipe.queue.wait_until(Events::IN | Events::OUT, None, || {
        (there.load(SeqCst) > 0 || pipe.opened[other].load(SeqCst) != seen).then_some(())
    });
    met.map_err(|_| Errno::EINTR)?;
    Ok(end.into_inner())
}
