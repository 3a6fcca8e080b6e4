//! Descriptors of an image by their names, and what is handed in for them.

use super::error::{ImageError, Loaded};
use super::read::Image;
use super::recipe::Recipe;
use crate::sandbox::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What takes the place of a descriptor.
#[derive(Debug)]
pub enum Given {
    /// This file, opened as that was.
    Path(PathBuf),
    /// This one.
    Fd(OwnedFd),
}

impl Image {
    /// Names of what [`Image::hand_in`] can replace: paths of the host's files that the sandbox had open or mapped, `tcp:` and
    /// `udp:` with the address of a host socket, and of programs that were started after the first one, which are numbered from 1
    /// on, `1.stdin`, `1.stdout` and so on.
    pub fn names(&self) -> Vec<String> {
        let descriptors = self.needs.descriptors.iter().filter_map(|d| name_of(&d.recipe));
        let mut all: Vec<_> = descriptors.chain(self.needs.mapped.iter().map(|need| need.path.clone())).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Has `fd` take the place of what has this name in sandboxes that are made of the image from now on.
    ///
    /// # Errors
    /// [`Error::Setting`] if nothing has this name.
    pub fn hand_in(&mut self, name: impl Into<String>, fd: impl Into<OwnedFd>) -> Result {
        self.give(name.into(), Given::Fd(fd.into()))
    }

    /// As [`Image::hand_in`], with the host's file `path`, which is opened for each descriptor as the one was that it replaces.
    ///
    /// # Errors
    /// [`Error::Setting`] if nothing has this name, or what has it is a socket.
    pub fn hand_in_file(&mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Result {
        self.give(name.into(), Given::Path(path.into()))
    }

    fn give(&mut self, name: String, given: Given) -> Result {
        let names = self.names();
        if !names.contains(&name) {
            let most = names.iter().filter(|n| !n.starts_with('/')).chain(names.iter().filter(|n| n.starts_with('/')));
            let few: Vec<_> = most.take(10).map(String::as_str).collect();
            let few = if few.is_empty() { "nothing".to_string() } else { few.join(", ") };
            return Err(Error::Setting(format!("the image has nothing named {name:?}, only {few}")));
        }
        self.given.push((name, given));
        Ok(())
    }

    /// What was handed in for a descriptor.
    pub(super) fn given_for(&self, recipe: &Recipe) -> Loaded<Option<OwnedFd>> {
        let flags = match recipe {
            Recipe::File(need) => need.flags,
            Recipe::Detached { stream: 0, .. } => libc::O_RDONLY,
            _ => libc::O_WRONLY | libc::O_APPEND,
        };
        let mode = if let Recipe::File(need) = recipe { need.identity.mode } else { 0 };
        name_of(recipe).map_or(Ok(None), |name| self.given_file(&name, flags, mode))
    }

    /// What was handed in for a file of this path, which was open with these flags. `mode`: its type, 0 for any.
    pub(super) fn given_file(&self, name: &str, flags: i32, mode: u32) -> Loaded<Option<OwnedFd>> {
        let Some((_, given)) = self.given.iter().rev().find(|(n, _)| n == name) else { return Ok(None) };
        let (fd, path) = match given {
            Given::Fd(fd) => (fd.try_clone()?, name),
            Given::Path(path) => (open(path, flags)?, path.to_str().unwrap_or(name)),
        };
        let is = File::from(fd.as_fd().try_clone_to_owned()?).metadata()?.mode() & libc::S_IFMT;
        if mode != 0 && is != mode {
            return Err(ImageError::Unfit(format!(
                "{path} is a file of another kind than {name}, whose place it was to take"
            )));
        }
        Ok(Some(fd))
    }
}

fn open(path: &Path, flags: i32) -> Loaded<OwnedFd> {
    let missing = |source: io::Error| ImageError::Missing { path: path.display().to_string(), source };
    let access = flags & libc::O_ACCMODE;
    let kept = flags & (libc::O_APPEND | libc::O_PATH | libc::O_DIRECTORY) | libc::O_NOCTTY;
    let mut options = OpenOptions::new();
    options.read(access != libc::O_WRONLY).write(access != libc::O_RDONLY).custom_flags(kept);
    options.open(path).map(OwnedFd::from).map_err(missing)
}

fn name_of(recipe: &Recipe) -> Option<String> {
    match recipe {
        Recipe::File(need) => Some(need.path.clone()),
        Recipe::Socket(socket) => socket.name(),
        Recipe::Detached { program, stream } => {
            let stream = ["stdin", "stdout", "stderr"].get(*stream as usize)?;
            Some(format!("{program}.{stream}"))
        }
        Recipe::Window | Recipe::Memory | Recipe::Stream { .. } => None,
    }
}
