//! What a process uses, as the host and its own calls count it.

use super::process::View;
use super::system::host_file;
use crate::abi::{Errno, Result};
use crate::task::{Task, io_count};
use alloc::format;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::SeqCst;

/// Nanoseconds of a host's clock tick.
const TICK: u64 = 10_000_000;

/// A file of the host's directory of the process, or of the thread itself.
fn host_entry(task: &Task, name: &str, thread: bool) -> Vec<u8> {
    let Some(slot) = task.slot() else { return Vec::new() };
    let (pid, tid) = (slot.host_tgid.load(SeqCst), slot.host_tid.load(SeqCst));
    match (pid, tid) {
        (0, _) => Vec::new(),
        (_, tid) if thread && tid != 0 => host_file(format!("{pid}/task/{tid}/{name}").as_bytes()),
        _ => host_file(format!("{pid}/{name}").as_bytes()),
    }
}

/// User and system CPU time in ns, that of earlier host processes included.
pub fn cpu_times(task: &Task) -> [u64; 2] {
    let now = times_in(&host_entry(task, "stat", false)).unwrap_or_default();
    [0, 1].map(|i: usize| task.group.cpu_time(i, now[i]))
}

/// The fields of `stat` behind the second, which may hold anything, in brackets.
fn fields(stat: &[u8]) -> Option<impl Iterator<Item = u64>> {
    let after_name = stat.iter().rposition(|&b| b == b')')? + 1;
    let text = core::str::from_utf8(stat.get(after_name..)?).ok()?;
    Some(text.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)))
}

/// The 14th and 15th field of `stat`.
fn times_in(stat: &[u8]) -> Option<[u64; 2]> {
    let mut fields = fields(stat)?.skip(11);
    Some([fields.next()? * TICK, fields.next()? * TICK])
}

/// What the host says of a thread, or of the thread that it was when it still ran.
pub struct Host {
    status: Vec<u8>,
    stat: Vec<u8>,
}

impl Host {
    /// Asks the host.
    pub fn of(task: &Task) -> Host {
        Host { status: host_entry(task, "status", true), stat: host_entry(task, "stat", true) }
    }

    /// The number of a line of `status`, whose unit, if any, is KiB.
    pub fn line(&self, name: &str) -> Option<u64> {
        let line = core::str::from_utf8(&self.status).ok()?.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim_end().parse().ok()
    }

    /// Resident anonymous memory, pages of files and shared memory in KiB. The kernel window is shared memory as well,
    /// and cannot be told from it: shared memory of guests is not counted.
    pub fn resident(&self) -> [u64; 3] {
        [self.line("RssAnon:").unwrap_or(0), self.line("RssFile:").unwrap_or(0), 0]
    }

    /// Minor and major page faults.
    pub fn faults(&self) -> [u64; 2] {
        let all = || fields(&self.stat)?.nth(7);
        let major = || fields(&self.stat)?.nth(9);
        [all().unwrap_or(0), major().unwrap_or(0)]
    }

    /// The CPU that it ran on last.
    pub fn processor(&self) -> u64 {
        let field = || fields(&self.stat)?.nth(36);
        field().unwrap_or(0)
    }
}

/// `schedstat`: ns on a CPU, ns of waiting for one, and how often it ran.
pub fn schedstat(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let text = host_entry(task, "schedstat", true);
    Ok(if text.is_empty() { b"0 0 0\n".to_vec() } else { text })
}

/// `io`: bytes and calls of reading and writing, and what of it went to the host's disks.
pub fn io(task: &Task, view: &View<'_>) -> Result<Vec<u8>> {
    super::process::may_look(task, view).map_err(|_| Errno::EACCES)?;
    let [rchar, wchar, syscr, syscw] = io_count::total(task, view.whole);
    let host = host_entry(task, "io", false);
    let host = core::str::from_utf8(&host).unwrap_or("");
    let mut out = format!("rchar: {rchar}\nwchar: {wchar}\nsyscr: {syscr}\nsyscw: {syscw}\n");
    for name in ["read_bytes", "write_bytes", "cancelled_write_bytes"] {
        let n = host.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("0");
        let _ = writeln!(out, "{name}: {n}");
    }
    Ok(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let stat = b"12 (a) b) S 1 12 12 0 -1 4194304 9 0 3 0 37 5 0 0 20 0 1 0 100 0 0";
        assert_eq!(times_in(stat), Some([37 * TICK, 5 * TICK]));
        assert_eq!(times_in(b"12 (a"), None);
        let host = Host {
            status: b"Name:\tx\nRssAnon:\t    1234 kB\nvoluntary_ctxt_switches:\t7\n".to_vec(),
            stat: stat.to_vec(),
        };
        assert_eq!((host.line("RssAnon:"), host.line("voluntary_ctxt_switches:")), (Some(1234), Some(7)));
        assert_eq!(host.faults(), [9, 3]);
    }
}
