//! Files in flight (`SCM_RIGHTS`): how many each user has sent, and the sockets among them that only
//! each other's queues hold.
//!
//! A socket in a queue keeps its open file alive, and that keeps what lies in its own queue: a circle
//! of them is never dropped by counting. So files in flight are counted per socket, and where all of an open
//! file's references are such ones it is a *candidate*. A search over the candidates' queues takes off what they
//! hold of each other; those that are still held from elsewhere are alive, and all that they reach. The queues of the
//! rest lose their files. (`net/unix/garbage.c` is what programs see.) The connections that wait at a
//! listening socket count as parts of it.
//!
//! The search runs when sockets are sent and closed, but not before as much was done as the last
//! search cost: so each send pays a bounded share.
//!
//! Order of locks: [`FLIGHT`], then a socket's state. Whatever takes files out of a queue drops or lands
//! them after the socket's lock is free.

use super::sock::{Inner, Sock};
use crate::abi::{Errno, Result};
use crate::cred::cap;
use crate::net::socket;
use crate::sync::deferred::drop_later;
use crate::sync::{Level, Mutex};
use crate::vfs::{OpCtx, OpenFile};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A socket in flight.
struct Vertex {
    sock: Arc<Sock>,
    file: Weak<OpenFile>,
    /// How many references of its open file are in flight.
    count: usize,
}

struct Flight {
    /// Files in flight per user, sockets or not.
    users: BTreeMap<u32, u64>,
    /// Sockets in flight by address of their object.
    sockets: BTreeMap<usize, Vertex>,
    /// Steps that the last search took, and what was done since.
    cost: usize,
    done: usize,
}

/// Whether there are sockets in flight: without one there is nothing to search.
static ANY: AtomicBool = AtomicBool::new(false);

static FLIGHT: Mutex<Flight> =
    Mutex::new(Level::Flight, Flight { users: BTreeMap::new(), sockets: BTreeMap::new(), cost: 0, done: 0 });

/// Steps of a search that one send or close pays for.
const SHARE: usize = 64;

/// The local socket in an open file.
fn sock_in(file: &OpenFile) -> Option<&Sock> {
    let ops: &dyn Any = &**socket::of(file).ok()?;
    ops.downcast_ref()
}

fn key(sock: &Sock) -> usize {
    core::ptr::from_ref(sock) as usize
}

/// Files in flight together.
pub(super) struct InFlight(Box<Sent>);

struct Sent {
    files: Vec<Arc<OpenFile>>,
    user: u32,
}

impl InFlight {
    /// Sends files off. `limit`: the sender's `RLIMIT_NOFILE`.
    ///
    /// # Errors
    /// `ETOOMANYREFS` when the user has more than that in flight already and no privilege.
    pub fn new(files: Vec<Arc<OpenFile>>, ctx: &OpCtx<'_>, limit: u64) -> Result<InFlight> {
        let user = ctx.cred.uid;
        let privileged = ctx.cred.capable(cap::SYS_RESOURCE) || ctx.cred.capable(cap::SYS_ADMIN);
        let mut flight = FLIGHT.lock();
        let count = flight.users.get(&user).copied().unwrap_or(0);
        if count > limit && !privileged {
            drop(flight);
            return Err(Errno::ETOOMANYREFS);
        }
        flight.users.insert(user, count + files.len() as u64);
        for file in &files {
            flight.depart(file);
        }
        drop(flight);
        Ok(InFlight(Box::new(Sent { files, user })))
    }

    fn unregister(&self) {
        let mut gone = Vec::new();
        let mut flight = FLIGHT.lock();
        let left = flight.users.get(&self.0.user).copied().unwrap_or(0).saturating_sub(self.0.files.len() as u64);
        if left == 0 {
            flight.users.remove(&self.0.user);
        } else {
            flight.users.insert(self.0.user, left);
        }
        for file in &self.0.files {
            gone.extend(flight.arrive(file));
        }
        drop(flight);
    }

    /// The files, no longer in flight.
    pub fn land(mut self) -> Vec<Arc<OpenFile>> {
        self.unregister();
        core::mem::take(&mut self.0.files)
    }

    /// Further references to the files: no search takes them for unreachable meanwhile.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn copies(&self, out: &mut Vec<Arc<OpenFile>>) -> Result {
        out.try_reserve(self.0.files.len()).map_err(|_| Errno::ENOMEM)?;
        out.extend(self.0.files.iter().cloned());
        Ok(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.files.is_empty() {
            return;
        }
        self.unregister();
        // A socket among them drops its own queue: as deep as a guest made the chain.
        drop_later(core::mem::take(&mut self.0.files));
    }
}

/// Runs `f` while no search does: for whoever looks into a queue without taking anything out.
pub(super) fn undisturbed<R>(f: impl FnOnce() -> R) -> R {
    let _flight = FLIGHT.lock();
    f()
}

/// A socket was sent or closed: collects what nobody can reach any more, now and then.
pub(super) fn collect() {
    if !ANY.load(Relaxed) {
        return;
    }
    let garbage = {
        let mut flight = FLIGHT.lock();
        if flight.sockets.is_empty() {
            ANY.store(false, Relaxed);
            return;
        }
        flight.done += SHARE;
        if flight.done < flight.cost {
            return;
        }
        flight.done = 0;
        flight.search()
    };
    drop(garbage);
}

/// A candidate: see the module.
struct Candidate {
    key: usize,
    sock: Arc<Sock>,
    /// References that were not found in candidates' queues.
    elsewhere: usize,
    alive: bool,
}

impl Flight {
    fn depart(&mut self, file: &Arc<OpenFile>) {
        let Some(sock) = sock_in(file) else { return };
        let Some(this) = sock.me.upgrade() else { return };
        ANY.store(true, Relaxed);
        let make = || Vertex { sock: this, file: Arc::downgrade(file), count: 0 };
        self.sockets.entry(key(sock)).or_insert_with(make).count += 1;
    }

    /// Counts a reference as no longer in flight; what is to be dropped without the lock.
    fn arrive(&mut self, file: &Arc<OpenFile>) -> Option<Vertex> {
        let key = key(sock_in(file)?);
        let vertex = self.sockets.get_mut(&key)?;
        vertex.count -= 1;
        if vertex.count == 0 { self.sockets.remove(&key) } else { None }
    }

    /// Takes the files out of the queues of sockets that only such queues hold.
    fn search(&mut self) -> Vec<InFlight> {
        let mut garbage = Vec::new();
        let mut steps = self.sockets.len();
        let mut all: Vec<Candidate> = Vec::new();
        let only_in_flight = |v: &Vertex| v.file.strong_count() == v.count;
        if all.try_reserve_exact(self.sockets.values().filter(|v| only_in_flight(v)).count()).is_err() {
            return garbage;
        }
        for (&key, v) in &self.sockets {
            if only_in_flight(v) && all.len() < all.capacity() {
                all.push(Candidate { key, sock: v.sock.clone(), elsewhere: v.count, alive: false });
            }
        }
        for at in 0..all.len() {
            let sock = all[at].sock.clone();
            steps += each_socket(&sock, &mut |key| {
                if let Ok(found) = all.binary_search_by_key(&key, |c| c.key) {
                    all[found].elsewhere = all[found].elsewhere.saturating_sub(1);
                }
            });
        }
        let mut todo: Vec<usize> = Vec::new();
        if todo.try_reserve_exact(all.len()).is_err() {
            return garbage;
        }
        for (at, c) in all.iter_mut().enumerate() {
            if c.elsewhere > 0 {
                c.alive = true;
                todo.push(at);
            }
        }
        while let Some(at) = todo.pop() {
            let sock = all[at].sock.clone();
            steps += each_socket(&sock, &mut |key| {
                if let Ok(found) = all.binary_search_by_key(&key, |c| c.key)
                    && !core::mem::replace(&mut all[found].alive, true)
                {
                    todo.push(found);
                }
            });
        }
        for c in all.iter().filter(|c| !c.alive) {
            take_files(&c.sock, &mut garbage);
        }
        self.cost = steps;
        garbage
    }
}

/// Calls `f` for each socket whose file lies in the queue of `sock` or of a connection that waits at it;
/// returns how many packets were looked at.
fn each_socket(sock: &Sock, f: &mut dyn FnMut(usize)) -> usize {
    let mut steps = 1;
    let mut look = |inner: &Inner| {
        if inner.carrying == 0 {
            return;
        }
        for packet in &inner.packets {
            steps += 1;
            let files = packet.files.iter().flat_map(|i| &i.0.files);
            files.filter_map(|file| sock_in(file)).for_each(|s| f(key(s)));
        }
    };
    let inner = sock.inner.lock();
    look(&inner);
    for waiting in &inner.incoming {
        look(&waiting.inner.lock());
    }
    steps
}

/// Takes the files out of the packets in the queue of `sock` and of connections that wait at it.
fn take_files(sock: &Sock, out: &mut Vec<InFlight>) {
    let take = |inner: &mut Inner, out: &mut Vec<InFlight>| {
        if inner.carrying == 0 || out.try_reserve(inner.carrying).is_err() {
            return;
        }
        inner.carrying = 0;
        out.extend(inner.packets.iter_mut().filter_map(|p| p.files.take()));
    };
    let mut inner = sock.inner.lock();
    take(&mut inner, out);
    for waiting in &inner.incoming {
        take(&mut waiting.inner.lock(), out);
    }
}
