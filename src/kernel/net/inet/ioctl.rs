//! The ioctls of sockets that are about interfaces (`netdevice(7)`): there is one, the loopback interface.

use super::addr::Ip;
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::mm::UserPtr;
use crate::net::{NetNamespace, hostnet};
use crate::vfs::OpCtx;

/// Bytes of a `struct ifreq`, and of the name in it.
const IFREQ: usize = 40;
const NAME: usize = 16;
/// `IFF_UP`, `IFF_LOOPBACK`, `IFF_RUNNING`.
const UP: u16 = 1;
const LOOPBACK: u16 = 8;
const RUNNING: u16 = 0x40;
/// The interface's index, and its MTU.
pub const INDEX: u32 = 1;
/// See [`INDEX`].
pub const MTU: u32 = 65_536;

/// `SIOC*` (`linux/sockios.h`).
mod sioc {
    pub const GIFNAME: u32 = 0x8910;
    pub const GIFCONF: u32 = 0x8912;
    pub const GIFFLAGS: u32 = 0x8913;
    pub const SIFFLAGS: u32 = 0x8914;
    pub const GIFADDR: u32 = 0x8915;
    pub const GIFDSTADDR: u32 = 0x8917;
    pub const GIFBRDADDR: u32 = 0x8919;
    pub const GIFNETMASK: u32 = 0x891b;
    pub const GIFMETRIC: u32 = 0x891d;
    pub const GIFMTU: u32 = 0x8921;
    pub const GIFHWADDR: u32 = 0x8927;
    pub const GIFINDEX: u32 = 0x8933;
    pub const GIFTXQLEN: u32 = 0x8942;
    pub const GIFMAP: u32 = 0x8970;
}

/// The flags of the loopback interface.
pub fn flags(ns: &NetNamespace) -> u16 {
    LOOPBACK | if ns.loopback_is_up() { UP | RUNNING } else { 0 }
}

fn address(ip: Ip) -> [u8; 16] {
    let mut b = [0u8; 16];
    b[..2].copy_from_slice(&2u16.to_ne_bytes());
    b[4..8].copy_from_slice(&ip.bits4().to_be_bytes());
    b
}

/// `SIOCGIFCONF`.
fn configured(ns: &NetNamespace, arg: u64) -> Result {
    let conf = UserPtr::<[u64; 2]>::new(arg).read()?;
    let room = conf[0] as u32 as usize;
    let there = if ns.loopback_is_up() { IFREQ } else { 0 };
    let len = if conf[1] == 0 { there } else { there.min(room / IFREQ * IFREQ) };
    if len > 0 && conf[1] != 0 {
        let mut b = [0u8; IFREQ];
        b[..2].copy_from_slice(b"lo");
        b[NAME..NAME + 16].copy_from_slice(&address(Ip::LOOPBACK4));
        UserPtr::<u8>::new(conf[1]).slice(IFREQ).write_from(&b)?;
    }
    UserPtr::<u32>::new(arg).write(len as u32)
}

/// An ioctl about interfaces.
///
/// # Errors
/// `ENODEV`, `EADDRNOTAVAIL`, `EPERM`, `EFAULT`; `ENOTTY` for one that is not about interfaces.
pub fn interface(ctx: &OpCtx<'_>, ns: &NetNamespace, request: u32, arg: u64) -> SysResult<u64> {
    if ns.is_host() {
        return Ok(hostnet::ioctl::interface(request, arg)?);
    }
    if request == sioc::GIFCONF {
        configured(ns, arg)?;
        return Ok(0);
    }
    if !matches!(
        request,
        sioc::GIFNAME | sioc::GIFFLAGS
            ..=sioc::GIFMETRIC | sioc::GIFMTU | sioc::GIFHWADDR | sioc::GIFINDEX | sioc::GIFTXQLEN | sioc::GIFMAP
    ) {
        return Err(Errno::ENOTTY.into());
    }
    let at = UserPtr::<[u8; IFREQ]>::new(arg);
    let mut b = at.read()?;
    if request == sioc::GIFNAME {
        if u32::from_ne_bytes([b[16], b[17], b[18], b[19]]) != INDEX {
            return Err(Errno::ENODEV.into());
        }
        b[..NAME].fill(0);
        b[..2].copy_from_slice(b"lo");
        at.write(b)?;
        return Ok(0);
    }
    let name = b[..NAME].split(|&c| c == 0).next().unwrap_or(&[]);
    if name != b"lo" && !name.starts_with(b"lo:") {
        return Err(Errno::ENODEV.into());
    }
    answer(ctx, ns, request, &mut b)?;
    at.write(b)?;
    Ok(0)
}

fn answer(ctx: &OpCtx<'_>, ns: &NetNamespace, request: u32, b: &mut [u8; IFREQ]) -> Result {
    let up = ns.loopback_is_up();
    let mut put = |bytes: &[u8]| {
        b[NAME..].fill(0);
        b[NAME..NAME + bytes.len()].copy_from_slice(bytes);
    };
    match request {
        sioc::GIFFLAGS => put(&flags(ns).to_ne_bytes()),
        sioc::SIFFLAGS => {
            if !ns.may(ctx.cred, cap::NET_ADMIN) {
                return Err(Errno::EPERM);
            }
            ns.set_loopback(b[NAME] & 1 != 0);
        }
        sioc::GIFADDR | sioc::GIFDSTADDR | sioc::GIFNETMASK | sioc::GIFBRDADDR if !up => {
            return Err(Errno::EADDRNOTAVAIL);
        }
        sioc::GIFADDR | sioc::GIFDSTADDR => put(&address(Ip::LOOPBACK4)),
        sioc::GIFNETMASK => put(&address(Ip::v4(0xff00_0000))),
        sioc::GIFBRDADDR => put(&address(Ip::ANY4)),
        sioc::GIFMETRIC => put(&0u32.to_ne_bytes()),
        sioc::GIFMTU => put(&MTU.to_ne_bytes()),
        sioc::GIFINDEX => put(&INDEX.to_ne_bytes()),
        sioc::GIFTXQLEN => put(&1000u32.to_ne_bytes()),
        // ARPHRD_LOOPBACK.
        sioc::GIFHWADDR => put(&772u16.to_ne_bytes()),
        sioc::GIFMAP => put(&[0; 16]),
        _ if !ns.may(ctx.cred, cap::NET_ADMIN) => return Err(Errno::EPERM),
        _ => return Err(Errno::EOPNOTSUPP),
    }
    Ok(())
}
