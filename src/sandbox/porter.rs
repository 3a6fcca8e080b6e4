//! The porter: a process that connects to the host's network for a sandbox that has a network of its own, and only where
//! that is allowed.
//!
//! It is outside of the jail, behind a filter of its own. It has nothing of the sandbox's memory, no capability, and opens
//! no file; what it says and hears of the sandbox goes over one socket. A request names an address and a port; the answer
//! is the connection's descriptor, or an error number. What is allowed can be changed by the holder alone, over another
//! socket, whose other end no process of the sandbox has.

use super::error::{Error, Result};
use super::supervisor::{self, Helper};
use super::{filter, jail};
use drupe_kernel::abi::porter::{Answer, Ask};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The calls that it makes; `socket` of internet families alone.
pub(super) const CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_connect,
    libc::SYS_sendmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_exit_group,
];

/// Most attempts to connect at a time.
const PENDING: usize = 256;
/// Descriptors that are polled beside those: the line, the holder's socket, the supervisor.
const FIXED: usize = 3;
/// Most rules.
const RULES: usize = 4096;

/// Where a sandbox may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rule {
    /// In version 6 or mapped.
    ip: [u8; 16],
    /// 0: any.
    port: u16,
}

impl Rule {
    /// Connections to this address, to one port or any.
    pub fn new(ip: IpAddr, port: Option<u16>) -> Rule {
        Rule { ip: mapped(ip).octets(), port: port.unwrap_or(0) }
    }

    /// Bytes of a message.
    const SIZE: usize = 18;

    fn to_bytes(self) -> [u8; Rule::SIZE] {
        let mut b = [0; Rule::SIZE];
        b[..16].copy_from_slice(&self.ip);
        b[16..].copy_from_slice(&self.port.to_le_bytes());
        b
    }

    fn from_bytes(b: &[u8; Rule::SIZE]) -> Rule {
        let mut ip = [0; 16];
        ip.copy_from_slice(&b[..16]);
        Rule { ip, port: u16::from_le_bytes([b[16], b[17]]) }
    }

    fn covers(&self, ask: &Ask) -> bool {
        self.ip == ask.ip && (self.port == 0 || self.port == ask.port)
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// What a porter is started with.
#[derive(Debug)]
pub struct Plan {
    /// What is allowed at first.
    pub rules: Vec<Rule>,
    /// To the sandbox.
    pub line: OwnedFd,
    /// To the holder.
    pub control: OwnedFd,
    /// The sandbox's end of the line, which does not block.
    pub inner: OwnedFd,
}

/// A running porter; it ends with this.
#[derive(Debug)]
pub struct Porter {
    /// Its process.
    pub helper: Helper,
    /// The sandbox's end of the line.
    line: Option<OwnedFd>,
}

impl Porter {
    /// Forks it off.
    ///
    /// # Errors
    /// The host's.
    pub fn start(plan: Plan) -> Result<Porter> {
        let maker = std::process::id() as libc::pid_t;
        // SAFETY: the child keeps to host calls and memory that it has.
        match unsafe { libc::fork() } {
            -1 => Err(Error::last("start the porter")),
            0 => {
                // Whom it would say it to has nobody there: connections are refused.
                if let Ok(served) = confine(maker, plan) {
                    served.run();
                }
                // SAFETY: ends this process without the exit handlers of its maker.
                unsafe { libc::_exit(125) }
            }
            pid => Ok(Porter { helper: Helper::new(pid), line: Some(plan.inner) }),
        }
    }
}

impl Drop for Porter {
    /// Nobody in the sandbox may signal it: it ends when no request can come any more.
    fn drop(&mut self) {
        self.line = None;
        self.helper.bury();
    }
}

/// An attempt to connect.
struct Pending {
    id: u64,
    socket: OwnedFd,
}

struct Served {
    plan: Plan,
    /// The supervisor, whose end the line does not tell: it stays open as long as anybody in the sandbox lives.
    maker: Option<OwnedFd>,
    pending: Vec<Pending>,
    polled: Vec<libc::pollfd>,
    /// Whether the holder is there.
    held: bool,
}

/// Leaves what was inherited, and has all the memory that it needs.
fn confine(maker: libc::pid_t, mut plan: Plan) -> Result<Served> {
    supervisor::become_helper(maker, c"drupe-porter");
    let watched = supervisor::watch(maker);
    let keep = [&plan.line, &plan.control].into_iter().chain(&watched).map(AsRawFd::as_raw_fd);
    supervisor::close_others(&keep.collect::<Vec<_>>())?;
    jail::keep_capabilities(0)?;
    // SAFETY: a plain number. Nobody of the same user looks into it or writes to it.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    plan.rules.reserve_exact(RULES.saturating_sub(plan.rules.len()));
    let (pending, polled) = (Vec::with_capacity(PENDING), Vec::with_capacity(PENDING + FIXED));
    filter::install(&filter::of_porter()).map_err(|e| Error::host("confine the porter", e))?;
    Ok(Served { plan, maker: watched, pending, polled, held: true })
}

impl Served {
    /// Serves until the sandbox is gone.
    fn run(mut self) {
        loop {
            self.polled.clear();
            let entry = |fd: RawFd, events| libc::pollfd { fd, events, revents: 0 };
            self.polled.push(entry(self.plan.line.as_raw_fd(), libc::POLLIN));
            self.polled.push(entry(if self.held { self.plan.control.as_raw_fd() } else { -1 }, libc::POLLIN));
            self.polled.push(entry(self.maker.as_ref().map_or(-1, AsRawFd::as_raw_fd), libc::POLLIN));
            self.polled.extend(self.pending.iter().map(|p| entry(p.socket.as_raw_fd(), libc::POLLOUT)));
            // SAFETY: as many entries as it is told of.
            if unsafe { libc::poll(self.polled.as_mut_ptr(), self.polled.len() as libc::nfds_t, -1) } < 0 {
                continue;
            }
            if self.polled[2].revents != 0 {
                return;
            }
            self.connected();
            if self.polled[1].revents != 0 {
                self.allow();
            }
            if self.polled[0].revents != 0 && !self.asked() {
                return;
            }
        }
    }

    /// Tells of attempts that have an outcome.
    fn connected(&mut self) {
        for at in (0..self.pending.len()).rev() {
            if self.polled.get(at + FIXED).is_none_or(|p| p.revents == 0) {
                continue;
            }
            let done = self.pending.swap_remove(at);
            let mut errno = 0i32;
            let mut len = size_of::<i32>() as libc::socklen_t;
            // SAFETY: a number of that size.
            unsafe {
                libc::getsockopt(
                    done.socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_ERROR,
                    (&raw mut errno).cast(),
                    &raw mut len,
                );
            }
            self.answer(done.id, errno, Some(&done.socket));
        }
    }

    /// Takes a rule of the holder.
    fn allow(&mut self) {
        let mut rule = [0u8; Rule::SIZE];
        let fd = self.plan.control.as_raw_fd();
        // SAFETY: a buffer of that size.
        let got = unsafe { libc::read(fd, rule.as_mut_ptr().cast(), rule.len()) };
        if got as usize != rule.len() {
            self.held = false;
            return;
        }
        let rule = Rule::from_bytes(&rule);
        let known = self.plan.rules.contains(&rule);
        let room = self.plan.rules.len() < RULES;
        if !known && room {
            self.plan.rules.push(rule);
        }
        let taken = [u8::from(known || room)];
        // SAFETY: one byte.
        unsafe { libc::write(fd, taken.as_ptr().cast(), 1) };
    }

    /// Takes a request; `false` when there will be none.
    fn asked(&mut self) -> bool {
        let mut ask = [0u8; Ask::SIZE];
        // SAFETY: a buffer of that size.
        match unsafe { libc::read(self.plan.line.as_raw_fd(), ask.as_mut_ptr().cast(), ask.len()) } {
            got if got <= 0 => return false,
            got if got as usize != ask.len() => return true,
            _ => {}
        }
        let ask = Ask::from_bytes(&ask);
        if !self.plan.rules.iter().any(|rule| rule.covers(&ask)) {
            self.answer(ask.id, libc::ENETUNREACH, None);
        } else if self.pending.len() == PENDING {
            self.answer(ask.id, libc::ENOBUFS, None);
        } else {
            match connect(&ask) {
                Ok((socket, true)) => self.answer(ask.id, 0, Some(&socket)),
                Ok((socket, false)) => self.pending.push(Pending { id: ask.id, socket }),
                Err(errno) => self.answer(ask.id, errno, None),
            }
        }
        true
    }

    fn answer(&self, id: u64, errno: i32, socket: Option<&OwnedFd>) {
        let mut bytes = Answer { id, errno }.to_bytes();
        let mut data = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // A control message of one descriptor: length, level, type, the number.
        let mut control = [0u64; 3];
        let fd = socket.filter(|_| errno == 0).map(AsRawFd::as_raw_fd);
        control[0] = 20;
        control[1] = libc::SOL_SOCKET as u64 | (libc::SCM_RIGHTS as u64) << 32;
        control[2] = u64::from(fd.unwrap_or(-1) as u32);
        // SAFETY: zeros are a message; its parts are on this stack.
        unsafe {
            let mut m: libc::msghdr = std::mem::zeroed();
            m.msg_iov = &raw mut data;
            m.msg_iovlen = 1;
            if fd.is_some() {
                m.msg_control = control.as_mut_ptr().cast();
                m.msg_controllen = 24;
            }
            libc::sendmsg(self.plan.line.as_raw_fd(), &raw const m, libc::MSG_NOSIGNAL);
        }
    }
}

/// Begins to connect; whether that is done already.
fn connect(ask: &Ask) -> std::result::Result<(OwnedFd, bool), i32> {
    let errno = || std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    let ip = Ipv6Addr::from(ask.ip);
    let v4 = ip.to_ipv4_mapped();
    let family = if v4.is_some() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain numbers; a descriptor made just now is ours. Addresses are on this stack.
    unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(errno());
        }
        let socket = OwnedFd::from_raw_fd(fd);
        let done = match v4 {
            Some(v4) => {
                let mut addr: libc::sockaddr_in = std::mem::zeroed();
                addr.sin_family = libc::AF_INET as libc::sa_family_t;
                addr.sin_port = ask.port.to_be();
                addr.sin_addr.s_addr = u32::from_ne_bytes(v4.octets());
                libc::connect(fd, (&raw const addr).cast(), size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            None => {
                let mut addr: libc::sockaddr_in6 = std::mem::zeroed();
                addr.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                addr.sin6_port = ask.port.to_be();
                addr.sin6_addr.s6_addr = ask.ip;
                libc::connect(fd, (&raw const addr).cast(), size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        };
        match done {
            0 => Ok((socket, true)),
            _ if errno() == libc::EINPROGRESS => Ok((socket, false)),
            _ => Err(errno()),
        }
    }
}

/// Has the porter at the other end of `control` allow this, too.
///
/// # Errors
/// `EPIPE` when it is gone; too many rules.
pub fn allow(control: &OwnedFd, rule: Rule) -> Result {
    let bytes = rule.to_bytes();
    let mut taken = [0u8; 1];
    // SAFETY: buffers of these sizes.
    let told = unsafe {
        libc::send(control.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) == bytes.len() as isize
            && libc::read(control.as_raw_fd(), taken.as_mut_ptr().cast(), 1) == 1
    };
    match (told, taken) {
        (false, _) => Err(Error::last("tell the porter what is allowed")),
        (true, [0]) => Err(Error::Setting(format!("no more than {RULES} addresses are allowed"))),
        _ => Ok(()),
    }
}
