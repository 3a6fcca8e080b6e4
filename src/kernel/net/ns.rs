//! A network namespace (`network_namespaces(7)`): interfaces, ports, names and settings that its
//! sockets share.

use super::inet::InetState;
use super::inet::addr::Ip;
use super::links::{self, LOOPBACK, Links};
use super::socket::SocketOps;
use crate::abi::Result;
use crate::abi::control::NetMode;
use crate::cred::count::Charge;
use crate::cred::{Cred, Kind, UserNamespace, ns as cred_ns};
use crate::sync::{Level, MendHashMap, Mutex, MutexGuard};
use crate::task;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

/// See the module.
pub struct NetNamespace {
    /// Its number, as `/proc/PID/ns/net` shows it.
    ino: u32,
    /// Capabilities over it count here.
    user_ns: Arc<UserNamespace>,
    _charge: Option<Charge>,
    /// Whether it is the host's.
    host: bool,
    links: Mutex<Links>,
    /// Whether the loopback interface is up, and whether it has its own addresses as well.
    loopback: [AtomicBool; 2],
    /// Bytes of the largest packet of the loopback interface.
    mtu: AtomicU32,
    /// Packets and bytes that went by the loopback interface, but for those of connections that are open.
    passed: [AtomicU64; 2],
    /// What the next socket's cookie is (`SO_COOKIE`).
    next_cookie: AtomicU64,
    /// Its local sockets.
    pub unix: super::unix::LocalSockets,
    /// `/proc/sys/net/core/somaxconn`.
    pub somaxconn: AtomicI32,
    /// Ports and settings of the internet protocols.
    pub inet: InetState,
    /// Sockets of the link layer.
    pub packets: super::packet::Table,
    /// Members of rtnetlink's groups.
    pub rtnetlink_members: AtomicU32,
    /// Ports of netlink sockets, each with its protocol.
    pub netlink_ports: Mutex<MendHashMap<(u32, u32), ()>>,
    /// Every socket, by its cookie.
    sockets: Mutex<MendHashMap<u64, Weak<dyn SocketOps>>>,
}

/// A user id as the running task sees it.
pub fn seen_uid(uid: u32) -> u32 {
    task::ns::running_user().map_or(uid, |ns| ns.seen(Kind::User, uid))
}

/// The namespace of the first process.
static ROOT: Mutex<Option<Arc<NetNamespace>>> = Mutex::new(Level::Leaf, None);

impl NetNamespace {
    /// The first one of a sandbox.
    pub fn new(mode: NetMode) -> Arc<NetNamespace> {
        NetNamespace::numbered(mode, cred_ns::ino::NET, UserNamespace::initial(), None)
    }

    fn numbered(mode: NetMode, ino: u32, user_ns: &Arc<UserNamespace>, charge: Option<Charge>) -> Arc<NetNamespace> {
        Arc::new(NetNamespace {
            ino,
            user_ns: user_ns.clone(),
            _charge: charge,
            host: mode == NetMode::Host,
            links: Mutex::new(Level::Leaf, Links::new(mode != NetMode::None)),
            loopback: [const { AtomicBool::new(false) }; 2].map(|_| AtomicBool::new(mode != NetMode::None)),
            mtu: AtomicU32::new(links::LOOPBACK_MTU),
            passed: [const { AtomicU64::new(0) }; 2],
            next_cookie: AtomicU64::new(1),
            unix: super::unix::LocalSockets::default(),
            somaxconn: AtomicI32::new(4096),
            inet: InetState::default(),
            packets: super::packet::Table::default(),
            rtnetlink_members: AtomicU32::new(0),
            netlink_ports: Mutex::mended(Level::Leaf, MendHashMap::default()),
            sockets: Mutex::mended(Level::Leaf, MendHashMap::default()),
        })
    }

    /// Whether capability number `n` counts for what is in it.
    pub fn may(&self, cred: &Cred, n: u32) -> bool {
        cred.capable_in(&self.user_ns, n)
    }

    /// Whether its internet sockets are the host's.
    pub fn is_host(&self) -> bool {
        self.host
    }

    /// Whether there is a way out of it.
    pub fn has_way_out(&self) -> bool {
        self.ino == cred_ns::ino::NET && super::outward::is_open()
    }

    /// Whether the loopback interface is up.
    pub fn loopback_is_up(&self) -> bool {
        self.loopback[0].load(Relaxed)
    }

    /// Bytes of the largest packet that goes by it.
    pub fn loopback_mtu(&self) -> u32 {
        self.mtu.load(Relaxed)
    }

    /// Whether it is up and all of 127.0.0.0/8 and `::1` is here.
    pub fn has_loopback(&self) -> bool {
        self.loopback[1].load(Relaxed)
    }

    /// Looks at interfaces, addresses and routes.
    pub fn links(&self) -> MutexGuard<'_, Links> {
        let mut links = self.links.lock();
        links.end_addresses();
        links
    }

    /// Changes them.
    pub fn change_links<T>(&self, change: impl FnOnce(&mut Links) -> T) -> T {
        let mut links = self.links();
        let out = change(&mut links);
        let up = links.link(LOOPBACK).is_ok_and(|l| l.is_up());
        self.mtu.store(links.link(LOOPBACK).map_or(0, |l| l.mtu), Relaxed);
        let whole = [Ip::LOOPBACK4, Ip::v4(0x7fff_0000), Ip::LOOPBACK6].into_iter().all(|ip| links.is_local(ip));
        self.loopback[0].store(up, Relaxed);
        self.loopback[1].store(up && whole, Relaxed);
        out
    }

    /// Counts packets that go by the loopback interface, bytes with their headers.
    pub fn count_passed(&self, packets: u64, bytes: u64) {
        self.passed[0].fetch_add(packets, Relaxed);
        self.passed[1].fetch_add(bytes, Relaxed);
    }

    /// Packets and bytes that went by the loopback interface.
    pub fn passed(&self) -> (u64, u64) {
        let own = (self.passed[0].load(Relaxed), self.passed[1].load(Relaxed));
        self.sockets().iter().map(|s| s.carried()).fold(own, |sum, n| (sum.0 + n.0, sum.1 + n.1))
    }

    /// Brings the counts of the loopback interface up to date, for who reads them. What connections have carried is taken
    /// from their streams, which count it anyway.
    pub fn refresh_counts(&self) {
        let (packets, bytes) = self.passed();
        let sum = [packets, bytes];
        if let Ok(link) = self.links.lock().link_mut(LOOPBACK) {
            link.sent = sum;
        }
    }

    /// Longest backlog of connections that wait to be accepted.
    pub fn somaxconn(&self) -> i32 {
        self.somaxconn.load(Relaxed)
    }

    /// Enters a socket into the table of all.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn enlist(&self, cookie: u64, socket: Weak<dyn SocketOps>) -> Result {
        let mut sockets = self.sockets.lock();
        sockets.try_reserve()?;
        sockets.insert(cookie, socket);
        Ok(())
    }

    /// Takes a socket out of the table of all.
    pub fn delist(&self, cookie: u64) {
        self.sockets.lock().remove(&cookie);
    }

    /// Every socket, the oldest first.
    pub fn sockets(&self) -> Vec<Arc<dyn SocketOps>> {
        let mut all: Vec<_> = self.sockets.lock().values().filter_map(Weak::upgrade).collect();
        all.sort_by_key(|s| s.core().cookie);
        all
    }

    /// A number that no other socket of the namespace has.
    pub fn new_cookie(&self) -> u64 {
        self.next_cookie.fetch_add(1, Relaxed)
    }
}

impl task::ns::NetNamespace for NetNamespace {
    fn ino(&self) -> u32 {
        self.ino
    }
    fn user_ns(&self) -> &Arc<UserNamespace> {
        &self.user_ns
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Makes the first process's namespace, before there is one. Those that are made later start with the loopback
/// interface down.
pub fn init(mode: NetMode) {
    *ROOT.lock() = Some(NetNamespace::new(mode));
    task::ns::set_make_net(|user_ns, charge| {
        NetNamespace::numbered(NetMode::None, cred_ns::new_ino(), user_ns, Some(charge))
    });
}

/// The namespace of the first process.
pub fn first() -> Arc<NetNamespace> {
    ROOT.lock().get_or_insert_with(|| NetNamespace::new(NetMode::Loopback)).clone()
}

/// The namespace of the running task.
pub fn current() -> Arc<NetNamespace> {
    if let Some(Ok(own)) = task::ns::running_net().map(|n| n.into_any().downcast::<NetNamespace>()) {
        return own;
    }
    first()
}
