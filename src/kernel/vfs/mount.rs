//! Mounts and places in the tree.

use super::dentry::Dentry;
use super::inode::Inode;
use super::resolve::PATH_MAX;
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::sync::{Level, RwLock};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use hashbrown::{HashMap, HashSet};

/// A mounted file system.
pub struct Mount {
    /// Its root.
    pub root: Arc<Dentry>,
    /// Where it is mounted; `None` for the root of the tree.
    pub at: Option<Path>,
    /// `MS_RDONLY`, `MS_NOSUID`, `MS_NODEV`, `MS_NOEXEC`.
    pub flags: AtomicU32,
    /// File system type, for `/proc/mounts`.
    pub fstype: &'static str,
    /// Source, for `/proc/mounts`.
    pub source: String,
    /// Id, as in `/proc/self/mountinfo`.
    pub id: u64,
}

/// A place in the tree.
#[derive(Clone)]
pub struct Path {
    /// The mount.
    pub mount: Arc<Mount>,
    /// The dentry in it.
    pub dentry: Arc<Dentry>,
}

/// `MS_RDONLY`.
pub const RDONLY: u32 = 1;
/// `MS_NOSUID`.
pub const NOSUID: u32 = 2;
/// `MS_NODEV`.
pub const NODEV: u32 = 4;
/// `MS_NOEXEC`.
pub const NOEXEC: u32 = 8;

type Key = (usize, usize);

struct Tree {
    by_place: HashMap<Key, Arc<Mount>>,
    all: Vec<Arc<Mount>>,
}

static TREE: RwLock<Option<Tree>> = RwLock::new(Level::Mounts, None);
static NEXT_ID: AtomicU64 = AtomicU64::new(20);

fn key(place: &Path) -> Key {
    (Arc::as_ptr(&place.mount) as usize, Arc::as_ptr(&place.dentry) as usize)
}

fn new(root: Arc<dyn Inode>, at: Option<Path>, flags: u32, fstype: &'static str, source: &str) -> Arc<Mount> {
    Mount::of(Dentry::root(root), at, flags, fstype, source)
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Mounts on mounts, as many as a guest has made.
        if let Some(at) = self.at.take() {
            crate::sync::deferred::drop_later(at);
        }
    }
}

impl Mount {
    fn of(root: Arc<Dentry>, at: Option<Path>, flags: u32, fstype: &'static str, source: &str) -> Arc<Mount> {
        Arc::new(Mount {
            root,
            at,
            flags: AtomicU32::new(flags),
            fstype,
            source: source.into(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Its root as a place.
    pub fn root_path(self: &Arc<Self>) -> Path {
        Path { mount: self.clone(), dentry: self.root.clone() }
    }

    /// Whether it has all of these flags.
    pub fn has(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flags == flags
    }
}

/// Makes the root of the tree.
pub fn mount_root(root: Arc<dyn Inode>, flags: u32, fstype: &'static str, source: &str) -> Path {
    let mount = new(root, None, flags, fstype, source);
    let path = mount.root_path();
    *TREE.write() = Some(Tree { by_place: HashMap::new(), all: alloc::vec![mount] });
    path
}

/// A place in no tree: pipes, sockets, anonymous inodes. `source` is its name.
pub fn detached_named(root: Arc<dyn Inode>, fstype: &'static str, source: &str) -> Path {
    new(root, None, 0, fstype, source).root_path()
}

/// Mounts a file system at a place.
///
/// # Errors
/// `ENOTDIR` when only one of the two is a directory.
pub fn mount_fs(at: &Path, root: Arc<dyn Inode>, flags: u32, fstype: &'static str, source: &str) -> Result {
    attach(at, Dentry::root(root), flags, fstype, source)
}

/// Makes the subtree at `from` visible at `at` as well (`MS_BIND`).
///
/// # Errors
/// As [`mount_fs`].
pub fn bind(from: &Path, at: &Path, flags: u32) -> Result {
    attach(at, from.dentry.clone(), flags, from.mount.fstype, &from.mount.source)
}

fn attach(at: &Path, root: Arc<Dentry>, flags: u32, fstype: &'static str, source: &str) -> Result {
    if root.is_dir() != at.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    at.dentry.pin();
    let mut tree = TREE.write();
    let tree = tree.as_mut().ok_or(Errno::EINVAL)?;
    tree.room_for(1)?;
    tree.insert(at.clone(), root, flags, fstype, source);
    Ok(())
}

/// Most mounts that there can be (`fs.mount-max`): each copy of a tree into itself doubles it.
const MOUNT_MAX: usize = 10_000;

impl Tree {
    fn room_for(&self, more: usize) -> Result {
        arena::charge(Object::Mount)?;
        if self.all.len() + more > MOUNT_MAX { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// Mounts on top of whatever is mounted there by now.
    fn insert(
        &mut self,
        mut at: Path,
        root: Arc<Dentry>,
        flags: u32,
        fstype: &'static str,
        source: &str,
    ) -> Arc<Mount> {
        while let Some(m) = self.by_place.get(&key(&at)) {
            at = m.root_path();
        }
        let place = key(&at);
        at.dentry.mounts.fetch_add(1, Ordering::SeqCst);
        let mount = Mount::of(root, Some(at), flags, fstype, source);
        self.by_place.insert(place, mount.clone());
        self.all.push(mount.clone());
        mount
    }

    /// The mounts below a place, outer ones first: each with the index in this list, plus one, of the mount
    /// that it is on; 0 is the mount of the place itself.
    fn below(&self, place: &Path) -> Vec<(Arc<Mount>, usize)> {
        let mut found: Vec<(Arc<Mount>, usize)> = Vec::new();
        let mut index: HashMap<*const Mount, usize> = HashMap::new();
        let whole = Arc::ptr_eq(&place.mount.root, &place.dentry);
        // Nothing can be mounted on a mount before it is there itself, so one pass is enough.
        for m in &self.all {
            let Some(at) = &m.at else { continue };
            let on = match index.get(&Arc::as_ptr(&at.mount)) {
                Some(&i) => i,
                None if Arc::ptr_eq(&at.mount, &place.mount) && (whole || at.dentry.is_below(&place.dentry)) => 0,
                None => continue,
            };
            found.push((m.clone(), on));
            index.insert(Arc::as_ptr(m), found.len());
        }
        found
    }
}

/// As [`bind`] with everything that is mounted below `from` (`MS_REC`).
///
/// # Errors
/// As [`mount_fs`].
pub fn bind_all(from: &Path, at: &Path, flags: u32) -> Result {
    if from.dentry.is_dir() != at.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    at.dentry.pin();
    let mut tree = TREE.write();
    let tree = tree.as_mut().ok_or(Errno::EINVAL)?;
    // What is to be copied is settled before the copy begins: `at` may itself lie below `from`.
    let inner = tree.below(from);
    tree.room_for(inner.len() + 1)?;
    let root = tree.insert(at.clone(), from.dentry.clone(), flags, from.mount.fstype, &from.mount.source);
    let mut copies = alloc::vec![root];
    for (m, on) in inner {
        let Some(place) = &m.at else { continue };
        // The mount point is the same dentry, seen through the copy.
        let there = Path { mount: copies[on].clone(), dentry: place.dentry.clone() };
        let flags = m.flags.load(Ordering::Relaxed);
        copies.push(tree.insert(there, m.root.clone(), flags, m.fstype, &m.source));
    }
    Ok(())
}

/// Takes away the mount whose root `path` is. With `lazy` everything below it goes with it, used or not.
///
/// # Errors
/// `EINVAL` if it is none, `EBUSY` if it is used or others are mounted below it.
pub fn unmount(path: Path, lazy: bool) -> Result {
    let mut guard = TREE.write();
    let tree = guard.as_mut().ok_or(Errno::EINVAL)?;
    let mount = path.mount;
    if !Arc::ptr_eq(&path.dentry, &mount.root) {
        return Err(Errno::EINVAL);
    }
    drop(path.dentry);
    if mount.at.is_none() {
        return Err(Errno::EBUSY);
    }
    let inner = tree.below(&mount.root_path());
    if !lazy && !inner.is_empty() {
        return Err(Errno::EBUSY);
    }
    let mut gone = alloc::vec![mount];
    gone.extend(inner.into_iter().map(|(m, _)| m));
    // The tree's two references, and the one here.
    if !lazy && Arc::strong_count(&gone[0]) > 3 {
        return Err(Errno::EBUSY);
    }
    for m in &gone {
        if let Some(at) = &m.at {
            tree.by_place.remove(&key(at));
            at.dentry.mounts.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let going: HashSet<*const Mount> = gone.iter().map(Arc::as_ptr).collect();
    tree.all.retain(|m| !going.contains(&Arc::as_ptr(m)));
    let left: Vec<Arc<Dentry>> = tree.all.iter().map(|m| m.root.clone()).collect();
    drop(guard);
    for m in gone {
        let whole = m.root.parent().is_none() && m.root.inode.cacheable();
        if whole && Arc::strong_count(&m) == 1 && !left.iter().any(|r| r.is_below(&m.root)) {
            m.root.dissolve();
        }
    }
    Ok(())
}

/// Every mount, in the order of mounting.
pub fn all() -> Vec<Arc<Mount>> {
    TREE.read().as_ref().map_or_else(Vec::new, |t| t.all.clone())
}

impl Path {
    /// The topmost mount's root if something is mounted here.
    pub fn descend(mut self) -> Path {
        while self.dentry.mounts.load(Ordering::SeqCst) > 0 {
            let tree = TREE.read();
            let Some(m) = tree.as_ref().and_then(|t| t.by_place.get(&key(&self)).cloned()) else { break };
            drop(tree);
            self = m.root_path();
        }
        self
    }

    /// The directory above, not leaving `root`.
    pub fn up(&self, root: &Path) -> Path {
        let mut at = self.clone();
        loop {
            if at.same(root) {
                return at;
            }
            if Arc::ptr_eq(&at.dentry, &at.mount.root) {
                match at.mount.at.clone() {
                    Some(place) => at = place,
                    None => return at,
                }
                continue;
            }
            return match at.dentry.parent() {
                Some(dentry) => Path { mount: at.mount, dentry }.descend(),
                None => at,
            };
        }
    }

    /// Whether both are the same place.
    pub fn same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// The inode.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.dentry.inode
    }

    /// The absolute path as seen from `root`; the flag says whether `root` was met.
    ///
    /// # Errors
    /// `ENAMETOOLONG` for a path of `PATH_MAX` bytes or more.
    pub fn name(&self, root: &Path) -> Result<(Vec<u8>, bool)> {
        // From the last name to the first, each written backwards.
        let mut out = Vec::new();
        let mut at = self.clone();
        let reachable = loop {
            if at.same(root) {
                break true;
            }
            if Arc::ptr_eq(&at.dentry, &at.mount.root) {
                match at.mount.at.clone() {
                    Some(place) => at = place,
                    None => break false,
                }
                continue;
            }
            let name = at.dentry.name();
            if out.len() + name.len() + 1 > PATH_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            out.extend(name.iter().rev());
            out.push(b'/');
            match at.dentry.parent() {
                Some(dentry) => at.dentry = dentry,
                None => break false,
            }
        };
        if out.is_empty() {
            out.push(b'/');
        }
        out.reverse();
        Ok((out, reachable))
    }

    /// As `/proc/self/fd` shows it: absolute, with ` (deleted)` where the name is gone.
    ///
    /// # Errors
    /// As [`Path::name`].
    pub fn display(&self, root: &Path) -> Result<Vec<u8>> {
        let (mut name, reachable) = self.name(root)?;
        if !reachable && self.mount.at.is_none() && name == b"/" {
            name = self.inode().shown_name().unwrap_or_else(|| self.mount.source.as_bytes().to_vec());
        }
        if self.dentry.unlinked() {
            name.extend_from_slice(b" (deleted)");
        }
        Ok(name)
    }

    /// Refuses writes on a read-only mount.
    ///
    /// # Errors
    /// `EROFS`.
    pub fn check_writable(&self) -> Result {
        if self.mount.has(RDONLY) { Err(Errno::EROFS) } else { Ok(()) }
    }
}
