//! `clone(2)`, `fork(2)`, `vfork(2)`.

use super::group::ThreadGroup;
use super::pid::{self, Pid};
use super::{CurrentTask, Own, Task, cpu_timers, exit, kernel, limits, ns, signal_pending, slots, trace, tree};
use crate::abi::linux::{
    CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_FILES, CLONE_FS, CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID,
    CLONE_NEWUSER, CLONE_PARENT, CLONE_PARENT_SETTID, CLONE_PTRACE, CLONE_SETTLS, CLONE_SIGHAND, CLONE_SYSVSEM,
    CLONE_THREAD, CLONE_VFORK, CLONE_VM, SCHED_DEADLINE, SIGKILL,
};
use crate::abi::slot::{SlotHeader, kick};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arch::{self, frame};
use crate::arena;
use crate::cred::keys::{Key, Rings, perm};
use crate::cred::{Cred, UserNamespace, cap};
use crate::host::process::{self, CloneKind, Start};
use crate::mm::UserPtr;
use crate::mm::space::Frozen;
use crate::sync::left::Kept;
use crate::sync::{Kind, On};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};

/// `CLONE_CLEAR_SIGHAND` (clone3): handlers are back to their defaults in the child.
pub const CLEAR_SIGHAND: u64 = 1 << 32;

/// What a child is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Args {
    /// `CLONE_*`, without the exit signal.
    pub flags: u64,
    /// Signal to the parent at the end; a number that is no signal is none.
    pub exit_signal: u32,
    /// Stack pointer, 0 for the parent's.
    pub stack: u64,
    /// Where the parent gets the tid.
    pub parent_tid: u64,
    /// Where the child gets the tid, and where it is cleared.
    pub child_tid: u64,
    /// New fs base.
    pub tls: u64,
    /// The pids that it is to have.
    pub set_tid: SetTid,
}

/// The pids that a child is to have, innermost namespace first (`clone3(2)`); none for any.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetTid {
    /// So many count.
    pub count: usize,
    /// See above.
    pub tids: [u32; pid::LEVEL_MAX as usize],
}

/// What a vfork parent waits for.
pub struct VforkDone {
    state: AtomicU32,
    waiter: &'static SlotHeader,
}

impl VforkDone {
    /// The child has its own memory, or is gone.
    pub fn done(&self) {
        self.state.store(1, SeqCst);
        self.waiter.waker.wake();
    }
}

/// `entry`'s first code of a child, registered at boot.
static CHILD_MAIN: AtomicUsize = AtomicUsize::new(0);

/// Registers the first code of a child.
pub fn set_child_main(start: Start) {
    CHILD_MAIN.store(start as usize, SeqCst);
}

fn check(cur: &CurrentTask, a: &Args) -> Result {
    let has = |f: u32| a.flags & u64::from(f) != 0;
    if has(CLONE_THREAD) && !has(CLONE_SIGHAND) || has(CLONE_SIGHAND) && !has(CLONE_VM) {
        return Err(Errno::EINVAL);
    }
    if has(CLONE_SIGHAND) && a.flags & CLEAR_SIGHAND != 0 {
        return Err(Errno::EINVAL);
    }
    let kinds = a.flags as u32 & ns::KINDS;
    let children = &cur.own().ns.pid_for_children;
    if kinds & !(ns::MADE | CLONE_NEWUSER) != 0
        || has(CLONE_NEWNS | CLONE_NEWUSER) && has(CLONE_FS)
        || has(CLONE_NEWIPC) && has(CLONE_SYSVSEM)
        || has(CLONE_THREAD) && (has(CLONE_NEWUSER | CLONE_NEWPID) || !Arc::ptr_eq(cur.pid_namespace(), children))
    {
        return Err(Errno::EINVAL);
    }
    if kinds & ns::MADE != 0 && !has(CLONE_NEWUSER) && !cur.cred().capable_here(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    // A sibling of the first process would have nobody to wait for it.
    if has(CLONE_PARENT) && (cur.group.parent().is_none() || cur.group.is_space_init()) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Makes a child; returns its id in the parent.
///
/// # Errors
/// `EINVAL`, `EAGAIN`, `ENOMEM`.
pub fn clone(cur: &CurrentTask, a: &Args) -> SysResult<u32> {
    clone_with(cur, a, |_| Ok(()))
}

/// As [`clone`]; `before` sees the child before it runs, and may refuse. The memory is locked then.
///
/// # Errors
/// As [`clone`], and those of `before`.
pub fn clone_with(cur: &CurrentTask, a: &Args, before: impl FnOnce(&Arc<Task>) -> Result) -> SysResult<u32> {
    check(cur, a)?;
    // A task with a deadline has no share to give to a child.
    let policy = cur.attr.policy.load(SeqCst);
    if policy == SCHED_DEADLINE {
        return Err(Errno::EAGAIN.into());
    }
    arena::charge(arena::Object::Task)?;
    let has = |f: u32| a.flags & u64::from(f) != 0;
    if !has(CLONE_THREAD) {
        slots::await_reaps();
    }
    let own_mm = Kept::new(cur.mm().clone());
    let frozen = (!has(CLONE_VM)).then(|| own_mm.freeze());
    let slot = slots::alloc()?;
    let child = match make(cur, a, frozen.as_ref()) {
        Ok(child) => child,
        Err(e) => {
            slots::free_unused(slot);
            return Err(e);
        }
    };
    let tid = cur.seen_pid(child.tid());
    let vfork = has(CLONE_VFORK).then(|| Arc::new(VforkDone { state: AtomicU32::new(0), waiter: arch::slot() }));
    *child.vfork.lock() = vfork.clone();
    let tell_parent = || {
        if has(CLONE_PARENT_SETTID) {
            let _ = UserPtr::<u32>::new(a.parent_tid).write(tid);
        }
    };
    // A child that shares the memory finds it there when it starts; one that gets a copy does not.
    if frozen.is_none() {
        tell_parent();
    }
    let event = cur.clone_event(a.flags, a.exit_signal);
    if event.is_some() || cur.is_traced() && has(CLONE_PTRACE) {
        cur.share_tracer(&child);
    }
    let launched = before(&child).and_then(|()| launch(cur, a, slot, &child));
    made(arch::slot());
    if let Err(e) = launched {
        if let Some(tracer) = child.tracer() {
            trace::detach(&tracer, &child, 0);
        }
        forget(&child);
        slots::free_unused(slot);
        return Err(e.into());
    }
    if let Some(frozen) = frozen {
        drop(frozen);
        tell_parent();
    }
    if let Some(event) = event {
        cur.clone_stop(event, tid);
    }
    if let Some(v) = vfork {
        wait_for_vfork(cur, &v);
        cur.vfork_stop(tid);
    }
    Ok(tid)
}

/// The caller's credentials in a user namespace that it makes.
///
/// # Errors
/// `ENOSPC` too deep or for too many; `EPERM` where the root directory is not that of the mount namespace, and for ids
/// that the caller's own user namespace does not know.
pub fn new_user(cur: &CurrentTask) -> Result<Cred> {
    let old = cur.cred();
    let ns = UserNamespace::child(old)?;
    let whole = cur.fs().namespace()?.root().map(|m| m.root_path().descend());
    if whole.is_some_and(|root| !root.same(&cur.fs().root())) {
        return Err(Errno::EPERM);
    }
    let mut cred = Cred::clone(old);
    cred.enter(ns);
    Ok(cred)
}

/// The credentials with the keyrings that a child or a thread has of its maker's (`copy_creds`).
fn with_rings(cred: Arc<Cred>, is_thread: bool) -> Result<Arc<Cred>> {
    let had = &cred.keys;
    let keys = match is_thread {
        _ if had.is_inherited() => return Ok(cred),
        false => had.inherited(),
        true if had.thread.is_none() => return Ok(cred),
        true => Rings { thread: Some(Key::ring(b"_tid", &cred, perm::OF_TASK)?), ..had.clone() },
    };
    Ok(Arc::new(Cred { keys, ..Cred::clone(&cred) }))
}

/// The child's kernel objects, entered into the tree; `frozen` is the memory that it gets a copy of.
fn make(cur: &CurrentTask, a: &Args, frozen: Option<&Frozen<'_>>) -> SysResult<Arc<Task>> {
    let has = |f: u32| a.flags & u64::from(f) != 0;
    let own = cur.own();
    let kinds = a.flags as u32 & ns::MADE;
    let cred = if has(CLONE_NEWUSER) { Arc::new(new_user(cur)?) } else { own.cred.clone() };
    let cred = with_rings(cred, has(CLONE_THREAD))?;
    let fs = if has(CLONE_FS) { own.fs.clone() } else { Arc::new(own.fs.fork_copy()) };
    if has(CLONE_NEWNS) {
        fs.namespace()?.copy_for(&fs, &cred)?;
    }
    let ns = if kinds == 0 { own.ns.clone() } else { Arc::new(own.ns.with_new(kinds, &cred, cur.pid_namespace())?) };
    let children = ns.pid_for_children.clone();
    // Who shares memory shares its clocks, too.
    let ns = if has(CLONE_VM) { ns } else { ns.for_child() };
    let own = Own {
        mm: match frozen {
            Some(frozen) => Arc::new(frozen.copy()?),
            None => own.mm.clone(),
        },
        files: if has(CLONE_FILES) { own.files.clone() } else { Arc::new(own.files.fork_copy()?) },
        fs,
        ns,
        cred: cred.clone(),
    };
    kernel().count_task(&cred, cur.group.limits.get(limits::NPROC).0)?;
    let pids = match has(CLONE_THREAD) {
        true => cur.pid_namespace(),
        false => &children,
    };
    let id = pid::new_pid_in(pids, &a.set_tid.tids[..a.set_tid.count], cur.cred());
    let id = id.inspect_err(|_| kernel().uncount_task(&cred))?;
    let made = enter(cur, a, own, &id);
    if made.is_err() {
        id.forget_if_unused();
        kernel().uncount_task(&cred);
    }
    made
}

/// Makes the task known by `id`, and its process if it is a new one, and enters both into the tree.
fn enter(cur: &CurrentTask, a: &Args, own: Own, id: &Arc<Pid>) -> SysResult<Arc<Task>> {
    let has = |f: u32| a.flags & u64::from(f) != 0;
    let share_mm = has(CLONE_VM);
    let tid = id.number();
    let comm = cur.comm.lock().clone();
    let tree = tree::lock();
    // Whoever signals several processes does it under this lock: no child is made past such a signal (`copy_process`).
    if signal_pending() {
        return Err(SysError::Restart(Restart::NoIntr));
    }
    let group = if has(CLONE_THREAD) { cur.group.clone() } else { new_group(cur, a, id) };
    let task = Task::new(tid, group.clone(), own, comm);
    arch::slot().making.store(Arc::into_raw(task.clone()) as u64, SeqCst);
    task.new_process.store(!has(CLONE_THREAD), SeqCst);
    task.blocked.store(cur.blocked.load(SeqCst), SeqCst);
    task.attr.inherit(&cur.attr);
    task.seccomp.inherit(&cur.seccomp);
    if !share_mm || has(CLONE_VFORK) {
        let stack = *cur.altstack.lock();
        *task.altstack.lock() = stack;
    }
    if !share_mm {
        task.robust_list.store(0, SeqCst);
    }
    if has(CLONE_CHILD_CLEARTID) {
        task.clear_child_tid.store(a.child_tid, SeqCst);
    }
    if has(CLONE_CHILD_SETTID) {
        task.set_child_tid.store(a.child_tid, SeqCst);
    }
    {
        let mut state = group.state.lock();
        if has(CLONE_THREAD) && (state.exiting.is_some() || state.exec.is_some()) {
            drop(state);
            made(arch::slot());
            return Err(Errno::EAGAIN.into());
        }
        state.add_task(task.clone());
    }
    cur.share_sysvsem(&task, a.flags);
    tree.add_task(id, &task);
    if !has(CLONE_THREAD) {
        tree.add_process(&group);
        if id.namespace().is_closed() {
            // Its init ends, and may have looked for others before.
            exit::begin_group_exit(&group, SIGKILL as i32);
        }
        group.inherit_terminal(&cur.group);
        if group.limits.get(limits::CPU).0 != u64::MAX {
            cpu_timers::watch_limit(&group);
        }
        let parent = if has(CLONE_PARENT) { cur.group.parent() } else { Some(cur.group.clone()) };
        if let Some(parent) = parent {
            group.set_parent(Some(&parent));
            let maker = if has(CLONE_PARENT) { cur.group.parent_tid.load(SeqCst) } else { cur.tid() };
            group.parent_tid.store(maker, SeqCst);
            parent.state.lock().children.insert(tid, group);
        }
    }
    Ok(task)
}

fn new_group(cur: &CurrentTask, a: &Args, id: &Arc<Pid>) -> Arc<ThreadGroup> {
    let g = &cur.group;
    let actions = if a.flags & u64::from(CLONE_SIGHAND) != 0 {
        g.actions()
    } else if a.flags & CLEAR_SIGHAND != 0 {
        Arc::new(g.actions().for_exec())
    } else {
        Arc::new(g.actions().fork_copy())
    };
    // A sibling tells the common parent in the way that the caller itself will.
    let sibling = a.flags & u64::from(CLONE_PARENT) != 0;
    let exit_signal = if sibling { g.state.lock().exit_signal } else { a.exit_signal };
    let (pgrp, session, limits) = (g.pgrp(), g.session(), g.limits.fork_copy());
    let mut group = ThreadGroup::new(id.clone(), pgrp, session, limits, actions, exit_signal);
    group.container = g.container.clone();
    group.dump_filter.store(g.dump_filter.load(SeqCst), SeqCst);
    for (to, from) in [(&group.oom_score_adj, &g.oom_score_adj), (&group.oom_score_adj_min, &g.oom_score_adj_min)] {
        to.store(from.load(SeqCst), SeqCst);
    }
    let info = g.exec_info.lock().clone();
    *group.exec_info.lock() = info;
    Arc::new(group)
}

/// Starts the child's host thread on a copy of the parent's registers.
fn launch(cur: &CurrentTask, a: &Args, slot: &'static SlotHeader, child: &Arc<Task>) -> Result {
    let has = |f: u32| a.flags & u64::from(f) != 0;
    let mut regs = *cur.frame();
    regs.rax = 0;
    if a.stack != 0 {
        regs.rsp = a.stack;
    }
    // SAFETY: the slot is free; the frame is the one that the host wrote for this call.
    let uc = unsafe { frame::place(slot, &regs, true) };
    let kind = if has(CLONE_THREAD) {
        CloneKind::Thread
    } else if has(CLONE_VM) {
        CloneKind::SharedMm
    } else {
        CloneKind::Copy
    };
    child.slot.store(core::ptr::from_ref(slot) as u64, SeqCst);
    slot.task.store(Arc::into_raw(child.clone()) as u64, SeqCst);
    // SAFETY: only `set_child_main` stores there, at boot.
    let start = unsafe { core::mem::transmute::<usize, Start>(CHILD_MAIN.load(SeqCst)) };
    let tls = has(CLONE_SETTLS).then_some(a.tls);
    if kind == CloneKind::Thread {
        slots::register_thread(slot);
    }
    match process::clone(kind, slot, uc as u64, start, uc as u64, tls) {
        Ok(host_pid) if kind != CloneKind::Thread => slots::register(slot, host_pid as u32),
        Ok(_) => {}
        Err(e) => {
            let raw = slot.task.swap(0, SeqCst) as *const Task;
            // SAFETY: leaked above; no thread took it.
            drop(unsafe { Arc::from_raw(raw) });
            return Err(e);
        }
    }
    Ok(())
}

/// The child that the thread of `slot` was making is its own now, or is no more.
fn made(slot: &SlotHeader) -> Option<Arc<Task>> {
    let raw = slot.making.swap(0, SeqCst) as *const Task;
    // SAFETY: `enter` leaked this reference into the slot.
    (!raw.is_null()).then(|| unsafe { Arc::from_raw(raw) })
}

/// The host has ended the thread of `slot`: a child that it was making and that has no host thread is none. One whose
/// slot is itself among the `orphans`, since it was to be a thread of the same process, is buried as such.
pub(super) fn unmade(slot: &SlotHeader, orphans: &[&SlotHeader]) {
    let Some(child) = made(slot) else { return };
    let Some(its) = child.slot() else {
        // Before the launch, or it has been and gone.
        if !child.leaving.load(SeqCst) {
            forget(&child);
            strip(&child);
        }
        return;
    };
    if orphans.iter().any(|orphan| core::ptr::eq(*orphan, its)) {
        return;
    }
    if its.host_tgid.load(SeqCst) == 0 && its.task.load(SeqCst) == Arc::as_ptr(&child) as u64 {
        its.task.store(0, SeqCst);
        child.slot.store(0, SeqCst);
        forget(&child);
        strip(&child);
        slots::free_unused(its);
        // SAFETY: `launch` leaked this reference into the slot.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(&child)) });
    }
}

/// Takes what a child that never ran has: the stack of its maker may hold the child itself for ever.
fn strip(child: &Task) {
    let own = {
        let _held = child.own_lock.lock();
        // SAFETY: it has no thread; under `own_lock`.
        unsafe { (*child.own.get()).take() }
    };
    drop(own);
}

/// Takes a child that never ran out of the tree.
fn forget(child: &Arc<Task>) {
    child.leave_sysvsem();
    let tree = tree::lock();
    child.group.state.lock().remove_task(child);
    if child.is_new() {
        if let Some(parent) = child.group.parent() {
            parent.state.lock().remove_child(child.group.pid);
        }
        tree.remove_process(&child.group);
    } else {
        tree.remove_thread(child.tid());
    }
}

/// Waits until the child has exec'ed or ended; only the caller's own end interrupts it, by another thread's exec, too.
fn wait_for_vfork(cur: &CurrentTask, v: &VforkDone) {
    let slot = arch::slot();
    loop {
        let ticket = slot.waker.ticket();
        if v.state.load(SeqCst) == 1 || cur.must_end() {
            return;
        }
        crate::sync::wait::sleep_deaf(slot, On::the(Kind::Vfork), ticket);
    }
}

impl Task {
    fn is_new(&self) -> bool {
        self.new_process.load(SeqCst)
    }
}

impl CurrentTask {
    /// What the child does before anything else, on its own stack.
    pub fn child_started(&self) {
        let word = self.set_child_tid.swap(0, SeqCst);
        if word != 0 {
            let _ = UserPtr::<u32>::new(word).write(self.shown_tid());
        }
        if self.is_new() {
            self.settle_clocks();
        }
        arch::slot().mark(kick::LOOK | kick::ATTEND);
    }

    /// Releases a vfork parent, if there is one.
    pub fn vfork_done(&self) {
        let vfork = self.vfork.lock().take();
        if let Some(v) = vfork {
            v.done();
        }
    }
}
