//! What options tell of a socket's addresses and of the way to its peer.

use super::addr::Ip;
use super::proto;
use crate::abi::{Errno, Result};
use crate::net::NetNamespace;
use crate::net::socket::af;
use alloc::vec::Vec;

/// What options tell of a socket's addresses.
#[derive(Clone, Copy)]
pub struct Ends {
    /// Its port, or the number of its protocol.
    pub port: u16,
    /// Its own address.
    pub local: Ip,
    /// The address of its peer.
    pub remote: Option<Ip>,
}

impl Ends {
    /// The largest packet on the way to the peer, bytes.
    ///
    /// # Errors
    /// `ENOTCONN`.
    pub fn mtu(self, ns: &NetNamespace) -> Result<i32> {
        Ok(largest(ns, self.remote.ok_or(Errno::ENOTCONN)?) as i32)
    }

    /// `struct ip6_mtuinfo`.
    ///
    /// # Errors
    /// `EINVAL` for too little room, `ENOTCONN`.
    pub fn path(self, ns: &NetNamespace, room: usize) -> Result<Vec<u8>> {
        if room < 32 {
            return Err(Errno::EINVAL);
        }
        let mut info = [0u8; 32];
        info[28..].copy_from_slice(&self.mtu(ns)?.to_ne_bytes());
        Ok(info.to_vec())
    }
}

/// Bytes of the largest packet on the way to an address: the loopback interface's, which version 4 cuts to what its header
/// can say, and which is never less than version 6 needs.
pub fn largest(ns: &NetNamespace, to: Ip) -> usize {
    let mtu = ns.loopback_mtu() as usize;
    if to.is_v4() { mtu.min(65_535) } else { mtu.max(1280) }
}

/// `IPV6_PREFER_SRC_*` (RFC 5014).
pub mod prefer {
    const TEMPORARY: u32 = 1;
    const PUBLIC: u32 = 2;
    const CARE_OF: u32 = 4;
    const CGA: u32 = 8;
    /// `IPV6_PREFER_SRC_PUBTMP_DEFAULT`.
    pub const DEFAULT: u32 = 0x100;
    /// `IPV6_PREFER_SRC_HOME`.
    pub const HOME: u32 = 0x400;
    const NO_CGA: u32 = 0x800;

    /// What the preferences are then, those by default where nothing is said; `None` for a contradiction (`ip6_sock_set_addr_preferences`).
    pub fn chosen(asked: u32) -> Option<u32> {
        let one_of = |all: u32, default: u32| match asked & all {
            0 => Some(default),
            one if one.is_power_of_two() => Some(one),
            _ => None,
        };
        if asked & CGA != 0 && asked & NO_CGA != 0 {
            return None;
        }
        Some(one_of(TEMPORARY | PUBLIC | DEFAULT, DEFAULT)? | one_of(HOME | CARE_OF, HOME)?)
    }
}

/// See [`crate::net::socket::SocketOps::negative_room`].
pub fn negative_room(family: u16, protocol: u32, level: u32) -> Result {
    match level {
        proto::IP => Err(Errno::EINVAL),
        proto::IPV6 if family == af::INET6 => Ok(()),
        _ if level == protocol => Err(Errno::EINVAL),
        proto::UDP | proto::UDPLITE if matches!(protocol, proto::UDP | proto::UDPLITE) => Err(Errno::EINVAL),
        _ if family == af::INET6 => Err(Errno::ENOPROTOOPT),
        _ => Err(Errno::EOPNOTSUPP),
    }
}
