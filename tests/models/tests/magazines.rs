//! Magazines and depots: no block is given out twice, and none is lost.

use drupe_models::arena::pages::Pages;
use drupe_models::arena::slab::{CLASSES, Depot, Magazines};
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// The class of the largest blocks: four of them make a run, and each is a chain of its own.
const CLASS: usize = CLASSES.len() - 1;
const PER_RUN: usize = (64 << 10) / CLASSES[CLASS];

struct Heap {
    depots: [Depot; CLASSES.len()],
    pages: Pages,
    /// Blocks that somebody has. `loom` need not know of it: it only looks.
    live: Mutex<BTreeSet<usize>>,
}

impl Heap {
    fn new() -> Arc<Heap> {
        let depots = std::array::from_fn(|_| Depot::new());
        Arc::new(Heap { depots, pages: Pages::default(), live: Mutex::new(BTreeSet::new()) })
    }

    fn alloc(&self, m: &mut Magazines) -> usize {
        let block = m.alloc(CLASS, &self.depots[CLASS], &self.pages) as usize;
        assert_ne!(block, 0, "there is memory");
        assert!(self.live.lock().expect("no panic").insert(block), "given out twice");
        block
    }

    fn free(&self, m: &mut Magazines, block: usize) {
        assert!(self.live.lock().expect("no panic").remove(&block));
        // SAFETY: a block of this class that nobody uses.
        unsafe { m.free(CLASS, block as *mut u8, &self.depots[CLASS], &self.pages) };
    }
}

fn empty() -> Magazines {
    // SAFETY: zeroes are empty ones.
    unsafe { std::mem::zeroed() }
}

fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

#[test]
fn blocks_go_from_thread_to_thread() {
    model(|| {
        let heap = Heap::new();
        let mut own = empty();
        let given = heap.alloc(&mut own);
        let theirs = heap.clone();
        let other = thread::spawn(move || {
            let mut m = empty();
            // More than a magazine holds, so that chains go to the depot.
            theirs.free(&mut m, given);
            let blocks = [theirs.alloc(&mut m), theirs.alloc(&mut m), theirs.alloc(&mut m)];
            blocks.into_iter().for_each(|b| theirs.free(&mut m, b));
            m.drain(&theirs.depots, &theirs.pages);
        });
        let blocks = [heap.alloc(&mut own), heap.alloc(&mut own), heap.alloc(&mut own)];
        blocks.into_iter().for_each(|b| heap.free(&mut own, b));
        other.join().expect("no panic");
        own.drain(&heap.depots, &heap.pages);
        assert_eq!(heap.depots[CLASS].out(CLASS), 0, "all are back");
        // Every block can be had again without another run.
        let runs = heap.pages.taken();
        let all: Vec<usize> = (0..runs * PER_RUN).map(|_| heap.alloc(&mut own)).collect();
        assert_eq!(heap.pages.taken(), runs, "none was lost");
        drop(all);
    });
}

#[test]
fn whole_runs_go_back_while_others_allocate() {
    model(|| {
        let heap = Heap::new();
        let mut own = empty();
        let all: Vec<usize> = (0..PER_RUN).map(|_| heap.alloc(&mut own)).collect();
        all.into_iter().for_each(|b| heap.free(&mut own, b));
        own.drain(&heap.depots, &heap.pages);
        let theirs = heap.clone();
        let other = thread::spawn(move || {
            let mut m = empty();
            let block = theirs.alloc(&mut m);
            theirs.free(&mut m, block);
            m.drain(&theirs.depots, &theirs.pages);
        });
        heap.depots[CLASS].scavenge(CLASS, &heap.pages);
        other.join().expect("no panic");
        heap.depots[CLASS].scavenge(CLASS, &heap.pages);
        assert_eq!(heap.depots[CLASS].out(CLASS), 0);
    });
}
