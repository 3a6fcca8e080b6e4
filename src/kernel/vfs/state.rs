//! What a file has for as long as it is in use, whatever its file system: locks, and who writes to it or
//! runs it.

use super::inode::Inode;
use super::lease::Leases;
use super::locks::FileLocks;
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering::SeqCst};
use hashbrown::HashMap;
use once_cell::race::OnceBox;

/// See the module.
#[derive(Default)]
pub struct FileState {
    /// Advisory locks.
    pub locks: FileLocks,
    /// Leases, once somebody has asked for one.
    pub(super) leases: OnceBox<Leases>,
    /// Open descriptions that may write; below zero: programs that run it (`i_writecount` in Linux).
    writers: AtomicI32,
    /// `RWH_*` of `fcntl(2)`.
    pub write_hint: AtomicU8,
    /// Made by `O_TMPFILE`.
    linkable: AtomicBool,
}

impl FileState {
    /// Whether it can be given a name although it has none.
    pub fn linkable(&self) -> bool {
        self.linkable.load(SeqCst)
    }

    /// Open descriptions that may write; below zero: programs that run it.
    pub fn writers(&self) -> i32 {
        self.writers.load(SeqCst)
    }

    /// See [`FileState::linkable`].
    pub fn set_linkable(&self, linkable: bool) {
        self.linkable.store(linkable, SeqCst);
    }
}

/// Lets somebody write to a file: it cannot be run meanwhile.
pub struct WriteAccess(Arc<dyn Inode>);

impl WriteAccess {
    /// One more may write to `inode` until this is dropped.
    ///
    /// # Errors
    /// `ETXTBSY` while it is run; `ENOMEM`.
    pub fn new(inode: &Arc<dyn Inode>) -> Result<WriteAccess> {
        let more = |n: i32| (0..i32::MAX).contains(&n).then_some(n + 1);
        let writers = &inode.state().get(&**inode)?.writers;
        writers.fetch_update(SeqCst, SeqCst, more).map_err(|_| Errno::ETXTBSY)?;
        Ok(WriteAccess(inode.clone()))
    }
}

impl Drop for WriteAccess {
    fn drop(&mut self) {
        if let Some(state) = self.0.state().known(&*self.0) {
            state.writers.fetch_sub(1, SeqCst);
        }
    }
}

/// Keeps a file that is run from being written.
pub struct DenyWrite(Arc<dyn Inode>);

impl DenyWrite {
    /// Nobody may write to `inode` until this is dropped.
    ///
    /// # Errors
    /// `ETXTBSY` while somebody may; `ENOMEM`.
    pub fn new(inode: &Arc<dyn Inode>) -> Result<Arc<DenyWrite>> {
        let less = |n: i32| (i32::MIN + 1..=0).contains(&n).then_some(n - 1);
        let writers = &inode.state().get(&**inode)?.writers;
        writers.fetch_update(SeqCst, SeqCst, less).map_err(|_| Errno::ETXTBSY)?;
        Ok(Arc::new(DenyWrite(inode.clone())))
    }
}

impl Drop for DenyWrite {
    fn drop(&mut self) {
        if let Some(state) = self.0.state().known(&*self.0) {
            state.writers.fetch_add(1, SeqCst);
        }
    }
}

/// The state of a file of which there can be several inodes, made anew at each look-up: all with the same
/// identity share it.
#[derive(Default)]
pub struct SharedState(OnceBox<Arc<FileState>>);

/// States that are shared, by identity.
type InUse = HashMap<(u64, u64), Weak<FileState>>;
static IN_USE: Mutex<Option<InUse>> = Mutex::new(Level::Leaf, None);
/// Entries there.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Where an inode has its state.
pub enum StateRef<'a> {
    /// In itself.
    Own(&'a FileState),
    /// In itself, once there is any use for it.
    Rare(&'a OnceBox<FileState>),
    /// See [`SharedState`].
    Shared(&'a SharedState),
}

impl<'a> StateRef<'a> {
    /// The state of `inode`, whose this is.
    ///
    /// # Errors
    /// `ENOMEM`, what identifies the file fails.
    pub fn get(self, inode: &dyn Inode) -> Result<&'a FileState> {
        match self {
            StateRef::Own(state) => Ok(state),
            StateRef::Rare(state) => Ok(state.get_or_init(|| Box::new(FileState::default()))),
            StateRef::Shared(shared) => {
                shared.0.get_or_try_init(|| find(inode, true)?.map(Box::new).ok_or(Errno::ENOMEM)).map(|s| &**s)
            }
        }
    }

    /// As [`StateRef::get`], if the file has had any use for a state yet.
    pub fn known(self, inode: &dyn Inode) -> Option<&'a FileState> {
        match self {
            StateRef::Own(state) => Some(state),
            StateRef::Rare(state) => state.get(),
            StateRef::Shared(shared) => match shared.0.get() {
                Some(state) => Some(state),
                None if COUNT.load(SeqCst) == 0 => None,
                None => shared
                    .0
                    .get_or_try_init(|| find(inode, false)?.map(Box::new).ok_or(Errno::ENOENT))
                    .ok()
                    .map(|s| &**s),
            },
        }
    }
}

fn find(inode: &dyn Inode, make: bool) -> Result<Option<Arc<FileState>>> {
    let id = inode.identity()?;
    let mut guard = IN_USE.lock();
    let known = guard.as_ref().and_then(|all| all.get(&id)).and_then(Weak::upgrade);
    if known.is_some() || !make {
        return Ok(known);
    }
    arena::charge(Object::File)?;
    let all = guard.get_or_insert_with(HashMap::new);
    if all.len() == all.capacity() {
        all.retain(|_, state| state.strong_count() > 0);
        all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    }
    let state = Arc::new(FileState::default());
    all.insert(id, Arc::downgrade(&state));
    COUNT.store(all.len(), SeqCst);
    Ok(Some(state))
}
