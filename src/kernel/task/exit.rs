//! The end of threads and processes.

use super::group::{Run, ThreadGroup};
use super::signals::{STOPS_EVER, cld};
use super::{CurrentTask, Own, Task, acct, exec, futex, kernel, record, session, slots, trace, tree, zap, zygote};
use crate::abi::control::Recorded;
use crate::abi::linux;
use crate::abi::sigctx::SigInfo;
use crate::arch;
use crate::host::{process, sched};
use crate::mm::UserPtr;
use crate::signal::{NSIG, SIG_IGN, info};
use crate::sync::left::{self, Kept};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

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
    cur.exit_stop(status);
    let last = begin_exit(cur, status);
    if last && cur.group.is_space_init() {
        zap::empty(cur);
    }
    super::work::close(cur);
    release_user_words(cur);
    let alone = exec::is_alone(cur) && process::is_leader(slot);
    leave(cur, status);
    let_go(slot);
    // Whoever waited for this end may have been queued behind us on this processor, and what the host has to take
    // down now takes longer than all that came before.
    sched::sched_yield();
    if alone && zygote::wanted() {
        zygote::keep();
    }
    slots::retire(slot);
    process::exit_thread()
}

/// From now on no signal reaches the thread. The last one settles the status of its process: a SIGKILL that comes
/// later is too late to change it. Whether it is the last.
fn begin_exit(cur: &CurrentTask, status: i32) -> bool {
    let mut state = cur.group.state.lock();
    cur.leaving.store(true, SeqCst);
    if cur.tid() == cur.group.pid {
        state.leader_status = status;
    }
    state.leaving += 1;
    let last = state.leaving == state.tasks.len();
    if state.exiting.is_none() && last {
        state.exiting = Some(state.leader_status);
    }
    last
}

/// Gives the running thread's task back.
fn let_go(slot: &'static crate::abi::slot::SlotHeader) {
    let raw = slot.task.swap(0, SeqCst) as *const Task;
    if !raw.is_null() {
        // SAFETY: `adopt` leaked this reference into the slot.
        let task = unsafe { Arc::from_raw(raw) };
        let at = core::ptr::from_ref(slot) as u64;
        let _ = task.slot.compare_exchange(at, 0, SeqCst, SeqCst);
    }
}

/// Robust futexes and `clear_child_tid`, while the address space is still there.
fn release_user_words(cur: &CurrentTask) {
    futex::exit_robust_list(cur);
    futex::pi::ended(cur, true);
    let tid_word = cur.clear_child_tid.swap(0, SeqCst);
    if tid_word != 0 && Arc::strong_count(cur.mm()) > 1 {
        // Nobody could see it in an address space that ends with the thread; a shared one may be looked at.
        let word = UserPtr::<u32>::new(tid_word);
        if word.write(0).is_ok() {
            futex::wake_word(cur, tid_word);
        }
    }
}

/// Takes the thread out of its process.
fn leave(cur: &CurrentTask, status: i32) {
    let group = cur.group.clone();
    let mut uid = 0;
    cur.seccomp.clear();
    *cur.last_cred.lock() = Some(cur.cred().clone());
    if let Some(Own { mm, files, fs, cred, ns }) = cur.replace_own(None) {
        uid = cred.uid;
        let (mm, files) = (Kept::new(mm), Kept::new(files));
        drop(fs);
        cur.leave_sysvsem();
        let ipc = ns.ipc.clone();
        drop(ns);
        // Of several threads that end at once exactly one gets the table itself.
        if let Some(mut files) = Arc::into_inner(files.into_inner()) {
            let files = left::on_stack(&mut files);
            let (tgid, tid) = (group.pid, cur.tid());
            let ctx = crate::vfs::OpCtx { cred: &cred, tgid, tid, fsize_limit: u64::MAX, umask: 0 };
            files.close_range(&ctx, 0, u32::MAX);
            // Some may have been the masters of terminals.
            session::run_hang_ups();
        }
        drop(mm);
        ipc.task_ended(Arc::as_ptr(cur) as usize);
    }
    cur.vfork_done();
    let last = take_out(cur, status);
    if !last {
        // Signals that only this thread was going to take are for the others.
        group.retarget(u64::MAX);
        return;
    }
    // A zombie runs nothing.
    let running = group.exec_info.lock().running.take();
    drop(running);
    account(&group);
    let cred = cur.last_cred.lock().clone();
    let ending = group.state.lock().exiting.unwrap_or(status);
    acct::ended(cur, &group, cred.as_ref(), ending);
    finish(&group, uid);
}

/// Takes a thread off its group; whether it was the last.
fn take_out(task: &Arc<Task>, status: i32) -> bool {
    let group = &task.group;
    let (last, execs) = {
        let tree = tree::lock();
        if task.tid() != group.pid {
            tree.remove_thread(task.tid());
        }
        let mut state = group.state.lock();
        state.remove_task(task);
        group.io.add(&task.io);
        if task.tid() == group.pid {
            // It stays known until the process is reaped, or another thread takes its place.
            state.leader_status = status;
            if task.is_traced() {
                *group.leader.lock() = Some(task.clone());
            }
        }
        // It waits until it is alone.
        let execs = state.exec.filter(|_| state.tasks.len() == 1).and_then(|_| state.tasks.front().cloned());
        (state.tasks.is_empty(), execs)
    };
    if let Some(slot) = execs.and_then(|t| t.slot()) {
        slot.waker.wake();
    }
    trace::ended_thread(task, status);
    last
}

/// Adds the running host process's CPU time to the group's past: at its end, and at exec, which goes on
/// in another host process.
pub(super) fn account(group: &ThreadGroup) {
    let Some(r) = crate::host::time::rusage(0) else { return };
    let ns = |t: &linux::__kernel_old_timeval| (t.tv_sec * 1_000_000_000 + t.tv_usec * 1000) as u64;
    group.times[0].fetch_add(ns(&r.ru_utime), SeqCst);
    group.times[1].fetch_add(ns(&r.ru_stime), SeqCst);
    let counts = [r.ru_minflt, r.ru_majflt, r.ru_inblock, r.ru_oublock, r.ru_nvcsw, r.ru_nivcsw];
    group.usage[0].add(r.ru_maxrss as u64, counts.map(|n| n as u64));
}

/// The last thread is gone: the process becomes a zombie, or vanishes if nobody wants to know. The outside is told if it
/// started the process. One that is ended by the host in the middle has it done once more ([`bury`]).
fn finish(group: &Arc<ThreadGroup>, uid: u32) {
    group.timers.clear();
    trace::tracer_ended(group);
    if group.is_space_init() {
        // Done already unless the host has ended it.
        zap::kill_all(group.id.namespace(), group);
    }
    let leader = group.leader.lock().take();
    if group.sid() == group.pid {
        session::leader_ends(group);
    }
    let tree = tree::lock();
    let (status, signal) = {
        let mut state = group.state.lock();
        // Without exit_group or a signal it is the leader's own status that counts.
        let status = state.exiting.unwrap_or(state.leader_status);
        state.exiting = Some(status);
        state.run = Run::Zombie;
        state.uid = uid;
        (status, state.exit_signal)
    };
    let (heir, orphans) = pass_on_children(group, &tree);
    // Before whoever waits for it can go on, and end.
    let told = record::keep(|| Recorded::Exit { pid: group.pid, status });
    let held = trace::ended_process(group, leader, status);
    let parent = if held { None } else { tell_parent(group, &tree, status, signal, uid) };
    if let Some(heir) = &heir {
        let _ = heir.send(&info::plain(linux::SIGCHLD, info::SI_KERNEL));
    }
    drop(tree);
    told.tell();
    group.id.exit_wait.wake_all();
    for waiter in parent.iter().chain(&heir) {
        waiter.children_wait.wake_all();
    }
    if STOPS_EVER.load(SeqCst) {
        hang_up_orphans(group, orphans);
    }
    if group.external.load(SeqCst)
        && let Some(f) = ENDED.get()
    {
        f(group.pid, status);
    }
    group.finished.store(true, SeqCst);
}

/// Tells the parent of a zombie, or lets it vanish where the parent does not want to know. Returns the parent.
fn tell_parent(
    group: &Arc<ThreadGroup>,
    tree: &tree::Guard,
    status: i32,
    signal: u32,
    uid: u32,
) -> Option<Arc<ThreadGroup>> {
    let parent = group.parent().filter(|p| !p.is_zombie());
    let wanted = parent.as_ref().is_some_and(|p| signal != linux::SIGCHLD || !reaps_children(p));
    // Its pid is forgotten with a process that nobody waits for.
    let notice = parent.as_ref().map(|p| death_notice(p, group, status, signal, uid));
    if !wanted {
        tree.remove_process(group);
        if let Some(p) = &parent {
            p.state.lock().remove_child(group.pid);
        }
    } else if let Some(p) = &parent {
        p.state.lock().told_by(group.pid);
    }
    // Who finds a zombie finds its signal pending, and the other way round: waiting takes the tree's lock.
    if let (Some(p), Some(notice)) = (&parent, notice)
        && (1..=NSIG).contains(&signal)
    {
        let _ = p.send(&notice);
    }
    parent
}

/// A tracer has seen the end of this task: where it led a process, that is its parent's now.
pub(super) fn release(task: &Arc<Task>) {
    let group = &task.group;
    if !group.held.swap(false, SeqCst) {
        return;
    }
    let parent = {
        let tree = tree::lock();
        let (status, signal, uid) = {
            let state = group.state.lock();
            (state.exiting.unwrap_or(0), state.exit_signal, state.uid)
        };
        tell_parent(group, &tree, status, signal, uid)
    };
    if let Some(parent) = parent {
        parent.children_wait.wake_all();
    }
}

/// `CLD_*` and the value that goes with it, of a wait status.
pub(super) fn code_and_value(status: i32) -> (i32, i32) {
    match status & 0x7f {
        0 => (cld::EXITED, status >> 8 & 0xff),
        sig if status & 0x80 != 0 => (cld::DUMPED, sig),
        sig => (cld::KILLED, sig),
    }
}

/// Whether the children of a process vanish without being waited for.
fn reaps_children(parent: &ThreadGroup) -> bool {
    let a = parent.actions().get(linux::SIGCHLD);
    a.handler == SIG_IGN || a.flags & u64::from(linux::SA_NOCLDWAIT) != 0
}

/// What the parent is sent.
fn death_notice(parent: &ThreadGroup, group: &ThreadGroup, status: i32, signal: u32, uid: u32) -> SigInfo {
    let (code, value) = code_and_value(status);
    // Clock ticks of 10 ms.
    let times = [0, 1].map(|i| group.cpu_time(i, 0) / 10_000_000);
    let mut i = parent.told_of_child(code, group.pid, uid, value, times);
    i.signo = signal as i32;
    i
}

/// The children get a new parent, and hear of it if they asked to. Returns that parent if it
/// inherited a zombie, and the process groups that the children linked to it.
fn pass_on_children(group: &Arc<ThreadGroup>, tree: &tree::Guard) -> (Option<Arc<ThreadGroup>>, Vec<u32>) {
    if group.state.lock().children.is_empty() {
        return (None, Vec::new());
    }
    let reaper = reaper_of(group);
    let mut inherited = false;
    let mut pgids = Vec::new();
    // Each stays with its old parent until the new one has it: this may be done again from the middle.
    while let Some(child) = first_child(group) {
        let orphaned = links_outside(group, &child) && pgids.last() != Some(&child.pgid());
        if orphaned && pgids.try_reserve(1).is_ok() {
            pgids.push(child.pgid());
        }
        child.set_parent(reaper.as_ref());
        child.state.lock().exit_signal = linux::SIGCHLD;
        for t in child.tasks() {
            let signal = t.attr.death_signal.load(SeqCst);
            if signal != 0 {
                let _ = t.send(&info::from_user(signal, info::SI_USER, group.pid, 0));
            }
        }
        match &reaper {
            Some(r) if !child.is_zombie() || !reaps_children(r) => {
                inherited |= child.is_zombie();
                let mut state = r.state.lock();
                state.children.insert(child.pid, child.clone());
                state.telling.insert(child.pid);
            }
            _ if child.is_zombie() => {
                tree.remove_process(&child);
            }
            _ => {}
        }
        group.state.lock().remove_child(child.pid);
    }
    (reaper.filter(|_| inherited), pgids)
}

fn first_child(group: &ThreadGroup) -> Option<Arc<ThreadGroup>> {
    group.state.lock().children.values().next().cloned()
}

/// Who takes over the children: the nearest subreaper of the pid namespace, or its first process.
fn reaper_of(group: &Arc<ThreadGroup>) -> Option<Arc<ThreadGroup>> {
    let ns = group.id.namespace();
    let mut at = group.parent().filter(|_| group.shown != 1);
    while let Some(p) = at.filter(|p| Arc::ptr_eq(p.id.namespace(), ns)) {
        if p.subreaper.load(SeqCst) && !p.is_zombie() {
            return Some(p);
        }
        at = p.parent();
    }
    ns.init().filter(|i| i.pid != group.pid && !i.is_zombie())
}

/// Whether `parent` keeps the process group of its child from being orphaned.
fn links_outside(parent: &ThreadGroup, child: &ThreadGroup) -> bool {
    parent.pgid() != child.pgid() && parent.sid() == child.sid()
}

/// A process group that this exit orphans, with stopped members, gets SIGHUP and SIGCONT. `pgids` are those
/// of the children.
fn hang_up_orphans(group: &Arc<ThreadGroup>, mut pgids: Vec<u32>) {
    let linked = group.parent().is_none_or(|p| links_outside(&p, group));
    if linked && pgids.try_reserve(1).is_ok() {
        pgids.push(group.pgid());
    }
    pgids.sort_unstable();
    pgids.dedup();
    for pgid in pgids {
        let members = tree::members(pgid);
        let stopped = members.iter().any(|m| matches!(m.state.lock().run, Run::Stopped(_)));
        if stopped && ThreadGroup::pgrp_orphaned(pgid, None) {
            for m in members {
                let _ = m.send(&info::plain(linux::SIGHUP, info::SI_KERNEL));
                let _ = m.send(&info::plain(linux::SIGCONT, info::SI_KERNEL));
            }
        }
    }
}

/// Programs that have ended, whether their host process did or waits for another.
static ENDINGS: AtomicU64 = AtomicU64::new(0);
/// The supervisor waits for so many.
static AWAITED: AtomicU64 = AtomicU64::new(u64::MAX);

/// How many programs have ended, once there are as many as the supervisor waits for.
pub fn awaited_endings() -> Option<u64> {
    let so_far = ENDINGS.load(SeqCst);
    (so_far >= AWAITED.load(SeqCst)).then_some(so_far)
}

/// Wakes the supervisor when so many programs have ended.
pub fn await_endings(count: u64) {
    AWAITED.store(count, SeqCst);
}

/// Counts one whose host process goes on. Of a host process that ends the supervisor hears anyway.
pub fn count_kept() {
    if ENDINGS.fetch_add(1, SeqCst) + 1 == AWAITED.load(SeqCst) {
        crate::host::panic::ring();
    }
}

/// The supervisor reaped a host process. Slots that had not been given back belonged to tasks that
/// the host ended under us: their process is killed, or, if it died with kernel locks held, the
/// sandbox ends.
pub fn reaped(host_pid: u32, status: i32) {
    ENDINGS.fetch_add(1, SeqCst);
    let orphans = slots::reaped(host_pid);
    let mut others_wait = false;
    for slot in &orphans {
        match crate::sync::bereaved(slot) {
            Ok(any) => others_wait |= any,
            Err(broken) => crate::host::panic::panic(format_args!(
                "host process {host_pid} died (wait status {status:#x}) holding {broken}; last call {}",
                slot.last_call.load(SeqCst)
            )),
        }
        crate::arena::recover(slot);
        others_wait |= slot.waking.swap(0, SeqCst) != 0;
        slot.waker.sleeping.store(0, SeqCst);
    }
    // Before anything goes that their calls may have used: queues are in files, files in tables.
    orphans.iter().for_each(|slot| left::drop_left(slot));
    for &slot in &orphans {
        super::clone::unmade(slot, &orphans);
        if let Some(task) = zygote::bereaved(slot) {
            let signal = status & 0x7f;
            log::warn!("the host ended process {host_pid} of pid {} (wait status {status:#x})", task.group.pid);
            let signal = if signal != 0 { signal } else { linux::SIGKILL as i32 };
            let mm = task.shared().map(|own| own.mm);
            bury(&task, signal);
            if let Some(mm) = mm.filter(|mm| mm.is_lost()) {
                end_users(&mm);
            }
        }
        slots::retire(slot);
    }
    if others_wait {
        // It had found them and not yet woken them: a wake too many is only a look too many.
        slots::wake_all();
    }
}

/// A task whose host thread is gone without having exited.
pub(super) fn bury(task: &Arc<Task>, status: i32) {
    task.slot.store(0, SeqCst);
    futex::pi::ended(task, true);
    super::work::bury(task);
    let group = task.group.clone();
    begin_group_exit(&group, status);
    *task.last_cred.lock() = Some(task.cred());
    let own = {
        let _held = task.own_lock.lock();
        // SAFETY: its thread is gone; under `own_lock`.
        unsafe { (*task.own.get()).take() }
    };
    let uid = own.as_ref().map_or(0, |o| o.cred.uid);
    let ipc = own.as_ref().map(|o| o.ns.ipc.clone());
    drop(own);
    task.leave_sysvsem();
    if let Some(ipc) = ipc {
        ipc.task_ended(Arc::as_ptr(task) as usize);
    }
    let vfork = task.vfork.lock().take();
    if let Some(v) = vfork {
        v.done();
    }
    // It may have been past that already: its parent has heard of it, or has even forgotten it.
    if take_out(task, status) && !group.finished.load(SeqCst) {
        finish(&group, uid);
    }
}

/// Ends the processes that share an address space of which nothing is known any more.
fn end_users(mm: &Arc<crate::mm::AddressSpace>) {
    for task in kernel().roots().pid.tasks() {
        if task.shared().is_some_and(|own| Arc::ptr_eq(&own.mm, mm)) {
            begin_group_exit(&task.group, linux::SIGKILL as i32);
        }
    }
}
