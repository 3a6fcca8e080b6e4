//! Requests to the host's sockets. The filter lets these through, and no others.

use crate::abi::{Errno, Result};
use crate::host::{files, net};
use crate::mm::UserPtr;
use crate::net::socket::{af, sock};
use alloc::vec::Vec;

/// Bytes of a `struct ifreq`.
const IFREQ: usize = 40;
/// Most bytes of a list of interfaces.
const MOST: usize = 64 << 10;
/// `SIOCGIFCONF`: its value holds an address.
const GIFCONF: u32 = 0x8912;

/// How many bytes the value of a request to one socket has: `FIONREAD`, `TIOCOUTQ`, `SIOCATMARK`, `SIOCOUTQNSD`, and
/// `SIOCGSTAMP` and `SIOCGSTAMPNS` of either kind.
fn size(request: u32) -> Option<usize> {
    match request {
        0x541b | 0x5411 | 0x8905 | 0x894b => Some(4),
        0x8906 | 0x8907 | 0x8010_8906 | 0x8010_8907 => Some(16),
        _ => None,
    }
}

/// Requests that ask about interfaces: name, flags, addresses, metric, MTU, hardware address, index, queue, map.
const ABOUT_INTERFACES: [u32; 12] =
    [0x8910, 0x8913, 0x8915, 0x8917, 0x8919, 0x891b, 0x891d, 0x8921, 0x8927, 0x8933, 0x8942, 0x8970];
/// Requests that set one of these.
const CHANGES_INTERFACES: [u32; 10] = [0x8914, 0x8916, 0x8918, 0x891a, 0x891c, 0x891e, 0x8922, 0x8923, 0x8924, 0x8943];

/// How many bytes there are to receive.
pub fn readable(fd: i32) -> Result<usize> {
    let mut n = 0u32;
    files::ioctl(fd, 0x541b, &raw mut n as u64)?;
    Ok(n as usize)
}

/// A request to one socket.
///
/// # Errors
/// `ENOTTY` for others; `EFAULT`; the host's.
pub fn request(fd: i32, request: u32, arg: u64) -> Result<u64> {
    let n = size(request).ok_or(Errno::ENOTTY)?;
    let mut value = [0u8; 16];
    let done = files::ioctl(fd, request, value.as_mut_ptr() as u64)?;
    UserPtr::<u8>::new(arg).slice(n).write_from(&value[..n])?;
    Ok(done)
}

/// A request about interfaces.
///
/// # Errors
/// `EPERM` for one that changes them: the sandbox is nobody there. `ENOTTY` for others; `EFAULT`; the host's.
pub fn interface(request: u32, arg: u64) -> Result<u64> {
    if CHANGES_INTERFACES.contains(&request) {
        return Err(Errno::EPERM);
    }
    if request != GIFCONF && !ABOUT_INTERFACES.contains(&request) {
        return Err(Errno::ENOTTY);
    }
    let any = net::socket(af::INET, sock::DGRAM, 0)?;
    if request == GIFCONF {
        return configured(any.raw(), arg);
    }
    let at = UserPtr::<[u8; IFREQ]>::new(arg);
    let mut value = at.read()?;
    let done = files::ioctl(any.raw(), request, value.as_mut_ptr() as u64)?;
    at.write(value)?;
    Ok(done)
}

fn configured(fd: i32, arg: u64) -> Result<u64> {
    let at = UserPtr::<[u64; 2]>::new(arg);
    let [len, buf] = at.read()?;
    let room = (len as u32 as usize).min(MOST);
    let mut list: Vec<u8> = Vec::new();
    list.try_reserve_exact(room).map_err(|_| Errno::ENOBUFS)?;
    list.resize(room, 0);
    let mut conf = [room as u64, if buf == 0 { 0 } else { list.as_mut_ptr() as u64 }];
    files::ioctl(fd, GIFCONF, conf.as_mut_ptr() as u64)?;
    let filled = conf[0] as u32 as usize;
    if buf != 0 {
        let n = filled.min(room);
        UserPtr::<u8>::new(buf).slice(n).write_from(&list[..n])?;
    }
    at.cast::<u32>().write(filled as u32)?;
    Ok(0)
}
