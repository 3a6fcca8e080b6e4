//! The machine: the current slot, raw host calls, user copies that survive faults, frames and
//! extended state. `unsafe` is at home here.

pub mod fpu;
pub mod frame;
pub mod gate;
pub mod slot;
pub mod usercopy;
pub mod vdso;
pub mod words;

pub use gate::{syscall, syscall_blocking};
pub use slot::{slot, slot_at, stack_left, try_slot};

/// Orders what this thread has written before what it reads from here on, for all to see. `mfence`, of which the
/// compiler makes a fence, takes twice as long as any locked instruction, which does the same for ordinary memory.
#[inline(always)]
pub fn barrier() {
    // SAFETY: leaves the word at the stack pointer, which is this thread's, as it is.
    unsafe { core::arch::asm!("lock or dword ptr [rsp], 0") };
}
