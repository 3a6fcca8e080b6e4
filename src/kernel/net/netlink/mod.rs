//! Netlink (`netlink(7)`): requests to the kernel are answered while they are sent; the answers wait in the
//! socket's inbox. There are `NETLINK_ROUTE`, `NETLINK_SOCK_DIAG`,
//! `NETLINK_GENERIC` with its own family only, and a `NETLINK_KOBJECT_UEVENT` on which nothing happens.

mod diag;
mod generic;
mod message;
mod route;

use crate::abi::{Errno, Result, SysResult};
use crate::arena::{self, Object};
use crate::mm::{IoDst, IoSrc};
use crate::net::links::Refusal;
use crate::net::socket::family::Wanted;
use crate::net::socket::filter::View;
use crate::net::socket::{
    Core, MsgFlags, OptionValue, RecvMsg, SOL_SOCKET, SendMsg, SockAddr, SockCtx, SocketOps, af, flag, sock,
};
use crate::net::{NetNamespace, socket};
use crate::sync::{Events, Level, Mutex, WaitQueue};
use crate::task::ns::seen_pid;
use crate::vfs::{OpCtx, OpenFile};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::Relaxed;
use message::{Answer, Request};
use route::Notice;
pub use route::{Change, change_address, change_route, set_flags};

/// `NETLINK_*`.
const ROUTE: u32 = 0;
const SOCK_DIAG: u32 = 4;
const KOBJECT_UEVENT: u32 = 15;
const GENERIC: u32 = 16;
/// Most protocols that there could be.
const MAX_LINKS: u32 = 32;
/// `SCM_CREDENTIALS`.
const CREDENTIALS: u32 = 2;
/// `SOL_NETLINK`.
const SOL_NETLINK: u32 = 270;
/// `NETLINK_ADD_MEMBERSHIP` and its siblings.
const ADD_MEMBERSHIP: u32 = 1;
const DROP_MEMBERSHIP: u32 = 2;
const LISTEN_ALL: u32 = 8;
const LIST_MEMBERSHIPS: u32 = 9;
/// `CAP_NET_BROADCAST`.
const NET_BROADCAST: u32 = 11;
/// `NETLINK_CAP_ACK`.
const CAP_ACK: u32 = 10;
/// `NETLINK_EXT_ACK`, `NETLINK_PKTINFO`.
const EXT_ACK: u32 = 11;
const PKTINFO: u32 = 3;
/// `NETLINK_GET_STRICT_CHK`.
const STRICT: u32 = 12;
/// Options that are on or off, by number.
const SWITCHES: u32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << LISTEN_ALL | 1 << CAP_ACK | 1 << 11 | 1 << STRICT;
/// Most groups of a protocol (`RTNLGRP_MAX`).
const MOST_GROUPS: i32 = 39;
/// Bytes of a `struct sockaddr_nl`.
const ADDR: usize = 12;

#[derive(Default)]
struct State {
    port: u32,
    /// A bit for every group.
    groups: u64,
    /// The destination that `connect` set.
    peer: (u32, u32),
    /// `NETLINK_*` options that were turned on, by number.
    options: u32,
}

#[derive(Default)]
struct Inbox {
    /// Each with the group that it was for; 0: none.
    packets: VecDeque<(Vec<u8>, u32)>,
    bytes: usize,
}

/// A netlink socket.
pub struct Netlink {
    core: Core,
    queue: WaitQueue,
    state: Mutex<State>,
    inbox: Mutex<Inbox>,
}

/// `socket(2)`.
///
/// # Errors
/// `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`.
pub fn create(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted) -> Result<Arc<dyn SocketOps>> {
    if !matches!(wanted.kind, sock::RAW | sock::DGRAM) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if wanted.protocol >= MAX_LINKS || !matches!(wanted.protocol, ROUTE | SOCK_DIAG | KOBJECT_UEVENT | GENERIC) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let socket = Arc::new(Netlink {
        core: wanted.core(ctx, ns, wanted.protocol),
        queue: WaitQueue::new(),
        state: Mutex::new(Level::FileData, State::default()),
        inbox: Mutex::new(Level::FileData, Inbox::default()),
    });
    let all: Weak<dyn SocketOps> = Arc::downgrade(&(socket.clone() as Arc<dyn SocketOps>));
    ns.enlist(socket.core.cookie, all)?;
    Ok(socket)
}

fn to_sockaddr(port: u32, groups: u32) -> SockAddr {
    let mut b = [0u8; ADDR];
    b[..2].copy_from_slice(&af::NETLINK.to_ne_bytes());
    b[4..8].copy_from_slice(&port.to_ne_bytes());
    b[8..].copy_from_slice(&groups.to_ne_bytes());
    SockAddr::new(&b)
}

/// Port and groups of a `struct sockaddr_nl`.
fn parse(addr: &SockAddr) -> Result<(u32, u32)> {
    if addr.len() < ADDR || addr.family() != af::NETLINK {
        return Err(Errno::EINVAL);
    }
    let b = addr.bytes();
    let word = |at: usize| u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    Ok((word(4), word(8)))
}

impl Netlink {
    /// Takes a port: the process's id, `pid`, if that is free, else any (`netlink_autobind`).
    fn autobind(&self, pid: u32, state: &mut State) -> Result {
        if state.port != 0 {
            return Ok(());
        }
        let mut ports = self.core.ns.netlink_ports.lock();
        ports.try_reserve()?;
        let mut port = pid;
        while port == 0 || ports.get(&(self.core.protocol, port)).is_some() {
            port = crate::host::random::next_u64() as u32 | 1 << 31;
        }
        ports.insert((self.core.protocol, port), ());
        state.port = port;
        Ok(())
    }

    /// The socket is a member of these groups from now on.
    fn join(&self, state: &mut State, groups: u64) {
        let had = core::mem::replace(&mut state.groups, groups) != 0;
        if self.core.protocol == ROUTE && had != (groups != 0) {
            let count = &self.core.ns.rtnetlink_members;
            if had {
                count.fetch_sub(1, Relaxed)
            } else {
                count.fetch_add(1, Relaxed)
            };
        }
    }

    fn push(&self, packet: Vec<u8>) {
        self.push_to(packet, 0);
    }

    fn push_to(&self, mut packet: Vec<u8>, group: u32) {
        let Some(kept) = self.core.keeps(&View { head: &[], data: &packet, protocol: 0 }) else { return };
        packet.truncate(kept);
        {
            let mut inbox = self.inbox.lock();
            if inbox.bytes + packet.len() > self.core.receive_room() || inbox.packets.try_reserve(1).is_err() {
                drop(inbox);
                self.core.set_error(Errno::ENOBUFS);
                self.queue.wake(Events::ERR);
                return;
            }
            inbox.bytes += packet.len();
            inbox.packets.push_back((packet, group));
        }
        self.queue.wake(Events::IN | Events::RDNORM);
    }

    /// Answers every request of a packet.
    fn serve(&self, ctx: &OpCtx<'_>, packet: &[u8], port: u32) {
        let options = self.state.lock().options;
        let (capped, talks) = (options >> CAP_ACK & 1 != 0, options >> EXT_ACK & 1 != 0);
        let mut rest = packet;
        while let Some((mut request, next)) = Request::parse(rest) {
            rest = next;
            request.strict = options >> STRICT & 1 != 0;
            if !request.is_request() {
                continue;
            }
            let mut answer = Answer::new(&request, port);
            let mut change = Change::new(&self.core.ns, Some((&request, port)));
            let outcome = match request.kind {
                // Control messages do nothing.
                ..16 => Ok(()),
                _ if self.core.protocol == SOCK_DIAG => {
                    diag::serve(&self.core.ns, &request, &mut answer).map_err(Refusal::from)
                }
                _ if self.core.protocol == GENERIC => generic::serve(&request, &mut answer).map_err(Refusal::from),
                _ => route::serve(ctx, &mut change, &request, &mut answer),
            };
            let echoes = request.wants_echo() && change.echoes;
            let notices = change.notices();
            if echoes {
                for notice in &notices {
                    self.push(notice.packet.clone());
                }
            }
            announce(&self.core.ns, notices, echoes.then_some(self.core.cookie));
            let wants_ack = request.wants_ack();
            match outcome {
                Ok(()) if request.is_dump() && request.kind >= 16 => {
                    for packet in answer.finish_dump(talks) {
                        self.push(packet);
                    }
                }
                Ok(()) => {
                    for packet in answer.packets() {
                        self.push(packet);
                    }
                    if wants_ack {
                        self.push(request.acknowledge(0, port, capped, ""));
                    }
                }
                Err(Refusal(e, words)) => {
                    self.push(request.acknowledge(-e.raw(), port, capped, if talks { words } else { "" }));
                }
            }
        }
    }
}

/// Whether somebody listens to what happens to a network.
fn has_members(ns: &NetNamespace) -> bool {
    ns.rtnetlink_members.load(Relaxed) > 0
}

/// Tells the members of groups what has happened, but for one socket.
pub fn announce(ns: &NetNamespace, notices: Vec<Notice>, but: Option<u64>) {
    if notices.is_empty() || !has_members(ns) {
        return;
    }
    for socket in ns.sockets().iter().filter(|s| s.core().family == af::NETLINK && Some(s.core().cookie) != but) {
        let ops: &dyn Any = &**socket;
        let Some(socket) = ops.downcast_ref::<Netlink>().filter(|s| s.core.protocol == ROUTE) else { continue };
        let groups = socket.state.lock().groups;
        for notice in notices.iter().filter(|n| groups >> (n.group - 1) & 1 != 0) {
            socket.push_to(notice.packet.clone(), notice.group);
        }
    }
}

/// Puts a packet of the kernel's into the inbox of a netlink socket; without one only looks.
///
/// # Errors
/// `ENOTSOCK`, `EINVAL` for another kind of socket.
pub fn deliver(file: &OpenFile, packet: Option<&[u8]>) -> Result {
    let ops: &dyn Any = &**socket::of(file)?;
    let socket = ops.downcast_ref::<Netlink>().ok_or(Errno::EINVAL)?;
    if let Some(packet) = packet {
        let mut copy = Vec::new();
        copy.try_reserve_exact(packet.len()).map_err(|_| Errno::ENOMEM)?;
        copy.extend_from_slice(packet);
        socket.push(copy);
    }
    Ok(())
}

impl SocketOps for Netlink {
    fn core(&self) -> &Core {
        &self.core
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn poll(&self) -> Events {
        self.core.ready(!self.inbox.lock().packets.is_empty())
    }

    fn close(&self) {
        self.core.ns.delist(self.core.cookie);
        let port = {
            let mut state = self.state.lock();
            self.join(&mut state, 0);
            state.port
        };
        self.core.ns.netlink_ports.lock().remove(&(self.core.protocol, port));
    }

    fn is_stream(&self) -> bool {
        false
    }

    fn bind(&self, ctx: &SockCtx<'_>, addr: &SockAddr) -> Result {
        let (port, groups) = parse(addr)?;
        let pid = seen_pid(ctx.op.tgid);
        let mut state = self.state.lock();
        if state.port != 0 && port != state.port && port != 0 {
            return Err(Errno::EINVAL);
        }
        if state.port == 0 {
            if port == 0 {
                self.autobind(pid, &mut state)?;
            } else {
                let mut ports = self.core.ns.netlink_ports.lock();
                if ports.get(&(self.core.protocol, port)).is_some() {
                    return Err(Errno::EADDRINUSE);
                }
                ports.try_reserve()?;
                ports.insert((self.core.protocol, port), ());
                state.port = port;
            }
        }
        // The address names the first 32 groups only.
        let groups = state.groups & !0xffff_ffff | u64::from(groups);
        self.join(&mut state, groups);
        Ok(())
    }

    fn connect(&self, ctx: &SockCtx<'_>, addr: &SockAddr, _nonblock: bool) -> Result {
        if addr.len() < 2 {
            return Err(Errno::EINVAL);
        }
        let pid = seen_pid(ctx.op.tgid);
        let mut state = self.state.lock();
        if addr.family() == af::UNSPEC {
            state.peer = (0, 0);
            return Ok(());
        }
        state.peer = parse(addr)?;
        self.autobind(pid, &mut state)
    }

    fn send(&self, ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
        if msg.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let pid = seen_pid(ctx.op.tgid);
        let port = {
            let mut state = self.state.lock();
            let (to, groups) = match &msg.to {
                Some(addr) => parse(addr)?,
                None => state.peer,
            };
            self.autobind(pid, &mut state)?;
            // Nobody but the kernel listens.
            if to != 0 || groups != 0 {
                return Err(Errno::ECONNREFUSED.into());
            }
            state.port
        };
        let len = src.left();
        if len > self.core.send_room().saturating_sub(32) {
            return Err(Errno::EMSGSIZE.into());
        }
        arena::charge_bytes(Object::Packet, len as u64)?;
        let packet = src.take_vec(len)?;
        if packet.len() < len {
            return Err(Errno::EFAULT.into());
        }
        if self.core.protocol != KOBJECT_UEVENT {
            self.serve(&ctx.op, &packet, port);
        }
        Ok(len)
    }

    fn receive(&self, _ctx: &SockCtx<'_>, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        if flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        self.core.check_error()?;
        let (packet, group) = {
            let mut inbox = self.inbox.lock();
            if flags.contains(MsgFlags::PEEK) {
                inbox.packets.front().cloned().ok_or(Errno::EAGAIN)?
            } else {
                let (packet, group) = inbox.packets.pop_front().ok_or(Errno::EAGAIN)?;
                inbox.bytes -= packet.len();
                (packet, group)
            }
        };
        let n = packet.len().min(dst.left());
        if n > 0 && dst.put(&packet[..n])? < n {
            return Err(Errno::EFAULT.into());
        }
        if n < packet.len() {
            out.flags |= MsgFlags::TRUNC;
        }
        out.whole = packet.len();
        out.from = Some(to_sockaddr(0, if group == 0 { 0 } else { 1u32.checked_shl(group - 1).unwrap_or(0) }));
        if self.state.lock().options >> PKTINFO & 1 != 0 {
            out.push_control(SOL_NETLINK, PKTINFO, &group.to_ne_bytes());
        }
        if self.core.has(flag::PASSCRED) {
            // The kernel's own credentials.
            out.push_control(SOL_SOCKET, CREDENTIALS, &[0; 12]);
        }
        Ok(n)
    }

    fn local_addr(&self) -> Result<SockAddr> {
        let state = self.state.lock();
        Ok(to_sockaddr(state.port, state.groups as u32))
    }

    fn peer_addr(&self) -> Result<SockAddr> {
        let state = self.state.lock();
        Ok(to_sockaddr(state.peer.0, state.peer.1))
    }

    fn set_option(&self, ctx: &SockCtx<'_>, level: u32, option: u32, value: OptionValue) -> Result {
        if level == SOL_SOCKET || level != SOL_NETLINK {
            return Err(Errno::ENOPROTOOPT);
        }
        let int = if value.len < 4 { 0 } else { value.int()? };
        let mut state = self.state.lock();
        match option {
            ADD_MEMBERSHIP | DROP_MEMBERSHIP if !(1..=MOST_GROUPS).contains(&int) => return Err(Errno::EINVAL),
            ADD_MEMBERSHIP => {
                let groups = state.groups | 1 << (int - 1);
                self.join(&mut state, groups);
            }
            DROP_MEMBERSHIP => {
                let groups = state.groups & !(1 << (int - 1));
                self.join(&mut state, groups);
            }
            LISTEN_ALL if !self.core.ns.may(ctx.op.cred, NET_BROADCAST) => {
                return Err(Errno::EPERM);
            }
            _ if option > 31 || SWITCHES >> option & 1 == 0 => return Err(Errno::ENOPROTOOPT),
            _ if int != 0 => state.options |= 1 << option,
            _ => state.options &= !(1 << option),
        }
        Ok(())
    }

    fn get_option(&self, _ctx: &SockCtx<'_>, level: u32, option: u32, into: OptionValue) -> Result<Vec<u8>> {
        let state = self.state.lock();
        match (level, option) {
            (SOL_NETLINK, LIST_MEMBERSHIPS) if state.groups == 0 => Ok(Vec::new()),
            (SOL_NETLINK, LIST_MEMBERSHIPS) => Ok(state.groups.to_ne_bytes().to_vec()),
            (SOL_NETLINK, 3..=31) if SWITCHES >> option & 1 != 0 => match into.len {
                0..4 => Err(Errno::EINVAL),
                _ => Ok((state.options >> option & 1).to_ne_bytes().to_vec()),
            },
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn line(&self) -> Option<String> {
        let (port, groups) = {
            let s = self.state.lock();
            (s.port, s.groups as u32)
        };
        let waiting = self.inbox.lock().bytes;
        let protocol = self.core.protocol;
        Some(format!(
            "{:016x} {protocol:<3} {port:<10} {groups:08x} {waiting:<8} {:<8} {:<5} {:<8} {:<8} {:<8}",
            0, 0, 0, 2, 0, self.core.ino
        ))
    }

    fn negative_room(&self, level: u32, _option: u32) -> Result {
        if level == SOL_NETLINK { Err(Errno::EINVAL) } else { Err(Errno::ENOPROTOOPT) }
    }
}
