//! What the internet sockets of a network namespace share.

use super::addr::{Addr, Ip};
use super::dgram::Dgram;
use super::labels::Labels;
use super::multicast::Members;
use super::ports::{Claim, Ports};
use super::raw::RawTable;
use super::tcp::Tcp;
use crate::abi::{Errno, Result};
use crate::net::NetNamespace;
use crate::net::links::{Query, RouteKind, Via};
use crate::net::socket::{Core, flag};
use crate::sync::{Level, Mutex};
use crate::time;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

/// See the module.
pub struct InetState {
    /// TCP's ports.
    pub tcp: Mutex<Ports<Weak<Tcp>>>,
    /// UDP's ports.
    pub udp: Mutex<Ports<Weak<Dgram>>>,
    /// UDP-Lite's ports.
    pub udplite: Mutex<Ports<Weak<Dgram>>>,
    /// Raw and ping sockets.
    pub raw: RawTable,
    /// Flow labels.
    pub labels: Mutex<Labels>,
    /// Members of multicast groups.
    pub members: Mutex<Members>,
    /// `ip_local_port_range`: low in the lower half, high in the upper.
    range: AtomicU32,
    /// `ip_unprivileged_port_start`.
    pub unprivileged: AtomicI32,
    /// `ip_nonlocal_bind`.
    pub nonlocal: AtomicBool,
    /// `ip_default_ttl`.
    pub ttl: AtomicI32,
    /// `bindv6only`.
    pub v6only: AtomicBool,
    /// Datagrams received, sent, and that nobody took, for `/proc/net/snmp`.
    pub datagrams: [AtomicU64; 3],
    /// Control messages by version (6) and type, each of which was sent and received.
    pub messages: Mutex<BTreeMap<(bool, u8), u64>>,
    /// Connections made actively, accepted passively and refused, for `/proc/net/snmp`.
    pub connections: [AtomicU64; 3],
}

impl Default for InetState {
    fn default() -> InetState {
        InetState {
            tcp: Mutex::mended(Level::Leaf, Ports::default()),
            udp: Mutex::mended(Level::Leaf, Ports::default()),
            udplite: Mutex::mended(Level::Leaf, Ports::default()),
            raw: RawTable::default(),
            labels: Mutex::new(Level::Leaf, Labels::default()),
            members: Mutex::new(Level::Leaf, Members::default()),
            range: AtomicU32::new(60_999 << 16 | 32_768),
            unprivileged: AtomicI32::new(1024),
            nonlocal: AtomicBool::new(false),
            ttl: AtomicI32::new(64),
            v6only: AtomicBool::new(false),
            datagrams: [const { AtomicU64::new(0) }; 3],
            messages: Mutex::new(Level::Leaf, BTreeMap::new()),
            connections: [const { AtomicU64::new(0) }; 3],
        }
    }
}

impl InetState {
    /// Somebody looks at packets of others from now on, or no longer.
    pub fn watch(&self, on: bool) {
        self.raw.watch(on);
    }
}

impl NetNamespace {
    /// Whether an address is one of the namespace's own.
    pub fn is_local(&self, ip: Ip) -> bool {
        ip.is_loopback() && self.has_loopback() || self.links().is_local(ip)
    }

    /// Whether a socket may be bound to an address that is no wildcard and no group.
    pub fn may_bind(&self, ip: Ip) -> bool {
        ip.is_loopback() && self.has_loopback() || self.links().may_bind(ip)
    }

    /// The source address of what leaves by an interface on its way to `to`, where it is lost.
    ///
    /// # Errors
    /// `ENETUNREACH`, and what rules and routes say.
    pub fn way_out(&self, core: &Core, to: Ip) -> Result<Ip> {
        let links = self.links();
        let (mark, device) = (core.mark.load(Relaxed), core.device.load(Relaxed));
        match links.lookup(&Query { mark, device, ..Query::to(to) })? {
            Via::Out(route) if route.kind == RouteKind::Unicast => {
                links.source_along(&route, to).ok_or(Errno::ENETUNREACH)
            }
            Via::Here(_) => Ok(self.source_for(to)),
            Via::Out(_) => Err(Errno::ENETUNREACH),
        }
    }

    /// Counts a packet that leaves by an interface, and so is lost; whether it is one.
    pub fn loses(&self, to: Ip, bytes: usize) -> bool {
        // What is for the network itself goes by the loopback interface.
        if to.is_multicast() || to.is_broadcast() || self.loopback_is_up() && (to.is_loopback() || self.is_local(to)) {
            return false;
        }
        let mut links = self.links();
        if let Ok(Via::Out(route)) = links.lookup(&Query::to(to))
            && let Ok(link) = links.link_mut(route.device)
        {
            link.sent[0] += 1;
            link.sent[1] += bytes as u64;
        }
        true
    }

    /// The source address towards a local address.
    pub fn source_for(&self, to: Ip) -> Ip {
        if to.is_loopback() { to.loopback_like() } else { to }
    }

    /// The ports that may be chosen for a socket, low and high.
    pub fn port_range(&self) -> (u16, u16) {
        let range = self.inet.range.load(Relaxed);
        (range as u16, (range >> 16) as u16)
    }

    /// Sets [`NetNamespace::port_range`].
    ///
    /// # Errors
    /// `EINVAL` for no port, or low above high.
    pub fn set_port_range(&self, low: u16, high: u16) -> Result {
        if low == 0 || low > high {
            return Err(Errno::EINVAL);
        }
        self.inet.range.store(u32::from(high) << 16 | u32::from(low), Relaxed);
        Ok(())
    }

    /// Enters a new claim to the port that it wants, or to any where that is 0.
    ///
    /// # Errors
    /// `EADDRINUSE`, `ENOMEM`.
    pub fn bind_port<S>(&self, table: &Mutex<Ports<S>>, claim: Arc<Claim<S>>) -> Result<Arc<Claim<S>>> {
        let now = time::host_monotonic();
        if claim.port == 0 {
            return table.lock().bind_any(self.port_range(), now, claim);
        }
        table.lock().bind(claim.clone(), now)?;
        Ok(claim)
    }
}

impl<S> Claim<S> {
    /// The claim of a socket with this state to an address.
    pub fn new(core: &Core, local: Addr, v6only: bool, shared: bool, owner: S) -> Arc<Claim<S>> {
        Arc::new(Claim {
            ip: local.ip,
            port: local.port,
            v6only,
            uid: core.uid,
            reuse: AtomicBool::new(core.has(flag::REUSEADDR)),
            reuse_port: AtomicBool::new(core.has(flag::REUSEPORT)),
            device: AtomicU32::new(core.device.load(Relaxed)),
            listening: AtomicBool::new(false),
            shared,
            owner,
        })
    }

    /// Takes the socket's options over as they are now.
    pub fn refresh(&self, core: &Core) {
        self.reuse.store(core.has(flag::REUSEADDR), Relaxed);
        self.reuse_port.store(core.has(flag::REUSEPORT), Relaxed);
        self.device.store(core.device.load(Relaxed), Relaxed);
    }
}
