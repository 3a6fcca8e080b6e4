//! A process's timers: the real-time interval timer (`setitimer(2)`, `alarm(2)`), those of CPU time, and
//! POSIX timers.

use super::cpu_timers::CpuTimers;
use super::posix_timers::{Base, PosixTimer, Tell, is_timer};
use super::{ThreadGroup, limits};
use crate::abi::linux::SIGALRM;
use crate::abi::sigctx::SigInfo;
use crate::abi::{Errno, Result};
use crate::signal::info;
use crate::sync::{Level, Mutex};
use crate::time::{host_monotonic, timer};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// When the real-time timer runs out next, and how often after that; ns.
#[derive(Clone, Copy, Debug, Default)]
struct Setting {
    armed: Option<timer::Armed>,
    /// When it runs out, or ran out last; host monotonic.
    deadline: u64,
    interval: u64,
    /// It ran out, and its signal has not been taken: it is armed again then.
    expired: bool,
}

impl Setting {
    /// Time left and interval.
    fn left(&self) -> (u64, u64) {
        match self.armed {
            // An armed timer never shows zero.
            Some(a) => (a.deadline.saturating_sub(host_monotonic()).max(1), self.interval),
            None => (0, self.interval),
        }
    }

    fn disarm(&mut self) {
        if let Some(a) = self.armed.take() {
            timer::cancel(&a);
        }
        self.expired = false;
    }

    fn arm(&mut self, deadline: u64, group: Weak<ThreadGroup>) {
        self.deadline = deadline;
        self.armed = Some(timer::arm(deadline, Arc::new(RealTimer(group))));
    }
}

/// The POSIX timers by id. Ids are given in order, as Linux does.
#[derive(Default)]
struct Table {
    timers: BTreeMap<i32, Arc<PosixTimer>>,
    next: i32,
}

/// See the module.
pub struct Timers {
    real: Mutex<Setting>,
    posix: Mutex<Table>,
    /// Those that count CPU time.
    pub cpu: CpuTimers,
}

impl Default for Timers {
    fn default() -> Self {
        // Held while the heap's lock is taken.
        Timers {
            real: Mutex::new(Level::FileData, Setting::default()),
            posix: Mutex::new(Level::FileData, Table::default()),
            cpu: CpuTimers::default(),
        }
    }
}

/// The real-time interval timer of a process.
struct RealTimer(Weak<ThreadGroup>);

impl timer::Target for RealTimer {
    fn expired(&self) {
        let Some(group) = self.0.upgrade() else { return };
        {
            let mut real = group.timers.real.lock();
            if real.armed.is_none_or(|a| a.deadline > host_monotonic()) {
                return;
            }
            real.armed = None;
            real.expired = true;
        }
        let _ = group.send(&info::plain(SIGALRM, info::SI_KERNEL));
    }
}

impl Timers {
    /// Time left and interval of the real-time timer, ns.
    pub fn real(&self) -> (u64, u64) {
        self.real.lock().left()
    }

    /// Makes a POSIX timer; its id. `value` is passed on to the handler; `None` stands for the id.
    ///
    /// # Errors
    /// `EAGAIN` when there are too many (`RLIMIT_SIGPENDING`).
    pub fn create(&self, group: &Arc<ThreadGroup>, base: Base, tell: Tell, value: Option<u64>) -> Result<i32> {
        crate::arena::charge(crate::arena::Object::Timer)?;
        let mut table = self.posix.lock();
        if table.timers.len() as u64 >= group.limits.get(limits::SIGPENDING).0 {
            return Err(Errno::EAGAIN);
        }
        while table.timers.contains_key(&table.next) {
            table.next = table.next.checked_add(1).unwrap_or(0);
        }
        let id = table.next;
        table.next = id.checked_add(1).unwrap_or(0);
        let timer = PosixTimer::new(id, base, group, tell, value.unwrap_or(id as u64));
        table.timers.insert(id, timer);
        Ok(id)
    }

    /// The POSIX timer with this id.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn get(&self, id: i32) -> Result<Arc<PosixTimer>> {
        self.posix.lock().timers.get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// All POSIX timers, the newest ids first.
    pub fn all(&self) -> Vec<Arc<PosixTimer>> {
        self.posix.lock().timers.values().rev().cloned().collect()
    }

    /// Removes a POSIX timer.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn delete(&self, id: i32) -> Result {
        let timer = self.posix.lock().timers.remove(&id).ok_or(Errno::EINVAL)?;
        timer.stop();
        Ok(())
    }

    /// Removes all POSIX timers: exec.
    pub fn clear_posix(&self) {
        let timers = core::mem::take(&mut *self.posix.lock()).timers;
        for timer in timers.into_values() {
            timer.stop();
        }
    }

    /// Stops everything: exit.
    pub fn clear(&self) {
        self.real.lock().disarm();
        self.cpu.clear();
        self.clear_posix();
    }

    /// A thread of `group` takes a signal: timers that wait for that go on. Whether it is to be delivered:
    /// not the one of a timer that is gone.
    pub fn taken(&self, group: &Arc<ThreadGroup>, record: &mut SigInfo) -> bool {
        if record.signo as u32 == SIGALRM {
            let mut real = self.real.lock();
            if core::mem::take(&mut real.expired) && real.interval > 0 {
                let missed = host_monotonic().saturating_sub(real.deadline) / real.interval;
                let next = real.deadline.saturating_add((missed + 1).saturating_mul(real.interval));
                real.arm(next, Arc::downgrade(group));
            }
        }
        !is_timer(record) || self.get(record.fields[0] as i32).is_ok_and(|t| t.taken(record))
    }
}

/// Sets the real-time timer to run out after `value` (0: never), then every `interval`; ns. Returns
/// what was left and the old interval.
pub fn set_real(group: &Arc<ThreadGroup>, value: u64, interval: u64) -> (u64, u64) {
    let mut real = group.timers.real.lock();
    let old = real.left();
    real.disarm();
    real.interval = interval;
    if value != 0 {
        real.arm(host_monotonic().saturating_add(value), Arc::downgrade(group));
    }
    old
}
