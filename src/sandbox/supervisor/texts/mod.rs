//! Copies of code in which call sites are rewritten, and the cache in which they outlive a sandbox.
//!
//! The kernel says which sites of which file have trapped (`mm::text`); the copy is made here, in the
//! supervisor, which is the only one that writes it. The cache is a directory of the user's own: a file
//! for each copy, and an index that a starting sandbox reads. An entry is good for one state of one file.

mod plan;

use crate::sandbox::error::{Error, Result};
use drupe_kernel::abi::slot::SlotHeader;
use drupe_kernel::abi::text::{CachedText, TextKey, TextPlan};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Most copies in the cache, and most bytes of them.
const MAX_ENTRIES: usize = 64;
/// See [`MAX_ENTRIES`].
const MAX_BYTES: u64 = 256 << 20;
/// First bytes of the index: the format of index and copies, and what copies know of the kernel.
const MAGIC: [u8; 16] = *b"drupe text 3    ";
/// Where copies find the kernel's entry.
const ENTRY: u32 = offset_of!(SlotHeader, fast_entry) as u32;

/// The directory of copies.
pub struct Cache {
    dir: PathBuf,
    handle: File,
    made: u32,
}

fn magic() -> [u8; 16] {
    let mut magic = MAGIC;
    magic[12..].copy_from_slice(&ENTRY.to_le_bytes());
    magic
}

impl Cache {
    /// Opens the directory, makes it if need be. `None` where that cannot be done, or where others than
    /// this user can write.
    pub fn open(dir: &Path) -> Option<Cache> {
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).ok()?;
        }
        let handle = File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(dir).ok()?;
        let meta = handle.metadata().ok()?;
        // SAFETY: no preconditions.
        let own = meta.uid() == unsafe { libc::geteuid() };
        (own && meta.permissions().mode() & 0o022 == 0).then(|| Cache { dir: dir.to_path_buf(), handle, made: 0 })
    }

    /// Its descriptor, by which the kernel opens copies.
    pub fn fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }

    /// What is there.
    pub fn entries(&self) -> Vec<CachedText> {
        let Ok(bytes) = fs::read(self.dir.join("index")) else { return Vec::new() };
        let body = bytes.strip_prefix(&magic()[..]);
        body.and_then(|b| postcard::from_bytes(b).ok()).unwrap_or_default()
    }

    /// Adds a copy; returns its file.
    fn store(&mut self, key: &TextKey, text: &[u8], plan: &TextPlan) -> io::Result<OwnedFd> {
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(self.dir.join("lock"))?;
        lock.lock()?;
        self.made += 1;
        let mut hasher = DefaultHasher::new();
        (key.file.dev, key.file.ino, key.offset, key.file.ctime, std::process::id(), self.made).hash(&mut hasher);
        let name = format!("{:016x}", hasher.finish());
        let path = self.dir.join(&name);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text)?;
        let mut entries = self.entries();
        entries.insert(0, CachedText { key: *key, name, plan: postcard::to_stdvec(plan).map_err(io::Error::other)? });
        let mut bytes = 0;
        let mut kept = Vec::new();
        for (i, e) in entries.into_iter().enumerate() {
            // An older state of the same piece goes, too.
            let same =
                |k: &TextKey| (k.file.dev, k.file.ino, k.offset) == (e.key.file.dev, e.key.file.ino, e.key.offset);
            bytes += e.key.len;
            if i > 0
                && (kept.len() >= MAX_ENTRIES || bytes > MAX_BYTES || kept.iter().any(|k: &CachedText| same(&k.key)))
            {
                bytes -= e.key.len;
                let _ = fs::remove_file(self.dir.join(&e.name));
            } else {
                kept.push(e);
            }
        }
        let index = postcard::to_stdvec(&kept).map_err(io::Error::other)?;
        let new = self.dir.join("index.new");
        let mut out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        out.write_all(&magic())?;
        out.write_all(&index)?;
        fs::rename(new, self.dir.join("index"))?;
        self.sweep(&kept);
        Ok(File::open(&path)?.into())
    }

    /// Removes what nobody knows any more: copies of a supervisor that was killed in the middle. Under the
    /// lock nobody else is in the middle.
    fn sweep(&self, kept: &[CachedText]) {
        let Ok(files) = fs::read_dir(&self.dir) else { return };
        for name in files.filter_map(|f| f.ok()?.file_name().into_string().ok()) {
            let is_copy = name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
            if is_copy && !kept.iter().any(|k| k.name == name) {
                let _ = fs::remove_file(self.dir.join(name));
            }
        }
    }
}

/// Makes copies.
pub struct Builder {
    /// Where they are kept, if anywhere.
    pub cache: Option<Cache>,
}

impl Builder {
    /// Makes the copy of `key`, of the file behind `fd`, with these sites rewritten.
    ///
    /// # Errors
    /// The host's; a file of which no copy can be made.
    pub fn build(&mut self, fd: RawFd, key: &TextKey, sites: &[u32]) -> Result<(OwnedFd, TextPlan)> {
        let image = read(fd, key.file.size).map_err(|e| Error::host("read a file's code", e))?;
        let (text, plan) = plan::copy(&image, key, sites, ENTRY)
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

/// A file's bytes: read, not mapped, because it may shrink meanwhile.
fn read(fd: RawFd, size: u64) -> io::Result<Vec<u8>> {
    // SAFETY: the kernel keeps the descriptor open until the job is done; it is not closed here.
    let file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drupe_kernel::abi::text::FileIdentity;

    fn key(ino: u64, ctime: i64) -> TextKey {
        TextKey { file: FileIdentity { ino, ctime, ..FileIdentity::default() }, offset: 0, len: 4096 }
    }

    #[test]
    fn the_cache_keeps_the_newest_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("drupe-cache-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let mut cache = Cache::open(&dir).expect("a directory of our own");
        assert!(cache.entries().is_empty());
        fs::write(dir.join("0123456789abcdef"), "left by one that was killed").expect("ours");
        let plan = TextPlan { patched: Vec::new(), refused: vec![7] };
        for (ino, ctime) in [(1, 1), (2, 1), (1, 2)] {
            let mut copy = File::from(cache.store(&key(ino, ctime), &[ino as u8; 4096], &plan).expect("stored"));
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut copy, &mut bytes).expect("readable");
            assert_eq!(bytes, [ino as u8; 4096]);
        }
        // The file that changed has one entry, of its new state; another sandbox finds both files' copies.
        let entries = Cache::open(&dir).expect("still ours").entries();
        assert_eq!(entries.iter().map(|e| e.key).collect::<Vec<_>>(), [key(1, 2), key(2, 1)]);
        assert_eq!(postcard::from_bytes::<TextPlan>(&entries[0].plan).expect("a plan"), plan);
        for i in 0..MAX_ENTRIES as u64 + 5 {
            cache.store(&key(10 + i, 1), &[0; 4096], &plan).expect("stored");
        }
        let entries = cache.entries();
        assert_eq!(entries.len(), MAX_ENTRIES);
        // The copies, the index and the lock.
        assert_eq!(fs::read_dir(&dir).expect("ours").count(), MAX_ENTRIES + 2);
        // Damage is no more than a cache that is empty.
        fs::write(dir.join("index"), "nonsense").expect("ours");
        assert!(cache.entries().is_empty());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("ours");
        assert!(Cache::open(&dir).is_none(), "others can write there");
        fs::remove_dir_all(&dir).expect("ours");
    }
}
