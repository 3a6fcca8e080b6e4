//! A local socket: its state, what it is ready for, its end.

use super::flight;
use super::names::Name;
use super::packet::Packet;
use crate::abi::{Errno, Result};
use crate::net::socket::{Core, Ucred};
use crate::sync::{Events, Level, Mutex, WaitQueue};
use crate::vfs::{OpCtx, Path};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

/// Packets that wait at a datagram socket before senders that are not its peer have to wait, one more than
/// `/proc/sys/net/unix/max_dgram_qlen`.
const MAX_PACKETS: usize = 10;
/// Room for packets that an empty queue keeps.
const KEPT: usize = 16;

/// `SOCK_STREAM` and its siblings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    Stream,
    Datagram,
    SeqPacket,
}

/// Where a socket is in its life (`sk_state`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    Unconnected,
    /// A `connect` is under way.
    Connecting,
    Connected,
    Listening,
}

/// Who made the other end, or listened there (`SO_PEERCRED`).
pub(super) struct PeerCred {
    pub ucred: Ucred,
    /// `SO_PEERGROUPS`.
    pub groups: Vec<u32>,
}

impl PeerCred {
    /// Those of the caller.
    pub fn of(ctx: &OpCtx<'_>) -> Arc<PeerCred> {
        let cred = ctx.cred;
        let ucred = Ucred { pid: ctx.tgid, uid: cred.euid, gid: cred.egid };
        Arc::new(PeerCred { ucred, groups: cred.groups.clone() })
    }
}

/// What the lock of a socket guards.
pub(super) struct Inner {
    pub status: Status,
    /// The last open description is gone.
    pub dead: bool,
    /// Nothing more comes; nothing more can be sent.
    pub shut_read: bool,
    pub shut_write: bool,
    /// It is or was in somebody's hands: a connection is not before it was accepted.
    pub accepted: bool,
    pub peer: Option<Arc<Sock>>,
    pub packets: VecDeque<Packet>,
    /// Bytes in the queue.
    pub unread: usize,
    pub next_seq: u64,
    /// The packet with the out-of-band byte that was not taken yet.
    pub oob: Option<u64>,
    /// Packets that carry files.
    pub carrying: usize,
    /// Connections that nobody has accepted yet.
    pub incoming: VecDeque<Arc<Sock>>,
    /// One fewer than connections that may wait.
    pub backlog: usize,
    pub name: Option<Name>,
    /// The name is abstract and this socket's own.
    pub owns_name: bool,
    /// Where it is bound in the file system.
    pub place: Option<Path>,
    pub peer_cred: Option<Arc<PeerCred>>,
    /// Sockets that wait for room here, to send or to connect.
    pub waiting: Waiting,
}

/// Sockets that wait, by address.
pub(super) type Waiting = BTreeMap<usize, Weak<Sock>>;

/// See the module.
pub struct Sock {
    /// Its kind.
    pub kind: Kind,
    /// What it shares with sockets of other families.
    pub core: Core,
    pub(super) me: Weak<Sock>,
    pub(super) inner: Mutex<Inner>,
    /// Held by who takes from a stream, so that readers do not interleave.
    pub(super) reader: Mutex<()>,
    pub(super) queue: WaitQueue,
    /// What it is charged for packets that it sent and nobody has taken yet, bytes.
    charged: AtomicUsize,
    /// `SO_PASSCRED` and others of [`pass`].
    pub(super) passes: AtomicU32,
}

/// What else is passed to a receiver: bits of [`Sock::passes`].
pub(super) mod pass {
    /// `SO_PASSCRED`.
    pub const CRED: u32 = 1;
    /// `SO_PASSSEC`.
    pub const SEC: u32 = 2;
    /// `SO_PASSPIDFD`.
    pub const PIDFD: u32 = 4;
    /// `SO_PASSRIGHTS`.
    pub const RIGHTS: u32 = 8;
    /// `SO_INQ`.
    pub const INQ: u32 = 16;
}

impl Sock {
    /// An unconnected socket; it is in its namespace's table as long as it lives.
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub(super) fn new(kind: Kind, core: Core) -> Result<Arc<Sock>> {
        crate::arena::charge(crate::arena::Object::Packet)?;
        let inner = Inner {
            status: Status::Unconnected,
            dead: false,
            shut_read: false,
            shut_write: false,
            accepted: true,
            peer: None,
            packets: VecDeque::new(),
            unread: 0,
            next_seq: 1,
            oob: None,
            carrying: 0,
            incoming: VecDeque::new(),
            backlog: 0,
            name: None,
            owns_name: false,
            place: None,
            peer_cred: None,
            waiting: BTreeMap::new(),
        };
        let sock = Arc::new_cyclic(|me| Sock {
            kind,
            core,
            me: me.clone(),
            inner: Mutex::new(Level::FileData, inner),
            reader: Mutex::new(Level::FileData, ()),
            queue: WaitQueue::new(),
            charged: AtomicUsize::new(0),
            passes: AtomicU32::new(pass::RIGHTS),
        });
        sock.core.ns.unix.enter(&sock)?;
        Ok(sock)
    }

    /// A reference to itself: it lives while one of its methods runs.
    pub(super) fn this(&self) -> Result<Arc<Sock>> {
        self.me.upgrade().ok_or(Errno::ENOTCONN)
    }

    /// What it was sent into others' queues, bytes (`SIOCOUTQ`).
    pub(super) fn charged(&self) -> usize {
        self.charged.load(SeqCst)
    }

    /// Charges it `n` bytes.
    pub(super) fn take_room(&self, n: usize) {
        self.charged.fetch_add(n, SeqCst);
    }

    /// `n` bytes that it was charged are gone.
    pub(super) fn give_back(&self, n: usize) {
        let left = self.charged.fetch_sub(n, SeqCst) - n;
        if writable(left, self.core.send_room()) {
            self.queue.wake(ROOM);
        }
    }

    /// Whether what comes next is charged still.
    pub(super) fn has_room(&self) -> bool {
        self.charged() < self.core.send_room()
    }

    pub(super) fn passing(&self, what: u32) -> bool {
        self.passes.load(Relaxed) & what != 0
    }

    /// Whether receivers here are told who sent something.
    pub(super) fn wants_senders(&self) -> bool {
        self.passing(pass::CRED | pass::PIDFD)
    }

    /// Its name, if it has one.
    pub(super) fn name(&self) -> Option<Name> {
        self.inner.lock().name.clone()
    }

    /// Whether a packet of this socket would have to wait at `other`; then `other` will wake it.
    pub(super) fn must_wait_at(&self, other: &Sock) -> bool {
        if core::ptr::eq(self, other) {
            return false;
        }
        let mut inner = other.inner.lock();
        !inner.peer_is(self) && inner.packets.len() > MAX_PACKETS && !inner.dead && {
            self.wait_at(&mut inner);
            true
        }
    }

    /// Enters this socket where the one whose state is `inner` wakes those that wait for room.
    pub(super) fn wait_at(&self, inner: &mut Inner) {
        inner.waiting.insert(self.me.as_ptr() as usize, self.me.clone());
    }

    /// `shutdown(2)`.
    pub(super) fn shut(&self, read: bool, write: bool) {
        let peer = {
            let mut inner = self.inner.lock();
            inner.shut_read |= read;
            inner.shut_write |= write;
            inner.peer.clone()
        };
        self.queue.wake_all();
        let Some(peer) = peer.filter(|_| self.kind != Kind::Datagram) else { return };
        {
            let mut inner = peer.inner.lock();
            inner.shut_read |= write;
            inner.shut_write |= read;
        }
        peer.queue.wake_all();
    }

    /// The last open description is gone, or (`unborn`) the listener of a connection that nobody accepted.
    pub(super) fn release(&self, unborn: bool) {
        self.core.ns.unix.leave(self);
        let (peer, packets, incoming, waiting, place, name) = {
            let mut inner = self.inner.lock();
            inner.dead = true;
            (inner.shut_read, inner.shut_write) = (true, true);
            inner.status = Status::Unconnected;
            inner.unread = 0;
            inner.carrying = 0;
            let name = inner.name.clone().filter(|_| inner.owns_name);
            (
                inner.peer.take(),
                core::mem::take(&mut inner.packets),
                core::mem::take(&mut inner.incoming),
                core::mem::take(&mut inner.waiting),
                inner.place.take(),
                name,
            )
        };
        if let Some(name) = name {
            self.core.ns.unix.forget(&name, self);
        }
        wake_waiting(waiting);
        if let Some(peer) = peer.filter(|_| self.kind != Kind::Datagram) {
            {
                let mut inner = peer.inner.lock();
                (inner.shut_read, inner.shut_write) = (true, true);
            }
            if unborn || !packets.is_empty() {
                peer.core.set_error(Errno::ECONNRESET);
            }
            peer.queue.wake_all();
        }
        for sock in incoming {
            sock.release(true);
        }
        drop((packets, place));
        self.queue.wake_all();
        flight::collect();
    }

    /// What it is ready for (`unix_poll`, `unix_dgram_poll`).
    pub(super) fn ready(&self) -> Events {
        let mut events = Events::empty();
        let inner = self.inner.lock();
        if self.core.has_error() {
            events |= Events::ERR;
        }
        if inner.shut_read {
            events |= Events::RDHUP | Events::IN | Events::RDNORM;
        }
        if inner.shut_read && inner.shut_write {
            events |= Events::HUP;
        }
        if !inner.packets.is_empty() || !inner.incoming.is_empty() {
            events |= Events::IN | Events::RDNORM;
        }
        if inner.oob.is_some() {
            events |= Events::PRI;
        }
        let unconnected = matches!(inner.status, Status::Unconnected | Status::Connecting);
        if self.kind != Kind::Datagram && unconnected {
            events |= Events::HUP;
        }
        if inner.status == Status::Listening || !writable(self.charged(), self.core.send_room()) {
            return events;
        }
        let peer = if self.kind == Kind::Stream { None } else { inner.peer.clone() };
        drop(inner);
        if peer.is_none_or(|peer| !self.must_wait_at(&peer)) {
            events |= ROOM;
        }
        events
    }

    /// Bytes to be read (`SIOCINQ`): all of them, for datagrams those of the first one.
    ///
    /// # Errors
    /// `EINVAL` where it listens.
    pub(super) fn unread(&self) -> Result<usize> {
        let inner = self.inner.lock();
        match (inner.status, self.kind) {
            (Status::Listening, _) => Err(Errno::EINVAL),
            (_, Kind::Datagram) => Ok(inner.packets.front().map_or(0, Packet::left)),
            _ => Ok(inner.unread),
        }
    }
}

/// Room was made.
pub(super) const ROOM: Events = Events::OUT.union(Events::WRNORM).union(Events::WRBAND);
/// Data came.
pub(super) const DATA: Events = Events::IN.union(Events::PRI).union(Events::RDNORM).union(Events::RDBAND);

/// Whether a socket that is charged `n` of `room` bytes counts as writable: senders that had to wait go on
/// once most of it is gone.
fn writable(n: usize, room: usize) -> bool {
    n * 4 <= room
}

/// Wakes those that wait for room at another socket.
pub(super) fn wake_waiting(waiting: Waiting) {
    for sock in waiting.values().filter_map(Weak::upgrade) {
        sock.queue.wake(ROOM);
    }
}

impl Inner {
    pub fn peer_is(&self, other: &Sock) -> bool {
        self.peer.as_ref().is_some_and(|p| core::ptr::eq(&**p, other))
    }

    /// Whether packets of `sender` are taken at all (`unix_may_send`).
    pub fn admits(&self, sender: &Sock) -> bool {
        self.peer.is_none() || self.peer_is(sender)
    }

    /// Makes room for one more packet.
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub fn reserve(&mut self) -> Result {
        self.packets.try_reserve(1).map_err(|_| Errno::ENOBUFS)
    }

    /// Puts a packet at the queue's end, where [`Inner::reserve`] made room; returns its number.
    pub fn push(&mut self, mut packet: Packet) -> u64 {
        let seq = self.next_seq;
        packet.seq = seq;
        self.next_seq += 1;
        self.unread += packet.left();
        self.carrying += usize::from(packet.files.is_some());
        self.packets.push_back(packet);
        seq
    }

    /// Takes a packet out of the queue.
    pub fn remove(&mut self, at: usize) -> Option<Packet> {
        let packet = if at == 0 { self.packets.pop_front() } else { self.packets.remove(at) }?;
        self.unread -= packet.left();
        self.carrying -= usize::from(packet.files.is_some());
        if self.packets.is_empty() && self.packets.capacity() > KEPT {
            self.packets = VecDeque::new();
        }
        Some(packet)
    }

    /// Puts a packet back that was taken from the queue's front.
    pub fn put_back(&mut self, packet: Packet) {
        self.unread += packet.left();
        self.carrying += usize::from(packet.files.is_some());
        self.packets.push_front(packet);
    }
}
