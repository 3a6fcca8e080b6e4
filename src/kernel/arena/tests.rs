//! The allocator over an ordinary shared mapping.

use super::*;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::Mutex;
use std::thread;

const REGION: u64 = 64 << 20;

/// A heap over a mapping of its own, leaked.
fn heap(limit: u64) -> &'static Arena {
    let prot = crate::abi::linux::PROT_READ | crate::abi::linux::PROT_WRITE;
    let flags = crate::abi::linux::MAP_SHARED | crate::abi::linux::MAP_ANONYMOUS | crate::abi::linux::MAP_NORESERVE;
    // SAFETY: a fresh mapping.
    let at = unsafe {
        crate::arch::syscall(
            crate::abi::linux::__NR_mmap,
            [0, 2 * REGION, u64::from(prot), u64::from(flags), u64::MAX, 0],
        )
    };
    assert!(at > 0);
    let base = (at as u64).next_multiple_of(REGION);
    let arena = Box::leak(Box::new(Arena::new()));
    arena.open(base, REGION, limit);
    arena
}

/// Magazines belong to a thread: each test gets one of its own.
fn on_thread(f: impl FnOnce() + Send) {
    thread::scope(|s| s.spawn(f).join().expect("test body"));
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout")
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A live block, filled with a pattern that tells it from others.
struct Live(usize, Layout, u8);

impl Live {
    fn new(arena: &Arena, layout: Layout, tag: u8) -> Option<Live> {
        let p = arena.alloc(layout);
        if p.is_null() {
            return None;
        }
        assert_eq!(p as usize % layout.align(), 0, "{layout:?}");
        // SAFETY: the block is ours.
        unsafe { core::ptr::write_bytes(p, tag, layout.size()) };
        Some(Live(p as usize, layout, tag))
    }

    fn free(self, arena: &Arena) {
        // SAFETY: as long as nobody else got the same memory it holds the pattern.
        unsafe {
            let bytes = core::slice::from_raw_parts(self.0 as *const u8, self.1.size());
            assert!(bytes.iter().all(|&b| b == self.2), "overlap at {:#x} {:?}", self.0, self.1);
            arena.dealloc(self.0 as *mut u8, self.1);
        }
    }
}

fn random_layout(seed: &mut u64) -> Layout {
    let shift = random(seed) % 17;
    let size = (random(seed) % (1 << shift) + 1) as usize;
    layout(size, 1 << (random(seed) % 8))
}

#[test]
fn random_sizes_never_overlap() {
    on_thread(|| {
        let arena = heap(0);
        let mut seed = 88172645463325252;
        let mut live = Vec::new();
        for i in 0..60_000u64 {
            if live.len() < 400 || random(&mut seed).is_multiple_of(2) {
                live.extend(Live::new(arena, random_layout(&mut seed), i as u8));
            } else {
                let at = random(&mut seed) as usize % live.len();
                live.swap_remove(at).free(arena);
            }
            if live.len() > 800 {
                live.drain(..300).for_each(|b: Live| b.free(arena));
            }
        }
        live.into_iter().for_each(|b| b.free(arena));
        arena.scavenge();
        // What is left is what magazines hold and the runs that they come from.
        assert!(arena.stats().taken < 4 << 20, "{:?}", arena.stats());
    });
}

#[test]
fn drained_magazines_leave_nothing_taken() {
    on_thread(|| {
        let arena = heap(0);
        let before = arena.stats().taken;
        for size in [16, 100, 1000, 16384] {
            let all: Vec<Live> = (0..3000).filter_map(|i| Live::new(arena, layout(size, 1), i as u8)).collect();
            all.into_iter().for_each(|b| b.free(arena));
        }
        slab::own().expect("a slot").drain(&arena.depots, &arena.pages);
        arena.scavenge();
        // The piece of a run that was never handed out stays.
        let left = arena.stats().taken - before;
        assert!(left <= 4 * (64 << 10), "{left} bytes are left");
        Live::new(arena, layout(100, 1), 7).expect("memory").free(arena);
    });
}

#[test]
fn threads_hand_blocks_to_each_other() {
    let arena = heap(0);
    let shelf = Mutex::new(Vec::<Live>::new());
    let done = AtomicU64::new(0);
    thread::scope(|s| {
        for t in 0..6u64 {
            let (shelf, done) = (&shelf, &done);
            s.spawn(move || {
                let mut seed = 0x9e37_79b9_7f4a_7c15 ^ (t + 1);
                for i in 0..20_000u64 {
                    let block = Live::new(arena, random_layout(&mut seed), (t * 40 + i % 40) as u8);
                    let other = {
                        let mut shelf = shelf.lock().expect("shelf");
                        shelf.extend(block);
                        let at = random(&mut seed) as usize % shelf.len();
                        (shelf.len() > 200).then(|| shelf.swap_remove(at))
                    };
                    if let Some(b) = other {
                        b.free(arena);
                        done.fetch_add(1, SeqCst);
                    }
                    if i % 4096 == 0 {
                        arena.scavenge();
                    }
                }
            });
        }
    });
    assert!(done.load(SeqCst) > 100_000);
    for b in shelf.into_inner().expect("shelf") {
        b.free(arena);
    }
}

#[test]
fn free_runs_come_back() {
    on_thread(|| {
        let arena = heap(0);
        for &size in &[32usize, 100, 700, 4000] {
            let blocks: Vec<_> = (0..(16 << 20) / size).map(|i| Live::new(arena, layout(size, 8), i as u8)).collect();
            let high = arena.stats().taken;
            assert!(high >= 16 << 20);
            blocks.into_iter().flatten().for_each(|b| b.free(arena));
            arena.scavenge();
            assert!(arena.stats().taken < 1 << 20, "size {size}: {:?}", arena.stats());
        }
    });
}

#[test]
fn limit_refuses_large_then_keeps_a_reserve_for_small() {
    on_thread(|| {
        let arena = heap(16 << 20);
        let mut large = Vec::new();
        assert_eq!(arena.room(0), Ok(()));
        while let Some(b) = Live::new(arena, layout(1 << 20, 8), 1) {
            large.push(b);
        }
        assert!((10..16).contains(&large.len()), "{}", large.len());
        assert_eq!(arena.room(0), Err(Errno::ENOMEM));
        let small: Vec<_> = (0..1000).map(|_| Live::new(arena, layout(256, 8), 2).expect("reserve")).collect();
        small.into_iter().for_each(|b| b.free(arena));
        large.into_iter().for_each(|b| b.free(arena));
        assert_eq!(arena.room(1 << 20), Ok(()));
        assert!(arena.alloc(layout(1 << 40, 8)).is_null());
        assert!(arena.alloc(layout(usize::MAX / 2, 1)).is_null());
    });
}

#[test]
fn pressure_ends_when_small_objects_are_freed() {
    on_thread(|| {
        let arena = heap(16 << 20);
        let mut small = Vec::new();
        while arena.room(0).is_ok() {
            small.push(Live::new(arena, layout(200, 8), 3).expect("below the soft limit"));
        }
        small.into_iter().for_each(|b| b.free(arena));
        assert_eq!(arena.room(8 << 20), Ok(()), "{:?}", arena.stats());
    });
}

#[test]
fn large_frees_go_back_to_the_host() {
    on_thread(|| {
        let arena = heap(0);
        let p = arena.alloc(layout(8 << 20, 4096));
        // SAFETY: the block is ours, and then free: reading it is reading mapped memory.
        unsafe {
            core::ptr::write_bytes(p, 7, 8 << 20);
            arena.dealloc(p, layout(8 << 20, 4096));
            assert_eq!(p.add(4 << 20).read_volatile(), 0);
        }
        let q = arena.alloc(layout(8 << 20, 4096));
        assert_eq!(p, q);
    });
}

#[test]
#[ignore = "prints a figure"]
fn speed() {
    let arena = heap(0);
    for threads in [1, 2] {
        let start = std::time::Instant::now();
        thread::scope(|s| {
            for _ in 0..threads {
                s.spawn(|| {
                    for i in 0..2_000_000usize {
                        let l = layout(16 + i % 512, 8);
                        let p = arena.alloc(l);
                        // SAFETY: just allocated.
                        unsafe { arena.dealloc(p, l) };
                    }
                });
            }
        });
        println!("{threads} threads: {:.1} ns per pair", start.elapsed().as_nanos() as f64 / 2e6);
    }
}
