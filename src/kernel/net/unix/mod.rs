//! Sockets of the local family (`unix(7)`): stream, datagram and sequenced packets.
//!
//! Each socket owns an endpoint: its inbox and its wait queue. A connected socket knows its peer's
//! endpoint; sending puts a packet into the peer's inbox. Endpoints do not know sockets, so nothing
//! keeps itself alive.
//!
//! Locks: a socket's state and inboxes are of level `FileData`; no two inboxes are held at once.

mod family;
mod names;
mod socket;

pub use crate::net::socket::Ucred;
pub use family::{create, create_pair};
use names::{bind_abstract, lookup_abstract};
pub use socket::{Kind, Received, Socket};

use crate::abi::{Errno, Result};
use crate::sync::{Events, Level, Mutex, WaitQueue};
use crate::vfs::OpenFile;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes that wait in an inbox before senders have to wait (`/proc/sys/net/core/wmem_default`).
const ROOM: usize = 212_992;
/// Packets that wait in a datagram inbox (`/proc/sys/net/unix/max_dgram_qlen` is less).
const PACKETS: usize = 512;

/// A name as `sun_path` holds it: a path, or NUL and an abstract name; empty for none.
pub type Name = Arc<[u8]>;

/// What one send put into an inbox.
struct Packet {
    data: Vec<u8>,
    /// How much of it was read (streams).
    at: usize,
    files: Vec<Arc<OpenFile>>,
    cred: Ucred,
    from: Name,
}

/// A connection that nobody has accepted yet.
struct Incoming {
    /// The accepting side's endpoint, which may have data already.
    mine: Arc<Endpoint>,
    client: Arc<Endpoint>,
    cred: Ucred,
    name: Name,
}

#[derive(Default)]
struct Inbox {
    packets: VecDeque<Packet>,
    bytes: usize,
    /// Nothing more will come.
    eof: bool,
    /// The owner takes nothing more: senders get EPIPE.
    refuses: bool,
    /// The peer went with data unread.
    reset: bool,
    /// `listen` was called: connections that wait, and how many may.
    backlog: Option<usize>,
    incoming: VecDeque<Incoming>,
}

/// A socket's inbox and wait queue.
pub struct Endpoint {
    inbox: Mutex<Inbox>,
    queue: WaitQueue,
    kind: Kind,
}

impl Endpoint {
    fn new(kind: Kind) -> Arc<Endpoint> {
        Arc::new(Endpoint { inbox: Mutex::new(Level::FileData, Inbox::default()), queue: WaitQueue::new(), kind })
    }

    /// Where readiness is announced.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn has_room(&self) -> bool {
        let inbox = self.inbox.lock();
        inbox.refuses || inbox.bytes < ROOM && (self.kind == Kind::Stream || inbox.packets.len() < PACKETS)
    }

    /// Takes a packet in; gives it back when there is no room.
    fn deliver(&self, packet: Packet) -> Result<usize> {
        let n = packet.data.len();
        {
            let mut inbox = self.inbox.lock();
            if inbox.refuses {
                return Err(Errno::EPIPE);
            }
            if inbox.bytes >= ROOM || self.kind != Kind::Stream && inbox.packets.len() >= PACKETS {
                return Err(Errno::EAGAIN);
            }
            inbox.packets.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
            inbox.bytes += n;
            inbox.packets.push_back(packet);
        }
        self.queue.wake(Events::IN | Events::RDNORM);
        Ok(n)
    }

    /// The peer sends nothing more.
    fn end_of_data(&self, reset: bool) {
        {
            let mut inbox = self.inbox.lock();
            inbox.eof = true;
            inbox.reset |= reset;
        }
        self.queue.wake_all();
    }

    /// The owner reads nothing more; says whether something was left unread.
    fn refuse(&self, drop_all: bool) -> bool {
        let mut inbox = self.inbox.lock();
        inbox.refuses = true;
        if !drop_all {
            return false;
        }
        inbox.backlog = None;
        inbox.bytes = 0;
        let packets = core::mem::take(&mut inbox.packets);
        let incoming = core::mem::take(&mut inbox.incoming);
        drop(inbox);
        // Files in flight and unaccepted connections go without a lock held.
        for i in &incoming {
            i.client.end_of_data(true);
            i.client.refuse(false);
        }
        !packets.is_empty()
    }
}
