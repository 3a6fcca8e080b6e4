//! Segments that raw sockets send, and those that are made for sockets that look at packets. Connections have no segments,
//! so one that belongs to a connection is ignored; else the answer is what a port that is open or closed gives (RFC 9293,
//! 3.10.7).

use super::Tcp;
use super::end::End;
use super::stream::Parcel;
use crate::host::random;
use crate::net::NetNamespace;
use crate::net::inet::addr::{Addr, Ip};
use crate::net::inet::input;
use crate::net::inet::wire::{Datagram, checksum_between};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// Bytes of a header without options.
const HEAD: usize = 20;
/// Flags of a segment.
pub(super) const FIN: u8 = 1;
/// See [`FIN`].
pub(super) const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
/// See [`FIN`].
pub(super) const ACK: u8 = 16;

/// A header without options, whose checksum is still to be filled in. `numbers`: of its first byte, and of the one that is
/// awaited.
pub(super) fn header((from, to): (u16, u16), numbers: (u32, u32), bits: u8, window: u16) -> [u8; HEAD] {
    let mut out = [0u8; HEAD];
    out[..2].copy_from_slice(&from.to_be_bytes());
    out[2..4].copy_from_slice(&to.to_be_bytes());
    out[4..8].copy_from_slice(&numbers.0.to_be_bytes());
    out[8..12].copy_from_slice(&numbers.1.to_be_bytes());
    out[12] = (HEAD as u8 / 4) << 4;
    out[13] = bits;
    out[14..16].copy_from_slice(&window.to_be_bytes());
    out
}

/// Fills the checksum in and shows the segment to whoever looks; `marks`: how far it goes, and its type of service.
fn show(ns: &NetNamespace, (from, to): (Ip, Ip), marks: (u8, u8), segment: &mut [u8]) {
    let protocol = super::PROTOCOL as u8;
    let sum = checksum_between(from, to, protocol, segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    if let Ok(d) = Datagram::new((from, to), protocol, marks, segment) {
        input::show(ns, &d);
    }
}

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
    let known = ns.inet.tcp.lock().is_connected(to, from);
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
    let mut out = header((to.port, from.port), (own, next), bits, window);
    show(ns, (d.to, d.from), (ns.inet.ttl.load(Relaxed) as u8, 0), &mut out);
}

/// Where the numbering of the bytes that go from one end to the other begins.
fn origin((from, to): (Addr, Addr)) -> u32 {
    let mixed = |a: Addr| {
        let bytes = a.ip.bytes().into_iter().chain(a.port.to_be_bytes());
        bytes.fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
    };
    mixed(from).rotate_left(9) ^ mixed(to)
}

impl Tcp {
    /// Whether somebody looks at packets: only then segments are made.
    pub(super) fn is_watched(&self) -> bool {
        self.core.ns.inet.raw.is_watched()
    }

    /// Shows a segment between two ends. `at`: how many bytes went before, and how many came.
    pub(super) fn show_segment(&self, ends: (Addr, Addr), bits: u8, at: (u64, u64), data: &[u8]) {
        let (from, to) = ends;
        let mut out = Vec::new();
        if out.try_reserve_exact(HEAD + data.len()).is_err() {
            return;
        }
        // The first number of each direction is that of the SYN.
        let begun = u32::from(bits & SYN == 0);
        let own = origin(ends).wrapping_add(begun).wrapping_add(at.0 as u32);
        let next = if bits & ACK == 0 { 0 } else { origin((to, from)).wrapping_add(1).wrapping_add(at.1 as u32) };
        out.extend_from_slice(&header((from.port, to.port), (own, next), bits, u16::MAX));
        out.extend_from_slice(data);
        let ns = &self.core.ns;
        let marks = (self.ip.ttl_for(ns, to.ip), self.ip.tos_for(to.ip));
        show(ns, (from.ip, to.ip), marks, &mut out);
    }

    /// Shows how a connection is made, or refused.
    pub(super) fn show_opening(&self, (from, to): (Addr, Addr), refused: bool) {
        if !self.is_watched() {
            return;
        }
        self.show_segment((from, to), SYN, (0, 0), &[]);
        if refused {
            return self.show_segment((to, from), RST | ACK, (0, 0), &[]);
        }
        self.show_segment((to, from), SYN | ACK, (0, 0), &[]);
        self.show_segment((from, to), ACK, (0, 0), &[]);
    }

    /// Shows data on its way, and that it has come.
    pub(super) fn show_data(&self, (from, to): (Addr, Addr), peer: &End, parcel: &Parcel) {
        let (mut sent, came) = self.counts(Some(peer));
        for piece in parcel.pieces() {
            self.show_segment((from, to), PSH | ACK, (sent, came), piece);
            sent += piece.len() as u64;
        }
        self.show_segment((to, from), ACK, (came, sent), &[]);
    }

    /// Shows the end of one direction, or of the connection (`RST`).
    pub(super) fn show_end(&self, (from, to): (Addr, Addr), peer: &End, reset: bool) {
        if !self.is_watched() {
            return;
        }
        let (sent, came) = self.counts(Some(peer));
        self.show_segment((from, to), if reset { RST | ACK } else { FIN | ACK }, (sent, came), &[]);
        if !reset {
            self.show_segment((to, from), ACK, (came, sent + 1), &[]);
        }
    }

    /// Bytes that went to the peer and that came.
    pub(super) fn counts(&self, peer: Option<&End>) -> (u64, u64) {
        let sent = peer.map_or(0, |p| p.inbox.lock().stream.end());
        let inbox = self.end.inbox.lock();
        (sent, inbox.stream.end() + u64::from(inbox.fin))
    }
}
