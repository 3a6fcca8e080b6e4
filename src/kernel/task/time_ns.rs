//! Offsets of clocks (`time_namespaces(7)`).

use super::CurrentTask;
use super::ns::NsProxy;
use crate::abi::linux::{
    CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW,
};
use crate::abi::{Errno, Result};
use crate::cred::count::{self, Charge, Of};
use crate::cred::{Cred, UserNamespace, ns};
use crate::time::{self, SECOND, vdso};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};

/// A time namespace.
pub struct TimeNamespace {
    /// Its number, as `/proc/PID/ns/time` shows it.
    pub ino: u32,
    /// Capabilities over it count here.
    pub user_ns: Arc<UserNamespace>,
    /// What `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` are ahead of those of the initial namespace, ns.
    offsets: [AtomicI64; 2],
    /// Somebody is in it: the offsets stay as they are.
    frozen: AtomicBool,
    _charge: Option<Charge>,
}

/// Whether there has ever been one but the initial one: until then no clock is apart from another.
static ANY: AtomicBool = AtomicBool::new(false);

/// The latest time that a clock may show, s: half of what `ktime_t` holds.
const LATEST: i64 = i64::MAX / SECOND / 2;

/// A clock that has offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Clock {
    Monotonic,
    Boottime,
}

impl Clock {
    /// The one that goes by a number of `clock_gettime(2)`.
    pub fn of(id: i32) -> Option<Clock> {
        match id as u32 {
            CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE => Some(Clock::Monotonic),
            CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => Some(Clock::Boottime),
            _ => None,
        }
    }
}

impl TimeNamespace {
    /// The initial namespace.
    pub(super) fn initial() -> Arc<TimeNamespace> {
        Arc::new(TimeNamespace {
            ino: ns::ino::TIME,
            user_ns: UserNamespace::initial().clone(),
            offsets: [const { AtomicI64::new(0) }; 2],
            frozen: AtomicBool::new(true),
            _charge: None,
        })
    }

    /// A namespace with the same offsets, which `cred` makes.
    ///
    /// # Errors
    /// `ENOSPC` for too many.
    pub(super) fn copy(&self, cred: &Cred) -> Result<Arc<TimeNamespace>> {
        let charge = count::charge(&cred.user_ns, cred.euid, Of::Time)?;
        ANY.store(true, SeqCst);
        Ok(Arc::new(TimeNamespace {
            ino: ns::new_ino(),
            user_ns: cred.user_ns.clone(),
            offsets: [0, 1].map(|i| AtomicI64::new(self.offsets[i].load(SeqCst))),
            frozen: AtomicBool::new(false),
            _charge: Some(charge),
        }))
    }

    /// What a clock is ahead of that of the initial namespace, ns.
    pub fn ahead(&self, clock: Clock) -> i64 {
        self.offsets[clock as usize].load(SeqCst)
    }

    /// Sets offsets, ns, while nobody is in it (`proc_timens_set_offset`).
    ///
    /// # Errors
    /// `ERANGE` for a clock that would be before its beginning or too late; `EACCES` once somebody is in it.
    pub fn set(&self, new: &[(Clock, i64, i64)]) -> Result {
        for &(clock, sec, nsec) in new {
            let id = if clock == Clock::Monotonic { CLOCK_MONOTONIC } else { CLOCK_BOOTTIME };
            let now = time::clock(id as i32).unwrap_or(0);
            let shown = sec.checked_add(now.div_euclid(SECOND) + (nsec + now.rem_euclid(SECOND)) / SECOND);
            if shown.is_none_or(|s| !(0..=LATEST).contains(&s)) {
                return Err(Errno::ERANGE);
            }
        }
        if self.frozen.load(SeqCst) {
            return Err(Errno::EACCES);
        }
        for &(clock, sec, nsec) in new {
            self.offsets[clock as usize].store(sec.saturating_mul(SECOND).saturating_add(nsec), SeqCst);
        }
        Ok(())
    }

    /// Somebody enters it.
    pub(super) fn freeze(&self) {
        self.frozen.store(true, SeqCst);
    }
}

impl NsProxy {
    /// As a new process has it, which goes to where its maker's children go.
    pub(super) fn for_child(self: &Arc<Self>) -> Arc<NsProxy> {
        if Arc::ptr_eq(&self.time, &self.time_for_children) {
            return self.clone();
        }
        self.time_for_children.freeze();
        Arc::new(NsProxy { time: self.time_for_children.clone(), ..NsProxy::clone(self) })
    }
}

/// What the clock `id` of the running task is ahead of that of the initial namespace, ns.
pub fn running_ahead(id: i32) -> i64 {
    if !ANY.load(SeqCst) {
        return 0;
    }
    let Some(clock) = Clock::of(id) else { return 0 };
    let own = super::work::running().and_then(|task| task.shared());
    own.map_or(0, |own| own.ns.time.ahead(clock))
}

impl CurrentTask {
    /// What the clock `id` is ahead of that of the initial time namespace, ns.
    pub fn clock_ahead(&self, id: i32) -> i64 {
        if !ANY.load(SeqCst) {
            return 0;
        }
        Clock::of(id).map_or(0, |clock| self.own().ns.time.ahead(clock))
    }

    /// The task has just come to its time namespace.
    pub fn enter_time(&self) {
        self.own().ns.time.freeze();
        self.settle_clocks();
    }

    /// Where the task is in a time namespace of its own, its vDSO asks the kernel from now on.
    pub fn settle_clocks(&self) {
        if ANY.load(SeqCst) && self.own().ns.time.ino != ns::ino::TIME {
            vdso::ask_the_kernel();
        }
    }
}
