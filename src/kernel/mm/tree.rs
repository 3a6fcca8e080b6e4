//! Spans of addresses (mappings, extents) by where they start: a balanced (AVL) tree that looks one up, puts one in, takes
//! one out and finds the highest free range in the logarithm of their number.
//!
//! Each node knows the gap before its span, and the largest of those in its subtree. What is free before the first span and
//! behind the last is nobody's gap: it changes with each mapping that is made at the lowest address, and every node above
//! would have to be told. So a change touches the span's own node and the next one's, and their ancestors only as far as
//! the largest gap changes. Two things are remembered from one use to the next, since programs mostly map and unmap at one
//! place: the node that was changed last, and where the last search for a gap ended.
//!
//! Nodes lie in one vector and name each other by index; each takes one cache line, which is all that a step of a search
//! touches, and the spans lie in another. A node is only made after [`Tree::reserve`], which may be refused; nothing else
//! here allocates. Nothing recurses.

mod gaps;

use self::gaps::Full;
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

/// Where a new span goes ([`Tree::spot`]); void after any change of the tree.
pub struct Spot(Way);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Node {
    /// Those of its span.
    start: u64,
    end: u64,
    /// Of a free node the next free one.
    left: u32,
    right: u32,
    /// Bytes between the end of the span before and the start of this one; 0 for the first span.
    before: u64,
    /// Largest `before` of the subtree.
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
    /// Where the first span starts and the last one ends; of an empty tree `u64::MAX` and 0.
    low: u64,
    high: u64,
    /// The node that was changed last, or `NONE`.
    finger: u32,
    full: Full,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Tree::new()
    }
}

impl<T> Tree<T> {
    /// An empty one.
    pub const fn new() -> Tree<T> {
        Tree {
            nodes: Vec::new(),
            spans: Vec::new(),
            root: NONE,
            free: NONE,
            len: 0,
            low: u64::MAX,
            high: 0,
            finger: NONE,
            full: Full::NOWHERE,
        }
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

    /// The node that was changed last, if that is the one that holds `addr`, else the first one behind it.
    fn near(&self, addr: u64) -> Option<u32> {
        if self.finger == NONE {
            return None;
        }
        let n = self.node(self.finger);
        (addr < n.end && (addr >= n.start - n.before || n.start == self.low)).then_some(self.finger)
    }

    /// The span that holds `addr`, else the first one behind it.
    pub fn at_or_after(&self, addr: u64) -> Option<&T> {
        if let Some(near) = self.near(addr) {
            return Some(self.span(near));
        }
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
        Iter { tree: self, near: self.near(addr), from: addr, stack: None }
    }

    /// The largest gap of a subtree.
    fn gap(&self, i: u32) -> u64 {
        if i == NONE { 0 } else { self.node(i).gap }
    }

    /// Computes what a node knows of its subtree.
    fn update(&mut self, i: u32) {
        let Node { left, right, before, .. } = *self.node(i);
        let gap = before.max(self.gap(left)).max(self.gap(right));
        let height = 1 + self.height(left).max(self.height(right));
        let n = self.node_mut(i);
        (n.height, n.gap) = (height, gap);
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

    /// Puts `child` where `way` leads and mends everything on the way back to the root, as far as anything changes, but
    /// at least the nodes behind the first `sure` of the way.
    fn retrace(&mut self, way: &mut Way, mut child: u32, sure: usize) {
        while let Some((i, right)) = way.pop() {
            let n = self.node_mut(i);
            if right {
                n.right = child;
            } else {
                n.left = child;
            }
            let before = (n.height, n.gap);
            child = self.balance(i);
            let n = self.node(child);
            if child == i && (n.height, n.gap) == before && way.len() <= sure {
                return;
            }
        }
        self.root = child;
    }

    /// The last node of `way` from which it goes to the left (else to the right): the neighbour behind (before) everything
    /// below the way's end. And how many nodes come before it.
    fn turn(&self, way: &Way, right: bool) -> Option<(usize, u32)> {
        way.iter().enumerate().rev().find(|(_, step)| step.1 == right).map(|(at, step)| (at, step.0))
    }

    /// The node of the span after `at`'s, to which `way` leads, and how many nodes of the way come before both. `way` goes on
    /// to the next one where that lies below.
    fn way_to_next(&self, way: &mut Way, at: u32) -> Option<(usize, u32)> {
        let mut next = self.node(at).right;
        if next == NONE {
            return self.turn(way, false);
        }
        let sure = way.len();
        way.push((at, true));
        while self.node(next).left != NONE {
            way.push((next, false));
            next = self.node(next).left;
        }
        Some((sure, next))
    }

    /// Looks up the first span's start and the last one's end after a change there.
    fn find_bounds(&mut self) {
        let (mut first, mut last) = (self.root, self.root);
        (self.low, self.high) = (u64::MAX, 0);
        while first != NONE {
            self.low = self.node(first).start;
            first = self.node(first).left;
        }
        while last != NONE {
            self.high = self.node(last).end;
            last = self.node(last).right;
        }
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

    /// Where a span that starts at `start`, where none does, is to be put in.
    pub fn spot(&self, start: u64) -> Spot {
        let mut way = Way::new();
        let at = self.way_to(start, &mut way);
        debug_assert!(at == NONE, "two spans at {start:#x}");
        Spot(way)
    }

    /// The spans before and after a spot.
    pub fn beside(&self, spot: &Spot) -> (Option<&T>, Option<&T>) {
        let neighbour = |right| self.turn(&spot.0, right).map(|(_, i)| self.span(i));
        (neighbour(true), neighbour(false))
    }

    /// Puts a span in, for which there is room ([`Tree::reserve`]) and whose addresses are free.
    pub fn insert(&mut self, v: T) {
        let spot = self.spot(v.start());
        self.insert_at(spot, v);
    }

    /// As [`Tree::insert`], where the spot for its start is known.
    pub fn insert_at(&mut self, spot: Spot, v: T) {
        let mut way = spot.0;
        let (start, end) = (v.start(), v.end());
        let before = self.turn(&way, true).map_or(0, |(_, i)| start - self.node(i).end);
        let mut sure = way.len();
        if let Some((at, next)) = self.turn(&way, false) {
            let next = self.node_mut(next);
            next.before = next.start - end;
            sure = at;
        }
        let node = Node { start, end, left: NONE, right: NONE, before, gap: before, height: 1 };
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
        (self.low, self.high) = (self.low.min(start), self.high.max(end));
        self.finger = new;
        self.taken(start, end);
        self.retrace(&mut way, new, sure);
    }

    /// Takes out the span that starts at `start`.
    pub fn remove(&mut self, start: u64) -> Option<T> {
        let mut way = Way::new();
        let at = self.way_to(start, &mut way);
        if at == NONE {
            return None;
        }
        let Node { left, right, start, end, before, .. } = *self.node(at);
        // The gap before the next span is all from the span before this one.
        let first = left == NONE && self.turn(&way, true).is_none();
        let joined = |next: &Node| if first { 0 } else { before + (next.start - start) };
        let mut sure = way.len();
        self.finger = NONE;
        let (gone, child) = if left == NONE || right == NONE {
            // In a balanced tree, an only child is a leaf.
            let next = if right == NONE { self.turn(&way, false) } else { Some((sure, right)) };
            if let Some((position, next)) = next {
                self.node_mut(next).before = joined(self.node(next));
                (sure, self.finger) = (position, next);
                if next == right {
                    self.update(next);
                }
            }
            (at, if left == NONE { right } else { left })
        } else {
            // The next one takes its place; that one has nothing to its left.
            way.push((at, true));
            let mut next = right;
            while self.node(next).left != NONE {
                way.push((next, false));
                next = self.node(next).left;
            }
            self.spans.swap(at as usize, next as usize);
            let before = joined(self.node(next));
            let Node { start, end, .. } = *self.node(next);
            let node = self.node_mut(at);
            (node.start, node.end, node.before) = (start, end, before);
            self.finger = at;
            (next, self.node(next).right)
        };
        let free = self.free;
        let node = self.node_mut(gone);
        node.left = free;
        let removed = self.spans[gone as usize].take();
        self.free = gone;
        self.len -= 1;
        self.retrace(&mut way, child, sure);
        if start == self.low || end == self.high {
            self.find_bounds();
        }
        self.freed(if self.finger == NONE { u64::MAX } else { self.node(self.finger).start });
        removed
    }

    /// Changes the span that starts at `start`, which must stay between its neighbours.
    pub fn change(&mut self, start: u64, f: impl FnOnce(&mut T)) {
        let Some(at) = self.node_of(start) else { return };
        let Some(v) = &mut self.spans[at as usize] else { return };
        let before = (v.start(), v.end());
        f(v);
        let now = (v.start(), v.end());
        if now == before {
            return;
        }
        let first = before.0 == self.low;
        let node = self.node_mut(at);
        (node.start, node.end) = now;
        if !first {
            node.before = (node.before + now.0) - before.0;
        }
        let mut way = Way::new();
        self.way_to(now.0, &mut way);
        let mut sure = way.len();
        let mut child = at;
        self.finger = at;
        if now.0 > before.0 {
            self.freed(now.0);
        }
        if now.1 != before.1 {
            let mut behind = u64::MAX;
            if let Some((position, next)) = self.way_to_next(&mut way, at) {
                let n = self.node_mut(next);
                n.before = n.start - now.1;
                behind = n.start;
                sure = position;
                if self.node(at).right != NONE {
                    child = next;
                }
            }
            if now.1 < before.1 {
                self.freed(behind);
            }
        }
        self.taken(now.0, now.1);
        self.update(child);
        self.retrace(&mut way, child, sure);
        if first || before.1 == self.high {
            self.find_bounds();
        }
    }
}

/// Spans in order. Most want one only: the way to the next is looked up when it is asked for.
pub struct Iter<'a, T> {
    tree: &'a Tree<T>,
    /// The first one, if it is known.
    near: Option<u32>,
    /// Where the others begin.
    from: u64,
    stack: Option<ArrayVec<u32, HEIGHT>>,
}

impl<T> Iter<'_, T> {
    /// Puts onto the stack what lies to the left of `at` and holds or follows `from`.
    fn descend(&mut self, mut at: u32) {
        let (tree, from) = (self.tree, self.from);
        let stack = self.stack.get_or_insert_default();
        while at != NONE {
            let n = &tree.nodes[at as usize];
            at = if n.end > from {
                stack.push(at);
                n.left
            } else {
                n.right
            };
        }
    }
}

impl<'a, T: Span> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        if let Some(near) = self.near.take() {
            self.from = self.tree.node(near).end;
            return Some(self.tree.span(near));
        }
        if self.stack.is_none() {
            self.descend(self.tree.root);
        }
        let i = self.stack.as_mut()?.pop()?;
        self.descend(self.tree.node(i).right);
        Some(self.tree.span(i))
    }
}

#[cfg(test)]
impl<T: Span> Tree<T> {
    /// Checks order, balance and what each node knows.
    pub fn check(&self) {
        /// Returns the number of nodes; `last`: the end of the span before the subtree, then of its last.
        fn walk<T: Span>(t: &Tree<T>, i: u32, last: &mut Option<u64>) -> usize {
            if i == NONE {
                return 0;
            }
            let n = t.node(i);
            assert_eq!((n.start, n.end), (t.span(i).start(), t.span(i).end()));
            let (l, r) = (t.height(n.left), t.height(n.right));
            assert!(l.abs_diff(r) <= 1, "balance");
            assert_eq!(n.height, 1 + l.max(r));
            let below = walk(t, n.left, last);
            assert!(last.is_none_or(|last| last <= n.start), "order");
            assert_eq!(n.before, last.map_or(0, |last| n.start - last));
            assert_eq!(n.gap, n.before.max(t.gap(n.left)).max(t.gap(n.right)));
            *last = Some(n.end);
            1 + below + walk(t, n.right, last)
        }
        let mut last = None;
        assert_eq!(walk(self, self.root, &mut last), self.len);
        assert_eq!(self.high, last.unwrap_or(0));
        assert_eq!(self.low, self.from(0).next().map_or(u64::MAX, Span::start));
        self.check_full();
    }
}
