//! Where a process's standard streams come from and go to.

use super::error::{Error, Result};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// One of the standard streams, as [`std::process::Stdio`].
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's own.
    #[default]
    Inherit,
    /// Empty, or swallowed.
    Null,
    /// A pipe, whose other end the [`Child`](super::Child) has.
    Piped,
    /// This file.
    Fd(OwnedFd),
    /// Not open at all.
    Closed,
}

impl Stdio {
    /// The caller's own stream.
    pub fn inherit() -> Stdio {
        Stdio::Inherit
    }

    /// Empty, or swallowed.
    pub fn null() -> Stdio {
        Stdio::Null
    }

    /// A pipe to the caller.
    pub fn piped() -> Stdio {
        Stdio::Piped
    }

    /// Not open at all, as after `>&-` in a shell.
    pub fn closed() -> Stdio {
        Stdio::Closed
    }

    /// The guest's end and, for a pipe, ours. `number` is 0, 1 or 2; the guest's end is `None` when
    /// there is nothing to be open.
    pub(super) fn open(&self, number: RawFd) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
        let failed = |e: io::Error| Error::host("set a standard stream up", e);
        match self {
            Stdio::Inherit => match duplicate(number) {
                Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok((None, None)),
                other => Ok((Some(other.map_err(failed)?), None)),
            },
            Stdio::Null => {
                let null = File::options().read(number == 0).write(number != 0).open("/dev/null");
                Ok((Some(null.map_err(failed)?.into()), None))
            }
            Stdio::Closed => Ok((None, None)),
            Stdio::Fd(fd) => Ok((Some(fd.try_clone().map_err(failed)?), None)),
            Stdio::Piped => {
                let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
                Ok(if number == 0 { (Some(read), Some(write)) } else { (Some(write), Some(read)) })
            }
        }
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Stdio {
        Stdio::Fd(fd)
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        Stdio::Fd(file.into())
    }
}

/// A copy of the descriptor `fd`, with a number above 2.
pub(super) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only asks the host to copy it: a number that is not open is EBADF.
    match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: made just now.
        copy => Ok(unsafe { OwnedFd::from_raw_fd(copy) }),
    }
}
