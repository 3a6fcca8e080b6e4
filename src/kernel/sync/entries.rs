//! The registrations of a wait queue: a list whose entries are found by their places.

use super::mend::{Mend, forget_part, step};
use super::wait::{Events, Notify};
use super::{Level, Mutex, StepQueue};
use crate::abi::slot::Waker;
use alloc::sync::Weak;
use alloc::vec::Vec;

pub(super) enum Target {
    Task(&'static Waker),
    Callback(Weak<dyn Notify>, u64),
    /// The place is free; the next free one is `next`.
    Free,
}

/// No index.
pub(super) const NONE: u32 = u32::MAX;

pub(super) struct Entry {
    /// Whether it counts; all else is whole then.
    pub(super) used: bool,
    /// Tells registrations apart that had this place one after the other.
    pub(super) generation: u32,
    pub(super) prev: u32,
    pub(super) next: u32,
    /// Whether it is in the list: an exclusive sleeper leaves it when it is woken.
    pub(super) linked: bool,
    pub(super) exclusive: bool,
    pub(super) events: Events,
    pub(super) target: Target,
}

/// Registrations in a list, each found by its place: others before exclusive ones, and those in order of
/// arrival, as Linux keeps them (`add_wait_queue`).
pub(super) struct Inner {
    pub(super) generation: u32,
    pub(super) live: u32,
    pub(super) free: u32,
    pub(super) head: u32,
    pub(super) tail: u32,
    /// Each stays in its place.
    pub(super) entries: StepQueue<Entry>,
}

impl Mend for Inner {
    fn mend(&mut self) {
        let mut linked = Vec::new();
        (self.live, self.free) = (0, NONE);
        for at in 0..self.entries.len() {
            let e = &mut self.entries[at];
            if !e.used {
                forget_part(&mut e.target, Target::Free);
                e.next = self.free;
                self.free = at as u32;
                continue;
            }
            self.live += 1;
            if e.linked {
                linked.push((e.generation, at as u32, e.exclusive));
            }
        }
        linked.sort_unstable();
        (self.head, self.tail) = (NONE, NONE);
        for (_, at, exclusive) in linked {
            self.link(at, exclusive);
        }
    }
}

/// Registers who makes the queues whole again that a thread has left in the middle of a change (at boot).
pub(super) fn init() {
    super::orphaned::set_repair(Level::WaitQueue, |lock| {
        // SAFETY: locks of this level are these; its holder is dead, and nobody else has access.
        unsafe { (*(*(lock as *const Mutex<Inner>)).as_ptr().cast_mut()).mend() };
        true
    });
}

impl Inner {
    pub(super) const fn new() -> Inner {
        Inner { generation: 0, live: 0, free: NONE, head: NONE, tail: NONE, entries: StepQueue::new() }
    }

    pub(super) fn insert(&mut self, events: Events, exclusive: bool, target: Target) -> u64 {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let entry = Entry { used: true, generation, prev: NONE, next: NONE, linked: true, exclusive, events, target };
        let at = self.free;
        let at = if at == NONE {
            self.entries.push_back(entry);
            (self.entries.len() - 1) as u32
        } else {
            let place = &mut self.entries[at as usize];
            self.free = place.next;
            *place = Entry { used: false, ..entry };
            step();
            place.used = true;
            at
        };
        self.live += 1;
        self.link(at, exclusive);
        u64::from(generation) << 32 | u64::from(at)
    }

    pub(super) fn link(&mut self, at: u32, last: bool) {
        let (prev, next) = if last { (self.tail, NONE) } else { (NONE, self.head) };
        match prev {
            NONE => self.head = at,
            p => self.entries[p as usize].next = at,
        }
        match next {
            NONE => self.tail = at,
            n => self.entries[n as usize].prev = at,
        }
        let e = &mut self.entries[at as usize];
        (e.prev, e.next) = (prev, next);
    }

    pub(super) fn unlink(&mut self, at: u32) {
        let e = &mut self.entries[at as usize];
        let (prev, next) = (e.prev, e.next);
        e.linked = false;
        match prev {
            NONE => self.head = next,
            p => self.entries[p as usize].next = next,
        }
        match next {
            NONE => self.tail = prev,
            n => self.entries[n as usize].prev = prev,
        }
    }

    /// The place of a registration.
    pub(super) fn find(&self, id: u64) -> Option<u32> {
        let (at, generation) = (id as u32, (id >> 32) as u32);
        let e = self.entries.get(at as usize)?;
        (e.generation == generation && !matches!(e.target, Target::Free)).then_some(at)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Target> {
        let at = self.find(id)?;
        if self.entries[at as usize].linked {
            self.unlink(at);
        }
        let e = &mut self.entries[at as usize];
        e.used = false;
        step();
        let target = core::mem::replace(&mut e.target, Target::Free);
        e.next = self.free;
        self.free = at;
        self.live -= 1;
        if self.live == 0 && self.entries.capacity() > 64 {
            self.free = NONE;
            self.entries.clear();
            self.entries.shrink();
        }
        Some(target)
    }
}
