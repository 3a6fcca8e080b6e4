//! `cargo bench`: the tables of `drupe bench` and, where no rows are named, of `drupe bench --scale`.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // Cargo adds options of its own (`--bench`); what is left names rows.
    let rows: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let bench = |args: &[&str]| {
        let status = Command::new(env!("CARGO_BIN_EXE_drupe")).arg("bench").args(args).args(&rows).status();
        status.is_ok_and(|s| s.success())
    };
    if bench(&[]) && (!rows.is_empty() || bench(&["--scale"])) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
