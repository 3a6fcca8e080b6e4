//! Programs in a sandbox.

use super::{child, drupe_process, drupe_sandbox, guard, list, running, text};
use crate::sandbox::{Command, Error, Stdio, shell_status};
use std::ffi::{OsStr, c_char, c_int};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// `drupe_spawn_options.stdin_fd` and so on: the caller's own stream.
pub const DRUPE_STDIO_INHERIT: c_int = -1;
/// The null device.
pub const DRUPE_STDIO_NULL: c_int = -2;
/// Not open at all.
pub const DRUPE_STDIO_CLOSED: c_int = -3;

/// How a process is started. All zeros and nulls, with the three descriptors set, is a good start:
/// see `drupe_spawn_defaults`.
#[repr(C)]
pub struct drupe_spawn_options {
    /// Null-terminated list of `KEY=VALUE` strings, or null for the caller's environment.
    pub env: *const *const c_char,
    /// Absolute path in the sandbox, or null for the default.
    pub cwd: *const c_char,
    /// A descriptor of the caller, `DRUPE_STDIO_INHERIT`, `DRUPE_STDIO_NULL` or `DRUPE_STDIO_CLOSED`.
    pub stdin_fd: c_int,
    /// As `stdin_fd`.
    pub stdout_fd: c_int,
    /// As `stdin_fd`.
    pub stderr_fd: c_int,
}

/// Fills in the defaults: the caller's environment and streams.
///
/// # Safety
/// `options` points to writable memory of that type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_spawn_defaults(options: *mut drupe_spawn_options) {
    if options.is_null() {
        return;
    }
    // SAFETY: by the caller's promise.
    unsafe {
        options.write(drupe_spawn_options {
            env: std::ptr::null(),
            cwd: std::ptr::null(),
            stdin_fd: DRUPE_STDIO_INHERIT,
            stdout_fd: DRUPE_STDIO_INHERIT,
            stderr_fd: DRUPE_STDIO_INHERIT,
        });
    }
}

pub(super) fn stdio(fd: RawFd) -> Result<Stdio, Error> {
    match fd {
        DRUPE_STDIO_INHERIT => Ok(Stdio::Inherit),
        DRUPE_STDIO_NULL => Ok(Stdio::Null),
        DRUPE_STDIO_CLOSED => Ok(Stdio::Closed),
        fd if fd >= 0 => {
            // SAFETY: only borrowed to be copied; the caller keeps it open during this call.
            let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
            copy.map(Stdio::Fd).map_err(|e| Error::host(format!("use descriptor {fd}"), e))
        }
        fd => Err(Error::Setting(format!("not a descriptor: {fd}"))),
    }
}

/// # Safety
/// `options` is null or valid, its strings too.
unsafe fn apply(command: &mut Command, options: *const drupe_spawn_options) -> Result<(), Error> {
    // SAFETY: by the caller's promise.
    let Some(options) = (unsafe { options.as_ref() }) else { return Ok(()) };
    if !options.env.is_null() {
        command.env_clear();
        // SAFETY: by the caller's promise.
        for pair in unsafe { list(options.env) } {
            let bytes = pair.as_bytes();
            let at = bytes.iter().position(|&b| b == b'=');
            let at = at.ok_or_else(|| Error::Setting(format!("no `=` in {pair:?}")))?;
            command.env(OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..]));
        }
    }
    if !options.cwd.is_null() {
        // SAFETY: by the caller's promise.
        command.current_dir(unsafe { text(options.cwd, "the directory") }?);
    }
    command.stdin(stdio(options.stdin_fd)?).stdout(stdio(options.stdout_fd)?).stderr(stdio(options.stderr_fd)?);
    Ok(())
}

/// Starts a program. `argv` is a null-terminated list, the program first; a name without a slash is
/// looked up along `PATH` in the sandbox. `options` may be null.
///
/// # Safety
/// `sandbox` is a live handle; `argv` and `options` are as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_spawn(
    sandbox: *const drupe_sandbox,
    argv: *const *const c_char,
    options: *const drupe_spawn_options,
) -> *mut drupe_process {
    guard(std::ptr::null_mut(), || {
        // SAFETY: by the caller's promise.
        let (sandbox, argv) = unsafe { (running(sandbox)?, list(argv)) };
        let (program, args) = argv.split_first().ok_or_else(|| Error::Setting("there is no program in argv".into()))?;
        let mut command = sandbox.command(program);
        command.args(args);
        // SAFETY: by the caller's promise.
        unsafe { apply(&mut command, options) }?;
        Ok(Box::into_raw(Box::new(drupe_process { child: command.spawn()? })))
    })
}

/// The process's id in the sandbox.
///
/// # Safety
/// `process` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_process_id(process: *mut drupe_process) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || Ok(unsafe { child(process) }?.id() as c_int))
}

/// Waits for its end; the result is as of `drupe_sandbox_wait`.
///
/// # Safety
/// `process` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_process_wait(process: *mut drupe_process) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { child(process) }?.wait().map(shell_status))
}

/// 1 and its status in `*status` if it has ended, 0 if not.
///
/// # Safety
/// `process` is a live handle, `status` null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_process_try_wait(process: *mut drupe_process, status: *mut c_int) -> c_int {
    guard(-1, || {
        // SAFETY: by the caller's promise.
        let Some(ended) = unsafe { child(process) }?.try_wait()? else { return Ok(0) };
        if !status.is_null() {
            // SAFETY: by the caller's promise.
            unsafe { status.write(shell_status(ended)) };
        }
        Ok(1)
    })
}

/// As `drupe_process_try_wait`, after waiting for its end for up to `milliseconds`.
///
/// # Safety
/// `process` is a live handle, `status` null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_process_wait_timeout(
    process: *mut drupe_process,
    milliseconds: u64,
    status: *mut c_int,
) -> c_int {
    guard(-1, || {
        // SAFETY: by the caller's promise.
        let child = unsafe { child(process) }?;
        let Some(ended) = child.wait_timeout(Duration::from_millis(milliseconds))? else { return Ok(0) };
        if !status.is_null() {
            // SAFETY: by the caller's promise.
            unsafe { status.write(shell_status(ended)) };
        }
        Ok(1)
    })
}

/// Sends it a signal. That a process has ended already is no error for SIGKILL.
///
/// # Safety
/// `process` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_process_kill(process: *mut drupe_process, signal: c_int) -> c_int {
    guard(-1, || {
        // SAFETY: by the caller's promise.
        let child = unsafe { child(process) }?;
        if signal == libc::SIGKILL { child.kill() } else { child.signal(signal) }.map(|()| 0)
    })
}

/// Frees the handle; the process goes on. Null is ignored.
///
/// # Safety
/// `process` is null or a live handle, not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_process_free(process: *mut drupe_process) {
    if !process.is_null() {
        // SAFETY: by the caller's promise it came from `drupe_sandbox_spawn` and is not used again.
        drop(unsafe { Box::from_raw(process) });
    }
}
