//! Clocks and sleeping.

use crate::abi::linux::{
    __kernel_timespec as Timespec, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME,
    CLOCK_REALTIME_COARSE, CLOCK_THREAD_CPUTIME_ID, TIMER_ABSTIME, timezone,
};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arch;
use crate::mm::UserPtr;
use crate::sync::{WaitEnd, wait};
use crate::task::{self, CurrentTask};
use crate::time::{self, SECOND};
use core::sync::atomic::Ordering::SeqCst;

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
    if id < 0 {
        return cpu_clock(cur, id);
    }
    let now = time::clock(id).ok_or(Errno::EINVAL)?;
    // Before its last exec the process ran in other host processes.
    let past = if id as u32 == CLOCK_PROCESS_CPUTIME_ID { past_cpu(cur) } else { 0 };
    Ok(now + past)
}

fn past_cpu(cur: &CurrentTask) -> i64 {
    cur.group.times[0].load(SeqCst).wrapping_add(cur.group.times[1].load(SeqCst)) as i64
}

/// CPU clocks of a process or thread by id (`clock_getcpuclockid(3)`): only the caller's own are told.
fn cpu_clock(cur: &CurrentTask, id: i32) -> Result<i64> {
    let pid = !(id >> 3) as u32;
    if id & 3 == 3 {
        return Err(Errno::EINVAL);
    }
    match id & 4 != 0 {
        true if pid == 0 || pid == cur.tid() => read(cur, CLOCK_THREAD_CPUTIME_ID as i32),
        false if pid == 0 || pid == cur.group.pid => read(cur, CLOCK_PROCESS_CPUTIME_ID as i32),
        false => {
            let other = task::lookup_group(pid).ok_or(Errno::EINVAL)?;
            Ok((other.cpu_time(0, 0) + other.cpu_time(1, 0)) as i64)
        }
        true => Err(Errno::EINVAL),
    }
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

/// `clock_getres(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_clock_getres(cur: &CurrentTask, id: i32, out: UserPtr<Timespec>) -> SysResult<()> {
    read(cur, id)?;
    // A tick of 4 ms for the coarse ones.
    let coarse = matches!(id as u32, CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE);
    if let Some(out) = out.option() {
        out.write(Timespec { tv_sec: 0, tv_nsec: if coarse { 4_000_000 } else { 1 } })?;
    }
    Ok(())
}

/// `clock_settime(2)`: the sandbox's clocks are set from outside only.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EFAULT`.
pub fn sys_clock_settime(_cur: &CurrentTask, id: i32, value: UserPtr<Timespec>) -> SysResult<()> {
    if id as u32 != CLOCK_REALTIME {
        return Err(Errno::EINVAL.into());
    }
    to_ns(value.read()?)?;
    Err(Errno::EPERM.into())
}

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
        tz.write(timezone { tz_minuteswest: 0, tz_dsttime: 0 })?;
    }
    Ok(())
}

/// `settimeofday(2)`: never.
///
/// # Errors
/// `EPERM`.
pub fn sys_settimeofday(_cur: &CurrentTask, _tv: u64, _tz: u64) -> SysResult<()> {
    Err(Errno::EPERM.into())
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
        match wait::sleep(slot, ticket, Some(deadline)) {
            Ok(()) => {}
            Err(WaitEnd::TimedOut) => return Ok(()),
            Err(end) => return Err(end),
        }
    }
}

/// A relative sleep that `restart_syscall` can go on with.
fn nap(cur: &CurrentTask, deadline: u64, remaining: UserPtr<Timespec>) -> SysResult<()> {
    if sleep_until(deadline).is_ok() {
        return Ok(());
    }
    if let Some(out) = remaining.option() {
        let left = deadline.saturating_sub(time::host_monotonic());
        out.write(from_ns(left as i64))?;
    }
    *cur.restart.lock() = Some(task::Restart { deadline, remaining: remaining.addr() });
    Err(SysError::Restart(Restart::Block))
}

/// `nanosleep(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`; interrupted.
pub fn sys_nanosleep(cur: &CurrentTask, wanted: UserPtr<Timespec>, remaining: UserPtr<Timespec>) -> SysResult<()> {
    let ns = to_ns(wanted.read()?)?;
    nap(cur, time::deadline_in(ns as u64), remaining)
}

/// `clock_nanosleep(2)`.
///
/// # Errors
/// `EINVAL`, `EOPNOTSUPP` for clocks that nobody can sleep on, `EFAULT`; interrupted.
pub fn sys_clock_nanosleep(
    cur: &CurrentTask,
    id: i32,
    flags: i32,
    wanted: UserPtr<Timespec>,
    remaining: UserPtr<Timespec>,
) -> SysResult<()> {
    match id as u32 {
        CLOCK_THREAD_CPUTIME_ID => return Err(Errno::EINVAL.into()),
        // REALTIME, MONOTONIC, BOOTTIME, the two alarms, TAI.
        CLOCK_REALTIME | CLOCK_MONOTONIC | 7 | 8 | 9 | 11 => {}
        _ if id < 0 || time::clock(id).is_none() => return Err(Errno::EINVAL.into()),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    let ns = to_ns(wanted.read()?)?;
    if flags as u32 & TIMER_ABSTIME == 0 {
        return nap(cur, time::deadline_in(ns as u64), remaining);
    }
    let id = match id {
        8 => CLOCK_REALTIME as i32,
        9 => 7,
        id => id,
    };
    let deadline = time::deadline_at(id, ns).ok_or(Errno::EINVAL)?;
    sleep_until(deadline).map_err(|_| SysError::Restart(Restart::NoHand))
}

/// `restart_syscall(2)`: a sleep goes on after a signal that nobody handled.
///
/// # Errors
/// `EINTR` when there is nothing to go on with; interrupted.
pub fn sys_restart_syscall(cur: &CurrentTask) -> SysResult<()> {
    let Some(rest) = cur.restart.lock().take() else { return Err(Errno::EINTR.into()) };
    nap(cur, rest.deadline, UserPtr::new(rest.remaining))
}

/// `adjtimex(2)`: looking is free.
///
/// # Errors
/// `EPERM` when something is to be changed, `EFAULT`.
pub fn sys_adjtimex(_cur: &CurrentTask, timex: UserPtr<[u64; 26]>) -> SysResult<i32> {
    let mut t = timex.read()?;
    if t[0] as u32 != 0 {
        return Err(Errno::EPERM.into());
    }
    t = [0; 26];
    // status: unsynchronised; constant 2, precision 1, tolerance, then the time and the tick in us.
    t[5] = 0x40;
    t[6] = 2;
    t[7] = 1;
    t[8] = 32_768_000;
    let now = time::now();
    (t[9], t[10], t[11]) = ((now / SECOND) as u64, (now % SECOND / 1000) as u64, 10_000);
    timex.write(t)?;
    // TIME_ERROR: not synchronised.
    Ok(5)
}
