//! The launcher: a thin client of the library, one verb per file.
#![cfg_attr(not(test), no_main)]

mod against;
mod bench;
mod checkpoint;
mod closed;
mod doctor;
mod exec;
mod layers;
mod measure;
mod measure_names;
mod measure_net;
mod measure_ops;
mod measure_scale;
mod outside;
mod run;
mod scale;
mod signals;
mod sites;
mod syscalls;
mod template;

use clap::{Parser, Subcommand};
use std::io::Write;

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
    /// List the sandboxes that run and have a name
    Ps(outside::PsArgs),
    /// Run one more program in a running sandbox
    Exec(Box<exec::Args>),
    /// Send a signal to a running sandbox
    Kill(outside::KillArgs),
    /// Suspend every process of a running sandbox
    Pause(outside::Named),
    /// Let a paused sandbox go on
    Resume(outside::Named),
    /// Write an image of a running sandbox, and end it
    Checkpoint(checkpoint::CheckpointArgs),
    /// Make of an image that builds on others (`checkpoint --parent`) one that needs none
    Squash(checkpoint::SquashArgs),
    /// Let the sandbox of an image go on, with this command's standard streams
    #[command(after_help = STATUSES)]
    Restore(checkpoint::RestoreArgs),
    /// Let a running sandbox connect to more places
    Allow(outside::AllowArgs),
    /// Make a second sandbox of a running one, with this command's standard streams
    #[command(after_help = STATUSES)]
    Clone(checkpoint::CloneArgs),
    /// Images by name, of which `run --from` makes sandboxes
    #[command(subcommand)]
    Template(template::Verb),
    /// Wait for the end of a sandbox's first process, and print its exit status
    Wait(outside::Named),
    /// Print what has happened in a running sandbox, a JSON object a line
    Events(outside::EventsArgs),
    /// Print where every task of a running sandbox is, what it waits for and until when
    Debug(outside::Named),
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
that cannot be run and 127 for one that is not there; 124 when the time of --timeout is over; 70 when the kernel in the sandbox failed.

Examples:
  drupe run -- python3 app.py             sees your files, changes none of them
  drupe run --bind .:/work:rw -- make -C /work
  drupe run --root ./image -- /bin/sh     another root directory; writes stay in memory
  drupe run --strace=openat,read -- cat /etc/hostname";

/// Exit status of an error of our own.
const FAILED: u8 = 125;

/// Entered by the C library: what the Rust runtime does at a program's start (it reads this process's
/// mappings, and readies a stack for overflows) costs more than half of what a short program takes.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, allow(dead_code))]
extern "C" fn main(_argc: i32, _argv: *const *const libc::c_char) -> i32 {
    prepare();
    let status = std::panic::catch_unwind(launch).unwrap_or(FAILED);
    let _ = std::io::stdout().flush();
    // Nothing is registered for the exit, and a launch is short.
    // SAFETY: ends the process.
    unsafe { libc::_exit(i32::from(status)) }
}

/// What is left of the runtime's start: nothing that we open may become 0, 1 or 2, and a reader that is
/// gone is an error, not a signal. And whatever else was open goes: the descriptors of a launcher that supervises
/// are its guests' processes', too.
fn prepare() {
    // SAFETY: plain calls, before there is any other thread, and anything that holds a descriptor.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
        for fd in 0..3 {
            if libc::fcntl(fd, libc::F_GETFD) == -1 {
                closed::note(fd);
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            }
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

fn launch() -> u8 {
    // The most frequent line needs no parser.
    if let Some(args) = run::Args::plain(std::env::args_os().skip(1)) {
        return report(run::run(args));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { FAILED } else { 0 };
        }
    };
    if !matches!(cli.verb, Verb::Run(_) | Verb::Exec(_) | Verb::Restore(_) | Verb::Clone(_)) {
        // A list whose reader goes away ends quietly, as that of any tool.
        // SAFETY: no handler is installed.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    report(match cli.verb {
        Verb::Run(args) => run::run(*args),
        Verb::Ps(args) => outside::ps(&args),
        Verb::Exec(args) => exec::exec(&args),
        Verb::Kill(args) => outside::kill(&args),
        Verb::Pause(named) => outside::pause(&named),
        Verb::Resume(named) => outside::resume(&named),
        Verb::Checkpoint(args) => checkpoint::checkpoint(&args),
        Verb::Squash(args) => checkpoint::squash(&args),
        Verb::Restore(args) => checkpoint::restore(&args),
        Verb::Allow(args) => outside::allow(&args),
        Verb::Clone(args) => checkpoint::clone(&args),
        Verb::Template(verb) => template::template(&verb),
        Verb::Wait(named) => outside::wait(&named),
        Verb::Events(args) => outside::events(&args),
        Verb::Debug(named) => outside::debug(&named),
        Verb::Bench(args) => bench::bench(&args),
        Verb::Measure(args) => measure::measure(&args),
        Verb::Syscalls(args) => syscalls::syscalls(&args),
        Verb::Doctor(args) => doctor::doctor(&args),
    })
}

/// The exit status; an error is told first.
fn report(outcome: anyhow::Result<u8>) -> u8 {
    outcome.unwrap_or_else(|e| {
        // The library's errors name their cause themselves.
        match e.downcast_ref::<drupe::Error>() {
            Some(e) => eprintln!("drupe: {e}"),
            None => eprintln!("drupe: {e:#}"),
        }
        FAILED
    })
}
