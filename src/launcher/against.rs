//! `drupe bench --against LAUNCHER`: what each operation costs in a sandbox of this build and of another one's.

use super::bench::{median, took};
use super::measure::Samples;
use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};

#[derive(Serialize)]
struct Line {
    row: String,
    name: &'static str,
    other_ns: Option<f64>,
    this_ns: Option<f64>,
    /// The median of the pairs' ratios, this build's cost by the other's.
    ratio: Option<f64>,
    /// 95 % confidence interval of it.
    interval: Option<(f64, f64)>,
}

/// Pairs that a row is measured in.
const PAIRS: usize = 20;

/// Measures the rows (keys and names), prints the table. Both builds run the same measuring program, this launcher.
pub fn against(me: &Path, other: &Path, json: bool, rows: &[(String, &'static str)]) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    if !json {
        println!("{:<40} {:>12} {:>12} {:>8} {:>15}", "operation", "other ns", "this ns", "ratio", "95 %");
    }
    for (row, name) in rows {
        let mut pairs = Vec::new();
        for i in 0..PAIRS {
            // Whoever goes second finds warmer caches: by turns.
            let (first, second) = if i % 2 == 0 { (other, me) } else { (me, other) };
            let Some(costs) = cost(first, me, row).zip(cost(second, me, row)) else { break };
            pairs.push(if i % 2 == 0 { costs } else { (costs.1, costs.0) });
        }
        let sorted = |f: fn(&(f64, f64)) -> f64| Samples::new(row, pairs.iter().map(f).collect());
        let (there, here, ratios) = (sorted(|p| p.0), sorted(|p| p.1), sorted(|p| p.1 / p.0));
        let line = Line {
            row: row.clone(),
            name,
            other_ns: there.map(|s| s.median()),
            this_ns: here.map(|s| s.median()),
            ratio: ratios.as_ref().map(Samples::median),
            interval: ratios.map(|s| s.interval()),
        };
        if !json {
            print(&line);
        }
        lines.push(line);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    }
    Ok(())
}

/// What one operation costs in a sandbox of a launcher's, ns; `None` if it does not run there.
fn cost(launcher: &Path, me: &Path, row: &str) -> Option<f64> {
    let mut run = Command::new(launcher);
    run.arg("run").stdin(Stdio::null()).stderr(Stdio::null());
    match row {
        "launch" => return took(run.args(["--", "/bin/true"])),
        "trap" => run.args(["--rewrite", "off", "--"]).arg(me).args(["measure", "getppid"]),
        _ => run.arg("--").arg(me).args(["measure", row]),
    };
    median(&run.output().ok()?.stdout)
}

fn print(l: &Line) {
    let number = |v: Option<f64>| v.map_or("n/a".into(), |v| format!("{v:.1}"));
    let ratio = l.ratio.map_or("n/a".into(), |r| format!("{r:.2}"));
    let interval = l.interval.map_or(String::new(), |(a, b)| format!("{a:.2} - {b:.2}"));
    let size = l.row.split_once('@').map_or(String::new(), |(_, size)| format!(", N = {size}"));
    let (other, this) = (number(l.other_ns), number(l.this_ns));
    println!("{:<40} {other:>12} {this:>12} {ratio:>8} {interval:>15}", format!("{}{size}", l.name));
}
