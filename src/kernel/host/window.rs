//! The window's memory file descriptor, and the sandbox's other standing host descriptors.

use crate::abi::layout::NAMING;
use crate::arch;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

static WINDOW_FD: AtomicI32 = AtomicI32::new(-1);
static PROC_FD: AtomicI32 = AtomicI32::new(-1);

static BROKER_FD: AtomicI32 = AtomicI32::new(-1);

/// Records the standing descriptors (at boot).
pub fn set(window_fd: i32, proc_fd: i32) {
    WINDOW_FD.store(window_fd, Relaxed);
    PROC_FD.store(proc_fd, Relaxed);
}

/// The window's memory file: offset in it = offset in the window.
pub fn fd() -> i32 {
    WINDOW_FD.load(Relaxed)
}

/// A directory descriptor of the host's `/proc`.
pub fn proc_fd() -> i32 {
    PROC_FD.load(Relaxed)
}

/// Records the broker's pipe (at boot).
pub fn set_broker(fd: i32) {
    BROKER_FD.store(fd, Relaxed);
}

/// The end of the broker's pipe that requests are written to; -1 where nothing is writable.
pub fn broker_fd() -> i32 {
    BROKER_FD.load(Relaxed)
}

static NAMES_BENEATH: AtomicBool = AtomicBool::new(false);

/// Records whether names of host files are looked up with the constants at [`NAMING`] alone (at boot).
pub fn set_naming(beneath: bool) {
    NAMES_BENEATH.store(beneath, Relaxed);
}

/// Where these constants lie ([`Naming`](crate::abi::control::Naming)), if names are looked up with them.
pub fn naming() -> Option<u64> {
    NAMES_BENEATH.load(Relaxed).then(|| arch::slot::window() + NAMING)
}
