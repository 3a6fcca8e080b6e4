//! The file of an image.

use super::whole;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that has its name only once it is whole.
pub struct Unfinished {
    pub file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Unfinished {
    /// A new file beside `path`.
    ///
    /// # Errors
    /// The host's.
    pub fn new(path: &Path) -> io::Result<Unfinished> {
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(temporary);
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&temporary)?;
        Ok(Unfinished { file, temporary, path: path.to_path_buf() })
    }

    /// Puts it in its place. It is not brought to the disk: should the host fail before it is there, the image's sums tell.
    ///
    /// # Errors
    /// The host's.
    pub fn finish(self) -> io::Result<()> {
        whole::mark(&self.file);
        std::fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Nothing has this name any more where it was finished.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// A nameless file in memory, executable where the host makes a difference.
///
/// # Errors
/// The host's.
pub fn memory_file() -> io::Result<File> {
    const MFD_EXEC: libc::c_uint = 0x10;
    for flags in [MFD_EXEC, 0] {
        let flags = flags | libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: a constant string; a descriptor made just now is ours.
        let fd = unsafe { libc::memfd_create(c"drupe".as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: as above.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
    }
    Err(io::Error::last_os_error())
}
