//! Path resolution (`path_resolution(7)`, `openat2(2)`).

use super::access;
use super::context::FsContext;
use super::file::OpCtx;
use super::inode::FileType;
use super::mount::Path;
use crate::abi::linux::{
    RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV,
};
use crate::abi::{Errno, Result};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering::SeqCst;

/// Most symbolic links that one resolution follows.
const MAX_LINKS: u32 = 40;
/// Longest path, bytes.
const PATH_MAX: usize = 4095;
/// Longest name.
pub const NAME_MAX: usize = 255;

/// What stands last in a path.
pub type LastName = ArrayVec<u8, NAME_MAX>;

/// The outcome of a look-up that stops in front of the last name.
pub struct Found {
    /// The directory of the last name.
    pub parent: Path,
    /// The last name; empty when the path ends in `.`, `..` or is `/`.
    pub last: LastName,
    /// What the whole path leads to; `None` if the last name does not exist.
    pub target: Option<Path>,
    /// The path ended in a slash: only a directory will do.
    pub slash: bool,
}

/// How a path is resolved.
pub struct Lookup<'a> {
    fs: &'a FsContext,
    /// Where relative paths start; the working directory unless given.
    base: Option<Path>,
    /// Where absolute paths start and `..` ends; the process's root unless given.
    root: Option<Path>,
    ctx: &'a OpCtx<'a>,
    resolve: u64,
    links: u32,
    /// The last name is what the caller wants to make, remove or move: links in it are not followed,
    /// not even with a slash behind it.
    parent: bool,
}

impl<'a> Lookup<'a> {
    /// A resolution for a process. `base` is where relative paths start instead of the working directory.
    pub fn new(fs: &'a FsContext, ctx: &'a OpCtx<'a>, base: Option<Path>) -> Lookup<'a> {
        Lookup::with(fs, ctx, base, 0)
    }

    /// As [`Lookup::new`], with `openat2`'s `RESOLVE_*` flags.
    pub fn with(fs: &'a FsContext, ctx: &'a OpCtx<'a>, mut base: Option<Path>, resolve: u64) -> Lookup<'a> {
        let mut root = None;
        if resolve & u64::from(RESOLVE_IN_ROOT | RESOLVE_BENEATH) != 0 {
            root = Some(base.get_or_insert_with(|| fs.cwd()).clone());
        }
        Lookup { fs, base, root, ctx, resolve, links: 0, parent: false }
    }

    fn root(&self) -> Path {
        self.root.clone().unwrap_or_else(|| self.fs.root())
    }

    fn has(&self, flag: u32) -> bool {
        self.resolve & u64::from(flag) != 0
    }

    /// The place that `path` leads to.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`, `EXDEV`.
    pub fn path(&mut self, path: &[u8], follow: bool) -> Result<Path> {
        self.find(path, follow)?.target.ok_or(Errno::ENOENT)
    }

    /// The place of the last name, which need not exist.
    ///
    /// # Errors
    /// As [`Lookup::path`], `ENOENT` only for directories on the way.
    pub fn find(&mut self, path: &[u8], follow: bool) -> Result<Found> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() > PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.has(RESOLVE_BENEATH) && path[0] == b'/' {
            return Err(Errno::EXDEV);
        }
        let start = match path[0] {
            b'/' => self.root(),
            _ => self.base.clone().unwrap_or_else(|| self.fs.cwd()),
        };
        self.walk(start, path, follow)
    }

    /// The directory of the last name, for calls that make, remove or move that name.
    ///
    /// # Errors
    /// As [`Lookup::find`].
    pub fn parent(&mut self, path: &[u8]) -> Result<Found> {
        self.parent = true;
        self.find(path, false)
    }

    /// Walks `path` from `at`, which is the root if the path says so.
    fn walk(&mut self, mut at: Path, path: &[u8], follow: bool) -> Result<Found> {
        let slash = path.last() == Some(&b'/');
        let mut rest = path;
        loop {
            let from = rest.iter().position(|&b| b != b'/').unwrap_or(rest.len());
            rest = &rest[from..];
            if rest.is_empty() {
                // "/", or nothing after the last step.
                return Ok(Found { parent: at.clone(), last: LastName::new(), target: Some(at), slash });
            }
            let len = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
            let (name, tail) = rest.split_at(len);
            let last = tail.iter().all(|&b| b == b'/');
            if !at.dentry.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            access::check(self.ctx.cred, &**at.inode(), access::EXEC)?;
            match name {
                b"." => {}
                b".." => {
                    let root = self.root();
                    if self.has(RESOLVE_BENEATH) && at.same(&root) {
                        return Err(Errno::EXDEV);
                    }
                    let up = at.up(&root);
                    self.check_xdev(&at, &up)?;
                    at = up;
                }
                _ if last => return self.last(at, name, follow || slash && !self.parent, slash),
                _ => at = self.step(at, name)?,
            }
            rest = tail;
        }
    }

    fn check_xdev(&self, from: &Path, to: &Path) -> Result {
        if self.has(RESOLVE_NO_XDEV) && !Arc::ptr_eq(&from.mount, &to.mount) { Err(Errno::EXDEV) } else { Ok(()) }
    }

    fn child(&self, at: &Path, name: &[u8]) -> Result<Path> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let dentry = at.dentry.child(self.ctx, name)?;
        let to = Path { mount: at.mount.clone(), dentry }.descend();
        self.check_xdev(at, &to)?;
        Ok(to)
    }

    /// One step into the middle of a path: links are followed.
    fn step(&mut self, at: Path, name: &[u8]) -> Result<Path> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let dentry = at.dentry.child(self.ctx, name)?;
        if dentry.inode.file_type() != FileType::Symlink && dentry.mounts.load(SeqCst) == 0 {
            return Ok(Path { mount: at.mount, dentry });
        }
        let to = Path { mount: at.mount.clone(), dentry }.descend();
        self.check_xdev(&at, &to)?;
        if to.inode().file_type() == FileType::Symlink {
            return self.follow(at, &to)?.target.ok_or(Errno::ENOENT);
        }
        Ok(to)
    }

    fn last(&mut self, at: Path, name: &[u8], follow: bool, slash: bool) -> Result<Found> {
        match self.child(&at, name) {
            Ok(to) if follow && to.inode().file_type() == FileType::Symlink => {
                let mut found = self.follow(at, &to)?;
                found.slash |= slash;
                check_slash(found)
            }
            Ok(to) => {
                let last = LastName::try_from(name).map_err(|_| Errno::ENAMETOOLONG)?;
                let found = Found { parent: at, last, target: Some(to), slash };
                if self.parent { Ok(found) } else { check_slash(found) }
            }
            Err(Errno::ENOENT) => {
                let last = LastName::try_from(name).map_err(|_| Errno::ENAMETOOLONG)?;
                Ok(Found { parent: at, last, target: None, slash })
            }
            Err(e) => Err(e),
        }
    }

    /// Follows the symbolic link `link`, which lies in the directory `at`.
    fn follow(&mut self, at: Path, link: &Path) -> Result<Found> {
        self.links += 1;
        if self.links > MAX_LINKS || self.has(RESOLVE_NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        if let Some(target) = link.inode().magic_link(self.ctx) {
            if self.has(RESOLVE_NO_MAGICLINKS) {
                return Err(Errno::ELOOP);
            }
            if self.has(RESOLVE_BENEATH | RESOLVE_IN_ROOT) {
                return Err(Errno::EXDEV);
            }
            let target = target?;
            return Ok(Found { parent: at, last: LastName::new(), target: Some(target), slash: false });
        }
        let text = link.inode().read_link(self.ctx)?;
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        if self.has(RESOLVE_BENEATH) && text[0] == b'/' {
            return Err(Errno::EXDEV);
        }
        let parent = core::mem::replace(&mut self.parent, false);
        let start = if text[0] == b'/' { self.root() } else { at };
        let found = self.walk(start, &text, true);
        self.parent = parent;
        found
    }
}

fn check_slash(found: Found) -> Result<Found> {
    match &found.target {
        Some(t) if found.slash && !t.dentry.is_dir() => Err(Errno::ENOTDIR),
        _ => Ok(found),
    }
}
