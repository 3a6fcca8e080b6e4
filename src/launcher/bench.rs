//! `drupe bench`: what every operation of the budget costs natively and in a sandbox.

use super::measure::Samples;
use super::measure_ops as ops;
use anyhow::Context;
use drupe::Sandbox;
use serde::Serialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    /// Rewrite hot system call sites; `off` measures the trap path
    #[arg(long, value_enum, default_value_t = super::run::Switch::On)]
    rewrite: super::run::Switch,
    /// Run PROGRAM and say what became of its system call sites, and how many of its calls trapped
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true, conflicts_with = "rows")]
    sites: Vec<OsString>,
    /// Measure what operations cost beside more and more things of their kind
    #[arg(long, conflicts_with = "sites")]
    scale: bool,
    /// Measure what each layer of the jail costs at a start
    #[arg(long, conflicts_with_all = ["sites", "scale", "rows"])]
    layers: bool,
    /// Compare with another build: its sandboxes and this one's run the rows by turns
    #[arg(long, value_name = "LAUNCHER", conflicts_with_all = ["sites", "layers"])]
    against: Option<PathBuf>,
    /// Rows to measure, by key; all if none is named
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
}

/// A line of the budget: key, what a person reads, most that it may cost in native units.
const BUDGET: &[(&str, &str, f64)] = &[
    ("getppid", "getppid", 0.12),
    ("trap", "getppid by a trap / bare SIGSYS round trip", 1.3),
    ("clock_gettime.call", "clock_gettime as a system call", 0.25),
    ("clock_gettime.vdso", "clock_gettime by the vDSO", 1.1),
    ("read.zero", "read 1 B of /dev/zero", 0.25),
    ("write.null", "write 1 B to /dev/null", 0.25),
    ("pread.tmpfs", "pread 4 KiB, tmpfs", 0.40),
    ("pwrite.tmpfs", "pwrite 4 KiB, tmpfs", 0.40),
    ("pipe.same", "pipe write+read 1 B, same thread", 0.35),
    ("open.close", "open+close of a known path", 0.40),
    ("stat", "stat of a known path", 0.40),
    ("getdents.tmpfs", "getdents of 100 entries, tmpfs", 0.6),
    ("patch", "patching a site, amortised (<= 10 us)", f64::NAN),
    ("pread.host", "pread 4 KiB of the host's file", 1.35),
    ("page.fault", "page fault, anonymous memory", 1.0),
    ("eventfd", "eventfd write+read", 0.30),
    ("epoll_wait", "epoll_wait, one ready", 0.35),
    ("futex.wake", "futex wake, nobody waits", 0.20),
    ("pipe.pingpong", "pipe ping-pong, two threads", 1.15),
    ("futex.pingpong", "futex ping-pong", 1.15),
    ("unix.pingpong", "unix socket ping-pong", 1.0),
    ("tcp.pingpong", "loopback TCP ping-pong", 1.0),
    ("tcp.connect", "TCP connect+accept+close", 0.3),
    ("tcp.64k", "64 KiB written and read, loopback TCP", 0.7),
    ("unix.64k", "64 KiB written and read, unix socket", 0.7),
    ("mmap.munmap", "mmap+munmap 4 KiB", 1.25),
    ("mprotect", "mprotect", 1.25),
    ("signal.self", "signal to self, handled", 0.6),
    ("thread", "thread create+join", 1.2),
    ("fork", "fork+exit+wait", 1.2),
    ("fork.exec", "fork+exec+wait, dynamic program", 1.1),
    ("vfork.exec", "vfork+exec+wait, dynamic program", 1.1),
    ("launch", "launch of `drupe run -- /bin/true`", 4.0),
];

#[derive(Serialize)]
struct Line {
    row: &'static str,
    name: &'static str,
    native_ns: Option<f64>,
    emulated_ns: Option<f64>,
    ratio: Option<f64>,
    /// 95 % confidence interval of the ratio.
    interval: Option<(f64, f64)>,
    budget: Option<f64>,
    within: Option<bool>,
}

/// Rounds per row: in each, the operation runs natively and in the sandbox, one after the other.
const ROUNDS: usize = 7;
/// Most that patching a site may cost, ns.
const PATCH_MAX: f64 = 10_000.0;
/// Launches that are compared, in pairs.
const LAUNCHES: usize = 31;

/// One row's rounds: what it cost natively and emulated, ns.
pub type Pairs = Vec<(f64, f64)>;

/// Measures, prints the table.
pub fn bench(args: &Args) -> anyhow::Result<u8> {
    let rewrite = args.rewrite == super::run::Switch::On;
    if !args.sites.is_empty() {
        return super::sites::sites(&args.sites, rewrite, args.json);
    }
    if args.layers {
        return super::layers::layers(args.json).map(|()| 0);
    }
    let scaled = |row: &str| args.scale && super::measure_scale::ROWS.iter().any(|r| r.key == row);
    let known = |row: &&String| scaled(row) || !args.scale && BUDGET.iter().any(|b| b.0 == **row);
    if let Some(unknown) = args.rows.iter().find(|row| !known(row)) {
        anyhow::bail!("no such row: {unknown} (`drupe bench --json` names them)");
    }
    let me = std::env::current_exe().context("find the launcher's own file")?;
    if let Some(other) = &args.against {
        return super::against::against(&me, other, args.json, &compared(args)).map(|()| 0);
    }
    if args.scale {
        return super::scale::scale(&me, rewrite, args.json, |row| chosen(args, row)).map(|()| 0);
    }
    let sandbox = Sandbox::builder().rewrite(rewrite).start()?;
    let mut lines = Vec::new();
    for &(row, name, budget) in BUDGET.iter().filter(|b| chosen(args, b.0)) {
        let pairs = match row {
            "launch" => launches(&me, rewrite),
            // A bare SIGSYS round trip in a plain process against a call that is never rewritten.
            "trap" => rounds(&me, &Sandbox::builder().rewrite(false).start()?, ops::BARE_TRAP, "getppid", ROUNDS)?,
            _ => rounds(&me, &sandbox, row, row, ROUNDS)?,
        };
        lines.push(line(row, name, budget, pairs));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        print(&lines);
    }
    Ok(0)
}

/// Keys and names of the rows to compare with another build.
fn compared(args: &Args) -> Vec<(String, &'static str)> {
    if args.scale {
        let rows = super::measure_scale::ROWS.iter().filter(|r| chosen(args, r.key));
        return rows.flat_map(|r| r.sizes.iter().map(|n| (format!("{}@{n}", r.key), r.name))).collect();
    }
    BUDGET.iter().filter(|b| chosen(args, b.0)).map(|b| (b.0.to_owned(), b.1)).collect()
}

fn chosen(args: &Args, row: &str) -> bool {
    args.rows.is_empty() || args.rows.iter().any(|r| r == row)
}

/// Runs an operation natively and one in the sandbox by turns. A row that cannot run has no rounds.
pub fn rounds(me: &Path, sandbox: &Sandbox, here: &str, there: &str, rounds: usize) -> anyhow::Result<Pairs> {
    let mut pairs = Pairs::new();
    for _ in 0..rounds {
        let native = Command::new(me).args(["measure", here]).stdin(Stdio::null()).output()?;
        let emulated = sandbox.command(me).args(["measure", there]).stderr(drupe::Stdio::null()).output()?;
        match (median(&native.stdout), median(&emulated.stdout)) {
            (Some(n), Some(e)) => pairs.push((n, e)),
            _ => break,
        }
    }
    Ok(pairs)
}

/// The median of a row as the measuring program prints it.
pub fn median(text: &[u8]) -> Option<f64> {
    let text = String::from_utf8_lossy(text);
    let samples = text.lines().find_map(|l| serde_json::from_str::<Samples>(l).ok())?;
    (!samples.ns.is_empty()).then(|| samples.median())
}

/// How long a program took that ended well, ns.
pub fn took(command: &mut Command) -> Option<f64> {
    let start = Instant::now();
    let done = command.stdin(Stdio::null()).status().is_ok_and(|s| s.success());
    done.then(|| start.elapsed().as_nanos() as f64)
}

/// Whole launches of a program that does nothing, natively and by `drupe run`, by turns.
fn launches(me: &Path, rewrite: bool) -> Pairs {
    let mut pairs = Pairs::new();
    for _ in 0..LAUNCHES {
        let native = took(&mut Command::new("/bin/true"));
        let options: &[&str] = if rewrite { &[] } else { &["--rewrite", "off"] };
        let emulated = took(Command::new(me).arg("run").args(options).args(["--", "/bin/true"]));
        pairs.extend(native.zip(emulated));
    }
    pairs
}

fn line(row: &'static str, name: &'static str, budget: f64, pairs: Pairs) -> Line {
    let sorted = |f: fn(&(f64, f64)) -> f64| Samples::new(row, pairs.iter().map(f).collect());
    let (native, emulated, ratios) = (sorted(|p| p.0), sorted(|p| p.1), sorted(|p| p.1 / p.0));
    // What patching costs has no native counterpart: its budget is in ns.
    let patch = row == ops::PATCH;
    let ratio = ratios.as_ref().filter(|_| !patch).map(Samples::median);
    let limit =
        if patch { emulated.as_ref().map(|e| e.median() / PATCH_MAX).zip(Some(1.0)) } else { ratio.zip(Some(budget)) };
    Line {
        row,
        name,
        native_ns: native.filter(|_| !patch).map(|s| s.median()),
        emulated_ns: emulated.map(|s| s.median()),
        ratio,
        interval: ratios.filter(|_| !patch).map(|s| s.interval()),
        budget: (!budget.is_nan()).then_some(budget),
        within: limit.map(|(is, most)| is <= most),
    }
}

fn print(lines: &[Line]) {
    let number =
        |v: Option<f64>| v.map_or("n/a".into(), |v| if v < 100.0 { format!("{v:.1}") } else { format!("{v:.0}") });
    println!(
        "{:<40} {:>12} {:>12} {:>8} {:>15} {:>7}",
        "operation", "native ns", "emulated ns", "ratio", "95 %", "budget"
    );
    for l in lines {
        let ratio = l.ratio.map_or("n/a".into(), |r| format!("{r:.2}"));
        let interval = l.interval.map_or(String::new(), |(a, b)| format!("{a:.2} - {b:.2}"));
        let budget = l.budget.map_or(String::new(), |b| format!("{b}"));
        let mark = if l.within == Some(false) { " over" } else { "" };
        println!(
            "{:<40} {:>12} {:>12} {:>8} {:>15} {:>7}{mark}",
            l.name,
            number(l.native_ns),
            number(l.emulated_ns),
            ratio,
            interval,
            budget
        );
    }
}
