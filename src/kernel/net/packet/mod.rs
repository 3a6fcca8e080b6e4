//! Sockets of the link layer (`packet(7)`) on the loopback interface: what goes through it is seen as frames.
//!
//! Frames are made only while such a socket is there ([`crate::net::inet`] asks [`Table::is_watched`] through the raw
//! sockets' count).

mod blocks;
mod fanout;
mod inbox;
mod options;
mod ring;
mod transmit;

use super::socket::family::Wanted;
use super::socket::filter::View;
use super::socket::{
    Core, MsgFlags, OptionValue, RecvMsg, SOL_SOCKET, SendMsg, SockAddr, SockCtx, SocketOps, af, sock,
};
use crate::abi::{Errno, Result, SysResult};
use crate::arena::{self, Object};
use crate::cred::cap;
use crate::mm::{IoDst, IoSrc, MapWish, Mapped, UserPtr};
use crate::net::NetNamespace;
use crate::net::links::arphrd;
use crate::sync::{Events, Level, Mutex, WaitQueue};
use crate::time::{self, timer};
use crate::vfs::OpCtx;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use fanout::Fanout;
use inbox::{Frame, Inbox};
use ring::{Incoming, Put, Rings};

/// `ETH_P_ALL`, `ETH_P_IP`, `ETH_P_IPV6`.
const ALL: u16 = 3;
const IP: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Bytes of an Ethernet header: destination, source, protocol.
const HEAD: usize = 14;
/// Bytes of a `struct sockaddr_ll`, and where its address begins.
const ADDRESS: usize = 20;
const ADDRESS_AT: usize = 12;
/// Bytes of the addresses of the loopback interface.
const HARDWARE_LEN: u8 = 6;
/// What may be above a frame's payload for a VLAN's tag, bytes.
const TAG: usize = 4;
/// `PACKET_HOST` and so on.
mod kind {
    pub const HOST: u8 = 0;
    pub const MULTICAST: u8 = 2;
    pub const OTHER_HOST: u8 = 3;
    pub const OUTGOING: u8 = 4;
}

/// The packet sockets of a network namespace, and the groups that some of them share their frames in.
pub struct Table(Mutex<Vec<Weak<Packet>>>, Mutex<Vec<Arc<Fanout>>>);

impl Default for Table {
    fn default() -> Table {
        Table(Mutex::new(Level::Leaf, Vec::new()), Mutex::new(Level::Leaf, Vec::new()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    /// `ETH_P_*`; 0: it receives nothing.
    protocol: u16,
    /// The interface; 0: any.
    index: i32,
}

/// See the module.
pub struct Packet {
    core: Core,
    queue: WaitQueue,
    state: Mutex<State>,
    inbox: Mutex<Inbox>,
    /// Options that are on or off, by their number.
    switches: AtomicU32,
    /// Options that are numbers.
    numbers: options::Numbers,
    rings: Mutex<Rings>,
    /// Whether there is a ring for received frames, and one for frames to be sent.
    ringed: [AtomicBool; 2],
    /// The group that it shares its frames with.
    fanout: Mutex<Option<Arc<Fanout>>>,
    me: Weak<Packet>,
}

/// Closes a block that has been open for long enough.
struct BlockTimer(Weak<Packet>);

impl timer::Target for BlockTimer {
    fn expired(&self) {
        let Some(socket) = self.0.upgrade() else { return };
        let closed = {
            let mut rings = socket.rings.lock();
            rings.timed = false;
            rings.time_over()
        };
        if closed {
            socket.queue.wake(Events::IN | Events::RDNORM);
        }
    }
}

/// `socket(2)` (`packet_create`).
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`, `ESOCKTNOSUPPORT`, `ENOBUFS`.
pub fn create(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted) -> Result<Arc<dyn SocketOps>> {
    if !ns.may(ctx.op.cred, cap::NET_RAW) {
        return Err(Errno::EPERM);
    }
    if !matches!(wanted.kind, sock::RAW | sock::DGRAM) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    let protocol = u16::from_be(wanted.protocol as u16);
    let socket: Arc<Packet> = Arc::new_cyclic(|me| Packet {
        core: wanted.core(ctx, ns, 0),
        queue: WaitQueue::new(),
        state: Mutex::new(Level::FileData, State { protocol, index: 0 }),
        inbox: Mutex::new(Level::FileData, Inbox::default()),
        switches: AtomicU32::new(0),
        numbers: options::Numbers::default(),
        rings: Mutex::new(Level::FileData, Rings::default()),
        ringed: [const { AtomicBool::new(false) }; 2],
        fanout: Mutex::new(Level::FileData, None),
        me: me.clone(),
    });
    {
        let mut all = ns.packets.0.lock();
        all.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
        all.push(socket.me.clone());
    }
    ns.inet.watch(true);
    let all: Weak<dyn SocketOps> = socket.me.clone();
    ns.enlist(socket.core.cookie, all)?;
    Ok(socket)
}

/// A frame on its way through the interface.
#[derive(Clone, Copy)]
struct Passing<'a> {
    head: [u8; HEAD],
    payload: &'a [u8],
    kind: u8,
}

impl Passing<'_> {
    fn protocol(&self) -> u16 {
        u16::from_be_bytes([self.head[12], self.head[13]])
    }
}

/// Shows an IP packet that goes through the loopback interface to whom it concerns: on its way out and in.
pub fn show(ns: &NetNamespace, packet: &[u8]) {
    let all = ns.packets.sockets();
    if all.is_empty() {
        return;
    }
    let protocol = if packet.first().is_some_and(|b| b >> 4 == 6) { IPV6 } else { IP };
    let mut head = [0; HEAD];
    head[12..].copy_from_slice(&protocol.to_be_bytes());
    give(&all, Passing { head, payload: packet, kind: kind::HOST }, None);
}

/// Gives a frame to sockets, as going out (not to its sender) and as coming in.
fn give(all: &[Arc<Packet>], frame: Passing<'_>, sender: Option<&Packet>) {
    for socket in all.iter().filter(|s| sender.is_none_or(|me| !core::ptr::eq(&***s, me))) {
        if socket.state.lock().protocol == ALL && !socket.ignores_outgoing() {
            socket.offer(Passing { kind: kind::OUTGOING, ..frame });
        }
    }
    let protocol = frame.protocol();
    for socket in all {
        let wanted = socket.state.lock().protocol;
        if wanted == ALL || wanted == protocol {
            socket.offer(frame);
        }
    }
}

impl Table {
    /// Those that may receive; where memory is short nobody does.
    fn sockets(&self) -> Vec<Arc<Packet>> {
        let mut out = Vec::new();
        {
            let all = self.0.lock();
            if !all.is_empty() && out.try_reserve_exact(all.len()).is_ok() {
                out.extend(all.iter().filter_map(Weak::upgrade));
            }
        }
        out.retain(|s: &Arc<Packet>| s.state.lock().protocol != 0);
        out
    }
}

/// `struct sockaddr_ll`.
fn address(protocol: u16, index: i32, kind: u8, len: usize) -> SockAddr {
    let mut b = [0u8; ADDRESS];
    b[..2].copy_from_slice(&af::PACKET.to_ne_bytes());
    b[2..4].copy_from_slice(&protocol.to_be_bytes());
    b[4..8].copy_from_slice(&index.to_ne_bytes());
    if index != 0 {
        b[8..10].copy_from_slice(&arphrd::LOOPBACK.to_ne_bytes());
        b[11] = HARDWARE_LEN;
    }
    b[10] = kind;
    SockAddr::new(&b[..len])
}

/// Protocol and interface of an address.
fn parse(addr: &SockAddr) -> Result<(u16, i32)> {
    if addr.len() < ADDRESS {
        return Err(Errno::EINVAL);
    }
    let b = addr.bytes();
    Ok((u16::from_be_bytes([b[2], b[3]]), i32::from_ne_bytes([b[4], b[5], b[6], b[7]])))
}

impl Packet {
    fn is_raw(&self) -> bool {
        self.core.kind == sock::RAW
    }

    /// Whether an option is on.
    fn has(&self, option: u32) -> bool {
        self.switches.load(Relaxed) >> option & 1 != 0
    }

    fn ignores_outgoing(&self) -> bool {
        self.has(options::IGNORE_OUTGOING) || self.fanout.lock().as_ref().is_some_and(|f| f.ignores_outgoing())
    }

    /// Takes a frame in, or gives it to the member of its group whose turn it is. The group is asked once, for its first
    /// member.
    fn offer(&self, frame: Passing<'_>) {
        let group = self.fanout.lock().clone();
        match group {
            None => self.take_in(frame),
            Some(group) => {
                if let Some(socket) = group.chosen(self, &frame) {
                    socket.take_in(frame);
                }
            }
        }
    }

    /// Takes a copy of a frame in, as far as the socket's program keeps it.
    fn take_in(&self, frame: Passing<'_>) {
        let head: &[u8] = if self.is_raw() { &frame.head } else { &[] };
        let whole = head.len() + frame.payload.len();
        let kept = self.core.keeps(&View { head, data: frame.payload, protocol: frame.protocol() });
        // Nothing at all is not received either.
        let Some(kept) = kept.map(|n| n.min(whole)).filter(|&n| n > 0) else { return };
        if self.ringed[0].load(Relaxed) && !self.put_into_ring(head, &frame, kept) {
            return;
        }
        let mut data = Vec::new();
        let room = arena::charge_bytes(Object::Packet, kept as u64).is_ok() && data.try_reserve_exact(kept).is_ok();
        if room {
            data.extend(head.iter().chain(frame.payload).take(kept));
        }
        let at = if self.core.notes_arrival() { time::now() } else { 0 };
        let frame = Frame { data, whole, protocol: frame.protocol(), kind: frame.kind, net: head.len(), at };
        if self.inbox.lock().take_in(frame, self.core.receive_room(), room) {
            self.queue.wake(Events::IN | Events::RDNORM);
        }
    }

    /// Puts a frame into the ring; whether all of it is to be queued as well.
    fn put_into_ring(&self, head: &[u8], frame: &Passing<'_>, kept: usize) -> bool {
        let queues = self.numbers.copy_threshold() && self.inbox.lock().charged() < self.core.receive_room();
        let mut from = [0; ADDRESS];
        from.copy_from_slice(address(frame.protocol(), 1, frame.kind, ADDRESS).bytes());
        let incoming = Incoming { head, payload: frame.payload, kept, from, queues };
        let (version, reserve) = (self.numbers.version(), self.numbers.reserve());
        let (put, limit) = {
            let mut rings = self.rings.lock();
            let put = rings.put(&incoming, version, reserve);
            let limit = rings.block_limit().filter(|_| !rings.timed);
            rings.timed |= limit.is_some();
            (put, limit)
        };
        if let Some(limit) = limit {
            let deadline = time::deadline_in(u64::from(limit) * 1_000_000);
            timer::arm(deadline, Arc::new(BlockTimer(self.me.clone())));
        }
        let (wake, queue) = match put {
            Put::Lost(wake) => (wake, false),
            Put::Done { wake, queue } => (wake, queue),
        };
        if wake {
            self.queue.wake(Events::IN | Events::RDNORM);
        }
        queue
    }

    /// Whether another frame would find room.
    fn has_room(&self) -> bool {
        if self.ringed[0].load(Relaxed) {
            return self.rings.lock().has_room();
        }
        self.inbox.lock().charged() < self.core.receive_room()
    }
}

impl SocketOps for Packet {
    fn core(&self) -> &Core {
        &self.core
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn poll(&self) -> Events {
        let mut events = self.core.ready(!self.inbox.lock().is_empty());
        if self.ringed.iter().any(|r| r.load(Relaxed)) {
            let (readable, writable) = self.rings.lock().ready(self.numbers.version());
            events.set(Events::IN | Events::RDNORM, readable || events.contains(Events::IN));
            events.set(Events::OUT | Events::WRNORM, writable);
        }
        events
    }

    fn close(&self) {
        self.core.ns.delist(self.core.cookie);
        self.core.ns.packets.0.lock().retain(|s| !Weak::ptr_eq(s, &self.me));
        self.core.ns.inet.watch(false);
        let group = self.fanout.lock().take();
        if let Some(group) = group {
            group.leave(&self.core.ns, &self.me);
        }
        let rings = core::mem::take(&mut *self.rings.lock());
        drop(rings);
        let frames = core::mem::take(&mut *self.inbox.lock());
        drop(frames);
    }

    fn is_stream(&self) -> bool {
        false
    }

    fn bind(&self, _ctx: &SockCtx<'_>, addr: &SockAddr) -> Result {
        let (protocol, index) = parse(addr)?;
        if addr.family() != af::PACKET || self.fanout.lock().is_some() {
            return Err(Errno::EINVAL);
        }
        if !(0..=1).contains(&index) {
            return Err(Errno::ENODEV);
        }
        {
            let mut state = self.state.lock();
            let protocol = if protocol == 0 { state.protocol } else { protocol };
            *state = State { protocol, index };
        }
        if index != 0 && !self.core.ns.loopback_is_up() {
            self.core.set_error(Errno::ENETDOWN);
            self.queue.wake(Events::ERR);
        }
        Ok(())
    }

    fn send(&self, _ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
        if self.ringed[1].load(Relaxed) {
            return Ok(self.transmit_ring(msg)?);
        }
        Ok(self.transmit(src, msg)?)
    }

    fn receive(&self, _ctx: &SockCtx<'_>, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        /// Flags that `packet_recvmsg` knows.
        const KNOWN: MsgFlags = MsgFlags::PEEK
            .union(MsgFlags::DONTWAIT)
            .union(MsgFlags::TRUNC)
            .union(MsgFlags::CMSG_COMPAT)
            .union(MsgFlags::ERRQUEUE)
            .union(MsgFlags::CMSG_CLOEXEC);
        if !KNOWN.contains(flags) {
            return Err(Errno::EINVAL.into());
        }
        if flags.contains(MsgFlags::ERRQUEUE) {
            return Err(Errno::EAGAIN.into());
        }
        self.core.check_error()?;
        let frame = self.inbox.lock().next(flags.contains(MsgFlags::PEEK))?;
        let n = frame.data.len().min(dst.left());
        if n > 0 && dst.put(&frame.data[..n])? < n {
            return Err(Errno::EFAULT.into());
        }
        if n < frame.data.len() {
            out.flags |= MsgFlags::TRUNC;
        }
        out.whole = frame.data.len();
        out.from = Some(address(frame.protocol, 1, frame.kind, ADDRESS));
        if !out.wants_control {
            self.core.note_stamp(frame.at);
        } else {
            self.core.tell_arrival(frame.at, out);
            if self.has(options::AUXDATA) {
                out.push_control(options::LEVEL, options::AUXDATA, &frame.auxiliary());
            }
        }
        Ok(n)
    }

    fn local_addr(&self) -> Result<SockAddr> {
        let s = *self.state.lock();
        let len = if s.index == 0 { ADDRESS_AT } else { ADDRESS_AT + usize::from(HARDWARE_LEN) };
        Ok(address(s.protocol, s.index, 0, len))
    }

    fn set_option(&self, _ctx: &SockCtx<'_>, level: u32, option: u32, value: OptionValue) -> Result {
        if level != options::LEVEL || level == SOL_SOCKET { Err(Errno::ENOPROTOOPT) } else { self.set(option, value) }
    }

    fn get_option(&self, _ctx: &SockCtx<'_>, level: u32, option: u32, into: OptionValue) -> Result<Vec<u8>> {
        if level == options::LEVEL { self.get(option, into) } else { Err(Errno::ENOPROTOOPT) }
    }

    fn mappable(&self, wish: &MapWish) -> Result<Mapped> {
        Ok(Some(self.rings.lock().to_map(wish.span)?))
    }

    fn line(&self) -> Option<String> {
        let s = *self.state.lock();
        let waiting = self.inbox.lock().charged();
        let runs = u8::from(s.protocol != 0);
        Some(format!(
            "{:016x} {:<6} {:<4} {:04x}   {:<5} {runs} {waiting:<6} {:<6} {:<6}",
            0,
            3,
            self.core.kind,
            s.protocol,
            s.index,
            crate::net::ns::seen_uid(self.core.uid),
            self.core.ino
        ))
    }

    fn negative_room(&self, level: u32, _option: u32) -> Result {
        Err(if level == options::LEVEL { Errno::EINVAL } else { Errno::ENOPROTOOPT })
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, request: u32, arg: u64) -> SysResult<u64> {
        /// `FIONREAD`, `SIOCOUTQ`.
        const INQ: u32 = 0x541b;
        const OUTQ: u32 = 0x5411;
        let value = match request {
            INQ => self.inbox.lock().first_len() as i32,
            OUTQ => 0,
            _ => return Err(Errno::ENOTTY.into()),
        };
        UserPtr::<i32>::new(arg).write(value)?;
        Ok(0)
    }
}
