//! The running task.

use super::{Own, Task};
use crate::abi::sigctx::SigContext;
use crate::arch;
use crate::cred::Cred;
use crate::mm::AddressSpace;
use crate::vfs::{FdTable, FsContext, OpCtx};
use alloc::sync::Arc;
use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::sync::atomic::Ordering::SeqCst;

/// The task that makes the system call, with its registers. Neither `Send` nor `Sync`: it stands for
/// "this thread, now".
pub struct CurrentTask {
    task: ManuallyDrop<Arc<Task>>,
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
    /// The task of the running slot, with the registers that it will return to the guest with.
    pub fn here(frame: &mut SigContext) -> CurrentTask {
        let raw = arch::slot().task.load(SeqCst) as *const Task;
        // SAFETY: `adopt` stored a reference that the slot owns until the thread ends; it is only
        // borrowed here (`ManuallyDrop`).
        let task = ManuallyDrop::new(unsafe { Arc::from_raw(raw) });
        CurrentTask { task, frame: Cell::new(frame), _here: PhantomData }
    }

    /// Its address space and so on.
    pub fn own(&self) -> &Own {
        // SAFETY: only this thread replaces it, and no borrow lives across that (`replace_own`).
        let own = unsafe { (*self.task.own.get()).as_ref() };
        own.expect("a running task has its resources until it exits")
    }

    /// Replaces what the task has. The caller holds no borrow of the old.
    pub fn replace_own(&self, own: Option<Own>) -> Option<Own> {
        let _held = self.task.own_lock.lock();
        // SAFETY: this thread, under `own_lock`.
        unsafe { core::mem::replace(&mut *self.task.own.get(), own) }
    }

    /// Its address space.
    pub fn mm(&self) -> &Arc<AddressSpace> {
        &self.own().mm
    }
    /// Its descriptor table.
    pub fn files(&self) -> &Arc<FdTable> {
        &self.own().files
    }
    /// Its root, working directory and umask.
    pub fn fs(&self) -> &Arc<FsContext> {
        &self.own().fs
    }
    /// Its credentials.
    pub fn cred(&self) -> &Arc<Cred> {
        &self.own().cred
    }
    /// What file operations may know of it.
    pub fn op_ctx(&self) -> OpCtx<'_> {
        OpCtx {
            cred: self.cred(),
            tgid: self.group.pid,
            tid: self.tid(),
            fsize_limit: self.group.limits.get(super::limits::FSIZE).0,
            umask: self.fs().umask(),
        }
    }
    /// Its registers, as the guest will see them on return.
    #[allow(clippy::mut_from_ref)]
    pub fn frame(&self) -> &mut SigContext {
        // SAFETY: the frame lies on this thread's kernel stack for the length of the call, and
        // handlers do not keep two borrows of it.
        unsafe { &mut *self.frame.get() }
    }
    /// Whether a host process of its own was made for it.
    pub fn is_new_process(&self) -> bool {
        self.task.new_process.load(SeqCst)
    }
}
