//! The measuring program: the launcher runs itself as this, natively and in a sandbox.
//!
//! Every row prints a JSON line as soon as it is done, so that a row that cannot run yet costs only
//! itself.

use super::measure_ops as ops;
use super::measure_scale as scale;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Batches per run; `bench` runs every row several times.
const BATCHES: usize = 7;
/// How long a batch shall take.
const BATCH: Duration = Duration::from_millis(3);

/// What one row gave, in ns per operation, one number per batch, sorted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Samples {
    /// The row's key.
    pub row: String,
    /// Sorted.
    pub ns: Vec<f64>,
}

impl Samples {
    /// The median.
    pub fn median(&self) -> f64 {
        self.ns[self.ns.len() / 2]
    }

    /// The 95 % confidence interval of the median, by order statistics (binomial, normal approximation).
    pub fn interval(&self) -> (f64, f64) {
        let n = self.ns.len() as f64;
        let half = 0.98 * n.sqrt();
        let low = (n / 2.0 - half).floor().max(0.0) as usize;
        let high = ((n / 2.0 + half).ceil() as usize).min(self.ns.len() - 1);
        (self.ns[low], self.ns[high])
    }

    /// From batches in any order; `None` when there are none.
    pub fn new(row: &str, mut ns: Vec<f64>) -> Option<Samples> {
        ns.sort_by(f64::total_cmp);
        (!ns.is_empty()).then(|| Samples { row: row.into(), ns })
    }
}

/// A prepared operation: runs it so many times.
pub type Operation = Box<dyn FnMut(u64) -> io::Result<()>>;

#[derive(clap::Args)]
pub struct Args {
    /// Rows to measure; all if none is named
    rows: Vec<String>,
}

/// Measures and prints; rows that fail are left out.
pub fn measure(args: &Args) -> anyhow::Result<u8> {
    if args.rows.iter().any(|r| r == ops::PATCH) {
        println!("{}", serde_json::to_string(&Samples::new(ops::PATCH, ops::patch()?))?);
    }
    for name in &args.rows {
        if let Some((key, size)) = name.split_once('@')
            && let Some(row) = scale::ROWS.iter().find(|r| r.key == key)
        {
            report(name, (row.prepare)(size.parse()?))?;
        }
    }
    for (row, prepare) in ops::ROWS {
        let named = args.rows.iter().any(|r| r == row);
        if !named && (!args.rows.is_empty() || *row == ops::BARE_TRAP) {
            continue;
        }
        report(row, prepare())?;
    }
    Ok(0)
}

/// Measures an operation and prints what it costs, or why it cannot run.
fn report(row: &str, prepared: io::Result<Operation>) -> anyhow::Result<()> {
    match prepared.and_then(|mut operation| time(&mut operation)) {
        Ok(ns) => {
            let mut out = io::stdout().lock();
            writeln!(out, "{}", serde_json::to_string(&Samples::new(row, ns))?)?;
            out.flush()?;
        }
        Err(e) => eprintln!("{row}: {e}"),
    }
    Ok(())
}

fn time(operation: &mut Operation) -> io::Result<Vec<f64>> {
    // Warm up: faults, caches, and hot call sites being rewritten.
    operation(20)?;
    let mut count = 1u64;
    loop {
        let start = Instant::now();
        operation(count)?;
        let took = start.elapsed();
        if took >= BATCH / 2 || count >= 1 << 24 {
            let scale = BATCH.as_secs_f64() / took.as_secs_f64().max(1e-9);
            count = ((count as f64 * scale) as u64).max(1);
            break;
        }
        count *= 2;
    }
    (0..BATCHES)
        .map(|_| {
            let start = Instant::now();
            operation(count)?;
            Ok(start.elapsed().as_nanos() as f64 / count as f64)
        })
        .collect()
}
