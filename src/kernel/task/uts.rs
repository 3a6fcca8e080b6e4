//! What `uname(2)` says.

use super::ns::UtsNamespace;
use alloc::vec::Vec;

/// Kernel release that programs compare against: features are those of this Linux.
pub const RELEASE: &str = "6.12.0-drupe";
/// The same for programs that were made when versions began with 2.6 (`UNAME26`).
pub const RELEASE_26: &str = "2.6.72-drupe";
/// Build, as `uname -v` shows it.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC drupe";
/// Longest name of each kind.
pub const NAME_MAX: usize = 64;

impl UtsNamespace {
    /// The host name.
    pub fn hostname(&self) -> Vec<u8> {
        self.names.lock()[0].clone()
    }

    /// Sets the host name.
    pub fn set_hostname(&self, name: &[u8]) {
        self.names.lock()[0] = name.to_vec();
    }

    /// The NIS domain name.
    pub fn domainname(&self) -> Vec<u8> {
        let name = self.names.lock()[1].clone();
        if name.is_empty() { b"(none)".to_vec() } else { name }
    }

    /// Sets the NIS domain name.
    pub fn set_domainname(&self, name: &[u8]) {
        self.names.lock()[1] = name.to_vec();
    }
}
