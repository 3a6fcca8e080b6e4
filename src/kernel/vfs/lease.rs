//! Leases: whoever has one is told before somebody else opens the file in a way that conflicts with it, and has some time
//! to get ready (`F_SETLEASE` in `fcntl(2)`, Linux's `fs/locks.c`).
//!
//! A file has a list of leases once somebody has asked for one. Whoever opens the file marks those that are in its way,
//! has their holders told by a signal, and sleeps until they are gone, or their time is up.

use super::async_io::Target;
use super::file::OpenFile;
use super::inode::{FileType, Inode};
use crate::abi::linux::{F_RDLCK, F_UNLCK, F_WRLCK};
use crate::abi::slot::kick;
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arch;
use crate::arena::{self, Object};
use crate::cred::{Cred, cap};
use crate::sync::{Events, Knob, Level, Mutex, WaitEnd, WaitQueue};
use crate::time::{SECOND, host_monotonic};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// `fs.lease-break-time`, seconds (0: a holder may take its time), and `fs.leases-enable`.
pub static BREAK_TIME: Knob = Knob::new(45, 0, i32::MAX as u64);
/// See [`BREAK_TIME`].
pub static ENABLED: Knob = Knob::new(1, 0, 1);

/// A lease.
struct Lease {
    /// The description that it belongs to.
    description: u64,
    /// The process that took it.
    pid: u32,
    /// `F_WRLCK`, otherwise `F_RDLCK`.
    write: bool,
    /// Somebody waits for its end, and for its becoming a read lease; until when, host monotonic ns.
    ends: Option<u64>,
    /// See `ends`.
    weakens: Option<u64>,
    /// Tells the holder.
    target: Arc<Target>,
}

impl Lease {
    fn conflicts(&self, writes: bool) -> bool {
        self.write || writes
    }

    /// What it is about to be (`target_leasetype`).
    fn kind(&self) -> u32 {
        match (self.ends, self.weakens, self.write) {
            (Some(_), ..) => F_UNLCK,
            (_, Some(_), _) | (.., false) => F_RDLCK,
            _ => F_WRLCK,
        }
    }
}

/// The leases of a file.
pub struct Leases {
    list: Mutex<Vec<Lease>>,
    queue: WaitQueue,
}

/// No time limit.
const EVER: u64 = u64::MAX;

impl Leases {
    fn new() -> Box<Leases> {
        Box::new(Leases { list: Mutex::new(Level::FileLocks, Vec::new()), queue: WaitQueue::new() })
    }

    /// Changes the list, from which those are gone whose time is up, and wakes who waits.
    fn change<T>(&self, f: impl FnOnce(&mut Vec<Lease>) -> T) -> T {
        let mut gone = Vec::new();
        let out = {
            let mut list = self.list.lock();
            expire(&mut list, &mut gone);
            f(&mut list)
        };
        drop(gone);
        self.queue.wake(Events::IN);
        out
    }

    /// A description's lease ends; whether it had one.
    pub(super) fn release(&self, description: u64) -> bool {
        let gone = self.change(|list| {
            let at = list.iter().position(|l| l.description == description)?;
            Some(list.swap_remove(at))
        });
        gone.is_some()
    }

    /// Until when somebody who would read or write has to wait; `None`: not at all.
    fn in_the_way(&self, writes: bool) -> Option<u64> {
        let mut gone = Vec::new();
        // What is gone is dropped once the list is free again.
        let mut list = self.list.lock();
        expire(&mut list, &mut gone);
        let times = list.iter().filter(|l| l.conflicts(writes));
        times.map(|l| l.ends.unwrap_or(EVER).min(l.weakens.unwrap_or(EVER))).min()
    }
}

/// Ends or weakens those whose time is up (`time_out_leases`).
fn expire(list: &mut Vec<Lease>, gone: &mut Vec<Lease>) {
    if list.iter().all(|l| l.ends.is_none() && l.weakens.is_none()) {
        return;
    }
    let now = host_monotonic();
    let up = |t: Option<u64>| t.is_some_and(|t| t <= now);
    let mut at = 0;
    while at < list.len() {
        let lease = &mut list[at];
        if up(lease.weakens) {
            (lease.write, lease.weakens) = (false, None);
        }
        if up(lease.ends) && gone.try_reserve(1).is_ok() {
            gone.push(list.swap_remove(at));
        } else {
            at += 1;
        }
    }
}

fn leases(inode: &dyn Inode) -> Option<&Leases> {
    inode.state().known(inode)?.leases.get()
}

/// What lease the description has (`F_GETLEASE`).
pub fn held(file: &OpenFile) -> u32 {
    let own = |list: &mut Vec<Lease>| list.iter().find(|l| l.description == file.id).map(Lease::kind);
    leases(&*file.inode).and_then(|all| all.change(own)).unwrap_or(F_UNLCK)
}

/// A lease as `/proc/locks` tells it.
pub struct Shown {
    /// See [`Lease::kind`].
    pub kind: u32,
    /// Somebody waits for its end.
    pub breaking: bool,
    /// The process that took it.
    pub pid: u32,
    /// The description that it belongs to.
    pub description: u64,
}

/// All leases of a file.
///
/// # Errors
/// `ENOMEM`.
pub fn shown(inode: &dyn Inode) -> Result<Vec<Shown>> {
    let Some(all) = leases(inode) else { return Ok(Vec::new()) };
    all.change(|list| {
        let mut out = Vec::new();
        out.try_reserve_exact(list.len()).map_err(|_| Errno::ENOMEM)?;
        out.extend(list.iter().map(|l| Shown {
            kind: l.kind(),
            breaking: l.ends.is_some() || l.weakens.is_some(),
            pid: l.pid,
            description: l.description,
        }));
        Ok(out)
    })
}

/// Sets the description's lease (`F_SETLEASE`). `fd` is what the signal will name; `read_by_others` says whether another
/// description of the file is open for reading alone.
///
/// # Errors
/// `EINVAL`, `EACCES` for who does not own the file, `EAGAIN` where others have it open in a way that conflicts or there is
/// no lease to be taken away, `ENOMEM`.
pub fn set(
    (cred, pid): (&Cred, u32),
    file: &OpenFile,
    fd: i32,
    kind: u32,
    read_by_others: impl FnOnce() -> bool,
) -> Result {
    if !matches!(kind, F_RDLCK | F_WRLCK | F_UNLCK) || ENABLED.get() == 0 && kind != F_UNLCK {
        return Err(Errno::EINVAL);
    }
    let inode = &*file.inode;
    let (_, uid, _) = inode.permissions()?;
    if cred.fsuid != uid && !cred.capable(cap::LEASE) {
        return Err(Errno::EACCES);
    }
    if inode.file_type() != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    if kind == F_UNLCK {
        let had = leases(inode).is_some_and(|all| all.release(file.id));
        return if had { Ok(()) } else { Err(Errno::EAGAIN) };
    }
    let state = inode.state().get(inode)?;
    let open_for_writing = match kind {
        F_RDLCK => state.writers() > 0,
        _ => state.writers() != i32::from(file.writable()) || read_by_others(),
    };
    if open_for_writing {
        return Err(Errno::EAGAIN);
    }
    arena::charge(Object::Lock)?;
    let target = file.async_io.target(fd);
    let write = kind == F_WRLCK;
    let all = state.leases.get_or_init(Leases::new);
    let old = all.change(|list| {
        let others = |l: &Lease| l.description != file.id && (write || l.ends.is_some());
        if list.iter().any(others) {
            return Err(Errno::EAGAIN);
        }
        if let Some(own) = list.iter_mut().find(|l| l.description == file.id) {
            (own.write, own.weakens) = (write, if write { own.weakens } else { None });
            return Ok(Some(core::mem::replace(&mut own.target, target.clone())));
        }
        list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        list.push(Lease { description: file.id, pid, write, ends: None, weakens: None, target: target.clone() });
        Ok(None)
    })?;
    drop(old);
    file.async_io.set_lease(target);
    Ok(())
}

/// Somebody is about to open the file with these flags, or to cut it: waits until no lease is in the way (`__break_lease`).
///
/// # Errors
/// `EAGAIN` with `nonblock`; `ERESTARTSYS`.
#[inline]
pub fn break_leases(inode: &dyn Inode, writes: bool, nonblock: bool) -> SysResult<()> {
    match leases(inode) {
        None => Ok(()),
        Some(all) => break_all(all, writes, nonblock),
    }
}

#[cold]
fn break_all(all: &Leases, writes: bool, nonblock: bool) -> SysResult<()> {
    if all.in_the_way(writes).is_none() {
        return Ok(());
    }
    let until = match BREAK_TIME.get() {
        0 => EVER,
        seconds => host_monotonic() + seconds * SECOND as u64,
    };
    for lease in all.list.lock().iter_mut().filter(|l| l.conflicts(writes)) {
        if lease.ends.is_some() || !writes && lease.weakens.is_some() {
            continue;
        }
        *(if writes { &mut lease.ends } else { &mut lease.weakens }) = Some(until);
        lease.target.changed();
    }
    if nonblock {
        return Err(Errno::EAGAIN.into());
    }
    // The holder is told before the sleep: what was put off is done in it.
    arch::slot().mark(kick::WORK);
    while let Some(until) = all.in_the_way(writes) {
        let deadline = (until != EVER).then_some(until);
        let free = || all.in_the_way(writes).is_none().then_some(());
        match all.queue.wait_until(Events::IN, deadline, free) {
            Err(WaitEnd::Interrupted) => return Err(SysError::Restart(Restart::Sys)),
            Ok(()) | Err(WaitEnd::TimedOut) => {}
        }
    }
    Ok(())
}
