//! The options of a version 4 header (RFC 791): checked when they are set, filled in on their way, and turned round for
//! an answer (`ip_options_compile`, `ip_options_build`, `__ip_options_echo`).

use super::addr::Ip;
use crate::abi::{Errno, Result};
use crate::time;
use alloc::vec::Vec;

/// Most bytes of them.
pub const MOST: usize = 40;

/// `IPOPT_*`.
mod kind {
    pub const END: u8 = 0;
    pub const NOOP: u8 = 1;
    pub const RECORD: u8 = 7;
    pub const STAMP: u8 = 68;
    pub const LOOSE: u8 = 131;
    pub const STRICT: u8 = 137;
    pub const ALERT: u8 = 148;
    pub const CIPSO: u8 = 134;
}
/// The lower half of a timestamp option's flags: times alone, with addresses, at addresses that are named.
const TIMES: u8 = 0;
const ADDRESSES: u8 = 1;
const NAMED: u8 = 3;

/// Where each option lies and what is still to be filled in at the place before its pointer.
#[derive(Clone, Copy, Default)]
struct Found {
    record: Option<usize>,
    stamp: Option<usize>,
    source_route: Option<usize>,
    /// The first hop of a source route.
    via: u32,
    address_in_record: bool,
    address_in_stamp: bool,
    time_in_stamp: bool,
}

/// Options of packets that are sent.
#[derive(Clone)]
pub struct Options4 {
    bytes: Vec<u8>,
    found: Found,
}

/// Who looks at options.
#[derive(Clone, Copy)]
enum Reader {
    /// Who sets them, with or without `CAP_NET_RAW`.
    Sender(bool),
    /// Who receives a packet, with his address.
    Receiver(u32),
}

/// The time of day as these options have it: ms since midnight.
fn stamp() -> [u8; 4] {
    ((time::now() / 1_000_000).rem_euclid(86_400_000) as u32).to_be_bytes()
}

fn need(ok: bool) -> Result {
    if ok { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Goes through options; the receiver's address and time are put where there is a place for them.
fn compile(b: &mut [u8], reader: Reader) -> Result<Found> {
    let mut found = Found::default();
    let mut at = 0;
    while at < b.len() {
        match b[at] {
            kind::END => {
                b[at..].fill(kind::END);
                break;
            }
            kind::NOOP => {
                at += 1;
                continue;
            }
            _ => {}
        }
        need(b.len() - at >= 2)?;
        let len = usize::from(b[at + 1]);
        need(len >= 2 && len <= b.len() - at)?;
        let option = &mut b[at..at + len];
        match option[0] {
            kind::LOOSE | kind::STRICT => {
                need(len >= 3 && option[2] >= 4 && found.source_route.is_none())?;
                if matches!(reader, Reader::Sender(_)) {
                    need(option[2] == 4 && len >= 7 && (len - 3).is_multiple_of(4))?;
                    found.via = u32::from_be_bytes([option[3], option[4], option[5], option[6]]);
                    option.copy_within(7.., 3);
                }
                found.source_route = Some(at);
            }
            kind::RECORD => {
                need(found.record.is_none() && len >= 3 && option[2] >= 4)?;
                let next = usize::from(option[2]);
                if next <= len {
                    need(next + 3 <= len)?;
                    if let Reader::Receiver(ip) = reader {
                        option[next - 1..next + 3].copy_from_slice(&ip.to_be_bytes());
                    }
                    option[2] += 4;
                    found.address_in_record = true;
                }
                found.record = Some(at);
            }
            kind::STAMP => {
                need(found.stamp.is_none() && len >= 4 && option[2] >= 5)?;
                found.stamp = Some(at);
                stamps(option, reader, &mut found)?;
            }
            kind::ALERT => need(len >= 4)?,
            // What these protect is no business of programs; there are no labels either.
            kind::CIPSO => return Err(Errno::EINVAL),
            _ => need(!matches!(reader, Reader::Sender(false)))?,
        }
        at += len;
    }
    Ok(found)
}

fn stamps(option: &mut [u8], reader: Reader, found: &mut Found) -> Result {
    let (len, next) = (option.len(), usize::from(option[2]));
    let manner = option[3] & 15;
    if next > len {
        if manner != NAMED {
            let overflow = option[3] >> 4;
            need(overflow < 15)?;
            if matches!(reader, Reader::Receiver(_)) {
                option[3] = manner | (overflow + 1) << 4;
            }
        }
        return Ok(());
    }
    need(next + 3 <= len)?;
    let time_at = match manner {
        TIMES => {
            option[2] += 4;
            next - 1
        }
        ADDRESSES => {
            need(next + 7 <= len)?;
            if let Reader::Receiver(ip) = reader {
                option[next - 1..next + 3].copy_from_slice(&ip.to_be_bytes());
            }
            found.address_in_stamp = true;
            option[2] += 8;
            next + 3
        }
        NAMED => {
            need(next + 7 <= len)?;
            let named =
                Ip::v4(u32::from_be_bytes([option[next - 1], option[next], option[next + 1], option[next + 2]]));
            let here = match reader {
                Reader::Receiver(ip) => named == Ip::v4(ip) || named.is_loopback(),
                Reader::Sender(_) => named.is_loopback() || named.is_any() || named.is_multicast(),
            };
            if !here {
                return Ok(());
            }
            option[2] += 8;
            next + 3
        }
        _ => return need(!matches!(reader, Reader::Sender(false))),
    };
    found.time_in_stamp = true;
    if matches!(reader, Reader::Receiver(_)) {
        option[time_at..time_at + 4].copy_from_slice(&stamp());
    }
    Ok(())
}

/// Takes back what [`compile`] has made room for (`ip_options_undo`).
fn undo(b: &mut [u8], found: &Found) {
    let back = |b: &mut [u8], at: usize| {
        b[at + 2] = b[at + 2].saturating_sub(4);
        let next = at + usize::from(b[at + 2]);
        if let Some(place) = next.checked_sub(1).and_then(|n| b.get_mut(n..n + 4)) {
            place.fill(0);
        }
    };
    if let Some(at) = found.source_route.filter(|_| found.via != 0) {
        let len = usize::from(b[at + 1]);
        b.copy_within(at + 3..at + len - 4, at + 7);
        b[at + 3..at + 7].copy_from_slice(&found.via.to_be_bytes());
    }
    if let Some(at) = found.record.filter(|_| found.address_in_record) {
        back(b, at);
    }
    if let Some(at) = found.stamp {
        if found.time_in_stamp {
            back(b, at);
            if b[at + 3] & 15 == NAMED {
                b[at + 2] = b[at + 2].saturating_sub(4);
            }
        }
        if found.address_in_stamp {
            back(b, at);
        }
    }
}

/// What a packet that has arrived had for options.
#[derive(Default)]
pub struct Arrived {
    /// They, as the receiver sees them.
    pub bytes: Vec<u8>,
    /// They as an answer would have them (`IP_RETOPTS`); `None`: they cannot be turned round.
    pub back: Option<Vec<u8>>,
    /// The packet goes no further.
    pub lost: bool,
}

impl Options4 {
    /// Takes options over; `None` for none.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn new(mut bytes: Vec<u8>, privileged: bool) -> Result<Option<Options4>> {
        bytes.resize(bytes.len().next_multiple_of(4), kind::END);
        let found = compile(&mut bytes, Reader::Sender(privileged))?;
        Ok(if bytes.is_empty() { None } else { Some(Options4 { bytes, found }) })
    }

    /// As they were set (`IP_OPTIONS`).
    pub fn as_set(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        undo(&mut bytes, &self.found);
        bytes
    }

    /// As they arrive with a packet between these addresses (`ip_options_build`, `ip_rcv_options`).
    pub fn arrive(&self, from: Ip, to: Ip) -> Arrived {
        let mut b = self.bytes.clone();
        let put = |b: &mut [u8], at: usize, before: usize, what: [u8; 4]| {
            let next = at + usize::from(b[at + 2]);
            if let Some(place) = next.checked_sub(before).and_then(|n| b.get_mut(n..n + 4)) {
                place.copy_from_slice(&what);
            }
        };
        let own = from.bits4().to_be_bytes();
        if let Some(at) = self.found.record.filter(|_| self.found.address_in_record) {
            put(&mut b, at, 5, own);
        }
        if let Some(at) = self.found.stamp {
            if self.found.address_in_stamp {
                put(&mut b, at, 9, own);
            }
            if self.found.time_in_stamp {
                put(&mut b, at, 5, stamp());
            }
        }
        received(b, to)
    }
}

/// Takes in the options of a packet for `to`. Those that a sender routes are not accepted (`accept_source_route`).
pub fn received(mut bytes: Vec<u8>, to: Ip) -> Arrived {
    match compile(&mut bytes, Reader::Receiver(to.bits4())) {
        Ok(found) => {
            let back = echo(&bytes, &found);
            Arrived { bytes, back, lost: found.source_route.is_some() }
        }
        Err(_) => Arrived { bytes, back: None, lost: true },
    }
}

fn echo(b: &[u8], found: &Found) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut turned = Found::default();
    let option = |at: usize| &b[at..at + usize::from(b[at + 1])];
    if let Some(at) = found.record {
        let record = option(at);
        out.extend_from_slice(record);
        turned.record = Some(0);
        let next = usize::from(record[2]);
        if found.address_in_record && next <= record.len() {
            if next + 3 > record.len() {
                return None;
            }
            out[2] += 4;
            turned.address_in_record = true;
        }
    }
    if let Some(at) = found.stamp {
        let place = out.len();
        let stamps = option(at);
        out.extend_from_slice(stamps);
        turned.stamp = Some(place);
        let mut next = usize::from(stamps[2]);
        if next <= stamps.len() {
            for (there, flag) in [
                (found.address_in_stamp, &mut turned.address_in_stamp),
                (found.time_in_stamp && stamps[3] & 15 != NAMED, &mut turned.time_in_stamp),
            ] {
                if there {
                    if next + 3 > stamps.len() {
                        return None;
                    }
                    *flag = true;
                    next += 4;
                }
            }
            out[place + 2] = next as u8;
        }
    }
    out.resize(out.len().next_multiple_of(4), kind::END);
    undo(&mut out, &turned);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_route_is_filled_and_turned_round() {
        let set = alloc::vec![7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let options = Options4::new(set.clone(), false).expect("right").expect("some");
        assert_eq!(options.as_set(), set);
        let there = options.arrive(Ip::v4(0x7f00_0001), Ip::v4(0x7f00_0002));
        assert_eq!(there.bytes, [7, 11, 12, 127, 0, 0, 1, 127, 0, 0, 2, 0]);
        assert!(!there.lost && there.back.is_some());
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        for bad in [&[7, 2][..], &[7, 9, 4], &[68, 4, 4, 0], &[131, 3, 4], &[5]] {
            assert!(Options4::new(bad.to_vec(), true).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut b = alloc::vec![0u8; (seed >> 60) as usize * 3];
            for x in &mut b {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let n = (seed >> 33) as u8;
                *x = match n % 8 {
                    0 => 7,
                    1 => 68,
                    2..5 => n % 16,
                    5 => 131,
                    _ => n,
                };
            }
            b.truncate(MOST);
            if let Ok(Some(options)) = Options4::new(b.clone(), true) {
                let _ = options.as_set();
                let _ = options.arrive(Ip::LOOPBACK4, Ip::LOOPBACK4);
            }
            let _ = received(b, Ip::LOOPBACK4);
        }
    }
}
