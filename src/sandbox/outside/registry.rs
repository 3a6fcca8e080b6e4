//! Where running sandboxes are known by their names: a directory of the user's own.
//!
//! A sandbox `NAME` is a file `NAME`, which the holder keeps locked (`flock(2)`) for as long as it lives, and a socket
//! `.NAME.sock`. The host gives the lock up with the holder, however it ends, so an entry that can be locked is a dead
//! one, and whoever meets it removes it. A file is removed only by who has its lock and has seen that the name still
//! means this file, and a name is given to a new file only where there is none: so nobody removes a living one's.

use crate::sandbox::error::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Connections that wait to be taken.
const BACKLOG: i32 = 64;
/// How often a name is looked at again that seems to be in use: somebody who looks whether an entry is dead has its lock
/// for a moment.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(2);

/// What the file of a sandbox says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The holder's process id.
    pub pid: u32,
    /// When it was started, ns since 1970.
    pub started: u64,
}

/// A directory of running sandboxes.
pub struct Registry {
    dir: OwnedFd,
    path: PathBuf,
    owner: u32,
}

/// A name that is this process's.
pub struct Claim {
    dir: OwnedFd,
    name: String,
    file: File,
    listener: OwnedFd,
    /// A fork of the holder has no say.
    holder: u32,
}

/// What became of an entry that was looked at.
enum Looked {
    Living,
    Removed,
}

/// Whether this can be the name of a sandbox: letters, digits, `_`, `.` and `-`, the first a letter or digit, 64 at
/// most (as with `docker run --name`).
pub fn is_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric();
    let first = name.bytes().next().is_some_and(plain);
    first && name.len() <= 64 && name.bytes().all(|c| plain(c) || matches!(c, b'_' | b'.' | b'-'))
}

fn socket_name(name: &str) -> String {
    format!(".{name}.sock")
}

/// Where registries may be, in order.
fn places() -> Vec<PathBuf> {
    let uid = geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|p| p.is_absolute() && p.is_dir()).map(|p| p.join("drupe"));
    let own = if uid == 0 { PathBuf::from("/run/drupe") } else { PathBuf::from(format!("/tmp/drupe-{uid}")) };
    runtime.into_iter().chain([own]).collect()
}

/// Whether the directory in which a registry is to be belongs to another user, who could change what is in it.
fn is_foreign(place: &Path) -> bool {
    let parent = place.parent().and_then(|p| p.metadata().ok());
    parent.is_none_or(|m| m.uid() != 0 && m.uid() != geteuid().as_raw())
}

/// Where this user's sandboxes are registered.
pub fn own_place() -> Option<PathBuf> {
    places().into_iter().find(|p| !is_foreign(p))
}

impl Registry {
    /// Those that there are.
    ///
    /// # Errors
    /// One of them is not what it should be.
    pub fn all() -> Result<Vec<Registry>> {
        let mut all = Vec::new();
        for path in places() {
            match Registry::open(path) {
                Err(Error::Path { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                other => all.push(other?),
            }
        }
        Ok(all)
    }

    /// This user's own, made if there is none.
    ///
    /// # Errors
    /// The host's; a directory that others can reach.
    pub fn own() -> Result<Registry> {
        let path = own_place().ok_or_else(|| Error::Setting("there is no directory for running sandboxes".into()))?;
        match mkdirat(AT_FDCWD, &path, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(Error::Path { path, source: e.into() }),
        }
        let registry = Registry::open(path)?;
        match registry.owner == geteuid().as_raw() {
            true => Ok(registry),
            false => Err(registry.error(Errno::EPERM)),
        }
    }

    /// Opens a directory that its owner alone can reach.
    fn open(path: PathBuf) -> Result<Registry> {
        let failed = |source: Errno| Error::Path { path: path.clone(), source: source.into() };
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let dir = open(&path, flags, Mode::empty()).map_err(failed)?;
        let stat = fstat(&dir).map_err(failed)?;
        let me = geteuid().as_raw();
        if me != 0 && stat.st_uid != me || stat.st_mode & 0o077 != 0 {
            let shown = path.display();
            return Err(Error::Setting(format!("{shown} must be yours alone: running sandboxes are known there")));
        }
        Ok(Registry { dir, path, owner: stat.st_uid })
    }

    fn error(&self, source: impl Into<io::Error>) -> Error {
        Error::Path { path: self.path.clone(), source: source.into() }
    }

    /// Who owns it, and so the sandboxes in it.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Takes a name, and listens for who asks for it.
    ///
    /// # Errors
    /// [`Error::NameInUse`]; the host's.
    pub fn claim(&self, name: &str, entry: &Entry) -> Result<Claim> {
        if !is_name(name) {
            return Err(Error::Setting(format!("not a name for a sandbox: {name:?}")));
        }
        let mut looks = 0;
        while looks < LOOKS {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            match openat(&self.dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
                Ok(file) => {
                    let file = File::from(file);
                    // Who looked at it before it was locked has removed it, or is about to.
                    if lock(&file) && is_still(&self.dir, name, &file) {
                        return self.fill(name, file, entry).map_err(|e| self.error(e));
                    }
                }
                Err(Errno::EEXIST) => {
                    if let Looked::Living = self.look(name)? {
                        looks += 1;
                        std::thread::sleep(PAUSE);
                    }
                }
                Err(e) => return Err(self.error(e)),
            }
        }
        Err(Error::NameInUse(name.into()))
    }

    fn fill(&self, name: &str, mut file: File, entry: &Entry) -> io::Result<Claim> {
        let listener = unix_socket()?;
        remove(&self.dir, &socket_name(name))?;
        bind(listener.as_raw_fd(), &self.address(name)?)?;
        listen(&listener, Backlog::new(BACKLOG)?)?;
        file.write_all(&serde_json::to_vec(entry)?)?;
        let dir = self.dir.try_clone()?;
        Ok(Claim { dir, name: name.into(), file, listener, holder: std::process::id() })
    }

    /// The address of a sandbox's socket. By the directory's descriptor: an address has room for a short path only.
    fn address(&self, name: &str) -> nix::Result<UnixAddr> {
        UnixAddr::new(format!("/proc/self/fd/{}/{}", self.dir.as_raw_fd(), socket_name(name)).as_str())
    }

    /// Looks whether an entry's sandbox lives, and removes it otherwise.
    fn look(&self, name: &str) -> Result<Looked> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(Looked::Removed),
            Err(e) => return Err(self.error(e)),
        };
        if !lock(&file) {
            return Ok(Looked::Living);
        }
        if is_still(&self.dir, name, &file) {
            remove(&self.dir, &socket_name(name)).map_err(|e| self.error(e))?;
            remove(&self.dir, name).map_err(|e| self.error(e))?;
        }
        Ok(Looked::Removed)
    }

    /// Names and entries of the living, in order. Dead ones are removed.
    ///
    /// # Errors
    /// The host's.
    pub fn living(&self) -> Result<Vec<(String, Entry)>> {
        // A descriptor of its own: copies share the place that was read up to.
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut dir = nix::dir::Dir::openat(&self.dir, ".", flags, Mode::empty()).map_err(|e| self.error(e))?;
        let mut all = Vec::new();
        for found in dir.iter() {
            let found = found.map_err(|e| self.error(e))?;
            let Ok(name) = found.file_name().to_str() else { continue };
            if is_name(name) && matches!(self.look(name)?, Looked::Living) {
                // One that is just beginning has nothing to say yet, and one that is just ending is gone.
                all.extend(self.entry(name).map(|entry| (name.to_string(), entry)));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    fn entry(&self, name: &str) -> Option<Entry> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        File::from(file).take(4096).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Connects to a sandbox; `None` if there is none of this name.
    ///
    /// # Errors
    /// The host's.
    pub fn connect(&self, name: &str) -> Result<Option<OwnedFd>> {
        for _ in 0..LOOKS {
            if !is_name(name) || matches!(self.look(name)?, Looked::Removed) {
                return Ok(None);
            }
            let socket = unix_socket().map_err(|e| self.error(e))?;
            let address = self.address(name).map_err(|e| self.error(e))?;
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => return Ok(Some(socket)),
                // Its name is there before its socket, and goes after it.
                Err(Errno::ENOENT | Errno::ECONNREFUSED) => std::thread::sleep(PAUSE),
                Err(e) => return Err(self.error(e)),
            }
        }
        Ok(None)
    }
}

impl Claim {
    /// The socket on which it is asked for.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Somebody may have removed the file by hand, and a sandbox have taken the name since.
        if self.holder == std::process::id() && is_still(&self.dir, &self.name, &self.file) {
            let _ = remove(&self.dir, &socket_name(&self.name));
            let _ = remove(&self.dir, &self.name);
        }
    }
}

/// Whether a name in a directory means this file.
fn is_still(dir: &OwnedFd, name: &str, file: &File) -> bool {
    let named = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
    matches!((named, fstat(file)), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// Removes a file, if it is there.
fn remove(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}

/// Locks a file, unless somebody else has.
fn lock(file: &File) -> bool {
    // SAFETY: plain numbers.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(what: &str) -> Registry {
        let path = std::env::temp_dir().join(format!("drupe-registry-{what}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        mkdirat(AT_FDCWD, &path, Mode::S_IRWXU).expect("made");
        Registry::open(path).expect("opened")
    }

    const ENTRY: Entry = Entry { pid: 1, started: 2 };

    #[test]
    fn names() {
        for name in ["a", "0", "web-1", "a.b_c", "A.sock"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(65);
        for name in ["", ".a", "-a", "_a", "a/b", "a b", "a:b", "ä", "..", long.as_str()] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_name_is_taken_once_and_free_again() {
        let r = registry("once");
        let claim = r.claim("a", &ENTRY).expect("free");
        assert!(matches!(r.claim("a", &ENTRY), Err(Error::NameInUse(_))));
        assert!(r.connect("a").expect("asked").is_some());
        assert!(r.connect("b").expect("asked").is_none());
        assert_eq!(r.living().expect("listed").len(), 1);
        drop(claim);
        assert!(r.living().expect("listed").is_empty());
        assert!(r.connect("a").expect("asked").is_none());
        drop(r.claim("a", &ENTRY).expect("free again"));
        std::fs::remove_dir(&r.path).expect("nothing is left in it");
    }

    #[test]
    fn dead_entries_are_removed_by_who_meets_them() {
        let r = registry("dead");
        let there = || ["a", ".a.sock"].map(|name| r.path.join(name).exists());
        for round in 0..3 {
            // As its holder left it that was killed: the lock is gone, the files are not.
            let mut claim = r.claim("a", &ENTRY).expect("free");
            claim.holder = 0;
            drop(claim);
            assert_eq!(there(), [true, true]);
            match round {
                0 => assert!(r.living().expect("listed").is_empty()),
                1 => assert!(r.connect("a").expect("asked").is_none()),
                _ => drop(r.claim("a", &ENTRY).expect("taken over")),
            }
            assert_eq!(there(), [false, false]);
        }
        std::fs::remove_dir(&r.path).expect("nothing is left in it");
    }

    #[test]
    fn one_of_many_gets_a_name_while_others_look() {
        let r = registry("many");
        let r = &r;
        for _ in 0..50 {
            let won: Vec<Claim> = std::thread::scope(|s| {
                let takers: Vec<_> = (0..4).map(|_| s.spawn(move || r.claim("a", &ENTRY).ok())).collect();
                let lookers: Vec<_> = (0..2).map(|_| s.spawn(move || r.living().expect("listed"))).collect();
                lookers.into_iter().for_each(|l| drop(l.join().expect("no panic")));
                takers.into_iter().filter_map(|t| t.join().expect("no panic")).collect()
            });
            assert_eq!(won.len(), 1);
            assert!(r.path.join("a").exists() && r.connect("a").expect("asked").is_some());
        }
        std::fs::remove_dir(&r.path).expect("nothing is left in it");
    }
}
