//! The kernel half of drupe.
//!
//! Rooms, top to bottom; `use` goes only downwards, rooms on one line do not use
//! each other (`tests/architecture.rs` checks it):
//!
//! ```text
//! boot  control
//! trap
//! entry
//! syscall
//! fs  net  ipc
//! tty
//! task
//! signal  vfs
//! mm  cred  time
//! sync
//! host  arena
//! arch
//! abi
//! ```
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_op_in_unsafe_fn)]

extern crate alloc;

pub mod abi;
pub mod arch;
#[cfg(feature = "kernel")]
pub mod arena;
#[cfg(feature = "kernel")]
pub mod boot;
#[cfg(feature = "kernel")]
pub mod control;
#[cfg(feature = "kernel")]
pub mod cred;
#[cfg(feature = "kernel")]
pub mod entry;
#[cfg(feature = "kernel")]
pub mod fs;
#[cfg(feature = "kernel")]
pub mod host;
#[cfg(feature = "kernel")]
pub mod ipc;
#[cfg(feature = "kernel")]
pub mod mm;
#[cfg(feature = "kernel")]
pub mod net;
#[cfg(feature = "kernel")]
pub mod signal;
#[cfg(feature = "kernel")]
pub mod sync;
#[cfg(feature = "kernel")]
pub mod syscall;
#[cfg(feature = "kernel")]
pub mod task;
#[cfg(feature = "kernel")]
pub mod time;
#[cfg(feature = "kernel")]
pub mod trap;
#[cfg(feature = "kernel")]
pub mod tty;
#[cfg(feature = "kernel")]
pub mod vfs;
