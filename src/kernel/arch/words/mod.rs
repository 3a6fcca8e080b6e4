//! The words that threads of several processes wait on, as protocols: who may store what, and who has to be woken.
//!
//! Locks and sleeps of the rooms above are made of these. Nothing here knows of the host, of slots or of lock order:
//! [`Sleep`] says how a thread sleeps on a word. `tests/models` compiles the same files against the atomics of `loom`,
//! which runs them through all orders that the memory model allows.

/// The atomics that the protocols use; the models have others of the same names.
pub mod atomic {
    pub use core::sync::atomic::{AtomicU32, Ordering};
}

pub mod owned;
pub mod shared;
mod sleep;
pub mod slept;

pub use sleep::{ALL, Sleep};
