//! `timerfd_create(2)`.

use crate::abi::linux::{self, TFD_CLOEXEC, TFD_NONBLOCK};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::mm::{IoDst, UserPtr};
use crate::sync::{Events, Kind, Level, Mutex, WaitQueue};
use crate::time::{self, host_monotonic, timer};
use crate::vfs::{FileOps, OpCtx, OpenFile, anon_file};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::fmt::Write;

/// `TFD_IOC_SET_TICKS`: `_IOW('T', 0, u64)`.
const SET_TICKS: u32 = 0x4008_5400;

/// When a timer runs out.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// Never.
    Never,
    /// So many ns from now.
    In(u64),
    /// At this time of its clock, ns.
    At(i64),
}

#[derive(Default)]
struct State {
    armed: Option<timer::Armed>,
    /// When it runs out, or ran out last; host monotonic ns.
    deadline: u64,
    /// ns; 0 for a timer that runs out once.
    interval: u64,
    /// It ran out and was not armed again since.
    expired: bool,
    /// Since the last read.
    expirations: u64,
    /// Its absolute time, where the clock can be set.
    absolute: Option<i64>,
    /// It wants to hear of that (`TFD_TIMER_CANCEL_ON_SET`).
    cancels: bool,
    /// It has not been told yet.
    canceled: bool,
}

/// A timer that is read.
pub struct TimerFd {
    /// Its clock.
    clock: i32,
    state: Mutex<State>,
    queue: WaitQueue,
    /// Number as a watcher of the wall clock, 0 where that does not matter.
    watch: u64,
    me: Weak<TimerFd>,
}

struct Ops(Arc<TimerFd>);

/// Makes one.
///
/// # Errors
/// `EINVAL` for unknown flags or a clock that has no timers, `EPERM` for an alarm clock without
/// CAP_WAKE_ALARM.
pub fn timerfd(ctx: &OpCtx<'_>, clock: i32, flags: u32) -> Result<Arc<OpenFile>> {
    // REALTIME, MONOTONIC, BOOTTIME and the two alarm clocks.
    if flags & !(TFD_CLOEXEC | TFD_NONBLOCK) != 0 || !matches!(clock, 0 | 1 | 7 | 8 | 9) {
        return Err(Errno::EINVAL);
    }
    if matches!(clock, 8 | 9) && !ctx.cred.capable(cap::WAKE_ALARM) {
        return Err(Errno::EPERM);
    }
    crate::arena::charge(crate::arena::Object::Timer)?;
    let clock = match clock {
        8 => 0,
        9 => 7,
        c => c,
    };
    let timer = Arc::new_cyclic(|me: &Weak<TimerFd>| TimerFd {
        clock,
        // Held while the heap's lock is taken.
        state: Mutex::new(Level::FileData, State::default()),
        queue: WaitQueue::of(Kind::TimerFd),
        watch: if clock == 0 { timer::watch_clock(me.clone()) } else { 0 },
        me: me.clone(),
    });
    Ok(anon_file("timerfd", Box::new(Ops(timer)), linux::O_RDWR | flags & TFD_NONBLOCK, ctx))
}

/// The timer behind an open file.
///
/// # Errors
/// `EINVAL` if it is none.
pub fn of_file(file: &OpenFile) -> Result<Arc<TimerFd>> {
    file.ops.as_any().downcast_ref::<Ops>().map(|o| o.0.clone()).ok_or(Errno::EINVAL)
}

impl timer::Target for TimerFd {
    fn expired(&self) {
        {
            let mut s = self.state.lock();
            if s.armed.is_none_or(|a| a.deadline > host_monotonic()) {
                return;
            }
            s.armed = None;
            s.expired = true;
            s.expirations += 1;
        }
        self.queue.wake(Events::IN);
    }

    fn clock_was_set(&self) {
        let canceled = {
            let mut s = self.state.lock();
            self.settle(&mut s);
            if let Some(at) = s.absolute
                && s.disarm()
            {
                self.arm(&mut s, time::deadline_at(self.clock, at).unwrap_or(0));
            }
            s.canceled = s.cancels;
            s.canceled
        };
        if canceled {
            self.queue.wake(Events::IN);
        }
    }
}

impl State {
    /// Disarms it; whether it was armed. The supervisor may have taken it from the heap already to run it:
    /// it finds then that the timer is not armed.
    fn disarm(&mut self) -> bool {
        let Some(armed) = self.armed.take() else { return false };
        timer::cancel(&armed);
        true
    }

    fn left(&self) -> (u64, u64) {
        (self.armed.map_or(0, |a| a.deadline.saturating_sub(host_monotonic()).max(1)), self.interval)
    }
}

impl TimerFd {
    fn arm(&self, s: &mut State, deadline: u64) {
        if let Some(me) = self.me.upgrade() {
            s.deadline = deadline;
            s.armed = Some(timer::arm(deadline, me));
        }
    }

    /// A deadline that has passed counts even if the supervisor has not come to it yet.
    fn settle(&self, s: &mut State) {
        if s.armed.is_some_and(|a| a.deadline <= host_monotonic()) && s.disarm() {
            s.expired = true;
            s.expirations += 1;
        }
    }

    /// Arms a timer again that ran out, and counts the expirations that it missed meanwhile.
    fn forward(&self, s: &mut State) {
        if core::mem::take(&mut s.expired)
            && let Some(missed) = host_monotonic().saturating_sub(s.deadline).checked_div(s.interval)
        {
            s.expirations += missed;
            let next = s.deadline.saturating_add((missed + 1).saturating_mul(s.interval));
            self.arm(s, next);
        }
    }

    /// The clock that it counts by.
    pub fn clock(&self) -> i32 {
        self.clock
    }

    /// Time left and interval, ns.
    pub fn left(&self) -> (u64, u64) {
        let mut s = self.state.lock();
        self.settle(&mut s);
        self.forward(&mut s);
        s.left()
    }

    /// Sets it to run out then, and again every `interval` (ns). Returns what was left. `cancels`: the
    /// clock's being set is an event (`TFD_TIMER_CANCEL_ON_SET`).
    ///
    /// # Errors
    /// `ECANCELED` when the clock was set since the last look. The timer is set all the same.
    pub fn set(&self, when: When, interval: u64, cancels: bool) -> Result<(u64, u64)> {
        let mut s = self.state.lock();
        self.forward(&mut s);
        let old = s.left();
        s.disarm();
        let was_canceled = s.canceled;
        let absolute = if let When::At(at) = when { Some(at) } else { None };
        *s = State { interval, absolute: absolute.filter(|_| self.watch != 0), ..State::default() };
        s.cancels = cancels && s.absolute.is_some();
        let deadline = match when {
            When::Never => return Ok(old),
            When::In(ns) => time::deadline_in(ns),
            When::At(at) => time::deadline_at(self.clock, at).ok_or(Errno::EINVAL)?,
        };
        self.arm(&mut s, deadline);
        if s.cancels && was_canceled { Err(Errno::ECANCELED) } else { Ok(old) }
    }

    fn set_ticks(&self, ticks: u64) -> Result {
        if ticks == 0 {
            return Err(Errno::EINVAL);
        }
        {
            let mut s = self.state.lock();
            if core::mem::take(&mut s.canceled) {
                return Err(Errno::ECANCELED);
            }
            s.expirations = ticks;
        }
        self.queue.wake(Events::IN);
        Ok(())
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        if self.0.watch != 0 {
            timer::unwatch_clock(self.0.watch);
        }
        self.0.state.lock().disarm();
    }
}

impl FileOps for Ops {
    fn describe(&self, out: &mut String) {
        let (left, interval) = self.0.left();
        let (ticks, flags) = {
            let s = self.0.state.lock();
            (s.expirations, u32::from(s.absolute.is_some()) | u32::from(s.cancels) << 1)
        };
        let [left, interval] = [left, interval].map(|ns| (ns / 1_000_000_000, ns % 1_000_000_000));
        let _ = writeln!(
            out,
            "clockid: {}\nticks: {ticks}\nsettime flags: 0{flags:o}\nit_value: ({}, {})\nit_interval: ({}, {})",
            self.0.clock, left.0, left.1, interval.0, interval.1
        );
    }

    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        if dst.left() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let n = {
            let mut s = self.0.state.lock();
            if core::mem::take(&mut s.canceled) {
                (s.expirations, s.expired) = (0, false);
                return Err(Errno::ECANCELED.into());
            }
            self.0.settle(&mut s);
            if s.expirations > 0 {
                self.0.forward(&mut s);
            }
            core::mem::take(&mut s.expirations)
        };
        if n == 0 {
            return Err(Errno::EAGAIN.into());
        }
        dst.put(&n.to_ne_bytes())?;
        Ok(8)
    }

    fn poll(&self) -> Events {
        let mut s = self.0.state.lock();
        self.0.settle(&mut s);
        if s.expirations > 0 || s.canceled { Events::IN } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        if request != SET_TICKS {
            return Err(Errno::ENOTTY.into());
        }
        self.0.set_ticks(UserPtr::new(arg).read()?)?;
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
