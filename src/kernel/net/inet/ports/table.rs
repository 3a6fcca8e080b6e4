//! A value for each port.

use crate::sync::Mend;
use alloc::boxed::Box;

/// Ports of a page.
const PAGE: usize = 256;

struct Page<T> {
    ports: [Option<Box<T>>; PAGE],
    used: usize,
}

/// Values by port, in pages that are there while they are used, so that a look-up costs the same beside any number of
/// others. A value is there from one store on until another.
pub(super) struct PortTable<T> {
    pages: [Option<Box<Page<T>>>; 65_536 / PAGE],
    used: usize,
}

fn place(port: u16) -> (usize, usize) {
    (usize::from(port) / PAGE, usize::from(port) % PAGE)
}

impl<T> Default for PortTable<T> {
    fn default() -> Self {
        PortTable { pages: [const { None }; 65_536 / PAGE], used: 0 }
    }
}

impl<T> PortTable<T> {
    pub(super) fn get(&self, port: u16) -> Option<&T> {
        let (page, at) = place(port);
        self.pages[page].as_ref()?.ports[at].as_deref()
    }

    pub(super) fn get_mut(&mut self, port: u16) -> Option<&mut T> {
        let (page, at) = place(port);
        self.pages[page].as_mut()?.ports[at].as_deref_mut()
    }

    /// Puts a value, or none, in the place of what was there.
    pub(super) fn set(&mut self, port: u16, value: Option<Box<T>>) {
        let (page, at) = place(port);
        if value.is_none() && self.pages[page].is_none() {
            return;
        }
        let there = self.pages[page].get_or_insert_with(|| Box::new(Page { ports: [const { None }; PAGE], used: 0 }));
        let more = usize::from(value.is_some());
        let old = core::mem::replace(&mut there.ports[at], value);
        let fewer = usize::from(old.is_some());
        there.used = there.used + more - fewer;
        self.used = self.used + more - fewer;
        if there.used == 0 {
            drop(self.pages[page].take());
        }
    }

    /// Ports that have a value.
    pub(super) fn len(&self) -> usize {
        self.used
    }
}

impl<T> Mend for PortTable<T> {
    fn mend(&mut self) {
        self.used = 0;
        for page in self.pages.iter_mut().flatten() {
            page.used = page.ports.iter().flatten().count();
            self.used += page.used;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_and_go_with_their_pages() {
        let mut table = PortTable::default();
        for port in (0..=u16::MAX).step_by(7) {
            table.set(port, Some(Box::new(port)));
        }
        assert_eq!(table.len(), 65_536usize.div_ceil(7));
        table.set(1, None);
        table.set(7, Some(Box::new(8)));
        *table.get_mut(14).unwrap() += 1;
        table.mend();
        assert_eq!((table.len(), table.get(1), table.get(7), table.get(14)), (9363, None, Some(&8), Some(&15)));
        for port in 0..=u16::MAX {
            table.set(port, None);
        }
        assert!(table.len() == 0 && table.pages.iter().all(Option::is_none));
    }
}
