//! Copies of code in which call sites are rewritten, and the cache in which they outlive a sandbox.
//!
//! The kernel says which sites of which file have trapped (`mm::text`); the copy is made here, in the
//! supervisor, which is the only one that writes it. The cache is a directory of the user's own with a file
//! for each copy, by whose name the kernel finds it when the piece is mapped: a starting sandbox reads
//! nothing of it. A copy is good for one state of one file.

mod plan;

use crate::sandbox::dirents;
use crate::sandbox::error::{Error, Result};
use drupe_kernel::abi::text::{
    COPY_ENTRY, COPY_MARK, COPY_NAME, Checksum, CopyRecord, Patched, TextKey, TextPlan, seal,
};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;
use object::read::ReadCache;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Most copies in the cache, and most bytes of them.
const MAX_ENTRIES: usize = 256;
/// See [`MAX_ENTRIES`].
const MAX_BYTES: u64 = 256 << 20;

/// A copy that is being written.
const NEW: &str = "new";

/// The directory of copies.
///
/// Everything in it is named below its descriptor: the supervisor's filter refuses the host's current directory.
pub struct Cache {
    handle: File,
}

impl Cache {
    /// Opens the directory, makes it if need be, and closes it to others. `None` where that cannot be done.
    ///
    /// # Errors
    /// Why it is not used: others than this user could write there.
    pub fn open(dir: &Path) -> std::result::Result<Option<Cache>, &'static str> {
        let Some((handle, meta)) = Cache::handle(dir) else { return Ok(None) };
        // SAFETY: no preconditions.
        if meta.uid() != unsafe { libc::geteuid() } {
            return Err("it is another user's");
        }
        let mode = meta.permissions().mode();
        if mode & 0o022 != 0 {
            return Err("others can write to it");
        }
        let closed = mode & 0o077 == 0 || handle.set_permissions(fs::Permissions::from_mode(0o700)).is_ok();
        Ok(closed.then_some(Cache { handle }))
    }

    fn handle(dir: &Path) -> Option<(File, fs::Metadata)> {
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).ok()?;
        }
        let handle = File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(dir).ok()?;
        let meta = handle.metadata().ok()?;
        Some((handle, meta))
    }

    /// Its descriptor, by which the kernel opens copies.
    pub fn fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }

    /// Adds a copy, in the place of an older one of the same piece; returns its file.
    fn store(&mut self, key: &TextKey, text: &[u8], plan: &TextPlan) -> io::Result<OwnedFd> {
        let lock = self.file("lock", libc::O_WRONLY | libc::O_CREAT)?;
        lock.lock()?;
        let sum = Checksum::of(text);
        let record = CopyRecord { key: *key, sum, plan: plan.clone() };
        let mut record = postcard::to_extend(&record, COPY_MARK.to_vec()).map_err(io::Error::other)?;
        record.extend_from_slice(&key.len.to_le_bytes());
        // What a supervisor that was killed has left; another cannot be at it, under the lock.
        let _ = self.remove(NEW);
        let mut file = self.file(NEW, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?;
        file.write_all(text)?;
        file.write_all(&record)?;
        file.set_modified(sealed(sum))?;
        let name = key.copy_name();
        let name = OsStr::from_bytes(&name);
        nix::fcntl::renameat(&self.handle, NEW, &self.handle, name)?;
        self.sweep();
        Ok(self.file(name, libc::O_RDONLY)?.into())
    }

    /// Opens a file of the directory, and no other by a link.
    fn file(&self, name: impl AsRef<OsStr>, flags: i32) -> io::Result<File> {
        let flags = OFlag::from_bits_retain(flags | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(nix::fcntl::openat(&self.handle, name.as_ref(), flags, mode)?.into())
    }

    fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(nix::unistd::unlinkat(&self.handle, name.as_ref(), UnlinkatFlags::NoRemoveDir)?)
    }

    /// Seals the copy of a piece, which has this sum, or removes it.
    fn checked(&self, key: &TextKey, sum: Option<u64>) -> io::Result<()> {
        let name = key.copy_name();
        let name = OsStr::from_bytes(&name);
        match sum {
            Some(sum) => self.file(name, libc::O_RDONLY)?.set_modified(sealed(sum)),
            None => self.remove(name),
        }
    }

    /// What is in the directory, by calls that the supervisor's filter knows.
    fn names(&self) -> io::Result<Vec<String>> {
        let dir = self.file(".", libc::O_RDONLY | libc::O_DIRECTORY)?;
        let (mut names, mut records) = (Vec::new(), vec![0u8; 32 << 10]);
        loop {
            let (at, len) = (records.as_mut_ptr(), records.len());
            // SAFETY: the buffer's bytes.
            match unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), at, len) } {
                -1 => return Err(io::Error::last_os_error()),
                0 => return Ok(names),
                n => names
                    .extend(dirents::names(&records[..n as usize]).filter_map(|n| n.to_str().ok().map(String::from))),
            }
        }
    }

    /// Removes the oldest copies beyond what the cache may hold, and what an earlier format has left. Under
    /// the lock.
    fn sweep(&self) {
        let mut copies = Vec::new();
        for name in self.names().unwrap_or_default() {
            if name.len() == COPY_NAME && name.bytes().all(|b| b.is_ascii_hexdigit()) {
                let Ok(st) = self.file(&name, libc::O_RDONLY).and_then(|file| status(&file)) else { continue };
                // The time of modification is the seal.
                copies.push(((st.st_ctime, st.st_ctime_nsec), name, st.st_size as u64));
            } else if name == "index" {
                let _ = self.remove(name.as_str());
            }
        }
        copies.sort_unstable();
        let mut bytes = 0;
        for (i, (_, name, len)) in copies.into_iter().rev().enumerate() {
            bytes += len;
            if i >= MAX_ENTRIES || bytes > MAX_BYTES && i > 0 {
                bytes -= len;
                let _ = self.remove(name.as_str());
            }
        }
    }
}

/// `fstat(2)` itself, where the C library looks at an empty name.
fn status(file: &File) -> io::Result<libc::stat> {
    // SAFETY: a record on this stack, which the host fills.
    unsafe {
        let mut st = std::mem::zeroed::<libc::stat>();
        match libc::syscall(libc::SYS_fstat, file.as_raw_fd(), &raw mut st) {
            0 => Ok(st),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn sealed(sum: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(seal(sum).unsigned_abs())
}

/// Makes copies.
pub struct Builder {
    /// Where they are kept, if anywhere.
    pub cache: Option<Cache>,
}

impl Builder {
    /// The kernel has read the copy of a piece in the cache: it is good, and has this sum, or is to go.
    pub fn checked(&self, key: &TextKey, sum: Option<u64>) {
        // Where this fails the copy is read the next time, too.
        let _ = self.cache.as_ref().map(|cache| cache.checked(key, sum));
    }

    /// Makes the copy of `key`, of the file behind `fd`, with these sites rewritten; those in `kept` as they are
    /// there.
    ///
    /// # Errors
    /// The host's; a file of which no copy can be made.
    pub fn build(&mut self, fd: RawFd, key: &TextKey, sites: &[u32], kept: &[Patched]) -> Result<(OwnedFd, TextPlan)> {
        // SAFETY: the kernel keeps the descriptor open until the job is done; it is not closed here.
        let file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
        let image = ReadCache::new(At { file: &file, size: key.file.size, at: 0 });
        let (text, plan) = plan::copy(&image, key, sites, kept, COPY_ENTRY)
            .ok_or_else(|| Error::Setting("no copy of this code can be made".into()))?;
        if let Some(cache) = &mut self.cache
            && let Ok(file) = cache.store(key, &text, &plan)
        {
            return Ok((file, plan));
        }
        let file = in_memory(&text).map_err(|e| Error::host("keep a copy of code", e))?;
        Ok((file, plan))
    }
}

/// A file without a name that holds `text`.
fn in_memory(text: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: a constant string and plain flags.
    let fd = unsafe { libc::memfd_create(c"drupe-text".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: made just now.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(text)?;
    Ok(file.into())
}

/// A file that is read in pieces, at offsets of our own: its descriptor's is the guest's. Not mapped, because
/// it may shrink meanwhile.
struct At<'a> {
    file: &'a File,
    size: u64,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drupe_kernel::abi::text::FileIdentity;

    fn key(ino: u64, ctime: i64) -> TextKey {
        TextKey { file: FileIdentity { ino, ctime, ..FileIdentity::default() }, offset: 0, len: 4096 }
    }

    /// What the kernel would find.
    fn found(dir: &Path, key: &TextKey) -> Option<(Vec<u8>, TextPlan)> {
        let mut bytes = fs::read(dir.join(OsStr::from_bytes(&key.copy_name()))).ok()?;
        let record = CopyRecord::parse(bytes.split_off(key.len as usize).strip_prefix(&COPY_MARK[..])?)?;
        (record.key == *key && Checksum::of(&bytes) == record.sum).then_some((bytes, record.plan))
    }

    #[test]
    fn the_cache_keeps_the_newest_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("drupe-cache-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let mut cache = Cache::open(&dir).expect("our own").expect("it can be made");
        fs::write(dir.join("new"), "left by one that was killed").expect("ours");
        fs::write(dir.join("index"), "left by an earlier version").expect("ours");
        let plan = TextPlan { refused: vec![7], ..TextPlan::default() };
        for (ino, ctime) in [(1, 1), (2, 1), (1, 2)] {
            let mut copy = File::from(cache.store(&key(ino, ctime), &[ino as u8; 4096], &plan).expect("stored"));
            let mut bytes = vec![0; 4096];
            copy.read_exact(&mut bytes).expect("readable");
            assert_eq!(bytes, [ino as u8; 4096]);
        }
        // Of the file that changed there is a copy of its new state only.
        assert_eq!(found(&dir, &key(1, 2)), Some((vec![1; 4096], plan.clone())));
        assert_eq!(found(&dir, &key(2, 1)), Some((vec![2; 4096], plan.clone())));
        assert_eq!(found(&dir, &key(1, 1)), None);
        let names = |ino| String::from_utf8(key(ino, 1).copy_name().to_vec()).expect("digits");
        let sealed = fs::metadata(dir.join(names(2))).and_then(|m| m.modified()).expect("ours");
        let since = sealed.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos();
        assert_eq!(since as i64, seal(Checksum::of(&[2; 4096])));
        for i in 0..MAX_ENTRIES as u64 - 1 {
            cache.store(&key(10 + i, 1), &[0; 4096], &plan).expect("stored");
        }
        assert_eq!(found(&dir, &key(2, 1)), None, "the oldest went");
        assert!(found(&dir, &key(1, 2)).is_some());
        let mut damaged = fs::read(dir.join(names(1))).expect("ours");
        damaged[100] ^= 1;
        fs::write(dir.join(names(1)), damaged).expect("ours");
        assert_eq!(found(&dir, &key(1, 2)), None, "one bit");
        // The copies and the lock.
        assert_eq!(fs::read_dir(&dir).expect("ours").count(), MAX_ENTRIES + 1);
        // Damage is no more than a copy that is not there.
        fs::write(dir.join(names(1)), vec![0; 5000]).expect("ours");
        assert_eq!(found(&dir, &key(1, 2)), None);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("ours");
        assert!(Cache::open(&dir).is_ok_and(|cache| cache.is_some()));
        assert_eq!(fs::metadata(&dir).expect("ours").permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("ours");
        assert!(Cache::open(&dir).is_err(), "others can write there");
        fs::remove_dir_all(&dir).expect("ours");
    }
}
