//! Queues as files: what `mount -t mqueue` shows, and open descriptions.

use super::super::Ipc;
use super::queue::Queue;
use super::{Mqueues, check_name};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::IoDst;
use crate::sync::{Events, Level, Mutex, WaitQueue};
use crate::task::ns::IpcNamespace;
use crate::task::ns::seen_pid;
use crate::task::{limits, work};
use crate::vfs::inode::Emit;
use crate::vfs::state::{FileState, StateRef};
use crate::vfs::{
    Directory, FileOps, FileType, Inode, NewNode, OpCtx, OpenFile, SetAttr, Stat, StatFs, Whence, anon, open,
};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Device number of the file systems.
const DEV: u64 = 0x19;
/// What each file's size is shown as (`FILENT_SIZE`).
const SIZE: u64 = 80;
/// `MQUEUE_MAGIC`.
const MAGIC: u64 = 0x1980_0202;

fn figures() -> StatFs {
    StatFs { magic: MAGIC, bsize: 4096, namelen: 255, ..StatFs::default() }
}

/// The file of a queue.
pub struct MqInode {
    pub(super) queue: Arc<Queue>,
    ino: u64,
    linked: AtomicBool,
    /// Mode, owner, group.
    owner: Mutex<(u32, u32, u32)>,
    state: FileState,
}

impl MqInode {
    pub(super) fn new(queue: Arc<Queue>, (mode, uid, gid): (u32, u32, u32)) -> Arc<MqInode> {
        Arc::new(MqInode {
            queue,
            ino: anon::new_ino(),
            linked: AtomicBool::new(true),
            owner: Mutex::new(Level::Leaf, (FileType::Regular as u32 | mode, uid, gid)),
            state: FileState::default(),
        })
    }

    pub(super) fn unlinked(&self) {
        self.linked.store(false, Relaxed);
    }
}

impl Inode for MqInode {
    fn stat(&self) -> Result<Stat> {
        let (mode, uid, gid) = *self.owner.lock();
        let [atime, mtime, ctime] = self.queue.state.lock().times;
        let nlink = u32::from(self.linked.load(Relaxed));
        let ino = self.ino;
        Ok(Stat {
            dev: DEV,
            ino,
            mode,
            nlink,
            uid,
            gid,
            size: SIZE,
            blksize: 4096,
            atime,
            mtime,
            ctime,
            ..Stat::default()
        })
    }
    fn permissions(&self) -> Result<(u32, u32, u32)> {
        Ok(*self.owner.lock())
    }
    fn file_type(&self) -> FileType {
        FileType::Regular
    }
    fn set_attr(&self, _ctx: &OpCtx<'_>, attr: &SetAttr) -> Result {
        let mut owner = self.owner.lock();
        if let Some(mode) = attr.mode {
            owner.0 = FileType::Regular as u32 | mode & 0o7777;
        }
        owner.1 = attr.uid.unwrap_or(owner.1);
        owner.2 = attr.gid.unwrap_or(owner.2);
        Ok(())
    }
    fn open(self: Arc<Self>, _ctx: &OpCtx<'_>, _flags: u32) -> Result<Box<dyn FileOps>> {
        Ok(Box::new(MqFile(self.queue.clone())))
    }
    fn statfs(&self) -> Result<StatFs> {
        Ok(figures())
    }
    fn state(&self) -> StateRef<'_> {
        StateRef::Own(&self.state)
    }
    fn cacheable(&self) -> bool {
        false
    }
    fn has_identity(&self) -> bool {
        true
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The directory of all queues of a namespace.
pub struct Root {
    ns: Arc<IpcNamespace>,
    state: FileState,
}

impl Root {
    /// That of `ns`.
    pub fn of(ns: &Arc<IpcNamespace>) -> Root {
        Root { ns: ns.clone(), state: FileState::default() }
    }

    fn queues(&self) -> &Mqueues {
        &Ipc::of(&self.ns).mq
    }
}

impl Inode for Root {
    fn stat(&self) -> Result<Stat> {
        let now = crate::time::now_coarse();
        let mode = FileType::Dir as u32 | 0o1777;
        let (ino, nlink) = (u64::from(self.ns.ino), 2);
        Ok(Stat { dev: DEV, ino, mode, nlink, blksize: 4096, atime: now, mtime: now, ctime: now, ..Stat::default() })
    }
    fn file_type(&self) -> FileType {
        FileType::Dir
    }
    fn set_attr(&self, _ctx: &OpCtx<'_>, _attr: &SetAttr) -> Result {
        Err(Errno::EPERM)
    }
    fn open(self: Arc<Self>, _ctx: &OpCtx<'_>, _flags: u32) -> Result<Box<dyn FileOps>> {
        Ok(open::DirFile::new())
    }
    fn as_dir(&self) -> Option<&dyn Directory> {
        Some(self)
    }
    fn statfs(&self) -> Result<StatFs> {
        Ok(figures())
    }
    fn state(&self) -> StateRef<'_> {
        StateRef::Own(&self.state)
    }
    fn cacheable(&self) -> bool {
        false
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for Root {
    fn lookup(&self, _ctx: &OpCtx<'_>, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.queues().find(name).map(|i| i as Arc<dyn Inode>)
    }

    fn create(&self, ctx: &OpCtx<'_>, name: &[u8], node: NewNode<'_>, mode: u32) -> Result<Arc<dyn Inode>> {
        if !matches!(node, NewNode::Regular) {
            return Err(Errno::EPERM);
        }
        check_name(name)?;
        let most = work::running().map_or(u64::MAX, |t| t.group.limits.get(limits::MSGQUEUE).0);
        self.queues().create(ctx.cred, name, mode, None, most).map(|i| i as Arc<dyn Inode>)
    }

    fn link(&self, _ctx: &OpCtx<'_>, _name: &[u8], _inode: &Arc<dyn Inode>) -> Result {
        Err(Errno::EPERM)
    }

    fn unlink(&self, _ctx: &OpCtx<'_>, name: &[u8], inode: &Arc<dyn Inode>, dir: bool) -> Result {
        if dir { Err(Errno::ENOTDIR) } else { self.queues().forget(name, Some(inode)) }
    }

    fn rename(
        &self,
        _ctx: &OpCtx<'_>,
        _name: &[u8],
        _inode: &Arc<dyn Inode>,
        _new_dir: &Arc<dyn Inode>,
        _new_name: &[u8],
        _target: Option<&Arc<dyn Inode>>,
        _flags: u32,
    ) -> Result {
        Err(Errno::EPERM)
    }

    fn read_dir(&self, _ctx: &OpCtx<'_>, pos: u64, emit: &mut Emit<'_>) -> Result {
        let all: Vec<(Vec<u8>, u64)> = {
            let names = self.queues().names.lock();
            let mut all = Vec::new();
            all.try_reserve_exact(names.len()).map_err(|_| Errno::ENOMEM)?;
            all.extend(names.iter().map(|(name, inode)| (name.clone(), inode.ino)));
            all
        };
        for (i, (name, ino)) in all.iter().enumerate().skip(pos as usize) {
            if !emit(name, *ino, FileType::Regular, i as u64 + 1) {
                break;
            }
        }
        Ok(())
    }
}

/// An open queue.
pub struct MqFile(pub(super) Arc<Queue>);

/// The queue that a descriptor is open for.
///
/// # Errors
/// `EBADF`.
pub fn of_file(file: &OpenFile) -> Result<Arc<Queue>> {
    file.ops.as_any().downcast_ref::<MqFile>().map(|f| f.0.clone()).ok_or(Errno::EBADF)
}

impl FileOps for MqFile {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        let text = {
            let bytes = self.0.held().1;
            let state = self.0.state.lock();
            let (how, signal, pid) = state.registered.as_ref().map_or((0, 0, 0), |r| r.shown());
            drop(state);
            let pid = seen_pid(pid);
            format!("QSIZE:{bytes:<10} NOTIFY:{how:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n")
        };
        let rest = usize::try_from(pos).ok().and_then(|p| text.as_bytes().get(p..)).unwrap_or(&[]);
        if rest.is_empty() { Ok(0) } else { Ok(dst.put(rest)?) }
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek_to(&self, _file: &OpenFile, whence: Whence, _offset: i64) -> Result<u64> {
        if whence == Whence::End { Ok(SIZE) } else { Err(Errno::EINVAL) }
    }

    fn poll(&self) -> Events {
        self.0.ready()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.readiness)
    }

    fn flush(&self, ctx: &OpCtx<'_>) {
        self.0.unregister(ctx.tgid);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
