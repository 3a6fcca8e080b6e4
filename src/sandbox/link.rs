//! How a sandbox's holder reaches its supervisor.

use super::channel::{self, Channel, FromSupervisor, Received, ToSupervisor};
use super::supervisor::{EXPIRED_STATUS, PANIC_STATUS, Server};
use super::{End, lock};
use drupe_kernel::abi::control::Request;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// How long to wait for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Not,
    /// Until then.
    Until(Instant),
    /// Until there is one.
    Ever,
}

/// The same for `poll(2)`: whole milliseconds, rounded up, so that nobody spins at the end.
pub fn timeout(left: Duration) -> PollTimeout {
    let ms = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}

/// One end of it.
pub enum Link {
    /// The supervisor is a process of its own.
    Apart(Apart),
    /// This process is the supervisor.
    Here(Box<Here>),
}

/// See [`Link::Apart`].
pub struct Apart {
    socket: Arc<OwnedFd>,
    /// Locked by whoever waits for messages, on behalf of all who do.
    reader: Mutex<Channel>,
    /// Messages must not mix.
    writer: Mutex<()>,
    pid: libc::pid_t,
    /// The signal that ends it, and everything below it.
    ending: i32,
    /// How long it may live.
    limit: Option<Duration>,
    /// How it ended, once it was waited for: after that the number may be another process's.
    status: OnceLock<Option<ExitStatus>>,
}

/// See [`Link::Here`].
pub struct Here {
    server: Mutex<Server>,
    /// Copy of the poller's descriptor.
    poller: OwnedFd,
    /// The only thread that may serve: guests end with it.
    thread: ThreadId,
}

impl Link {
    /// To the supervisor `pid`, by our end of its socket; the signal `ending` ends it and everything below it, and so it
    /// does itself after `limit`.
    pub fn apart(channel: Channel, pid: libc::pid_t, ending: i32, limit: Option<Duration>) -> Link {
        Link::Apart(Apart {
            socket: channel.socket(),
            reader: Mutex::new(channel),
            writer: Mutex::new(()),
            pid,
            ending,
            limit,
            status: OnceLock::new(),
        })
    }

    /// To the supervisor that the running thread is.
    ///
    /// # Errors
    /// The host's.
    pub fn here(server: Server) -> io::Result<Link> {
        let poller = server.as_fd().try_clone_to_owned()?;
        let thread = std::thread::current().id();
        Ok(Link::Here(Box::new(Here { server: Mutex::new(server), poller, thread })))
    }

    /// Sends a request; the answer comes by [`Link::receive`].
    ///
    /// # Errors
    /// `EPIPE` or `ECONNRESET` when the supervisor is gone; the host's.
    pub fn request(&self, id: u64, request: Request, fds: Vec<OwnedFd>) -> io::Result<()> {
        match self {
            Link::Apart(apart) => {
                let fds: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
                apart.send(&ToSupervisor::Request { id, request: Cow::Owned(request) }, &fds)
            }
            Link::Here(here) => here.served()?.request(id, request, fds),
        }
    }

    /// Takes one message in; waits for it as `wait` says.
    ///
    /// # Errors
    /// The host's; garbage on the socket.
    pub fn receive(&self, wait: Wait) -> io::Result<Received<FromSupervisor>> {
        if let Wait::Until(end) = wait {
            loop {
                match self.receive(Wait::Not)? {
                    Received::Pending => {}
                    other => return Ok(other),
                }
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Received::Pending);
                }
                let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
                match poll(&mut fds, timeout(left)) {
                    Ok(_) | Err(nix::Error::EINTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        let wait = wait == Wait::Ever;
        match self {
            Link::Apart(apart) => lock(&apart.reader).receive(wait),
            Link::Here(here) => Ok(here.served()?.receive(wait)),
        }
    }

    /// Ends the sandbox; nothing is left of it afterwards.
    pub fn end(&self) {
        match self {
            Link::Apart(apart) => drop(apart.part(PATIENCE)),
            // Another thread leaves it to the host, which ends the guests with this process.
            Link::Here(here) => drop(here.served().map(|mut server| server.bury())),
        }
    }

    /// Why it hung up without a word; or, with `broken`, ends it at once because of what it said.
    pub fn lost(&self, what: &str, broken: bool) -> End {
        let (status, limit) = match self {
            Link::Apart(apart) => (apart.part(if broken { Duration::ZERO } else { PATIENCE }), apart.limit),
            Link::Here(_) => (None, None),
        };
        match status.filter(|_| !broken) {
            Some(s) if s.code() == Some(EXPIRED_STATUS) => End::Expired(limit.unwrap_or_default()),
            Some(s) if s.code() == Some(PANIC_STATUS) => End::Panic("kernel panic".into()),
            Some(s) if s.signal().is_some() => End::Lost(format!("{what} ({s})")),
            _ => End::Lost(what.to_string()),
        }
    }

    /// What to poll while the sandbox has to be served by this process.
    pub fn served_here(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Link::Apart(_) => None,
            Link::Here(here) => Some(here.poller.as_fd()),
        }
    }

    /// The supervisor's process id.
    pub fn pid(&self) -> u32 {
        match self {
            Link::Apart(apart) => apart.pid as u32,
            Link::Here(_) => std::process::id(),
        }
    }
}

/// Readable when there may be a message.
impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Link::Apart(apart) => apart.socket.as_fd(),
            Link::Here(here) => here.poller.as_fd(),
        }
    }
}

impl Apart {
    fn send(&self, message: &ToSupervisor<'_>, fds: &[i32]) -> io::Result<()> {
        let _one = lock(&self.writer);
        // It takes requests as they come. One that takes none has not room for another some time.
        let mut room = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut room, timeout(PATIENCE)) == Ok(0) {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        channel::send(self.socket.as_fd(), message, fds)
    }

    /// Hangs up, and waits for the supervisor's end, which it is made to come to when that takes longer than `patience`;
    /// `None` if somebody else has reaped it.
    fn part(&self, patience: Duration) -> Option<ExitStatus> {
        // Neither a thread that waits for it to read nor one that waits for its answer waits any longer.
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        *self.status.get_or_init(|| {
            if !ends_within(self.pid, patience) {
                // SAFETY: a child of ours that was not reaped.
                unsafe { libc::kill(self.pid, self.ending) };
            }
            reap(self.pid)
        })
    }
}

/// How long a supervisor may take to end everything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a child ends in so much time; `true` where the host does not let us see.
fn ends_within(pid: libc::pid_t, patience: Duration) -> bool {
    // SAFETY: plain numbers; a descriptor made just now is ours.
    let child = unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32 {
            fd if fd < 0 => return true,
            fd => OwnedFd::from_raw_fd(fd),
        }
    };
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match poll(&mut [PollFd::new(child.as_fd(), PollFlags::POLLIN)], timeout(left)) {
            Ok(0) | Err(nix::Error::EINTR) if left.is_zero() => return false,
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

impl Here {
    fn served(&self) -> io::Result<std::sync::MutexGuard<'_, Server>> {
        if std::thread::current().id() != self.thread {
            return Err(io::Error::other("only the thread that started the sandbox can serve it"));
        }
        Ok(lock(&self.server))
    }
}

/// Waits for the end of a child; `None` if it is none of ours any more.
fn reap(pid: libc::pid_t) -> Option<ExitStatus> {
    use nix::sys::wait::{WaitStatus, waitpid};
    let pid = nix::unistd::Pid::from_raw(pid);
    loop {
        match waitpid(pid, None) {
            Err(nix::Error::EINTR) => {}
            Ok(WaitStatus::Exited(_, code)) => return Some(ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Some(ExitStatus::from_raw(signal as i32)),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}
