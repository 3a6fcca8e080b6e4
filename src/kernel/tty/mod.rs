//! Terminals.
//!
//! A terminal is known to job control by [`crate::task::session::Terminal`]: its device number and the session that it
//! controls. There are two kinds:
//!
//! - [`pty::Pty`], a pair of a master and a slave with a line discipline of ours. One lock guards both sides: a write to
//!   the master runs the line discipline at once, echo included, and what it cannot take waits in a bounded queue.
//!   `discipline` and `output` are that state, without processes and guest memory; signals and wakes are collected
//!   there and follow without the lock. Where ptys have their names is `fs::devpts`.
//! - [`host::HostTerminal`], one that was handed in: its line discipline is the host's, its sessions are ours.
//!
//! What a terminal's foreground group is sent, and who may read, write and change it, is in `task::session`.

pub mod discipline;
pub mod host;
pub mod ioctl;
pub mod job;
pub mod line;
pub mod output;
pub mod pty;
mod slave;
pub mod termios;

use crate::abi::Result;
use crate::cred::{Cred, cap};
use crate::task::session::Terminal;
use crate::task::{lookup_group, session};
use crate::vfs::OpCtx;
use alloc::sync::Arc;

/// The caller's controlling terminal (`/dev/tty`).
pub fn controlling(ctx: &OpCtx<'_>) -> Option<Arc<dyn Terminal>> {
    lookup_group(ctx.tgid)?.terminal()
}

/// `vhangup(2)`.
///
/// # Errors
/// `EPERM`.
pub fn hang_up_own(ctx: &OpCtx<'_>) -> Result {
    check(ctx.cred, cap::SYS_TTY_CONFIG)?;
    if let Some(terminal) = controlling(ctx) {
        hang_up(terminal);
    }
    Ok(())
}

/// Hangs a terminal up: its descriptors are of no more use, its session loses it.
pub fn hang_up(terminal: Arc<dyn Terminal>) {
    match terminal.as_any().downcast_ref::<pty::Pty>() {
        Some(pty) => pty.hang_up(),
        None => session::hang_up(&*terminal),
    }
}

fn check(cred: &Cred, capability: u32) -> Result {
    if cred.capable(capability) { Ok(()) } else { Err(crate::abi::Errno::EPERM) }
}
