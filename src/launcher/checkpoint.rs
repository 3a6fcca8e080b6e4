//! `drupe checkpoint` and `drupe restore`.

use crate::closed;
use crate::run::{end_of, follow};
use crate::signals::Signals;
use anyhow::Context;
use drupe::outside::Remote;
use drupe::sandbox::console::Console;
use drupe::{Image, SandboxBuilder, Streams};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct CheckpointArgs {
    /// The sandbox
    #[arg(value_name = "NAME")]
    name: String,
    /// The image, which is there once it is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Let the sandbox go on afterwards
    #[arg(long)]
    leave_running: bool,
}

#[derive(clap::Args)]
pub struct RestoreArgs {
    /// The image
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Give the sandbox a name by which other commands reach it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Take files that are only read as they are now, though they were others
    #[arg(long)]
    allow_changed: bool,
}

#[derive(clap::Args)]
pub struct CloneArgs {
    /// The sandbox
    #[arg(value_name = "NAME")]
    name: String,
    /// Give the copy a name by which other commands reach it
    #[arg(long = "name", value_name = "NAME")]
    as_name: Option<String>,
}

/// Saves a running sandbox.
pub fn checkpoint(args: &CheckpointArgs) -> anyhow::Result<u8> {
    Remote::find(&args.name)?.save(&args.file, args.leave_running)?;
    Ok(0)
}

/// Goes on with a saved one, and returns the exit status that tells the fate of its first program.
pub fn restore(args: &RestoreArgs) -> anyhow::Result<u8> {
    go_on(&Image::open(&args.file)?, args.name.clone(), args.allow_changed, None)
}

/// Goes on with a copy of a running one, likewise.
pub fn clone(args: &CloneArgs) -> anyhow::Result<u8> {
    go_on(&Remote::find(&args.name)?.image()?, args.as_name.clone(), false, None)
}

/// Lets the sandbox of an image go on, and follows its first program.
pub fn go_on(
    image: &Image,
    name: Option<String>,
    allow_changed: bool,
    saves: Option<(Signal, &Path)>,
) -> anyhow::Result<u8> {
    let _console = Console::new();
    let streams = Streams { stdin: closed::stream(0), stdout: closed::stream(1), stderr: closed::stream(2) };
    let (sandbox, mut child) = image.restore(&streams, allow_changed, |builder| named(builder, name))?;
    let signals = Signals::take().context("take the signals that are meant for the program")?;
    end_of(follow(&sandbox, &mut child, &signals, saves))
}

/// Gives a sandbox a name, if there is one.
pub fn named(builder: SandboxBuilder, name: Option<String>) -> SandboxBuilder {
    match name {
        Some(name) => builder.name(name),
        None => builder,
    }
}
