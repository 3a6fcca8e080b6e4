//! Descriptors of processes and threads (`pidfd_open(2)`).

use crate::abi::linux::{self, O_NONBLOCK};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::Cred;
use crate::mm::UserPtr;
use crate::sync::{Events, WaitQueue};
use crate::task::pid::PidNamespace;
use crate::task::{Pid, ThreadGroup, kernel, work};
use crate::vfs::{FileOps, OpCtx, OpenFile, anon_file};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

/// `PIDFD_THREAD`: the descriptor means one thread.
pub const THREAD: u32 = linux::O_EXCL;

struct PidFd {
    pid: Arc<Pid>,
    thread: bool,
    /// The wait status of a process that has been reaped is known to whoever had a descriptor of it before.
    group: Option<Arc<ThreadGroup>>,
}

/// A descriptor for what `pid` means; `flags` are `O_NONBLOCK` and [`THREAD`].
pub fn pidfd(ctx: &OpCtx<'_>, pid: &Arc<Pid>, flags: u32) -> Arc<OpenFile> {
    let ops = PidFd { pid: pid.clone(), thread: flags & THREAD != 0, group: pid.process() };
    anon_file("pidfd", Box::new(ops), linux::O_RDWR | flags & (O_NONBLOCK | THREAD), ctx)
}

fn ops(file: &OpenFile) -> Result<&PidFd> {
    file.ops.as_any().downcast_ref::<PidFd>().ok_or(Errno::EBADF)
}

/// The pid behind an open file.
///
/// # Errors
/// `EBADF` if it is no pidfd.
pub fn pid_of(file: &OpenFile) -> Result<Arc<Pid>> {
    Ok(ops(file)?.pid.clone())
}

/// Whether a pidfd means one thread.
///
/// # Errors
/// `EBADF` if it is no pidfd.
pub fn is_thread(file: &OpenFile) -> Result<bool> {
    Ok(ops(file)?.thread)
}

/// The process behind an open file, a zombie too.
///
/// # Errors
/// `EBADF` if it is no pidfd, `ESRCH` if the process has been reaped.
pub fn of_file(file: &OpenFile) -> Result<Arc<ThreadGroup>> {
    let pid = &ops(file)?.pid;
    pid.process().or_else(|| pid.task().map(|t| t.group.clone())).ok_or(Errno::ESRCH)
}

/// `PIDFD_GET_INFO` without its size, the size of its first version, and bits of its mask (`linux/pidfd.h`).
const GET_INFO: u32 = 0xc000_ff0b;
const SIZE_MASK: u32 = 0x3fff_0000;
const INFO_SIZE: usize = 64;
const INFO_PID: u64 = 1;
const INFO_CREDS: u64 = 2;
const INFO_EXIT: u64 = 8;

impl PidFd {
    /// `struct pidfd_info`, for the parts that `asked` names.
    fn info(&self, reader: &Cred, pids: &PidNamespace, asked: u64) -> Result<[u8; INFO_SIZE]> {
        let mut out = [0u8; INFO_SIZE];
        let mut put = |at: usize, value: u32| out[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let mut mask = 0;
        match self.pid.task() {
            Some(task) => {
                let c = task.cred();
                let g = &task.group;
                let user = [c.uid, c.euid, c.suid, c.fsuid].map(|id| reader.seen_uid(id));
                let group = [c.gid, c.egid, c.sgid, c.fsgid].map(|id| reader.seen_gid(id));
                let ids = user.into_iter().zip(group).flat_map(|(u, g)| [u, g]);
                for (i, value) in [task.tid(), g.pid, g.ppid()].map(|n| pids.seen(n)).into_iter().chain(ids).enumerate()
                {
                    put(16 + 4 * i, value);
                }
                mask |= INFO_PID | INFO_CREDS;
            }
            None => {
                let group =
                    self.group.as_ref().filter(|_| asked & INFO_EXIT != 0 && !self.thread).ok_or(Errno::ESRCH)?;
                put(60, group.state.lock().exiting.unwrap_or(0) as u32);
                mask |= INFO_EXIT;
            }
        }
        out[..8].copy_from_slice(&mask.to_le_bytes());
        Ok(out)
    }
}

/// The pid namespace of the running task.
fn running_pids() -> Arc<PidNamespace> {
    let initial = || kernel().roots().pid.clone();
    work::running().map_or_else(initial, |task| task.group.id.namespace().clone())
}

impl FileOps for PidFd {
    fn has_positions(&self) -> bool {
        true
    }

    fn has_still_offset(&self) -> bool {
        false
    }

    fn poll(&self) -> Events {
        let Some(task) = self.pid.task() else { return Events::IN | Events::RDNORM | Events::HUP };
        // A thread that is not the leader is gone when it has ended.
        if task.tid() == task.group.pid && task.group.is_zombie() {
            Events::IN | Events::RDNORM
        } else {
            Events::empty()
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pid.exit_wait)
    }

    fn ioctl(&self, ctx: &OpCtx<'_>, _file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        let size = ((request & SIZE_MASK) >> 16) as usize;
        if request & !SIZE_MASK != GET_INFO || size < INFO_SIZE {
            return Err(Errno::ENOTTY.into());
        }
        if arg == 0 {
            return Err(Errno::EINVAL.into());
        }
        let asked = UserPtr::<u64>::new(arg).read()?;
        let info = self.info(ctx.cred, &running_pids(), asked)?;
        UserPtr::<u8>::new(arg).slice(INFO_SIZE).write_from(&info)?;
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
