//! What `uname(2)` says.

use crate::sync::{Level, Mutex};
use alloc::vec::Vec;

/// Kernel release that programs compare against: features are those of this Linux.
pub const RELEASE: &str = "6.12.0-drupe";
/// Build, as `uname -v` shows it.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC drupe";
/// Longest name of each kind.
pub const NAME_MAX: usize = 64;

static NAMES: Mutex<[Vec<u8>; 2]> = Mutex::new(Level::Leaf, [Vec::new(), Vec::new()]);

/// The host name.
pub fn hostname() -> Vec<u8> {
    NAMES.lock()[0].clone()
}

/// Sets the host name.
pub fn set_hostname(name: &[u8]) {
    NAMES.lock()[0] = name.to_vec();
}

/// The NIS domain name.
pub fn domainname() -> Vec<u8> {
    let name = NAMES.lock()[1].clone();
    if name.is_empty() { b"(none)".to_vec() } else { name }
}

/// Sets the NIS domain name.
pub fn set_domainname(name: &[u8]) {
    NAMES.lock()[1] = name.to_vec();
}
