//! `/proc/PID/{smaps,smaps_rollup}`: what of each mapping is there. Only the host knows.

use super::process::{View, map_line, mappings};
use super::system::host_lines;
use crate::abi::linux::{PROT_EXEC, PROT_READ, PROT_WRITE};
use crate::abi::{Errno, Result};
use crate::mm::{Backing, Vma, VmaFlags};
use crate::task::{Task, lookup, work};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::SeqCst;

/// What is told of a mapping, in the order of the lines (`__show_smap` in `fs/proc/task_mmu.c`).
const NAMES: [&str; 19] = [
    "Rss",
    "Pss",
    "Pss_Dirty",
    "Shared_Clean",
    "Shared_Dirty",
    "Private_Clean",
    "Private_Dirty",
    "Referenced",
    "Anonymous",
    "KSM",
    "LazyFree",
    "AnonHugePages",
    "ShmemPmdMapped",
    "FilePmdMapped",
    "Shared_Hugetlb",
    "Private_Hugetlb",
    "Swap",
    "SwapPss",
    "Locked",
];

/// Those, in KiB.
type Counts = [u32; NAMES.len()];

/// A mapping of the host's.
struct Host {
    start: u64,
    end: u64,
    counts: Counts,
}

/// The host's mappings of a process with something in them, in order.
fn host_mappings(pid: u32) -> Result<Vec<Host>> {
    let mut all: Vec<Host> = Vec::new();
    let mut failed = None;
    host_lines(format!("{pid}/smaps").as_bytes(), |line| {
        let Ok(line) = core::str::from_utf8(line) else { return };
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if let Some(name) = first.strip_suffix(':') {
            let at = NAMES.iter().position(|n| *n == name);
            if let (Some(at), Some(last)) = (at, all.last_mut()) {
                last.counts[at] = second.parse().unwrap_or(0);
            }
            return;
        }
        let range = first.split_once('-').map(|(a, b)| (u64::from_str_radix(a, 16), u64::from_str_radix(b, 16)));
        let Some((Ok(start), Ok(end))) = range else { return };
        if all.last().is_some_and(|last| last.counts == Counts::default()) {
            all.pop();
        }
        match all.try_reserve(1) {
            Ok(()) => all.push(Host { start, end, counts: Counts::default() }),
            Err(_) => failed = Some(Errno::ENOMEM),
        }
    });
    failed.map_or(Ok(all), Err)
}

/// What the host knows of a task's mappings: only the process itself may ask where it is not dumpable.
fn look(task: &Task, view: &View<'_>) -> Result<Vec<Host>> {
    let host_pid = |task: &Task| task.slot().map_or(0, |slot| slot.host_tgid.load(SeqCst));
    if task.group.pid == view.tgid {
        return host_mappings(host_pid(task));
    }
    let direct = host_mappings(host_pid(task))?;
    if !direct.is_empty() {
        return Ok(direct);
    }
    let task = lookup(task.tid()).ok_or(Errno::ESRCH)?;
    work::run_on(&task, move |task| host_mappings(host_pid(task))).map_or(Ok(Vec::new()), |found| found)
}

/// What the host has in each mapping. Where one of the host's lies in several of the guest's its counts are shared out by
/// size.
fn share_out(mappings: &[Vma], host: &[Host]) -> Result<Vec<Counts>> {
    let mut all = Vec::new();
    all.try_reserve_exact(mappings.len()).map_err(|_| Errno::ENOMEM)?;
    all.resize(mappings.len(), Counts::default());
    let mut first = 0;
    for h in host {
        while mappings.get(first).is_some_and(|v| v.end <= h.start) {
            first += 1;
        }
        let mut left = h.counts;
        let within = || mappings.iter().enumerate().skip(first).take_while(|(_, v)| v.start < h.end);
        let covered: u64 = within().map(|(_, v)| v.end.min(h.end) - v.start.max(h.start)).sum();
        for (i, v) in within() {
            let size = v.end.min(h.end) - v.start.max(h.start);
            for ((to, left), n) in all[i].iter_mut().zip(&mut left).zip(h.counts) {
                let part = (u64::from(n) * size / covered.max(1)) as u32 & !3;
                let part = if size == covered { n } else { part.min(*left) };
                *to += part;
                *left -= part;
            }
        }
    }
    Ok(all)
}

fn lines(out: &mut String, counts: &Counts) {
    for (name, kib) in NAMES.iter().zip(counts) {
        let _ = writeln!(out, "{:<16}{kib:8} kB", format!("{name}:"));
    }
}

/// `VmFlags` (`show_smap_vma_flags`).
fn flags(v: &Vma) -> String {
    let mut out = String::from("VmFlags: ");
    let names = [
        (v.prot & PROT_READ != 0, "rd "),
        (v.prot & PROT_WRITE != 0, "wr "),
        (v.prot & PROT_EXEC != 0, "ex "),
        // Shared, but nobody may write through it, is private to Linux.
        (v.shared && v.may & PROT_WRITE != 0, "sh "),
        (v.may & PROT_READ != 0, "mr "),
        (v.may & PROT_WRITE != 0, "mw "),
        (v.may & PROT_EXEC != 0, "me "),
        (v.shared, "ms "),
        (v.flags.contains(VmaFlags::GROWS_DOWN), "gd "),
        (v.flags.contains(VmaFlags::LOCKED), "lo "),
        (v.flags.contains(VmaFlags::SEQUENTIAL), "sr "),
        (v.flags.contains(VmaFlags::RANDOM), "rr "),
        (v.flags.contains(VmaFlags::DONT_FORK), "dc "),
        (v.flags.contains(VmaFlags::ON_FAULT), "lf "),
        (v.flags.contains(VmaFlags::NO_RESERVE), "nr "),
        (v.flags.contains(VmaFlags::WIPE_ON_FORK), "wf "),
        (v.flags.contains(VmaFlags::DONT_DUMP), "dd "),
        (v.flags.contains(VmaFlags::HUGE), "hg "),
        (v.flags.contains(VmaFlags::NO_HUGE), "nh "),
        (v.flags.contains(VmaFlags::MERGEABLE), "mg "),
        (v.flags.contains(VmaFlags::SEALED), "sl "),
    ];
    for (_, name) in names.iter().filter(|(has, _)| *has) {
        out.push_str(name);
    }
    out.push('\n');
    out
}

pub fn smaps(task: &Task, view: &View<'_>) -> Result<Vec<u8>> {
    let Some(own) = task.shared() else { return Ok(Vec::new()) };
    let mappings = mappings(&own)?;
    let counts = share_out(&mappings, &look(task, view)?)?;
    let mut out = Vec::new();
    for (v, counts) in mappings.iter().zip(&counts) {
        let mut text = String::new();
        for (name, kib) in [("Size", v.len() >> 10), ("KernelPageSize", 4), ("MMUPageSize", 4)] {
            let _ = writeln!(text, "{:<16}{kib:8} kB", format!("{name}:"));
        }
        lines(&mut text, counts);
        text.push_str("THPeligible:           0\n");
        text.push_str(&flags(v));
        let line = map_line(v);
        out.try_reserve(line.len() + text.len()).map_err(|_| Errno::ENOMEM)?;
        out.extend_from_slice(&line);
        out.extend_from_slice(text.as_bytes());
    }
    Ok(out)
}

/// The sums of all mappings, of which there is one more: that of pages of files alone and so on.
pub fn rollup(task: &Task, view: &View<'_>) -> Result<Vec<u8>> {
    let own = task.shared().ok_or(Errno::ESRCH)?;
    let mappings = mappings(&own)?;
    let (Some(first), Some(last)) = (mappings.first(), mappings.last()) else { return Ok(Vec::new()) };
    let counts = share_out(&mappings, &look(task, view)?)?;
    let mut sum = Counts::default();
    let mut pss = [0; 3];
    for (v, counts) in mappings.iter().zip(&counts) {
        sum.iter_mut().zip(counts).for_each(|(to, n)| *to += n);
        let [whole, anon] = [counts[1], counts[8].min(counts[1])];
        pss[0] += anon;
        pss[if v.shared && !matches!(v.backing, Backing::File { .. }) { 2 } else { 1 }] += whole - anon;
    }
    let head = format!("{:08x}-{:08x} ---p 00000000 00:00 0", first.start, last.end);
    let mut out = format!("{head:<72} [rollup]\n");
    for (i, (name, kib)) in NAMES.iter().zip(&sum).enumerate() {
        let _ = writeln!(out, "{:<16}{kib:8} kB", format!("{name}:"));
        if i == 2 {
            for (name, kib) in ["Pss_Anon:", "Pss_File:", "Pss_Shmem:"].iter().zip(pss) {
                let _ = writeln!(out, "{name:<16}{kib:8} kB");
            }
        }
    }
    Ok(out.into_bytes())
}
