//! Bytes and calls of reading and writing, for `/proc/PID/io` (`struct task_io_accounting`).

use super::{Task, ThreadGroup};
use crate::arch;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes read and written, calls of reading and of writing.
#[derive(Debug, Default)]
pub struct IoCount([AtomicU64; 4]);

/// What a call did.
#[derive(Clone, Copy)]
pub enum Io {
    /// It read.
    Read,
    /// It wrote.
    Wrote,
}

impl IoCount {
    /// What was counted, in that order.
    pub fn all(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|i: usize| self.0[i].load(Relaxed))
    }

    /// Adds what a thread that ends did.
    pub fn add(&self, of: &IoCount) {
        for (to, from) in self.0.iter().zip(&of.0) {
            to.fetch_add(from.load(Relaxed), Relaxed);
        }
    }
}

/// Counts a call of the running thread that moved `bytes`.
#[inline(always)]
pub fn count(io: Io, bytes: usize) {
    let task = arch::slot().task.load(Relaxed) as *const Task;
    if task.is_null() {
        return;
    }
    // SAFETY: the slot owns a reference to its task for as long as its thread makes calls.
    let counts = unsafe { &(*task).io.0 };
    // No other thread writes them.
    let add = |at: usize, n: u64| counts[at].store(counts[at].load(Relaxed).wrapping_add(n), Relaxed);
    add(io as usize, bytes as u64);
    add(io as usize + 2, 1);
}

/// What a process did, or one thread of it.
pub fn total(task: &Task, whole: bool) -> [u64; 4] {
    if !whole {
        return task.io.all();
    }
    let group: &ThreadGroup = &task.group;
    let mut sum = group.io.all();
    for task in group.state.lock().tasks.iter() {
        sum.iter_mut().zip(task.io.all()).for_each(|(to, n)| *to = to.wrapping_add(n));
    }
    sum
}
