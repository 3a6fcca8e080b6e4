//! `NETLINK_ROUTE` (`rtnetlink(7)`): the interfaces of a network, their addresses, routes, neighbours and rules. The
//! objects are those of [`crate::net::links`]; here they are read from messages and put into them.

mod address;
mod link;
mod neighbour;
mod path;
mod queue;
mod rule;
mod strict;

use super::message::{Answer, Request};
use crate::abi::Errno;
use crate::cred::cap;
use crate::net::NetNamespace;
use crate::net::bytes::word;
use crate::net::inet::addr::Ip;
use crate::net::links::{Address, Link, Manner, Refusal, Route, RouteKind};
use crate::net::socket::af;
use crate::vfs::OpCtx;
use alloc::vec::Vec;
use hashbrown::HashSet;
use strict::Form;

/// `RTM_*` (`linux/rtnetlink.h`).
pub(super) mod rtm {
    pub const NEWLINK: u16 = 16;
    pub const DELLINK: u16 = 17;
    pub const GETLINK: u16 = 18;
    pub const SETLINK: u16 = 19;
    pub const NEWADDR: u16 = 20;
    pub const DELADDR: u16 = 21;
    pub const GETADDR: u16 = 22;
    pub const NEWROUTE: u16 = 24;
    pub const DELROUTE: u16 = 25;
    pub const GETROUTE: u16 = 26;
    pub const NEWNEIGH: u16 = 28;
    pub const DELNEIGH: u16 = 29;
    pub const GETNEIGH: u16 = 30;
    pub const NEWRULE: u16 = 32;
    pub const DELRULE: u16 = 33;
    pub const GETRULE: u16 = 34;
    pub const NEWQDISC: u16 = 36;
    pub const GETQDISC: u16 = 38;
    pub const NEWTCLASS: u16 = 40;
    pub const GETTCLASS: u16 = 42;
    pub const GETNSID: u16 = 90;
    pub const GETNEXTHOP: u16 = 106;
    /// The last number that Linux knows.
    pub const MAX: u16 = 123;
}

/// `RTNLGRP_*`.
mod group {
    pub const LINK: u32 = 1;
    pub const NEIGH: u32 = 3;
    pub const IPV4_IFADDR: u32 = 5;
    pub const IPV4_ROUTE: u32 = 7;
    pub const IPV4_RULE: u32 = 8;
    pub const IPV6_IFADDR: u32 = 9;
    pub const IPV6_ROUTE: u32 = 11;
    pub const IPV6_RULE: u32 = 19;
}

type Outcome<T = ()> = Result<T, Refusal>;

/// What the members of a group are told.
pub struct Notice {
    /// `RTNLGRP_*`.
    pub group: u32,
    /// The message.
    pub packet: Vec<u8>,
}

/// A request on its way, and what is to be told of it.
pub struct Change<'a> {
    ns: &'a NetNamespace,
    asked: Option<(&'a Request<'a>, u32)>,
    notices: Vec<Notice>,
    /// Who asked hears of it as an answer, too (`NLM_F_ECHO`): not of what changes interfaces and neighbours.
    pub(super) echoes: bool,
}

impl<'a> Change<'a> {
    /// A change that a netlink socket with this port asks for, or an ioctl.
    pub fn new(ns: &'a NetNamespace, asked: Option<(&'a Request<'a>, u32)>) -> Change<'a> {
        Change { ns, asked, notices: Vec::new(), echoes: true }
    }

    /// What is to be told.
    pub fn notices(self) -> Vec<Notice> {
        self.notices
    }

    fn tell(&mut self, group: u32, message: impl FnOnce(&mut Answer)) {
        let mut answer = Answer::notice(self.asked);
        message(&mut answer);
        for packet in answer.packets() {
            self.notices.push(Notice { group, packet });
        }
    }

    /// An interface is new or changed.
    pub fn told_link(&mut self, link: &Link) {
        self.tell(group::LINK, |a| link::put(link, rtm::NEWLINK, u32::MAX, a));
    }

    /// What became of addresses and routes: the difference between before and now. Each address comes with the routes
    /// that it brought; those that went with an interface's going down go without a word.
    fn told_rest(&mut self, before: &Snapshot, silent: bool) {
        let now = Snapshot::of(self.ns);
        for (gone, from, against) in [(true, before, &now), (false, &now, before)] {
            let mut routes: Vec<&Route> = {
                let there: HashSet<&Route> = against.routes.iter().collect();
                from.routes.iter().filter(|r| !there.contains(r)).collect()
            };
            routes.sort_by_key(|r| rank(r, gone));
            let mut addresses: Vec<_> = {
                let there: HashSet<_> = against.addresses.iter().collect();
                from.addresses.iter().filter(|a| !there.contains(a)).collect()
            };
            // Those that were second to one go before it.
            addresses.sort_by_key(|(_, a)| gone && a.flags & 1 == 0);
            for (index, address) in addresses {
                let group = if address.ip.is_v4() { group::IPV4_IFADDR } else { group::IPV6_IFADDR };
                let kind = if gone { rtm::DELADDR } else { rtm::NEWADDR };
                self.tell(group, |a| address::put(*index, address, kind, a));
                let its = |r: &&Route| r.source == Some(address.ip) || r.to == address.ip;
                routes.iter().filter(|r| its(r)).for_each(|r| self.told_route(r, gone));
                routes.retain(|r| !its(r));
            }
            if !gone || !silent {
                routes.into_iter().for_each(|r| self.told_route(r, gone));
            }
        }
    }

    fn told_route(&mut self, route: &Route, gone: bool) {
        let group = if route.to.is_v4() { group::IPV4_ROUTE } else { group::IPV6_ROUTE };
        self.tell(group, |a| path::put(route, if gone { rtm::DELROUTE } else { rtm::NEWROUTE }, a));
    }
}

/// The order in which the routes of an address come, or go.
fn rank(r: &Route, gone: bool) -> u8 {
    match r.kind {
        RouteKind::Local if r.prefix == r.to.width() => 3 * u8::from(gone),
        RouteKind::Broadcast => 2,
        _ => 1,
    }
}

/// Addresses and routes before a change, where somebody wants to hear of it.
pub(super) struct Snapshot {
    addresses: Vec<(u32, Address)>,
    routes: Vec<Route>,
}

impl Snapshot {
    pub(super) fn of(ns: &NetNamespace) -> Snapshot {
        if !super::has_members(ns) {
            return Snapshot { addresses: Vec::new(), routes: Vec::new() };
        }
        let links = ns.links();
        Snapshot {
            addresses: links.addresses().map(|(i, a)| (i, a.clone())).collect(),
            routes: links.routes().cloned().collect(),
        }
    }
}

/// Brings an interface up or down, and tells of it (`dev_change_flags`).
///
/// # Errors
/// `ENODEV`.
pub fn set_flags(change: &mut Change<'_>, index: u32, bits: u32) -> Outcome {
    link::set_flags(change, index, bits)
}

/// Gives an interface an address, or takes one away, and tells of it.
///
/// # Errors
/// Those of [`crate::net::links::Links::add_address`].
pub fn change_address(change: &mut Change<'_>, index: u32, address: Address, add: bool) -> Outcome {
    let before = Snapshot::of(change.ns);
    change.ns.change_links(|l| match add {
        true => l.add_address(index, address, false),
        false => l.remove_address(index, address.ip, Some(address.prefix)).map(drop),
    })?;
    change.told_rest(&before, false);
    Ok(())
}

/// Enters a route, or takes the first away that is like it, and tells of it.
///
/// # Errors
/// Those of [`crate::net::links::Links::add_route`] and [`crate::net::links::Links::remove_route`].
pub fn change_route(change: &mut Change<'_>, route: Route, add: bool, manner: Manner) -> Outcome {
    path::enter(change, route, add.then_some(manner))
}

/// Answers one request (`rtnetlink_rcv_msg`).
///
/// # Errors
/// `EOPNOTSUPP`, `EPERM`, `ENODEV`, `EINVAL` …
pub fn serve(ctx: &OpCtx<'_>, change: &mut Change<'_>, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    if request.kind > rtm::MAX {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let Some(&family) = request.body().first() else { return Ok(()) };
    // Every kind has four numbers: new, delete, get, set. All but get change something.
    if request.kind & 3 != 2 && !change.ns.may(ctx.cred, cap::NET_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let family = u16::from(family);
    let ns = change.ns;
    if request.is_dump() && request.kind & 3 == 2 {
        return dump(ns, family, request, answer);
    }
    match request.kind {
        rtm::GETLINK => link::get(ns, request, answer),
        rtm::NEWLINK | rtm::SETLINK => link::set(change, request),
        rtm::DELLINK => link::delete(change, request),
        rtm::GETADDR if family == af::INET6 => address::get(ns, request, answer),
        rtm::NEWADDR | rtm::DELADDR => address::change(change, request),
        rtm::GETROUTE => path::get(ns, family, request, answer),
        rtm::NEWROUTE | rtm::DELROUTE => path::change(change, request),
        rtm::NEWRULE | rtm::DELRULE => rule::change(change, request),
        rtm::GETNEIGH => neighbour::get(ns, request, answer),
        rtm::NEWNEIGH | rtm::DELNEIGH => neighbour::change(change, request),
        rtm::GETQDISC | rtm::NEWTCLASS | rtm::GETTCLASS => queue::one(ns, request),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// What is said of requests for next hops (`nh_valid_dump_req`) and for numbers of networks.
const NEXT_HOPS: Form = Form {
    body: 8,
    empty: &[(1, 8)],
    known: &[5, 9, 10, 11],
    last: 11,
    words: [
        "Invalid header length",
        "Invalid values in header for nexthop dump request",
        "Unsupported attribute in dump request",
    ],
};
const NETWORKS: Form =
    Form { body: 1, empty: &[], known: &[4], last: 5, words: ["", "", "Unsupported attribute in dump request"] };

/// Everything of a kind. What is wrong with the request is told at the end of the dump, since that is under way then
/// (`netlink_dump`).
fn dump(ns: &NetNamespace, family: u16, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    // Kinds are asked for by version, or for all of them where a version has nothing of its own.
    let one = matches!(family, af::INET | af::INET6);
    let family = if one { family } else { af::UNSPEC };
    let outcome = match request.kind {
        rtm::GETLINK => link::dump(ns, request, answer),
        rtm::GETADDR => address::dump(ns, family, request, answer),
        rtm::GETROUTE => path::dump(ns, family, request, answer),
        rtm::GETRULE => rule::dump(ns, request, answer),
        rtm::GETNEIGH => neighbour::dump(ns, family, request, answer),
        rtm::GETQDISC => queue::dump(ns, answer),
        // There are no classes of traffic, no objects for next hops, and other networks have no numbers.
        rtm::GETTCLASS => Ok(()),
        rtm::GETNEXTHOP => strict::check(request, &NEXT_HOPS),
        rtm::GETNSID if request.strict => strict::check(request, &NETWORKS),
        rtm::GETNSID => Ok(()),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    match request.kind {
        rtm::GETRULE | rtm::GETNEIGH => answer.end_together(),
        rtm::GETADDR if family == af::INET6 => answer.end_together(),
        _ => {}
    }
    if let Err(refusal) = outcome {
        answer.fail(refusal);
    }
    Ok(())
}

/// The header of a request.
fn head<'a>(request: &Request<'a>, len: usize) -> Outcome<&'a [u8]> {
    request.body().get(..len).ok_or(Refusal(Errno::EINVAL, "Invalid header length"))
}

fn matches(family: u16, ip: Ip) -> bool {
    family == af::UNSPEC || (family == af::INET) == ip.is_v4() && matches!(family, af::INET | af::INET6)
}

fn family_of(ip: Ip) -> u16 {
    if ip.is_v4() { af::INET } else { af::INET6 }
}

/// An address as attributes have it: 4 or 16 bytes.
fn add_ip(answer: &mut Answer, number: u16, ip: Ip) {
    let b = ip.bytes();
    answer.add(number, if ip.is_v4() { &b[12..] } else { &b });
}

fn ip_of(family: u16, bytes: &[u8]) -> Outcome<Ip> {
    match (family, bytes.len()) {
        (af::INET, 4) => Ok(Ip::v4(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))),
        (af::INET6, 16) => {
            let mut b = [0; 16];
            b.copy_from_slice(bytes);
            Ok(Ip::from_bytes(b))
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// A string without its end.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or(&[])
}

fn add_text(answer: &mut Answer, number: u16, text: &[u8]) {
    let mut bytes = text.to_vec();
    bytes.push(0);
    answer.add(number, &bytes);
}
