//! Descriptors of processes (`pidfd_open(2)`).

use crate::abi::linux::{self, O_NONBLOCK};
use crate::abi::{Errno, Result};
use crate::sync::{Events, WaitQueue};
use crate::task::ThreadGroup;
use crate::vfs::{FileOps, OpCtx, OpenFile, anon_file};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

struct PidFd(Arc<ThreadGroup>);

/// A descriptor for a process.
pub fn pidfd(ctx: &OpCtx<'_>, group: &Arc<ThreadGroup>, flags: u32) -> Arc<OpenFile> {
    anon_file("pidfd", Box::new(PidFd(group.clone())), linux::O_RDWR | flags & O_NONBLOCK, ctx)
}

/// The process behind an open file.
///
/// # Errors
/// `EBADF` if it is no pidfd.
pub fn of_file(file: &OpenFile) -> Result<Arc<ThreadGroup>> {
    file.ops.as_any().downcast_ref::<PidFd>().map(|p| p.0.clone()).ok_or(Errno::EBADF)
}

impl FileOps for PidFd {
    fn poll(&self) -> Events {
        if self.0.is_zombie() { Events::IN | Events::RDNORM } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.exit_wait)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
