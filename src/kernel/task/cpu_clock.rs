//! Clocks that show the CPU time of a process or thread (`clock_getcpuclockid(3)`).
//!
//! The host counts. A process's count is read by its host process's clock; a thread's by its own clock
//! where the reader shares its host process, else from the host's `/proc`.

use super::{Task, ThreadGroup};
use crate::abi::linux::{CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, O_CLOEXEC, O_RDONLY};
use crate::abi::{Errno, Result};
use crate::arch;
use crate::host::{self, files, window};
use alloc::format;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering::SeqCst;

/// Which time counts: the low bits of a clock's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// User and system time.
    Prof = 0,
    /// User time.
    Virtual = 1,
    /// Time on a CPU.
    Sched = 2,
}

enum Whose {
    Process(Weak<ThreadGroup>),
    Thread(Weak<Task>),
}

/// A clock of CPU time.
pub struct CpuClock {
    whose: Whose,
    kind: Kind,
    id: i32,
}

/// The bit of a clock's number that stands for a thread.
const PER_THREAD: i32 = 4;

/// Whether a clock's number is one of CPU time.
pub fn is_cpu_clock(id: i32) -> bool {
    id < 0 || id as u32 == CLOCK_PROCESS_CPUTIME_ID || id as u32 == CLOCK_THREAD_CPUTIME_ID
}

/// Whether it is the clock of the thread `me` itself, on which it cannot sleep.
pub fn is_own_thread(me: &Task, id: i32) -> bool {
    let pid = !(id >> 3) as u32;
    id as u32 == CLOCK_THREAD_CPUTIME_ID || id < 0 && id & PER_THREAD != 0 && (pid == 0 || pid == me.shown_tid())
}

impl CpuClock {
    /// The clock with this number as `me` sees it. `reads`: it is only to be read, for which a process may
    /// be named by a thread's own id.
    ///
    /// # Errors
    /// `EINVAL`: no such clock, process, or thread of the own process.
    pub fn new(me: &Arc<Task>, id: i32, reads: bool) -> Result<CpuClock> {
        let (pid, thread, kind) = match id {
            _ if id as u32 == CLOCK_PROCESS_CPUTIME_ID => (0, false, Kind::Sched),
            _ if id as u32 == CLOCK_THREAD_CPUTIME_ID => (0, true, Kind::Sched),
            _ if id >= 0 => return Err(Errno::EINVAL),
            _ => {
                let kind = match id & 3 {
                    0 => Kind::Prof,
                    1 => Kind::Virtual,
                    2 => Kind::Sched,
                    _ => return Err(Errno::EINVAL),
                };
                (!(id >> 3) as u32, id & PER_THREAD != 0, kind)
            }
        };
        let pids = me.group.id.namespace();
        let whose = if thread {
            let task = if pid == 0 || pid == me.shown_tid() { Some(me.clone()) } else { pids.task(pid) };
            let task = task.filter(|t| Arc::ptr_eq(&t.group, &me.group)).ok_or(Errno::EINVAL)?;
            Whose::Thread(Arc::downgrade(&task))
        } else if pid == 0 || pid == me.group.shown || reads && pid == me.shown_tid() {
            Whose::Process(Arc::downgrade(&me.group))
        } else {
            Whose::Process(Arc::downgrade(&pids.process(pid).ok_or(Errno::EINVAL)?))
        };
        Ok(CpuClock { whose, kind, id })
    }

    /// The number that it was made by.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// What it shows, ns; `None` once the process or thread is gone.
    pub fn read(&self) -> Option<u64> {
        match &self.whose {
            Whose::Process(group) => Some(process_time(&*group.upgrade()?, self.kind)),
            Whose::Thread(task) => thread_time(&*task.upgrade()?, self.kind),
        }
    }

    /// How many threads may be spending its time at once.
    pub fn spenders(&self) -> u64 {
        match &self.whose {
            Whose::Process(group) => group.upgrade().map_or(1, |g| g.state.lock().tasks.len().max(1) as u64),
            Whose::Thread(_) => 1,
        }
    }
}

/// CPU time that a process has spent, ns; in its earlier host processes, too.
pub fn process_time(group: &ThreadGroup, kind: Kind) -> u64 {
    let times = |i: usize| group.times[i].load(SeqCst);
    let past = if kind == Kind::Virtual { times(0) } else { times(0).wrapping_add(times(1)) };
    let host_pid = group.any_task().and_then(|t| t.slot().map(|s| s.host_tgid.load(SeqCst))).filter(|&pid| pid != 0);
    let now = host_pid.and_then(|pid| host::time::clock(!(pid as i32) << 3 | kind as i32)).unwrap_or(0);
    (past.wrapping_add(now as u64) as i64).max(0) as u64
}

fn thread_time(task: &Task, kind: Kind) -> Option<u64> {
    let slot = task.slot()?;
    let (tid, tgid) = (slot.host_tid.load(SeqCst), slot.host_tgid.load(SeqCst));
    if tid == 0 || tgid == 0 {
        return None;
    }
    let now = if arch::slot().host_tgid.load(SeqCst) == tgid {
        host::time::clock(!(tid as i32) << 3 | PER_THREAD | kind as i32).map(|ns| ns as u64)
    } else {
        schedstat(tgid, tid)
    };
    Some(now? + task.spent.load(SeqCst))
}

/// Time on a CPU as `/proc/PID/task/TID/schedstat` of the host says (`Documentation/scheduler/sched-stats`).
fn schedstat(tgid: u32, tid: u32) -> Option<u64> {
    let name = format!("{tgid}/task/{tid}/schedstat");
    let fd = files::openat(window::proc_fd(), name.as_bytes(), O_RDONLY | O_CLOEXEC, 0).ok()?;
    let mut text = [0u8; 64];
    let n = files::pread(fd.raw(), text.as_mut_ptr() as u64, text.len(), 0).ok()?;
    let first = text[..n].split(|b| *b == b' ').next()?;
    core::str::from_utf8(first).ok()?.parse().ok()
}
