//! Whom a packet is for.

use super::Dgram;
use crate::abi::{Errno, Result};
use crate::net::NetNamespace;
use crate::net::inet::addr::{Addr, Ip};
use crate::net::inet::mailbox::{Packet, Returned, copy};
use crate::net::inet::options::on;
use crate::net::inet::ports::Ports;
use crate::net::inet::proto;
use crate::net::inet::wire::{UDP_HEAD, udp_head};
use crate::net::socket::{filter, flag};
use crate::sync::{Events, Mutex};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

type Table = Mutex<Ports<Weak<Dgram>>>;

/// The ports of UDP or UDP-Lite.
pub(super) fn ports(ns: &NetNamespace, protocol: u32) -> &Table {
    if protocol == proto::UDPLITE { &ns.inet.udplite } else { &ns.inet.udp }
}

/// Gives a packet to whom it is for. It comes back where nobody takes packets at that address.
///
/// # Errors
/// `ENOBUFS`.
pub fn deliver(ns: &NetNamespace, protocol: u32, packet: Packet) -> Result<Option<Packet>> {
    let (from, to) = (packet.from, packet.to);
    let table = ports(ns, protocol);
    if to.ip.is_multicast() || to.ip.is_broadcast() {
        for receiver in receivers(ns, table, from, to)? {
            receiver.take_in(Packet { data: copy(&packet.data)?, heads: packet.heads.clone(), ..packet });
        }
        return Ok(None);
    }
    match receiver(table, from, to, &packet.data)? {
        Some(receiver) => receiver.take_in(packet),
        None => return Ok(Some(packet)),
    }
    Ok(None)
}

/// The sockets bound to a port, the youngest first, with their address.
fn at_port(table: &Table, port: u16) -> Result<Vec<(Arc<Dgram>, Ip, bool)>> {
    let ports = table.lock();
    let claims = ports.claims(port);
    let mut out = Vec::new();
    out.try_reserve_exact(claims.len()).map_err(|_| Errno::ENOBUFS)?;
    for c in claims.iter().rev() {
        if let Some(socket) = c.owner.upgrade() {
            out.push((socket, c.ip, c.v6only));
        }
    }
    Ok(out)
}

/// The one socket that a packet to a single address is for.
fn receiver(table: &Table, from: Addr, to: Addr, data: &[u8]) -> Result<Option<Arc<Dgram>>> {
    // Nearly always there is one socket at a port: no list has to be made.
    let only = {
        let ports = table.lock();
        match ports.claims(to.port) {
            [] => return Ok(None),
            [one] => Some((one.owner.upgrade(), one.ip, one.v6only)),
            _ => None,
        }
    };
    if let Some((socket, ip, only6)) = only {
        return Ok(socket.filter(|s| s.score((ip, only6), from, to).is_some()));
    }
    let mut best: Option<(u32, Arc<Dgram>)> = None;
    let mut group = Vec::new();
    for (socket, ip, only6) in at_port(table, to.port)? {
        let Some(score) = socket.score((ip, only6), from, to) else { continue };
        if best.as_ref().is_none_or(|(b, _)| score > *b) {
            group.clear();
            best = Some((score, socket.clone()));
        }
        if socket.core.has(flag::REUSEPORT) && best.as_ref().is_some_and(|(b, _)| score == *b) {
            group.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
            group.push(socket);
        }
    }
    if group.len() < 2 {
        return Ok(best.map(|(_, s)| s));
    }
    // Several that share the port: in the order in which they were bound.
    group.reverse();
    let which = filter::choose(group.iter().map(|s| &s.core), data, spread(from, to));
    Ok(group.into_iter().nth(which))
}

/// Where packets between two ends fall among sockets that share a port: always on the same one.
fn spread(from: Addr, to: Addr) -> u64 {
    mixed(from) ^ mixed(to).rotate_left(17)
}

fn mixed(a: Addr) -> u64 {
    let ip = a.ip.bytes().iter().fold(0u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (ip ^ u64::from(a.port)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

/// Every socket that a packet to a group or to all is for.
fn receivers(ns: &NetNamespace, table: &Table, from: Addr, to: Addr) -> Result<Vec<Arc<Dgram>>> {
    // The interface takes packets to a group in only while somebody is a member.
    if to.ip.is_multicast() && !ns.inet.members.lock().contains_key(&to.ip) {
        return Ok(Vec::new());
    }
    let mut all = at_port(table, to.port)?;
    all.retain(|(s, ip, only6)| {
        let every = s.ip.has(if to.ip.is_v4() { on::ALL } else { on::ALL6 });
        let member = || s.ip.groups().lock().allows(to.ip, from.ip, every);
        s.score((*ip, *only6), from, to).is_some() && (!to.ip.is_multicast() || member())
    });
    Ok(all.into_iter().map(|(s, _, _)| s).collect())
}

impl Dgram {
    /// How well this socket fits a packet (`compute_score`); `None`: it is not for it.
    fn score(&self, (ip, v6only): (Ip, bool), from: Addr, to: Addr) -> Option<u32> {
        let mut score = 1;
        if ip == to.ip {
            score += 4;
        } else if !ip.is_any() || to.ip.is_v4() && !ip.is_v4() && v6only || !to.ip.is_v4() && ip.is_v4() {
            return None;
        }
        if ip.is_v4() == to.ip.is_v4() {
            score += 1;
        }
        match self.state.lock().remote {
            Some(remote) if remote != from => None,
            Some(_) => Some(score + 4),
            None => Some(score),
        }
    }

    /// Takes in one packet, or the datagrams that it is made of where the socket does not take them as one
    /// (`UDP_GRO`).
    fn take_in(&self, mut packet: Packet) {
        let segment = usize::from(packet.segment);
        if segment == 0 || self.gro.load(Relaxed) != 0 {
            return self.take_in_one(packet);
        }
        packet.segment = 0;
        for part in packet.data.chunks(segment) {
            // Where memory is short the rest is lost.
            let Ok(data) = copy(part) else { return };
            self.take_in_one(Packet { data, heads: packet.heads.clone(), ..packet });
        }
    }

    fn take_in_one(&self, packet: Packet) {
        let head = if self.core.has(flag::ATTACH_FILTER) { udp_head(&packet) } else { [0; UDP_HEAD] };
        if self.mail.take_in(&self.core, &head, packet) {
            self.core.ns.inet.datagrams[0].fetch_add(1, Relaxed);
            self.queue.wake(Events::IN | Events::RDNORM);
        }
    }

    /// Nobody takes packets at `to`: as an ICMP message tells the sender.
    pub(super) fn unreachable(&self, data: Vec<u8>, to: Addr) {
        self.core.ns.inet.datagrams[2].fetch_add(1, Relaxed);
        // An error about what a connected socket has sent elsewhere finds no socket.
        let remote = self.state.lock().remote;
        if remote.is_some_and(|r| r != to) {
            return;
        }
        let queued = self.ip.has(if to.ip.is_v4() { on::RECVERR } else { on::RECVERR6 });
        if queued {
            let icmp = if to.ip.is_v4() { (3, 3) } else { (1, 4) };
            self.mail.take_error(Returned { data, to, icmp, errno: Errno::ECONNREFUSED, told: None });
        }
        if queued || remote.is_some() {
            self.core.set_error(Errno::ECONNREFUSED);
            self.queue.wake(Events::ERR | Events::IN | Events::OUT);
        }
    }
}
