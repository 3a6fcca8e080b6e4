//! Flow labels (RFC 6437) that sockets have asked for (`IPV6_FLOWLABEL_MGR`, `net/ipv6/ip6_flowlabel.c`).

use super::addr::Ip;
use crate::abi::{Errno, Result};
use crate::cred::Cred;
use crate::host::random;
use crate::time;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Bytes of a `struct in6_flowlabel_req`.
pub const REQUEST: usize = 32;
/// The bits of a label.
pub const MASK: u32 = 0xf_ffff;
/// Most labels of a socket and of a network.
const MOST: usize = 32;
const MOST_OF_ALL: usize = 4096;
/// Seconds that a label stays at least, and at most unless by privilege.
const LINGER: [u16; 2] = [6, 150];

/// `IPV6_FL_A_*`.
mod action {
    pub const GET: u8 = 0;
    pub const PUT: u8 = 1;
    pub const RENEW: u8 = 2;
}
/// `IPV6_FL_F_*`.
mod flag {
    pub const CREATE: u16 = 1;
    pub const EXCLUSIVE: u16 = 2;
    pub const REFLECT: u16 = 4;
}
/// `IPV6_FL_S_*`.
mod share {
    pub const NONE: u8 = 0;
    pub const EXCLUSIVE: u8 = 1;
    pub const PROCESS: u8 = 2;
    pub const USER: u8 = 3;
    pub const ANY: u8 = 255;
}

/// A `struct in6_flowlabel_req`.
pub struct Request {
    to: Ip,
    label: u32,
    action: u8,
    share: u8,
    flags: u16,
    expires: u16,
    linger: u16,
}

impl Request {
    /// As it lies in memory.
    pub fn read(b: &[u8; REQUEST]) -> Request {
        let mut ip = [0; 16];
        ip.copy_from_slice(&b[..16]);
        let short = |at: usize| u16::from_ne_bytes([b[at], b[at + 1]]);
        Request {
            to: Ip::from_bytes(ip),
            label: u32::from_be_bytes([b[16], b[17], b[18], b[19]]),
            action: b[20],
            share: b[21],
            flags: short(22),
            expires: short(24),
            linger: short(26),
        }
    }

    /// Whether it asks for something.
    pub fn is_get(&self) -> bool {
        self.action == action::GET
    }
}

struct Label {
    to: Ip,
    share: u8,
    /// The process or user that it is for.
    owner: u32,
    /// Seconds that it stays when nobody has it.
    linger: u16,
    /// Until when it stays in any case, s.
    expires: u64,
    users: u32,
    /// When the last of them gave it back, s.
    left: u64,
}

/// The labels of a network.
#[derive(Default)]
pub struct Labels {
    all: HashMap<u32, Label>,
    /// Those that a socket has, by its cookie.
    of: HashMap<u64, Vec<u32>>,
    /// There is one, or was, that is not for everybody.
    exclusive: bool,
}

/// Who asks.
pub struct Asker<'a> {
    /// The socket's cookie.
    pub socket: u64,
    /// Whether it is one of TCP.
    pub stream: bool,
    /// The caller.
    pub cred: &'a Cred,
    /// Whether he has `CAP_NET_ADMIN`.
    pub admin: bool,
    /// The process's id.
    pub process: u32,
}

fn seconds() -> u64 {
    time::host_monotonic() / 1_000_000_000
}

fn allowed(time: u16, admin: bool) -> Result<u16> {
    match time {
        n if n < LINGER[0] => Ok(LINGER[0]),
        n if n > LINGER[1] && !admin => Err(Errno::EPERM),
        n => Ok(n),
    }
}

impl Label {
    fn renew(&mut self, linger: u16, expires: u16, admin: bool) -> Result {
        let (linger, expires) = (allowed(linger, admin)?, allowed(expires, admin)?);
        self.linger = self.linger.max(linger);
        self.expires = self.expires.max(seconds() + u64::from(expires.max(self.linger)));
        Ok(())
    }

    fn is_over(&self, now: u64) -> bool {
        self.users == 0 && now >= self.expires.max(self.left + u64::from(self.linger))
    }
}

impl Labels {
    fn has(&self, socket: u64, label: u32) -> bool {
        self.of.get(&socket).is_some_and(|own| own.contains(&label))
    }

    /// Whether a socket may send with a label (`fl6_sock_lookup`).
    pub fn may_send(&self, socket: u64, label: u32) -> bool {
        !self.exclusive || self.has(socket, label)
    }

    /// Takes all labels of a socket back.
    pub fn release(&mut self, socket: u64) {
        if let Some(own) = self.of.remove(&socket) {
            self.give_back(&own);
        }
    }

    fn give_back(&mut self, own: &[u32]) {
        let now = seconds();
        for number in own {
            if let Some(label) = self.all.get_mut(number) {
                label.users = label.users.saturating_sub(1);
                label.left = now;
            }
        }
    }

    /// Does what a request says; the label, where one was asked for by no number (`ipv6_flowlabel_opt`).
    ///
    /// # Errors
    /// `EINVAL`, `ESRCH`, `EEXIST`, `EPERM`, `ENOENT`, `ENOBUFS`, `ENOPROTOOPT`.
    pub fn ask(&mut self, r: &Request, by: &Asker<'_>) -> Result<Option<u32>> {
        let now = seconds();
        self.all.retain(|_, label| !label.is_over(now));
        match r.action {
            // What arrives is not sent back as long as labels are to be consistent (`flowlabel_consistency`).
            action::GET if r.flags & flag::REFLECT != 0 => Err(Errno::EPERM),
            action::PUT if r.flags & flag::REFLECT != 0 => {
                Err(if by.stream { Errno::ESRCH } else { Errno::ENOPROTOOPT })
            }
            action::GET => self.get(r, by),
            action::PUT => {
                let own = self.of.get_mut(&by.socket).ok_or(Errno::ESRCH)?;
                let at = own.iter().rposition(|l| *l == r.label & MASK).ok_or(Errno::ESRCH)?;
                let label = own.remove(at);
                self.give_back(&[label]);
                Ok(None)
            }
            action::RENEW => {
                let for_all = r.share == share::NONE && by.admin;
                if !for_all && !self.has(by.socket, r.label) {
                    return Err(Errno::ESRCH);
                }
                let label = self.all.get_mut(&r.label).filter(|l| l.users > 0).ok_or(Errno::ESRCH)?;
                label.renew(r.linger, r.expires, by.admin).map(|()| None)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn get(&mut self, r: &Request, by: &Asker<'_>) -> Result<Option<u32>> {
        if r.label & !MASK != 0 {
            return Err(Errno::EINVAL);
        }
        let owner = if r.share == share::USER { by.cred.euid } else { by.process };
        let mut new = Label { to: r.to, share: r.share, owner, linger: 0, expires: seconds(), users: 1, left: 0 };
        new.renew(r.linger, r.expires, by.admin)?;
        if r.to.is_v4() || r.to.is_any() {
            return Err(Errno::EINVAL);
        }
        if !matches!(r.share, share::EXCLUSIVE | share::PROCESS | share::USER | share::ANY) {
            return Err(Errno::EINVAL);
        }
        // It counts from when it is asked for.
        self.exclusive |= r.share != share::ANY;
        let there = r.label != 0 && self.all.get(&r.label).is_some_and(|l| l.users > 0);
        if !there {
            if r.flags & flag::CREATE == 0 {
                return Err(Errno::ENOENT);
            }
            if self.of.get(&by.socket).is_some_and(|own| own.len() >= MOST && !by.admin)
                || self.all.len() >= MOST_OF_ALL
            {
                return Err(Errno::ENOBUFS);
            }
        }
        self.all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.of.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let own = self.of.entry(by.socket).or_default();
        own.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        if let Some(old) = self.all.get_mut(&r.label).filter(|_| r.label != 0) {
            if r.flags & flag::EXCLUSIVE != 0 {
                return Err(Errno::EEXIST);
            }
            let others = matches!(old.share, share::PROCESS | share::USER) && old.owner != new.owner;
            if old.share == share::EXCLUSIVE || old.share != new.share || others {
                return Err(Errno::EPERM);
            }
            old.linger = old.linger.max(new.linger);
            old.expires = old.expires.max(new.expires);
            old.users += 1;
            own.push(r.label);
            return Ok(None);
        }
        let mut number = r.label;
        while number == 0 || r.label == 0 && self.all.contains_key(&number) {
            number = random::next_u64() as u32 & MASK;
        }
        self.all.insert(number, new);
        own.push(number);
        Ok((r.label == 0).then_some(number))
    }

    /// What is known of a label that a socket has, as a `struct in6_flowlabel_req`.
    pub fn told(&self, socket: u64, number: u32) -> Option<[u8; REQUEST]> {
        let label = self.all.get(&number).filter(|_| self.has(socket, number))?;
        let mut b = [0; REQUEST];
        b[..16].copy_from_slice(&label.to.bytes());
        b[16..20].copy_from_slice(&number.to_be_bytes());
        b[21] = label.share;
        let left = label.expires.saturating_sub(seconds()) as u16;
        b[24..26].copy_from_slice(&left.to_ne_bytes());
        b[26..28].copy_from_slice(&label.linger.to_ne_bytes());
        Some(b)
    }
}
