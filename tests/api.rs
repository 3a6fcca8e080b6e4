//! The library as a program that links it sees it.

use drupe::{Change, Error, LogLevel, Sandbox, Stdio};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

fn start() -> Sandbox {
    Sandbox::builder().start().expect("this host runs drupe")
}

/// Waits for `found`; a hang is a failure.
fn until(what: &str, mut found: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !found() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}

fn scratch(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("api-{name}"));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("the target directory is writable");
    dir
}

#[test]
fn output_status_and_environment() {
    let sandbox = start();
    let output = sandbox.command("sh").args(["-c", "echo out; echo err >&2; exit 4"]).output().expect("it runs");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(output.status.code(), Some(4));
    let status = sandbox.command("sh").args(["-c", "kill -USR1 $$"]).status().expect("it runs");
    assert_eq!(status.signal(), Some(libc::SIGUSR1));

    let mut command = sandbox.command("/usr/bin/env");
    command.env("DROPPED", "1").env_clear().env("A", "1").envs([("B", "2"), ("C", "3")]).env_remove("C");
    assert_eq!(command.output().expect("it runs").stdout, b"A=1\nB=2\n");
    assert_eq!(command.output().expect("a command runs as often as one likes").stdout, b"A=1\nB=2\n");

    let output = sandbox.command("pwd").current_dir("/usr/bin").env_remove("PWD").output().expect("it runs");
    assert_eq!(output.stdout, b"/usr/bin\n");
    let output = sandbox.command("sh").arg0("other").args(["-c", "echo $0"]).output().expect("it runs");
    assert_eq!(output.stdout, b"other\n");
    let output = sandbox.command("sh").args(["-c", "umask; id -u; id -g"]).umask(0o77).user(5, 6).output();
    assert_eq!(output.expect("it runs").stdout, b"0077\n5\n6\n");
}

#[test]
fn standard_streams() {
    let dir = scratch("streams");
    let sandbox = start();
    let mut child = sandbox.command("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    let big = vec![b'x'; 3 << 20];
    let expected = big.clone();
    let writer = thread::spawn(move || stdin.write_all(&big));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("all was taken");
    assert!(output.stdout == expected, "{} bytes came back", output.stdout.len());

    fs::write(dir.join("in"), "from a file").expect("ours");
    let (input, out) =
        (fs::File::open(dir.join("in")).expect("ours"), fs::File::create(dir.join("out")).expect("ours"));
    assert!(sandbox.command("cat").stdin(input).stdout(out).status().expect("it runs").success());
    assert_eq!(fs::read(dir.join("out")).expect("ours"), b"from a file");

    let output = sandbox.command("cat").stdin(Stdio::null()).output().expect("it runs");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));

    // `wait` closes standard input, as that of std does.
    let mut child = sandbox.command("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
    assert!(child.wait().expect("it ends").success());

    let script = "for i in 0 1 2; do test -e /proc/self/fd/$i && echo $i >> /tmp/open; done; true";
    let mut command = sandbox.command("sh");
    command.args(["-c", script]).stdin(Stdio::closed()).stdout(Stdio::closed()).stderr(Stdio::null());
    assert!(command.status().expect("it runs").success());
    assert_eq!(sandbox.read_file("/tmp/open").expect("written"), b"2\n");

    // A reader that goes away.
    let mut child = sandbox.command("yes").stdout(Stdio::piped()).spawn().expect("it runs");
    let mut two = [0; 2];
    child.stdout.take().expect("piped").read_exact(&mut two).expect("it says so");
    assert_eq!(child.wait().expect("it ends").signal(), Some(libc::SIGPIPE));
}

#[test]
fn children() {
    let sandbox = start();
    assert!(matches!(sandbox.wait(), Err(Error::NoProcess)));
    let mut first =
        sandbox.command("sh").args(["-c", "read x; exit 9"]).stdin(Stdio::piped()).spawn().expect("it runs");
    assert_eq!(first.id(), 1);
    assert_eq!(first.try_wait().expect("it lives"), None);
    let mut second = sandbox.command("sleep").arg("100").spawn().expect("it runs");
    assert_ne!(second.id(), first.id());
    let names = || sandbox.processes().expect("it lives").into_iter().map(|p| p.name).collect::<Vec<_>>();
    until("both names", || names() == ["sh", "sleep"]);

    second.kill().expect("it lives");
    let status = second.wait().expect("it ends");
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert_eq!(second.wait().expect("as often as one likes"), status);
    assert_eq!(second.try_wait().expect("as often as one likes"), Some(status));
    second.kill().expect("to kill what has ended is no error");
    assert!(matches!(second.signal(libc::SIGTERM), Err(Error::ProcessEnded(_))));

    first.signal(libc::SIGSTOP).expect("it lives");
    until("the stop", || first.try_change().expect("it lives") == Some(Change::Stopped(libc::SIGSTOP)));
    first.signal(libc::SIGCONT).expect("it lives");
    first.stdin.take().expect("piped").write_all(b"x\n").expect("it reads");
    assert_eq!(sandbox.wait().expect("it ends").code(), Some(9));
    assert_eq!(sandbox.wait().expect("as often as one likes").code(), Some(9));
    assert_eq!(first.wait().expect("it has ended").code(), Some(9));

    // The sandbox goes on without its first process.
    assert_eq!(sandbox.command("sh").args(["-c", "exit 2"]).status().expect("it runs").code(), Some(2));
    assert!(matches!(first.signal(4711), Err(Error::ProcessEnded(1))));
    let mut other = sandbox.command("sleep").arg("100").spawn().expect("it runs");
    assert_eq!(other.signal(4711).expect_err("no such signal").errno(), Some(libc::EINVAL));
    other.signal(0).expect("it is there");
}

#[test]
fn waiting_has_an_end() {
    let sandbox = start();
    let soon = Duration::from_millis(50);
    let mut child = sandbox.command("sh").args(["-c", "read x; exit 3"]).stdin(Stdio::piped()).spawn().expect("runs");
    let begin = Instant::now();
    assert_eq!(sandbox.wait_timeout(soon).expect("it lives"), None);
    assert!(begin.elapsed() >= soon);
    // Another thread waits without a limit meanwhile.
    thread::scope(|scope| {
        let ever = scope.spawn(|| sandbox.wait());
        sleep(soon);
        assert_eq!(sandbox.wait_timeout(soon).expect("it lives"), None);
        child.stdin.take().expect("piped").write_all(b"x\n").expect("it reads");
        assert_eq!(child.wait_timeout(Duration::from_secs(20)).expect("it ends").and_then(|s| s.code()), Some(3));
        assert_eq!(ever.join().expect("no panic").expect("it ended").code(), Some(3));
    });
    assert_eq!(sandbox.wait_timeout(soon).expect("it ended").and_then(|s| s.code()), Some(3));

    let mut child = sandbox.command("sleep").arg("100").spawn().expect("runs");
    assert_eq!(child.wait_timeout(soon).expect("it lives"), None);
    assert_eq!(child.wait_timeout(Duration::ZERO).expect("it lives"), None);
    child.kill().expect("it lives");
    assert!(child.wait_timeout(Duration::MAX).expect("it ends").is_some());
    // Its end has been told, but not asked for.
    let mut other = sandbox.command("true").spawn().expect("runs");
    until("its end", || {
        other.kill().is_ok() && !sandbox.processes().expect("lives").iter().any(|p| p.pid == other.id())
    });
    other.kill().expect("to kill what has ended is no error");

    let output = sandbox.command("sh").args(["-c", "echo out; echo err >&2"]).output_timeout(Duration::from_secs(20));
    assert_eq!(output.expect("in time").stdout, b"out\n");
    let late =
        sandbox.command("sh").args(["-c", "echo out; exec sleep 100"]).output_timeout(Duration::from_millis(500));
    let error = late.expect_err("too late");
    assert_eq!(error.to_string(), "sh did not end within 500ms");
    assert!(matches!(&error, Error::TimedOut { output, .. } if output.0 == b"out\n"));
    until("its death", || sandbox.processes().expect("it lives").is_empty());
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn errors_are_io_errors_too() {
    fn run(sandbox: &Sandbox) -> std::io::Result<()> {
        sandbox.command("/none").status()?;
        Ok(())
    }
    let sandbox = start();
    let error = run(&sandbox).expect_err("there is no such program");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    assert!(matches!(inner, Some(Error::Spawn { errno: libc::ENOENT, .. })), "{inner:?}");
    let error = Sandbox::builder().hostname("?").start().expect_err("no host name");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn many_at_once_from_many_threads() {
    let sandbox = Arc::new(start());
    let threads: Vec<_> = (0..6)
        .map(|t| {
            let sandbox = sandbox.clone();
            thread::spawn(move || {
                for i in 0..10 {
                    let code = (t * 10 + i) % 200;
                    let script = format!("echo {code}; exit {code}");
                    let output = sandbox.command("sh").args(["-c", &script]).output().expect("it runs");
                    assert_eq!(output.status.code(), Some(code));
                    assert_eq!(output.stdout, format!("{code}\n").into_bytes());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("no panic"));
    assert_eq!(sandbox.processes().expect("it lives").len(), 0, "all were reaped");
}

/// A program asks for processes to be kept ready, and before the supervisor has heard it, it needs one itself.
#[test]
fn a_spawn_while_a_program_asks_for_processes_in_reserve() {
    let sandbox = start();
    let supervisor = sandbox.supervisor() as i32;
    let mut first = sandbox.command("sh").args(["-c", "/usr/bin/true && exit 3"]).spawn().expect("it runs");
    // SAFETY: the supervisor is ours and lives.
    unsafe { libc::kill(supervisor, libc::SIGSTOP) };
    // Long enough for the shell to ask; where it was faster than the signal, there is nothing to see here.
    sleep(Duration::from_millis(100));
    let second = thread::scope(|scope| {
        let second = scope.spawn(|| sandbox.command("true").status());
        sleep(Duration::from_millis(50));
        // SAFETY: as above.
        unsafe { libc::kill(supervisor, libc::SIGCONT) };
        second.join().expect("no panic")
    });
    assert!(second.expect("it runs").success());
    assert_eq!(first.wait().expect("it ends").code(), Some(3));
}

#[test]
fn pausing_stops_everything_and_nests() {
    let sandbox = start();
    let script = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count-$1.new; mv /tmp/count-$1.new /tmp/count-$1; done";
    let mut busy: Vec<_> = (0..3)
        .map(|n| sandbox.command("sh").args(["-c", script, "sh", &n.to_string()]).spawn().expect("it runs"))
        .collect();
    // One that makes no system call at all, one that sleeps, one that waits for input.
    let mut spin = sandbox.command("sh").args(["-c", "while :; do :; done"]).spawn().expect("it runs");
    let mut sleeper = sandbox.command("sleep").arg("0.3").spawn().expect("it runs");
    let mut reader = sandbox.command("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let counts = || -> Vec<Vec<u8>> {
        (0..3).map(|n| sandbox.read_file(format!("/tmp/count-{n}")).unwrap_or_default()).collect()
    };
    until("progress", || counts().iter().all(|c| !c.is_empty()));
    sandbox.pause().expect("it lives");
    sandbox.pause().expect("it lives");
    sleep(Duration::from_millis(50));
    let before = counts();
    spin.signal(libc::SIGTERM).expect("it lives");
    reader.stdin.as_mut().expect("piped").write_all(b"line\n").expect("the pipe has room");
    // Outside goes on: files can be written and read, processes started.
    sandbox.write_file("/tmp/while-paused", "x").expect("it lives");
    let mut late = sandbox.command("sh").args(["-c", "echo late > /tmp/late"]).spawn().expect("it starts");
    sleep(Duration::from_millis(500));
    assert_eq!(counts(), before, "a paused process ran");
    assert!(sandbox.read_file("/tmp/late").is_err(), "what was started while paused ran");
    assert_eq!(spin.try_wait().expect("it lives"), None, "a signal was delivered while paused");
    assert_eq!(sleeper.try_wait().expect("it lives"), None, "a sleeper woke while paused");
    sandbox.unpause().expect("it was paused twice");
    sleep(Duration::from_millis(200));
    assert_eq!(counts(), before, "one unpause of two was enough");
    assert_eq!(spin.try_wait().expect("it lives"), None);
    sandbox.unpause().expect("it was paused twice");
    until("progress", || counts().iter().zip(&before).all(|(now, then)| now != then));
    assert_eq!(spin.wait().expect("it ends").signal(), Some(libc::SIGTERM));
    assert!(sleeper.wait().expect("it ends").success());
    assert!(late.wait().expect("it ends").success());
    assert_eq!(sandbox.read_file("/tmp/late").expect("written"), b"late\n");
    assert_eq!(reader.wait_with_output().expect("it ends").stdout, b"line\n");
    assert!(sandbox.unpause().is_err(), "it is not paused any more");
    for child in &mut busy {
        child.kill().expect("it lives");
        child.wait().expect("it ends");
    }
}

#[test]
fn a_paused_sandbox_can_be_stopped() {
    let sandbox = start();
    let mut child = sandbox.command("sleep").arg("100").spawn().expect("it runs");
    sandbox.pause().expect("it lives");
    let supervisor = sandbox.supervisor();
    sandbox.stop();
    assert!(matches!(child.wait(), Err(Error::Ended(_))));
    assert!(!PathBuf::from(format!("/proc/{supervisor}")).exists());
}

#[test]
fn files_from_outside() {
    let sandbox = start();
    let big: Vec<u8> = (0..5_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
    sandbox.write_file("/tmp/big", &big).expect("written");
    assert!(sandbox.read_file("/tmp/big").expect("read") == big);
    let sum = sandbox.command("sh").args(["-c", "wc -c < /tmp/big"]).output().expect("it runs");
    assert_eq!(sum.stdout, b"5000000\n");
    sandbox.write_file("/tmp/big", "short").expect("replaced");
    assert_eq!(sandbox.read_file("/tmp/big").expect("read"), b"short");
    sandbox.write_file("/tmp/empty", "").expect("written");
    assert_eq!(sandbox.read_file("/tmp/empty").expect("read"), b"");
    sandbox.write_file_mode("/tmp/tool", "#!/bin/sh\necho tool\n", 0o755).expect("written");
    assert_eq!(sandbox.command("/tmp/tool").output().expect("it runs").stdout, b"tool\n");
    assert!(sandbox.read_file("/proc/version").expect("read").starts_with(b"Linux version"));
    assert!(!PathBuf::from("/tmp/tool").exists(), "the host saw it");

    let errno = |r: drupe::Result<Vec<u8>>| r.expect_err("it cannot be read").errno();
    assert_eq!(errno(sandbox.read_file("/no/such")), Some(libc::ENOENT));
    assert_eq!(errno(sandbox.read_file("/tmp")), Some(libc::EISDIR));
    assert_eq!(sandbox.write_file("/no/such", "x").expect_err("no directory").errno(), Some(libc::ENOENT));
    assert_eq!(sandbox.write_file("/tmp", "x").expect_err("a directory").errno(), Some(libc::EISDIR));
    assert!(matches!(sandbox.read_file("relative"), Err(Error::Setting(_))));
    let text = sandbox.read_file("/no/such").expect_err("missing").to_string();
    assert!(text.contains("/no/such") && text.contains("No such file"), "{text}");

    // What would block or never end is refused: the supervisor serves everybody.
    assert!(sandbox.command("mkfifo").arg("/tmp/fifo").status().expect("it runs").success());
    assert!(sandbox.read_file("/tmp/fifo").is_err());
    assert!(sandbox.write_file("/tmp/fifo", "x").is_err());
    assert!(sandbox.read_file("/dev/zero").is_err());
    assert!(sandbox.command("true").status().expect("it still serves").success());
}

#[test]
fn clear_errors() {
    let sandbox = start();
    let spawn = |program: &str| sandbox.command(program).spawn().expect_err("it cannot run");
    for (program, errno) in [("no-such-program", libc::ENOENT), ("/no/such", libc::ENOENT), ("/etc", libc::EACCES)] {
        match spawn(program) {
            Error::Spawn { program: named, errno: got, message } => {
                assert_eq!((named.as_str(), got), (program, errno), "{message}");
                assert!(message.contains(program), "{message}");
            }
            other => panic!("{program}: {other:?}"),
        }
    }
    assert!(matches!(spawn(""), Error::Setting(_)));
    assert!(matches!(spawn("a\0b"), Error::Setting(_)));
    assert!(matches!(sandbox.command("true").arg("a\0b").spawn(), Err(Error::Setting(_))));
    assert!(matches!(sandbox.command("true").env("", "x").spawn(), Err(Error::Setting(_))));
    assert!(matches!(sandbox.command("true").env("A=B", "x").spawn(), Err(Error::Setting(_))));
    assert!(matches!(sandbox.command("true").current_dir("relative").spawn(), Err(Error::Setting(_))));
    let text = sandbox.command("true").current_dir("/no/such").spawn().expect_err("no directory").to_string();
    assert!(text.contains("/no/such") && text.contains("No such file"), "{text}");

    let dir = scratch("root");
    let b = Sandbox::builder;
    assert!(matches!(b().root("/no/such").start(), Err(Error::Path { .. })));
    assert!(matches!(b().root("/etc/passwd").start(), Err(Error::Path { .. })));
    assert!(matches!(b().bind("/no/such", "/mnt", true).start(), Err(Error::Path { .. })));
    assert!(matches!(b().bind(&dir, "mnt", true).start(), Err(Error::Setting(_))));
    assert!(matches!(b().tmpfs("mnt").start(), Err(Error::Setting(_))));
    assert!(matches!(b().hostname("not a name").start(), Err(Error::Setting(_))));
    assert!(matches!(b().memory(1).start(), Err(Error::Setting(_))));
    let unknown = b().strace(["no_such_call"]).start().expect_err("no such call").to_string();
    assert!(unknown.contains("no_such_call"), "{unknown}");

    // With a root of its own there is no directory that a relative path could start from.
    let own = b().root(&dir).start().expect("an empty root will do");
    assert!(matches!(own.command("bin/sh").spawn(), Err(Error::Setting(_))));
    match own.command("/bin/sh").spawn() {
        Err(Error::Spawn { errno, .. }) => assert_eq!(errno, libc::ENOENT),
        other => panic!("{other:?}"),
    }

    sandbox.stop();
    sandbox.stop();
    assert!(matches!(sandbox.command("true").spawn(), Err(Error::Ended(_))));
    assert!(matches!(sandbox.read_file("/etc/passwd"), Err(Error::Ended(_))));
    assert!(matches!(sandbox.pause(), Err(Error::Ended(_))));
    assert!(matches!(sandbox.processes(), Err(Error::Ended(_))));
}

#[test]
fn a_killed_supervisor_is_told() {
    let sandbox = start();
    let mut child = sandbox.command("sleep").arg("100").spawn().expect("it runs");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(sandbox.supervisor() as i32), nix::sys::signal::Signal::SIGKILL)
        .expect("ours");
    let text = child.wait().expect_err("it is gone").to_string();
    assert!(text.contains("supervisor") && text.contains("9"), "{text}");
    assert!(matches!(sandbox.command("true").spawn(), Err(Error::Ended(_))));
}

#[test]
fn trace_goes_to_its_file() {
    let path = scratch("strace").join("log");
    let file = fs::File::create(&path).expect("ours");
    let sandbox = Sandbox::builder().strace(["openat", "read"]).strace_file(file).log_level(LogLevel::Off);
    let sandbox = sandbox.start().expect("it starts");
    assert!(sandbox.command("cat").arg("/etc/passwd").stdout(Stdio::null()).status().expect("it runs").success());
    drop(sandbox);
    let log = fs::read_to_string(path).expect("written");
    assert!(log.contains("\"/etc/passwd\""), "{log}");
    assert!(log.lines().all(|l| l.contains("openat(") || l.contains("read(")), "{log}");
}

/// Descriptors of this process that are not another test's: counted in a process of its own.
#[test]
fn dropped_in_any_order_nothing_is_left() {
    if std::env::var_os("DRUPE_TEST_ALONE").is_none() {
        let me = std::env::current_exe().expect("a test binary");
        let mut alone = std::process::Command::new(me);
        alone.args(["--exact", "dropped_in_any_order_nothing_is_left"]).env("DRUPE_TEST_ALONE", "1");
        let output = alone.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let count = || (fs::read_dir("/proc/self/fd").expect("proc").count(), children_of_mine());
    drop(start());
    let before = count();
    assert_eq!(before.1, 0, "a supervisor was left");
    for order in 0..6 {
        let sandbox = start();
        let mut command = sandbox.command("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().expect("it runs");
        match order {
            0 => drop((child, command, sandbox)),
            1 => drop((sandbox, command, child)),
            2 => drop((command, sandbox, child)),
            3 => drop((child, sandbox, command)),
            4 => {
                sandbox.stop();
                drop((child, command, sandbox));
            }
            _ => {
                // A handle that goes closes its pipes and leaves the process alone.
                drop(sandbox.command("sleep").arg("100").spawn().expect("it runs"));
                drop(child);
                until("cat's end", || sandbox.processes().expect("it lives").len() == 1);
                assert!(sandbox.command("true").status().expect("it lives").success());
                drop((command, sandbox));
            }
        }
        assert_eq!(count(), before, "order {order}");
    }
}

fn children_of_mine() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("proc");
    let lists = tasks.filter_map(|t| fs::read_to_string(t.ok()?.path().join("children")).ok());
    lists.map(|list| list.split_whitespace().count()).sum()
}

#[test]
fn a_sandbox_whose_time_is_over_says_so() {
    let limit = Duration::from_millis(300);
    let sandbox = Sandbox::builder().timeout(limit).start().expect("this host runs drupe");
    let mut child = sandbox.command("sleep").arg("100").spawn().expect("it starts");
    let error = child.wait().expect_err("it cannot end by itself");
    assert!(matches!(error, drupe::Error::Expired(l) if l == limit), "{error}");
    assert_eq!(error.errno(), Some(libc::ETIMEDOUT));
    assert!(sandbox.command("true").spawn().is_err());
}
