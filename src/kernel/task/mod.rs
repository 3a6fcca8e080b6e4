//! Tasks, thread groups, sessions, pids; clone, exec, exit, wait; futexes.
//!
//! One lock ([`tree`]) guards who is whose parent and in which process group; a group's own state has a lock
//! of its own, and so has each pid namespace's table ([`pid`]). A task is reached through the host thread that
//! runs it: its slot.

pub mod access;
pub mod acct;
pub mod async_io;
pub mod attr;
pub mod clone;
pub mod copies;
pub mod coredump;
pub mod cpu_clock;
pub mod cpu_timers;
mod current;
pub mod dispatch;
pub mod exec;
pub mod exit;
pub mod futex;
pub mod group;
pub mod io_count;
mod kernel;
pub mod limits;
pub mod loader;
pub mod memory;
pub mod ns;
pub mod oom;
pub mod park;
pub mod pid;
pub mod posix_timers;
pub mod record;
pub mod revive;
pub mod seccomp;
pub mod session;
pub mod signals;
pub mod slots;
pub mod syslog;
pub mod sysvsem;
pub mod time_ns;
pub mod timers;
pub mod trace;
pub mod tree;
pub mod uts;
pub mod wait;
pub mod work;
mod zap;
pub mod zygote;

pub use attr::{Attr, RESET_ON_FORK};
pub use current::{CurrentTask, FileRef, signal_pending};
pub use group::ThreadGroup;
pub use kernel::{Kernel, kernel};
pub use ns::NsProxy;
pub use pid::Pid;
pub use signals::ExitWork;

use crate::abi::sigctx::SigStack;
use crate::abi::slot::{SlotHeader, kick, place};
use crate::arch;
use crate::cred::Cred;
use crate::host::process;
use crate::mm::AddressSpace;
use crate::signal::Pending;
use crate::sync::{Level, Mutex, MutexGuard};
use crate::vfs::{FdTable, FsContext};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

/// What a task has of its process; replaced only by the task itself.
#[derive(Clone)]
pub struct Own {
    /// Address space.
    pub mm: Arc<AddressSpace>,
    /// Descriptors.
    pub files: Arc<FdTable>,
    /// Root, working directory, umask.
    pub fs: Arc<FsContext>,
    /// Credentials.
    pub cred: Arc<Cred>,
    /// Namespaces.
    pub ns: Arc<NsProxy>,
}

/// A thread of the guest.
pub struct Task {
    tid: AtomicU32,
    /// Its thread id in its own pid namespace.
    shown_tid: AtomicU32,
    /// Its process.
    pub group: Arc<ThreadGroup>,
    slot: AtomicU64,
    own: UnsafeCell<Option<Own>>,
    /// Its credentials at its end.
    last_cred: Mutex<Option<Arc<Cred>>>,
    /// Taken by the task to replace `own`, and by others to look at it.
    own_lock: Mutex<()>,
    /// Thread name, at most 15 bytes.
    pub comm: Mutex<Vec<u8>>,
    /// Signals for this thread alone.
    pub pending: Mutex<Pending>,
    /// Blocked signals.
    pub blocked: AtomicU64,
    /// The mask to go back to after `sigsuspend`, `ppoll` and the like, once a handler has run or
    /// nothing was delivered.
    saved_mask: Mutex<Option<u64>>,
    /// Alternate signal stack.
    pub altstack: Mutex<SigStack>,
    /// `set_tid_address`: zeroed and woken at exit.
    pub clear_child_tid: AtomicU64,
    /// Where the child writes its tid at its start.
    set_child_tid: AtomicU64,
    /// `set_robust_list`.
    pub robust_list: AtomicU64,
    /// Where it stands among its process's threads.
    place: AtomicU32,
    /// The host process is the child's own.
    new_process: AtomicBool,
    /// It is past the beginning of its exit.
    leaving: AtomicBool,
    /// What a vfork parent waits for.
    vfork: Mutex<Option<Arc<clone::VforkDone>>>,
    /// What `restart_syscall` goes on with.
    pub restart: Mutex<Option<Restart>>,
    /// Priorities and `prctl` settings.
    pub attr: Attr,
    /// CPU time that it spent before it was restored, ns.
    pub spent: AtomicU64,
    /// What others ask it to do.
    work: work::Queue,
    /// Its own filters.
    pub seccomp: seccomp::State,
    /// Calls that it takes itself.
    pub dispatch: dispatch::Dispatch,
    /// Whether somebody traces it, and how it goes on: bits of [`trace::flag`].
    pub traced: AtomicU32,
    /// Its tracing.
    trace: Mutex<Option<Box<trace::Trace>>>,
    /// It will own no futex any more (`futex::pi`).
    futex_ended: AtomicBool,
    /// Signal that a tracer passes on.
    resume_signal: AtomicU32,
    sysvsem: sysvsem::Slot,
    /// What it read and wrote.
    pub io: io_count::IoCount,
}

/// What `restart_syscall` continues.
#[derive(Clone, Copy, Debug)]
pub enum Restart {
    /// A sleep until `deadline`, ns of the host's monotonic clock or of a clock of CPU time; the rest is
    /// written to the guest address `remaining`, 0 for none.
    Nap {
        /// The clock of CPU time.
        cpu: Option<i32>,
        /// See above.
        deadline: u64,
        /// See above.
        remaining: u64,
    },
    /// A `poll` until `deadline` (host monotonic ns).
    Poll {
        /// Guest address of the array.
        fds: u64,
        /// Its length.
        count: u32,
        /// See above.
        deadline: u64,
    },
    /// A wait for a futex until `deadline` (host monotonic ns).
    Futex {
        /// Guest address of the word.
        addr: u64,
        /// It is of one address space.
        private: bool,
        /// What it holds.
        val: u32,
        /// Which wakes count.
        bits: u32,
        /// See above.
        deadline: u64,
    },
}

// SAFETY: `own` is written by the task's own thread under `own_lock` and read either by that thread
// or under `own_lock`.
unsafe impl Send for Task {}
// SAFETY: as above.
unsafe impl Sync for Task {}

impl Task {
    /// A task that does not run yet.
    pub fn new(tid: u32, group: Arc<ThreadGroup>, own: Own, comm: Vec<u8>) -> Arc<Task> {
        Task::make(tid, group, Some(own), comm)
    }

    fn make(tid: u32, group: Arc<ThreadGroup>, own: Option<Own>, comm: Vec<u8>) -> Arc<Task> {
        Arc::new(Task {
            tid: AtomicU32::new(tid),
            shown_tid: AtomicU32::new(group.id.namespace().seen(tid)),
            group,
            slot: AtomicU64::new(0),
            own: UnsafeCell::new(own),
            last_cred: Mutex::new(Level::Leaf, None),
            own_lock: Mutex::new(Level::Leaf, ()),
            comm: Mutex::new(Level::Leaf, comm),
            pending: Mutex::mended(Level::Signal, Pending::new()),
            blocked: AtomicU64::new(0),
            saved_mask: Mutex::new(Level::Leaf, None),
            altstack: Mutex::new(Level::Leaf, SigStack::default()),
            clear_child_tid: AtomicU64::new(0),
            set_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            place: AtomicU32::new(0),
            new_process: AtomicBool::new(true),
            leaving: AtomicBool::new(false),
            vfork: Mutex::new(Level::Leaf, None),
            restart: Mutex::new(Level::Leaf, None),
            attr: Attr::default(),
            spent: AtomicU64::new(0),
            io: io_count::IoCount::default(),
            work: work::Queue::default(),
            seccomp: seccomp::State::default(),
            dispatch: dispatch::Dispatch::default(),
            traced: AtomicU32::new(0),
            trace: Mutex::new(Level::Leaf, None),
            futex_ended: AtomicBool::new(false),
            resume_signal: AtomicU32::new(0),
            sysvsem: sysvsem::slot(),
        })
    }

    /// Thread id in its own pid namespace, as the program itself knows it.
    pub fn shown_tid(&self) -> u32 {
        self.shown_tid.load(SeqCst)
    }

    /// Thread id. Changes only when a thread that is not the leader calls exec.
    pub fn tid(&self) -> u32 {
        self.tid.load(SeqCst)
    }

    /// The slot of the host thread that runs it, if any does.
    pub fn slot(&self) -> Option<&'static SlotHeader> {
        let at = self.slot.load(SeqCst);
        // SAFETY: only addresses of slot headers are stored, which are never unmapped.
        (at != 0).then(|| unsafe { &*(at as *const SlotHeader) })
    }

    /// Whether it sleeps, in this kernel or in a call of the host's.
    pub fn sleeps(&self) -> bool {
        self.slot().is_some_and(|s| s.waker.sleeping.load(SeqCst) != 0 || s.place.load(SeqCst) == place::HOST_CALL)
    }

    /// What the task has, as others may look at it; `None` once it has exited.
    pub fn shared(&self) -> Option<Own> {
        let held = self.own_lock.lock();
        MutexGuard::settle(&held);
        // SAFETY: under `own_lock`.
        unsafe { (*self.own.get()).clone() }
    }

    /// Its network namespace; `None` once it has exited.
    pub fn network(&self) -> Option<Arc<dyn ns::NetNamespace>> {
        let _held = self.own_lock.lock();
        // SAFETY: under `own_lock`.
        unsafe { (*self.own.get()).as_ref() }.map(|own| own.ns.net.clone())
    }

    /// Its credentials, those that it ended with once it has exited.
    pub fn cred(&self) -> Arc<Cred> {
        let live = {
            let held = self.own_lock.lock();
            MutexGuard::settle(&held);
            // SAFETY: under `own_lock`.
            unsafe { (*self.own.get()).as_ref() }.map(|own| own.cred.clone())
        };
        if let Some(cred) = live {
            return cred;
        }
        self.last_cred.lock().clone().unwrap_or_else(|| Arc::new(Cred::new(0, 0, Vec::new())))
    }

    /// Whether others of its user may look at it (`PR_SET_DUMPABLE`).
    pub fn is_dumpable(&self) -> bool {
        self.attr.dumpable.load(SeqCst) == 1
    }

    /// See [`Task::is_dumpable`]: 0, 1, or 2 for root only.
    pub fn set_dumpable(&self, value: u32) {
        self.attr.dumpable.store(value, SeqCst);
    }

    /// Makes the thread look at its exit work: from a sleep, from the guest or from a host call.
    pub fn kick(&self) {
        if let Some(slot) = self.slot() {
            kick_slot(slot, kick::LOOK);
        }
    }
}

/// Leaves these bits of [`kick`] for the thread of a slot and makes it look: from a sleep, from the guest or
/// from a host call.
pub fn kick_slot(slot: &'static SlotHeader, why: u32) {
    slot.mark(why);
    slot.waker.wake();
    if slot.place.load(SeqCst) != place::KERNEL {
        process::kick(slot);
    }
}

/// Binds a task to the running host thread's slot.
pub fn adopt(task: Arc<Task>) {
    let slot = arch::slot();
    task.slot.store(core::ptr::from_ref(slot) as u64, SeqCst);
    slot.task.store(Arc::into_raw(task) as u64, SeqCst);
    // Whatever was sent while it had no thread is looked at before the guest is entered.
    slot.mark(kick::LOOK | kick::ATTEND);
}

/// The task with this thread id; a leader's stays until its process is reaped.
pub fn lookup(tid: u32) -> Option<Arc<Task>> {
    kernel().roots().pid.task(tid)
}

/// The process with this id, a zombie too.
pub fn lookup_group(pid: u32) -> Option<Arc<ThreadGroup>> {
    kernel().roots().pid.process(pid)
}

#[cfg(test)]
pub(crate) mod test_support {
    use super::*;

    /// A process that was never started, with a pid of its own.
    pub fn group(pid: u32, pgid: u32, sid: u32) -> Arc<ThreadGroup> {
        let id = |n: u32| kernel().roots().pid.find(n).unwrap_or_else(|| pid::new_pid(Some(n)).unwrap());
        let (id, pgrp, session) = (id(pid), id(pgid), id(sid));
        let actions = Arc::new(group::Actions::default());
        let group = ThreadGroup::new(id, pgrp, session, limits::Limits::default(), actions, 17);
        let group = Arc::new(group);
        tree::lock().add_process(&group);
        group
    }

    /// A thread that was never started, which its process does not know.
    pub fn thread(group: &Arc<ThreadGroup>, tid: u32) -> Arc<Task> {
        Task::make(tid, group.clone(), None, Vec::new())
    }

    /// Its only thread, ended, with these credentials.
    pub fn task(pid: u32, cred: Cred) -> Arc<Task> {
        let group = group(pid, pid, pid);
        let task = Task::make(pid, group.clone(), None, Vec::new());
        *task.last_cred.lock() = Some(Arc::new(cred));
        group.id.set_task(&task);
        task
    }
}
