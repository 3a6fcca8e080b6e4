//! `RTM_*NEIGH`.

use super::super::message::{Answer, Request};
use super::strict::{self, Form};
use super::{Change, Outcome, add_ip, family_of, group, head, ip_of, matches, rtm, word};
use crate::abi::Errno;
use crate::net::NetNamespace;
use crate::net::inet::addr::Ip;
use crate::net::links::{Links, Neighbour, Refusal, RouteKind, iff, nud};
use crate::net::socket::af;

/// Bytes of a `struct ndmsg`.
const BODY: usize = 12;
/// `NDA_*`.
const DST: u16 = 1;
const LLADDR: u16 = 2;
const CACHEINFO: u16 = 3;
const PROBES: u16 = 4;
const PROTOCOL: u16 = 12;
const IFINDEX: u16 = 8;
const MASTER: u16 = 9;
const LAST: u16 = 16;
/// Most neighbours.
const MOST: usize = 4096;

/// What kind of route leads to a neighbour (`arp_constructor`, `ndisc_constructor`).
fn kind_of(links: &Links, index: u32, ip: Ip) -> RouteKind {
    let loopback = links.link(index).is_ok_and(|l| l.is_loopback());
    match ip {
        ip if ip.is_multicast() => RouteKind::Multicast,
        ip if !ip.is_v4() && loopback => RouteKind::Local,
        ip if ip.is_v4() && (ip.is_any() || ip.is_broadcast() || links.is_broadcast(ip)) => RouteKind::Broadcast,
        ip if ip.is_v4() && links.is_local(ip) => RouteKind::Local,
        _ => RouteKind::Unicast,
    }
}

fn put(links: &Links, index: u32, ip: Ip, n: &Neighbour, kind: u16, answer: &mut Answer) {
    let mut body = [0u8; BODY];
    body[0] = family_of(ip) as u8;
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..10].copy_from_slice(&n.state.to_ne_bytes());
    body[10] = n.flags;
    body[11] = kind_of(links, index, ip) as u8;
    answer.begin(kind, &body);
    add_ip(answer, DST, ip);
    if let Some(mac) = n.mac.filter(|_| n.state & nud::VALID != 0) {
        answer.add(LLADDR, &mac);
    }
    answer.add_u32(PROBES, 0);
    answer.add(CACHEINFO, &[0; 16]);
}

/// What is said of requests for dumps and for one neighbour (`neigh_valid_dump_req`, `neigh_valid_get_req`).
const DUMP: Form = Form {
    body: BODY,
    empty: &[(1, 10), (11, 12)],
    known: &[IFINDEX, MASTER],
    last: LAST,
    words: [
        "Invalid header for neighbor dump request",
        "Invalid values in header for neighbor dump request",
        "Unsupported attribute in neighbor dump request",
    ],
};
const GET: Form = Form {
    empty: &[(1, 4), (8, 10), (11, 12)],
    known: &[DST],
    words: [
        "Invalid header for neighbor get request",
        "Invalid values in header for neighbor get request",
        "Unsupported attribute in neighbor get request",
    ],
    ..DUMP
};
/// `NTF_PROXY`.
const PROXY: u8 = 8;

pub(super) fn dump(ns: &NetNamespace, family: u16, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    let body = request.body();
    if request.strict {
        strict::check_head(request, &DUMP)?;
        if body[10] & !PROXY != 0 {
            return Err(Refusal(Errno::EINVAL, "Invalid flags in header for neighbor dump request"));
        }
        strict::check(request, &DUMP)?;
    }
    let number = |n: u16| if body.len() < BODY { Ok(None) } else { request.number(BODY, n) };
    let (device, master) = (number(IFINDEX)?.unwrap_or(0), number(MASTER)?.unwrap_or(0));
    // No interface is below another, and there are no proxies.
    if body.len() >= BODY && body[10] == PROXY || master != 0 && master != u32::MAX {
        return Ok(());
    }
    answer.filtered(device != 0 || master != 0);
    let links = ns.links();
    for ((index, ip), n) in links.neighbours.iter().filter(|((_, ip), _)| matches(family, *ip)) {
        if device == 0 || device == *index {
            put(&links, *index, *ip, n, rtm::NEWNEIGH, answer);
        }
    }
    answer.filtered(false);
    Ok(())
}

/// One neighbour (`neigh_get`).
pub(super) fn get(ns: &NetNamespace, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    strict::check_head(request, &GET)?;
    let body = request.body();
    let refuse = |errno: Errno, words: &'static str| Err(Refusal(errno, words));
    if body[10] & !PROXY != 0 {
        return refuse(Errno::EINVAL, "Invalid flags in header for neighbor get request");
    }
    let (family, index) = (u16::from(body[0]), word(body, 4));
    if body[10] & PROXY == 0 && index == 0 {
        return refuse(Errno::EINVAL, "No device specified");
    }
    strict::check(request, &GET)?;
    let Some(given) = request.attribute(BODY, DST) else { return Err(Errno::EINVAL.into()) };
    if !matches!(family, af::INET | af::INET6) {
        return refuse(Errno::EAFNOSUPPORT, "Unsupported family in header for neighbor get request");
    }
    let Ok(ip) = ip_of(family, given) else {
        return refuse(Errno::EINVAL, "Invalid network address in neighbor get request");
    };
    let links = ns.links();
    if links.link(index).is_err() {
        return refuse(Errno::ENODEV, "Unknown device ifindex");
    }
    match links.neighbours.get(&(index, ip)) {
        Some(n) if body[10] & PROXY == 0 => put(&links, index, ip, n, rtm::NEWNEIGH, answer),
        Some(_) => return refuse(Errno::ENOENT, "Proxy neighbour entry not found"),
        None => return refuse(Errno::ENOENT, "Neighbour entry not found"),
    }
    Ok(())
}

/// Enters a neighbour or takes one away (`neigh_add`, `neigh_delete`).
pub(super) fn change(change: &mut Change<'_>, request: &Request<'_>) -> Outcome {
    let body = head(request, BODY)?;
    let (family, index) = (u16::from(body[0]), word(body, 4));
    let state = u16::from_ne_bytes([body[8], body[9]]);
    let Some(given) = request.attribute(BODY, DST) else {
        return Err(Refusal(Errno::EINVAL, "Network address not specified"));
    };
    let new = request.kind == rtm::NEWNEIGH;
    let link = if index == 0 { None } else { Some(change.ns.links().link(index)?.clone()) };
    // Addresses may be longer than is needed.
    let mac = match request.attribute(BODY, LLADDR).filter(|_| new).map(|b| b.first_chunk::<6>()) {
        Some(None) if link.is_some() => return Err(Refusal(Errno::EINVAL, "Invalid link address")),
        given => given.flatten().copied(),
    };
    if !matches!(family, af::INET | af::INET6) {
        return Err(Refusal(Errno::EAFNOSUPPORT, if new { "Unsupported address family" } else { "" }));
    }
    let width = if family == af::INET { 4 } else { 16 };
    let Some(given) = given.get(..width) else {
        return Err(Refusal(Errno::EINVAL, "Invalid network address"));
    };
    let ip = ip_of(family, given)?;
    let Some(link) = link else { return Err(Refusal(Errno::EINVAL, if new { "Device not specified" } else { "" })) };
    // Proxies and neighbours that others manage are not there.
    if new && (body[10] != 0 || request.has_others(BODY, &[DST, LLADDR, PROTOCOL])) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if !new && body[10] & PROXY != 0 {
        return Err(Errno::ENOENT.into());
    }
    change.echoes = false;
    let loopback = link.is_loopback();
    // All neighbours of version 4 on the loopback interface are one, which is not found by their addresses
    // (`arp_constructor`).
    let sought = (index, ip);
    let ip = if ip.is_v4() && loopback { Ip::ANY4 } else { ip };
    // What needs no address in the link layer has that of the interface.
    let own = (loopback || link.bits & iff::NOARP != 0).then_some(link.mac);
    let manner = request.manner();
    let told = change.ns.change_links(|links| {
        let there = links.neighbours.get(&sought).copied();
        if request.kind == rtm::DELNEIGH {
            links.neighbours.remove(&sought);
            return there.ok_or(Refusal(Errno::ENOENT, ""));
        }
        match there {
            Some(_) if manner.exclusive => return Err(Errno::EEXIST.into()),
            None if !manner.create => return Err(Errno::ENOENT.into()),
            None if links.neighbours.len() >= MOST => return Err(Errno::ENOBUFS.into()),
            _ => {}
        }
        let mac = mac.or(there.filter(|_| !manner.replace).and_then(|n| n.mac)).or(own);
        if state & nud::VALID & !nud::NOARP != 0 && mac.is_none() {
            return Err(Refusal(Errno::EINVAL, "No link layer address given"));
        }
        let new = Neighbour { state, flags: 0, mac };
        links.neighbours.insert((index, ip), new);
        Ok(new)
    })?;
    // Linux tells of one that goes as one that has failed.
    let ns = change.ns;
    change.tell(group::NEIGH, |a| put(&ns.links(), index, ip, &told, request.kind, a));
    Ok(())
}
