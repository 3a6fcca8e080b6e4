//! Local sockets as the system calls see them.

use super::connect::address;
use super::sock::{Kind, ROOM, Sock, Status, pass};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::{IoDst, IoSrc, UserPtr};
use crate::net::NetNamespace;
use crate::net::socket::family::Wanted;
use crate::net::socket::{
    Core, Halves, MsgFlags, OptionValue, RecvMsg, SOL_SOCKET, SendMsg, SockAddr, SockCtx, SocketOps, sock,
};
use crate::sync::{Events, WaitQueue};
use crate::vfs::{OpCtx, Path};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use linux_raw_sys::ioctl::{FIONREAD, SIOCATMARK, TIOCOUTQ as SIOCOUTQ};

/// `SO_PEERCRED`, `SO_MEMINFO`, `SO_PEERGROUPS`.
const PEERCRED: u32 = 17;
const MEMINFO: u32 = 55;
const PEERGROUPS: u32 = 59;

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

fn make(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, mut wanted: Wanted) -> Result<Arc<Sock>> {
    let kind = kind_of(wanted)?;
    if wanted.kind == sock::RAW {
        wanted.kind = sock::DGRAM;
    }
    Sock::new(kind, wanted.core(ctx, ns, 0))
}

/// `socket(2)`.
///
/// # Errors
/// `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`, `ENOBUFS`.
pub fn create(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted) -> Result<Arc<dyn SocketOps>> {
    Ok(make(ctx, ns, wanted)?)
}

/// `socketpair(2)`.
///
/// # Errors
/// As [`create`].
pub fn create_pair(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted) -> Result<[Arc<dyn SocketOps>; 2]> {
    let (a, b) = (make(ctx, ns, wanted)?, make(ctx, ns, wanted)?);
    Sock::join(&a, &b, ctx);
    Ok([a, b])
}

/// The bit of [`pass`] that an option of `SOL_SOCKET` stands for.
fn pass_bit(kind: Kind, option: u32) -> Option<u32> {
    match option {
        16 => Some(pass::CRED),
        34 => Some(pass::SEC),
        76 => Some(pass::PIDFD),
        83 => Some(pass::RIGHTS),
        84 if kind == Kind::Stream => Some(pass::INQ),
        _ => None,
    }
}

impl SocketOps for Sock {
    fn core(&self) -> &Core {
        &self.core
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn poll(&self) -> Events {
        self.ready()
    }

    fn close(&self) {
        self.release(false);
    }

    fn bind(&self, ctx: &SockCtx<'_>, addr: &SockAddr) -> Result {
        self.bind_to(ctx, addr)
    }

    fn connect(&self, ctx: &SockCtx<'_>, addr: &SockAddr, _nonblock: bool) -> Result {
        self.connect_to(ctx, addr)
    }

    fn listen(&self, ctx: &SockCtx<'_>, backlog: i32) -> Result {
        self.listen_for(ctx, backlog)
    }

    fn accept(&self, _ctx: &SockCtx<'_>) -> Result<Arc<dyn SocketOps>> {
        Ok(self.accept_one()?)
    }

    fn accepts_no_more(&self) -> bool {
        self.inner.lock().shut_read
    }

    fn shutdown(&self, halves: Halves) -> Result {
        self.shut(halves.read, halves.write);
        Ok(())
    }

    fn send(&self, ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
        self.send_message(ctx, src, msg)
    }

    fn receive(&self, _ctx: &SockCtx<'_>, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        self.receive_message(dst, flags, out)
    }

    fn carries_files(&self) -> bool {
        true
    }

    fn has_way(&self) -> Result {
        if self.kind == Kind::SeqPacket {
            self.core.check_error()?;
            if self.inner.lock().status != Status::Connected {
                return Err(Errno::ENOTCONN);
            }
        }
        Ok(())
    }

    fn local_addr(&self) -> Result<SockAddr> {
        Ok(address(self.name().as_deref().unwrap_or(&[])))
    }

    fn peer_addr(&self) -> Result<SockAddr> {
        let peer = self.inner.lock().peer.clone().ok_or(Errno::ENOTCONN)?;
        Ok(address(peer.name().as_deref().unwrap_or(&[])))
    }

    fn bound_place(&self) -> Option<Option<Path>> {
        Some(self.inner.lock().place.clone())
    }

    fn peer_process(&self) -> Option<u32> {
        self.inner.lock().peer_cred.as_ref().map(|c| c.ucred.pid)
    }

    fn listening(&self) -> bool {
        self.inner.lock().status == Status::Listening
    }

    fn set_option(&self, _ctx: &SockCtx<'_>, level: u32, option: u32, value: OptionValue) -> Result {
        let bit = match (level, pass_bit(self.kind, option)) {
            (SOL_SOCKET, Some(bit)) => bit,
            (SOL_SOCKET, None) => return Err(Errno::ENOPROTOOPT),
            _ => return Err(Errno::EOPNOTSUPP),
        };
        let int = value.int()?;
        if matches!(bit, pass::INQ) && (value.len != 4 || !(0..=1).contains(&int)) {
            return Err(Errno::EINVAL);
        }
        if int != 0 {
            self.passes.fetch_or(bit, Relaxed);
        } else {
            self.passes.fetch_and(!bit, Relaxed);
        }
        Ok(())
    }

    fn get_option(&self, ctx: &SockCtx<'_>, level: u32, option: u32, into: OptionValue) -> Result<Vec<u8>> {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        // `SO_INQ` cannot be read.
        if let Some(bit) = pass_bit(self.kind, option).filter(|&b| b != pass::INQ) {
            return Ok(i32::from(self.passing(bit)).to_ne_bytes().to_vec());
        }
        let cred = self.inner.lock().peer_cred.clone();
        match option {
            MEMINFO => {
                let room = |a: &AtomicU32| a.load(Relaxed);
                let (receive, send) = (room(&self.core.receive_buffer), room(&self.core.send_buffer));
                let words = [0, receive, self.charged() as u32, send, 0, 0, 0, 0, 0];
                Ok(words.iter().flat_map(|n| n.to_ne_bytes()).collect())
            }
            PEERCRED => {
                let c = cred.ok_or(Errno::ENOPROTOOPT)?.ucred;
                let who = ctx.op.cred;
                Ok([crate::task::ns::seen_pid(c.pid), who.seen_uid(c.uid), who.seen_gid(c.gid)]
                    .iter()
                    .flat_map(|n| n.to_ne_bytes())
                    .collect())
            }
            PEERGROUPS => {
                let groups = &cred.as_ref().ok_or(Errno::ENODATA)?.groups;
                if (into.len as usize) < groups.len() * 4 {
                    return Err(Errno::ERANGE);
                }
                Ok(groups.iter().flat_map(|&g| ctx.op.cred.seen_gid(g).to_ne_bytes()).collect())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn option_changed(&self, option: u32) {
        // SO_SNDBUF and its FORCE form: there may be room now.
        if matches!(option, 7 | 32) {
            self.queue.wake(ROOM);
        }
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, request: u32, arg: u64) -> SysResult<u64> {
        let n = match request {
            FIONREAD => self.unread()?,
            SIOCOUTQ => self.charged(),
            SIOCATMARK if self.kind == Kind::Stream => usize::from(self.inner.lock().at_mark()),
            SIOCATMARK => return Err(Errno::EOPNOTSUPP.into()),
            _ => return Err(Errno::ENOTTY.into()),
        };
        UserPtr::<i32>::new(arg).write(n as i32)?;
        Ok(0)
    }
}
