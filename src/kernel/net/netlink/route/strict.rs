//! What is wrong with a request for a dump, for those who want to know (`NETLINK_GET_STRICT_CHK`): the header names
//! nothing that is no filter, and every attribute is one.

use super::super::message::Request;
use super::Outcome;
use crate::abi::Errno;
use crate::net::links::Refusal;

/// How a kind of request is checked, and what is said where it is wrong.
pub(super) struct Form {
    /// Bytes of its header.
    pub body: usize,
    /// Those that must be 0: where they begin, and end.
    pub empty: &'static [(usize, usize)],
    /// The attributes that it may have.
    pub known: &'static [u16],
    /// The last attribute that there is.
    pub last: u16,
    /// What is said about a header that is too short, has values, and about an attribute that is none of these.
    pub words: [&'static str; 3],
}

fn refuse(words: &'static str) -> Outcome {
    Err(Refusal(Errno::EINVAL, words))
}

/// Checks the header of a request.
pub(super) fn check_head(request: &Request<'_>, form: &Form) -> Outcome {
    let [short, values, _] = form.words;
    let body = request.body();
    if body.len() < form.body {
        return refuse(short);
    }
    if form.empty.iter().any(|&(from, to)| body[from..to].iter().any(|&b| b != 0)) {
        return refuse(values);
    }
    Ok(())
}

/// Checks a request.
pub(super) fn check(request: &Request<'_>, form: &Form) -> Outcome {
    check_head(request, form)?;
    let mut rest = request.body().get(form.body.next_multiple_of(4)..).unwrap_or(&[]);
    let mut unsupported = false;
    while rest.len() >= 4 {
        let len = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        if len < 4 || len > rest.len() {
            break;
        }
        let number = u16::from_ne_bytes([rest[2], rest[3]]) & 0x3fff;
        if number == 0 || number > form.last {
            return refuse("Unknown attribute type");
        }
        unsupported |= !form.known.contains(&number);
        rest = &rest[len.next_multiple_of(4).min(rest.len())..];
    }
    match (rest.is_empty(), unsupported) {
        (false, _) => refuse("bytes leftover after parsing attributes"),
        (_, true) => refuse(form.words[2]),
        _ => Ok(()),
    }
}
