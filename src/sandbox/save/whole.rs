//! Images that are known to be whole.
//!
//! To read all of an image in order to compare its sums takes longer than all else of a restore. So an image that was found whole, or
//! written by this build just now, gets a mark: an extended attribute of the file, which says in what state the file was.
//! Whoever writes to the file later changes its time of change, which nobody can set back (that of modification can be), and with
//! the machine's next start all marks are void: what had not reached the disk may be missing.

use drupe_kernel::abi::text::Checksum;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

const NAME: &std::ffi::CStr = c"user.drupe.whole";

/// So much later than the mark says the file may have changed: by the mark itself, ns. It takes some microseconds.
const GRACE: i128 = 5_000_000;
/// How often a mark is made that took longer.
const TRIES: usize = 3;
/// A sum and the time of change before the mark was made, ns.
const LEN: usize = 24;

/// What the mark of the file is in its present state, but for the time of change; and that.
fn state(file: &File) -> io::Result<(u64, i128)> {
    let meta = file.metadata()?;
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id")?;
    let mut bytes = super::Build::own().kernel.to_le_bytes().to_vec();
    for word in [meta.dev(), meta.ino(), meta.size(), meta.mtime() as u64, meta.mtime_nsec() as u64] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(boot);
    let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
    Ok((Checksum::of(&bytes), changed))
}

fn set(file: &File, sum: u64, changed: i128) -> bool {
    let mut mark = [0; LEN];
    mark[..8].copy_from_slice(&sum.to_le_bytes());
    mark[8..].copy_from_slice(&changed.to_le_bytes());
    // SAFETY: a constant string, and bytes with their length.
    unsafe { libc::fsetxattr(file.as_raw_fd(), NAME.as_ptr(), mark.as_ptr().cast(), LEN, 0) == 0 }
}

/// Marks an image as whole, where the file system can keep that.
pub fn mark(file: &File) {
    // The first mark changes the file; the second one says when that was, and is followed by nothing.
    if !state(file).is_ok_and(|(sum, changed)| set(file, sum, changed)) {
        return;
    }
    for _ in 0..TRIES {
        if !state(file).is_ok_and(|(sum, changed)| set(file, sum, changed)) || is_marked(file) {
            return;
        }
    }
}

/// Whether it is marked, and has not been written to since.
pub fn is_marked(file: &File) -> bool {
    let mut found = [0u8; LEN];
    // SAFETY: a constant string, and room for as many bytes as are said.
    let len = unsafe { libc::fgetxattr(file.as_raw_fd(), NAME.as_ptr(), found.as_mut_ptr().cast(), found.len()) };
    let (Some(sum), Some(changed)) = (found.first_chunk::<8>(), found.last_chunk::<16>()) else { return false };
    let (sum, then) = (u64::from_le_bytes(*sum), i128::from_le_bytes(*changed));
    len == LEN as isize && state(file).is_ok_and(|(own, now)| own == sum && (then..=then + GRACE).contains(&now))
}
