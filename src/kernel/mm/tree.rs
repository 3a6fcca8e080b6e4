//! Spans of addresses (mappings, extents) by where they start: a balanced (AVL) tree whose subtrees know their largest gap, so that looking one
//! up, putting one in, taking one out and finding the highest free range all cost the logarithm of their number.
//!
//! Nodes lie in one vector and name each other by index; each takes one cache line, which is all that a step of a search
//! touches, and the spans lie in another. A node is only made after [`Tree::reserve`], which may be refused; nothing else
//! here allocates. Nothing recurses.

use crate::abi::{Errno, Result};
use alloc::vec::Vec;
use arrayvec::ArrayVec;

/// What a tree holds: a range of addresses, not empty.
pub trait Span {
    /// Its first address.
    fn start(&self) -> u64;
    /// One past its last.
    fn end(&self) -> u64;
}

/// No node.
const NONE: u32 = u32::MAX;
/// Height of a tree of 2^32 nodes, and some more.
const HEIGHT: usize = 48;

/// The nodes from the root to one, each with whether the way goes on to the right.
type Way = ArrayVec<(u32, bool), HEIGHT>;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Node {
    /// Those of its span.
    start: u64,
    end: u64,
    /// Of a free node the next free one.
    left: u32,
    right: u32,
    /// First address of the subtree.
    low: u64,
    /// One past the last.
    high: u64,
    /// Largest gap between two neighbours of the subtree.
    gap: u64,
    height: u8,
}

const _: () = assert!(size_of::<Node>() == 64);

/// See the module.
pub struct Tree<T> {
    nodes: Vec<Node>,
    /// The span of each node; `None` of a free one.
    spans: Vec<Option<T>>,
    root: u32,
    free: u32,
    len: usize,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Tree::new()
    }
}

impl<T> Tree<T> {
    /// An empty one.
    pub const fn new() -> Tree<T> {
        Tree { nodes: Vec::new(), spans: Vec::new(), root: NONE, free: NONE, len: 0 }
    }
}

impl<T: Span> Tree<T> {
    /// Number of spans.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Makes room for `n` more.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn reserve(&mut self, n: usize) -> Result {
        let free = self.nodes.len() - self.len;
        let more = n.saturating_sub(free);
        // Many trees stay at one span.
        let reserved = if self.nodes.is_empty() {
            self.nodes.try_reserve_exact(more).and_then(|()| self.spans.try_reserve_exact(more))
        } else {
            self.nodes.try_reserve(more).and_then(|()| self.spans.try_reserve(more))
        };
        reserved.map_err(|_| Errno::ENOMEM)
    }

    /// A copy of the spans that `keep` makes of each.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn try_copy(&self, mut keep: impl FnMut(&T) -> Option<T>) -> Result<Tree<T>> {
        let mut copy = Tree::default();
        copy.reserve(self.len)?;
        for v in self.from(0) {
            if let Some(v) = keep(v) {
                copy.insert(v);
            }
        }
        Ok(copy)
    }

    #[inline]
    fn node(&self, i: u32) -> &Node {
        &self.nodes[i as usize]
    }

    #[inline]
    fn node_mut(&mut self, i: u32) -> &mut Node {
        &mut self.nodes[i as usize]
    }

    fn span(&self, i: u32) -> &T {
        match &self.spans[i as usize] {
            Some(v) => v,
            None => unreachable!("a free node in a tree"),
        }
    }

    fn height(&self, i: u32) -> u8 {
        if i == NONE { 0 } else { self.node(i).height }
    }

    /// The span that holds `addr`, else the first one behind it.
    pub fn at_or_after(&self, addr: u64) -> Option<&T> {
        let (mut at, mut best) = (self.root, NONE);
        while at != NONE {
            if self.node(at).end > addr {
                best = at;
                at = self.node(at).left;
            } else {
                at = self.node(at).right;
            }
        }
        (best != NONE).then(|| self.span(best))
    }

    /// The last span that starts before `addr`, and the first that does not.
    pub fn around(&self, addr: u64) -> (Option<&T>, Option<&T>) {
        let (mut at, mut before, mut next) = (self.root, NONE, NONE);
        while at != NONE {
            if self.node(at).start < addr {
                before = at;
                at = self.node(at).right;
            } else {
                next = at;
                at = self.node(at).left;
            }
        }
        ((before != NONE).then(|| self.span(before)), (next != NONE).then(|| self.span(next)))
    }

    /// The last span that starts before `addr`.
    pub fn before(&self, addr: u64) -> Option<&T> {
        let (mut at, mut best) = (self.root, NONE);
        while at != NONE {
            if self.node(at).start < addr {
                best = at;
                at = self.node(at).right;
            } else {
                at = self.node(at).left;
            }
        }
        (best != NONE).then(|| self.span(best))
    }

    /// The spans in order, from the one that holds `addr` or the first one behind it.
    pub fn from(&self, addr: u64) -> Iter<'_, T> {
        let mut iter = Iter { tree: self, stack: ArrayVec::new() };
        let mut at = self.root;
        while at != NONE {
            if self.node(at).end > addr {
                iter.stack.push(at);
                at = self.node(at).left;
            } else {
                at = self.node(at).right;
            }
        }
        iter
    }

    /// Computes what a node knows of its subtree.
    fn update(&mut self, i: u32) {
        let Node { start, end, left, right, .. } = *self.node(i);
        let (mut low, mut high, mut gap) = (start, end, 0);
        if left != NONE {
            let l = self.node(left);
            low = l.low;
            gap = l.gap.max(start - l.high);
        }
        if right != NONE {
            let r = self.node(right);
            high = r.high;
            gap = gap.max(r.gap).max(r.low - end);
        }
        let height = 1 + self.height(left).max(self.height(right));
        let n = self.node_mut(i);
        (n.height, n.low, n.high, n.gap) = (height, low, high, gap);
    }

    fn rotate_right(&mut self, i: u32) -> u32 {
        let left = self.node(i).left;
        self.node_mut(i).left = self.node(left).right;
        self.node_mut(left).right = i;
        self.update(i);
        self.update(left);
        left
    }

    fn rotate_left(&mut self, i: u32) -> u32 {
        let right = self.node(i).right;
        self.node_mut(i).right = self.node(right).left;
        self.node_mut(right).left = i;
        self.update(i);
        self.update(right);
        right
    }

    /// Updates a node whose subtrees are balanced, and balances it; returns what stands in its place.
    fn balance(&mut self, i: u32) -> u32 {
        let Node { left, right, .. } = *self.node(i);
        let (l, r) = (self.height(left), self.height(right));
        if l > r + 1 {
            if self.height(self.node(left).left) < self.height(self.node(left).right) {
                let new = self.rotate_left(left);
                self.node_mut(i).left = new;
            }
            return self.rotate_right(i);
        }
        if r > l + 1 {
            if self.height(self.node(right).right) < self.height(self.node(right).left) {
                let new = self.rotate_right(right);
                self.node_mut(i).right = new;
            }
            return self.rotate_left(i);
        }
        self.update(i);
        i
    }

    /// What the nodes above one know of it.
    fn known(&self, i: u32) -> (u8, u64, u64, u64) {
        let n = self.node(i);
        (n.height, n.low, n.high, n.gap)
    }

    /// Puts `child` where `way` leads and mends everything on the way back to the root, as far as anything changes.
    fn retrace(&mut self, way: &mut Way, mut child: u32) {
        while let Some((i, right)) = way.pop() {
            if right {
                self.node_mut(i).right = child;
            } else {
                self.node_mut(i).left = child;
            }
            let before = self.known(i);
            child = self.balance(i);
            if child == i && self.known(i) == before {
                return;
            }
        }
        self.root = child;
    }

    /// The node of the span that starts at `start` (or none), and the way to it, or to where it would be.
    fn way_to(&self, start: u64, way: &mut Way) -> u32 {
        let mut at = self.root;
        while at != NONE {
            let here = self.node(at).start;
            if here == start {
                break;
            }
            way.push((at, here < start));
            at = if here < start { self.node(at).right } else { self.node(at).left };
        }
        at
    }

    /// The node of the span that starts at `start`.
    fn node_of(&self, start: u64) -> Option<u32> {
        let mut at = self.root;
        while at != NONE {
            let here = self.node(at).start;
            if here == start {
                return Some(at);
            }
            at = if here < start { self.node(at).right } else { self.node(at).left };
        }
        None
    }

    /// Puts a span in, for which there is room ([`Tree::reserve`]) and whose addresses are free.
    pub fn insert(&mut self, v: T) {
        let mut way = Way::new();
        let at = self.way_to(v.start(), &mut way);
        debug_assert!(at == NONE, "two spans at {:#x}", v.start());
        let (start, end) = (v.start(), v.end());
        let node = Node { start, end, left: NONE, right: NONE, low: start, high: end, gap: 0, height: 1 };
        let new = if self.free == NONE {
            debug_assert!(self.nodes.len() < self.nodes.capacity(), "no room was reserved");
            self.nodes.push(node);
            self.spans.push(Some(v));
            self.nodes.len() as u32 - 1
        } else {
            let new = self.free;
            self.free = self.node(new).left;
            *self.node_mut(new) = node;
            self.spans[new as usize] = Some(v);
            new
        };
        self.len += 1;
        self.retrace(&mut way, new);
    }

    /// Takes out the span that starts at `start`.
    pub fn remove(&mut self, start: u64) -> Option<T> {
        let mut way = Way::new();
        let at = self.way_to(start, &mut way);
        if at == NONE {
            return None;
        }
        let Node { left, right, .. } = *self.node(at);
        let (gone, child) = if left == NONE {
            (at, right)
        } else if right == NONE {
            (at, left)
        } else {
            // The next one takes its place; that one has nothing to its left.
            way.push((at, true));
            let mut next = right;
            while self.node(next).left != NONE {
                way.push((next, false));
                next = self.node(next).left;
            }
            self.spans.swap(at as usize, next as usize);
            let Node { start, end, .. } = *self.node(next);
            let node = self.node_mut(at);
            (node.start, node.end) = (start, end);
            (next, self.node(next).right)
        };
        let free = self.free;
        let node = self.node_mut(gone);
        node.left = free;
        let removed = self.spans[gone as usize].take();
        self.free = gone;
        self.len -= 1;
        self.retrace(&mut way, child);
        removed
    }

    /// Changes the span that starts at `start`, which must stay between its neighbours.
    pub fn change(&mut self, start: u64, f: impl FnOnce(&mut T)) {
        let Some(at) = self.node_of(start) else { return };
        let Some(v) = &mut self.spans[at as usize] else { return };
        let before = (v.start(), v.end());
        f(v);
        let now = (v.start(), v.end());
        if now != before {
            let node = self.node_mut(at);
            (node.start, node.end) = now;
            let mut way = Way::new();
            self.way_to(now.0, &mut way);
            let known = self.known(at);
            self.update(at);
            if self.known(at) != known {
                self.retrace(&mut way, at);
            }
        }
    }

    /// The highest free range of `len` bytes in `floor..top`.
    ///
    /// Each step looks at a subtree and at the bounds of what is free beside it. One whose gaps are all too small is
    /// left out at once, and one within `floor..top` whose largest gap is not too small has the answer.
    pub fn gap_below(&self, top: u64, floor: u64, len: u64) -> Option<u64> {
        let fits = |low: u64, high: u64| {
            let (low, high) = (low.max(floor), high.min(top));
            (high >= low && high - low >= len).then(|| high - len)
        };
        // Subtrees to be looked at, the highest one last, with where the span below each ends and the one above
        // it starts.
        let mut todo: ArrayVec<(u32, u64, u64), HEIGHT> = ArrayVec::new();
        todo.push((self.root, 0, u64::MAX));
        while let Some((i, low, high)) = todo.pop() {
            if i == NONE {
                if let Some(found) = fits(low, high) {
                    return Some(found);
                }
                continue;
            }
            let n = self.node(i);
            if n.gap < len && fits(low, n.low).is_none() && fits(n.high, high).is_none() || high <= floor || low >= top
            {
                continue;
            }
            todo.push((n.left, low, n.start));
            todo.push((n.right, n.end, high));
        }
        None
    }
}

/// Spans in order.
pub struct Iter<'a, T> {
    tree: &'a Tree<T>,
    stack: ArrayVec<u32, HEIGHT>,
}

impl<'a, T: Span> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let i = self.stack.pop()?;
        let mut at = self.tree.node(i).right;
        while at != NONE {
            self.stack.push(at);
            at = self.tree.node(at).left;
        }
        Some(self.tree.span(i))
    }
}

#[cfg(test)]
impl<T: Span> Tree<T> {
    /// Checks order, balance and what each node knows.
    pub fn check(&self) {
        fn walk<T: Span>(t: &Tree<T>, i: u32) -> usize {
            if i == NONE {
                return 0;
            }
            let n = t.node(i);
            assert_eq!((n.start, n.end), (t.span(i).start(), t.span(i).end()));
            let (low, high, gap, height) = (n.low, n.high, n.gap, n.height);
            let (l, r) = (t.height(n.left), t.height(n.right));
            assert!(l.abs_diff(r) <= 1, "balance");
            assert_eq!(height, 1 + l.max(r));
            let mut copy = (t.span(i).start(), t.span(i).end(), 0);
            if n.left != NONE {
                let l = t.node(n.left);
                assert!(l.high <= t.span(i).start(), "order");
                copy = (l.low, copy.1, l.gap.max(t.span(i).start() - l.high));
            }
            if n.right != NONE {
                let r = t.node(n.right);
                assert!(r.low >= t.span(i).end(), "order");
                copy = (copy.0, r.high, copy.2.max(r.gap).max(r.low - t.span(i).end()));
            }
            assert_eq!((low, high, gap), copy);
            1 + walk(t, n.left) + walk(t, n.right)
        }
        assert_eq!(walk(self, self.root), self.len);
    }
}
