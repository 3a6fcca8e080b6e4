//! Locks whose word names their owner (`FUTEX_LOCK_PI` and its like; `Documentation/locking/pi-futex.rst`).
//!
//! The kernel knows of a lock while somebody waits for it. Unlocking gives it to the waiter with the highest
//! real-time priority, the longest waiting among equals, and writes his name into the word. When an owner ends, the
//! lock goes to the next one as well, who writes the word himself, in his own address space.
//!
//! An owner does not run with the priority of those who wait for him: which thread runs is the host's decision, and
//! the host knows nothing of these locks.

use super::{Attempt, BUCKETS, CurrentTask, Key, TABLE, Word, bucket};
use crate::abi::slot::Waker;
use crate::abi::{Errno, Restart, Result, SysError, SysResult, linux};
use crate::arch;
use crate::arena::{self, Object};
use crate::mm::UserPtr;
use crate::sync::wait::{self, WaitEnd, WakeList};
use crate::sync::{Kind, Level, Mutex, On};
use crate::task::Task;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};

/// Somebody waits, so that unlocking is the kernel's business.
pub const WAITERS: u32 = 0x8000_0000;
/// An owner ended without unlocking.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// The owner's thread id.
pub const TID_MASK: u32 = 0x3fff_ffff;

/// Identity of a task, as long as it has not ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Id {
    address: usize,
    tid: u32,
}

impl Id {
    pub(super) fn of(task: &Arc<Task>) -> Id {
        Id { address: Arc::as_ptr(task) as usize, tid: task.shown_tid() }
    }
}

/// How far a waiter is.
mod stage {
    /// It waits for something else, to be moved to the lock.
    pub const ELSEWHERE: u32 = 0;
    /// It waits for the lock.
    pub const QUEUED: u32 = 1;
    /// It has the lock, and the word says so.
    pub const OWNS: u32 = 2;
    /// It has the lock, and has to say so in the word.
    pub const INHERITS: u32 = 3;
}

/// A thread that waits for a lock.
pub struct Waiter {
    id: Id,
    /// Lower comes first.
    rank: u32,
    waker: &'static Waker,
    stage: AtomicU32,
    /// The lock.
    pub(super) target: Key,
}

impl Waiter {
    pub(super) fn new(cur: &CurrentTask, target: Key) -> Arc<Waiter> {
        let real_time = matches!(cur.attr.policy.load(SeqCst) & 0xf, linux::SCHED_FIFO | linux::SCHED_RR);
        let rank = if real_time { 99 - cur.attr.rt_priority.load(SeqCst).min(99) } else { 100 };
        let (waker, stage) = (&arch::slot().waker, AtomicU32::new(stage::ELSEWHERE));
        Arc::new(Waiter { id: Id::of(cur), rank, waker, stage, target })
    }

    /// Whether it was moved to the lock, or has got it.
    pub(super) fn is_moved(&self) -> bool {
        self.stage.load(SeqCst) != stage::ELSEWHERE
    }

    pub(super) fn id(&self) -> Id {
        self.id
    }

    /// Gives it the lock, whose word says so already. The caller holds the table.
    pub(super) fn grant(&self, list: &mut WakeList) {
        self.stage.store(stage::OWNS, SeqCst);
        list.add(self.waker);
    }
}

/// A lock that somebody waits for, or whose word its owner has still to write.
struct State {
    owner: Option<Id>,
    inherits: bool,
    waiters: BTreeMap<(u32, u64), Arc<Waiter>>,
}

/// All such locks.
pub(super) struct Locks {
    states: BTreeMap<Key, State>,
    /// Which lock a task waits for.
    waits: BTreeMap<Id, (Key, (u32, u64))>,
    /// Which locks a task owns.
    owned: BTreeSet<(Id, Key)>,
    next: u64,
}

pub(super) static LOCKS: Mutex<Locks> = Mutex::new(
    Level::Futex,
    Locks { states: BTreeMap::new(), waits: BTreeMap::new(), owned: BTreeSet::new(), next: 0 },
);
/// How many there are, in all and by bucket, for those who need not look.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static COUNTS: [AtomicU32; BUCKETS] = [const { AtomicU32::new(0) }; BUCKETS];

/// Says no to an operation on a word for which somebody waits as a lock. The caller holds the word's bucket.
pub(super) fn refuse_key(key: &Key) -> Result {
    if COUNTS[bucket(key)].load(SeqCst) != 0 && LOCKS.lock().states.contains_key(key) {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

impl Locks {
    fn set_owner(&mut self, key: &Key, owner: Option<Id>) {
        let Some(state) = self.states.get_mut(key) else { return };
        if let Some(old) = core::mem::replace(&mut state.owner, owner) {
            self.owned.remove(&(old, *key));
        }
        if let Some(new) = owner {
            self.owned.insert((new, *key));
        }
    }

    /// Makes a lock known.
    pub(super) fn begin(&mut self, key: Key, owner: Id) {
        self.states.insert(key, State { owner: None, inherits: false, waiters: BTreeMap::new() });
        self.set_owner(&key, Some(owner));
        COUNT.fetch_add(1, SeqCst);
        COUNTS[bucket(&key)].fetch_add(1, SeqCst);
    }

    /// Forgets a lock that nobody waits for.
    pub(super) fn tidy(&mut self, key: &Key) {
        if self.states.get(key).is_some_and(|s| s.waiters.is_empty() && !s.inherits) {
            self.set_owner(key, None);
            self.states.remove(key);
            COUNT.fetch_sub(1, SeqCst);
            COUNTS[bucket(key)].fetch_sub(1, SeqCst);
        }
    }

    /// Whether `task` would wait for itself if it waited for this lock.
    fn closes_circle(&self, task: Id, key: &Key) -> bool {
        let mut at = self.states.get(key).and_then(|s| s.owner);
        // A circle would have been refused before, so this ends.
        while let Some(owner) = at {
            if owner == task {
                return true;
            }
            at = self.waits.get(&owner).and_then(|(key, _)| self.states.get(key)).and_then(|s| s.owner);
        }
        false
    }

    /// Lets `w` wait for a lock that is known.
    pub(super) fn enqueue(&mut self, w: &Arc<Waiter>) -> Result {
        let key = w.target;
        if self.closes_circle(w.id, &key) {
            self.tidy(&key);
            return Err(Errno::EDEADLK);
        }
        self.next += 1;
        let place = (w.rank, self.next);
        if let Some(state) = self.states.get_mut(&key) {
            w.stage.store(stage::QUEUED, SeqCst);
            state.waiters.insert(place, w.clone());
            self.waits.insert(w.id, (key, place));
        }
        Ok(())
    }

    /// Takes `w` back; `false` if it has got the lock.
    fn leave(&mut self, w: &Waiter) -> bool {
        if w.stage.load(SeqCst) >= stage::OWNS {
            return false;
        }
        if let Some((key, place)) = self.waits.remove(&w.id) {
            if let Some(state) = self.states.get_mut(&key) {
                state.waiters.remove(&place);
            }
            self.tidy(&key);
        }
        true
    }

    /// Whether the word of a known lock says what the kernel knows (`attach_to_pi_state` in Linux).
    pub(super) fn check(&self, key: &Key, word: u32) -> Result<bool> {
        let Some(state) = self.states.get(key) else { return Ok(false) };
        let tid = word & TID_MASK;
        let agrees = state.inherits
            || word & OWNER_DIED != 0 && tid == 0
            || tid != 0 && state.owner.is_some_and(|o| o.tid == tid);
        if agrees { Ok(true) } else { Err(Errno::EINVAL) }
    }

    fn first(&mut self, key: &Key) -> Option<Arc<Waiter>> {
        let (_, w) = self.states.get_mut(key)?.waiters.pop_first()?;
        self.waits.remove(&w.id);
        Some(w)
    }
}

/// What somebody who wants a lock finds.
pub(super) enum Found {
    /// He has it.
    Mine,
    /// Somebody else has it, and the kernel knows of it.
    Held,
    /// The word changes: again.
    Again,
}

/// Whom a word named a moment ago: the id, 0 for nobody, and the task, if there was one with it.
pub(super) type Guess = (u32, Option<Arc<Task>>);

/// Takes the lock for `who` or finds its owner (`futex_lock_pi_atomic`). `waiters`: the word is to say that somebody waits even if it becomes `who`'s.
pub(super) fn acquire(
    locks: &mut Locks,
    (key, ptr): (Key, UserPtr<u32>),
    who: Id,
    guess: &Guess,
    waiters: bool,
) -> Attempt<Found> {
    let old = ptr.load_nofault()?;
    if old & TID_MASK == who.tid {
        return Ok(Err(Errno::EDEADLK));
    }
    match locks.check(&key, old) {
        Ok(true) => return Ok(Ok(Found::Held)),
        Ok(false) => {}
        Err(e) => return Ok(Err(e)),
    }
    if old & TID_MASK == 0 {
        let new = old & OWNER_DIED | who.tid | if waiters { WAITERS } else { 0 };
        if ptr.cmpxchg_nofault(old, new)? != old {
            return Ok(Ok(Found::Again));
        }
        if waiters {
            locks.begin(key, who);
        }
        return Ok(Ok(Found::Mine));
    }
    // A word that named nobody, or somebody else, says nothing of whether its owner of now has ended.
    if old & TID_MASK != guess.0 {
        return Ok(Ok(Found::Again));
    }
    let new = old | WAITERS;
    if new != old && ptr.cmpxchg_nofault(old, new)? != old {
        return Ok(Ok(Found::Again));
    }
    if let Some(owner) = &guess.1 {
        if owner.shown_tid() != guess.0 {
            return Ok(Ok(Found::Again));
        }
        // First the lock, then a look whether its owner ends, who does it the other way round ([`ended`]).
        locks.begin(key, Id::of(owner));
        if !owner.futex_ended.load(SeqCst) {
            return Ok(Ok(Found::Held));
        }
        locks.tidy(&key);
    }
    // It has ended: unless it has given the lock up since, nobody ever will.
    let changed = ptr.load_nofault()? != new;
    Ok(if changed { Ok(Found::Again) } else { Err(Errno::ESRCH) })
}

/// The task that a word names.
pub(super) fn owner_of(ptr: UserPtr<u32>) -> Result<Guess> {
    let tid = ptr.read()? & TID_MASK;
    Ok((
        tid,
        if tid == 0 { None } else { crate::task::work::running().and_then(|me| me.group.id.namespace().task(tid)) },
    ))
}

/// Whether somebody waits for the word without wanting to own it.
fn has_others(waiters: &super::Waiters, key: &Key) -> bool {
    super::next(waiters, key, 0).is_some()
}

/// `FUTEX_LOCK_PI`, `FUTEX_LOCK_PI2`, `FUTEX_TRYLOCK_PI`. `deadline` on the host's monotonic clock, ns.
///
/// # Errors
/// `EDEADLK`, `EAGAIN` where it would wait, `ETIMEDOUT`, `EFAULT`, `EINVAL`, `ESRCH`; always a restart when interrupted.
pub fn lock(cur: &CurrentTask, word: Word, deadline: Option<u64>, try_only: bool) -> SysResult<()> {
    arena::charge(Object::Watch)?;
    let ptr = word.ptr();
    loop {
        let key = word.key(cur)?;
        let guess = owner_of(ptr)?;
        let waiter = Waiter::new(cur, key);
        let found = ptr.under_lock(true, || {
            let others = TABLE[bucket(&key)].lock();
            let mut locks = LOCKS.lock();
            let seen = ptr.load_nofault()?;
            if seen & TID_MASK == cur.shown_tid() {
                return Ok(Err(Errno::EDEADLK));
            }
            if has_others(&others, &key) {
                return Ok(Err(Errno::EINVAL));
            }
            let found = acquire(&mut locks, (key, ptr), waiter.id, &guess, false)?;
            if !matches!(found, Ok(Found::Held)) {
                return Ok(found);
            }
            if try_only {
                locks.tidy(&key);
                return Ok(Err(Errno::EAGAIN));
            }
            Ok(locks.enqueue(&waiter).map(|()| Found::Held))
        })??;
        match found {
            Found::Mine => return Ok(()),
            Found::Held => return wait_for(cur, word, &waiter, deadline, SysError::Restart(Restart::NoIntr)),
            Found::Again if cur.is_dying() => return Err(SysError::Restart(Restart::NoIntr)),
            Found::Again => {}
        }
    }
}

/// Sleeps until `w` has its lock, or until `deadline`; `broken`: what an interruption ends with.
pub(super) fn wait_for(
    cur: &CurrentTask,
    word: Word,
    w: &Arc<Waiter>,
    deadline: Option<u64>,
    broken: SysError,
) -> SysResult<()> {
    let slot = arch::slot();
    loop {
        let ticket = slot.waker.ticket();
        match w.stage.load(SeqCst) {
            stage::OWNS => return Ok(()),
            stage::INHERITS => return Ok(inherit(cur, word, w.target)?),
            _ => {}
        }
        let Err(end) = wait::sleep(slot, On { kind: Kind::Futex, id: word.addr }, ticket, deadline) else { continue };
        if LOCKS.lock().leave(w) {
            return Err(match end {
                WaitEnd::TimedOut => Errno::ETIMEDOUT.into(),
                WaitEnd::Interrupted => broken,
            });
        }
    }
}

/// Writes the caller's name into the word of a lock whose owner ended.
fn inherit(cur: &CurrentTask, word: Word, key: Key) -> Result {
    let ptr = word.ptr();
    let written = ptr.under_lock(true, || {
        let mut locks = LOCKS.lock();
        loop {
            let old = ptr.load_nofault()?;
            if ptr.cmpxchg_nofault(old, OWNER_DIED | WAITERS | cur.shown_tid())? == old {
                break;
            }
        }
        if let Some(state) = locks.states.get_mut(&key) {
            state.inherits = false;
        }
        locks.tidy(&key);
        Ok(())
    });
    if written.is_err() {
        // Its memory is gone, and with it the lock.
        let mut locks = LOCKS.lock();
        if let Some(state) = locks.states.get_mut(&key) {
            state.inherits = false;
        }
        locks.tidy(&key);
    }
    written
}

/// `FUTEX_UNLOCK_PI`.
///
/// # Errors
/// `EPERM` if the caller is not the owner, `EINVAL`, `EAGAIN`, `EFAULT`.
pub fn unlock(cur: &CurrentTask, word: Word) -> Result {
    let ptr = word.ptr();
    if ptr.read()? & TID_MASK != cur.shown_tid() {
        return Err(Errno::EPERM);
    }
    let key = word.key(cur)?;
    loop {
        let done = ptr.under_lock(true, || {
            let mut list = WakeList::default();
            let others = TABLE[bucket(&key)].lock();
            let mut locks = LOCKS.lock();
            pass_on(cur, (key, ptr), &mut locks, has_others(&others, &key), &mut list)
        })?;
        if done? {
            return Ok(());
        }
    }
}

/// One attempt to unlock: `false` to try again.
fn pass_on(
    cur: &CurrentTask,
    (key, ptr): (Key, UserPtr<u32>),
    locks: &mut Locks,
    others: bool,
    list: &mut WakeList,
) -> Attempt<bool> {
    let old = ptr.load_nofault()?;
    if old & TID_MASK != cur.shown_tid() {
        return Ok(Err(Errno::EPERM));
    }
    if others {
        return Ok(Err(Errno::EINVAL));
    }
    let Some(state) = locks.states.get(&key).filter(|s| !s.waiters.is_empty()) else {
        let free = ptr.cmpxchg_nofault(old, 0)? == old;
        return Ok(if free { Ok(true) } else { Err(Errno::EAGAIN) });
    };
    if state.owner != Some(Id::of(cur)) {
        return Ok(Err(Errno::EINVAL));
    }
    let Some(tid) = state.waiters.values().next().map(|w| w.id.tid) else { return Ok(Ok(false)) };
    let seen = ptr.cmpxchg_nofault(old, WAITERS | tid)?;
    if seen != old {
        return Ok(if seen & TID_MASK == old & TID_MASK { Ok(false) } else { Err(Errno::EINVAL) });
    }
    if let Some(next) = locks.first(&key) {
        locks.set_owner(&key, Some(next.id));
        next.grant(list);
    }
    locks.tidy(&key);
    Ok(Ok(true))
}

/// The task ends, or starts another program: what it owns goes on to the next ones (`exit_pi_state_list`).
/// `dead`: it will never own anything again.
pub fn ended(task: &Arc<Task>, dead: bool) {
    if dead {
        task.futex_ended.store(true, SeqCst);
    }
    if COUNT.load(SeqCst) == 0 {
        return;
    }
    let mut list = WakeList::default();
    let id = Id::of(task);
    let mut locks = LOCKS.lock();
    while let Some(&(_, key)) = locks.owned.range((id, Key::default())..).next().filter(|(of, _)| *of == id) {
        let next = locks.first(&key);
        locks.set_owner(&key, next.as_ref().map(|w| w.id));
        if let Some(state) = locks.states.get_mut(&key) {
            state.inherits = next.is_some();
        }
        match next {
            Some(next) => {
                next.stage.store(stage::INHERITS, SeqCst);
                list.add(next.waker);
            }
            None => locks.tidy(&key),
        }
    }
    if dead && let Some((key, place)) = locks.waits.remove(&id) {
        // The host ended it in its sleep.
        if let Some(state) = locks.states.get_mut(&key) {
            state.waiters.remove(&place);
        }
        locks.tidy(&key);
    }
}
