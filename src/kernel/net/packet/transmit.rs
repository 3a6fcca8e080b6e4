//! Sending frames (`packet_snd`, `tpacket_snd`).

use super::ring::{Next, status};
use super::{ADDRESS, ADDRESS_AT, HEAD, IP, IPV6, Packet, Passing, TAG, give, kind, options, parse};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::mm::IoSrc;
use crate::net::inet::{self, Seen};
use crate::net::socket::{SendMsg, SockAddr};
use crate::sync::Events;

impl Packet {
    /// Where a send goes: protocol and interface.
    fn destination(&self, to: Option<&SockAddr>) -> Result<u16> {
        let (protocol, index) = match to {
            Some(to) => {
                let named = parse(to)?;
                if to.len() < ADDRESS_AT + usize::from(to.bytes()[11]) {
                    return Err(Errno::EINVAL);
                }
                named
            }
            None => {
                let s = self.state.lock();
                (s.protocol, s.index)
            }
        };
        match index {
            1 if self.core.ns.loopback_is_up() => Ok(protocol),
            1 => Err(Errno::ENETDOWN),
            _ => Err(Errno::ENXIO),
        }
    }

    /// Most bytes of what a program sends.
    fn largest(&self) -> usize {
        self.core.ns.loopback_mtu() as usize + if self.is_raw() { HEAD + TAG } else { 0 }
    }

    /// Sends a frame: it goes out of the interface and comes in again.
    pub(super) fn transmit(&self, src: &mut IoSrc<'_>, msg: &SendMsg) -> Result<usize> {
        let protocol = self.destination(msg.to.as_ref())?;
        self.core.check_error()?;
        let len = src.left();
        if len > self.largest() {
            return Err(Errno::EMSGSIZE);
        }
        arena::charge_bytes(Object::Packet, len as u64).map_err(|_| Errno::ENOBUFS)?;
        let data = src.take_vec(len)?;
        if data.len() < len {
            return Err(Errno::EFAULT);
        }
        self.emit(protocol, &data, msg.to.as_ref())?;
        Ok(len)
    }

    fn emit(&self, protocol: u16, data: &[u8], to: Option<&SockAddr>) -> Result {
        let mut head = [0u8; HEAD];
        let above = if self.is_raw() { HEAD } else { 0 };
        if self.is_raw() {
            head.copy_from_slice(data.get(..HEAD).ok_or(Errno::EINVAL)?);
        } else {
            if let Some(to) = to {
                head[..6].copy_from_slice(to.bytes().get(ADDRESS_AT..ADDRESS_AT + 6).unwrap_or(&[0; 6]));
            }
            head[12..].copy_from_slice(&protocol.to_be_bytes());
        }
        let payload = &data[above..];
        let kind = match head[..6] {
            [0, 0, 0, 0, 0, 0] => kind::HOST,
            [first, ..] if first & 1 != 0 => kind::MULTICAST,
            _ => kind::OTHER_HOST,
        };
        self.core.ns.count_passed(1, payload.len() as u64);
        let frame = Passing { head, payload, kind };
        give(&self.core.ns.packets.sockets(), frame, Some(self));
        let known = matches!(frame.protocol(), IP | IPV6) && kind != kind::OTHER_HOST;
        if known && let Ok(packet) = inet::copy_packet(payload) {
            inet::arrive(&self.core.ns, packet, Seen::ByTheLinkLayer);
        }
        Ok(())
    }

    /// Sends the frames that the program has put into its ring. One that cannot be sent ends that, unless
    /// `PACKET_LOSS` is on.
    pub(super) fn transmit_ring(&self, msg: &SendMsg) -> Result<usize> {
        if msg.to.as_ref().is_some_and(|to| to.len() < ADDRESS) {
            return Err(Errno::EINVAL);
        }
        let protocol = self.destination(msg.to.as_ref())?;
        let version = self.numbers.version();
        let placed = self.has(options::TX_HAS_OFF).then_some(self.is_raw());
        let mut sum = 0;
        // As often as there are frames, even where another thread keeps filling the ring.
        let most = self.rings.lock().all[1].as_ref().map_or(0, |ring| ring.frames());
        for _ in 0..most {
            let next = self.rings.lock().next(version, placed)?;
            let (at, outcome) = match next {
                Next::None => break,
                Next::Frame(at, data) => (at, self.send_from_ring(protocol, &data, msg.to.as_ref())),
                Next::Wrong(at, e) => (at, Err(e)),
            };
            let mut rings = self.rings.lock();
            match outcome {
                Ok(n) => sum += n,
                Err(_) if self.has(options::LOSS) => {}
                Err(e) => {
                    rings.sent(at, version, status::WRONG_FORMAT);
                    rings.step_back();
                    return Err(e);
                }
            }
            rings.sent(at, version, status::KERNEL);
        }
        self.queue.wake(Events::OUT | Events::WRNORM);
        Ok(sum)
    }

    fn send_from_ring(&self, protocol: u16, data: &[u8], to: Option<&SockAddr>) -> Result<usize> {
        if data.len() > self.largest() {
            return Err(Errno::EMSGSIZE);
        }
        self.emit(protocol, data, to)?;
        Ok(data.len())
    }
}
