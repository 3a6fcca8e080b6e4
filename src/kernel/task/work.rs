//! Work items: what one task asks another to do in its own host process.
//!
//! A host call acts on the process that makes it, so only a thread that lives in an address space can read
//! or change it. Whoever wants that of another task leaves an item with it and kicks it; the task does it at
//! its next safe point: on its way to the guest, within a sleep (`sync::wait`), while it is stopped, paused,
//! or waits for a vfork child. No lock is held there, and an item neither sleeps nor leaves an item itself.

use super::{CurrentTask, Task, kick_slot};
use crate::abi::slot::{SlotHeader, Waker, kick};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arch;
use crate::sync::{Kind, Level, Mutex, On, wait};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Most items that wait for one task at a time.
const MAX_ITEMS: usize = 256;

/// States of an [`Item`].
mod state {
    pub const WAITS: u32 = 0;
    pub const DONE: u32 = 1;
    /// The task ended first.
    pub const LOST: u32 = 2;
}

type Act<R> = Box<dyn FnOnce(&Arc<Task>) -> R + Send>;

struct Item<R> {
    act: Mutex<Option<Act<R>>>,
    result: Mutex<Option<R>>,
    state: AtomicU32,
    waiter: &'static Waker,
}

trait Piece: Send + Sync {
    /// Does it, as this task on its own thread.
    fn run(&self, task: &Arc<Task>);
    /// It will never be done.
    fn lose(&self);
}

impl<R: Send> Piece for Item<R> {
    fn run(&self, task: &Arc<Task>) {
        let act = self.act.lock().take();
        if let Some(act) = act {
            let result = act(task);
            *self.result.lock() = Some(result);
        }
        self.state.store(state::DONE, SeqCst);
        self.waiter.wake();
    }

    fn lose(&self) {
        drop(self.act.lock().take());
        self.state.store(state::LOST, SeqCst);
        self.waiter.wake();
    }
}

/// The items that wait for a task; `None` once it takes no more.
pub struct Queue(Mutex<Option<Vec<Arc<dyn Piece>>>>);

impl Default for Queue {
    fn default() -> Self {
        Queue(Mutex::new(Level::Leaf, Some(Vec::new())))
    }
}

impl Queue {
    fn push(&self, item: Arc<dyn Piece>) -> Result {
        let mut queue = self.0.lock();
        let items = queue.as_mut().ok_or(Errno::ESRCH)?;
        if items.len() >= MAX_ITEMS {
            return Err(Errno::EAGAIN);
        }
        items.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        items.push(item);
        Ok(())
    }

    fn take(&self) -> Vec<Arc<dyn Piece>> {
        self.0.lock().as_mut().map_or_else(Vec::new, core::mem::take)
    }

    fn close(&self) -> Vec<Arc<dyn Piece>> {
        self.0.lock().take().unwrap_or_default()
    }
}

/// The task of the running thread, if it has one.
pub fn running() -> Option<Arc<Task>> {
    let raw = arch::slot().task.load(SeqCst) as *const Task;
    if raw.is_null() {
        return None;
    }
    // SAFETY: `adopt` stored a reference that the slot owns until its thread lets go of it.
    unsafe {
        Arc::increment_strong_count(raw);
        Some(Arc::from_raw(raw))
    }
}

/// Has `task` run `act` on its own thread, and waits for the result. What `act` needs moves into it, since
/// the caller may be killed while it waits.
///
/// # Errors
/// `ESRCH` when the task ends first, `ENOMEM`; a restart when the caller is to die.
pub fn run_on<R: Send + 'static>(task: &Arc<Task>, act: impl FnOnce(&Arc<Task>) -> R + Send + 'static) -> SysResult<R> {
    let me = running().ok_or(Errno::EACCES)?;
    if Arc::ptr_eq(&me, task) {
        return Ok(act(task));
    }
    let slot = arch::slot();
    let item = Arc::new(Item {
        act: Mutex::new(Level::Leaf, Some(Box::new(act) as Act<R>)),
        result: Mutex::new(Level::Leaf, None),
        state: AtomicU32::new(state::WAITS),
        waiter: &slot.waker,
    });
    task.work.push(item.clone())?;
    if let Some(slot) = task.slot() {
        kick_slot(slot, kick::WORK);
    }
    loop {
        let ticket = slot.waker.ticket();
        match item.state.load(SeqCst) {
            state::DONE => return item.result.lock().take().ok_or(Errno::ESRCH.into()),
            state::LOST => return Err(Errno::ESRCH.into()),
            _ => {}
        }
        if me.must_end() {
            return Err(SysError::Restart(Restart::NoIntr));
        }
        wait::sleep_deaf(slot, On::the(Kind::Work), ticket);
    }
}

/// Does what others ask of the running thread: parks it while the sandbox stands still, and does the items
/// that wait for its task.
pub fn attend(slot: &'static SlotHeader) {
    let why = slot.kick.fetch_and(!kick::ATTEND, SeqCst);
    if why & kick::PARK != 0 {
        super::park::park_while_paused();
    }
    if why & kick::WORK != 0
        && let Some(task) = running()
    {
        for item in task.work.take() {
            item.run(&task);
        }
        // Signals that the thread has put off until it leaves the kernel, and sleeps before.
        super::async_io::run();
    }
}

/// The running task ends: it does what waits for it, and takes no more.
pub(super) fn close(cur: &CurrentTask) {
    for item in cur.work.close() {
        item.run(cur);
    }
}

/// The task's thread is gone: nothing is done any more.
pub(super) fn bury(task: &Task) {
    for item in task.work.close() {
        item.lose();
    }
}

impl Task {
    /// Whether the thread has to end as soon as it can: its process is ending, or another thread execs.
    pub fn must_end(&self) -> bool {
        let state = self.group.state.lock();
        state.exiting.is_some() || state.exec.is_some_and(|tid| tid != self.tid())
    }
}
