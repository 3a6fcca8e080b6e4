//! Sending datagrams (`udp_sendmsg`).

use super::{Dgram, State, deliver};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::cred::Cred;
use crate::mm::IoSrc;
use crate::net::inet::addr::{Addr, Ip, LEN4, LEN6};
use crate::net::inet::control::{Overrides, overrides};
use crate::net::inet::mailbox::Packet;
use crate::net::inet::sticky::check_label;
use crate::net::inet::wire::Datagram;
use crate::net::inet::{icmp, input};
use crate::net::socket::{MsgFlags, SendMsg, SockAddr, af};
use crate::sync::Events;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// Most bytes of one packet's data, by version.
const MOST4: usize = 65_507;
const MOST6: usize = 65_527;
/// Bytes of the headers of a datagram, by version of IP.
const HEADS4: usize = 28;
const HEADS6: usize = 48;

impl Dgram {
    /// The destination that a send names, or the peer; in Linux's order of errors.
    fn destination(&self, state: &State, to: Option<&SockAddr>) -> Result<Addr> {
        let Some(to) = to.filter(|a| self.core.family == af::INET || a.family() != af::UNSPEC) else {
            let remote = state.remote.ok_or(Errno::EDESTADDRREQ)?;
            // Only what goes on to version 4 looks at the port once more.
            let none = remote.port == 0 && self.core.family == af::INET6 && remote.ip.is_v4();
            return if none { Err(Errno::EINVAL) } else { Ok(remote) };
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
        Ok(Addr { ip: addr.ip.or_own(state.local.ip), ..addr })
    }

    /// Sends one packet, or keeps its data for more.
    pub(super) fn send_packet(&self, cred: &Cred, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> Result<usize> {
        let len = src.left();
        let to = self.aim(msg, len)?;
        let flow = self.ip.flow(&self.core, msg.to.as_ref())?;
        let say = overrides(&self.core, flow, cred, &msg.control)?;
        check_label(&self.core, say.flow)?;
        let (from, more) = self.route(to, msg, &say)?;
        self.core.check_error()?;
        if self.state.lock().shut_write {
            return Err(Errno::EPIPE);
        }
        let most = if to.ip.is_v4() { MOST4 } else { MOST6 };
        if len > most {
            return Err(Errno::EMSGSIZE);
        }
        let heads = if to.ip.is_v4() { HEADS4 } else { HEADS6 };
        // What is sent as several packets is small enough.
        if say.segment.unwrap_or(self.segment.load(Relaxed) as usize) == 0 {
            self.ip.check_size(&self.core, &self.mail, to, len + heads, say.whole)?;
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
        let segment = if segment < len { segment } else { 0 };
        if segment > 0 && len.div_ceil(segment) > 128 {
            return Err(Errno::EINVAL);
        }
        self.emit(data, (from, to), segment as u16, &say)?;
        if self.core.count_zerocopy(msg) {
            self.queue.wake(Events::ERR);
        }
        Ok(len)
    }

    /// Where a send of so many bytes goes. A port is taken before anything is checked (`inet_send_prepare`), and only
    /// version 4 minds urgent data.
    fn aim(&self, msg: &SendMsg, len: usize) -> Result<Addr> {
        let mut state = self.state.lock();
        self.autobind(&mut state)?;
        let urgent = msg.flags.contains(MsgFlags::OOB);
        if self.core.family == af::INET && len > 0xffff {
            return Err(Errno::EMSGSIZE);
        }
        if self.core.family == af::INET && urgent {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = match &state.pending {
            Some((_, to)) => *to,
            None => self.destination(&state, msg.to.as_ref())?,
        };
        if to.ip.is_v4() && urgent { Err(Errno::EOPNOTSUPP) } else { Ok(to) }
    }

    /// The source, and whether the packet goes on.
    fn route(&self, to: Addr, msg: &SendMsg, say: &Overrides) -> Result<(Addr, bool)> {
        let state = self.state.lock();
        if let Some(ip) = say.source
            && !self.core.ns.is_local(ip)
        {
            return Err(if ip.is_v4() { Errno::ENETUNREACH } else { Errno::EINVAL });
        }
        let way = self.ip.source_for(&self.core, say.source.unwrap_or(state.local.ip), to.ip)?;
        let ip = match say.source {
            Some(ip) if ip.is_v4() != to.ip.is_v4() => return Err(Errno::ENETUNREACH),
            Some(ip) => ip,
            None if state.local.ip.is_any() => way,
            None => self.source_of(&state, to.ip, way)?,
        };
        let more = msg.flags.contains(MsgFlags::MORE) || self.cork.load(Relaxed) != 0;
        Ok((Addr { ip, port: state.local.port }, more))
    }

    /// The address that a packet from the socket's own one has. An address of version 6 stands for one of version 4, too,
    /// if it was bound (`LOOPBACK4_IPV6`).
    fn source_of(&self, state: &State, to: Ip, way: Ip) -> Result<Ip> {
        const STAND_IN: Ip = Ip::v4(0x7f00_0006);
        match (state.local.ip.is_v4(), to.is_v4()) {
            (true, false) => Err(Errno::EAFNOSUPPORT),
            (false, true) => Ok(if state.bound.is_some() { STAND_IN } else { way }),
            _ => Ok(state.local.ip),
        }
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
            let ip = if state.local.ip.is_any() {
                self.ip.source_for(&self.core, state.local.ip, to.ip)?
            } else {
                state.local.ip
            };
            (data, to, Addr { ip, port: state.local.port })
        };
        self.emit(data, (from, to), 0, &Overrides::default())
    }

    fn emit(&self, data: Vec<u8>, (from, to): (Addr, Addr), segment: u16, say: &Overrides) -> Result {
        self.core.ns.inet.datagrams[1].fetch_add(1, Relaxed);
        if self.core.ns.loses(to.ip, data.len()) {
            return Ok(());
        }
        let heads = if to.ip.is_v4() { HEADS4 } else { HEADS6 };
        self.core.ns.count_passed(1, (data.len() + heads) as u64);
        let ttl = say.ttl.unwrap_or_else(|| self.ip.ttl_for(&self.core.ns, to.ip));
        let tos = say.tos.unwrap_or_else(|| self.ip.tos_for(to.ip));
        let mark = say.mark.unwrap_or_else(|| self.core.mark.load(Relaxed));
        let mark = (mark, say.priority.unwrap_or_else(|| self.core.priority.load(Relaxed)));
        let heads = self.ip.heads(say, (from.ip, to.ip), self.core.protocol as u8);
        let label = self.ip.label(say, from, to);
        let packet = Packet { data, from, to, ttl, tos, label, heads, mark, segment, time: 0 };
        let noted = self.core.notes_sending(say.stamps);
        if noted != 0 {
            let frame = || Datagram::of_udp(self.core.protocol as u8, &packet)?.as_frame();
            self.core.note_sent(noted, self.core.sent_key(), frame);
            self.queue.wake(Events::ERR);
        }
        let ns = &self.core.ns;
        // Packets are made for those who look at them only.
        let seen = if ns.inet.raw.is_watched() { input::show_datagram(ns, self.core.protocol, &packet)? } else { None };
        if packet.heads.as_ref().is_some_and(|heads| heads.lost) {
            self.queue.wake(Events::OUT | Events::WRNORM | Events::WRBAND);
            return Ok(());
        }
        if let Some(packet) = deliver(ns, self.core.protocol, packet)? {
            if let Some(seen) = seen {
                icmp::unreachable_port(ns, &seen);
            }
            self.unreachable(packet.data, to);
        }
        // The packet is no longer charged to the sender (`sock_def_write_space`).
        self.queue.wake(Events::OUT | Events::WRNORM | Events::WRBAND);
        Ok(())
    }
}
