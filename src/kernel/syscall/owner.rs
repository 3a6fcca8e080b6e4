//! The owner of a file: who is told by a signal that it is ready (`F_SETOWN` and its relatives).

use crate::abi::{Errno, SysResult, linux};
use crate::fs::hostfd::terminal_of;
use crate::fs::inotify;
use crate::mm::UserPtr;
use crate::signal::NSIG;
use crate::task::{CurrentTask, kernel, lookup, lookup_group, tree};
use crate::vfs::async_io::{Owner, OwnerKind};
use crate::vfs::{FileType, OpenFile};

/// `struct f_owner_ex`: kind and id.
type OwnerEx = [i32; 2];

/// Whether a file tells its owner by signals: pipes, sockets, terminals, inotify instances.
pub fn has_signals(file: &OpenFile) -> bool {
    let kind = file.inode.file_type();
    file.ops.wait_queue().is_some()
        && (matches!(kind, FileType::Fifo | FileType::Socket) || file.ops.is_tty() || inotify::of_file(file).is_ok())
}

fn exists(kind: OwnerKind, id: u32) -> bool {
    match kind {
        OwnerKind::Thread => lookup(id).is_some(),
        OwnerKind::Process => lookup_group(id).is_some() || lookup(id).is_some(),
        OwnerKind::Group => !tree::members(id).is_empty(),
    }
}

/// Whether an id stands for anything.
fn known(id: u32) -> bool {
    kernel().roots().pid.find(id).is_some()
}

fn set_to(cur: &CurrentTask, file: &OpenFile, kind: OwnerKind, id: u32) -> SysResult<()> {
    let id = if id == 0 { 0 } else { cur.pid_namespace().meant(id).ok_or(Errno::ESRCH)? };
    // An id that stands for something else, as a thread that leads no process, stands for nobody who could be told.
    if id != 0 && !known(id) {
        return Err(Errno::ESRCH.into());
    }
    let users = if id == 0 { [0; 2] } else { [cur.cred().uid, cur.cred().euid] };
    file.set_owner(Owner { kind, id, users });
    Ok(())
}

/// O_ASYNC is set on a terminal that has no owner: its foreground group gets it, or without one the caller
/// (`tty_fasync`).
pub fn claim_terminal(cur: &CurrentTask, file: &OpenFile) {
    if !file.ops.is_tty() || file.async_io.owner().id != 0 {
        return;
    }
    let foreground = terminal_of(file).and_then(|t| t.job().foreground());
    let (kind, id) = foreground.map_or((OwnerKind::Process, cur.group.pid), |p| (OwnerKind::Group, p.number()));
    file.set_owner(Owner { kind, id, users: [cur.cred().uid, cur.cred().euid] });
}

/// A directory that is watched and has no owner gets the caller (`fcntl_dirnotify`).
pub fn claim(cur: &CurrentTask, file: &OpenFile) {
    if file.async_io.owner().id == 0 {
        let users = [cur.cred().uid, cur.cred().euid];
        file.set_owner(Owner { kind: OwnerKind::Process, id: cur.group.pid, users });
    }
}

/// Sets the owner: a process, or a process group as a negative number.
///
/// # Errors
/// `EINVAL`, `ESRCH`.
pub fn set(cur: &CurrentTask, file: &OpenFile, who: i32) -> SysResult<()> {
    let kind = if who < 0 { OwnerKind::Group } else { OwnerKind::Process };
    let id = who.checked_abs().ok_or(Errno::EINVAL)?;
    set_to(cur, file, kind, id as u32)
}

/// The owner as [`set`] takes it; 0 for none.
pub fn get(cur: &CurrentTask, file: &OpenFile) -> i32 {
    let owner = file.async_io.owner();
    let seen = cur.seen_pid(owner.id) as i32;
    match owner.kind {
        _ if owner.id == 0 || !exists(owner.kind, owner.id) => 0,
        OwnerKind::Group => -seen,
        _ => seen,
    }
}

/// The commands of `fcntl(2)` for owners.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EFAULT`.
pub fn fcntl(cur: &CurrentTask, file: &OpenFile, command: u32, arg: u64) -> SysResult<u64> {
    let ex: UserPtr<OwnerEx> = UserPtr::new(arg);
    match command {
        linux::F_SETOWN => set(cur, file, arg as i32)?,
        // What looks like an error is none: the C library asks by F_GETOWN_EX for that reason.
        linux::F_GETOWN => return Ok(get(cur, file) as i64 as u64),
        linux::F_SETSIG if arg > u64::from(NSIG) => return Err(Errno::EINVAL.into()),
        linux::F_SETSIG => file.async_io.set_signal(arg as u32),
        linux::F_GETSIG => return Ok(u64::from(file.async_io.signal())),
        linux::F_SETOWN_EX => {
            let [kind, id] = ex.read()?;
            let kind = match kind {
                0 => OwnerKind::Thread,
                1 => OwnerKind::Process,
                2 => OwnerKind::Group,
                _ => return Err(Errno::EINVAL.into()),
            };
            set_to(cur, file, kind, u32::try_from(id).map_err(|_| Errno::ESRCH)?)?;
        }
        linux::F_GETOWN_EX => {
            let owner = file.async_io.owner();
            let id = if exists(owner.kind, owner.id) { owner.id } else { 0 };
            ex.write([owner.kind as i32, cur.seen_pid(id) as i32])?;
        }
        _ => UserPtr::<[u32; 2]>::new(arg).write(file.async_io.owner().users.map(|id| cur.cred().seen_uid(id)))?,
    }
    Ok(0)
}
