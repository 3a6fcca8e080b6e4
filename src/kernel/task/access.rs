//! What a task may do to another one: look at it, signal it, change its scheduling, change its limits. Each is
//! one function; capabilities count in the user namespace of the other task.

use super::{CurrentTask, Task, ThreadGroup};
use crate::abi::linux::SIGCONT;
use crate::abi::{Errno, Result};
use crate::cred::{Cred, cap, landlock};
use crate::vfs::OpCtx;
use alloc::sync::Arc;

/// Who acts.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Credentials.
    pub cred: &'a Cred,
    /// Process; 0 for the kernel itself.
    pub tgid: u32,
}

impl<'a> Subject<'a> {
    /// Whoever makes a file operation.
    pub fn of(ctx: &OpCtx<'a>) -> Subject<'a> {
        Subject { cred: ctx.cred, tgid: ctx.tgid }
    }
}

impl CurrentTask {
    /// The running task as one that acts on others.
    pub fn subject(&self) -> Subject<'_> {
        Subject { cred: self.cred(), tgid: self.group.pid }
    }
}

/// Which look (`PTRACE_MODE_*`): what is told of a task in passing, or everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// `/proc/PID/{fd,environ,maps …}`, kcmp, get_robust_list.
    Read,
    /// Tracing, memory, taking descriptors.
    Attach,
}

/// Which ids of the looker count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Those of files: where the look goes through a file system (`PTRACE_MODE_FSCREDS`).
    FsCreds,
    /// The real ones: calls (`PTRACE_MODE_REALCREDS`).
    RealCreds,
}

/// Whether `who` may look at `target` (`ptrace(2)`, "Ptrace access mode checking").
///
/// Both looks have the same rules without a security module such as Yama.
///
/// # Errors
/// `EPERM`.
pub fn may_look(who: Subject<'_>, target: &Task, _look: Look, by: By) -> Result {
    if who.tgid == target.group.pid {
        return Ok(());
    }
    let (me, they) = (who.cred, target.cred());
    let (uid, gid, caps) = match by {
        By::FsCreds => (me.fsuid, me.fsgid, me.cap_effective),
        By::RealCreds => (me.uid, me.gid, me.cap_permitted),
    };
    let same = [they.euid, they.suid, they.uid] == [uid; 3] && [they.egid, they.sgid, they.gid] == [gid; 3];
    if !landlock::may_trace(me.landlock.as_ref(), they.landlock.as_ref()) {
        return Err(Errno::EPERM);
    }
    if me.capable_in(&they.user_ns, cap::SYS_PTRACE) {
        return Ok(());
    }
    let less = Arc::ptr_eq(&me.user_ns, &they.user_ns) && they.cap_permitted & !caps == 0;
    if same && less && target.is_dumpable() { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether `who` may send `sig` to the process `target` (`kill(2)`).
///
/// # Errors
/// `EPERM`.
pub fn may_signal(who: Subject<'_>, target: &ThreadGroup, sig: u32) -> Result {
    if who.tgid == target.pid {
        return Ok(());
    }
    let Some(they) = target.cred() else { return Ok(()) };
    let me = who.cred;
    if !landlock::may_reach(me.landlock.as_ref(), they.landlock.as_ref(), landlock::scope::SIGNAL) {
        return Err(Errno::EPERM);
    }
    let same = |id: u32| id == they.uid || id == they.suid;
    if same(me.euid) || same(me.uid) || me.capable_in(&they.user_ns, cap::KILL) {
        return Ok(());
    }
    let in_session = || super::lookup_group(who.tgid).is_some_and(|g| g.sid() == target.sid());
    if sig == SIGCONT && in_session() { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether `who` may change how `target` is scheduled: policy, priority, CPUs (`check_same_owner` in
/// `kernel/sched`).
///
/// # Errors
/// `EPERM`.
pub fn may_schedule(who: Subject<'_>, target: &Task) -> Result {
    let (me, they) = (who.cred, target.cred());
    let same = me.euid == they.euid || me.euid == they.uid;
    if same || me.capable_in(&they.user_ns, cap::SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether `who` may see and change the limits of `target` (`prlimit(2)`).
///
/// # Errors
/// `EPERM`.
pub fn may_limit(who: Subject<'_>, target: &Task) -> Result {
    if who.tgid == target.group.pid {
        return Ok(());
    }
    let (me, they) = (who.cred, target.cred());
    let same = [they.euid, they.suid, they.uid] == [me.uid; 3] && [they.egid, they.sgid, they.gid] == [me.gid; 3];
    if same || me.capable_in(&they.user_ns, cap::SYS_RESOURCE) { Ok(()) } else { Err(Errno::EPERM) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::test_support::task;

    fn user(uid: u32) -> Cred {
        Cred::new(uid, uid, alloc::vec::Vec::new())
    }

    fn who(cred: &Cred) -> Subject<'_> {
        Subject { cred, tgid: 1 }
    }

    #[test]
    fn looking_needs_all_ids_and_a_dumpable_target_or_a_capability() {
        let t = task(7101, user(1000));
        let look = |c: &Cred, by| may_look(who(c), &t, Look::Read, by).is_ok();
        assert!(look(&user(1000), By::RealCreds) && look(&user(0), By::FsCreds));
        assert!(!look(&user(1001), By::RealCreds));
        let borrowed = Cred { fsuid: 1000, fsgid: 1000, ..user(1001) };
        assert!(look(&borrowed, By::FsCreds) && !look(&borrowed, By::RealCreds));
        t.set_dumpable(0);
        assert!(!look(&user(1000), By::RealCreds) && look(&user(0), By::RealCreds));
        let setuid = task(7102, Cred { uid: 1000, euid: 0, ..user(1000) });
        assert_eq!(may_look(who(&user(1000)), &setuid, Look::Read, By::RealCreds), Err(Errno::EPERM));
        let capable = task(7103, Cred { cap_permitted: 1 << cap::CHOWN, ..user(1000) });
        assert_eq!(may_look(who(&user(1000)), &capable, Look::Read, By::RealCreds), Err(Errno::EPERM));
    }

    #[test]
    fn signals_go_by_real_and_saved_ids() {
        let t = task(7104, Cred { euid: 2000, ..user(1000) });
        assert!(may_signal(who(&user(1000)), &t.group, 15).is_ok());
        assert!(may_signal(who(&user(2000)), &t.group, 15).is_err());
        assert!(may_signal(who(&user(0)), &t.group, 15).is_ok());
    }

    #[test]
    fn limits_and_scheduling() {
        let t = task(7105, Cred { euid: 2000, ..user(1000) });
        assert!(may_limit(who(&user(1000)), &t).is_err() && may_limit(who(&user(0)), &t).is_ok());
        assert!(may_schedule(who(&user(1000)), &t).is_ok() && may_schedule(who(&user(2000)), &t).is_ok());
        assert!(may_schedule(who(&user(3000)), &t).is_err());
    }
}
