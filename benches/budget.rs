//! `cargo bench`: the table of `drupe bench`.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // Cargo adds options of its own (`--bench`); what is left names rows.
    let rows = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let status = Command::new(env!("CARGO_BIN_EXE_drupe")).arg("bench").args(rows).status();
    if status.is_ok_and(|s| s.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
