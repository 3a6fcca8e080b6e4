//! TCP (`tcp(7)`) between sockets of one sandbox: no segments, no timers.
//!
//! A connection is two ends, each with the data that was sent to it. Sending puts data into the peer's
//! end, the room being what `SO_SNDBUF` of the one and `SO_RCVBUF` of the other give. What a segment
//! would carry (FIN, RST) is a flag of the end that it would reach.
//!
//! Locks: a socket's state, then an end's inbox (level `FileData`), then ports (`Leaf`). No two inboxes are
//! held at once.

mod connect;
mod end;
mod hold;
mod info;
mod options;
mod segment;
mod stream;
mod transfer;

use super::addr::{self, Addr};
use super::options::{Ends, IpOptions, negative_room};
use super::ports::{Claim, Holder};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::{IoDst, IoSrc, UserPtr};
use crate::net::NetNamespace;
use crate::net::proc::Row;
use crate::net::socket::family::Wanted;
use crate::net::socket::{
    Core, Halves, MsgFlags, OptionValue, RecvMsg, SOL_SOCKET, SendMsg, SockAddr, SockCtx, SocketOps, af, flag, so,
};
use crate::sync::{Events, Level, Mend, Mutex, WaitQueue};
use crate::time::{self, timer};
use crate::vfs::OpCtx;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use end::{Backlog, End};
pub use info::TcpState;
use options::TcpOptions;
pub use segment::answer_segment;

/// `IPPROTO_TCP`.
pub const PROTOCOL: u32 = 6;
/// `SO_SNDBUF` and `SO_RCVBUF` of a new socket (`tcp_wmem`, `tcp_rmem`), and what connected ones are told.
const SEND_BUFFER: u32 = 16_384;
const RECEIVE_BUFFER: u32 = 131_072;
const CONNECTED_SEND_BUFFER: u32 = 2_626_560;
/// Room that a side gives whose buffer was not set.
const SEND_ROOM: usize = 256 << 10;
const RECEIVE_ROOM: usize = 128 << 10;

/// Half of the largest receive buffer (`tcp_rmem`).
const MOST_LOW_WATER: u32 = 33_554_432 / 2;

/// Where a socket is between `socket(2)` and `close(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Closed,
    Listening,
    /// The listener's backlog is full.
    Connecting,
    Connected,
}

struct State {
    phase: Phase,
    local: Addr,
    remote: Option<Addr>,
    peer: Option<Arc<End>>,
    claim: Option<Arc<Claim<Weak<Tcp>>>>,
    holder: Option<Holder>,
    /// The program chose address or port: a disconnect keeps it.
    bound: Option<Addr>,
    /// It named the port, which then stays when a connection ends.
    keeps_port: bool,
    /// It was shut down before the outcome of an attempt was told: it connects no more (`SS_DISCONNECTING`).
    dissolved: bool,
    /// A connect that does not wait has an outcome that nobody was told yet.
    unreported: bool,
    shut_read: bool,
    shut_write: bool,
    /// When the attempt to connect is given up.
    gives_up: Option<Box<timer::Armed>>,
    /// It sent its end of data before it had seen the peer's.
    ended_first: bool,
}

impl Mend for State {
    /// Each part is changed by one store, and what is dropped is taken out before.
    fn mend(&mut self) {}
}

/// A TCP socket.
pub struct Tcp {
    core: Core,
    ip: IpOptions,
    options: TcpOptions,
    end: Arc<End>,
    state: Mutex<State>,
    me: Weak<Tcp>,
}

/// `socket(2)`.
///
/// # Errors
/// `ENOMEM`.
pub fn create(ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, wanted: Wanted) -> Result<Arc<dyn SocketOps>> {
    let core = wanted.core(ctx, ns, PROTOCOL);
    core.send_buffer.store(SEND_BUFFER, Relaxed);
    core.receive_buffer.store(RECEIVE_BUFFER, Relaxed);
    let end = End::new(RECEIVE_ROOM, SEND_ROOM);
    let socket: Arc<Tcp> = Arc::new_cyclic(|me| Tcp {
        ip: IpOptions::new(ns, core.family, PROTOCOL),
        options: TcpOptions::new(),
        state: Mutex::mended(Level::FileData, State::new(Addr::any(core.family))),
        core,
        end,
        me: me.clone(),
    });
    let all: Weak<dyn SocketOps> = socket.me.clone();
    ns.enlist(socket.core.cookie, all)?;
    Ok(socket)
}

impl State {
    /// The attempt to connect is over.
    fn attempt_over(&mut self) {
        if let Some(armed) = self.gives_up.take() {
            timer::cancel(&armed);
        }
    }

    fn new(local: Addr) -> State {
        State {
            phase: Phase::Closed,
            local,
            remote: None,
            peer: None,
            claim: None,
            holder: None,
            bound: None,
            keeps_port: false,
            dissolved: false,
            unreported: false,
            gives_up: None,
            shut_read: false,
            shut_write: false,
            ended_first: false,
        }
    }
}

impl Tcp {
    fn ends(&self) -> Ends {
        let s = self.state.lock();
        let open = s.phase == Phase::Connected;
        Ends { port: s.local.port, local: s.local.ip, remote: s.remote.filter(|_| open).map(|r| r.ip) }
    }

    /// Room that this side gives as a sender.
    fn send_room(&self) -> usize {
        let room = if self.core.buffer_locked(1) { self.core.send_room() } else { SEND_ROOM };
        self.options.unsent_most().map_or(room, |most| room.min(most))
    }

    /// Room that this side gives as a receiver.
    fn receive_room(&self) -> usize {
        let room = if self.core.buffer_locked(2) { self.core.receive_room() / 2 } else { RECEIVE_ROOM };
        self.options.window_most().map_or(room, |most| room.min(most))
    }

    fn receive_room_changed(&self) {
        let room = self.receive_room();
        self.end.inbox.lock().receive_room = room as u32;
        let peer = self.state.lock().peer.clone();
        if let Some(peer) = peer {
            peer.queue.wake(Events::OUT | Events::WRNORM);
        }
    }

    fn send_room_changed(&self) {
        let peer = self.state.lock().peer.clone();
        if let Some(peer) = peer {
            peer.inbox.lock().send_room = self.send_room() as u32;
        }
        self.end.queue.wake(Events::OUT | Events::WRNORM);
    }

    fn claim_for(&self, local: Addr, v6only: bool, shared: bool) -> Arc<Claim<Weak<Tcp>>> {
        Claim::new(&self.core, local, v6only, shared, self.me.clone())
    }

    /// Gives the port back, and what else the namespace knows of the connection.
    fn leave(&self, state: &mut State) {
        let mut ports = self.core.ns.inet.tcp.lock();
        if let Some(remote) = state.remote {
            ports.disconnect(state.local, remote);
            if state.ended_first && !self.end.is_dead() {
                let (reuse, port) = (self.core.has(flag::REUSEADDR), self.core.has(flag::REUSEPORT));
                ports.wait_out(state.local, reuse, port, self.core.uid, time::host_monotonic());
            }
        }
        if let Some(holder) = state.holder.take() {
            ports.unhold(state.local.port, holder);
        }
        if let Some(claim) = state.claim.take_if(|_| state.bound.is_none() || !state.keeps_port) {
            ports.release(&claim);
        }
    }

    /// Ends the sending half: the peer sees the end of data.
    fn end_sending(&self, state: &mut State) {
        if core::mem::replace(&mut state.shut_write, true) {
            return;
        }
        if let Some(peer) = &state.peer
            && !self.end.is_dead()
        {
            state.ended_first = !self.end.inbox.lock().fin;
            self.show_end((state.local, state.remote.unwrap_or(state.local)), peer, false);
            peer.finish((state.local, state.remote.unwrap_or(state.local)));
        }
    }

    /// Stops listening: whoever connected and was not accepted is reset.
    fn stop_listening(&self) {
        if let Some(claim) = &self.state.lock().claim {
            claim.listening.store(false, Relaxed);
        }
        let Some(backlog) = self.end.inbox.lock().backlog.take() else { return };
        let Backlog { mut ready, mut deferred, mut waiting, .. } = *backlog;
        // Connections that wait for data are forgotten without a word.
        while let Some((_, i)) = deferred.pop_first() {
            i.end.inbox.lock().closed = true;
            self.forget_incoming(&i);
        }
        while let Some(i) = ready.pop_front() {
            self.forget_incoming(&i);
            i.client.reset(Errno::ECONNRESET);
        }
        while let Some(client) = waiting.pop_front() {
            if let Some(client) = client.upgrade() {
                client.refused();
            }
        }
        self.end.queue.wake_all();
    }

    /// Ends the connection; `abort`: by a reset.
    fn hang_up(&self, state: &mut State, abort: bool) {
        state.attempt_over();
        if abort {
            if let Some(peer) = state.peer.take()
                && !self.end.is_dead()
            {
                self.show_end((state.local, state.remote.unwrap_or(state.local)), &peer, true);
                peer.reset(Errno::ECONNRESET);
            }
            self.end.abandon();
        } else {
            self.end_sending(state);
        }
        self.leave(state);
        drop(state.peer.take());
    }

    /// Its local address as `getsockname` and `/proc/net/tcp` show it.
    fn local(&self) -> Addr {
        self.state.lock().local
    }
}

impl SocketOps for Tcp {
    fn core(&self) -> &Core {
        &self.core
    }

    fn queue(&self) -> &WaitQueue {
        &self.end.queue
    }

    fn poll(&self) -> Events {
        self.ready()
    }

    fn carried(&self) -> (u64, u64) {
        /// Most bytes of a segment's data, and those of its headers.
        const SEGMENT: u64 = 32_741;
        const HEADS: u64 = 52;
        if self.state.lock().remote.is_none() {
            return (0, 0);
        }
        let data = self.end.inbox.lock().stream.end();
        // The segments that begin and end a direction, those of data, and what acknowledges each of these.
        let packets = 2 + 2 * data.div_ceil(SEGMENT);
        (packets, data + packets * HEADS)
    }

    fn sent(&self) -> u64 {
        let peer = self.state.lock().peer.clone();
        peer.map_or(0, |p| p.inbox.lock().stream.end())
    }

    fn close(&self) {
        self.core.ns.delist(self.core.cookie);
        self.ip.leave_groups(&self.core);
        let (packets, bytes) = self.carried();
        self.core.ns.count_passed(packets, bytes);
        let mut state = self.state.lock();
        if state.phase == Phase::Listening {
            state.bound = None;
            drop(state);
            self.stop_listening();
            let mut state = self.state.lock();
            state.phase = Phase::Closed;
            self.leave(&mut state);
            return;
        }
        let unread = {
            let mut inbox = self.end.inbox.lock();
            let unread = inbox.stream.len() > 0;
            inbox.stream.clear();
            inbox.closed = true;
            unread
        };

        state.bound = None;
        let abort = unread || self.core.linger() == Some(0);
        self.hang_up(&mut state, abort);
        state.phase = Phase::Closed;
    }

    fn bind(&self, ctx: &SockCtx<'_>, to: &SockAddr) -> Result {
        let v6only = self.ip.v6only();
        let wanted = addr::for_bind(self.core.family, v6only, to)?;
        addr::check_scope(to, self.core.device.load(Relaxed))?;
        // Version 6 has no groups for streams, and asks later whether it has the address.
        if self.core.family == af::INET6 {
            let taken = self.state.lock().claim.is_some();
            if taken || wanted.ip.is_multicast() && !wanted.ip.is_v4() {
                return Err(Errno::EINVAL);
            }
        }
        self.ip.check_local(ctx, &self.core.ns, wanted)?;
        let mut state = self.state.lock();
        if state.phase != Phase::Closed || state.claim.is_some() {
            return Err(Errno::EINVAL);
        }
        let ns = &self.core.ns;
        let claim = ns.bind_port(&ns.inet.tcp, self.claim_for(wanted, v6only, false)).inspect_err(|_| {
            // What an attempt to connect has chosen is forgotten (`inet_reset_saddr`).
            state.local.ip = Addr::any(self.core.family).ip;
        })?;
        state.local = Addr { ip: wanted.ip, port: claim.port };
        state.bound = Some(state.local);
        state.keeps_port = wanted.port != 0;
        state.claim = Some(claim);
        self.ip.bound_to(wanted.ip);
        Ok(())
    }

    fn connect(&self, _ctx: &SockCtx<'_>, addr: &SockAddr, nonblock: bool) -> Result {
        self.connect_to(addr, nonblock)
    }

    fn connected(&self) -> Result {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Connecting => Err(Errno::EAGAIN),
            Phase::Connected => {
                state.unreported = false;
                Ok(())
            }
            _ => {
                state.unreported = false;
                Err(self.end.take_error().unwrap_or(Errno::ECONNABORTED))
            }
        }
    }

    fn listen(&self, _ctx: &SockCtx<'_>, backlog: i32) -> Result {
        self.begin_listening(backlog.max(0) as usize)
    }

    fn accept(&self, _ctx: &SockCtx<'_>) -> Result<Arc<dyn SocketOps>> {
        Ok(self.accept_one()?)
    }

    fn shutdown(&self, halves: Halves) -> Result {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Listening => {
                if halves.read {
                    state.phase = Phase::Closed;
                    drop(state);
                    self.stop_listening();
                    let mut state = self.state.lock();
                    state.shut_read = false;
                    state.shut_write = false;
                    self.leave(&mut state);
                }
                return Ok(());
            }
            Phase::Connected if !self.end.is_dead() => {
                state.shut_read |= halves.read;
                if halves.write {
                    self.end_sending(&mut state);
                }
                if state.shut_read && state.shut_write {
                    self.end.inbox.lock().deaf = true;
                }
            }
            Phase::Connecting => {
                drop(state);
                self.refused_with(Errno::ECONNRESET);
                return Ok(());
            }
            _ => {
                state.dissolved |= state.unreported && state.phase == Phase::Closed;
                state.shut_read |= halves.read;
                state.shut_write |= halves.write;
                drop(state);
                self.end.queue.wake_all();
                return Err(Errno::ENOTCONN);
            }
        }
        drop(state);
        self.end.queue.wake_all();
        Ok(())
    }

    fn send(&self, _ctx: &SockCtx<'_>, src: &mut IoSrc<'_>, msg: &mut SendMsg) -> SysResult<usize> {
        self.send_data(src, msg)
    }

    fn receive(&self, _ctx: &SockCtx<'_>, dst: &mut IoDst<'_>, flags: MsgFlags, out: &mut RecvMsg) -> SysResult<usize> {
        self.receive_data(dst, flags, out)
    }

    fn local_addr(&self) -> Result<SockAddr> {
        Ok(self.local().to_sockaddr(self.core.family))
    }

    fn peer_addr(&self) -> Result<SockAddr> {
        let state = self.state.lock();
        let remote = state.remote.filter(|_| state.phase == Phase::Connected && self.state_of(&state).is_open());
        Ok(remote.ok_or(Errno::ENOTCONN)?.to_sockaddr(self.core.family))
    }

    fn row(&self) -> Option<Row> {
        self.describe()
    }

    fn listening(&self) -> bool {
        self.state.lock().phase == Phase::Listening
    }

    fn set_option(&self, ctx: &SockCtx<'_>, level: u32, option: u32, value: OptionValue) -> Result {
        match level {
            PROTOCOL => self.set_tcp_option(ctx, option, value),
            SOL_SOCKET => Err(Errno::ENOPROTOOPT),
            _ => self.ip.set(ctx, &self.core, level, option, value, self.ends()),
        }
    }

    fn get_option(&self, _ctx: &SockCtx<'_>, level: u32, option: u32, into: OptionValue) -> Result<Vec<u8>> {
        match (level, option) {
            (PROTOCOL, _) => self.get_tcp_option(option),
            (SOL_SOCKET, so::ERROR) => {
                let e = self.end.take_error().map_or(0, Errno::raw);
                Ok(e.to_ne_bytes().to_vec())
            }
            (SOL_SOCKET, _) => Err(Errno::ENOPROTOOPT),
            _ => self.ip.get(&self.core, self.ends(), level, option, into),
        }
    }

    fn negative_room(&self, level: u32, _option: u32) -> Result {
        negative_room(self.core.family, self.core.protocol, level)
    }

    fn option_changed(&self, option: u32) {
        match option {
            so::REUSEADDR | so::REUSEPORT => {
                if let Some(claim) = &self.state.lock().claim {
                    claim.refresh(&self.core);
                }
            }
            so::RCVBUF | so::RCVBUFFORCE => self.receive_room_changed(),
            so::SNDBUF | so::SNDBUFFORCE => self.send_room_changed(),
            so::TIMESTAMP
            | so::TIMESTAMPNS
            | so::TIMESTAMPING
            | so::TIMESTAMP_NEW
            | so::TIMESTAMPNS_NEW
            | so::TIMESTAMPING_NEW => self.end.inbox.lock().notes_arrival = self.core.notes_arrival(),
            so::ATTACH_FILTER | so::DETACH_FILTER => self.program_changed(),
            so::RCVLOWAT => {
                // `tcp_set_rcvlowat`: no more than half of what the buffer may become.
                let most =
                    if self.core.buffer_locked(2) { self.core.receive_room() as u32 / 2 } else { MOST_LOW_WATER };
                self.core.low_water.fetch_min(most, Relaxed);
                self.end.queue.wake(Events::IN | Events::RDNORM);
            }
            _ => {}
        }
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, request: u32, arg: u64) -> SysResult<u64> {
        /// `SIOCINQ` (as `FIONREAD`), `SIOCOUTQ`, `SIOCATMARK`, `SIOCOUTQNSD`.
        const INQ: u32 = 0x541b;
        const OUTQ: u32 = 0x5411;
        const ATMARK: u32 = 0x8905;
        const OUTQNSD: u32 = 0x894b;
        let value = match request {
            INQ | OUTQ | OUTQNSD if self.listening() => return Err(Errno::EINVAL.into()),
            INQ => self.unread() as i32,
            OUTQ | OUTQNSD => self.unsent() as i32,
            ATMARK => i32::from(self.end.inbox.lock().stream.at_mark()),
            _ => return Err(Errno::ENOTTY.into()),
        };
        UserPtr::<i32>::new(arg).write(value)?;
        Ok(0)
    }
}
