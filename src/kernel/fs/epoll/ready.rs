//! The ready list of an epoll instance: places of items, each at most once, in a list through an array, so
//! that an item leaves it at once when it is removed.

use crate::abi::{Errno, Result};
use alloc::vec::Vec;

/// No place.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
    queued: bool,
}

/// See the module.
pub struct Ready {
    links: Vec<Link>,
    head: u32,
    tail: u32,
    len: usize,
}

impl Default for Ready {
    fn default() -> Self {
        Ready { links: Vec::new(), head: NONE, tail: NONE, len: 0 }
    }
}

impl Ready {
    /// Makes room for the item at this place.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn reserve(&mut self, at: u32) -> Result {
        let len = at as usize + 1;
        if len > self.links.len() {
            self.links.try_reserve(len - self.links.len()).map_err(|_| Errno::ENOMEM)?;
            self.links.resize(len, Link { prev: NONE, next: NONE, queued: false });
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts an item at the end, unless it is there.
    pub fn push(&mut self, at: u32) {
        self.link(at, true);
    }

    /// Puts an item at the front, unless it is there.
    pub fn push_front(&mut self, at: u32) {
        self.link(at, false);
    }

    fn link(&mut self, at: u32, last: bool) {
        let (prev, next) = if last { (self.tail, NONE) } else { (NONE, self.head) };
        match self.links.get_mut(at as usize) {
            Some(link) if !link.queued => *link = Link { prev, next, queued: true },
            _ => return,
        }
        match prev {
            NONE => self.head = at,
            p => self.links[p as usize].next = at,
        }
        match next {
            NONE => self.tail = at,
            n => self.links[n as usize].prev = at,
        }
        self.len += 1;
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<u32> {
        let at = self.head;
        (at != NONE).then(|| {
            self.remove(at);
            at
        })
    }

    /// Takes an item out, if it is in.
    pub fn remove(&mut self, at: u32) {
        let Some(link) = self.links.get_mut(at as usize).filter(|l| l.queued) else { return };
        link.queued = false;
        let Link { prev, next, .. } = *link;
        match prev {
            NONE => self.head = next,
            p => self.links[p as usize].next = next,
        }
        match next {
            NONE => self.tail = prev,
            n => self.links[n as usize].prev = prev,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_once_in_order_and_leave_from_anywhere() {
        let mut ready = Ready::default();
        ready.reserve(5).unwrap();
        for at in [3, 1, 3, 5, 0, 9] {
            ready.push(at);
        }
        ready.remove(1);
        ready.remove(1);
        ready.push_front(4);
        assert_eq!(ready.len(), 4);
        let all: Vec<u32> = core::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(all, [4, 3, 5, 0]);
        assert_eq!(ready.len(), 0);
    }
}
