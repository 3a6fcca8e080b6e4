//! The supervisor of a restored sandbox: gives every descriptor of the kernel's the number that it had.

use super::serve::Server;
use super::window::Window;
use super::{Plan, RawFd};
use crate::sandbox::error::{Error, Result};
use drupe_kernel::abi::control::MountSpec;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What a supervisor takes over of an image, as the holder has opened it.
pub struct Saved {
    /// Base of the window.
    pub base: u64,
    /// Number of its memory file.
    pub window: RawFd,
    /// Descriptors and the numbers that they are to have.
    pub kept: Vec<(OwnedFd, RawFd)>,
    /// Numbers of those that are closed once the processes are made.
    pub temporary: Vec<RawFd>,
    /// A `Revival`, encoded.
    pub revival: Vec<u8>,
    /// What was waited for.
    pub armed: Vec<(RawFd, u32)>,
    /// How many programs of the holder's have not ended.
    pub running: Option<u32>,
}

/// The same in the supervisor's plan, where descriptors are numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revived {
    base: u64,
    window: RawFd,
    places: Vec<(RawFd, RawFd)>,
    temporary: Vec<RawFd>,
    pub(super) revival: Vec<u8>,
    /// There are listeners of ports that are published.
    pub(super) published: bool,
    pub(super) armed: Vec<(RawFd, u32)>,
    pub(super) running: Option<u32>,
}

/// A copy of a descriptor from `floor` on, where it is in no other's way.
///
/// # Errors
/// The host's.
pub fn lift(fd: OwnedFd, floor: RawFd) -> Result<OwnedFd> {
    // SAFETY: plain numbers; a descriptor made just now is ours.
    unsafe {
        match libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, floor) {
            -1 => Err(Error::last("keep a descriptor for the restored sandbox")),
            copy => Ok(OwnedFd::from_raw_fd(copy)),
        }
    }
}

impl Plan {
    /// The first number that no descriptor of the image's has.
    pub fn floor(&self) -> RawFd {
        let saved = self.saved.iter().flat_map(|s| s.places.iter().map(|(_, to)| *to));
        saved.max().unwrap_or(2) + 1
    }

    /// Has it take over what was saved, with listeners of ports or without. All descriptors get numbers behind those that they have to make room for.
    ///
    /// # Errors
    /// The host's.
    pub fn with_saved(mut self, saved: Saved, published: bool) -> Result<Plan> {
        let Saved { base, window, kept, mut temporary, revival, armed, running } = saved;
        let floor = kept.iter().map(|(_, to)| *to).max().unwrap_or(2) + 1;
        let mut moved = Vec::new();
        for fd in std::mem::take(&mut self.keep) {
            let from = fd.as_raw_fd();
            let fd = lift(fd, floor)?;
            moved.push((from, fd.as_raw_fd()));
            self.keep.push(fd);
        }
        let now = |fd: &mut RawFd| {
            if let Some((_, to)) = moved.iter().find(|(from, _)| from == fd) {
                *fd = *to;
            }
        };
        now(&mut self.config.log_fd);
        now(&mut self.config.strace_fd);
        // The saved kernel has mounted its own: these only tell the jail what was given.
        let binds = self.config.mounts.iter_mut().filter_map(|mount| match mount {
            MountSpec::Bind { fd, .. } => Some(fd),
            MountSpec::Tmpfs { .. } => None,
        });
        for fd in binds.chain([&mut self.config.root_fd]) {
            now(fd);
            temporary.push(*fd);
        }
        self.given.read.iter_mut().for_each(now);
        self.given.write.iter_mut().for_each(now);
        let mut places = Vec::new();
        for (fd, to) in kept {
            let fd = lift(fd, floor)?;
            places.push((fd.as_raw_fd(), to));
            self.keep.push(fd);
        }
        self.saved = Some(Revived { base, window, places, temporary, revival, published, armed, running });
        Ok(self)
    }
}

impl Revived {
    /// Gives each descriptor its number. Nothing else may be open below the plan's floor but 0, 1 and 2.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn take_places(&self) -> Result {
        for &(from, to) in &self.places {
            // SAFETY: the plan keeps `from` open, and nobody has `to`; the copy is the kernel's from here on.
            if unsafe { libc::dup3(from, to, libc::O_CLOEXEC) } != to {
                return Err(Error::last("give a descriptor its number"));
            }
        }
        Ok(())
    }

    /// The window, where it was.
    ///
    /// # Errors
    /// Something is mapped there.
    pub(super) fn window(&self) -> Result<Window> {
        // SAFETY: `take_places` made this descriptor, which nobody else closes.
        Window::at(self.base, unsafe { OwnedFd::from_raw_fd(self.window) })
    }
}

impl Server {
    /// Goes on as the supervisor of the saved sandbox did.
    pub(super) fn take_over(&mut self, saved: &Revived) {
        for &fd in saved.temporary.iter().chain(saved.places.iter().map(|(from, _)| from)) {
            // SAFETY: the plan's descriptors, which are forgotten and of no more use.
            unsafe { libc::close(fd) };
        }
        self.resume(saved.running.map(|n| n as usize), &saved.armed);
    }
}
