//! What the host can take away from the sandbox's processes beyond the filter.

use super::error::{Error, Result};

const SECCOMP_GET_ACTION_AVAIL: libc::c_uint = 2;

/// Gives up what can be given up for good: no process of this tree gains privileges by exec. That is
/// also what lets an ordinary user install a seccomp filter.
///
/// # Errors
/// A host without `no_new_privs`, or one that lets nobody install filters.
pub fn enter() -> Result {
    nix::sys::prctl::set_no_new_privs().map_err(|e| Error::Unsupported(format!("no_new_privs is refused ({e})")))?;
    // The filter itself is installed by the first process behind it, which could only die of a refusal.
    let trap = libc::SECCOMP_RET_TRAP;
    // SAFETY: reads one word of ours.
    match unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const trap) } {
        0 => Ok(()),
        _ => Err(Error::Unsupported(format!("seccomp filters are refused ({})", std::io::Error::last_os_error()))),
    }
}
