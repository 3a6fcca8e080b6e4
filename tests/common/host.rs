//! What the tests see of a sandbox from the host: its processes, its memory, its filter.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A control group of its own: whatever starts in it is found in it, whoever its parent became.
pub struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// A new one below the first hierarchy that lets us, version 2 or 1. `None`, and a line that says so, on a
    /// host where none does.
    pub fn new() -> Option<Cgroup> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("drupe-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let hierarchies = ["", "unified", "pids", "freezer", "systemd"].map(|h| Path::new("/sys/fs/cgroup").join(h));
        for hierarchy in hierarchies.iter().filter(|h| h.join("cgroup.procs").exists()) {
            let dir = hierarchy.join(&name);
            if fs::create_dir(&dir).is_err() {
                continue;
            }
            let group = Cgroup { dir };
            // Some hierarchies let a directory be made and nobody in.
            let mut probe = Command::new("/bin/true");
            if group.enter(&mut probe).status().is_ok_and(|s| s.success()) {
                return Some(group);
            }
        }
        eprintln!("skipped: control group");
        None
    }

    /// The command will start in it.
    pub fn enter<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let procs = File::options().write(true).open(self.dir.join("cgroup.procs"));
        // SAFETY: the child makes one system call on a descriptor that was opened before the fork.
        unsafe { command.pre_exec(move || procs.as_ref().map_err(|e| std::io::Error::from(e.kind()))?.write_all(b"0")) }
    }

    /// Host process ids of who is in it, zombies included.
    pub fn processes(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).collect()
    }

    /// Waits until it is empty; how long that took.
    pub fn emptied(&self, grace: Duration) -> Result<Duration, String> {
        let start = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(start.elapsed());
            }
            if start.elapsed() > grace {
                return Err(left.iter().map(|&pid| describe(pid)).collect::<Vec<_>>().join("; "));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.emptied(Duration::from_secs(5));
        let _ = fs::remove_dir(&self.dir);
    }
}

fn describe(pid: i32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    format!("process {pid}: {} {}", read("stat").trim(), read("wchan"))
}

/// The fields of `/proc/PID/stat` behind the name: state, parent, …
pub fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_string).collect())
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Children of a host process.
pub fn children(pid: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&p| parent(p) == Some(pid)).collect()
}

/// Launcher, supervisor and everything below: all host processes of a sandbox.
pub fn family(launcher: i32) -> Vec<i32> {
    let mut all = vec![launcher];
    let mut at = 0;
    while at < all.len() {
        all.extend(children(all[at]));
        at += 1;
    }
    all
}

/// Ticks of CPU time, user and system, that a process has used.
pub fn cpu_ticks(pid: i32) -> u64 {
    let stat = stat(pid).unwrap_or_default();
    [11, 12].iter().filter_map(|&i| stat.get(i)?.parse::<u64>().ok()).sum()
}

/// Proportional set size in KiB.
pub fn pss_kib(pid: i32) -> u64 {
    rollup_kib(pid, &["Pss:"])
}

/// As [`pss_kib`], of what lies in no file: the host cannot drop that, and nobody else has it.
pub fn own_kib(pid: i32) -> u64 {
    rollup_kib(pid, &["Pss_Anon:", "Pss_Shmem:"])
}

fn rollup_kib(pid: i32, fields: &[&str]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let value = |field: &&str| {
        let line = text.lines().find_map(|l| l.strip_prefix(field));
        line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
    };
    fields.iter().map(value).sum()
}

/// Waits until `found` finds something.
pub fn wait_for<T>(what: &str, limit: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(t) = found() {
            return t;
        }
        assert!(start.elapsed() < limit, "{what}: not after {limit:?}");
        thread::sleep(Duration::from_millis(2));
    }
}
