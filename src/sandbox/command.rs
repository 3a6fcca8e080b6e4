//! Starting processes in a sandbox, in the manner of [`std::process`].

use super::error::{Error, Result};
use super::link::{Wait, timeout};
use super::{Base, Inner, Stdio, lock};
use drupe_kernel::abi::control::{Request, Response, Spawn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was tried when reading a process's output fails.
const READ: &str = "read a process's output";

/// A program to run in a sandbox; made by [`Sandbox::command`](super::Sandbox::command).
#[derive(Debug)]
pub struct Command {
    inner: Arc<Inner>,
    program: OsString,
    arg0: Option<OsString>,
    args: Vec<OsString>,
    clear_env: bool,
    env: BTreeMap<OsString, Option<OsString>>,
    cwd: Option<PathBuf>,
    stdio: [Option<Stdio>; 3],
    user: Option<(u32, u32)>,
    umask: u32,
    tty: bool,
}

impl Command {
    pub(super) fn new(inner: Arc<Inner>, program: &OsStr) -> Command {
        Command {
            inner,
            program: program.to_owned(),
            arg0: None,
            args: Vec::new(),
            clear_env: false,
            env: BTreeMap::new(),
            cwd: None,
            stdio: [None, None, None],
            user: None,
            umask: 0o022,
            tty: false,
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// The zeroth argument, the program's name otherwise.
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.arg0 = Some(arg.as_ref().to_owned());
        self
    }

    /// Sets an environment variable. The environment is the caller's otherwise.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(key.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Sets environment variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(&mut self, vars: impl IntoIterator<Item = (K, V)>) -> &mut Self {
        for (key, value) in vars {
            self.env(key, value);
        }
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(key.as_ref().to_owned(), None);
        self
    }

    /// Starts from an empty environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.clear_env = true;
        self.env.clear();
        self
    }

    /// The working directory, a path in the sandbox. By default the caller's own if the sandbox sees
    /// the host's tree, else `/`.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// Standard input: inherited by default, empty for [`Command::output`].
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[0] = Some(stdio.into());
        self
    }

    /// Standard output: inherited by default, captured by [`Command::output`].
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[1] = Some(stdio.into());
        self
    }

    /// Standard error: as standard output.
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[2] = Some(stdio.into());
        self
    }

    /// User and group; the sandbox's by default.
    pub fn user(&mut self, uid: u32, gid: u32) -> &mut Self {
        self.user = Some((uid, gid));
        self
    }

    /// File mode creation mask; 022 by default.
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.umask = mask & 0o777;
        self
    }

    /// Makes standard input the controlling terminal, if it is one.
    pub fn tty(&mut self, tty: bool) -> &mut Self {
        self.tty = tty;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error::Spawn`] when the program cannot be started; [`Error::Setting`] or [`Error::Refused`] for
    /// a setting that makes no sense.
    pub fn spawn(&mut self) -> Result<Child> {
        self.spawn_with([Stdio::Inherit, Stdio::Inherit, Stdio::Inherit])
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn status(&mut self) -> Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Starts it, and collects what it prints until its end.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn output(&mut self) -> Result<Output> {
        self.spawn_with([Stdio::Null, Stdio::Piped, Stdio::Piped])?.wait_with_output()
    }

    /// As [`Command::output`], for a program that is to end within `limit`. One that does not is killed (processes
    /// that it has started are not).
    ///
    /// # Errors
    /// As [`Command::spawn`]; [`Error::TimedOut`], with what it has printed.
    pub fn output_timeout(&mut self, limit: Duration) -> Result<Output> {
        let end = super::until(limit);
        let mut child = self.spawn_with([Stdio::Null, Stdio::Piped, Stdio::Piped])?;
        let pipes = child.take_pipes();
        let [stdout, stderr] = read_all(&self.inner, pipes, end).map_err(|e| Error::host(READ, e))?;
        if let Some(status) = child.exited(end)? {
            return Ok(Output { status, stdout, stderr });
        }
        child.kill()?;
        let program = self.program.to_string_lossy().into_owned();
        Err(Error::TimedOut { program, limit, output: Box::new((stdout, stderr)) })
    }

    fn spawn_with(&self, default: [Stdio; 3]) -> Result<Child> {
        let mut guests = Vec::new();
        let mut numbers = Vec::new();
        let mut ours = [None, None, None];
        for (i, (set, default)) in self.stdio.iter().zip(&default).enumerate() {
            let (guest, own) = set.as_ref().unwrap_or(default).open(i as i32)?;
            numbers.push(guest.as_ref().map_or(-1, |_| guests.len() as i32));
            guests.extend(guest);
            ours[i] = own;
        }
        let spawn = self.request(numbers)?;
        if self.inner.bell.is_some() {
            lock(&self.inner.base).get_or_insert_with(|| base(&spawn));
        }
        let request = Request::Spawn(spawn);
        let pid = match self.inner.ask(request, guests) {
            Ok(Response::Pid(pid)) => pid,
            Ok(Response::Unrunnable { errno, message }) => {
                return Err(Error::Spawn { program: self.program.to_string_lossy().into_owned(), errno, message });
            }
            Ok(other) => return Err(super::unexpected(other)),
            Err(e) => return Err(e),
        };
        let [stdin, stdout, stderr] = ours;
        Ok(Child {
            inner: self.inner.clone(),
            pid,
            status: None,
            stdin: stdin.map(ChildStdin::from),
            stdout: stdout.map(ChildStdout::from),
            stderr: stderr.map(ChildStderr::from),
        })
    }

    fn request(&self, fds: Vec<i32>) -> Result<Spawn> {
        let program = no_nul(&self.program)?;
        if program.is_empty() {
            return Err(Error::Setting("the program's name is empty".into()));
        }
        if self.cwd.is_none() && !self.inner.given.host_tree && program[0] != b'/' && program.contains(&b'/') {
            let shown = self.program.to_string_lossy();
            return Err(Error::Setting(format!("a relative program path needs a working directory: {shown}")));
        }
        let mut argv = vec![no_nul(self.arg0.as_ref().unwrap_or(&self.program))?];
        for arg in &self.args {
            argv.push(no_nul(arg)?);
        }
        Ok(Spawn {
            program,
            argv,
            env: self.environment()?,
            cwd: self.directory()?,
            user: self.user,
            fds,
            umask: self.umask,
            rlimits: self.inner.given.limits(),
            tty: self.tty,
        })
    }

    fn environment(&self) -> Result<Vec<Vec<u8>>> {
        let mut vars = BTreeMap::new();
        if !self.clear_env {
            vars.extend(std::env::vars_os());
        }
        for (key, value) in &self.env {
            match value {
                Some(value) => vars.insert(key.clone(), value.clone()),
                None => vars.remove(key),
            };
        }
        vars.into_iter()
            .map(|(key, value)| {
                if key.is_empty() || key.as_bytes()[1..].contains(&b'=') {
                    return Err(Error::Setting(format!("not a variable's name: {key:?}")));
                }
                let mut line = no_nul(&key)?;
                line.push(b'=');
                line.extend(no_nul(&value)?);
                Ok(line)
            })
            .collect()
    }

    fn directory(&self) -> Result<Vec<u8>> {
        match &self.cwd {
            Some(dir) => super::inside(dir),
            None if self.inner.given.host_tree => {
                let known = self.inner.given.cwd.clone().map_or_else(std::env::current_dir, Ok);
                Ok(known.map_or_else(|_| b"/".to_vec(), |d| d.into_os_string().into_vec()))
            }
            None => Ok(b"/".to_vec()),
        }
    }
}

/// What there is to remember of the first program.
fn base(spawn: &Spawn) -> Base {
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let pair = |line: &Vec<u8>| {
        let at = line.iter().skip(1).position(|&b| b == b'=')? + 1;
        Some((text(&line[..at]), text(&line[at + 1..])))
    };
    Base {
        command: spawn.argv.iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect(),
        env: spawn.env.iter().filter_map(pair).collect(),
        cwd: PathBuf::from(text(&spawn.cwd)),
        umask: spawn.umask,
        user: spawn.user,
    }
}

fn no_nul(text: &OsStr) -> Result<Vec<u8>> {
    match text.as_bytes().contains(&0) {
        true => Err(Error::Setting(format!("a NUL byte in {text:?}"))),
        false => Ok(text.as_bytes().to_vec()),
    }
}

impl super::Given {
    /// Soft and hard limits of a new process, by resource number.
    fn limits(&self) -> Vec<(u64, u64)> {
        let mut all = self.limits.clone().unwrap_or_else(limits);
        for &(resource, most) in &self.most {
            all[resource] = (all[resource].0.min(most), all[resource].1.min(most));
        }
        all
    }
}

/// The caller's own limits, by resource number.
pub(super) fn limits() -> Vec<(u64, u64)> {
    use nix::sys::resource::{Resource as R, getrlimit};
    let numbered = [
        R::RLIMIT_CPU,
        R::RLIMIT_FSIZE,
        R::RLIMIT_DATA,
        R::RLIMIT_STACK,
        R::RLIMIT_CORE,
        R::RLIMIT_RSS,
        R::RLIMIT_NPROC,
        R::RLIMIT_NOFILE,
        R::RLIMIT_MEMLOCK,
        R::RLIMIT_AS,
        R::RLIMIT_LOCKS,
        R::RLIMIT_SIGPENDING,
        R::RLIMIT_MSGQUEUE,
        R::RLIMIT_NICE,
        R::RLIMIT_RTPRIO,
        R::RLIMIT_RTTIME,
    ];
    numbered.into_iter().map(|r| getrlimit(r).unwrap_or((u64::MAX, u64::MAX))).collect()
}

/// Something that happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended.
    Exited(ExitStatus),
    /// It was stopped by this signal.
    Stopped(i32),
}

/// A process in a sandbox. Dropping the handle leaves it running.
#[derive(Debug)]
pub struct Child {
    inner: Arc<Inner>,
    pid: u32,
    status: Option<ExitStatus>,
    /// The pipe to its standard input, if it was [`Stdio::Piped`].
    pub stdin: Option<ChildStdin>,
    /// The pipe from its standard output.
    pub stdout: Option<ChildStdout>,
    /// The pipe from its standard error.
    pub stderr: Option<ChildStderr>,
}

impl Child {
    /// A process that runs already.
    pub(super) fn known(inner: Arc<Inner>, pid: u32) -> Child {
        Child { inner, pid, status: None, stdin: None, stdout: None, stderr: None }
    }

    /// Its process id in the sandbox. The first process is 1.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Closes its standard input and waits for its end.
    ///
    /// # Errors
    /// When the sandbox has ended before it.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        if let Some(status) = self.status {
            return Ok(status);
        }
        let pid = self.pid;
        let status = self.inner.until(|state| exit_of(state.changes.get_mut(&pid)?))?;
        self.ended(status);
        Ok(status)
    }

    /// Its status, if it has ended.
    ///
    /// # Errors
    /// When the sandbox has ended before it.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.exited(Wait::Not)
    }

    /// Closes its standard input and waits for its end, for no longer than `limit`; `None` when it has not ended by
    /// then.
    ///
    /// # Errors
    /// When the sandbox has ended before it.
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        drop(self.stdin.take());
        self.exited(super::until(limit))
    }

    fn exited(&mut self, wait: Wait) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let pid = self.pid;
            let found = self.inner.poll(wait, |state| exit_of(state.changes.get_mut(&pid)?))?;
            if let Some(status) = found {
                self.ended(status);
            }
        }
        Ok(self.status)
    }

    /// The next thing that happens to it; waits for it.
    ///
    /// # Errors
    /// When the sandbox has ended before it.
    pub fn wait_change(&mut self) -> Result<Change> {
        if let Some(status) = self.status {
            return Ok(Change::Exited(status));
        }
        let pid = self.pid;
        let change = self.inner.until(|state| state.changes.get_mut(&pid)?.pop_front())?;
        if let Change::Exited(status) = change {
            self.ended(status);
        }
        Ok(change)
    }

    /// What happened to it since the last call, without waiting. To wait, poll the sandbox's
    /// descriptor for reading.
    ///
    /// # Errors
    /// When the sandbox has ended before it.
    pub fn try_change(&mut self) -> Result<Option<Change>> {
        if let Some(status) = self.status {
            return Ok(Some(Change::Exited(status)));
        }
        let pid = self.pid;
        let change = self.inner.poll(Wait::Not, |state| state.changes.get_mut(&pid)?.pop_front())?;
        if let Some(Change::Exited(status)) = change {
            self.ended(status);
        }
        Ok(change)
    }

    fn ended(&mut self, status: ExitStatus) {
        self.status = Some(status);
        lock(&self.inner.state).changes.remove(&self.pid);
    }

    /// Kills it. That it has ended already is no error.
    ///
    /// # Errors
    /// When the sandbox has ended before it.
    pub fn kill(&mut self) -> Result {
        match self.signal(libc::SIGKILL) {
            Err(Error::ProcessEnded(_)) => Ok(()),
            other => other,
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// [`Error::ProcessEnded`] when its end is known.
    pub fn signal(&mut self, signal: i32) -> Result {
        // Its number may be another process's by now.
        let exit = |change: &Change| matches!(change, Change::Exited(_));
        let told = lock(&self.inner.state).changes.get(&self.pid).is_some_and(|c| c.iter().any(exit));
        if self.status.is_some() || told {
            return Err(Error::ProcessEnded(self.pid));
        }
        match self.inner.ask_ok(Request::Kill { pid: self.pid as i32, signal }) {
            Err(Error::Refused { errno: libc::ESRCH, .. }) => Err(Error::ProcessEnded(self.pid)),
            other => other,
        }
    }

    /// Closes its standard input, and collects what comes from its piped streams until its end.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn wait_with_output(mut self) -> Result<Output> {
        let pipes = self.take_pipes();
        let [stdout, stderr] = read_all(&self.inner, pipes, Wait::Ever).map_err(|e| Error::host(READ, e))?;
        Ok(Output { status: self.wait()?, stdout, stderr })
    }

    /// Its output pipes; closes its standard input.
    fn take_pipes(&mut self) -> [Option<OwnedFd>; 2] {
        drop(self.stdin.take());
        [self.stdout.take().map(OwnedFd::from), self.stderr.take().map(OwnedFd::from)]
    }
}

/// The exit among a process's changes; earlier ones are dropped.
fn exit_of(changes: &mut VecDeque<Change>) -> Option<ExitStatus> {
    while let Some(change) = changes.pop_front() {
        if let Change::Exited(status) = change {
            return Some(status);
        }
    }
    None
}

/// Reads two pipes to their ends, or for as long as `wait` says, whichever has something, and serves the sandbox
/// meanwhile if that is ours to do.
fn read_all(inner: &Inner, pipes: [Option<OwnedFd>; 2], wait: Wait) -> io::Result<[Vec<u8>; 2]> {
    let mut got = [Vec::new(), Vec::new()];
    let mut pipes = pipes.map(|pipe| pipe.map(File::from));
    let mut served = inner.link.served_here();
    let mut buf = [0; 16 << 10];
    while pipes.iter().any(Option::is_some) {
        let mut fds: Vec<_> = pipes.iter().flatten().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        fds.extend(served.map(|poller| PollFd::new(poller, PollFlags::POLLIN)));
        let limit = match wait {
            Wait::Until(end) => timeout(end.saturating_duration_since(Instant::now())),
            _ => PollTimeout::NONE,
        };
        match poll(&mut fds, limit) {
            Err(nix::Error::EINTR) => continue,
            Ok(0) => break,
            other => other?,
        };
        let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(true)).collect();
        let mut ready = ready.into_iter();
        for (pipe, got) in pipes.iter_mut().zip(&mut got) {
            if pipe.is_some() && ready.next() == Some(true) {
                let n = pipe.as_mut().map_or(Ok(0), |pipe| pipe.read(&mut buf))?;
                got.extend_from_slice(&buf[..n]);
                if n == 0 {
                    *pipe = None;
                }
            }
        }
        // With the sandbox its processes end, and so do the pipes.
        if ready.next() == Some(true) && inner.poll(Wait::Not, |_| None::<()>).is_err() {
            served = None;
        }
    }
    Ok(got)
}

/// A status as a shell tells it: the exit code, or 128 and the signal's number.
pub fn shell_status(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(super::PANIC_STATUS)
}
