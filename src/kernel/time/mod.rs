//! Clocks and timers.

pub mod timer;
pub mod vdso;

use crate::abi::linux;
use crate::host;
use crate::sync::{Events, WaitQueue};
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// What the sandbox's wall clock is ahead of the host's, ns.
static REALTIME_AHEAD: AtomicI64 = AtomicI64::new(0);

/// The sandbox's monotonic clock, ns: the base of every deadline inside the kernel. It is the host's until the sandbox
/// is restored; then it goes on from where it stood. Only `host` knows the host's own.
pub fn host_monotonic() -> u64 {
    clock(linux::CLOCK_MONOTONIC as i32).unwrap_or(0) as u64
}

/// The sandbox's monotonic clock goes on from `monotonic`, ns, and its wall clock from the host's
/// ([`wall_clock_has_moved`]).
pub fn go_on_from(monotonic: u64) {
    let host = host::time::clock(linux::CLOCK_MONOTONIC as i32).unwrap_or(0);
    host::time::set_monotonic_ahead((monotonic as i64).saturating_sub(host));
}

/// Whoever waits for a time of the wall clock looks again: it is another one than it was.
pub fn wall_clock_has_moved() {
    SETTINGS.fetch_add(1, Relaxed);
    SLEEPERS.wake_all();
    timer::clock_was_set();
}

/// Sets what the wall clock is ahead of the host's, ns (at boot: nobody waits for it yet).
pub fn set_wall_clock_ahead(ns: i64) {
    REALTIME_AHEAD.store(ns, Relaxed);
}

/// How often the wall clock was set.
static SETTINGS: AtomicU64 = AtomicU64::new(0);
/// Those who sleep until a time of it.
static SLEEPERS: WaitQueue = WaitQueue::new();

/// Sets the sandbox's wall clock, ns since the epoch.
pub fn set_wall_clock(to: i64) {
    let host = host::time::clock(linux::CLOCK_REALTIME as i32).unwrap_or(0);
    let ahead = to.saturating_sub(host);
    REALTIME_AHEAD.store(ahead, Relaxed);
    vdso::set_realtime_ahead(ahead);
    wall_clock_has_moved();
}

/// Sleeps until the time `at` of the clock `id`, also when it is set meanwhile.
///
/// # Errors
/// [`WaitEnd::Interrupted`](crate::sync::WaitEnd).
pub fn sleep_until(id: i32, at: i64) -> core::result::Result<(), crate::sync::WaitEnd> {
    loop {
        let settings = SETTINGS.load(Relaxed);
        let Some(deadline) = deadline_at(id, at) else { return Ok(()) };
        if deadline <= host_monotonic() {
            return Ok(());
        }
        let set = || (SETTINGS.load(Relaxed) != settings).then_some(());
        match SLEEPERS.wait_until(Events::IN, Some(deadline), set) {
            Ok(()) => {}
            Err(crate::sync::WaitEnd::TimedOut) => return Ok(()),
            Err(end) => return Err(end),
        }
    }
}

fn offset_of(clock: i32) -> i64 {
    match clock as u32 {
        linux::CLOCK_REALTIME | linux::CLOCK_REALTIME_COARSE | linux::CLOCK_REALTIME_ALARM | linux::CLOCK_TAI => {
            REALTIME_AHEAD.load(Relaxed)
        }
        linux::CLOCK_MONOTONIC
        | linux::CLOCK_MONOTONIC_RAW
        | linux::CLOCK_MONOTONIC_COARSE
        | linux::CLOCK_BOOTTIME
        | linux::CLOCK_BOOTTIME_ALARM => host::time::monotonic_ahead(),
        _ => 0,
    }
}

/// The guest's clock `id` (a `CLOCK_*` without CPU clocks of other tasks), ns; `None`: no such clock.
pub fn clock(id: i32) -> Option<i64> {
    if !(0..12).contains(&id) || id == 10 {
        return None;
    }
    Some(host::time::clock(id)? + offset_of(id))
}

/// The guest's wall clock, ns since the epoch.
pub fn now() -> i64 {
    clock(linux::CLOCK_REALTIME as i32).unwrap_or(0)
}

/// The guest's wall clock at tick resolution: file times.
pub fn now_coarse() -> i64 {
    clock(linux::CLOCK_REALTIME_COARSE as i32).unwrap_or(0)
}

/// The deadline on the sandbox's monotonic clock for an absolute time `at` of the guest's clock `id`.
pub fn deadline_at(id: i32, at: i64) -> Option<u64> {
    let left = at.saturating_sub(clock(id)?).max(0) as u64;
    Some(host_monotonic().saturating_add(left))
}

/// The deadline `ns` from now.
pub fn deadline_in(ns: u64) -> u64 {
    host_monotonic().saturating_add(ns)
}
