//! Settings of a sandbox before its start.

use super::{change, drupe_sandbox, guard, running, text};
use crate::sandbox::{Allowance, Error, Jail, Network};
use std::ffi::{c_char, c_int};
use std::time::Duration;

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
