//! Advisory locks: POSIX (owned by a descriptor table), open file description, and flock.
//!
//! The host sees one owner for all processes of a sandbox, so locks are kept here.

use super::file::OpenFile;
use crate::abi::{Errno, Result, SysResult};
use crate::sync::{Events, Level, Mutex, WaitQueue, wait};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use hashbrown::HashMap;

/// Who holds a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A process's descriptor table, by identity.
    Posix(u64),
    /// An open file description, by id.
    Description(u64),
    /// `flock`'s, by description; does not conflict with the others.
    Flock(u64),
}

/// A lock on bytes `start..end` (`u64::MAX`: to the end of the file, wherever that will be).
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Holder.
    pub owner: Owner,
    /// For F_GETLK.
    pub pid: u32,
    /// Exclusive.
    pub write: bool,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

#[derive(Default)]
struct Held {
    ranges: Vec<Range>,
}

type Key = (u64, u64);
static LOCKS: Mutex<Option<HashMap<Key, Held>>> = Mutex::new(Level::FileLocks, None);
static WAITERS: WaitQueue = WaitQueue::new();
/// Locks in existence: closing a file costs nothing while there are none.
static COUNT: AtomicU64 = AtomicU64::new(0);

fn conflicts(a: &Range, b: &Range) -> bool {
    let same_kind = matches!(a.owner, Owner::Flock(_)) == matches!(b.owner, Owner::Flock(_));
    same_kind && a.owner != b.owner && (a.write || b.write) && a.start < b.end && b.start < a.end
}

/// The first lock that stands in the way of `want`.
///
/// # Errors
/// What identifies the file fails.
pub fn test(file: &OpenFile, want: &Range) -> Result<Option<Range>> {
    let key = file.inode.identity()?;
    let locks = LOCKS.lock();
    Ok(locks.as_ref().and_then(|l| l.get(&key)).and_then(|h| h.ranges.iter().find(|r| conflicts(r, want)).copied()))
}

fn try_set(key: Key, want: &Range) -> SysResult<()> {
    let mut locks = LOCKS.lock();
    let held = locks.get_or_insert_with(HashMap::new).entry(key).or_default();
    if held.ranges.iter().any(|r| conflicts(r, want)) {
        return Err(Errno::EAGAIN.into());
    }
    held.ranges.try_reserve(3).map_err(|_| Errno::ENOLCK)?;
    let before = held.ranges.len();
    carve(&mut held.ranges, want);
    held.ranges.push(*want);
    COUNT.fetch_add((held.ranges.len() - before.min(held.ranges.len())) as u64, Relaxed);
    recount(&locks);
    Ok(())
}

/// Removes `want`'s bytes from its owner's locks.
fn carve(ranges: &mut Vec<Range>, want: &Range) {
    let mut pieces = Vec::new();
    ranges.retain(|r| {
        if r.owner != want.owner || r.start >= want.end || want.start >= r.end {
            return true;
        }
        if r.start < want.start {
            pieces.push(Range { end: want.start, ..*r });
        }
        if r.end > want.end {
            pieces.push(Range { start: want.end, ..*r });
        }
        false
    });
    ranges.extend(pieces);
}

fn recount(locks: &Option<HashMap<Key, Held>>) {
    let n: usize = locks.as_ref().map_or(0, |l| l.values().map(|h| h.ranges.len()).sum());
    COUNT.store(n as u64, Relaxed);
}

/// Takes a lock, waiting for it if `wait`.
///
/// # Errors
/// `EAGAIN` without `wait`, `ENOLCK`, a restart code when interrupted.
pub fn set(file: &OpenFile, want: &Range, wait: bool) -> SysResult<()> {
    let key = file.inode.identity()?;
    if !wait {
        return try_set(key, want);
    }
    let out = wait::block_on(&WAITERS, Events::OUT, None, || try_set(key, want));
    WAITERS.wake(Events::OUT);
    out
}

/// Gives bytes back.
///
/// # Errors
/// What identifies the file fails.
pub fn unset(file: &OpenFile, range: &Range) -> Result {
    let key = file.inode.identity()?;
    {
        let mut locks = LOCKS.lock();
        if let Some(held) = locks.as_mut().and_then(|l| l.get_mut(&key)) {
            carve(&mut held.ranges, range);
            if held.ranges.is_empty()
                && let Some(l) = locks.as_mut()
            {
                l.remove(&key);
            }
        }
        recount(&locks);
    }
    WAITERS.wake_all();
    Ok(())
}

fn drop_owner(file: &OpenFile, owners: &[Owner]) {
    if COUNT.load(Relaxed) == 0 {
        return;
    }
    for &owner in owners {
        let all = Range { owner, pid: 0, write: true, start: 0, end: u64::MAX };
        let _ = unset(file, &all);
    }
}

/// A process closed a descriptor of `file`: all its POSIX locks on it go (`fcntl(2)`).
pub fn release_posix(owner: u64, file: &Arc<OpenFile>) {
    drop_owner(file, &[Owner::Posix(owner)]);
}

/// The last reference to a description went: its own locks go.
pub fn release_description(file: &OpenFile) {
    drop_owner(file, &[Owner::Description(file.id), Owner::Flock(file.id)]);
}
