//! Local sockets as the system calls see them.

use super::socket::{Kind, Socket, pair, socket};
use super::{Endpoint, Name, bind_abstract, lookup_abstract};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::{IoDst, IoSrc, UserPtr};
use crate::net::NetNamespace;
use crate::net::socket::family::Wanted;
use crate::net::socket::{
    Announces, Core, Halves, MsgFlags, OptionValue, RecvMsg, SOL_SOCKET, SendMsg, SockAddr, SockCtx, SocketOps, af,
    sock,
};
use crate::sync::{Events, WaitQueue};
use crate::vfs::names::{self, At};
use crate::vfs::{FileType, Lookup, NewNode, OpCtx, access};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// `SO_PASSCRED`, `SO_PEERCRED`.
const PASSCRED: u32 = 16;
const PEERCRED: u32 = 17;
/// `SCM_CREDENTIALS`.
const CREDENTIALS: u32 = 2;

fn kind_of(wanted: Wanted) -> Result<Kind> {
    if wanted.protocol > 1 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match wanted.kind {
        sock::STREAM => Ok(Kind::Stream),
        // SOCK_RAW of the local family means datagrams.
        sock::DGRAM | sock::RAW => Ok(Kind::Datagram),
        sock::SEQPACKET => Ok(Kind::SeqPacket),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

fn core(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, mut wanted: Wanted) -> Core {
    if wanted.kind == sock::RAW {
        wanted.kind = sock::DGRAM;
    }
    wanted.core(ctx, ns, 0)
}

/// `socket(2)`.
///
/// # Errors
/// `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`.
pub fn create(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted) -> Result<Arc<dyn SocketOps>> {
    Ok(socket(kind_of(wanted)?, core(ctx, ns, wanted)))
}

/// `socketpair(2)`.
///
/// # Errors
/// As [`create`].
pub fn create_pair(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted) -> Result<[Arc<dyn SocketOps>; 2]> {
    let kind = kind_of(wanted)?;
    let [a, b] = pair(kind, [core(ctx, ns, wanted), core(ctx, ns, wanted)], &ctx.op);
    Ok([a, b])
}

/// The name in a `struct sockaddr_un`; empty for one without a path.
fn name_in(addr: &SockAddr) -> Result<&[u8]> {
    if !(2..=110).contains(&addr.len()) || addr.family() != af::UNIX {
        return Err(Errno::EINVAL);
    }
    let path = &addr.bytes()[2..];
    match path.first() {
        Some(0) | None => Ok(path),
        Some(_) => Ok(path.split(|&b| b == 0).next().unwrap_or(path)),
    }
}

/// A name as a `struct sockaddr_un`.
fn address(name: &[u8]) -> SockAddr {
    let mut bytes = [0u8; 112];
    bytes[..2].copy_from_slice(&af::UNIX.to_ne_bytes());
    let n = name.len().min(108);
    bytes[2..2 + n].copy_from_slice(&name[..n]);
    let nul = usize::from(name.first().is_some_and(|&b| b != 0));
    SockAddr::new(&bytes[..2 + n + nul])
}

/// The endpoint that owns a name.
fn owner(ctx: &SockCtx<'_>, name: &[u8]) -> Result<Arc<Endpoint>> {
    match name.first() {
        None => Err(Errno::EINVAL),
        Some(0) => lookup_abstract(name),
        Some(_) => {
            let place = Lookup::new(ctx.fs.ok_or(Errno::EINVAL)?, &ctx.op, None).path(name, true)?;
            access::check(ctx.op.cred, &**place.inode(), access::WRITE)?;
            if place.inode().file_type() != FileType::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            let attached = place.inode().attached().ok_or(Errno::ECONNREFUSED)?.lock().clone();
            attached.and_then(|a| a.downcast().ok()).ok_or(Errno::ECONNREFUSED)
        }
    }
}

impl Announces for Endpoint {
    fn queue(&self) -> &WaitQueue {
        Endpoint::queue(self)
    }
}

impl Socket {
    /// The endpoint that a send with this destination goes to; `None`: the peer.
    fn destination(&self, ctx: &SockCtx<'_>, to: Option<&SockAddr>) -> Result<Option<Arc<Endpoint>>> {
        let Some(addr) = to else { return Ok(None) };
        if self.kind != Kind::Datagram {
            return Err(if self.peer_name().is_ok() { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        owner(ctx, name_in(addr)?).map(Some)
    }
}

impl SocketOps for Socket {
    fn core(&self) -> &Core {
        &self.core
    }

    fn queue(&self) -> &WaitQueue {
        self.endpoint().queue()
    }

    fn poll(&self) -> Events {
        self.ready()
    }

    fn close(&self) {
        self.release();
    }

    fn bind(&self, ctx: &SockCtx<'_>, addr: &SockAddr) -> Result {
        let name = name_in(addr)?;
        if !self.name().is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut own = Vec::new();
        let name = if name.is_empty() {
            // Autobind: an abstract name of five hexadecimal digits.
            own.extend_from_slice(alloc::format!("\0{:05x}", crate::host::random::next_u64() & 0xf_ffff).as_bytes());
            &own[..]
        } else {
            name
        };
        let shared: Name = Arc::from(name);
        if name[0] == 0 {
            bind_abstract(&shared, self.endpoint())?;
            return self.set_name(shared);
        }
        let node = NewNode::Node(FileType::Socket, 0);
        let fs = ctx.fs.ok_or(Errno::EINVAL)?;
        let place = names::make(fs, &ctx.op, At { base: None, path: name }, node, 0o777).map_err(|e| match e {
            Errno::EEXIST => Errno::EADDRINUSE,
            e => e,
        })?;
        let attached = place.inode().attached().ok_or(Errno::EOPNOTSUPP)?;
        *attached.lock() = Some(self.endpoint().clone());
        self.set_name(shared)
    }

    fn connect(&self, ctx: &SockCtx<'_>, addr: &SockAddr, _nonblock: bool) -> Result {
        let name = name_in(addr)?;
        let to = owner(ctx, name)?;
        Socket::connect(self, &ctx.op, &to, Arc::from(name))
    }

    fn listen(&self, _ctx: &SockCtx<'_>, backlog: i32) -> Result {
        Socket::listen(self, usize::try_from(backlog).unwrap_or(4096))
    }

    fn accept(&self, _ctx: &SockCtx<'_>) -> Result<Arc<dyn SocketOps>> {
        Ok(Socket::accept(self)?)
    }

    fn shutdown(&self, halves: Halves) -> Result {
        Socket::shutdown(self, halves.read, halves.write)
    }

    fn send(&self, ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
        if msg.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let to = self.destination(ctx, msg.to.as_ref())?;
        Ok(Socket::send(self, &ctx.op, src, &mut msg.files, to.as_ref())?)
    }

    fn receive(&self, _ctx: &SockCtx<'_>, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        if flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let got = Socket::receive(self, dst, flags.contains(MsgFlags::PEEK))?;
        out.whole = got.whole;
        if got.whole > got.len {
            out.flags |= MsgFlags::TRUNC;
        }
        out.from = got.from.as_ref().filter(|n| !n.is_empty()).map(|n| address(n));
        out.files = got.files;
        if self.pass_cred.load(Relaxed) {
            let mut bytes = [0u8; 12];
            for (part, n) in bytes.chunks_exact_mut(4).zip([got.cred.pid, got.cred.uid, got.cred.gid]) {
                part.copy_from_slice(&n.to_ne_bytes());
            }
            out.push_control(SOL_SOCKET, CREDENTIALS, &bytes);
        }
        Ok(got.len)
    }

    fn carries_files(&self) -> bool {
        true
    }

    fn raises_sigpipe(&self) -> bool {
        self.kind != Kind::Datagram
    }

    fn room_at(&self, ctx: &SockCtx<'_>, to: Option<&SockAddr>) -> Option<Arc<dyn Announces>> {
        match (self.kind, to) {
            // Room for a datagram is announced where it is received.
            (Kind::Datagram, None) => self.peer().map(|p| p as Arc<dyn Announces>),
            (Kind::Datagram, Some(to)) => owner(ctx, name_in(to).ok()?).ok().map(|p| p as Arc<dyn Announces>),
            // Room in a backlog, where the listener is.
            (_, Some(to)) if self.peer().is_none() => {
                owner(ctx, name_in(to).ok()?).ok().map(|p| p as Arc<dyn Announces>)
            }
            _ => None,
        }
    }

    fn local_addr(&self) -> Result<SockAddr> {
        Ok(address(&self.name()))
    }

    fn peer_addr(&self) -> Result<SockAddr> {
        Ok(address(&self.peer_name()?))
    }

    fn listening(&self) -> bool {
        Socket::listening(self)
    }

    fn set_option(&self, _ctx: &SockCtx<'_>, level: u32, option: u32, value: OptionValue) -> Result {
        match (level, option) {
            (SOL_SOCKET, PASSCRED) => self.pass_cred.store(value.int()? != 0, Relaxed),
            (SOL_SOCKET, _) => return Err(Errno::ENOPROTOOPT),
            _ => return Err(Errno::EOPNOTSUPP),
        }
        Ok(())
    }

    fn get_option(&self, _ctx: &SockCtx<'_>, level: u32, option: u32, _room: usize) -> Result<Vec<u8>> {
        match (level, option) {
            (SOL_SOCKET, PASSCRED) => Ok(i32::from(self.pass_cred.load(Relaxed)).to_ne_bytes().to_vec()),
            (SOL_SOCKET, PEERCRED) => {
                let c = self.peer_cred();
                Ok([c.pid, c.uid, c.gid].iter().flat_map(|n| n.to_ne_bytes()).collect())
            }
            (SOL_SOCKET, _) => Err(Errno::ENOPROTOOPT),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, request: u32, arg: u64) -> SysResult<u64> {
        if request != linux_raw_sys::ioctl::FIONREAD {
            return Err(Errno::ENOTTY.into());
        }
        UserPtr::<i32>::new(arg).write(self.unread() as i32)?;
        Ok(0)
    }
}
