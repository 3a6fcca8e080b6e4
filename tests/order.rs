//! Which functions a launch runs, for `src/launcher/hot.lds`. Not a test: it writes that file anew, which is worth
//! its while when launches touch much more of the launcher's file than the section `.text_launch`.
//!
//! ```sh
//! cargo test --release --test order -- --ignored
//! ```

mod common;

use common::DRUPE;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const ORDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/launcher/hot.lds");
/// Generic functions have one name for all their types. Those of which a launch runs so small a part, and which are
/// so large together (bytes), stay where they are.
const SHARE: u64 = 6;
const LARGE: u64 = 8000;

fn printed(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}");
    String::from_utf8(out.stdout).expect("text")
}

/// Addresses in the launcher of what it runs for a program that lasts until it has to be awaited.
fn executed() -> BTreeSet<u64> {
    let mut command = Command::new(DRUPE);
    command.args(["run", "--", "/bin/sleep", "3"]).stdin(Stdio::null());
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
    let launcher = Pid::from_raw(command.spawn().expect("it starts").id() as i32);
    waitpid(launcher, None).expect("it stops at its start");
    let maps = fs::read_to_string(format!("/proc/{launcher}/maps")).expect("it lives");
    let line = maps.lines().find(|l| l.contains(DRUPE)).expect("it is mapped");
    let base = u64::from_str_radix(line.split('-').next().expect("a range"), 16).expect("a number");
    let end = base + fs::metadata(DRUPE).expect("it is there").len();
    let mut seen = BTreeSet::new();
    let mut signal: Option<Signal> = None;
    loop {
        ptrace::step(launcher, signal.take()).expect("it is stopped");
        match waitpid(launcher, None).expect("it is ours") {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(_, status) => {
                assert_eq!(status, 0);
                return seen;
            }
            other => panic!("{other:?}"),
        }
        let at = ptrace::getregs(launcher).expect("it is stopped").rip;
        if (base..end).contains(&at) {
            seen.insert(at - base);
        }
    }
}

/// A pattern for the name of a function's section: without what the compiler chooses anew for each build.
fn pattern(name: &str) -> String {
    let name = name.split(".llvm.").next().unwrap_or(name);
    let stable = match name.rsplit_once("17h") {
        Some((stable, hash)) if name.starts_with("_ZN") && hash.len() == 17 => format!("{stable}*"),
        _ => name.to_string(),
    };
    // `Cs` and an identifier stand for a crate in the newer names.
    let mut parts = stable.split("Cs");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        match part.split_once('_') {
            Some((id, rest)) if name.starts_with("_R") && id.len() > 7 => write!(out, "Cs*_{rest}"),
            _ => write!(out, "Cs{part}"),
        }
        .expect("strings grow");
    }
    out.replace('$', "?")
}

#[test]
#[ignore = "writes a file of the source tree"]
fn what_a_launch_runs() {
    let mut functions = BTreeMap::new();
    for line in printed(Command::new("nm").args(["-S", "--defined-only", DRUPE])).lines() {
        if let [address, size, kind, name] = line.split_ascii_whitespace().collect::<Vec<_>>()[..]
            && "tTwWiV".contains(kind)
        {
            let number = |text| u64::from_str_radix(text, 16).expect("a number");
            functions.insert(number(address), (number(size), name.to_string()));
        }
    }
    let library = printed(cc().arg("-print-file-name=libc.a"));
    let mut members = HashMap::new();
    for line in printed(Command::new("nm").args(["-A", "--defined-only", library.trim()])).lines() {
        if let [_, member, rest] = line.splitn(3, ':').collect::<Vec<_>>()[..] {
            members.entry(rest.rsplit(' ').next().unwrap_or_default().to_string()).or_insert(member.to_string());
        }
    }

    let run: BTreeSet<&String> =
        executed().iter().filter_map(|at| Some(&functions.range(..=at).next_back()?.1.1)).collect();
    let (mut ours, mut library) = (BTreeMap::<String, (u64, u64)>::new(), BTreeSet::new());
    for (size, name) in functions.values() {
        if name.starts_with("_ZN") || name.starts_with("_R") {
            let (all, used) = ours.entry(pattern(name)).or_default();
            *all += size;
            *used += if run.contains(name) { *size } else { 0 };
        } else if let Some(member) = members.get(name).filter(|_| run.contains(name)) {
            library.insert(member);
        }
    }

    let mut text = String::from(
        "/* What a launch runs lies together: the host maps a program's file in pieces of 64 KiB as they are touched.\n \
         * Written by tests/order.rs. */\nSECTIONS\n{\n    .text_launch : ALIGN(0x10000)\n    {\n        *(.text.main)\n",
    );
    for (pattern, (all, used)) in ours {
        if used > 0 && (all < LARGE || all < SHARE * used) {
            writeln!(text, "        *(.text.{pattern} .text.unlikely.{pattern})").expect("strings grow");
        }
    }
    for member in library {
        writeln!(text, "        *libc.a:{member}(.text .text.*)").expect("strings grow");
    }
    text.push_str("    }\n}\nINSERT BEFORE .text;\n");
    fs::write(ORDER, text).expect("the source tree is writable");
}

/// The C compiler, which knows where its library is.
fn cc() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}
