//! The kernel heap: every `Box`, `Arc`, `Vec` and `static` collection of the kernel lives here, shared
//! by all host processes of the sandbox.
//!
//! Small sizes come from segregated free lists (one lock per class), carved from runs of pages; large
//! ones from power-of-two runs with a free list per order.

mod lock;

use crate::abi::layout::{HEAP, HEAP_MAX};
use crate::arch::slot::window;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use lock::RawLock;

/// Small classes, bytes. Every class is a multiple of 16.
const CLASSES: [usize; 18] =
    [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384];
/// Largest small size.
const SMALL_MAX: usize = CLASSES[CLASSES.len() - 1];
/// Small classes are carved from runs of this size.
const RUN: usize = 64 << 10;
/// Large runs: orders of 4 KiB pages.
const ORDERS: usize = 20;
/// Bytes that stay for small allocations when the limit is reached, so that kernel boxes do not
/// abort while callers still back out with ENOMEM.
const LAST_RESERVE: u64 = 4 << 20;

#[repr(C)]
struct Free {
    next: *mut Free,
}

struct Class {
    lock: RawLock,
    head: core::cell::UnsafeCell<*mut Free>,
    fresh: core::cell::UnsafeCell<(usize, usize)>,
}

// SAFETY: `head` and `fresh` are only touched under `lock`.
unsafe impl Sync for Class {}

impl Class {
    const fn new() -> Class {
        Class {
            lock: RawLock::new(),
            head: core::cell::UnsafeCell::new(null_mut()),
            fresh: core::cell::UnsafeCell::new((0, 0)),
        }
    }
}

static SMALL: [Class; CLASSES.len()] = [const { Class::new() }; CLASSES.len()];
static LARGE: [Class; ORDERS] = [const { Class::new() }; ORDERS];
static NEXT: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(0);
static IN_USE: AtomicU64 = AtomicU64::new(0);

/// Class of a size, by table look-up in steps of 16 bytes.
const fn class_table() -> [u8; SMALL_MAX / 16 + 1] {
    let mut table = [0u8; SMALL_MAX / 16 + 1];
    let mut i = 0;
    let mut class = 0;
    while i < table.len() {
        while CLASSES[class] < i * 16 {
            class += 1;
        }
        table[i] = class as u8;
        i += 1;
    }
    table
}
static CLASS_OF: [u8; SMALL_MAX / 16 + 1] = class_table();

/// The allocator that the image installs.
pub struct Heap;

/// Opens the heap with a limit in bytes (0: all of its address room).
pub fn init(limit: u64) {
    LIMIT.store(if limit == 0 { HEAP_MAX } else { limit.min(HEAP_MAX) }, Relaxed);
}

/// Bytes in use.
pub fn in_use() -> u64 {
    IN_USE.load(Relaxed)
}

/// Whether calls that make new objects should be refused (`ENOMEM`): the soft limit.
pub fn under_pressure() -> bool {
    NEXT.load(Relaxed) + 2 * LAST_RESERVE > LIMIT.load(Relaxed)
}

/// Takes `bytes` of fresh pages. `last` may use the reserve.
fn pages(bytes: usize, last: bool) -> usize {
    let limit = LIMIT.load(Relaxed).saturating_sub(if last { 0 } else { LAST_RESERVE });
    let taken = NEXT.fetch_update(Relaxed, Relaxed, |n| (n + bytes as u64 <= limit).then_some(n + bytes as u64));
    taken.map_or(0, |at| (window() + HEAP + at) as usize)
}

fn alloc_small(class: usize) -> *mut u8 {
    let size = CLASSES[class];
    let c = &SMALL[class];
    let _held = c.lock.lock();
    // SAFETY: under the class's lock; the list holds free blocks of this class.
    unsafe {
        let head = *c.head.get();
        if !head.is_null() {
            *c.head.get() = (*head).next;
            return head.cast();
        }
        let (at, end) = &mut *c.fresh.get();
        if *at + size > *end {
            let run = pages(RUN, true);
            if run == 0 {
                return null_mut();
            }
            (*at, *end) = (run, run + RUN);
        }
        let block = *at;
        *at += size;
        block as *mut u8
    }
}

fn order_of(size: usize) -> usize {
    (size.next_power_of_two().trailing_zeros() as usize).saturating_sub(12)
}

fn alloc_large(size: usize) -> *mut u8 {
    let order = order_of(size);
    if order >= ORDERS {
        return null_mut();
    }
    let c = &LARGE[order];
    let _held = c.lock.lock();
    // SAFETY: under the order's lock.
    unsafe {
        let head = *c.head.get();
        if !head.is_null() {
            *c.head.get() = (*head).next;
            return head.cast();
        }
    }
    pages(4096 << order, false) as *mut u8
}

fn push(c: &Class, block: *mut u8) {
    let _held = c.lock.lock();
    let block = block.cast::<Free>();
    // SAFETY: under the lock; the block is free and large enough for a link.
    unsafe {
        (*block).next = *c.head.get();
        *c.head.get() = block;
    }
}

fn usable(layout: &Layout) -> usize {
    layout.size().max(layout.align()).max(16)
}

// SAFETY: blocks are disjoint; a class's blocks are multiples of 16 bytes from a page-aligned start,
// and sizes are rounded up to the alignment, for which larger alignments go to power-of-two runs.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = usable(&layout);
        let block = if layout.align() <= 16 && size <= SMALL_MAX {
            alloc_small(CLASS_OF[size.div_ceil(16)] as usize)
        } else if size <= SMALL_MAX && layout.align() <= 4096 {
            // Power-of-two classes start at multiples of their size within a page-aligned run.
            alloc_small(CLASS_OF[size.next_power_of_two().div_ceil(16)] as usize)
        } else if layout.align() <= 4096 {
            alloc_large(size)
        } else {
            null_mut()
        };
        if !block.is_null() {
            IN_USE.fetch_add(size as u64, Relaxed);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let size = usable(&layout);
        IN_USE.fetch_sub(size as u64, Relaxed);
        if layout.align() <= 16 && size <= SMALL_MAX {
            push(&SMALL[CLASS_OF[size.div_ceil(16)] as usize], block);
        } else if size <= SMALL_MAX && layout.align() <= 4096 {
            push(&SMALL[CLASS_OF[size.next_power_of_two().div_ceil(16)] as usize], block);
        } else {
            push(&LARGE[order_of(size)], block);
        }
    }
}
