//! Mount namespaces: trees of mounts, and what can be done to them.

use super::propagation::{Relation, each_target};
use super::{ATIME, Change, Kind, LOCK_ATIME, LOCK_SHIFT, LOCKABLE, LOCKED, LOCKS, Mount, Path, RDONLY, TREES};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::cred::count::{self, Charge, Of};
use crate::cred::{Cred, UserNamespace};
use crate::sync::{Events, Knob, Level, RwLock, WaitQueue};
use crate::vfs::context::FsContext;
use crate::vfs::dentry::Dentry;
use crate::vfs::marks;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

/// Most mounts that a namespace can have (`/proc/sys/fs/mount-max`): each copy of a tree into itself doubles it.
pub static MOUNT_MAX: Knob = Knob::new(10_000, 1, 10_000);

/// A tree of mounts that processes see.
pub struct MountNamespace {
    /// Inode number of `/proc/PID/ns/mnt`.
    pub id: u64,
    /// Capabilities over it count here.
    pub user_ns: Arc<UserNamespace>,
    _charge: Option<Charge>,
    root: RwLock<Option<Arc<Mount>>>,
    count: AtomicUsize,
    /// Changes of the tree, and who waits for the next.
    changes: AtomicU64,
    watchers: WaitQueue,
    /// No process is in it: it holds what `fsmount(2)` and `open_tree(2)` made.
    detached: bool,
    /// A mount of it is, or was, [`LOCKED`].
    locked: AtomicBool,
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        let gone = {
            let _trees = TREES.lock();
            let root = self.root.get_mut().take();
            root.map(|root| take_apart(&root))
        };
        drop(gone);
    }
}

/// A mount and everything below it, parents first.
pub(super) fn subtree(top: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let mut all = alloc::vec![top.clone()];
    let mut next = 0;
    while next < all.len() {
        let children = all[next].children();
        all.extend(children);
        next += 1;
    }
    all
}

/// A mount alone, or with everything below it.
pub(super) fn members(top: &Arc<Mount>, recursive: bool) -> Vec<Arc<Mount>> {
    if recursive { subtree(top) } else { alloc::vec![top.clone()] }
}

impl Mount {
    /// Its flags without locks.
    pub(super) fn own_flags(&self) -> u32 {
        self.flags.load(Relaxed) & !LOCKS
    }

    /// Whether its flags may become these.
    pub(super) fn may_become(&self, flags: u32) -> Result {
        let old = self.flags.load(Relaxed);
        if !keeps_locked(old, flags) {
            return Err(Errno::EPERM);
        }
        if flags & RDONLY != 0 && old & RDONLY == 0 && self.writers.load(SeqCst) > 0 {
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    /// Its flags are these from now on.
    pub(super) fn become_flagged(&self, flags: u32) {
        self.flags.store(flags | self.flags.load(Relaxed) & LOCKS, Relaxed);
    }
}

/// Puts `child` on a place; what is mounted there already comes to lie on top of it.
pub(super) fn hang(child: &Arc<Mount>, at: &Path) {
    let covered = at.mount.child(&at.dentry);
    if let Some(covered) = &covered {
        unhang(covered);
    }
    put(child, at);
    if let Some(covered) = covered {
        put(&covered, &child.root_path().descend());
    }
}

/// Puts `child` on a place where nothing is mounted.
fn put(child: &Arc<Mount>, at: &Path) {
    at.dentry.mounts.fetch_add(1, SeqCst);
    let key = Arc::as_ptr(&at.dentry) as usize;
    at.mount.links.write().children.insert(key, child.clone());
    child.links.write().at = Some(at.clone());
}

/// Takes a mount from its place.
pub(super) fn unhang(child: &Arc<Mount>) -> Option<Path> {
    let at = child.links.write().at.take()?;
    let key = Arc::as_ptr(&at.dentry) as usize;
    let gone = at.mount.links.write().children.remove(&key);
    drop(gone);
    at.dentry.mounts.fetch_sub(1, SeqCst);
    Some(at)
}

/// Takes a tree of mounts apart; the caller drops them, and their places, after it has unlocked.
pub(super) fn take_apart(top: &Arc<Mount>) -> Vec<(Arc<Mount>, Option<Path>)> {
    let mut gone = Vec::new();
    for m in subtree(top) {
        if let Some(ns) = m.namespace() {
            ns.count.fetch_sub(1, Relaxed);
            ns.touch();
        }
        let at = unhang(&m);
        m.set_kind(Kind::Private);
        m.links.write().namespace = Default::default();
        gone.push((m, at));
    }
    gone
}

/// Locks a tree of mounts that comes to a namespace of another user namespace: nothing below its top can be taken away
/// alone, and what its flags forbid stays forbidden (`lock_mnt_tree` in `fs/namespace.c`).
fn lock(top: &Arc<Mount>) {
    for m in subtree(top) {
        let flags = m.flags.load(Relaxed);
        let mut locks = LOCK_ATIME | (flags & LOCKABLE) << LOCK_SHIFT;
        if !Arc::ptr_eq(&m, top) {
            locks |= LOCKED;
        }
        m.flags.fetch_or(locks, Relaxed);
    }
}

/// Whether flags may take the place of those that a mount has (`can_change_locked_flags`).
fn keeps_locked(old: u32, new: u32) -> bool {
    let kept = old >> LOCK_SHIFT & LOCKABLE;
    kept & !new == 0 && (old & LOCK_ATIME == 0 || (old ^ new) & ATIME == 0)
}

/// A copy of the mounts at and below `from`: alone, or with what is mounted below (`recursive`).
pub(super) fn copy_tree(from: &Path, relation: Relation, recursive: bool, unbindable: bool) -> Result<Arc<Mount>> {
    let top = Mount::copy(from, relation);
    top.flags.fetch_and(!LOCKED, Relaxed);
    if !recursive {
        return Ok(top);
    }
    let whole = Arc::ptr_eq(&from.mount.root, &from.dentry);
    let mut todo = alloc::vec![(from.mount.clone(), top.clone())];
    while let Some((old, new)) = todo.pop() {
        for child in old.children() {
            let Some(at) = child.at() else { continue };
            let inside = whole || !Arc::ptr_eq(&old, &from.mount) || at.dentry.is_below(&from.dentry);
            if !inside {
                continue;
            }
            if !unbindable && child.propagation().2 {
                if child.has(LOCKED) {
                    drop(take_apart(&top));
                    return Err(Errno::EPERM);
                }
                continue;
            }
            let copy = Mount::copy(&child.root_path(), relation);
            hang(&copy, &Path { mount: new.clone(), dentry: at.dentry.clone() });
            if todo.try_reserve(1).is_err() || arena::charge(Object::Mount).is_err() {
                drop(take_apart(&top));
                return Err(Errno::ENOMEM);
            }
            todo.push((child, copy));
        }
    }
    Ok(top)
}

impl MountNamespace {
    /// A namespace of the initial user namespace with `root` as its root.
    pub fn new(root: Arc<Mount>) -> Arc<MountNamespace> {
        MountNamespace::of(root, UserNamespace::initial().clone(), None)
    }

    /// A namespace that no process is in.
    pub(super) fn detached(root: Arc<Mount>, user_ns: Arc<UserNamespace>) -> Arc<MountNamespace> {
        MountNamespace::made(root, user_ns, None, true)
    }

    /// See [`MountNamespace::detached`].
    pub fn is_detached(&self) -> bool {
        self.detached
    }

    /// The tree is part of another namespace by now.
    pub(super) fn let_go(&self) -> Option<Arc<Mount>> {
        self.root.write().take()
    }

    fn of(root: Arc<Mount>, user_ns: Arc<UserNamespace>, charge: Option<Charge>) -> Arc<MountNamespace> {
        MountNamespace::made(root, user_ns, charge, false)
    }

    fn made(root: Arc<Mount>, user_ns: Arc<UserNamespace>, charge: Option<Charge>, detached: bool) -> Arc<Self> {
        let ns = Arc::new(MountNamespace {
            detached,
            locked: AtomicBool::new(false),
            id: u64::from(crate::cred::ns::new_ino()),
            user_ns,
            _charge: charge,
            root: RwLock::new(Level::Mounts, None),
            count: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            watchers: WaitQueue::new(),
        });
        ns.adopt(&root);
        *ns.root.write() = Some(root);
        ns
    }

    /// The root of the tree.
    pub fn root(&self) -> Option<Arc<Mount>> {
        self.root.read().clone()
    }

    /// Every mount, in the order of mounting.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        let mut all = self.root().map_or_else(Vec::new, |root| subtree(&root));
        all.sort_by_key(|m| m.id);
        all
    }

    fn adopt(self: &Arc<Self>, top: &Arc<Mount>) {
        for m in subtree(top) {
            m.links.write().namespace = Arc::downgrade(self);
            self.count.fetch_add(1, Relaxed);
            if m.has(LOCKED) {
                self.locked.store(true, Relaxed);
            }
            marks::mounted(self.id, m.unique_id(), marks::event::MNT_ATTACH);
        }
        self.touch();
    }

    /// The tree has changed (`touch_mnt_namespace`).
    pub(super) fn touch(&self) {
        self.changes.fetch_add(1, SeqCst);
        self.watchers.wake(Events::IN | Events::PRI | Events::ERR);
    }

    /// How often the tree has changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(SeqCst)
    }

    /// Who waits for a change.
    pub fn watchers(&self) -> &WaitQueue {
        &self.watchers
    }

    /// Whether a mount is part of this namespace.
    pub fn has(self: &Arc<Self>, mount: &Mount) -> bool {
        core::ptr::eq(mount.links.read().namespace.as_ptr(), Arc::as_ptr(self))
    }

    pub(super) fn check(self: &Arc<Self>, mount: &Mount) -> Result {
        if self.has(mount) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Mounts `mount`, which is new, at a place.
    ///
    /// # Errors
    /// `ENOTDIR` when only one of the two is a directory, `ENOENT` at a removed one, `EINVAL` in another
    /// namespace, `ENOSPC` for too many.
    pub fn attach(self: &Arc<Self>, mount: &Arc<Mount>, at: &Path) -> Result {
        let _trees = TREES.lock();
        self.graft(mount, at)
    }

    pub(super) fn graft(self: &Arc<Self>, top: &Arc<Mount>, at: &Path) -> Result {
        self.graft_at(top, at.clone().descend())
    }

    /// As [`MountNamespace::graft`], at the place itself: what is mounted there comes to lie on `top`.
    pub(super) fn graft_at(self: &Arc<Self>, top: &Arc<Mount>, at: Path) -> Result {
        self.check(&at.mount)?;
        if top.root.is_dir() != at.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if at.dentry.unlinked() {
            return Err(Errno::ENOENT);
        }
        self.spread(top, &at)?;
        at.dentry.pin();
        hang(top, &at);
        self.adopt(top);
        Ok(())
    }

    /// Copies a tree that is about to be mounted at `at` to wherever that spreads.
    pub(super) fn spread(self: &Arc<Self>, top: &Arc<Mount>, at: &Path) -> Result {
        let size = subtree(top).len();
        self.room_for(size)?;
        if !at.mount.is_shared() {
            return Ok(());
        }
        for m in subtree(top) {
            m.set_kind(Kind::Shared);
        }
        let mut copies: Vec<(Arc<Mount>, Path)> = Vec::new();
        let done = each_target(&at.mount, top.clone(), &mut |target, relation, template| {
            if !at.dentry.is_below(&target.root) {
                return Ok(None);
            }
            let Some(ns) = target.namespace() else { return Ok(None) };
            ns.room_for(size + copies.len() * size)?;
            let copy = copy_tree(&template.root_path(), relation, true, true)?;
            copies.push((copy.clone(), Path { mount: target.clone(), dentry: at.dentry.clone() }));
            Ok(Some(copy))
        });
        if done.is_err() {
            copies.iter().for_each(|(copy, _)| drop(take_apart(copy)));
            return done;
        }
        for (copy, place) in copies {
            if let Some(ns) = place.mount.namespace() {
                if !Arc::ptr_eq(&ns.user_ns, &self.user_ns) {
                    lock(&copy);
                }
                hang(&copy, &place);
                ns.adopt(&copy);
            }
        }
        Ok(())
    }

    fn room_for(&self, more: usize) -> Result {
        arena::charge(Object::Mount)?;
        if self.count.load(Relaxed) + more > MOUNT_MAX.get() as usize { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// Makes the subtree at `from` visible at `at` as well (`MS_BIND`), with `recursive` what is mounted
    /// below it, too.
    ///
    /// # Errors
    /// As [`MountNamespace::attach`]; `EINVAL` for an unbindable mount.
    pub fn bind(self: &Arc<Self>, from: &Path, at: &Path, recursive: bool) -> Result {
        let trees = TREES.lock();
        self.check(&at.mount)?;
        self.check(&from.mount)?;
        if from.mount.propagation().2 {
            return Err(Errno::EINVAL);
        }
        self.check_hidden(from, recursive)?;
        let top = copy_tree(from, Relation::Peer, recursive, false)?;
        let done = self.graft(&top, at);
        let undone = if done.is_err() { Some(take_apart(&top)) } else { None };
        drop(trees);
        drop(undone);
        done
    }

    /// Whether a copy of what is at `from` has room, and shows nothing that a locked mount hides.
    pub(super) fn check_hidden(self: &Arc<Self>, from: &Path, recursive: bool) -> Result {
        if recursive {
            return self.room_for(subtree(&from.mount).len());
        }
        if self.hides_something(&from.mount, &from.dentry) { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Whether a locked mount lies on `mount` at or below `dentry` (`has_locked_children`).
    pub(super) fn hides_something(&self, mount: &Arc<Mount>, dentry: &Arc<Dentry>) -> bool {
        let hides = |m: &Arc<Mount>| m.has(LOCKED) && m.at().is_some_and(|at| at.dentry.is_below(dentry));
        self.locked.load(Relaxed) && mount.children().iter().any(hides)
    }

    /// Changes how what happens to a mount spreads; with `recursive` also of those below it.
    ///
    /// # Errors
    /// `EINVAL` where `path` is no mount's root.
    pub fn set_kind(self: &Arc<Self>, path: &Path, kind: Kind, recursive: bool) -> Result {
        let _trees = TREES.lock();
        self.check(&path.mount)?;
        if !Arc::ptr_eq(&path.dentry, &path.mount.root) {
            return Err(Errno::EINVAL);
        }
        let all = if recursive { subtree(&path.mount) } else { alloc::vec![path.mount.clone()] };
        all.iter().for_each(|m| m.set_kind(kind));
        Ok(())
    }

    /// Changes the flags of a mount, and `of_fs` those of its file system.
    ///
    /// # Errors
    /// `EINVAL` where `path` is no mount's root; `EBUSY` where somebody may write to what becomes read-only.
    pub fn remount(self: &Arc<Self>, path: &Path, flags: u32, of_fs: Option<Change>) -> Result {
        let _trees = TREES.lock();
        self.check(&path.mount)?;
        if !Arc::ptr_eq(&path.dentry, &path.mount.root) {
            return Err(Errno::EINVAL);
        }
        let old = path.mount.flags.load(Relaxed);
        if !keeps_locked(old, flags) {
            return Err(Errno::EPERM);
        }
        let (new, writers) = match (&path.mount.fs, of_fs) {
            (Some(fs), Some(change)) => (change.of(fs.flags.load(Relaxed)), &fs.writers),
            _ => (flags, &path.mount.writers),
        };
        if new & RDONLY != 0 && writers.load(SeqCst) > 0 {
            return Err(Errno::EBUSY);
        }
        path.mount.flags.store(flags | old & LOCKS, Relaxed);
        if let (Some(fs), Some(_)) = (&path.mount.fs, of_fs) {
            fs.flags.store(new, Relaxed);
        }
        self.touch();
        Ok(())
    }

    /// Whether a mount's flags may become these.
    ///
    /// # Errors
    /// `EINVAL` where `path` is no mount's root here, `EPERM` for what is locked.
    pub fn check_flags(self: &Arc<Self>, path: &Path, flags: u32) -> Result {
        self.check(&path.mount)?;
        if !Arc::ptr_eq(&path.dentry, &path.mount.root) {
            return Err(Errno::EINVAL);
        }
        if keeps_locked(path.mount.flags.load(Relaxed), flags) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Whether all of a kernel file system is seen here, so that a further mount of it with these flags shows nothing
    /// new (`mnt_already_visible`); the locks that such a mount starts with.
    pub fn shows_all_of(&self, fstype: &str, flags: u32) -> Option<u32> {
        self.mounts().iter().filter(|m| m.fstype == fstype).find_map(|m| {
            let old = m.flags.load(Relaxed);
            let read_only = RDONLY << LOCK_SHIFT;
            let whole = m.root.parent().is_none();
            let hides = m.children().iter().any(|c| c.has(LOCKED));
            let fits =
                (old & read_only == 0 || flags & RDONLY != 0) && (old & LOCK_ATIME == 0 || (old ^ flags) & ATIME == 0);
            (whole && !hides && fits).then_some(old & (read_only | LOCK_ATIME))
        })
    }

    /// Makes `new` the root of the namespace in place of `root`, the caller's, which goes to `old`
    /// (`pivot_root(2)`). The caller moves processes over that stand at the old root.
    ///
    /// # Errors
    /// `EINVAL`, `EBUSY`, `ENOENT`, `ENOTDIR` as `pivot_root(2)` says.
    pub fn pivot(self: &Arc<Self>, root: &Path, new: &Path, old: &Path) -> Result {
        let _trees = TREES.lock();
        let shared = |m: &Arc<Mount>| m.at().is_some_and(|at| at.mount.is_shared());
        if old.mount.is_shared() || shared(&new.mount) || shared(&root.mount) {
            return Err(Errno::EINVAL);
        }
        self.check(&root.mount)?;
        self.check(&new.mount)?;
        if new.mount.has(LOCKED) {
            return Err(Errno::EINVAL);
        }
        if new.dentry.unlinked() {
            return Err(Errno::ENOENT);
        }
        if Arc::ptr_eq(&new.mount, &root.mount) || Arc::ptr_eq(&old.mount, &root.mount) {
            return Err(Errno::EBUSY);
        }
        let is_root = |p: &Path| Arc::ptr_eq(&p.dentry, &p.mount.root);
        if !is_root(root) || !is_root(new) || new.mount.at().is_none() || !reaches(old, new) || !reaches(new, root) {
            return Err(Errno::EINVAL);
        }
        unhang(&new.mount);
        if root.mount.flags.fetch_and(!LOCKED, Relaxed) & LOCKED != 0 {
            new.mount.flags.fetch_or(LOCKED, Relaxed);
        }
        let place = unhang(&root.mount);
        let old = old.clone().descend();
        old.dentry.pin();
        hang(&root.mount, &old);
        match place {
            Some(place) => hang(&new.mount, &place),
            None => *self.root.write() = Some(new.mount.clone()),
        }
        self.touch();
        Ok(())
    }

    /// A copy of the namespace that `cred` makes for a process whose root and working directory `fs` says; they move
    /// to the copy (`CLONE_NEWNS`). Where the user namespace of `cred` is another one, what is done to the original
    /// still comes to the copy, but not the reverse, and the copy's mounts are locked ([`LOCKED`]).
    ///
    /// # Errors
    /// `ENOMEM`, `ENOSPC` for too many.
    pub fn copy_for(self: &Arc<Self>, fs: &FsContext, cred: &Cred) -> Result<Arc<MountNamespace>> {
        let charge = count::charge(&cred.user_ns, cred.euid, Of::Mount)?;
        let slave = !Arc::ptr_eq(&cred.user_ns, &self.user_ns);
        let places = (fs.root(), fs.cwd());
        let trees = TREES.lock();
        let root = self.root().ok_or(Errno::EINVAL)?;
        let relation = if slave { Relation::Slave { shared: false } } else { Relation::Peer };
        let copy = copy_tree(&root.root_path(), relation, true, true)?;
        if slave {
            lock(&copy);
        }
        let ns = MountNamespace::of(copy.clone(), cred.user_ns.clone(), Some(charge));
        let moved = |path: Path| {
            let mut way = Vec::new();
            let mut at = path.mount.clone();
            while let Some(place) = at.at() {
                at = place.mount.clone();
                way.push(place.dentry);
            }
            if !Arc::ptr_eq(&at, &root) {
                return path;
            }
            let mut to = copy.clone();
            for dentry in way.iter().rev() {
                match to.child(dentry) {
                    Some(next) => to = next,
                    None => return path,
                }
            }
            Path { mount: to, dentry: path.dentry }
        };
        let (root, cwd) = (moved(places.0), moved(places.1));
        drop(trees);
        fs.enter(root, cwd, ns.clone());
        Ok(ns)
    }
}

/// Whether `mount` is `other` or lies on it.
pub(super) fn below(mount: &Arc<Mount>, other: &Arc<Mount>) -> bool {
    let mut at = mount.clone();
    loop {
        if Arc::ptr_eq(&at, other) {
            return true;
        }
        let Some(place) = at.at() else { return false };
        at = place.mount;
    }
}

/// Whether `path` lies at or below `root`.
fn reaches(path: &Path, root: &Path) -> bool {
    let mut at = path.clone();
    while !Arc::ptr_eq(&at.mount, &root.mount) {
        match at.mount.at() {
            Some(place) => at = place,
            None => return false,
        }
    }
    at.dentry.is_below(&root.dentry)
}
