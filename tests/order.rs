//! Which functions a launch runs, for `src/launcher/hot.lds`, and which of the kernel's a process runs, for
//! `asm/life.lds`. Not tests: they write those files anew, which is worth its while when launches touch much more of the
//! launcher's file than the section `.text_launch`, or forked children more of the image than `.text_life`.
//!
//! ```sh
//! cargo test --release --test order -- --ignored
//! ```

mod common;

use common::DRUPE;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ORDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/launcher/hot.lds");
const LIFE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/asm/life.lds");
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

/// The functions of a file by address, with their sizes.
fn functions(file: &Path) -> BTreeMap<u64, (u64, String)> {
    let mut functions = BTreeMap::new();
    for line in printed(Command::new("nm").args(["-S", "--defined-only"]).arg(file)).lines() {
        if let [address, size, kind, name] = line.split_ascii_whitespace().collect::<Vec<_>>()[..]
            && "tTwWiV".contains(kind)
        {
            let number = |text| u64::from_str_radix(text, 16).expect("a number");
            functions.insert(number(address), (number(size), name.to_string()));
        }
    }
    functions
}

#[test]
#[ignore = "writes a file of the source tree"]
fn what_a_launch_runs() {
    let functions = functions(Path::new(DRUPE));
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

/// Addresses in the image of what all processes run that a sandbox's first one makes.
fn executed_by_children(program: &[&str]) -> BTreeSet<u64> {
    let mut command = Command::new(DRUPE);
    command.args(["run", "--"]).args(program).stdin(Stdio::null());
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
    let launcher = Pid::from_raw(command.spawn().expect("it starts").id() as i32);
    waitpid(launcher, None).expect("it stops at its start");
    let follow = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
    ptrace::setoptions(launcher, follow | Options::PTRACE_O_EXITKILL).expect("it is stopped");
    ptrace::cont(launcher, None).expect("it is stopped");
    // The launcher and the first process are left to run; of the others each is known with where the image lies.
    let mut known: Vec<(Pid, Option<u64>)> = vec![(launcher, None)];
    let mut seen = BTreeSet::new();
    loop {
        let status = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL)).expect("the launcher lives");
        let Some(pid) = status.pid() else { continue };
        let at = known.iter().position(|k| k.0 == pid).unwrap_or_else(|| {
            known.push((pid, image_base(pid).filter(|_| known.len() >= 2)));
            known.len() - 1
        });
        let signal = match status {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) if pid == launcher => return seen,
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
            WaitStatus::Stopped(_, Signal::SIGTRAP | Signal::SIGSTOP) => None,
            WaitStatus::Stopped(_, signal) => Some(signal),
            _ => None,
        };
        // One that was killed meanwhile is told of next.
        let _ = match (known[at].1, ptrace::getregs(pid)) {
            (Some(base), Ok(regs)) => {
                seen.extend(regs.rip.checked_sub(base));
                ptrace::step(pid, signal)
            }
            _ => ptrace::cont(pid, signal),
        };
    }
}

/// Where the image lies in a guest's process.
fn image_base(pid: Pid) -> Option<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let line = maps.lines().find(|l| l.contains(DRUPE))?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}

/// The image that the launcher holds, as it was built.
fn image() -> PathBuf {
    let build = Path::new(DRUPE).parent().expect("a directory").join("build");
    let images =
        fs::read_dir(build).expect("the launcher was built").flatten().map(|d| d.path().join("out/drupe-image.so"));
    let time = |p: &PathBuf| p.metadata().and_then(|m| m.modified()).ok();
    images.filter(|p| p.exists()).max_by_key(time).expect("the image was built")
}

/// Patterns of what was run but for those in `done`: of functions alone, then of generic ones of which most was not run.
fn patterns(
    functions: &BTreeMap<u64, (u64, String)>,
    run: &BTreeSet<u64>,
    done: &mut BTreeSet<String>,
) -> (String, String) {
    let found = |at: &u64| functions.range(..=*at).next_back().filter(|(start, f)| *at < *start + f.0.max(1));
    let run: BTreeSet<&String> = run.iter().filter_map(found).map(|(_, f)| &f.1).collect();
    let mut all = BTreeMap::<String, (u64, u64)>::new();
    for (size, name) in functions.values().filter(|(_, name)| name.starts_with("_ZN") || name.starts_with("_R")) {
        let (all, used) = all.entry(pattern(name)).or_default();
        *all += size;
        *used += if run.contains(name) { *size } else { 0 };
    }
    let (mut alone, mut generic) = (String::new(), String::new());
    for (pattern, (all, used)) in all {
        if used > 0 && all < 5 * LARGE && done.insert(pattern.clone()) {
            let to = if all < LARGE || all < SHARE * used { &mut alone } else { &mut generic };
            writeln!(to, "        *(.text.{pattern} .text.unlikely.{pattern})").expect("strings grow");
        }
    }
    (alone, generic)
}

#[test]
#[ignore = "writes a file of the source tree"]
fn what_a_process_runs() {
    let functions = functions(&image());
    let mut child = executed_by_children(&["/bin/sh", "-c", "(:); (:); (:)"]);
    // Enough of them that their calls are rewritten.
    child.extend(executed_by_children(&["/bin/sh", "-c", "for i in 0 1 2 3 4 5 6 7 8 9; do (:); (:); (:); (:); done"]));
    let exec = executed_by_children(&["/bin/sh", "-c", "/bin/true; /bin/true; /bin/true; /bin/true & wait"]);
    let mut done = BTreeSet::new();
    let (child, generic) = patterns(&functions, &child, &mut done);
    let (exec, _) = patterns(&functions, &exec, &mut done);
    let text = format!(
        "/* What a forked child runs from its first instruction to its last lies together, and behind it what a program runs \
         that\n * is executed: each process faults in what it touches of the kernel anew, in pieces of 64 KiB.\n \
         * Written by tests/order.rs. */\nSECTIONS\n{{\n    .text_life : ALIGN(0x10000)\n    {{\n        \
         *drupe_asm*(.text)\n        *(.text.drupe_*)\n        *(.text.memcpy .text.memmove .text.memset)\n{child}    }}\n    \
         .text_exec :\n    {{\n{generic}{exec}    }}\n}}\nINSERT BEFORE .text;\n"
    );
    fs::write(LIFE, text).expect("the source tree is writable");
}
