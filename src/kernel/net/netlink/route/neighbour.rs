//! `RTM_*NEIGH`.

use super::super::message::{Answer, Request};
use super::{Change, Outcome, add_ip, family_of, group, ip_of, matches, rtm, word};
use crate::abi::Errno;
use crate::net::NetNamespace;
use crate::net::inet::addr::Ip;
use crate::net::links::{Neighbour, Refusal};
use crate::net::socket::af;

/// Bytes of a `struct ndmsg`.
const BODY: usize = 12;
/// `NDA_*`.
const DST: u16 = 1;
const LLADDR: u16 = 2;
const CACHEINFO: u16 = 3;
const PROBES: u16 = 4;
const PROTOCOL: u16 = 12;
/// `NUD_NOARP`, and the states that say that the address in the link layer is known (`NUD_VALID`).
const NOARP: u16 = 0x40;
const VALID: u16 = 0x80 | NOARP | 2 | 0x10 | 4 | 8;
/// Most neighbours.
const MOST: usize = 4096;

fn put(index: u32, ip: Ip, n: &Neighbour, kind: u16, answer: &mut Answer) {
    let mut body = [0u8; BODY];
    body[0] = family_of(ip) as u8;
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..10].copy_from_slice(&n.state.to_ne_bytes());
    body[10] = n.flags;
    // RTN_UNICAST.
    body[11] = 1;
    answer.begin(kind, &body);
    add_ip(answer, DST, ip);
    if let Some(mac) = n.mac {
        answer.add(LLADDR, &mac);
    }
    answer.add_u32(PROBES, 0);
    answer.add(CACHEINFO, &[0; 16]);
}

pub(super) fn dump(ns: &NetNamespace, request: &Request<'_>, answer: &mut Answer) {
    let body = request.body();
    let (family, device) = (u16::from(body[0]), if body.len() >= BODY { word(body, 4) } else { 0 });
    let links = ns.links();
    for ((index, ip), n) in links.neighbours.iter().filter(|((_, ip), _)| matches(family, *ip)) {
        if device == 0 || device == *index {
            put(*index, *ip, n, rtm::NEWNEIGH, answer);
        }
    }
}

/// Enters a neighbour or takes one away (`neigh_add`, `neigh_delete`).
pub(super) fn change(change: &mut Change<'_>, request: &Request<'_>) -> Outcome {
    let body = request.body().get(..BODY).ok_or(Errno::EINVAL)?;
    let (family, index) = (u16::from(body[0]), word(body, 4));
    let state = u16::from_ne_bytes([body[8], body[9]]);
    let Some(given) = request.attribute(BODY, DST) else {
        return Err(Refusal(Errno::EINVAL, "Network address not specified"));
    };
    let loopback = change.ns.links().link(index)?.is_loopback();
    if !matches!(family, af::INET | af::INET6) {
        return Err(Refusal(Errno::EAFNOSUPPORT, "Unsupported address family"));
    }
    // Proxies and neighbours that others manage are not there.
    if body[10] != 0 || request.has_others(BODY, &[DST, LLADDR, PROTOCOL]) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let ip = match ip_of(family, given) {
        // All neighbours of version 4 on the loopback interface are one (`arp_constructor`).
        Ok(ip) if ip.is_v4() && loopback => Ip::ANY4,
        Ok(ip) => ip,
        Err(_) => return Err(Refusal(Errno::EINVAL, "Invalid network address")),
    };
    let mac = match request.attribute(BODY, LLADDR) {
        None => None,
        Some(b) => Some(b.try_into().map_err(|_| Refusal(Errno::EINVAL, "Invalid link address"))?),
    };
    let manner = request.manner();
    let told = change.ns.change_links(|links| {
        let there = links.neighbours.get(&(index, ip)).copied();
        if request.kind == rtm::DELNEIGH {
            links.neighbours.remove(&(index, ip));
            return there.ok_or(Refusal(Errno::ENOENT, ""));
        }
        match there {
            Some(_) if manner.exclusive => return Err(Errno::EEXIST.into()),
            None if !manner.create => return Err(Errno::ENOENT.into()),
            None if links.neighbours.len() >= MOST => return Err(Errno::ENOBUFS.into()),
            _ => {}
        }
        let mac = mac.or(there.filter(|_| !manner.replace).and_then(|n| n.mac));
        if state & VALID & !NOARP != 0 && mac.is_none() {
            return Err(Refusal(Errno::EINVAL, "No link layer address given"));
        }
        let new = Neighbour { state, flags: 0, mac };
        links.neighbours.insert((index, ip), new);
        Ok(new)
    })?;
    // Linux tells of one that goes as one that has failed.
    change.tell(group::NEIGH, |a| put(index, ip, &told, request.kind, a));
    Ok(())
}
