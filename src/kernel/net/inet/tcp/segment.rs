//! Segments that raw sockets send. Connections have no segments, so one that belongs to a connection is ignored; else
//! the answer is what a port that is open or closed gives (RFC 9293, 3.10.7).

use crate::host::random;
use crate::net::NetNamespace;
use crate::net::inet::addr::{Addr, Ip};
use crate::net::inet::input;
use crate::net::inet::wire::{Datagram, checksum_between};
use core::sync::atomic::Ordering::Relaxed;

/// Bytes of a header without options.
const HEAD: usize = 20;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Whether a socket listens at an address.
fn is_open(ns: &NetNamespace, at: Addr) -> bool {
    let ports = ns.inet.tcp.lock();
    ports.claims(at.port).iter().any(|c| {
        let all = c.ip.is_any() && (c.ip.is_v4() == at.ip.is_v4() || c.ip == Ip::ANY6 && !c.v6only);
        c.listening.load(Relaxed) && (c.ip == at.ip || all)
    })
}

/// Answers a segment.
pub fn answer_segment(ns: &NetNamespace, d: &Datagram) {
    let s = d.payload();
    let Some((from, to)) = d.ends().filter(|_| s.len() >= HEAD && d.is_intact()) else { return };
    let word = |at: usize| u32::from_be_bytes([s[at], s[at + 1], s[at + 2], s[at + 3]]);
    let (sequence, acknowledged, head, bits) = (word(4), word(8), usize::from(s[12] >> 4) * 4, s[13]);
    let known = ns.inet.tcp.lock().connections.contains_key(&(to, from));
    if bits & RST != 0 || known || head < HEAD || head > s.len() {
        return;
    }
    let used = (s.len() - head) as u32 + u32::from(bits & SYN != 0) + u32::from(bits & FIN != 0);
    let open = is_open(ns, to);
    let (own, next, bits, window) = match bits & (SYN | ACK) {
        SYN if open => (random::next_u64() as u32, sequence.wrapping_add(1), SYN | ACK, u16::MAX),
        // A listener ignores what neither opens a connection nor acknowledges one.
        0 if open => return,
        b if b & ACK != 0 => (acknowledged, 0, RST, 0),
        _ => (0, sequence.wrapping_add(used), RST | ACK, 0),
    };
    let mut out = [0u8; HEAD];
    out[..2].copy_from_slice(&to.port.to_be_bytes());
    out[2..4].copy_from_slice(&from.port.to_be_bytes());
    out[4..8].copy_from_slice(&own.to_be_bytes());
    out[8..12].copy_from_slice(&next.to_be_bytes());
    out[12] = (HEAD as u8 / 4) << 4;
    out[13] = bits;
    out[14..16].copy_from_slice(&window.to_be_bytes());
    let sum = checksum_between(d.to, d.from, d.protocol, &out);
    out[16..18].copy_from_slice(&sum.to_be_bytes());
    if let Ok(answer) = Datagram::new((d.to, d.from), d.protocol, (ns.inet.ttl.load(Relaxed) as u8, 0), &out) {
        input::show(ns, &answer);
    }
}
