//! Running sandboxes by their names, from other processes: what `drupe ps`, `exec`, `kill` and so on do.
//!
//! A sandbox that was given a name ([`SandboxBuilder::name`](crate::SandboxBuilder::name)) is reached by [`Remote::find`]
//! for as long as it lives. Only its own user and root can.

mod desk;
mod protocol;
pub(super) mod registry;

pub(super) use desk::Desk;
pub use drupe_kernel::abi::control::{Record, Recorded};
pub use protocol::{Status, Target};
pub(super) use registry::{Claim, own_place};

use super::Change;
use super::channel::{self, Channel, Received};
use super::error::{Error, Result};
use super::save::{self, Image, SaveOptions};
use super::stdio::Stdio;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use protocol::{Exec, FromSandbox, PROTOCOL, ToSandbox};
use registry::{Entry, Registry};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a sandbox may take to greet and to say how it is, in seconds.
const PATIENCE: i64 = 5;

/// A sandbox that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Process id of its holder: the launcher, or a program that links the library.
    pub holder: u32,
    /// When it was started.
    pub started: SystemTime,
    /// How it is; `None` where it does not say: its holder is stopped, say, or the sandbox has just ended.
    pub status: Option<Status>,
}

/// Takes a name for a sandbox that this process is about to start.
pub(super) fn claim(name: &str) -> Result<Claim> {
    if !registry::is_name(name) {
        let rule = "letters, digits, '_', '.' and '-', a letter or digit first, 64 at most";
        return Err(Error::Setting(format!("{name:?} is no name for a sandbox: {rule}")));
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    Registry::own()?.claim(name, &Entry { pid: std::process::id(), started })
}

/// The caller's sandboxes that run, by name.
///
/// # Errors
/// A registry that cannot be read, or that others can reach.
pub fn running() -> Result<Vec<Running>> {
    let mut all = Vec::new();
    for registry in Registry::all()? {
        for (name, entry) in registry.living()? {
            let status = reach(&registry, &name).ok().flatten().and_then(|mut c| c.status().ok());
            let started = UNIX_EPOCH + Duration::from_nanos(entry.started);
            all.push(Running { name, holder: entry.pid, started, status });
        }
    }
    Ok(all)
}

/// A connection, if there is a sandbox of this name.
fn reach(registry: &Registry, name: &str) -> Result<Option<Connection>> {
    let Some(socket) = registry.connect(name)? else { return Ok(None) };
    let failed = |e: nix::Error| Error::host(format!("ask the sandbox {name:?}"), e);
    let peer = nix::sys::socket::getsockopt(&socket, sockopt::PeerCredentials).map_err(failed)?;
    if peer.uid() != registry.owner() && peer.uid() != 0 {
        return Err(failed(nix::Error::EPERM));
    }
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE)).map_err(failed)?;
    let mut connection = Connection { name: name.into(), channel: Channel::new(socket) };
    match connection.hear()? {
        FromSandbox::Hello { protocol: PROTOCOL } => Ok(Some(connection)),
        FromSandbox::Hello { .. } => {
            Err(Error::Setting(format!("the sandbox {name:?} was started by another version of drupe")))
        }
        other => Err(connection.unexpected(other)),
    }
}

/// One conversation.
#[derive(Debug)]
struct Connection {
    name: String,
    channel: Channel,
}

impl Connection {
    fn say(&self, message: &ToSandbox, fds: &[BorrowedFd<'_>]) -> Result {
        let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        channel::send(self.channel.as_fd(), message, &fds).map_err(|e| self.lost(e))
    }

    /// The next message.
    fn hear(&mut self) -> Result<FromSandbox> {
        match self.channel.receive(true) {
            Ok(Received::Message(FromSandbox::Refused { errno, message }, _)) => {
                Err(Error::Refused { errno, message: format!("{}: {message}", self.name) })
            }
            Ok(Received::Message(message, _)) => Ok(message),
            Ok(Received::Pending) => Err(Error::Silent(self.name.clone())),
            Ok(Received::HungUp) => Err(Error::Ended(format!("{:?} ended while it was asked", self.name))),
            Err(e) => Err(self.lost(e)),
        }
    }

    /// Without a limit from now on.
    fn patient(&self) -> Result {
        setsockopt(&self.channel.as_fd(), sockopt::ReceiveTimeout, &TimeVal::seconds(0))
            .map_err(|e| Error::host("wait", e))
    }

    fn lost(&self, e: io::Error) -> Error {
        match e.raw_os_error() {
            Some(libc::EPIPE | libc::ECONNRESET) => Error::Ended(format!("{:?} ended while it was asked", self.name)),
            _ => Error::host(format!("ask the sandbox {:?}", self.name), e),
        }
    }

    fn unexpected(&self, message: FromSandbox) -> Error {
        Error::Refused { errno: libc::EPROTO, message: format!("an answer that was not asked for: {message:?}") }
    }

    /// Has an image written to a file; how many bytes.
    fn saved(&mut self, file: BorrowedFd<'_>, go_on: bool, options: &SaveOptions) -> Result<u64> {
        let absolute = |path: &PathBuf| std::path::absolute(path).map(|p| p.into_os_string().into_vec());
        let parent = options.parent.as_ref().map(absolute).transpose();
        let parent = parent.map_err(|e| Error::host("find the parent image", e))?;
        self.say(&ToSandbox::Save { go_on, detach: options.detach, parent }, &[file])?;
        self.patient()?;
        match self.hear()? {
            FromSandbox::Saved(bytes) => Ok(bytes),
            other => Err(self.unexpected(other)),
        }
    }

    fn done(&mut self, request: &ToSandbox) -> Result {
        self.say(request, &[])?;
        match self.hear()? {
            FromSandbox::Done => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    fn status(&mut self) -> Result<Status> {
        self.say(&ToSandbox::Status, &[])?;
        match self.hear()? {
            FromSandbox::Status(status) => Ok(status),
            other => Err(self.unexpected(other)),
        }
    }
}

/// A running sandbox of some other process's. Each call is a conversation of its own; the sandbox may end between two.
#[derive(Clone, Debug)]
pub struct Remote {
    name: String,
}

impl Remote {
    /// The sandbox of this name.
    ///
    /// # Errors
    /// [`Error::NoSandbox`]; one that cannot be asked.
    pub fn find(name: impl Into<String>) -> Result<Remote> {
        let remote = Remote { name: name.into() };
        remote.connect().map(|_| remote)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn connect(&self) -> Result<Connection> {
        for registry in Registry::all()? {
            if let Some(connection) = reach(&registry, &self.name)? {
                return Ok(connection);
            }
        }
        Err(Error::NoSandbox(self.name.clone()))
    }

    /// How it is.
    ///
    /// # Errors
    /// [`Error::NoSandbox`], [`Error::Ended`] when it has ended meanwhile, [`Error::Silent`] when its holder is stopped: so of all
    /// calls.
    pub fn status(&self) -> Result<Status> {
        self.connect()?.status()
    }

    /// A program to run in it, with the environment, working directory, user and umask of its first program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> RemoteCommand {
        let program = program.as_ref().as_bytes().to_vec();
        let exec = Exec { program, ..Exec::default() };
        RemoteCommand { remote: self.clone(), exec, streams: [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit] }
    }

    /// Sends a signal. A sandbox that is paused meets it when it goes on; SIGKILL at once.
    ///
    /// # Errors
    /// As [`Remote::status`]; [`Error::Refused`] with `ESRCH` or `EINVAL`.
    pub fn kill(&self, signal: i32, target: Target) -> Result {
        self.connect()?.done(&ToSandbox::Kill { signal, target })
    }

    /// Suspends every task; returns when all stand still.
    ///
    /// # Errors
    /// As [`Remote::status`]; [`Error::Refused`] with `EALREADY` if it is paused.
    pub fn pause(&self) -> Result {
        self.connect()?.done(&ToSandbox::Pause)
    }

    /// Lets all tasks go on.
    ///
    /// # Errors
    /// As [`Remote::status`]; [`Error::Refused`] with `EINVAL` if it is not paused.
    pub fn resume(&self) -> Result {
        self.connect()?.done(&ToSandbox::Resume)
    }

    /// Writes an image of it to `path`, which is there when the image is whole. Unless the sandbox is to go on, it is ended
    /// then; else it goes on as soon as it can ([`crate::Sandbox::save_to_file`]). How many bytes the image has.
    ///
    /// # Errors
    /// As [`Remote::status`]; [`Error::Refused`] if it cannot be saved, and goes on; [`Error::Path`].
    pub fn save(&self, path: &Path, leave_running: bool, options: &SaveOptions) -> Result<u64> {
        options.check(path)?;
        let mut connection = self.connect()?;
        let bytes =
            save::written(path, options.compress, |file| connection.saved(file.as_fd(), leave_running, options))?;
        if !leave_running {
            connection.done(&ToSandbox::End)?;
        }
        Ok(bytes)
    }

    /// An image of it in memory. The sandbox goes on as soon as it can.
    ///
    /// # Errors
    /// As [`Remote::save`]; [`Error::Image`].
    pub fn image(&self) -> Result<Image> {
        let file = save::memory_file().map_err(|e| Error::host("make a memory file", e))?;
        let mut connection = self.connect()?;
        connection.saved(file.as_fd(), true, &SaveOptions::default())?;
        Image::of_file(file)
    }

    /// Lets it connect to a place beyond its own network, too: `HOST[:PORT]`.
    ///
    /// # Errors
    /// As [`Remote::status`]; those of [`Sandbox::allow`](super::Sandbox::allow).
    pub fn allow(&self, place: &str) -> Result {
        self.connect()?.done(&ToSandbox::Allow(place.into()))
    }

    /// Waits for the end of its first process.
    ///
    /// # Errors
    /// As [`Remote::status`]; [`Error::Ended`] when the sandbox has ended before that.
    pub fn wait(&self) -> Result<ExitStatus> {
        let mut connection = self.connect()?;
        connection.say(&ToSandbox::Wait, &[])?;
        connection.patient()?;
        match connection.hear()? {
            FromSandbox::Exited(status) => Ok(ExitStatus::from_raw(status)),
            other => Err(connection.unexpected(other)),
        }
    }

    /// What has happened in it: the last 4,096 records, and with `follow` those to come until its end.
    ///
    /// # Errors
    /// As [`Remote::status`].
    pub fn events(&self, follow: bool) -> Result<Events> {
        let connection = self.connect()?;
        connection.say(&ToSandbox::Events { follow }, &[])?;
        if follow {
            connection.patient()?;
        }
        Ok(Events { connection })
    }

    /// Where every task is, what it waits for and until when, for a person who looks for a hang.
    ///
    /// # Errors
    /// As [`Remote::status`].
    pub fn debug(&self) -> Result<String> {
        let mut connection = self.connect()?;
        connection.say(&ToSandbox::Debug, &[])?;
        match connection.hear()? {
            FromSandbox::Text(text) => Ok(text),
            other => Err(connection.unexpected(other)),
        }
    }
}

/// See [`Remote::events`].
#[derive(Debug)]
pub struct Events {
    connection: Connection,
}

impl Events {
    /// The next records, and how many are missing before them; waits for one. `None` at the end.
    ///
    /// # Errors
    /// [`Error::Ended`] when the sandbox was ended suddenly.
    pub fn next_records(&mut self) -> Result<Option<(Vec<Record>, u64)>> {
        match self.connection.hear()? {
            FromSandbox::Records { list, lost } => Ok(Some((list, lost))),
            FromSandbox::Done => Ok(None),
            other => Err(self.connection.unexpected(other)),
        }
    }
}

/// A program to run in a running sandbox; made by [`Remote::command`].
#[derive(Debug)]
pub struct RemoteCommand {
    remote: Remote,
    exec: Exec,
    streams: [Stdio; 3],
}

impl RemoteCommand {
    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        self.exec.args.extend(args.into_iter().map(|a| a.as_ref().as_bytes().to_vec()));
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        let bytes = |text: &OsStr| text.as_bytes().to_vec();
        self.exec.env.push((bytes(key.as_ref()), bytes(value.as_ref())));
        self
    }

    /// The working directory, a path in the sandbox.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.exec.cwd = Some(dir.as_ref().as_os_str().as_bytes().to_vec());
        self
    }

    /// User and group.
    pub fn user(&mut self, uid: u32, gid: u32) -> &mut Self {
        self.exec.user = Some((uid, gid));
        self
    }

    /// Makes standard input the controlling terminal, if it is one.
    pub fn tty(&mut self, tty: bool) -> &mut Self {
        self.exec.tty = tty;
        self
    }

    /// Standard input, output and error: the caller's own unless set. [`Stdio::Piped`] is none of them.
    pub fn stdio(&mut self, streams: [Stdio; 3]) -> &mut Self {
        self.streams = streams;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// As [`Remote::status`]; [`Error::Spawn`] when the program cannot be started; [`Error::Refused`] with `EBUSY` in a paused
    /// sandbox.
    pub fn spawn(&mut self) -> Result<RemoteChild> {
        let mut given = Vec::new();
        for (number, stream) in self.streams.iter().enumerate() {
            if matches!(stream, Stdio::Piped) {
                return Err(Error::Setting("a program in a running sandbox gets no pipes: pass their ends".into()));
            }
            let (fd, _) = stream.open(number as i32)?;
            self.exec.streams[number] = fd.is_some();
            given.extend(fd);
        }
        let mut connection = self.remote.connect()?;
        let fds: Vec<_> = given.iter().map(AsFd::as_fd).collect();
        connection.say(&ToSandbox::Exec(self.exec.clone()), &fds)?;
        connection.patient()?;
        match connection.hear()? {
            FromSandbox::Started { pid } => Ok(RemoteChild { connection, pid }),
            FromSandbox::Unrunnable { errno, message } => {
                let program = PathBuf::from(OsString::from_vec(self.exec.program.clone())).display().to_string();
                Err(Error::Spawn { program, errno, message })
            }
            other => Err(connection.unexpected(other)),
        }
    }
}

/// A process that was started in a running sandbox. Dropping the handle sends SIGHUP to its process group.
#[derive(Debug)]
pub struct RemoteChild {
    connection: Connection,
    pid: u32,
}

impl RemoteChild {
    /// Its process id in the sandbox.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal. That it has ended already is no error.
    ///
    /// # Errors
    /// [`Error::Ended`] when the sandbox has ended.
    pub fn signal(&self, signal: i32) -> Result {
        self.connection.say(&ToSandbox::Signal(signal), &[])
    }

    /// Sends a signal to the foreground process group of its terminal, or to itself.
    ///
    /// # Errors
    /// As [`RemoteChild::signal`].
    pub fn signal_foreground(&self, signal: i32) -> Result {
        self.connection.say(&ToSandbox::Foreground(signal), &[])
    }

    /// What happens to it next; waits for it.
    ///
    /// # Errors
    /// [`Error::Ended`] when the sandbox was ended suddenly.
    pub fn wait_change(&mut self) -> Result<Change> {
        let message = self.connection.hear()?;
        self.change(message)
    }

    /// As [`RemoteChild::wait_change`], without waiting. To wait, poll its descriptor for reading.
    ///
    /// # Errors
    /// As there.
    pub fn try_change(&mut self) -> Result<Option<Change>> {
        match self.connection.channel.receive(false) {
            Ok(Received::Pending) => Ok(None),
            Ok(Received::Message(message, _)) => self.change(message).map(Some),
            // It says why.
            _ => self.wait_change().map(Some),
        }
    }

    fn change(&self, message: FromSandbox) -> Result<Change> {
        match message {
            FromSandbox::Exited(status) => Ok(Change::Exited(ExitStatus::from_raw(status))),
            FromSandbox::Stopped(signal) => Ok(Change::Stopped(signal)),
            other => Err(self.connection.unexpected(other)),
        }
    }
}

/// Readable when something has happened to it.
impl AsFd for RemoteChild {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.channel.as_fd()
    }
}
