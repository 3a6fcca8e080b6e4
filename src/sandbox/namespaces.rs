//! Namespaces: the supervisor, and with it every process of the sandbox, leaves the host's.
//!
//! Mounts: the root directory becomes an empty one that holds `/proc` alone, and what was given is there only by the
//! sandbox's descriptors, each a copy of its mounts that nothing leads out of (`..` ends at its top), read-only where
//! it was given so. A host without Landlock, or a hole in it, opens no more than that. Network (unless it was given), System V IPC, host
//! name and control groups: empty, or copies. User: where the user is not privileged, since only that allows the
//! others; it maps the user alone.
//!
//! Processes: the supervisor becomes the first of a pid namespace ([`leave_pids`]) where it is a process of its own. A
//! process that stays behind, the keeper, waits for it, since the holder knows that one. What is in there can neither name nor signal
//! a process outside, and ends with the supervisor. `/proc` is one of that namespace.

use super::error::{Error, Result};
use super::{open_path, supervisor};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the sandbox has of the host's tree.
pub struct Given {
    /// The descriptor, which is replaced by the copy's.
    pub fd: RawFd,
    /// Whether what lies there may be changed.
    pub writable: bool,
    /// Where it appears in the new root, if anywhere.
    pub at: Option<&'static str>,
}

/// Name of `/proc` in the new root.
pub const PROC: &str = "proc";

const EMPTY: *const libc::c_char = c"".as_ptr();
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

fn check(ret: libc::c_long, what: &str) -> Result<i32> {
    match ret {
        -1 => Err(failed(what, &io::Error::last_os_error())),
        n => Ok(n as i32),
    }
}

fn failed(what: &str, e: &io::Error) -> Error {
    Error::Unsupported(format!("namespaces: it refuses to {what} ({e})"))
}

/// Becomes the first process of a pid namespace, in a user namespace of its own where the user is not privileged; the
/// calling process, which must have one thread and keeps nothing open, stays behind as the keeper, for `limit` at most.
///
/// # Errors
/// A host that has none, or does not let this user make them.
pub fn leave_pids(limit: Option<Duration>) -> Result {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let plain = libc::CLONE_NEWPID | libc::SIGCHLD;
    // SAFETY: as fork(2), in a process with one thread: nobody else has the allocator's locks.
    let clone = |flags: i32| check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) }, "make one of pids");
    let (made, own_user) = match clone(plain) {
        Ok(pid) => (pid, false),
        Err(_) => (clone(plain | libc::CLONE_NEWUSER)?, true),
    };
    if made != 0 {
        supervisor::keep(made, limit);
    }
    // SAFETY: a plain number. Whoever stays behind ends with the holder, and this process with it.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if own_user { map_user(uid, gid).map_err(|e| failed("map the user", &e)) } else { Ok(()) }
}

/// Whether this process is the first of a pid namespace by [`leave_pids`].
fn is_first() -> bool {
    std::process::id() == 1
}

/// Leaves the host's namespaces; not that of its network with `network`. The calling process must have one thread.
///
/// # Errors
/// A host that has none, or does not let this user make them; what was given and is not there any more.
pub fn enter(given: &[Given], network: bool) -> Result {
    let places = given.iter().map(place).collect::<Result<Vec<_>>>()?;
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let net = if network { 0 } else { libc::CLONE_NEWNET };
    let others = libc::CLONE_NEWNS | net | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    // SAFETY: plain numbers.
    let privileged = unsafe { libc::unshare(others) } == 0;
    if !privileged {
        // SAFETY: as above.
        check(unsafe { libc::unshare(libc::CLONE_NEWUSER | others) }.into(), "make them")?;
        map_user(uid, gid).map_err(|e| failed("map the user", &e))?;
    }
    let trees = copies(given, &places)?;
    new_root(given, &trees)?;
    replace(given, trees)
}

/// Leaves the host's mounts alone, so that no name leads out of what was given, where that can be: a user who may mount.
/// Whether it was done. The calling process must have one thread.
///
/// # Errors
/// The host's, where the descriptors cannot be replaced.
pub fn leave_mounts(given: &[Given]) -> Result<bool> {
    let prepare = || -> Result<Vec<OwnedFd>> {
        let places = given.iter().map(place).collect::<Result<Vec<_>>>()?;
        // SAFETY: a plain number.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into(), "make one of mounts")?;
        copies(given, &places)
    };
    let Ok(trees) = prepare() else { return Ok(false) };
    if new_root(given, &trees).is_err() {
        // SAFETY: constant strings. What was mounted over it is in nobody else's namespace.
        unsafe {
            libc::umount2(TOP.as_ptr(), libc::MNT_DETACH);
            libc::chdir(c"/".as_ptr());
        }
        return Ok(false);
    }
    replace(given, trees).map(|()| true)
}

/// Copies of the mounts of what was given, in a namespace that has just been made.
fn copies(given: &[Given], places: &[PathBuf]) -> Result<Vec<OwnedFd>> {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: constant strings.
    let ret = unsafe { libc::mount(EMPTY, c"/".as_ptr(), EMPTY, private, std::ptr::null()) };
    check(ret.into(), "keep mounts apart")?;
    let tree =
        |(g, path): (&Given, &PathBuf)| if g.at == Some(PROC) && is_first() { own_proc() } else { copy(g, path) };
    given.iter().zip(places).map(tree).collect()
}

/// Puts the copies in the place of the originals.
fn replace(given: &[Given], trees: Vec<OwnedFd>) -> Result {
    for (g, tree) in given.iter().zip(trees) {
        // SAFETY: puts the copy in the place of the original, by whose number it is known.
        check(unsafe { libc::dup3(tree.as_raw_fd(), g.fd, libc::O_CLOEXEC) }.into(), "replace a descriptor")?;
    }
    Ok(())
}

/// Where something lies that was given.
fn place(given: &Given) -> Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", given.fd)).map_err(|e| Error::host("look where a bind lies", e))
}

/// Maps the user, and no other, to itself.
fn map_user(uid: u32, gid: u32) -> io::Result<()> {
    match fs::write("/proc/self/setgroups", "deny") {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// A copy of the mounts at and below what was given, attached nowhere.
fn copy(given: &Given, path: &Path) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    const AT_RECURSIVE: libc::c_uint = 0x8000;
    // A descriptor from before is of a mount that is not in this namespace.
    let here = open_path(path)?;
    let same = |fd: RawFd| {
        // SAFETY: the plan keeps it open.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        nix::sys::stat::fstat(fd).map(|s| (s.st_dev, s.st_ino)).ok()
    };
    if same(here.as_raw_fd()) != same(given.fd) {
        return Err(Error::Path { path: path.into(), source: io::Error::from_raw_os_error(libc::ESTALE) });
    }
    let flags = OPEN_TREE_CLONE | AT_RECURSIVE | libc::AT_EMPTY_PATH as libc::c_uint | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: a constant string; a descriptor made just now is ours.
    let tree = unsafe {
        let fd = libc::syscall(libc::SYS_open_tree, here.as_raw_fd(), EMPTY, flags);
        OwnedFd::from_raw_fd(check(fd, "copy mounts")?)
    };
    let read_only = if given.writable { 0 } else { MOUNT_ATTR_RDONLY };
    restrict(&tree, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | read_only, AT_RECURSIVE)?;
    Ok(tree)
}

/// A `/proc` of the process's own pid namespace, attached nowhere.
fn own_proc() -> Result<OwnedFd> {
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const CLOEXEC: libc::c_uint = 1;
    let nothing = std::ptr::null::<libc::c_char>();
    let attributes = (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV) as libc::c_uint;
    // SAFETY: constant strings; descriptors made just now are ours.
    unsafe {
        let context = libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), CLOEXEC);
        let context = OwnedFd::from_raw_fd(check(context, "make a /proc")?);
        let made = libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, nothing, nothing, 0);
        check(made, "make a /proc of its own, which a pid namespace needs")?;
        let tree = libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, attributes);
        Ok(OwnedFd::from_raw_fd(check(tree, "mount a /proc")?))
    }
}

fn restrict(tree: &OwnedFd, set: u64, flags: libc::c_uint) -> Result {
    let attributes = Attributes { set, clear: 0, propagation: 0, userns: 0 };
    let flags = flags | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: a constant string and a record on this stack.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            EMPTY,
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    check(ret, "make mounts read-only").map(drop)
}

/// Where the empty root is made: a directory that is there, and that nothing needs any more by its name.
const TOP: &std::ffi::CStr = c"/proc";

/// Makes an empty root, with what appears in it, and leaves the old one.
fn new_root(given: &[Given], trees: &[OwnedFd]) -> Result {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let (flags, room) = (libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, c"size=4k,nr_inodes=8,mode=555");
    let top = TOP.as_ptr();
    // SAFETY: constant strings.
    unsafe {
        check(libc::mount(EMPTY, top, c"tmpfs".as_ptr(), flags, room.as_ptr().cast()).into(), "mount an empty root")?;
        check(libc::chdir(top).into(), "enter the new root")?;
    }
    for (g, tree) in given.iter().zip(trees) {
        let Some(at) = g.at else { continue };
        let name = std::ffi::CString::new(at).map_err(|e| Error::host("name a directory", io::Error::from(e)))?;
        // SAFETY: C strings that outlive the calls.
        unsafe {
            check(libc::mkdir(name.as_ptr(), 0o555).into(), "fill the new root")?;
            let ret = libc::syscall(
                libc::SYS_move_mount,
                tree.as_raw_fd(),
                EMPTY,
                libc::AT_FDCWD,
                name.as_ptr(),
                MOVE_MOUNT_F_EMPTY_PATH,
            );
            check(ret, "fill the new root")?;
        }
    }
    // SAFETY: constant strings. The old root comes to lie over the new one, and goes.
    unsafe {
        check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()), "change the root")?;
        check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH).into(), "leave the old root")?;
        check(libc::chdir(c"/".as_ptr()).into(), "enter the new root")?;
    }
    restrict(&open_path(Path::new("/"))?, MOUNT_ATTR_RDONLY, 0)
}
