//! `stat` and its relatives, `statx`, `access`, `readlink`, `statfs`.

use super::Fd;
use super::files::{self, CWD};
use crate::abi::linux::{self, AT_EACCESS, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::{Cred, Kind};
use crate::mm::{UserPtr, UserStr, zeroed};
use crate::task::CurrentTask;
use crate::vfs::{FileType, Path, Stat, StatFs, access, mount};

const SECOND: i64 = 1_000_000_000;

fn to_stat(cur: &CurrentTask, s: &Stat) -> linux::stat {
    let cred = cur.cred();
    let mut out: linux::stat = zeroed();
    out.st_dev = s.dev;
    out.st_ino = s.ino;
    out.st_nlink = u64::from(s.nlink);
    out.st_mode = s.mode;
    out.st_uid = cred.seen_uid(s.uid);
    out.st_gid = cred.seen_gid(s.gid);
    out.st_rdev = s.rdev;
    out.st_size = s.size as i64;
    out.st_blksize = i64::from(s.blksize);
    out.st_blocks = s.blocks as i64;
    out.st_atime = s.atime.div_euclid(SECOND) as u64;
    out.st_atime_nsec = s.atime.rem_euclid(SECOND) as u64;
    out.st_mtime = s.mtime.div_euclid(SECOND) as u64;
    out.st_mtime_nsec = s.mtime.rem_euclid(SECOND) as u64;
    out.st_ctime = s.ctime.div_euclid(SECOND) as u64;
    out.st_ctime_nsec = s.ctime.rem_euclid(SECOND) as u64;
    out
}

fn stat_at(cur: &CurrentTask, dir: Fd, path: UserStr, flags: u32) -> Result<Stat> {
    files::place_or_itself(cur, &cur.op_ctx(), dir, path, flags)?.inode().stat()
}

/// `stat(2)`.
pub fn sys_stat(cur: &CurrentTask, path: UserStr, out: UserPtr<linux::stat>) -> SysResult<()> {
    Ok(out.write(to_stat(cur, &stat_at(cur, CWD, path, 0)?))?)
}

/// `lstat(2)`.
pub fn sys_lstat(cur: &CurrentTask, path: UserStr, out: UserPtr<linux::stat>) -> SysResult<()> {
    Ok(out.write(to_stat(cur, &stat_at(cur, CWD, path, AT_SYMLINK_NOFOLLOW)?))?)
}

/// `fstat(2)`.
pub fn sys_fstat(cur: &CurrentTask, fd: Fd, out: UserPtr<linux::stat>) -> SysResult<()> {
    Ok(out.write(to_stat(cur, &cur.any_file(fd.0)?.inode.stat()?))?)
}

/// `newfstatat(2)`.
pub fn sys_newfstatat(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    out: UserPtr<linux::stat>,
    flags: u32,
) -> SysResult<()> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | linux::AT_STATX_SYNC_TYPE) != 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(out.write(to_stat(cur, &stat_at(cur, dir, path, flags)?))?)
}

fn timestamp(ns: i64) -> linux::statx_timestamp {
    linux::statx_timestamp { tv_sec: ns.div_euclid(SECOND), tv_nsec: ns.rem_euclid(SECOND) as u32, __reserved: 0 }
}

/// Major and minor of a device number in the user encoding.
fn split(dev: u64) -> (u32, u32) {
    ((dev >> 8 & 0xfff) as u32 | (dev >> 32) as u32 & !0xfff, (dev & 0xff) as u32 | (dev >> 12) as u32 & !0xff)
}

/// `statx(2)`.
pub fn sys_statx(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    flags: u32,
    mask: u32,
    out: UserPtr<linux::statx>,
) -> SysResult<()> {
    let known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | linux::AT_STATX_SYNC_TYPE;
    let sync = flags & linux::AT_STATX_SYNC_TYPE;
    if flags & !known != 0 || sync == linux::AT_STATX_SYNC_TYPE || mask & linux::STATX__RESERVED != 0 {
        return Err(Errno::EINVAL.into());
    }
    let place = files::place_or_itself(cur, &cur.op_ctx(), dir, path, flags)?;
    let s = place.inode().stat()?;
    let mut x: linux::statx = zeroed();
    x.stx_mask = linux::STATX_BASIC_STATS;
    x.stx_blksize = s.blksize;
    x.stx_nlink = s.nlink;
    x.stx_uid = cur.cred().seen_uid(s.uid);
    x.stx_gid = cur.cred().seen_gid(s.gid);
    x.stx_mode = s.mode as u16;
    x.stx_ino = s.ino;
    x.stx_size = s.size;
    x.stx_blocks = s.blocks;
    x.stx_atime = timestamp(s.atime);
    x.stx_mtime = timestamp(s.mtime);
    x.stx_ctime = timestamp(s.ctime);
    // Linux makes the effort for times of changes only where they are asked for.
    let changes = linux::STATX_MTIME | linux::STATX_CTIME;
    if mask & changes == 0 {
        x.stx_mask &= !changes;
    }
    if s.btime != 0 && mask & linux::STATX_BTIME != 0 {
        x.stx_mask |= linux::STATX_BTIME;
        x.stx_btime = timestamp(s.btime);
    }
    (x.stx_rdev_major, x.stx_rdev_minor) = split(s.rdev);
    (x.stx_dev_major, x.stx_dev_minor) = split(s.dev);
    let unique = mask & linux::STATX_MNT_ID_UNIQUE != 0;
    x.stx_mask |= if unique { linux::STATX_MNT_ID_UNIQUE } else { linux::STATX_MNT_ID };
    x.stx_mnt_id = if unique { place.mount.unique_id() } else { place.mount.id };
    let known = linux::STATX_ATTR_MOUNT_ROOT | linux::STATX_ATTR_AUTOMOUNT | linux::STATX_ATTR_DAX;
    x.stx_attributes_mask = u64::from(known);
    // The bits are those of the flags, which devices and pipes have none of.
    let shown = linux::STATX_ATTR_IMMUTABLE | linux::STATX_ATTR_APPEND | linux::STATX_ATTR_NODUMP;
    let flags = place.inode().flags();
    if flags.is_some() || place.inode().xattrs().is_some() {
        x.stx_attributes_mask |= u64::from(shown);
        x.stx_attributes |= u64::from(flags.unwrap_or(0) & shown);
    }
    if alloc::sync::Arc::ptr_eq(&place.dentry, &place.mount.root) {
        x.stx_attributes |= u64::from(linux::STATX_ATTR_MOUNT_ROOT);
    }
    Ok(out.write(x)?)
}

fn check_access(cred: &Cred, place: &Path, mode: u32) -> Result {
    let inode = &**place.inode();
    let kind = inode.file_type();
    if mode & access::EXEC != 0 && kind == FileType::Regular && place.mount.has(mount::NOEXEC) {
        return Err(Errno::EACCES);
    }
    if mode & access::WRITE != 0 && matches!(kind, FileType::Regular | FileType::Dir | FileType::Symlink) {
        place.check_writable()?;
    }
    access::check(cred, inode, mode)
}

fn access_at(cur: &CurrentTask, dir: Fd, path: UserStr, mode: u32, flags: u32) -> SysResult<()> {
    if mode & !7 != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut ctx = cur.op_ctx();
    let cred = &**cur.cred();
    if flags & AT_EACCESS != 0 || cred.uid == cred.fsuid && cred.gid == cred.fsgid {
        let place = files::place(cur, &ctx, dir, path, flags)?;
        return Ok(check_access(cred, &place, mode)?);
    }
    // With the real ids, for set-user-id programs.
    let mut real = cred.clone();
    (real.fsuid, real.fsgid) = (cred.uid, cred.gid);
    let root = real.user_ns.outside(Kind::User, 0) == Some(real.uid);
    real.cap_effective = if root { real.cap_permitted } else { 0 };
    ctx.cred = &real;
    let place = files::place(cur, &ctx, dir, path, flags)?;
    Ok(check_access(&real, &place, mode)?)
}

/// `access(2)`.
pub fn sys_access(cur: &CurrentTask, path: UserStr, mode: u32) -> SysResult<()> {
    access_at(cur, CWD, path, mode, 0)
}

/// `faccessat(2)`.
pub fn sys_faccessat(cur: &CurrentTask, dir: Fd, path: UserStr, mode: u32) -> SysResult<()> {
    access_at(cur, dir, path, mode, 0)
}

/// `faccessat2(2)`.
pub fn sys_faccessat2(cur: &CurrentTask, dir: Fd, path: UserStr, mode: u32, flags: u32) -> SysResult<()> {
    access_at(cur, dir, path, mode, flags)
}

fn readlink_at(cur: &CurrentTask, dir: Fd, path: UserStr, buf: UserPtr<u8>, size: i32) -> SysResult<usize> {
    let size = usize::try_from(size).ok().filter(|&n| n > 0).ok_or(Errno::EINVAL)?;
    let ctx = cur.op_ctx();
    // An empty path reads the link that the descriptor itself stands for.
    let place = files::place(cur, &ctx, dir, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    if place.inode().file_type() != FileType::Symlink {
        let empty = path.with_path(|p| Ok::<_, Errno>(p.is_empty()))?;
        return Err(if empty { Errno::ENOENT } else { Errno::EINVAL }.into());
    }
    let target = place.inode().read_link(&ctx)?;
    if place.inode().access_due() {
        crate::vfs::attr::accessed(&place, 0);
    }
    let n = target.len().min(size);
    buf.slice(n).write_from(&target[..n])?;
    Ok(n)
}

/// `readlink(2)`.
pub fn sys_readlink(cur: &CurrentTask, path: UserStr, buf: UserPtr<u8>, size: i32) -> SysResult<usize> {
    readlink_at(cur, CWD, path, buf, size)
}

/// `readlinkat(2)`.
pub fn sys_readlinkat(cur: &CurrentTask, dir: Fd, path: UserStr, buf: UserPtr<u8>, size: i32) -> SysResult<usize> {
    readlink_at(cur, dir, path, buf, size)
}

fn to_statfs(s: &StatFs, place: &Path) -> linux::statfs {
    let mut out: linux::statfs = zeroed();
    out.f_type = s.magic as i64;
    out.f_bsize = s.bsize as i64;
    out.f_frsize = s.bsize as i64;
    out.f_blocks = s.blocks as i64;
    out.f_bfree = s.bfree as i64;
    out.f_bavail = s.bavail as i64;
    out.f_files = s.files as i64;
    out.f_ffree = s.ffree as i64;
    out.f_namelen = s.namelen as i64;
    let fs = place.inode().file_system();
    out.f_fsid.val = [fs as i32, (fs >> 32) as i32];
    // ST_VALID, and the mount's own flags: RDONLY, NOSUID, NODEV, NOEXEC, NOATIME, NODIRATIME have the
    // numbers of MS_*, ST_RELATIME and ST_NOSYMFOLLOW have not.
    let mount = &place.mount;
    let mut flags = mount.flags.load(core::sync::atomic::Ordering::Relaxed);
    let moved = |from: u32, to: u64| if flags & from != 0 { to } else { 0 };
    let others = moved(mount::RELATIME, 4096) | moved(mount::NOSYMFOLLOW, 8192);
    flags &= mount::KEPT & !(mount::RELATIME | mount::NOSYMFOLLOW);
    flags |= mount.fs_flags() & (mount::RDONLY | mount::SYNCHRONOUS | mount::MANDLOCK);
    out.f_flags = (0x20 | u64::from(flags) | others | s.flags) as i64;
    out
}

/// `statfs(2)`.
pub fn sys_statfs(cur: &CurrentTask, path: UserStr, out: UserPtr<linux::statfs>) -> SysResult<()> {
    let place = files::place(cur, &cur.op_ctx(), CWD, path, 0)?;
    Ok(out.write(to_statfs(&place.inode().statfs()?, &place))?)
}

/// `fstatfs(2)`.
pub fn sys_fstatfs(cur: &CurrentTask, fd: Fd, out: UserPtr<linux::statfs>) -> SysResult<()> {
    let file = cur.files().get_any(fd.0)?;
    Ok(out.write(to_statfs(&file.inode.statfs()?, file.path()))?)
}
