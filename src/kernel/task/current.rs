//! The running task.

use super::pid::{PidNamespace, Set};
use super::{Own, Task, ThreadGroup};
use crate::abi::sigctx::SigContext;
use crate::abi::{Errno, Result, linux};
use crate::arch;
use crate::cred::Cred;
use crate::mm::AddressSpace;
use crate::sync::left::Kept;
use crate::vfs::{FdTable, FsContext, OpCtx, OpenFile};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::sync::atomic::{
    Ordering::{Acquire, SeqCst},
    fence,
};

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
    /// The pid namespace that it is in.
    pub fn pid_namespace(&self) -> &Arc<PidNamespace> {
        self.group.id.namespace()
    }
    /// The thread that the caller knows by this number.
    pub fn task_of(&self, tid: u32) -> Option<Arc<Task>> {
        self.pid_namespace().task(tid)
    }
    /// The process that the caller knows by this number, a zombie too.
    pub fn process_of(&self, pid: u32) -> Option<Arc<ThreadGroup>> {
        self.pid_namespace().process(pid)
    }
    /// The processes of the group that the caller knows by this number, zombies included.
    pub fn members_of(&self, pgid: u32) -> Vec<Arc<ThreadGroup>> {
        self.pid_namespace().find(pgid).map_or_else(Vec::new, |pid| pid.members(Set::Group))
    }
    /// The number by which the caller knows what has this number in the initial pid namespace, 0 for none.
    pub fn seen_pid(&self, number: u32) -> u32 {
        self.pid_namespace().seen(number)
    }
    /// An open file for the length of a call, without a reference of its own where nobody else has the
    /// descriptor table.
    ///
    /// # Errors
    /// `EBADF`, also for an `O_PATH` descriptor.
    #[inline(always)]
    pub fn file(&self, fd: i32) -> Result<FileRef<'_>> {
        let file = self.any_file(fd)?;
        if file.flags() & linux::O_PATH != 0 { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// As [`CurrentTask::file`], `O_PATH` descriptors included.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline(always)]
    pub fn any_file(&self, fd: i32) -> Result<FileRef<'_>> {
        let table = &**self.files();
        if Arc::strong_count(self.files()) != 1 {
            return counted(table, fd);
        }
        // Whoever had the table before has changed it before.
        fence(Acquire);
        // SAFETY: this thread alone has the table, and a second owner is only made by its own clone. Others
        // that look at a task (`Task::shared`) read under the lock and change nothing.
        let numbers = unsafe { &*table.unshared() };
        let file: *const OpenFile = &**numbers.get(fd)?;
        table.pin();
        // SAFETY: the table is pinned until the reference is dropped, so the description stays.
        Ok(FileRef::Pinned(unsafe { &*file }, table))
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
    /// Whether a signal, a stop or its end waits for it, and not only something that programs do not see.
    pub fn is_interrupted(&self) -> bool {
        signal_pending() || matches!(self.group.state.lock().run, super::group::Run::Stopped(_))
    }
    /// Gives the running host thread the CPUs that the task has chosen.
    pub(super) fn restore_affinity(&self) {
        let chosen = *self.attr.affinity.lock();
        if let Some(mask) = chosen {
            // CPUs that have gone since leave it where it is.
            let _ = crate::host::sched::setaffinity(mask.map(u64::to_ne_bytes).as_flattened());
        }
    }
    /// Whether a host process of its own was made for it.
    pub fn is_new_process(&self) -> bool {
        self.task.new_process.load(SeqCst)
    }
}

/// Whether the running thread has a signal to take or must end, for long work to stop at.
#[inline]
pub fn signal_pending() -> bool {
    arch::slot().kicked() && kicked_by_signal()
}

#[cold]
#[inline(never)]
fn kicked_by_signal() -> bool {
    let slot = arch::slot();
    let raw = slot.task.load(SeqCst) as *const Task;
    if raw.is_null() {
        return false;
    }
    // SAFETY: `adopt` stored a reference that the slot owns until the thread ends; it is only borrowed.
    let task = ManuallyDrop::new(unsafe { Arc::from_raw(raw) });
    let ends = {
        let state = task.group.state.lock();
        state.exiting.is_some() || state.exec.is_some_and(|tid| tid != task.tid())
    };
    ends || task.deliverable() != 0
}

#[cold]
#[inline(never)]
fn counted(table: &FdTable, fd: i32) -> Result<FileRef<'_>> {
    Ok(FileRef::Counted(Kept::new(table.get_any(fd)?)))
}

/// An open file description in use: see [`CurrentTask::file`].
pub enum FileRef<'a> {
    /// It stays because its table is pinned.
    Pinned(&'a OpenFile, &'a FdTable),
    /// It stays because it is counted.
    Counted(Kept<Arc<OpenFile>>),
}

impl Deref for FileRef<'_> {
    type Target = OpenFile;
    #[inline]
    fn deref(&self) -> &OpenFile {
        match self {
            FileRef::Pinned(file, _) => file,
            FileRef::Counted(file) => file,
        }
    }
}

impl Drop for FileRef<'_> {
    #[inline]
    fn drop(&mut self) {
        if let FileRef::Pinned(_, table) = self {
            table.unpin();
        }
    }
}
