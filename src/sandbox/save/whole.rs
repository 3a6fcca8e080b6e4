//! Images that are known to be whole.
//!
//! To read all of an image in order to compare its sums takes longer than all else of a restore. So an image that was found whole, or
//! written by this build just now, gets a mark: an extended attribute of the file, which says in what state the file was.
//! Whoever writes to the file later changes its time of modification, and with the machine's next start all marks are void:
//! what had not reached the disk may be missing.

use drupe_kernel::abi::text::Checksum;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

const NAME: &std::ffi::CStr = c"user.drupe.whole";

/// What the mark of the file is in its present state.
fn state(file: &File) -> io::Result<[u8; 8]> {
    let meta = file.metadata()?;
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id")?;
    let mut bytes = super::Build::own().kernel.to_le_bytes().to_vec();
    for word in [meta.dev(), meta.ino(), meta.size(), meta.mtime() as u64, meta.mtime_nsec() as u64] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(boot);
    Ok(Checksum::of(&bytes).to_le_bytes())
}

/// Marks an image as whole, where the file system can keep that.
pub fn mark(file: &File) {
    let Ok(state) = state(file) else { return };
    // SAFETY: a constant string, and bytes with their length.
    unsafe { libc::fsetxattr(file.as_raw_fd(), NAME.as_ptr(), state.as_ptr().cast(), state.len(), 0) };
}

/// Whether it is marked, and has not been written to since.
pub fn is_marked(file: &File) -> bool {
    let mut found = [0u8; 8];
    // SAFETY: a constant string, and room for as many bytes as are said.
    let len = unsafe { libc::fgetxattr(file.as_raw_fd(), NAME.as_ptr(), found.as_mut_ptr().cast(), found.len()) };
    len == found.len() as isize && state(file).is_ok_and(|state| state == found)
}
