//! Dentries: names in the tree, known and known to be absent.

use super::file::OpCtx;
use super::inode::{Directory, FileType, Inode, NewNode};
use crate::abi::{Errno, Result};
use crate::sync::{Level, Mutex, RwLock};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use hashbrown::HashMap;

struct Link {
    parent: Option<Arc<Dentry>>,
    name: Box<[u8]>,
    unlinked: bool,
}

/// A name in the tree and the inode that it leads to.
pub struct Dentry {
    /// What the name leads to.
    pub inode: Arc<dyn Inode>,
    link: Mutex<Link>,
    children: RwLock<HashMap<Box<[u8]>, Option<Arc<Dentry>>>>,
    /// Mounts whose mount point this is.
    pub mounts: AtomicU32,
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
        let cacheable = self.inode.cacheable();
        if cacheable && let Some(known) = self.children.read().get(name) {
            return known.clone().ok_or(Errno::ENOENT);
        }
        let found = self.dir()?.lookup(ctx, name);
        match found {
            Ok(inode) if cacheable => {
                let mut children = self.children.write();
                // Somebody else may have been faster; there is only one dentry per name.
                if let Some(known) = children.get(name) {
                    return known.clone().ok_or(Errno::ENOENT);
                }
                let dentry = Dentry::named(inode, Some(self.clone()), name);
                children.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                children.insert(name.into(), Some(dentry.clone()));
                Ok(dentry)
            }
            Ok(inode) => Ok(Dentry::named(inode, Some(self.clone()), name)),
            Err(Errno::ENOENT) if cacheable => {
                let mut children = self.children.write();
                children.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                children.entry(name.into()).or_insert(None);
                Err(Errno::ENOENT)
            }
            Err(e) => Err(e),
        }
    }

    /// Makes a node called `name`.
    ///
    /// # Errors
    /// `EEXIST`, what the file system says.
    pub fn create(self: &Arc<Self>, ctx: &OpCtx<'_>, name: &[u8], node: NewNode<'_>, mode: u32) -> Result<Arc<Dentry>> {
        if self.unlinked() {
            return Err(Errno::ENOENT);
        }
        let dir = self.dir()?;
        if !self.inode.cacheable() {
            let inode = dir.create(ctx, name, node, mode)?;
            return Ok(Dentry::named(inode, Some(self.clone()), name));
        }
        let mut children = self.children.write();
        if let Some(Some(_)) = children.get(name) {
            return Err(Errno::EEXIST);
        }
        children.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let inode = dir.create(ctx, name, node, mode)?;
        let dentry = Dentry::named(inode, Some(self.clone()), name);
        children.insert(name.into(), Some(dentry.clone()));
        Ok(dentry)
    }

    /// Puts an inode that already has a name here under a further one.
    ///
    /// # Errors
    /// `EEXIST`, `EXDEV`, what the file system says.
    pub fn link(self: &Arc<Self>, ctx: &OpCtx<'_>, name: &[u8], inode: &Arc<dyn Inode>) -> Result {
        let dir = self.dir()?;
        if !self.inode.cacheable() {
            return dir.link(ctx, name, inode);
        }
        let mut children = self.children.write();
        if let Some(Some(_)) = children.get(name) {
            return Err(Errno::EEXIST);
        }
        children.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        dir.link(ctx, name, inode)?;
        children.insert(name.into(), Some(Dentry::named(inode.clone(), Some(self.clone()), name)));
        Ok(())
    }

    /// Removes the name of `victim`, a child of this directory.
    ///
    /// # Errors
    /// `EBUSY` for a mount point, what the file system says.
    pub fn unlink(self: &Arc<Self>, ctx: &OpCtx<'_>, victim: &Arc<Dentry>, is_dir: bool) -> Result {
        if victim.mounts.load(Ordering::SeqCst) > 0 {
            return Err(Errno::EBUSY);
        }
        let name = victim.name();
        let dir = self.dir()?;
        if !self.inode.cacheable() {
            dir.unlink(ctx, &name, &victim.inode, is_dir)?;
            victim.link.lock().unlinked = true;
            return Ok(());
        }
        let mut children = self.children.write();
        match children.get(name.as_slice()) {
            Some(Some(d)) if Arc::ptr_eq(d, victim) => {}
            _ => return Err(Errno::ENOENT),
        }
        if is_dir && !victim.is_empty_dir(ctx)? {
            return Err(Errno::ENOTEMPTY);
        }
        dir.unlink(ctx, &name, &victim.inode, is_dir)?;
        children.insert(name.into(), None);
        drop(children);
        victim.link.lock().unlinked = true;
        Ok(())
    }

    /// Whether a cached directory has no entries: neither known here nor on a layer below.
    fn is_empty_dir(&self, ctx: &OpCtx<'_>) -> Result<bool> {
        if !self.inode.cacheable() {
            return Ok(true);
        }
        let mut empty = true;
        self.entries(ctx, &mut |_, _, _| {
            empty = false;
            false
        })?;
        Ok(empty)
    }

    /// Every entry of a cached directory: known names, then names of the file system that are not
    /// known here (not imported, not whited out), until `emit(name, ino, type)` says `false`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn entries(&self, ctx: &OpCtx<'_>, emit: &mut dyn FnMut(&[u8], u64, FileType) -> bool) -> Result {
        let children = self.children.read();
        for (name, child) in children.iter() {
            if let Some(child) = child {
                let ino = child.inode.identity().map_or(1, |(_, ino)| ino);
                if !emit(name, ino, child.inode.file_type()) {
                    return Ok(());
                }
            }
        }
        self.dir()?.read_dir(ctx, 0, &mut |name, ino, kind, _| {
            if children.contains_key(name) { true } else { emit(name, ino, kind) }
        })
    }

    /// Moves `old` (a child of `self`) to `new_name` in `new_dir`. `target` is what stands there now.
    ///
    /// # Errors
    /// `EINVAL` for a move into itself, `ENOTEMPTY`, `EEXIST`, what the file system says.
    pub fn rename(
        self: &Arc<Self>,
        ctx: &OpCtx<'_>,
        old: &Arc<Dentry>,
        new_dir: &Arc<Dentry>,
        new_name: &[u8],
        target: Option<&Arc<Dentry>>,
        flags: u32,
    ) -> Result {
        use crate::abi::linux::{RENAME_EXCHANGE, RENAME_NOREPLACE};
        let _serial = RENAME.lock();
        let exchange = flags & RENAME_EXCHANGE != 0;
        check_rename(ctx, old, new_dir, target, exchange)?;
        if target.is_some() && flags & RENAME_NOREPLACE != 0 {
            return Err(Errno::EEXIST);
        }
        if old.mounts.load(Ordering::SeqCst) > 0 || target.is_some_and(|t| t.mounts.load(Ordering::SeqCst) > 0) {
            return Err(Errno::EBUSY);
        }
        let old_name = old.name();
        let dir = self.dir()?;
        let target_inode = target.map(|t| &t.inode);
        dir.rename(ctx, &old_name, &old.inode, &new_dir.inode, new_name, target_inode, flags)?;
        if !self.inode.cacheable() {
            return Ok(());
        }
        if exchange && let Some(t) = target {
            self.children.write().insert(old_name.clone().into(), Some(t.clone()));
            new_dir.children.write().insert(new_name.into(), Some(old.clone()));
            let mut link = t.link.lock();
            link.parent = Some(self.clone());
            link.name = old_name.into();
        } else {
            self.children.write().insert(old_name.into(), None);
            new_dir.children.write().insert(new_name.into(), Some(old.clone()));
            if let Some(t) = target {
                t.link.lock().unlinked = true;
            }
        }
        let mut link = old.link.lock();
        link.parent = Some(new_dir.clone());
        link.name = new_name.into();
        Ok(())
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

fn check_rename(
    ctx: &OpCtx<'_>,
    old: &Arc<Dentry>,
    new_dir: &Arc<Dentry>,
    target: Option<&Arc<Dentry>>,
    exchange: bool,
) -> Result {
    if old.is_dir() && new_dir.is_below(old) {
        return Err(Errno::EINVAL);
    }
    let Some(t) = target else {
        return if exchange { Err(Errno::ENOENT) } else { Ok(()) };
    };
    if exchange {
        return Ok(());
    }
    match (old.is_dir(), t.is_dir()) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        (true, true) if !t.is_empty_dir(ctx)? => Err(Errno::ENOTEMPTY),
        _ => Ok(()),
    }
}
