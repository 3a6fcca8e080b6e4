//! What keeps data or a connection from its receiver for a while: a cork (`TCP_CORK`, `MSG_MORE`), a filter
//! (`SO_ATTACH_FILTER`), an accept that waits for data (`TCP_DEFER_ACCEPT`), a backlog that is full.

use super::Tcp;
use super::end::{End, Inbox, Incoming};
use super::segment::{ACK, SYN, header};
use super::stream::Parcel;
use crate::abi::Errno;
use crate::net::inet::addr::Addr;
use crate::net::socket::filter::View;
use crate::sync::Events;
use crate::task::seccomp::bpf::{self, Insn};
use crate::time::{self, timer};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};

/// How long less than a segment is held back, ns (`tcp_write_xmit`: the shortest time-out of a retransmission).
const CORK: u64 = 200_000_000;

/// What is held at one end.
#[derive(Default)]
pub struct Hold {
    /// The place in the stream from which on data waits for the rest of its segment, and since when, ns.
    corked: Option<(u64, u64)>,
    /// The place of the first segment that the owner's program dropped.
    dropped: Option<u64>,
    /// The end of data came, and was dropped or comes behind what was.
    held_fin: bool,
    /// The listener that does not give the connection out before it has data, and until when, ns.
    deferred: Option<(Weak<Tcp>, u64)>,
    /// The timer that looks at all this is armed.
    armed: bool,
    /// The owner's program.
    program: Option<Arc<[Insn]>>,
}

impl Hold {
    /// Nothing is held any more; the owner's program stays.
    pub fn release(&mut self) {
        *self = Hold { armed: self.armed, program: self.program.take(), ..Hold::default() };
    }
}

impl Inbox {
    fn hold(&mut self) -> &mut Hold {
        self.hold.get_or_insert_with(Box::default)
    }

    /// How far the owner may read.
    fn settle_visible(&mut self) {
        let Some(hold) = &self.hold else { return };
        let corked = hold.corked.map_or(u64::MAX, |(at, _)| at);
        self.stream.show_until(corked.min(hold.dropped.unwrap_or(u64::MAX)));
    }

    /// The last `n` bytes were sent with a cork, or without one where `segment` is 0, in segments of that many bytes.
    pub fn cork(&mut self, n: usize, segment: usize) {
        if segment == 0 && self.hold.as_ref().is_none_or(|h| h.corked.is_none()) {
            return;
        }
        let end = self.stream.end();
        let hold = self.hold();
        let begin = hold.corked.map_or(end - n as u64, |(at, _)| at);
        let whole = if segment == 0 { end } else { begin + (end - begin) / segment as u64 * segment as u64 };
        let since = hold.corked.filter(|&(at, _)| at == whole).map_or_else(time::host_monotonic, |(_, since)| since);
        hold.corked = (whole < end).then_some((whole, since));
        self.settle_visible();
    }

    /// The first of the last `n` bytes is one that the owner's program dropped: what follows waits, too.
    pub fn drop_last(&mut self, n: usize) {
        let from = self.stream.end() - n as u64;
        self.hold().dropped.get_or_insert(from);
        self.settle_visible();
    }

    /// The owner's program.
    pub fn program(&self) -> Option<Arc<[Insn]>> {
        self.hold.as_ref()?.program.clone()
    }

    /// Notes the end of data, unless it is held back.
    pub fn take_fin(&mut self, refused: bool) {
        self.cork(0, 0);
        match &mut self.hold {
            Some(h) if refused || h.dropped.is_some() => h.held_fin = true,
            _ => self.fin = true,
        }
    }

    /// The listener that waits for data of this connection; it waits no longer.
    pub fn take_deferral(&mut self) -> Option<Arc<Tcp>> {
        self.hold.as_mut()?.deferred.take()?.0.upgrade()
    }

    /// When the timer is to look next, ns; `None`: there is nothing to look for, or it is armed.
    fn due(&mut self) -> Option<u64> {
        let hold = self.hold.as_mut().filter(|h| !h.armed)?;
        let cork = hold.corked.map(|(_, since)| since + CORK);
        let deferral = hold.deferred.as_ref().map(|(_, until)| *until);
        let due = cork.into_iter().chain(deferral).min()?;
        hold.armed = true;
        Some(due)
    }
}

/// Whether a program lets a segment with these flags and data pass.
pub fn passes(program: &[Insn], (from, to): (Addr, Addr), flags: u8, data: &[u8]) -> bool {
    let head = header((from.port, to.port), (0, 0), flags, 0);
    let protocol = if to.ip.is_v4() { 0x0800 } else { 0x86dd };
    bpf::run(program, &View { head: &head, data, protocol }) != 0
}

/// How many bytes of a parcel a program lets pass, which sees each of its pieces as a segment.
pub fn passing(program: &[Insn], ends: (Addr, Addr), parcel: &Parcel) -> usize {
    let mut done = 0;
    for piece in parcel.pieces() {
        if !passes(program, ends, ACK, piece) {
            break;
        }
        done += piece.len();
    }
    done
}

/// The timer of what an end holds.
struct Look(Weak<End>);

impl timer::Target for Look {
    fn expired(&self) {
        if let Some(end) = self.0.upgrade() {
            end.look();
        }
    }
}

impl End {
    /// The timer looks at what is held.
    fn look(self: &Arc<Self>) {
        let now = time::host_monotonic();
        let (next, listener) = {
            let mut inbox = self.inbox.lock();
            let Some(hold) = &mut inbox.hold else { return };
            hold.armed = false;
            if hold.corked.is_some_and(|(_, since)| since + CORK <= now) {
                hold.corked = None;
                inbox.settle_visible();
            }
            let over = inbox.hold.as_ref().is_some_and(|h| h.deferred.as_ref().is_some_and(|(_, t)| *t <= now));
            let listener = if over { inbox.take_deferral() } else { None };
            (inbox.due(), listener)
        };
        if let Some(at) = next {
            timer::arm(at, Arc::new(Look(Arc::downgrade(self))));
        }
        if let Some(listener) = listener {
            listener.undefer(self, true);
        }
        self.announce(false);
    }

    /// Arms the timer where something is held that it has to look at.
    pub fn watch(self: &Arc<Self>) {
        let due = self.inbox.lock().due();
        if let Some(at) = due {
            timer::arm(at, Arc::new(Look(Arc::downgrade(self))));
        }
    }

    /// Gives out what a cork held back.
    pub fn uncork(&self) {
        let held = {
            let mut inbox = self.inbox.lock();
            let held = inbox.hold.as_ref().is_some_and(|h| h.corked.is_some());
            inbox.cork(0, 0);
            held
        };
        if held {
            self.announce(false);
        }
    }

    /// The owner has another program, or none: what the one before dropped is sent again.
    pub fn set_program(&self, program: Option<Arc<[Insn]>>) {
        {
            let mut inbox = self.inbox.lock();
            if program.is_none() && inbox.hold.is_none() {
                return;
            }
            let hold = inbox.hold();
            hold.program = program;
            hold.dropped = None;
            if core::mem::take(&mut hold.held_fin) {
                inbox.fin = true;
            }
            inbox.settle_visible();
        }
        self.queue.wake_all();
    }

    /// The connection is not given out before it has data, or until a time, ns.
    pub fn defer(self: &Arc<Self>, listener: &Weak<Tcp>, until: u64) {
        self.inbox.lock().hold().deferred = Some((listener.clone(), until));
        self.watch();
    }
}

/// A connection attempt that waits for room in a backlog, and gives up.
struct Attempt(Weak<Tcp>);

impl timer::Target for Attempt {
    fn expired(&self) {
        if let Some(socket) = self.0.upgrade() {
            socket.refused_with(Errno::ETIMEDOUT);
        }
    }
}

impl Tcp {
    /// Ends the attempt to connect at `deadline`, ns, if it still waits then.
    pub(super) fn give_up_at(&self, deadline: u64) -> timer::Armed {
        timer::arm(deadline, Arc::new(Attempt(self.me.clone())))
    }

    /// Gives out a connection that waited for data; or forgets it, since it was reset.
    pub(super) fn undefer(&self, end: &End, alive: bool) {
        let gone = {
            let mut inbox = self.end.inbox.lock();
            let Some(backlog) = inbox.backlog.as_mut() else { return };
            let Some(incoming) = backlog.deferred.remove(&end.key()) else { return };
            match alive && backlog.ready.try_reserve().is_ok() {
                true => {
                    backlog.ready.push_back(incoming);
                    None
                }
                false => Some(incoming),
            }
        };
        match gone {
            None => self.end.queue.wake(Events::IN | Events::RDNORM),
            Some(incoming) => self.forget_incoming(&incoming),
        }
    }

    /// A connection that nobody accepted is gone: the tables of ports forget it.
    pub(super) fn forget_incoming(&self, i: &Incoming) {
        let mut ports = self.core.ns.inet.tcp.lock();
        ports.disconnect(i.local, i.remote);
        ports.unhold(i.local.port, i.holder);
    }

    /// Whether the program of a listener drops the segment that asks for a connection.
    pub(super) fn drops_request(&self, from: Addr, to: Addr) -> bool {
        let program = self.end.inbox.lock().program();
        program.is_some_and(|p| !passes(&p, (from, to), SYN, &[]))
    }

    /// The socket's program changed.
    pub(super) fn program_changed(&self) {
        self.end.set_program(self.core.packet_program());
        let count = self.end.inbox.lock().backlog.as_ref().map_or(0, |b| b.waiting.len());
        for _ in 0..count {
            let next = self.end.inbox.lock().backlog.as_mut().and_then(|b| b.waiting.pop_front());
            if let Some(client) = next.and_then(|w| w.upgrade()) {
                client.admitted(self);
            }
        }
    }
}
