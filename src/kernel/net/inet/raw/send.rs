//! Sending packets (`raw_sendmsg`, `rawv6_sendmsg`, `ping_v4_sendmsg`, `ping_v6_sendmsg`).

use super::{Raw, State};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::cred::Cred;
use crate::mm::IoSrc;
use crate::net::inet::addr::{Addr, Ip, LEN4, LEN6};
use crate::net::inet::control::{Overrides, overrides};
use crate::net::inet::options::on;
use crate::net::inet::sticky::check_label;
use crate::net::inet::wire::{Datagram, HEAD4, HEAD6, checksum, checksum_between};
use crate::net::inet::{icmp, input, proto};
use crate::net::socket::{MsgFlags, SendMsg, SockAddr, af};
use crate::sync::Events;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// Most bytes of an IP packet.
const MOST: usize = 0xffff;
/// Bytes of a `struct sockaddr_in6`.
const WHOLE6: usize = 28;

/// All of what is sent.
fn take_all(src: &mut IoSrc<'_>, len: usize) -> Result<Vec<u8>> {
    arena::charge_bytes(Object::Packet, len as u64)?;
    let data = src.take_vec(len)?;
    if data.len() < len { Err(Errno::EFAULT) } else { Ok(data) }
}

impl Raw {
    /// Where a send goes; in Linux's order of errors.
    fn destination(&self, state: &State, to: Option<&SockAddr>) -> Result<Ip> {
        let Some(to) = to else {
            let ip = state.remote.ok_or(Errno::EDESTADDRREQ)?.ip;
            return if self.is_six() && ip.is_v4() { Err(Errno::ENETUNREACH) } else { Ok(ip) };
        };
        let ip = if self.is_six() {
            if to.len() < if self.is_ping() { WHOLE6 } else { LEN6 } {
                return Err(Errno::EINVAL);
            }
            if to.family() != af::INET6 && (self.is_ping() || to.family() != af::UNSPEC) {
                return Err(Errno::EAFNOSUPPORT);
            }
            let it = Addr::parse6(to);
            // A port names the protocol.
            let other = it.port != 0 && u32::from(it.port) != self.core.protocol;
            if !self.is_ping() && (other && self.core.protocol != proto::RAW || it.port > 255) {
                return Err(Errno::EINVAL);
            }
            if it.ip.is_v4() {
                return Err(if self.is_ping() { Errno::EINVAL } else { Errno::ENETUNREACH });
            }
            it.ip
        } else {
            if to.len() < LEN4 {
                return Err(Errno::EINVAL);
            }
            if to.family() != af::INET && (self.is_ping() || to.family() != af::UNSPEC) {
                return Err(Errno::EAFNOSUPPORT);
            }
            Addr::parse4(to).ip
        };
        Ok(ip.or_own(state.local.ip))
    }

    /// The protocol that a packet to `to` has.
    fn protocol_for(&self, to: Option<&SockAddr>) -> u8 {
        match to {
            Some(to) if self.is_six() && to.len() >= 4 && Addr::parse6(to).port != 0 => Addr::parse6(to).port as u8,
            _ => self.core.protocol as u8,
        }
    }

    /// Sends one packet.
    pub(super) fn send_packet(&self, cred: &Cred, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> Result<usize> {
        let len = src.left();
        self.autobind(&mut self.state.lock())?;
        if len > if self.is_six() && !self.is_ping() { i32::MAX as usize } else { MOST } {
            return Err(Errno::EMSGSIZE);
        }
        // A ping socket looks at the message first.
        if self.is_ping() && len < icmp::HEAD {
            return Err(Errno::EINVAL);
        }
        if msg.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let ping = if self.is_ping() { Some(self.take_ping(src, len)?) } else { None };
        let to = {
            let state = self.state.lock();
            match &state.pending {
                Some((_, to)) => *to,
                None => self.destination(&state, msg.to.as_ref())?,
            }
        };
        let flow = self.ip.flow(&self.core, msg.to.as_ref())?;
        let say = overrides(&self.core, flow, cred, &msg.control)?;
        check_label(&self.core, say.flow)?;
        let from = self.route(to, &say)?;
        let whole = self.ip.has(on::HDRINCL) && !self.is_ping();
        // A raw socket's packets without a header of the program's own are made without a look at the socket
        // (`__ip_append_data`).
        if whole || self.is_ping() {
            self.core.check_error()?;
            if self.state.lock().shut_write {
                return Err(Errno::EPIPE);
            }
        }
        let head = if self.is_six() { HEAD6 } else { HEAD4 };
        let most = if whole {
            // Such a packet is never put into fragments.
            self.core.ns.loopback_mtu() as usize
        } else if self.is_six() {
            MOST
        } else {
            MOST - head
        };
        if len > most {
            return Err(Errno::EMSGSIZE);
        }
        if whole && len < head {
            return Err(Errno::EINVAL);
        }
        if !whole {
            let to = Addr { ip: to, port: 0 };
            self.ip.check_size(&self.core, &self.mail, to, len + head, say.whole)?;
        }
        let data = match ping {
            Some(data) => data,
            None => take_all(src, len)?,
        };
        if whole {
            self.emit_whole(data, from)?;
            return Ok(len);
        }
        let data = if self.is_ping() { self.as_ping(data, (from, to)) } else { data };
        if let Some((data, to)) = self.gather(data, to, msg.flags.contains(MsgFlags::MORE), most)? {
            self.emit(data, (from, to), self.protocol_for(msg.to.as_ref()), &say)?;
        }
        Ok(len)
    }

    /// The source of what goes to `to`.
    fn route(&self, to: Ip, say: &Overrides) -> Result<Ip> {
        let state = self.state.lock();
        if say.source.is_some_and(|ip| !self.core.ns.is_local(ip)) {
            return Err(Errno::EINVAL);
        }
        let way = self.ip.source_for(&self.core, say.source.unwrap_or(state.local.ip), to)?;
        Ok(say.source.unwrap_or(if state.local.ip.is_any() { way } else { state.local.ip }))
    }

    /// The message of a ping socket: an echo request.
    fn take_ping(&self, src: &mut IoSrc<'_>, len: usize) -> Result<Vec<u8>> {
        let data = take_all(src, len)?;
        let good = data[0] == icmp::echo_request(self.is_six()) && data[1] == 0;
        if good { Ok(data) } else { Err(Errno::EINVAL) }
    }

    /// Adds data to what waits; all of it once there is no more.
    fn gather(&self, data: Vec<u8>, to: Ip, more: bool, most: usize) -> Result<Option<(Vec<u8>, Ip)>> {
        let mut state = self.state.lock();
        if !more && state.pending.is_none() {
            return Ok(Some((data, to)));
        }
        let (pending, _) = state.pending.get_or_insert_with(|| (Vec::new(), to));
        if pending.len() + data.len() > most {
            return Err(Errno::EMSGSIZE);
        }
        pending.try_reserve(data.len()).map_err(|_| Errno::ENOBUFS)?;
        pending.extend_from_slice(&data);
        Ok(if more { None } else { state.pending.take() })
    }

    /// An echo request under the socket's identifier.
    fn as_ping(&self, mut data: Vec<u8>, ends: (Ip, Ip)) -> Vec<u8> {
        data[4..6].copy_from_slice(&self.state.lock().local.port.to_be_bytes());
        icmp::seal(ends, &mut data);
        data
    }

    fn emit(&self, mut data: Vec<u8>, ends: (Ip, Ip), protocol: u8, say: &Overrides) -> Result {
        let ns = &self.core.ns;
        if let Ok(at) = usize::try_from(self.checksum.load(Relaxed)) {
            let field = data.get_mut(at..).and_then(|d| d.get_mut(..2)).ok_or(Errno::EINVAL)?;
            field.fill(0);
            let sum = match checksum_between(ends.0, ends.1, protocol, &data) {
                0 if u32::from(protocol) == proto::UDP => u16::MAX,
                n => n,
            };
            data[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let ttl = say.ttl.unwrap_or_else(|| self.ip.ttl_for(ns, ends.1));
        let tos = say.tos.unwrap_or_else(|| self.ip.tos_for(ends.1));
        let heads = self.ip.heads(say, ends, protocol);
        let at = |ip| Addr { ip, port: 0 };
        let label = self.ip.label(say, at(ends.0), at(ends.1));
        let packet = Datagram::with(ends, protocol, (ttl, tos), (heads, label), &data)?;
        let noted = self.core.notes_sending(say.stamps);
        if noted != 0 {
            self.core.note_sent(noted, self.core.sent_key(), || packet.as_frame());
            self.queue.wake(Events::ERR);
        }
        input::arrive(ns, &packet);
        self.queue.wake(Events::OUT | Events::WRNORM | Events::WRBAND);
        Ok(())
    }

    /// Sends a packet with its header (`raw_send_hdrinc`): what is left out of it is filled in.
    fn emit_whole(&self, mut data: Vec<u8>, from: Ip) -> Result {
        if !self.is_six() {
            let head = usize::from(data[0] & 15) * 4;
            if head > data.len() {
                return Err(Errno::EINVAL);
            }
            if head >= HEAD4 {
                if data[12..16] == [0; 4] {
                    data[12..16].copy_from_slice(&from.bits4().to_be_bytes());
                }
                let len = data.len().min(MOST) as u16;
                data[2..4].copy_from_slice(&len.to_be_bytes());
                if data[4..6] == [0; 2] {
                    let id = crate::host::random::next_u64() as u16;
                    data[4..6].copy_from_slice(&id.to_be_bytes());
                }
                data[10..12].fill(0);
                let sum = checksum(&data[..head]);
                data[10..12].copy_from_slice(&sum.to_be_bytes());
            }
        }
        if let Some(d) = Datagram::parse(data).filter(|d| d.to.is_v4() != self.is_six()) {
            input::arrive(&self.core.ns, &d);
        }
        Ok(())
    }
}
