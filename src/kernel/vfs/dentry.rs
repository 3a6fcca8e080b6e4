//! Dentries: names in the tree, known and known to be absent.
//!
//! The children of a directory are looked up here first. In a cached file system (memory) they *are*
//! the directory: what is not here lies on the host's tree below, or nowhere. In file systems whose
//! names change on their own only what is mounted on, or still in use, is kept.
//!
//! Locks: a directory's children before a child's children before a link; the two directories of a
//! rename with the upper one first, else by address.

use super::file::OpCtx;
use super::inode::{Directory, FileType, Inode, NewNode};
use crate::abi::linux::{RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT};
use crate::abi::{Errno, Result};
use crate::sync::deferred::drop_later;
use crate::sync::{Level, Mutex, RwLock, WriteGuard};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use hashbrown::HashMap;

struct Link {
    parent: Option<Arc<Dentry>>,
    name: Box<[u8]>,
    unlinked: bool,
}

/// What is known of a name.
pub(super) enum Child {
    /// It is there.
    Live(Arc<Dentry>),
    /// It was there, and whoever uses it keeps it alive (uncached file systems).
    Fleeting(Weak<Dentry>),
    /// The layer below does not have it.
    Absent,
    /// It was removed, whatever the layer below has.
    Whiteout,
}

pub(super) type Children = HashMap<Box<[u8]>, Child>;

/// A name in the tree and the inode that it leads to.
pub struct Dentry {
    /// What the name leads to.
    pub inode: Arc<dyn Inode>,
    link: Mutex<Link>,
    pub(super) children: RwLock<Children>,
    /// Mounts whose mount point this is.
    pub mounts: AtomicU32,
    /// Found since the cache was last trimmed.
    pub(super) used: AtomicBool,
}

impl Drop for Dentry {
    fn drop(&mut self) {
        // A removed directory keeps those above it, as many as a guest has made.
        if let Some(parent) = self.link.get_mut().parent.take() {
            drop_later(parent);
        }
    }
}

/// Serialises renames, so that two directories cannot become each other's descendants.
static RENAME: Mutex<()> = Mutex::new(Level::Rename, ());

impl Dentry {
    /// The root of a file system.
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Dentry> {
        Dentry::named(inode, None, b"")
    }

    fn named(inode: Arc<dyn Inode>, parent: Option<Arc<Dentry>>, name: &[u8]) -> Arc<Dentry> {
        Arc::new(Dentry {
            inode,
            link: Mutex::new(Level::Dentry, Link { parent, name: name.into(), unlinked: false }),
            children: RwLock::new(Level::Dentry, HashMap::new()),
            mounts: AtomicU32::new(0),
            used: AtomicBool::new(true),
        })
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.inode.file_type() == FileType::Dir
    }

    /// Directory operations.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn dir(&self) -> Result<&dyn Directory> {
        self.inode.as_dir().ok_or(Errno::ENOTDIR)
    }

    /// The directory that holds it; `None` at a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.link.lock().parent.clone()
    }

    /// Its name (empty at a root).
    pub fn name(&self) -> Vec<u8> {
        self.link.lock().name.to_vec()
    }

    /// Whether the name was removed.
    pub fn unlinked(&self) -> bool {
        self.link.lock().unlinked
    }

    /// The dentry called `name` in this directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, what the file system says.
    pub fn child(self: &Arc<Self>, ctx: &OpCtx<'_>, name: &[u8]) -> Result<Arc<Dentry>> {
        if let Some(known) = self.known_child(name) {
            return known;
        }
        if !self.inode.cacheable() {
            return self.fleeting_child(ctx, name);
        }
        let found = self.dir()?.lookup(ctx, name);
        let mut children = self.children.write();
        let child = self.import(&mut children, name, found);
        drop(children);
        super::trim::after_import(self);
        child
    }

    /// As [`Dentry::child`] without asking the file system: `None` where it would have to be asked.
    pub fn known_child(&self, name: &[u8]) -> Option<Result<Arc<Dentry>>> {
        match self.children.read().get(name) {
            Some(Child::Live(known)) => {
                if !known.used.load(Relaxed) {
                    known.used.store(true, Relaxed);
                }
                return Some(Ok(known.clone()));
            }
            Some(Child::Absent | Child::Whiteout) => return Some(Err(Errno::ENOENT)),
            _ => {}
        }
        let complete = self.inode.cacheable() && !self.inode.layered();
        complete.then(|| Err(if self.is_dir() { Errno::ENOENT } else { Errno::ENOTDIR }))
    }

    /// Enters what the layer below has under `name`, unless somebody else was faster.
    fn import(
        self: &Arc<Self>,
        children: &mut Children,
        name: &[u8],
        found: Result<Arc<dyn Inode>>,
    ) -> Result<Arc<Dentry>> {
        match children.get(name) {
            Some(Child::Live(known)) => return Ok(known.clone()),
            Some(Child::Absent | Child::Whiteout) => return Err(Errno::ENOENT),
            _ => {}
        }
        children.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        match found {
            Ok(inode) => {
                let dentry = Dentry::named(inode, Some(self.clone()), name);
                children.insert(name.into(), Child::Live(dentry.clone()));
                Ok(dentry)
            }
            Err(Errno::ENOENT) => {
                children.insert(name.into(), Child::Absent);
                Err(Errno::ENOENT)
            }
            Err(e) => Err(e),
        }
    }

    /// A name of an uncached file system: looked up anew, but whoever uses the same file still has the
    /// same dentry, so that working directories, roots and mount points keep their identity.
    fn fleeting_child(self: &Arc<Self>, ctx: &OpCtx<'_>, name: &[u8]) -> Result<Arc<Dentry>> {
        let inode = self.dir()?.lookup(ctx, name)?;
        if !inode.has_identity() {
            return Ok(Dentry::named(inode, Some(self.clone()), name));
        }
        let mut children = self.children.write();
        if let Some(Child::Fleeting(known)) = children.get(name)
            && let Some(known) = known.upgrade()
            && known.inode.identity() == inode.identity()
        {
            return Ok(known);
        }
        let dentry = Dentry::named(inode, Some(self.clone()), name);
        if dentry.is_dir() {
            if children.len() == children.capacity() {
                children.retain(|_, c| !matches!(c, Child::Fleeting(d) if d.strong_count() == 0));
            }
            children.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            children.insert(name.into(), Child::Fleeting(Arc::downgrade(&dentry)));
        }
        Ok(dentry)
    }

    /// Forgets this name, so that the layer below is asked again. Whoever uses the dentry keeps it.
    /// `false` if there is more to it than the layer below knows.
    pub(super) fn forget(self: &Arc<Self>) -> bool {
        let Some(parent) = self.parent() else { return false };
        let mut children = parent.children.write();
        if !self.inode.forgettable() || self.mounts.load(SeqCst) > 0 {
            return false;
        }
        let name = self.name();
        let gone = match children.get(name.as_slice()) {
            Some(Child::Live(known)) if Arc::ptr_eq(known, self) => children.remove(name.as_slice()),
            _ => None,
        };
        drop(children);
        drop(gone);
        true
    }

    /// Keeps this dentry and those above it from being forgotten: something is mounted here.
    pub(super) fn pin(self: &Arc<Self>) {
        let mut at = self.clone();
        while let Some(parent) = at.parent() {
            if !parent.inode.cacheable() {
                parent.children.write().insert(at.name().into(), Child::Live(at.clone()));
            }
            at = parent;
        }
    }

    /// Makes a node called `name`.
    ///
    /// # Errors
    /// `EEXIST`, what the file system says.
    pub fn create(self: &Arc<Self>, ctx: &OpCtx<'_>, name: &[u8], node: NewNode<'_>, mode: u32) -> Result<Arc<Dentry>> {
        let dir = self.dir()?;
        let mut children = self.free_name(ctx, name)?;
        let inode = dir.create(ctx, name, node, mode)?;
        let dentry = Dentry::named(inode, Some(self.clone()), name);
        if self.inode.cacheable() {
            children.insert(name.into(), Child::Live(dentry.clone()));
        }
        Ok(dentry)
    }

    /// Makes a regular file of this directory's file system that has no name.
    ///
    /// # Errors
    /// `ENOENT` in a removed directory, what the file system says.
    pub fn nameless(self: &Arc<Self>, ctx: &OpCtx<'_>, mode: u32) -> Result<Arc<Dentry>> {
        if self.unlinked() {
            return Err(Errno::ENOENT);
        }
        let inode = self.dir()?.nameless(ctx, mode)?;
        let shown = alloc::format!("#{}", inode.identity()?.1);
        let dentry = Dentry::named(inode, Some(self.clone()), shown.as_bytes());
        dentry.link.lock().unlinked = true;
        Ok(dentry)
    }

    /// Puts an inode that already has a name here under a further one.
    ///
    /// # Errors
    /// `EEXIST`, `EXDEV`, what the file system says.
    pub fn link(self: &Arc<Self>, ctx: &OpCtx<'_>, name: &[u8], inode: &Arc<dyn Inode>) -> Result {
        let dir = self.dir()?;
        let mut children = self.free_name(ctx, name)?;
        dir.link(ctx, name, inode)?;
        if self.inode.cacheable() {
            children.insert(name.into(), Child::Live(Dentry::named(inode.clone(), Some(self.clone()), name)));
        }
        Ok(())
    }

    /// The directory's children, locked, with room for one more, and `name` not among them.
    fn free_name(self: &Arc<Self>, ctx: &OpCtx<'_>, name: &[u8]) -> Result<WriteGuard<'_, Children>> {
        // What the layer below has must be known first; that look-up takes no lock along.
        if self.inode.cacheable() {
            match self.child(ctx, name) {
                Ok(_) => return Err(Errno::EEXIST),
                Err(Errno::ENOENT) => {}
                Err(e) => return Err(e),
            }
        }
        let mut children = self.children.write();
        if let Some(Child::Live(_)) = children.get(name) {
            return Err(Errno::EEXIST);
        }
        // Under the children's lock: rmdir says so under it, too.
        if self.unlinked() {
            return Err(Errno::ENOENT);
        }
        children.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        Ok(children)
    }

    /// What stands for a name that was taken away.
    fn gone(&self, children: &mut Children, name: &[u8]) {
        if self.inode.cacheable() && self.inode.layered() {
            children.insert(name.into(), Child::Whiteout);
        } else {
            children.remove(name);
        }
    }

    /// Removes the name of `victim`, a child of this directory.
    ///
    /// # Errors
    /// `EBUSY` for a mount point, `ESTALE` if the name leads elsewhere by now, what the file system says.
    pub fn unlink(self: &Arc<Self>, ctx: &OpCtx<'_>, victim: &Arc<Dentry>, is_dir: bool) -> Result {
        let dir = self.dir()?;
        let mut children = self.children.write();
        if victim.mounts.load(SeqCst) > 0 {
            return Err(Errno::EBUSY);
        }
        let name = victim.name();
        if self.inode.cacheable() {
            match children.get(name.as_slice()) {
                Some(Child::Live(d)) if Arc::ptr_eq(d, victim) => {}
                _ => return Err(Errno::ESTALE),
            }
        }
        if !is_dir {
            dir.unlink(ctx, &name, &victim.inode, false)?;
            self.gone(&mut children, &name);
            victim.link.lock().unlinked = true;
            return Ok(());
        }
        let inner = victim.children.write();
        victim.check_empty(ctx, &inner)?;
        dir.unlink(ctx, &name, &victim.inode, true)?;
        self.gone(&mut children, &name);
        victim.link.lock().unlinked = true;
        Ok(())
    }

    /// `ENOTEMPTY` if a cached directory has entries: known here, or on the layer below. Uncached file
    /// systems look for themselves.
    fn check_empty(&self, ctx: &OpCtx<'_>, children: &Children) -> Result {
        if !self.inode.cacheable() {
            return Ok(());
        }
        let mut empty = true;
        self.entries_of(ctx, children, &mut |_, _, _| {
            empty = false;
            false
        })?;
        if empty { Ok(()) } else { Err(Errno::ENOTEMPTY) }
    }

    /// Every entry of a directory: known names, then names of the file system that are not known here
    /// (not imported, not whited out), until `emit(name, ino, type)` says `false`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn entries(&self, ctx: &OpCtx<'_>, emit: &mut dyn FnMut(&[u8], u64, FileType) -> bool) -> Result {
        if !self.inode.cacheable() {
            return self.dir()?.read_dir(ctx, 0, &mut |name, ino, kind, _| emit(name, ino, kind));
        }
        self.entries_of(ctx, &self.children.read(), emit)
    }

    fn entries_of(
        &self,
        ctx: &OpCtx<'_>,
        children: &Children,
        emit: &mut dyn FnMut(&[u8], u64, FileType) -> bool,
    ) -> Result {
        for (name, child) in children {
            if let Child::Live(child) = child {
                let ino = child.inode.identity().map_or(1, |(_, ino)| ino);
                if !emit(name, ino, child.inode.file_type()) {
                    return Ok(());
                }
            }
        }
        if !self.inode.layered() {
            return Ok(());
        }
        self.dir()?.read_dir(ctx, 0, &mut |name, ino, kind, _| match children.get(name) {
            // An absent name that the layer below has after all was made there since.
            Some(Child::Live(_) | Child::Whiteout | Child::Absent) => true,
            _ => emit(name, ino, kind),
        })
    }

    /// Moves `old` (a child of `self`) to `new_name` in `new_dir`. `target` is what stands there now.
    ///
    /// # Errors
    /// `EINVAL` for a move into itself, `ENOTEMPTY`, `EEXIST`, `ESTALE` if one of the names leads elsewhere
    /// by now, what the file system says.
    pub fn rename(
        self: &Arc<Self>,
        ctx: &OpCtx<'_>,
        old: &Arc<Dentry>,
        new_dir: &Arc<Dentry>,
        new_name: &[u8],
        target: Option<&Arc<Dentry>>,
        flags: u32,
    ) -> Result {
        let _serial = RENAME.lock();
        let exchange = flags & RENAME_EXCHANGE != 0;
        check_rename(old, new_dir, target, exchange)?;
        if target.is_some() && flags & RENAME_NOREPLACE != 0 {
            return Err(Errno::EEXIST);
        }
        let mut dirs = Pair::lock(self, new_dir);
        if old.mounts.load(SeqCst) > 0 || target.is_some_and(|t| t.mounts.load(SeqCst) > 0) {
            return Err(Errno::EBUSY);
        }
        let old_name = old.name();
        dirs.check_unchanged(self, old, new_dir, new_name, target)?;
        let inner = match target {
            Some(t) if t.is_dir() && !exchange => {
                let inner = t.children.write();
                t.check_empty(ctx, &inner)?;
                Some(inner)
            }
            _ => None,
        };
        let cached = self.inode.cacheable();
        // What stays at the old name: a device that stands for "nothing" in an upper layer of an overlay.
        let whiteout = if flags & RENAME_WHITEOUT != 0 && cached {
            let node = NewNode::Node(FileType::Char, 0);
            Some(Dentry::named(self.dir()?.create(ctx, &old_name, node, 0)?, Some(self.clone()), &old_name))
        } else {
            None
        };
        let target_inode = target.map(|t| &t.inode);
        self.dir()?.rename(ctx, &old_name, &old.inode, &new_dir.inode, new_name, target_inode, flags)?;
        match target {
            Some(t) if exchange => {
                if cached {
                    dirs.from().insert(old_name.as_slice().into(), Child::Live(t.clone()));
                }
                t.moved(self, &old_name);
            }
            _ => {
                match whiteout {
                    Some(node) => drop(dirs.from().insert(old_name.as_slice().into(), Child::Live(node))),
                    None => self.gone(dirs.from(), &old_name),
                }
                if let Some(t) = target {
                    t.link.lock().unlinked = true;
                }
            }
        }
        let child = if cached { Child::Live(old.clone()) } else { Child::Fleeting(Arc::downgrade(old)) };
        dirs.to().insert(new_name.into(), child);
        drop(inner);
        drop(dirs);
        old.moved(new_dir, new_name);
        Ok(())
    }

    fn moved(&self, parent: &Arc<Dentry>, name: &[u8]) {
        let mut link = self.link.lock();
        let above = link.parent.replace(parent.clone());
        link.name = name.into();
        drop(link);
        drop(above);
    }

    /// Takes a tree apart that nobody can reach any more: children hold their parents and the reverse.
    pub(super) fn dissolve(self: &Arc<Self>) {
        let mut todo = Vec::new();
        let mut next = Some(self.clone());
        while let Some(d) = next {
            let children = core::mem::take(&mut *d.children.write());
            if todo.try_reserve(children.len()).is_err() {
                log::error!("out of memory: a file system that is gone is not freed");
                return;
            }
            for child in children.into_values() {
                if let Child::Live(c) = child {
                    drop(c.link.lock().parent.take());
                    todo.push(c);
                }
            }
            next = todo.pop();
        }
    }

    /// Its path from the root of its file system.
    ///
    /// # Errors
    /// `ENAMETOOLONG` for a path of `PATH_MAX` bytes or more.
    pub fn path_in_fs(self: &Arc<Self>) -> Result<Vec<u8>> {
        // From the last name to the first, each written backwards.
        let mut out = Vec::new();
        let mut at = self.clone();
        while let Some(parent) = at.parent() {
            let name = at.name();
            if out.len() + name.len() + 1 > super::resolve::PATH_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            out.extend(name.iter().rev());
            out.push(b'/');
            at = parent;
        }
        if out.is_empty() {
            out.push(b'/');
        }
        out.reverse();
        Ok(out)
    }

    /// Whether `self` is `other` or lies below it.
    pub fn is_below(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(self.clone());
        while let Some(d) = at {
            if Arc::ptr_eq(&d, other) {
                return true;
            }
            at = d.parent();
        }
        false
    }
}

/// The children of a rename's two directories, which may be one.
struct Pair<'a> {
    from: WriteGuard<'a, Children>,
    to: Option<WriteGuard<'a, Children>>,
}

impl<'a> Pair<'a> {
    fn lock(from: &'a Arc<Dentry>, to: &'a Arc<Dentry>) -> Pair<'a> {
        if Arc::ptr_eq(from, to) {
            return Pair { from: from.children.write(), to: None };
        }
        let to_first = from.is_below(to) || !to.is_below(from) && Arc::as_ptr(to) < Arc::as_ptr(from);
        if to_first {
            let to = to.children.write();
            return Pair { from: from.children.write(), to: Some(to) };
        }
        let from = from.children.write();
        Pair { from, to: Some(to.children.write()) }
    }

    fn from(&mut self) -> &mut Children {
        &mut self.from
    }

    fn to(&mut self) -> &mut Children {
        self.to.as_mut().unwrap_or(&mut self.from)
    }

    /// Both names still lead to what the caller found, and there is room for what will be entered.
    fn check_unchanged(
        &mut self,
        from: &Dentry,
        old: &Arc<Dentry>,
        to: &Dentry,
        new_name: &[u8],
        target: Option<&Arc<Dentry>>,
    ) -> Result {
        self.from.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.to().try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        if !from.inode.cacheable() {
            return Ok(());
        }
        let is =
            |child: Option<&Child>, want: &Arc<Dentry>| matches!(child, Some(Child::Live(d)) if Arc::ptr_eq(d, want));
        if to.unlinked() {
            return Err(Errno::ENOENT);
        }
        if !is(self.from.get(old.name().as_slice()), old) {
            return Err(Errno::ESTALE);
        }
        let there = self.to().get(new_name);
        match target {
            Some(t) if !is(there, t) => Err(Errno::ESTALE),
            None if matches!(there, Some(Child::Live(_))) => Err(Errno::ESTALE),
            _ => Ok(()),
        }
    }
}

fn check_rename(old: &Arc<Dentry>, new_dir: &Arc<Dentry>, target: Option<&Arc<Dentry>>, exchange: bool) -> Result {
    if old.is_dir() && new_dir.is_below(old) {
        return Err(Errno::EINVAL);
    }
    let Some(t) = target else {
        return if exchange { Err(Errno::ENOENT) } else { Ok(()) };
    };
    match (old.is_dir(), t.is_dir()) {
        _ if exchange => Ok(()),
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}
