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
mod named;
mod packed;
mod parent;
mod private;
mod process;
mod read;
mod recipe;
mod settings;
mod socket;
mod template;
mod terminal;
mod whole;
mod write;

pub use error::{ImageError, SaveError};
pub(super) use file::{memory_file, written};
pub(super) use parent::PageIndex;
pub(super) use process::FileKey;
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
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
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
    /// A number that no other image has.
    id: [u8; 16],
    /// What it builds on.
    parent: Option<parent::Parent>,
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

/// How an image is written.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// Compresses it (zstd), after the sandbox has gone on. Such an image is smaller, and takes longer to restore: it is unpacked
    /// into memory, and nothing of it is mapped from its file.
    pub compress: bool,
    /// An image of an earlier instant on which it builds: what that one has is not written again. It must be there, unchanged and at
    /// this path, when the new one is restored ([`Image::squash`] makes one that needs no other).
    pub parent: Option<PathBuf>,
    /// Programs that were started after the first one and have streams of the caller's are not in the way: in the restored
    /// sandbox nobody is at the other end of these (input is empty, output goes nowhere).
    pub detach: bool,
}

impl SaveOptions {
    /// Looks whether the new image's file is none of those that it builds on.
    ///
    /// # Errors
    /// [`Error::Setting`](super::Error::Setting) if it is; those of reading them.
    pub(super) fn check(&self, path: &Path) -> Result {
        let key = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
        let Some(target) = key(path) else { return Ok(()) };
        let mut next = self.parent.clone();
        for _ in 0..parent::CHAIN_MAX {
            let Some(parent) = next else { break };
            if key(&parent) == Some(target) {
                let why = format!("{}: an image cannot take the place of one that it builds on", path.display());
                return Err(super::Error::Setting(why));
            }
            next = Image::parent_of(&parent)?;
        }
        Ok(())
    }

    /// Reads what the image is to build on.
    pub(super) fn index(&self) -> Result<Option<PageIndex>> {
        let Some(path) = &self.parent else { return Ok(None) };
        Ok(Some(PageIndex::of(path, &Image::open(path)?)?))
    }
}

impl Sandbox {
    /// Writes an image of the sandbox, which must be paused, and is so afterwards. It returns how many bytes that are.
    /// The stream is written once from start to end; where it fails the sandbox is as before, and what was written is no
    /// image.
    ///
    /// What other threads ask of the sandbox meanwhile is done afterwards; a sandbox that they stop has ended
    /// ([`Sandbox::save_error`]).
    ///
    /// # Errors
    /// [`Error::Save`](super::Error::Save) says what is in the way; [`Error::Ended`](super::Error::Ended).
    pub fn save_to(&self, out: impl Write) -> Result<u64> {
        self.save_to_with(out, &SaveOptions::default())
    }

    /// As [`Sandbox::save_to`], otherwise than plainly. The number of bytes is that before they are compressed.
    ///
    /// # Errors
    /// As [`Sandbox::save_to`]; [`Error::Image`](super::Error::Image) for what is wrong with the parent.
    pub fn save_to_with(&self, out: impl Write, options: &SaveOptions) -> Result<u64> {
        let parent = options.index()?;
        if !options.compress {
            return self.inner.save(out, false, options.detach, parent.as_ref());
        }
        let mut packing = packed::packing(out).map_err(SaveError::Write)?;
        let bytes = self.inner.save(&mut packing, false, options.detach, parent.as_ref())?;
        packing.finish().and_then(|mut out| out.flush()).map_err(SaveError::Write)?;
        Ok(bytes)
    }

    /// Writes an image to `path`. The sandbox is paused until all but the programs' private memory is written, of which the
    /// host keeps a copy meanwhile (a fork of each process); then it goes on. The file is there once it is whole.
    ///
    /// # Errors
    /// As [`Sandbox::save_to`]; [`Error::Path`](super::Error::Path).
    pub fn save_to_file(&self, path: impl AsRef<Path>) -> Result<u64> {
        self.save_to_file_with(path, &SaveOptions::default())
    }

    /// As [`Sandbox::save_to_file`], otherwise than plainly.
    ///
    /// # Errors
    /// As [`Sandbox::save_to_file`]; [`Error::Image`](super::Error::Image) for what is wrong with the parent.
    pub fn save_to_file_with(&self, path: impl AsRef<Path>, options: &SaveOptions) -> Result<u64> {
        options.check(path.as_ref())?;
        let parent = options.index()?;
        file::written(path.as_ref(), options.compress, |file| {
            self.inner.save_running(file, options.detach, parent.as_ref())
        })
    }

    /// Why the sandbox ended while it was saved: the error of the save that it did not survive. `None` as long as none did that.
    pub fn save_error(&self) -> Option<&str> {
        self.inner.save_error.get().map(String::as_str)
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
        self.inner.save_running(&file, false, None)?;
        Image::of_file(file)
    }
}

/// A sandbox that is saved: it goes on however that ends, also where the caller's stream panics.
struct Stopped<'a> {
    inner: &'a Inner,
    /// It is frozen.
    frozen: bool,
    /// One pause is to be undone.
    paused: bool,
    /// There are copies.
    copies: bool,
}

impl Stopped<'_> {
    /// Lets it go on, as far as it does not yet.
    fn thaw(&mut self) -> Result {
        if std::mem::take(&mut self.frozen) {
            self.inner.ask_ok(Request::Thaw)?;
        }
        if std::mem::take(&mut self.paused) {
            self.inner.ask_ok(Request::Unpause)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result {
        self.thaw()?;
        if std::mem::take(&mut self.copies) {
            self.inner.ask_ok(Request::EndCopies)?;
        }
        Ok(())
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

impl Inner {
    /// Pauses it, and lets it go on as soon as the rest can be written from copies.
    pub(super) fn save_running(&self, out: impl Write, detach: bool, parent: Option<&PageIndex>) -> Result<u64> {
        self.ask_ok(Request::Pause)?;
        self.save(out, true, detach, parent)
    }

    /// See [`Sandbox::save_to`]. With `go_on` one pause is undone as soon as that can be, whatever comes of it.
    pub(super) fn save(&self, out: impl Write, go_on: bool, detach: bool, parent: Option<&PageIndex>) -> Result<u64> {
        // Until the copies have ended, too: those of another save would end with them.
        let _one = lock(&self.saving);
        if let Some(end) = &lock(&self.state).end {
            return Err(end.error());
        }
        let mut stopped = Stopped { inner: self, frozen: false, paused: go_on, copies: false };
        let saved = self.save_stopped(out, &mut stopped, detach, parent);
        let after = stopped.finish();
        let saved = match (saved, after) {
            // That its processes were gone is how the save saw its end.
            (Err(super::Error::Save(SaveError::Host { .. })), Err(e @ super::Error::Ended(_))) => Err(e),
            // Otherwise the first thing that went wrong is what is told.
            (saved, after) => saved.and_then(|bytes| after.map(|()| bytes)),
        };
        if let Err(e) = &saved
            && lock(&self.state).end.is_some()
        {
            let _ = self.save_error.set(e.to_string());
        }
        saved
    }

    fn save_stopped(
        &self,
        out: impl Write,
        stopped: &mut Stopped<'_>,
        detach: bool,
        parent: Option<&PageIndex>,
    ) -> Result<u64> {
        let Some(settings) = &self.settings else {
            return Err(SaveError::Unsavable("its supervisor is the process that started it".into()).into());
        };
        // Only where it goes on are copies of use.
        let go_on = stopped.paused;
        let told = self.freeze(go_on)?;
        (stopped.frozen, stopped.copies) = (true, go_on);
        let first = {
            let state = lock(&self.state);
            First::of(state.first, state.first_status, lock(&self.base).as_ref())
        };
        let supervisor = if settings.is_kept() { only_child(self.link.pid())? } else { self.link.pid() };
        let images = self.images.get().map_or(&[][..], Vec::as_slice);
        let settings = settings.clone();
        let subject = Subject { supervisor, frozen: &told, settings, first, images, detach, parent };
        write::write(&subject, out, &mut || if go_on { stopped.thaw() } else { Ok(()) })
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

/// The supervisor below a keeper.
fn only_child(keeper: u32) -> Result<u32, SaveError> {
    let failed = |e| SaveError::host(format!("look for the child of the host process {keeper}"), e);
    let list = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).map_err(failed)?;
    let first = list.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok());
    first.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
}

/// What is kept of a builder for an image.
pub fn settings_of(builder: &SandboxBuilder) -> Saving {
    Settings::of(builder)
}

/// See [`settings_of`].
pub type Saving = Settings;
