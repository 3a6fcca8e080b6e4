//! `fanotify(7)`: groups, and marks on what they hear of.

use super::Fd;
use super::files::{self, CWD};
use crate::abi::linux::{
    self, AT_SYMLINK_NOFOLLOW, IN_ACCESS, IN_ALL_EVENTS, IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_ISDIR, IN_MODIFY,
    IN_OPEN, O_ACCMODE,
};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::fs::fanotify::{self, Change, Fanotify, flag};
use crate::fs::proc::ns::{self, Namespace};
use crate::mm::UserStr;
use crate::task::CurrentTask;
use crate::vfs::marks::{NAMES, Target, event};
use crate::vfs::open::open_quietly;
use crate::vfs::{FileType, Path, access, handles};

/// `FAN_MARK_*`.
mod mark {
    pub const ADD: u32 = 1;
    pub const REMOVE: u32 = 2;
    pub const DONT_FOLLOW: u32 = 4;
    pub const ONLYDIR: u32 = 8;
    pub const MOUNT: u32 = 0x10;
    pub const IGNORED_MASK: u32 = 0x20;
    pub const SURV_MODIFY: u32 = 0x40;
    pub const FLUSH: u32 = 0x80;
    pub const FILESYSTEM: u32 = 0x100;
    pub const EVICTABLE: u32 = 0x200;
    pub const IGNORE: u32 = 0x400;
    pub const MNTNS: u32 = MOUNT | FILESYSTEM;
    pub const COMMAND: u32 = ADD | REMOVE | FLUSH;
    pub const IGNORING: u32 = IGNORED_MASK | IGNORE;
    pub const ALL: u32 = COMMAND | DONT_FOLLOW | ONLYDIR | MNTNS | IGNORING | SURV_MODIFY | EVICTABLE;
}

/// Flags of the descriptors that events come with.
const EVENT_FLAGS: u32 = O_ACCMODE
    | linux::O_APPEND
    | linux::O_NONBLOCK
    | linux::O_SYNC
    | linux::O_CLOEXEC
    | linux::O_LARGEFILE
    | linux::O_NOATIME;
/// `FAN_FS_ERROR`, which no file system here has.
const FS_ERROR: u32 = 0x8000;
/// `FAN_PRE_ACCESS`, which only file systems on disks support.
const PRE_ACCESS: u32 = 0x10_0000;
/// Events that a descriptor can tell of.
const BY_DESCRIPTOR: u32 = IN_ACCESS
    | IN_MODIFY
    | IN_CLOSE_WRITE
    | IN_CLOSE_NOWRITE
    | IN_OPEN
    | event::OPEN_EXEC
    | event::PERMISSION
    | PRE_ACCESS;
const OF_MOUNTS: u32 = event::MNT_ATTACH | event::MNT_DETACH;
const FLAGS: u32 = IN_ISDIR | event::ON_CHILD;
const KNOWN: u32 = IN_ALL_EVENTS | event::RENAME | FS_ERROR | BY_DESCRIPTOR | OF_MOUNTS | FLAGS;

/// `fanotify_init(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`, `EMFILE`.
pub fn sys_fanotify_init(cur: &CurrentTask, flags: u32, event_flags: u32) -> SysResult<Fd> {
    let privileged = cur.cred().capable(cap::SYS_ADMIN);
    if !privileged && (flags & flag::PRIVILEGED != 0 || flags & (flag::FID | flag::REPORT_MNT) == 0) {
        return Err(Errno::EPERM.into());
    }
    check_group(flags, event_flags)?;
    let file = fanotify::group(&cur.op_ctx(), flags, event_flags, !privileged)?;
    if flags & flag::ENABLE_AUDIT != 0 && !cur.cred().capable(cap::AUDIT_WRITE) {
        return Err(Errno::EPERM.into());
    }
    files::install(cur, file, if flags & flag::CLOEXEC != 0 { linux::O_CLOEXEC } else { 0 })
}

fn check_group(flags: u32, event_flags: u32) -> Result {
    let has = |f: u32| flags & f != 0;
    let class = flags & flag::CLASS;
    let wrong = flags & !flag::ALL != 0
        || has(flag::REPORT_PIDFD) && has(flag::REPORT_TID)
        || has(flag::REPORT_MNT) && (class != 0 || has(flag::FID | flag::REPORT_FD_ERROR))
        || event_flags & !EVENT_FLAGS != 0
        || event_flags & O_ACCMODE == O_ACCMODE
        || has(flag::FID) && class != 0
        || has(flag::REPORT_NAME) && !has(flag::REPORT_DIR_FID)
        || has(flag::REPORT_TARGET_FID) && !(has(flag::REPORT_NAME) && has(flag::REPORT_FID))
        || class == flag::CLASS;
    if wrong { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `fanotify_mark(2)`.
///
/// # Errors
/// `EINVAL`, `EBADF`, `EPERM`, `ENOENT`, `ENOTDIR`, `EISDIR`, `EEXIST`, `EOPNOTSUPP`, `ENOSPC`, those of path resolution.
pub fn sys_fanotify_mark(cur: &CurrentTask, fd: Fd, flags: u32, mask: u64, dir: Fd, path: UserStr) -> SysResult<()> {
    let mut mask = u32::try_from(mask).map_err(|_| Errno::EINVAL)?;
    let command = check_command(flags, mask)?;
    let ignoring = flags & mark::IGNORING;
    if mask & !KNOWN != 0 || ignoring == mark::IGNORING {
        return Err(Errno::EINVAL.into());
    }
    // Flags of events are nothing to be ignored by themselves.
    let mut also = 0;
    if ignoring == mark::IGNORED_MASK {
        (mask, also) = (mask & !FLAGS, FLAGS);
    }
    let group = fanotify::of_file(&*files::file(cur, fd)?)?;
    check_group_mark(cur, &group, flags, mask)?;
    if command == mark::FLUSH {
        group.flush(match flags & mark::MNTNS {
            mark::MOUNT => |t| matches!(t, Target::Mount(_)),
            mark::FILESYSTEM => |t| matches!(t, Target::FileSystem(_)),
            mark::MNTNS => |t| matches!(t, Target::Namespace(_)),
            _ => |t| matches!(t, Target::Inode(_)),
        });
        return Ok(());
    }
    let place = find(cur, dir, path, flags)?;
    if command == mark::ADD {
        check_events(&group, &place, flags, mask)?;
    }
    if group.has(flag::FID) {
        check_handles(&place, flags)?;
    }
    let target = target(cur, &place, flags)?;
    let is_inode = matches!(target, Target::Inode(_));
    let of_dir = is_inode && place.dentry.is_dir();
    if command == mark::ADD && ignoring == mark::IGNORE && flags & mark::SURV_MODIFY == 0 && (!is_inode || of_dir) {
        return Err(if is_inode { Errno::EISDIR } else { Errno::EINVAL }.into());
    }
    if !of_dir {
        mask &= !event::ON_CHILD;
        also |= event::ON_CHILD;
        // Events of files come with their directory where the group tells of it.
        if command == mark::ADD && ignoring == 0 && group.has(flag::REPORT_DIR_FID) {
            mask |= event::ON_CHILD;
        }
    }
    let change = Change {
        mask,
        ignored: ignoring != 0,
        precise: ignoring == mark::IGNORE,
        survives: flags & mark::SURV_MODIFY != 0,
        evictable: flags & mark::EVICTABLE != 0,
    };
    let inode = &**place.inode();
    if command == mark::REMOVE {
        return Ok(group.subtract(target, inode, change, also)?);
    }
    let written = is_inode && inode.state().known(inode).is_some_and(|s| s.writers() > 0);
    Ok(group.add(target, inode, change, written)?)
}

fn check_command(flags: u32, mask: u32) -> Result<u32> {
    if flags & !mark::ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let command = flags & mark::COMMAND;
    match command {
        mark::ADD | mark::REMOVE if mask != 0 => Ok(command),
        mark::FLUSH if flags & !(mark::MNTNS | mark::FLUSH) == 0 => Ok(command),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether a group of this kind can have such a mark.
fn check_group_mark(cur: &CurrentTask, group: &Fanotify, flags: u32, mask: u32) -> Result {
    let kind = flags & mark::MNTNS;
    let of_mounts = group.has(flag::REPORT_MNT);
    if if of_mounts { mask & !OF_MOUNTS != 0 } else { mask & OF_MOUNTS != 0 } || of_mounts != (kind == mark::MNTNS) {
        return Err(Errno::EINVAL);
    }
    if kind != 0 && !group.may_mark_all(cur.cred()) {
        return Err(Errno::EPERM);
    }
    let asks = event::PERMISSION | PRE_ACCESS;
    let wrong = mask & asks != 0 && !group.has(flag::CLASS)
        || mask & PRE_ACCESS != 0 && group.has(flag::CLASS_CONTENT)
        || mask & FS_ERROR != 0 && kind != mark::FILESYSTEM
        || flags & mark::EVICTABLE != 0 && kind != 0
        || mask & !(BY_DESCRIPTOR | OF_MOUNTS | FLAGS) != 0 && (!group.has(flag::FID) || kind == mark::MOUNT)
        || mask & event::RENAME != 0 && !group.has(flag::REPORT_NAME)
        || mask & PRE_ACCESS != 0 && mask & IN_ISDIR != 0;
    if wrong { Err(Errno::EINVAL) } else { Ok(()) }
}

/// What is to be marked; the caller must be able to read it.
fn find(cur: &CurrentTask, dir: Fd, path: UserStr, flags: u32) -> Result<Path> {
    let place = if path.0 == 0 {
        files::file(cur, dir)?.path().clone()
    } else {
        let how = if flags & mark::DONT_FOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
        files::place(cur, &cur.op_ctx(), dir, path, how)?
    };
    if flags & mark::ONLYDIR != 0 && !place.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    access::check(cur.cred(), &**place.inode(), access::READ)?;
    Ok(place)
}

/// Whether events of this kind come from there.
fn check_events(group: &Fanotify, place: &Path, flags: u32, mask: u32) -> Result {
    let is_dir = place.dentry.is_dir();
    if mask & PRE_ACCESS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let kind = flags & mark::MNTNS;
    let own = place.mount.has_in_file_system(&place.dentry);
    if mask & event::PERMISSION != 0 && matches!(place.mount.fstype, "proc" | "sysfs")
        || kind != 0 && kind != mark::MNTNS && !own
    {
        return Err(Errno::EINVAL);
    }
    let strict = group.has(flag::REPORT_TARGET_FID) || mask & event::RENAME != 0 || flags & mark::IGNORE != 0;
    if strict && kind == 0 && !is_dir && mask & (NAMES | FLAGS) != 0 {
        return Err(Errno::ENOTDIR);
    }
    Ok(())
}

/// Whether files there can be told of by handles: for a mark on one file it is enough that they can be compared.
fn check_handles(place: &Path, flags: u32) -> Result {
    if flags & mark::MNTNS != 0 && !handles::lasting(&*place.mount.root.inode) {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(())
}

fn target(cur: &CurrentTask, place: &Path, flags: u32) -> Result<Target> {
    let may = |ns: &_| if cur.cred().capable_in(ns, cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) };
    match flags & mark::MNTNS {
        0 => Ok(Target::Inode(place.inode().identity()?)),
        mark::MOUNT => {
            may(place.mount.user_ns())?;
            Ok(Target::Mount(place.mount.id))
        }
        mark::FILESYSTEM => {
            may(place.mount.user_ns())?;
            Ok(fanotify::file_system_of(&place.mount))
        }
        _ => {
            if place.inode().file_type() != FileType::Regular {
                return Err(Errno::EINVAL);
            }
            let file = open_quietly(&cur.op_ctx(), place.clone(), 0).map_err(|_| Errno::EINVAL)?;
            match ns::of_file(&file) {
                Some(Namespace::Mount(ns)) => {
                    may(&ns.user_ns)?;
                    Ok(Target::Namespace(ns.id))
                }
                _ => Err(Errno::EINVAL),
            }
        }
    }
}

const _: () = assert!(CWD.0 == linux::AT_FDCWD);
