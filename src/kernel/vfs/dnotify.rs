//! Directories that tell their owner of changes by a signal (`F_NOTIFY` in `fcntl(2)`, `fs/notify/dnotify` in
//! Linux).
//!
//! What is watched belongs to a descriptor table and an open file description: closing any descriptor of the
//! description in that table ends it.

use super::async_io::{AsyncIo, Target};
use super::marks;
use super::notify::{self, Id, Listener};
use super::{FileType, OpenFile};
use crate::abi::linux::{
    DN_ACCESS, DN_ATTRIB, DN_CREATE, DN_DELETE, DN_MODIFY, DN_MULTISHOT, DN_RENAME, IN_ACCESS, IN_ATTRIB, IN_CREATE,
    IN_DELETE, IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO,
};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// What each kind of change is to the watches of a directory.
const KINDS: [(u32, u32); 6] = [
    (DN_ACCESS, IN_ACCESS),
    (DN_MODIFY, IN_MODIFY),
    (DN_CREATE, IN_CREATE | IN_MOVED_TO),
    (DN_DELETE, IN_DELETE | IN_MOVED_FROM),
    (DN_RENAME, notify::RENAMED),
    (DN_ATTRIB, IN_ATTRIB),
];

/// What a description watches of its directory on behalf of one descriptor table.
pub struct DirWatch {
    id: Id,
    /// The descriptor table ([`super::FdTable::owner`]).
    table: u64,
    /// `DN_*`; 0 once it is over.
    mask: AtomicU32,
    target: Arc<Target>,
    me: Weak<DirWatch>,
}

impl DirWatch {
    /// Who is told.
    pub(super) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    fn listener(&self) -> Weak<dyn Listener> {
        self.me.clone()
    }

    /// What it waits for, as bits of inotify.
    fn heard(mask: u32) -> u32 {
        KINDS.iter().filter(|k| mask & k.0 != 0).fold(0, |all, k| all | k.1)
    }
}

impl Drop for DirWatch {
    fn drop(&mut self) {
        notify::unwatch(self.id, &self.listener(), 0);
    }
}

impl Listener for DirWatch {
    fn event(&self, _wd: i32, event: u32, _cookie: u32, _name: &[u8]) {
        let mask = self.mask.load(SeqCst);
        if DirWatch::heard(mask) & event == 0 {
            return;
        }
        if mask & DN_MULTISHOT != 0 {
            self.target.changed();
        } else if self.mask.compare_exchange(mask, 0, SeqCst, SeqCst).is_ok() {
            self.target.changed();
            notify::unwatch(self.id, &self.listener(), 0);
        }
    }
}

impl OpenFile {
    /// `F_NOTIFY`: the owner of this directory is told of changes `mask` (`DN_*`), besides those that it is told of
    /// already; `fd`, of the descriptor table `table`, is what the signal will name. A mask without changes ends it.
    /// Whether it is watched now.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOMEM`.
    pub fn watch_directory(&self, table: u64, fd: i32, mask: u32) -> Result<bool> {
        if mask & !DN_MULTISHOT == 0 {
            self.async_io.forget_directory(table);
            return Ok(false);
        }
        if self.inode.file_type() != FileType::Dir {
            return Err(Errno::ENOTDIR);
        }
        let id = self.inode.identity()?;
        let had = self.async_io.directory(table).filter(|w| w.mask.load(SeqCst) != 0);
        let watch = if let Some(watch) = had {
            watch.target.rename(fd);
            watch.mask.fetch_or(mask, SeqCst);
            watch
        } else {
            arena::charge(Object::Watch)?;
            let target = self.async_io.target(fd);
            let watch =
                Arc::new_cyclic(|me| DirWatch { id, table, mask: AtomicU32::new(mask), target, me: me.clone() });
            self.async_io.set_directory(watch.clone())?;
            watch
        };
        let mask = watch.mask.load(SeqCst);
        notify::watch(marks::Object::of_inode(&*self.inode)?, &watch.listener(), 0, DirWatch::heard(mask))?;
        Ok(true)
    }
}

impl AsyncIo {
    fn directory(&self, table: u64) -> Option<Arc<DirWatch>> {
        self.state().lock().directories.iter().find(|w| w.table == table).cloned()
    }

    /// Keeps a watch instead of the table's earlier one.
    fn set_directory(&self, watch: Arc<DirWatch>) -> Result {
        let mut s = self.state().lock();
        s.directories.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let at = s.directories.iter().position(|w| w.table == watch.table);
        let had = at.map(|at| s.directories.swap_remove(at));
        s.directories.push(watch);
        self.watches.store(true, SeqCst);
        drop(s);
        drop(had);
        Ok(())
    }

    /// A descriptor of table `table` was closed: its watch ends.
    pub(super) fn forget_directory(&self, table: u64) {
        if !self.watches.load(SeqCst) {
            return;
        }
        let mut s = self.state().lock();
        let at = s.directories.iter().position(|w| w.table == table);
        let had = at.map(|at| s.directories.swap_remove(at));
        self.watches.store(!s.directories.is_empty(), SeqCst);
        drop(s);
        drop(had);
    }
}
