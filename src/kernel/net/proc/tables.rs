//! The files of `/proc/net` that show groups, flow labels and what the kernel takes packets in with.

use crate::net::inet::addr::Ip;
use crate::net::links::LOOPBACK;
use crate::net::ns;
use crate::net::socket::af;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// The groups that somebody is a member of, with how many are: those that the loopback interface always has come last.
fn groups(v4: bool) -> Vec<(Ip, u32)> {
    let ns = ns::current();
    let mut all: Vec<(Ip, u32)> = {
        let members = ns.inet.members.lock();
        members.iter().filter(|(ip, _)| ip.is_v4() == v4).map(|(ip, n)| (*ip, *n)).collect()
    };
    all.sort();
    let six = |scope: u8| {
        let mut b = [0; 16];
        (b[0], b[1], b[15]) = (0xff, scope, 1);
        Ip::from_bytes(b)
    };
    let own = if v4 { &[Ip::v4(0xe000_0001)][..] } else { &[six(2), six(1)] };
    if ns.loopback_is_up() {
        for ip in own {
            let users = all.iter().position(|(group, _)| group == ip).map_or(0, |at| all.remove(at).1);
            all.push((*ip, users + 1));
        }
    }
    all
}

/// `/proc/net/igmp`.
pub(super) fn igmp() -> String {
    let mut out = String::from("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n");
    let all = groups(true);
    if !all.is_empty() {
        let _ = writeln!(out, "{LOOPBACK}\t{:<10}: {:5}      V3", "lo", all.len());
        for (ip, users) in all {
            let _ = writeln!(out, "\t\t\t\t{:08X} {users:5} 0:00000000\t\t0", ip.bits4().swap_bytes());
        }
    }
    out
}

/// `/proc/net/igmp6`.
pub(super) fn igmp6() -> String {
    let mut out = String::new();
    for (ip, users) in groups(false) {
        // Who is a member of the groups that a node or link always has tells nobody (`MAF_NOREPORT`).
        let flags = if ip.bytes()[1] & 15 < 2 { 8 } else { 12 };
        let _ = writeln!(out, "{LOOPBACK:<4} {:<15} {} {users:5} {flags:08X} 0", "lo", hex(ip));
    }
    out
}

fn hex(ip: Ip) -> String {
    ip.bytes().iter().map(|b| format!("{b:02x}")).collect()
}

/// `/proc/net/ptype`: who takes packets in, by protocol.
pub(super) fn ptype() -> String {
    let mut out = String::from("Type Device      Function\n");
    for socket in ns::current().sockets().iter().filter(|s| s.core().family == af::PACKET) {
        // The protocol and the interface are words of its own line.
        let line = socket.line().unwrap_or_default();
        let mut words = line.split_ascii_whitespace().skip(3);
        let (protocol, device) = (words.next().unwrap_or("0000"), words.next().unwrap_or("0"));
        if protocol != "0000" {
            let kind = if protocol == "0003" { "ALL " } else { protocol };
            let device = if device == "0" { "" } else { "lo" };
            let _ = writeln!(out, "{kind} {device:<8}   packet_rcv");
        }
    }
    out + "0800          ip_rcv\n0806          arp_rcv\n86dd          ipv6_rcv\n"
}

/// The heads of tables in which there is nothing, by file.
pub(super) fn head(name: &str) -> Option<&'static str> {
    Some(match name {
        "anycast6" | "dev_mcast" | "rt_cache" => "",
        "mcfilter" => "Idx Device        MCA        SRC    INC    EXC\n",
        "mcfilter6" => "Idx Device                Multicast Address                   Source Address    INC    EXC\n",
        "psched" => "000003e8 00000040 000f4240 3b9aca00\n",
        _ => return None,
    })
}
