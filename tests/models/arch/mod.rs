//! The kernel's `arch/words`, and the slot of the running thread.

pub mod words;

use crate::abi::slot::SlotHeader;

/// No thread of a model has a slot: each has its magazines at hand.
pub fn try_slot() -> Option<&'static SlotHeader> {
    None
}
