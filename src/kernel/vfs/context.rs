//! Root, working directory, mount namespace and umask of a process (`CLONE_FS` shares them).

use super::mount::{MountNamespace, Path};
use crate::abi::{Errno, Result};
use crate::sync::{Level, RwLock};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[derive(Clone)]
struct Dirs {
    root: Path,
    cwd: Path,
    /// Kept by those who live in it; `None` only where there are no mounts, in tests.
    namespace: Option<Arc<MountNamespace>>,
}

/// See the module.
pub struct FsContext {
    dirs: RwLock<Dirs>,
    umask: AtomicU32,
}

impl FsContext {
    /// A context with this root and working directory, in the root's namespace.
    pub fn new(root: Path, cwd: Path, umask: u32) -> FsContext {
        let namespace = root.mount.namespace();
        FsContext::of(Dirs { root, cwd, namespace }, umask)
    }

    fn of(dirs: Dirs, umask: u32) -> FsContext {
        FsContext { dirs: RwLock::new(Level::FsContext, dirs), umask: AtomicU32::new(umask & 0o777) }
    }

    /// A copy, for fork.
    pub fn fork_copy(&self) -> FsContext {
        let dirs = self.dirs.read().clone();
        FsContext::of(dirs, self.umask())
    }

    /// The root directory.
    pub fn root(&self) -> Path {
        self.dirs.read().root.clone()
    }

    /// The working directory.
    pub fn cwd(&self) -> Path {
        self.dirs.read().cwd.clone()
    }

    /// The mount namespace.
    ///
    /// # Errors
    /// `EINVAL` where there is none.
    pub fn namespace(&self) -> Result<Arc<MountNamespace>> {
        self.dirs.read().namespace.clone().ok_or(Errno::EINVAL)
    }

    /// Changes the working directory.
    pub fn set_cwd(&self, cwd: Path) {
        let old = core::mem::replace(&mut self.dirs.write().cwd, cwd);
        drop(old);
    }

    /// Changes the root directory.
    pub fn set_root(&self, root: Path) {
        let old = core::mem::replace(&mut self.dirs.write().root, root);
        drop(old);
    }

    /// Moves to a namespace, and to these places in it.
    pub fn enter(&self, root: Path, cwd: Path, namespace: Arc<MountNamespace>) {
        let to = Dirs { root, cwd, namespace: Some(namespace) };
        let old = core::mem::replace(&mut *self.dirs.write(), to);
        drop(old);
    }

    /// Puts `new` in the place of `old`, where the process has it as root or working directory.
    pub fn follow_root(&self, old: &Path, new: &Path) {
        if self.root().same(old) {
            self.set_root(new.clone());
        }
        if self.cwd().same(old) {
            self.set_cwd(new.clone());
        }
    }

    /// The umask.
    pub fn umask(&self) -> u32 {
        self.umask.load(Relaxed)
    }

    /// Sets the umask; returns the old one.
    pub fn set_umask(&self, mask: u32) -> u32 {
        self.umask.swap(mask & 0o777, Relaxed)
    }
}
