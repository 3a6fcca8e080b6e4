//! Whom a packet is for.

use super::{Dgram, Packet, Returned};
use crate::abi::{Errno, Result};
use crate::net::inet::addr::{Addr, Ip};
use crate::net::inet::options::on;
use crate::sync::Events;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// Most packets that wait in one error queue.
const MOST_RETURNED: usize = 64;

impl Dgram {
    /// How well this socket fits a packet (`compute_score`); `None`: it is not for it.
    fn score(&self, (ip, v6only): (Ip, bool), from: Addr, to: Addr) -> Option<u32> {
        let mut score = 1;
        if ip == to.ip {
            score += 4;
        } else if !ip.is_any() || to.ip.is_v4() && !ip.is_v4() && v6only || !to.ip.is_v4() && ip.is_v4() {
            return None;
        }
        if ip.is_v4() == to.ip.is_v4() {
            score += 1;
        }
        match self.state.lock().remote {
            Some(remote) if remote != from => None,
            Some(_) => Some(score + 4),
            None => Some(score),
        }
    }

    /// The sockets bound to a port, the youngest first, with their address.
    fn at_port(&self, port: u16) -> Result<Vec<(Arc<Dgram>, Ip, bool)>> {
        let ports = self.ports().lock();
        let claims = ports.claims(port);
        let mut out = Vec::new();
        out.try_reserve_exact(claims.len()).map_err(|_| Errno::ENOBUFS)?;
        for c in claims.iter().rev() {
            if let Some(socket) = c.owner.upgrade() {
                out.push((socket, c.ip, c.v6only));
            }
        }
        Ok(out)
    }

    /// The one socket that a packet to a single address is for.
    pub(super) fn receiver(&self, from: Addr, to: Addr) -> Result<Option<Arc<Dgram>>> {
        // Nearly always there is one socket at a port: no list has to be made.
        let only = {
            let ports = self.ports().lock();
            match ports.claims(to.port) {
                [] => return Ok(None),
                [one] => Some((one.owner.upgrade(), one.ip, one.v6only)),
                _ => None,
            }
        };
        if let Some((socket, ip, only6)) = only {
            return Ok(socket.filter(|s| s.score((ip, only6), from, to).is_some()));
        }
        let mut best: Option<(u32, Arc<Dgram>)> = None;
        for (socket, ip, only6) in self.at_port(to.port)? {
            if let Some(score) = socket.score((ip, only6), from, to)
                && best.as_ref().is_none_or(|(b, _)| score > *b)
            {
                best = Some((score, socket));
            }
        }
        Ok(best.map(|(_, s)| s))
    }

    /// Every socket that a packet to a group or to all is for.
    pub(super) fn receivers(&self, from: Addr, to: Addr) -> Result<Vec<Arc<Dgram>>> {
        let mut all = self.at_port(to.port)?;
        all.retain(|(s, ip, only6)| {
            let member = || {
                let every = if to.ip.is_v4() { on::ALL } else { on::ALL6 };
                s.ip.groups.lock().has(to.ip) || s.ip.has(every) && !to.ip.is_multicast()
            };
            s.score((*ip, *only6), from, to).is_some() && (!to.ip.is_multicast() || member())
        });
        Ok(all.into_iter().map(|(s, _, _)| s).collect())
    }

    /// Takes a packet in; one for which there is no room is lost.
    pub(super) fn take_in(&self, mut packet: Packet) {
        packet.time = self.stamp();
        let n = packet.charge();
        {
            let mut inbox = self.inbox.lock();
            if inbox.charged + n > self.core.receive_room() || inbox.packets.try_reserve(1).is_err() {
                inbox.dropped += 1;
                return;
            }
            inbox.charged += n;
            inbox.packets.push_back(packet);
        }
        self.core.ns.inet.datagrams[0].fetch_add(1, Relaxed);
        self.queue.wake(Events::IN | Events::RDNORM);
    }

    /// Nobody takes packets at `to`: as an ICMP message tells the sender.
    pub(super) fn unreachable(&self, data: Vec<u8>, to: Addr) {
        self.core.ns.inet.datagrams[2].fetch_add(1, Relaxed);
        let queued = self.ip.has(if to.ip.is_v4() { on::RECVERR } else { on::RECVERR6 });
        if queued {
            let mut errors = self.errors.lock();
            if errors.len() < MOST_RETURNED && errors.try_reserve(1).is_ok() {
                let offender = Addr { ip: to.ip, port: 0 };
                errors.push_back(Returned { data, to, offender, errno: Errno::ECONNREFUSED });
            }
        }
        let connected = self.state.lock().remote.is_some();
        if queued || connected {
            self.core.set_error(Errno::ECONNREFUSED);
            self.queue.wake(Events::ERR | Events::IN | Events::OUT);
        }
    }
}
