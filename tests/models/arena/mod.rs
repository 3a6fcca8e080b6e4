//! The kernel's `arena/slab.rs`, over a page source that hands out one run after the other.

pub mod lock;
pub mod pages;
#[path = "../../../src/kernel/arena/slab.rs"]
pub mod slab;
