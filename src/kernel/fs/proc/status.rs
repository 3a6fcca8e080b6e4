//! `/proc/PID/{stat,statm,status,limits}`.

use super::process::View;
use super::usage::{self, Host};
use crate::abi::Result;
use crate::abi::linux::{CLOCK_BOOTTIME, RLIMIT_RSS};
use crate::mm::space::Layout;
use crate::mm::vma::Sizes;
use crate::task::group::Run;
use crate::task::time_ns::running_ahead;
use crate::task::{Pid, RESET_ON_FORK, Task, kernel};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;

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

/// Bytes mapped.
fn sizes(task: &Task) -> Sizes {
    task.shared().map_or(Sizes::default(), |own| own.mm.sizes())
}

/// Bytes of its stack, its program's code and other code.
fn parts(task: &Task) -> [u64; 3] {
    let exe = task.group.exec_info.lock().exe.clone();
    let Some(own) = task.shared() else { return [0; 3] };
    let name = exe.and_then(|path| path.display(&own.fs.root()).ok()).unwrap_or_default();
    own.mm.parts(&name)
}

pub fn statm(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let Sizes { total, data, .. } = sizes(task);
    let (size, data) = (total / 4096, data / 4096);
    let [anon, file, shared] = Host::of(task).resident().map(|kib| kib / 4);
    let [_, text, _] = parts(task).map(|bytes| bytes / 4096);
    Ok(format!("{size} {} {} {text} 0 {data} 0\n", anon + file + shared, file + shared).into_bytes())
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

pub fn stat(task: &Task, view: &View<'_>) -> Result<Vec<u8>> {
    let g = &task.group;
    let total = sizes(task).total;
    let comm = String::from_utf8_lossy(&task.comm.lock()).into_owned();
    let host = Host::of(task);
    let resident: u64 = host.resident().iter().sum();
    let [user, system] = usage::cpu_times(task);
    let times = [user, system, g.times[2].load(Relaxed), g.times[3].load(Relaxed)].map(|ns| ns / 10_000_000);
    let nice = task.attr.nice.load(Relaxed);
    let (policy, rt_priority) = (task.attr.policy.load(Relaxed) & !RESET_ON_FORK, task.attr.rt_priority.load(Relaxed));
    // Of those who look at the clock, below 0 (`task_prio` in `kernel/sched/syscalls.c`).
    let priority = if rt_priority > 0 { -1 - rt_priority as i32 } else { 20 + nice };
    let (threads, exit_signal) = {
        let state = g.state.lock();
        (state.tasks.len(), state.exit_signal)
    };
    let own = task.shared();
    // As `new_encode_dev` of `linux/kdev_t.h` says it, which device numbers below 2^32 have anyway.
    let (terminal, foreground) = g.shown_terminal();
    let terminal = terminal as u32 as i32;
    let [minor, major] = host.faults();
    let mut out = format!(
        "{} ({comm}) {} {} {} {} {terminal} {foreground} 4194304 {minor} 0 {major} 0 {} {} {} {} {priority} {nice} {threads} 0 {} {total} {} {}",
        view.pids.seen(task.tid()),
        state(task).0,
        seen_parent(task, view),
        view.pids.seen(g.pgid()),
        view.pids.seen(g.sid()),
        times[0],
        times[1],
        times[2],
        times[3],
        g.started.saturating_add_signed(running_ahead(CLOCK_BOOTTIME as i32)) / 10_000_000,
        resident / 4,
        g.limits.get(RLIMIT_RSS as usize).0,
    );
    // From startcode on: addresses are for those who may look (`do_task_stat` in `fs/proc/array.c`).
    let looks = super::process::may_look(task, view).is_ok();
    let layout = own.as_ref().filter(|_| looks).map_or(Layout::default(), |o| o.mm.layout());
    let at = |i: usize| layout.0[i];
    // Where there is code is told as 1 (`do_task_stat`).
    let code = |i: usize| if looks { at(i) } else { u64::from(own.is_some()) };
    let pending = task.pending.lock().set();
    let (ignored, caught) = handled(task);
    let [pending, blocked, ignored, caught] =
        [pending, task.blocked.load(Relaxed), ignored, caught].map(|set| set & 0x7fff_ffff);
    let asleep = u8::from(looks && super::process::sleeps_on(task).is_some());
    let processor = host.processor();
    let _ = write!(
        out,
        " {} {} {} 0 0 {pending} {blocked} {ignored} {caught} {asleep} 0 0 {exit_signal} {processor} {rt_priority} {policy} 0 0 0",
        code(Layout::START_CODE),
        code(Layout::END_CODE),
        at(Layout::START_STACK),
    );
    for i in [
        Layout::START_DATA,
        Layout::END_DATA,
        Layout::START_BRK,
        Layout::ARG_START,
        Layout::ARG_END,
        Layout::ENV_START,
        Layout::ENV_END,
    ] {
        let _ = write!(out, " {}", at(i));
    }
    out.push_str(" 0\n");
    Ok(out.into_bytes())
}

/// Signals that are ignored, and those that are caught.
fn handled(task: &Task) -> (u64, u64) {
    let actions = task.group.actions();
    let (mut ignored, mut caught) = (0u64, 0u64);
    for sig in 1..=64 {
        match actions.get(sig).handler {
            0 => {}
            1 => ignored |= 1 << (sig - 1),
            _ => caught |= 1 << (sig - 1),
        }
    }
    (ignored, caught)
}

pub fn status(task: &Task, ctx: &View<'_>) -> Result<Vec<u8>> {
    let g = &task.group;
    let own = task.shared();
    let Sizes { total, data, locked } = sizes(task);
    let (letter, word) = state(task);
    let comm = String::from_utf8_lossy(&task.comm.lock()).into_owned();
    let umask = own.as_ref().map_or(0, |o| o.fs.umask());
    let host = Host::of(task);
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
        out.push_str(if c.groups.is_empty() { " " } else { "" });
        let swap = host.line("VmSwap:").unwrap_or(0);
        let dumps = u8::from(g.state.lock().dumps.is_some());
        let huge = u8::from(!task.attr.thp_disabled.load(Relaxed));
        let (size, data, locked) = (total >> 10, data >> 10, locked >> 10);
        let [anon, file, shared] = host.resident();
        let rss = anon + file + shared;
        let peak = host.line("VmHWM:").unwrap_or(0).max(rss).min(size.max(rss));
        let [stack, code, libraries] = parts(task).map(|bytes| bytes >> 10);
        let tables = host.line("VmPTE:").unwrap_or(0);
        let _ = write!(
            out,
            "\nNStgid:{0}\nNSpid:{1}\nNSpgid:{2}\nNSsid:{3}\nKthread:\t0\nVmPeak:\t{size:8} kB\nVmSize:\t{size:8} kB\n\
             VmLck:\t{locked:8} kB\nVmPin:\t       0 kB\nVmHWM:\t{peak:8} kB\nVmRSS:\t{rss:8} kB\nRssAnon:\t{anon:8} kB\n\
             RssFile:\t{file:8} kB\nRssShmem:\t{shared:8} kB\nVmData:\t{data:8} kB\n\
             VmStk:\t{stack:8} kB\nVmExe:\t{code:8} kB\nVmLib:\t{libraries:8} kB\nVmPTE:\t{tables:8} kB\n\
             VmSwap:\t{swap:8} kB\nHugetlbPages:\t       0 kB\nCoreDumping:\t{dumps}\nTHP_enabled:\t{huge}\n\
             untag_mask:\t0xffffffffffffffff\n",
            numbers(&g.id, Some(&g.id), ctx),
            numbers(&g.id, kernel().roots().pid.find(task.tid()).as_deref(), ctx),
            numbers(&g.id, Some(&g.pgrp()), ctx),
            numbers(&g.id, Some(&g.session()), ctx)
        );
    }
    let (ignored, caught) = handled(task);
    let threads = g.state.lock().tasks.len();
    let (own_pending, shared_pending) = (task.pending.lock().set(), g.pending.lock().set());
    let _ = write!(
        out,
        "Threads:\t{threads}\nSigQ:\t{}/{}\nSigPnd:\t{own_pending:016x}\nShdPnd:\t{shared_pending:016x}\nSigBlk:\t{:016x}\n\
         SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n",
        task.cred().user.signals.load(Relaxed),
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
    let (mask, list) = allowed(task);
    let [voluntary, involuntary] =
        ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"].map(|n| host.line(n).unwrap_or(0));
    let _ = write!(
        out,
        "Speculation_Store_Bypass:\tunknown\nSpeculationIndirectBranch:\tunknown\nCpus_allowed:\t{mask}\n\
         Cpus_allowed_list:\t{list}\nMems_allowed:\t1\nMems_allowed_list:\t0\n\
         voluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t{involuntary}\n"
    );
    Ok(out.into_bytes())
}

/// The CPUs that a task may run on, as a mask and as a list of ranges (`bitmap_print_to_pagebuf`).
fn allowed(task: &Task) -> (String, String) {
    let cpus = super::system::cpus().min(1024);
    let chosen = *task.attr.affinity.lock();
    let has = |cpu: u32| cpu < cpus && chosen.is_none_or(|mask| mask[cpu as usize / 64] >> (cpu % 64) & 1 != 0);
    let (mut mask, mut list) = (String::new(), String::new());
    for word in (0..cpus.div_ceil(32)).rev() {
        let bits = (0..32).filter(|bit| has(word * 32 + bit)).fold(0u32, |all, bit| all | 1 << bit);
        let _ = if mask.is_empty() { write!(mask, "{bits:x}") } else { write!(mask, ",{bits:08x}") };
    }
    let mut cpu = 0;
    while cpu < cpus {
        let end = (cpu..cpus).find(|&c| !has(c)).unwrap_or(cpus);
        let comma = if list.is_empty() || end == cpu { "" } else { "," };
        let _ = match end - cpu {
            0 => Ok(()),
            1 => write!(list, "{comma}{cpu}"),
            _ => write!(list, "{comma}{cpu}-{}", end - 1),
        };
        cpu = end + 1;
    }
    (mask, list)
}

pub fn limits(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
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
