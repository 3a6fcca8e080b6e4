//! Membership in multicast groups, on the loopback interface.

use super::addr::Ip;
use super::proto;
use crate::abi::{Errno, Result};
use crate::net::socket::{Core, OptionValue, sock};
use alloc::vec::Vec;

/// Most groups of one socket (`igmp_max_memberships`).
const MOST: usize = 20;

/// The groups of one socket.
#[derive(Default)]
pub struct Groups {
    /// `IP_MULTICAST_IF`'s address, in the guest's byte order.
    pub source: u32,
    joined: Vec<Ip>,
}

/// `IP_*` and `IPV6_*` of multicast.
mod opt {
    pub const IF: u32 = 32;
    pub const ADD: u32 = 35;
    pub const DROP: u32 = 36;
    pub const JOIN6: u32 = 20;
    pub const LEAVE6: u32 = 21;
    pub const MCAST_JOIN: u32 = 42;
    pub const MCAST_LEAVE: u32 = 45;
}

fn word(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// The interface that an address or index of a request names: the loopback interface or none.
fn interface(core: &Core, address: u32, index: u32) -> Result<u32> {
    match (index, u32::from_be(address)) {
        (1, _) => Ok(1),
        (0, a) if a >> 24 == 127 && core.ns.is_local(Ip::v4(a)) => Ok(1),
        // There is no route for multicast, hence no interface to choose.
        _ => Err(Errno::ENODEV),
    }
}

/// What an option of multicast asks for.
pub enum Ask {
    /// `IP_MULTICAST_IF`: the interface by its address, and its index.
    Interface { source: u32, index: u32 },
    /// To join or leave a group on an interface, if there is that one.
    Member { group: Ip, join: bool, index: Result<u32> },
}

impl Ask {
    /// Reads one of the options; `None` for others.
    pub fn read(core: &Core, level: u32, option: u32, value: OptionValue) -> Option<Result<Ask>> {
        Some(match (level, option) {
            (proto::IP, opt::IF) => choose(core, value),
            (proto::IP, opt::ADD | opt::DROP) => member4(core, option == opt::ADD, value),
            (proto::IPV6, opt::JOIN6 | opt::LEAVE6) => member6(core, option == opt::JOIN6, value),
            (_, opt::MCAST_JOIN | opt::MCAST_LEAVE) => member_any(core, option == opt::MCAST_JOIN, value),
            _ => return None,
        })
    }
}

/// A `struct in_addr`, `ip_mreq` or `ip_mreqn`.
fn choose(core: &Core, value: OptionValue) -> Result<Ask> {
    if core.kind == sock::STREAM || value.len < 4 {
        return Err(Errno::EINVAL);
    }
    let (source, index) = match value.len {
        12.. => {
            let b = value.array::<12>()?;
            (word(&b, 4), word(&b, 8))
        }
        8.. => (word(&value.array::<8>()?, 4), 0),
        _ => (word(&value.array::<4>()?, 0), 0),
    };
    if source == 0 && index == 0 {
        return Ok(Ask::Interface { source, index });
    }
    let index = interface(core, source, index).map_err(|_| Errno::EADDRNOTAVAIL)?;
    Ok(Ask::Interface { source, index })
}

/// A `struct ip_mreq` or `ip_mreqn`.
fn member4(core: &Core, join: bool, value: OptionValue) -> Result<Ask> {
    if core.kind == sock::STREAM {
        return Err(Errno::EPROTO);
    }
    if value.len < 8 {
        return Err(Errno::EINVAL);
    }
    let mut b = [0; 12];
    if value.len >= 12 {
        b = value.array::<12>()?;
    } else {
        b[..8].copy_from_slice(&value.array::<8>()?);
    }
    let group = Ip::v4(u32::from_be(word(&b, 0)));
    Ok(Ask::Member { group, join, index: interface(core, word(&b, 4), word(&b, 8)) })
}

/// A `struct ipv6_mreq`.
fn member6(core: &Core, join: bool, value: OptionValue) -> Result<Ask> {
    if value.len < 20 {
        return Err(Errno::EINVAL);
    }
    if core.kind == sock::STREAM {
        return Err(Errno::EPROTO);
    }
    let b = value.array::<20>()?;
    let mut ip = [0; 16];
    ip.copy_from_slice(&b[..16]);
    let index = match word(&b, 16) {
        // The loopback interface is all there is.
        0 | 1 => Ok(1),
        _ => Err(Errno::ENODEV),
    };
    Ok(Ask::Member { group: Ip::from_bytes(ip), join, index })
}

/// A `struct group_req`.
fn member_any(core: &Core, join: bool, value: OptionValue) -> Result<Ask> {
    let b = value.array::<136>()?;
    if core.kind == sock::STREAM {
        return Err(Errno::EPROTO);
    }
    let group = match u16::from_ne_bytes([b[8], b[9]]) {
        2 => Ip::v4(u32::from_be(word(&b, 12))),
        10 => {
            let mut ip = [0; 16];
            ip.copy_from_slice(&b[16..32]);
            Ip::from_bytes(ip)
        }
        _ => return Err(Errno::EADDRNOTAVAIL),
    };
    Ok(Ask::Member { group, join, index: interface(core, 0, word(&b, 0)) })
}

impl Groups {
    /// Whether the socket is a member of a group.
    pub fn has(&self, group: Ip) -> bool {
        self.joined.contains(&group)
    }

    /// Does what an option asks for.
    ///
    /// # Errors
    /// `ENODEV`, `EADDRINUSE`, `EADDRNOTAVAIL`, `ENOBUFS`, `EINVAL`.
    pub fn apply(&mut self, ask: Ask) -> Result {
        match ask {
            Ask::Interface { source, .. } => {
                self.source = source;
                Ok(())
            }
            Ask::Member { group, join, index } => self.change(group, join, index),
        }
    }

    fn change(&mut self, group: Ip, join: bool, index: Result<u32>) -> Result {
        if !group.is_multicast() {
            return Err(if join { Errno::EINVAL } else { Errno::EADDRNOTAVAIL });
        }
        let there = self.joined.iter().position(|g| *g == group);
        match (join, there) {
            (true, _) if index.is_err() => Err(Errno::ENODEV),
            (true, Some(_)) => Err(Errno::EADDRINUSE),
            (true, None) if self.joined.len() >= MOST => Err(Errno::ENOBUFS),
            (true, None) => {
                self.joined.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                self.joined.push(group);
                Ok(())
            }
            (false, Some(at)) => {
                self.joined.swap_remove(at);
                Ok(())
            }
            (false, None) => Err(Errno::EADDRNOTAVAIL),
        }
    }
}
