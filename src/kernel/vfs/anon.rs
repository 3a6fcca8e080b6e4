//! Files without a name: pipes, sockets, eventfds and other anonymous inodes.

use super::dentry::Dentry;
use super::file::{FileOps, OpCtx, OpenFile};
use super::inode::{FileType, Inode, Nanos, SetAttr, Stat, StatFs};
use super::mount::{self, Mount, Path};
use super::state::{FileState, StateRef};
use crate::abi::{Errno, Result};
use crate::time;
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use once_cell::race::OnceBox;

static NEXT_INO: AtomicU64 = AtomicU64::new(1000);

/// Opens an anonymous object once more with the given flags (through `/proc/self/fd`).
pub type Reopen = Box<dyn Fn(&OpCtx<'_>, u32) -> Result<Box<dyn FileOps>> + Send + Sync>;

/// The inode of an anonymous file.
struct AnonInode {
    reopen: Option<Reopen>,
    /// Its times: those of a pipe are when it was made, others have none.
    made: Nanos,
    /// What kind of file it is; of a socket, the name of its protocol.
    name: &'static str,
    ino: u64,
    mode: AtomicU32,
    uid: AtomicU32,
    gid: AtomicU32,
    state: OnceBox<FileState>,
}

impl AnonInode {
    fn new(name: &'static str, mode: u32, ino: u64, uid: u32, gid: u32) -> AnonInode {
        AnonInode {
            reopen: None,
            made: 0,
            name,
            ino,
            mode: AtomicU32::new(mode),
            uid: AtomicU32::new(uid),
            gid: AtomicU32::new(gid),
            state: OnceBox::new(),
        }
    }

    /// Pipes and sockets have attributes of their own; those of other anonymous files cannot be changed.
    fn is_own(&self) -> bool {
        matches!(self.file_type(), FileType::Fifo | FileType::Socket)
    }
}

impl Inode for AnonInode {
    fn stat(&self) -> Result<Stat> {
        Ok(Stat {
            dev: 0xd,
            ino: self.ino,
            mode: self.mode.load(Relaxed),
            nlink: 1,
            uid: self.uid.load(Relaxed),
            gid: self.gid.load(Relaxed),
            blksize: 4096,
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
            ..Stat::default()
        })
    }
    fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode.load(Relaxed))
    }
    fn shown_name(&self) -> Option<Vec<u8>> {
        let (name, ino) = (self.name, self.ino);
        let shown = match (self.file_type(), name) {
            (FileType::Socket, _) => format!("socket:[{ino}]"),
            (_, "pipe") => format!("{name}:[{ino}]"),
            (_, "inotify") => format!("anon_inode:{name}"),
            _ => format!("anon_inode:[{name}]"),
        };
        Some(shown.into_bytes())
    }
    fn set_attr(&self, _ctx: &OpCtx<'_>, attr: &SetAttr) -> Result {
        if !self.is_own() {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(mode) = attr.mode {
            self.mode.store(self.file_type() as u32 | mode & 0o7777, Relaxed);
        }
        for (place, value) in [(&self.uid, attr.uid), (&self.gid, attr.gid)] {
            if let Some(value) = value {
                place.store(value, Relaxed);
            }
        }
        Ok(())
    }
    fn open(self: Arc<Self>, ctx: &OpCtx<'_>, flags: u32) -> Result<Box<dyn FileOps>> {
        self.reopen.as_ref().map_or(Err(Errno::ENXIO), |reopen| reopen(ctx, flags))
    }
    fn computed_xattr(&self) -> Option<(&'static str, &'static str)> {
        (self.file_type() == FileType::Socket).then_some(("system.sockprotoname", self.name))
    }
    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: 0x0904_1934, bsize: 4096, namelen: 255, ..StatFs::default() })
    }
    fn state(&self) -> StateRef<'_> {
        StateRef::Rare(&self.state)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open file description over `ops`. `name` is what `/proc/self/fd` shows: `pipe` with the inode number in brackets,
/// others as `anon_inode:[name]`.
pub fn anon_file(name: &'static str, ops: Box<dyn FileOps>, flags: u32, ctx: &OpCtx<'_>) -> Arc<OpenFile> {
    let ino = NEXT_INO.fetch_add(1, Relaxed);
    anon_file_with_ino(name, ops, flags, ctx, ino, None)
}

/// As [`anon_file`] with a given inode number (the two ends of a pipe share one) and a way to open it
/// once more.
pub fn anon_file_with_ino(
    name: &'static str,
    ops: Box<dyn FileOps>,
    flags: u32,
    ctx: &OpCtx<'_>,
    ino: u64,
    reopen: Option<Reopen>,
) -> Arc<OpenFile> {
    let (mode, made) = match name {
        "pipe" => (0o010600, time::now_coarse()),
        "pidfd" => (0o700, 0),
        _ => (0o600, 0),
    };
    let inode = AnonInode { reopen, made, ..AnonInode::new(name, mode, ino, ctx.cred.fsuid, ctx.cred.fsgid) };
    OpenFile::anonymous(ops, Arc::new(inode), flags)
}

/// An open file description over a socket of the protocol of this name.
pub fn socket_file(
    protocol: &'static str,
    ops: Box<dyn FileOps>,
    flags: u32,
    ctx: &OpCtx<'_>,
    ino: u64,
) -> Arc<OpenFile> {
    let inode = AnonInode::new(protocol, 0o140777, ino, ctx.cred.fsuid, ctx.cred.fsgid);
    OpenFile::anonymous(ops, Arc::new(inode), flags)
}

/// Where an anonymous file is found by those who follow its descriptor's link below `/proc`.
pub(super) fn place(inode: &Arc<dyn Inode>) -> Path {
    Path { mount: everybodys().clone(), dentry: Dentry::root(inode.clone()) }
}

/// The mount that all anonymous files are on.
fn everybodys() -> &'static Arc<Mount> {
    static MOUNT: OnceBox<Arc<Mount>> = OnceBox::new();
    MOUNT.get_or_init(|| {
        let root = AnonInode::new("", 0o040555, 1, 0, 0);
        let mount = mount::detached_named(Arc::new(root), "anon", "").mount;
        // Nothing on it can be mapped to be executed (`SB_I_NOEXEC`).
        mount.flags.fetch_or(mount::NOEXEC, Relaxed);
        Box::new(mount)
    })
}

/// A fresh inode number for an anonymous object.
pub fn new_ino() -> u64 {
    NEXT_INO.fetch_add(1, Relaxed)
}
