//! Control messages of both versions (RFC 792, RFC 4443): the kernel answers echo requests, and says where a packet
//! could not go.

use super::mailbox::copy;
use super::options4::Options4;
use super::wire::{Datagram, HEAD4, HEAD6, checksum, checksum_between};
use super::{input, proto, raw};
use crate::abi::Errno;
use crate::net::NetNamespace;
use crate::time;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

/// Bytes of a message's header.
pub const HEAD: usize = 8;
/// Messages of version 4.
mod v4 {
    pub const ECHO_REPLY: u8 = 0;
    pub const UNREACHABLE: u8 = 3;
    pub const ECHO: u8 = 8;
    pub const TIMESTAMP: u8 = 13;
    pub const TIMESTAMP_REPLY: u8 = 14;
    pub const PROTOCOL: u8 = 2;
    pub const PORT: u8 = 3;
}
/// Messages of version 6.
mod v6 {
    pub const UNREACHABLE: u8 = 1;
    pub const PARAMETER: u8 = 4;
    pub const ECHO: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
    pub const PORT: u8 = 4;
    pub const NEXT_HEADER: u8 = 1;
}
/// Most bytes of a packet that tells of an error.
const MOST4: usize = 576;
const MOST6: usize = 1280;
/// `IPTOS_PREC_INTERNETCONTROL`.
const CONTROL: u8 = 0xc0;

/// The type of an echo request.
pub fn echo_request(six: bool) -> u8 {
    if six { v6::ECHO } else { v4::ECHO }
}

/// Sets the checksum of a message.
pub fn seal(d: (super::addr::Ip, super::addr::Ip), message: &mut [u8]) {
    message[2..4].fill(0);
    let sum = if d.1.is_v4() { checksum(message) } else { checksum_between(d.0, d.1, proto::ICMPV6 as u8, message) };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Takes a message in (`icmp_rcv`, `icmpv6_rcv`).
pub fn receive(ns: &NetNamespace, d: &Datagram) {
    let m = d.payload();
    let right = if d.to.is_v4() { checksum(m) == 0 } else { d.is_intact() };
    if m.len() < HEAD || !right {
        return;
    }
    count(ns, d);
    match (d.to.is_v4(), m[0]) {
        (true, v4::ECHO) => reply(ns, d, v4::ECHO_REPLY),
        (true, v4::TIMESTAMP) if m.len() >= HEAD + 12 => reply(ns, d, v4::TIMESTAMP_REPLY),
        (false, v6::ECHO) => reply(ns, d, v6::ECHO_REPLY),
        (true, v4::ECHO_REPLY) | (false, v6::ECHO_REPLY) => raw::answer_ping(ns, d),
        _ => {}
    }
}

/// Counts a message for `/proc/net/snmp`.
fn count(ns: &NetNamespace, d: &Datagram) {
    if let Some(kind) = d.payload().first() {
        *ns.inet.messages.lock().entry((!d.to.is_v4(), *kind)).or_insert(0) += 1;
    }
}

/// Sends a request back as its answer.
fn reply(ns: &NetNamespace, d: &Datagram, kind: u8) {
    // Requests to all are not answered (`icmp_echo_ignore_broadcasts`).
    if d.to.is_multicast() || d.to.is_broadcast() {
        return;
    }
    let Ok(mut message) = copy(d.payload()) else { return };
    message[0] = kind;
    if kind == v4::TIMESTAMP_REPLY && d.to.is_v4() {
        let now = (time::now() / 1_000_000 % 86_400_000) as u32;
        message[12..16].copy_from_slice(&now.to_be_bytes());
        message[16..20].copy_from_slice(&now.to_be_bytes());
    }
    let ends = (d.to, d.from);
    seal(ends, &mut message);
    let ttl = if d.to.is_v4() { ns.inet.ttl.load(Relaxed) as u8 } else { 64 };
    // The options that came are turned round (`icmp_reply`).
    let back = d.heads.as_ref().filter(|_| d.to.is_v4()).and_then(|heads| heads.back.clone());
    let options = back.and_then(|b| Options4::new(b, true).ok()?);
    let heads = options.map(|o| Arc::new(o.arrive(ends.0, ends.1).into()));
    if let Ok(answer) = Datagram::with(ends, d.protocol, (ttl, d.tos), (heads, 0), &message) {
        input::arrive(ns, &answer.fragmentable());
    }
}

/// Nobody takes packets at that port.
pub fn unreachable_port(ns: &NetNamespace, d: &Datagram) {
    let what = if d.to.is_v4() { (v4::UNREACHABLE, v4::PORT) } else { (v6::UNREACHABLE, v6::PORT) };
    tell(ns, d, what, Errno::ECONNREFUSED, 0);
}

/// Nobody takes packets of that protocol.
pub fn unknown_protocol(ns: &NetNamespace, d: &Datagram) {
    if d.to.is_v4() {
        tell(ns, d, (v4::UNREACHABLE, v4::PROTOCOL), Errno::ENOPROTOOPT, 0);
    } else {
        // The place of the number that is not known.
        tell(ns, d, (v6::PARAMETER, v6::NEXT_HEADER), Errno::EPROTO, 6);
    }
}

/// Sends an error about a packet to its sender (`icmp_send`).
fn tell(ns: &NetNamespace, about: &Datagram, (kind, code): (u8, u8), errno: Errno, pointer: u32) {
    if about.to.is_multicast() || about.to.is_broadcast() || !ns.is_local(about.from) {
        return;
    }
    let four = about.to.is_v4();
    let room = if four { MOST4 - HEAD4 } else { MOST6 - HEAD6 } - HEAD;
    let quoted = &about.bytes()[..about.bytes().len().min(room)];
    let mut message = alloc::vec::Vec::new();
    if message.try_reserve_exact(HEAD + quoted.len()).is_err() {
        return;
    }
    message.extend_from_slice(&[kind, code, 0, 0]);
    message.extend_from_slice(&pointer.to_be_bytes());
    message.extend_from_slice(quoted);
    let ends = (about.to, about.from);
    seal(ends, &mut message);
    let tos = if four { about.tos & 0x1e | CONTROL } else { 0 };
    let protocol = if four { proto::ICMP } else { proto::ICMPV6 };
    let ttl = if four { ns.inet.ttl.load(Relaxed) as u8 } else { 64 };
    if let Ok(d) = Datagram::new(ends, protocol as u8, (ttl, tos), &message) {
        count(ns, &d);
        input::show(ns, &d.fragmentable());
    }
    raw::report(ns, about, (kind, code), errno);
}
