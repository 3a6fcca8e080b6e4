//! `mount`, `umount2`, `pivot_root`.

use super::files::{self, CWD};
use super::mount_options;
use crate::abi::linux::{
    AT_SYMLINK_NOFOLLOW, MNT_DETACH, MNT_EXPIRE, MNT_FORCE, MS_BIND, MS_MOVE, MS_NOUSER, MS_PRIVATE, MS_REC,
    MS_RELATIME, MS_REMOUNT, MS_SHARED, MS_SILENT, MS_SLAVE, MS_STRICTATIME, MS_UNBINDABLE, UMOUNT_NOFOLLOW,
};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::{UserNamespace, cap};
use crate::fs::proc::FILE_SYSTEMS;
use crate::fs::{devpts, memfs, proc};
use crate::ipc::{self, mqueue};
use crate::mm::UserStr;
use crate::task::{CurrentTask, Task, kernel};
use crate::vfs::landlock;
use crate::vfs::mount::{
    ATIME, Change, DIRSYNC, KEPT, Kind, Mount, MountNamespace, NOATIME, NODIRATIME, OF_FS, RELATIME,
};
use crate::vfs::{Inode, Path};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

fn text(s: UserStr) -> Result<Vec<u8>> {
    if s.0 == 0 { Ok(Vec::new()) } else { s.read(4096, Errno::EINVAL) }
}

/// The flags of a mount that `mount(2)`'s mean: without a word about access times they are kept lazily.
fn kept(flags: u32) -> u32 {
    let out = flags & KEPT & !RELATIME;
    match flags & (NOATIME | MS_STRICTATIME) {
        0 => out | RELATIME,
        NOATIME => out,
        _ => out & !NOATIME,
    }
}

/// `mount(2)`.
pub fn sys_mount(
    cur: &CurrentTask,
    source: UserStr,
    target: UserStr,
    fstype: UserStr,
    flags: u32,
    data: UserStr,
) -> SysResult<()> {
    let no_type = fstype.0 == 0;
    let (fstype, data) = (text(fstype)?, text(data)?);
    // The upper half once held a magic number.
    let flags = if flags & 0xffff_0000 == 0xc0ed_0000 { flags & 0xffff } else { flags };
    let ctx = cur.op_ctx();
    let at = files::place(cur, &ctx, CWD, target, 0)?;
    if flags & MS_NOUSER != 0 {
        return Err(Errno::EINVAL.into());
    }
    landlock::check_mounts(cur.cred())?;
    let namespace = may_mount(cur)?;
    if flags & MS_REMOUNT != 0 {
        let mut new = kept(flags);
        if flags & (NOATIME | NODIRATIME | MS_RELATIME | MS_STRICTATIME) == 0 {
            new = new & !ATIME | at.mount.flags.load(Relaxed) & ATIME;
        }
        namespace.check_flags(&at, new)?;
        if flags & MS_BIND == 0 && !cur.cred().capable_in(at.mount.user_ns(), cap::SYS_ADMIN) {
            return Err(Errno::EPERM.into());
        }
        if flags & MS_BIND != 0 {
            return Ok(namespace.remount(&at, new, None)?);
        }
        // `MS_RMT_MASK`: that changes of directories are synchronous stays as it is.
        let asked = Change { mask: OF_FS & !DIRSYNC, flags: flags & OF_FS & !DIRSYNC };
        let options = mount_options::split(&data, asked, false)?;
        reconfigure(cur, &at.mount, &options.rest)?;
        return Ok(namespace.remount(&at, new, Some(options.change))?);
    }
    if flags & MS_BIND != 0 {
        let from = origin(cur, source)?;
        return Ok(namespace.bind(&from, &at, flags & MS_REC != 0)?);
    }
    if flags & (MS_PRIVATE | MS_SHARED | MS_SLAVE | MS_UNBINDABLE) != 0 {
        let kind = match flags & !(MS_REC | MS_SILENT) {
            MS_SHARED => Kind::Shared,
            MS_PRIVATE => Kind::Private,
            MS_SLAVE => Kind::Slave,
            MS_UNBINDABLE => Kind::Unbindable,
            _ => return Err(Errno::EINVAL.into()),
        };
        return Ok(namespace.set_kind(&at, kind, flags & MS_REC != 0)?);
    }
    if flags & MS_MOVE != 0 {
        let from = origin(cur, source)?;
        return Ok(namespace.move_mount(&from, &at, None)?);
    }
    if no_type {
        return Err(Errno::EINVAL.into());
    }
    if !FILE_SYSTEMS.iter().any(|f| f.as_bytes() == fstype) && existing(&namespace, &fstype).is_none() {
        return Err(Errno::ENODEV.into());
    }
    let asked = Change { mask: OF_FS, flags: flags & OF_FS };
    let options = mount_options::split(&data, asked, source.0 != 0)?;
    let made = make(cur, &namespace, &fstype, &options.rest, kept(flags))?;
    let source = match options.source {
        Some(source) => source,
        None if source.0 == 0 => "none".into(),
        None => String::from_utf8_lossy(&text(source)?).into_owned(),
    };
    let mount = Mount::new_in(&made.owner, made.root, kept(flags), made.name, &source);
    mount.begin_fs_flags(if made.shared { 0 } else { options.change.flags });
    mount.flags.fetch_or(made.locks, Relaxed);
    Ok(namespace.attach(&mount, &at)?)
}

/// Changes a file system's own options.
///
/// # Errors
/// `EINVAL` for what it does not take.
pub(super) fn reconfigure(cur: &CurrentTask, mount: &Mount, data: &[u8]) -> Result {
    let root = &mount.root.inode;
    let changed = devpts::remount(root, data).or_else(|| memfs::remount(root, data, cur.cred()));
    changed.unwrap_or(Ok(()))
}

/// The caller's mount namespace, if it may change that.
///
/// # Errors
/// `EPERM`.
pub(super) fn may_mount(cur: &CurrentTask) -> Result<Arc<MountNamespace>> {
    let namespace = cur.fs().namespace()?;
    let may = cur.cred().capable_in(&namespace.user_ns, cap::SYS_ADMIN);
    if may { Ok(namespace) } else { Err(Errno::EPERM) }
}

/// The place that is bound or moved.
fn origin(cur: &CurrentTask, source: UserStr) -> Result<Path> {
    if source.0 == 0 || source.read_path().is_ok_and(|p| p.is_empty()) {
        return Err(Errno::EINVAL);
    }
    files::place(cur, &cur.op_ctx(), CWD, source, 0)
}

/// `pivot_root(2)`: processes that stand at the old root go along.
pub fn sys_pivot_root(cur: &CurrentTask, new: UserStr, old: UserStr) -> SysResult<()> {
    landlock::check_mounts(cur.cred())?;
    let namespace = may_mount(cur)?;
    let ctx = cur.op_ctx();
    let directory = |path| {
        let place = files::place(cur, &ctx, CWD, path, 0)?;
        if place.dentry.is_dir() { Ok(place) } else { Err(Errno::ENOTDIR) }
    };
    let (new, old) = (directory(new)?, directory(old)?);
    let root = cur.fs().root();
    namespace.pivot(&root, &new, &old)?;
    let tasks: Vec<Arc<Task>> = kernel().roots().pid.tasks();
    for task in tasks {
        if let Some(own) = task.shared() {
            own.fs.follow_root(&root, &new);
        }
    }
    Ok(())
}

/// A file system that is to be mounted.
pub(super) struct Made {
    pub name: &'static str,
    pub root: Arc<dyn Inode>,
    /// Capabilities over it count here.
    pub owner: Arc<UserNamespace>,
    /// Locks of the mount's flags that it starts with.
    pub locks: u32,
    /// It is mounted elsewhere already, with flags of its own.
    pub shared: bool,
}

/// A new file system of this type, for a mount with these flags.
///
/// # Errors
/// `ENODEV` for an unknown type; `EPERM` for one that this user namespace may not mount; `EINVAL`.
pub(super) fn make(
    cur: &CurrentTask,
    namespace: &MountNamespace,
    fstype: &[u8],
    data: &[u8],
    flags: u32,
) -> Result<Made> {
    // What shows a namespace is of whoever owns that.
    let spaces = &cur.own().ns;
    let owner = match fstype {
        b"mqueue" => &spaces.ipc.user_ns,
        b"proc" => &cur.pid_namespace().user_ns,
        b"sysfs" => spaces.net.user_ns(),
        _ => &cur.cred().user_ns,
    };
    let owner = owner.clone();
    let may = || cur.cred().capable_in(&owner, cap::SYS_ADMIN).then_some(()).ok_or(Errno::EPERM);
    let memory = |ramfs| {
        let options = memfs::Options::parse(data, ramfs, cur.cred())?;
        may()?;
        memfs::limited(options, ramfs, cur.cred())
    };
    // The others take no options.
    let none = || if data.is_empty() { may() } else { Err(Errno::EINVAL) };
    let made = |name, root, locks, shared| Ok(Made { name, root, owner: owner.clone(), locks, shared });
    match fstype {
        b"mqueue" => none().and_then(|()| made("mqueue", mqueue::root(&ipc::namespace(cur)), 0, true)),
        b"tmpfs" => made("tmpfs", memory(false)?, 0, false),
        b"ramfs" => made("ramfs", memory(true)?, 0, false),
        b"devpts" => {
            let root = devpts::instance(data, false)?;
            may().and_then(|()| made("devpts", root, 0, false))
        }
        b"proc" => {
            none()?;
            made("proc", proc::root(cur.pid_namespace()), further(namespace, "proc", flags)?, false)
        }
        other => {
            let (name, root) = existing(namespace, other).ok_or(Errno::ENODEV)?;
            if other == b"sysfs" { none() } else { may() }?;
            if namespace.user_ns.level != 0 && other != b"sysfs" {
                return Err(Errno::EPERM);
            }
            made(name, root, further(namespace, name, flags)?, other != b"sysfs")
        }
    }
}

/// The locks that a further mount of a kernel file system starts with, where less privileged users may not see more than
/// they see already.
fn further(namespace: &MountNamespace, name: &str, flags: u32) -> Result<u32> {
    match namespace.user_ns.level {
        0 => Ok(0),
        _ => namespace.shows_all_of(name, flags).ok_or(Errno::EPERM),
    }
}

/// Kernel file systems of which there is one: a further mount shows the same.
fn existing(namespace: &MountNamespace, fstype: &[u8]) -> Option<(&'static str, Arc<dyn Inode>)> {
    let known = namespace.mounts();
    let m = known.iter().find(|m| m.fstype.as_bytes() == fstype && !matches!(fstype, b"overlay" | b"hostfs"))?;
    Some((m.fstype, m.root.inode.clone()))
}

/// `umount2(2)`.
pub fn sys_umount2(cur: &CurrentTask, target: UserStr, flags: u32) -> SysResult<()> {
    if flags & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let follow = if flags & UMOUNT_NOFOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    // What lies on the working directory is meant by ".", too (`LOOKUP_MOUNTPOINT`).
    let at = files::place(cur, &cur.op_ctx(), CWD, target, follow)?.descend();
    landlock::check_mounts(cur.cred())?;
    let namespace = may_mount(cur)?;
    if flags & MNT_FORCE != 0 && !cur.cred().capable(cap::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    if flags & MNT_EXPIRE != 0 {
        if flags & (MNT_FORCE | MNT_DETACH) != 0 || Arc::ptr_eq(&at.mount, &cur.fs().root().mount) {
            return Err(Errno::EINVAL.into());
        }
        namespace.expire(&at)?;
    }
    Ok(namespace.unmount(at, flags & MNT_DETACH != 0)?)
}
