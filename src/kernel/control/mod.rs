//! The kernel's side of the control channel: serves the host half's requests, and queues the events
//! that the supervisor carries out. Runs on the supervisor's slot.

mod events;
mod inspect;
mod spawn;
mod texts;
mod words;

pub use events::{next_event, push_event};

use crate::abi::control::{Config, Event, Recorded, Request, Response};
use crate::abi::linux::{O_CREAT, O_TRUNC, O_WRONLY};
use crate::abi::saved::Frozen;
use crate::abi::{Errno, Result, SysError, SysResult};
use crate::cred::Cred;
use crate::fs::{hostfd, memfs};
use crate::host::HostFd;
use crate::mm::{IoSrc, budget, text};
use crate::signal::info;
use crate::task::{copies, kernel, lookup_group, oom, park, record, revive, tree};
use crate::tty;
use crate::vfs::open::How;
use crate::vfs::{self, FileType, FsContext, Lookup, OpCtx, OpenFile};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use once_cell::race::OnceBox;
use words::words;

/// What requests need of the boot: the root and who the first process is.
struct Ground {
    fs: FsContext,
    cred: Arc<Cred>,
}

static GROUND: OnceBox<Ground> = OnceBox::new();

/// Registers the root of the tree and the sandbox's user, and the hooks through which lower rooms raise
/// events (at boot).
pub fn init(fs: FsContext, config: &Config) {
    let cred = Arc::new(Cred::new(config.uid, config.gid, config.groups.clone()));
    let _ = GROUND.set(Box::new(Ground { fs, cred }));
    kernel().roots().proxy.uts.set_hostname(config.hostname.as_bytes());
    events::register(config.record);
    texts::register();
}

fn ground() -> Result<&'static Ground> {
    GROUND.get().ok_or(Errno::EAGAIN)
}

/// Serves one encoded request; returns the length of the encoded answer, or `-errno` when there is no
/// room for one.
pub fn serve(request: &[u8], answer: &mut [u8]) -> i64 {
    let response = match postcard::from_bytes(request) {
        Ok(request) => answer_to(request),
        Err(_) => failed(Errno::EINVAL, String::from("the request cannot be decoded")),
    };
    match postcard::to_slice(&response, answer) {
        Ok(used) => used.len() as i64,
        Err(_) => -i64::from(Errno::EOVERFLOW.raw()),
    }
}

fn failed(errno: Errno, message: String) -> Response {
    Response::Err { errno: errno.raw(), message }
}

fn done(outcome: Result, what: impl FnOnce() -> String) -> Response {
    match outcome {
        Ok(()) => Response::Ok,
        Err(e) => failed(e, alloc::format!("{}: {}", what(), words(e))),
    }
}

fn answer_to(request: Request) -> Response {
    match request {
        Request::Spawn(spawn) => spawn::spawn(spawn),
        Request::Kill { pid, signal } => done(kill(pid, signal), || alloc::format!("signal {signal} to {pid}")),
        Request::KillForeground { pid, signal } => {
            done(kill_foreground(pid, signal), || alloc::format!("signal {signal} to the foreground"))
        }
        Request::Pause => {
            record::record(|| Recorded::Paused(true));
            park::pause();
            Response::Ok
        }
        Request::Unpause => done(unpause(), || String::from("the sandbox is not paused")),
        Request::Freeze { copies } => freeze(copies),
        Request::Thaw => Response::Ok,
        Request::EndCopies => {
            copies::end();
            Response::Ok
        }
        Request::ReadFile { path, offset, len } => match read_file(&path, offset, len) {
            Ok(data) => Response::Data(data),
            Err(e) => failed(e, alloc::format!("cannot read '{}': {}", String::from_utf8_lossy(&path), words(e))),
        },
        Request::WriteFile { path, offset, data, mode } => done(write_file(&path, offset, &data, mode), || {
            alloc::format!("cannot write '{}'", String::from_utf8_lossy(&path))
        }),
        Request::TextBuilt { key, fd, plan } => {
            text::finish(&key, (fd >= 0).then(|| HostFd::new(fd)), plan);
            Response::Ok
        }
        Request::Ps => Response::Ps(inspect::processes()),
        Request::Dump => Response::Text(inspect::dump()),
        Request::Measured { .. } if copies::are_there() => Response::Memory(budget::used()),
        Request::Measured { sizes, rest } => {
            memfs::recount_mapped();
            if let Some(oom::Victim { pid, name, bytes }) = oom::measured(&sizes, rest) {
                record::record(|| Recorded::OutOfMemory { pid, name: name.clone(), bytes });
                push_event(Event::OutOfMemory { pid, name, bytes });
            }
            Response::Memory(budget::used())
        }
        Request::Stats => Response::Stats(inspect::stats()),
        Request::Sites => Response::Sites(crate::mm::rewrite::trapping()),
        Request::Records { from, tell } => {
            let (first, list) = record::records(from, tell);
            Response::Records { list, first }
        }
    }
}

/// What is to be known of a sandbox that stands still.
fn freeze(copies: bool) -> Response {
    if !park::is_paused() {
        return failed(Errno::EINVAL, String::from("the sandbox is not paused"));
    }
    if !park::all_still() {
        return failed(Errno::EAGAIN, alloc::format!("{} tasks have not come to rest", park::moving().max(1)));
    }
    let spaces = revive::spaces();
    let copies = if copies { copies::make(&spaces) } else { Vec::new() };
    Response::Frozen(Frozen {
        base: crate::arch::slot::window(),
        monotonic: crate::time::host_monotonic(),
        spaces,
        copies,
        handed_in: hostfd::handed_in(),
        window_fd: crate::host::window::fd(),
        text_cache: text::cache(),
        ..Frozen::default()
    })
}

/// As `kill(2)` from outside.
fn kill(pid: i32, signal: i32) -> Result {
    let sig = u32::try_from(signal).ok().filter(|&s| s <= crate::signal::NSIG).ok_or(Errno::EINVAL)?;
    // Nobody forks meanwhile: a child that is not among the targets would escape.
    let tree = tree::lock();
    let targets = match pid {
        1.. => alloc::vec![lookup_group(pid as u32).ok_or(Errno::ESRCH)?],
        0 => kernel().roots().pid.processes(),
        _ => tree::members(pid.unsigned_abs()),
    };
    let live: Vec<_> = targets.into_iter().filter(|g| !g.is_zombie()).collect();
    if live.is_empty() {
        return Err(Errno::ESRCH);
    }
    if sig != 0 {
        record::record(|| Recorded::Signal { pid, signal });
        let record = info::from_user(sig, info::SI_USER, 0, 0);
        for group in live {
            group.send(&record)?;
        }
    }
    drop(tree);
    Ok(())
}

fn unpause() -> Result {
    park::unpause()?;
    record::record(|| Recorded::Paused(false));
    Ok(())
}

/// Whom a person at a terminal means: the foreground of the one that controls `pid`, or `pid` itself. 0 is the first
/// process, and the terminal that was handed in first.
fn kill_foreground(pid: u32, signal: i32) -> Result {
    let foreground = match pid {
        0 => tty::host::first_foreground(),
        pid => lookup_group(pid).ok_or(Errno::ESRCH)?.terminal().and_then(|t| t.job().foreground()).map(|p| p.number()),
    };
    match foreground {
        Some(pgid) if kill(-(pgid as i32), signal).is_ok() => Ok(()),
        _ => kill(pid.max(1) as i32, signal),
    }
}

/// The kernel itself looks at files as root.
fn with_root<T>(f: impl FnOnce(&FsContext, &OpCtx<'_>) -> core::result::Result<T, SysError>) -> Result<T> {
    let ground = ground()?;
    let fs = ground.fs.fork_copy();
    let cred = Cred::new(0, 0, Vec::new());
    let ctx = OpCtx { cred: &cred, tgid: 0, tid: 0, fsize_limit: u64::MAX, umask: 0 };
    f(&fs, &ctx).map_err(SysError::errno)
}

/// Opens a regular file. The supervisor serves everybody: a pipe's other end or a device without an
/// end would keep it.
fn open(fs: &FsContext, ctx: &OpCtx<'_>, path: &[u8], flags: u32, mode: u32) -> SysResult<Arc<OpenFile>> {
    let kind = Lookup::new(fs, ctx, None).path(path, true).map(|p| p.inode().file_type());
    match kind {
        Ok(FileType::Dir) => Err(Errno::EISDIR.into()),
        Ok(kind) if kind != FileType::Regular => Err(Errno::EOPNOTSUPP.into()),
        _ => vfs::open(fs, ctx, None, path, How { flags, mode, resolve: 0 }),
    }
}

fn read_file(path: &[u8], offset: u64, len: u32) -> Result<Vec<u8>> {
    with_root(|fs, ctx| {
        let file = open(fs, ctx, path, 0, 0)?;
        let mut buf = Vec::new();
        buf.try_reserve_exact(len as usize).map_err(|_| Errno::ENOMEM)?;
        buf.resize(len as usize, 0);
        let n = file.read_at(ctx, &mut buf, offset)?;
        buf.truncate(n);
        Ok(buf)
    })
}

fn write_file(path: &[u8], offset: u64, data: &[u8], mode: u32) -> Result {
    with_root(|fs, ctx| {
        let flags = O_WRONLY | O_CREAT | if offset == 0 { O_TRUNC } else { 0 };
        let file = open(fs, ctx, path, flags, mode)?;
        IoSrc::with_kernel(data, |src| {
            while src.left() > 0 {
                let at = offset + src.done() as u64;
                if file.ops.write(ctx, &file, src, at)? == 0 {
                    return Err(Errno::EIO.into());
                }
            }
            Ok(())
        })
    })
}
