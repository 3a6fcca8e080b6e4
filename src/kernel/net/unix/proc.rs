//! What is told of local sockets: `/proc/net/unix`, and the facts for `sock_diag(7)`.

use super::names::LocalSockets;
use super::sock::{Kind, Sock, Status};
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// `__SO_ACCEPTCON`.
const LISTENS: u32 = 1 << 16;

/// The table of a namespace's local sockets, those in nobody's hands included.
pub fn table(sockets: &LocalSockets) -> Vec<u8> {
    let mut out = b"Num       RefCount Protocol Flags    Type St Inode Path\n".to_vec();
    for sock in sockets.all() {
        line(&sock, &mut out);
    }
    out
}

fn line(sock: &Sock, out: &mut Vec<u8>) {
    let inner = sock.inner.lock();
    let kind = match sock.kind {
        Kind::Stream => 1,
        Kind::Datagram => 2,
        Kind::SeqPacket => 5,
    };
    let connected = inner.status == Status::Connected;
    let state = match (inner.accepted, connected) {
        (true, true) => 3,
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => 4,
    };
    let flags = if inner.status == Status::Listening { LISTENS } else { 0 };
    let references = 2 + u32::from(inner.peer.is_some());
    let ino = if inner.accepted { sock.core.ino } else { 0 };
    // The first number is an address in the kernel, which nobody is told.
    let text = format!("{:016x}: {references:08X} {:08X} {flags:08X} {kind:04X} {state:02X} {ino:5}", 0, 0);
    out.extend_from_slice(text.as_bytes());
    if let Some(name) = &inner.name {
        out.push(b' ');
        let is_abstract = name.first() == Some(&0);
        out.extend(name.iter().map(|&b| if is_abstract && b == 0 { b'@' } else { b }));
    }
    out.push(b'\n');
}

/// `TCP_ESTABLISHED`, `TCP_CLOSE`, `TCP_LISTEN`.
const ESTABLISHED: u8 = 1;
const CLOSED: u8 = 7;
const LISTEN: u8 = 10;

/// A local socket as `sock_diag(7)` tells of it.
pub struct Facts {
    /// `SOCK_*`.
    pub kind: u8,
    /// The state's number in `linux/tcp_states.h`.
    pub state: u8,
    /// Its inode, 0 while nobody accepted it.
    pub ino: u32,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// Its maker.
    pub uid: u32,
    /// Its name as `sun_path` has it.
    pub name: Option<Vec<u8>>,
    /// The inode of what it is connected to.
    pub peer: Option<u32>,
    /// Bytes to be read and on their way out, or connections to be accepted and the most of these.
    pub queued: (u32, u32),
    /// Room for what it receives and sends.
    pub rooms: (u32, u32),
    /// `RCV_SHUTDOWN` (1), `SEND_SHUTDOWN` (2).
    pub shut: u8,
}

/// The facts of all local sockets.
pub fn facts(sockets: &LocalSockets) -> Vec<Facts> {
    sockets.all().iter().map(|s| fact(s)).collect()
}

fn fact(sock: &Sock) -> Facts {
    let sent = sock.charged() as u32;
    let inner = sock.inner.lock();
    let (state, queued) = match inner.status {
        Status::Listening => (LISTEN, (inner.incoming.len() as u32, inner.backlog as u32)),
        Status::Connected => (ESTABLISHED, (inner.unread as u32, sent)),
        _ => (CLOSED, (inner.unread as u32, sent)),
    };
    Facts {
        kind: match sock.kind {
            Kind::Stream => 1,
            Kind::Datagram => 2,
            Kind::SeqPacket => 5,
        },
        state,
        ino: if inner.accepted { sock.core.ino as u32 } else { 0 },
        cookie: sock.core.cookie,
        uid: sock.core.uid,
        name: inner.name.as_ref().map(|name| {
            let mut name = name.to_vec();
            if name.first() != Some(&0) {
                name.push(0);
            }
            name
        }),
        peer: inner.peer.as_ref().map(|p| p.core.ino as u32),
        queued,
        rooms: (sock.core.receive_buffer.load(Relaxed), sock.core.send_buffer.load(Relaxed)),
        shut: u8::from(inner.shut_read) | u8::from(inner.shut_write) << 1,
    }
}
