//! Scheduling: policies and priorities are kept and reported, the host schedules; CPU masks are the host's.

use crate::abi::linux::{
    PRIO_PGRP, PRIO_PROCESS, PRIO_USER, SCHED_BATCH, SCHED_DEADLINE, SCHED_FIFO, SCHED_IDLE, SCHED_NORMAL, SCHED_RR,
};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::{Kind, cap};
use crate::host::sched;
use crate::mm::UserPtr;
use crate::task::{CurrentTask, RESET_ON_FORK, Task, access, attr, limits, tree, work};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// `sched_yield(2)`.
///
/// # Errors
/// None.
pub fn sys_sched_yield(_cur: &CurrentTask) -> SysResult<()> {
    sched::sched_yield();
    Ok(())
}

/// The task with this tid, 0 for the caller.
fn target(cur: &CurrentTask, pid: i32) -> Result<Arc<Task>> {
    match pid {
        0 => Ok(Arc::clone(cur)),
        1.. => cur.task_of(pid as u32).ok_or(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

/// Highest and lowest real-time priority of a policy.
fn range(policy: u32) -> Result<(u32, u32)> {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok((99, 1)),
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Ok((0, 0)),
        _ => Err(Errno::EINVAL),
    }
}

/// As [`range`], and of `SCHED_EXT`, which nobody can have.
fn told(policy: i32) -> Result<(u32, u32)> {
    const SCHED_EXT: i32 = 7;
    if policy == SCHED_EXT { Ok((0, 0)) } else { range(policy as u32) }
}

/// `sched_get_priority_max(2)`.
///
/// # Errors
/// `EINVAL`.
pub fn sys_sched_get_priority_max(_cur: &CurrentTask, policy: i32) -> SysResult<u32> {
    Ok(told(policy)?.0)
}

/// `sched_get_priority_min(2)`.
///
/// # Errors
/// `EINVAL`.
pub fn sys_sched_get_priority_min(_cur: &CurrentTask, policy: i32) -> SysResult<u32> {
    Ok(told(policy)?.1)
}

/// `sched_getscheduler(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`.
pub fn sys_sched_getscheduler(cur: &CurrentTask, pid: i32) -> SysResult<u32> {
    Ok(target(cur, pid)?.attr.policy.load(Relaxed))
}

/// `sched_getparam(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EFAULT`.
pub fn sys_sched_getparam(cur: &CurrentTask, pid: i32, param: UserPtr<i32>) -> SysResult<()> {
    if param.is_null() {
        return Err(Errno::EINVAL.into());
    }
    let t = target(cur, pid)?;
    Ok(param.write(t.attr.rt_priority.load(Relaxed) as i32)?)
}

/// What a task's scheduling is to become (`struct sched_attr`).
struct Wanted {
    /// With [`RESET_ON_FORK`]; `None` for what it is.
    policy: Option<u32>,
    priority: u32,
    /// `None` for what it is.
    nice: Option<i32>,
    /// Runtime, deadline, period and flags.
    deadline: [u64; 4],
    /// `None` for what it is, 0 for the usual one.
    slice: Option<u64>,
    /// Only what is inherited changes.
    keeps: bool,
}

/// Runtime, deadline and period that make sense (`__checkparam_dl` in `kernel/sched/deadline.c`), ns.
fn valid_deadline([runtime, deadline, period, _]: [u64; 4]) -> bool {
    // The clock's resolution, the topmost bit, and 100 us to 4 s as `/proc/sys/kernel/sched_deadline_*` has them.
    let long = if period == 0 { deadline } else { period };
    let whole = (1024..=deadline).contains(&runtime) && deadline <= long && (deadline | long) >> 63 == 0;
    deadline != 0 && whole && (100_000..=4_194_304_000).contains(&long)
}

/// Changes how a task is scheduled, in the order of checks of `__sched_setscheduler`.
fn set(cur: &CurrentTask, t: &Arc<Task>, wanted: &Wanted) -> SysResult<()> {
    let attr = &t.attr;
    let old = attr.policy.load(Relaxed);
    let given = wanted.policy.unwrap_or(old);
    let policy = given & !RESET_ON_FORK;
    let real_time = matches!(policy, SCHED_FIFO | SCHED_RR);
    range(policy)?;
    if wanted.priority > 99 || real_time != (wanted.priority != 0) {
        return Err(Errno::EINVAL.into());
    }
    if policy == SCHED_DEADLINE && !valid_deadline(wanted.deadline) {
        return Err(Errno::EINVAL.into());
    }
    let nice = wanted.nice.unwrap_or(attr.nice.load(Relaxed));
    let allowed = t.group.limits.get(limits::RTPRIO).0;
    let old_policy = old & !RESET_ON_FORK;
    let nicer = |to: i32| (20 - to) as u64 > t.group.limits.get(limits::NICE).0;
    let needs_privilege = match policy {
        SCHED_FIFO | SCHED_RR => {
            let raises = wanted.priority > attr.rt_priority.load(Relaxed);
            policy != old_policy && allowed == 0 || raises && u64::from(wanted.priority) > allowed
        }
        SCHED_DEADLINE => true,
        _ => {
            let leaves_idle = old_policy == SCHED_IDLE && policy != SCHED_IDLE && nicer(attr.nice.load(Relaxed));
            nice < attr.nice.load(Relaxed) && nicer(nice) || leaves_idle
        }
    };
    let resets_less = old & RESET_ON_FORK != 0 && given & RESET_ON_FORK == 0;
    let owner = access::may_schedule(cur.subject(), t).is_ok();
    if (needs_privilege || resets_less || !owner) && !cur.cred().capable(cap::SYS_NICE) {
        return Err(Errno::EPERM.into());
    }
    if wanted.keeps {
        // Neither policy nor priorities change (`__setscheduler_params` is not called).
        attr.policy.store(old_policy | given & RESET_ON_FORK, Relaxed);
        return Ok(());
    }
    attr.policy.store(given, Relaxed);
    attr.rt_priority.store(wanted.priority, Relaxed);
    if matches!(policy, SCHED_NORMAL | SCHED_BATCH) {
        attr.nice.store(nice, Relaxed);
    }
    if !attr.is_prioritised()
        && let Some(slice) = wanted.slice
    {
        // 0.1 to 100 ms (`__setparam_fair`). It is kept and told; the host shares its CPUs out by its own rules.
        attr.slice.store(if slice == 0 { 0 } else { slice.clamp(100_000, 100_000_000) }, Relaxed);
    }
    *attr.deadline.lock() = if policy == SCHED_DEADLINE { wanted.deadline } else { [0; 4] };
    Ok(())
}

fn set_priority(cur: &CurrentTask, pid: i32, policy: Option<u32>, priority: i32) -> SysResult<()> {
    let t = target(cur, pid)?;
    let priority = u32::try_from(priority).map_err(|_| Errno::EINVAL)?;
    set(cur, &t, &Wanted { policy, priority, nice: None, deadline: [0; 4], slice: None, keeps: false })
}

/// `sched_setscheduler(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EPERM`, `EFAULT`.
pub fn sys_sched_setscheduler(cur: &CurrentTask, pid: i32, policy: i32, param: UserPtr<i32>) -> SysResult<()> {
    if policy < 0 || pid < 0 || param.is_null() {
        return Err(Errno::EINVAL.into());
    }
    set_priority(cur, pid, Some(policy as u32), param.read()?)
}

/// `sched_setparam(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EPERM`, `EFAULT`.
pub fn sys_sched_setparam(cur: &CurrentTask, pid: i32, param: UserPtr<i32>) -> SysResult<()> {
    if pid < 0 || param.is_null() {
        return Err(Errno::EINVAL.into());
    }
    set_priority(cur, pid, None, param.read()?)
}

/// `sched_rr_get_interval(2)`: nothing where there is no slice.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EFAULT`.
pub fn sys_sched_rr_get_interval(cur: &CurrentTask, pid: i32, out: UserPtr<[i64; 2]>) -> SysResult<()> {
    let t = target(cur, pid)?;
    let ns = match t.attr.policy.load(Relaxed) & !RESET_ON_FORK {
        SCHED_RR => attr::RR_SLICE_MS.get() as i64 * 1_000_000,
        SCHED_FIFO | SCHED_DEADLINE => 0,
        _ => 4_000_000,
    };
    Ok(out.write([0, ns])?)
}

/// Size of `struct sched_attr`, version 0.
const ATTR_SIZE: u32 = 48;
/// Its size with the bounds of the utilisation.
const ATTR_NEWEST: u32 = 56;

/// `sched_getattr(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EFAULT`.
pub fn sys_sched_getattr(cur: &CurrentTask, pid: i32, out: UserPtr<u8>, size: u32, flags: u32) -> SysResult<()> {
    if out.is_null() || !(ATTR_SIZE..=4096).contains(&size) || flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let t = target(cur, pid)?;
    let policy = t.attr.policy.load(Relaxed);
    let reset = u64::from(policy & RESET_ON_FORK != 0);
    // size, policy, flags (64 bits), nice, priority, then runtime, deadline and period.
    let mut a = [0u32; ATTR_NEWEST as usize / 4];
    a[0] = size.min(ATTR_NEWEST);
    a[1] = policy & !RESET_ON_FORK;
    a[2] = reset as u32;
    match policy & !RESET_ON_FORK {
        SCHED_DEADLINE => {
            let [runtime, deadline, period, flags] = *t.attr.deadline.lock();
            a[2] |= flags as u32;
            for (i, ns) in [runtime, deadline, if period == 0 { deadline } else { period }].into_iter().enumerate() {
                (a[6 + 2 * i], a[7 + 2 * i]) = (ns as u32, (ns >> 32) as u32);
            }
        }
        SCHED_FIFO | SCHED_RR => a[5] = t.attr.rt_priority.load(Relaxed),
        _ => {
            a[4] = t.attr.nice.load(Relaxed) as u32;
            // The usual one grows with the number of CPUs (`sched_base_slice`).
            let usual = 700_000 * u64::from(1 + sched::cpus().clamp(1, 8).ilog2());
            let slice = match t.attr.slice.load(Relaxed) {
                0 => usual,
                own => own,
            };
            (a[6], a[7]) = (slice as u32, (slice >> 32) as u32);
        }
    }
    // What the program knows and this kernel does not is zero.
    let bytes: Vec<u8> =
        a.iter().flat_map(|word| word.to_le_bytes()).chain(core::iter::repeat(0)).take(size as usize).collect();
    Ok(out.slice(bytes.len()).write_from(&bytes)?)
}

/// `sched_setattr(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EPERM`, `EFAULT`, `E2BIG`.
pub fn sys_sched_setattr(cur: &CurrentTask, pid: i32, attr: UserPtr<[u32; 12]>, flags: u32) -> SysResult<()> {
    if attr.is_null() || pid < 0 || flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let size = attr.cast::<u32>().read()?;
    let size = if size == 0 { ATTR_SIZE } else { size };
    if !(ATTR_SIZE..=4096).contains(&size) {
        let _ = attr.cast::<u32>().write(ATTR_NEWEST);
        return Err(Errno::E2BIG.into());
    }
    let a = attr.cast::<[u32; ATTR_NEWEST as usize / 4]>().read_grown(size as usize, ATTR_SIZE as usize);
    let a = a.inspect_err(|&e| {
        if e == Errno::E2BIG {
            let _ = attr.cast::<u32>().write(ATTR_NEWEST);
        }
    })?;
    let (flags, policy) = (u64::from(a[2]) | u64::from(a[3]) << 32, a[1]);
    if (policy as i32) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let t = target(cur, pid)?;
    if flags & !SCHED_FLAGS != 0 {
        // Bounds of the utilisation are the host's to set.
        return Err(Errno::EINVAL.into());
    }
    let wide = |i: usize| u64::from(a[i]) | u64::from(a[i + 1]) << 32;
    let keeps = |flag: u64| flags & flag != 0;
    let reset = if keeps(FLAG_RESET_ON_FORK) { RESET_ON_FORK } else { 0 };
    let mut wanted = Wanted {
        policy: if keeps(FLAG_KEEP_POLICY) { None } else { Some(policy | reset) },
        priority: a[5],
        nice: Some((a[4] as i32).clamp(-20, 19)),
        deadline: [wide(6), wide(8), wide(10), flags & (FLAG_RECLAIM | FLAG_DL_OVERRUN)],
        slice: Some(wide(6)),
        keeps: keeps(FLAG_KEEP_PARAMS),
    };
    if keeps(FLAG_KEEP_PARAMS) {
        // What tasks without priority keep is their nice value alone (`get_params`).
        if t.attr.is_prioritised() {
            wanted.priority = t.attr.rt_priority.load(Relaxed);
        }
        wanted.nice = None;
        wanted.deadline = *t.attr.deadline.lock();
    }
    set(cur, &t, &wanted)
}

/// `SCHED_FLAG_*` of `sched_setattr(2)`, those that are there.
const FLAG_RESET_ON_FORK: u64 = 1;
const FLAG_RECLAIM: u64 = 2;
const FLAG_DL_OVERRUN: u64 = 4;
const FLAG_KEEP_POLICY: u64 = 8;
const FLAG_KEEP_PARAMS: u64 = 0x10;
const SCHED_FLAGS: u64 = 0x1f;

/// Largest CPU mask that is looked at, bytes.
const MASK_MAX: usize = 1024;

/// `sched_getaffinity(2)`.
///
/// # Errors
/// `EINVAL` for a buffer that is too small, `ESRCH`, `EFAULT`.
pub fn sys_sched_getaffinity(cur: &CurrentTask, pid: i32, len: u32, mask: UserPtr<u8>) -> SysResult<usize> {
    let len = len as usize;
    // Its bits are counted in 32 bits.
    if !len.is_multiple_of(8) || (len as u32).wrapping_mul(8) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let t = target(cur, pid).map_err(|_| Errno::ESRCH)?;
    // The filter lets a thread ask and change nobody's CPUs but its own.
    let (n, buf) = work::run_on(&t, move |_| {
        let mut buf = [0u8; MASK_MAX];
        sched::getaffinity(&mut buf[..len.min(MASK_MAX)]).map(|n| (n, buf))
    })??;
    mask.slice(n).write_from(&buf[..n])?;
    Ok(n)
}

/// `sched_setaffinity(2)`.
///
/// # Errors
/// `EINVAL` when no such CPU is there, `EPERM`, `ESRCH`, `EFAULT`.
pub fn sys_sched_setaffinity(cur: &CurrentTask, pid: i32, len: u32, mask: UserPtr<u8>) -> SysResult<()> {
    let mut buf = [0u8; MASK_MAX];
    let n = (len as usize).min(MASK_MAX);
    mask.slice(n).read_into(&mut buf[..n])?;
    let t = target(cur, pid).map_err(|_| Errno::ESRCH)?;
    access::may_schedule(cur.subject(), &t)?;
    sched::within(&mut buf[..n]);
    Ok(work::run_on(&t, move |task| {
        sched::setaffinity(&buf[..n])?;
        let (words, _) = buf.as_chunks::<8>();
        *task.attr.affinity.lock() = Some(core::array::from_fn(|i| u64::from_ne_bytes(words[i])));
        Ok::<(), Errno>(())
    })??)
}

/// `getcpu(2)`.
///
/// # Errors
/// `EFAULT`.
pub fn sys_getcpu(_cur: &CurrentTask, cpu: UserPtr<u32>, node: UserPtr<u32>, _cache: u64) -> SysResult<()> {
    let (c, n) = sched::getcpu()?;
    if let Some(p) = cpu.option() {
        p.write(c)?;
    }
    if let Some(p) = node.option() {
        p.write(n)?;
    }
    Ok(())
}

/// `MEMBARRIER_CMD_FLAG_CPU`.
const FLAG_CPU: u32 = 1;

/// `membarrier(2)`: threads of a process share a host process, so the host's own barrier serves; its
/// global ones reach every process of the host.
///
/// # Errors
/// `EINVAL`, `EPERM` when not registered.
pub fn sys_membarrier(_cur: &CurrentTask, cmd: i32, flags: u32, cpu: i32) -> SysResult<u64> {
    if flags & !FLAG_CPU != 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(sched::membarrier(cmd as u32, flags, cpu as u32)?)
}

/// The tasks that `getpriority` and `setpriority` mean.
fn chosen(cur: &CurrentTask, which: i32, who: i32) -> Result<Vec<Arc<Task>>> {
    let who = who as u32;
    let tasks: Vec<Arc<Task>> = match which as u32 {
        PRIO_PROCESS if who == 0 => alloc::vec![Arc::clone(cur)],
        PRIO_PROCESS => cur.task_of(who).into_iter().collect(),
        PRIO_PGRP => {
            let members = if who == 0 { tree::members(cur.group.pgid()) } else { cur.members_of(who) };
            members.iter().flat_map(|g| g.tasks()).collect()
        }
        PRIO_USER => {
            let uid = if who == 0 { cur.cred().uid } else { cur.cred().user_ns.meant(Kind::User, who)? };
            let mut all = cur.pid_namespace().tasks();
            all.retain(|t| t.cred().uid == uid);
            all
        }
        _ => return Err(Errno::EINVAL),
    };
    if tasks.is_empty() { Err(Errno::ESRCH) } else { Ok(tasks) }
}

fn renice(cur: &CurrentTask, t: &Arc<Task>, nice: i32) -> Result {
    let privileged = cur.cred().capable(cap::SYS_NICE);
    access::may_schedule(cur.subject(), t)?;
    let floor = 20 - t.group.limits.get(limits::NICE).0.min(40) as i32;
    if nice < t.attr.nice.load(Relaxed) && nice < floor && !privileged {
        return Err(Errno::EACCES);
    }
    t.attr.nice.store(nice, Relaxed);
    Ok(())
}

/// `getpriority(2)`; the result is 20 - nice, as the raw call has it.
///
/// # Errors
/// `EINVAL`, `ESRCH`.
pub fn sys_getpriority(cur: &CurrentTask, which: i32, who: i32) -> SysResult<i32> {
    let best = chosen(cur, which, who)?.iter().map(|t| t.attr.nice.load(Relaxed)).min().unwrap_or(0);
    Ok(20 - best)
}

/// `setpriority(2)`. The host's priority stays as it is.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EACCES`, `EPERM`.
pub fn sys_setpriority(cur: &CurrentTask, which: i32, who: i32, nice: i32) -> SysResult<()> {
    for t in chosen(cur, which, who)? {
        renice(cur, &t, nice.clamp(-20, 19))?;
    }
    Ok(())
}

/// `ioprio_get(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`.
pub fn sys_ioprio_get(cur: &CurrentTask, which: i32, who: i32) -> SysResult<u32> {
    // IOPRIO_WHO_* are PRIO_* plus one.
    let tasks = chosen(cur, which.wrapping_sub(1), who)?;
    Ok(tasks.first().map_or(0, |t| t.attr.ioprio.load(Relaxed)))
}

/// Whether the caller may give this priority of input and output (`ioprio_check_cap`).
///
/// # Errors
/// `EINVAL`, `EPERM`.
pub(super) fn check_ioprio(cur: &CurrentTask, ioprio: i32) -> Result {
    // Three bits of level, ten of hints, which nothing here goes by.
    let (class, level) = (ioprio >> 13, ioprio & 7);
    if !(0..=3).contains(&class) || class == 0 && level != 0 {
        return Err(Errno::EINVAL);
    }
    if class == 1 && !cur.cred().capable(cap::SYS_ADMIN) && !cur.cred().capable(cap::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// `ioprio_set(2)`: kept, without effect.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EPERM`.
pub fn sys_ioprio_set(cur: &CurrentTask, which: i32, who: i32, ioprio: i32) -> SysResult<()> {
    check_ioprio(cur, ioprio)?;
    for t in chosen(cur, which.wrapping_sub(1), who)? {
        access::may_schedule(cur.subject(), &t)?;
        t.attr.ioprio.store(ioprio as u32, Relaxed);
    }
    Ok(())
}
