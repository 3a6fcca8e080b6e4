//! What lies in a group's queue, and how events that say the same become one.

use super::ask::Question;
use super::{Handle, flag};
use crate::abi::linux::{IN_ISDIR, IN_Q_OVERFLOW};
use crate::task::Pid;
use crate::task::work::running;
use crate::vfs::marks::{self, Happening, Seen, event, seen};
use crate::vfs::{FileType, Path};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash, Hasher};
use hashbrown::{DefaultHashBuilder, HashMap};

/// Files and names that an event tells of.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Files {
    /// The file system's number, as `statfs(2)` tells it.
    pub fs: u64,
    /// A directory, with a name in it.
    pub dir: Option<(Handle, Box<[u8]>)>,
    /// Where the name moved to.
    pub to: Option<(Handle, Box<[u8]>)>,
    pub object: Option<Handle>,
    /// It was recorded with its directory's handle apart from the file's.
    pub apart: bool,
}

/// What an event tells.
pub(super) enum Told {
    /// A file, by a descriptor.
    Place(Path),
    /// Files, by handles.
    Files(Files),
    /// A mount, by its id.
    Mount(u64),
    /// Events are lost.
    Overflow,
}

/// See the module.
pub(super) struct Event {
    pub mask: u32,
    /// Whose doing it is: a process, or a thread where the group asks for that.
    pub by: Option<Arc<Pid>>,
    pub told: Told,
    /// Somebody waits for an answer.
    asked: Option<Arc<Question>>,
}

/// The running process, or thread.
fn actor(thread: bool) -> Option<Arc<Pid>> {
    let task = running()?;
    if thread && task.tid() != task.group.pid {
        return crate::task::kernel().roots().pid.find(task.tid());
    }
    Some(task.group.id.clone())
}

impl Event {
    /// What a group with these [`flag`]s is told of `what`, whose events for it are `mask` (`fanotify_group_event_mask` and
    /// `fanotify_alloc_event` in Linux).
    pub fn of(flags: u32, what: &Happening<'_>, mask: u32, seen: Seen) -> Option<Event> {
        let fid = flags & flag::FID;
        let by = actor(flags & flag::REPORT_TID != 0);
        if fid == 0 {
            let path = what.path?;
            if !matches!(path.inode().file_type(), FileType::Regular | FileType::Dir) {
                return None;
            }
            let mask = mask & !(IN_ISDIR | event::ON_CHILD);
            return Some(Event { mask, by, told: Told::Place(path.clone()), asked: None });
        }
        if fid & flag::REPORT_FID == 0 && what.dir.is_none() && mask & IN_ISDIR == 0 {
            return None;
        }
        Some(Event { mask, by, told: Told::Files(Files::of(fid, what, mask, seen)), asked: None })
    }

    /// A question about the file at `path`.
    pub fn asking(flags: u32, path: &Path, mask: u32, question: &Arc<Question>) -> Event {
        let by = actor(flags & flag::REPORT_TID != 0);
        Event { mask, by, told: Told::Place(path.clone()), asked: Some(question.clone()) }
    }

    /// A mount came or left.
    pub fn of_mount(mount: u64, mask: u32) -> Event {
        Event { mask, by: actor(false), told: Told::Mount(mount), asked: None }
    }

    /// Who waits for an answer.
    pub fn question(&self) -> Option<&Arc<Question>> {
        self.asked.as_ref()
    }

    /// What events that become one have in common; `None` for those that never do.
    fn key(&self, hasher: &DefaultHashBuilder) -> Option<u64> {
        let mut h = hasher.build_hasher();
        match &self.told {
            _ if self.asked.is_some() => return None,
            Told::Place(path) => (Arc::as_ptr(&path.mount) as usize, Arc::as_ptr(&path.dentry) as usize).hash(&mut h),
            Told::Files(files) => files.hash(&mut h),
            Told::Mount(_) | Told::Overflow => return None,
        }
        (self.by.as_ref().map_or(0, |p| Arc::as_ptr(p) as usize), self.kind()).hash(&mut h);
        Some(h.finish())
    }

    fn kind(&self) -> u32 {
        self.mask & (IN_ISDIR | event::RENAME)
    }

    /// Whether this and `other` become one (`fanotify_should_merge`).
    fn says_the_same(&self, other: &Event) -> bool {
        let same_actor = match (&self.by, &other.by) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        same_actor
            && self.kind() == other.kind()
            && match (&self.told, &other.told) {
                (Told::Place(a), Told::Place(b)) => a.same(b),
                (Told::Files(a), Told::Files(b)) => a == b,
                _ => false,
            }
    }
}

impl Files {
    fn of(fid: u32, what: &Happening<'_>, mask: u32, seen: Seen) -> Files {
        let named = what.mask & marks::NAMES != 0;
        let dir = match (named, what.object.dir) {
            (false, true) => Some(what.object),
            _ => what.dir,
        };
        let target = fid & flag::REPORT_TARGET_FID != 0;
        let object = if named && !target { dir } else { Some(what.object) };
        let mut files = Files { fs: what.object.fs, dir: None, to: None, object: None, apart: false };
        let (true, Some(dir)) = (fid & flag::REPORT_DIR_FID != 0, dir) else {
            files.object = object.as_ref().map(Handle::of);
            return files;
        };
        let tells_child = if named { target } else { fid & flag::REPORT_FID != 0 && mask & IN_ISDIR == 0 };
        let child = object.filter(|o| tells_child && o.id != dir.id).map(|o| Handle::of(&o));
        files.apart = match fid & flag::REPORT_NAME {
            0 => child.is_some(),
            _ => named || mask & IN_ISDIR == 0,
        };
        if !files.apart {
            files.object = Some(Handle::of(&dir));
            return files;
        }
        let name = if fid & flag::REPORT_NAME != 0 { what.name } else { b"" };
        let (mut old, mut new) = (true, false);
        if mask & event::RENAME != 0 {
            old = seen & (seen::INODE | seen::FILE_SYSTEM) != 0;
            new = seen & (seen::INODE2 | seen::FILE_SYSTEM) != 0;
        }
        files.dir = old.then(|| (Handle::of(&dir), name.into()));
        files.to = what.to.filter(|_| new).map(|(to, name)| (Handle::of(&to), name.into()));
        files.object = child;
        files
    }
}

/// A group's events, the oldest first.
pub(super) struct Queue {
    events: VecDeque<Event>,
    /// Of events that others may join: what they have in common, and how many events came before them.
    by_key: HashMap<u64, u64>,
    /// Events that have been taken.
    taken: u64,
    most: usize,
    overflown: bool,
}

impl Queue {
    pub fn new(most: usize) -> Queue {
        Queue { events: VecDeque::new(), by_key: HashMap::new(), taken: 0, most, overflown: false }
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub fn front(&self) -> Option<&Event> {
        self.events.front()
    }

    /// Adds an event: whether it became one with another or was lost, and what the caller is to drop.
    pub fn push(&mut self, event: Event) -> (bool, Option<Event>) {
        let key = event.key(self.by_key.hasher());
        if self.events.len() >= self.most {
            if self.overflown || self.events.try_reserve(1).is_err() {
                return (true, Some(event));
            }
            self.overflown = true;
            self.events.push_back(Event { mask: IN_Q_OVERFLOW, by: None, told: Told::Overflow, asked: None });
            return (false, Some(event));
        }
        if let Some(at) = key.and_then(|key| self.by_key.get(&key))
            && let Some(old) = self.events.get_mut((at - self.taken) as usize)
            && old.says_the_same(&event)
        {
            old.mask |= event.mask;
            return (true, Some(event));
        }
        if self.events.try_reserve(1).is_err() || self.by_key.try_reserve(1).is_err() {
            return (true, Some(event));
        }
        if let Some(key) = key {
            self.by_key.insert(key, self.taken + self.events.len() as u64);
        }
        self.events.push_back(event);
        (false, None)
    }

    pub fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Some(key) = event.key(self.by_key.hasher())
            && self.by_key.get(&key) == Some(&self.taken)
        {
            self.by_key.remove(&key);
        }
        self.taken += 1;
        self.overflown &= !matches!(event.told, Told::Overflow);
        Some(event)
    }

    /// Takes out the event by which somebody asks.
    pub fn withdraw(&mut self, question: &Arc<Question>) -> Option<Event> {
        let at = self.events.iter().position(|e| e.asked.as_ref().is_some_and(|q| Arc::ptr_eq(q, question)))?;
        let event = self.events.remove(at);
        // Those behind it have one less before them.
        let moved = self.taken + at as u64;
        self.by_key.values_mut().filter(|n| **n > moved).for_each(|n| *n -= 1);
        event
    }

    pub fn take_all(&mut self) -> Vec<Event> {
        self.by_key.clear();
        self.taken += self.events.len() as u64;
        core::mem::take(&mut self.events).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(mask: u32, ino: u64) -> Event {
        let object = Some(Handle { id: (1, ino), lasting: true });
        let told = Told::Files(Files { fs: 1, dir: None, to: None, object, apart: false });
        Event { mask, by: None, told, asked: None }
    }

    #[test]
    fn events_that_say_the_same_become_one() {
        let mut q = Queue::new(4);
        for (mask, ino) in [(1, 1), (2, 2), (4, 1), (IN_ISDIR | 1, 1), (8, 2)] {
            q.push(event(mask, ino));
        }
        let seen: Vec<u32> = core::iter::from_fn(|| q.pop()).map(|e| e.mask).collect();
        assert_eq!(seen, [5, 10, IN_ISDIR | 1]);
        q.push(event(1, 1));
        assert_eq!(q.pop().map(|e| e.mask), Some(1));
    }

    #[test]
    fn what_overflows_is_told_once() {
        let mut q = Queue::new(2);
        for ino in 0..5 {
            q.push(event(1, ino));
        }
        let seen: Vec<u32> = core::iter::from_fn(|| q.pop()).map(|e| e.mask).collect();
        assert_eq!(seen, [1, 1, IN_Q_OVERFLOW]);
        for ino in 0..5 {
            q.push(event(1, ino));
        }
        assert_eq!(q.len(), 3);
    }

    #[test]
    fn a_withdrawn_question_leaves_the_others_findable() {
        let mut q = Queue::new(9);
        let question = Arc::new(Question::default());
        q.push(event(1, 1));
        q.push(Event { asked: Some(question.clone()), ..event(2, 2) });
        q.push(event(4, 3));
        assert!(q.withdraw(&question).is_some());
        assert!(q.withdraw(&question).is_none());
        q.push(event(8, 3));
        let seen: Vec<u32> = core::iter::from_fn(|| q.pop()).map(|e| e.mask).collect();
        assert_eq!(seen, [1, 12]);
    }
}
