//! Sending datagrams (`udp_sendmsg`).

use super::{Dgram, Packet, State};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::mm::IoSrc;
use crate::net::inet::addr::{Addr, Ip, LEN4, LEN6};
use crate::net::inet::options::{ip4, ip6};
use crate::net::inet::proto;
use crate::net::socket::{MsgFlags, SendMsg, SockAddr, af};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// Most bytes of one packet's data, by version.
const MOST4: usize = 65_507;
const MOST6: usize = 65_527;

/// What control messages say of one send.
#[derive(Default)]
struct Overrides {
    source: Option<Ip>,
    ttl: Option<u8>,
    tos: Option<u8>,
    segment: Option<usize>,
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

/// `ip_cmsg_send` and `ip6_datagram_send_ctl`.
fn overrides(msg: &SendMsg) -> Result<Overrides> {
    let mut out = Overrides::default();
    for c in &msg.control {
        match (c.level, c.kind) {
            (proto::IP, ip4::PKTINFO) => {
                let b = c.data.get(..12).ok_or(Errno::EINVAL)?;
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
            (1 | proto::IP | proto::IPV6, _) => return Err(Errno::EINVAL),
            _ => {}
        }
    }
    Ok(out)
}

impl Dgram {
    /// The destination that a send names, or the peer; in Linux's order of errors.
    fn destination(&self, state: &State, to: Option<&SockAddr>) -> Result<Addr> {
        let Some(to) = to.filter(|a| self.core.family == af::INET || a.family() != af::UNSPEC) else {
            return state.remote.ok_or(Errno::EDESTADDRREQ);
        };
        let six = self.core.family == af::INET6;
        let addr = match (six, to.family()) {
            (true, af::INET6) if to.len() < LEN6 => return Err(Errno::EINVAL),
            (true, af::INET6) => Addr::parse6(to),
            (true, af::INET) if self.ip.v6only() => return Err(Errno::ENETUNREACH),
            (true, f) if f != af::INET => return Err(Errno::EINVAL),
            _ if to.len() < LEN4 => return Err(Errno::EINVAL),
            (_, af::INET | af::UNSPEC) => Addr::parse4(to),
            _ => return Err(Errno::EAFNOSUPPORT),
        };
        if addr.port == 0 {
            return Err(Errno::EINVAL);
        }
        if addr.ip.is_v4() && six && self.ip.v6only() {
            return Err(Errno::ENETUNREACH);
        }
        Ok(if addr.ip.is_any() { Addr { ip: addr.ip.loopback_like(), ..addr } } else { addr })
    }

    /// Sends one packet, or keeps its data for more.
    pub(super) fn send_packet(&self, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> Result<usize> {
        let len = src.left();
        if len > 0xffff {
            return Err(Errno::EMSGSIZE);
        }
        if msg.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let say = overrides(msg)?;
        let (from, to, more) = self.route(msg, &say)?;
        self.core.check_error()?;
        let most = if to.ip.is_v4() { MOST4 } else { MOST6 };
        if len > most {
            return Err(Errno::EMSGSIZE);
        }
        arena::charge_bytes(Object::Packet, len as u64)?;
        let data = src.take_vec(len)?;
        if data.len() < len {
            return Err(Errno::EFAULT);
        }
        if more || self.state.lock().pending.is_some() {
            return self.keep(data, to, more, most);
        }
        let segment = say.segment.unwrap_or(self.segment.load(Relaxed) as usize);
        if segment > 0 && segment < len {
            if len.div_ceil(segment) > 128 {
                return Err(Errno::EINVAL);
            }
            for part in data.chunks(segment) {
                self.emit(part.to_vec(), from, to, &say)?;
            }
            return Ok(len);
        }
        self.emit(data, from, to, &say)?;
        Ok(len)
    }

    /// Source and destination, and whether the packet goes on.
    fn route(&self, msg: &SendMsg, say: &Overrides) -> Result<(Addr, Addr, bool)> {
        let mut state = self.state.lock();
        let to = match &state.pending {
            Some((_, to)) => *to,
            None => self.destination(&state, msg.to.as_ref())?,
        };
        if let Some(ip) = say.source
            && !self.core.ns.is_local(ip)
        {
            return Err(Errno::EINVAL);
        }
        self.autobind(&mut state)?;
        let way = self.source_for(to)?;
        if state.shut_write {
            return Err(Errno::EPIPE);
        }
        let ip = say.source.unwrap_or(if state.local.ip.is_any() { way.ip } else { state.local.ip });
        if ip.is_v4() != to.ip.is_v4() {
            return Err(Errno::ENETUNREACH);
        }
        let more = msg.flags.contains(MsgFlags::MORE) || self.cork.load(Relaxed) != 0;
        Ok((Addr { ip, port: state.local.port }, to, more))
    }

    /// Adds to the packet that waits for its rest; sends it once there is no more.
    fn keep(&self, data: Vec<u8>, to: Addr, more: bool, most: usize) -> Result<usize> {
        let len = data.len();
        {
            let mut state = self.state.lock();
            let (pending, _) = state.pending.get_or_insert_with(|| (Vec::new(), to));
            if pending.len() + len > most {
                return Err(Errno::EMSGSIZE);
            }
            pending.try_reserve(len).map_err(|_| Errno::ENOBUFS)?;
            pending.extend_from_slice(&data);
        }
        if !more {
            self.push_pending()?;
        }
        Ok(len)
    }

    /// Sends what waits for more.
    pub(super) fn push_pending(&self) -> Result {
        let (data, to, from) = {
            let mut state = self.state.lock();
            let Some((data, to)) = state.pending.take() else { return Ok(()) };
            let ip = if state.local.ip.is_any() { self.source_for(to)?.ip } else { state.local.ip };
            (data, to, Addr { ip, port: state.local.port })
        };
        self.emit(data, from, to, &Overrides::default())
    }

    fn emit(&self, data: Vec<u8>, from: Addr, to: Addr, say: &Overrides) -> Result {
        self.core.ns.inet.datagrams[1].fetch_add(1, Relaxed);
        let ttl = say.ttl.unwrap_or_else(|| self.ip.ttl_for(&self.core.ns, to.ip));
        let tos = say.tos.unwrap_or_else(|| self.ip.tos_for(to.ip));
        let packet = |data| Packet { data, from, to, ttl, tos, time: 0 };
        if to.ip.is_multicast() || to.ip.is_broadcast() {
            for receiver in self.receivers(from, to)? {
                let mut copy = Vec::new();
                copy.try_reserve_exact(data.len()).map_err(|_| Errno::ENOBUFS)?;
                copy.extend_from_slice(&data);
                receiver.take_in(packet(copy));
            }
            return Ok(());
        }
        match self.receiver(from, to)? {
            Some(receiver) => receiver.take_in(packet(data)),
            None => self.unreachable(data, to),
        }
        Ok(())
    }
}
