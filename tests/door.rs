//! One door, seen from the host: every call of a guest is a SIGSYS, and the installed filter lets two addresses through.

mod common;

use common::bpf::{ALLOW, ARCH_X86_64, Call, TRAP, installed, sock_filter, verdict};
use common::host::{children, wait_for};
use common::tracepoint::Counter;
use common::{DRUPE, Link, compile, guest_dir, run, sandboxed};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// SIGSYS that the host delivered to a sandbox with this guest, and the calls that its kernel tells of.
fn traps(program: &[&str]) -> Option<(u64, u64)> {
    let mut counter = match Counter::start("signal/signal_deliver", "sig == 31") {
        Ok(counter) => counter,
        Err(e) => {
            eprintln!("skipped: signal tracepoint ({e})");
            return None;
        }
    };
    let log = guest_dir().join(format!("traps-{}.log", program.len()));
    let path = log.to_string_lossy().into_owned();
    let out = run(&mut sandboxed(&["--rewrite", "off", "--strace-file", &path], program), LIMIT);
    assert_eq!(out.status, 0, "{}", out.stderr);
    let lines = fs::read_to_string(&log).expect("written");
    let calls = lines.lines().filter(|l| l.contains('(')).count() as u64;
    Some((counter.read().expect("a counter"), calls))
}

#[test]
fn every_call_is_a_trap() {
    let Some(program) = compile("counted", Link::Dynamic) else { return };
    let program = program.to_str().expect("ASCII");
    let (Some((none, none_told)), Some((many, many_told))) = (traps(&[program]), traps(&[program, "5000"])) else {
        return;
    };
    println!("{none} SIGSYS for {none_told} calls, {many} for {many_told}");
    assert_eq!(none, none_told, "SIGSYS against calls that the kernel tells of");
    assert_eq!(many, many_told, "SIGSYS against calls that the kernel tells of");
    assert_eq!(many, none + 5000);
}

#[test]
fn descriptors_of_whoever_started_the_launcher_are_closed() {
    let (mut read, write) = std::io::pipe().expect("a pipe");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" run -- sleep 100 9>&0 0</dev/null", DRUPE]).stdin(Stdio::from(write));
    let sleeper = Sleeper(command.spawn().expect("it starts"));
    drop(command);
    sleeper.filtered();
    let mut fds = [nix::poll::PollFd::new(read.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, 10_000u16).expect("polled");
    assert!(fds[0].any() == Some(true), "the other end is open in the launcher");
    assert_eq!(read.read(&mut [0]).expect("nobody is left who could write"), 0);
}

/// A sandbox whose guest sleeps.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Sleeper {
        Sleeper::with(&[])
    }

    fn with(options: &[&str]) -> Sleeper {
        let mut command = Command::new(DRUPE);
        command.arg("run").args(options).args(["--", "/bin/sleep", "100"]).stdin(Stdio::null());
        Sleeper(command.spawn().expect("it starts"))
    }

    /// Its processes behind the filter: the guest, and whatever else was made for guests.
    fn filtered(&self) -> Vec<i32> {
        wait_for("a sleeping guest", LIMIT, || {
            // The launcher's filter is the last thing that is set up.
            if seccomp_mode(self.0.id() as i32) != 2 {
                return None;
            }
            // The guard has the launcher's filter alone, of which another test tells.
            let guest = |p: &i32| {
                let name = fs::read_to_string(format!("/proc/{p}/comm")).unwrap_or_default();
                seccomp_mode(*p) == 2 && name.trim() != "drupe-guard"
            };
            let behind: Vec<i32> = children(self.0.id() as i32).into_iter().filter(guest).collect();
            (!behind.is_empty()).then_some(behind)
        })
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn seccomp_mode(pid: i32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("Seccomp:"));
    line.and_then(|l| l.trim().parse().ok()).unwrap_or(0)
}

/// Executable mappings of a host process.
fn text(pid: i32) -> Vec<(u64, u64)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("readable");
    let parse = |l: &str| {
        let mut fields = l.split_whitespace();
        let (range, access) = (fields.next()?, fields.next()?);
        let (from, to) = range.split_once('-')?;
        let number = |t| u64::from_str_radix(t, 16).ok();
        access.contains('x').then_some((number(from)?, number(to)?))
    };
    maps.lines().filter_map(parse).filter(|r| r.0 < 1 << 47).collect()
}

/// Addresses from which the program lets some call through. What it compares with are the only addresses that
/// can matter to it; the others are there to show it.
fn doors(program: &[sock_filter], text: &[(u64, u64)]) -> BTreeSet<u64> {
    let constants: BTreeSet<u64> = program.iter().map(|i| u64::from(i.k)).collect();
    let mut candidates: BTreeSet<u64> = [0, 1, u64::MAX, 1 << 47, 0xffff_ffff_ff60_0000].into();
    for high in &constants {
        for low in &constants {
            candidates.extend([high << 32 | low, (high << 32 | low).wrapping_sub(1), (high << 32 | low) + 1]);
        }
    }
    for &(from, to) in text {
        candidates.extend(from..to.min(from + (4 << 20)));
    }
    let mut random = 88_172_645_463_325_252u64;
    for _ in 0..100_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        candidates.extend([random, random >> 17]);
    }
    // A call that the gate lets through whatever its arguments, and the one that ends a signal handler.
    let some = [libc::SYS_read, libc::SYS_rt_sigreturn, libc::SYS_getpid, libc::SYS_execve];
    let passes = |&ip: &u64| some.iter().any(|&nr| verdict(program, &Call::at(ip, nr)) != TRAP);
    candidates.into_iter().filter(passes).collect()
}

#[test]
fn the_installed_filter_has_two_doors() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: reading a filter back needs root");
        return;
    }
    let sleeper = Sleeper::start();
    for pid in sleeper.filtered() {
        let filters = match installed(pid) {
            Ok(filters) => filters,
            Err(e) => {
                eprintln!("skipped: reading a filter back ({e})");
                return;
            }
        };
        // An outer filter of the machine that the tests run on may be there as well: ours is the newest.
        let program = filters.first().expect("a process behind a filter");
        let doors = doors(program, &text(pid));
        println!("process {pid}: {} instructions, doors {doors:x?}", program.len());
        assert!(doors.len() <= 2, "{doors:x?}");
        check_doors(program, &doors);
    }
}

/// The other architectures' entries, and that one of the two doors is for `rt_sigreturn` alone. Returns the gate.
fn check_doors(program: &[sock_filter], doors: &BTreeSet<u64>) -> u64 {
    let mut gates = Vec::new();
    for &ip in doors {
        if verdict(program, &Call::at(ip, libc::SYS_read)) == ALLOW {
            gates.push(ip);
        } else {
            for nr in 0..=600 {
                let expected = if nr == libc::SYS_rt_sigreturn { ALLOW } else { TRAP };
                assert_eq!(verdict(program, &Call::at(ip, nr)), expected, "call {nr} at {ip:#x}");
            }
        }
        let foreign = Call { arch: 0x4000_0003, ..Call::at(ip, libc::SYS_read) };
        let x32 = Call { nr: 0x4000_0000, arch: ARCH_X86_64, ..Call::at(ip, 0) };
        assert_eq!((verdict(program, &foreign), verdict(program, &x32)), (TRAP, TRAP));
    }
    assert_eq!(gates.len(), 1, "one door is the gate");
    gates[0]
}

/// Arguments that every number is tried with.
fn general() -> Vec<(&'static str, [u64; 6])> {
    const CWD: u64 = libc::AT_FDCWD as u64;
    const DIR: u64 = 7;
    vec![
        ("zeros", [0; 6]),
        ("ones", [u64::MAX; 6]),
        ("below a directory", [DIR, DIR, DIR, DIR, DIR, DIR]),
        ("below the current directory", [CWD, DIR, DIR, DIR, DIR, DIR]),
        ("... (second argument)", [DIR, CWD, DIR, DIR, DIR, DIR]),
        ("... (third argument)", [DIR, DIR, CWD, DIR, DIR, DIR]),
        ("... (32 bits of it)", [CWD as u32 as u64; 6]),
    ]
}

/// Arguments that matter to a call.
fn special(nr: i64) -> Vec<(String, [u64; 6])> {
    let at = |index: usize, base: [u64; 6], values: &[(&str, i64)]| -> Vec<(String, [u64; 6])> {
        let with = |value: i64| {
            let mut args = base;
            args[index] = value as u64;
            args
        };
        values.iter().map(|(name, value)| ((*name).to_string(), with(*value))).collect()
    };
    macro_rules! named {
        ($($name:ident),*) => { &[$((stringify!($name), libc::$name as i64)),*] };
    }
    let numbers = |names: std::ops::Range<i64>, index| -> Vec<(String, [u64; 6])> {
        names.flat_map(|n| at(index, [1; 6], &[(&format!("{n:#x}"), n)])).collect()
    };
    match nr {
        libc::SYS_openat => at(
            2,
            [7; 6],
            named!(
                O_RDONLY,
                O_WRONLY,
                O_RDWR,
                O_ACCMODE,
                O_CREAT,
                O_TRUNC,
                O_APPEND,
                O_TMPFILE,
                O_PATH,
                O_DIRECTORY,
                O_NOFOLLOW,
                O_CLOEXEC
            ),
        )
        .into_iter()
        .chain(at(2, [7; 6], &[("O_PATH|O_CLOEXEC", (libc::O_PATH | libc::O_CLOEXEC).into())]))
        .collect(),
        libc::SYS_tgkill => at(2, [1; 6], named!(SIGSTKFLT, SIGKILL, SIGTERM, SIGSTOP, SIGABRT)),
        libc::SYS_kill => at(1, [1; 6], named!(SIGSTKFLT, SIGKILL, SIGTERM, SIGSTOP)),
        libc::SYS_clone => at(
            0,
            [0; 6],
            &[
                ("fork", libc::SIGCHLD.into()),
                ("CLONE_FILES", libc::CLONE_FILES.into()),
                ("CLONE_FILES and CLONE_PARENT", (libc::CLONE_FILES | libc::CLONE_PARENT).into()),
                ("thread", (libc::CLONE_FILES | libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND).into()),
            ],
        )
        .into_iter()
        .chain(
            at(0, [0; 6], &[("CLONE_FILES and any of NEWNS, NEWUSER, NEWPID, NEWNET, NEWIPC, NEWUTS", 0)])
                .into_iter()
                .flat_map(|(name, _)| {
                    [
                        libc::CLONE_NEWNS,
                        libc::CLONE_NEWUSER,
                        libc::CLONE_NEWPID,
                        libc::CLONE_NEWNET,
                        libc::CLONE_NEWIPC,
                        libc::CLONE_NEWUTS,
                        libc::CLONE_NEWCGROUP,
                        libc::CLONE_PTRACE,
                    ]
                    .map(|flag| (name.clone(), [(flag | libc::CLONE_FILES) as u64, 0, 0, 0, 0, 0]))
                }),
        )
        .collect(),
        libc::SYS_mmap => at(
            3,
            [7; 6],
            &[
                ("anywhere", (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).into()),
                ("MAP_FIXED", libc::MAP_FIXED.into()),
                ("MAP_FIXED_NOREPLACE", libc::MAP_FIXED_NOREPLACE.into()),
            ],
        ),
        libc::SYS_mremap => at(
            3,
            [7; 6],
            &[("in place", 0), ("anywhere", libc::MREMAP_MAYMOVE.into()), ("MREMAP_FIXED", libc::MREMAP_FIXED.into())],
        ),
        libc::SYS_fcntl => at(
            1,
            [1; 6],
            named!(F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_SETLK, F_SETOWN, F_DUPFD_CLOEXEC, F_SETLEASE),
        ),
        libc::SYS_ioctl => (0x5400..0x5480)
            .chain(0x8900..0x89ff)
            .chain([
                0x802c_542a,
                0x402c_542b,
                0x402c_542c,
                0x402c_542d,
                0x4004_6602,
                0x4020_9409,
                0x8010_8906,
                0x8010_8907,
            ])
            .flat_map(|n| numbers(n..n + 1, 1))
            .collect(),
        libc::SYS_socket => at(0, [0; 6], named!(AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK)),
        libc::SYS_prctl => numbers(0..80, 0),
        libc::SYS_arch_prctl => numbers(0x1000..0x1030, 0),
        libc::SYS_sched_getaffinity | libc::SYS_sched_setaffinity => {
            at(0, [7; 6], &[("itself", 0), ("another thread", 1), ("init", 1 << 32 | 1)])
        }
        _ => Vec::new(),
    }
}

/// The pairs of a number and a class of arguments that a program lets through at `ip`, one line for each number.
fn passing(program: &[sock_filter], ip: u64) -> String {
    let mut lines = String::new();
    for nr in 0..=600 {
        let passes = |args: [u64; 6]| verdict(program, &Call { args, ..Call::at(ip, nr) }) == ALLOW;
        let (general, special) = (general(), special(nr));
        let whole = general.iter().all(|(_, a)| passes(*a)) && special.iter().all(|(_, a)| passes(*a));
        let mut names: Vec<&str> = general.iter().filter(|(_, a)| passes(*a)).map(|(n, _)| *n).collect();
        names.extend(special.iter().filter(|(_, a)| passes(*a)).map(|(n, _)| n.as_str()));
        names.dedup();
        let name = drupe_kernel::syscall::TABLE.get(nr as usize).map_or("", |entry| entry.name());
        if whole {
            lines += &format!("  {nr} {name}: any\n");
        } else if !names.is_empty() {
            lines += &format!("  {nr} {name}: {}\n", names.join(", "));
        }
    }
    lines
}

/// What the filters of a running sandbox let through: `tests/door.txt`, which a change of the filters changes.
#[test]
fn what_passes_is_what_the_table_says() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: reading a filter back needs root");
        return;
    }
    let dir = guest_dir();
    let bind = format!("{}:/mnt:rw", dir.display());
    let mut table = String::new();
    let ways = [
        ("where nothing is writable", vec![]),
        ("with a writable bind", vec!["--bind", &bind]),
        ("with a writable bind beside a root", vec!["--bind", &bind, "--root", "/usr"]),
        ("with bounded memory", vec!["--memory", "1G"]),
        ("with the host's network", vec!["--net", "host"]),
        ("with bridges to the host's network", vec!["--allow", "192.0.2.1"]),
    ];
    for (what, options) in ways {
        let sleeper = Sleeper::with(&options);
        let of = |pid: i32| installed(pid).ok().and_then(|mut all| (!all.is_empty()).then(|| all.remove(0)));
        let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // Helpers have their filters first.
        let (helpers, guests) = wait_for("a guest", LIMIT, || {
            let behind = sleeper.filtered();
            let (helpers, guests): (Vec<_>, Vec<_>) = behind.into_iter().partition(|&p| name(p).starts_with("drupe-"));
            (!guests.is_empty()).then_some((helpers, guests))
        });
        let Some(program) = of(guests[0]) else {
            eprintln!("skipped: reading a filter back");
            return;
        };
        let gate = check_doors(&program, &doors(&program, &text(guests[0])));
        if !matches!(options.first(), Some(&("--memory" | "--allow"))) {
            table += &format!("guests {what}, at the gate\n{}", passing(&program, gate));
        }
        let helped = matches!(options.first(), Some(&("--bind" | "--memory" | "--allow")));
        assert_eq!(
            helpers.len(),
            usize::from(helped),
            "a broker where something is writable, a meter where memory is bounded, a porter where something is allowed"
        );
        for helper in helpers {
            let program = of(helper).expect("it has a filter");
            table += &format!("{}, anywhere\n{}", name(helper).trim(), passing(&program, 0x1000));
        }
        if options.is_empty() || ["--net", "--allow"].contains(&options[0]) {
            let program = of(sleeper.0.id() as i32).expect("it has a filter");
            let which = if options.is_empty() { "" } else { what };
            table += &format!("{}, anywhere\n{}", format!("supervisor {which}").trim(), passing(&program, 0x1000));
        }
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/door.txt");
    if std::env::var_os("DRUPE_UPDATE").is_some() {
        fs::write(&path, &table).expect("tests/ is writable");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(there, table, "tests/door.txt is not what passes: DRUPE_UPDATE=1 cargo test --test door");
}
