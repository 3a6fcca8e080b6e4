//! Rules: which tables are asked for a route, in which order (`ip-rule(8)`).

use super::route::{RouteKind, table};
use super::{Links, MOST};
use crate::abi::{Errno, Result};
use crate::net::inet::addr::Ip;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What a rule says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// To look into a table.
    Table(u32),
    /// That there is no way.
    Fails(RouteKind),
    /// Nothing.
    Nothing,
}

/// A rule. What is `None` or 0 does not matter to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The lower, the earlier.
    pub priority: u32,
    /// For version 4.
    pub v4: bool,
    /// Network that packets come from.
    pub from: Option<(Ip, u8)>,
    /// Network that they go to.
    pub to: Option<(Ip, u8)>,
    /// `IP_TOS`.
    pub tos: u8,
    /// `SO_MARK`, and which of its bits count.
    pub mark: Option<(u32, u32)>,
    /// Name of the interface that they come by: what is sent here comes by the loopback interface.
    pub input: Vec<u8>,
    /// Name of the interface that the socket is bound to.
    pub output: Vec<u8>,
    /// It counts where the others do not match (`FIB_RULE_INVERT`).
    pub inverted: bool,
    /// See [`Action`].
    pub action: Action,
    /// `RTPROT_*`.
    pub proto: u8,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Query {
    /// Where to.
    pub to: Ip,
    /// Where from, if that is known.
    pub from: Option<Ip>,
    /// `IP_TOS`.
    pub tos: u8,
    /// `SO_MARK`.
    pub mark: u32,
    /// The interface that it is to leave by; 0: any.
    pub device: u32,
}

impl Query {
    /// A plain one.
    pub fn to(to: Ip) -> Query {
        Query { to, from: None, tos: 0, mark: 0, device: 0 }
    }
}

impl Rule {
    /// One for all packets.
    pub fn all(v4: bool, priority: u32, action: Action) -> Rule {
        Rule {
            priority,
            v4,
            from: None,
            to: None,
            tos: 0,
            mark: None,
            input: Vec::new(),
            output: Vec::new(),
            inverted: false,
            action,
            proto: super::route::proto::KERNEL,
        }
    }

    pub(super) fn matches(&self, q: &Query, links: &Links) -> bool {
        let within = |net: Option<(Ip, u8)>, ip: Option<Ip>| {
            net.is_none_or(|(net, bits)| bits == 0 || ip.is_some_and(|ip| ip.masked(bits) == net))
        };
        let named = |name: &[u8], index: u32| name.is_empty() || links.index_of(name) == Some(index) && index != 0;
        let fits = within(self.from, q.from)
            && within(self.to, Some(q.to))
            && (self.tos == 0 || self.tos == q.tos)
            && self.mark.is_none_or(|(mark, mask)| (q.mark ^ mark) & mask == 0)
            && named(&self.input, super::LOOPBACK)
            && named(&self.output, q.device);
        fits != self.inverted
    }
}

/// The rules of both versions, by version, priority and the order in which they came.
pub(super) struct Rules(BTreeMap<(bool, u32, u64), Rule>, u64);

impl Rules {
    /// Those that there always are.
    pub fn usual() -> Rules {
        let mut rules = Rules(BTreeMap::new(), 0);
        for v4 in [true, false] {
            for (priority, table) in [(0, table::LOCAL), (32_766, table::MAIN), (32_767, table::DEFAULT)] {
                if v4 || table != table::DEFAULT {
                    rules.push(Rule::all(v4, priority, Action::Table(table)));
                }
            }
        }
        rules
    }

    fn push(&mut self, rule: Rule) {
        self.1 += 1;
        self.0.insert((rule.v4, rule.priority, self.1), rule);
    }

    pub fn of(&self, v4: bool) -> impl Iterator<Item = &Rule> {
        self.0.range((v4, 0, 0)..=(v4, u32::MAX, u64::MAX)).map(|(_, r)| r)
    }
}

impl Links {
    /// The rules for a version in their order.
    pub fn rules(&self, v4: bool) -> impl Iterator<Item = &Rule> {
        self.rules.of(v4)
    }

    /// The priority of a rule that names none: one before the second (`fib_default_rule_pref`).
    pub fn default_priority(&self, v4: bool) -> u32 {
        self.rules.of(v4).nth(1).map_or(0, |r| r.priority.saturating_sub(1))
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// `EEXIST` where `exclusive` and the same is there; `ENOBUFS`.
    pub fn add_rule(&mut self, rule: Rule, exclusive: bool) -> Result {
        if exclusive && self.rules.of(rule.v4).any(|r| *r == Rule { proto: r.proto, ..rule.clone() }) {
            return Err(Errno::EEXIST);
        }
        if self.rules.0.len() >= MOST {
            return Err(Errno::ENOBUFS);
        }
        self.rules.push(rule);
        Ok(())
    }

    /// Takes the first rule away that fits.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn remove_rule(&mut self, v4: bool, fits: impl Fn(&Rule) -> bool) -> Result<Rule> {
        let all = self.rules.0.range((v4, 0, 0)..=(v4, u32::MAX, u64::MAX));
        let key = all.into_iter().find(|(_, r)| fits(r)).map(|(k, _)| *k).ok_or(Errno::ENOENT)?;
        self.rules.0.remove(&key).ok_or(Errno::ENOENT)
    }
}
