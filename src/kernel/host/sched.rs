//! Host scheduling of the sandbox's threads.

use crate::abi::{Errno, Result, linux};
use crate::arch;
use crate::host::{files, window};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

fn call(nr: u32, a: [u64; 6]) -> Result<u64> {
    // SAFETY: pointers below are to live buffers of ours of the stated size.
    Errno::check(unsafe { arch::syscall(nr, a) })
}

/// Lets other threads run.
pub fn sched_yield() {
    let _ = call(linux::__NR_sched_yield, [0; 6]);
}

/// The CPUs that the running thread may run on. Returns the bytes filled.
///
/// # Errors
/// The host's.
pub fn getaffinity(out: &mut [u8]) -> Result<usize> {
    let a = [0, out.len() as u64, out.as_mut_ptr() as u64, 0, 0, 0];
    call(linux::__NR_sched_getaffinity, a).map(|n| n as usize)
}

/// Sets them.
///
/// # Errors
/// The host's.
pub fn setaffinity(mask: &[u8]) -> Result {
    set_affinity_of(0, mask)
}

/// Sets those of another thread, which the filter refuses to guests: for the supervisor alone.
fn set_affinity_of(tid: u32, mask: &[u8]) -> Result {
    call(linux::__NR_sched_setaffinity, [u64::from(tid), mask.len() as u64, mask.as_ptr() as u64, 0, 0, 0]).map(drop)
}

/// The CPUs that the sandbox's threads may run on if no program says otherwise; zeros until they are known.
static AFFINITY: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

fn own_affinity() -> Option<[u64; 16]> {
    let mut mask = [0u8; 128];
    getaffinity(&mut mask).ok()?;
    let (words, _) = mask.as_chunks::<8>();
    Some(core::array::from_fn(|i| u64::from_ne_bytes(words[i])))
}

/// Records the running thread's CPUs, or the first `count` of them unless that is 0, as those of every new process.
pub fn remember_affinity(count: u32) {
    let mut left = if count == 0 { u32::MAX } else { count };
    for (to, word) in AFFINITY.iter().zip(own_affinity().unwrap_or_default()) {
        let mut kept = 0;
        for bit in (0..64).map(|i| 1 << i).filter(|bit| word & bit != 0) {
            if left > 0 {
                left -= 1;
                kept |= bit;
            }
        }
        CONFINED.fetch_or(kept != word, Relaxed);
        to.store(kept, Relaxed);
    }
}

/// The sandbox's CPUs are fewer than the host gives.
static CONFINED: AtomicBool = AtomicBool::new(false);

/// Keeps the running thread, and what it makes, to the sandbox's CPUs.
pub fn confine() {
    if CONFINED.load(Relaxed) {
        let all: [u64; 16] = core::array::from_fn(|i| AFFINITY[i].load(Relaxed));
        let _ = setaffinity(all.map(u64::to_ne_bytes).as_flattened());
    }
}

/// How many CPUs the sandbox has.
pub fn cpus() -> u32 {
    AFFINITY.iter().map(|word| word.load(Relaxed).count_ones()).sum::<u32>().max(1)
}

/// Those of a set of CPUs that the sandbox has.
pub fn within(mask: &mut [u8]) {
    for (i, byte) in mask.iter_mut().enumerate() {
        let allowed = AFFINITY.get(i / 8).map_or(0, |word| word.load(Relaxed).to_ne_bytes()[i % 8]);
        *byte &= allowed;
    }
}

/// Whether nothing else runs on the host at this moment (`/proc/loadavg`), so that all its other CPUs idle.
pub fn alone() -> bool {
    let mut text = [0u8; 64];
    let read = files::openat(window::proc_fd(), b"loadavg", linux::O_RDONLY, 0)
        .and_then(|file| files::pread(file.raw(), text.as_mut_ptr() as u64, text.len(), 0));
    // Three averages, and how many run of how many there are.
    let running = read.ok().and_then(|n| text.get(..n)?.split(|&b| b == b' ').nth(3));
    running.is_some_and(|of| of.starts_with(b"1/"))
}

/// Moves a thread that was made just now to another CPU than the running one's, if it waits for that.
///
/// On virtual machines the host takes an idle CPU for one that its own host has taken away (`vcpu_is_preempted`),
/// and leaves new and woken threads behind the running one, often until that sleeps.
pub fn send_away(tid: u32) {
    let Ok((cpu, _)) = getcpu() else { return };
    let all: [u64; 16] = core::array::from_fn(|i| AFFINITY[i].load(Relaxed));
    let mut others = all;
    if let Some(word) = others.get_mut(cpu as usize / 64) {
        *word &= !(1 << (cpu % 64));
    }
    let set = |mask: [u64; 16]| set_affinity_of(tid, mask.map(u64::to_ne_bytes).as_flattened());
    // The host refuses if there is no other one.
    if set(others).is_ok() {
        let _ = set(all);
    }
}

/// Undoes what a program changed of the host's view of its thread; `false` where that cannot be undone.
pub fn reset() -> bool {
    show(b"");
    own_affinity().is_some_and(|now| now.iter().zip(&AFFINITY).all(|(&word, known)| word == known.load(Relaxed)))
}

/// CPU and node that the thread runs on.
///
/// # Errors
/// The host's.
pub fn getcpu() -> Result<(u32, u32)> {
    let (mut cpu, mut node) = (0u32, 0u32);
    call(linux::__NR_getcpu, [&raw mut cpu as u64, &raw mut node as u64, 0, 0, 0, 0])?;
    Ok((cpu, node))
}

/// `membarrier(2)` on the running host process.
///
/// # Errors
/// The host's.
pub fn membarrier(cmd: u32, flags: u32, cpu: u32) -> Result<u64> {
    call(linux::__NR_membarrier, [u64::from(cmd), u64::from(flags), u64::from(cpu), 0, 0, 0])
}

/// The sandbox's name, if it has one, as far as there is room for it.
static NAME: AtomicU64 = AtomicU64::new(0);

/// Remembers the sandbox's name (at boot).
pub fn remember_name(name: &[u8]) {
    NAME.store(u64::from_le_bytes(short(name)), Relaxed);
}

fn short(name: &[u8]) -> [u8; 8] {
    let mut out = [0; 8];
    for (to, from) in out.iter_mut().zip(name) {
        *to = *from;
    }
    out
}

/// Names the running host thread, the first of a process, so that the host's `ps` and `perf` find it: `drupe: ` and the
/// sandbox's name, or `program` where it has none.
pub fn show(program: &[u8]) {
    let known = NAME.load(Relaxed).to_le_bytes();
    let mut name = *b"drupe: \0\0\0\0\0\0\0\0\0";
    name[7..15].copy_from_slice(&if known[0] == 0 { short(program) } else { known });
    set_name(&name);
}

/// Names the running host thread, for people's debuggers.
pub fn set_name(name: &[u8; 16]) {
    let _ = call(linux::__NR_prctl, [u64::from(linux_raw_sys::prctl::PR_SET_NAME), name.as_ptr() as u64, 0, 0, 0, 0]);
}

/// `sysinfo`, as the fourteen words of the structure.
///
/// # Errors
/// The host's.
pub fn sysinfo() -> Result<[u64; 14]> {
    let mut out = [0u64; 14];
    call(linux::__NR_sysinfo, [out.as_mut_ptr() as u64, 0, 0, 0, 0, 0])?;
    Ok(out)
}
