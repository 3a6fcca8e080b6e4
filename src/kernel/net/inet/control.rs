//! Control messages that go with packets that are sent.

use super::addr::Ip;
use super::options::{ip4, ip6};
use super::proto;
use crate::abi::{Errno, Result};
use crate::cred::{Cred, cap};
use crate::net::socket::stamps::RECORDS;
use crate::net::socket::{Cmsg, Core, SOL_SOCKET, SendMsg, flag, so};

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
        4.. => int(data),
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

/// `ip_cmsg_send` and `ip6_datagram_send_ctl`.
///
/// # Errors
/// `EINVAL`, `ENODEV`; `EPERM` for a mark without privilege.
pub fn overrides(core: &Core, cred: &Cred, msg: &SendMsg) -> Result<Overrides> {
    let mut out = Overrides::default();
    for c in &msg.control {
        match (c.level, c.kind) {
            (proto::IP, ip4::PKTINFO) => {
                let b = c.data.get(..12).ok_or(Errno::EINVAL)?;
                interface(int(b)? as u32)?;
                let ip = Ip::v4(u32::from_be_bytes([b[4], b[5], b[6], b[7]]));
                out.source = Some(ip).filter(|ip| !ip.is_any());
            }
            (proto::IP, ip4::TTL) => {
                let ttl = int(&c.data)?;
                out.ttl = Some(u8::try_from(ttl).ok().filter(|&t| t > 0).ok_or(Errno::EINVAL)?);
            }
            (proto::IP, ip4::TOS) => {
                out.tos = Some(u8::try_from(byte_or_int(&c.data)?).map_err(|_| Errno::EINVAL)?);
            }
            (proto::IPV6, ip6::PKTINFO) => {
                let b = c.data.get(..20).ok_or(Errno::EINVAL)?;
                interface(int(&b[16..])? as u32)?;
                let mut ip = [0; 16];
                ip.copy_from_slice(&b[..16]);
                out.source = Some(Ip::from_bytes(ip)).filter(|ip| !ip.is_any());
            }
            (proto::IPV6, ip6::HOPLIMIT) => {
                let n = int(&c.data)?;
                if !(-1..=255).contains(&n) {
                    return Err(Errno::EINVAL);
                }
                out.ttl = u8::try_from(n).ok();
            }
            (proto::IPV6, ip6::TCLASS) => {
                let n = int(&c.data)?;
                if !(-1..=255).contains(&n) {
                    return Err(Errno::EINVAL);
                }
                out.tos = u8::try_from(n).ok();
            }
            (proto::UDP, 103) => {
                let b = c.data.get(..2).ok_or(Errno::EINVAL)?;
                out.segment = Some(usize::from(u16::from_ne_bytes([b[0], b[1]])));
            }
            (proto::UDP, _) => return Err(Errno::EINVAL),
            // Nothing is put into fragments on the loopback interface.
            (proto::IPV6, ip6::DONTFRAG) if matches!(int(&c.data), Ok(0 | 1)) => {}
            (SOL_SOCKET, _) => of_socket(core, cred, c, &mut out)?,
            (proto::IP | proto::IPV6, _) => return Err(Errno::EINVAL),
            _ => {}
        }
    }
    Ok(out)
}
