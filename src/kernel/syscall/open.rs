//! `open`, `openat`, `openat2`, `creat`, `close`, `close_range`.

use super::Fd;
use super::files::{self, CWD};
use crate::abi::linux::{self, O_CREAT, O_DIRECTORY, O_LARGEFILE, O_PATH, O_TMPFILE, O_TRUNC, O_WRONLY, open_how};
use crate::abi::{Errno, SysResult};
use crate::mm::{UserPtr, UserStr};
use crate::task::CurrentTask;
use crate::vfs;
use crate::vfs::open::How;
use alloc::sync::Arc;

/// Every flag that `openat2` knows.
const VALID: u32 = linux::O_ACCMODE
    | O_CREAT
    | linux::O_EXCL
    | linux::O_NOCTTY
    | O_TRUNC
    | linux::O_APPEND
    | linux::O_NONBLOCK
    | linux::O_SYNC
    | linux::O_DSYNC
    | 0o20000
    | linux::O_DIRECT
    | O_LARGEFILE
    | O_DIRECTORY
    | linux::O_NOFOLLOW
    | linux::O_NOATIME
    | linux::O_CLOEXEC
    | O_PATH
    | O_TMPFILE;
/// Every `RESOLVE_*`.
const RESOLVE: u64 = 0x3f;
/// The bit of `O_TMPFILE` that is its own.
const TMPFILE: u32 = O_TMPFILE & !O_DIRECTORY;

fn open(cur: &CurrentTask, dir: Fd, path: UserStr, how: How) -> SysResult<Fd> {
    if how.flags & (O_DIRECTORY | O_CREAT) == O_DIRECTORY | O_CREAT {
        return Err(Errno::EINVAL.into());
    }
    if how.flags & TMPFILE != 0 && (how.flags & O_TMPFILE != O_TMPFILE || how.flags & linux::O_ACCMODE == 0) {
        return Err(Errno::EINVAL.into());
    }
    let ctx = cur.op_ctx();
    let file = path.with_path(|p| {
        // Below the directory that is the root, even an absolute path starts at it.
        let scoped = how.resolve & u64::from(linux::RESOLVE_IN_ROOT) != 0 && p.first() == Some(&b'/');
        let base = files::base(cur, dir, if scoped { b"." } else { p })?;
        vfs::open(cur.fs(), &ctx, base, p, how)
    })?;
    files::install(cur, file, how.flags)
}

fn open_plain(cur: &CurrentTask, dir: Fd, path: UserStr, flags: u32, mode: u32) -> SysResult<Fd> {
    let mut flags = flags & VALID | O_LARGEFILE;
    if flags & O_PATH != 0 {
        flags &= O_PATH | O_DIRECTORY | linux::O_NOFOLLOW | linux::O_CLOEXEC;
    }
    let mode = if flags & (O_CREAT | TMPFILE) != 0 { mode & 0o7777 } else { 0 };
    open(cur, dir, path, How { flags, mode, resolve: 0 })
}

/// `open(2)`.
pub fn sys_open(cur: &CurrentTask, path: UserStr, flags: u32, mode: u32) -> SysResult<Fd> {
    open_plain(cur, CWD, path, flags, mode)
}

/// `openat(2)`.
pub fn sys_openat(cur: &CurrentTask, dir: Fd, path: UserStr, flags: u32, mode: u32) -> SysResult<Fd> {
    open_plain(cur, dir, path, flags, mode)
}

/// `creat(2)`.
pub fn sys_creat(cur: &CurrentTask, path: UserStr, mode: u32) -> SysResult<Fd> {
    open_plain(cur, CWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode)
}

/// `openat2(2)`.
pub fn sys_openat2(cur: &CurrentTask, dir: Fd, path: UserStr, how: UserPtr<open_how>, size: usize) -> SysResult<Fd> {
    let how = how.read_grown(size, size_of::<open_how>())?;
    let flags = how.flags as u32;
    let both = u64::from(linux::RESOLVE_BENEATH | linux::RESOLVE_IN_ROOT);
    let mode_counts = flags & (O_CREAT | TMPFILE) != 0;
    if how.flags & !u64::from(VALID) != 0
        || how.resolve & !RESOLVE != 0
        || how.resolve & both == both
        || how.mode & !0o7777 != 0
        || how.mode != 0 && !mode_counts
        || flags & O_PATH != 0 && flags & !(O_PATH | O_DIRECTORY | linux::O_NOFOLLOW | linux::O_CLOEXEC) != 0
    {
        return Err(Errno::EINVAL.into());
    }
    if how.resolve & u64::from(linux::RESOLVE_CACHED) != 0 && flags & (O_CREAT | O_TRUNC | TMPFILE) != 0 {
        return Err(Errno::EAGAIN.into());
    }
    open(cur, dir, path, How { flags: flags | O_LARGEFILE, mode: how.mode as u32, resolve: how.resolve })
}

/// `close(2)`.
pub fn sys_close(cur: &CurrentTask, fd: Fd) -> SysResult<()> {
    Ok(cur.files().close(&cur.op_ctx(), fd.0)?)
}

/// `close_range(2)`.
pub fn sys_close_range(cur: &CurrentTask, first: u32, last: u32, flags: u32) -> SysResult<()> {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL.into());
    }
    // A table that others use, too, is left to them.
    if flags & UNSHARE != 0 && Arc::strong_count(cur.files()) > 1 {
        let mut own = cur.own().clone();
        own.files = Arc::new(own.files.fork_copy()?);
        drop(cur.replace_own(Some(own)));
    }
    if flags & CLOEXEC != 0 {
        cur.files().cloexec_range(first, last);
    } else {
        cur.files().close_range(&cur.op_ctx(), first, last);
    }
    Ok(())
}
