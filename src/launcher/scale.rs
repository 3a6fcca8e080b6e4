//! `drupe bench --scale`: what an operation costs beside more and more things of its kind.

use super::bench::{Pairs, rounds};
use super::measure::Samples;
use super::measure_scale::ROWS;
use drupe::Sandbox;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Line {
    row: &'static str,
    name: &'static str,
    size: usize,
    native_ns: Option<f64>,
    emulated_ns: Option<f64>,
    /// Times what it costs beside the smallest number, natively and emulated.
    growth: Option<(f64, f64)>,
}

/// Measures the rows that `chosen` names, prints the table.
pub fn scale(me: &Path, rewrite: bool, json: bool, chosen: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let sandbox = Sandbox::builder().rewrite(rewrite).start()?;
    let mut lines = Vec::new();
    for row in ROWS.iter().filter(|r| chosen(r.key)) {
        let mut first = None;
        for &size in row.sizes {
            let name = format!("{}@{size}", row.key);
            let pairs = rounds(me, &sandbox, &name, &name, 3)?;
            let cost = medians(&pairs);
            first = first.or(cost);
            lines.push(Line {
                row: row.key,
                name: row.name,
                size,
                native_ns: cost.map(|c| c.0),
                emulated_ns: cost.map(|c| c.1),
                growth: cost.zip(first).map(|(c, f)| (c.0 / f.0, c.1 / f.1)),
            });
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
        return Ok(());
    }
    println!(
        "{:<38} {:>8} {:>12} {:>12} {:>8} {:>16}",
        "operation", "N", "native ns", "emulated ns", "ratio", "growth"
    );
    for l in &lines {
        let number = |v: Option<f64>| v.map_or("n/a".into(), |v| format!("{v:.0}"));
        let ratio = l.native_ns.zip(l.emulated_ns).map_or("n/a".into(), |(n, e)| format!("{:.2}", e / n));
        let growth = l.growth.map_or(String::new(), |(n, e)| format!("{n:.2} / {e:.2}"));
        let (native, emulated) = (number(l.native_ns), number(l.emulated_ns));
        println!("{:<38} {:>8} {native:>12} {emulated:>12} {ratio:>8} {growth:>16}", l.name, l.size);
    }
    Ok(())
}

fn medians(pairs: &Pairs) -> Option<(f64, f64)> {
    let sorted = |f: fn(&(f64, f64)) -> f64| Samples::new("", pairs.iter().map(f).collect()).map(|s| s.median());
    sorted(|p| p.0).zip(sorted(|p| p.1))
}
