//! The control socket between a program that holds a sandbox and the sandbox's supervisor.
//!
//! A message is a length (four bytes), the number of descriptors that come with it (four bytes) and a
//! postcard body. Descriptors travel with the first byte of their message.

use drupe_kernel::abi::control::{Event, Request, Response};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Most descriptors that one message can carry (the host's SCM_MAX_FD).
pub const MAX_FDS: usize = 253;
/// Longest message.
const MAX_LEN: usize = 64 << 20;
const HEADER: usize = 8;
/// How many bytes are asked for at a time, at least and at most: most messages are short, and memory that was never
/// touched costs a young process a fault for each page.
const FILL: Range<usize> = 2 << 10..1 << 20;

/// What the holder says.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSupervisor<'a> {
    /// For the kernel. `Spawn::fds` are indices into the message's descriptors, or -1.
    Request {
        /// Comes back with the answer.
        id: u64,
        /// The request.
        request: Cow<'a, Request>,
    },
}

/// What the supervisor says.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromSupervisor {
    /// The kernel has booted.
    Started,
    /// It has not, and the supervisor ends.
    Failed {
        /// Error number or 0.
        errno: i32,
        /// A feature of the host is missing.
        unsupported: bool,
        /// For a person.
        message: String,
    },
    /// The answer to a request.
    Reply {
        /// Of the request.
        id: u64,
        /// The kernel's answer.
        response: Response,
    },
    /// Something happened.
    Event(Event),
    /// The sandbox's time is over, and the supervisor ends.
    Expired(Duration),
}

/// One end of the socket.
#[derive(Debug)]
pub struct Channel {
    socket: Arc<OwnedFd>,
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

/// What a look at the socket gave.
pub enum Received<T> {
    /// A message, with its descriptors.
    Message(T, Vec<OwnedFd>),
    /// Nothing whole yet.
    Pending,
    /// The other end is gone.
    HungUp,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Channel {
    /// Takes one end of a stream socket pair.
    pub fn new(socket: OwnedFd) -> Channel {
        Channel { socket: Arc::new(socket), bytes: Vec::new(), fds: VecDeque::new() }
    }

    /// The socket, for [`send`] while somebody else waits for a message.
    pub fn socket(&self) -> Arc<OwnedFd> {
        self.socket.clone()
    }

    /// A message that has come in whole, without looking at the socket.
    ///
    /// # Errors
    /// When the bytes are not a message of ours.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
        let (len, nfds) = (word(0), word(4));
        // No message has as many descriptors as two: those that nobody announced are not kept.
        if len > MAX_LEN || nfds > MAX_FDS || self.fds.len() > 2 * MAX_FDS {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        if self.bytes.len() < HEADER + len || self.fds.len() < nfds {
            return Ok(None);
        }
        let message = postcard::from_bytes(&self.bytes[HEADER..HEADER + len])
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        self.bytes.drain(..HEADER + len);
        Ok(Some((message, self.fds.drain(..nfds).collect())))
    }

    /// Reads what has come; waits for the first byte if `wait`.
    ///
    /// # Errors
    /// The host's; garbage on the socket.
    pub fn receive<T: DeserializeOwned>(&mut self, wait: bool) -> io::Result<Received<T>> {
        loop {
            if let Some((message, fds)) = self.take()? {
                return Ok(Received::Message(message, fds));
            }
            match self.fill(wait) {
                Ok(0) => return Ok(Received::HungUp),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Pending),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(Received::HungUp),
                Err(e) => return Err(e),
            }
        }
    }

    /// How many more bytes the message needs that has come in part.
    fn missing(&self) -> usize {
        let len = self.bytes.first_chunk::<4>().map_or(0, |&len| u32::from_le_bytes(len) as usize);
        (HEADER + len).saturating_sub(self.bytes.len())
    }

    fn fill(&mut self, wait: bool) -> io::Result<usize> {
        let have = self.bytes.len();
        self.bytes.resize(have + self.missing().clamp(FILL.start, FILL.end), 0);
        let n = self.receive_bytes(have, wait);
        self.bytes.truncate(have + *n.as_ref().unwrap_or(&0));
        n
    }

    fn receive_bytes(&mut self, at: usize, wait: bool) -> io::Result<usize> {
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let mut flags = MsgFlags::MSG_CMSG_CLOEXEC;
        flags.set(MsgFlags::MSG_DONTWAIT, !wait);
        loop {
            let mut iov = [IoSliceMut::new(&mut self.bytes[at..])];
            let message = match recvmsg::<()>(self.socket.as_raw_fd(), &mut iov, Some(&mut space), flags) {
                Err(nix::Error::EINTR) => continue,
                other => other?,
            };
            for cmsg in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(fds) = cmsg {
                    // SAFETY: the host has just made these descriptors for us.
                    self.fds.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            return Ok(message.bytes);
        }
    }
}

/// Sends one message; blocks until the socket has taken it.
///
/// # Errors
/// The host's (`EPIPE` when the other end is gone), or a message that is too long.
pub fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fds: &[RawFd]) -> io::Result<()> {
    let mut bytes = vec![0; HEADER];
    bytes = postcard::to_extend(message, bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let len = bytes.len() - HEADER;
    if len > MAX_LEN || fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
    bytes[4..HEADER].copy_from_slice(&(fds.len() as u32).to_le_bytes());
    let mut sent = 0;
    while sent < bytes.len() {
        let rights = [ControlMessage::ScmRights(fds)];
        let cmsgs = if sent == 0 && !fds.is_empty() { &rights[..] } else { &[] };
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes[sent..])], cmsgs, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(n) => sent += n,
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (Channel, Channel) {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).expect("a socket pair");
        (Channel::new(a), Channel::new(b))
    }

    #[test]
    fn messages_keep_their_boundaries_and_descriptors() {
        let (a, mut b) = pair();
        let null = std::fs::File::open("/dev/null").expect("/dev/null");
        for id in 0..3u64 {
            let request = Request::WriteFile { path: vec![b'/'], offset: id, data: vec![7; 5000], mode: 0o600 };
            let fds = vec![null.as_raw_fd(); id as usize];
            send(a.as_fd(), &ToSupervisor::Request { id, request: Cow::Owned(request) }, &fds)
                .expect("it fits the socket");
        }
        for want in 0..3u64 {
            match b.receive::<ToSupervisor>(true).expect("received") {
                Received::Message(ToSupervisor::Request { id, .. }, fds) => {
                    assert_eq!(id, want);
                    assert_eq!(fds.len() as u64, want);
                }
                _ => panic!("a message was lost"),
            }
        }
        assert!(matches!(b.receive::<ToSupervisor>(false).expect("nothing"), Received::Pending));
        drop(a);
        assert!(matches!(b.receive::<ToSupervisor>(true).expect("nothing"), Received::HungUp));
    }

    #[test]
    fn garbage_is_an_error() {
        let (a, mut b) = pair();
        nix::unistd::write(a.as_fd(), &[0xff; 64]).expect("written");
        assert!(b.receive::<ToSupervisor>(true).is_err());
    }
}
