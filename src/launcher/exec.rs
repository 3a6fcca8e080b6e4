//! `drupe exec`

use crate::closed;
use crate::run::{parse_user, unrunnable};
use crate::signals::{Signals, is_of_terminal};
use anyhow::{Context, bail};
use drupe::outside::{Remote, RemoteChild};
use drupe::sandbox::{console::Console, shell_status};
use drupe::{Change, Error, Stdio};
use nix::sys::signal::{Signal, raise};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Hand standard input over; without it the program's is empty
    #[arg(short, long)]
    interactive: bool,
    /// Make standard input, which must be a terminal, the program's controlling terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable, besides those of the sandbox's first program
    #[arg(short, long, value_name = "K=V")]
    env: Vec<String>,
    /// Run as this user and group; otherwise as the first program was started
    #[arg(short, long, value_name = "UID[:GID]", value_parser = parse_user)]
    user: Option<(u32, u32)>,
    /// Working directory, an absolute path in the sandbox; otherwise the first program's
    #[arg(short = 'w', long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// The sandbox
    #[arg(value_name = "NAME")]
    name: String,
    /// The program, looked up along PATH in the sandbox when it has no slash, and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Runs the program and returns the exit status that tells its fate.
pub fn exec(args: &Args) -> anyhow::Result<u8> {
    let console = args.tty.then(Console::new);
    if console.as_ref().is_some_and(|c| !c.is_terminal()) {
        bail!("--tty: standard input is not a terminal");
    }
    let remote = Remote::find(&args.name)?;
    let (program, rest) = args.command.split_first().context("no program")?;
    let mut command = remote.command(program);
    command.args(rest).tty(args.tty);
    let input = if args.interactive || args.tty { closed::stream(0) } else { Stdio::Null };
    command.stdio([input, closed::stream(1), closed::stream(2)]);
    if let (true, Some(terminal)) = (args.tty, std::env::var_os("TERM")) {
        command.env("TERM", terminal);
    }
    for pair in &args.env {
        let (key, value) = pair.split_once('=').with_context(|| format!("--env {pair}: no `=` in it"))?;
        command.env(key, value);
    }
    if let Some(dir) = &args.cwd {
        command.current_dir(dir);
    }
    if let Some((uid, gid)) = args.user {
        command.user(uid, gid);
    }
    let signals = Signals::take().context("take the signals that are meant for the program")?;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(Error::Spawn { program, errno, message }) => return Ok(unrunnable(&program, errno, &message)),
        Err(e) => return Err(e.into()),
    };
    follow(&mut child, &signals)
}

/// Passes signals on until the program has ended.
fn follow(child: &mut RemoteChild, signals: &Signals) -> anyhow::Result<u8> {
    loop {
        while let Some(change) = child.try_change()? {
            match change {
                Change::Exited(status) => return Ok(shell_status(status) as u8),
                // The person pressed Ctrl-Z: stop as the program did, so that the shell sees it.
                Change::Stopped(_) => drop(raise(Signal::SIGSTOP)),
            }
        }
        signals.wait(child.as_fd()).context("wait for what the sandbox says")?;
        while let Some(signal) = signals.next() {
            let told = match signal {
                Signal::SIGCONT => child.signal_foreground(signal as i32),
                _ if is_of_terminal(signal) => child.signal_foreground(signal as i32),
                _ => child.signal(signal as i32),
            };
            // It ended meanwhile: what comes next tells.
            if let Err(e) = told
                && !matches!(e, Error::Ended(_))
            {
                return Err(e.into());
            }
        }
    }
}
