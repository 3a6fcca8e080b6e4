//! Locks whose holders have died: the host may end a process at any time, by `SIGKILL` from outside of the sandbox.
//!
//! Which locks a thread holds lies in its slot ([`SlotHeader::held`]), and who holds a lock in its word. A holder that
//! had only read leaves the value whole, and so does one that had *settled* it ([`super::MutexGuard::settle`]): the lock
//! is given back for it. A value that may be half changed is made whole again where its type ([`super::mend::Mend`]) or
//! its level ([`set_repair`]) says how. Everything else ends the sandbox.
//!
//! The supervisor does this when it reaps the process. Should it wait itself for a lock, it looks whether any holder
//! has died that it has not reaped yet.

use super::lockdep::{self, Level};
use super::mend;
use super::mutex::Head;
use super::rwlock::Words;
use crate::abi::slot::{SlotHeader, held};
use crate::{arch, arena, host};
use core::fmt;
use core::panic::Location;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A lock that its dead holder left in the middle of a change.
pub struct Broken {
    /// The lock's level; the allocator's have none.
    level: Option<Level>,
    place: Option<&'static Location<'static>>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "a lock of level {level:?}")?,
            None => f.write_str("the allocator's lock")?,
        }
        self.place.map_or(Ok(()), |place| write!(f, ", changing it at {place}"))
    }
}

/// Repairs what the lock at an address guards; false if it cannot.
pub(super) type Repair = fn(lock: usize) -> bool;

static REPAIRS: [AtomicUsize; Level::COUNT] = [const { AtomicUsize::new(0) }; Level::COUNT];

/// Registers what makes the values of all locks of a level whole again (at boot). It is called with the address of the
/// `Mutex` or `RwLock`, whose holder is dead.
pub fn set_repair(level: Level, repair: Repair) {
    REPAIRS[level as usize].store(repair as *const () as usize, SeqCst);
}

fn repaired(level: Level, lock: usize) -> bool {
    let repair = REPAIRS[level as usize].load(SeqCst);
    if repair == 0 {
        return false;
    }
    // SAFETY: `set_repair` stored such a function.
    let repair = unsafe { core::mem::transmute::<usize, Repair>(repair) };
    repair(lock)
}

/// Readies what the allocator's locks need of this (at boot).
pub fn init() {
    arena::lock::set_stuck(look);
    super::entries::init();
}

/// The host has ended the thread of `slot`: gives back the locks that it held, and lets those look again who sleep for
/// one that it waited for, since the wake that it got may have been theirs. Whether there was any.
///
/// # Errors
/// A value is half changed; its lock is still held.
pub fn bereaved(slot: &SlotHeader) -> Result<bool, Broken> {
    let count = (slot.locks_held.load(SeqCst) as usize).min(held::MAX);
    // Innermost first: an outer lock may be what keeps an inner one alive.
    for entry in slot.held[..count].iter().rev() {
        let lock = entry.load(SeqCst);
        if lock != 0 {
            give_back(slot, lock)?;
            entry.store(0, SeqCst);
        }
    }
    slot.locks_held.store(0, SeqCst);
    Ok(count > 0)
}

fn give_back(slot: &SlotHeader, entry: u64) -> Result<(), Broken> {
    let me = lockdep::owner(slot);
    let at = (entry & held::ADDRESS) as usize;
    let level = Level::of((entry >> held::LEVEL_SHIFT) as u8);
    let whole = |changed: bool, mender: u8| {
        let mended = || mend::mender(mender).is_some_and(|mend| mend(at));
        if !changed || mended() || level.is_some_and(|level| repaired(level, at)) {
            return Ok(());
        }
        Err(Broken { level, place: lockdep::changed_at(slot, at) })
    };
    // SAFETY: the thread used this lock when it died: it and what holds it live on, and the entry says what it is.
    unsafe {
        match entry & held::KIND {
            held::MUTEX => {
                let lock = &*(at as *const Head);
                if lock.owner() == me {
                    whole(lock.is_changed(), lock.mender())?;
                    lock.give_back();
                } else {
                    lock.wake_all();
                }
            }
            held::ALLOCATOR => {
                let lock = &*(at as *const arena::lock::Word);
                if lock.owner() == me {
                    whole(lock.is_changed(), 0).map_err(|b| Broken { level: None, ..b })?;
                    lock.give_back();
                } else {
                    lock.wake_all();
                }
            }
            held::WRITER => {
                let lock = &*(at as *const Words);
                if lock.writer() == me {
                    whole(lock.is_changed(), lock.mender())?;
                    lock.give_back();
                } else {
                    lock.wake_all();
                }
            }
            _ if entry & held::HAVE != 0 => (*(at as *const Words)).leave(),
            _ if entry & held::ASLEEP != 0 => (*(at as *const Words)).wake_all(),
            _ => count_readers(slot, &*(at as *const Words)),
        }
    }
    Ok(())
}

/// The thread of `dead` has died on its way into a lock for reading, or out of it, so that the lock may count it still:
/// counts the readers anew, by what all threads say.
fn count_readers(dead: &SlotHeader, lock: &Words) {
    /// So often others are waited for that are on their way in or out, which takes them some instructions.
    const PATIENCE: usize = 10_000;
    for _ in 0..PATIENCE {
        let Some(known) = lock.close() else { return };
        if let Some(live) = live_readers(dead, lock)
            && lock.close() == Some(known)
        {
            return lock.open(known.saturating_sub(live));
        }
        host::sched::sched_yield();
    }
    lock.open(0);
}

/// How many threads have the lock for reading, the one of `dead` left out; `None` if that cannot be told at the moment.
fn live_readers(dead: &SlotHeader, lock: &Words) -> Option<u32> {
    let of = core::ptr::from_ref(lock) as u64;
    let tgid = dead.host_tgid.load(SeqCst);
    let mut live = 0;
    for slot in arch::slot::used_slots().filter(|slot| !core::ptr::eq(*slot, dead)) {
        let count = (slot.locks_held.load(SeqCst) as usize).min(held::MAX);
        for entry in slot.held[..count].iter().map(|entry| entry.load(SeqCst)) {
            if entry & held::ADDRESS != of || entry & held::KIND != held::READER || entry & held::ASLEEP != 0 {
                continue;
            }
            if entry & held::HAVE != 0 {
                live += 1;
            } else if slot.host_tgid.load(SeqCst) != tgid && !host::process::has_died(slot) {
                return None;
            }
        }
    }
    Some(live)
}

/// The running thread has waited long for a lock. If this is the supervisor, what the dead held that it has not reaped yet
/// is given back: whoever holds the lock may itself wait for one of theirs.
pub(super) fn look() {
    if !host::process::is_supervisor() {
        return;
    }
    arch::slot::used_slots().filter(|slot| slot.locks_held.load(SeqCst) > 0).for_each(bury);
}

fn bury(slot: &'static SlotHeader) {
    if !host::process::has_died(slot) {
        return;
    }
    if let Err(broken) = bereaved(slot) {
        host::panic::panic(format_args!("a host process died holding {broken}"));
    }
}
