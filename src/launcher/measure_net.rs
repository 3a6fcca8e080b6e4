//! The operations of sockets that `drupe bench` measures. Raw calls, as in `measure_ops`. `unsafe` is the business of
//! this file.

use super::measure::Operation;
use super::measure_ops::{check, each};
use super::measure_scale::many_descriptors;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Bytes that one write of a throughput row moves.
const PIECE: usize = 64 << 10;

/// Two ends of a connection over the loopback network.
pub fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let a = TcpStream::connect(listener.local_addr()?)?;
    let (b, _) = listener.accept()?;
    a.set_nodelay(true)?;
    b.set_nodelay(true)?;
    Ok((a, b))
}

/// Writes a piece, and reads all of it.
fn piece(to: &OwnedFd, from: &OwnedFd, buffer: &mut [u8]) -> i64 {
    // SAFETY: the buffer's bytes.
    let sent = unsafe { libc::write(to.as_raw_fd(), buffer.as_ptr().cast(), buffer.len()) };
    let mut left = sent;
    while left > 0 {
        // SAFETY: as above; no more than it has.
        let n = unsafe { libc::read(from.as_raw_fd(), buffer.as_mut_ptr().cast(), left as usize) };
        if n <= 0 {
            return -1;
        }
        left -= n;
    }
    sent as i64
}

fn throughput(to: OwnedFd, from: OwnedFd) -> io::Result<Operation> {
    let mut buffer = vec![7; PIECE];
    each(move || piece(&to, &from, &mut buffer))
}

pub fn tcp_piece() -> io::Result<Operation> {
    let (a, b) = connected()?;
    throughput(a.into(), b.into())
}

pub fn unix_piece() -> io::Result<Operation> {
    let (a, b) = UnixStream::pair()?;
    throughput(a.into(), b.into())
}

/// A connection that is made, accepted and closed. It ends by a reset, so that no port stays in use natively.
pub fn tcp_connect() -> io::Result<Operation> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    let once = move || -> io::Result<()> {
        let client = TcpStream::connect(at)?;
        let (server, _) = listener.accept()?;
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let len = size_of_val(&linger) as u32;
        let fd = client.as_raw_fd();
        // SAFETY: reads one value.
        check(
            unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len) }.into(),
        )?;
        drop(client);
        drop(server);
        Ok(())
    };
    each(move || if once().is_ok() { 0 } else { -1 })
}

/// A byte there and back over one of 100 connections, by turns, beside `n` that are idle.
pub fn beside_idle(n: usize) -> io::Result<Operation> {
    const BUSY: usize = 100;
    many_descriptors(2 * (n + BUSY))?;
    let all: Vec<(OwnedFd, OwnedFd)> =
        (0..n + BUSY).map(|_| connected().map(|(a, b)| (a.into(), b.into()))).collect::<io::Result<_>>()?;
    let (mut turn, mut byte) = (0, [7u8]);
    each(move || {
        turn = (turn + 1) % BUSY;
        let (a, b) = &all[n + turn];
        piece(a, b, &mut byte).min(piece(b, a, &mut byte))
    })
}
