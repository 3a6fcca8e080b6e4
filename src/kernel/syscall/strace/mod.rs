//! `--strace`: a line for each system call, in the manner of strace(1).
//!
//! Arguments that go in are decoded before the call, those that come out after it. Off, it costs nothing.

mod decode;
mod names;
#[cfg(test)]
mod tests;

use super::table::{COUNT, TABLE, filtered};
use crate::abi::sigctx::SigInfo;
use crate::abi::{Restart, SysError, SysResult, linux};
use crate::host::files;
use crate::task::CurrentTask;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};
use decode::{CallName, Outcome};

static ON: AtomicBool = AtomicBool::new(false);
static FD: AtomicI32 = AtomicI32::new(-1);
/// Calls to trace, a bit each.
static WANTED: [AtomicU64; COUNT.div_ceil(64)] = [const { AtomicU64::new(0) }; COUNT.div_ceil(64)];

/// Whether anything is traced.
#[inline(always)]
pub fn on() -> bool {
    ON.load(Relaxed)
}

/// Starts tracing to a host descriptor: these calls, all for an empty list, all but those where the names begin
/// with `!`.
pub fn init<S: AsRef<str>>(calls: &[S], fd: i32) {
    FD.store(fd, Relaxed);
    let only_some = calls.iter().any(|c| !c.as_ref().starts_with('!'));
    for word in &WANTED {
        word.store(if only_some { 0 } else { u64::MAX }, Relaxed);
    }
    for call in calls {
        let (name, wanted) = match call.as_ref().strip_prefix('!') {
            Some(name) => (name, false),
            None => (call.as_ref(), true),
        };
        let Some(nr) = TABLE.iter().position(|e| !e.name().is_empty() && e.name() == name) else {
            put(&format!("drupe: --strace: there is no system call '{name}'\n"));
            continue;
        };
        let bit = 1 << (nr % 64);
        if wanted {
            WANTED[nr / 64].fetch_or(bit, Relaxed)
        } else {
            WANTED[nr / 64].fetch_and(!bit, Relaxed)
        };
    }
    ON.store(true, Relaxed);
    crate::task::seccomp::look_at_calls();
}

fn wanted(nr: u64) -> bool {
    let word = WANTED.get((nr / 64) as usize).or(WANTED.last());
    // Numbers beyond the table go with the last one in it that has no name.
    word.is_some_and(|w| nr >= COUNT as u64 && w.load(Relaxed) >> 63 != 0 || w.load(Relaxed) >> (nr % 64) & 1 != 0)
}

fn put(line: &str) {
    files::write_text(FD.load(Relaxed), line.as_bytes());
}

/// Runs a call, and says what was asked and what came of it.
pub fn traced(cur: &CurrentTask, nr: u64, args: &[u64; 6]) -> SysResult<u64> {
    if !wanted(nr) {
        return filtered(cur, nr, args);
    }
    if unreturning(nr) {
        // What is on the heap must be gone when the stack is.
        put(&before(cur, nr, args));
        let result = filtered(cur, nr, args);
        put(&format!("[{:5}] <... {}> = {}\n", cur.tid(), CallName(nr), Outcome(nr, &result)));
        return result;
    }
    let tid = cur.tid();
    let asked = decode::before(nr, args);
    let result = filtered(cur, nr, args);
    let shown = decode::after(nr, args, asked, result.ok());
    put(&format!("[{tid:5}] {}({shown}) = {}\n", CallName(nr), Outcome(nr, &result)));
    result
}

/// The line of a call that comes back only if it fails.
fn before(cur: &CurrentTask, nr: u64, args: &[u64; 6]) -> String {
    let shown = decode::after(nr, args, decode::before(nr, args), None);
    format!("[{:5}] {}({shown}) = ?\n", cur.tid(), CallName(nr))
}

fn unreturning(nr: u64) -> bool {
    matches!(nr as u32, linux::__NR_exit | linux::__NR_exit_group | linux::__NR_execve | linux::__NR_execveat)
}

/// A signal is about to be delivered.
pub fn signal(cur: &CurrentTask, info: &SigInfo) {
    let mut line = format!("[{:5}] --- {} {{si_code={}", cur.tid(), names::Signal(info.signo as u64), info.code);
    let _ = match info.signo as u32 {
        linux::SIGSEGV | linux::SIGBUS | linux::SIGILL | linux::SIGFPE | linux::SIGTRAP if info.code > 0 => {
            write!(line, ", si_addr={:#x}", info.fields[0])
        }
        _ => write!(line, ", si_pid={}, si_uid={}", info.fields[0] as u32, info.fields[0] >> 32),
    };
    line.push_str("} ---\n");
    put(&line);
}

impl core::fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.1 {
            Ok(value) if decode::gives_address(self.0) => write!(f, "{value:#x}"),
            Ok(value) => write!(f, "{}", *value as i64),
            Err(SysError::Errno(e)) => write!(f, "-1 {e}"),
            Err(SysError::Restart(how)) => f.write_str(match how {
                Restart::Sys => "? ERESTARTSYS",
                Restart::NoIntr => "? ERESTARTNOINTR",
                Restart::NoHand => "? ERESTARTNOHAND",
                Restart::Block => "? ERESTART_RESTARTBLOCK",
            }),
        }
    }
}
