//! See the kernel's module of the same name.

/// In the place of the processor's.
pub mod atomic {
    pub use loom::sync::atomic::{AtomicU32, Ordering};
}

#[path = "../../../../src/kernel/arch/words/owned.rs"]
pub mod owned;
#[path = "../../../../src/kernel/arch/words/shared.rs"]
pub mod shared;
#[path = "../../../../src/kernel/arch/words/sleep.rs"]
mod sleep;
#[path = "../../../../src/kernel/arch/words/slept.rs"]
pub mod slept;

pub use sleep::{ALL, Sleep};
