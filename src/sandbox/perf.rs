//! Maps of the kernel image for `perf` on the host: `/tmp/perf-PID.map` of each host process of a sandbox.
//!
//! `perf` looks there for what it finds in memory of no file, so the image's code is a copy in such memory then. A thread of
//! the holder looks for new processes: those that live some milliseconds only may have none.

use super::image;
use drupe_kernel::abi::layout;
use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// How often it is looked for new processes.
const LOOK: Duration = Duration::from_millis(10);

/// Writes maps of the host processes below a supervisor, until its end. They stay: `perf report` reads them.
pub fn follow(supervisor: u32) {
    let Some(base) = window(supervisor) else { return };
    let text: String =
        image::symbols().iter().map(|(at, len, name)| format!("{:x} {len:x} {name}\n", base + at)).collect();
    let mut known = HashSet::new();
    loop {
        let Ok(list) = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")) else { return };
        let below = list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
        let now: HashSet<u32> = below.chain([supervisor]).collect();
        // The host gives numbers again.
        known.retain(|pid| now.contains(pid));
        for &pid in &now {
            if known.insert(pid) {
                // Another user's file of this name stays; nobody finds ours then.
                let _ = write(pid, text.as_bytes());
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// Puts a map in place as a whole; an older one of the same name goes.
fn write(pid: u32, text: &[u8]) -> io::Result<()> {
    let [path, new] = ["map", "map.new"].map(|end| PathBuf::from(format!("/tmp/perf-{pid}.{end}")));
    let _ = fs::remove_file(&new);
    let options = OpenOptions::new().write(true).create_new(true).mode(0o644).custom_flags(libc::O_NOFOLLOW).open(&new);
    options?.write_all(text)?;
    fs::rename(&new, path)
}

/// Where a supervisor's window begins: its heap is a mapping of the memory file at its place in the window.
fn window(supervisor: u32) -> Option<u64> {
    let maps = fs::read_to_string(format!("/proc/{supervisor}/maps")).ok()?;
    maps.lines().filter(|l| l.contains("/memfd:drupe")).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let start = u64::from_str_radix(fields.next()?.split('-').next()?, 16).ok()?;
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        (offset == layout::HEAP).then(|| start - layout::HEAP)
    })
}
