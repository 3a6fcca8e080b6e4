//! The C interface: what `include/drupe.h` declares (cbindgen makes it from this file).
//!
//! Handles are opaque and belong to the caller until freed. A function that fails returns -1 (or
//! null), and [`drupe_error_message`] says why, per thread. Strings are NUL-terminated. Descriptors
//! that are passed in stay the caller's.
#![allow(non_camel_case_types)]

use crate::sandbox::{Allowance, Child, Command, Error, Jail, Network, Sandbox, SandboxBuilder, Stdio, shell_status};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// A sandbox: its settings before `drupe_sandbox_start`, a running kernel after.
pub struct drupe_sandbox {
    state: State,
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

/// A new sandbox with default settings: it sees the host's tree, and its writes stay in memory.
#[unsafe(no_mangle)]
pub extern "C" fn drupe_sandbox_new() -> *mut drupe_sandbox {
    Box::into_raw(Box::new(drupe_sandbox { state: State::Settings(Box::new(Sandbox::builder())) }))
}

/// The host directory that it sees as `/`, and whether writes reach it.
///
/// # Safety
/// `sandbox` is a live handle; `dir` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_root(
    sandbox: *mut drupe_sandbox,
    dir: *const c_char,
    writable: bool,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe {
        let dir = text(dir, "the root directory")?;
        change(sandbox, |b| b.root(dir).writable_root(writable))
    })
}

/// Makes the host's `source` appear at `target`.
///
/// # Safety
/// `sandbox` is a live handle; `source` and `target` are strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_bind(
    sandbox: *mut drupe_sandbox,
    source: *const c_char,
    target: *const c_char,
    read_only: bool,
) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe {
        let (source, target) = (text(source, "the source")?, text(target, "the target")?);
        change(sandbox, |b| b.bind(source, target, read_only))
    })
}

/// Mounts an empty file system that lives in memory at `target`.
///
/// # Safety
/// `sandbox` is a live handle; `target` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_tmpfs(sandbox: *mut drupe_sandbox, target: *const c_char) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe {
        let target = text(target, "the target")?;
        change(sandbox, |b| b.tmpfs(target))
    })
}

/// Gives it the host's network in place of one of its own.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_host_network(sandbox: *mut drupe_sandbox) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { change(sandbox, |b| b.network(Network::Host)) })
}

/// Publishes a TCP port of its loopback on the host: `[ADDR:]HOST:GUEST`.
///
/// # Safety
/// `sandbox` is a live handle; `port` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_publish(sandbox: *mut drupe_sandbox, port: *const c_char) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe {
        let port = text(port, "the port")?.to_string_lossy().parse().map_err(Error::Setting)?;
        change(sandbox, |b| b.publish(port))
    })
}

/// Lets it connect to a place beyond its own network: `HOST[:PORT]`. Of a sandbox that runs, only where it was started with
/// such a place.
///
/// # Safety
/// `sandbox` is a live handle; `place` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_allow(sandbox: *mut drupe_sandbox, place: *const c_char) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe {
        let place: Allowance = text(place, "the place")?.to_string_lossy().parse().map_err(Error::Setting)?;
        match running(sandbox) {
            Ok(running) => running.allow(&place).map(|()| 0),
            Err(_) => change(sandbox, |b| b.allow(place)),
        }
    })
}

/// Its host name.
///
/// # Safety
/// `sandbox` is a live handle; `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_hostname(sandbox: *mut drupe_sandbox, name: *const c_char) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe {
        let name = text(name, "the host name")?.to_string_lossy().into_owned();
        change(sandbox, |b| b.hostname(name))
    })
}

/// The name by which others reach it while it runs (`drupe ps`, `drupe exec`).
///
/// # Safety
/// `sandbox` is a live handle; `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_name(sandbox: *mut drupe_sandbox, name: *const c_char) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe {
        let name = text(name, "the name")?.to_string_lossy().into_owned();
        change(sandbox, |b| b.name(name))
    })
}

/// Memory that files in memory, its kernel and its processes may take together, in bytes; who takes too much is ended.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_memory(sandbox: *mut drupe_sandbox, bytes: u64) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { change(sandbox, |b| b.memory(bytes)) })
}

/// How many processes and threads it may have at once; 4,096 unless set.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_pids(sandbox: *mut drupe_sandbox, most: u32) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { change(sandbox, |b| b.pids(most)) })
}

/// How many descriptors each of its processes may have open.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_open_files(sandbox: *mut drupe_sandbox, most: u64) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { change(sandbox, |b| b.open_files(most)) })
}

/// The largest file that its processes may make, in bytes.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_file_size(sandbox: *mut drupe_sandbox, bytes: u64) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { change(sandbox, |b| b.file_size(bytes)) })
}

/// Ends it after so many milliseconds; calls that wait for something in it then fail with `ETIMEDOUT`.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_timeout(sandbox: *mut drupe_sandbox, milliseconds: u64) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { change(sandbox, |b| b.timeout(Duration::from_millis(milliseconds))) })
}

/// Whether it has a loopback network of its own.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_loopback(sandbox: *mut drupe_sandbox, on: bool) -> c_int {
    let network = if on { Network::Loopback } else { Network::None };
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { change(sandbox, |b| b.network(network)) })
}

/// Whether hot system call sites may be rewritten.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_rewrite(sandbox: *mut drupe_sandbox, on: bool) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { change(sandbox, |b| b.rewrite(on)) })
}

/// User and group of its processes.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_user(sandbox: *mut drupe_sandbox, uid: u32, gid: u32) -> c_int {
    // SAFETY: by the caller's promise.
    guard(-1, || unsafe { change(sandbox, |b| b.user(uid, gid)) })
}

/// `drupe_sandbox_set_jail`: every layer that the host offers and that costs little (the default).
pub const DRUPE_JAIL_AUTO: c_int = 0;
/// `drupe_sandbox_set_jail`: nothing starts on a host without Landlock, and no rewritten code is shared.
pub const DRUPE_JAIL_STRICT: c_int = 1;
/// `drupe_sandbox_set_jail`: the system call filter alone.
pub const DRUPE_JAIL_OFF: c_int = 2;

/// `drupe_sandbox_set_jail`: as `DRUPE_JAIL_AUTO`, and in namespaces of its own.
pub const DRUPE_JAIL_NAMESPACES: c_int = 3;

/// What holds its processes beyond the system call filter: one of `DRUPE_JAIL_…`.
///
/// # Safety
/// `sandbox` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_set_jail(sandbox: *mut drupe_sandbox, jail: c_int) -> c_int {
    guard(-1, || {
        let jail = match jail {
            DRUPE_JAIL_AUTO => Jail::Auto,
            DRUPE_JAIL_STRICT => Jail::Strict,
            DRUPE_JAIL_OFF => Jail::Off,
            DRUPE_JAIL_NAMESPACES => Jail::Namespaces,
            other => return Err(Error::Setting(format!("there is no jail number {other}"))),
        };
        // SAFETY: by the caller's promise.
        unsafe { change(sandbox, |b| b.jail(jail)) }
    })
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

fn stdio(fd: RawFd) -> Result<Stdio, Error> {
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

/// Reads a whole file of the sandbox. `*data` is to be freed with `drupe_free`.
///
/// # Safety
/// `sandbox` is a live handle, `path` a string, `data` and `len` point to writable memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_read_file(
    sandbox: *const drupe_sandbox,
    path: *const c_char,
    data: *mut *mut u8,
    len: *mut usize,
) -> c_int {
    guard(-1, || {
        if data.is_null() || len.is_null() {
            return Err(null("data or len"));
        }
        // SAFETY: by the caller's promise.
        let bytes = unsafe { running(sandbox)?.read_file(text(path, "the path")?)? };
        // SAFETY: by the caller's promise; the allocation is never zero bytes long.
        unsafe {
            let copy = libc::malloc(bytes.len().max(1)).cast::<u8>();
            if copy.is_null() {
                return Err(Error::host("allocate memory", std::io::Error::from_raw_os_error(libc::ENOMEM)));
            }
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
            data.write(copy);
            len.write(bytes.len());
        }
        Ok(0)
    })
}

/// Creates or replaces a file of the sandbox.
///
/// # Safety
/// `sandbox` is a live handle, `path` a string, `data` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_sandbox_write_file(
    sandbox: *const drupe_sandbox,
    path: *const c_char,
    data: *const u8,
    len: usize,
) -> c_int {
    guard(-1, || {
        if data.is_null() && len > 0 {
            return Err(null("data"));
        }
        // SAFETY: by the caller's promise.
        let bytes = if len == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(data, len) } };
        // SAFETY: by the caller's promise.
        unsafe { running(sandbox)?.write_file(text(path, "the path")?, bytes) }.map(|()| 0)
    })
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

/// Frees what `drupe_sandbox_read_file` gave.
///
/// # Safety
/// `data` is null or came from there, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn drupe_free(data: *mut u8) {
    // SAFETY: by the caller's promise.
    unsafe { libc::free(data.cast()) };
}
