//! Sockets of the host's network (`--net host`): what they are is asked of the host, by copies of the descriptors.
//!
//! Sockets that are not connected come back as they were, with what can be asked of their options (multicast memberships cannot). The
//! peer of a connection does not: it is a connection that was reset.

use super::error::{ImageError, Loaded, SaveError, Saved};
use super::process::copy_of;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Longest address.
const ADDRESS_MAX: usize = size_of::<libc::sockaddr_storage>();
/// Longest option.
const OPTION_MAX: usize = 64;
/// Largest number of connections that wait, where the host does not tell.
const BACKLOG: i32 = 128;

/// Options that are asked for and set again, those first that `bind(2)` looks at.
const OPTIONS: [(i32, i32); 27] = [
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IP, libc::IP_FREEBIND),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
];

/// How far a socket has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// It can be bound and connected.
    Fresh,
    /// It takes connections; so many may wait.
    Listening(i32),
    /// Datagrams go to this address.
    Connected(Vec<u8>),
    /// It had a peer, or tried to reach one.
    Lost,
}

/// A socket of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    family: i32,
    kind: i32,
    protocol: i32,
    /// Of its description: `O_NONBLOCK` or nothing.
    flags: i32,
    options: Vec<(i32, i32, Vec<u8>)>,
    /// What it is bound to.
    local: Option<Vec<u8>>,
    state: State,
}

impl Socket {
    /// What the descriptor `number` of a process is, whose description has these flags.
    ///
    /// # Errors
    /// [`SaveError::Unsavable`] for sockets that are none of the internet; the host's.
    pub fn of(pid: u32, number: RawFd, flags: i32) -> Saved<Socket> {
        let failed =
            |e| SaveError::host(format!("look at the socket that is the sandbox's host descriptor {number}"), e);
        let fd = copy_of(pid, number).map_err(failed)?;
        let ask = |name| number_of(&fd, libc::SOL_SOCKET, name).map_err(failed);
        let (family, kind, protocol) = (ask(libc::SO_DOMAIN)?, ask(libc::SO_TYPE)?, ask(libc::SO_PROTOCOL)?);
        if ![libc::AF_INET, libc::AF_INET6].contains(&family) {
            let what = format!("its host descriptor {number} is a socket of the host's (family {family})");
            return Err(SaveError::Unsavable(what));
        }
        let options =
            OPTIONS.into_iter().filter_map(|(level, name)| Some((level, name, option(&fd, level, name).ok()?)));
        let options = options.collect();
        let local = name(&fd, false).ok().filter(|a| port(a) != 0 || kind == libc::SOCK_RAW);
        let state = if ask(libc::SO_ACCEPTCONN)? != 0 {
            State::Listening(backlog(&fd))
        } else if kind != libc::SOCK_STREAM {
            name(&fd, true).map_or(State::Fresh, State::Connected)
        } else if is_fresh(&fd) {
            State::Fresh
        } else {
            State::Lost
        };
        let flags = flags & libc::O_NONBLOCK;
        Ok(Socket { family, kind, protocol, flags, options, local, state })
    }

    /// What it is called where something else is to take its place; `None` where nothing tells it from others.
    pub fn name(&self) -> Option<String> {
        let kind = match self.kind {
            libc::SOCK_STREAM if self.state != State::Lost => "tcp",
            libc::SOCK_DGRAM => "udp",
            _ => return None,
        };
        Some(format!("{kind}:{}", shown(self.local.as_deref()?)?))
    }

    /// Makes one like it.
    ///
    /// # Errors
    /// [`ImageError::Unfit`] with what the host refused.
    pub fn open(&self) -> Loaded<OwnedFd> {
        self.made().map_err(|e| {
            let kind = match self.kind {
                libc::SOCK_STREAM => "a TCP socket",
                libc::SOCK_DGRAM => "a UDP socket",
                _ => "a raw socket",
            };
            let at = self.local.as_deref().and_then(shown).map_or(String::new(), |at| format!(" at {at}"));
            ImageError::Unfit(format!("{kind} of the host's{at}, which it had, cannot be made: {e}"))
        })
    }

    fn made(&self) -> io::Result<OwnedFd> {
        let fd = if self.state == State::Lost { self.lost() } else { self.standing() }?;
        // SAFETY: plain numbers.
        done(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, self.flags) })?;
        Ok(fd)
    }

    fn lost(&self) -> io::Result<OwnedFd> {
        let fd = reset(self.family)?;
        self.set(&fd);
        Ok(fd)
    }

    /// One that is not connected, or sends datagrams.
    fn standing(&self) -> io::Result<OwnedFd> {
        let fd = socket(self.family, self.kind, self.protocol)?;
        self.set(&fd);
        if let Some(local) = &self.local {
            // Connections of the saved sandbox may be about to end.
            let stream = self.kind == libc::SOCK_STREAM;
            if stream {
                set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32.to_ne_bytes())?;
            }
            bind(&fd, local)?;
            if stream {
                self.set(&fd);
            }
        }
        match &self.state {
            // SAFETY: plain numbers.
            State::Listening(backlog) => done(unsafe { libc::listen(fd.as_raw_fd(), *backlog) })?,
            State::Connected(peer) => connect(&fd, peer)?,
            State::Fresh | State::Lost => {}
        }
        Ok(fd)
    }

    /// Sets its options, as far as this host has them.
    fn set(&self, fd: &OwnedFd) {
        for (level, name, value) in &self.options {
            let doubled = *level == libc::SOL_SOCKET && [libc::SO_SNDBUF, libc::SO_RCVBUF].contains(name);
            let half = value.first_chunk::<4>().map(|v| (i32::from_ne_bytes(*v) / 2).to_ne_bytes());
            let value = half.as_ref().filter(|_| doubled).map_or(&value[..], |half| &half[..]);
            let _ = set_option(fd, *level, *name, value);
        }
    }
}

/// Whether a stream socket has had to do with no peer yet.
fn is_fresh(fd: &OwnedFd) -> bool {
    const CLOSED: u8 = 7;
    let mut look = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN | libc::POLLRDHUP, revents: 0 };
    // SAFETY: one record of ours.
    unsafe { libc::poll(&raw mut look, 1, 0) };
    let state = option(fd, libc::IPPROTO_TCP, libc::TCP_INFO).ok().and_then(|info| info.first().copied());
    state == Some(CLOSED) && look.revents & (libc::POLLIN | libc::POLLRDHUP | libc::POLLERR) == 0
}

/// How many connections may wait. The host says it where it says of others how much was acknowledged selectively.
fn backlog(fd: &OwnedFd) -> i32 {
    const SACKED: usize = 28;
    let info = option(fd, libc::IPPROTO_TCP, libc::TCP_INFO).unwrap_or_default();
    let told = info.get(SACKED..).and_then(|rest| rest.first_chunk::<4>()).map(|n| i32::from_ne_bytes(*n));
    told.filter(|n| *n >= 0).unwrap_or(BACKLOG)
}

/// A stream socket whose connection was reset by its peer.
fn reset(family: i32) -> io::Result<OwnedFd> {
    let fd = socket(family, libc::SOCK_STREAM, 0)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_be_bytes();
    let mut to = vec![0; 16];
    if family == libc::AF_INET {
        to[4..8].copy_from_slice(&[127, 0, 0, 1]);
    } else {
        // The same of version 4 as version 6 has it.
        to.resize(28, 0);
        to[18..24].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
    }
    to[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    to[2..4].copy_from_slice(&port);
    connect(&fd, &to)?;
    let (peer, _) = listener.accept()?;
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    let value = [at_once.l_onoff.to_ne_bytes(), at_once.l_linger.to_ne_bytes()].concat();
    set_option(&peer.into(), libc::SOL_SOCKET, libc::SO_LINGER, &value)?;
    Ok(fd)
}

fn done(answer: i32) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; a descriptor made just now is ours.
    unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        done(fd)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn option(fd: &OwnedFd, level: i32, name: i32) -> io::Result<Vec<u8>> {
    let mut value = vec![0; OPTION_MAX];
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: room for as many bytes as are said.
    done(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len) })?;
    value.truncate(len as usize);
    Ok(value)
}

fn number_of(fd: &OwnedFd, level: i32, name: i32) -> io::Result<i32> {
    let value = option(fd, level, name)?;
    value.first_chunk::<4>().map(|v| i32::from_ne_bytes(*v)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn set_option(fd: &OwnedFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: bytes with their length.
    done(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as u32) })
}

/// The address of a socket, or of its peer.
fn name(fd: &OwnedFd, peer: bool) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; ADDRESS_MAX];
    let mut len = bytes.len() as libc::socklen_t;
    let ask = if peer { libc::getpeername } else { libc::getsockname };
    // SAFETY: room for as many bytes as are said.
    done(unsafe { ask(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut len) })?;
    bytes.truncate(len as usize);
    Ok(bytes)
}

fn bind(fd: &OwnedFd, to: &[u8]) -> io::Result<()> {
    // SAFETY: bytes with their length.
    done(unsafe { libc::bind(fd.as_raw_fd(), to.as_ptr().cast(), to.len() as libc::socklen_t) })
}

fn connect(fd: &OwnedFd, to: &[u8]) -> io::Result<()> {
    // SAFETY: bytes with their length.
    done(unsafe { libc::connect(fd.as_raw_fd(), to.as_ptr().cast(), to.len() as libc::socklen_t) })
}

/// The port of an internet address.
fn port(address: &[u8]) -> u16 {
    address.get(2..).and_then(|rest| rest.first_chunk::<2>()).map_or(0, |p| u16::from_be_bytes(*p))
}

fn shown(address: &[u8]) -> Option<String> {
    match address.len() {
        16 => {
            let ip = std::net::Ipv4Addr::from(*address.get(4..)?.first_chunk::<4>()?);
            Some(format!("{ip}:{}", port(address)))
        }
        28 => {
            let ip = std::net::Ipv6Addr::from(*address.get(8..)?.first_chunk::<16>()?);
            Some(format!("[{ip}]:{}", port(address)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn again(fd: &impl AsRawFd) -> OwnedFd {
        let saved = Socket::of(std::process::id(), fd.as_raw_fd(), 0).expect("a socket");
        saved.open().expect("made")
    }

    #[test]
    fn what_listens_listens_again() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let (at, saved) =
            (listener.local_addr().expect("bound"), Socket::of(std::process::id(), listener.as_raw_fd(), 0));
        assert!(matches!(saved.as_ref().expect("a socket").state, State::Listening(128)), "{saved:?}");
        let e = saved.as_ref().expect("a socket").open().expect_err("somebody has it").to_string();
        assert!(e.contains(&format!("a TCP socket of the host's at {at}")), "{e}");
        drop(listener);
        let other = TcpListener::from(saved.expect("a socket").open().expect("made"));
        let mut client = TcpStream::connect(at).expect("it listens");
        client.write_all(b"x").expect("written");
        let mut byte = [0];
        other.accept().expect("a client").0.read_exact(&mut byte).expect("read");
        assert_eq!(byte, *b"x");
    }

    #[test]
    fn a_connection_was_reset() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            // A host may have no version 6.
            let Ok(listener) = TcpListener::bind(at) else { continue };
            let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
            client.set_nodelay(true).expect("an option");
            let mut other = TcpStream::from(again(&client));
            assert!(other.nodelay().expect("an option"));
            let e = other.read(&mut [0]).expect_err("reset");
            assert_eq!(e.raw_os_error(), Some(libc::ECONNRESET));
            let e = other.write(b"x").expect_err("reset");
            assert_eq!(e.raw_os_error(), Some(libc::EPIPE));
        }
    }

    #[test]
    fn datagrams_go_where_they_went() {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").expect("bound"), UdpSocket::bind("127.0.0.1:0").expect("bound"));
        a.connect(b.local_addr().expect("bound")).expect("connected");
        let from = a.local_addr().expect("bound");
        let saved = Socket::of(std::process::id(), a.as_raw_fd(), 0).expect("a socket");
        drop(a);
        let a = UdpSocket::from(saved.open().expect("made"));
        a.send(b"on").expect("sent");
        let mut bytes = [0; 8];
        assert_eq!(b.recv_from(&mut bytes).expect("received"), (2, from));
        // One that is not bound yet.
        let fresh = TcpStream::from(again(&socket(libc::AF_INET, libc::SOCK_STREAM, 0).expect("made")));
        assert_eq!(fresh.peer_addr().expect_err("not connected").raw_os_error(), Some(libc::ENOTCONN));
    }
}
