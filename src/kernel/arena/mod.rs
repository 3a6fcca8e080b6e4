//! The kernel heap: every `Box`, `Arc`, `Vec` and collection of the kernel lives here, shared by all
//! host processes of the sandbox.
//!
//! ```text
//! Heap (GlobalAlloc)
//!   small sizes: slab.rs   magazines in the running thread's slot, one depot with a lock per class
//!   large sizes: pages.rs  a buddy allocator over the heap's pages, one lock
//! ```
//!
//! A magazine is a short chain of free blocks that only its slot's thread touches; whole chains go
//! to and from the depot, so most allocations take no lock and an exchange is a few instructions
//! under one (Bonwick and Adams, "Magazines and Vmem"). They lie in the page of the slot's header,
//! which every new process faults in anyway, and stay with the slot when its thread ends, until there are many unused
//! slots ([`drain`]).
//!
//! Nothing here aborts for a guest's request: sizes that a guest chooses are asked for by
//! `try_reserve` and refused early (see [`Arena::alloc`]); whoever makes a new object asks
//! [`charge`] first; and a last part of the limit is kept for the small objects of calls that are
//! already under way.

mod charge;
pub mod lock;
mod nursery;
mod pages;
mod slab;
#[cfg(test)]
mod tests;

pub use charge::{Object, charge, charge_bytes};
pub use slab::recover;

use crate::abi::layout::{HEAP, HEAP_MAX};
use crate::abi::slot::SlotHeader;
use crate::abi::{Errno, Result};
use crate::arch::slot::window;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use pages::Pages;
use slab::{CLASSES, Depot, SMALL_MAX};

/// What may be larger than this is not taken from the last reserve: whoever asks for it can be
/// refused.
const MODEST: usize = 256 << 10;

/// The kernel's heap.
static KERNEL: Arena = Arena::new();

/// A heap over one region of memory.
pub struct Arena {
    pages: Pages,
    depots: [Depot; CLASSES.len()],
    orphans: slab::Shared,
}

/// What the heap holds, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// The most that may be taken.
    pub limit: u64,
    /// Taken from the page source.
    pub taken: u64,
    /// Of that, free blocks that wait in depots (not those in magazines).
    pub cached: u64,
}

/// The allocator that the image installs.
pub struct Heap;

/// Opens the heap with a limit in bytes (0: all of its address room).
pub fn init(limit: u64) {
    KERNEL.open(window() + HEAP, HEAP_MAX, limit);
}

/// The limit unless the sandbox says another, in bytes.
pub const DEFAULT_LIMIT: u64 = 1 << 30;

/// Changes the limit (0: the default). What is taken already stays.
pub fn set_limit(bytes: u64) {
    KERNEL.pages.set_limit(if bytes == 0 { DEFAULT_LIMIT } else { bytes.clamp(32 << 20, HEAP_MAX) });
}

/// Gives the free blocks that lie in the magazines of an unused slot to everybody.
///
/// # Safety
/// No thread runs on the slot, nor will one before this returns.
pub unsafe fn drain(slot: &SlotHeader) {
    // SAFETY: by the caller's promise.
    unsafe { slab::of(slot) }.drain(&KERNEL.depots, &KERNEL.pages);
}

/// Bytes in use.
pub fn in_use() -> u64 {
    let stats = stats();
    stats.taken - stats.cached.min(stats.taken)
}

/// Where what was ever taken begins and ends, addresses.
pub fn used() -> (u64, u64) {
    KERNEL.pages.used()
}

/// Blocks in use of each size, bytes and number; those that lie in the magazines of `slots` are none. What changes
/// meanwhile may be counted wrongly.
pub fn census<'a>(slots: impl Iterator<Item = &'a SlotHeader>) -> [(usize, u64); CLASSES.len()] {
    let mut all = core::array::from_fn(|class| (CLASSES[class], KERNEL.depots[class].out(class)));
    for slot in slots {
        for (class, (_, count)) in all.iter_mut().enumerate() {
            *count = count.saturating_sub(slab::held_by(slot, class));
        }
    }
    all
}

/// What the heap holds.
pub fn stats() -> Stats {
    KERNEL.stats()
}

impl Arena {
    /// A heap without memory.
    pub const fn new() -> Arena {
        Arena { pages: Pages::new(), depots: [const { Depot::new() }; CLASSES.len()], orphans: slab::Shared::new() }
    }

    /// Gives it the zeroed region of `len` bytes at `base`. Once, before anything is allocated.
    pub fn open(&self, base: u64, len: u64, limit: u64) {
        self.pages.open(base, len, limit);
    }

    /// Says no where `bytes` more would pass the soft limit.
    #[inline]
    fn room(&self, bytes: u64) -> Result {
        if self.pages.admits(bytes) { Ok(()) } else { self.make_room(bytes) }
    }

    #[cold]
    fn make_room(&self, bytes: u64) -> Result {
        self.scavenge();
        if self.pages.admits(bytes) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// What it holds.
    pub fn stats(&self) -> Stats {
        let cached = self.depots.iter().enumerate().map(|(class, d)| d.cached(class)).sum();
        Stats { limit: self.pages.limit(), taken: self.pages.taken(), cached }
    }

    /// Gives runs of which every block waits in a depot back to the page source.
    fn scavenge(&self) {
        for (class, depot) in self.depots.iter().enumerate() {
            depot.scavenge(class, &self.pages);
        }
    }

    /// As [`GlobalAlloc::alloc`]. Small and modest sizes may use the last reserve, larger ones are
    /// refused while there still is some: a size that a guest chose comes by `try_reserve`.
    pub fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.alloc_once(layout);
        if !block.is_null() {
            return block;
        }
        self.scavenge();
        self.alloc_once(layout)
    }

    #[inline]
    fn alloc_once(&self, layout: Layout) -> *mut u8 {
        if let Some(class) = slab::class_of(&layout) {
            return self.with_magazines(|m| m.alloc(class, &self.depots[class], &self.pages));
        }
        let size = layout.size().max(layout.align());
        match pages::order_of(size) {
            Some(order) => self.pages.alloc(order, size <= MODEST) as *mut u8,
            None => null_mut(),
        }
    }

    /// As [`GlobalAlloc::dealloc`].
    ///
    /// # Safety
    /// `block` came from this heap with the same layout and is used no more.
    pub unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(class) = slab::class_of(&layout) {
            // SAFETY: by the caller's promise, a block of this class.
            self.with_magazines(|m| unsafe { m.free(class, block, &self.depots[class], &self.pages) });
        } else if let Some(order) = pages::order_of(layout.size().max(layout.align())) {
            self.pages.free(block as u64, order);
        }
    }

    #[inline]
    fn with_magazines<T>(&self, f: impl FnOnce(&mut slab::Magazines) -> T) -> T {
        match slab::own() {
            Some(magazines) => f(magazines),
            None => self.orphans.with(f),
        }
    }
}

impl Default for Arena {
    fn default() -> Self {
        Arena::new()
    }
}

/// Whether both layouts are served by blocks of one size.
fn same_block(a: &Layout, b: &Layout) -> bool {
    match (slab::class_of(a), slab::class_of(b)) {
        (Some(x), Some(y)) => x == y,
        (None, None) => pages::order_of(a.size().max(a.align())) == pages::order_of(b.size().max(b.align())),
        _ => false,
    }
}

// SAFETY: blocks are disjoint, at least as large as asked for, and aligned: blocks of a class are
// multiples of 16 from a run's start; larger alignments take power-of-two blocks, which lie at
// multiples of their size.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    // SAFETY: the trait's declaration; every layout is served or refused.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        KERNEL.alloc(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: by the caller's promise.
        unsafe { KERNEL.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(new_size, layout.align()) else { return null_mut() };
        if same_block(&layout, &new) {
            return block;
        }
        let moved = KERNEL.alloc(new);
        if !moved.is_null() {
            // SAFETY: two live blocks of at least that many bytes; the old one is used no more.
            unsafe {
                core::ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                KERNEL.dealloc(block, layout);
            }
        }
        moved
    }
}

/// Largest size that a slab serves, for those who size their buffers by it.
pub const SLAB_MAX: usize = SMALL_MAX;
