//! A network's outward port: where connections between the host and the sandbox's own network pass.
//!
//! A *bridge* is a connection of the host and one of the sandbox, whose data the supervisor passes on from one to the
//! other ([`bridge`]). Those that come from the host come by ports that were *published* ([`publish`]). Those that go
//! there are made by the porter, a process outside of the jail, which decides where to ([`egress`]).
//!
//! All of it runs in the supervisor, in turns: whoever changes what one of these waits for enters it in a list and rings
//! ([`Work`]). The sandbox has descriptors of connections that exist, and makes none.

mod bridge;
mod egress;
mod publish;

pub use egress::{ask, is_open};

use crate::abi::Result;
use crate::abi::control::Config;
use crate::cred::Cred;
use crate::host::panic;
use crate::net::socket::SockCtx;
use crate::sync::{Events, Level, Mutex, Notify, Polled, WaitQueue};
use crate::vfs::OpCtx;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use hashbrown::{HashMap, HashSet};

/// Something that the supervisor does when what it waits for may have come.
trait Work: Send + Sync {
    /// Does what can be done without waiting; whether there is more to do at once.
    fn run(&self, means: &mut Means) -> bool;
}

/// What work is done with.
struct Means {
    /// As whom: root.
    cred: Cred,
    /// For data on its way.
    scratch: Vec<u8>,
}

impl Means {
    fn ctx(&self) -> SockCtx<'_> {
        let op = OpCtx { cred: &self.cred, tgid: 0, tid: 0, fsize_limit: u64::MAX, umask: 0 };
        SockCtx { op, fs: None }
    }
}

/// Bytes that are passed on at a time.
const SCRATCH: usize = 64 << 10;

/// All work, by its number.
static ALL: Mutex<Option<HashMap<u64, Arc<dyn Work>>>> = Mutex::new(Level::Leaf, None);
/// What is to be run.
static DUE: Mutex<Option<HashSet<u64>>> = Mutex::new(Level::Leaf, None);
static NEXT: AtomicU64 = AtomicU64::new(1);
/// Whether there ever was any.
static USED: AtomicBool = AtomicBool::new(false);

/// Enters work that is announced in its list.
struct Bell;

impl Notify for Bell {
    fn notify(&self, _events: Events, key: u64) -> bool {
        due(key);
        true
    }
}

static BELL: once_cell::race::OnceBox<Arc<dyn Notify>> = once_cell::race::OnceBox::new();

fn bell() -> &'static Arc<dyn Notify> {
    BELL.get_or_init(|| alloc::boxed::Box::new(Arc::new(Bell)))
}

/// Has work run in the supervisor's next turn.
fn due(key: u64) {
    let mut list = DUE.lock();
    let list = list.get_or_insert_with(HashSet::new);
    let first = list.is_empty();
    if list.insert(key) && first {
        panic::ring();
    }
}

fn add(key: u64, work: Arc<dyn Work>) {
    ALL.lock().get_or_insert_with(HashMap::new).insert(key, work);
    due(key);
}

fn remove(key: u64) {
    let gone = ALL.lock().as_mut().and_then(|all| all.remove(&key));
    // Its drop takes locks.
    drop(gone);
}

fn new_key() -> u64 {
    USED.store(true, Relaxed);
    NEXT.fetch_add(1, Relaxed)
}

/// Registrations with a queue, taken back with this.
struct Watch<Q: AsRef<WaitQueue>> {
    of: Q,
    id: u64,
}

impl<Q: AsRef<WaitQueue>> Watch<Q> {
    fn new(of: Q, key: u64) -> Watch<Q> {
        let all = Events::IN | Events::OUT | Events::ERR | Events::HUP | Events::RDHUP;
        let id = of.as_ref().add_callback(all, false, bell(), key);
        Watch { of, id }
    }
}

impl<Q: AsRef<WaitQueue>> Drop for Watch<Q> {
    fn drop(&mut self) {
        self.of.as_ref().remove(self.id);
    }
}

/// A polled descriptor's queue.
struct OfHost(Arc<Polled>);

impl AsRef<WaitQueue> for OfHost {
    fn as_ref(&self) -> &WaitQueue {
        self.0.queue()
    }
}

/// A socket's queue.
struct OfSocket(Arc<dyn crate::net::socket::SocketOps>);

impl AsRef<WaitQueue> for OfSocket {
    fn as_ref(&self) -> &WaitQueue {
        self.0.queue()
    }
}

/// Does what is due; of the supervisor, in each of its turns.
pub fn run() {
    if !USED.load(Relaxed) {
        return;
    }
    let keys = match DUE.lock().as_mut() {
        Some(list) if !list.is_empty() => core::mem::take(list),
        _ => return,
    };
    let mut means = Means { cred: Cred::new(0, 0, Vec::new()), scratch: Vec::new() };
    if means.scratch.try_reserve_exact(SCRATCH).is_err() {
        keys.into_iter().for_each(due);
        return;
    }
    means.scratch.resize(SCRATCH, 0);
    for key in keys {
        let work = ALL.lock().as_ref().and_then(|all| all.get(&key).cloned());
        if work.is_some_and(|work| work.run(&mut means)) {
            due(key);
        }
    }
}

/// Opens what the settings ask for, of the first network namespace.
///
/// # Errors
/// `ENOMEM`.
pub fn init(config: &Config) -> Result {
    for port in &config.publish {
        publish::open(port)?;
    }
    if config.porter >= 0 {
        egress::open(config.porter);
    }
    Ok(())
}
