//! One end of a connection, as the other end sees it.
//!
//! A socket owns its end: what was sent to it, its backlog if it listens, its wait queue. It knows its
//! peer's end. Ends do not know sockets or each other, so nothing keeps itself alive.

use super::Tcp;
use super::hold::{self, Hold};
use super::segment::{ACK, FIN};
use super::stream::Stream;
use crate::abi::Errno;
use crate::net::inet::addr::Addr;
use crate::net::inet::ports::Holder;
use crate::sync::{Events, Level, Mend, MendMap, Mutex, StepQueue, WaitQueue};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// A connection that was not accepted yet.
pub struct Incoming {
    /// The accepting side's end, which may have data already.
    pub end: Arc<End>,
    /// The connecting side's.
    pub client: Arc<End>,
    /// Address of the accepting side.
    pub local: Addr,
    /// Address of the connecting side.
    pub remote: Addr,
    /// The size of the accepting side's segments, bytes.
    pub segment: i32,
    /// The use of the listener's port.
    pub holder: Holder,
}

/// What a listening socket has.
#[derive(Default)]
pub struct Backlog {
    /// `listen(2)`'s argument.
    pub max: usize,
    /// Connections that wait to be accepted.
    pub ready: StepQueue<Incoming>,
    /// Connections that wait for data, by their end (`TCP_DEFER_ACCEPT`).
    pub deferred: MendMap<usize, Incoming>,
    /// Sockets whose connection found the backlog full.
    pub waiting: StepQueue<Weak<Tcp>>,
}

impl Backlog {
    /// Looks for sockets among those that wait that are gone, each time that the queue has doubled.
    pub fn forget_gone(&mut self) {
        /// So few may stay.
        const FEW: usize = 64;
        let count = self.waiting.len();
        if count < FEW || !count.is_power_of_two() {
            return;
        }
        for _ in 0..count {
            match self.waiting.pop_front() {
                Some(client) if client.strong_count() > 0 => self.waiting.push_back(client),
                _ => {}
            }
        }
    }
}

/// What the lock of an end guards.
#[derive(Default)]
pub struct Inbox {
    /// Data that waits.
    pub stream: Stream,
    /// Room that the owner's `SO_RCVBUF` gives, bytes.
    pub receive_room: u32,
    /// Room that the peer's `SO_SNDBUF` gives, bytes.
    pub send_room: u32,
    /// The peer sends nothing more.
    pub fin: bool,
    /// Nobody has the owner open any more.
    pub closed: bool,
    /// The owner wants to know when data arrives, and when the last of it did, ns since the epoch; 0: not noted.
    pub notes_arrival: bool,
    /// See `notes_arrival`.
    pub arrival: i64,
    /// What is held back, while there is something.
    pub hold: Option<Box<Hold>>,
    /// The owner takes no more data in: what comes is answered by a reset.
    pub deaf: bool,
    /// The owner listens.
    pub backlog: Option<Box<Backlog>>,
}

impl Mend for Inbox {
    /// All else is changed by one store each.
    fn mend(&mut self) {
        self.stream.mend();
        if let Some(backlog) = &mut self.backlog {
            backlog.deferred.mend();
        }
    }
}

impl Inbox {
    /// Bytes that may wait before senders have to.
    pub fn limit(&self) -> usize {
        self.receive_room as usize + self.send_room as usize
    }

    /// Whether a sender is told that it may write: there is a third of all room.
    pub fn writable(&self) -> bool {
        let limit = self.limit();
        self.stream.len() < limit - limit / 3
    }
}

/// See the module.
pub struct End {
    /// See [`Inbox`].
    pub inbox: Mutex<Inbox>,
    /// Where readiness is announced.
    pub queue: WaitQueue,
    /// The connection was reset or given up.
    dead: AtomicBool,
    /// The error for the next operation or `SO_ERROR`; 0: none.
    error: AtomicU32,
}

impl End {
    /// An end with this room.
    pub fn new(receive_room: usize, send_room: usize) -> Arc<End> {
        let inbox = Inbox { receive_room: receive_room as u32, send_room: send_room as u32, ..Inbox::default() };
        Arc::new(End {
            inbox: Mutex::mended(Level::FileData, inbox),
            queue: WaitQueue::new(),
            dead: AtomicBool::new(false),
            error: AtomicU32::new(0),
        })
    }

    /// Whether the connection was reset or given up.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    /// Begins anew, for another connection.
    pub fn revive(&self) {
        {
            let mut inbox = self.inbox.lock();
            inbox.stream.restart();
            inbox.fin = false;
            inbox.deaf = false;
            if let Some(hold) = &mut inbox.hold {
                hold.release();
            }
        }
        self.dead.store(false, Relaxed);
        self.error.store(0, Relaxed);
    }

    /// Records an error.
    pub fn set_error(&self, e: Errno) {
        self.error.store(e.raw() as u32, Relaxed);
    }

    /// Whether an error is recorded.
    pub fn has_error(&self) -> bool {
        self.error.load(Relaxed) != 0
    }

    /// Takes the recorded error.
    pub fn take_error(&self) -> Option<Errno> {
        if !self.has_error() {
            return None;
        }
        match self.error.swap(0, Relaxed) {
            0 => None,
            n => Some(Errno::from_raw(n as i32)),
        }
    }

    /// The peer sends nothing more.
    pub fn finish(&self, ends: (Addr, Addr)) {
        let program = self.inbox.lock().program();
        let refused = program.is_some_and(|p| !hold::passes(&p, ends, FIN | ACK, &[]));
        let listener = {
            let mut inbox = self.inbox.lock();
            inbox.take_fin(refused);
            inbox.take_deferral()
        };
        if let Some(listener) = listener {
            listener.undefer(self, true);
        }
        self.queue.wake_all();
    }

    /// What it is known by among connections that wait for data.
    pub fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// The connection is gone. After the peer's end of data the error is `EPIPE`, as `tcp_reset` has it.
    pub fn reset(&self, e: Errno) {
        let (fin, listener) = {
            let mut inbox = self.inbox.lock();
            (inbox.fin, inbox.take_deferral())
        };
        if let Some(listener) = listener {
            listener.undefer(self, false);
        }
        if !self.dead.swap(true, Relaxed) {
            self.set_error(if fin { Errno::EPIPE } else { e });
        }
        self.queue.wake_all();
    }

    /// The owner gives the connection up: no error is recorded.
    pub fn abandon(&self) {
        self.dead.store(true, Relaxed);
    }

    /// Data arrived.
    pub fn announce(&self, urgent: bool) {
        let events = Events::IN | Events::RDNORM;
        self.queue.wake(if urgent { events | Events::PRI | Events::URGENT } else { events });
    }
}
