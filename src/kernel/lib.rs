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
pub mod arena;
pub mod boot;
pub mod control;
pub mod cred;
pub mod entry;
pub mod fs;
pub mod host;
pub mod ipc;
pub mod mm;
pub mod net;
pub mod signal;
pub mod sync;
pub mod syscall;
pub mod task;
pub mod time;
pub mod trap;
pub mod vfs;
