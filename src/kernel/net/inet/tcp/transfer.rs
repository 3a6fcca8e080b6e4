//! Data and readiness of TCP sockets.

use super::end::End;
use super::hold;
use super::stream::Parcel;
use super::{Phase, State, Tcp};
use crate::abi::{Errno, Result, SysError, SysResult};
use crate::mm::{IoDst, IoSrc};
use crate::net::inet::addr::Addr;
use crate::net::inet::mailbox::tell_notice;
use crate::net::socket::{MsgFlags, RecvMsg, SendMsg, flag};
use crate::sync::Events;
use crate::time;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// `TCP_CM_INQ`.
const TCP_INQ: u32 = 36;

impl Tcp {
    /// The peer that data goes to, and the addresses of both. `begun`: the call has sent some of its data before, and so
    /// will not tell of an error, which stays for the next one.
    fn outlet(&self, begun: bool) -> Result<(Arc<End>, (Addr, Addr))> {
        let state = self.state.lock();
        if state.phase == Phase::Connecting {
            return Err(Errno::EAGAIN);
        }
        if begun && self.end.has_error() {
            return Err(Errno::EPIPE);
        }
        if let Some(e) = self.end.take_error() {
            return Err(e);
        }
        if state.shut_write || self.end.is_dead() {
            return Err(Errno::EPIPE);
        }
        let peer = state.peer.clone().filter(|_| state.phase == Phase::Connected).ok_or(Errno::EPIPE)?;
        Ok((peer, (state.local, state.remote.unwrap_or(state.local))))
    }

    /// Sends as much as there is room for (`tcp_sendmsg`).
    pub(super) fn send_data(&self, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
        if msg.flags.contains(MsgFlags::FASTOPEN)
            && let Some(to) = msg.to.take()
            && self.state.lock().phase == Phase::Closed
        {
            self.connect_to(&to, false)?;
        }
        let (peer, ends) = self.outlet(src.done() > 0)?;
        if src.left() == 0 {
            return Ok(0);
        }
        let (room, program) = {
            let inbox = peer.inbox.lock();
            if inbox.deaf {
                drop(inbox);
                peer.reset(Errno::ECONNRESET);
                return Ok(self.answered_by_reset(src));
            }
            if inbox.closed {
                drop(inbox);
                return Ok(self.answered_by_reset(src));
            }
            (inbox.limit().saturating_sub(inbox.stream.len()), inbox.program())
        };
        if room == 0 {
            return Err(Errno::EAGAIN.into());
        }
        let parcel = Parcel::take(src, room)?;
        let n = parcel.len();
        if n == 0 {
            return Ok(0);
        }
        if self.is_watched() {
            self.show_data(ends, &peer, &parcel);
        }
        let lost = program.map_or(0, |p| n - hold::passing(&p, ends, &parcel));
        let segment = self.corked_segment(msg, src.left() > 0);
        let urgent = msg.flags.contains(MsgFlags::OOB) && src.left() == 0;
        // Who notes when data leaves goes by the last byte of a send.
        let noted = if src.left() == 0 { self.core.notes_sending(None) } else { 0 };
        let (listener, end);
        {
            let mut inbox = peer.inbox.lock();
            if inbox.closed {
                drop(inbox);
                self.end.reset(Errno::ECONNRESET);
                return Ok(n);
            }
            inbox.stream.push(parcel)?;
            if inbox.notes_arrival {
                inbox.arrival = time::now();
            }
            if urgent {
                inbox.stream.mark_urgent();
            }
            if lost > 0 {
                inbox.drop_last(lost);
            }
            inbox.cork(n, segment);
            listener = inbox.take_deferral();
            end = if noted == 0 { 0 } else { inbox.stream.end() };
        }
        if noted != 0 {
            self.core.note_sent(noted, self.core.sent_key_at(end), || Ok(Vec::new()));
            self.end.queue.wake(Events::ERR);
        }
        if segment > 0 {
            peer.watch();
        }
        if let Some(listener) = listener {
            listener.undefer(&peer, true);
        }
        peer.announce(urgent);
        if msg.flags.contains(MsgFlags::ZEROCOPY) && self.core.count_zerocopy(msg) {
            self.end.queue.wake(Events::ERR);
        }
        Ok(n)
    }

    /// The size of segments that data is gathered to before it goes; 0: it goes at once. `more`: the rest of the send
    /// follows.
    fn corked_segment(&self, msg: &SendMsg, more: bool) -> usize {
        match self.options.is_corked() || msg.flags.contains(MsgFlags::MORE) {
            true if !more => self.options.segment.load(Relaxed).max(1) as usize,
            _ => 0,
        }
    }

    /// Data to an end that is closed is lost, as much as goes out at once, and answered by a reset: the next operation
    /// tells.
    fn answered_by_reset(&self, src: &mut IoSrc<'_>) -> usize {
        let n = src.left().min(self.send_room());
        src.advance(n);
        self.end.reset(Errno::ECONNRESET);
        n
    }

    /// Receives (`tcp_recvmsg`).
    pub(super) fn receive_data(&self, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        if flags.contains(MsgFlags::ERRQUEUE) {
            return Ok(tell_notice(&self.core, dst, out)?);
        }
        let (phase, shut_read) = {
            let state = self.state.lock();
            (state.phase, state.shut_read)
        };
        if phase == Phase::Listening {
            return Err(Errno::ENOTCONN.into());
        }
        if flags.contains(MsgFlags::OOB) {
            return self.receive_urgent(dst, flags, out, phase);
        }
        if dst.left() == 0 {
            let (there, fin) = {
                let inbox = self.end.inbox.lock();
                (inbox.stream.len() > 0, inbox.fin)
            };
            let waits = !flags.contains(MsgFlags::DONTWAIT);
            return match self.nothing(phase, fin, shut_read) {
                _ if there => Ok(0),
                Err(SysError::Errno(Errno::EAGAIN)) if waits && phase == Phase::Connected => Ok(0),
                other => other,
            };
        }
        let start = dst.done();
        let from = if flags.contains(MsgFlags::PEEK) { self.core.peek_from() } else { 0 };
        let mut freed = false;
        let want = dst.left().min(self.end.inbox.lock().stream.len());
        let got = dst.under_lock(want, |dst| {
            let peeked = flags.contains(MsgFlags::PEEK).then(|| dst.done() - start + from);
            self.take_out(dst, flags, (peeked, from), (phase, shut_read), &mut freed)
        });
        if freed {
            let peer = self.state.lock().peer.clone();
            if let Some(peer) = peer {
                peer.queue.wake(Events::OUT | Events::WRNORM);
            }
        }
        let n = got?;
        out.whole = n;
        self.core.peeked(n, !flags.contains(MsgFlags::PEEK));
        if out.wants_control && self.core.notes_arrival() {
            let at = self.end.inbox.lock().arrival;
            self.core.tell_arrival(at, out);
        }
        if out.wants_control && self.tells_unread() {
            out.push_control(super::PROTOCOL, TCP_INQ, &(self.unread() as u32).to_ne_bytes());
        }
        Ok(n)
    }

    /// Takes data out of the inbox, or looks at it behind `peeked` bytes; the look began at `from`. Tells in
    /// `freed` that the peer may write again.
    fn take_out(
        &self,
        dst: &mut IoDst<'_>,
        flags: MsgFlags,
        (peeked, from): (Option<usize>, usize),
        (phase, shut_read): (Phase, bool),
        freed: &mut bool,
    ) -> SysResult<usize> {
        let inline = self.core.has(flag::OOBINLINE);
        let mut inbox = self.end.inbox.lock();
        let there = inbox.stream.readable(inline);
        let all = flags.contains(MsgFlags::WAITALL | MsgFlags::PEEK);
        let low = if all { dst.left() } else { self.core.low_water.load(Relaxed) as usize };
        let low = low.min(dst.left()).min(inbox.limit());
        let ended = inbox.fin || shut_read || self.end.is_dead() || flags.contains(MsgFlags::DONTWAIT);
        if inbox.stream.len() > 0 && there == 0 && peeked.is_none() {
            // Only the urgent byte is there, which is not read in line.
            inbox.stream.pass_mark(inline);
        }
        if inbox.stream.readable(inline) <= from || there < low && !ended {
            let fin = inbox.fin;
            drop(inbox);
            return self.nothing(phase, fin, shut_read);
        }
        let was = inbox.writable();
        let n = if flags.contains(MsgFlags::TRUNC) && peeked.is_none() {
            let n = inbox.stream.discard(dst.left(), inline);
            dst.advance(n);
            n
        } else {
            inbox.stream.read(dst, peeked, inline)?
        };
        *freed |= !was && inbox.writable();
        Ok(n)
    }

    /// There is nothing to receive: the end of data, an error, or a wait.
    fn nothing(&self, phase: Phase, fin: bool, shut_read: bool) -> SysResult<usize> {
        if fin {
            return Ok(0);
        }
        if let Some(e) = self.end.take_error() {
            return Err(e.into());
        }
        match phase {
            _ if shut_read => Ok(0),
            Phase::Connected if self.end.is_dead() => Ok(0),
            Phase::Connected | Phase::Connecting => Err(Errno::EAGAIN.into()),
            _ => Err(Errno::ENOTCONN.into()),
        }
    }

    fn receive_urgent(
        &self,
        dst: &mut IoDst<'_>,
        flags: MsgFlags,
        out: &mut RecvMsg,
        phase: Phase,
    ) -> SysResult<usize> {
        if self.core.has(flag::OOBINLINE) {
            return Err(Errno::EINVAL.into());
        }
        let byte = self.end.inbox.lock().stream.take_urgent(flags.contains(MsgFlags::PEEK))?;
        if phase != Phase::Connected {
            return Err(Errno::ENOTCONN.into());
        }
        out.flags |= MsgFlags::OOB;
        if dst.left() == 0 {
            out.flags |= MsgFlags::TRUNC;
            return Ok(0);
        }
        Ok(dst.put(&[byte])?)
    }

    /// Bytes that could be read now.
    pub(super) fn unread(&self) -> usize {
        let inbox = self.end.inbox.lock();
        let inline = self.core.has(flag::OOBINLINE);
        if inbox.stream.at_mark() && !inline { 0 } else { inbox.stream.readable(inline) }
    }

    /// Bytes that the peer's side has not taken: what lies beyond its own room, or is held back from it.
    pub(super) fn unsent(&self) -> usize {
        let Some(peer) = self.state.lock().peer.clone() else { return 0 };
        let inbox = peer.inbox.lock();
        inbox.stream.len().saturating_sub(inbox.receive_room as usize).max(inbox.stream.hidden())
    }

    /// What it is ready for (`tcp_poll`).
    pub(super) fn ready(&self) -> Events {
        let read = Events::IN | Events::RDNORM;
        let write = Events::OUT | Events::WRNORM;
        // The lock is held so that the peer need not be counted.
        let state = self.state.lock();
        let State { phase, shut_read, shut_write, .. } = *state;
        let mut events = Events::empty();
        if self.end.has_error() || self.core.has_notice() {
            events |= Events::ERR;
        }
        let inbox = self.end.inbox.lock();
        if phase == Phase::Listening {
            let waits = inbox.backlog.as_ref().is_some_and(|b| !b.ready.is_empty());
            return if waits { events | read } else { events };
        }
        let dead = self.end.is_dead() && phase == Phase::Connected;
        let no_more = inbox.fin || shut_read || dead;
        let mute = shut_write || dead;
        if no_more && mute || matches!(phase, Phase::Closed) {
            events |= Events::HUP;
        }
        if no_more {
            events |= read | Events::RDHUP;
        }
        if phase == Phase::Connecting {
            return events;
        }
        let low = (self.core.low_water.load(Relaxed) as usize).min(inbox.limit());
        let readable = inbox.stream.readable(self.core.has(flag::OOBINLINE));
        if readable > 0 && readable >= low {
            events |= read;
        }
        if inbox.stream.has_urgent() {
            events |= Events::PRI;
        }
        drop(inbox);
        if mute || phase == Phase::Closed || state.peer.as_ref().is_none_or(|p| p.inbox.lock().writable()) {
            events |= write;
        }
        events
    }
}
