//! Whether a task's Landlock domain lets it do something to a place (`security/landlock/fs.c` in Linux).
//!
//! A right is given for a file or for all below a directory, so a check goes from the place up to the root of the tree,
//! through mounts. Tasks without a domain pay one load.

use super::dentry::Dentry;
use super::inode::FileType;
use super::mount::Path;
use crate::abi::linux::{O_PATH, O_TRUNC};
use crate::abi::{Errno, Result};
use crate::cred::Cred;
pub use crate::cred::landlock::fs;
use crate::cred::landlock::{Allowed, Domain};
use alloc::sync::Arc;

/// What each layer allows at `path`, by rules for it and all above it.
fn allowed_at(domain: &Domain, path: &Path) -> Allowed {
    let mut allowed = domain.unhandled();
    let mut at = path.clone();
    loop {
        if let Ok(id) = at.inode().identity() {
            domain.add(id, &mut allowed);
        }
        if Arc::ptr_eq(&at.dentry, &at.mount.root) {
            match at.mount.at() {
                // The mount point is covered: what rules say of it counts for what lies on it.
                Some(place) => at = place,
                None => return allowed,
            }
        } else {
            match at.dentry.parent() {
                Some(dentry) => at.dentry = dentry,
                None => return allowed,
            }
        }
    }
}

/// Whether it lies in no tree that anybody can mount: pipes, sockets, memory files.
fn is_internal(path: &Path) -> bool {
    !path.mount.is_mountable()
}

fn all(allowed: &Allowed, wanted: u64) -> bool {
    allowed.iter().all(|a| wanted & !a == 0)
}

/// Whether `wanted` (rights of [`fs`]) is allowed at `path`.
///
/// # Errors
/// `EACCES`.
#[inline]
pub fn check(cred: &Cred, path: &Path, wanted: u64) -> Result {
    match &cred.landlock {
        None => Ok(()),
        Some(domain) => check_in(domain, path, wanted),
    }
}

#[cold]
fn check_in(domain: &Domain, path: &Path, wanted: u64) -> Result {
    if wanted & domain.handled_fs() == 0 || is_internal(path) || all(&allowed_at(domain, path), wanted) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

/// Whether the file at `path` may be opened with these flags; `runs`: to be run. What of [`fs::TRUNCATE`] and
/// [`fs::IOCTL_DEV`] the open file may be used for.
///
/// # Errors
/// `EACCES`.
#[inline]
pub fn check_open(cred: &Cred, path: &Path, flags: u32, runs: bool) -> Result<u64> {
    const LATER: u64 = fs::TRUNCATE | fs::IOCTL_DEV;
    match &cred.landlock {
        None => Ok(LATER),
        Some(_) if flags & O_PATH != 0 => Ok(LATER),
        Some(domain) => open_in(domain, path, flags, runs).map(|a| a & LATER),
    }
}

#[cold]
fn open_in(domain: &Domain, path: &Path, flags: u32, runs: bool) -> Result<u64> {
    if is_internal(path) {
        return Ok(fs::ALL);
    }
    let mut wanted = if runs { fs::EXECUTE } else { 0 };
    if matches!(flags & 3, 0 | 2) {
        wanted |= if path.dentry.is_dir() { fs::READ_DIR } else { fs::READ_FILE };
    }
    if matches!(flags & 3, 1 | 2) {
        wanted |= fs::WRITE_FILE;
    }
    let allowed = allowed_at(domain, path).iter().fold(!0, |all, a| all & a);
    let truncates = flags & O_TRUNC != 0 && path.inode().file_type() == FileType::Regular;
    if wanted & !allowed != 0 || truncates && allowed & fs::TRUNCATE == 0 {
        return Err(Errno::EACCES);
    }
    Ok(allowed)
}

/// The right that making a file of this kind takes.
pub fn making(kind: FileType) -> u64 {
    match kind {
        FileType::Symlink => fs::MAKE_SYM,
        FileType::Dir => fs::MAKE_DIR,
        FileType::Char => fs::MAKE_CHAR,
        FileType::Block => fs::MAKE_BLOCK,
        FileType::Fifo => fs::MAKE_FIFO,
        FileType::Socket => fs::MAKE_SOCK,
        FileType::Regular | FileType::Anonymous => fs::MAKE_REG,
    }
}

fn removing(dentry: &Dentry) -> u64 {
    if dentry.is_dir() { fs::REMOVE_DIR } else { fs::REMOVE_FILE }
}

/// A file that is to get another name: by `link(2)` or `rename(2)`.
pub struct Referral<'a> {
    /// The directory where it is.
    pub from: &'a Path,
    /// It.
    pub file: &'a Path,
    /// The directory of the new name.
    pub to: &'a Path,
    /// What has that name.
    pub target: Option<&'a Path>,
    /// The old name goes.
    pub moves: bool,
    /// Both swap.
    pub exchange: bool,
}

/// Whether it may (`current_check_refer_path`).
///
/// # Errors
/// `EACCES`; `EXDEV` where the file would come to a directory in which more may be done to it, or where one of the two
/// directories gives no right to that.
pub fn check_refer(cred: &Cred, r: &Referral<'_>) -> Result {
    match &cred.landlock {
        None => Ok(()),
        Some(domain) => refer_in(domain, r),
    }
}

#[cold]
fn refer_in(domain: &Domain, r: &Referral<'_>) -> Result {
    let mut at_old = if r.moves { removing(&r.file.dentry) } else { 0 };
    let mut at_new = making(r.file.inode().file_type());
    if let Some(target) = r.target {
        if r.moves {
            at_new |= removing(&target.dentry);
        }
        if r.exchange {
            at_old |= making(target.inode().file_type());
        }
    }
    if Arc::ptr_eq(&r.from.dentry, &r.to.dentry) {
        return check_in(domain, r.to, at_old | at_new);
    }
    let (old, new) = (allowed_at(domain, r.from), allowed_at(domain, r.to));
    if !all(&old, at_old) || !all(&new, at_new) {
        return Err(Errno::EACCES);
    }
    let no_more = |from: &Allowed, to: &Allowed, moved: &Path| {
        let counts = if moved.dentry.is_dir() { fs::ALL } else { fs::OF_FILES };
        let mut from = from.clone();
        if let Ok(id) = moved.inode().identity() {
            domain.add(id, &mut from);
        }
        from.iter().zip(to).all(|(from, to)| to & !from & counts & !fs::REFER == 0)
    };
    let swapped = r.target.filter(|_| r.exchange);
    let fits = all(&old, fs::REFER)
        && all(&new, fs::REFER)
        && no_more(&old, &new, r.file)
        && swapped.is_none_or(|target| no_more(&new, &old, target));
    if fits { Ok(()) } else { Err(Errno::EXDEV) }
}

/// Whether the task may change the tree of mounts.
///
/// # Errors
/// `EPERM`.
pub fn check_mounts(cred: &Cred) -> Result {
    match &cred.landlock {
        Some(domain) if domain.handled_fs() != 0 => Err(Errno::EPERM),
        _ => Ok(()),
    }
}
