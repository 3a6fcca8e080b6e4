//! The gate's typed calls: everything the kernel ever asks of its host. `unsafe` is at home here.

pub mod fd;
pub mod futex;
pub mod panic;
pub mod process;
pub mod window;

pub use fd::HostFd;
