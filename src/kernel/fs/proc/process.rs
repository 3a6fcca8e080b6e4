//! What `/proc/<pid>` says of a process or thread.

use super::{mounts, smaps, status, usage};
use crate::abi::linux::{PROT_EXEC, PROT_READ};
use crate::abi::slot::place;
use crate::abi::{Errno, Result};
use crate::arch;
use crate::cred::{UserNamespace, cap};
use crate::mm::vma::prot_letters;
use crate::mm::{Backing, UserPtr, Vma, VmaFlags};
use crate::sync::{Kind, On};
use crate::task::access::{self, By, Look, Subject};
use crate::task::pid::PidNamespace;
use crate::task::posix_timers::Told;
use crate::task::time_ns::Clock;
use crate::task::{Own, Task};
use crate::time::{SECOND, vdso};
use crate::vfs::{OpCtx, Path, split_dev};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Who reads a file, and whose pids it shows.
pub struct View<'a> {
    pub ctx: &'a OpCtx<'a>,
    pub pids: &'a PidNamespace,
    /// The file is the process's, not one thread's.
    pub whole: bool,
}

impl<'a> core::ops::Deref for View<'a> {
    type Target = OpCtx<'a>;
    fn deref(&self) -> &OpCtx<'a> {
        self.ctx
    }
}

/// A file or link of a process's directory.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    pub mode: u32,
    pub text: fn(&Task, &View<'_>) -> Result<Vec<u8>>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.name == other.name
    }
}
impl Eq for Entry {}

impl Entry {
    /// `exe`, `cwd`, `root`.
    pub fn is_link(&self) -> bool {
        self.mode == LINK
    }
}

const LINK: u32 = 0o777;
/// The entry that is a process's memory (`super::mem`).
pub const MEM: &str = "mem";

fn no_text(_: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Err(Errno::EINVAL)
}

macro_rules! entries {
    ($($name:literal $mode:literal $f:path;)*) => {
        /// All but the directories.
        pub static ENTRIES: &[Entry] = &[$(Entry { name: $name, mode: $mode, text: $f }),*];
    };
}
entries! {
    "exe" 0o777 no_text;
    "cwd" 0o777 no_text;
    "root" 0o777 no_text;
    "cmdline" 0o444 cmdline;
    "comm" 0o644 comm;
    "environ" 0o400 environ;
    "maps" 0o444 maps;
    "smaps" 0o444 smaps::smaps;
    "smaps_rollup" 0o444 smaps::rollup;
    "auxv" 0o400 auxv;
    "io" 0o400 usage::io;
    "stat" 0o444 status::stat;
    "statm" 0o444 status::statm;
    "status" 0o444 status::status;
    "schedstat" 0o444 usage::schedstat;
    "mounts" 0o444 mounts::mounts;
    "mountinfo" 0o444 mounts::mountinfo;
    "mountstats" 0o400 mounts::mountstats;
    "limits" 0o444 status::limits;
    "cgroup" 0o444 cgroup;
    "cpuset" 0o444 root_group;
    "autogroup" 0o644 autogroup;
    "timers" 0o444 timers;
    "timerslack_ns" 0o666 timer_slack;
    "oom_score" 0o444 oom_score;
    "oom_adj" 0o644 oom_adj;
    "oom_score_adj" 0o644 oom_score_adj;
    "loginuid" 0o644 loginuid;
    "sessionid" 0o444 loginuid;
    "personality" 0o400 personality;
    "mem" 0o600 no_text;
    "timens_offsets" 0o644 timens_offsets;
    "uid_map" 0o644 no_text;
    "gid_map" 0o644 no_text;
    "projid_map" 0o644 no_text;
    "setgroups" 0o644 no_text;
    "coredump_filter" 0o644 dump_filter;
    "numa_maps" 0o444 numa_maps;
    "arch_status" 0o444 arch_status;
    "ksm_merging_pages" 0o400 ksm_merging_pages;
    "ksm_stat" 0o400 ksm_stat;
    "wchan" 0o444 wchan;
    "stack" 0o400 stack;
    "syscall" 0o400 call;
}

/// What only those may see who may look at the task, which is checked when it is opened.
pub fn check_open(task: &Task, entry: &Entry, ctx: &OpCtx<'_>) -> Result {
    match entry.name {
        "maps" | "numa_maps" | "ksm_merging_pages" | "ksm_stat" | "smaps" | "smaps_rollup" | "environ" | "auxv" => {
            may_look(task, ctx)
        }
        _ => Ok(()),
    }
}

/// Whether whoever makes a file operation may look at the task.
pub fn may_look(task: &Task, ctx: &OpCtx<'_>) -> Result {
    access::may_look(Subject::of(ctx), task, Look::Read, By::FsCreds).map_err(|_| Errno::EACCES)
}

/// Where a link leads.
pub fn link(task: &Task, entry: &Entry, ctx: &OpCtx<'_>) -> Result<Path> {
    may_look(task, ctx)?;
    let own = task.shared().ok_or(Errno::ENOENT)?;
    match entry.name {
        "exe" => task.group.exec_info.lock().exe.clone().ok_or(Errno::ENOENT),
        "cwd" => Ok(own.fs.cwd()),
        "root" => Ok(own.fs.root()),
        _ => Err(Errno::EINVAL),
    }
}

/// Takes what was written to an entry.
pub fn write(task: &Task, entry: &Entry, ctx: &OpCtx<'_>, bytes: &[u8]) -> Result {
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?.trim();
    match entry.name {
        "comm" => {
            let line = bytes.split(|&b| b == b'\n').next().unwrap_or(&[]);
            *task.comm.lock() = line[..line.len().min(15)].to_vec();
            Ok(())
        }
        "timens_offsets" => set_timens_offsets(task, ctx, bytes),
        "coredump_filter" => {
            let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
            let value = u32::from_str_radix(digits, radix).map_err(|_| Errno::EINVAL)?;
            task.group.dump_filter.store(value & 0x1ff, Relaxed);
            Ok(())
        }
        "oom_adj" => {
            // Its range was another one (`oom_adj_write` in `fs/proc/base.c`).
            let value = text.parse::<i32>().ok().filter(|v| (-17..=15).contains(v)).ok_or(Errno::EINVAL)?;
            set_oom_score_adj(task, ctx, if value == 15 { 1000 } else { value * 1000 / 17 })
        }
        "timerslack_ns" => {
            let value = text.parse::<u64>().map_err(|_| Errno::EINVAL)?;
            if !ctx.cred.capable(cap::SYS_NICE) && ctx.tid != task.tid() {
                return Err(Errno::EPERM);
            }
            let value = if value == 0 { task.attr.default_slack.load(Relaxed) } else { value };
            task.attr.timer_slack.store(value, Relaxed);
            Ok(())
        }
        "autogroup" => {
            let nice = text.parse::<i32>().map_err(|_| Errno::EINVAL)?;
            set_autogroup(task, ctx, nice)
        }
        "oom_score_adj" => {
            let value = text.parse::<i32>().ok().filter(|v| (-1000..=1000).contains(v)).ok_or(Errno::EINVAL)?;
            set_oom_score_adj(task, ctx, value)
        }
        _ => Err(Errno::EPERM),
    }
}

/// As `__set_oom_adj()` in `fs/proc/base.c`.
fn set_oom_score_adj(task: &Task, ctx: &OpCtx<'_>, value: i32) -> Result {
    let (now, min) = (&task.group.oom_score_adj, &task.group.oom_score_adj_min);
    if ctx.cred.capable_in(UserNamespace::initial(), cap::SYS_RESOURCE) {
        min.store(value, Relaxed);
    } else if value < min.load(Relaxed) {
        return Err(Errno::EACCES);
    }
    now.store(value, Relaxed);
    Ok(())
}

/// Sets the nice value of the autogroup of the task's session (`proc_sched_autogroup_set_nice` in
/// `kernel/sched/autogroup.c`). It is kept; the host shares its CPUs out by its own groups.
fn set_autogroup(task: &Task, ctx: &OpCtx<'_>, nice: i32) -> Result {
    if !(-20..=19).contains(&nice) {
        return Err(Errno::EINVAL);
    }
    if nice < 0 && !ctx.cred.capable(cap::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    task.group.session().autogroup.store(nice, Relaxed);
    Ok(())
}

/// What the clocks of the task's children are ahead.
fn timens_offsets(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let ns = task.shared().ok_or(Errno::ESRCH)?.ns.time_for_children.clone();
    let mut out = String::new();
    for (name, clock) in [("monotonic", Clock::Monotonic), ("boottime", Clock::Boottime)] {
        let ahead = ns.ahead(clock);
        let _ = writeln!(out, "{name:<10} {:10} {:9}", ahead.div_euclid(SECOND), ahead.rem_euclid(SECOND));
    }
    Ok(out.into_bytes())
}

/// Sets what the clocks of the task's children will be ahead (`timens_offsets_write` in `fs/proc/base.c`).
fn set_timens_offsets(task: &Task, ctx: &OpCtx<'_>, bytes: &[u8]) -> Result {
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    let mut new = Vec::new();
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n').take(2) {
        let mut words = line.split_ascii_whitespace();
        let clock = match words.next() {
            Some("monotonic" | "1") => Clock::Monotonic,
            Some("boottime" | "7") => Clock::Boottime,
            _ => return Err(Errno::EINVAL),
        };
        let sec = words.next().and_then(|w| w.parse::<i64>().ok()).ok_or(Errno::EINVAL)?;
        let nsec = words.next().and_then(|w| w.parse::<i64>().ok()).ok_or(Errno::EINVAL)?;
        if !(0..SECOND).contains(&nsec) {
            return Err(Errno::EINVAL);
        }
        new.push((clock, sec, nsec));
    }
    let ns = task.shared().ok_or(Errno::ESRCH)?.ns.time_for_children.clone();
    if !ctx.cred.capable_in(&ns.user_ns, cap::SYS_TIME) {
        return Err(Errno::EPERM);
    }
    ns.set(&new)
}

/// A range of the running process's own memory; other processes' is out of reach.
fn own_memory(task: &Task, ctx: &View<'_>, which: usize) -> Option<Vec<u8>> {
    let own = task.shared()?;
    let (start, end) = (own.mm.strings[which].load(Relaxed), own.mm.strings[which + 1].load(Relaxed));
    if ctx.tgid != task.group.pid || end <= start {
        return None;
    }
    read_strings(start, (end - start).min(1 << 20) as usize)
}

/// Reads the program's strings. The file's offset is locked meanwhile; the pages were touched when the program started.
fn read_strings(start: u64, len: usize) -> Option<Vec<u8>> {
    const PIECE: usize = 64;
    let mut out = Vec::new();
    out.try_reserve_exact(len).ok()?;
    while out.len() < len {
        let at = start + out.len() as u64;
        if len - out.len() >= PIECE {
            out.extend_from_slice(&UserPtr::<[u8; PIECE]>::new(at).read_nofault().ok()?);
        } else {
            out.push(UserPtr::<u8>::new(at).read_nofault().ok()?);
        }
    }
    Some(out)
}

fn cmdline(task: &Task, ctx: &View<'_>) -> Result<Vec<u8>> {
    Ok(own_memory(task, ctx, 0).unwrap_or_else(|| task.group.exec_info.lock().cmdline.clone()))
}

fn environ(task: &Task, ctx: &View<'_>) -> Result<Vec<u8>> {
    Ok(own_memory(task, ctx, 2).unwrap_or_default())
}

fn comm(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let mut name = task.comm.lock().clone();
    name.push(b'\n');
    Ok(name)
}

fn dump_filter(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(format!("{:08x}\n", task.group.dump_filter.load(Relaxed)).into_bytes())
}

/// What a sleeping task sleeps on.
pub(super) fn sleeps_on(task: &Task) -> Option<On> {
    let slot = task.slot()?;
    match slot.place.load(SeqCst) {
        place::HOST_CALL => Some(On::the(Kind::Host)),
        place::KERNEL if slot.waker.sleeping.load(SeqCst) != 0 => Some(On::of(slot).0),
        _ => None,
    }
}

fn may_attach(task: &Task, ctx: &View<'_>) -> Result {
    access::may_look(Subject::of(ctx), task, Look::Attach, By::FsCreds)
}

fn wchan(task: &Task, ctx: &View<'_>) -> Result<Vec<u8>> {
    let seen = access::may_look(Subject::of(ctx), task, Look::Read, By::FsCreds).is_ok();
    Ok(match sleeps_on(task).filter(|_| seen) {
        Some(on) => on.kind.symbol().as_bytes().to_vec(),
        None => b"0".to_vec(),
    })
}

/// The kernel's stack: what is told of it is what the task sleeps on.
fn stack(task: &Task, ctx: &View<'_>) -> Result<Vec<u8>> {
    if !ctx.cred.capable(cap::SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    may_attach(task, ctx)?;
    Ok(match sleeps_on(task) {
        Some(on) => format!("[<0>] {}\n[<0>] do_syscall_64\n", on.kind.symbol()).into_bytes(),
        None => Vec::new(),
    })
}

/// The call that a sleeping task is in: number, arguments, stack pointer, program counter.
fn call(task: &Task, ctx: &View<'_>) -> Result<Vec<u8>> {
    may_attach(task, ctx)?;
    if sleeps_on(task).is_none() {
        return Ok(b"running\n".to_vec());
    }
    let Some(regs) = task.slot().and_then(arch::frame::registers) else { return Ok(b"running\n".to_vec()) };
    let nr = task.slot().map_or(u32::MAX, |s| s.last_call.load(Relaxed)) as i32;
    Ok(format!(
        "{nr} {:#x} {:#x} {:#x} {:#x} {:#x} {:#x} {:#x} {:#x}\n",
        regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9, regs.rsp, regs.rip
    )
    .into_bytes())
}

fn cgroup(_: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(b"0::/\n".to_vec())
}

fn autogroup(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let session = task.group.session();
    Ok(format!("/autogroup-{} nice {}\n", session.number(), session.autogroup.load(Relaxed)).into_bytes())
}

/// The path of the group of CPUs.
fn root_group(_: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(b"/\n".to_vec())
}

fn timer_slack(task: &Task, view: &View<'_>) -> Result<Vec<u8>> {
    if view.tid != task.tid() && !view.cred.capable(cap::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    Ok(format!("{}\n", task.attr.timer_slack.load(Relaxed)).into_bytes())
}

fn oom_adj(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let value = task.group.oom_score_adj.load(Relaxed);
    Ok(format!("{}\n", if value == 1000 { 15 } else { value * 17 / 1000 }).into_bytes())
}

/// POSIX timers (`show_timer` in `fs/proc/base.c`).
fn timers(task: &Task, view: &View<'_>) -> Result<Vec<u8>> {
    let mut out = String::new();
    for timer in task.group.timers.all() {
        let (signal, how, tid) = match timer.told() {
            Told::Nobody => (0, "none/pid", task.group.pid),
            Told::Process(signal) => (signal, "signal/pid", task.group.pid),
            Told::Thread(signal, tid) => (signal, "signal/tid", tid),
        };
        let _ = writeln!(
            out,
            "ID: {}\nsignal: {signal}/{:016x}\nnotify: {how}.{}\nClockID: {}",
            timer.id,
            timer.value(),
            view.pids.seen(tid),
            timer.clock_id()
        );
    }
    Ok(out.into_bytes())
}

fn loginuid(_: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(b"4294967295".to_vec())
}

fn personality(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(format!("{:08x}\n", task.attr.personality.load(Relaxed)).into_bytes())
}

/// `proc_oom_score`: two thirds for a process without memory, and none for one that is never ended.
fn oom_score(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let adj = i64::from(task.group.oom_score_adj.load(Relaxed));
    let [anon, file, _] = usage::Host::of(task).resident();
    let all = crate::mm::memfile::limit() >> 10;
    let points = adj + ((anon + file) * 1000 / all.max(1)) as i64;
    let score = if adj == -1000 { 0 } else { (1000 + points).max(0) * 2 / 3 };
    Ok(format!("{score}\n").into_bytes())
}

fn oom_score_adj(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(format!("{}\n", task.group.oom_score_adj.load(Relaxed)).into_bytes())
}

/// Every mapping in order, the vDSO in the window included.
pub(super) fn mappings(own: &Own) -> Result<Vec<Vma>> {
    let mut all = own.mm.mapped(0, u64::MAX)?;
    all.try_reserve(2).map_err(|_| Errno::ENOMEM)?;
    if let Some((start, end)) = vdso::range() {
        let data = start - 4096;
        let at = all.partition_point(|v| v.start < data);
        for (start, end, prot, label) in
            [(start, end, PROT_READ | PROT_EXEC, "[vdso]"), (data, start, PROT_READ, "[vvar]")]
        {
            let backing = Backing::Anon;
            all.insert(
                at,
                Vma {
                    start,
                    end,
                    prot,
                    shared: false,
                    backing,
                    label,
                    text: None,
                    may: prot,
                    flags: VmaFlags::empty(),
                },
            );
        }
    }
    Ok(all)
}

fn maps(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let Some(own) = task.shared() else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for v in mappings(&own)? {
        let line = map_line(&v);
        out.try_reserve(line.len()).map_err(|_| Errno::ENOMEM)?;
        out.extend_from_slice(&line);
    }
    Ok(out)
}

/// Which node each mapping's pages are on: there is one.
fn numa_maps(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let Some(own) = task.shared() else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for v in mappings(&own)? {
        let mut line = format!("{:08x} default", v.start).into_bytes();
        match &v.backing {
            Backing::File { name, .. } if !name.is_empty() => {
                line.extend_from_slice(b" file=");
                line.extend(name.iter().copied().filter(|b| *b != b'\n'));
            }
            _ => match v.label.as_bytes() {
                b"[heap]" => line.extend_from_slice(b" heap"),
                b"[stack]" => line.extend_from_slice(b" stack"),
                _ => {}
            },
        }
        line.push(b'\n');
        out.try_reserve(line.len()).map_err(|_| Errno::ENOMEM)?;
        out.extend_from_slice(&line);
    }
    Ok(out)
}

/// The processor's upper vector state is not looked at.
fn arch_status(_: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(b"AVX512_elapsed_ms:\t-1\n".to_vec())
}

fn ksm_merging_pages(_: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(b"0\n".to_vec())
}

/// Which pages are shared the host decides, and does not tell.
fn ksm_stat(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let merges = if task.attr.merges.load(Relaxed) { "yes" } else { "no" };
    let zeros = "ksm_rmap_items 0\nksm_zero_pages 0\nksm_merging_pages 0\nksm_process_profit 0\n";
    Ok(format!("{zeros}ksm_merge_any: {merges}\nksm_mergeable: {merges}\n").into_bytes())
}

fn auxv(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let words = task.shared().map(|own| own.mm.auxv.lock().clone());
    Ok(words.iter().flat_map(|w| w.iter()).flat_map(|w| w.to_le_bytes()).collect())
}

pub(super) fn map_line(v: &Vma) -> Vec<u8> {
    let (mut offset_of, mut dev, mut ino, mut name) = (0, 0, 0, v.label.as_bytes().to_vec());
    if let Backing::File { map, offset, name: file } = &v.backing {
        (dev, ino, _) = map.describe();
        offset_of = *offset;
        if name.is_empty() {
            name = file.to_vec();
        }
    }
    let letters = prot_letters(v);
    let letters = core::str::from_utf8(&letters).unwrap_or("----");
    let (major, minor) = split_dev(dev);
    let head = format!("{:08x}-{:08x} {letters} {offset_of:08x} {major:02x}:{minor:02x} {ino}", v.start, v.end);
    let mut line = if name.is_empty() { head + " " } else { format!("{head:<72} ") }.into_bytes();
    line.extend_from_slice(&name);
    line.push(b'\n');
    line
}
