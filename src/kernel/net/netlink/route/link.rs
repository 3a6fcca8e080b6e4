//! `RTM_*LINK`.

use super::super::message::{Answer, Request, attribute_in};
use super::strict::{self, Form};
use super::{Change, Outcome, Snapshot, add_text, group, head, rtm, text, word};
use crate::abi::Errno;
use crate::net::NetNamespace;
use crate::net::links::{self, Link, Links, Refusal, iff};

/// Bytes of a `struct ifinfomsg`.
const BODY: usize = 16;

/// `IFLA_*`.
mod ifla {
    pub const ADDRESS: u16 = 1;
    pub const BROADCAST: u16 = 2;
    pub const IFNAME: u16 = 3;
    pub const MTU: u16 = 4;
    pub const TXQLEN: u16 = 13;
    pub const LINKINFO: u16 = 18;
    pub const IFALIAS: u16 = 20;
    pub const MASTER: u16 = 10;
    pub const TARGET_NETNSID: u16 = 46;
    pub const ALT_IFNAME: u16 = 53;
    pub const LAST: u16 = 69;
    pub const GROUP: u16 = 27;
    pub const EXT_MASK: u16 = 29;
    pub const NUM_TX_QUEUES: u16 = 31;
    pub const NUM_RX_QUEUES: u16 = 32;
    /// What has an effect, or asks for nothing.
    pub const KNOWN: [u16; 11] =
        [ADDRESS, BROADCAST, IFNAME, MTU, TXQLEN, LINKINFO, IFALIAS, GROUP, EXT_MASK, NUM_TX_QUEUES, NUM_RX_QUEUES];
}

/// `IFLA_GSO_MAX_SEGS` and its like, as interfaces have them by themselves.
const OFFLOADS: [(u16, u32); 8] =
    [(40, 65_535), (41, 65_536), (58, 65_536), (63, 65_536), (64, 65_536), (59, 524_280), (60, 65_535), (66, 0)];

/// `IFLA_INFO_KIND`, `IFLA_INFO_DATA`.
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;

/// The kind of interface that a request names.
fn kind<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    attribute_in(request.attribute(BODY, ifla::LINKINFO)?, INFO_KIND).map(text)
}

/// The interface that a request names, by number or name; `None` where there is no such one.
fn named(links: &Links, request: &Request<'_>) -> Outcome<Option<u32>> {
    let body = head(request, BODY)?;
    let index = word(body, 4);
    match (index, request.attribute(BODY, ifla::IFNAME)) {
        (1..0x8000_0000, _) => Ok(links.link(index).ok().map(|l| l.index)),
        (_, Some(name)) => Ok(links.index_of(text(name))),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Puts an interface into an answer (`rtnl_fill_ifinfo`).
pub(super) fn put(link: &Link, kind: u16, change: u32, answer: &mut Answer) {
    let (up, loopback) = (link.is_up(), link.is_loopback());
    let mut body = [0u8; BODY];
    body[2..4].copy_from_slice(&link.hardware().to_ne_bytes());
    body[4..8].copy_from_slice(&link.index.to_ne_bytes());
    body[8..12].copy_from_slice(&link.flags().to_ne_bytes());
    body[12..16].copy_from_slice(&if kind == rtm::GETLINK { 0 } else { change }.to_ne_bytes());
    answer.begin(if kind == rtm::GETLINK { rtm::NEWLINK } else { kind }, &body);
    add_text(answer, ifla::IFNAME, &link.name);
    answer.add_u32(ifla::TXQLEN, link.queue);
    // Operational state: unknown, or down.
    answer.add(16, &[if up { 0 } else { 2 }]);
    answer.add(17, &[0]);
    // The loopback interface stays in its network.
    answer.add(67, &[u8::from(loopback)]);
    answer.add_u32(ifla::MTU, link.mtu);
    answer.add_u32(50, 0);
    answer.add_u32(51, 0);
    answer.add_u32(ifla::GROUP, link.group);
    answer.add_u32(30, u32::from(link.bits & iff::PROMISC != 0));
    answer.add_u32(61, u32::from(link.bits & iff::ALLMULTI != 0));
    answer.add_u32(ifla::NUM_TX_QUEUES, 1);
    for (number, value) in OFFLOADS {
        answer.add_u32(number, value);
    }
    answer.add_u32(ifla::NUM_RX_QUEUES, 1);
    answer.add(33, &[1]);
    // How often the carrier came and went, and that no protocol holds it down.
    for number in [35, 47, 48] {
        answer.add_u32(number, 0);
    }
    answer.add(39, &[0]);
    answer.add(ifla::ADDRESS, &link.mac);
    answer.add(ifla::BROADCAST, &link.broadcast);
    if !link.alias.is_empty() {
        add_text(answer, ifla::IFALIAS, &link.alias);
    }
    let [packets, bytes] = link.sent;
    let mut long = [0u8; 25 * 8];
    let mut short = [0u8; 24 * 4];
    // What leaves by the loopback interface comes in by it.
    if loopback {
        long[..8].copy_from_slice(&packets.to_ne_bytes());
        long[16..24].copy_from_slice(&bytes.to_ne_bytes());
        short[..4].copy_from_slice(&(packets as u32).to_ne_bytes());
        short[8..12].copy_from_slice(&(bytes as u32).to_ne_bytes());
    }
    long[8..16].copy_from_slice(&packets.to_ne_bytes());
    long[24..32].copy_from_slice(&bytes.to_ne_bytes());
    short[4..8].copy_from_slice(&(packets as u32).to_ne_bytes());
    short[12..16].copy_from_slice(&(bytes as u32).to_ne_bytes());
    answer.add(23, &long);
    answer.add(7, &short);
    add_text(answer, 6, if up { b"noqueue" } else { b"noop" });
    if !loopback {
        let mut info = [0u8; 12];
        info[..2].copy_from_slice(&10u16.to_ne_bytes());
        info[2..4].copy_from_slice(&INFO_KIND.to_ne_bytes());
        info[4..9].copy_from_slice(b"dummy");
        answer.add(ifla::LINKINFO, &info);
    }
}

/// What is said of requests for dumps and for one interface (`rtnl_valid_dump_ifinfo_req`, `rtnl_valid_getlink_req`).
const DUMP: Form = Form {
    body: BODY,
    empty: &[(1, 4), (8, 16)],
    known: &[ifla::LINKINFO, ifla::MASTER, ifla::EXT_MASK, ifla::TARGET_NETNSID],
    last: ifla::LAST,
    words: [
        "Invalid header for link dump",
        "Invalid values in header for link dump request",
        "Unsupported attribute in link dump request",
    ],
};
const GET: Form = Form {
    known: &[ifla::IFNAME, ifla::ALT_IFNAME, ifla::EXT_MASK, ifla::TARGET_NETNSID],
    words: [
        "Invalid header for get link",
        "Invalid values in header for get link request",
        "Unsupported attribute in get link request",
    ],
    ..DUMP
};

/// Whether a name is one at all (`ifla_policy`).
fn check_name(request: &Request<'_>) -> Outcome {
    match request.attribute(BODY, ifla::IFNAME) {
        Some(name) if name.len() - usize::from(name.ends_with(&[0])) >= links::NAME => {
            Err(Refusal(Errno::ERANGE, "Attribute failed policy validation"))
        }
        _ => Ok(()),
    }
}

pub(super) fn dump(ns: &NetNamespace, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    if request.strict {
        strict::check(request, &DUMP)?;
        if word(request.body(), 4) != 0 {
            return Err(Refusal(Errno::EINVAL, "Filter by device index not supported for link dumps"));
        }
        check_name(request)?;
    }
    let whole = request.body().len() >= BODY;
    let kind = if whole { kind(request).filter(|k| *k == b"dummy") } else { None };
    // No interface is below another.
    let master = if whole { request.number(BODY, ifla::MASTER).unwrap_or(None).unwrap_or(0) } else { 0 };
    answer.filtered(kind.is_some() || master != 0);
    ns.refresh_counts();
    for link in ns.links().all() {
        if (master == 0 || master == u32::MAX) && kind.is_none_or(|_| !link.is_loopback()) {
            put(link, rtm::GETLINK, 0, answer);
        }
    }
    answer.filtered(false);
    Ok(())
}

pub(super) fn get(ns: &NetNamespace, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    if request.strict {
        strict::check(request, &GET)?;
    }
    let body = head(request, BODY)?;
    check_name(request)?;
    ns.refresh_counts();
    let links = ns.links();
    let name = request.attribute(BODY, ifla::IFNAME).or_else(|| request.attribute(BODY, ifla::ALT_IFNAME));
    let index = match (word(body, 4), name) {
        (index @ 1..0x8000_0000, _) => Some(index),
        (_, Some(name)) => links.index_of(text(name)),
        _ => return Err(Errno::EINVAL.into()),
    };
    put(links.link(index.ok_or(Errno::ENODEV)?)?, rtm::GETLINK, 0, answer);
    Ok(())
}

pub(super) fn delete(change: &mut Change<'_>, request: &Request<'_>) -> Outcome {
    let index = named(&change.ns.links(), request)?.ok_or(Errno::ENODEV)?;
    let before = Snapshot::of(change.ns);
    let gone = change.ns.change_links(|links| links.remove(index))?;
    change.told_rest(&before, true);
    change.tell(group::LINK, |a| put(&gone, rtm::DELLINK, u32::MAX, a));
    Ok(())
}

/// `RTM_NEWLINK` and `RTM_SETLINK`: makes an interface, or changes one (`rtnl_newlink`, `do_setlink`).
pub(super) fn set(change: &mut Change<'_>, request: &Request<'_>) -> Outcome {
    let manner = request.manner();
    check_name(request)?;
    if request.kind == rtm::NEWLINK && request.body().len() >= BODY && word(request.body(), 4) > i32::MAX as u32 {
        return Err(Refusal(Errno::EINVAL, "ifindex can't be negative"));
    }
    let there = match named(&change.ns.links(), request) {
        // A new one may go without a name.
        Err(Refusal(Errno::EINVAL, "")) if request.kind == rtm::NEWLINK && request.body().len() >= BODY => None,
        there => there?,
    };
    if request.has_others(BODY, &ifla::KNOWN) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    match there {
        Some(_) if manner.exclusive && request.kind == rtm::NEWLINK => Err(Errno::EEXIST.into()),
        Some(_) if manner.replace && request.kind == rtm::NEWLINK => Err(Errno::EOPNOTSUPP.into()),
        Some(index) => modify(change, index, request),
        None if request.kind == rtm::SETLINK || !manner.create => Err(Errno::ENODEV.into()),
        None => create(change, request),
    }
}

fn mac(request: &Request<'_>, number: u16) -> Outcome<Option<[u8; 6]>> {
    Ok(request.attribute(BODY, number).map(|b| b.try_into().map_err(|_| Errno::EINVAL)).transpose()?)
}

fn create(change: &mut Change<'_>, request: &Request<'_>) -> Outcome {
    if kind(request) != Some(b"dummy") {
        return Err(Refusal(Errno::EOPNOTSUPP, "Unknown device type"));
    }
    let name = request.attribute(BODY, ifla::IFNAME).map_or(&b"dummy%d"[..], text);
    let (index, mtu) = (word(request.body(), 4), request.number(BODY, ifla::MTU)?.unwrap_or(1500));
    let mac = mac(request, ifla::ADDRESS)?;
    if mac.is_some_and(|m| m[0] & 1 != 0 || m == [0; 6]) {
        return Err(Errno::EADDRNOTAVAIL.into());
    }
    let index = change.ns.change_links(|links| links.add_dummy(name, index, mac, mtu))?;
    // What else it is to have is given before anybody is told; where that is refused there is none.
    if let Err(refusal) = fields(change, index, request) {
        let _ = change.ns.change_links(|links| links.remove(index));
        return Err(refusal);
    }
    let body = request.body();
    let bits = change.ns.links().link(index)?.bits;
    let asked = combined(bits, word(body, 8), word(body, 12));
    let link = change.ns.links().link(index)?.clone();
    change.told_link(&link);
    if asked != bits { set_flags(change, index, asked) } else { Ok(()) }
}

/// The flags that an interface is to have (`rtnl_dev_combine_flags`).
fn combined(old: u32, bits: u32, change: u32) -> u32 {
    match (bits, change) {
        (0, 0) => old,
        (_, 0) => bits,
        _ => bits & change | old & !change,
    }
}

/// Changes all that is no flag, or nothing.
fn fields(change: &Change<'_>, index: u32, request: &Request<'_>) -> Outcome<bool> {
    let (address, broadcast) = (mac(request, ifla::ADDRESS)?, mac(request, ifla::BROADCAST)?);
    let name = request.attribute(BODY, ifla::IFNAME).map(text);
    let alias = request.attribute(BODY, ifla::IFALIAS).map(text);
    let (mtu, queue) = (request.number(BODY, ifla::MTU)?, request.number(BODY, ifla::TXQLEN)?);
    let group = request.number(BODY, ifla::GROUP)?;
    if alias.is_some_and(|a| a.len() >= 256) {
        return Err(Errno::EINVAL.into());
    }
    if queue.is_some_and(|q| q > i32::MAX as u32) || mtu.is_some_and(|m| m > i32::MAX as u32) {
        return Err(Errno::EINVAL.into());
    }
    change.ns.change_links(|links| {
        let old = links.link(index)?.clone();
        if let Some(name) = name.filter(|n| *n != old.name) {
            if !links::is_name(name) || name.contains(&b'%') {
                return Err(Errno::EINVAL.into());
            }
            if links.index_of(name).is_some() {
                return Err(Errno::EEXIST.into());
            }
        }
        if let Some(mac) = address
            && (mac[0] & 1 != 0 || mac == [0; 6])
        {
            return Err(Errno::EADDRNOTAVAIL.into());
        }
        let link = links.link_mut(index)?;
        link.name = name.map_or_else(|| link.name.clone(), <[u8]>::to_vec);
        link.alias = alias.map_or_else(|| link.alias.clone(), <[u8]>::to_vec);
        link.mac = address.unwrap_or(link.mac);
        link.broadcast = broadcast.unwrap_or(link.broadcast);
        link.mtu = mtu.unwrap_or(link.mtu);
        link.queue = queue.unwrap_or(link.queue);
        link.group = group.unwrap_or(link.group);
        Ok(old.name != link.name
            || (old.mac, old.broadcast, old.mtu) != (link.mac, link.broadcast, link.mtu)
            || (old.queue, old.group, &old.alias) != (link.queue, link.group, &link.alias))
    })
}

fn modify(change: &mut Change<'_>, index: u32, request: &Request<'_>) -> Outcome {
    // What kind it is matters only where there is data for that (`IFLA_INFO_DATA`).
    let data = request.attribute(BODY, ifla::LINKINFO).and_then(|info| attribute_in(info, INFO_DATA));
    if request.kind == rtm::NEWLINK && data.is_some() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    change.echoes = false;
    let changed = fields(change, index, request)?;
    let body = request.body();
    let bits = change.ns.links().link(index)?.bits;
    let asked = combined(bits, word(body, 8), word(body, 12));
    if changed {
        let link = change.ns.links().link(index)?.clone();
        change.told_link(&link);
    }
    set_flags(change, index, asked)
}

/// See [`super::set_flags`].
pub(super) fn set_flags(change: &mut Change<'_>, index: u32, bits: u32) -> Outcome {
    let before = Snapshot::of(change.ns);
    let (old, link) = change.ns.change_links(|links| {
        let link = links.link_mut(index)?;
        let old = link.bits;
        let keep = !iff::SETTABLE | iff::UP;
        link.bits = bits & !keep | old & keep;
        links.set_up(index, bits & iff::UP != 0);
        Ok::<_, Errno>((old, links.link(index)?.clone()))
    })?;
    if old != link.bits {
        change.told_link(&link);
        change.told_rest(&before, !link.is_up());
    }
    Ok(())
}
