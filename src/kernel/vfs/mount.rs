//! Mounts and places in the tree.
//!
//! Mounts form the trees of [`MountNamespace`]s: each knows where it lies and what is mounted on it. Its
//! own lock guards that ([`Links`]); whoever changes a tree holds the lock of all trees as well, since
//! what is done to one mount can spread to mounts anywhere (`propagation`).

mod detached;
mod moving;
mod namespace;
mod propagation;
mod unmount;

pub use detached::open_mount;
pub use namespace::{MOUNT_MAX, MountNamespace};
pub use propagation::Kind;

use super::dentry::Dentry;
use super::inode::Inode;
use super::notify;
use super::resolve::PATH_MAX;
use crate::abi::{Errno, Result};
use crate::cred::{self, Cred, UserNamespace};
use crate::sync::deferred::drop_later;
use crate::sync::{Level, Mutex, RwLock};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};
use hashbrown::HashMap;
use propagation::Peers;

/// What all mounts of a file system share. With the last of them the names go.
pub struct SuperBlock {
    root: Arc<Dentry>,
    /// See [`OF_FS`].
    flags: AtomicU32,
    /// Of whoever mounted it: capabilities over it count here, and its programs give ids only here and below.
    user_ns: Arc<UserNamespace>,
    /// Descriptions that may write to one of its files.
    writers: AtomicU32,
}

impl Drop for SuperBlock {
    fn drop(&mut self) {
        notify::unmounted(&*self.root.inode);
        if self.root.inode.cacheable() {
            self.root.dissolve();
        }
    }
}

/// A mounted file system, or a part of one.
pub struct Mount {
    /// Its root.
    pub root: Arc<Dentry>,
    /// `MS_*` of this mount alone: see [`KEPT`].
    pub flags: AtomicU32,
    /// File system type, for `/proc/mounts`.
    pub fstype: &'static str,
    /// Source, for `/proc/mounts`.
    pub source: String,
    /// Id, as in `/proc/self/mountinfo`.
    pub id: u64,
    /// `None` for what no one can mount elsewhere: pipes, sockets.
    fs: Option<Arc<SuperBlock>>,
    links: RwLock<Links>,
    /// Times that it must be entered until it counts as used; 0 unless `MNT_EXPIRE` asked.
    expiring: AtomicU32,
    /// Descriptions that may write to a file found by it.
    writers: AtomicU32,
}

/// How a mount hangs together with others.
#[derive(Default)]
struct Links {
    /// Where it is mounted; `None` for the root of a tree.
    at: Option<Path>,
    /// The namespace that it is part of.
    namespace: Weak<MountNamespace>,
    /// What is mounted on it, by the address of the dentry, which the mount there keeps.
    children: HashMap<usize, Arc<Mount>>,
    /// Mounts that what is done to this one is done to, too, and the reverse.
    group: Option<Arc<Peers>>,
    /// The group whose changes come here.
    master: Option<Arc<Peers>>,
    /// It cannot be bound elsewhere.
    unbindable: bool,
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
/// `MS_SYNCHRONOUS`, of a file system.
pub const SYNCHRONOUS: u32 = 16;
/// `MS_MANDLOCK`, of a file system.
pub const MANDLOCK: u32 = 64;
/// `MS_DIRSYNC`, of a file system.
pub const DIRSYNC: u32 = 128;
/// `MS_LAZYTIME`, of a file system.
pub const LAZYTIME: u32 = 1 << 25;
/// Flags that a file system keeps, for all of its mounts.
pub const OF_FS: u32 = RDONLY | SYNCHRONOUS | MANDLOCK | DIRSYNC | LAZYTIME;
/// `MS_NOSYMFOLLOW`.
pub const NOSYMFOLLOW: u32 = 256;
/// `MS_NOATIME`.
pub const NOATIME: u32 = 1024;
/// `MS_NODIRATIME`.
pub const NODIRATIME: u32 = 2048;
/// `MS_RELATIME`.
pub const RELATIME: u32 = 1 << 21;
/// Flags about access times.
pub const ATIME: u32 = NOATIME | NODIRATIME | RELATIME;
/// Flags that a mount keeps.
pub const KEPT: u32 = RDONLY | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW | ATIME;
/// It cannot be taken away or moved, since something less privileged would see what lies below (`MNT_LOCKED`).
pub const LOCKED: u32 = 1 << 24;
/// How its access times are kept cannot be changed (`MNT_LOCK_ATIME`).
pub const LOCK_ATIME: u32 = 1 << 25;
/// Flags that can be locked, each by the bit so much further up.
pub const LOCKABLE: u32 = RDONLY | NOSUID | NODEV | NOEXEC;
/// See [`LOCKABLE`].
pub const LOCK_SHIFT: u32 = 26;
/// All locks.
pub const LOCKS: u32 = LOCKED | LOCK_ATIME | LOCKABLE << LOCK_SHIFT;

/// Held by whoever changes a tree of mounts.
static TREES: Mutex<()> = Mutex::new(Level::MountTrees, ());
static NEXT_ID: AtomicU64 = AtomicU64::new(20);

impl Drop for Mount {
    fn drop(&mut self) {
        // Mounts on mounts, as many as a guest has made.
        let links = self.links.get_mut();
        if let Some(at) = links.at.take() {
            drop_later(at);
        }
        for child in links.children.drain() {
            drop_later(child.1);
        }
    }
}

/// What becomes of the flags of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Those of [`OF_FS`] that are meant.
    pub mask: u32,
    /// What they are to be.
    pub flags: u32,
}

impl Change {
    /// Sets or clears a flag.
    pub fn put(&mut self, flag: u32, on: bool) {
        self.mask |= flag;
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    /// The flags that there are after it.
    pub fn of(self, flags: u32) -> u32 {
        (flags & !self.mask | self.flags & self.mask) & OF_FS
    }
}

impl Mount {
    fn of(
        root: Arc<Dentry>,
        fs: Option<Arc<SuperBlock>>,
        flags: u32,
        fstype: &'static str,
        source: &str,
    ) -> Arc<Mount> {
        Arc::new(Mount {
            root,
            flags: AtomicU32::new(flags),
            fstype,
            source: source.into(),
            id: NEXT_ID.fetch_add(1, Relaxed),
            fs,
            links: RwLock::new(Level::Mounts, Links::default()),
            expiring: AtomicU32::new(0),
            writers: AtomicU32::new(0),
        })
    }

    /// A mount of a file system that is not mounted anywhere yet, and that the initial user namespace owns.
    pub fn new(root: Arc<dyn Inode>, flags: u32, fstype: &'static str, source: &str) -> Arc<Mount> {
        Mount::new_in(UserNamespace::initial(), root, flags, fstype, source)
    }

    /// As [`Mount::new`], owned by `user_ns`.
    pub fn new_in(
        user_ns: &Arc<UserNamespace>,
        root: Arc<dyn Inode>,
        flags: u32,
        fstype: &'static str,
        source: &str,
    ) -> Arc<Mount> {
        let root = Dentry::root(root);
        let fs = SuperBlock {
            root: root.clone(),
            flags: AtomicU32::new(flags & RDONLY),
            user_ns: user_ns.clone(),
            writers: AtomicU32::new(0),
        };
        Mount::of(root, Some(Arc::new(fs)), flags, fstype, source)
    }

    /// Ids that are never used again are larger (`MNT_UNIQUE_ID_OFFSET`).
    pub const FIRST_UNIQUE: u64 = 1 << 31;

    /// Its id among all that there will ever be (`STATX_MNT_ID_UNIQUE`).
    pub fn unique_id(&self) -> u64 {
        self.id + Mount::FIRST_UNIQUE
    }

    /// Its root as a place.
    pub fn root_path(self: &Arc<Self>) -> Path {
        Path { mount: self.clone(), dentry: self.root.clone() }
    }

    /// Whether it has all of these flags.
    pub fn has(&self, flags: u32) -> bool {
        self.flags.load(Relaxed) & flags == flags
    }

    /// Whether it is of a file system that can be mounted: not of pipes, sockets, memory files.
    pub fn is_mountable(&self) -> bool {
        self.fs.is_some()
    }

    /// Whether a file is of the file system that is mounted here.
    pub fn has_in_file_system(&self, dentry: &Arc<Dentry>) -> bool {
        self.fs.as_ref().is_some_and(|fs| dentry.is_below(&fs.root))
    }

    /// Whether access times are those of the last reading (`MS_STRICTATIME`).
    pub fn keeps_all_accesses(&self) -> bool {
        self.fs.is_some() && self.flags.load(Relaxed) & (RELATIME | NOATIME) == 0
    }

    /// Whether its file system itself, not only this mount of it, is read-only.
    pub fn fs_read_only(&self) -> bool {
        self.fs_flags() & RDONLY != 0
    }

    /// The flags of its file system: see [`OF_FS`].
    pub fn fs_flags(&self) -> u32 {
        self.fs.as_ref().map_or(0, |fs| fs.flags.load(Relaxed))
    }

    /// Sets the flags of a file system that is not mounted yet.
    pub fn begin_fs_flags(&self, flags: u32) {
        if let Some(fs) = &self.fs {
            fs.flags.store(flags & OF_FS, Relaxed);
        }
    }

    /// The user namespace that owns its file system.
    pub fn user_ns(&self) -> &Arc<UserNamespace> {
        self.fs.as_ref().map_or(UserNamespace::initial(), |fs| &fs.user_ns)
    }

    /// Whether programs on it may give ids and capabilities to somebody in `ns` (`mnt_may_suid`).
    pub fn gives_ids_in(&self, ns: &Arc<UserNamespace>) -> bool {
        ns.is_within(self.user_ns())
    }

    /// One more description may write, or one less: it cannot become read-only meanwhile.
    pub(super) fn count_writer(&self, more: bool) {
        for count in core::iter::once(&self.writers).chain(self.fs.as_ref().map(|fs| &fs.writers)) {
            if more {
                count.fetch_add(1, Ordering::SeqCst);
            } else {
                count.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Where it is mounted.
    pub fn at(&self) -> Option<Path> {
        self.links.read().at.clone()
    }

    /// The namespace that it is part of.
    pub fn namespace(&self) -> Option<Arc<MountNamespace>> {
        self.links.read().namespace.upgrade()
    }

    /// Ids of its peer group and of the group that it is a slave of, and whether it is unbindable.
    pub fn propagation(&self) -> (Option<u64>, Option<u64>, bool) {
        let links = self.links.read();
        (links.group.as_ref().map(|g| g.id), links.master.as_ref().map(|g| g.id), links.unbindable)
    }

    fn child(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        self.links.read().children.get(&(Arc::as_ptr(dentry) as usize)).cloned()
    }

    fn children(&self) -> Vec<Arc<Mount>> {
        self.links.read().children.values().cloned().collect()
    }
}

/// Makes a file system the root of a namespace of its own.
pub fn mount_root(root: Arc<dyn Inode>, flags: u32, fstype: &'static str, source: &str) -> (Path, Arc<MountNamespace>) {
    let mount = Mount::new(root, flags, fstype, source);
    (mount.root_path(), MountNamespace::new(mount))
}

/// A place in no tree: pipes, sockets, anonymous inodes. `source` is its name.
pub fn detached_named(root: Arc<dyn Inode>, fstype: &'static str, source: &str) -> Path {
    Mount::of(Dentry::root(root), None, 0, fstype, source).root_path()
}

impl Path {
    /// The topmost mount's root if something is mounted here.
    pub fn descend(mut self) -> Path {
        while self.dentry.mounts.load(Ordering::SeqCst) > 0 {
            let Some(m) = self.mount.child(&self.dentry) else { break };
            if m.expiring.load(Relaxed) != 0 {
                let _ = m.expiring.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
            }
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
                match at.mount.at() {
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
                match at.mount.at() {
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

    /// Its last name; of what lies in no tree the name that it was made with.
    pub fn file_name(&self) -> Vec<u8> {
        let name = self.dentry.name();
        if !name.is_empty() {
            return name;
        }
        if self.mount.source.is_empty() {
            return self.inode().shown_name().unwrap_or_default();
        }
        let shown = self.mount.source.trim_end_matches(" (deleted)");
        shown.rsplit('/').next().unwrap_or(shown).as_bytes().to_vec()
    }

    /// As `/proc/self/fd` shows it: absolute, with ` (deleted)` where the name is gone.
    ///
    /// # Errors
    /// As [`Path::name`].
    pub fn display(&self, root: &Path) -> Result<Vec<u8>> {
        let (mut name, reachable) = self.name(root)?;
        // A mount that was taken away shows its root.
        if !reachable && self.mount.fs.is_none() && name == b"/" {
            name = self.inode().shown_name().unwrap_or_else(|| self.mount.source.as_bytes().to_vec());
        }
        if self.dentry.unlinked() {
            name.extend_from_slice(b" (deleted)");
        }
        Ok(name)
    }

    /// Refuses to make files that would belong to somebody whom the file system's user namespace does not know
    /// (`fsuidgid_has_mapping`).
    ///
    /// # Errors
    /// `EOVERFLOW`.
    pub fn check_owner_known(&self, who: &Cred) -> Result {
        let ns = self.mount.user_ns();
        let known = ns.has(cred::Kind::User, who.fsuid) && ns.has(cred::Kind::Group, who.fsgid);
        if known { Ok(()) } else { Err(Errno::EOVERFLOW) }
    }

    /// Refuses writes on a read-only mount.
    ///
    /// # Errors
    /// `EROFS`.
    pub fn check_writable(&self) -> Result {
        if self.mount.has(RDONLY) || self.mount.fs_read_only() { Err(Errno::EROFS) } else { Ok(()) }
    }
}
