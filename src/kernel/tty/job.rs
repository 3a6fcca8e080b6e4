//! Job control by `ioctl(2)`, the same for every kind of terminal (`tty_jobctrl_ioctl`).

use crate::abi::linux::SIGTTOU;
use crate::abi::{Errno, SysError, SysResult};
use crate::cred::cap;
use crate::mm::UserPtr;
use crate::task::session::{self, Terminal};
use crate::vfs::{OpCtx, OpenFile};
use alloc::sync::Arc;
use linux_raw_sys::ioctl;

/// Whether a process in the background may change the terminal.
///
/// # Errors
/// `EIO`, a restart after SIGTTOU.
pub fn check_change(ctx: &OpCtx<'_>, terminal: &dyn Terminal) -> SysResult<()> {
    session::check_background(ctx.tgid, ctx.tid, terminal, SIGTTOU)
}

/// Requests of job control; `None` for others. `master`: through the master of a pty, whose callers need not belong to
/// the session.
pub fn ioctl(
    ctx: &OpCtx<'_>,
    file: &OpenFile,
    terminal: &Arc<dyn Terminal>,
    master: bool,
    request: u32,
    arg: u64,
) -> Option<SysResult<u64>> {
    let put = |v: crate::abi::Result<u32>| -> SysResult<u64> {
        UserPtr::<u32>::new(arg).write(v?)?;
        Ok(0)
    };
    Some(match request {
        ioctl::TIOCGPGRP => put(session::foreground(ctx.tgid, &**terminal, master)),
        ioctl::TIOCGSID => put(session::session_id(ctx.tgid, &**terminal, master)),
        ioctl::TIOCSPGRP => set_foreground(ctx, terminal, arg),
        ioctl::TIOCSCTTY => {
            let admin = ctx.cred.capable(cap::SYS_ADMIN);
            session::set_controlling(ctx.tgid, terminal, arg == 1 && admin, file.readable() || admin)
                .map(|()| 0)
                .map_err(Into::into)
        }
        ioctl::TIOCNOTTY if master => Err(Errno::ENOTTY.into()),
        ioctl::TIOCNOTTY => session::give_up(ctx.tgid, &**terminal).map(|()| 0).map_err(Into::into),
        _ => return None,
    })
}

fn set_foreground(ctx: &OpCtx<'_>, terminal: &Arc<dyn Terminal>, arg: u64) -> SysResult<u64> {
    match check_change(ctx, &**terminal) {
        Err(SysError::Errno(Errno::EIO)) => return Err(Errno::ENOTTY.into()),
        other => other?,
    }
    let pgid = UserPtr::<i32>::new(arg).read()?;
    session::set_foreground(ctx.tgid, &**terminal, pgid)?;
    Ok(0)
}
