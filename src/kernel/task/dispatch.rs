//! Calls that a program takes itself (`PR_SET_SYSCALL_USER_DISPATCH`,
//! `Documentation/admin-guide/syscall-user-dispatch.rst`): a call from outside of a region raises SIGSYS instead of
//! being made, as a byte of the program's says. It comes before tracers and filters.

use super::{CurrentTask, exit, seccomp};
use crate::abi::layout::TASK_SIZE;
use crate::abi::{Errno, Result, linux};
use crate::mm::UserPtr;
use crate::signal::info;
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// `PR_SYS_DISPATCH_*`.
const OFF: u64 = 0;
const EXCLUSIVE: u64 = 1;
const INCLUSIVE: u64 = 2;
/// What the program's byte says (`SYSCALL_DISPATCH_FILTER_*`).
const ALLOW: u8 = 0;
const BLOCK: u8 = 1;
/// `si_code` of SIGSYS.
const SYS_USER_DISPATCH: i32 = 2;

/// From where calls are made as ever.
#[derive(Clone, Copy, Default)]
pub struct Region {
    /// Others are not.
    pub is_on: bool,
    /// Address of the byte that lets them pass, 0 for none.
    pub selector: u64,
    /// Where it starts.
    pub offset: u64,
    /// Its length; it may wrap around.
    pub len: u64,
}

impl Region {
    /// From the arguments of `prctl(2)`.
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT` for a byte outside of the address space.
    pub fn new(mode: u64, offset: u64, len: u64, selector: u64) -> Result<Region> {
        let wraps = offset.wrapping_add(len) <= offset;
        let (is_on, offset, len) = match mode {
            OFF if offset == 0 && len == 0 && selector == 0 => (false, 0, 0),
            EXCLUSIVE if offset == 0 || !wraps => (true, offset, len),
            INCLUSIVE if len != 0 && !wraps => (true, offset.wrapping_add(len), len.wrapping_neg()),
            _ => return Err(Errno::EINVAL),
        };
        if selector >= TASK_SIZE {
            return Err(Errno::EFAULT);
        }
        Ok(Region { is_on, selector, offset, len })
    }
}

/// A task's region; a child has none, nor has a new program.
#[derive(Default)]
pub struct Dispatch {
    is_on: AtomicBool,
    selector: AtomicU64,
    offset: AtomicU64,
    len: AtomicU64,
}

impl Dispatch {
    /// The region.
    pub fn get(&self) -> Region {
        Region {
            is_on: self.is_on.load(SeqCst),
            selector: self.selector.load(Relaxed),
            offset: self.offset.load(Relaxed),
            len: self.len.load(Relaxed),
        }
    }

    /// Replaces it: by the task itself, or by its tracer in a stop.
    pub fn set(&self, region: Region) {
        self.selector.store(region.selector, Relaxed);
        self.offset.store(region.offset, Relaxed);
        self.len.store(region.len, Relaxed);
        self.is_on.store(region.is_on, SeqCst);
        if region.is_on {
            seccomp::look_at_calls();
        }
    }
}

/// Whether the program takes this call itself: it gets SIGSYS then. Does not return where the byte cannot be read or says
/// neither.
pub fn takes(cur: &CurrentTask, nr: u64) -> bool {
    if !cur.dispatch.is_on.load(Relaxed) {
        return false;
    }
    let region = cur.dispatch.get();
    let ip = cur.frame().rip;
    if ip.wrapping_sub(region.offset) < region.len {
        return false;
    }
    if region.selector != 0 {
        match UserPtr::<u8>::new(region.selector).read() {
            Ok(ALLOW) => return false,
            Ok(BLOCK) => {}
            Ok(_) => exit::exit_group(cur, linux::SIGSYS as i32),
            Err(_) => exit::exit_group(cur, linux::SIGSEGV as i32),
        }
    }
    let mut record = info::plain(linux::SIGSYS, SYS_USER_DISPATCH);
    (record.fields[0], record.fields[1]) = (ip, u64::from(nr as u32) | u64::from(seccomp::ARCH) << 32);
    cur.force_signal(&record);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_checked_as_linux_checks_them() {
        let ok =
            |mode, offset, len, selector| Region::new(mode, offset, len, selector).map(|r| (r.is_on, r.offset, r.len));
        assert_eq!(ok(OFF, 0, 0, 0), Ok((false, 0, 0)));
        assert_eq!(ok(OFF, 1, 0, 0), Err(Errno::EINVAL));
        assert_eq!(ok(EXCLUSIVE, 0, 0, 8), Ok((true, 0, 0)));
        assert_eq!(ok(EXCLUSIVE, 8, 0, 0), Err(Errno::EINVAL));
        assert_eq!(ok(EXCLUSIVE, 8, u64::MAX, 0), Err(Errno::EINVAL));
        assert_eq!(ok(INCLUSIVE, 0x1000, 0x1000, 0), Ok((true, 0x2000, 0u64.wrapping_sub(0x1000))));
        assert_eq!(ok(INCLUSIVE, 0x1000, 0, 0), Err(Errno::EINVAL));
        assert_eq!(ok(EXCLUSIVE, 0, 0, TASK_SIZE), Err(Errno::EFAULT));
        assert_eq!(ok(3, 0, 0, 0), Err(Errno::EINVAL));
    }
}
