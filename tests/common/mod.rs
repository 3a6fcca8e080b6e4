//! What the integration tests share: running a program natively and in a sandbox, with a time limit
//! of its own, and comparing.
#![allow(dead_code)]

pub mod bpf;
pub mod host;
pub mod saving;
pub mod tracepoint;
pub mod user;

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The launcher under test.
pub const DRUPE: &str = env!("CARGO_BIN_EXE_drupe");

/// Whether what runs here runs as an ordinary user (`tests/user.rs`).
pub fn as_user() -> bool {
    env!("CARGO_CRATE_NAME") == "user"
}

/// The launcher's file; an ordinary user may need a copy of it to be able to read it.
fn launcher() -> PathBuf {
    static COPY: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    if !as_user() || public(Path::new(DRUPE)) {
        return DRUPE.into();
    }
    let copy = || {
        let to = guest_dir().join("drupe");
        let _ = std::fs::remove_file(&to);
        std::fs::copy(DRUPE, &to).expect("writable");
        to
    };
    COPY.get_or_init(copy).clone()
}

/// Whether everybody can reach this file.
fn public(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    path.ancestors().all(|p| p.metadata().is_ok_and(|m| m.mode() & 0o5 == 0o5))
}

/// What a program left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status, or 128+N for signal N.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

fn status_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Runs `command` for at most `limit`, as an ordinary user where that is the subject; a hang is a failure that
/// names the command.
pub fn run(command: &mut Command, limit: Duration) -> Outcome {
    as_tested(command);
    build(command, limit)
}

/// The command will run as the user whom the tests are about.
pub fn as_tested(command: &mut Command) {
    if as_user() {
        let native = command.get_program() != launcher();
        user::ordinary(command, native);
    }
}

/// The running test program again, for one of its ignored functions: what needs a process of its own.
pub fn itself(function: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("it is known"));
    command.args(["--exact", function, "--ignored", "--nocapture", "--test-threads", "1"]);
    command
}

/// Lets the program find every signal as a shell at a terminal would leave it. What starts the tests may ignore
/// some (nohup, a job of a shell), and an ignored signal stays so.
pub fn with_default_signals(command: &mut Command) -> &mut Command {
    use nix::sys::signal::{SigHandler, Signal, signal};
    use std::os::unix::process::CommandExt;
    let set = || {
        for number in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
            // SAFETY: installs no handler.
            unsafe { signal(number, SigHandler::SigDfl) }?;
        }
        Ok(())
    };
    // SAFETY: calls that are safe between fork and exec.
    unsafe { command.pre_exec(set) }
}

/// As [`run`], always as who we are: for compilers.
pub fn build(command: &mut Command, limit: Duration) -> Outcome {
    use std::os::unix::process::CommandExt;
    let what = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
    let stdout = Reading::of(child.stdout.take().expect("piped"));
    let stderr = Reading::of(child.stderr.take().expect("piped"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        if start.elapsed() > limit {
            let _ = nix::sys::signal::killpg(
                nix::unistd::Pid::from_raw(child.id() as i32),
                nix::sys::signal::Signal::SIGKILL,
            );
            let _ = child.wait();
            let (out, err) = (stdout.all(Duration::from_secs(1)).1, stderr.all(Duration::from_secs(1)).1);
            panic!("{what}: still running after {limit:?}\n--- stdout\n{out}\n--- stderr\n{err}");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let (out, err) = (stdout.all(limit), stderr.all(limit));
    assert!(out.0 && err.0, "{what}: a process that it left has its output open\n{}", out.1);
    Outcome { status: status_of(status), stdout: out.1, stderr: err.1 }
}

/// What comes out of a pipe, which a process that outlives the command may have open.
struct Reading {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: thread::JoinHandle<()>,
}

impl Reading {
    fn of(mut from: impl Read + Send + 'static) -> Reading {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let to = bytes.clone();
        let thread = thread::spawn(move || {
            let mut piece = [0; 65536];
            loop {
                match from.read(&mut piece) {
                    Ok(0) => break,
                    Ok(n) => to.lock().expect("the reader").extend_from_slice(&piece[..n]),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        });
        Reading { bytes, thread }
    }

    /// Whether everything has come within `limit`, and what has.
    fn all(self, limit: Duration) -> (bool, String) {
        let start = Instant::now();
        while !self.thread.is_finished() && start.elapsed() < limit {
            thread::sleep(Duration::from_micros(200));
        }
        let bytes = self.bytes.lock().expect("the reader");
        (self.thread.is_finished(), String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// `drupe run [options] -- program…`.
pub fn sandboxed(options: &[&str], program: &[&str]) -> Command {
    let mut c = Command::new(launcher());
    c.arg("run").args(options).arg("--").args(program);
    c
}

/// `drupe verb…`.
pub fn drupe(args: &[&str]) -> Command {
    let mut c = Command::new(launcher());
    c.args(args);
    c
}

/// The program itself.
pub fn native(program: &[&str]) -> Command {
    let mut c = Command::new(program[0]);
    c.args(&program[1..]);
    c
}

/// Runs natively and in drupe, with rewriting on and off: output and exit status must agree.
pub fn agrees(program: &[&str], limit: Duration) {
    let expected = run(&mut native(program), limit);
    for rewrite in ["on", "off"] {
        // The log says where a program that dies of a fault was.
        let got = run(&mut sandboxed(&["--rewrite", rewrite, "--log", "info"], program), limit);
        assert_eq!(
            (got.status, &got.stdout),
            (expected.status, &expected.stdout),
            "{program:?} with --rewrite {rewrite} differs from native; stderr of the sandbox:\n{}",
            got.stderr
        );
    }
}

/// Whether a program is installed. Without it the test is skipped, or fails where everything must be there.
pub fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
        eprintln!("skipped: {program}");
    }
    found
}

/// Where compiled guest programs go.
pub fn guest_dir() -> PathBuf {
    let mut dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    if as_user() && !public(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        dir = std::env::temp_dir().join(format!("guest-{}", std::process::id()));
    }
    std::fs::create_dir_all(&dir).expect("the target directory is writable");
    dir
}

/// How a guest program is linked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Against glibc, dynamically.
    Dynamic,
    /// Against glibc, statically.
    Static,
    /// Against musl, statically.
    Musl,
}

/// Compiles `tests/guest/NAME.c`; `None` if the compiler is not there.
pub fn compile(name: &str, link: Link) -> Option<PathBuf> {
    let compiler = if link == Link::Musl { "musl-gcc" } else { "gcc" };
    if !has(compiler) {
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest").join(format!("{name}.c"));
    let out = guest_dir().join(format!("{name}-{link:?}"));
    // Another test may be running the program: it appears as a whole.
    let new = guest_dir().join(format!("{name}-{link:?}-{:?}.new", thread::current().id()));
    let mut c = Command::new(compiler);
    c.args(["-O1", "-pthread", "-w", "-o"]).arg(&new).arg(&source);
    if link != Link::Dynamic {
        c.arg("-static");
    }
    let built = build(&mut c, Duration::from_secs(60));
    assert_eq!(built.status, 0, "{name}.c does not compile: {}", built.stderr);
    std::fs::rename(&new, &out).expect("our own files");
    Some(out)
}
