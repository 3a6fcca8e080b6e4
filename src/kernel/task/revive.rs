//! Host processes and threads for tasks that were saved while they were parked.
//!
//! A task's kernel stack, its registers and what it sleeps on lie in the window. So a host thread that has the same slot
//! waits as the parked one did, and goes on in its place ([`park`]). The first thread of an address space, in a host process
//! made by the supervisor, maps its memory first; then it makes the others, and the processes that share the memory.

use super::park::{self, Still};
use super::{CurrentTask, Task, slots};
use crate::abi::saved::{Revival, Space};
use crate::abi::sigctx::SigContext;
use crate::abi::slot::SlotHeader;
use crate::abi::{Errno, Result, linux};
use crate::arch;
use crate::host::process::{self, CloneKind};
use crate::host::{futex, mem, sched};
use crate::mm::AddressSpace;
use crate::mm::vma::{Vma, VmaFlags};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};

/// A host process that is to be.
struct Process {
    slots: Vec<&'static SlotHeader>,
}

/// An address space with its processes.
struct Member {
    space: Space,
    images: Arc<[i32]>,
    /// The first one maps the memory.
    processes: Vec<Process>,
}

/// See [`members`].
pub struct Members(Vec<Member>);

/// Threads that have come so far that they wait.
static ARRIVED: AtomicU32 = AtomicU32::new(0);
/// The first error of one that could not.
static FAILED: AtomicI32 = AtomicI32::new(0);
/// How long the next thread is waited for, ns.
const PATIENCE: u64 = 30_000_000_000;
/// How long where a host process has died meanwhile, ns.
const STALLED: u64 = 2_000_000_000;
/// How often that is looked at, ns.
const LOOK: u64 = 30_000_000;

/// Finds the parked threads of each host process.
///
/// # Errors
/// `EUCLEAN` if the window and the revival do not say the same.
pub fn members(revival: &Revival) -> Result<Members> {
    let parked = |pid: u32| -> Result<Process> {
        let of = |s: &&SlotHeader| s.host_tgid.load(SeqCst) == pid && s.parked.load(SeqCst) != 0;
        let slots: Vec<_> = arch::slot::used_slots().filter(of).collect();
        let whole = |s: &&SlotHeader| Still::of(s).is_some() && s.task.load(SeqCst) != 0 && park::lies_in_window(s);
        if slots.is_empty() || !slots.iter().all(whole) {
            let index: Vec<_> = slots.iter().map(|s| s.index.load(SeqCst)).collect();
            log::error!("the threads of host process {pid} are not whole: slots {index:?}");
            return Err(Errno::EUCLEAN);
        }
        Ok(Process { slots })
    };
    let images: Arc<[i32]> = Arc::from(&revival.images[..]);
    let member = |space: &Space| {
        let pids = core::iter::once(space.host_pid).chain(space.sharers.iter().copied());
        let processes = pids.map(parked).collect::<Result<_>>()?;
        Ok(Member { space: space.clone(), images: images.clone(), processes })
    };
    let members = Members(revival.spaces.iter().map(member).collect::<Result<_>>()?);
    let all = arch::slot::used_slots().filter(|s| s.parked.load(SeqCst) != 0).count();
    let named = members.slots().count();
    if named != all {
        log::error!("{all} threads are parked, and {named} are to be made anew");
        return Err(Errno::EUCLEAN);
    }
    Ok(members)
}

impl Members {
    fn slots(&self) -> impl Iterator<Item = &'static SlotHeader> {
        self.0.iter().flat_map(|m| &m.processes).flat_map(|p| p.slots.iter().copied())
    }
}

/// Host processes of the saved sandbox that are none of the members', the supervisor `but` excepted: they hold no task.
pub fn others(members: &Members, but: u32) -> Vec<u32> {
    let known: BTreeSet<u32> = members.slots().map(|s| s.host_tgid.load(SeqCst)).collect();
    let own = arch::slot().host_tgid.load(SeqCst);
    let all: BTreeSet<u32> = arch::slot::used_slots().map(|s| s.host_tgid.load(SeqCst)).collect();
    all.into_iter().filter(|&pid| pid != 0 && pid != own && pid != but && !known.contains(&pid)).collect()
}

/// Makes the members' host processes, each of which `settle` makes fit for a guest, and waits until all their threads
/// wait. Of the supervisor.
///
/// # Errors
/// What the host refused; then the sandbox is to be ended.
pub fn revive(members: Members, settle: fn()) -> Result {
    let count = members.slots().count() as u32;
    slots::forget_host();
    ARRIVED.store(0, SeqCst);
    FAILED.store(0, SeqCst);
    for mut member in members.0 {
        account(&member);
        member.processes.iter_mut().for_each(|p| p.slots.sort_by_key(|s| !leads(s)));
        let first = member.processes[0].slots[0];
        let job = Box::into_raw(Box::new((member, settle))) as u64;
        let made = mem::forking_the_window(|| process::clone_parked(CloneKind::Mother, first, first_main, job))?;
        slots::register(first, made as u32);
    }
    await_all(count)
}

/// Waits until so many threads have arrived.
fn await_all(count: u32) -> Result {
    let mut before = u32::MAX;
    let mut limit = 0;
    loop {
        let seen = ARRIVED.load(SeqCst);
        match FAILED.load(SeqCst) {
            0 if seen == count => return Ok(()),
            0 => {}
            e => return Err(Errno::from_raw(e)),
        }
        if seen != before {
            (before, limit) = (seen, crate::time::deadline_in(PATIENCE));
        }
        let soon = crate::time::deadline_in(LOOK).min(limit);
        if futex::wait(&ARRIVED, seen, Some(soon)) == Err(Errno::ETIMEDOUT) {
            // One that was to end anyway has arrived before that.
            let stalled = crate::time::host_monotonic() + PATIENCE > limit + STALLED;
            let dead = stalled && arch::slot::used_slots().any(process::has_died);
            if soon >= limit || dead {
                log::error!("of {count} threads {seen} have arrived; one has died: {dead}");
                return Err(Errno::ECHILD);
            }
        }
    }
}

/// The host's leader should be the program's, for those who look from outside.
fn leads(slot: &SlotHeader) -> bool {
    task_of(slot).is_some_and(|task| task.tid() == task.group.pid)
}

fn task_of(slot: &SlotHeader) -> Option<&'static Task> {
    // SAFETY: the slot has a reference until its thread lets go of it, and that is parked.
    unsafe { (slot.task.load(SeqCst) as *const Task).as_ref() }
}

/// What the processes and threads have spent stays spent.
fn account(member: &Member) {
    for process in &member.processes {
        let of = |slot: &&SlotHeader| Some((task_of(slot)?, Still::of(slot)?));
        let all: Vec<_> = process.slots.iter().filter_map(of).collect();
        // The thread that parked last knows most.
        let spent = |kind: usize| all.iter().map(|(_, still)| still.process_times[kind]).max().unwrap_or(0);
        if let Some((task, _)) = all.first() {
            task.group.times[0].fetch_add(spent(0), SeqCst);
            task.group.times[1].fetch_add(spent(1), SeqCst);
        }
        for (task, still) in &all {
            task.spent.fetch_add(still.thread_time, SeqCst);
        }
    }
}

/// Ends a process that cannot be made; the supervisor hears of it.
fn fail(e: Errno) -> ! {
    let _ = FAILED.compare_exchange(0, e.raw(), SeqCst, SeqCst);
    futex::wake(&ARRIVED, u32::MAX >> 1);
    process::exit_process(1)
}

/// The first thread of an address space.
extern "C" fn first_main(job: u64) -> ! {
    // SAFETY: `revive` leaked it for this thread alone.
    let (member, settle) = unsafe { *Box::from_raw(job as *mut (Member, fn())) };
    settle();
    let slot = arch::slot();
    if let Err(e) = mapped(&member, slot) {
        fail(e);
    }
    for process in &member.processes[1..] {
        let first = process.slots[0];
        let rest = Box::into_raw(Box::new(process.slots[1..].to_vec())) as u64;
        match process::clone_parked(CloneKind::SharedMm, first, sharer_main, rest) {
            Ok(host_pid) => slots::register(first, host_pid as u32),
            Err(e) => fail(e),
        }
    }
    let own = member.processes[0].slots[1..].to_vec();
    // It would never be dropped: this function does not return.
    drop(member);
    lead(own)
}

/// The first thread of a further process of an address space.
extern "C" fn sharer_main(rest: u64) -> ! {
    process::settle(true);
    // SAFETY: `first_main` leaked it for this thread alone.
    let rest = unsafe { *Box::from_raw(rest as *mut Vec<&'static SlotHeader>) };
    lead(rest)
}

/// Makes the other threads of the running process.
fn lead(rest: Vec<&'static SlotHeader>) -> ! {
    let slot = arch::slot();
    if let Some(task) = task_of(slot) {
        sched::show(&task.comm.lock());
    }
    let mut regs = SigContext::default();
    CurrentTask::here(&mut regs).settle_clocks();
    let barriers = Still::of(slot).map_or(0, |still| still.barriers);
    for command in (0..32).map(|bit| 1u32 << bit).filter(|c| barriers & u64::from(*c) != 0) {
        let _ = sched::membarrier(command, 0, 0);
    }
    for other in &rest {
        slots::register_thread(other);
        if let Err(e) = process::clone_parked(CloneKind::Thread, other, thread_main, 0) {
            fail(e);
        }
    }
    drop(rest);
    arrive()
}

extern "C" fn thread_main(_: u64) -> ! {
    process::settle(false);
    arrive()
}

/// Takes the parked thread's place.
fn arrive() -> ! {
    if let Some(still) = Still::of(arch::slot()) {
        for (code, base) in [process::ARCH_SET_FS, process::ARCH_SET_GS].into_iter().zip(still.bases) {
            if let Err(e) = process::arch_prctl(code, base) {
                fail(e);
            }
        }
        let (mask, told) = still.affinity;
        // A host that has other CPUs lets it run anywhere.
        let _ = sched::setaffinity(&mask[..told]);
    }
    ARRIVED.fetch_add(1, SeqCst);
    futex::wake(&ARRIVED, u32::MAX >> 1);
    park::go_on()
}

/// Maps the memory of an address space, and does to it what `mlock` and `madvise` did.
fn mapped(member: &Member, slot: &SlotHeader) -> Result {
    let mm = task_of(slot).and_then(Task::shared).map(|own| own.mm).ok_or(Errno::EUCLEAN)?;
    mm.map_image(&member.space, &member.images)?;
    let mut at = 0;
    while let Some(v) = mm.at_or_after(at) {
        at = v.end;
        keep_flags(&mm, &v)?;
    }
    Ok(())
}

fn keep_flags(mm: &AddressSpace, v: &Vma) -> Result {
    if v.flags.contains(VmaFlags::LOCKED) {
        // Under a smaller limit it is as a program finds it whose memory cannot be locked.
        let _ = mem::mlock(v.start, v.len());
    }
    for (flag, advice) in
        [(VmaFlags::DONT_FORK, linux::MADV_DONTFORK), (VmaFlags::WIPE_ON_FORK, linux::MADV_WIPEONFORK)]
    {
        if v.flags.contains(flag) {
            mm.advise_host(v.start, v.end, advice)?;
        }
    }
    Ok(())
}

/// The address spaces of all parked threads, with the host pids of the processes that share each.
pub fn spaces() -> Vec<Vec<u32>> {
    let mut found: Vec<(*const (), Vec<u32>)> = Vec::new();
    for slot in arch::slot::used_slots().filter(|s| s.parked.load(SeqCst) != 0) {
        let Some(mm) = task_of(slot).and_then(Task::shared).map(|own| Arc::as_ptr(&own.mm).cast()) else { continue };
        let pid = slot.host_tgid.load(SeqCst);
        match found.iter_mut().find(|(known, _)| *known == mm) {
            Some((_, pids)) if pids.contains(&pid) => {}
            Some((_, pids)) => pids.push(pid),
            None => found.push((mm, alloc::vec![pid])),
        }
    }
    found.into_iter().map(|(_, pids)| pids).collect()
}
