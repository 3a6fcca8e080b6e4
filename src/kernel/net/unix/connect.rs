//! Names and connections: `bind`, `listen`, `connect`, `accept`.

use super::names::Name;
use super::sock::{Inner, Kind, PeerCred, ROOM, Sock, Status, pass, wake_waiting};
use crate::abi::{Errno, Result};
use crate::cred::landlock;
use crate::net::socket::{Core, SockAddr, SockCtx, af};
use crate::sync::Events;
use crate::vfs::names::{self, At};
use crate::vfs::{FileType, Lookup, NewNode, access};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering::Relaxed;

/// Largest `struct sockaddr_un`.
const MAX_ADDRESS: usize = 110;

/// What a socket's node in the file system leads to.
struct Bound(Weak<Sock>);

/// The name in a `struct sockaddr_un` (`unix_validate_addr`).
///
/// # Errors
/// `EINVAL`.
fn name_in(addr: &SockAddr) -> Result<&[u8]> {
    if addr.len() <= 2 || addr.len() > MAX_ADDRESS || addr.family() != af::UNIX {
        return Err(Errno::EINVAL);
    }
    let path = &addr.bytes()[2..];
    if path[0] == 0 { Ok(path) } else { Ok(path.split(|&b| b == 0).next().unwrap_or(path)) }
}

/// A name as a `struct sockaddr_un`.
pub(super) fn address(name: &[u8]) -> SockAddr {
    let mut bytes = [0u8; MAX_ADDRESS + 1];
    bytes[..2].copy_from_slice(&af::UNIX.to_ne_bytes());
    let n = name.len().min(108);
    bytes[2..2 + n].copy_from_slice(&name[..n]);
    let nul = usize::from(name.first().is_some_and(|&b| b != 0));
    SockAddr::new(&bytes[..2 + n + nul])
}

impl Sock {
    /// The socket that owns the name in `addr`.
    ///
    /// # Errors
    /// `EINVAL`, `ECONNREFUSED`, `EPROTOTYPE`; those of path resolution.
    pub(super) fn find(&self, ctx: &SockCtx<'_>, addr: &SockAddr) -> Result<Arc<Sock>> {
        let name = name_in(addr)?;
        if name[0] == 0 {
            let found = self.core.ns.unix.find(name, self.kind)?;
            let connected = self.inner.lock().peer.as_ref().is_some_and(|peer| Arc::ptr_eq(peer, &found));
            let (from, to) = (ctx.op.cred.landlock.as_ref(), found.core.domain.as_ref());
            if !connected && !landlock::may_reach(from, to, landlock::scope::ABSTRACT_UNIX_SOCKET) {
                return Err(Errno::EPERM);
            }
            return Ok(found);
        }
        let place = Lookup::new(ctx.fs.ok_or(Errno::EINVAL)?, &ctx.op, None).path(name, true)?;
        access::check(ctx.op.cred, &**place.inode(), access::WRITE)?;
        if place.inode().file_type() != FileType::Socket {
            return Err(Errno::ECONNREFUSED);
        }
        let attached = place.inode().attached().ok_or(Errno::ECONNREFUSED)?.lock().clone();
        let bound: Option<Arc<Bound>> = attached.and_then(|a| a.downcast().ok());
        let sock = bound.and_then(|b| b.0.upgrade()).ok_or(Errno::ECONNREFUSED)?;
        if sock.inner.lock().dead {
            return Err(Errno::ECONNREFUSED);
        }
        if sock.kind == self.kind { Ok(sock) } else { Err(Errno::EPROTOTYPE) }
    }

    /// Records its name.
    ///
    /// # Errors
    /// `EINVAL` if it has one.
    fn set_name(&self, change: impl FnOnce(&mut Inner)) -> Result {
        let mut inner = self.inner.lock();
        if inner.name.is_some() || inner.dead {
            return Err(Errno::EINVAL);
        }
        change(&mut inner);
        Ok(())
    }

    /// `bind(2)`.
    ///
    /// # Errors
    /// `EINVAL`, `EADDRINUSE`; those of `mknod(2)`.
    pub(super) fn bind_to(&self, ctx: &SockCtx<'_>, addr: &SockAddr) -> Result {
        if addr.len() == 2 && addr.family() == af::UNIX {
            return self.autobind();
        }
        let name = name_in(addr)?;
        if name[0] == 0 {
            return self.bind_abstract(Arc::from(name));
        }
        let fs = ctx.fs.ok_or(Errno::EINVAL)?;
        let at = At { base: None, path: name };
        let node = NewNode::Node(FileType::Socket, 0);
        let place = names::make(fs, &ctx.op, at.clone(), node, 0o777).map_err(|e| match e {
            Errno::EEXIST => Errno::EADDRINUSE,
            e => e,
        })?;
        let bound = match place.inode().attached() {
            Some(attached) => self.set_name(|inner| {
                (inner.name, inner.place) = (Some(Arc::from(name)), Some(place.clone()));
                *attached.lock() = Some(Arc::new(Bound(self.me.clone())));
            }),
            None => Err(Errno::EOPNOTSUPP),
        };
        if bound.is_err() {
            let _ = names::remove(fs, &ctx.op, at, false);
        }
        bound
    }

    fn bind_abstract(&self, name: Name) -> Result {
        if self.name().is_some() {
            return Err(Errno::EINVAL);
        }
        self.core.ns.unix.claim(&name, self)?;
        let kept = name.clone();
        self.set_name(|inner| (inner.name, inner.owns_name) = (Some(kept), true))
            .inspect_err(|_| self.core.ns.unix.forget(&name, self))
    }

    /// Gives it an abstract name of five hexadecimal digits that nobody has, unless it has a name.
    ///
    /// # Errors
    /// `ENOSPC` when none is free.
    pub(super) fn autobind(&self) -> Result {
        let first = crate::host::random::next_u64() as u32;
        for i in 0..=0xf_ffffu32 {
            if self.name().is_some() {
                return Ok(());
            }
            let name = alloc::format!("\0{:05x}", first.wrapping_add(i) & 0xf_ffff);
            match self.bind_abstract(Arc::from(name.as_bytes())) {
                Err(Errno::EADDRINUSE) => {}
                Err(Errno::EINVAL) => return Ok(()),
                other => return other,
            }
        }
        Err(Errno::ENOSPC)
    }

    /// `listen(2)`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for datagrams, `EINVAL` without a name or when connected.
    pub(super) fn listen_for(&self, ctx: &SockCtx<'_>, backlog: i32) -> Result {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let backlog = usize::try_from(backlog).unwrap_or(0);
        let cred = PeerCred::of(&ctx.op);
        let (waiting, _old) = {
            let mut inner = self.inner.lock();
            if inner.name.is_none() || !matches!(inner.status, Status::Unconnected | Status::Listening) {
                return Err(Errno::EINVAL);
            }
            let grown = backlog > inner.backlog && inner.status == Status::Listening;
            inner.backlog = backlog;
            inner.status = Status::Listening;
            let old = inner.peer_cred.replace(cred);
            (if grown { core::mem::take(&mut inner.waiting) } else { Default::default() }, old)
        };
        wake_waiting(waiting);
        Ok(())
    }

    /// `connect(2)`.
    ///
    /// # Errors
    /// `EAGAIN` when too many wait at the listener: it wakes this socket when there is room.
    pub(super) fn connect_to(&self, ctx: &SockCtx<'_>, addr: &SockAddr) -> Result {
        if self.kind == Kind::Datagram { self.connect_packets(ctx, addr) } else { self.connect_stream(ctx, addr) }
    }

    fn connect_packets(&self, ctx: &SockCtx<'_>, addr: &SockAddr) -> Result {
        if addr.len() < 2 {
            return Err(Errno::EINVAL);
        }
        let other = if addr.family() == af::UNSPEC {
            None
        } else {
            name_in(addr)?;
            if self.wants_senders() {
                self.autobind()?;
            }
            let other = self.find(ctx, addr)?;
            let mut inner = other.inner.lock();
            if inner.dead {
                return Err(Errno::ECONNREFUSED);
            }
            if !inner.admits(self) {
                return Err(Errno::EPERM);
            }
            inner.status = Status::Connected;
            drop(inner);
            Some(other)
        };
        let old = {
            let mut inner = self.inner.lock();
            inner.status = if other.is_some() { Status::Connected } else { Status::Unconnected };
            core::mem::replace(&mut inner.peer, other.clone())
        };
        let Some(old) = old else { return Ok(()) };
        self.queue.wake(ROOM);
        if other.is_none_or(|other| !Arc::ptr_eq(&other, &old)) {
            self.disconnected_from(&old);
        }
        Ok(())
    }

    /// Its peer is not `old` any more: what is in the queue is lost, and `old` is told if it goes on sending here
    /// (`unix_dgram_disconnected`).
    pub(super) fn disconnected_from(&self, old: &Sock) {
        let (lost, waiting) = {
            let mut inner = self.inner.lock();
            (inner.unread, inner.carrying) = (0, 0);
            (core::mem::take(&mut inner.packets), core::mem::take(&mut inner.waiting))
        };
        wake_waiting(waiting);
        if lost.is_empty() {
            return;
        }
        drop(lost);
        let tell = {
            let inner = old.inner.lock();
            !inner.dead && inner.peer_is(self)
        };
        if tell {
            old.core.set_error(Errno::ECONNRESET);
            old.queue.wake(Events::ERR | Events::IN | Events::OUT);
        }
    }

    fn connect_stream(&self, ctx: &SockCtx<'_>, addr: &SockAddr) -> Result {
        name_in(addr)?;
        if self.wants_senders() {
            self.autobind()?;
        }
        let other = self.find(ctx, addr)?;
        self.may_connect_to(&mut other.inner.lock())?;
        {
            let mut inner = self.inner.lock();
            match inner.status {
                Status::Unconnected => inner.status = Status::Connecting,
                Status::Connected => return Err(Errno::EISCONN),
                _ => return Err(Errno::EINVAL),
            }
        }
        let outcome = self.queue_at(ctx, &other);
        let mut inner = self.inner.lock();
        match outcome {
            Ok((peer, cred)) => {
                inner.status = Status::Connected;
                inner.peer = Some(peer);
                inner.peer_cred = cred;
            }
            Err(e) => {
                inner.status = Status::Unconnected;
                return Err(e);
            }
        }
        drop(inner);
        other.queue.wake(super::sock::DATA);
        self.queue.wake_all();
        Ok(())
    }

    /// Whether a socket with this state takes one more connection; if it will later, it wakes this one.
    fn may_connect_to(&self, other: &mut Inner) -> Result {
        if other.status != Status::Listening || other.shut_read {
            return Err(Errno::ECONNREFUSED);
        }
        if other.incoming.len() > other.backlog {
            self.wait_at(other);
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    /// Queues a new connection at a listener: the accepting end, and the listener's credentials.
    fn queue_at(&self, ctx: &SockCtx<'_>, other: &Arc<Sock>) -> Result<(Arc<Sock>, Option<Arc<PeerCred>>)> {
        let end = Sock::new(self.kind, Core::new(self.core.family, self.core.kind, 0, ctx, &other.core.ns))?;
        end.passes.store(other.passes.load(Relaxed) & !pass::INQ, Relaxed);
        {
            let mut inner = end.inner.lock();
            (inner.status, inner.accepted) = (Status::Connected, false);
            inner.peer = Some(self.this()?);
            inner.peer_cred = Some(PeerCred::of(&ctx.op));
            inner.name = other.name();
        }
        let mut inner = other.inner.lock();
        let queued = self.may_connect_to(&mut inner).and_then(|()| {
            inner.incoming.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            inner.incoming.push_back(end.clone());
            Ok(inner.peer_cred.clone())
        });
        drop(inner);
        match queued {
            Ok(cred) => Ok((end, cred)),
            Err(e) => {
                // Its peer, this socket, knows nothing of it.
                end.inner.lock().peer = None;
                end.release(false);
                Err(e)
            }
        }
    }

    /// `accept(2)`.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EINVAL` if it does not listen, `EAGAIN`.
    pub(super) fn accept_one(&self) -> Result<Arc<Sock>> {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut inner = self.inner.lock();
        if inner.status != Status::Listening {
            return Err(Errno::EINVAL);
        }
        let sock = inner.incoming.pop_front().ok_or(Errno::EAGAIN)?;
        let waiting = core::mem::take(&mut inner.waiting);
        drop(inner);
        sock.inner.lock().accepted = true;
        wake_waiting(waiting);
        Ok(sock)
    }

    /// Makes two sockets each other's peers, as `socketpair(2)` does.
    pub(super) fn join(a: &Arc<Sock>, b: &Arc<Sock>, ctx: &SockCtx<'_>) {
        let cred = PeerCred::of(&ctx.op);
        for (from, to) in [(a, b), (b, a)] {
            let mut inner = from.inner.lock();
            inner.peer = Some(to.clone());
            inner.status = Status::Connected;
            inner.peer_cred = Some(cred.clone());
        }
    }
}
