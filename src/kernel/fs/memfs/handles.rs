//! Host descriptors of files below an overlay: kept open for a while after the last guest closed them.
//!
//! An open description keeps its file's handle, as natively. Beyond that the last few handles stay, so
//! that a file that is opened again costs no host call. Which one goes is second chance's choice.

use crate::abi::{Errno, Result};
use crate::host::HostFd;
use crate::sync::{Level, Mutex};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Handles that are kept at most.
const KEPT: usize = 128;

/// A file of the host, open for reading.
pub struct Handle {
    fd: HostFd,
    /// Opened by a guest since the hand came by.
    used: AtomicBool,
}

impl Handle {
    /// Its descriptor's number, for a gate call.
    pub fn raw(&self) -> i32 {
        self.fd.raw()
    }

    /// A guest opens it once more.
    pub fn touch(&self) {
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }
}

struct Ring {
    kept: [Option<Arc<Handle>>; KEPT],
    hand: usize,
}

static RING: Mutex<Ring> = Mutex::new(Level::Leaf, Ring { kept: [const { None }; KEPT], hand: 0 });

/// A handle for `fd`, which stays open for a while.
pub fn keep(fd: HostFd) -> Arc<Handle> {
    let handle = Arc::new(Handle { fd, used: AtomicBool::new(false) });
    let mut ring = RING.lock();
    let at = ring.free();
    let gone = ring.kept[at].replace(handle.clone());
    drop(ring);
    drop(gone);
    handle
}

impl Ring {
    /// The place for the next handle.
    fn free(&mut self) -> usize {
        loop {
            let at = self.hand;
            self.hand = (at + 1) % KEPT;
            match &self.kept[at] {
                Some(h) if h.used.swap(false, Relaxed) => {}
                _ => return at,
            }
        }
    }

    fn take(&mut self) -> Option<Arc<Handle>> {
        self.kept.iter_mut().find_map(Option::take)
    }
}

/// Opens by `open`; where the host has no descriptor left, once more without those that are only kept.
///
/// # Errors
/// What `open` says.
pub fn with_room(open: impl Fn() -> Result<HostFd>) -> Result<HostFd> {
    match open() {
        Err(Errno::EMFILE | Errno::ENFILE) => {
            loop {
                let one = RING.lock().take();
                if one.is_none() {
                    break;
                }
            }
            open()
        }
        other => other,
    }
}
