//! A guest that makes every system call with arguments that nobody would make it with: the kernel stands, new
//! programs run, nothing of it is left on the host, the host's files are not reached, and the sandbox ends when asked.
//!
//! `DRUPE_HOSTILE_SECONDS` (default 12 for each way of making calls) and `DRUPE_HOSTILE_SEED` make it as long, and as
//! repeatable, as wanted; with `--nocapture` it tells how many calls returned, by number.

mod common;

use common::host::{Cgroup, family};
use common::{DRUPE, Link, compile, guest_dir, run};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
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

/// What is there on the host while the sandbox is calm: processes, and descriptors of the table that all share.
fn on_the_host(launcher: u32) -> (usize, usize) {
    let descriptors = fs::read_dir(format!("/proc/{launcher}/fd")).map_or(0, Iterator::count);
    (family(launcher as i32).len(), descriptors)
}

/// What a run of the guest printed, and what there was on the host whenever it was calm.
struct Played {
    status: Option<i32>,
    text: String,
    calm: Vec<(usize, usize)>,
}

/// Plays with a guest that waits for an answer wherever it is calm.
fn play(command: &mut Command, limit: Duration) -> Played {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut launcher = command.spawn().expect("it starts");
    let (id, mut answer) = (launcher.id(), launcher.stdin.take().expect("piped"));
    let lines = BufReader::new(launcher.stdout.take().expect("piped"));
    let reader = thread::spawn(move || {
        let (mut text, mut calm) = (String::new(), Vec::new());
        for line in lines.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if line.starts_with("calm") {
                // The host may still be burying the last ones.
                thread::sleep(Duration::from_millis(300));
                calm.push(on_the_host(id));
                let _ = answer.write_all(b"\n");
            }
            text.push_str(&line);
            text.push('\n');
        }
        (text, calm)
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = launcher.try_wait().expect("our own child") {
            break status;
        }
        if start.elapsed() > limit {
            let _ = launcher.kill();
            let _ = launcher.wait();
            panic!("{command:?}: still running after {limit:?}\n{}", reader.join().expect("reader").0);
        }
        thread::sleep(Duration::from_millis(5));
    };
    let (text, calm) = reader.join().expect("reader");
    Played { status: status.code(), text, calm }
}

/// The table of calls by number.
fn names() -> BTreeMap<i64, String> {
    let out = run(Command::new(DRUPE).args(["syscalls", "--json"]), Duration::from_secs(10));
    let all: serde_json::Value = serde_json::from_str(&out.stdout).expect("it is JSON");
    let all = all.as_array().expect("a list").iter();
    all.map(|c| (c["number"].as_i64().expect("a number"), c["name"].as_str().unwrap_or("").to_string())).collect()
}

fn hostile(rewrite: &str) {
    let Some(program) = compile("hostile", Link::Static) else { return };
    let dir = bait(&format!("bait-{rewrite}"));
    let before = all_of(&dir);
    let (seconds, seed) = (setting("DRUPE_HOSTILE_SECONDS", 12), seed());
    let bait = ["file", "sub/other", "link", "sub", "new"].map(|n| dir.join(n));
    let mut command = Command::new(DRUPE);
    command.args(["run", "--rewrite", rewrite, "--memory", "512M", "--pids", "300", "--"]).arg(&program);
    command.args([seconds.to_string(), seed.to_string(), "0".into()]).args(bait).current_dir(&dir);
    let Played { status, text, calm } = play(&mut command, Duration::from_secs(2 * seconds + 90));
    let context = format!("seed {seed}, --rewrite {rewrite}");
    assert_eq!(status, Some(0), "{context}\n{text}");
    assert_eq!(all_of(&dir), before, "{context}: the host's files changed");
    let counts: Vec<[i64; 3]> = text.lines().filter_map(numbers).collect();
    let names = names();
    for [number, returned, started] in &counts {
        println!("{number:>20} {:<24} {returned} of {started}", names.get(number).map_or("", String::as_str));
    }
    let total: i64 = counts.iter().map(|c| c[1]).sum();
    println!("{context}: {total} calls returned; processes and descriptors on the host: {calm:?}");
    let left_out = counts.iter().find(|c| c[2] == 0 && names.contains_key(&c[0]));
    assert!(total < 100_000 || left_out.is_none(), "{context}: {left_out:?} was left out");
    let (first, last) = (calm[0], calm[calm.len() - 1]);
    assert!(last.0 <= first.0.max(8), "{context}: processes are left: {calm:?}");
    assert!(last.1 <= first.1 + SLACK, "{context}: descriptors are left: {calm:?}");
}

/// Descriptors that the kernel may keep open: handles of files that were open lately, copies of code.
const SLACK: usize = 100;

/// A line of three numbers.
fn numbers(line: &str) -> Option<[i64; 3]> {
    let all: Vec<i64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    all.try_into().ok()
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
    let Some(program) = compile("hostile", Link::Static) else { return };
    let group = Cgroup::new();
    for round in 0..10 {
        let mut command = Command::new(DRUPE);
        command.args(["run", "--"]).arg(&program).args(["1000", &(seed() + round).to_string(), "0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(group) = &group {
            group.enter(&mut command);
        }
        let mut launcher = command.spawn().expect("it starts");
        thread::sleep(Duration::from_millis(100 + 37 * round));
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
            thread::sleep(Duration::from_millis(2));
        };
        assert_eq!(status.code(), Some(143), "round {round}");
        if let Some(group) = &group {
            group.emptied(Duration::from_secs(3)).unwrap_or_else(|left| panic!("round {round}: {left}"));
        }
    }
}
