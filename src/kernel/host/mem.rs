//! Host memory calls: mappings of the running process, and the window's memory file.

use super::window;
use crate::abi::layout::{END, GUARD, TASK_SIZE};
use crate::abi::{Errno, Result, linux};
use crate::arch;

const PAGE: u64 = 4096;

fn call(nr: u32, a: [u64; 6]) -> Result<u64> {
    // SAFETY: callers are `mm` and the memory file, which only name guest ranges and file ranges.
    Errno::check(unsafe { arch::syscall(nr, a) })
}

/// Gives the pages of a range of the window's file back; they read as zeros afterwards.
pub fn punch(offset: u64, len: u64) {
    let mode = u64::from(linux::FALLOC_FL_PUNCH_HOLE | linux::FALLOC_FL_KEEP_SIZE);
    let _ = call(linux::__NR_fallocate, [window::fd() as u64, mode, offset, len, 0, 0]);
}

/// Bytes of memory that the window's file holds.
pub fn window_usage() -> u64 {
    let mut st = core::mem::MaybeUninit::<linux::stat>::zeroed();
    let ret = call(linux::__NR_fstat, [window::fd() as u64, st.as_mut_ptr() as u64, 0, 0, 0, 0]);
    // SAFETY: zeroed or filled by the host.
    let st = unsafe { st.assume_init() };
    if ret.is_ok() { st.st_blocks as u64 * 512 } else { 0 }
}

/// The next populated page (`data`) or hole of the window's file from `offset` on. Nothing else uses
/// that descriptor's position.
///
/// # Errors
/// `ENXIO` if nothing follows.
pub fn window_seek(offset: u64, data: bool) -> Result<u64> {
    let whence = if data { linux::SEEK_DATA } else { linux::SEEK_HOLE };
    call(linux::__NR_lseek, [window::fd() as u64, offset, u64::from(whence), 0, 0, 0])
}

/// `mmap`. `flags` must place the mapping (`MAP_FIXED` or `MAP_FIXED_NOREPLACE`).
///
/// # Errors
/// The host's.
pub fn mmap(addr: u64, len: u64, prot: u32, flags: u32, fd: i32, offset: u64) -> Result<u64> {
    call(linux::__NR_mmap, [addr, len, u64::from(prot), u64::from(flags), fd as i64 as u64, offset])
}

/// Puts a page of the process's own in the place of one of the window's that nobody but guests read, with these bytes at
/// its beginning.
///
/// # Errors
/// The host's.
pub fn own_page(at: u64, bytes: &[u8]) -> Result {
    let flags = linux::MAP_FIXED | linux::MAP_PRIVATE | linux::MAP_ANONYMOUS;
    let len = PAGE.min(bytes.len() as u64) as usize;
    mmap(at, PAGE, linux::PROT_READ | linux::PROT_WRITE, flags, -1, 0)?;
    // SAFETY: the page was mapped just now, for this process alone, and the bytes fit.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, len) };
    mprotect(at, PAGE, linux::PROT_READ)
}

/// `munmap`.
///
/// # Errors
/// The host's.
pub fn munmap(addr: u64, len: u64) -> Result {
    call(linux::__NR_munmap, [addr, len, 0, 0, 0, 0]).map(drop)
}

/// Unmaps everything of the running process but the kernel window.
///
/// # Errors
/// The host's.
pub fn unmap_guest() -> Result {
    let base = arch::slot::window();
    let end = base + END + GUARD;
    munmap(0, base)?;
    munmap(end, TASK_SIZE - end)
}

/// Runs `f`, in which a forked child gets nothing of the running process but the kernel window: what it would
/// only unmap need not be copied, and this process keeps what it writes to as its own.
pub fn forking_the_window<T>(f: impl FnOnce() -> T) -> T {
    let base = arch::slot::window();
    let end = base + END + GUARD;
    let all = |advice: u32| {
        for (start, len) in [(0, base), (end, TASK_SIZE - end)] {
            // ENOMEM: there are gaps.
            let _ = madvise(start, len, advice as i32);
        }
    };
    all(linux::MADV_DONTFORK);
    let result = f();
    all(linux::MADV_DOFORK);
    result
}

/// `mprotect`.
///
/// # Errors
/// The host's.
pub fn mprotect(addr: u64, len: u64, prot: u32) -> Result {
    call(linux::__NR_mprotect, [addr, len, u64::from(prot), 0, 0, 0]).map(drop)
}

/// `mremap` to a place that `mm` chose.
///
/// # Errors
/// The host's.
pub fn mremap(old: u64, old_len: u64, new_len: u64, flags: u32, new: u64) -> Result<u64> {
    call(linux::__NR_mremap, [old, old_len, new_len, u64::from(flags), new, 0])
}

/// `madvise`.
///
/// # Errors
/// The host's.
pub fn madvise(addr: u64, len: u64, advice: i32) -> Result {
    call(linux::__NR_madvise, [addr, len, advice as u64, 0, 0, 0]).map(drop)
}

/// Puts a range of the window, whole [`HUGE`] pages, into huge pages, whatever the host's policy for them
/// is: every process of the sandbox then faults it in once.
///
/// # Errors
/// The host's, where it cannot.
pub fn collapse(addr: u64, len: u64) -> Result {
    const MADV_COLLAPSE: u64 = 25;
    call(linux::__NR_madvise, [addr, len, MADV_COLLAPSE, 0, 0, 0]).map(drop)
}

/// Size of a huge page, bytes.
pub const HUGE: u64 = 2 << 20;

/// `msync`.
///
/// # Errors
/// The host's.
pub fn msync(addr: u64, len: u64, flags: u32) -> Result {
    call(linux::__NR_msync, [addr, len, u64::from(flags), 0, 0, 0]).map(drop)
}

/// `mincore` into a kernel buffer of one byte a page.
///
/// # Errors
/// The host's.
pub fn mincore(addr: u64, len: u64, out: &mut [u8]) -> Result {
    if (out.len() as u64) < len.div_ceil(4096) {
        return Err(Errno::EINVAL);
    }
    call(linux::__NR_mincore, [addr, len, out.as_mut_ptr() as u64, 0, 0, 0]).map(drop)
}

/// Locks what is there and what comes in (`mlock2` with `MLOCK_ONFAULT`): brings nothing in itself.
///
/// # Errors
/// The host's.
pub fn mlock(addr: u64, len: u64) -> Result {
    call(linux::__NR_mlock2, [addr, len, u64::from(linux::MLOCK_ONFAULT), 0, 0, 0]).map(drop)
}

/// `munlock`.
///
/// # Errors
/// The host's.
pub fn munlock(addr: u64, len: u64) -> Result {
    call(linux::__NR_munlock, [addr, len, 0, 0, 0, 0]).map(drop)
}
