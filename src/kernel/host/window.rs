//! The window's memory file descriptor, and the sandbox's other standing host descriptors.

use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

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
