//! Interval timers of CPU time: `ITIMER_VIRTUAL` and `ITIMER_PROF` (`setitimer(2)`).
//!
//! The host counts the time. A timer looks at the earliest moment at which so much can have been
//! spent, and again until it has been.

use super::cpu_clock::{Kind, process_time};
use super::{ThreadGroup, limits};
use crate::abi::linux::{SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU};
use crate::signal::info;
use crate::sync::{Level, Mutex};
use crate::time::{deadline_in, timer};
use alloc::sync::{Arc, Weak};

/// Least time between two looks, ns.
const LEAST: u64 = 1_000_000;

/// Which time is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// In user mode.
    Virtual,
    /// In user mode and in the kernel.
    Prof,
    /// As [`Which::Prof`], for `RLIMIT_CPU`.
    Limit,
}

/// One of the two timers of a process.
struct Setting {
    /// CPU time of the process at which it runs out, 0 for never; ns.
    deadline: u64,
    interval: u64,
    /// Counts the settings, so that a look for an earlier one is known as such.
    generation: u64,
    armed: Option<timer::Armed>,
}

/// The CPU timers of a process: the two of `setitimer`, and the one of `RLIMIT_CPU`.
pub struct CpuTimers([Mutex<Setting>; 3]);

impl Default for CpuTimers {
    fn default() -> Self {
        // Held while the heap's lock is taken.
        let idle = || Mutex::new(Level::FileData, Setting { deadline: 0, interval: 0, generation: 0, armed: None });
        CpuTimers([idle(), idle(), idle()])
    }
}

fn spent(group: &ThreadGroup, which: Which) -> u64 {
    process_time(group, if which == Which::Virtual { Kind::Virtual } else { Kind::Prof })
}

fn threads(group: &ThreadGroup) -> u64 {
    group.state.lock().tasks.len().max(1) as u64
}

/// A look at a timer.
struct Look {
    group: Weak<ThreadGroup>,
    which: Which,
    generation: u64,
}

impl timer::Target for Look {
    fn expired(&self) {
        let Some(group) = self.group.upgrade() else { return };
        let (now, threads) = (spent(&group, self.which), threads(&group));
        if self.which == Which::Limit {
            self.look_at_limit(&group, now, threads);
            return;
        }
        let ran_out = {
            let mut setting = group.timers.cpu.of(self.which).lock();
            if setting.generation != self.generation || setting.deadline == 0 {
                return;
            }
            let ran_out = now >= setting.deadline;
            if ran_out {
                setting.deadline = if setting.interval == 0 { 0 } else { now.saturating_add(setting.interval) };
            }
            setting.look(&group, self.which, now, threads);
            ran_out
        };
        if ran_out {
            let sig = if self.which == Which::Virtual { SIGVTALRM } else { SIGPROF };
            let _ = group.send_to_spender(&info::plain(sig, info::SI_KERNEL), now / 1000);
        }
    }
}

impl Look {
    /// `RLIMIT_CPU`: SIGXCPU at the soft limit, which moves on by a second, and SIGKILL at the hard one
    /// (`check_process_timers` in `kernel/time/posix-cpu-timers.c`).
    fn look_at_limit(&self, group: &Arc<ThreadGroup>, now: u64, threads: u64) {
        let sig = {
            let mut setting = group.timers.cpu.of(Which::Limit).lock();
            if setting.generation != self.generation || setting.deadline == 0 {
                return;
            }
            let (soft, hard) = group.limits.get(limits::CPU);
            let sig = if now >= seconds(hard) {
                setting.deadline = 0;
                SIGKILL
            } else if now >= seconds(soft) {
                group.limits.raise_soft(limits::CPU, soft + 1);
                setting.deadline = seconds(soft + 1).min(seconds(hard));
                SIGXCPU
            } else {
                0
            };
            setting.look(group, Which::Limit, now, threads);
            sig
        };
        if sig != 0 {
            let _ = group.send(&info::plain(sig, info::SI_KERNEL));
        }
    }
}

/// A limit in seconds as ns; `RLIM_INFINITY` is never reached.
fn seconds(limit: u64) -> u64 {
    limit.saturating_mul(1_000_000_000)
}

/// Starts, or stops, watching `RLIMIT_CPU` of a process.
pub fn watch_limit(group: &Arc<ThreadGroup>) {
    let (soft, hard) = group.limits.get(limits::CPU);
    let (now, threads) = (spent(group, Which::Limit), threads(group));
    let mut setting = group.timers.cpu.of(Which::Limit).lock();
    setting.stop();
    if soft != u64::MAX {
        setting.deadline = seconds(soft).min(seconds(hard)).max(1);
        setting.look(group, Which::Limit, now, threads);
    }
}

impl Setting {
    /// Time left and interval, when `now` has been spent.
    fn left(&self, now: u64) -> (u64, u64) {
        // An armed timer never shows zero.
        (if self.deadline == 0 { 0 } else { self.deadline.saturating_sub(now).max(1) }, self.interval)
    }

    /// Arranges the next look: each of `threads` may be spending.
    fn look(&mut self, group: &Arc<ThreadGroup>, which: Which, now: u64, threads: u64) {
        self.armed = None;
        if self.deadline == 0 {
            return;
        }
        let wait = (self.deadline.saturating_sub(now) / threads).max(LEAST);
        let look = Look { group: Arc::downgrade(group), which, generation: self.generation };
        self.armed = Some(timer::arm(deadline_in(wait), Arc::new(look)));
    }

    fn stop(&mut self) {
        self.generation += 1;
        self.deadline = 0;
        if let Some(armed) = self.armed.take() {
            timer::cancel(&armed);
        }
    }
}

impl CpuTimers {
    fn of(&self, which: Which) -> &Mutex<Setting> {
        &self.0[which as usize]
    }

    /// Stops all: exit.
    pub fn clear(&self) {
        for timer in &self.0 {
            timer.lock().stop();
        }
    }
}

/// Time left and interval, ns.
pub fn left(group: &ThreadGroup, which: Which) -> (u64, u64) {
    let now = spent(group, which);
    group.timers.cpu.of(which).lock().left(now)
}

/// Sets a timer to run out after `value` (0: never) of CPU time, then every `interval`; ns. Returns what
/// was left and the old interval.
pub fn set(group: &Arc<ThreadGroup>, which: Which, value: u64, interval: u64) -> (u64, u64) {
    let (now, threads) = (spent(group, which), threads(group));
    let mut setting = group.timers.cpu.of(which).lock();
    let old = setting.left(now);
    setting.stop();
    setting.interval = interval;
    if value != 0 {
        setting.deadline = now.saturating_add(value);
        setting.look(group, which, now, threads);
    }
    old
}
