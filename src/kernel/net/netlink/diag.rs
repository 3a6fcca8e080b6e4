//! `NETLINK_SOCK_DIAG` (`sock_diag(7)`): sockets of the internet and local ones, as `ss` asks for them.

use super::message::{Answer, Request};
use crate::abi::{Errno, Result};
use crate::net::NetNamespace;
use crate::net::inet::addr::Ip;
use crate::net::proc::Row;
use crate::net::socket::{Core, SocketOps, af, sock};
use crate::net::unix::{Facts, facts};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// Bytes of a `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// `INET_DIAG_SKMEMINFO`, `INET_DIAG_SHUTDOWN`.
const SKMEMINFO: u16 = 7;
const SHUTDOWN: u16 = 8;

/// What a request asks for.
struct Wanted {
    family: u16,
    kind: u16,
    extensions: u8,
    states: u32,
    ports: (u16, u16),
}

/// Answers one request.
///
/// # Errors
/// `EINVAL`; `ENOENT` for a family or protocol that cannot be asked about.
pub fn serve(ns: &NetNamespace, request: &Request<'_>, answer: &mut Answer) -> Result {
    if request.kind != BY_FAMILY {
        return Err(Errno::EINVAL);
    }
    let b = request.body();
    let family = u16::from(*b.first().ok_or(Errno::EINVAL)?);
    if family == af::UNIX {
        return local(ns, request, answer);
    }
    if !matches!(family, af::INET | af::INET6) {
        return Err(Errno::ENOENT);
    }
    let b = b.get(..REQUEST).ok_or(Errno::EINVAL)?;
    let kind = match b[1] {
        6 => sock::STREAM,
        17 => sock::DGRAM,
        255 => sock::RAW,
        _ => return Err(Errno::ENOENT),
    };
    let states = u32::from_ne_bytes([b[4], b[5], b[6], b[7]]);
    let port = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
    let wanted = Wanted { family, kind, extensions: b[2], states, ports: (port(8), port(10)) };
    let mut found = false;
    for socket in ns.sockets() {
        let core = socket.core();
        let Some(row) = socket.row().filter(|r| matches(&wanted, core, r)) else { continue };
        put(answer, &wanted, &*socket, &row);
        found = true;
        if !request.is_dump() {
            break;
        }
    }
    if found || request.is_dump() { Ok(()) } else { Err(Errno::ENOENT) }
}

fn matches(wanted: &Wanted, core: &Core, row: &Row) -> bool {
    core.family == wanted.family
        && core.kind == wanted.kind
        && (core.kind != sock::DGRAM || core.protocol == 17)
        && wanted.states >> row.state & 1 != 0
        && (wanted.ports.0 == 0 || wanted.ports.0 == row.local.port)
        && (wanted.ports.1 == 0 || wanted.ports.1 == row.remote.port)
}

/// A `struct inet_diag_msg` with what was asked for besides.
fn put(answer: &mut Answer, wanted: &Wanted, socket: &dyn SocketOps, row: &Row) {
    let core = socket.core();
    let mut b = [0u8; 72];
    b[0] = wanted.family as u8;
    b[1] = row.state;
    b[4..6].copy_from_slice(&row.local.port.to_be_bytes());
    b[6..8].copy_from_slice(&row.remote.port.to_be_bytes());
    let mut address = |at: usize, ip: Ip| {
        if wanted.family == af::INET {
            b[at..at + 4].copy_from_slice(&ip.bits4().to_be_bytes());
        } else {
            b[at..at + 16].copy_from_slice(&if ip.is_any() { Ip::ANY6 } else { ip }.bytes());
        }
    };
    address(8, row.local.ip);
    address(24, row.remote.ip);
    b[44..52].copy_from_slice(&core.cookie.to_ne_bytes());
    let mut word = |at: usize, v: u32| b[at..at + 4].copy_from_slice(&v.to_ne_bytes());
    word(56, row.waiting as u32);
    word(60, row.out as u32);
    word(64, crate::net::ns::seen_uid(core.uid));
    word(68, core.ino as u32);
    answer.begin(BY_FAMILY, &b);
    answer.add(SHUTDOWN, &[0]);
    if wanted.extensions & 1 << (SKMEMINFO - 1) != 0 {
        let mut memory = [0u8; 36];
        let mut word = |i: usize, v: usize| memory[4 * i..4 * i + 4].copy_from_slice(&(v as u32).to_ne_bytes());
        word(0, row.waiting);
        word(1, core.receive_room());
        word(3, core.send_room());
        word(8, row.dropped as usize);
        answer.add(SKMEMINFO, &memory);
    }
}

/// Bytes of a `struct unix_diag_req`.
const LOCAL_REQUEST: usize = 24;

/// `UNIX_DIAG_*`, and the bit of each in a request (`UDIAG_SHOW_*`).
mod local_attr {
    pub const NAME: u16 = 0;
    pub const PEER: u16 = 2;
    pub const QUEUES: u16 = 4;
    pub const MEMINFO: u16 = 5;
    pub const SHUTDOWN: u16 = 6;
    pub const UID: u16 = 7;
    pub const SHOW_NAME: u32 = 1;
    pub const SHOW_PEER: u32 = 4;
    pub const SHOW_QUEUES: u32 = 0x10;
    pub const SHOW_MEMINFO: u32 = 0x20;
    pub const SHOW_UID: u32 = 0x40;
}

/// Local sockets (`unix_diag_handler_dump`).
fn local(ns: &NetNamespace, request: &Request<'_>, answer: &mut Answer) -> Result {
    let b = request.body().get(..LOCAL_REQUEST).ok_or(Errno::EINVAL)?;
    let word = |at: usize| u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let (states, ino, show) = (word(4), word(8), word(12));
    if !request.is_dump() {
        // One socket, named by its inode.
        if ino == 0 {
            return Err(Errno::EINVAL);
        }
        let all = facts(&ns.unix);
        let it = all.iter().find(|f| f.ino == ino).ok_or(Errno::ENOENT)?;
        put_local(answer, it, show);
        return Ok(());
    }
    for it in facts(&ns.unix).iter().filter(|f| states >> f.state & 1 != 0) {
        put_local(answer, it, show);
    }
    Ok(())
}

/// A `struct unix_diag_msg` with what was asked for besides.
fn put_local(answer: &mut Answer, it: &Facts, show: u32) {
    use local_attr as attr;
    let mut b = [0u8; 16];
    b[0] = af::UNIX as u8;
    b[1] = it.kind;
    b[2] = it.state;
    b[4..8].copy_from_slice(&it.ino.to_ne_bytes());
    b[8..16].copy_from_slice(&it.cookie.to_ne_bytes());
    answer.begin(BY_FAMILY, &b);
    if let Some(name) = it.name.as_ref().filter(|_| show & attr::SHOW_NAME != 0) {
        answer.add(attr::NAME, name);
    }
    if let Some(peer) = it.peer.filter(|_| show & attr::SHOW_PEER != 0) {
        answer.add_u32(attr::PEER, peer);
    }
    let pair = |(a, b): (u32, u32)| u64::from(a) | u64::from(b) << 32;
    if show & attr::SHOW_QUEUES != 0 {
        answer.add(attr::QUEUES, &pair(it.queued).to_ne_bytes());
    }
    if show & attr::SHOW_MEMINFO != 0 {
        let mut memory = [0u8; 36];
        memory[4..8].copy_from_slice(&it.rooms.0.to_ne_bytes());
        memory[12..16].copy_from_slice(&it.rooms.1.to_ne_bytes());
        answer.add(attr::MEMINFO, &memory);
    }
    answer.add(attr::SHUTDOWN, &[it.shut]);
    if show & attr::SHOW_UID != 0 {
        answer.add_u32(attr::UID, it.uid);
    }
}
