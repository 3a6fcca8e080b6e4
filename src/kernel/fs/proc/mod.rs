//! `/proc`: processes and the system as files (`proc(5)`).
//!
//! Nothing is stored: an inode says which process and which entry it stands for, text is made when a
//! file is read from its start, and no dentry is kept.

mod files;
mod id_map;
mod keys;
mod locks;
mod mem;
pub mod mounts;
pub mod ns;
mod process;
mod smaps;
mod status;
mod sysctl;
mod system;
#[cfg(test)]
mod tests;
mod usage;

use crate::abi::{Errno, Result};
use crate::cred::Kind;
use crate::fs::pidfd;
use crate::task::pid::PidNamespace;
use crate::task::{Task, ThreadGroup, lookup, lookup_group};
use crate::vfs::inode::Emit;
use crate::vfs::state::{SharedState, StateRef};
use crate::vfs::{Directory, FileOps, FileType, Inode, NewNode, OpCtx, OpenFile, Path, SetAttr, Stat, StatFs};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use files::Text;
pub use system::{FILE_SYSTEMS, Ipc, Network, cpus, set_ipc, set_network};

/// Places in a listing of the root from here on are those of processes (`FIRST_PROCESS_ENTRY`).
const FIRST_PID: u64 = 256;

/// Device number of the one instance.
const DEV: u64 = 0x15;

/// What an inode stands for. Tasks are named by thread-group id and thread id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Root,
    /// `self`.
    OwnProcess,
    /// `thread-self`.
    OwnThread,
    /// `mounts`, `net`: a link into `self`.
    IntoSelf(&'static str),
    Process(u32),
    Tasks(u32),
    Thread(u32, u32),
    Entry(u32, u32, &'static process::Entry),
    Fds(u32, u32),
    Fd(u32, u32, i32),
    FdInfos(u32, u32),
    FdInfo(u32, u32, i32),
    /// `ns` of a task.
    Namespaces(u32, u32),
    Namespace(u32, u32, &'static ns::Entry),
    System(&'static system::Entry),
    /// `net` of a process.
    Net(u32, u32),
    NetFile(&'static system::Entry),
    /// `sysvipc`, whose files are of the kind above.
    SysvIpc,
    /// `tty`.
    Terminals,
    /// A directory below `sys`, by its path with a slash at the end; empty for `sys` itself.
    Sys(&'static str),
    Setting(&'static sysctl::Setting),
}

/// An inode of `/proc`. Tasks in a [`Node`] have their numbers of the initial pid namespace; names and texts have those
/// of the namespace of the mount.
struct ProcInode {
    node: Node,
    pids: Arc<PidNamespace>,
    state: SharedState,
}

/// A new view of the processes of a pid namespace, to be mounted.
pub fn root(pids: &Arc<PidNamespace>) -> Arc<dyn Inode> {
    inode(Node::Root, pids)
}

fn inode(node: Node, pids: &Arc<PidNamespace>) -> Arc<dyn Inode> {
    Arc::new(ProcInode { node, pids: pids.clone(), state: SharedState::default() })
}

/// The process whose directory `/proc/<pid>` is open as `file`.
pub fn process_of(file: &OpenFile) -> Option<Arc<ThreadGroup>> {
    match file.inode.as_any().downcast_ref::<ProcInode>()?.node {
        Node::Process(pid) => lookup_group(pid),
        _ => None,
    }
}

fn task_of(pid: u32, tid: u32) -> Result<Arc<Task>> {
    let task = if tid != 0 { lookup(tid) } else { lookup_group(pid).and_then(|g| g.leader()) };
    task.filter(|t| t.group.pid == pid).ok_or(Errno::ESRCH)
}

fn group_of(pid: u32) -> Result<Arc<ThreadGroup>> {
    lookup_group(pid).ok_or(Errno::ESRCH)
}

fn open_file(pid: u32, tid: u32, fd: i32) -> Result<Arc<OpenFile>> {
    let own = task_of(pid, tid)?.shared().ok_or(Errno::ENOENT)?;
    own.files.get_any(fd).map_err(|_| Errno::ENOENT)
}

impl Node {
    fn kind(self) -> FileType {
        match self {
            Node::Root
            | Node::Process(_)
            | Node::Tasks(_)
            | Node::Thread(..)
            | Node::Fds(..)
            | Node::FdInfos(..)
            | Node::Net(..)
            | Node::SysvIpc
            | Node::Namespaces(..)
            | Node::Terminals
            | Node::Sys(_) => FileType::Dir,
            Node::OwnProcess | Node::OwnThread | Node::IntoSelf(_) | Node::Fd(..) | Node::Namespace(..) => {
                FileType::Symlink
            }
            Node::Entry(_, _, e) if e.is_link() => FileType::Symlink,
            Node::Entry(..) | Node::System(_) | Node::NetFile(_) | Node::Setting(_) | Node::FdInfo(..) => {
                FileType::Regular
            }
        }
    }

    /// Stable for as long as the process lives.
    fn ino(self) -> u64 {
        let (class, a, b) = match self {
            Node::Root => (1, 0, 0),
            Node::OwnProcess => (2, 0, 0),
            Node::OwnThread => (3, 0, 0),
            Node::IntoSelf(name) => (4, name.as_ptr() as u64, 0),
            Node::Process(pid) => (5, u64::from(pid), 0),
            Node::Tasks(pid) => (6, u64::from(pid), 0),
            Node::Thread(_, tid) => (7, u64::from(tid), 0),
            Node::Entry(pid, tid, e) => (8, u64::from(pid) << 24 | u64::from(tid), core::ptr::from_ref(e) as u64),
            Node::Fds(pid, tid) => (9, u64::from(pid), u64::from(tid)),
            Node::Fd(pid, tid, fd) => (10, u64::from(pid) << 24 | u64::from(tid), fd as u64),
            Node::FdInfos(pid, tid) => (11, u64::from(pid), u64::from(tid)),
            Node::FdInfo(pid, tid, fd) => (12, u64::from(pid) << 24 | u64::from(tid), fd as u64),
            Node::System(e) => (13, core::ptr::from_ref(e) as u64, 0),
            Node::Sys(path) => (14, path.as_ptr() as u64, path.len() as u64),
            Node::Setting(s) => (15, core::ptr::from_ref(s) as u64, 0),
            Node::Net(pid, tid) => (16, u64::from(pid), u64::from(tid)),
            Node::NetFile(e) => (17, core::ptr::from_ref(e) as u64, 0),
            Node::SysvIpc => (18, 0, 0),
            Node::Namespaces(pid, tid) => (19, u64::from(pid), u64::from(tid)),
            Node::Namespace(pid, tid, e) => (20, u64::from(pid) << 24 | u64::from(tid), core::ptr::from_ref(e) as u64),
            Node::Terminals => (21, 0, 0),
        };
        if class == 1 {
            return 1;
        }
        let mixed = (a ^ b.rotate_left(32) ^ class << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed >> 24 | class << 40
    }

    fn mode(self) -> u32 {
        let bits = match self {
            Node::Fds(..) => 0o500,
            Node::Namespaces(..) => 0o511,
            Node::Entry(_, _, e) => e.mode,
            Node::Setting(s) => s.mode(),
            Node::Fd(pid, tid, fd) => open_file(pid, tid, fd)
                .map_or(0o700, |f| 0o100 | if f.readable() { 0o400 } else { 0 } | if f.writable() { 0o200 } else { 0 }),
            _ if self.kind() == FileType::Dir => 0o555,
            _ if self.kind() == FileType::Symlink => 0o777,
            _ => 0o444,
        };
        self.kind() as u32 | bits
    }

    /// Names of the inode: of a directory, two and one for each directory in it. Those below `sys` have one
    /// (`proc_sys_make_inode` in `fs/proc/proc_sysctl.c`).
    fn links(self, pids: &PidNamespace) -> u32 {
        match self {
            Node::Sys(_) => 1,
            Node::Tasks(pid) => 2 + group_of(pid).map_or(0, |g| g.state.lock().tasks.len() as u32),
            Node::Fds(..) | Node::FdInfos(..) => 2,
            _ if self.kind() == FileType::Dir => {
                let dirs = self.fixed().iter().filter(|(_, node)| node.kind() == FileType::Dir).count() as u32;
                2 + dirs + if self == Node::Root { pids.process_count() } else { 0 }
            }
            _ => 1,
        }
    }

    /// Size in bytes: the number of descriptors in `fd` (`proc_fd_getattr` in `fs/proc/fd.c`).
    fn size(self) -> u64 {
        match self {
            Node::Fd(..) => 64,
            Node::Fds(pid, tid) => {
                let own = task_of(pid, tid).ok().and_then(|task| task.shared());
                own.map_or(0, |own| own.files.numbers().len() as u64)
            }
            _ => 0,
        }
    }

    fn process(self) -> Option<(u32, u32)> {
        match self {
            Node::Process(pid) | Node::Tasks(pid) => Some((pid, 0)),
            Node::Thread(pid, tid)
            | Node::Entry(pid, tid, _)
            | Node::Fds(pid, tid)
            | Node::Fd(pid, tid, _)
            | Node::FdInfos(pid, tid)
            | Node::Net(pid, tid)
            | Node::Namespaces(pid, tid)
            | Node::Namespace(pid, tid, _)
            | Node::FdInfo(pid, tid, _) => Some((pid, tid)),
            _ => None,
        }
    }

    /// Owner: the effective ids of the process; root of the files of a process that is not dumpable
    /// (`task_dump_owner` in `fs/proc/base.c`). Its own descriptors it may always list.
    fn owner(self) -> (u32, u32) {
        if let Node::Setting(s) = self {
            return s.owner();
        }
        let Some(task) = self.process().and_then(|(pid, tid)| task_of(pid, tid).ok()) else { return (0, 0) };
        let cred = task.cred();
        if self.kind() != FileType::Dir && !task.is_dumpable() {
            let root = |kind| cred.user_ns.outside(kind, 0).unwrap_or(0);
            return (root(Kind::User), root(Kind::Group));
        }
        (cred.euid, cred.egid)
    }

    /// The child called `name`.
    fn child(self, pids: &PidNamespace, name: &[u8]) -> Result<Node> {
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        // Numbers have one spelling.
        let number = || text.parse::<u32>().ok().filter(|n| n.to_string() == text).ok_or(Errno::ENOENT);
        match self {
            Node::Root => {
                if let Ok(pid) = number() {
                    if let Some(group) = pids.process(pid) {
                        return Ok(Node::Process(group.pid));
                    }
                    // A thread that leads no process has a directory, too, though it is not listed.
                    let task = pids.task(pid).ok_or(Errno::ENOENT)?;
                    return Ok(Node::Thread(task.group.pid, task.tid()));
                }
                self.fixed().into_iter().find(|(n, _)| *n == text).map(|(_, node)| node).ok_or(Errno::ENOENT)
            }
            Node::Tasks(pid) => {
                let tid = number()?;
                let task = pids.task(tid).filter(|t| t.group.pid == pid).ok_or(Errno::ENOENT)?;
                Ok(Node::Thread(pid, task.tid()))
            }
            Node::Fds(pid, tid) | Node::FdInfos(pid, tid) => {
                let fd = i32::try_from(number()?).map_err(|_| Errno::ENOENT)?;
                open_file(pid, tid, fd)?;
                Ok(if matches!(self, Node::Fds(..)) { Node::Fd(pid, tid, fd) } else { Node::FdInfo(pid, tid, fd) })
            }
            _ => self.fixed().into_iter().find(|(n, _)| *n == text).map(|(_, node)| node).ok_or(Errno::ENOENT),
        }
    }

    /// The children that are always there.
    fn fixed(self) -> Vec<(&'static str, Node)> {
        let mut all = Vec::new();
        match self {
            Node::Root => {
                all.extend([("self", Node::OwnProcess), ("thread-self", Node::OwnThread), ("sys", Node::Sys(""))]);
                all.extend([("mounts", Node::IntoSelf("self/mounts")), ("net", Node::IntoSelf("self/net"))]);
                all.push(("sysvipc", Node::SysvIpc));
                all.push(("tty", Node::Terminals));
                all.extend(system::ENTRIES.iter().map(|e| (e.name, Node::System(e))));
            }
            Node::Process(pid) => {
                all.extend([("task", Node::Tasks(pid)), ("fd", Node::Fds(pid, 0)), ("fdinfo", Node::FdInfos(pid, 0))]);
                all.extend([("ns", Node::Namespaces(pid, 0)), ("net", Node::Net(pid, 0))]);
                all.extend(process::ENTRIES.iter().map(|e| (e.name, Node::Entry(pid, 0, e))));
            }
            Node::Thread(pid, tid) => {
                all.extend([
                    ("fd", Node::Fds(pid, tid)),
                    ("fdinfo", Node::FdInfos(pid, tid)),
                    ("ns", Node::Namespaces(pid, tid)),
                    ("net", Node::Net(pid, tid)),
                ]);
                all.extend(process::ENTRIES.iter().map(|e| (e.name, Node::Entry(pid, tid, e))));
            }
            Node::Namespaces(pid, tid) => {
                all.extend(ns::ENTRIES.iter().map(|e| (e.name, Node::Namespace(pid, tid, e))));
            }
            Node::Terminals => all.extend(system::TERMINALS.iter().map(|e| (e.name, Node::System(e)))),
            Node::Net(..) => all.extend(system::NET.iter().map(|e| (e.name, Node::NetFile(e)))),
            Node::SysvIpc => all.extend(system::SYSVIPC.iter().map(|e| (e.name, Node::NetFile(e)))),
            Node::Sys(path) => sysctl::children(path, |name, sub| {
                let node = match sub {
                    sysctl::Sub::Dir(path) => Node::Sys(path),
                    sysctl::Sub::Setting(s) => Node::Setting(s),
                };
                all.push((name, node));
            }),
            _ => {}
        }
        all
    }

    /// All children, with their names.
    fn children(self, pids: &PidNamespace) -> Result<Vec<(Vec<u8>, Node)>> {
        let named = |n: u32, node: Node| (n.to_string().into_bytes(), node);
        let mut all: Vec<_> = self.fixed().into_iter().map(|(n, node)| (n.as_bytes().to_vec(), node)).collect();
        match self {
            Node::Root => {}
            Node::Tasks(pid) => {
                let tasks = group_of(pid)?.tasks();
                all.extend(tasks.iter().map(|t| named(pids.seen(t.tid()), Node::Thread(pid, t.tid()))));
            }
            Node::Fds(pid, tid) | Node::FdInfos(pid, tid) => {
                let own = task_of(pid, tid)?.shared().ok_or(Errno::ENOENT)?;
                let node = |fd| {
                    if matches!(self, Node::Fds(..)) { Node::Fd(pid, tid, fd) } else { Node::FdInfo(pid, tid, fd) }
                };
                all.extend(own.files.numbers().into_iter().map(|fd| named(fd as u32, node(fd))));
            }
            _ => {}
        }
        Ok(all)
    }

    /// The text of a regular file.
    fn text(self, view: &process::View<'_>) -> Result<Vec<u8>> {
        match self {
            Node::Entry(pid, tid, e) => (e.text)(&*task_of(pid, tid)?, &process::View { whole: tid == 0, ..*view }),
            Node::FdInfo(pid, tid, fd) => {
                let file = open_file(pid, tid, fd)?;
                let pos = file.offset.try_lock().map_or(0, |o| *o);
                let ino = file.inode.identity().map_or(0, |(_, ino)| ino);
                let mut out = format!(
                    "pos:\t{pos}\nflags:\t0{:o}\nmnt_id:\t{}\nino:\t{ino}\n",
                    file.flags(),
                    file.path().mount.id
                );
                out += &locks::of_open(&file, &*task_of(pid, tid)?);
                file.ops.describe(&mut out);
                if let Ok(pid) = pidfd::pid_of(&file) {
                    out += &status::of_pidfd(&pid, view);
                }
                Ok(out.into_bytes())
            }
            Node::System(e) | Node::NetFile(e) => Ok((e.text)()),
            Node::Setting(s) => Ok(s.text()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Takes what a guest wrote.
    fn write(self, ctx: &OpCtx<'_>, bytes: &[u8]) -> Result {
        match self {
            Node::Entry(pid, tid, e) => process::write(&*task_of(pid, tid)?, e, ctx, bytes),
            Node::Setting(s) => s.write(ctx, bytes),
            _ => Err(Errno::EIO),
        }
    }
}

impl Inode for ProcInode {
    fn state(&self) -> StateRef<'_> {
        StateRef::Shared(&self.state)
    }

    fn stat(&self) -> Result<Stat> {
        let (uid, gid) = self.node.owner();
        let now = crate::time::now_coarse();
        Ok(Stat {
            dev: if self.pids.level == 0 { DEV } else { u64::from(self.pids.ino & 0xff) | 0x100 },
            ino: self.node.ino(),
            mode: self.node.mode(),
            nlink: self.node.links(&self.pids),
            uid,
            gid,
            size: self.node.size(),
            blksize: 1024,
            atime: now,
            mtime: now,
            ctime: now,
            ..Stat::default()
        })
    }

    fn permissions(&self) -> Result<(u32, u32, u32)> {
        let mode = match self.node {
            Node::Setting(s) => self.node.kind() as u32 | s.access(),
            node => node.mode(),
        };
        let (uid, gid) = self.node.owner();
        Ok((mode, uid, gid))
    }

    fn file_type(&self) -> FileType {
        self.node.kind()
    }

    fn set_attr(&self, _ctx: &OpCtx<'_>, attr: &SetAttr) -> Result {
        // Owners can be set, but are the process's again at the next look (`proc_setattr` in Linux).
        let of_process = matches!(self.node, Node::Entry(..) | Node::Fd(..) | Node::Process(_) | Node::Thread(..));
        if of_process && attr.mode.is_none() && attr.size.is_none() {
            return Ok(());
        }
        // O_TRUNC on a file that takes writes changes nothing.
        let only_size = SetAttr { size: attr.size, ..SetAttr::default() };
        if attr.size.is_some() && only_size.mode == attr.mode && attr.uid.is_none() {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    fn open(self: Arc<Self>, ctx: &OpCtx<'_>, flags: u32) -> Result<Box<dyn FileOps>> {
        if let Node::Entry(pid, tid, e) = self.node {
            process::check_open(&*task_of(pid, tid)?, e, ctx)?;
        }
        if self.node.kind() == FileType::Dir {
            return Ok(crate::vfs::open::DirFile::new());
        }
        if flags & 3 != 0 && self.node.mode() & 0o222 == 0 {
            return Err(Errno::EACCES);
        }
        match self.node {
            Node::Entry(pid, tid, e) if e.name == process::MEM => mem::open(ctx, &task_of(pid, tid)?),
            Node::Entry(pid, tid, e) if id_map::is_one(e) => id_map::open(&*task_of(pid, tid)?, e, ctx, flags),
            Node::Entry(pid, tid, e) if mounts::is_one(e) => {
                Ok(mounts::open(&*task_of(pid, tid)?, Text::new(self.node, &self.pids))?)
            }
            node => Ok(Text::new(node, &self.pids)),
        }
    }

    fn read_link(&self, ctx: &OpCtx<'_>) -> Result<Vec<u8>> {
        match self.node {
            Node::OwnProcess | Node::OwnThread => {
                let [tgid, tid] = [ctx.tgid, ctx.tid].map(|n| self.pids.seen(n));
                match self.node {
                    _ if tgid == 0 => Err(Errno::ENOENT),
                    Node::OwnProcess => Ok(tgid.to_string().into_bytes()),
                    _ => Ok(format!("{tgid}/task/{tid}").into_bytes()),
                }
            }
            Node::IntoSelf(to) => Ok(to.as_bytes().to_vec()),
            Node::Fd(pid, tid, fd) => {
                process::may_look(&*task_of(pid, tid)?, ctx)?;
                let root = task_of(pid, tid)?.shared().ok_or(Errno::ENOENT)?.fs.root();
                open_file(pid, tid, fd)?.path().display(&root)
            }
            Node::Namespace(pid, tid, e) => ns::text(&*task_of(pid, tid)?, e, ctx),
            Node::Entry(pid, tid, e) => {
                let task = task_of(pid, tid)?;
                let root = task.shared().ok_or(Errno::ENOENT)?.fs.root();
                process::link(&task, e, ctx)?.display(&root)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn magic_link(&self, ctx: &OpCtx<'_>) -> Option<Result<Path>> {
        match self.node {
            Node::Fd(pid, tid, fd) => {
                let allowed = task_of(pid, tid).and_then(|t| process::may_look(&t, ctx));
                Some(allowed.and_then(|()| open_file(pid, tid, fd)).map(|f| f.path().clone()))
            }
            Node::Namespace(pid, tid, e) => Some(task_of(pid, tid).and_then(|t| ns::link(&t, e, ctx))),
            Node::Entry(pid, tid, e) if e.is_link() => Some(task_of(pid, tid).and_then(|t| process::link(&t, e, ctx))),
            _ => None,
        }
    }

    fn as_dir(&self) -> Option<&dyn Directory> {
        (self.node.kind() == FileType::Dir).then_some(self)
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: 0x9fa0, bsize: 4096, namelen: 255, ..StatFs::default() })
    }

    fn cacheable(&self) -> bool {
        false
    }

    fn forgettable(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for ProcInode {
    fn lookup(&self, _ctx: &OpCtx<'_>, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.node.child(&self.pids, name).map(|node| inode(node, &self.pids))
    }

    fn create(&self, _ctx: &OpCtx<'_>, _name: &[u8], _node: NewNode<'_>, _mode: u32) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn link(&self, _ctx: &OpCtx<'_>, _name: &[u8], _inode: &Arc<dyn Inode>) -> Result {
        Err(Errno::EPERM)
    }

    fn unlink(&self, _ctx: &OpCtx<'_>, _name: &[u8], _inode: &Arc<dyn Inode>, _dir: bool) -> Result {
        Err(Errno::EPERM)
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
        if pos < FIRST_PID {
            for (i, (name, node)) in self.node.children(&self.pids)?.into_iter().enumerate().skip(pos as usize) {
                if !emit(&name, node.ino(), node.kind(), i as u64 + 1) {
                    return Ok(());
                }
            }
        }
        if self.node != Node::Root {
            return Ok(());
        }
        // A place behind a process is its number, so that a listing that goes on finds it by the number.
        let mut next = pos.saturating_sub(FIRST_PID) as u32;
        while let Some((pid, group)) = self.pids.next_process(next) {
            let node = Node::Process(group.pid);
            next = pid + 1;
            if !emit(pid.to_string().as_bytes(), node.ino(), node.kind(), FIRST_PID + u64::from(next)) {
                break;
            }
        }
        Ok(())
    }
}
