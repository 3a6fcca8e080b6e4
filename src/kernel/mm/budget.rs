//! What a whole sandbox may have of memory, where it was told: the kernel's heap and memory file, which count what they
//! give, and what processes have of their own. That the host alone knows, who tells it now and then ([`measured`]).

use super::memfile;
use crate::abi::{Errno, Result};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);
/// What the processes had of their own when that was measured last, bytes.
static PRIVATE: AtomicU64 = AtomicU64::new(0);
/// What is not left to files, as of then: that, what the kernel took for itself, and a little for what it will take.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// What the kernel itself held when it was set up, which is not counted.
static BASE: AtomicU64 = AtomicU64::new(0);

/// Bounds the sandbox, in bytes (at the end of boot).
pub fn set(bytes: u64) {
    BASE.store(memfile::held(), Relaxed);
    LIMIT.store(bytes, Relaxed);
}

/// The bound in bytes, if there is one.
pub fn limit() -> Option<u64> {
    Some(LIMIT.load(Relaxed)).filter(|&n| n != u64::MAX)
}

/// What was not left to files when that was measured last, bytes.
pub fn taken() -> u64 {
    TAKEN.load(Relaxed)
}

/// Everything that is counted, bytes.
pub fn used() -> u64 {
    memfile::held().saturating_sub(BASE.load(Relaxed)) + PRIVATE.load(Relaxed)
}

/// Takes note of what processes have of their own, in bytes.
pub fn measured(private: u64) {
    PRIVATE.store(private, Relaxed);
    if let Some(limit) = limit() {
        let kernel = memfile::held().saturating_sub(BASE.load(Relaxed)).saturating_sub(memfile::in_use());
        TAKEN.store(private.saturating_add(kernel).saturating_add(limit / 32), Relaxed);
    }
}

/// Says no to `len` bytes that a program may write to and that can never all be there, as Linux does on a machine with
/// so much memory (`vm.overcommit_memory` 0 in `Documentation/mm/overcommit-accounting.rst`).
///
/// # Errors
/// `ENOMEM`.
#[inline]
pub fn admit(len: u64) -> Result {
    if len > LIMIT.load(Relaxed) { Err(Errno::ENOMEM) } else { Ok(()) }
}
