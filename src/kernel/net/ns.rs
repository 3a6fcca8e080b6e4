//! A network namespace (`network_namespaces(7)`): interfaces, ports, names and settings that its
//! sockets share.

use crate::sync::{Level, Mutex};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};

/// See the module.
pub struct NetNamespace {
    /// Whether the loopback interface is up.
    loopback: AtomicBool,
    /// What the next socket's cookie is (`SO_COOKIE`).
    next_cookie: AtomicU64,
    /// Its local sockets.
    pub unix: super::unix::LocalSockets,
    /// `/proc/sys/net/core/somaxconn`.
    somaxconn: AtomicI32,
}

/// The namespace of the first process.
static ROOT: Mutex<Option<Arc<NetNamespace>>> = Mutex::new(Level::Leaf, None);

impl NetNamespace {
    /// A namespace of its own, its loopback interface up or down.
    pub fn new(loopback: bool) -> Arc<NetNamespace> {
        Arc::new(NetNamespace {
            loopback: AtomicBool::new(loopback),
            next_cookie: AtomicU64::new(1),
            unix: super::unix::LocalSockets::new(),
            somaxconn: AtomicI32::new(4096),
        })
    }

    /// Whether the loopback interface is up.
    pub fn loopback_is_up(&self) -> bool {
        self.loopback.load(Relaxed)
    }

    /// Sets the loopback interface up or down.
    pub fn set_loopback(&self, up: bool) {
        self.loopback.store(up, Relaxed);
    }

    /// Longest backlog of connections that wait to be accepted.
    pub fn somaxconn(&self) -> i32 {
        self.somaxconn.load(Relaxed)
    }

    /// A number that no other socket of the namespace has.
    pub fn new_cookie(&self) -> u64 {
        self.next_cookie.fetch_add(1, Relaxed)
    }
}

/// The namespace of the running task.
pub fn current() -> Arc<NetNamespace> {
    ROOT.lock().get_or_insert_with(|| NetNamespace::new(true)).clone()
}
