//! Root, working directory and umask of a process (`CLONE_FS` shares them).

use super::mount::Path;
use crate::sync::{Level, RwLock};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// See the module.
pub struct FsContext {
    dirs: RwLock<(Path, Path)>,
    umask: AtomicU32,
}

impl FsContext {
    /// A context with this root and working directory.
    pub fn new(root: Path, cwd: Path, umask: u32) -> FsContext {
        FsContext { dirs: RwLock::new(Level::FsContext, (root, cwd)), umask: AtomicU32::new(umask & 0o777) }
    }

    /// A copy, for fork.
    pub fn fork_copy(&self) -> FsContext {
        let dirs = self.dirs.read();
        FsContext::new(dirs.0.clone(), dirs.1.clone(), self.umask())
    }

    /// The root directory.
    pub fn root(&self) -> Path {
        self.dirs.read().0.clone()
    }

    /// The working directory.
    pub fn cwd(&self) -> Path {
        self.dirs.read().1.clone()
    }

    /// Changes the working directory.
    pub fn set_cwd(&self, cwd: Path) {
        let mut dirs = self.dirs.write();
        let old = core::mem::replace(&mut dirs.1, cwd);
        drop(dirs);
        drop(old);
    }

    /// Changes the root directory.
    pub fn set_root(&self, root: Path) {
        let mut dirs = self.dirs.write();
        let old = core::mem::replace(&mut dirs.0, root);
        drop(dirs);
        drop(old);
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
