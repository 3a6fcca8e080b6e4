//! A task that waits in an object's queue until somebody carries out what it waits for.

use crate::abi::slot::SlotHeader;
use crate::arch;
use crate::sync::wait::{self, WakeList};
use crate::sync::{Level, Mutex, MutexGuard, On, WaitEnd};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// See the module; `T` is what it gets.
pub struct Sleeper<T> {
    slot: &'static SlotHeader,
    /// The task that the slot runs.
    task: u64,
    done: AtomicBool,
    /// Changed by one store.
    outcome: Mutex<Option<Box<T>>>,
}

impl<T> Sleeper<T> {
    /// The running thread.
    pub fn here() -> Arc<Sleeper<T>> {
        let slot = arch::slot();
        let task = slot.task.load(SeqCst);
        Arc::new(Sleeper { slot, task, done: AtomicBool::new(false), outcome: Mutex::new(Level::Leaf, None) })
    }

    /// Whether there still is somebody: the host may have ended the thread in its sleep.
    pub fn is_there(&self) -> bool {
        self.slot.task.load(SeqCst) == self.task
    }

    /// Gives it what it waits for. The object's lock is held, `list` was made before. It stays in the object's queue
    /// until it has got it, so that it is found there if the host ends the running thread meanwhile.
    pub fn finish(&self, outcome: T, list: &mut WakeList) {
        let outcome = Some(Box::new(outcome));
        let none = core::mem::replace(MutexGuard::scratch(&mut self.outcome.lock()), outcome);
        debug_assert!(none.is_none(), "it gets something once");
        self.done.store(true, SeqCst);
        list.add(&self.slot.waker);
    }

    /// Whether it has got something; whoever gave it may not have lived to say so. The object's lock is held.
    pub fn has_got(&self) -> bool {
        if self.outcome.lock().is_some() {
            self.done.store(true, SeqCst);
            self.slot.waker.wake();
        }
        self.done.load(SeqCst)
    }

    /// Sleeps until it has got something, at most until `deadline` (host monotonic ns). After an error it may have
    /// got something all the same: [`Sleeper::take`] says so, under the object's lock.
    ///
    /// # Errors
    /// [`WaitEnd`].
    pub fn wait(&self, on: On, deadline: Option<u64>) -> Result<(), WaitEnd> {
        let slot = arch::slot();
        loop {
            let ticket = slot.waker.ticket();
            if self.done.load(SeqCst) {
                return Ok(());
            }
            wait::sleep(slot, on, ticket, deadline)?;
        }
    }

    /// What it got.
    pub fn take(&self) -> Option<T> {
        MutexGuard::scratch(&mut self.outcome.lock()).take().map(|outcome| *outcome)
    }
}
