//! `RTM_*ADDR`.

use super::super::message::{Answer, Request};
use super::{Change, Outcome, Snapshot, add_ip, add_text, family_of, ip_of, matches, rtm, text, word};
use crate::abi::Errno;
use crate::net::NetNamespace;
use crate::net::links::{Address, Refusal};
use crate::net::socket::af;

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
    pub const KNOWN: [u16; 6] = [ADDRESS, LOCAL, LABEL, BROADCAST, CACHEINFO, FLAGS];
}

/// `IFA_F_NODAD`, `IFA_F_HOMEADDRESS`, `IFA_F_NOPREFIXROUTE`, `IFA_F_PERMANENT`.
const FLAGS: u32 = 0x02 | 0x10 | 0x200 | 0x80;

/// Puts an address into an answer (`inet_fill_ifaddr`).
pub(super) fn put(index: u32, a: &Address, kind: u16, answer: &mut Answer) {
    let mut body = [family_of(a.ip) as u8, a.prefix, a.flags as u8, a.scope, 0, 0, 0, 0];
    body[4..].copy_from_slice(&index.to_ne_bytes());
    answer.begin(kind, &body);
    add_ip(answer, ifa::ADDRESS, a.peer);
    if a.ip.is_v4() || a.peer != a.ip {
        add_ip(answer, ifa::LOCAL, a.ip);
    }
    if let Some(b) = a.broadcast {
        add_ip(answer, ifa::BROADCAST, b);
    }
    if !a.label.is_empty() {
        add_text(answer, ifa::LABEL, &a.label);
    }
    answer.add_u32(ifa::FLAGS, a.flags);
    let mut times = [0u8; 16];
    times[..4].copy_from_slice(&a.life[1].to_ne_bytes());
    times[4..8].copy_from_slice(&a.life[0].to_ne_bytes());
    answer.add(ifa::CACHEINFO, &times);
}

pub(super) fn dump(ns: &NetNamespace, family: u16, answer: &mut Answer) {
    let links = ns.links();
    for v4 in [true, false] {
        for (index, a) in links.addresses().filter(|(_, a)| a.ip.is_v4() == v4 && matches(family, a.ip)) {
            put(index, a, rtm::NEWADDR, answer);
        }
    }
}

pub(super) fn change(change: &mut Change<'_>, request: &Request<'_>) -> Outcome {
    let body = request.body().get(..BODY).ok_or(Errno::EINVAL)?;
    let (family, index) = (u16::from(body[0]), word(body, 4));
    if !matches!(family, af::INET | af::INET6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let v4 = family == af::INET;
    let (own, other) = (request.attribute(BODY, ifa::LOCAL), request.attribute(BODY, ifa::ADDRESS));
    let width = if v4 { 32 } else { 128 };
    if v4 && body[1] > width {
        return Err(Refusal(Errno::EINVAL, "ipv4: Invalid prefix length"));
    }
    if v4 && own.is_none() && request.kind == rtm::NEWADDR {
        return Err(Refusal(Errno::EINVAL, "ipv4: Local address is not supplied"));
    }
    let given = own.or(other).ok_or(Errno::EINVAL)?;
    if body[1] > width {
        return Err(Refusal(Errno::EINVAL, "ipv6: Invalid prefix length"));
    }
    let ip = ip_of(family, given)?;
    let peer = other.map_or(Ok(ip), |b| ip_of(family, b))?;
    let Ok(link) = change.ns.links().link(index).cloned() else {
        return Err(Refusal(Errno::ENODEV, if v4 { "ipv4: Device not found" } else { "Unable to find the interface" }));
    };
    let before = Snapshot::of(change.ns);
    if request.kind == rtm::DELADDR {
        change.ns.change_links(|l| l.remove_address(index, ip, (other.is_some() || !v4).then_some(body[1])))?;
        change.told_rest(&before, false);
        return Ok(());
    }
    if request.has_others(BODY, &ifa::KNOWN) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if !v4 && (ip.is_multicast() || ip.is_any()) {
        return Err(Refusal(Errno::EADDRNOTAVAIL, "Cannot assign multicast or unspecified address"));
    }
    let flags = request.number(BODY, ifa::FLAGS)?.unwrap_or(u32::from(body[2]));
    // Addresses that are valid for a while only, and those of temporary kinds, are not there.
    let life = request
        .attribute(BODY, ifa::CACHEINFO)
        .filter(|b| b.len() >= 8)
        .map_or([u32::MAX; 2], |b| [word(b, 4), word(b, 0)]);
    if life != [u32::MAX; 2] || flags & !FLAGS != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let label = match request.attribute(BODY, ifa::LABEL).map(text) {
        Some(label) if v4 => label.to_vec(),
        _ if v4 => link.name.clone(),
        _ => alloc::vec::Vec::new(),
    };
    let broadcast = request.attribute(BODY, ifa::BROADCAST).map(|b| ip_of(family, b)).transpose()?;
    let scope = if v4 { body[3] } else { scope6(ip) };
    let address = Address { ip, peer, prefix: body[1], scope, flags: flags & !1 | 0x80, broadcast, label, life };
    let replace = request.manner().replace;
    change.ns.change_links(|l| l.add_address(index, address, replace))?;
    change.told_rest(&before, false);
    Ok(())
}

/// The scope of an address of version 6 follows from it (`rt_scope`).
fn scope6(ip: crate::net::inet::addr::Ip) -> u8 {
    use crate::net::links::scope::{HOST, LINK, UNIVERSE};
    match ip {
        ip if ip.is_loopback() => HOST,
        ip if ip.is_link_local() => LINK,
        _ => UNIVERSE,
    }
}
