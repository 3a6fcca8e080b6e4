//! What the host can take away from the sandbox's processes beyond the filter.

use super::error::{Error, Result};

/// Gives up what can be given up for good: no process of this tree gains privileges by exec. That is
/// also what lets an ordinary user install a seccomp filter.
///
/// # Errors
/// A host without `no_new_privs`.
pub fn enter() -> Result {
    nix::sys::prctl::set_no_new_privs().map_err(|e| Error::Unsupported(format!("no_new_privs is refused ({e})")))
}
