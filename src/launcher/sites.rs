//! `drupe bench --sites PROGRAM…`: what became of a program's system call sites.

use drupe::{Sandbox, TrappingSite};
use serde::Serialize;
use std::ffi::OsString;

/// Why a site was not rewritten in place, in the order of the kernel's counters.
const REASONS: [&str; 4] = [
    "code that is writable, shared, or not mapped as code",
    "no call is there any more",
    "the process cannot write its text, or has gs for itself",
    "no room for a stub where its jump can land",
];

#[derive(Serialize)]
struct Report {
    calls: u64,
    trapped: u64,
    share_trapped: f64,
    sites_seen: u64,
    in_place: u64,
    put_back: u64,
    refused: Vec<(&'static str, u64)>,
    remembered: u64,
    in_copies: u64,
    copies_mapped: u64,
    hot: Vec<HotSite>,
    status: i32,
}

/// A hot site that was not rewritten at once.
#[derive(Serialize)]
struct HotSite {
    file: String,
    offset: u64,
    traps: u64,
    later: u64,
    left: Option<&'static str>,
}

/// Most of them that are printed for a person.
const SHOWN: usize = 20;

/// Runs the program and prints.
pub fn sites(program: &[OsString], rewrite: bool, json: bool) -> anyhow::Result<u8> {
    let Some((name, args)) = program.split_first() else { anyhow::bail!("--sites needs a program to run") };
    let sandbox = Sandbox::builder().rewrite(rewrite).start()?;
    let status = sandbox.command(name).args(args).status()?;
    let stats = sandbox.stats()?;
    let calls = stats.traps + stats.fast_calls;
    let report = Report {
        calls,
        trapped: stats.traps,
        share_trapped: stats.traps as f64 / calls.max(1) as f64,
        sites_seen: stats.sites.seen,
        in_place: stats.sites.in_place,
        put_back: stats.sites.put_back,
        refused: REASONS.into_iter().zip(stats.sites.refused).collect(),
        remembered: stats.sites.remembered,
        in_copies: stats.sites.in_copies,
        copies_mapped: stats.sites.copies_mapped,
        hot: sandbox.trapping_sites()?.into_iter().map(HotSite::from).collect(),
        status: drupe::sandbox::shell_status(status),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(0);
    }
    println!("calls                     {:>10}", report.calls);
    println!("  that trapped            {:>10}  {:.2} %", report.trapped, report.share_trapped * 100.0);
    println!("sites that trapped        {:>10}  once per address space", report.sites_seen);
    println!("  rewritten in place      {:>10}  put back later: {}", report.in_place, report.put_back);
    for (why, n) in report.refused.iter().filter(|r| r.1 > 0) {
        println!("  left trapping           {n:>10}  {why}");
    }
    println!("sites remembered          {:>10}  of files, in all sandboxes so far", report.remembered);
    println!("  rewritten in copies     {:>10}", report.in_copies);
    println!("mappings of copies        {:>10}", report.copies_mapped);
    if !report.hot.is_empty() {
        println!("hot sites not rewritten at once, by their traps");
    }
    for site in report.hot.iter().take(SHOWN) {
        let file = if site.file.is_empty() { "memory" } else { &site.file };
        let became = site.left.unwrap_or("rewritten later");
        println!("  {:>10}  {file} {:#x}: {became}", site.traps, site.offset);
        if site.later > 0 {
            println!("  {:>10}  of these by jumps to the call itself, since then", site.later);
        }
    }
    if let Some(more @ 1..) = report.hot.len().checked_sub(SHOWN) {
        println!("  and {more} more");
    }
    Ok(0)
}

impl From<TrappingSite> for HotSite {
    fn from(site: TrappingSite) -> HotSite {
        HotSite {
            file: String::from_utf8_lossy(&site.file).into_owned(),
            offset: site.offset,
            traps: site.traps,
            later: site.later,
            left: site.left.and_then(|why| REASONS.get(usize::from(why)).copied()),
        }
    }
}
