//! The running task.

use super::Task;
use crate::abi::sigctx::SigContext;
use crate::cred::Cred;
use crate::mm::AddressSpace;
use crate::vfs::{FdTable, FsContext, OpCtx};
use alloc::sync::Arc;
use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::Deref;

/// The task that makes the system call, with its registers. Neither `Send` nor `Sync`: it stands for
/// "this thread, now".
pub struct CurrentTask {
    task: Arc<Task>,
    frame: Cell<*mut SigContext>,
    _here: PhantomData<*mut ()>,
}

impl Deref for CurrentTask {
    type Target = Arc<Task>;
    fn deref(&self) -> &Arc<Task> {
        &self.task
    }
}

impl CurrentTask {
    /// Its address space.
    pub fn mm(&self) -> &Arc<AddressSpace> {
        // SAFETY: only this thread replaces it, and not while this borrow lives (exec does not return).
        unsafe { &(*self.task.own.get()).mm }
    }
    /// Its descriptor table.
    pub fn files(&self) -> &Arc<FdTable> {
        // SAFETY: as above.
        unsafe { &(*self.task.own.get()).files }
    }
    /// Its root, working directory and umask.
    pub fn fs(&self) -> &Arc<FsContext> {
        // SAFETY: as above.
        unsafe { &(*self.task.own.get()).fs }
    }
    /// Its credentials.
    pub fn cred(&self) -> &Arc<Cred> {
        // SAFETY: as above.
        unsafe { &(*self.task.own.get()).cred }
    }
    /// What file operations may know of it.
    pub fn op_ctx(&self) -> OpCtx<'_> {
        OpCtx { cred: self.cred(), tgid: 0, tid: self.tid, fsize_limit: u64::MAX, umask: 0o022 }
    }
    /// Its registers, as the guest will see them on return.
    pub fn frame(&self) -> &mut SigContext {
        // SAFETY: the frame lies on this thread's kernel stack for the length of the call.
        unsafe { &mut *self.frame.get() }
    }
}
