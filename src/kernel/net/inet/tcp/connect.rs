//! Connections: made, accepted, refused, dissolved.

use super::end::{Backlog, End, Incoming};
use super::{CONNECTED_SEND_BUFFER, Phase, State, Tcp};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::host::random;
use crate::net::inet::addr::{self, Addr, Ip};
use crate::net::outward;
use crate::net::socket::{SockAddr, SocketOps, af, filter, flag};
use crate::sync::{Events, Level, Mutex};
use crate::time;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// How a connection attempt ended.
enum Outcome {
    Established,
    Refused,
    /// The backlog is full.
    Waits,
}

impl Tcp {
    /// `connect(2)` in Linux's order of checks (`__inet_stream_connect`, `tcp_v4_connect`).
    pub(super) fn connect_to(&self, to: &SockAddr, nonblock: bool) -> Result {
        if to.len() < 2 {
            return Err(Errno::EINVAL);
        }
        if to.family() == af::UNSPEC {
            self.disconnect();
            return Ok(());
        }
        let mut state = self.state.lock();
        let unreported = state.unreported;
        if let Err(e) = self.may_connect(&mut state, nonblock) {
            drop(state);
            // That the outcome was told is an event (`tcp_disconnect`).
            if unreported {
                self.end.queue.wake_all();
            }
            return Err(e);
        }
        let Some(remote) = self.reach(&mut state, to)? else { return Ok(()) };
        let outcome = self.attempt(&mut state, remote);
        let counts = &self.core.ns.inet.connections;
        counts[0].fetch_add(1, Relaxed);
        match outcome {
            Outcome::Established if nonblock => {
                state.unreported = true;
                Err(Errno::EINPROGRESS)
            }
            Outcome::Established => Ok(()),
            Outcome::Waits => {
                state.gives_up = Some(Box::new(self.give_up_at(time::host_monotonic() + self.options.connect_time())));
                Err(Errno::EINPROGRESS)
            }
            Outcome::Refused => {
                counts[2].fetch_add(1, Relaxed);
                self.leave(&mut state);
                if !nonblock {
                    self.forget(&mut state);
                    return Err(Errno::ECONNREFUSED);
                }
                self.fail(&mut state, Errno::ECONNREFUSED);
                drop(state);
                self.end.queue.wake_all();
                Err(Errno::EINPROGRESS)
            }
        }
    }

    fn may_connect(&self, state: &mut State, nonblock: bool) -> Result {
        if state.dissolved {
            return Err(Errno::EINVAL);
        }
        let unreported = core::mem::take(&mut state.unreported);
        match state.phase {
            Phase::Listening => Err(Errno::EISCONN),
            Phase::Connecting => Err(if nonblock { Errno::EALREADY } else { Errno::EINPROGRESS }),
            // What an attempt that did not wait came to is told once.
            Phase::Closed if unreported => {
                state.shut_read = false;
                state.shut_write = false;
                self.forget(state);
                Err(self.end.take_error().unwrap_or(Errno::ECONNABORTED))
            }
            Phase::Connected if unreported => {
                state.unreported = true;
                Ok(())
            }
            Phase::Connected => Err(Errno::EISCONN),
            Phase::Closed => Ok(()),
        }
    }

    /// Chooses source, destination and port; `None` where the connection exists already.
    fn reach(&self, state: &mut State, to: &SockAddr) -> Result<Option<Addr>> {
        if core::mem::take(&mut state.unreported) {
            return Ok(None);
        }
        let mut remote = addr::for_stream(self.core.family, self.ip.v6only(), to)?;
        if !remote.ip.is_multicast() {
            addr::check_scope(to, self.core.device.load(Relaxed))?;
        }
        remote.ip = remote.ip.or_own(state.bound.map_or(state.local.ip, |b| b.ip));
        let ns = &self.core.ns;
        if remote.ip.is_multicast() || remote.ip.is_broadcast() {
            return Err(Errno::ENETUNREACH);
        }
        let way = match ns.is_local(remote.ip) {
            true => ns.source_for(remote.ip),
            false => match ns.way_out(&self.core, remote.ip) {
                Err(Errno::ENETUNREACH) if ns.has_way_out() => remote.ip.loopback_like(),
                way => way?,
            },
        };
        // What was bound to an address of many sends from that of the interface.
        let one = |ip: &Ip| !ip.is_any() && !ip.is_multicast() && !ip.is_broadcast();
        let source = state.bound.map(|b| b.ip).filter(one).unwrap_or(way);
        if source.is_v4() != remote.ip.is_v4() {
            return Err(if source.is_v4() { Errno::EAFNOSUPPORT } else { Errno::EINVAL });
        }
        self.take_port(state, source, remote)?;
        state.remote = Some(remote);
        Ok(Some(remote))
    }

    fn take_port(&self, state: &mut State, source: Ip, remote: Addr) -> Result {
        let ns = &self.core.ns;
        let mut ports = ns.inet.tcp.lock();
        ports.try_reserve()?;
        match &state.claim {
            Some(claim) => {
                let local = Addr { ip: source, port: claim.port };
                if ports.is_connected(local, remote) {
                    return Err(Errno::EADDRNOTAVAIL);
                }
                state.local = local;
            }
            None => {
                let claim = self.claim_for(Addr { ip: source, port: 0 }, false, true);
                let claim = ports.connect_any(ns.port_range(), remote, time::host_monotonic(), claim)?;
                state.local = Addr { ip: source, port: claim.port };
                state.claim = Some(claim);
            }
        }
        ports.connect(state.local, remote);
        Ok(())
    }

    /// The socket that listens at an address, the one with the most specific address first; of several that
    /// share it (`SO_REUSEPORT`) any.
    fn listener(&self, at: Addr) -> Option<Arc<Tcp>> {
        let ports = self.core.ns.inet.tcp.lock();
        let rank = |ip: Ip, v6only: bool| match ip {
            ip if ip == at.ip => 3,
            ip if ip.is_any() && ip.is_v4() == at.ip.is_v4() => 2,
            ip if ip == Ip::ANY6 && at.ip.is_v4() && !v6only => 1,
            _ => 0,
        };
        let listening = || ports.claims(at.port).iter().filter(|c| c.listening.load(Relaxed));
        let best = listening().map(|c| rank(c.ip, c.v6only)).max().filter(|&r| r > 0)?;
        let count = listening().filter(|c| rank(c.ip, c.v6only) == best).count();
        let mut group = listening().filter(|c| rank(c.ip, c.v6only) == best).filter_map(|c| c.owner.upgrade());
        if count < 2 {
            return group.next();
        }
        let mut all = Vec::new();
        all.try_reserve_exact(count).ok()?;
        all.extend(group);
        drop(ports);
        let which = filter::choose(all.iter().map(|s| &s.core), &[], random::next_u64());
        all.into_iter().nth(which)
    }

    fn attempt(&self, state: &mut State, remote: Addr) -> Outcome {
        if !self.core.ns.is_local(remote.ip) || !self.core.ns.loopback_is_up() {
            self.end.revive();
            state.phase = Phase::Connecting;
            // Who asks by an interface is not answered.
            if self.core.ns.way_out(&self.core, remote.ip).is_ok() {
                self.core.ns.loses(remote.ip, 60);
                return Outcome::Waits;
            }
            return match outward::ask(&self.me, remote) {
                Ok(()) => Outcome::Waits,
                Err(_) => Outcome::Refused,
            };
        }
        let Some(listener) = self.listener(remote) else {
            // Whoever connects to itself meets itself (a simultaneous open).
            if state.local != remote {
                self.show_opening((state.local, remote), true);
                return Outcome::Refused;
            }
            self.end.revive();
            self.establish(state, self.end.clone());
            return Outcome::Established;
        };
        self.end.revive();
        self.knock(state, &listener, remote)
    }

    /// Enters the listener's backlog.
    fn knock(&self, state: &mut State, listener: &Tcp, remote: Addr) -> Outcome {
        let (reuse, port) = (listener.core.has(flag::REUSEADDR), listener.core.has(flag::REUSEPORT));
        let dropped = listener.drops_request(state.local, remote);
        if arena::charge(Object::Packet).is_err() {
            return Outcome::Refused;
        }
        let (segment, their_segment) = self.segment_sizes(listener, remote.ip.is_v4());
        self.options.segment.store(segment, Relaxed);
        let deferral = listener.options.deferral();
        let theirs = End::new(listener.receive_room(), self.send_room());
        {
            let mut inbox = listener.end.inbox.lock();
            let Some(backlog) = inbox.backlog.as_mut() else { return Outcome::Refused };
            if backlog.ready.len() > backlog.max || dropped {
                backlog.forget_gone();
                if backlog.waiting.try_reserve().is_err() {
                    return Outcome::Refused;
                }
                backlog.waiting.push_back(self.me.clone());
                state.phase = Phase::Connecting;
                return Outcome::Waits;
            }
            if backlog.ready.try_reserve().is_err() {
                return Outcome::Refused;
            }
            let mut ports = self.core.ns.inet.tcp.lock();
            if ports.try_reserve().is_err() {
                return Outcome::Refused;
            }
            let holder = ports.hold(remote, reuse, port, listener.core.uid);
            ports.connect(remote, state.local);
            let incoming = Incoming {
                end: theirs.clone(),
                client: self.end.clone(),
                local: remote,
                remote: state.local,
                segment: their_segment,
                holder,
            };
            match deferral {
                Some(_) => drop(backlog.deferred.insert(theirs.key(), incoming)),
                None => backlog.ready.push_back(incoming),
            }
        }
        if let Some(ns) = deferral {
            theirs.defer(&listener.me, time::host_monotonic() + ns);
        }
        self.show_opening((state.local, remote), false);
        self.end.inbox.lock().send_room = listener.send_room() as u32;
        self.establish(state, theirs);
        self.core.ns.inet.connections[1].fetch_add(1, Relaxed);
        if deferral.is_none() {
            listener.end.queue.wake(Events::IN | Events::RDNORM);
        }
        Outcome::Established
    }

    fn establish(&self, state: &mut State, peer: Arc<End>) {
        state.attempt_over();
        state.peer = Some(peer);
        state.phase = Phase::Connected;
        state.shut_read = false;
        state.shut_write = false;
        state.ended_first = false;
        if !self.core.buffer_locked(1) {
            self.core.send_buffer.store(CONNECTED_SEND_BUFFER, Relaxed);
        }
        self.end.queue.wake(Events::OUT | Events::WRNORM);
    }

    /// There is room in the backlog for this socket, which waited for it.
    pub(super) fn admitted(&self, listener: &Tcp) {
        let mut state = self.state.lock();
        let Some(remote) = state.remote.filter(|_| state.phase == Phase::Connecting) else { return };
        match self.knock(&mut state, listener, remote) {
            Outcome::Established => state.unreported = true,
            Outcome::Waits => {}
            Outcome::Refused => {
                drop(state);
                self.refused();
            }
        }
    }

    /// The connection beyond the network's outward port is there: the socket at the sandbox's end of it. `None` if
    /// nobody waits for it any more.
    pub fn let_out(&self) -> Option<Arc<Tcp>> {
        let mut state = self.state.lock();
        let remote = state.remote.filter(|_| state.phase == Phase::Connecting)?;
        let theirs = End::new(super::RECEIVE_ROOM, self.send_room());
        let gate = State {
            phase: Phase::Connected,
            remote: Some(state.local),
            peer: Some(self.end.clone()),
            ..State::new(remote)
        };
        self.establish(&mut state, theirs.clone());
        state.unreported = true;
        drop(state);
        Some(Arc::new_cyclic(|me| Tcp {
            core: self.core.accepted(),
            ip: self.ip.inherited(self.core.family, self.core.ns.inet.ttl.load(Relaxed) as u8),
            options: self.options.inherited(),
            end: theirs,
            state: Mutex::mended(Level::FileData, gate),
            me: me.clone(),
        }))
    }

    /// There is no such connection.
    pub fn let_down(&self, e: Errno) {
        self.refused_with(e);
    }

    /// Nobody listens any more where this socket waited to be admitted.
    pub(super) fn refused(&self) {
        self.refused_with(Errno::ECONNREFUSED);
    }

    /// Ends an attempt that waits.
    pub(super) fn refused_with(&self, e: Errno) {
        {
            let mut state = self.state.lock();
            if state.phase != Phase::Connecting {
                return;
            }
            self.leave(&mut state);
            self.fail(&mut state, e);
        }
        self.end.queue.wake_all();
    }

    /// An attempt that nobody waits for has failed. The address that it was made from is shown until somebody asks for
    /// the outcome.
    fn fail(&self, state: &mut State, e: Errno) {
        let local = state.local;
        self.forget(state);
        state.local = local;
        state.unreported = true;
        state.shut_read = true;
        state.shut_write = true;
        self.end.abandon();
        self.end.set_error(e);
    }

    /// The socket is as before it connected, its address as it was bound.
    fn forget(&self, state: &mut State) {
        state.attempt_over();
        state.phase = Phase::Closed;
        state.remote = None;
        drop(state.peer.take());
        // A port that was chosen is shown further on, though it is free again.
        let any = Addr { port: state.local.port, ..Addr::any(self.core.family) };
        state.local = state.bound.unwrap_or(any);
    }

    /// `connect(2)` to no family (`tcp_disconnect`).
    fn disconnect(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Listening {
            drop(state);
            self.stop_listening();
            state = self.state.lock();
        }
        // A connection with an open half is reset, which is an error of its own; one from before stays.
        let over = state.shut_write && self.end.inbox.lock().fin;
        let open = state.phase == Phase::Connected && !over && !self.end.is_dead();
        let before = self.end.take_error();
        let error = if open || state.phase == Phase::Connecting { Some(Errno::ECONNRESET) } else { before };
        self.hang_up(&mut state, !over);
        self.forget(&mut state);
        state.unreported = false;
        state.dissolved = false;
        state.shut_read = false;
        state.shut_write = false;
        state.ended_first = false;
        drop(state);
        self.end.revive();
        self.end.abandon();
        if let Some(e) = error {
            self.end.set_error(e);
        }
        self.end.queue.wake_all();
    }

    /// `listen(2)`.
    pub(super) fn begin_listening(&self, max: usize) -> Result {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Closed if !state.unreported => {}
            Phase::Listening => {
                if let Some(backlog) = self.end.inbox.lock().backlog.as_mut() {
                    backlog.max = max;
                }
                return Ok(());
            }
            _ => return Err(Errno::EINVAL),
        }
        let ns = &self.core.ns;
        let claim = match &state.claim {
            Some(claim) => claim.clone(),
            None => {
                let any = Addr::any(self.core.family);
                // The address that was bound stays when its port is given up.
                let wanted = state.bound.map_or(any, |b| Addr { ip: b.ip, ..any });
                let claim = ns.bind_port(&ns.inet.tcp, self.claim_for(wanted, self.ip.v6only(), false))?;
                state.local = Addr { ip: wanted.ip, port: claim.port };
                state.claim = Some(claim.clone());
                claim
            }
        };
        claim.refresh(&self.core);
        {
            let ports = ns.inet.tcp.lock();
            claim.listening.store(true, Relaxed);
            if !ports.still_admits(&claim) {
                claim.listening.store(false, Relaxed);
                return Err(Errno::EADDRINUSE);
            }
        }
        self.end.revive();
        self.end.inbox.lock().backlog = Some(Box::new(Backlog { max, ..Backlog::default() }));
        state.phase = Phase::Listening;
        Ok(())
    }

    /// `accept(2)`.
    pub(super) fn accept_one(&self) -> Result<Arc<Tcp>> {
        let (incoming, next) = {
            let mut inbox = self.end.inbox.lock();
            let backlog = inbox.backlog.as_mut().ok_or(Errno::EINVAL)?;
            let incoming = backlog.ready.pop_front().ok_or(Errno::EAGAIN)?;
            (incoming, backlog.waiting.pop_front())
        };
        if let Some(next) = next.and_then(|w| w.upgrade()) {
            next.admitted(self);
        }
        let core = self.core.accepted();
        if !core.buffer_locked(1) {
            core.send_buffer.store(CONNECTED_SEND_BUFFER, Relaxed);
        }
        if core.notes_arrival() {
            incoming.end.inbox.lock().notes_arrival = true;
        }
        let state = State {
            phase: Phase::Connected,
            remote: Some(incoming.remote),
            peer: Some(incoming.client),
            holder: Some(incoming.holder),
            ..State::new(incoming.local)
        };
        let options = self.options.inherited();
        options.segment.store(incoming.segment, Relaxed);
        let socket = Arc::new_cyclic(|me| Tcp {
            core,
            ip: self.ip.inherited(self.core.family, self.core.ns.inet.ttl.load(Relaxed) as u8),
            options,
            end: incoming.end,
            state: Mutex::mended(Level::FileData, state),
            me: me.clone(),
        });
        let all: Weak<dyn SocketOps> = socket.me.clone();
        socket.core.ns.enlist(socket.core.cookie, all)?;
        Ok(socket)
    }
}
