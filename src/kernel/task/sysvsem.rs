//! What tasks share by `CLONE_SYSVSEM`: the semaphores that are to be put back at their end.

use super::Task;
use crate::abi::linux::CLONE_SYSVSEM;
use crate::sync::{Level, MendMap, Mutex, MutexGuard};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use once_cell::race::OnceBox;

/// What is to be put back, as far as tasks know it: room `ipc`, which lies above, makes it.
pub trait Undo: Send + Sync {
    /// The last task that shares it ends, in the process with this pid. Done again where the host has ended the thread
    /// that did it.
    fn apply(&self, pid: u32);
    /// For room `ipc` itself.
    fn as_any(&self) -> &dyn Any;
}

/// See the module.
pub struct SysvSem {
    /// Tasks that share it, by their addresses.
    tasks: Mutex<MendMap<usize, ()>>,
    undo: OnceBox<Box<dyn Undo>>,
}

impl SysvSem {
    fn enter(&self, task: &Task) {
        self.tasks.lock().insert(core::ptr::from_ref(task).addr(), ());
    }

    /// What is to be put back; `make` makes it before its first use.
    pub fn undo(&self, make: impl FnOnce() -> Box<dyn Undo>) -> &dyn Undo {
        &**self.undo.get_or_init(|| Box::new(make()))
    }
}

/// A task's reference to it; changed by one store.
pub(super) type Slot = Mutex<Option<Arc<SysvSem>>>;

pub(super) const fn slot() -> Slot {
    Mutex::new(Level::Leaf, None)
}

impl Task {
    /// What the task shares.
    pub fn sysvsem(&self) -> Arc<SysvSem> {
        if let Some(shared) = &*self.sysvsem.lock() {
            return shared.clone();
        }
        let tasks = Mutex::mended(Level::Leaf, MendMap::new());
        let shared = Arc::new(SysvSem { tasks, undo: OnceBox::new() });
        shared.enter(self);
        MutexGuard::scratch(&mut self.sysvsem.lock()).insert(shared).clone()
    }

    /// A child made with these `CLONE_*` shares it, or has nothing yet.
    pub(super) fn share_sysvsem(&self, child: &Task, flags: u64) {
        if flags & u64::from(CLONE_SYSVSEM) != 0 {
            let shared = self.sysvsem();
            shared.enter(child);
            *MutexGuard::scratch(&mut child.sysvsem.lock()) = Some(shared);
        }
    }

    /// The task shares it no longer: whoever is the last puts back.
    pub fn leave_sysvsem(&self) {
        let Some(shared) = self.sysvsem.lock().clone() else { return };
        let is_last = {
            let mut tasks = shared.tasks.lock();
            tasks.remove(&core::ptr::from_ref(self).addr());
            tasks.is_empty()
        };
        if is_last && let Some(undo) = shared.undo.get() {
            undo.apply(self.group.pid);
        }
        // Not before: should the host end the thread up to here, all of it is done again.
        let shared = MutexGuard::scratch(&mut self.sysvsem.lock()).take();
        drop(shared);
    }
}
