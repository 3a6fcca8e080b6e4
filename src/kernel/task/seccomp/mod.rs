//! The guest's own filters (`seccomp(2)`), looked at in front of each call of a task that has some.
//!
//! Nothing of this reaches the host: its filter is the sandbox's. As long as no task has ever had a filter a call
//! pays nothing for it.

pub mod bpf;
pub mod logged;
pub mod notify;

use super::{CurrentTask, Task, exit, tree};
use crate::abi::sigctx::SigInfo;
use crate::abi::{Errno, Restart, Result, SysError, SysResult, linux};
use crate::cred::cap;
use crate::signal::{SigAction, bit, info};
use crate::sync::{Level, Mutex};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bpf::Insn;
use core::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Relaxed, SeqCst},
};
use notify::Notifier;

/// What the filter of a task answers; the low 16 bits are data (`SECCOMP_RET_*`).
mod answer {
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x3_0000;
    pub const ERRNO: u32 = 0x5_0000;
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    /// All bits that are not data.
    pub const ACTION: u32 = 0xffff_0000;
}

/// Modes of a task, as `/proc/PID/status` shows them.
pub mod mode {
    /// No filter.
    pub const NONE: u32 = 0;
    /// `read`, `write`, `exit` and `rt_sigreturn` alone.
    pub const STRICT: u32 = 1;
    /// Filters.
    pub const FILTER: u32 = 2;
}

/// Flags of `SECCOMP_SET_MODE_FILTER`.
pub mod flag {
    #![allow(missing_docs)]
    pub const TSYNC: u32 = 1;
    pub const LOG: u32 = 2;
    pub const NEW_LISTENER: u32 = 8;
    pub const TSYNC_ESRCH: u32 = 16;
    pub const WAIT_KILLABLE: u32 = 32;
    /// With `SPEC_ALLOW`, which asks for no mitigation of speculation: nothing to do.
    pub const ALL: u32 = 0x3f;
}

/// Most instructions of all filters of a task together, each filter counting four more (`MAX_INSNS_PER_PATH`).
const MAX_PATH: u32 = 32768;
/// `AUDIT_ARCH_X86_64`.
pub const ARCH: u32 = 0xc000_003e;
/// Highest error number that a filter can answer.
const MAX_ERRNO: u32 = 4095;

/// Calls are looked at before they are run: some task has had a filter, or they are traced. One flag for both, since
/// every call loads it.
static LOOKS: AtomicBool = AtomicBool::new(false);

/// Whether calls are looked at before they are run.
#[inline(always)]
pub fn looks_at_calls() -> bool {
    LOOKS.load(Relaxed)
}

/// From now on they are.
pub fn look_at_calls() {
    LOOKS.store(true, SeqCst);
}

/// A filter, and those that were there before it.
pub struct Filter {
    before: Option<Arc<Filter>>,
    program: Vec<Insn>,
    /// Length of it and all before it, as [`MAX_PATH`] counts.
    path: u32,
    /// Number of filters up to this one.
    depth: u32,
    logs: bool,
    listener: Option<Arc<Notifier>>,
}

impl Filter {
    /// Its instructions, as `struct sock_filter` has them.
    pub fn program_words(&self) -> Vec<u64> {
        self.program.iter().map(|&insn| u64::from(insn)).collect()
    }

    /// Those of [`flag`] that are told of it.
    pub fn flags(&self) -> u64 {
        if self.logs { u64::from(flag::LOG) } else { 0 }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Some(l) = &self.listener {
            l.forsaken();
        }
        // As deep as a guest likes: not by recursion.
        let mut next = self.before.take();
        while let Some(mut f) = next.and_then(Arc::into_inner) {
            next = f.before.take();
        }
    }
}

/// A task's filters.
pub struct State {
    mode: AtomicU32,
    filter: Mutex<Option<Arc<Filter>>>,
    /// Another thread has set `no_new_privs` for it with its filters.
    no_new_privs: AtomicBool,
}

impl Default for State {
    fn default() -> State {
        State {
            mode: AtomicU32::new(mode::NONE),
            filter: Mutex::new(Level::Leaf, None),
            no_new_privs: AtomicBool::new(false),
        }
    }
}

impl State {
    /// One of [`mode`].
    pub fn mode(&self) -> u32 {
        self.mode.load(SeqCst)
    }

    /// Number of filters.
    pub fn depth(&self) -> u32 {
        self.filter.lock().as_ref().map_or(0, |f| f.depth)
    }

    /// The filter with this number, the oldest being 0.
    ///
    /// # Errors
    /// `EINVAL` without filters, `ENOENT`.
    pub fn nth(&self, n: u64) -> Result<Arc<Filter>> {
        if self.mode() != mode::FILTER {
            return Err(Errno::EINVAL);
        }
        let mut next = self.filter.lock().clone();
        while let Some(f) = next {
            if u64::from(f.depth) == n.saturating_add(1) {
                return Ok(f);
            }
            next = f.before.clone();
        }
        Err(Errno::ENOENT)
    }

    fn sets_no_new_privs(&self) -> bool {
        self.no_new_privs.load(SeqCst)
    }

    /// Takes over what `from` has: a child, or a thread that is synchronised.
    fn copy(&self, from: &State) {
        let filter = from.filter.lock().clone();
        let old = core::mem::replace(&mut *self.filter.lock(), filter);
        self.mode.store(from.mode(), SeqCst);
        drop(old);
    }

    /// A child's, from its parent's.
    pub fn inherit(&self, parent: &State) {
        if looks_at_calls() {
            self.copy(parent);
            self.no_new_privs.store(parent.sets_no_new_privs(), SeqCst);
        }
    }

    /// The task ends: its filters are nobody's any more.
    pub fn clear(&self) {
        let filter = self.filter.lock().take();
        drop(filter);
    }
}

impl Task {
    /// Whether no program gives it privileges (`PR_SET_NO_NEW_PRIVS`).
    pub fn no_new_privs(&self) -> bool {
        self.seccomp.sets_no_new_privs() || self.cred().no_new_privs
    }
}

/// What becomes of a call.
pub enum Verdict {
    /// It is run, with this number and these arguments.
    Run(u64, [u64; 6]),
    /// It is not; this is its result.
    Skip(SysResult<u64>),
}

fn data_of(nr: u64, ip: u64, args: &[u64; 6]) -> [u32; 16] {
    let mut data = [0; 16];
    (data[0], data[1]) = (nr as u32, ARCH);
    for (i, &v) in core::iter::once(&ip).chain(args).enumerate() {
        (data[2 + 2 * i], data[3 + 2 * i]) = (v as u32, (v >> 32) as u32);
    }
    data
}

/// The strictest answer of all filters, the newest among equals, and whose it is.
fn ask(filter: &Arc<Filter>, data: &[u32; 16]) -> (u32, Arc<Filter>) {
    let (mut best, mut whose) = (answer::ALLOW, filter);
    let mut next = Some(filter);
    while let Some(f) = next {
        let a = bpf::run(&f.program, data);
        // KILL_PROCESS is negative, hence the strictest.
        if ((a & answer::ACTION) as i32) < (best & answer::ACTION) as i32 {
            (best, whose) = (a, f);
        }
        next = f.before.as_ref();
    }
    (best, whose.clone())
}

/// Looks at a call of a task that may have filters. Does not return if the filters end the thread.
pub fn look(cur: &CurrentTask, nr: u64, args: &[u64; 6]) -> Verdict {
    match cur.seccomp.mode() {
        mode::NONE => Verdict::Run(nr, *args),
        mode::STRICT => match nr as u32 {
            linux::__NR_read | linux::__NR_write | linux::__NR_exit | linux::__NR_rt_sigreturn => {
                Verdict::Run(nr, *args)
            }
            _ => exit::exit_thread(cur, linux::SIGKILL as i32),
        },
        _ => filtered(cur, nr, args, false),
    }
}

fn filtered(cur: &CurrentTask, nr: u64, args: &[u64; 6], traced_already: bool) -> Verdict {
    let Some(filter) = cur.seccomp.filter.lock().clone() else { return Verdict::Run(nr, *args) };
    let ip = cur.frame().rip;
    let data = data_of(nr, ip, args);
    let (said, whose) = ask(&filter, &data);
    let (logs, listener) = (whose.logs, whose.listener.clone());
    drop((filter, whose));
    let action = said & answer::ACTION;
    let value = said & 0xffff;
    if logged::logs(action, logs) {
        log::info!("process {} call {nr}: seccomp answers {said:#x}", cur.group.pid);
    }
    match action {
        answer::ALLOW | answer::LOG => Verdict::Run(nr, *args),
        answer::ERRNO => Verdict::Skip(Ok((-i64::from(value.min(MAX_ERRNO))) as u64)),
        answer::TRAP => {
            cur.force_signal(&record(nr, ip, value));
            Verdict::Skip(Ok(nr))
        }
        answer::TRACE if traced_already => Verdict::Run(nr, *args),
        answer::TRACE => traced(cur, nr, value),
        answer::USER_NOTIF => match listener {
            Some(listener) => listener.ask(cur, nr, args, &data),
            None => Verdict::Skip(Err(Errno::ENOSYS.into())),
        },
        answer::KILL_THREAD if cur.group.state.lock().tasks.len() > 1 => {
            drop(listener);
            exit::exit_thread(cur, linux::SIGSYS as i32)
        }
        // KILL_PROCESS, and what no kernel knows.
        _ => {
            cur.group.actions().set(linux::SIGSYS, SigAction::default());
            cur.blocked.fetch_and(!bit(linux::SIGSYS), SeqCst);
            cur.force_signal(&record(nr, ip, value));
            Verdict::Skip(Ok(nr))
        }
    }
}

/// What SIGSYS tells: where the call was made, its number, the architecture, the filter's data.
fn record(nr: u64, ip: u64, value: u32) -> SigInfo {
    const SYS_SECCOMP: i32 = 1;
    let mut i = info::plain(linux::SIGSYS, SYS_SECCOMP);
    i.errno = value as i32;
    (i.fields[0], i.fields[1]) = (ip, u64::from(nr as u32) | u64::from(ARCH) << 32);
    i
}

/// The tracer decides; without one that wants to, the call is not there.
fn traced(cur: &CurrentTask, nr: u64, value: u32) -> Verdict {
    cur.note_call(nr);
    // What the tracer sees until there is a result.
    cur.frame().rax = -i64::from(Errno::ENOSYS.raw()) as u64;
    if !cur.seccomp_stop(value) {
        return Verdict::Skip(Err(Errno::ENOSYS.into()));
    }
    let regs = cur.frame();
    let nr = cur.noted_call();
    if cur.must_end() || (nr as i32) < 0 {
        return Verdict::Skip(Ok(regs.rax));
    }
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    filtered(cur, nr, &args, true)
}

/// Allows only what strict mode allows from now on.
///
/// # Errors
/// `EINVAL` where there are filters.
pub fn set_strict(cur: &CurrentTask) -> Result {
    if cur.seccomp.mode() == mode::FILTER {
        return Err(Errno::EINVAL);
    }
    look_at_calls();
    cur.seccomp.mode.store(mode::STRICT, SeqCst);
    Ok(())
}

/// What adding a filter came to.
pub enum Added {
    /// It is there.
    Done,
    /// It is there, and this hears of calls.
    Listener(Arc<Notifier>),
    /// This thread cannot be synchronised; nothing was added.
    Diverged(u32),
}

/// Whether the caller may add filters at all.
///
/// # Errors
/// `EACCES` without `no_new_privs` and CAP_SYS_ADMIN.
pub fn may_add(cur: &CurrentTask) -> Result {
    if cur.no_new_privs() || cur.cred().capable_here(cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EACCES) }
}

/// Adds a filter in front of those that the caller has; `flags` as in [`flag`].
///
/// # Errors
/// `EINVAL` for a bad program or in strict mode, `ENOMEM` for too many instructions, `EBUSY` for a second listener.
pub fn add(cur: &CurrentTask, program: Vec<Insn>, flags: u32) -> Result<Added> {
    bpf::check(&program, bpf::Dialect::Seccomp)?;
    if cur.seccomp.mode() == mode::STRICT {
        return Err(Errno::EINVAL);
    }
    let has = |f: u32| flags & f != 0;
    // No thread of the process comes, goes or adds one meanwhile.
    let tree = tree::lock();
    let before = cur.seccomp.filter.lock().clone();
    if has(flag::NEW_LISTENER) && has_listener(before.as_ref()) {
        return Err(Errno::EBUSY);
    }
    let path = before.as_ref().map_or(0, |f| f.path + 4) + bpf::counted_len(&program);
    if path > MAX_PATH {
        return Err(Errno::ENOMEM);
    }
    let others = cur.group.tasks();
    if has(flag::TSYNC)
        && let Some(other) = others.iter().find(|t| !Arc::ptr_eq(t, cur) && !may_follow(t, before.as_ref()))
    {
        return Ok(Added::Diverged(cur.seen_pid(other.tid())));
    }
    let listener = has(flag::NEW_LISTENER).then(|| Arc::new(Notifier::new(has(flag::WAIT_KILLABLE))));
    let depth = before.as_ref().map_or(0, |f| f.depth) + 1;
    let filter = Filter { before, program, path, depth, logs: has(flag::LOG), listener: listener.clone() };
    look_at_calls();
    *cur.seccomp.filter.lock() = Some(Arc::new(filter));
    cur.seccomp.mode.store(mode::FILTER, SeqCst);
    if has(flag::TSYNC) {
        let privs = cur.no_new_privs();
        for t in others.iter().filter(|t| !Arc::ptr_eq(t, cur)) {
            t.seccomp.copy(&cur.seccomp);
            t.seccomp.no_new_privs.fetch_or(privs, SeqCst);
        }
    }
    drop(tree);
    Ok(listener.map_or(Added::Done, Added::Listener))
}

fn has_listener(mut filter: Option<&Arc<Filter>>) -> bool {
    while let Some(f) = filter {
        // One that nobody holds any more does not count.
        if f.listener.as_ref().is_some_and(|l| !l.is_closed()) {
            return true;
        }
        filter = f.before.as_ref();
    }
    false
}

/// Whether a thread has no filter that the caller, who has `mine`, does not have, so that it can take over the caller's.
fn may_follow(thread: &Task, mine: Option<&Arc<Filter>>) -> bool {
    let its = thread.seccomp.filter.lock().clone();
    match (thread.seccomp.mode(), its) {
        (mode::NONE, _) => true,
        (mode::FILTER, Some(its)) => {
            let mut at = mine;
            while let Some(f) = at {
                if Arc::ptr_eq(f, &its) {
                    return true;
                }
                at = f.before.as_ref();
            }
            false
        }
        _ => false,
    }
}

/// Whether a filter may answer this (`SECCOMP_GET_ACTION_AVAIL`).
pub fn is_known(action: u32) -> bool {
    matches!(
        action,
        answer::KILL_PROCESS
            | answer::KILL_THREAD
            | answer::TRAP
            | answer::ERRNO
            | answer::USER_NOTIF
            | answer::TRACE
            | answer::LOG
            | answer::ALLOW
    )
}

/// A call that a signal has interrupted before anybody answered for it.
fn again() -> Verdict {
    Verdict::Skip(Err(SysError::Restart(Restart::Sys)))
}
