//! Path resolution (`path_resolution(7)`, `openat2(2)`).

use super::access;
use super::context::FsContext;
use super::dentry::Dentry;
use super::file::OpCtx;
use super::inode::FileType;
use super::mount::{Mount, NOSYMFOLLOW, Path};
use crate::abi::linux::{
    RESOLVE_BENEATH, RESOLVE_CACHED, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV,
};
use crate::abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering::SeqCst;

/// Most symbolic links that one resolution follows.
const MAX_LINKS: u32 = 40;
/// Longest path, bytes.
pub const PATH_MAX: usize = 4095;
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
        match self.walk(path, follow, None)? {
            End { at, target: Target::Step(step), .. } => Ok(step.end_at(at)),
            End { at, target: Target::Itself, .. } => Ok(at),
            End { target: Target::Nothing, .. } => Err(Errno::ENOENT),
        }
    }

    /// The place of the last name, which need not exist.
    ///
    /// # Errors
    /// As [`Lookup::path`], `ENOENT` only for directories on the way.
    pub fn find(&mut self, path: &[u8], follow: bool) -> Result<Found> {
        // The name stays where it is copied to first.
        let mut last = LastName::new();
        let End { at, target, slash } = self.walk(path, follow, Some(&mut last))?;
        let target = match target {
            Target::Step(step) => Some(step.from(&at)),
            Target::Itself => Some(at.clone()),
            Target::Nothing => None,
        };
        Ok(Found { parent: at, last, target, slash })
    }

    fn start(&self, path: &[u8]) -> Result<Path> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() > PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.has(RESOLVE_BENEATH) && path[0] == b'/' {
            return Err(Errno::EXDEV);
        }
        Ok(match path[0] {
            b'/' => self.root(),
            _ => self.base.clone().unwrap_or_else(|| self.fs.cwd()),
        })
    }

    /// The directory of the last name, for calls that make, remove or move that name.
    ///
    /// # Errors
    /// As [`Lookup::find`].
    pub fn parent(&mut self, path: &[u8]) -> Result<Found> {
        self.parent = true;
        self.find(path, false)
    }

    /// Walks `path`. The last name goes to `out`.
    fn walk(&mut self, path: &[u8], follow: bool, out: Option<&mut LastName>) -> Result<End> {
        let mut at = self.start(path)?;
        let mut rest = Rest { path, links: Vec::new(), len: 0 };
        let mut slash = path.last() == Some(&b'/') && path.iter().all(|&b| b == b'/');
        while rest.settle() {
            let name = rest.name();
            if !at.dentry.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            access::check(self.ctx.cred, &**at.inode(), access::EXEC)?;
            let last = rest.last();
            slash |= last == Some(Ending::Slash);
            if name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            if name == b"." {
                rest.advance();
                continue;
            }
            if name == b".." {
                at = self.up(&at)?;
                rest.advance();
                continue;
            }
            let step = match self.child(&at, name) {
                Err(Errno::ENOENT) if last.is_some() => {
                    set_last(out, name)?;
                    return Ok(End { at, target: Target::Nothing, slash });
                }
                other => other?,
            };
            let link = step.dentry.inode.file_type() == FileType::Symlink;
            if last.is_some() && (!link || self.parent || !follow && !slash) {
                set_last(out, name)?;
                if !self.parent {
                    check_slash(&step.dentry, slash)?;
                }
                return Ok(End { at, target: Target::Step(step), slash });
            }
            if !link {
                step.go(&mut at);
                rest.advance();
                continue;
            }
            let link = step.from(&at);
            if last.is_some() {
                access::check_follow(self.ctx.cred, &**at.inode(), &**link.inode())?;
            }
            match self.follow(&at, &link)? {
                Leads::Place(place) => {
                    at = place;
                    rest.advance();
                }
                Leads::Text(text) => {
                    if text[0] == b'/' {
                        at = self.jump_to_root(&at)?;
                    }
                    rest.advance();
                    rest.links.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                    rest.links.push((text, 0));
                }
            }
        }
        check_slash(&at.dentry, slash)?;
        Ok(End { at, target: Target::Itself, slash })
    }

    fn up(&self, at: &Path) -> Result<Path> {
        let root = self.root();
        if self.has(RESOLVE_BENEATH) && at.same(&root) {
            return Err(Errno::EXDEV);
        }
        let up = at.up(&root);
        self.check_xdev(at, &up)?;
        Ok(up)
    }

    fn jump_to_root(&self, at: &Path) -> Result<Path> {
        if self.has(RESOLVE_BENEATH) {
            return Err(Errno::EXDEV);
        }
        let root = self.root();
        self.check_xdev(at, &root)?;
        Ok(root)
    }

    fn check_xdev(&self, from: &Path, to: &Path) -> Result {
        if self.has(RESOLVE_NO_XDEV) && !Arc::ptr_eq(&from.mount, &to.mount) { Err(Errno::EXDEV) } else { Ok(()) }
    }

    /// One step down.
    fn child(&self, at: &Path, name: &[u8]) -> Result<Step> {
        let dentry = if self.has(RESOLVE_CACHED) {
            at.dentry.known_child(name).ok_or(Errno::EAGAIN)??
        } else {
            at.dentry.child(self.ctx, name)?
        };
        if dentry.mounts.load(SeqCst) == 0 {
            return Ok(Step { dentry, mount: None });
        }
        let to = Path { mount: at.mount.clone(), dentry }.descend();
        self.check_xdev(at, &to)?;
        Ok(Step { dentry: to.dentry, mount: Some(to.mount) })
    }

    /// Where the symbolic link `link` leads, which was found from the directory `at`.
    fn follow(&mut self, at: &Path, link: &Path) -> Result<Leads> {
        self.links += 1;
        if self.links > MAX_LINKS || self.has(RESOLVE_NO_SYMLINKS) || link.mount.has(NOSYMFOLLOW) {
            return Err(Errno::ELOOP);
        }
        if let Some(target) = link.inode().magic_link(self.ctx) {
            let target = target?;
            if self.has(RESOLVE_NO_MAGICLINKS) {
                return Err(Errno::ELOOP);
            }
            self.check_xdev(at, &target)?;
            if self.has(RESOLVE_BENEATH | RESOLVE_IN_ROOT) {
                return Err(Errno::EXDEV);
            }
            return Ok(Leads::Place(target));
        }
        let text = link.inode().read_link(self.ctx)?;
        if link.inode().access_due() {
            super::attr::accessed(link, 0);
        }
        if text.is_empty() { Err(Errno::ENOENT) } else { Ok(Leads::Text(text)) }
    }
}

/// Where a symbolic link leads.
enum Leads {
    Place(Path),
    Text(Vec<u8>),
}

/// A step down: what a name stands for, and the mount where that is another. The mount of the directory is not counted
/// once more for it: most steps go on within it.
struct Step {
    dentry: Arc<Dentry>,
    mount: Option<Arc<Mount>>,
}

impl Step {
    /// Goes there.
    fn go(self, at: &mut Path) {
        at.dentry = self.dentry;
        if let Some(mount) = self.mount {
            at.mount = mount;
        }
    }

    /// Where it leads from `at`.
    fn from(self, at: &Path) -> Path {
        Path { mount: self.mount.unwrap_or_else(|| at.mount.clone()), dentry: self.dentry }
    }

    /// As [`Step::from`], where nobody asks any more where it came from.
    fn end_at(self, mut at: Path) -> Path {
        self.go(&mut at);
        at
    }
}

/// What a path leads to.
enum Target {
    /// The last name does not exist.
    Nothing,
    /// The last name's file.
    Step(Step),
    /// The directory that was reached: the path ends in `.`, `..` or is `/`.
    Itself,
}

/// The end of a walk.
struct End {
    /// The directory of the last name.
    at: Path,
    target: Target,
    slash: bool,
}

/// How a path goes on behind a name that is its last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Nothing,
    Slash,
}

/// What is left to walk: of the caller's path, and of the links that it led to, each with the position
/// that was reached, the innermost last. At most [`MAX_LINKS`] of them.
struct Rest<'p> {
    path: &'p [u8],
    links: Vec<(Vec<u8>, usize)>,
    /// Length of the next name, once settled.
    len: usize,
}

fn skip_slashes(text: &[u8]) -> usize {
    text.iter().position(|&b| b != b'/').unwrap_or(text.len())
}

impl Rest<'_> {
    /// Moves to the next name, and takes texts away that are used up; `false` at the end.
    fn settle(&mut self) -> bool {
        while let Some((text, at)) = self.links.last_mut() {
            *at += skip_slashes(&text[*at..]);
            if *at < text.len() {
                return self.measure();
            }
            self.links.pop();
        }
        self.path = &self.path[skip_slashes(self.path)..];
        self.measure()
    }

    /// Looks where the next name ends; whether there is one.
    fn measure(&mut self) -> bool {
        let text = self.current();
        self.len = text.iter().position(|&b| b == b'/').unwrap_or(text.len());
        self.len > 0
    }

    /// The next name.
    fn name(&self) -> &[u8] {
        &self.current()[..self.len]
    }

    /// The text that the next name is taken from, from there on.
    fn current(&self) -> &[u8] {
        self.links.last().map_or(self.path, |(text, at)| &text[*at..])
    }

    /// Whether no name follows the one that [`Rest::name`] gave.
    fn last(&self) -> Option<Ending> {
        let mut ending = Ending::Nothing;
        let outer = self.links.iter().rev().skip(1).map(|(text, at)| &text[*at..]);
        let outer = outer.chain((!self.links.is_empty()).then_some(self.path));
        for tail in core::iter::once(&self.current()[self.len..]).chain(outer) {
            if skip_slashes(tail) < tail.len() {
                return None;
            }
            if !tail.is_empty() {
                ending = Ending::Slash;
            }
        }
        Some(ending)
    }

    /// Goes on behind the name that [`Rest::name`] gave.
    fn advance(&mut self) {
        match self.links.last_mut() {
            Some((_, at)) => *at += self.len,
            None => self.path = &self.path[self.len..],
        }
    }
}

fn set_last(out: Option<&mut LastName>, name: &[u8]) -> Result {
    if let Some(out) = out {
        out.try_extend_from_slice(name).map_err(|_| Errno::ENAMETOOLONG)?;
    }
    Ok(())
}

fn check_slash(target: &Dentry, slash: bool) -> Result {
    if slash && !target.is_dir() { Err(Errno::ENOTDIR) } else { Ok(()) }
}
