//! The machine: the current slot, raw host calls, user copies that survive faults, frames and
//! extended state. `unsafe` is at home here.

pub mod fpu;
pub mod frame;
pub mod gate;
pub mod slot;
pub mod usercopy;
pub mod vdso;

pub use gate::{syscall, syscall_blocking};
pub use slot::{slot, slot_at, stack_left, try_slot};
