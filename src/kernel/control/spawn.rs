//! Starting a process from outside.

use super::words::words;
use super::{failed, ground};
use crate::abi::control::{Response, Spawn};
use crate::abi::{Errno, Result};
use crate::cred::Cred;
use crate::fs::{devpts, hostfd};
use crate::host::HostFd;
use crate::task::exec::{self, Fresh};
use crate::task::kernel;
use crate::task::limits::Limits;
use crate::task::loader::Program;
use crate::vfs::inode::{NewNode, SetAttr, Stat};
use crate::vfs::names::{self, At};
use crate::vfs::{FdTable, FileType, FsContext, Lookup, OpCtx, Path, access};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Most descriptors of a fresh process.
const NOFILE: u64 = 1 << 20;
/// Where programs are looked for without PATH (`execvp(3)`).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Serves [`crate::abi::control::Request::Spawn`].
pub fn spawn(mut s: Spawn) -> Response {
    // The descriptors are the kernel's whatever comes of the rest.
    let fds: Vec<Option<HostFd>> = s.fds.drain(..).map(|fd| (fd >= 0).then(|| HostFd::new(fd))).collect();
    match start(s, fds) {
        Ok(pid) => Response::Pid(pid),
        Err(Unable::Program(errno, message)) => Response::Unrunnable { errno: errno.raw(), message },
        Err(Unable::Setting(errno, what)) => failed(errno, format!("{what}: {}", words(errno))),
    }
}

/// How many programs were to be started.
static STARTS: AtomicU32 = AtomicU32::new(0);

/// Why nothing was started.
enum Unable {
    /// The program cannot be run; the text says why.
    Program(Errno, String),
    /// What it was to start with is of no use; the text says what.
    Setting(Errno, String),
}

type Outcome<T> = core::result::Result<T, Unable>;

fn start(s: Spawn, fds: Vec<Option<HostFd>>) -> Outcome<u32> {
    let ground = ground().map_err(|e| Unable::Setting(e, String::from("the sandbox is not ready")))?;
    let cred = match s.user {
        Some((uid, gid)) => Arc::new(Cred::new(uid, gid, Vec::new())),
        None => ground.cred.clone(),
    };
    let fs = ground.fs.fork_copy();
    fs.set_umask(s.umask);
    let ctx = OpCtx { cred: &cred, tgid: 0, tid: 0, fsize_limit: u64::MAX, umask: s.umask };
    enter(&fs, &ctx, &s.cwd).map_err(|e| Unable::Setting(e, format!("working directory '{}'", text(&s.cwd))))?;
    let path = find_program(&fs, &ctx, &s)?;
    let files = Arc::new(FdTable::new());
    let nth = STARTS.fetch_add(1, Relaxed);
    for (number, fd) in fds.into_iter().enumerate() {
        let Some(fd) = fd else { continue };
        let install = |fd| {
            hostfd::open(fd, [nth, number as u32], |name, stat| terminal(&fs, name, stat))
                .and_then(|f| files.install_at(number as i32, f, false, NOFILE))
        };
        install(fd).map_err(|e| Unable::Setting(e, format!("descriptor {number}")))?;
    }
    let (limits, ns) = (Limits::new(&s.rlimits), kernel().roots().proxy.clone());
    let fresh = Fresh { cred: cred.clone(), fs: Arc::new(fs), files, limits, ns, container: None };
    let program = Program::Path { base: None, path: &path, follow: true };
    exec::spawn(fresh, program, s.argv, s.env).map_err(|e| explain(e.errno(), &path))
}

/// The node of a terminal in the sandbox's `/dev`, so that `ttyname(3)` finds it and others can open it.
fn terminal(fs: &FsContext, name: &[u8], stat: &Stat) -> Option<Path> {
    if !name.starts_with(b"/dev/") {
        return None;
    }
    let cred = Cred::new(0, 0, Vec::new());
    let ctx = OpCtx { cred: &cred, tgid: 0, tid: 0, fsize_limit: u64::MAX, umask: 0 };
    if name.starts_with(b"/dev/pts/") {
        let root = Lookup::new(fs, &ctx, None).path(b"/dev/pts", true).ok()?;
        return devpts::place_of_host(&ctx, &root, stat).ok();
    }
    let node = NewNode::Node(FileType::Char, stat.rdev);
    let place = match names::make(fs, &ctx, At { base: None, path: name }, node, stat.mode & 0o777) {
        Ok(place) => {
            let owner = SetAttr { uid: Some(stat.uid), gid: Some(stat.gid), ..SetAttr::default() };
            place.inode().set_attr(&ctx, &owner).ok()?;
            place
        }
        Err(_) => Lookup::new(fs, &ctx, None).path(name, true).ok()?,
    };
    place.inode().stat().is_ok_and(|s| s.rdev == stat.rdev).then_some(place)
}

fn enter(fs: &FsContext, ctx: &OpCtx<'_>, cwd: &[u8]) -> Result {
    let place = Lookup::new(fs, ctx, None).path(if cwd.is_empty() { b"/" } else { cwd }, true)?;
    if place.inode().file_type() != FileType::Dir {
        return Err(Errno::ENOTDIR);
    }
    access::check(ctx.cred, &**place.inode(), access::EXEC)?;
    fs.set_cwd(place);
    Ok(())
}

/// Whether `path` is a file that may be executed.
fn executable(fs: &FsContext, ctx: &OpCtx<'_>, path: &[u8]) -> Result {
    let place = Lookup::new(fs, ctx, None).path(path, true)?;
    if place.inode().file_type() != FileType::Regular {
        return Err(Errno::EACCES);
    }
    access::check(ctx.cred, &**place.inode(), access::EXEC)
}

/// The program's path: as it stands if it has a slash, else along PATH.
fn find_program(fs: &FsContext, ctx: &OpCtx<'_>, s: &Spawn) -> Outcome<Vec<u8>> {
    if s.program.contains(&b'/') {
        return match executable(fs, ctx, &s.program) {
            Ok(()) => Ok(s.program.clone()),
            Err(e) => Err(explain_lookup(fs, ctx, e, &s.program)),
        };
    }
    let path = s.env.iter().find_map(|v| v.strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for dir in path.split(|&b| b == b':') {
        let mut candidate = if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
        candidate.push(b'/');
        candidate.extend_from_slice(&s.program);
        match executable(fs, ctx, &candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => denied = denied.or(Some(candidate)),
            Err(_) => {}
        }
    }
    match denied {
        Some(path) => Err(explain_lookup(fs, ctx, Errno::EACCES, &path)),
        None => {
            let message = format!("'{}' was not found in PATH ({})", text(&s.program), text(path));
            Err(Unable::Program(Errno::ENOENT, message))
        }
    }
}

fn explain_lookup(fs: &FsContext, ctx: &OpCtx<'_>, errno: Errno, path: &[u8]) -> Unable {
    let shown = text(path);
    let is_dir = Lookup::new(fs, ctx, None).path(path, true).is_ok_and(|p| p.inode().file_type() == FileType::Dir);
    let message = match errno {
        Errno::ENOENT => format!("'{shown}' was not found"),
        Errno::ENOTDIR => format!("'{shown}' was not found: a part of the path is not a directory"),
        Errno::EACCES if is_dir => format!("'{shown}' is a directory"),
        Errno::EACCES => format!("'{shown}' cannot be executed: permission denied"),
        e => format!("'{shown}' cannot be executed: {}", words(e)),
    };
    Unable::Program(errno, message)
}

/// Why a file that is there and executable could not be run.
fn explain(errno: Errno, path: &[u8]) -> Unable {
    let shown = text(path);
    let message = match errno {
        Errno::ENOENT => format!("'{shown}' needs an interpreter that was not found"),
        Errno::ENOEXEC => format!("'{shown}' cannot be executed: it is not a program that this machine runs"),
        Errno::ELIBBAD => format!("'{shown}' cannot be executed: its interpreter is damaged"),
        Errno::E2BIG => format!("'{shown}': too many arguments or too large an environment"),
        Errno::EAGAIN => format!("'{shown}': the host gives no more processes"),
        e => format!("'{shown}' cannot be executed: {}", words(e)),
    };
    Unable::Program(errno, message)
}
