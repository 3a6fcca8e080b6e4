//! `syslog(2)`: the log of the kernel that programs see. It says what this kernel is; what the kernel tells the
//! person who runs it is not for programs.

use crate::abi::{Errno, Result, SysResult};
use crate::cred::{UserNamespace, cap};
use crate::mm::UserPtr;
use crate::sync::{Events, WaitQueue};
use crate::task::{CurrentTask, kernel, uts};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::Ordering::SeqCst;

/// `SYSLOG_ACTION_*`.
const CLOSE: u32 = 0;
const OPEN: u32 = 1;
const READ: u32 = 2;
const READ_ALL: u32 = 3;
const READ_CLEAR: u32 = 4;
const CLEAR: u32 = 5;
const CONSOLE_OFF: u32 = 6;
const CONSOLE_ON: u32 = 7;
const CONSOLE_LEVEL: u32 = 8;
const SIZE_UNREAD: u32 = 9;
const SIZE_BUFFER: u32 = 10;

/// Size of the log as `SYSLOG_ACTION_SIZE_BUFFER` tells it.
const BUFFER: usize = 1 << 17;

/// Everything that was ever logged.
fn text() -> String {
    let cpus = crate::host::sched::cpus();
    format!(
        "<5>[    0.000000] Linux version {} (drupe) {}\n<6>[    0.000000] smp: Brought up 1 node, {cpus} CPUs\n",
        uts::RELEASE,
        uts::VERSION
    )
}

/// Copies the last bytes of the log that fit, from `start` on; how many.
fn copy(text: &str, start: usize, buf: UserPtr<u8>, len: usize) -> Result<usize> {
    let rest = text.as_bytes().get(start..).unwrap_or(&[]);
    let part = &rest[rest.len().saturating_sub(len)..];
    buf.slice(part.len()).write_from(part)?;
    Ok(part.len())
}

/// `syslog(2)`.
///
/// # Errors
/// `EPERM` without CAP_SYSLOG for all but reading everything, `EINVAL`, `EFAULT`; a restart when interrupted.
pub fn sys_syslog(cur: &CurrentTask, action: u32, buf: UserPtr<u8>, len: i32) -> SysResult<usize> {
    let log = kernel().syslog();
    let free = matches!(action, READ_ALL | SIZE_BUFFER);
    let privileged = || cur.cred().capable_in(UserNamespace::initial(), cap::SYSLOG);
    if action > SIZE_BUFFER {
        return Err(Errno::EINVAL.into());
    }
    if !free && !privileged() {
        return Err(Errno::EPERM.into());
    }
    if matches!(action, READ | READ_ALL | READ_CLEAR) && (buf.is_null() || len < 0) {
        return Err(Errno::EINVAL.into());
    }
    let (text, len) = (text(), len.max(0) as usize);
    Ok(match action {
        READ if len == 0 => 0,
        READ => {
            let rest = text.as_bytes().get(log.read.load(SeqCst)..).unwrap_or(&[]);
            if rest.is_empty() {
                // Nothing is ever added.
                let queue = WaitQueue::new();
                let _ = queue.wait_until(Events::all(), None, || None::<()>);
                return Err(crate::sync::Interrupted.into());
            }
            let part = &rest[..rest.len().min(len)];
            buf.slice(part.len()).write_from(part)?;
            log.read.fetch_add(part.len(), SeqCst);
            part.len()
        }
        READ_ALL => copy(&text, log.cleared.load(SeqCst), buf, len)?,
        READ_CLEAR => {
            let copied = copy(&text, log.cleared.load(SeqCst), buf, len)?;
            log.cleared.store(text.len(), SeqCst);
            copied
        }
        CLEAR => {
            log.cleared.store(text.len(), SeqCst);
            0
        }
        CONSOLE_LEVEL if !(1..=8).contains(&len) => return Err(Errno::EINVAL.into()),
        SIZE_UNREAD => text.len().saturating_sub(log.read.load(SeqCst)),
        SIZE_BUFFER => BUFFER,
        // There is no console whose level could matter.
        OPEN | CLOSE | CONSOLE_OFF | CONSOLE_ON | CONSOLE_LEVEL => 0,
        _ => return Err(Errno::EINVAL.into()),
    })
}
