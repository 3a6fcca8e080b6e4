//! The ioctls by which routes and neighbours were made before there was netlink (`route(8)`, `arp(7)`): `SIOCADDRT`,
//! `SIOCSARP` and their siblings (`rtentry_to_fib_config`, `rtmsg_to_fib6_config`, `arp_ioctl`).

use super::addr::Ip;
use crate::abi::{Errno, Result};
use crate::cred::cap;
use crate::mm::UserPtr;
use crate::net::bytes::{half, long, word};
use crate::net::links::{Link, Manner, NAME, Neighbour, Query, Route, RouteKind, Via, iff, nud, scope, table};
use crate::net::socket::af;
use crate::net::{NetNamespace, netlink};
use crate::vfs::OpCtx;

/// `SIOCADDRT`, `SIOCDELRT`.
const ADDRT: u32 = 0x890b;
const DELRT: u32 = 0x890c;
/// `SIOCDARP`, `SIOCGARP`, `SIOCSARP`.
const DARP: u32 = 0x8953;
const GARP: u32 = 0x8954;
const SARP: u32 = 0x8955;
/// Bytes of a `struct rtentry`, a `struct in6_rtmsg` and a `struct arpreq`.
const RTENTRY: usize = 120;
const RTMSG6: usize = 80;
const ARPREQ: usize = 68;
/// `RTF_*`.
mod rtf {
    pub const GATEWAY: u32 = 2;
    pub const HOST: u32 = 4;
    pub const MTU: u32 = 0x40;
    pub const REJECT: u32 = 0x200;
}
/// `ATF_*`.
mod atf {
    pub const COM: u32 = 2;
    pub const PERM: u32 = 4;
    pub const PUBL: u32 = 8;
    pub const NETMASK: u32 = 0x20;
    pub const DONTPUB: u32 = 0x40;
}
/// The metric of routes of version 6 that name none (`IP6_RT_PRIO_USER`).
const METRIC6: u32 = 1024;
/// The address in a `struct sockaddr_in` at a place.
fn ip4(b: &[u8], at: usize) -> Ip {
    Ip::v4(u32::from_be_bytes([b[at + 4], b[at + 5], b[at + 6], b[at + 7]]))
}

fn ip6(b: &[u8], at: usize) -> Ip {
    let mut ip = [0; 16];
    ip.copy_from_slice(&b[at..at + 16]);
    Ip::from_bytes(ip)
}

/// A request about routes or neighbours from a socket of this family; `None`: it is about something else.
pub fn answer(ctx: &OpCtx<'_>, ns: &NetNamespace, family: u16, request: u32, arg: u64) -> Option<Result> {
    let may = || if ns.may(ctx.cred, cap::NET_ADMIN) { Ok(()) } else { Err(Errno::EPERM) };
    Some(match (request, family) {
        (ADDRT | DELRT, af::INET | af::PACKET) => may().and_then(|()| route4(ns, request == ADDRT, arg)),
        (ADDRT | DELRT, af::INET6) => may().and_then(|()| route6(ns, request == ADDRT, arg)),
        (GARP, af::INET | af::PACKET) => neighbour(ns, request, arg),
        (DARP | SARP, af::INET | af::PACKET) => may().and_then(|()| neighbour(ns, request, arg)),
        _ => return None,
    })
}

/// Whether a mask is none, or an address has bits outside of it.
fn is_bad(mask: u32, ip: Ip) -> bool {
    let hosts = !mask;
    ip.bits4() & hosts != 0 || hosts & hosts.wrapping_add(1) != 0
}

fn route4(ns: &NetNamespace, add: bool, arg: u64) -> Result {
    let b = UserPtr::<[u8; RTENTRY]>::new(arg).read()?;
    let (to, gateway, mask) = (ip4(&b, 8), ip4(&b, 24), ip4(&b, 40).bits4());
    let flags = u32::from(half(&b, 56));
    if half(&b, 8) != af::INET {
        return Err(Errno::EAFNOSUPPORT);
    }
    let mut prefix = 32;
    if flags & rtf::HOST == 0 {
        let family = half(&b, 40);
        if family != af::INET && (mask != 0 || family != 0) {
            return Err(Errno::EAFNOSUPPORT);
        }
        if is_bad(mask, to) {
            return Err(Errno::EINVAL);
        }
        prefix = mask.leading_ones() as u8;
    }
    let metric = u32::from(half(&b, 80)).saturating_sub(1);
    let mut route =
        Route { scope: scope::NOWHERE, metric, ..Route::new((to, prefix), table::MAIN, RouteKind::Unicast, 0) };
    if flags & rtf::REJECT != 0 {
        route = Route { scope: scope::HOST, kind: RouteKind::Unreachable, ..route };
        return change(ns, route, add);
    }
    let device = long(&b, 88);
    if device != 0 {
        route.device = named_device(ns, device)?;
    }
    if half(&b, 24) == af::INET && !gateway.is_any() {
        route.gateway = Some(gateway);
        if flags & rtf::GATEWAY != 0 && !ns.is_local(gateway) && !gateway.is_multicast() {
            route.scope = scope::UNIVERSE;
        }
    }
    if add {
        if flags & rtf::GATEWAY != 0 && route.gateway.is_none() {
            return Err(Errno::EINVAL);
        }
        if route.scope == scope::NOWHERE {
            route.scope = scope::LINK;
        }
        if flags & rtf::MTU != 0 {
            route.mtu = (long(&b, 96) as u32).saturating_add(40);
        }
    }
    change(ns, route, add)
}

/// The number of the interface whose name lies at an address.
fn named_device(ns: &NetNamespace, at: u64) -> Result<u32> {
    let mut name = [0u8; NAME];
    for (i, c) in name[..NAME - 1].iter_mut().enumerate() {
        *c = UserPtr::<u8>::new(at.wrapping_add(i as u64)).read()?;
        if *c == 0 {
            break;
        }
    }
    let name = name.split(|&c| c == 0 || c == b':').next().unwrap_or(&[]);
    ns.links().index_of(name).ok_or(Errno::ENODEV)
}

fn route6(ns: &NetNamespace, add: bool, arg: u64) -> Result {
    let b = UserPtr::<[u8; RTMSG6]>::new(arg).read()?;
    let (to, gateway, prefix, flags) = (ip6(&b, 0), ip6(&b, 32), half(&b, 52), word(&b, 72));
    if prefix > 128 || half(&b, 54) > 128 {
        return Err(Errno::EINVAL);
    }
    // Routes that go by the source are not there.
    if half(&b, 54) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let prefix = prefix as u8;
    let kind = if flags & rtf::REJECT == 0 { RouteKind::Unicast } else { RouteKind::Unreachable };
    let metric = if add && word(&b, 56) == 0 { METRIC6 } else { word(&b, 56) };
    let device = word(&b, 76);
    if device != 0 {
        ns.links().link(device)?;
    }
    let gateway = (flags & rtf::GATEWAY != 0).then_some(gateway);
    let route = Route { metric, gateway, ..Route::new((to.masked(prefix), prefix), table::MAIN, kind, device) };
    change(ns, route, add)
}

/// Enters a route or takes the first away that is like it, and tells of it.
fn change(ns: &NetNamespace, mut route: Route, add: bool) -> Result {
    if !add {
        // Whoever made it.
        route.proto = 0;
    }
    let mut change = netlink::Change::new(ns, None);
    netlink::change_route(&mut change, route, add, Manner { create: true, ..Manner::default() }).map_err(|e| e.0)?;
    netlink::announce(ns, change.notices(), None);
    Ok(())
}

fn neighbour(ns: &NetNamespace, request: u32, arg: u64) -> Result {
    let at = UserPtr::<[u8; ARPREQ]>::new(arg);
    let mut b = at.read()?;
    let flags = word(&b, 32);
    if half(&b, 0) != af::INET {
        return Err(Errno::EPFNOSUPPORT);
    }
    if flags & atf::PUBL == 0 && flags & (atf::NETMASK | atf::DONTPUB) != 0 {
        return Err(Errno::EINVAL);
    }
    let ip = ip4(&b, 0);
    let link = device_of(ns, request, &mut b, ip)?;
    let loopback = link.is_loopback();
    // On the loopback interface all are kept as one, which is not found by their addresses (`arp_constructor`).
    let sought = (link.index, ip);
    let key = (link.index, if loopback { Ip::ANY4 } else { ip });
    match request {
        GARP => {
            let found = ns.links().neighbours.get(&sought).copied().ok_or(Errno::ENXIO)?;
            if found.state & nud::NOARP != 0 {
                return Err(Errno::ENXIO);
            }
            let told = match found.state {
                s if s & nud::PERMANENT != 0 => atf::PERM | atf::COM,
                s if s & nud::VALID != 0 => atf::COM,
                _ => 0,
            };
            b[16..18].copy_from_slice(&link.hardware().to_ne_bytes());
            b[18..24].copy_from_slice(&found.mac.unwrap_or_default());
            b[32..36].copy_from_slice(&told.to_ne_bytes());
            b[52..].fill(0);
            b[52..52 + link.name.len()].copy_from_slice(&link.name);
            at.write(b)
        }
        DARP => ns.change_links(|l| l.neighbours.remove(&sought)).map(drop).ok_or(Errno::ENXIO),
        _ => {
            let permanent = flags & atf::PERM != 0;
            let given = flags & (atf::COM | atf::PERM) != 0;
            let mut mac = [0; 6];
            mac.copy_from_slice(&b[18..24]);
            let own = (loopback || link.bits & iff::NOARP != 0).then_some(link.mac);
            let old = ns.links().neighbours.get(&key).and_then(|n| n.mac);
            let mac = if given { Some(mac) } else { old.or(own) };
            if mac.is_none() {
                return Err(Errno::EINVAL);
            }
            let state = if permanent { nud::PERMANENT } else { nud::STALE };
            ns.change_links(|l| l.add_neighbour(key, Neighbour { state, flags: 0, mac }))
        }
    }
}

/// The interface of a neighbour (`arp_req_dev`): that of the name, or of the route to it.
fn device_of(ns: &NetNamespace, request: u32, b: &mut [u8; ARPREQ], ip: Ip) -> Result<Link> {
    let name = b[52..].split(|&c| c == 0).next().unwrap_or(&[]);
    let links = ns.links();
    let link = if !name.is_empty() {
        links.link(links.index_of(name).ok_or(Errno::ENODEV)?)?.clone()
    } else if request == GARP {
        return Err(Errno::ENODEV);
    } else if word(b, 32) & atf::PUBL != 0 {
        // There are no proxies.
        return Err(if request == DARP { Errno::ENXIO } else { Errno::EOPNOTSUPP });
    } else {
        let meant = if ip.is_any() { Ip::LOOPBACK4 } else { ip };
        let (Via::Here(route) | Via::Out(route)) = links.lookup(&Query::to(meant))?;
        links.link(route.device)?.clone()
    };
    if word(b, 32) & atf::PUBL != 0 && request != GARP {
        return Err(if request == DARP { Errno::ENXIO } else { Errno::EOPNOTSUPP });
    }
    let kind = match half(b, 16) {
        0 => link.hardware(),
        kind => kind,
    };
    let wrong = kind != link.hardware();
    if wrong && (word(b, 32) & atf::COM != 0 || request == SARP) { Err(Errno::EINVAL) } else { Ok(link) }
}
