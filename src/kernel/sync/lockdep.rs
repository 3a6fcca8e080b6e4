//! The order of locks, and its check at run time in debug builds.

use super::mend::step;
#[cfg(debug_assertions)]
use crate::abi::slot::{HEADER_PAGE, HELD_LOCKS};
use crate::abi::slot::{SlotHeader, held};
use core::panic::Location;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Lock levels, outermost first: while a lock is held, only locks of *later* levels may be taken
/// (or of the same level where [`Level::nests`] says so). Written once, here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Serialises control requests.
    Control,
    /// Serialises an exec or a group exit of one thread group.
    ThreadGroupExec,
    /// Serialises changes of which epoll instance watches which.
    EpollNesting,
    /// Serialises collecting the events of one epoll instance, which asks files what they are ready for.
    EpollScan,
    /// An open file's offset: held while a file of `/proc` looks at any of what follows.
    FileOffset,
    /// An address space's vmas and text; held over the whole of a fork.
    Mm,
    /// The tree of processes: who is whose parent, sessions and process groups.
    Tasks,
    /// A pid namespace's table of pids.
    PidTable,
    /// What a pid stands for.
    Pid,
    /// One thread group's signal state and children's states.
    Signal,
    /// A task's fs context (root, cwd, umask).
    FsContext,
    /// Serialises changes of the trees of mounts.
    MountTrees,
    /// What one mount is mounted on, and what on it.
    Mounts,
    /// Serialises renames of directories.
    Rename,
    /// Dentry cache (parent before child; two directories of a rename by address).
    Dentry,
    /// A descriptor table.
    Files,
    /// Files in flight between local sockets.
    Flight,
    /// A file's data or a pipe's, socket's, eventfd's, terminal's state.
    FileData,
    /// An inode's metadata.
    Inode,
    /// File locks (POSIX, flock).
    FileLocks,
    /// Which owners of file locks wait for which.
    LockWaits,
    /// Futex buckets.
    Futex,
    /// The timer heap.
    Timers,
    /// Wait queues.
    WaitQueue,
    /// The ids and keys of one kind of System V objects.
    Ipc,
    /// One System V object.
    IpcObject,
    /// The memory file's allocator.
    MemFile,
    /// Slot table, zygotes.
    Slots,
    /// Which text is remembered.
    Texts,
    /// The newest copy of a text.
    Text,
    /// The table of users.
    Users,
    /// Serialises the writing of a user namespace's maps.
    UserMaps,
    /// A key: of two, none is locked while the other is.
    Key,
    /// Anything that calls nothing.
    Leaf,
}

impl Level {
    /// How many there are.
    pub const COUNT: usize = Level::Leaf as usize + 1;

    /// The level of a number.
    pub(super) fn of(number: u8) -> Option<Level> {
        // SAFETY: the levels are numbered from 0 to that of the last one, without gaps.
        (usize::from(number) < Level::COUNT).then(|| unsafe { core::mem::transmute::<u8, Level>(number) })
    }

    /// Whether two locks of this level may be held at once (the room says in which order).
    pub const fn nests(self) -> bool {
        // A queue that an epoll instance listens to wakes the instance's own queue; instances form no loops.
        matches!(
            self,
            Level::Inode
                | Level::Signal
                | Level::Dentry
                | Level::FileData
                | Level::EpollScan
                | Level::Futex
                | Level::WaitQueue
        )
    }
}

/// Level, address, where it was taken, and where what it guards was last changed.
#[cfg(debug_assertions)]
type Lock = (Level, usize, &'static Location<'static>, Option<&'static Location<'static>>);

/// Locks held by one thread, innermost last. Lies in the slot, so that a panic or a dump can say
/// what a thread that no longer runs was holding.
#[cfg(debug_assertions)]
#[repr(C)]
struct Held {
    len: usize,
    locks: [Lock; MAX_HELD],
}

#[cfg(debug_assertions)]
const MAX_HELD: usize = held::MAX;
#[cfg(debug_assertions)]
const _: () = assert!(HELD_LOCKS + size_of::<Held>() <= HEADER_PAGE);

#[cfg(debug_assertions)]
fn with_held<T>(slot: &SlotHeader, f: impl FnOnce(&mut Held) -> T) -> T {
    let held = (core::ptr::from_ref(slot) as usize + HELD_LOCKS) as *mut Held;
    // SAFETY: the record lies in the slot's header page, only the slot's own thread touches it, and
    // zeroes are a valid empty record: entries past `len` are written before they are read.
    f(unsafe { &mut *held })
}

/// What must be left of the kernel stack where a lock is taken, bytes: more than anything takes from there on that
/// takes no further lock, and than the message of a panic.
///
/// There is no guard between the stacks (a mapping each would cost every fork 2 us), but whatever is deep takes
/// locks. So an overflow is met here, before it is one.
const STACK_RESERVE: u64 = crate::abi::slot::FPU_AREA as u64 + crate::abi::slot::FPU_AREA_MAX as u64 + (24 << 10);

#[cold]
#[inline(never)]
fn overflow(slot: &SlotHeader) -> ! {
    let call = slot.last_call.load(Relaxed);
    crate::host::panic::panic(format_args!("kernel stack overflow in system call {call}"))
}

/// Enters a lock that the running thread is about to take; `kind` is one of `abi::slot::held`. Debug builds check the
/// order. Returns by what the lock's word knows the thread.
#[inline]
#[track_caller]
pub(super) fn acquire(level: Level, lock: usize, kind: u64) -> u32 {
    count(level, lock, kind, true)
}

/// As [`acquire`], for a lock that is not waited for: that cannot deadlock, so the order is not checked.
#[inline]
#[track_caller]
pub(super) fn acquire_by_try(level: Level, lock: usize, kind: u64) -> u32 {
    count(level, lock, kind, false)
}

#[inline]
#[track_caller]
fn count(level: Level, lock: usize, kind: u64, check: bool) -> u32 {
    let slot = crate::arch::slot();
    if crate::arch::stack_left() < STACK_RESERVE {
        overflow(slot);
    }
    let at = slot.locks_held.load(Relaxed);
    let Some(entry) = slot.held.get(at as usize) else { too_many() };
    entry.store(lock as u64 | kind | (level as u64) << held::LEVEL_SHIFT, Relaxed);
    slot.locks_held.store(at + 1, Relaxed);
    #[cfg(debug_assertions)]
    record(slot, level, lock, check, Location::caller());
    #[cfg(not(debug_assertions))]
    let _ = check;
    owner(slot)
}

#[cold]
#[inline(never)]
fn too_many() -> ! {
    crate::host::panic::panic(format_args!("more than {} locks are held at once", held::MAX))
}

/// By what the words of locks know the thread of a slot: never 0, and less than 2^16.
#[inline]
pub(super) fn owner(slot: &SlotHeader) -> u32 {
    slot.index.load(Relaxed) + 1
}

/// The running thread has the lock for reading that it entered last.
#[inline]
pub(super) fn got_reader() {
    mark_last(held::HAVE);
}

/// Sets the marks of the lock that the running thread has entered last: `held::HAVE`, `held::ASLEEP` or none.
#[inline]
pub(super) fn mark_last(marks: u64) {
    let slot = crate::arch::slot();
    if let Some(entry) = slot.held.get(slot.locks_held.load(Relaxed).wrapping_sub(1) as usize) {
        step();
        entry.store(entry.load(Relaxed) & !(held::HAVE | held::ASLEEP) | marks, Relaxed);
        step();
    }
}

/// The running thread is about to give up a lock that it has for reading.
#[inline]
pub(super) fn leaves_reader(lock: usize) {
    let slot = crate::arch::slot();
    let len = (slot.locks_held.load(Relaxed) as usize).min(held::MAX);
    let is = |entry: &&AtomicU64| entry.load(Relaxed) & held::ADDRESS == lock as u64;
    if let Some(entry) = slot.held[..len].iter().rfind(is) {
        entry.store(entry.load(Relaxed) & !held::HAVE, Relaxed);
        step();
    }
}

/// The running thread begins to change what the lock guards (debug builds remember where).
#[inline]
#[track_caller]
pub(super) fn changes(lock: usize) {
    #[cfg(debug_assertions)]
    {
        let place = Location::caller();
        with_held(crate::arch::slot(), |held| {
            if let Some(h) = held.locks[..held.len].iter_mut().rfind(|h| h.1 == lock) {
                h.3 = Some(place);
            }
        });
    }
    #[cfg(not(debug_assertions))]
    let _ = lock;
}

#[cfg(debug_assertions)]
fn record(slot: &SlotHeader, level: Level, lock: usize, check: bool, place: &'static Location<'static>) {
    let broken = with_held(slot, |held| {
        let worst = held.locks[..held.len]
            .iter()
            .find(|h| check && (h.1 == lock || h.0 > level || (h.0 == level && !level.nests())))
            .copied();
        if worst.is_none() && held.len < MAX_HELD {
            held.locks[held.len] = (level, lock, place, None);
            held.len += 1;
        }
        worst
    });
    slot.lock_levels.fetch_or(1 << level as u64, Relaxed);
    if let Some((other, address, at, _)) = broken {
        // The record is emptied first: the panic's own path may lock.
        with_held(slot, |held| held.len = 0);
        if address == lock {
            panic!("lock order: {level:?} taken at {place} is already held since {at}");
        }
        panic!("lock order: {level:?} taken at {place} while {other:?} is held since {at}");
    }
}

/// Records that the running thread gave a lock back, or did not get it.
#[inline]
pub(super) fn release(level: Level, lock: usize) {
    let slot = crate::arch::slot();
    let len = slot.locks_held.load(Relaxed) as usize;
    let entry = |at: usize| slot.held.get(at).map(|e| e.load(Relaxed));
    let is_last = entry(len.wrapping_sub(1)).is_some_and(|e| e & held::ADDRESS == lock as u64);
    if is_last && (len == 1 || entry(len - 2) != Some(0)) {
        slot.held[len - 1].store(0, Relaxed);
        slot.locks_held.store(len as u32 - 1, Relaxed);
    } else {
        release_within(slot, lock, len);
    }
    #[cfg(debug_assertions)]
    with_held(slot, |held| {
        if let Some(at) = held.locks[..held.len].iter().rposition(|h| h.1 == lock && h.0 == level) {
            held.locks.copy_within(at + 1..held.len, at);
            held.len -= 1;
        }
        if !held.locks[..held.len].iter().any(|h| h.0 == level) {
            slot.lock_levels.fetch_and(!(1 << level as u64), Relaxed);
        }
    });
    #[cfg(not(debug_assertions))]
    let _ = level;
}

/// Takes a lock out of the record that is not the last of them, or that lies on one that is.
#[cold]
#[inline(never)]
fn release_within(slot: &SlotHeader, lock: usize, len: usize) {
    let mut len = len.min(held::MAX);
    let is = |entry: &&AtomicU64| entry.load(Relaxed) & held::ADDRESS == lock as u64;
    if let Some(entry) = slot.held[..len].iter().rfind(is) {
        entry.store(0, Relaxed);
    }
    while len > 0 && slot.held[len - 1].load(Relaxed) == 0 {
        len -= 1;
    }
    slot.locks_held.store(len as u32, Relaxed);
}

/// Until when a thread sleeps for a lock before it looks again by itself. The wake that it waits for may have gone to a
/// thread that the host has ended, and the supervisor, which sees to that, may be the one that sleeps here.
pub(super) fn look_again() -> Option<u64> {
    const SOON: u64 = 20_000_000;
    let now = crate::host::time::clock(crate::abi::linux::CLOCK_MONOTONIC as i32)?;
    Some(now as u64 + SOON)
}

/// Where the thread of `slot`, which has died, last changed what the lock guards; debug builds know.
pub(super) fn changed_at(slot: &SlotHeader, lock: usize) -> Option<&'static Location<'static>> {
    #[cfg(debug_assertions)]
    return with_held(slot, |held| {
        let locks = held.locks.get(..held.len).unwrap_or_default();
        locks.iter().rfind(|h| h.1 == lock).and_then(|h| h.3)
    });
    #[cfg(not(debug_assertions))]
    {
        let _ = (slot, lock);
        None
    }
}

/// The running thread is about to sleep for as long as a guest likes: debug builds check that it
/// holds no lock.
#[inline]
#[track_caller]
pub fn may_block() {
    #[cfg(debug_assertions)]
    {
        let place = Location::caller();
        let first = with_held(crate::arch::slot(), |held| held.locks[..held.len].first().copied());
        if let Some((level, _, at, _)) = first {
            panic!("a task would block at {place} while {level:?} is held since {at}");
        }
    }
}

/// The running thread is about to touch guest memory, which may fault and wait for whatever the host does about it:
/// debug builds check that it holds no lock.
#[inline]
#[track_caller]
pub fn may_fault() {
    #[cfg(debug_assertions)]
    {
        let place = Location::caller();
        let Some(slot) = crate::arch::try_slot() else { return };
        let first = with_held(slot, |held| held.locks[..held.len].first().copied());
        if let Some((level, _, at, _)) = first {
            panic!("guest memory would be touched at {place} while {level:?} is held since {at}");
        }
    }
}
