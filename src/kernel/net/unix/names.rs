//! The local sockets of a network namespace: abstract names, and every socket once.

use super::sock::{Kind, Sock};
use crate::abi::{Errno, Result};
use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// A name as `sun_path` holds it: a path without its NUL, or NUL and an abstract name.
pub type Name = Arc<[u8]>;

/// See the module.
pub struct LocalSockets {
    /// Each type has names of its own.
    names: Mutex<BTreeMap<Name, [Option<Weak<Sock>>; 3]>>,
    /// By inode number.
    all: Mutex<BTreeMap<u64, Weak<Sock>>>,
}

impl LocalSockets {
    /// None yet.
    pub const fn new() -> LocalSockets {
        LocalSockets { names: Mutex::new(Level::Leaf, BTreeMap::new()), all: Mutex::new(Level::Leaf, BTreeMap::new()) }
    }

    /// Gives a socket an abstract name (which starts with NUL).
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub(super) fn claim(&self, name: &Name, sock: &Sock) -> Result {
        let mut names = self.names.lock();
        let place = &mut names.entry(name.clone()).or_default()[sock.kind as usize];
        if place.is_some() {
            return Err(Errno::EADDRINUSE);
        }
        *place = Some(sock.me.clone());
        Ok(())
    }

    /// The name is free again.
    pub(super) fn forget(&self, name: &[u8], sock: &Sock) {
        let mut names = self.names.lock();
        let Some(kinds) = names.get_mut(name) else { return };
        let old = kinds[sock.kind as usize].take();
        let gone = if kinds.iter().all(Option::is_none) { names.remove_entry(name) } else { None };
        drop(names);
        drop((old, gone));
    }

    /// The socket of this kind that has an abstract name.
    ///
    /// # Errors
    /// `ECONNREFUSED`.
    pub(super) fn find(&self, name: &[u8], kind: Kind) -> Result<Arc<Sock>> {
        let names = self.names.lock();
        let found = names.get(name).and_then(|kinds| kinds[kind as usize].as_ref()?.upgrade());
        drop(names);
        found.ok_or(Errno::ECONNREFUSED)
    }

    pub(super) fn enter(&self, sock: &Arc<Sock>) {
        self.all.lock().insert(sock.core.ino, Arc::downgrade(sock));
    }

    pub(super) fn leave(&self, sock: &Sock) {
        let gone = self.all.lock().remove(&sock.core.ino);
        drop(gone);
    }

    /// All sockets, those in nobody's hands included, by inode number.
    pub fn all(&self) -> Vec<Arc<Sock>> {
        let all = self.all.lock();
        let mut out = Vec::new();
        if out.try_reserve_exact(all.len()).is_ok() {
            out.extend(all.values().filter_map(Weak::upgrade));
        }
        drop(all);
        out
    }
}

impl Default for LocalSockets {
    fn default() -> Self {
        LocalSockets::new()
    }
}
