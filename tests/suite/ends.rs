//! What a sandbox's end takes along, whoever has made it and however it comes.

use crate::common::host::{family, stat, wait_for};
use crate::common::{Link, as_tested, compile, sandboxed};
use crate::jail::{LIMIT, door, fsgsbase, layers};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long anything may live on.
const PROMPTLY: Duration = Duration::from_secs(3);

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().into()
}

/// A process that has not ended.
fn lives(pid: &i32) -> bool {
    stat(*pid).is_some_and(|fields| !fields.first().is_some_and(|state| state == "Z" || state == "X"))
}

fn all_end(what: &str, pids: &[i32]) {
    let described = || pids.iter().copied().filter(lives).map(name).collect::<Vec<_>>();
    wait_for(what, PROMPTLY, || if described().is_empty() { Some(()) } else { None });
}

/// Ends a launcher that a failed test leaves.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        as_tested(command);
        Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn().expect("it starts"))
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Waits until it has a process of each of these names.
    fn family(&self, with: &[&str]) -> Vec<i32> {
        wait_for(&format!("{with:?}"), LIMIT, || {
            let all = family(self.pid());
            let names: Vec<_> = all.iter().map(|&pid| name(pid)).collect();
            with.iter().all(|w| names.iter().any(|n| n.starts_with(w))).then_some(all)
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that owns its kernel makes a process that has promised nothing: it ends with a launcher that is killed.
#[test]
fn what_a_hostile_program_makes_ends_with_a_launcher_that_is_killed() {
    let Some(program) = compile("escape", Link::Static) else { return };
    if !fsgsbase() {
        return;
    }
    let (entry, gate) = door();
    let clone = format!("~{},{}", libc::SYS_clone, libc::CLONE_FILES | libc::CLONE_PARENT);
    let rest = format!("{},0,0,100000", libc::SYS_poll);
    let argv = [program.to_str().expect("ASCII"), &entry, &gate, &clone, &clone, &rest];
    for layers in layers() {
        let mut command = sandboxed(&["--jail", layers.jail], &argv);
        let mut launcher = Running::start(layers.prepare(&mut command));
        let mut lines = BufReader::new(launcher.0.stdout.take().expect("a pipe")).lines();
        for _ in 0..2 {
            let line = lines.next().expect("a line").expect("text");
            assert!(!line.contains('-') && !line.contains("killed"), "{layers:?}: {line}");
        }
        let all = launcher.family(if layers.jail == "auto" { &["drupe-guard"] } else { &[] });
        assert!(all.len() >= 4, "{layers:?}: {all:?}");
        launcher.0.kill().expect("it lives");
        all_end(&format!("{layers:?}"), &all[1..]);
    }
}

/// Broker, meter, porter and guard end when the sandbox does: by itself, by a signal to the launcher, or with it.
#[test]
fn helpers_end_with_the_sandbox() {
    let dir = std::env::temp_dir().join(format!("drupe-ends-{}-{}", env!("CARGO_CRATE_NAME"), std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let bind = format!("{}:/mnt:rw", dir.display());
    let options = ["--bind", &bind, "--memory", "256M", "--allow", "192.0.2.1:80"];
    let helpers = ["drupe-broker", "drupe-meter", "drupe-porter"];
    for end in [libc::SIGKILL, libc::SIGTERM, 0] {
        let program: &[&str] = if end == 0 { &["/bin/sleep", "1"] } else { &["/bin/sleep", "100"] };
        let launcher = Running::start(&mut sandboxed(&options, program));
        let all = launcher.family(&helpers);
        // A stop interrupts what they wait in, and is no end.
        let helping: Vec<_> = all.iter().copied().filter(|&pid| name(pid).starts_with("drupe-")).collect();
        for signal in [libc::SIGSTOP, libc::SIGCONT] {
            for &pid in &helping {
                // SAFETY: processes of a sandbox of ours.
                unsafe { libc::kill(pid, signal) };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(helping.iter().all(lives), "{:?}", helping.iter().map(|&pid| name(pid)).collect::<Vec<_>>());
        if end != 0 {
            // SAFETY: a child of ours that was not reaped.
            unsafe { libc::kill(launcher.pid(), end) };
        } else {
            wait_for("its end", LIMIT, || (!lives(&launcher.pid())).then_some(()));
        }
        all_end(&format!("after signal {end}"), &all[1..]);
    }
    let _ = fs::remove_dir_all(&dir);
}
