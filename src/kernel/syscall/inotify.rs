//! `inotify(7)`: watches on files.

use super::files::{self, CWD};
use super::{Fd, at};
use crate::abi::linux::{
    AT_SYMLINK_NOFOLLOW, IN_ALL_EVENTS, IN_CLOEXEC, IN_DONT_FOLLOW, IN_EXCL_UNLINK, IN_IGNORED, IN_ISDIR, IN_MASK_ADD,
    IN_MASK_CREATE, IN_ONESHOT, IN_ONLYDIR, IN_Q_OVERFLOW, IN_UNMOUNT, O_CLOEXEC,
};
use crate::abi::{Errno, SysResult};
use crate::fs::inotify;
use crate::mm::UserStr;
use crate::task::CurrentTask;
use crate::vfs::access;

const _: () = assert!(IN_CLOEXEC == O_CLOEXEC);

/// Every bit that a watch may be asked for with.
const KNOWN: u32 = IN_ALL_EVENTS
    | IN_UNMOUNT
    | IN_Q_OVERFLOW
    | IN_IGNORED
    | IN_ISDIR
    | IN_ONLYDIR
    | IN_DONT_FOLLOW
    | IN_EXCL_UNLINK
    | IN_MASK_ADD
    | IN_MASK_CREATE
    | IN_ONESHOT;

/// `inotify_init1(2)`.
///
/// # Errors
/// `EINVAL`, `EMFILE`.
pub fn sys_inotify_init1(cur: &CurrentTask, flags: u32) -> SysResult<Fd> {
    files::install(cur, inotify::inotify(&cur.op_ctx(), flags)?, flags)
}

/// `inotify_init(2)`.
///
/// # Errors
/// `EMFILE`.
pub fn sys_inotify_init(cur: &CurrentTask) -> SysResult<Fd> {
    sys_inotify_init1(cur, 0)
}

/// `inotify_add_watch(2)`.
///
/// # Errors
/// `EINVAL`, `EBADF`, `EACCES`, `EEXIST`, `ENOTDIR` and those of path resolution.
pub fn sys_inotify_add_watch(cur: &CurrentTask, fd: Fd, path: UserStr, mask: u32) -> SysResult<i32> {
    at::only(mask, KNOWN)?;
    if mask == 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = files::file(cur, fd)?;
    if mask & IN_MASK_ADD != 0 && mask & IN_MASK_CREATE != 0 {
        return Err(Errno::EINVAL.into());
    }
    let instance = inotify::of_file(&file)?;
    let how = if mask & IN_DONT_FOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    let place = files::place(cur, &cur.op_ctx(), CWD, path, how)?;
    if mask & IN_ONLYDIR != 0 && !place.dentry.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    access::check(cur.cred(), &**place.inode(), access::READ)?;
    Ok(instance.add(&**place.inode(), mask)?)
}

/// `inotify_rm_watch(2)`.
///
/// # Errors
/// `EBADF`, `EINVAL`.
pub fn sys_inotify_rm_watch(cur: &CurrentTask, fd: Fd, wd: i32) -> SysResult<()> {
    Ok(inotify::of_file(&*files::file(cur, fd)?)?.remove(wd)?)
}
