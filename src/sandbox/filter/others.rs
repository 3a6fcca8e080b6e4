//! The filters of the processes beside the guests': the broker's, the meter's and the supervisor's.

use super::*;
use crate::sandbox::{broker, meter, porter, supervisor};

/// The broker's filter, wherever a call comes from.
pub fn of_broker() -> BpfProgram {
    of_helper(broker::CALLS, &[broker::HOLD as u32])
}

/// The meter's filter, wherever a call comes from.
pub fn of_meter() -> BpfProgram {
    of_helper(meter::CALLS, &[meter::LOOK as u32])
}

/// The porter's filter, wherever a call comes from.
pub fn of_porter() -> BpfProgram {
    let mut p = of_helper(porter::CALLS, &[]);
    // In front of the last instruction, which kills.
    let last = p.len() - 1;
    p.splice(last..last, list(libc::SYS_socket, 0, FAMILIES));
    p
}

/// Allows `calls`, and to open files with one of `flags` alone.
fn of_helper(calls: &[i64], flags: &[u32]) -> BpfProgram {
    let mut p = vec![
        stmt(LD_ABS, DATA_ARCH),
        jump(JEQ, ARCH_X86_64, 1, 0),
        stmt(RET, RET_KILL_PROCESS),
        stmt(LD_ABS, DATA_NR),
        jump(JSET, X32_BIT, 0, 1),
        stmt(RET, RET_KILL_PROCESS),
    ];
    p.extend(bitmap(calls));
    p.extend(list(libc::SYS_openat, 2, flags));
    // Debug builds of the standard library look at a descriptor before they close it.
    p.extend(list(libc::SYS_fcntl, 1, &[libc::F_GETFD as u32]));
    p.push(stmt(RET, RET_KILL_PROCESS));
    p
}

/// What the supervisor calls beyond what the kernel calls at the gate, for itself and for the processes that it makes:
/// its loop, its children, the cache of code, its C library. No new program, no socket of its own, no namespace, no
/// tracing.
const SUPERVISING: &[i64] = &[
    libc::SYS_writev,
    libc::SYS_ppoll,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_timerfd_settime,
    libc::SYS_signalfd4,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    libc::SYS_pipe2,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_close_range,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigpending,
    libc::SYS_brk,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getpgrp,
    libc::SYS_getpgid,
    libc::SYS_getrandom,
    libc::SYS_getcwd,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_setsid,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_getrlimit,
    // Further filters, of the processes that it makes.
    libc::SYS_seccomp,
    // The cache, below what Landlock lets it change.
    libc::SYS_flock,
    libc::SYS_mremap,
];

/// Calls by which it names files, as the first argument's directory: the kernel's, and the cache's.
const BELOW: &[i64] =
    &[libc::SYS_openat, libc::SYS_statx, libc::SYS_readlinkat, libc::SYS_newfstatat, libc::SYS_unlinkat];

/// The same where no name may lead out of a directory ([`May::naming`]): of it `openat` is without `O_PATH`.
const BELOW_ONLY: &[i64] = &[libc::SYS_unlinkat];

/// What it shares with processes that it makes for itself, and not for the kernel: nothing.
const SHARING: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_PARENT
    | libc::CLONE_SYSVSEM) as u32 as u64;

/// Argument values that it needs of a call beyond those that the kernel needs.
const SUPERVISING_LISTED: &[(i64, u32, &[u32])] = &[
    (libc::SYS_kill, 1, &[libc::SIGKILL as u32]),
    // To itself, as the launcher stops when its program does.
    (libc::SYS_tgkill, 2, &[libc::SIGSTOP as u32, libc::SIGABRT as u32]),
    // FIOCLEX, FIONBIO; TIOCGPGRP, for who puts the terminal in order at the end
    (libc::SYS_ioctl, 1, &[0x5451, 0x5421, 0x540f]),
    (
        libc::SYS_fcntl,
        1,
        &[
            libc::F_GETFD as u32,
            libc::F_SETFD as u32,
            libc::F_SETFL as u32,
            libc::F_DUPFD as u32,
            libc::F_DUPFD_CLOEXEC as u32,
        ],
    ),
];

/// The supervisor's filter, wherever a call comes from. The processes that it makes later inherit it: what it refuses
/// is therefore a trap, which is what a guest's call shall be, and ends the supervisor. Their own filter decides
/// of all else. `cache`: copies of code are kept beyond its end. `bridges`: it passes on data between the host's network
/// and the sandbox's.
///
/// # Errors
/// None that a caller could cause.
pub fn of_supervisor(cache: bool, bridges: bool, may: May) -> Result<BpfProgram> {
    let files = libc::CLONE_FILES as u64;
    let (fixed, noreplace) = (libc::MAP_FIXED as u64, libc::MAP_FIXED_NOREPLACE as u64);
    let mut rules = vec![
        (libc::SYS_clone, vec![masked(0, files | CLONE_FORBIDDEN, files)?, masked(0, SHARING | CLONE_FORBIDDEN, 0)?]),
        // What the C library has the host place is no code.
        (
            libc::SYS_mmap,
            vec![masked(3, fixed, fixed)?, masked(3, noreplace, noreplace)?, masked(2, libc::PROT_EXEC as u64, 0)?],
        ),
        (libc::SYS_prctl, naming_itself()?),
    ];
    if let Some((_, prctl)) = rules.last_mut() {
        let no_privileges = arg(0, Len::Dword, Op::Eq, libc::PR_SET_NO_NEW_PRIVS as u64)?;
        prctl.push(SeccompRule::new(vec![no_privileges]).map_err(internal)?);
        // The guard's, which outlives it for a moment.
        let told = vec![
            arg(0, Len::Dword, Op::Eq, libc::PR_SET_PDEATHSIG as u64)?,
            arg(1, Len::Qword, Op::Eq, supervisor::END as u64)?,
        ];
        prctl.push(SeccompRule::new(told).map_err(internal)?);
    }
    if cache {
        // The time of a copy is its seal. Of a file that is open, not of one that is named.
        let open = SeccompRule::new(vec![arg(1, Len::Qword, Op::Eq, 0)?]).map_err(internal)?;
        rules.push((libc::SYS_utimensat, vec![open]));
    }
    if bridges && !may.network {
        // To whom a socket is connected, and to nobody else.
        let nowhere = SeccompRule::new(vec![arg(4, Len::Qword, Op::Eq, 0)?]).map_err(internal)?;
        rules.push((libc::SYS_sendto, vec![nowhere]));
    }
    let rules = rules.into_iter().collect();
    let checked: BpfProgram = SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)
        .map_err(internal)?
        .try_into()
        .map_err(internal)?;
    let mut plain: Vec<i64> = [&HOT[..], PLAIN, SUPERVISING].concat();
    if may.network {
        plain.extend_from_slice(NETWORKING);
    }
    if bridges {
        plain.extend_from_slice(&[libc::SYS_accept4, libc::SYS_setsockopt]);
    }
    let mut p = vec![
        stmt(LD_ABS, DATA_ARCH),
        jump(JEQ, ARCH_X86_64, 1, 0),
        stmt(RET, RET_TRAP),
        stmt(LD_ABS, DATA_NR),
        jump(JSET, X32_BIT, 0, 1),
        stmt(RET, RET_TRAP),
    ];
    p.extend(bitmap(&plain));
    if let Some(naming) = may.naming {
        p.extend(below(BELOW_ONLY));
        p.extend(refused_or(libc::SYS_openat, &[0], &[(2, libc::O_PATH as u32)], RET_TRAP));
        beneath(naming).iter().for_each(|&(nr, argument, value)| p.extend(only_or(nr, argument, value, RET_TRAP)));
    } else {
        p.extend(below(BELOW));
    }
    p.extend(refused_or(libc::SYS_renameat, &[0, 2], &[], RET_TRAP));
    for (nr, dirs, _) in if may.write { CHANGING } else { &[] } {
        p.extend(refused_or(*nr, dirs, &[], RET_TRAP));
    }
    for (nr, (argument, values)) in listed(&[LISTED, SUPERVISING_LISTED].concat(), may.network) {
        p.extend(list_or(nr, argument, &values, RET_TRAP));
    }
    p.extend(checked);
    Ok(p)
}

/// Allows the calls in `numbers`, of which each has a directory as its first argument, unless that is the current one, which
/// traps. Goes on behind itself with other calls.
fn below(numbers: &[i64]) -> Vec<sock_filter> {
    let mut p = vec![stmt(LD_ABS, DATA_NR)];
    p.extend(numbers.iter().enumerate().map(|(i, &nr)| jump(JEQ, nr as u32, numbers.len() - i, 0)));
    p.push(stmt(JA, 4));
    p.extend([
        stmt(LD_ABS, DATA_ARGS),
        jump(JEQ, libc::AT_FDCWD as u32, 0, 1),
        stmt(RET, RET_TRAP),
        stmt(RET, RET_ALLOW),
    ]);
    p
}

/// Puts a filter on the calling thread, for good.
///
/// # Errors
/// The host's.
pub fn install(program: &[sock_filter]) -> std::io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;
    const SPEC_ALLOW: libc::c_ulong = 4;
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr() as *mut libc::sock_filter };
    // SAFETY: the host copies the program.
    match unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, SPEC_ALLOW, &raw const program) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
