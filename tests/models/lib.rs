//! The kernel's own files, compiled against the atomics of `loom`. What they take from the kernel around them is here:
//! the futex of the host, and for the magazines the page source and the running thread's slot.
//!
//! `cargo test -p drupe-models --release` runs the models (`tests/`).

// The kernel's types are made in statics, and are no library's.
#![allow(clippy::new_without_default)]

pub mod arch;
pub mod arena;
pub mod futex;

/// What the magazines' file takes from the layout of a slot.
pub mod abi {
    /// See the kernel's `abi::slot`.
    pub mod slot {
        use std::sync::atomic::AtomicU32;

        /// The magazines lie in the model's own place.
        pub const MAGAZINES: usize = 0;
        /// There is room behind them.
        pub const HELD_LOCKS: usize = 4096;

        /// Places of a thread.
        pub mod place {
            /// In the guest.
            pub const GUEST: u32 = 0;
        }

        /// A slot, as far as the magazines know one.
        #[repr(C, align(4096))]
        pub struct SlotHeader {
            /// Room for the magazines.
            pub room: [u64; 512],
            /// Where its thread is.
            pub place: AtomicU32,
        }
    }
}
