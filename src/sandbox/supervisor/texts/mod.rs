//! Copies of code in which call sites are rewritten, and the cache in which they outlive a sandbox.
//!
//! The kernel says which sites of which file have trapped (`mm::text`); the copy is made here, in the
//! supervisor, which is the only one that writes it. The cache is a directory of the user's own with a file
//! for each copy, by whose name the kernel finds it when the piece is mapped: a starting sandbox reads
//! nothing of it. A copy is good for one state of one file.

mod plan;

use crate::sandbox::error::{Error, Result};
use drupe_kernel::abi::text::{
    COPY_ENTRY, COPY_MARK, COPY_NAME, Checksum, CopyRecord, Patched, TextKey, TextPlan, seal,
};
use object::read::ReadCache;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Most copies in the cache, and most bytes of them.
const MAX_ENTRIES: usize = 256;
/// See [`MAX_ENTRIES`].
const MAX_BYTES: u64 = 256 << 20;

/// The directory of copies.
pub struct Cache {
    dir: PathBuf,
    handle: File,
}

impl Cache {
    /// Opens the directory, makes it if need be, and closes it to others. `None` where that cannot be done, or
    /// where others than this user could write.
    pub fn open(dir: &Path) -> Option<Cache> {
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).ok()?;
        }
        let handle = File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(dir).ok()?;
        let meta = handle.metadata().ok()?;
        // SAFETY: no preconditions.
        let own = meta.uid() == unsafe { libc::geteuid() };
        let mode = meta.permissions().mode();
        if !own || mode & 0o022 != 0 {
            return None;
        }
        if mode & 0o077 != 0 {
            handle.set_permissions(fs::Permissions::from_mode(0o700)).ok()?;
        }
        Some(Cache { dir: dir.to_path_buf(), handle })
    }

    /// The directory's path is this one now.
    pub fn moved_to(&mut self, dir: &str) {
        self.dir = dir.into();
    }

    /// Its descriptor, by which the kernel opens copies.
    pub fn fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }

    /// Adds a copy, in the place of an older one of the same piece; returns its file.
    fn store(&mut self, key: &TextKey, text: &[u8], plan: &TextPlan) -> io::Result<OwnedFd> {
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(self.dir.join("lock"))?;
        lock.lock()?;
        let sum = Checksum::of(text);
        let record = CopyRecord { key: *key, sum, plan: plan.clone() };
        let record = postcard::to_extend(&record, COPY_MARK.to_vec()).map_err(io::Error::other)?;
        let new = self.dir.join("new");
        // What a supervisor that was killed has left; another cannot be at it, under the lock.
        let _ = fs::remove_file(&new);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        file.write_all(&record)?;
        file.set_modified(sealed(sum))?;
        let name = key.copy_name();
        let path = self.dir.join(OsStr::from_bytes(&name));
        fs::rename(new, &path)?;
        self.sweep();
        Ok(File::open(&path)?.into())
    }

    /// Seals the copy of a piece, which has this sum, or removes it.
    fn checked(&self, key: &TextKey, sum: Option<u64>) -> io::Result<()> {
        let path = self.dir.join(OsStr::from_bytes(&key.copy_name()));
        match sum {
            Some(sum) => {
                let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
                file.set_modified(sealed(sum))
            }
            None => fs::remove_file(path),
        }
    }

    /// Removes the oldest copies beyond what the cache may hold, and what an earlier format has left. Under
    /// the lock.
    fn sweep(&self) {
        let Ok(files) = fs::read_dir(&self.dir) else { return };
        let mut copies = Vec::new();
        for file in files.filter_map(std::result::Result::ok) {
            let (Ok(name), Ok(meta)) = (file.file_name().into_string(), file.metadata()) else { continue };
            if name.len() == COPY_NAME && name.bytes().all(|b| b.is_ascii_hexdigit()) {
                // The time of modification is the seal.
                copies.push(((meta.ctime(), meta.ctime_nsec()), name, meta.len()));
            } else if name == "index" {
                let _ = fs::remove_file(file.path());
            }
        }
        copies.sort_unstable();
        let mut bytes = 0;
        for (i, (_, name, len)) in copies.into_iter().rev().enumerate() {
            bytes += len;
            if i >= MAX_ENTRIES || bytes > MAX_BYTES && i > 0 {
                bytes -= len;
                let _ = fs::remove_file(self.dir.join(name));
            }
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
        let record = CopyRecord::parse(&bytes.split_off(key.len as usize), key)?;
        (Checksum::of(&bytes) == record.sum).then_some((bytes, record.plan))
    }

    #[test]
    fn the_cache_keeps_the_newest_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("drupe-cache-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let mut cache = Cache::open(&dir).expect("a directory of our own");
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
        assert!(Cache::open(&dir).is_some());
        assert_eq!(fs::metadata(&dir).expect("ours").permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("ours");
        assert!(Cache::open(&dir).is_none(), "others can write there");
        fs::remove_dir_all(&dir).expect("ours");
    }
}
