//! Making, removing and moving names, in Linux's order of checks (`fs/namei.c` is what programs see).

use super::access::{self, EXEC, WRITE};
use super::context::FsContext;
use super::file::OpCtx;
use super::inode::{FileType, NewNode};
use super::landlock;
use super::marks::Object;
use super::mount::Path;
use super::notify;
use super::resolve::{Found, Lookup};
use crate::abi::linux::{IN_DELETE, IN_MOVED_FROM, IN_MOVED_TO, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT};
use crate::abi::{Errno, Result};
use crate::cred::cap;
use alloc::sync::Arc;

/// What a path ends in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Normal,
    Root,
    Dot,
    DotDot,
}

fn last_of(path: &[u8]) -> Last {
    let end = path.iter().rposition(|&b| b != b'/').map_or(0, |i| i + 1);
    let name = path[..end].rsplit(|&b| b == b'/').next().unwrap_or(b"");
    match name {
        b"" => Last::Root,
        b"." => Last::Dot,
        b".." => Last::DotDot,
        _ => Last::Normal,
    }
}

/// A path relative to a directory (or the working directory), as the `*at` calls name files.
#[derive(Clone)]
pub struct At<'a> {
    /// Where a relative path starts instead of the working directory.
    pub base: Option<Path>,
    /// The path.
    pub path: &'a [u8],
}

impl At<'_> {
    /// Walks to the directory of the last name, and looks that name up.
    ///
    /// # Errors
    /// Those of a walk.
    pub fn parent(self, fs: &FsContext, ctx: &OpCtx<'_>) -> Result<Found> {
        Lookup::new(fs, ctx, self.base).parent(self.path)
    }
}

/// Makes a node that is no regular open file: `mkdir`, `mknod`, `symlink`, `bind` of a socket.
///
/// # Errors
/// Those of `mkdir(2)`, `mknod(2)`, `symlink(2)`.
pub fn make(fs: &FsContext, ctx: &OpCtx<'_>, at: At<'_>, node: NewNode<'_>, mode: u32) -> Result<Path> {
    if last_of(at.path) != Last::Normal {
        Lookup::new(fs, ctx, at.base).path(at.path, true)?;
        return Err(Errno::EEXIST);
    }
    let found = at.parent(fs, ctx)?;
    if found.target.is_some() {
        return Err(Errno::EEXIST);
    }
    if found.slash && !matches!(node, NewNode::Dir) {
        return Err(Errno::ENOENT);
    }
    found.parent.check_writable()?;
    let kind = match node {
        NewNode::Regular => FileType::Regular,
        NewNode::Dir => FileType::Dir,
        NewNode::Symlink(_) => FileType::Symlink,
        NewNode::Node(kind, _) => kind,
    };
    landlock::check(ctx.cred, &found.parent, landlock::making(kind))?;
    may_create(ctx, &found.parent)?;
    // Anybody may make a whiteout, which leads to no device.
    let device = match node {
        NewNode::Node(FileType::Char, number) => number != 0,
        NewNode::Node(FileType::Block, _) => true,
        _ => false,
    };
    if device && !ctx.cred.capable(cap::MKNOD) {
        return Err(Errno::EPERM);
    }
    let mode = match node {
        NewNode::Symlink(_) => 0o777,
        _ => access::new_mode(ctx, &**found.parent.inode(), matches!(node, NewNode::Dir), mode)?,
    };
    let dentry = found.parent.dentry.create(ctx, &found.last, node, mode)?;
    notify::made(&found.parent.dentry, &found.last, &dentry);
    Ok(Path { mount: found.parent.mount, dentry })
}

/// A further name for the file at `from`.
///
/// # Errors
/// Those of `link(2)`.
pub fn link(fs: &FsContext, ctx: &OpCtx<'_>, from: &Path, to: At<'_>) -> Result {
    if last_of(to.path) != Last::Normal {
        return Err(if to.path.is_empty() { Errno::ENOENT } else { Errno::EEXIST });
    }
    let found = to.parent(fs, ctx)?;
    if found.target.is_some() {
        return Err(Errno::EEXIST);
    }
    if found.slash {
        return Err(Errno::ENOENT);
    }
    found.parent.check_writable()?;
    if !Arc::ptr_eq(&from.mount, &found.parent.mount) {
        return Err(Errno::EXDEV);
    }
    may_hard_link(ctx, from)?;
    if let Some(parent) = from.dentry.parent() {
        let from_dir = Path { mount: from.mount.clone(), dentry: parent };
        refer(ctx, &from_dir, from, &found.parent, None, (false, false))?;
    }
    may_create(ctx, &found.parent)?;
    if from.inode().append_only() || from.inode().immutable() {
        return Err(Errno::EPERM);
    }
    if from.dentry.is_dir() {
        return Err(Errno::EPERM);
    }
    let inode = &**from.inode();
    if inode.stat()?.nlink == 0 && !inode.state().known(inode).is_some_and(|s| s.linkable()) {
        return Err(Errno::ENOENT);
    }
    found.parent.dentry.link(ctx, &found.last, from.inode())?;
    notify::linked(&from.dentry);
    notify::made(&found.parent.dentry, &found.last, &from.dentry);
    Ok(())
}

/// Whether Landlock lets `file` get a name in `to` ([`landlock::check_refer`]); `(moves, exchange)`.
fn refer(
    ctx: &OpCtx<'_>,
    from: &Path,
    file: &Path,
    to: &Path,
    target: Option<&Path>,
    (moves, exchange): (bool, bool),
) -> Result {
    landlock::check_refer(ctx.cred, &landlock::Referral { from, file, to, target, moves, exchange })
}

/// `protected_hardlinks` (`proc(5)`): only of files that the caller owns or could write to.
fn may_hard_link(ctx: &OpCtx<'_>, from: &Path) -> Result {
    let inode = &**from.inode();
    let (mode, uid, _) = inode.permissions()?;
    if access::PROTECTED.hardlinks.get() == 0 || ctx.cred.owns(uid) {
        return Ok(());
    }
    let special = mode & 0o4000 != 0 || mode & 0o2010 == 0o2010;
    if inode.file_type() != FileType::Regular || special {
        return Err(Errno::EPERM);
    }
    access::check(ctx.cred, inode, access::READ | WRITE).map_err(|_| Errno::EPERM)
}

/// Removes a name; `dir`: of a directory.
///
/// # Errors
/// Those of `unlink(2)` and `rmdir(2)`.
pub fn remove(fs: &FsContext, ctx: &OpCtx<'_>, at: At<'_>, dir: bool) -> Result {
    settled(|| remove_found(fs, ctx, at.clone(), dir))
}

/// Runs `attempt`, which looks names up and then changes them, again as long as others change them in
/// between: then it has to do with what they lead to now.
fn settled(mut attempt: impl FnMut() -> Result) -> Result {
    // Each time somebody else got ahead; a host that says so for ever is believed.
    const TRIES: u32 = 100;
    for _ in 1..TRIES {
        match attempt() {
            Err(Errno::ESTALE) => {}
            other => return other,
        }
    }
    attempt()
}

fn remove_found(fs: &FsContext, ctx: &OpCtx<'_>, at: At<'_>, dir: bool) -> Result {
    match (last_of(at.path), dir) {
        (Last::Normal, _) => {}
        (last, _) => {
            Lookup::new(fs, ctx, at.base).path(at.path, true)?;
            return Err(match last {
                _ if !dir => Errno::EISDIR,
                Last::Dot => Errno::EINVAL,
                Last::DotDot => Errno::ENOTEMPTY,
                _ => Errno::EBUSY,
            });
        }
    }
    let found = at.parent(fs, ctx)?;
    found.parent.check_writable()?;
    let victim = found.target.ok_or(Errno::ENOENT)?;
    if found.slash && !dir {
        return Err(if victim.dentry.is_dir() { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    let right = if dir { landlock::fs::REMOVE_DIR } else { landlock::fs::REMOVE_FILE };
    landlock::check(ctx.cred, &found.parent, right)?;
    may_delete(ctx, &found.parent, &victim, Some(dir))?;
    check_not_mounted(&found.parent, &victim)?;
    found.parent.dentry.unlink(ctx, &victim.dentry, dir)?;
    notify::linked(&victim.dentry);
    notify::unlinked(&victim.dentry);
    if notify::active()
        && let Ok(object) = Object::of(&victim.dentry)
    {
        // A file that nobody uses ends before its directory is told.
        let object = Object { dentry: None, ..object };
        drop(victim);
        notify::name(&found.parent.dentry, &found.last, object, IN_DELETE, 0);
    }
    Ok(())
}

/// Moves a name.
///
/// # Errors
/// Those of `renameat2(2)`.
pub fn rename(fs: &FsContext, ctx: &OpCtx<'_>, from: At<'_>, to: At<'_>, flags: u32) -> Result {
    settled(|| rename_found(fs, ctx, from.clone(), to.clone(), flags))
}

/// Whether `renameat2(2)` has these flags.
///
/// # Errors
/// `EINVAL`.
pub fn check_rename_flags(flags: u32) -> Result {
    let exchange = flags & RENAME_EXCHANGE != 0;
    if flags & !(RENAME_EXCHANGE | RENAME_NOREPLACE | RENAME_WHITEOUT) != 0
        || exchange && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT) != 0
    {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn rename_found(fs: &FsContext, ctx: &OpCtx<'_>, from: At<'_>, to: At<'_>, flags: u32) -> Result {
    let exchange = flags & RENAME_EXCHANGE != 0;
    let no_replace = flags & RENAME_NOREPLACE != 0;
    check_rename_flags(flags)?;
    let (from_last, to_last) = (last_of(from.path), last_of(to.path));
    let old = from.parent(fs, ctx)?;
    let new = to.parent(fs, ctx)?;
    if !Arc::ptr_eq(&old.parent.mount, &new.parent.mount) {
        return Err(Errno::EXDEV);
    }
    if from_last != Last::Normal {
        return Err(Errno::EBUSY);
    }
    if to_last != Last::Normal {
        return Err(if no_replace { Errno::EEXIST } else { Errno::EBUSY });
    }
    old.parent.check_writable()?;
    let source = old.target.ok_or(Errno::ENOENT)?;
    if new.target.is_some() && no_replace {
        return Err(Errno::EEXIST);
    }
    if new.target.is_none() && exchange {
        return Err(Errno::ENOENT);
    }
    let target_dir = new.target.as_ref().is_some_and(|t| t.dentry.is_dir());
    if !source.dentry.is_dir() && (old.slash || !exchange && new.slash) || exchange && !target_dir && new.slash {
        return Err(Errno::ENOTDIR);
    }
    if source.dentry.is_dir() && new.parent.dentry.is_below(&source.dentry) {
        return Err(Errno::EINVAL);
    }
    if let Some(t) = &new.target
        && t.dentry.is_dir()
        && old.parent.dentry.is_below(&t.dentry)
    {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    refer(ctx, &old.parent, &source, &new.parent, new.target.as_ref(), (true, exchange))?;
    if new.target.as_ref().is_some_and(|t| same_file(&source, t)) {
        return Ok(());
    }
    let source_dir = source.dentry.is_dir();
    may_delete(ctx, &old.parent, &source, None)?;
    match &new.target {
        None => may_create(ctx, &new.parent)?,
        Some(t) => may_delete(ctx, &new.parent, t, (!exchange).then_some(source_dir))?,
    }
    if !Arc::ptr_eq(&old.parent.dentry, &new.parent.dentry) {
        // `..` of a moved directory is written.
        if source_dir {
            access::check(ctx.cred, &**source.inode(), WRITE)?;
        }
        if let Some(t) = new.target.as_ref().filter(|_| exchange && target_dir) {
            access::check(ctx.cred, &**t.inode(), WRITE)?;
        }
    }
    check_not_mounted(&old.parent, &source)?;
    new.target.as_ref().map_or(Ok(()), |t| check_not_mounted(&new.parent, t))?;
    let target = new.target.as_ref().map(|t| &t.dentry);
    old.parent.dentry.rename(ctx, &source.dentry, &new.parent.dentry, &new.last, target, flags)?;
    if notify::active() {
        let replaced = new.target.as_ref().filter(|_| !exchange);
        tell_move(&old.parent, &old.last, &new.parent, &new.last, &source, replaced);
        if let Some(t) = new.target.as_ref().filter(|_| exchange) {
            tell_move(&new.parent, &new.last, &old.parent, &old.last, t, None);
        }
    }
    Ok(())
}

/// Whether two names lead to one file, of which there can be several inodes where none are kept.
fn same_file(a: &Path, b: &Path) -> bool {
    let (a, b) = (a.inode(), b.inode());
    Arc::ptr_eq(a, b)
        || a.has_identity() && b.has_identity() && matches!((a.identity(), b.identity()), (Ok(a), Ok(b)) if a == b)
}

/// In the order of `fsnotify_move` in Linux.
fn tell_move(from: &Path, name: &[u8], to: &Path, new_name: &[u8], moved: &Path, replaced: Option<&Path>) {
    let (cookie, Ok(object)) = (notify::cookie(), Object::of(&moved.dentry)) else { return };
    notify::renamed((&from.dentry, name), (&to.dentry, new_name), object);
    notify::name(&from.dentry, name, object, IN_MOVED_FROM, cookie);
    notify::name(&to.dentry, new_name, object, IN_MOVED_TO, cookie);
    if let Some(replaced) = replaced {
        notify::linked(&replaced.dentry);
        notify::unlinked(&replaced.dentry);
    }
    notify::moved(object);
}

fn may_create(ctx: &OpCtx<'_>, dir: &Path) -> Result {
    if dir.dentry.unlinked() {
        return Err(Errno::ENOENT);
    }
    dir.check_owner_known(ctx.cred)?;
    access::check(ctx.cred, &**dir.inode(), WRITE | EXEC)
}

/// `want_dir`: what the caller expects the victim to be.
fn may_delete(ctx: &OpCtx<'_>, dir: &Path, victim: &Path, want_dir: Option<bool>) -> Result {
    access::check(ctx.cred, &**dir.inode(), WRITE | EXEC)?;
    if dir.inode().append_only() {
        return Err(Errno::EPERM);
    }
    access::check_sticky(ctx.cred, &**dir.inode(), &**victim.inode())?;
    if victim.inode().append_only() || victim.inode().immutable() {
        return Err(Errno::EPERM);
    }
    match want_dir {
        Some(true) if !victim.dentry.is_dir() => return Err(Errno::ENOTDIR),
        Some(false) if victim.dentry.is_dir() => return Err(Errno::EISDIR),
        _ => {}
    }
    Ok(())
}

/// What is mounted on a name is not in this directory.
fn check_not_mounted(dir: &Path, victim: &Path) -> Result {
    let mounted = !Arc::ptr_eq(&dir.mount, &victim.mount) || Arc::ptr_eq(&victim.dentry, &victim.mount.root);
    if mounted { Err(Errno::EBUSY) } else { Ok(()) }
}
