//! The file of an image.

use super::{packed, whole};
use crate::sandbox::error::{Error, Result};
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
        Unfinished::named(path, "")
    }

    /// As [`Unfinished::new`], where there is one for that path already.
    ///
    /// # Errors
    /// The host's.
    pub fn packed(path: &Path) -> io::Result<Unfinished> {
        Unfinished::named(path, ".zst")
    }

    fn named(path: &Path, kind: &str) -> io::Result<Unfinished> {
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}{kind}", std::process::id()));
        let temporary = path.with_file_name(temporary);
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&temporary)?;
        Ok(Unfinished { file, temporary, path: path.to_path_buf() })
    }

    /// Puts it in its place. It is not brought to the disk: should the host fail before it is there, the image's sums tell.
    ///
    /// # Errors
    /// The host's.
    pub fn finish(self) -> io::Result<()> {
        std::fs::rename(&self.temporary, &self.path)?;
        // A new name is a change of the file's, too.
        whole::mark(&self.file);
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Nothing has this name any more where it was finished.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Has an image written to a file, compresses it if that is wanted, and puts it in its place. How many bytes it has.
///
/// # Errors
/// [`Error::Path`]; those of `write`.
pub fn written(path: &Path, compress: bool, write: impl FnOnce(&File) -> Result<u64>) -> Result<u64> {
    let failed = |source| Error::Path { path: path.to_path_buf(), source };
    let mut image = Unfinished::new(path).map_err(failed)?;
    let mut bytes = write(&image.file)?;
    if compress {
        (image, bytes) = packed::pack(&image.file, path).map_err(failed)?;
    }
    image.finish().map_err(failed)?;
    Ok(bytes)
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
