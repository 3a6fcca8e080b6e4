//! Address spaces: vmas, the mmap family, guest memory access, the memory file.

pub mod budget;
pub mod io;
mod mappable;
pub mod memfile;
pub mod rewrite;
pub mod shared;
pub mod space;
pub mod text;
mod tree;
pub mod user;
pub mod vma;

pub use io::{IoDst, IoMark, IoSrc, IoVec};
pub use mappable::{HostRun, MapWish, Mappable, Mapped};
pub use space::AddressSpace;
pub use user::{Fault, Plain, UserPtr, UserSlice, UserStr, accessible, zeroed};
pub use vma::{Backing, Vma, VmaFlags};
