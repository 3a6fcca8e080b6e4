//! User namespaces (`user_namespaces(7)`), and the numbers by which namespaces of all kinds are known.

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

/// The inode number of a new namespace of any kind.
pub fn new_ino() -> u32 {
    NEXT.fetch_add(1, Relaxed)
}

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
    maps: [Mutex<Arc<[Extent]>>; 2],
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
                maps: [map(), map()],
            }))
        })
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
