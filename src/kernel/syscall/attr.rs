//! Attributes: `chmod`, `chown`, `utime`, `truncate`, `fallocate`, `fsync`, `sync` families.

use super::Fd;
use super::files::{self, CWD};
use crate::abi::linux::{self, __kernel_timespec, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, timeval};
use crate::abi::{Errno, Result, SysError, SysResult};
use crate::cred::Kind;
use crate::fs::pidfd;
use crate::mm::{UserPtr, UserStr};
use crate::task::CurrentTask;
use crate::vfs::attr::{self, SetTime};
use crate::vfs::{FileType, Path, notify};

fn chmod_at(cur: &CurrentTask, dir: Fd, path: UserStr, mode: u32, flags: u32) -> SysResult<()> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let ctx = cur.op_ctx();
    let place = files::place(cur, &ctx, dir, path, flags)?;
    Ok(attr::chmod(&ctx, &place, mode)?)
}

/// `chmod(2)`.
pub fn sys_chmod(cur: &CurrentTask, path: UserStr, mode: u32) -> SysResult<()> {
    chmod_at(cur, CWD, path, mode, 0)
}

/// `fchmodat(2)`, which has no flags.
pub fn sys_fchmodat(cur: &CurrentTask, dir: Fd, path: UserStr, mode: u32) -> SysResult<()> {
    chmod_at(cur, dir, path, mode, 0)
}

/// `fchmodat2(2)`.
pub fn sys_fchmodat2(cur: &CurrentTask, dir: Fd, path: UserStr, mode: u32, flags: u32) -> SysResult<()> {
    chmod_at(cur, dir, path, mode, flags)
}

/// `fchmod(2)`.
pub fn sys_fchmod(cur: &CurrentTask, fd: Fd, mode: u32) -> SysResult<()> {
    let file = files::file(cur, fd)?;
    Ok(attr::chmod(&cur.op_ctx(), file.path(), mode)?)
}

/// The owner and the group that the caller means; `None` leaves one alone.
fn owners(cur: &CurrentTask, uid: u32, gid: u32) -> Result<(Option<u32>, Option<u32>)> {
    let meant = |kind, id| match id {
        u32::MAX => Ok(None),
        id => cur.cred().user_ns.meant(kind, id).map(Some),
    };
    Ok((meant(Kind::User, uid)?, meant(Kind::Group, gid)?))
}

/// `fchownat(2)`.
pub fn sys_fchownat(cur: &CurrentTask, dir: Fd, path: UserStr, uid: u32, gid: u32, flags: u32) -> SysResult<()> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let ctx = cur.op_ctx();
    let place = files::place(cur, &ctx, dir, path, flags)?;
    let (uid, gid) = owners(cur, uid, gid)?;
    Ok(attr::chown(&ctx, &place, uid, gid)?)
}

/// `chown(2)`.
pub fn sys_chown(cur: &CurrentTask, path: UserStr, uid: u32, gid: u32) -> SysResult<()> {
    sys_fchownat(cur, CWD, path, uid, gid, 0)
}

/// `lchown(2)`.
pub fn sys_lchown(cur: &CurrentTask, path: UserStr, uid: u32, gid: u32) -> SysResult<()> {
    sys_fchownat(cur, CWD, path, uid, gid, AT_SYMLINK_NOFOLLOW)
}

/// `fchown(2)`.
pub fn sys_fchown(cur: &CurrentTask, fd: Fd, uid: u32, gid: u32) -> SysResult<()> {
    let file = files::file(cur, fd)?;
    let (uid, gid) = owners(cur, uid, gid)?;
    Ok(attr::chown(&cur.op_ctx(), file.path(), uid, gid)?)
}

fn time_of(t: __kernel_timespec) -> Result<SetTime> {
    match t.tv_nsec {
        n if n == i64::from(linux::UTIME_NOW) => Ok(SetTime::Now),
        n if n == i64::from(linux::UTIME_OMIT) => Ok(SetTime::Omit),
        n @ 0..=999_999_999 => Ok(SetTime::At(t.tv_sec.saturating_mul(1_000_000_000).saturating_add(n))),
        _ => Err(Errno::EINVAL),
    }
}

fn target(cur: &CurrentTask, dir: Fd, path: UserStr, flags: u32) -> Result<Path> {
    if path.0 == 0 && dir != CWD {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        return Ok(cur.files().get(dir.0)?.path().clone());
    }
    files::place(cur, &cur.op_ctx(), dir, path, flags)
}

/// `utimensat(2)`; without a path, of the descriptor itself.
pub fn sys_utimensat(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    times: UserPtr<[__kernel_timespec; 2]>,
    flags: u32,
) -> SysResult<()> {
    let [atime, mtime] = match times.option() {
        None => [Ok(SetTime::Now); 2],
        // Whether they are times at all is looked at once there is a file.
        Some(t) => t.read()?.map(time_of),
    };
    if atime == Ok(SetTime::Omit) && mtime == Ok(SetTime::Omit) {
        return Ok(());
    }
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let place = target(cur, dir, path, flags)?;
    Ok(attr::utimes(&cur.op_ctx(), &place, atime?, mtime?)?)
}

/// `futimesat(2)`.
pub fn sys_futimesat(cur: &CurrentTask, dir: Fd, path: UserStr, times: UserPtr<[timeval; 2]>) -> SysResult<()> {
    let [atime, mtime] = match times.option() {
        None => [SetTime::Now; 2],
        Some(t) => {
            let of = |t: timeval| match t.tv_usec {
                us @ 0..=999_999 => Ok(SetTime::At(t.tv_sec.saturating_mul(1_000_000_000).saturating_add(us * 1000))),
                _ => Err(Errno::EINVAL),
            };
            let [a, m] = t.read()?;
            [of(a)?, of(m)?]
        }
    };
    let place = target(cur, dir, path, 0)?;
    Ok(attr::utimes(&cur.op_ctx(), &place, atime, mtime)?)
}

/// `utimes(2)`.
pub fn sys_utimes(cur: &CurrentTask, path: UserStr, times: UserPtr<[timeval; 2]>) -> SysResult<()> {
    sys_futimesat(cur, CWD, path, times)
}

/// `utime(2)`.
pub fn sys_utime(cur: &CurrentTask, path: UserStr, times: UserPtr<[i64; 2]>) -> SysResult<()> {
    let [atime, mtime] = match times.option() {
        None => [SetTime::Now; 2],
        Some(t) => t.read()?.map(|s| SetTime::At(s.saturating_mul(1_000_000_000))),
    };
    let place = target(cur, CWD, path, 0)?;
    Ok(attr::utimes(&cur.op_ctx(), &place, atime, mtime)?)
}

/// `truncate(2)`.
pub fn sys_truncate(cur: &CurrentTask, path: UserStr, size: i64) -> SysResult<()> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let ctx = cur.op_ctx();
    let place = files::place(cur, &ctx, CWD, path, 0)?;
    limited(cur, attr::truncate(&ctx, &place, size))
}

/// `ftruncate(2)`.
pub fn sys_ftruncate(cur: &CurrentTask, fd: Fd, size: i64) -> SysResult<()> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let file = files::file(cur, fd)?;
    if pidfd::of_file(&file).is_ok() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if !file.writable() || file.inode.file_type() != FileType::Regular {
        return Err(Errno::EINVAL.into());
    }
    if file.inode.append_only() {
        return Err(Errno::EPERM.into());
    }
    file.check_allowed(crate::vfs::landlock::fs::TRUNCATE)?;
    limited(cur, attr::set_size(&cur.op_ctx(), &*file.inode, size).map_err(Into::into))?;
    notify::named(&file.path().dentry, linux::IN_MODIFY);
    Ok(())
}

fn limited(cur: &CurrentTask, out: SysResult<()>) -> SysResult<()> {
    if matches!(out, Err(SysError::Errno(Errno::EFBIG))) {
        files::too_big(cur);
    }
    out
}

/// `FALLOC_FL_WRITE_ZEROES`, which block devices and some file systems take.
const FALLOC_FL_WRITE_ZEROES: u32 = 0x80;

/// `fallocate(2)`.
pub fn sys_fallocate(cur: &CurrentTask, fd: Fd, mode: u32, offset: i64, len: i64) -> SysResult<()> {
    let file = files::file(cur, fd)?;
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let keep = mode & linux::FALLOC_FL_KEEP_SIZE != 0;
    match mode & !linux::FALLOC_FL_KEEP_SIZE {
        0 | linux::FALLOC_FL_ZERO_RANGE | linux::FALLOC_FL_UNSHARE_RANGE => {}
        linux::FALLOC_FL_PUNCH_HOLE if keep => {}
        FALLOC_FL_WRITE_ZEROES if !keep => {}
        linux::FALLOC_FL_COLLAPSE_RANGE | linux::FALLOC_FL_INSERT_RANGE if !keep => {}
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    if !file.writable() {
        return Err(Errno::EBADF.into());
    }
    if file.inode.immutable() || file.inode.append_only() && mode & !linux::FALLOC_FL_KEEP_SIZE != 0 {
        return Err(Errno::EPERM.into());
    }
    if pidfd::of_file(&file).is_ok() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    match file.inode.file_type() {
        FileType::Fifo => return Err(Errno::ESPIPE.into()),
        FileType::Dir => return Err(Errno::EISDIR.into()),
        FileType::Regular => {}
        _ => return Err(Errno::ENODEV.into()),
    }
    if mode == FALLOC_FL_WRITE_ZEROES {
        return Err(Errno::EOPNOTSUPP.into());
    }
    // Past what a file can have at all no signal comes.
    if offset.checked_add(len).is_none() {
        return Err(Errno::EFBIG.into());
    }
    limited(cur, file.ops.fallocate(&cur.op_ctx(), mode, offset as u64, len as u64).map_err(Into::into))?;
    notify::open_file(&file, linux::IN_MODIFY);
    Ok(())
}

/// `fsync(2)`.
pub fn sys_fsync(cur: &CurrentTask, fd: Fd) -> SysResult<()> {
    files::file(cur, fd)?.ops.sync(false)
}

/// `fdatasync(2)`.
pub fn sys_fdatasync(cur: &CurrentTask, fd: Fd) -> SysResult<()> {
    files::file(cur, fd)?.ops.sync(true)
}

/// `sync(2)`: nothing of ours is behind.
pub fn sys_sync(_cur: &CurrentTask) -> SysResult<()> {
    Ok(())
}

/// `syncfs(2)`.
pub fn sys_syncfs(cur: &CurrentTask, fd: Fd) -> SysResult<()> {
    files::file(cur, fd)?;
    Ok(())
}

/// `sync_file_range(2)`.
pub fn sys_sync_file_range(cur: &CurrentTask, fd: Fd, offset: i64, len: i64, flags: u32) -> SysResult<()> {
    let file = files::file(cur, fd)?;
    if flags & !7 != 0 || offset < 0 || len < 0 || offset.checked_add(len).is_none() {
        return Err(Errno::EINVAL.into());
    }
    if !matches!(file.inode.file_type(), FileType::Regular | FileType::Block | FileType::Dir) {
        return Err(Errno::ESPIPE.into());
    }
    match file.ops.sync(true) {
        Err(SysError::Errno(Errno::EINVAL)) => Ok(()),
        other => other,
    }
}

/// `fadvise64(2)`: advice that we need not take.
pub fn sys_fadvise64(cur: &CurrentTask, fd: Fd, _offset: i64, len: i64, advice: u32) -> SysResult<()> {
    let file = files::file(cur, fd)?;
    if file.inode.file_type() == FileType::Fifo {
        return Err(Errno::ESPIPE.into());
    }
    if len < 0 || advice > 5 {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

/// `readahead(2)`.
pub fn sys_readahead(cur: &CurrentTask, fd: Fd, _offset: i64, len: i64) -> SysResult<()> {
    let file = files::file(cur, fd)?;
    if !file.readable() {
        return Err(Errno::EBADF.into());
    }
    if file.inode.file_type() != FileType::Regular || len < 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}
