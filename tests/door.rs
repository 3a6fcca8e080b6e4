//! One door, seen from the host: every call of a guest is a SIGSYS, and the installed filter lets two addresses through.

mod common;

use common::bpf::{ALLOW, ARCH_X86_64, Call, KILL_PROCESS, TRAP, installed, sock_filter, verdict};
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
        let mut command = Command::new(DRUPE);
        command.args(["run", "--", "/bin/sleep", "100"]).stdin(Stdio::null());
        Sleeper(command.spawn().expect("it starts"))
    }

    /// Its processes behind the filter: the guest, and whatever else was made for guests.
    fn filtered(&self) -> Vec<i32> {
        wait_for("a sleeping guest", LIMIT, || {
            let behind: Vec<i32> = children(self.0.id() as i32).into_iter().filter(|&p| seccomp_mode(p) == 2).collect();
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

fn check_doors(program: &[sock_filter], doors: &BTreeSet<u64>) {
    let outside = [libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_writev, libc::SYS_bpf];
    let outside = outside.into_iter().chain([
        libc::SYS_kill,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_clone3,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_chroot,
        libc::SYS_io_uring_setup,
        libc::SYS_userfaultfd,
        libc::SYS_seccomp,
        libc::SYS_setuid,
        libc::SYS_pidfd_getfd,
        libc::SYS_init_module,
        libc::SYS_reboot,
        libc::SYS_open_by_handle_at,
    ]);
    let outside: Vec<i64> = outside.chain(500..=600).collect();
    let mut gates = 0;
    for &ip in doors {
        let gate = verdict(program, &Call::at(ip, libc::SYS_read)) == ALLOW;
        gates += u32::from(gate);
        for nr in 0..=600 {
            let verdict = verdict(program, &Call::at(ip, nr));
            let expected = match gate {
                // The door for `rt_sigreturn` is one for that alone.
                false if nr == libc::SYS_rt_sigreturn => &[ALLOW][..],
                false => &[TRAP],
                true if outside.contains(&nr) => &[KILL_PROCESS],
                true => &[ALLOW, KILL_PROCESS],
            };
            assert!(expected.contains(&verdict), "call {nr} at {ip:#x}: {verdict:#x}");
        }
        // The entries of other architectures, and numbers of theirs.
        let foreign = Call { arch: 0x4000_0003, ..Call::at(ip, libc::SYS_read) };
        let x32 = Call { nr: 0x4000_0000, arch: ARCH_X86_64, ..Call::at(ip, 0) };
        assert_eq!((verdict(program, &foreign), verdict(program, &x32)), (TRAP, TRAP));
    }
    assert_eq!(gates, 1, "one door is the gate");
}
