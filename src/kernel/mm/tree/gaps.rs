//! The highest free range among the spans of a tree, and what the last search found.

use super::{HEIGHT, NONE, Span, Tree};
use arrayvec::ArrayVec;

/// What a search for gaps found: no free range of `len` bytes ends behind `from` and not behind `top`.
#[derive(Clone, Copy)]
pub(super) struct Full {
    len: u64,
    from: u64,
    top: u64,
}

impl Full {
    /// Nothing is known.
    pub(super) const NOWHERE: Full = Full { len: u64::MAX, from: 0, top: 0 };
}

impl<T: Span> Tree<T> {
    /// What is free below `end` has become more: up to there, free ranges may end anywhere now.
    pub(super) fn freed(&mut self, end: u64) {
        if end > self.full.from {
            self.full = if end < self.full.top { Full { from: end, ..self.full } } else { Full::NOWHERE };
        }
    }

    /// No free range ends within a span.
    pub(super) fn taken(&mut self, start: u64, end: u64) {
        if (start..=end).contains(&self.full.from) {
            self.full.from = start;
        }
    }

    /// The highest free range of `len` bytes in `floor..top`.
    ///
    /// A subtree whose gaps are all too small, or that lies outside of `floor..top`, is left out at once; one within,
    /// whose largest gap is not too small, has the answer.
    pub fn gap_below(&mut self, top: u64, floor: u64, len: u64) -> Option<u64> {
        let known = len >= self.full.len && (self.full.from..=self.full.top).contains(&top);
        let limit = if known { self.full.from } else { top };
        let found = self.search(limit, floor, len)?;
        self.full = Full { len, from: found + len, top: if known { self.full.top } else { top } };
        Some(found)
    }

    /// As [`Tree::gap_below`], by looking.
    fn search(&self, top: u64, floor: u64, len: u64) -> Option<u64> {
        let fits = |low: u64, high: u64| {
            let (low, high) = (low.max(floor), high.min(top));
            (high >= low && high - low >= len).then(|| high - len)
        };
        if top <= self.low || top < floor {
            return fits(0, self.low);
        }
        if let Some(found) = fits(self.high, u64::MAX) {
            return Some(found);
        }
        // What is to be looked at, the highest last: subtrees, and nodes by themselves.
        let mut todo: ArrayVec<(u32, bool), { 2 * HEIGHT }> = ArrayVec::new();
        todo.push((self.root, true));
        while let Some((i, whole)) = todo.pop() {
            if i == NONE || self.gap(i) < len {
                continue;
            }
            let n = self.node(i);
            let below = n.start - n.before;
            if !whole {
                if let Some(found) = fits(below, n.start) {
                    return Some(found);
                }
            } else if n.start <= floor {
                todo.push((n.right, true));
            } else if below >= top {
                todo.push((n.left, true));
            } else {
                todo.extend([(n.left, true), (i, false), (n.right, true)]);
            }
        }
        fits(0, self.low)
    }

    /// Checks that what is remembered is as looking shows it.
    #[cfg(test)]
    pub(super) fn check_full(&self) {
        let Full { len, from, top } = self.full;
        if top > 0 && len < u64::MAX {
            assert!(self.search(top, 0, len).is_none_or(|at| at + len <= from));
        }
    }
}
