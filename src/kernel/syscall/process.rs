//! Processes: `clone(2)`, `execve(2)`, `exit(2)`, `wait4(2)`, process groups and sessions.

use super::files;
use super::{Fd, at};
use crate::abi::linux::{
    AT_EMPTY_PATH, AT_EXECVE_CHECK, AT_FDCWD, AT_SYMLINK_NOFOLLOW, CLONE_PARENT, CLONE_PARENT_SETTID, CLONE_PIDFD,
    CLONE_THREAD, CLONE_VFORK, CLONE_VM, P_ALL, P_PGID, P_PID, SIGCHLD, WCONTINUED, WEXITED, WNOHANG, WNOWAIT,
    WSTOPPED, clone_args, rusage,
};
use crate::abi::sigctx::SigInfo;
use crate::abi::{Errno, Result, SysResult};
use crate::fs::pidfd;
use crate::mm::{UserPtr, UserStr};
use crate::task::clone::{self, Args, SetTid};
use crate::task::exec::Committed;
use crate::task::loader::{self, FromFd, Program};
use crate::task::pid::LEVEL_MAX;
use crate::task::wait::{self, Outcome, Who};
use crate::task::{CurrentTask, ThreadGroup, exec, exit, limits, session};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

/// `clone(2)`.
pub fn sys_clone(cur: &CurrentTask, flags: u64, stack: u64, ptid: u64, ctid: u64, tls: u64) -> SysResult<u32> {
    // The call knows 32 bits only.
    let flags = flags & 0xffff_ffff;
    let a = Args {
        flags: flags & !0xff,
        exit_signal: flags as u32 & 0xff,
        stack,
        parent_tid: ptid,
        child_tid: ctid,
        tls,
        ..Args::default()
    };
    if flags & u64::from(CLONE_PIDFD) != 0 {
        if flags & u64::from(CLONE_PARENT_SETTID | CLONE_DETACHED) != 0 {
            return Err(Errno::EINVAL.into());
        }
        return super::event::clone_with_pidfd(cur, &a, ptid);
    }
    clone::clone(cur, &a)
}

/// `fork(2)`.
pub fn sys_fork(cur: &CurrentTask) -> SysResult<u32> {
    clone::clone(cur, &Args { exit_signal: SIGCHLD, ..Args::default() })
}

/// `vfork(2)`.
pub fn sys_vfork(cur: &CurrentTask) -> SysResult<u32> {
    let flags = u64::from(CLONE_VM | CLONE_VFORK);
    clone::clone(cur, &Args { flags, exit_signal: SIGCHLD, ..Args::default() })
}

/// `CLONE_DETACHED`, `CLONE_INTO_CGROUP`, and every flag that `clone3` has.
const CLONE_DETACHED: u32 = 0x0040_0000;
const INTO_CGROUP: u64 = 1 << 33;
const CLONE3_FLAGS: u64 = 0xffff_ffff | clone::CLEAR_SIGHAND | INTO_CGROUP;

/// The pids that a child is to have, innermost namespace first.
fn wanted_tids(list: u64, count: u64) -> Result<SetTid> {
    if count > u64::from(LEVEL_MAX) || (list == 0) != (count == 0) {
        return Err(Errno::EINVAL);
    }
    let mut out = SetTid::default();
    for (i, tid) in out.tids.iter_mut().enumerate().take(count as usize) {
        // One below 1 is as wrong as one that is too large.
        *tid = UserPtr::<u32>::new(list).add(i).read()?;
    }
    out.count = count as usize;
    Ok(out)
}

/// `clone3(2)`.
///
/// # Errors
/// `EINVAL`, `E2BIG`, `EFAULT`, `EBADF` for a cgroup, `EEXIST` and `EPERM` for `set_tid`, and those of `clone(2)`.
pub fn sys_clone3(cur: &CurrentTask, args: UserPtr<clone_args>, size: usize) -> SysResult<u32> {
    let [flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup] =
        args.cast::<[u64; 11]>().read_grown(size, 64)?;
    if exit_signal > 64 || flags & INTO_CGROUP != 0 && (cgroup > i32::MAX as u64 || size < 88) {
        return Err(Errno::EINVAL.into());
    }
    let set_tid = wanted_tids(set_tid, set_tid_size)?;
    // The signal's bits of the old call, but for CLONE_NEWTIME.
    if flags & !CLONE3_FLAGS != 0 || flags & u64::from(CLONE_DETACHED | 0x7f) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if flags & u64::from(CLONE_PARENT | CLONE_THREAD) != 0 && exit_signal != 0 {
        return Err(Errno::EINVAL.into());
    }
    if (stack == 0) != (stack_size == 0) {
        return Err(Errno::EINVAL.into());
    }
    let in_reach = |end: &u64| *end <= crate::abi::layout::TASK_SIZE;
    let stack = if stack == 0 { 0 } else { stack.checked_add(stack_size).filter(in_reach).ok_or(Errno::EINVAL)? };
    let both = u64::from(CLONE_PIDFD | CLONE_PARENT_SETTID);
    if flags & both == both && pidfd == parent_tid {
        return Err(Errno::EINVAL.into());
    }
    if flags & INTO_CGROUP != 0 {
        // No descriptor is one of a cgroup's directory.
        return Err(Errno::EBADF.into());
    }
    let a = Args { flags, exit_signal: exit_signal as u32, stack, parent_tid, child_tid, tls, set_tid };
    if flags & u64::from(CLONE_PIDFD) != 0 {
        return super::event::clone_with_pidfd(cur, &a, pidfd);
    }
    clone::clone(cur, &a)
}

/// Longest single argument (`MAX_ARG_STRLEN`).
const ARG_MAX_STR: usize = 131_072;

/// A NULL-terminated array of strings; `room` is what the limit leaves.
fn strings(list: UserPtr<u64>, room: &mut usize) -> Result<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    if list.is_null() {
        return Ok(out);
    }
    loop {
        let at = list.add(out.len()).read()?;
        if at == 0 {
            return Ok(out);
        }
        let s = UserStr(at).read(ARG_MAX_STR, Errno::E2BIG)?;
        *room = room.checked_sub(s.len() + 1 + 8).ok_or(Errno::E2BIG)?;
        out.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        out.push(s);
    }
}

fn do_exec(cur: &CurrentTask, program: Program<'_>, argv: UserPtr<u64>, envp: UserPtr<u64>) -> SysResult<Committed> {
    // A quarter of the stack limit, at most 6 MiB, at least 128 KiB (`fs/exec.c`).
    let stack = cur.group.limits.get(limits::STACK).0;
    let mut room = (stack / 4).clamp(131_072, 6 << 20) as usize;
    let lists = strings(argv, &mut room).and_then(|argv| Ok((argv, strings(envp, &mut room)?)));
    let (argv, envp) = match lists {
        Ok(lists) => lists,
        // Linux has opened the program before it looks at them.
        Err(e) => {
            loader::check(cur.fs(), &cur.op_ctx(), program)?;
            return Err(e.into());
        }
    };
    exec::exec(cur, program, argv, envp)
}

/// `execve(2)`.
pub fn sys_execve(cur: &CurrentTask, path: UserStr, argv: UserPtr<u64>, envp: UserPtr<u64>) -> SysResult<()> {
    let ready = {
        let path = path.read_path()?;
        do_exec(cur, Program::Path { base: None, path: &path, follow: true }, argv, envp)?
    };
    ready.go(cur)
}

/// `execveat(2)`.
pub fn sys_execveat(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    argv: UserPtr<u64>,
    envp: UserPtr<u64>,
    flags: u32,
) -> SysResult<()> {
    let ready = {
        let path = path.read_path()?;
        if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
            return Err(Errno::ENOENT.into());
        }
        at::only(flags, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_EXECVE_CHECK)?;
        let from = || Ok::<_, Errno>(FromFd { fd: dir.0, cloexec: cur.files().cloexec(dir.0)? });
        let empty = path.is_empty() && flags & AT_EMPTY_PATH != 0;
        let program = if empty && dir.0 == AT_FDCWD {
            // The working directory, which is no program.
            Program::Path { base: None, path: b".", follow: true }
        } else if empty {
            Program::Place(cur.files().get_any(dir.0)?.path().clone(), from()?)
        } else {
            let base = match files::base(cur, dir, &path)? {
                Some(base) => Some((base, from()?)),
                None => None,
            };
            Program::Path { base, path: &path, follow: flags & AT_SYMLINK_NOFOLLOW == 0 }
        };
        if flags & AT_EXECVE_CHECK != 0 {
            return loader::check(cur.fs(), &cur.op_ctx(), program);
        }
        do_exec(cur, program, argv, envp)?
    };
    ready.go(cur)
}

/// `exit(2)`.
pub fn sys_exit(cur: &CurrentTask, status: i32) -> SysResult<()> {
    exit::exit_thread(cur, (status & 0xff) << 8)
}

/// `exit_group(2)`.
pub fn sys_exit_group(cur: &CurrentTask, status: i32) -> SysResult<()> {
    exit::exit_group(cur, (status & 0xff) << 8)
}

fn usage(o: &Outcome) -> rusage {
    super::limits::rusage_of(o.times, &o.usage)
}

/// `wait4(2)`.
pub fn sys_wait4(
    cur: &CurrentTask,
    pid: i32,
    status: UserPtr<i32>,
    options: u32,
    ru: UserPtr<rusage>,
) -> SysResult<u32> {
    let known = WNOHANG | WSTOPPED | WCONTINUED | 0xe000_0000;
    at::only(options, known)?;
    let ns = cur.pid_namespace();
    let who = match pid {
        -1 => Who::Any,
        0 => Who::Group(cur.group.pgid()),
        // Nothing has the number 0.
        i32::MIN => return Err(Errno::ESRCH.into()),
        p if p < 0 => Who::Group(ns.meant(p.unsigned_abs()).unwrap_or(0)),
        p => Who::Pid(ns.meant(p as u32).unwrap_or(0)),
    };
    let Some(out) = wait::wait(cur, who, options | WEXITED)? else { return Ok(0) };
    if let Some(p) = status.option() {
        p.write(out.status)?;
    }
    if let Some(p) = ru.option() {
        p.write(usage(&out))?;
    }
    Ok(out.pid)
}

/// `P_PIDFD`.
const P_PIDFD: u32 = 3;

/// `waitid(2)`.
pub fn sys_waitid(
    cur: &CurrentTask,
    kind: u32,
    id: i32,
    info: UserPtr<SigInfo>,
    options: u32,
    ru: UserPtr<rusage>,
) -> SysResult<()> {
    let out = awaited(cur, kind, id, options);
    if let (Some(p), Ok(Some(o))) = (ru.option(), &out) {
        p.write(usage(o))?;
    }
    if let Some(p) = info.option() {
        // Only these fields, and also when it fails: signal, errno and code; pid, uid and status.
        let there = out.as_ref().ok().and_then(Option::as_ref);
        let signal = if there.is_some() { SIGCHLD as i32 } else { 0 };
        let [code, pid, uid, value] =
            there.map_or([0; 4], |o| [o.code, o.pid as i32, cur.cred().seen_uid(o.uid) as i32, o.value]);
        p.cast::<[i32; 3]>().write([signal, 0, code])?;
        UserPtr::<[i32; 3]>::new(p.addr() + 16).write([pid, uid, value])?;
    }
    out.map(drop)
}

/// What `waitid(2)` waits for, once it is there; `None` for nothing yet.
fn awaited(cur: &CurrentTask, kind: u32, id: i32, options: u32) -> SysResult<Option<wait::Outcome>> {
    at::only(options, WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | 0xe000_0000)?;
    if options & (WEXITED | WSTOPPED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut nonblock = false;
    let ns = cur.pid_namespace();
    let who = match kind {
        P_ALL => Who::Any,
        P_PID if id > 0 => Who::Pid(ns.meant(id as u32).unwrap_or(0)),
        P_PGID if id == 0 => Who::Group(cur.group.pgid()),
        P_PGID if id > 0 => Who::Group(ns.meant(id as u32).unwrap_or(0)),
        P_PIDFD if id >= 0 => {
            let file = cur.files().get(id)?;
            nonblock = file.nonblock();
            Who::Pid(pidfd::pid_of(&file)?.number())
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let out = wait::wait(cur, who, if nonblock { options | WNOHANG } else { options })?;
    if out.is_none() && nonblock && options & WNOHANG == 0 {
        return Err(Errno::EAGAIN.into());
    }
    Ok(out)
}

/// `getpid(2)`.
pub fn sys_getpid(cur: &CurrentTask) -> SysResult<u32> {
    Ok(cur.group.shown)
}

/// `getppid(2)`.
pub fn sys_getppid(cur: &CurrentTask) -> SysResult<u32> {
    Ok(cur.group.shown_ppid())
}

/// `gettid(2)`.
pub fn sys_gettid(cur: &CurrentTask) -> SysResult<u32> {
    Ok(cur.shown_tid())
}

/// `set_tid_address(2)`.
pub fn sys_set_tid_address(cur: &CurrentTask, addr: u64) -> SysResult<u32> {
    cur.clear_child_tid.store(addr, SeqCst);
    Ok(cur.shown_tid())
}

fn group_of(cur: &CurrentTask, pid: i32) -> Result<Arc<ThreadGroup>> {
    match pid {
        0 => Ok(cur.group.clone()),
        p if p > 0 => cur.process_of(p as u32).ok_or(Errno::ESRCH),
        _ => Err(Errno::ESRCH),
    }
}

/// `getpgid(2)`.
pub fn sys_getpgid(cur: &CurrentTask, pid: i32) -> SysResult<u32> {
    Ok(cur.seen_pid(group_of(cur, pid)?.pgid()))
}

/// `getpgrp(2)`.
pub fn sys_getpgrp(cur: &CurrentTask) -> SysResult<u32> {
    Ok(cur.seen_pid(cur.group.pgid()))
}

/// `getsid(2)`.
pub fn sys_getsid(cur: &CurrentTask, pid: i32) -> SysResult<u32> {
    Ok(cur.seen_pid(group_of(cur, pid)?.sid()))
}

/// `setpgid(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EACCES`, `EPERM`.
pub fn sys_setpgid(cur: &CurrentTask, pid: i32, pgid: i32) -> SysResult<()> {
    Ok(session::set_pgid(cur, pid, pgid)?)
}

/// `setsid(2)`.
///
/// # Errors
/// `EPERM` for the leader of a process group.
pub fn sys_setsid(cur: &CurrentTask) -> SysResult<u32> {
    Ok(session::set_sid(cur)?)
}
