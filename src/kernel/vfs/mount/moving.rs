//! Moving mounts: to another place, beneath another mount, and into the groups of one (`move_mount(2)`).

use super::namespace::{below, hang, subtree, unhang};
use super::propagation::each_target;
use super::{LOCKED, Mount, MountNamespace, Path, TREES};
use crate::abi::{Errno, Result};
use crate::vfs::marks;
use alloc::sync::Arc;

impl MountNamespace {
    /// The place at which a mount comes to lie beneath the one whose root `to` is (`can_move_mount_beneath` in Linux).
    ///
    /// # Errors
    /// `EINVAL` where `to` is no mount's root, is locked, covered, or the root of a process's tree, or would be covered
    /// by what spreads from below.
    pub(super) fn beneath(self: &Arc<Self>, to: &Path, moved: Option<&Arc<Mount>>, root: &Path) -> Result<Path> {
        let mount = &to.mount;
        self.check(mount)?;
        let is_root = Arc::ptr_eq(&to.dentry, &mount.root);
        let place = mount.at().filter(|_| is_root && !mount.has(LOCKED)).ok_or(Errno::EINVAL)?;
        if mount.child(&mount.root).is_some()
            || Arc::ptr_eq(mount, &root.mount)
            || moved.is_some_and(|m| below(m, mount))
        {
            return Err(Errno::EINVAL);
        }
        let mut covered = false;
        each_target(&place.mount, (), &mut |target, _, ()| {
            let hit = |m: &Arc<Mount>| Arc::ptr_eq(m, target) && Arc::ptr_eq(&m.root, &place.dentry);
            covered |= hit(mount) || moved.is_some_and(hit);
            Ok(None)
        })?;
        if covered { Err(Errno::EINVAL) } else { Ok(place) }
    }

    /// Puts the mount whose root `to` is into the groups of the one whose root `from` is (`MOVE_MOUNT_SET_GROUP`).
    ///
    /// # Errors
    /// `EINVAL` where one of them is no mount's root, they show different file systems, `to` shows more than `from`, is
    /// in a group already, or `from` is in none.
    pub fn set_group(self: &Arc<Self>, from: &Path, to: &Path) -> Result {
        let _trees = TREES.lock();
        let is_root = |p: &Path| Arc::ptr_eq(&p.dentry, &p.mount.root) && p.mount.namespace().is_some();
        let (source, target) = (&from.mount, &to.mount);
        let same_fs = match (&source.fs, &target.fs) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let grouped = |m: &Arc<Mount>| m.propagation().0.is_some() || m.propagation().1.is_some();
        if !is_root(from)
            || !is_root(to)
            || !same_fs
            || !target.root.is_below(&source.root)
            || source.namespace().is_some_and(|ns| ns.hides_something(source, &target.root))
            || grouped(target)
            || !grouped(source)
        {
            return Err(Errno::EINVAL);
        }
        target.share_with(source);
        Ok(())
    }

    /// Moves the mount whose root `from` is to `to` (`MS_MOVE`), or beneath the mount whose root that is, for a process
    /// whose root is `beneath`.
    ///
    /// # Errors
    /// `EINVAL` where it is no mount's root, or lies on a shared mount; `ELOOP` into itself.
    pub fn move_mount(self: &Arc<Self>, from: &Path, to: &Path, beneath: Option<&Path>) -> Result {
        let _trees = TREES.lock();
        let to = match beneath {
            Some(root) => self.beneath(to, Some(&from.mount), root)?,
            None => to.clone().descend(),
        };
        let mount = &from.mount;
        self.check(mount)?;
        self.check(&to.mount)?;
        let at = mount.at().ok_or(Errno::EINVAL)?;
        let unbindable = || subtree(mount).iter().any(|m| m.propagation().2);
        if !Arc::ptr_eq(&from.dentry, &mount.root)
            || mount.has(LOCKED)
            || from.dentry.is_dir() != to.dentry.is_dir()
            || at.mount.is_shared()
            || to.mount.is_shared() && unbindable()
        {
            return Err(Errno::EINVAL);
        }
        if below(&to.mount, mount) {
            return Err(Errno::ELOOP);
        }
        if to.dentry.unlinked() {
            return Err(Errno::ENOENT);
        }
        self.spread(mount, &to)?;
        unhang(mount);
        to.dentry.pin();
        hang(mount, &to);
        self.touch();
        marks::mounted(self.id, mount.unique_id(), marks::event::MNT_ATTACH | marks::event::MNT_DETACH);
        Ok(())
    }
}
