//! A socket as an open file, and the one place where socket operations block.

use super::{Core, MsgFlags, RecvMsg, SendMsg, SockAddr, SockCtx, SocketOps, af};
use crate::abi::{Errno, Result, SysError, SysResult, linux};
use crate::mm::{IoDst, IoSrc, MapWish, Mapped};
use crate::net::inet::ioctl;
use crate::sync::{Events, WaitQueue, wait};
use crate::time;
use crate::vfs::{FileOps, OpCtx, OpenFile, anon};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

/// The behaviour of an open socket.
pub struct SocketFile(pub Arc<dyn SocketOps>);

/// An open file description over a socket. `flags`: `SOCK_NONBLOCK` counts.
pub fn open(socket: Arc<dyn SocketOps>, flags: u32, ctx: &OpCtx<'_>) -> Arc<OpenFile> {
    let kept = linux::O_RDWR | flags & linux::O_NONBLOCK;
    let (name, ino) = (socket.core().protocol_name(), socket.core().ino);
    anon::socket_file(name, Box::new(SocketFile(socket)), kept, ctx, ino)
}

/// Runs `attempt` until it does not say `EAGAIN`, sleeping in between unless `dont`, at most as long as
/// the socket's timeout for `events` allows.
///
/// # Errors
/// What `attempt` says; `EAGAIN` at the timeout; interrupted: `EINTR` where there is a timeout, else a restart.
pub fn blocking<T>(
    ctx: &SockCtx<'_>,
    socket: &dyn SocketOps,
    (events, to): (Events, Option<&SockAddr>),
    dont: bool,
    mut attempt: impl FnMut() -> SysResult<T>,
) -> SysResult<T> {
    match attempt() {
        Err(SysError::Errno(Errno::EAGAIN)) if !dont => {}
        other => return other,
    }
    let limit = socket.core().wait_limit(events);
    let deadline = limit.map(time::deadline_in);
    let elsewhere = if events.contains(Events::OUT) { socket.room_at(ctx, to) } else { None };
    let queue = elsewhere.as_ref().map_or(socket.queue(), |e| e.queue());
    match wait::block_on(queue, events, deadline, attempt) {
        Err(SysError::Restart(_)) if limit.is_some() => Err(Errno::EINTR.into()),
        other => other,
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl FileOps for SocketFile {
    fn read(&self, ctx: &OpCtx<'_>, file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        // As in Linux, a read of nothing does not look at the socket.
        if dst.left() == 0 {
            return Ok(0);
        }
        let ctx = SockCtx { op: *ctx, fs: None };
        let flags = if file.nonblock() { MsgFlags::DONTWAIT } else { MsgFlags::empty() };
        self.0.receive(&ctx, dst, flags, &mut RecvMsg::default())
    }

    fn write(&self, ctx: &OpCtx<'_>, file: &OpenFile, src: &mut IoSrc<'_>, _pos: u64) -> SysResult<usize> {
        let ctx = SockCtx { op: *ctx, fs: None };
        let mut msg = SendMsg::default();
        if file.nonblock() {
            msg.flags |= MsgFlags::DONTWAIT;
        }
        self.0.send(&ctx, src, &mut msg)
    }

    fn writes_all(&self) -> bool {
        self.0.is_stream()
    }

    fn raises_sigpipe(&self, moved: usize) -> bool {
        moved == 0 && self.0.raises_sigpipe()
    }

    fn poll(&self) -> Events {
        self.0.poll()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.0.queue())
    }

    fn has_urgent_data(&self) -> bool {
        self.0.is_stream()
    }

    fn wait_limit(&self, events: Events) -> Option<u64> {
        self.0.core().wait_limit(events)
    }

    fn mappable(&self, wish: &mut MapWish) -> Result<Mapped> {
        self.0.mappable(wish)
    }

    fn ioctl(&self, ctx: &OpCtx<'_>, _file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        match self.0.ioctl(ctx, request, arg) {
            Err(SysError::Errno(Errno::ENOTTY)) if is_stamp(request) && has_stamps(self.0.core()) => {
                self.0.core().tell_stamp(arg, request & 0xff == STAMP_NS & 0xff)?;
                Ok(0)
            }
            // What no family knows is about interfaces: any socket will do to ask.
            Err(SysError::Errno(Errno::ENOTTY)) => {
                let core = self.0.core();
                ioctl::interface(ctx, &core.ns, core.family, request, arg)
            }
            other => other,
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `SIOCGSTAMP`, `SIOCGSTAMPNS`; their newer numbers have the size of the time in them.
const STAMP: u32 = 0x8906;
const STAMP_NS: u32 = 0x8907;
const WITH_SIZE: u32 = 0x8010_0000;

fn is_stamp(request: u32) -> bool {
    matches!(request & !WITH_SIZE, STAMP | STAMP_NS) && matches!(request & 0xffff_0000, 0 | WITH_SIZE)
}

/// Whether sockets of a family tell when packets came.
fn has_stamps(core: &Core) -> bool {
    matches!(core.family, af::INET | af::INET6 | af::PACKET)
}
