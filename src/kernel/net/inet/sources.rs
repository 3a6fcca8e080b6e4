//! Which sources of a multicast group a socket takes packets from (`IP_ADD_SOURCE_MEMBERSHIP`, `MCAST_BLOCK_SOURCE`,
//! `IP_MSFILTER` and so on; RFC 3678).

use super::addr::{Addr, Ip};
use super::multicast::{Ask, Groups, interface, interface6, opt, stored};
use super::proto;
use crate::abi::{Errno, Result};
use crate::net::bytes::word;
use crate::net::socket::{Core, OptionValue, af};
use crate::sync::Mutex;
use alloc::vec::Vec;

/// Bytes of a `struct ip_msfilter` and a `struct group_filter` without sources.
const HEAD4: usize = 16;
const HEAD: usize = 144;
/// Most bytes of a filter that is set (`optmem_max`).
const MOST_BYTES: u32 = 131_072;

/// Whether a list is of those that are wanted or of those that are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// `MCAST_EXCLUDE`.
    Exclude,
    /// `MCAST_INCLUDE`.
    Include,
}

/// The filter of one group.
pub struct List {
    mode: Mode,
    sources: Vec<Ip>,
}

/// Most sources of one filter (`igmp_max_msf`, `mld_max_msf`).
fn most(group_is_v4: bool) -> usize {
    if group_is_v4 { 10 } else { 64 }
}

impl List {
    /// One without sources.
    pub fn new(mode: Mode) -> List {
        List { mode, sources: Vec::new() }
    }

    /// Whether packets from `from` pass.
    pub fn allows(&self, from: Ip) -> bool {
        self.sources.contains(&from) == (self.mode == Mode::Include)
    }

    /// Whether nothing passes, which is to be no member.
    pub fn is_nothing(&self) -> bool {
        self.mode == Mode::Include && self.sources.is_empty()
    }

    /// Adds a source or takes it away (`ip_mc_source`); whether the group is to be left then.
    ///
    /// # Errors
    /// `EINVAL` if the list is of the other mode; `EADDRNOTAVAIL` if the source is there already, or is not; `ENOBUFS`.
    pub fn change(&mut self, mode: Mode, source: Ip, add: bool) -> Result<bool> {
        if self.mode != mode {
            if !self.sources.is_empty() {
                return Err(Errno::EINVAL);
            }
            self.mode = mode;
        }
        let at = self.sources.iter().position(|s| *s == source);
        match (add, at) {
            (false, None) => Err(Errno::EADDRNOTAVAIL),
            (false, Some(_)) if self.sources.len() == 1 && mode == Mode::Include => Ok(true),
            (false, Some(at)) => {
                self.sources.swap_remove(at);
                Ok(false)
            }
            (true, _) if self.sources.len() >= most(source.is_v4()) => Err(Errno::ENOBUFS),
            (true, Some(_)) => Err(Errno::EADDRNOTAVAIL),
            (true, None) => {
                self.sources.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                self.sources.push(source);
                Ok(false)
            }
        }
    }
}

/// Reads one of the options; `None` for others.
pub(super) fn read(core: &Core, level: u32, option: u32, value: OptionValue) -> Option<Result<Ask>> {
    let (mode, add) = match option {
        opt::BLOCK_SOURCE | opt::MCAST_BLOCK => (Mode::Exclude, true),
        opt::UNBLOCK_SOURCE | opt::MCAST_UNBLOCK => (Mode::Exclude, false),
        opt::ADD_SOURCE | opt::MCAST_JOIN_SOURCE => (Mode::Include, true),
        _ => (Mode::Include, false),
    };
    Some(match (level, option) {
        (proto::IP, opt::UNBLOCK_SOURCE..=opt::DROP_SOURCE) => source4(core, mode, add, value),
        (proto::IP, opt::MSFILTER) => filter4(core, value),
        (_, opt::MCAST_BLOCK | opt::MCAST_UNBLOCK | opt::MCAST_JOIN_SOURCE | opt::MCAST_LEAVE_SOURCE) => {
            source_any(core, level, mode, add, value)
        }
        (_, opt::MCAST_MSFILTER) => filter_any(core, level, value),
        _ => return None,
    })
}

/// A `struct ip_mreq_source`.
fn source4(core: &Core, mode: Mode, add: bool, value: OptionValue) -> Result<Ask> {
    if value.len != 12 {
        return Err(Errno::EINVAL);
    }
    let b = value.array::<12>()?;
    let ip = |at: usize| Ip::v4(u32::from_be(word(&b, at)));
    Ok(Ask::Source { group: ip(0), source: ip(8), mode, add, index: interface(core, word(&b, 4), 0) })
}

/// A `struct group_source_req`.
fn source_any(core: &Core, level: u32, mode: Mode, add: bool, value: OptionValue) -> Result<Ask> {
    let b = value.array::<264>()?;
    let group = stored(level, &b[8..]).ok_or(Errno::EADDRNOTAVAIL)?;
    let source = stored(level, &b[136..]).ok_or(Errno::EADDRNOTAVAIL)?;
    Ok(Ask::Source { group, source, mode, add, index: index(core, level, word(&b, 0)) })
}

fn index(core: &Core, level: u32, index: u32) -> Result<u32> {
    if level == proto::IP { interface(core, 0, index) } else { interface6(index) }
}

fn mode_of(n: u32) -> Result<Mode> {
    match n {
        0 => Ok(Mode::Exclude),
        1 => Ok(Mode::Include),
        _ => Err(Errno::EINVAL),
    }
}

/// The bytes of a filter, whose head is `head` long and ends with the number of sources of `each` bytes.
fn filter_bytes(value: OptionValue, (head, each): (usize, usize), v4: bool) -> Result<Vec<u8>> {
    if (value.len as usize) < head {
        return Err(Errno::EINVAL);
    }
    if value.len > MOST_BYTES {
        return Err(Errno::ENOBUFS);
    }
    let b = value.bytes(value.len as usize)?;
    let count = word(&b, head - 4) as usize;
    if count > most(v4) {
        return Err(Errno::ENOBUFS);
    }
    if head + count * each > b.len() { Err(Errno::EINVAL) } else { Ok(b) }
}

fn list_of(mode: u32, count: usize, source: impl Fn(usize) -> Result<Ip>) -> Result<List> {
    let mut list = List::new(mode_of(mode)?);
    list.sources.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    for i in 0..count {
        list.sources.push(source(i)?);
    }
    Ok(list)
}

/// A `struct ip_msfilter`.
fn filter4(core: &Core, value: OptionValue) -> Result<Ask> {
    let b = filter_bytes(value, (HEAD4, 4), true)?;
    let ip = |at: usize| Ip::v4(u32::from_be(word(&b, at)));
    if !ip(0).is_multicast() {
        return Err(Errno::EINVAL);
    }
    let list = list_of(word(&b, 8), word(&b, 12) as usize, |i| Ok(ip(HEAD4 + 4 * i)))?;
    Ok(Ask::Filter { group: ip(0), list, index: interface(core, word(&b, 4), 0) })
}

/// A `struct group_filter`.
fn filter_any(core: &Core, level: u32, value: OptionValue) -> Result<Ask> {
    let b = filter_bytes(value, (HEAD, 128), level == proto::IP)?;
    let wrong = if level == proto::IP { Errno::EADDRNOTAVAIL } else { Errno::EINVAL };
    let group = stored(level, &b[8..]).ok_or(wrong)?;
    let source = |i: usize| stored(level, &b[HEAD + 128 * i..]).ok_or(Errno::EADDRNOTAVAIL);
    let list = list_of(word(&b, 136), word(&b, 140) as usize, source)?;
    Ok(Ask::Filter { group, list, index: index(core, level, word(&b, 0)) })
}

/// `getsockopt(2)` of a filter: the value names group and interface, and says for how many sources there is room
/// (`ip_mc_msfget`, `ip_mc_gsfget`). `None` for other options.
pub(super) fn get(
    core: &Core,
    groups: &Mutex<Groups>,
    level: u32,
    option: u32,
    value: OptionValue,
) -> Option<Result<Vec<u8>>> {
    match (level, option) {
        (proto::IP, opt::MSFILTER) => Some(get4(core, groups, value)),
        (proto::IP | proto::IPV6, opt::MCAST_MSFILTER) => Some(get_any(core, groups, level, value)),
        _ => None,
    }
}

fn get4(core: &Core, groups: &Mutex<Groups>, value: OptionValue) -> Result<Vec<u8>> {
    let mut out = value.array::<HEAD4>()?.to_vec();
    let group = Ip::v4(u32::from_be(word(&out, 0)));
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    interface(core, word(&out, 4), 0)?;
    let groups = groups.lock();
    let list = groups.filter(group).ok_or(Errno::EADDRNOTAVAIL)?;
    let room = word(&out, 12) as usize;
    out[8..12].copy_from_slice(&u32::from(list.mode == Mode::Include).to_ne_bytes());
    out[12..16].copy_from_slice(&(list.sources.len() as u32).to_ne_bytes());
    for ip in list.sources.iter().take(room) {
        out.extend_from_slice(&ip.bits4().to_be_bytes());
    }
    Ok(out)
}

fn get_any(core: &Core, groups: &Mutex<Groups>, level: u32, value: OptionValue) -> Result<Vec<u8>> {
    let mut out = value.array::<HEAD>()?.to_vec();
    let wrong = if level == proto::IP { Errno::EINVAL } else { Errno::EADDRNOTAVAIL };
    let group = stored(level, &out[8..]).ok_or(wrong)?;
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    index(core, level, word(&out, 0))?;
    let groups = groups.lock();
    let list = groups.filter(group).ok_or(Errno::EADDRNOTAVAIL)?;
    let room = word(&out, 140) as usize;
    out[136..140].copy_from_slice(&u32::from(list.mode == Mode::Include).to_ne_bytes());
    out[140..144].copy_from_slice(&(list.sources.len() as u32).to_ne_bytes());
    let family = if level == proto::IP { af::INET } else { af::INET6 };
    for &ip in list.sources.iter().take(room) {
        let mut stored = [0u8; 128];
        let addr = Addr { ip, port: 0 }.to_sockaddr(family);
        stored[..addr.len()].copy_from_slice(addr.bytes());
        out.extend_from_slice(&stored);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_changes_its_mode_only_while_it_is_empty() {
        let (a, b) = (Ip::v4(1), Ip::v4(2));
        let mut list = List::new(Mode::Exclude);
        assert!(list.allows(a));
        assert_eq!(list.change(Mode::Include, a, true), Ok(false));
        assert!(list.allows(a) && !list.allows(b));
        assert_eq!(list.change(Mode::Exclude, b, true), Err(Errno::EINVAL));
        assert_eq!(list.change(Mode::Include, a, true), Err(Errno::EADDRNOTAVAIL));
        assert_eq!(list.change(Mode::Include, b, false), Err(Errno::EADDRNOTAVAIL));
        assert_eq!(list.change(Mode::Include, a, false), Ok(true), "who includes nobody is no member");
    }
}
