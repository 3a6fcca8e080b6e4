//! The programs, interpreted.

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
    let program = build(GATE, SIGRETURN, May { write: writable, ..May::default() }).expect("it compiles");
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
    for nr in [libc::SYS_execve, libc::SYS_ptrace, libc::SYS_kill, libc::SYS_clone3, libc::SYS_socket, libc::SYS_bpf] {
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
fn names_are_looked_up_with_the_constants_alone() {
    const AT: u64 = 0x7e81_2340_0000;
    let judge = |write: bool, nr, args| {
        let may = May { write, naming: Some(AT), ..May::default() };
        let program = build(GATE, SIGRETURN, may).expect("it compiles");
        interpret(&program, ARCH_X86_64, nr as u32, GATE, args)
    };
    for (nr, argument, right) in beneath(AT) {
        for (dir, value) in [
            (7, right),
            (libc::AT_FDCWD as u32 as u64, right),
            (7, right + 8),
            (7, right ^ 1 << 33),
            (7, 0x1000),
            (7, u64::MAX),
        ] {
            let mut args = [dir, 1, 1, 1, 1, 1];
            args[argument as usize] = value;
            let want = if (dir, value) == (7, right) { RET_ALLOW } else { RET_KILL_PROCESS };
            assert_eq!(judge(false, nr, args), want, "call {nr} {args:x?}");
        }
    }
    let open = |write, flags: i32| judge(write, libc::SYS_openat, [7, 7, flags as u64, 0, 0, 0]);
    for flags in [libc::O_PATH, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC] {
        assert_eq!((open(false, flags), open(true, flags)), (RET_KILL_PROCESS, RET_KILL_PROCESS));
    }
    assert_eq!((open(false, 0), open(true, libc::O_RDWR)), (RET_ALLOW, RET_ALLOW));
    assert_eq!(open(false, libc::O_RDWR), RET_KILL_PROCESS);
    assert_eq!(at(GATE, libc::SYS_openat2, [7, 7, AT, 24, 0, 0]), RET_KILL_PROCESS);
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
    let program = build(GATE, SIGRETURN, May { write: true, ..May::default() }).expect("it compiles");
    for ip in [GATE, SIGRETURN, 0x40_1000] {
        assert_eq!(interpret(&program, I386, 3, ip, [0; 6]), RET_TRAP);
        let x32 = X32_BIT | libc::SYS_write as u32;
        assert_eq!(interpret(&program, ARCH_X86_64, x32, ip, [0; 6]), RET_TRAP);
        assert_eq!(interpret(&program, ARCH_X86_64, u32::MAX, ip, [0; 6]), RET_TRAP);
    }
}

#[test]
fn the_program_fits_and_every_jump_lands() {
    let program = build(GATE, SIGRETURN, May { write: true, ..May::default() }).expect("it compiles");
    assert!(program.len() <= 4096);
    for (at, i) in program.iter().enumerate() {
        if i.code & 7 == 5 {
            let (t, f) = if i.code == 5 { (i.k as usize, i.k as usize) } else { (i.jt.into(), i.jf.into()) };
            assert!(at + 1 + t < program.len() && at + 1 + f < program.len(), "instruction {at}");
        }
    }
}
