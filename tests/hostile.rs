//! A guest that makes every system call with arguments that nobody would make it with: the kernel stands, new
//! programs run, nothing of it is left on the host, the host's files are not reached, and the sandbox ends when asked.
//!
//! `DRUPE_HOSTILE_SECONDS` (default 12 for each way of making calls) and `DRUPE_HOSTILE_SEED` make it as long, and as
//! repeatable, as wanted; with `--nocapture` it tells how many calls returned, by number.

mod common;

use common::host::{Cgroup, family};
use common::{DRUPE, Link, compile, guest_dir, run};
use drupe::{Command, Sandbox, Stats, Stdio};
use drupe_kernel::syscall::table::{Entry, Support, TABLE};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
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

/// What a run of the guest printed, and what the sandbox had whenever it was calm: its counters, and processes
/// on the host.
struct Played {
    status: Option<i32>,
    text: String,
    calm: Vec<(Stats, usize)>,
}

/// Plays with a guest that waits for an answer wherever it is calm.
fn play(sandbox: Sandbox, command: &mut Command, limit: Duration) -> Played {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut answer = child.stdin.take().expect("piped");
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    let supervisor = sandbox.supervisor() as i32;
    let sandbox = Arc::new(sandbox);
    let looker = sandbox.clone();
    let reader = thread::spawn(move || {
        let (mut text, mut calm) = (String::new(), Vec::new());
        for line in lines.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if line.starts_with("calm") {
                // The host may still be burying the last ones.
                thread::sleep(Duration::from_millis(300));
                calm.extend(looker.stats().ok().map(|stats| (stats, family(supervisor).len())));
                let _ = answer.write_all(b"\n");
            }
            text.push_str(&line);
            text.push('\n');
        }
        (text, calm)
    });
    let status = match child.wait_timeout(limit) {
        Ok(Some(status)) => status.code(),
        Ok(None) => {
            let dump = sandbox.dump();
            sandbox.stop();
            let text = reader.join().expect("reader").0;
            panic!("still running after {limit:?}\n{text}\n{}", dump.unwrap_or_else(|e| e.to_string()));
        }
        Err(e) => panic!("{e}\n{}", reader.join().expect("reader").0),
    };
    let (text, calm) = reader.join().expect("reader");
    Played { status, text, calm }
}

/// The table of calls by number.
fn names() -> BTreeMap<i64, String> {
    let out = run(process::Command::new(DRUPE).args(["syscalls", "--json"]), Duration::from_secs(10));
    let all: serde_json::Value = serde_json::from_str(&out.stdout).expect("it is JSON");
    let all = all.as_array().expect("a list").iter();
    all.map(|c| (c["number"].as_i64().expect("a number"), c["name"].as_str().unwrap_or("").to_string())).collect()
}

#[test]
fn the_caller_knows_every_call() {
    let known =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/hostile_calls.h")).expect("ours");
    let takes = |e: &&Entry| e.support != Support::None && !e.kinds().is_empty();
    let unknown = TABLE.iter().filter(takes).map(Entry::name).filter(|name| !known.contains(&format!("C({name},")));
    assert_eq!(unknown.collect::<Vec<_>>(), [""; 0], "what they take is to be said in tests/guest/hostile_calls.h");
}

fn hostile(rewrite: bool) {
    let Some(program) = compile("hostile", Link::Static) else { return };
    let dir = bait(&format!("bait-{rewrite}"));
    let before = all_of(&dir);
    let (seconds, seed) = (setting("DRUPE_HOSTILE_SECONDS", 12), seed());
    let context = format!("seed {seed}, rewriting {rewrite}");
    println!("{context}");
    let sandbox =
        Sandbox::builder().rewrite(rewrite).memory(512 << 20).pids(300).start().expect("this host runs drupe");
    let mut command = sandbox.command(program);
    command.args([seconds.to_string(), seed.to_string(), "0".into()]).current_dir(&dir);
    command.args(["file", "sub/other", "link", "sub", "new"].map(|n| dir.join(n)));
    let Played { status, text, calm } = play(sandbox, &mut command, Duration::from_secs(2 * seconds + 90));
    assert_eq!(status, Some(0), "{context}\n{text}");
    assert_eq!(all_of(&dir), before, "{context}: the host's files changed");
    let counts: Vec<[i64; 3]> = text.lines().filter_map(numbers).collect();
    let names = names();
    for [number, returned, started] in &counts {
        println!("{number:>20} {:<24} {returned} of {started}", names.get(number).map_or("", String::as_str));
    }
    let total: i64 = counts.iter().map(|c| c[1]).sum();
    println!("{context}: {total} calls returned");
    for (s, processes) in &calm {
        let (heap, file) = (s.heap >> 10, s.memfile >> 10);
        println!("{processes} processes, {} host descriptors, {} slots, {heap} + {file} KiB", s.host_fds, s.slots);
    }
    let left_out = counts.iter().find(|c| c[2] == 0 && names.contains_key(&c[0]));
    assert!(total < 100_000 || left_out.is_none(), "{context}: {left_out:?} was left out");
    let ((first, _), (last, processes)) = (&calm[0], &calm[calm.len() - 1]);
    assert!(*processes <= 8, "{context}: {processes} processes are left");
    assert!(last.host_fds <= first.host_fds + SLACK, "{context}: {} descriptors are left", last.host_fds);
}

/// Descriptors that the kernel may keep open: handles of files that were open lately, copies of code.
const SLACK: u64 = 100;

/// A line of three numbers.
fn numbers(line: &str) -> Option<[i64; 3]> {
    let all: Vec<i64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    all.try_into().ok()
}

#[test]
fn junk_calls_by_traps() {
    hostile(false);
}

#[test]
fn junk_calls_at_rewritten_sites() {
    hostile(true);
}

#[test]
fn a_hostile_sandbox_ends_when_asked() {
    let Some(program) = compile("hostile", Link::Static) else { return };
    let group = Cgroup::new();
    for round in 0..10 {
        let mut command = process::Command::new(DRUPE);
        command.args(["run", "--"]).arg(&program).args(["1000", &(seed() + round).to_string(), "0"]);
        let null = process::Stdio::null;
        command.stdin(null()).stdout(null()).stderr(null());
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
