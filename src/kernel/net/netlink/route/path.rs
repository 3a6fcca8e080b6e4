//! `RTM_*ROUTE`.

use super::super::message::{Answer, Request, attributes};
use super::strict::{self, Form};
use super::{Change, Outcome, add_ip, family_of, group, head, ip_of, matches, rtm, word};
use crate::abi::Errno;
use crate::net::NetNamespace;
use crate::net::inet::addr::Ip;
use crate::net::links::{LOOPBACK, Manner, Query, Refusal, Route, RouteKind, Via, scope, table};
use crate::net::socket::af;

/// Bytes of a `struct rtmsg`.
const BODY: usize = 12;
/// `RTNH_F_ONLINK`, `RTM_F_CLONED`.
const ON_LINK: u32 = 4;
const CLONED: u32 = 0x200;
/// `RTM_F_PREFIX`, `RTM_F_NOTIFY`, `RTM_F_FIB_MATCH`.
const PREFIX: u32 = 0x800;
const NOTIFY: u32 = 0x100;
const FIB_MATCH: u32 = 0x2000;
/// `RTN_MAX`.
const LAST_KIND: u8 = 11;
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
    pub const IIF: u16 = 3;
    pub const UID: u16 = 25;
    pub const IP_PROTO: u16 = 27;
    pub const SPORT: u16 = 28;
    pub const DPORT: u16 = 29;
    pub const FLOWLABEL: u16 = 31;
    pub const LAST: u16 = 31;
    pub const LOOKED_AT: [u16; 10] = [IIF, OIF, SRC, DST, UID, MARK, IP_PROTO, SPORT, DPORT, FLOWLABEL];
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
    add_mtu(r, answer);
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

/// What is said of requests for dumps (`ip_valid_fib_dump_req`).
const DUMP: Form = Form {
    body: BODY,
    empty: &[(1, 4), (6, 7)],
    known: &[rta::TABLE, rta::OIF],
    last: rta::LAST,
    words: [
        "Invalid header for FIB dump request",
        "Invalid values in header for FIB dump request",
        "Unsupported attribute in dump request",
    ],
};

/// Which routes a dump has; 0 and `None`: all.
#[derive(Default)]
struct Filter {
    table: u32,
    proto: u8,
    kind: u8,
    device: u32,
}

impl Filter {
    fn read(ns: &NetNamespace, request: &Request<'_>) -> Outcome<Filter> {
        strict::check(request, &DUMP)?;
        let body = request.body();
        if word(body, 8) & !(CLONED | PREFIX) != 0 {
            return Err(Refusal(Errno::EINVAL, "Invalid flags for FIB dump request"));
        }
        let device = request.number(BODY, rta::OIF)?;
        if let Some(device) = device {
            ns.links().link(device)?;
        }
        let table = request.number(BODY, rta::TABLE)?.unwrap_or(u32::from(body[4]));
        Ok(Filter { table, proto: body[5], kind: body[7], device: device.unwrap_or(0) })
    }

    fn is_set(&self) -> bool {
        self.table != 0 || self.proto != 0 || self.kind != 0 || self.device != 0
    }

    fn fits(&self, r: &Route) -> bool {
        (self.table == 0 || self.table == r.table)
            && (self.proto == 0 || self.proto == r.proto)
            && (self.kind == 0 || self.kind == r.kind as u8)
            && (self.device == 0 || self.device == r.device)
    }
}

pub(super) fn dump(ns: &NetNamespace, family: u16, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    let filter = if request.strict { Filter::read(ns, request)? } else { Filter::default() };
    let bits = request.body().get(8..BODY).map_or(0, |_| word(request.body(), 8));
    // What was learned for single addresses is left out where it was not asked for.
    let filtered = filter.is_set() || request.strict && bits != 0;
    answer.filtered(filtered || request.strict);
    let links = ns.links();
    let there = |v4: bool| {
        filter.table >= table::DEFAULT || links.routes().any(|r| r.table == filter.table && r.to.is_v4() == v4)
    };
    match family {
        _ if filter.table == 0 => {}
        af::INET if !there(true) => return Err(Refusal(Errno::ENOENT, "ipv4: FIB table does not exist")),
        af::INET6 if !there(false) => return Err(Refusal(Errno::ENOENT, "ipv6: FIB table does not exist")),
        _ => {}
    }
    // What was learned for single addresses, and prefixes that routers have told: there is nothing of that.
    if bits & (CLONED | PREFIX) != 0 {
        answer.filtered(filtered);
        return Ok(());
    }
    for route in links.routes_in_order().into_iter().filter(|r| matches(family, r.to) && filter.fits(r)) {
        put(route, rtm::NEWROUTE, answer);
    }
    answer.filtered(filtered);
    Ok(())
}

/// Checks a request for where an address lies (`inet_rtm_valid_getroute_req`, `inet6_rtm_valid_getroute_req`).
fn check_get(v4: bool, request: &Request<'_>) -> Outcome {
    let body = request.body();
    let width = if v4 { 32 } else { 128 };
    let refuse = |four: &'static str, six: &'static str| Err(Refusal(Errno::EINVAL, if v4 { four } else { six }));
    if body.len() < BODY {
        return refuse("ipv4: Invalid header for route get request", "ipv6: Invalid header for get route request");
    }
    if !request.strict {
        return Ok(());
    }
    let bits = |n: u8| n == 0 || n == width;
    if !bits(body[1]) || !bits(body[2]) || body[4..8].iter().any(|&b| b != 0) || v4 && body[3] != 0 {
        return refuse(
            "ipv4: Invalid values in header for route get request",
            "ipv6: Invalid values in header for get route request",
        );
    }
    let known = if v4 { NOTIFY | LOOKUP_TABLE | FIB_MATCH } else { NOTIFY };
    if word(body, 8) & !(known | FIB_MATCH) != 0 {
        return refuse(
            "ipv4: Unsupported rtm_flags for route get request",
            "ipv6: Invalid flags for get route request",
        );
    }
    if request.has_others(BODY, &rta::LOOKED_AT) {
        return refuse(
            "ipv4: Unsupported attribute in route get request",
            "ipv6: Unsupported attribute in get route request",
        );
    }
    let without = |number: u16, n: u8| request.attribute(BODY, number).is_some() && n == 0;
    if without(rta::DST, body[1]) || without(rta::SRC, body[2]) {
        return refuse(
            "ipv4: rtm_src_len and rtm_dst_len must be 32 for IPv4",
            "ipv6: rtm_src_len and rtm_dst_len must be 128 for IPv6",
        );
    }
    Ok(())
}

/// Where an address lies.
pub(super) fn get(ns: &NetNamespace, family: u16, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    if !matches!(family, af::INET | af::INET6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    check_get(family == af::INET, request)?;
    let body = request.body();
    if request.has_others(BODY, &rta::ASKED) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let any = if family == af::INET { Ip::ANY4 } else { Ip::ANY6 };
    let to = request.attribute(BODY, rta::DST).map_or(Ok(any), |b| ip_of(family, b))?;
    let from = request.attribute(BODY, rta::SRC).map(|b| ip_of(family, b)).transpose()?;
    let device = request.number(BODY, rta::OIF)?.unwrap_or(0);
    let mark = request.number(BODY, rta::MARK)?.unwrap_or(0);
    let links = ns.links();
    if let Some(from) = from.filter(|f| f.is_v4() && !f.is_any()) {
        if from.is_multicast() || from.is_broadcast() || from.bits4() >> 24 == 0 {
            return Err(Errno::EINVAL.into());
        }
        if !links.is_local(from) {
            return Err(Errno::ENETUNREACH.into());
        }
    }
    if device != 0 && to.is_v4() {
        links.link(device)?;
    }
    // Nowhere in particular is here (`ip_route_output_key_hash_rcu`).
    let meant = if to == Ip::ANY4 { Ip::LOOPBACK4 } else { to };
    let via = links.lookup(&Query { from, tos: body[3], mark, device, ..Query::to(meant) })?;
    let (Via::Here(found) | Via::Out(found)) = via;
    let source = from.filter(|f| !f.is_any()).or_else(|| match found.kind {
        RouteKind::Local if meant.is_loopback() => Some(Ip::loopback_like(meant)),
        RouteKind::Local => Some(meant),
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
    if to.is_v4() {
        one(&told, answer);
    } else {
        rest(&told, answer);
    }
    answer.add_u32(rta::UID, 0);
    answer.add(rta::CACHEINFO, &[0; 32]);
    Ok(())
}

/// A route of version 4 as an answer of its own has it (`rt_fill_info`).
fn one(r: &Route, answer: &mut Answer) {
    if r.device != 0 {
        answer.add_u32(rta::OIF, r.device);
    }
    if let Some(source) = r.source {
        add_ip(answer, rta::PREFSRC, source);
    }
    if let Some(gateway) = r.gateway {
        add_ip(answer, rta::GATEWAY, gateway);
    }
    add_mtu(r, answer);
}

fn add_mtu(r: &Route, answer: &mut Answer) {
    if r.mtu != 0 {
        let mut metrics = [0u8; 8];
        metrics[..2].copy_from_slice(&8u16.to_ne_bytes());
        metrics[2..4].copy_from_slice(&MTU.to_ne_bytes());
        metrics[4..].copy_from_slice(&r.mtu.to_ne_bytes());
        answer.add(rta::METRICS, &metrics);
    }
}

/// The route that a request describes; the kind and others may be 0 where one is to be deleted.
fn described(request: &Request<'_>) -> Outcome<Route> {
    let body = head(request, BODY)?;
    let family = u16::from(body[0]);
    if !matches!(family, af::INET | af::INET6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let any = if family == af::INET { Ip::ANY4 } else { Ip::ANY6 };
    if family == af::INET && body[3] & 3 != 0 {
        return Err(Refusal(Errno::EINVAL, "Invalid dsfield (tos): ECN bits must be 0"));
    }
    if family == af::INET6 && body[3] != 0 {
        return Err(Refusal(Errno::EINVAL, "Invalid dsfield (tos): option not available for IPv6"));
    }
    if body[7] > LAST_KIND {
        return Err(Refusal(Errno::EINVAL, "Invalid route type"));
    }
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
    if request.kind != rtm::NEWROUTE {
        return remove(change, &r, request.body()[7] == 0);
    }
    if !r.to.is_v4() {
        r.scope = scope::UNIVERSE;
        r.metric = if r.metric == 0 { 1024 } else { r.metric };
    }
    enter(change, r, Some(request.manner()))
}

/// Enters a route in this manner, or takes the first away that is like it.
pub(super) fn enter(change: &mut Change<'_>, r: Route, manner: Option<Manner>) -> Outcome {
    let Some(manner) = manner else { return remove(change, &r, r.kind == RouteKind::Unicast) };
    let group = if r.to.is_v4() { group::IPV4_ROUTE } else { group::IPV6_ROUTE };
    let told = change.ns.change_links(|l| l.add_route(r, manner))?;
    change.tell(group, |a| put(&told, rtm::NEWROUTE, a));
    Ok(())
}

fn remove(change: &mut Change<'_>, r: &Route, any_kind: bool) -> Outcome {
    let v4 = r.to.is_v4();
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
    let group = if v4 { group::IPV4_ROUTE } else { group::IPV6_ROUTE };
    change.tell(group, |a| put(&told, rtm::DELROUTE, a));
    Ok(())
}
