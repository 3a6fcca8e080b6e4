//! `drupe doctor`

use drupe::sandbox::doctor::{self, Verdict};

#[derive(clap::Args)]
pub struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Prints the findings; 1 if programs cannot run here.
pub fn doctor(args: &Args) -> anyhow::Result<u8> {
    let findings = doctor::examine();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        for f in &findings {
            let mark = match f.verdict {
                Verdict::Ok => "ok",
                Verdict::Degraded => "weaker",
                Verdict::Missing => "MISSING",
            };
            println!("{mark:<8} {:<18} {}", f.name, f.detail);
            if !f.advice.is_empty() {
                println!("{:<8} {:<18} -> {}", "", "", f.advice);
            }
        }
        let verdict = if doctor::usable(&findings) { "programs can run here" } else { "programs cannot run here" };
        println!("\n{verdict}");
    }
    Ok(u8::from(!doctor::usable(&findings)))
}
