//! `FUTEX_WAIT_REQUEUE_PI` and `FUTEX_CMP_REQUEUE_PI`: from a condition to a lock with an owner, without waking.

use super::pi::{self, Found, LOCKS, Locks};
use super::{Attempt, Begun, Bucket, CurrentTask, Key, NEXT, Place, Waiter, Word, enqueue, next, two, unqueue};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arch;
use crate::arena::{self, Object};
use crate::mm::user::bring_in;
use crate::sync::wait::{self, WaitEnd, WakeList};
use crate::sync::{Kind, On};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;

/// `FUTEX_WAIT_REQUEUE_PI`: waits at `from` to be moved to `to`, and then for that lock.
///
/// # Errors
/// `EAGAIN` if the word differs or a signal came after the move, `EINVAL`, `EFAULT`, `ETIMEDOUT`, a restart.
pub fn wait_requeue_pi(
    cur: &CurrentTask,
    (from, to): (Word, Word),
    expected: u32,
    bits: u32,
    deadline: Option<u64>,
) -> SysResult<()> {
    if from.addr == to.addr || bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    arena::charge(Object::Watch)?;
    let target = to.key_to_change(cur)?;
    if !to.private {
        bring_in(to.addr, 4, true)?;
    }
    let key = from.key(cur)?;
    let slot = arch::slot();
    let id = NEXT.fetch_add(1, SeqCst);
    let index = slot.index.load(SeqCst);
    slot.futex_wait.store(id, SeqCst);
    let waiter = pi::Waiter::new(cur, target);
    let begun = from.ptr().under_lock(false, || {
        let pi = Some(waiter.clone());
        enqueue(from, expected, key, Waiter { bits, slot: index, id, group: id, pi })
    })??;
    if matches!(begun, Begun::Differs) {
        return Err(Errno::EAGAIN.into());
    }
    if key == target {
        unqueue(id, &key);
        return Err(Errno::EINVAL.into());
    }
    loop {
        let ticket = slot.waker.ticket();
        if waiter.is_moved() {
            break;
        }
        let Err(end) = wait::sleep(slot, On { kind: Kind::Futex, id: from.addr }, ticket, deadline) else { continue };
        if unqueue(id, &key) {
            return Err(match end {
                WaitEnd::TimedOut => Errno::ETIMEDOUT.into(),
                WaitEnd::Interrupted => SysError::Restart(Restart::NoIntr),
            });
        }
        if waiter.is_moved() {
            break;
        }
    }
    // It cannot start again: the word at `from` is another one by now.
    pi::wait_for(cur, to, &waiter, deadline, Errno::EAGAIN.into())
}

/// `FUTEX_CMP_REQUEUE_PI`: gives the lock to the first waiter or moves it there, and `move_n` more; how many.
///
/// # Errors
/// `EAGAIN` if the word differs, `EINVAL`, `EFAULT`, `EDEADLK`, `ESRCH`.
pub fn requeue_pi(
    cur: &CurrentTask,
    (from, to): (Word, Word),
    (wake_n, move_n): (i32, i32),
    expected: u32,
) -> SysResult<u32> {
    if wake_n < 0 || move_n < 0 || from.addr == to.addr || wake_n != 1 {
        return Err(Errno::EINVAL.into());
    }
    let keys = (from.key(cur)?, to.key(cur)?);
    bring_in(to.addr, 4, true)?;
    if keys.0 == keys.1 {
        return Err(Errno::EINVAL.into());
    }
    loop {
        let guess = pi::owner_of(to.ptr())?;
        let outcome = from.ptr().under_lock(false, || {
            let mut list = WakeList::default();
            let (mut first, mut second, in_order) = two(&keys.0, &keys.1);
            let source = if in_order { &mut first } else { second.as_mut().unwrap_or(&mut first) };
            let mut locks = LOCKS.lock();
            if from.ptr().load_nofault()? != expected {
                return Ok(Err(Errno::EAGAIN));
            }
            move_to_lock(source, &mut locks, (keys, to), move_n as u32, &guess, &mut list)
        })?;
        if let Some(n) = outcome? {
            return Ok(n);
        }
        if cur.is_dying() {
            return Err(SysError::Restart(Restart::NoIntr));
        }
    }
}

/// The place of the first waiter of `key`, which must wait to be moved to `target`.
fn first(source: &Bucket, key: &Key, target: &Key) -> Result<Option<(Place, Arc<pi::Waiter>)>> {
    let Some((at, w)) = next(source, key, 0) else { return Ok(None) };
    match &w.pi {
        Some(w) if w.target == *target => Ok(Some((at, w.clone()))),
        _ => Err(Errno::EINVAL),
    }
}

/// One attempt: `None` to try again.
fn move_to_lock(
    source: &mut Bucket,
    locks: &mut Locks,
    ((key, target), to): ((Key, Key), Word),
    move_n: u32,
    guess: &pi::Guess,
    list: &mut WakeList,
) -> Attempt<Option<u32>> {
    let (at, top) = match first(source, &key, &target) {
        Ok(Some(top)) => top,
        Ok(None) => return Ok(Ok(Some(0))),
        Err(e) => return Ok(Err(e)),
    };
    let mut moved = 0;
    match pi::acquire(locks, (target, to.ptr()), top.id(), guess, move_n > 0)? {
        Ok(Found::Mine) => {
            source.remove(&at);
            top.grant(list);
            moved = 1;
        }
        Ok(Found::Held) => {}
        Ok(Found::Again) => return Ok(Ok(None)),
        Err(e) => return Ok(Err(e)),
    }
    let mut failed = None;
    // One that got the lock counts in place of the one to be woken.
    while moved < move_n.saturating_add(1) {
        match first(source, &key, &target) {
            Ok(None) => break,
            Ok(Some((at, w))) => match locks.enqueue(&w) {
                Ok(()) => {
                    source.remove(&at);
                    moved += 1;
                }
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            },
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
    }
    locks.tidy(&target);
    Ok(failed.map_or(Ok(Some(moved)), Err))
}
