//! `adjtimex(2)`: what a time daemon tells the kernel about its clock, and the clock's being moved by an
//! offset. The clock is the host's, moved; it cannot be made to run faster or slower.

use super::time::{from_ns, set_wall_clock};
use crate::abi::linux::CLOCK_REALTIME;
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::mm::UserPtr;
use crate::sync::{Level, Mutex};
use crate::task::CurrentTask;
use crate::task::cpu_clock::{CpuClock, is_cpu_clock};
use crate::time::{self, SECOND};

/// `struct timex` in words.
type Timex = [u64; 26];

// Its fields' places.
const OFFSET: usize = 1;
const FREQUENCY: usize = 2;
const MAXERROR: usize = 3;
const ESTERROR: usize = 4;
const STATUS: usize = 5;
const CONSTANT: usize = 6;
const PRECISION: usize = 7;
const TOLERANCE: usize = 8;
const SECONDS: usize = 9;
const FRACTION: usize = 10;
const TICK: usize = 11;

// `ADJ_*`.
const ADJ_OFFSET: u32 = 1;
const ADJ_FREQUENCY: u32 = 2;
const ADJ_MAXERROR: u32 = 4;
const ADJ_ESTERROR: u32 = 8;
const ADJ_STATUS: u32 = 0x10;
const ADJ_TIMECONST: u32 = 0x20;
const ADJ_TAI: u32 = 0x80;
const ADJ_SETOFFSET: u32 = 0x100;
const ADJ_MICRO: u32 = 0x1000;
const ADJ_NANO: u32 = 0x2000;
const ADJ_TICK: u32 = 0x4000;
const ADJ_ADJTIME: u32 = 0x8000;
/// Beside `ADJ_ADJTIME`: only look.
const ADJ_READONLY: u32 = 0x2000;

const STA_UNSYNC: u32 = 0x40;
const STA_NANO: u32 = 0x2000;
/// What cannot be set.
const STA_RONLY: u32 = 0xff00;
/// `TIME_ERROR`: the clock is not synchronised.
const TIME_ERROR: i32 = 5;
/// us in a tick.
const TICK_US: u64 = 10_000;

/// What was told.
struct Told {
    status: u32,
    maxerror: u64,
    esterror: u64,
    constant: u64,
}

static TOLD: Mutex<Told> =
    Mutex::new(Level::Leaf, Told { status: STA_UNSYNC, maxerror: 16_000_000, esterror: 16_000_000, constant: 2 });

/// Checks a request in Linux's order (`timekeeping_validate_timex`).
fn check(cur: &CurrentTask, t: &Timex) -> Result {
    let modes = t[0] as u32;
    let may = cur.cred().capable(cap::SYS_TIME);
    if modes & ADJ_ADJTIME != 0 {
        if modes & ADJ_OFFSET == 0 {
            return Err(Errno::EINVAL);
        }
        if modes & ADJ_READONLY == 0 && !may {
            return Err(Errno::EPERM);
        }
        return if modes & ADJ_READONLY == 0 && t[OFFSET] != 0 { Err(Errno::EOPNOTSUPP) } else { Ok(()) };
    }
    if modes != 0 && !may {
        return Err(Errno::EPERM);
    }
    if modes & ADJ_TICK != 0 && !(9_000..=11_000).contains(&t[TICK]) {
        return Err(Errno::EINVAL);
    }
    if modes & ADJ_SETOFFSET != 0 {
        let most = if modes & ADJ_NANO != 0 { SECOND } else { 1_000_000 };
        if !(0..most).contains(&(t[FRACTION] as i64)) {
            return Err(Errno::EINVAL);
        }
    }
    let slews = modes & ADJ_OFFSET != 0 && t[OFFSET] != 0
        || modes & ADJ_FREQUENCY != 0 && t[FREQUENCY] != 0
        || modes & ADJ_TICK != 0 && t[TICK] != TICK_US
        || modes & ADJ_TAI != 0;
    if slews { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
}

fn adjust(cur: &CurrentTask, timex: UserPtr<Timex>) -> SysResult<i32> {
    let mut t = timex.read()?;
    check(cur, &t)?;
    let modes = t[0] as u32;
    if modes & ADJ_ADJTIME == 0 && modes & ADJ_SETOFFSET != 0 {
        let fraction = t[FRACTION] as i64 * if modes & ADJ_NANO != 0 { 1 } else { 1000 };
        let by = (t[SECONDS] as i64).saturating_mul(SECOND).saturating_add(fraction);
        set_wall_clock(time::now().checked_add(by).ok_or(Errno::EINVAL)?)?;
    }
    let mut told = TOLD.lock();
    if modes & ADJ_ADJTIME == 0 {
        tell(&mut told, modes, &t);
    }
    let nano = told.status & STA_NANO != 0;
    let now = from_ns(time::now());
    t[OFFSET] = 0;
    t[FREQUENCY] = 0;
    t[MAXERROR] = told.maxerror;
    t[ESTERROR] = told.esterror;
    t[STATUS] = u64::from(told.status);
    t[CONSTANT] = told.constant;
    t[PRECISION] = 1;
    // 500 ppm, scaled by 2^16.
    t[TOLERANCE] = 500 << 16;
    t[SECONDS] = now.tv_sec as u64;
    t[FRACTION] = (if nano { now.tv_nsec } else { now.tv_nsec / 1000 }) as u64;
    t[TICK] = TICK_US;
    // No pulse per second; TAI as UTC.
    t[TICK + 1..=20].fill(0);
    let synchronised = told.status & STA_UNSYNC == 0;
    drop(told);
    timex.write(t)?;
    Ok(if synchronised { 0 } else { TIME_ERROR })
}

fn tell(told: &mut Told, modes: u32, t: &Timex) {
    if modes & ADJ_STATUS != 0 {
        told.status = told.status & STA_RONLY | t[STATUS] as u32 & !STA_RONLY;
    }
    if modes & ADJ_NANO != 0 {
        told.status |= STA_NANO;
    }
    if modes & ADJ_MICRO != 0 {
        told.status &= !STA_NANO;
    }
    if modes & ADJ_MAXERROR != 0 {
        told.maxerror = t[MAXERROR].min(16_000_000);
    }
    if modes & ADJ_ESTERROR != 0 {
        told.esterror = t[ESTERROR].min(16_000_000);
    }
    if modes & ADJ_TIMECONST != 0 {
        let more = if told.status & STA_NANO == 0 { 4 } else { 0 };
        told.constant = t[CONSTANT].saturating_add(more).min(10);
    }
}

/// `adjtimex(2)`.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `EPERM`; `EOPNOTSUPP` for another speed.
pub fn sys_adjtimex(cur: &CurrentTask, timex: UserPtr<Timex>) -> SysResult<i32> {
    adjust(cur, timex)
}

/// `clock_adjtime(2)`.
///
/// # Errors
/// As [`sys_adjtimex`]; `EINVAL` for no clock, `EOPNOTSUPP` for one that cannot be adjusted.
pub fn sys_clock_adjtime(cur: &CurrentTask, id: i32, timex: UserPtr<Timex>) -> SysResult<i32> {
    timex.read()?;
    if id as u32 == CLOCK_REALTIME {
        return adjust(cur, timex);
    }
    if is_cpu_clock(id) {
        CpuClock::new(cur, id, true)?;
    } else if time::clock(id).is_none() {
        return Err(Errno::EINVAL.into());
    }
    Err(Errno::EOPNOTSUPP.into())
}
