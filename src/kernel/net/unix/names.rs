//! The local sockets of a network namespace: abstract names, and every socket once.

use super::sock::{Kind, Sock};
use crate::abi::{Errno, Result};
use crate::sync::{Level, MendHashMap, Mutex};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// A name as `sun_path` holds it: a path without its NUL, or NUL and an abstract name.
pub type Name = Arc<[u8]>;

/// See the module.
pub struct LocalSockets {
    /// Each type has names of its own.
    names: Mutex<[MendHashMap<Name, Weak<Sock>>; 3]>,
    /// By inode number.
    all: Mutex<MendHashMap<u64, Weak<Sock>>>,
}

impl LocalSockets {
    /// Gives a socket an abstract name (which starts with NUL).
    ///
    /// # Errors
    /// `EADDRINUSE`, `ENOMEM`.
    pub(super) fn claim(&self, name: &Name, sock: &Sock) -> Result {
        let names = &mut self.names.lock()[sock.kind as usize];
        if names.get(name).is_some() {
            return Err(Errno::EADDRINUSE);
        }
        names.try_reserve()?;
        names.insert(name.clone(), sock.me.clone());
        Ok(())
    }

    /// The name is free again.
    pub(super) fn forget(&self, name: &[u8], sock: &Sock) {
        let gone = self.names.lock()[sock.kind as usize].remove(name);
        drop(gone);
    }

    /// The socket of this kind that has an abstract name.
    ///
    /// # Errors
    /// `ECONNREFUSED`.
    pub(super) fn find(&self, name: &[u8], kind: Kind) -> Result<Arc<Sock>> {
        let found = self.names.lock()[kind as usize].get(name).and_then(Weak::upgrade);
        found.ok_or(Errno::ECONNREFUSED)
    }

    /// Enters a socket into the table of all.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn enter(&self, sock: &Arc<Sock>) -> Result {
        let mut all = self.all.lock();
        all.try_reserve()?;
        all.insert(sock.core.ino, Arc::downgrade(sock));
        Ok(())
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
        out.sort_unstable_by_key(|sock: &Arc<Sock>| sock.core.ino);
        out
    }
}

impl Default for LocalSockets {
    fn default() -> Self {
        LocalSockets {
            names: Mutex::mended(Level::Leaf, Default::default()),
            all: Mutex::mended(Level::Leaf, Default::default()),
        }
    }
}
