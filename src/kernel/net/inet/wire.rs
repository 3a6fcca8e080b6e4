//! Packets as they would be on the wire: headers and checksums (RFC 791, RFC 8200, RFC 1071). They are made only where
//! somebody sees them: raw sockets, and sockets of the link layer.

use super::addr::{Addr, Ip};
use super::headers::{self, Shared};
use super::mailbox::Packet;
use crate::abi::{Errno, Result};
use crate::host::random;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes of the headers without options.
pub const HEAD4: usize = 20;
/// See [`HEAD4`].
pub const HEAD6: usize = 40;
/// Bytes of UDP's header.
pub const UDP_HEAD: usize = 8;

/// An IP packet.
pub struct Datagram {
    /// Source.
    pub from: Ip,
    /// Destination.
    pub to: Ip,
    /// What the payload is: `IPPROTO_*`.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Flow label, of version 6.
    pub label: u32,
    /// Options, or extension headers.
    pub heads: Shared,
    bytes: Vec<u8>,
    header: usize,
}

/// The ones' complement sum of 16-bit words (RFC 1071), not folded.
fn sum(bytes: &[u8]) -> u64 {
    let mut pairs = bytes.chunks_exact(2);
    let whole: u64 = pairs.by_ref().map(|p| u64::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    whole + pairs.remainder().first().map_or(0, |&b| u64::from(b) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of `bytes`; 0 where it is in them and right.
pub fn checksum(bytes: &[u8]) -> u16 {
    fold(sum(bytes))
}

/// As [`checksum`], with the addresses as transport protocols count them.
pub fn checksum_between(from: Ip, to: Ip, protocol: u8, bytes: &[u8]) -> u16 {
    let ends = if to.is_v4() {
        sum(&from.bits4().to_be_bytes()) + sum(&to.bits4().to_be_bytes())
    } else {
        sum(&from.bytes()) + sum(&to.bytes())
    };
    fold(ends + u64::from(protocol) + bytes.len() as u64 + sum(bytes))
}

/// The header of a datagram, without its checksum.
pub fn udp_head(p: &Packet) -> [u8; UDP_HEAD] {
    let mut head = [0; UDP_HEAD];
    let len = (UDP_HEAD + p.data.len()) as u16;
    for (at, word) in [p.from.port, p.to.port, len].into_iter().enumerate() {
        head[2 * at..2 * at + 2].copy_from_slice(&word.to_be_bytes());
    }
    head
}

impl Datagram {
    /// A packet with a header of its own.
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub fn new(ends: (Ip, Ip), protocol: u8, marks: (u8, u8), payload: &[u8]) -> Result<Datagram> {
        Datagram::with(ends, protocol, marks, (None, 0), payload)
    }

    /// As [`Datagram::new`], with options or extension headers and a flow label.
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub fn with(
        (from, to): (Ip, Ip),
        protocol: u8,
        (ttl, tos): (u8, u8),
        (heads, label): (Shared, u32),
        payload: &[u8],
    ) -> Result<Datagram> {
        let more = heads.as_ref().map_or(&[][..], |heads| &heads.bytes);
        let header = if to.is_v4() { HEAD4 } else { HEAD6 } + more.len();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(header + payload.len()).map_err(|_| Errno::ENOBUFS)?;
        bytes.resize(header - more.len(), 0);
        bytes.extend_from_slice(more);
        if to.is_v4() {
            bytes[0] = 0x40 | (header / 4) as u8;
            bytes[1] = tos;
            bytes[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
            bytes[4..6].copy_from_slice(&(random::next_u64() as u16).to_be_bytes());
            // "Don't fragment", as sockets have it that discover the path's MTU.
            bytes[6] = 0x40;
            bytes[8] = ttl;
            bytes[9] = protocol;
            bytes[12..16].copy_from_slice(&from.bits4().to_be_bytes());
            bytes[16..20].copy_from_slice(&to.bits4().to_be_bytes());
            let sum = checksum(&bytes);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            let first = 6 << 28 | u32::from(tos) << 20 | label;
            bytes[..4].copy_from_slice(&first.to_be_bytes());
            bytes[4..6].copy_from_slice(&((more.len() + payload.len()) as u16).to_be_bytes());
            bytes[6] = heads.as_ref().map_or(protocol, |heads| heads.first);
            bytes[7] = ttl;
            bytes[8..24].copy_from_slice(&from.bytes());
            bytes[24..40].copy_from_slice(&to.bytes());
        }
        bytes.extend_from_slice(payload);
        Ok(Datagram { from, to, protocol, ttl, tos, label, heads, bytes, header })
    }

    /// The packet as the kernel's own control messages are: it may be put into fragments.
    pub fn fragmentable(mut self) -> Datagram {
        if self.to.is_v4() {
            self.bytes[6] = 0;
            self.bytes[10..12].fill(0);
            let sum = checksum(&self.bytes[..self.header]);
            self.bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        self
    }

    /// A datagram of UDP or UDP-Lite, as a socket sent it.
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub fn of_udp(protocol: u8, p: &Packet) -> Result<Datagram> {
        let mut payload = Vec::new();
        let len = UDP_HEAD + p.data.len();
        payload.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
        payload.extend_from_slice(&udp_head(p));
        payload.extend_from_slice(&p.data);
        let sum = match checksum_between(p.from.ip, p.to.ip, protocol, &payload) {
            0 => u16::MAX,
            n => n,
        };
        payload[6..8].copy_from_slice(&sum.to_be_bytes());
        Datagram::with((p.from.ip, p.to.ip), protocol, (p.ttl, p.tos), (p.heads.clone(), p.label), &payload)
    }

    /// A packet that a program made, with its header. `None` where the interface would drop it; fragments too, since
    /// nothing puts them together.
    pub fn parse(bytes: Vec<u8>) -> Option<Datagram> {
        let b = &bytes[..];
        match b.first()? >> 4 {
            4 => {
                let header = usize::from(b[0] & 15) * 4;
                if b.len() < HEAD4 || header < HEAD4 || b.len() < header || checksum(&b[..header]) != 0 {
                    return None;
                }
                if b[6] & 0x3f != 0 || b[7] != 0 {
                    return None;
                }
                let ip = |at: usize| Ip::v4(u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]));
                let (from, to) = (ip(12), ip(16));
                let (tos, ttl, protocol) = (b[1], b[8], b[9]);
                let options = &b[HEAD4..header];
                let heads = (!options.is_empty()).then(|| Arc::new(headers::of_version4(options, to)));
                Some(Datagram { from, to, protocol, ttl, tos, label: 0, heads, bytes, header })
            }
            6 if b.len() >= HEAD6 && usize::from(u16::from_be_bytes([b[4], b[5]])) == b.len() - HEAD6 => {
                let ip = |at: usize| b[at..at + 16].try_into().map(Ip::from_bytes).ok();
                let (from, to) = (ip(8)?, ip(24)?);
                let (tos, ttl) = (b[0] << 4 | b[1] >> 4, b[7]);
                let label = u32::from_be_bytes([0, b[1] & 15, b[2], b[3]]);
                let (protocol, heads) = headers::split(b[6], &b[HEAD6..]);
                let header = HEAD6 + heads.bytes.len();
                let heads = (heads.lost || header > HEAD6).then(|| Arc::new(heads));
                Some(Datagram { from, to, protocol, ttl, tos, label, heads, bytes, header })
            }
            _ => None,
        }
    }

    /// It as a frame of the loopback interface.
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub fn as_frame(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        out.try_reserve_exact(14 + self.bytes.len()).map_err(|_| Errno::ENOBUFS)?;
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(if self.to.is_v4() { &[0x08, 0x00] } else { &[0x86, 0xdd] });
        out.extend_from_slice(&self.bytes);
        Ok(out)
    }

    /// What a socket gets of it: this data.
    pub fn packet(&self, data: Vec<u8>) -> Packet {
        let at = |ip| Addr { ip, port: 0 };
        Packet {
            data,
            from: at(self.from),
            to: at(self.to),
            ttl: self.ttl,
            tos: self.tos,
            label: self.label,
            heads: self.heads.clone(),
            mark: (0, 0),
            segment: 0,
            time: 0,
        }
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What follows the header.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.header..]
    }

    /// Whether its payload's checksum, counted with the addresses, is right.
    pub fn is_intact(&self) -> bool {
        checksum_between(self.from, self.to, self.protocol, self.payload()) == 0
    }

    /// Both ends with the ports that the payload begins with.
    pub fn ends(&self) -> Option<(Addr, Addr)> {
        let p = self.payload().get(..4)?;
        let port = |at: usize| u16::from_be_bytes([p[at], p[at + 1]]);
        Some((Addr { ip: self.from, port: port(0) }, Addr { ip: self.to, port: port(2) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_reads_as_it_was_made() {
        for (from, to) in [(Ip::LOOPBACK4, Ip::v4(0x7f00_0002)), (Ip::LOOPBACK6, Ip::LOOPBACK6)] {
            let made = Datagram::new((from, to), 99, (7, 0x2c), b"payload").expect("memory");
            let read = Datagram::parse(made.bytes().to_vec()).expect("a packet");
            assert_eq!((read.from, read.to, read.protocol, read.ttl, read.tos), (from, to, 99, 7, 0x2c));
            assert_eq!(read.payload(), b"payload");
            let mut bad = made.bytes().to_vec();
            bad[0] ^= 0x10;
            assert!(Datagram::parse(bad).is_none());
        }
    }

    #[test]
    fn checksums_are_those_of_the_rfc() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0x220d);
        let data = alloc::vec![1, 2, 3];
        let at = |port| Addr { ip: Ip::LOOPBACK6, port };
        let made = Datagram::new((Ip::LOOPBACK6, Ip::LOOPBACK6), 17, (64, 0), &[]).expect("memory");
        let p = Packet { from: at(1), to: at(2), ..made.packet(data) };
        assert!(Datagram::of_udp(17, &p).expect("memory").is_intact());
    }
}
