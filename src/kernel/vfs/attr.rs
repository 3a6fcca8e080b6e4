//! Changing attributes: mode, owner, times, size, with the checks of `chmod(2)`, `chown(2)`,
//! `utimensat(2)` and `truncate(2)`.

use super::access::{self, WRITE};
use super::acl;
use super::file::OpCtx;
use super::inode::{FileType, Inode, Nanos, SetAttr};
use super::mount::{NOATIME, NODIRATIME, Path};
use super::notify;
use super::state::WriteAccess;
use super::xattr;
use super::{landlock, lease};
use crate::abi::linux::{IN_ACCESS, IN_ATTRIB, IN_MODIFY, O_NOATIME};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::{Cred, cap};
use crate::time;
use core::sync::atomic::Ordering::Relaxed;

/// What is immutable or can only be appended to keeps its mode, its owner and its times.
///
/// # Errors
/// `EPERM`.
fn check_changeable(inode: &dyn Inode) -> Result {
    if inode.immutable() || inode.append_only() { Err(Errno::EPERM) } else { Ok(()) }
}

/// Changes the permission bits.
///
/// # Errors
/// `EROFS`, `EPERM`, `EOPNOTSUPP` for a symbolic link.
pub fn chmod(ctx: &OpCtx<'_>, path: &Path, mode: u32) -> Result {
    path.check_writable()?;
    let inode = &**path.inode();
    check_changeable(inode)?;
    if inode.file_type() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    access::check_owner(ctx.cred, inode)?;
    let (_, uid, gid) = inode.permissions()?;
    let mut mode = mode & 0o7777;
    if !ctx.cred.in_group(gid) && !ctx.cred.capable_over(cap::FSETID, uid, gid) {
        mode &= !0o2000;
    }
    inode.set_attr(ctx, &SetAttr { mode: Some(mode), ..SetAttr::default() })?;
    acl::follow_mode(inode, mode)?;
    notify::named(&path.dentry, IN_ATTRIB);
    Ok(())
}

/// Changes owner and group; `None` leaves one alone.
///
/// # Errors
/// `EROFS`, `EPERM`.
pub fn chown(ctx: &OpCtx<'_>, path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result {
    path.check_writable()?;
    let inode = &**path.inode();
    if uid.or(gid).is_some() {
        check_changeable(inode)?;
    }
    let (mode, old_uid, old_gid) = inode.permissions()?;
    if !ctx.cred.capable_over(cap::CHOWN, old_uid, old_gid) {
        let owner = ctx.cred.fsuid == old_uid;
        if uid.is_some_and(|u| !owner || u != old_uid) {
            return Err(Errno::EPERM);
        }
        if gid.is_some_and(|g| !owner || g != old_gid && !ctx.cred.in_group(g)) {
            return Err(Errno::EPERM);
        }
    }
    let mut attr = SetAttr { uid, gid, ..SetAttr::default() };
    if inode.file_type() != FileType::Dir && mode & 0o6000 != 0 {
        let group_runs = mode & 0o0010 != 0;
        let kept = mode & 0o7777 & !0o4000 & !if group_runs { 0o2000 } else { 0 };
        attr.mode = Some(kept);
        // That takes the right to change modes, too.
        if !ctx.cred.owns(old_uid) {
            return Err(Errno::EPERM);
        }
    }
    if inode.file_type() != FileType::Dir {
        xattr::lose_capabilities(inode);
    }
    inode.set_attr(ctx, &attr)?;
    if attr.uid.or(attr.gid).or(attr.mode).is_some() {
        notify::named(&path.dentry, IN_ATTRIB);
    }
    Ok(())
}

/// Something was read of the file at `path`, by a description with these flags: its access time moves as the mount says
/// (`touch_atime` in Linux).
#[cold]
pub fn accessed(path: &Path, flags: u32) {
    let inode = path.inode();
    let not = if inode.file_type() == FileType::Dir { NOATIME | NODIRATIME } else { NOATIME };
    let keeps = inode.flags().is_some_and(|f| f & super::inode::flags::NOATIME != 0);
    if flags & O_NOATIME == 0 && !keeps && path.mount.flags.load(Relaxed) & not == 0 && path.check_writable().is_ok() {
        inode.accessed(path.mount.keeps_all_accesses());
    }
}

/// The mode of a file whose contents `cred` changes, if that changes it: the set-id bits go, unless a
/// capability keeps them (`setattr_should_drop_suidgid` in Linux).
pub fn mode_after_write(cred: &Cred, mode: u32) -> Option<u32> {
    let gone = mode & 0o4000 | if mode & 0o2010 == 0o2010 { 0o2000 } else { 0 };
    (gone != 0 && !cred.capable(cap::FSETID)).then_some(mode & !gone)
}

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// `UTIME_OMIT`.
    Omit,
    /// `UTIME_NOW`.
    Now,
    /// This one.
    At(Nanos),
}

/// Sets access and modification time.
///
/// # Errors
/// `EROFS`, `EACCES` for "now" without write permission, `EPERM` for others.
pub fn utimes(ctx: &OpCtx<'_>, path: &Path, atime: SetTime, mtime: SetTime) -> Result {
    if atime == SetTime::Omit && mtime == SetTime::Omit {
        return Ok(());
    }
    path.check_writable()?;
    let inode = &**path.inode();
    let now_only = atime == SetTime::Now && mtime == SetTime::Now;
    if inode.immutable() || inode.append_only() && !now_only {
        return Err(Errno::EPERM);
    }
    let (_, uid, _) = inode.permissions()?;
    let owner = ctx.cred.owns(uid);
    if !owner {
        if atime != SetTime::Now || mtime != SetTime::Now {
            return Err(Errno::EPERM);
        }
        access::check(ctx.cred, inode, WRITE)?;
    }
    let now = time::now_coarse();
    let at = |t| match t {
        SetTime::Omit => None,
        SetTime::Now => Some(now),
        SetTime::At(ns) => Some(ns),
    };
    inode.set_attr(ctx, &SetAttr { atime: at(atime), mtime: at(mtime), ..SetAttr::default() })?;
    // One time alone is told as what would have moved it (`fsnotify_change` in Linux).
    let told = match (atime, mtime) {
        (_, SetTime::Omit) => IN_ACCESS,
        (SetTime::Omit, _) => IN_MODIFY,
        _ => IN_ATTRIB,
    };
    notify::named(&path.dentry, told);
    Ok(())
}

/// Sets the size of the file at `path`.
///
/// # Errors
/// `EISDIR`, `EINVAL`, `EACCES`, `EROFS`, `EFBIG`.
pub fn truncate(ctx: &OpCtx<'_>, path: &Path, size: u64) -> SysResult<()> {
    let inode = &**path.inode();
    match inode.file_type() {
        FileType::Dir => return Err(Errno::EISDIR.into()),
        FileType::Regular => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    path.check_writable()?;
    access::check(ctx.cred, inode, WRITE)?;
    if inode.append_only() {
        return Err(Errno::EPERM.into());
    }
    let _write = WriteAccess::new(path.inode())?;
    landlock::check(ctx.cred, path, landlock::fs::TRUNCATE)?;
    lease::break_leases(inode, true, false)?;
    set_size(ctx, inode, size)?;
    notify::named(&path.dentry, IN_MODIFY);
    Ok(())
}

/// Sets a size once permission is settled (`ftruncate`).
///
/// # Errors
/// `EFBIG`, `ENOSPC`.
pub fn set_size(ctx: &OpCtx<'_>, inode: &dyn Inode, size: u64) -> Result {
    if size > ctx.fsize_limit && size > inode.stat()?.size {
        return Err(Errno::EFBIG);
    }
    let mode = mode_after_write(ctx.cred, inode.permissions()?.0).map(|mode| mode & 0o7777);
    inode.set_attr(ctx, &SetAttr { size: Some(size), mode, ..SetAttr::default() })
}
