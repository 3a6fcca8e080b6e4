//! UDP (`udp(7)`) between sockets of one sandbox: a send puts a packet into the receiver's inbox.
//!
//! Where nobody takes a packet the sender hears of it as by an ICMP message.
//!
//! Locks: a socket's state (level `FileData`), then ports (`Leaf`); inboxes and error queues (`FileData`) alone.

mod deliver;
mod send;

pub use deliver::deliver;

use super::addr::{self, Addr};
use super::mailbox::Mailbox;
use super::options::{Ends, IpOptions, negative_room};
use super::ports::{Claim, Ports};
use super::proto;
use crate::abi::{Errno, Result, SysResult};
use crate::mm::{IoDst, IoSrc, UserPtr};
use crate::net::NetNamespace;
use crate::net::proc::Row;
use crate::net::socket::family::Wanted;
use crate::net::socket::{
    Core, Halves, MsgFlags, OptionValue, RecvMsg, SOL_SOCKET, SendMsg, SockAddr, SockCtx, SocketOps, af, so,
};
use crate::sync::{Events, Level, Mutex, WaitQueue};
use crate::vfs::OpCtx;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

struct State {
    local: Addr,
    remote: Option<Addr>,
    claim: Option<Arc<Claim<Weak<Dgram>>>>,
    /// What the program bound to: a disconnect keeps it.
    bound: Option<Addr>,
    /// It named the port, which a disconnect keeps then, too.
    keeps_port: bool,
    shut_read: bool,
    shut_write: bool,
    /// Data that waits for the rest of its packet (`MSG_MORE`, `UDP_CORK`), and where it goes.
    pending: Option<(Vec<u8>, Addr)>,
}

/// A datagram socket.
pub struct Dgram {
    core: Core,
    ip: IpOptions,
    queue: WaitQueue,
    state: Mutex<State>,
    mail: Mailbox,
    /// `UDPLITE_SEND_CSCOV`, `UDPLITE_RECV_CSCOV`: kept, nothing is ever damaged.
    coverage: [AtomicU32; 2],
    /// `UDP_CORK`, `UDP_SEGMENT`, `UDP_GRO` as they were set.
    cork: AtomicU32,
    segment: AtomicU32,
    gro: AtomicU32,
    /// `UDP_NO_CHECK6_TX`, `UDP_NO_CHECK6_RX`: kept, nothing is ever damaged.
    unchecked: AtomicU32,
    me: Weak<Dgram>,
}

/// `socket(2)`.
///
/// # Errors
/// `ENOMEM`.
pub fn create(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted, protocol: u32) -> Result<Arc<dyn SocketOps>> {
    let core = wanted.core(ctx, ns, protocol);
    let socket: Arc<Dgram> = Arc::new_cyclic(|me| Dgram {
        ip: IpOptions::new(ns, core.family, protocol),
        queue: WaitQueue::new(),
        state: Mutex::new(Level::FileData, State::new(Addr::any(core.family))),
        mail: Mailbox::default(),
        coverage: [const { AtomicU32::new(0) }; 2],
        cork: AtomicU32::new(0),
        segment: AtomicU32::new(0),
        gro: AtomicU32::new(0),
        unchecked: AtomicU32::new(0),
        core,
        me: me.clone(),
    });
    let all: Weak<dyn SocketOps> = socket.me.clone();
    ns.enlist(socket.core.cookie, all)?;
    Ok(socket)
}

impl State {
    fn new(local: Addr) -> State {
        State {
            local,
            remote: None,
            claim: None,
            bound: None,
            keeps_port: false,
            shut_read: false,
            shut_write: false,
            pending: None,
        }
    }
}

impl Dgram {
    fn claim_for(&self, local: Addr) -> Arc<Claim<Weak<Dgram>>> {
        Claim::new(&self.core, local, self.ip.v6only(), false, self.me.clone())
    }

    fn ends(&self) -> Ends {
        let s = self.state.lock();
        Ends { port: s.local.port, local: s.local.ip, remote: s.remote.map(|r| r.ip) }
    }

    /// The ports of its protocol.
    fn ports(&self) -> &Mutex<Ports<Weak<Dgram>>> {
        deliver::ports(&self.core.ns, self.core.protocol)
    }

    /// Takes a port where the socket has none yet.
    fn autobind(&self, state: &mut State) -> Result {
        if state.claim.is_some() {
            return Ok(());
        }
        let any = Addr { ip: state.local.ip, port: 0 };
        let ns = &self.core.ns;
        let claim = ns.bind_port(self.ports(), self.claim_for(any)).map_err(|_| Errno::EAGAIN)?;
        state.local.port = claim.port;
        state.claim = Some(claim);
        Ok(())
    }

    /// Replaces the claim by one to another address of the same port, as connecting does.
    fn move_claim(&self, state: &mut State, local: Addr) {
        let Some(old) = state.claim.take() else { return };
        let new = self.claim_for(local);
        let mut ports = self.ports().lock();
        ports.release(&old);
        if ports.enter(new.clone()).is_ok() {
            state.claim = Some(new);
            state.local = local;
        }
    }

    fn disconnect(&self) {
        let mut state = self.state.lock();
        state.remote = None;
        state.pending = None;
        match state.bound {
            // A port that was bound by number stays, and the address if that was bound.
            Some(bound) if state.keeps_port => {
                let local = Addr { ip: bound.ip, port: state.local.port };
                self.move_claim(&mut state, local);
            }
            bound => {
                if let Some(claim) = state.claim.take() {
                    self.ports().lock().release(&claim);
                }
                state.bound = None;
                let any = Addr::any(self.core.family);
                state.local = bound.map_or(any, |b| Addr { ip: b.ip, ..any });
            }
        }
    }

    /// Where a datagram socket of this family may connect to (`ip4_datagram_connect`).
    fn remote_in(&self, to: &SockAddr) -> Result<Addr> {
        let six = self.core.family == af::INET6;
        if six && to.family() == af::INET {
            if self.ip.v6only() {
                return Err(Errno::EAFNOSUPPORT);
            }
            return addr::for_stream(af::INET, false, to);
        }
        addr::for_stream(self.core.family, self.ip.v6only(), to)
    }
}

impl SocketOps for Dgram {
    fn core(&self) -> &Core {
        &self.core
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn poll(&self) -> Events {
        let shut = {
            let s = self.state.lock();
            [s.shut_read, s.shut_write]
        };
        self.mail.poll(&self.core, shut)
    }

    fn close(&self) {
        self.core.ns.delist(self.core.cookie);
        let claim = self.state.lock().claim.take();
        if let Some(claim) = claim {
            self.ports().lock().release(&claim);
        }
        self.ip.leave_groups(&self.core);
        self.mail.clear();
    }

    fn bind(&self, ctx: &SockCtx<'_>, to: &SockAddr) -> Result {
        let wanted = addr::for_bind(self.core.family, self.ip.v6only(), to)?;
        addr::check_scope(to, self.core.device.load(Relaxed))?;
        // Version 6 asks later whether it has the address.
        if self.core.family == af::INET6 && self.state.lock().claim.is_some() {
            return Err(Errno::EINVAL);
        }
        self.ip.check_local(ctx, &self.core.ns, wanted)?;
        let mut state = self.state.lock();
        if state.claim.is_some() || state.bound.is_some() {
            return Err(Errno::EINVAL);
        }
        let ns = &self.core.ns;
        let claim = ns.bind_port(self.ports(), self.claim_for(wanted))?;
        state.local = Addr { ip: wanted.ip, port: claim.port };
        state.bound = Some(state.local);
        state.keeps_port = wanted.port != 0;
        state.claim = Some(claim);
        self.ip.bound_to(wanted.ip);
        Ok(())
    }

    fn connect(&self, _ctx: &SockCtx<'_>, to: &SockAddr, _nonblock: bool) -> Result {
        if to.len() < 2 {
            return Err(Errno::EINVAL);
        }
        if to.family() == af::UNSPEC {
            self.disconnect();
            return Ok(());
        }
        let mut state = self.state.lock();
        // `inet_dgram_connect` takes a port first.
        self.autobind(&mut state)?;
        let mut remote = self.remote_in(to)?;
        self.ip.connect_flow(&self.core, to)?;
        let device = self.core.device.load(Relaxed) | self.ip.group_device(remote.ip) as u32;
        addr::check_scope(to, device)?;
        remote.ip = remote.ip.or_own(state.local.ip);
        let source = self.ip.source_for(&self.core, state.local.ip, remote.ip)?;
        // The address that an earlier connection has chosen stays, too.
        let ip = if state.local.ip.is_any() { source } else { state.local.ip };
        if ip.is_v4() && !remote.ip.is_v4() {
            return Err(Errno::EAFNOSUPPORT);
        }
        let local = Addr { ip, port: state.local.port };
        self.move_claim(&mut state, local);
        state.remote = Some(remote);
        Ok(())
    }

    fn shutdown(&self, halves: Halves) -> Result {
        let connected = {
            let mut state = self.state.lock();
            state.shut_read |= halves.read;
            state.shut_write |= halves.write;
            state.remote.is_some()
        };
        self.queue.wake_all();
        if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    fn send(&self, ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
        Ok(self.send_packet(ctx.op.cred, src, msg)?)
    }

    fn receive(&self, _ctx: &SockCtx<'_>, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        if flags.contains(MsgFlags::ERRQUEUE) {
            return Ok(self.mail.receive_error(&self.core, dst, out)?);
        }
        let ended = || self.state.lock().shut_read;
        Ok(self.mail.receive((&self.core, &self.ip), dst, flags, out, ended)?)
    }

    fn local_addr(&self) -> Result<SockAddr> {
        Ok(self.state.lock().local.to_sockaddr(self.core.family))
    }

    fn peer_addr(&self) -> Result<SockAddr> {
        let remote = self.state.lock().remote.filter(|r| r.port != 0);
        Ok(remote.ok_or(Errno::ENOTCONN)?.to_sockaddr(self.core.family))
    }

    fn row(&self) -> Option<Row> {
        let (local, remote) = {
            let s = self.state.lock();
            (s.local, s.remote)
        };
        let (waiting, dropped) = self.mail.load();
        // TCP_ESTABLISHED, TCP_CLOSE.
        let state = if remote.is_some() { 1 } else { 7 };
        let remote = remote.unwrap_or(Addr::any(self.core.family));
        (local.port != 0).then_some(Row { local, remote, state, out: 0, waiting, dropped })
    }

    fn set_option(&self, ctx: &SockCtx<'_>, level: u32, option: u32, value: OptionValue) -> Result {
        match level {
            proto::UDP | proto::UDPLITE => self.set_udp_option(option, value),
            SOL_SOCKET => Err(Errno::ENOPROTOOPT),
            _ => self.ip.set(ctx, &self.core, level, option, value, self.ends()),
        }
    }

    fn get_option(&self, _ctx: &SockCtx<'_>, level: u32, option: u32, into: OptionValue) -> Result<Vec<u8>> {
        match level {
            proto::UDP | proto::UDPLITE => self.get_udp_option(option),
            SOL_SOCKET => Err(Errno::ENOPROTOOPT),
            _ => self.ip.get(&self.core, self.ends(), level, option, into),
        }
    }

    fn negative_room(&self, level: u32, _option: u32) -> Result {
        negative_room(self.core.family, self.core.protocol, level)
    }

    fn option_changed(&self, option: u32) {
        if matches!(option, so::REUSEADDR | so::REUSEPORT)
            && let Some(claim) = &self.state.lock().claim
        {
            claim.refresh(&self.core);
        }
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, request: u32, arg: u64) -> SysResult<u64> {
        /// `FIONREAD`, `SIOCOUTQ`, `SIOCGSTAMP`, `SIOCGSTAMPNS`.
        const INQ: u32 = 0x541b;
        const OUTQ: u32 = 0x5411;
        let value = match request {
            INQ => self.mail.first_len() as i32,
            OUTQ => 0,
            _ => return Err(Errno::ENOTTY.into()),
        };
        UserPtr::<i32>::new(arg).write(value)?;
        Ok(0)
    }
}

/// `UDP_CORK`, `UDP_ENCAP`, `UDP_NO_CHECK6_TX`, `UDP_NO_CHECK6_RX`, `UDP_SEGMENT`, `UDP_GRO`.
mod udp_opt {
    pub const CORK: u32 = 1;
    pub const SEND_CSCOV: u32 = 10;
    pub const RECV_CSCOV: u32 = 11;
    pub const ENCAP: u32 = 100;
    pub const NO_CHECK6_TX: u32 = 101;
    pub const NO_CHECK6_RX: u32 = 102;
    pub const SEGMENT: u32 = 103;
    pub const GRO: u32 = 104;
}

impl Dgram {
    fn set_udp_option(&self, option: u32, value: OptionValue) -> Result {
        let int = value.int()?;
        match option {
            udp_opt::CORK => {
                self.cork.store(u32::from(int != 0), Relaxed);
                if int == 0 { self.push_pending() } else { Ok(()) }
            }
            udp_opt::ENCAP if int == 0 => Ok(()),
            udp_opt::NO_CHECK6_TX | udp_opt::NO_CHECK6_RX => {
                let bit = 1 << (option - udp_opt::NO_CHECK6_TX);
                match int {
                    0 => self.unchecked.fetch_and(!bit, Relaxed),
                    _ => self.unchecked.fetch_or(bit, Relaxed),
                };
                Ok(())
            }
            udp_opt::SEGMENT if !(0..=65_535).contains(&int) => Err(Errno::EINVAL),
            udp_opt::SEGMENT => {
                self.segment.store(int as u32, Relaxed);
                Ok(())
            }
            udp_opt::GRO => {
                self.gro.store(u32::from(int != 0), Relaxed);
                Ok(())
            }
            udp_opt::SEND_CSCOV | udp_opt::RECV_CSCOV if self.core.protocol == proto::UDPLITE => {
                // A header is always covered; 0 stands for all of the packet.
                let value = if int != 0 && int < 8 { 8 } else { (int as u32).min(u32::from(u16::MAX)) };
                self.coverage[(option - udp_opt::SEND_CSCOV) as usize].store(value, Relaxed);
                Ok(())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn get_udp_option(&self, option: u32) -> Result<Vec<u8>> {
        let value = match option {
            udp_opt::CORK => self.cork.load(Relaxed),
            udp_opt::SEGMENT => self.segment.load(Relaxed),
            udp_opt::GRO => self.gro.load(Relaxed),
            udp_opt::SEND_CSCOV | udp_opt::RECV_CSCOV if self.core.protocol == proto::UDPLITE => {
                self.coverage[(option - udp_opt::SEND_CSCOV) as usize].load(Relaxed)
            }
            udp_opt::SEND_CSCOV | udp_opt::RECV_CSCOV | udp_opt::ENCAP => 0,
            udp_opt::NO_CHECK6_TX | udp_opt::NO_CHECK6_RX => {
                self.unchecked.load(Relaxed) >> (option - udp_opt::NO_CHECK6_TX) & 1
            }
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(value.to_ne_bytes().to_vec())
    }
}
