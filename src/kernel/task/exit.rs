//! The end of threads and processes.

use super::group::{Run, ThreadGroup};
use super::signals::cld;
use super::{CurrentTask, Task, futex, slots, tree};
use crate::abi::linux;
use crate::arch;
use crate::host::process;
use crate::mm::UserPtr;
use crate::signal::{SIG_IGN, info};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

/// Told when a process that was started from outside ended: pid, wait status. Registered at boot.
static ENDED: once_cell::race::OnceBox<fn(u32, i32)> = once_cell::race::OnceBox::new();

/// Registers who is told.
pub fn set_ended(f: fn(u32, i32)) {
    let _ = ENDED.set(alloc::boxed::Box::new(f));
}

/// Marks the process as ending with this wait status (the first one counts) and kicks its threads.
pub fn begin_group_exit(group: &ThreadGroup, status: i32) {
    {
        let mut state = group.state.lock();
        if state.run == Run::Zombie || state.exiting.is_some() {
            return;
        }
        state.exiting = Some(status);
        if let Run::Stopped(_) = state.run {
            state.run = Run::Running;
        }
    }
    group.kick_all();
}

/// `exit_group(2)` and death by signal: `status` is a wait status. Does not return.
pub fn exit_group(cur: &CurrentTask, status: i32) -> ! {
    begin_group_exit(&cur.group, status);
    let status = cur.group.state.lock().exiting.unwrap_or(status);
    exit_thread(cur, status)
}

/// Ends the running thread; `status` is the process's if it is the last. Does not return.
pub fn exit_thread(cur: &CurrentTask, status: i32) -> ! {
    let slot = arch::slot();
    release_user_words(cur);
    let ended = leave(cur, status);
    if let Some((pid, status)) = ended
        && let Some(f) = ENDED.get()
    {
        f(pid, status);
    }
    detach(slot);
    process::exit_thread()
}

/// Gives the running thread's task and slot back; only the host thread's end is left.
pub fn detach(slot: &'static crate::abi::slot::SlotHeader) {
    let raw = slot.task.swap(0, SeqCst) as *const Task;
    if !raw.is_null() {
        // SAFETY: `adopt` leaked this reference into the slot.
        let task = unsafe { Arc::from_raw(raw) };
        let at = core::ptr::from_ref(slot) as u64;
        let _ = task.slot.compare_exchange(at, 0, SeqCst, SeqCst);
    }
    slots::retire(slot);
}

/// Robust futexes and `clear_child_tid`, while the address space is still there.
fn release_user_words(cur: &CurrentTask) {
    futex::exit_robust_list(cur);
    let tid_word = cur.clear_child_tid.swap(0, SeqCst);
    if tid_word != 0 && Arc::strong_count(cur.mm()) > 1 {
        // Nobody could see it in an address space that ends with the thread; a shared one may be looked at.
        let word = UserPtr::<u32>::new(tid_word);
        if word.write(0).is_ok() {
            futex::wake_word(cur, tid_word, 1);
        }
    } else if tid_word != 0 {
        let _ = UserPtr::<u32>::new(tid_word).write(0);
    }
}

/// Takes the thread out of its process. Returns what the outside is told if that was the end of it.
fn leave(cur: &CurrentTask, status: i32) -> Option<(u32, i32)> {
    let group = cur.group.clone();
    if let Some(own) = cur.replace_own(None) {
        let last_user = Arc::strong_count(&own.files) == 1;
        if last_user {
            let ctx =
                crate::vfs::OpCtx { cred: &own.cred, tgid: group.pid, tid: cur.tid(), fsize_limit: u64::MAX, umask: 0 };
            own.files.close_range(&ctx, 0, u32::MAX);
        }
        drop(own);
    }
    cur.vfork_done();
    let last = {
        let mut tree = tree::lock();
        let mut state = group.state.lock();
        tree.tasks.remove(&cur.tid());
        let me: *const Task = Arc::as_ptr(cur);
        state.tasks.retain(|t| Arc::as_ptr(t) != me);
        state.tasks.is_empty()
    };
    if !last {
        // exec and exit_group wait for siblings to go.
        group.children_wait.wake_all();
        for t in group.tasks() {
            if let Some(s) = t.slot() {
                s.waker.wake();
            }
        }
        return None;
    }
    account(&group);
    Some(finish(&group, status))
}

/// Adds the running host process's CPU time to the group's past: at its end, and at exec, which goes on
/// in another host process.
pub(super) fn account(group: &ThreadGroup) {
    let (user, system) = crate::host::time::process_times();
    group.times[0].fetch_add(user, SeqCst);
    group.times[1].fetch_add(system, SeqCst);
}

/// The last thread is gone: the process becomes a zombie, or vanishes if nobody wants to know.
fn finish(group: &Arc<ThreadGroup>, status: i32) -> (u32, i32) {
    let mut tree = tree::lock();
    let status = {
        let mut state = group.state.lock();
        let status = state.exiting.unwrap_or(status);
        state.exiting = Some(status);
        state.run = Run::Zombie;
        status
    };
    let orphans = core::mem::take(&mut group.state.lock().children);
    let reaper = reaper_of(group, &tree);
    let mut zombie_orphans = false;
    for child in orphans {
        child.state.lock().parent = reaper.as_ref().map_or_else(alloc::sync::Weak::new, Arc::downgrade);
        match &reaper {
            Some(r) => {
                zombie_orphans |= child.is_zombie();
                r.state.lock().children.push(child);
            }
            None if child.is_zombie() => {
                tree.groups.remove(&child.pid);
            }
            None => {}
        }
    }
    let parent = group.parent().filter(|p| !p.is_zombie());
    let signal = group.state.lock().exit_signal;
    let wanted = parent.as_ref().is_some_and(|p| {
        let a = p.actions().get(linux::SIGCHLD);
        signal != linux::SIGCHLD || a.handler != SIG_IGN && a.flags & u64::from(linux::SA_NOCLDWAIT) == 0
    });
    if !wanted {
        tree.groups.remove(&group.pid);
        if let Some(p) = &parent {
            p.state.lock().children.retain(|c| !Arc::ptr_eq(c, group));
        }
    }
    drop(tree);
    if let Some(p) = parent {
        let code = match status & 0x7f {
            0 => cld::EXITED,
            _ if status & 0x80 != 0 => cld::DUMPED,
            _ => cld::KILLED,
        };
        let value = if code == cld::EXITED { status >> 8 & 0xff } else { status & 0x7f };
        if signal != 0 {
            let mut i = info::child(code, group.pid, 0, value, 0, 0);
            i.signo = signal as i32;
            let _ = p.send(&i);
        }
        p.children_wait.wake_all();
    }
    if zombie_orphans && let Some(r) = reaper {
        r.children_wait.wake_all();
    }
    hang_up_orphans(group);
    (group.pid, status)
}

/// Who takes over the children: the nearest subreaper, or the first process.
fn reaper_of(group: &Arc<ThreadGroup>, tree: &tree::Tree) -> Option<Arc<ThreadGroup>> {
    let mut at = group.parent();
    while let Some(p) = at {
        if p.subreaper.load(SeqCst) && !p.is_zombie() {
            return Some(p);
        }
        at = p.parent();
    }
    tree.init().filter(|i| i.pid != group.pid && !i.is_zombie())
}

/// A process group that this exit orphans, with stopped members, gets SIGHUP and SIGCONT.
fn hang_up_orphans(group: &Arc<ThreadGroup>) {
    let children: Vec<_> = tree::lock().groups.values().filter(|g| g.ppid() == 1 || g.ppid() == 0).cloned().collect();
    let mut pgids: Vec<u32> = children.iter().map(|c| c.pgid()).filter(|&p| p != group.pgid()).collect();
    pgids.push(group.pgid());
    pgids.sort_unstable();
    pgids.dedup();
    for pgid in pgids {
        let members = tree::lock().members(pgid);
        let stopped = members.iter().any(|m| matches!(m.state.lock().run, Run::Stopped(_)));
        if stopped && ThreadGroup::pgrp_orphaned(pgid, None) {
            for m in members {
                let _ = m.send(&info::plain(linux::SIGHUP, info::SI_KERNEL));
                let _ = m.send(&info::plain(linux::SIGCONT, info::SI_KERNEL));
            }
        }
    }
}

/// The supervisor reaped a host process. Slots that had not been given back belonged to tasks that
/// the host ended under us: their process is killed, or, if it died with kernel locks held, the
/// sandbox ends.
pub fn reaped(host_pid: u32, status: i32) {
    for slot in slots::reaped(host_pid) {
        let locks = slot.locks_held.load(SeqCst);
        if locks > 0 {
            crate::host::panic::panic(format_args!(
                "host process {host_pid} died (wait status {status:#x}) holding {locks} kernel locks"
            ));
        }
        let raw = slot.task.swap(0, SeqCst) as *const Task;
        if raw.is_null() {
            continue;
        }
        // SAFETY: `adopt` leaked this reference into the slot, whose thread is gone.
        let task = unsafe { Arc::from_raw(raw) };
        bury(&task);
    }
}

/// A task whose host thread is gone without having exited.
fn bury(task: &Arc<Task>) {
    task.slot.store(0, SeqCst);
    let group = task.group.clone();
    begin_group_exit(&group, linux::SIGKILL as i32);
    {
        let _held = task.own_lock.lock();
        // SAFETY: its thread is gone; under `own_lock`.
        drop(unsafe { (*task.own.get()).take() });
    }
    if let Some(v) = task.vfork.lock().take() {
        v.done();
    }
    let last = {
        let mut tree = tree::lock();
        let mut state = group.state.lock();
        tree.tasks.remove(&task.tid());
        state.tasks.retain(|t| !Arc::ptr_eq(t, task));
        state.tasks.is_empty()
    };
    if last {
        let (pid, status) = finish(&group, linux::SIGKILL as i32);
        if let Some(f) = ENDED.get() {
            f(pid, status);
        }
    }
}
