//! `execve(2)`: the checks, the death of siblings, and the hand-over to a clean process.

use super::attr::persona;
use super::loader::{self, ExecPlan, Places, Program};
use super::pid;
use super::{CurrentTask, NsProxy, Own, Task, adopt, cpu_timers, dispatch, exit, kernel, limits, record, tree, zygote};
use crate::abi::sigctx::{SigContext, SigStack};
use crate::abi::{Errno, Result, SysResult};
use crate::arch;
use crate::cred::{Cred, exec as rules};
use crate::host::{process, sched};
use crate::mm::AddressSpace;
use crate::sync::left::Kept;
use crate::sync::{Kind, On};
use crate::vfs::{FdTable, FsContext, OpCtx, access};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// What a set-user-id program's start clears of `personality(2)` (`PER_CLEAR_ON_SETID`): READ_IMPLIES_EXEC,
/// ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT, MMAP_PAGE_ZERO.
const PER_CLEAR_ON_SETID: u32 = 0x0074_0000;

/// An exec past its point of no return. The caller drops what it still holds, then goes.
#[must_use]
pub struct Committed {
    /// Where to, if not in place.
    ticket: Option<zygote::Ticket>,
    plan: Kept<Box<ExecPlan>>,
}

/// Makes the caller ready to be replaced by a program.
///
/// # Errors
/// Those of `execve(2)`.
pub fn exec(cur: &CurrentTask, program: Program<'_>, argv: Vec<Vec<u8>>, envp: Vec<Vec<u8>>) -> SysResult<Committed> {
    let old = cur.cred();
    // Whoever became a user that has too many processes may not start a program (`PF_NPROC_EXCEEDED`).
    let too_many = u64::from(old.user.processes.load(SeqCst)) > cur.group.limits.get(limits::NPROC).0;
    if cur.attr.over_limit.swap(false, SeqCst) && too_many {
        cur.attr.over_limit.store(true, SeqCst);
        return Err(Errno::EAGAIN.into());
    }
    let plan = loader::prepare(cur.fs(), &cur.op_ctx(), program, argv, envp)?;
    let mut plan = Kept::new(Box::new(plan));
    let shares_fs = plan.gives_ids() && shares_fs(cur);
    let from = Cred { no_new_privs: cur.no_new_privs(), ..Cred::clone(old) };
    let outcome = rules::exec(&from, &plan.credentials(&from, shares_fs, from.no_new_privs))?;
    plan.secure = outcome.secure;
    let as_read = access::check(old, &**plan.exe.inode(), access::READ).is_ok();
    let same_ids = old.euid == old.uid && old.egid == old.gid;
    plan.dumpable = as_read && same_ids && !outcome.changed;
    let ticket = if is_alone(cur) { zygote::ready() } else { Some(zygote::reserve()?) };
    become_only_thread(cur)?;
    // The point of no return.
    commit(cur, &plan, outcome)?;
    Ok(Committed { ticket, plan })
}

impl Committed {
    /// Starts the program.
    pub fn go(self, cur: &CurrentTask) -> ! {
        let Committed { ticket, plan } = self;
        let Some(ticket) = ticket else {
            zygote::become_clean(Box::new(Install { task: None, plan: plan.into_inner() }))
        };
        exit::account(&cur.group);
        // The task leaves this host thread; its slot's reference goes along.
        let job = Box::new(Install { task: Some(Arc::clone(cur)), plan: plan.into_inner() });
        if zygote::start(ticket, job).is_err() {
            exit::exit_group(cur, crate::abi::linux::SIGKILL as i32);
        }
        super::slots::retire(arch::slot());
        process::exit_thread()
    }
}

/// Whether the memory of the host process is the caller's alone, so that the program can replace it in
/// place: no other thread, and no other process that shares it (a vfork parent). Nobody but the caller
/// could change that.
pub(super) fn is_alone(cur: &CurrentTask) -> bool {
    cur.group.state.lock().tasks.len() == 1 && Arc::strong_count(cur.mm()) == 1
}

/// Whether a process other than the caller's uses its root and working directory (`check_unsafe_exec` in
/// `fs/exec.c`). A read of `/proc` may hold them for a moment, too; then the program gets no more than its user has.
fn shares_fs(cur: &CurrentTask) -> bool {
    let here = |t: &Arc<Task>| t.shared().is_some_and(|own| Arc::ptr_eq(&own.fs, cur.fs()));
    let own = cur.group.tasks().iter().filter(|t| here(t)).count();
    Arc::strong_count(cur.fs()) > own
}

/// Ends every other thread of the process; the caller becomes its leader.
///
/// # Errors
/// A restart when another thread was first, so that the caller meets its end.
fn become_only_thread(cur: &CurrentTask) -> SysResult<()> {
    let group = &cur.group;
    cur.note_former_tid();
    {
        let mut state = group.state.lock();
        if state.exiting.is_some() || state.exec.is_some() {
            return Err(crate::abi::SysError::Restart(crate::abi::Restart::NoIntr));
        }
        if state.tasks.len() == 1 && cur.tid() == group.pid {
            return Ok(());
        }
        state.exec = Some(cur.tid());
    }
    let slot = arch::slot();
    loop {
        let ticket = slot.waker.ticket();
        let others: Vec<_> = {
            let state = group.state.lock();
            if state.exiting.is_some() {
                return Err(crate::abi::SysError::Restart(crate::abi::Restart::NoIntr));
            }
            state.tasks.iter().filter(|t| t.tid() != cur.tid()).cloned().collect()
        };
        if others.is_empty() {
            break;
        }
        for t in others {
            t.kick();
        }
        crate::sync::wait::sleep_deaf(slot, On::the(Kind::Siblings), ticket);
    }
    if cur.tid() != group.pid {
        let tree = tree::lock();
        tree.replace_leader(cur);
        cur.tid.store(group.pid, SeqCst);
        cur.shown_tid.store(group.shown, SeqCst);
    }
    group.state.lock().exec = None;
    Ok(())
}

/// Replaces what the program does not inherit.
fn commit(cur: &CurrentTask, plan: &ExecPlan, outcome: rules::Outcome) -> Result {
    let group = &cur.group;
    super::futex::exit_robust_list(cur);
    super::futex::pi::ended(cur, false);
    let tid_word = cur.clear_child_tid.swap(0, SeqCst);
    if tid_word != 0 && Arc::strong_count(cur.mm()) > 1 && crate::mm::UserPtr::<u32>::new(tid_word).write(0).is_ok() {
        super::futex::wake_word(cur, tid_word);
    }
    let mm = Arc::new(AddressSpace::new());
    mm.inherit_mdwe(cur.mm());
    if cur.is_traced() {
        mm.refuse_rewriting();
    }
    let own = cur.own().clone();
    let files = if Arc::strong_count(&own.files) > 2 { Arc::new(own.files.fork_copy()?) } else { own.files.clone() };
    let fs = if Arc::strong_count(&own.fs) > 2 { Arc::new(own.fs.fork_copy()) } else { own.fs.clone() };
    let (cred, ns) = (Arc::new(outcome.cred), own.ns.for_child());
    drop(own);
    let old = cur.replace_own(Some(Own { mm, files: files.clone(), fs, cred, ns }));
    drop(old);
    files.close_on_exec(&cur.op_ctx());
    group.timers.clear_posix();
    group.set_actions(Arc::new(group.actions().for_exec()));
    // Programs of 64 bits start without it (`set_personality_64bit`).
    let cleared = if outcome.clears_personality { PER_CLEAR_ON_SETID } else { persona::READ_IMPLIES_EXEC };
    cur.attr.personality.fetch_and(!cleared, Relaxed);
    if outcome.secure || outcome.changed {
        cur.attr.death_signal.store(0, SeqCst);
    }
    cur.set_dumpable(if plan.dumpable { 1 } else { super::coredump::OF_SET_ID.get() as u32 });
    *cur.altstack.lock() = SigStack::default();
    cur.robust_list.store(0, SeqCst);
    cur.dispatch.set(dispatch::Region::default());
    *cur.comm.lock() = plan.comm.clone();
    let old = core::mem::replace(&mut *group.exec_info.lock(), plan.info());
    drop(old);
    group.did_exec.store(true, SeqCst);
    record::exec(group.pid, &plan.execfn);
    group.state.lock().exit_signal = crate::abi::linux::SIGCHLD;
    cur.new_process.store(true, SeqCst);
    cur.vfork_done();
    Ok(())
}

/// A program on its way into a clean process.
struct Install {
    /// The task that moves in, if it is not there already.
    task: Option<Arc<Task>>,
    plan: Box<ExecPlan>,
}

impl zygote::Job for Install {
    fn task(&self) -> Option<Arc<Task>> {
        self.task.clone()
    }

    fn run(self: Box<Self>, spent: [u64; 2]) -> SigContext {
        let Install { task, plan } = *self;
        let plan = Kept::new(plan);
        if let Some(task) = task {
            adopt(task);
        }
        zygote::arrived();
        let mut regs = SigContext::default();
        let cur = CurrentTask::here(&mut regs);
        let group = cur.group.clone();
        // The process's own time is what the host counts less this.
        for (past, spent) in group.times.iter().zip(spent) {
            past.fetch_sub(spent, SeqCst);
        }
        sched::show(&plan.comm);
        let own = cur.shared().map(|own| (Kept::new(own.mm), own.cred));
        let outcome = match &own {
            Some((mm, cred)) => {
                let fixed = cur.attr.has_persona(persona::ADDR_NO_RANDOMIZE);
                let places = Places::new(fixed, group.limits.get(limits::STACK).0);
                mm.limits[0].store(group.limits.get(limits::AS).0, Relaxed);
                let (soft, hard) = group.limits.get(limits::DATA);
                mm.limits[1].store(if soft == 0 { hard } else { soft }, Relaxed);
                cur.restore_affinity();
                cur.settle_clocks();
                loader::load(&plan, mm, cred, places)
            }
            None => Err(Errno::ESRCH),
        };
        drop((own, plan, group));
        match outcome {
            Ok(started) => {
                regs.rip = started.entry;
                regs.rsp = started.sp;
                regs.eflags = 0x202;
                regs
            }
            Err(e) => {
                log::warn!("exec: the image could not be mapped: {e}");
                exit::exit_group(&cur, crate::abi::linux::SIGSEGV as i32)
            }
        }
    }
}

/// What the first process of a sandbox, or one more from outside, starts with.
pub struct Fresh {
    /// Credentials.
    pub cred: Arc<Cred>,
    /// Root, working directory, umask.
    pub fs: Arc<FsContext>,
    /// Descriptors.
    pub files: Arc<FdTable>,
    /// Limits.
    pub limits: limits::Limits,
    /// Namespaces.
    pub ns: Arc<NsProxy>,
    /// The container that it belongs to.
    pub container: Option<Arc<str>>,
}

/// Starts a process from outside; returns its pid.
///
/// # Errors
/// Those of `execve(2)` and of making a process.
pub fn spawn(fresh: Fresh, program: Program<'_>, argv: Vec<Vec<u8>>, envp: Vec<Vec<u8>>) -> SysResult<u32> {
    let ctx = OpCtx { cred: &fresh.cred, tgid: 0, tid: 0, fsize_limit: u64::MAX, umask: fresh.fs.umask() };
    let mut plan = loader::prepare(&fresh.fs, &ctx, program, argv, envp)?;
    let path = plan.execfn.clone();
    let outcome = rules::exec(&fresh.cred, &plan.credentials(&fresh.cred, false, false))?;
    plan.secure = outcome.secure;
    let cred = Arc::new(outcome.cred);
    let ticket = zygote::reserve()?;
    let mm = Arc::new(AddressSpace::new());
    let own = Own { mm, files: fresh.files, fs: fresh.fs, cred: cred.clone(), ns: fresh.ns };
    kernel().count_task(&cred, u64::MAX)?;
    let id = pid::new_pid(None).inspect_err(|_| kernel().uncount_task(&cred))?;
    let pid = id.number();
    let task = {
        let actions = Arc::new(super::group::Actions::default());
        let same = || id.clone();
        let signal = crate::abi::linux::SIGCHLD;
        let mut group = super::ThreadGroup::new(same(), same(), same(), fresh.limits, actions, signal);
        group.container = fresh.container;
        let group = Arc::new(group);
        group.external.store(true, SeqCst);
        group.did_exec.store(true, SeqCst);
        *group.exec_info.lock() = plan.info();
        let task = Task::new(pid, group.clone(), own, plan.comm.clone());
        group.state.lock().add_task(task.clone());
        let tree = tree::lock();
        tree.add_task(&id, &task);
        tree.add_process(&group);
        task
    };
    if task.group.limits.get(limits::CPU).0 != u64::MAX {
        cpu_timers::watch_limit(&task.group);
    }
    super::session::claim_input(&task);
    if let Err(e) = zygote::start(ticket, Box::new(Install { task: Some(task.clone()), plan: Box::new(plan) })) {
        exit::bury(&task, crate::abi::linux::SIGKILL as i32);
        return Err(e.into());
    }
    record::exec(pid, &path);
    Ok(pid)
}
