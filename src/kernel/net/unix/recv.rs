//! Receiving.

use super::connect::address;
use super::flight::{self, InFlight};
use super::packet::Packet;
use super::sock::{DATA, Inner, Kind, Sock, Status, pass, wake_waiting};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::IoDst;
use crate::net::socket::{MsgFlags, RecvMsg, SOL_SOCKET, Ucred, flag};
use crate::sync::MutexGuard;
use crate::time;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering::Relaxed;

const TIMESTAMP: u32 = 29;
const TIMESTAMPNS: u32 = 35;
const INQ: u32 = 84;
/// The ids of nobody (`overflowuid`).
const NOBODY: Ucred = Ucred { pid: 0, uid: 65534, gid: 65534 };

/// One receive from a stream.
struct Reading {
    peek: bool,
    /// Bytes that it waits for.
    target: usize,
    /// Senders must not be mixed: who the first bytes are from, once there are some.
    sender: Option<Option<Ucred>>,
    /// Whether the receiver takes the sender's address, and whose that is.
    wants_name: bool,
    from: Option<Arc<Sock>>,
    files: Option<InFlight>,
    /// The packet whose files were seen.
    seen: Option<u64>,
    /// Where a peek begins, bytes from the queue's front (`SO_PEEK_OFF`).
    skip: usize,
    /// What follows does not belong to it.
    ended: bool,
}

impl Sock {
    /// Receives; see `SocketOps::receive`.
    ///
    /// # Errors
    /// `EAGAIN` and others of `unix(7)`.
    pub(super) fn receive_message(&self, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        match self.kind {
            Kind::Stream if flags.contains(MsgFlags::OOB) => self.receive_urgent(dst, flags, out),
            Kind::Stream => self.receive_stream(dst, flags, out),
            _ => self.receive_packet(dst, flags, out),
        }
    }

    /// Tells the receiver who sent something, where it wants to know.
    fn tell_sender(&self, out: &mut RecvMsg, sender: Option<Ucred>) {
        let sender = sender.unwrap_or(NOBODY);
        if self.passing(pass::CRED) {
            out.credentials = Some(sender);
        }
        if self.passing(pass::PIDFD) {
            out.pidfd = Some(sender.pid);
        }
    }

    /// The name of whoever sent something; an unnamed socket has none.
    fn tell_name(out: &mut RecvMsg, from: &Sock) {
        out.from = from.name().map(|name| address(&name));
    }

    fn receive_stream(&self, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        let total = dst.done() + dst.left();
        let low =
            if flags.contains(MsgFlags::WAITALL) { usize::MAX } else { self.core.low_water.load(Relaxed) as usize };
        let mut reading = Reading {
            peek: flags.contains(MsgFlags::PEEK),
            target: low.min(total).max(1),
            sender: out.sender,
            wants_name: out.wants_name,
            from: None,
            files: None,
            seen: None,
            skip: self.core.peek_offset.load(Relaxed).max(0) as usize,
            ended: false,
        };
        // As much as comes is touched before the lock; for a page it is not worth asking how much that is.
        let first = if dst.left() <= 4096 { dst.left() } else { self.inner.lock().unread.min(dst.left()) };
        let outcome = dst.under_lock(first, |dst| {
            if reading.peek { self.peek_stream(dst, &mut reading) } else { self.take_stream(dst, &mut reading) }
        });
        out.sender = reading.sender;
        if let Some(from) = &reading.from {
            Self::tell_name(out, from);
        }
        if let Some(files) = reading.files.take() {
            out.files = files.land();
        }
        outcome?;
        if reading.peek {
            self.peeked_more(dst.done());
            self.peek_files(reading.seen, out);
        }
        if !reading.ended && dst.done() < reading.target {
            return Err(Errno::EAGAIN.into());
        }
        out.complete = true;
        // At the end of data there is no sender to be told of, and all ids are 0.
        let sender = out.sender.unwrap_or(Some(Ucred::default()));
        self.tell_sender(out, sender);
        if self.passing(pass::INQ) {
            let left = self.inner.lock().unread as i32;
            out.push_control(SOL_SOCKET, INQ, &left.to_ne_bytes());
        }
        Ok(dst.done())
    }

    /// Nothing is in the queue: whether a receive that got `got` bytes is at its end.
    fn is_end(&self, inner: &Inner, got: usize, target: usize) -> Result<bool> {
        if got >= target {
            return Ok(true);
        }
        match self.core.check_error() {
            Err(e) if got == 0 => return Err(e),
            Err(_) => return Ok(true),
            Ok(()) => {}
        }
        Ok(inner.shut_read)
    }

    /// Whether bytes of this packet belong to what was received before.
    fn goes_on(&self, reading: &mut Reading, packet: &Packet) -> bool {
        match reading.sender {
            Some(sender) => return sender == packet.who,
            None if self.wants_senders() => reading.sender = Some(packet.who),
            None => {}
        }
        true
    }

    /// Takes what there is, as far as `dst` has room (`unix_stream_read_generic`).
    fn take_stream(&self, dst: &mut IoDst<'_>, reading: &mut Reading) -> SysResult<usize> {
        // It guards no data, it keeps readers apart.
        let reader = self.reader.lock();
        MutexGuard::settle(&reader);
        let before = dst.done();
        let inline = self.core.has(flag::OOBINLINE);
        while !reading.ended {
            let mut gone = ArrayVec::<Packet, 2>::new();
            let mut inner = self.inner.lock();
            if inner.status != Status::Connected {
                return Err(Errno::EINVAL.into());
            }
            let was_empty = inner.packets.is_empty();
            let Some(at) = inner.readable_at(0, false, inline, dst.done() > 0, &mut gone) else {
                let ended = !was_empty && dst.done() > 0 || self.is_end(&inner, dst.done(), reading.target)?;
                drop(inner);
                reading.ended = ended;
                if !ended && dst.done() == before {
                    return Err(Errno::EAGAIN.into());
                }
                break;
            };
            if !self.goes_on(reading, &inner.packets[at]) {
                reading.ended = true;
                break;
            }
            if reading.wants_name && reading.from.is_none() {
                reading.from = Some(inner.packets[at].owner().clone());
            }
            let len = inner.packets[at].left();
            if at > 0 || len > dst.left() {
                // The rest stays: copied where it lies.
                let n = self.take_part(&mut inner, at, dst, reading)?;
                drop(inner);
                self.peeked_less(n);
                break;
            }
            let Some(mut packet) = inner.remove(at) else { break };
            drop(inner);
            let copied = if len > 0 { dst.put(packet.rest()) } else { Ok(0) };
            let n = *copied.as_ref().unwrap_or(&0);
            self.peeked_less(n);
            packet.advance(n);
            if n == len || n > 0 {
                reading.files = packet.files.take();
            }
            reading.ended = reading.files.is_some();
            if n < len {
                // A page was missing. Whoever looked meanwhile saw an empty queue.
                self.inner.lock().put_back(packet);
                self.queue.wake(DATA);
                copied?;
                break;
            }
            if dst.left() == 0 {
                break;
            }
        }
        Ok(dst.done() - before)
    }

    /// Takes as much of the packet at `at` as `dst` has room for, and its files.
    fn take_part(&self, inner: &mut Inner, at: usize, dst: &mut IoDst<'_>, reading: &mut Reading) -> Result<usize> {
        let packet = &mut inner.packets[at];
        let want = packet.left().min(dst.left());
        let n = if want > 0 { dst.put(&packet.rest()[..want])? } else { 0 };
        packet.advance(n);
        if let Some(files) = packet.files.take() {
            inner.carrying -= 1;
            reading.files = Some(files);
            reading.ended = true;
        }
        inner.unread -= n;
        Ok(n)
    }

    /// `n` bytes left the queue: `SO_PEEK_OFF` counts from its start.
    fn peeked_less(&self, n: usize) {
        let offset = &self.core.peek_offset;
        if offset.load(Relaxed) > 0 {
            let _ = offset
                .fetch_update(Relaxed, Relaxed, |o| Some(if o > 0 { o.saturating_sub(n as i32).max(0) } else { o }));
        }
    }

    fn peeked_more(&self, n: usize) {
        let offset = &self.core.peek_offset;
        if offset.load(Relaxed) >= 0 {
            let _ = offset.fetch_update(Relaxed, Relaxed, |o| (o >= 0).then(|| o.saturating_add(n as i32)));
        }
    }

    /// As [`Sock::take_stream`], but everything stays.
    fn peek_stream(&self, dst: &mut IoDst<'_>, reading: &mut Reading) -> SysResult<usize> {
        let before = dst.done();
        let inline = self.core.has(flag::OOBINLINE);
        let mut none = ArrayVec::new();
        let mut skip = reading.skip + before;
        let inner = &mut *self.inner.lock();
        if inner.status != Status::Connected {
            return Err(Errno::EINVAL.into());
        }
        let mut at = 0;
        loop {
            let next = if at < inner.packets.len() {
                inner.readable_at(at, true, inline, dst.done() > 0, &mut none)
            } else {
                None
            };
            let Some(found) = next else {
                reading.ended = dst.done() > 0 || self.is_end(inner, 0, reading.target)?;
                if !reading.ended {
                    return Err(Errno::EAGAIN.into());
                }
                break;
            };
            let packet = &inner.packets[found];
            at = found + 1;
            if skip >= packet.left() && packet.left() > 0 {
                skip -= packet.left();
                continue;
            }
            if !self.goes_on(reading, packet) {
                reading.ended = true;
                break;
            }
            if reading.wants_name && reading.from.is_none() {
                reading.from = Some(packet.owner().clone());
            }
            let want = (packet.left() - skip).min(dst.left());
            let n = if want > 0 { dst.put(&packet.rest()[skip..skip + want])? } else { 0 };
            skip = 0;
            if packet.files.is_some() {
                reading.seen = Some(packet.seq);
                reading.ended = true;
                break;
            }
            if n < want || dst.left() == 0 {
                break;
            }
        }
        Ok(dst.done() - before)
    }

    /// Receives the out-of-band byte (`unix_stream_recv_urg`).
    fn receive_urgent(&self, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        let peek = flags.contains(MsgFlags::PEEK);
        let (byte, who) = {
            let mut inner = self.inner.lock();
            if inner.status != Status::Connected || self.core.has(flag::OOBINLINE) {
                return Err(Errno::EINVAL.into());
            }
            let seq = inner.oob.ok_or(Errno::EINVAL)?;
            if !peek {
                inner.oob = None;
            }
            let packet = inner.packets.iter_mut().find(|p| p.seq == seq).ok_or(Errno::EINVAL)?;
            let byte = *packet.rest().first().ok_or(Errno::EINVAL)?;
            let who = packet.who;
            if !peek {
                // It stays as the mark between what came before and after it.
                packet.advance(1);
                inner.unread -= 1;
            }
            (byte, who)
        };
        let n = if dst.left() > 0 { dst.put(&[byte])? } else { 0 };
        out.flags |= MsgFlags::OOB;
        out.complete = true;
        self.tell_sender(out, who);
        Ok(n.max(1))
    }

    /// Receives a datagram or sequenced packet (`__unix_dgram_recvmsg`).
    fn receive_packet(&self, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        if self.kind == Kind::SeqPacket && self.inner.lock().status != Status::Connected {
            return Err(Errno::ENOTCONN.into());
        }
        if flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        self.core.check_error()?;
        if flags.contains(MsgFlags::PEEK) {
            return self.peek_packet(dst, flags, out);
        }
        let (packet, waiting) = {
            let mut inner = self.inner.lock();
            let Some(packet) = inner.remove(0) else { return self.no_packet(&inner, flags) };
            (packet, core::mem::take(&mut inner.waiting))
        };
        wake_waiting(waiting);
        let len = packet.left();
        self.peeked_less(len);
        let n = len.min(dst.left());
        if n > 0 && dst.put(&packet.rest()[..n])? < n {
            return Err(Errno::EFAULT.into());
        }
        self.tell_packet(&About::of(&packet), (len, n), out);
        let mut packet = packet;
        if let Some(files) = packet.files.take() {
            out.files = files.land();
        }
        Ok(n)
    }

    fn no_packet(&self, inner: &Inner, flags: MsgFlags) -> SysResult<usize> {
        // A datagram socket that does not wait is not told of the end.
        let told = self.kind == Kind::SeqPacket || !flags.contains(MsgFlags::DONTWAIT);
        if inner.shut_read && told { Ok(0) } else { Err(Errno::EAGAIN.into()) }
    }

    fn tell_packet(&self, about: &About, (whole, got): (usize, usize), out: &mut RecvMsg) {
        out.whole = whole;
        if whole > got {
            out.flags |= MsgFlags::TRUNC;
        }
        if out.wants_name {
            Self::tell_name(out, &about.owner);
        }
        let nanos = self.core.has(flag::TIMESTAMPNS);
        if nanos || self.core.has(flag::TIMESTAMP) {
            let stamp = if about.stamp != 0 { about.stamp } else { time::now() };
            let parts =
                if nanos { (stamp % time::SECOND, TIMESTAMPNS) } else { (stamp % time::SECOND / 1000, TIMESTAMP) };
            let mut bytes = [0u8; 16];
            bytes[..8].copy_from_slice(&(stamp / time::SECOND).to_ne_bytes());
            bytes[8..].copy_from_slice(&parts.0.to_ne_bytes());
            out.push_control(SOL_SOCKET, parts.1, &bytes);
        }
        self.tell_sender(out, about.who);
    }

    fn peek_packet(&self, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        let offset = self.core.peek_offset.load(Relaxed);
        let mut found = None;
        let n = dst.under_lock(dst.left(), |dst| {
            let mut inner = self.inner.lock();
            let mut skip = offset.max(0) as usize;
            let passed = |p: &Packet, skip: usize| offset >= 0 && skip >= p.left() && (skip > 0 || p.peeked);
            let Some(at) = inner.packets.iter().position(|p| {
                let passes = passed(p, skip);
                skip -= if passes { p.left() } else { 0 };
                !passes
            }) else {
                return self.no_packet(&inner, flags);
            };
            let packet = &mut inner.packets[at];
            packet.peeked |= packet.left() == 0;
            let whole = packet.left().saturating_sub(skip);
            let skip = skip + dst.done();
            let want = packet.left().saturating_sub(skip).min(dst.left());
            found = Some((About::of(packet), whole, packet.files.is_some().then_some(packet.seq)));
            Ok(if want > 0 { dst.put(&packet.rest()[skip..skip + want])? } else { 0 })
        })?;
        let Some((about, whole, seen)) = found else { return Ok(n) };
        self.peeked_more(n);
        self.tell_packet(&about, (whole, n), out);
        self.peek_files(seen, out);
        Ok(n)
    }

    /// Gives the receiver the files of a packet that stays in the queue.
    fn peek_files(&self, seq: Option<u64>, out: &mut RecvMsg) {
        let Some(seq) = seq else { return };
        flight::undisturbed(|| {
            let inner = self.inner.lock();
            if let Some(files) = inner.packets.iter().find(|p| p.seq == seq).and_then(|p| p.files.as_ref()) {
                // Without memory they are cut off, as without room for the numbers.
                if files.copies(&mut out.files).is_err() {
                    out.flags |= MsgFlags::CTRUNC;
                }
            }
        });
    }
}

/// What a receiver may be told of a packet.
struct About {
    owner: Arc<Sock>,
    who: Option<Ucred>,
    stamp: i64,
}

impl About {
    fn of(packet: &Packet) -> About {
        About { owner: packet.owner().clone(), who: packet.who, stamp: packet.stamp }
    }
}

impl Inner {
    /// Where the packet is that a read of a stream takes bytes from, looking from `at` on (`manage_oob`): reads
    /// stop before the out-of-band byte, and the next one passes over it, or meets it where it is `inline`. `copied`:
    /// the read has some bytes already. Packets that are passed over for good go to `gone`.
    fn readable_at(
        &mut self,
        mut at: usize,
        peek: bool,
        inline: bool,
        copied: bool,
        gone: &mut ArrayVec<Packet, 2>,
    ) -> Option<usize> {
        let is_urgent = |inner: &Inner, at: usize| inner.packets.get(at).is_some_and(|p| Some(p.seq) == inner.oob);
        if self.packets.get(at)?.left() == 0 {
            if copied && (self.oob.is_none() || is_urgent(self, at)) {
                return None;
            }
            if peek {
                at += 1;
            } else {
                gone.extend(self.remove(at));
            }
            self.packets.get(at)?;
        }
        if !is_urgent(self, at) {
            return Some(at);
        }
        if copied {
            return None;
        }
        if peek {
            at += usize::from(!inline);
        } else {
            self.oob = None;
            if !inline {
                gone.extend(self.remove(at));
                at = 0;
            }
        }
        (at < self.packets.len()).then_some(at)
    }

    /// Whether the next read starts at the out-of-band mark (`SIOCATMARK`).
    pub fn at_mark(&self) -> bool {
        let Some(first) = self.packets.front() else { return false };
        let second = self.packets.get(1).map(|p| p.seq);
        Some(first.seq) == self.oob || first.left() == 0 && (self.oob.is_none() || second == self.oob)
    }
}
