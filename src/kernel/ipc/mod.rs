//! System V shared memory, semaphores and message queues (`sysvipc(7)`), POSIX message queues (`mq_overview(7)`).
//!
//! Everything here belongs to an [`Ipc`], which is what an IPC namespace holds. An object is found by its id or
//! key in an [`ids::Ids`], and has a lock of its own, under which its permissions are asked. Lock order: an address
//! space (whose mappings count as attachments), a table of ids, an object.
//!
//! A task that waits has left a [`sleeper::Sleeper`] in the object's queue. Whoever changes the object carries out
//! what the sleeper waits for, in its place and under the object's lock, and then wakes it. So the order of the
//! queue is the order of completion, and nothing is lost between a wake and what follows.

pub mod ids;
pub mod mqueue;
pub mod msg;
pub mod perm;
pub mod proc;
pub mod sem;
pub mod shm;
mod sleeper;

use crate::abi::{Errno, Restart, SysError};
use crate::task::CurrentTask;
use crate::task::ns::{IpcNamespace, IpcObjects};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

/// What an IPC namespace holds.
pub struct Ipc {
    /// Shared memory.
    pub shm: shm::Shm,
    /// Semaphores.
    pub sem: sem::Sems,
    /// Message queues.
    pub msg: msg::Msgs,
    /// POSIX message queues.
    pub mq: mqueue::Mqueues,
}

impl IpcObjects for Ipc {
    fn task_ended(&self, task: usize) {
        self.shm.creator_ended(task);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Ipc {
    fn new() -> Ipc {
        Ipc {
            shm: shm::Shm::new(),
            sem: sem::Sems::default(),
            msg: msg::Msgs::default(),
            mq: mqueue::Mqueues::default(),
        }
    }

    /// What `ns` holds.
    pub fn of(ns: &IpcNamespace) -> &Ipc {
        let objects = ns.objects(|| Box::new(Ipc::new()));
        objects.as_any().downcast_ref().unwrap_or_else(|| unreachable!("room ipc alone fills a namespace"))
    }
}

/// The namespace of the running task.
pub fn namespace(cur: &CurrentTask) -> Arc<IpcNamespace> {
    cur.own().ns.ipc.clone()
}

/// What a wait ends with that no handler's flags restart (`signal(7)`: `semop` and its like). A kick without a
/// signal or a stop behind it is none of the guest's business.
fn not_restarted(cur: &CurrentTask) -> SysError {
    if cur.is_interrupted() { Errno::EINTR.into() } else { SysError::Restart(Restart::NoIntr) }
}
