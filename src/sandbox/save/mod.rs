//! Saving a sandbox that runs, and making one again from its image.
//!
//! The holder writes the image: it is outside of the jail, and sees the memory of the sandbox's processes and its
//! window's as the host shows them. The sandbox is paused meanwhile, so that all of its state lies in the window, and the
//! supervisor does nothing (`Request::Freeze`). An image has, in this order, what the processor can do, the build, the settings and
//! what is needed of the host, the kernel's memory, and the programs' memory (`format.rs`).
//!
//! To restore, the holder looks whether the image is whole and fits, opens what it needs, and starts a supervisor that takes the window
//! as it is (`supervisor/revive.rs`); the kernel makes host processes for the parked tasks (`task/revive.rs`).

mod cpu;
mod error;
mod file;
mod format;
mod process;
mod read;
mod recipe;
mod settings;
mod template;
mod whole;
mod write;

pub use error::{ImageError, SaveError};
pub(super) use file::{Unfinished, memory_file};
pub use read::{Image, Streams};
pub use template::{Template, Templates};

use super::builder::SandboxBuilder;
use super::error::Result;
use super::{Child, Inner, Sandbox, lock, unexpected};
use drupe_kernel::abi::control::{Request, Response};
use drupe_kernel::abi::saved::{Fill, Frozen};
use recipe::{Descriptor, FileNeed, MemoryFile};
use serde::{Deserialize, Serialize};
use settings::{First, Settings};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use write::Subject;

/// How long a save waits until everything has come to rest.
const REST: Duration = Duration::from_secs(5);

/// Which build wrote an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Build {
    version: String,
    kernel: u64,
}

impl Build {
    fn own() -> Build {
        // `build.rs` makes it of the kernel's image.
        let kernel = env!("DRUPE_IMAGE_ID").bytes().fold(0u64, |n, digit| n.wrapping_mul(10) + u64::from(digit - b'0'));
        Build { version: env!("CARGO_PKG_VERSION").into(), kernel }
    }
}

impl std::fmt::Display for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (kernel {:016x})", self.version, self.kernel)
    }
}

/// Settings, and what an image needs of the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Needs {
    settings: Settings,
    first: First,
    descriptors: Vec<Descriptor>,
    /// Files that are mapped.
    mapped: Vec<FileNeed>,
    /// Base of the window.
    base: u64,
    monotonic: u64,
    armed: Vec<(i32, u32)>,
    running: Option<u32>,
}

/// The kernel's memory and the files in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct KernelPart {
    window: Vec<Fill>,
    files: Vec<MemoryFile>,
}

/// How long saving took, from when everything stood still.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Times {
    /// Until all was looked at.
    looked: Duration,
    /// Until the kernel's memory was written.
    kernel: Duration,
    /// Until it could go on.
    stood: Duration,
    /// Until the programs' memory was written.
    memory: Duration,
}

impl Sandbox {
    /// Writes an image of the sandbox, which must be paused, and is so afterwards. It returns how many bytes that are.
    /// The stream is written once from start to end; where it fails the sandbox is as before, and what was written is no
    /// image.
    ///
    /// What other threads ask of the sandbox meanwhile is done afterwards.
    ///
    /// # Errors
    /// [`Error::Save`](super::Error::Save) says what is in the way; [`Error::Ended`](super::Error::Ended).
    pub fn save_to(&self, out: impl Write) -> Result<u64> {
        self.inner.save(out, false)
    }

    /// Writes an image to `path`. The sandbox is paused until all but the programs' private memory is written, of which the
    /// host keeps a copy meanwhile (a fork of each process); then it goes on. The file is there once it is whole.
    ///
    /// # Errors
    /// As [`Sandbox::save_to`]; [`Error::Path`](super::Error::Path).
    pub fn save_to_file(&self, path: impl AsRef<Path>) -> Result<u64> {
        let path = path.as_ref();
        let failed = |source| super::Error::Path { path: path.to_path_buf(), source };
        let image = Unfinished::new(path).map_err(failed)?;
        let bytes = self.inner.save_running(&image.file)?;
        image.finish().map_err(failed)?;
        Ok(bytes)
    }

    /// Makes a second sandbox of this one, which goes on from the same instant with these streams; returns it with its first
    /// program. Both have the same memory, files in memory and pids, and nothing in common but the host's files. Random
    /// choices of its kernel are others. It costs what [`Sandbox::save_to_file`] does to memory, and a restore.
    ///
    /// # Errors
    /// As [`Sandbox::save_to`] and [`Image::restore`].
    pub fn fork(
        &self,
        streams: &Streams,
        adjust: impl FnOnce(SandboxBuilder) -> SandboxBuilder,
    ) -> Result<(Sandbox, Child)> {
        self.image()?.restore(streams, false, adjust)
    }

    /// As [`Sandbox::fork`], `count` times from one instant: `each` says what the sandbox of that number gets.
    ///
    /// # Errors
    /// As [`Sandbox::fork`]; those that were made until then have ended.
    pub fn fork_many(
        &self,
        count: usize,
        mut each: impl FnMut(usize, SandboxBuilder) -> (Streams, SandboxBuilder),
    ) -> Result<Vec<(Sandbox, Child)>> {
        self.image()?.restore_many(count, &mut each)
    }

    /// An image in memory, of which any number of sandboxes can be made.
    ///
    /// # Errors
    /// As [`Sandbox::save_to_file`].
    pub fn image(&self) -> Result<Image> {
        let file = memory_file().map_err(|e| super::Error::host("make a memory file", e))?;
        self.inner.save_running(&file)?;
        Image::of_file(file)
    }
}

impl Inner {
    /// Pauses it, and lets it go on as soon as the rest can be written from copies.
    pub(super) fn save_running(&self, out: impl Write) -> Result<u64> {
        self.ask_ok(Request::Pause)?;
        self.save(out, true)
    }

    /// See [`Sandbox::save_to`]. With `go_on` one pause is undone as soon as that can be, whatever comes of it.
    pub(super) fn save(&self, out: impl Write, go_on: bool) -> Result<u64> {
        // Until the copies have ended, too: those of another save would end with them.
        let _one = lock(&self.saving);
        let mut frozen = None;
        let saved = self.save_frozen(out, go_on, &mut frozen);
        if frozen == Some(true) {
            self.ask_ok(Request::Thaw)?;
        }
        if go_on && frozen != Some(false) {
            self.ask_ok(Request::Unpause)?;
        }
        if go_on && frozen.is_some() {
            self.ask_ok(Request::EndCopies)?;
        }
        saved
    }

    /// `frozen`: whether it was frozen, and is still.
    fn save_frozen(&self, out: impl Write, go_on: bool, frozen: &mut Option<bool>) -> Result<u64> {
        let Some(settings) = &self.settings else {
            return Err(SaveError::Unsavable("its supervisor is the process that started it".into()).into());
        };
        let told = self.freeze(go_on)?;
        *frozen = Some(true);
        let first = {
            let state = lock(&self.state);
            First::of(state.first, state.first_status, lock(&self.base).as_ref())
        };
        let (supervisor, image) = (self.link.pid(), self.image.get().copied());
        let subject = Subject { supervisor, frozen: &told, settings: settings.clone(), first, image };
        let mut thaw = || {
            if go_on {
                self.ask_ok(Request::Thaw)?;
                *frozen = Some(false);
                self.ask_ok(Request::Unpause)?;
            }
            Ok(())
        };
        write::write(&subject, out, &mut thaw)
    }

    /// Waits until nothing moves.
    fn freeze(&self, copies: bool) -> Result<Frozen> {
        let end = Instant::now() + REST;
        loop {
            match self.ask(Request::Freeze { copies }, Vec::new()) {
                Ok(Response::Frozen(frozen)) => return Ok(frozen),
                Ok(other) => return Err(unexpected(other)),
                Err(super::Error::Refused { errno: libc::EINVAL, .. }) => return Err(SaveError::NotPaused.into()),
                Err(super::Error::Refused { errno: libc::EAGAIN, message }) if Instant::now() >= end => {
                    return Err(SaveError::Restless(message).into());
                }
                Err(super::Error::Refused { errno: libc::EAGAIN, .. }) => {
                    std::thread::sleep(Duration::from_micros(200))
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// What is kept of a builder for an image.
pub fn settings_of(builder: &SandboxBuilder) -> Saving {
    Settings::of(builder)
}

/// See [`settings_of`].
pub type Saving = Settings;
