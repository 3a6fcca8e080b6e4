//! Recipes: what each host descriptor of a sandbox is, and how it is opened again.
//!
//! All of a sandbox's processes have one table, in which a number means one object of the kernel's. So what has a number
//! when it is saved gets the same one when it is restored, and no object of the kernel's need be changed. The host
//! tells what a descriptor is; the kernel keeps no record of it, and a sandbox that is never saved pays nothing for this.

use super::error::{ImageError, Loaded, SaveError, Saved};
use super::process::{FileKey, copy_of};
use super::socket::Socket;
use super::terminal::Modes;
use drupe_kernel::abi::saved::{Fill, Frozen};
use nix::sys::time::TimeSpec;
use nix::time::ClockId;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

/// By what a file is known to be the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub dev: u64,
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Of a regular file: its size, and when it was changed last, ns.
    pub state: Option<(u64, i128)>,
}

impl Identity {
    pub fn of(meta: &Metadata) -> Identity {
        let state = meta
            .is_file()
            .then(|| (meta.size(), i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())));
        Identity { dev: meta.dev(), ino: meta.ino(), mode: meta.mode() & libc::S_IFMT, state }
    }

    /// Whether it is the same file as `other`, whatever it holds.
    pub fn is_same(&self, other: &Identity) -> bool {
        (self.dev, self.ino, self.mode) == (other.dev, other.ino, other.mode)
    }
}

/// A file of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNeed {
    pub path: String,
    pub identity: Identity,
    /// `O_*`.
    pub flags: i32,
    /// Its contents matter: it must not have been changed.
    pub contents: bool,
}

impl FileNeed {
    /// Opens it, if it is still the same.
    ///
    /// # Errors
    /// [`ImageError::Missing`], [`ImageError::Changed`].
    pub fn open(&self, allow_changed: bool) -> Loaded<File> {
        let missing = |source| ImageError::Missing { path: self.path.clone(), source };
        let access = self.flags & libc::O_ACCMODE;
        let flags = (self.flags & !(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_EXCL | libc::O_NOFOLLOW))
            | libc::O_NONBLOCK;
        let mut options = fs::OpenOptions::new();
        options.read(access != libc::O_WRONLY).write(access != libc::O_RDONLY).custom_flags(flags | libc::O_NOCTTY);
        // Not before it is known to be what it was: opening a device or a pipe can do something.
        let held = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&self.path).map_err(missing)?;
        let is = Identity::of(&held.metadata().map_err(missing)?);
        if !self.identity.is_same(&is) || self.contents && !allow_changed && self.identity != is {
            return Err(ImageError::Changed(self.path.clone()));
        }
        if self.flags & libc::O_PATH != 0 {
            return Ok(held);
        }
        options.open(format!("/proc/self/fd/{}", held.as_raw_fd())).map_err(missing)
    }
}

/// How a descriptor is opened again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recipe {
    /// The window's memory file.
    Window,
    /// A file, by its path on the host.
    File(FileNeed),
    /// Memory that is in the image.
    Memory,
    /// One of the standard streams of the first program.
    Stream {
        /// 0 to 2.
        number: u32,
        /// It was a terminal with these modes.
        terminal: Option<Modes>,
    },
    /// A socket of the host's network.
    Socket(Socket),
    /// One of the standard streams of a program that was started later, and that nobody is at the other end of any more.
    Detached {
        /// Which program, from 1 on.
        program: u32,
        /// 0 to 2.
        stream: u32,
    },
}

/// A descriptor of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub number: i32,
    pub recipe: Recipe,
    /// Offset of its description.
    pub offset: u64,
}

/// A memory file, of which the image has the contents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemoryFile {
    pub number: i32,
    pub size: u64,
    /// `F_SEAL_*`.
    pub seals: i32,
    pub fills: Vec<Fill>,
    /// It is this copy of code, which is taken if it is still there.
    pub copy: Option<FileNeed>,
}

impl MemoryFile {
    /// The copy of code itself, which costs less than another file with its contents, if it is still there and was
    /// written since the host started: of what was written before, pages may be missing.
    pub fn opened_copy(&self) -> Option<File> {
        let file = self.copy.as_ref()?.open(false).ok()?;
        let clock = |id| nix::time::clock_gettime(id).ok();
        let (now, up) = (clock(ClockId::CLOCK_REALTIME)?, clock(ClockId::CLOCK_BOOTTIME)?);
        let meta = file.metadata().ok()?;
        let changed = TimeSpec::new(meta.ctime(), meta.ctime_nsec());
        (changed > now - up).then_some(file)
    }
}

/// What is known of a descriptor while it is saved.
pub struct Known {
    pub descriptor: Descriptor,
    pub key: FileKey,
}

/// The descriptors of `supervisor` that are the kernel's.
///
/// # Errors
/// One that cannot be opened again, by name; the host's.
pub fn all(supervisor: u32, frozen: &Frozen, detach: bool) -> Saved<Vec<Known>> {
    let dir = format!("/proc/{supervisor}/fd");
    let failed = |e| SaveError::host("look at the sandbox's host descriptors", e);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(&dir).map_err(failed)? {
        numbers.extend(entry.map_err(failed)?.file_name().to_string_lossy().parse::<i32>());
    }
    numbers.sort_unstable();
    let mut out = Vec::new();
    for number in numbers.into_iter().filter(|n| *n > 2 && !frozen.own.contains(n)) {
        out.extend(one(supervisor, number, frozen, detach)?);
    }
    if out.iter().any(|k| k.descriptor.recipe == Recipe::Window) {
        return Ok(out);
    }
    Err(SaveError::Unsavable("its kernel's memory file is not to be seen".into()))
}

/// The directory of copies of code, empty for none.
pub fn cache(supervisor: u32, frozen: &Frozen) -> String {
    let link = fs::read_link(format!("/proc/{supervisor}/fd/{}", frozen.text_cache)).unwrap_or_default();
    link.into_os_string().into_string().unwrap_or_default()
}

/// Whether a file is a copy of code, which may be replaced or removed at any time: its contents belong into the image.
pub fn is_copy(name: &str, cache: &str) -> bool {
    !cache.is_empty() && name.strip_prefix(cache).is_some_and(|rest| rest.starts_with('/'))
}

/// The copy of code that a descriptor is of.
pub fn copy(supervisor: u32, number: i32, cache: &str, meta: &Metadata) -> Option<FileNeed> {
    let name = fs::read_link(format!("/proc/{supervisor}/fd/{number}")).ok()?.into_os_string().into_string().ok()?;
    let need = FileNeed { path: name, identity: Identity::of(meta), flags: libc::O_RDONLY, contents: true };
    is_copy(&need.path, cache).then_some(need)
}

/// What the supervisor's poller watches for good, of which it keeps no record: descriptors and events.
pub fn watched(supervisor: u32, frozen: &Frozen) -> Vec<(i32, u32)> {
    let pollers = frozen.own.iter().filter_map(|fd| fs::read_to_string(format!("/proc/{supervisor}/fdinfo/{fd}")).ok());
    pollers.flat_map(|text| text.lines().filter_map(watch).collect::<Vec<_>>()).collect()
}

/// A line about a descriptor that is watched (`proc_pid_fdinfo(5)`), if it is one of the kernel's and watched for good.
fn watch(line: &str) -> Option<(i32, u32)> {
    let mut words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
    let fd: i32 = words.next()?.parse().ok()?;
    let events = u32::from_str_radix(words.nth(1)?, 16).ok()?;
    let token = u64::from_str_radix(words.nth(1)?, 16).ok()?;
    (token == fd as u64 && events & libc::EPOLLET as u32 != 0).then_some((fd, events))
}

/// Flags and offset of a description.
fn description(supervisor: u32, number: i32) -> io::Result<(i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{supervisor}/fdinfo/{number}"))?;
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let flags = field("flags:").and_then(|s| i32::from_str_radix(s, 8).ok()).ok_or_else(bad)?;
    let offset = field("pos:").and_then(|s| s.parse().ok()).ok_or_else(bad)?;
    Ok((flags & !libc::O_CLOEXEC, offset))
}

fn one(supervisor: u32, number: i32, frozen: &Frozen, detach: bool) -> Saved<Option<Known>> {
    let place = format!("/proc/{supervisor}/fd/{number}");
    let failed = |e| SaveError::host(format!("look at the sandbox's host descriptor {number}"), e);
    let name = fs::read_link(&place).map_err(failed)?;
    let name = name
        .to_str()
        .ok_or_else(|| SaveError::Unsavable(format!("{} is no name that can be kept", name.display())))?
        .to_string();
    let (flags, offset) = description(supervisor, number).map_err(failed)?;
    let meta = fs::metadata(&place).map_err(failed)?;
    let key = (libc::major(meta.dev()), libc::minor(meta.dev()), meta.ino());
    let handed = frozen.handed_in.iter().find(|h| h.fd == number);
    let recipe = if number == frozen.window_fd {
        if !name.starts_with("/memfd:") {
            return Err(SaveError::Unsavable(format!("{name} is no kernel's memory file")));
        }
        Recipe::Window
    } else if let Some(handed) = handed {
        match (handed.program, handed.number) {
            (0, stream @ 0..3) => {
                let terminal = meta.file_type().is_char_device().then(|| copy_of(supervisor, number).ok()).flatten();
                Recipe::Stream { number: stream, terminal: terminal.and_then(|fd| Modes::of(&fd)) }
            }
            (0, other) => return Err(SaveError::Unsavable(format!("descriptor {other} ({name}) was handed in"))),
            (program, stream @ 0..3) if detach => Recipe::Detached { program, stream },
            _ => return Err(SaveError::Unsavable(format!("a program that was started from outside has {name}"))),
        }
    } else if name.starts_with("/memfd:") || is_copy(&name, &cache(supervisor, frozen)) {
        Recipe::Memory
    } else if name.starts_with("anon_inode:[event")
        || name.starts_with("anon_inode:[signalfd")
        || name.starts_with("anon_inode:[timerfd")
    {
        // Of the supervisor.
        return Ok(None);
    } else if meta.file_type().is_socket() {
        Recipe::Socket(Socket::of(supervisor, number, flags)?)
    } else if meta.file_type().is_fifo() || !name.starts_with('/') {
        return Err(SaveError::Unsavable(format!("its host descriptor {number} ({name}) cannot be opened again")));
    } else {
        match file(name, flags, &meta)? {
            Some(need) => Recipe::File(need),
            None => Recipe::Memory,
        }
    };
    Ok(Some(Known { descriptor: Descriptor { number, recipe, offset }, key }))
}

/// The recipe of a file with a path; `None` where its contents are to be in the image.
fn file(name: String, flags: i32, meta: &Metadata) -> Saved<Option<FileNeed>> {
    let access = flags & libc::O_ACCMODE;
    let identity = Identity::of(meta);
    let there = fs::symlink_metadata(&name).ok().filter(|m| Identity::of(m).is_same(&identity));
    if there.is_some() {
        // What can be written to is the program's own business, as is what it finds in a directory.
        let contents = meta.is_file() && access == libc::O_RDONLY && flags & libc::O_PATH == 0;
        return Ok(Some(FileNeed { path: name, identity, flags, contents }));
    }
    if meta.is_file() && access == libc::O_RDONLY && flags & libc::O_PATH == 0 {
        return Ok(None);
    }
    Err(SaveError::Unsavable(format!("{} is in use and has no name any more", name.trim_end_matches(" (deleted)"))))
}

/// Has the host write what the sandbox has written to its files.
///
/// # Errors
/// [`SaveError::Sync`].
pub fn sync(supervisor: u32, known: &[Known]) -> Saved {
    for k in known {
        let Recipe::File(need) = &k.descriptor.recipe else { continue };
        if need.flags & libc::O_ACCMODE == libc::O_RDONLY
            || need.identity.mode != libc::S_IFREG
            || need.flags & libc::O_PATH != 0
        {
            continue;
        }
        let failed = |source| SaveError::Sync { path: need.path.clone(), source };
        File::open(format!("/proc/{supervisor}/fd/{}", k.descriptor.number))
            .and_then(|f| f.sync_all())
            .map_err(failed)?;
    }
    Ok(())
}
