//! An interval tree: which ranges overlap a given one, in time that grows with the logarithm of their
//! number. A treap in one vector, ordered by first byte and owner, each node with the last end below it.
//! It recurses as deep as the tree is, some two times the logarithm of its size: priorities are random.

use super::Owner;
use crate::abi::{Errno, Result};
use alloc::vec::Vec;

const NIL: u32 = u32::MAX;

/// A range `start..end` of an owner.
#[derive(Clone, Copy, Debug)]
struct Node {
    start: u64,
    end: u64,
    owner: Owner,
    /// The largest `end` of this node and those below it.
    max: u64,
    priority: u32,
    left: u32,
    right: u32,
}

/// See the module.
pub struct IntervalTree {
    nodes: Vec<Node>,
    /// Nodes that are not in use, linked by `left`.
    free: u32,
    root: u32,
    seed: u32,
}

impl Default for IntervalTree {
    fn default() -> Self {
        let seed = crate::host::random::next_u64() as u32 | 1;
        IntervalTree { nodes: Vec::new(), free: NIL, root: NIL, seed }
    }
}

impl IntervalTree {
    /// Makes room for `more` ranges, which can then be inserted without memory.
    ///
    /// # Errors
    /// `ENOLCK`.
    pub fn reserve(&mut self, more: usize) -> Result {
        self.nodes.try_reserve(more).map_err(|_| Errno::ENOLCK)
    }

    /// Enters a range; there is room for it ([`IntervalTree::reserve`]).
    pub fn insert(&mut self, start: u64, end: u64, owner: Owner) {
        // xorshift32.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        let node = Node { start, end, owner, max: end, priority: self.seed, left: NIL, right: NIL };
        let at = if self.free == NIL {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        } else {
            let at = self.free;
            self.free = self.node(at).left;
            self.nodes[at as usize] = node;
            at
        };
        let (less, more) = self.split(self.root, (start, owner), false);
        let less = self.merge(less, at);
        self.root = self.merge(less, more);
    }

    /// Takes out the range of `owner` that begins at `start`.
    pub fn remove(&mut self, start: u64, owner: Owner) {
        let (less, rest) = self.split(self.root, (start, owner), false);
        let (gone, more) = self.split(rest, (start, owner), true);
        if gone != NIL {
            self.nodes[gone as usize].left = self.free;
            self.free = gone;
        }
        self.root = self.merge(less, more);
    }

    /// Calls `look(start, end, owner)` for each range that overlaps `start..end`, by first byte, until it
    /// says `false`.
    pub fn overlapping(&self, start: u64, end: u64, look: &mut dyn FnMut(u64, u64, Owner) -> bool) {
        self.visit(self.root, start, end, look);
    }

    fn visit(&self, at: u32, start: u64, end: u64, look: &mut dyn FnMut(u64, u64, Owner) -> bool) -> bool {
        if at == NIL {
            return true;
        }
        let n = self.node(at);
        if n.max <= start {
            return true;
        }
        if !self.visit(n.left, start, end, look) {
            return false;
        }
        if n.start >= end {
            return true;
        }
        if n.end > start && !look(n.start, n.end, n.owner) {
            return false;
        }
        self.visit(n.right, start, end, look)
    }

    fn node(&self, at: u32) -> Node {
        self.nodes[at as usize]
    }

    fn max(&self, at: u32) -> u64 {
        if at == NIL { 0 } else { self.node(at).max }
    }

    fn update(&mut self, at: u32) {
        let n = self.node(at);
        self.nodes[at as usize].max = n.end.max(self.max(n.left)).max(self.max(n.right));
    }

    /// Those before `key` and those from it on; `with`: `key` itself belongs to the former.
    fn split(&mut self, at: u32, key: (u64, Owner), with: bool) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        let n = self.node(at);
        let own = (n.start, n.owner);
        if own < key || with && own == key {
            let (less, more) = self.split(n.right, key, with);
            self.nodes[at as usize].right = less;
            self.update(at);
            (at, more)
        } else {
            let (less, more) = self.split(n.left, key, with);
            self.nodes[at as usize].left = more;
            self.update(at);
            (less, at)
        }
    }

    /// Puts together two trees, the first all before the second.
    fn merge(&mut self, less: u32, more: u32) -> u32 {
        if less == NIL || more == NIL {
            return if less == NIL { more } else { less };
        }
        let (l, m) = (self.node(less), self.node(more));
        if l.priority > m.priority {
            let right = self.merge(l.right, more);
            self.nodes[less as usize].right = right;
            self.update(less);
            less
        } else {
            let left = self.merge(less, m.left);
            self.nodes[more as usize].left = left;
            self.update(more);
            more
        }
    }
}
