//! What `/proc/<pid>` says of a process or thread.

use super::{mounts, usage};
use crate::abi::linux::{CLOCK_BOOTTIME, PROT_EXEC, PROT_READ};
use crate::abi::slot::place;
use crate::abi::{Errno, Result};
use crate::arch;
use crate::cred::{UserNamespace, cap};
use crate::mm::vma::{Sizes, prot_letters};
use crate::mm::{Backing, UserPtr, Vma, VmaFlags};
use crate::sync::{Kind, On};
use crate::task::access::{self, By, Look, Subject};
use crate::task::group::Run;
use crate::task::pid::PidNamespace;
use crate::task::time_ns::{Clock, running_ahead};
use crate::task::{Own, Pid, Task, kernel};
use crate::time::{SECOND, vdso};
use crate::vfs::{OpCtx, Path};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Who reads a file, and whose pids it shows.
pub struct View<'a> {
    pub ctx: &'a OpCtx<'a>,
    pub pids: &'a PidNamespace,
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
    "smaps" 0o444 smaps;
    "auxv" 0o400 auxv;
    "io" 0o400 io;
    "stat" 0o444 stat;
    "statm" 0o444 statm;
    "status" 0o444 status;
    "mounts" 0o444 mounts::mounts;
    "mountinfo" 0o444 mounts::mountinfo;
    "mountstats" 0o400 mounts::mountstats;
    "limits" 0o444 limits;
    "cgroup" 0o444 cgroup;
    "oom_score" 0o444 zero;
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
    "wchan" 0o444 wchan;
    "stack" 0o400 stack;
    "syscall" 0o400 call;
}

/// What only those may see who may look at the task, which is checked when it is opened.
pub fn check_open(task: &Task, entry: &Entry, ctx: &OpCtx<'_>) -> Result {
    match entry.name {
        "maps" | "smaps" | "environ" | "auxv" => may_look(task, ctx),
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
        "oom_score_adj" => {
            let value = text.parse::<i32>().ok().filter(|v| (-1000..=1000).contains(v)).ok_or(Errno::EINVAL)?;
            let (now, min) = (&task.group.oom_score_adj, &task.group.oom_score_adj_min);
            // As `__set_oom_adj()` in `fs/proc/base.c`.
            if ctx.cred.capable_in(UserNamespace::initial(), cap::SYS_RESOURCE) {
                min.store(value, Relaxed);
            } else if value < min.load(Relaxed) {
                return Err(Errno::EACCES);
            }
            now.store(value, Relaxed);
            Ok(())
        }
        _ => Err(Errno::EPERM),
    }
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

fn zero(_: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(b"0\n".to_vec())
}

fn dump_filter(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(format!("{:08x}\n", task.group.dump_filter.load(Relaxed)).into_bytes())
}

/// What a sleeping task sleeps on.
fn sleeps_on(task: &Task) -> Option<On> {
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

fn loginuid(_: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(b"4294967295".to_vec())
}

fn personality(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(format!("{:08x}\n", task.attr.personality.load(Relaxed)).into_bytes())
}

fn oom_score_adj(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    Ok(format!("{}\n", task.group.oom_score_adj.load(Relaxed)).into_bytes())
}

/// The state's letter and word.
fn state(task: &Task) -> (char, &'static str) {
    match task.group.state.lock().run {
        Run::Zombie => return ('Z', "zombie"),
        _ if task.in_trace_stop() => return ('t', "tracing stop"),
        Run::Stopped(_) => return ('T', "stopped"),
        Run::Running => {}
    }
    if task.sleeps() { ('S', "sleeping") } else { ('R', "running") }
}

/// Every mapping in order, the vDSO in the window included.
fn mappings(own: &Own) -> Result<Vec<Vma>> {
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

/// Sizes only: which pages are there, only the process itself could ask the host.
fn smaps(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    const ZEROS: [&str; 8] =
        ["Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced", "Anonymous", "Swap", "Locked"];
    let Some(own) = task.shared() else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for v in mappings(&own)? {
        let mut text = String::new();
        for (name, kib) in [("Size", v.len() >> 10), ("KernelPageSize", 4), ("MMUPageSize", 4), ("Rss", 0), ("Pss", 0)]
        {
            let _ = writeln!(text, "{:<16}{kib:8} kB", format!("{name}:"));
        }
        for name in ZEROS {
            let _ = writeln!(text, "{:<16}{:8} kB", format!("{name}:"), 0);
        }
        text.push_str("VmFlags:");
        for (bit, name) in [(1, " rd"), (2, " wr"), (4, " ex")] {
            text.push_str(if v.prot & bit != 0 { name } else { "" });
        }
        text.push_str(if v.shared { " sh mr mw me\n" } else { " mr mw me\n" });
        let line = map_line(&v);
        out.try_reserve(line.len() + text.len()).map_err(|_| Errno::ENOMEM)?;
        out.extend_from_slice(&line);
        out.extend_from_slice(text.as_bytes());
    }
    Ok(out)
}

fn auxv(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let words = task.shared().map(|own| own.mm.auxv.lock().clone());
    Ok(words.iter().flat_map(|w| w.iter()).flat_map(|w| w.to_le_bytes()).collect())
}

fn io(_: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let names = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"];
    Ok(names.map(|n| format!("{n}: 0\n")).concat().into_bytes())
}

fn map_line(v: &Vma) -> Vec<u8> {
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
    let (major, minor) = (dev >> 8 & 0xfff, dev & 0xff | dev >> 12 & 0xfff00);
    let head = format!("{:08x}-{:08x} {letters} {offset_of:08x} {major:02x}:{minor:02x} {ino}", v.start, v.end);
    let mut line = if name.is_empty() { head + " " } else { format!("{head:<72} ") }.into_bytes();
    line.extend_from_slice(&name);
    line.push(b'\n');
    line
}

/// Bytes mapped.
fn sizes(task: &Task) -> Sizes {
    task.shared().map_or(Sizes::default(), |own| own.mm.sizes())
}

fn statm(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let Sizes { total, data, .. } = sizes(task);
    let (size, data) = (total / 4096, data / 4096);
    let [anon, file] = usage::resident(task).unwrap_or_default().map(|kib| kib / 4);
    Ok(format!("{size} {} {file} 1 0 {data} 0\n", anon + file).into_bytes())
}

/// The parent's pid, 0 where it is in no namespace that the file shows.
fn seen_parent(task: &Task, view: &View<'_>) -> u32 {
    task.group.parent().map_or(0, |p| p.id.number_in(view.pids))
}

/// The numbers of `pid` in the namespaces that `of` is seen in, from the file's own on, each behind a tab.
fn numbers(of: &Pid, pid: Option<&Pid>, view: &View<'_>) -> String {
    let mut out = String::new();
    for ns in of.namespaces().skip(view.pids.level as usize) {
        let _ = write!(out, "\t{}", pid.map_or(0, |p| p.number_in(ns)));
    }
    out
}

/// What `fdinfo` says of a pidfd.
pub fn of_pidfd(pid: &Pid, view: &View<'_>) -> String {
    let Some(_there) = pid.task() else { return String::from("Pid:\t-1\nNSpid:\t-1\n") };
    match pid.number_in(view.pids) {
        0 => String::from("Pid:\t0\nNSpid:\t0\n"),
        number => format!("Pid:\t{number}\nNSpid:{}\n", numbers(pid, Some(pid), view)),
    }
}

fn stat(task: &Task, view: &View<'_>) -> Result<Vec<u8>> {
    let g = &task.group;
    let total = sizes(task).total;
    let comm = String::from_utf8_lossy(&task.comm.lock()).into_owned();
    let resident: u64 = usage::resident(task).unwrap_or_default().iter().sum();
    let [user, system] = usage::cpu_times(task);
    let times = [user, system, g.times[2].load(Relaxed), g.times[3].load(Relaxed)].map(|ns| ns / 10_000_000);
    let nice = task.attr.nice.load(Relaxed);
    let threads = g.state.lock().tasks.len();
    let strings = task.shared().map_or([0; 4], |o| [0, 1, 2, 3].map(|i: usize| o.mm.strings[i].load(Relaxed)));
    // As `new_encode_dev` of `linux/kdev_t.h` says it, which device numbers below 2^32 have anyway.
    let (terminal, foreground) = g.shown_terminal();
    let terminal = terminal as u32 as i32;
    let mut out = format!(
        "{} ({comm}) {} {} {} {} {terminal} {foreground} 4194304 0 0 0 0 {} {} {} {} {} {nice} {threads} 0 {} {total} {} 18446744073709551615",
        view.pids.seen(task.tid()),
        state(task).0,
        seen_parent(task, view),
        view.pids.seen(g.pgid()),
        view.pids.seen(g.sid()),
        times[0],
        times[1],
        times[2],
        times[3],
        20 + nice,
        g.started.saturating_add_signed(running_ahead(CLOCK_BOOTTIME as i32)) / 10_000_000,
        resident / 4,
    );
    // From startcode on: addresses are not told, signals are in `status`, the rest is zero.
    let _ = write!(out, " 0 0 0 0 0 0 {} 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0", task.blocked.load(Relaxed) & 0x7fff_ffff);
    let _ = writeln!(out, " {} {} {} {} 0", strings[0], strings[1], strings[2], strings[3]);
    Ok(out.into_bytes())
}

fn status(task: &Task, ctx: &View<'_>) -> Result<Vec<u8>> {
    let g = &task.group;
    let own = task.shared();
    let Sizes { total, data, locked } = sizes(task);
    let (letter, word) = state(task);
    let comm = String::from_utf8_lossy(&task.comm.lock()).into_owned();
    let umask = own.as_ref().map_or(0, |o| o.fs.umask());
    let mut out = format!(
        "Name:\t{comm}\nUmask:\t{umask:04o}\nState:\t{letter} ({word})\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t{}\n",
        ctx.pids.seen(g.pid),
        ctx.pids.seen(task.tid()),
        seen_parent(task, ctx),
        ctx.pids.seen(task.tracer_pid())
    );
    if let Some(own) = &own {
        let c = &own.cred;
        let [uid, euid, suid, fsuid] = [c.uid, c.euid, c.suid, c.fsuid].map(|id| ctx.cred.seen_uid(id));
        let [gid, egid, sgid, fsgid] = [c.gid, c.egid, c.sgid, c.fsgid].map(|id| ctx.cred.seen_gid(id));
        let _ = writeln!(out, "Uid:\t{uid}\t{euid}\t{suid}\t{fsuid}");
        let _ = writeln!(out, "Gid:\t{gid}\t{egid}\t{sgid}\t{fsgid}");
        let _ = writeln!(out, "FDSize:\t{}", own.files.numbers().len().next_power_of_two().max(64));
        let _ = write!(out, "Groups:\t");
        for &gid in &c.groups {
            let _ = write!(out, "{} ", ctx.cred.seen_gid(gid));
        }
        let (size, data, locked) = (total >> 10, data >> 10, locked >> 10);
        let [anon, file] = usage::resident(task).unwrap_or_default();
        let rss = anon + file;
        let _ = write!(
            out,
            "\nNStgid:{0}\nNSpid:{1}\nNSpgid:{2}\nNSsid:{3}\nVmPeak:\t{size:8} kB\nVmSize:\t{size:8} kB\n\
             VmLck:\t{locked:8} kB\nVmPin:\t       0 kB\nVmHWM:\t{rss:8} kB\nVmRSS:\t{rss:8} kB\nRssAnon:\t{anon:8} kB\n\
             RssFile:\t{file:8} kB\nRssShmem:\t       0 kB\nVmData:\t{data:8} kB\n\
             VmStk:\t     132 kB\nVmSwap:\t       0 kB\n",
            numbers(&g.id, Some(&g.id), ctx),
            numbers(&g.id, kernel().roots().pid.find(task.tid()).as_deref(), ctx),
            numbers(&g.id, Some(&g.pgrp()), ctx),
            numbers(&g.id, Some(&g.session()), ctx)
        );
    }
    let actions = g.actions();
    let (mut ignored, mut caught) = (0u64, 0u64);
    for sig in 1..=64 {
        match actions.get(sig).handler {
            0 => {}
            1 => ignored |= 1 << (sig - 1),
            _ => caught |= 1 << (sig - 1),
        }
    }
    let threads = g.state.lock().tasks.len();
    let (own_pending, shared_pending) = (task.pending.lock().set(), g.pending.lock().set());
    let _ = write!(
        out,
        "Threads:\t{threads}\nSigQ:\t0/{}\nSigPnd:\t{own_pending:016x}\nShdPnd:\t{shared_pending:016x}\nSigBlk:\t{:016x}\n\
         SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n",
        g.limits.get(crate::task::limits::SIGPENDING).0,
        task.blocked.load(Relaxed)
    );
    if let Some(own) = &own {
        let c = &own.cred;
        let _ = write!(
            out,
            "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\nNoNewPrivs:\t{}\nSeccomp:\t{}\nSeccomp_filters:\t{}\n",
            c.cap_inheritable,
            c.cap_permitted,
            c.cap_effective,
            c.cap_bounding,
            c.cap_ambient,
            u8::from(task.no_new_privs()),
            task.seccomp.mode(),
            task.seccomp.depth()
        );
    }
    let cpus = super::system::cpus();
    let _ = write!(
        out,
        "Cpus_allowed:\t{:x}\nCpus_allowed_list:\t0-{}\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n",
        (1u64 << cpus.min(63)) - 1,
        cpus - 1
    );
    Ok(out.into_bytes())
}

fn limits(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let show = |n: u64| if n == u64::MAX { String::from("unlimited") } else { format!("{n}") };
    let mut out = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (i, (name, unit)) in NAMES.iter().enumerate() {
        let (soft, hard) = task.group.limits.get(i);
        let _ = writeln!(out, "{name:<25} {:<20} {:<20} {unit:<10}", show(soft), show(hard));
    }
    Ok(out.into_bytes())
}
