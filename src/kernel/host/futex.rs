//! The host's futex, on words of the window (shared by all processes).

use crate::abi::{Errno, Result, linux};
use crate::arch;
use core::sync::atomic::AtomicU32;

/// Sleeps while `word` holds `expected`, at most until `deadline` (the sandbox's monotonic clock, ns).
///
/// # Errors
/// `EAGAIN` if the word differs, `ETIMEDOUT`, `EINTR`.
pub fn wait(word: &AtomicU32, expected: u32, deadline: Option<u64>) -> Result {
    let ts = deadline.map(super::time::host_deadline).map(|ns| linux::__kernel_timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    });
    let ts_ptr = ts.as_ref().map_or(0, |t| core::ptr::from_ref(t) as u64);
    // FUTEX_WAIT_BITSET takes an absolute time on the monotonic clock.
    let op = u64::from(linux::FUTEX_WAIT_BITSET);
    // SAFETY: the word is live kernel memory and the timespec outlives the call.
    let ret = unsafe {
        arch::syscall(
            linux::__NR_futex,
            [word.as_ptr() as u64, op, u64::from(expected), ts_ptr, 0, u64::from(u32::MAX)],
        )
    };
    Errno::check(ret).map(drop)
}

/// Wakes at most `n` sleepers of `word`.
pub fn wake(word: &AtomicU32, n: u32) {
    // SAFETY: FUTEX_WAKE only looks the address up.
    unsafe {
        arch::syscall(linux::__NR_futex, [word.as_ptr() as u64, u64::from(linux::FUTEX_WAKE), u64::from(n), 0, 0, 0]);
    }
}
