//! `RTM_*ADDR`.

use super::super::message::{Answer, Request};
use super::strict::{self, Form};
use super::{Change, Outcome, Snapshot, add_ip, add_text, family_of, head, ip_of, matches, rtm, text, word};
use crate::abi::Errno;
use crate::net::NetNamespace;
use crate::net::inet::addr::Ip;
use crate::net::links::{Address, FOR_EVER, NAME, PERMANENT_ADDRESS, Refusal};
use crate::net::socket::af;
use crate::time;
use alloc::vec::Vec;

/// Bytes of a `struct ifaddrmsg`.
const BODY: usize = 8;

/// `IFA_*`.
mod ifa {
    pub const ADDRESS: u16 = 1;
    pub const LOCAL: u16 = 2;
    pub const LABEL: u16 = 3;
    pub const BROADCAST: u16 = 4;
    pub const CACHEINFO: u16 = 6;
    pub const FLAGS: u16 = 8;
    pub const RT_PRIORITY: u16 = 9;
    pub const TARGET_NETNSID: u16 = 10;
    pub const PROTO: u16 = 11;
    pub const KNOWN: [u16; 8] = [ADDRESS, LOCAL, LABEL, BROADCAST, CACHEINFO, FLAGS, RT_PRIORITY, PROTO];
}

/// What is said of requests for dumps (`inet_valid_dump_ifaddr_req`, `inet6_valid_dump_ifaddr_req`) and for one address
/// (`inet6_rtm_valid_getaddr_req`).
const DUMP4: Form = Form {
    body: BODY,
    empty: &[(1, 4)],
    known: &[ifa::TARGET_NETNSID],
    last: ifa::PROTO,
    words: [
        "ipv4: Invalid header for address dump request",
        "ipv4: Invalid values in header for address dump request",
        "ipv4: Unsupported attribute in dump request",
    ],
};
const DUMP6: Form = Form {
    words: [
        "ipv6: Invalid header for address dump request",
        "ipv6: Invalid values in header for address dump request",
        "ipv6: Unsupported attribute in dump request",
    ],
    ..DUMP4
};
const GET6: Form = Form {
    known: &[ifa::ADDRESS, ifa::LOCAL, ifa::TARGET_NETNSID],
    words: [
        "ipv6: Invalid header for get address request",
        "ipv6: Invalid values in header for get address request",
        "ipv6: Unsupported attribute in get address request",
    ],
    ..DUMP4
};

/// `IFA_F_NODAD`, `IFA_F_HOMEADDRESS`, `IFA_F_NOPREFIXROUTE`, and what is ignored: `IFA_F_PERMANENT`, `IFA_F_SECONDARY`.
const FLAGS: u32 = 0x02 | 0x10 | 0x200;
const IGNORED: u32 = 0x80 | 1;
/// `IFA_F_MCAUTOJOIN`.
const JOIN: u32 = 0x400;

/// Puts an address into an answer (`inet_fill_ifaddr`, `inet6_fill_ifaddr`).
pub(super) fn put(index: u32, a: &Address, kind: u16, answer: &mut Answer) {
    let (life, flags) = a.told_at(time::host_monotonic());
    let mut body = [family_of(a.ip) as u8, a.prefix, flags as u8, a.scope, 0, 0, 0, 0];
    body[4..].copy_from_slice(&index.to_ne_bytes());
    answer.begin(kind, &body);
    let mut times = [0u8; 16];
    times[..4].copy_from_slice(&life[1].to_ne_bytes());
    times[4..8].copy_from_slice(&life[0].to_ne_bytes());
    if !a.ip.is_v4() {
        if a.peer != a.ip {
            add_ip(answer, ifa::LOCAL, a.ip);
        }
        add_ip(answer, ifa::ADDRESS, a.peer);
        if a.metric != 0 {
            answer.add_u32(ifa::RT_PRIORITY, a.metric);
        }
        answer.add(ifa::CACHEINFO, &times);
        answer.add_u32(ifa::FLAGS, flags);
        if a.proto != 0 {
            answer.add(ifa::PROTO, &[a.proto]);
        }
        return;
    }
    add_ip(answer, ifa::ADDRESS, a.peer);
    add_ip(answer, ifa::LOCAL, a.ip);
    if let Some(b) = a.broadcast {
        add_ip(answer, ifa::BROADCAST, b);
    }
    if !a.label.is_empty() {
        add_text(answer, ifa::LABEL, &a.label);
    }
    if a.proto != 0 {
        answer.add(ifa::PROTO, &[a.proto]);
    }
    answer.add_u32(ifa::FLAGS, flags);
    if a.metric != 0 {
        answer.add_u32(ifa::RT_PRIORITY, a.metric);
    }
    answer.add(ifa::CACHEINFO, &times);
}

pub(super) fn dump(ns: &NetNamespace, family: u16, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    let mut device = 0;
    if request.strict {
        strict::check(request, if family == af::INET6 { &DUMP6 } else { &DUMP4 })?;
        device = word(request.body(), 4);
    }
    let links = ns.links();
    if device != 0 {
        answer.filtered(true);
        links.link(device)?;
    }
    let asked = |index: u32, a: &Address| matches(family, a.ip) && (device == 0 || device == index);
    for (index, a) in links.addresses().filter(|(index, a)| a.ip.is_v4() && asked(*index, a)) {
        put(index, a, rtm::NEWADDR, answer);
    }
    // Those of version 6 that reach further come first, and of two the younger one (`ipv6_link_dev_addr`).
    let mut six: Vec<_> = links.addresses().filter(|(index, a)| !a.ip.is_v4() && asked(*index, a)).collect();
    six.reverse();
    six.sort_by_key(|(index, a)| (*index, a.scope));
    for (index, a) in six {
        put(index, a, rtm::NEWADDR, answer);
    }
    Ok(())
}

/// One address of version 6 (`inet6_rtm_getaddr`).
pub(super) fn get(ns: &NetNamespace, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    if request.strict {
        strict::check(request, &GET6)?;
    }
    let body = head(request, BODY)?;
    let given = request.attribute(BODY, ifa::LOCAL).or_else(|| request.attribute(BODY, ifa::ADDRESS));
    let ip = ip_of(af::INET6, given.ok_or(Errno::EINVAL)?)?;
    let device = word(body, 4);
    let links = ns.links();
    let found = links.addresses().find(|(index, a)| a.ip == ip && (device == 0 || device == *index));
    let (index, address) = found.ok_or(Errno::EADDRNOTAVAIL)?;
    put(index, address, rtm::NEWADDR, answer);
    Ok(())
}

/// Seconds that an address is valid and preferred (`inet_validate_rtm`).
fn life(request: &Request<'_>, words: &'static str) -> Outcome<[u32; 2]> {
    let Some(b) = request.attribute(BODY, ifa::CACHEINFO) else { return Ok(FOR_EVER) };
    if b.len() < 16 {
        return Err(Errno::EINVAL.into());
    }
    let [valid, preferred] = [word(b, 4), word(b, 0)];
    if valid == 0 || preferred > valid { Err(Refusal(Errno::EINVAL, words)) } else { Ok([valid, preferred]) }
}

pub(super) fn change(change: &mut Change<'_>, request: &Request<'_>) -> Outcome {
    let body = head(request, BODY)?;
    match (request.kind, u16::from(body[0])) {
        (rtm::NEWADDR, af::INET) => add4(change, request, body),
        (rtm::NEWADDR, af::INET6) => add6(change, request, body),
        (_, af::INET) => remove4(change, request, body),
        (_, af::INET6) => remove6(change, request, body),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// What both versions take from a request.
fn described(request: &Request<'_>, ip: Ip, prefix: u8, flags: u32, life: [u32; 2]) -> Outcome<Address> {
    let permanent = if life[0] == u32::MAX { PERMANENT_ADDRESS } else { 0 };
    let proto = request.attribute(BODY, ifa::PROTO).and_then(|b| b.first().copied()).unwrap_or(0);
    let metric = request.number(BODY, ifa::RT_PRIORITY)?.unwrap_or(0);
    let since = time::host_monotonic();
    Ok(Address { flags: flags & FLAGS | permanent, life, since, proto, metric, ..Address::own(ip, prefix) })
}

fn flags(request: &Request<'_>, body: &[u8]) -> Outcome<u32> {
    Ok(request.number(BODY, ifa::FLAGS)?.unwrap_or(u32::from(body[2])))
}

/// `inet_rtm_newaddr`.
fn add4(change: &mut Change<'_>, request: &Request<'_>, body: &[u8]) -> Outcome {
    let flags = flags(request, body)?;
    let label = request.attribute(BODY, ifa::LABEL);
    if label.is_some_and(|l| l.len() - usize::from(l.ends_with(&[0])) >= NAME) {
        return Err(Refusal(Errno::ERANGE, "Attribute failed policy validation"));
    }
    let label = label.map(text);
    if body[1] > 32 {
        return Err(Refusal(Errno::EINVAL, "ipv4: Invalid prefix length"));
    }
    let Some(own) = request.attribute(BODY, ifa::LOCAL) else {
        return Err(Refusal(Errno::EINVAL, "ipv4: Local address is not supplied"));
    };
    let ip = ip_of(af::INET, own)?;
    let peer = request.attribute(BODY, ifa::ADDRESS).map_or(Ok(ip), |b| ip_of(af::INET, b))?;
    let life = life(request, "ipv4: address lifetime invalid")?;
    let index = word(body, 4);
    let Ok(link) = change.ns.links().link(index).cloned() else {
        return Err(Refusal(Errno::ENODEV, "ipv4: Device not found"));
    };
    if request.has_others(BODY, &ifa::KNOWN) || flags & !(FLAGS | IGNORED) != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let label = label.unwrap_or(&link.name).to_vec();
    let broadcast = request.attribute(BODY, ifa::BROADCAST).map(|b| ip_of(af::INET, b)).transpose()?;
    let address = Address { peer, scope: body[3], broadcast, label, ..described(request, ip, body[1], flags, life)? };
    add(change, index, address, request.manner().replace)
}

fn add(change: &mut Change<'_>, index: u32, address: Address, replace: bool) -> Outcome {
    let before = Snapshot::of(change.ns);
    change.ns.change_links(|l| l.add_address(index, address, replace))?;
    change.told_rest(&before, false);
    Ok(())
}

/// The address of version 6 that a request names, and the other end's.
fn named6(request: &Request<'_>) -> Outcome<(Ip, Ip)> {
    let (own, other) = (request.attribute(BODY, ifa::LOCAL), request.attribute(BODY, ifa::ADDRESS));
    let ip = ip_of(af::INET6, own.or(other).ok_or(Errno::EINVAL)?)?;
    Ok((ip, other.map_or(Ok(ip), |b| ip_of(af::INET6, b))?))
}

/// `inet6_rtm_newaddr`.
fn add6(change: &mut Change<'_>, request: &Request<'_>, body: &[u8]) -> Outcome {
    let (ip, peer) = named6(request)?;
    let flags = flags(request, body)?;
    let life = life(request, "ipv6: address lifetime invalid")?;
    let index = word(body, 4);
    let Ok(link) = change.ns.links().link(index).cloned() else {
        return Err(Refusal(Errno::ENODEV, "ipv6: Unable to find the interface"));
    };
    if request.has_others(BODY, &ifa::KNOWN) || flags & !(FLAGS | IGNORED | JOIN) != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let replace = request.manner().replace;
    let there = change.ns.links().addresses_of(index).any(|a| a.ip == ip);
    let refused = |errno: Errno, words: &'static str| Err(Refusal(errno, words));
    if there && !replace {
        return refused(Errno::EEXIST, "ipv6: address already assigned");
    }
    if body[1] > 128 {
        return refused(Errno::EINVAL, "ipv6: Invalid prefix length");
    }
    match ip {
        ip if ip.is_any() => return refused(Errno::EADDRNOTAVAIL, "ipv6: Invalid address"),
        ip if ip.is_multicast() && flags & JOIN == 0 => {
            return refused(
                Errno::EADDRNOTAVAIL,
                "ipv6: Cannot assign multicast address without \"IFA_F_MCAUTOJOIN\" flag",
            );
        }
        ip if ip.is_loopback() && !link.is_loopback() => {
            return refused(Errno::EADDRNOTAVAIL, "ipv6: Cannot assign loopback address on this device");
        }
        _ if flags & JOIN != 0 => return Err(Errno::EOPNOTSUPP.into()),
        _ => {}
    }
    let address = Address { peer, scope: scope6(ip), ..described(request, ip, body[1], flags, life)? };
    add(change, index, address, replace)
}

/// `inet_rtm_deladdr`: the first one that has all that the request names.
fn remove4(change: &mut Change<'_>, request: &Request<'_>, body: &[u8]) -> Outcome {
    let ip = |number: u16| request.attribute(BODY, number).map(|b| ip_of(af::INET, b)).transpose();
    let (own, other) = (ip(ifa::LOCAL)?, ip(ifa::ADDRESS)?);
    let label = request.attribute(BODY, ifa::LABEL).map(text);
    let index = word(body, 4);
    if change.ns.links().link(index).is_err() {
        return Err(Refusal(Errno::ENODEV, "ipv4: Device not found"));
    }
    let bits = body[1];
    let fits = |a: &Address| {
        own.is_none_or(|ip| a.ip == ip)
            && label.is_none_or(|l| a.label == l)
            && other.is_none_or(|ip| a.prefix == bits && ip.masked(bits) == a.peer.masked(bits))
    };
    remove(change, index, true, fits)
}

/// `inet6_rtm_deladdr`.
fn remove6(change: &mut Change<'_>, request: &Request<'_>, body: &[u8]) -> Outcome {
    let (ip, _) = named6(request)?;
    if body[1] > 128 {
        return Err(Refusal(Errno::EINVAL, "ipv6: Invalid prefix length"));
    }
    let index = word(body, 4);
    if change.ns.links().link(index).is_err() {
        return Err(Refusal(Errno::ENODEV, "ipv6: Unable to find the interface"));
    }
    remove(change, index, false, |a| a.ip == ip && a.prefix == body[1])
}

fn remove(change: &mut Change<'_>, index: u32, v4: bool, fits: impl Fn(&Address) -> bool) -> Outcome {
    let before = Snapshot::of(change.ns);
    change.ns.change_links(|l| l.remove_address_that(index, v4, fits))?;
    change.told_rest(&before, false);
    Ok(())
}

/// The scope of an address of version 6 follows from it (`rt_scope`).
fn scope6(ip: Ip) -> u8 {
    use crate::net::links::scope::{HOST, LINK, UNIVERSE};
    match ip {
        ip if ip.is_loopback() => HOST,
        ip if ip.is_link_local() => LINK,
        _ => UNIVERSE,
    }
}
