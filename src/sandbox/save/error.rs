//! What keeps a sandbox from being saved, and an image from being restored. Each prints as one line.

use std::io;

/// Why a sandbox was not saved. It goes on as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// Only what is paused can be saved.
    #[error("it is not paused")]
    NotPaused,
    /// Something in it has not come to rest in time; the text says what.
    #[error("{0}")]
    Restless(String),
    /// A file of the host's could not be brought to its disk.
    #[error("{path} cannot be synced: {source}")]
    Sync {
        /// Where it lies on the host.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It has something that cannot be made again; the text names it.
    #[error("{0}")]
    Unsavable(String),
    /// The host does not show what is to be saved, or has changed it meanwhile.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was tried.
        what: String,
        /// The host's answer.
        source: io::Error,
    },
    /// The image cannot be written.
    #[error("the image cannot be written: {0}")]
    Write(io::Error),
}

/// Why an image was not restored. Nothing of the sandbox is there then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file is something else.
    #[error("it is no image of a sandbox")]
    NotAnImage,
    /// Its end is missing.
    #[error("it is cut off")]
    Truncated,
    /// It does not hold what was written; the number is an offset in it.
    #[error("it is damaged at byte {0}")]
    Damaged(u64),
    /// This processor lacks what the programs may use.
    #[error("this processor is not as capable as the one that it was saved on: it lacks {0}")]
    Cpu(String),
    /// Another build of drupe wrote it.
    #[error("it was written by drupe {}, and this is drupe {own}", image.escape_debug())]
    Build {
        /// Who wrote it.
        image: String,
        /// Who was to read it.
        own: String,
    },
    /// A file that it needs is not there, or cannot be opened.
    #[error("{path}, which it needs: {source}")]
    Missing {
        /// Where it was on the host.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file that it needs is another one than it was, or has other contents.
    #[error("{0}, which it needs, has been changed")]
    Changed(String),
    /// Something is wrong with the image that it builds on.
    #[error("{path}, which it builds on: {source}")]
    Parent {
        /// Where that is.
        path: String,
        /// What is wrong.
        source: Box<ImageError>,
    },
    /// The host cannot hold it; the text says why.
    #[error("{0}")]
    Unfit(String),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// What comes of reading an image.
pub type Loaded<T = ()> = Result<T, ImageError>;
/// What comes of saving.
pub type Saved<T = ()> = Result<T, SaveError>;

impl SaveError {
    /// The host's last answer to `what`.
    pub fn host(what: impl Into<String>, source: io::Error) -> SaveError {
        SaveError::Host { what: what.into(), source }
    }
}
