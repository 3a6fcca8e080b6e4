//! The ioctls of sockets that are about interfaces, routes and neighbours (`netdevice(7)`, `arp(7)`).

use super::addr::Ip;
use super::{ethtool, route_ioctl};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::mm::UserPtr;
use crate::net::links::{self, Address, Link, Links, iff, scope};
use crate::net::socket::af;
use crate::net::{NetNamespace, hostnet, netlink};
use crate::vfs::OpCtx;
use alloc::vec::Vec;

/// Bytes of a `struct ifreq`, and of the name in it.
const IFREQ: usize = 40;
const NAME: usize = links::NAME;
/// Most interfaces that one call tells of.
const MOST: usize = 4096;

/// `SIOC*` (`linux/sockios.h`).
mod sioc {
    pub const GIFNAME: u32 = 0x8910;
    pub const GIFCONF: u32 = 0x8912;
    pub const GIFFLAGS: u32 = 0x8913;
    pub const SIFFLAGS: u32 = 0x8914;
    pub const GIFADDR: u32 = 0x8915;
    pub const SIFADDR: u32 = 0x8916;
    pub const GIFDSTADDR: u32 = 0x8917;
    pub const GIFBRDADDR: u32 = 0x8919;
    pub const GIFNETMASK: u32 = 0x891b;
    pub const SIFNETMASK: u32 = 0x891c;
    pub const GIFMETRIC: u32 = 0x891d;
    pub const GIFMTU: u32 = 0x8921;
    pub const SIFMTU: u32 = 0x8922;
    pub const SIFNAME: u32 = 0x8923;
    pub const SIFHWADDR: u32 = 0x8924;
    pub const GIFHWADDR: u32 = 0x8927;
    pub const GIFINDEX: u32 = 0x8933;
    pub const GIFTXQLEN: u32 = 0x8942;
    pub const SIFTXQLEN: u32 = 0x8943;
    pub const GIFMAP: u32 = 0x8970;
    pub const SIFDSTADDR: u32 = 0x8918;
    pub const SIFBRDADDR: u32 = 0x891a;
    pub const GIFSLAVE: u32 = 0x8929;
    pub const ADDMULTI: u32 = 0x8931;
    pub const DELMULTI: u32 = 0x8932;
    pub const DIFADDR: u32 = 0x8936;
    pub const ETHTOOL: u32 = 0x8946;
    /// Those that no interface here has: of hardware clocks, of drivers.
    pub const ABSENT: [u32; 3] = [0x89b0, 0x89b1, DEVPRIVATE];
    pub const SIFHWBROADCAST: u32 = 0x8937;
    /// Those for the privileged about what no interface here has: where its memory is, what it is bonded with, media.
    pub const REFUSED: [u32; 8] = [0x8971, 0x8990, 0x8991, 0x8992, 0x8993, 0x8947, 0x8948, 0x8949];
    /// The first of drivers' own.
    pub const DEVPRIVATE: u32 = 0x89f0;
    /// Those about addresses of version 4.
    pub const ADDRESSES: [u32; 8] =
        [GIFADDR, SIFADDR, GIFDSTADDR, SIFDSTADDR, GIFBRDADDR, SIFBRDADDR, GIFNETMASK, SIFNETMASK];
    /// All that are about an interface by its name.
    pub const ALL: [u32; 25] = [
        GIFFLAGS,
        SIFFLAGS,
        GIFADDR,
        SIFADDR,
        GIFDSTADDR,
        SIFDSTADDR,
        GIFBRDADDR,
        SIFBRDADDR,
        GIFNETMASK,
        SIFNETMASK,
        GIFMETRIC,
        0x891e,
        GIFMTU,
        SIFMTU,
        SIFNAME,
        SIFHWADDR,
        GIFHWADDR,
        GIFINDEX,
        GIFTXQLEN,
        SIFTXQLEN,
        GIFSLAVE,
        ADDMULTI,
        DELMULTI,
        ETHTOOL,
        SIFHWBROADCAST,
    ];
}

/// The flags of an interface as they fit into 16 bits.
fn flags(link: &Link) -> u16 {
    link.flags() as u16
}

fn address(ip: Ip) -> [u8; 16] {
    let mut b = [0u8; 16];
    b[..2].copy_from_slice(&2u16.to_ne_bytes());
    b[4..8].copy_from_slice(&ip.bits4().to_be_bytes());
    b
}

fn mask(prefix: u8) -> Ip {
    Ip::v4(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

/// `SIOCGIFCONF`: the addresses of version 4, each with its label.
fn configured(ns: &NetNamespace, arg: u64) -> Result {
    let conf = UserPtr::<[u64; 2]>::new(arg).read()?;
    let room = conf[0] as u32 as usize / IFREQ;
    let all: Vec<[u8; IFREQ]> =
        ns.links().addresses().filter(|(_, a)| a.ip.is_v4()).take(MOST).map(|(_, a)| entry(a)).collect();
    if conf[1] == 0 {
        return UserPtr::<u32>::new(arg).write((all.len() * IFREQ) as u32);
    }
    let count = all.len().min(room);
    for (n, b) in all[..count].iter().enumerate() {
        UserPtr::<u8>::new(conf[1].wrapping_add((n * IFREQ) as u64)).slice(IFREQ).write_from(b)?;
    }
    UserPtr::<u32>::new(arg).write((count * IFREQ) as u32)
}

fn entry(a: &Address) -> [u8; IFREQ] {
    let mut b = [0u8; IFREQ];
    let n = a.label.len().min(NAME - 1);
    b[..n].copy_from_slice(&a.label[..n]);
    b[NAME..NAME + 16].copy_from_slice(&address(a.ip));
    b
}

/// `SIOCSIFADDR` and `SIOCDIFADDR` of sockets of version 6 (`struct in6_ifreq`).
fn address6(ctx: &OpCtx<'_>, ns: &NetNamespace, add: bool, arg: u64) -> Result {
    if !ns.may(ctx.cred, cap::NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    let b = UserPtr::<[u8; 24]>::new(arg).read()?;
    let mut ip = [0; 16];
    ip.copy_from_slice(&b[..16]);
    let (ip, word) = (Ip::from_bytes(ip), |at: usize| u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]));
    let prefix = u8::try_from(word(16)).ok().filter(|&p| p <= 128).ok_or(Errno::EINVAL)?;
    let index = word(20);
    ns.links().link(index)?;
    if add && (ip.is_any() || ip.is_multicast()) {
        return Err(Errno::EADDRNOTAVAIL);
    }
    let scope = match ip {
        ip if ip.is_loopback() => scope::HOST,
        ip if ip.is_link_local() => scope::LINK,
        _ => scope::UNIVERSE,
    };
    let address = Address { scope, ..Address::own(ip, prefix) };
    let mut change = netlink::Change::new(ns, None);
    netlink::change_address(&mut change, index, address, add).map_err(|refusal| refusal.0)?;
    netlink::announce(ns, change.notices(), None);
    Ok(())
}

/// An ioctl about interfaces. `family`: that of the socket; only some know of addresses.
///
/// # Errors
/// `ENODEV`, `EADDRNOTAVAIL`, `EPERM`, `EFAULT`; `ENOTTY` for one that is not about interfaces.
pub fn interface(ctx: &OpCtx<'_>, ns: &NetNamespace, family: u16, request: u32, arg: u64) -> SysResult<u64> {
    if ns.is_host() {
        return Ok(hostnet::ioctl::interface(request, arg)?);
    }
    if request == sioc::GIFCONF {
        configured(ns, arg)?;
        return Ok(0);
    }
    if family == af::INET6 && matches!(request, sioc::SIFADDR | sioc::DIFADDR) {
        address6(ctx, ns, request == sioc::SIFADDR, arg)?;
        return Ok(0);
    }
    if let Some(outcome) = route_ioctl::answer(ctx, ns, family, request, arg) {
        return Ok(outcome.map(|()| 0)?);
    }
    if sioc::ADDRESSES.contains(&request) && !matches!(family, af::INET | af::PACKET) {
        return Err(Errno::ENOTTY.into());
    }
    let absent = sioc::ABSENT.contains(&request)
        || sioc::REFUSED.contains(&request)
        || (sioc::DEVPRIVATE..=0x89ff).contains(&request);
    if !absent && request != sioc::GIFNAME && request != sioc::GIFMAP && !sioc::ALL.contains(&request) {
        return Err(Errno::ENOTTY.into());
    }
    let at = UserPtr::<[u8; IFREQ]>::new(arg);
    let mut b = at.read()?;
    if request == sioc::GIFNAME {
        let index = u32::from_ne_bytes([b[16], b[17], b[18], b[19]]);
        let name = ns.links().link(index)?.name.clone();
        b[..NAME].fill(0);
        b[..name.len()].copy_from_slice(&name);
        at.write(b)?;
        return Ok(0);
    }
    let label = b[..NAME].split(|&c| c == 0).next().unwrap_or(&[]).to_vec();
    let name = label.split(|&c| c == b':').next().unwrap_or(&[]);
    let sets = matches!(request, sioc::SIFFLAGS | sioc::SIFADDR | sioc::SIFDSTADDR | sioc::SIFBRDADDR)
        || matches!(request, sioc::SIFNETMASK | 0x891e | sioc::ADDMULTI | sioc::DELMULTI)
        || matches!(request, sioc::SIFMTU | sioc::SIFNAME | sioc::SIFHWADDR | sioc::SIFTXQLEN | sioc::SIFHWBROADCAST)
        || sioc::REFUSED.contains(&request);
    if sets && !ns.may(ctx.cred, cap::NET_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let index = ns.links().index_of(name).ok_or(Errno::ENODEV)?;
    if absent {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if request == sioc::ETHTOOL {
        let link = ns.links().link(index)?.clone();
        let data = b[NAME..NAME + 8].try_into().map(u64::from_ne_bytes).unwrap_or(0);
        ethtool::answer(&link, data)?;
        return Ok(0);
    }
    if sets {
        set(ns, request, (index, &label), &b)?;
        return Ok(0);
    }
    let answer = answer(&ns.links(), request, (index, &label))?;
    b[NAME..].fill(0);
    b[NAME..NAME + 16].copy_from_slice(&answer);
    at.write(b)?;
    Ok(0)
}

/// The address of version 4 that a label names, else the first.
fn own<'a>(links: &'a Links, index: u32, label: &[u8]) -> Option<&'a Address> {
    let all = || links.addresses_of(index).filter(|a| a.ip.is_v4());
    all().find(|a| a.label == label).or_else(|| all().next().filter(|_| !label.contains(&b':')))
}

fn answer(links: &Links, request: u32, (index, label): (u32, &[u8])) -> Result<[u8; 16]> {
    let link = links.link(index)?;
    let mut out = [0u8; 16];
    let mut put = |bytes: &[u8]| out[..bytes.len()].copy_from_slice(bytes);
    let of = || own(links, index, label).ok_or(Errno::EADDRNOTAVAIL);
    match request {
        sioc::GIFFLAGS => put(&flags(link).to_ne_bytes()),
        sioc::GIFADDR => put(&address(of()?.ip)),
        sioc::GIFDSTADDR => put(&address(of()?.peer)),
        sioc::GIFNETMASK => put(&address(mask(of()?.prefix))),
        sioc::GIFBRDADDR => put(&address(of()?.broadcast.unwrap_or(Ip::ANY4))),
        sioc::GIFMETRIC => put(&0u32.to_ne_bytes()),
        sioc::GIFMTU => put(&link.mtu.to_ne_bytes()),
        sioc::GIFINDEX => put(&index.to_ne_bytes()),
        sioc::GIFTXQLEN => put(&link.queue.to_ne_bytes()),
        sioc::GIFHWADDR => {
            put(&link.hardware().to_ne_bytes());
            out[2..8].copy_from_slice(&link.mac);
        }
        sioc::GIFMAP => {}
        sioc::GIFSLAVE => return Err(Errno::EINVAL),
        _ => return Err(Errno::EOPNOTSUPP),
    }
    Ok(out)
}

/// The address in a request; only those of version 4 can be set so.
fn given(b: &[u8; IFREQ]) -> Result<Ip> {
    match u16::from_ne_bytes([b[NAME], b[NAME + 1]]) {
        2 => Ok(Ip::v4(u32::from_be_bytes([b[NAME + 4], b[NAME + 5], b[NAME + 6], b[NAME + 7]]))),
        _ => Err(Errno::EINVAL),
    }
}

/// The network's bits that an address had before there were masks (`inet_abc_len`).
fn class(ip: Ip) -> u8 {
    match ip.bits4() >> 28 {
        0..8 => 8,
        8..12 => 16,
        12..14 => 24,
        _ => 32,
    }
}

fn set(ns: &NetNamespace, request: u32, (index, label): (u32, &[u8]), b: &[u8; IFREQ]) -> Result {
    let mut change = netlink::Change::new(ns, None);
    let number = u32::from_ne_bytes([b[NAME], b[NAME + 1], b[NAME + 2], b[NAME + 3]]);
    let told = |r: core::result::Result<(), links::Refusal>| r.map_err(|refusal| refusal.0);
    match request {
        sioc::SIFFLAGS => {
            let bits = ns.links().link(index)?.bits & !0xffff | number & 0xffff;
            told(netlink::set_flags(&mut change, index, bits))?;
        }
        sioc::SIFADDR | sioc::SIFNETMASK | sioc::SIFDSTADDR | sioc::SIFBRDADDR => {
            let ip = given(b)?;
            let old = own(&ns.links(), index, label).cloned();
            let new = match (&old, request) {
                (None, r) if r != sioc::SIFADDR => return Err(Errno::EADDRNOTAVAIL),
                (Some(old), sioc::SIFDSTADDR) => Address { peer: ip, ..old.clone() },
                (Some(old), sioc::SIFBRDADDR) => Address { broadcast: Some(ip), ..old.clone() },
                (Some(old), sioc::SIFNETMASK) => {
                    let bits = ip.bits4();
                    if bits.leading_ones() + bits.trailing_zeros() < 32 {
                        return Err(Errno::EINVAL);
                    }
                    Address { prefix: bits.leading_ones() as u8, ..old.clone() }
                }
                _ => Address { label: label.to_vec(), ..Address::own(ip, class(ip)) },
            };
            if let Some(old) = old {
                told(netlink::change_address(&mut change, index, old, false))?;
            }
            if !new.ip.is_any() {
                told(netlink::change_address(&mut change, index, new, true))?;
            }
            if request == sioc::SIFADDR {
                let bits = ns.links().link(index)?.bits | iff::UP;
                told(netlink::set_flags(&mut change, index, bits))?;
            }
        }
        sioc::SIFMTU | sioc::SIFTXQLEN if number > i32::MAX as u32 => return Err(Errno::EINVAL),
        // The loopback interface keeps no list of groups; others lose what they would receive.
        sioc::ADDMULTI | sioc::DELMULTI
            if b[NAME..NAME + 2] != [0; 2] || ns.links().link(index).is_ok_and(|l| l.is_loopback()) =>
        {
            return Err(Errno::EINVAL);
        }
        sioc::ADDMULTI | sioc::DELMULTI => {}
        sioc::SIFHWBROADCAST => {
            if b[NAME..NAME + 2] != ns.links().link(index)?.hardware().to_ne_bytes() {
                return Err(Errno::EINVAL);
            }
            change_link(&mut change, ns, index, |l| l.broadcast.copy_from_slice(&b[NAME + 2..NAME + 8]))?;
        }
        sioc::SIFHWADDR => {
            let link = ns.links().link(index)?.clone();
            if b[NAME..NAME + 2] != link.hardware().to_ne_bytes() {
                return Err(Errno::EINVAL);
            }
            let mut mac = [0; 6];
            mac.copy_from_slice(&b[NAME + 2..NAME + 8]);
            if mac == link.mac {
                return Ok(());
            }
            if mac[0] & 1 != 0 || mac == [0; 6] {
                return Err(Errno::EADDRNOTAVAIL);
            }
            change_link(&mut change, ns, index, |l| l.mac = mac)?;
        }
        sioc::SIFMTU => change_link(&mut change, ns, index, |l| l.mtu = number)?,
        sioc::SIFTXQLEN => change_link(&mut change, ns, index, |l| l.queue = number)?,
        sioc::SIFNAME => {
            let name = b[NAME..NAME * 2].split(|&c| c == 0).next().unwrap_or(&[]);
            if !links::is_name(name) {
                return Err(Errno::EINVAL);
            }
            if ns.links().index_of(name).is_some_and(|other| other != index) {
                return Err(Errno::EEXIST);
            }
            change_link(&mut change, ns, index, |l| l.name = name.to_vec())?;
        }
        _ => return Err(Errno::EOPNOTSUPP),
    }
    netlink::announce(ns, change.notices(), None);
    Ok(())
}

fn change_link(
    change: &mut netlink::Change<'_>,
    ns: &NetNamespace,
    index: u32,
    what: impl FnOnce(&mut Link),
) -> Result {
    let link = ns.change_links(|links| {
        what(links.link_mut(index)?);
        links.link(index).cloned()
    })?;
    change.told_link(&link);
    Ok(())
}
