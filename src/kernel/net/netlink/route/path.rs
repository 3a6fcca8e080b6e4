//! `RTM_*ROUTE`.

use super::super::message::{Answer, Request, attributes};
use super::{Change, Outcome, add_ip, family_of, group, ip_of, matches, rtm, word};
use crate::abi::Errno;
use crate::net::NetNamespace;
use crate::net::inet::addr::Ip;
use crate::net::links::{LOOPBACK, Query, Refusal, Route, RouteKind, Via, scope, table};
use crate::net::socket::af;

/// Bytes of a `struct rtmsg`.
const BODY: usize = 12;
/// `RTNH_F_ONLINK`, `RTM_F_CLONED`.
const ON_LINK: u32 = 4;
const CLONED: u32 = 0x200;
/// `RTCF_LOCAL`, `RTCF_BROADCAST`.
const LOCAL: u32 = 0x8000_0000;
const BROADCAST: u32 = 0x1000_0000;
/// `RTM_F_LOOKUP_TABLE`.
const LOOKUP_TABLE: u32 = 0x1000;

/// `RTA_*`.
mod rta {
    pub const DST: u16 = 1;
    pub const SRC: u16 = 2;
    pub const OIF: u16 = 4;
    pub const GATEWAY: u16 = 5;
    pub const PRIORITY: u16 = 6;
    pub const PREFSRC: u16 = 7;
    pub const METRICS: u16 = 8;
    pub const CACHEINFO: u16 = 12;
    pub const TABLE: u16 = 15;
    pub const MARK: u16 = 16;
    pub const PREF: u16 = 20;
    pub const UID: u16 = 25;
    pub const KNOWN: [u16; 8] = [DST, OIF, GATEWAY, PRIORITY, PREFSRC, METRICS, TABLE, PREF];
    pub const ASKED: [u16; 6] = [DST, SRC, OIF, MARK, UID, TABLE];
}

/// `RTAX_MTU`.
const MTU: u16 = 2;

fn body(r: &Route, flags: u32) -> [u8; BODY] {
    // RT_TABLE_COMPAT stands for what does not fit.
    let table = if r.table > 255 { 252 } else { r.table as u8 };
    let on_link = if r.on_link { ON_LINK } else { 0 };
    let mut body = [family_of(r.to) as u8, r.prefix, 0, r.tos, table, r.proto, r.scope, r.kind as u8, 0, 0, 0, 0];
    body[8..].copy_from_slice(&(flags | on_link).to_ne_bytes());
    body
}

/// Puts a route into an answer (`fib_dump_info`, `rt6_fill_node`).
pub(super) fn put(r: &Route, kind: u16, answer: &mut Answer) {
    answer.begin(kind, &body(r, 0));
    answer.add_u32(rta::TABLE, r.table);
    if r.prefix > 0 {
        add_ip(answer, rta::DST, r.to);
    }
    rest(r, answer);
}

fn rest(r: &Route, answer: &mut Answer) {
    let v4 = r.to.is_v4();
    if r.metric != 0 || !v4 {
        answer.add_u32(rta::PRIORITY, r.metric);
    }
    if r.mtu != 0 {
        let mut metrics = [0u8; 8];
        metrics[..2].copy_from_slice(&8u16.to_ne_bytes());
        metrics[2..4].copy_from_slice(&MTU.to_ne_bytes());
        metrics[4..].copy_from_slice(&r.mtu.to_ne_bytes());
        answer.add(rta::METRICS, &metrics);
    }
    if let Some(source) = r.source {
        add_ip(answer, rta::PREFSRC, source);
    }
    if let Some(gateway) = r.gateway {
        add_ip(answer, rta::GATEWAY, gateway);
    }
    if r.device != 0 {
        answer.add_u32(rta::OIF, r.device);
    }
    if !v4 {
        answer.add(rta::CACHEINFO, &[0; 32]);
        answer.add(rta::PREF, &[0]);
    }
}

pub(super) fn dump(ns: &NetNamespace, family: u16, answer: &mut Answer) {
    for route in ns.links().routes_in_order().into_iter().filter(|r| matches(family, r.to)) {
        put(route, rtm::NEWROUTE, answer);
    }
}

/// Where an address lies.
pub(super) fn get(ns: &NetNamespace, family: u16, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    let body = request.body().get(..BODY).ok_or(Errno::EINVAL)?;
    if request.has_others(BODY, &rta::ASKED) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let to = ip_of(family, request.attribute(BODY, rta::DST).ok_or(Errno::EINVAL)?)?;
    let from = request.attribute(BODY, rta::SRC).map(|b| ip_of(family, b)).transpose()?;
    let device = request.number(BODY, rta::OIF)?.unwrap_or(0);
    let mark = request.number(BODY, rta::MARK)?.unwrap_or(0);
    let links = ns.links();
    if let Some(from) = from
        && !links.is_local(from)
    {
        return Err(Errno::EINVAL.into());
    }
    let via = links.lookup(&Query { from, tos: body[3], mark, device, ..Query::to(to) })?;
    let (Via::Here(found) | Via::Out(found)) = via;
    let source = from.or_else(|| match found.kind {
        RouteKind::Local if to.is_loopback() => Some(Ip::loopback_like(to)),
        RouteKind::Local => Some(to),
        _ => links.source_along(&found, to),
    });
    let scope = if to.is_v4() { scope::UNIVERSE } else { found.scope };
    let told = Route { to, prefix: to.width(), scope, proto: 0, source, ..found };
    // Its table is told to who asks for it; as long as version 4 has no rules of its own its tables are one.
    let apart = !to.is_v4() || links.rules(true).count() != 3;
    let shown = if word(body, 8) & LOOKUP_TABLE != 0 && apart { told.table } else { table::MAIN };
    let (flags, device) = match told.kind {
        RouteKind::Local if to.is_v4() => (LOCAL, LOOPBACK),
        RouteKind::Broadcast => (LOCAL | BROADCAST, told.device),
        _ => (0, told.device),
    };
    let told = Route { table: shown, device, ..told };
    answer.begin(rtm::NEWROUTE, &self::body(&told, CLONED | flags));
    answer.add_u32(rta::TABLE, told.table);
    add_ip(answer, rta::DST, to);
    rest(&told, answer);
    answer.add_u32(rta::UID, 0);
    answer.add(rta::CACHEINFO, &[0; 32]);
    Ok(())
}

/// The route that a request describes; the kind and others may be 0 where one is to be deleted.
fn described(request: &Request<'_>) -> Outcome<Route> {
    let body = request.body().get(..BODY).ok_or(Errno::EINVAL)?;
    let family = u16::from(body[0]);
    if !matches!(family, af::INET | af::INET6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let any = if family == af::INET { Ip::ANY4 } else { Ip::ANY6 };
    if body[1] > any.width() || body[2] > 0 {
        return Err(Refusal(Errno::EINVAL, if body[2] > 0 { "" } else { "Invalid prefix length" }));
    }
    if request.has_others(BODY, &rta::KNOWN) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let ip = |number: u16| request.attribute(BODY, number).map(|b| ip_of(family, b)).transpose();
    let to = ip(rta::DST)?.unwrap_or(any);
    if to.masked(body[1]) != to && any.is_v4() {
        return Err(Refusal(Errno::EINVAL, "Invalid prefix for given prefix length"));
    }
    let kind = if body[7] == 0 { RouteKind::Unicast } else { RouteKind::of(body[7]).ok_or(Errno::EINVAL)? };
    let table = match request.number(BODY, rta::TABLE)?.unwrap_or(u32::from(body[4])) {
        0 => table::MAIN,
        number => number,
    };
    let mut mtu = 0;
    for (number, value) in attributes(request.attribute(BODY, rta::METRICS).unwrap_or(&[])) {
        match (number, <[u8; 4]>::try_from(value)) {
            (MTU, Ok(b)) => mtu = u32::from_ne_bytes(b),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    let metric = request.number(BODY, rta::PRIORITY)?.unwrap_or(0);
    Ok(Route {
        scope: body[6],
        proto: body[5],
        tos: body[3],
        metric,
        gateway: ip(rta::GATEWAY)?,
        source: ip(rta::PREFSRC)?,
        on_link: word(body, 8) & ON_LINK != 0,
        mtu,
        ..Route::new((to.masked(body[1]), body[1]), table, kind, request.number(BODY, rta::OIF)?.unwrap_or(0))
    })
}

pub(super) fn change(change: &mut Change<'_>, request: &Request<'_>) -> Outcome {
    let mut r = described(request)?;
    let v4 = r.to.is_v4();
    let group = if v4 { group::IPV4_ROUTE } else { group::IPV6_ROUTE };
    if request.kind == rtm::NEWROUTE {
        if !v4 {
            r.scope = scope::UNIVERSE;
            r.metric = if r.metric == 0 { 1024 } else { r.metric };
        }
        let told = change.ns.change_links(|l| l.add_route(r, request.manner()))?;
        change.tell(group, |a| put(&told, rtm::NEWROUTE, a));
        return Ok(());
    }
    let any_kind = request.body()[7] == 0;
    let fits = |old: &Route| {
        (old.table, old.to, old.prefix) == (r.table, r.to, r.prefix)
            && (any_kind || old.kind == r.kind)
            && (r.tos == 0 || old.tos == r.tos)
            && (!v4 || r.scope == scope::NOWHERE || old.scope == r.scope)
            && (r.proto == 0 || old.proto == r.proto)
            && (r.metric == 0 || old.metric == r.metric)
            && (r.source.is_none() || old.source == r.source)
            && (r.gateway.is_none() || old.gateway == r.gateway)
            && (r.device == 0 || old.device == r.device)
    };
    let known = |l: &crate::net::links::Links| {
        r.table >= table::DEFAULT || l.routes().any(|o| o.table == r.table && o.to.is_v4())
    };
    if v4 && !known(&change.ns.links()) {
        return Err(Refusal(Errno::ESRCH, "FIB table does not exist"));
    }
    let told = change.ns.change_links(|l| l.remove_route(fits))?;
    change.tell(group, |a| put(&told, rtm::DELROUTE, a));
    Ok(())
}
