//! Running sandboxes by their names: each command, its errors, and ends that come at any moment.

use crate::common::host;
use crate::common::{Outcome, as_tested, as_user, drupe, has, itself, run};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// A runtime directory of the test's own, with what is registered there.
struct Place(PathBuf);

impl Place {
    fn new(what: &str) -> Place {
        let whose = if as_user() { "user" } else { "own" };
        let dir = std::env::temp_dir().join(format!("drupe-outside-{whose}-{what}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).expect("made");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).expect("ours");
        if as_user() && nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&dir, Some(65534), Some(65534)).expect("root");
        }
        Place(dir)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = drupe(args);
        command.env("XDG_RUNTIME_DIR", &self.0);
        command
    }

    fn drupe(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args), LIMIT)
    }

    /// Starts a command that goes on beside the test.
    fn begin(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        as_tested(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    }

    /// Starts a sandbox, and waits until its first program runs.
    fn start(&self, name: &str, script: &str) -> Guarded {
        self.start_with(name, &[], script)
    }

    fn start_with(&self, name: &str, options: &[&str], script: &str) -> Guarded {
        let args = [&["run", "--name", name], options, &["--", "/bin/sh", "-c", script]].concat();
        let child = Guarded(self.begin(&args));
        wait_for("the sandbox", || {
            let list = self.list();
            list.iter().any(|s| s["name"] == name && s["command"].as_array().is_some_and(|c| !c.is_empty()))
        });
        child
    }

    fn list(&self) -> Vec<Value> {
        let out = self.drupe(&["ps", "--json"]);
        assert_eq!(out.status, 0, "{}", out.stderr);
        serde_json::from_str(&out.stdout).expect("a list")
    }

    fn state(&self, name: &str) -> String {
        let list = self.list();
        let one = list.iter().find(|s| s["name"] == name);
        one.map_or_else(String::new, |s| s["state"].as_str().expect("a text").to_string())
    }

    /// Files in the registry.
    fn files(&self) -> usize {
        std::fs::read_dir(self.0.join("drupe")).expect("a registry").count()
    }

    fn events(&self, name: &str) -> Vec<Value> {
        lines(&self.drupe(&["events", name]))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with the test.
struct Guarded(Child);

impl Guarded {
    /// Waits for its end.
    fn status(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let mut status = None;
        wait_for("its end", || {
            status = self.0.try_wait().expect("our child");
            status.is_some()
        });
        let status = status.expect("it has ended");
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    fn output(&mut self) -> (i32, String) {
        use std::io::Read;
        let status = self.status();
        let mut text = String::new();
        let _ = self.0.stdout.take().expect("piped").read_to_string(&mut text);
        (status, text)
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), signal).expect("ours");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, mut found: impl FnMut() -> bool) {
    host::wait_for(what, LIMIT, || found().then_some(()));
}

fn children(pid: u64) -> Vec<i32> {
    host::children(pid as i32)
}

fn lines(out: &Outcome) -> Vec<Value> {
    out.stdout.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect()
}

fn refused(out: &Outcome, words: &str) {
    assert_eq!((out.status, out.stdout.as_str()), (125, ""), "{}", out.stderr);
    assert!(out.stderr.starts_with("drupe: ") && out.stderr.contains(words), "{words:?} is not in {:?}", out.stderr);
    assert_eq!(out.stderr.lines().count(), 1, "{}", out.stderr);
}

#[test]
fn ps_lists_what_runs() {
    let place = Place::new("ps");
    assert!(place.list().is_empty());
    let mut one = place.start("one", "sleep 100");
    let _two = place.start("two", "sleep 100 & sleep 100 & wait");
    wait_for("three tasks", || place.list()[1]["tasks"] == 3);
    let list = place.list();
    let field = |i: usize, name: &str| list[i][name].clone();
    assert_eq!((field(0, "name"), field(1, "name")), ("one".into(), "two".into()));
    assert_eq!((field(0, "state"), field(0, "holder")), ("running".into(), one.0.id().into()));
    assert_eq!(field(0, "command").as_array().map(Vec::len), Some(3));
    assert!(field(1, "memory").as_u64() > Some(100_000), "{list:?}");
    let supervisor = field(0, "pid").as_u64().expect("a pid");
    assert!(children(one.0.id().into()).contains(&(supervisor as i32)));
    let out = place.drupe(&["ps"]);
    let rows: Vec<Vec<&str>> = out.stdout.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "PID", "STATE", "TASKS", "MEMORY", "STARTED", "COMMAND"]);
    assert_eq!((rows[1][0], rows[1][2], rows[2][0]), ("one", "running", "two"));
    assert_eq!(rows[1][6..], ["/bin/sh", "-c", "sleep", "100"]);
    assert_eq!(place.drupe(&["kill", "one"]).status, 0);
    assert_eq!(one.status(), 137);
    assert_eq!(place.list().len(), 1);
    assert_eq!(place.files(), 2);
}

#[test]
fn a_name_is_one_sandboxes() {
    let place = Place::new("name");
    refused(&place.drupe(&["exec", "box", "true"]), "no running sandbox named \"box\"");
    for verb in ["kill", "pause", "resume", "wait", "events", "debug"] {
        refused(&place.drupe(&[verb, "box"]), "no running sandbox named \"box\"");
        refused(&place.drupe(&[verb, "../box"]), "no running sandbox");
    }
    for name in ["", ".x", "a/b", "a b", &"x".repeat(65)] {
        refused(&place.drupe(&["run", "--name", name, "--", "true"]), "is no name for a sandbox");
    }
    let mut first = place.start("box", "sleep 1; exit 4");
    refused(&place.drupe(&["run", "--name", "box", "--", "true"]), "already");
    assert_eq!(place.drupe(&["run", "--name", "other", "--", "true"]).status, 0);
    // Its end frees the name at once.
    assert_eq!(first.status(), 4);
    assert_eq!(place.files(), 0);
    assert_eq!(place.drupe(&["run", "--name", "box", "--", "true"]).status, 0);
}

#[test]
fn one_of_two_gets_the_name() {
    let place = Place::new("two");
    for round in 0..200 {
        let begin = || Guarded(place.begin(&["run", "--name", "box", "--", "sleep", "0.05"]));
        let (mut a, mut b) = (begin(), begin());
        let mut ends = [a.status(), b.status()];
        ends.sort_unstable();
        // The second may begin after the first has ended.
        assert!(ends == [0, 125] || ends == [0, 0], "round {round}: {ends:?}");
    }
    assert_eq!(place.files(), 0);
}

#[test]
fn exec_runs_a_program_beside() {
    let place = Place::new("exec");
    let _first = place.start_with("box", &["--env", "COLOUR=red", "--cwd", "/tmp"], "sleep 100");
    let script = "cat /proc/1/comm; echo $COLOUR $SIZE; pwd; echo oops >&2; exit 7";
    let out = place.drupe(&["exec", "--env", "SIZE=big", "box", "--", "/bin/sh", "-c", script]);
    assert_eq!((out.status, out.stdout.as_str()), (7, "sh\nred big\n/tmp\n"), "{}", out.stderr);
    assert_eq!(out.stderr, "oops\n");
    let out = place.drupe(&["exec", "box", "-w", "/usr", "-u", "12:34", "--", "/bin/sh", "-c", "pwd; id -u; id -g"]);
    assert_eq!((out.status, out.stdout.as_str()), (0, "/usr\n12\n34\n"), "{}", out.stderr);
    // It has the files that others have made, and no parent.
    assert_eq!(place.drupe(&["exec", "box", "sh", "-c", "echo hello > /tmp/note"]).status, 0);
    let out = place.drupe(&["exec", "box", "sh", "-c", "cat /tmp/note; echo $PPID"]);
    assert_eq!(out.stdout, "hello\n0\n");
    assert!(!Path::new("/tmp/note").exists());
    // Ends by signals, and programs that are not there.
    assert_eq!(place.drupe(&["exec", "box", "sh", "-c", "kill -9 $$"]).status, 137);
    let out = place.drupe(&["exec", "box", "no-such-program"]);
    assert_eq!(out.status, 127);
    assert!(out.stderr.contains("not found"), "{}", out.stderr);
    assert_eq!(place.drupe(&["exec", "box", "/etc/passwd"]).status, 126);
    refused(&place.drupe(&["exec", "-t", "box", "true"]), "not a terminal");
    refused(&place.drupe(&["exec", "--cwd", "/none", "box", "true"]), "/none");
}

#[test]
fn exec_hands_the_standard_streams_over() {
    use std::io::Write;
    let place = Place::new("streams");
    let _first = place.start("box", "sleep 100");
    let with_input = |args: &[&str]| {
        let mut command = place.command(args);
        as_tested(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        // Without --interactive nobody reads it.
        let _ = child.stdin.take().expect("piped").write_all(b"some words\n");
        String::from_utf8(child.wait_with_output().expect("it ends").stdout).expect("ASCII")
    };
    assert_eq!(with_input(&["exec", "-i", "box", "wc", "-w"]).trim(), "2");
    assert_eq!(with_input(&["exec", "box", "wc", "-w"]).trim(), "0");
    // Several at once.
    let all: Vec<_> = (0..12)
        .map(|n| Guarded(place.begin(&["exec", "box", "sh", "-c", &format!("sleep 0.2; echo {n}; exit {n}")])))
        .collect();
    for (n, mut child) in all.into_iter().enumerate() {
        assert_eq!(child.output(), (n as i32, format!("{n}\n")));
    }
}

#[test]
fn signals_and_the_end_of_an_exec() {
    use nix::sys::signal::Signal::{SIGKILL, SIGTERM, SIGUSR1};
    let place = Place::new("exec-signals");
    let _first = place.start("box", "sleep 100");
    let script = "trap 'echo usr1 >> /tmp/told' USR1; trap 'echo hup >> /tmp/told; exit' HUP; \
                  echo up > /tmp/told; while :; do sleep 0.05; done";
    let told = |text: &str| {
        wait_for(text, || place.drupe(&["exec", "box", "cat", "/tmp/told"]).stdout.contains(text));
    };
    let child = Guarded(place.begin(&["exec", "box", "sh", "-c", script]));
    told("up");
    child.signal(SIGUSR1);
    told("usr1");
    // Whoever asked is gone: as when a terminal goes away.
    child.signal(SIGKILL);
    told("hup");
    let mut child = Guarded(place.begin(&["exec", "box", "sh", "-c", "echo ready > /tmp/told; exec sleep 100"]));
    told("ready");
    child.signal(SIGTERM);
    assert_eq!(child.status(), 143);
    // The sandbox's end is every program's.
    let mut child = Guarded(place.begin(&["exec", "box", "sh", "-c", "echo again > /tmp/told; exec sleep 100"]));
    told("again");
    assert_eq!(place.drupe(&["kill", "box"]).status, 0);
    assert_eq!(child.status(), 137);
}

#[test]
fn kill_reaches_the_first_one_or_all() {
    let place = Place::new("kill");
    let script = "trap 'echo first >> /tmp/got' USR1; \
                  sh -c 'trap \"echo second >> /tmp/got\" USR1; echo up > /tmp/got; while :; do sleep 0.02; done' & \
                  while :; do sleep 0.02; done";
    let mut first = place.start("box", script);
    let got = || place.drupe(&["exec", "box", "sort", "/tmp/got"]).stdout;
    wait_for("the second", || got() == "up\n");
    let pid = place.drupe(&["exec", "box", "pgrep", "-n", "-P", "1", "sh"]).stdout.trim().to_string();
    assert_eq!(place.drupe(&["kill", "box", "--signal", "USR1"]).status, 0);
    wait_for("the first one's", || got() == "first\nup\n");
    assert_eq!(place.drupe(&["kill", "-s", "10", "--pid", &pid, "box"]).status, 0);
    wait_for("the second one's", || got() == "first\nsecond\nup\n");
    // Their `sleep` ends by it, as each of them ends.
    assert_eq!(place.drupe(&["kill", "-s", "SIGUSR1", "--all", "box"]).status, 0);
    wait_for("both", || got() == "first\nfirst\nsecond\nsecond\nup\n");
    refused(&place.drupe(&["kill", "--pid", "12345", "box"]), "12345");
    let out = place.drupe(&["kill", "--signal", "NOPE", "box"]);
    assert!(out.status == 125 && out.stderr.contains("NOPE"), "{}", out.stderr);
    assert_eq!(place.drupe(&["kill", "box"]).status, 0);
    assert_eq!(first.status(), 137);
}

#[test]
fn a_paused_sandbox_stands_still_and_can_be_killed() {
    let place = Place::new("pause");
    let script = "trap 'exit 9' TERM; i=0; while :; do i=$((i+1)); echo $i > \"$1\"; done";
    let file = place.0.join("count");
    std::fs::write(&file, "0").expect("writable");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).expect("ours");
    let bind = format!("{}:/count:rw", file.display());
    let args = ["run", "--name", "box", "--bind", &bind, "--", "/bin/sh", "-c", script, "sh", "/count"];
    let count = || std::fs::read_to_string(&file).expect("a file").trim().parse().unwrap_or(0u64);
    let begin = || {
        let child = Guarded(place.begin(&args));
        wait_for("the program", || count() > 5);
        child
    };
    let mut first = begin();
    for _ in 0..5 {
        assert_eq!(place.drupe(&["pause", "box"]).status, 0);
        assert_eq!(place.state("box"), "paused");
        let before = count();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(count(), before);
        refused(&place.drupe(&["pause", "box"]), "paused already");
        refused(&place.drupe(&["exec", "box", "true"]), "paused");
        assert_eq!(place.drupe(&["resume", "box"]).status, 0);
        assert_eq!(place.state("box"), "running");
        wait_for("progress", || count() > before + 1);
        refused(&place.drupe(&["resume", "box"]), "not paused");
    }
    // A signal waits; SIGKILL does not.
    assert_eq!(place.drupe(&["pause", "box"]).status, 0);
    assert_eq!(place.drupe(&["kill", "-s", "TERM", "box"]).status, 0);
    assert_eq!(place.state("box"), "paused");
    assert_eq!(place.drupe(&["resume", "box"]).status, 0);
    assert_eq!(first.status(), 9);
    std::fs::write(&file, "0").expect("writable");
    let mut first = begin();
    assert_eq!(place.drupe(&["pause", "box"]).status, 0);
    assert_eq!(place.drupe(&["kill", "box"]).status, 0);
    assert_eq!(first.status(), 137);
}

#[test]
fn wait_prints_the_status() {
    let place = Place::new("wait");
    for (script, told) in [("sleep 0.3; exit 7", "7\n"), ("sleep 0.3; kill -TERM $$", "143\n")] {
        let _first = place.start("box", script);
        let waiters: Vec<_> = (0..4).map(|_| Guarded(place.begin(&["wait", "box"]))).collect();
        for mut waiter in waiters {
            assert_eq!(waiter.output(), (0, told.to_string()));
        }
    }
}

#[test]
fn events_tell_what_happens() {
    let place = Place::new("events");
    let mut first = place.start("box", "read x < /dev/zero; true");
    let mut follower = Guarded(place.begin(&["events", "--follow", "box"]));
    assert_eq!(place.drupe(&["exec", "box", "sh", "-c", "/bin/true; exit 3"]).status, 3);
    assert_eq!(place.drupe(&["exec", "box", "sh", "-c", "kill -KILL $$"]).status, 137);
    assert_eq!(place.drupe(&["pause", "box"]).status, 0);
    assert_eq!(place.drupe(&["resume", "box"]).status, 0);
    let all = place.events("box");
    let of = |kind: &str| all.iter().filter(|e| e["event"] == kind).cloned().collect::<Vec<_>>();
    let paths: Vec<_> = of("exec").iter().map(|e| e["path"].as_str().unwrap_or_default().to_string()).collect();
    assert_eq!(paths[0], "/bin/sh");
    assert!(paths.iter().any(|p| p == "/bin/true"), "{paths:?}");
    let exits: Vec<_> = of("exit").iter().map(|e| (e["status"].as_i64(), e["signal"].as_i64())).collect();
    assert_eq!(exits, [(Some(0), None), (Some(3), None), (None, Some(9))]);
    assert_eq!((of("pause").len(), of("resume").len()), (1, 1));
    assert!(all.iter().all(|e| e["time"].as_str().is_some_and(|t| t.ends_with('Z'))));
    assert_eq!(place.drupe(&["kill", "-s", "KILL", "box"]).status, 0);
    assert_eq!(first.status(), 137);
    // Whoever follows is told of all, to the end.
    let (status, text) = follower.output();
    let told: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("an object")).collect();
    assert_eq!(status, 0);
    assert_eq!(told[..all.len()], all);
    let rest: Vec<_> = told[all.len()..].iter().map(|e| (e["event"].clone(), e["signal"].clone())).collect();
    assert_eq!(rest, [("signal".into(), 9.into()), ("exit".into(), 9.into())]);
}

#[test]
fn events_are_bounded() {
    if !has("python3") {
        return;
    }
    let place = Place::new("bounded");
    // io_uring_setup(2) is not there.
    let calls = "import ctypes; c = ctypes.CDLL(None); [c.syscall(425) for _ in range(5000)]; open('/tmp/done', 'w'); \
                 import time; time.sleep(100)";
    let _first = place.start("box", &format!("python3 -c \"{calls}\" & sleep 100"));
    wait_for("the calls", || place.drupe(&["exec", "box", "test", "-e", "/tmp/done"]).status == 0);
    let told = place.events("box").iter().filter(|e| e["call"] == 425).count();
    assert!((900..2500).contains(&told), "{told}");
    // Programs that start others without end take no more than a piece of memory.
    let script = "i=0; while [ $i -lt 3000 ]; do /bin/true; i=$((i+1)); done";
    assert_eq!(run(&mut place.command(&["exec", "box", "sh", "-c", script]), 4 * LIMIT).status, 0);
    let all = place.events("box");
    assert_eq!(all.len(), 4097);
    assert!(all[0]["event"] == "lost" && all[0]["count"].as_u64() > Some(1000), "{}", all[0]);
}

#[test]
fn debug_says_what_each_waits_for() {
    let place = Place::new("debug");
    let _first = place.start("box", "sleep 77; true");
    let mut text = String::new();
    wait_for("both asleep", || {
        text = place.drupe(&["debug", "box"]).stdout;
        text.contains("waits for Child") && text.contains("waits for Time")
    });
    let sleeper = text.lines().find(|l| l.contains("'sleep'")).expect("it is told of");
    assert!(sleeper.contains("clock_nanosleep") && sleeper.contains(" ms more"), "{sleeper}");
}

#[test]
fn a_killed_launcher_leaves_nothing() {
    use nix::sys::signal::Signal::SIGKILL;
    let place = Place::new("killed");
    for round in 0..10 {
        let mut first = place.start("box", "exec sleep 100");
        let mut others: Vec<_> = [&["exec", "box", "sleep", "100"][..], &["wait", "box"], &["events", "-f", "box"]]
            .iter()
            .map(|args| Guarded(place.begin(args)))
            .collect();
        wait_for("the program", || place.list()[0]["tasks"] == 2);
        first.signal(SIGKILL);
        assert_eq!(first.status(), 137);
        for other in &mut others {
            assert_eq!(other.status(), 125, "round {round}");
        }
        match round % 3 {
            // What ends the rest has the lock of the entry for a moment longer.
            0 => wait_for("the end of the entry", || place.list().is_empty()),
            1 => refused(&place.drupe(&["exec", "box", "true"]), "no running sandbox"),
            _ => assert_eq!(place.drupe(&["run", "--name", "box", "--", "true"]).status, 0),
        }
        assert_eq!(place.files(), 0, "round {round}");
    }
}

#[test]
fn a_stopped_launcher_is_silent() {
    use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
    let place = Place::new("stopped");
    let first = place.start("box", "sleep 100");
    first.signal(SIGSTOP);
    assert_eq!(place.state("box"), "silent");
    refused(&place.drupe(&["pause", "box"]), "does not answer");
    first.signal(SIGCONT);
    assert_eq!(place.state("box"), "running");
}

#[test]
fn the_end_may_come_while_somebody_asks() {
    let place = Place::new("race");
    let mut seen = std::collections::BTreeMap::new();
    for round in 0..200 {
        let millis = round % 40;
        let script = format!("sleep 0.0{millis:02}; exit 5");
        let mut first = Guarded(place.begin(&["run", "--name", "box", "--", "/bin/sh", "-c", &script]));
        let asked = [
            &["exec", "box", "sh", "-c", "exit 6"][..],
            &["wait", "box"],
            &["events", "--follow", "box"],
            &["pause", "box"],
            &["resume", "box"],
            &["debug", "box"],
            &["ps"],
        ];
        let pauses = round % 4 == 0;
        let asked = asked.iter().filter(|args| args[0] != "pause" || pauses);
        let all: Vec<_> = asked.map(|args| (args[0], Guarded(place.begin(args)))).collect();
        // Somebody has to undo a pause, which keeps the others waiting.
        while pauses && first.0.try_wait().expect("our child").is_none() {
            place.drupe(&["resume", "box"]);
        }
        for (verb, mut child) in all {
            let status = child.status();
            let allowed: &[i32] = match verb {
                // Ended with the sandbox, or as it would.
                "exec" => &[6, 125, 137],
                "ps" => &[0],
                _ => &[0, 125],
            };
            assert!(allowed.contains(&status), "round {round}: {verb} ends with {status}");
            *seen.entry((verb, status)).or_insert(0) += 1;
        }
        assert_eq!(first.status(), 5, "round {round}");
        assert_eq!(place.files(), 0, "round {round}");
    }
    println!("{seen:?}");
}

#[test]
fn the_host_shows_whose_its_processes_are() {
    let place = Place::new("comm");
    let comm = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_string();
    let _first = place.start("box", "cat /proc/$$/comm > /tmp/comm; sleep 100 & (sleep 100; true) & wait");
    wait_for("all", || place.list()[0]["tasks"] == 4);
    let supervisor = place.list()[0]["pid"].as_u64().expect("a pid");
    let all = children(supervisor);
    assert!(all.len() >= 4, "{all:?}");
    // The guard is made when a sandbox is no short one.
    assert!(
        all.iter().all(|pid| ["drupe: box", "drupe-guard"].contains(&comm(pid).as_str())),
        "{:?}",
        all.iter().map(comm).collect::<Vec<_>>()
    );
    let inside = |args: &[&str]| place.drupe(&[&["exec", "box"], args].concat()).stdout;
    assert_eq!(inside(&["cat", "/tmp/comm"]), "sh\n");
    assert_eq!(inside(&["cat", "/proc/self/comm"]), "cat\n");
    // Without a name they show their programs'.
    let unnamed = Guarded(place.begin(&["run", "--", "/bin/sh", "-c", "sleep 100; true"]));
    wait_for("both", || {
        let mut all: Vec<_> = children(unnamed.0.id().into()).iter().map(comm).collect();
        all.sort();
        all.iter().any(|c| c == "drupe: sh") && all.iter().any(|c| c == "drupe: sleep")
    });
}

#[test]
fn the_sandbox_does_not_see_the_registry() {
    let place = Place::new("hidden");
    let dir = place.0.join("drupe");
    let bind = format!("{}:/mnt:rw", place.0.display());
    let _first = place.start_with("box", &["--bind", &bind], "sleep 100");
    let list = |dir: &str| place.drupe(&["exec", "box", "ls", "-A", dir]);
    for dir in [dir.to_str().expect("ASCII"), "/mnt/drupe"] {
        let out = list(dir);
        assert_eq!((out.status, out.stdout.as_str()), (0, ""), "{}", out.stderr);
        let out = place.drupe(&["exec", "box", "sh", "-c", &format!("rm -rf {dir}/* {dir}; mkdir {dir}/x; true")]);
        assert_eq!(out.status, 0, "{}", out.stderr);
    }
    assert_eq!(place.files(), 2);
    assert_eq!(place.state("box"), "running");
}

#[test]
fn others_are_refused() {
    if as_user() || !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    use std::os::unix::process::CommandExt;
    let place = Place::new("others");
    let _first = place.start("box", "sleep 100");
    let as_nobody = |command: &mut Command| run(command.uid(65534).gid(65534), LIMIT);
    // The directory is closed; and where it were not, the sandbox looks who asks.
    let out = as_nobody(&mut place.command(&["ps"]));
    refused(&out, "drupe");
    let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("root");
    let (dir, socket) = (place.0.join("drupe"), place.0.join("drupe/.box.sock"));
    open(&place.0, 0o755);
    open(&dir, 0o755);
    open(&socket, 0o777);
    refused(&as_nobody(&mut place.command(&["ps"])), "yours alone");
    // The test's program may lie where nobody can read it.
    let program = std::env::temp_dir().join(format!("drupe-outside-test-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().expect("known"), &program).expect("writable");
    let own = itself("outside::ask");
    let mut ask = Command::new(&program);
    ask.args(own.get_args()).env("SOCKET", &socket);
    let out = as_nobody(&mut ask);
    std::fs::remove_file(&program).expect("ours");
    assert!(out.status == 0 && out.stdout.contains("another user's"), "{} {}", out.stdout, out.stderr);
    open(&dir, 0o700);
    assert_eq!(place.state("box"), "running");
}

/// What a socket says to whoever connects.
#[test]
#[ignore = "a part of `others_are_refused`"]
fn ask() {
    use std::io::Read;
    let path = std::env::var_os("SOCKET").expect("set");
    let mut text = Vec::new();
    let mut socket = std::os::unix::net::UnixStream::connect(path).expect("it is open to all");
    let _ = socket.read_to_end(&mut text);
    println!("{}", String::from_utf8_lossy(&text));
}

#[test]
fn garbage_ends_a_conversation_only() {
    use std::io::{Read, Write};
    if as_user() {
        return;
    }
    let place = Place::new("garbage");
    let _first = place.start("box", "sleep 100");
    for bytes in [&[0xff; 64][..], &[0; 8], &[4, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9], &[], &[1]] {
        let mut socket = std::os::unix::net::UnixStream::connect(place.0.join("drupe/.box.sock")).expect("it listens");
        socket.write_all(bytes).expect("taken");
        socket.shutdown(std::net::Shutdown::Write).expect("open");
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
    }
    // Who says nothing keeps nobody from asking.
    let silent: Vec<_> = (0..40)
        .map(|_| std::os::unix::net::UnixStream::connect(place.0.join("drupe/.box.sock")).expect("it listens"))
        .collect();
    assert_eq!(place.state("box"), "running");
    drop(silent);
    assert_eq!(place.drupe(&["exec", "box", "true"]).status, 0);
}

#[test]
fn the_library_gives_names_and_finds_them() {
    let place = Place::new("library");
    let mut command = itself("outside::named_by_the_library");
    command.env("XDG_RUNTIME_DIR", &place.0);
    let out = run(&mut command, LIMIT);
    assert_eq!(out.status, 0, "{}{}", out.stdout, out.stderr);
    assert_eq!(place.files(), 0);
}

#[test]
#[ignore = "a part of `the_library_gives_names_and_finds_them`"]
fn named_by_the_library() {
    use ::drupe::outside::{Recorded, Remote, Target, running};
    use ::drupe::{Change, Error, Sandbox, Stdio};
    let named = || Sandbox::builder().name("lib");
    let sandbox = named().start().expect("this host runs drupe");
    assert!(matches!(named().start(), Err(Error::NameInUse(_))));
    assert!(matches!(named().start_here(), Err(Error::Setting(_))));
    assert!(matches!(Remote::find("other"), Err(Error::NoSandbox(_))));
    let remote = Remote::find("lib").expect("it runs");
    // No program yet.
    assert!(remote.status().expect("it answers").command.is_empty());
    assert_eq!(remote.kill(9, Target::Init).expect_err("nobody").errno(), Some(libc::ESRCH));
    let mut first = sandbox.command("sleep").arg("100").spawn().expect("it starts");
    let all = running().expect("listed");
    assert_eq!(all[0].status.as_ref().expect("it answers").supervisor, sandbox.supervisor());
    let mut child = remote
        .command("sh")
        .args(["-c", "kill -STOP $$; exit 5"])
        .stdio([Stdio::Null, Stdio::Null, Stdio::Null])
        .spawn()
        .expect("it starts");
    assert_eq!(child.wait_change().expect("told"), Change::Stopped(libc::SIGSTOP));
    child.signal(libc::SIGCONT).expect("sent");
    let Change::Exited(status) = child.wait_change().expect("told") else { panic!("it is stopped again") };
    assert_eq!(status.code(), Some(5));
    // The holder's own calls go on beside those of others.
    remote.pause().expect("it runs");
    assert_eq!(remote.pause().expect_err("paused").errno(), Some(libc::EALREADY));
    sandbox.unpause().expect("it is paused");
    assert_eq!(sandbox.command("true").status().expect("it runs").code(), Some(0));
    let (records, lost) = remote.events(false).expect("told").next_records().expect("told").expect("some");
    assert_eq!(lost, 0);
    assert!(records.iter().any(|r| r.what == Recorded::Paused(true)));
    first.kill().expect("it runs");
    assert_eq!(remote.wait().map(|s| s.code()).expect("its status"), None);
    drop(sandbox);
    assert!(matches!(remote.status(), Err(Error::NoSandbox(_))));
    // Its name is free, also while handles of its processes are kept.
    let again = named().start().expect("the name is free");
    again.stop();
    wait_for("the end of the entry", || running().expect("listed").is_empty());
    drop(first);
}

#[test]
fn a_perf_map_names_the_kernels_functions() {
    let sandbox = Guarded(drupe_run(&["--perf-map", "--", "sleep", "100"]));
    let mut guests = Vec::new();
    let map = |pid: &i32| PathBuf::from(format!("/tmp/perf-{pid}.map"));
    wait_for("a map", || {
        let supervisors = children(sandbox.0.id().into());
        guests = supervisors.iter().flat_map(|&pid| children(pid as u64)).collect();
        !guests.is_empty() && guests.iter().all(|pid| map(pid).exists())
    });
    let text = std::fs::read_to_string(map(&guests[0])).expect("readable");
    let entry = text.lines().find(|l| l.ends_with(" drupe_fast_entry")).expect("it is named");
    let numbers: Vec<u64> =
        entry.split(' ').take(2).map(|n| u64::from_str_radix(n, 16).expect("hexadecimal")).collect();
    assert!(numbers[1] > 0);
    // It is code of no file in the process: `perf` looks for names of that in the map.
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", guests[0])).expect("readable");
    let holds = |line: &&str| {
        let (from, to) = line.split(' ').next().and_then(|r| r.split_once('-')).expect("a range");
        let [from, to] = [from, to].map(|n| u64::from_str_radix(n, 16).expect("hexadecimal"));
        (from..to).contains(&numbers[0])
    };
    let line = maps.lines().find(holds).expect("it is mapped");
    assert!(line.contains("r-xp") && line.split_whitespace().count() == 5, "{line}");
    for pid in guests.iter().chain(&children(sandbox.0.id().into())) {
        let _ = std::fs::remove_file(map(pid));
    }
}

/// `drupe run` beside the test.
fn drupe_run(args: &[&str]) -> Child {
    let mut command = drupe(&[&["run"], args].concat());
    as_tested(&mut command);
    command.stdin(Stdio::null()).spawn().expect("it starts")
}
