//! What a sandbox that stands still tells of itself, and by what it is made again: encoded with postcard.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What the kernel says of a sandbox in which nothing moves.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Frozen {
    /// Base of the window.
    pub base: u64,
    /// The sandbox's monotonic clock, ns.
    pub monotonic: u64,
    /// Address spaces: the host pids, as the supervisor sees them, of the processes that share each.
    pub spaces: Vec<Vec<u32>>,
    /// Of each of them, where copies were wanted, the host pid of a process that keeps the private memory as it is; 0 for
    /// none.
    pub copies: Vec<u32>,
    /// Host descriptors that were handed in.
    pub handed_in: Vec<HandedIn>,
    /// Host descriptor of the window's memory file.
    pub window_fd: i32,
    /// Host descriptor of the directory of copies of code, -1 for none.
    pub text_cache: i32,
    /// Of the supervisor: its own descriptors.
    pub own: Vec<i32>,
    /// Of the supervisor: what it waits for on descriptors of the kernel's (`poll(2)` events).
    pub armed: Vec<(i32, u32)>,
    /// Of the supervisor: how many programs were started from outside and have not ended.
    pub running: Option<u32>,
}

/// A host descriptor that was handed in with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedIn {
    /// Its number.
    pub fd: i32,
    /// Which program it came with, in the order of their starts, from 0 on.
    pub program: u32,
    /// The program's descriptor.
    pub number: u32,
}

/// What the kernel makes host processes of. Descriptors have the numbers that they are to have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revival {
    /// Where the sandbox's monotonic clock goes on, ns.
    pub monotonic: u64,
    /// The image and those that it builds on: what [`Fill::of`] counts.
    pub images: Vec<i32>,
    /// Seed of random choices from here on; `None`: they go on as they would have.
    pub seed: Option<[u8; 32]>,
    /// In the order of [`Frozen::spaces`].
    pub spaces: Vec<Space>,
}

/// The private memory and the mappings of some host processes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Space {
    /// The first of them, as it was.
    pub host_pid: u32,
    /// The others.
    pub sharers: Vec<u32>,
    /// In order.
    pub maps: Vec<HostMap>,
    /// In order.
    pub fills: Vec<Fill>,
}

/// A mapping of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMap {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// `PROT_*`.
    pub prot: u32,
    /// Shared, not copied on write.
    pub shared: bool,
    /// Host descriptor of what lies behind it, -1 for nothing.
    pub fd: i32,
    /// Where in that it begins, bytes.
    pub offset: u64,
}

/// Bytes of an image and where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Address, or offset in a file.
    pub to: u64,
    /// Whole pages of them, in bytes.
    pub len: u64,
    /// Offset in that file.
    pub at: u64,
    /// Which file: 0 is the image itself, 1 the one that it builds on, and so on.
    pub of: u32,
}
