//! Marks of fanotify groups on files, mounts, file systems and mount namespaces, and which of them an event meets
//! (`fs/notify/fsnotify.c` and `fs/notify/fanotify/fanotify.c` in Linux).
//!
//! Marks are kept by what they are on. An event is told to each group once, with what all of its marks that it meets
//! ask for together. While there are no marks, an event costs one load ([`super::notify::active`]). Groups are called
//! with no lock of this room held.

use super::dentry::Dentry;
use super::inode::{FileType, Inode};
use super::mount::Path;
use super::notify::{self, Id};
use crate::abi::linux::{IN_ACCESS, IN_CREATE, IN_DELETE, IN_ISDIR, IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO};
use crate::abi::{Errno, Result, SysResult};
use crate::arena::{self, Object as Charged};
use crate::sync::{Level, Mutex};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use hashbrown::HashMap;

/// `FAN_*` of events that inotify does not have; the others have the numbers of `IN_*`.
pub mod event {
    /// Opened to be run.
    pub const OPEN_EXEC: u32 = 0x1000;
    /// May it be opened?
    pub const OPEN_PERM: u32 = 0x1_0000;
    /// May it be read?
    pub const ACCESS_PERM: u32 = 0x2_0000;
    /// May it be run?
    pub const OPEN_EXEC_PERM: u32 = 0x4_0000;
    /// A mount came into a namespace.
    pub const MNT_ATTACH: u32 = 0x100_0000;
    /// A mount left a namespace.
    pub const MNT_DETACH: u32 = 0x200_0000;
    /// A mark is for what is in a directory, too.
    pub const ON_CHILD: u32 = 0x800_0000;
    /// A name moved.
    pub const RENAME: u32 = super::notify::RENAMED;
    /// Events that wait for an answer.
    pub const PERMISSION: u32 = OPEN_PERM | ACCESS_PERM | OPEN_EXEC_PERM;
}

/// Events of names in a directory.
pub const NAMES: u32 = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | event::RENAME;
/// Bits of a mask that are no events.
const FLAGS: u32 = IN_ISDIR | event::ON_CHILD;

/// What a mark is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// A file, by device and inode number.
    Inode(Id),
    /// A mount, by its id.
    Mount(u64),
    /// A file system ([`super::Inode::file_system`]).
    FileSystem(u64),
    /// A mount namespace, by its id.
    Namespace(u64),
}

/// By which of a group's marks an event was met: bits of [`Seen`].
pub mod seen {
    /// That of the file, or of the directory whose name it is.
    pub const INODE: u32 = 1;
    /// That of the directory that a name moved to.
    pub const INODE2: u32 = 2;
    /// That of the file system.
    pub const FILE_SYSTEM: u32 = 4;
    /// Another one.
    pub const OTHER: u32 = 8;
}

/// Bits of [`seen`].
pub type Seen = u32;

/// A file as events tell of it.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    /// Device and inode number.
    pub id: Id,
    /// Its file system ([`super::Inode::file_system`]).
    pub fs: u64,
    /// It is a directory.
    pub dir: bool,
    /// A name of it, where it is still there.
    pub dentry: Option<&'a Arc<Dentry>>,
}

impl<'a> Object<'a> {
    /// The file that `dentry` leads to.
    ///
    /// # Errors
    /// As [`super::Inode::identity`].
    pub fn of(dentry: &'a Arc<Dentry>) -> Result<Object<'a>> {
        Ok(Object { dentry: Some(dentry), ..Object::of_inode(&*dentry.inode)? })
    }

    /// A file, by any name.
    ///
    /// # Errors
    /// As [`super::Inode::identity`].
    pub fn of_inode(inode: &dyn Inode) -> Result<Object<'a>> {
        let dir = inode.file_type() == FileType::Dir;
        Ok(Object { id: inode.identity()?, fs: inode.file_system(), dir, dentry: None })
    }
}

/// What happened.
#[derive(Clone, Copy)]
pub struct Happening<'a> {
    /// Events, with `IN_ISDIR`.
    pub mask: u32,
    /// What it happened to.
    pub object: Object<'a>,
    /// Where that was found, where the event has a mount.
    pub path: Option<&'a Path>,
    /// The directory of the name.
    pub dir: Option<Object<'a>>,
    /// The name.
    pub name: &'a [u8],
    /// Where the name moved to ([`event::RENAME`]).
    pub to: Option<(Object<'a>, &'a [u8])>,
}

/// Is told and asked: an fanotify group.
pub trait Group: Send + Sync {
    /// The events `mask` of `what`.
    fn tell(&self, what: &Happening<'_>, mask: u32, seen: Seen);

    /// Whether the events `mask` of `what` may happen; waits for the answer.
    ///
    /// # Errors
    /// The answer's; `ERESTARTNOINTR` when interrupted.
    fn ask(&self, what: &Happening<'_>, mask: u32) -> SysResult<()>;

    /// A mount came to or left a namespace that it watches.
    fn mounted(&self, mount: u64, mask: u32);

    /// What a mark of its was on is no more.
    fn ended(&self, target: Target);
}

/// What a mark asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// Events, with `FAN_ONDIR` and `FAN_EVENT_ON_CHILD`.
    pub mask: u32,
    /// Events that it does not want.
    pub ignored: u32,
    /// `FAN_MARK_IGNORED_SURV_MODIFY`: a modification does not end that.
    pub survives: bool,
    /// `FAN_MARK_IGNORE`: the flags in `ignored` count.
    pub precise: bool,
    /// `FAN_MARK_EVICTABLE`.
    pub evictable: bool,
}

struct Mark {
    group: Weak<dyn Group>,
    /// The file system of what it is on.
    fs: u64,
    priority: u8,
    made: u64,
    wishes: Wishes,
}

static ASKING: AtomicUsize = AtomicUsize::new(0);
static MADE: AtomicU64 = AtomicU64::new(1);
static MARKS: Mutex<Option<HashMap<Target, Vec<Mark>>>> = Mutex::new(Level::Leaf, None);

fn asks(wishes: &Wishes) -> bool {
    wishes.mask & event::PERMISSION != 0
}

fn account(before: Option<&Wishes>, after: Option<&Wishes>) {
    match (before.is_some_and(asks), after.is_some_and(asks)) {
        (false, true) => drop(ASKING.fetch_add(1, Relaxed)),
        (true, false) => drop(ASKING.fetch_sub(1, Relaxed)),
        _ => {}
    }
    match (before, after) {
        (None, Some(_)) => notify::count(true),
        (Some(_), None) => notify::count(false),
        _ => {}
    }
}

/// The group's mark on `target`: what it asks for, and its number in the order in which marks were made.
pub fn find(target: Target, group: &Weak<dyn Group>) -> Option<(Wishes, u64)> {
    let table = MARKS.lock();
    let mark = table.as_ref()?.get(&target)?.iter().find(|m| m.group.ptr_eq(group))?;
    Some((mark.wishes, mark.made))
}

/// Gives the group a mark on `target`, which is of the file system `fs`, or changes the one that it has. Groups of a higher
/// `priority` are asked first.
///
/// # Errors
/// `ENOMEM`.
pub fn set(target: Target, fs: u64, group: &Weak<dyn Group>, priority: u8, wishes: Wishes) -> Result {
    arena::charge(Charged::Watch)?;
    let mut table = MARKS.lock();
    let table = table.get_or_insert_with(HashMap::new);
    table.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    let list = table.entry(target).or_default();
    if let Some(mark) = list.iter_mut().find(|m| m.group.ptr_eq(group)) {
        account(Some(&mark.wishes), Some(&wishes));
        mark.wishes = wishes;
        return Ok(());
    }
    list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    account(None, Some(&wishes));
    list.push(Mark { group: group.clone(), fs, priority, made: MADE.fetch_add(1, Relaxed), wishes });
    Ok(())
}

/// Takes the group's mark away.
pub fn remove(target: Target, group: &Weak<dyn Group>) {
    let mut guard = MARKS.lock();
    let Some(table) = guard.as_mut() else { return };
    let Some(list) = table.get_mut(&target) else { return };
    let gone = list.iter().position(|m| m.group.ptr_eq(group)).map(|at| list.swap_remove(at));
    if list.is_empty() {
        table.remove(&target);
    }
    if let Some(mark) = &gone {
        account(Some(&mark.wishes), None);
    }
    drop(guard);
    drop(gone);
}

/// What `target` stood for is no more: its marks go.
pub(super) fn end(target: Target) {
    let gone = MARKS.lock().as_mut().and_then(|table| table.remove(&target));
    for mark in gone.into_iter().flatten() {
        account(Some(&mark.wishes), None);
        if let Some(group) = mark.group.upgrade() {
            group.ended(target);
        }
    }
}

/// The file system `fs` is no longer mounted: all marks on it and its files go.
pub(super) fn end_of_file_system(fs: u64) {
    let mut targets = Vec::new();
    if let Some(table) = MARKS.lock().as_ref() {
        let on = table.iter().filter(|(_, marks)| marks.first().is_some_and(|m| m.fs == fs)).map(|(t, _)| *t);
        for target in on {
            if targets.try_reserve(1).is_ok() {
                targets.push(target);
            }
        }
    }
    for target in targets {
        end(target);
    }
}

/// How an event meets a mark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Object,
    Second,
    Parent,
    Mount,
    FileSystem,
}

/// What the marks of one group that an event meets say together.
struct Hit {
    group: Arc<dyn Group>,
    priority: u8,
    mask: u32,
    ignored: u32,
    seen: Seen,
}

/// Whether a mask is for an event of this kind (`fsnotify_mask_applicable`).
fn applies(mask: u32, dir: bool, by: By) -> bool {
    (!dir || mask & IN_ISDIR != 0) && (by != By::Parent || mask & event::ON_CHILD != 0)
}

impl Wishes {
    /// What it does not want of an event of this kind (`fsnotify_effective_ignore_mask`).
    fn ignores(&self, dir: bool, by: By) -> u32 {
        let events = self.ignored & !FLAGS;
        if !dir && by != By::Parent {
            return events;
        }
        // Without flags of its own it is for directories as well, and for children if the mark is.
        let flags = if self.precise { self.ignored } else { IN_ISDIR | self.mask & event::ON_CHILD };
        if applies(flags, dir, by) { events } else { 0 }
    }
}

/// The groups that have marks which an event meets.
fn met(what: &Happening<'_>) -> Vec<Hit> {
    let named = what.mask & NAMES != 0;
    let dir = what.mask & IN_ISDIR != 0;
    let mut targets = arrayvec::ArrayVec::<(Target, By), 5>::new();
    let inode = |o: &Object<'_>| Target::Inode(o.id);
    if named {
        targets.extend(what.dir.iter().map(|d| (inode(d), By::Object)));
        targets.extend(what.to.iter().map(|to| (inode(&to.0), By::Second)));
    } else {
        targets.push((inode(&what.object), By::Object));
        targets.extend(what.dir.iter().map(|d| (inode(d), By::Parent)));
        targets.extend(what.path.map(|p| (Target::Mount(p.mount.id), By::Mount)));
    }
    targets.push((Target::FileSystem(what.object.fs), By::FileSystem));
    let mut hits: Vec<Hit> = Vec::new();
    let mut guard = MARKS.lock();
    let Some(table) = guard.as_mut() else { return hits };
    for (target, by) in targets {
        let Some(list) = table.get_mut(&target) else { continue };
        for mark in list.iter_mut() {
            let wishes = &mut mark.wishes;
            if what.mask & IN_MODIFY != 0 && !wishes.survives {
                wishes.ignored = 0;
            }
            let Some(group) = mark.group.upgrade() else { continue };
            let at = match hits.iter().position(|h| Arc::ptr_eq(&h.group, &group)) {
                Some(at) => at,
                None if hits.try_reserve(1).is_err() => continue,
                None => {
                    hits.push(Hit { group, priority: mark.priority, mask: 0, ignored: 0, seen: 0 });
                    hits.len() - 1
                }
            };
            let hit = &mut hits[at];
            hit.ignored |= wishes.ignores(dir, by);
            if applies(wishes.mask, dir, by) {
                hit.mask |= wishes.mask;
                hit.seen |= match by {
                    By::Object => seen::INODE,
                    By::Second => seen::INODE2,
                    By::FileSystem => seen::FILE_SYSTEM,
                    _ => seen::OTHER,
                };
            }
        }
    }
    drop(guard);
    hits.retain(|h| what.mask & h.mask & !h.ignored & !FLAGS != 0);
    hits
}

/// Tells those whose marks it meets.
pub(super) fn raise(what: &Happening<'_>) {
    for hit in met(what) {
        hit.group.tell(what, what.mask & hit.mask & !hit.ignored, hit.seen);
    }
}

/// Whether anybody is asked about anything.
#[inline(always)]
pub fn asking() -> bool {
    ASKING.load(Relaxed) != 0
}

/// Asks those whose marks the event at `path` meets whether it may happen.
///
/// # Errors
/// The answer's, `EPERM` if it names none; `ERESTARTNOINTR` when interrupted.
#[cold]
pub fn ask(path: &Path, mask: u32) -> SysResult<()> {
    let object = Object::of(&path.dentry)?;
    let parent = path.dentry.parent();
    let what = Happening {
        mask: mask | if object.dir { IN_ISDIR } else { 0 },
        object,
        path: Some(path),
        dir: parent.as_ref().and_then(|p| Object::of(p).ok()),
        name: b"",
        to: None,
    };
    let mut hits = met(&what);
    hits.sort_by_key(|h| core::cmp::Reverse(h.priority));
    for hit in hits {
        hit.group.ask(&what, mask & hit.mask & !hit.ignored)?;
    }
    Ok(())
}

/// Asks whether an open file may be read.
///
/// # Errors
/// As [`ask`].
#[inline(always)]
pub fn ask_read(file: &super::OpenFile) -> SysResult<()> {
    if !asking() || file.is_quiet() {
        return Ok(());
    }
    file.found().map_or(Ok(()), |path| ask(path, event::ACCESS_PERM))
}

/// A mount came to a namespace or left it ([`event::MNT_ATTACH`], [`event::MNT_DETACH`]).
pub fn mounted(namespace: u64, mount: u64, mask: u32) {
    if !notify::active() {
        return;
    }
    let mut told = Vec::new();
    if let Some(list) = MARKS.lock().as_ref().and_then(|t| t.get(&Target::Namespace(namespace))) {
        for mark in list.iter().filter(|m| m.wishes.mask & mask & !m.wishes.ignored != 0) {
            if let Some(group) = mark.group.upgrade()
                && told.try_reserve(1).is_ok()
            {
                told.push((group, mask & mark.wishes.mask & !mark.wishes.ignored));
            }
        }
    }
    for (group, mask) in told {
        group.mounted(mount, mask);
    }
}

const _: () = assert!(IN_ACCESS == 1 && IN_ISDIR == 0x4000_0000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_events_follow_their_flags() {
        let plain = Wishes { mask: event::ON_CHILD, ignored: 0x20, ..Wishes::default() };
        assert_eq!(plain.ignores(false, By::Object), 0x20);
        assert_eq!(plain.ignores(true, By::Object), 0x20);
        assert_eq!(plain.ignores(false, By::Parent), 0x20);
        assert_eq!(Wishes { mask: 0, ..plain }.ignores(false, By::Parent), 0);
        let precise = Wishes { precise: true, ..plain };
        assert_eq!(precise.ignores(true, By::Object), 0);
        assert_eq!(precise.ignores(false, By::Parent), 0);
        assert_eq!(Wishes { ignored: 0x20 | event::ON_CHILD, ..precise }.ignores(false, By::Parent), 0x20);
        assert_eq!(Wishes { ignored: 0x20 | IN_ISDIR, ..precise }.ignores(true, By::FileSystem), 0x20);
    }
}
