//! The guest's vDSO: laid into the window at boot, one page behind what it reads.
//!
//! Its functions (`asm/vdso.S`) call the host's, which the host half has moved into the window, and add
//! what the sandbox's clocks are ahead.

use super::REALTIME_AHEAD;
use crate::abi::layout::{VDSO, VDSO_MAX};
use crate::abi::vdso::{ASK, VdsoData};
use crate::abi::{Errno, Result};
use crate::arch::{self, slot::window};
use crate::host::{files, mem, window as host_window};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PAGE: u64 = 4096;

/// Length of the ELF image, bytes; 0: guests have none.
static LEN: AtomicU64 = AtomicU64::new(0);

/// Lays it out for a host whose `clock_gettime` and `getcpu` are at these addresses. Without the former
/// there is no vDSO, and guests make system calls.
///
/// # Errors
/// What writing to the window's file says.
pub fn install(clock_gettime: u64, getcpu: u64) -> Result {
    let image = arch::vdso::image();
    if clock_gettime == 0 || image.is_empty() {
        return Ok(());
    }
    let (realtime_ahead, monotonic_ahead) = (REALTIME_AHEAD.load(Relaxed), crate::host::time::monotonic_ahead());
    let moved = u32::from(realtime_ahead != 0 || monotonic_ahead != 0);
    let data = VdsoData { clock_gettime, getcpu, realtime_ahead, monotonic_ahead, moved, pad: 0 };
    // The mapping is read-only: through the file.
    put(core::ptr::from_ref(&data) as u64, size_of::<VdsoData>(), VDSO)?;
    put(image.as_ptr() as u64, image.len(), VDSO + PAGE)?;
    LEN.store(image.len() as u64, Relaxed);
    Ok(())
}

/// The sandbox's realtime clocks are so much ahead of the host's from now on, ns.
pub(super) fn set_realtime_ahead(ns: i64) {
    if LEN.load(Relaxed) == 0 {
        return;
    }
    let moved = 1u32;
    // The mapping is read-only: through the file. Each value is one aligned word; who reads between the two
    // sees the old time.
    let ahead = put(core::ptr::from_ref(&ns) as u64, 8, VDSO + offset_of!(VdsoData, realtime_ahead) as u64);
    let _ = ahead.and_then(|()| put(core::ptr::from_ref(&moved) as u64, 4, VDSO + offset_of!(VdsoData, moved) as u64));
}

fn put(from: u64, len: usize, at: u64) -> Result {
    if at + len as u64 > VDSO + VDSO_MAX || files::pwrite(host_window::fd(), from, len, at)? != len {
        return Err(Errno::ENOSPC);
    }
    Ok(())
}

/// The calling process's vDSO makes system calls from now on: what the others share does not hold for it. Without
/// memory for that it stays as it is.
pub fn ask_the_kernel() {
    if LEN.load(Relaxed) == 0 {
        return;
    }
    let mut data = [0; size_of::<VdsoData>()];
    data[offset_of!(VdsoData, moved)..][..4].copy_from_slice(&ASK.to_ne_bytes());
    if mem::own_page(window() + VDSO, &data).is_err() {
        log::warn!("no page for the vDSO of a time namespace");
    }
}

/// Where its ELF image lies: start and end, whole pages. The page in front is its data.
pub fn range() -> Option<(u64, u64)> {
    let len = LEN.load(Relaxed);
    let start = window() + VDSO + PAGE;
    (len != 0).then(|| (start, start + len.next_multiple_of(PAGE)))
}
