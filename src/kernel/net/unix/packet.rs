//! What waits in a socket's queue, and what its sender is charged for it.
//!
//! The charge is Linux's: the memory that a `struct sk_buff` for so many bytes takes, bookkeeping
//! included (`truesize`). So as many packets, also tiny ones, fit into `SO_SNDBUF` as there, and
//! `SIOCOUTQ` says the same.

use super::flight::InFlight;
use super::sock::Sock;
use crate::abi::{Errno, Result};
use crate::mm::IoSrc;
use crate::net::socket::Ucred;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Data of at most so many bytes lies in the packet itself.
const SMALL: usize = 40;
/// Page size, bytes.
const PAGE: usize = 4096;
/// Most bytes of a stream's packet in one page of head (`SKB_MAX_HEAD(0)`).
const STREAM_HEAD: usize = 3776;
/// Most bytes of a datagram in one piece of head (`SKB_MAX_ALLOC`).
const PACKET_HEAD: usize = 16064;
/// Most bytes that one `sk_buff` of a stream has.
const STREAM_PIECE: usize = STREAM_HEAD + 32768;

/// The charge for a head of `n` bytes: a power of two that also holds the shared info (320 bytes), and the
/// `sk_buff` itself (256).
fn head(n: usize) -> usize {
    (n + 320).next_power_of_two().max(512) + 256
}

fn charge(n: usize, in_head: usize) -> usize {
    if n <= in_head {
        return head(n);
    }
    let pages = (n - in_head).next_multiple_of(PAGE);
    head(n - pages.min(n)) + pages
}

/// The charge for a datagram or sequenced packet of `n` bytes.
pub(super) fn packet_charge(n: usize) -> usize {
    charge(n, PACKET_HEAD)
}

/// How many of `left` bytes a stream's sender may queue at once, and the charge for them; `used` of
/// `buffer` bytes are charged already. The bytes lie in one packet here, and in pieces of at most
/// [`STREAM_PIECE`] or half the buffer in Linux, each of which is sent while the charge is below the buffer.
pub(super) fn stream_share(left: usize, used: usize, buffer: usize) -> (usize, usize) {
    /// Most bytes of one packet: a copy that goes on while the reader takes the packet before.
    const MOST: usize = 64 << 10;
    let piece = STREAM_PIECE.min((buffer / 2).saturating_sub(64).max(1));
    let (mut bytes, mut charged) = (0, 0);
    while bytes < left && used + charged < buffer {
        let n = (left - bytes).min(piece);
        if bytes > 0 && bytes + n > MOST {
            break;
        }
        bytes += n;
        charged += charge(n, STREAM_HEAD);
    }
    (bytes, charged)
}

/// The bytes of a packet.
enum Data {
    Small(u8, [u8; SMALL]),
    Large(Vec<u8>),
}

/// Memory that a sender is charged for until the packet is gone.
struct Charge {
    owner: Arc<Sock>,
    size: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.owner.give_back(self.size);
    }
}

/// What one send put into a queue.
pub(super) struct Packet {
    /// Tells it from others of its queue.
    pub seq: u64,
    data: Data,
    /// Bytes that were taken (streams).
    at: usize,
    /// Who sent it, where one of both sides wants to know.
    pub who: Option<Ucred>,
    /// Files that come with it.
    pub files: Option<InFlight>,
    /// It was peeked at ([`SO_PEEK_OFF`](https://man7.org/linux/man-pages/man7/socket.7.html) and empty packets).
    pub peeked: bool,
    /// When it was sent, ns since the epoch; 0 where nobody asked.
    pub stamp: i64,
    charge: Charge,
}

impl Packet {
    /// Takes `len` bytes from `src`; `owner` is charged `size` for them. It happens under no lock.
    ///
    /// # Errors
    /// `EFAULT`, `ENOBUFS`.
    pub fn take(owner: Arc<Sock>, src: &mut IoSrc<'_>, len: usize, size: usize) -> Result<Packet> {
        crate::arena::charge_bytes(crate::arena::Object::Packet, len as u64)?;
        let data = if len <= SMALL {
            let mut bytes = [0; SMALL];
            if len > 0 && src.take(&mut bytes[..len])? < len {
                return Err(Errno::EFAULT);
            }
            Data::Small(len as u8, bytes)
        } else {
            let bytes = src.take_vec(len)?;
            if bytes.len() < len {
                return Err(Errno::EFAULT);
            }
            Data::Large(bytes)
        };
        owner.take_room(size);
        let charge = Charge { owner, size };
        Ok(Packet { seq: 0, data, at: 0, who: None, files: None, peeked: false, stamp: 0, charge })
    }

    /// The bytes that were not taken yet.
    pub fn rest(&self) -> &[u8] {
        match &self.data {
            Data::Small(n, bytes) => &bytes[self.at..usize::from(*n)],
            Data::Large(bytes) => &bytes[self.at..],
        }
    }

    /// Cuts what is behind the first `n` bytes off.
    pub fn truncate(&mut self, n: usize) {
        match &mut self.data {
            Data::Small(len, _) => *len = (*len).min(n.min(SMALL) as u8),
            Data::Large(bytes) => bytes.truncate(n),
        }
    }

    /// How many bytes were not taken yet.
    pub fn left(&self) -> usize {
        self.rest().len()
    }

    /// The next `n` bytes were taken.
    pub fn advance(&mut self, n: usize) {
        self.at += n;
    }

    /// Who sent it.
    pub fn owner(&self) -> &Arc<Sock> {
        &self.charge.owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_linuxs() {
        // Measured with SIOCOUTQ on Linux 6.18.
        for (n, packet, stream) in [
            (1, 768, 768),
            (192, 768, 768),
            (193, 1280, 1280),
            (3776, 4352, 4352),
            (3777, 8448, 4864),
            (5000, 8448, 6400),
            (16064, 16640, 16640),
            (16065, 20736, 17152),
            (40000, 41216, 41472),
            (48832, 49408, 50176),
        ] {
            assert_eq!(packet_charge(n), packet, "packet of {n}");
            assert_eq!(stream_share(n, 0, 2 << 20), (n, stream), "stream of {n}");
        }
    }

    #[test]
    fn a_stream_takes_pieces_while_there_is_room() {
        assert_eq!(stream_share(100, 212_991, 212_992), (100, 768));
        assert_eq!(stream_share(100, 212_992, 212_992), (0, 0));
        let (n, _) = stream_share(1 << 20, 0, 212_992);
        assert_eq!(n, STREAM_PIECE);
        assert_eq!(stream_share(5000, 0, 4608), (2 * 2240, 2 * 4352));
    }
}
