//! `timerfd_create(2)`.

use crate::abi::linux::{self, TFD_CLOEXEC, TFD_NONBLOCK};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::IoDst;
use crate::sync::{Events, Level, Mutex, WaitQueue};
use crate::time::{host_monotonic, timer};
use crate::vfs::{FileOps, OpCtx, OpenFile, anon_file};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::any::Any;

#[derive(Default)]
struct State {
    armed: Option<timer::Armed>,
    /// ns; 0 for a timer that runs out once.
    interval: u64,
    /// Since the last read.
    expirations: u64,
}

/// A timer that is read.
pub struct TimerFd {
    /// Its clock.
    pub clock: i32,
    state: Mutex<State>,
    queue: WaitQueue,
    me: Weak<TimerFd>,
}

struct Ops(Arc<TimerFd>);

/// Makes one.
///
/// # Errors
/// `EINVAL` for unknown flags or a clock that has no timers.
pub fn timerfd(ctx: &OpCtx<'_>, clock: i32, flags: u32) -> Result<Arc<OpenFile>> {
    // REALTIME, MONOTONIC, BOOTTIME and the two alarm clocks.
    if flags & !(TFD_CLOEXEC | TFD_NONBLOCK) != 0 || !matches!(clock, 0 | 1 | 7 | 8 | 9) {
        return Err(Errno::EINVAL);
    }
    let clock = match clock {
        8 => 0,
        9 => 7,
        c => c,
    };
    let timer = Arc::new_cyclic(|me| TimerFd {
        clock,
        // Held while the heap's lock is taken.
        state: Mutex::new(Level::FileData, State::default()),
        queue: WaitQueue::new(),
        me: me.clone(),
    });
    Ok(anon_file("timerfd", Box::new(Ops(timer)), linux::O_RDONLY | flags & TFD_NONBLOCK, ctx))
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
            let now = host_monotonic();
            let Some(was) = s.armed.filter(|a| a.deadline <= now) else { return };
            s.armed = None;
            s.expirations += 1;
            if let Some(missed) = (now - was.deadline).checked_div(s.interval) {
                s.expirations += missed;
                if let Some(me) = self.me.upgrade() {
                    s.armed = Some(timer::arm(was.deadline + (missed + 1) * s.interval, me));
                }
            }
        }
        self.queue.wake(Events::IN);
    }
}

impl TimerFd {
    /// Time left and interval, ns.
    pub fn left(&self) -> (u64, u64) {
        let s = self.state.lock();
        (s.armed.map_or(0, |a| a.deadline.saturating_sub(host_monotonic()).max(1)), s.interval)
    }

    /// Sets it to run out at `deadline` (host monotonic ns; 0: never), then every `interval`. Returns
    /// what was left.
    pub fn set(&self, deadline: u64, interval: u64) -> (u64, u64) {
        let old = self.left();
        let mut s = self.state.lock();
        if let Some(a) = s.armed.take() {
            timer::cancel(&a);
        }
        s.interval = interval;
        s.expirations = 0;
        if deadline != 0
            && let Some(me) = self.me.upgrade()
        {
            s.armed = Some(timer::arm(deadline, me));
        }
        old
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.0.set(0, 0);
    }
}

impl FileOps for Ops {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        if dst.left() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let n = core::mem::take(&mut self.0.state.lock().expirations);
        if n == 0 {
            return Err(Errno::EAGAIN.into());
        }
        dst.put(&n.to_ne_bytes())?;
        Ok(8)
    }

    fn poll(&self) -> Events {
        if self.0.state.lock().expirations > 0 { Events::IN | Events::RDNORM } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
