//! Taking mounts away.

use super::namespace::{members, take_apart};
use super::propagation::each_target;
use super::{LOCKED, Mount, MountNamespace, Path, TREES};
use crate::abi::{Errno, Result};
use crate::vfs::marks;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use hashbrown::HashSet;

impl MountNamespace {
    /// Takes away the mount whose root `path` is, wherever that spreads. With `lazy` everything below it
    /// goes with it, used or not; what is used lives on in no tree.
    ///
    /// # Errors
    /// `EINVAL` if it is none, `EBUSY` if it is used or others are mounted on it.
    pub fn unmount(self: &Arc<Self>, path: Path, lazy: bool) -> Result {
        let trees = TREES.lock();
        let mount = path.mount;
        self.check(&mount)?;
        if !Arc::ptr_eq(&path.dentry, &mount.root) {
            return Err(Errno::EINVAL);
        }
        drop(path.dentry);
        if mount.has(LOCKED) {
            return Err(Errno::EINVAL);
        }
        let at = mount.at().ok_or(if lazy { Errno::EINVAL } else { Errno::EBUSY })?;
        // The mount that it lies on has one reference, this call another.
        if !lazy && (!mount.children().is_empty() || Arc::strong_count(&mount) > 2) {
            return Err(Errno::EBUSY);
        }
        let mut going = members(&mount, lazy);
        drop(mount);
        spread_end(&mut going, lazy)?;
        for m in &going {
            if let Some(ns) = m.namespace() {
                marks::mounted(ns.id, m.unique_id(), marks::event::MNT_DETACH);
            }
        }
        let gone: Vec<_> = going.iter().map(take_apart).collect();
        drop(trees);
        drop((gone, going, at));
        Ok(())
    }

    /// Whether the mount whose root `path` is was used since this was asked last (`MNT_EXPIRE`).
    ///
    /// # Errors
    /// `EAGAIN` if it was, or was not asked before; `EBUSY` while it is in use; `EINVAL` if it is none.
    pub fn expire(self: &Arc<Self>, path: &Path) -> Result {
        self.check(&path.mount)?;
        if !Arc::ptr_eq(&path.dentry, &path.mount.root) {
            return Err(Errno::EINVAL);
        }
        if !path.mount.children().is_empty() || Arc::strong_count(&path.mount) > 2 {
            return Err(Errno::EBUSY);
        }
        // The look-up of the second call counts as one use.
        if path.mount.expiring.swap(2, Relaxed) == 1 { Ok(()) } else { Err(Errno::EAGAIN) }
    }
}

/// Adds to the mounts that are going those of other trees that go with them, because what they lie on is of one peer
/// group or a slave of it. Those stay on which something else lies (`propagate_umount` in `fs/pnode.c`).
///
/// # Errors
/// `EBUSY` where one of these is in use, unless it may be.
fn spread_end(going: &mut Vec<Arc<Mount>>, lazy: bool) -> Result {
    let mut known: HashSet<usize> = going.iter().map(|m| Arc::as_ptr(m) as usize).collect();
    // What lies above comes first, so that who carries it is free of it.
    for at in (0..going.len()).rev() {
        let mount = going[at].clone();
        let Some(place) = mount.at() else { continue };
        each_target(&place.mount, (), &mut |target, _, ()| {
            let same = |c: &Arc<Mount>| Arc::ptr_eq(&c.root, &mount.root);
            let Some(child) = target.child(&place.dentry).filter(same) else { return Ok(None) };
            let on_it = child.children();
            if !lazy && on_it.is_empty() && Arc::strong_count(&child) > 2 {
                return Err(Errno::EBUSY);
            }
            let free = on_it.iter().all(|m| known.contains(&(Arc::as_ptr(m) as usize)));
            if free && known.insert(Arc::as_ptr(&child) as usize) {
                going.push(child);
            }
            Ok(None)
        })?;
    }
    Ok(())
}
