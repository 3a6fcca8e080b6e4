//! What a process uses, as the host counts it.

use super::system::host_file;
use crate::task::Task;
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

/// Nanoseconds of a host's clock tick.
const TICK: u64 = 10_000_000;

fn host_entry(task: &Task, name: &str) -> Option<Vec<u8>> {
    let pid = task.slot()?.host_tgid.load(SeqCst);
    let text = host_file(format!("{pid}/{name}").as_bytes());
    (pid != 0 && !text.is_empty()).then_some(text)
}

/// User and system CPU time in ns, that of earlier host processes included.
pub fn cpu_times(task: &Task) -> [u64; 2] {
    let now = host_entry(task, "stat").and_then(|t| times_in(&t)).unwrap_or_default();
    [0, 1].map(|i: usize| task.group.cpu_time(i, now[i]))
}

/// The 14th and 15th field of `stat`; the second may hold anything, in brackets.
fn times_in(stat: &[u8]) -> Option<[u64; 2]> {
    let after_name = stat.iter().rposition(|&b| b == b')')? + 1;
    let mut fields = core::str::from_utf8(stat.get(after_name..)?).ok()?.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok().map(|ticks| ticks * TICK);
    Some([next()?, next()?])
}

/// Resident anonymous memory and pages of files in KiB; the kernel window is shared memory and not counted.
pub fn resident(task: &Task) -> Option<[u64; 2]> {
    let status = host_entry(task, "status")?;
    Some([line_in(&status, "RssAnon:")?, line_in(&status, "RssFile:")?])
}

fn line_in(status: &[u8], name: &str) -> Option<u64> {
    let line = core::str::from_utf8(status).ok()?.lines().find_map(|l| l.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let stat = b"12 (a) b) S 1 12 12 0 -1 4194304 9 0 0 0 37 5 0 0 20 0 1 0 100 0 0";
        assert_eq!(times_in(stat), Some([37 * TICK, 5 * TICK]));
        assert_eq!(times_in(b"12 (a"), None);
        assert_eq!(line_in(b"Name:\tx\nRssAnon:\t    1234 kB\n", "RssAnon:"), Some(1234));
    }
}
