//! Who watches which file: what inotify and fanotify are told of changes to names and contents.
//!
//! Watches are kept by file identity, so that they outlive forgotten dentries; those of fanotify are [`marks`]. While
//! nothing is watched, an event costs one load. Listeners are called with no lock of this room held.

use super::dentry::Dentry;
use super::inode::Inode;
use super::marks::{self, Happening, Object, Target};
use super::mount::Path;
use super::{FileType, OpenFile, handles};
use crate::abi::linux::{
    IN_ACCESS, IN_ATTRIB, IN_DELETE_SELF, IN_EXCL_UNLINK, IN_ISDIR, IN_MODIFY, IN_MOVE_SELF, IN_UNMOUNT,
};
use crate::abi::{Errno, Result};
use crate::sync::{Level, Mutex};
use alloc::sync::{Arc, Weak};
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
    /// The file's file system ([`Inode::file_system`]).
    fs: u64,
    /// `IN_ISDIR` for a directory.
    kind: u32,
}

static COUNT: AtomicUsize = AtomicUsize::new(0);
static WATCHES: Mutex<Option<HashMap<Id, Vec<Watch>>>> = Mutex::new(Level::Leaf, None);
static COOKIE: AtomicU32 = AtomicU32::new(1);

/// Watches a file for `mask`; an earlier watch of the same number is replaced.
///
/// # Errors
/// `ENOMEM`.
pub fn watch(object: Object<'_>, listener: &Weak<dyn Listener>, wd: i32, mask: u32) -> Result {
    let mut table = WATCHES.lock();
    let table = table.get_or_insert_with(HashMap::new);
    table.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    let list = table.entry(object.id).or_default();
    if let Some(w) = list.iter_mut().find(|w| w.wd == wd && w.listener.ptr_eq(listener)) {
        w.mask = mask;
        return Ok(());
    }
    list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    list.push(Watch { listener: listener.clone(), wd, mask, fs: object.fs, kind: kind_of(&object) });
    count(true);
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
        count(false);
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

/// There is one watch or mark more, or less.
pub(super) fn count(more: bool) {
    if more {
        COUNT.fetch_add(1, Relaxed);
    } else {
        COUNT.fetch_sub(1, Relaxed);
    }
}

/// A number that ties the two halves of a rename together.
pub fn cookie() -> u32 {
    COOKIE.fetch_add(1, Relaxed)
}

/// Tells the watchers of `id`, but not those with a bit of `not`.
fn raise(id: Id, mask: u32, cookie: u32, name: &[u8], not: u32) {
    let mut heard = Vec::new();
    if let Some(list) = WATCHES.lock().as_ref().and_then(|t| t.get(&id)) {
        for w in list.iter().filter(|w| w.mask & mask & !IN_ISDIR != 0 && w.mask & not == 0) {
            if let Some(listener) = w.listener.upgrade() {
                heard.push((listener, w.wd));
            }
        }
    }
    // That a file is opened to be run is fanotify's alone.
    let mask = mask & !marks::event::OPEN_EXEC;
    for (listener, wd) in heard {
        listener.event(wd, mask, cookie, name);
    }
}

fn kind_of(object: &Object<'_>) -> u32 {
    if object.dir { IN_ISDIR } else { 0 }
}

/// Something was done to a file: its own watchers hear it, and those of its directory unless it was done to the file
/// `alone`.
#[cold]
fn tell(dentry: &Arc<Dentry>, path: Option<&Path>, mask: u32, alone: bool) {
    let Ok(object) = Object::of(dentry) else { return };
    let mask = mask | kind_of(&object);
    let parent = if alone { None } else { dentry.parent() };
    let dir = parent.as_ref().and_then(|p| Object::of(p).ok());
    let name = if dir.is_some() { dentry.name() } else { Vec::new() };
    if let Some(dir) = &dir {
        // Some watchers of a directory do not want to hear of files that are no longer in it.
        let not = if dentry.unlinked() { IN_EXCL_UNLINK } else { 0 };
        raise(dir.id, mask, 0, &name, not);
    }
    raise(object.id, mask, 0, b"", 0);
    marks::raise(&Happening { mask, object, path, dir, name: &name, to: None });
}

/// Something was done to an open file, or to one that is being opened.
#[inline]
pub fn file(path: &Path, mask: u32) {
    if active() {
        tell(&path.dentry, Some(path), mask, false);
    }
}

/// As [`file`], of a file that was found by its name: no mount tells of it.
#[inline]
pub fn named(dentry: &Arc<Dentry>, mask: u32) {
    if active() {
        tell(dentry, None, mask, false);
    }
}

/// As [`file`], unless the description is of those that nobody is told of.
#[inline]
pub fn open_file(file: &OpenFile, mask: u32) {
    if active()
        && !file.is_quiet()
        && let Some(path) = file.found()
    {
        tell(&path.dentry, Some(path), mask, false);
    }
}

/// A read of `n` bytes, or a write.
#[inline]
pub fn transferred(file: &OpenFile, n: usize, write: bool) {
    if active() && n > 0 {
        accessed(file, write);
    }
}

/// A read or a write of whatever length. The directory of a pipe or a device is not told of what goes through it.
#[cold]
pub fn accessed(file: &OpenFile, write: bool) {
    if let Some(path) = file.found().filter(|_| !file.is_quiet()) {
        let alone = !matches!(file.inode.file_type(), FileType::Regular | FileType::Dir);
        tell(&path.dentry, Some(path), if write { IN_MODIFY } else { IN_ACCESS }, alone);
    }
}

/// A name in a directory came, went or moved. `object` is what it leads or led to.
pub fn name(dir: &Arc<Dentry>, name: &[u8], object: Object<'_>, mask: u32, cookie: u32) {
    let Ok(dir) = Object::of(dir) else { return };
    let mask = mask | kind_of(&object);
    raise(dir.id, mask, cookie, name, 0);
    marks::raise(&Happening { mask, object, path: None, dir: Some(dir), name, to: None });
}

/// A name in a directory was made.
pub fn made(dir: &Arc<Dentry>, last: &[u8], dentry: &Arc<Dentry>) {
    if active()
        && let Ok(object) = Object::of(dentry)
    {
        name(dir, last, object, crate::abi::linux::IN_CREATE, 0);
    }
}

/// A name moved: for `F_NOTIFY`, where it stayed in its directory, and for fanotify.
pub fn renamed(from: (&Arc<Dentry>, &[u8]), to: (&Arc<Dentry>, &[u8]), moved: Object<'_>) {
    let (Ok(dir), Ok(new)) = (Object::of(from.0), Object::of(to.0)) else { return };
    let mask = RENAMED | kind_of(&moved);
    if dir.id == new.id {
        raise(dir.id, mask, 0, from.1, 0);
    }
    let to = Some((new, to.1));
    marks::raise(&Happening { mask, object: moved, path: None, dir: Some(dir), name: from.1, to });
}

/// Something happened to the file itself, whatever its names.
fn itself(object: Object<'_>, mask: u32) {
    raise(object.id, mask, 0, b"", 0);
    let mask = mask | kind_of(&object);
    marks::raise(&Happening { mask, object, path: None, dir: None, name: b"", to: None });
}

/// The file itself was moved.
pub fn moved(object: Object<'_>) {
    itself(object, IN_MOVE_SELF);
}

/// The number of names of a file changed.
pub fn linked(dentry: &Arc<Dentry>) {
    if active()
        && let Ok(object) = Object::of(dentry)
        && !object.dir
    {
        itself(object, IN_ATTRIB);
    }
}

/// A name of the file was removed. Files that tell of their end do so themselves ([`ended`]); the watches of others end
/// with the last name.
pub fn unlinked(dentry: &Arc<Dentry>) {
    handles::forget(dentry);
    if !active() || dentry.inode.tells_end() {
        return;
    }
    let Ok(object) = Object::of(dentry) else { return };
    if object.dir || dentry.inode.stat().is_ok_and(|s| s.nlink == 0) {
        ended(object);
    }
}

/// The file is no more.
#[cold]
pub fn ended(object: Object<'_>) {
    itself(object, IN_DELETE_SELF);
    marks::end(Target::Inode(object.id));
}

/// The file system is no longer mounted anywhere.
pub(super) fn unmounted(inode: &dyn Inode) {
    if !active() {
        return;
    }
    let fs = inode.file_system();
    let mut heard = Vec::new();
    if let Some(table) = WATCHES.lock().as_ref() {
        for w in table.values().flatten().filter(|w| w.fs == fs) {
            if let Some(listener) = w.listener.upgrade()
                && heard.try_reserve(1).is_ok()
            {
                heard.push((listener, w.wd, w.kind));
            }
        }
    }
    heard.sort_by_key(|h| core::cmp::Reverse(h.1));
    for (listener, wd, kind) in heard {
        listener.event(wd, IN_UNMOUNT | kind, 0, b"");
    }
    marks::end_of_file_system(fs);
}
