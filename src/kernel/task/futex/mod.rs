//! Futexes (`futex(2)`): private ones by address space and address, shared ones by what is mapped.
//!
//! Who waits stands in a bucket of [`TABLE`], by word and in order of arrival. Locks with an owner ([`pi`]) have a table of their
//! own. A bucket's lock comes before that table's; two buckets are locked in order of their index.

pub mod pi;
mod requeue_pi;
mod robust;
mod vector;

pub use requeue_pi::{requeue_pi, wait_requeue_pi};
pub use robust::exit_robust_list;
pub use vector::{Wanted, wait_any};

use super::CurrentTask;
use crate::abi::linux::{PROT_READ, PROT_WRITE};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arch;
use crate::arena::{self, Object};
use crate::mm::user::{Fault, range_ok};
use crate::mm::{Backing, UserPtr};
use crate::sync::left::{self, Left};
use crate::sync::wait::{self, WakeList};
use crate::sync::{Kind, Level, Mend, MendMap, Mutex, MutexGuard, On, WaitEnd};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Identity of a futex word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Key {
    /// The address space of a word that belongs to one, 0 for others.
    space: u64,
    /// What is mapped, for others; for a word of an address space whether it was named as a shared one.
    object: (u64, u64),
    /// Address, or offset in what is mapped.
    offset: u64,
}

/// A futex word as a call names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its address.
    pub addr: u64,
    /// Only threads that share the address space use it (`FUTEX_PRIVATE_FLAG`).
    pub private: bool,
}

#[derive(Clone)]
struct Waiter {
    bits: u32,
    /// Slot index.
    slot: u32,
    /// Distinguishes waits.
    id: u64,
    /// What the slot's `futex_wait` says while it waits: one for all words that a call waits for.
    group: u64,
    /// A waiter of `FUTEX_WAIT_REQUEUE_PI`, which only `FUTEX_CMP_REQUEUE_PI` may touch.
    pi: Option<Arc<pi::Waiter>>,
}

/// Where a waiter stands: the word, and its place in the order of those who wait for it.
type Place = (Key, u64);
type Waiters = MendMap<Place, Waiter>;
type Bucket = MutexGuard<'static, Waiters>;

const BUCKETS: usize = 256;
static TABLE: [Mutex<Waiters>; BUCKETS] = [const { Mutex::new(Level::Futex, Waiters::new()) }; BUCKETS];
/// Numbers of waits, and places in the order.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// How many waiters were ever moved to another word, so that their place is not their number.
static MOVED: AtomicU64 = AtomicU64::new(0);

/// Registers who makes a bucket whole again that a thread has left in the middle of a change (at boot).
pub fn init() {
    crate::sync::set_repair(Level::Futex, |lock| {
        let bucket = TABLE.iter().find(|bucket| core::ptr::from_ref(*bucket).addr() == lock);
        let Some(bucket) = bucket else { return false };
        // SAFETY: its holder is dead, it is still locked, and nobody else has access.
        let waiters = unsafe { &mut *bucket.as_ptr().cast_mut() };
        waiters.mend();
        // Whoever died may have woken one that it did not live to take out.
        waiters.retain(|_, w| arch::slot_at(w.slot).futex_wait.load(SeqCst) == w.group || w.pi.is_some());
        true
    });
}

/// The first waiter for `key` from a place in the order on.
fn next<'a>(waiters: &'a Waiters, key: &Key, from: u64) -> Option<(Place, &'a Waiter)> {
    waiters.range((*key, from)..=(*key, u64::MAX)).next().map(|(place, w)| (*place, w))
}

/// Matches every waiter.
pub const ANY: u32 = u32::MAX;

fn bucket(key: &Key) -> usize {
    let h = key.space ^ key.object.0.rotate_left(33) ^ key.object.1.rotate_left(17) ^ key.offset >> 2;
    (h.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % BUCKETS
}

impl Word {
    /// A word.
    pub const fn new(addr: u64, private: bool) -> Word {
        Word { addr, private }
    }

    fn ptr(self) -> UserPtr<u32> {
        UserPtr::new(self.addr)
    }

    fn key(self, cur: &CurrentTask) -> Result<Key> {
        if !self.addr.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if !range_ok(self.addr, 4) {
            return Err(Errno::EFAULT);
        }
        let mm = cur.mm();
        if self.private {
            return Ok(Key { space: mm.id, object: (0, 0), offset: self.addr });
        }
        let vma = mm.find(self.addr).ok_or(Errno::EFAULT)?;
        match &vma.backing {
            Backing::File { map, offset, .. } if vma.shared && vma.prot & (PROT_READ | PROT_WRITE) != 0 => {
                Ok(Key { space: 0, object: map.identity(), offset: offset + (self.addr - vma.start) })
            }
            // A page of the program's own that it cannot change never will be.
            Backing::Anon if !vma.shared && vma.prot & PROT_WRITE == 0 => Err(Errno::EFAULT),
            _ if vma.prot & (PROT_READ | PROT_WRITE) == 0 => Err(Errno::EFAULT),
            _ => Ok(Key { space: mm.id, object: (1, 0), offset: self.addr }),
        }
    }

    /// As [`Word::key`], of a word that the call may change (`FUTEX_WRITE` in Linux): where it is not private, its page
    /// is one that can be.
    fn key_to_change(self, cur: &CurrentTask) -> Result<Key> {
        let key = self.key(cur)?;
        let writable = || cur.mm().find(self.addr).is_some_and(|v| v.prot & PROT_WRITE != 0);
        if self.private || writable() { Ok(key) } else { Err(Errno::EFAULT) }
    }
}

/// What a wait that began in a bucket may be called off by.
enum Begun {
    Waits,
    Differs,
}

/// Enters a waiter if the word holds `expected`. A fault is for the caller to see to.
fn enqueue(word: Word, expected: u32, key: Key, w: Waiter) -> core::result::Result<Result<Begun>, Fault> {
    let mut waiters = TABLE[bucket(&key)].lock();
    if word.ptr().load_nofault()? != expected {
        return Ok(Ok(Begun::Differs));
    }
    if let Err(e) = arena::charge(Object::Watch) {
        return Ok(Err(e));
    }
    waiters.insert((key, w.id), w);
    Ok(Ok(Begun::Waits))
}

fn unqueue(id: u64, key: &Key) -> bool {
    if TABLE[bucket(key)].lock().remove(&(*key, id)).is_some() {
        return true;
    }
    if MOVED.load(SeqCst) == 0 {
        return false;
    }
    // It may have been moved, and may be while we look: then it has come to a bucket that is still to be seen, or
    // stands in two for a moment.
    TABLE.iter().any(|bucket| {
        let mut waiters = bucket.lock();
        let place = waiters.iter().find(|(_, w)| w.id == id).map(|(place, _)| *place);
        place.is_some_and(|place| waiters.remove(&place).is_some())
    })
}

/// A sleeping thread's entry.
struct Queued {
    id: u64,
    key: Key,
}

impl Left for Queued {
    fn left(&mut self) {
        unqueue(self.id, &self.key);
    }
}

/// `FUTEX_WAIT` and `FUTEX_WAIT_BITSET`: `deadline` on the host's monotonic clock, ns.
///
/// # Errors
/// `EAGAIN` if the word differs, `ETIMEDOUT`, `EFAULT`, a restart when interrupted.
pub fn wait(cur: &CurrentTask, word: Word, expected: u32, bits: u32, deadline: Option<u64>) -> SysResult<()> {
    if bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    let key = word.key(cur)?;
    let slot = arch::slot();
    let id = NEXT.fetch_add(1, SeqCst);
    let index = slot.index.load(SeqCst);
    slot.futex_wait.store(id, SeqCst);
    let begun = word
        .ptr()
        .under_lock(false, || enqueue(word, expected, key, Waiter { bits, slot: index, id, group: id, pi: None }))??;
    if matches!(begun, Begun::Differs) {
        return Err(Errno::EAGAIN.into());
    }
    let mut queued = Queued { id, key };
    let _queued = left::on_stack(&mut queued);
    loop {
        let ticket = slot.waker.ticket();
        if slot.futex_wait.load(SeqCst) != id {
            return Ok(());
        }
        let Err(end) = wait::sleep(slot, On { kind: Kind::Futex, id: word.addr }, ticket, deadline) else { continue };
        if !unqueue(id, &key) {
            // Woken in the same moment: that counts.
            return Ok(());
        }
        return match end {
            WaitEnd::TimedOut => Err(Errno::ETIMEDOUT.into()),
            WaitEnd::Interrupted => Err(SysError::Restart(Restart::Sys)),
        };
    }
}

fn wake_waiter(w: &Waiter, list: &mut WakeList) {
    let slot = arch::slot_at(w.slot);
    let _ = slot.futex_wait.compare_exchange(w.group, 0, SeqCst, SeqCst);
    list.add(&slot.waker);
}

/// Wakes at most `n` waiters of `key`.
fn wake_key(key: &Key, n: u32, bits: u32) -> Result<u32> {
    let mut woken = 0;
    let mut list = WakeList::default();
    let mut waiters = TABLE[bucket(key)].lock();
    pi::refuse_key(key)?;
    let mut from = 0;
    while woken < n
        && let Some((place, w)) = next(&waiters, key, from)
    {
        if w.pi.is_some() {
            return Err(Errno::EINVAL);
        }
        from = place.1 + 1;
        if w.bits & bits != 0 {
            wake_waiter(w, &mut list);
            waiters.remove(&place);
            woken += 1;
        }
    }
    Ok(woken)
}

/// How many waiters a call that names `n` wakes: one at least, as Linux has always done.
fn at_least_one(n: i32) -> u32 {
    n.max(1).unsigned_abs()
}

/// `FUTEX_WAKE` and `FUTEX_WAKE_BITSET`; `strict`: 0 means none (`futex_wake(2)`).
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn wake(cur: &CurrentTask, word: Word, n: i32, bits: u32, strict: bool) -> Result<u32> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let key = word.key(cur)?;
    if strict && n == 0 {
        return Ok(0);
    }
    wake_key(&key, at_least_one(n), bits)
}

/// Wakes one of those who wait for a word at the end of a thread, as a shared one (`mm_release` in Linux).
pub fn wake_word(cur: &CurrentTask, addr: u64) {
    let _ = wake(cur, Word::new(addr, false), 1, ANY, false);
}

/// The buckets of two keys, the second only if it is another one.
fn two(a: &Key, b: &Key) -> (Bucket, Option<Bucket>, bool) {
    let (ba, bb) = (bucket(a), bucket(b));
    let first = TABLE[ba.min(bb)].lock();
    let second = (ba != bb).then(|| TABLE[ba.max(bb)].lock());
    (first, second, ba <= bb)
}

/// `FUTEX_REQUEUE` and `FUTEX_CMP_REQUEUE`: how many were woken and moved.
///
/// # Errors
/// `EAGAIN` if the word differs from `expected`, `EINVAL`, `EFAULT`, `ENOMEM`.
pub fn requeue(
    cur: &CurrentTask,
    (from, to): (Word, Word),
    (wake_n, move_n): (i32, i32),
    expected: Option<u32>,
) -> Result<(u32, u32)> {
    let (Ok(wake_n), Ok(move_n)) = (u32::try_from(wake_n), u32::try_from(move_n)) else {
        return Err(Errno::EINVAL);
    };
    let keys = (from.key(cur)?, to.key(cur)?);
    match expected {
        None => move_waiters(keys, (wake_n, move_n), || Ok(true)).unwrap_or(Err(Errno::EFAULT)),
        Some(e) => {
            let ptr = from.ptr();
            ptr.under_lock(false, || move_waiters(keys, (wake_n, move_n), || Ok(ptr.load_nofault()? == e)))?
        }
    }
}

/// What one attempt under locks came to; a fault is for the caller to see to.
type Attempt<T> = core::result::Result<Result<T>, Fault>;

fn move_waiters(
    (a, b): (Key, Key),
    (wake_n, move_n): (u32, u32),
    as_expected: impl FnOnce() -> core::result::Result<bool, Fault>,
) -> Attempt<(u32, u32)> {
    let mut list = WakeList::default();
    let (mut first, mut second, in_order) = two(&a, &b);
    if !as_expected()? {
        return Ok(Err(Errno::EAGAIN));
    }
    if let Err(e) = pi::refuse_key(&a) {
        return Ok(Err(e));
    }
    let (mut woken, mut moved) = (0, 0);
    // Whoever is moved to the same word stands behind these.
    let end = NEXT.load(SeqCst);
    while woken < wake_n || moved < move_n {
        let source: &mut Waiters = if in_order { &mut first } else { second.as_mut().unwrap_or(&mut first) };
        let Some((place, w)) = next(source, &a, 0).filter(|(place, _)| place.1 < end) else { break };
        if w.pi.is_some() {
            return Ok(Err(Errno::EINVAL));
        }
        if woken < wake_n {
            wake_waiter(w, &mut list);
            source.remove(&place);
            woken += 1;
            continue;
        }
        let w = w.clone();
        MOVED.fetch_add(1, SeqCst);
        let new = (b, NEXT.fetch_add(1, SeqCst));
        let target: &mut Waiters = if in_order { second.as_mut().unwrap_or(&mut first) } else { &mut first };
        target.insert(new, w);
        let source: &mut Waiters = if in_order { &mut first } else { second.as_mut().unwrap_or(&mut first) };
        source.remove(&place);
        moved += 1;
    }
    Ok(Ok((woken, moved)))
}

/// `FUTEX_WAKE_OP`.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `ENOSYS` for an unknown operation.
pub fn wake_op(cur: &CurrentTask, (one, two): (Word, Word), (n1, n2): (i32, i32), encoded: u32) -> Result<u32> {
    let (a, b) = (one.key(cur)?, two.key_to_change(cur)?);
    let sign = |v: u32| ((v << 20) as i32 >> 20) as u32;
    let (op, cmp) = (encoded >> 28 & 0xf, encoded >> 24 & 0xf);
    let (mut oparg, cmparg) = (sign(encoded >> 12 & 0xfff), sign(encoded & 0xfff));
    if op & 8 != 0 {
        oparg = 1 << (oparg & 31);
    }
    let change = |old: u32| {
        Ok(match op & 7 {
            0 => oparg,
            1 => old.wrapping_add(oparg),
            2 => old | oparg,
            3 => old & !oparg,
            4 => old ^ oparg,
            _ => return Err(Errno::ENOSYS),
        })
    };
    let old = two.ptr().under_lock(true, || {
        loop {
            let old = two.ptr().load_nofault()?;
            let new = match change(old) {
                Ok(new) => new,
                Err(e) => return Ok(Err(e)),
            };
            if two.ptr().cmpxchg_nofault(old, new)? == old {
                return Ok(Ok(old));
            }
        }
    })??;
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
    let mut woken = wake_key(&a, at_least_one(n1), ANY)?;
    if hit {
        woken += wake_key(&b, at_least_one(n2), ANY)?;
    }
    Ok(woken)
}
