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
use crate::abi::slot::{IDLE, SlotHeader};
use crate::abi::{Errno, Result};
use crate::arch::{self, frame};
use crate::host::{futex, mem, panic, process, sched};
use crate::sync::{Level, Mutex, MutexGuard};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
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
/// How often the supervisor, which hears of no death meanwhile, looks whether she is dead, in ns.
const SUPERVISOR_LOOKS: u64 = 20_000_000;

/// What a zygote is started for.
pub trait Job: Send {
    /// The task that moves into the zygote, which [`Job::run`] tells [`arrived`] of.
    fn task(&self) -> Option<Arc<Task>>;
    /// Runs in the zygote: makes `slot.task` the task and maps its image. Returns the registers to
    /// start with. Does not return when the task must die instead. `spent` is the user and system time
    /// that the host process spent for others, ns.
    fn run(self: Box<Self>, spent: [u64; 2]) -> SigContext;
}

/// A host process in reserve. Its slot has a reference ([`SlotHeader::zygote`]) until its task has arrived, and so has the
/// slot of the thread that has set it aside ([`SlotHeader::ticket`]): the host may end either process at any time.
struct Zygote {
    slot: &'static SlotHeader,
    hand: Mutex<Hand>,
    /// What lies in `hand` counts. Set under its lock.
    given: AtomicBool,
    /// The host has ended the process. Set under `hand`'s lock, by the supervisor.
    lost: AtomicBool,
    /// CPU time that its host process has spent for programs before.
    spent: [u64; 2],
}

/// What is handed over to a zygote.
struct Hand {
    job: Option<Box<dyn Job>>,
    /// The task that moves in, until it is there.
    moving: Option<Arc<Task>>,
}

impl Zygote {
    fn new(slot: &'static SlotHeader, job: Option<Box<dyn Job>>, spent: [u64; 2]) -> Arc<Zygote> {
        let given = AtomicBool::new(job.is_some());
        let hand = Mutex::new(Level::Leaf, Hand { job, moving: None });
        let zygote = Arc::new(Zygote { slot, hand, given, lost: AtomicBool::new(false), spent });
        slot.zygote.store(Arc::into_raw(zygote.clone()) as u64, SeqCst);
        zygote
    }

    /// Hands the job over, and with it its task. A holder that the host ends before `given` is set still has both.
    fn give(&self, job: Box<dyn Job>) -> core::result::Result<(), Box<dyn Job>> {
        let moving = job.task();
        let mut hand = self.hand.lock();
        if self.lost.load(SeqCst) || self.given.load(SeqCst) {
            return Err(job);
        }
        *MutexGuard::scratch(&mut hand) = Hand { job: Some(job), moving: moving.clone() };
        self.given.store(true, SeqCst);
        // Who kicks the task from now on reaches the thread that it is going to have.
        if let Some(task) = &moving {
            task.slot.store(core::ptr::from_ref(self.slot) as u64, SeqCst);
        }
        Ok(())
    }

    fn take_job(&self) -> Option<Box<dyn Job>> {
        let mut hand = self.hand.lock();
        if !self.given.load(SeqCst) {
            return None;
        }
        MutexGuard::scratch(&mut hand).job.take()
    }
}

/// Takes the reference that a word of a slot has.
fn taken(word: &AtomicU64) -> Option<Arc<Zygote>> {
    let raw = word.swap(0, SeqCst);
    // SAFETY: but for `WANTS` only references that were leaked into the word lie there.
    (raw > WANTS).then(|| unsafe { Arc::from_raw(raw as *const Zygote) })
}

/// In place of a zygote in [`SlotHeader::ticket`]: the thread is counted among those who wait for one.
const WANTS: u64 = 1;

struct Pool {
    ready: Vec<Arc<Zygote>>,
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

    /// Sets one aside for the running thread.
    fn set_aside(&mut self) -> Option<Ticket> {
        let zygote = self.ready.last()?.clone();
        let before = arch::slot().ticket.swap(Arc::into_raw(zygote.clone()) as u64, SeqCst);
        self.wanted -= usize::from(before == WANTS);
        self.ready.pop();
        self.used += 1;
        Some(Ticket(zygote))
    }

    /// The running thread waits for one.
    fn want(&mut self) {
        arch::slot().ticket.store(WANTS, SeqCst);
        self.wanted += 1;
        self.reserve = RESERVE;
    }

    /// The thread of `slot` waits no more.
    fn want_no_more(&mut self, slot: &SlotHeader) {
        let wanted = slot.ticket.compare_exchange(WANTS, 0, SeqCst, SeqCst).is_ok();
        self.wanted -= usize::from(wanted);
    }

    /// Enters the zygote that the thread of `slot` has; `false` if it is of no more use.
    fn put(&mut self, slot: &SlotHeader, zygote: Arc<Zygote>) {
        let usable = !zygote.lost.load(SeqCst) && !zygote.given.load(SeqCst);
        if usable && !self.ready.iter().any(|z| Arc::ptr_eq(z, &zygote)) {
            self.ready.push(zygote);
        }
        slot.ticket.store(0, SeqCst);
    }

    fn has_use_for_more(&self) -> bool {
        self.used > 0 && self.reserve > 0 && self.ready.len() < KEEP
    }
}

static POOL: Mutex<Pool> =
    Mutex::new(Level::Slots, Pool { ready: Vec::new(), wanted: 0, reserve: 0, used: 0, in_place: 0 });
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

/// The host ended the thread of `slot`: a program that was on its way there is lost, and a zygote that it had set aside
/// is given back. Returns the task that belongs to the thread, which it leaves in `slot.task` or in the zygote.
pub fn bereaved(slot: &'static SlotHeader) -> Option<Arc<Task>> {
    let moved_out = holder_lost(slot);
    let raw = slot.task.swap(0, SeqCst) as *const Task;
    // SAFETY: `adopt` or `launch` leaked this reference into the slot, whose thread is gone.
    let there = (!raw.is_null()).then(|| unsafe { Arc::from_raw(raw) });
    let moving_in = zygote_lost(slot);
    there.filter(|_| !moved_out).or(moving_in)
}

/// The thread of `slot` may have waited for a zygote, or set one aside, or made it. Whether its task is the zygote's now.
fn holder_lost(slot: &'static SlotHeader) -> bool {
    let (zygote, given) = {
        let mut pool = POOL.lock();
        pool.want_no_more(slot);
        let Some(zygote) = taken(&slot.ticket) else { return false };
        // The mother may not have lived to start it.
        if zygote.slot.host_tgid.load(SeqCst) != 0 {
            pool.put(slot, zygote.clone());
        }
        let given = zygote.given.load(SeqCst);
        (zygote, given)
    };
    if given {
        // It may not have heard of it.
        zygote.slot.waker.wake();
    } else {
        let hand = {
            let mut hand = zygote.hand.lock();
            core::mem::replace(MutexGuard::scratch(&mut hand), Hand { job: None, moving: None })
        };
        drop(hand);
        if zygote.slot.host_tgid.load(SeqCst) == 0 && !zygote.lost.load(SeqCst) {
            drop(taken(&zygote.slot.zygote));
            slots::free_unused(zygote.slot);
        }
        changed();
    }
    given
}

/// The thread of `slot` may have been a zygote, or have become one. Returns the task that was on its way there.
fn zygote_lost(slot: &'static SlotHeader) -> Option<Arc<Task>> {
    let zygote = taken(&slot.zygote);
    let hand = zygote.as_ref().map(|zygote| {
        let mut hand = zygote.hand.lock();
        zygote.lost.store(true, SeqCst);
        // What is not given is its holder's still.
        match zygote.given.load(SeqCst) {
            true => core::mem::replace(MutexGuard::scratch(&mut hand), Hand { job: None, moving: None }),
            false => Hand { job: None, moving: None },
        }
    });
    let waited_for = {
        let mut pool = POOL.lock();
        let before = pool.ready.len();
        if let Some(zygote) = &zygote {
            pool.ready.retain(|z| !Arc::ptr_eq(z, zygote));
        }
        let waited_for = pool.ready.len() < before || pool.used == 0;
        // Whoever waits for the first one asks for the mother.
        pool.used = pool.used.max(u64::from(waited_for));
        waited_for
    };
    if waited_for {
        changed();
    }
    hand.and_then(|hand| hand.moving)
}

/// The host ended a process: if it was the mother, or somebody who was about to ask for her, there will be another where
/// she is needed. Of the supervisor, while there is none.
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

/// The running zygote has its task.
pub fn arrived() {
    let slot = arch::slot();
    // SAFETY: the slot's reference stays until it is taken below.
    let Some(zygote) = (unsafe { (slot.zygote.load(SeqCst) as *const Zygote).as_ref() }) else { return };
    let moved = MutexGuard::scratch(&mut zygote.hand.lock()).moving.take();
    drop(moved);
    drop(taken(&slot.zygote));
}

fn changed() {
    CHANGES.fetch_add(1, SeqCst);
    futex::wake(&CHANGES, u32::MAX >> 1);
}

/// A zygote that is set aside; given back to the pool when dropped unused.
pub struct Ticket(Arc<Zygote>);

impl Ticket {
    /// Starts the zygote on `job`, whose task leaves the running thread's slot.
    ///
    /// # Errors
    /// The job: the host has ended the zygote.
    fn start(self, job: Box<dyn Job>) -> core::result::Result<(), Box<dyn Job>> {
        self.0.give(job)?;
        let slot = arch::slot();
        self.0.slot.waker.wake();
        let raw = slot.task.swap(0, SeqCst) as *const Task;
        // SAFETY: `adopt` leaked this reference into the slot; the supervisor has none there.
        drop((!raw.is_null()).then(|| unsafe { Arc::from_raw(raw) }));
        drop(taken(&slot.ticket));
        // Only now: making another one must not hold this one up.
        if POOL.lock().short() {
            changed();
        }
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let slot = arch::slot();
        if slot.ticket.load(SeqCst) == Arc::as_ptr(&self.0) as u64 {
            let mut pool = POOL.lock();
            pool.put(slot, self.0.clone());
            drop(pool);
            // SAFETY: the reference that the word had.
            unsafe { Arc::decrement_strong_count(Arc::as_ptr(&self.0)) };
        }
    }
}

/// Starts the zygote of `ticket` on `job`, or another one if the host has ended that.
///
/// # Errors
/// As [`reserve`].
pub fn start(mut ticket: Ticket, mut job: Box<dyn Job>) -> Result {
    while let Err(back) = ticket.start(job) {
        job = back;
        ticket = reserve()?;
    }
    Ok(())
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
        if let Some(ticket) = pool.set_aside() {
            return Some(ticket);
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
    let slot = arch::slot();
    let failures = FAILURES.load(SeqCst);
    let supervises = process::is_supervisor();
    let patience = if supervises { SUPERVISOR_LOOKS } else { LOOK_AGAIN };
    let mut in_time = true;
    let limit = crate::time::host_monotonic() + PATIENCE;
    loop {
        let seen = CHANGES.load(SeqCst);
        {
            let mut pool = POOL.lock();
            if let Some(ticket) = pool.set_aside() {
                return Ok(ticket);
            }
            // The first one is on its way.
            if slot.ticket.load(SeqCst) != WANTS && (pool.used > 0 || supervises && !in_time) {
                pool.want();
                drop(pool);
                call_mother();
                in_time = true;
                continue;
            }
        }
        if supervises && !in_time {
            // Nobody else would find out that she is dead.
            call_mother();
        }
        let now = crate::time::host_monotonic();
        let in_vain = FAILURES.load(SeqCst).wrapping_sub(failures) >= TOLERANCE;
        if in_vain || panic::message().is_some() || now >= limit {
            POOL.lock().want_no_more(slot);
            return Err(Errno::EAGAIN);
        }
        in_time = futex::wait(&CHANGES, seen, Some(now + patience)).is_ok();
    }
}

/// Makes the running host process, whose memory nobody else uses, as clean as a zygote, and runs `job`
/// in it. The task stays where it is.
pub fn become_clean(job: Box<dyn Job>) -> ! {
    drop(Zygote::new(arch::slot(), Some(job), [0; 2]));
    process::start_over(cleaned, 0)
}

extern "C" fn cleaned(_: u64) -> ! {
    clean();
    run()
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
    drop(zygote);
    if !kept {
        drop(taken(&slot.zygote));
        slots::retire(slot);
        process::exit_thread();
    }
    if waited_for {
        changed();
    }
    exit::count_kept();
    run()
}

/// The life of the process that is made at boot: it waits for the first program.
pub fn first() -> ! {
    let zygote = Zygote::new(arch::slot(), None, [0; 2]);
    POOL.lock().ready.push(zygote);
    changed();
    run()
}

/// The mother's life: keeps the reserve full. Runs in the mother, on its slot's stack.
pub fn mother_loop() -> ! {
    loop {
        let seen = CHANGES.load(SeqCst);
        // In a paused sandbox only for those who wait: they cannot park before.
        let paused = super::park::is_paused();
        let short = {
            let pool = POOL.lock();
            pool.short() && (pool.wanted > pool.ready.len() || !paused)
        };
        if short {
            match spawn() {
                Ok(()) => continue,
                Err(_) => {
                    FAILURES.fetch_add(1, SeqCst);
                    changed();
                    let soon = crate::time::host_monotonic() + 20_000_000;
                    idle(|| futex::wait(&CHANGES, CHANGES.load(SeqCst), Some(soon)));
                    continue;
                }
            }
        }
        idle(|| futex::wait(&CHANGES, seen, None));
    }
}

/// Does what only waits: meanwhile the running thread counts as one that changes nothing.
fn idle(wait: impl FnOnce() -> Result) {
    let slot = arch::slot();
    slot.still.store(IDLE, SeqCst);
    // Whoever waits looks again, whatever has ended the wait.
    let _ = wait();
    slot.still.store(0, SeqCst);
}

/// The mother looks whether there is something to do.
pub(super) fn look_again() {
    changed();
}

fn spawn() -> Result {
    let (me, slot) = (arch::slot(), slots::alloc()?);
    let zygote = Zygote::new(slot, None, [0; 2]);
    me.ticket.store(Arc::into_raw(zygote.clone()) as u64, SeqCst);
    match process::clone(process::CloneKind::Copy, slot, frame::zygote_stack(slot), zygote_main, 0, None) {
        Ok(host_pid) => slots::register(slot, host_pid as u32),
        Err(e) => {
            drop((taken(&me.ticket), taken(&slot.zygote)));
            slots::free_unused(slot);
            return Err(e);
        }
    }
    drop(Ticket(zygote));
    changed();
    Ok(())
}

extern "C" fn zygote_main(_: u64) -> ! {
    process::settle(true);
    run()
}

/// Waits for a job and starts the program that it leaves.
fn run() -> ! {
    let slot = arch::slot();
    let regs = {
        // SAFETY: `Zygote::new` leaked this reference into the slot; it stays until the task has arrived.
        let zygote = unsafe { &*(slot.zygote.load(SeqCst) as *const Zygote) };
        let job = loop {
            let ticket = slot.waker.ticket();
            if let Some(job) = zygote.take_job() {
                break job;
            }
            slot.waker.sleeping.store(1, SeqCst);
            idle(|| futex::wait(&slot.waker.word, ticket, None));
            slot.waker.sleeping.store(0, SeqCst);
        };
        job.run(zygote.spent)
    };
    let enter = ENTER.load(SeqCst);
    // SAFETY: only `set_enter` stores there, before the mother starts.
    let enter: Enter = unsafe { core::mem::transmute::<usize, Enter>(enter) };
    enter(&regs)
}
