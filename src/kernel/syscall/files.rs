//! What the file families share: from descriptor numbers and user strings to places and files.

use super::Fd;
use crate::abi::linux::{self, AT_FDCWD, SIGPIPE, SIGXFSZ};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::UserStr;
use crate::signal::info;
use crate::task::{CurrentTask, FileRef, limits};
use crate::vfs::names::At;
use crate::vfs::{Lookup, OpCtx, OpenFile, Path};
use alloc::sync::Arc;

/// "Here": the directory descriptor that means the working directory.
pub const CWD: Fd = Fd(AT_FDCWD);

/// `RLIMIT_NOFILE`.
pub fn nofile(cur: &CurrentTask) -> u64 {
    cur.group.limits.get(limits::NOFILE).0
}

/// An open file for input and output.
///
/// # Errors
/// `EBADF`.
pub fn file(cur: &CurrentTask, fd: Fd) -> Result<Arc<OpenFile>> {
    cur.files().get(fd.0)
}

/// An open file for the length of a call that neither closes nor passes it on.
///
/// # Errors
/// `EBADF`.
#[inline(always)]
pub fn in_use(cur: &CurrentTask, fd: Fd) -> Result<FileRef<'_>> {
    cur.file(fd.0)
}

/// Gives a file the lowest free number.
///
/// # Errors
/// `EMFILE`, `ENOMEM`.
pub fn install(cur: &CurrentTask, file: Arc<OpenFile>, flags: u32) -> SysResult<Fd> {
    crate::arena::charge(crate::arena::Object::File)?;
    let fd = cur.files().install(file, flags & linux::O_CLOEXEC != 0, 0, nofile(cur))?;
    Ok(Fd(fd))
}

/// Where a path that was given with the directory descriptor `dir` starts.
///
/// # Errors
/// `EBADF`.
pub fn base(cur: &CurrentTask, dir: Fd, path: &[u8]) -> Result<Option<Path>> {
    if path.first() == Some(&b'/') || dir == CWD {
        return Ok(None);
    }
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    Ok(Some(cur.files().get_any(dir.0)?.path().clone()))
}

/// A path as the calls that make, remove and move names take it.
///
/// # Errors
/// `EBADF`.
pub fn at<'a>(cur: &CurrentTask, dir: Fd, path: &'a [u8]) -> Result<At<'a>> {
    Ok(At { base: base(cur, dir, path)?, path })
}

/// The place that a path names. `flags`: `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH` count.
///
/// # Errors
/// Those of path resolution.
pub fn place(cur: &CurrentTask, ctx: &OpCtx<'_>, dir: Fd, path: UserStr, flags: u32) -> Result<Path> {
    path.with_path(|p| {
        if p.is_empty() && flags & linux::AT_EMPTY_PATH != 0 {
            return itself(cur, dir);
        }
        let base = base(cur, dir, p)?;
        Lookup::new(cur.fs(), ctx, base).path(p, flags & linux::AT_SYMLINK_NOFOLLOW == 0)
    })
}

/// As [`place`], for the calls to which no path at all is an empty one (`getname_maybe_null`).
///
/// # Errors
/// Those of path resolution.
pub fn place_or_itself(cur: &CurrentTask, ctx: &OpCtx<'_>, dir: Fd, path: UserStr, flags: u32) -> Result<Path> {
    if path.0 == 0 && flags & linux::AT_EMPTY_PATH != 0 {
        return itself(cur, dir);
    }
    place(cur, ctx, dir, path, flags)
}

/// What a descriptor itself stands for.
pub fn itself(cur: &CurrentTask, fd: Fd) -> Result<Path> {
    if fd == CWD { Ok(cur.fs().cwd()) } else { Ok(cur.files().get_any(fd.0)?.path().clone()) }
}

/// Tells the task that it wrote to a pipe or socket that nobody reads.
pub fn broken_pipe(cur: &CurrentTask) {
    let _ = cur.send(&info::from_user(SIGPIPE, info::SI_USER, cur.group.pid, cur.cred().uid));
}

/// Tells the task that it wrote past its file size limit.
pub fn too_big(cur: &CurrentTask) {
    let _ = cur.send(&info::from_user(SIGXFSZ, info::SI_USER, cur.group.pid, cur.cred().uid));
}
