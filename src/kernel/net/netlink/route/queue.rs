//! Queueing disciplines (`RTM_*QDISC`, `tc(8)`): every interface that is up has the one that does not queue, and there
//! are no others.

use super::super::message::{Answer, Request};
use super::{Outcome, add_text, head, rtm, word};
use crate::abi::Errno;
use crate::net::NetNamespace;

/// Bytes of a `struct tcmsg`.
const BODY: usize = 20;
/// `TCA_*`.
mod tca {
    pub const KIND: u16 = 1;
    pub const STATS: u16 = 3;
    pub const STATS2: u16 = 7;
    pub const HW_OFFLOAD: u16 = 12;
}
/// `TCA_STATS_BASIC`, `TCA_STATS_QUEUE`, with the bytes of each.
const STATS: [(u16, usize); 2] = [(1, 16), (3, 20)];

/// All of them (`tc_dump_qdisc`).
pub(super) fn dump(ns: &NetNamespace, answer: &mut Answer) -> Outcome {
    for link in ns.links().all().filter(|l| l.is_up()) {
        let mut body = [0u8; BODY];
        body[4..8].copy_from_slice(&link.index.to_ne_bytes());
        // The root, which one interface has.
        body[12..16].fill(0xff);
        body[16] = 2;
        answer.begin(rtm::NEWQDISC, &body);
        add_text(answer, tca::KIND, b"noqueue");
        answer.add(tca::HW_OFFLOAD, &[0]);
        let mut nested = [0u8; 44];
        let mut at = 0;
        for (number, len) in STATS {
            nested[at..at + 2].copy_from_slice(&(len as u16 + 4).to_ne_bytes());
            nested[at + 2..at + 4].copy_from_slice(&number.to_ne_bytes());
            at += 4 + len;
        }
        answer.add(tca::STATS2, &nested);
        answer.add(tca::STATS, &[0; 40]);
    }
    Ok(())
}

/// One of them, or a class: there is none with a number of its own.
pub(super) fn one(ns: &NetNamespace, request: &Request<'_>) -> Outcome {
    let body = head(request, BODY)?;
    ns.links().link(word(body, 4))?;
    Err(if request.kind == rtm::GETQDISC { Errno::ENOENT } else { Errno::EINVAL }.into())
}
