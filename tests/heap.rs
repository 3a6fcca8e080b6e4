//! Nothing of the kernel's heap stays with processes that have ended, however they did.

mod common;

use common::{Link, compile};
use drupe::{Sandbox, Stdio};
use std::io::{BufRead, BufReader, Write};
use std::thread::sleep;
use std::time::Duration;

/// Bytes of the objects in the heap, as a dump counts them.
fn objects(sandbox: &Sandbox) -> u64 {
    let dump = sandbox.dump().expect("the sandbox lives");
    let line = dump.lines().find_map(|line| line.strip_prefix("heap: ")).expect("a dump tells of the heap");
    let blocks = line.split(" x ").collect::<Vec<_>>();
    let number = |text: &str, last: bool| {
        let mut words = text.split([' ', ',']);
        let word = if last { words.next_back() } else { words.next() };
        word.and_then(|n| n.parse::<u64>().ok()).unwrap_or_else(|| panic!("no number: {line}"))
    };
    blocks.windows(2).map(|two| number(two[0], true) * number(two[1], false)).sum()
}

fn ends(rewrite: bool) {
    const ROUNDS: u64 = 60;
    let Some(program) = compile("ends", Link::Dynamic) else { return };
    let sandbox = Sandbox::builder().rewrite(rewrite).start().expect("this host runs drupe");
    let mut command = sandbox.command(&program);
    command.arg(ROUNDS.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut round = || {
        input.write_all(b"\n").expect("it reads");
        assert_eq!(said.next().expect("a line").expect("text"), "calm");
        // The host may still be burying the last ones.
        sleep(Duration::from_millis(200));
        objects(&sandbox)
    };
    // The first times make what is kept for others: slots, processes that wait for a program, names.
    let (_, before) = (round(), round());
    let after = (0..3).map(|_| round()).last().expect("some");
    let ended = 3 * ROUNDS * 10;
    println!("{before} bytes before, {after} after {ended} processes");
    // Nothing of what a process has is as small as that.
    assert!(after < before + 16 * ended, "{before} bytes, and {after} after {ended} processes");
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn ended_processes_leave_nothing() {
    ends(true);
}

#[test]
fn ended_processes_leave_nothing_without_rewriting() {
    ends(false);
}
