//! What happens to a packet that arrives at the loopback interface (`ip_local_deliver`): copies for those who look at
//! packets, then the protocol.

use super::mailbox::{Packet, copy};
use super::wire::{Datagram, UDP_HEAD, checksum_between};
use super::{dgram, icmp, proto, raw, tcp};
use crate::abi::Result;
use crate::net::NetNamespace;

/// Gives copies of a packet to raw sockets; whether one took it.
pub fn show(ns: &NetNamespace, d: &Datagram) -> bool {
    raw::deliver(ns, d)
}

/// Shows a datagram that a socket sends; it as a packet.
///
/// # Errors
/// `ENOBUFS`.
pub fn show_datagram(ns: &NetNamespace, protocol: u32, packet: &Packet) -> Result<Option<Datagram>> {
    let d = Datagram::of_udp(protocol as u8, packet)?;
    show(ns, &d);
    Ok(Some(d))
}

/// Takes in a packet that a raw socket or the kernel sent. One that nobody can have is lost, as it is where memory is
/// short.
pub fn arrive(ns: &NetNamespace, d: &Datagram) {
    let many = d.to.is_multicast() || d.to.is_broadcast();
    if !ns.loopback_is_up() || !many && !ns.is_local(d.to) {
        return;
    }
    let taken = show(ns, d);
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
    let packet = Packet { data, from, to, ttl: d.ttl, tos: d.tos, mark: (0, 0), segment: 0, time: 0 };
    if let Ok(Some(_)) = dgram::deliver(ns, u32::from(d.protocol), packet) {
        icmp::unreachable_port(ns, d);
    }
}
