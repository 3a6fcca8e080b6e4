//! Who watches which file: what inotify is told of changes to names and contents.
//!
//! Watches are kept by file identity, so that they outlive forgotten dentries. While nothing is
//! watched, an event costs one load. Listeners are called with no lock of this room held.

use super::dentry::Dentry;
use super::file::OpenFile;
use super::inode::{FileType, Inode};
use crate::abi::linux::{IN_ACCESS, IN_ATTRIB, IN_DELETE_SELF, IN_EXCL_UNLINK, IN_ISDIR, IN_MODIFY, IN_MOVE_SELF};
use crate::abi::{Errno, Result};
use crate::sync::{Level, Mutex};
use alloc::sync::Weak;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use hashbrown::HashMap;

/// Is told of events.
pub trait Listener: Send + Sync {
    /// What the watch `wd` was set for has happened: to the watched file, or to `name` in it.
    fn event(&self, wd: i32, mask: u32, cookie: u32, name: &[u8]);
}

/// A name has changed within its directory. Only `F_NOTIFY` asks for it: it is no bit of inotify's.
pub const RENAMED: u32 = 0x1000_0000;

/// Device and inode number.
pub type Id = (u64, u64);

struct Watch {
    listener: Weak<dyn Listener>,
    wd: i32,
    mask: u32,
}

static COUNT: AtomicUsize = AtomicUsize::new(0);
static WATCHES: Mutex<Option<HashMap<Id, Vec<Watch>>>> = Mutex::new(Level::Leaf, None);
static COOKIE: AtomicU32 = AtomicU32::new(1);

/// Watches the file `id` for `mask`; an earlier watch of the same number is replaced.
///
/// # Errors
/// `ENOMEM`.
pub fn watch(id: Id, listener: &Weak<dyn Listener>, wd: i32, mask: u32) -> Result {
    let mut table = WATCHES.lock();
    let table = table.get_or_insert_with(HashMap::new);
    table.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    let list = table.entry(id).or_default();
    if let Some(w) = list.iter_mut().find(|w| w.wd == wd && w.listener.ptr_eq(listener)) {
        w.mask = mask;
        return Ok(());
    }
    list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    list.push(Watch { listener: listener.clone(), wd, mask });
    COUNT.fetch_add(1, Relaxed);
    Ok(())
}

/// Takes a watch back.
pub fn unwatch(id: Id, listener: &Weak<dyn Listener>, wd: i32) {
    let mut gone = Vec::new();
    let mut table = WATCHES.lock();
    let Some(table) = table.as_mut() else { return };
    let Some(list) = table.get_mut(&id) else { return };
    while let Some(at) = list.iter().position(|w| w.wd == wd && w.listener.ptr_eq(listener)) {
        gone.push(list.swap_remove(at));
        COUNT.fetch_sub(1, Relaxed);
    }
    if list.is_empty() {
        table.remove(&id);
    }
}

/// Whether anything is watched.
#[inline]
pub fn active() -> bool {
    COUNT.load(Relaxed) != 0
}

/// A number that ties the two halves of a rename together.
pub fn cookie() -> u32 {
    COOKIE.fetch_add(1, Relaxed)
}

fn raise(inode: &dyn Inode, mask: u32, cookie: u32, name: &[u8]) {
    raise_where(inode, mask, cookie, name, 0);
}

/// As [`raise`], but not to watches with a bit of `not`.
fn raise_where(inode: &dyn Inode, mask: u32, cookie: u32, name: &[u8], not: u32) {
    let Ok(id) = inode.identity() else { return };
    let mut heard = Vec::new();
    if let Some(list) = WATCHES.lock().as_ref().and_then(|t| t.get(&id)) {
        for w in list.iter().filter(|w| w.mask & mask & !IN_ISDIR != 0 && w.mask & not == 0) {
            if let Some(listener) = w.listener.upgrade() {
                heard.push((listener, w.wd));
            }
        }
    }
    for (listener, wd) in heard {
        listener.event(wd, mask, cookie, name);
    }
}

fn kind_of(inode: &dyn Inode) -> u32 {
    if inode.file_type() == FileType::Dir { IN_ISDIR } else { 0 }
}

/// Something was done to a file: its own watchers hear it, and those of its directory.
pub fn file(dentry: &Dentry, mask: u32) {
    if active() {
        let inode = &*dentry.inode;
        let mask = mask | kind_of(inode);
        if let Some(parent) = dentry.parent() {
            // Some watchers of a directory do not want to hear of files that are no longer in it.
            let not = if dentry.unlinked() { IN_EXCL_UNLINK } else { 0 };
            raise_where(&*parent.inode, mask, 0, &dentry.name(), not);
        }
        raise(inode, mask, 0, b"");
    }
}

/// A read of `n` bytes, or a write.
#[inline]
pub fn transferred(of: &OpenFile, n: usize, write: bool) {
    if active()
        && n > 0
        && let Some(path) = of.found()
    {
        file(&path.dentry, if write { IN_MODIFY } else { IN_ACCESS });
    }
}

/// A name in a directory came, went or moved. `inode` is what it leads to.
pub fn name(dir: &Dentry, name: &[u8], inode: &dyn Inode, mask: u32, cookie: u32) {
    if active() {
        raise(&*dir.inode, mask | kind_of(inode), cookie, name);
    }
}

/// The file itself was moved.
pub fn moved(inode: &dyn Inode) {
    if active() {
        raise(inode, IN_MOVE_SELF, 0, b"");
    }
}

/// The number of names of a file changed.
pub fn linked(inode: &dyn Inode) {
    if active() && inode.file_type() != FileType::Dir {
        raise(inode, IN_ATTRIB, 0, b"");
    }
}

/// A name of the file was removed: with the last one its watches end.
pub fn unlinked(inode: &dyn Inode) {
    if active() && (inode.file_type() == FileType::Dir || inode.stat().is_ok_and(|s| s.nlink == 0)) {
        raise(inode, IN_DELETE_SELF, 0, b"");
    }
}
