//! The files of `/proc/net` that show interfaces, addresses, routes and neighbours.

use crate::net::inet::addr::Ip;
use crate::net::links::{Links, Route, RouteKind, iff, table};
use crate::net::ns;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;

fn hex(ip: Ip) -> String {
    ip.bytes().iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

fn name(links: &Links, index: u32) -> String {
    links.link(index).map_or_else(|_| String::from("*"), |l| String::from_utf8_lossy(&l.name).into_owned())
}

/// `RTF_UP`, `RTF_GATEWAY`, `RTF_HOST`, `RTF_REJECT`.
fn flags(r: &Route) -> u32 {
    let reject = matches!(r.kind, RouteKind::Unreachable | RouteKind::Prohibit);
    let host = r.prefix == r.to.width();
    1 | if r.gateway.is_some() { 2 } else { 0 } | if host { 4 } else { 0 } | if reject { 0x200 } else { 0 }
}

/// `/proc/net/route`: the main table of version 4 (`fib_route_seq_show`).
pub(super) fn route() -> String {
    let ns = ns::current();
    let links = ns.links();
    let mut out =
        format!("{:<127}\n", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT");
    let shown = |r: &&Route| r.to.is_v4() && r.table == table::MAIN && !matches!(r.kind, RouteKind::Broadcast);
    for r in links.routes_in_order().into_iter().filter(shown) {
        let device = if r.device == 0 { String::from("*") } else { name(&links, r.device) };
        let gateway = r.gateway.map_or(0, Ip::bits4).swap_bytes();
        let mask = u32::MAX.checked_shl(32 - u32::from(r.prefix)).unwrap_or(0).swap_bytes();
        let line = format!(
            "{device}\t{:08X}\t{gateway:08X}\t{:04X}\t0\t0\t{}\t{mask:08X}\t{}\t0\t0",
            r.to.bits4().swap_bytes(),
            flags(r),
            r.metric,
            if r.mtu == 0 { 0 } else { r.mtu.saturating_sub(40) },
        );
        let _ = writeln!(out, "{line:<127}");
    }
    out
}

/// `/proc/net/ipv6_route` (`rt6_route_seq_show`).
pub(super) fn ipv6_route() -> String {
    let ns = ns::current();
    let links = ns.links();
    let zero = hex(Ip::ANY6);
    let mut out = String::new();
    for r in links.routes().filter(|r| !r.to.is_v4()) {
        let local = if r.kind == RouteKind::Local { 0x8020_0000 } else { 0 };
        let _ = writeln!(
            out,
            "{} {:02x} {zero} 00 {} {:08x} {:08x} {:08x} {:08x} {:>8}",
            hex(r.to),
            r.prefix,
            hex(r.gateway.unwrap_or(Ip::ANY6)),
            r.metric,
            2,
            0,
            local | if r.kind == RouteKind::Local { 1 } else { flags(r) },
            name(&links, r.device)
        );
    }
    out
}

/// `/proc/net/if_inet6`: address, number, bits, scope, flags, name.
pub(super) fn interfaces6() -> String {
    let ns = ns::current();
    let links = ns.links();
    let mut out = String::new();
    for (index, a) in links.addresses().filter(|(_, a)| !a.ip.is_v4()) {
        // IPV6_ADDR_LOOPBACK, IPV6_ADDR_LINKLOCAL.
        let scope = if a.ip.is_loopback() {
            0x10
        } else if a.ip.is_link_local() {
            0x20
        } else {
            0
        };
        let name = name(&links, index);
        let _ =
            writeln!(out, "{} {index:02x} {:02x} {scope:02x} {:02x} {name:>8}", hex(a.ip), a.prefix, a.flags & 0xff);
    }
    out
}

/// `/proc/net/arp` (`arp_format_neigh_entry`).
pub(super) fn arp() -> String {
    let ns = ns::current();
    let links = ns.links();
    let mut out = String::from("IP address       HW type     Flags       HW address            Mask     Device\n");
    for ((index, ip), n) in links.neighbours.iter().filter(|((_, ip), _)| ip.is_v4()) {
        let [a, b, c, d] = ip.bits4().to_be_bytes();
        let kind = if links.link(*index).is_ok_and(|l| l.bits & iff::LOOPBACK != 0) { 0x304 } else { 1 };
        // ATF_COM, ATF_PERM.
        let flags = if n.mac.is_some() { 2 } else { 0 } | if n.state & 0x80 != 0 { 4 } else { 0 };
        let m = n.mac.unwrap_or_default();
        let mac = format!("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4], m[5]);
        let ip = format!("{a}.{b}.{c}.{d}");
        let (kind, flags) = (format!("0x{kind:<10x}"), format!("0x{flags:<10x}"));
        let _ = writeln!(out, "{ip:<16} {kind}{flags}{mac}     *        {}", name(&links, *index));
    }
    out
}

/// `/proc/net/dev`.
pub(super) fn dev() -> String {
    let mut out = String::from(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|\
         bytes    packets errs drop fifo colls carrier compressed\n",
    );
    let ns = ns::current();
    ns.refresh_counts();
    for link in ns.links().all() {
        let [packets, bytes] = link.sent;
        // What leaves by the loopback interface comes in by it.
        let [packets_in, bytes_in] = if link.is_loopback() { link.sent } else { [0, 0] };
        let name = String::from_utf8_lossy(&link.name);
        let _ = writeln!(
            out,
            "{name:>6}: {bytes_in:7} {packets_in:7}    0    0    0     0          0         0 \
             {bytes:8} {packets:7}    0    0    0     0       0          0"
        );
    }
    out
}
