//! The launcher: a thin client of the library, one verb per file.

mod bench;
mod closed;
mod doctor;
mod measure;
mod measure_ops;
mod run;
mod sites;
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
    #[command(after_help = STATUSES)]
    Run(Box<run::Args>),
    /// Measure what each operation costs, natively and in a sandbox
    Bench(bench::Args),
    /// Measure here; `bench` runs this natively and in a sandbox
    #[command(hide = true)]
    Measure(measure::Args),
    /// List the system calls and how much of each there is
    Syscalls(syscalls::Args),
    /// Say what this host offers, and what to do about what it lacks
    Doctor(doctor::Args),
}

const STATUSES: &str = "\
Exit status: the program's; 128+N when signal N killed it; 125 for an error of drupe's own; 126 for a program
that cannot be run and 127 for one that is not there; 70 when the kernel in the sandbox failed.

Examples:
  drupe run -- python3 app.py             sees your files, changes none of them
  drupe run --bind .:/work:rw -- make -C /work
  drupe run --root ./image -- /bin/sh     another root directory; writes stay in memory
  drupe run --strace=openat,read -- cat /etc/hostname";

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
    if !matches!(cli.verb, Verb::Run(_)) {
        // A list whose reader goes away ends quietly, as that of any tool.
        // SAFETY: no handler is installed.
        let _ = unsafe {
            nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
        };
    }
    let outcome = match cli.verb {
        Verb::Run(args) => run::run(*args),
        Verb::Bench(args) => bench::bench(&args),
        Verb::Measure(args) => measure::measure(&args),
        Verb::Syscalls(args) => syscalls::syscalls(&args),
        Verb::Doctor(args) => doctor::doctor(&args),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            // The library's errors name their cause themselves.
            match e.downcast_ref::<drupe::Error>() {
                Some(e) => eprintln!("drupe: {e}"),
                None => eprintln!("drupe: {e:#}"),
            }
            ExitCode::from(FAILED)
        }
    }
}
