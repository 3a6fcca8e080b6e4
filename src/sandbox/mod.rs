//! The host half: starts a sandbox's supervisor and talks to it.

mod broker;
mod builder;
mod cgroup;
mod channel;
mod command;
pub mod console;
mod dirents;
pub mod doctor;
mod error;
mod filter;
pub mod image;
mod inner;
mod jail;
#[doc(hidden)]
pub mod layers;
mod link;
mod meter;
mod namespaces;
mod network;
pub mod outside;
mod perf;
mod plan;
mod porter;
mod save;
mod stdio;
mod supervisor;

pub use builder::{LogLevel, Network, SandboxBuilder};
pub use command::{Change, Child, Command, shell_status};
pub use drupe_kernel::abi::control::{PsEntry, Stats, TrappingSite};
pub use error::{Error, Result};
pub use jail::Jail;
pub use network::{Allowance, Publication};
pub use save::{Image, ImageError, SaveError, SaveOptions, Streams, Template, Templates};
pub use stdio::Stdio;
pub use supervisor::PANIC_STATUS;

use drupe_kernel::abi::control::{Request, Response};
use link::{Link, Wait};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a file that travel in one message.
const PIECE: usize = 1 << 20;

/// A running kernel with its processes. It ends, with everything in it, when this is dropped.
pub struct Sandbox {
    inner: Arc<Inner>,
    /// Where others ask for it by its name.
    desk: Option<outside::Desk>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("inner", &self.inner).field("named", &self.desk.is_some()).finish()
    }
}

/// What a [`Sandbox`] and its [`Child`] handles share.
struct Inner {
    link: Link,
    state: Mutex<State>,
    changed: Condvar,
    /// What processes get of the caller.
    given: Given,
    /// What the first program was started with.
    base: Mutex<Option<Base>>,
    /// Readable when something has come in, where a thread of its own takes it in.
    bell: Option<EventFd>,
    /// What an image is to know; `None` where this process is the supervisor, which sees no other's memory.
    settings: Option<save::Saving>,
    /// One at a time.
    saving: Mutex<()>,
    /// The image that it was restored from, and those that this builds on.
    images: OnceLock<Vec<save::FileKey>>,
    /// Why it ended while it was saved.
    save_error: OnceLock<String>,
}

/// What a sandbox's first program was started with, and others by name are.
struct Base {
    command: Vec<String>,
    env: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    umask: u32,
    user: Option<(u32, u32)>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("supervisor", &self.link.pid()).field("state", &self.state).finish()
    }
}

/// What processes of a sandbox get of the caller where nothing else was asked for.
struct Given {
    /// The sandbox sees the host's tree, so that the host's current directory means something in it.
    host_tree: bool,
    /// Resource limits, where the caller's own are not what they were: a supervisor raises its own.
    limits: Option<Vec<(u64, u64)>>,
    /// The caller's current directory, where it is not what it was: a supervisor in namespaces leaves it.
    cwd: Option<std::path::PathBuf>,
    /// The most that is given of some resources, by number.
    most: Vec<(usize, u64)>,
    /// Changes what the porter allows.
    allowing: Option<Mutex<OwnedFd>>,
    /// `/etc/hosts` is the sandbox's own to change.
    own_hosts: bool,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    /// Requests without an answer.
    asked: HashSet<u64>,
    replies: HashMap<u64, Response>,
    /// What happened to processes and was not asked for yet.
    changes: HashMap<u32, VecDeque<Change>>,
    first: Option<u32>,
    first_status: Option<i32>,
    reading: bool,
    /// Threads that wait for [`Inner::changed`].
    waiting: usize,
    happenings: VecDeque<Happening>,
    /// How often there was something new to ask for.
    news: u64,
    booted: bool,
    end: Option<End>,
}

/// Something that happened in a sandbox, other than to processes that were started from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// There was more memory in use than the sandbox was given ([`SandboxBuilder::memory`]), and the kernel ended a
    /// process.
    OutOfMemory {
        /// Its pid in the sandbox.
        pid: u32,
        /// Its name.
        name: String,
        /// What it had of its own, bytes.
        bytes: u64,
    },
    /// A program made a system call that is not there. At most 100 a second are told of, after a burst of 1,000.
    Unimplemented {
        /// Its pid in the sandbox.
        pid: u32,
        /// The call's number.
        call: u32,
    },
}

/// How many happenings are kept for somebody who asks.
const HAPPENINGS: usize = 4096;

impl State {
    /// Keeps it for somebody who asks; the oldest goes when there are too many.
    fn happened(&mut self, what: Happening) {
        if self.happenings.len() == HAPPENINGS {
            self.happenings.pop_front();
        }
        self.happenings.push_back(what);
    }
}

/// Why there is no sandbox any more.
#[derive(Clone, Debug)]
enum End {
    Stopped,
    Expired(Duration),
    Panic(String),
    Lost(String),
    /// The kernel never booted, for want of something that the host does not have.
    Unsupported(String),
    /// The kernel never booted.
    Refused {
        errno: i32,
        message: String,
    },
}

impl End {
    fn error(&self) -> Error {
        match self {
            End::Stopped => Error::Ended("it was stopped".into()),
            End::Expired(limit) => Error::Expired(*limit),
            End::Panic(text) => Error::Panic(text.clone()),
            End::Lost(why) => Error::Ended(why.clone()),
            End::Unsupported(what) => Error::Unsupported(what.clone()),
            End::Refused { errno, message } => Error::Refused { errno: *errno, message: message.clone() },
        }
    }
}

impl Sandbox {
    /// Settings to start one with.
    pub fn builder() -> SandboxBuilder {
        SandboxBuilder::default()
    }

    /// With `claim`, it is served by its name from now on.
    fn over(
        link: Link,
        given: Given,
        claim: Option<outside::Claim>,
        settings: Option<save::Saving>,
    ) -> Result<Sandbox> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = claim.as_ref().map(|_| EventFd::from_flags(flags)).transpose();
        let bell = bell.map_err(|e| Error::host("make a descriptor", e))?;
        let (state, changed, base) = (Mutex::default(), Condvar::new(), Mutex::default());
        let (saving, images, save_error) = (Mutex::default(), OnceLock::new(), OnceLock::new());
        let inner = Arc::new(Inner { link, state, changed, given, base, bell, settings, saving, images, save_error });
        let mut sandbox = Sandbox { inner, desk: None };
        if sandbox.inner.link.served_here().is_none() {
            sandbox.inner.booted()?;
        }
        if let Some(claim) = claim {
            sandbox.desk = Some(outside::Desk::open(sandbox.inner.clone(), claim)?);
        }
        Ok(sandbox)
    }

    /// A program to run in it. A name without a slash is looked up along `PATH`, in the sandbox; a
    /// relative path starts at the working directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(self.inner.clone(), program.as_ref())
    }

    /// Waits for the first process that was started, and returns its status.
    ///
    /// # Errors
    /// [`Error::NoProcess`] if there was none.
    pub fn wait(&self) -> Result<ExitStatus> {
        if lock(&self.inner.state).first.is_none() {
            return Err(Error::NoProcess);
        }
        let status = self.inner.until(|state| state.first_status)?;
        Ok(ExitStatus::from_raw(status))
    }

    /// As [`Sandbox::wait`], for no longer than `limit`; `None` when the process has not ended by then.
    ///
    /// # Errors
    /// As [`Sandbox::wait`].
    pub fn wait_timeout(&self, limit: Duration) -> Result<Option<ExitStatus>> {
        if lock(&self.inner.state).first.is_none() {
            return Err(Error::NoProcess);
        }
        let status = self.inner.poll(until(limit), |state| state.first_status)?;
        Ok(status.map(ExitStatus::from_raw))
    }

    /// Suspends every process. Nests: as many calls of [`Sandbox::unpause`] are needed.
    ///
    /// # Errors
    /// When the sandbox has ended.
    pub fn pause(&self) -> Result {
        self.inner.ask_ok(Request::Pause)
    }

    /// Undoes one [`Sandbox::pause`].
    ///
    /// # Errors
    /// When it is not paused, or has ended.
    pub fn unpause(&self) -> Result {
        self.inner.ask_ok(Request::Unpause)
    }

    /// A whole file of the sandbox.
    ///
    /// # Errors
    /// The sandbox's error number, in [`Error::Refused`].
    pub fn read_file(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = inside(path.as_ref())?;
        let mut out = Vec::new();
        loop {
            let request = Request::ReadFile { path: path.clone(), offset: out.len() as u64, len: PIECE as u32 };
            match self.inner.ask(request, Vec::new())? {
                Response::Data(data) => {
                    let last = data.len() < PIECE;
                    out.extend(data);
                    if last {
                        return Ok(out);
                    }
                }
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Creates or replaces a file of the sandbox.
    ///
    /// # Errors
    /// The sandbox's error number, in [`Error::Refused`].
    pub fn write_file(&self, path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> Result {
        self.write_file_mode(path, data, 0o644)
    }

    /// As [`Sandbox::write_file`], with the permission bits of a new file.
    ///
    /// # Errors
    /// The sandbox's error number, in [`Error::Refused`].
    pub fn write_file_mode(&self, path: impl AsRef<Path>, data: impl AsRef<[u8]>, mode: u32) -> Result {
        let path = inside(path.as_ref())?;
        let mut offset = 0;
        let data = data.as_ref();
        loop {
            let piece = &data[offset..data.len().min(offset + PIECE)];
            let request = Request::WriteFile { path: path.clone(), offset: offset as u64, data: piece.to_vec(), mode };
            self.inner.ask_ok(request)?;
            offset += piece.len();
            if offset == data.len() {
                return Ok(());
            }
        }
    }

    /// Lets it connect to this host and port, too, from now on. Its name, if it is one, is looked up now, here, and stands
    /// in the sandbox's `/etc/hosts` then.
    ///
    /// # Errors
    /// A sandbox that was started without [`SandboxBuilder::allow`], a name that is not to be found, an address that means
    /// the sandbox itself.
    pub fn allow(&self, allowance: &Allowance) -> Result {
        self.inner.allow(allowance)
    }

    /// Sends a signal to every process.
    ///
    /// # Errors
    /// When the sandbox has ended.
    pub fn kill_all(&self, signal: i32) -> Result {
        self.inner.ask_ok(Request::Kill { pid: 0, signal })
    }

    /// Sends a signal to where a terminal would send it: the foreground process group, or the first
    /// process.
    ///
    /// # Errors
    /// When the sandbox has ended.
    pub fn kill_foreground(&self, signal: i32) -> Result {
        self.inner.ask_ok(Request::KillForeground { pid: 0, signal })
    }

    /// Its processes.
    ///
    /// # Errors
    /// When the sandbox has ended.
    pub fn processes(&self) -> Result<Vec<PsEntry>> {
        match self.inner.ask(Request::Ps, Vec::new())? {
            Response::Ps(list) => Ok(list),
            other => Err(unexpected(other)),
        }
    }

    /// Counters of its kernel.
    ///
    /// # Errors
    /// When the sandbox has ended.
    pub fn stats(&self) -> Result<Stats> {
        match self.inner.ask(Request::Stats, Vec::new())? {
            Response::Stats(stats) => Ok(stats),
            other => Err(unexpected(other)),
        }
    }

    /// Hot call sites that could not be rewritten at once, those that trapped most first.
    ///
    /// # Errors
    /// When the sandbox has ended.
    pub fn trapping_sites(&self) -> Result<Vec<TrappingSite>> {
        match self.inner.ask(Request::Sites, Vec::new())? {
            Response::Sites(sites) => Ok(sites),
            other => Err(unexpected(other)),
        }
    }

    /// What has happened since this was asked last, oldest first; the last 4,096 are kept. Taken in while something
    /// waits for the sandbox, or by this call.
    ///
    /// # Errors
    /// When the sandbox has ended, and all was told.
    pub fn happenings(&self) -> Result<Vec<Happening>> {
        let take = |state: &mut State| -> Vec<Happening> { state.happenings.drain(..).collect() };
        let looked = self.inner.poll(Wait::Not, |_| None::<()>);
        let all = take(&mut lock(&self.inner.state));
        match looked {
            Err(e) if all.is_empty() => Err(e),
            _ => Ok(all),
        }
    }

    /// Where every task is, for a person who looks for a hang.
    ///
    /// # Errors
    /// When the sandbox has ended.
    pub fn dump(&self) -> Result<String> {
        match self.inner.ask(Request::Dump, Vec::new())? {
            Response::Text(text) => Ok(text),
            Response::Ok => Ok(String::new()),
            other => Err(unexpected(other)),
        }
    }

    /// Host process id of its supervisor.
    pub fn supervisor(&self) -> u32 {
        self.inner.link.pid()
    }

    /// Ends it and every process in it; returns when nothing is left.
    pub fn stop(&self) {
        if let Some(desk) = &self.desk {
            desk.closing();
        }
        self.inner.stop();
        if let Some(desk) = &self.desk {
            desk.close();
        }
    }
}

/// Readable when a process may have changed. See [`Child::try_change`].
impl AsFd for Sandbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.bell.as_ref().map_or_else(|| self.inner.link.as_fd(), AsFd::as_fd)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop();
    }
}

/// To wait for `limit` from now on.
fn until(limit: Duration) -> Wait {
    Instant::now().checked_add(limit).map_or(Wait::Ever, Wait::Until)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unexpected(response: Response) -> Error {
    match response {
        Response::Err { errno, message } => Error::Refused { errno, message },
        other => {
            Error::Refused { errno: libc::EPROTO, message: format!("an answer that was not asked for: {other:?}") }
        }
    }
}

/// Does what starts threads; these are never sent a signal, which the process's other threads may mean to take.
fn without_signals<T>(f: impl FnOnce() -> T) -> T {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    let mut old = SigSet::empty();
    let blocked = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut old));
    let done = f();
    if blocked.is_ok() {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&old), None);
    }
    done
}

/// A path that names a file inside of the sandbox.
fn inside(path: &Path) -> Result<Vec<u8>> {
    if !path.is_absolute() {
        return Err(Error::Setting(format!("a path in the sandbox must be absolute: {}", path.display())));
    }
    Ok(path.as_os_str().as_bytes().to_vec())
}

/// Opens a path for reference only.
fn open_path(path: &Path) -> Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
        .map_err(|e| Error::Path { path: path.to_path_buf(), source: e.into() })
}
