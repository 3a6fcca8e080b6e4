//! What the `*at` calls share: from a descriptor and a path to a place.

use super::Fd;
use crate::abi::linux::{AT_EMPTY_PATH, AT_FDCWD};
use crate::abi::{Errno, Result};
use crate::mm::UserStr;
use crate::task::CurrentTask;
use crate::vfs::{Found, Lookup, Path};
use alloc::vec::Vec;

/// Where relative paths start: `None` for the working directory.
///
/// # Errors
/// `EBADF`; `ENOTDIR` is left to the resolution.
pub fn base(cur: &CurrentTask, dir: Fd, path: &[u8]) -> Result<Option<Path>> {
    if dir.0 == AT_FDCWD || path.first() == Some(&b'/') {
        return Ok(None);
    }
    Ok(Some(cur.files().get(dir.0)?.path.clone()))
}

/// The place that a path leads to.
///
/// # Errors
/// Those of path resolution.
pub fn place(cur: &CurrentTask, dir: Fd, path: UserStr, follow: bool) -> Result<Path> {
    let path = path.read_path()?;
    let base = base(cur, dir, &path)?;
    Lookup::new(cur.fs(), &cur.op_ctx(), base).path(&path, follow)
}

/// As [`place`], but with AT_EMPTY_PATH an empty path is the descriptor's own place.
///
/// # Errors
/// As [`place`].
pub fn place_or_fd(cur: &CurrentTask, dir: Fd, path: UserStr, follow: bool, flags: u32) -> Result<Path> {
    if flags & AT_EMPTY_PATH != 0 {
        let bytes = if path.0 == 0 { Vec::new() } else { path.read_path()? };
        if bytes.is_empty() {
            return if dir.0 == AT_FDCWD { Ok(cur.fs().cwd()) } else { Ok(cur.files().get(dir.0)?.path.clone()) };
        }
    }
    place(cur, dir, path, follow)
}

/// The directory and last name of a path that is to be made or removed.
///
/// # Errors
/// Those of path resolution.
pub fn parent(cur: &CurrentTask, dir: Fd, path: UserStr) -> Result<Found> {
    let path = path.read_path()?;
    let base = base(cur, dir, &path)?;
    Lookup::new(cur.fs(), &cur.op_ctx(), base).find(&path, false)
}

/// Refuses flags that are not known.
///
/// # Errors
/// `EINVAL`.
pub fn only(flags: u32, known: u32) -> Result {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}
