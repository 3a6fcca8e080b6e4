//! `--memory` bounds the kernel, files in memory and what programs have of their own, together.

mod common;

use common::{Link, Outcome, compile, run, sandboxed};
use drupe::{Happening, Sandbox};
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn hog() -> Option<PathBuf> {
    compile("hog", Link::Dynamic)
}

/// Runs a script in which `$HOG` takes memory, with 96 MiB.
fn with_96(options: &[&str], script: &str) -> Option<Outcome> {
    let hog = hog()?;
    let script = format!("HOG={}; {script}", hog.display());
    Some(run(&mut sandboxed(&[&["--memory", "96M"], options].concat(), &["/bin/sh", "-c", &script]), LIMIT))
}

#[test]
fn a_program_that_takes_too_much_is_ended() {
    for options in [&[][..], &["--jail", "strict"], &["--jail", "off"], &["--user", "1234"]] {
        let Some(out) = with_96(options, "exec $HOG take 300 wait") else { return };
        assert_eq!((out.status, out.stdout.as_str()), (137, ""), "{options:?}: {}", out.stderr);
        assert!(out.stderr.contains("out of memory: ended process 1 (hog-Dynamic)"), "{}", out.stderr);
    }
    // The others go on, and the log says what happened.
    let Some(out) = with_96(&[], "$HOG take 300 wait; echo $?; $HOG take 40 log") else { return };
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!((out.status, lines.len(), &lines[..2]), (0, 3, &["137", "took 40"][..]), "{}{}", out.stdout, out.stderr);
    assert!(lines[2].starts_with("Out of memory: Killed process 2 (hog-Dynamic) total-vm:"), "{}", out.stdout);
    assert!(lines[2].ends_with("oom_score_adj:0"), "{}", out.stdout);
}

#[test]
fn the_one_with_the_most_is_ended_as_it_is_adjusted() {
    let small = "$HOG take 20 wait & small=$!; sleep 0.3; $HOG take 50 wait & large=$!; sleep 0.5; $HOG take 35 wait & sleep 0.2
        wait $large; echo large $?; kill $small; wait $small; echo small $?; kill $!";
    let Some(out) = with_96(&[], small) else { return };
    assert!(out.stdout.contains("large 137") && out.stdout.contains("small 143"), "{}{}", out.stdout, out.stderr);
    let adjusted =
        "$HOG adj 900 take 20 wait & small=$!; sleep 0.3; $HOG take 50 wait & large=$!; sleep 0.5; $HOG take 35 wait &
        wait $small; echo small $?; kill $large $!; wait $large; echo large $?";
    let Some(out) = with_96(&[], adjusted) else { return };
    assert!(out.stdout.contains("small 137") && out.stdout.contains("large 143"), "{}{}", out.stdout, out.stderr);
    let Some(out) = with_96(&["--user", "1234"], "$HOG adj -5 adj 7 adj 3 adj -1") else { return };
    assert_eq!(out.stdout, "adj: Permission denied\nadj: set\nadj: set\nadj: Permission denied\n", "{}", out.stderr);
    // It goes to children, and stays over exec.
    let Some(out) = with_96(&[], "$HOG adj 5; echo 7 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj") else {
        return;
    };
    assert_eq!(out.stdout, "adj: set\n7\n", "{}", out.stderr);
}

#[test]
fn what_cannot_be_there_is_refused() {
    let Some(out) = with_96(&[], "$HOG map 50 map 97 reserve 4000 map 50") else { return };
    assert_eq!(out.stdout, "map: yes\nmap: Cannot allocate memory\nreserve: yes\nmap: yes\n", "{}", out.stderr);
    let Some(out) = with_96(&[], "grep MemTotal /proc/meminfo") else { return };
    assert_eq!(out.stdout.split_whitespace().nth(1), Some("98304"), "{}", out.stdout);
}

#[test]
fn files_and_programs_share_it() {
    let Some(out) = with_96(&["--tmpfs", "/dev/shm"], "$HOG file 60 take 200 wait; echo $?") else { return };
    assert_eq!(out.stdout, "file: written\n137\n", "{}", out.stderr);
    let Some(out) = with_96(&["--tmpfs", "/dev/shm"], "$HOG take 60 file 60; echo $?") else { return };
    assert_eq!(out.stdout, "took 60\nfile: No space left on device\n0\n", "{}", out.stderr);
}

#[test]
fn what_programs_touch_of_shared_memory_counts() {
    // Whoever maps the most of it is ended, though none of it is its own; it is given back then.
    for _ in 0..2 {
        let Some(out) = with_96(&[], "$HOG take 20 share 200 wait; echo $?; $HOG common 60 share 20; echo $?") else {
            return;
        };
        assert_eq!(out.stdout, "took 20\n137\ncommon 60\nshared 20\n0\n", "{}", out.stderr);
    }
    let Some(out) = with_96(&[], "$HOG take 30 wait & other=$!; sleep 0.3; $HOG share 200 wait; echo $?; kill $other")
    else {
        return;
    };
    assert_eq!(out.stdout, "took 30\n137\n", "{}", out.stderr);
}

#[test]
fn page_tables_count() {
    let Some(out) = with_96(&[], "$HOG tables 60; $HOG tables 300; echo $?") else { return };
    assert_eq!(out.stdout, "tables 60\n137\n", "{}", out.stderr);
}

#[test]
fn what_forked_processes_have_in_common_counts_once() {
    let Some(out) = with_96(&[], "$HOG take 50 fork 5") else { return };
    let expected = format!("took 50\n{}", "child 700\n".repeat(5));
    assert_eq!((out.status, out.stdout), (0, expected), "{}", out.stderr);
    // A vforked child has its parent's memory, and its parent's process is about to end.
    let script =
        "import subprocess; b = bytearray(60 << 20); print({subprocess.call(['/bin/true']) for _ in range(100)})";
    if common::has("/usr/bin/python3") {
        let Some(out) = with_96(&[], &format!("/usr/bin/python3 -c \"{script}\"")) else { return };
        assert_eq!((out.status, out.stdout.as_str()), (0, "{0}\n"), "{}", out.stderr);
    }
}

#[test]
fn the_library_tells_of_it() {
    let Some(hog) = hog() else { return };
    let sandbox = Sandbox::builder().memory(96 << 20).start().expect("this host runs drupe");
    let status = sandbox.command(&hog).args(["take", "300", "wait"]).status().expect("it runs");
    assert_eq!(drupe::sandbox::shell_status(status), 137);
    let mut all = sandbox.happenings().expect("it is there");
    all.retain(|what| matches!(what, Happening::OutOfMemory { .. }));
    let [Happening::OutOfMemory { name, bytes, .. }] = &all[..] else { panic!("{all:?}") };
    assert!(name == "hog-Dynamic" && *bytes > 60 << 20, "{all:?}");
}
