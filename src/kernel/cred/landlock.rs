//! Landlock: what a program has forbidden itself (`landlock(7)`).
//!
//! A ruleset becomes a layer of a task's domain; each layer must allow what is done. Files are known by device and
//! inode number; [`crate::vfs::landlock`] walks the tree.

use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::sync::{Level, Mutex};
use alloc::sync::Arc;
use hashbrown::HashMap;

/// The version of the interface.
pub const ABI: u32 = 7;
/// Most layers of a domain.
const LAYERS_MAX: u32 = 16;

/// Rights over files (`LANDLOCK_ACCESS_FS_*`).
#[allow(missing_docs)]
pub mod fs {
    pub const EXECUTE: u64 = 1;
    pub const WRITE_FILE: u64 = 1 << 1;
    pub const READ_FILE: u64 = 1 << 2;
    pub const READ_DIR: u64 = 1 << 3;
    pub const REMOVE_DIR: u64 = 1 << 4;
    pub const REMOVE_FILE: u64 = 1 << 5;
    pub const MAKE_CHAR: u64 = 1 << 6;
    pub const MAKE_DIR: u64 = 1 << 7;
    pub const MAKE_REG: u64 = 1 << 8;
    pub const MAKE_SOCK: u64 = 1 << 9;
    pub const MAKE_FIFO: u64 = 1 << 10;
    pub const MAKE_BLOCK: u64 = 1 << 11;
    pub const MAKE_SYM: u64 = 1 << 12;
    pub const REFER: u64 = 1 << 13;
    pub const TRUNCATE: u64 = 1 << 14;
    pub const IOCTL_DEV: u64 = 1 << 15;
    /// All of them.
    pub const ALL: u64 = (1 << 16) - 1;
    /// Those that make sense for what is no directory.
    pub const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
}

/// Rights over ports (`LANDLOCK_ACCESS_NET_*`).
#[allow(missing_docs)]
pub mod net {
    pub const BIND_TCP: u64 = 1;
    pub const CONNECT_TCP: u64 = 2;
    pub const ALL: u64 = 3;
}

/// What stays within the domain (`LANDLOCK_SCOPE_*`).
#[allow(missing_docs)]
pub mod scope {
    pub const ABSTRACT_UNIX_SOCKET: u64 = 1;
    pub const SIGNAL: u64 = 2;
    pub const ALL: u64 = 3;
}

/// What a ruleset is about (`struct landlock_ruleset_attr`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Handled {
    /// [`fs`].
    pub fs: u64,
    /// [`net`].
    pub net: u64,
    /// [`scope`].
    pub scope: u64,
}

/// Exceptions: what is allowed nevertheless.
#[derive(Clone, Debug, Default)]
struct Rules {
    files: HashMap<(u64, u64), u64>,
    ports: HashMap<u16, u64>,
}

/// A ruleset that is being made.
#[derive(Debug)]
pub struct Ruleset {
    /// What it is about.
    pub handled: Handled,
    rules: Mutex<Rules>,
}

impl Ruleset {
    /// One without exceptions.
    pub fn new(handled: Handled) -> Ruleset {
        Ruleset { handled, rules: Mutex::new(Level::Leaf, Rules::default()) }
    }

    /// Allows `access` to the file `id` and what is below it.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn allow_file(&self, id: (u64, u64), access: u64) -> Result {
        arena::charge(Object::Watch)?;
        let mut rules = self.rules.lock();
        rules.files.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        *rules.files.entry(id).or_default() |= access;
        Ok(())
    }

    /// Allows `access` to a port.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn allow_port(&self, port: u16, access: u64) -> Result {
        arena::charge(Object::Watch)?;
        let mut rules = self.rules.lock();
        rules.ports.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        *rules.ports.entry(port).or_default() |= access;
        Ok(())
    }
}

/// What a task is restricted to.
#[derive(Debug)]
pub struct Domain {
    parent: Option<Arc<Domain>>,
    layers: u32,
    handled: Handled,
    rules: Rules,
}

/// For each layer what it allows, the innermost first.
pub type Allowed = arrayvec::ArrayVec<u64, { LAYERS_MAX as usize }>;

impl Domain {
    /// `parent` with the ruleset as a further layer.
    ///
    /// # Errors
    /// `E2BIG` for too many layers, `ENOMEM`.
    pub fn restrict(parent: Option<&Arc<Domain>>, ruleset: &Ruleset) -> Result<Arc<Domain>> {
        let layers = parent.map_or(0, |p| p.layers) + 1;
        if layers > LAYERS_MAX {
            return Err(Errno::E2BIG);
        }
        arena::charge(Object::Namespace)?;
        let mut copy = Rules::default();
        let rules = ruleset.rules.lock();
        copy.files.try_reserve(rules.files.len()).map_err(|_| Errno::ENOMEM)?;
        copy.ports.try_reserve(rules.ports.len()).map_err(|_| Errno::ENOMEM)?;
        copy.files.extend(rules.files.iter().map(|(k, v)| (*k, *v)));
        copy.ports.extend(rules.ports.iter().map(|(k, v)| (*k, *v)));
        drop(rules);
        Ok(Arc::new(Domain { parent: parent.cloned(), layers, handled: ruleset.handled, rules: copy }))
    }

    fn layers(&self) -> impl Iterator<Item = &Domain> {
        core::iter::successors(Some(self), |d| d.parent.as_deref())
    }

    /// What any layer is about, of files.
    pub fn handled_fs(&self) -> u64 {
        self.layers().fold(0, |all, d| all | d.handled.fs)
    }

    /// What each layer allows without exceptions: what it is not about. Giving a file to another directory takes an
    /// exception always.
    pub fn unhandled(&self) -> Allowed {
        self.layers().map(|d| !(d.handled.fs | fs::REFER)).collect()
    }

    /// Adds what each layer allows of the file `id` and what is below it.
    pub fn add(&self, id: (u64, u64), allowed: &mut Allowed) {
        for (layer, allowed) in self.layers().zip(allowed) {
            *allowed |= layer.rules.files.get(&id).copied().unwrap_or(0);
        }
    }

    /// Whether all layers allow `access` to a TCP port.
    pub fn allows_port(&self, port: u16, access: u64) -> bool {
        self.layers().all(|d| {
            let wanted = access & d.handled.net;
            wanted & !d.rules.ports.get(&port).copied().unwrap_or(0) == 0
        })
    }

    /// Whether this is `other` or was made of it.
    fn is_within(&self, other: &Domain) -> bool {
        self.layers().any(|d| core::ptr::eq(d, other))
    }
}

/// Whether somebody of the domain `who` may look into a task of the domain `whom`: that must be as restricted.
pub fn may_trace(who: Option<&Arc<Domain>>, whom: Option<&Arc<Domain>>) -> bool {
    who.is_none_or(|who| whom.is_some_and(|whom| whom.is_within(who)))
}

/// Whether something of the kind `scope` may go from one domain to another: each layer that keeps it in must have both.
pub fn may_reach(from: Option<&Arc<Domain>>, to: Option<&Arc<Domain>>, scope: u64) -> bool {
    let Some(from) = from else { return true };
    from.layers().filter(|d| d.handled.scope & scope != 0).all(|d| to.is_some_and(|to| to.is_within(d)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(parent: Option<&Arc<Domain>>, handled: Handled, file: Option<((u64, u64), u64)>) -> Arc<Domain> {
        let set = Ruleset::new(handled);
        if let Some((id, access)) = file {
            set.allow_file(id, access).expect("there is room");
        }
        Domain::restrict(parent, &set).expect("few layers")
    }

    #[test]
    fn every_layer_must_allow() {
        let read = Handled { fs: fs::READ_FILE, ..Handled::default() };
        let a = layer(None, read, Some(((1, 1), fs::READ_FILE)));
        let b = layer(Some(&a), read, Some(((1, 2), fs::READ_FILE)));
        let of = |ids: &[u64]| {
            let mut allowed = b.unhandled();
            ids.iter().for_each(|&ino| b.add((1, ino), &mut allowed));
            allowed.iter().all(|a| a & fs::READ_FILE != 0)
        };
        assert!(!of(&[1]) && !of(&[2]) && of(&[2, 1]));
        assert!(b.unhandled().iter().all(|a| a & fs::WRITE_FILE != 0 && a & fs::REFER == 0));
        let mut deep = b;
        for _ in 2..LAYERS_MAX {
            deep = layer(Some(&deep), read, None);
        }
        assert_eq!(Domain::restrict(Some(&deep), &Ruleset::new(read)).map(drop), Err(Errno::E2BIG));
    }

    #[test]
    fn scopes_keep_things_within() {
        let keeps = Handled { scope: scope::SIGNAL, ..Handled::default() };
        let a = layer(None, keeps, None);
        let b = layer(Some(&a), Handled { net: net::ALL, ..Handled::default() }, None);
        let other = layer(None, keeps, None);
        assert!(may_reach(Some(&a), Some(&b), scope::SIGNAL) && may_reach(Some(&b), Some(&a), scope::SIGNAL));
        assert!(!may_reach(Some(&a), Some(&other), scope::SIGNAL) && !may_reach(Some(&a), None, scope::SIGNAL));
        assert!(may_reach(Some(&a), None, scope::ABSTRACT_UNIX_SOCKET) && may_reach(None, Some(&a), scope::SIGNAL));
        assert!(may_trace(Some(&a), Some(&b)) && !may_trace(Some(&b), Some(&a)) && !may_trace(Some(&b), None));
        assert!(!b.allows_port(80, net::BIND_TCP) && a.allows_port(80, net::BIND_TCP));
    }
}
