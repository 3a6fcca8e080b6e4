//! Control messages that go with packets that are sent.

use super::addr::Ip;
use super::headers::{self, Extensions};
use super::options::{ip4, ip6};
use super::options4::{self, Options4};
use super::proto;
use crate::abi::{Errno, Result};
use crate::cred::{Cred, cap};
use crate::net::bytes::{long, word};
use crate::net::socket::stamps::RECORDS;
use crate::net::socket::{Cmsg, Core, SOL_SOCKET, flag, so};
use alloc::vec::Vec;

/// `UDP_SEGMENT`.
const SEGMENT: u32 = 103;

/// What control messages say of one send.
#[derive(Default)]
pub struct Overrides {
    /// The source address.
    pub source: Option<Ip>,
    /// Time to live, or hop limit.
    pub ttl: Option<u8>,
    /// Type of service, or traffic class.
    pub tos: Option<u8>,
    /// `UDP_SEGMENT`.
    pub segment: Option<usize>,
    /// `SO_MARK`.
    pub mark: Option<u32>,
    /// `SO_PRIORITY`.
    pub priority: Option<u32>,
    /// `IPV6_DONTFRAG`.
    pub whole: Option<bool>,
    /// `IP_RETOPTS`.
    pub options4: Option<Options4>,
    /// Extension headers of version 6: these, and none that stick.
    pub extensions: Option<Extensions>,
    /// The flow that it is part of; 0: none in particular.
    pub flow: u32,
    /// `SO_TIMESTAMPING`: what is to be noted of the packet's way.
    pub stamps: Option<i32>,
}

fn int(data: &[u8]) -> Result<i32> {
    let b = data.get(..4).ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

fn byte_or_int(data: &[u8]) -> Result<i32> {
    match data.len() {
        1 => Ok(i32::from(data[0])),
        4 => int(data),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether a message names an interface that there is.
fn interface(index: u32) -> Result {
    if index > 1 { Err(Errno::ENODEV) } else { Ok(()) }
}

/// Control messages of level `SOL_SOCKET` (`__sock_cmsg_send`).
fn of_socket(core: &Core, cred: &Cred, c: &Cmsg, out: &mut Overrides) -> Result {
    let admin = || core.ns.may(cred, cap::NET_ADMIN) || core.ns.may(cred, cap::NET_RAW);
    match c.kind {
        so::MARK if !admin() => return Err(Errno::EPERM),
        so::MARK if c.data.len() == 4 => out.mark = Some(int(&c.data)? as u32),
        so::PRIORITY if c.data.len() == 4 => {
            let priority = int(&c.data)?;
            if !(0..=6).contains(&priority) && !admin() {
                return Err(Errno::EPERM);
            }
            out.priority = Some(priority as u32);
        }
        so::TIMESTAMPING | so::TIMESTAMPING_NEW if c.data.len() == 4 => match int(&c.data)? {
            n if n & !RECORDS != 0 => return Err(Errno::EINVAL),
            n => out.stamps = Some(n),
        },
        // No queue goes by the time.
        so::TXTIME if core.has(flag::TXTIME) && c.data.len() == 8 => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// The control messages that lie in these bytes.
///
/// # Errors
/// `EINVAL` for one that is longer than they.
pub fn messages(bytes: &[u8]) -> Result<Vec<Cmsg>> {
    const HEAD: usize = 16;
    let mut rest = bytes;
    let mut out = Vec::new();
    while rest.len() >= HEAD {
        let len = long(rest, 0) as usize;
        if len < HEAD || len > rest.len() {
            return Err(Errno::EINVAL);
        }
        out.push(Cmsg { level: word(rest, 8), kind: word(rest, 12), data: rest[HEAD..len].to_vec() });
        rest = &rest[len.next_multiple_of(8).min(rest.len())..];
    }
    Ok(out)
}

/// What control messages of a send say that is part of a flow, 0 for none in particular (`ip_cmsg_send`,
/// `ip6_datagram_send_ctl`).
///
/// # Errors
/// `EINVAL`, `ENODEV`; `EPERM` for a mark or a header without privilege.
pub fn overrides(core: &Core, flow: u32, cred: &Cred, messages: &[Cmsg]) -> Result<Overrides> {
    let mut out = Overrides { flow, ..Overrides::default() };
    for c in messages {
        match c.level {
            proto::IP => of_version4(core, cred, c, &mut out)?,
            proto::IPV6 => of_version6(core, cred, c, &mut out)?,
            proto::UDP if c.kind == SEGMENT => {
                let b = c.data.get(..2).ok_or(Errno::EINVAL)?;
                out.segment = Some(usize::from(u16::from_ne_bytes([b[0], b[1]])));
            }
            proto::UDP => return Err(Errno::EINVAL),
            SOL_SOCKET => of_socket(core, cred, c, &mut out)?,
            _ => {}
        }
    }
    Ok(out)
}

fn of_version4(core: &Core, cred: &Cred, c: &Cmsg, out: &mut Overrides) -> Result {
    match c.kind {
        ip4::PKTINFO => {
            let b = c.data.get(..12).filter(|b| b.len() == c.data.len()).ok_or(Errno::EINVAL)?;
            interface(int(b)? as u32)?;
            let ip = Ip::v4(u32::from_be_bytes([b[4], b[5], b[6], b[7]]));
            out.source = Some(ip).filter(|ip| !ip.is_any());
        }
        ip4::TTL => {
            let ttl = int(c.data.first_chunk::<4>().filter(|_| c.data.len() == 4).ok_or(Errno::EINVAL)?)?;
            out.ttl = Some(u8::try_from(ttl).ok().filter(|&t| t > 0).ok_or(Errno::EINVAL)?);
        }
        ip4::TOS => out.tos = Some(u8::try_from(byte_or_int(&c.data)?).map_err(|_| Errno::EINVAL)?),
        ip4::RETOPTS => {
            let bytes = c.data[..c.data.len().min(options4::MOST)].to_vec();
            out.options4 = Options4::new(bytes, core.ns.may(cred, cap::NET_RAW))?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

fn of_version6(core: &Core, cred: &Cred, c: &Cmsg, out: &mut Overrides) -> Result {
    let header = || headers::of_message(&core.ns, cred, &c.data);
    let whole = |most: i32| match int(&c.data)? {
        n if c.data.len() != 4 || !(-1..=most).contains(&n) => Err(Errno::EINVAL),
        n => Ok(n),
    };
    match c.kind {
        ip6::PKTINFO | ip6::OLD_PKTINFO => {
            let b = c.data.get(..20).ok_or(Errno::EINVAL)?;
            interface(int(&b[16..])? as u32)?;
            let mut ip = [0; 16];
            ip.copy_from_slice(&b[..16]);
            out.source = Some(Ip::from_bytes(ip)).filter(|ip| !ip.is_any());
        }
        ip6::HOPLIMIT | ip6::OLD_HOPLIMIT => out.ttl = u8::try_from(whole(255)?).ok(),
        ip6::TCLASS => out.tos = u8::try_from(whole(255)?).ok(),
        ip6::DONTFRAG if whole(1)? >= 0 => out.whole = Some(whole(1)? == 1),
        ip6::FLOWINFO => {
            let b = c.data.get(..4).ok_or(Errno::EINVAL)?;
            let flow = u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
            if out.flow != 0 && (out.flow ^ flow) & 0xf000_0000 != 0 {
                return Err(Errno::EINVAL);
            }
            out.flow = flow & 0xfff_ffff;
        }
        ip6::HOPOPTS | ip6::OLD_HOPOPTS | ip6::OLD_DSTOPTS | ip6::DSTOPTS | ip6::RTHDRDSTOPTS => {
            let all = out.extensions.get_or_insert_default();
            let (place, once) = match c.kind {
                ip6::HOPOPTS | ip6::OLD_HOPOPTS => (&mut all.hop, true),
                ip6::RTHDRDSTOPTS => (&mut all.on_route, false),
                kind => (&mut all.destination, kind == ip6::OLD_DSTOPTS),
            };
            if once && !place.is_empty() {
                return Err(Errno::EINVAL);
            }
            *place = header()?;
        }
        // No kind of route is supported.
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}
