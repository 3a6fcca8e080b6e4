//! `/proc/PID/ns`: the namespaces of a task as files (`namespaces(7)`). What the links lead to is known by the
//! number of the namespace, so that two tasks share it if the files are the same.

use super::process::may_look;
use crate::abi::linux::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS,
};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::UserNamespace;
use crate::mm::UserPtr;
use crate::task::ns::{CgroupNamespace, IpcNamespace, NetNamespace, TimeNamespace, UtsNamespace};
use crate::task::pid::PidNamespace;
use crate::task::{Own, Task};
use crate::vfs::mount::{self, MountNamespace};
use crate::vfs::state::{SharedState, StateRef};
use crate::vfs::{FileOps, FileType, Inode, OpCtx, OpenFile, Path, SetAttr, Stat, StatFs};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// A namespace, which lives as long as a file of it is open.
#[derive(Clone)]
#[allow(missing_docs)]
pub enum Namespace {
    Cgroup(Arc<CgroupNamespace>),
    Ipc(Arc<IpcNamespace>),
    Mount(Arc<MountNamespace>),
    Net(Arc<dyn NetNamespace>),
    Pid(Arc<PidNamespace>),
    Time(Arc<TimeNamespace>),
    User(Arc<UserNamespace>),
    Uts(Arc<UtsNamespace>),
}

impl Namespace {
    /// Its kind, as clone's flags say it.
    pub fn kind(&self) -> u32 {
        self.known_as().2
    }

    /// Number, kind as the link says it, and as clone's flags do.
    fn known_as(&self) -> (u64, &'static str, u32) {
        match self {
            Namespace::Cgroup(n) => (u64::from(n.ino), "cgroup", CLONE_NEWCGROUP),
            Namespace::Ipc(n) => (u64::from(n.ino), "ipc", CLONE_NEWIPC),
            Namespace::Mount(n) => (n.id, "mnt", CLONE_NEWNS),
            Namespace::Net(n) => (u64::from(n.ino()), "net", CLONE_NEWNET),
            Namespace::Pid(n) => (u64::from(n.ino), "pid", CLONE_NEWPID),
            Namespace::Time(n) => (u64::from(n.ino), "time", CLONE_NEWTIME),
            Namespace::User(n) => (u64::from(n.ino), "user", CLONE_NEWUSER),
            Namespace::Uts(n) => (u64::from(n.ino), "uts", CLONE_NEWUTS),
        }
    }

    /// The user namespace that owns it: capabilities over it count there. `None` for the initial one, which nobody owns.
    pub fn owner(&self) -> Option<Namespace> {
        let user = match self {
            Namespace::Cgroup(n) => &n.user_ns,
            Namespace::Ipc(n) => &n.user_ns,
            Namespace::Net(n) => n.user_ns(),
            Namespace::Time(n) => &n.user_ns,
            Namespace::Uts(n) => &n.user_ns,
            Namespace::User(n) => n.parent.as_ref()?,
            Namespace::Mount(n) => &n.user_ns,
            Namespace::Pid(n) => &n.user_ns,
        };
        Some(Namespace::User(user.clone()))
    }

    /// The one above it, where it is the first none; `None` for a kind that has no such order.
    pub fn parent(&self) -> Option<Option<Namespace>> {
        match self {
            Namespace::User(n) => Some(n.parent.clone().map(Namespace::User)),
            Namespace::Pid(n) => Some(n.parent.clone().map(Namespace::Pid)),
            _ => None,
        }
    }

    /// Whether somebody in these namespaces may hold it: a user or pid namespace must be the own one or lie below.
    pub fn is_seen_from(&self, user: &Arc<UserNamespace>, pid: &Arc<PidNamespace>) -> bool {
        match self {
            Namespace::User(n) => n.is_within(user),
            Namespace::Pid(n) => n.is_within(pid),
            _ => true,
        }
    }

    fn text(&self) -> Vec<u8> {
        let (ino, kind, _) = self.known_as();
        format!("{kind}:[{ino}]").into_bytes()
    }
}

/// A link of the directory.
pub struct Entry {
    pub name: &'static str,
    of: fn(&Task, &Own) -> Result<Namespace>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.name == other.name
    }
}
impl Eq for Entry {}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

/// All links, in Linux's order.
pub static ENTRIES: [Entry; 10] = [
    Entry { name: "net", of: |_, own| Ok(Namespace::Net(own.ns.net.clone())) },
    Entry { name: "uts", of: |_, own| Ok(Namespace::Uts(own.ns.uts.clone())) },
    Entry { name: "ipc", of: |_, own| Ok(Namespace::Ipc(own.ns.ipc.clone())) },
    Entry { name: "pid", of: |task, _| Ok(Namespace::Pid(task.group.id.namespace().clone())) },
    Entry {
        name: "pid_for_children",
        // Before its init there is nothing to enter.
        of: |_, own| {
            let ns = &own.ns.pid_for_children;
            if ns.is_started() { Ok(Namespace::Pid(ns.clone())) } else { Err(Errno::ENOENT) }
        },
    },
    Entry { name: "user", of: |_, own| Ok(Namespace::User(own.cred.user_ns.clone())) },
    Entry { name: "mnt", of: |_, own| own.fs.namespace().map(Namespace::Mount) },
    Entry { name: "cgroup", of: |_, own| Ok(Namespace::Cgroup(own.ns.cgroup.clone())) },
    Entry { name: "time", of: |_, own| Ok(Namespace::Time(own.ns.time.clone())) },
    Entry { name: "time_for_children", of: |_, own| Ok(Namespace::Time(own.ns.time_for_children.clone())) },
];

fn namespace(task: &Task, entry: &Entry, ctx: &OpCtx<'_>) -> Result<Namespace> {
    may_look(task, ctx)?;
    (entry.of)(task, &task.shared().ok_or(Errno::ENOENT)?)
}

/// What the link says.
pub fn text(task: &Task, entry: &Entry, ctx: &OpCtx<'_>) -> Result<Vec<u8>> {
    Ok(namespace(task, entry, ctx)?.text())
}

/// Where the link leads: a file without a name.
pub fn link(task: &Task, entry: &Entry, ctx: &OpCtx<'_>) -> Result<Path> {
    Ok(place(namespace(task, entry, ctx)?))
}

fn place(of: Namespace) -> Path {
    let name = of.text();
    mount::detached_named(inode_of(of), "nsfs", &alloc::string::String::from_utf8_lossy(&name))
}

fn inode_of(of: Namespace) -> Arc<dyn Inode> {
    Arc::new(NsInode { of, state: SharedState::default() })
}

/// An open file of a namespace.
pub fn open(of: Namespace) -> Arc<OpenFile> {
    let place = place(of.clone());
    OpenFile::new(Box::new(NsFile(of.clone())), inode_of(of), place, crate::abi::linux::O_RDONLY)
}

/// Device number of `nsfs`.
const DEV: u64 = 4;
/// `NSFS_MAGIC`.
const MAGIC: u64 = 0x6e73_6673;
/// `NS_GET_NSTYPE`.
const GET_NSTYPE: u32 = 0xb703;
/// `NS_GET_OWNER_UID`.
const GET_OWNER_UID: u32 = 0xb704;

struct NsInode {
    of: Namespace,
    state: SharedState,
}

impl Inode for NsInode {
    fn stat(&self) -> Result<Stat> {
        let now = crate::time::now_coarse();
        Ok(Stat {
            dev: DEV,
            ino: self.of.known_as().0,
            mode: FileType::Regular as u32 | 0o444,
            nlink: 1,
            blksize: 4096,
            atime: now,
            mtime: now,
            ctime: now,
            ..Stat::default()
        })
    }

    fn file_type(&self) -> FileType {
        FileType::Regular
    }

    fn set_attr(&self, _ctx: &OpCtx<'_>, _attr: &SetAttr) -> Result {
        Err(Errno::EPERM)
    }

    fn immutable(&self) -> bool {
        true
    }

    fn open(self: Arc<Self>, _ctx: &OpCtx<'_>, _flags: u32) -> Result<Box<dyn FileOps>> {
        Ok(Box::new(NsFile(self.of.clone())))
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: MAGIC, bsize: 4096, namelen: 255, ..StatFs::default() })
    }

    fn state(&self) -> StateRef<'_> {
        StateRef::Shared(&self.state)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What an open file stands for, if it is one of a namespace.
pub fn of_file(file: &OpenFile) -> Option<Namespace> {
    file.ops.as_any().downcast_ref::<NsFile>().map(|f| f.0.clone())
}

/// The namespace of a task that its directory shows by this name.
///
/// # Errors
/// `ENOENT` for one that there is not.
pub fn of_task(task: &Task, own: &Own, name: &str) -> Result<Namespace> {
    let entry = ENTRIES.iter().find(|e| e.name == name).ok_or(Errno::ENOENT)?;
    (entry.of)(task, own)
}

/// All namespaces of a task, by kind.
///
/// # Errors
/// `ESRCH` once it has exited.
pub fn all_of(task: &Task) -> Result<Vec<Namespace>> {
    let own = task.shared().ok_or(Errno::ESRCH)?;
    let shown = ENTRIES.iter().filter(|e| !e.name.ends_with("children"));
    shown.map(|e| (e.of)(task, &own)).collect()
}

/// An open file of a namespace: nothing can be read from it.
struct NsFile(Namespace);

impl FileOps for NsFile {
    fn ioctl(&self, ctx: &OpCtx<'_>, _file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        match (request, &self.0) {
            (GET_NSTYPE, of) => Ok(u64::from(of.known_as().2)),
            (GET_OWNER_UID, Namespace::User(user)) => {
                UserPtr::<u32>::new(arg).write(ctx.cred.seen_uid(user.owner.0))?;
                Ok(0)
            }
            (GET_OWNER_UID, _) => Err(Errno::EINVAL.into()),
            _ => Err(Errno::ENOTTY.into()),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
