//! Resource limits and what was used.

use crate::abi::linux::{__kernel_old_timeval, rusage};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::host;
use crate::mm::UserPtr;
use crate::task::{CurrentTask, ThreadGroup, access, cpu_timers, limits};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Soft and hard limit, as `struct rlimit` has them.
type Rlimit = [u64; 2];

fn number(resource: i32) -> Result<usize> {
    usize::try_from(resource).ok().filter(|&r| r < limits::COUNT).ok_or(Errno::EINVAL)
}

/// `getrlimit(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_getrlimit(cur: &CurrentTask, resource: i32, out: UserPtr<Rlimit>) -> SysResult<()> {
    let (soft, hard) = cur.group.limits.get(number(resource)?);
    Ok(out.write([soft, hard])?)
}

fn set(cur: &CurrentTask, group: &Arc<ThreadGroup>, resource: usize, [soft, hard]: Rlimit) -> Result {
    group.limits.set(resource, soft, hard, cur.cred().capable(cap::SYS_RESOURCE))?;
    let which = match resource {
        limits::AS => 0,
        limits::DATA => 1,
        limits::CPU => {
            cpu_timers::watch_limit(group);
            return Ok(());
        }
        _ => return Ok(()),
    };
    // Linux takes no limit of data to mean the hard one, but for the heap's end.
    let soft = if resource == limits::DATA && soft == 0 { hard } else { soft };
    if let Some(own) = group.any_task().and_then(|t| t.shared()) {
        own.mm.limits[which].store(soft, Relaxed);
    }
    Ok(())
}

/// `setrlimit(2)`.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EFAULT`.
pub fn sys_setrlimit(cur: &CurrentTask, resource: i32, limit: UserPtr<Rlimit>) -> SysResult<()> {
    let limit = limit.read()?;
    Ok(set(cur, &cur.group, number(resource)?, limit)?)
}

/// `prlimit(2)`.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`, `EFAULT`.
pub fn sys_prlimit64(
    cur: &CurrentTask,
    pid: i32,
    resource: i32,
    new: UserPtr<Rlimit>,
    old: UserPtr<Rlimit>,
) -> SysResult<()> {
    let new = new.option().map(UserPtr::read).transpose()?;
    let group = if pid == 0 { cur.group.clone() } else { cur.process_of(pid as u32).ok_or(Errno::ESRCH)? };
    if !Arc::ptr_eq(&group, &cur.group) {
        let target = group.leader().ok_or(Errno::ESRCH)?;
        access::may_limit(cur.subject(), &target)?;
    }
    let resource = number(resource)?;
    let (soft, hard) = group.limits.get(resource);
    if let Some(new) = new {
        set(cur, &group, resource, new)?;
    }
    if let Some(old) = old.option() {
        old.write([soft, hard])?;
    }
    Ok(())
}

fn timeval(ns: u64) -> __kernel_old_timeval {
    __kernel_old_timeval { tv_sec: (ns / 1_000_000_000) as i64, tv_usec: (ns % 1_000_000_000 / 1000) as i64 }
}

/// User and system time of the caller's process, ns: in host processes before its last exec, and in this one.
fn own_times(cur: &CurrentTask, host: Option<&rusage>) -> (u64, u64) {
    let ns = |t: &__kernel_old_timeval| (t.tv_sec * 1_000_000_000 + t.tv_usec * 1000) as u64;
    let (user, system) = host.map_or((0, 0), |r| (ns(&r.ru_utime), ns(&r.ru_stime)));
    (cur.group.cpu_time(0, user), cur.group.cpu_time(1, system))
}

const NOTHING: rusage = rusage {
    ru_utime: __kernel_old_timeval { tv_sec: 0, tv_usec: 0 },
    ru_stime: __kernel_old_timeval { tv_sec: 0, tv_usec: 0 },
    ru_maxrss: 0,
    ru_ixrss: 0,
    ru_idrss: 0,
    ru_isrss: 0,
    ru_minflt: 0,
    ru_majflt: 0,
    ru_nswap: 0,
    ru_inblock: 0,
    ru_oublock: 0,
    ru_msgsnd: 0,
    ru_msgrcv: 0,
    ru_nsignals: 0,
    ru_nvcsw: 0,
    ru_nivcsw: 0,
};

/// Times in ns and what [`crate::task::group::Usage`] counts, as `getrusage(2)` tells it.
pub(super) fn rusage_of(times: (u64, u64), (max_rss, counts): &(u64, [u64; 6])) -> rusage {
    let [minor, major, blocks_in, blocks_out, voluntary, involuntary] = counts.map(|n| n as i64);
    rusage {
        ru_utime: timeval(times.0),
        ru_stime: timeval(times.1),
        ru_maxrss: *max_rss as i64,
        ru_minflt: minor,
        ru_majflt: major,
        ru_inblock: blocks_in,
        ru_oublock: blocks_out,
        ru_nvcsw: voluntary,
        ru_nivcsw: involuntary,
        ..NOTHING
    }
}

/// `getrusage(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_getrusage(cur: &CurrentTask, who: i32, out: UserPtr<rusage>) -> SysResult<()> {
    let mut r = NOTHING;
    match who {
        // RUSAGE_THREAD
        1 => r = host::time::rusage(1).unwrap_or(r),
        0 => {
            r = host::time::rusage(0).unwrap_or(r);
            let (user, system) = own_times(cur, Some(&r));
            (r.ru_utime, r.ru_stime) = (timeval(user), timeval(system));
            // What was used before the last exec, where that went on in another host process.
            let past = rusage_of((0, 0), &cur.group.usage[0].get());
            r.ru_maxrss = r.ru_maxrss.max(past.ru_maxrss);
            r.ru_minflt += past.ru_minflt;
            r.ru_majflt += past.ru_majflt;
            r.ru_nvcsw += past.ru_nvcsw;
            r.ru_nivcsw += past.ru_nivcsw;
        }
        // RUSAGE_CHILDREN
        -1 => {
            let times = (cur.group.times[2].load(SeqCst), cur.group.times[3].load(SeqCst));
            r = rusage_of(times, &cur.group.usage[1].get());
        }
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(out.write(r)?)
}

/// Clock ticks in a second (`sysconf(_SC_CLK_TCK)`), as ns per tick.
const TICK: u64 = 10_000_000;

/// `times(2)`.
///
/// # Errors
/// `EFAULT`.
pub fn sys_times(cur: &CurrentTask, out: UserPtr<[i64; 4]>) -> SysResult<i64> {
    if let Some(out) = out.option() {
        let (user, system) = own_times(cur, host::time::rusage(0).as_ref());
        let child = |i: usize| cur.group.times[i].load(SeqCst);
        out.write([user, system, child(2), child(3)].map(|ns| (ns / TICK) as i64))?;
    }
    let up = crate::time::clock(crate::abi::linux::CLOCK_BOOTTIME as i32).unwrap_or(0);
    Ok(up / TICK as i64)
}
