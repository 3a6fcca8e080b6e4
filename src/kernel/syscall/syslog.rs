//! `syslog(2)`: the log of the kernel that programs see (`task::syslog`).

use crate::abi::{Errno, Result, SysResult};
use crate::cred::{UserNamespace, cap};
use crate::mm::UserPtr;
use crate::sync::Events;
use crate::task::syslog::{RESTRICTED, SIZE, Syslog};
use crate::task::{CurrentTask, kernel};
use alloc::string::String;

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
    let free = matches!(action, READ_ALL | SIZE_BUFFER) && RESTRICTED.get() == 0;
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
    let len = len.max(0) as usize;
    Ok(match action {
        READ if len == 0 => 0,
        READ => {
            let part = next(log, len)?;
            buf.slice(part.len()).write_from(part.as_bytes())?;
            part.len()
        }
        READ_ALL | READ_CLEAR => {
            let (text, _, cleared) = log.all();
            let copied = copy(&text, cleared, buf, len)?;
            if action == READ_CLEAR {
                log.clear(text.len());
            }
            copied
        }
        CLEAR => {
            log.clear(log.all().0.len());
            0
        }
        CONSOLE_LEVEL if !(1..=8).contains(&len) => return Err(Errno::EINVAL.into()),
        SIZE_UNREAD => {
            let (text, read, _) = log.all();
            text.len().saturating_sub(read)
        }
        SIZE_BUFFER => SIZE,
        // There is no console whose level could matter.
        OPEN | CLOSE | CONSOLE_OFF | CONSOLE_ON | CONSOLE_LEVEL => 0,
        _ => return Err(Errno::EINVAL.into()),
    })
}

/// What was said since it was last read, `most` bytes of it; waits until there is something.
fn next(log: &Syslog, most: usize) -> SysResult<String> {
    log.readers
        .wait_until(Events::all(), None, || Some(log.take(most)).filter(|part| !part.is_empty()))
        .map_err(|_| crate::sync::Interrupted.into())
}
