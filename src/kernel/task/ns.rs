//! Namespaces other than those of pids and users, and the set of them that a task points to
//! (`namespaces(7)`).

use super::pid::PidNamespace;
pub use super::time_ns::TimeNamespace;
use crate::abi::linux::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS,
};
use crate::abi::{Errno, Result};
use crate::cred::count::{self, Charge, Of};
use crate::cred::{Cred, UserNamespace, ns};
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use once_cell::race::OnceBox;

/// A network namespace, as far as tasks know it: room `net`, which lies above, makes it and knows it by
/// [`NetNamespace::into_any`].
pub trait NetNamespace: Send + Sync {
    /// Its number, as `/proc/PID/ns/net` shows it.
    fn ino(&self) -> u32;
    /// Capabilities over it count here.
    fn user_ns(&self) -> &Arc<UserNamespace>;
    /// For room `net` itself.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// How room `net` makes a namespace over which capabilities in a user namespace count.
pub type MakeNet = fn(&Arc<UserNamespace>, Charge) -> Arc<dyn NetNamespace>;
static MAKE_NET: OnceBox<MakeNet> = OnceBox::new();

/// Registers how network namespaces are made (at boot).
pub fn set_make_net(make: MakeNet) {
    let _ = MAKE_NET.set(Box::new(make));
}

/// The network namespace of the running task, if it is not the initial one.
pub fn running_net() -> Option<Arc<dyn NetNamespace>> {
    super::work::running()?.network()
}

/// The user namespace of the running task, if it is not the initial one.
pub fn running_user() -> Option<Arc<UserNamespace>> {
    let ns = super::work::running()?.cred().user_ns.clone();
    (ns.level != 0).then_some(ns)
}

/// A pid as the running task sees it.
pub fn seen_pid(number: u32) -> u32 {
    super::work::running().map_or(number, |task| task.group.id.namespace().seen(number))
}

/// The initial network namespace until room `net` registers its own: nothing but a number.
struct NoNet;

impl NetNamespace for NoNet {
    fn ino(&self) -> u32 {
        ns::ino::NET
    }
    fn user_ns(&self) -> &Arc<UserNamespace> {
        UserNamespace::initial()
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Host and domain name (`uts_namespaces(7)`).
pub struct UtsNamespace {
    /// Its number, as `/proc/PID/ns/uts` shows it.
    pub ino: u32,
    /// Capabilities over it count here.
    pub user_ns: Arc<UserNamespace>,
    pub(super) names: Mutex<[Vec<u8>; 2]>,
    _charge: Option<Charge>,
}

impl UtsNamespace {
    /// A copy with the same names, for `user_ns`.
    fn copy(&self, user_ns: &Arc<UserNamespace>, charge: Charge) -> UtsNamespace {
        let names = Mutex::new(Level::Leaf, self.names.lock().clone());
        UtsNamespace { ino: ns::new_ino(), user_ns: user_ns.clone(), names, _charge: Some(charge) }
    }
}

/// What an IPC namespace holds, as far as tasks know it: room `ipc`, which lies above, makes it.
pub trait IpcObjects: Send + Sync {
    /// The task with this address has ended.
    fn task_ended(&self, task: usize);
    /// For room `ipc` itself.
    fn as_any(&self) -> &dyn Any;
}

/// System V IPC and POSIX message queues (`ipc_namespaces(7)`).
pub struct IpcNamespace {
    /// Its number, as `/proc/PID/ns/ipc` shows it.
    pub ino: u32,
    /// Capabilities over it count here.
    pub user_ns: Arc<UserNamespace>,
    objects: OnceBox<Box<dyn IpcObjects>>,
    _charge: Option<Charge>,
}

impl IpcNamespace {
    /// An empty one.
    pub fn new(ino: u32, user_ns: Arc<UserNamespace>, charge: Option<Charge>) -> IpcNamespace {
        IpcNamespace { ino, user_ns, objects: OnceBox::new(), _charge: charge }
    }

    /// What it holds; `make` makes that before its first use.
    pub fn objects(&self, make: impl FnOnce() -> Box<dyn IpcObjects>) -> &dyn IpcObjects {
        &**self.objects.get_or_init(|| Box::new(make()))
    }

    /// The task with this address has ended.
    pub(super) fn task_ended(&self, task: usize) {
        if let Some(objects) = self.objects.get() {
            objects.task_ended(task);
        }
    }
}

/// The root of the cgroup tree that a task sees (`cgroup_namespaces(7)`).
pub struct CgroupNamespace {
    /// Its number, as `/proc/PID/ns/cgroup` shows it.
    pub ino: u32,
    /// Capabilities over it count here.
    pub user_ns: Arc<UserNamespace>,
    _charge: Option<Charge>,
}

/// The namespaces of a task; immutable, replaced as a whole. The user namespace is part of the credentials, the
/// pid namespace that a task is in itself of its [`super::pid::Pid`].
#[derive(Clone)]
pub struct NsProxy {
    /// Names of the machine.
    pub uts: Arc<UtsNamespace>,
    /// IPC objects.
    pub ipc: Arc<IpcNamespace>,
    /// Where children get their pids.
    pub pid_for_children: Arc<PidNamespace>,
    /// Network.
    pub net: Arc<dyn NetNamespace>,
    /// Root of the cgroup tree.
    pub cgroup: Arc<CgroupNamespace>,
    /// Clocks.
    pub time: Arc<TimeNamespace>,
    /// Clocks of children.
    pub time_for_children: Arc<TimeNamespace>,
}

/// The kinds of namespaces that a task's [`NsProxy`] and its mounts are about, and that can be made.
pub const MADE: u32 =
    CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWTIME;
/// All kinds that there are.
pub const KINDS: u32 = MADE | CLONE_NEWUSER;

impl NsProxy {
    /// The same, with new ones of the kinds in `flags` (`CLONE_NEW*`) that `cred` makes; capabilities over them count in
    /// its user namespace.
    ///
    /// `active` is the pid namespace that the maker is in: only there it can make one.
    ///
    /// # Errors
    /// `ENOSPC` for too many, `EINVAL` where children get their pids in another pid namespace already.
    pub fn with_new(&self, flags: u32, cred: &Cred, active: &Arc<PidNamespace>) -> Result<NsProxy> {
        let user_ns = &cred.user_ns;
        let charge = |of| count::charge(user_ns, cred.euid, of);
        let mut new = self.clone();
        if flags & CLONE_NEWUTS != 0 {
            new.uts = Arc::new(self.uts.copy(user_ns, charge(Of::Uts)?));
        }
        if flags & CLONE_NEWIPC != 0 {
            new.ipc = Arc::new(IpcNamespace::new(ns::new_ino(), user_ns.clone(), Some(charge(Of::Ipc)?)));
        }
        if flags & CLONE_NEWPID != 0 {
            if !Arc::ptr_eq(&self.pid_for_children, active) {
                return Err(Errno::EINVAL);
            }
            new.pid_for_children = active.child(cred)?;
        }
        if flags & CLONE_NEWCGROUP != 0 {
            let _charge = Some(charge(Of::Cgroup)?);
            new.cgroup = Arc::new(CgroupNamespace { ino: ns::new_ino(), user_ns: user_ns.clone(), _charge });
        }
        if flags & CLONE_NEWNET != 0
            && let Some(make) = MAKE_NET.get()
        {
            new.net = make(user_ns, charge(Of::Net)?);
        }
        if flags & CLONE_NEWTIME != 0 {
            new.time_for_children = self.time_for_children.copy(cred)?;
        }
        Ok(new)
    }

    /// The initial namespaces.
    pub(super) fn initial(pid: Arc<PidNamespace>) -> NsProxy {
        let user = UserNamespace::initial();
        let names = Mutex::new(Level::Leaf, [Vec::new(), Vec::new()]);
        let time = TimeNamespace::initial();
        NsProxy {
            uts: Arc::new(UtsNamespace { ino: ns::ino::UTS, user_ns: user.clone(), names, _charge: None }),
            ipc: Arc::new(IpcNamespace::new(ns::ino::IPC, user.clone(), None)),
            pid_for_children: pid,
            net: Arc::new(NoNet),
            cgroup: Arc::new(CgroupNamespace { ino: ns::ino::CGROUP, user_ns: user.clone(), _charge: None }),
            time: time.clone(),
            time_for_children: time,
        }
    }
}
