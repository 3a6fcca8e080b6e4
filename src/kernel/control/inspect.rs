//! Looking at the sandbox from outside: processes, counters, a dump for people.

use crate::abi::control::{PsEntry, SiteStats, Stats};
use crate::abi::slot::place;
use crate::host::{HostFd, log as ring};
use crate::mm::{memfile, rewrite, text};
use crate::sync::On;
use crate::syscall::TABLE;
use crate::task::group::Run;
use crate::task::{Task, ThreadGroup, kernel, park, slots};
use crate::{arena, entry, time};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

fn groups() -> Vec<Arc<ThreadGroup>> {
    kernel().roots().pid.processes()
}

/// `R`, `S`, `T` or `Z`, as `/proc/<pid>/stat` says it.
fn letter(group: &ThreadGroup) -> char {
    match group.state.lock().run {
        Run::Zombie => return 'Z',
        Run::Stopped(_) => return 'T',
        Run::Running => {}
    }
    let runs = group.tasks().iter().any(|t| !sleeps(t));
    if runs { 'R' } else { 'S' }
}

fn sleeps(task: &Task) -> bool {
    task.slot().is_none_or(|s| s.waker.sleeping.load(SeqCst) != 0 || s.place.load(SeqCst) == place::HOST_CALL)
}

/// Every process.
pub fn processes() -> Vec<PsEntry> {
    let name = |g: &ThreadGroup| {
        g.any_task().map_or_else(String::new, |t| String::from_utf8_lossy(&t.comm.lock()).into_owned())
    };
    groups().iter().map(|g| PsEntry { pid: g.pid, ppid: g.ppid(), state: letter(g), name: name(g) }).collect()
}

/// Counters.
pub fn stats() -> Stats {
    Stats {
        host_fds: HostFd::live(),
        heap: arena::in_use(),
        memfile: memfile::in_use(),
        slots: slots::in_use(),
        traps: entry::TRAPS.load(Relaxed),
        fast_calls: slots::fast_calls(),
        tasks: kernel().task_count(),
        paused: park::is_paused(),
        moving: if park::is_paused() { park::moving() as u32 } else { 0 },
        sites: sites(),
    }
}

fn sites() -> SiteStats {
    let (remembered, in_copies) = text::counts();
    SiteStats {
        seen: rewrite::SEEN.load(Relaxed),
        in_place: rewrite::REWRITTEN.load(Relaxed),
        put_back: rewrite::PUT_BACK.load(Relaxed),
        refused: [0, 1, 2, 3].map(|why: usize| rewrite::REFUSED[why].load(Relaxed)),
        remembered,
        in_copies,
        copies_mapped: rewrite::COPIES_MAPPED.load(Relaxed),
    }
}

/// Every task, what it does, and the end of the kernel log.
pub fn dump() -> String {
    let mut out = String::new();
    for g in groups() {
        let _ = writeln!(
            out,
            "process {} (parent {}, group {}, session {}) {}",
            g.pid,
            g.ppid(),
            g.pgid(),
            g.sid(),
            letter(&g)
        );
        for t in g.tasks() {
            describe(&mut out, &t);
        }
    }
    out.push_str(&heap());
    out.push_str(&String::from_utf8_lossy(&ring::tail()));
    out
}

/// How many blocks of each size are in use, and what the rest of the heap is.
fn heap() -> String {
    let stats = arena::stats();
    let mut out = String::from("heap:");
    for (size, count) in arena::census(slots::all()).into_iter().filter(|(_, count)| *count != 0) {
        let _ = write!(out, " {count} x {size}");
    }
    let _ = writeln!(out, ", {} KiB taken, {} KiB free in depots", stats.taken >> 10, stats.cached >> 10);
    out
}

fn describe(out: &mut String, t: &Task) {
    let last = t.slot().map_or(u32::MAX, |s| s.last_call.load(Relaxed));
    let call = TABLE.get(last as usize).map_or("?", |e| e.name());
    let name = String::from_utf8_lossy(&t.comm.lock()).into_owned();
    let _ = write!(out, "  thread {} '{name}' last call {call}, blocked {:#x}", t.tid(), t.blocked.load(SeqCst));
    match t.slot() {
        Some(s) => {
            if s.waker.sleeping.load(SeqCst) != 0 {
                let (on, until) = On::of(s);
                let _ = write!(out, ", waits for {:?} {:#x}", on.kind, on.id);
                if let Some(until) = until {
                    let left = until as i64 - time::host_monotonic() as i64;
                    let _ = write!(out, " for {} ms more", left / 1_000_000);
                }
            }
            if t.is_traced() {
                let _ = write!(out, ", traced by {}", t.tracer_pid());
            }
            let at = match s.place.load(SeqCst) {
                _ if s.parked.load(SeqCst) != 0 => "parked",
                place::GUEST => "in the guest",
                place::HOST_CALL => "in a host call",
                _ if s.waker.sleeping.load(SeqCst) != 0 => "asleep",
                _ => "in the kernel",
            };
            let (locks, tid) = (s.locks_held.load(SeqCst), s.host_tid.load(SeqCst));
            let _ = writeln!(out, ", {at}, slot {}, host thread {tid}, {locks} locks", s.index.load(SeqCst));
        }
        None => out.push_str(", no host thread\n"),
    }
}
