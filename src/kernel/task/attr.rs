//! What a thread carries besides its objects: priorities, and what `prctl(2)` sets.

use crate::sync::{Knob, Level, Mutex};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

/// The slice of SCHED_RR, ms (`/proc/sys/kernel/sched_rr_timeslice_ms`).
pub static RR_SLICE_MS: Knob = Knob::new(100, 1, i32::MAX as u64);

/// Flags of `personality(2)` (`linux/personality.h`) that have an effect.
#[allow(missing_docs)]
pub mod persona {
    pub const UNAME26: u32 = 0x2_0000;
    pub const ADDR_NO_RANDOMIZE: u32 = 0x4_0000;
    pub const READ_IMPLIES_EXEC: u32 = 0x40_0000;
    pub const STICKY_TIMEOUTS: u32 = 0x400_0000;
    /// What these bits are is no flag but a system.
    pub const PER_MASK: u32 = 0xff;
    pub const PER_LINUX32: u32 = 8;
}

/// See the module. Inherited by children unless said otherwise.
pub struct Attr {
    /// Nice value, -20..=19.
    pub nice: AtomicI32,
    /// `SCHED_*` with `SCHED_RESET_ON_FORK`.
    pub policy: AtomicU32,
    /// Real-time priority.
    pub rt_priority: AtomicU32,
    /// `ioprio_set(2)`.
    pub ioprio: AtomicU32,
    /// `set_mempolicy(2)`: mode and flags.
    pub mempolicy: AtomicU32,
    /// `PR_SET_PDEATHSIG`; not inherited.
    pub death_signal: AtomicU32,
    /// `personality(2)`.
    pub personality: AtomicU32,
    /// `PR_SET_TIMERSLACK`, ns.
    pub timer_slack: AtomicU64,
    /// What 0 stands for there: its maker's.
    pub default_slack: AtomicU64,
    /// `PR_SET_THP_DISABLE`.
    pub thp_disabled: AtomicBool,
    /// `PR_SET_MEMORY_MERGE`.
    pub merges: AtomicBool,
    /// `PR_MCE_KILL`.
    pub mce_kill: AtomicU32,
    /// `PR_SET_IO_FLUSHER`.
    pub io_flusher: AtomicBool,
    /// It became a user that has more processes than it may have; not inherited.
    pub over_limit: AtomicBool,
    /// Runtime, deadline and period of `SCHED_DEADLINE`, ns, and the flags of `sched_setattr(2)` that are kept;
    /// not inherited.
    pub deadline: Mutex<[u64; 4]>,
    /// The slice that `sched_setattr(2)` has set for a policy without priorities, ns; 0 for the usual one.
    pub slice: AtomicU64,
    /// `PR_SET_DUMPABLE`: 1 unless changed.
    pub dumpable: AtomicU32,
    /// The CPUs that `sched_setaffinity(2)` chose, `None` before it did.
    pub affinity: Mutex<Option<[u64; 16]>>,
}

impl Attr {
    /// Whether it has a flag of `personality(2)`.
    pub fn has_persona(&self, flag: u32) -> bool {
        self.personality.load(Relaxed) & flag != 0
    }
}

impl Default for Attr {
    fn default() -> Self {
        Attr {
            nice: AtomicI32::new(0),
            policy: AtomicU32::new(0),
            rt_priority: AtomicU32::new(0),
            ioprio: AtomicU32::new(0),
            mempolicy: AtomicU32::new(0),
            death_signal: AtomicU32::new(0),
            personality: AtomicU32::new(0),
            timer_slack: AtomicU64::new(50_000),
            default_slack: AtomicU64::new(50_000),
            thp_disabled: AtomicBool::new(false),
            merges: AtomicBool::new(false),
            mce_kill: AtomicU32::new(2),
            io_flusher: AtomicBool::new(false),
            over_limit: AtomicBool::new(false),
            deadline: Mutex::new(Level::Leaf, [0; 4]),
            slice: AtomicU64::new(0),
            dumpable: AtomicU32::new(1),
            affinity: Mutex::new(Level::Leaf, None),
        }
    }
}

/// `SCHED_RESET_ON_FORK`.
pub const RESET_ON_FORK: u32 = 0x4000_0000;

impl Attr {
    /// Whether its policy is one of real time or deadlines.
    pub fn is_prioritised(&self) -> bool {
        use crate::abi::linux::{SCHED_DEADLINE, SCHED_FIFO, SCHED_RR};
        matches!(self.policy.load(Relaxed) & !RESET_ON_FORK, SCHED_FIFO | SCHED_RR | SCHED_DEADLINE)
    }

    /// Fills a child's from its parent's.
    pub fn inherit(&self, parent: &Attr) {
        let reset = parent.policy.load(Relaxed) & RESET_ON_FORK != 0;
        let nice = parent.nice.load(Relaxed);
        self.nice.store(if reset { nice.max(0) } else { nice }, Relaxed);
        if !reset {
            self.policy.store(parent.policy.load(Relaxed), Relaxed);
            self.rt_priority.store(parent.rt_priority.load(Relaxed), Relaxed);
        }
        self.slice.store(if reset { 0 } else { parent.slice.load(Relaxed) }, Relaxed);
        self.ioprio.store(parent.ioprio.load(Relaxed), Relaxed);
        self.mempolicy.store(parent.mempolicy.load(Relaxed), Relaxed);
        self.personality.store(parent.personality.load(Relaxed), Relaxed);
        self.timer_slack.store(parent.timer_slack.load(Relaxed), Relaxed);
        self.default_slack.store(parent.timer_slack.load(Relaxed), Relaxed);
        self.thp_disabled.store(parent.thp_disabled.load(Relaxed), Relaxed);
        self.merges.store(parent.merges.load(Relaxed), Relaxed);
        self.mce_kill.store(parent.mce_kill.load(Relaxed), Relaxed);
        self.io_flusher.store(parent.io_flusher.load(Relaxed), Relaxed);
        self.dumpable.store(parent.dumpable.load(Relaxed), Relaxed);
        let affinity = *parent.affinity.lock();
        *self.affinity.lock() = affinity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_inherit_but_for_the_death_signal() {
        let parent = Attr::default();
        parent.nice.store(-5, Relaxed);
        parent.policy.store(2 | RESET_ON_FORK, Relaxed);
        parent.death_signal.store(9, Relaxed);
        parent.personality.store(0x0040_0000, Relaxed);
        let child = Attr::default();
        child.inherit(&parent);
        assert_eq!(child.nice.load(Relaxed), 0);
        assert_eq!(child.policy.load(Relaxed), 0);
        assert_eq!(child.death_signal.load(Relaxed), 0);
        assert_eq!(child.personality.load(Relaxed), 0x0040_0000);
    }
}
