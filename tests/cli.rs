//! The launcher: exit statuses, bad input, options.

mod common;

use common::{DRUPE, guest_dir, run, sandboxed};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

fn drupe(options: &[&str], program: &[&str]) -> common::Outcome {
    run(&mut sandboxed(options, program), LIMIT)
}

#[test]
fn status_is_the_programs() {
    for (script, status) in [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)] {
        assert_eq!(drupe(&[], &["/bin/sh", "-c", script]).status, status, "{script}");
    }
}

fn file(name: &str, bytes: &[u8]) -> String {
    let path = guest_dir().join(format!("cli-{name}"));
    fs::write(&path, bytes).expect("writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    path.to_str().expect("ASCII").to_string()
}

#[test]
fn what_cannot_run_is_one_line_and_the_right_status() {
    let elf = fs::read("/bin/true").expect("there is one");
    let mut elf32 = elf.clone();
    elf32[4] = 1;
    let mut outside = elf.clone();
    outside[32..40].copy_from_slice(&0x7fff_ffff_ffff_u64.to_le_bytes());
    let cases = [
        ("/does/not/exist".to_string(), 127),
        ("does-not-exist".to_string(), 127),
        ("/etc".to_string(), 126),
        (file("text", b"just text\n"), 126),
        (file("no-interpreter", b"#!/does/not/exist\n"), 127),
        (file("elf32", &elf32), 126),
        (file("truncated", &elf[..100]), 126),
        (file("outside", &outside), 126),
    ];
    for (program, status) in cases {
        let out = drupe(&[], &[&program]);
        assert_eq!(out.status, status, "{program}: {}", out.stderr);
        assert_eq!(out.stderr.lines().count(), 1, "{program}: {:?}", out.stderr);
    }
}

#[test]
fn our_own_errors_are_125() {
    let wrong: &[&[&str]] = &[
        &["--root", "/does/not/exist"],
        &["--root", "/etc/passwd"],
        &["--bind", "/does/not/exist"],
        &["--bind", "/tmp::rw"],
        &["--bind", "/tmp:relative"],
        &["--bind", "/tmp:/x:rx"],
        &["--bind", "/tmp:/x:rw:y"],
        &["--bind", "/tmp:/etc/passwd"],
        &["--bind", "/etc/passwd:/usr"],
        &["--bind", "/tmp:/dev/null"],
        &["--bind", "/tmp:/proc/self"],
        &["--tmpfs", "/etc/passwd"],
        &["--cpus", "100000"],
        &["--memory", "1000T"],
        &["--tmpfs", "relative"],
        &["--env", "NOVALUE"],
        &["--cwd", "/does/not/exist"],
        &["--cwd", "relative"],
        &["--hostname", "not a name"],
        &["--memory", "1K"],
        &["--strace=no_such_call"],
        &["--strace-file", "/does/not/exist"],
    ];
    for &options in wrong {
        let out = drupe(options, &["/bin/true"]);
        assert_eq!(out.status, 125, "{options:?}: {}", out.stderr);
        assert_eq!(out.stderr.trim_end().lines().count(), 1, "{options:?}: {:?}", out.stderr);
        let mount = options[0] == "--bind" || options[0] == "--tmpfs";
        // One part of it at least is named.
        let named =
            options[options.len() - 1].split(':').filter(|part| part.len() > 1).any(|part| out.stderr.contains(part));
        assert!(!mount || named, "{options:?}: {:?}", out.stderr);
    }
}

#[test]
fn environment_directory_and_names() {
    let out = drupe(
        &["--clear-env", "--env", "A=1", "--cwd", "/tmp", "--hostname", "box"],
        &["/bin/sh", "-c", "echo $A $HOME; pwd; uname -n; echo $$"],
    );
    assert_eq!(out.stdout, "1\n/tmp\nbox\n1\n", "{}", out.stderr);
    let out = drupe(&["--user", "1234:567"], &["/bin/sh", "-c", "id -u; id -g"]);
    assert_eq!(out.stdout, "1234\n567\n", "{}", out.stderr);
}

#[test]
fn the_kernel_is_ours() {
    let out = drupe(&[], &["/bin/sh", "-c", "uname -sr; cat /proc/version"]);
    assert!(out.stdout.contains("drupe"), "{}", out.stdout);
    assert!(out.stdout.lines().nth(1).is_some_and(|l| l.contains("drupe")), "{}", out.stdout);
}

#[test]
fn strace_names_calls() {
    let log = guest_dir().join("strace.log");
    let out = drupe(&["--strace", "--strace-file", log.to_str().expect("ASCII")], &["/bin/echo", "hi"]);
    assert_eq!((out.status, out.stdout.as_str()), (0, "hi\n"), "{}", out.stderr);
    let log = fs::read_to_string(log).expect("written");
    assert!(log.contains("write(1, \"hi\\n\""), "{log}");
}

#[test]
fn syscalls_and_doctor_print_tables() {
    let out = run(Command::new(DRUPE).arg("syscalls"), LIMIT);
    assert_eq!(out.status, 0);
    assert!(out.stdout.contains("openat") && out.stdout.contains("full"), "{}", out.stdout);
    let out = run(Command::new(DRUPE).arg("doctor"), LIMIT);
    assert_eq!(out.status, 0, "{}", out.stdout);
    assert!(out.stdout.contains("seccomp"), "{}", out.stdout);
}

#[test]
fn the_host_stays_as_it_is() {
    let dir = guest_dir().join("untouched");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("sub")).expect("ours");
    fs::write(dir.join("a"), "original").expect("ours");
    fs::write(dir.join("sub/b"), "original too").expect("ours");
    let d = dir.to_str().expect("ASCII");
    let script = format!(
        "cd {d} && echo changed > a && rm sub/b && mkdir new && echo x > new/y && mv a c && chmod 0 c && \
         ln -s c d && cat c && ls"
    );
    let out = drupe(&[], &["/bin/sh", "-c", &script]);
    assert_eq!((out.status, out.stdout.as_str()), (0, "changed\nc\nd\nnew\nsub\n"), "{}", out.stderr);
    assert_eq!(fs::read_to_string(dir.join("a")).expect("still there"), "original");
    assert_eq!(fs::read_to_string(dir.join("sub/b")).expect("still there"), "original too");
    let names: Vec<_> = fs::read_dir(&dir).expect("ours").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn binds_reach_the_host_when_asked() {
    let dir = guest_dir().join("bound");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("ours");
    let d = dir.to_str().expect("ASCII");
    let out =
        drupe(&["--bind", &format!("{d}:/mnt:rw")], &["/bin/sh", "-c", "echo from inside > /mnt/f && cat /mnt/f"]);
    assert_eq!((out.status, out.stdout.as_str()), (0, "from inside\n"), "{}", out.stderr);
    assert_eq!(fs::read_to_string(dir.join("f")).expect("written"), "from inside\n");
    let out = drupe(&["--bind", &format!("{d}:/mnt:ro")], &["/bin/sh", "-c", "echo x > /mnt/g"]);
    assert_ne!(out.status, 0);
    assert!(!dir.join("g").exists());
}

#[test]
fn usage_errors_are_125_and_help_is_0() {
    for wrong in [&["run"][..], &["nonsense"], &["run", "--memory", "1Q", "true"], &["run", "--user", "x", "true"], &[]]
    {
        let out = run(Command::new(DRUPE).args(wrong), LIMIT);
        assert_eq!((out.status, out.stdout.as_str()), (125, ""), "{wrong:?}");
        assert!(!out.stderr.is_empty(), "{wrong:?}");
    }
    for help in [&["--help"][..], &["run", "--help"], &["bench", "--help"], &["syscalls", "--help"], &["--version"]] {
        let out = run(Command::new(DRUPE).args(help), LIMIT);
        assert_eq!((out.status, out.stderr.as_str()), (0, ""), "{help:?}");
    }
    let out = run(Command::new(DRUPE).args(["run", "-h"]), LIMIT);
    assert!(out.stdout.contains("128+N") && out.stdout.contains("127"), "{}", out.stdout);
}

/// A shell script, natively and with `drupe run --` for `$R`: both must print the same.
fn as_natively(script: &str) {
    let with = |prefix: &str| run(Command::new("sh").args(["-c", script]).env("R", prefix), LIMIT);
    let native = with("");
    assert_eq!(with(&format!("{DRUPE} run --")), native, "{script}");
}

#[test]
fn standard_streams_are_as_natively() {
    as_natively("echo pipe | $R cat; $R cat < /etc/passwd | cksum; $R cat < /dev/null; echo $?");
    as_natively(
        "$R cat <&- 2>/dev/null; echo $?; $R echo x >&- 2>/dev/null; echo $?; $R ls /does/not/exist 2>&-; echo $?",
    );
    as_natively("$R seq 300000 | cksum; $R head -c 50000000 /dev/zero | wc -c");
    // A reader that goes away.
    as_natively("{ $R yes; echo $? >&2; } | head -1");
    as_natively("$R sh -c 'sleep 0.2; echo late' | cat; $R sh -c '(sleep 0.1; echo child) & wait'");
}

#[test]
fn signals_at_the_launcher_reach_the_program() {
    // A background job of a shell without job control ignores SIGINT and SIGQUIT, as any program there does.
    for signal in ["INT", "QUIT", "TERM", "HUP", "USR1", "USR2", "WINCH"] {
        let guest = format!("trap 'echo got {signal}; exit 5' {signal}; echo ready; while :; do sleep 0.05; done");
        let number: nix::sys::signal::Signal = format!("SIG{signal}").parse().expect("a signal");
        let mut command = Command::new(DRUPE);
        command.args(["run", "--", "bash", "-c", &guest]).stdout(std::process::Stdio::piped());
        let mut child = common::with_default_signals(&mut command).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        assert_eq!(lines.next().as_deref(), Some("ready"));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), number).expect("ours");
        assert_eq!(lines.next(), Some(format!("got {signal}")));
        assert_eq!(child.wait().expect("ours").code(), Some(5), "{signal}");
    }
    as_natively("exec 2>/dev/null; $R sleep 60 & sleep 0.4; kill -TERM $!; wait $!; echo $?");
    as_natively("exec 2>/dev/null; $R sh -c 'exec kill -SEGV $$'; echo $?");
}

#[test]
fn mounts_and_limits_are_as_asked_for() {
    let script = "echo a > /mnt/x/b; cat /mnt/x/b; grep -c ' /mnt/x tmpfs rw' /proc/mounts";
    let out = drupe(&["--tmpfs", "/mnt/x"], &["/bin/sh", "-c", script]);
    assert_eq!((out.status, out.stdout.as_str()), (0, "a\n1\n"), "{}", out.stderr);
    let script = "dd if=/dev/zero of=/tmp/fill bs=1M 2>&1 | grep -c 'No space'; rm /tmp/fill; echo ok > /tmp/fill; cat /tmp/fill";
    let out = drupe(&["--memory", "64M"], &["/bin/sh", "-c", script]);
    assert_eq!((out.status, out.stdout.as_str()), (0, "1\nok\n"), "{}", out.stderr);
    // Names without data take kernel memory: what is left does to remove them.
    let script = "mkdir /tmp/q && cd /tmp/q && seq 300000 | xargs mkdir 2>&1 | head -1 | grep -c 'No space'; \
                  ls | wc -l | grep -c '.....'; cd / && rm -r /tmp/q && mkdir /tmp/q && ls /tmp/q && echo ok";
    let out = drupe(&["--memory", "64M"], &["/bin/sh", "-c", script]);
    assert_eq!((out.status, out.stdout.as_str()), (0, "1\n1\nok\n"), "{}", out.stderr);
    let out = drupe(&["--strace=openat,read"], &["cat", "/etc/passwd"]);
    assert!(out.stderr.contains("openat(") && !out.stderr.contains("mmap("), "{}", out.stderr);
    let out = drupe(&["--log", "debug"], &["true"]);
    assert!(!out.stderr.is_empty());
    let out = drupe(&["--log", "off"], &["true"]);
    assert_eq!(out.stderr, "");
}

#[test]
fn lists_end_quietly_with_their_reader() {
    as_natively("seq 100000 | head -1 > /dev/null; echo same");
    let script = format!(
        "for v in 'syscalls' 'syscalls --json' doctor; do {DRUPE} $v | true; done; {DRUPE} doctor --json | head -1"
    );
    let out = run(Command::new("sh").args(["-c", &script]), LIMIT);
    assert_eq!((out.status, out.stdout.as_str(), out.stderr.as_str()), (0, "[\n", ""));
}

/// A writable bind shows what the host has now: names that were known to be absent, replaced files, files
/// that grew while they were open, removed ones.
#[test]
fn writable_binds_show_the_hosts_changes() {
    let dir = guest_dir().join("changing");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("ours");
    for name in ["replaced", "grown", "gone"] {
        fs::write(dir.join(name), "before\n").expect("ours");
    }
    let script = "cd /mnt && exec 3<grown && cat replaced grown gone <&3 && ls && ! cat new 2>/dev/null && : > ready && \
                  while [ ! -e go ]; do sleep 0.01; done; cat replaced new; cat <&3; cat gone 2>/dev/null || ls";
    let bind = format!("{}:/mnt:rw", dir.to_str().expect("ASCII"));
    let out = std::thread::scope(|s| {
        let out = s.spawn(|| drupe(&["--bind", &bind], &["/bin/sh", "-c", script]));
        while !dir.join("ready").exists() && !out.is_finished() {
            std::thread::sleep(Duration::from_millis(2));
        }
        fs::write(dir.join("other"), "after\n").expect("ours");
        fs::rename(dir.join("other"), dir.join("replaced")).expect("ours");
        fs::write(dir.join("new"), "new\n").expect("ours");
        fs::write(dir.join("grown"), "before\nand more\n").expect("ours");
        fs::remove_file(dir.join("gone")).expect("ours");
        fs::write(dir.join("go"), "").expect("ours");
        out.join().expect("drupe ran")
    });
    let want = "before\nbefore\nbefore\ngone\ngrown\nreplaced\nafter\nnew\nbefore\nand more\ngo\ngrown\nnew\nready\nreplaced\n";
    assert_eq!((out.status, out.stdout.as_str()), (0, want), "{}", out.stderr);
}
