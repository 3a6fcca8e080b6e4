//! Small blocks: size classes, a depot of chains per class, magazines per slot.

use super::lock::Locked;
use super::pages::Pages;
use crate::abi::slot::{HELD_LOCKS, MAGAZINES, SlotHeader, place};
use crate::arch;
use core::alloc::Layout;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, compiler_fence};

/// Sizes of the classes, bytes: each a multiple of 16.
pub const CLASSES: [usize; 18] =
    [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384];
/// Largest small size.
pub const SMALL_MAX: usize = CLASSES[CLASSES.len() - 1];
/// Blocks are carved from runs of `1 << RUN_ORDER` pages.
const RUN_ORDER: usize = 4;
const RUN: usize = 4096 << RUN_ORDER;
/// A depot looks for whole free runs once it holds this many bytes, then at twice what was left.
const SCAVENGE_FROM: u64 = 2 << 20;

const _: () = assert!(MAGAZINES + size_of::<Magazines>() <= HELD_LOCKS);

/// A free block: the next one of its chain and, in a chain's first block, the next chain.
#[repr(C)]
struct Block {
    next: *mut Block,
    chain: *mut Block,
}

/// Blocks in a whole chain: about 2 KiB, at least one and at most 32.
const fn batch(class: usize) -> u32 {
    let n = 2048 / CLASSES[class];
    if n == 0 {
        1
    } else if n > 32 {
        32
    } else {
        n as u32
    }
}

/// Class of a size, by table look-up in steps of 16 bytes.
static CLASS_OF: [u8; SMALL_MAX / 16 + 1] = {
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
};

/// The class that serves a layout, `None` for the page source.
#[inline]
pub fn class_of(layout: &Layout) -> Option<usize> {
    let mut size = layout.size();
    if layout.align() > 16 {
        if layout.align() > 4096 {
            return None;
        }
        // Blocks of power-of-two classes lie at multiples of their size.
        size = size.max(layout.align()).checked_next_power_of_two()?;
    }
    (size <= SMALL_MAX).then(|| CLASS_OF[size.div_ceil(16)] as usize)
}

/// One class's free blocks in the running thread's slot.
#[repr(C)]
struct Magazine {
    loaded: *mut Block,
    /// Nothing or a whole chain.
    spare: *mut Block,
    /// Blocks in `loaded`.
    count: u32,
}

/// All magazines of a slot. Zeroes are empty ones.
#[repr(C)]
pub struct Magazines([Magazine; CLASSES.len()]);

/// Magazines for code that runs on no slot's stack.
pub struct Shared(Locked<Magazines>);

impl Shared {
    pub const fn new() -> Shared {
        const EMPTY: Magazine = Magazine { loaded: null_mut(), spare: null_mut(), count: 0 };
        Shared(Locked::new(Magazines([EMPTY; CLASSES.len()])))
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut Magazines) -> T) -> T {
        self.0.with(f)
    }
}

/// The magazines of a slot.
///
/// # Safety
/// No thread runs on the slot, nor will one until what this returns is dropped.
pub unsafe fn of(slot: &SlotHeader) -> &'static mut Magazines {
    let at = core::ptr::from_ref(slot) as usize + MAGAZINES;
    // SAFETY: they lie in the slot's header page, zeroed before first use; by the caller's promise nobody else comes here.
    unsafe { &mut *(at as *mut Magazines) }
}

/// Number of free blocks of a class in the magazines of a slot; about, while a thread runs on it.
pub fn held_by(slot: &SlotHeader, class: usize) -> u64 {
    let at = core::ptr::from_ref(slot) as usize + MAGAZINES + class * size_of::<Magazine>();
    // SAFETY: it lies in the slot's header page; a copy whose parts do not fit together is made no use of but these.
    let m = unsafe { (at as *const Magazine).read_volatile() };
    u64::from(m.count) + if m.spare.is_null() { 0 } else { u64::from(batch(class)) }
}

/// The magazines of the running thread.
#[inline]
pub fn own() -> Option<&'static mut Magazines> {
    let slot = arch::try_slot()?;
    let at = core::ptr::from_ref(slot) as usize + MAGAZINES;
    // SAFETY: they lie in the slot's header page, zeroed before first use; only the slot's own thread
    // comes here, and the allocator is not re-entered: traps in kernel code do not allocate.
    Some(unsafe { &mut *(at as *mut Magazines) })
}

/// The thread of `slot` was ended by the host, perhaps while it used its magazines: makes them whole. What it had
/// taken out is lost, and so are the spare chains, which may be somewhere else already.
pub fn recover(slot: &'static SlotHeader) {
    if slot.place.load(SeqCst) == place::GUEST {
        return;
    }
    let at = core::ptr::from_ref(slot) as usize + MAGAZINES;
    // SAFETY: as in `own`; the slot has no thread.
    let magazines = unsafe { &mut *(at as *mut Magazines) };
    for (class, m) in magazines.0.iter_mut().enumerate() {
        if m.spare == m.loaded {
            m.loaded = null_mut();
        }
        m.spare = null_mut();
        let (mut count, mut block) = (0, m.loaded);
        while !block.is_null() {
            count += 1;
            if count == batch(class) {
                // SAFETY: a free block of ours. What follows would be more than a chain holds.
                unsafe { (*block).next = null_mut() };
                break;
            }
            // SAFETY: as above.
            block = unsafe { (*block).next };
        }
        m.count = count;
    }
}

impl Magazines {
    /// A block of `class`, null if there is none.
    #[inline]
    pub fn alloc(&mut self, class: usize, depot: &Depot, pages: &Pages) -> *mut u8 {
        let m = &mut self.0[class];
        if m.loaded.is_null() && !m.reload(class, depot, pages) {
            return null_mut();
        }
        let block = m.loaded;
        // SAFETY: a free block of ours.
        m.loaded = unsafe { (*block).next };
        m.count -= 1;
        block.cast()
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// It is a block of `class` that nobody uses.
    #[inline]
    pub unsafe fn free(&mut self, class: usize, block: *mut u8, depot: &Depot, pages: &Pages) {
        let m = &mut self.0[class];
        if m.count == batch(class) {
            if !m.spare.is_null() {
                depot.put(class, m.spare, pages);
            }
            m.spare = core::mem::replace(&mut m.loaded, null_mut());
            m.count = 0;
        }
        let block = block.cast::<Block>();
        // SAFETY: every block has room for a link.
        unsafe { (*block).next = m.loaded };
        m.loaded = block;
        m.count += 1;
    }
}

impl Magazines {
    /// Gives everything to the depots.
    pub fn drain(&mut self, depots: &[Depot; CLASSES.len()], pages: &Pages) {
        for (class, m) in self.0.iter_mut().enumerate() {
            let spare = core::mem::replace(&mut m.spare, null_mut());
            if !spare.is_null() {
                depots[class].put(class, spare, pages);
            }
            m.count = 0;
            let loaded = core::mem::replace(&mut m.loaded, null_mut());
            if !loaded.is_null() {
                depots[class].put_loose(class, loaded);
            }
        }
    }
}

impl Magazine {
    #[cold]
    fn reload(&mut self, class: usize, depot: &Depot, pages: &Pages) -> bool {
        if self.spare.is_null() {
            (self.loaded, self.count) = depot.take(class, pages);
        } else {
            self.loaded = core::mem::replace(&mut self.spare, null_mut());
            self.count = batch(class);
        }
        !self.loaded.is_null()
    }
}

struct Chains {
    /// Whole chains.
    full: *mut Block,
    /// What a scavenge left over: fewer blocks than a chain has.
    rest: (*mut Block, u32),
    /// The part of a run that was never handed out.
    fresh: (usize, usize),
    /// Bytes in `full` at which to look for whole free runs.
    scavenge_at: u64,
}

/// The free blocks of a class that are in no magazine.
pub struct Depot {
    chains: Locked<Chains>,
    /// Number of whole chains.
    count: AtomicU64,
    /// Blocks that were carved out of runs and not given back with them: those in use, in chains and in magazines.
    carved: AtomicU64,
}

impl Depot {
    pub const fn new() -> Depot {
        let chains = Chains { full: null_mut(), rest: (null_mut(), 0), fresh: (0, 0), scavenge_at: SCAVENGE_FROM };
        Depot { chains: Locked::new(chains), count: AtomicU64::new(0), carved: AtomicU64::new(0) }
    }

    /// Bytes of free blocks.
    pub fn cached(&self, class: usize) -> u64 {
        self.count.load(Relaxed) * u64::from(batch(class)) * CLASSES[class] as u64
    }

    /// Blocks that are in use or in magazines.
    pub fn out(&self, class: usize) -> u64 {
        let rest = self.chains.steps(|c| u64::from(c.rest.1));
        let free = self.count.load(Relaxed) * u64::from(batch(class)) + rest;
        self.carved.load(Relaxed).saturating_sub(free)
    }

    /// A chain and its length; whole but where memory ends or after a scavenge.
    fn take(&self, class: usize, pages: &Pages) -> (*mut Block, u32) {
        let (start, count) = {
            let taken = self.chains.steps(|c| {
                if !c.rest.0.is_null() {
                    let chain = c.rest;
                    c.rest.0 = null_mut();
                    compiler_fence(SeqCst);
                    c.rest.1 = 0;
                    return Ok(chain);
                }
                if !c.full.is_null() {
                    let chain = c.full;
                    // SAFETY: the first block of a chain of ours.
                    c.full = unsafe { (*chain).chain };
                    self.count.fetch_sub(1, Relaxed);
                    return Ok((chain, batch(class)));
                }
                let fresh = c.carve(class, pages);
                self.carved.fetch_add(fresh.1 as u64, Relaxed);
                Err(fresh)
            });
            match taken {
                Ok(chain) => return chain,
                Err(fresh) => fresh,
            }
        };
        chain(start, count, CLASSES[class])
    }

    fn put(&self, class: usize, chain: *mut Block, pages: &Pages) {
        let due = self.chains.steps(|c| {
            // SAFETY: the first block of a whole chain that the caller gives up.
            unsafe { (*chain).chain = c.full };
            compiler_fence(SeqCst);
            c.full = chain;
            self.count.fetch_add(1, Relaxed);
            self.cached(class) > c.scavenge_at
        });
        if due {
            self.scavenge(class, pages);
        }
    }

    /// Takes a chain of any length.
    fn put_loose(&self, class: usize, mut block: *mut Block) {
        self.chains.with(|c| {
            let mut whole = 0;
            while !block.is_null() {
                // SAFETY: free blocks of ours that the caller gives up.
                unsafe {
                    let next = (*block).next;
                    whole += c.add(class, block);
                    block = next;
                }
            }
            self.count.fetch_add(whole, Relaxed);
        });
    }

    /// Gives runs of which every block is here back to the page source.
    #[cold]
    pub fn scavenge(&self, class: usize, pages: &Pages) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        self.chains.with(|c| {
            // SAFETY: under the lock, and every block in the chains is a free one of this class.
            let (chains, gone) = unsafe { c.scavenge(class, pages) };
            self.count.store(chains, Relaxed);
            self.carved.fetch_sub(gone, Relaxed);
            c.scavenge_at = (2 * self.cached(class)).max(SCAVENGE_FROM);
        });
    }
}

/// The run that a block was carved from: runs lie at multiples of their size.
fn run_of(block: *mut Block) -> u64 {
    block as u64 & !(RUN as u64 - 1)
}

/// Chains up `count` blocks of fresh memory from `start` on; without the lock, since that faults pages in.
fn chain(start: usize, count: usize, size: usize) -> (*mut Block, u32) {
    let mut chain = null_mut();
    for i in (0..count).rev() {
        let block = (start + i * size) as *mut Block;
        // SAFETY: fresh memory of ours.
        unsafe { (*block).next = chain };
        chain = block;
    }
    (chain, count as u32)
}

impl Chains {
    /// Address and number of blocks that were never used. No step leaves more behind than some that never will be.
    fn carve(&mut self, class: usize, pages: &Pages) -> (usize, usize) {
        let size = CLASSES[class];
        if self.fresh.0 + size > self.fresh.1 {
            if let Some(piece) = pages.nursery.piece(size, RUN, || pages.alloc_touched(RUN_ORDER) as usize) {
                return piece;
            }
            let run = pages.alloc(RUN_ORDER, true) as usize;
            if run == 0 {
                return (0, 0);
            }
            // Nothing lies between the two in any order of the stores.
            self.fresh.0 = usize::MAX - size;
            compiler_fence(SeqCst);
            self.fresh.1 = run + RUN;
            compiler_fence(SeqCst);
            self.fresh.0 = run;
        }
        let (start, end) = self.fresh;
        let count = ((end - start) / size).min(batch(class) as usize);
        self.fresh.0 += count * size;
        (start, count)
    }

    /// All blocks as one list; the chains are empty afterwards.
    unsafe fn flatten(&mut self) -> *mut Block {
        let mut all = core::mem::replace(&mut self.rest, (null_mut(), 0)).0;
        let mut chain = core::mem::replace(&mut self.full, null_mut());
        while !chain.is_null() {
            // SAFETY: by the caller's promise.
            unsafe {
                let after = (*chain).chain;
                let mut last = chain;
                while !(*last).next.is_null() {
                    last = (*last).next;
                }
                (*last).next = all;
                all = chain;
                chain = after;
            }
        }
        all
    }

    /// Frees whole runs and chains up the rest again; returns the number of whole chains, and of blocks that are gone.
    unsafe fn scavenge(&mut self, class: usize, pages: &Pages) -> (u64, u64) {
        let mut gone = 0;
        let per_run = (RUN / CLASSES[class]) as u32;
        // SAFETY: by the caller's promise; the owner's word of a run is ours, and 0 in between.
        unsafe {
            let all = self.flatten();
            let mut block = all;
            while !block.is_null() {
                // That run's word stays 0, which makes it one that is not whole.
                if !pages.nursery.is(run_of(block)) {
                    *pages.owner_word(run_of(block)) += 1;
                }
                block = (*block).next;
            }
            // Blocks of whole runs are dropped; one of each run, the first that is met, stands for it
            // in a list through `chain`. The others stay.
            let (mut runs, mut kept) = (null_mut::<Block>(), null_mut::<Block>());
            block = all;
            while !block.is_null() {
                let next = (*block).next;
                let word = pages.owner_word(run_of(block));
                if *word == per_run {
                    *word = u32::MAX;
                    (*block).chain = runs;
                    runs = block;
                } else if *word != u32::MAX {
                    (*block).next = kept;
                    kept = block;
                }
                block = next;
            }
            while !runs.is_null() {
                let run = run_of(runs);
                runs = (*runs).chain;
                *pages.owner_word(run) = 0;
                pages.give_back(run, RUN_ORDER);
                pages.free(run, RUN_ORDER);
                gone += u64::from(per_run);
            }
            (self.rechain(class, kept, pages), gone)
        }
    }

    unsafe fn rechain(&mut self, class: usize, mut kept: *mut Block, pages: &Pages) -> u64 {
        let mut whole = 0;
        // SAFETY: by the caller's promise.
        unsafe {
            while !kept.is_null() {
                let next = (*kept).next;
                if !pages.nursery.is(run_of(kept)) {
                    *pages.owner_word(run_of(kept)) = 0;
                }
                whole += self.add(class, kept);
                kept = next;
            }
        }
        whole
    }

    /// Adds a free block to those that are not yet a whole chain; returns 1 where they became one.
    unsafe fn add(&mut self, class: usize, block: *mut Block) -> u64 {
        // SAFETY: by the caller's promise.
        unsafe { (*block).next = self.rest.0 };
        self.rest = (block, self.rest.1 + 1);
        if self.rest.1 < batch(class) {
            return 0;
        }
        // SAFETY: as above.
        unsafe { (*block).chain = self.full };
        self.full = block;
        self.rest = (null_mut(), 0);
        1
    }
}
