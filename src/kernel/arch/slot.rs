//! Finding the current task slot.

use crate::abi::layout::{SLOT_SIZE, SLOTS};
use crate::abi::slot::SlotHeader;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Base of the window, set once by `boot` before anything else runs.
static WINDOW: AtomicU64 = AtomicU64::new(0);

/// The window's base address.
pub fn window() -> u64 {
    WINDOW.load(Ordering::Relaxed)
}

/// Records the window's base.
pub fn set_window(base: u64) {
    WINDOW.store(base, Ordering::Relaxed);
}

/// The slot of the running thread: every kernel stack lies in its slot, so masking the stack
/// pointer finds the header. Needs no segment register, hence works in any trap.
#[cfg(feature = "image")]
pub fn slot() -> &'static SlotHeader {
    let sp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    // SAFETY: kernel code runs only on slot stacks, and headers are never unmapped.
    unsafe { &*((sp & !(SLOT_SIZE - 1)) as *const SlotHeader) }
}

/// How much of the running thread's slot lies below its stack pointer, bytes: the kernel stack, and what is under it.
#[cfg(feature = "image")]
#[inline(always)]
pub fn stack_left() -> u64 {
    let sp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp & (SLOT_SIZE - 1)
}

/// Outside of the image stacks are the host's.
#[cfg(not(feature = "image"))]
pub fn stack_left() -> u64 {
    u64::MAX
}

/// In unit tests every test thread has a header of its own.
#[cfg(all(not(feature = "image"), test))]
pub fn slot() -> &'static SlotHeader {
    std::thread_local! {
        static SLOT: &'static SlotHeader = {
            let layout = core::alloc::Layout::from_size_align(crate::abi::slot::HEADER_PAGE, 4096);
            let layout = layout.expect("a page is a layout");
            // SAFETY: a zeroed header page is a valid one; it is leaked on purpose.
            unsafe { &*std::alloc::alloc_zeroed(layout).cast::<SlotHeader>() }
        };
    }
    SLOT.with(|s| *s)
}

/// The host half never runs kernel objects.
#[cfg(all(not(feature = "image"), not(test)))]
pub fn slot() -> &'static SlotHeader {
    unreachable!("kernel code runs only in the image")
}

/// As [`slot`], or `None` where the running stack is no slot's (the host half calling `boot::early`).
#[cfg(feature = "image")]
#[inline]
pub fn try_slot() -> Option<&'static SlotHeader> {
    let slot = slot();
    let offset = (core::ptr::from_ref(slot) as u64).wrapping_sub(window() + SLOTS);
    (offset < SLOT_SIZE * crate::abi::layout::SLOT_COUNT).then_some(slot)
}

/// As [`slot`].
#[cfg(not(feature = "image"))]
pub fn try_slot() -> Option<&'static SlotHeader> {
    Some(slot())
}

/// How many slots were ever used.
static USED: AtomicU32 = AtomicU32::new(0);

/// Records that slot number `index` is used.
pub fn use_slot(index: u32) {
    USED.fetch_max(index + 1, Ordering::SeqCst);
}

/// The slots that were ever used, and perhaps are now.
pub fn used_slots() -> impl Iterator<Item = &'static SlotHeader> {
    (0..USED.load(Ordering::SeqCst)).map(slot_at)
}

/// The header of slot number `index`.
pub fn slot_at(index: u32) -> &'static SlotHeader {
    let addr = window() + SLOTS + u64::from(index) * SLOT_SIZE;
    // SAFETY: the whole slot region is mapped in every process for the sandbox's life.
    unsafe { &*(addr as *const SlotHeader) }
}
