//! A guest that makes every system call with junk: the kernel stands, the host is not reached, and the sandbox
//! ends when asked.
//!
//! `DRUPE_HOSTILE_CALLS` (default 60,000) and `DRUPE_HOSTILE_SEED` make it as long, and as repeatable, as wanted.

mod common;

use common::host::Cgroup;
use common::{DRUPE, Link, compile, guest_dir, run, sandboxed};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn calls() -> u64 {
    setting("DRUPE_HOSTILE_CALLS", 60_000)
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |d| u64::from(d.subsec_nanos()));
    setting("DRUPE_HOSTILE_SEED", now)
}

/// A host directory that the guest has the names of.
fn bait(name: &str) -> PathBuf {
    let dir = guest_dir().join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("sub")).expect("ours");
    fs::write(dir.join("file"), vec![b'x'; 10_000]).expect("ours");
    fs::write(dir.join("sub/other"), "original").expect("ours");
    fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o666)).expect("ours");
    symlink("file", dir.join("link")).expect("ours");
    dir
}

/// Everything about the files below, except times of access.
fn picture(dir: &Path, into: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).expect("ours").flatten() {
        let (path, meta) = (entry.path(), fs::symlink_metadata(entry.path()).expect("there"));
        let content = if meta.is_file() { fs::read(&path).expect("readable") } else { Vec::new() };
        let what = format!(
            "{} {:o} {} {} {} {} {:?} {}",
            meta.ino(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime_nsec(),
            meta.ctime_nsec(),
            fs::read_link(&path).ok(),
            content.iter().fold(0u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
        );
        into.insert(path.clone(), what);
        if meta.is_dir() {
            picture(&path, into);
        }
    }
}

fn all_of(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    picture(dir, &mut all);
    all
}

fn hostile(rewrite: &str) {
    let Some(program) = compile("hostile", Link::Dynamic) else { return };
    let dir = bait(&format!("bait-{rewrite}"));
    let before = all_of(&dir);
    let (calls, seed) = (calls(), seed());
    // A million calls take some seconds on an idle machine.
    let limit = 60 + calls / 5_000;
    let text = [program.to_string_lossy().into_owned(), calls.to_string(), limit.to_string(), seed.to_string()];
    let names = ["file", "sub/other", "link", "sub", "new"].map(|n| dir.join(n).to_string_lossy().into_owned());
    let arguments: Vec<&str> = text.iter().chain(&names).map(String::as_str).collect();
    let mut command = sandboxed(&["--rewrite", rewrite], &arguments);
    command.current_dir(&dir);
    let out = run(&mut command, Duration::from_secs(limit + 30));
    println!("rewrite {rewrite}: {}", out.stdout.trim());
    assert_eq!(out.status, 0, "seed {seed}, --rewrite {rewrite}: {}\n{}", out.stdout, out.stderr);
    assert_eq!(all_of(&dir), before, "seed {seed}, --rewrite {rewrite}: the host's files changed");
}

#[test]
fn junk_calls_by_traps() {
    hostile("off");
}

#[test]
fn junk_calls_at_rewritten_sites() {
    hostile("on");
}

#[test]
fn a_hostile_sandbox_ends_when_asked() {
    let Some(program) = compile("hostile", Link::Dynamic) else { return };
    let group = Cgroup::new();
    for round in 0..10 {
        let mut command = Command::new(DRUPE);
        command.args(["run", "--"]).arg(&program).args(["1000000000", "1000", &(seed() + round).to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(group) = &group {
            group.enter(&mut command);
        }
        let mut launcher = command.spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(100 + 37 * round));
        let asked = Instant::now();
        let pid = nix::unistd::Pid::from_raw(launcher.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("our child");
        let status = loop {
            if let Some(status) = launcher.try_wait().expect("our own child") {
                break status;
            }
            if asked.elapsed() > Duration::from_secs(10) {
                let _ = launcher.kill();
                let _ = launcher.wait();
                panic!("round {round}: still running 10 s after SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert_eq!(status.code(), Some(143), "round {round}");
        if let Some(group) = &group {
            group.emptied(Duration::from_secs(3)).unwrap_or_else(|left| panic!("round {round}: {left}"));
        }
    }
}
