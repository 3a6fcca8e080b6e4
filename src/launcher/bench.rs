//! `drupe bench`: what every operation of the budget costs natively and in a sandbox.

use super::measure::Samples;
use super::measure_ops as ops;
use anyhow::Context;
use drupe::Sandbox;
use serde::Serialize;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
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

type Rows = HashMap<String, Samples>;

/// Measures, prints the table.
pub fn bench(args: &Args) -> anyhow::Result<u8> {
    if !args.sites.is_empty() {
        return super::sites::sites(&args.sites, args.rewrite == super::run::Switch::On, args.json);
    }
    let wanted: Vec<&str> = BUDGET.iter().map(|b| b.0).filter(|row| chosen(args, row)).collect();
    if let Some(unknown) = args.rows.iter().find(|row| !wanted.contains(&row.as_str())) {
        anyhow::bail!("no such row: {unknown} (`drupe bench --json` names them)");
    }
    let me = std::env::current_exe().context("find the launcher's own file")?;
    let mut native = native(&me, &wanted)?;
    let mut emulated = emulated(&me, &wanted, args.rewrite == super::run::Switch::On)?;
    if wanted.contains(&"trap") {
        trap(&me, &mut native, &mut emulated)?;
    }
    let lines: Vec<Line> = BUDGET
        .iter()
        .filter(|b| wanted.contains(&b.0))
        .map(|&(row, name, budget)| line(row, name, budget, native.get(row), emulated.get(row)))
        .collect();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        print(&lines);
    }
    Ok(0)
}

fn chosen(args: &Args, row: &str) -> bool {
    args.rows.is_empty() || args.rows.iter().any(|r| r == row)
}

/// The measuring program's arguments; the row that the launcher measures itself is left out.
fn arguments<'a>(rows: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["measure"];
    all.extend(rows.iter().filter(|r| !matches!(**r, "launch" | "patch" | "trap")));
    all
}

fn parse(text: &[u8]) -> Rows {
    let text = String::from_utf8_lossy(text);
    let samples = text.lines().filter_map(|l| serde_json::from_str::<Samples>(l).ok()).filter(|s| !s.ns.is_empty());
    samples.map(|s| (s.row.clone(), s)).collect()
}

fn native(me: &Path, rows: &[&str]) -> anyhow::Result<Rows> {
    let arguments = arguments(rows);
    let mut all = Rows::new();
    if arguments.len() > 1 {
        let output = Command::new(me).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        all = parse(&output.stdout);
    }
    launch(&mut all, rows, || Command::new("/bin/true"));
    Ok(all)
}

fn emulated(me: &Path, rows: &[&str], rewrite: bool) -> anyhow::Result<Rows> {
    let arguments = arguments(rows);
    let mut all = Rows::new();
    if arguments.len() > 1 {
        let sandbox = Sandbox::builder().rewrite(rewrite).start()?;
        let output = sandbox.command(me).args(arguments).stderr(drupe::Stdio::Null).output()?;
        all = parse(&output.stdout);
    }
    launch(&mut all, rows, || {
        let mut command = Command::new(me);
        command.args(["run", "--rewrite", if rewrite { "on" } else { "off" }, "--", "/bin/true"]);
        command
    });
    Ok(all)
}

/// The trap path: a bare SIGSYS round trip in a plain process against a call that is never rewritten, in turns.
fn trap(me: &Path, native: &mut Rows, emulated: &mut Rows) -> anyhow::Result<()> {
    let sandbox = Sandbox::builder().rewrite(false).start()?;
    let (mut bare, mut served) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let output = Command::new(me).args(["measure", ops::BARE_TRAP]).stdin(Stdio::null()).output()?;
        bare.extend(parse(&output.stdout).remove(ops::BARE_TRAP).map_or(Vec::new(), |s| s.ns));
        let output = sandbox.command(me).args(["measure", "getppid"]).stderr(drupe::Stdio::Null).output()?;
        served.extend(parse(&output.stdout).remove("getppid").map_or(Vec::new(), |s| s.ns));
    }
    for (rows, ns) in [(native, bare), (emulated, served)] {
        rows.extend(Samples::new("trap", ns).map(|s| (s.row.clone(), s)));
    }
    Ok(())
}

/// Measures whole launches, if that row is wanted.
fn launch(all: &mut Rows, rows: &[&str], command: impl Fn() -> Command) {
    if !rows.contains(&"launch") {
        return;
    }
    let mut ns = Vec::new();
    for _ in 0..41 {
        let start = Instant::now();
        if !command().stdin(Stdio::null()).status().is_ok_and(|s| s.success()) {
            return;
        }
        ns.push(start.elapsed().as_nanos() as f64);
    }
    all.extend(Samples::new("launch", ns).map(|s| (s.row.clone(), s)));
}

fn line(
    row: &'static str,
    name: &'static str,
    budget: f64,
    native: Option<&Samples>,
    emulated: Option<&Samples>,
) -> Line {
    let both = native.zip(emulated);
    let ratio = both.map(|(n, e)| e.median() / n.median());
    let interval = both.map(|(n, e)| (e.interval().0 / n.interval().1, e.interval().1 / n.interval().0));
    let budget = (!budget.is_nan()).then_some(budget);
    Line {
        row,
        name,
        native_ns: native.map(Samples::median),
        emulated_ns: emulated.map(Samples::median),
        ratio,
        interval,
        budget,
        within: ratio.zip(budget).map(|(r, b)| r <= b),
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
