//! Host socket calls. Every socket is made non-blocking: who waits, waits for the supervisor's poller.

use super::HostFd;
use crate::abi::{Errno, Result, linux};
use crate::arch;

/// `SOCK_NONBLOCK | SOCK_CLOEXEC`.
const FLAGS: u32 = linux::O_NONBLOCK | linux::O_CLOEXEC;
/// `MSG_DONTWAIT`, `MSG_NOSIGNAL`, `MSG_CMSG_CLOEXEC`.
const DONTWAIT: u32 = 0x40;
const NOSIGNAL: u32 = 0x4000;
const CMSG_CLOEXEC: u32 = 0x4000_0000;
/// Most bytes of an address (`struct sockaddr_storage`).
pub const ADDR_MAX: usize = 128;

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Piece {
    /// Where it lies: guest memory that was checked, or a kernel buffer.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

/// A message for [`send`] and [`receive`].
#[derive(Debug)]
pub struct Message<'a> {
    /// The other end's address: its bytes, and how many count.
    pub name: Option<(&'a mut [u8; ADDR_MAX], usize)>,
    /// Data, or room for it.
    pub data: &'a [Piece],
    /// Control messages, or room for them.
    pub control: &'a mut [u8],
    /// How many bytes of `control` count.
    pub control_len: usize,
    /// `MSG_*`, as they came with what was received.
    pub flags: u32,
}

/// `struct msghdr`.
#[repr(C)]
struct Header {
    name: u64,
    name_len: u32,
    _pad: u32,
    vecs: u64,
    vec_count: u64,
    control: u64,
    control_len: u64,
    flags: u64,
}

fn call(nr: u32, a: [u64; 6]) -> Result<u64> {
    // SAFETY: every pointer below is to a live buffer of ours of the stated size, or is guest memory
    // that the caller checked; the host reports a bad one as EFAULT.
    Errno::check(unsafe { arch::syscall(nr, a) })
}

/// A new descriptor; the host's limit of descriptors is the whole sandbox's.
fn made(fd: Result<u64>) -> Result<HostFd> {
    match fd {
        Ok(fd) => Ok(HostFd::new(fd as i32)),
        Err(Errno::EMFILE) => Err(Errno::ENFILE),
        Err(e) => Err(e),
    }
}

/// `socket(2)`.
///
/// # Errors
/// The host's.
pub fn socket(family: u16, kind: u16, protocol: u32) -> Result<HostFd> {
    let kind = u64::from(kind) | u64::from(FLAGS);
    made(call(linux::__NR_socket, [u64::from(family), kind, u64::from(protocol), 0, 0, 0]))
}

/// `bind(2)`.
///
/// # Errors
/// The host's.
pub fn bind(fd: i32, addr: &[u8]) -> Result {
    call(linux::__NR_bind, [fd as u64, addr.as_ptr() as u64, addr.len() as u64, 0, 0, 0]).map(drop)
}

/// `connect(2)`.
///
/// # Errors
/// The host's.
pub fn connect(fd: i32, addr: &[u8]) -> Result {
    call(linux::__NR_connect, [fd as u64, addr.as_ptr() as u64, addr.len() as u64, 0, 0, 0]).map(drop)
}

/// `listen(2)`.
///
/// # Errors
/// The host's.
pub fn listen(fd: i32, backlog: i32) -> Result {
    call(linux::__NR_listen, [fd as u64, backlog as u64, 0, 0, 0, 0]).map(drop)
}

/// `accept4(2)`.
///
/// # Errors
/// The host's; `EAGAIN` while there is no connection.
pub fn accept(fd: i32) -> Result<HostFd> {
    made(call(linux::__NR_accept4, [fd as u64, 0, 0, u64::from(FLAGS), 0, 0]))
}

/// `shutdown(2)`.
///
/// # Errors
/// The host's.
pub fn shutdown(fd: i32, how: u32) -> Result {
    call(linux::__NR_shutdown, [fd as u64, u64::from(how), 0, 0, 0, 0]).map(drop)
}

/// `getsockname(2)`, or `getpeername(2)` with `peer`; how many bytes the address has.
///
/// # Errors
/// The host's.
pub fn name(fd: i32, peer: bool, out: &mut [u8; ADDR_MAX]) -> Result<usize> {
    let mut len = ADDR_MAX as u32;
    let nr = if peer { linux::__NR_getpeername } else { linux::__NR_getsockname };
    call(nr, [fd as u64, out.as_mut_ptr() as u64, &raw mut len as u64, 0, 0, 0])?;
    Ok((len as usize).min(ADDR_MAX))
}

fn header(m: &mut Message<'_>) -> Header {
    let (name, name_len) = m.name.as_mut().map_or((0, 0), |(b, n)| (b.as_mut_ptr() as u64, *n as u32));
    Header {
        name,
        name_len,
        _pad: 0,
        vecs: m.data.as_ptr() as u64,
        vec_count: m.data.len() as u64,
        control: if m.control_len == 0 { 0 } else { m.control.as_mut_ptr() as u64 },
        control_len: m.control_len.min(m.control.len()) as u64,
        flags: 0,
    }
}

/// `sendmsg(2)`, which never raises SIGPIPE; bytes that were sent.
///
/// # Errors
/// The host's.
pub fn send(fd: i32, m: &mut Message<'_>, flags: u32) -> Result<usize> {
    let flags = flags | DONTWAIT | NOSIGNAL;
    if let ([piece], None, 0) = (m.data, &m.name, m.control_len) {
        let args = [fd as u64, piece.base, piece.len, u64::from(flags), 0, 0];
        return call(linux::__NR_sendto, args).map(|n| n as usize);
    }
    let h = header(m);
    call(linux::__NR_sendmsg, [fd as u64, &raw const h as u64, u64::from(flags), 0, 0, 0]).map(|n| n as usize)
}

/// `recvmsg(2)`; bytes of the message, which are more than there was room for with `MSG_TRUNC`. The message's lengths
/// and flags are as the host left them.
///
/// # Errors
/// The host's.
pub fn receive(fd: i32, m: &mut Message<'_>, flags: u32) -> Result<usize> {
    let flags = flags | DONTWAIT | CMSG_CLOEXEC;
    let mut h = header(m);
    let n = call(linux::__NR_recvmsg, [fd as u64, &raw mut h as u64, u64::from(flags), 0, 0, 0])?;
    if let Some((_, len)) = &mut m.name {
        *len = h.name_len as usize;
    }
    m.control_len = (h.control_len as usize).min(m.control.len());
    m.flags = h.flags as u32;
    Ok(n as usize)
}

/// `setsockopt(2)` with a value of ours.
///
/// # Errors
/// The host's.
pub fn set_option(fd: i32, level: u32, option: u32, value: &[u8]) -> Result {
    set_option_at(fd, level, option, value.as_ptr() as u64, value.len() as u32)
}

/// `setsockopt(2)` with a value in guest memory that was checked.
///
/// # Errors
/// The host's.
pub fn set_option_at(fd: i32, level: u32, option: u32, at: u64, len: u32) -> Result {
    call(linux::__NR_setsockopt, [fd as u64, u64::from(level), u64::from(option), at, u64::from(len), 0]).map(drop)
}

/// `getsockopt(2)` into guest memory that was checked; what the host says of the value's length.
///
/// # Errors
/// The host's.
pub fn get_option(fd: i32, level: u32, option: u32, at: u64, room: u32) -> Result<u32> {
    let mut len = room;
    let args = [fd as u64, u64::from(level), u64::from(option), at, &raw mut len as u64, 0];
    call(linux::__NR_getsockopt, args)?;
    Ok(len)
}

/// `read(2)` of a socket into a buffer of ours.
///
/// # Errors
/// The host's.
pub fn read(fd: i32, buf: &mut [u8]) -> Result<usize> {
    call(linux::__NR_read, [fd as u64, buf.as_mut_ptr() as u64, buf.len() as u64, 0, 0, 0]).map(|n| n as usize)
}

/// `write(2)` to a socket, which never raises SIGPIPE.
///
/// # Errors
/// The host's.
pub fn write(fd: i32, data: &[u8]) -> Result<usize> {
    let flags = u64::from(DONTWAIT | NOSIGNAL);
    call(linux::__NR_sendto, [fd as u64, data.as_ptr() as u64, data.len() as u64, flags, 0, 0]).map(|n| n as usize)
}

/// One message to a socket of messages that does not block, by a call that every process of the sandbox may make.
///
/// # Errors
/// The host's.
pub fn write_message(fd: i32, data: &[u8]) -> Result<usize> {
    call(linux::__NR_write, [fd as u64, data.as_ptr() as u64, data.len() as u64, 0, 0, 0]).map(|n| n as usize)
}

/// Receives one message, and the descriptor that comes with it, if one does.
///
/// # Errors
/// The host's.
pub fn receive_with_descriptor(fd: i32, buf: &mut [u8]) -> Result<(usize, Option<HostFd>)> {
    let data = [Piece { base: buf.as_mut_ptr() as u64, len: buf.len() as u64 }];
    let mut control = [0; 24];
    let mut m = Message { name: None, data: &data, control: &mut control, control_len: 24, flags: 0 };
    let n = receive(fd, &mut m, 0)?;
    // One control message of one descriptor: its length, level and type, and the number.
    let word = |at: usize| i32::from_ne_bytes([control[at], control[at + 1], control[at + 2], control[at + 3]]);
    let there = word(0) == 20 && word(8) == 1 && word(12) == 1;
    Ok((n, there.then(|| HostFd::new(word(16)))))
}

/// Whether the other end of a socket is gone.
pub fn is_hung_up(fd: i32) -> bool {
    super::files::poll_now(fd, 0).is_ok_and(|events| events & 0x18 != 0)
}
