//! What waits to be received by a socket of packets: its inbox, and the errors that came back.

use super::addr::Addr;
use super::headers::{self, Shared, next};
use super::options::{IpOptions, ip4, ip6, on};
use super::proto;
use crate::abi::{Errno, Result};
use crate::mm::IoDst;
use crate::net::socket::filter::View;
use crate::net::socket::{Core, MsgFlags, RecvMsg, SOL_SOCKET, af, flag, so};
use crate::sync::{Events, Level, Mutex};
use crate::time;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What Linux charges for a packet beside its data (`SKB_TRUESIZE`), bytes.
const OVERHEAD: usize = 768;
/// `UDP_GRO` as a control message.
const UDP_GRO: u32 = 104;
/// Most packets that wait in one error queue.
const MOST_RETURNED: usize = 64;

/// A packet in an inbox.
pub struct Packet {
    /// What is received.
    pub data: Vec<u8>,
    /// The sender.
    pub from: Addr,
    /// Where it was sent.
    pub to: Addr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Flow label, of version 6.
    pub label: u32,
    /// Options, or extension headers.
    pub heads: Shared,
    /// `SO_MARK` and `SO_PRIORITY` of the sender.
    pub mark: (u32, u32),
    /// Bytes of each of the datagrams that it is made of (`UDP_SEGMENT`); 0: one.
    pub segment: u16,
    /// When it came, ns since the epoch; 0 where the receiver does not ask.
    pub time: i64,
}

impl Packet {
    fn charge(&self) -> usize {
        OVERHEAD + self.data.len()
    }
}

/// A copy of packet data.
///
/// # Errors
/// `ENOBUFS`.
pub fn copy(data: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(data.len()).map_err(|_| Errno::ENOBUFS)?;
    out.extend_from_slice(data);
    Ok(out)
}

#[derive(Default)]
struct Inbox {
    packets: VecDeque<Packet>,
    charged: usize,
    dropped: u32,
}

/// A packet that came back: an entry of the error queue.
pub struct Returned {
    /// What was sent.
    pub data: Vec<u8>,
    /// Where it was sent.
    pub to: Addr,
    /// Type and code of the ICMP message.
    pub icmp: (u8, u8),
    /// The error that it stands for.
    pub errno: Errno,
    /// What could not be sent from here: the largest size that can.
    pub told: Option<u32>,
}

/// See the module.
pub struct Mailbox {
    inbox: Mutex<Inbox>,
    errors: Mutex<VecDeque<Returned>>,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox {
            inbox: Mutex::new(Level::FileData, Inbox::default()),
            errors: Mutex::new(Level::FileData, VecDeque::new()),
        }
    }
}

impl Mailbox {
    /// Takes a packet in; one for which there is no room, or that the socket's filter drops, is lost. `head`: a header
    /// that the filter sees before the data. Whether it is there.
    pub fn take_in(&self, core: &Core, head: &[u8], mut packet: Packet) -> bool {
        let protocol = if packet.to.ip.is_v4() { 0x0800 } else { 0x86dd };
        let Some(kept) = core.keeps(&View { head, data: &packet.data, protocol }) else {
            self.inbox.lock().dropped += 1;
            return false;
        };
        packet.data.truncate(kept - head.len());
        if core.notes_arrival() {
            packet.time = time::now();
        }
        let n = packet.charge();
        let mut inbox = self.inbox.lock();
        if inbox.charged + n > core.receive_room() || inbox.packets.try_reserve(1).is_err() {
            inbox.dropped += 1;
            return false;
        }
        inbox.charged += n;
        inbox.packets.push_back(packet);
        true
    }

    /// Puts an error into the queue of those, if there is room.
    pub fn take_error(&self, returned: Returned) {
        let mut errors = self.errors.lock();
        if errors.len() < MOST_RETURNED && errors.try_reserve(1).is_ok() {
            errors.push_back(returned);
        }
    }

    /// What the socket is ready for (`datagram_poll`); `shut`: its halves that were shut down, reading and writing.
    pub fn poll(&self, core: &Core, [read, write]: [bool; 2]) -> Events {
        let mut events = core.ready(!self.is_empty());
        if core.has_error() || self.has_errors() || core.has_notice() {
            events |= Events::ERR;
            if core.has(flag::SELECT_ERR_QUEUE) {
                events |= Events::PRI;
            }
        }
        if read {
            events |= Events::IN | Events::RDNORM | Events::RDHUP;
        }
        if read && write {
            events |= Events::HUP;
        }
        events
    }

    /// Whether there is no packet.
    pub fn is_empty(&self) -> bool {
        self.inbox.lock().packets.is_empty()
    }

    /// Whether there is an error in the queue.
    pub fn has_errors(&self) -> bool {
        !self.errors.lock().is_empty()
    }

    /// Bytes of the first packet (`FIONREAD`).
    pub fn first_len(&self) -> usize {
        self.inbox.lock().packets.front().map_or(0, |p| p.data.len())
    }

    /// Bytes that the packets are charged with, and how many packets were lost.
    pub fn load(&self) -> (usize, u32) {
        let inbox = self.inbox.lock();
        (inbox.charged, inbox.dropped)
    }

    /// Everything goes.
    pub fn clear(&self) {
        let packets = core::mem::take(&mut *self.inbox.lock());
        drop(packets);
        let errors = core::mem::take(&mut *self.errors.lock());
        drop(errors);
    }

    /// Receives one packet; what there is no room for is lost, unless it is only looked at. `ended`: no more comes.
    ///
    /// # Errors
    /// The socket's own; `EAGAIN`, `EFAULT`, `ENOBUFS`.
    pub fn receive(
        &self,
        (core, ip): (&Core, &IpOptions),
        dst: &mut IoDst<'_>,
        flags: MsgFlags,
        out: &mut RecvMsg,
        ended: impl FnOnce() -> bool,
    ) -> Result<usize> {
        core.check_error()?;
        let peek = flags.contains(MsgFlags::PEEK);
        let (packet, from) = if peek { self.peek(core.peek_from())? } else { (self.pop(), 0) };
        let Some(packet) = packet else {
            return if ended() && !flags.contains(MsgFlags::DONTWAIT) { Ok(0) } else { Err(Errno::EAGAIN) };
        };
        // The packet is taken: no lock is held while it is copied.
        let n = copy_out(&packet.data, from, dst, out)?;
        core.peeked(n, !peek);
        self.describe((core, ip), &packet, out);
        Ok(n)
    }

    fn pop(&self) -> Option<Packet> {
        let mut inbox = self.inbox.lock();
        let packet = inbox.packets.pop_front()?;
        inbox.charged -= packet.charge();
        if inbox.packets.is_empty() && inbox.packets.capacity() > 16 {
            inbox.packets = VecDeque::default();
        }
        Some(packet)
    }

    /// A copy of the packet that has the byte `from` behind the first one's begin, and where in it that is.
    fn peek(&self, mut from: usize) -> Result<(Option<Packet>, usize)> {
        let inbox = self.inbox.lock();
        for p in &inbox.packets {
            if from == 0 || from < p.data.len() {
                return Ok((Some(Packet { data: copy(&p.data)?, heads: p.heads.clone(), ..*p }), from));
            }
            from -= p.data.len();
        }
        Ok((None, 0))
    }

    /// Address and control messages, in Linux's order.
    fn describe(&self, (core, ip): (&Core, &IpOptions), p: &Packet, out: &mut RecvMsg) {
        out.from = Some(p.from.to_sockaddr(core.family));
        if !out.wants_control {
            core.note_stamp(p.time);
            return;
        }
        core.tell_arrival(p.time, out);
        if core.has(flag::RXQ_OVFL) {
            let dropped = self.inbox.lock().dropped;
            if dropped > 0 {
                out.push_control(SOL_SOCKET, so::RXQ_OVFL, &dropped.to_ne_bytes());
            }
        }
        if core.has(flag::RCVMARK) {
            out.push_control(SOL_SOCKET, so::MARK, &p.mark.0.to_ne_bytes());
        }
        if core.has(flag::RCVPRIORITY) {
            out.push_control(SOL_SOCKET, so::PRIORITY, &p.mark.1.to_ne_bytes());
        }
        if core.family == af::INET6 {
            describe6(ip, p, out);
        }
        if p.to.ip.is_v4() {
            describe4(ip, p, out);
        }
        if p.segment != 0 {
            out.push_control(proto::UDP, UDP_GRO, &i32::from(p.segment).to_ne_bytes());
        }
    }

    /// Receives the oldest error with the packet that it is about (`ip_recv_error`).
    ///
    /// # Errors
    /// `EAGAIN`, `EFAULT`.
    pub fn receive_error(&self, core: &Core, dst: &mut IoDst<'_>, out: &mut RecvMsg) -> Result<usize> {
        /// `SO_EE_ORIGIN_ICMP`, `SO_EE_ORIGIN_ICMP6`.
        const ORIGINS: [u8; 2] = [2, 3];
        /// `SO_EE_ORIGIN_LOCAL`.
        const HERE: u8 = 1;
        let (returned, last) = {
            let mut errors = self.errors.lock();
            let returned = errors.pop_front();
            (returned, errors.is_empty())
        };
        let Some(returned) = returned else {
            return tell_notice(core, dst, out);
        };
        // The error is told here, so not once more by the next operation.
        if last {
            let _ = core.take_error();
        }
        let n = copy_out(&returned.data, 0, dst, out)?;
        let v4 = returned.to.ip.is_v4();
        out.flags |= MsgFlags::ERRQUEUE;
        out.from = Some(returned.to.to_sockaddr(core.family));
        let mut b = [0u8; 16 + 28];
        b[..4].copy_from_slice(&(returned.errno.raw() as u32).to_ne_bytes());
        b[4..7].copy_from_slice(&[ORIGINS[usize::from(!v4)], returned.icmp.0, returned.icmp.1]);
        let family = if v4 { af::INET } else { af::INET6 };
        let offender = Addr { ip: returned.to.ip, port: 0 }.to_sockaddr(family);
        if let Some(most) = returned.told {
            b[4] = HERE;
            b[8..12].copy_from_slice(&most.to_ne_bytes());
        } else {
            b[16..16 + offender.len()].copy_from_slice(offender.bytes());
        }
        let (level, kind) = if v4 { (proto::IP, ip4::RECVERR) } else { (proto::IPV6, ip6::RECVERR) };
        out.push_control(level, kind, &b[..16 + offender.len()]);
        Ok(n)
    }
}

/// Tells what the error queue has that is no error: when data left (`SO_EE_ORIGIN_TIMESTAMPING`), and that sends with
/// `MSG_ZEROCOPY` are over (`SO_EE_ORIGIN_ZEROCOPY`).
///
/// # Errors
/// `EAGAIN` where there is nothing, `EFAULT`.
pub fn tell_notice(core: &Core, dst: &mut IoDst<'_>, out: &mut RecvMsg) -> Result<usize> {
    /// The origins, and the code that says that data was copied after all.
    const TIME: u8 = 4;
    const ZEROCOPY: u8 = 5;
    const COPIED: u8 = 1;
    let mut b = [0u8; 16 + 28];
    let mut n = 0;
    let words = if let Some(note) = core.take_sent() {
        n = copy_out(&note.data, 0, dst, out)?;
        core.tell_departure(&note, out);
        b[..4].copy_from_slice(&(Errno::ENOMSG.raw() as u32).to_ne_bytes());
        b[4] = TIME;
        // The packet tells the family, if it is there.
        if core.family == af::INET6 && !note.data.is_empty() {
            b[16..18].copy_from_slice(&af::INET6.to_ne_bytes());
        }
        (note.what, note.key)
    } else {
        (b[4], b[6]) = (ZEROCOPY, COPIED);
        core.take_zerocopy().ok_or(Errno::EAGAIN)?
    };
    b[8..12].copy_from_slice(&words.0.to_ne_bytes());
    b[12..16].copy_from_slice(&words.1.to_ne_bytes());
    let (level, kind, len) = match core.family {
        af::INET => (proto::IP, ip4::RECVERR, 32),
        _ => (proto::IPV6, ip6::RECVERR, 44),
    };
    out.flags |= MsgFlags::ERRQUEUE;
    out.push_control(level, kind, &b[..len]);
    Ok(n)
}

fn copy_out(data: &[u8], from: usize, dst: &mut IoDst<'_>, out: &mut RecvMsg) -> Result<usize> {
    let n = (data.len() - from).min(dst.left());
    let put = if n == 0 { 0 } else { dst.put(&data[from..from + n])? };
    if put < n {
        return Err(Errno::EFAULT);
    }
    out.whole = data.len();
    if n < data.len() {
        out.flags |= MsgFlags::TRUNC;
    }
    Ok(n)
}

fn describe4(ip: &IpOptions, p: &Packet, out: &mut RecvMsg) {
    if ip.has(on::PKTINFO) {
        let mut b = [0u8; 12];
        b[..4].copy_from_slice(&1i32.to_ne_bytes());
        let local = if p.to.ip.is_multicast() || p.to.ip.is_broadcast() { p.from.ip } else { p.to.ip };
        b[4..8].copy_from_slice(&local.bits4().to_be_bytes());
        b[8..].copy_from_slice(&p.to.ip.bits4().to_be_bytes());
        out.push_control(proto::IP, ip4::PKTINFO, &b);
    }
    if ip.has(on::RECVTTL) {
        out.push_control(proto::IP, ip4::TTL, &i32::from(p.ttl).to_ne_bytes());
    }
    if ip.has(on::RECVTOS) {
        out.push_control(proto::IP, ip4::TOS, &[p.tos]);
    }
    if let Some(heads) = &p.heads {
        if ip.has(on::RECVOPTS) {
            out.push_control(proto::IP, ip4::RECVOPTS, &heads.bytes);
        }
        match &heads.back {
            Some(back) if ip.has(on::RETOPTS) => out.push_control(proto::IP, ip4::RETOPTS, back),
            None if ip.has(on::RETOPTS) => out.flags |= MsgFlags::CTRUNC,
            _ => {}
        }
    }
    if ip.has(on::ORIGDSTADDR) {
        out.push_control(proto::IP, ip4::ORIGDSTADDR, p.to.to_sockaddr(af::INET).bytes());
    }
}

/// `ip6_datagram_recv_common_ctl` and `ip6_datagram_recv_specific_ctl`: the second is for packets of version 6 only.
fn describe6(ip: &IpOptions, p: &Packet, out: &mut RecvMsg) {
    let mut info = [0u8; 20];
    info[..16].copy_from_slice(&p.to.ip.bytes());
    info[16..].copy_from_slice(&1u32.to_ne_bytes());
    if ip.has(on::PKTINFO6) {
        out.push_control(proto::IPV6, ip6::PKTINFO, &info);
    }
    if p.to.ip.is_v4() {
        return;
    }
    let mut tell = |bit: u64, kind: u32, data: &[u8]| {
        if ip.has(bit) {
            out.push_control(proto::IPV6, kind, data);
        }
    };
    let hops = i32::from(p.ttl).to_ne_bytes();
    tell(on::HOPLIMIT6, ip6::HOPLIMIT, &hops);
    tell(on::TCLASS6, ip6::TCLASS, &i32::from(p.tos).to_ne_bytes());
    let flow = u32::from(p.tos) << 20 | p.label;
    if flow != 0 {
        tell(on::FLOWINFO6, ip6::FLOWINFO, &flow.to_be_bytes());
    }
    let heads = || p.heads.iter().flat_map(|heads| headers::each(heads));
    let first = |number: u8| heads().find(move |(n, _)| *n == number).map(|(_, header)| header);
    if let Some(header) = first(next::HOP) {
        tell(on::HOPOPTS6, ip6::HOPOPTS, header);
    }
    for (number, header) in heads() {
        match number {
            next::DESTINATION => tell(on::DSTOPTS6, ip6::DSTOPTS, header),
            next::ROUTING => tell(on::RTHDR6, ip6::RTHDR, header),
            _ => {}
        }
    }
    tell(on::OLD_PKTINFO6, ip6::OLD_PKTINFO, &info);
    tell(on::OLD_HOPLIMIT6, ip6::OLD_HOPLIMIT, &hops);
    for (number, bit, kind) in [
        (next::HOP, on::OLD_HOPOPTS6, ip6::OLD_HOPOPTS),
        (next::ROUTING, on::OLD_RTHDR6, ip6::OLD_RTHDR),
        (next::DESTINATION, on::OLD_DSTOPTS6, ip6::OLD_DSTOPTS),
    ] {
        if let Some(header) = first(number) {
            tell(bit, kind, header);
        }
    }
    tell(on::ORIGDSTADDR6, ip6::RECVORIGDSTADDR, p.to.to_sockaddr(af::INET6).bytes());
}
