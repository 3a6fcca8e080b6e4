//! Routes, by table: where an address lies (`fib_lookup`, `ip6_route_lookup`).

use super::{Links, MOST, Refusal, rule};
use crate::abi::{Errno, Result};
use crate::net::inet::addr::Ip;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// `RT_TABLE_*`.
pub mod table {
    /// Where no other is named.
    pub const MAIN: u32 = 254;
    /// The kernel's own.
    pub const LOCAL: u32 = 255;
    /// The last one.
    pub const DEFAULT: u32 = 253;
}

/// `RT_SCOPE_*`.
pub mod scope {
    /// Anywhere.
    pub const UNIVERSE: u8 = 0;
    /// On the link.
    pub const LINK: u8 = 253;
    /// Here.
    pub const HOST: u8 = 254;
    /// Nowhere.
    pub const NOWHERE: u8 = 255;
}

/// `RTPROT_*`.
pub mod proto {
    /// The kernel made it.
    pub const KERNEL: u8 = 2;
    /// `ip route` did.
    pub const BOOT: u8 = 3;
}

/// `RTN_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum RouteKind {
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Multicast = 5,
    Blackhole = 6,
    Unreachable = 7,
    Prohibit = 8,
    Throw = 9,
}

impl RouteKind {
    /// The kind with a number.
    pub fn of(number: u8) -> Option<RouteKind> {
        use RouteKind::*;
        [Unicast, Local, Broadcast, Multicast, Blackhole, Unreachable, Prohibit, Throw]
            .into_iter()
            .find(|k| *k as u8 == number)
    }

    /// Whether it leads by an interface.
    pub fn has_device(self) -> bool {
        matches!(self, RouteKind::Unicast | RouteKind::Local | RouteKind::Broadcast | RouteKind::Multicast)
    }

    /// What a send along it fails with (`fib_props`).
    fn error(self) -> Option<Errno> {
        match self {
            RouteKind::Blackhole => Some(Errno::EINVAL),
            RouteKind::Unreachable => Some(Errno::EHOSTUNREACH),
            RouteKind::Prohibit => Some(Errno::EACCES),
            _ => None,
        }
    }
}

/// A route.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// The network that it leads to.
    pub to: Ip,
    /// Bits of that.
    pub prefix: u8,
    /// Its table.
    pub table: u32,
    /// Its kind.
    pub kind: RouteKind,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `RTPROT_*`.
    pub proto: u8,
    /// `IP_TOS` that it is for; 0: any.
    pub tos: u8,
    /// The lower, the better (`RTA_PRIORITY`).
    pub metric: u32,
    /// The interface; 0 for kinds without one.
    pub device: u32,
    /// The next hop, if it is not on the link.
    pub gateway: Option<Ip>,
    /// The address to send from (`RTA_PREFSRC`).
    pub source: Option<Ip>,
    /// `RTNH_F_ONLINK`.
    pub on_link: bool,
    /// `RTAX_MTU`; 0: the interface's.
    pub mtu: u32,
}

impl Route {
    /// One without anything special.
    pub fn new((to, prefix): (Ip, u8), table: u32, kind: RouteKind, device: u32) -> Route {
        Route {
            to,
            prefix,
            table,
            kind,
            scope: scope::UNIVERSE,
            proto: proto::BOOT,
            tos: 0,
            metric: 0,
            device,
            gateway: None,
            source: None,
            on_link: false,
            mtu: 0,
        }
    }
}

/// What names a route: table, whether version 6, 128 less its bits, network, TOS and metric; routes that have all this in
/// common (version 6 allows it) are told apart by a number.
type Key = (u32, bool, u8, Ip, u8, u32, u32);

fn key(r: &Route, number: u32) -> Key {
    (r.table, !r.to.is_v4(), 128 - r.prefix, r.to, u8::MAX - r.tos, r.metric, number)
}

/// All routes.
#[derive(Default)]
pub(super) struct Routes(BTreeMap<Key, Route>, bool);

/// Where a packet goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Via {
    /// It is for this network itself.
    Here(Route),
    /// By an interface.
    Out(Route),
}

impl Routes {
    fn same<'a>(&'a self, r: &Route) -> impl Iterator<Item = (&'a Key, &'a Route)> {
        self.0.range(key(r, 0)..=key(r, u32::MAX))
    }

    /// Enters a route unless the like is there.
    pub fn enter(&mut self, r: Route) {
        if !self.same(&r).any(|(_, old)| old.device == r.device && old.kind == r.kind) && self.0.len() < MOST * 4 {
            self.push(r);
        }
    }

    fn push(&mut self, r: Route) {
        self.1 |= r.table == table::LOCAL && r.to.is_v4();
        let number = self.same(&r).last().map_or(0, |(k, _)| k.6.wrapping_add(1));
        self.0.insert(key(&r, number), r);
    }

    pub fn retain(&mut self, keep: impl Fn(&Route) -> bool) {
        self.0.retain(|_, r| keep(r));
    }

    /// The best route of a table to an address; `sent`: with what TOS and by which interface (0: any).
    fn find(&self, table: u32, to: Ip, tos: u8, device: u32) -> Option<&Route> {
        let six = !to.is_v4();
        (0..=to.width()).rev().find_map(|prefix| {
            let net = to.masked(prefix);
            let low = (table, six, 128 - prefix, net, 0, 0, 0);
            let high = (table, six, 128 - prefix, net, u8::MAX, u32::MAX, u32::MAX);
            let fits = |r: &Route| (r.tos == 0 || r.tos == tos) && (device == 0 || r.device == device);
            self.0.range(low..=high).map(|(_, r)| r).find(|r| fits(r))
        })
    }
}

/// How a new route stands to one that is there (`NLM_F_*`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// There may be none yet.
    pub exclusive: bool,
    /// It takes the place of one.
    pub replace: bool,
    /// It may be new.
    pub create: bool,
    /// It comes behind others of the same name.
    pub append: bool,
}

impl Links {
    /// All routes, by table and network.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.0.values()
    }

    /// All routes by version, table and address, as they are told.
    pub fn routes_in_order(&self) -> Vec<&Route> {
        let mut all: Vec<&Route> = self.routes().collect();
        all.sort_by_key(|r| (!r.to.is_v4(), r.table, r.to, u8::MAX - r.prefix, r.metric));
        all
    }

    /// Whether an address is this network's own.
    pub fn is_local(&self, ip: Ip) -> bool {
        self.routes.find(table::LOCAL, ip, 0, 0).is_some_and(|r| r.kind == RouteKind::Local)
    }

    /// Whether a socket may be bound to an address: also to any of version 4 as long as there never was a local one
    /// (`inet_dev_addr_type` without a table).
    pub fn may_bind(&self, ip: Ip) -> bool {
        ip.is_v4() && !self.routes.1 || self.is_local(ip)
    }

    /// Whether a route says that an address is for all on a link.
    pub fn is_broadcast(&self, ip: Ip) -> bool {
        self.routes.find(table::LOCAL, ip, 0, 0).is_some_and(|r| r.kind == RouteKind::Broadcast)
    }

    /// Where packets to an address go, by the rules and tables.
    ///
    /// # Errors
    /// `ENETUNREACH`, and what routes and rules say: `EHOSTUNREACH`, `EACCES`, `EINVAL`.
    pub fn lookup(&self, q: &rule::Query) -> Result<Via> {
        for r in self.rules.of(q.to.is_v4()) {
            if !r.matches(q, self) {
                continue;
            }
            let table = match r.action {
                rule::Action::Table(table) => table,
                rule::Action::Fails(kind) => return Err(kind.error().unwrap_or(Errno::ENETUNREACH)),
                rule::Action::Nothing => continue,
            };
            match self.routes.find(table, q.to, q.tos, q.device) {
                None => {}
                Some(route) if route.kind == RouteKind::Throw => {}
                Some(route) => {
                    return match route.kind.error() {
                        Some(e) => Err(e),
                        None if route.kind == RouteKind::Local => Ok(Via::Here(route.clone())),
                        None => Ok(Via::Out(route.clone())),
                    };
                }
            }
        }
        Err(Errno::ENETUNREACH)
    }

    /// The address to send from along a route to `to`.
    pub fn source_along(&self, route: &Route, to: Ip) -> Option<Ip> {
        if let Some(source) = route.source {
            return Some(source);
        }
        let usable = |a: &&super::Address| a.ip.is_v4() == to.is_v4();
        let own = || self.addresses_of(route.device).filter(usable);
        let near = own().find(|a| a.prefix < to.width() && to.masked(a.prefix) == a.peer.masked(a.prefix));
        let here = near.or_else(|| own().find(|a| a.scope == scope::UNIVERSE)).or_else(|| own().next());
        here.or_else(|| self.addresses().map(|(_, a)| a).find(|a| usable(a) && a.scope == scope::UNIVERSE))
            .map(|a| a.ip)
    }

    /// Enters a route; the one whose place it took (`fib_table_insert`, `fib6_add`).
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT`, `ENETUNREACH`, `ENETDOWN`, `ENODEV`, `EINVAL`, `ENOBUFS`.
    pub fn add_route(&mut self, mut r: Route, how: Manner) -> core::result::Result<Route, Refusal> {
        self.complete(&mut r)?;
        let v4 = r.to.is_v4();
        let like = |old: &Route| old.kind == r.kind && old.device == r.device && old.gateway == r.gateway;
        let there = self.routes.same(&r).next().map(|(k, _)| *k);
        let twin = self.routes.same(&r).any(|(_, old)| like(old));
        if how.exclusive && (there.is_some() && v4 || twin) || !v4 && twin && !how.replace {
            return Err(Errno::EEXIST.into());
        }
        match there {
            Some(k) if how.replace => drop(self.routes.0.insert(k, r.clone())),
            None if !how.create => return Err(Errno::ENOENT.into()),
            _ if self.routes.0.len() >= MOST * 4 => return Err(Errno::ENOBUFS.into()),
            Some(_) if v4 && !how.append && !how.exclusive && twin => return Err(Errno::EEXIST.into()),
            _ => self.routes.push(r.clone()),
        }
        Ok(r)
    }

    /// Finds the interface of a route that names only a gateway, and checks both (`fib_check_nh`).
    fn complete(&self, r: &mut Route) -> core::result::Result<(), Refusal> {
        if !r.kind.has_device() {
            r.device = if r.to.is_v4() { 0 } else { super::LOOPBACK };
            return Ok(());
        }
        let unreachable = Refusal(Errno::ENETUNREACH, "Nexthop has invalid gateway");
        if let Some(gateway) = r.gateway.filter(|_| !r.on_link) {
            let q = rule::Query { device: r.device, ..rule::Query::to(gateway) };
            let via = match self.lookup(&q) {
                Ok(Via::Out(via)) => via,
                Ok(Via::Here(_)) if r.to.is_v4() => return Err(Refusal(Errno::EINVAL, "Nexthop has invalid gateway")),
                Ok(Via::Here(_)) => return Err(Refusal(Errno::EINVAL, "Gateway can not be a local address")),
                Err(_) if r.to.is_v4() => return Err(unreachable),
                Err(_) => return Err(Refusal(Errno::EHOSTUNREACH, "")),
            };
            if via.gateway.is_some() {
                return Err(unreachable);
            }
            r.device = via.device;
        }
        if r.device == 0 {
            return Err(Refusal(Errno::ENODEV, ""));
        }
        let link = self.link(r.device)?;
        if !link.is_up() {
            let words = if r.to.is_v4() { "Device for nexthop is not up" } else { "Nexthop device is not up" };
            return Err(Refusal(Errno::ENETDOWN, words));
        }
        if let Some(source) = r.source
            && !self.is_local(source)
        {
            return Err(Refusal(
                Errno::EINVAL,
                if r.to.is_v4() { "Invalid prefsrc address" } else { "Invalid source address" },
            ));
        }
        Ok(())
    }

    /// Takes the first route away that has all that `fits` asks for.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn remove_route(&mut self, fits: impl Fn(&Route) -> bool) -> Result<Route> {
        let key = self.routes.0.iter().find(|(_, r)| fits(r)).map(|(k, _)| *k).ok_or(Errno::ESRCH)?;
        self.routes.0.remove(&key).ok_or(Errno::ESRCH)
    }
}
