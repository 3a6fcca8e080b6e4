//! Clocks and sleeping.

use crate::abi::linux::{
    __kernel_timespec as Timespec, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME, CLOCK_REALTIME_COARSE,
    CLOCK_THREAD_CPUTIME_ID, TIMER_ABSTIME, timezone,
};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arch;
use crate::cred::cap;
use crate::mm::UserPtr;
use crate::sync::{Kind, On, WaitEnd, wait};
use crate::task::cpu_clock::{CpuClock, is_cpu_clock, is_own_thread};
use crate::task::{self, CurrentTask};
use crate::time::{self, SECOND};
use core::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// Nanoseconds of a valid time.
///
/// # Errors
/// `EINVAL`.
pub fn to_ns(t: Timespec) -> Result<i64> {
    if t.tv_sec < 0 || !(0..SECOND).contains(&t.tv_nsec) {
        return Err(Errno::EINVAL);
    }
    Ok(t.tv_sec.saturating_mul(SECOND).saturating_add(t.tv_nsec))
}

/// The time that `ns` stands for.
pub fn from_ns(ns: i64) -> Timespec {
    Timespec { tv_sec: ns.div_euclid(SECOND), tv_nsec: ns.rem_euclid(SECOND) }
}

/// What clock `id` shows to the caller.
///
/// # Errors
/// `EINVAL`: no such clock.
fn read(cur: &CurrentTask, id: i32) -> Result<i64> {
    if is_cpu_clock(id) {
        return Ok(CpuClock::new(cur, id, true)?.read().ok_or(Errno::EINVAL)? as i64);
    }
    Ok(time::clock(id).ok_or(Errno::EINVAL)? + cur.clock_ahead(id))
}

/// `clock_gettime(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_clock_gettime(cur: &CurrentTask, id: i32, out: UserPtr<Timespec>) -> SysResult<()> {
    Ok(out.write(from_ns(read(cur, id)?))?)
}

/// The host's own clock `id` for a guest's vDSO; 0 or the negative error number.
pub fn host_clock(id: i32, out: UserPtr<Timespec>) -> u64 {
    let done = crate::host::time::clock(id).ok_or(Errno::EINVAL).and_then(|ns| out.write(from_ns(ns)));
    done.map_or_else(|e| -i64::from(e.raw()) as u64, |()| 0)
}

/// Length of a tick, ns: what the coarse clocks tell apart.
const TICK: i64 = 4_000_000;

/// `clock_getres(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_clock_getres(cur: &CurrentTask, id: i32, out: UserPtr<Timespec>) -> SysResult<()> {
    read(cur, id)?;
    let ns = match id as u32 {
        CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE => TICK,
        // User and system time of a task are counted in ticks.
        _ if id < 0 && id & 3 != 2 => TICK,
        _ => 1,
    };
    if let Some(out) = out.option() {
        out.write(Timespec { tv_sec: 0, tv_nsec: ns })?;
    }
    Ok(())
}

/// Largest time that the clock can be set to, s (`TIME_SETTOD_SEC_MAX`: 30 years are left to run).
const SET_MAX: i64 = i64::MAX / SECOND - 30 * 365 * 24 * 3600;

/// Sets the sandbox's wall clock.
///
/// # Errors
/// `EINVAL` for a time that is none, or before the sandbox's start; `EPERM` without CAP_SYS_TIME.
fn set_clock(cur: &CurrentTask, to: Timespec) -> Result {
    let ns = settable(to)?;
    if !cur.cred().capable(cap::SYS_TIME) {
        return Err(Errno::EPERM);
    }
    set_wall_clock(ns)
}

/// A time that the wall clock may be set to, ns (`timespec64_valid_settod`).
fn settable(to: Timespec) -> Result<i64> {
    let ns = to_ns(to)?;
    if to.tv_sec >= SET_MAX { Err(Errno::EINVAL) } else { Ok(ns) }
}

/// Sets the wall clock, which is never behind the time since boot, nor so late that it could run out.
///
/// # Errors
/// `EINVAL`.
pub(super) fn set_wall_clock(ns: i64) -> Result {
    if ns < time::clock(CLOCK_MONOTONIC as i32).unwrap_or(0) || ns / SECOND >= SET_MAX {
        return Err(Errno::EINVAL);
    }
    time::set_wall_clock(ns);
    Ok(())
}

/// `clock_settime(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `EPERM`.
pub fn sys_clock_settime(cur: &CurrentTask, id: i32, value: UserPtr<Timespec>) -> SysResult<()> {
    // The two names of one's own CPU clocks cannot be set at all.
    if id as u32 != CLOCK_REALTIME && (id >= 0 || !is_cpu_clock(id)) {
        return Err(Errno::EINVAL.into());
    }
    let to = value.read()?;
    if id as u32 != CLOCK_REALTIME {
        CpuClock::new(cur, id, false)?;
        return Err(Errno::EPERM.into());
    }
    Ok(set_clock(cur, to)?)
}

/// The time zone that `settimeofday` was given: minutes west of Greenwich, kind of daylight saving time.
static ZONE: [AtomicI32; 2] = [const { AtomicI32::new(0) }; 2];

/// `gettimeofday(2)`.
///
/// # Errors
/// `EFAULT`.
pub fn sys_gettimeofday(_cur: &CurrentTask, tv: UserPtr<[i64; 2]>, tz: UserPtr<timezone>) -> SysResult<()> {
    if let Some(tv) = tv.option() {
        let now = time::now();
        tv.write([now.div_euclid(SECOND), now.rem_euclid(SECOND) / 1000])?;
    }
    if let Some(tz) = tz.option() {
        tz.write(timezone { tz_minuteswest: ZONE[0].load(SeqCst), tz_dsttime: ZONE[1].load(SeqCst) })?;
    }
    Ok(())
}

/// `settimeofday(2)`.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `EPERM`.
pub fn sys_settimeofday(cur: &CurrentTask, tv: UserPtr<[i64; 2]>, tz: UserPtr<timezone>) -> SysResult<()> {
    let to = match tv.option() {
        None => None,
        Some(p) => {
            let [sec, usec] = p.read()?;
            if !(0..=1_000_000).contains(&usec) {
                return Err(Errno::EINVAL.into());
            }
            Some(Timespec { tv_sec: sec, tv_nsec: usec * 1000 })
        }
    };
    let zone = tz.option().map(|p| p.read()).transpose()?;
    if let Some(t) = to {
        settable(t)?;
    }
    if !cur.cred().capable(cap::SYS_TIME) {
        return Err(Errno::EPERM.into());
    }
    if let Some(z) = zone {
        if !(-15 * 60..=15 * 60).contains(&z.tz_minuteswest) {
            return Err(Errno::EINVAL.into());
        }
        ZONE[0].store(z.tz_minuteswest, SeqCst);
        ZONE[1].store(z.tz_dsttime, SeqCst);
    }
    if let Some(t) = to {
        set_clock(cur, t)?;
    }
    Ok(())
}

/// `time(2)`.
///
/// # Errors
/// `EFAULT`.
pub fn sys_time(_cur: &CurrentTask, out: UserPtr<i64>) -> SysResult<i64> {
    let now = time::now().div_euclid(SECOND);
    if let Some(out) = out.option() {
        out.write(now)?;
    }
    Ok(now)
}

/// Sleeps until `deadline` on the host's monotonic clock.
fn sleep_until(deadline: u64) -> core::result::Result<(), WaitEnd> {
    let slot = arch::slot();
    loop {
        let ticket = slot.waker.ticket();
        if time::host_monotonic() >= deadline {
            return Ok(());
        }
        match wait::sleep(slot, On::the(Kind::Time), ticket, Some(deadline)) {
            Ok(()) => {}
            Err(WaitEnd::TimedOut) => return Ok(()),
            Err(end) => return Err(end),
        }
    }
}

/// Sleeps until `clock` shows `deadline`, by looking at the earliest moment at which it can; what it shows
/// then. That the process is gone ends it.
fn sleep_cpu(clock: &CpuClock, deadline: u64) -> core::result::Result<(), WaitEnd> {
    const LEAST: u64 = 1_000_000;
    loop {
        let left = clock.read().map_or(0, |now| deadline.saturating_sub(now));
        if left == 0 {
            return Ok(());
        }
        sleep_until(time::deadline_in((left / clock.spenders()).max(LEAST)))?;
    }
}

/// A relative sleep that `restart_syscall` can go on with: until `deadline` of the clock of CPU time, or
/// else of the host's monotonic clock.
fn nap(cur: &CurrentTask, cpu: Option<i32>, deadline: u64, remaining: UserPtr<Timespec>) -> SysResult<()> {
    let clock = cpu.map(|id| CpuClock::new(cur, id, false)).transpose()?;
    let (outcome, now) = match &clock {
        None => (sleep_until(deadline), time::host_monotonic()),
        Some(clock) => (sleep_cpu(clock, deadline), clock.read().unwrap_or(deadline)),
    };
    if outcome.is_ok() {
        return Ok(());
    }
    if let Some(out) = remaining.option() {
        out.write(from_ns(deadline.saturating_sub(now) as i64))?;
    }
    *cur.restart.lock() = Some(task::Restart::Nap { cpu, deadline, remaining: remaining.addr() });
    Err(SysError::Restart(Restart::Block))
}

/// `nanosleep(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`; interrupted.
pub fn sys_nanosleep(cur: &CurrentTask, wanted: UserPtr<Timespec>, remaining: UserPtr<Timespec>) -> SysResult<()> {
    let ns = to_ns(wanted.read()?)?;
    nap(cur, None, time::deadline_in(ns as u64), remaining)
}

/// `clock_nanosleep(2)`.
///
/// # Errors
/// `EINVAL`, `EOPNOTSUPP` for clocks that nobody can sleep on, `EPERM` for alarm clocks, `EFAULT`;
/// interrupted.
pub fn sys_clock_nanosleep(
    cur: &CurrentTask,
    id: i32,
    flags: i32,
    wanted: UserPtr<Timespec>,
    remaining: UserPtr<Timespec>,
) -> SysResult<()> {
    match id as u32 {
        // REALTIME, MONOTONIC, BOOTTIME, the two alarms, TAI.
        CLOCK_REALTIME | CLOCK_MONOTONIC | 7 | 8 | 9 | 11 => {}
        CLOCK_THREAD_CPUTIME_ID => return Err(Errno::EOPNOTSUPP.into()),
        _ if is_cpu_clock(id) => {}
        _ if time::clock(id).is_none() => return Err(Errno::EINVAL.into()),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    let ns = to_ns(wanted.read()?)?;
    let absolute = flags as u32 & TIMER_ABSTIME != 0;
    if is_cpu_clock(id) {
        if is_own_thread(cur, id) {
            return Err(Errno::EINVAL.into());
        }
        let clock = CpuClock::new(cur, id, false)?;
        if absolute {
            return sleep_cpu(&clock, ns as u64).map_err(|_| SysError::Restart(Restart::NoHand));
        }
        let now = clock.read().ok_or(Errno::EINVAL)?;
        return nap(cur, Some(id), now.saturating_add(ns as u64), remaining);
    }
    let id = match id {
        8 | 9 if time::clock(id).is_none() => return Err(Errno::EOPNOTSUPP.into()),
        8 | 9 if !cur.cred().capable(cap::WAKE_ALARM) => return Err(Errno::EPERM.into()),
        8 => CLOCK_REALTIME as i32,
        9 => 7,
        id => id,
    };
    if !absolute {
        return nap(cur, None, time::deadline_in(ns as u64), remaining);
    }
    let settable = matches!(id as u32, CLOCK_REALTIME | 11);
    let ns = ns.saturating_sub(cur.clock_ahead(id));
    let outcome =
        if settable { time::sleep_until(id, ns) } else { sleep_until(time::deadline_at(id, ns).ok_or(Errno::EINVAL)?) };
    outcome.map_err(|_| SysError::Restart(Restart::NoHand))
}

/// `restart_syscall(2)`: a sleep or `poll` goes on after a signal that nobody handled.
///
/// # Errors
/// `EINTR` when there is nothing to go on with; interrupted.
pub fn sys_restart_syscall(cur: &CurrentTask) -> SysResult<usize> {
    let rest = cur.restart.lock().take();
    match rest {
        None => Err(Errno::EINTR.into()),
        Some(task::Restart::Nap { cpu, deadline, remaining }) => {
            nap(cur, cpu, deadline, UserPtr::new(remaining)).map(|()| 0)
        }
        Some(task::Restart::Poll { fds, count, deadline }) => {
            super::poll::poll_until(cur, UserPtr::new(fds), count, Some(deadline))
        }
        Some(task::Restart::Futex { addr, private, val, bits, deadline }) => {
            let word = task::futex::Word::new(addr, private);
            super::futex::wait_on(cur, word, val, bits, deadline).map(|n| n as usize)
        }
    }
}
