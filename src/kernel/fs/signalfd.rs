//! `signalfd(2)`: signals as records to be read.

use crate::abi::linux::{self, O_NONBLOCK};
use crate::abi::sigctx::SigInfo;
use crate::abi::{Errno, Result, SysResult};
use crate::mm::IoDst;
use crate::signal::UNBLOCKABLE;
use crate::sync::{Events, WaitQueue};
use crate::task::{self, ThreadGroup};
use crate::vfs::{FileOps, OpCtx, OpenFile, anon_file};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A set of signals to be read, in the process that made it.
struct SignalFd {
    mask: AtomicU64,
    group: Arc<ThreadGroup>,
}

/// `POLL_IN` to `POLL_HUP`: a file that became ready.
const POLL_CODES: i32 = 6;
/// Size of `struct signalfd_siginfo`.
const RECORD: usize = 128;

/// Makes one.
///
/// # Errors
/// `ESRCH` outside of a process.
pub fn signalfd(ctx: &OpCtx<'_>, mask: u64, flags: u32) -> Result<Arc<OpenFile>> {
    let group = task::lookup_group(ctx.tgid).ok_or(Errno::ESRCH)?;
    let ops = SignalFd { mask: AtomicU64::new(mask & !UNBLOCKABLE), group };
    Ok(anon_file("signalfd", Box::new(ops), linux::O_RDWR | flags & O_NONBLOCK, ctx))
}

/// Replaces the set.
///
/// # Errors
/// `EINVAL` if the file is no signalfd.
pub fn set_mask(file: &OpenFile, mask: u64) -> Result {
    let s = file.ops.as_any().downcast_ref::<SignalFd>().ok_or(Errno::EINVAL)?;
    s.mask.store(mask & !UNBLOCKABLE, SeqCst);
    s.group.signal_wait.wake(Events::IN);
    Ok(())
}

/// `struct signalfd_siginfo` of a signal: the union's fields by what the code says they are.
fn record(i: &SigInfo) -> [u8; RECORD] {
    let mut out = [0u8; RECORD];
    let mut put = |at: usize, v: &[u8]| out[at..at + v.len()].copy_from_slice(v);
    let (low, high) = (i.fields[0] as u32, (i.fields[0] >> 32) as u32);
    put(0, &i.signo.to_ne_bytes());
    put(4, &i.errno.to_ne_bytes());
    put(8, &i.code.to_ne_bytes());
    let sig = i.signo as u32;
    let faults = [linux::SIGILL, linux::SIGFPE, linux::SIGSEGV, linux::SIGBUS, linux::SIGTRAP].contains(&sig);
    if faults && i.code > 0 {
        put(72, &i.fields[0].to_ne_bytes());
        return out;
    }
    if (1..=POLL_CODES).contains(&i.code) && sig != linux::SIGCHLD && sig != linux::SIGSYS {
        put(28, &low.to_ne_bytes());
        put(20, &(i.fields[1] as u32).to_ne_bytes());
        return out;
    }
    if i.code == crate::signal::info::SI_TIMER {
        put(24, &low.to_ne_bytes());
        put(32, &high.to_ne_bytes());
    } else {
        put(12, &low.to_ne_bytes());
        put(16, &high.to_ne_bytes());
    }
    // si_status or si_int, and si_ptr; times of a child in clock ticks.
    if i.signo as u32 == linux::SIGCHLD && i.code > 0 {
        put(40, &(i.fields[1] as u32).to_ne_bytes());
        put(56, &i.fields[2].to_ne_bytes());
        put(64, &i.fields[3].to_ne_bytes());
    } else {
        put(44, &(i.fields[1] as u32).to_ne_bytes());
        put(48, &i.fields[1].to_ne_bytes());
    }
    out
}

impl FileOps for SignalFd {
    fn describe(&self, out: &mut String) {
        let _ = writeln!(out, "sigmask:\t{:016x}", self.mask.load(SeqCst));
    }

    fn read(&self, ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        if dst.left() < RECORD {
            return Err(Errno::EINVAL.into());
        }
        let me = task::lookup(ctx.tid).ok_or(Errno::EAGAIN)?;
        let mut done = 0;
        while dst.left() >= RECORD {
            let Some(info) = me.take_signal(self.mask.load(SeqCst)) else { break };
            done += dst.put(&record(&info))?;
        }
        if done == 0 { Err(Errno::EAGAIN.into()) } else { Ok(done) }
    }

    fn poll(&self) -> Events {
        let mask = self.mask.load(SeqCst);
        let own = |g: &ThreadGroup| g.tasks().iter().any(|t| t.pending.lock().set() & mask != 0);
        let shared = self.group.pending.lock().set() & mask != 0;
        if shared || own(&self.group) { Events::IN } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.group.signal_wait)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::info;

    #[test]
    fn a_record_names_the_sender_or_the_child() {
        let r = record(&info::from_user(10, info::SI_USER, 42, 7));
        assert_eq!((r[0], r[12], r[16]), (10, 42, 7));
        let r = record(&info::child(1, 42, 7, 3, 0, 0));
        assert_eq!((r[0], r[12], r[40]), (17, 42, 3));
    }
}
