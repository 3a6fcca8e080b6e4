//! What sockets put between the headers of their packets and the payload: options and control messages that make headers
//! (RFC 791, RFC 3542), and flow labels.

use super::addr::{Addr, Ip};
use super::control::Overrides;
use super::headers::{self, Extensions, Shared};
use super::labels::{Asker, MASK, REQUEST, Request};
use super::options::{IpOptions, ip4, ip6, on};
use super::options4::{self, Options4};
use super::proto;
use crate::abi::{Errno, Result};
use crate::cred::cap;
use crate::mm::UserPtr;
use crate::net::socket::{Core, OptionValue, SockAddr, SockCtx, af, sock};
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// The headers that stick to a socket.
#[derive(Clone, Default)]
pub struct Sticky {
    four: Option<Options4>,
    six: Extensions,
}

/// Where the label lies in a `struct in6_flowlabel_req`.
const LABEL: u64 = 16;

/// The flow that an address of version 6 names (`sin6_flowinfo`).
fn flow_of(to: &SockAddr) -> u32 {
    match to.bytes().get(4..8) {
        Some(b) if to.family() == af::INET6 => u32::from_be_bytes([b[0], b[1], b[2], b[3]]) & 0xfff_ffff,
        _ => 0,
    }
}

/// A label for packets between two ends (`ip6_make_flowlabel`): the same for all of them.
fn label_between(from: Addr, to: Addr) -> u32 {
    let mut sum = u64::from(from.port) << 16 | u64::from(to.port);
    for b in from.ip.bytes().into_iter().chain(to.ip.bytes()) {
        sum = (sum ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    }
    ((sum >> 32) as u32 & MASK).max(1)
}

/// Whether a socket may send in a flow.
///
/// # Errors
/// `EINVAL` for a label that is not its own.
pub fn check_label(core: &Core, flow: u32) -> Result {
    let label = flow & MASK;
    if label != 0 && !core.ns.inet.labels.lock().may_send(core.cookie, label) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

impl IpOptions {
    fn sticky(&self) -> &Mutex<Sticky> {
        self.sticky.get_or_init(|| Box::new(Mutex::new(Level::Leaf, Sticky::default())))
    }

    fn stuck<T: Default>(&self, look: impl FnOnce(&Sticky) -> T) -> T {
        self.sticky.get().map_or_else(T::default, |sticky| look(&sticky.lock()))
    }

    /// Sets `IP_OPTIONS`.
    pub(super) fn set_options4(&self, ctx: &SockCtx<'_>, core: &Core, value: OptionValue) -> Result {
        if value.len as usize > options4::MOST {
            return Err(Errno::EINVAL);
        }
        let bytes = value.bytes(options4::MOST)?;
        let options = Options4::new(bytes, core.ns.may(ctx.op.cred, cap::NET_RAW))?;
        self.sticky().lock().four = options;
        Ok(())
    }

    /// `IP_OPTIONS` as they were set.
    pub(super) fn options4(&self) -> Vec<u8> {
        self.stuck(|s| s.four.as_ref().map_or_else(Vec::new, Options4::as_set))
    }

    /// Makes an extension header stick (`ipv6_set_opt_hdr`).
    pub(super) fn set_header6(&self, ctx: &SockCtx<'_>, core: &Core, option: u32, value: OptionValue) -> Result {
        if option != ip6::RTHDR && !core.ns.may(ctx.op.cred, cap::NET_RAW) {
            return Err(Errno::EPERM);
        }
        let header = headers::read(value)?;
        let mut sticky = self.sticky().lock();
        match option {
            ip6::HOPOPTS => sticky.six.hop = header,
            ip6::DSTOPTS => sticky.six.destination = header,
            ip6::RTHDRDSTOPTS => sticky.six.on_route = header,
            // No kind of route is supported.
            _ if header.is_empty() => {}
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// An extension header that sticks.
    pub(super) fn header6(&self, option: u32) -> Vec<u8> {
        self.stuck(|s| match option {
            ip6::HOPOPTS => headers::told(&s.six.hop),
            ip6::DSTOPTS => headers::told(&s.six.destination),
            ip6::RTHDRDSTOPTS => headers::told(&s.six.on_route),
            _ => Vec::new(),
        })
    }

    /// Makes those headers stick that control messages have, and no others (`IPV6_2292PKTOPTIONS`).
    pub(super) fn set_headers6(&self, core: &Core, say: Overrides) {
        let own = say.extensions.unwrap_or_default();
        if core.family == af::INET6 {
            self.sticky().lock().six = own;
        }
    }

    /// What sticks to a socket that `accept` gives: version 6 takes the listener's over.
    pub(super) fn inherited_sticky(&self) -> Option<Box<Mutex<Sticky>>> {
        let six = self.stuck(|s| s.six.clone());
        (!six.is_empty()).then(|| Box::new(Mutex::new(Level::Leaf, Sticky { four: None, six })))
    }

    /// The headers of a packet.
    pub fn heads(&self, say: &Overrides, (from, to): (Ip, Ip), protocol: u8) -> Shared {
        if to.is_v4() {
            let arrive = |o: &Options4| Arc::new(o.arrive(from, to).into());
            return match &say.options4 {
                Some(own) => Some(arrive(own)),
                None => self.stuck(|s| s.four.as_ref().map(arrive)),
            };
        }
        match &say.extensions {
            Some(own) => own.on_wire(protocol),
            None => self.stuck(|s| s.six.on_wire(protocol)),
        }
        .map(Arc::new)
    }

    /// The flow that a send is part of, as far as the program says.
    ///
    /// # Errors
    /// `EINVAL` for a label that the socket does not have.
    pub fn flow(&self, core: &Core, to: Option<&SockAddr>) -> Result<u32> {
        if core.family != af::INET6 || !self.has(on::FLOWINFO_SEND6) {
            return Ok(0);
        }
        let flow = to.map_or_else(|| self.connected_flow.load(Relaxed), flow_of);
        check_label(core, flow)?;
        Ok(flow)
    }

    /// The socket is connected: what it sends is part of the flow that the address names.
    ///
    /// # Errors
    /// As [`IpOptions::flow`].
    pub fn connect_flow(&self, core: &Core, to: &SockAddr) -> Result {
        let flow = self.flow(core, Some(to))?;
        self.connected_flow.store(flow, Relaxed);
        Ok(())
    }

    /// The label of a packet.
    pub fn label(&self, say: &Overrides, from: Addr, to: Addr) -> u32 {
        match say.flow & MASK {
            _ if to.ip.is_v4() => 0,
            0 if self.has(on::AUTOFLOWLABEL) => label_between(from, to),
            label => label,
        }
    }

    /// Sets `IPV6_FLOWLABEL_MGR`.
    pub(super) fn ask_label(&self, ctx: &SockCtx<'_>, core: &Core, value: OptionValue) -> Result {
        let request = Request::read(&value.array::<REQUEST>()?);
        let cred = ctx.op.cred;
        let (socket, stream) = (core.cookie, core.kind == sock::STREAM);
        let asker = Asker { socket, stream, cred, admin: core.ns.may(cred, cap::NET_ADMIN), process: ctx.op.tgid };
        let chosen = core.ns.inet.labels.lock().ask(&request, &asker)?;
        if let Some(label) = chosen {
            let at = UserPtr::<[u8; 4]>::new(value.at.addr().wrapping_add(LABEL));
            let _ = at.write(label.to_be_bytes());
        }
        Ok(())
    }

    /// Reads `IPV6_FLOWLABEL_MGR`: the label that the socket sends with.
    pub(super) fn told_label(&self, core: &Core, value: OptionValue) -> Result<Vec<u8>> {
        /// `IPV6_FL_F_REMOTE`.
        const REMOTE: u16 = 8;
        let b = value.array::<REQUEST>()?;
        if !Request::read(&b).is_get() {
            return Err(Errno::EINVAL);
        }
        if u16::from_ne_bytes([b[22], b[23]]) & REMOTE != 0 {
            return Ok(alloc::vec![0; REQUEST]);
        }
        let label = self.connected_flow.load(Relaxed) & MASK;
        let told = core.ns.inet.labels.lock().told(core.cookie, label).ok_or(Errno::ENOENT)?;
        Ok(told.to_vec())
    }

    /// `IPV6_2292PKTOPTIONS` of a stream: what the next packet would come with, as far as there is room.
    pub(super) fn packet_options6(&self, room: usize) -> Vec<u8> {
        let hops = i32::from(self.group_hops()).to_ne_bytes();
        let all = [
            (on::PKTINFO6, ip6::PKTINFO, &[0; 20][..]),
            (on::HOPLIMIT6, ip6::HOPLIMIT, &hops),
            (on::TCLASS6, ip6::TCLASS, &[0; 4]),
            (on::OLD_PKTINFO6, ip6::OLD_PKTINFO, &[0; 20]),
            (on::OLD_HOPLIMIT6, ip6::OLD_HOPLIMIT, &hops),
            (on::FLOWINFO6, ip6::FLOWINFO, &[0; 4]),
        ];
        messages(proto::IPV6, all.into_iter().filter(|(bit, _, _)| self.has(*bit)).map(|(_, k, d)| (k, d)), room)
    }

    /// `IP_PKTOPTIONS` of a stream, likewise; `local`: its address.
    pub(super) fn packet_options4(&self, local: Ip, room: usize) -> Vec<u8> {
        let mut info = [0u8; 12];
        for at in [4, 8] {
            info[at..at + 4].copy_from_slice(&local.bits4().to_be_bytes());
        }
        let ttl = i32::from(self.group_ttl4()).to_ne_bytes();
        let all =
            [(on::PKTINFO, ip4::PKTINFO, &info[..]), (on::RECVTTL, ip4::TTL, &ttl), (on::RECVTOS, ip4::TOS, &[0; 4])];
        messages(proto::IP, all.into_iter().filter(|(bit, _, _)| self.has(*bit)).map(|(_, k, d)| (k, d)), room)
    }
}

/// Control messages as they lie in memory, cut where there is no more room (`put_cmsg`).
fn messages<'a>(level: u32, all: impl Iterator<Item = (u32, &'a [u8])>, room: usize) -> Vec<u8> {
    const HEAD: usize = 16;
    let mut out = Vec::new();
    for (kind, data) in all {
        let left = room - out.len();
        if left < HEAD {
            break;
        }
        let len = (HEAD + data.len()).min(left);
        out.extend_from_slice(&(len as u64).to_ne_bytes());
        out.extend_from_slice(&level.to_ne_bytes());
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&data[..len - HEAD]);
        out.resize(out.len().next_multiple_of(8).min(room), 0);
    }
    out
}
