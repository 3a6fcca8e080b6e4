//! Internet addresses: one type for both versions, IPv4 in its mapped form (`::ffff:a.b.c.d`).

use crate::abi::{Errno, Result};
use crate::net::socket::{SockAddr, af};

/// The prefix of mapped addresses.
const MAPPED: u128 = 0xffff << 32;

/// An address of either version, in network order: bytes, so that it needs no alignment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ip([u8; 16]);

impl Ip {
    /// `0.0.0.0`.
    pub const ANY4: Ip = Ip::v4(0);
    /// `::`.
    pub const ANY6: Ip = Ip([0; 16]);
    /// `127.0.0.1`.
    pub const LOOPBACK4: Ip = Ip::v4(0x7f00_0001);
    /// `::1`.
    pub const LOOPBACK6: Ip = Ip::of(1);

    const fn of(bits: u128) -> Ip {
        Ip(bits.to_be_bytes())
    }

    const fn bits(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// An IPv4 address, its first byte the highest.
    pub const fn v4(bits: u32) -> Ip {
        Ip::of(MAPPED | bits as u128)
    }

    /// From 16 bytes in network order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Ip {
        Ip(bytes)
    }

    /// 16 bytes in network order.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Whether it is an IPv4 address.
    pub const fn is_v4(self) -> bool {
        self.bits() >> 32 == 0xffff
    }

    /// The bits of an IPv4 address.
    pub const fn bits4(self) -> u32 {
        self.bits() as u32
    }

    /// Whether it is a wildcard address.
    pub const fn is_any(self) -> bool {
        matches!(self.bits(), 0 | MAPPED)
    }

    /// Whether it is in 127.0.0.0/8, or `::1`.
    pub const fn is_loopback(self) -> bool {
        if self.is_v4() { self.bits4() >> 24 == 127 } else { self.bits() == 1 }
    }

    /// Whether it is a multicast address.
    pub const fn is_multicast(self) -> bool {
        if self.is_v4() { self.bits4() >> 28 == 14 } else { self.0[0] == 0xff }
    }

    /// Whether it is a link-local address of version 6.
    pub const fn is_link_local(self) -> bool {
        self.bits() >> 118 == 0x3fa
    }

    /// Whether it is `255.255.255.255` or the loopback network's broadcast address.
    pub const fn is_broadcast(self) -> bool {
        self.is_v4() && matches!(self.bits4(), u32::MAX | 0x7fff_ffff)
    }

    /// Bits of an address of this version.
    pub const fn width(self) -> u8 {
        if self.is_v4() { 32 } else { 128 }
    }

    /// The network of this many bits that it lies in.
    pub const fn masked(self, bits: u8) -> Ip {
        let off = (self.width() - if bits > self.width() { self.width() } else { bits }) as u32;
        if off == 128 { Ip::of(0) } else { Ip::of(self.bits() >> off << off) }
    }

    /// Where packets go that are for this wildcard address, from a socket with the address `own`: to that itself
    /// (`ip_route_output_key_hash_rcu`), and in version 6 to the loopback address of the version that `own` has.
    pub const fn or_own(self, own: Ip) -> Ip {
        match (self.is_any(), own.is_v4() && !own.is_any()) {
            (false, _) => self,
            (true, true) if self.is_v4() => own,
            (true, true) => Ip::LOOPBACK4,
            (true, false) => self.loopback_like(),
        }
    }

    /// The loopback address of the same version.
    pub const fn loopback_like(self) -> Ip {
        if self.is_v4() { Ip::LOOPBACK4 } else { Ip::LOOPBACK6 }
    }
}

/// An address with a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Addr {
    /// The address.
    pub ip: Ip,
    /// The port, host order.
    pub port: u16,
}

impl Addr {
    /// `0.0.0.0:0` or `[::]:0`.
    pub const fn any(family: u16) -> Addr {
        Addr { ip: if family == af::INET { Ip::ANY4 } else { Ip::ANY6 }, port: 0 }
    }

    /// As a `struct sockaddr_in` or `sockaddr_in6`, as sockets of `family` show addresses.
    pub fn to_sockaddr(self, family: u16) -> SockAddr {
        let mut b = [0u8; 28];
        b[..2].copy_from_slice(&family.to_ne_bytes());
        b[2..4].copy_from_slice(&self.port.to_be_bytes());
        if family == af::INET {
            b[4..8].copy_from_slice(&self.ip.bits4().to_be_bytes());
            return SockAddr::new(&b[..16]);
        }
        b[8..24].copy_from_slice(&self.ip.bytes());
        if self.ip.is_link_local() {
            b[24..28].copy_from_slice(&1u32.to_ne_bytes());
        }
        SockAddr::new(&b)
    }

    /// The fields of a `struct sockaddr_in`.
    pub fn parse4(addr: &SockAddr) -> Addr {
        let b = addr.bytes();
        Addr { ip: Ip::v4(u32::from_be_bytes([b[4], b[5], b[6], b[7]])), port: u16::from_be_bytes([b[2], b[3]]) }
    }

    /// The fields of a `struct sockaddr_in6`.
    pub fn parse6(addr: &SockAddr) -> Addr {
        let b = addr.bytes();
        let mut ip = [0u8; 16];
        ip.copy_from_slice(&b[8..24]);
        Addr { ip: Ip::from_bytes(ip), port: u16::from_be_bytes([b[2], b[3]]) }
    }
}

/// Bytes of `struct sockaddr_in`, and of `struct sockaddr_in6` without its scope.
pub const LEN4: usize = 16;
/// See [`LEN4`].
pub const LEN6: usize = 24;

/// The address that `bind(2)` on a socket of `family` was given (`__inet_bind`, `inet6_bind`).
///
/// # Errors
/// `EINVAL` for a length, `EAFNOSUPPORT`.
pub fn for_bind(family: u16, v6only: bool, addr: &SockAddr) -> Result<Addr> {
    if family == af::INET {
        if addr.len() < LEN4 {
            return Err(Errno::EINVAL);
        }
        let it = Addr::parse4(addr);
        // The family may be missing for the wildcard address only.
        return match addr.family() {
            af::INET => Ok(it),
            af::UNSPEC if it.ip.is_any() => Ok(it),
            _ => Err(Errno::EAFNOSUPPORT),
        };
    }
    if addr.len() < LEN6 {
        return Err(Errno::EINVAL);
    }
    if addr.family() != af::INET6 {
        return Err(Errno::EAFNOSUPPORT);
    }
    let it = Addr::parse6(addr);
    if it.ip.is_v4() && v6only {
        return Err(Errno::EINVAL);
    }
    Ok(it)
}

/// Whether an address of version 6 that means something on one interface only comes with one: in the address, or
/// `device`, the socket's (`__ipv6_addr_needs_scope_id`).
///
/// # Errors
/// `EINVAL`.
pub fn check_scope(addr: &SockAddr, device: u32) -> Result {
    if addr.family() != af::INET6 || addr.len() < LEN6 {
        return Ok(());
    }
    let b = addr.bytes();
    let near = b[8] == 0xff && matches!(b[9] & 15, 1 | 2) || Addr::parse6(addr).ip.is_link_local();
    let named = b.get(24..28).is_some_and(|scope| scope != [0; 4]);
    if near && !named && device == 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// The address that a stream socket of `family` is to connect to.
///
/// # Errors
/// `EINVAL` for a length, `EAFNOSUPPORT`, `ENETUNREACH` for IPv4 on a socket for IPv6 only.
pub fn for_stream(family: u16, v6only: bool, addr: &SockAddr) -> Result<Addr> {
    let (len, wanted) = if family == af::INET { (LEN4, af::INET) } else { (LEN6, af::INET6) };
    if addr.len() < len {
        return Err(Errno::EINVAL);
    }
    if addr.family() != wanted {
        return Err(Errno::EAFNOSUPPORT);
    }
    if family == af::INET {
        return Ok(Addr::parse4(addr));
    }
    let it = Addr::parse6(addr);
    if it.ip.is_v4() && v6only {
        return Err(Errno::ENETUNREACH);
    }
    Ok(it)
}

/// Whether two bound addresses take the same packets (`inet_rcv_saddr_equal` with wildcards matching).
pub fn overlap((a, a_only): (Ip, bool), (b, b_only): (Ip, bool)) -> bool {
    match (a.is_v4(), b.is_v4()) {
        (true, true) => a == b || a.is_any() || b.is_any(),
        (false, false) => a == b || a.is_any() || b.is_any(),
        (false, true) => a.is_any() && !a_only,
        (true, false) => b.is_any() && !b_only,
    }
}
