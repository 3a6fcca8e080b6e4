//! Which raw sockets have a protocol and which ping sockets an identifier, and what they receive.

use super::Raw;
use crate::abi::{Errno, Result};
use crate::host::random;
use crate::net::NetNamespace;
use crate::net::inet::addr::{Addr, Ip};
use crate::net::inet::mailbox::{Returned, copy};
use crate::net::inet::options::on;
use crate::net::inet::proto;
use crate::net::inet::wire::{Datagram, checksum_between};
use crate::net::socket::flag;
use crate::sync::{Events, Level, Mutex};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use hashbrown::HashMap;

/// Those under one key, in order of their making.
type Sockets = Vec<Weak<Raw>>;

/// See the module.
pub struct RawTable {
    /// Raw sockets, by version (6) and protocol.
    sockets: Mutex<HashMap<(bool, u16), Sockets>>,
    /// Ping sockets, by identifier.
    pings: Mutex<HashMap<u16, Sockets>>,
    /// Sockets that look at packets of others.
    watchers: AtomicU32,
    /// `ping_group_range`: low in the lower half, high in the upper.
    ping_groups: AtomicU64,
}

impl Default for RawTable {
    fn default() -> RawTable {
        RawTable {
            sockets: Mutex::new(Level::Leaf, HashMap::new()),
            pings: Mutex::new(Level::Leaf, HashMap::new()),
            watchers: AtomicU32::new(0),
            ping_groups: AtomicU64::new(1),
        }
    }
}

impl RawTable {
    /// Whether anybody looks at packets of others.
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Relaxed) != 0
    }

    /// See [`crate::net::inet::InetState::watch`].
    pub fn watch(&self, on: bool) {
        if on {
            self.watchers.fetch_add(1, Relaxed);
        } else {
            self.watchers.fetch_sub(1, Relaxed);
        }
    }

    /// Groups that may have ping sockets, lowest and highest.
    pub fn ping_groups(&self) -> (u32, u32) {
        let range = self.ping_groups.load(Relaxed);
        (range as u32, (range >> 32) as u32)
    }

    /// Sets [`RawTable::ping_groups`].
    pub fn set_ping_groups(&self, low: u32, high: u32) {
        // A range that ends before it begins has nobody.
        let (low, high) = if high < low { (1, 0) } else { (low, high) };
        self.ping_groups.store(u64::from(high) << 32 | u64::from(low), Relaxed);
    }

    pub(super) fn enter(&self, socket: &Raw) -> Result {
        let mut all = self.sockets.lock();
        all.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
        let of = all.entry((socket.is_six(), socket.core.protocol as u16)).or_default();
        of.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
        of.push(socket.me.clone());
        self.watch(true);
        Ok(())
    }

    /// Gives a ping socket an identifier: this one, or any for 0 (`ping_get_port`).
    ///
    /// # Errors
    /// `EADDRINUSE`, `ENOBUFS`.
    pub(super) fn identify(&self, socket: &Raw, wanted: u16) -> Result<u16> {
        let mut pings = self.pings.lock();
        pings.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
        let mut ident = wanted;
        if wanted == 0 {
            let start = random::next_u64() as u16;
            let free = (0..=u16::MAX).map(|i| start.wrapping_add(i));
            ident = free.into_iter().find(|i| *i != 0 && !pings.contains_key(i)).ok_or(Errno::EADDRINUSE)?;
        }
        let there = pings.entry(ident).or_default();
        let shares = |s: &Raw| s.core.has(flag::REUSEADDR) && socket.core.has(flag::REUSEADDR);
        if there.iter().filter_map(Weak::upgrade).any(|s| !shares(&s)) {
            return Err(Errno::EADDRINUSE);
        }
        there.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
        there.push(socket.me.clone());
        Ok(ident)
    }

    /// Takes a ping socket's identifier back.
    pub(super) fn forget(&self, socket: &Raw, ident: u16) {
        let mut pings = self.pings.lock();
        if let Some(there) = pings.get_mut(&ident) {
            there.retain(|s| !Weak::ptr_eq(s, &socket.me));
            if there.is_empty() {
                pings.remove(&ident);
            }
        }
    }

    pub(super) fn leave(&self, socket: &Raw) {
        if socket.is_ping() {
            let ident = core::mem::take(&mut socket.state.lock().local.port);
            return self.forget(socket, ident);
        }
        let key = (socket.is_six(), socket.core.protocol as u16);
        let mut all = self.sockets.lock();
        if let Some(of) = all.get_mut(&key) {
            of.retain(|s| !Weak::ptr_eq(s, &socket.me));
            if of.is_empty() {
                all.remove(&key);
            }
            self.watch(false);
        }
    }

    /// The raw sockets that fit a packet from `remote` to `local`.
    fn matching(&self, protocol: u8, remote: Ip, local: Ip) -> Vec<Arc<Raw>> {
        let mut found = Vec::new();
        if !self.is_watched() {
            return found;
        }
        {
            let all = self.sockets.lock();
            let Some(of) = all.get(&(!local.is_v4(), u16::from(protocol))) else { return found };
            // Where memory is short the packet is lost.
            if found.try_reserve_exact(of.len()).is_ok() {
                found.extend(of.iter().filter_map(Weak::upgrade));
            }
        }
        found.retain(|s| {
            let state = s.state.lock();
            (state.local.ip.is_any() || state.local.ip == local) && state.remote.is_none_or(|r| r.ip == remote)
        });
        found
    }
}

fn is_icmp(protocol: u8) -> bool {
    matches!(u32::from(protocol), proto::ICMP | proto::ICMPV6)
}

/// Gives copies of a packet to the raw sockets that it fits; whether there was one (`raw_v4_input`).
pub fn deliver(ns: &NetNamespace, d: &Datagram) -> bool {
    let all = ns.inet.raw.matching(d.protocol, d.from, d.to);
    for socket in &all {
        if is_icmp(d.protocol) && socket.rejects(d.payload()) {
            continue;
        }
        let sums = socket.is_six() && socket.checksum.load(Relaxed) >= 0;
        if sums && checksum_between(d.from, d.to, d.protocol, d.payload()) != 0 {
            continue;
        }
        // Version 6 leaves the header off.
        let Ok(data) = copy(if socket.is_six() { d.payload() } else { d.bytes() }) else { continue };
        socket.take_in(d.packet(data));
    }
    !all.is_empty()
}

/// Gives an echo reply to the ping socket that asked (`ping_rcv`).
pub fn answer_ping(ns: &NetNamespace, d: &Datagram) {
    let m = d.payload();
    let ident = u16::from_be_bytes([m[4], m[5]]);
    let mut all = Vec::new();
    {
        let pings = ns.inet.raw.pings.lock();
        let Some(there) = pings.get(&ident) else { return };
        // Where memory is short the packet is lost.
        if all.try_reserve_exact(there.len()).is_err() {
            return;
        }
        all.extend(there.iter().rev().filter_map(Weak::upgrade));
    }
    // Of several the youngest.
    let socket = all.into_iter().find(|s| {
        let local = s.state.lock().local.ip;
        s.is_six() != d.to.is_v4() && (local.is_any() || local == d.to)
    });
    if let (Some(socket), Ok(data)) = (socket, copy(m)) {
        socket.take_in(d.packet(data));
    }
}

/// Tells the raw sockets whose packet could not go of it (`raw_err`, `rawv6_err`).
pub fn report(ns: &NetNamespace, about: &Datagram, icmp: (u8, u8), errno: Errno) {
    for socket in ns.inet.raw.matching(about.protocol, about.to, about.from) {
        let queued = socket.ip.has(if about.to.is_v4() { on::RECVERR } else { on::RECVERR6 });
        if !queued && socket.state.lock().remote.is_none() {
            continue;
        }
        let whole = socket.ip.has(on::HDRINCL);
        if queued && let Ok(data) = copy(if whole { about.bytes() } else { about.payload() }) {
            let to = Addr { ip: about.to, port: 0 };
            socket.mail.take_error(Returned { data, to, icmp, errno, told: None });
        }
        socket.core.set_error(errno);
        socket.queue.wake(Events::ERR | Events::IN | Events::OUT);
    }
}
