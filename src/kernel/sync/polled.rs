//! Host descriptors whose readiness the supervisor announces: it polls them, and nobody else blocks in the host for them.

use super::waiting::Kind;
use super::{Events, Level, Mutex, WaitQueue};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use hashbrown::HashMap;

/// Those that there are, by their descriptors.
static ALL: Mutex<Option<HashMap<i32, Weak<Polled>>>> = Mutex::new(Level::Leaf, None);
/// How the supervisor is asked. Registered at boot.
static ASK: once_cell::race::OnceBox<fn(i32, u32)> = once_cell::race::OnceBox::new();

/// For how long a descriptor is watched: not an event of `poll(2)`, but `EPOLLET`.
pub const FOR_GOOD: u32 = 1 << 31;

/// Registers how the supervisor is asked to watch a descriptor for events of `poll(2)`: until the first of them comes,
/// or, with [`FOR_GOOD`], for every change to readiness.
pub fn set_ask(ask: fn(i32, u32)) {
    let _ = ASK.set(Box::new(ask));
}

/// The supervisor saw that `fd` is ready.
pub fn ready(fd: i32, events: u32) {
    let found = ALL.lock().as_ref().and_then(|m| m.get(&fd).and_then(Weak::upgrade));
    if let Some(it) = found {
        it.announce(Events::from_bits_truncate(events));
    }
}

/// A host descriptor and those who wait for it. It must be gone before the descriptor is closed.
pub struct Polled {
    fd: i32,
    /// Events that the supervisor watches for; it forgets all of them with the first that comes.
    armed: AtomicU32,
    /// Whether it watches for good.
    watched: AtomicBool,
    queue: WaitQueue,
}

impl Polled {
    /// Of the descriptor `fd`.
    pub fn new(fd: i32) -> Arc<Polled> {
        let it = Arc::new(Polled {
            fd,
            armed: AtomicU32::new(0),
            watched: AtomicBool::new(false),
            queue: WaitQueue::of(Kind::Host),
        });
        ALL.lock().get_or_insert_with(HashMap::new).insert(fd, Arc::downgrade(&it));
        it
    }

    /// Where readiness is announced.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// Has the supervisor watch for the first of these events.
    pub fn arm(&self, wanted: Events) {
        let armed = Events::from_bits_truncate(self.armed.fetch_or(wanted.bits(), SeqCst));
        if !armed.contains(wanted)
            && let Some(ask) = ASK.get()
        {
            ask(self.fd, wanted.bits());
        }
    }

    /// Has the supervisor announce each change of readiness from now on, and what it is ready for now.
    pub fn watch(&self) {
        if !self.watched.load(SeqCst)
            && !self.watched.swap(true, SeqCst)
            && let Some(ask) = ASK.get()
        {
            let all = Events::IN | Events::OUT | Events::PRI | Events::RDHUP;
            ask(self.fd, all.bits() | FOR_GOOD);
        }
    }

    fn announce(&self, mut events: Events) {
        self.armed.store(0, SeqCst);
        if !self.watched.load(SeqCst) || events.intersects(Events::ERR | Events::HUP | Events::RDHUP) {
            events |= Events::IN | Events::OUT;
        }
        if events.contains(Events::PRI) {
            events |= Events::URGENT;
        }
        // One announcement may stand for several connections or datagrams.
        self.queue.wake_n(events, usize::MAX);
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        // The descriptor's number may be another one's by now.
        if let Some(m) = ALL.lock().as_mut()
            && m.get(&self.fd).is_some_and(|w| core::ptr::eq(w.as_ptr(), self))
        {
            m.remove(&self.fd);
        }
    }
}
