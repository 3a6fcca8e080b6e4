//! The gate's typed calls: everything the kernel ever asks of its host. `unsafe` is at home here.

pub mod fd;
pub mod futex;

pub use fd::HostFd;
