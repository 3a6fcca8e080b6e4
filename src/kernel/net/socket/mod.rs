//! What every socket family shares.
//!
//! The system calls know a socket by [`SocketOps`]. An operation that has to wait says `EAGAIN`; the
//! caller sleeps on the socket's queue, or where [`SocketOps::room_at`] says, for as long as
//! `SO_RCVTIMEO` and `SO_SNDTIMEO` allow.

mod addr;
pub mod core_state;
pub mod family;
mod file;
pub mod filter;
mod message;
mod options;
pub mod stamps;

pub use addr::SockAddr;
pub use core_state::{Core, flag};
pub use file::{SocketFile, blocking, open};
pub use message::{Cmsg, MsgFlags, RecvMsg, SendMsg, Ucred};
pub use options::{OptionValue, get_common, set_common, so};

use crate::abi::{Errno, Result, SysResult};
use crate::mm::{IoDst, IoSrc, MapWish, Mapped, UserPtr};
use crate::sync::{Events, WaitQueue};
use crate::vfs::{FsContext, OpCtx, OpenFile, Path};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// `AF_UNSPEC`, `AF_UNIX` and so on.
pub mod af {
    /// No family.
    pub const UNSPEC: u16 = 0;
    /// Local sockets.
    pub const UNIX: u16 = 1;
    /// Internet protocol 4.
    pub const INET: u16 = 2;
    /// Internet protocol 6.
    pub const INET6: u16 = 10;
    /// Kernel interfaces.
    pub const NETLINK: u16 = 16;
    /// Link layer.
    pub const PACKET: u16 = 17;
}

/// `SOCK_STREAM` and so on.
pub mod sock {
    /// A byte stream.
    pub const STREAM: u16 = 1;
    /// Datagrams.
    pub const DGRAM: u16 = 2;
    /// Raw protocol access.
    pub const RAW: u16 = 3;
    /// Connected packets.
    pub const SEQPACKET: u16 = 5;
}

/// `SOL_SOCKET`.
pub const SOL_SOCKET: u32 = 1;

/// What a socket operation knows of who asks.
pub struct SockCtx<'a> {
    /// Credentials and ids.
    pub op: OpCtx<'a>,
    /// Root and working directory, where an address may be a path.
    pub fs: Option<&'a FsContext>,
}

/// Something else than a socket's own queue that announces room.
pub trait Announces: Send + Sync {
    /// Its queue.
    fn queue(&self) -> &WaitQueue;
}

/// The halves that `shutdown(2)` ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Halves {
    /// `SHUT_RD`, `SHUT_RDWR`.
    pub read: bool,
    /// `SHUT_WR`, `SHUT_RDWR`.
    pub write: bool,
}

/// A socket of any family. Default methods are those of a family that does not have the call.
pub trait SocketOps: Any + Send + Sync {
    /// State that every socket has.
    fn core(&self) -> &Core;

    /// Where readiness is announced.
    fn queue(&self) -> &WaitQueue;

    /// What it is ready for.
    fn poll(&self) -> Events;

    /// The last open description is gone.
    fn close(&self);

    /// `bind(2)`; `addr` has at least the two bytes of a family unless the family checks that itself.
    ///
    /// # Errors
    /// `EINVAL`, `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` …
    fn bind(&self, _ctx: &SockCtx<'_>, _addr: &SockAddr) -> Result {
        Err(Errno::EOPNOTSUPP)
    }

    /// `connect(2)`.
    ///
    /// # Errors
    /// `EAGAIN`: try again when [`SocketOps::room_at`] announces room. `EINPROGRESS`: it goes on, and
    /// [`SocketOps::connected`] tells the outcome.
    fn connect(&self, _ctx: &SockCtx<'_>, _addr: &SockAddr, _nonblock: bool) -> Result {
        Err(Errno::EOPNOTSUPP)
    }

    /// The outcome of a `connect` that said `EINPROGRESS`; `EAGAIN` while there is none.
    ///
    /// # Errors
    /// The connection's.
    fn connected(&self) -> Result {
        Ok(())
    }

    /// `listen(2)`.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EINVAL`, `EADDRINUSE`.
    fn listen(&self, _ctx: &SockCtx<'_>, _backlog: i32) -> Result {
        Err(Errno::EOPNOTSUPP)
    }

    /// `accept(2)`.
    ///
    /// # Errors
    /// `EAGAIN`, `EINVAL`, `EOPNOTSUPP`.
    fn accept(&self, _ctx: &SockCtx<'_>) -> Result<Arc<dyn SocketOps>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Whether an `accept` that finds no connection has nothing to wait for, and fails with `EINVAL`.
    fn accepts_no_more(&self) -> bool {
        false
    }

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// `ENOTCONN`.
    fn shutdown(&self, _halves: Halves) -> Result {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sends one message, or as much of a stream's data as there is room for. Files and credentials
    /// are taken out of `msg` once they are sent.
    ///
    /// # Errors
    /// `EAGAIN`, `EPIPE` (the caller raises SIGPIPE where [`SocketOps::is_stream`]), `EMSGSIZE` …
    fn send(&self, ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize>;

    /// Receives one message, or what there is of a stream's data, up to the room of `dst`.
    ///
    /// # Errors
    /// `EAGAIN`, `ENOTCONN`, `ECONNRESET` …
    fn receive(&self, ctx: &SockCtx<'_>, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize>;

    /// Whether data has no boundaries: a blocking send goes on until everything is sent.
    fn is_stream(&self) -> bool {
        self.core().kind == sock::STREAM
    }

    /// Whether control messages may carry files and credentials (`unix(7)`).
    fn carries_files(&self) -> bool {
        false
    }

    /// Whether there is a way for what is sent, where that is asked before control messages are looked at.
    ///
    /// # Errors
    /// The socket's own; `ENOTCONN`.
    fn has_way(&self) -> Result {
        Ok(())
    }

    /// Whether an `EPIPE` raises SIGPIPE.
    fn raises_sigpipe(&self) -> bool {
        self.is_stream()
    }

    /// Where room is announced for a send or connect that said `EAGAIN`, if not on the own queue.
    fn room_at(&self, _ctx: &SockCtx<'_>, _to: Option<&SockAddr>) -> Option<Arc<dyn Announces>> {
        None
    }

    /// `getsockname(2)`.
    ///
    /// # Errors
    /// The family's.
    fn local_addr(&self) -> Result<SockAddr>;

    /// `getpeername(2)`.
    ///
    /// # Errors
    /// `ENOTCONN`.
    fn peer_addr(&self) -> Result<SockAddr> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Where a local socket is bound in the file system, if it is; `None` for other families (`SIOCUNIXFILE`).
    fn bound_place(&self) -> Option<Option<Path>> {
        None
    }

    /// The process that made the other end (`SO_PEERPIDFD`).
    fn peer_process(&self) -> Option<u32> {
        None
    }

    /// Packets and bytes that came to it and that nobody has counted yet.
    fn carried(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Bytes that a stream has sent.
    fn sent(&self) -> u64 {
        0
    }

    /// What is mapped of it (`mmap(2)`).
    ///
    /// # Errors
    /// `ENODEV`, `EINVAL`.
    fn mappable(&self, _wish: &MapWish) -> Result<Mapped> {
        Err(Errno::ENODEV)
    }

    /// What `/proc/net/tcp` and its like show of it; `None` for a socket that has no port.
    fn row(&self) -> Option<crate::net::proc::Row> {
        None
    }

    /// Its line in `/proc/net/netlink` or `/proc/net/packet`, where the family has one, without the end of line.
    fn line(&self) -> Option<String> {
        None
    }

    /// Whether it accepts connections (`SO_ACCEPTCONN`).
    fn listening(&self) -> bool {
        false
    }

    /// `setsockopt(2)` of other levels, and of options of `SOL_SOCKET` that only this family has.
    ///
    /// # Errors
    /// `ENOPROTOOPT`, `EOPNOTSUPP`, `EINVAL`.
    fn set_option(&self, _ctx: &SockCtx<'_>, level: u32, _option: u32, _value: OptionValue) -> Result {
        Err(if level == SOL_SOCKET { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP })
    }

    /// `getsockopt(2)` of other levels, and of options of `SOL_SOCKET` that only this family has. `into`: where the guest
    /// has room, and what some options look at before.
    ///
    /// # Errors
    /// `ENOPROTOOPT`, `EOPNOTSUPP`, `EINVAL`.
    fn get_option(&self, _ctx: &SockCtx<'_>, level: u32, _option: u32, _into: OptionValue) -> Result<Vec<u8>> {
        Err(if level == SOL_SOCKET { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP })
    }

    /// What `getsockopt(2)` makes of a negative room for an option of a level other than `SOL_SOCKET`: whether it takes
    /// that for a large one.
    ///
    /// # Errors
    /// `EINVAL`; what it says where there are no options of that level.
    fn negative_room(&self, _level: u32, _option: u32) -> Result {
        Err(Errno::EOPNOTSUPP)
    }

    /// Whether it is a socket of the host's network, which has all its options.
    fn is_host(&self) -> bool {
        false
    }

    /// `getsockopt(2)` of a socket that puts the value where the guest wants it by itself: the value's length.
    ///
    /// # Errors
    /// Those of [`SocketOps::get_option`].
    fn get_option_there(&self, _level: u32, _option: u32, _at: UserPtr<u8>, _room: u32) -> Option<Result<u32>> {
        None
    }

    /// An option of `SOL_SOCKET` has another value now.
    fn option_changed(&self, _option: u32) {}

    /// `ioctl(2)`.
    ///
    /// # Errors
    /// `ENOTTY`.
    fn ioctl(&self, _ctx: &OpCtx<'_>, _request: u32, _arg: u64) -> SysResult<u64> {
        Err(Errno::ENOTTY.into())
    }
}

/// The socket in an open file.
///
/// # Errors
/// `ENOTSOCK`.
pub fn of(file: &OpenFile) -> Result<&Arc<dyn SocketOps>> {
    Ok(&file.ops.as_any().downcast_ref::<SocketFile>().ok_or(Errno::ENOTSOCK)?.0)
}
