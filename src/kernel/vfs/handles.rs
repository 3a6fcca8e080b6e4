//! Handles of files (`name_to_handle_at(2)`): by device and inode number the file is found again, wherever its name is.
//!
//! What was asked for last is kept, so that a clean file of the host is found although nobody uses it; files in memory
//! live as long as they have a name.

use super::dentry::Dentry;
use super::mount::Path;
use super::notify::Id;
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::sync::{Level, Mutex};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use hashbrown::HashMap;

/// Files that are kept.
const KEPT: usize = 1024;

#[derive(Default)]
struct Known {
    by_id: HashMap<Id, Weak<Dentry>>,
    kept: VecDeque<Arc<Dentry>>,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(Level::Leaf, None);

/// Device and inode number of the file at `path`, which can be found by them from now on.
///
/// # Errors
/// `EOPNOTSUPP` for file systems whose files have no lasting numbers, `ENOMEM`.
pub fn handle_of(path: &Path) -> Result<Id> {
    let inode = path.inode();
    if !inode.cacheable() || inode.flags().is_none() && inode.xattrs().is_none() {
        return Err(Errno::EOPNOTSUPP);
    }
    let id = inode.identity()?;
    let mut guard = KNOWN.lock();
    let known = guard.get_or_insert_with(Known::default);
    if known.by_id.get(&id).is_some_and(|w| core::ptr::eq(w.as_ptr(), Arc::as_ptr(&path.dentry))) {
        return Ok(id);
    }
    if known.by_id.len() == known.by_id.capacity() {
        known.by_id.retain(|_, dentry| dentry.strong_count() > 0);
        known.by_id.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    }
    known.kept.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    arena::charge(Object::Watch)?;
    known.by_id.insert(id, Arc::downgrade(&path.dentry));
    known.kept.push_back(path.dentry.clone());
    let gone = if known.kept.len() > KEPT { known.kept.pop_front() } else { None };
    drop(guard);
    drop(gone);
    Ok(id)
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
