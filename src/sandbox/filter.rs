//! The one door: a seccomp program that lets host calls through only at the kernel image's gate.
//!
//! seccompiler has no comparison of the instruction pointer, so a prologue in front of its program
//! does that by hand:
//!
//! | where the call came from | what happens |
//! |---|---|
//! | another architecture's entry (`int 0x80`) or an x32 number | SIGSYS: the kernel answers ENOSYS |
//! | the gate, and the allowlist names it with such arguments | allowed |
//! | the gate, and it does not | the process is killed: only a broken or hijacked kernel gets there |
//! | the `rt_sigreturn` instruction | allowed if it is that call, else SIGSYS |
//! | anywhere else | SIGSYS: a guest's call |
//!
//! seccompiler compares one number after the other, and a filter that looks at the instruction pointer
//! misses the host's bitmap of calls that are always allowed; so the hot calls come first, those that
//! need no look at their arguments are found in a bitmap of our own, and those whose argument is one
//! of many numbers have a list. That also keeps the program short: the host translates it for every
//! sandbox.
//! The mother installs it with `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: hosts before 5.16 would otherwise
//! slow all guest code down by speculative-store protection, which guards nothing here that the
//! shared address space does not give away already.

use super::error::{Error, Result};
use drupe_kernel::abi::control::Naming;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

mod others;
#[cfg(test)]
mod tests;

pub use others::{install, of_broker, of_meter, of_porter, of_supervisor};

const ARCH_X86_64: u32 = 0xc000_003e;
const X32_BIT: u32 = 0x4000_0000;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_KILL_PROCESS: u32 = 0x8000_0000;

const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
const DATA_IP_LOW: u32 = 8;
const DATA_IP_HIGH: u32 = 12;
/// The lower half of the first argument; eight bytes each, of which the upper half comes after the lower.
const DATA_ARGS: u32 = 16;

const LD_ABS: u16 = 0x20;
const LD_IMM: u16 = 0x00;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JSET: u16 = 0x45;
const AND: u16 = 0x54;
const RSH: u16 = 0x74;
/// By the index register.
const RSH_X: u16 = 0x7c;
const TAX: u16 = 0x07;
const RET: u16 = 0x06;

/// The most frequent host calls that any arguments are allowed for, in order.
const HOT: [i64; 7] = [
    libc::SYS_futex,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_getdents64,
];

/// The other host calls that the kernel may make with any arguments: they reach descriptors that are open,
/// memory of the process, and the process itself.
const PLAIN: &[i64] = &[
    libc::SYS_poll,
    libc::SYS_mprotect,
    libc::SYS_lseek,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_pwrite64,
    libc::SYS_pwritev2,
    libc::SYS_sched_yield,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_madvise,
    libc::SYS_clock_gettime,
    // What the moved vDSO falls back to.
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    // How the host goes on with a sleep after a stop.
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_mlock2,
    libc::SYS_memfd_create,
    libc::SYS_munlock,
    libc::SYS_sigaltstack,
    libc::SYS_membarrier,
];

/// Calls that name files, with the arguments that are descriptors of directories. The kernel names a file below a
/// directory that it has open, never below the host's idea of the current one.
const NAMING: &[(i64, &[u32])] = &[(libc::SYS_statx, &[0]), (libc::SYS_readlinkat, &[0])];

/// The same where no name may lead out of a directory, with the argument that decides and what it must be: `naming` is
/// where the constants lie ([`Naming`]). What is looked at is a descriptor, which a name was given for by `openat2` alone.
fn beneath(naming: u64) -> [(i64, u32, u64); 3] {
    [
        (libc::SYS_openat2, 2, naming),
        // No name at all.
        (libc::SYS_statx, 1, 0),
        (libc::SYS_readlinkat, 1, naming + Naming::NOTHING),
    ]
}

/// As [`NAMING`], of the calls that change what the host has, and with the argument that is the mode of what is made: for
/// sandboxes that may change something. Landlock says where. Mode, owner and times, of which it says nothing, are changed
/// by the broker alone; it also is the only one to set [`SET_ID`].
const CHANGING: &[(i64, &[u32], Option<u32>)] = &[
    (libc::SYS_mkdirat, &[0], Some(2)),
    (libc::SYS_mknodat, &[0], Some(2)),
    (libc::SYS_linkat, &[0, 2], None),
    (libc::SYS_symlinkat, &[1], None),
    (libc::SYS_unlinkat, &[0], None),
    (libc::SYS_renameat2, &[0, 2], None),
];

/// Mode bits with which nothing is made: a file is the launcher's user's until the broker has changed that.
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

/// Flags of `openat` with which a file is written or made.
const WRITING: u32 =
    (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND | libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;

/// Terminal and descriptor requests of `ioctl`. `TIOCSTI` and `TIOCLINUX` push input into the
/// person's shell and are not among them.
const IOCTLS: &[u32] = &[
    0x5401,
    0x5402,
    0x5403,
    0x5404, // TCGETS, TCSETS, TCSETSW, TCSETSF
    0x5405,
    0x5406,
    0x5407,
    0x5408, // TCGETA, TCSETA, TCSETAW, TCSETAF
    0x5409,
    0x540a,
    0x540b, // TCSBRK, TCXONC, TCFLSH
    0x5411,
    0x5413,
    0x5414,
    0x541b, // TIOCOUTQ, TIOCGWINSZ, TIOCSWINSZ, FIONREAD
    0x802c_542a,
    0x402c_542b,
    0x402c_542c,
    0x402c_542d, // TCGETS2, TCSETS2, TCSETSW2, TCSETSF2
];

/// As [`PLAIN`], of the calls on sockets: for sandboxes that were given the host's network. They concern descriptors, and
/// [`FAMILIES`] says of which kinds there can be any.
const NETWORKING: &[i64] = &[
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
];

/// The families of sockets that the kernel makes on the host's network.
const FAMILIES: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];

/// As [`IOCTLS`], of sockets of the host's network: what is asked of one, and of interfaces. None of them changes anything.
const SOCKET_IOCTLS: &[u32] = &[
    0x8905,
    0x8906,
    0x8907,
    0x894b,
    0x8010_8906,
    0x8010_8907, // SIOCATMARK, SIOCGSTAMP, SIOCGSTAMPNS (old and new), SIOCOUTQNSD
    0x8910,
    0x8912,
    0x8913,
    0x8915,
    0x8917,
    0x8919,
    0x891b,
    0x891d,
    0x8921,
    0x8927,
    0x8933,
    0x8942,
    0x8970, // SIOCGIF*
];

/// What the kernel asks of its descriptors.
const FCNTLS: &[u32] = &[libc::F_GETFL as u32];

/// The calls of which one argument (its lower half: the host looks at no more) is one of a list.
const LISTED: &[(i64, u32, &[u32])] = &[
    (libc::SYS_tgkill, 2, &[KICK]),
    // Of the calling thread alone.
    (libc::SYS_sched_getaffinity, 0, &[0]),
    (libc::SYS_sched_setaffinity, 0, &[0]),
    (libc::SYS_ioctl, 1, IOCTLS),
    (libc::SYS_fcntl, 1, FCNTLS),
    // ARCH_SET_GS, ARCH_SET_FS, ARCH_GET_FS, ARCH_GET_GS
    (libc::SYS_arch_prctl, 0, &[0x1001, 0x1002, 0x1003, 0x1004]),
];

/// Namespaces, tracing and everything else that a clone of ours never asks for.
const CLONE_FORBIDDEN: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_PTRACE
    | libc::CLONE_UNTRACED) as u32 as u64;

/// The host signal that kicks a thread (`drupe_kernel::host::process::KICK`).
const KICK: u32 = libc::SIGSTKFLT as u32;

/// Argument `index` must be `value` under `op`.
fn arg(index: u8, len: Len, op: Op, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(index, len, op, value).map_err(internal)
}

fn internal(e: impl std::fmt::Display) -> Error {
    Error::Setting(format!("the system call filter cannot be built: {e}"))
}

/// One rule: argument `index` has exactly `value` in the bits of `mask`.
fn masked(index: u8, mask: u64, value: u64) -> Result<SeccompRule> {
    SeccompRule::new(vec![arg(index, Len::Qword, Op::MaskedEq(mask), value)?]).map_err(internal)
}

/// The calls of which the bits of an argument are looked at.
fn checked() -> Result<Vec<(i64, Vec<SeccompRule>)>> {
    let fixed = libc::MAP_FIXED as u64;
    let noreplace = libc::MAP_FIXED_NOREPLACE as u64;
    let child = (libc::CLONE_FILES | libc::CLONE_PARENT) as u64;
    let thread = (libc::CLONE_FILES | libc::CLONE_THREAD) as u64;
    Ok(vec![
        // The kernel picks every address; the host never does.
        (libc::SYS_mmap, vec![masked(3, fixed, fixed)?, masked(3, noreplace, noreplace)?]),
        (libc::SYS_mremap, vec![masked(3, libc::MREMAP_FIXED as u64, libc::MREMAP_FIXED as u64)?, shrink_or_grow()?]),
        // One descriptor table for the whole sandbox, no namespaces, no tracing; and every process is the supervisor's
        // child, so that none is left when it ends them.
        (
            libc::SYS_clone,
            vec![masked(0, child | CLONE_FORBIDDEN, child)?, masked(0, thread | CLONE_FORBIDDEN, thread)?],
        ),
        (libc::SYS_prctl, naming_itself()?),
    ])
}

/// What `prctl` is for: a name, and the promise to end with the parent, which nobody takes back.
fn naming_itself() -> Result<Vec<SeccompRule>> {
    let option = |value: i32| arg(0, Len::Dword, Op::Eq, value as u64);
    let ends = vec![option(libc::PR_SET_PDEATHSIG)?, arg(1, Len::Qword, Op::Eq, libc::SIGKILL as u64)?];
    [ends, vec![option(libc::PR_SET_NAME)?]].map(|rule| SeccompRule::new(rule).map_err(internal)).into_iter().collect()
}

/// `mremap` in place (no address given).
fn shrink_or_grow() -> Result<SeccompRule> {
    SeccompRule::new(vec![arg(3, Len::Qword, Op::Eq, 0)?]).map_err(internal)
}

fn stmt(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: usize, jf: usize) -> sock_filter {
    sock_filter { code, jt: jt as u8, jf: jf as u8, k }
}

/// What the sandbox may do on the host.
#[derive(Clone, Copy, Default)]
pub struct May {
    /// Change something.
    pub write: bool,
    /// Use its network.
    pub network: bool,
    /// Name files below directories alone, with the constants that lie there ([`beneath`]).
    pub naming: Option<u64>,
}

/// Compiles the filter. `gate` and `sigreturn` are the addresses behind the two `syscall`
/// instructions, as the host reports them.
///
/// # Errors
/// When the two do not lie in one 4 GiB (the loader never does that).
pub fn build(gate: u64, sigreturn: u64, may: May) -> Result<BpfProgram> {
    if gate >> 32 != sigreturn >> 32 || gate == sigreturn {
        return Err(internal("the gate is not where it should be"));
    }
    let rules: BTreeMap<i64, Vec<SeccompRule>> = checked()?.into_iter().collect();
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)
        .map_err(internal)?;
    let allowlist: BpfProgram = filter.try_into().map_err(internal)?;

    let mut p = prologue(gate, sigreturn);
    let place = if may.naming.is_some() { libc::O_PATH as u32 } else { 0 };
    let opening: &[_] = if may.write { &[(2, place), (3, SET_ID)] } else { &[(2, WRITING | place)] };
    p.extend(refused(libc::SYS_openat, &[0], opening));
    match may.naming {
        Some(naming) => beneath(naming).iter().for_each(|&(nr, argument, value)| p.extend(only(nr, argument, value))),
        None => NAMING.iter().for_each(|(nr, dirs)| p.extend(refused(*nr, dirs, &[]))),
    }
    for (nr, dirs, mode) in if may.write { CHANGING } else { &[] } {
        p.extend(refused(*nr, dirs, &mode.map(|argument| (argument, SET_ID)).into_iter().collect::<Vec<_>>()));
    }
    p.extend(bitmap(&[PLAIN, if may.network { NETWORKING } else { &[] }].concat()));
    for (nr, (argument, values)) in listed(LISTED, may.network) {
        p.extend(list(nr, argument, &values));
    }
    p.extend(allowlist);
    Ok(p)
}

/// The calls of a list, each with all its values; with the host's network, those that this takes, too.
fn listed(calls: &[(i64, u32, &[u32])], network: bool) -> Vec<(i64, (u32, Vec<u32>))> {
    let sockets: &[(i64, u32, &[u32])] =
        if network { &[(libc::SYS_socket, 0, FAMILIES), (libc::SYS_ioctl, 1, SOCKET_IOCTLS)] } else { &[] };
    let mut all = Vec::<(i64, (u32, Vec<u32>))>::new();
    for (nr, argument, values) in calls.iter().chain(sockets) {
        match all.iter_mut().find(|(n, _)| n == nr) {
            Some((_, (_, known))) => known.extend_from_slice(values),
            None => all.push((*nr, (*argument, values.to_vec()))),
        }
    }
    all
}

/// Everything in front of seccompiler's program.
fn prologue(gate: u64, sigreturn: u64) -> Vec<sock_filter> {
    let mut p = vec![
        /* 0 */ stmt(LD_ABS, DATA_ARCH),
        /* 1 */ jump(JEQ, ARCH_X86_64, 0, 9), // else 11
        /* 2 */ stmt(LD_ABS, DATA_NR),
        /* 3 */ jump(JSET, X32_BIT, 7, 0), // then 11
        /* 4 */ stmt(LD_ABS, DATA_IP_HIGH),
        /* 5 */ jump(JEQ, (gate >> 32) as u32, 0, 5), // else 11
        /* 6 */ stmt(LD_ABS, DATA_IP_LOW),
        /* 7 */ jump(JEQ, gate as u32, 5, 0), // then 13
        /* 8 */ jump(JEQ, sigreturn as u32, 0, 2), // else 11
        /* 9 */ stmt(LD_ABS, DATA_NR),
        /* 10 */ jump(JEQ, libc::SYS_rt_sigreturn as u32, 1, 0), // then 12
        /* 11 */ stmt(RET, RET_TRAP),
        /* 12 */ stmt(RET, RET_ALLOW),
        /* 13 */ stmt(LD_ABS, DATA_NR),
    ];
    // The hot calls jump to an `allow` of their own, behind the last of them.
    for (i, &nr) in HOT.iter().enumerate() {
        let last = i + 1 == HOT.len();
        let behind = HOT.len() - 1 - i;
        p.push(jump(JEQ, nr as u32, behind, usize::from(last)));
    }
    p.push(stmt(RET, RET_ALLOW));
    p
}

/// Allows call `nr` unless one of the arguments `dirs` is the current directory, or an argument has one of
/// the bits that go with it; then it kills. Goes on behind itself with other calls.
fn refused(nr: i64, dirs: &[u32], flagged: &[(u32, u32)]) -> Vec<sock_filter> {
    refused_or(nr, dirs, flagged, RET_KILL_PROCESS)
}

/// As [`refused`], with another answer to what is not allowed.
fn refused_or(nr: i64, dirs: &[u32], flagged: &[(u32, u32)], other: u32) -> Vec<sock_filter> {
    let here = dirs.iter().map(|&dir| (dir, JEQ, libc::AT_FDCWD as u32));
    let flagged = flagged.iter().filter(|(_, flags)| *flags != 0).map(|&(argument, flags)| (argument, JSET, flags));
    let tests: Vec<_> = here.chain(flagged).collect();
    let n = 2 * tests.len();
    let mut p = vec![stmt(LD_ABS, DATA_NR), jump(JEQ, nr as u32, 0, n + 2)];
    for (i, (argument, code, value)) in tests.into_iter().enumerate() {
        p.extend([stmt(LD_ABS, DATA_ARGS + 8 * argument), jump(code, value, n - 2 * i - 1, 0)]);
    }
    p.extend([stmt(RET, RET_ALLOW), stmt(RET, other)]);
    p
}

/// Allows call `nr` below a directory that is open if an argument is `value` as a whole, else kills; goes on behind
/// itself with other calls.
fn only(nr: i64, argument: u32, value: u64) -> Vec<sock_filter> {
    only_or(nr, argument, value, RET_KILL_PROCESS)
}

/// As [`only`], with another answer to what is not allowed.
fn only_or(nr: i64, argument: u32, value: u64, other: u32) -> Vec<sock_filter> {
    let at = DATA_ARGS + 8 * argument;
    vec![
        stmt(LD_ABS, DATA_NR),
        jump(JEQ, nr as u32, 0, 8),
        stmt(LD_ABS, DATA_ARGS),
        jump(JEQ, libc::AT_FDCWD as u32, 5, 0),
        stmt(LD_ABS, at),
        jump(JEQ, value as u32, 0, 3),
        stmt(LD_ABS, at + 4),
        jump(JEQ, (value >> 32) as u32, 0, 1),
        stmt(RET, RET_ALLOW),
        stmt(RET, other),
    ]
}

/// Allows call `nr` if the lower half of an argument is one of `values`, kills for other values, and goes
/// on behind itself with other calls.
fn list(nr: i64, argument: u32, values: &[u32]) -> Vec<sock_filter> {
    list_or(nr, argument, values, RET_KILL_PROCESS)
}

/// As [`list`], with another answer to other values.
fn list_or(nr: i64, argument: u32, values: &[u32], other: u32) -> Vec<sock_filter> {
    let n = values.len();
    let mut p = vec![stmt(LD_ABS, DATA_NR), jump(JEQ, nr as u32, 0, n + 3), stmt(LD_ABS, DATA_ARGS + 8 * argument)];
    p.extend(values.iter().enumerate().map(|(i, &v)| jump(JEQ, v, n - i, 0)));
    p.extend([stmt(RET, other), stmt(RET, RET_ALLOW)]);
    p
}

/// Allows the calls in `numbers` and goes on behind itself with all others.
fn bitmap(numbers: &[i64]) -> Vec<sock_filter> {
    let mut words = BTreeMap::<u32, u32>::new();
    for &nr in numbers {
        *words.entry(nr as u32 / 32).or_default() |= 1 << (nr % 32);
    }
    // Three instructions a word, then the test of the bit.
    let (rows, test) = (words.len(), 3);
    let mut p = vec![stmt(LD_ABS, DATA_NR), stmt(AND, 31), stmt(TAX, 0), stmt(LD_ABS, DATA_NR), stmt(RSH, 5)];
    for (i, (&word, &bits)) in words.iter().enumerate() {
        let left = rows - 1 - i;
        p.push(jump(JEQ, word, 0, 2));
        p.push(stmt(LD_IMM, bits));
        // Over the other words, and over the jump for numbers in none of them.
        p.push(stmt(JA, left as u32 * 3 + 1));
    }
    p.push(stmt(JA, test));
    p.extend([stmt(RSH_X, 0), jump(JSET, 1, 0, 1), stmt(RET, RET_ALLOW)]);
    p
}
