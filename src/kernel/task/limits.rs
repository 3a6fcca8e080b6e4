//! Resource limits (`getrlimit(2)`).

use crate::abi::{Errno, Result};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Resource numbers.
#[allow(missing_docs)]
mod numbers {
    pub const CPU: usize = 0;
    pub const FSIZE: usize = 1;
    pub const DATA: usize = 2;
    pub const STACK: usize = 3;
    pub const CORE: usize = 4;
    pub const NPROC: usize = 6;
    pub const NOFILE: usize = 7;
    pub const AS: usize = 9;
    pub const MEMLOCK: usize = 8;
    pub const SIGPENDING: usize = 11;
    pub const MSGQUEUE: usize = 12;
    pub const NICE: usize = 13;
    pub const RTPRIO: usize = 14;
    pub const COUNT: usize = 16;
}
pub use numbers::*;

/// A process's limits, soft and hard by resource number.
pub struct Limits([[AtomicU64; 2]; COUNT]);

impl Default for Limits {
    fn default() -> Self {
        Limits::new(&[])
    }
}

impl Limits {
    /// Linux's defaults, overridden by what is given.
    pub fn new(given: &[(u64, u64)]) -> Limits {
        let limits = Limits([const { [const { AtomicU64::new(u64::MAX) }; 2] }; COUNT]);
        limits.put(STACK, (8 << 20, u64::MAX));
        limits.put(CORE, (0, u64::MAX));
        limits.put(NOFILE, (1024, 1 << 20));
        limits.put(8, (8 << 20, 8 << 20));
        limits.put(MSGQUEUE, (819_200, 819_200));
        limits.put(13, (0, 0));
        limits.put(14, (0, 0));
        for (i, v) in given.iter().enumerate().take(COUNT) {
            limits.put(i, *v);
        }
        limits
    }

    fn put(&self, resource: usize, (soft, hard): (u64, u64)) {
        self.0[resource][0].store(soft, Relaxed);
        self.0[resource][1].store(hard, Relaxed);
    }

    /// Soft and hard limit.
    pub fn get(&self, resource: usize) -> (u64, u64) {
        let r = &self.0[resource];
        (r[0].load(Relaxed), r[1].load(Relaxed))
    }

    /// Sets both.
    ///
    /// # Errors
    /// `EINVAL` when soft exceeds hard, `EPERM` to raise the hard one without privilege.
    pub fn set(&self, resource: usize, soft: u64, hard: u64, privileged: bool) -> Result {
        if soft > hard {
            return Err(Errno::EINVAL);
        }
        if resource == NOFILE && hard > crate::vfs::fdtable::NR_OPEN.get() {
            return Err(Errno::EPERM);
        }
        if hard > self.get(resource).1 && !privileged {
            return Err(Errno::EPERM);
        }
        self.put(resource, (soft, hard));
        Ok(())
    }

    /// Moves a soft limit on.
    pub(super) fn raise_soft(&self, resource: usize, soft: u64) {
        self.0[resource][0].store(soft, Relaxed);
    }

    /// A copy, for fork.
    pub fn fork_copy(&self) -> Limits {
        let copy = Limits::new(&[]);
        for i in 0..COUNT {
            copy.put(i, self.get(i));
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_limits_only_fall_without_privilege() {
        let l = Limits::new(&[(1, 2)]);
        assert_eq!(l.get(CPU), (1, 2));
        assert_eq!(l.set(CPU, 3, 2, true), Err(Errno::EINVAL));
        assert_eq!(l.set(CPU, 2, 3, false), Err(Errno::EPERM));
        l.set(CPU, 1, 1, false).unwrap();
        l.set(CPU, 5, 9, true).unwrap();
        assert_eq!(l.fork_copy().get(CPU), (5, 9));
        assert_eq!(l.set(NOFILE, 1, 1 << 40, true), Err(Errno::EPERM));
    }
}
