//! Open file descriptions and what they can do.

use super::anon;
use super::async_io::AsyncIo;
use super::inode::Inode;
use super::mount::Path;
use super::notify;
use super::state::WriteAccess;
use super::watch::Watches;
use crate::abi::linux::{IN_CLOSE_NOWRITE, IN_CLOSE_WRITE};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::{Cred, landlock};
use crate::mm::{IoDst, IoSrc, MapWish, Mapped};
use crate::sync::{Events, Level, Mutex, WaitQueue};
use alloc::string::String;
use alloc::{boxed::Box, sync::Arc};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use once_cell::race::OnceBox;

/// What a file operation may know about who asks: never a whole task.
#[derive(Clone, Copy)]
pub struct OpCtx<'a> {
    /// Credentials.
    pub cred: &'a Cred,
    /// Thread group id, for lock owners and `F_SETOWN`; 0 for the kernel itself.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// `RLIMIT_FSIZE`, bytes.
    pub fsize_limit: u64,
    /// Process umask.
    pub umask: u32,
}

/// The position of reads and writes of files that have none of their own.
pub const HERE: u64 = u64::MAX;

/// `lseek(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Whence {
    Set,
    Cur,
    End,
    Data,
    Hole,
}

/// The behaviour of an open file; [`OpenFile`] owns offset, flags and locks.
///
/// Nothing here blocks, except host-backed files whose host call is made interruptible: an object
/// says `EAGAIN` and `read`/`write` of the system call layer sleep on [`FileOps::wait_queue`].
pub trait FileOps: Send + Sync + Any {
    /// Reads at `pos` (bytes; streams get [`HERE`]). 0 is the end.
    ///
    /// # Errors
    /// `EAGAIN` when it would block.
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, _dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        Err(Errno::EINVAL.into())
    }

    /// Writes at `pos`, or at the end with O_APPEND.
    ///
    /// # Errors
    /// `EAGAIN` when it would block, `EPIPE` (the caller raises SIGPIPE), `EFBIG`, `ENOSPC`.
    fn write(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, _src: &mut IoSrc<'_>, _pos: u64) -> SysResult<usize> {
        Err(Errno::EINVAL.into())
    }

    /// Whether a write that blocks goes on until everything is written (pipes, stream sockets), where
    /// others are done with one piece (eventfd, datagrams).
    fn writes_all(&self) -> bool {
        false
    }

    /// Whether a write that fails with `EPIPE` after it moved so many bytes raises SIGPIPE: pipes always do, sockets as
    /// their type says.
    fn raises_sigpipe(&self, _moved: usize) -> bool {
        true
    }

    /// Whether it has an offset: regular files and directories do, streams answer `ESPIPE`.
    fn seekable(&self) -> bool {
        false
    }

    /// Whether `pread(2)` and its like may be tried.
    fn has_positions(&self) -> bool {
        self.seekable()
    }

    /// Whether an anonymous object that is not [`FileOps::seekable`] has a position at all, which nothing moves.
    fn has_still_offset(&self) -> bool {
        true
    }

    /// The size for SEEK_END, and for SEEK_DATA and SEEK_HOLE the position asked for.
    ///
    /// # Errors
    /// `ENXIO` past the end.
    fn seek_to(&self, _file: &OpenFile, _whence: Whence, _offset: i64) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    /// Adds the lines of `/proc/PID/fdinfo` that only files of its kind have (`proc_pid_fdinfo(5)`).
    fn describe(&self, _out: &mut String) {}

    /// What it is ready for now. Regular files are always ready.
    fn poll(&self) -> Events {
        Events::IN | Events::OUT | Events::RDNORM | Events::WRNORM
    }

    /// Where readiness is announced; `None`: always ready.
    fn wait_queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Whether urgent data may come, of which the owner is told (SIGURG).
    fn has_urgent_data(&self) -> bool {
        false
    }

    /// How long a read (`Events::IN`) or write (`Events::OUT`) may wait, ns; `None`: for ever. Only asked
    /// once there is nothing to do but wait.
    fn wait_limit(&self, _events: Events) -> Option<u64> {
        None
    }

    /// `ioctl(2)`; `arg` is unchecked.
    ///
    /// # Errors
    /// `ENOTTY` for an unknown request.
    fn ioctl(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, _request: u32, _arg: u64) -> SysResult<u64> {
        Err(Errno::ENOTTY.into())
    }

    /// The commands of `fcntl(2)` that only some files know: pipe sizes, seals.
    ///
    /// # Errors
    /// `EINVAL` for an unknown command.
    fn fcntl(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, _command: u32, _arg: u64) -> SysResult<u64> {
        Err(Errno::EINVAL.into())
    }

    /// What `mmap` maps. It may take away from what may become of the mapping.
    ///
    /// # Errors
    /// `ENODEV` where mapping makes no sense, `EPERM` where a seal forbids it.
    fn mappable(&self, _wish: &mut MapWish) -> Result<Mapped> {
        Err(Errno::ENODEV)
    }

    /// `fsync` and `fdatasync`.
    ///
    /// # Errors
    /// `EINVAL` for pipes and the like.
    fn sync(&self, _data_only: bool) -> SysResult<()> {
        Err(Errno::EINVAL.into())
    }

    /// `fallocate(2)`.
    ///
    /// # Errors
    /// `ENODEV`, `EOPNOTSUPP`, `ENOSPC`.
    fn fallocate(&self, _ctx: &OpCtx<'_>, _mode: u32, _offset: u64, _len: u64) -> Result {
        Err(Errno::ENODEV)
    }

    /// `lseek` of files with an offset of their own kind: the host keeps it, because descriptions outside
    /// share it, or it never moves.
    fn host_seek(&self, _whence: u32, _offset: i64) -> Option<Result<u64>> {
        None
    }

    /// Whether it can say beforehand that a read or write would wait (`FMODE_NOWAIT`).
    fn knows_waits(&self) -> bool {
        true
    }

    /// Whether a write can have `RWF_*` (it has `write_iter` in Linux).
    fn takes_write_flags(&self) -> bool {
        true
    }

    /// Whether it is a terminal.
    fn is_tty(&self) -> bool {
        false
    }

    /// A descriptor for it was closed (not necessarily the last).
    fn flush(&self, _ctx: &OpCtx<'_>) {}

    /// As `Any`, for the owners of special files (epoll, eventfd, sockets, pidfds).
    fn as_any(&self) -> &dyn Any;
}

/// An open file description (`open(2)`): shared by duplicated descriptors and across fork.
pub struct OpenFile {
    /// Behaviour.
    pub ops: Box<dyn FileOps>,
    /// The inode, for everything but anonymous objects.
    pub inode: Arc<dyn Inode>,
    /// Where it was found.
    place: Place,
    /// Status flags (`O_APPEND`, `O_NONBLOCK`, access mode …), changed by F_SETFL.
    flags: AtomicU32,
    append_end: AtomicU64,
    /// What Landlock lets be done to it: of [`landlock::fs`], those rights that opening it does not take.
    allowed: AtomicU64,
    /// Nobody is told of what is done to it (`FMODE_NONOTIFY`).
    quiet: AtomicBool,
    /// Identity, for epoll and locks; never reused.
    pub id: u64,
    /// It may write to the file.
    write: Option<WriteAccess>,
    /// The offset, bytes. Locked for the length of a read or write that uses it.
    pub offset: Mutex<u64>,
    /// Whom it tells by signals.
    pub async_io: AsyncIo,
    /// The epoll instances that watch it.
    pub watches: Watches,
}

/// Where a file is found.
enum Place {
    /// Where it was opened.
    Found(Path),
    /// Nowhere: an anonymous file has a place once somebody follows its link below `/proc`.
    Nowhere(OnceBox<Path>),
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.watches.end(&*self.ops);
        self.async_io.end(&*self.ops);
        super::locks::release_description(self);
        let Some(path) = self.found() else { return };
        if self.write.is_some() {
            path.mount.count_writer(false);
        }
        if self.writable() {
            notify::open_file(self, IN_CLOSE_WRITE);
        } else if self.readable() {
            notify::open_file(self, IN_CLOSE_NOWRITE);
        }
    }
}

impl OpenFile {
    /// Reads into a kernel buffer at `pos`; short only at the end.
    ///
    /// # Errors
    /// The file's.
    pub fn read_at(&self, ctx: &OpCtx<'_>, buf: &mut [u8], pos: u64) -> SysResult<usize> {
        IoDst::with_kernel(buf, |dst| {
            while dst.left() > 0 {
                let at = pos + dst.done() as u64;
                if self.ops.read(ctx, self, dst, at)? == 0 {
                    break;
                }
            }
            Ok(dst.done())
        })
    }

    /// A new description.
    pub fn new(ops: Box<dyn FileOps>, inode: Arc<dyn Inode>, path: Path, flags: u32) -> Arc<OpenFile> {
        OpenFile::writing(ops, inode, path, flags, None)
    }

    /// As [`OpenFile::new`], of a file that it may write to.
    pub fn writing(
        ops: Box<dyn FileOps>,
        inode: Arc<dyn Inode>,
        path: Path,
        flags: u32,
        write: Option<WriteAccess>,
    ) -> Arc<OpenFile> {
        if write.is_some() {
            path.mount.count_writer(true);
        }
        OpenFile::placed(ops, inode, Place::Found(path), flags, write)
    }

    /// A new description of an anonymous file.
    pub fn anonymous(ops: Box<dyn FileOps>, inode: Arc<dyn Inode>, flags: u32) -> Arc<OpenFile> {
        OpenFile::placed(ops, inode, Place::Nowhere(OnceBox::new()), flags, None)
    }

    fn placed(
        ops: Box<dyn FileOps>,
        inode: Arc<dyn Inode>,
        place: Place,
        flags: u32,
        write: Option<WriteAccess>,
    ) -> Arc<OpenFile> {
        Arc::new(OpenFile {
            ops,
            inode,
            place,
            flags: AtomicU32::new(flags),
            append_end: AtomicU64::new(0),
            allowed: AtomicU64::new(landlock::fs::ALL),
            quiet: AtomicBool::new(false),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            write,
            offset: Mutex::new(Level::FileOffset, 0),
            async_io: AsyncIo::new(),
            watches: Watches::new(),
        })
    }

    /// Where it was found: mount and dentry.
    pub fn path(&self) -> &Path {
        match &self.place {
            Place::Found(path) => path,
            Place::Nowhere(path) => path.get_or_init(|| Box::new(anon::place(&self.inode))),
        }
    }

    /// As [`OpenFile::path`]; `None` for an anonymous file that nobody can know by a path.
    pub fn found(&self) -> Option<&Path> {
        match &self.place {
            Place::Found(path) => Some(path),
            Place::Nowhere(path) => path.get(),
        }
    }

    /// Landlock lets only this be done to it ([`landlock::fs`]).
    pub fn allow_only(&self, rights: u64) {
        self.allowed.store(rights, Ordering::Relaxed);
    }

    /// Whether Landlock lets this be done to it.
    ///
    /// # Errors
    /// `EACCES`.
    pub fn check_allowed(&self, right: u64) -> Result {
        if self.allowed.load(Ordering::Relaxed) & right == right { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Whether nobody is told of what is done to it.
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// From now on nobody is told of what is done to it.
    pub fn hush(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// Status flags.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Replaces the flags that F_SETFL may change.
    pub fn set_flags(&self, flags: u32) {
        self.flags.store(flags, Ordering::Relaxed);
    }

    /// After a write with O_APPEND at no given position: the offset is the end of what was written.
    /// `read_write` holds the offset's lock meanwhile and takes this value.
    pub fn set_append_end(&self, end: u64) {
        self.append_end.store(end, Ordering::Relaxed);
    }

    /// What [`OpenFile::set_append_end`] recorded.
    pub fn append_end(&self) -> u64 {
        self.append_end.load(Ordering::Relaxed)
    }

    /// Whether O_NONBLOCK is set.
    pub fn nonblock(&self) -> bool {
        self.flags() & crate::abi::linux::O_NONBLOCK != 0
    }

    /// Whether it was opened for reading.
    pub fn readable(&self) -> bool {
        matches!(self.flags() & 3, 0 | 2) && self.flags() & crate::abi::linux::O_PATH == 0
    }

    /// Whether it was opened for writing.
    pub fn writable(&self) -> bool {
        matches!(self.flags() & 3, 1 | 2) && self.flags() & crate::abi::linux::O_PATH == 0
    }
}
