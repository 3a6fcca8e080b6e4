//! The host tree below an overlay: looked at by path from one O_PATH descriptor, never written.

use crate::abi::{Errno, Result, linux};
use crate::host::{HostFd, files};
use crate::mm::memfile::PagedBuf;
use crate::vfs::FileType;
use crate::vfs::inode::{Emit, Stat};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A path below the root, without a leading slash; empty for the root itself.
pub type LowerPath = Box<[u8]>;

/// The path of `name` in the directory `path`.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 1 + name.len());
    out.extend_from_slice(path);
    if !path.is_empty() {
        out.push(b'/');
    }
    out.extend_from_slice(name);
    out
}

/// The attributes that the host's `statx` gave.
pub fn stat_of(s: &linux::statx) -> Stat {
    let ns = |t: &linux::statx_timestamp| t.tv_sec * 1_000_000_000 + i64::from(t.tv_nsec);
    Stat {
        dev: makedev(s.stx_dev_major, s.stx_dev_minor),
        ino: s.stx_ino,
        mode: u32::from(s.stx_mode),
        nlink: s.stx_nlink,
        uid: s.stx_uid,
        gid: s.stx_gid,
        rdev: makedev(s.stx_rdev_major, s.stx_rdev_minor),
        size: s.stx_size,
        blksize: s.stx_blksize,
        blocks: s.stx_blocks,
        atime: ns(&s.stx_atime),
        mtime: ns(&s.stx_mtime),
        ctime: ns(&s.stx_ctime),
        btime: ns(&s.stx_btime),
    }
}

/// A device number in the 64-bit user encoding (`makedev(3)`).
pub fn makedev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xfff) << 8 | (major & !0xfff) << 32 | minor & 0xff | (minor & !0xff) << 12
}

/// See the module.
pub struct Lower {
    root: HostFd,
    /// An owner whose files the host does not let us read without a trace; `NOBODY` while there is none.
    traced: AtomicU32,
}

/// No user has this id.
const NOBODY: u32 = u32::MAX;

impl Lower {
    /// The tree behind an O_PATH descriptor.
    pub fn new(root: HostFd) -> Lower {
        Lower { root, traced: AtomicU32::new(NOBODY) }
    }

    /// Attributes of a name; links are not followed.
    ///
    /// # Errors
    /// The host's.
    pub fn stat(&self, path: &[u8]) -> Result<Stat> {
        files::statx(self.root.raw(), path).map(|s| stat_of(&s))
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// The host's.
    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        files::readlinkat(self.root.raw(), path)
    }

    /// Opens for reading.
    ///
    /// # Errors
    /// The host's.
    pub fn open(&self, path: &[u8], flags: u32) -> Result<HostFd> {
        if path.is_empty() {
            // The root itself: an O_PATH descriptor is reopened through /proc.
            return reopen(self.root.raw(), flags);
        }
        files::openat(self.root.raw(), path, flags | linux::O_NOFOLLOW, 0)
    }

    /// Opens what was seen as a regular file of `owner`, for reading. What stands there instead by now
    /// is not waited for, and whatever may have become of the name is `ESTALE`. Where the host allows it
    /// to an owner (`O_NOATIME`), reading leaves no trace there, which also makes it cheaper.
    ///
    /// # Errors
    /// `ESTALE`, the host's.
    pub fn open_file(&self, path: &[u8], owner: u32) -> Result<HostFd> {
        let flags = linux::O_RDONLY | linux::O_NONBLOCK;
        let quiet = if self.traced.load(Relaxed) == owner { 0 } else { linux::O_NOATIME };
        let opened = match self.open(path, flags | quiet) {
            Err(Errno::EPERM) if quiet != 0 => {
                self.traced.store(owner, Relaxed);
                self.open(path, flags)
            }
            other => other,
        };
        opened.map_err(|e| match e {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO => Errno::ESTALE,
            e => e,
        })
    }

    /// The entries of a directory.
    ///
    /// # Errors
    /// The host's.
    pub fn read_dir(&self, path: &[u8], emit: &mut Emit<'_>) -> Result {
        let fd = self.open(path, linux::O_RDONLY | linux::O_DIRECTORY)?;
        for_each_entry(&fd, &mut |name, ino, kind| emit(name, ino, kind, 0))
    }
}

/// Copies the first `size` bytes of an open file into memory.
///
/// # Errors
/// The host's, `ENOSPC`.
pub fn read_all(fd: i32, size: u64, buf: &mut PagedBuf) -> Result {
    buf.reserve(size)?;
    let mut at = 0;
    while at < size {
        let Some((ptr, room)) = buf.piece(at) else { break };
        let n = room.min((size - at) as usize);
        let n = files::pread(fd, ptr as u64, n, at)?;
        if n == 0 {
            break;
        }
        at += n as u64;
    }
    Ok(())
}

/// Opens anew what an O_PATH descriptor stands for.
///
/// # Errors
/// The host's.
pub fn reopen(fd: i32, flags: u32) -> Result<HostFd> {
    let name = alloc::format!("thread-self/fd/{fd}");
    files::openat(crate::host::window::proc_fd(), name.as_bytes(), flags, 0)
}

/// Calls `emit(name, ino, type)` for every entry of an open host directory but `.` and `..`.
///
/// # Errors
/// The host's.
pub fn for_each_entry(fd: &HostFd, emit: &mut dyn FnMut(&[u8], u64, FileType) -> bool) -> Result {
    let mut buf = vec![0u8; 32 << 10];
    loop {
        let n = files::getdents(fd.raw(), &mut buf)?;
        if n == 0 {
            return Ok(());
        }
        let mut at = 0;
        while at + 19 <= n {
            // struct linux_dirent64: ino, off, reclen, type, name.
            let ino = u64::from_le_bytes(buf[at..at + 8].try_into().map_err(|_| Errno::EIO)?);
            let len = u16::from_le_bytes([buf[at + 16], buf[at + 17]]) as usize;
            let kind = FileType::from_mode(u32::from(buf[at + 18]) << 12);
            let entry = buf.get(at + 19..at + len.max(19)).ok_or(Errno::EIO)?;
            let name = entry.split(|&b| b == 0).next().unwrap_or(entry);
            if name != b"." && name != b".." && !emit(name, ino, kind) {
                return Ok(());
            }
            at += len.max(19);
        }
    }
}
