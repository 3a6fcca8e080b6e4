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
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

mod others;

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
/// The lower half of the first argument; eight bytes each.
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

/// Compiles the filter. `gate` and `sigreturn` are the addresses behind the two `syscall`
/// instructions, as the host reports them. `writable`: something on the host may be changed. `network`: the host's
/// network is given.
///
/// # Errors
/// When the two do not lie in one 4 GiB (the loader never does that).
pub fn build(gate: u64, sigreturn: u64, writable: bool, network: bool) -> Result<BpfProgram> {
    if gate >> 32 != sigreturn >> 32 || gate == sigreturn {
        return Err(internal("the gate is not where it should be"));
    }
    let rules: BTreeMap<i64, Vec<SeccompRule>> = checked()?.into_iter().collect();
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)
        .map_err(internal)?;
    let allowlist: BpfProgram = filter.try_into().map_err(internal)?;

    let mut p = prologue(gate, sigreturn);
    p.extend(refused(libc::SYS_openat, &[0], if writable { (3, SET_ID) } else { (2, WRITING) }));
    for (nr, dirs) in NAMING {
        p.extend(refused(*nr, dirs, (0, 0)));
    }
    for (nr, dirs, mode) in if writable { CHANGING } else { &[] } {
        p.extend(refused(*nr, dirs, mode.map_or((0, 0), |argument| (argument, SET_ID))));
    }
    p.extend(bitmap(&[PLAIN, if network { NETWORKING } else { &[] }].concat()));
    for (nr, (argument, values)) in listed(LISTED, network) {
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
fn refused(nr: i64, dirs: &[u32], flagged: (u32, u32)) -> Vec<sock_filter> {
    refused_or(nr, dirs, flagged, RET_KILL_PROCESS)
}

/// As [`refused`], with another answer to what is not allowed.
fn refused_or(nr: i64, dirs: &[u32], (flagged_argument, flags): (u32, u32), other: u32) -> Vec<sock_filter> {
    let flagged = usize::from(flags != 0);
    let n = 2 * (dirs.len() + flagged);
    let mut p = vec![stmt(LD_ABS, DATA_NR), jump(JEQ, nr as u32, 0, n + 2)];
    let mut kill = n;
    let mut test = |argument: u32, code: u16, value: u32| {
        kill -= 2;
        [stmt(LD_ABS, DATA_ARGS + 8 * argument), jump(code, value, kill + 1, 0)]
    };
    for &dir in dirs {
        p.extend(test(dir, JEQ, libc::AT_FDCWD as u32));
    }
    if flags != 0 {
        p.extend(test(flagged_argument, JSET, flags));
    }
    p.extend([stmt(RET, RET_ALLOW), stmt(RET, other)]);
    p
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

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: u64 = 0x6812_4020_1234;
    const SIGRETURN: u64 = 0x6812_4020_5678;
    const I386: u32 = 0x4000_0003;

    /// What the host would do: an interpreter of the few instructions that seccomp programs use.
    fn interpret(program: &[sock_filter], arch: u32, nr: u32, ip: u64, args: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&nr.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        data[8..16].copy_from_slice(&ip.to_le_bytes());
        for (i, a) in args.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&a.to_le_bytes());
        }
        let (mut pc, mut acc, mut index) = (0usize, 0u32, 0u32);
        loop {
            let i = &program[pc];
            pc += 1;
            let mut branch = |taken: bool| pc += usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                0x20 => {
                    let at = i.k as usize;
                    acc = u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
                }
                0x00 => acc = i.k,
                0x07 => index = acc,
                0x74 => acc >>= i.k,
                0x7c => acc >>= index,
                0x05 => pc += i.k as usize,
                0x15 => branch(acc == i.k),
                0x25 => branch(acc > i.k),
                0x35 => branch(acc >= i.k),
                0x45 => branch(acc & i.k != 0),
                0x54 => acc &= i.k,
                0x06 => return i.k,
                other => panic!("an instruction {other:#x} that the test does not know"),
            }
        }
    }

    fn at(ip: u64, nr: i64, args: [u64; 6]) -> u32 {
        judge(false, ip, nr, args)
    }

    fn judge(writable: bool, ip: u64, nr: i64, args: [u64; 6]) -> u32 {
        let program = build(GATE, SIGRETURN, writable, false).expect("it compiles");
        interpret(&program, ARCH_X86_64, nr as u32, ip, args)
    }

    #[test]
    fn only_two_addresses_get_through() {
        for nr in 0..600 {
            for ip in [0, GATE - 1, GATE + 1, GATE ^ (1 << 32), SIGRETURN ^ (1 << 40), 0x40_1000, u64::MAX] {
                assert_eq!(at(ip, nr, [0; 6]), RET_TRAP, "call {nr} at {ip:#x}");
            }
            let want = if nr == libc::SYS_rt_sigreturn { RET_ALLOW } else { RET_TRAP };
            assert_eq!(at(SIGRETURN, nr, [0; 6]), want, "call {nr} at the sigreturn instruction");
        }
    }

    #[test]
    fn the_gate_allows_what_is_named_and_kills_for_the_rest() {
        for nr in HOT.iter().chain(PLAIN) {
            assert_eq!(at(GATE, *nr, [u64::MAX; 6]), RET_ALLOW, "call {nr}");
        }
        let mut named: Vec<i64> = checked().expect("built").into_iter().map(|(nr, _)| nr).collect();
        named.extend(LISTED.iter().map(|(nr, ..)| nr));
        named.extend(NAMING.iter().map(|(nr, ..)| nr));
        named.push(libc::SYS_openat);
        for nr in (0..600).filter(|nr| !HOT.contains(nr) && !PLAIN.contains(nr) && !named.contains(nr)) {
            assert_eq!(at(GATE, nr, [0; 6]), RET_KILL_PROCESS, "call {nr}");
        }
        for nr in
            [libc::SYS_execve, libc::SYS_ptrace, libc::SYS_kill, libc::SYS_clone3, libc::SYS_socket, libc::SYS_bpf]
        {
            assert_eq!(at(GATE, nr, [0; 6]), RET_KILL_PROCESS, "call {nr}");
        }
        assert_eq!(at(GATE, libc::SYS_rt_sigreturn, [0; 6]), RET_KILL_PROCESS);
    }

    #[test]
    fn files_are_named_below_directories_and_changed_where_that_was_given() {
        const CWD: u64 = libc::AT_FDCWD as u32 as u64;
        let far = |nr, dirs: &[u32], dir: u64| {
            let mut args = [7, 7, 0, 7, 7, 7];
            dirs.iter().for_each(|&d| args[d as usize] = dir);
            judge(true, GATE, nr, args)
        };
        let changing = CHANGING.iter().map(|(nr, dirs, _)| (*nr, *dirs));
        for (nr, dirs) in NAMING.iter().copied().chain(changing).chain([(libc::SYS_openat, &[0u32][..])]) {
            assert_eq!(far(nr, dirs, 5), RET_ALLOW, "call {nr}");
            for dir in dirs {
                assert_eq!(far(nr, &[*dir], CWD), RET_KILL_PROCESS, "call {nr}");
                assert_eq!(far(nr, &[*dir], CWD | 0xffff_ffff_0000_0000), RET_KILL_PROCESS, "call {nr}");
            }
        }
        for &(nr, _, mode) in CHANGING {
            assert_eq!(at(GATE, nr, [7; 6]), RET_KILL_PROCESS, "call {nr}");
            if let Some(argument) = mode {
                let mut args = [7; 6];
                args[argument as usize] = 0o104_755;
                assert_eq!(judge(true, GATE, nr, args), RET_KILL_PROCESS, "call {nr}");
            }
        }
        for mode in [0o4755, 0o2755] {
            let args = [7, 7, (libc::O_CREAT | libc::O_RDWR) as u64, mode, 0, 0];
            assert_eq!(judge(true, GATE, libc::SYS_openat, args), RET_KILL_PROCESS);
        }
        for flags in [libc::O_RDONLY, libc::O_PATH | libc::O_NOFOLLOW, libc::O_DIRECTORY | libc::O_CLOEXEC] {
            assert_eq!(at(GATE, libc::SYS_openat, [7, 7, flags as u64, 0, 0, 0]), RET_ALLOW, "flags {flags:#x}");
        }
        for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE | libc::O_RDWR, 3] {
            let args = [7, 7, flags as u64, 0, 0, 0];
            assert_eq!(at(GATE, libc::SYS_openat, args), RET_KILL_PROCESS, "flags {flags:#x}");
            assert_eq!(judge(true, GATE, libc::SYS_openat, args), RET_ALLOW, "flags {flags:#x}");
        }
    }

    #[test]
    fn arguments_are_looked_at() {
        let tgkill = |sig| at(GATE, libc::SYS_tgkill, [1, 1, sig, 0, 0, 0]);
        assert_eq!(tgkill(u64::from(KICK)), RET_ALLOW);
        for sig in [0, 9, 15, 17] {
            assert_eq!(tgkill(sig), RET_KILL_PROCESS, "signal {sig}");
        }
        let prctl = |option: i32, value: u64| at(GATE, libc::SYS_prctl, [option as u64, value, 0, 0, 0, 0]);
        assert_eq!(prctl(libc::PR_SET_NAME, 0x1000), RET_ALLOW);
        assert_eq!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64), RET_ALLOW);
        for value in [0, libc::SIGCHLD as u64, libc::SIGKILL as u64 | 1 << 32] {
            assert_eq!(prctl(libc::PR_SET_PDEATHSIG, value), RET_KILL_PROCESS, "{value:#x}");
        }
        assert_eq!(prctl(libc::PR_SET_DUMPABLE, 9), RET_KILL_PROCESS);
        let clone = |flags: i32| at(GATE, libc::SYS_clone, [flags as u32 as u64, 0, 0, 0, 0, 0]);
        assert_eq!(clone(libc::CLONE_FILES | libc::CLONE_PARENT), RET_ALLOW);
        assert_eq!(clone(libc::CLONE_FILES | libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND), RET_ALLOW);
        assert_eq!(clone(libc::CLONE_PARENT), RET_KILL_PROCESS, "a second descriptor table");
        assert_eq!(clone(libc::CLONE_FILES | libc::CLONE_NEWUSER), RET_KILL_PROCESS);
        let mmap = |flags: i32| at(GATE, libc::SYS_mmap, [0, 4096, 3, flags as u64, u64::MAX, 0]);
        assert_eq!(mmap(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED), RET_ALLOW);
        assert_eq!(mmap(libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE), RET_ALLOW);
        assert_eq!(mmap(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), RET_KILL_PROCESS, "the host picks the address");
        let ioctl = |request| at(GATE, libc::SYS_ioctl, [0, request, 0, 0, 0, 0]);
        assert_eq!(ioctl(libc::TIOCGWINSZ), RET_ALLOW);
        assert_eq!(ioctl(libc::TIOCSTI), RET_KILL_PROCESS);
        for &(nr, argument, values) in LISTED {
            let with = |v: u32| {
                let mut args = [u64::MAX; 6];
                args[argument as usize] = u64::from(v);
                at(GATE, nr, args)
            };
            for &v in values {
                assert_eq!(with(v), RET_ALLOW, "call {nr} with {v:#x}");
            }
            for v in (0..100).chain([u32::MAX, 0x1000]).filter(|v| !values.contains(v)) {
                assert_eq!(with(v), RET_KILL_PROCESS, "call {nr} with {v:#x}");
            }
        }
    }

    #[test]
    fn other_architectures_trap_even_at_the_gate() {
        let program = build(GATE, SIGRETURN, true, false).expect("it compiles");
        for ip in [GATE, SIGRETURN, 0x40_1000] {
            assert_eq!(interpret(&program, I386, 3, ip, [0; 6]), RET_TRAP);
            let x32 = X32_BIT | libc::SYS_write as u32;
            assert_eq!(interpret(&program, ARCH_X86_64, x32, ip, [0; 6]), RET_TRAP);
            assert_eq!(interpret(&program, ARCH_X86_64, u32::MAX, ip, [0; 6]), RET_TRAP);
        }
    }

    #[test]
    fn the_program_fits_and_every_jump_lands() {
        let program = build(GATE, SIGRETURN, true, false).expect("it compiles");
        assert!(program.len() <= 4096);
        for (at, i) in program.iter().enumerate() {
            if i.code & 7 == 5 {
                let (t, f) = if i.code == 5 { (i.k as usize, i.k as usize) } else { (i.jt.into(), i.jf.into()) };
                assert!(at + 1 + t < program.len() && at + 1 + f < program.len(), "instruction {at}");
            }
        }
    }
}
