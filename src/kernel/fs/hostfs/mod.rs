//! The host's own files, writable: `--bind` and `--rw`.
//!
//! Every inode in use holds an O_PATH descriptor, and every call goes from such a descriptor with a
//! single name: no path of several steps is ever given to the host, so a guest that swaps a directory
//! for a symbolic link cannot lead us out of the tree. Nothing is cached, because the host changes
//! these files, too; descriptors go with the last use.

mod file;

use super::memfs;
use crate::abi::linux::{self, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, O_RDWR, O_WRONLY};
use crate::abi::{Errno, Result};
use crate::host::{HostFd, broker, files, window};
use crate::sync::{Level, Mutex};
use crate::vfs::inode::Emit;
use crate::vfs::open::DirFile;
use crate::vfs::state::{SharedState, StateRef};
use crate::vfs::{Directory, FileOps, FileType, Inode, NewNode, OpCtx, Path, SetAttr, Stat, StatFs};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// Mode bits that files are made with: the filter passes no set-id bits, which the broker gives afterwards.
const MADE: u32 = 0o1777;

/// A mounted host tree.
struct HostFs {
    /// Whether owners can be set: the host half runs with CAP_CHOWN.
    privileged: bool,
}

/// A file of the host that is in use.
pub struct HostInode {
    fs: Arc<HostFs>,
    fd: HostFd,
    kind: FileType,
    dev: u64,
    ino: u64,
    rdev: u64,
    state: SharedState,
    /// What it was made with, if its mode does not let its owner open it again: for who has made it.
    made: Mutex<Option<HostFd>>,
}

/// The root of the host tree (or the file) behind `root`, an O_PATH descriptor.
///
/// # Errors
/// The host's, when it cannot be looked at.
pub fn host_tree(root: HostFd, privileged: bool) -> Result<Arc<dyn Inode>> {
    let fs = Arc::new(HostFs { privileged });
    Ok(HostInode::new(fs, root)?)
}

fn inode_of(inode: &Arc<dyn Inode>) -> Result<&HostInode> {
    inode.as_any().downcast_ref::<HostInode>().ok_or(Errno::EXDEV)
}

/// The name that stands for descriptor `fd` below the host's `/proc`.
fn proc_name(fd: &HostFd) -> alloc::string::String {
    alloc::format!("thread-self/fd/{}", fd.raw())
}

impl HostInode {
    fn new(fs: Arc<HostFs>, fd: HostFd) -> Result<Arc<HostInode>> {
        let s = memfs::host_stat(fd.raw())?;
        Ok(Arc::new(HostInode {
            fs,
            fd,
            kind: FileType::from_mode(s.mode),
            dev: s.dev,
            ino: s.ino,
            rdev: s.rdev,
            state: SharedState::default(),
            made: Mutex::new(Level::Leaf, None),
        }))
    }

    fn child(&self, name: &[u8]) -> Result<Arc<HostInode>> {
        let fd = files::open_place(self.fd.raw(), name)?;
        HostInode::new(self.fs.clone(), fd)
    }

    fn chmod(&self, mode: u32) -> Result {
        broker::chmod(self.fd.raw(), mode & 0o7777)
    }

    /// Gives a new file the mode that was asked for, whatever the host's umask made of it, and its owner.
    fn settle(&self, ctx: &OpCtx<'_>, mode: u32) -> Result {
        if self.kind == FileType::Symlink {
            return Ok(());
        }
        let s = self.stat()?;
        if self.fs.privileged && (s.uid, s.gid) != (ctx.cred.fsuid, ctx.cred.fsgid) {
            broker::chown(self.fd.raw(), ctx.cred.fsuid, ctx.cred.fsgid)?;
        }
        let lacks = mode & !MADE & 0o7777 & !s.mode;
        if s.mode & 0o777 != mode & 0o777 || lacks != 0 { self.chmod(mode) } else { Ok(()) }
    }
}

impl Inode for HostInode {
    fn stat(&self) -> Result<Stat> {
        memfs::host_stat(self.fd.raw())
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn identity(&self) -> Result<(u64, u64)> {
        Ok((self.dev, self.ino))
    }

    fn set_attr(&self, _ctx: &OpCtx<'_>, attr: &SetAttr) -> Result {
        if let Some(size) = attr.size {
            let fd = memfs::reopen(self.fd.raw(), O_WRONLY)?;
            files::ftruncate(fd.raw(), size)?;
        }
        if attr.uid.is_some() || attr.gid.is_some() {
            broker::chown(self.fd.raw(), attr.uid.unwrap_or(u32::MAX), attr.gid.unwrap_or(u32::MAX))?;
        }
        if let Some(mode) = attr.mode {
            self.chmod(mode)?;
        }
        if attr.atime.is_some() || attr.mtime.is_some() {
            broker::set_times(self.fd.raw(), [attr.atime, attr.mtime])?;
        }
        Ok(())
    }

    fn open(self: Arc<Self>, _ctx: &OpCtx<'_>, flags: u32) -> Result<Box<dyn FileOps>> {
        match self.kind {
            FileType::Dir => Ok(DirFile::new()),
            FileType::Regular => match file::open(&self.fd, flags) {
                Err(Errno::EACCES) => {
                    let made = self.made.lock().take();
                    made.map(file::opened).ok_or(Errno::EACCES)
                }
                other => other,
            },
            // A FIFO's or socket's other side would be outside; devices are opened by their place.
            _ => Err(Errno::ENXIO),
        }
    }

    fn open_at(self: Arc<Self>, ctx: &OpCtx<'_>, path: &Path, flags: u32) -> Result<Box<dyn FileOps>> {
        if self.kind != FileType::Char {
            return self.open(ctx, flags);
        }
        super::dev::open_device(ctx, self.rdev, path, flags)
    }

    fn read_link(&self, _ctx: &OpCtx<'_>) -> Result<Vec<u8>> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        files::readlinkat(self.fd.raw(), b"")
    }

    fn as_dir(&self) -> Option<&dyn Directory> {
        (self.kind == FileType::Dir).then_some(self)
    }

    fn statfs(&self) -> Result<StatFs> {
        memfs::host_statfs(self.fd.raw())
    }

    fn cacheable(&self) -> bool {
        false
    }

    fn state(&self) -> StateRef<'_> {
        StateRef::Shared(&self.state)
    }

    fn has_identity(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for HostInode {
    fn lookup(&self, _ctx: &OpCtx<'_>, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.child(name)?)
    }

    fn create(&self, ctx: &OpCtx<'_>, name: &[u8], node: NewNode<'_>, mode: u32) -> Result<Arc<dyn Inode>> {
        let dir = self.fd.raw();
        let mut made = None;
        match node {
            NewNode::Regular => {
                let again = mode & 0o600 == 0o600;
                let access = if again { O_WRONLY } else { O_RDWR };
                let flags = linux::O_CREAT | linux::O_EXCL | access | O_NOFOLLOW;
                let fd = files::openat(dir, name, flags, mode & MADE)?;
                made = (!again).then_some(fd);
            }
            NewNode::Dir => files::mkdirat(dir, name, mode & MADE)?,
            NewNode::Symlink(target) => files::symlinkat(target, dir, name)?,
            NewNode::Node(kind @ (FileType::Fifo | FileType::Socket), _) => {
                files::mknodat(dir, name, kind as u32 | mode & MADE, 0)?;
            }
            NewNode::Node(..) => return Err(Errno::EPERM),
        }
        let inode = self.child(name)?;
        inode.settle(ctx, mode)?;
        *inode.made.lock() = made;
        Ok(inode)
    }

    fn nameless(&self, ctx: &OpCtx<'_>, mode: u32) -> Result<Arc<dyn Inode>> {
        // It can be opened again until it has the mode that was asked for.
        let file = files::openat(self.fd.raw(), b".", linux::O_TMPFILE | O_RDWR, mode & MADE | 0o600)?;
        let again = (mode & 0o600 != 0o600).then(|| memfs::reopen(file.raw(), O_RDWR)).transpose()?;
        let inode = HostInode::new(self.fs.clone(), file)?;
        inode.settle(ctx, mode)?;
        *inode.made.lock() = again;
        Ok(inode)
    }

    fn link(&self, _ctx: &OpCtx<'_>, name: &[u8], inode: &Arc<dyn Inode>) -> Result {
        let from = inode_of(inode)?;
        files::linkat_follow(window::proc_fd(), proc_name(&from.fd).as_bytes(), self.fd.raw(), name)
    }

    fn unlink(&self, _ctx: &OpCtx<'_>, name: &[u8], _inode: &Arc<dyn Inode>, dir: bool) -> Result {
        files::unlinkat(self.fd.raw(), name, dir)
    }

    fn rename(
        &self,
        _ctx: &OpCtx<'_>,
        name: &[u8],
        _inode: &Arc<dyn Inode>,
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        _target: Option<&Arc<dyn Inode>>,
        flags: u32,
    ) -> Result {
        let to = inode_of(new_dir)?;
        if !Arc::ptr_eq(&to.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        files::renameat(self.fd.raw(), name, to.fd.raw(), new_name, flags)
    }

    fn read_dir(&self, _ctx: &OpCtx<'_>, _pos: u64, emit: &mut Emit<'_>) -> Result {
        let fd = memfs::reopen(self.fd.raw(), O_RDONLY | O_DIRECTORY)?;
        memfs::for_each_entry(&fd, &mut |name, ino, kind| emit(name, ino, kind, 0))
    }
}
