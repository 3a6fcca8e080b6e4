//! The C interface: what `include/drupe.h` declares (cbindgen makes it from these files).
//!
//! Handles are opaque and belong to the caller until freed. A function that fails returns -1 (or
//! null), and [`drupe_error_message`] says why, per thread. Strings are NUL-terminated. Descriptors
//! that are passed in stay the caller's.
#![allow(non_camel_case_types)]

mod files;
mod process;
mod save;
mod settings;

pub use files::*;
pub use process::*;
pub use save::*;
pub use settings::*;

use crate::sandbox::{Child, Error, Sandbox, SandboxBuilder, shell_status};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

/// A sandbox: its settings before `drupe_sandbox_start`, a running kernel after.
pub struct drupe_sandbox {
    state: State,
    save_error: OnceLock<CString>,
}

enum State {
    Settings(Box<SandboxBuilder>),
    Running(Sandbox),
    Over,
}

/// A process in a sandbox.
pub struct drupe_process {
    child: Child,
}

/// Errors of a thread whose text stays valid.
const REMEMBERED: usize = 16;

thread_local! {
    static LAST: RefCell<VecDeque<(c_int, CString)>> = const { RefCell::new(VecDeque::new()) };
}

fn remember(e: &Error) {
    let text = CString::new(e.to_string().replace('\0', " ")).unwrap_or_default();
    LAST.with(|last| {
        let mut last = last.borrow_mut();
        last.truncate(REMEMBERED - 1);
        last.push_front((e.errno().unwrap_or(libc::EINVAL), text));
    });
}

/// Runs `f`; on an error remembers it and returns `failed`.
fn guard<T>(failed: T, f: impl FnOnce() -> Result<T, Error>) -> T {
    f().unwrap_or_else(|e| {
        remember(&e);
        failed
    })
}

fn null(what: &str) -> Error {
    Error::Setting(format!("{what} is a null pointer"))
}

/// # Safety
/// `text` is null or a NUL-terminated string that outlives the result.
unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a OsStr, Error> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: by the caller's promise.
    Ok(OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes()))
}

/// # Safety
/// `list` is null or a null-terminated array of NUL-terminated strings that outlive the result.
unsafe fn list<'a>(list: *const *const c_char) -> Vec<&'a OsStr> {
    let mut out = Vec::new();
    if list.is_null() {
        return out;
    }
    for i in 0.. {
        // SAFETY: by the caller's promise there is a null at the end, and we have not passed it.
        let Ok(item) = (unsafe { text(*list.add(i), "item") }) else { break };
        out.push(item);
    }
    out
}

/// # Safety
/// `sandbox` is null or a live handle that no other thread uses now.
unsafe fn settings<'a>(sandbox: *mut drupe_sandbox) -> Result<&'a mut drupe_sandbox, Error> {
    // SAFETY: by the caller's promise.
    let sandbox = unsafe { sandbox.as_mut() }.ok_or_else(|| null("the sandbox"))?;
    match sandbox.state {
        State::Settings(_) => Ok(sandbox),
        _ => Err(Error::AlreadyStarted),
    }
}

/// Changes the settings of a sandbox that was not started yet.
///
/// # Safety
/// As [`settings`].
unsafe fn change(
    sandbox: *mut drupe_sandbox,
    f: impl FnOnce(SandboxBuilder) -> SandboxBuilder,
) -> Result<c_int, Error> {
    // SAFETY: by the caller's promise.
    let sandbox = unsafe { settings(sandbox) }?;
    if let State::Settings(builder) = std::mem::replace(&mut sandbox.state, State::Over) {
        sandbox.state = State::Settings(Box::new(f(*builder)));
    }
    Ok(0)
}

/// # Safety
/// `sandbox` is null or a live handle that is not freed meanwhile.
unsafe fn running<'a>(sandbox: *const drupe_sandbox) -> Result<&'a Sandbox, Error> {
    // SAFETY: by the caller's promise.
    match unsafe { sandbox.as_ref() }.map(|s| &s.state) {
        None => Err(null("the sandbox")),
        Some(State::Running(sandbox)) => Ok(sandbox),
        Some(State::Settings(_)) => Err(Error::NotStarted),
        Some(State::Over) => Err(Error::Ended("it could not be started".into())),
    }
}

/// # Safety
/// `process` is null or a live handle that no other thread uses now.
unsafe fn child<'a>(process: *mut drupe_process) -> Result<&'a mut Child, Error> {
    // SAFETY: by the caller's promise.
    unsafe { process.as_mut() }.map(|p| &mut p.child).ok_or_else(|| null("the process"))
}

/// Why the last call on this thread that failed did so; an empty string if none has. The text stays valid until 16
/// more calls on this thread have failed, so that it may stand in one expression with other calls.
#[unsafe(no_mangle)]
pub extern "C" fn drupe_error_message() -> *const c_char {
    LAST.with(|last| last.borrow().front().map_or(c"".as_ptr(), |(_, text)| text.as_ptr()))
}

/// The error number of the last call on this thread that failed; 0 if none has.
#[unsafe(no_mangle)]
pub extern "C" fn drupe_error_number() -> c_int {
    LAST.with(|last| last.borrow().front().map_or(0, |&(errno, _)| errno))
}

fn handle(state: State) -> *mut drupe_sandbox {
    Box::into_raw(Box::new(drupe_sandbox { state, save_error: OnceLock::new() }))
}

fn of_running(sandbox: Sandbox) -> *mut drupe_sandbox {
    handle(State::Running(sandbox))
}

/// A new sandbox with default settings: it sees the host's tree, and its writes stay in memory.
#[unsafe(no_mangle)]
pub extern "C" fn drupe_sandbox_new() -> *mut drupe_sandbox {
    handle(State::Settings(Box::new(Sandbox::builder())))
}

/// Boots its kernel. A sandbox starts once; one that failed to start can only be freed.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_start(sandbox: *mut drupe_sandbox) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe {
        let sandbox = settings(sandbox)?;
        if let State::Settings(builder) = std::mem::replace(&mut sandbox.state, State::Over) {
            sandbox.state = State::Running(builder.start()?);
        }
        Ok(0)
    })
}

/// Suspends every process; nests.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_pause(sandbox: *const drupe_sandbox) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { running(sandbox) }?.pause().map(|()| 0))
}

/// Undoes one pause.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_unpause(sandbox: *const drupe_sandbox) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { running(sandbox) }?.unpause().map(|()| 0))
}

/// Waits for the first process that was started. Its status as a shell tells it: the exit code, or
/// 128 and the number of the signal that killed it.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_wait(sandbox: *const drupe_sandbox) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { running(sandbox) }?.wait().map(shell_status))
}

/// Ends the sandbox and every process in it, and frees the handle. Null is ignored.
///
/// # Safety
/// `sandbox` is null or a live handle, not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_free(sandbox: *mut drupe_sandbox) {
    if !sandbox.is_null() {
        // SAFETY: by the caller's promise it came from `drupe_sandbox_new` and is not used again.
        drop(unsafe { Box::from_raw(sandbox) });
    }
}
