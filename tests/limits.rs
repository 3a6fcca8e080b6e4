//! What a sandbox does on a host that lacks something, and with requests that go too far.

mod common;

use common::host::{children, family, wait_for};
use common::{Outcome, run, sandboxed};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

fn drupe(options: &[&str], program: &[&str]) -> Outcome {
    run(&mut sandboxed(options, program), LIMIT)
}

/// What every host must offer. What is taken away here by an outer filter is missing on old kernels, or denied by
/// a container runtime.
const NEEDED: &[(&str, i64)] = &[
    ("seccomp", libc::SYS_seccomp),
    ("memfd_create", libc::SYS_memfd_create),
    ("eventfd2", libc::SYS_eventfd2),
    ("epoll_create1", libc::SYS_epoll_create1),
    ("timerfd_create", libc::SYS_timerfd_create),
    ("signalfd4", libc::SYS_signalfd4),
    ("ftruncate", libc::SYS_ftruncate),
    ("statx", libc::SYS_statx),
    ("fcntl", libc::SYS_fcntl),
    ("prctl", libc::SYS_prctl),
];

#[test]
fn a_missing_feature_of_the_host_is_one_line_and_125() {
    for (name, nr) in NEEDED {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let mut command = sandboxed(&[], &["/bin/true"]);
            let out = run(common::bpf::deny(&mut command, &[*nr], errno), LIMIT);
            assert_eq!(out.status, 125, "without {name} (errno {errno}): {}", out.stderr);
            assert_eq!(out.stderr.lines().count(), 1, "without {name} (errno {errno}): {:?}", out.stderr);
            assert_eq!(out.stdout, "");
        }
    }
}

#[test]
fn what_is_not_needed_may_be_missing() {
    let spare = [
        // Of a supervisor that is a process of its own.
        ("close_range", libc::SYS_close_range),
        ("socketpair", libc::SYS_socketpair),
        ("clone3", libc::SYS_clone3),
        ("rseq", libc::SYS_rseq),
        ("membarrier", libc::SYS_membarrier),
        ("ptrace", libc::SYS_ptrace),
        ("unshare", libc::SYS_unshare),
        ("prlimit64", libc::SYS_prlimit64),
        ("getdents64", libc::SYS_getdents64),
        ("openat2", libc::SYS_openat2),
        ("faccessat2", libc::SYS_faccessat2),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("process_vm_writev", libc::SYS_process_vm_writev),
    ];
    for (name, nr) in spare {
        let mut command = sandboxed(&[], &["/bin/sh", "-c", "ls /etc/passwd; (exit 3); echo $?"]);
        let out = run(common::bpf::deny(&mut command, &[nr], libc::ENOSYS), LIMIT);
        assert_eq!((out.status, out.stdout.as_str()), (0, "/etc/passwd\n3\n"), "without {name}: {}", out.stderr);
    }
}

#[test]
fn mounts_of_a_tree_into_itself_end() {
    // Each copies all mounts, its own place among them, so they double until there are too many.
    let script = "count() { wc -l < /proc/self/mounts; }; mount -t tmpfs x /mnt && mkdir /mnt/in || exit 9; n=$(count)
        mount --rbind / /mnt/in || exit 8; echo $(($(count) - 2 * n)); ls /mnt/in/mnt/in | wc -l
        i=0; while mount --rbind / /mnt/in 2>/dev/null; do i=$((i + 1)); [ $i -lt 30 ] || exit 7; done
        mount --rbind / /mnt/in 2>&1 | grep -o 'No space left on device' || mount --rbind / /mnt/in; ls /mnt/in/etc/passwd
        umount -l /mnt; count | grep -c .";
    let out = drupe(&["--user", "0:0"], &["/bin/sh", "-c", script]);
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!((out.status, lines.get(..2)), (0, Some(&["0", "0"][..])), "{}{}", out.stdout, out.stderr);
    assert!(lines.contains(&"/mnt/in/etc/passwd"), "{}{}", out.stdout, out.stderr);
}

#[test]
fn programs_with_an_unlimited_stack_find_room_for_it() {
    // Stack and libraries lie at random: only many programs show that one can never hit the other.
    let script = "ulimit -s unlimited; i=0; while [ $i -lt 4000 ]; do /bin/true || echo $?; i=$((i+1)); done";
    let out = drupe(&[], &["/bin/sh", "-c", script]);
    assert_eq!((out.status, out.stdout.as_str()), (0, ""), "{}", out.stderr);
}

#[test]
fn limits_of_processes_are_hard() {
    let script = "ulimit -n; ulimit -H -n; exec 9</etc/passwd; f=/tmp/drupe-limits-$$; head -c 9000 /dev/zero > $f; echo $?; wc -c < $f
        (ulimit -H -n 100) 2>/dev/null || echo no more";
    let out = drupe(&["--open-files", "12", "--file-size", "4K", "--user", "1000"], &["/bin/bash", "-c", script]);
    assert_eq!(out.stdout, "12\n12\n153\n4096\nno more\n", "{}", out.stderr);
    let out = drupe(&["--open-files", "12"], &["/bin/bash", "-c", "exec 12</etc/passwd"]);
    assert_ne!(out.status, 0);
    // A limit that the caller has is not widened.
    let mut command = sandboxed(&["--open-files", "1000000"], &["/bin/sh", "-c", "ulimit -H -n"]);
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("it is known").1;
    assert_eq!(run(&mut command, LIMIT).stdout.trim(), limit.min(1_000_000).to_string());
}

#[test]
fn a_sandbox_has_the_time_that_it_was_given() {
    let started = std::time::Instant::now();
    let script = "trap '' TERM INT; sleep 100 & sleep 100 & echo begun; wait";
    let out = drupe(&["--timeout", "700ms"], &["/bin/sh", "-c", script]);
    assert_eq!((out.status, out.stdout.as_str()), (124, "begun\n"), "{}", out.stderr);
    assert!(started.elapsed() >= Duration::from_millis(700));
    assert!(started.elapsed() < Duration::from_secs(15));
    let out = drupe(&["--timeout", "1h"], &["/bin/sh", "-c", "exit 5"]);
    assert_eq!(out.status, 5, "{}", out.stderr);
}

/// A sandbox whose supervisor does nothing any more, as one does that a program has taken over.
fn stopped(options: &[&str]) -> (std::process::Child, Vec<i32>) {
    let mut command = sandboxed(options, &["/bin/sh", "-c", "trap '' TERM; sleep 100 & sleep 100; wait"]);
    let launcher = command.stdin(std::process::Stdio::null()).spawn().expect("it starts");
    let all = wait_for("two guests that sleep", LIMIT, || {
        let all = family(launcher.id() as i32);
        let asleep =
            |pid: &&i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.contains("sleep"));
        (all.iter().filter(asleep).count() == 2).then_some(all)
    });
    let named =
        |pid: &&i32, name: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == name);
    let keeper = *all.iter().find(|pid| named(pid, "drupe-keeper")).expect("a keeper");
    let supervisor = *children(keeper).first().expect("the keeper's child");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGSTOP).expect("ours");
    (launcher, all)
}

fn all_gone(all: &[i32]) {
    wait_for("the end of everything", LIMIT, || {
        let lives = |pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains("drupe") && !stat.contains(") Z ")
        };
        (!all.iter().any(lives)).then_some(())
    });
}

#[test]
fn time_is_kept_without_the_supervisor() {
    let (mut launcher, all) = stopped(&["--timeout", "2s"]);
    assert_eq!(launcher.wait().expect("ours").code(), Some(124));
    all_gone(&all);
}

#[test]
fn nothing_outlives_a_strict_jail() {
    let (mut launcher, all) = stopped(&["--jail", "strict"]);
    launcher.kill().expect("ours");
    launcher.wait().expect("ours");
    all_gone(&all);
}

#[test]
fn the_processors_are_those_that_the_sandbox_has() {
    let script = "grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat; cat /sys/devices/system/cpu/online
        ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l; nproc";
    let out = drupe(&["--cpus", "1"], &["/bin/sh", "-c", script]);
    assert_eq!((out.status, out.stdout.as_str()), (0, "1\n1\n0\n1\n1\n"), "{}", out.stderr);
}

/// A launcher that is itself confined works, or says in one line why it does not.
#[test]
fn nested_it_works() {
    let drupe = common::DRUPE;
    let inner = [drupe, "run", "--", "/bin/sh", "-c", "echo in $$"];
    let ways: [(&str, &[&str]); 7] = [
        ("itself", &[drupe, "run", "--"]),
        ("itself within itself", &[drupe, "run", "--", drupe, "run", "--"]),
        ("namespaces of its own", &["unshare", "-Urmpf", "--mount-proc"]),
        ("namespaces with the outer /proc", &["unshare", "-Urmpf"]),
        ("no capability", &["unshare", "-Urmpf", "setpriv", "--inh-caps=-all", "--bounding-set=-all"]),
        ("an ordinary user", &["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]),
        (
            "bubblewrap",
            &["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "--cap-drop", "ALL"],
        ),
    ];
    for (what, outer) in ways {
        let probe: Vec<&str> = outer.iter().copied().chain([drupe, "--version"]).collect();
        let there = std::process::Command::new(outer[0]).arg("--version").output().is_ok();
        if !there || run(&mut common::native(&probe), LIMIT).status != 0 {
            eprintln!("skipped: {what}");
            continue;
        }
        let line: Vec<&str> = outer.iter().copied().chain(inner).collect();
        let out = run(&mut common::native(&line), LIMIT);
        assert_eq!((out.status, out.stdout.starts_with("in ")), (0, true), "in {what}: {}", out.stderr);
    }
}
