//! The options of levels `IPPROTO_IP` and `IPPROTO_IPV6` (`ip(7)`, `ipv6(7)`), in Linux's order of errors
//! (`do_ip_setsockopt`, `do_ipv6_setsockopt`).

use super::addr::Ip;
use super::ends::prefer;
pub use super::ends::{Ends, negative_room};
use super::multicast::{Ask, Groups};
pub use super::numbers::{ip4, ip6, on};
use super::sticky::Sticky;
use super::{control, proto, sources};
use crate::abi::{Errno, Result};
use crate::cred::cap;
use crate::net::NetNamespace;
use crate::net::bytes::word;
use crate::net::socket::{Core, OptionValue, SockCtx, af, sock};
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI16, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use once_cell::race::OnceBox;

/// See the module.
pub struct IpOptions {
    flags: AtomicU64,
    /// `IP_TTL` and `IPV6_UNICAST_HOPS`; below 0: the default.
    ttl: [AtomicI16; 2],
    /// `IP_TOS` and `IPV6_TCLASS`.
    tos: [AtomicU8; 2],
    /// `IP_MULTICAST_TTL` and `IPV6_MULTICAST_HOPS`.
    group_ttl: [AtomicI16; 2],
    /// `IP_MTU_DISCOVER` and `IPV6_MTU_DISCOVER`.
    discover: [AtomicU8; 2],
    min_ttl: [AtomicU8; 2],
    /// `IP_MULTICAST_IF` (index) and `IPV6_MULTICAST_IF`, `IP_UNICAST_IF` and `IPV6_UNICAST_IF`.
    devices: [AtomicI32; 4],
    port_range: AtomicU32,
    /// `IPV6_ADDR_PREFERENCES` as it reads.
    preferences: AtomicU32,
    groups: OnceBox<Mutex<Groups>>,
    pub(super) sticky: OnceBox<Mutex<Sticky>>,
    /// The flow that a connected socket sends in.
    pub(super) connected_flow: AtomicU32,
}

fn cut(mut value: Vec<u8>, room: usize) -> Vec<u8> {
    value.truncate(room);
    value
}

/// The options of `IPPROTO_IP` that take a value other than on or off.
const SET4: [u32; 15] = [
    ip4::ROUTER_ALERT,
    ip4::TOS,
    ip4::TTL,
    ip4::HDRINCL,
    ip4::OPTIONS,
    ip4::MTU_DISCOVER,
    ip4::TRANSPARENT,
    ip4::MINTTL,
    ip4::NODEFRAG,
    ip4::RECVFRAGSIZE,
    ip4::MULTICAST_TTL,
    ip4::MULTICAST_LOOP,
    ip4::MULTICAST_ALL,
    ip4::UNICAST_IF,
    ip4::LOCAL_PORT_RANGE,
];
/// `MRT_*` and `MRT6_*`.
const MROUTE: core::ops::RangeInclusive<u32> = 200..=212;

/// An option that is just on or off.
fn switch(level: u32, option: u32) -> Option<u64> {
    if level == proto::IPV6 {
        return Some(match option {
            ip6::RECVPKTINFO => on::PKTINFO6,
            ip6::RECVHOPLIMIT => on::HOPLIMIT6,
            ip6::RECVTCLASS => on::TCLASS6,
            ip6::RECVERR => on::RECVERR6,
            ip6::RECVORIGDSTADDR => on::ORIGDSTADDR6,
            ip6::DONTFRAG => on::DONTFRAG6,
            ip6::RECVPATHMTU => on::PATHMTU6,
            ip6::RECVHOPOPTS => on::HOPOPTS6,
            ip6::RECVDSTOPTS => on::DSTOPTS6,
            ip6::RECVRTHDR => on::RTHDR6,
            ip6::OLD_PKTINFO => on::OLD_PKTINFO6,
            ip6::OLD_HOPLIMIT => on::OLD_HOPLIMIT6,
            ip6::OLD_HOPOPTS => on::OLD_HOPOPTS6,
            ip6::OLD_DSTOPTS => on::OLD_DSTOPTS6,
            ip6::OLD_RTHDR => on::OLD_RTHDR6,
            ip6::FLOWINFO => on::FLOWINFO6,
            ip6::FLOWINFO_SEND => on::FLOWINFO_SEND6,
            ip6::ALERT_ISOLATE => on::ALERT_ISOLATE6,
            ip6::RECVFRAGSIZE => on::FRAGSIZE6,
            ip6::RECVERR_RFC4884 => on::RFC4884_6,
            ip6::AUTOFLOWLABEL => on::AUTOFLOWLABEL,
            ip6::FREEBIND => on::FREEBIND,
            _ => return None,
        });
    }
    Some(match option {
        ip4::PKTINFO => on::PKTINFO,
        ip4::RECVTTL => on::RECVTTL,
        ip4::RECVTOS => on::RECVTOS,
        ip4::RECVERR => on::RECVERR,
        ip4::FREEBIND => on::FREEBIND,
        ip4::ORIGDSTADDR => on::ORIGDSTADDR,
        ip4::BIND_ADDRESS_NO_PORT => on::NO_PORT,
        ip4::RECVOPTS => on::RECVOPTS,
        ip4::RETOPTS => on::RETOPTS,
        ip4::CHECKSUM => on::CHECKSUM,
        ip4::RECVERR_RFC4884 => on::RFC4884,
        ip4::PASSSEC => on::PASSSEC,
        _ => return None,
    })
}

impl IpOptions {
    /// Everything as Linux's defaults are.
    pub fn new(ns: &NetNamespace, family: u16, protocol: u32) -> IpOptions {
        let only = family == af::INET6 && ns.inet.v6only.load(Relaxed);
        let whole = if protocol == proto::RAW { on::HDRINCL } else { 0 };
        let flags =
            whole | on::LOOP | on::LOOP6 | on::ALL6 | on::AUTOFLOWLABEL | if family == af::INET { on::ALL } else { 0 };
        IpOptions {
            flags: AtomicU64::new(flags | if only { on::V6ONLY } else { 0 }),
            ttl: [const { AtomicI16::new(-1) }; 2],
            tos: [const { AtomicU8::new(0) }; 2],
            group_ttl: [const { AtomicI16::new(1) }; 2],
            discover: [const { AtomicU8::new(1) }; 2],
            min_ttl: [const { AtomicU8::new(0) }; 2],
            devices: [const { AtomicI32::new(0) }; 4],
            port_range: AtomicU32::new(0),
            preferences: AtomicU32::new(prefer::DEFAULT | prefer::HOME),
            groups: OnceBox::new(),
            sticky: OnceBox::new(),
            connected_flow: AtomicU32::new(0),
        }
    }

    /// Multicast groups.
    pub fn groups(&self) -> &Mutex<Groups> {
        self.groups.get_or_init(|| Box::new(Mutex::new(Level::FileData, Groups::default())))
    }

    /// `IP_MULTICAST_TTL`.
    pub(super) fn group_ttl4(&self) -> i16 {
        self.group_ttl[0].load(Relaxed)
    }

    /// `IPV6_MULTICAST_HOPS`.
    pub(super) fn group_hops(&self) -> i16 {
        self.group_ttl[1].load(Relaxed)
    }

    /// The socket closes: it leaves all groups and gives its flow labels back.
    pub fn leave_groups(&self, core: &Core) {
        let ns = &core.ns;
        if core.family == af::INET6 {
            ns.inet.labels.lock().release(core.cookie);
        }
        if let Some(groups) = self.groups.get() {
            groups.lock().leave_all(ns);
        }
    }

    /// Those of a socket that `accept` gives; `ttl` is what the packet that opened the connection had.
    pub fn inherited(&self, family: u16, ttl: u8) -> IpOptions {
        let own = usize::from(family == af::INET6);
        let group = |i: usize| AtomicI16::new(if i == own { i16::from(ttl) } else { self.group_ttl[i].load(Relaxed) });
        let byte = |a: &AtomicU8| AtomicU8::new(a.load(Relaxed));
        let short = |a: &AtomicI16| AtomicI16::new(a.load(Relaxed));
        IpOptions {
            flags: AtomicU64::new(self.flags.load(Relaxed)),
            ttl: [short(&self.ttl[0]), short(&self.ttl[1])],
            tos: [byte(&self.tos[0]), byte(&self.tos[1])],
            group_ttl: [group(0), group(1)],
            discover: [byte(&self.discover[0]), byte(&self.discover[1])],
            min_ttl: [byte(&self.min_ttl[0]), byte(&self.min_ttl[1])],
            // Version 6 takes over the interface that the packet came by.
            devices: [0, 1, 2, 3].map(|i| AtomicI32::new(if i == 1 { 1 } else { self.devices[i].load(Relaxed) })),
            port_range: AtomicU32::new(self.port_range.load(Relaxed)),
            preferences: AtomicU32::new(self.preferences.load(Relaxed)),
            groups: OnceBox::new(),
            sticky: self.inherited_sticky().map_or_else(OnceBox::new, OnceBox::with_value),
            connected_flow: AtomicU32::new(0),
        }
    }

    /// Whether any of these [`on`] bits is set.
    pub fn has(&self, bits: u64) -> bool {
        self.flags.load(Relaxed) & bits != 0
    }

    /// Turns [`on`] bits on or off.
    pub fn switch_to(&self, bits: u64, value: bool) {
        if value {
            self.flags.fetch_or(bits, Relaxed);
        } else {
            self.flags.fetch_and(!bits, Relaxed);
        }
    }

    /// `IPV6_V6ONLY`.
    pub fn v6only(&self) -> bool {
        self.has(on::V6ONLY)
    }

    /// The socket is bound: one with an address of version 6 is for that version only (`__inet6_bind`).
    pub fn bound_to(&self, ip: Ip) {
        if !ip.is_v4() && !ip.is_any() {
            self.switch_to(on::V6ONLY, true);
        }
    }

    /// The time to live of packets to an address.
    pub fn ttl_for(&self, ns: &NetNamespace, to: Ip) -> u8 {
        let six = usize::from(!to.is_v4());
        let set = if to.is_multicast() { &self.group_ttl[six] } else { &self.ttl[six] };
        match set.load(Relaxed) {
            ..0 => ns.inet.ttl.load(Relaxed) as u8,
            n => n as u8,
        }
    }

    /// Whether packets to an address may be put into fragments (`ip_sk_ignore_df`, `IPV6_DONTFRAG`).
    pub fn may_split(&self, to: Ip, once: Option<bool>) -> bool {
        /// `IP_PMTUDISC_DO`, `IP_PMTUDISC_OMIT`.
        const DO: u8 = 2;
        const OMIT: u8 = 5;
        let how = self.discover[usize::from(!to.is_v4())].load(Relaxed);
        let whole = !to.is_v4() && once.unwrap_or(self.has(on::DONTFRAG6));
        !whole && !(DO..OMIT).contains(&how)
    }

    /// The type of service of packets to an address.
    pub fn tos_for(&self, to: Ip) -> u8 {
        self.tos[usize::from(!to.is_v4())].load(Relaxed)
    }

    /// The interface that was chosen for multicast to an address; 0: none.
    pub fn group_device(&self, to: Ip) -> i32 {
        self.devices[usize::from(!to.is_v4())].load(Relaxed)
    }

    /// `setsockopt(2)`.
    ///
    /// # Errors
    /// `ENOPROTOOPT`, `EINVAL`, `EPERM` …
    pub fn set(
        &self,
        ctx: &SockCtx<'_>,
        core: &Core,
        level: u32,
        option: u32,
        value: OptionValue,
        ends: Ends,
    ) -> Result {
        match level {
            proto::IP => self.set4(ctx, core, option, value),
            proto::IPV6 if core.family == af::INET6 => self.set6(ctx, core, option, value, ends),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set4(&self, ctx: &SockCtx<'_>, core: &Core, option: u32, value: OptionValue) -> Result {
        if let Some(outcome) = self.set_group(core, proto::IP, option, value) {
            return outcome;
        }
        // Multicast routing is of raw sockets.
        if MROUTE.contains(&option) {
            return Err(Errno::EOPNOTSUPP);
        }
        let bits = switch(proto::IP, option);
        if bits.is_none() && !SET4.contains(&option) {
            return Err(Errno::ENOPROTOOPT);
        }
        let int = value.int_or_byte()?;
        let strict = option == ip4::RECVERR_RFC4884 && !(0..=1).contains(&int);
        if strict || matches!(option, ip4::FREEBIND | ip4::TRANSPARENT) && value.len == 0 {
            return Err(Errno::EINVAL);
        }
        if let Some(bit) = bits {
            self.switch_to(bit, int != 0);
            return Ok(());
        }
        let stream = core.kind == sock::STREAM;
        let raw = core.kind == sock::RAW;
        let need = |ok: bool| if ok { Ok(()) } else { Err(Errno::EINVAL) };
        match option {
            ip4::TOS => {
                let old = self.tos[0].load(Relaxed);
                let tos = if stream { int as u8 & !3 | old & 3 } else { int as u8 };
                self.tos[0].store(tos, Relaxed);
            }
            ip4::TTL => {
                need(value.len >= 1 && (int == -1 || (1..=255).contains(&int)))?;
                self.ttl[0].store(int as i16, Relaxed);
            }
            ip4::HDRINCL | ip4::NODEFRAG if !raw => return Err(Errno::ENOPROTOOPT),
            ip4::HDRINCL => self.switch_to(on::HDRINCL, int != 0),
            ip4::NODEFRAG => self.switch_to(on::NODEFRAG, int != 0),
            ip4::ROUTER_ALERT if !raw || core.protocol == proto::RAW => return Err(Errno::EINVAL),
            ip4::ROUTER_ALERT => self.alert(on::ALERT, int != 0)?,
            ip4::OPTIONS => self.set_options4(ctx, core, value)?,
            ip4::MTU_DISCOVER => {
                need((0..=5).contains(&int))?;
                self.discover[0].store(int as u8, Relaxed);
            }
            ip4::TRANSPARENT => {
                self.may_be_transparent(ctx, int)?;
                self.switch_to(on::TRANSPARENT, int != 0);
            }
            ip4::MINTTL => {
                need(value.len >= 1 && (0..=255).contains(&int))?;
                self.min_ttl[0].store(int as u8, Relaxed);
            }
            ip4::RECVFRAGSIZE if raw || core.kind == sock::DGRAM => self.switch_to(on::FRAGSIZE, int != 0),
            ip4::RECVFRAGSIZE => return Err(Errno::EINVAL),
            ip4::MULTICAST_TTL => {
                need(!stream && value.len >= 1)?;
                let ttl = if int == -1 { 1 } else { int };
                need((0..=255).contains(&ttl))?;
                self.group_ttl[0].store(ttl as i16, Relaxed);
            }
            ip4::MULTICAST_LOOP => {
                need(value.len >= 1)?;
                self.switch_to(on::LOOP, int != 0);
            }
            ip4::MULTICAST_ALL => {
                need(value.len >= 1 && (0..=1).contains(&int))?;
                self.switch_to(on::ALL, int != 0);
            }
            ip4::UNICAST_IF => {
                need(value.len == 4)?;
                self.choose_device(2, i32::from_be(int))?;
            }
            ip4::LOCAL_PORT_RANGE => {
                need(value.len == 4)?;
                let (low, high) = (int as u32 & 0xffff, int as u32 >> 16);
                need(low == 0 || high == 0 || low <= high)?;
                self.port_range.store(int as u32, Relaxed);
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    /// The socket is to have packets that are for routers, or not (`ip_ra_control`, `ip6_ra_control`).
    fn alert(&self, bit: u64, to: bool) -> Result {
        match (self.has(bit), to) {
            (true, true) => return Err(Errno::EADDRINUSE),
            (false, false) => return Err(Errno::ENOBUFS),
            _ => self.switch_to(bit, to),
        }
        Ok(())
    }

    fn choose_device(&self, which: usize, index: i32) -> Result {
        match index {
            0 | 1 => self.devices[which].store(index, Relaxed),
            _ => return Err(Errno::EADDRNOTAVAIL),
        }
        Ok(())
    }

    fn may_be_transparent(&self, ctx: &SockCtx<'_>, int: i32) -> Result {
        let cred = ctx.op.cred;
        if int != 0 && !cred.capable(cap::NET_RAW) && !cred.capable(cap::NET_ADMIN) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    fn set6(&self, ctx: &SockCtx<'_>, core: &Core, option: u32, value: OptionValue, ends: Ends) -> Result {
        // No value at all reads as 0.
        let int = if value.len < 4 || value.at.is_null() { 0 } else { value.int()? };
        if let Some(outcome) = self.set_group(core, proto::IPV6, option, value) {
            return outcome;
        }
        let need = |ok: bool| if ok { Ok(()) } else { Err(Errno::EINVAL) };
        if let Some(bit) = switch(proto::IPV6, option) {
            need(value.len >= 4 || matches!(option, ip6::DONTFRAG | ip6::AUTOFLOWLABEL | ip6::RECVFRAGSIZE))?;
            need(option != ip6::RECVERR_RFC4884 || (0..=1).contains(&int))?;
            self.switch_to(bit, int != 0);
            return Ok(());
        }
        match option {
            ip6::V6ONLY => {
                need(value.len >= 4 && ends.port == 0)?;
                self.switch_to(on::V6ONLY, int != 0);
            }
            ip6::UNICAST_HOPS => {
                need(value.len >= 4 && (-1..=255).contains(&int))?;
                self.ttl[1].store(int as i16, Relaxed);
            }
            ip6::MULTICAST_HOPS if core.kind == sock::STREAM => return Err(Errno::ENOPROTOOPT),
            ip6::MULTICAST_HOPS => {
                need(value.len >= 4 && (-1..=255).contains(&int))?;
                self.group_ttl[1].store(if int == -1 { 1 } else { int as i16 }, Relaxed);
            }
            ip6::MULTICAST_LOOP => {
                need(value.len >= 4 && (0..=1).contains(&int))?;
                self.switch_to(on::LOOP6, int != 0);
            }
            ip6::MULTICAST_ALL => {
                need(value.len >= 4)?;
                self.switch_to(on::ALL6, int != 0);
            }
            ip6::MULTICAST_IF if core.kind == sock::STREAM => return Err(Errno::ENOPROTOOPT),
            ip6::MULTICAST_IF => {
                need(value.len >= 4)?;
                self.choose_device(1, int).map_err(|_| Errno::ENODEV)?;
            }
            ip6::UNICAST_IF => {
                need(value.len == 4)?;
                self.choose_device(3, i32::from_be(int))?;
            }
            ip6::MTU_DISCOVER => {
                need(value.len >= 4 && (0..=5).contains(&int))?;
                self.discover[1].store(int as u8, Relaxed);
            }
            ip6::MTU => need(value.len >= 4 && (int == 0 || int >= 1280))?,
            ip6::TCLASS => {
                need(value.len >= 4 && (-1..=255).contains(&int))?;
                let tos = if int == -1 { 0 } else { int as u8 };
                let ecn = if core.kind == sock::STREAM { 3 } else { 0 };
                self.tos[1].store(tos & !ecn | self.tos[1].load(Relaxed) & ecn, Relaxed);
            }
            ip6::MINHOPCOUNT => {
                need(value.len >= 4 && (0..=255).contains(&int))?;
                self.min_ttl[1].store(int as u8, Relaxed);
            }
            ip6::TRANSPARENT => {
                need(value.len >= 4)?;
                self.may_be_transparent(ctx, int)?;
                self.switch_to(on::TRANSPARENT, int != 0);
            }
            ip6::HOPOPTS | ip6::RTHDRDSTOPTS | ip6::RTHDR | ip6::DSTOPTS => {
                self.set_header6(ctx, core, option, value)?;
            }
            ip6::OLD_PKTOPTIONS => {
                need(value.len <= 64 << 10)?;
                let messages = value.bytes(value.len as usize)?;
                let say = control::overrides(core, 0, ctx.op.cred, &control::messages(&messages)?)?;
                self.set_headers6(core, say);
            }
            ip6::FLOWLABEL_MGR => self.ask_label(ctx, core, value)?,
            // A source address that sticks: the interface has to be one that the socket may use.
            ip6::PKTINFO => {
                let index = word(&value.array::<20>()?, 16);
                let own = core.device.load(Relaxed);
                need(index == 0 || own == 0 || index == own)?;
            }
            ip6::ADDR_PREFERENCES => {
                need(value.len >= 4)?;
                let now = prefer::chosen(int as u32).ok_or(Errno::EINVAL)?;
                self.preferences.store(now, Relaxed);
            }
            // A connection of mapped addresses could become one of version 4 only.
            ip6::ADDRFORM if int != i32::from(af::INET) || value.len < 4 => return Err(Errno::EINVAL),
            ip6::ADDRFORM if core.kind == sock::RAW => return Err(Errno::ENOPROTOOPT),
            ip6::ADDRFORM => {
                let mapped = ends.remote.ok_or(Errno::ENOTCONN)?.is_v4();
                return Err(if mapped { Errno::EOPNOTSUPP } else { Errno::EADDRNOTAVAIL });
            }
            ip6::ROUTER_ALERT if value.len < 4 => return Err(Errno::EINVAL),
            ip6::ROUTER_ALERT if core.kind != sock::RAW || core.protocol != proto::RAW => {
                return Err(Errno::ENOPROTOOPT);
            }
            // What is for routers is told to who asks for it: no such packet is ever passed on here.
            ip6::ROUTER_ALERT => self.alert(on::ALERT6, int >= 0)?,
            option if MROUTE.contains(&option) => return Err(Errno::EOPNOTSUPP),
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    /// `getsockopt(2)`.
    ///
    /// # Errors
    /// `ENOPROTOOPT`, `EOPNOTSUPP`, `ENOTCONN`.
    pub fn get(&self, core: &Core, ends: Ends, level: u32, option: u32, into: OptionValue) -> Result<Vec<u8>> {
        let room = into.len as usize;
        if (level == proto::IP || level == proto::IPV6 && core.family == af::INET6)
            && let Some(outcome) = sources::get(core, self.groups(), level, option, into)
        {
            return outcome;
        }
        if level == proto::IPV6 && core.family == af::INET6 && option == ip6::PATHMTU {
            return ends.path(&core.ns, room);
        }
        let stream = core.kind == sock::STREAM;
        match (level, option) {
            (proto::IP, ip4::OPTIONS) => return Ok(cut(self.options4(), room)),
            (proto::IP, ip4::PKTOPTIONS) if stream => return Ok(self.packet_options4(ends.local, room)),
            (proto::IPV6, _) if core.family != af::INET6 => {}
            (proto::IPV6, ip6::OLD_PKTOPTIONS) if stream => return Ok(self.packet_options6(room)),
            (proto::IPV6, ip6::HOPOPTS | ip6::RTHDRDSTOPTS | ip6::RTHDR | ip6::DSTOPTS) => {
                return Ok(cut(self.header6(option), room));
            }
            (proto::IPV6, ip6::FLOWLABEL_MGR) => return self.told_label(core, into),
            _ => {}
        }
        let value = match level {
            proto::IP => self.get4(core, ends, option)?,
            proto::IPV6 if core.family == af::INET6 => self.get6(core, ends, option)?,
            _ if core.family == af::INET6 => return Err(Errno::ENOPROTOOPT),
            _ => return Err(Errno::EOPNOTSUPP),
        };
        // A small value goes into a single byte where there is no room for an int (`IPPROTO_IP`).
        if level == proto::IP && option != ip4::MULTICAST_IF && (1..4).contains(&room) && (0..=255).contains(&value) {
            return Ok(alloc::vec![value as u8]);
        }
        Ok(value.to_ne_bytes().to_vec())
    }

    fn get4(&self, core: &Core, ends: Ends, option: u32) -> Result<i32> {
        if let Some(bit) = switch(proto::IP, option) {
            return Ok(i32::from(self.has(bit)));
        }
        Ok(match option {
            ip4::TOS => i32::from(self.tos[0].load(Relaxed)),
            ip4::TTL => match self.ttl[0].load(Relaxed) {
                ..0 => core.ns.inet.ttl.load(Relaxed),
                n => i32::from(n),
            },
            ip4::HDRINCL => i32::from(self.has(on::HDRINCL)),
            ip4::ROUTER_ALERT => i32::from(self.has(on::ALERT)),
            ip4::PROTOCOL => i32::from(ends.port),
            ip4::NODEFRAG => i32::from(self.has(on::NODEFRAG)),
            ip4::MTU_DISCOVER => i32::from(self.discover[0].load(Relaxed)),
            ip4::MTU => ends.mtu(&core.ns)?,
            ip4::TRANSPARENT => i32::from(self.has(on::TRANSPARENT)),
            ip4::MINTTL => i32::from(self.min_ttl[0].load(Relaxed)),
            ip4::RECVFRAGSIZE => i32::from(self.has(on::FRAGSIZE)),
            ip4::MULTICAST_TTL => i32::from(self.group_ttl[0].load(Relaxed)),
            ip4::MULTICAST_LOOP => i32::from(self.has(on::LOOP)),
            ip4::MULTICAST_ALL => i32::from(self.has(on::ALL)),
            ip4::MULTICAST_IF => self.groups().lock().source as i32,
            ip4::UNICAST_IF => self.devices[2].load(Relaxed).to_be(),
            ip4::LOCAL_PORT_RANGE => self.port_range.load(Relaxed) as i32,
            option if MROUTE.contains(&option) => return Err(Errno::EOPNOTSUPP),
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    fn get6(&self, core: &Core, ends: Ends, option: u32) -> Result<i32> {
        if let Some(bit) = switch(proto::IPV6, option) {
            return Ok(i32::from(self.has(bit)));
        }
        Ok(match option {
            ip6::ROUTER_ALERT => i32::from(self.has(on::ALERT6)),
            ip6::ADDR_PREFERENCES => self.preferences.load(Relaxed) as i32,
            ip6::ADDRFORM if core.kind == sock::RAW => return Err(Errno::ENOPROTOOPT),
            ip6::ADDRFORM => ends.remote.map(|_| i32::from(core.family)).ok_or(Errno::ENOTCONN)?,
            ip6::V6ONLY => i32::from(self.has(on::V6ONLY)),
            ip6::UNICAST_HOPS => match self.ttl[1].load(Relaxed) {
                ..0 => 64,
                n => i32::from(n),
            },
            ip6::MULTICAST_HOPS => i32::from(self.group_ttl[1].load(Relaxed)),
            ip6::MULTICAST_LOOP => i32::from(self.has(on::LOOP6)),
            ip6::MULTICAST_ALL => i32::from(self.has(on::ALL6)),
            ip6::MULTICAST_IF => self.devices[1].load(Relaxed),
            ip6::UNICAST_IF => self.devices[3].load(Relaxed).to_be(),
            ip6::MTU_DISCOVER => i32::from(self.discover[1].load(Relaxed)),
            ip6::MTU => ends.mtu(&core.ns)?,
            ip6::TCLASS => i32::from(self.tos[1].load(Relaxed)),
            ip6::MINHOPCOUNT => i32::from(self.min_ttl[1].load(Relaxed)),
            ip6::TRANSPARENT => i32::from(self.has(on::TRANSPARENT)),
            option if MROUTE.contains(&option) => return Err(Errno::EOPNOTSUPP),
            _ => return Err(Errno::ENOPROTOOPT),
        })
    }

    /// Options of multicast; `None` for others.
    fn set_group(&self, core: &Core, level: u32, option: u32, value: OptionValue) -> Option<Result> {
        let ask = match Ask::read(core, level, option, value)? {
            Ok(ask) => ask,
            Err(e) => return Some(Err(e)),
        };
        if let Ask::Interface { index, .. } = &ask {
            self.devices[0].store(*index as i32, Relaxed);
        }
        Some(self.groups().lock().apply(ask, &core.ns.inet.members))
    }
}
