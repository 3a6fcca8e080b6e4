//! The holder's side of a named sandbox's socket.
//!
//! It is served by threads of the process that holds the sandbox, which is outside of the jail and shares neither memory
//! nor descriptors with guests. They make the same calls as any other user of the library.

use super::protocol::{Exec, FromSandbox, PROTOCOL, Status, Target, ToSandbox};
use super::registry::Claim;
use crate::sandbox::channel::{self, Channel, Received};
use crate::sandbox::command::{Change, Command};
use crate::sandbox::error::{Error, Result};
use crate::sandbox::link::Wait;
use crate::sandbox::save::SaveOptions;
use crate::sandbox::stdio::Stdio;
use crate::sandbox::{Inner, lock, without_signals};
use drupe_kernel::abi::control::{Request, Response, Stats};
use nix::sys::socket::{Shutdown, shutdown, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Most connections at once.
const CLIENTS: usize = 128;
/// How long a client may take to say what it wants, and to take an answer.
const PATIENCE: i64 = 5;
/// How long the end waits for clients to be told of it.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often somebody who waits is looked at whether he is still there.
const LOOK: Duration = Duration::from_millis(500);
/// How long a pause waits for every task to stand still.
const STILL: Duration = Duration::from_secs(5);

/// See the module.
pub struct Desk {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<Inner>,
    claim: Mutex<Option<Claim>>,
    /// Changes of the pause that look at it before.
    pausing: Mutex<()>,
    /// Clients that are being served, and of them those that follow events.
    served: Mutex<(usize, usize)>,
    fewer: Condvar,
    /// No more events will come: who follows them says the last ones.
    closing: AtomicBool,
}

impl Desk {
    /// Begins to serve.
    ///
    /// # Errors
    /// The host's.
    pub fn open(inner: Arc<Inner>, claim: Claim) -> Result<Desk> {
        let failed = |e| Error::host("serve the sandbox's name", e);
        let listener = claim.listener().try_clone_to_owned().map_err(failed)?;
        let shared = Arc::new(Shared {
            inner,
            claim: Mutex::new(Some(claim)),
            pausing: Mutex::default(),
            served: Mutex::default(),
            fewer: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        let spawn = |name: &str, job: Box<dyn FnOnce() + Send>| thread::Builder::new().name(name.into()).spawn(job);
        let (reads, accepts) = (shared.clone(), shared.clone());
        let began = without_signals(|| {
            spawn("drupe-reader", Box::new(move || reads.read()))
                .and_then(|_| spawn("drupe-desk", Box::new(move || accepts.accept(&listener))))
        });
        began.map_err(failed)?;
        Ok(Desk { shared })
    }

    /// The sandbox is about to be ended: those who follow its events get the last ones.
    pub fn closing(&self) {
        self.shared.closing.store(true, SeqCst);
        self.shared.inner.stir();
        self.shared.until_fewer(|served| served.1 == 0);
    }

    /// It has ended: everybody is told, and the name is free.
    pub fn close(&self) {
        self.shared.unlist();
        self.shared.until_fewer(|served| served.0 == 0);
    }
}

impl Shared {
    /// Takes messages of the supervisor in, on behalf of all other threads.
    fn read(&self) {
        let _ = self.inner.until(|_| None::<()>);
        self.unlist();
    }

    fn unlist(&self) {
        if let Some(claim) = lock(&self.claim).take() {
            // Who waits in accept(2) returns.
            let _ = shutdown(claim.listener().as_raw_fd(), Shutdown::Both);
        }
    }

    fn until_fewer(&self, few: impl Fn(&(usize, usize)) -> bool) {
        let served = lock(&self.served);
        let more = |served: &mut (usize, usize)| !few(served);
        drop(self.fewer.wait_timeout_while(served, FAREWELL, more).unwrap_or_else(PoisonError::into_inner));
    }

    fn accept(self: Arc<Shared>, listener: &OwnedFd) {
        loop {
            // SAFETY: plain numbers; a descriptor made just now is ours.
            let client = unsafe {
                let (none, fd) = (std::ptr::null_mut(), listener.as_raw_fd());
                let fd = libc::accept4(fd, none, none.cast(), libc::SOCK_CLOEXEC);
                (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
            };
            let Some(client) = client else {
                match std::io::Error::last_os_error().raw_os_error() {
                    Some(libc::EINVAL | libc::EBADF) => return,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                        thread::sleep(Duration::from_millis(20));
                    }
                    _ => {}
                }
                continue;
            };
            let room = {
                let mut served = lock(&self.served);
                served.0 += 1;
                served.0 <= CLIENTS
            };
            let shared = self.clone();
            let serve = move || {
                let _ = Client::serve(&shared, client, room);
                shared.leave(|served| served.0 -= 1);
            };
            if thread::Builder::new().name("drupe-client".into()).spawn(serve).is_err() {
                self.leave(|served| served.0 -= 1);
            }
        }
    }

    fn leave(&self, f: impl FnOnce(&mut (usize, usize))) {
        f(&mut lock(&self.served));
        self.fewer.notify_all();
    }

    fn stats(&self) -> Result<Stats> {
        match self.inner.ask(Request::Stats, Vec::new())? {
            Response::Stats(stats) => Ok(stats),
            other => Err(crate::sandbox::unexpected(other)),
        }
    }

    fn status(&self) -> Result<FromSandbox> {
        let stats = self.stats()?;
        let supervisor = self.inner.link.pid();
        let command = lock(&self.inner.base).as_ref().map(|base| base.command.clone()).unwrap_or_default();
        let memory = stats.heap + stats.memfile + private_memory(supervisor);
        Ok(FromSandbox::Status(Status { supervisor, command, tasks: stats.tasks, memory, paused: stats.paused }))
    }

    fn pause(&self) -> Result<FromSandbox> {
        let _one = lock(&self.pausing);
        if self.stats()?.paused {
            return Ok(refused(libc::EALREADY, "it is paused already"));
        }
        self.inner.ask_ok(Request::Pause)?;
        let end = Instant::now() + STILL;
        while self.stats()?.moving > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(FromSandbox::Done)
    }

    fn resume(&self) -> Result<FromSandbox> {
        let _one = lock(&self.pausing);
        if !self.stats()?.paused {
            return Ok(refused(libc::EINVAL, "it is not paused"));
        }
        self.inner.ask_ok(Request::Unpause).map(|()| FromSandbox::Done)
    }

    fn kill(&self, signal: i32, target: Target) -> Result<FromSandbox> {
        let pid = match target {
            Target::All => 0,
            Target::Process(pid) => i32::try_from(pid).ok().filter(|&pid| pid > 0).unwrap_or(i32::MAX),
            Target::Init => match lock(&self.inner.state).first {
                Some(pid) => pid as i32,
                None => return Ok(refused(libc::ESRCH, "no process was started in it")),
            },
        };
        self.inner.ask_ok(Request::Kill { pid, signal }).map(|()| FromSandbox::Done)
    }
}

fn refused(errno: i32, message: &str) -> FromSandbox {
    FromSandbox::Refused { errno, message: message.into() }
}

/// What the host processes below a supervisor have of their own, bytes; those that end meanwhile do not count.
fn private_memory(supervisor: u32) -> u64 {
    /// A namespace of pids has one process more in between.
    const DEPTH: usize = 3;
    let children = |pid: &u32| {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>()
    };
    let private = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let mut pages = text.split_ascii_whitespace().skip(1).map(|n| n.parse::<u64>().unwrap_or(0));
        Some(pages.next()?.saturating_sub(pages.next()?) * 4096)
    };
    let (mut generation, mut sum) = (vec![supervisor], 0);
    for _ in 0..DEPTH {
        generation = generation.iter().flat_map(children).collect();
        sum += generation.iter().filter_map(private).sum::<u64>();
    }
    sum
}

/// A connection.
struct Client<'a> {
    shared: &'a Shared,
    channel: Channel,
}

impl Client<'_> {
    fn serve(shared: &Shared, socket: OwnedFd, room: bool) -> Result<(), std::io::Error> {
        let who = nix::sys::socket::getsockopt(&socket, sockopt::PeerCredentials)?;
        let limit = TimeVal::seconds(PATIENCE);
        nix::sys::socket::setsockopt(&socket, sockopt::SendTimeout, &limit)?;
        nix::sys::socket::setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
        let mut client = Client { shared, channel: Channel::new(socket) };
        client.say(&FromSandbox::Hello { protocol: PROTOCOL })?;
        if who.uid() != 0 && who.uid() != nix::unistd::geteuid().as_raw() {
            return client.say(&refused(libc::EPERM, "it is another user's"));
        }
        if !room {
            return client.say(&refused(libc::EAGAIN, "too many others ask for it"));
        }
        let Received::Message(request, fds) = client.channel.receive::<ToSandbox>(true)? else { return Ok(()) };
        match client.answer(request, fds) {
            Ok(last) => client.say(&last),
            Err(e) => client.say(&refused(e.errno().unwrap_or(0), &e.to_string())),
        }
    }

    fn say(&self, message: &FromSandbox) -> std::io::Result<()> {
        channel::send(self.channel.as_fd(), message, &[])
    }

    fn answer(&mut self, request: ToSandbox, fds: Vec<OwnedFd>) -> Result<FromSandbox> {
        let shared = self.shared;
        match request {
            ToSandbox::Status => shared.status(),
            ToSandbox::Exec(exec) => self.exec(exec, fds),
            ToSandbox::Kill { signal, target } => shared.kill(signal, target),
            ToSandbox::Pause => shared.pause(),
            ToSandbox::Resume => shared.resume(),
            ToSandbox::Wait => self.wait(),
            ToSandbox::Events { follow } => {
                lock(&shared.served).1 += 1;
                let told = self.events(follow);
                shared.leave(|served| served.1 -= 1);
                told
            }
            ToSandbox::Allow(place) => {
                let place = place.parse().map_err(Error::Setting)?;
                shared.inner.allow(&place).map(|()| FromSandbox::Done)
            }
            ToSandbox::Debug => match shared.inner.ask(Request::Dump, Vec::new())? {
                Response::Text(text) => Ok(FromSandbox::Text(text)),
                other => Err(crate::sandbox::unexpected(other)),
            },
            ToSandbox::Save { go_on, detach, parent } => {
                let parent = parent.map(|path| PathBuf::from(OsString::from_vec(path)));
                self.save(fds, go_on, &SaveOptions { parent, detach, ..SaveOptions::default() })
            }
            ToSandbox::Signal(_) | ToSandbox::Foreground(_) | ToSandbox::End => {
                Ok(refused(libc::EPROTO, "no program was asked for"))
            }
        }
    }

    /// Writes an image; unless the sandbox goes on meanwhile, it ends once the client has put the image in its place.
    fn save(&mut self, fds: Vec<OwnedFd>, go_on: bool, options: &SaveOptions) -> Result<FromSandbox> {
        let shared = self.shared;
        let Some(file) = fds.into_iter().next() else { return Ok(refused(libc::EPROTO, "no file came along")) };
        let file = std::fs::File::from(file);
        // It takes some time, and the sandbox goes on meanwhile.
        let parent = options.index()?;
        let _one = lock(&shared.pausing);
        if go_on {
            return shared.inner.save_running(file, options.detach, parent.as_ref()).map(FromSandbox::Saved);
        }
        shared.inner.ask_ok(Request::Pause)?;
        let saved = shared.inner.save(file, false, options.detach, parent.as_ref());
        let mut ends = false;
        if let Ok(bytes) = &saved {
            let _ = self.say(&FromSandbox::Saved(*bytes));
            ends = matches!(self.channel.receive(true), Ok(Received::Message(ToSandbox::End, _)));
        }
        if ends {
            // With its first process the sandbox may be gone at any time from here on.
            let _ = shared.inner.ask_ok(Request::Kill { pid: 0, signal: libc::SIGKILL });
            let _ = shared.inner.ask_ok(Request::Unpause);
            return Ok(FromSandbox::Done);
        }
        shared.inner.ask_ok(Request::Unpause)?;
        saved.map(|_| FromSandbox::Done)
    }

    /// Whether the client has hung up.
    fn is_gone(&self) -> bool {
        let mut byte = 0u8;
        let fd = self.channel.as_fd().as_raw_fd();
        // SAFETY: one byte of ours.
        unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) == 0 }
    }

    fn wait(&self) -> Result<FromSandbox> {
        while !self.is_gone() {
            let looked = self.shared.inner.poll(Wait::Until(Instant::now() + LOOK), |state| state.first_status);
            if let Some(status) = looked? {
                return Ok(FromSandbox::Exited(status));
            }
        }
        Ok(FromSandbox::Done)
    }

    fn events(&self, follow: bool) -> Result<FromSandbox> {
        let (shared, inner) = (self.shared, &self.shared.inner);
        let mut next = 0;
        loop {
            let seen = lock(&inner.state).news;
            let last = shared.closing.load(SeqCst) || !follow;
            let Response::Records { list, first } =
                inner.ask(Request::Records { from: next, tell: !last }, Vec::new())?
            else {
                return Ok(refused(libc::EPROTO, "it does not say what has happened"));
            };
            if !list.is_empty() {
                let lost = first.saturating_sub(next);
                next = first + list.len() as u64;
                if self.say(&FromSandbox::Records { list, lost }).is_err() {
                    return Ok(FromSandbox::Done);
                }
                continue;
            }
            if last {
                return Ok(FromSandbox::Done);
            }
            while !shared.closing.load(SeqCst) {
                let news = |state: &mut crate::sandbox::State| (state.news != seen).then_some(());
                if inner.poll(Wait::Until(Instant::now() + LOOK), news)?.is_some() {
                    break;
                }
                if self.is_gone() {
                    return Ok(FromSandbox::Done);
                }
            }
        }
    }

    /// Runs a program, and passes signals on until it has ended or the client has hung up.
    fn exec(&mut self, exec: Exec, fds: Vec<OwnedFd>) -> Result<FromSandbox> {
        let shared = self.shared;
        if shared.stats()?.paused {
            return Ok(refused(libc::EBUSY, "it is paused: resume it first"));
        }
        let mut child = match self.command(exec, fds)?.spawn() {
            Ok(child) => child,
            Err(Error::Spawn { errno, message, .. }) => return Ok(FromSandbox::Unrunnable { errno, message }),
            Err(e) => return Err(e),
        };
        let pid = child.id();
        let (socket, ended) = (self.channel.socket(), Arc::new(AtomicBool::new(false)));
        channel::send(socket.as_fd(), &FromSandbox::Started { pid }, &[]).map_err(|e| Error::host("answer", e))?;
        let told = ended.clone();
        let follow = move || {
            loop {
                let (message, last) = match child.wait_change() {
                    Ok(Change::Stopped(signal)) => (FromSandbox::Stopped(signal), false),
                    Ok(Change::Exited(status)) => (FromSandbox::Exited(status.into_raw()), true),
                    // It has ended with the sandbox.
                    Err(_) => (FromSandbox::Exited(libc::SIGKILL), true),
                };
                told.fetch_or(last, SeqCst);
                let _ = channel::send(socket.as_fd(), &message, &[]);
                if last {
                    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
                    return;
                }
            }
        };
        let follower =
            thread::Builder::new().name("drupe-exec".into()).spawn(follow).map_err(|e| Error::host("wait", e))?;
        // A client has as much time as its program.
        let _ = nix::sys::socket::setsockopt(&self.channel.as_fd(), sockopt::ReceiveTimeout, &TimeVal::seconds(0));
        while let Ok(Received::Message(message, _)) = self.channel.receive::<ToSandbox>(true) {
            let request = match message {
                ToSandbox::Signal(signal) => Request::Kill { pid: pid as i32, signal },
                ToSandbox::Foreground(signal) => Request::KillForeground { pid, signal },
                _ => break,
            };
            if !ended.load(SeqCst) {
                let _ = shared.inner.ask_ok(request);
            }
        }
        if !ended.load(SeqCst) {
            // As when a terminal goes away.
            let _ = shared.inner.ask_ok(Request::Kill { pid: -(pid as i32), signal: libc::SIGHUP });
        }
        let _ = follower.join();
        Ok(FromSandbox::Done)
    }

    fn command(&self, exec: Exec, fds: Vec<OwnedFd>) -> Result<Command> {
        let inner = &self.shared.inner;
        let text = OsString::from_vec;
        let mut command = Command::new(inner.clone(), OsStr::from_bytes(&exec.program));
        command.args(exec.args.into_iter().map(text)).tty(exec.tty);
        if let Some(base) = &*lock(&inner.base) {
            command.env_clear().envs(base.env.iter().cloned()).current_dir(&base.cwd).umask(base.umask);
            if let Some((uid, gid)) = base.user {
                command.user(uid, gid);
            }
        }
        command.envs(exec.env.into_iter().map(|(key, value)| (text(key), text(value))));
        if let Some(dir) = exec.cwd {
            command.current_dir(PathBuf::from(text(dir)));
        }
        if let Some((uid, gid)) = exec.user {
            command.user(uid, gid);
        }
        let mut fds = fds.into_iter();
        let mut stream = |open: bool| if open { fds.next().map_or(Stdio::Closed, Stdio::Fd) } else { Stdio::Closed };
        let [input, output, errors] = exec.streams.map(&mut stream);
        command.stdin(input).stdout(output).stderr(errors);
        Ok(command)
    }
}
