//! What tasks share by `CLONE_SYSVSEM`: the semaphores that are to be put back at their end.

use super::Task;
use crate::abi::linux::CLONE_SYSVSEM;
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use once_cell::race::OnceBox;

/// What is to be put back, as far as tasks know it: room `ipc`, which lies above, makes it.
pub trait Undo: Send + Sync {
    /// The last task that shares it ends, in the process with this pid.
    fn apply(&self, pid: u32);
    /// For room `ipc` itself.
    fn as_any(&self) -> &dyn Any;
}

/// See the module.
pub struct SysvSem {
    /// Tasks that share it.
    tasks: AtomicU32,
    undo: OnceBox<Box<dyn Undo>>,
}

impl SysvSem {
    /// What is to be put back; `make` makes it before its first use.
    pub fn undo(&self, make: impl FnOnce() -> Box<dyn Undo>) -> &dyn Undo {
        &**self.undo.get_or_init(|| Box::new(make()))
    }
}

/// A task's reference to it.
pub(super) type Slot = Mutex<Option<Arc<SysvSem>>>;

pub(super) const fn slot() -> Slot {
    Mutex::new(Level::Leaf, None)
}

impl Task {
    /// What the task shares.
    pub fn sysvsem(&self) -> Arc<SysvSem> {
        let new = || Arc::new(SysvSem { tasks: AtomicU32::new(1), undo: OnceBox::new() });
        self.sysvsem.lock().get_or_insert_with(new).clone()
    }

    /// A child made with these `CLONE_*` shares it, or has nothing yet.
    pub(super) fn share_sysvsem(&self, child: &Task, flags: u64) {
        if flags & u64::from(CLONE_SYSVSEM) != 0 {
            let shared = self.sysvsem();
            shared.tasks.fetch_add(1, SeqCst);
            *child.sysvsem.lock() = Some(shared);
        }
    }

    /// The task shares it no longer: whoever is the last puts back.
    pub fn leave_sysvsem(&self) {
        let Some(shared) = self.sysvsem.lock().take() else { return };
        if shared.tasks.fetch_sub(1, SeqCst) == 1
            && let Some(undo) = shared.undo.get()
        {
            undo.apply(self.group.pid);
        }
    }
}
