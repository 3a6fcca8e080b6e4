//! POSIX timers (`timer_create(2)`).
//!
//! A timer that has run out is not armed again before its signal is taken: only then it is known how many
//! expirations that signal stands for ([`PosixTimer::taken`], `posixtimer_rearm` in Linux). Where the signal
//! is ignored or thrown away nobody takes it: the timer looks now and then whether it still waits.

use super::cpu_clock::CpuClock;
use super::{Task, ThreadGroup};
use crate::abi::sigctx::SigInfo;
use crate::abi::{Errno, Result};
use crate::signal::{Pending, info};
use crate::sync::{Level, Mutex};
use crate::time::{self, host_monotonic, timer};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Least time between two looks at a clock of CPU time, ns.
const LEAST: u64 = 1_000_000;
/// First and longest time between two looks whether a signal still waits, ns.
const STALE: [u64; 2] = [10_000_000, 1_000_000_000];
/// Marks the record of a timer's signal, which a guest never sees.
const MARK: u64 = 0x7469_6d65_725f_7369;

/// What a POSIX timer does.
#[derive(Clone)]
pub enum Tell {
    /// Nothing: it is only looked at.
    Nobody,
    /// A signal to the process.
    Process(u32),
    /// A signal to one thread.
    Thread(u32, Weak<Task>),
}

/// As [`Tell`], by numbers.
pub enum Told {
    /// Nobody.
    Nobody,
    /// The process, by this signal.
    Process(u32),
    /// The thread with this id of the initial pid namespace, 0 for one that has ended.
    Thread(u32, u32),
}

/// What a timer counts by. Times of it are ns: of the host's monotonic clock, or of CPU time.
pub enum Base {
    /// A clock of the sandbox.
    Clock(i32),
    /// CPU time.
    Cpu(CpuClock),
}

/// What a timer's base shows, read before the timer is locked.
#[derive(Clone, Copy)]
struct Now {
    time: u64,
    /// Of CPU time: how many threads may be spending it.
    spenders: Option<u64>,
}

impl Base {
    fn now(&self) -> Now {
        match self {
            Base::Clock(_) => Now { time: host_monotonic(), spenders: None },
            // The time of what is gone stands still.
            Base::Cpu(clock) => Now { time: clock.read().unwrap_or(0), spenders: Some(clock.spenders()) },
        }
    }
}

impl Now {
    /// The earliest moment at which `deadline` can be reached: host monotonic ns.
    fn earliest(&self, deadline: u64) -> u64 {
        match self.spenders {
            None => deadline,
            Some(n) => host_monotonic().saturating_add((deadline.saturating_sub(self.time) / n).max(LEAST)),
        }
    }
}

#[derive(Default)]
struct State {
    armed: Option<timer::Armed>,
    /// When it runs out, or ran out last; 0 for never. Of its base.
    deadline: u64,
    interval: u64,
    /// Its absolute time, where the clock can be set.
    absolute: Option<i64>,
    /// It ran out, and its signal of this number has not been taken; how long until the next look.
    signalled: Option<(u64, u64)>,
    last_overrun: u64,
}

/// A POSIX timer.
pub struct PosixTimer {
    /// Its id.
    pub id: i32,
    base: Base,
    group: Weak<ThreadGroup>,
    tell: Tell,
    value: u64,
    state: Mutex<State>,
    watch: u64,
    me: Weak<PosixTimer>,
}

static SIGNALS: AtomicU64 = AtomicU64::new(1);

impl PosixTimer {
    /// A timer that is not armed. `value` is passed on to the handler.
    pub fn new(id: i32, base: Base, group: &Arc<ThreadGroup>, tell: Tell, value: u64) -> Arc<PosixTimer> {
        Arc::new_cyclic(|me: &Weak<PosixTimer>| PosixTimer {
            id,
            watch: if matches!(base, Base::Clock(0 | 8 | 11)) { timer::watch_clock(me.clone()) } else { 0 },
            base,
            group: Arc::downgrade(group),
            tell,
            value,
            // Held while the heap's lock is taken.
            state: Mutex::new(Level::FileData, State::default()),
            me: me.clone(),
        })
    }

    fn arm(&self, s: &mut State, now: &Now) {
        if let Some(me) = self.me.upgrade() {
            s.armed = Some(timer::arm(now.earliest(s.deadline), me));
        }
    }

    /// Moves the deadline past now; how many expirations lay between.
    fn forward(s: &mut State, now: u64) -> u64 {
        let missed = now.saturating_sub(s.deadline) / s.interval.max(1);
        s.deadline = s.deadline.saturating_add((missed + 1).saturating_mul(s.interval));
        missed
    }

    /// Whom it tells, with which signal and which thread.
    pub fn told(&self) -> Told {
        match &self.tell {
            Tell::Nobody => Told::Nobody,
            Tell::Process(signal) => Told::Process(*signal),
            Tell::Thread(signal, task) => Told::Thread(*signal, task.upgrade().map_or(0, |t| t.tid())),
        }
    }

    /// What its signal's handler is passed.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// The clock that it was made for; those of one's own CPU time by their long numbers (`PROCESS_CLOCK` and `THREAD_CLOCK`
    /// in `kernel/time/posix-cpu-timers.c`).
    pub fn clock_id(&self) -> i32 {
        match &self.base {
            Base::Clock(id) => *id,
            Base::Cpu(clock) => match clock.id() {
                2 => -6,
                3 => -2,
                id => id,
            },
        }
    }

    /// The clock that it counts by, unless that is one of CPU time.
    pub fn clock(&self) -> Option<i32> {
        if let Base::Clock(id) = self.base { Some(id) } else { None }
    }

    /// Time left and interval, ns.
    pub fn left(&self) -> (u64, u64) {
        let now = self.base.now().time;
        let s = self.state.lock();
        let left = match s.deadline.checked_sub(now) {
            _ if s.deadline == 0 => 0,
            // An armed timer never shows zero.
            Some(left) => left.max(1),
            None if s.interval > 0 => s.interval - (now - s.deadline) % s.interval,
            None => u64::from(s.armed.is_some()),
        };
        (left, s.interval)
    }

    /// Sets it to run out after `value` (0: never), or at that time of its clock, and then every `interval`;
    /// ns. Returns what was left and the old interval. A signal of before that still waits is thrown away.
    ///
    /// # Errors
    /// `EINVAL` if its clock is gone.
    pub fn set(&self, value: i64, absolute: bool, interval: u64) -> Result<(u64, u64)> {
        let old = self.left();
        let now = self.base.now();
        let deadline = match &self.base {
            _ if value == 0 => 0,
            Base::Clock(id) if absolute => time::deadline_at(*id, value).ok_or(Errno::EINVAL)?.max(1),
            Base::Clock(_) => time::deadline_in(value as u64),
            Base::Cpu(_) if absolute => value as u64,
            Base::Cpu(clock) => clock.read().ok_or(Errno::ESRCH)?.saturating_add(value as u64),
        };
        let stale = {
            let mut s = self.state.lock();
            if let Some(armed) = s.armed.take() {
                timer::cancel(&armed);
            }
            let stale = s.signalled.take();
            let absolute = Some(value).filter(|_| absolute && self.watch != 0 && value != 0);
            *s = State { deadline, interval, absolute, last_overrun: s.last_overrun, ..State::default() };
            if deadline != 0 && !matches!(self.tell, Tell::Nobody) {
                self.arm(&mut s, &now);
            }
            stale
        };
        if let Some((number, _)) = stale {
            self.pending(|p| p.remove(|i| is_signal(i, number)));
        }
        Ok(old)
    }

    /// Stops it for good.
    pub fn stop(&self) {
        if self.watch != 0 {
            timer::unwatch_clock(self.watch);
        }
        let _ = self.set(0, false, 0);
    }

    /// Expirations that the last signal stood for, beyond the first.
    pub fn overrun(&self) -> i32 {
        self.state.lock().last_overrun.min(i32::MAX as u64) as i32
    }

    /// What waits where its signal goes to.
    fn pending<R>(&self, f: impl FnOnce(&mut Pending) -> R) -> Option<R> {
        match &self.tell {
            Tell::Nobody => None,
            Tell::Process(_) => Some(f(&mut self.group.upgrade()?.pending.lock())),
            Tell::Thread(_, task) => Some(f(&mut task.upgrade()?.pending.lock())),
        }
    }

    /// Its signal is taken: the record says how many expirations it stands for, and an interval timer goes
    /// on. Whether it is to be delivered: not when the timer was set since.
    pub fn taken(&self, record: &mut SigInfo) -> bool {
        let now = self.base.now();
        let mut s = self.state.lock();
        if s.signalled.is_none_or(|(number, _)| number != record.fields[2]) {
            return false;
        }
        s.signalled = None;
        if let Some(armed) = s.armed.take() {
            timer::cancel(&armed);
        }
        s.last_overrun = 0;
        if s.interval > 0 {
            s.last_overrun = PosixTimer::forward(&mut s, now.time);
            self.arm(&mut s, &now);
        }
        let overrun = s.last_overrun.min(i32::MAX as u64);
        record.fields = [0; 14];
        record.fields[0] = u64::from(self.id as u32) | overrun << 32;
        record.fields[1] = self.value;
        true
    }

    /// It may have run out: what is to be sent.
    fn fire(&self) -> Option<SigInfo> {
        let (Tell::Process(sig) | Tell::Thread(sig, _)) = self.tell else { return None };
        let now = self.base.now();
        let mut s = self.state.lock();
        if s.armed.is_none_or(|a| a.deadline > host_monotonic()) {
            return None;
        }
        s.armed = None;
        if s.deadline == 0 || now.time < s.deadline {
            if s.deadline != 0 {
                self.arm(&mut s, &now);
            }
            return None;
        }
        let number = SIGNALS.fetch_add(1, Relaxed);
        s.signalled = Some((number, STALE[0]));
        if s.interval > 0 {
            self.look_later(&mut s, STALE[0]);
        }
        let mut record = info::plain(sig, info::SI_TIMER);
        record.fields[0] = self.id as u32 as u64;
        (record.fields[2], record.fields[3]) = (number, MARK);
        Some(record)
    }

    fn look_later(&self, s: &mut State, after: u64) {
        if let Some(me) = self.me.upgrade() {
            s.armed = Some(timer::arm(host_monotonic().saturating_add(after), me));
        }
    }

    /// Where its signal still waits it goes on waiting; else it was ignored or thrown away, and the timer
    /// goes on. Whether that was settled.
    fn still_waits(&self) -> bool {
        let Some((number, after)) = self.state.lock().signalled else { return false };
        let waits = self.pending(|p| p.any(|i| is_signal(i, number))).unwrap_or(false);
        let now = self.base.now();
        let mut s = self.state.lock();
        if s.signalled != Some((number, after)) || s.armed.is_none_or(|a| a.deadline > host_monotonic()) {
            return true;
        }
        if waits {
            let next = (after * 2).min(STALE[1]);
            s.signalled = Some((number, next));
            self.look_later(&mut s, next);
        } else {
            s.signalled = None;
            PosixTimer::forward(&mut s, now.time);
            self.arm(&mut s, &now);
        }
        true
    }
}

/// Whether a record is that of a timer's signal.
pub fn is_timer(record: &SigInfo) -> bool {
    record.code == info::SI_TIMER && record.fields[3] == MARK
}

fn is_signal(record: &SigInfo, number: u64) -> bool {
    is_timer(record) && record.fields[2] == number
}

impl timer::Target for PosixTimer {
    fn expired(&self) {
        if self.still_waits() {
            return;
        }
        let Some(record) = self.fire() else { return };
        let _ = match &self.tell {
            Tell::Nobody => Ok(()),
            Tell::Process(_) => self.group.upgrade().map_or(Ok(()), |g| g.send(&record)),
            Tell::Thread(_, task) => task.upgrade().map_or(Ok(()), |t| t.send(&record)),
        };
    }

    fn clock_was_set(&self) {
        let now = self.base.now();
        let mut s = self.state.lock();
        if let (Some(at), Base::Clock(id)) = (s.absolute, &self.base)
            && s.signalled.is_none()
            && let Some(armed) = s.armed.take()
        {
            // If the supervisor has taken it from the heap already to run it, it looks again at what is armed then.
            timer::cancel(&armed);
            s.deadline = time::deadline_at(*id, at).unwrap_or(s.deadline).max(1);
            self.arm(&mut s, &now);
        }
    }
}
