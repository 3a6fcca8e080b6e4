//! Nodes of the in-memory file system, as the rest of the kernel knows them.

use super::{Body, Data, MemInode, file, lower, mem};
use crate::abi::{Errno, Result, linux};
use crate::arena::{self, Object};
use crate::mm::memfile::PagedBuf;
use crate::sync::{Level, Mutex, RwLock};
use crate::time;
use crate::vfs::acl::{self, Inherited};
use crate::vfs::inode::{Attached, Emit, Nanos};
use crate::vfs::open::DirFile;
use crate::vfs::state::StateRef;
use crate::vfs::{Directory, FileOps, FileType, Inode, NewNode, OpCtx, Path, SetAttr, Stat, StatFs, xattr};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::*;

impl Inode for MemInode {
    fn stat(&self) -> Result<Stat> {
        let memory = match &self.body {
            Body::File(data) if !self.below.load(Acquire) => match (&*data.read(), self.own.get()) {
                (Data::Memory(buf), _) => Some(buf.charged() / 512),
                (Data::Own, Some(own)) => Some(own.held() / 512),
                _ => None,
            },
            _ => None,
        };
        let m = self.meta.lock();
        Ok(Stat {
            dev: self.dev,
            ino: self.ino,
            mode: m.mode,
            nlink: m.nlink,
            uid: m.uid,
            gid: m.gid,
            rdev: m.rdev,
            size: if self.kind == FileType::Dir && self.size() == 0 { 4096 } else { self.size() },
            blksize: 4096,
            blocks: memory.unwrap_or(m.host_blocks),
            atime: m.atime,
            mtime: m.mtime,
            ctime: m.ctime,
            btime: m.btime,
        })
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    #[inline]
    fn flags(&self) -> Option<u32> {
        matches!(self.kind, FileType::Regular | FileType::Dir | FileType::Symlink).then(|| self.flags.load(Relaxed))
    }

    fn set_flags(&self, flags: u32) -> Result {
        if self.kind == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        self.flags.store(flags, Relaxed);
        self.touch(0);
        Ok(())
    }

    #[inline]
    fn access_due(&self) -> bool {
        self.access_due.load(Relaxed)
    }

    fn accessed(&self, always: bool) {
        const DAY: Nanos = 24 * 3600 * 1_000_000_000;
        let now = time::now_coarse();
        let mut m = self.meta.lock();
        let changed = m.mtime.max(m.ctime);
        if always || m.atime <= changed || now.saturating_sub(m.atime) >= DAY {
            m.atime = now;
        }
        self.access_due.store(always || m.atime <= changed, Relaxed);
    }

    fn permissions(&self) -> Result<(u32, u32, u32)> {
        let m = self.meta.lock();
        Ok((m.mode, m.uid, m.gid))
    }

    fn identity(&self) -> Result<(u64, u64)> {
        Ok((self.dev, self.ino))
    }

    fn file_system(&self) -> u64 {
        self.fs.dev | 1 << 40
    }

    fn tells_end(&self) -> bool {
        true
    }

    fn set_attr(&self, _ctx: &OpCtx<'_>, attr: &SetAttr) -> Result {
        // F_SEAL_EXEC: what may be executed stays as it is.
        if let Some(mode) = attr.mode
            && self.sealed(linux::F_SEAL_EXEC)
            && (self.meta.lock().mode ^ mode) & 0o111 != 0
        {
            return Err(Errno::EPERM);
        }
        self.changed.store(true, Relaxed);
        if let Some(size) = attr.size {
            self.resize(size)?;
            xattr::lose_capabilities(self);
        }
        let now = time::now_coarse();
        let mut m = self.meta.lock();
        if attr.size.is_some() {
            m.mtime = now;
        }
        if let Some(mode) = attr.mode {
            m.mode = m.mode & !0o7777 | mode & 0o7777;
        }
        m.uid = attr.uid.unwrap_or(m.uid);
        m.gid = attr.gid.unwrap_or(m.gid);
        m.atime = attr.atime.unwrap_or(m.atime);
        m.mtime = attr.mtime.unwrap_or(m.mtime);
        m.ctime = now;
        self.access_due.store(true, Relaxed);
        Ok(())
    }

    fn open(self: Arc<Self>, ctx: &OpCtx<'_>, flags: u32) -> Result<Box<dyn FileOps>> {
        match self.kind {
            FileType::Dir => Ok(DirFile::new()),
            FileType::Regular => file::open(self, flags),
            FileType::Fifo => crate::fs::pipe::open_fifo(ctx, self, flags),
            // Devices are opened by their place.
            _ => Err(Errno::ENXIO),
        }
    }

    fn open_at(self: Arc<Self>, ctx: &OpCtx<'_>, path: &Path, flags: u32) -> Result<Box<dyn FileOps>> {
        if self.kind != FileType::Char {
            return self.open(ctx, flags);
        }
        let rdev = self.meta.lock().rdev;
        crate::fs::dev::open_device(ctx, rdev, path, flags)
    }

    fn read_link(&self, _ctx: &OpCtx<'_>) -> Result<Vec<u8>> {
        match &self.body {
            Body::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn as_dir(&self) -> Option<&dyn Directory> {
        (self.kind == FileType::Dir).then_some(self)
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(self.fs.figures())
    }

    fn layered(&self) -> bool {
        matches!(self.body, Body::Dir(Some(_)))
    }

    fn forgettable(&self) -> bool {
        let attached = matches!(&self.body, Body::Special(a) if a.lock().is_some());
        !attached && !self.changed.load(Relaxed) && self.xattrs.lock().is_empty()
    }

    fn state(&self) -> StateRef<'_> {
        StateRef::Own(&self.state)
    }

    fn attached(&self) -> Option<&Attached> {
        match &self.body {
            Body::Special(a) => Some(a),
            _ => None,
        }
    }

    fn acls(&self) -> Option<&acl::Kinds> {
        self.xattrs().is_some().then_some(&self.acls)
    }

    fn xattrs(&self) -> Option<&Mutex<BTreeMap<Vec<u8>, Vec<u8>>>> {
        (!self.fs.is_ramfs()).then_some(&self.xattrs)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for MemInode {
    fn lookup(&self, _ctx: &OpCtx<'_>, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match &self.body {
            Body::Dir(Some(path)) => Ok(self.fs.import(&lower::join(path, name))?),
            _ => Err(Errno::ENOENT),
        }
    }

    fn create(&self, ctx: &OpCtx<'_>, _name: &[u8], node: NewNode<'_>, mode: u32) -> Result<Arc<dyn Inode>> {
        arena::charge(Object::Name)?;
        let (dir_mode, dir_gid) = {
            let m = self.meta.lock();
            (m.mode, m.gid)
        };
        let setgid = dir_mode & 0o2000 != 0;
        let gid = if setgid { dir_gid } else { ctx.cred.fsgid };
        let mut mode = mode;
        let (kind, rdev, body) = match node {
            NewNode::Regular => {
                (FileType::Regular, 0, Body::File(RwLock::new(Level::FileData, Data::Memory(PagedBuf::new()))))
            }
            NewNode::Dir => {
                mode |= if setgid { 0o2000 } else { 0 };
                (FileType::Dir, 0, Body::Dir(None))
            }
            NewNode::Symlink(target) => (FileType::Symlink, 0, Body::Symlink(target.into())),
            NewNode::Node(kind, rdev) => (kind, rdev, Body::Special(Mutex::new(Level::FileData, None))),
        };
        let inherited = Inherited::from(self, kind, mode)?;
        self.fs.enter()?;
        let inode = self.fs.node(kind, inherited.mode, ctx.cred.fsuid, gid, rdev, body);
        inherited.give(&*inode)?;
        self.touch_dir(i32::from(kind == FileType::Dir));
        Ok(inode)
    }

    fn nameless(&self, ctx: &OpCtx<'_>, mode: u32) -> Result<Arc<dyn Inode>> {
        arena::charge(Object::Name)?;
        let (dir_mode, dir_gid) = {
            let m = self.meta.lock();
            (m.mode, m.gid)
        };
        let gid = if dir_mode & 0o2000 != 0 { dir_gid } else { ctx.cred.fsgid };
        let body = Body::File(RwLock::new(Level::FileData, Data::Memory(PagedBuf::new())));
        let inherited = Inherited::from(self, FileType::Regular, mode)?;
        self.fs.enter()?;
        let inode = self.fs.node(FileType::Regular, inherited.mode, ctx.cred.fsuid, gid, 0, body);
        inherited.give(&*inode)?;
        inode.meta.lock().nlink = 0;
        Ok(inode)
    }

    fn link(&self, _ctx: &OpCtx<'_>, _name: &[u8], inode: &Arc<dyn Inode>) -> Result {
        let node = mem(inode)?;
        if !Arc::ptr_eq(&node.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        arena::charge(Object::Name)?;
        // A file without a name has its inode already.
        if node.meta.lock().nlink > 0 {
            self.fs.enter()?;
        }
        node.touch(1);
        self.touch_dir(0);
        Ok(())
    }

    fn unlink(&self, _ctx: &OpCtx<'_>, _name: &[u8], inode: &Arc<dyn Inode>, dir: bool) -> Result {
        mem(inode)?.lose_name(dir);
        self.touch_dir(-i32::from(dir));
        Ok(())
    }

    fn rename(
        &self,
        _ctx: &OpCtx<'_>,
        _name: &[u8],
        inode: &Arc<dyn Inode>,
        new_dir: &Arc<dyn Inode>,
        _new_name: &[u8],
        target: Option<&Arc<dyn Inode>>,
        flags: u32,
    ) -> Result {
        let to = mem(new_dir)?;
        if !Arc::ptr_eq(&to.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        let node = mem(inode)?;
        let moved_dir = i32::from(node.kind == FileType::Dir);
        // Directories that `new_dir` loses, and that come here for it.
        let (mut lost, mut swapped) = (0, 0);
        if let Some(t) = target {
            let t = mem(t)?;
            lost = i32::from(t.kind == FileType::Dir);
            if flags & linux::RENAME_EXCHANGE != 0 {
                swapped = lost;
                t.touch(0);
            } else {
                t.lose_name(lost == 1);
            }
        }
        node.touch(0);
        self.touch_dir(swapped - moved_dir);
        to.touch_dir(moved_dir - lost);
        Ok(())
    }

    fn read_dir(&self, _ctx: &OpCtx<'_>, _pos: u64, emit: &mut Emit<'_>) -> Result {
        match (&self.body, &self.fs.lower) {
            (Body::Dir(Some(path)), Some(lower)) => lower.read_dir(path, emit),
            _ => Ok(()),
        }
    }
}
