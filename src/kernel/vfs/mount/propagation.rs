//! Peer groups and slaves: what is mounted on one mount appears on others, too
//! (`mount_namespaces(7)`, Linux's `fs/pnode.c`).

use super::{Mount, Path};
use crate::abi::Result;
use crate::sync::{Level, Mutex};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How changes of a mount spread (`MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE`, `MS_UNBINDABLE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// To its peers and slaves, and from its peers.
    Shared,
    /// Not at all.
    Private,
    /// From its master only.
    Slave,
    /// Not at all, and it cannot be bound elsewhere.
    Unbindable,
}

/// A peer group. Its lock is taken with no mount's lock held, under the lock of all trees.
pub struct Peers {
    /// As in `/proc/self/mountinfo`.
    pub id: u64,
    members: Mutex<Vec<Weak<Mount>>>,
    /// Mounts that are slaves of it.
    slaves: Mutex<Vec<Weak<Mount>>>,
}

static NEXT_GROUP: AtomicU64 = AtomicU64::new(1);

fn live(list: &Mutex<Vec<Weak<Mount>>>) -> Vec<Arc<Mount>> {
    list.lock().iter().filter_map(Weak::upgrade).collect()
}

fn forget(list: &Mutex<Vec<Weak<Mount>>>, mount: &Arc<Mount>) {
    list.lock().retain(|m| m.strong_count() > 0 && !core::ptr::eq(m.as_ptr(), Arc::as_ptr(mount)));
}

impl Peers {
    fn new() -> Arc<Peers> {
        Arc::new(Peers {
            id: NEXT_GROUP.fetch_add(1, Relaxed),
            members: Mutex::new(Level::Leaf, Vec::new()),
            slaves: Mutex::new(Level::Leaf, Vec::new()),
        })
    }
}

impl Mount {
    fn group(&self) -> Option<Arc<Peers>> {
        self.links.read().group.clone()
    }

    fn master(&self) -> Option<Arc<Peers>> {
        self.links.read().master.clone()
    }

    fn join(self: &Arc<Self>, group: Arc<Peers>) {
        group.members.lock().push(Arc::downgrade(self));
        self.links.write().group = Some(group);
    }

    /// It is a peer and a slave from now on of what the other one is.
    pub(super) fn share_with(self: &Arc<Self>, other: &Arc<Mount>) {
        if let Some(master) = other.master() {
            self.follow(Some(master));
        }
        if let Some(group) = other.group() {
            self.join(group);
        }
    }

    fn follow(self: &Arc<Self>, master: Option<Arc<Peers>>) {
        let old = self.links.write().master.take();
        if let Some(old) = old {
            forget(&old.slaves, self);
        }
        if let Some(master) = master {
            master.slaves.lock().push(Arc::downgrade(self));
            self.links.write().master = Some(master);
        }
    }

    /// Leaves its peer group; returns the group if others stay in it. With the last member the group's
    /// slaves become slaves of that member's master.
    fn leave(self: &Arc<Self>) -> Option<Arc<Peers>> {
        let group = self.links.write().group.take()?;
        forget(&group.members, self);
        if !live(&group.members).is_empty() {
            return Some(group);
        }
        let master = self.master();
        for slave in live(&group.slaves) {
            slave.follow(master.clone());
        }
        None
    }

    /// Changes how what happens to it spreads.
    pub(super) fn set_kind(self: &Arc<Self>, kind: Kind) {
        match kind {
            Kind::Shared => {
                if self.group().is_none() {
                    self.join(Peers::new());
                }
            }
            Kind::Slave => {
                if let Some(group) = self.leave() {
                    self.follow(Some(group));
                }
            }
            Kind::Private | Kind::Unbindable => {
                self.leave();
                self.follow(None);
            }
        }
        // What cannot be bound is no slave, but stays what it is where it is asked to be one.
        if kind != Kind::Slave {
            self.links.write().unbindable = kind == Kind::Unbindable;
        }
    }

    /// A copy of one mount, rooted at `path`'s dentry, that spreads as the original does.
    pub(super) fn copy(path: &Path, relation: Relation) -> Arc<Mount> {
        let from = &path.mount;
        let flags = from.flags.load(Relaxed);
        let copy = Mount::of(path.dentry.clone(), from.fs.clone(), flags, from.fstype, &from.source);
        let (group, master) = (from.group(), from.master());
        match (relation, group) {
            (Relation::Peer, group) => {
                if let Some(group) = group {
                    copy.join(group);
                }
                copy.follow(master);
            }
            (Relation::Slave { shared }, Some(group)) => {
                copy.follow(Some(group));
                if shared {
                    copy.join(Peers::new());
                }
            }
            (Relation::Slave { shared }, None) => {
                copy.follow(master);
                if shared {
                    copy.join(Peers::new());
                }
            }
        }
        let unbindable = from.propagation().2;
        copy.links.write().unbindable = unbindable;
        copy
    }

    /// Whether it is in a peer group.
    pub(super) fn is_shared(&self) -> bool {
        self.links.read().group.is_some()
    }
}

/// What a copy of a mount is to the original.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relation {
    /// Its peer where it has any, and a slave of the same master.
    Peer,
    /// Its slave, with a peer group of its own if `shared`.
    Slave { shared: bool },
}

/// Is shown a mount, what it is to the template's, and the template; returns its own.
type Visit<'a, T> = dyn FnMut(&Arc<Mount>, Relation, &T) -> Result<Option<T>> + 'a;

/// Calls `visit(mount, relation, template)` for every mount that a change of `mount` spreads to. What
/// `visit` returns is the template for those that are nearer to it than to the one before; the first is
/// `template`.
pub(super) fn each_target<T: Clone>(mount: &Arc<Mount>, template: T, visit: &mut Visit<'_, T>) -> Result {
    let Some(group) = mount.group() else { return Ok(()) };
    for peer in live(&group.members) {
        if !Arc::ptr_eq(&peer, mount) {
            visit(&peer, Relation::Peer, &template)?;
        }
    }
    // Groups whose slaves are still to come: slaves form no circles.
    let mut todo = alloc::vec![(group, template)];
    while let Some((group, template)) = todo.pop() {
        let mut seen: Vec<u64> = Vec::new();
        for slave in live(&group.slaves) {
            let Some(own) = slave.group() else {
                visit(&slave, Relation::Slave { shared: false }, &template)?;
                continue;
            };
            if seen.contains(&own.id) {
                continue;
            }
            seen.push(own.id);
            let first = visit(&slave, Relation::Slave { shared: true }, &template)?;
            // Without a copy there the peers copy what the master's side has.
            let (next, relation) = match first {
                Some(next) => (next, Relation::Peer),
                None => (template.clone(), Relation::Slave { shared: true }),
            };
            for peer in live(&own.members) {
                if !Arc::ptr_eq(&peer, &slave) {
                    visit(&peer, relation, &next)?;
                }
            }
            todo.push((own, next));
        }
    }
    Ok(())
}
