//! The address space of a process.

/// An address space: vmas, brk, and where the next mapping goes. Shared by threads and vfork children.
#[derive(Debug)]
pub struct AddressSpace {}
