//! A page source of few runs.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Mutex;

/// Bytes of a run.
const RUN: usize = 64 << 10;
/// How many there are.
const RUNS: usize = 4;

/// See the kernel's `arena::pages::Pages`. It is asked under a depot's lock only, so that `loom` need not know of it.
pub struct Pages {
    base: u64,
    taken: Mutex<[bool; RUNS]>,
    words: Box<[std::cell::UnsafeCell<u32>]>,
    /// There is none: each class has runs of its own from the start.
    pub nursery: Nursery,
}

// SAFETY: the words of a run are used by whoever has it, under the lock of its class.
unsafe impl Sync for Pages {}
// SAFETY: as above.
unsafe impl Send for Pages {}

/// See the kernel's `arena::nursery`.
pub struct Nursery;

impl Nursery {
    /// None.
    pub fn piece(&self, _: usize, _: usize, _: impl FnOnce() -> usize) -> Option<(usize, usize)> {
        None
    }

    /// None is.
    pub fn is(&self, _: u64) -> bool {
        false
    }
}

const fn region() -> Layout {
    match Layout::from_size_align(RUN * RUNS, RUN) {
        Ok(layout) => layout,
        Err(_) => panic!("a layout"),
    }
}

impl Default for Pages {
    fn default() -> Self {
        // SAFETY: not empty.
        let base = unsafe { alloc_zeroed(region()) } as u64;
        assert_ne!(base, 0, "memory");
        let words = (0..RUNS).map(|_| std::cell::UnsafeCell::new(0)).collect();
        Pages { base, taken: Mutex::new([false; RUNS]), words, nursery: Nursery }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: made of this layout, and no block is used any more.
        unsafe { dealloc(self.base as *mut u8, region()) };
    }
}

impl Pages {
    /// A run, 0 if there is none.
    pub fn alloc(&self, _: usize, _: bool) -> u64 {
        let mut taken = self.taken.lock().expect("no panic");
        let Some(at) = taken.iter().position(|&taken| !taken) else { return 0 };
        taken[at] = true;
        self.base + (at * RUN) as u64
    }

    /// As [`Pages::alloc`]: nothing is brought in here.
    pub fn alloc_touched(&self, order: usize) -> u64 {
        self.alloc(order, true)
    }

    /// Takes a run back.
    pub fn free(&self, run: u64, _: usize) {
        let at = self.place(run);
        let was = std::mem::replace(&mut self.taken.lock().expect("no panic")[at], false);
        assert!(was, "a run is freed once");
    }

    /// The host has no say here.
    pub fn give_back(&self, _: u64, _: usize) {}

    /// The word of a run's first page.
    pub fn owner_word(&self, run: u64) -> *mut u32 {
        self.words[self.place(run)].get()
    }

    /// How many runs are taken.
    pub fn taken(&self) -> usize {
        self.taken.lock().expect("no panic").iter().filter(|&&taken| taken).count()
    }

    fn place(&self, run: u64) -> usize {
        (run - self.base) as usize / RUN
    }
}
