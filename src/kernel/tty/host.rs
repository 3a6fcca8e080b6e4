//! Terminals of the host that were handed in.

use crate::sync::{Level, Mutex};
use crate::task::session::{Job, Terminal};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A terminal whose line discipline is the host's.
pub struct HostTerminal {
    /// The host's device number.
    pub host_device: u64,
    /// Of the node that it has in the sandbox.
    device: AtomicU64,
    job: Job,
}

impl HostTerminal {
    /// Its node in the sandbox has this device number.
    pub fn set_device(&self, device: u64) {
        self.device.store(device, Relaxed);
    }
}

impl Terminal for HostTerminal {
    fn device(&self) -> u64 {
        self.device.load(Relaxed)
    }
    fn job(&self) -> &Job {
        &self.job
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Those in use, in the order in which they were handed in.
static TERMINALS: Mutex<Vec<Weak<HostTerminal>>> = Mutex::new(Level::Leaf, Vec::new());

/// The terminal that has this device number on the host, and on which descriptors of the host share one session.
pub fn of_device(host_device: u64) -> Arc<HostTerminal> {
    let fresh = Arc::new(HostTerminal { host_device, device: AtomicU64::new(host_device), job: Job::default() });
    let mut all = TERMINALS.lock();
    let known = all.iter().filter_map(Weak::upgrade).find(|t| t.host_device == host_device);
    if let Some(known) = known {
        drop(all);
        return known;
    }
    all.retain(|t| t.strong_count() > 0);
    all.push(Arc::downgrade(&fresh));
    fresh
}

/// The foreground process group of the terminal that was handed in first and controls a session: whom the person at
/// the launcher's terminal means.
pub fn first_foreground() -> Option<u32> {
    let all: Vec<_> = TERMINALS.lock().iter().filter_map(Weak::upgrade).collect();
    all.iter().find_map(|t| t.job.foreground()).map(|p| p.number())
}
