//! Trees of mounts that no process's namespace has: what `fsmount(2)` and `open_tree(2)` make. Each has a namespace of
//! its own, which ends with the descriptor that holds it.

use super::namespace::copy_tree;
use super::propagation::{Kind, Relation};
use super::{Mount, MountNamespace, Path, TREES};
use crate::abi::{Errno, Result};
use crate::cred::UserNamespace;
use crate::sync::deferred::drop_later;
use crate::vfs::{FileOps, OpenFile};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// Keeps a detached tree.
struct Tree(Option<Arc<MountNamespace>>);

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some(ns) = self.0.take() {
            drop_later(ns);
        }
    }
}

impl FileOps for Tree {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A descriptor (`O_PATH`) of the tree that `top` is the root of.
fn opened(top: &Arc<Mount>, ns: Arc<MountNamespace>) -> Arc<OpenFile> {
    let path = top.root_path();
    OpenFile::new(Box::new(Tree(Some(ns))), path.inode().clone(), path, crate::abi::linux::O_PATH)
}

/// The new mount `mount` as a tree of its own.
pub fn open_mount(mount: &Arc<Mount>, user_ns: &Arc<UserNamespace>) -> Arc<OpenFile> {
    opened(mount, MountNamespace::detached(mount.clone(), user_ns.clone()))
}

impl MountNamespace {
    /// A copy of what is at `from`, with `recursive` of what is mounted below it as well, as a tree of its own.
    ///
    /// # Errors
    /// `EINVAL` for what cannot be bound, `ENOMEM`.
    pub fn open_copy(self: &Arc<Self>, from: &Path, recursive: bool) -> Result<Arc<OpenFile>> {
        let _trees = TREES.lock();
        let of = from.mount.namespace().filter(|ns| Arc::ptr_eq(ns, self) || ns.is_detached()).ok_or(Errno::EINVAL)?;
        if from.mount.propagation().2 {
            return Err(Errno::EINVAL);
        }
        of.check_hidden(from, recursive)?;
        let top = copy_tree(from, Relation::Peer, recursive, false)?;
        Ok(opened(&top, MountNamespace::detached(top.clone(), self.user_ns.clone())))
    }

    /// Mounts a detached tree at `to`, or beneath the mount whose root that is, for a process whose root is `beneath`.
    ///
    /// # Errors
    /// As [`MountNamespace::attach`]; `EINVAL` where `from` is not the root of the tree.
    pub fn take_in(self: &Arc<Self>, from: &Path, to: &Path, beneath: Option<&Path>) -> Result {
        let trees = TREES.lock();
        let ns = from.mount.namespace().filter(|ns| ns.is_detached()).ok_or(Errno::EINVAL)?;
        if !Arc::ptr_eq(&from.dentry, &from.mount.root) || from.mount.at().is_some() {
            return Err(Errno::EINVAL);
        }
        if from.dentry.is_dir() != to.dentry.is_dir() {
            return Err(Errno::EINVAL);
        }
        match beneath {
            Some(root) => self.graft_at(&from.mount, self.beneath(to, None, root)?)?,
            None => self.graft(&from.mount, to)?,
        }
        let gone = ns.let_go();
        drop(trees);
        drop(gone);
        Ok(())
    }

    /// Changes a mount's flags by `change`, with `recursive` those of all below, and how it hangs together with others:
    /// of all or of none (`mount_setattr(2)`).
    ///
    /// # Errors
    /// `EINVAL` where `path` is no mount's root in this namespace or a detached tree, `EPERM`, `EBUSY`.
    pub fn set_attributes(
        self: &Arc<Self>,
        path: &Path,
        change: impl Fn(u32) -> u32,
        kind: Option<Kind>,
        recursive: bool,
    ) -> Result {
        let _trees = TREES.lock();
        let ns = path.mount.namespace().ok_or(Errno::EINVAL)?;
        if !Arc::ptr_eq(&ns, self) && !ns.is_detached() || !Arc::ptr_eq(&path.dentry, &path.mount.root) {
            return Err(Errno::EINVAL);
        }
        let all: Vec<Arc<Mount>> = super::namespace::members(&path.mount, recursive);
        for m in &all {
            m.may_become(change(m.own_flags()))?;
        }
        for m in &all {
            m.become_flagged(change(m.own_flags()));
            if let Some(kind) = kind {
                m.set_kind(kind);
            }
        }
        Ok(())
    }
}
