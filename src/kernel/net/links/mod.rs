//! The interfaces of a network, with their addresses, routes, neighbours and rules: what rtnetlink and interface
//! ioctls change, and what decides whether an address is the network's own and where others are.
//!
//! There are the loopback interface and dummy ones, which lose what is sent by them. Everything lies in one table
//! behind one lock, which nobody holds while he takes another; what happens to it is told to the multicast groups of
//! rtnetlink afterwards (`net::netlink`).

mod address;
mod route;
mod rule;

pub use address::{Address, FOR_EVER, PERMANENT as PERMANENT_ADDRESS};
pub use route::{Manner, Route, RouteKind, Via, proto, scope, table};
pub use rule::{Action, Query, Rule};

use super::inet::addr::Ip;
use crate::abi::{Errno, Result};
use crate::host::random;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// The index of the loopback interface.
pub const LOOPBACK: u32 = 1;
/// Bytes of its largest packet as it begins.
pub const LOOPBACK_MTU: u32 = 65_536;
/// Bytes of an interface's name, with its end (`IFNAMSIZ`).
pub const NAME: usize = 16;
/// Most interfaces, addresses, routes, neighbours and rules of a network.
const MOST: usize = 4096;

/// `IFF_*` (`linux/if.h`).
pub mod iff {
    /// It is up.
    pub const UP: u32 = 1;
    /// Broadcast addresses count.
    pub const BROADCAST: u32 = 2;
    /// The loopback interface.
    pub const LOOPBACK: u32 = 8;
    /// It is up and has a carrier.
    pub const RUNNING: u32 = 0x40;
    /// No neighbours are asked for.
    pub const NOARP: u32 = 0x80;
    /// It takes what is not for it.
    pub const PROMISC: u32 = 0x100;
    /// It takes all of multicast.
    pub const ALLMULTI: u32 = 0x200;
    /// It can send to groups.
    pub const MULTICAST: u32 = 0x1000;
    /// It has a carrier (told by netlink only).
    pub const LOWER_UP: u32 = 0x1_0000;
    /// What a program may change.
    pub const SETTABLE: u32 = UP | NOARP | PROMISC | ALLMULTI | MULTICAST | 4 | 0x20 | 0x4000 | 0x2000;
}

/// `ARPHRD_*` (`linux/if_arp.h`).
pub mod arphrd {
    /// What has addresses as Ethernet has.
    pub const ETHER: u16 = 1;
    /// The loopback interface.
    pub const LOOPBACK: u16 = 772;
}

/// `NUD_*` (`linux/neighbour.h`): what is known of a neighbour.
pub mod nud {
    /// It has not been heard of lately.
    pub const STALE: u16 = 4;
    /// It is not asked for.
    pub const NOARP: u16 = 0x40;
    /// It stays.
    pub const PERMANENT: u16 = 0x80;
    /// States in which its address in the link layer is known (with reachable, delayed, probed).
    pub const VALID: u16 = PERMANENT | NOARP | STALE | 2 | 8 | 0x10;
}

/// Why a change was refused: the error, and what is said about it in words (`extack`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal(pub Errno, pub &'static str);

impl From<Errno> for Refusal {
    fn from(e: Errno) -> Refusal {
        Refusal(e, "")
    }
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: Vec<u8>,
    /// `IFF_*` as they are kept: what is told has [`iff::RUNNING`] and [`iff::LOWER_UP`], too.
    pub bits: u32,
    /// Bytes of its largest packet.
    pub mtu: u32,
    /// Packets that wait to leave at most.
    pub queue: u32,
    /// Its address in the link layer, and that of all.
    pub mac: [u8; 6],
    /// See `mac`.
    pub broadcast: [u8; 6],
    /// The group that it was put in.
    pub group: u32,
    /// What somebody has written about it.
    pub alias: Vec<u8>,
    /// Packets and bytes that were sent by it: they are lost, or come in again by the loopback interface.
    pub sent: [u64; 2],
}

impl Link {
    /// The loopback interface.
    fn loopback(up: bool) -> Link {
        Link {
            index: LOOPBACK,
            name: b"lo".to_vec(),
            bits: iff::LOOPBACK | u32::from(up),
            mtu: LOOPBACK_MTU,
            queue: 1000,
            mac: [0; 6],
            broadcast: [0; 6],
            group: 0,
            alias: Vec::new(),
            sent: [0; 2],
        }
    }

    /// Whether it is the loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.bits & iff::LOOPBACK != 0
    }

    /// What kind of hardware it is ([`arphrd`]).
    pub fn hardware(&self) -> u16 {
        if self.is_loopback() { arphrd::LOOPBACK } else { arphrd::ETHER }
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.bits & iff::UP != 0
    }

    /// Its flags as netlink tells them.
    pub fn flags(&self) -> u32 {
        self.bits | if self.is_up() { iff::RUNNING | iff::LOWER_UP } else { 0 }
    }
}

/// A neighbour: who has an address in the link layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// `NUD_*`.
    pub state: u16,
    /// `NTF_*`.
    pub flags: u8,
    /// The address in the link layer, if it is known.
    pub mac: Option<[u8; 6]>,
}

/// See the module.
pub struct Links {
    links: BTreeMap<u32, Link>,
    next: u32,
    addresses: BTreeMap<(u32, u64), Address>,
    routes: route::Routes,
    /// By interface and address.
    pub neighbours: BTreeMap<(u32, Ip), Neighbour>,
    rules: rule::Rules,
    /// Numbers the addresses.
    order: u64,
    /// When the first address ends, ns; all bits: none does.
    next_end: u64,
}

/// Whether a name may be an interface's (`dev_valid_name`).
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() < NAME
        && name != b"."
        && name != b".."
        && !name.iter().any(|&b| b == b'/' || b == b':' || b.is_ascii_whitespace() || b == 0x0b)
}

impl Links {
    /// The loopback interface alone, up or down.
    pub fn new(up: bool) -> Links {
        let mut links = Links {
            links: BTreeMap::from([(LOOPBACK, Link::loopback(false))]),
            next: LOOPBACK + 1,
            addresses: BTreeMap::new(),
            routes: route::Routes::default(),
            neighbours: BTreeMap::new(),
            rules: rule::Rules::usual(),
            order: 0,
            next_end: u64::MAX,
        };
        if up {
            links.set_up(LOOPBACK, true);
        }
        links
    }

    /// All interfaces by number.
    pub fn all(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The interface with a number.
    ///
    /// # Errors
    /// `ENODEV`.
    pub fn link(&self, index: u32) -> Result<&Link> {
        self.links.get(&index).ok_or(Errno::ENODEV)
    }

    /// As [`Links::link`], to be changed.
    ///
    /// # Errors
    /// `ENODEV`.
    pub fn link_mut(&mut self, index: u32) -> Result<&mut Link> {
        self.links.get_mut(&index).ok_or(Errno::ENODEV)
    }

    /// The number of the interface with a name.
    pub fn index_of(&self, name: &[u8]) -> Option<u32> {
        self.links.values().find(|l| l.name == name).map(|l| l.index)
    }

    /// Makes a dummy interface, by this name or by one with the first free number in the place of `%d`.
    ///
    /// # Errors
    /// `EEXIST`, `EINVAL`, `ENOSPC`.
    pub fn add_dummy(&mut self, name: &[u8], index: u32, mac: Option<[u8; 6]>, mtu: u32) -> Result<u32> {
        if self.links.len() >= MOST {
            return Err(Errno::ENOSPC);
        }
        let name = if name == b"dummy%d" { self.free_name()? } else { name.to_vec() };
        if !is_name(&name) || name.contains(&b'%') {
            return Err(Errno::EINVAL);
        }
        if self.index_of(&name).is_some() || index != 0 && self.links.contains_key(&index) {
            return Err(Errno::EEXIST);
        }
        while self.links.contains_key(&self.next) {
            self.next = self.next.checked_add(1).unwrap_or(LOOPBACK + 1);
        }
        let index = if index == 0 { self.next } else { index };
        let mac = mac.unwrap_or_else(|| {
            let mut mac = [0; 6];
            mac.copy_from_slice(&random::next_u64().to_ne_bytes()[..6]);
            mac[0] = mac[0] & 0xfe | 2;
            mac
        });
        let link = Link {
            index,
            name,
            bits: iff::BROADCAST | iff::NOARP,
            mtu,
            queue: 1000,
            mac,
            broadcast: [0xff; 6],
            group: 0,
            alias: Vec::new(),
            sent: [0; 2],
        };
        self.links.insert(index, link);
        Ok(index)
    }

    fn free_name(&self) -> Result<Vec<u8>> {
        let taken: BTreeSet<&[u8]> = self.links.values().map(|l| &l.name[..]).collect();
        let mut names = (0..=MOST).map(|n| alloc::format!("dummy{n}").into_bytes());
        names.find(|name| !taken.contains(&name[..])).ok_or(Errno::ENOSPC)
    }

    /// Takes an interface away, with all that belongs to it.
    ///
    /// # Errors
    /// `ENODEV`; `EOPNOTSUPP` for the loopback interface.
    pub fn remove(&mut self, index: u32) -> Result<Link> {
        if self.link(index)?.is_loopback() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.addresses.retain(|(i, _), _| *i != index);
        self.routes.retain(|r| r.device != index);
        self.neighbours.retain(|(i, _), _| *i != index);
        self.links.remove(&index).ok_or(Errno::ENODEV)
    }

    /// Enters a neighbour, by interface and address.
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub fn add_neighbour(&mut self, key: (u32, Ip), neighbour: Neighbour) -> Result {
        if self.neighbours.len() >= MOST && !self.neighbours.contains_key(&key) {
            return Err(Errno::ENOBUFS);
        }
        self.neighbours.insert(key, neighbour);
        Ok(())
    }

    /// Brings an interface up or down: its addresses get the routes to them, or all routes by it go.
    pub fn set_up(&mut self, index: u32, up: bool) {
        let Some(link) = self.links.get_mut(&index) else { return };
        if link.is_up() == up {
            return;
        }
        link.bits ^= iff::UP;
        let (loopback, mac) = (link.is_loopback(), link.mac);
        if up {
            let own: &[Address] = if loopback {
                &[
                    Address::own(Ip::LOOPBACK4, 8),
                    Address { proto: address::KERNEL_LOOPBACK, ..Address::own(Ip::LOOPBACK6, 128) },
                ]
            } else {
                &[Address::link_local(mac)]
            };
            for address in own {
                if !self.addresses_of(index).any(|a| a.ip == address.ip) {
                    self.enter_address(index, address.clone());
                }
            }
            let all: Vec<Address> = self.addresses_of(index).cloned().collect();
            for address in &all {
                self.enter_routes(index, address);
            }
        } else {
            // What is here stays here (`fib_sync_down_dev`).
            self.routes.retain(|r| r.device != index || r.to.is_v4() && r.scope == scope::HOST);
            self.neighbours.retain(|(i, _), n| *i != index || n.state & nud::PERMANENT != 0);
            // Version 6 forgets its addresses with the link (`addrconf_ifdown`), version 4 keeps them.
            self.addresses.retain(|(i, _), a| *i != index || a.ip.is_v4());
        }
    }
}

#[cfg(test)]
mod tests;
