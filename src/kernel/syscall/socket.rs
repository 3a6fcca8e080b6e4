//! Sockets. The local family is there; every other one is `EAFNOSUPPORT`.

use super::Fd;
use super::files;
use super::read_write::with_vecs;
use super::socket_msg as msg;
use crate::abi::linux;
use crate::abi::{Errno, Result, SysResult};
use crate::mm::{IoDst, IoSrc, IoVec, UserPtr};
use crate::net::unix::{self, Kind, Name, Received, Socket, UnixFile, bind_abstract, lookup_abstract};
use crate::sync::{Events, wait};
use crate::task::CurrentTask;
use crate::time;
use crate::vfs::names::{self, At};
use crate::vfs::{FileType, Lookup, NewNode, OpenFile, access};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// `AF_UNIX`.
const AF_UNIX: u16 = 1;
/// `MSG_PEEK`, `MSG_TRUNC`, `MSG_DONTWAIT`, `MSG_WAITALL`, `MSG_NOSIGNAL`, `MSG_CMSG_CLOEXEC`, `MSG_OOB`.
const PEEK: u32 = 2;
const TRUNC: u32 = 0x20;
const DONTWAIT: u32 = 0x40;
const WAITALL: u32 = 0x100;
const NOSIGNAL: u32 = 0x4000;
const CMSG_CLOEXEC: u32 = 0x4000_0000;
const OOB: u32 = 1;

fn kind_of(kind: u32, protocol: u32) -> SysResult<(Kind, u32)> {
    let flags = kind & (linux::O_CLOEXEC | linux::O_NONBLOCK);
    if protocol > 1 {
        return Err(Errno::EPROTONOSUPPORT.into());
    }
    let kind = match kind & !flags {
        1 => Kind::Stream,
        // SOCK_RAW of the local family means datagrams.
        2 | 3 => Kind::Datagram,
        5 => Kind::SeqPacket,
        0..=10 => return Err(Errno::ESOCKTNOSUPPORT.into()),
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok((kind, flags))
}

/// `socket(2)`.
pub fn sys_socket(cur: &CurrentTask, family: u32, kind: u32, protocol: u32) -> SysResult<Fd> {
    if family != u32::from(AF_UNIX) {
        return Err(Errno::EAFNOSUPPORT.into());
    }
    let (kind, flags) = kind_of(kind, protocol)?;
    files::install(cur, UnixFile::open(unix::socket(kind), flags, &cur.op_ctx()), flags)
}

/// `socketpair(2)`.
pub fn sys_socketpair(
    cur: &CurrentTask,
    family: u32,
    kind: u32,
    protocol: u32,
    out: UserPtr<[i32; 2]>,
) -> SysResult<()> {
    if family != u32::from(AF_UNIX) {
        return Err(Errno::EAFNOSUPPORT.into());
    }
    let (kind, flags) = kind_of(kind, protocol)?;
    let ctx = cur.op_ctx();
    let [a, b] = unix::pair(kind, &ctx);
    let a = files::install(cur, UnixFile::open(a, flags, &ctx), flags)?;
    let b = match files::install(cur, UnixFile::open(b, flags, &ctx), flags) {
        Ok(b) => b,
        Err(e) => {
            let _ = cur.files().close(&ctx, a.0);
            return Err(e);
        }
    };
    if let Err(e) = out.write([a.0, b.0]) {
        let _ = cur.files().close(&ctx, a.0);
        let _ = cur.files().close(&ctx, b.0);
        return Err(e.into());
    }
    Ok(())
}

/// The open file and the socket in it.
fn opened(cur: &CurrentTask, fd: Fd) -> Result<(Arc<OpenFile>, Arc<Socket>)> {
    let file = cur.files().get(fd.0)?;
    let socket = file.ops.as_any().downcast_ref::<UnixFile>().ok_or(Errno::ENOTSOCK)?.0.clone();
    Ok((file, socket))
}

/// The name in a `struct sockaddr_un`; empty for one without a path.
fn name_at(addr: UserPtr<u8>, len: u32) -> Result<Vec<u8>> {
    if !(2..=110).contains(&len) {
        return Err(Errno::EINVAL);
    }
    let bytes = addr.slice(len as usize).read_vec()?;
    if u16::from_ne_bytes([bytes[0], bytes[1]]) != AF_UNIX {
        return Err(Errno::EINVAL);
    }
    let path = &bytes[2..];
    match path.first() {
        Some(0) | None => Ok(path.to_vec()),
        Some(_) => Ok(path.split(|&b| b == 0).next().unwrap_or(path).to_vec()),
    }
}

/// Copies an address out, cut to what there is room for; the length tells all of it.
fn give_name(name: &[u8], addr: UserPtr<u8>, len: UserPtr<u32>) -> Result {
    if addr.is_null() {
        return Ok(());
    }
    let room = len.read()?;
    if room > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    let bytes = address(name);
    let n = bytes.len().min(room as usize);
    addr.slice(n).write_from(&bytes[..n])?;
    len.write(bytes.len() as u32)
}

/// A name as a `struct sockaddr_un`.
pub(super) fn address(name: &[u8]) -> Vec<u8> {
    let mut bytes = AF_UNIX.to_ne_bytes().to_vec();
    bytes.extend_from_slice(name);
    if name.first().is_some_and(|&b| b != 0) {
        bytes.push(0);
    }
    bytes
}

/// The endpoint that owns a name.
fn owner(cur: &CurrentTask, name: &[u8]) -> Result<Arc<unix::Endpoint>> {
    match name.first() {
        None => Err(Errno::EINVAL),
        Some(0) => lookup_abstract(name),
        Some(_) => {
            let ctx = cur.op_ctx();
            let place = Lookup::new(cur.fs(), &ctx, None).path(name, true)?;
            access::check(ctx.cred, &**place.inode(), access::WRITE)?;
            if place.inode().file_type() != FileType::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            let attached = place.inode().attached().ok_or(Errno::ECONNREFUSED)?.lock().clone();
            attached.and_then(|a| a.downcast().ok()).ok_or(Errno::ECONNREFUSED)
        }
    }
}

/// `bind(2)`.
pub fn sys_bind(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: u32) -> SysResult<()> {
    let (_, socket) = opened(cur, fd)?;
    let mut name = name_at(addr, len)?;
    if !socket.name().is_empty() {
        return Err(Errno::EINVAL.into());
    }
    if name.is_empty() {
        // Autobind: an abstract name of five hexadecimal digits.
        name = alloc::format!("\0{:05x}", crate::host::random::next_u64() & 0xf_ffff).into_bytes();
    }
    let shared: Name = Arc::from(name.as_slice());
    if name[0] == 0 {
        bind_abstract(&shared, socket.endpoint())?;
        return Ok(socket.set_name(shared)?);
    }
    let ctx = cur.op_ctx();
    let node = NewNode::Node(FileType::Socket, 0);
    let place = names::make(cur.fs(), &ctx, At { base: None, path: &name }, node, 0o777).map_err(|e| match e {
        Errno::EEXIST => Errno::EADDRINUSE,
        e => e,
    })?;
    let attached = place.inode().attached().ok_or(Errno::EOPNOTSUPP)?;
    *attached.lock() = Some(socket.endpoint().clone());
    Ok(socket.set_name(shared)?)
}

/// `listen(2)`.
pub fn sys_listen(cur: &CurrentTask, fd: Fd, backlog: i32) -> SysResult<()> {
    let (_, socket) = opened(cur, fd)?;
    Ok(socket.listen(usize::try_from(backlog).unwrap_or(4096))?)
}

/// Waits, unless told not to, until `attempt` says something else than `EAGAIN`.
fn waiting<T>(
    file: &OpenFile,
    socket: &Socket,
    events: Events,
    dont: bool,
    mut attempt: impl FnMut() -> SysResult<T>,
) -> SysResult<T> {
    if dont || file.nonblock() {
        return attempt();
    }
    let ns = socket.timeouts[usize::from(events.contains(Events::OUT))].load(Relaxed);
    let deadline = (ns > 0).then(|| time::deadline_in(ns));
    match file.ops.wait_queue() {
        Some(queue) => wait::block_on(queue, events, deadline, attempt),
        None => attempt(),
    }
}

/// `accept4(2)`.
pub fn sys_accept4(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: UserPtr<u32>, flags: u32) -> SysResult<Fd> {
    if flags & !(linux::O_CLOEXEC | linux::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (file, socket) = opened(cur, fd)?;
    let new = waiting(&file, &socket, Events::IN, false, || Ok(socket.accept()?))?;
    give_name(&new.peer_name()?, addr, len)?;
    files::install(cur, UnixFile::open(new, flags, &cur.op_ctx()), flags)
}

/// `accept(2)`.
pub fn sys_accept(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: UserPtr<u32>) -> SysResult<Fd> {
    sys_accept4(cur, fd, addr, len, 0)
}

/// `connect(2)`.
pub fn sys_connect(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: u32) -> SysResult<()> {
    let (file, socket) = opened(cur, fd)?;
    let name = name_at(addr, len)?;
    let to = owner(cur, &name)?;
    let name: Name = Arc::from(name.as_slice());
    let ctx = cur.op_ctx();
    waiting(&file, &socket, Events::OUT, false, || Ok(socket.connect(&ctx, &to, name.clone())?))
}

/// `getsockname(2)`.
pub fn sys_getsockname(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: UserPtr<u32>) -> SysResult<()> {
    let (_, socket) = opened(cur, fd)?;
    Ok(give_name(&socket.name(), addr, len)?)
}

/// `getpeername(2)`.
pub fn sys_getpeername(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: UserPtr<u32>) -> SysResult<()> {
    let (_, socket) = opened(cur, fd)?;
    Ok(give_name(&socket.peer_name()?, addr, len)?)
}

/// `shutdown(2)`.
pub fn sys_shutdown(cur: &CurrentTask, fd: Fd, how: u32) -> SysResult<()> {
    let (_, socket) = opened(cur, fd)?;
    if how > 2 {
        return Err(Errno::EINVAL.into());
    }
    Ok(socket.shutdown(how != 1, how != 0)?)
}

/// Sends all of `src` on a stream, one packet else.
fn send(
    cur: &CurrentTask,
    (file, socket): (&OpenFile, &Socket),
    src: &mut IoSrc<'_>,
    mut attached: Vec<Arc<OpenFile>>,
    to: Option<&Arc<unix::Endpoint>>,
    flags: u32,
) -> SysResult<usize> {
    if flags & OOB != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let ctx = cur.op_ctx();
    let mut done = 0;
    let out = loop {
        let mut attempt = || Ok(socket.send(&ctx, src, &mut attached, to)?);
        let dont = flags & DONTWAIT != 0 || file.nonblock();
        let sent = match to.cloned().or_else(|| socket.peer()) {
            // Room for a datagram is announced where it is received.
            Some(at) if socket.kind == Kind::Datagram && !dont => {
                wait::block_on(at.queue(), Events::OUT, None, attempt)
            }
            _ if dont => attempt(),
            _ => waiting(file, socket, Events::OUT, false, attempt),
        };
        match sent {
            Ok(n) => {
                done += n;
                if n == 0 || src.left() == 0 || socket.kind != Kind::Stream {
                    break Ok(done);
                }
            }
            Err(_) if done > 0 => break Ok(done),
            Err(e) => break Err(e),
        }
    };
    if out == Err(Errno::EPIPE.into()) && flags & NOSIGNAL == 0 && socket.kind != Kind::Datagram {
        files::broken_pipe(cur);
    }
    out
}

fn receive(file: &OpenFile, socket: &Socket, dst: &mut IoDst<'_>, flags: u32) -> SysResult<Received> {
    if flags & OOB != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let all = flags & WAITALL != 0 && socket.kind == Kind::Stream && flags & PEEK == 0;
    let one = |dst: &mut IoDst<'_>| {
        waiting(file, socket, Events::IN, flags & DONTWAIT != 0, || Ok(socket.receive(dst, flags & PEEK != 0)?))
    };
    let mut got = one(dst)?;
    while all && got.len > 0 && dst.left() > 0 && got.files.is_empty() {
        match one(dst) {
            Ok(more) if more.len > 0 => {
                got.len += more.len;
                got.whole = got.len;
                got.files = more.files;
            }
            _ => break,
        }
    }
    Ok(got)
}

/// `sendto(2)`.
pub fn sys_sendto(
    cur: &CurrentTask,
    fd: Fd,
    buf: UserPtr<u8>,
    len: usize,
    flags: u32,
    addr: UserPtr<u8>,
    addr_len: u32,
) -> SysResult<usize> {
    let (file, socket) = opened(cur, fd)?;
    let to = destination(cur, &socket, addr, addr_len)?;
    let vecs = [IoVec { base: buf.addr(), len: len.min(0x7fff_f000) as u64 }];
    send(cur, (&file, &socket), &mut IoSrc::user(&vecs), Vec::new(), to.as_ref(), flags)
}

fn destination(cur: &CurrentTask, socket: &Socket, addr: UserPtr<u8>, len: u32) -> Result<Option<Arc<unix::Endpoint>>> {
    if addr.is_null() || len == 0 {
        return Ok(None);
    }
    if socket.kind != Kind::Datagram {
        return Err(if socket.peer_name().is_ok() { Errno::EISCONN } else { Errno::EOPNOTSUPP });
    }
    owner(cur, &name_at(addr, len)?).map(Some)
}

/// `recvfrom(2)`.
pub fn sys_recvfrom(
    cur: &CurrentTask,
    fd: Fd,
    buf: UserPtr<u8>,
    len: usize,
    flags: u32,
    addr: UserPtr<u8>,
    addr_len: UserPtr<u32>,
) -> SysResult<usize> {
    let (file, socket) = opened(cur, fd)?;
    let vecs = [IoVec { base: buf.addr(), len: len.min(0x7fff_f000) as u64 }];
    let got = receive(&file, &socket, &mut IoDst::user(&vecs), flags)?;
    match &got.from {
        Some(from) if !from.is_empty() => give_name(from, addr, addr_len)?,
        _ if !addr.is_null() => addr_len.write(0)?,
        _ => {}
    }
    Ok(if flags & TRUNC != 0 { got.whole } else { got.len })
}

/// `sendmsg(2)`.
pub fn sys_sendmsg(cur: &CurrentTask, fd: Fd, header: UserPtr<msg::Header>, flags: u32) -> SysResult<usize> {
    let (file, socket) = opened(cur, fd)?;
    let h = header.read()?;
    let to = destination(cur, &socket, UserPtr::new(h.name), h.name_len)?;
    let attached = msg::files_of(cur, &h)?;
    with_vecs(UserPtr::new(h.vecs), h.vec_count as usize, |v| {
        send(cur, (&file, &socket), &mut IoSrc::user(v), attached, to.as_ref(), flags)
    })
}

/// `recvmsg(2)`.
pub fn sys_recvmsg(cur: &CurrentTask, fd: Fd, header: UserPtr<msg::Header>, flags: u32) -> SysResult<usize> {
    let (file, socket) = opened(cur, fd)?;
    let mut h = header.read()?;
    let got =
        with_vecs(UserPtr::new(h.vecs), h.vec_count as usize, |v| receive(&file, &socket, &mut IoDst::user(v), flags))?;
    let mut out_flags = 0;
    if got.whole > got.len {
        out_flags |= TRUNC;
    }
    let from = got.from.as_ref().filter(|n| !n.is_empty()).map(|n| address(n)).unwrap_or_default();
    if h.name != 0 {
        let n = from.len().min(h.name_len as usize);
        UserPtr::<u8>::new(h.name).slice(n).write_from(&from[..n])?;
    }
    h.name_len = from.len() as u32;
    let (len, whole) = (got.len, got.whole);
    let cred = socket.pass_cred.load(Relaxed).then_some(got.cred);
    out_flags |= msg::give_control(cur, &mut h, got.files, cred, flags & CMSG_CLOEXEC)?;
    h.flags = out_flags | flags & CMSG_CLOEXEC;
    header.write(h)?;
    Ok(if flags & TRUNC != 0 { whole } else { len })
}

/// `struct timeval` as nanoseconds.
fn timeout(t: linux::timeval) -> Result<u64> {
    if !(0..1_000_000).contains(&t.tv_usec) {
        return Err(Errno::EDOM);
    }
    Ok((t.tv_sec.max(0) as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_usec as u64 * 1000))
}

/// `setsockopt(2)`.
pub fn sys_setsockopt(
    cur: &CurrentTask,
    fd: Fd,
    level: u32,
    option: u32,
    value: UserPtr<u8>,
    len: u32,
) -> SysResult<()> {
    let (_, socket) = opened(cur, fd)?;
    if level != 1 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if len < 4 {
        return Err(Errno::EINVAL.into());
    }
    match option {
        16 => socket.pass_cred.store(value.cast::<i32>().read()? != 0, Relaxed),
        20 | 21 => {
            if len < 16 {
                return Err(Errno::EINVAL.into());
            }
            let ns = timeout(value.cast::<linux::timeval>().read()?)?;
            socket.timeouts[(option - 20) as usize].store(ns, Relaxed);
        }
        // REUSEADDR, SNDBUF, RCVBUF, KEEPALIVE, PRIORITY, LINGER, REUSEPORT, their FORCE forms: accepted.
        1 | 2 | 5..=15 | 18 | 32 | 33 => {}
        _ => return Err(Errno::ENOPROTOOPT.into()),
    }
    Ok(())
}

/// `getsockopt(2)`.
pub fn sys_getsockopt(
    cur: &CurrentTask,
    fd: Fd,
    level: u32,
    option: u32,
    out: UserPtr<u8>,
    len: UserPtr<u32>,
) -> SysResult<()> {
    let (_, socket) = opened(cur, fd)?;
    if level != 1 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let number = |n: u32| n.to_ne_bytes().to_vec();
    let bytes = match option {
        3 => number(match socket.kind {
            Kind::Stream => 1,
            Kind::Datagram => 2,
            Kind::SeqPacket => 5,
        }),
        16 => number(u32::from(socket.pass_cred.load(Relaxed))),
        17 => {
            let c = socket.peer_cred();
            [c.pid, c.uid, c.gid].iter().flat_map(|n| n.to_ne_bytes()).collect()
        }
        20 | 21 => {
            let ns = socket.timeouts[(option - 20) as usize].load(Relaxed);
            [ns / 1_000_000_000, ns % 1_000_000_000 / 1000].iter().flat_map(|n| n.to_ne_bytes()).collect()
        }
        30 => number(u32::from(socket.listening())),
        38 => number(0),
        39 => number(u32::from(AF_UNIX)),
        7 | 8 => number(212_992),
        1 | 2 | 4..=6 | 9..=12 | 15 | 18 => number(0),
        13 => alloc::vec![0; 8],
        _ => return Err(Errno::ENOPROTOOPT.into()),
    };
    let n = bytes.len().min(len.read()? as usize);
    out.slice(n).write_from(&bytes[..n])?;
    Ok(len.write(n as u32)?)
}
