//! Membership in multicast groups, on the loopback interface, and filters of their sources (`net/ipv4/igmp.c`,
//! `net/ipv6/mcast.c`).

use super::addr::Ip;
use super::proto;
use super::sources::{self, List, Mode};
use crate::abi::{Errno, Result};
use crate::net::NetNamespace;
use crate::net::bytes::word;
use crate::net::socket::{Core, OptionValue, sock};
use crate::sync::Mutex;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Most groups of one socket (`igmp_max_memberships`).
const MOST: usize = 20;

/// How many sockets of a namespace are members of each group.
pub type Members = HashMap<Ip, u32>;

struct Member {
    group: Ip,
    list: List,
}

/// The groups of one socket.
#[derive(Default)]
pub struct Groups {
    /// `IP_MULTICAST_IF`'s address, in the guest's byte order.
    pub source: u32,
    joined: Vec<Member>,
}

/// `IP_*`, `IPV6_*` and `MCAST_*` of multicast.
pub(super) mod opt {
    pub const IF: u32 = 32;
    pub const ADD: u32 = 35;
    pub const DROP: u32 = 36;
    pub const UNBLOCK_SOURCE: u32 = 37;
    pub const BLOCK_SOURCE: u32 = 38;
    pub const ADD_SOURCE: u32 = 39;
    pub const DROP_SOURCE: u32 = 40;
    pub const MSFILTER: u32 = 41;
    pub const JOIN6: u32 = 20;
    pub const LEAVE6: u32 = 21;
    pub const MCAST_JOIN: u32 = 42;
    pub const MCAST_BLOCK: u32 = 43;
    pub const MCAST_UNBLOCK: u32 = 44;
    pub const MCAST_LEAVE: u32 = 45;
    pub const MCAST_JOIN_SOURCE: u32 = 46;
    pub const MCAST_LEAVE_SOURCE: u32 = 47;
    pub const MCAST_MSFILTER: u32 = 48;
}

/// The interface that an address or index of a request names: the loopback interface or none.
pub(super) fn interface(core: &Core, address: u32, index: u32) -> Result<u32> {
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
    /// To add a source to the filter of a group, or take it away.
    Source { group: Ip, source: Ip, mode: Mode, add: bool, index: Result<u32> },
    /// To replace the filter of a group.
    Filter { group: Ip, list: List, index: Result<u32> },
}

impl Ask {
    /// Reads one of the options; `None` for others.
    pub fn read(core: &Core, level: u32, option: u32, value: OptionValue) -> Option<Result<Ask>> {
        Some(match (level, option) {
            (proto::IP, opt::IF) => choose(core, value),
            (proto::IP, opt::ADD | opt::DROP) => member4(core, option == opt::ADD, value),
            (proto::IPV6, opt::JOIN6 | opt::LEAVE6) => member6(core, option == opt::JOIN6, value),
            (_, opt::MCAST_JOIN | opt::MCAST_LEAVE) => member_any(core, level, option == opt::MCAST_JOIN, value),
            _ => return sources::read(core, level, option, value),
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

/// The interface of a request of version 6: the loopback interface is all there is.
pub(super) fn interface6(index: u32) -> Result<u32> {
    if index > 1 { Err(Errno::ENODEV) } else { Ok(1) }
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
    let group = Ip::from_bytes(ip);
    if !join && !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    Ok(Ask::Member { group, join, index: interface6(word(&b, 16)) })
}

/// The address in a `struct sockaddr_storage` of the family that goes with a level.
pub(super) fn stored(level: u32, b: &[u8]) -> Option<Ip> {
    match u16::from_ne_bytes([b[0], b[1]]) {
        2 if level == proto::IP => Some(Ip::v4(u32::from_be(word(b, 4)))),
        10 if level == proto::IPV6 => b[8..24].try_into().map(Ip::from_bytes).ok(),
        _ => None,
    }
}

/// A `struct group_req`.
fn member_any(core: &Core, level: u32, join: bool, value: OptionValue) -> Result<Ask> {
    let b = value.array::<136>()?;
    let wrong = if level == proto::IP { Errno::EINVAL } else { Errno::EADDRNOTAVAIL };
    let group = stored(level, &b[8..]).ok_or(wrong)?;
    let index = if level == proto::IP { interface(core, 0, word(&b, 0)) } else { interface6(word(&b, 0)) };
    if !join && level == proto::IPV6 && !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    Ok(Ask::Member { group, join, index })
}

impl Groups {
    /// Whether the socket takes packets to a group from `from`; `others`: also those of groups that it is no member of
    /// (`ip_mc_sf_allow`).
    pub fn allows(&self, group: Ip, from: Ip, others: bool) -> bool {
        self.joined.iter().find(|m| m.group == group).map_or(others, |m| m.list.allows(from))
    }

    /// The filter of a group.
    pub(super) fn filter(&self, group: Ip) -> Option<&List> {
        self.joined.iter().find(|m| m.group == group).map(|m| &m.list)
    }

    /// Does what an option asks for.
    ///
    /// # Errors
    /// `ENODEV`, `EADDRINUSE`, `EADDRNOTAVAIL`, `ENOBUFS`, `EINVAL`.
    pub fn apply(&mut self, ask: Ask, members: &Mutex<Members>) -> Result {
        match ask {
            Ask::Interface { source, .. } => {
                self.source = source;
                Ok(())
            }
            Ask::Member { group, join: true, index } => self.join(group, Mode::Exclude, index, members),
            Ask::Member { group, join: false, .. } => self.leave(group, members),
            Ask::Source { group, source, mode, add, index } => {
                // The first source that is included makes the socket a member.
                if add && mode == Mode::Include {
                    match self.join(group, mode, index, members) {
                        Err(e) if e != Errno::EADDRINUSE => return Err(e),
                        _ => {}
                    }
                }
                let member = self.member(group, index)?;
                if member.list.change(mode, source, add)? { self.leave(group, members) } else { Ok(()) }
            }
            Ask::Filter { group, list, index } => {
                if !group.is_multicast() {
                    return Err(Errno::EINVAL);
                }
                if list.is_nothing() {
                    index?;
                    return self.leave(group, members);
                }
                self.member(group, index)?.list = list;
                Ok(())
            }
        }
    }

    fn member(&mut self, group: Ip, index: Result<u32>) -> Result<&mut Member> {
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        index?;
        self.joined.iter_mut().find(|m| m.group == group).ok_or(Errno::EINVAL)
    }

    fn join(&mut self, group: Ip, mode: Mode, index: Result<u32>, members: &Mutex<Members>) -> Result {
        if !group.is_multicast() {
            return Err(Errno::EINVAL);
        }
        index?;
        if self.joined.iter().any(|m| m.group == group) {
            return Err(Errno::EADDRINUSE);
        }
        if self.joined.len() >= MOST {
            return Err(Errno::ENOBUFS);
        }
        self.joined.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let mut members = members.lock();
        members.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        *members.entry(group).or_insert(0) += 1;
        self.joined.push(Member { group, list: List::new(mode) });
        Ok(())
    }

    fn leave(&mut self, group: Ip, members: &Mutex<Members>) -> Result {
        let at = self.joined.iter().position(|m| m.group == group);
        let at = at.ok_or(Errno::EADDRNOTAVAIL)?;
        forget(&mut members.lock(), group);
        self.joined.swap_remove(at);
        Ok(())
    }

    /// Leaves all groups.
    pub fn leave_all(&mut self, ns: &NetNamespace) {
        for m in core::mem::take(&mut self.joined) {
            forget(&mut ns.inet.members.lock(), m.group);
        }
    }
}

fn forget(members: &mut Members, group: Ip) {
    if let Some(n) = members.get_mut(&group) {
        *n -= 1;
        if *n == 0 {
            members.remove(&group);
        }
    }
}
