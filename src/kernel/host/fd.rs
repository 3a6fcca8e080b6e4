//! Host descriptors. The whole sandbox shares one host descriptor table, so a number means the same
//! in every process; each belongs to exactly one kernel object, which closes it when dropped.

use crate::abi::linux;
use crate::arch;
use core::sync::atomic::{AtomicU64, Ordering};

static LIVE: AtomicU64 = AtomicU64::new(0);

/// An owned host descriptor.
#[derive(Debug)]
pub struct HostFd(i32);

impl HostFd {
    /// Takes ownership of the host descriptor `fd`.
    pub fn new(fd: i32) -> HostFd {
        LIVE.fetch_add(1, Ordering::Relaxed);
        HostFd(fd)
    }

    /// Its number, for a gate call.
    pub fn raw(&self) -> i32 {
        self.0
    }

    /// How many host descriptors the kernel owns now.
    pub fn live() -> u64 {
        LIVE.load(Ordering::Relaxed)
    }
}

impl Drop for HostFd {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the descriptor is ours and nobody uses it after this.
        unsafe { arch::syscall(linux::__NR_close, [self.0 as u64, 0, 0, 0, 0, 0]) };
    }
}
