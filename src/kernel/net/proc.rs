//! The text of `/proc/net` and the settings of `/proc/sys/net`, for the file system that shows them.

mod counters;
mod links;
mod tables;

use super::inet::addr::{Addr, Ip};
use super::inet::proto;
use super::ns;
use super::socket::core_state::{RECEIVE_MAX, SEND_MAX};
use super::socket::{Core, SocketOps, af, sock};
use crate::abi::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;

/// `TCP_LISTEN`.
const LISTEN: u8 = 10;

/// One line of `/proc/net/tcp` and its like.
pub struct Row {
    /// Its own address.
    pub local: Addr,
    /// The peer's, or the wildcard.
    pub remote: Addr,
    /// The state's number in `linux/tcp_states.h`.
    pub state: u8,
    /// Bytes that wait on the way out; of a listener the length of its backlog.
    pub out: usize,
    /// Bytes that wait to be read, or connections to be accepted.
    pub waiting: usize,
    /// Packets that found no room.
    pub dropped: u32,
}

/// The file `name` of `/proc/net`; `None`: there is no such one.
pub fn text(name: &str) -> Option<Vec<u8>> {
    if name == "unix" {
        return Some(super::unix::table(&ns::current().unix));
    }
    Some(
        match name {
            "tcp" => table(af::INET, sock::STREAM),
            "tcp6" => table(af::INET6, sock::STREAM),
            "udp" => table(af::INET, sock::DGRAM),
            "udp6" => table(af::INET6, sock::DGRAM),
            "raw" => table(af::INET, sock::RAW),
            "raw6" => table(af::INET6, sock::RAW),
            "icmp" => ping_table(af::INET),
            "icmp6" => ping_table(af::INET6),
            "if_inet6" => links::interfaces6(),
            "snmp" => counters::snmp(established()),
            "snmp6" => counters::snmp6(),
            "netstat" => counters::netstat(),
            "igmp" => tables::igmp(),
            "igmp6" => tables::igmp6(),
            "ptype" => tables::ptype(),
            "udplite" => lite_table(af::INET),
            "udplite6" => lite_table(af::INET6),
            "sockstat" => sockstat(),
            "sockstat6" => sockstat6(),
            "netlink" => told(af::NETLINK, NETLINK),
            "packet" => told(af::PACKET, PACKET),
            "protocols" => protocols(),
            "arp" => links::arp(),
            "route" => links::route(),
            "dev" => links::dev(),
            "ipv6_route" => links::ipv6_route(),
            name => tables::head(name)?.into(),
        }
        .into_bytes(),
    )
}

/// The heads of two files.
const NETLINK: &str = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n";
const PACKET: &str = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n";

/// The sockets of a family that tell of themselves, below a head.
fn told(family: u16, head: &str) -> String {
    let mut out = String::from(head);
    for s in ns::current().sockets().iter().filter(|s| s.core().family == family) {
        if let Some(line) = s.line() {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

/// Whether a socket is of the type's own protocol.
fn is_usual(core: &Core) -> bool {
    core.kind != sock::DGRAM || core.protocol == proto::UDP
}

fn sockets(family: u16, kind: u16) -> impl Iterator<Item = (Arc<dyn SocketOps>, Row)> {
    listed(move |c| c.family == family && c.kind == kind && is_usual(c))
}

fn listed(wanted: impl Fn(&Core) -> bool) -> impl Iterator<Item = (Arc<dyn SocketOps>, Row)> {
    let all = ns::current().sockets();
    all.into_iter().filter_map(move |s| {
        let row = if wanted(s.core()) { s.row() } else { None }?;
        Some((s, row))
    })
}

/// An address in the hexadecimal form of these tables: words in the machine's order.
fn hex(ip: Ip, six: bool) -> String {
    if !six {
        return format!("{:08X}", ip.bits4().swap_bytes());
    }
    let mut out = String::new();
    for word in ip.bytes().chunks_exact(4) {
        let _ = write!(out, "{:08X}", u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    out
}

fn table(family: u16, kind: u16) -> String {
    let six = family == af::INET6;
    // The title's indent, the width of a line's number and of a line.
    let form = match (kind, six) {
        (sock::STREAM, false) => (2, 4, 149),
        (sock::STREAM, true) => (2, 4, 0),
        (sock::RAW, false) => (2, 4, 0),
        (_, false) => (3, 5, 127),
        (_, true) => (2, 5, 0),
    };
    lines(sockets(family, kind), six, kind == sock::STREAM, form)
}

/// The table of ping sockets.
fn ping_table(family: u16) -> String {
    let six = family == af::INET6;
    let ping = move |c: &Core| {
        c.family == family && c.kind == sock::DGRAM && matches!(c.protocol, proto::ICMP | proto::ICMPV6)
    };
    lines(listed(ping), six, false, (2, 5, if six { 0 } else { 127 }))
}

/// The table of UDP-Lite's sockets.
fn lite_table(family: u16) -> String {
    let six = family == af::INET6;
    let lite = move |c: &Core| c.family == family && c.kind == sock::DGRAM && c.protocol == proto::UDPLITE;
    lines(listed(lite), six, false, if six { (2, 5, 0) } else { (3, 5, 127) })
}

fn lines(
    rows: impl Iterator<Item = (Arc<dyn SocketOps>, Row)>,
    six: bool,
    stream: bool,
    (indent, number, width): (usize, usize, usize),
) -> String {
    let addresses = if six {
        "local_address                         remote_address                        "
    } else {
        "local_address rem_address   "
    };
    let tail = if stream { "" } else { " ref pointer drops" };
    let mut out = String::new();
    let title =
        format!("{:indent$}sl  {addresses}st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode{tail}", "");
    let _ = writeln!(out, "{title:width$}");
    for (n, (socket, row)) in rows.enumerate() {
        let text = format!("{n:number$}{}", entry(socket.core(), &row, six, stream));
        let _ = writeln!(out, "{text:width$}");
    }
    out
}

fn entry(core: &Core, row: &Row, six: bool, stream: bool) -> String {
    // A listener's longest backlog is told by sock_diag only.
    let out_bytes = if row.state == LISTEN { 0 } else { row.out };
    let mut out = format!(
        ": {}:{:04X} {}:{:04X} {:02X} {:08X}:{:08X} 00:00000000 00000000 {:5}        0 {}",
        hex(row.local.ip, six),
        row.local.port,
        hex(row.remote.ip, six),
        row.remote.port,
        row.state,
        out_bytes,
        row.waiting,
        ns::seen_uid(core.uid),
        core.ino,
    );
    if stream {
        out += " 1 0000000000000000 100 0 0 10 0";
    } else {
        let _ = write!(out, " 2 0000000000000000 {}", row.dropped);
    }
    out
}

fn established() -> usize {
    [af::INET, af::INET6].iter().map(|&f| sockets(f, sock::STREAM).filter(|(_, r)| r.state == 1).count()).sum()
}

fn in_use(family: u16, kind: u16) -> usize {
    sockets(family, kind).filter(|(_, r)| r.local.port != 0).count()
}

fn sockstat() -> String {
    let ns = ns::current();
    let closed = ns.inet.tcp.lock().closed();
    let (tcp, udp, raw) = (in_use(af::INET, sock::STREAM), in_use(af::INET, sock::DGRAM), in_use(af::INET, sock::RAW));
    format!(
        "sockets: used {}\nTCP: inuse {tcp} orphan 0 tw {closed} alloc {tcp} mem 0\nUDP: inuse {udp} mem 0\n\
         UDPLITE: inuse 0\nRAW: inuse {raw}\nFRAG: inuse 0 memory 0\n",
        ns.sockets().len(),
    )
}

fn sockstat6() -> String {
    format!(
        "TCP6: inuse {}\nUDP6: inuse {}\nUDPLITE6: inuse 0\nRAW6: inuse {}\nFRAG6: inuse 0 memory 0\n",
        in_use(af::INET6, sock::STREAM),
        in_use(af::INET6, sock::DGRAM),
        in_use(af::INET6, sock::RAW),
    )
}

/// What `/proc/net/protocols` says of each: its name, the bytes of a socket, pages that its sockets hold (`-1`: not
/// counted) and whether these are short, the largest header, whether it has a slab, and which calls it has of its own.
type Protocol = (&'static str, u32, i32, &'static str, u32, &'static str, &'static str);
const NO_CALLS: &str = "ynnnnnnnnnnnnnnnnn";
const PROTOCOLS: [Protocol; 14] = [
    ("PACKET", 1600, -1, "NI", 0, "no", "nnnnnnnnnnnnnnnnnn"),
    ("PINGv6", 1344, -1, "NI", 0, "yes", "yyynnynnyyyyyynyyn"),
    ("RAWv6", 1344, -1, "NI", 0, "yes", "yyynyyynyyyyyyyynn"),
    ("UDPLITEv6", 1472, 0, "NI", 0, "yes", "yyynyyynyyyynnyyyn"),
    ("UDPv6", 1472, 0, "NI", 0, "yes", "yyynyyynyyyynnyyyn"),
    ("TCPv6", 2432, 0, "no", 192, "yes", "yyyyyyyyyyyynyyyyy"),
    ("UNIX-STREAM", 1152, -1, "NI", 0, "yes", NO_CALLS),
    ("UNIX", 1152, -1, "NI", 0, "yes", NO_CALLS),
    ("UDP-Lite", 1344, 0, "NI", 0, "yes", "yyynyyynyyyynnyyyn"),
    ("PING", 1016, -1, "NI", 0, "yes", "yyynnynnyyyyyynyyn"),
    ("RAW", 1152, -1, "NI", 0, "yes", "yyynyyynyyyyyyyynn"),
    ("UDP", 1344, 0, "NI", 0, "yes", "yyynyyynyyyynnyyyn"),
    ("TCP", 2304, 0, "no", 192, "yes", "yyyyyyyyyyyynyyyyy"),
    ("NETLINK", 1096, -1, "NI", 0, "no", "nnnnnnnnnnnnnnnnnn"),
];

fn protocols() -> String {
    let mut out = String::from(
        "protocol  size sockets  memory press maxhdr  slab module     \
         cl co di ac io in de sh ss gs se re bi br ha uh gp em\n",
    );
    let all = ns::current().sockets();
    for (name, size, memory, pressed, header, slab, calls) in PROTOCOLS {
        // Sockets of ports count when they have one.
        let counts = |s: &Arc<dyn SocketOps>| {
            let core = s.core();
            core.protocol_name() == name
                && (!matches!(core.family, af::INET | af::INET6) || core.kind == sock::RAW || s.row().is_some())
        };
        let count = all.iter().filter(|s| counts(s)).count();
        let _ = write!(
            out,
            "{name:<9} {size:4} {count:6}  {memory:6}   {pressed:<3} {header:6}   {slab:<4} {:<7}   ",
            "kernel"
        );
        for call in calls.chars() {
            let _ = write!(out, "  {call}");
        }
        out.push('\n');
    }
    out
}

/// A setting of `/proc/sys/net`, without its newline.
pub fn setting(name: &str) -> Option<String> {
    let ns = ns::current();
    let (low, high) = ns.port_range();
    Some(match name {
        "core/rmem_max" => format!("{}", RECEIVE_MAX.get()),
        "core/somaxconn" => format!("{}", ns.somaxconn()),
        "core/wmem_max" => format!("{}", SEND_MAX.get()),
        "ipv4/ip_local_port_range" => format!("{low}\t{high}"),
        "ipv4/ip_unprivileged_port_start" => format!("{}", ns.inet.unprivileged.load(Relaxed)),
        "ipv4/ip_nonlocal_bind" => format!("{}", u8::from(ns.inet.nonlocal.load(Relaxed))),
        "ipv4/ip_default_ttl" => format!("{}", ns.inet.ttl.load(Relaxed)),
        "ipv4/ping_group_range" => {
            let (low, high) = ns.inet.raw.ping_groups();
            format!("{low}\t{high}")
        }
        "ipv6/bindv6only" => format!("{}", u8::from(ns.inet.v6only.load(Relaxed))),
        _ => return None,
    })
}

/// Sets a setting.
///
/// # Errors
/// `EINVAL` for what it cannot be.
pub fn set_setting(name: &str, text: &[u8]) -> Result {
    let ns = ns::current();
    let text = core::str::from_utf8(text).unwrap_or("");
    let mut numbers = text.split_ascii_whitespace().map(|w| w.parse::<i32>().unwrap_or(-1));
    let (first, second) = (numbers.next().unwrap_or(-1), numbers.next().unwrap_or(-1));
    match name {
        "core/rmem_max" => RECEIVE_MAX.set(u64::try_from(first).map_err(|_| Errno::EINVAL)?)?,
        "core/wmem_max" => SEND_MAX.set(u64::try_from(first).map_err(|_| Errno::EINVAL)?)?,
        "core/somaxconn" if first >= 0 => ns.somaxconn.store(first, Relaxed),
        "ipv4/ip_local_port_range" => {
            let [low, high] = [first, second].map(u16::try_from);
            ns.set_port_range(low.map_err(|_| Errno::EINVAL)?, high.map_err(|_| Errno::EINVAL)?)?;
        }
        "ipv4/ping_group_range" => {
            let [low, high] = [first, second].map(u32::try_from);
            ns.inet.raw.set_ping_groups(low.map_err(|_| Errno::EINVAL)?, high.map_err(|_| Errno::EINVAL)?);
        }
        "ipv4/ip_unprivileged_port_start" if (0..=65_535).contains(&first) => {
            ns.inet.unprivileged.store(first, Relaxed);
        }
        "ipv4/ip_nonlocal_bind" if (0..=1).contains(&first) => ns.inet.nonlocal.store(first == 1, Relaxed),
        "ipv4/ip_default_ttl" if (1..=255).contains(&first) => ns.inet.ttl.store(first, Relaxed),
        "ipv6/bindv6only" if (0..=1).contains(&first) => ns.inet.v6only.store(first == 1, Relaxed),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}
