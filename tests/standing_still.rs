//! What a sandbox costs while it does nothing, and after it did much.

mod common;

use common::DRUPE;
use common::host::{cpu_ticks, family, own_kib, pss_kib, stat};
use drupe::Sandbox;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const SETTLED: Duration = Duration::from_millis(500);

fn quiet(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn total(pids: &[i32], of: fn(i32) -> u64) -> u64 {
    pids.iter().map(|&p| of(p)).sum()
}

#[test]
fn a_sleeping_sandbox_uses_no_cpu_and_little_memory() {
    let native = quiet(Command::new("/bin/sleep").arg("100"));
    let launcher = quiet(Command::new(DRUPE).args(["run", "--", "/bin/sleep", "100"]));
    sleep(SETTLED);
    let pids = family(launcher.id() as i32);
    let before = total(&pids, cpu_ticks);
    let alone = own_kib(native.id() as i32);
    let (used, shown) = (total(&pids, own_kib), total(&pids, pss_kib));
    sleep(Duration::from_secs(3));
    let after = total(&pids, cpu_ticks);
    let still = family(launcher.id() as i32);
    let states: Vec<_> = pids.iter().map(|&p| stat(p).map(|s| s[0].clone())).collect();
    end(launcher);
    end(native);
    println!("{} processes, {used} KiB of {shown} in no file, native {alone} KiB", pids.len());
    assert!(pids.len() >= 2, "launcher and guest: {pids:?}");
    assert_eq!(still, pids, "processes came and went");
    assert_eq!(after, before, "ticks of CPU time; states {states:?}");
    // How much of the launcher's file is mapped with each page that is asked for is the host's choice, by how its cache
    // holds it: that bound is a wide one.
    let fits = used - alone <= 2 << 10 && shown <= 16 << 10;
    assert!(alone > 0 && fits, "{used} KiB in no file of {shown} for a sleeping sandbox, {alone} KiB natively");
}

/// Descriptors, and memory in KiB, of a sandbox on the host's side.
fn cost(sandbox: &Sandbox) -> (usize, u64) {
    let supervisor = sandbox.supervisor() as i32;
    let fds = fs::read_dir(format!("/proc/{supervisor}/fd")).expect("our child").count();
    (fds, total(&family(supervisor), pss_kib))
}

#[test]
fn a_thousand_processes_leave_the_sandbox_as_ten_do() {
    let sandbox = Sandbox::builder().start().expect("it starts");
    let processes = |n: u32| {
        let script = format!("i=0; while [ $i -lt {n} ]; do /bin/true; i=$((i+1)); done");
        let status = sandbox.command("/bin/sh").args(["-c", &script]).status().expect("it runs");
        assert!(status.success());
        sleep(SETTLED);
    };
    processes(10);
    let (fds, memory) = cost(&sandbox);
    processes(1000);
    let (mut fds_after, mut memory_after) = cost(&sandbox);
    // On a busy host the last ones go later.
    for _ in 0..20 {
        if fds_after == fds && memory_after <= memory + 1024 {
            break;
        }
        sleep(SETTLED);
        (fds_after, memory_after) = cost(&sandbox);
    }
    println!("{fds} descriptors and {memory} KiB, after 1,000 processes {fds_after} and {memory_after} KiB");
    assert_eq!(fds_after, fds, "host descriptors");
    assert!(memory_after <= memory + 1024, "{memory} KiB after 10 processes, {memory_after} KiB after 1,000");
}
