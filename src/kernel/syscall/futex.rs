//! `futex(2)`, the `futex_*` calls of Linux 6.7, robust lists.

use crate::abi::linux::{
    __kernel_timespec, CLOCK_MONOTONIC, CLOCK_REALTIME, FUTEX_CLOCK_REALTIME, FUTEX_CMP_REQUEUE, FUTEX_CMP_REQUEUE_PI,
    FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_PRIVATE_FLAG, FUTEX_REQUEUE, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI, FUTEX_WAIT,
    FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP,
};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::mm::UserPtr;
use crate::mm::user::Plain;
use crate::task::access::{self, By, Look};
use crate::task::futex::{self, Wanted, Word, pi};
use crate::task::time_ns::running_ahead;
use crate::task::{self, CurrentTask};
use crate::time;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

/// Flags of the calls of Linux 6.7: a word of 32 bits, and of one address space.
const SIZE_U32: u32 = 2;
const PRIVATE: u32 = 128;
/// Most words of `futex_waitv`.
const WAITV_MAX: u32 = 128;

fn nanoseconds(timeout: UserPtr<__kernel_timespec>) -> Result<Option<i64>> {
    timeout.option().map(|t| super::time::to_ns(t.read()?)).transpose()
}

/// `futex(2)`. Where the timeout's place holds a number, that is what is used of it.
pub fn sys_futex(
    cur: &CurrentTask,
    addr: u64,
    op: u32,
    val: u32,
    timeout: u64,
    addr2: u64,
    val3: u32,
) -> SysResult<u32> {
    let private = op & FUTEX_PRIVATE_FLAG != 0;
    let real = op & FUTEX_CLOCK_REALTIME != 0;
    let op = op & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    let limit = match op {
        FUTEX_WAIT | FUTEX_WAIT_BITSET | FUTEX_LOCK_PI | FUTEX_LOCK_PI2 | FUTEX_WAIT_REQUEUE_PI => {
            nanoseconds(UserPtr::new(timeout))?
        }
        _ => None,
    };
    if real && !matches!(op, FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2) {
        return Err(Errno::ENOSYS.into());
    }
    let until = limit.and_then(|ns| match op {
        FUTEX_WAIT => Some(time::deadline_in(ns as u64)),
        FUTEX_LOCK_PI => at(CLOCK_REALTIME, ns),
        _ => at(if real { CLOCK_REALTIME } else { CLOCK_MONOTONIC }, ns),
    });
    let (word, other) = (Word::new(addr, private), Word::new(addr2, private));
    let (n, n2) = (val as i32, timeout as i32);
    match op {
        FUTEX_WAIT => wait(cur, word, val, futex::ANY, until),
        FUTEX_WAIT_BITSET => wait(cur, word, val, val3, until),
        FUTEX_WAKE => Ok(futex::wake(cur, word, n, futex::ANY, false)?),
        FUTEX_WAKE_BITSET => Ok(futex::wake(cur, word, n, val3, false)?),
        FUTEX_REQUEUE => Ok(moved(futex::requeue(cur, (word, other), (n, n2), None)?)),
        FUTEX_CMP_REQUEUE => Ok(moved(futex::requeue(cur, (word, other), (n, n2), Some(val3))?)),
        FUTEX_WAKE_OP => Ok(futex::wake_op(cur, (word, other), (n, n2), val3)?),
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => pi::lock(cur, word, until, false).map(|()| 0),
        FUTEX_TRYLOCK_PI => pi::lock(cur, word, None, true).map(|()| 0),
        FUTEX_UNLOCK_PI => Ok(pi::unlock(cur, word).map(|()| 0)?),
        FUTEX_WAIT_REQUEUE_PI => futex::wait_requeue_pi(cur, (word, other), val, futex::ANY, until).map(|()| 0),
        FUTEX_CMP_REQUEUE_PI => futex::requeue_pi(cur, (word, other), (n, n2), val3),
        _ => Err(Errno::ENOSYS.into()),
    }
}

fn at(clock: u32, ns: i64) -> Option<u64> {
    time::deadline_at(clock as i32, ns.saturating_sub(running_ahead(clock as i32)))
}

fn moved((woken, moved): (u32, u32)) -> u32 {
    woken + moved
}

/// A wait that goes on until the same moment after a signal that nobody handled.
fn wait(cur: &CurrentTask, word: Word, val: u32, bits: u32, until: Option<u64>) -> SysResult<u32> {
    match futex::wait(cur, word, val, bits, until) {
        Err(SysError::Restart(_)) if until.is_some() => {
            let Word { addr, private } = word;
            let deadline = until.unwrap_or(0);
            *cur.restart.lock() = Some(task::Restart::Futex { addr, private, val, bits, deadline });
            Err(SysError::Restart(Restart::Block))
        }
        other => other.map(|()| 0),
    }
}

/// `restart_syscall(2)` of a wait.
pub(super) fn wait_on(cur: &CurrentTask, word: Word, val: u32, bits: u32, deadline: u64) -> SysResult<u32> {
    wait(cur, word, val, bits, Some(deadline))
}

/// Behind the word is another, of its node (`FUTEX2_NUMA`).
const NUMA: u32 = 4;
/// The node is that of the memory policy (`FUTEX2_MPOL`): there is one node.
const MPOL: u32 = 8;

/// The word that the flags of a call of Linux 6.7 describe, if they name one of 32 bits that `val` fits in.
fn word2(addr: u64, flags: u32, val: u64) -> Result<Word> {
    let known = flags & !(3 | NUMA | MPOL | PRIVATE) == 0;
    if !known || flags & 3 != SIZE_U32 || val >> 32 != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & NUMA != 0 {
        if !addr.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let node = UserPtr::<u32>::new(addr.wrapping_add(4));
        match node.read()? {
            0 => {}
            // It is told where it is.
            u32::MAX => node.write(0)?,
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(Word::new(addr, flags & PRIVATE != 0))
}

fn until2(timeout: UserPtr<__kernel_timespec>, clock: u32) -> Result<Option<u64>> {
    if timeout.is_null() {
        return Ok(None);
    }
    if !matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC) {
        return Err(Errno::EINVAL);
    }
    Ok(nanoseconds(timeout)?.and_then(|ns| at(clock, ns)))
}

/// `futex_wake(2)`.
pub fn sys_futex_wake(cur: &CurrentTask, addr: u64, mask: u64, n: i32, flags: u32) -> SysResult<u32> {
    Ok(futex::wake(cur, word2(addr, flags, mask)?, n, mask as u32, true)?)
}

/// `futex_wait(2)`.
pub fn sys_futex_wait(
    cur: &CurrentTask,
    addr: u64,
    val: u64,
    mask: u64,
    flags: u32,
    timeout: UserPtr<__kernel_timespec>,
    clock: u32,
) -> SysResult<()> {
    let word = word2(addr, flags, val | mask)?;
    let until = until2(timeout, clock)?;
    futex::wait(cur, word, val as u32, mask as u32, until)
}

/// `struct futex_waitv`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WaitV {
    val: u64,
    addr: u64,
    flags: u32,
    reserved: u32,
}
// SAFETY: integers without padding.
unsafe impl Plain for WaitV {}

fn wanted(from: UserPtr<WaitV>, n: u32) -> Result<Vec<Wanted>> {
    let mut all = Vec::new();
    all.try_reserve_exact(n as usize).map_err(|_| Errno::ENOMEM)?;
    for i in 0..n as usize {
        let w = from.add(i).read()?;
        if w.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        all.push(Wanted { word: word2(w.addr, w.flags, w.val)?, value: w.val as u32 });
    }
    Ok(all)
}

/// `futex_requeue(2)`.
pub fn sys_futex_requeue(
    cur: &CurrentTask,
    waiters: UserPtr<WaitV>,
    flags: u32,
    wake_n: i32,
    move_n: i32,
) -> SysResult<u32> {
    if flags != 0 || waiters.is_null() {
        return Err(Errno::EINVAL.into());
    }
    let both = wanted(waiters, 2)?;
    if both[0].word.private != both[1].word.private {
        return Err(Errno::EINVAL.into());
    }
    Ok(moved(futex::requeue(cur, (both[0].word, both[1].word), (wake_n, move_n), Some(both[0].value))?))
}

/// `futex_waitv(2)`.
pub fn sys_futex_waitv(
    cur: &CurrentTask,
    waiters: UserPtr<WaitV>,
    n: u32,
    flags: u32,
    timeout: UserPtr<__kernel_timespec>,
    clock: u32,
) -> SysResult<usize> {
    if flags != 0 || n == 0 || n > WAITV_MAX || waiters.is_null() {
        return Err(Errno::EINVAL.into());
    }
    let until = until2(timeout, clock)?;
    futex::wait_any(cur, &wanted(waiters, n)?, until)
}

/// `set_robust_list(2)`.
pub fn sys_set_robust_list(cur: &CurrentTask, head: u64, len: usize) -> SysResult<()> {
    if len != 24 {
        return Err(Errno::EINVAL.into());
    }
    cur.robust_list.store(head, SeqCst);
    Ok(())
}

/// `get_robust_list(2)`.
pub fn sys_get_robust_list(cur: &CurrentTask, pid: u32, head: UserPtr<u64>, len: UserPtr<u64>) -> SysResult<()> {
    let list = match pid {
        0 => cur.robust_list.load(SeqCst),
        pid => {
            let task = cur.task_of(pid).ok_or(Errno::ESRCH)?;
            access::may_look(cur.subject(), &task, Look::Read, By::RealCreds)?;
            task.robust_list.load(SeqCst)
        }
    };
    len.write(24)?;
    Ok(head.write(list)?)
}
