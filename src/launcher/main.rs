//! The launcher: a thin client of the library, one verb per file.

mod doctor;
mod run;
mod syscalls;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Runs Linux programs over a kernel that lives inside their own address space.
///
/// No virtual machine, no container, no privilege: `drupe run -- PROGRAM` runs a program as if
/// natively, and nothing that it writes reaches the host.
#[derive(Parser)]
#[command(name = "drupe", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a program in a sandbox of its own
    Run(Box<run::Args>),
    /// List the system calls and how much of each there is
    Syscalls(syscalls::Args),
    /// Say what this host offers, and what to do about what it lacks
    Doctor(doctor::Args),
}

/// Exit status of an error of our own.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { FAILED } else { 0 });
        }
    };
    let outcome = match cli.verb {
        Verb::Run(args) => run::run(*args),
        Verb::Syscalls(args) => syscalls::syscalls(&args),
        Verb::Doctor(args) => doctor::doctor(&args),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            eprintln!("drupe: {e:#}");
            ExitCode::from(FAILED)
        }
    }
}
