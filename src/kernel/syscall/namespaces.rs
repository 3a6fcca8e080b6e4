//! `unshare(2)` and `setns(2)`: namespaces of the caller's own, and those of others.

use super::{event, files};
use crate::abi::linux::*;
use crate::abi::{Errno, Result, SysResult};
use crate::cred::{Cred, UserNamespace, cap};
use crate::fs::pidfd;
use crate::fs::proc::ns::{self, Namespace};
use crate::task::access::{self, By, Look};
use crate::task::ns::{KINDS, MADE, NsProxy};
use crate::task::{CurrentTask, Own, Pid, clone};
use crate::vfs::mount::MountNamespace;
use crate::vfs::{FsContext, OpenFile};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::args::Fd;

/// What `unshare(2)` knows besides namespaces.
const SHARED: u32 = CLONE_THREAD | CLONE_FS | CLONE_SIGHAND | CLONE_VM | CLONE_FILES | CLONE_SYSVSEM;

fn is_only_thread(cur: &CurrentTask) -> bool {
    cur.group.state.lock().tasks.len() == 1
}

/// `unshare(2)`.
///
/// # Errors
/// `EINVAL` for an unknown flag, for what several threads share, and for a kind of namespace that is not made; `EPERM`
/// without CAP_SYS_ADMIN, and for a user namespace in a changed root; `ENOSPC` for too many; `ENOMEM`.
pub fn sys_unshare(cur: &CurrentTask, flags: u64) -> SysResult<()> {
    let known = u64::from(SHARED | KINDS);
    let mut wanted = flags as u32;
    let has = |set: u32, f: u32| set & f != 0;
    if flags & !known != 0 || has(wanted, KINDS & !(MADE | CLONE_NEWUSER)) {
        return Err(Errno::EINVAL.into());
    }
    if has(wanted, CLONE_NEWUSER) {
        wanted |= CLONE_THREAD | CLONE_FS;
    }
    if has(wanted, CLONE_NEWNS) {
        wanted |= CLONE_FS;
    }
    let alone = is_only_thread(cur);
    // Memory and handlers are shared with other processes only by those who were made so.
    let shares_memory = Arc::strong_count(cur.mm()) > 1 || Arc::strong_count(&cur.group.actions()) > 2;
    if has(wanted, CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) && !alone
        || has(wanted, CLONE_SIGHAND | CLONE_VM) && shares_memory
    {
        return Err(Errno::EINVAL.into());
    }
    let kinds = wanted & MADE;
    let old = cur.own();
    let fs = if has(wanted, CLONE_FS) && Arc::strong_count(&old.fs) > 1 {
        Arc::new(old.fs.fork_copy())
    } else {
        old.fs.clone()
    };
    let files = if has(wanted, CLONE_FILES) && Arc::strong_count(&old.files) > 1 {
        Arc::new(old.files.fork_copy()?)
    } else {
        old.files.clone()
    };
    let cred = if has(wanted, CLONE_NEWUSER) { Arc::new(clone::new_user(cur)?) } else { old.cred.clone() };
    if kinds != 0 && !old.cred.capable_in(&cred.user_ns, cap::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let proxy =
        if kinds == 0 { old.ns.clone() } else { Arc::new(old.ns.with_new(kinds, &cred, cur.pid_namespace())?) };
    if has(kinds, CLONE_NEWNS) {
        fs.namespace()?.copy_for(&fs, &cred)?;
    }
    if has(wanted, CLONE_SYSVSEM | CLONE_NEWIPC) {
        cur.leave_sysvsem();
    }
    let own = Own { fs, files, ns: proxy, cred, ..cur.own().clone() };
    drop(cur.replace_own(Some(own)));
    Ok(())
}

/// `setns(2)`.
///
/// # Errors
/// `EBADF`; `EINVAL` for a descriptor that is none of a namespace or a process, another kind than `kinds` says, a kind
/// that the caller cannot change to; `EPERM`, `ESRCH`.
pub fn sys_setns(cur: &CurrentTask, fd: Fd, kinds: u32) -> SysResult<()> {
    let file = files::file(cur, fd)?;
    let targets: Vec<Namespace> = match ns::of_file(&file) {
        Some(of) if kinds == 0 || kinds == of.kind() => [of].into(),
        Some(_) => return Err(Errno::EINVAL.into()),
        None => {
            // That the process is gone comes last.
            let group = match event::group_of_pidfd(cur, fd) {
                Err(e) if e != Errno::ESRCH => return Err(Errno::EINVAL.into()),
                group => group,
            };
            if kinds == 0 || kinds & !KINDS != 0 {
                return Err(Errno::EINVAL.into());
            }
            let task = group?.any_task().ok_or(Errno::ESRCH)?;
            access::may_look(cur.subject(), &task, Look::Attach, By::RealCreds)?;
            ns::all_of(&task)?.into_iter().filter(|n| n.kind() & kinds != 0).collect()
        }
    };
    let mut new = Entered { proxy: NsProxy::clone(&cur.own().ns), cred: cur.cred().clone(), places: None };
    // The user namespace first, since the others ask for capabilities in it.
    let (user, others): (Vec<_>, Vec<_>) = targets.iter().partition(|n| n.kind() == CLONE_NEWUSER);
    for target in user.into_iter().chain(others) {
        enter(cur, target, &mut new)?;
    }
    if let Some(places) = new.places {
        let fs = cur.fs();
        let root = places.root().ok_or(Errno::EINVAL)?.root_path().descend();
        fs.enter(root.clone(), root, places);
    }
    if targets.iter().any(|n| n.kind() == CLONE_NEWIPC) {
        cur.leave_sysvsem();
    }
    let own = Own { ns: Arc::new(new.proxy), cred: new.cred, ..cur.own().clone() };
    drop(cur.replace_own(Some(own)));
    if targets.iter().any(|n| n.kind() == CLONE_NEWTIME) {
        cur.enter_time();
    }
    Ok(())
}

/// What the caller of `setns(2)` will have.
struct Entered {
    proxy: NsProxy,
    cred: Arc<Cred>,
    places: Option<Arc<MountNamespace>>,
}

/// Enters one namespace into what the caller will have.
fn enter(cur: &CurrentTask, target: &Namespace, new: &mut Entered) -> Result {
    let Entered { proxy, cred: next, places } = new;
    let cred = cur.cred();
    let may = |owner: &Arc<UserNamespace>| {
        let both = cred.capable_in(owner, cap::SYS_ADMIN) && cred.capable_in(&next.user_ns, cap::SYS_ADMIN);
        if both { Ok(()) } else { Err(Errno::EPERM) }
    };
    match target {
        Namespace::Uts(n) => may(&n.user_ns).map(|()| proxy.uts = n.clone()),
        Namespace::Ipc(n) => may(&n.user_ns).map(|()| proxy.ipc = n.clone()),
        Namespace::Net(n) => may(n.user_ns()).map(|()| proxy.net = n.clone()),
        Namespace::Cgroup(n) => may(&n.user_ns).map(|()| proxy.cgroup = n.clone()),
        Namespace::Mount(n) => {
            may(&n.user_ns)?;
            if !cred.capable_in(&next.user_ns, cap::SYS_CHROOT) {
                return Err(Errno::EPERM);
            }
            let shared: &Arc<FsContext> = cur.fs();
            if Arc::strong_count(shared) > 1 {
                return Err(Errno::EINVAL);
            }
            *places = Some(n.clone());
            Ok(())
        }
        Namespace::Pid(n) => {
            may(&n.user_ns)?;
            if !n.is_within(cur.pid_namespace()) {
                return Err(Errno::EINVAL);
            }
            proxy.pid_for_children = n.clone();
            Ok(())
        }
        Namespace::Time(_) if !is_only_thread(cur) => Err(Errno::EUSERS),
        Namespace::Time(n) => may(&n.user_ns).map(|()| {
            proxy.time = n.clone();
            proxy.time_for_children = n.clone();
        }),
        Namespace::User(n) => {
            // Nobody gains capabilities by entering where he is.
            let inside = Arc::ptr_eq(n, &cred.user_ns);
            if inside || !is_only_thread(cur) || Arc::strong_count(cur.fs()) > 1 {
                return Err(Errno::EINVAL);
            }
            if !cred.capable_in(n, cap::SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            let mut entered = Cred::clone(cred);
            entered.enter(n.clone());
            *next = Arc::new(entered);
            Ok(())
        }
    }
}

/// `NS_GET_USERNS`, `NS_GET_PARENT`.
const GET_USERNS: u32 = 0xb701;
const GET_PARENT: u32 = 0xb702;

/// `PIDFD_GET_CGROUP_NAMESPACE` and those that follow, by the names of `/proc/PID/ns`.
const OF_PIDFD: u32 = 0xff01;
const NAMES: [&str; 10] =
    ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

/// Whether an ioctl may be one of a namespace's file, or one that makes such a file of a pidfd.
pub fn is_ours(request: u32) -> bool {
    request >> 8 == GET_USERNS >> 8 || of_pidfd(request).is_some()
}

fn of_pidfd(request: u32) -> Option<&'static str> {
    NAMES.get(request.checked_sub(OF_PIDFD)? as usize).copied()
}

/// A descriptor of a namespace of a pidfd's task (`pidfd_ioctl`).
///
/// # Errors
/// `EINVAL` for an argument, `ESRCH`, `EACCES`, `ENOENT`, `EMFILE`.
fn of_task(cur: &CurrentTask, pid: &Pid, name: &str, arg: u64) -> SysResult<u64> {
    if arg != 0 {
        return Err(Errno::EINVAL.into());
    }
    let task = pid.task().ok_or(Errno::ESRCH)?;
    access::may_look(cur.subject(), &task, Look::Read, By::FsCreds)?;
    let own = task.shared().ok_or(Errno::ESRCH)?;
    let found = ns::of_task(&task, &own, name)?;
    Ok(files::install(cur, ns::open(found), O_CLOEXEC)?.0 as u64)
}

/// An ioctl of a namespace's file: those that give descriptors, others go to the file.
///
/// # Errors
/// `EPERM` for what lies outside of what can be seen, `EINVAL` for a parent of what has none, `EMFILE`; the file's.
pub fn ioctl(cur: &CurrentTask, file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
    if let (Some(name), Ok(pid)) = (of_pidfd(request), pidfd::pid_of(file)) {
        return of_task(cur, &pid, name, arg);
    }
    let found = match (request, ns::of_file(file)) {
        (GET_USERNS, Some(of)) => of.owner(),
        (GET_PARENT, Some(of)) => of.parent().ok_or(Errno::EINVAL)?,
        _ => return file.ops.ioctl(&cur.op_ctx(), file, request, arg),
    };
    // Only what the caller is in, or below, is shown.
    let found = found.filter(|n| n.is_seen_from(&cur.cred().user_ns, cur.pid_namespace()));
    let file = ns::open(found.ok_or(Errno::EPERM)?);
    Ok(files::install(cur, file, O_CLOEXEC)?.0 as u64)
}
