//! What a file system implements: inodes and directories.

use super::file::{FileOps, OpCtx};
use super::state::StateRef;
use crate::abi::{Errno, Result};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::any::Any;

/// Major and minor of a device number as `stat(2)` tells it (`makedev(3)`).
pub fn split_dev(dev: u64) -> (u64, u64) {
    (dev >> 8 & 0xfff | dev >> 32 & !0xfff, dev & 0xff | dev >> 12 & 0xffff_ff00)
}

/// A device number as the kernel has it inside (`MKDEV` in `linux/kdev_t.h`), which some texts show.
pub fn kernel_dev(dev: u64) -> u64 {
    let (major, minor) = split_dev(dev);
    major << 20 | minor
}

/// The type bits of a mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum FileType {
    /// No type at all, as the inode of an eventfd has.
    Anonymous = 0,
    Fifo = 0o010000,
    Char = 0o020000,
    Dir = 0o040000,
    Block = 0o060000,
    Regular = 0o100000,
    Symlink = 0o120000,
    Socket = 0o140000,
}

impl FileType {
    /// From the type bits of a mode; anything unknown is an anonymous object.
    pub fn from_mode(mode: u32) -> FileType {
        match mode & 0o170000 {
            0o010000 => FileType::Fifo,
            0o020000 => FileType::Char,
            0o040000 => FileType::Dir,
            0o060000 => FileType::Block,
            0o120000 => FileType::Symlink,
            0o140000 => FileType::Socket,
            0o100000 => FileType::Regular,
            _ => FileType::Anonymous,
        }
    }
    /// `d_type` of a directory entry.
    pub fn dtype(self) -> u8 {
        (self as u32 >> 12) as u8
    }
}

/// Flags of files (`FS_*_FL`, `ioctl_iflags(2)`).
pub mod flags {
    /// It cannot be changed at all.
    pub const IMMUTABLE: u32 = 0x10;
    /// It can only be written behind its end.
    pub const APPEND: u32 = 0x20;
    /// Backups leave it out.
    pub const NODUMP: u32 = 0x40;
    /// Reading leaves its access time.
    pub const NOATIME: u32 = 0x80;
}

/// The in-kernel object behind a FIFO's or socket's node.
pub type Attached = crate::sync::Mutex<Option<Arc<dyn Any + Send + Sync>>>;

/// Nanoseconds since the epoch.
pub type Nanos = i64;

/// Everything that `statx(2)` can say.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// Device number of a node (`makedev` in the kernel's 64-bit user encoding).
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    /// 512-byte units.
    pub blocks: u64,
    pub atime: Nanos,
    pub mtime: Nanos,
    pub ctime: Nanos,
    /// 0: unknown.
    pub btime: Nanos,
}

/// `statfs(2)`.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct StatFs {
    pub magic: u64,
    pub bsize: u64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub namelen: u64,
    pub flags: u64,
}

/// A change of attributes; `None` leaves one alone. Permission was checked by the caller.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct SetAttr {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<Nanos>,
    pub mtime: Option<Nanos>,
}

/// What to make.
#[derive(Clone, Debug)]
pub enum NewNode<'a> {
    /// A regular file.
    Regular,
    /// A directory.
    Dir,
    /// A symbolic link to these bytes.
    Symlink(&'a [u8]),
    /// A FIFO, socket or device node with this device number.
    Node(FileType, u64),
}

/// A file of some file system. Kept alive by dentries and open files.
pub trait Inode: Send + Sync + Any {
    /// Attributes now.
    ///
    /// # Errors
    /// What the host says, for files of the host.
    fn stat(&self) -> Result<Stat>;

    /// Type; never changes.
    fn file_type(&self) -> FileType;

    /// What a descriptor of it is shown as where it lies in no tree and its mount has no name for it.
    fn shown_name(&self) -> Option<Vec<u8>> {
        None
    }

    /// Changes attributes (and ctime).
    ///
    /// # Errors
    /// `EROFS`, `EPERM` where attributes are fixed, what the host says.
    fn set_attr(&self, ctx: &OpCtx<'_>, attr: &SetAttr) -> Result;

    /// Makes the behaviour of a new open file description. `flags` are `open(2)`'s; permission,
    /// O_EXCL and O_TRUNC have been dealt with.
    ///
    /// # Errors
    /// `ENXIO` and the like.
    fn open(self: Arc<Self>, ctx: &OpCtx<'_>, flags: u32) -> Result<Box<dyn FileOps>>;

    /// As [`Inode::open`], of the file at `path`: for devices whose place says which one they are (`/dev/ptmx`).
    ///
    /// # Errors
    /// As [`Inode::open`].
    fn open_at(self: Arc<Self>, ctx: &OpCtx<'_>, _path: &super::mount::Path, flags: u32) -> Result<Box<dyn FileOps>> {
        self.open(ctx, flags)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` if it is none.
    fn read_link(&self, _ctx: &OpCtx<'_>) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// For links that lead to an object, not a name (`/proc/self/fd/3`): the open file's path.
    fn magic_link(&self, _ctx: &OpCtx<'_>) -> Option<Result<super::mount::Path>> {
        None
    }

    /// Directory operations, if it is one.
    fn as_dir(&self) -> Option<&dyn Directory> {
        None
    }

    /// Mode, owner and group, for permission checks.
    ///
    /// # Errors
    /// As [`Inode::stat`].
    fn permissions(&self) -> Result<(u32, u32, u32)> {
        self.stat().map(|s| (s.mode, s.uid, s.gid))
    }

    /// Whether nobody may write it, whatever its mode (`S_IMMUTABLE`).
    fn immutable(&self) -> bool {
        self.flags().is_some_and(|f| f & flags::IMMUTABLE != 0)
    }

    /// Whether it can only become longer, and its names stay (`S_APPEND`).
    fn append_only(&self) -> bool {
        self.flags().is_some_and(|f| f & flags::APPEND != 0)
    }

    /// Its [`flags`], where the file system keeps some.
    #[inline]
    fn flags(&self) -> Option<u32> {
        None
    }

    /// It has these flags from now on.
    ///
    /// # Errors
    /// `EOPNOTSUPP`.
    fn set_flags(&self, _flags: u32) -> Result {
        Err(Errno::EOPNOTSUPP)
    }

    /// Device and inode number.
    ///
    /// # Errors
    /// As [`Inode::stat`].
    fn identity(&self) -> Result<(u64, u64)> {
        self.stat().map(|s| (s.dev, s.ino))
    }

    /// A number of its file system, which no other has meanwhile.
    fn file_system(&self) -> u64 {
        self.identity().map_or(0, |(dev, _)| dev)
    }

    /// Whether it says itself when it is no more ([`super::notify::ended`]).
    fn tells_end(&self) -> bool {
        false
    }

    /// Figures of the file system.
    ///
    /// # Errors
    /// What the host says.
    fn statfs(&self) -> Result<StatFs>;

    /// Whether a dentry for this inode may be kept and believed. `false`: look up again each time
    /// (`/proc/<pid>`).
    fn cacheable(&self) -> bool {
        true
    }

    /// For a directory: whether names that no dentry knows may be found by `lookup`. `false` where the
    /// dentries are all there is (tmpfs).
    fn layered(&self) -> bool {
        true
    }

    /// Whether `lookup` would give the same again: nothing is lost when it is forgotten.
    fn forgettable(&self) -> bool {
        false
    }

    /// For uncached file systems: whether equal [`Inode::identity`] means the same file as long as
    /// one of the two is in use.
    fn has_identity(&self) -> bool {
        false
    }

    /// Called when the last dentry-to-inode reference of a FIFO or socket needs the in-kernel
    /// object behind the node: the pipe of a FIFO, the socket of a bound path.
    fn attached(&self) -> Option<&Attached> {
        None
    }

    /// What the file has while it is in use, whoever made this inode of it.
    fn state(&self) -> StateRef<'_>;

    /// Whether reading it now would move its access time, where a mount keeps it lazily (`MS_RELATIME`).
    #[inline]
    fn access_due(&self) -> bool {
        false
    }

    /// It was read; `always`: its access time is that of the last reading, not kept lazily.
    fn accessed(&self, _always: bool) {}

    /// Extended attributes, where the file system has them.
    fn xattrs(&self) -> Option<&crate::sync::Mutex<alloc::collections::BTreeMap<Vec<u8>, Vec<u8>>>> {
        None
    }

    /// The name and value, each without the NUL behind it, of the extended attribute that the file system computes.
    fn computed_xattr(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// Which access control lists it has, where the file system keeps such (`acl::Kind`).
    fn acls(&self) -> Option<&super::acl::Kinds> {
        None
    }

    /// As `Any`, for file systems to recognise their own.
    fn as_any(&self) -> &dyn Any;
}

/// What a directory can do beyond [`Inode`]. Names have been checked (no slash, not empty, `.` or
/// `..`, at most 255 bytes); permissions too.
pub trait Directory: Send + Sync {
    /// The inode called `name`.
    ///
    /// # Errors
    /// `ENOENT`.
    fn lookup(&self, ctx: &OpCtx<'_>, name: &[u8]) -> Result<Arc<dyn Inode>>;

    /// Makes an inode called `name`, owned by `ctx`'s file-system ids, with these permission bits.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `ENOSPC`, `EPERM` where nothing can be made.
    fn create(&self, ctx: &OpCtx<'_>, name: &[u8], node: NewNode<'_>, mode: u32) -> Result<Arc<dyn Inode>>;

    /// Makes a regular file that has no name (`O_TMPFILE`), owned by `ctx`'s file-system ids.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where there is no such thing, as for `create`.
    fn nameless(&self, _ctx: &OpCtx<'_>, _mode: u32) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// A further name for `inode`, which is of the same file system.
    ///
    /// # Errors
    /// `EEXIST`, `EXDEV`, `EPERM`, `EMLINK`.
    fn link(&self, ctx: &OpCtx<'_>, name: &[u8], inode: &Arc<dyn Inode>) -> Result;

    /// Removes `name`; with `dir` it must be an empty directory, without it none.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTEMPTY`, `ENOTDIR`, `EISDIR`, `EROFS`.
    fn unlink(&self, ctx: &OpCtx<'_>, name: &[u8], inode: &Arc<dyn Inode>, dir: bool) -> Result;

    /// Moves `name` to `new_name` in `new_dir` (same file system). `flags` are `renameat2(2)`'s.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`, `EXDEV`, `EINVAL`.
    #[allow(clippy::too_many_arguments)]
    fn rename(
        &self,
        ctx: &OpCtx<'_>,
        name: &[u8],
        inode: &Arc<dyn Inode>,
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        target: Option<&Arc<dyn Inode>>,
        flags: u32,
    ) -> Result;

    /// Calls `emit(name, ino, type, next position)` for each entry from `pos` on, in a stable order
    /// (`.` and `..` are the caller's), until it says `false`. For cached file systems these are only
    /// the names that dentries need not know of (a layer below); positions are then unused.
    ///
    /// # Errors
    /// What the host says.
    fn read_dir(&self, ctx: &OpCtx<'_>, pos: u64, emit: &mut Emit<'_>) -> Result;
}

/// Takes a directory entry: name, inode number, type, position of the next; `false` ends.
pub type Emit<'a> = dyn FnMut(&[u8], u64, FileType, u64) -> bool + 'a;
