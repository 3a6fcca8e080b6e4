//! `open(2)`: from a path to an open file description, in Linux's order of checks.

use super::access;
use super::context::FsContext;
use super::file::{FileOps, OpCtx, OpenFile};
use super::inode::{FileType, NewNode};
use super::marks;
use super::mount::Path;
use super::notify;
use super::resolve::Lookup;
use super::state::WriteAccess;
use super::{landlock, lease};
use crate::abi::linux::{
    IN_MODIFY, IN_OPEN, O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOATIME, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_TMPFILE,
    O_TRUNC,
};
use crate::abi::{Errno, Restart, SysError, SysResult};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

pub use super::dirfile::DirFile;

/// What `open`, `openat` and `openat2` ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// `O_*`.
    pub flags: u32,
    /// Permission bits of a new file, before the umask.
    pub mode: u32,
    /// `RESOLVE_*`.
    pub resolve: u64,
}

/// The file is opened to be run (`FMODE_EXEC`): a flag of [`open_at`] alone.
pub const RUN: u32 = 1 << 27;

/// The bit of `O_TMPFILE` that is its own.
const TMPFILE: u32 = O_TMPFILE & !O_DIRECTORY;

/// Opens `path`, relative to `base` or the working directory.
///
/// # Errors
/// Those of `open(2)`.
pub fn open(fs: &FsContext, ctx: &OpCtx<'_>, base: Option<Path>, path: &[u8], how: How) -> SysResult<Arc<OpenFile>> {
    again_if_stale(|| open_once(fs, ctx, base.clone(), path, how))
}

/// Runs `attempt`, which looks a path up and opens what it finds ([`open_at`]), once more if the name
/// was out of date.
///
/// # Errors
/// What `attempt` says.
pub fn again_if_stale<T>(mut attempt: impl FnMut() -> SysResult<T>) -> SysResult<T> {
    match attempt() {
        Err(SysError::Errno(Errno::ESTALE)) => attempt(),
        other => other,
    }
}

fn open_once(fs: &FsContext, ctx: &OpCtx<'_>, base: Option<Path>, path: &[u8], how: How) -> SysResult<Arc<OpenFile>> {
    let mut flags = how.flags;
    if flags & O_PATH != 0 {
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | crate::abi::linux::O_CLOEXEC;
    }
    let creating = flags & O_CREAT != 0;
    let follow = flags & O_NOFOLLOW == 0 && !(creating && flags & O_EXCL != 0);
    let base_again = if creating { base.clone() } else { None };
    let mut lookup = Lookup::with(fs, ctx, base, how.resolve);
    let found = lookup.find(path, follow).map_err(|e| match e {
        // Whatever it is, it is not made by a name with a slash behind it.
        Errno::ENOTDIR if creating && path.ends_with(b"/") && is_file(fs, ctx, base_again, path) => Errno::EISDIR,
        e => e,
    })?;
    if flags & TMPFILE != 0 {
        let dir = found.target.ok_or(Errno::ENOENT)?;
        return open_tmpfile(ctx, dir, flags, how.mode);
    }
    if creating && found.slash && !found.last.is_empty() {
        return Err(Errno::EISDIR.into());
    }
    let (target, created) = match found.target {
        Some(t) => {
            if creating && flags & O_EXCL != 0 {
                return Err(Errno::EEXIST.into());
            }
            if creating {
                access::check_reuse(ctx.cred, &**found.parent.inode(), &**t.inode())?;
            }
            (t, false)
        }
        None if !creating => return Err(Errno::ENOENT.into()),
        None => {
            if flags & O_DIRECTORY != 0 {
                return Err(Errno::EINVAL.into());
            }
            found.parent.check_writable()?;
            landlock::check(ctx.cred, &found.parent, landlock::making(FileType::Regular))?;
            found.parent.check_owner_known(ctx.cred)?;
            access::check(ctx.cred, &**found.parent.inode(), access::WRITE | access::EXEC)?;
            let mode = access::new_mode(ctx, &**found.parent.inode(), false, how.mode)?;
            match found.parent.dentry.create(ctx, &found.last, NewNode::Regular, mode) {
                Ok(dentry) => {
                    notify::made(&found.parent.dentry, &found.last, &dentry);
                    (Path { mount: found.parent.mount, dentry }, true)
                }
                // Somebody was faster; without O_EXCL that file is as good.
                Err(Errno::EEXIST) if flags & O_EXCL == 0 => {
                    let dentry = found.parent.dentry.child(ctx, &found.last)?;
                    (Path { mount: found.parent.mount, dentry }, false)
                }
                Err(e) => return Err(e.into()),
            }
        }
    };
    if target.inode().file_type() == FileType::Symlink && flags & O_PATH == 0 {
        return Err(Errno::ELOOP.into());
    }
    open_at(ctx, target, flags, created)
}

/// Whether `path` without the slashes behind it leads to something.
fn is_file(fs: &FsContext, ctx: &OpCtx<'_>, base: Option<Path>, path: &[u8]) -> bool {
    let bare = path.iter().rposition(|&b| b != b'/').map_or(path, |last| &path[..=last]);
    Lookup::new(fs, ctx, base).path(bare, false).is_ok()
}

/// Opens the file at a place.
///
/// # Errors
/// Those of `open(2)` once the path is resolved; `ESTALE` if the place's name was out of date: it is
/// forgotten, and another look-up finds what there is now.
pub fn open_at(ctx: &OpCtx<'_>, target: Path, flags: u32, created: bool) -> SysResult<Arc<OpenFile>> {
    let inode = target.inode().clone();
    let kind = inode.file_type();
    let is_dir = kind == FileType::Dir;
    if flags & O_DIRECTORY != 0 && !is_dir {
        return Err(Errno::ENOTDIR.into());
    }
    if flags & O_PATH != 0 {
        return Ok(OpenFile::new(Box::new(PathOnly), inode, target, flags));
    }
    // Nothing of a directory can be read past the cache; it is the last thing that Linux asks of an open file.
    let direct_dir = is_dir && flags & crate::abi::linux::O_DIRECT != 0;
    let writes = matches!(flags & 3, 1..=3) || flags & O_TRUNC != 0;
    if is_dir && (writes || flags & O_CREAT != 0) {
        return Err(Errno::EISDIR.into());
    }
    let truncates = flags & O_TRUNC != 0 && kind == FileType::Regular && !created;
    if truncates {
        target.check_writable()?;
    }
    if matches!(kind, FileType::Char | FileType::Block) && target.mount.has(super::mount::NODEV) {
        return Err(Errno::EACCES.into());
    }
    if !created {
        let mut want = match flags & 3 {
            0 => access::READ,
            1 => access::WRITE,
            _ => access::READ | access::WRITE,
        };
        if flags & O_TRUNC != 0 {
            want |= access::WRITE;
        }
        access::check(ctx.cred, &*inode, want)?;
        if inode.append_only() && (want & access::WRITE != 0 && flags & O_APPEND == 0 || flags & O_TRUNC != 0) {
            return Err(Errno::EPERM.into());
        }
        if flags & O_NOATIME != 0 {
            access::check_owner(ctx.cred, &*inode)?;
        }
    }
    let write = write_access(&target, flags)?;
    if kind == FileType::Socket {
        return Err(Errno::ENXIO.into());
    }
    if kind == FileType::Regular && !created {
        lease::break_leases(&*inode, flags & 3 != 0, flags & O_NONBLOCK != 0)?;
    }
    let runs = flags & RUN != 0;
    let allowed = landlock::check_open(ctx.cred, &target, flags, runs)?;
    if direct_dir {
        return Err(Errno::EINVAL.into());
    }
    if marks::asking() {
        if runs {
            marks::ask(&target, marks::event::OPEN_EXEC_PERM)?;
        }
        marks::ask(&target, marks::event::OPEN_PERM)?;
    }
    // Only a FIFO waits here, for its other side.
    let ops = inode.clone().open_at(ctx, &target, flags & !RUN).map_err(|e| match e {
        Errno::EINTR => SysError::Restart(Restart::Sys),
        Errno::ESTALE if !target.dentry.forget() => Errno::EIO.into(),
        e => e.into(),
    })?;
    notify::file(&target, if runs { IN_OPEN | marks::event::OPEN_EXEC } else { IN_OPEN });
    if truncates {
        let _write = if write.is_some() { None } else { Some(WriteAccess::new(&inode)?) };
        super::attr::set_size(ctx, &*inode, 0)?;
        notify::named(&target.dentry, IN_MODIFY);
    }
    let kept = flags & !(RUN | O_CREAT | O_EXCL | O_TRUNC | crate::abi::linux::O_NOCTTY | crate::abi::linux::O_CLOEXEC);
    let file = OpenFile::writing(ops, inode, target, kept, write);
    if ctx.cred.landlock.is_some() {
        file.allow_only(allowed);
    }
    Ok(file)
}

/// Takes part in the writing of a regular file that is opened to be written to.
///
/// # Errors
/// `ETXTBSY`, `EROFS`.
fn write_access(target: &Path, flags: u32) -> SysResult<Option<WriteAccess>> {
    if !matches!(flags & 3, 1 | 2) || target.inode().file_type() != FileType::Regular {
        return Ok(None);
    }
    let write = WriteAccess::new(target.inode())?;
    target.check_writable()?;
    Ok(Some(write))
}

/// Opens the file at a place without asking for permission or telling anybody of it, then and later (`dentry_open` with
/// `FMODE_NONOTIFY` in Linux).
///
/// # Errors
/// `EROFS`, `ETXTBSY`, what the file says.
pub fn open_quietly(ctx: &OpCtx<'_>, target: Path, flags: u32) -> SysResult<Arc<OpenFile>> {
    let inode = target.inode().clone();
    let write = write_access(&target, flags)?;
    let ops = inode.clone().open_at(ctx, &target, flags)?;
    let file = OpenFile::writing(ops, inode, target, flags, write);
    file.hush();
    Ok(file)
}

/// A file without a name, which `linkat(2)` can give it one unless `O_EXCL` says otherwise.
fn open_tmpfile(ctx: &OpCtx<'_>, dir: Path, flags: u32, mode: u32) -> SysResult<Arc<OpenFile>> {
    if !dir.dentry.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    dir.check_writable()?;
    access::check(ctx.cred, &**dir.inode(), access::WRITE | access::EXEC)?;
    let mode = access::new_mode(ctx, &**dir.inode(), false, mode)?;
    let dentry = dir.dentry.nameless(ctx, mode)?;
    dentry.inode.state().get(&*dentry.inode)?.set_linkable(flags & O_EXCL == 0);
    let file = open_at(ctx, Path { mount: dir.mount, dentry }, flags & !(TMPFILE | O_DIRECTORY), true)?;
    // F_GETFL tells how it was opened.
    file.set_flags(file.flags() | O_TMPFILE);
    Ok(file)
}

/// What O_PATH opens: a place, no file.
struct PathOnly;

impl FileOps for PathOnly {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
