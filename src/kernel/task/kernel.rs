//! The kernel as an object. There is one in a window; what can exist several times belongs to namespaces.

use super::ns::NsProxy;
use super::pid::PidNamespace;
use super::syslog::Syslog;
use crate::abi::{Errno, Result};
use crate::cred::{Cred, UserNamespace, cap};
use crate::sync::{Level, Mutex, MutexGuard};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use once_cell::race::OnceBox;

/// How many tasks a sandbox may have unless it is told otherwise.
pub const TASKS_DEFAULT: u32 = 4096;

/// See the module.
pub struct Kernel {
    /// The tree's lock; see [`super::tree`].
    pub(super) tree: Mutex<()>,
    roots: OnceBox<Roots>,
    /// How many times the kernel is paused from outside.
    pub(super) paused: AtomicU32,
    /// Threads that have not been reaped.
    tasks: AtomicU32,
    /// Most of them.
    task_limit: AtomicU32,
    /// What the sandbox was given.
    tasks_given: AtomicU32,
    /// Tasks that were ever made (`processes` in `/proc/stat`).
    forks: AtomicU64,
    /// Told of calls that are not there, as often as the bucket allows.
    unimplemented: OnceBox<fn(u32, u32)>,
    syslog: Syslog,
    bucket: Mutex<Bucket>,
}

/// Events that may still be told of, and when that was counted, ns.
struct Bucket {
    left: u64,
    at: u64,
}

/// How many calls that are not there are told of at once, and how many a second.
const BURST: u64 = 1000;
const RATE: u64 = 100;

impl Bucket {
    /// Takes one out, which fills again with time; `false` if it is empty.
    fn take(&mut self, now: u64) -> bool {
        let period = 1_000_000_000 / RATE;
        let more = now.saturating_sub(self.at) / period;
        if self.left + more >= BURST {
            (self.left, self.at) = (BURST, now);
        } else {
            self.left += more;
            self.at += more * period;
        }
        let any = self.left > 0;
        self.left -= u64::from(any);
        any
    }
}

/// The initial namespaces.
pub struct Roots {
    /// Those that the first process points to.
    pub proxy: Arc<NsProxy>,
    /// The initial pid namespace.
    pub pid: Arc<PidNamespace>,
}

static KERNEL: Kernel = Kernel {
    tree: Mutex::new(Level::Tasks, ()),
    roots: OnceBox::new(),
    paused: AtomicU32::new(0),
    tasks: AtomicU32::new(0),
    task_limit: AtomicU32::new(TASKS_DEFAULT),
    tasks_given: AtomicU32::new(TASKS_DEFAULT),
    forks: AtomicU64::new(0),
    unimplemented: OnceBox::new(),
    syslog: Syslog::new(),
    bucket: Mutex::new(Level::Leaf, Bucket { left: BURST, at: 0 }),
};

/// The kernel of this window.
pub fn kernel() -> &'static Kernel {
    &KERNEL
}

impl Kernel {
    /// The initial namespaces.
    pub fn roots(&self) -> &Roots {
        self.roots.get_or_init(|| {
            let pid = PidNamespace::initial();
            Box::new(Roots { proxy: Arc::new(NsProxy::initial(pid.clone())), pid })
        })
    }

    /// Threads that have not been reaped.
    pub fn task_count(&self) -> u32 {
        self.tasks.load(Relaxed)
    }

    /// Tasks that were ever made.
    pub fn forks(&self) -> u64 {
        self.forks.load(Relaxed)
    }

    /// Most tasks that there may be at once.
    pub fn task_limit(&self) -> u32 {
        self.task_limit.load(Relaxed)
    }

    /// Sets it (at boot).
    pub fn set_task_limit(&self, most: u32) {
        self.task_limit.store(most, Relaxed);
        self.tasks_given.store(most, Relaxed);
    }

    /// Sets it to less than the sandbox was given, or back (`/proc/sys/kernel/threads-max`).
    ///
    /// # Errors
    /// `EINVAL` for less than 20 (`MIN_THREADS` in `kernel/fork.c`) and for more than the sandbox was given.
    pub fn lower_task_limit(&self, most: u64) -> Result {
        let given = u64::from(self.tasks_given.load(Relaxed));
        if !(20.min(given)..=given).contains(&most) {
            return Err(Errno::EINVAL);
        }
        self.task_limit.store(most as u32, Relaxed);
        Ok(())
    }

    /// Counts a task that is being made for a user. `limit` is its maker's `RLIMIT_NPROC`, which does not bind
    /// root and whoever may pass over limits (`copy_process` in `kernel/fork.c`).
    ///
    /// # Errors
    /// `EAGAIN` when there are as many as there may be, of the user or of all.
    pub(super) fn count_task(&self, cred: &Cred, limit: u64) -> Result {
        let of_user = u64::from(cred.user.processes.fetch_add(1, Relaxed)) + 1;
        let of_all = self.tasks.fetch_add(1, Relaxed) + 1;
        let initial = UserNamespace::initial();
        let free = || {
            let may = |n| cred.capable_in(initial, n);
            cred.user.uid == 0 || may(cap::SYS_RESOURCE) || may(cap::SYS_ADMIN)
        };
        if of_all > self.task_limit() || of_user > limit && !free() {
            self.uncount_task(cred);
            return Err(Errno::EAGAIN);
        }
        self.forks.fetch_add(1, Relaxed);
        Ok(())
    }

    /// The log that programs see.
    pub fn syslog(&self) -> &Syslog {
        &self.syslog
    }

    /// Registers who is told of calls that are not there: pid and number (at boot).
    pub fn set_unimplemented(&self, f: fn(u32, u32)) {
        let _ = self.unimplemented.set(Box::new(f));
    }

    /// A program made a call that is not there.
    #[cold]
    pub fn unimplemented(&self, pid: u32, call: u64) {
        let Some(f) = self.unimplemented.get() else { return };
        // Of its numbers each is changed by one store.
        let told = MutexGuard::scratch(&mut self.bucket.lock()).take(crate::time::host_monotonic());
        if let (true, Ok(call)) = (told, u32::try_from(call)) {
            f(pid, call);
        }
    }

    /// A task of this user is gone.
    pub(super) fn uncount_task(&self, cred: &Cred) {
        cred.user.processes.fetch_sub(1, Relaxed);
        self.tasks.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_hundred_a_second() {
        let mut bucket = Bucket { left: BURST, at: 0 };
        let at = 5_000_000_000;
        assert_eq!((0..2000).filter(|_| bucket.take(at)).count(), 1000);
        assert!(!bucket.take(at + 9_000_000) && bucket.take(at + 10_000_000));
        assert_eq!((0..2000).filter(|i| bucket.take(at + 10_000_000 + i * 1_000_000)).count(), 199);
        assert_eq!((0..2000).filter(|_| bucket.take(at + 100_000_000_000)).count(), 1000);
    }
}
