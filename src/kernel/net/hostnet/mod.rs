//! Sockets of the host's network (`--net host`): each is a handle of a socket of the host, which does everything but to
//! block. Who waits sleeps on the socket's queue, and the supervisor's poller announces what the host says
//! (`sync::polled`).
//!
//! What the host is given lies in buffers of the kernel, or is guest memory that was checked. Options and requests whose
//! value holds further addresses or descriptors are made of what the kernel has read, or refused. Nothing that a socket
//! of these families receives is a descriptor.

pub mod ioctl;
mod options;

use crate::abi::{Errno, Result, SysError, SysResult};
use crate::cred::cap;
use crate::host::HostFd;
use crate::host::files;
use crate::host::net::{self, ADDR_MAX, Message, Piece};
use crate::mm::{IoDst, IoSrc, UserPtr};
use crate::net::NetNamespace;
use crate::net::socket::family::Wanted;
use crate::net::socket::{
    Core, Halves, MsgFlags, OptionValue, RecvMsg, SendMsg, SockAddr, SockCtx, SocketOps, af, sock,
};
use crate::sync::{Events, Polled, WaitQueue};
use crate::vfs::OpCtx;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of a `struct cmsghdr`.
const HEAD: usize = 16;
/// Room for the control messages of one message that is received: what all of them together may have.
const CONTROL_ROOM: usize = 2048;
/// Pieces of data that lie on the stack; more go to the heap, and a stream takes no more at once.
const PIECES: usize = 16;

/// See the module.
pub struct HostSocket {
    core: Core,
    // Before the descriptor, which it must not outlive.
    polled: Arc<Polled>,
    fd: HostFd,
    /// The host would wait for its peer when it is closed.
    lingers: AtomicBool,
}

/// `socket(2)`.
///
/// # Errors
/// The host's; `EPERM` for a raw socket without the capability.
pub fn create(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted) -> Result<Arc<dyn SocketOps>> {
    if wanted.kind == sock::RAW && !ns.may(ctx.op.cred, cap::NET_RAW) {
        return Err(Errno::EPERM);
    }
    let fd = net::socket(wanted.family, wanted.kind, wanted.protocol)?;
    Ok(HostSocket::over(fd, wanted.core(ctx, ns, wanted.protocol)))
}

impl HostSocket {
    fn over(fd: HostFd, core: Core) -> Arc<dyn SocketOps> {
        let polled = Polled::new(fd.raw());
        Arc::new(HostSocket { core, polled, fd, lingers: AtomicBool::new(false) })
    }

    fn name(&self, peer: bool) -> Result<SockAddr> {
        let mut bytes = [0; ADDR_MAX];
        let len = net::name(self.fd.raw(), peer, &mut bytes)?;
        Ok(SockAddr::new(&bytes[..len]))
    }

    /// Whether nothing more will come.
    fn ended(&self) -> bool {
        self.poll().intersects(Events::RDHUP | Events::HUP | Events::ERR)
    }

    /// Whether who waits to receive up to `room` bytes waits for more than there are (`SO_RCVLOWAT`).
    fn wants_more(&self, low: u32, room: usize) -> bool {
        low > 1
            && room >= low as usize
            && ioctl::readable(self.fd.raw()).is_ok_and(|n| n < low as usize)
            && !self.ended()
    }

    /// Runs `f` with what `pieces` gives, for one host call.
    fn with_pieces<R>(
        &self,
        pieces: impl Fn(&mut dyn FnMut(Piece) -> Result) -> Result,
        f: impl FnOnce(&[Piece]) -> Result<R>,
    ) -> Result<R> {
        let mut few = ArrayVec::<Piece, PIECES>::new();
        let mut whole = true;
        pieces(&mut |p| {
            whole &= few.try_push(p).is_ok();
            Ok(())
        })?;
        if whole || self.is_stream() {
            return f(&few);
        }
        let mut all = Vec::new();
        pieces(&mut |p| {
            all.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
            all.push(p);
            Ok(())
        })?;
        f(&all)
    }
}

/// The control messages of a send as the host takes them.
fn control_of(msg: &SendMsg) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for c in &msg.control {
        let len = HEAD + c.data.len();
        bytes.try_reserve(len.next_multiple_of(8)).map_err(|_| Errno::ENOBUFS)?;
        bytes.extend_from_slice(&(len as u64).to_ne_bytes());
        bytes.extend_from_slice(&c.level.to_ne_bytes());
        bytes.extend_from_slice(&c.kind.to_ne_bytes());
        bytes.extend_from_slice(&c.data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    Ok(bytes)
}

/// Takes apart what the host has put down.
fn take_control(mut rest: &[u8], out: &mut RecvMsg) {
    let word = |b: &[u8]| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
    while rest.len() >= HEAD {
        let len = word(rest) as usize;
        if len < HEAD || len > rest.len() {
            return;
        }
        out.push_control(word(&rest[8..]), word(&rest[12..]), &rest[HEAD..len]);
        rest = &rest[len.next_multiple_of(8).min(rest.len())..];
    }
}

impl SocketOps for HostSocket {
    fn core(&self) -> &Core {
        &self.core
    }

    fn queue(&self) -> &WaitQueue {
        self.polled.watch();
        self.polled.queue()
    }

    fn poll(&self) -> Events {
        let all = Events::IN | Events::OUT | Events::PRI | Events::RDHUP;
        let normal = Events::RDNORM | Events::RDBAND | Events::WRNORM | Events::WRBAND;
        let now = files::poll_now(self.fd.raw(), (all | normal).bits());
        now.map_or(Events::ERR, Events::from_bits_truncate)
    }

    fn close(&self) {
        if self.lingers.load(Relaxed) {
            // The last reference may go where nothing may wait: the host delivers what is left by itself.
            let _ = options::stop_lingering(self.fd.raw());
        }
    }

    fn bind(&self, ctx: &SockCtx<'_>, addr: &SockAddr) -> Result {
        let bytes = addr.bytes();
        let port = bytes.get(2..4).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
        let ns = &self.core.ns;
        let free = ns.inet.unprivileged.load(Relaxed);
        let inet = matches!(addr.family(), af::INET | af::INET6) && self.core.kind != sock::RAW;
        if inet && port != 0 && i32::from(port) < free && !ns.may(ctx.op.cred, cap::NET_BIND_SERVICE) {
            return Err(Errno::EACCES);
        }
        net::bind(self.fd.raw(), bytes)
    }

    fn connect(&self, _ctx: &SockCtx<'_>, addr: &SockAddr, nonblock: bool) -> Result {
        match net::connect(self.fd.raw(), addr.bytes()) {
            // A call that was interrupted goes on.
            Err(Errno::EALREADY) if !nonblock => Err(Errno::EINPROGRESS),
            other => other,
        }
    }

    fn connected(&self) -> Result {
        // The host takes note of the outcome when it is asked once more, whatever the address.
        let mut any = [0; 28];
        any[..2].copy_from_slice(&self.core.family.to_ne_bytes());
        match net::connect(self.fd.raw(), &any) {
            Err(Errno::EALREADY) => Err(Errno::EAGAIN),
            other => other,
        }
    }

    fn listen(&self, _ctx: &SockCtx<'_>, backlog: i32) -> Result {
        net::listen(self.fd.raw(), backlog)
    }

    fn accept(&self, _ctx: &SockCtx<'_>) -> Result<Arc<dyn SocketOps>> {
        let fd = net::accept(self.fd.raw())?;
        let polled = Polled::new(fd.raw());
        let lingers = AtomicBool::new(self.lingers.load(Relaxed));
        Ok(Arc::new(HostSocket { core: self.core.accepted(), polled, fd, lingers }))
    }

    fn shutdown(&self, halves: Halves) -> Result {
        let how = match halves {
            Halves { read: true, write: true } => 2,
            Halves { write: true, .. } => 1,
            _ => 0,
        };
        net::shutdown(self.fd.raw(), how)
    }

    fn send(&self, _ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
        let mut control = control_of(msg)?;
        let control_len = control.len();
        let mut name = [0; ADDR_MAX];
        let to = msg.to.map(|to| {
            name[..to.len()].copy_from_slice(to.bytes());
            to.len()
        });
        let flags = (msg.flags - MsgFlags::CMSG_CLOEXEC - MsgFlags::CMSG_COMPAT).bits();
        let sent = self.with_pieces(
            |each| src.pieces(|v| each(Piece { base: v.base, len: v.len })),
            |data| {
                let name = to.map(|len| (&mut name, len));
                let mut m = Message { name, data, control: &mut control, control_len, flags: 0 };
                net::send(self.fd.raw(), &mut m, flags)
            },
        );
        match sent {
            Ok(n) => {
                src.advance_over(n);
                // What is left of a stream's data belongs to no message.
                msg.control.clear();
                Ok(n)
            }
            Err(Errno::EINPROGRESS) if msg.flags.contains(MsgFlags::FASTOPEN) => {
                if msg.flags.contains(MsgFlags::DONTWAIT) {
                    return Err(Errno::EINPROGRESS.into());
                }
                // The data follows when the connection is there.
                msg.flags.remove(MsgFlags::FASTOPEN);
                Err(Errno::EAGAIN.into())
            }
            Err(e) => Err(e.into()),
        }
    }

    fn receive(&self, _ctx: &SockCtx<'_>, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        self.core.check_error()?;
        let waits = !flags.intersects(MsgFlags::DONTWAIT | MsgFlags::ERRQUEUE | MsgFlags::OOB);
        if waits && self.is_stream() && self.wants_more(self.core.low_water.load(Relaxed), dst.left()) {
            return Err(Errno::EAGAIN.into());
        }
        let mut control = [0; CONTROL_ROOM];
        let mut name = [0; ADDR_MAX];
        let (mut name_len, mut came_flags, mut control_len) = (0, 0, 0);
        // The kernel waits for all, and gives no descriptors.
        let asked = (flags - MsgFlags::WAITALL - MsgFlags::CMSG_CLOEXEC).bits();
        let room = dst.left();
        let n = self.with_pieces(
            |each| dst.pieces(|v| each(Piece { base: v.base, len: v.len })),
            |data| {
                let control_room = if out.wants_control { CONTROL_ROOM } else { 0 };
                let name = out.wants_name.then_some((&mut name, ADDR_MAX));
                let mut m = Message { name, data, control: &mut control, control_len: control_room, flags: 0 };
                let n = net::receive(self.fd.raw(), &mut m, asked)?;
                name_len = m.name.as_ref().map_or(0, |(_, len)| *len);
                (came_flags, control_len) = (m.flags, m.control_len);
                Ok(n)
            },
        );
        let n = match n {
            // Nothing more will come, which the host tells those who wait.
            Err(Errno::EAGAIN) if waits && !self.is_stream() && self.poll().contains(Events::RDHUP) => return Ok(0),
            other => other?,
        };
        if waits && flags.contains(MsgFlags::PEEK | MsgFlags::WAITALL) && self.is_stream() && !self.ended() && n < room
        {
            return Err(Errno::EAGAIN.into());
        }
        if out.wants_name && name_len > 0 {
            out.from = Some(SockAddr::new(&name[..name_len.min(ADDR_MAX)]));
        }
        take_control(&control[..control_len], out);
        let mut came = MsgFlags::from_bits_retain(came_flags) - MsgFlags::CMSG_CLOEXEC;
        if !out.wants_control {
            // The host had no room for what nobody asked for.
            came.remove(MsgFlags::CTRUNC);
        }
        out.flags |= came;
        out.whole = n;
        if self.is_stream() && flags.contains(MsgFlags::TRUNC) {
            // Thrown away: the memory is as it was.
            return Ok(n);
        }
        let got = n.min(room);
        dst.advance_over(got);
        Ok(got)
    }

    fn local_addr(&self) -> Result<SockAddr> {
        self.name(false)
    }

    fn peer_addr(&self) -> Result<SockAddr> {
        self.name(true)
    }

    fn is_host(&self) -> bool {
        true
    }

    fn set_option(&self, ctx: &SockCtx<'_>, level: u32, option: u32, value: OptionValue) -> Result {
        options::set(self, ctx, level, option, value)
    }

    fn get_option_there(&self, level: u32, option: u32, at: UserPtr<u8>, room: u32) -> Option<Result<u32>> {
        (!options::is_timeout(level, option)).then(|| options::get(self, level, option, at, room))
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, request: u32, arg: u64) -> SysResult<u64> {
        match ioctl::request(self.fd.raw(), request, arg) {
            Err(Errno::ENOTTY) => Err(SysError::Errno(Errno::ENOTTY)),
            other => Ok(other?),
        }
    }
}
