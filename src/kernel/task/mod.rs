//! Tasks, thread groups, sessions, pids; clone, exec, exit, wait; futexes.

mod current;
pub mod slots;
pub mod zygote;

pub use current::CurrentTask;

use crate::cred::Cred;
use crate::mm::AddressSpace;
use crate::vfs::{FdTable, FsContext};
use alloc::sync::Arc;
use core::cell::UnsafeCell;

/// A thread of the guest.
pub struct Task {
    /// Thread id.
    pub tid: u32,
    /// Replaced only by the task itself, hence read by it without a lock.
    own: UnsafeCell<Own>,
}

// SAFETY: `own` is reached through `CurrentTask` only, by the thread that it belongs to.
unsafe impl Send for Task {}
// SAFETY: as above.
unsafe impl Sync for Task {}

struct Own {
    mm: Arc<AddressSpace>,
    files: Arc<FdTable>,
    fs: Arc<FsContext>,
    cred: Arc<Cred>,
}
