//! Receiving datagrams (`udp_recvmsg`) and errors (`ip_recv_error`).

use super::{Dgram, Packet};
use crate::abi::{Errno, Result};
use crate::mm::IoDst;
use crate::net::inet::addr::Addr;
use crate::net::inet::options::{ip4, ip6, on};
use crate::net::inet::proto;
use crate::net::socket::{MsgFlags, RecvMsg, SOL_SOCKET, af, flag, so};

impl Dgram {
    /// Receives one packet; what there is no room for is lost, unless it is only looked at.
    pub(super) fn receive_packet(&self, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> Result<usize> {
        self.core.check_error()?;
        let peek = flags.contains(MsgFlags::PEEK);
        if peek {
            return self.peek(dst, out);
        }
        let packet = {
            let mut inbox = self.inbox.lock();
            let Some(packet) = inbox.packets.pop_front() else {
                drop(inbox);
                let ended = self.state.lock().shut_read && !flags.contains(MsgFlags::DONTWAIT);
                return if ended { Ok(0) } else { Err(Errno::EAGAIN) };
            };
            inbox.charged -= packet.charge();
            if inbox.packets.is_empty() && inbox.packets.capacity() > 16 {
                inbox.packets = Default::default();
            }
            packet
        };
        // The packet is taken: no lock is held while it is copied.
        let n = self.copy_out(&packet.data, dst, out)?;
        self.describe(&packet, out);
        Ok(n)
    }

    fn copy_out(&self, data: &[u8], dst: &mut IoDst<'_>, out: &mut RecvMsg) -> Result<usize> {
        let n = data.len().min(dst.left());
        let put = if n == 0 { 0 } else { dst.put(&data[..n])? };
        if put < n {
            return Err(Errno::EFAULT);
        }
        out.whole = data.len();
        if n < data.len() {
            out.flags |= MsgFlags::TRUNC;
        }
        Ok(n)
    }

    fn peek(&self, dst: &mut IoDst<'_>, out: &mut RecvMsg) -> Result<usize> {
        let packet = {
            let inbox = self.inbox.lock();
            let Some(p) = inbox.packets.front() else { return Err(Errno::EAGAIN) };
            let mut data = alloc::vec::Vec::new();
            data.try_reserve_exact(p.data.len()).map_err(|_| Errno::ENOBUFS)?;
            data.extend_from_slice(&p.data);
            Packet { data, ..*p }
        };
        let n = self.copy_out(&packet.data, dst, out)?;
        self.describe(&packet, out);
        Ok(n)
    }

    /// Address and control messages, in Linux's order.
    fn describe(&self, p: &Packet, out: &mut RecvMsg) {
        out.from = Some(p.from.to_sockaddr(self.core.family));
        if !out.wants_control {
            return;
        }
        if self.core.has(flag::TIMESTAMP | flag::TIMESTAMPNS) {
            let time = if p.time == 0 { crate::time::now() } else { p.time };
            let nano = self.core.has(flag::TIMESTAMPNS);
            let part = time % 1_000_000_000 / if nano { 1 } else { 1000 };
            let mut b = [0u8; 16];
            b[..8].copy_from_slice(&(time / 1_000_000_000).to_ne_bytes());
            b[8..].copy_from_slice(&part.to_ne_bytes());
            out.push_control(SOL_SOCKET, if nano { so::TIMESTAMPNS } else { so::TIMESTAMP }, &b);
        }
        if self.core.has(flag::RXQ_OVFL) {
            let dropped = self.inbox.lock().dropped;
            if dropped > 0 {
                out.push_control(SOL_SOCKET, so::RXQ_OVFL, &dropped.to_ne_bytes());
            }
        }
        if self.core.family == af::INET6 {
            self.describe6(p, out);
        }
        if p.to.ip.is_v4() {
            self.describe4(p, out);
        }
    }

    fn describe4(&self, p: &Packet, out: &mut RecvMsg) {
        if self.ip.has(on::PKTINFO) {
            let mut b = [0u8; 12];
            b[..4].copy_from_slice(&1i32.to_ne_bytes());
            let local = if p.to.ip.is_multicast() || p.to.ip.is_broadcast() { p.from.ip } else { p.to.ip };
            b[4..8].copy_from_slice(&local.bits4().to_be_bytes());
            b[8..].copy_from_slice(&p.to.ip.bits4().to_be_bytes());
            out.push_control(proto::IP, ip4::PKTINFO, &b);
        }
        if self.ip.has(on::RECVTTL) {
            out.push_control(proto::IP, ip4::TTL, &i32::from(p.ttl).to_ne_bytes());
        }
        if self.ip.has(on::RECVTOS) {
            out.push_control(proto::IP, ip4::TOS, &[p.tos]);
        }
        if self.ip.has(on::ORIGDSTADDR) {
            out.push_control(proto::IP, ip4::ORIGDSTADDR, p.to.to_sockaddr(af::INET).bytes());
        }
    }

    fn describe6(&self, p: &Packet, out: &mut RecvMsg) {
        if self.ip.has(on::PKTINFO6) {
            let mut b = [0u8; 20];
            b[..16].copy_from_slice(&p.to.ip.bytes());
            b[16..].copy_from_slice(&1u32.to_ne_bytes());
            out.push_control(proto::IPV6, ip6::PKTINFO, &b);
        }
        if p.to.ip.is_v4() {
            return;
        }
        if self.ip.has(on::HOPLIMIT6) {
            out.push_control(proto::IPV6, ip6::HOPLIMIT, &i32::from(p.ttl).to_ne_bytes());
        }
        if self.ip.has(on::TCLASS6) {
            out.push_control(proto::IPV6, ip6::TCLASS, &i32::from(p.tos).to_ne_bytes());
        }
        if self.ip.has(on::ORIGDSTADDR6) {
            out.push_control(proto::IPV6, ip6::RECVORIGDSTADDR, p.to.to_sockaddr(af::INET6).bytes());
        }
    }

    /// Receives the oldest error with the packet that it is about.
    pub(super) fn receive_error(&self, dst: &mut IoDst<'_>, out: &mut RecvMsg) -> Result<usize> {
        /// `SO_EE_ORIGIN_ICMP`, `SO_EE_ORIGIN_ICMP6`; type and code of "port unreachable".
        const ORIGINS: [[u8; 3]; 2] = [[2, 3, 3], [3, 1, 4]];
        let (returned, last) = {
            let mut errors = self.errors.lock();
            let returned = errors.pop_front().ok_or(Errno::EAGAIN)?;
            (returned, errors.is_empty())
        };
        // The error is told here, so not once more by the next operation.
        if last {
            let _ = self.core.take_error();
        }
        let n = self.copy_out(&returned.data, dst, out)?;
        let v4 = returned.to.ip.is_v4();
        out.flags |= MsgFlags::ERRQUEUE;
        out.from = Some(returned.to.to_sockaddr(self.core.family));
        let mut b = [0u8; 16 + 28];
        b[..4].copy_from_slice(&(returned.errno.raw() as u32).to_ne_bytes());
        b[4..7].copy_from_slice(&ORIGINS[usize::from(!v4)]);
        let family = if v4 { af::INET } else { af::INET6 };
        let offender = Addr { ip: returned.offender.ip, port: 0 }.to_sockaddr(family);
        b[16..16 + offender.len()].copy_from_slice(offender.bytes());
        let (level, kind) = if v4 { (proto::IP, ip4::RECVERR) } else { (proto::IPV6, ip6::RECVERR) };
        out.push_control(level, kind, &b[..16 + offender.len()]);
        Ok(n)
    }
}
