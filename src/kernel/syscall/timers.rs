//! Interval and POSIX timers.

use super::time::{from_ns, to_ns};
use crate::abi::linux::{__kernel_timespec as Timespec, SIGALRM, TIMER_ABSTIME};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::mm::UserPtr;
use crate::signal::NSIG;
use crate::task::CurrentTask;
use crate::task::cpu_clock::{CpuClock, is_cpu_clock};
use crate::task::cpu_timers::{self, Which};
use crate::task::posix_timers::{Base, Tell};
use crate::task::timers::set_real;
use crate::time::{self, SECOND};
use alloc::sync::Arc;

/// `struct itimerval`: interval and value, seconds and us each.
type Itimerval = [[i64; 2]; 2];

fn itimer_ns([sec, usec]: [i64; 2]) -> Result<u64> {
    if sec < 0 || !(0..1_000_000).contains(&usec) {
        return Err(Errno::EINVAL);
    }
    Ok(sec.saturating_mul(SECOND).saturating_add(usec * 1000) as u64)
}

fn itimerval((left, interval): (u64, u64)) -> Itimerval {
    // What is left is rounded up, so that an armed timer does not look idle.
    let split = |ns: u64| [(ns / 1_000_000_000) as i64, (ns % 1_000_000_000 / 1000) as i64];
    [split(interval), split(left.next_multiple_of(1000))]
}

const ITIMER_REAL: i32 = 0;
const ITIMER_VIRTUAL: i32 = 1;
const ITIMER_PROF: i32 = 2;

/// `getitimer(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_getitimer(cur: &CurrentTask, which: i32, out: UserPtr<Itimerval>) -> SysResult<()> {
    let state = match which {
        ITIMER_REAL => cur.group.timers.real(),
        ITIMER_VIRTUAL => cpu_timers::left(&cur.group, Which::Virtual),
        ITIMER_PROF => cpu_timers::left(&cur.group, Which::Prof),
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(out.write(itimerval(state))?)
}

/// `setitimer(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_setitimer(cur: &CurrentTask, which: i32, new: UserPtr<Itimerval>, old: UserPtr<Itimerval>) -> SysResult<()> {
    let [interval, value] = new.option().map(|p| p.read()).transpose()?.unwrap_or_default();
    let (interval, value) = (itimer_ns(interval)?, itimer_ns(value)?);
    let was = match which {
        ITIMER_REAL => set_real(&cur.group, value, interval),
        ITIMER_VIRTUAL => cpu_timers::set(&cur.group, Which::Virtual, value, interval),
        ITIMER_PROF => cpu_timers::set(&cur.group, Which::Prof, value, interval),
        _ => return Err(Errno::EINVAL.into()),
    };
    if let Some(old) = old.option() {
        old.write(itimerval(was))?;
    }
    Ok(())
}

/// `alarm(2)`.
///
/// # Errors
/// None.
pub fn sys_alarm(cur: &CurrentTask, seconds: u32) -> SysResult<u32> {
    let (left, _) = set_real(&cur.group, u64::from(seconds) * 1_000_000_000, 0);
    // Rounded to the nearest second, but never down to "none".
    let rounded = (left + 500_000_000) / 1_000_000_000;
    Ok(if left > 0 { rounded.max(1) as u32 } else { 0 })
}

/// The start of `struct sigevent`: value, signal, how, thread.
type SigEvent = [u32; 16];
const SIGEV_SIGNAL: u32 = 0;
const SIGEV_NONE: u32 = 1;
const SIGEV_THREAD: u32 = 2;
const SIGEV_THREAD_ID: u32 = 4;

fn decode(cur: &CurrentTask, event: &SigEvent) -> Result<(Tell, Option<u64>)> {
    let value = u64::from(event[0]) | u64::from(event[1]) << 32;
    let (signo, how, tid) = (event[2], event[3], event[4]);
    let sig = || if (1..=NSIG).contains(&signo) { Ok(signo) } else { Err(Errno::EINVAL) };
    let tell = match how {
        SIGEV_NONE => Tell::Nobody,
        SIGEV_SIGNAL | SIGEV_THREAD => Tell::Process(sig()?),
        SIGEV_THREAD_ID => {
            let task = cur.task_of(tid).filter(|t| Arc::ptr_eq(&t.group, &cur.group)).ok_or(Errno::EINVAL)?;
            Tell::Thread(sig()?, Arc::downgrade(&task))
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok((tell, Some(value)))
}

/// `timer_create(2)`.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `EOPNOTSUPP` for clocks that have no timers, `EPERM` for alarm clocks, `EAGAIN`.
pub fn sys_timer_create(cur: &CurrentTask, clock: i32, event: UserPtr<SigEvent>, out: UserPtr<i32>) -> SysResult<()> {
    let event = event.option().map(|p| p.read()).transpose()?;
    let base = match clock {
        0 | 1 | 7 | 11 => Base::Clock(clock),
        8 | 9 if time::clock(clock).is_none() || !cur.cred().capable(cap::WAKE_ALARM) => {
            // The clock is asked last.
            event.map(|event| decode(cur, &event)).transpose()?;
            out.write(0)?;
            return Err(if time::clock(clock).is_none() { Errno::EOPNOTSUPP } else { Errno::EPERM }.into());
        }
        8 => Base::Clock(0),
        9 => Base::Clock(7),
        _ if is_cpu_clock(clock) => Base::Cpu(CpuClock::new(cur, clock, false)?),
        _ if time::clock(clock).is_none() => return Err(Errno::EINVAL.into()),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let (tell, value) = match event {
        Some(event) => decode(cur, &event)?,
        None => (Tell::Process(SIGALRM), None),
    };
    let id = cur.group.timers.create(&cur.group, base, tell, value)?;
    if let Err(e) = out.write(id) {
        let _ = cur.group.timers.delete(id);
        return Err(e.into());
    }
    Ok(())
}

/// `struct itimerspec`: interval and value.
type Itimerspec = [i64; 4];

fn itimerspec((left, interval): (u64, u64)) -> Itimerspec {
    let (i, v) = (from_ns(interval as i64), from_ns(left as i64));
    [i.tv_sec, i.tv_nsec, v.tv_sec, v.tv_nsec]
}

/// `timer_settime(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_timer_settime(
    cur: &CurrentTask,
    id: i32,
    flags: i32,
    new: UserPtr<Itimerspec>,
    old: UserPtr<Itimerspec>,
) -> SysResult<()> {
    let [i_sec, i_nsec, v_sec, v_nsec] = new.option().ok_or(Errno::EINVAL)?.read()?;
    let interval = to_ns(Timespec { tv_sec: i_sec, tv_nsec: i_nsec })? as u64;
    let value = to_ns(Timespec { tv_sec: v_sec, tv_nsec: v_nsec })?;
    let timer = cur.group.timers.get(id)?;
    let absolute = flags as u32 & TIMER_ABSTIME != 0;
    // A time that has passed is not "never".
    let ahead = timer.clock().map_or(0, |id| cur.clock_ahead(id));
    let value = if absolute && value != 0 && ahead != 0 { value.saturating_sub(ahead).max(1) } else { value };
    let was = timer.set(value, absolute, interval)?;
    if let Some(old) = old.option() {
        old.write(itimerspec(was))?;
    }
    Ok(())
}

/// `timer_gettime(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_timer_gettime(cur: &CurrentTask, id: i32, out: UserPtr<Itimerspec>) -> SysResult<()> {
    Ok(out.write(itimerspec(cur.group.timers.get(id)?.left()))?)
}

/// `timer_getoverrun(2)`.
///
/// # Errors
/// `EINVAL`.
pub fn sys_timer_getoverrun(cur: &CurrentTask, id: i32) -> SysResult<i32> {
    Ok(cur.group.timers.get(id)?.overrun())
}

/// `timer_delete(2)`.
///
/// # Errors
/// `EINVAL`.
pub fn sys_timer_delete(cur: &CurrentTask, id: i32) -> SysResult<()> {
    Ok(cur.group.timers.delete(id)?)
}
