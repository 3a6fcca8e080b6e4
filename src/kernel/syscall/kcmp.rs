//! `kcmp(2)`: whether two processes share something.

use crate::abi::{Errno, Result, SysResult};
use crate::host::random;
use crate::task::access::{self, By, Look};
use crate::task::{CurrentTask, Own, Task};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// `KCMP_*`.
const FILE: u32 = 0;
const VM: u32 = 1;
const FILES: u32 = 2;
const FS: u32 = 3;
const SIGHAND: u32 = 4;
const IO: u32 = 5;
const SYSVSEM: u32 = 6;

/// An order of objects that does not tell where they lie.
fn order(a: u64, b: u64) -> u32 {
    static SECRET: AtomicU64 = AtomicU64::new(0);
    if SECRET.load(Relaxed) == 0 {
        let _ = SECRET.compare_exchange(0, random::next_u64() | 1, Relaxed, Relaxed);
    }
    let hidden = |n: u64| (n ^ SECRET.load(Relaxed)).wrapping_mul(SECRET.load(Relaxed));
    match hidden(a).cmp(&hidden(b)) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    }
}

fn compare<T: ?Sized>(a: &Arc<T>, b: &Arc<T>) -> u32 {
    order(Arc::as_ptr(a).cast::<()>() as u64, Arc::as_ptr(b).cast::<()>() as u64)
}

fn target(cur: &CurrentTask, pid: i32) -> Result<(Arc<Task>, Own)> {
    let task = u32::try_from(pid).ok().and_then(|pid| cur.task_of(pid)).ok_or(Errno::ESRCH)?;
    access::may_look(cur.subject(), &task, Look::Read, By::RealCreds)?;
    let own = task.shared().ok_or(Errno::ESRCH)?;
    Ok((task, own))
}

/// `kcmp(2)`: 0 if it is the same, 1 or 2 for an order that stays.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EBADF`, `EINVAL`.
pub fn sys_kcmp(cur: &CurrentTask, pid1: i32, pid2: i32, kind: u32, a: u64, b: u64) -> SysResult<u32> {
    let ((t1, o1), (t2, o2)) = (target(cur, pid1)?, target(cur, pid2)?);
    let file = |own: &Own, fd: u64| {
        let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
        own.files.get_any(fd)
    };
    Ok(match kind {
        FILE => compare(&file(&o1, a)?, &file(&o2, b)?),
        VM => compare(&o1.mm, &o2.mm),
        FILES => compare(&o1.files, &o2.files),
        FS => compare(&o1.fs, &o2.fs),
        SIGHAND => compare(&t1.group.actions(), &t2.group.actions()),
        // Nobody has such a thing.
        IO | SYSVSEM => 0,
        _ => return Err(Errno::EINVAL.into()),
    })
}
