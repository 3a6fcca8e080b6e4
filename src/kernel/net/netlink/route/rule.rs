//! `RTM_*RULE`.

use super::super::message::{Answer, Request};
use super::strict::{self, Form};
use super::{Change, Outcome, add_ip, add_text, group, head, ip_of, rtm, text, word};
use crate::abi::Errno;
use crate::net::NetNamespace;
use crate::net::inet::addr::Ip;
use crate::net::links::{Action, Refusal, RouteKind, Rule};
use crate::net::socket::af;

/// Bytes of a `struct fib_rule_hdr`.
const BODY: usize = 12;
/// `FIB_RULE_INVERT`.
const INVERT: u32 = 2;
/// `FR_ACT_*`.
const TO_TABLE: u8 = 1;
const NOTHING: u8 = 3;

/// `FRA_*`.
mod fra {
    pub const DST: u16 = 1;
    pub const SRC: u16 = 2;
    pub const IIFNAME: u16 = 3;
    pub const PRIORITY: u16 = 6;
    pub const FWMARK: u16 = 10;
    pub const SUPPRESS_PREFIX: u16 = 14;
    pub const TABLE: u16 = 15;
    pub const FWMASK: u16 = 16;
    pub const OIFNAME: u16 = 17;
    pub const PROTOCOL: u16 = 21;
    pub const KNOWN: [u16; 9] = [DST, SRC, IIFNAME, PRIORITY, FWMARK, TABLE, FWMASK, OIFNAME, PROTOCOL];
}

fn put(rule: &Rule, kind: u16, answer: &mut Answer) {
    let (action, table) = match rule.action {
        Action::Table(table) => (TO_TABLE, table),
        Action::Nothing => (NOTHING, 0),
        // The kinds of routes that fail have these numbers here, too.
        Action::Fails(kind) => (kind as u8, 0),
    };
    let bits = |net: Option<(Ip, u8)>| net.map_or(0, |(_, bits)| bits);
    let family = if rule.v4 { af::INET } else { af::INET6 };
    let short = if table > 255 { 252 } else { table as u8 };
    let mut body = [family as u8, bits(rule.to), bits(rule.from), rule.tos, short, 0, 0, action, 0, 0, 0, 0];
    body[8..].copy_from_slice(&if rule.inverted { INVERT } else { 0 }.to_ne_bytes());
    answer.begin(kind, &body);
    answer.add_u32(fra::TABLE, table);
    answer.add_u32(fra::SUPPRESS_PREFIX, u32::MAX);
    answer.add(fra::PROTOCOL, &[rule.proto]);
    for (number, name) in [(fra::IIFNAME, &rule.input), (fra::OIFNAME, &rule.output)] {
        if !name.is_empty() {
            add_text(answer, number, name);
        }
    }
    if rule.priority > 0 {
        answer.add_u32(fra::PRIORITY, rule.priority);
    }
    if let Some((mark, mask)) = rule.mark {
        answer.add_u32(fra::FWMARK, mark);
        answer.add_u32(fra::FWMASK, mask);
    }
    for (number, net) in [(fra::DST, rule.to), (fra::SRC, rule.from)] {
        if let Some((ip, _)) = net.filter(|(_, bits)| *bits > 0) {
            add_ip(answer, number, ip);
        }
    }
}

/// What is said of requests for dumps (`fib_valid_dumprule_req`).
const DUMP: Form = Form {
    body: BODY,
    empty: &[(1, 12)],
    known: &[],
    last: 0,
    words: [
        "Invalid header for fib rule dump request",
        "Invalid values in header for fib rule dump request",
        "Invalid data after header in fib rule dump request",
    ],
};

pub(super) fn dump(ns: &NetNamespace, request: &Request<'_>, answer: &mut Answer) -> Outcome {
    let body = request.body();
    if request.strict {
        strict::check_head(request, &DUMP)?;
        if body.len() > BODY {
            return Err(Refusal(Errno::EINVAL, DUMP.words[2]));
        }
    }
    let family = u16::from(body[0]);
    if !matches!(family, af::UNSPEC | af::INET | af::INET6) {
        return Err(Errno::EAFNOSUPPORT.into());
    }
    let links = ns.links();
    for v4 in [true, false] {
        if !matches!((family, v4), (af::INET, false) | (af::INET6, true)) {
            for rule in links.rules(v4) {
                put(rule, rtm::NEWRULE, answer);
            }
        }
    }
    Ok(())
}

fn described(request: &Request<'_>) -> Outcome<Rule> {
    let body = head(request, BODY)?;
    let family = u16::from(body[0]);
    if !matches!(family, af::INET | af::INET6) {
        return Err(Refusal(Errno::EAFNOSUPPORT, "Rule family not supported"));
    }
    for (number, bits, words) in
        [(fra::SRC, body[2], "Invalid source address"), (fra::DST, body[1], "Invalid dst address")]
    {
        let width = if family == af::INET { 4 } else { 16 };
        let given = request.attribute(BODY, number);
        if bits > 0 && (given.is_none_or(|b| b.len() != width) || usize::from(bits) > width * 8) {
            return Err(Refusal(Errno::EINVAL, words));
        }
    }
    let suppressed = request.number(BODY, fra::SUPPRESS_PREFIX)?.is_some_and(|n| n != u32::MAX);
    let known = |number: u16| fra::KNOWN.contains(&number) || number == fra::SUPPRESS_PREFIX;
    let all = super::super::message::attributes(request.body().get(BODY..).unwrap_or(&[]));
    if suppressed || all.into_iter().any(|(number, _)| !known(number)) || word(body, 8) & !INVERT != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let net = |number: u16, bits: u8| -> Outcome<Option<(Ip, u8)>> {
        // An address without bits does not count.
        let Some(b) = request.attribute(BODY, number).filter(|_| bits > 0) else { return Ok(None) };
        let ip = ip_of(family, b)?;
        if bits > ip.width() { Err(Errno::EINVAL.into()) } else { Ok(Some((ip.masked(bits), bits))) }
    };
    let number = |n: u16| request.number(BODY, n);
    let action = match body[7] {
        TO_TABLE => match number(fra::TABLE)?.unwrap_or(u32::from(body[4])) {
            0 if request.kind == rtm::NEWRULE => return Err(Errno::EINVAL.into()),
            table => Action::Table(table),
        },
        NOTHING => Action::Nothing,
        0 if request.kind == rtm::DELRULE => Action::Table(number(fra::TABLE)?.unwrap_or(u32::from(body[4]))),
        n @ 6..=8 => Action::Fails(RouteKind::of(n).ok_or(Errno::EINVAL)?),
        0 | 2 => return Err(Errno::EOPNOTSUPP.into()),
        _ => return Err(Errno::EINVAL.into()),
    };
    let mark = number(fra::FWMARK)?.map(|m| (m, u32::MAX));
    let mark = match (mark, number(fra::FWMASK)?) {
        (mark, Some(mask)) => Some((mark.map_or(0, |m| m.0), mask)),
        (mark, None) => mark,
    };
    let name = |n: u16| request.attribute(BODY, n).map_or(&[][..], text).to_vec();
    Ok(Rule {
        from: net(fra::SRC, body[2])?,
        to: net(fra::DST, body[1])?,
        tos: body[3],
        mark,
        input: name(fra::IIFNAME),
        output: name(fra::OIFNAME),
        inverted: word(body, 8) & INVERT != 0,
        proto: request.attribute(BODY, fra::PROTOCOL).and_then(|b| b.first().copied()).unwrap_or(0),
        ..Rule::all(family == af::INET, number(fra::PRIORITY)?.unwrap_or(0), action)
    })
}

pub(super) fn change(change: &mut Change<'_>, request: &Request<'_>) -> Outcome {
    let mut rule = described(request)?;
    let has = |number: u16| request.attribute(BODY, number).is_some();
    let group = if rule.v4 { group::IPV4_RULE } else { group::IPV6_RULE };
    let (v4, named) = (rule.v4, has(fra::PRIORITY));
    if request.kind == rtm::NEWRULE {
        if !named {
            rule.priority = change.ns.links().default_priority(v4);
        }
        let told = rule.clone();
        change.ns.change_links(|l| l.add_rule(rule, request.manner().exclusive))?;
        change.tell(group, |a| put(&told, rtm::NEWRULE, a));
        return Ok(());
    }
    let given = |number: u16, same: bool| !has(number) || same;
    let any_action = request.body()[7] == 0 || rule.action == Action::Table(0);
    let fits = |old: &Rule| {
        given(fra::PRIORITY, old.priority == rule.priority)
            && given(fra::SRC, old.from == rule.from)
            && given(fra::DST, old.to == rule.to)
            && given(fra::FWMARK, old.mark.map(|m| m.0) == rule.mark.map(|m| m.0))
            && given(fra::FWMASK, old.mark.map(|m| m.1) == rule.mark.map(|m| m.1))
            && given(fra::IIFNAME, old.input == rule.input)
            && given(fra::OIFNAME, old.output == rule.output)
            && given(fra::PROTOCOL, old.proto == rule.proto)
            && (rule.tos == 0 || old.tos == rule.tos)
            && (!rule.inverted || old.inverted)
            && (any_action && rule.action == Action::Table(0) || old.action == rule.action)
    };
    let told = change.ns.change_links(|l| l.remove_rule(v4, fits))?;
    change.tell(group, |a| put(&told, rtm::DELRULE, a));
    Ok(())
}
