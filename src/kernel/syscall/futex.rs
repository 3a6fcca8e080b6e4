//! `futex(2)`.

use super::time::to_ns;
use crate::abi::linux::{
    __kernel_timespec, CLOCK_MONOTONIC, CLOCK_REALTIME, FUTEX_CLOCK_REALTIME, FUTEX_CMP_REQUEUE, FUTEX_LOCK_PI,
    FUTEX_LOCK_PI2, FUTEX_PRIVATE_FLAG, FUTEX_REQUEUE, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI, FUTEX_WAIT,
    FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP,
};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::UserPtr;
use crate::task::{CurrentTask, futex, lookup};
use crate::time;
use core::sync::atomic::Ordering::SeqCst;

fn deadline(op: u32, clock_real: bool, timeout: u64) -> Result<Option<u64>> {
    let Some(ptr) = UserPtr::<__kernel_timespec>::new(timeout).option() else { return Ok(None) };
    let ns = to_ns(ptr.read()?)?;
    if op == FUTEX_WAIT {
        return Ok(Some(time::deadline_in(ns as u64)));
    }
    let real = clock_real || op == FUTEX_LOCK_PI;
    Ok(time::deadline_at(if real { CLOCK_REALTIME } else { CLOCK_MONOTONIC } as i32, ns))
}

/// `futex(2)`.
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
    let clock_real = op & FUTEX_CLOCK_REALTIME != 0;
    let op = op & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    let val2 = timeout as u32;
    if clock_real && !matches!(op, FUTEX_WAIT | FUTEX_WAIT_BITSET | FUTEX_LOCK_PI2) {
        return Err(Errno::ENOSYS.into());
    }
    match op {
        FUTEX_WAIT | FUTEX_WAIT_BITSET => {
            let bits = if op == FUTEX_WAIT { futex::ANY } else { val3 };
            let until = deadline(op, clock_real, timeout)?;
            futex::wait(cur, addr, private, val, bits, until).map(|()| 0)
        }
        FUTEX_WAKE => Ok(futex::wake(cur, addr, private, val, futex::ANY)?),
        FUTEX_WAKE_BITSET => Ok(futex::wake(cur, addr, private, val, val3)?),
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE => {
            if (val as i32) < 0 || (val2 as i32) < 0 {
                return Err(Errno::EINVAL.into());
            }
            let expected = (op == FUTEX_CMP_REQUEUE).then_some(val3);
            let (woken, moved) = futex::requeue(cur, (addr, addr2), private, (val, val2), expected)?;
            Ok(if op == FUTEX_CMP_REQUEUE { woken + moved } else { woken })
        }
        FUTEX_WAKE_OP => Ok(futex::wake_op(cur, (addr, addr2), private, (val, val2), val3)?),
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => {
            let until = deadline(op, clock_real, timeout)?;
            futex::lock_pi(cur, addr, private, until, false).map(|()| 0)
        }
        FUTEX_TRYLOCK_PI => futex::lock_pi(cur, addr, private, None, true).map(|()| 0),
        FUTEX_UNLOCK_PI => Ok(futex::unlock_pi(cur, addr, private).map(|()| 0)?),
        _ => Err(Errno::ENOSYS.into()),
    }
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
        pid => lookup(pid).ok_or(Errno::ESRCH)?.robust_list.load(SeqCst),
    };
    len.write(24)?;
    Ok(head.write(list)?)
}
