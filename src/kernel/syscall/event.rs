//! Pipes and event descriptors.

use super::{Fd, at, files};
use crate::abi::linux::{O_CLOEXEC, O_DIRECT, O_NONBLOCK};
use crate::abi::{Errno, SysResult};
use crate::fs::{eventfd, pipe};
use crate::mm::UserPtr;
use crate::task::CurrentTask;

/// `pipe2(2)`.
pub fn sys_pipe2(cur: &CurrentTask, fds: UserPtr<[i32; 2]>, flags: u32) -> SysResult<()> {
    at::only(flags, O_CLOEXEC | O_NONBLOCK | O_DIRECT)?;
    if flags & O_DIRECT != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (read, write) = pipe::pipe(&cur.op_ctx(), flags & O_NONBLOCK);
    let a = files::install(cur, read, flags)?;
    let b = match files::install(cur, write, flags) {
        Ok(b) => b,
        Err(e) => {
            let _ = cur.files().close(&cur.op_ctx(), a.0);
            return Err(e);
        }
    };
    if let Err(e) = fds.write([a.0, b.0]) {
        let _ = cur.files().close(&cur.op_ctx(), a.0);
        let _ = cur.files().close(&cur.op_ctx(), b.0);
        return Err(e.into());
    }
    Ok(())
}

/// `pipe(2)`.
pub fn sys_pipe(cur: &CurrentTask, fds: UserPtr<[i32; 2]>) -> SysResult<()> {
    sys_pipe2(cur, fds, 0)
}

/// `eventfd2(2)`.
pub fn sys_eventfd2(cur: &CurrentTask, initial: u32, flags: u32) -> SysResult<Fd> {
    let file = eventfd::eventfd(&cur.op_ctx(), initial, flags)?;
    files::install(cur, file, flags)
}

/// `eventfd(2)`.
pub fn sys_eventfd(cur: &CurrentTask, initial: u32) -> SysResult<Fd> {
    sys_eventfd2(cur, initial, 0)
}
