//! Numbers of the kernel that the root of a sandbox may change while it runs (`/proc/sys`).

use crate::abi::{Errno, Result};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number within a range. Whoever acts by it reads it anew each time.
#[derive(Debug)]
pub struct Knob {
    value: AtomicU64,
    least: u64,
    most: u64,
}

impl Knob {
    /// A number that is `value` until it is changed, and then between `least` and `most`.
    pub const fn new(value: u64, least: u64, most: u64) -> Knob {
        Knob { value: AtomicU64::new(value), least, most }
    }

    /// The number.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }

    /// Changes it.
    ///
    /// # Errors
    /// `EINVAL` out of its range.
    pub fn set(&self, value: u64) -> Result {
        if !(self.least..=self.most).contains(&value) {
            return Err(Errno::EINVAL);
        }
        self.value.store(value, Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_stays_in_its_range() {
        let knob = Knob::new(5, 1, 10);
        assert_eq!((knob.set(0), knob.set(11), knob.get()), (Err(Errno::EINVAL), Err(Errno::EINVAL), 5));
        assert_eq!((knob.set(10), knob.get()), (Ok(()), 10));
    }
}
