//! A signal at every instruction of a call's way into the kernel and back, without the host in between:
//! stub, entry, exit. A tracer stops the guest's host thread there with a hardware breakpoint, sends the
//! guest a signal, and lets it go on; the guest looks at all its registers.

mod common;

use common::{Link, compile};
use drupe::{Sandbox, Stdio};
use iced_x86::{Decoder, DecoderOptions};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use object::{Object, ObjectSection, ObjectSymbol};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long a breakpoint is waited for: an instruction that no call passes is never hit.
const PATIENCE: Duration = Duration::from_millis(60);

/// How long a guest may take for what it does at once on a host that has time for it.
const GRACE: Duration = Duration::from_secs(10);

/// Offsets in the image of every instruction from the entry's first to its last.
fn instructions() -> Vec<u64> {
    let bytes = drupe::sandbox::image::bytes();
    let file = object::File::parse(bytes).expect("the image is an ELF file");
    let symbol = |name: &str| file.symbols().find(|s| s.name() == Ok(name)).map(|s| s.address());
    let (Some(first), Some(last)) = (symbol("drupe_fast_entry"), symbol("drupe_fast_last")) else { return Vec::new() };
    let holds = |s: &object::Section<'_, '_>| (s.address()..s.address() + s.size()).contains(&first);
    let text = file.sections().find(holds).expect("code");
    let data = text.data().expect("code");
    let at = (first - text.address()) as usize;
    let code = &data[at..at + (last - first) as usize];
    let mut decoder = Decoder::with_ip(64, code, first, DecoderOptions::NONE);
    std::iter::from_fn(|| decoder.can_decode().then(|| decoder.decode().ip())).collect()
}

/// The guest's host process: the one that maps its program.
fn host_pid(program: &str) -> Option<Pid> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let maps = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    pids.filter(|pid| maps(pid).contains(program)).map(Pid::from_raw).next()
}

/// Base of the kernel's image in a process: the executable mapping that lies at the window's second MiB.
fn image_base(pid: Pid) -> Option<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let starts = maps.lines().filter_map(|l| u64::from_str_radix(l.split('-').next()?, 16).ok());
    // As in `abi/layout.rs`: `BASE_RANGE`, and the image is the first that is mapped, at a huge page's start.
    let image = starts.filter(|s| (0x7e80_0000_0000..0x7ebc_0000_0000).contains(s)).min()?;
    Some(image & !((2 << 20) - 1))
}

fn breakpoint(pid: Pid, at: u64) {
    let offset = |n: usize| std::mem::offset_of!(libc::user, u_debugreg) + n * 8;
    let poke = |n: usize, value: u64| {
        // SAFETY: a stopped tracee of ours; the host checks the values.
        let ret = unsafe { libc::ptrace(libc::PTRACE_POKEUSER, pid.as_raw(), offset(n), value) };
        assert_eq!(ret, 0, "debug register {n}: {}", std::io::Error::last_os_error());
    };
    poke(7, 0);
    if at != 0 {
        poke(0, at);
        poke(7, 1);
    }
}

/// Waits for the tracee's next stop; `None` when time is up.
fn stop(pid: Pid, until: Instant) -> Option<WaitStatus> {
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)).expect("our tracee") {
            WaitStatus::StillAlive if Instant::now() > until => return None,
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_micros(200)),
            status => return Some(status),
        }
    }
}

/// A word of the tracee's memory, whether it runs or not.
fn word(pid: Pid, at: u64) -> u64 {
    let mut bytes = [0; 8];
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("our tracee");
    memory.read_exact_at(&mut bytes, at).expect("mapped");
    u64::from_le_bytes(bytes)
}

/// Stops a running tracee; signals that come before are passed on.
fn halt(pid: Pid) {
    ptrace::interrupt(pid).expect("our tracee");
    loop {
        match stop(pid, Instant::now() + GRACE).expect("it stops") {
            WaitStatus::PtraceEvent(..) => return,
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).expect("our tracee"),
            other => panic!("the guest ended: {other:?}"),
        }
    }
}

#[test]
fn a_signal_at_every_instruction_of_the_way_in_and_out() {
    let Some(program) = compile("stepping", Link::Static) else { return };
    let program = program.to_str().expect("ASCII");
    let sandbox = Sandbox::builder().start().expect("a sandbox starts");
    let mut child = sandbox.command(program).stdout(Stdio::piped()).spawn().expect("the guest starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("readable");
    let counter: u64 = line.trim().parse().expect("an address");
    let pid = host_pid(program).expect("a host process maps the program");
    if let Err(e) = ptrace::seize(pid, ptrace::Options::empty()) {
        println!("skipped: tracing is not allowed here ({e})");
        return;
    }
    let base = image_base(pid).expect("a window");
    let places = instructions();
    assert!(places.len() > 80, "the entry's instructions are known: {}", places.len());
    let (mut hit, mut sent) = (0, 0);
    halt(pid);
    for &offset in places.iter().chain(&places) {
        breakpoint(pid, base + offset);
        ptrace::cont(pid, None).expect("our tracee");
        let until = Instant::now() + PATIENCE;
        let here = loop {
            match stop(pid, until) {
                None => break false,
                Some(WaitStatus::Stopped(_, Signal::SIGTRAP)) => break true,
                Some(WaitStatus::Stopped(_, signal)) => ptrace::cont(pid, signal).expect("our tracee"),
                Some(WaitStatus::PtraceEvent(..)) => ptrace::cont(pid, None).expect("our tracee"),
                Some(other) => panic!("at image+{offset:#x} the guest ended: {other:?}"),
            }
        };
        if here {
            hit += 1;
            breakpoint(pid, 0);
            child.signal(libc::SIGUSR1).expect("the guest lives");
            sent += 1;
            ptrace::cont(pid, None).expect("our tracee");
            // It is handled before the next one comes, else one would stand for both.
            let until = Instant::now() + GRACE;
            while word(pid, counter) < sent {
                assert!(Instant::now() < until, "a signal at image+{offset:#x} is not handled");
                if let Some(WaitStatus::Stopped(_, signal)) = stop(pid, Instant::now()) {
                    ptrace::cont(pid, signal).expect("our tracee");
                }
            }
        }
        halt(pid);
    }
    breakpoint(pid, 0);
    ptrace::detach(pid, None).expect("our tracee");
    assert!(hit > places.len(), "{hit} of {} breakpoints, twice", places.len());
    child.signal(libc::SIGTERM).expect("the guest lives");
    assert!(child.wait().expect("it ends").success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("readable");
    assert_eq!(rest, format!("wrong 0, called 1, handled {sent}\n"));
}

#[test]
fn a_tracer_that_keeps_a_dead_process_does_not_hold_up_the_end() {
    let copy = common::guest_dir().join("kept");
    fs::copy("/bin/sleep", &copy).expect("writable");
    let copy = copy.to_str().expect("ASCII");
    let sandbox = Sandbox::builder().start().expect("a sandbox starts");
    let mut child = sandbox.command(copy).arg("100").spawn().expect("the guest starts");
    let until = Instant::now() + GRACE;
    let pid = loop {
        match host_pid(copy) {
            Some(pid) => break pid,
            None => assert!(Instant::now() < until, "no host process maps the program"),
        }
    };
    if let Err(e) = ptrace::seize(pid, ptrace::Options::empty()) {
        println!("skipped: tracing is not allowed here ({e})");
        return;
    }
    child.kill().expect("the guest lives");
    let start = Instant::now();
    drop(sandbox);
    assert!(start.elapsed() < GRACE, "the end took {:?}", start.elapsed());
    assert!(matches!(waitpid(pid, Some(WaitPidFlag::__WALL)), Ok(WaitStatus::Signaled(..) | WaitStatus::Exited(..))));
}
