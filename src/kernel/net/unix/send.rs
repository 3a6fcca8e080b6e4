//! Sending.

use super::flight::{self, InFlight};
use super::packet::{Packet, packet_charge, stream_share};
use super::sock::{DATA, Inner, Kind, Sock, Status, pass, wake_waiting};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::IoSrc;
use crate::net::socket::filter::View;
use crate::net::socket::{MsgFlags, SendMsg, SockCtx, Ucred, flag};
use crate::sync::Events;
use crate::time;
use alloc::sync::Arc;

impl Sock {
    /// Sends; see `SocketOps::send`.
    ///
    /// # Errors
    /// `EAGAIN` and others of `unix(7)`.
    pub(super) fn send_message(&self, ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
        if !msg.files.is_empty() {
            flight::collect();
        }
        match self.kind {
            Kind::Stream => Ok(self.send_stream(ctx, src, msg)?),
            _ => Ok(self.send_packet(ctx, src, msg)?),
        }
    }

    /// Sends the message's files off, if it has any.
    fn depart(&self, ctx: &SockCtx<'_>, msg: &mut SendMsg) -> Result<Option<InFlight>> {
        if msg.files.is_empty() {
            return Ok(None);
        }
        InFlight::new(core::mem::take(&mut msg.files), &ctx.op, msg.files_limit).map(Some)
    }

    /// Who is said to have sent something to the socket with this state, if anybody wants to know.
    fn sender(&self, ctx: &SockCtx<'_>, stated: Option<Ucred>, other: &Sock) -> Option<Ucred> {
        let wanted = stated.is_none() && (self.wants_senders() || other.wants_senders());
        let own = || Ucred { pid: ctx.op.tgid, uid: ctx.op.cred.uid, gid: ctx.op.cred.gid };
        stated.or_else(|| wanted.then(own))
    }

    /// Whether the socket with this state takes anything.
    fn open_to(inner: &Inner) -> bool {
        !inner.dead && !inner.shut_read
    }

    /// Sends as much of a stream's data as there is room for (`unix_stream_sendmsg`).
    fn send_stream(&self, ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> Result<usize> {
        let peer = {
            let inner = self.inner.lock();
            let out_of_band = msg.flags.contains(MsgFlags::OOB);
            match &inner.peer {
                _ if out_of_band && src.left() == 0 => return Err(Errno::EOPNOTSUPP),
                _ if msg.to.is_some() => {
                    return Err(if inner.status == Status::Connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
                }
                None => return Err(Errno::ENOTCONN),
                Some(_) if inner.shut_write => return Err(Errno::EPIPE),
                Some(peer) => peer.clone(),
            }
        };
        let urgent = usize::from(msg.flags.contains(MsgFlags::OOB));
        let mut sent = 0;
        while src.left() > urgent {
            match self.send_piece(ctx, &peer, src, msg, (src.left() - urgent, false)) {
                Ok(n) => sent += n,
                Err(_) if sent > 0 => return Ok(sent),
                Err(e) => return Err(e),
            }
        }
        if urgent > 0 {
            match self.send_piece(ctx, &peer, src, msg, (1, true)) {
                Ok(n) => sent += n,
                Err(_) if sent > 0 => return Ok(sent),
                Err(e) => return Err(e),
            }
        }
        Ok(sent)
    }

    fn send_piece(
        &self,
        ctx: &SockCtx<'_>,
        peer: &Arc<Sock>,
        src: &mut IoSrc<'_>,
        msg: &mut SendMsg,
        (len, out_of_band): (usize, bool),
    ) -> Result<usize> {
        self.core.check_error()?;
        let (n, charge) = stream_share(len, self.charged(), self.core.send_room());
        if n == 0 {
            if self.inner.lock().shut_write {
                return Err(Errno::EPIPE);
            }
            return Err(Errno::EAGAIN);
        }
        let mut packet = Packet::take(self.this()?, src, n, charge)?;
        if !peer.passing(pass::RIGHTS) && !msg.files.is_empty() {
            return Err(Errno::EPERM);
        }
        packet.files = self.depart(ctx, msg)?;
        packet.who = self.sender(ctx, msg.cred, peer);
        let mut inner = peer.inner.lock();
        // A packet that is not taken is dropped after the lock is free: it was declared before.
        if !Self::open_to(&inner) {
            return Err(Errno::EPIPE);
        }
        inner.reserve()?;
        let seq = inner.push(packet);
        if out_of_band {
            inner.oob = Some(seq);
        }
        drop(inner);
        peer.queue.wake(if out_of_band { DATA | Events::URGENT } else { DATA });
        Ok(n)
    }

    /// Sends a datagram or sequenced packet (`unix_dgram_sendmsg`).
    fn send_packet(&self, ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> Result<usize> {
        let (peer, status, shut) = {
            let inner = self.inner.lock();
            (inner.peer.clone(), inner.status, inner.shut_write)
        };
        let mut to = msg.to.as_ref();
        if self.kind == Kind::SeqPacket {
            self.core.check_error()?;
            if status != Status::Connected {
                return Err(Errno::ENOTCONN);
            }
            // A connected socket's destination is no other.
            to = None;
        }
        if msg.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if to.is_some_and(|to| to.len() <= 2 || to.len() > 110 || to.family() != 1) {
            return Err(Errno::EINVAL);
        }
        if self.wants_senders() {
            self.autobind()?;
        }
        let len = src.left();
        if len + 32 > self.core.send_room() {
            return Err(Errno::EMSGSIZE);
        }
        self.core.check_error()?;
        if shut {
            return Err(Errno::EPIPE);
        }
        if !self.has_room() {
            return Err(Errno::EAGAIN);
        }
        let other = match (to, peer) {
            (Some(to), _) => self.find(ctx, to)?,
            (None, Some(peer)) => peer,
            (None, None) => return Err(Errno::ENOTCONN),
        };
        self.may_send_to(&other, to.is_some())?;
        if self.must_wait_at(&other) {
            return Err(Errno::EAGAIN);
        }
        if !other.passing(pass::RIGHTS) && !msg.files.is_empty() {
            return Err(Errno::EPERM);
        }
        let mut packet = Packet::take(self.this()?, src, len, packet_charge(len))?;
        packet.files = self.depart(ctx, msg)?;
        packet.who = self.sender(ctx, msg.cred, &other);
        let Some(kept) = other.core.keeps(&View { head: &[], data: packet.rest(), protocol: 0 }) else {
            // The receiver's filter drops it: the sender does not hear of it.
            return Ok(len);
        };
        packet.truncate(kept);
        if other.core.has(flag::TIMESTAMP | flag::TIMESTAMPNS) {
            packet.stamp = time::now();
        }
        let mut inner = other.inner.lock();
        if inner.dead {
            return Err(Errno::ECONNREFUSED);
        }
        if inner.shut_read {
            return Err(Errno::EPIPE);
        }
        inner.reserve()?;
        inner.push(packet);
        drop(inner);
        other.queue.wake(DATA);
        Ok(len)
    }

    /// Whether `other` takes packets of this socket.
    fn may_send_to(&self, other: &Arc<Sock>, named: bool) -> Result {
        let inner = other.inner.lock();
        if !inner.dead {
            return match inner.admits(self) {
                false => Err(Errno::EPERM),
                true if inner.shut_read => Err(Errno::EPIPE),
                true => Ok(()),
            };
        }
        drop(inner);
        if self.kind == Kind::SeqPacket {
            return Err(Errno::EPIPE);
        }
        let (old, waiting) = {
            let mut inner = self.inner.lock();
            if !inner.peer_is(other) {
                return Err(if named { Errno::ECONNREFUSED } else { Errno::ECONNRESET });
            }
            inner.status = Status::Unconnected;
            (inner.peer.take(), core::mem::take(&mut inner.waiting))
        };
        wake_waiting(waiting);
        self.disconnected_from(other);
        drop(old);
        Err(Errno::ECONNREFUSED)
    }
}
