//! Addresses of interfaces, and the routes that they bring along (`fib_add_ifaddr`, `addrconf_prefix_route`).

use super::route::{Route, RouteKind, proto, scope, table};
use super::{Links, MOST, Refusal};
use crate::abi::Errno;
use crate::net::inet::addr::Ip;
use crate::time;
use alloc::vec::Vec;

/// An address of an interface.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// The address.
    pub ip: Ip,
    /// The other end's, where it is another (`IFA_ADDRESS` beside `IFA_LOCAL`).
    pub peer: Ip,
    /// Bits of its network.
    pub prefix: u8,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
    /// The broadcast address, if it was given.
    pub broadcast: Option<Ip>,
    /// The label.
    pub label: Vec<u8>,
    /// Seconds that it is valid and preferred; all bits: for ever.
    pub life: [u32; 2],
    /// Since when (ns of the monotonic clock).
    pub since: u64,
    /// `IFA_PROTO`: who made it.
    pub proto: u8,
    /// `IFA_RT_PRIORITY`: the metric of its network's route.
    pub metric: u32,
}

/// `IFA_F_PERMANENT`, `IFA_F_SECONDARY`, `IFA_F_NOPREFIXROUTE`.
pub const PERMANENT: u32 = 0x80;
const SECONDARY: u32 = 1;
const NO_PREFIX_ROUTE: u32 = 0x200;
/// `IFA_F_DEPRECATED`.
const DEPRECATED: u32 = 0x20;
/// `IFAPROT_KERNEL_LO`.
pub(super) const KERNEL_LOOPBACK: u8 = 1;
/// The life of an address that stays.
pub const FOR_EVER: [u32; 2] = [u32::MAX; 2];

impl Address {
    /// One that stays, without anything special.
    pub fn own(ip: Ip, prefix: u8) -> Address {
        Address {
            ip,
            peer: ip,
            prefix,
            scope: if ip.is_loopback() { scope::HOST } else { scope::UNIVERSE },
            flags: PERMANENT,
            broadcast: None,
            label: if ip == Ip::LOOPBACK4 { b"lo".to_vec() } else { Vec::new() },
            life: FOR_EVER,
            since: 0,
            proto: 0,
            metric: 0,
        }
    }

    /// The address of version 6 that follows from one of the link layer (`ipv6_generate_eui64`).
    pub(super) fn link_local(mac: [u8; 6]) -> Address {
        let mut b = [0u8; 16];
        (b[0], b[1]) = (0xfe, 0x80);
        b[8..11].copy_from_slice(&mac[..3]);
        (b[11], b[12]) = (0xff, 0xfe);
        b[13..].copy_from_slice(&mac[3..]);
        b[8] ^= 2;
        Address { scope: scope::LINK, ..Address::own(Ip::from_bytes(b), 64) }
    }

    /// When it ends, ns; all bits: never.
    fn end(&self) -> u64 {
        match self.life[0] {
            u32::MAX => u64::MAX,
            seconds => self.since.saturating_add(u64::from(seconds) * 1_000_000_000),
        }
    }

    /// What is left of its life, and its flags, at a time.
    pub fn told_at(&self, now: u64) -> ([u32; 2], u32) {
        let passed = (now.saturating_sub(self.since) / 1_000_000_000) as u32;
        let life = self.life.map(|n| if n == u32::MAX { n } else { n.saturating_sub(passed) });
        (life, self.flags | if life[1] == 0 { DEPRECATED } else { 0 })
    }

    fn same(&self, other: &Address) -> bool {
        self.ip == other.ip && (!self.ip.is_v4() || self.prefix == other.prefix && self.net() == other.net())
    }

    fn net(&self) -> Ip {
        self.peer.masked(self.prefix)
    }
}

impl Links {
    /// All addresses, by interface and in the order in which they came.
    pub fn addresses(&self) -> impl Iterator<Item = (u32, &Address)> {
        self.addresses.iter().map(|((index, _), a)| (*index, a))
    }

    /// The addresses of one interface.
    pub fn addresses_of(&self, index: u32) -> impl Iterator<Item = &Address> {
        self.addresses.range((index, 0)..=(index, u64::MAX)).map(|(_, a)| a)
    }

    pub(super) fn enter_address(&mut self, index: u32, address: Address) {
        self.order += 1;
        self.addresses.insert((index, self.order), address);
    }

    /// Gives an interface an address, or with `replace` changes one that it has.
    ///
    /// # Errors
    /// `ENODEV`, `EEXIST`, `ENOBUFS`.
    pub fn add_address(&mut self, index: u32, mut address: Address, replace: bool) -> Result<(), Refusal> {
        let up = self.link(index)?.is_up();
        let there = self.addresses.range((index, 0)..=(index, u64::MAX)).find(|(_, a)| a.same(&address));
        self.next_end = self.next_end.min(address.end());
        if let Some((key, _)) = there {
            if !replace {
                let v4 = address.ip.is_v4();
                let words = if v4 { "ipv4: Address already assigned" } else { "ipv6: address already assigned" };
                return Err(Refusal(Errno::EEXIST, words));
            }
            let key = *key;
            self.addresses.insert(key, address);
            return Ok(());
        }
        if self.addresses.len() >= MOST {
            return Err(Errno::ENOBUFS.into());
        }
        let second = |a: &Address| a.ip.is_v4() && a.prefix == address.prefix && a.net() == address.net();
        if address.ip.is_v4() && self.addresses_of(index).any(second) {
            address.flags |= SECONDARY;
        }
        self.enter_address(index, address.clone());
        if up {
            self.enter_routes(index, &address);
        }
        Ok(())
    }

    /// Takes an address away, and those of version 4 that were second to it.
    ///
    /// # Errors
    /// `ENODEV`, `EADDRNOTAVAIL`.
    pub fn remove_address(&mut self, index: u32, ip: Ip, prefix: Option<u8>) -> Result<Vec<Address>, Refusal> {
        let fits = |a: &Address| a.ip == ip && prefix.is_none_or(|p| a.prefix == p);
        self.remove_address_that(index, ip.is_v4(), fits)
    }

    /// As [`Links::remove_address`], the first one of a version that fits.
    ///
    /// # Errors
    /// As there.
    pub fn remove_address_that(
        &mut self,
        index: u32,
        v4: bool,
        fits: impl Fn(&Address) -> bool,
    ) -> Result<Vec<Address>, Refusal> {
        self.link(index)?;
        let Some(gone) = self.addresses_of(index).find(|a| a.ip.is_v4() == v4 && fits(a)).cloned() else {
            let words = if v4 { "ipv4: Address not found" } else { "ipv6: address not found" };
            return Err(Refusal(Errno::EADDRNOTAVAIL, words));
        };
        let first = v4 && gone.flags & SECONDARY == 0;
        let goes = |a: &Address| {
            *a == gone || first && a.flags & SECONDARY != 0 && a.prefix == gone.prefix && a.net() == gone.net()
        };
        let all: Vec<Address> = self.addresses_of(index).filter(|a| goes(a)).cloned().collect();
        self.addresses.retain(|(i, _), a| *i != index || !all.contains(a));
        for address in &all {
            let left = self.addresses().any(|(_, a)| a.ip == address.ip);
            let source = address.ip;
            self.routes.retain(|r| r.device != index || r.source != Some(source) || r.table == table::LOCAL && left);
            self.routes.retain(|r| {
                r.device != index || r.to != source || r.table != table::LOCAL || r.prefix < source.width() || left
            });
            self.routes.retain(|r| source.is_v4() || left || r.device != index || !is_prefix_route(r, address));
        }
        // The network's route belongs to who is left.
        let rest: Vec<Address> = self.addresses_of(index).cloned().collect();
        if self.link(index)?.is_up() {
            for address in &rest {
                self.enter_routes(index, address);
            }
        }
        Ok(all)
    }

    /// Takes the addresses away whose time is over (`check_lifetime`, `addrconf_verify_rtnl`).
    pub fn end_addresses(&mut self) {
        if self.next_end == u64::MAX || time::host_monotonic() < self.next_end {
            return;
        }
        let now = time::host_monotonic();
        let over: Vec<(u32, Address)> =
            self.addresses().filter(|(_, a)| a.end() <= now).map(|(index, a)| (index, a.clone())).collect();
        for (index, address) in over {
            // One that was second to another is gone with it.
            let _ = self.remove_address_that(index, address.ip.is_v4(), |a| *a == address);
        }
        self.next_end = self.addresses().map(|(_, a)| a.end()).min().unwrap_or(u64::MAX);
    }

    /// The routes to an address of an interface that is up, and to its network.
    pub(super) fn enter_routes(&mut self, index: u32, a: &Address) {
        let Ok(link) = self.link(index) else { return };
        let (loopback, v4) = (link.is_loopback(), a.ip.is_v4());
        let width = a.ip.width();
        let scoped = |s: u8| if v4 { s } else { scope::UNIVERSE };
        let source = v4.then_some(a.ip);
        let route = |to: Ip, prefix: u8, table: u32, kind: RouteKind, s: u8| Route {
            source,
            scope: scoped(s),
            proto: proto::KERNEL,
            metric: match table {
                table::LOCAL => 0,
                _ if a.metric != 0 => a.metric,
                _ => {
                    if v4 {
                        0
                    } else {
                        256
                    }
                }
            },
            ..Route::new((to, prefix), table, kind, index)
        };
        self.routes.enter(route(a.ip, width, table::LOCAL, RouteKind::Local, scope::HOST));
        if a.prefix < width && a.flags & NO_PREFIX_ROUTE == 0 {
            let net = a.net();
            if v4 && loopback {
                self.routes.enter(route(net, a.prefix, table::LOCAL, RouteKind::Local, scope::HOST));
            } else if a.flags & SECONDARY == 0 || !v4 {
                self.routes.enter(route(net, a.prefix, table::MAIN, RouteKind::Unicast, scope::LINK));
            }
            if v4 && a.prefix < 31 {
                let last = Ip::v4(net.bits4() | (u32::MAX >> a.prefix));
                self.routes.enter(route(last, 32, table::LOCAL, RouteKind::Broadcast, scope::LINK));
            }
        }
        if v4 && let Some(b) = a.broadcast {
            self.routes.enter(route(b, 32, table::LOCAL, RouteKind::Broadcast, scope::LINK));
        }
        if !v4 && !loopback {
            let all = Ip::from_bytes([0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            let groups = route(all, 8, table::LOCAL, RouteKind::Multicast, scope::UNIVERSE);
            self.routes.enter(Route { metric: 256, ..groups });
        }
    }
}

fn is_prefix_route(r: &Route, a: &Address) -> bool {
    r.proto == proto::KERNEL && r.to == a.net() && r.prefix == a.prefix && r.table == table::MAIN
}
