//! A socket: states, sending, receiving.

use super::{Endpoint, Inbox, Incoming, Name, Packet, Ucred, names};
use crate::abi::{Errno, Result};
use crate::mm::{IoDst, IoSrc};
use crate::net::socket::Core;
use crate::sync::{Events, Level, Mutex};
use crate::vfs::{OpCtx, OpenFile};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

/// `SOCK_STREAM` and its siblings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    Stream,
    Datagram,
    SeqPacket,
}

#[derive(Default)]
struct State {
    name: Option<Name>,
    peer: Option<Arc<Endpoint>>,
    peer_name: Option<Name>,
    peer_cred: Ucred,
    shut_write: bool,
}

/// See the module.
pub struct Socket {
    /// Its kind.
    pub kind: Kind,
    endpoint: Arc<Endpoint>,
    state: Mutex<State>,
    /// `SO_PASSCRED`.
    pub pass_cred: AtomicBool,
    /// What it shares with sockets of other families.
    pub core: Core,
}

/// What a receive gave besides data.
#[derive(Default)]
pub struct Received {
    /// Bytes put into the destination.
    pub len: usize,
    /// Bytes of the packet, if that is more.
    pub whole: usize,
    /// Files that came along.
    pub files: Vec<Arc<OpenFile>>,
    /// Who sent it.
    pub cred: Ucred,
    /// The sender's name.
    pub from: Option<Name>,
}

fn cred(ctx: &OpCtx<'_>) -> Ucred {
    Ucred { pid: ctx.tgid, uid: ctx.cred.euid, gid: ctx.cred.egid }
}

fn no_name() -> Name {
    Arc::from(&b""[..])
}

impl Socket {
    fn new(kind: Kind, core: Core) -> Arc<Socket> {
        Socket::over(kind, Endpoint::new(kind), core)
    }

    fn over(kind: Kind, endpoint: Arc<Endpoint>, core: Core) -> Arc<Socket> {
        Arc::new(Socket {
            kind,
            endpoint,
            state: Mutex::new(Level::FileData, State::default()),
            pass_cred: AtomicBool::new(false),
            core,
        })
    }

    /// Its own end, to be bound to a name.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Its name, empty for none.
    pub fn name(&self) -> Name {
        self.state.lock().name.clone().unwrap_or_else(no_name)
    }

    /// The peer's name.
    ///
    /// # Errors
    /// `ENOTCONN`.
    pub fn peer_name(&self) -> Result<Name> {
        let state = self.state.lock();
        if state.peer.is_none() {
            return Err(Errno::ENOTCONN);
        }
        Ok(state.peer_name.clone().unwrap_or_else(no_name))
    }

    /// The other end, if it is connected.
    pub fn peer(&self) -> Option<Arc<Endpoint>> {
        self.state.lock().peer.clone()
    }

    /// Who made the other end.
    pub fn peer_cred(&self) -> Ucred {
        self.state.lock().peer_cred
    }

    /// Whether `listen` was called.
    pub fn listening(&self) -> bool {
        self.endpoint.inbox.lock().backlog.is_some()
    }

    /// Records the name that its endpoint was bound to.
    ///
    /// # Errors
    /// `EINVAL` if it has one.
    pub fn set_name(&self, name: Name) -> Result {
        let mut state = self.state.lock();
        if state.name.is_some() {
            return Err(Errno::EINVAL);
        }
        state.name = Some(name);
        Ok(())
    }

    /// Accepts connections from now on.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for datagrams, `EINVAL` without a name or when connected.
    pub fn listen(&self, backlog: usize) -> Result {
        if self.kind == Kind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        {
            let state = self.state.lock();
            if state.name.is_none() || state.peer.is_some() {
                return Err(Errno::EINVAL);
            }
        }
        self.endpoint.inbox.lock().backlog = Some(backlog.clamp(1, 4096));
        Ok(())
    }

    /// Connects to whoever owns `to`.
    ///
    /// # Errors
    /// `ECONNREFUSED`, `EPROTOTYPE`, `EISCONN`, `EAGAIN` when too many wait already.
    pub fn connect(&self, ctx: &OpCtx<'_>, to: &Arc<Endpoint>, name: Name) -> Result {
        if to.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if self.kind == Kind::Datagram {
            if to.inbox.lock().refuses {
                return Err(Errno::ECONNREFUSED);
            }
            let mut state = self.state.lock();
            let old = state.peer.replace(to.clone());
            state.peer_name = Some(name);
            drop(state);
            drop(old);
            return Ok(());
        }
        if self.listening() {
            return Err(Errno::EINVAL);
        }
        let own_name = self.name();
        let mut state = self.state.lock();
        if state.peer.is_some() {
            return Err(Errno::EISCONN);
        }
        let mine = Endpoint::new(self.kind);
        {
            let mut inbox = to.inbox.lock();
            match inbox.backlog {
                _ if inbox.refuses => return Err(Errno::ECONNREFUSED),
                None => return Err(Errno::ECONNREFUSED),
                Some(n) if inbox.incoming.len() > n => return Err(Errno::EAGAIN),
                _ => {}
            }
            inbox.incoming.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let incoming =
                Incoming { mine: mine.clone(), client: self.endpoint.clone(), cred: cred(ctx), name: own_name };
            inbox.incoming.push_back(incoming);
        }
        state.peer = Some(mine);
        state.peer_name = Some(name);
        state.peer_cred = cred(ctx);
        drop(state);
        to.queue.wake(Events::IN | Events::RDNORM);
        self.endpoint.queue.wake(Events::OUT);
        Ok(())
    }

    /// Takes a connection that waits.
    ///
    /// # Errors
    /// `EAGAIN`, `EINVAL` if it does not listen.
    pub fn accept(&self) -> Result<Arc<Socket>> {
        let incoming = {
            let mut inbox = self.endpoint.inbox.lock();
            if inbox.backlog.is_none() {
                return Err(Errno::EINVAL);
            }
            inbox.incoming.pop_front().ok_or(Errno::EAGAIN)?
        };
        self.endpoint.queue.wake(Events::OUT);
        let socket = Socket::over(self.kind, incoming.mine, self.core.accepted());
        {
            let mut state = socket.state.lock();
            state.name = Some(self.name());
            state.peer = Some(incoming.client);
            state.peer_name = Some(incoming.name);
            state.peer_cred = incoming.cred;
        }
        Ok(socket)
    }

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// `ENOTCONN`.
    pub fn shutdown(&self, read: bool, write: bool) -> Result {
        let peer = {
            let mut state = self.state.lock();
            let peer = state.peer.clone().ok_or(Errno::ENOTCONN)?;
            state.shut_write |= write;
            peer
        };
        if read {
            self.endpoint.refuse(false);
            self.endpoint.end_of_data(false);
        }
        if write && self.kind != Kind::Datagram {
            peer.end_of_data(false);
        }
        peer.queue.wake_all();
        self.endpoint.queue.wake_all();
        Ok(())
    }

    /// Sends what `src` holds, with files; to `to`, or to the peer.
    ///
    /// # Errors
    /// `EAGAIN`, `EPIPE`, `ENOTCONN`, `EMSGSIZE`, `ECONNREFUSED`.
    pub fn send(
        &self,
        ctx: &OpCtx<'_>,
        src: &mut IoSrc<'_>,
        files: &mut Vec<Arc<OpenFile>>,
        to: Option<&Arc<Endpoint>>,
    ) -> Result<usize> {
        let (peer, shut) = {
            let state = self.state.lock();
            (state.peer.clone(), state.shut_write)
        };
        if shut {
            return Err(Errno::EPIPE);
        }
        let peer = to.cloned().or(peer).ok_or(Errno::ENOTCONN)?;
        if self.kind != Kind::Stream && src.left() > ROOM_ONE {
            return Err(Errno::EMSGSIZE);
        }
        if !peer.has_room() {
            return Err(Errno::EAGAIN);
        }
        if self.kind == Kind::Stream && src.left() == 0 {
            return Ok(0);
        }
        let len = if self.kind == Kind::Stream { src.left().min(CHUNK) } else { src.left() };
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
        data.resize(len, 0);
        let got = src.take(&mut data)?;
        data.truncate(got);
        let packet = Packet { data, at: 0, files: core::mem::take(files), cred: cred(ctx), from: self.name() };
        peer.deliver(packet).map_err(|e| match (e, self.kind) {
            (Errno::EPIPE, Kind::Datagram) => Errno::ECONNREFUSED,
            (e, _) => e,
        })
    }

    /// Receives into `dst`; with `peek` everything stays.
    ///
    /// # Errors
    /// `EAGAIN`, `ENOTCONN`, `EINVAL`, `ECONNRESET`.
    pub fn receive(&self, dst: &mut IoDst<'_>, peek: bool) -> Result<Received> {
        let peer = self.state.lock().peer.clone();
        let out = {
            let mut inbox = self.endpoint.inbox.lock();
            if inbox.packets.is_empty() {
                return self.nothing(&mut inbox, peer.is_some());
            }
            if self.kind == Kind::Stream { stream(&mut inbox, dst, peek)? } else { packet(&mut inbox, dst, peek)? }
        };
        if !peek {
            if let Some(peer) = peer {
                peer.queue.wake(Events::OUT | Events::WRNORM);
            }
            if self.kind == Kind::Datagram {
                // Senders that are not connected wait here.
                self.endpoint.queue.wake(Events::OUT);
            }
        }
        Ok(out)
    }

    fn nothing(&self, inbox: &mut Inbox, connected: bool) -> Result<Received> {
        if core::mem::take(&mut inbox.reset) {
            return Err(Errno::ECONNRESET);
        }
        match self.kind {
            _ if inbox.eof => Ok(Received::default()),
            Kind::Stream if !connected => Err(Errno::EINVAL),
            Kind::SeqPacket if !connected => Err(Errno::ENOTCONN),
            _ => Err(Errno::EAGAIN),
        }
    }

    /// Bytes that could be read now, for FIONREAD.
    pub fn unread(&self) -> usize {
        let inbox = self.endpoint.inbox.lock();
        match self.kind {
            Kind::Stream => inbox.bytes,
            _ => inbox.packets.front().map_or(0, |p| p.data.len()),
        }
    }

    /// What it is ready for.
    pub fn ready(&self) -> Events {
        let (peer, shut) = {
            let state = self.state.lock();
            (state.peer.clone(), state.shut_write)
        };
        let mut events = Events::empty();
        {
            let inbox = self.endpoint.inbox.lock();
            if !inbox.packets.is_empty() || inbox.eof || !inbox.incoming.is_empty() {
                events |= Events::IN | Events::RDNORM;
            }
            if inbox.eof {
                events |= Events::RDHUP;
            }
            if inbox.reset {
                events |= Events::ERR;
            }
            if inbox.backlog.is_some() {
                return events;
            }
            if inbox.eof && (shut || inbox.refuses) {
                events |= Events::HUP;
            }
        }
        match peer {
            Some(peer) => {
                if peer.inbox.lock().refuses && self.kind != Kind::Datagram {
                    events |= Events::HUP;
                }
                if peer.has_room() {
                    events |= Events::OUT | Events::WRNORM;
                }
            }
            None if self.kind == Kind::Datagram => events |= Events::OUT | Events::WRNORM,
            None => events |= Events::OUT | Events::HUP,
        }
        events
    }
}

/// Largest datagram.
const ROOM_ONE: usize = super::ROOM - 32;
/// Largest piece of a stream that one packet holds.
const CHUNK: usize = 64 << 10;

fn stream(inbox: &mut Inbox, dst: &mut IoDst<'_>, peek: bool) -> Result<Received> {
    let mut out = Received::default();
    let mut index = 0;
    while dst.left() > 0 || !peek && index == 0 && inbox.packets.front().is_some_and(|p| p.at >= p.data.len()) {
        let Some(p) = inbox.packets.get_mut(index) else { break };
        // Files and senders are not mixed with what came before.
        if out.len > 0 && (!p.files.is_empty() || p.cred != out.cred) {
            break;
        }
        let n = match dst.put(&p.data[p.at..]) {
            Ok(n) => n,
            Err(_) if out.len > 0 => break,
            Err(e) => return Err(e),
        };
        out.cred = p.cred;
        out.len += n;
        let carried = !p.files.is_empty();
        if peek {
            out.files.extend(p.files.iter().cloned());
            index += 1;
        } else {
            out.files = core::mem::take(&mut p.files);
            p.at += n;
            let done = p.at >= p.data.len();
            inbox.bytes -= n;
            if done {
                inbox.packets.pop_front();
            }
        }
        if carried || n == 0 {
            break;
        }
    }
    out.whole = out.len;
    Ok(out)
}

fn packet(inbox: &mut Inbox, dst: &mut IoDst<'_>, peek: bool) -> Result<Received> {
    let Some(p) = inbox.packets.front() else { return Err(Errno::EAGAIN) };
    let n = if p.data.is_empty() || dst.left() == 0 { 0 } else { dst.put(&p.data)? };
    let mut out = Received { len: n, whole: p.data.len(), files: Vec::new(), cred: p.cred, from: Some(p.from.clone()) };
    if peek {
        out.files.extend(p.files.iter().cloned());
    } else if let Some(p) = inbox.packets.pop_front() {
        inbox.bytes -= p.data.len();
        out.files = p.files;
    }
    Ok(out)
}

impl Socket {
    /// Nobody has it open any more.
    pub fn release(&self) {
        let unread = self.endpoint.refuse(true);
        let state = self.state.lock();
        if let Some(name) = state.name.as_ref().filter(|n| n.first() == Some(&0))
            && names::lookup_abstract(name).is_ok_and(|e| Arc::ptr_eq(&e, &self.endpoint))
        {
            names::release(name);
        }
        if let Some(peer) = &state.peer
            && self.kind != Kind::Datagram
        {
            peer.end_of_data(unread);
        }
    }
}

/// An unconnected socket.
pub fn socket(kind: Kind, core: Core) -> Arc<Socket> {
    Socket::new(kind, core)
}

/// Two connected sockets.
pub fn pair(kind: Kind, cores: [Core; 2], ctx: &OpCtx<'_>) -> [Arc<Socket>; 2] {
    let both = cores.map(|core| Socket::new(kind, core));
    for (a, b) in [(0, 1), (1, 0)] {
        let mut state = both[a].state.lock();
        state.peer = Some(both[b].endpoint.clone());
        state.peer_cred = cred(ctx);
    }
    both
}
