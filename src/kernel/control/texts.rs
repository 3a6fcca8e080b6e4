//! Has copies of code made (`mm::text`): the supervisor is asked a little after sites were learned, and
//! less and less often.

use super::push_event;
use crate::abi::control::Event;
use crate::mm::text;
use crate::time::{self, timer};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How long sites are collected before the first copies are made, ns.
const FIRST: u64 = 5_000_000;
/// The same in the long run, ns.
const LAST: u64 = 1_000_000_000;

static DELAY: AtomicU64 = AtomicU64::new(FIRST);

struct Build;

impl timer::Target for Build {
    fn expired(&self) {
        let jobs = text::take_jobs();
        if !jobs.is_empty() {
            DELAY.store((DELAY.load(Relaxed) * 2).min(LAST), Relaxed);
        }
        for job in jobs {
            push_event(Event::BuildText { key: job.key, fd: job.fd, sites: job.sites, kept: job.kept });
        }
    }
}

/// Registers with the room that learns (at boot).
pub fn register() {
    text::set_checked(|key, sum| push_event(Event::TextChecked { key: *key, sum }));
    text::set_wanted(|| {
        timer::arm(time::deadline_in(DELAY.load(Relaxed)), Arc::new(Build));
    });
}
