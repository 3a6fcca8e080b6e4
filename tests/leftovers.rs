//! Nothing is left of a sandbox, however it ends: no process, no file, no mount.

mod common;

use common::host::{Cgroup, children};
use common::{DRUPE, guest_dir, itself, run, sandboxed};
use drupe::Sandbox;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the host may take to bury processes that were killed.
const GRACE: Duration = Duration::from_secs(3);
const ROUNDS: u64 = 50;

const FORKS: &str = "while :; do /bin/true; (:); done & while :; do /bin/true | /bin/true; done";
const SLEEPS: &str = "sleep 1000 & sleep 1000 | sleep 1000";

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted")
}

/// An empty directory to run in, and for temporary files.
fn scratch(name: &str) -> PathBuf {
    let dir = guest_dir().join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("ours");
    dir
}

fn assert_empty(dir: &PathBuf) {
    let left: Vec<_> = fs::read_dir(dir).expect("ours").map(|e| e.expect("an entry").file_name()).collect();
    assert!(left.is_empty(), "files left in {}: {left:?}", dir.display());
}

/// Names in the places where programs leave things, as far as they are ours.
fn droppings() -> Vec<PathBuf> {
    let places = ["/tmp", "/dev/shm", "/run", "/var/tmp"].into_iter();
    let all = places.filter_map(|p| fs::read_dir(p).ok()).flatten().flatten().map(|e| e.path());
    let mut ours: Vec<PathBuf> = all.filter(|p| p.to_string_lossy().contains("drupe")).collect();
    ours.sort();
    ours
}

#[test]
fn two_hundred_runs_leave_nothing() {
    let (before, files) = (mounts(), droppings());
    let dir = scratch("two-hundred");
    let Some(group) = Cgroup::new() else { return };
    for i in 0..200 {
        let mut command = sandboxed(&[], &["/bin/true"]);
        group.enter(command.current_dir(&dir).env("TMPDIR", &dir));
        let out = run(&mut command, Duration::from_secs(10));
        assert_eq!((out.status, out.stderr.as_str()), (0, ""), "run {i}");
        if let Err(left) = group.emptied(Duration::from_millis(200)) {
            panic!("run {i} left {left}");
        }
    }
    assert_empty(&dir);
    assert_eq!(droppings(), files);
    assert_eq!(mounts(), before);
}

/// Where [`holder`] finds its script.
const SCRIPT: &str = "DRUPE_TEST_SCRIPT";

/// Not a test but a program that the tests start: one that holds a sandbox with a supervisor of its own.
#[test]
#[ignore = "started by tests"]
fn holder() {
    let Ok(script) = std::env::var(SCRIPT) else { return };
    let sandbox = Sandbox::builder().start();
    let status = sandbox.and_then(|s| s.command("/bin/sh").args(["-c", &script]).status());
    let Err(e) = status else { std::process::exit(0) };
    eprintln!("{e}");
    std::process::exit(125);
}

/// A launcher, or a program that holds a sandbox with a supervisor of its own, with a busy guest, in the group.
fn start(group: &Cgroup, dir: &PathBuf, script: &str, apart: bool) -> Child {
    let mut command = if apart {
        let mut command = itself("holder");
        command.env(SCRIPT, script);
        command
    } else {
        let mut command = Command::new(DRUPE);
        command.args(["run", "--", "/bin/sh", "-c", script]);
        command
    };
    command.current_dir(dir).env("TMPDIR", dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    group.enter(&mut command).spawn().expect("the launcher starts")
}

fn kill_now(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Moments from before the supervisor exists to a guest in full swing.
fn moment(round: u64) -> Duration {
    Duration::from_micros(round * round * 7919 % 60_000)
}

fn killed_in_the_middle(name: &str, script: &str, supervisor_too: bool) {
    let (before, files) = (mounts(), droppings());
    let dir = scratch(name);
    let Some(group) = Cgroup::new() else { return };
    let (mut slowest, mut supervisors) = (Duration::ZERO, 0);
    for round in 0..ROUNDS {
        let mut launcher = start(&group, &dir, script, supervisor_too);
        sleep(moment(round));
        let pid = launcher.id() as i32;
        let victim = if supervisor_too { children(pid).first().copied() } else { None };
        supervisors += u32::from(victim.is_some());
        kill_now(victim.unwrap_or(pid));
        let end = Instant::now() + GRACE;
        let status = loop {
            if let Some(status) = launcher.try_wait().expect("our own child") {
                break status;
            }
            assert!(Instant::now() < end, "round {round}: the launcher outlives its supervisor");
            sleep(Duration::from_millis(1));
        };
        if victim.is_some() {
            let mut said = String::new();
            launcher.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
            assert_eq!((status.code(), said.lines().count()), (Some(125), 1), "round {round}: {said}");
        }
        match group.emptied(GRACE) {
            Ok(took) => slowest = slowest.max(took),
            Err(left) => panic!("round {round}: {left}"),
        }
    }
    println!("{name}: {supervisors} supervisors killed, the slowest end took {slowest:?}");
    assert!(!supervisor_too || supervisors > 30, "only {supervisors} supervisors were there to be killed");
    assert_empty(&dir);
    assert_eq!(droppings(), files);
    assert_eq!(mounts(), before);
}

#[test]
fn launcher_killed_under_forks() {
    killed_in_the_middle("launcher-forks", FORKS, false);
}

#[test]
fn launcher_killed_under_sleeps() {
    killed_in_the_middle("launcher-sleeps", SLEEPS, false);
}

#[test]
fn supervisor_killed_under_forks() {
    killed_in_the_middle("supervisor-forks", FORKS, true);
}

#[test]
fn supervisor_killed_under_sleeps() {
    killed_in_the_middle("supervisor-sleeps", SLEEPS, true);
}
