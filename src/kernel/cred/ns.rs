//! User namespaces (`user_namespaces(7)`), and the numbers by which namespaces of all kinds are known.

use super::count::{self, Counts};
use super::{Cred, cap};
use crate::abi::{Errno, Result};
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use once_cell::race::OnceBox;

/// Inode numbers of the initial namespaces, as Linux has them (`include/linux/proc_ns.h`).
pub mod ino {
    #![allow(missing_docs)]
    pub const IPC: u32 = 0xefff_ffff;
    pub const UTS: u32 = 0xefff_fffe;
    pub const USER: u32 = 0xefff_fffd;
    pub const PID: u32 = 0xefff_fffc;
    pub const CGROUP: u32 = 0xefff_fffb;
    pub const TIME: u32 = 0xefff_fffa;
    pub const NET: u32 = 0xefff_fff9;
    pub const MNT: u32 = 0xefff_fff8;
}

/// Numbers of further namespaces.
static NEXT: AtomicU32 = AtomicU32::new(0xf000_0000);

/// Whether there has ever been a user namespace but the initial one: until then ids need no translation.
static ANY: AtomicBool = AtomicBool::new(false);

/// See [`ANY`].
pub fn any() -> bool {
    ANY.load(Relaxed)
}

/// The inode number of a new namespace of any kind.
pub fn new_ino() -> u32 {
    NEXT.fetch_add(1, Relaxed)
}

/// The id that stands for those that a namespace does not know (`/proc/sys/kernel/overflowuid`).
pub const OVERFLOW: u32 = 65534;
/// No namespace has a greater [`UserNamespace::level`] but one (`create_user_ns`).
const LEVEL_MAX: u32 = 32;

/// A line of `/proc/PID/uid_map`: `count` ids from `inside` on are those from `outside` on in the initial
/// namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Extent {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// Kind of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    User,
    Group,
    Project,
}

/// A user namespace. Ids in [`super::Cred`] and inodes are those of the initial namespace.
pub struct UserNamespace {
    /// See [`ino`].
    pub ino: u32,
    /// Depth below the initial one, which has 0.
    pub level: u32,
    /// `None` for the initial one.
    pub parent: Option<Arc<UserNamespace>>,
    /// Effective ids of its maker.
    pub owner: (u32, u32),
    /// `/proc/PID/setgroups` says `allow`.
    pub setgroups: AtomicBool,
    /// Its maker could give capabilities to files, hence may map its parent's root.
    pub(super) parent_could_setfcap: bool,
    /// Namespaces that users have made in it, and how many they may.
    pub counts: Counts,
    pub(super) maps: [Mutex<Arc<[Extent]>>; 3],
    /// Maps are written, and setgroups is changed, by one at a time.
    pub(super) writing: Mutex<()>,
    /// It counts for its maker.
    _charge: Option<count::Charge>,
}

impl UserNamespace {
    /// The initial namespace.
    pub fn initial() -> &'static Arc<UserNamespace> {
        static INITIAL: OnceBox<Arc<UserNamespace>> = OnceBox::new();
        INITIAL.get_or_init(|| {
            let all: Arc<[Extent]> = Arc::new([Extent { inside: 0, outside: 0, count: u32::MAX }]);
            let map = || Mutex::new(Level::Leaf, all.clone());
            Box::new(Arc::new(UserNamespace {
                ino: ino::USER,
                level: 0,
                parent: None,
                owner: (0, 0),
                setgroups: AtomicBool::new(true),
                parent_could_setfcap: true,
                counts: Counts::default(),
                maps: [map(), map(), map()],
                writing: Mutex::new(Level::UserMaps, ()),
                _charge: None,
            }))
        })
    }

    /// A namespace below that of its maker, without maps (`create_user_ns`).
    ///
    /// # Errors
    /// `ENOSPC` too deep or for too many; `EPERM` for a maker whose ids its own namespace does not know.
    pub fn child(maker: &Cred) -> Result<Arc<UserNamespace>> {
        let parent = &maker.user_ns;
        if parent.level > LEVEL_MAX {
            return Err(Errno::ENOSPC);
        }
        let charge = count::charge(parent, maker.euid, count::Of::User)?;
        if !parent.has(Kind::User, maker.euid) || !parent.has(Kind::Group, maker.egid) {
            return Err(Errno::EPERM);
        }
        ANY.store(true, Relaxed);
        let none: Arc<[Extent]> = Arc::new([]);
        let map = || Mutex::new(Level::Leaf, none.clone());
        Ok(Arc::new(UserNamespace {
            ino: new_ino(),
            level: parent.level + 1,
            parent: Some(parent.clone()),
            owner: (maker.euid, maker.egid),
            setgroups: AtomicBool::new(parent.setgroups.load(Relaxed)),
            parent_could_setfcap: maker.capable_here(cap::SETFCAP),
            counts: Counts::default(),
            maps: [map(), map(), map()],
            writing: Mutex::new(Level::UserMaps, ()),
            _charge: Some(charge),
        }))
    }

    /// Whether an id of the initial namespace is known here.
    pub fn has(&self, kind: Kind, id: u32) -> bool {
        if self.level == 0 { id != u32::MAX } else { self.inside(kind, id).is_some() }
    }

    /// An id of the initial namespace as it is seen here: [`OVERFLOW`] if it is not known.
    pub fn seen(&self, kind: Kind, id: u32) -> u32 {
        if self.level == 0 { id } else { self.inside(kind, id).unwrap_or(OVERFLOW) }
    }

    /// The id that programs here mean by `id`.
    ///
    /// # Errors
    /// `EINVAL` for one that is not mapped.
    pub fn meant(&self, kind: Kind, id: u32) -> Result<u32> {
        if self.level == 0 && id != u32::MAX {
            return Ok(id);
        }
        self.outside(kind, id).ok_or(Errno::EINVAL)
    }

    /// Whether programs here may change their supplementary groups.
    pub fn may_setgroups(&self) -> bool {
        self.setgroups.load(Relaxed) && (self.level == 0 || !self.map(Kind::Group).is_empty())
    }

    /// The map of a kind of ids; empty until it is written.
    pub fn map(&self, kind: Kind) -> Arc<[Extent]> {
        self.maps[kind as usize].lock().clone()
    }

    /// The id in this namespace of an id of the initial one; `None` if it has none.
    pub fn inside(&self, kind: Kind, id: u32) -> Option<u32> {
        let map = self.map(kind);
        let e = map.iter().find(|e| id.checked_sub(e.outside).is_some_and(|at| at < e.count))?;
        Some(e.inside + (id - e.outside))
    }

    /// The id of the initial namespace for an id of this one; `None` if it is not mapped.
    pub fn outside(&self, kind: Kind, id: u32) -> Option<u32> {
        let map = self.map(kind);
        let e = map.iter().find(|e| id.checked_sub(e.inside).is_some_and(|at| at < e.count))?;
        Some(e.outside + (id - e.inside))
    }

    /// Whether this is `other` or lies below it.
    pub fn is_within(self: &Arc<Self>, other: &Arc<UserNamespace>) -> bool {
        let mut at = self;
        loop {
            if Arc::ptr_eq(at, other) {
                return true;
            }
            let Some(parent) = &at.parent else { return false };
            at = parent;
        }
    }
}

impl core::fmt::Debug for UserNamespace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "user:[{}]", self.ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_namespace_maps_every_id_but_the_invalid_one_to_itself() {
        let ns = UserNamespace::initial();
        assert_eq!(ns.inside(Kind::User, 65534), Some(65534));
        assert_eq!(ns.outside(Kind::Group, 0), Some(0));
        assert_eq!(ns.inside(Kind::User, u32::MAX), None);
        assert!(ns.is_within(ns));
    }
}
