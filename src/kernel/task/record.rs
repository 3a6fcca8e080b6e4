//! What happens in the sandbox, kept for those who ask from outside (`drupe events`).
//!
//! Nothing is kept unless the settings ask for it. The oldest record goes when there are too many: a guest that does
//! nothing but start programs takes no more than a fixed piece of the heap.

use crate::abi::control::{Record, Recorded};
use crate::sync::{Level, Mutex};
use crate::time;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use once_cell::race::OnceBox;

/// How many are kept.
const KEPT: usize = 4096;
/// How many are handed out at once.
const AT_ONCE: usize = 512;
/// Bytes of a path that are kept.
const PATH: usize = 256;

struct Ring {
    records: VecDeque<Record>,
    /// The number of the oldest one.
    first: u64,
    /// Somebody waits for the next one.
    tell: bool,
}

static RING: Mutex<Ring> = Mutex::new(Level::Leaf, Ring { records: VecDeque::new(), first: 0, tell: false });
static ON: AtomicBool = AtomicBool::new(false);
static NEWS: OnceBox<fn()> = OnceBox::new();

impl Ring {
    /// Keeps a record; whether somebody is to be told.
    fn push(&mut self, record: Record) -> bool {
        if self.records.len() == KEPT {
            self.records.pop_front();
            self.first += 1;
        }
        self.records.push_back(record);
        core::mem::take(&mut self.tell)
    }

    fn from(&mut self, from: u64, tell: bool) -> (u64, Vec<Record>) {
        let first = from.max(self.first);
        let skipped = usize::try_from(first - self.first).unwrap_or(usize::MAX);
        let list: Vec<Record> = self.records.iter().skip(skipped).take(AT_ONCE).cloned().collect();
        self.tell |= tell && list.is_empty();
        (first, list)
    }
}

/// Begins to keep records (at boot). `news` is called when there is one that somebody waits for.
pub fn begin(news: fn()) {
    let _ = NEWS.set(alloc::boxed::Box::new(news));
    ON.store(true, SeqCst);
}

/// Keeps what `what` says, where records are kept at all, and tells those who wait for it.
pub fn record(what: impl FnOnce() -> Recorded) {
    keep(what).tell();
}

/// Keeps what `what` says, where records are kept at all. Those who wait for it are told by [`Told::tell`]: by a
/// host call, so without locks.
pub fn keep(what: impl FnOnce() -> Recorded) -> Told {
    if !ON.load(Relaxed) {
        return Told(false);
    }
    let record = Record { at: u64::try_from(time::now()).unwrap_or(0), what: what() };
    Told(RING.lock().push(record))
}

/// Whether somebody waits for a record that is kept.
#[must_use]
pub struct Told(bool);

impl Told {
    /// Tells him.
    pub fn tell(self) {
        if let (true, Some(news)) = (self.0, NEWS.get()) {
            news();
        }
    }
}

/// A process runs a new program.
pub fn exec(pid: u32, path: &[u8]) {
    record(|| Recorded::Exec { pid, path: path[..path.len().min(PATH)].to_vec() });
}

/// Records from this number on, as many as are handed out at once, and the number of the first. Where there are none
/// yet and `tell` is set, the next one is told of.
pub fn records(from: u64, tell: bool) -> (u64, Vec<Record>) {
    RING.lock().from(from, tell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_numbers_stay() {
        let mut ring = Ring { records: VecDeque::new(), first: 0, tell: false };
        let record = |pid| Record { at: 0, what: Recorded::Exit { pid, status: 0 } };
        assert_eq!(ring.from(0, true), (0, Vec::new()));
        assert!(ring.push(record(0)) && !ring.push(record(1)));
        for pid in 2..KEPT as u32 + 10 {
            ring.push(record(pid));
        }
        let (first, list) = ring.from(3, true);
        assert_eq!((first, list.len(), &list[0]), (10, AT_ONCE, &record(10)));
        // There was something: nobody waits.
        assert!(!ring.push(record(0)));
        let end = ring.first + ring.records.len() as u64;
        assert_eq!(ring.from(end, false), (end, Vec::new()));
        assert_eq!(ring.from(u64::MAX, false), (u64::MAX, Vec::new()));
    }
}
