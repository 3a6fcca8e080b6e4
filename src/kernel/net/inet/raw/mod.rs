//! Raw sockets (`raw(7)`) and ping sockets (`icmp(7)`): packets without a transport protocol of the kernel's.
//!
//! A raw socket has a copy of every packet of its protocol that it fits; a ping socket sends echo requests under an
//! identifier of its own and has the answers.
//!
//! Locks: a socket's state (level `FileData`), then the table (`Leaf`).

mod bind;
mod options;
mod send;
mod table;

pub use table::{RawTable, answer_ping, deliver, report};

use super::addr::{Addr, Ip};
use super::mailbox::Mailbox;
use super::options::{Ends, IpOptions, negative_room};
use super::proto;
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::mm::{IoDst, IoSrc, UserPtr};
use crate::net::NetNamespace;
use crate::net::proc::Row;
use crate::net::socket::family::Wanted;
use crate::net::socket::{
    Core, Halves, MsgFlags, OptionValue, RecvMsg, SOL_SOCKET, SendMsg, SockAddr, SockCtx, SocketOps, af, flag, sock,
};
use crate::sync::{Events, Level, Mutex, WaitQueue};
use crate::vfs::OpCtx;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};

struct State {
    /// Its address; the port is the protocol's number, or the identifier of a ping socket.
    local: Addr,
    remote: Option<Addr>,
    /// The address was bound: a disconnect keeps it.
    bound: bool,
    shut_read: bool,
    shut_write: bool,
    /// Data that waits for the rest of its packet (`MSG_MORE`), and where it goes.
    pending: Option<(Vec<u8>, Ip)>,
}

/// A raw or a ping socket.
pub struct Raw {
    core: Core,
    ip: IpOptions,
    queue: WaitQueue,
    state: Mutex<State>,
    mail: Mailbox,
    /// `ICMP_FILTER` (one word), `ICMP6_FILTER`: a bit for every type that is not wanted.
    filter: [AtomicU32; 8],
    /// `IPV6_CHECKSUM`: where the kernel puts the checksum; below 0: nowhere.
    checksum: AtomicI32,
    me: Weak<Raw>,
}

/// Whether the range of groups that may have ping sockets has one of the caller's (`ping_init_sock`).
fn may_ping(ctx: &SockCtx<'_>, ns: &NetNamespace) -> bool {
    let (low, high) = ns.inet.raw.ping_groups();
    let cred = ctx.op.cred;
    let within = |gid: u32| (low..=high).contains(&gid);
    within(cred.egid) || cred.groups.iter().any(|&g| within(g))
}

/// `socket(2)`.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`; `EACCES` for a ping socket outside of `ping_group_range`.
pub fn create(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted) -> Result<Arc<dyn SocketOps>> {
    let ping = wanted.kind == sock::DGRAM;
    if ping && !may_ping(ctx, ns) {
        return Err(Errno::EACCES);
    }
    if !ping && !ns.may(ctx.op.cred, cap::NET_RAW) {
        return Err(Errno::EPERM);
    }
    let core = wanted.core(ctx, ns, wanted.protocol);
    core.set(flag::REUSEADDR, true);
    let sums = !ping && core.family == af::INET6 && core.protocol == proto::ICMPV6;
    let port = if ping { 0 } else { core.protocol as u16 };
    let local = Addr { port, ..Addr::any(core.family) };
    let state = State { local, remote: None, bound: false, shut_read: false, shut_write: false, pending: None };
    let socket: Arc<Raw> = Arc::new_cyclic(|me| Raw {
        ip: IpOptions::new(ns, core.family, core.protocol),
        queue: WaitQueue::new(),
        state: Mutex::new(Level::FileData, state),
        mail: Mailbox::default(),
        filter: [const { AtomicU32::new(0) }; 8],
        checksum: AtomicI32::new(if sums { 2 } else { -1 }),
        core,
        me: me.clone(),
    });
    if !ping {
        ns.inet.raw.enter(&socket)?;
    }
    let all: Weak<dyn SocketOps> = socket.me.clone();
    ns.enlist(socket.core.cookie, all)?;
    Ok(socket)
}

impl Raw {
    fn is_ping(&self) -> bool {
        self.core.kind == sock::DGRAM
    }

    /// A raw socket has its protocol for a port from the start.
    fn ends(&self) -> Ends {
        let s = self.state.lock();
        Ends { port: s.local.port, local: s.local.ip, remote: s.remote.map(|r| r.ip) }
    }

    /// Raw sockets of version 6 do not have the options of version 4.
    fn knows_no(&self, level: u32) -> bool {
        level == proto::IP && self.is_six() && !self.is_ping()
    }

    fn is_six(&self) -> bool {
        self.core.family == af::INET6
    }
}

impl SocketOps for Raw {
    fn core(&self) -> &Core {
        &self.core
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn poll(&self) -> Events {
        let shut = {
            let s = self.state.lock();
            [s.shut_read, s.shut_write]
        };
        self.mail.poll(&self.core, shut)
    }

    fn close(&self) {
        self.core.ns.delist(self.core.cookie);
        self.core.ns.inet.raw.leave(self);
        self.ip.leave_groups(&self.core);
        self.mail.clear();
    }

    fn bind(&self, ctx: &SockCtx<'_>, to: &SockAddr) -> Result {
        if self.is_ping() { self.bind_ping(ctx, to) } else { self.bind_raw(to) }
    }

    fn connect(&self, _ctx: &SockCtx<'_>, to: &SockAddr, _nonblock: bool) -> Result {
        self.connect_to(to)
    }

    fn shutdown(&self, halves: Halves) -> Result {
        let connected = {
            let mut state = self.state.lock();
            state.shut_read |= halves.read;
            state.shut_write |= halves.write;
            state.remote.is_some()
        };
        self.queue.wake_all();
        if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    fn send(&self, ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
        Ok(self.send_packet(ctx.op.cred, src, msg)?)
    }

    fn receive(&self, _ctx: &SockCtx<'_>, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        if flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if flags.contains(MsgFlags::ERRQUEUE) {
            return Ok(self.mail.receive_error(&self.core, dst, out)?);
        }
        let ended = || self.state.lock().shut_read;
        Ok(self.mail.receive((&self.core, &self.ip), dst, flags, out, ended)?)
    }

    fn local_addr(&self) -> Result<SockAddr> {
        Ok(self.state.lock().local.to_sockaddr(self.core.family))
    }

    fn peer_addr(&self) -> Result<SockAddr> {
        let remote = self.state.lock().remote.filter(|r| r.port != 0);
        Ok(remote.ok_or(Errno::ENOTCONN)?.to_sockaddr(self.core.family))
    }

    fn row(&self) -> Option<Row> {
        let (local, remote) = {
            let s = self.state.lock();
            (s.local, s.remote)
        };
        let (waiting, dropped) = self.mail.load();
        // TCP_ESTABLISHED, TCP_CLOSE.
        let state = if remote.is_some() { 1 } else { 7 };
        let remote = remote.unwrap_or(Addr::any(self.core.family));
        (local.port != 0).then_some(Row { local, remote, state, out: 0, waiting, dropped })
    }

    fn set_option(&self, ctx: &SockCtx<'_>, level: u32, option: u32, value: OptionValue) -> Result {
        match self.set_raw_option(level, option, value) {
            Some(outcome) => outcome,
            None if level == SOL_SOCKET || self.knows_no(level) => Err(Errno::ENOPROTOOPT),
            None => self.ip.set(ctx, &self.core, level, option, value, self.ends()),
        }
    }

    fn get_option(&self, _ctx: &SockCtx<'_>, level: u32, option: u32, into: OptionValue) -> Result<Vec<u8>> {
        match self.get_raw_option(level, option, into.len as usize) {
            Some(outcome) => outcome,
            None if level == SOL_SOCKET || self.knows_no(level) => Err(Errno::ENOPROTOOPT),
            None => self.ip.get(&self.core, self.ends(), level, option, into),
        }
    }

    fn negative_room(&self, level: u32, option: u32) -> Result {
        match self.filter_at(level) {
            None if self.knows_no(level) => Err(Errno::ENOPROTOOPT),
            // Only its filter looks at the room.
            Some(_) if !self.is_ping() && option == 1 => Err(Errno::EINVAL),
            Some(_) if !self.is_ping() => Ok(()),
            None if self.is_six() && !self.is_ping() && level == options::SOL_RAW => Ok(()),
            _ => negative_room(self.core.family, self.core.protocol, level),
        }
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, request: u32, arg: u64) -> SysResult<u64> {
        /// `FIONREAD`, `SIOCOUTQ`.
        const INQ: u32 = 0x541b;
        const OUTQ: u32 = 0x5411;
        let value = match request {
            INQ if !self.is_ping() => self.mail.first_len() as i32,
            OUTQ if !self.is_ping() => 0,
            _ => return Err(Errno::ENOTTY.into()),
        };
        UserPtr::<i32>::new(arg).write(value)?;
        Ok(0)
    }
}

impl Raw {
    /// Takes a packet in and says so.
    fn take_in(&self, packet: super::mailbox::Packet) {
        if self.mail.take_in(&self.core, &[], packet) {
            self.queue.wake(Events::IN | Events::RDNORM);
        }
    }

    /// Whether a message of this type is filtered out (`icmp_filter`, `icmpv6_filter`).
    fn rejects(&self, message: &[u8]) -> bool {
        let Some(&kind) = message.first().filter(|_| message.len() >= super::icmp::HEAD) else { return true };
        let words = if self.is_six() { 8 } else { 1 };
        self.filter[..words].get(usize::from(kind) / 32).is_some_and(|w| w.load(Relaxed) >> (kind % 32) & 1 != 0)
    }
}
