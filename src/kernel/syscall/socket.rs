//! Sockets: from registers to [`SocketOps`]. Families are known by `net::socket::family` alone.

use super::Fd;
use super::files;
use super::socket_msg as msg;
use super::time::to_ns;
use crate::abi::linux::{self, __kernel_timespec};
use crate::abi::{Errno, Result, SysError, SysResult};
use crate::cred::cap;
use crate::cred::landlock;
use crate::mm::user::range_ok;
use crate::mm::{IoDst, IoSrc, IoVec, UserPtr};
use crate::net::ns;
use crate::net::socket::{self, Halves, MsgFlags, RecvMsg, SendMsg, SockAddr, SockCtx, SocketOps, blocking, family};
use crate::sync::Events;
use crate::task::{CurrentTask, FileRef};
use crate::time;
use crate::vfs::OpenFile;
use crate::vfs::open::open_at;
use alloc::sync::Arc;

mod options;

pub use options::{sys_getsockopt, sys_setsockopt};

/// Flags in `socket(2)`'s type (`SOCK_TYPE_MASK` is what lies below).
const TYPE_FLAGS: u32 = linux::O_CLOEXEC | linux::O_NONBLOCK;
const TYPE_MASK: u32 = 0xf;
/// Most bytes that one call moves (`MAX_RW_COUNT`).
const MAX_COUNT: usize = 0x7fff_f000;
/// Most messages of one call (`UIO_MAXIOV`).
const MAX_MESSAGES: u32 = 1024;

/// An open socket.
struct Opened<'a> {
    file: FileRef<'a>,
    socket: Arc<dyn SocketOps>,
}

/// The socket behind a descriptor.
fn opened(cur: &CurrentTask, fd: Fd) -> Result<Opened<'_>> {
    let file = cur.file(fd.0)?;
    let socket = socket::of(&file)?.clone();
    Ok(Opened { file, socket })
}

fn ctx(cur: &CurrentTask) -> SockCtx<'_> {
    SockCtx { op: cur.op_ctx(), fs: Some(cur.fs()) }
}

/// `socket(2)`'s type without its flags, and these.
fn split(kind: u32) -> Result<(u32, u32)> {
    let flags = kind & !TYPE_MASK;
    if flags & !TYPE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((kind & TYPE_MASK, flags))
}

/// `socket(2)`.
pub fn sys_socket(cur: &CurrentTask, family: u32, kind: u32, protocol: u32) -> SysResult<Fd> {
    let (kind, flags) = split(kind)?;
    let (family, wanted) = family::wanted(family, kind, protocol)?;
    let ctx = ctx(cur);
    let socket = (family.create)(&ctx, &ns::current(), wanted)?;
    files::install(cur, socket::open(socket, flags, &ctx.op), flags)
}

/// `socketpair(2)`.
pub fn sys_socketpair(
    cur: &CurrentTask,
    family: u32,
    kind: u32,
    protocol: u32,
    out: UserPtr<[i32; 2]>,
) -> SysResult<()> {
    let (kind, flags) = split(kind)?;
    // Linux writes the numbers down before it makes anything.
    out.write(out.read()?)?;
    let (family, wanted) = family::wanted(family, kind, protocol)?;
    let ctx = ctx(cur);
    let [a, b] = match family.pair {
        Some(pair) => pair(&ctx, &ns::current(), wanted)?,
        None => {
            // The family may refuse the type or protocol first.
            (family.create)(&ctx, &ns::current(), wanted)?.close();
            return Err(Errno::EOPNOTSUPP.into());
        }
    };
    let a = files::install(cur, socket::open(a, flags, &ctx.op), flags)?;
    let b = match files::install(cur, socket::open(b, flags, &ctx.op), flags) {
        Ok(b) => b,
        Err(e) => {
            let _ = cur.files().close(&ctx.op, a.0);
            return Err(e);
        }
    };
    if let Err(e) = out.write([a.0, b.0]) {
        let _ = cur.files().close(&ctx.op, a.0);
        let _ = cur.files().close(&ctx.op, b.0);
        return Err(e.into());
    }
    Ok(())
}

/// `bind(2)`.
pub fn sys_bind(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: u32) -> SysResult<()> {
    let it = opened(cur, fd)?;
    let addr = SockAddr::read(addr, len)?;
    check_port(cur, &*it.socket, &addr, landlock::net::BIND_TCP)?;
    let mut ctx = ctx(cur);
    // A node in the file system gets the permissions of the socket's own inode.
    ctx.op.umask |= !it.file.inode.permissions()?.0 & 0o777;
    Ok(it.socket.bind(&ctx, &addr)?)
}

/// Whether Landlock lets a TCP socket be bound or connected to the port of an address (`current_check_access_socket` in
/// `security/landlock/net.c`).
///
/// # Errors
/// `EACCES`; `EINVAL`, `EAFNOSUPPORT` for what is no such address.
fn check_port(cur: &CurrentTask, socket: &dyn SocketOps, addr: &SockAddr, access: u64) -> SysResult<()> {
    use crate::net::socket::{af, sock};
    let Some(domain) = &cur.cred().landlock else { return Ok(()) };
    let core = socket.core();
    if core.kind != sock::STREAM || !matches!(core.family, af::INET | af::INET6) || !matches!(core.protocol, 0 | 6) {
        return Ok(());
    }
    let bytes = addr.bytes();
    let family = bytes.get(..2).map(|b| u16::from_ne_bytes([b[0], b[1]])).ok_or(Errno::EINVAL)?;
    let least = match family {
        af::UNSPEC if access == landlock::net::CONNECT_TCP => return Ok(()),
        af::UNSPEC | af::INET => 16,
        af::INET6 => 24,
        _ => return Ok(()),
    };
    if bytes.len() < least || family != af::UNSPEC && family != core.family {
        return Err(Errno::EINVAL.into());
    }
    if family == af::UNSPEC && (core.family == af::INET6 || bytes[4..8] != [0; 4]) {
        return Err(Errno::EAFNOSUPPORT.into());
    }
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    if domain.allows_port(port, access) { Ok(()) } else { Err(Errno::EACCES.into()) }
}

/// `SIOCUNIXFILE`: a descriptor of the place in the file system where a local socket is bound.
///
/// # Errors
/// `EPERM`, `ENOENT` where it is bound to none.
pub fn bound_file(cur: &CurrentTask, file: &OpenFile) -> SysResult<u64> {
    let place = socket::of(file)?.bound_place().ok_or(Errno::ENOTTY)?;
    if !socket::of(file)?.core().ns.may(cur.cred(), cap::NET_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let opened = open_at(&cur.op_ctx(), place.ok_or(Errno::ENOENT)?, linux::O_PATH, false)?;
    Ok(files::install(cur, opened, linux::O_CLOEXEC)?.0 as u64)
}

/// `listen(2)`.
pub fn sys_listen(cur: &CurrentTask, fd: Fd, backlog: i32) -> SysResult<()> {
    let it = opened(cur, fd)?;
    // `somaxconn` bounds a backlog; a negative one is as large as can be.
    let most = it.socket.core().ns.somaxconn();
    let backlog = if backlog < 0 || backlog > most { most } else { backlog };
    Ok(it.socket.listen(&ctx(cur), backlog)?)
}

/// `accept4(2)`.
pub fn sys_accept4(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: UserPtr<u32>, flags: u32) -> SysResult<Fd> {
    files::in_use(cur, fd)?;
    if flags & !TYPE_FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    let it = opened(cur, fd)?;
    // Without a number for it the connection goes on waiting.
    cur.files().has_room(files::nofile(cur))?;
    let ctx = ctx(cur);
    let dont = it.file.nonblock();
    let attempt = || match it.socket.accept(&ctx) {
        Err(Errno::EAGAIN) if !dont && it.socket.accepts_no_more() => Err(Errno::EINVAL.into()),
        other => Ok(other?),
    };
    let new = blocking(&ctx, &*it.socket, (Events::IN, None), dont, attempt)?;
    let file = socket::open(new.clone(), flags, &ctx.op);
    if !addr.is_null() {
        let peer = new.peer_addr().map_err(|_| Errno::ECONNABORTED)?;
        peer.write(addr, len)?;
    }
    files::install(cur, file, flags)
}

/// `accept(2)`.
pub fn sys_accept(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: UserPtr<u32>) -> SysResult<Fd> {
    sys_accept4(cur, fd, addr, len, 0)
}

/// `connect(2)`.
pub fn sys_connect(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: u32) -> SysResult<()> {
    let it = opened(cur, fd)?;
    let addr = SockAddr::read(addr, len)?;
    check_port(cur, &*it.socket, &addr, landlock::net::CONNECT_TCP)?;
    let ctx = ctx(cur);
    let dont = it.file.nonblock();
    let attempt = || Ok(it.socket.connect(&ctx, &addr, dont)?);
    match blocking(&ctx, &*it.socket, (Events::OUT, Some(&addr)), dont, attempt) {
        Err(SysError::Errno(Errno::EINPROGRESS)) if !dont => {
            match blocking(&ctx, &*it.socket, (Events::OUT, None), false, || Ok(it.socket.connected()?)) {
                Err(SysError::Errno(Errno::EAGAIN)) => Err(Errno::EINPROGRESS.into()),
                other => other,
            }
        }
        other => other,
    }
}

/// `getsockname(2)`.
pub fn sys_getsockname(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: UserPtr<u32>) -> SysResult<()> {
    let it = opened(cur, fd)?;
    Ok(it.socket.local_addr()?.write(addr, len)?)
}

/// `getpeername(2)`.
pub fn sys_getpeername(cur: &CurrentTask, fd: Fd, addr: UserPtr<u8>, len: UserPtr<u32>) -> SysResult<()> {
    let it = opened(cur, fd)?;
    Ok(it.socket.peer_addr()?.write(addr, len)?)
}

/// `shutdown(2)`.
pub fn sys_shutdown(cur: &CurrentTask, fd: Fd, how: u32) -> SysResult<()> {
    let it = opened(cur, fd)?;
    if how > 2 {
        return Err(Errno::EINVAL.into());
    }
    Ok(it.socket.shutdown(Halves { read: how != 1, write: how != 0 })?)
}

/// Sends all of `src` on a stream, one packet else.
fn send(cur: &CurrentTask, it: &Opened<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
    if it.file.nonblock() {
        msg.flags |= MsgFlags::DONTWAIT;
    }
    let dont = msg.flags.contains(MsgFlags::DONTWAIT);
    let socket = &*it.socket;
    let ctx = ctx(cur);
    let to = msg.to;
    let mut done = 0;
    let out = loop {
        match blocking(&ctx, socket, (Events::OUT, to.as_ref()), dont, || socket.send(&ctx, src, msg)) {
            Ok(n) => {
                done += n;
                if n == 0 || src.left() == 0 || !socket.is_stream() {
                    break Ok(done);
                }
            }
            Err(_) if done > 0 => break Ok(done),
            Err(e) => break Err(e),
        }
    };
    if out == Err(Errno::EPIPE.into()) && !msg.flags.contains(MsgFlags::NOSIGNAL) && socket.raises_sigpipe() {
        files::broken_pipe(cur);
    }
    out
}

/// Receives; `MSG_WAITALL` on a stream goes on until all room is filled.
fn receive(
    cur: &CurrentTask,
    it: &Opened<'_>,
    dst: &mut IoDst<'_>,
    flags: MsgFlags,
    out: &mut RecvMsg,
) -> SysResult<usize> {
    let socket = &*it.socket;
    let ctx = ctx(cur);
    let dont = flags.intersects(MsgFlags::DONTWAIT | MsgFlags::ERRQUEUE) || it.file.nonblock();
    let flags = if dont { flags | MsgFlags::DONTWAIT } else { flags };
    let all = flags.contains(MsgFlags::WAITALL)
        && socket.is_stream()
        && !flags.intersects(MsgFlags::PEEK | MsgFlags::OOB | MsgFlags::ERRQUEUE);
    let asked = if dont { flags | MsgFlags::DONTWAIT } else { flags };
    let mut got = match blocking(&ctx, socket, (Events::IN, None), dont, || socket.receive(&ctx, dst, asked, out)) {
        Ok(n) => n,
        // It waited for more than there was.
        Err(_) if dst.done() > 0 => return Ok(dst.done()),
        Err(e) if !dont && flags.contains(MsgFlags::PEEK | MsgFlags::WAITALL) && socket.is_stream() => {
            return socket.receive(&ctx, dst, flags | MsgFlags::DONTWAIT, out).map_err(|_| e);
        }
        Err(e) => return Err(e),
    };
    while all && got > 0 && dst.left() > 0 && out.files.is_empty() && !out.complete {
        match blocking(&ctx, socket, (Events::IN, None), dont, || socket.receive(&ctx, dst, flags, out)) {
            Ok(more) if more > 0 => got += more,
            _ => break,
        }
    }
    Ok(got)
}

/// What a receive returns: with `MSG_TRUNC` the packet's length, whatever was received of it.
fn length(it: &Opened<'_>, flags: MsgFlags, got: usize, out: &RecvMsg) -> usize {
    if flags.contains(MsgFlags::TRUNC) && !it.socket.is_stream() { out.whole.max(got) } else { got }
}

/// One buffer as a vector.
fn single(buf: UserPtr<u8>, len: usize) -> Result<[IoVec; 1]> {
    let len = len.min(MAX_COUNT) as u64;
    if !range_ok(buf.addr(), len) {
        return Err(Errno::EFAULT);
    }
    Ok([IoVec { base: buf.addr(), len }])
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
    let vecs = single(buf, len)?;
    let it = opened(cur, fd)?;
    let to = if addr.is_null() || addr_len == 0 { None } else { Some(SockAddr::read(addr, addr_len)?) };
    let flags = MsgFlags::from_bits_retain(flags);
    let mut msg = SendMsg { flags, to, ..SendMsg::default() };
    send(cur, &it, &mut IoSrc::user(&vecs), &mut msg)
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
    let vecs = single(buf, len)?;
    let it = opened(cur, fd)?;
    let flags = MsgFlags::from_bits_retain(flags);
    let mut out = RecvMsg { wants_name: !addr.is_null(), ..RecvMsg::default() };
    let got = receive(cur, &it, &mut IoDst::user(&vecs), flags, &mut out)?;
    if !addr.is_null() {
        match &out.from {
            Some(from) => from.write(addr, addr_len)?,
            None => addr_len.write(0)?,
        }
    }
    Ok(length(&it, flags, got, &out))
}

fn send_message(cur: &CurrentTask, it: &Opened<'_>, header: UserPtr<msg::Header>, flags: MsgFlags) -> SysResult<usize> {
    let h = msg::read_header(header)?;
    let to = match h.name {
        0 => None,
        _ if h.name_len == 0 => None,
        at => Some(SockAddr::read(UserPtr::new(at), h.name_len)?),
    };
    msg::with_data(&h, |vecs| {
        let mut message = SendMsg { flags, to, files_limit: files::nofile(cur), ..SendMsg::default() };
        msg::read_control(cur, &*it.socket, &h, &mut message)?;
        let mut src = IoSrc::user(vecs);
        src.limit(MAX_COUNT);
        send(cur, it, &mut src, &mut message)
    })
}

/// `sendmsg(2)`.
pub fn sys_sendmsg(cur: &CurrentTask, fd: Fd, header: UserPtr<msg::Header>, flags: u32) -> SysResult<usize> {
    let flags = MsgFlags::from_bits_retain(flags);
    if flags.contains(MsgFlags::CMSG_COMPAT) {
        return Err(Errno::EINVAL.into());
    }
    let it = opened(cur, fd)?;
    send_message(cur, &it, header, flags)
}

/// `sendmmsg(2)`.
pub fn sys_sendmmsg(
    cur: &CurrentTask,
    fd: Fd,
    messages: UserPtr<msg::Many>,
    count: u32,
    flags: u32,
) -> SysResult<usize> {
    let flags = MsgFlags::from_bits_retain(flags);
    if flags.contains(MsgFlags::CMSG_COMPAT) {
        return Err(Errno::EINVAL.into());
    }
    let it = opened(cur, fd)?;
    let mut done = 0;
    while done < count.min(MAX_MESSAGES) as usize {
        let at = messages.add(done);
        match send_message(cur, &it, at.cast(), flags).and_then(|n| Ok(msg::set_length(at, n)?)) {
            Ok(()) => done += 1,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn receive_message(
    cur: &CurrentTask,
    it: &Opened<'_>,
    header: UserPtr<msg::Header>,
    flags: MsgFlags,
) -> SysResult<usize> {
    let mut h = msg::read_header(header)?;
    msg::with_data(&h.clone(), |vecs| {
        let wants_control = h.control != 0 && h.control_len > 0;
        let mut out = RecvMsg { wants_control, wants_name: h.name != 0, ..RecvMsg::default() };
        let mut dst = IoDst::user(vecs);
        dst.limit(MAX_COUNT);
        let got = receive(cur, it, &mut dst, flags, &mut out)?;
        let len = length(it, flags, got, &out);
        msg::give(cur, header, &mut h, out, flags)?;
        Ok(len)
    })
}

/// `recvmsg(2)`.
pub fn sys_recvmsg(cur: &CurrentTask, fd: Fd, header: UserPtr<msg::Header>, flags: u32) -> SysResult<usize> {
    let flags = MsgFlags::from_bits_retain(flags);
    if flags.contains(MsgFlags::CMSG_COMPAT) {
        return Err(Errno::EINVAL.into());
    }
    let it = opened(cur, fd)?;
    receive_message(cur, &it, header, flags)
}

/// `recvmmsg(2)`. The timeout is looked at between messages only (BUGS in its man page).
pub fn sys_recvmmsg(
    cur: &CurrentTask,
    fd: Fd,
    messages: UserPtr<msg::Many>,
    count: u32,
    flags: u32,
    timeout: UserPtr<__kernel_timespec>,
) -> SysResult<usize> {
    let mut flags = MsgFlags::from_bits_retain(flags);
    if flags.contains(MsgFlags::CMSG_COMPAT) {
        return Err(Errno::EINVAL.into());
    }
    let deadline = match timeout.option() {
        None => None,
        Some(p) => Some(time::deadline_in(to_ns(p.read()?)? as u64)),
    };
    let it = opened(cur, fd)?;
    it.socket.core().check_error()?;
    let mut done = 0;
    let mut failed = None;
    while done < count.min(MAX_MESSAGES) as usize {
        let at = messages.add(done);
        let one = flags - MsgFlags::WAITFORONE;
        match receive_message(cur, &it, at.cast(), one).and_then(|n| Ok(msg::set_length(at, n)?)) {
            Ok(()) => done += 1,
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
        if flags.contains(MsgFlags::WAITFORONE) {
            flags |= MsgFlags::DONTWAIT;
        }
        if deadline.is_some_and(|d| time::host_monotonic() >= d) {
            break;
        }
    }
    if let (Some(p), Some(d)) = (timeout.option(), deadline)
        && done > 0
    {
        let left = d.saturating_sub(time::host_monotonic()) as i64;
        p.write(__kernel_timespec { tv_sec: left / time::SECOND, tv_nsec: left % time::SECOND })?;
    }
    match failed {
        Some(e) if done == 0 => Err(e),
        // What went wrong after some messages is told by the next call.
        Some(SysError::Errno(e)) if e != Errno::EAGAIN => {
            it.socket.core().set_error(e);
            Ok(done)
        }
        _ => Ok(done),
    }
}
