//! Pipes and FIFOs (`pipe(7)`).
//!
//! A pipe is a queue of buffers of at most a page each, as Linux's is: how much fits depends on how it is
//! written. Data is copied from and to guests while nothing is locked: a writer fills a page of its own and
//! then appends it, a reader takes what it wants out and then hands it over. A page exists only while it
//! holds data, but for one that is kept.

mod ends;
mod ring;
mod splice;

pub use ends::{PipeEnd, open_fifo, pipe};
pub use ring::{Buf, PAGE, Page};

use crate::cred::cap;
use crate::cred::user::{User, uncharge};
use crate::sync::{Kind, Level, Mutex, WaitQueue};
use crate::vfs::OpCtx;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use ring::Ring;

/// Default capacity, pages.
const SLOTS: usize = 16;
/// What a pipe gets when its user has too many (`PIPE_MIN_DEF_BUFFERS`).
const SLOTS_FEW: usize = 2;
/// Largest capacity that an ordinary user may ask for, bytes (`/proc/sys/fs/pipe-max-size`).
pub const SIZE_MAX: usize = 1 << 20;
/// Pages of pipes from which on an ordinary user's new ones are small
/// (`/proc/sys/fs/pipe-user-pages-soft`).
pub const USER_PAGES_SOFT: u64 = 16384;

/// The object between the ends.
pub struct Pipe {
    ring: Mutex<Ring>,
    readers: AtomicU32,
    writers: AtomicU32,
    /// How often each side was opened, for FIFOs that wait for the other one.
    opened: [AtomicU32; 2],
    queue: WaitQueue,
    user: Arc<User>,
}

/// Whether the limits of ordinary users do not hold for `ctx`.
fn privileged(ctx: &OpCtx<'_>) -> bool {
    ctx.cred.capable(cap::SYS_RESOURCE) || ctx.cred.capable(cap::SYS_ADMIN)
}

impl Pipe {
    fn new(ctx: &OpCtx<'_>) -> Arc<Pipe> {
        let user = User::of(ctx.cred.uid);
        let had = user.pipe_pages.fetch_add(SLOTS as u64, Relaxed);
        let few = had + SLOTS as u64 > USER_PAGES_SOFT && !privileged(ctx);
        if few {
            uncharge(&user.pipe_pages, (SLOTS - SLOTS_FEW) as u64);
        }
        let slots = if few { SLOTS_FEW } else { SLOTS };
        Arc::new(Pipe {
            ring: Mutex::mended(Level::FileData, Ring::new(slots)),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            opened: [const { AtomicU32::new(0) }; 2],
            queue: WaitQueue::of(Kind::Pipe),
            user,
        })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        uncharge(&self.user.pipe_pages, self.ring.lock().slots() as u64);
    }
}
