//! What happens to a packet that arrives at the loopback interface (`ip_local_deliver`): copies for those who look at
//! packets, then the protocol.

use super::mailbox::{Packet, copy};
use super::wire::{Datagram, UDP_HEAD, checksum_between};
use super::{dgram, icmp, proto, raw, tcp};
use crate::abi::Result;
use crate::net::NetNamespace;
use crate::net::packet;
use alloc::vec::Vec;

/// Who has seen a packet already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Nobody.
    ByNobody,
    /// Sockets of the link layer.
    ByTheLinkLayer,
}

/// Gives copies of a packet to sockets of the link layer and to raw sockets; whether one of these took it.
pub fn show(ns: &NetNamespace, d: &Datagram) -> bool {
    packet::show(ns, d.bytes());
    raw::deliver(ns, d)
}

/// Shows a datagram that a socket sends; it as a packet.
///
/// # Errors
/// `ENOBUFS`.
pub fn show_datagram(ns: &NetNamespace, protocol: u32, packet: &Packet) -> Result<Option<Datagram>> {
    let d = Datagram::of_udp(protocol as u8, packet)?;
    packet::show(ns, d.bytes());
    if !d.heads.as_ref().is_some_and(|heads| heads.lost) {
        raw::deliver(ns, &d);
    }
    Ok(Some(d))
}

/// Takes in a packet that a raw socket or the kernel sent. One that nobody can have is lost, as it is where memory is
/// short.
pub fn arrive(ns: &NetNamespace, d: &Datagram) {
    take_in(ns, d, Seen::ByNobody);
}

/// Takes in a packet that a socket of the link layer sent. The loopback addresses of version 4 are no addresses there
/// (`ip_route_input_slow`: martians).
pub fn arrive_from_link(ns: &NetNamespace, bytes: Vec<u8>, seen: Seen) {
    let Some(d) = Datagram::parse(bytes) else { return };
    if !(d.to.is_v4() && (d.from.is_loopback() || d.to.is_loopback())) {
        take_in(ns, &d, seen);
    }
}

fn take_in(ns: &NetNamespace, d: &Datagram, seen: Seen) {
    let many = d.to.is_multicast() || d.to.is_broadcast();
    if !ns.loopback_is_up() || !many && !ns.is_local(d.to) {
        return;
    }
    if d.heads.as_ref().is_some_and(|heads| heads.lost) {
        return;
    }
    let taken = match seen {
        Seen::ByNobody => {
            ns.count_passed(1, d.bytes().len() as u64);
            show(ns, d)
        }
        Seen::ByTheLinkLayer => raw::deliver(ns, d),
    };
    match u32::from(d.protocol) {
        proto::ICMP if d.to.is_v4() => icmp::receive(ns, d),
        proto::ICMPV6 if !d.to.is_v4() => icmp::receive(ns, d),
        proto::UDP | proto::UDPLITE => udp(ns, d),
        tcp::PROTOCOL => tcp::answer_segment(ns, d),
        _ if taken || many => {}
        _ => icmp::unknown_protocol(ns, d),
    }
}

/// Gives the data of a packet that was made by hand to the socket that it is for.
fn udp(ns: &NetNamespace, d: &Datagram) {
    let payload = d.payload();
    let Some((from, to)) = d.ends().filter(|_| payload.len() >= UDP_HEAD) else { return };
    let len = usize::from(u16::from_be_bytes([payload[4], payload[5]]));
    if len < UDP_HEAD || len > payload.len() || to.port == 0 {
        return;
    }
    let none = payload[6..8] == [0, 0];
    let right = || checksum_between(d.from, d.to, d.protocol, &payload[..len]) == 0;
    if u32::from(d.protocol) == proto::UDP && !(none && d.to.is_v4() || right()) {
        return;
    }
    let Ok(data) = copy(&payload[UDP_HEAD..len]) else { return };
    let packet = Packet { from, to, ..d.packet(data) };
    if let Ok(Some(_)) = dgram::deliver(ns, u32::from(d.protocol), packet) {
        icmp::unreachable_port(ns, d);
    }
}
