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

use crate::abi::{Errno, Result};
use crate::cred::cap;
use crate::cred::user::{User, uncharge};
use crate::sync::{Kind, Knob, Level, Mutex, WaitQueue};
use crate::vfs::OpCtx;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use ring::Ring;

/// Default capacity, pages.
const SLOTS: usize = 16;
/// What a pipe gets when its user has too many (`PIPE_MIN_DEF_BUFFERS`).
const SLOTS_FEW: usize = 2;
/// Largest capacity that an ordinary user may ask for, bytes (`/proc/sys/fs/pipe-max-size`).
pub static SIZE_MAX: Knob = Knob::new(1 << 20, PAGE as u64, 1 << 31);
/// Pages of pipes from which on an ordinary user's new ones are small
/// (`/proc/sys/fs/pipe-user-pages-soft`).
pub static USER_PAGES_SOFT: Knob = Knob::new(16384, 0, u64::MAX);
/// Pages of pipes that an ordinary user may have (`/proc/sys/fs/pipe-user-pages-hard`).
pub static USER_PAGES_HARD: Knob = Knob::new(0, 0, u64::MAX);

/// Whether so many pages are more than a bound, of which 0 is none.
fn over(pages: u64, bound: &Knob) -> bool {
    let bound = bound.get();
    bound != 0 && pages > bound
}

/// Sets [`SIZE_MAX`], to a power of two of at least a page.
///
/// # Errors
/// `EINVAL` for 0 and what cannot be rounded.
pub fn set_size_max(bytes: u64) -> Result {
    if bytes == 0 || bytes > 1 << 31 {
        return Err(Errno::EINVAL);
    }
    SIZE_MAX.set(bytes.max(PAGE as u64).next_power_of_two())
}

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
    /// # Errors
    /// `ENFILE` where its user has more than the hard bound allows.
    fn new(ctx: &OpCtx<'_>) -> Result<Arc<Pipe>> {
        let user = User::of(ctx.cred.uid);
        let had = user.pipe_pages.fetch_add(SLOTS as u64, Relaxed);
        let few = over(had + SLOTS as u64, &USER_PAGES_SOFT) && !privileged(ctx);
        if few {
            uncharge(&user.pipe_pages, (SLOTS - SLOTS_FEW) as u64);
        }
        let slots = if few { SLOTS_FEW } else { SLOTS };
        if over(had + slots as u64, &USER_PAGES_HARD) && !privileged(ctx) {
            uncharge(&user.pipe_pages, slots as u64);
            return Err(Errno::ENFILE);
        }
        Ok(Arc::new(Pipe {
            ring: Mutex::mended(Level::FileData, Ring::new(slots)),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            opened: [const { AtomicU32::new(0) }; 2],
            queue: WaitQueue::of(Kind::Pipe),
            user,
        }))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        uncharge(&self.user.pipe_pages, self.ring.lock().slots() as u64);
    }
}
