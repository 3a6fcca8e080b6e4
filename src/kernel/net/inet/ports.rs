//! Which ports are taken, by whom: the rules of `bind(2)` (`inet_csk_bind_conflict`, `udp_lib_lport_inuse`).

mod table;

use super::addr::{Addr, Ip, overlap};
use crate::abi::{Errno, Result};
use crate::host::random;
use crate::sync::{Mend, MendHashMap, StepQueue};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use table::PortTable;

/// A socket's claim to a port: what decides who may have the same one.
pub struct Claim<S> {
    /// The local address.
    pub ip: Ip,
    /// The port.
    pub port: u16,
    /// `IPV6_V6ONLY` as it was when the socket was bound.
    pub v6only: bool,
    /// The owner's user.
    pub uid: u32,
    /// `SO_REUSEADDR`.
    pub reuse: AtomicBool,
    /// `SO_REUSEPORT`.
    pub reuse_port: AtomicBool,
    /// `SO_BINDTODEVICE`.
    pub device: AtomicU32,
    /// It listens.
    pub listening: AtomicBool,
    /// `connect` chose the port: others that connect may have it as well.
    pub shared: bool,
    /// Whom packets to it are for.
    pub owner: S,
}

/// What is left of a port's use without a socket of its own in the table: accepted connections, and
/// connections that were closed lately (TIME_WAIT).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    ip: Ip,
    reuse: bool,
    reuse_port: bool,
    uid: u32,
    /// TIME_WAIT.
    closed: bool,
}

/// Who uses a port. Another one takes its place where that changes ([`Ports::change`]).
struct Bucket<S> {
    claims: Vec<Arc<Claim<S>>>,
    held: Vec<(Holder, u32)>,
}

/// Time of TIME_WAIT, ns.
const TIME_WAIT: u64 = 60_000_000_000;
/// Most connections in TIME_WAIT: the oldest are forgotten first (`tcp_max_tw_buckets`).
const MOST_CLOSED: usize = 4096;

/// The two ends of a connection, one's own first.
pub type Quad = (Addr, Addr);

/// A connection's name, and the bit of its end at `local`.
fn side(local: Addr, remote: Addr) -> (Quad, u8) {
    if local <= remote { ((local, remote), 1) } else { ((remote, local), 2) }
}

/// The ports of one protocol.
pub struct Ports<S> {
    buckets: PortTable<Bucket<S>>,
    /// Connections that exist, each once, with which of its ends are there ([`side`]).
    connections: MendHashMap<Quad, u8>,
    closed: StepQueue<(u64, u16, Holder)>,
}

impl<S> Mend for Ports<S> {
    fn mend(&mut self) {
        self.buckets.mend();
        self.connections.mend();
    }
}

impl<S> Default for Ports<S> {
    fn default() -> Self {
        Ports { buckets: PortTable::default(), connections: MendHashMap::default(), closed: StepQueue::new() }
    }
}

/// Whether a claim that is in the table keeps a new one out (`inet_bind_conflict`). `fixed`: the port was
/// asked for by number.
fn conflict<S>(new: &Claim<S>, old: &Holder, listening: bool, fixed: bool) -> bool {
    let both_port = new.reuse_port.load(Relaxed) && old.reuse_port && (old.closed || new.uid == old.uid);
    if new.reuse.load(Relaxed) && old.reuse && !listening {
        return !fixed;
    }
    !(fixed && both_port)
}

fn holder_of<S>(claim: &Claim<S>) -> Holder {
    Holder {
        ip: claim.ip,
        reuse: claim.reuse.load(Relaxed),
        reuse_port: claim.reuse_port.load(Relaxed),
        uid: claim.uid,
        closed: false,
    }
}

impl<S> Bucket<S> {
    fn admits(&self, new: &Claim<S>, fixed: bool) -> bool {
        let device = new.device.load(Relaxed);
        let own = (new.ip, new.v6only);
        let free = self.claims.iter().all(|c| {
            let other = c.device.load(Relaxed);
            core::ptr::eq(&**c, new)
                || device != 0 && other != 0 && device != other
                || !overlap(own, (c.ip, c.v6only))
                || !conflict(new, &holder_of(c), c.listening.load(Relaxed), fixed)
        });
        free && self.held.iter().all(|(h, _)| !overlap(own, (h.ip, false)) || !conflict(new, h, false, fixed))
    }

    fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.held.is_empty()
    }
}

impl<S> Ports<S> {
    /// Forgets connections whose TIME_WAIT is over.
    fn expire(&mut self, now: u64) {
        while let Some(&(end, port, holder)) = self.closed.front() {
            if end > now && self.closed.len() <= MOST_CLOSED {
                break;
            }
            self.closed.pop_front();
            self.unhold(port, holder);
        }
    }

    /// Enters a claim to the port that it names.
    ///
    /// # Errors
    /// `EADDRINUSE`, `ENOMEM`.
    pub fn bind(&mut self, claim: Arc<Claim<S>>, now: u64) -> Result {
        self.expire(now);
        if self.buckets.get(claim.port).is_some_and(|b| !b.admits(&claim, true)) {
            return Err(Errno::EADDRINUSE);
        }
        self.enter(claim)
    }

    /// Enters a claim without asking whether others agree.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn enter(&mut self, claim: Arc<Claim<S>>) -> Result {
        self.change(claim.port, |bucket| bucket.claims.push(claim))
    }

    /// Changes who uses a port: a changed copy takes the place of what is there by one store.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn change(&mut self, port: u16, change: impl FnOnce(&mut Bucket<S>)) -> Result {
        let mut new = Box::new(Bucket { claims: Vec::new(), held: Vec::new() });
        let there = self.buckets.get(port);
        new.claims.try_reserve_exact(there.map_or(1, |b| b.claims.len() + 1)).map_err(|_| Errno::ENOMEM)?;
        if let Some(there) = there {
            new.held.try_reserve_exact(there.held.len() + 1).map_err(|_| Errno::ENOMEM)?;
            new.claims.extend_from_slice(&there.claims);
            new.held.extend_from_slice(&there.held);
        }
        change(&mut new);
        self.buckets.set(port, (!new.is_empty()).then_some(new));
        Ok(())
    }

    /// Whether there is an end of a connection to `remote` at `local`.
    pub fn is_connected(&self, local: Addr, remote: Addr) -> bool {
        let (name, bit) = side(local, remote);
        self.connections.get(&name).is_some_and(|ends| ends & bit != 0)
    }

    /// Makes room for one more connection.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn try_reserve(&mut self) -> Result {
        self.connections.try_reserve()
    }

    /// There is such an end now, for which there is room ([`Ports::try_reserve`]).
    pub fn connect(&mut self, local: Addr, remote: Addr) {
        let (name, bit) = side(local, remote);
        match self.connections.get_mut(&name) {
            Some(ends) => *ends |= bit,
            None => drop(self.connections.insert(name, bit)),
        }
    }

    /// There is no such end any more.
    pub fn disconnect(&mut self, local: Addr, remote: Addr) {
        let (name, bit) = side(local, remote);
        let Some(ends) = self.connections.get_mut(&name) else { return };
        *ends &= !bit;
        if *ends == 0 {
            self.connections.remove(&name);
        }
    }

    /// Whether the claim, which is in the table, could be made again as it is now: `listen(2)` asks.
    pub fn still_admits(&self, claim: &Claim<S>) -> bool {
        self.buckets.get(claim.port).is_none_or(|b| b.admits(claim, true))
    }

    /// Enters a claim, which is new, to a port that nobody uses, of the range `low..=high`.
    ///
    /// # Errors
    /// `EADDRINUSE` when there is none.
    pub fn bind_any(&mut self, (low, high): (u16, u16), now: u64, claim: Arc<Claim<S>>) -> Result<Arc<Claim<S>>> {
        self.expire(now);
        let free = |port, claim: &Claim<S>| self.buckets.get(port).is_none_or(|b| b.admits(claim, false));
        let port = candidates(low, high).find(|&port| free(port, &claim)).ok_or(Errno::EADDRINUSE)?;
        self.enter_at(claim, port)
    }

    fn enter_at(&mut self, mut claim: Arc<Claim<S>>, port: u16) -> Result<Arc<Claim<S>>> {
        // Nobody else has it yet.
        Arc::get_mut(&mut claim).ok_or(Errno::EADDRINUSE)?.port = port;
        self.enter(claim.clone())?;
        Ok(claim)
    }

    /// Enters a claim, which is new, for a connection to `remote`: to a port that nobody uses, else to one that only
    /// connections to elsewhere use.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL`.
    pub fn connect_any(
        &mut self,
        (low, high): (u16, u16),
        remote: Addr,
        now: u64,
        claim: Arc<Claim<S>>,
    ) -> Result<Arc<Claim<S>>> {
        self.expire(now);
        let unused = |port: &u16| self.buckets.get(*port).is_none();
        let shared = |port: &u16| self.claims(*port).iter().all(|c| c.shared);
        let apart = |port: &u16| !self.is_connected(Addr { ip: claim.ip, port: *port }, remote);
        let port = candidates(low, high)
            .find(|port| unused(port) && apart(port))
            .or_else(|| candidates(low, high).find(|port| shared(port) && apart(port)))
            .ok_or(Errno::EADDRNOTAVAIL)?;
        self.enter_at(claim, port)
    }

    /// Takes a claim back.
    pub fn release(&mut self, claim: &Arc<Claim<S>>) {
        if self.buckets.get(claim.port).is_some() {
            // Without memory it stays claimed.
            let _ = self.change(claim.port, |bucket| bucket.claims.retain(|c| !Arc::ptr_eq(c, claim)));
        }
    }

    /// The claims to a port.
    pub fn claims(&self, port: u16) -> &[Arc<Claim<S>>] {
        self.buckets.get(port).map_or(&[], |b| &b.claims[..])
    }

    /// Counts a user of a port that has no claim; [`Ports::unhold`] ends it.
    pub fn hold(&mut self, local: Addr, reuse: bool, reuse_port: bool, uid: u32) -> Holder {
        let holder = Holder { ip: local.ip, reuse, reuse_port, uid, closed: false };
        self.count(local.port, holder);
        holder
    }

    fn count(&mut self, port: u16, holder: Holder) {
        let bucket = self.buckets.get_mut(port);
        match bucket.and_then(|b| b.held.iter_mut().find(|(h, _)| *h == holder)) {
            Some((_, n)) => *n += 1,
            None => drop(self.change(port, |bucket| bucket.held.push((holder, 1)))),
        }
    }

    /// Ends what [`Ports::hold`] began.
    pub fn unhold(&mut self, port: u16, holder: Holder) {
        let bucket = self.buckets.get_mut(port);
        match bucket.and_then(|b| b.held.iter_mut().find(|(h, _)| *h == holder)) {
            Some((_, n)) if *n > 1 => *n -= 1,
            Some(_) => drop(self.change(port, |bucket| bucket.held.retain(|(h, _)| *h != holder))),
            None => {}
        }
    }

    /// A connection was closed by this end first: its port is in TIME_WAIT from now on.
    pub fn wait_out(&mut self, local: Addr, reuse: bool, reuse_port: bool, uid: u32, now: u64) {
        let holder = Holder { ip: local.ip, reuse, reuse_port, uid, closed: true };
        self.count(local.port, holder);
        self.closed.push_back((now + TIME_WAIT, local.port, holder));
        self.expire(now);
    }

    /// Connections in TIME_WAIT.
    pub fn closed(&self) -> usize {
        self.closed.len()
    }

    /// Ports in use.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether no port is in use.
    pub fn is_empty(&self) -> bool {
        self.buckets.len() == 0
    }
}

/// The ports of a range, each once, beginning anywhere.
fn candidates(low: u16, high: u16) -> impl Iterator<Item = u16> {
    let count = u32::from(high.saturating_sub(low)) + 1;
    let start = (random::next_u64() % u64::from(count)) as u32;
    (0..count).map(move |i| low + ((start + i) % count) as u16)
}
