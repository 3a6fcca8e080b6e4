//! The slave of a pty: what programs have for their terminal.

use super::job;
use super::pty::{CHUNK, Pty};
use crate::abi::linux::{SIGTTIN, TOSTOP, VMIN, VTIME};
use crate::abi::{Errno, Result, SysError, SysResult};
use crate::mm::{IoDst, IoSrc};
use crate::sync::{Events, WaitQueue, wait};
use crate::task::session;
use crate::time;
use crate::vfs::{FileOps, OpCtx, OpenFile};
use alloc::sync::Arc;
use core::any::Any;

/// What a terminal that was hung up is ready for (`hung_up_tty_poll`).
pub(super) const HUNG: Events =
    Events::IN.union(Events::OUT).union(Events::ERR).union(Events::HUP).union(Events::RDNORM).union(Events::WRNORM);
/// Nanoseconds in a unit of `VTIME`.
const TENTH: u64 = 100_000_000;

/// An open slave.
pub struct Slave {
    /// The pty.
    pub pty: Arc<Pty>,
    /// How often the pty had been hung up when this was opened.
    pub(super) hang_ups: u32,
}

impl Drop for Slave {
    fn drop(&mut self) {
        self.pty.slave_closed();
    }
}

/// Gives what a guest writes to `take`, a piece at a time, which says how much of it there was room for. No lock is held
/// while it is copied.
///
/// # Errors
/// `EAGAIN` where there is no room, `EFAULT`, what `take` says.
pub(super) fn write_chunks(src: &mut IoSrc<'_>, mut take: impl FnMut(&[u8]) -> Result<usize>) -> SysResult<usize> {
    let mut buf = [0; CHUNK];
    let mut done = 0;
    while src.left() > 0 {
        let start = src.mark();
        let n = src.left().min(CHUNK);
        let n = match src.take(&mut buf[..n]) {
            Ok(n) => n,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e.into()),
        };
        let taken = match take(&buf[..n]) {
            Ok(taken) => taken,
            Err(e) => {
                src.reset(start);
                if done > 0 {
                    break;
                }
                return Err(e.into());
            }
        };
        done += taken;
        if taken < n {
            // What there was no room for is taken again later.
            src.reset(start);
            let mut left = taken;
            while left > 0 {
                left -= src.take(&mut buf[..left])?;
            }
            break;
        }
    }
    if done == 0 && src.left() > 0 {
        return Err(Errno::EAGAIN.into());
    }
    Ok(done)
}

/// How long a read waits, and for how much.
struct Patience {
    /// Bytes that end it.
    least: usize,
    /// For the first byte, ns; `None`: for ever.
    first: Option<u64>,
    /// For each further one.
    next: Option<u64>,
}

impl Slave {
    pub(super) fn is_hung(&self) -> bool {
        self.pty.look(|i| i.ends.hang_ups != self.hang_ups)
    }

    /// `VMIN` and `VTIME` (`termios(3)`, noncanonical mode).
    fn patience(&self) -> Patience {
        let t = self.pty.look(|i| i.tty.termios);
        let (least, time) = (usize::from(t.c(VMIN)), u64::from(t.c(VTIME)) * TENTH);
        if t.l(crate::abi::linux::ICANON) {
            Patience { least: 1, first: None, next: None }
        } else if least > 0 {
            Patience { least, first: None, next: (time > 0).then_some(time) }
        } else {
            Patience { least: 1, first: Some(time), next: None }
        }
    }

    /// Gives a reader what there is, under the lock: how much, and whether it ends the read.
    fn give(&self, dst: &mut IoDst<'_>, over: &mut bool) -> SysResult<usize> {
        self.pty.with(|i, fx| {
            let lines = i.tty.termios.lines();
            if i.ends.hang_ups != self.hang_ups {
                *over = true;
                return if i.ends.master { Ok(0) } else { Err(Errno::EIO.into()) };
            }
            if i.tty.line.readable(lines) == 0 {
                return Err(Errno::EAGAIN.into());
            }
            let mut done = 0;
            while dst.left() > 0 && i.tty.line.readable(lines) > 0 && !*over {
                let (bytes, taken, ends) = i.tty.line.next(lines, dst.left());
                let want = bytes.len();
                let n =
                    if want == 0 { 0 } else { dst.put(bytes).or_else(|e| if done > 0 { Ok(0) } else { Err(e) })? };
                done += n;
                if n < want {
                    i.tty.line.skip(n, false);
                    break;
                }
                i.tty.line.skip(taken, ends);
                *over = ends;
            }
            i.tty.pump(fx);
            Ok(done)
        })
    }

    fn read_some(&self, dst: &mut IoDst<'_>, over: &mut bool) -> SysResult<usize> {
        let first = dst.left();
        dst.under_lock(first, |dst| if *over { Ok(0) } else { self.give(dst, over) })
    }

    fn read_waiting(&self, file: &OpenFile, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let patience = self.patience();
        let start = dst.done();
        let mut limit = patience.first;
        let mut over = false;
        loop {
            let got = match self.read_some(dst, &mut over) {
                Err(SysError::Errno(Errno::EAGAIN)) if limit == Some(0) => break,
                Err(SysError::Errno(Errno::EAGAIN)) if !file.nonblock() => {
                    let deadline = limit.map(time::deadline_in);
                    match wait::block_on(&self.pty.slave_queue, Events::IN, deadline, || self.read_some(dst, &mut over))
                    {
                        // The time is over.
                        Err(SysError::Errno(Errno::EAGAIN)) => break,
                        other => other,
                    }
                }
                other => other,
            };
            match got {
                Ok(_) if over || dst.left() == 0 || dst.done() - start >= patience.least => break,
                Ok(_) => {}
                Err(_) if dst.done() > start => break,
                Err(e) => return Err(e),
            }
            limit = patience.next.or(limit);
        }
        Ok(dst.done() - start)
    }
}

impl FileOps for Slave {
    fn read(&self, ctx: &OpCtx<'_>, file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        if self.is_hung() {
            return Ok(0);
        }
        session::check_background(ctx.tgid, ctx.tid, &*self.pty, SIGTTIN)?;
        if dst.left() == 0 {
            return Ok(0);
        }
        dst.limit(super::line::SIZE);
        self.read_waiting(file, dst)
    }

    fn write(&self, ctx: &OpCtx<'_>, _file: &OpenFile, src: &mut IoSrc<'_>, _pos: u64) -> SysResult<usize> {
        if self.pty.look(|i| i.tty.termios.l(TOSTOP)) {
            job::check_change(ctx, &*self.pty)?;
        }
        write_chunks(src, |bytes| {
            self.pty.with(|i, fx| {
                if i.ends.hang_ups != self.hang_ups || !i.ends.master {
                    return Err(Errno::EIO);
                }
                let n = i.tty.write(bytes, fx)?;
                i.tty.asks_room |= n < bytes.len();
                Ok(n)
            })
        })
    }

    fn writes_all(&self) -> bool {
        true
    }

    fn poll(&self) -> Events {
        self.pty.look(|i| {
            if i.ends.hang_ups != self.hang_ups {
                return HUNG;
            }
            let mut events = Events::empty();
            let t = &i.tty.termios;
            let least = if t.lines() || t.c(VTIME) != 0 { 1 } else { usize::from(t.c(VMIN)).max(1) };
            if i.tty.line.readable(t.lines()) >= least {
                events |= Events::IN | Events::RDNORM;
            }
            if i.tty.takes_output() {
                events |= Events::OUT | Events::WRNORM;
            }
            events
        })
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pty.slave_queue)
    }

    fn ioctl(&self, ctx: &OpCtx<'_>, file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        super::ioctl::slave(ctx, file, self, request, arg)
    }

    fn is_tty(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
