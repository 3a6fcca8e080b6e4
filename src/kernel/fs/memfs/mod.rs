//! The in-memory file system: tmpfs, and with a host directory below it the copy-on-write overlay.
//!
//! Names live in dentries (as in Linux's ramfs): a directory here only knows which host directory, if
//! any, lies below it, from which names are imported at first sight. A regular file's data is either
//! the host's file, read through the gate, or pages of the memory file; the first change copies up.
//! Open descriptions go through the inode, so they switch with it.
//!
//! **What the host changes meanwhile.** A name, or its absence, is believed once seen. A host file is
//! looked at again whenever it has to be opened on the host: if it is the same file its attributes are
//! refreshed, if another stands there or none, the name is forgotten and looked up anew (`ESTALE` in
//! [`crate::vfs::open`]). An open description keeps the file that it opened, whatever becomes of the name.

mod file;
mod handles;
mod inode;
mod limits;
mod lower;
mod own;
mod secret;

use crate::abi::{Errno, Result, linux};
use crate::arena::{self, Object};
use crate::mm::memfile::PagedBuf;
use crate::sync::{Level, Mutex, RwLock};
use crate::time;
use crate::vfs::inode::{Attached, Nanos};
use crate::vfs::state::FileState;
use crate::vfs::{FileType, Inode, OpCtx, OpenFile, Stat, StatFs, acl, marks, mount, notify};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
pub use file::read_host;
use handles::Handle;
use limits::Limits;
pub use limits::{Options, complaint, limited, remount, shown_options};
use lower::{Lower, LowerPath};
pub use lower::{for_each_entry, makedev, reopen, stat_of};
use once_cell::race::OnceBox;
use own::Own;
pub use own::recount_mapped;
pub use secret::secret;

/// An instance: one mount of tmpfs, or one overlay.
pub struct MemFs {
    dev: u64,
    next_ino: AtomicU64,
    lower: Option<Lower>,
    /// What it may hold, of a tmpfs that can be mounted.
    limits: Option<Limits>,
}

static NEXT_DEV: AtomicU64 = AtomicU64::new(0x20);

struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    rdev: u64,
    /// 512-byte units that the host's file takes.
    host_blocks: u64,
    atime: Nanos,
    mtime: Nanos,
    ctime: Nanos,
    btime: Nanos,
}

impl Meta {
    /// What the host says of a file.
    fn of(s: &Stat) -> Meta {
        Meta {
            mode: s.mode,
            uid: s.uid,
            gid: s.gid,
            nlink: s.nlink,
            rdev: s.rdev,
            host_blocks: s.blocks,
            atime: s.atime,
            mtime: s.mtime,
            ctime: s.ctime,
            btime: s.btime,
        }
    }
}

/// Where a regular file's data is.
enum Data {
    Host(HostData),
    Memory(PagedBuf),
    /// See [`MemInode::own`].
    Own,
}

/// A host file: where it lies, and its descriptor while somebody keeps it open.
struct HostData {
    path: LowerPath,
    open: Weak<Handle>,
}

enum Body {
    Dir(Option<LowerPath>),
    File(RwLock<Data>),
    Symlink(Box<[u8]>),
    Special(Attached),
}

/// A node.
pub struct MemInode {
    fs: Arc<MemFs>,
    dev: u64,
    ino: u64,
    kind: FileType,
    meta: Mutex<Meta>,
    /// Bytes. It changes under the metadata's lock and, of data in memory, under the data's lock for writing, too: whoever
    /// has either reads what stays.
    size: AtomicU64,
    body: Body,
    /// `F_SEAL_*`; only files of `memfd_create` can have any but `F_SEAL_SEAL`.
    seals: AtomicU32,
    /// `FS_*_FL`.
    flags: AtomicU32,
    /// Reading it moves its access time: it has changed since it was read last.
    access_due: AtomicBool,
    /// It differs from what an import would make of the host's file.
    changed: AtomicBool,
    /// Its data is the host's. Once false it stays so; what says so without a lock is this, and the
    /// data itself under its lock.
    below: AtomicBool,
    /// The data, once a guest has mapped it; it stays there.
    own: OnceBox<Own>,
    /// Mappings through which a guest may write to it (`i_mmap_writable` in Linux).
    writable_maps: AtomicU32,
    xattrs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Which access control lists there are.
    acls: acl::Kinds,
    state: FileState,
    /// Pages that count against the file system's limits.
    counted: AtomicU64,
}

impl Drop for MemInode {
    fn drop(&mut self) {
        if notify::active() && self.meta.get_mut().nlink == 0 {
            let dir = self.kind == FileType::Dir;
            notify::ended(marks::Object { id: (self.dev, self.ino), fs: self.file_system(), dir, dentry: None });
        }
        if let Some(limits) = &self.fs.limits {
            limits.recount(*self.counted.get_mut(), 0);
            limits.leave();
        }
    }
}

/// Beside the seals: memory of `memfd_secret(2)`, which gets its length once.
const SECRET: u32 = 1 << 31;

/// The root of an empty tmpfs.
pub fn tmpfs(mode: u32, uid: u32, gid: u32) -> Arc<dyn Inode> {
    limits::plain_root(mode, uid, gid)
}

/// A file without a name (`memfd_create(2)`) with this mode and these seals.
///
/// # Errors
/// Those of opening it.
pub fn memfd(ctx: &OpCtx<'_>, name: &[u8], mode: u32, seals: u32) -> Result<Arc<OpenFile>> {
    let body = Body::File(RwLock::new(Level::FileData, Data::Memory(PagedBuf::new())));
    let inode = MemFs::new(None, None).node(FileType::Regular, mode, ctx.cred.fsuid, ctx.cred.fsgid, 0, body);
    inode.meta.lock().nlink = 0;
    inode.seals.store(seals, Relaxed);
    let ops = file::open(inode.clone(), linux::O_RDWR)?;
    let shown = alloc::format!("/memfd:{} (deleted)", alloc::string::String::from_utf8_lossy(name));
    let path = mount::detached_named(inode.clone(), "tmpfs", &shown);
    Ok(OpenFile::new(ops, inode, path, linux::O_RDWR | linux::O_LARGEFILE))
}

/// The root of an overlay above the host directory (or file) behind `root`, an O_PATH descriptor.
///
/// # Errors
/// The host's, when the directory cannot be looked at.
pub fn overlay(root: crate::host::HostFd) -> Result<Arc<dyn Inode>> {
    let fs = MemFs::new(Some(Lower::new(root)), None);
    let inode = fs.import(b"")?;
    Ok(inode)
}

/// Attributes of an open host descriptor.
///
/// # Errors
/// The host's.
pub fn host_stat(fd: i32) -> Result<Stat> {
    crate::host::files::statx(fd, b"").map(|s| lower::stat_of(&s))
}

/// File system figures of an open host descriptor.
///
/// # Errors
/// The host's.
pub fn host_statfs(fd: i32) -> Result<StatFs> {
    let s = crate::host::files::fstatfs(fd)?;
    Ok(StatFs {
        magic: s.f_type as u64,
        bsize: s.f_bsize as u64,
        blocks: s.f_blocks as u64,
        bfree: s.f_bfree as u64,
        bavail: s.f_bavail as u64,
        files: s.f_files as u64,
        ffree: s.f_ffree as u64,
        namelen: s.f_namelen as u64,
        flags: 0,
    })
}

impl MemFs {
    fn new(lower: Option<Lower>, limits: Option<Limits>) -> Arc<MemFs> {
        let dev = NEXT_DEV.fetch_add(1, Relaxed);
        Arc::new(MemFs { dev, next_ino: AtomicU64::new(1), lower, limits })
    }

    /// A new node in memory.
    fn node(self: &Arc<Self>, kind: FileType, mode: u32, uid: u32, gid: u32, rdev: u64, body: Body) -> Arc<MemInode> {
        let now = time::now_coarse();
        let size = if let Body::Symlink(t) = &body { t.len() as u64 } else { 0 };
        let nlink = if kind == FileType::Dir { 2 } else { 1 };
        Arc::new(MemInode {
            fs: self.clone(),
            dev: self.dev,
            ino: self.next_ino.fetch_add(1, Relaxed),
            kind,
            meta: Mutex::new(
                Level::Inode,
                Meta {
                    mode: kind as u32 | mode & 0o7777,
                    uid,
                    gid,
                    nlink,
                    rdev,
                    host_blocks: 0,
                    atime: now,
                    mtime: now,
                    ctime: now,
                    btime: now,
                },
            ),
            size: AtomicU64::new(size),
            body,
            seals: AtomicU32::new(linux::F_SEAL_SEAL),
            flags: AtomicU32::new(0),
            access_due: AtomicBool::new(true),
            changed: AtomicBool::new(true),
            below: AtomicBool::new(false),
            own: OnceBox::new(),
            writable_maps: AtomicU32::new(0),
            xattrs: Mutex::new(Level::Leaf, BTreeMap::new()),
            acls: acl::Kinds::new(0),
            state: FileState::default(),
            counted: AtomicU64::new(0),
        })
    }

    /// The node for a name of the host directory below.
    fn import(self: &Arc<Self>, path: &[u8]) -> Result<Arc<MemInode>> {
        let lower = self.lower.as_ref().ok_or(Errno::ENOENT)?;
        arena::charge(Object::Import)?;
        let s = lower.stat(path)?;
        let kind = FileType::from_mode(s.mode);
        let body = match kind {
            FileType::Dir => Body::Dir(Some(path.into())),
            FileType::Regular => {
                let data = HostData { path: path.into(), open: Weak::new() };
                Body::File(RwLock::new(Level::FileData, Data::Host(data)))
            }
            FileType::Symlink => Body::Symlink(lower.read_link(path)?.into()),
            _ => Body::Special(Mutex::new(Level::FileData, None)),
        };
        Ok(Arc::new(MemInode {
            fs: self.clone(),
            dev: s.dev,
            ino: s.ino,
            kind,
            meta: Mutex::new(Level::Inode, Meta::of(&s)),
            size: AtomicU64::new(s.size),
            body,
            seals: AtomicU32::new(linux::F_SEAL_SEAL),
            flags: AtomicU32::new(0),
            access_due: AtomicBool::new(true),
            changed: AtomicBool::new(false),
            below: AtomicBool::new(kind == FileType::Regular),
            own: OnceBox::new(),
            writable_maps: AtomicU32::new(0),
            xattrs: Mutex::new(Level::Leaf, BTreeMap::new()),
            acls: acl::Kinds::new(0),
            state: FileState::default(),
            counted: AtomicU64::new(0),
        }))
    }
}

fn mem(inode: &Arc<dyn Inode>) -> Result<&MemInode> {
    inode.as_any().downcast_ref::<MemInode>().ok_or(Errno::EXDEV)
}

impl MemInode {
    /// See the field.
    #[inline]
    fn size(&self) -> u64 {
        self.size.load(Relaxed)
    }

    fn file(&self) -> Result<&RwLock<Data>> {
        match &self.body {
            Body::File(data) => Ok(data),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The host file that has the data; `None` when it is in memory.
    ///
    /// # Errors
    /// The host's on opening it; `ESTALE` if another file or none is there by now.
    fn handle(&self) -> Result<Option<Arc<Handle>>> {
        let path = match &*self.file()?.read() {
            Data::Memory(_) | Data::Own => return Ok(None),
            Data::Host(host) => match host.open.upgrade() {
                Some(handle) => {
                    handle.touch();
                    return Ok(Some(handle));
                }
                None => host.path.clone(),
            },
        };
        let handle = self.open_below(&path)?;
        if let Data::Host(host) = &mut *self.file()?.write() {
            host.open = Arc::downgrade(&handle);
        }
        Ok(Some(handle))
    }

    /// Opens the host's file and looks whether it is still the one that was seen.
    fn open_below(&self, path: &[u8]) -> Result<Arc<Handle>> {
        let lower = self.fs.lower.as_ref().ok_or(Errno::EIO)?;
        let owner = self.meta.lock().uid;
        let fd = handles::with_room(|| lower.open_file(path, owner))?;
        let now = host_stat(fd.raw())?;
        let mut meta = self.meta.lock();
        // Some file systems number one file anew with each look-up.
        let same = (now.dev, now.ino) == (self.dev, self.ino) || (now.size, now.mtime) == (self.size(), meta.mtime);
        let regular = FileType::from_mode(now.mode) == self.kind;
        match self.changed.load(Relaxed) {
            true if !regular => return Err(Errno::EIO),
            true => {}
            false if !same || !regular => return Err(Errno::ESTALE),
            false => {
                *meta = Meta::of(&now);
                self.size.store(now.size, Relaxed);
            }
        }
        drop(meta);
        Ok(handles::keep(fd))
    }

    /// Makes the data memory's, with at most `keep` bytes of what the host has.
    fn copy_up(&self, data: &mut Data, keep: u64) -> Result {
        let Data::Host(host) = data else { return Ok(()) };
        let mut buf = PagedBuf::new();
        let mut size = self.size().min(keep);
        if size > 0 {
            let handle = match host.open.upgrade() {
                Some(handle) => handle,
                None => self.open_below(&host.path).map_err(|e| if e == Errno::ESTALE { Errno::EIO } else { e })?,
            };
            size = self.size().min(keep);
            lower::read_all(handle.raw(), size, &mut buf)?;
        }
        self.changed.store(true, Relaxed);
        *data = Data::Memory(buf);
        self.below.store(false, Release);
        Ok(())
    }

    fn resize(&self, size: u64) -> Result {
        let mut data = self.file()?.write();
        self.copy_up(&mut data, size)?;
        let before = self.size();
        if before != 0 && self.sealed(SECRET) {
            return Err(Errno::EINVAL);
        }
        let seal = if size < before { linux::F_SEAL_SHRINK } else { linux::F_SEAL_GROW };
        if size != before && self.sealed(seal) {
            return Err(Errno::EPERM);
        }
        match (&mut *data, self.own.get()) {
            (Data::Memory(buf), _) if size < before => buf.truncate(size),
            (Data::Memory(_), _) => {}
            (Data::Own, Some(own)) => own.resize(size)?,
            _ => return Err(Errno::EIO),
        }
        self.count_pages(&data);
        let _meta = self.meta.lock();
        self.size.store(size, Relaxed);
        Ok(())
    }

    /// The data as a file of the host's own memory, made where it is not one yet.
    fn own_file(&self, data: &mut Data) -> Result<&Own> {
        self.copy_up(data, u64::MAX)?;
        if let Data::Memory(buf) = data {
            let own = Own::new(buf, self.size())?;
            // Nobody else can have set it: the data is locked.
            let _ = self.own.set(Box::new(own));
            *data = Data::Own;
            self.count_pages(data);
        }
        self.own.get().ok_or(Errno::EIO)
    }

    /// Whether it has one of these seals.
    fn sealed(&self, seal: u32) -> bool {
        self.seals.load(Relaxed) & seal != 0
    }

    fn touch(&self, delta_links: i32) {
        self.changed.store(true, Relaxed);
        let mut meta = self.meta.lock();
        meta.nlink = meta.nlink.saturating_add_signed(delta_links);
        meta.ctime = time::now_coarse();
        self.access_due.store(true, Relaxed);
    }

    /// One of its names is gone. All but the last count against the file system's limits.
    fn lose_name(&self, dir: bool) {
        if !dir && self.meta.lock().nlink > 1 {
            self.fs.leave();
        }
        self.touch(if dir { -2 } else { -1 });
    }

    fn touch_dir(&self, delta_links: i32) {
        self.changed.store(true, Relaxed);
        let now = time::now_coarse();
        let mut meta = self.meta.lock();
        meta.nlink = meta.nlink.saturating_add_signed(delta_links);
        meta.mtime = now;
        meta.ctime = now;
        self.access_due.store(true, Relaxed);
    }
}
