//! Handles of files (`name_to_handle_at(2)`): by device and inode number the file is found again, wherever its name is.
//!
//! What was asked for last is kept, so that a clean file of the host is found although nobody uses it; files in memory
//! live as long as they have a name.

use super::dentry::Dentry;
use super::inode::Inode;
use super::mount::Path;
use super::notify::Id;
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::sync::{Level, Mutex};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use hashbrown::HashMap;

/// The type of our handles: a number that Linux gives to none.
pub const KIND: u32 = 0x71;
/// The type of handles that are only compared (`FILEID_INO64_GEN`).
pub const FID_KIND: u32 = 0x81;

/// Files that are kept.
const KEPT: usize = 1024;

#[derive(Default)]
struct Known {
    by_id: HashMap<Id, Weak<Dentry>>,
    kept: VecDeque<Arc<Dentry>>,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(Level::Leaf, None);

/// Device and inode number of the file that `dentry` leads to, which can be found by them from now on.
///
/// # Errors
/// `EOPNOTSUPP` for file systems whose files have no lasting numbers, `ENOMEM`.
pub fn handle_of(dentry: &Arc<Dentry>) -> Result<Id> {
    let inode = &dentry.inode;
    if !lasting(&**inode) {
        return Err(Errno::EOPNOTSUPP);
    }
    let id = inode.identity()?;
    let mut guard = KNOWN.lock();
    let known = guard.get_or_insert_with(Known::default);
    if known.by_id.get(&id).is_some_and(|w| core::ptr::eq(w.as_ptr(), Arc::as_ptr(dentry))) {
        return Ok(id);
    }
    if known.by_id.len() == known.by_id.capacity() {
        known.by_id.retain(|_, dentry| dentry.strong_count() > 0);
        known.by_id.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    }
    known.kept.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    arena::charge(Object::Watch)?;
    known.by_id.insert(id, Arc::downgrade(dentry));
    known.kept.push_back(dentry.clone());
    let gone = if known.kept.len() > KEPT { known.kept.pop_front() } else { None };
    drop(guard);
    drop(gone);
    Ok(id)
}

/// Whether a file of this kind can be found again by its numbers.
pub fn lasting(inode: &dyn Inode) -> bool {
    inode.cacheable() && (inode.flags().is_some() || inode.xattrs().is_some())
}

/// The name is removed: it is not kept.
pub(super) fn forget(dentry: &Arc<Dentry>) {
    let mut guard = KNOWN.lock();
    let Some(known) = guard.as_mut() else { return };
    if !dentry.inode.identity().is_ok_and(|id| known.by_id.contains_key(&id)) {
        return;
    }
    let at = known.kept.iter().position(|kept| Arc::ptr_eq(kept, dentry));
    let gone = at.and_then(|at| known.kept.remove(at));
    drop(guard);
    drop(gone);
}

/// The file with this device and inode number, seen through the mount that `at` is on.
///
/// # Errors
/// `ESTALE` if there is none, or it has no name any more.
pub fn found(at: &Path, id: Id) -> Result<Path> {
    let dentry = KNOWN.lock().as_ref().and_then(|known| known.by_id.get(&id)).and_then(Weak::upgrade);
    let dentry = dentry.ok_or(Errno::ESTALE)?;
    if !at.mount.has_in_file_system(&dentry) || dentry.inode.stat()?.nlink == 0 {
        return Err(Errno::ESTALE);
    }
    Ok(Path { mount: at.mount.clone(), dentry })
}
