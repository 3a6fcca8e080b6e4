//! `NETLINK_ROUTE` (`rtnetlink(7)`): the loopback interface, its addresses and routes.

use super::message::{Answer, Request};
use crate::abi::{Errno, Result};
use crate::cred::cap;
use crate::net::NetNamespace;
use crate::net::inet::Extra;
use crate::net::inet::addr::Ip;
use crate::net::inet::ioctl::{INDEX, MTU, flags};
use crate::net::socket::af;
use crate::vfs::OpCtx;
use alloc::vec::Vec;

/// `RTM_*` (`linux/rtnetlink.h`).
mod rtm {
    pub const NEWLINK: u16 = 16;
    pub const GETLINK: u16 = 18;
    pub const SETLINK: u16 = 19;
    pub const NEWADDR: u16 = 20;
    pub const DELADDR: u16 = 21;
    pub const GETADDR: u16 = 22;
    pub const NEWROUTE: u16 = 24;
    pub const GETROUTE: u16 = 26;
    pub const GETNEIGH: u16 = 30;
    pub const NEWRULE: u16 = 32;
    pub const GETRULE: u16 = 34;
    pub const GETQDISC: u16 = 38;
    /// The last number that Linux knows.
    pub const MAX: u16 = 123;
}

/// `RT_SCOPE_HOST`, `RT_SCOPE_LINK`, `RT_TABLE_LOCAL`, `RTPROT_KERNEL`, `RTN_LOCAL`, `RTN_BROADCAST`.
const HOST: u8 = 254;
const LINK: u8 = 253;
const LOCAL_TABLE: u8 = 255;
const KERNEL: u8 = 2;
const LOCAL: u8 = 2;
const BROADCAST: u8 = 3;
/// `IFA_F_PERMANENT`.
const PERMANENT: u8 = 0x80;

/// Answers one request (`rtnetlink_rcv_msg`).
///
/// # Errors
/// `EOPNOTSUPP`, `EPERM`, `ENODEV`, `EINVAL` …
pub fn serve(ctx: &OpCtx<'_>, ns: &NetNamespace, request: &Request<'_>, answer: &mut Answer) -> Result {
    if request.kind > rtm::MAX {
        return Err(Errno::EOPNOTSUPP);
    }
    let body = request.body();
    let Some(&family) = body.first() else { return Ok(()) };
    // Every kind has four numbers: new, delete, get, set. All but get change something.
    if request.kind & 3 != 2 && !ns.may(ctx.cred, cap::NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    let family = u16::from(family);
    match request.kind {
        rtm::GETLINK if request.is_dump() => link(ns, answer),
        rtm::GETLINK => {
            named(request)?;
            link(ns, answer);
        }
        rtm::NEWLINK | rtm::SETLINK => return set_link(ns, request),
        rtm::GETADDR if request.is_dump() => addresses(ns, family, answer),
        rtm::NEWADDR | rtm::DELADDR => return change_address(ns, request),
        rtm::GETROUTE if request.is_dump() => routes(ns, family, answer),
        rtm::GETROUTE => return route_to(ns, family, request, answer),
        rtm::GETRULE if request.is_dump() => rules(family, answer),
        // There are no neighbours and no queueing disciplines.
        rtm::GETNEIGH | rtm::GETQDISC if request.is_dump() => {}
        _ => return Err(Errno::EOPNOTSUPP),
    }
    Ok(())
}

/// Checks that a request about an interface names the one that there is.
fn named(request: &Request<'_>) -> Result {
    let body = request.body().get(..16).ok_or(Errno::EINVAL)?;
    let index = u32::from_ne_bytes([body[4], body[5], body[6], body[7]]);
    let name = request.attribute(16, 3).map(|n| n.split(|&b| b == 0).next().unwrap_or(&[]));
    match (index, name) {
        (INDEX, _) | (0, Some(b"lo")) => Ok(()),
        (0, None) => Err(Errno::EINVAL),
        _ => Err(Errno::ENODEV),
    }
}

fn link(ns: &NetNamespace, answer: &mut Answer) {
    let mut body = [0u8; 16];
    // ARPHRD_LOOPBACK.
    body[2..4].copy_from_slice(&772u16.to_ne_bytes());
    body[4..8].copy_from_slice(&INDEX.to_ne_bytes());
    let up = ns.loopback_is_up();
    // IFF_LOWER_UP is told here only.
    let bits = u32::from(flags(ns)) | if up { 0x1_0000 } else { 0 };
    body[8..12].copy_from_slice(&bits.to_ne_bytes());
    answer.begin(rtm::NEWLINK, &body);
    answer.add(3, b"lo\0");
    answer.add_u32(13, 1000);
    // Operational state: unknown, or down.
    answer.add(16, &[if up { 0 } else { 2 }]);
    answer.add(17, &[0]);
    answer.add_u32(4, MTU);
    for number in [50, 51, 27, 30] {
        answer.add_u32(number, 0);
    }
    for number in [31, 32] {
        answer.add_u32(number, 1);
    }
    answer.add(33, &[1]);
    answer.add(6, if up { b"noqueue\0" } else { b"noop\0" });
    answer.add_u32(35, 0);
    answer.add(1, &[0; 6]);
    answer.add(2, &[0; 6]);
    answer.add(23, &[0; 25 * 8]);
    answer.add(7, &[0; 24 * 4]);
}

fn set_link(ns: &NetNamespace, request: &Request<'_>) -> Result {
    named(request)?;
    let body = request.body();
    let word = |at: usize| u32::from_ne_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
    let (bits, change) = (word(8), word(12));
    if change & !1 != 0 && change != u32::MAX {
        return Err(Errno::EOPNOTSUPP);
    }
    if change & 1 != 0 {
        ns.set_loopback(bits & 1 != 0);
    }
    Ok(())
}

/// The addresses of the interface: its own two, and those that were added.
fn all_addresses(ns: &NetNamespace) -> Vec<Extra> {
    let mut all = Vec::new();
    if ns.loopback_is_up() {
        all.push(Extra { ip: Ip::LOOPBACK4, prefix: 8 });
        all.push(Extra { ip: Ip::LOOPBACK6, prefix: 128 });
        all.extend_from_slice(&ns.inet.extra.lock());
    }
    all
}

fn matches(family: u16, ip: Ip) -> bool {
    family == af::UNSPEC || (family == af::INET) == ip.is_v4() && matches!(family, af::INET | af::INET6)
}

/// An address as attributes have it: 4 or 16 bytes.
fn add_ip(answer: &mut Answer, number: u16, ip: Ip) {
    let b = ip.bytes();
    answer.add(number, if ip.is_v4() { &b[12..] } else { &b });
}

fn addresses(ns: &NetNamespace, family: u16, answer: &mut Answer) {
    let mut all = all_addresses(ns);
    all.sort_by_key(|e| !e.ip.is_v4());
    for e in all.into_iter().filter(|e| matches(family, e.ip)) {
        let own = if e.ip.is_v4() { af::INET } else { af::INET6 };
        let scope = if e.ip.is_loopback() { HOST } else { 0 };
        let mut body = [own as u8, e.prefix, PERMANENT, scope, 0, 0, 0, 0];
        body[4..].copy_from_slice(&INDEX.to_ne_bytes());
        answer.begin(rtm::NEWADDR, &body);
        add_ip(answer, 1, e.ip);
        if e.ip.is_v4() {
            add_ip(answer, 2, e.ip);
            answer.add(3, b"lo\0");
        }
        answer.add_u32(8, u32::from(PERMANENT));
        let mut times = [0u8; 16];
        times[..8].fill(0xff);
        answer.add(6, &times);
    }
}

fn ip_of(family: u16, bytes: &[u8]) -> Result<Ip> {
    match (family, bytes.len()) {
        (af::INET, 4) => Ok(Ip::v4(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))),
        (af::INET6, 16) => {
            let mut b = [0; 16];
            b.copy_from_slice(bytes);
            Ok(Ip::from_bytes(b))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Adds an address to the interface, or takes one away.
fn change_address(ns: &NetNamespace, request: &Request<'_>) -> Result {
    /// Most addresses that can be added.
    const MOST: usize = 1024;
    let body = request.body().get(..8).ok_or(Errno::EINVAL)?;
    if u32::from_ne_bytes([body[4], body[5], body[6], body[7]]) != INDEX {
        return Err(Errno::ENODEV);
    }
    let bytes = request.attribute(8, 2).or(request.attribute(8, 1)).ok_or(Errno::EINVAL)?;
    let ip = ip_of(u16::from(body[0]), bytes)?;
    let mut extra = ns.inet.extra.lock();
    let there = extra.iter().position(|e| e.ip == ip);
    match (request.kind, there) {
        (rtm::NEWADDR, Some(_)) => Err(Errno::EEXIST),
        // These the interface has by itself as soon as it is up.
        (rtm::NEWADDR, None) if ip == Ip::LOOPBACK4 || ip == Ip::LOOPBACK6 => {
            if ns.loopback_is_up() {
                Err(Errno::EEXIST)
            } else {
                Ok(())
            }
        }
        (rtm::NEWADDR, None) if extra.len() >= MOST => Err(Errno::ENOBUFS),
        (rtm::NEWADDR, None) => {
            extra.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
            extra.push(Extra { ip, prefix: body[1] });
            Ok(())
        }
        (_, Some(at)) => {
            extra.remove(at);
            Ok(())
        }
        // The interface's own addresses cannot be taken away yet.
        (_, None) if ip.is_loopback() => Err(Errno::EOPNOTSUPP),
        (_, None) => Err(Errno::EADDRNOTAVAIL),
    }
}

/// One route: destination, bits of it, type, scope.
fn route(answer: &mut Answer, (ip, bits): (Ip, u8), kind: u8, scope: u8) {
    let family = if ip.is_v4() { af::INET } else { af::INET6 };
    let scope = if ip.is_v4() { scope } else { 0 };
    answer.begin(rtm::NEWROUTE, &[family as u8, bits, 0, 0, LOCAL_TABLE, KERNEL, scope, kind, 0, 0, 0, 0]);
    answer.add_u32(15, u32::from(LOCAL_TABLE));
    add_ip(answer, 1, ip);
    if ip.is_v4() {
        add_ip(answer, 7, if ip.is_loopback() { Ip::LOOPBACK4 } else { ip });
    } else {
        answer.add_u32(6, 0);
    }
    answer.add_u32(4, INDEX);
}

fn routes(ns: &NetNamespace, family: u16, answer: &mut Answer) {
    if !ns.loopback_is_up() {
        return;
    }
    if matches(family, Ip::LOOPBACK4) {
        route(answer, (Ip::v4(0x7f00_0000), 8), LOCAL, HOST);
        route(answer, (Ip::LOOPBACK4, 32), LOCAL, HOST);
        route(answer, (Ip::v4(0x7fff_ffff), 32), BROADCAST, LINK);
    }
    if matches(family, Ip::LOOPBACK6) {
        route(answer, (Ip::LOOPBACK6, 128), LOCAL, HOST);
    }
    let extra = ns.inet.extra.lock().clone();
    for e in extra.into_iter().filter(|e| matches(family, e.ip)) {
        route(answer, (e.ip, if e.ip.is_v4() { 32 } else { 128 }), LOCAL, HOST);
    }
}

fn route_to(ns: &NetNamespace, family: u16, request: &Request<'_>, answer: &mut Answer) -> Result {
    let to = ip_of(family, request.attribute(12, 1).ok_or(Errno::EINVAL)?)?;
    if !ns.is_local(to) {
        return Err(Errno::ENETUNREACH);
    }
    route(answer, (to, if to.is_v4() { 32 } else { 128 }), LOCAL, 0);
    Ok(())
}

/// The rules that there always are: tables local, main, default.
fn rules(family: u16, answer: &mut Answer) {
    let each: &[u16] = match family {
        af::INET => &[af::INET],
        af::INET6 => &[af::INET6],
        _ => &[af::INET, af::INET6],
    };
    for &own in each {
        for (priority, table) in [(0u32, 255u8), (32766, 254), (32767, 253)] {
            if own == af::INET6 && table == 253 {
                continue;
            }
            answer.begin(rtm::NEWRULE, &[own as u8, 0, 0, 0, table, 0, 0, 1, 0, 0, 0, 0]);
            answer.add_u32(15, u32::from(table));
            answer.add_u32(14, u32::MAX);
            if priority > 0 {
                answer.add_u32(6, priority);
            }
            answer.add(21, &[KERNEL]);
        }
    }
}
