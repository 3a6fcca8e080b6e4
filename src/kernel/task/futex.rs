//! Futexes (`futex(2)`): private ones by address space and address, shared ones by what is mapped.

use super::CurrentTask;
use crate::abi::{Errno, Result, SysResult};
use crate::arch::{self, usercopy};
use crate::mm::user::range_ok;
use crate::mm::{Backing, UserPtr};
use crate::sync::wait::{self, WakeList};
use crate::sync::{Kind, Level, Mutex, On, WaitEnd};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Identity of a futex word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Key {
    space: u64,
    object: u64,
    offset: u64,
}

struct Waiter {
    key: Key,
    bits: u32,
    /// Slot index.
    slot: u32,
    /// Distinguishes waits of one slot.
    id: u64,
}

const BUCKETS: usize = 256;
static TABLE: [Mutex<Vec<Waiter>>; BUCKETS] = [const { Mutex::new(Level::Futex, Vec::new()) }; BUCKETS];
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Matches every waiter.
pub const ANY: u32 = u32::MAX;

fn bucket(key: &Key) -> usize {
    let h = key.space ^ key.object.rotate_left(17) ^ key.offset >> 2;
    (h.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % BUCKETS
}

fn key_of(cur: &CurrentTask, addr: u64, private: bool) -> Result<Key> {
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if !range_ok(addr, 4) {
        return Err(Errno::EFAULT);
    }
    let mm = cur.mm();
    if private {
        return Ok(Key { space: mm.id, object: 0, offset: addr });
    }
    let vma = mm.find(addr).ok_or(Errno::EFAULT)?;
    match &vma.backing {
        Backing::File { map, offset, .. } if vma.shared => {
            let (dev, ino, _) = map.describe();
            Ok(Key { space: 0, object: dev << 48 ^ ino, offset: offset + (addr - vma.start) })
        }
        _ => Ok(Key { space: mm.id, object: 0, offset: addr }),
    }
}

/// Loads a guest word; a page that is not there is faulted in by the host.
fn load(addr: u64) -> Result<u32> {
    // SAFETY: `key_of` checked the range and alignment; faults are handled.
    unsafe { usercopy::load(addr) }.ok_or(Errno::EFAULT)
}

fn unqueue(id: u64, key: Key) -> bool {
    // A requeue may move it while we look: the slot's own record of the key is under the bucket's
    // lock, so search the given bucket first and then all.
    for b in core::iter::once(bucket(&key)).chain(0..BUCKETS) {
        let mut waiters = TABLE[b].lock();
        if let Some(at) = waiters.iter().position(|w| w.id == id) {
            waiters.remove(at);
            return true;
        }
    }
    false
}

/// `FUTEX_WAIT` and `FUTEX_WAIT_BITSET`: `deadline` on the host's monotonic clock, ns.
///
/// # Errors
/// `EAGAIN` if the word differs, `ETIMEDOUT`, `EFAULT`, a restart when interrupted.
pub fn wait(
    cur: &CurrentTask,
    addr: u64,
    private: bool,
    expected: u32,
    bits: u32,
    deadline: Option<u64>,
) -> SysResult<()> {
    if bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    let key = key_of(cur, addr, private)?;
    let slot = arch::slot();
    let id = NEXT.fetch_add(1, SeqCst);
    {
        let mut waiters = TABLE[bucket(&key)].lock();
        if load(addr)? != expected {
            return Err(Errno::EAGAIN.into());
        }
        waiters.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        waiters.push(Waiter { key, bits, slot: slot.index.load(SeqCst), id });
        slot.futex_wait.store(id, SeqCst);
    }
    loop {
        let ticket = slot.waker.ticket();
        if slot.futex_wait.load(SeqCst) != id {
            return Ok(());
        }
        let Err(end) = wait::sleep(slot, On { kind: Kind::Futex, id: addr }, ticket, deadline) else { continue };
        if !unqueue(id, key) {
            // Woken in the same moment: that counts.
            return Ok(());
        }
        return match end {
            WaitEnd::TimedOut => Err(Errno::ETIMEDOUT.into()),
            WaitEnd::Interrupted => Err(crate::sync::Interrupted.into()),
        };
    }
}

fn wake_waiter(w: &Waiter, list: &mut WakeList) {
    let slot = arch::slot_at(w.slot);
    slot.futex_wait.store(0, SeqCst);
    list.add(&slot.waker);
}

fn wake_key(key: &Key, n: u32, bits: u32) -> u32 {
    let mut woken = 0;
    let mut list = WakeList::default();
    let mut waiters = TABLE[bucket(key)].lock();
    let mut at = 0;
    while at < waiters.len() && woken < n {
        if waiters[at].key == *key && waiters[at].bits & bits != 0 {
            let w = waiters.remove(at);
            wake_waiter(&w, &mut list);
            woken += 1;
        } else {
            at += 1;
        }
    }
    woken
}

/// `FUTEX_WAKE` and `FUTEX_WAKE_BITSET`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn wake(cur: &CurrentTask, addr: u64, private: bool, n: u32, bits: u32) -> Result<u32> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(wake_key(&key_of(cur, addr, private)?, n, bits))
}

/// Wakes whoever waits for a word at exit, privately or shared.
pub fn wake_word(cur: &CurrentTask, addr: u64, n: u32) {
    let mut keys = [None, None];
    keys[0] = key_of(cur, addr, true).ok();
    keys[1] = key_of(cur, addr, false).ok().filter(|k| Some(*k) != keys[0]);
    for key in keys.iter().flatten() {
        wake_key(key, n, ANY);
    }
}

/// `FUTEX_REQUEUE` and `FUTEX_CMP_REQUEUE`: how many were woken and moved.
///
/// # Errors
/// `EAGAIN` if the word differs from `expected`, `EINVAL`, `EFAULT`.
pub fn requeue(
    cur: &CurrentTask,
    (from, to): (u64, u64),
    private: bool,
    (wake_n, move_n): (u32, u32),
    expected: Option<u32>,
) -> Result<(u32, u32)> {
    let (a, b) = (key_of(cur, from, private)?, key_of(cur, to, private)?);
    let (ba, bb) = (bucket(&a), bucket(&b));
    let mut list = WakeList::default();
    let mut first = TABLE[ba.min(bb)].lock();
    let mut second = (ba != bb).then(|| TABLE[ba.max(bb)].lock());
    if let Some(e) = expected
        && load(from)? != e
    {
        return Err(Errno::EAGAIN);
    }
    let (mut woken, mut moved) = (0, 0);
    let mut taken = Vec::new();
    {
        let source = if ba <= bb { &mut first } else { second.as_mut().ok_or(Errno::EINVAL)? };
        let mut at = 0;
        while at < source.len() && (woken < wake_n || moved < move_n) {
            if source[at].key != a {
                at += 1;
                continue;
            }
            let mut w = source.remove(at);
            if woken < wake_n {
                wake_waiter(&w, &mut list);
                woken += 1;
            } else {
                w.key = b;
                taken.push(w);
                moved += 1;
            }
        }
    }
    let target = if ba == bb || bb < ba { &mut first } else { second.as_mut().ok_or(Errno::EINVAL)? };
    target.extend(taken);
    Ok((woken, moved))
}

/// `FUTEX_WAKE_OP`.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `ENOSYS` for an unknown operation.
pub fn wake_op(
    cur: &CurrentTask,
    (one, two): (u64, u64),
    private: bool,
    (n1, n2): (u32, u32),
    encoded: u32,
) -> Result<u32> {
    let (a, b) = (key_of(cur, one, private)?, key_of(cur, two, private)?);
    let sign = |v: u32| ((v << 20) as i32 >> 20) as u32;
    let (op, cmp) = (encoded >> 28 & 0xf, encoded >> 24 & 0xf);
    let (mut oparg, cmparg) = (sign(encoded >> 12 & 0xfff), sign(encoded & 0xfff));
    if op & 8 != 0 {
        oparg = 1 << (oparg & 31);
    }
    let old = loop {
        let old = load(two)?;
        let new = match op & 7 {
            0 => oparg,
            1 => old.wrapping_add(oparg),
            2 => old | oparg,
            3 => old & !oparg,
            4 => old ^ oparg,
            _ => return Err(Errno::ENOSYS),
        };
        // SAFETY: `key_of` checked the range and alignment; faults are handled.
        match unsafe { usercopy::cmpxchg(two, old, new) } {
            None => return Err(Errno::EFAULT),
            Some(seen) if seen == old => break old,
            Some(_) => {}
        }
    };
    let (o, c) = (old as i32, cmparg as i32);
    let hit = match cmp {
        0 => o == c,
        1 => o != c,
        2 => o < c,
        3 => o <= c,
        4 => o > c,
        5 => o >= c,
        _ => return Err(Errno::ENOSYS),
    };
    let mut woken = wake_key(&a, n1, ANY);
    if hit {
        woken += wake_key(&b, n2, ANY);
    }
    Ok(woken)
}

/// Most entries of a robust list that are walked (`ROBUST_LIST_LIMIT`).
const ROBUST_LIMIT: usize = 2048;
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID_MASK: u32 = 0x3fff_ffff;

/// Marks the robust futexes that the thread holds as ownerless and wakes one waiter of each.
pub fn exit_robust_list(cur: &CurrentTask) {
    let head = cur.robust_list.swap(0, SeqCst);
    if head == 0 {
        return;
    }
    let Ok([next, offset, pending]) = UserPtr::<[u64; 3]>::new(head).read() else { return };
    let mut at = next & !1;
    let mut n = 0;
    while at != head && n < ROBUST_LIMIT {
        let following = UserPtr::<u64>::new(at).read();
        if at != pending & !1 {
            release(cur, at.wrapping_add(offset), false);
        }
        let Ok(f) = following else { return };
        at = f & !1;
        n += 1;
    }
    if pending != 0 {
        release(cur, (pending & !1).wrapping_add(offset), true);
    }
}

fn release(cur: &CurrentTask, addr: u64, pending: bool) {
    if key_of(cur, addr, true).is_err() {
        return;
    }
    loop {
        let Ok(old) = load(addr) else { return };
        if pending && old & TID_MASK == 0 {
            wake_word(cur, addr, 1);
            return;
        }
        if old & TID_MASK != cur.tid() {
            return;
        }
        let new = old & WAITERS | OWNER_DIED;
        // SAFETY: `key_of` checked the range and alignment; faults are handled.
        match unsafe { usercopy::cmpxchg(addr, old, new) } {
            None => return,
            Some(seen) if seen == old => {
                if old & WAITERS != 0 {
                    wake_word(cur, addr, 1);
                }
                return;
            }
            Some(_) => {}
        }
    }
}

/// `FUTEX_LOCK_PI` and `FUTEX_TRYLOCK_PI`. Priorities are not inherited; ownership is as Linux keeps it.
///
/// # Errors
/// `EDEADLK`, `EAGAIN`, `ETIMEDOUT`, `EFAULT`.
pub fn lock_pi(cur: &CurrentTask, addr: u64, private: bool, deadline: Option<u64>, try_only: bool) -> SysResult<()> {
    key_of(cur, addr, private)?;
    let tid = cur.tid();
    loop {
        let old = load(addr)?;
        let owner = old & TID_MASK;
        if owner == tid {
            return Err(Errno::EDEADLK.into());
        }
        let new = if owner == 0 { old & (OWNER_DIED | WAITERS) | tid } else { old | WAITERS };
        if owner != 0 && try_only {
            return Err(Errno::EAGAIN.into());
        }
        if new != old {
            // SAFETY: `key_of` checked the range and alignment; faults are handled.
            let seen = unsafe { usercopy::cmpxchg(addr, old, new) }.ok_or(Errno::EFAULT)?;
            if seen != old {
                continue;
            }
        }
        if owner == 0 {
            return Ok(());
        }
        match wait(cur, addr, private, new, ANY, deadline) {
            Ok(()) | Err(crate::abi::SysError::Errno(Errno::EAGAIN)) => {}
            Err(e) => return Err(e),
        }
    }
}

/// `FUTEX_UNLOCK_PI`.
///
/// # Errors
/// `EPERM` if the caller is not the owner, `EFAULT`.
pub fn unlock_pi(cur: &CurrentTask, addr: u64, private: bool) -> Result {
    let key = key_of(cur, addr, private)?;
    loop {
        let old = load(addr)?;
        if old & TID_MASK != cur.tid() {
            return Err(Errno::EPERM);
        }
        // SAFETY: `key_of` checked the range and alignment; faults are handled.
        let seen = unsafe { usercopy::cmpxchg(addr, old, 0) }.ok_or(Errno::EFAULT)?;
        if seen == old {
            // Every waiter tries again and marks the word, so that none is forgotten.
            wake_key(&key, u32::MAX, ANY);
            return Ok(());
        }
    }
}
