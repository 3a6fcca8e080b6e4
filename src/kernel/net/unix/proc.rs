//! `/proc/net/unix`.

use super::names::LocalSockets;
use super::sock::{Kind, Sock, Status};
use alloc::format;
use alloc::vec::Vec;

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
