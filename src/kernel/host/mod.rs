//! The gate's typed calls: everything the kernel ever asks of its host. `unsafe` is at home here.

pub mod broker;
pub mod fd;
pub mod files;
pub mod futex;
pub mod log;
pub mod mem;
pub mod net;
pub mod panic;
pub mod process;
pub mod random;
pub mod sched;
pub mod time;
pub mod window;

pub use fd::HostFd;
