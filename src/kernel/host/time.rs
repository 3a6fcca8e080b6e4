//! The host's clocks, read through its vDSO (moved into the window) where there is one.

use crate::abi::linux;
use crate::arch;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// What the sandbox's monotonic clocks are ahead of the host's, ns: not 0 once it was restored.
static MONOTONIC_AHEAD: AtomicI64 = AtomicI64::new(0);

/// See [`set_monotonic_ahead`].
pub fn monotonic_ahead() -> i64 {
    MONOTONIC_AHEAD.load(Relaxed)
}

/// Sets what the sandbox's monotonic clocks are ahead of the host's, ns.
pub fn set_monotonic_ahead(ns: i64) {
    MONOTONIC_AHEAD.store(ns, Relaxed);
}

/// A deadline of the sandbox's monotonic clock as one of the host's, ns; `u64::MAX`, which is none, stays.
pub fn host_deadline(deadline: u64) -> u64 {
    match deadline {
        u64::MAX => u64::MAX,
        at => at.saturating_add_signed(monotonic_ahead().saturating_neg()),
    }
}

static CLOCK_GETTIME: AtomicU64 = AtomicU64::new(0);

/// Records the address of the moved `clock_gettime` (at boot; 0 for none).
pub fn set_vdso(clock_gettime: u64) {
    CLOCK_GETTIME.store(clock_gettime, Relaxed);
}

/// Whether `pc` lies in the host's vDSO, which guests run too (by way of their own).
pub fn in_vdso(pc: u64) -> bool {
    use crate::abi::layout::{HOST_VDSO, HOST_VDSO_MAX};
    let start = arch::slot::window() + HOST_VDSO;
    (start..start + HOST_VDSO_MAX).contains(&pc)
}

/// The host's clock `id` in ns; `None` if there is no such clock.
pub fn clock(id: i32) -> Option<i64> {
    let mut ts = linux::__kernel_timespec { tv_sec: 0, tv_nsec: 0 };
    let f = CLOCK_GETTIME.load(Relaxed);
    let ret = if f != 0 && (0..8).contains(&id) {
        type F = extern "C" fn(i32, *mut linux::__kernel_timespec) -> i32;
        // SAFETY: boot stored the address of the host's own function, mapped in every process.
        let f = unsafe { core::mem::transmute::<usize, F>(f as usize) };
        i64::from(f(id, &mut ts))
    } else {
        // SAFETY: writes one timespec of ours.
        unsafe { arch::syscall(linux::__NR_clock_gettime, [id as i64 as u64, &raw mut ts as u64, 0, 0, 0, 0]) }
    };
    (ret == 0).then_some(ts.tv_sec * 1_000_000_000 + ts.tv_nsec)
}

/// User and system time of the running host process, ns.
pub fn process_times() -> (u64, u64) {
    rusage(0).map_or((0, 0), |r| {
        let ns = |t: &linux::__kernel_old_timeval| (t.tv_sec * 1_000_000_000 + t.tv_usec * 1000) as u64;
        (ns(&r.ru_utime), ns(&r.ru_stime))
    })
}

/// The host's `getrusage` of the running process (0) or thread (1).
pub fn rusage(who: i32) -> Option<linux::rusage> {
    let mut out = core::mem::MaybeUninit::<linux::rusage>::zeroed();
    // SAFETY: writes one record of ours.
    let ret = unsafe { arch::syscall(linux::__NR_getrusage, [who as i64 as u64, out.as_mut_ptr() as u64, 0, 0, 0, 0]) };
    // SAFETY: zeroed, then filled.
    (ret == 0).then(|| unsafe { out.assume_init() })
}
