//! `drupe syscalls`

use drupe_kernel::syscall::table::{Support, TABLE};
use serde::Serialize;
use std::io::Write;

#[derive(clap::Args)]
pub struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    /// Only those that are not complete
    #[arg(long)]
    missing: bool,
}

#[derive(Serialize)]
struct Line {
    number: usize,
    name: &'static str,
    support: &'static str,
    note: &'static str,
}

/// Prints the kernel's table of system calls.
pub fn syscalls(args: &Args) -> anyhow::Result<u8> {
    let lines: Vec<Line> = TABLE
        .iter()
        .enumerate()
        .filter(|(_, entry)| !entry.name().is_empty())
        .map(|(number, entry)| {
            let support = match entry.support {
                Support::Full => "full",
                Support::Partial => "partial",
                Support::None => "none",
            };
            Line { number, name: entry.name(), support, note: entry.note() }
        })
        .filter(|line| !args.missing || line.support != "full")
        .collect();
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&lines)?)?;
        return Ok(0);
    }
    for l in &lines {
        writeln!(out, "{:>3} {:<24} {:<8} {}", l.number, l.name, l.support, l.note)?;
    }
    let count = |support| lines.iter().filter(|l| l.support == support).count();
    writeln!(out, "\n{} full, {} partial, {} none", count("full"), count("partial"), count("none"))?;
    Ok(0)
}
