//! The host ends processes of a sandbox (`kill -9`, its OOM killer): they are reaped as killed, and the sandbox goes on.
//! That it does is no promise: a process may die while it changes what a lock of the kernel guards.

mod common;

use common::host::children;
use common::{Link, compile};
use drupe::{Child, Sandbox, Stdio};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What runs meanwhile, and modes of `tests/guest/kill_loads.c`. Each goes on for ever, so how it ends is our doing.
const LOADS: [&[&str]; 5] = [
    &["sh", "-c", "while :; do echo x; done | cat >/dev/null"],
    &["sh", "-c", "while :; do /bin/true; (:); done"],
    &["sh", "-c", "while :; do echo y >/tmp/file; cat /tmp/file >/dev/null; done"],
    &["dd", "if=/dev/zero", "of=/dev/null", "bs=64k"],
    &["sh", "-c", "while :; do ls /usr/bin; done | tr a b | sort -u >/dev/null"],
];
/// The load that needs nobody else.
const DD: usize = 3;
const MODES: [&str; 5] = ["tcp", "pty", "sem", "mq", "threads"];

fn loads(modes: &[&str]) -> Vec<Vec<String>> {
    let owned = |args: &[&str]| args.iter().map(|a| (*a).to_string()).collect::<Vec<_>>();
    let mut loads: Vec<_> = LOADS.iter().map(|args| owned(args)).collect();
    if !modes.is_empty()
        && let Some(program) = compile("kill_loads", Link::Dynamic)
    {
        let program = program.to_str().expect("a path of ours");
        loads.extend(modes.iter().map(|mode| owned(&[program, mode])));
    }
    loads
}

struct Count {
    kills: usize,
    ended: usize,
    why: Vec<String>,
}

struct Loaded {
    sandbox: Sandbox,
    loads: Vec<(Child, usize)>,
    kinds: Vec<Vec<String>>,
}

impl Loaded {
    fn new(modes: &[&str]) -> Loaded {
        let sandbox = Sandbox::builder().start().expect("this host runs drupe");
        let mut loaded = Loaded { sandbox, loads: Vec::new(), kinds: loads(modes) };
        (0..loaded.kinds.len()).for_each(|i| loaded.start(i).expect("a new sandbox"));
        loaded
    }

    fn start(&mut self, i: usize) -> drupe::Result<()> {
        let (program, args) = self.kinds[i].split_first().expect("a program");
        let mut command = self.sandbox.command(program);
        let child = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        // One that is killed on its way in has not started; the next round sees to it.
        match child {
            Ok(child) => self.loads.push((child, i)),
            Err(drupe::Error::Spawn { .. } | drupe::Error::Refused { .. }) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Starts again what has ended, and looks how it has.
    fn renew(&mut self) -> drupe::Result<()> {
        let mut at = 0;
        while at < self.loads.len() {
            let Some(status) = self.loads[at].0.try_wait()? else {
                at += 1;
                continue;
            };
            let killed = status.signal() == Some(libc::SIGKILL);
            // A shell goes on without its pipeline's other end, or ends with it; and so do programs of ours.
            let kind = self.loads[at].1;
            assert!(killed || kind != DD, "{:?} ended by itself: {status}", self.kinds[kind]);
            self.loads.swap_remove(at);
        }
        for i in 0..self.kinds.len() {
            if !self.loads.iter().any(|l| l.1 == i) {
                self.start(i)?;
            }
        }
        Ok(())
    }
}

/// Kills random processes of loaded sandboxes.
fn kills(count: usize, modes: &[&str]) -> Count {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut so_far = Count { kills: 0, ended: 0, why: Vec::new() };
    let mut loaded = Loaded::new(modes);
    while so_far.kills < count {
        sleep(Duration::from_micros(500 + next(4000) as u64));
        let victims = children(loaded.sandbox.supervisor() as i32);
        if !victims.is_empty() {
            let _ = kill(Pid::from_raw(victims[next(victims.len())]), Signal::SIGKILL);
            so_far.kills += 1;
        }
        if let Err(e) = loaded.renew() {
            so_far.ended += 1;
            so_far.why.push(e.to_string());
            loaded = Loaded::new(modes);
        }
    }
    // Whoever is left can be told to end, and a new program runs.
    let end = Instant::now() + Duration::from_secs(20);
    loaded.sandbox.kill_all(libc::SIGKILL).expect("it lives");
    while !loaded.sandbox.processes().expect("it lives").is_empty() {
        assert!(
            Instant::now() < end,
            "not reaped after {} of {} kills ended the sandbox: {}",
            so_far.ended,
            so_far.kills,
            left(&loaded)
        );
        sleep(Duration::from_millis(5));
    }
    assert!(loaded.sandbox.command("true").status().expect("it runs").success());
    so_far
}

/// What the kernel and the host know of those that are left.
fn left(loaded: &Loaded) -> String {
    let supervisor = loaded.sandbox.supervisor() as i32;
    let states: Vec<String> = children(supervisor)
        .iter()
        .map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let wchan = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
            format!("{} {wchan}", stat.split_inclusive(' ').take(3).collect::<String>())
        })
        .collect();
    format!(
        "{:?}\nhost processes: {states:?}\n{}",
        loaded.sandbox.processes(),
        loaded.sandbox.dump().unwrap_or_default()
    )
}

fn at_most_one_of(count: usize, modes: &[&str]) {
    let count = kills(count, modes);
    println!("{} of {} kills ended the sandbox: {:?}", count.ended, count.kills, count.why);
    assert!(count.ended <= 1, "{} of {} kills ended the sandbox: {:?}", count.ended, count.kills, count.why);
}

/// The host's pid of a process whose first thread lives, as a dump tells it.
fn host_process(dump: &str, pid: u32) -> i32 {
    let rest = dump.split_once(&format!("process {pid} (")).expect("it is there").1;
    let rest = rest.split_once("host thread ").expect("it has a thread").1;
    rest.split(',').next().and_then(|n| n.parse().ok()).expect("a number")
}

/// What a process had open, and where it waited, is not left to nobody.
#[test]
fn what_it_held_is_given_back() {
    let Some(program) = compile("kill_loads", Link::Dynamic) else { return };
    // The first child of the program, and for `accept` the first of two.
    for how in ["poll", "read", "fifo", "accept"] {
        let sandbox = Sandbox::builder().start().expect("this host runs drupe");
        let mut child = sandbox
            .command(&program)
            .args(["left", how])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert_eq!(said.next().expect("a line").expect("text"), "ready");
        // Among the supervisor's children there can be one that waits to become a program.
        let victim = host_process(&sandbox.dump().expect("the sandbox lives"), 2);
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("ours");
        let end = Instant::now() + Duration::from_secs(10);
        while children(sandbox.supervisor() as i32).contains(&victim) {
            assert!(Instant::now() < end, "{how}: the host process stays");
            sleep(Duration::from_millis(1));
        }
        child.stdin.take().expect("a pipe").write_all(b"x").expect("it reads");
        let status = child.wait_timeout(Duration::from_secs(10)).expect("the sandbox lives");
        let status = status.unwrap_or_else(|| panic!("{how}: nobody notices; {}", sandbox.dump().unwrap_or_default()));
        assert!(status.success(), "{how}: {status}");
        assert_eq!(said.next().expect("a line").expect("text"), "seen");
    }
}

#[test]
fn some_kills() {
    at_most_one_of(60, &[]);
}

/// By hand: `cargo test --release --test host_kill -- --ignored --nocapture`.
#[test]
#[ignore = "takes a minute"]
fn a_thousand_kills() {
    at_most_one_of(1000, &[]);
}

/// By hand: with programs that use connections, terminals, semaphores, message queues and threads, too.
/// `DRUPE_KILL_LOADS` names some of these.
#[test]
#[ignore = "takes a minute"]
fn a_thousand_kills_of_all_kinds() {
    let some = std::env::var("DRUPE_KILL_LOADS").ok();
    let modes = some.as_ref().map_or(MODES.to_vec(), |some| some.split(',').collect());
    at_most_one_of(1000, &modes);
}
