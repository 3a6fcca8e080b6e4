//! The run from which all size classes get their first blocks, in small pieces.
//!
//! A kernel needs few blocks of each class at its start, and with a run for each class most of a page would lie
//! idle between them: but the host's fault for every page, in every process, is most of what a start costs.

use super::lock::Locked;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, compiler_fence};

/// Bytes of a piece, at least a block.
const PIECE: usize = 512;
/// Largest block: a larger one would leave gaps.
const BLOCK_MAX: usize = 1024;

pub struct Nursery {
    /// The part that was never handed out; zeros before there is one.
    fresh: Locked<(usize, usize)>,
    /// The run's address, 0 before there is one.
    run: AtomicU64,
}

impl Nursery {
    pub const fn new() -> Nursery {
        Nursery { fresh: Locked::new((0, 0)), run: AtomicU64::new(0) }
    }

    /// Address and number of blocks of `size` bytes that were never used; `None` once there are none. `make` makes
    /// the run, of `len` bytes, and returns its address or 0.
    pub fn piece(&self, size: usize, len: usize, make: impl FnOnce() -> usize) -> Option<(usize, usize)> {
        if size > BLOCK_MAX {
            return None;
        }
        self.fresh.steps(|(next, end)| {
            if *end == 0 {
                *next = make();
                self.run.store(*next as u64, Relaxed);
                compiler_fence(SeqCst);
                *end = if *next == 0 { 0 } else { *next + len };
            }
            // As in a run of their own, blocks of power-of-two classes lie at multiples of their size.
            let start = next.next_multiple_of(if size.is_power_of_two() { size } else { 16 });
            let count = (PIECE / size).max(1);
            if start + count * size > *end {
                return None;
            }
            *next = start + count * size;
            Some((start, count))
        })
    }

    /// Whether `run` is this one: its blocks are of several classes, so that it is never whole again.
    pub fn is(&self, run: u64) -> bool {
        self.run.load(Relaxed) == run
    }
}
