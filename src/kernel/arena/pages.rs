//! The page source: a buddy allocator. What it knows about a page lies in a table at the front of
//! the region, so that free pages are never touched and can be given back to the host.

use super::lock::Locked;
use super::nursery::Nursery;
use crate::abi::linux;
use crate::arch;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Page size, bytes.
const PAGE: u64 = 4096;
/// Orders of blocks: up to 256 MiB.
const ORDERS: usize = 17;
/// Freed blocks from this order (256 KiB) on go back to the host.
const GIVE_BACK: usize = 6;
const NONE: u32 = u32::MAX;

/// The state of a page that begins a block: free or taken, with the order in the low bits. All other
/// pages have 0.
const FREE: u8 = 0x80;
const TAKEN: u8 = 0x40;

/// What the table holds per page. Links are of free blocks; a taken block's `next` is its owner's.
#[repr(C)]
struct Page {
    next: u32,
    prev: u32,
}

struct Buddy {
    base: u64,
    count: u32,
    /// From here on nothing was ever taken, and nothing is in the lists: the table is as sparse as the
    /// heap, and a heap that stays small never touches most of it.
    frontier: u32,
    links: *mut Page,
    states: *mut u8,
    heads: [u32; ORDERS],
    /// One bit for each order that has a free block.
    available: u32,
}

pub struct Pages {
    buddy: Locked<Buddy>,
    base: AtomicU64,
    taken: AtomicU64,
    limit: AtomicU64,
    reserve: AtomicU64,
    /// For small blocks.
    pub(super) nursery: Nursery,
}

/// The order of the smallest block that holds `size` bytes.
pub fn order_of(size: usize) -> Option<usize> {
    let pages = size.div_ceil(PAGE as usize).max(1).checked_next_power_of_two()?;
    let order = pages.trailing_zeros() as usize;
    (order < ORDERS).then_some(order)
}

impl Pages {
    pub const fn new() -> Pages {
        let buddy = Buddy {
            base: 0,
            count: 0,
            frontier: 0,
            links: core::ptr::null_mut(),
            states: core::ptr::null_mut(),
            heads: [NONE; ORDERS],
            available: 0,
        };
        Pages {
            nursery: Nursery::new(),
            buddy: Locked::new(buddy),
            base: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
        }
    }

    /// Takes the zeroed region. `base` must be aligned to the largest alignment ever asked for.
    pub fn open(&self, base: u64, len: u64, limit: u64) {
        let limit = if limit == 0 { len } else { limit.min(len) };
        let count = (len / PAGE) as u32;
        let table = (u64::from(count) * (size_of::<Page>() as u64 + 1)).div_ceil(PAGE) as u32;
        self.set_limit(limit);
        self.base.store(base, Relaxed);
        self.buddy.with(|b| {
            b.base = base;
            b.count = count;
            b.links = base as *mut Page;
            b.states = (base + u64::from(count) * size_of::<Page>() as u64) as *mut u8;
            b.frontier = table;
        });
    }

    pub fn set_limit(&self, limit: u64) {
        self.reserve.store((limit / 16).clamp(PAGE, 32 << 20), Relaxed);
        self.limit.store(limit, Relaxed);
    }

    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Where what was ever taken begins and ends, addresses.
    pub fn used(&self) -> (u64, u64) {
        self.buddy.with(|b| {
            let table = (u64::from(b.count) * (size_of::<Page>() as u64 + 1)).div_ceil(PAGE);
            (b.base + table * PAGE, b.base + u64::from(b.frontier) * PAGE)
        })
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Whether `bytes` more stay below the soft limit: twice the reserve must remain.
    pub fn admits(&self, bytes: u64) -> bool {
        self.taken().saturating_add(bytes).saturating_add(2 * self.reserve.load(Relaxed)) <= self.limit()
    }

    /// A block of `1 << order` pages, 0 if there is none; `last`: from the reserve, too.
    pub fn alloc(&self, order: usize, last: bool) -> u64 {
        let bytes = PAGE << order;
        let limit = self.limit().saturating_sub(if last { 0 } else { self.reserve.load(Relaxed) });
        let counted = self.taken.fetch_update(Relaxed, Relaxed, |n| (n + bytes <= limit).then_some(n + bytes));
        if counted.is_err() {
            return 0;
        }
        match self.buddy.with(|b| b.take(order).map(|page| b.base + u64::from(page) * PAGE)) {
            Some(address) => address,
            None => {
                self.taken.fetch_sub(bytes, Relaxed);
                0
            }
        }
    }

    /// As [`Pages::alloc`], for a block all of whose pages are about to be used: one call brings them in, where the host
    /// can (5.14), instead of a fault for each.
    pub fn alloc_touched(&self, order: usize) -> u64 {
        let address = self.alloc(order, true);
        if address != 0 {
            let advice = u64::from(linux::MADV_POPULATE_WRITE);
            // SAFETY: the block is ours, and its content stays.
            unsafe { arch::syscall(linux::__NR_madvise, [address, PAGE << order, advice, 0, 0, 0]) };
        }
        address
    }

    /// Gives a block back.
    pub fn free(&self, address: u64, order: usize) {
        if order >= GIVE_BACK {
            self.give_back(address, order);
        }
        self.buddy.with(|b| b.put(((address - b.base) / PAGE) as u32, order));
        self.taken.fetch_sub(PAGE << order, Relaxed);
    }

    /// Gives the memory of a block that nobody uses back to the host.
    pub fn give_back(&self, address: u64, order: usize) {
        let advice = u64::from(linux::MADV_REMOVE);
        // SAFETY: the block is free, and its content is not kept.
        unsafe { arch::syscall(linux::__NR_madvise, [address, PAGE << order, advice, 0, 0, 0]) };
    }

    /// A word that the owner of a taken block may use, 0 at first: its first page's entry in the table.
    pub fn owner_word(&self, address: u64) -> *mut u32 {
        let base = self.base.load(Relaxed);
        // The table lies at the region's start; `next` is an entry's first field.
        (base + (address - base) / PAGE * size_of::<Page>() as u64) as *mut u32
    }
}

impl Buddy {
    fn link(&mut self, page: u32) -> &mut Page {
        // SAFETY: callers name pages of the region, each has an entry.
        unsafe { &mut *self.links.add(page as usize) }
    }

    fn state(&mut self, page: u32) -> &mut u8 {
        // SAFETY: as above.
        unsafe { &mut *self.states.add(page as usize) }
    }

    fn push(&mut self, page: u32, order: usize) {
        let next = self.heads[order];
        *self.link(page) = Page { next, prev: NONE };
        if next != NONE {
            self.link(next).prev = page;
        }
        self.heads[order] = page;
        self.available |= 1 << order;
        *self.state(page) = FREE | order as u8;
    }

    fn unlink(&mut self, page: u32, order: usize) {
        let Page { next, prev } = *self.link(page);
        if next != NONE {
            self.link(next).prev = prev;
        }
        if prev == NONE {
            self.heads[order] = next;
            if next == NONE {
                self.available &= !(1 << order);
            }
        } else {
            self.link(prev).next = next;
        }
        *self.state(page) = 0;
    }

    /// Puts the largest block that begins at the frontier into the lists; `false` at the region's end.
    fn advance(&mut self) -> bool {
        let (page, left) = (self.frontier, self.count - self.frontier);
        if left == 0 {
            return false;
        }
        let order = (page.trailing_zeros() as usize).min(left.ilog2() as usize).min(ORDERS - 1);
        self.frontier += 1 << order;
        self.push(page, order);
        true
    }

    fn take(&mut self, order: usize) -> Option<u32> {
        while self.available >> order == 0 {
            if !self.advance() {
                return None;
            }
        }
        let fits = self.available >> order;
        let mut from = order + fits.trailing_zeros() as usize;
        let page = self.heads[from];
        self.unlink(page, from);
        while from > order {
            from -= 1;
            self.push(page + (1 << from), from);
        }
        *self.state(page) = TAKEN | order as u8;
        *self.link(page) = Page { next: 0, prev: 0 };
        Some(page)
    }

    fn put(&mut self, mut page: u32, mut order: usize) {
        if *self.state(page) != TAKEN | order as u8 {
            panic!("kernel heap: block {page} of order {order} freed, but it is {:#x}", *self.state(page));
        }
        *self.state(page) = 0;
        while order + 1 < ORDERS {
            let buddy = page ^ (1 << order);
            if u64::from(buddy) + (1 << order) > u64::from(self.count) || *self.state(buddy) != FREE | order as u8 {
                break;
            }
            self.unlink(buddy, order);
            page = page.min(buddy);
            order += 1;
        }
        self.push(page, order);
    }
}
