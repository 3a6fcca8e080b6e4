//! A process's timers: the real-time interval timer (`setitimer(2)`, `alarm(2)`) and POSIX timers
//! (`timer_create(2)`).

use super::ThreadGroup;
use super::cpu_timers::CpuTimers;
use crate::abi::linux::SIGALRM;
use crate::abi::{Errno, Result};
use crate::signal::{bit, info};
use crate::sync::{Level, Mutex};
use crate::time::{host_monotonic, timer};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// Most POSIX timers of a process.
const MAX: usize = 1024;

/// When a timer runs out next, and how often after that; ns.
#[derive(Clone, Copy, Debug, Default)]
struct Setting {
    armed: Option<timer::Armed>,
    interval: u64,
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
    }

    /// After an expiry: arms the next one. Returns how many were missed; `None` if the timer was
    /// changed meanwhile, so that this expiry does not count.
    fn next(&mut self, target: Arc<dyn timer::Target>) -> Option<u64> {
        let now = host_monotonic();
        let was = self.armed.filter(|a| a.deadline <= now)?;
        self.armed = None;
        if self.interval == 0 {
            return Some(0);
        }
        let missed = (now - was.deadline) / self.interval;
        self.armed = Some(timer::arm(was.deadline + (missed + 1) * self.interval, target));
        Some(missed)
    }
}

/// What a POSIX timer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tell {
    /// Nothing: it is only looked at.
    Nobody,
    /// A signal to the process.
    Process(u32),
    /// A signal to one thread.
    Thread(u32, u32),
}

/// A POSIX timer.
pub struct PosixTimer {
    id: i32,
    /// Its clock.
    pub clock: i32,
    group: Weak<ThreadGroup>,
    tell: Tell,
    value: u64,
    setting: Mutex<Setting>,
    overrun: AtomicI32,
    last_overrun: AtomicI32,
    me: Weak<PosixTimer>,
}

/// See the module.
pub struct Timers {
    real: Mutex<Setting>,
    posix: Mutex<Vec<Option<Arc<PosixTimer>>>>,
    /// Those that count CPU time.
    pub cpu: CpuTimers,
}

impl Default for Timers {
    fn default() -> Self {
        // Held while the heap's lock is taken.
        Timers {
            real: Mutex::new(Level::FileData, Setting::default()),
            posix: Mutex::new(Level::FileData, Vec::new()),
            cpu: CpuTimers::default(),
        }
    }
}

/// The real-time interval timer of a process.
struct RealTimer(Weak<ThreadGroup>);

impl timer::Target for RealTimer {
    fn expired(&self) {
        let Some(group) = self.0.upgrade() else { return };
        let counts = group.timers.real.lock().next(Arc::new(RealTimer(self.0.clone()))).is_some();
        if counts {
            let _ = group.send(&info::plain(SIGALRM, info::SI_KERNEL));
        }
    }
}

impl timer::Target for PosixTimer {
    fn expired(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let Some(missed) = self.setting.lock().next(me) else { return };
        let Some(group) = self.group.upgrade() else { return };
        self.overrun.fetch_add(missed.min(i32::MAX as u64) as i32, Relaxed);
        self.tell(&group);
    }
}

impl PosixTimer {
    /// Raises the signal, or counts an overrun while the last one still waits.
    fn tell(&self, group: &Arc<ThreadGroup>) {
        let thread = match self.tell {
            Tell::Nobody => return,
            Tell::Process(_) => None,
            Tell::Thread(_, tid) => match super::lookup(tid) {
                Some(t) => Some(t),
                None => return,
            },
        };
        let (Tell::Process(sig) | Tell::Thread(sig, _)) = self.tell else { return };
        let waits = match &thread {
            Some(t) => t.pending.lock().set(),
            None => group.pending.lock().set(),
        };
        if waits & bit(sig) != 0 {
            self.overrun.fetch_add(1, Relaxed);
            return;
        }
        let overrun = self.overrun.swap(0, Relaxed);
        self.last_overrun.store(overrun, Relaxed);
        let mut record = info::plain(sig, info::SI_TIMER);
        record.fields[0] = u64::from(self.id as u32) | u64::from(overrun as u32) << 32;
        record.fields[1] = self.value;
        let _ = match thread {
            Some(t) => t.send(&record),
            None => group.send(&record),
        };
    }

    /// Sets it to run out at `deadline` (0: never), then every `interval`; ns. Returns what was left.
    pub fn set(&self, deadline: u64, interval: u64) -> (u64, u64) {
        let mut setting = self.setting.lock();
        let old = setting.left();
        setting.disarm();
        setting.interval = interval;
        if deadline != 0
            && let Some(me) = self.me.upgrade()
        {
            setting.armed = Some(timer::arm(deadline, me));
        }
        self.overrun.store(0, Relaxed);
        old
    }

    /// Time left and interval, ns.
    pub fn left(&self) -> (u64, u64) {
        self.setting.lock().left()
    }

    /// Expiries that the last signal stood for, beyond the first.
    pub fn overrun(&self) -> i32 {
        self.last_overrun.load(Relaxed)
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
    /// `EAGAIN` when there are too many.
    pub fn create(&self, group: &Arc<ThreadGroup>, clock: i32, tell: Tell, value: Option<u64>) -> Result<i32> {
        let mut timers = self.posix.lock();
        let at = timers.iter().position(Option::is_none).unwrap_or(timers.len());
        if at >= MAX || timers.try_reserve(1).is_err() {
            return Err(Errno::EAGAIN);
        }
        let id = at as i32;
        let timer = Arc::new_cyclic(|me| PosixTimer {
            id,
            clock,
            group: Arc::downgrade(group),
            tell,
            value: value.unwrap_or(id as u64),
            setting: Mutex::new(Level::FileData, Setting::default()),
            overrun: AtomicI32::new(0),
            last_overrun: AtomicI32::new(0),
            me: me.clone(),
        });
        if at == timers.len() {
            timers.push(Some(timer));
        } else {
            timers[at] = Some(timer);
        }
        Ok(id)
    }

    /// The POSIX timer with this id.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn get(&self, id: i32) -> Result<Arc<PosixTimer>> {
        self.posix.lock().get(id as usize).cloned().flatten().ok_or(Errno::EINVAL)
    }

    /// Removes a POSIX timer.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn delete(&self, id: i32) -> Result {
        let timer = self.posix.lock().get_mut(id as usize).and_then(Option::take).ok_or(Errno::EINVAL)?;
        timer.set(0, 0);
        Ok(())
    }

    /// Removes all POSIX timers: exec.
    pub fn clear_posix(&self) {
        let timers = core::mem::take(&mut *self.posix.lock());
        for timer in timers.into_iter().flatten() {
            timer.set(0, 0);
        }
    }

    /// Stops everything: exit.
    pub fn clear(&self) {
        self.real.lock().disarm();
        self.cpu.clear();
        self.clear_posix();
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
        let target = Arc::new(RealTimer(Arc::downgrade(group)));
        real.armed = Some(timer::arm(host_monotonic().saturating_add(value), target));
    }
    old
}
