//! What can go wrong, said so that a person can act on it.

use super::save::{ImageError, SaveError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An error of the library. Each prints as one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host refused something that every host must offer.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was tried, as a verb phrase.
        what: String,
        /// The host's answer.
        source: io::Error,
    },
    /// The host lacks a feature that drupe needs; `drupe doctor` lists them all.
    #[error("this host cannot run drupe: {0} (see `drupe doctor`)")]
    Unsupported(String),
    /// The directory that was to be the root, or something to be mounted, cannot be used.
    #[error("{}: {source}", path.display())]
    Path {
        /// As it was given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A setting makes no sense; the text says which and why.
    #[error("{0}")]
    Setting(String),
    /// The program could not be started.
    #[error("{program}: {message}")]
    Spawn {
        /// As it was given.
        program: String,
        /// The error number: `ENOENT` when it (or its interpreter) is not there.
        errno: i32,
        /// For a person.
        message: String,
    },
    /// The kernel in the sandbox answered a request with an error.
    #[error("{message}")]
    Refused {
        /// The error number.
        errno: i32,
        /// For a person.
        message: String,
    },
    /// The sandbox was started before.
    #[error("the sandbox is already running: it can be started only once")]
    AlreadyStarted,
    /// The sandbox was not started yet.
    #[error("the sandbox is not running: start it first")]
    NotStarted,
    /// There is no process to wait for: none was ever started.
    #[error("no process was started in this sandbox")]
    NoProcess,
    /// Another sandbox that runs has this name.
    #[error("there is a running sandbox named {0:?} already")]
    NameInUse(String),
    /// No running sandbox has this name.
    #[error("there is no running sandbox named {0:?}")]
    NoSandbox(String),
    /// A running sandbox does not answer: its holder is stopped, or has no time.
    #[error("the sandbox {0:?} does not answer")]
    Silent(String),
    /// A program did not end in the time that it was given. It was killed.
    #[error("{program} did not end within {limit:?}")]
    TimedOut {
        /// As it was given.
        program: String,
        /// The time that it had.
        limit: Duration,
        /// What it had printed until then.
        output: Box<(Vec<u8>, Vec<u8>)>,
    },
    /// A handle of the process was used after its end.
    #[error("the process {0} has ended")]
    ProcessEnded(u32),
    /// The sandbox has ended: it was stopped, or its supervisor was killed.
    #[error("the sandbox has ended: {0}")]
    Ended(String),
    /// The sandbox had all the time that it was given ([`SandboxBuilder::timeout`](super::SandboxBuilder::timeout)),
    /// and was ended.
    #[error("the sandbox has ended: its time of {0:?} is over")]
    Expired(Duration),
    /// The sandbox was not saved, and goes on.
    #[error("the sandbox cannot be saved: {0}")]
    Save(#[from] SaveError),
    /// An image was not restored.
    #[error("the image cannot be restored: {0}")]
    Image(#[from] ImageError),
    /// The kernel in the sandbox panicked; the sandbox is gone.
    #[error("{0}")]
    Panic(String),
}

/// The library's result.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

impl Error {
    /// The last host call failed while trying to do `what`.
    pub(crate) fn last(what: impl Into<String>) -> Error {
        Error::host(what, io::Error::last_os_error())
    }

    /// The host answered `source` when asked to do `what`.
    pub(crate) fn host(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Host { what: what.into(), source: source.into() }
    }

    /// The error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Host { source, .. } | Error::Path { source, .. } => source.raw_os_error(),
            Error::Spawn { errno, .. } | Error::Refused { errno, .. } => Some(*errno),
            Error::TimedOut { .. } | Error::Expired(_) | Error::Silent(_) => Some(libc::ETIMEDOUT),
            Error::ProcessEnded(_) => Some(libc::ESRCH),
            Error::NameInUse(_) => Some(libc::EEXIST),
            Error::NoSandbox(_) => Some(libc::ENOENT),
            _ => None,
        }
    }
}

/// For `?` in functions that return [`io::Result`]. The kind is that of the error number, where there is one; the
/// error itself is inside ([`io::Error::get_ref`]).
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match (&error, error.errno()) {
            (_, Some(errno)) if errno > 0 => io::Error::from_raw_os_error(errno).kind(),
            (Error::Host { source, .. } | Error::Path { source, .. }, _) => source.kind(),
            (Error::Unsupported(_), _) => io::ErrorKind::Unsupported,
            (Error::Setting(_), _) => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
