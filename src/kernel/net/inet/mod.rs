//! Internet sockets of both versions (`ip(7)`, `ipv6(7)`, `tcp(7)`, `udp(7)`, `raw(7)`), between sockets of one
//! sandbox only: the loopback network is shared memory. (Those of the host's network are [`hostnet`]'s.) Packets are made for raw sockets only ([`wire`]).

pub mod addr;
mod control;
pub mod dgram;
mod ends;
mod ethtool;
mod headers;
mod icmp;
mod input;
pub mod ioctl;
mod labels;
mod mailbox;
mod multicast;
mod numbers;
mod options;
mod options4;
pub mod ports;
mod raw;
mod route_ioctl;
mod sources;
mod state;
mod sticky;
pub mod tcp;
mod way;
mod wire;

pub use input::{Seen, arrive_from_link as arrive};
pub use mailbox::copy as copy_packet;
pub use state::InetState;

use crate::abi::{Errno, Result};
use crate::net::socket::family::Wanted;
use crate::net::socket::{SockCtx, SocketOps, af, sock};
use crate::net::{NetNamespace, hostnet};
use alloc::sync::Arc;

/// `IPPROTO_*`.
pub mod proto {
    /// Only in `socket(2)`: the type's own protocol.
    pub const IP: u32 = 0;
    /// Control messages.
    pub const ICMP: u32 = 1;
    /// Datagrams.
    pub const UDP: u32 = 17;
    /// Datagrams that may arrive damaged.
    pub const UDPLITE: u32 = 136;
    /// Level of options of version 6.
    pub const IPV6: u32 = 41;
    /// Control messages of version 6.
    pub const ICMPV6: u32 = 58;
    /// Packets with their headers.
    pub const RAW: u32 = 255;
}

/// `socket(2)` (`inet_create`, `inet6_create`).
///
/// # Errors
/// `EINVAL`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`, `EPERM`; the host's, for its network.
pub fn create(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted) -> Result<Arc<dyn SocketOps>> {
    if ns.is_host() {
        return hostnet::create(ctx, ns, wanted);
    }
    if wanted.protocol > 262 {
        return Err(Errno::EINVAL);
    }
    match (wanted.kind, wanted.protocol) {
        (sock::STREAM, proto::IP | tcp::PROTOCOL) => tcp::create(ctx, ns, wanted),
        (sock::DGRAM, proto::IP | proto::UDP) => dgram::create(ctx, ns, wanted, proto::UDP),
        (sock::DGRAM, proto::UDPLITE) => dgram::create(ctx, ns, wanted, proto::UDPLITE),
        (sock::DGRAM, proto::ICMP) if wanted.family == af::INET => raw::create(ctx, ns, wanted),
        (sock::DGRAM, proto::ICMPV6) if wanted.family == af::INET6 => raw::create(ctx, ns, wanted),
        (sock::RAW, protocol) if protocol != proto::IP => raw::create(ctx, ns, wanted),
        (sock::STREAM | sock::DGRAM | sock::RAW, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}
