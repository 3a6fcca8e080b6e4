//! A sandbox whose supervisor is the process that holds it.
//!
//! Such a process reaps whatever children it has, so each test is one of its own: this program again, with the
//! name of one of the functions below.

mod common;

use common::host::{children, stat};
use drupe::{Change, Sandbox};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs a function of this program in a process of its own.
fn alone(name: &str) {
    let out = common::run(&mut common::itself(name), LIMIT);
    assert_eq!(out.status, 0, "{name}: {}{}", out.stdout, out.stderr);
    assert!(out.stdout.contains("1 passed"), "{name}: {}", out.stdout);
}

fn start() -> Sandbox {
    Sandbox::builder().start_here().expect("this host runs drupe")
}

fn me() -> i32 {
    std::process::id() as i32
}

macro_rules! in_a_process_of_its_own {
    ($($name:ident => $body:ident;)*) => { $(
        #[test]
        fn $name() {
            alone(stringify!($body));
        }
    )* };
}

in_a_process_of_its_own! {
    programs_run_and_their_output_is_read => runs_programs;
    nothing_is_left_and_strangers_live_on => ends;
    changes_are_told_by_the_descriptor => tells;
    only_one_thread_can_serve => is_served_by_one_thread;
    the_caller_keeps_its_limits_and_clocks => leaves_the_caller_alone;
}

#[test]
#[ignore = "started by a test"]
fn runs_programs() {
    let sandbox = start();
    assert_eq!(sandbox.supervisor(), std::process::id());
    assert_eq!(sandbox.command("sh").args(["-c", "exit 4"]).status().expect("it runs").code(), Some(4));
    // Processes that the supervisor has to make, timers that it keeps, and more output than a pipe holds.
    let script = "for i in 1 2 3 4 5 6 7 8; do /bin/sleep 0.02; done; seq 100000; echo err >&2";
    let out = sandbox.command("sh").args(["-c", script]).output().expect("it runs");
    assert!(out.status.success());
    assert_eq!((out.stdout.len(), out.stderr.as_slice()), (588_895, &b"err\n"[..]));
    sandbox.write_file("/tmp/drupe-here", "text").expect("written");
    assert_eq!(sandbox.read_file("/tmp/drupe-here").expect("read"), b"text");
}

#[test]
#[ignore = "started by a test"]
fn ends() {
    // One that lives until it is told to end, by its input: the jail lets this process signal nobody outside.
    let lives = Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().expect("it starts");
    let mut strangers = [lives, Command::new("/bin/true").spawn().expect("it starts")];
    let ids = strangers.each_ref().map(|s| s.id() as i32);
    for script in ["exit 0", "sleep 100 & sleep 100 & exit 0", "(sleep 100; :) & while :; do /bin/true; done"] {
        let sandbox = start();
        let mut child = sandbox.command("sh").args(["-c", script]).spawn().expect("it runs");
        if script.ends_with("exit 0") {
            assert!(child.wait().expect("it ends").success());
        }
        drop(sandbox);
        let mut left = children(me());
        left.retain(|pid| !ids.contains(pid));
        assert!(left.is_empty(), "{left:?} is left after {script:?}");
    }
    assert!(stat(ids[0]).is_some_and(|s| s[0] != "Z"), "a process that is not the sandbox's was ended");
    for stranger in &mut strangers {
        drop(stranger.stdin.take());
        // The supervisor may have reaped it.
        let _ = stranger.wait();
    }
}

#[test]
#[ignore = "started by a test"]
fn tells() {
    let sandbox = start();
    let script = "kill -STOP $$; sleep 0.05; exit 3";
    let mut child = sandbox.command("sh").args(["-c", script]).spawn().expect("it runs");
    let mut told = Vec::new();
    let end = Instant::now() + LIMIT;
    while !matches!(told.last(), Some(Change::Exited(_))) {
        match child.try_change().expect("it lives") {
            Some(change) => {
                if matches!(change, Change::Stopped(_)) {
                    child.signal(libc::SIGCONT).expect("it is there");
                }
                told.push(change);
            }
            None => {
                let mut fds = [nix::poll::PollFd::new(sandbox.as_fd(), nix::poll::PollFlags::POLLIN)];
                assert!(Instant::now() < end, "told {told:?} only");
                nix::poll::poll(&mut fds, 1000u16).expect("polled");
            }
        }
    }
    assert!(matches!(told[..], [Change::Stopped(libc::SIGSTOP), Change::Exited(s)] if s.code() == Some(3)), "{told:?}");
}

#[test]
#[ignore = "started by a test"]
fn is_served_by_one_thread() {
    let sandbox = start();
    let refused = std::thread::scope(|s| s.spawn(|| sandbox.processes().is_err()).join().expect("no panic"));
    assert!(refused, "another thread's request was served");
    assert!(sandbox.command("true").status().expect("it runs").success());
}

#[test]
#[ignore = "started by a test"]
fn leaves_the_caller_alone() {
    let limits = || {
        use nix::sys::resource::{Resource, getrlimit};
        getrlimit(Resource::RLIMIT_NOFILE).expect("asked")
    };
    let (soft, _) = limits();
    let sandbox = start();
    // What the vDSO was asked before it was moved it must still answer.
    let before = (Instant::now(), std::time::SystemTime::now());
    let out = sandbox.command("sh").args(["-c", "ulimit -Sn; sleep 0.03"]).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), soft.to_string());
    let passed = Duration::from_millis(30)..LIMIT;
    assert!(passed.contains(&before.0.elapsed()));
    assert!(passed.contains(&before.1.elapsed().expect("clocks go forward")));
}
