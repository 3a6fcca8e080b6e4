//! Clean host processes in reserve.
//!
//! The *mother* is a host process with nothing but the kernel window mapped. It keeps a few children
//! (zygotes) ready; a program starts when a task is handed to one, so vfork's child can leave its
//! parent's memory. Host pids change at such an exec: nothing is keyed by one. A process that has its
//! memory to itself needs no zygote: it empties its own address space ([`become_clean`]).
//!
//! The first program gets a process that is made at boot. The mother is only started once somebody had to
//! wait for a zygote: a sandbox that runs one program, or whose programs fork, never pays for either. Where
//! they are in demand, a process whose program ends becomes one ([`keep`]) instead of ending: its page tables know
//! the kernel already, and nobody has to make, start and reap another.

use super::{Task, exit, slots};
use crate::abi::sigctx::SigContext;
use crate::abi::slot::SlotHeader;
use crate::abi::{Errno, Result};
use crate::arch::{self, frame};
use crate::host::{futex, mem, panic, process, sched};
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use once_cell::race::OnceBox;

/// How many zygotes the mother keeps ready where they are in demand.
const RESERVE: usize = 1;
/// So many programs replaced in place make zygotes worth their keep.
const OFTEN: u64 = 3;
/// Up to how many ended processes are kept as zygotes.
const KEEP: usize = 2;
/// Failures to make a zygote after which those who wait give up.
const TOLERANCE: u32 = 3;

/// How long the mother may take for a zygote, on a host as loaded as it may be, in ns: she is gone after that.
const PATIENCE: u64 = 20_000_000_000;
/// How often who waits for her looks whether the kernel has panicked, in ns.
const LOOK_AGAIN: u64 = 200_000_000;

/// What a zygote is started for.
pub trait Job: Send {
    /// The task that moves into the zygote, which [`Job::run`] tells [`arrived`] of.
    fn task(&self) -> Option<Arc<Task>>;
    /// Runs in the zygote: makes `slot.task` the task and maps its image. Returns the registers to
    /// start with. Does not return when the task must die instead. `spent` is the user and system time
    /// that the host process spent for others, ns.
    fn run(self: Box<Self>, spent: [u64; 2]) -> SigContext;
}

struct Zygote {
    slot: &'static SlotHeader,
    job: Mutex<Option<Box<dyn Job>>>,
    /// CPU time that its host process has spent for programs before.
    spent: [u64; 2],
}

impl Zygote {
    fn new(slot: &'static SlotHeader, job: Option<Box<dyn Job>>, spent: [u64; 2]) -> Arc<Zygote> {
        Arc::new(Zygote { slot, job: Mutex::new(Level::Leaf, job), spent })
    }
}

struct Pool {
    ready: Vec<Arc<Zygote>>,
    /// Tasks that are on their way into a zygote: the host may end it before they are there.
    moving: Vec<(&'static SlotHeader, Arc<Task>)>,
    /// How many wait for one.
    wanted: usize,
    /// How many are kept beyond that: none until somebody had to wait.
    reserve: usize,
    /// Zygotes given away.
    used: u64,
    /// Programs that were replaced in place for want of one.
    in_place: u64,
}

impl Pool {
    fn short(&self) -> bool {
        self.ready.len() < self.reserve + self.wanted
    }

    fn has_use_for_more(&self) -> bool {
        self.used > 0 && self.reserve > 0 && self.ready.len() < KEEP
    }
}

static POOL: Mutex<Pool> = Mutex::new(
    Level::Slots,
    Pool { ready: Vec::new(), moving: Vec::new(), wanted: 0, reserve: 0, used: 0, in_place: 0 },
);
/// Counts changes of the pool; the mother and those who wait for a zygote sleep on it.
static CHANGES: AtomicU32 = AtomicU32::new(0);
/// Host clones that failed in a row.
static FAILURES: AtomicU32 = AtomicU32::new(0);
/// `entry`'s way into the guest, registered at boot.
static ENTER: AtomicUsize = AtomicUsize::new(0);
/// How to get a mother, registered at boot.
static MOTHER_WANTED: OnceBox<fn()> = OnceBox::new();
/// There is a mother, or somebody has asked for one.
static HAS_MOTHER: AtomicBool = AtomicBool::new(false);

/// Enters the guest with these registers; of the room `entry`, registered at boot.
pub type Enter = fn(&SigContext) -> !;

/// Registers how a zygote enters the guest.
pub fn set_enter(enter: Enter) {
    ENTER.store(enter as usize, SeqCst);
}

/// Registers who starts the mother. In the supervisor it must have happened when the function returns; there
/// it may be called again.
pub fn set_mother_wanted(f: fn()) {
    let _ = MOTHER_WANTED.set(Box::new(f));
}

/// The mother could not be started: those who wait for her work give up.
pub fn no_mother() {
    HAS_MOTHER.store(false, SeqCst);
    FAILURES.fetch_add(TOLERANCE, SeqCst);
    changed();
}

/// The host ended a process that has, or waited for, a program on this slot. Returns the task that was on its way
/// there.
pub fn lost(slot: &SlotHeader) -> Option<Arc<Task>> {
    let gone = |s: &'static SlotHeader| core::ptr::eq(s, slot);
    let (waited, task) = {
        let mut pool = POOL.lock();
        let before = pool.ready.len();
        pool.ready.retain(|z| !gone(z.slot));
        let waited = pool.ready.len() < before;
        if waited {
            // Whoever waits for the first one asks for the mother.
            pool.used = pool.used.max(1);
        }
        let at = pool.moving.iter().position(|m| gone(m.0));
        (waited, at.map(|at| pool.moving.swap_remove(at).1))
    };
    if waited {
        changed();
    }
    task
}

/// The host ended the mother: there will be another if she is needed. Of the supervisor.
pub fn mother_lost() {
    HAS_MOTHER.store(false, SeqCst);
    let needed = {
        let pool = POOL.lock();
        pool.wanted > 0 || pool.reserve > 0
    };
    if needed {
        call_mother();
    }
}

/// A task has come to the running zygote.
pub fn arrived() {
    let slot = arch::slot();
    let mut pool = POOL.lock();
    let at = pool.moving.iter().position(|m| core::ptr::eq(m.0, slot));
    let moved = at.map(|at| pool.moving.swap_remove(at));
    drop(pool);
    drop(moved);
}

fn changed() {
    CHANGES.fetch_add(1, SeqCst);
    futex::wake(&CHANGES, u32::MAX >> 1);
}

/// A zygote that is set aside; given back to the pool when dropped unused.
pub struct Ticket(Option<Arc<Zygote>>);

impl Ticket {
    /// Starts the zygote on `job`. Its slot is `self.slot()`.
    pub fn start(mut self, job: Box<dyn Job>) {
        if let Some(z) = self.0.take() {
            if let Some(task) = job.task() {
                POOL.lock().moving.push((z.slot, task));
            }
            *z.job.lock() = Some(job);
            z.slot.waker.wake();
            // Only now: making another one must not hold this one up.
            if POOL.lock().short() {
                changed();
            }
        }
    }

    /// The slot whose host thread will run the task.
    pub fn slot(&self) -> Option<&'static SlotHeader> {
        self.0.as_ref().map(|z| z.slot)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(z) = self.0.take() {
            POOL.lock().ready.push(z);
        }
    }
}

/// Makes the mother look, and makes her first if need be.
fn call_mother() {
    // What a process has asked the supervisor for cannot happen while the supervisor waits here.
    if (!HAS_MOTHER.swap(true, SeqCst) || process::is_supervisor())
        && let Some(start) = MOTHER_WANTED.get()
    {
        start();
    }
    changed();
}

/// Sets a zygote aside if one is ready: for a program that could be replaced in place. That costs its own
/// thread the unmapping of the old program, which otherwise ends elsewhere; so where it happens again and
/// again, zygotes are kept from then on.
pub fn ready() -> Option<Ticket> {
    {
        let mut pool = POOL.lock();
        if let Some(z) = pool.ready.pop() {
            pool.used += 1;
            return Some(Ticket(Some(z)));
        }
        pool.in_place += 1;
        if pool.in_place != OFTEN || pool.reserve > 0 {
            return None;
        }
        pool.reserve = RESERVE;
    }
    call_mother();
    None
}

/// Sets a zygote aside, waiting for the mother to make one if need be.
///
/// # Errors
/// `EAGAIN` when the host gives no more processes.
pub fn reserve() -> Result<Ticket> {
    let mut asked = false;
    let failures = FAILURES.load(SeqCst);
    let limit = crate::time::host_monotonic() + PATIENCE;
    loop {
        let seen = CHANGES.load(SeqCst);
        {
            let mut pool = POOL.lock();
            if let Some(z) = pool.ready.pop() {
                pool.wanted -= usize::from(asked);
                pool.used += 1;
                return Ok(Ticket(Some(z)));
            }
            // The first one is on its way.
            if !asked && pool.used > 0 {
                pool.wanted += 1;
                pool.reserve = RESERVE;
                asked = true;
                drop(pool);
                call_mother();
                continue;
            }
        }
        if FAILURES.load(SeqCst).wrapping_sub(failures) >= TOLERANCE {
            POOL.lock().wanted -= usize::from(asked);
            return Err(Errno::EAGAIN);
        }
        // The supervisor, who would tell of the mother's death, may be the one who waits here.
        let now = crate::time::host_monotonic();
        if panic::message().is_some() || now >= limit {
            POOL.lock().wanted -= usize::from(asked);
            return Err(Errno::EAGAIN);
        }
        let _ = futex::wait(&CHANGES, seen, Some(now + LOOK_AGAIN));
    }
}

/// Makes the running host process, whose memory nobody else uses, as clean as a zygote, and runs `job`
/// in it. The task stays where it is.
pub fn become_clean(job: Box<dyn Job>) -> ! {
    let slot = arch::slot();
    let zygote = Zygote::new(slot, Some(job), [0; 2]);
    process::start_over(cleaned, Arc::into_raw(zygote) as u64)
}

extern "C" fn cleaned(arg: u64) -> ! {
    clean();
    run(arg)
}

fn clean() {
    if let Err(e) = mem::unmap_guest() {
        panic::panic(format_args!("a process cannot be emptied: {e}"));
    }
    process::clear_bases();
}

/// Whether an ended process should be kept for the next program.
pub fn wanted() -> bool {
    POOL.lock().has_use_for_more()
}

/// Keeps the running host process, whose only thread has let go of its task and whose memory nobody
/// else uses, as a zygote.
pub fn keep() -> ! {
    process::start_over(kept, 0)
}

extern "C" fn kept(_: u64) -> ! {
    clean();
    let slot = arch::slot();
    slot.kick.store(0, SeqCst);
    slot.exit_work.store(0, SeqCst);
    let (user, system) = crate::host::time::process_times();
    let zygote = Zygote::new(slot, None, [user, system]);
    // What a program can change of its host process and what would outlive it.
    let as_new = sched::reset();
    let (kept, waited_for) = {
        let mut pool = POOL.lock();
        let kept = as_new && pool.has_use_for_more();
        if kept {
            pool.ready.push(zygote.clone());
        }
        (kept, pool.wanted > 0)
    };
    if !kept {
        drop(zygote);
        slots::retire(slot);
        process::exit_thread();
    }
    if waited_for {
        changed();
    }
    exit::count_kept();
    run(Arc::into_raw(zygote) as u64)
}

/// The life of the process that is made at boot: it waits for the first program.
pub fn first() -> ! {
    let zygote = Zygote::new(arch::slot(), None, [0; 2]);
    POOL.lock().ready.push(zygote.clone());
    changed();
    run(Arc::into_raw(zygote) as u64)
}

/// The mother's life: keeps the reserve full. Runs in the mother, on its slot's stack.
pub fn mother_loop() -> ! {
    loop {
        let seen = CHANGES.load(SeqCst);
        let short = POOL.lock().short();
        if short {
            match spawn() {
                Ok(()) => continue,
                Err(_) => {
                    FAILURES.fetch_add(1, SeqCst);
                    changed();
                    let soon = crate::time::host_monotonic() + 20_000_000;
                    let _ = futex::wait(&CHANGES, CHANGES.load(SeqCst), Some(soon));
                    continue;
                }
            }
        }
        let _ = futex::wait(&CHANGES, seen, None);
    }
}

fn spawn() -> Result {
    let slot = slots::alloc()?;
    let zygote = Zygote::new(slot, None, [0; 2]);
    let arg = Arc::into_raw(zygote.clone()) as u64;
    match process::clone(process::CloneKind::Copy, slot, frame::zygote_stack(slot), zygote_main, arg, None) {
        Ok(host_pid) => slots::register(slot, host_pid as u32),
        Err(e) => {
            // SAFETY: the child that would own it does not exist.
            drop(unsafe { Arc::from_raw(arg as *const Zygote) });
            slots::free_unused(slot);
            return Err(e);
        }
    }
    POOL.lock().ready.push(zygote);
    changed();
    Ok(())
}

extern "C" fn zygote_main(arg: u64) -> ! {
    process::settle(true);
    run(arg)
}

/// Waits for a job and starts the program that it leaves. `arg` is a leaked reference to the zygote.
fn run(arg: u64) -> ! {
    let regs = {
        // SAFETY: whoever made the zygote leaked this reference for it.
        let zygote = unsafe { Arc::from_raw(arg as *const Zygote) };
        let slot = arch::slot();
        let job = loop {
            let ticket = slot.waker.ticket();
            if let Some(job) = zygote.job.lock().take() {
                break job;
            }
            slot.waker.sleeping.store(1, SeqCst);
            let _ = futex::wait(&slot.waker.word, ticket, None);
            slot.waker.sleeping.store(0, SeqCst);
        };
        let spent = zygote.spent;
        drop(zygote);
        job.run(spent)
    };
    let enter = ENTER.load(SeqCst);
    // SAFETY: only `set_enter` stores there, before the mother starts.
    let enter: Enter = unsafe { core::mem::transmute::<usize, Enter>(enter) };
    enter(&regs)
}
