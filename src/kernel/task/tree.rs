//! Who is whose parent, and which processes belong to which process group and session: one lock guards it.

use super::pid::{Pid, Set};
use super::{Task, ThreadGroup, kernel};
use crate::sync::MutexGuard;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The locked tree.
pub struct Guard(#[allow(dead_code)] MutexGuard<'static, ()>);

/// Locks the tree.
///
/// What is done under the lock is done in steps that each leave a tree that can be used, in an order in which the end of
/// the process that was in the middle (`exit::bury`) does the rest again or undoes it. So the lock of one that the host
/// has ended is merely given back.
pub fn lock() -> Guard {
    let guard = kernel().tree.lock();
    MutexGuard::settle(&guard);
    Guard(guard)
}

impl Guard {
    /// Enters a thread that was counted ([`super::Kernel`]).
    pub(super) fn add_task(&self, pid: &Pid, task: &Arc<Task>) {
        pid.set_task(task);
    }

    /// Enters a process; its leader is entered by [`Guard::add_task`].
    pub(super) fn add_process(&self, group: &Arc<ThreadGroup>) {
        group.id.set_process(group);
        group.pgrp().join(Set::Group, group);
        group.session().join(Set::Session, group);
    }

    /// A thread that is not the leader has ended.
    pub(super) fn remove_thread(&self, tid: u32) {
        if let Some(pid) = kernel().roots().pid.find(tid) {
            uncount(pid.clear(false));
            pid.exit_wait.wake_all();
        }
    }

    /// A thread that is not the leader takes the leader's place, which has ended (exec).
    pub(super) fn replace_leader(&self, task: &Arc<Task>) {
        // One of the two is gone; the one that stays counts for its own user.
        uncount(task.group.id.task());
        if let Some(pid) = kernel().roots().pid.find(task.tid()) {
            pid.clear(false);
        }
        task.group.id.set_task(task);
    }

    /// A process is reaped, or was never started.
    pub(super) fn remove_process(&self, group: &ThreadGroup) {
        group.pgrp().leave(Set::Group, group);
        group.session().leave(Set::Session, group);
        uncount(group.id.clear(true));
        // Those who wait for the process know that it has ended; now it is gone.
        group.id.exit_wait.wake_all();
    }

    /// Moves a process to another process group.
    pub(super) fn move_to_group(&self, group: &Arc<ThreadGroup>, pgrp: &Arc<Pid>) {
        pgrp.join(Set::Group, group);
        let old = group.set_pgrp(pgrp.clone());
        if !Arc::ptr_eq(&old, pgrp) {
            old.leave(Set::Group, group);
        }
    }

    /// Moves a process to another session.
    pub(super) fn move_to_session(&self, group: &Arc<ThreadGroup>, session: &Arc<Pid>) {
        session.join(Set::Session, group);
        let old = group.set_session(session.clone());
        if !Arc::ptr_eq(&old, session) {
            old.leave(Set::Session, group);
        }
    }
}

/// A task is gone.
fn uncount(task: Option<Arc<Task>>) {
    if let Some(task) = task {
        kernel().uncount_task(&task.cred());
    }
}

/// The processes of a process group, zombies included; none if there is no such group.
pub fn members(pgid: u32) -> Vec<Arc<ThreadGroup>> {
    kernel().roots().pid.find(pgid).map_or_else(Vec::new, |pid| pid.members(Set::Group))
}
