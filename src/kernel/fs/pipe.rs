//! Pipes and FIFOs (`pipe(7)`).

use crate::abi::{Errno, Result, SysResult, linux};
use crate::mm::{IoDst, IoSrc, UserPtr};
use crate::sync::{Events, Level, Mutex, WaitQueue};
use crate::vfs::{FileOps, Inode, OpCtx, OpenFile, anon};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Default capacity, bytes.
const CAPACITY: usize = 65536;
/// Largest capacity that F_SETPIPE_SZ gives (`/proc/sys/fs/pipe-max-size`).
const CAPACITY_MAX: usize = 1 << 20;
/// Writes of at most this size are atomic.
const PIPE_BUF: usize = 4096;

struct Ring {
    bytes: Vec<u8>,
    head: usize,
    len: usize,
    capacity: usize,
}

impl Ring {
    /// Room for data exists from the first write on.
    fn ready(&mut self) -> Result {
        if self.bytes.is_empty() {
            self.bytes.try_reserve_exact(self.capacity).map_err(|_| Errno::ENOMEM)?;
            self.bytes.resize(self.capacity, 0);
        }
        Ok(())
    }

    fn put(&mut self, src: &mut IoSrc<'_>) -> Result<usize> {
        let mut done = 0;
        while self.len < self.capacity && src.left() > 0 {
            let tail = (self.head + self.len) & (self.capacity - 1);
            let n = (self.capacity - self.len).min(self.capacity - tail).min(src.left());
            match src.take(&mut self.bytes[tail..tail + n]) {
                Ok(0) => break,
                Ok(n) => {
                    self.len += n;
                    done += n;
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn take(&mut self, dst: &mut IoDst<'_>) -> Result<usize> {
        let mut done = 0;
        while self.len > 0 && dst.left() > 0 {
            let n = self.len.min(self.capacity - self.head).min(dst.left());
            match dst.put(&self.bytes[self.head..self.head + n]) {
                Ok(0) => break,
                Ok(n) => {
                    self.head = (self.head + n) & (self.capacity - 1);
                    self.len -= n;
                    done += n;
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        if self.len == 0 {
            self.head = 0;
        }
        Ok(done)
    }
}

/// The object between the ends.
pub struct Pipe {
    ring: Mutex<Ring>,
    readers: AtomicU32,
    writers: AtomicU32,
    /// How often each side was opened, for FIFOs that wait for the other one.
    opened: [AtomicU32; 2],
    queue: WaitQueue,
}

impl Pipe {
    fn new() -> Arc<Pipe> {
        Arc::new(Pipe {
            ring: Mutex::new(Level::FileData, Ring { bytes: Vec::new(), head: 0, len: 0, capacity: CAPACITY }),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            opened: [const { AtomicU32::new(0) }; 2],
            queue: WaitQueue::new(),
        })
    }
}

/// One end, or both for a FIFO that was opened O_RDWR.
pub struct PipeEnd {
    pipe: Arc<Pipe>,
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
    pub fn capacity(&self) -> usize {
        self.pipe.ring.lock().capacity
    }

    /// Changes the capacity to at least `want` bytes.
    ///
    /// # Errors
    /// `EBUSY` if more is in it, `EPERM` past the limit, `ENOMEM`.
    pub fn set_capacity(&self, want: usize) -> Result<usize> {
        let size = want.max(4096).checked_next_power_of_two().ok_or(Errno::EINVAL)?;
        if size > CAPACITY_MAX {
            return Err(Errno::EPERM);
        }
        let mut ring = self.pipe.ring.lock();
        if ring.len > size {
            return Err(Errno::EBUSY);
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        for i in 0..ring.len {
            bytes.push(ring.bytes[(ring.head + i) & (ring.capacity - 1)]);
        }
        bytes.resize(size, 0);
        *ring = Ring { len: ring.len, bytes, head: 0, capacity: size };
        Ok(size)
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        if self.reads && self.pipe.readers.fetch_sub(1, SeqCst) == 1 {
            self.pipe.queue.wake(Events::OUT | Events::ERR);
        }
        if self.writes && self.pipe.writers.fetch_sub(1, SeqCst) == 1 {
            self.pipe.queue.wake(Events::IN | Events::HUP);
        }
    }
}

impl FileOps for PipeEnd {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        if dst.left() == 0 {
            return Ok(0);
        }
        let (n, was_full) = {
            let mut ring = self.pipe.ring.lock();
            if ring.len == 0 {
                if self.pipe.writers.load(SeqCst) == 0 {
                    return Ok(0);
                }
                return Err(Errno::EAGAIN.into());
            }
            let was_full = ring.capacity - ring.len < PIPE_BUF;
            (ring.take(dst)?, was_full)
        };
        if was_full {
            self.pipe.queue.wake(Events::OUT);
        }
        Ok(n)
    }

    fn write(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, src: &mut IoSrc<'_>, _pos: u64) -> SysResult<usize> {
        // Writing nothing succeeds even when nobody reads.
        if src.left() == 0 {
            return Ok(0);
        }
        if self.pipe.readers.load(SeqCst) == 0 {
            return Err(Errno::EPIPE.into());
        }
        let n = {
            let mut ring = self.pipe.ring.lock();
            ring.ready()?;
            let room = ring.capacity - ring.len;
            // Small writes are all or nothing; large ones start once a page is free.
            if room < src.left().min(PIPE_BUF) {
                return Err(Errno::EAGAIN.into());
            }
            ring.put(src)?
        };
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
            if ring.len > 0 {
                events |= Events::IN | Events::RDNORM;
            }
            if !self.writes && self.pipe.writers.load(SeqCst) == 0 && self.pipe.opened[1].load(SeqCst) > 0 {
                events |= Events::HUP;
            }
        }
        if self.writes {
            if ring.capacity - ring.len >= PIPE_BUF {
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
            let n = self.pipe.ring.lock().len as i32;
            UserPtr::<i32>::new(arg).write(n)?;
            return Ok(0);
        }
        Err(Errno::ENOTTY.into())
    }

    fn fcntl(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, command: u32, arg: u64) -> SysResult<u64> {
        match command {
            linux::F_GETPIPE_SZ => Ok(self.capacity() as u64),
            linux::F_SETPIPE_SZ if arg <= u64::from(u32::MAX) => Ok(self.set_capacity(arg as usize)? as u64),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A pipe's two ends: the one to read from, the one to write to.
pub fn pipe(ctx: &OpCtx<'_>, flags: u32) -> (Arc<OpenFile>, Arc<OpenFile>) {
    let pipe = Pipe::new();
    let ino = anon::new_ino();
    let read = PipeEnd::new(&pipe, true, false);
    let write = PipeEnd::new(&pipe, false, true);
    (
        anon::anon_file_with_ino("pipe", read, flags | linux::O_RDONLY, ctx, ino, Some(reopen(&pipe))),
        anon::anon_file_with_ino("pipe", write, flags | linux::O_WRONLY, ctx, ino, Some(reopen(&pipe))),
    )
}

/// Opens a FIFO (`fifo(7)`): waits for the other side unless O_NONBLOCK or O_RDWR.
///
/// # Errors
/// `ENXIO` for a writer that will not wait, `EINTR`.
pub fn open_fifo(inode: Arc<dyn Inode>, flags: u32) -> Result<Box<dyn FileOps>> {
    let attached = inode.attached().ok_or(Errno::ENXIO)?;
    let pipe: Arc<Pipe> = {
        let mut slot = attached.lock();
        let any = slot.get_or_insert_with(|| Pipe::new()).clone();
        any.downcast().map_err(|_| Errno::ENXIO)?
    };
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
    let end = PipeEnd::new(pipe, reads, writes);
    pipe.queue.wake(Events::IN | Events::OUT);
    if reads && writes || nonblock || !fifo || waits_for_us {
        return Ok(end);
    }
    let met = pipe.queue.wait_until(Events::IN | Events::OUT, None, || {
        (there.load(SeqCst) > 0 || pipe.opened[other].load(SeqCst) != seen).then_some(())
    });
    met.map_err(|_| Errno::EINTR)?;
    Ok(end)
}
