//! What stands between the header of a packet and its payload: options of version 4 ([`options4`](super::options4)), and
//! the extension headers of version 6 (RFC 8200), which options make stick (RFC 3542).

use super::addr::Ip;
use super::options4::{self, Arrived};
use crate::abi::{Errno, Result};
use crate::cred::{Cred, cap};
use crate::net::NetNamespace;
use crate::net::socket::OptionValue;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The numbers of extension headers.
pub mod next {
    /// Options for every hop.
    pub const HOP: u8 = 0;
    /// A route.
    pub const ROUTING: u8 = 43;
    /// Options for the destination.
    pub const DESTINATION: u8 = 60;
}

/// The headers of one packet.
#[derive(Default)]
pub struct Heads {
    /// The number of the first one; of version 6 only.
    pub first: u8,
    /// They as on the wire.
    pub bytes: Vec<u8>,
    /// Of version 4: see [`Arrived::back`].
    pub back: Option<Vec<u8>>,
    /// The packet goes no further.
    pub lost: bool,
}

impl From<Arrived> for Heads {
    fn from(a: Arrived) -> Heads {
        Heads { first: 0, bytes: a.bytes, back: a.back, lost: a.lost }
    }
}

/// The extension headers that a socket or a send has: for hops, for the destination, and for the destinations of a
/// route, which are sent with a route only.
#[derive(Clone, Default)]
pub struct Extensions {
    /// `IPV6_HOPOPTS`.
    pub hop: Vec<u8>,
    /// `IPV6_DSTOPTS`.
    pub destination: Vec<u8>,
    /// `IPV6_RTHDRDSTOPTS`.
    pub on_route: Vec<u8>,
}

/// Bytes of an extension header as it says itself.
fn len_of(header: &[u8]) -> Option<usize> {
    Some((usize::from(*header.get(1)?) + 1) * 8)
}

/// Reads the value of an option that makes a header stick (`ipv6_set_opt_hdr`); empty: none.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn read(value: OptionValue) -> Result<Vec<u8>> {
    let len = value.len as usize;
    if len == 0 {
        return Ok(Vec::new());
    }
    if value.at.is_null() || len > i32::MAX as usize || !len.is_multiple_of(8) || len > 8 * 255 {
        return Err(Errno::EINVAL);
    }
    let bytes = value.bytes(len)?;
    if len_of(&bytes).is_none_or(|n| n > len) { Err(Errno::EINVAL) } else { Ok(bytes) }
}

/// The header that a control message has (`ip6_datagram_send_ctl`).
///
/// # Errors
/// `EINVAL`; `EPERM` without `CAP_NET_RAW`.
pub fn of_message(ns: &NetNamespace, cred: &Cred, data: &[u8]) -> Result<Vec<u8>> {
    let header = len_of(data).and_then(|n| data.get(..n)).ok_or(Errno::EINVAL)?;
    if ns.may(cred, cap::NET_RAW) { Ok(header.to_vec()) } else { Err(Errno::EPERM) }
}

/// The bytes of a header that were set, as far as it reaches.
pub fn told(header: &[u8]) -> Vec<u8> {
    header[..len_of(header).unwrap_or(0).min(header.len())].to_vec()
}

/// What becomes of a packet with options of version 6 (`ip6_parse_tlv`): whether it goes on.
fn passes(header: &[u8], for_hops: bool) -> bool {
    /// Most options that count, and most bytes of padding between two.
    const MOST: usize = 8;
    const PADDING: usize = 7;
    let (mut at, mut count, mut padding) = (2, 0, 0);
    while at < header.len() {
        let kind = header[at];
        if kind == 0 {
            at += 1;
            padding += 1;
            if padding > PADDING {
                return false;
            }
            continue;
        }
        let Some(len) = header.get(at + 1).map(|n| usize::from(*n) + 2) else { return false };
        let Some(option) = header.get(at..at + len) else { return false };
        if kind == 1 {
            padding += len;
            if padding > PADDING || option[2..].iter().any(|&b| b != 0) {
                return false;
            }
        } else {
            padding = 0;
            count += 1;
            let alert = for_hops && kind == 5;
            if count > MOST || alert && len != 4 || !alert && kind >> 6 != 0 {
                return false;
            }
        }
        at += len;
    }
    true
}

impl Extensions {
    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.hop.is_empty() && self.destination.is_empty() && self.on_route.is_empty()
    }

    /// They as on the wire in front of a payload of this protocol; `None`: nothing is to be sent.
    pub fn on_wire(&self, protocol: u8) -> Option<Heads> {
        let all = [(next::HOP, told(&self.hop)), (next::DESTINATION, told(&self.destination))];
        let mut all: Vec<(u8, Vec<u8>)> = all.into_iter().filter(|(_, header)| !header.is_empty()).collect();
        let first = all.first()?.0;
        let lost = all.iter().any(|(number, header)| !passes(header, *number == next::HOP));
        let mut following = protocol;
        for (number, header) in all.iter_mut().rev() {
            header[0] = core::mem::replace(&mut following, *number);
        }
        let bytes = all.into_iter().flat_map(|(_, header)| header).collect();
        Some(Heads { first, bytes, back: None, lost })
    }
}

/// The extension headers at the beginning of these bytes, of which `first` is the number of the first: the number of
/// what follows, and they.
pub fn split(first: u8, bytes: &[u8]) -> (u8, Heads) {
    let (mut number, mut at, mut lost) = (first, 0, false);
    while matches!(number, next::HOP | next::ROUTING | next::DESTINATION) {
        let Some(header) = bytes.get(at..).and_then(|rest| rest.get(..len_of(rest)?)) else {
            lost = true;
            break;
        };
        // A route is followed no further.
        lost |= match number {
            next::ROUTING => header[3] != 0,
            _ => !passes(header, number == next::HOP),
        } || number == next::HOP && at > 0;
        number = header[0];
        at += header.len();
    }
    (number, Heads { first, bytes: bytes[..at].to_vec(), back: None, lost })
}

/// The headers of a kind in these, each as a whole.
pub fn each(heads: &Heads) -> impl Iterator<Item = (u8, &[u8])> {
    let (mut number, mut rest) = (heads.first, &heads.bytes[..]);
    core::iter::from_fn(move || {
        let header = rest.get(..len_of(rest)?)?;
        rest = &rest[header.len()..];
        Some((core::mem::replace(&mut number, header[0]), header))
    })
}

/// The options of a version 4 header that a program made.
pub fn of_version4(bytes: &[u8], to: Ip) -> Heads {
    options4::received(bytes.to_vec(), to).into()
}

/// Headers as packets share them.
pub type Shared = Option<Arc<Heads>>;
