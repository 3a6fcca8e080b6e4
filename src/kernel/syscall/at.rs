//! Flags that calls know.

use crate::abi::{Errno, Result};

/// Refuses flags that are not known.
///
/// # Errors
/// `EINVAL`.
pub fn only(flags: u32, known: u32) -> Result {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}
